//! Shell completions (the only use of clap_complete), the man page (of clap_mangen and roff), and the
//! commented configuration file. All are generated from the definition of the command line, as is `--help`.

use std::io::{self, Write, stdout};

use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use roff::{Roff, bold, italic, roman};

use super::about;
use crate::config::{Cli, EXIT_CODES, SECRETS, variable_of};

/// Prints the completions for a shell.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(shell: Shell) -> io::Result<()> {
    // Written from a buffer, because clap_complete panics when a write fails.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::definition(), env!("CARGO_PKG_NAME"), &mut text);
    stdout().write_all(&text)
}

/// Prints the man page, including the options of each command.
///
/// # Errors
/// Standard output cannot be written.
pub fn man_page() -> io::Result<()> {
    stdout().write_all(page()?.as_bytes())
}

fn page() -> io::Result<String> {
    let mut definition = Cli::definition().disable_help_subcommand(true);
    definition.build();
    let mut page = Vec::new();
    // Without a date the version would stand in its place.
    let man = Man::new(definition.clone()).date(about::date());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(&definition).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    commands(&definition).to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    exit_status().to_writer(&mut page)?;
    Ok(tidy(&String::from_utf8_lossy(&page)))
}

/// Removes white space at the ends of lines, and line breaks around empty ones, which clap_mangen leaves.
fn tidy(page: &str) -> String {
    let lines: String = page.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    lines.replace(".br\n\n.br\n", ".sp\n")
}

/// Returns a short synopsis. clap_mangen's own lists every option without its values.
fn synopsis(definition: &Command) -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["SYNOPSIS"]);
    section.text([bold(definition.get_name()), roman(" [OPTIONS] [COMMAND]")]);
    section
}

fn commands(definition: &Command) -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["COMMANDS"]);
    for command in definition.get_subcommands() {
        section.control("TP", []);
        section.text([bold(command.get_name())]);
        let about = command.get_long_about().or(command.get_about());
        section.text([roman(about.map(ToString::to_string).unwrap_or_default())]);
        let own = |arg: &&Arg| !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help";
        for arg in command.get_arguments().filter(own) {
            section.control("RS", []).control("TP", []);
            let mut name = vec![match arg.get_long() {
                Some(long) => bold(format!("--{long}")),
                None => italic(arg.get_id().as_str().to_uppercase()),
            }];
            if let (Some(_), Some([value])) = (arg.get_long(), arg.get_value_names()) {
                if arg.get_action().takes_values() {
                    name.extend([roman(" "), italic(value.as_str())]);
                }
            }
            section.text(name);
            let help = arg.get_long_help().or(arg.get_help());
            section.text([roman(help.map(ToString::to_string).unwrap_or_default())]);
            section.control("RE", []);
        }
    }
    section
}

fn exit_status() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        section.control("TP", []).text([bold(code.to_string())]).text([roman(meaning)]);
    }
    section
}

/// Width of the configuration file's comments, in characters.
const WIDTH: usize = 98;

/// The commented configuration file that is shipped: every setting with its default, switched off.
pub fn example_file() -> String {
    let mut text = comment(
        "Settings of langfast2api, in TOML. Take the `#` away from what you want to set; each line shows \
         the default, or what a value looks like. A flag wins over a variable (max_body: --max-body, \
         LANGFAST2API_MAX_BODY), and a variable over this file. They count after a restart; \
         `langfast2api --check-config` shows what counts, and where from.",
    );
    let definition = Cli::definition();
    let mut heading = None;
    // A file cannot name itself.
    let settings = definition.get_arguments().filter(|arg| arg.is_global_set());
    for arg in settings.filter(|arg| arg.get_id() != "config") {
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            text += &format!("\n# ---- {} ----\n", heading.unwrap_or_default());
        }
        let help = arg.get_long_help().or(arg.get_help());
        let mut help = help.map(ToString::to_string).unwrap_or_default();
        if !help.ends_with(']') {
            // clap takes the last full stop away.
            help.push('.');
        }
        text += &format!("\n{}", comment(&help));
        let words = arg.get_possible_values();
        if arg.get_action().takes_values() && !words.is_empty() {
            let words: Vec<_> = words.iter().map(|word| word.get_name()).collect();
            text += &comment(&format!("One of {}.", words.join(", ")));
        }
        text += &format!("#{} = {}\n", arg.get_id(), example_value(arg));
    }
    text += "\n# ---- Secrets ----\n\n";
    text += &comment(
        "Only while others cannot read this file (chmod 600). Each may come from elsewhere too: a file \
         of its own, a systemd credential, or the variable, which wins.",
    );
    for (key, file) in SECRETS {
        text += &format!("\n# Else {file}, or {}.\n#{key} = \"…\"\n", variable_of(key));
    }
    text
}

/// The default of a setting as TOML has it; if there is none, a value of its kind.
fn example_value(arg: &Arg) -> String {
    let default = arg.get_default_values().first().and_then(|value| value.to_str());
    let is_list = arg.get_value_delimiter().is_some();
    let kind =
        arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    match (default.filter(|_| !arg.is_hide_default_value_set()), kind) {
        _ if !arg.get_action().takes_values() => "false".to_owned(),
        (Some(text), _) if is_list => format!("[{text:?}]"),
        (Some(number), _) if number.parse::<f64>().is_ok() => number.to_owned(),
        (Some(text), _) => format!("{text:?}"),
        (None, _) if is_list => "[]".to_owned(),
        (None, "MIB") => "64".to_owned(),
        (None, "N") => "256".to_owned(),
        (None, "FILE") => "\"/path/of/a/file\"".to_owned(),
        (None, "DIRECTORY") => "\"/path/of/a/directory\"".to_owned(),
        (None, "ADDRESS") => "\"you@example.com\"".to_owned(),
        (None, _) => "\"…\"".to_owned(),
    }
}

/// Words as lines of a comment.
fn comment(words: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < WIDTH => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_man_page_has_its_date_and_nothing_that_mandoc_warns_of() {
        let page = page().unwrap();
        let title = page.lines().find(|line| line.starts_with(".TH")).unwrap();
        let words: Vec<&str> = title.split_whitespace().collect();
        assert!(words[3].starts_with("20") && words[4] == "\"langfast2api", "{title}");
        assert!(!page.contains(".br\n\n") && !page.contains(" \n"), "{page}");
    }
}
