//! Shell completions (the only use of clap_complete) and the man page (of clap_mangen and roff).
//! Both are generated from the definition of the command line, as is `--help`.

use std::io::{self, Write, stdout};

use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use roff::{Roff, bold, italic, roman};

use crate::config::{Cli, EXIT_CODES};

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
    let mut definition = Cli::definition().disable_help_subcommand(true);
    definition.build();
    let mut page = Vec::new();
    let man = Man::new(definition.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(&definition).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    commands(&definition).to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    exit_status().to_writer(&mut page)?;
    stdout().write_all(&page)
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
