//! Anthropic's Messages API.

use crate::simulator::Simulator;
use crate::support::{Program, Response, Start, sent, start};
use serde_json::{Value, json};

const JSON: &str = "Content-Type: application/json\r\n";

/// A request with these fields, and what every one needs.
fn body(fields: Value) -> Vec<u8> {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let mut whole = json!({"model": "gpt-4o", "max_tokens": 100, "messages": messages});
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    whole.to_string().into_bytes()
}

fn ask(program: &Program, fields: Value) -> Response {
    program.request("POST", "/v1/messages", JSON, &body(fields))
}

fn said(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

/// The message of a whole answer.
fn message(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The events of a stream: each is named as its data's type says.
fn events(answer: &Response) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let event = |text: &str| {
        let (name, data) = text.split_once('\n').expect("a name and data");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
        data
    };
    answer.text().split_terminator("\n\n").map(event).collect()
}

/// The message that a stream's events add up to, put together as the SDKs do.
fn assembled(answer: &Response) -> Value {
    let mut events = events(answer).into_iter();
    let mut message = events.next().unwrap()["message"].clone();
    let mut json = String::new();
    let mut is_open = false;
    for event in events.by_ref() {
        let blocks = message["content"].as_array_mut().unwrap();
        let at = event.get("index").map(|at| at.as_u64().unwrap() as usize);
        match event["type"].as_str().unwrap() {
            "ping" => {}
            "content_block_start" => {
                assert_eq!((at, is_open), (Some(blocks.len()), false), "one after the other");
                blocks.push(event["content_block"].clone());
                json.clear();
                is_open = true;
            }
            "content_block_delta" => {
                assert_eq!((at, is_open), (Some(blocks.len() - 1), true));
                let (block, delta) = (blocks.last_mut().unwrap(), &event["delta"]);
                match delta["type"].as_str().unwrap() {
                    "text_delta" => {
                        let text = block["text"].as_str().unwrap().to_owned();
                        block["text"] = json!(text + delta["text"].as_str().unwrap());
                    }
                    "input_json_delta" => json += delta["partial_json"].as_str().unwrap(),
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                assert_eq!((at, is_open), (Some(blocks.len() - 1), true));
                is_open = false;
                if !json.is_empty() {
                    blocks.last_mut().unwrap()["input"] = serde_json::from_str(&json).unwrap();
                }
            }
            "message_delta" => {
                for name in ["stop_reason", "stop_sequence"] {
                    message[name] = event["delta"][name].clone();
                }
                let usage = event["usage"].as_object().unwrap().clone();
                message["usage"].as_object_mut().unwrap().extend(usage);
            }
            "message_stop" => break,
            other => panic!("{other}"),
        }
    }
    assert!(!is_open && events.next().is_none());
    message
}

fn pair(role: &str, content: &str) -> (String, String) {
    (role.to_owned(), content.to_owned())
}

#[test]
fn an_answer_is_a_message_whole_and_streamed() {
    let (_simulator, program) = start();
    let answer = ask(&program, said("Hello there, wörld!"));
    let whole = message(&answer);
    assert!(whole["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["model"]),
        (&json!("message"), &json!("assistant"), &json!("gpt-4o"))
    );
    assert_eq!(
        whole["content"],
        json!([{"type": "text", "text": "Hello there, wörld!", "citations": null}])
    );
    assert_eq!(
        (&whole["stop_reason"], &whole["stop_sequence"]),
        (&json!("end_turn"), &Value::Null)
    );
    let usage = &whole["usage"];
    assert!(usage["input_tokens"].as_u64().unwrap() > 4, "{usage}");
    assert!(usage["output_tokens"].as_u64().unwrap() > 2, "{usage}");
    assert_eq!(usage["cache_read_input_tokens"], 0);
    assert!(answer.header("request-id").is_some());
    assert_eq!(answer.header("request-id"), answer.header("x-request-id"));

    let mut fields = said("Hello there, wörld!");
    fields["stream"] = json!(true);
    let answer = ask(&program, fields);
    let first = &events(&answer)[0]["message"];
    assert_eq!((&first["content"], &first["stop_reason"]), (&json!([]), &Value::Null));
    assert_eq!(first["usage"]["input_tokens"], usage["input_tokens"]);
    let mut streamed = assembled(&answer);
    streamed["id"] = whole["id"].clone();
    assert_eq!(streamed, whole);
}

#[test]
fn why_it_ended_is_said_in_anthropics_words() {
    let (_simulator, program) = start();
    for (line, stops, reason, sequence) in [
        ("/sim finish=length", json!([]), "max_tokens", Value::Null),
        ("/sim finish=content_filter", json!([]), "refusal", Value::Null),
        ("/sim text=count", json!(["x", "5 "]), "stop_sequence", json!("5 ")),
    ] {
        for stream in [false, true] {
            let mut fields = said(line);
            fields["stop_sequences"] = stops.clone();
            fields["stream"] = json!(stream);
            let answer = ask(&program, fields);
            let message = if stream { assembled(&answer) } else { message(&answer) };
            assert_eq!(
                (&message["stop_reason"], &message["stop_sequence"]),
                (&json!(reason), &sequence)
            );
            if sequence != Value::Null {
                assert_eq!(message["content"][0]["text"], "1 2 3 4 ");
            }
        }
    }
}

#[test]
fn an_empty_answer_has_no_block() {
    let (_simulator, program) = start();
    let mut fields = said("/sim say=");
    assert_eq!(message(&ask(&program, fields.clone()))["content"], json!([]));
    fields["stream"] = json!(true);
    assert_eq!(assembled(&ask(&program, fields))["content"], json!([]));
}

#[test]
fn what_the_model_is_given() {
    let (simulator, program) = start();
    let text =
        |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
    let thought = json!({"type": "thinking", "thinking": "Hm.", "signature": "x"});
    let answer = ask(
        &program,
        json!({
            "model": "gpt-5", "max_tokens": 500, "metadata": {"user_id": "u"},
            "temperature": 0.5, "top_k": 3, "output_config": {"effort": "max"},
            "thinking": {"type": "enabled", "budget_tokens": 1024}, "service_tier": "auto",
            "system": [text("Be brief."), text("Be kind.")],
            "messages": [
                {"role": "user", "content": [text("One"), text("two")]},
                {"role": "assistant", "content": [thought, text("A"), text("B")]},
                {"role": "user", "content": "three"},
                {"role": "user", "content": "four"},
                {"role": "system", "content": "Be quick."},
            ]
        }),
    );
    assert_eq!(message(&answer)["model"], "gpt-5");
    let expected = [
        pair("developer", "Be brief.\nBe kind."),
        pair("user", "One\ntwo"),
        pair("assistant", "AB"),
        pair("user", "three"),
        pair("user", "four"),
        pair("developer", "Be quick."),
    ];
    assert_eq!(sent(&simulator), expected);
    let meta = simulator.runs().last().unwrap()["prompt_meta"].clone();
    assert_eq!(
        (&meta["max_completion_tokens"], &meta["reasoning_effort"]),
        (&json!(500), &json!("high"))
    );
    assert_eq!(
        answer.header("x-langfast2api-ignored"),
        Some("output_config.effort, temperature, thinking, top_k")
    );
}

#[test]
fn a_prefill_is_passed_on_and_named() {
    let (simulator, program) = start();
    let answer = ask(
        &program,
        json!({"messages": [
            {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The answer is ("}
        ]}),
    );
    assert_eq!(answer.header("x-langfast2api-ignored"), Some("prefill"));
    assert_eq!(sent(&simulator), [pair("user", "Hi"), pair("assistant", "The answer is (")]);
}

fn tool(name: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]});
    json!({"name": name, "description": "A fact of a place.", "input_schema": schema})
}

fn tools() -> Value {
    let mut custom = tool("time");
    custom["type"] = json!("custom");
    json!([tool("weather"), custom])
}

fn called(name: &str, place: &str) -> Value {
    json!({"name": name, "arguments": {"place": place}})
}

#[test]
fn calls_are_blocks_behind_the_text() {
    let (simulator, program) = start();
    for text in ["", "Let me look."] {
        for stream in [false, true] {
            let calls = [called("weather", "Oslo"), called("time", "é😀")];
            simulator.turn(json!({"text": text, "calls": calls, "sim": "events=30"}));
            let answer = ask(&program, json!({"tools": tools(), "stream": stream}));
            let message = if stream { assembled(&answer) } else { message(&answer) };
            assert_eq!(message["stop_reason"], "tool_use");
            let blocks = message["content"].as_array().unwrap();
            let (texts, uses) = blocks.split_at(blocks.len() - 2);
            match text {
                "" => assert!(texts.is_empty()),
                _ => assert_eq!(texts, [json!({"type": "text", "text": text, "citations": null})]),
            }
            for (block, call) in uses.iter().zip(&calls) {
                assert!(block["id"].as_str().unwrap().starts_with("toolu_"), "{block}");
                assert_eq!(
                    (&block["type"], &block["name"], &block["input"]),
                    (&json!("tool_use"), &call["name"], &call["arguments"])
                );
            }
        }
    }
}

#[test]
fn results_come_back_before_the_text_beside_them() {
    let (simulator, program) = start();
    let used = |id: &str, name: &str| json!({"type": "tool_use", "id": id, "name": name, "input": {"place": "Oslo"}});
    let parts = json!([{"type": "text", "text": "no"}, {"type": "text", "text": "clock"}]);
    let answer = ask(
        &program,
        json!({"tools": tools(), "messages": [
            {"role": "user", "content": "How is it?"},
            {"role": "assistant", "content": [used("a", "weather"), used("b", "time")]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "b", "content": parts, "is_error": true},
                {"type": "text", "text": "So?"},
            ]},
        ]}),
    );
    assert_eq!(message(&answer)["content"][0]["text"], "So?");
    let sent = sent(&simulator);
    let roles: Vec<&str> = sent.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "user"]);
    assert!(sent[2].1.contains(r#"name="weather">{"place":"Oslo"}<"#), "{}", sent[2].1);
    assert!(sent[3].1.contains(r#"name="weather" call="1">"#), "{}", sent[3].1);
    assert!(sent[3].1.contains("call=\"2\" error=\"true\">\nno\nclock\n"), "{}", sent[3].1);
}

#[test]
fn a_call_may_be_required_forbidden_and_alone() {
    let (simulator, program) = start();
    let choose = |choice: Value| ask(&program, json!({"tools": tools(), "tool_choice": choice}));
    for choice in [json!({"type": "any"}), json!({"type": "tool", "name": "weather"})] {
        simulator.turn(json!({"calls": [called("weather", "Oslo")]}));
        let message = message(&choose(choice));
        assert_eq!(message["content"][0]["input"], json!({"place": "Oslo"}));
        let meta = simulator.runs().last().unwrap()["prompt_meta"].clone();
        assert_eq!(meta["response_format"]["type"], "json_schema");
    }
    assert_eq!(message(&choose(json!({"type": "none"})))["stop_reason"], "end_turn");
    assert_eq!(sent(&simulator), [pair("user", "Hi")]);
    choose(json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert!(sent(&simulator)[0].1.contains("Write one call at a time."));
}

#[test]
fn arguments_that_are_no_object_are_told_as_what_they_are() {
    let (simulator, program) = start();
    simulator.turn(json!({"calls": [{"name": "weather", "arguments": "{\"place\": }"}]}));
    let answer = ask(&program, json!({"tools": tools()}));
    let block = message(&answer)["content"][0].clone();
    assert_eq!(block["input"], json!({"INVALID_JSON": "{\"place\": }"}));
    assert_eq!(answer.header("x-langfast2api-tools"), Some("invalid-arguments"));
}

#[test]
fn tools_that_anthropics_models_know_by_heart_are_described_to_others() {
    let (simulator, program) = start();
    let known = json!([
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "memory_20250818", "name": "memory"},
    ]);
    simulator.turn(json!({"calls": [{"name": "bash", "arguments": {"command": "ls"}}]}));
    let answer = ask(&program, json!({"tools": known}));
    assert_eq!(message(&answer)["content"][0]["input"], json!({"command": "ls"}));
    let told = &sent(&simulator)[0].1;
    for part in
        ["<tool name=\"bash\">\n", "\"restart\"", "\"str_replace_based_edit_tool\"", "\"old_path\""]
    {
        assert!(told.contains(part), "{part}");
    }
    assert!(!told.contains("undo_edit"));
}

#[test]
fn an_answer_of_a_schema_is_asked_for_as_one() {
    let (simulator, program) = start();
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    for fields in [json!({"output_config": {"format": format}}), json!({"output_format": format})] {
        simulator.turn(json!({"text": "{}"}));
        assert_eq!(ask(&program, fields).header("x-langfast2api-json"), Some("valid"));
        let meta = simulator.runs().last().unwrap()["prompt_meta"].clone();
        assert_eq!(meta["response_format"]["json_schema"]["schema"], json!({"type": "object"}));
    }
}

#[test]
fn what_is_wrong_is_named_and_starts_no_run() {
    let (simulator, program) = start();
    let block = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    for (fields, named) in [
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"model": ""}), "model"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": [{"role": "tool", "content": ""}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"temperature": 1.5}), "temperature"),
        (json!({"stop_sequences": [1]}), "stop_sequences"),
        (json!({"output_config": {"effort": 1}}), "output_config.effort"),
        (json!({"output_config": {"format": {"type": "xml"}}}), "output_config.format.type"),
        (block(json!({"type": "image", "source": {}})), "messages[0].content[0]"),
        (block(json!({"type": "document", "source": {}})), "messages[0].content[0]"),
        (block(json!({"type": "text"})), "messages[0].content[0].text"),
        (block(json!({"type": "tool_use", "id": "a", "name": "b"})), "messages[0].content[0]"),
        (
            block(json!({"type": "tool_result", "tool_use_id": "x"})),
            "messages[0].content[0].tool_use_id",
        ),
        (json!({"tools": [{"name": "a"}]}), "tools[0].input_schema"),
        (json!({"tools": [tool("a b")]}), "tools[0].name"),
        (json!({"tools": [tool("a")], "tool_choice": {"type": "some"}}), "tool_choice.type"),
        (
            json!({"tools": [tool("a")], "tool_choice": {"type": "tool", "name": "b"}}),
            "tool_choice",
        ),
    ] {
        let answer = ask(&program, fields.clone());
        assert_eq!(answer.status, 400, "{fields}: {}", answer.text());
        assert_eq!(answer.error()["type"], "invalid_request_error");
        let told = answer.error()["message"].as_str().unwrap().to_owned();
        assert!(told.contains(&format!("`{named}`")), "{fields}: {told}");
    }
    assert!(simulator.runs().is_empty());
}

/// The error's type, of an answer that is in Anthropic's envelope.
fn error_type(answer: &Response) -> String {
    let body = answer.json();
    assert_eq!(body["type"], "error", "{body}");
    assert_eq!(body["request_id"].as_str(), answer.header("request-id"));
    assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    body["error"]["type"].as_str().unwrap().to_owned()
}

#[test]
fn errors_are_anthropics_wherever_they_come_from() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url())
        .env("LANGFAST2API_API_KEYS", "secret")
        .args(["--max-body=1", "--unknown-models=refuse"])
        .start();
    let post = |path: &str, headers: &str, body: &[u8]| {
        let answer = program.request("POST", path, &format!("{JSON}{headers}"), body);
        (answer.status, error_type(&answer))
    };
    let key = "x-api-key: secret\r\n";
    let expected = |status: u16, kind: &str| (status, kind.to_owned());
    let messages = "/v1/messages";
    assert_eq!(post(messages, "", b"{}"), expected(401, "authentication_error"));
    assert_eq!(post(messages, "x-api-key: no\r\n", b"{}"), expected(401, "authentication_error"));
    assert_eq!(post(messages, key, b"{}"), expected(400, "invalid_request_error"));
    let large = vec![b' '; 2 << 20];
    assert_eq!(post(messages, key, &large), expected(413, "request_too_large"));
    let unknown = body(json!({"model": "claude-x"}));
    assert_eq!(post(messages, key, &unknown), expected(404, "not_found_error"));
    let versioned = format!("{key}anthropic-version: 2023-06-01\r\n");
    assert_eq!(post("/v1/files", &versioned, b"{}"), expected(404, "not_found_error"));
    let wrong_method = program.request("GET", messages, key, b"");
    assert_eq!(
        (wrong_method.status, error_type(&wrong_method).as_str()),
        (405, "invalid_request_error")
    );
    for (line, status, kind) in [
        ("/sim error=no%20luck", 502, "api_error"),
        // Last, since it is remembered.
        ("/sim error=Daily%20limit%20reached", 429, "rate_limit_error"),
    ] {
        let answer = post(messages, key, &body(said(line)));
        assert_eq!(answer, expected(status, kind));
    }
}

#[test]
fn a_conversation_that_the_server_should_keep_is_refused_so_that_sdks_send_all_of_it() {
    let (simulator, program) = start();
    let answer = ask(&program, json!({"thread": {"type": "create"}}));
    assert_eq!((answer.status, error_type(&answer).as_str()), (400, "invalid_request_error"));
    assert_eq!(answer.error()["details"], json!({"error_code": "thread_unsupported_request"}));
    assert!(simulator.runs().is_empty());
    assert_eq!(ask(&program, json!({"thread": null})).status, 200);
    let other = ask(&program, json!({"max_tokens": 0}));
    assert!(other.error().get("details").is_none());
}

#[test]
fn openais_routes_keep_their_envelope() {
    let (_simulator, program) = start();
    for answer in [program.get("/v1/messages/batches"), program.chat(json!({}))] {
        assert!(answer.status >= 400 && answer.json().get("type").is_none(), "{}", answer.text());
        assert!(answer.error().get("param").is_some());
    }
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error_event() {
    let (_simulator, program) = start();
    let mut fields = said("/sim fail=5 error=it%20broke");
    fields["stream"] = json!(true);
    let events = events(&ask(&program, fields));
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!("api_error")));
    assert!(last["error"]["message"].as_str().unwrap().contains("it broke"));
    assert!(events.iter().all(|event| event["type"] != "message_delta"));
}

#[test]
fn silence_is_filled_with_pings() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--keep-alive").arg("0.1").start();
    let mut fields = said("/sim events=2 silence=600");
    fields["stream"] = json!(true);
    let answer = ask(&program, fields);
    assert!(events(&answer).iter().filter(|event| event["type"] == "ping").count() >= 2);
    assert_eq!(assembled(&answer)["content"][0]["text"], "1 2 ");
}

#[test]
fn tokens_are_counted_as_the_answer_counts_them_and_nothing_is_run() {
    let (simulator, program) = start();
    let count = |fields: Value| {
        let mut fields: Value = serde_json::from_slice(&body(fields)).unwrap();
        fields.as_object_mut().unwrap().remove("max_tokens");
        let body = fields.to_string();
        program.request("POST", "/v1/messages/count_tokens", JSON, body.as_bytes())
    };
    let fields = json!({"system": "Be brief."});
    let counted = count(fields.clone());
    assert_eq!(counted.status, 200, "{}", counted.text());
    assert!(simulator.runs().is_empty());
    let counted = counted.json()["input_tokens"].clone();
    assert_eq!(message(&ask(&program, fields))["usage"]["input_tokens"], counted);
    let with_tools = count(json!({"system": "Be brief.", "tools": tools()})).json();
    assert!(with_tools["input_tokens"].as_u64() > counted.as_u64());
    let wrong = count(json!({"messages": 7}));
    assert_eq!((wrong.status, error_type(&wrong).as_str()), (400, "invalid_request_error"));
}

#[test]
fn models_are_listed_as_anthropics_for_its_clients() {
    let (_simulator, program) = start();
    let get = |path: &str| program.request("GET", path, "anthropic-version: 2023-06-01\r\n", b"");
    let list = get("/v1/models?limit=1000&all=true").json();
    let data = list["data"].as_array().unwrap();
    assert_eq!((data.len(), &list["has_more"]), (17, &json!(false)));
    assert_eq!((&list["first_id"], &list["last_id"]), (&data[0]["id"], &data[16]["id"]));
    let one = get("/v1/models/gpt-4o").json();
    assert!(data.contains(&one), "{one}");
    assert_eq!((&one["type"], &one["display_name"]), (&json!("model"), &json!("GPT-4o")));
    assert_eq!(one["retires_at"], "2027-01-14T00:00:00Z");
    let gone = get("/v1/models/o1-mini").json();
    assert_eq!(
        (&gone["lifecycle"], &gone["retires_at"]),
        (&json!("retired"), &json!("2025-10-27T00:00:00Z"))
    );
    assert!(one["created_at"].as_str().unwrap().ends_with('Z'));
    let missing = get("/v1/models/claude-x");
    assert_eq!((missing.status, error_type(&missing).as_str()), (404, "not_found_error"));
    assert_eq!(program.get("/v1/models").json()["object"], "list");
}

#[test]
fn claudes_names_are_mapped_by_a_setting_and_come_back() {
    let simulator = Simulator::start();
    let aliases = "claude-haiku-*=gpt-4.1-mini,claude-*=gpt-4.1";
    let program = Start::new(&simulator.url()).arg("--model-aliases").arg(aliases).start();
    for (asked, served) in
        [("claude-opus-4-8", "gpt-4.1"), ("claude-haiku-4-5-20251001", "gpt-4.1-mini")]
    {
        assert_eq!(message(&ask(&program, json!({"model": asked})))["model"], asked);
        assert_eq!(simulator.runs().last().unwrap()["prompt_meta"]["model"], served);
    }
}
