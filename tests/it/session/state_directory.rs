//! Directories and files that are closed to others, or to the program itself.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{log_in, refusal, session_path, who_answers};
use crate::simulator::Simulator;
use crate::support::{Directory, NOBODY, Start};

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
    let program = start.state_dir(Path::new("/proc/no/such")).start();
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
fn where_nothing_can_be_kept_a_session_that_can_be_replaced_goes_on_in_memory() {
    let (simulator, runtime) = (Simulator::start(), Directory::new());
    let nowhere = || {
        let start = Start::new(&simulator.url()).env("XDG_RUNTIME_DIR", runtime.path());
        start.state_dir(Path::new("/proc/no/such"))
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
