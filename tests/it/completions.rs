//! What a chat completion looks like to a client, and what of a request reaches LangFast.

use std::io::Read;
use std::os::fd::AsRawFd;

use crate::simulator::Simulator;
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Connection, Response, Start, start, start_stepped, streamed, user};
use serde_json::{Value, json};

fn with(mut fields: Value, more: Value) -> Value {
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fields
}

/// The `prompt_meta` of the latest run.
fn latest_meta(simulator: &Simulator) -> Value {
    simulator.runs().last().expect("a run")["prompt_meta"].clone()
}

/// The `finish_reason`s of a choice's chunks, nulls left out.
fn finish_reasons(response: &Response, index: u64) -> Vec<String> {
    let chunks = response.chunks();
    let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    let own = choices.filter(|choice| choice["index"] == index);
    own.filter_map(|choice| choice["finish_reason"].as_str().map(str::to_owned)).collect()
}

// What an answer looks like.

#[test]
fn a_whole_answer_has_openais_fields_in_openais_order() {
    let (_simulator, program) = start();
    let response = program.ask("/sim say=Hello%20there");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let answer = response.json();
    let (id, created) = (answer["id"].as_str().unwrap(), answer["created"].as_u64().unwrap());
    assert!(id.starts_with("chatcmpl-") && id.len() > 20, "{id}");
    assert!(created > 1_700_000_000, "{created}");
    let usage = &answer["usage"];
    let (prompt, completion) = (&usage["prompt_tokens"], &usage["completion_tokens"]);
    assert!(prompt.as_u64() > Some(0) && completion.as_u64() > Some(0), "{usage}");
    assert_eq!(
        response.text(),
        format!(
            r#"{{"id":"{id}","object":"chat.completion","created":{created},"model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hello there","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}},"service_tier":"default"}}"#,
            prompt.as_u64().unwrap() + completion.as_u64().unwrap(),
        )
    );
}

#[test]
fn a_stream_has_its_role_then_its_texts_then_its_end_then_done() {
    let (_simulator, program) = start();
    // Texts that come before the run's own answer come as one.
    let response = program.ask_stream("/sim say=Hello%20there%20you delay=100");
    assert_eq!(response.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    let first = &response.chunks()[0];
    let (id, created) = (first["id"].as_str().unwrap(), first["created"].as_u64().unwrap());
    let chunk = |delta: &str, reason: &str| {
        format!(
            r#"{{"id":"{id}","object":"chat.completion.chunk","created":{created},"model":"gpt-4o","service_tier":"default","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}]}}"#
        )
    };
    let expected = [
        chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null"),
        chunk(r#"{"content":"Hello "}"#, "null"),
        chunk(r#"{"content":"there "}"#, "null"),
        chunk(r#"{"content":"you"}"#, "null"),
        chunk("{}", r#""stop""#),
        "[DONE]".to_owned(),
    ];
    assert_eq!(response.events(), expected);
    let body: String = expected.iter().map(|event| format!("data: {event}\n\n")).collect();
    assert_eq!(response.text(), body, "nothing but events");
}

#[test]
fn the_usage_chunk_comes_only_when_it_is_invited() {
    let (_simulator, program) = start();
    let ask = |options: Value| {
        program.chat(with(streamed("/sim say=one%20two"), json!({"stream_options": options})))
    };
    for options in [Value::Null, json!({}), json!({"include_usage": false})] {
        let chunks = ask(options).chunks();
        assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
        assert!(chunks.iter().all(|chunk| chunk["choices"].as_array().unwrap().len() == 1));
    }
    let response = ask(json!({"include_usage": true}));
    let chunks = response.chunks();
    let (last, others) = chunks.split_last().unwrap();
    assert!(others.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
    assert_eq!(last["choices"], json!([]));
    let usage = &last["usage"];
    let sum =
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    assert!(response.is_done());
    let whole = program
        .chat(with(user("/sim say=one%20two"), json!({"stream_options": {"include_usage": true}})));
    assert_eq!(whole.json()["usage"], *usage, "both ways of answering count alike");
}

#[test]
fn done_comes_in_one_write_with_the_end_of_the_body() {
    let (simulator, program) = start_stepped();
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::only(&simulator);
    run.says("Hello");
    connection.head();
    connection.chunk().unwrap();
    let before = segments_received(&connection);
    run.ends("Hello");
    let last = String::from_utf8(connection.chunk().unwrap()).unwrap();
    assert!(last.contains(r#""finish_reason":"stop""#), "{last}");
    assert!(last.ends_with("data: [DONE]\n\n"), "{last}");
    assert_eq!(connection.chunk(), None);
    assert_eq!(segments_received(&connection), before + 1);
}

/// TCP segments with data that have arrived on this connection: one a write, if that is short.
fn segments_received(connection: &Connection) -> u32 {
    // `tcpi_data_segs_in` in Linux' `struct tcp_info`, which libc knows the beginning of.
    const PLACE: usize = 152;
    let mut info = [0u8; PLACE + 4];
    let mut length = info.len() as libc::socklen_t;
    let socket = connection.stream.get_ref().as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes, which `info` has.
    let result = unsafe {
        let place = info.as_mut_ptr().cast();
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, place, &mut length)
    };
    assert_eq!((result, length as usize), (0, info.len()));
    u32::from_ne_bytes(info[PLACE..].try_into().unwrap())
}

#[test]
fn every_text_is_sent_by_itself_as_soon_as_it_comes() {
    let (simulator, program) = start_stepped();
    let mut connection = program.chat_connection(streamed(SILENT));
    let run = Stepped::only(&simulator);
    let mut text = String::new();
    let mut first = None;
    for number in 0..20 {
        let piece = format!("{number} ");
        text.push_str(&piece);
        run.says(&text);
        if first.is_none() {
            assert_eq!(connection.head().status, 200);
        }
        let chunk = String::from_utf8(connection.chunk().unwrap()).unwrap();
        let events: Vec<&str> = chunk.split_terminator("\n\n").collect();
        let expected = if first.is_none() { 2 } else { 1 };
        assert_eq!(events.len(), expected, "the role comes with the first text: {chunk}");
        let last: Value = serde_json::from_str(&events.last().unwrap()["data: ".len()..]).unwrap();
        assert_eq!(last["choices"][0]["delta"], json!({"content": piece}));
        first.get_or_insert(chunk);
    }
    run.ends(&text);
    let rest = String::from_utf8(connection.chunk().unwrap()).unwrap();
    assert!(rest.contains(r#""finish_reason":"stop""#), "{rest}");
    assert_eq!(connection.chunk(), None);
}

#[test]
fn several_whole_choices_come_in_the_order_of_their_index() {
    let (simulator, program) = start();
    let response = program.chat(with(user("/sim say=one%20two delay=1"), json!({"n": 3})));
    let answer = response.json();
    let choices = answer["choices"].as_array().unwrap();
    let indices: Vec<_> = choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2]);
    assert!(choices.iter().all(|choice| choice["message"]["content"] == "one two"));
    assert!(choices.iter().all(|choice| choice["finish_reason"] == "stop"));
    let stats = simulator.stats();
    assert_eq!((stats.runs, stats.signups, stats.prompts, stats.connects), (3, 1, 1, 1));
    let one = program.ask("/sim say=one%20two delay=1").json();
    let tokens = |answer: &Value| answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert_eq!(tokens(&answer), 3 * tokens(&one));
    assert_eq!(answer["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"]);
}

#[test]
fn several_streamed_choices_are_interleaved_as_their_runs_are() {
    let (simulator, program) = start_stepped();
    let mut connection = program.chat_connection(with(streamed(SILENT), json!({"n": 3})));
    let runs = [1, 2, 3].map(|number| Stepped::nth(&simulator, number));
    let mut body = String::new();
    let mut order = Vec::new();
    // Each run says its own text; every event is read before the next is sent.
    for (step, at) in [2, 0, 0, 1, 2, 1].into_iter().enumerate() {
        let said = order.iter().filter(|(run, _)| *run == at).count();
        runs[at].says(&format!("<{at}>").repeat(said + 1));
        if step == 0 {
            connection.head();
        }
        let chunk = String::from_utf8(connection.chunk().unwrap()).unwrap();
        let (_, last) = chunk.trim_end().rsplit_once("data: ").unwrap();
        let last: Value = serde_json::from_str(last).unwrap();
        assert_eq!(last["choices"][0]["delta"]["content"], format!("<{at}>"));
        order.push((at, last["choices"][0]["index"].as_u64().unwrap()));
        body.push_str(&chunk);
    }
    for run in [0, 1, 2] {
        let mut indices: Vec<_> = order.iter().filter(|(at, _)| *at == run).map(|o| o.1).collect();
        indices.dedup();
        assert_eq!(indices.len(), 1, "a run has one index: {order:?}");
        runs[run].ends(&format!("<{run}><{run}>"));
        body.push_str(std::str::from_utf8(&connection.chunk().unwrap()).unwrap());
    }
    assert_eq!(connection.chunk(), None);
    let response = Response { status: 200, head: String::new(), body: body.into(), complete: true };
    assert!(response.is_done());
    for index in 0..3 {
        let roles = response.chunks().into_iter().filter(|chunk| {
            chunk["choices"][0]["index"] == index
                && chunk["choices"][0]["delta"]["role"].is_string()
        });
        assert_eq!(roles.count(), 1);
        assert_eq!(finish_reasons(&response, index), ["stop"]);
    }
}

#[test]
fn finish_reasons_are_openais_words() {
    let (_simulator, program) = start();
    for (said, expected) in [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
        ("none", "stop"),
        ("eos", "stop"),
    ] {
        let content = format!("/sim say=Hi finish={said}");
        let whole = program.ask(&content).json();
        assert_eq!(whole["choices"][0]["finish_reason"], expected, "{said}");
        assert_eq!(finish_reasons(&program.ask_stream(&content), 0), [expected], "{said}");
    }
}

#[test]
fn an_answer_without_any_text_is_an_empty_one() {
    let (_simulator, program) = start();
    assert_eq!(program.ask("/sim say=").content(), "");
    let response = program.ask_stream("/sim say=");
    assert_eq!(response.chunks().len(), 2, "the role and the end: {}", response.text());
    assert!(response.is_done());
}

#[test]
fn every_text_comes_through_whole_and_streamed_unchanged() {
    let (_simulator, program) = start();
    let texts = [
        "Prose.\n\n\t\"Quoted\", \\back\\slashed\\, and\r\nover lines. ".to_owned(),
        "caf\u{e9} e\u{301} \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{1f1e9}\u{1f1f0} 你好 مرحبا \u{20bb7}".to_owned(),
        "\u{0}\u{1}\u{1f}\u{7f}\u{85}\u{2028}\u{2029}\u{feff}\u{fffd}\u{10ffff} end".to_owned(),
        "data: [DONE]\n\ndata: {}\n\n: comment\n".to_owned(),
        r"\ud83d \u0041 \n \\".to_owned(),
        "long 😀 ".repeat(10_000),
    ];
    for text in &texts {
        for words in [
            "events=1",
            "events=20",
            "events=20 as=string",
            "surrogate=1",
            "surrogate=1 as=string",
            "surrogate=escaped",
        ] {
            let content = format!("/sim text=echo {words} delay=0\n{text}");
            if words.contains("surrogate") && text.len() > 1000 {
                continue; // An event a character would take a while.
            }
            assert_eq!(program.ask(&content).content(), *text, "{words}");
            let response = program.ask_stream(&content);
            assert_eq!(response.streamed_text(0), *text, "{words}");
            assert!(response.is_done());
            let mut chunks = response.chunks().into_iter().skip(1);
            assert!(chunks.all(|chunk| chunk["choices"][0]["delta"]["content"] != ""));
        }
    }
    for words in ["text=lorem", "text=unicode", "text=json", "text=code"] {
        let content = format!("/sim {words} delay=0");
        let whole = program.ask(&content).content();
        assert_eq!(program.ask_stream(&content).streamed_text(0), whole, "{words}");
    }
}

// What a request asks for.

#[test]
fn a_stop_text_ends_the_answer_wherever_its_pieces_fall() {
    let (_simulator, program) = start();
    // The events bring "one STO", "P two"; or a beginning that comes to nothing.
    for (said, stop, expected) in [
        ("one%20STOP%20two", json!("STOP"), "one "),
        ("one%20STO%20P%20two", json!("STO P"), "one "),
        ("one%20STO%20other", json!("STO P"), "one STO other"),
        ("one%20ST", json!("STOP"), "one ST"),
        ("one%20two%20three", json!(["three", "two", "x", "y"]), "one "),
        ("one%20two", json!(["", "two"]), "one "),
        ("STOP%20at%20once", json!("STOP"), ""),
        ("%F0%9F%98%80%F0%9F%98%81end", json!("\u{1f601}"), "\u{1f600}"),
    ] {
        for events in ["", "events=1", "events=40"] {
            let content = format!("/sim say={said} {events} delay=0 finish=length");
            let fields = json!({ "stop": stop });
            let whole = program.chat(with(user(&content), fields.clone()));
            let streamed = program.chat(with(streamed(&content), fields));
            let context = format!("{stop} in {said:?} {events}");
            assert_eq!(whole.content(), expected, "{context}");
            assert_eq!(streamed.streamed_text(0), expected, "{context}");
            let reason = if expected.contains("ST") { "length" } else { "stop" };
            assert_eq!(whole.json()["choices"][0]["finish_reason"], reason, "{context}");
            assert_eq!(finish_reasons(&streamed, 0), [reason], "{context}");
            assert!(streamed.is_done());
        }
    }
}

#[test]
fn a_stop_text_is_the_end_while_the_run_goes_on() {
    let (simulator, program) = start_stepped();
    let mut connection = program.chat_connection(with(streamed(SILENT), json!({"stop": "END"})));
    let run = Stepped::only(&simulator);
    run.says("one EN");
    connection.head();
    let first = String::from_utf8(connection.chunk().unwrap()).unwrap();
    assert!(first.contains(r#"{"content":"one "}"#), "what may be a stop text waits: {first}");
    run.says("one END and more");
    let last = String::from_utf8(connection.chunk().unwrap()).unwrap();
    assert!(last.contains(r#""finish_reason":"stop""#) && last.contains("[DONE]"), "{last}");
    assert_eq!(connection.chunk(), None);
}

#[test]
fn the_form_of_the_answer_reaches_langfast_as_it_takes_it() {
    let (simulator, program) = start();
    let schema = json!({
        "type": "json_schema",
        "json_schema": {"name": "x", "strict": true, "schema": {"type": "object"}}
    });
    for (format, sent) in [
        (Value::Null, json!("text")),
        (json!({"type": "text"}), json!("text")),
        (json!({"type": "json_object"}), json!("json_object")),
        (schema.clone(), schema.clone()),
    ] {
        let fields = json!({"response_format": format});
        let answer = program.chat(with(user("/sim text=json"), fields));
        assert_eq!(answer.status, 200);
        assert_eq!(latest_meta(&simulator)["response_format"], sent);
    }
    let runs = simulator.stats().runs;
    for (model, format) in [("gpt-3.5-turbo", schema), ("o1-mini", json!({"type": "json_object"}))]
    {
        let fields = json!({"model": model, "response_format": format});
        let response = program.chat(with(user("Hi"), fields));
        assert_eq!(response.status, 400, "{model}");
        let error = response.error();
        assert_eq!(error["param"], "response_format");
        assert_eq!(error["code"], "unsupported_parameter");
        assert!(error["message"].as_str().unwrap().contains(model), "{error}");
    }
    assert_eq!(simulator.stats().runs, runs, "nothing was started");
}

#[test]
fn instructions_go_under_the_role_that_the_model_takes() {
    let (simulator, program) = start();
    for (model, asked, expected) in [
        ("gpt-4o", "system", json!([["system", "Be brief."], ["user", "Hi"]])),
        ("gpt-4o", "developer", json!([["system", "Be brief."], ["user", "Hi"]])),
        ("o1", "system", json!([["developer", "Be brief."], ["user", "Hi"]])),
        ("o1", "developer", json!([["developer", "Be brief."], ["user", "Hi"]])),
        ("o1-mini", "system", json!([["user", "Be brief.\n\nHi"]])),
        ("o1-mini", "developer", json!([["user", "Be brief.\n\nHi"]])),
    ] {
        let messages = json!([
            {"role": asked, "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
        ]);
        let response = program.chat(json!({"model": model, "messages": messages}));
        assert_eq!(response.status, 200, "{}", response.text());
        let meta = latest_meta(&simulator);
        let sent = meta["messages"].as_array().unwrap();
        let sent: Value = sent.iter().map(|m| json!([m["role"], m["content"]])).collect();
        assert_eq!(sent, expected, "{model} {asked}");
        assert_eq!(meta["stream"], if model == "o1" { Value::Null } else { json!(true) });
    }
}

#[test]
fn a_model_answers_to_its_dated_versions_and_to_aliases_under_the_name_asked_for() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url())
        .arg("--model-aliases")
        .arg("fast=gpt-4.1-nano,*=gpt-4o")
        .start();
    for (asked, served) in
        [("gpt-4o-2024-08-06", "gpt-4o"), ("fast", "gpt-4.1-nano"), ("claude", "gpt-4o")]
    {
        let answer = program.chat(with(user("Hi"), json!({"model": asked}))).json();
        assert_eq!(answer["model"], asked);
        assert_eq!(latest_meta(&simulator)["model"], served);
        let chunks = program.chat(with(streamed("Hi"), json!({"model": asked}))).chunks();
        assert!(chunks.iter().all(|chunk| chunk["model"] == asked));
    }
}

#[test]
fn what_has_no_effect_is_left_out_and_named() {
    let (simulator, program) = start();
    let fields = json!({
        "temperature": 0.5, "seed": 7, "reasoning_effort": "low", "logprobs": true,
        "user": "me", "metadata": {"a": "b"}, "store": true, "never_heard_of": 1,
    });
    for fields in [with(user("Hi"), fields.clone()), with(streamed("Hi"), fields)] {
        let response = program.chat(fields);
        assert_eq!(response.status, 200);
        let ignored = response.header("x-langfast2api-ignored");
        assert_eq!(ignored, Some("logprobs, reasoning_effort, seed"));
        let meta = latest_meta(&simulator);
        assert_eq!(meta["temperature"], 0.5);
        let names: Vec<_> = meta.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["model", "messages", "stream", "temperature", "response_format"]);
    }
    let response = program.chat(with(user("Hi"), json!({"model": "o1", "temperature": 0.5})));
    assert_eq!(response.header("x-langfast2api-ignored"), Some("temperature"));
    assert_eq!(program.ask("Hi").header("x-langfast2api-ignored"), None);
}

#[test]
fn when_strict_what_has_no_effect_is_refused() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--strict").start();
    for (fields, param) in [
        (json!({"seed": 7}), "seed"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"reasoning_effort": "low"}), "reasoning_effort"),
        (json!({"model": "o1", "temperature": 1}), "temperature"),
        (json!({"max_tokens": 0}), "max_tokens"),
    ] {
        let response = program.chat(with(user("Hi"), fields));
        assert_eq!(response.status, 400, "{param}");
        assert_eq!(response.error()["param"], param);
        assert_eq!(response.error()["code"], "unsupported_parameter");
    }
    assert_eq!(simulator.stats().runs, 0);
    assert_eq!(program.chat(with(user("Hi"), json!({"user": "me"}))).status, 200);
}

#[test]
fn the_limit_of_tokens_is_the_first_that_is_given_and_capped_at_the_models() {
    let (simulator, program) = start();
    for (fields, sent, ignored) in [
        (json!({"max_tokens": 5}), json!(5), None),
        (json!({"max_tokens": 5, "max_completion_tokens": 7}), json!(7), None),
        (json!({"max_completion_tokens": 1_000_000}), json!(16384), None),
        (json!({"max_tokens": 5.0}), json!(5), None),
        (json!({"max_tokens": 0}), Value::Null, Some("max_tokens")),
        (json!({"max_tokens": -1}), Value::Null, Some("max_tokens")),
        (json!({}), Value::Null, None),
    ] {
        let response = program.chat(with(user("Hi"), fields.clone()));
        assert_eq!(latest_meta(&simulator)["max_completion_tokens"], sent, "{fields}");
        assert_eq!(response.header("x-langfast2api-ignored"), ignored, "{fields}");
    }
}

#[test]
fn sampling_that_the_model_takes_reaches_it_unchanged() {
    let (simulator, program) = start();
    let fields = json!({
        "temperature": 0.7, "top_p": 0.1, "presence_penalty": -2, "frequency_penalty": 1.5,
    });
    program.chat(with(user("Hi"), fields.clone()));
    let meta = latest_meta(&simulator);
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(meta[name].as_f64(), value.as_f64(), "{name}");
    }
    let fields = json!({"model": "gpt-5", "reasoning_effort": "low", "verbosity": "high"});
    assert_eq!(program.chat(with(user("Hi"), fields)).status, 200);
    let meta = latest_meta(&simulator);
    assert_eq!((&meta["reasoning_effort"], &meta["verbosity"]), (&json!("low"), &json!("high")));
}

#[test]
fn the_prompt_that_is_kept_holds_nobodys_text() {
    let (simulator, program) = start();
    program.ask("a secret");
    program.ask("another secret");
    let prompts = simulator.prompts();
    assert_eq!(prompts.len(), 1, "one prompt serves all runs");
    assert!(!prompts[0].to_string().contains("secret"));
    let runs = simulator.runs();
    assert_ne!(runs[0]["run_id"], runs[1]["run_id"]);
    assert_eq!(runs[0]["prompt_id"], runs[1]["prompt_id"]);
}

// Bodies of all shapes.

#[test]
fn large_and_long_conversations_come_through() {
    let (simulator, program) = start();
    let large = "x".repeat(2_000_000);
    let response = program.chat(json!({"messages": [
        {"role": "system", "content": large},
        {"role": "user", "content": "Hi"},
    ]}));
    assert_eq!(response.content(), "Hi");
    assert_eq!(
        latest_meta(&simulator)["messages"][0]["content"].as_str().unwrap().len(),
        2_000_000
    );
    let message = |number: usize| {
        let role = if number % 2 == 0 { "user" } else { "assistant" };
        json!({"role": role, "content": format!("message {number}")})
    };
    let messages: Vec<_> = (0..=1000).map(message).collect();
    assert_eq!(program.chat(json!({ "messages": messages })).content(), "message 1000");
    assert_eq!(latest_meta(&simulator)["messages"].as_array().unwrap().len(), 1001);
}

#[test]
fn the_body_may_have_a_byte_order_mark_and_no_declared_type() {
    let (_simulator, program) = start();
    let body = br#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}"#;
    let with_mark = [b"\xef\xbb\xbf".as_slice(), body].concat();
    assert_eq!(program.request("POST", "/v1/chat/completions", "", &with_mark).content(), "Hi");
    let header = "Content-Type: application/json; charset=utf-8\r\n";
    assert_eq!(program.request("POST", "/chat/completions/", header, body).content(), "Hi");
}

#[test]
fn of_a_field_that_is_there_twice_the_last_counts() {
    let (_simulator, program) = start();
    let body = br#"{"model":"none","messages":[{"role":"user","content":"a","content":"b"}],"model":"gpt-4o"}"#;
    let response = program.request("POST", "/v1/chat/completions", "", body);
    assert_eq!(response.content(), "b");
}

#[test]
fn unicode_of_every_kind_comes_back_as_it_was_sent() {
    let (_simulator, program) = start();
    for (sent, expected) in [
        (r#""caf\u00e9 \ud83d\ude00 \u0000 \u2028""#, "café 😀 \u{0} \u{2028}"),
        (
            "\"e\u{301} \u{1f468}\u{200d}\u{1f469} مرحبا \u{10ffff}\"",
            "e\u{301} \u{1f468}\u{200d}\u{1f469} مرحبا \u{10ffff}",
        ),
        // Half a character, as a client sends it that cuts its text by UTF-16 units.
        (r#""cut \ud83d""#, "cut \u{fffd}"),
        (r#""cut \ud83d and \ude00.""#, "cut \u{fffd} and \u{fffd}."),
        (r#""\\ud83d \ud83d\ude00\ud83d""#, "\\ud83d 😀\u{fffd}"),
    ] {
        let body =
            format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":{sent}}}]}}"#);
        let response = program.request("POST", "/v1/chat/completions", "", body.as_bytes());
        assert_eq!(response.content(), expected, "{sent}");
    }
}

// What every answer carries.

#[test]
fn every_answer_carries_its_request_id_and_its_time() {
    let (_simulator, program) = start();
    let body = crate::support::chat_body(user("/sim say=Hi")).to_string();
    let own = "x-request-id: my-id.1:2_3\r\n";
    let ask = |headers: &str, body: &str| {
        program.request("POST", "/v1/chat/completions", headers, body.as_bytes())
    };
    for response in [ask(own, &body), ask(own, "{}")] {
        assert_eq!(response.header("x-request-id"), Some("my-id.1:2_3"));
        response.header("openai-processing-ms").unwrap().parse::<u64>().unwrap();
    }
    let first = ask("", &body).header("x-request-id").unwrap().to_owned();
    let second = ask("", "{}").header("x-request-id").unwrap().to_owned();
    assert!(first.starts_with("req_") && first != second, "{first} {second}");
    let streamed = program.ask_stream("/sim say=Hi");
    assert!(streamed.header("x-request-id").unwrap().starts_with("req_"));
    assert!(streamed.header("openai-processing-ms").is_some());
}

#[test]
fn an_http_1_0_client_gets_its_stream_without_chunks() {
    let (_simulator, program) = start();
    let body = crate::support::chat_body(streamed("/sim say=Hi")).to_string();
    let mut connection = Connection::open(program.address());
    let head =
        format!("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.write(head.as_bytes());
    connection.write(body.as_bytes());
    let mut response = connection.head();
    assert_eq!(response.header("transfer-encoding"), None);
    connection.stream.read_to_end(&mut response.body).unwrap();
    assert_eq!(response.streamed_text(0), "Hi");
    assert!(response.is_done());
}

#[test]
fn one_connection_serves_many_requests() {
    let (_simulator, program) = start();
    let mut connection = Connection::open(program.address());
    for number in 0..5 {
        let content = format!("/sim say={number}");
        let stream = number % 2 == 0;
        let fields = if stream { streamed(&content) } else { user(&content) };
        let body = crate::support::chat_body(fields).to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.write(head.as_bytes());
        connection.write(body.as_bytes());
        let response = connection.response();
        let text = if stream { response.streamed_text(0) } else { response.content() };
        assert_eq!(text, number.to_string());
    }
}
