//! Responses, whole and as events, and their tools, with a model that calls by a script.

use crate::simulator::Simulator;
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Connection, Program, Response, Start, last_meta, sent, start, start_stepped};
use serde_json::{Value, json};

/// Sends a request with these fields; the model and an input are filled in.
fn send(program: &Program, mut fields: Value) -> Connection {
    let object = fields.as_object_mut().unwrap();
    object.entry("model").or_insert(json!("gpt-5"));
    object.entry("input").or_insert(json!("How is it in Oslo?"));
    let headers = "Content-Type: application/json\r\n";
    program.send("POST", "/v1/responses", headers, fields.to_string().as_bytes())
}

fn ask(program: &Program, fields: Value) -> Response {
    send(program, fields).response()
}

fn stream(program: &Program, mut fields: Value) -> Vec<Value> {
    fields["stream"] = json!(true);
    let answer = ask(program, fields);
    assert_eq!(answer.status, 200, "{}", answer.text());
    events(&answer)
}

/// A stream's events: each has its name twice and a number, from 0.
fn events(answer: &Response) -> Vec<Value> {
    let text = answer.text();
    let parts = text.split("\n\n").filter(|event| !event.is_empty());
    let event = |(at, event): (usize, &str)| {
        let (name, data) = event.split_once('\n').expect("two lines");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
        assert_eq!(data["sequence_number"], at);
        data
    };
    parts.enumerate().map(event).collect()
}

/// The names of events, without `response.`, each run of equal ones as one.
fn names(events: &[Value]) -> Vec<&str> {
    let all = events.iter().map(|event| event["type"].as_str().unwrap());
    let mut names: Vec<&str> = all.map(|name| name.trim_start_matches("response.")).collect();
    names.dedup();
    names
}

/// What the pieces of all events of this name add up to.
fn joined(events: &[Value], name: &str) -> String {
    let own = events.iter().filter(|event| event["type"] == format!("response.{name}"));
    own.map(|event| event["delta"].as_str().unwrap()).collect()
}

/// The response that the last event holds.
fn last_response(events: &[Value]) -> &Value {
    &events.last().unwrap()["response"]
}

/// A whole answer's response, or that which its stream ends with, after both were found to agree.
fn both_ways(simulator: &Simulator, program: &Program, fields: &Value, turn: Value) -> Value {
    simulator.turn(turn.clone());
    let whole = ask(program, fields.clone());
    assert_eq!(whole.status, 200, "{}", whole.text());
    simulator.turn(turn);
    let events = stream(program, fields.clone());
    let streamed = last_response(&events);
    assert_eq!(without_ids(&whole.json()), without_ids(streamed));
    streamed.clone()
}

/// A response without what differs from one to the next: usage does since markers are made anew.
fn without_ids(response: &Value) -> Value {
    let mut response = response.clone();
    for name in ["id", "created_at", "completed_at", "usage"] {
        response[name].take();
    }
    for item in response["output"].as_array_mut().unwrap() {
        for name in ["id", "call_id"] {
            item[name].take();
        }
    }
    response
}

fn weather() -> Value {
    let place = json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {"place": place}, "required": ["place"]});
    json!({"type": "function", "name": "weather", "parameters": schema, "strict": false})
}

fn in_oslo() -> Value {
    json!({"name": "weather", "arguments": {"place": "Oslo"}})
}

#[test]
fn a_text_is_told_whole_and_in_typed_events() {
    let (simulator, program) = start();
    let fields = json!({
        "instructions": "Be brief.", "metadata": {"a": "b"}, "temperature": 1, "top_p": 0.5,
        "max_output_tokens": 50, "user": "u", "store": true, "service_tier": "flex",
        "model": "gpt-4o"
    });
    simulator.turn(json!({"text": "It rains.", "sim": "events=4"}));
    let events = stream(&program, fields.clone());
    assert_eq!(
        names(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed"
        ]
    );
    assert_eq!(joined(&events, "output_text.delta"), "It rains.");
    let id = &events[2]["item"]["id"];
    assert!(id.as_str().unwrap().starts_with("msg_"));
    for event in &events[3..events.len() - 2] {
        let place = [&event["item_id"], &event["output_index"], &event["content_index"]];
        assert_eq!(place, [id, &json!(0), &json!(0)], "{event}");
    }
    assert_eq!(events[0]["response"]["status"], "in_progress");
    assert_eq!(events[0]["response"]["id"], last_response(&events)["id"]);
    let response = both_ways(&simulator, &program, &fields, json!({"text": "It rains."}));
    assert!(response["id"].as_str().unwrap().starts_with("resp_"));
    for (name, value) in [
        ("status", json!("completed")),
        ("object", json!("response")),
        ("model", json!("gpt-4o")),
        ("instructions", json!("Be brief.")),
        ("metadata", json!({"a": "b"})),
        ("temperature", json!(1)),
        ("max_output_tokens", json!(50)),
        ("text", json!({"format": {"type": "text"}})),
        ("tools", json!([])),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
    ] {
        assert_eq!(response[name], value, "{name}");
    }
    let usage = &response["usage"];
    let tokens = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(tokens("total_tokens"), tokens("input_tokens") + tokens("output_tokens"));
    assert!(tokens("input_tokens") > 5 && tokens("output_tokens") > 1);
    let meta = last_meta(&simulator);
    assert_eq!((&meta["temperature"], &meta["max_completion_tokens"]), (&json!(1.0), &json!(50)));
    assert_eq!(sent(&simulator)[0], ("system".to_owned(), "Be brief.".to_owned()));
}

#[test]
fn each_piece_of_a_text_is_an_event_as_soon_as_it_comes() {
    let (simulator, program) = start_stepped();
    let mut connection = send(&program, json!({"input": SILENT, "stream": true}));
    let run = Stepped::only(&simulator);
    let mut text = String::new();
    for piece in ["one ", "two ", "three"] {
        text += piece;
        run.says(&text);
        if text == piece {
            connection.head();
        }
        let mut read = String::new();
        while !read.contains(&format!(r#""delta":"{piece}""#)) {
            read += &String::from_utf8(connection.chunk().expect("more of the stream")).unwrap();
        }
    }
}

/// The fields of every response: those of OpenAI's published types that may be null, and what its servers
/// send besides.
const FIELDS: &[&str] = &[
    "access_programs",
    "background",
    "completed_at",
    "conversation",
    "created_at",
    "error",
    "frequency_penalty",
    "id",
    "incomplete_details",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "object",
    "output",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "status",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "usage",
    "user",
];

#[test]
fn a_response_has_all_fields_that_openais_have_at_every_stage() {
    let (simulator, program) = start();
    let has_all = |response: &Value| {
        let mut names: Vec<&str> =
            response.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, FIELDS, "{}", response["status"]);
    };
    for sim in ["finish=stop", "finish=length", "fail=2 error=no"] {
        simulator.turn(json!({"text": "a b c", "sim": sim}));
        let events = stream(&program, json!({}));
        let of_responses = events.iter().filter(|event| event["response"].is_object());
        assert_eq!(of_responses.map(|event| has_all(&event["response"])).count(), 3);
    }
    simulator.turn(json!({"text": "a"}));
    has_all(&ask(&program, json!({})).json());
}

#[test]
fn a_response_repeats_what_was_asked_and_claims_nothing_that_is_not_done() {
    let (simulator, program) = start();
    let repeated = json!({
        "instructions": "Be brief.", "max_output_tokens": 50, "max_tool_calls": 3,
        "metadata": {"a": "b"}, "prompt_cache_key": "k", "prompt_cache_retention": "24h",
        "safety_identifier": "s", "user": "u", "parallel_tool_calls": false, "store": true
    });
    let not_done = json!({
        "background": false, "frequency_penalty": 0, "presence_penalty": 0,
        "service_tier": "default", "top_logprobs": 0, "truncation": "disabled",
        "reasoning": {"effort": "low", "summary": null},
        "temperature": null, "top_p": null, "access_programs": null, "conversation": null, "moderation": null, "prompt": null,
        "previous_response_id": null
    });
    let mut fields = repeated.clone();
    fields.as_object_mut().unwrap().extend(
        json!({
            // The model does not take these two.
            "temperature": 0.5, "top_p": 0.5,
            "service_tier": "flex", "top_logprobs": 3, "truncation": "auto",
            "moderation": {"model": "x"}, "reasoning": {"effort": "low", "summary": "auto"}
        })
        .as_object()
        .unwrap()
        .clone(),
    );
    let response = both_ways(&simulator, &program, &fields, json!({"text": "a"}));
    for expected in [&repeated, &not_done] {
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&response[name], value, "{name}");
        }
    }
    // What is of a wrong type has no effect and is no reason to refuse a request.
    let wrong = json!({
        "max_tool_calls": "3", "metadata": {"a": 1, "b": "c"}, "prompt_cache_key": 1,
        "prompt_cache_retention": "forever", "safety_identifier": [], "user": {}
    });
    let response = both_ways(&simulator, &program, &wrong, json!({"text": "a"}));
    for name in wrong.as_object().unwrap().keys() {
        let expected = if name == "metadata" { json!({"b": "c"}) } else { Value::Null };
        assert_eq!(response[name], expected, "{name}");
    }
}

#[test]
fn a_conversation_is_sent_as_items() {
    let (simulator, program) = start();
    let text = |kind: &str, text: &str| json!([{"type": kind, "text": text}]);
    let input = json!([
        {"type": "message", "role": "developer", "content": text("input_text", "Be brief.")},
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
         "content": text("output_text", "Let me see.")},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather",
         "arguments": "{\"place\":\"Oslo\"}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "note", "input": "a \"b\""},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": text("input_text", "ok")},
    ]);
    simulator.turn(json!({"text": "Rain."}));
    let answer = ask(&program, json!({"input": input}));
    assert_eq!(answer.json()["output"][0]["content"][0]["text"], "Rain.");
    let sent = sent(&simulator);
    let roles: Vec<&str> = sent.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["developer", "developer", "user", "assistant", "user"]);
    let (calls, results) = (&sent[3].1, &sent[4].1);
    assert!(calls.starts_with("Let me see.\n<call-"), "{calls}");
    assert!(calls.contains(r#"name="note">{"input":"a \"b\""}"#), "{calls}");
    assert!(results.contains("\nrain\n") && results.contains("\nok\n"), "{results}");
}

#[test]
fn functions_are_called_whole_and_in_typed_events() {
    let (simulator, program) = start();
    let fields = json!({"tools": [weather()]});
    let turn = json!({"text": "So:", "calls": [in_oslo(), in_oslo()], "sim": "events=40"});
    simulator.turn(turn.clone());
    let events = stream(&program, fields.clone());
    let call = [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ];
    let text = names(&events)[..8].to_vec();
    assert_eq!(names(&events), [&text[..], &call, &call, &["completed"]].concat());
    let arguments = joined(&events, "function_call_arguments.delta");
    assert_eq!(arguments, r#"{"place":"Oslo"}"#.repeat(2));
    let response = both_ways(&simulator, &program, &fields, turn);
    let [said, first, second] = &response["output"].as_array().unwrap()[..] else {
        panic!("{response}")
    };
    assert_eq!(said["content"][0]["text"], "So:");
    assert_ne!(first["call_id"], second["call_id"]);
    for call in [first, second] {
        assert!(call["id"].as_str().unwrap().starts_with("fc_"));
        assert!(call["call_id"].as_str().unwrap().starts_with("call_"));
        let said = (&call["type"], &call["name"], &call["arguments"], &call["status"]);
        let arguments = json!(r#"{"place":"Oslo"}"#);
        let (kind, name, status) = (json!("function_call"), json!("weather"), json!("completed"));
        assert_eq!(said, (&kind, &name, &arguments, &status));
    }
}

#[test]
fn custom_tools_and_namespaces_come_back_as_the_client_knows_them() {
    let (simulator, program) = start();
    let grammar = json!({"type": "grammar", "syntax": "lark", "definition": "start: LINE"});
    let fields = json!({"tools": [
        {"type": "custom", "name": "patch", "description": "Patches.", "format": grammar},
        {"type": "namespace", "name": "agents", "description": "Of agents.", "tools": [weather()]},
    ]});
    let turn =
        |name: &str, arguments: Value| json!({"calls": [{"name": name, "arguments": arguments}]});
    let input = "*** a\n\"b\"";

    let response = both_ways(&simulator, &program, &fields, turn("patch", json!({"input": input})));
    let call = &response["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("custom_tool_call"), &json!("patch")));
    assert_eq!(call["input"], input);
    assert!(sent(&simulator)[0].1.contains("start: LINE"));
    simulator.turn(turn("patch", json!({"input": input})));
    let events = stream(&program, fields.clone());
    assert_eq!(joined(&events, "custom_tool_call_input.delta"), input);
    assert!(names(&events).contains(&"custom_tool_call_input.done"));
    // What is no such argument is not lost.
    simulator.turn(turn("patch", json!({"text": "x"})));
    let call = ask(&program, fields.clone()).json()["output"][0].clone();
    assert_eq!(call["input"], r#"{"text":"x"}"#);

    let response =
        both_ways(&simulator, &program, &fields, turn("agents__weather", json!({"place": "x"})));
    let call = &response["output"][0];
    assert_eq!((&call["namespace"], &call["name"]), (&json!("agents"), &json!("weather")));
    assert!(sent(&simulator)[0].1.contains("Of agents."));

    let output =
        json!({"type": "function_call_output", "call_id": call["call_id"], "output": "rain"});
    let mut fields = fields;
    fields["input"] = json!([{"role": "user", "content": "Hi"}, call, output]);
    simulator.turn(json!({"text": "Rain."}));
    assert_eq!(ask(&program, fields).status, 200);
    assert!(sent(&simulator)[2].1.contains("name=\"agents__weather\""));
}

#[test]
fn tool_choices_are_kept_to() {
    let (simulator, program) = start();
    let custom = json!({"type": "custom", "name": "note"});
    let tools = json!([weather(), {"type": "custom", "name": "note", "format": {"type": "text"}}]);
    for (choice, schema_name) in [
        (json!("required"), "calls"),
        (json!({"type": "function", "name": "weather"}), "weather"),
        (custom.clone(), "note"),
        (json!({"type": "allowed_tools", "mode": "required", "tools": [custom]}), "note"),
    ] {
        simulator.turn(json!({"calls": [{"name": "note", "arguments": {"input": "x"}}]}));
        let answer = ask(&program, json!({"tools": tools, "tool_choice": choice}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["tool_choice"], choice);
        let name = &last_meta(&simulator)["response_format"]["json_schema"]["name"];
        assert_eq!(name, schema_name, "{choice}");
    }
    simulator.turn(json!({"text": "No."}));
    let answer = ask(&program, json!({"tools": tools, "tool_choice": "none"}));
    assert_eq!(answer.json()["tools"], tools);
    assert_eq!(sent(&simulator).len(), 1);
}

#[test]
fn an_answer_that_was_cut_is_incomplete_and_so_is_the_call_that_it_was_cut_in() {
    let (simulator, program) = start();
    for (finish, reason) in [("length", "max_output_tokens"), ("content_filter", "content_filter")]
    {
        let turn = json!({"text": "It", "sim": format!("finish={finish}")});
        let response = both_ways(&simulator, &program, &json!({}), turn);
        assert_eq!(response["status"], "incomplete");
        assert_eq!(response["incomplete_details"], json!({"reason": reason}));
        assert_eq!(response["output"][0]["status"], "incomplete");
        assert_eq!(response["completed_at"], Value::Null);
    }
    let written = "<call-$NONCE name=\"weather\">{\"place\": \"Os";
    let turn = json!({"text": written, "sim": "finish=length"});
    let response = both_ways(&simulator, &program, &json!({"tools": [weather()]}), turn);
    let call = &response["output"][0];
    assert_eq!(
        (&call["status"], &call["arguments"]),
        (&json!("incomplete"), &json!("{\"place\": \"Os"))
    );
}

#[test]
fn an_answer_without_a_word_is_an_empty_message() {
    let (simulator, program) = start();
    let response = both_ways(&simulator, &program, &json!({}), json!({"text": ""}));
    assert_eq!(response["output"][0]["content"][0]["text"], "");
    assert_eq!(response["output"].as_array().unwrap().len(), 1);
}

#[test]
fn a_failure_within_a_stream_is_an_error_event_then_told_in_full_and_ends_the_connection() {
    let (simulator, program) = start();
    simulator.turn(json!({"text": "a", "sim": "error=it%20broke"}));
    let answer = ask(&program, json!({"stream": true}));
    assert_eq!((answer.status, answer.error()["code"].as_str()), (502, Some("upstream_error")));
    for (error, code) in [
        ("it%20broke", "server_error"),
        ("maximum%20context%20length", "context_length_exceeded"),
        ("daily%20quota", "insufficient_quota"),
    ] {
        simulator.turn(json!({"text": "a b c d", "sim": format!("fail=2 error={error}")}));
        let answer = ask(&program, json!({"stream": true}));
        let events = events(&answer);
        assert_eq!(events.last().unwrap()["type"], "response.failed");
        let response = last_response(&events);
        assert_eq!(
            (&response["status"], &response["error"]["code"]),
            (&json!("failed"), &json!(code))
        );
        let message = response["error"]["message"].as_str().unwrap();
        assert!(message.contains(&error.replace("%20", " ")), "{message}");
        // Clients look for the error's fields either in an object of their own or beside the type.
        let [.., told, _] = &events[..] else { panic!("two events at the end") };
        assert_eq!(told["type"], "error");
        for error in [told, &told["error"]] {
            assert_eq!((&error["message"], &error["param"]), (&json!(message), &Value::Null));
            assert!(error["code"].is_string(), "{error}");
        }
        assert_eq!(told["error"]["code"], told["code"]);
        assert_eq!(told["error"]["type"], response["error"]["type"]);
        assert!(answer.complete);
    }
}

#[test]
fn a_form_of_answer_is_asked_for_as_the_run_takes_it_and_checked() {
    let (simulator, program) = start();
    let schema = json!({"type": "object", "required": ["sky"]});
    let format = json!({"type": "json_schema", "name": "x", "schema": schema, "strict": true});
    simulator.turn(json!({"text": "```json\n{\"sky\": 1}\n```"}));
    let answer = ask(
        &program,
        json!({"text": {"format": format, "verbosity": "low"},
                                      "reasoning": {"effort": "low"}}),
    );
    assert_eq!(answer.header("x-langfast2api-json"), Some("repaired"));
    assert_eq!(answer.json()["text"]["format"], format);
    let meta = last_meta(&simulator);
    let expected = json!({"name": "x", "schema": schema, "strict": true});
    assert_eq!(meta["response_format"], json!({"type": "json_schema", "json_schema": expected}));
    assert_eq!((&meta["verbosity"], &meta["reasoning_effort"]), (&json!("low"), &json!("low")));
}

#[test]
fn what_has_no_effect_is_named_and_refused_if_strict() {
    let simulator = Simulator::start();
    let fields = json!({
        "truncation": "auto", "top_logprobs": 2, "reasoning": {"summary": "auto"},
        "include": ["message.output_text.logprobs"], "tools": [{"type": "web_search"}],
        "max_output_tokens": 0
    });
    let answer = ask(&Program::start(&simulator.url()), fields.clone());
    let named =
        "include, max_output_tokens, reasoning.summary, top_logprobs, truncation, tools.web_search";
    assert_eq!(answer.header("x-langfast2api-ignored"), Some(named));
    let program = Start::new(&simulator.url()).arg("--strict").start();
    assert_eq!(ask(&program, fields).error()["code"], "unsupported_parameter");
    let fields = json!({
        "store": false, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k",
        "parallel_tool_calls": true, "truncation": "disabled", "client_metadata": {}, "user": "u",
        "safety_identifier": "s", "stream_options": {"include_obfuscation": false}, "seed": 1,
        "background": false, "previous_response_id": null, "tools": null, "text": null
    });
    let answer = ask(&program, fields);
    assert_eq!((answer.status, answer.header("x-langfast2api-ignored")), (200, None));
}

#[test]
fn an_earlier_turn_without_words_or_arguments_is_no_reason_to_refuse_a_conversation() {
    let (_simulator, program) = start();
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": null});
    let output = json!({"type": "function_call_output", "call_id": "c", "output": "x"});
    for items in [
        vec![json!({"role": "assistant", "content": null})],
        vec![json!({"type": "message", "role": "assistant"})],
        vec![call, output.clone()],
        vec![json!({"type": "function_call", "call_id": "c", "name": "f"}), output],
    ] {
        let ask_last = json!({"role": "user", "content": "/sim say=Yes"});
        let items =
            [vec![json!({"role": "user", "content": "Hi"})], items, vec![ask_last]].concat();
        let answer = ask(&program, json!({"input": items}));
        assert_eq!(answer.status, 200, "{items:?}: {}", answer.text());
    }
    let wrong =
        json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}});
    let answer = ask(&program, json!({"input": [wrong]}));
    assert_eq!(answer.error()["code"], "invalid_type", "{}", answer.text());
}

#[test]
fn what_is_wrong_or_needs_a_store_is_refused_by_name() {
    let (simulator, program) = start();
    let item = |item: Value| json!({"input": [item]});
    let image = json!({"type": "input_image", "image_url": "x"});
    let output = json!({"type": "function_call_output", "call_id": "c", "output": "x"});
    for (fields, param) in [
        (json!({"model": null}), "model"),
        (json!({"input": null}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": 7}), "input"),
        (item(json!({"type": "reasoning"})), "input"),
        (item(json!("x")), "input[0]"),
        (item(json!({})), "input[0].type"),
        (item(json!({"type": "item_reference", "id": "msg_1"})), "input[0]"),
        (item(json!({"id": "msg_1"})), "input[0]"),
        (item(json!({"type": "web_search_call"})), "input[0]"),
        (item(json!({"role": "tool", "content": ""})), "input[0].role"),
        (item(json!({"role": "user"})), "input[0].content"),
        (item(json!({"role": "user", "content": [image]})), "input[0].content[0]"),
        (item(json!({"type": "function_call", "name": "f"})), "input[0].call_id"),
        (item(output), "input[0].call_id"),
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
        (json!({"background": true, "store": false}), "background"),
        (json!({"background": 1}), "background"),
        (json!({"store": "yes"}), "store"),
        (json!({"previous_response_id": 7}), "previous_response_id"),
        (json!({"instructions": 7}), "instructions"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"reasoning": "high"}), "reasoning"),
        (json!({"reasoning": {"effort": 1}}), "reasoning.effort"),
        (json!({"text": {"format": "json"}}), "text.format"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "json_schema"}}}), "text.format.name"),
        (json!({"tools": [{}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"tools": [{"type": "custom", "name": "a b"}]}), "tools[0].name"),
        (json!({"tools": [{"type": "namespace", "name": "n"}]}), "tools[0].tools"),
        (json!({"tools": [weather(), weather()]}), "tools[1].name"),
        (json!({"tool_choice": {"type": "function", "name": "x"}}), "tool_choice"),
    ] {
        let answer = ask(&program, fields.clone());
        let error = answer.error();
        assert_eq!((answer.status, &error["param"]), (400, &json!(param)), "{fields}: {error}");
    }
    assert_eq!(simulator.stats().runs, 0);
}
