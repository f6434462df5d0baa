//! Texts that LangFast revises while they are streamed: a stream is LangFast's answer or says that it is
//! none, and a whole answer is always the last text.

use crate::simulator::Simulator;
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Program, Response, Start, start_stepped, user, wait_until};
use serde_json::{Value, json};

/// The answer to a request whose run says these texts, the last one as its end.
fn answer(simulator: &Simulator, program: &Program, fields: &Value, texts: &[&str]) -> Response {
    let runs = simulator.stats().runs;
    let mut connection = program.chat_connection(fields.clone());
    let run = Stepped::nth(simulator, runs + 1);
    let (last, earlier) = texts.split_last().unwrap();
    earlier.iter().for_each(|text| run.says(text));
    run.ends(last);
    connection.response()
}

fn asked(stream: bool, fields: Value) -> Value {
    let mut all = user(SILENT);
    all["stream"] = json!(stream);
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    all
}

/// Whether a stream has ended with an error that says that its text was revised, and with nothing that
/// looks like an end.
fn is_told_as_revised(response: &Response) -> bool {
    let error = response.chunks().pop().unwrap()["error"].take();
    if error.is_null() {
        assert!(response.is_done(), "{}", response.text());
        return false;
    }
    assert!(!response.is_done());
    assert!(!response.text().contains(r#""finish_reason":""#), "{}", response.text());
    assert!(error["message"].as_str().unwrap().contains("changed text"), "{error}");
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("upstream_error"), &json!("upstream_error"))
    );
    true
}

#[test]
fn a_whole_answer_is_the_last_text_and_a_stream_of_another_one_is_an_error() {
    let (simulator, program) = start_stepped();
    // The texts, the whole answer, what is streamed, and whether that is the answer.
    for (texts, whole, streamed, is_answer) in [
        (
            &["The answer is 41", "The answer is 42, sure"][..],
            "The answer is 42, sure",
            "The answer is 41",
            false,
        ),
        (&["one", "uno", "uno dos tres"], "uno dos tres", "one", false),
        // To something shorter, at the end.
        (&["one two three", "one 2"], "one 2", "one two three", false),
        (&["one two three", "one two"], "one two", "one two three", false),
        // And then nothing is said of the text.
        (&["one two", "uno", ""], "uno", "one two", false),
        (&["one two", ""], "one two", "one two", true),
        // At the end of its white space only.
        (&["one ", "one two \n", "one two"], "one two", "one two \n", true),
        (&["one two \n", "one two\t"], "one two\t", "one two \n", true),
        (&["one \n", "one two"], "one two", "one \n", false),
        // Only in between.
        (&["one two", "on", "one two three"], "one two three", "one two three", true),
        (&["one two", "uno", "one two three"], "one two three", "one two three", true),
        (
            &["one two", "uno", "uno dos", "one two three", "one two three!"],
            "one two three!",
            "one two three!",
            true,
        ),
        (&["one two", "uno", "one two"], "one two", "one two", true),
    ] {
        let response = answer(&simulator, &program, &asked(false, json!({})), texts);
        assert_eq!(response.content(), whole, "{texts:?}");
        let response = answer(&simulator, &program, &asked(true, json!({})), texts);
        assert_eq!(response.streamed_text(0), streamed, "{texts:?}");
        assert_eq!(is_told_as_revised(&response), !is_answer, "{texts:?}");
    }
}

#[test]
fn the_log_says_how_far_the_texts_agree_and_nothing_of_them() {
    let (simulator, program) = start_stepped();
    let texts = ["Grüße an Emil", "Grüße an Erna und Eva"];
    let response = answer(&simulator, &program, &asked(true, json!({})), &texts);
    assert!(is_told_as_revised(&response));
    program.wait_for_log(
        "what was sent, 15 bytes (13 characters), and the final text, 23 bytes (21 characters), agree \
         in the first 12 bytes (10 characters)",
    );
    program.wait_for_log("a stream ends with an error: revised");
    assert!(!program.log().contains("Gr"), "{}", program.log());
    wait_until("the count", || {
        let metrics = program.get("/metrics");
        metrics.text().contains(r#"cause="revised",step="run the prompt""#)
    });
}

#[test]
fn every_dialect_tells_of_a_revised_text_in_its_own_form_and_of_no_end() {
    let (simulator, program) = start_stepped();
    let said = json!([{"role": "user", "content": SILENT}]);
    for (path, fields, error, ends) in [
        (
            "/v1/chat/completions",
            json!({"messages": said}),
            r#"data: {"error":{"#,
            "finish_reason\":\"",
        ),
        ("/v1/completions", json!({"prompt": SILENT}), r#"data: {"error":{"#, "finish_reason\":\""),
        (
            "/v1/responses",
            json!({"input": SILENT}),
            "event: response.failed\n",
            "response.completed",
        ),
        (
            "/v1/messages",
            json!({"messages": said, "max_tokens": 100}),
            "event: error\n",
            "message_stop",
        ),
    ] {
        let mut fields = fields;
        fields["model"] = json!("gpt-4o");
        fields["stream"] = json!(true);
        let runs = simulator.stats().runs;
        let (headers, body) = ("Content-Type: application/json\r\n", fields.to_string());
        let mut connection = program.send("POST", path, headers, body.as_bytes());
        let run = Stepped::nth(&simulator, runs + 1);
        run.says("The answer is 41");
        run.ends("The answer is 42, sure");
        let response = connection.response();
        let last = response.text().trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with(error) && last.contains("changed text"), "{last}");
        assert!(response.text().contains("The answer is 41") && !response.text().contains("sure"));
        for end in [ends, "[DONE]"] {
            assert!(!response.text().contains(end), "{}", response.text());
        }
    }
}

#[test]
fn a_text_that_a_stop_text_has_ended_is_what_was_wanted_however_it_goes_on() {
    let (simulator, program) = start_stepped();
    for (texts, whole, streamed, is_answer) in [
        (&["one END two", "uno"][..], "uno", "one ", true),
        // What may be the beginning of a stop text has not been sent.
        (&["one EN", "one two"], "one two", "one two", true),
        (&["one E", "one \n"], "one \n", "one \n", true),
        (&["one two", "one END"], "one ", "one two", false),
    ] {
        let response = answer(&simulator, &program, &asked(false, json!({"stop": "END"})), texts);
        // A whole answer ends with the stop text too, before there is another text.
        let whole = if texts[0].contains("END") { "one " } else { whole };
        assert_eq!(response.content(), whole, "{texts:?}");
        let response = answer(&simulator, &program, &asked(true, json!({"stop": "END"})), texts);
        assert_eq!(response.streamed_text(0), streamed, "{texts:?}");
        assert_eq!(is_told_as_revised(&response), !is_answer, "{texts:?}");
    }
}

#[test]
fn one_revised_choice_of_several_is_an_error_of_the_stream() {
    let (simulator, program) = start_stepped();
    let mut connection = program.chat_connection(asked(true, json!({"n": 2})));
    let runs = [1, 2].map(|number| Stepped::nth(&simulator, number));
    runs[0].says("one");
    runs[1].says("one");
    runs[0].ends("one two");
    runs[1].ends("uno");
    assert!({
        let response = connection.response();
        let error = response.chunks().pop().unwrap()["error"].take();
        error["message"].as_str().unwrap().contains("changed text") && !response.is_done()
    });
}

#[test]
fn a_run_that_says_it_is_done_and_not_with_which_text_is_held_to_what_it_said() {
    let (simulator, program) = start_stepped();
    for (before, behind, is_answer) in [
        ("one two", None, true),
        ("uno", None, false),
        ("one two", Some("uno"), false),
        ("uno", Some("one two"), true),
    ] {
        let runs = simulator.stats().runs;
        let mut connection = program.chat_connection(asked(true, json!({})));
        let run = Stepped::nth(&simulator, runs + 1);
        run.says("one two");
        run.says(before);
        run.emits_as("completion_finished", json!({}));
        behind.into_iter().for_each(|text| run.says(text));
        let response = connection.response();
        assert_eq!(response.streamed_text(0), "one two");
        assert_eq!(is_told_as_revised(&response), !is_answer, "{before} {behind:?}");
    }
}

fn with_tool(stream: bool) -> Value {
    let place = json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {"place": place}, "required": ["place"]});
    let function = json!({"name": "weather", "parameters": schema});
    asked(stream, json!({"tools": [{"type": "function", "function": function}]}))
}

/// What a model is told to write calls between.
fn nonce(simulator: &Simulator) -> String {
    let runs = simulator.runs();
    let told = runs.last().unwrap()["prompt_meta"]["messages"].to_string();
    told.split("<call-").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn calls_that_were_held_back_may_be_revised_and_those_that_were_told_may_not() {
    let simulator = Simulator::builder().literal_socket().start();
    for (held, place, text, is_answer) in [
        (true, "Oslo", "Hm.", true),
        (false, "Oslo", "Hm.", false),
        (false, "Bergen", "Hm. ", true),
        (true, "Bergen", "Well.", false),
    ] {
        let start = Start::new(&simulator.url());
        let program = if held { start.arg("--tool-repair") } else { start }.start();
        let runs = simulator.stats().runs;
        let mut connection = program.chat_connection(with_tool(true));
        let run = Stepped::nth(&simulator, runs + 1);
        let nonce = nonce(&simulator);
        let call = |text: &str, place: &str| {
            format!(
                "{text}\n<call-{nonce} name=\"weather\">{{\"place\": \"{place}\"}}</call-{nonce}>"
            )
        };
        run.says(&call("Hm.", "Bergen"));
        run.ends(&call(text, place));
        let response = connection.response();
        let case = format!("{held} {place} {text}: {}", response.text());
        if is_answer {
            assert!(response.is_done(), "{case}");
            assert!(response.text().contains(place) && response.text().contains("tool_calls\""));
            assert_eq!(response.text().matches("\"weather\"").count(), 1, "{case}");
        } else {
            assert!(is_told_as_revised(&response), "{case}");
        }
    }
}
