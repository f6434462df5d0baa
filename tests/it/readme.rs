//! The READMEs: what they show works, what they name exists, and both languages say the same.
//!
//! Every fenced block of shell is run, in the order of its page, by the real program in front of the
//! simulator, in a network where there is nothing else. Comments in the Markdown that readers do not see
//! say otherwise: see [`crate::support::page::Marker`].

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::support::Directory;
use crate::support::page::{Link, Page, repository};
use clap::Arg;
use langfast2api::chat::models::shutdowns;
use langfast2api::config::Cli;

/// Those that stand alone.
const PAGES: [&str; 4] = ["README.md", "scripts/README.md", "src/README.md", "tests/README.md"];
/// Those that there are in Chinese, too.
const TRANSLATED: [(&str, &str); 2] =
    [("README.md", "README.zh-CN.md"), ("scripts/README.md", "scripts/README.zh-CN.md")];
/// What everybody is to read first has an end, in bytes.
const LONGEST: usize = 10_000;
/// The page and the lines in it between which the table of settings stands.
const TABLE: (&str, &str, &str) = (
    "scripts/README.md",
    "<!-- settings: made by UPDATE=1 cargo test --test it readme:: -->\n",
    "<!-- end of settings -->\n",
);
/// Flags of other programs that the pages name.
const FOREIGN: &str = "cargo: --release --path --test --example --all-targets --nocapture \
                       docker: --read-only --cap-drop --stop-timeout systemctl: --now certbot: --nginx \
                       curl: --unix-socket aider: --edit-format --model \
                       cargo: --git --locked";

fn pages() -> Vec<Page> {
    let translated = TRANSLATED.map(|(_, translation)| translation);
    PAGES.into_iter().chain(translated).map(Page::read).collect()
}

#[test]
fn what_is_read_first_is_short() {
    for path in ["README.md", "README.zh-CN.md"] {
        let length = Page::read(path).text.len();
        assert!(length <= LONGEST, "{path} has {length} bytes: move something to where it is used");
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    for page in pages() {
        for Link { target, .. } in page.links() {
            if target.starts_with("https://") {
                continue;
            }
            let (path, anchor) = page.resolve(&target);
            let is_there = repository().join(&path).exists();
            assert!(is_there, "{}: {target} leads nowhere", page.path);
            if !anchor.is_empty() {
                let all = pages();
                let other = all.iter().find(|other| Path::new(other.path) == path);
                let headings = other.expect("an anchor is in a page").headings();
                let is_there = headings.iter().any(|heading| heading.anchor == anchor);
                assert!(is_there, "{}: there is no heading {target}", page.path);
            }
        }
    }
}

#[test]
fn every_setting_and_every_flag_that_is_named_exists() {
    let mut definition = Cli::definition();
    definition.build();
    let help = Page { path: "", text: definition.clone().render_long_help().to_string() };
    let commands = [&definition].into_iter().chain(definition.get_subcommands());
    let own: BTreeSet<String> = commands
        .flat_map(|command| command.get_arguments().filter_map(Arg::get_long))
        .map(|name| format!("--{name}"))
        .collect();
    let folders = ["scripts", "scripts/packages"];
    let files = folders.iter().flat_map(|folder| fs::read_dir(repository().join(folder)).unwrap());
    let scripts = files.map(|entry| Page {
        path: "",
        text: fs::read_to_string(entry.unwrap().path()).unwrap_or_default(),
    });
    let scripts: Vec<Page> = scripts.collect();
    for page in pages() {
        for name in page.variables() {
            assert!(help.variables().contains(&name), "{}: there is no {name}", page.path);
        }
        for flag in page.flags() {
            let is_known = own.contains(flag)
                || scripts.iter().any(|script| script.flags().contains(&flag))
                || FOREIGN.split(' ').any(|known| known == flag);
            assert!(is_known, "{}: there is no {flag}", page.path);
        }
    }
}

#[test]
fn the_table_of_settings_is_the_command_lines() {
    let (path, start, end) = TABLE;
    let page = Page::read(path);
    let (before, rest) = page.text.split_once(start).expect("the start of the table");
    let (table, after) = rest.split_once(end).expect("the end of the table");
    let made = settings();
    if std::env::var("UPDATE").is_ok_and(|value| value == "1") {
        let text = [before, start, &made, end, after].concat();
        fs::write(repository().join(path), text).unwrap();
        return;
    }
    assert_eq!(table, made, "{path} is out of date: UPDATE=1 cargo test --test it readme::");
}

/// The table of all settings in Markdown, under a line for each group, as `--help` has them.
fn settings() -> String {
    let definition = Cli::definition();
    let all: Vec<&Arg> = definition.get_arguments().filter(|arg| arg.is_global_set()).collect();
    let mut groups: Vec<&str> = Vec::new();
    for group in all.iter().filter_map(|arg| arg.get_help_heading()) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let mut table =
        "\n| flag and variable | default | what it does |\n| --- | --- | --- |\n".to_owned();
    for group in groups {
        table += &format!("| **{group}** | | |\n");
        for arg in all.iter().filter(|arg| arg.get_help_heading() == Some(group)) {
            table += &row(arg);
        }
    }
    table + "\n"
}

fn row(arg: &Arg) -> String {
    let flag = arg.get_long().unwrap();
    let variable = arg.get_env().unwrap().to_string_lossy();
    let help = arg.get_long_help().or(arg.get_help()).unwrap().to_string();
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    // What depends on more than the definition is told in words.
    let (help, told) = match help.split_once(" [default: ") {
        Some((help, told)) => (help, told.trim_end_matches(']').trim_end_matches("].")),
        None => (help.as_str(), "none"),
    };
    let takes_values = arg.get_action().takes_values();
    let default = match defaults.is_empty() || arg.is_hide_default_value_set() {
        _ if !takes_values => "`false`".to_owned(),
        true => escaped(told),
        false => defaults.join(" "),
    };
    let values = arg.get_possible_values();
    let values = values.iter().map(|value| match value.get_help() {
        Some(help) => format!("`{}` ({})", value.get_name(), escaped(&help.to_string())),
        None => format!("`{}`", value.get_name()),
    });
    let values: Vec<String> = values.collect();
    let values = match takes_values && !values.is_empty() {
        true => format!(": {}", values.join("; ")),
        false => String::new(),
    };
    let help = escaped(help.trim_end_matches('.'));
    format!("| `--{flag}` `{variable}` | {default} | {help}{values} |\n")
}

/// Plain text as Markdown shows it in a table; what is between backticks is left as it is.
fn escaped(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<&str>>().join(" ");
    let pieces = one_line.split('`').enumerate().map(|(at, piece)| match at % 2 {
        0 => piece.replace('*', "\\*").replace('|', "\\|").replace('<', "\\<"),
        _ => piece.to_owned(),
    });
    pieces.collect::<Vec<String>>().join("`")
}

#[test]
fn both_languages_have_the_same_headings_blocks_links_and_settings() {
    for (english, chinese) in TRANSLATED {
        let [english, chinese] = [english, chinese].map(Page::read);
        let levels = |page: &Page| -> Vec<usize> {
            page.headings().iter().map(|heading| heading.level).collect()
        };
        assert_eq!(levels(&english), levels(&chinese), "headings of {}", chinese.path);
        let (ours, theirs) = (english.blocks(), chinese.blocks());
        assert_eq!(ours.len(), theirs.len(), "blocks of {}", chinese.path);
        for (one, other) in ours.iter().zip(&theirs) {
            let place = format!("{}:{}", chinese.path, other.line);
            assert_eq!(one.language, other.language, "{place}");
            assert_eq!(one.without_comments(), other.without_comments(), "{place}");
            assert_eq!(one.marker, other.marker, "{place}");
        }
        assert_eq!(places(&english), places(&chinese), "links of {}", chinese.path);
        let [one, other] = [&english, &chinese].map(without_table);
        assert_eq!(one.variables(), other.variables(), "variables of {}", chinese.path);
        assert_eq!(one.flags(), other.flags(), "flags of {}", chinese.path);
    }
}

/// The page without the table of settings, which stands in one language.
fn without_table(page: &Page) -> Page {
    let (_, start, end) = TABLE;
    let text = match page.text.split_once(start) {
        Some((before, rest)) => before.to_owned() + rest.split_once(end).unwrap().1,
        None => page.text.clone(),
    };
    Page { path: page.path, text }
}

/// Where the links lead, each place once, whatever the language of the page there; a heading by its
/// number.
fn places(page: &Page) -> Vec<String> {
    let all = pages();
    let place = |Link { target, .. }: Link| {
        if target.starts_with("https://") {
            return target;
        }
        let (path, anchor) = page.resolve(&target);
        let other = all.iter().find(|other| Path::new(other.path) == path);
        let headings = other.map(Page::headings).unwrap_or_default();
        let number = headings.iter().position(|heading| heading.anchor == anchor);
        let path = path.to_str().unwrap().replace(".zh-CN", "");
        match number {
            Some(number) => format!("{path}, heading {number}"),
            None => path,
        }
    };
    let mut places: Vec<String> = page.links().into_iter().map(place).collect();
    places.sort();
    places.dedup();
    places
}

#[test]
fn every_page_is_shipped_where_the_readme_is() {
    // Of the archive `packages::` tells.
    let shipped = fs::read_to_string(repository().join("scripts/files")).unwrap();
    for page in pages() {
        let is_listed = shipped.contains(&format!("SHARE/doc/langfast2api/{}\n", page.path));
        assert!(is_listed, "scripts/files does not list {}", page.path);
    }
}

#[test]
fn a_figure_that_a_page_cites_stands_in_the_figures() {
    let figures = Page::read("tests/README.md");
    let figures = figures.section("Figures");
    let mut cited = 0;
    for page in pages() {
        for Link { text, target } in page.links() {
            if target.ends_with("tests/README.md#figures")
                && text.contains(|c: char| c.is_ascii_digit())
            {
                assert!(figures.contains(&text), "{}: there is no figure {text}", page.path);
                cited += 1;
            }
        }
    }
    assert!(cited > 0, "no page cites a figure");
}

#[test]
fn agents_are_tested_with_the_settings_that_the_page_shows() {
    let page = Page::read("tests/README.md");
    let codex =
        fs::read_to_string(repository().join("tests/clients/agents/test_codex.py")).unwrap();
    let blocks = page.blocks();
    let shown = blocks.iter().find(|block| block.language == "toml").expect("Codex's settings");
    for line in shown.text.replace("http://127.0.0.1:8000/v1", "{api}").lines() {
        assert!(codex.lines().any(|other| other == line), "test_codex.py has no {line:?}");
    }
}

/// What is shown is copied: it must work for as long as can be known.
#[test]
fn no_example_names_a_model_that_is_or_will_be_shut_down() {
    let texts = pages().into_iter().map(|page| (page.path.to_owned(), page.text));
    let mut definition = Cli::definition();
    definition.build();
    let commands = std::iter::once(&definition).chain(definition.get_subcommands());
    let helps = commands
        .map(|command| ("--help".to_owned(), command.clone().render_long_help().to_string()));
    let folders = ["scripts", "scripts/packages", "src/server/page", "tests/clients/agents"];
    let files = folders.iter().flat_map(|folder| fs::read_dir(repository().join(folder)).unwrap());
    let files = files
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap_or_default()));
    for (place, text) in texts.chain(helps).chain(files) {
        for (number, line) in text.lines().enumerate() {
            let words = || {
                let ends_word = |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.';
                line.split(ends_word).map(|word| word.trim_matches(['-', '.']))
            };
            // Where dates are told, models are that have one.
            let is_date =
                |word: &str| humantime::parse_rfc3339(&format!("{word}T00:00:00Z")).is_ok();
            let has_end = |word: &&str| shutdowns::of(word).is_some();
            if let Some(model) = words().find(has_end).filter(|_| !words().any(is_date)) {
                panic!("{place}:{}: {model} is or will be shut down: {line}", number + 1);
            }
        }
    }
}

#[test]
fn nginx_takes_the_settings_that_the_page_shows() {
    let page = Page::read("scripts/README.md");
    let blocks = page.blocks();
    let shown = blocks.iter().find(|block| block.language == "nginx").expect("nginx's settings");
    let place = Directory::new();
    let file = place.path().join("nginx.conf");
    let text = format!(
        "pid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\nserver {{\nlisten \
         unix:socket;\n{}}}\n}}\n",
        shown.text
    );
    fs::write(&file, text).unwrap();
    let Some(nginx) = crate::support::typed::find("nginx") else {
        let required = std::env::var("REQUIRE_PROXIES").is_ok_and(|value| value == "1");
        assert!(!required, "nginx is not installed");
        return println!("left out: nginx is not installed");
    };
    let mut command = Command::new(nginx);
    command.arg("-t").arg("-c").arg(&file).arg("-p").arg(place.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn examples_that_are_data_can_be_read_or_are_what_is_shipped() {
    let shipped = fs::read_to_string(repository().join("scripts/prometheus.yml")).unwrap();
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.language == "yaml") {
            let lines: Vec<&str> =
                shipped.lines().filter(|line| !line.trim().starts_with('#')).collect();
            assert!(
                lines.join("\n").contains(block.text.trim_end()),
                "{}:{}",
                page.path,
                block.line
            );
        }
    }
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.language == "json") {
            let read = serde_json::from_str::<serde_json::Value>(&block.text);
            assert!(read.is_ok(), "{}:{}: {read:?}", page.path, block.line);
        }
    }
}

#[test]
fn every_block_of_shell_python_and_javascript_works_as_it_is_shown() {
    let missing = crate::support::typed::missing();
    let required = std::env::var("REQUIRE_READMES").is_ok_and(|value| value == "1");
    if !missing.is_empty() {
        assert!(!required, "the READMEs' blocks cannot be run without {missing:?}");
        println!("left out: the READMEs' blocks cannot be run without {missing:?}");
        return;
    }
    let output = crate::support::typed::in_own_network("readme::blocks_in_a_network_of_their_own")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "a block does not work:\n{text}");
    let at = text.find(crate::support::typed::SUMMARY).expect("blocks are run");
    let end = text[at..].find("\n\n").unwrap_or(text.len() - at);
    // Seen without --nocapture, too.
    writeln!(std::io::stderr(), "{}", &text[at..at + end]).unwrap();
}

#[test]
#[ignore = "run by the test above, where port 8000 is free and LangFast is out of reach"]
fn blocks_in_a_network_of_their_own() {
    if !crate::support::typed::is_in_own_network() {
        println!("left out: this is not a network of its own");
        return;
    }
    // The translations' blocks are the same.
    let mut count = crate::support::typed::Count::default();
    for path in PAGES {
        crate::support::typed::Reader::new().follow(&Page::read(path), &mut count);
    }
    println!("{count}");
}
