//! Reads the input of a response, a text or the items of a conversation, as turns.

use serde_json::{Map, Value};

use super::earlier::PREVIOUS;
use super::shown::NOT_STORED;
use super::tools;
use crate::chat::{CallIds, Content, LeftOut, Role, ToolCall, ToolResult, Turn};
use crate::dialects::fields::{Fields, missing, wrong_type};
use crate::dialects::kinds::find;
use crate::dialects::media::MediaReader;
use crate::dialects::openai::client_tools::ClientTool;
use crate::dialects::openai::kinds::{ITEMS, ItemReading};
use crate::dialects::openai::parts::content;
use crate::dialects::openai::tools::arguments;
use crate::error::Error;

/// Reads the conversation: instructions first, then the `earlier` items, then the input. Returns its turns,
/// and what was left out.
///
/// # Errors
/// [`Error::Invalid`] with the path of what is wrong. If the request wants an answer, also if there is nothing
/// to answer, in the earlier items neither.
pub fn turns(
    fields: &Fields,
    earlier: &[Value],
    mut media: MediaReader,
    wants_answer: bool,
) -> Result<(Vec<Turn>, Vec<LeftOut>), Error> {
    let instructions = fields.string("instructions")?.filter(|text| !text.is_empty());
    let mut turns: Vec<Turn> =
        instructions.into_iter().map(|text| Turn::message(Role::System, text)).collect();
    let mut called = CallIds::default();
    let mut take = |path: &str, item: &Value| {
        let before = turns.len();
        add(&mut turns, &mut called, path, item, &mut media)?;
        media.end_message(if turns.len() > before { &turns } else { &[] });
        Ok::<(), Error>(())
    };
    for (at, item) in earlier.iter().enumerate() {
        take(&format!("{PREVIOUS}[{at}]"), item)?;
    }
    let needs_input = wants_answer && earlier.is_empty();
    match fields.get("input") {
        None if needs_input => return Err(missing("input")),
        None => {}
        Some(Value::String(text)) => turns.push(Turn::message(Role::User, text.as_str())),
        Some(Value::Array(items)) if items.is_empty() && needs_input => {
            return Err(Error::invalid("input", "`input` must hold at least one item"));
        }
        Some(Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                take(&format!("input[{at}]"), item)?;
            }
        }
        Some(_) => return Err(wrong_type("input", "a string or a list of items")),
    }
    let left_out = media.finish("input", &turns)?;
    if turns.is_empty() && wants_answer {
        return Err(Error::invalid("input", "`input` must hold something besides reasoning"));
    }
    Ok((turns, left_out))
}

/// Adds an item to the turns of the items before it, whose calls `called` knows.
fn add(
    turns: &mut Vec<Turn>,
    called: &mut CallIds,
    path: &str,
    value: &Value,
    media: &mut MediaReader,
) -> Result<(), Error> {
    let Value::Object(item) = value else { return Err(wrong_type(path, "an object")) };
    match reading(path, item)? {
        ItemReading::Message => {
            let message = message(path, item, media)?;
            let is_gone = message.is_empty() && media.has_left_out() && !message.is_of(Role::User);
            turns.extend((!is_gone).then_some(message));
        }
        ItemReading::FunctionCall => {
            add_call(turns, call(path, value, arguments(path, value)?)?);
        }
        ItemReading::CustomCall => {
            let input = text(path, value, "input")?;
            add_call(turns, call(path, value, tools::arguments_of(&input))?);
        }
        ItemReading::Output => {
            let result = result(path, value, |id| called.hold(turns, id), media)?;
            turns.push(Turn::Result(result));
        }
        ItemReading::ClientCall(tool) => match client_call(item, *tool) {
            Some(call) => add_call(turns, call),
            None => media.leave_out(path),
        },
        ItemReading::ClientOutput(tool) => {
            match client_result(item, *tool, |id| called.hold(turns, id)) {
                Some(result) => turns.push(Turn::Result(result)),
                None => media.leave_out(path),
            }
        }
        // Read as tools, not as a turn.
        ItemReading::Tools | ItemReading::PassedOver => {}
        ItemReading::Reference => return Err(reference(path)),
        ItemReading::LeftOut => media.leave_out(path),
        ItemReading::Refused => return Err(compaction(path)),
    }
    Ok(())
}

/// Returns how an item is read, by its type, which messages and references may lack.
fn reading(path: &str, item: &Map<String, Value>) -> Result<&'static ItemReading, Error> {
    match item.get("type").and_then(Value::as_str) {
        Some(kind) => Ok(find(ITEMS, kind).map_or(&ItemReading::LeftOut, |(_, how)| how)),
        None if item.contains_key("role") => Ok(&ItemReading::Message),
        None if item.contains_key("id") => Ok(&ItemReading::Reference),
        None => Err(missing(&format!("{path}.type"))),
    }
}

/// Reads a call with these `arguments`, JSON.
fn call(path: &str, value: &Value, arguments: String) -> Result<ToolCall, Error> {
    let id = text(path, value, "call_id")?;
    let name = tools::called_in(path, value)?;
    Ok(ToolCall { id, name, arguments })
}

/// Reads the output of a call; `is_call` knows the ids of those before it.
fn result(
    path: &str,
    value: &Value,
    is_call: impl FnOnce(&str) -> bool,
    media: &mut MediaReader,
) -> Result<ToolResult, Error> {
    let call_id = text(path, value, "call_id")?;
    if !is_call(&call_id) {
        let path = format!("{path}.call_id");
        let message = format!("`{path}`: no call before it has this id");
        return Err(Error::invalid(path, message));
    }
    let path = format!("{path}.output");
    let content = content(&path, value.get("output"), media)?.ok_or_else(|| missing(&path))?;
    Ok(ToolResult { call_id, name: None, content, is_error: false })
}

/// Reads a text that an item must have.
fn text(path: &str, value: &Value, name: &str) -> Result<String, Error> {
    let path = format!("{path}.{name}");
    match value.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) | None => Err(missing(&path)),
        Some(_) => Err(wrong_type(&path, "a string")),
    }
}

/// Reads a call of a client's tool; `None` if its output could not refer to it.
fn client_call(item: &Map<String, Value>, tool: ClientTool) -> Option<ToolCall> {
    let id = client_id(item)?;
    Some(ToolCall { id, name: tool.name().to_owned(), arguments: tool.arguments(item) })
}

/// Reads the output of a client's tool; `None` if it is of no call whose id `is_call` knows.
fn client_result(
    item: &Map<String, Value>,
    tool: ClientTool,
    is_call: impl FnOnce(&str) -> bool,
) -> Option<ToolResult> {
    let call_id = client_id(item).filter(|id| is_call(id))?;
    Some(ToolResult { call_id, name: None, content: tool.output(item).into(), is_error: false })
}

/// Returns the id by which the call of a client's tool and its output refer to each other. Known: the output of
/// `local_shell` has it as its own `id`, a `tool_search` of OpenAI's has none.
fn client_id(item: &Map<String, Value>) -> Option<String> {
    let id = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
    id("call_id").or_else(|| id("id"))
}

/// Returns the error for a reference to an item that is not stored.
fn reference(path: &str) -> Error {
    let hint = "the AI SDK does with providerOptions.openai.store: false";
    Error::unsupported(path, format!("`{path}` refers to an item: {NOT_STORED}; {hint}"))
}

/// Returns the error for an item that asks for a compacted conversation.
fn compaction(path: &str) -> Error {
    let message = format!(
        "`{path}` asks for the conversation in a compacted form, which is not made here: have the client \
         make its own summary"
    );
    Error::unsupported(path, message)
}

/// Reads a message.
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
    let content = match content(&path, item.get("content"), media)? {
        // One that only called a tool has said nothing, as in chat completions.
        None if role == Role::Assistant => Content::default(),
        content => content.ok_or_else(|| missing(&path))?,
    };
    Ok(Turn::message(role, content))
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
