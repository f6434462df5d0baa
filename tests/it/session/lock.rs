//! The lock by which several processes share one session.

use super::{command, log_in, refusal, session_path, start, who_answers};
use crate::simulator::{Fault, Simulator, Step};
use crate::support::{Directory, Start, chat_body, user, wait_until};

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
fn while_another_process_holds_the_lock_no_token_is_used_and_the_client_is_told_when_to_come_back()
{
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let quick = || {
        let start = Start::new(&simulator.url()).state_dir(directory.path());
        start.args(["--request-timeout", "2"]).start()
    };
    assert_eq!(who_answers(&simulator, &quick()), "anonymous");
    simulator.expire_tokens();
    let holder = start(&simulator, &directory);
    simulator.fault(Step::Refresh, Fault::hang());
    let body = chat_body(user("hello")).to_string();
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
        &["login", "--request-timeout", "2"],
        "user@example.com\ncorrect-password\n",
    );
    assert!(!done && text.contains(&pid), "{text}");
    let (done, text) = command(&simulator, &directory, &["logout", "--request-timeout", "2"], "");
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
    let program = start.args(["--request-timeout", "2"]).start();
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
