//! What bodies of requests may take of the machine's memory.

use crate::simulator::Simulator;
use crate::support::{Connection, Program, Start, chat_body, user};

const MIB: usize = 1 << 20;

/// A body of about so many MiB, most of it a list of zeroes in the field `junk`.
fn hostile(mib: usize) -> String {
    let chat = chat_body(user("hello")).to_string();
    let zeroes = "0,".repeat(mib * MIB / 2);
    format!("{},\"junk\":[{zeroes}0]}}", chat.trim_end_matches('}'))
}

/// The same within a field that is read.
fn hostile_within(mib: usize) -> String {
    hostile(mib).replace("\"junk\"", "\"tools\"")
}

/// Most memory that the program has had, in bytes.
fn peak(program: &Program) -> usize {
    program.figure("VmHWM") as usize * 1024
}

fn post(program: &Program, body: &str) -> crate::support::Response {
    program.request("POST", "/v1/chat/completions", "", body.as_bytes())
}

#[test]
fn a_field_that_nobody_reads_is_passed_over_without_being_built() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    post(&program, &hostile(0)).content();
    let before = peak(&program);
    assert_eq!(post(&program, &hostile(8)).content(), "hello");
    let grown = peak(&program) - before;
    assert!(grown < 16 * MIB, "{} MiB for a body of 8", grown / MIB);
}

#[test]
fn a_body_that_would_take_more_than_there_is_for_all_is_refused_by_the_settings_name() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    let refused = post(&program, &hostile_within(4));
    assert_eq!(refused.status, 413);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("LANGFAST2API_BODY_MEMORY"), "{message}");
    assert!(peak(&program) < 120 * MIB, "{} MiB", peak(&program) / MIB);
    assert_eq!(simulator.stats().runs, 0);
    assert_eq!(program.ask("hello").content(), "hello");
}

#[test]
fn however_many_large_bodies_come_at_once_they_stay_within_the_memory_for_them() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(["--body-memory", "16"]).start();
    let before = peak(&program);
    let (known, unknown) = (hostile_within(1), hostile(3));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..64)
            .map(|number| {
                let body = if number % 2 == 0 { &unknown } else { &known };
                let program = &program;
                scope.spawn(move || post(program, body).status)
            })
            .collect();
        for client in clients {
            let status = client.join().unwrap();
            assert!([200, 413, 503].contains(&status), "{status}");
        }
    });
    let grown = peak(&program) - before;
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    assert_eq!(program.ask("hello").content(), "hello");
}

/// Sends the head and all but the end of a body that takes most of the memory for all.
fn hold_memory(program: &Program) -> (Connection, String) {
    let body = hostile(6);
    let mut connection = Connection::open(program.address());
    let head = format!("Host: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.write(format!("POST /v1/chat/completions HTTP/1.1\r\n{head}").as_bytes());
    let (most, end) = body.split_at(body.len() - 10);
    connection.write(most.as_bytes());
    (connection, end.to_owned())
}

#[test]
fn a_body_waits_for_memory_and_one_for_which_none_comes_is_told_to_try_again() {
    let simulator = Simulator::start();
    let start = |head_timeout: &str| {
        Start::new(&simulator.url())
            .args(["--max-body", "8", "--body-memory", "8", "--head-timeout", head_timeout])
            .start()
    };
    let program = start("15");
    let (mut first, end) = hold_memory(&program);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| post(&program, &hostile(6)));
        // Small ones are not kept waiting by large ones.
        assert_eq!(program.ask("hello").content(), "hello");
        first.write(end.as_bytes());
        assert_eq!(first.response().content(), "hello");
        assert_eq!(second.join().unwrap().content(), "hello");
    });

    let program = start("1");
    let (first, _) = hold_memory(&program);
    // The first one's time is up as soon: who comes for what it holds may have to come again.
    let second = post(&program, &hostile(7));
    match second.status {
        200 => {}
        503 => assert_eq!(second.header("retry-after"), Some("1")),
        other => panic!("{other}"),
    }
    drop(first);
}

#[test]
fn memory_for_less_than_one_body_is_a_bad_setting() {
    let (status, _, log) = Start::new("http://127.0.0.1:1").args(["--body-memory", "8"]).run();
    assert_eq!(status.code(), Some(2));
    assert!(log.contains("--body-memory"), "{log}");
    let start = Start::new("http://127.0.0.1:1").args(["--max-body", "100"]);
    assert_eq!(start.start().get("/healthz").status, 200);
}
