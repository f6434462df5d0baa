//! The events of a run, whatever they are: what becomes of them in an answer, when the answer begins,
//! and when it is given up.

use crate::simulator::{Fault, Simulator, Step};
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Connection, Program, Response, Start, start, streamed, user, wait_until};
use serde_json::{Value, json};

fn start_literal() -> (Simulator, Program) {
    start_literal_with(&[])
}

fn start_literal_with(variables: &[(&str, &str)]) -> (Simulator, Program) {
    let simulator = Simulator::builder().literal_socket().start();
    let start = Start::new(&simulator.url());
    let start = variables.iter().fold(start, |start, (name, value)| start.env(name, value));
    (simulator, start.start())
}

fn chunk(connection: &mut Connection) -> String {
    String::from_utf8(connection.chunk().expect("a chunk")).unwrap()
}

/// A stream that must have ended with an error event and without anything that looks like an end:
/// the text before it, and the error.
fn broken_off(response: &Response) -> (String, Value) {
    assert_eq!(response.status, 200, "{}", response.text());
    let chunks = response.chunks();
    let (last, others) = chunks.split_last().unwrap();
    let error = last["error"].as_object().unwrap_or_else(|| panic!("{}", response.text()));
    assert_eq!((last.as_object().unwrap().len(), error.len()), (1, 4), "{last}");
    assert!(!response.is_done());
    assert!(others.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()));
    (response.streamed_text(0), json!(error))
}

fn message(error: &Value) -> &str {
    error["message"].as_str().unwrap()
}

// When the answer begins.

#[test]
fn a_run_that_fails_before_its_first_event_is_an_honest_status() {
    let (_simulator, program) = start();
    let response = program.ask_stream("/sim error=boom");
    assert_eq!(response.header("x-should-retry"), Some("false"), "the run was started");
    assert!(message(&response.error()).contains("run the prompt: boom"));
    for (words, status, kind, code) in [
        ("boom", 502, "upstream_error", "upstream_error"),
        ("Rate%20limit%20reached", 429, "requests", "rate_limit_exceeded"),
        (
            "maximum%20context%20length%20is%208192",
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        // Last, since it is remembered.
        ("Monthly%20quota%20exceeded", 429, "insufficient_quota", "insufficient_quota"),
    ] {
        let content = format!("/sim error={words}");
        for response in [program.ask(&content), program.ask_stream(&content)] {
            assert_eq!(response.status, status, "{words}");
            assert_eq!(response.header("content-type"), Some("application/json"));
            let error = response.error();
            assert_eq!((&error["type"], &error["code"]), (&json!(kind), &json!(code)));
        }
    }
}

#[test]
fn a_run_of_a_model_that_does_not_take_a_parameter_fails_as_the_models_maker_says_it() {
    let simulator = Simulator::start();
    // A models.json that promises too much.
    let directory = crate::support::Directory::new();
    let path = directory.path().join("models.json");
    let model = json!([{"slug": "gpt-5", "parameters": {"temperature": true, "stream": true,
        "message_types": ["developer", "user"]}}]);
    std::fs::write(&path, model.to_string()).unwrap();
    let start = Start::new(&simulator.url()).arg("--models").arg(&path);
    let program = start.args(["--refused-parameters", "error"]).start();
    let mut fields = streamed("Hi");
    fields["model"] = json!("gpt-5");
    fields["temperature"] = json!(0.5);
    let response = program.chat(fields);
    assert_eq!(response.status, 400, "{}", response.text());
    assert_eq!(response.error()["code"], "unsupported_parameter");
    assert!(message(&response.error()).contains("'temperature' is not supported"));
}

#[test]
fn one_failing_choice_fails_them_all() {
    let (simulator, program) = start_literal();
    let mut fields = streamed(SILENT);
    fields["n"] = json!(2);
    let mut connection = program.chat_connection(fields);
    let runs = [1, 2].map(|number| Stepped::nth(&simulator, number));
    runs[0].says("one");
    connection.head();
    chunk(&mut connection);
    runs[1].emits(json!({"error": "boom"}));
    let last = chunk(&mut connection);
    assert!(last.contains("boom") && !last.contains("[DONE]"), "{last}");
    assert_eq!(connection.chunk(), None);
}

#[test]
fn after_ten_seconds_of_nothing_the_answer_begins_and_is_kept_alive() {
    let (simulator, program) = start_literal_with(&[("LANGFAST2API_KEEP_ALIVE", "0.2")]);
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::only(&simulator);
    assert_eq!(connection.head().status, 200);
    let first = chunk(&mut connection);
    let (event, comment) = first.split_once("\n\n").unwrap();
    assert!(event.contains(r#""role":"assistant""#), "{first}");
    assert_eq!(comment, ": keep-alive\n");
    assert_eq!(chunk(&mut connection), ": keep-alive\n");
    run.ends("Hello");
    let body = first + &connection.rest();
    let response = Response { status: 200, head: String::new(), body: body.into(), complete: true };
    assert_eq!(response.streamed_text(0), "Hello");
    assert!(response.is_done());
    let roles =
        response.chunks().into_iter().filter(|c| c["choices"][0]["delta"]["role"].is_string());
    assert_eq!(roles.count(), 1);
}

#[test]
fn a_silent_stream_gets_comments_also_when_events_bring_no_text() {
    let (simulator, program) = start_literal_with(&[("LANGFAST2API_KEEP_ALIVE", "0.3")]);
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::only(&simulator);
    run.says("one");
    connection.head();
    chunk(&mut connection);
    assert_eq!(chunk(&mut connection), ": keep-alive\n");
    // Events without text come faster than comments are due.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let run = &run;
        scope.spawn(move || {
            let pause = std::time::Duration::from_millis(20);
            while stopped.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                run.says("one");
            }
        });
        assert_eq!(chunk(&mut connection), ": keep-alive\n");
        assert_eq!(chunk(&mut connection), ": keep-alive\n");
        drop(stop);
    });
    run.ends("one two");
    assert!(connection.rest().contains("[DONE]"));
}

#[test]
fn comments_can_be_turned_off() {
    let (_simulator, program) = start_literal_with(&[("LANGFAST2API_KEEP_ALIVE", "0")]);
    let response = program.ask_stream("/sim say=one%20two silence=700");
    assert!(response.is_done());
    assert!(!response.text().contains(": keep-alive"));
}

// Failing in the middle.

#[test]
fn a_failure_in_the_middle_is_an_error_event_and_never_text() {
    let (_simulator, program) = start_literal();
    for form in ["object", "string", "status"] {
        for more in ["", "as=string", "status=cancelled", "status=error"] {
            let content =
                format!("/sim say=one%20two%20three fail=2 error=boom error_as={form} {more}");
            let (text, error) = broken_off(&program.ask_stream(&content));
            assert_eq!(text, "one two ", "{content}");
            let expected = if form == "status" { "no reason given" } else { "boom" };
            assert!(message(&error).contains(expected), "{error}");
            assert_eq!(error["type"], "upstream_error");
            let whole = program.ask(&content);
            assert_eq!((whole.status, whole.error()), (502, error), "{content}");
        }
    }
}

#[test]
fn the_connection_ends_behind_a_failure_in_the_middle() {
    let (_simulator, program) = start_literal();
    let mut fields = user("/sim fail=2");
    fields["stream"] = json!(true);
    let mut connection = program.chat_connection(fields);
    assert!(!connection.response().is_done());
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut connection.stream, &mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn what_a_failing_event_says_is_never_text() {
    let (simulator, program) = start_literal();
    for (number, fields) in [
        json!({"status": "failed", "content": "Sorry, boom", "error": {"message": "boom"}}),
        json!({"status": "failed", "content": "one Sorry, boom"}),
        json!({"status": "completed", "content": "Sorry, boom", "error": "boom"}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut connection = program.chat_connection(streamed(SILENT));
        let run = Stepped::nth(&simulator, number + 1);
        run.says("one ");
        run.emits(fields.clone());
        let (text, _) = broken_off(&connection.response());
        assert_eq!(text, "one ", "{fields}");
    }
}

#[test]
fn failing_statuses_are_failures_and_unknown_ones_are_progress() {
    let (simulator, program) = start_literal();
    for status in ["failed", "error", "cancelled", "FAILED"] {
        let (text, _) =
            broken_off(&program.ask_stream(&format!("/sim say=one%20two status={status}")));
        assert_eq!(text, "one ", "{status}");
    }
    let runs = simulator.stats().runs;
    let mut connection = program.chat_connection(user(SILENT));
    let run = Stepped::nth(&simulator, runs + 1);
    for status in [json!("thinking"), json!("queued"), json!(""), Value::Null, json!(7), json!({})]
    {
        run.emits(json!({"status": status, "content": "one"}));
    }
    run.ends("one two");
    assert_eq!(connection.response().content(), "one two");
}

// Events that are not as they should be.

#[test]
fn events_that_are_repeated_stale_empty_or_foreign_change_nothing() {
    let (_simulator, program) = start();
    for words in [
        "",
        "repeat=1",
        "stale=1",
        "null=1",
        "foreign=1",
        "as=string",
        "done=completion_finished",
        "early=1",
        "early=1 slowrun=100",
        "slowrun=100",
        "repeat=1 stale=1 null=1 foreign=1 as=string done=completion_finished early=1",
    ] {
        for text in ["text=lorem", "text=unicode", "text=code", "text=unicode surrogate=1"] {
            let plain = program.ask(&format!("/sim {text} delay=0")).content();
            let content = format!("/sim {text} {words} delay=0");
            assert_eq!(program.ask(&content).content(), plain, "{content}");
            let response = program.ask_stream(&content);
            assert_eq!(response.streamed_text(0), plain, "{content}");
            assert!(response.is_done());
        }
    }
}

#[test]
fn a_stop_text_ends_the_final_text_too() {
    let (simulator, program) = start_literal();
    let mut fields = user(SILENT);
    fields["stop"] = json!("END");
    let mut connection = program.chat_connection(fields);
    let run = Stepped::only(&simulator);
    run.says("one two three");
    run.ends("one END");
    assert_eq!(connection.response().content(), "one ");
}

#[test]
fn completion_finished_without_a_text_waits_a_moment_for_the_last_one() {
    let (simulator, program) = start_literal_with(&[("LANGFAST2API_KEEP_ALIVE", "0.1")]);
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::only(&simulator);
    run.says("one ");
    connection.head();
    chunk(&mut connection);
    run.emits_as("completion_finished", json!({}));
    // It has been taken, and is waited on.
    assert_eq!(chunk(&mut connection), ": keep-alive\n");
    run.ends("one two");
    let rest = connection.rest();
    assert!(rest.contains(r#"{"content":"two"}"#) && rest.contains("[DONE]"), "{rest}");

    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::nth(&simulator, 2);
    run.says("one two");
    run.emits_as("completion_finished", json!({}));
    let response = connection.response();
    assert_eq!(response.streamed_text(0), "one two");
    assert!(response.is_done(), "and what it had is the answer");
}

#[test]
fn frames_of_other_kinds_in_between_are_passed_over() {
    let (simulator, program) = start_literal();
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::only(&simulator);
    let id = run.run_id();
    run.says("one ");
    let foreign = format!(r#"42/other,["execution:chunk",{{"runId":"{id}","content":"NO"}}]"#);
    let long = format!("42[\"x\",\"{}\"]", "x".repeat(1_000_000));
    for frame in [
        "",
        "x",
        "4",
        "42",
        "42[",
        "42{}",
        "42[]",
        "42[1]",
        "42[null,null]",
        "43[]",
        "431[1]",
        "6",
        "3",
        "5",
        "0{}",
        "0",
        "9",
        "\u{1f600}",
        "42[\"hello\"]",
        "42[\"hello\",7]",
        "42[\"hello\",{}]",
        r#"42["execution:chunk",[]]"#,
        r#"42["execution:chunk","not json"]"#,
        r#"42["execution:chunk",{"executionId":null,"content":"NO"}]"#,
        r#"42["execution:chunk",{"executionId":"someone else","content":"NO"}]"#,
        r#"42["execution:chunk",{"content":"NO","status":"completed"}]"#,
        r#"451-["execution:chunk",{"_placeholder":true,"num":0}]"#,
        r#"42["\ud83d",{}]"#,
        r#"44{"message":"no"}"#,
        r#"40{"sid":"again"}"#,
        &foreign,
        &long,
    ] {
        simulator.emit_raw(frame);
    }
    simulator.emit_binary(b"");
    simulator.emit_binary(&[0, 255, 42]);
    run.says("one two ");
    run.ends("one two three");
    let response = connection.response();
    assert_eq!(response.streamed_text(0), "one two three");
    assert!(response.is_done());
    assert_eq!(simulator.stats().connects, 1, "on the same socket: {}", program.log());
}

#[test]
fn a_failure_that_names_no_run_ends_only_a_run_that_alone_can_be_meant() {
    let (simulator, program) = start_literal();
    let failure = r#"42["execution:chunk",{"status":"failed","error":"boom"}]"#;
    // One that has shown no sign of life yet.
    let mut connection = program.chat_connection(user(SILENT));
    let silent = Stepped::nth(&simulator, 1);
    wait_until("the run's end", || {
        // Until it is known to have been started, it is not the only one that may be meant.
        simulator.emit_raw(failure);
        program.log().contains("error=refused")
    });
    let response = connection.response();
    assert!(message(&response.error()).contains("boom"), "{}", response.text());
    silent.says("one");

    // One that is under way: it may be another program's that has failed.
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::nth(&simulator, 2);
    run.says("one ");
    connection.head();
    chunk(&mut connection);
    simulator.emit_raw(failure);
    run.ends("one two");
    assert!(connection.rest().contains("[DONE]"), "{}", program.log());

    // One that may be, when somebody else has been seen to run something.
    simulator.emit_raw(r#"42["execution:chunk",{"executionId":"someone else's","content":"x"}]"#);
    let mut connection = program.chat_connection(user(SILENT));
    let run = Stepped::nth(&simulator, 3);
    simulator.emit_raw(failure);
    run.ends("one two");
    assert_eq!(connection.response().content(), "one two");
}

#[test]
fn an_event_in_front_of_the_answer_that_names_its_run_is_kept_among_many_others() {
    let (simulator, program) = start_literal();
    assert_eq!(program.ask("Hi").content(), "Hi");
    // A run request that is on its way for long keeps unknown events welcome.
    simulator.fault(Step::Run, Fault::slow(5_000));
    let asked = simulator.stats().http_requests;
    let slow = program.chat_connection(user("Hi"));
    simulator.wait_until(|stats| stats.http_requests > asked);
    for number in 0..1_000 {
        let id = format!("foreign-{number}");
        simulator
            .emit_raw(&format!(r#"42["execution:chunk",{{"executionId":"{id}","content":"x"}}]"#));
    }
    // Its only event comes before its answer.
    assert_eq!(program.ask("/sim say=Hello events=1 early=1 slowrun=50").content(), "Hello");
    drop(slow);
}

// Deadlines.

#[test]
fn a_lost_last_event_is_an_error_that_names_the_silence_and_never_an_end() {
    let (_simulator, program) = start_literal_with(&[("LANGFAST2API_SILENCE_TIMEOUT", "0.7")]);
    let content = "/sim say=one%20two%20three lost=last";
    let (text, error) = broken_off(&program.ask_stream(content));
    assert_eq!(text, "one two ");
    assert!(
        message(&error).contains("0.7 s (--silence-timeout or LANGFAST2API_SILENCE_TIMEOUT sets"),
        "{error}"
    );
    assert_eq!(error["code"], "timeout");
    let whole = program.ask(content);
    assert_eq!((whole.status, whole.error()), (504, error));
    assert_eq!(whole.header("x-should-retry"), Some("false"));
}

#[test]
fn a_run_without_a_first_event_is_given_up_by_name() {
    let (_simulator, program) = start_literal_with(&[("LANGFAST2API_FIRST_EVENT_TIMEOUT", "0.7")]);
    for response in [program.ask(SILENT), program.ask_stream(SILENT)] {
        assert_eq!(response.status, 504);
        assert_eq!(response.header("x-should-retry"), Some("false"));
        let error = response.error();
        assert!(
            message(&error)
                .contains("0.7 s (--first-event-timeout or LANGFAST2API_FIRST_EVENT_TIMEOUT sets"),
            "{error}"
        );
    }
}

#[test]
fn a_run_that_does_not_come_to_an_end_is_given_up_by_name() {
    let (_simulator, program) = start_literal_with(&[("LANGFAST2API_RUN_TIMEOUT", "0.7")]);
    let content = "/sim text=count events=10000 delay=50";
    let (text, error) = broken_off(&program.ask_stream(content));
    assert!(text.starts_with("1 2 "), "{text}");
    assert!(
        message(&error).contains("0.7 s (--run-timeout or LANGFAST2API_RUN_TIMEOUT sets"),
        "{error}"
    );
    assert_eq!(program.ask(content).status, 504);
}

#[test]
fn an_answer_over_the_limit_is_given_up_by_name() {
    let (_simulator, program) = start();
    let response = program.ask("/sim text=count bytes=17000000 events=3 delay=0");
    assert_eq!(response.status, 502, "{} bytes", response.body.len());
    assert!(message(&response.error()).contains("longer than 16 MiB"));
    assert_eq!(program.ask("Hi").content(), "Hi");
}
