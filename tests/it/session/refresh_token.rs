//! A refresh token that is set: it works once, and its session goes on.

use super::{
    account_token, command, log_in, refresh_token, refusal, session_file, session_path, start,
    start_with, who_answers,
};
use crate::simulator::Simulator;
use crate::support::{Directory, Start};

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
