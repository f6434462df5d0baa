//! Reads the input of a response, a text or the items of a conversation, as turns.

use serde_json::{Map, Value};

use super::NOT_STORED;
use super::tools;
use crate::chat::{Content, Role, ToolCall, ToolResult, Turn, find_call};
use crate::dialects::fields::{Fields, missing, wrong_type};
use crate::dialects::media::MediaReader;
use crate::dialects::openai::parts::content;
use crate::error::Error;

/// Reads the conversation, instructions first, then the `earlier` items.
pub fn turns(
    fields: &Fields,
    earlier: &[Value],
    media: &mut MediaReader,
) -> Result<Vec<Turn>, Error> {
    let instructions = fields.string("instructions")?.filter(|text| !text.is_empty());
    let mut turns: Vec<Turn> =
        instructions.into_iter().map(|text| Turn::message(Role::System, text)).collect();
    for item in earlier {
        add(&mut turns, "previous_response_id", item, media)?;
    }
    match fields.get("input") {
        None => return Err(missing("input")),
        Some(Value::String(text)) => turns.push(Turn::message(Role::User, text.as_str())),
        Some(Value::Array(items)) if items.is_empty() => {
            return Err(Error::invalid("input", "`input` must hold at least one item"));
        }
        Some(Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                add(&mut turns, &format!("input[{at}]"), item, media)?;
            }
        }
        Some(_) => return Err(wrong_type("input", "a string or a list of items")),
    }
    if turns.is_empty() {
        return Err(Error::invalid("input", "`input` must hold something besides reasoning"));
    }
    Ok(turns)
}

/// Adds an item to the turns of those before it.
fn add(
    turns: &mut Vec<Turn>,
    path: &str,
    value: &Value,
    media: &mut MediaReader,
) -> Result<(), Error> {
    let Value::Object(item) = value else { return Err(wrong_type(path, "an object")) };
    let text = |name: &str| {
        let text = item.get(name).and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(|| missing(&format!("{path}.{name}")))
    };
    match item.get("type").and_then(Value::as_str) {
        Some("message") => turns.push(message(path, item, media)?),
        None if item.contains_key("role") => turns.push(message(path, item, media)?),
        Some("function_call") => {
            let (id, name) = (text("call_id")?, tools::called_in(path, value)?);
            add_call(turns, ToolCall { id, name, arguments: text("arguments")? });
        }
        Some("custom_tool_call") => {
            let (id, name) = (text("call_id")?, tools::called_in(path, value)?);
            let arguments = tools::arguments_of(&text("input")?);
            add_call(turns, ToolCall { id, name, arguments });
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            let call_id = text("call_id")?;
            check_call(path, &call_id, turns)?;
            let path = format!("{path}.output");
            let content =
                content(&path, item.get("output"), media)?.ok_or_else(|| missing(&path))?;
            turns.push(Turn::Result(ToolResult { call_id, name: None, content, is_error: false }));
        }
        // Notes of another server for itself, which a model here cannot read.
        Some("reasoning") => {}
        Some("item_reference") => return Err(reference(path)),
        None if item.contains_key("id") => return Err(reference(path)),
        None => return Err(missing(&format!("{path}.type"))),
        Some(kind) => {
            let message = format!("`{path}` is of type `{kind}`, which is not supported here");
            return Err(Error::unsupported(path, message));
        }
    }
    Ok(())
}

fn reference(path: &str) -> Error {
    let hint = "the AI SDK does with providerOptions.openai.store: false";
    Error::unsupported(path, format!("`{path}` refers to an item: {NOT_STORED}; {hint}"))
}

fn message(path: &str, item: &Map<String, Value>, media: &mut MediaReader) -> Result<Turn, Error> {
    let role_path = format!("{path}.role");
    let role = match item.get("role").and_then(Value::as_str) {
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(_) => {
            let message = format!(
                "Invalid value for `{role_path}`: it must be system, developer, user or assistant"
            );
            return Err(Error::Invalid {
                message,
                param: Some(role_path),
                code: Some("invalid_value"),
            });
        }
        None => return Err(missing(&role_path)),
    };
    let path = format!("{path}.content");
    let content = content(&path, item.get("content"), media)?;
    Ok(Turn::message(role, content.ok_or_else(|| missing(&path))?))
}

/// Adds a call to the assistant's text and calls just before it, since one answer brought them all.
fn add_call(turns: &mut Vec<Turn>, call: ToolCall) {
    match turns.last_mut() {
        Some(Turn::Calls { calls, .. }) => calls.push(call),
        Some(Turn::Message(message)) if message.role == Role::Assistant => {
            let content = std::mem::take(&mut message.content);
            turns.pop();
            turns.push(Turn::Calls { content, calls: vec![call] });
        }
        _ => turns.push(Turn::Calls { content: Content::default(), calls: vec![call] }),
    }
}

/// Refuses a result of a call that the turns before it do not hold.
fn check_call(path: &str, call_id: &str, before: &[Turn]) -> Result<(), Error> {
    if find_call(before, call_id).is_some() {
        return Ok(());
    }
    let path = format!("{path}.call_id");
    let message = format!("`{path}`: no call before it has this id");
    Err(Error::invalid(path, message))
}
