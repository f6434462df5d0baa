//! An account by its address and password, which are settings.

use serde_json::json;

use super::{log_in, refusal, session_file, start, who_answers};
use crate::simulator::{Fault, Simulator, Step};
use crate::support::{Directory, Start};

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
