//! LangFast refusing or failing at each step before a run: what the client is told, what is tried
//! again, and what never is.

use std::io::Read;
use std::time::Duration;

use crate::simulator::{Fault, Simulator, Step};
use crate::support::relay::Relay;
use crate::support::{Program, Response, Start, free_address, user};
use serde_json::{Value, json};

/// With deadlines that pass quickly.
fn quick(simulator: &Simulator) -> Start {
    Start::new(&simulator.url())
        .env("LANGFAST2API_CONNECT_TIMEOUT", "1")
        .env("LANGFAST2API_REQUEST_TIMEOUT", "1")
}

/// A simulator at which these faults wait, and a program in front of it.
fn start_with(step: Step, fault: Fault) -> (Simulator, Program) {
    let simulator = Simulator::start();
    simulator.fault(step, fault);
    let program = quick(&simulator).start();
    (simulator, program)
}

/// The answer to a request that meets this fault whenever it comes to this step; whole and streamed
/// requests are told the same.
fn refused(step: Step, fault: &Fault) -> (Response, Simulator, Program) {
    let (simulator, program) = start_with(step, fault.clone().times(1000));
    let response = program.ask("Hi");
    let streamed = program.ask_stream("Hi");
    if response.header("retry-after").is_none() {
        assert_eq!(streamed.status, response.status, "{}", streamed.text());
        let kind = |response: &Response| {
            ["type", "param", "code"].map(|name| response.error()[name].clone())
        };
        assert_eq!(kind(&streamed), kind(&response));
        // A spent quota is remembered, and that is added.
        assert!(message(&streamed).starts_with(&message(&response)), "{}", streamed.text());
    }
    assert_ne!(streamed.status, 200);
    assert_eq!(simulator.stats().runs, 0, "nothing was started");
    (response, simulator, program)
}

fn message(response: &Response) -> String {
    response.error()["message"].as_str().unwrap().to_owned()
}

/// The HTTP steps, and how the messages name them.
const STEPS: [(Step, &str); 3] = [
    (Step::SignUp, "sign in"),
    (Step::CreatePrompt, "create a prompt"),
    (Step::Run, "start the run"),
];

/// Whether an SDK must be kept from trying again: a run may have been started.
fn should_retry(step: Step) -> Option<&'static str> {
    (step == Step::Run).then_some("false")
}

#[test]
fn a_refusal_is_passed_on_in_langfasts_words_with_the_step_that_it_came_at() {
    for (step, name) in STEPS {
        for (body, words) in [
            (json!({"code": 400, "error_code": "bad", "msg": "No such luck"}), "No such luck"),
            (json!({"code": "22023", "message": "No such luck"}), "No such luck"),
            (json!({"error": "No such luck"}), "No such luck"),
            (json!({"error": {"message": "No such luck", "code": "x"}}), "No such luck"),
        ] {
            let fault = Fault::status(400).body(&body.to_string());
            let (response, _simulator, _program) = refused(step, &fault);
            assert_eq!(response.status, 502, "{body}");
            assert_eq!(response.error()["type"], "upstream_error");
            let message = message(&response);
            assert!(message.contains(name) && message.contains(words), "{message}");
            assert!(message.contains("HTTP 400"), "{message}");
        }
    }
}

#[test]
fn what_langfast_says_of_the_request_is_the_clients_error() {
    for (words, code) in [
        ("This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
        ("Unsupported parameter: 'top_p' is not supported.", "unsupported_parameter"),
        ("Unsupported value: 'temperature' does not support 0.5.", "unsupported_value"),
    ] {
        let fault = Fault::status(400).body(&json!({ "error": words }).to_string());
        let (response, _simulator, _program) = refused(Step::Run, &fault);
        assert_eq!(response.status, 400, "{words}");
        let error = response.error();
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("invalid_request_error"), &json!(code))
        );
        assert_eq!(response.header("x-should-retry"), Some("false"));
    }
}

#[test]
fn a_server_error_is_tried_again_where_that_does_no_harm_and_then_told() {
    for (step, name) in STEPS {
        for status in [500, 502, 504, 520] {
            let page = "<html><body><h1>502 Bad Gateway</h1></body></html>";
            let fault = Fault::status(status).header("content-type", "text/html").body(page);
            let (response, _simulator, _program) = refused(step, &fault);
            assert_eq!(response.status, 502);
            assert_eq!(response.header("x-should-retry"), should_retry(step), "{step:?}");
            let message = message(&response);
            assert!(message.contains(name) && message.contains(&status.to_string()), "{message}");
            assert!(!message.contains('<'), "{message}");

            let (simulator, program) = start_with(step, fault);
            let response = program.ask("Hi");
            if step == Step::Run {
                assert_eq!(response.status, 502, "a run is never tried again");
                assert_eq!(simulator.stats().runs, 0);
            } else {
                assert_eq!(response.content(), "Hi");
                let stats = simulator.stats();
                assert_eq!((stats.signups, stats.prompts, stats.runs), (1, 1, 1));
            }
        }
    }
}

#[test]
fn a_503_keeps_its_retry_after() {
    for (step, _) in STEPS {
        let fault = Fault::status(503).header("retry-after", "7");
        let (response, _simulator, _program) = refused(step, &fault);
        assert_eq!((response.status, response.header("retry-after")), (503, Some("7")), "{step:?}");
        assert_eq!(response.error()["code"], "upstream_unavailable");
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_named_and_not_asked_for_again() {
    for (step, name) in STEPS {
        for body in
            ["", "<html>Welcome</html>", "{", "null", "{}", "[]", "7", "\"\"", r#"{"jobs":[]}"#]
        {
            let fault = Fault::status(200).body(body);
            let (response, _simulator, _program) = refused(step, &fault);
            assert_eq!(response.status, 502, "{step:?} {body:?}");
            assert_eq!(response.header("x-should-retry"), should_retry(step));
            let message = message(&response);
            assert!(message.contains(name) && message.contains("not understood"), "{message}");
        }
        for status in [204, 302, 304] {
            let (response, _simulator, _program) = refused(step, &Fault::status(status));
            assert_eq!(response.status, 502, "{step:?} {status}: {}", message(&response));
        }
    }
}

#[test]
fn an_answer_that_is_far_too_long_is_not_taken() {
    for (step, _) in STEPS {
        let fault = Fault::status(200).body(&"x".repeat(3 << 20));
        let (response, _simulator, _program) = refused(step, &fault);
        assert_eq!(response.status, 502);
        assert!(message(&response).contains("too long"), "{}", message(&response));
    }
}

#[test]
fn a_call_that_hangs_is_ended_by_its_deadline_which_is_named() {
    for (step, name) in STEPS {
        let (response, _simulator, _program) = refused(step, &Fault::hang());
        assert_eq!(response.status, 504, "{}", response.text());
        assert_eq!(response.error()["code"], "timeout");
        assert_eq!(response.header("x-should-retry"), should_retry(step));
        let message = message(&response);
        assert!(message.contains(name), "{message}");
        assert!(
            message.contains("within 1 s (--request-timeout or LANGFAST2API_REQUEST_TIMEOUT sets"),
            "{message}"
        );
    }
}

#[test]
fn a_connection_that_breaks_is_tried_again_where_that_does_no_harm_and_then_told() {
    for (step, name) in STEPS {
        let (response, _simulator, _program) = refused(step, &Fault::reset());
        assert_eq!(response.status, 502, "{}", response.text());
        assert_eq!(response.header("x-should-retry"), should_retry(step));
        let told = message(&response);
        assert!(told.contains(name) && told.contains("broke"), "{told}");

        let (_simulator, program) = start_with(step, Fault::reset());
        let response = program.ask("Hi");
        assert_eq!(response.status, if step == Step::Run { 502 } else { 200 }, "{step:?}");
    }
}

#[test]
fn a_rate_limit_is_passed_on_with_its_time_and_nobody_new_is_signed_up() {
    for (step, name) in STEPS {
        for (header, expected) in
            [("7", "7"), ("0", "1"), ("", "1"), ("Wed, 21 Oct 2026 07:28:00 GMT", "1")]
        {
            let body =
                json!({"code": 429, "error_code": "over_request_rate_limit", "msg": "Slow down"});
            let fault = Fault::status(429).header("retry-after", header).body(&body.to_string());
            let (response, simulator, _program) = refused(step, &fault);
            assert_eq!(response.status, 429);
            assert_eq!(response.header("retry-after"), Some(expected), "{header:?}");
            assert_eq!(response.header("x-should-retry"), None);
            let error = response.error();
            assert_eq!(
                (&error["type"], &error["code"]),
                (&json!("requests"), &json!("rate_limit_exceeded"))
            );
            let message = message(&response);
            assert!(message.contains(name) && message.contains("Slow down"), "{message}");
            let stats = simulator.stats();
            assert_eq!(stats.signups, usize::from(step != Step::SignUp));
            assert_eq!(stats.refreshes, 0);
        }
    }
}

#[test]
fn after_a_rate_limit_at_sign_in_langfast_is_left_alone() {
    let (simulator, program) =
        start_with(Step::SignUp, Fault::status(429).header("retry-after", "60"));
    assert_eq!(program.ask("Hi").status, 429);
    let asked = simulator.stats().http_requests;
    let response = program.ask("Hi");
    assert_eq!(response.status, 503);
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    assert_eq!(simulator.stats().http_requests, asked);
}

#[test]
fn a_spent_quota_is_told_apart_from_a_rate_and_not_to_be_tried_again() {
    for (status, words) in [
        (429, "You have reached your daily limit of 50 requests"),
        (403, "Quota exceeded"),
        (402, "Monthly limit reached. Upgrade your plan"),
    ] {
        let fault = Fault::status(status).header("retry-after", "7");
        let fault = fault.body(&json!({ "error": words }).to_string());
        let (response, simulator, _program) = refused(Step::Run, &fault);
        assert_eq!(response.status, 429, "{words}");
        assert_eq!(response.error()["type"], "insufficient_quota");
        assert_eq!(response.error()["code"], "insufficient_quota");
        assert_eq!(response.header("retry-after"), None);
        assert_eq!(response.header("x-should-retry"), Some("false"));
        assert_eq!(simulator.stats().signups, 1, "no new identity for a spent quota");
    }
}

#[test]
fn a_forbidden_account_is_a_403() {
    for (step, name) in STEPS {
        let fault = Fault::status(403).body(r#"{"message":"Not for you"}"#);
        let (response, simulator, _program) = refused(step, &fault);
        assert_eq!(response.status, 403);
        assert_eq!(response.error()["type"], "permission_error");
        assert_eq!(response.header("x-should-retry"), Some("false"));
        assert!(message(&response).contains(name));
        assert!(simulator.stats().signups <= 1);
    }
}

#[test]
fn a_refused_token_is_renewed_once_and_the_step_repeated_once() {
    for step in [Step::CreatePrompt, Step::Run] {
        let (simulator, program) = start_with(step, Fault::status(401));
        assert_eq!(program.ask("Hi").content(), "Hi", "{step:?}");
        let stats = simulator.stats();
        assert_eq!((stats.signups, stats.refreshes, stats.runs), (1, 1, 1), "{step:?}");
        assert_eq!((stats.prompts, stats.connects), (1, 1), "{step:?}");

        let (simulator, program) = start_with(step, Fault::status(401).times(2));
        let response = program.ask("Hi");
        assert_eq!((response.status, simulator.stats().refreshes), (403, 1), "{step:?}");
        assert_eq!(program.ask("Hi").content(), "Hi", "and the next request is served");
    }
}

#[test]
fn an_expired_token_is_renewed_and_nothing_else_changes() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    assert_eq!(program.ask("Hi").content(), "Hi");
    simulator.expire_tokens();
    assert_eq!(program.ask("Hi").content(), "Hi");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.prompts), (1, 1, 1));
    assert_eq!((stats.runs, stats.connects), (2, 1), "the socket stays");
}

#[test]
fn requests_that_meet_an_expired_token_together_renew_it_once() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    assert_eq!(program.ask("Hi").content(), "Hi");
    simulator.expire_tokens();
    let held: Vec<_> = (0..20).map(|_| program.chat_connection(user("Hi"))).collect();
    for mut connection in held {
        assert_eq!(connection.response().content(), "Hi");
    }
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.runs), (1, 1, 21));
}

#[test]
fn a_prompt_that_was_deleted_is_made_again() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    assert_eq!(program.ask("Hi").content(), "Hi");
    let gone = Fault::status(400).body(r#"{"error":"there is no prompt 123"}"#);
    simulator.fault(Step::Run, gone.clone());
    assert_eq!(program.ask("Hi").content(), "Hi");
    assert_eq!((simulator.stats().prompts, simulator.stats().runs), (2, 2));
    // One that is new cannot be the reason.
    simulator.fault(Step::Run, gone.clone().times(3));
    assert_eq!(program.ask("Hi").status, 502);
    assert_eq!((simulator.stats().prompts, simulator.stats().runs), (3, 2));
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    simulator.fault(Step::Run, gone);
    assert_eq!(program.ask("Hi").status, 502);
    assert_eq!((simulator.stats().prompts, simulator.stats().runs), (1, 0));
}

#[test]
fn a_run_whose_answer_was_lost_is_not_started_again() {
    let simulator = Simulator::start();
    let relay = Relay::to(&simulator.url());
    let program = Start::new(&relay.url()).arg("--runner-url").arg(simulator.url()).start();
    assert_eq!(program.ask("Hi").content(), "Hi");
    relay.mute(true);
    let mut connection = program.chat_connection(user("Hi"));
    simulator.wait_until(|stats| stats.runs == 2);
    relay.cut();
    let response = connection.response();
    assert_eq!(response.status, 502, "{}", response.text());
    assert_eq!(response.header("x-should-retry"), Some("false"));
    assert!(message(&response).contains("start the run"));
    relay.mute(false);
    assert_eq!(program.ask("Hi").content(), "Hi");
    assert_eq!(simulator.stats().runs, 3);
}

#[test]
fn a_run_that_is_answered_too_late_is_not_started_again() {
    let (simulator, program) = start_with(Step::Refresh, Fault::reset());
    let response = program.ask("/sim slowrun=1500");
    assert_eq!(response.status, 504);
    assert_eq!(response.header("x-should-retry"), Some("false"));
    simulator.wait_until(|stats| stats.runs == 1);
    assert_eq!(program.ask("Hi").content(), "Hi");
    assert_eq!(simulator.stats().runs, 2);
}

#[test]
fn a_connection_that_was_closed_while_it_was_idle_is_not_used() {
    let simulator = Simulator::start();
    let relay = Relay::to(&simulator.url());
    let program = Start::new(&relay.url()).arg("--runner-url").arg(simulator.url()).start();
    for run in 1..=5 {
        assert_eq!(program.ask("Hi").content(), "Hi");
        assert_eq!(simulator.stats().runs, run);
        relay.cut();
        crate::support::wait_until("the end of the connections", || relay.open() == 0);
    }
    assert!(!program.log().contains("once more"), "each was seen to be closed: {}", program.log());
}

#[test]
fn a_langfast_that_cannot_be_reached_is_told_apart_and_may_be_asked_again() {
    let simulator = Simulator::start();
    let relay = Relay::to(&simulator.url());
    let program = Start::new(&relay.url()).arg("--runner-url").arg(simulator.url()).start();
    assert_eq!(program.ask("Hi").content(), "Hi");
    drop(relay);
    let response = program.ask("Hi");
    assert_eq!(response.status, 502);
    assert_eq!(response.error()["code"], "upstream_unreachable");
    assert_eq!(response.header("x-should-retry"), None, "nothing was sent");
    assert!(message(&response).contains("refused"), "{}", message(&response));
    assert_eq!(simulator.stats().runs, 1);
}

#[test]
fn a_server_that_does_not_speak_http_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            if length == 0 {
                return;
            }
            std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.9\r\n\r\n").unwrap();
        }
    });
    let address = url["http://".len()..].to_owned();
    let response = quick_at(&url).start().ask("Hi");
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(message(&response).contains("not HTTP"), "{}", message(&response));
    // Ends the server's loop.
    drop(std::net::TcpStream::connect(address).unwrap());
    server.join().unwrap();
}

fn quick_at(url: &str) -> Start {
    Start::new(url).env("LANGFAST2API_REQUEST_TIMEOUT", "2")
}

// Connecting the socket.

#[test]
fn a_refused_socket_handshake_is_tried_once_more_and_then_told_by_its_status() {
    for (status, told) in [(500, 502), (502, 502), (503, 503), (404, 502), (403, 403), (429, 429)] {
        let (response, _simulator, _program) = refused(Step::Connect, &Fault::status(status));
        assert_eq!(response.status, told, "{}", response.text());
        let message = message(&response);
        assert!(message.contains("connect to the prompt runner"), "{message}");
        assert!(message.contains(&format!("HTTP {status}")), "{message}");
    }
    for status in [500, 503] {
        let (simulator, program) = start_with(Step::Connect, Fault::status(status));
        assert_eq!(program.ask("Hi").content(), "Hi", "{status}");
        assert_eq!(simulator.stats().connects, 1);
    }
}

#[test]
fn a_socket_that_is_told_to_wait_passes_the_time_on() {
    for status in [429, 503] {
        let fault = Fault::status(status).header("retry-after", "30");
        let (response, simulator, program) = refused(Step::Connect, &fault);
        assert_eq!(response.status, status);
        assert_eq!(response.header("retry-after"), Some("30"));
        let asked = simulator.stats().http_requests;
        assert_eq!(program.ask("Hi").status, status);
        assert_eq!(simulator.stats().http_requests, asked, "and LangFast is left alone");
    }
}

#[test]
fn a_socket_handshake_that_hangs_is_ended_by_its_deadline_which_is_named() {
    let (response, _simulator, _program) = refused(Step::Connect, &Fault::hang());
    assert_eq!(response.status, 504, "{}", response.text());
    let message = message(&response);
    assert!(message.contains("connect to the prompt runner"), "{message}");
    assert!(
        message.contains("within 1 s (--request-timeout or LANGFAST2API_REQUEST_TIMEOUT sets"),
        "{message}"
    );
}

#[test]
fn requests_that_wait_for_the_socket_do_so_without_taking_processor_time() {
    let simulator = Simulator::start();
    // The kernel accepts for it, and nobody ever answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let runner = format!("http://{}", silent.local_addr().unwrap());
    let start = Start::new(&simulator.url()).arg("--runner-url").arg(runner);
    let program = start.env("LANGFAST2API_REQUEST_TIMEOUT", "3").start();
    let held: Vec<_> = (0..3).map(|_| program.chat_connection(user("Hi"))).collect();
    simulator.wait_until(|stats| stats.prompts == 1);
    let before = program.processor_ticks();
    for mut connection in held {
        assert_eq!(connection.response().status, 504);
    }
    let taken = program.processor_ticks() - before;
    assert!(taken < 30, "{taken} hundredths of a second in three seconds");
}

#[test]
fn a_socket_handshake_that_breaks_is_tried_once_more() {
    let (simulator, program) = start_with(Step::Connect, Fault::reset());
    assert_eq!(program.ask("Hi").content(), "Hi");
    assert_eq!(simulator.stats().runs, 1);
    let (response, _simulator, _program) = refused(Step::Connect, &Fault::reset());
    assert_eq!(response.status, 502);
    assert!(message(&response).contains("broke"), "{}", message(&response));
}

#[test]
fn a_socket_that_is_refused_gets_one_new_token() {
    let (simulator, program) = start_with(Step::Connect, Fault::refuse("jwt expired"));
    assert_eq!(program.ask("Hi").content(), "Hi");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.connects, stats.runs), (1, 1, 1, 1));

    let (simulator, program) = start_with(Step::Connect, Fault::refuse("jwt expired").times(2));
    let response = program.ask("Hi");
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(message(&response).contains("jwt expired"), "{}", message(&response));
    let stats = simulator.stats();
    assert_eq!((stats.refreshes, stats.runs, stats.signups), (1, 0, 1));
    assert_eq!(program.ask("Hi").content(), "Hi");
}

#[test]
fn a_socket_that_is_always_refused_is_not_the_tokens_fault() {
    let (_, simulator, program) = refused(Step::Connect, &Fault::refuse("go away"));
    for _ in 0..3 {
        assert_eq!(program.ask("Hi").status, 502);
    }
    assert_eq!(simulator.stats().refreshes, 1);
}

#[test]
fn a_socket_that_is_refused_for_its_rate_gets_no_new_token() {
    let (response, simulator, _program) =
        refused(Step::Connect, &Fault::refuse("Too many requests, rate limit reached"));
    assert_eq!(response.status, 429);
    assert_eq!(simulator.stats().refreshes, 0);
}

#[test]
fn an_unreachable_runner_is_told_apart_from_an_unreachable_supabase() {
    let simulator = Simulator::start();
    let closed = free_address();
    let runner = format!("http://{closed}");
    let program = Start::new(&simulator.url()).arg("--runner-url").arg(runner).start();
    let response = program.ask("Hi");
    assert_eq!(response.status, 502);
    assert_eq!(response.error()["code"], "upstream_unreachable");
    let message = message(&response);
    assert!(message.contains("connect to the prompt runner"), "{message}");
    assert!(message.contains(&closed.port().to_string()), "{message}");
    assert_eq!(simulator.stats().runs, 0);
}

#[test]
fn many_that_fail_together_all_are_told_soon() {
    let simulator = Simulator::start();
    simulator.fault(Step::Connect, Fault::status(500).times(1000));
    let program = quick(&simulator).start();
    let held: Vec<_> = (0..30).map(|_| program.chat_connection(user("Hi"))).collect();
    for mut connection in held {
        // Twice the deadline of a step is more than two attempts and their pause take.
        let patience = Some(Duration::from_secs(4));
        connection.stream.get_mut().set_read_timeout(patience).unwrap();
        assert_eq!(connection.response().status, 502);
    }
    assert_eq!(simulator.stats().runs, 0);
}

#[test]
fn many_that_wait_for_the_same_step_wait_no_longer_than_one() {
    for step in [Step::SignUp, Step::CreatePrompt, Step::Connect] {
        let simulator = Simulator::start();
        simulator.fault(step, Fault::hang().times(1000));
        let program = quick(&simulator).start();
        let held: Vec<_> = (0..12).map(|_| program.chat_connection(user("Hi"))).collect();
        for mut connection in held {
            // One after the other they would take twelve seconds.
            let patience = Some(Duration::from_secs(5));
            connection.stream.get_mut().set_read_timeout(patience).unwrap();
            assert_eq!(connection.response().status, 504, "{step:?}");
        }
    }
}

#[test]
fn no_message_holds_a_token() {
    let words = json!({"error": format!("bad token eyJhbGciOiJIUzI1NiJ9.{} sent", "x".repeat(50))});
    for (step, _) in STEPS {
        let fault = Fault::status(400).body(&words.to_string());
        let (response, _simulator, program) = refused(step, &fault);
        let message = message(&response);
        assert!(message.contains("bad token [token] sent"), "{message}");
        assert!(!program.log().contains("eyJ"), "nor does the log");
        let error: Value = response.error();
        assert_eq!(error.as_object().unwrap().len(), 4);
    }
}

#[test]
fn a_choice_that_is_refused_beside_one_that_was_started_is_not_to_be_tried_again() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    program.ask("hello");
    simulator.fault(Step::Run, Fault::status(429).header("retry-after", "1").times(1));
    let mut fields = user("hello");
    fields["n"] = json!(2);
    let refused = program.chat(fields);
    assert_eq!((refused.status, refused.header("x-should-retry")), (429, Some("false")));
    assert_eq!(simulator.stats().runs, 2);
}

#[test]
fn tokens_that_expire_soon_after_each_other_are_renewed_each_time() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    for round in 0..3 {
        assert_eq!(program.ask("hello").content(), "hello");
        assert_eq!(simulator.stats().refreshes, round);
        simulator.expire_tokens();
        simulator.cut_sockets();
        simulator.wait_until(|stats| stats.open_sockets == 0);
    }
}
