//! Every kind of answer, read into the types of async-openai, which know no value, event or type of item
//! but OpenAI's, and miss every field that OpenAI always sends.

use async_openai::types::chat::{CreateChatCompletionResponse, CreateChatCompletionStreamResponse};
use async_openai::types::completions::CreateCompletionResponse;
use async_openai::types::models::{ListModelResponse, Model};
use async_openai::types::responses::{Response as ResponseObject, ResponseStreamEvent};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::simulator::Simulator;
use crate::support::{Program, start};

/// Asks, whole and streamed, with the model playing the turns, and reads both answers.
struct Asked<'a> {
    simulator: &'a Simulator,
    program: &'a Program,
    path: &'a str,
}

impl Asked<'_> {
    fn read<Whole: DeserializeOwned, Event: DeserializeOwned>(&self, body: Value, turn: Value) {
        for stream in [false, true] {
            if !turn.is_null() {
                self.simulator.turn(turn.clone());
            }
            let mut body = body.clone();
            body["stream"] = json!(stream);
            let bytes = body.to_string();
            let answer = self.program.request("POST", self.path, "", bytes.as_bytes());
            assert_eq!(answer.status, 200, "{}", answer.text());
            if stream {
                let data = answer.text().lines().filter_map(|line| line.strip_prefix("data: "));
                let events: Vec<&str> = data.filter(|data| *data != "[DONE]").collect();
                assert!(events.len() > 2, "{}", answer.text());
                events.into_iter().for_each(read::<Event>);
            } else {
                read::<Whole>(answer.text());
            }
        }
    }
}

fn read<T: DeserializeOwned>(text: &str) {
    if let Err(error) = serde_json::from_str::<T>(text) {
        panic!("{error}: {text}");
    }
}

fn function(more: Value) -> Value {
    let mut tool = json!({"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}});
    tool.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    tool
}

fn calls() -> Value {
    json!({"text": "Let me see.", "calls": [
        {"name": "add", "arguments": {"a": 1}}, {"name": "add", "arguments": {"a": 2}}
    ]})
}

#[test]
fn chat_completions_are_read_by_strict_types() {
    let (simulator, program) = start();
    let asked = Asked { simulator: &simulator, program: &program, path: "/v1/chat/completions" };
    let tools = json!([{"type": "function", "function": function(json!({}))}]);
    for (more, turn) in [
        (json!({}), Value::Null),
        (json!({"n": 2, "stream_options": {"include_usage": true}}), Value::Null),
        (json!({"max_tokens": 5, "logprobs": true, "service_tier": "auto"}), Value::Null),
        (json!({"tools": tools}), calls()),
        (json!({"functions": [function(json!({}))]}), calls()),
    ] {
        let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Good day to you"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked.read::<CreateChatCompletionResponse, CreateChatCompletionStreamResponse>(body, turn);
    }
}

#[test]
fn text_completions_and_models_are_read_by_strict_types() {
    let (simulator, program) = start();
    let asked = Asked { simulator: &simulator, program: &program, path: "/v1/completions" };
    for body in [
        json!({"model": "gpt-4o", "prompt": "Good day to you"}),
        json!({"model": "gpt-4o", "prompt": ["Good day", "to you"], "echo": true, "logprobs": 2,
               "stream_options": {"include_usage": true}}),
    ] {
        asked.read::<CreateCompletionResponse, CreateCompletionResponse>(body, Value::Null);
    }
    read::<ListModelResponse>(program.get("/v1/models?all=true").text());
    read::<Model>(program.get("/v1/models/gpt-4o").text());
}

#[test]
fn responses_are_read_by_strict_types() {
    let (simulator, program) = start();
    let asked = Asked { simulator: &simulator, program: &program, path: "/v1/responses" };
    let tool = function(json!({"type": "function", "strict": false}));
    let choice = json!({"type": "function", "name": "add"});
    let format = json!({"type": "json_schema", "name": "x", "schema": {"type": "object"}});
    for (more, turn) in [
        (json!({}), Value::Null),
        (
            json!({"instructions": "Be brief.", "metadata": {"a": "b"}, "user": "u", "truncation": "auto",
                   "reasoning": {"effort": "low", "summary": "auto"}, "temperature": 0.5, "top_p": 0.5,
                   "max_output_tokens": 50, "text": {"verbosity": "low", "format": format}}),
            Value::Null,
        ),
        (json!({"input": "/sim text=lorem finish=length"}), Value::Null),
        (json!({"tools": [tool.clone()]}), calls()),
        (json!({"tools": [tool.clone()], "tool_choice": choice}), calls()),
        (
            json!({"tools": [{"type": "custom", "name": "sh"}]}),
            json!({"text": "", "calls": [{"name": "sh", "arguments": {"input": "ls"}}]}),
        ),
        (
            json!({"tools": [{"type": "namespace", "name": "sums", "description": "Sums.", "tools": [tool]}]}),
            json!({"text": "", "calls": [{"name": "sums__add", "arguments": {"a": 1}}]}),
        ),
    ] {
        let mut body = json!({"model": "gpt-5", "input": "Good day to you", "store": false});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked.read::<ResponseObject, ResponseStreamEvent>(body, turn);
    }
}

#[test]
fn a_response_repeats_its_tools_with_the_fields_that_clients_want_to_see() {
    let (simulator, program) = start();
    let body = json!({"model": "gpt-5", "input": "Hi", "tools": [
        {"type": "function", "name": "a"}, {"type": "custom", "name": "b"},
        {"type": "custom", "name": "c", "format": {"type": "text"}, "description": "C."}
    ]});
    simulator.turn(json!({"text": "Hello."}));
    let answer = program.request("POST", "/v1/responses", "", body.to_string().as_bytes());
    let plain = json!({"type": "text"});
    let expected = json!([
        {"type": "function", "name": "a", "parameters": null, "strict": null},
        {"type": "custom", "name": "b", "format": plain},
        {"type": "custom", "name": "c", "format": plain, "description": "C."}
    ]);
    assert_eq!(answer.json()["tools"], expected);
}

#[test]
fn a_response_that_fails_is_read_by_strict_types() {
    let (_simulator, program) = start();
    let body =
        json!({"model": "gpt-5", "input": "/sim text=lorem fail=3", "stream": true}).to_string();
    let answer = program.request("POST", "/v1/responses", "", body.as_bytes());
    let data = answer.text().lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<&str> = data.collect();
    events.iter().for_each(|event| read::<ResponseStreamEvent>(event));
    assert!(events.last().unwrap().contains("response.failed"), "{}", answer.text());
}
