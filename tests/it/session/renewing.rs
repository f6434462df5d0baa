//! Tokens that end: when they are renewed, and what follows if they cannot be.

use serde_json::json;

use super::{command, log_in, session_file, session_path, start};
use crate::simulator::{Fault, Simulator, Step};
use crate::support::{Directory, wait_until};

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
