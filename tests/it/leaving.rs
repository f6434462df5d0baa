//! Clients that leave before their answer is complete, and the server's own leaving.

use std::net::Shutdown;

use crate::simulator::{Fault, Simulator, Step};
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Connection, Program, Response, Start, user, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

fn start() -> (Simulator, Program) {
    start_with(&[])
}

fn start_with(variables: &[(&str, &str)]) -> (Simulator, Program) {
    let simulator = Simulator::builder().literal_socket().start();
    let start = Start::new(&simulator.url());
    let start = variables.iter().fold(start, |start, (name, value)| start.env(name, value));
    (simulator, start.start())
}

fn fields(content: &str, stream: bool) -> Value {
    let mut fields = user(content);
    fields["stream"] = json!(stream);
    fields
}

// Clients.

#[test]
fn a_client_that_leaves_gives_its_run_up_whenever_it_does() {
    let (simulator, program) = start();
    let mut left = 0;
    for stream in [false, true] {
        for said in [false, true] {
            let mut connection = program.chat_connection(fields(SILENT, stream));
            left += 1;
            let run = Stepped::nth(&simulator, left);
            if said {
                run.says("one ");
                if stream {
                    connection.head();
                    connection.chunk().unwrap();
                }
            }
            drop(connection);
            wait_until("the request's end", || program.times_logged("error=client_gone") == left);
            // A failure that belongs to no run is logged: nobody listens to this one any more.
            run.emits(json!({"error": "boom"}));
            wait_until("no run", || {
                program.times_logged("a failure of no run that is ours") == left
            });
        }
    }
    assert_eq!(simulator.stats().runs, left);
    assert_eq!(program.times_logged("error=refused"), 0, "{}", program.log());
    assert_eq!(program.ask("/sim say=Hi").content(), "Hi");
}

#[test]
fn a_client_that_leaves_while_langfast_does_not_answer_is_not_waited_for() {
    for step in [Step::Run, Step::Connect] {
        let (simulator, program) = start();
        simulator.fault(step, Fault::hang().times(1));
        let connection = program.chat_connection(user("hello"));
        // Sign-up, prompt, socket and, if that hangs, run: the last of them is being waited for.
        let requests = if step == Step::Run { 4 } else { 3 };
        simulator.wait_until(|stats| stats.http_requests >= requests);
        drop(connection);
        wait_until("the request's end", || program.times_logged("error=client_gone") == 1);
        assert!(!program.log().contains("timed_out"), "it was not the deadline that ended it");
    }
}

#[test]
fn clients_that_reset_their_connections_leave_no_thread_behind() {
    let (simulator, program) = start();
    assert_eq!(program.ask("/sim say=Hi").content(), "Hi");
    let before = program.figure("Threads");
    let several = |at| {
        let mut fields = fields(SILENT, at % 2 == 0);
        fields["n"] = json!(2);
        fields
    };
    let held: Vec<_> = (0..20).map(|at| program.chat_connection(several(at))).collect();
    simulator.wait_until(|stats| stats.runs == 41);
    assert!(program.figure("Threads") >= before + 30, "about a client and a worker each");
    for connection in held {
        // An answer that waits unread, or none: either way the kernel resets.
        let stream = connection.stream.into_inner();
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    }
    wait_until("the requests' ends", || program.times_logged("error=client_gone") == 20);
    wait_until("the threads' ends", || program.figure("Threads") <= before + 1);
    assert_eq!(program.ask("/sim say=Hi").content(), "Hi");
    assert_eq!(simulator.stats().connects, 1);
}

#[test]
fn a_client_that_only_ends_its_side_gets_its_answer() {
    let (simulator, program) = start();
    for (number, stream) in [false, true].into_iter().enumerate() {
        let mut connection = program.chat_connection(fields(SILENT, stream));
        let run = Stepped::nth(&simulator, number + 1);
        connection.stream.get_mut().shutdown(Shutdown::Write).unwrap();
        run.says("one ");
        run.ends("one two");
        let mut response = connection.response();
        if response.status == 100 {
            response = connection.response();
        }
        let text = if stream { response.streamed_text(0) } else { response.content() };
        assert_eq!(text, "one two");
        assert!(!stream || response.is_done());
    }
}

#[test]
fn a_client_that_only_ends_its_side_gets_no_comment_if_comments_are_off() {
    let (simulator, program) = start_with(&[("LANGFAST2API_KEEP_ALIVE", "0")]);
    let mut connection = program.chat_connection(fields(SILENT, true));
    let run = Stepped::nth(&simulator, 1);
    run.says("one ");
    connection.head();
    connection.chunk().unwrap();
    connection.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    run.says("one two ");
    connection.chunk().unwrap();
    run.ends("one two three");
    let rest = connection.rest();
    assert!(!rest.contains(": keep-alive") && rest.contains("[DONE]"), "{rest}");
}

#[test]
fn a_client_that_leaves_does_not_disturb_the_others() {
    let (simulator, program) = start();
    let mut stays = program.chat_connection(fields(SILENT, true));
    let staying = Stepped::nth(&simulator, 1);
    staying.says("one ");
    stays.head();
    stays.chunk().unwrap();
    let leaves = program.chat_connection(fields(SILENT, true));
    simulator.wait_until(|stats| stats.runs == 2);
    drop(leaves);
    wait_until("the other's end", || program.times_logged("error=client_gone") == 1);
    staying.ends("one two");
    let last = stays.rest();
    assert!(last.contains(r#"{"content":"two"}"#) && last.contains("[DONE]"), "{last}");
}

// The server.

/// Requests of both kinds whose runs have begun.
fn under_way<'a>(simulator: &'a Simulator, program: &Program) -> [(Stepped<'a>, Connection); 2] {
    [true, false].map(|stream| {
        let runs = simulator.stats().runs;
        let mut connection = program.chat_connection(fields(SILENT, stream));
        let run = Stepped::nth(simulator, runs + 1);
        run.says("one ");
        if stream {
            connection.head();
            connection.chunk().unwrap();
        }
        (run, connection)
    })
}

#[test]
fn answers_under_way_are_finished_when_the_server_is_told_to_stop() {
    for signal in [Signal::TERM, Signal::INT] {
        let (simulator, mut program) = start();
        let [(streamed, mut stream), (whole, mut answer)] = under_way(&simulator, &program);
        program.signal(signal);
        wait_until("no new connections", || {
            std::net::TcpStream::connect(program.address()).is_err()
        });
        streamed.says("one two ");
        assert!(String::from_utf8(stream.chunk().unwrap()).unwrap().contains("two "));
        streamed.ends("one two three");
        assert!(stream.rest().contains("[DONE]"));
        whole.ends("all of it");
        assert_eq!(answer.response().content(), "all of it");
        assert_eq!(program.wait().code(), Some(0), "{}", program.log());
    }
}

#[test]
fn answers_that_take_too_long_to_stop_are_told_why_they_end() {
    let (simulator, mut program) = start_with(&[("LANGFAST2API_SHUTDOWN_TIMEOUT", "0.3")]);
    let [(_, mut stream), (_, mut answer)] = under_way(&simulator, &program);
    // One whose status has not been sent yet.
    let mut early = program.chat_connection(fields(SILENT, true));
    simulator.wait_until(|stats| stats.runs == 3);
    program.signal(Signal::TERM);
    let last = String::from_utf8(stream.chunk().unwrap()).unwrap();
    assert!(last.starts_with(r#"data: {"error":{"#) && last.contains("shutting down"), "{last}");
    assert_eq!(stream.chunk(), None, "and nothing that looks like an end");
    for response in [answer.response(), early.response()] {
        assert_eq!(response.status, 503, "{}", response.text());
        assert_eq!(response.header("retry-after"), None);
        assert_eq!(response.header("x-should-retry"), Some("false"), "its run was started");
        assert!(response.error()["message"].as_str().unwrap().contains("shutting down"));
    }
    assert_eq!(program.wait().code(), Some(0), "{}", program.log());
}

#[test]
fn answers_whose_runs_are_still_being_started_are_told_too() {
    // So many requests LangFast has got when nothing goes on any more; each of the two starts its own run.
    let steps =
        [(Step::SignUp, 1), (Step::CreatePrompt, 3), (Step::Connect, 3), (Step::Run, 3 + 2)];
    for (step, requests) in steps {
        let (simulator, mut program) = start_with(&[("LANGFAST2API_SHUTDOWN_TIMEOUT", "0.3")]);
        simulator.fault(step, Fault::hang().times(2));
        let mut held = [true, false].map(|stream| program.chat_connection(fields("hello", stream)));
        simulator.wait_until(|stats| stats.http_requests >= requests);
        wait_until("both requests to be under way", || under_way_now(&program) == 2);
        program.signal(Signal::TERM);
        for response in held.each_mut().map(Connection::response) {
            is_told_of_the_end(&response);
            // Only once the run request has been sent may the run exist, and cost another time.
            let expected =
                if step == Step::Run { (Some("false"), None) } else { (None, Some("1")) };
            let found = (response.header("x-should-retry"), response.header("retry-after"));
            assert_eq!(found, expected, "{step:?}");
        }
        assert_eq!(program.wait().code(), Some(0), "{}", program.log());
    }
}

#[test]
fn who_waits_for_the_sign_in_of_a_client_that_has_left_is_told_too() {
    for (step, requests) in [(Step::SignUp, 1), (Step::CreatePrompt, 3)] {
        let (simulator, mut program) = start_with(&[("LANGFAST2API_SHUTDOWN_TIMEOUT", "0.3")]);
        simulator.fault(step, Fault::hang().times(2));
        let leaves = program.chat_connection(fields("hello", true));
        simulator.wait_until(|stats| stats.http_requests >= requests);
        let mut stays = program.chat_connection(fields("hello", true));
        wait_until("both requests to be under way", || under_way_now(&program) == 2);
        drop(leaves);
        program.signal(Signal::TERM);
        is_told_of_the_end(&stays.response());
        assert_eq!(program.wait().code(), Some(0), "{}", program.log());
    }
}

fn under_way_now(program: &Program) -> u64 {
    program.get("/status").json()["under_way"].as_u64().unwrap()
}

fn is_told_of_the_end(response: &Response) {
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.error()["message"].as_str().unwrap().contains("shutting down"));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let (simulator, mut program) = start_with(&[("LANGFAST2API_SHUTDOWN_TIMEOUT", "3600")]);
    let [(_, mut stream), _] = under_way(&simulator, &program);
    program.signal(Signal::TERM);
    wait_until("no new connections", || std::net::TcpStream::connect(program.address()).is_err());
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0), "{}", program.log());
    // What was cut does not look complete, however it was cut.
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream.stream, &mut rest);
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(!rest.contains("[DONE]") && !rest.contains(r#""finish_reason":""#), "{rest}");
}
