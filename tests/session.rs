//! Signing in: whose identity, kept where, renewed when.

mod simulator;
mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use simulator::{Fault, Simulator, Step};
use support::{Directory, Program, Start, wait_until};

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

fn log_in(simulator: &Simulator, directory: &Directory) {
    let input = "user@example.com\ncorrect-password\n";
    let (done, text) = command(simulator, directory, &["login"], input);
    assert!(done, "{text}");
}

fn refresh_token(directory: &Directory) -> String {
    session_file(directory)["session"]["refresh_token"].as_str().unwrap().to_owned()
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
    simulator.fault(Step::SignUp, Fault::status(403).delay(300).times(1));
    let program = start(&simulator, &directory);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..5).map(|_| scope.spawn(|| program.ask("hello").status)).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    assert!(statuses.contains(&403), "{statuses:?}");
    assert!(simulator.stats().signups <= 1);
}

#[test]
fn an_access_token_is_renewed_before_it_ends_and_once() {
    let directory = Directory::new();
    let simulator = Simulator::builder().token_lifetime(2).start();
    let program = start(&simulator, &directory);
    assert_eq!(program.ask("hello").content(), "hello");
    let before = simulator.stats();
    // The file says when the token ends; three quarters of its life are enough to have it renewed.
    let ends = session_file(&directory)["session"]["expires_at"].as_u64().unwrap();
    wait_until("the token's end", || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs() >= ends
    });
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(program.ask("hello").content(), "hello"));
        }
    });
    let after = simulator.stats();
    assert_eq!((after.signups, after.refreshes), (before.signups, before.refreshes + 1));
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
    simulator.fault(Step::Run, Fault::status(429).header("retry-after", "7").times(1));
    assert_eq!(program.ask("hello").header("retry-after"), Some("7"));
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

#[test]
fn the_session_file_survives_a_kill_at_any_moment() {
    let directory = Directory::new();
    let simulator = Simulator::builder().token_lifetime(1).start();
    for round in 0..20 {
        let mut program = start(&simulator, &directory);
        let address = program.address();
        std::thread::scope(|scope| {
            let asking = scope.spawn(move || {
                let body = support::chat_body(support::user("hello")).to_string();
                let head = format!(
                    "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                // It may have been killed by now.
                let Ok(mut stream) = std::net::TcpStream::connect(address) else { return };
                let _ = stream.write_all(head.as_bytes());
                let _ = std::io::Read::read(&mut stream, &mut [0; 100]);
            });
            // The moment of the kill moves through the sign-in from round to round.
            std::thread::sleep(std::time::Duration::from_micros(500 * round));
            program.signal(Signal::KILL);
            program.wait();
            asking.join().unwrap();
        });
        if session_path(&directory).is_some() {
            session_file(&directory);
        }
    }
    assert!(simulator.stats().signups <= 3);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_warned_of_and_the_server_still_answers() {
    let simulator = Simulator::start();
    let program =
        Start::new(&simulator.url()).state_dir(std::path::Path::new("/proc/no/such")).start();
    assert_eq!(program.ask("hello").content(), "hello");
    assert_eq!(program.ask("again").content(), "again");
    assert!(program.log().contains("the session is not kept"));
    assert_eq!(simulator.stats().signups, 1);
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
    let body = support::chat_body(support::user("hello")).to_string();
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
