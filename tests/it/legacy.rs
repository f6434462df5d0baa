//! `POST /v1/completions`, and JSON answers held against what was asked for.

use crate::simulator::Simulator;
use crate::support::{Program, Response, chat_body};
use serde_json::{Value, json};

fn complete(program: &Program, fields: Value) -> Response {
    let body = chat_body(fields).to_string();
    program.request("POST", "/v1/completions", "", body.as_bytes())
}

#[test]
fn a_text_completion_is_answered_whole() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    let answer = complete(&program, json!({"prompt": "one two", "max_tokens": 5, "echo": true}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["object"], "text_completion");
    let choice =
        json!({"index": 0, "text": "one twoone two", "logprobs": null, "finish_reason": "stop"});
    assert_eq!(answer["choices"], json!([choice]));
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(simulator.runs()[0]["prompt_meta"]["max_completion_tokens"], 5);
}

#[test]
fn several_prompts_are_several_choices() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    let answer = complete(&program, json!({"prompt": ["a", "b"], "n": 2})).json();
    let texts: Vec<&str> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["a", "a", "b", "b"]);
    assert_eq!(simulator.stats().runs, 4);
}

#[test]
fn a_text_completion_is_streamed() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    let fields = json!({
        "prompt": "one two", "stream": true, "stream_options": {"include_usage": true}
    });
    let answer = complete(&program, fields);
    assert!(answer.is_done());
    let chunks = answer.chunks();
    let texts: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(texts, "one two");
    let (usage, rest) = chunks.split_last().unwrap();
    assert!(usage["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(rest.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion"));
}

#[test]
fn what_is_wrong_with_a_text_completion_is_named() {
    let program = Program::start("http://127.0.0.1:1");
    for (fields, param) in [
        (json!({}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [1, 2]}), "prompt"),
        (json!({"prompt": ["a", "b", "c"], "n": 3}), "prompt"),
        (json!({"prompt": "a", "echo": "yes"}), "echo"),
    ] {
        let refused = complete(&program, fields.clone());
        assert_eq!((refused.status, &refused.error()["param"]), (400, &json!(param)), "{fields}");
    }
}

#[test]
fn json_answers_are_checked_and_freed_of_a_fence() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    let ask = |text: &str, format: Value| {
        let text = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let messages = json!([{"role": "user", "content": format!("/sim say={text}")}]);
        program.chat(json!({"messages": messages, "response_format": format}))
    };
    let object = json!({"type": "json_object"});
    let answer = ask("```json\n{\"a\": 1}\n```", object.clone());
    assert_eq!(answer.header("x-langfast2api-json"), Some("repaired"));
    assert_eq!(answer.content(), "{\"a\": 1}");
    let answer = ask("not so", object);
    assert_eq!(answer.header("x-langfast2api-json"), Some("not-json"));
    assert_eq!(answer.content(), "not so");

    // Of several choices the worst counts.
    simulator.turn(json!({"text": "{}"}));
    simulator.turn(json!({"text": "not so"}));
    let mut fields = crate::support::user("Hi");
    (fields["n"], fields["response_format"]) = (json!(2), json!({"type": "json_object"}));
    assert_eq!(program.chat(fields).header("x-langfast2api-json"), Some("not-json"));

    let schema = json!({"type": "object", "required": ["a"]});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let answer = ask("{\"b\": 1}", format.clone());
    assert_eq!(answer.header("x-langfast2api-json"), Some("not-of-schema"));
    let answer = ask("{\"a\": 1}", format);
    assert_eq!(answer.header("x-langfast2api-json"), Some("valid"));
    for (rules, text, expected) in [
        (
            json!({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}),
            "[\"a\", 1]",
            "valid",
        ),
        (
            json!({"patternProperties": {"^x-": {}}, "additionalProperties": false}),
            "{\"x-a\": 1}",
            "valid",
        ),
        (json!({"enum": [1]}), "1.0", "valid"),
        (json!({"type": "string", "nullable": true}), "null", "valid"),
        (json!({"pattern": "^[a-z]+$"}), "\"A\"", "not-of-schema"),
        (json!({"pattern": "^(?=a)"}), "\"A\"", "unjudged"),
    ] {
        let schema = json!({"type": "object", "properties": {"a": rules}});
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let answer = ask(&format!("{{\"a\": {text}}}"), format);
        assert_eq!(answer.header("x-langfast2api-json"), Some(expected), "{schema}");
    }
    assert_eq!(ask("{}", json!({"type": "text"})).header("x-langfast2api-json"), None);
}
