//! Requests that hold thousands of what others have a few of: each is read in time and memory by its length.
//! By the square of it each of these would take minutes.

use std::fmt::Write;
use std::time::Duration;

use super::CompletionRequest;
use super::{anthropic, openai};
use crate::chat::media::Images;
use crate::chat::{ChatRequest, Turn};
use crate::error::Error;
use crate::stored::{Owner, Store};

/// Of each kind of thing so many.
const MANY: usize = 50_000;

/// Repetitions of a JSON value in which `#` is the number, as a list without its brackets.
fn many(count: usize, json: &str) -> String {
    let mut list = String::new();
    for at in 0..count {
        write!(list, "{}{}", if at > 0 { "," } else { "" }, json.replace('#', &at.to_string()))
            .unwrap();
    }
    list
}

fn chat(read: Result<CompletionRequest, Error>) -> ChatRequest {
    read.unwrap().chats.remove(0)
}

fn completion(fields: String) -> ChatRequest {
    let body = format!("{{\"model\":\"m\",{fields}}}").into_bytes();
    chat(openai::request::parse(&mut body.into(), Images::Refuse, None))
}

fn response(fields: String) -> ChatRequest {
    let body = format!("{{\"model\":\"m\",{fields}}}").into_bytes();
    let own = Store::new(0, Duration::ZERO, None).of(Owner::default());
    chat(openai::responses::parse(&mut body.into(), Images::Refuse, &own))
}

fn message(fields: String) -> ChatRequest {
    let body = format!("{{\"model\":\"m\",\"max_tokens\":9,{fields}}}").into_bytes();
    chat(anthropic::request::parse(&mut body.into(), Images::Refuse))
}

fn results(chat: &ChatRequest) -> usize {
    chat.turns.iter().filter(|turn| matches!(turn, Turn::Result(_))).count()
}

#[test]
fn many_calls_in_a_completion_have_as_many_results() {
    let calls = many(
        MANY,
        r##"{"id":"call_#","type":"function","function":{"name":"f","arguments":"{}"}}"##,
    );
    let told = many(MANY, r##"{"role":"tool","tool_call_id":"call_#","content":"1"}"##);
    let chat = completion(format!(
        r##""messages":[{{"role":"assistant","tool_calls":[{calls}]}},{told}]"##
    ));
    assert_eq!(results(&chat), MANY);
}

#[test]
fn many_calls_of_a_response_have_as_many_results() {
    let calls =
        many(MANY, r##"{"type":"function_call","call_id":"call_#","name":"f","arguments":"{}"}"##);
    let told = many(MANY, r##"{"type":"function_call_output","call_id":"call_#","output":"1"}"##);
    assert_eq!(results(&response(format!(r##""input":[{calls},{told}]"##))), MANY);
}

#[test]
fn many_calls_in_a_message_have_as_many_results() {
    let calls = many(MANY, r##"{"type":"tool_use","id":"call_#","name":"f","input":{}}"##);
    let told = many(MANY, r##"{"type":"tool_result","tool_use_id":"call_#","content":"1"}"##);
    let chat = message(format!(
        r##""messages":[{{"role":"assistant","content":[{calls}]}},{{"role":"user","content":[{told}]}}]"##
    ));
    assert_eq!(results(&chat), MANY);
}

#[test]
fn a_tool_that_is_referred_to_many_times_is_described_once() {
    let words = "x".repeat(100_000);
    let tools = format!(
        r##"{{"name":"a","input_schema":{{}}}},
            {{"name":"b","description":"{words}","input_schema":{{}},"defer_loading":true}}"##
    );
    let referred = many(4_000, r##"{"type":"tool_reference","tool_name":"b"}"##);
    let chat = message(format!(
        r##""tools":[{tools}],"messages":[
            {{"role":"assistant","content":[{{"type":"tool_use","id":"c","name":"a","input":{{}}}}]}},
            {{"role":"user","content":[{{"type":"tool_result","tool_use_id":"c","content":[{referred}]}}]}}]"##
    ));
    let Turn::Result(result) = &chat.turns[1] else { panic!("{:?}", chat.turns[1]) };
    let text = result.content.text();
    assert_eq!(text.matches("<tool name=\"b\">").count(), 1);
    assert_eq!(text.matches("The tool b can be called now").count(), 4_000);
}

#[test]
fn many_tools_are_replaced_by_later_ones_of_the_same_names() {
    let tools = many(9_000, r##"{"type":"function","name":"f#"}"##);
    let item = format!(r##"{{"type":"additional_tools","tools":[{tools}]}}"##);
    let items = vec![item; 8].join(",");
    let chat = response(format!(r##""input":[{items},{{"role":"user","content":"hi"}}]"##));
    let names = chat.tools.list.iter().map(|tool| tool.name.clone());
    assert!(names.eq((0..9_000).map(|at| format!("f{at}"))));
}

#[test]
fn of_many_tools_many_are_allowed() {
    let tool = r##"{"type":"function","name":"f#"}"##;
    let (tools, last) = (many(9_000, tool), many(MANY, &tool.replace('#', "8999")));
    let allowed = format!("{last},{}", many(8_990, tool));
    let chat = response(format!(
        r##""input":"hi","tools":[{tools}],
            "tool_choice":{{"type":"allowed_tools","mode":"auto","tools":[{allowed}]}}"##
    ));
    assert_eq!(chat.tools.allowed.unwrap().len(), 8_991);
}

#[test]
fn more_stop_texts_than_can_be_looked_for_are_refused() {
    let body = |count| {
        let stops = many(count, r##""#""##);
        let fields = r##""model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]"##;
        format!("{{{fields},\"stop_sequences\":[{stops}]}}").into_bytes()
    };
    let read = |count| anthropic::request::parse(&mut body(count).into(), Images::Refuse);
    assert_eq!(chat(read(1_000)).stop.len(), 1_000);
    let Err(Error::Invalid { param, .. }) = read(MANY) else { panic!("they are taken") };
    assert_eq!(param.as_deref(), Some("stop_sequences"));
}

#[test]
fn of_blocks_that_are_left_out_deep_in_others_short_paths_are_kept() {
    let mut content = format!("[{}]", many(5_000, r##"{"type":"x"}"##));
    for _ in 0..50 {
        content = format!(r##"[{{"type":"search_result","content":{content}}}]"##);
    }
    let chat = message(format!(
        r##""messages":[{{"role":"assistant","content":{content}}},{{"role":"user","content":"hi"}}]"##
    ));
    assert_eq!(chat.left_out.len(), 5_000);
    let bytes: usize = chat.left_out.iter().map(|left| left.place.len()).sum();
    assert!(bytes < 5_000 * 210, "{bytes}");
}
