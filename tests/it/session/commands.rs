//! `login`, `logout`, `whoami`, and what else tells who will be signed in.

use rustix::process::Signal;
use serde_json::Value;

use super::{account_token, command, command_with, session_file, start, who_answers};
use crate::simulator::Simulator;
use crate::support::Directory;

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
