//! Signing in: whose identity, kept where, renewed when.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::simulator::{Fault, Simulator, Step};
use crate::support::relay::Relay;
use crate::support::{Directory, NOBODY, Program, Start, wait_until};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

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

#[test]
fn one_anonymous_user_is_signed_up_once_and_kept_across_restarts() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    for _ in 0..2 {
        let program = start(&simulator, &directory);
        for _ in 0..3 {
            assert_eq!(program.ask("hello").content(), "hello");
        }
    }
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.prompts, stats.runs), (1, 1, 6));
    let file = session_path(&directory).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn requests_that_come_together_sign_in_once_and_create_one_prompt() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    simulator.fault(Step::SignUp, Fault::slow(100));
    let program = start(&simulator, &directory);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(program.ask("hello").content(), "hello"));
        }
    });
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.prompts, stats.runs, stats.connects), (1, 1, 20, 1));
}

#[test]
fn a_failed_sign_in_is_shared_by_those_who_waited_for_it() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let relay = Relay::to(&simulator.url());
    simulator.fault(Step::SignUp, Fault::status(403).times(1));
    let program = Start::new(&relay.url()).state_dir(directory.path()).start();
    relay.mute(true);
    let asks: Vec<_> =
        (0..5).map(|_| program.chat_connection(crate::support::user("hello"))).collect();
    wait_until("all to wait", || program.get("/status").json()["under_way"] == 5);
    relay.mute(false);
    for mut ask in asks {
        assert_eq!(ask.response().status, 403);
    }
    assert_eq!(simulator.stats().http_requests, 1, "LangFast was asked once");
}

#[test]
fn an_access_token_is_renewed_before_it_ends_and_once() {
    let directory = Directory::new();
    let simulator = Simulator::builder().token_lifetime(8).start();
    let program = start(&simulator, &directory);
    assert_eq!(program.ask("hello").content(), "hello");
    let before = simulator.stats();
    // The file says when the token ends, less a part of a second; after three quarters of its life it is
    // renewed when it is used.
    let ends = session_file(&directory)["session"]["expires_at"].as_u64().unwrap();
    wait_until("the token's last quarter", || {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        now >= ends as f64 - 0.9
    });
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(program.ask("hello").content(), "hello"));
        }
    });
    let after = simulator.stats();
    assert_eq!((after.signups, after.refreshes), (before.signups, before.refreshes + 1));
    assert_eq!(after.refused_tokens, 0, "none was used that had ended");
}

#[test]
fn a_kept_access_token_that_is_about_to_end_is_renewed_before_it_is_used() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    assert_eq!(start(&simulator, &directory).ask("hello").content(), "hello");
    let mut kept = session_file(&directory);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    kept["session"]["expires_at"] = json!(now + 30);
    std::fs::write(session_path(&directory).unwrap(), kept.to_string()).unwrap();
    assert_eq!(start(&simulator, &directory).ask("hello").content(), "hello");
    assert_eq!((simulator.stats().signups, simulator.stats().refreshes), (1, 1));
}

#[test]
fn a_token_that_langfast_no_longer_accepts_is_renewed_once_and_the_request_answered() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let program = start(&simulator, &directory);
    assert_eq!(program.ask("hello").content(), "hello");
    simulator.expire_tokens();
    assert_eq!(program.ask("again").content(), "again");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.runs), (1, 1, 2));
}

#[test]
fn an_account_is_signed_in_by_password_and_its_wrong_password_is_named() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let with_password = |password: &str| {
        Start::new(&simulator.url())
            .env("LANGFAST2API_EMAIL", "user@example.com")
            .env("LANGFAST2API_PASSWORD", password)
            .start()
    };
    assert_eq!(with_password("correct-password").ask("hello").content(), "hello");
    let refused = with_password("wrong").ask("hello");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("password is wrong"), "{message}");
    assert_eq!(simulator.stats().signups, 0);
    drop(directory);
}

#[test]
fn login_keeps_the_account_whoami_names_it_and_logout_forgets_it() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let (done, text) =
        command(&simulator, &directory, &["login"], "user@example.com\ncorrect-password\n");
    assert!(done && text.contains("Signed in as user@example.com"), "{text}");
    let (_, text) = command(&simulator, &directory, &["whoami"], "");
    assert!(text.contains("user@example.com"), "{text}");

    let program = start(&simulator, &directory);
    assert_eq!(program.ask("hello").content(), "hello");
    assert_eq!(simulator.stats().signups, 0);
    drop(program);

    let (done, text) = command(&simulator, &directory, &["logout"], "");
    assert!(done && text.contains("Signed out: user@example.com"), "{text}");
    let (_, text) = command(&simulator, &directory, &["whoami"], "");
    assert!(text.contains("Nobody is signed in"), "{text}");

    let (done, text) = command(&simulator, &directory, &["login"], "user@example.com\nwrong\n");
    assert!(!done && text.contains("password is wrong"), "{text}");
    let (done, text) = command(&simulator, &directory, &["login"], "");
    assert!(!done && text.contains("nothing was given"), "{text}");
}

#[test]
fn login_takes_a_refresh_token_from_standard_input() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    command(&simulator, &directory, &["login"], "user@example.com\ncorrect-password\n");
    let token = session_file(&directory)["session"]["refresh_token"].as_str().unwrap().to_owned();
    let other = Directory::new();
    let (done, text) = command(&simulator, &other, &["login", "--refresh-token"], &token);
    assert!(done && text.contains("user@example.com"), "{text}");
}

#[test]
fn a_running_server_takes_a_new_login_up_on_sighup() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let program = start(&simulator, &directory);
    assert_eq!(program.ask("hello").content(), "hello");
    command(&simulator, &directory, &["login"], "user@example.com\ncorrect-password\n");
    program.signal(Signal::HUP);
    program.wait_for_log("reloaded");
    assert_eq!(program.ask("hello").content(), "hello");
    let users: Vec<Value> = simulator.runs().iter().map(|run| run["created_by"].clone()).collect();
    assert_ne!(users[0], users[1]);
}

#[test]
fn a_dead_session_of_an_account_says_how_to_log_in_again_and_signs_nobody_up() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    command(&simulator, &directory, &["login"], "user@example.com\ncorrect-password\n");
    simulator.expire_tokens();
    simulator.revoke_refresh_tokens();
    let program = start(&simulator, &directory);
    let refused = program.ask("hello");
    assert_eq!(refused.status, 503);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("langfast2api login"), "{message}");
    assert_eq!(simulator.stats().signups, 0);
}

#[test]
fn a_dead_anonymous_session_is_replaced_but_no_more_than_three_times_an_hour() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    for _ in 0..3 {
        let program = start(&simulator, &directory);
        assert_eq!(program.ask("hello").content(), "hello");
        simulator.expire_tokens();
        simulator.revoke_refresh_tokens();
    }
    let program = start(&simulator, &directory);
    let refused = program.ask("hello");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 3000);
    assert_eq!(simulator.stats().signups, 3);
}

#[test]
fn sign_ups_that_made_no_user_are_not_counted() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let nowhere = Start::new("http://127.0.0.1:1").state_dir(directory.path()).start();
    for _ in 0..5 {
        assert_eq!(nowhere.ask("hello").status, 502);
    }
    let program = start(&simulator, &directory);
    simulator.fault(Step::SignUp, Fault::status(422).times(4));
    for _ in 0..4 {
        assert_eq!(program.ask("hello").status, 502);
    }
    assert_eq!(program.get("/readyz").status, 502);
    assert_eq!(program.ask("hello").content(), "hello");
    assert_eq!(program.get("/readyz").status, 200);
}

#[test]
fn a_session_is_never_shown_to_another_server() {
    let (one, other, directory) = (Simulator::start(), Simulator::start(), Directory::new());
    assert_eq!(start(&one, &directory).ask("hello").content(), "hello");
    assert_eq!(start(&other, &directory).ask("hello").content(), "hello");
    assert_eq!(start(&one, &directory).ask("hello").content(), "hello");
    assert_eq!((one.stats().signups, other.stats().signups), (1, 1));
    assert_eq!((one.stats().refreshes, other.stats().refreshes), (0, 0));
}

#[test]
fn a_quota_or_a_rate_limit_never_makes_a_new_identity() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let program = start(&simulator, &directory);
    assert_eq!(program.ask("hello").content(), "hello");
    simulator.fault(Step::Run, Fault::status(429).header("retry-after", "7").times(1));
    assert_eq!(program.ask("hello").header("retry-after"), Some("7"));
    let quota = Fault::status(429).body(r#"{"error":"Daily quota exceeded"}"#).times(1);
    simulator.fault(Step::Run, quota);
    let refused = program.ask("hello");
    assert_eq!(
        (refused.status, refused.error()["code"].clone()),
        (429, json!("insufficient_quota"))
    );
    assert_eq!(
        (refused.header("retry-after"), refused.header("x-should-retry")),
        (None, Some("false"))
    );
    assert_eq!(simulator.stats().signups, 1);
}

#[test]
fn every_refusal_of_supabase_auth_says_what_to_do() {
    for (code, words) in [
        ("anonymous_provider_disabled", "langfast2api login"),
        ("captcha_failed", "only a person"),
        ("signup_disabled", "no new users"),
        ("user_banned", "support"),
        ("email_not_confirmed", "confirmation mail"),
        ("invalid_credentials", "LANGFAST2API_EMAIL"),
        ("session_expired", "has expired"),
        ("session_not_found", "was ended"),
    ] {
        let simulator = Simulator::start();
        let body = json!({"code": 422, "error_code": code, "msg": "no"}).to_string();
        simulator.fault(Step::SignUp, Fault::status(422).body(&body).times(2));
        let refused = Program::start(&simulator.url()).ask("hello");
        assert_eq!(refused.status, 503, "{code}");
        let message = refused.error()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{code}: {message}");
    }
}

#[test]
fn two_processes_that_start_together_share_one_identity() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let programs = [start(&simulator, &directory), start(&simulator, &directory)];
    std::thread::scope(|scope| {
        for program in &programs {
            scope.spawn(|| assert_eq!(program.ask("hello").content(), "hello"));
        }
    });
    assert_eq!(simulator.stats().signups, 1);
    simulator.expire_tokens();
    for program in &programs {
        assert_eq!(program.ask("hello").content(), "hello");
    }
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes), (1, 1));
}

/// How far a sign-in has got when the program is killed.
#[derive(Clone, Copy)]
struct Moment {
    /// What LangFast has been asked.
    requests: usize,
    then: Duration,
}

#[test]
fn the_session_file_survives_a_kill_at_any_moment_of_a_sign_in_or_a_renewal() {
    for round in 0..24 {
        let (simulator, directory) = (Simulator::start(), Directory::new());
        let is_renewal = round % 2 == 1;
        if is_renewal {
            assert_eq!(start(&simulator, &directory).ask("hello").content(), "hello");
            simulator.expire_tokens();
        }
        let requests = simulator.stats().http_requests + 1 + round / 8;
        let then = Duration::from_micros(150 * (round % 8) as u64);
        kill_in_a_sign_in(&simulator, &directory, Moment { requests, then });

        let kept = session_path(&directory).map(|_| session_file(&directory));
        assert!(kept.is_some() || !is_renewal, "what was there has not gone");
        let signed_up = simulator.stats().signups;
        assert_eq!(start(&simulator, &directory).ask("hello").content(), "hello");
        assert!(simulator.stats().signups <= signed_up + 1);
    }
}

/// Starts the program, asks it, and kills it at that moment.
fn kill_in_a_sign_in(simulator: &Simulator, directory: &Directory, moment: Moment) {
    let mut program = start(simulator, directory);
    let _asking = program.chat_connection(crate::support::user("hello"));
    simulator.wait_until(|stats| stats.http_requests >= moment.requests);
    std::thread::sleep(moment.then);
    program.signal(Signal::KILL);
    assert_eq!(program.wait().signal(), Some(Signal::KILL.as_raw()));
}

#[test]
fn a_program_that_is_killed_within_its_writing_leaves_the_session_file_as_it_was() {
    for part in [0.0, 0.01, 0.5, 0.99] {
        let (simulator, directory) = (Simulator::start(), Directory::new());
        assert_eq!(start(&simulator, &directory).ask("hello").content(), "hello");
        let path = session_path(&directory).unwrap();
        let before = std::fs::read(&path).unwrap();
        simulator.expire_tokens();
        let written = ((part * before.len() as f64) as usize).max(8);
        kill_when_it_has_written(&simulator, &directory, written);
        assert_eq!(simulator.stats().refreshes, 1, "it was keeping what it had got");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{written}");
        assert_eq!(start(&simulator, &directory).ask("hello").content(), "hello");
    }
}

#[test]
fn a_sign_up_is_counted_before_it_is_made_wherever_the_program_is_killed() {
    for written in [0, 1, 20, 200, 400] {
        let (simulator, directory) = (Simulator::start(), Directory::new());
        kill_when_it_has_written(&simulator, &directory, written);
        let counted = session_path(&directory).map(|_| session_file(&directory));
        let counted = counted.map_or(0, |file| file["sign_ups"].as_array().unwrap().len());
        assert_eq!(simulator.stats().signups, counted, "{written}");
        assert_eq!(start(&simulator, &directory).ask("hello").content(), "hello");
    }
}

/// Starts the program and asks it; the system kills it when it has written so many bytes to a file and
/// goes on writing.
fn kill_when_it_has_written(simulator: &Simulator, directory: &Directory, bytes: usize) {
    let mut program = start(simulator, directory);
    let limit = Some(bytes as u64);
    let limit = Rlimit { current: limit, maximum: limit };
    prlimit(Pid::from_raw(program.pid() as i32), Resource::Fsize, limit).unwrap();
    let _asking = program.chat_connection(crate::support::user("hello"));
    assert_eq!(program.wait().signal(), Some(Signal::XFSZ.as_raw()), "killed as it wrote");
}

#[test]
fn a_state_directory_that_is_made_is_closed_to_others() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let made = directory.path().join("made");
    let program = Start::new(&simulator.url()).state_dir(&made).start();
    assert_eq!(program.ask("hello").content(), "hello");
    assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_warned_of_and_the_server_still_answers() {
    let simulator = Simulator::start();
    let runtime = Directory::new();
    let start = Start::new(&simulator.url()).env("XDG_RUNTIME_DIR", runtime.path());
    let program = start.state_dir(std::path::Path::new("/proc/no/such")).start();
    assert_eq!(program.ask("hello").content(), "hello");
    assert_eq!(program.ask("again").content(), "again");
    assert!(program.log().contains("the session is not kept"));
    assert_eq!(simulator.stats().signups, 1);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_told_at_the_start_with_what_to_do() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let (closed, runtime) = (directory.path().join("closed"), directory.path().join("runtime"));
    for (path, mode) in [(&closed, 0o555), (&runtime, 0o777)] {
        std::fs::create_dir(path).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let start = |state: &Path| {
        let start = Start::new(&simulator.url()).state_dir(state).not_as_root();
        start.env("XDG_RUNTIME_DIR", &runtime).start()
    };
    start(&closed.join("below")).wait_for_log("Make it writable, or name another directory");
    let program = start(&closed);
    program.wait_for_log(&format!("the session is not kept: {}", closed.display()));
    assert_eq!(program.ask("hello").content(), "hello");
    let log = program.log();
    let told = log.matches("is not kept: ").count();
    assert!(told >= 2 && told == log.matches("Make it writable, or ").count(), "{log}");
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let program = start(&file);
    program.wait_for_log("Name a directory (LANGFAST2API_STATE_DIR)");
    assert_eq!(program.ask("hello").content(), "hello");
}

#[test]
fn a_refresh_token_that_is_set_is_used_once_and_its_session_goes_on_across_restarts() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let token = account_token(&simulator);
    for _ in 0..3 {
        let program = start_with(&simulator, &directory, &token);
        assert_eq!(who_answers(&simulator, &program), "account");
        simulator.expire_tokens();
        assert_eq!(who_answers(&simulator, &program), "account");
    }
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.refused_refreshes), (0, 4, 0));
    assert_ne!(refresh_token(&directory), token);
    let file = std::fs::read_to_string(session_path(&directory).unwrap()).unwrap();
    assert!(!file.contains(&token), "the token itself is not kept: {file}");
}

#[test]
fn a_refresh_token_set_after_an_anonymous_start_is_taken_up_at_the_restart() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    assert_eq!(who_answers(&simulator, &start(&simulator, &directory)), "anonymous");
    let file = directory.path().join("token");
    std::fs::write(&file, account_token(&simulator)).unwrap();
    let with_file = || {
        let start = Start::new(&simulator.url()).state_dir(directory.path());
        start.arg("--refresh-token-file").arg(&file).start()
    };
    let program = with_file();
    let announced = "as the holder of the refresh token in --refresh-token-file, in place \
                     of an anonymous user (the session that is kept)";
    assert!(program.line().contains(announced), "{}", program.line());
    assert_eq!(who_answers(&simulator, &program), "account");
    drop(program);
    let program = with_file();
    let announced = "as user@example.com (the session that is kept)";
    assert!(program.line().contains(announced), "{}", program.line());
    assert_eq!(who_answers(&simulator, &program), "account");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.refused_refreshes), (1, 1, 0));
}

#[test]
fn a_new_refresh_token_begins_anew_in_place_of_a_login_or_of_an_earlier_token() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    log_in(&simulator, &directory);
    for begun in 1..=2 {
        let program = start_with(&simulator, &directory, &account_token(&simulator));
        assert!(program.line().contains("in place of user@example.com"), "{}", program.line());
        assert_eq!(who_answers(&simulator, &program), "account");
        assert_eq!(simulator.stats().refreshes, begun);
    }
    assert_eq!(simulator.stats().refused_refreshes, 0);
}

#[test]
fn a_refresh_token_that_is_dead_is_named_and_sent_once_and_the_kept_session_stays() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    assert_eq!(who_answers(&simulator, &start(&simulator, &directory)), "anonymous");
    let kept = session_file(&directory)["session"].clone();
    for _ in 0..2 {
        let program = start_with(&simulator, &directory, "used-up-elsewhere");
        for _ in 0..2 {
            let message = refusal(&program);
            for words in ["LANGFAST2API_REFRESH_TOKEN", "new one", "langfast2api login", "remove"] {
                assert!(message.contains(words), "{message}");
            }
        }
    }
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refused_refreshes), (1, 1));
    assert_eq!(session_file(&directory)["session"], kept);
    // Without the setting what is kept goes on; and a login counts more than a dead token.
    assert_eq!(who_answers(&simulator, &start(&simulator, &directory)), "anonymous");
    log_in(&simulator, &directory);
    let program = start_with(&simulator, &directory, "used-up-elsewhere");
    assert_eq!(who_answers(&simulator, &program), "account");
    assert!(program.log().contains("works once and was used before"), "{}", program.log());
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refused_refreshes), (1, 1));
}

#[test]
fn a_token_that_login_was_given_is_not_sent_again_though_it_is_set() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let token = account_token(&simulator);
    let (done, text) = command(&simulator, &directory, &["login", "--refresh-token"], &token);
    assert!(done, "{text}");
    let program = start_with(&simulator, &directory, &token);
    assert_eq!(who_answers(&simulator, &program), "account");
    let (done, text) = command(&simulator, &directory, &["login", "--refresh-token"], &token);
    assert!(!done && text.contains("the refresh token was used already"), "{text}");
    assert_eq!(who_answers(&simulator, &start(&simulator, &directory)), "account");
    let stats = simulator.stats();
    assert_eq!((stats.refreshes, stats.refused_refreshes), (1, 1), "login's own second use");
}

#[test]
fn when_the_session_of_a_set_token_is_over_a_new_token_or_a_login_mends_it() {
    for by_login in [true, false] {
        let (simulator, directory) = (Simulator::start(), Directory::new());
        let token = account_token(&simulator);
        assert_eq!(who_answers(&simulator, &start_with(&simulator, &directory, &token)), "account");
        simulator.expire_tokens();
        simulator.revoke_refresh_tokens();
        let program = start_with(&simulator, &directory, &token);
        let message = refusal(&program);
        for words in ["langfast2api login", "a new refresh token", "LANGFAST2API_REFRESH_TOKEN"] {
            assert!(message.contains(words), "{message}");
        }
        let next = match by_login {
            true => token,
            false => account_token(&simulator),
        };
        if by_login {
            log_in(&simulator, &directory);
        }
        drop(program);
        let program = start_with(&simulator, &directory, &next);
        assert_eq!(who_answers(&simulator, &program), "account");
        let stats = simulator.stats();
        assert_eq!((stats.signups, stats.refused_refreshes), (0, 1));
    }
}

#[test]
fn a_used_refresh_token_is_not_sent_again_after_logout_and_signs_nobody_up() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let token = account_token(&simulator);
    drop(start_with(&simulator, &directory, &token).ask("hello").content());
    command(&simulator, &directory, &["logout"], "");
    let program = start_with(&simulator, &directory, &token);
    assert!(program.line().contains("as nobody: the refresh token"), "{}", program.line());
    let before = simulator.stats().http_requests;
    assert!(refusal(&program).contains("was used before"), "{}", refusal(&program));
    assert_eq!(simulator.stats().http_requests, before);
    drop(program);
    assert_eq!(who_answers(&simulator, &start(&simulator, &directory)), "anonymous");
    let program = start_with(&simulator, &directory, &token);
    assert!(refusal(&program).contains("go on as the anonymous user"), "{}", refusal(&program));
}

#[test]
fn a_session_goes_on_when_the_token_or_the_address_that_it_began_with_is_no_longer_set() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let token = account_token(&simulator);
    assert_eq!(who_answers(&simulator, &start_with(&simulator, &directory, &token)), "account");
    assert_eq!(who_answers(&simulator, &start(&simulator, &directory)), "account");

    let directory = Directory::new();
    let with_address = Start::new(&simulator.url())
        .state_dir(directory.path())
        .env("LANGFAST2API_EMAIL", "user@example.com")
        .env("LANGFAST2API_PASSWORD", "correct-password");
    assert_eq!(who_answers(&simulator, &with_address.start()), "account");
    let program = start(&simulator, &directory);
    assert!(program.line().contains("as user@example.com (the session"), "{}", program.line());
    assert_eq!(who_answers(&simulator, &program), "account");
    assert_eq!(simulator.stats().signups, 0);
}

#[test]
fn an_address_takes_the_place_of_whoever_is_kept_and_keeps_its_own_session_whatever_the_password() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    assert_eq!(who_answers(&simulator, &start(&simulator, &directory)), "anonymous");
    let with = |email: &str, password: &str| {
        Start::new(&simulator.url())
            .state_dir(directory.path())
            .env("LANGFAST2API_EMAIL", email)
            .env("LANGFAST2API_PASSWORD", password)
            .start()
    };
    let program = with("User@Example.com", "wrong");
    assert!(program.line().contains("as User@Example.com, in place of an anonymous user"));
    assert!(refusal(&program).contains("password is wrong"));
    drop(program);
    log_in(&simulator, &directory);
    simulator.expire_tokens();
    // The session is the address's own: the password is not needed yet.
    assert_eq!(who_answers(&simulator, &with("User@Example.com", "wrong")), "account");
    let kept = session_file(&directory)["session"].clone();
    let other = with("other@example.com", "correct-password");
    assert!(other.line().contains("as other@example.com, in place of user@example.com"));
    assert!(refusal(&other).contains("password is wrong"));
    assert_eq!(session_file(&directory)["session"], kept, "it is there if the setting goes");
    assert_eq!(simulator.stats().signups, 1);
}

#[test]
fn an_address_that_langfast_writes_in_another_way_is_still_known_as_the_one_that_is_set() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let body = json!({
        "access_token": "a", "refresh_token": "r", "expires_in": 3600,
        "user": {"id": "u", "email": "u.ser@example.com"},
    });
    simulator.fault(Step::Password, Fault::status(200).body(&body.to_string()));
    for _ in 0..2 {
        // No further than signing in: nobody else knows this access token.
        simulator.fault(Step::CreatePrompt, Fault::status(422));
        simulator.fault(Step::Connect, Fault::hang());
        let program = Start::new(&simulator.url())
            .state_dir(directory.path())
            .env("LANGFAST2API_EMAIL", "user@example.com")
            .env("LANGFAST2API_PASSWORD", "correct-password")
            .start();
        assert_eq!(program.ask("hello").status, 502);
    }
    assert_eq!(simulator.stats().password_logins, 0, "the second goes on with the session");
}

#[test]
fn start_line_whoami_check_and_login_say_what_will_happen() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let token = account_token(&simulator);
    let set = [("LANGFAST2API_REFRESH_TOKEN", token.as_str())];
    let mailed = [("LANGFAST2API_EMAIL", "o@example.com"), ("LANGFAST2API_PASSWORD", "x")];
    let both = [set[0], mailed[0], mailed[1]];
    let says = |variables: &[(&str, &str)], args: &[&str], words: &[&str]| {
        let (_, text) = command_with(&simulator, &directory, variables, args, "");
        words.iter().for_each(|words| assert!(text.contains(words), "{words} in {text}"));
    };
    says(&[], &["whoami"], &["Nobody is signed in. The server will sign up an anonymous user"]);
    says(&set, &["whoami"], &["Nobody is signed in. The server will begin with the refresh token"]);
    says(&mailed, &["whoami"], &["The server will sign in as o@example.com"]);
    says(&both, &["--check-config"], &["as o@example.com", "but the refresh token in", "not used"]);
    says(&mailed[1..], &["--check-config"], &["as an anonymous user", "LANGFAST2API_EMAIL is not"]);

    assert_eq!(who_answers(&simulator, &start(&simulator, &directory)), "anonymous");
    says(&[], &["whoami"], &["an anonymous user (", "lasts"]);
    let will = "The server will begin with the refresh token in LANGFAST2API_REFRESH_TOKEN, in \
                place of an anonymous user";
    says(&set, &["whoami"], &["an anonymous user (", will]);
    says(&set, &["--check-config"], &["as the holder of the refresh token in LANGFAST2API_REFR"]);
    says(&set, &["doctor"], &["as your account, by a new session"]);
    says(&set, &["doctor"], &["as your account, by the session that was kept"]);
    says(&set, &["--check-config"], &["as user@example.com (the session that is kept)"]);

    let input = "user@example.com\ncorrect-password\n";
    let log_in = |variables: &[(&str, &str)]| {
        let (done, text) = command_with(&simulator, &directory, variables, &["login"], input);
        assert!(done, "{text}");
        text
    };
    assert!(log_in(&[]).contains("A running server takes it up"));
    let text = log_in(&set);
    assert!(text.contains("takes it up") && text.contains("Note: the refresh token in"), "{text}");
    let text = log_in(&mailed);
    assert!(text.contains("will sign in as o@example.com, in place of user@"), "{text}");
    says(&set, &["doctor"], &["warning", "works once and was used before"]);
    assert_eq!(simulator.stats().refused_refreshes, 0);
}

#[test]
fn a_session_of_which_it_is_not_known_what_it_began_with_is_not_ended_by_the_token_that_is_set() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let token = account_token(&simulator);
    assert_eq!(who_answers(&simulator, &start_with(&simulator, &directory, &token)), "account");
    // As a program writes it that does not note which tokens were used.
    let mut file = session_file(&directory);
    file.as_object_mut().unwrap().remove("used_tokens");
    file["session"].as_object_mut().unwrap().remove("began_with");
    std::fs::write(session_path(&directory).unwrap(), file.to_string()).unwrap();
    for _ in 0..2 {
        simulator.expire_tokens();
        let program = start_with(&simulator, &directory, &token);
        assert_eq!(who_answers(&simulator, &program), "account");
        assert!(program.log().contains("is not known"), "{}", program.log());
    }
    assert_eq!(simulator.stats().refused_refreshes, 0);
}

#[test]
fn a_crash_between_using_a_set_token_and_keeping_its_session_is_survived() {
    let directory = Directory::new();
    let simulator = Simulator::builder().parent_tokens().start();
    let token = account_token(&simulator);
    assert_eq!(who_answers(&simulator, &start(&simulator, &directory)), "anonymous");
    let before = std::fs::read(session_path(&directory).unwrap()).unwrap();
    assert_eq!(who_answers(&simulator, &start_with(&simulator, &directory, &token)), "account");
    // As if it had died before it saved.
    std::fs::write(session_path(&directory).unwrap(), before).unwrap();
    assert_eq!(who_answers(&simulator, &start_with(&simulator, &directory, &token)), "account");
    assert_eq!(simulator.stats().refused_refreshes, 0);
}

#[test]
fn where_nothing_can_be_kept_a_session_that_can_be_replaced_goes_on_in_memory() {
    let (simulator, runtime) = (Simulator::start(), Directory::new());
    let nowhere = || {
        let start = Start::new(&simulator.url()).env("XDG_RUNTIME_DIR", runtime.path());
        start.state_dir(std::path::Path::new("/proc/no/such"))
    };
    let with_password = nowhere()
        .env("LANGFAST2API_EMAIL", "user@example.com")
        .env("LANGFAST2API_PASSWORD", "correct-password")
        .start();
    let anonymous = nowhere().start();
    for _ in 0..3 {
        assert_eq!(who_answers(&simulator, &with_password), "account");
        assert_eq!(who_answers(&simulator, &anonymous), "anonymous");
        simulator.expire_tokens();
    }
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.password_logins, stats.refreshes), (1, 1, 4));
    assert_eq!((stats.refused_refreshes, stats.prompts), (0, 2), "a prompt each");
}

#[test]
fn a_directory_without_permission_to_write_is_no_reason_to_fail() {
    let (simulator, directory, runtime) = (Simulator::start(), Directory::new(), Directory::new());
    std::fs::set_permissions(runtime.path(), Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o555)).unwrap();
    let start = Start::new(&simulator.url()).state_dir(directory.path()).not_as_root();
    let program = start.env("XDG_RUNTIME_DIR", runtime.path()).start();
    for _ in 0..2 {
        assert_eq!(who_answers(&simulator, &program), "anonymous");
        simulator.expire_tokens();
    }
    assert!(program.log().contains("cannot be written"), "{}", program.log());
    assert_eq!(simulator.stats().signups, 1);
}

#[test]
fn a_session_that_cannot_be_read_is_not_written_over() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    log_in(&simulator, &directory);
    let file = session_path(&directory).unwrap();
    let before = std::fs::read(&file).unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    for path in [&file, &file.with_extension("lock")] {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    for path in [&file, &file.with_extension("lock")] {
        std::fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
        let start = Start::new(&simulator.url()).state_dir(directory.path()).not_as_root();
        let program = start.start();
        let message = refusal(&program);
        let told = message.contains("ermission denied") && message.contains("user that the server");
        assert!(told && message.contains(path.to_str().unwrap()), "{message}");
        drop(program);
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
    assert_eq!(simulator.stats().signups, 0);
}

#[test]
fn while_another_process_holds_the_lock_no_token_is_used_and_the_client_is_told_when_to_come_back()
{
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let quick = || {
        let start = Start::new(&simulator.url()).state_dir(directory.path());
        start.args(["--request-timeout", "0.5"]).start()
    };
    assert_eq!(who_answers(&simulator, &quick()), "anonymous");
    simulator.expire_tokens();
    let holder = start(&simulator, &directory);
    simulator.fault(Step::Refresh, Fault::hang());
    let body = crate::support::chat_body(crate::support::user("hello")).to_string();
    let _asking = holder.send("POST", "/v1/chat/completions", "", body.as_bytes());
    let lock = session_path(&directory).unwrap().with_extension("lock");
    let pid = holder.pid().to_string();
    wait_until("the holder", || {
        std::fs::read_to_string(&lock).is_ok_and(|text| text.trim() == pid)
    });

    let program = quick();
    let refused = program.ask("hello");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("5"));
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    for words in [&pid, lock.to_str().unwrap(), "LANGFAST2API_STATE_DIR"] {
        assert!(message.contains(words), "{message}");
    }
    let (done, text) = command(
        &simulator,
        &directory,
        &["login", "--request-timeout", "0.5"],
        "user@example.com\ncorrect-password\n",
    );
    assert!(!done && text.contains(&pid), "{text}");
    let (done, text) = command(&simulator, &directory, &["logout", "--request-timeout", "0.5"], "");
    assert!(!done && text.contains(&pid), "{text}");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.password_logins), (1, 0, 0));

    drop(holder);
    assert_eq!(who_answers(&simulator, &program), "anonymous");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.refused_refreshes), (1, 1, 0));
}

#[test]
fn a_prompt_is_used_though_another_process_holds_the_lock() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    log_in(&simulator, &directory);
    let start = Start::new(&simulator.url()).state_dir(directory.path());
    let program = start.args(["--request-timeout", "0.5"]).start();
    // Signed in, but without a prompt.
    simulator.fault(Step::CreatePrompt, Fault::status(422).times(1));
    assert_eq!(program.ask("hello").status, 502);
    let lock = session_path(&directory).unwrap().with_extension("lock");
    let held = std::fs::File::open(lock).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for _ in 0..2 {
        assert_eq!(who_answers(&simulator, &program), "account");
    }
    assert_eq!(simulator.stats().prompts, 1);
    assert!(program.log().contains("the prompt is not kept"), "{}", program.log());
}

#[test]
fn a_lock_file_that_is_a_link_is_named_and_nothing_is_made_where_it_leads() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    log_in(&simulator, &directory);
    let lock = session_path(&directory).unwrap().with_extension("lock");
    let elsewhere = directory.path().join("elsewhere");
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &lock).unwrap();
    let message = refusal(&start(&simulator, &directory));
    assert!(message.contains(lock.to_str().unwrap()), "{message}");
    assert!(!elsewhere.exists());
    assert_eq!(simulator.stats().refreshes, 0);
}

#[test]
fn any_number_may_stand_for_the_seconds_that_a_token_lasts() {
    for number in ["\"3600\"", "3600.5", "1e30", "1e999", "18446744073709551615", "-5", "0", "null"]
    {
        let (simulator, directory) = (Simulator::start(), Directory::new());
        let answer = |words: &str| {
            format!(
                r#"{{"access_token":"a","refresh_token":"r","expires_in":{words},
                    "user":{{"id":"u","email":"user@example.com"}}}}"#
            )
        };
        simulator.fault(Step::Password, Fault::status(200).body(&answer(number)));
        log_in(&simulator, &directory);
        let left = session_file(&directory)["session"]["expires_at"].as_u64().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let left = left - now.as_secs();
        assert!((3500..=7 * 24 * 3600).contains(&left), "{number}: {left}");
    }
}

#[test]
fn a_kept_session_may_end_at_any_time() {
    let directory = Directory::new();
    let simulator = Simulator::builder().parent_tokens().start();
    let text = {
        drop(start(&simulator, &directory).ask("hello").content());
        std::fs::read_to_string(session_path(&directory).unwrap()).unwrap()
    };
    let ends = session_file(&directory)["session"]["expires_at"].to_string();
    for number in ["18446744073709551615", "1e999", "9e18", "1.5", "-1", "\"soon\""] {
        let path = session_path(&directory).unwrap();
        std::fs::write(path, text.replace(&ends, number)).unwrap();
        let program = start(&simulator, &directory);
        let (done, said) = command(&simulator, &directory, &["whoami"], "");
        assert!(done && said.contains("an anonymous user"), "{said}");
        assert_eq!(program.ask("hello").content(), "hello", "{number}");
    }
    assert_eq!(simulator.stats().signups, 1);
}
