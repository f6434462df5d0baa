//! Reads the tools of a chat completion: `tools` and `tool_choice`, the `functions` and `function_call`
//! of 2023, and the calls and results of a history.

use serde_json::Value;

use super::response::Calls;
use crate::chat::{
    Content, Tool, ToolCall, ToolChoice, ToolFields, ToolResult, Tools, Turn, find_call,
};
use crate::dialects::fields::{Fields, missing, wrong_type};
use crate::error::Error;

const TOOLS: ToolFields =
    ToolFields { list: "tools", name: "function.name", choice: "tool_choice", longest_name: 64 };
const FUNCTIONS: ToolFields =
    ToolFields { list: "functions", name: "name", choice: "function_call", longest_name: 64 };

/// Reads the offered tools, and in which form the client expects calls of them.
pub fn parse(fields: &Fields) -> Result<(Tools, Calls), Error> {
    let (tools, functions) = (fields.list(TOOLS.list)?, fields.list(FUNCTIONS.list)?);
    if !tools.is_empty() && !functions.is_empty() {
        let message = "`functions` is the old name of `tools`: send one of them";
        return Err(Error::invalid("functions", message));
    }
    if !functions.is_empty() {
        return old_functions(fields, functions);
    }
    let mut offered = Tools {
        list: Vec::new(),
        choice: choice(fields)?,
        parallel: fields.boolean("parallel_tool_calls")?.unwrap_or(true),
    };
    if offered.choice == ToolChoice::None {
        return Ok((offered, Calls::None));
    }
    offered.list =
        tools.iter().enumerate().map(|(at, value)| tool(at, value)).collect::<Result<_, _>>()?;
    offered.check(&TOOLS)?;
    narrow(fields, &mut offered)?;
    let calls = if offered.list.is_empty() { Calls::None } else { Calls::Tools };
    Ok((offered, calls))
}

fn old_functions(fields: &Fields, functions: &[Value]) -> Result<(Tools, Calls), Error> {
    let choice = match fields.get(FUNCTIONS.choice) {
        None => ToolChoice::Auto,
        Some(Value::String(word)) => plain_choice(FUNCTIONS.choice, word)?,
        Some(value) => ToolChoice::Named(name_in(FUNCTIONS.choice, value)?),
    };
    let mut offered = Tools { list: Vec::new(), choice, parallel: false };
    if offered.choice == ToolChoice::None {
        return Ok((offered, Calls::None));
    }
    let function = |(at, value)| self::function(&format!("functions[{at}]"), value);
    offered.list = functions.iter().enumerate().map(function).collect::<Result<_, _>>()?;
    offered.check(&FUNCTIONS)?;
    Ok((offered, Calls::Function))
}

/// Reads a tool. OpenAI's own tools (search, code) and custom ones are refused, because they take more
/// than text.
fn tool(at: usize, value: &Value) -> Result<Tool, Error> {
    let path = format!("tools[{at}]");
    let kind = value.get("type").and_then(Value::as_str);
    match kind {
        Some("function") => {}
        Some(kind) => {
            let path = format!("{path}.type");
            let message =
                format!("`{path}` is `{kind}`: tools of type `function` are the only ones here");
            return Err(Error::unsupported(path, message));
        }
        None => return Err(missing(&format!("{path}.type"))),
    }
    let path = format!("{path}.function");
    function(&path, value.get("function").ok_or_else(|| missing(&path))?)
}

pub(super) fn function(path: &str, value: &Value) -> Result<Tool, Error> {
    let function = Fields::of(value, path)?;
    let parameters = match function.get("parameters") {
        None => None,
        Some(schema @ Value::Object(_)) => Some(schema.clone()),
        Some(_) => return Err(function.wrong("parameters", "a JSON Schema of type object")),
    };
    let strict = function.boolean("strict")?.unwrap_or(false);
    let name = function.required_string("name")?.to_owned();
    let description = function.string("description")?.map(str::to_owned);
    Ok(Tool { name, description, parameters, strict })
}

fn choice(fields: &Fields) -> Result<ToolChoice, Error> {
    let value = match fields.get("tool_choice") {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(word)) => return plain_choice("tool_choice", word),
        Some(value) => value,
    };
    match value.get("type").and_then(Value::as_str) {
        Some("function") => {
            let path = "tool_choice.function";
            let function = value.get("function").ok_or_else(|| missing(path))?;
            Ok(ToolChoice::Named(name_in(path, function)?))
        }
        Some("allowed_tools") => {
            let mode = value.pointer("/allowed_tools/mode").and_then(Value::as_str);
            plain_choice("tool_choice.allowed_tools.mode", mode.unwrap_or("auto"))
        }
        Some(kind) => {
            let message = format!(
                "`tool_choice.type` is `{kind}`: it must be `function` or `allowed_tools` here"
            );
            Err(Error::unsupported("tool_choice.type", message))
        }
        None => Err(wrong_type("tool_choice", "a string or an object with a `type`")),
    }
}

pub(super) fn plain_choice(param: &str, word: &str) -> Result<ToolChoice, Error> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" if param != FUNCTIONS.choice => Ok(ToolChoice::Required),
        _ => Err(Error::Invalid {
            message: format!("Invalid value for `{param}`: `{word}`"),
            param: Some(param.to_owned()),
            code: Some("invalid_value"),
        }),
    }
}

pub(super) fn name_in(path: &str, value: &Value) -> Result<String, Error> {
    let name = value.get("name").and_then(Value::as_str);
    Ok(name.ok_or_else(|| missing(&format!("{path}.name")))?.to_owned())
}

/// Keeps only the tools that `allowed_tools` names; the others are in the list for the sake of OpenAI's
/// cache.
fn narrow(fields: &Fields, offered: &mut Tools) -> Result<(), Error> {
    let allowed = fields.get("tool_choice").and_then(|choice| choice.pointer("/allowed_tools"));
    let Some(allowed) = allowed else { return Ok(()) };
    let path = "tool_choice.allowed_tools.tools";
    let list = allowed.get("tools").and_then(Value::as_array).ok_or_else(|| missing(path))?;
    let mut names = Vec::new();
    for tool in list {
        let name = name_in(path, tool.get("function").unwrap_or(tool))?;
        if !offered.list.iter().any(|tool| tool.name == name) {
            let message = format!("`{path}`: `tools` holds no tool `{name}`");
            return Err(Error::invalid(path, message));
        }
        names.push(name);
    }
    offered.list.retain(|tool| names.contains(&tool.name));
    Ok(())
}

/// Reads the calls in an earlier message of the assistant.
pub fn calls(message: &Fields) -> Result<Vec<ToolCall>, Error> {
    if let Some(function) = message.get("function_call") {
        let path = message.path("function_call");
        let name = name_in(&path, function)?;
        let arguments = arguments(&path, function)?;
        // A function's result refers to its call by the function's name alone.
        return Ok(vec![ToolCall { id: name.clone(), name, arguments }]);
    }
    let path = message.path("tool_calls");
    let call = |(at, value): (usize, &Value)| {
        let path = format!("{path}[{at}]");
        let id = value.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| missing(&format!("{path}.id")))?.to_owned();
        let path = format!("{path}.function");
        let function = value.get("function").ok_or_else(|| missing(&path))?;
        Ok(ToolCall { id, name: name_in(&path, function)?, arguments: arguments(&path, function)? })
    };
    message.list("tool_calls")?.iter().enumerate().map(call).collect()
}

fn arguments(path: &str, function: &Value) -> Result<String, Error> {
    match function.get("arguments") {
        None | Some(Value::Null) => Ok("{}".to_owned()),
        Some(Value::String(arguments)) => Ok(arguments.clone()),
        Some(_) => Err(wrong_type(&format!("{path}.arguments"), "a string of JSON")),
    }
}

/// Reads the result of a tool for a call in the turns before it.
pub fn result(message: &Fields, content: Content, before: &[Turn]) -> Result<ToolResult, Error> {
    let field = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
    let call_id = field("tool_call_id").ok_or_else(|| message.missing("tool_call_id"))?;
    if find_call(before, &call_id).is_none() {
        let words = "Messages of role `tool` must answer one of the `tool_calls` of a message \
                     before them; none has this `tool_call_id`";
        return Err(Error::invalid(message.path("tool_call_id"), words));
    }
    Ok(ToolResult { call_id, name: field("name"), content, is_error: false })
}

/// Reads the result of a function in the form of 2023.
pub fn function_result(message: &Fields, content: Content) -> ToolResult {
    let name = message.get("name").and_then(Value::as_str).unwrap_or("function").to_owned();
    ToolResult { call_id: name.clone(), name: Some(name), content, is_error: false }
}
