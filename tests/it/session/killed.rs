//! A program that is killed as it signs in or keeps what it has got.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::{account_token, session_file, session_path, start, start_with, who_answers};
use crate::simulator::Simulator;
use crate::support::{Directory, user};

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
    let _asking = program.chat_connection(user("hello"));
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
    let _asking = program.chat_connection(user("hello"));
    assert_eq!(program.wait().signal(), Some(Signal::XFSZ.as_raw()), "killed as it wrote");
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
