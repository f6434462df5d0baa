//! The one socket on which all runs' events arrive: shared, kept alive, and made again when it is
//! lost, without a character lost or doubled.

use crate::simulator::{Fault, Simulator, Step};
use crate::support::relay::{CERTIFICATE, Relay};
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Connection, Program, Start, start_stepped, streamed, user, wait_until};
use rustix::process::Signal;

fn next_chunk(connection: &mut Connection) -> String {
    String::from_utf8(connection.chunk().expect("a chunk")).unwrap()
}

/// Ends a streamed run that has said `so_far`, and checks that its stream ends too.
fn finish(run: &Stepped<'_>, mut connection: Connection, so_far: &str) {
    run.ends(&format!("{so_far}end"));
    let rest = connection.rest();
    assert!(rest.contains(r#"{"content":"end"}"#) && rest.contains("[DONE]"), "{rest}");
}

/// How the kernel names the state of each thread.
fn thread_states(program: &Program) -> impl Iterator<Item = char> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap();
    // A thread may end meanwhile.
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats.map(|stat| stat.rsplit_once(") ").unwrap().1.chars().next().unwrap())
}

/// A streamed run that has said "one ", which has been read.
fn run_under_way<'a>(simulator: &'a Simulator, program: &Program) -> (Stepped<'a>, Connection) {
    let runs = simulator.stats().runs;
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::nth(simulator, runs + 1);
    run.says("one ");
    connection.head();
    assert_eq!(connection.next_text(), "one ");
    (run, connection)
}

#[test]
fn many_runs_at_once_share_one_socket() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    let content = |number: usize| format!("/sim say=answer%20number%20{number} delay=20");
    let held: Vec<_> =
        (0..50).map(|number| program.chat_connection(streamed(&content(number)))).collect();
    for (number, mut connection) in held.into_iter().enumerate() {
        let response = connection.response();
        assert_eq!(response.streamed_text(0), format!("answer number {number}"));
        assert!(response.is_done());
    }
    let stats = simulator.stats();
    assert_eq!((stats.connects, stats.open_sockets, stats.runs), (1, 1, 50));
    assert_eq!((stats.signups, stats.prompts), (1, 1));
}

#[test]
fn the_socket_is_connected_before_a_run_is_started() {
    let simulator = Simulator::start();
    simulator.fault(Step::Connect, Fault::slow(500));
    let program = Program::start(&simulator.url());
    // A run that emits at once would be missed.
    assert_eq!(program.ask("/sim say=Hello events=1 delay=0").content(), "Hello");
}

#[test]
fn a_cut_socket_is_made_again_and_the_text_goes_on_where_it_stopped() {
    let (simulator, program) = start_stepped();
    let (run, mut connection) = run_under_way(&simulator, &program);
    simulator.cut_sockets();
    simulator.wait_until(|stats| stats.connects == 2);
    run.says("one two three ");
    assert_eq!(connection.next_text(), "two three ");
    finish(&run, connection, "one two three ");
}

#[test]
fn a_stream_is_told_by_comments_that_its_connection_is_lost_and_there_again() {
    let (simulator, program) = start_stepped();
    let (run, mut connection) = run_under_way(&simulator, &program);
    simulator.fault(Step::Connect, Fault::status(503));
    simulator.cut_sockets();
    assert_eq!(
        next_chunk(&mut connection),
        ": the connection to LangFast is lost; connecting again\n"
    );
    assert_eq!(next_chunk(&mut connection), ": connected to LangFast again\n");
    finish(&run, connection, "one ");
}

#[test]
fn who_bears_no_comments_is_told_nothing_of_a_connection_that_is_lost() {
    let simulator = Simulator::builder().literal_socket().start();
    let program = Start::new(&simulator.url()).args(["--keep-alive", "0"]).start();
    let (run, mut connection) = run_under_way(&simulator, &program);
    simulator.cut_sockets();
    simulator.wait_until(|stats| stats.connects == 2);
    run.says("one two ");
    assert!(next_chunk(&mut connection).starts_with("data: "));
    finish(&run, connection, "one two ");
}

#[test]
fn runs_whose_socket_does_not_come_back_end_with_an_error_that_names_the_limit() {
    let simulator = Simulator::builder().literal_socket().start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_RECONNECT_TIMEOUT", "1").start();
    let (_run, mut connection) = run_under_way(&simulator, &program);
    let whole = program.chat_connection(user(SILENT));
    simulator.wait_until(|stats| stats.runs == 2);
    simulator.fault(Step::Connect, Fault::status(503).times(1000));
    simulator.cut_sockets();
    let rest = connection.rest();
    assert!(rest.contains("RECONNECT_TIMEOUT") && !rest.contains("[DONE]"), "{rest}");
    let mut whole = whole;
    let whole = whole.response();
    assert_eq!(whole.status, 502);
    assert_eq!(whole.header("x-should-retry"), Some("false"), "the run may have gone on");
    assert!(whole.text().contains("RECONNECT_TIMEOUT"), "{}", whole.text());
}

#[test]
fn twenty_streams_lose_and_double_nothing_when_sockets_are_cut() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    let content = |number: usize| {
        let words: String = (0..60).map(|word| format!("{number}.{word}%20")).collect();
        format!("/sim say={words} events=60 delay=60")
    };
    let expected =
        |number: usize| (0..60).map(|word| format!("{number}.{word} ")).collect::<String>();
    let held: Vec<_> =
        (0..20).map(|number| program.chat_connection(streamed(&content(number)))).collect();
    simulator.wait_until(|stats| stats.runs == 20);
    for cut in 1..=2 {
        simulator.wait_until(|stats| stats.connects == cut);
        simulator.cut_sockets();
    }
    for (number, mut connection) in held.into_iter().enumerate() {
        let response = connection.response();
        assert_eq!(response.streamed_text(0), expected(number));
        assert!(response.is_done(), "{}", response.text());
    }
    assert_eq!(simulator.stats().connects, 3);
}

#[test]
fn a_last_event_that_was_emitted_while_nobody_was_there_is_an_error_and_no_end() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_SILENCE_TIMEOUT", "1").start();
    assert_eq!(program.ask("Hi").content(), "Hi");
    // The socket is cut in front of the last event, and is not there again before that is gone.
    simulator.fault(Step::Connect, Fault::status(503));
    let response = program.ask_stream("/sim say=one%20two cut=1 delay=0");
    assert_eq!(response.streamed_text(0), "one ");
    assert!(!response.is_done());
    let error = &response.chunks().pop().unwrap()["error"];
    assert!(error["message"].as_str().unwrap().contains("SILENCE_TIMEOUT"), "{error}");
}

#[test]
fn pings_are_answered_while_nothing_else_happens() {
    for literal in [false, true] {
        let simulator = Simulator::builder().ping_interval(50).ping_timeout(2_000);
        let simulator = if literal { simulator.literal_socket() } else { simulator }.start();
        let relay = Relay::to(&simulator.url());
        let program = Start::new(&simulator.url()).arg("--runner-url").arg(relay.url()).start();
        assert_eq!(program.ask("Hi").content(), "Hi");
        // The next answers come over the socket that was idle for twenty pings.
        let passed = relay.passed();
        crate::support::wait_until("twenty pings", || relay.passed() >= passed + 20);
        assert_eq!(program.ask("Hi").content(), "Hi");
        let stats = simulator.stats();
        assert_eq!((stats.connects, stats.open_sockets), (1, 1));
    }
}

#[test]
fn a_program_that_was_stopped_and_goes_on_keeps_its_socket() {
    let (simulator, program) = start_stepped();
    let (run, connection) = run_under_way(&simulator, &program);
    program.signal(Signal::STOP);
    wait_until("every thread stopped", || thread_states(&program).all(|state| state == 'T'));
    program.signal(Signal::CONT);
    wait_until("it goes on", || thread_states(&program).all(|state| state != 'T'));
    finish(&run, connection, "one ");
    let stats = simulator.stats();
    assert_eq!((stats.connects, stats.open_sockets), (1, 1), "{}", program.log());
}

#[test]
fn a_peer_that_says_nothing_any_more_is_taken_for_dead_and_left() {
    let simulator =
        Simulator::builder().literal_socket().ping_interval(200).ping_timeout(200).start();
    let relay = Relay::to(&simulator.url());
    let program = Start::new(&simulator.url()).arg("--runner-url").arg(relay.url()).start();
    let (run, mut connection) = run_under_way(&simulator, &program);
    relay.mute(true);
    program.wait_for_log("no ping in time");
    relay.mute(false);
    simulator.wait_until(|stats| stats.connects == 2);
    run.says("one two ");
    assert_eq!(connection.next_text(), "two ");
    finish(&run, connection, "one two ");
}

#[test]
fn a_server_that_disconnects_is_connected_to_again() {
    let (simulator, program) = start_stepped();
    for (number, frame) in ["41", "1", "41/,"].into_iter().enumerate() {
        let (run, mut connection) = run_under_way(&simulator, &program);
        let connects = simulator.stats().connects;
        assert_eq!(connects, number + 1);
        simulator.emit_raw(frame);
        simulator.wait_until(|stats| stats.connects == connects + 1);
        run.says("one two ");
        assert_eq!(connection.next_text(), "two ", "{frame}");
        finish(&run, connection, "one two ");
    }
}

#[test]
fn a_runner_that_refuses_for_a_while_is_tried_until_it_does_not() {
    for fault in [
        Fault::status(503).times(2),
        Fault::status(500).times(2),
        Fault::reset().times(2),
        Fault::refuse("server busy").times(3),
    ] {
        let (simulator, program) = start_stepped();
        let (run, mut connection) = run_under_way(&simulator, &program);
        simulator.fault(Step::Connect, fault.clone());
        simulator.cut_sockets();
        simulator.wait_until(|stats| stats.connects == 2);
        run.says("one two ");
        assert_eq!(connection.next_text(), "two ", "{fault:?}");
        finish(&run, connection, "one two ");
        assert_eq!(simulator.stats().signups, 1);
    }
}

#[test]
fn a_runner_that_cannot_be_reached_for_a_while_is_tried_until_it_can() {
    let simulator = Simulator::builder().literal_socket().start();
    let relay = Relay::to(&simulator.url());
    let program = Start::new(&simulator.url()).arg("--runner-url").arg(relay.url()).start();
    let (run, mut connection) = run_under_way(&simulator, &program);
    relay.close(true);
    relay.cut();
    program.wait_for_log("runner: Could not connect");
    relay.close(false);
    simulator.wait_until(|stats| stats.connects == 2);
    run.says("one two ");
    assert_eq!(connection.next_text(), "two ");
    finish(&run, connection, "one two ");
}

#[test]
fn a_socket_that_is_lost_with_an_expired_token_comes_back_with_a_new_one() {
    let (simulator, program) = start_stepped();
    let (run, mut connection) = run_under_way(&simulator, &program);
    simulator.expire_tokens();
    simulator.cut_sockets();
    simulator.wait_until(|stats| stats.connects == 2);
    run.says("one two ");
    assert_eq!(connection.next_text(), "two ");
    finish(&run, connection, "one two ");
    let stats = simulator.stats();
    assert_eq!((stats.refreshes, stats.signups), (1, 1));
}

#[test]
fn a_new_user_gets_a_new_socket_and_a_prompt_of_its_own() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    assert_eq!(program.ask("Hi").content(), "Hi");
    simulator.revoke_refresh_tokens();
    simulator.expire_tokens();
    assert_eq!(program.ask("Hi").content(), "Hi");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.connects, stats.prompts, stats.runs), (2, 2, 2, 2));
    simulator.wait_until(|stats| stats.open_sockets == 1);
    let runs = simulator.runs();
    assert_ne!(runs[0]["created_by"], runs[1]["created_by"]);
}

#[test]
fn a_user_who_turns_out_to_be_gone_when_the_socket_connects_is_replaced() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    assert_eq!(program.ask("Hi").content(), "Hi");
    simulator.revoke_refresh_tokens();
    simulator.expire_tokens();
    simulator.cut_sockets();
    program.wait_for_log("runner: socket lost");
    assert_eq!(program.ask("Hi").content(), "Hi");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.connects, stats.runs), (2, 2, 2));
}

#[test]
fn many_requests_that_find_their_user_gone_become_the_new_user_together() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    assert_eq!(program.ask("Hi").content(), "Hi");
    simulator.revoke_refresh_tokens();
    simulator.expire_tokens();
    let held: Vec<_> = (0..20).map(|_| program.chat_connection(user("Hi"))).collect();
    for mut connection in held {
        assert_eq!(connection.response().content(), "Hi");
    }
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.runs), (2, 21));
}

#[test]
fn a_message_too_long_to_be_an_answer_costs_the_socket_and_not_the_runs() {
    let (simulator, program) = start_stepped();
    let (run, mut connection) = run_under_way(&simulator, &program);
    simulator.emit_raw(&format!("42[\"x\",\"{}\"]", "x".repeat(40 << 20)));
    simulator.wait_until(|stats| stats.connects == 2);
    run.says("one two ");
    assert_eq!(connection.next_text(), "two ");
    finish(&run, connection, "one two ");
}

// A socket that nobody needs. Pings, the only other frames, come every 25 s: no wait is as long.

#[test]
fn a_socket_that_is_not_to_be_kept_is_closed_as_soon_as_nobody_needs_it() {
    let simulator = Simulator::builder().literal_socket().start();
    let tls = Relay::with_tls(&simulator.url());
    let over_tls = format!("https://localhost:{}", tls.address().port());
    for (round, url) in [simulator.url(), over_tls].into_iter().enumerate() {
        for keep_warm in ["0", "0.3"] {
            let start = Start::new(&simulator.url()).arg("--runner-url").arg(&url);
            let start = start.env("SSL_CERT_FILE", CERTIFICATE);
            let program = start.env("LANGFAST2API_KEEP_WARM", keep_warm).start();
            let connects = simulator.stats().connects;
            for asked in 1..=2 {
                assert_eq!(program.ask("Hi").content(), "Hi");
                let stats = simulator.wait_until(|stats| stats.open_sockets == 0);
                assert_eq!(stats.connects, connects + asked, "round {round}");
            }
            program.wait_for_log("runner: socket closed, nobody needs it");
            assert!(!program.log().contains("socket lost"), "{}", program.log());
        }
    }
}

#[test]
fn no_run_is_lost_on_a_socket_that_is_closed_whenever_nobody_needs_it() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_KEEP_WARM", "0").start();
    // Between two waves nobody needs it for a moment, about as long as its thread takes to notice.
    for _ in 0..25 {
        std::thread::sleep(std::time::Duration::from_millis(fastrand::u64(50..150)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..2 {
                        let text = format!("answer {number}");
                        assert_eq!(program.ask(&text).content(), text);
                    }
                });
            }
        });
    }
    let stats = simulator.wait_until(|stats| stats.open_sockets == 0);
    assert_eq!(stats.runs, 200);
    assert!(stats.connects > 1, "it was closed at times: {stats:?}");
}
