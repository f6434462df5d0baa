//! What LangFast may send some day: events of other names and forms, text in pieces, the tokens it has
//! counted, events that want to be acknowledged, sessions that can be gone on with. None of it was seen.

use crate::simulator::{Fault, Simulator, Step};
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{
    Connection, Program, Response, Start, start, start_stepped, streamed, user, wait_until,
};
use serde_json::{Value, json};

/// A text that no word of it repeats.
const TEXT: &str = "The harbour wakes before the town does, says Émile 😀.";

fn said(words: &str) -> String {
    let text: String = TEXT.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("/sim say={text} delay=0 {words}")
}

/// Asks for TEXT in the form of these words, whole and streamed.
fn is_answered(program: &Program, words: &str) {
    let content = said(words);
    let response = program.ask_stream(&content);
    assert_eq!(response.streamed_text(0), TEXT, "{words}: {}", response.text());
    assert!(response.is_done(), "{words}: {}", response.text());
    assert_eq!(program.ask(&content).content(), TEXT, "{words}");
}

/// A simulator that offers connection state recovery, and the program in front of it.
fn with_recovery() -> (Simulator, Program) {
    let simulator = Simulator::builder().literal_socket().recovery().start();
    let program = Program::start(&simulator.url());
    (simulator, program)
}

/// A stream whose first piece of text has come, and its run.
fn streaming<'a>(simulator: &'a Simulator, program: &Program) -> (Connection, Stepped<'a>) {
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::nth(simulator, 1);
    run.says("one ");
    connection.head();
    assert_eq!(connection.next_text(), "one ");
    (connection, run)
}

// Names, ids, wrappings.

#[test]
fn a_text_is_found_under_any_likely_name_id_and_wrapping_whole_or_in_pieces() {
    for wrap in ["none", "data", "payload", "choices", "list"] {
        // What one form has shown does not help with the next.
        let (_simulator, program) = start_stepped();
        for id in ["executionId", "execution_id", "jobId", "job_id", "runId", "run_id", "id"] {
            is_answered(&program, &format!("event=run:token id={id} wrap={wrap}"));
        }
        for field in ["content", "text", "delta", "output"] {
            for form in
                ["pieces=0", "pieces=1 last=whole", "pieces=1 last=piece", "pieces=1 last=none"]
            {
                is_answered(&program, &format!("event=token field={field} wrap={wrap} {form}"));
            }
        }
    }
}

#[test]
fn the_first_run_of_a_program_is_read_in_every_form() {
    for form in [
        "pieces=1 last=none",
        "field=delta pieces=1 last=piece",
        "field=text pieces=1 event=x wrap=data id=job_id",
        "wrap=choices id=id pieces=1 last=none",
        "id=argument field=output",
        "wrap=list field=delta",
        "as=string field=text id=jobId",
        "repeat=1 stale=1 foreign=1 null=1 field=text id=jobId wrap=payload",
        "early=1 slowrun=100 field=delta pieces=1 id=id",
        "early=1 slowrun=100 pieces=1 wrap=choices id=id",
    ] {
        let (_simulator, program) = start_stepped();
        is_answered(&program, form);
    }
}

#[test]
fn a_change_while_the_program_runs_is_noticed_with_the_first_run() {
    let (_simulator, program) = start_stepped();
    for form in [
        "",
        "pieces=1 last=none",
        "",
        "event=token field=delta pieces=1 last=piece id=job_id",
        "event=token field=delta",
        "wrap=data field=text",
        "",
        "pieces=1",
    ] {
        is_answered(&program, form);
    }
}

#[test]
fn a_text_under_a_name_that_is_not_known_is_an_error_and_no_empty_answer() {
    let (_simulator, program) = start();
    for form in ["field=words", "event=job:words field=words"] {
        let content = format!("/sim {form}");
        let whole = program.ask(&content);
        assert_eq!(whole.status, 502, "{form}: {}", whole.text());
        assert_eq!(whole.header("x-should-retry"), Some("false"));
        let message = whole.error()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("doctor --run") && message.contains("newer version"), "{message}");
        let stream = program.ask_stream(&content);
        assert!(stream.text().contains("upstream_error") && !stream.is_done(), "{}", stream.text());
    }
    assert_eq!(program.ask("/sim say=").content(), "", "that one is empty");
}

#[test]
fn text_beside_the_known_one_is_not_of_the_answer() {
    let (simulator, program) = start_stepped();
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::nth(&simulator, 1);
    run.says("one ");
    for fields in [
        json!({"text": "NO"}),
        json!({"status": "in_progress", "delta": "NO"}),
        json!({"data": {"content": "NO", "status": "in_progress"}}),
        json!({"prompt_meta": {"messages": [{"role": "user", "content": "NO"}]}}),
        json!({"choices": [{"delta": {"role": "user", "content": "NO"}}]}),
        json!({"item": {"type": "reasoning", "text": "NO", "status": "completed"}}),
    ] {
        run.emits_as("job:progress", fields);
    }
    run.emits(json!({"status": "completed", "output": "NO", "finish_reason": "stop"}));
    let response = connection.response();
    assert_eq!(response.streamed_text(0), "one ", "{}", response.text());
    assert!(response.is_done());
    // From the second run on that holds before the known one has come, too.
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::nth(&simulator, 2);
    run.emits_as("job:queued", json!({"text": "NO"}));
    run.emits_as("job:queued", json!({"text": "NEITHER"}));
    run.says("one ");
    run.ends("one two");
    assert_eq!(connection.response().streamed_text(0), "one two");
}

#[test]
fn what_is_no_answer_is_not_taken_for_one_in_the_first_run_either() {
    let (simulator, program) = start_stepped();
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::nth(&simulator, 1);
    for (name, fields) in [
        ("response.reasoning_text.delta", json!({"delta": "NO"})),
        ("job:log", json!({"text": "NO"})),
        ("job:created", json!({"prompt_meta": {"messages": [{"content": "NO"}]}})),
        ("job:created", json!({"input": {"text": "NO"}, "data": {"input": "NO"}})),
        ("x", json!({"choices": [{"delta": {"role": "user", "content": "NO"}}]})),
        ("x", json!({"item": {"type": "reasoning", "text": "NO", "status": "completed"}})),
        ("x", json!({"item": {"type": "message", "status": "completed"}})),
    ] {
        run.emits_as(name, fields);
    }
    simulator.emit_raw(r#"42["token",{"id":"someone else's","text":"NO"}]"#);
    simulator.emit_raw(r#"42["token","someone else's",{"delta":"NO"}]"#);
    simulator.emit_raw(r#"42["job:expired",{"id":"someone else's"}]"#);
    simulator.emit_raw(r#"42["token",[[],7,{"jobId":"someone else's","delta":"NO"}]]"#);
    run.emits_as("token", json!({"delta": "one "}));
    run.emits_as("token", json!({"delta": "two"}));
    run.emits_as("run:completed", json!({"finish_reason": "stop"}));
    let response = connection.response();
    assert_eq!(response.streamed_text(0), "one two", "{}", response.text());
    assert!(response.is_done());
}

// Ends.

#[test]
fn a_run_ends_as_its_status_says_in_whatever_writing() {
    let (simulator, program) = start_stepped();
    for status in ["completed", "done", "Succeeded", "SUCCESS", "finished", "complete"] {
        let response = program.ask(&format!("/sim say=one%20two status={status}"));
        assert_eq!(response.content(), "one two", "{status}");
    }
    for (status, code, told) in [
        ("timed_out", 504, "LangFast ended the run: timed_out"),
        ("timed-out", 504, "LangFast ended the run: timed_out"),
        ("TimedOut", 504, "LangFast ended the run: timed_out"),
        ("TIMEOUT", 504, "LangFast ended the run: timed_out"),
        ("expired", 504, "LangFast ended the run: expired"),
        ("aborted", 502, "LangFast ended the run: aborted"),
        ("Rejected", 502, "LangFast ended the run: rejected"),
        ("cancelled", 502, "LangFast ended the run: cancelled"),
        ("canceled", 502, "LangFast ended the run: cancelled"),
        ("failed", 502, "LangFast failed to run the prompt: no reason given"),
    ] {
        let content = format!("/sim say=one%20two status={status}");
        let response = program.ask(&content);
        assert_eq!(response.status, code, "{status}: {}", response.text());
        assert_eq!(response.header("x-should-retry"), Some("false"));
        let error = response.error();
        assert!(error["message"].as_str().unwrap().contains(told), "{status}: {error}");
        let stream = program.ask_stream(&content);
        assert_eq!(stream.streamed_text(0), "one ", "{status}");
        assert!(!stream.is_done());
        assert_eq!(stream.chunks().pop().unwrap()["error"], error, "{status}");
    }
    // LangFast's own words, where it has some.
    let response = program.ask("/sim status=rejected error=Unsupported%20parameter:%20%27x%27");
    assert_eq!(
        (response.status, &response.error()["code"]),
        (400, &json!("unsupported_parameter"))
    );
    let response = program.ask("/sim status=timed_out error=Too%20slow");
    assert_eq!(response.status, 504);
    assert!(response.error()["message"].as_str().unwrap().contains("timed_out (Too slow)"));
    let runs = simulator.stats().runs;
    let metrics = program.get("/metrics");
    assert!(
        metrics.text().contains(r#"cause="ended",step="run the prompt""#),
        "{}",
        metrics.text()
    );
    assert!(runs > 0);
}

#[test]
fn what_ends_a_run_without_a_known_status_waits_a_moment_for_more() {
    let (simulator, program) = start_stepped();
    let play = |number: usize, events: &[(&str, Value)]| -> Response {
        let mut connection = program.chat_connection(user(SILENT));
        let run = Stepped::nth(&simulator, number);
        events.iter().for_each(|(name, fields)| run.emits_as(name, fields.clone()));
        connection.response()
    };
    let finish = |response: &Response| response.json()["choices"][0]["finish_reason"].clone();
    let one = ("execution:chunk", json!({"content": "one"}));
    let length = play(1, &[one.clone(), ("execution:chunk", json!({"finish_reason": "length"}))]);
    assert_eq!((length.content().as_str(), finish(&length)), ("one", json!("length")));
    let incomplete = play(2, &[one.clone(), ("execution:chunk", json!({"status": "incomplete"}))]);
    assert_eq!((incomplete.content().as_str(), finish(&incomplete)), ("one", json!("length")));
    let by_name = play(3, &[one.clone(), ("run:succeeded", json!({}))]);
    assert_eq!((by_name.content().as_str(), finish(&by_name)), ("one", json!("stop")));
    // It was a step of the run that was done.
    let step = ("step:done", json!({}));
    let more = ("execution:chunk", json!({"content": "one two"}));
    let end = ("execution:chunk", json!({"content": "one two three", "status": "completed"}));
    assert_eq!(play(4, &[one.clone(), step, more, end]).content(), "one two three");
    let failed = play(5, &[one, ("run:timed_out", json!({}))]);
    assert_eq!(failed.status, 504, "{}", failed.text());
}

// Tokens.

#[test]
fn reported_tokens_count_in_place_of_estimates_in_every_dialect_whole_and_streamed() {
    let (_simulator, program) = start_stepped();
    let ask = |path: &str, mut fields: Value, stream: bool| -> Value {
        fields["model"] = json!("gpt-4o");
        fields["stream"] = json!(stream);
        let headers = "Content-Type: application/json\r\n";
        let response = program.request("POST", path, headers, fields.to_string().as_bytes());
        assert_eq!(response.status, 200, "{}", response.text());
        if !stream {
            return response.json()["usage"].clone();
        }
        let data = response.text().lines().filter_map(|line| line.strip_prefix("data: "));
        let events = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let usages = events.filter_map(|event| {
            let inner = event["response"]["usage"].as_object().or(event["usage"].as_object());
            inner.map(|usage| json!(usage))
        });
        usages.fold(Value::Null, |_, usage| usage)
    };
    for form in ["chat", "responses", "camel"] {
        let content = format!("/sim say=one%20two usage={form}");
        let messages = json!([{"role": "user", "content": content}]);
        for stream in [false, true] {
            let options = stream.then(|| json!({"include_usage": true}));
            let chat = json!({"messages": messages, "stream_options": options});
            let legacy = json!({"prompt": content, "stream_options": options});
            for (path, fields) in [("/v1/chat/completions", chat), ("/v1/completions", legacy)] {
                let usage = ask(path, fields, stream);
                let expected = json!([1000, 500, 1500, 600, 300]);
                let found = json!([
                    usage["prompt_tokens"],
                    usage["completion_tokens"],
                    usage["total_tokens"],
                    usage["prompt_tokens_details"]["cached_tokens"],
                    usage["completion_tokens_details"]["reasoning_tokens"],
                ]);
                assert_eq!(found, expected, "{path} {form} {stream}");
            }
            let usage = ask("/v1/responses", json!({"input": content}), stream);
            let found = json!([
                usage["input_tokens"],
                usage["output_tokens"],
                usage["total_tokens"],
                usage["input_tokens_details"]["cached_tokens"],
                usage["output_tokens_details"]["reasoning_tokens"],
            ]);
            assert_eq!(found, json!([1000, 500, 1500, 600, 300]), "responses {form} {stream}");
            let message = json!({"messages": messages, "max_tokens": 100});
            let usage = ask("/v1/messages", message, stream);
            let found = json!([
                usage["input_tokens"],
                usage["cache_read_input_tokens"],
                usage["output_tokens"],
            ]);
            assert_eq!(found, json!([400, 600, 500]), "messages {form} {stream}");
        }
    }
}

#[test]
fn tokens_that_are_none_are_estimated_and_choices_add_up() {
    let (simulator, program) = start_stepped();
    let usage = |response: &Response| {
        let usage = response.json()["usage"].clone();
        [&usage["prompt_tokens"], &usage["completion_tokens"]].map(|n| n.as_u64().unwrap())
    };
    let plain = usage(&program.ask("/sim say=one%20two usage=absurd"));
    assert!(plain.iter().all(|count| (1..50).contains(count)), "{plain:?}");
    let mut fields = user("/sim say=one%20two usage=chat");
    fields["n"] = json!(3);
    assert_eq!(usage(&program.chat(fields)), [1000, 1500]);
    // A choice whose run tells nothing is estimated.
    let mut fields = user(SILENT);
    fields["n"] = json!(2);
    let runs = simulator.stats().runs;
    let mut connection = program.chat_connection(fields);
    let told = Stepped::nth(&simulator, runs + 1);
    let untold = Stepped::nth(&simulator, runs + 2);
    told.emits(
        json!({"status": "completed", "content": "one", "usage": {"completion_tokens": 100}}),
    );
    untold.ends("one");
    let [prompt, completion] = usage(&connection.response());
    assert!(prompt < 50 && completion == 101, "{prompt} {completion}");
    // A request is counted once its client has the answer, and then logged.
    let is_counted = || program.times_logged("POST /v1/chat/completions status=200") == 3;
    wait_until("the requests so far", is_counted);
    let before = tokens(&program);
    program.ask("/sim say=one%20two usage=chat");
    wait_until("the metrics", || {
        let now = tokens(&program);
        (now.0 - before.0, now.1 - before.1) == (1000, 500)
    });
}

/// The tokens of prompts and answers that the metrics tell of.
fn tokens(program: &Program) -> (u64, u64) {
    let metrics = program.get("/metrics");
    let of = |kind: &str| -> u64 {
        let lines =
            metrics.text().lines().filter(|line| line.starts_with("langfast2api_tokens_total"));
        let own = lines.filter(|line| line.contains(kind));
        own.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    };
    (of("\"prompt\""), of("\"completion\""))
}

#[test]
fn both_runs_of_a_mended_call_count_with_what_they_report() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--tool-repair").start();
    let call = |arguments: Value| json!({"calls": [{"name": "add", "arguments": arguments}], "sim": "usage=chat"});
    simulator.turn(call(json!({"a": "no number"})));
    simulator.turn(call(json!({"a": 1})));
    let mut fields = user("Add.");
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    fields["tools"] =
        json!([{"type": "function", "function": {"name": "add", "parameters": schema}}]);
    let response = program.chat(fields);
    assert_eq!(response.header("x-langfast2api-tools"), Some("repaired"), "{}", response.text());
    let usage = &response.json()["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"]),
        (&json!(2000), &json!(1000))
    );
}

#[test]
fn an_answer_that_a_stop_text_has_cut_has_the_tokens_that_langfast_counted() {
    let (simulator, program) = start_stepped();
    let mut fields = user(SILENT);
    fields["stop"] = json!("END");
    let mut connection = program.chat_connection(fields);
    let run = Stepped::nth(&simulator, 1);
    let usage = json!({"prompt_tokens": 70, "completion_tokens": 30});
    run.emits(json!({"status": "completed", "content": "one END two", "usage": usage}));
    let response = connection.response();
    assert_eq!(response.content(), "one ");
    assert_eq!(response.json()["usage"]["total_tokens"], 100);
}

// The socket.

#[test]
fn events_that_want_it_are_acknowledged_each_in_its_order() {
    let (simulator, program) = start_stepped();
    for (number, words) in
        ["events=40", "events=40 pieces=1 last=piece field=delta"].iter().enumerate()
    {
        let text = "/sim text=lorem delay=0 ack=1";
        let response = program.ask_stream(&format!("{text} {words}"));
        assert!(response.is_done(), "{}", response.text());
        // The ids begin anew with each run, and only those that go on are counted.
        if number == 0 {
            simulator.wait_until(|stats| stats.acks == 40);
        }
    }
    let binary = r#"451-7["execution:chunk",{"_placeholder":true,"num":0}]"#;
    simulator.emit_raw(binary);
    simulator.emit_raw(r#"4241["hello",{}]"#);
    simulator.wait_until(|stats| stats.acks == 41);
}

#[test]
fn a_lost_socket_goes_on_where_it_ended_if_the_server_offers_that() {
    let (simulator, program) = with_recovery();
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::nth(&simulator, 1);
    let piece = |text: &str| run.emits_as("token", json!({"delta": text}));
    piece("one ");
    piece("two ");
    connection.head();
    let mut text = String::new();
    while text != "one two " {
        text += &connection.next_text();
    }
    simulator.cut_sockets();
    // Nobody hears these.
    piece("three ");
    piece("four ");
    simulator.wait_until(|stats| stats.connects == 2);
    run.emits_as("token", json!({"status": "completed", "delta": "five"}));
    let rest = connection.rest();
    assert!(rest.contains("three ") && rest.contains("four ") && rest.contains("five"), "{rest}");
    assert!(rest.contains("[DONE]"), "{rest}");
    assert_eq!(simulator.stats().recoveries, 1, "{}", program.log());
}

#[test]
fn pieces_that_are_lost_are_an_error_unless_the_last_text_is_whole() {
    let (simulator, program) = start_stepped();
    for (number, (last, is_whole)) in
        [("one two three four", true), ("four", false), ("", false)].into_iter().enumerate()
    {
        let mut connection = program.chat_connection(streamed(SILENT));
        let run = Stepped::nth(&simulator, number + 1);
        run.emits_as("token", json!({"delta": "one "}));
        run.emits_as("token", json!({"delta": "two "}));
        connection.head();
        let mut text = String::new();
        while text != "one two " {
            text += &connection.next_text();
        }
        let connects = simulator.stats().connects;
        simulator.cut_sockets();
        simulator.wait_until(|stats| stats.connects == connects + 1);
        run.emits_as("token", json!({"delta": "four"}));
        run.emits_as("token", json!({"status": "completed", "delta": last}));
        let rest = connection.rest();
        assert_eq!(rest.contains("[DONE]"), is_whole, "{last}: {rest}");
        assert_eq!(rest.contains("three four"), is_whole, "{last}: {rest}");
        assert_eq!(rest.contains("pieces of the text were sent"), !is_whole, "{last}: {rest}");
    }
}

#[test]
fn a_server_that_does_not_go_on_with_a_session_is_joined_anew() {
    let (simulator, program) = with_recovery();
    let (mut connection, run) = streaming(&simulator, &program);
    // Once with the token it has, once with a new one, and then as a new session.
    simulator.fault(Step::Connect, Fault::refuse("unknown session").times(2));
    simulator.cut_sockets();
    simulator.wait_until(|stats| stats.connects == 2);
    run.says("one two ");
    assert_eq!(connection.next_text(), "two ");
    run.ends("one two three");
    assert!(connection.rest().contains("[DONE]"));
    assert_eq!(simulator.stats().recoveries, 0);
    program.wait_for_log("once more as a new session");
}

#[test]
fn a_session_goes_on_with_a_new_token_and_never_as_another_user() {
    let (simulator, program) = with_recovery();
    let (mut connection, run) = streaming(&simulator, &program);
    simulator.expire_tokens();
    simulator.cut_sockets();
    run.says("one two ");
    simulator.wait_until(|stats| stats.recoveries == 1);
    assert_eq!(connection.next_text(), "two ");
    assert_eq!(simulator.stats().signups, 1);
    run.ends("one two three");
    assert!(connection.rest().contains("[DONE]"));
    // Another user.
    simulator.revoke_refresh_tokens();
    simulator.expire_tokens();
    simulator.cut_sockets();
    assert_eq!(program.ask("Hi").content(), "Hi");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.recoveries), (2, 1));
}

#[test]
fn an_event_with_a_binary_attachment_is_read_without_it() {
    let (_simulator, program) = start_stepped();
    let event = r#"["execution:chunk",{"executionId":"$JOB","status":"completed","finish_reason":"stop","content":"With it","blob":{"_placeholder":true,"num":0}}]"#;
    for head in ["451-", "4512-7", "451-/,"] {
        let raw: String =
            format!("{head}{event}").bytes().map(|byte| format!("%{byte:02x}")).collect();
        let content = format!("/sim say=W lost=last delay=0 raw={raw}");
        assert_eq!(program.ask(&content).content(), "With it", "{head}");
    }
}

#[test]
fn a_reason_that_says_an_error_is_one_though_the_run_is_called_completed() {
    let (_simulator, program) = start();
    for (reason, status) in [("error", 502), ("cancelled", 502), ("timeout", 504)] {
        let content = format!("/sim say=Half finish={reason}");
        let whole = program.ask(&content);
        assert_eq!(whole.status, status, "{reason}: {}", whole.text());
        let stream = program.ask_stream(&content);
        let text = stream.text();
        assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    }
}
