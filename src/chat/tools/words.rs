//! Calls and results of earlier turns as text for the model.
//!
//! Untrusted text stands between markers with a nonce that occurs nowhere in the conversation
//! ([`super::nonce`]): a tool's result can neither end its own block nor contain a call.

use std::collections::{HashMap, VecDeque};

use super::marked::Marker;
use crate::chat::{Content, Message, Role, ToolCall, ToolResult, Turn};

/// For each call's id, the calls of the latest turn that has it and that no result belongs to yet: the
/// tool's name, and the call's number within its message, from 1; 0 if it is the only one. Some clients
/// give all calls of a turn one id: the n-th result belongs to the n-th of them. The last one stays for
/// whatever else comes.
type Called = HashMap<String, VecDeque<(String, usize)>>;

/// Returns the conversation as messages. `introduction` follows the system and developer messages at its
/// beginning.
pub fn messages(turns: Vec<Turn>, introduction: String, nonce: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::with_capacity(turns.len() + 1);
    let mut called = Called::new();
    let mut behind_result = false;
    for turn in turns {
        let is_result = matches!(turn, Turn::Result(_));
        match turn {
            Turn::Message(message) => messages.push(message),
            Turn::Calls { content, calls } => {
                let content = self::calls(content.into_text(), &calls, nonce).into();
                messages.push(Message { role: Role::Assistant, content });
                note_calls(&mut called, calls);
            }
            Turn::Result(result) => {
                let content = self::result(result, &mut called, nonce);
                match messages.last_mut().filter(|_| behind_result) {
                    Some(message) => {
                        message.content.push_text("\n");
                        message.content.append(content);
                    }
                    None => messages.push(Message { role: Role::User, content }),
                }
            }
        }
        behind_result = is_result;
    }
    let is_instruction = |m: &Message| matches!(m.role, Role::System | Role::Developer);
    let at = messages.iter().position(|m| !is_instruction(m)).unwrap_or(messages.len());
    messages.insert(at, Message { role: Role::System, content: introduction.into() });
    messages
}

fn calls(mut text: String, calls: &[ToolCall], nonce: &str) -> String {
    let marker = Marker::new(nonce);
    for call in calls {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &marker.call(&attribute(&call.name), arguments(&call.arguments));
    }
    text
}

/// The arguments of an earlier call; an empty object where a client has sent nothing, since the model
/// writes what it reads.
fn arguments(sent: &str) -> &str {
    match sent.trim() {
        "" | "null" => "{}",
        _ => sent,
    }
}

/// A result between its markers. Images of it stay where they are, so between them too.
fn result(result: ToolResult, called: &mut Called, nonce: &str) -> Content {
    let (called_name, number) = next_call(called, &result.call_id).unwrap_or_default();
    let name = attribute(&result.name.unwrap_or(called_name));
    let number = if number > 0 { format!(" call=\"{number}\"") } else { String::new() };
    let error = if result.is_error { " error=\"true\"" } else { "" };
    let mut content: Content = format!("<result-{nonce} name=\"{name}\"{number}{error}>\n").into();
    content.append(result.content);
    content.push_text(&format!("\n</result-{nonce}>"));
    content
}

/// Returns a name made fit for an attribute: clients may send any name in a history.
fn attribute(name: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || "_-.:/".contains(c);
    name.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// Notes the calls of a turn. Those of earlier turns that have the same ids are done with.
fn note_calls(called: &mut Called, calls: Vec<ToolCall>) {
    let several = calls.len() > 1;
    for call in &calls {
        called.remove(&call.id);
    }
    for (at, call) in calls.into_iter().enumerate() {
        let number = if several { at + 1 } else { 0 };
        called.entry(call.id).or_default().push_back((call.name, number));
    }
}

/// The call that the next result of this id belongs to.
fn next_call(called: &mut Called, id: &str) -> Option<(String, usize)> {
    let calls = called.get_mut(id)?;
    if calls.len() > 1 { calls.pop_front() } else { calls.front().cloned() }
}
