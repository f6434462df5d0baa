//! The command line: what is made of its definition, `--check-config`, `models`, exit codes.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Directory, Start};

const NOWHERE: &str = "http://127.0.0.1:1";

fn run(args: &[&str]) -> (i32, String, String) {
    let start = args.iter().fold(Start::new(NOWHERE), |start, arg| start.arg(arg));
    let (status, output, log) = start.run();
    (status.code().unwrap(), output, log)
}

/// What a program says to this input; `None` if it is not installed.
fn fed(program: &str, args: &[&str], input: &str) -> Option<(bool, String)> {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    Some((output.status.success(), text))
}

#[test]
fn bash_completes_commands_and_settings() {
    let (code, script, _) = run(&["completions", "bash"]);
    assert_eq!(code, 0);
    let complete = |words: &str, at: usize| {
        let ask = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={at}; \
             _langfast2api langfast2api \"${{COMP_WORDS[{at}]}}\" \"${{COMP_WORDS[{at}-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        fed("bash", &["--norc", "-s"], &ask).expect("bash").1
    };
    assert_eq!(complete("langfast2api doc", 1), "doctor\n");
    assert_eq!(complete("langfast2api --max-b", 1), "--max-body\n");
    assert!(complete("langfast2api doctor --", 2).contains("--run\n"));
}

#[test]
fn every_shell_gets_a_script_and_an_unknown_one_is_a_usage_error() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(script.contains("whoami") && script.contains("listen"), "{shell}");
    }
    assert_eq!(run(&["completions", "cmd"]).0, 2);
}

#[test]
fn the_man_page_tells_of_every_setting_every_command_and_the_exit_codes() {
    let (code, page, _) = run(&["man"]);
    assert_eq!(code, 0);
    for text in
        ["LANGFAST2API_LISTEN", "\\-\\-max\\-body", "whoami", "refresh\\-token", "EXIT STATUS"]
    {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("eyJ"), "no key");
    if let Some((is_sound, complaints)) = fed("groff", &["-Kutf8", "-man", "-ww", "-z"], &page) {
        assert!(is_sound && complaints.is_empty(), "{complaints}");
    }
}

#[test]
fn a_commands_help_lists_what_concerns_it_and_it_takes_the_rest() {
    let (_, help, _) = run(&["login", "--help"]);
    assert!(help.contains("--supabase-url") && !help.contains("--listen"), "{help}");
    let (code, text, _) = run(&["whoami", "--max-body", "3"]);
    assert_eq!((code, text.contains("Nobody is signed in")), (0, true), "{text}");
    assert_eq!(run(&["whoami", "--max-body", "none"]).0, 2);
}

#[test]
fn exit_codes_tell_usage_and_settings_from_failures() {
    assert_eq!(run(&["--no-such-flag"]).0, 2);
    assert_eq!(run(&["--models", "/no/such/file"]).0, 2);
    assert_eq!(run(&["--listen", "nowhere"]).0, 2);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, _, log) = run(&["--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(code, 1, "{log}");
    let (_, help, _) = run(&["--help"]);
    for code in ["\n  0  ", "\n  1  ", "\n  2  "] {
        assert!(help.contains(code), "{help}");
    }
}

#[test]
fn a_sound_configuration_is_said_to_be_so_and_nothing_is_touched() {
    let directory = Directory::new();
    let state = directory.path().join("state");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let start = Start::new(NOWHERE).state_dir(&state).arg("--check-config");
    let (status, text, _) = start.arg("--listen").arg(&address).run();
    assert!(status.success());
    assert!(text.starts_with("configuration is sound: ") && text.contains(&address), "{text}");
    assert!(!state.exists());
}

#[test]
fn who_reads_the_first_line_of_the_version_alone_hears_of_no_panic() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(ours);
    let mut version = Command::new(env!("CARGO_BIN_EXE_langfast2api"));
    version.arg("--version").stdout(std::os::fd::OwnedFd::from(theirs)).stderr(Stdio::piped());
    let output = version.spawn().unwrap().wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn models_are_listed_for_people_and_as_json() {
    let (code, table, _) = run(&["models", "--model-aliases", "mine=gpt-5"]);
    assert_eq!(code, 0);
    assert_eq!(table.lines().count(), 18, "a head and 17 models");
    let line = table.lines().find(|line| line.starts_with("gpt-5 ")).unwrap();
    for text in ["128000", "gpt-5-2025-08-07, mine", "reasoning_effort=minimal|low|medium|high"] {
        assert!(line.contains(text), "{line}");
    }
    let (_, json, _) = run(&["models", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list[0]["id"], "gpt-4.1");
    assert_eq!(list[0]["max_completion_tokens"], 32768);
}
