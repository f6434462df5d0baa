//! Workers, and the way of a request to one: when there are few, and when no thread can be had.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::simulator::Simulator;
use crate::support::{Connection, Directory, Program, Start, user};
use rustix::process::{Resource, getrlimit, getuid};

#[test]
fn a_client_that_goes_on_at_once_finds_its_permit_free() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(["--max-requests", "1"]).start();
    let mut connection = Connection::open(program.address());
    for _ in 0..200 {
        connection.write(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(connection.response().status, 200);
    }
    for _ in 0..20 {
        assert_eq!(program.ask("hello").content(), "hello");
    }
}

#[test]
fn a_request_over_the_limit_is_told_to_come_back() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(["--max-requests", "1"]).start();
    let mut first = program.chat_connection(user("/sim events=2 delay=60000"));
    simulator.wait_until(|stats| stats.runs == 1);
    let refused = program.get("/v1/models");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    drop(first.stream.get_mut().shutdown(std::net::Shutdown::Both));
    crate::support::wait_until("the permit", || program.get("/v1/models").status == 200);
}

/// Has a command run as a user of its own, whose threads can be counted: root's are not.
fn as_a_user_of_its_own(command: &mut Command) -> &mut Command {
    match getuid().is_root() {
        true => command.uid(54_321).gid(54_321),
        false => command,
    }
}

fn start_as_a_user_of_its_own(simulator: &Simulator, state: &Directory) -> Program {
    std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_langfast2api"));
    as_a_user_of_its_own(&mut command);
    Start::of(command, &simulator.url(), state.path()).start()
}

/// Lets the program's user have `limit` threads; `None` is as many as ever.
fn limit_threads(program: &Program, limit: Option<u64>) {
    let most = getrlimit(Resource::Nproc).maximum;
    let limit = limit.or(most).map_or("unlimited".to_owned(), |limit| limit.to_string());
    let mut command = Command::new("prlimit");
    command.args(["--pid", &program.pid().to_string(), &format!("--nproc={limit}:")]);
    assert!(as_a_user_of_its_own(&mut command).status().unwrap().success());
}

fn threads_of_clients(program: &Program) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
    tasks.flatten().filter_map(|task| name(task).ok()).filter(|name| name == "client\n").count()
        as u64
}

#[test]
fn nobody_waits_for_ever_when_no_thread_can_be_had_and_all_is_well_when_one_can() {
    const CLIENTS: u64 = 16;
    let simulator = Simulator::start();
    let mut refused = 0;
    for more in 0..CLIENTS {
        let state = Directory::new();
        let program = start_as_a_user_of_its_own(&simulator, &state);
        // Their threads are there already: it is those who answer that are short.
        let mut clients: Vec<_> =
            (0..CLIENTS).map(|_| Connection::open(program.address())).collect();
        crate::support::wait_until("the clients' threads", || {
            threads_of_clients(&program) == CLIENTS
        });
        limit_threads(&program, Some(program.figure("Threads") + more));
        for client in &mut clients {
            client.write(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        for client in &mut clients {
            let answer = client.response();
            match answer.status {
                200 => {}
                503 => {
                    assert_eq!(answer.header("retry-after"), Some("1"));
                    refused += 1;
                }
                other => panic!("{other}: {}", answer.text()),
            }
        }
        limit_threads(&program, None);
        for _ in 0..3 {
            assert_eq!(program.ask("hello").content(), "hello", "with {more} threads more");
        }
    }
    assert!(refused > 0, "threads were never short: the test shows nothing");
}
