//! Signing in: whose identity, kept where, renewed when.

mod address;
mod commands;
mod killed;
mod lock;
mod refresh_token;
mod renewing;
mod signing_in;
mod state_directory;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::simulator::Simulator;
use crate::support::{Directory, Program, Start};

fn session_file(directory: &Directory) -> Value {
    let bytes = std::fs::read(session_path(directory).expect("a session file")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn session_path(directory: &Directory) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory.path()).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|ending| ending == "json"))
}

fn start(simulator: &Simulator, directory: &Directory) -> Program {
    Start::new(&simulator.url()).state_dir(directory.path()).start()
}

/// Runs a command of the program with this standard input.
fn command(
    simulator: &Simulator,
    directory: &Directory,
    args: &[&str],
    input: &str,
) -> (bool, String) {
    command_with(simulator, directory, &[], args, input)
}

/// The same with these variables.
fn command_with(
    simulator: &Simulator,
    directory: &Directory,
    variables: &[(&str, &str)],
    args: &[&str],
    input: &str,
) -> (bool, String) {
    let url = simulator.url();
    let mut child = Command::new(env!("CARGO_BIN_EXE_langfast2api"))
        .args(args)
        .args(["--supabase-url", &url, "--runner-url", &url, "--state-dir"])
        .arg(directory.path())
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// A refresh token of the account that nobody has used.
fn account_token(simulator: &Simulator) -> String {
    let directory = Directory::new();
    log_in(simulator, &directory);
    refresh_token(&directory)
}

fn log_in(simulator: &Simulator, directory: &Directory) {
    let input = "user@example.com\ncorrect-password\n";
    let (done, text) = command(simulator, directory, &["login"], input);
    assert!(done, "{text}");
}

fn refresh_token(directory: &Directory) -> String {
    session_file(directory)["session"]["refresh_token"].as_str().unwrap().to_owned()
}

/// Starts the program with a refresh token set.
fn start_with(simulator: &Simulator, directory: &Directory, token: &str) -> Program {
    let start = Start::new(&simulator.url()).state_dir(directory.path());
    start.env("LANGFAST2API_REFRESH_TOKEN", token).start()
}

/// Asks, and says by whom the run was made: the account, or an anonymous user.
fn who_answers(simulator: &Simulator, program: &Program) -> &'static str {
    assert_eq!(program.ask("hello").content(), "hello");
    match simulator.runs().last().unwrap()["created_by"] == ACCOUNT {
        true => "account",
        false => "anonymous",
    }
}

/// The account's user id.
const ACCOUNT: &str = "1a17fa57-0000-4000-8000-000000000001";

/// What is told to a client whose request cannot be served for want of a sign-in.
fn refusal(program: &Program) -> String {
    let refused = program.ask("hello");
    assert_eq!(refused.status, 503, "{}", refused.text());
    refused.error()["message"].as_str().unwrap().to_owned()
}
