//! What a client is told whose request is wrong: status, OpenAI's error object, and nothing started.

use crate::simulator::Simulator;
use crate::support::{Program, Response, Start, start, user};
use serde_json::{Value, json};

/// Checks the error object's four keys, and gives `[type, param, code]`.
fn error_of(response: &Response, status: u16) -> [Value; 3] {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert!(response.header("x-request-id").is_some());
    let whole = response.json();
    assert_eq!(whole.as_object().unwrap().len(), 1, "{whole}");
    let error = whole["error"].as_object().unwrap();
    let names: Vec<_> = error.keys().map(String::as_str).collect();
    assert_eq!(names.len(), 4, "message, type, param and code: {names:?}");
    assert!(error["message"].as_str().unwrap().len() > 5);
    ["type", "param", "code"].map(|name| error[name].clone())
}

fn post(program: &Program, headers: &str, body: &[u8]) -> Response {
    program.request("POST", "/v1/chat/completions", headers, body)
}

#[test]
fn a_body_that_is_no_json_object_is_refused() {
    let (simulator, program) = start();
    let deep = ["[", "{\"a\":", "[{\"a\":"].map(|open| open.repeat(100_000));
    let [lists, objects, both] = deep.each_ref().map(String::as_str);
    let deep_content = format!("{{\"messages\":{objects}");
    for body in [
        "",
        "  ",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{\"model\":}",
        "\u{feff}",
        "{}x",
        lists,
        objects,
        both,
        &deep_content,
    ] {
        let [kind, param, code] = error_of(&post(&program, "", body.as_bytes()), 400);
        assert_eq!((kind, param, code), (json!("invalid_request_error"), Value::Null, Value::Null));
    }
    error_of(&post(&program, "", b"{\"model\":\"\xff\"}"), 400);
    error_of(&post(&program, "", b"{\"model\":\"a\x00b\"}"), 400);
    assert_eq!(simulator.stats().http_requests, 0, "LangFast hears nothing of it");
}

/// A tool's schema that is nested as deep.
fn nested(levels: usize) -> String {
    format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))
}

#[test]
fn json_that_is_nested_too_deep_is_refused_as_that_in_every_dialect() {
    let (simulator, program) = start();
    let chat = |tool: &str| {
        format!(
            r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"hi"}}],"max_tokens":9,"tools":[{tool}]}}"#
        )
    };
    let ask = |path: &str, schema: &str| {
        let body = match path {
            "/v1/chat/completions" => chat(&format!(
                r#"{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}"#
            )),
            "/v1/messages" => chat(&format!(r#"{{"name":"f","input_schema":{schema}}}"#)),
            "/v1/responses" => format!(
                r#"{{"model":"gpt-4o","input":"hi","tools":[{{"type":"function","name":"f","parameters":{schema}}}]}}"#
            ),
            _ => format!(r#"{{"model":"gpt-4o","prompt":{schema}}}"#),
        };
        program.request("POST", path, "", body.as_bytes())
    };
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"] {
        for levels in [128, 10_000] {
            let answer = ask(path, &nested(levels));
            assert_eq!(answer.status, 400, "{path}");
            let message = answer.error()["message"].as_str().unwrap().to_owned();
            assert!(message.contains("nested deeper than 127 levels (line 1"), "{path}: {message}");
        }
    }
    assert_eq!(simulator.stats().runs, 0);
    // All that stands around a schema, and the schema, are within the limit.
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/responses"] {
        let answer = ask(path, &nested(120));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let (simulator, program) = start();
    let message = |fields: Value| json!({ "messages": [fields] });
    for (fields, param, code) in [
        (json!({"model": null}), "model", "missing_required_parameter"),
        (json!({"model": 7}), "model", "invalid_type"),
        (json!({}), "messages", "missing_required_parameter"),
        (json!({"messages": "Hi"}), "messages", "invalid_type"),
        (json!({"messages": []}), "messages", ""),
        (message(json!("Hi")), "messages[0]", "invalid_type"),
        (message(json!({"content": "Hi"})), "messages[0].role", "missing_required_parameter"),
        (message(json!({"role": "me", "content": "Hi"})), "messages[0].role", "invalid_value"),
        (message(json!({"role": "user"})), "messages[0].content", "invalid_type"),
        (message(json!({"role": "user", "content": 1})), "messages[0].content", "invalid_type"),
        (
            message(json!({"role": "user", "content": [{"type": "text"}]})),
            "messages[0].content[0].text",
            "invalid_type",
        ),
        (
            message(json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]})),
            "messages[0].content[0]",
            "unsupported_parameter",
        ),
    ] {
        let response = program.chat(fields.clone());
        let [kind, named, told] = error_of(&response, 400);
        assert_eq!((kind, named), (json!("invalid_request_error"), json!(param)), "{fields}");
        assert_eq!(told.as_str().unwrap_or_default(), code, "{fields}");
    }
    for (field, value) in [
        ("temperature", json!(2.1)),
        ("temperature", json!("1")),
        ("top_p", json!(-0.1)),
        ("presence_penalty", json!(3)),
        ("frequency_penalty", json!(-2.5)),
        ("n", json!(0)),
        ("n", json!(9)),
        ("n", json!(1.5)),
        ("max_tokens", json!("5")),
        ("max_completion_tokens", json!(0.5)),
        ("stop", json!(["a", "b", "c", "d", "e"])),
        ("stop", json!([1])),
        ("stream", json!("true")),
        ("stream_options", json!(true)),
        ("reasoning_effort", json!(1)),
        ("response_format", json!("json_object")),
        ("tools", json!("f")),
        ("functions", json!({"name": "f"})),
    ] {
        let mut fields = user("Hi");
        fields[field] = value.clone();
        let [_, param, _] = error_of(&program.chat(fields), 400);
        assert_eq!(param, field, "{value}");
    }
    assert_eq!(simulator.stats().http_requests, 0);
}

#[test]
fn a_stream_that_is_refused_is_refused_by_its_status() {
    let (_simulator, program) = start();
    let mut fields = user("Hi");
    fields["stream"] = json!(true);
    fields["temperature"] = json!(7);
    let response = program.chat(fields);
    error_of(&response, 400);
}

#[test]
fn tools_that_are_not_to_be_used_are_no_error() {
    let (_simulator, program) = start();
    for fields in [
        json!({"tools": []}),
        json!({"tools": [{"type": "function"}], "tool_choice": "none"}),
        json!({"functions": [{"name": "f"}], "function_call": "none"}),
    ] {
        let mut all = user("Hi");
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(program.chat(all).status, 200, "{fields}");
    }
}

#[test]
fn a_model_that_is_not_there_is_a_404() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(["--unknown-models", "refuse"]).start();
    let expected = [json!("invalid_request_error"), json!("model"), json!("model_not_found")];
    let mut fields = user("Hi");
    fields["model"] = json!("gpt-9\"<é>");
    let response = program.chat(fields);
    assert_eq!(error_of(&response, 404), expected);
    assert!(response.error()["message"].as_str().unwrap().contains("gpt-9\"<é>"));
    assert_eq!(error_of(&program.get("/v1/models/gpt-9"), 404), expected);
    assert_eq!(simulator.stats().http_requests, 0);
}

#[test]
fn a_url_that_is_not_there_is_a_404_and_a_method_a_405() {
    let (_simulator, program) = start();
    let response = program.get("/v1/embeddings");
    let [kind, _, _] = error_of(&response, 404);
    assert_eq!(kind, "invalid_request_error");
    let message = &response.error()["message"];
    let message = message.as_str().unwrap();
    assert!(message.starts_with("Unknown request URL: GET /v1/embeddings. "), "{message}");
    for (method, path, allow) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/gpt-4o", "GET, HEAD"),
    ] {
        let response = program.request(method, path, "", b"");
        error_of(&response, 405);
        assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
    }
}

#[test]
fn head_works_wherever_get_does_and_has_no_body() {
    let (_simulator, program) = start();
    for path in ["/", "/healthz", "/v1/models", "/v1/models/gpt-4o", "/v1/models/none"] {
        let expected = program.get(path);
        let mut connection = program.send("HEAD", path, "Connection: close\r\n", b"");
        let response = connection.head();
        assert_eq!(response.status, expected.status, "{path}");
        assert_eq!(response.header("content-length"), expected.header("content-length"), "{path}");
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut connection.stream, &mut rest).unwrap();
        assert_eq!(rest, b"", "{path}");
    }
    let mut connection = program.send("HEAD", "/v1/chat/completions", "", b"");
    let response = connection.head();
    assert_eq!((response.status, response.header("allow")), (405, Some("POST")));
}

#[test]
fn a_body_of_another_kind_is_a_415() {
    let (simulator, program) = start();
    let body = crate::support::chat_body(user("Hi")).to_string();
    for header in [
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    ] {
        error_of(&post(&program, header, body.as_bytes()), 415);
    }
    assert_eq!(simulator.stats().http_requests, 0);
    let header = "Content-Type: application/vnd.x+json\r\nContent-Encoding: identity\r\n";
    assert_eq!(post(&program, header, body.as_bytes()).status, 200);
}

#[test]
fn a_body_over_the_limit_is_a_413() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_MAX_BODY", "1").start();
    let mut connection = crate::support::Connection::open(program.address());
    connection
        .write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n");
    let response = connection.response();
    let [kind, _, _] = error_of(&response, 413);
    assert_eq!(kind, "invalid_request_error");
    let content = "x".repeat(1_000_000);
    assert_eq!(program.ask(&content).status, 200);
}

#[test]
fn without_a_right_key_nothing_is_let_in() {
    let simulator = Simulator::start();
    let program =
        Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", "right-1,right-2").start();
    let body = crate::support::chat_body(user("Hi")).to_string();
    let expected = [json!("invalid_request_error"), Value::Null, json!("invalid_api_key")];
    for header in ["", "Authorization: Bearer wrong\r\n", "Authorization: Bearer \r\n"] {
        let response = post(&program, header, body.as_bytes());
        assert_eq!(error_of(&response, 401), expected, "{header}");
        assert!(!response.text().contains("right-1"));
    }
    assert_eq!(simulator.stats().http_requests, 0);
    let right = "Authorization: Bearer right-2\r\n";
    assert_eq!(post(&program, right, body.as_bytes()).content(), "Hi");
    assert_eq!(program.get("/healthz").status, 200, "probes need no key");
    assert_eq!(program.get("/v1/models").status, 401);
}

#[test]
fn more_requests_than_are_allowed_are_told_to_come_back() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_MAX_REQUESTS", "1").start();
    let mut held = program.chat_connection(user("/sim say=Hi first=60000"));
    simulator.wait_until(|stats| stats.runs == 1);
    let response = program.ask("Hi");
    let [kind, _, _] = error_of(&response, 503);
    assert_eq!(kind, "server_error");
    assert_eq!(response.header("retry-after"), Some("1"));
    held.stream.get_mut().shutdown(std::net::Shutdown::Both).unwrap();
    crate::support::wait_until("room for a request", || program.ask("Hi").status == 200);
}

#[test]
fn models_are_listed_and_found_by_every_name() {
    let (_simulator, program) = start();
    let list = program.get("/v1/models?all=true").json();
    assert_eq!(list["object"], "list");
    let models = list["data"].as_array().unwrap();
    assert_eq!(models.len(), 17);
    for model in models {
        let names: Vec<_> = model.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["id", "object", "created", "owned_by", "shutdown_date"]);
        assert_eq!(
            program.get(&format!("/v1/models/{}", model["id"].as_str().unwrap())).json(),
            *model
        );
    }
    let dated = program.get("/v1/models/gpt-4o-2024-08-06").json();
    assert_eq!(dated["id"], "gpt-4o-2024-08-06");
}
