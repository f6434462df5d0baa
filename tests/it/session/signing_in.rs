//! Who is signed in, how often, and what is told where that fails.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{session_path, start};
use crate::simulator::{Fault, Simulator, Step};
use crate::support::relay::Relay;
use crate::support::{Directory, Program, Start, user, wait_until};

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
    let asks: Vec<_> = (0..5).map(|_| program.chat_connection(user("hello"))).collect();
    wait_until("all to wait", || program.get("/status").json()["under_way"] == 5);
    relay.mute(false);
    for mut ask in asks {
        assert_eq!(ask.response().status, 403);
    }
    assert_eq!(simulator.stats().http_requests, 1, "LangFast was asked once");
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
