//! Reads the tools of a chat completion: `tools` and `tool_choice`, the `functions` and `function_call`
//! of 2023, and the calls and results of a history.

use serde_json::Value;

use super::custom;
use super::kinds::{CHAT_TOOLS, ChatToolReading, TOOLS as RESPONSE_TOOLS};
use super::response::Calls;
use crate::chat::{
    CallIds, Content, LeftOut, Standing, Tool, ToolCall, ToolChoice, ToolFields, ToolResult, Tools,
    Turn,
};
use crate::dialects::fields::{Fields, missing, name_in, wrong_type};
use crate::dialects::kinds::{LeftOutTools, find};
use crate::error::Error;

const TOOLS: ToolFields = ToolFields {
    list: "tools",
    name: "function.name",
    choice: "tool_choice",
    longest_name: 64,
    most: 128,
};
const FUNCTIONS: ToolFields = ToolFields {
    list: "functions",
    name: "name",
    choice: "function_call",
    longest_name: 64,
    most: 128,
};

/// The tools that a request offers.
#[derive(Debug, Default)]
pub struct Offered {
    /// The tools as the model gets them.
    pub tools: Tools,
    /// The names of those that take one text.
    pub custom: Vec<String>,
    /// The form in which the client expects calls.
    pub calls: Calls,
}

/// Reads the offered tools, and which of them the model may or has to call. Adds to `left_out` what cannot be
/// had here.
///
/// # Errors
/// [`Error::Invalid`] with the path of what is wrong.
pub fn parse(fields: &Fields, left_out: &mut Vec<LeftOut>) -> Result<Offered, Error> {
    let (tools, functions) = (fields.list(TOOLS.list)?, fields.list(FUNCTIONS.list)?);
    let left_out = &mut LeftOutTools::new(left_out);
    if tools.is_empty() && !functions.is_empty() {
        return old_functions(fields, functions);
    }
    if !functions.is_empty() {
        left_out.add_field(FUNCTIONS.list);
    }
    let wanted = choice(fields)?;
    let mut offered = Offered::default();
    offered.tools.choice = wanted.clone().unwrap_or_default();
    offered.tools.parallel = fields.boolean("parallel_tool_calls")?.unwrap_or(true);
    if offered.tools.choice == ToolChoice::None {
        // They stand in the prompt for the sake of OpenAI's cache: whatever is wrong with them does no harm.
        let read = offered.add_all(tools, &mut LeftOutTools::new(&mut Vec::new()));
        if read.and_then(|()| offered.tools.check(&TOOLS)).is_err() {
            offered.tools.list.clear();
        }
        return Ok(offered);
    }
    offered.add_all(tools, left_out)?;
    let tools = &mut offered.tools;
    let mut is_vain = wanted.is_none() || (!left_out.is_empty() && tools.drop_vain_choice(&[]));
    tools.check(&TOOLS)?;
    narrow(fields, tools)?;
    is_vain |= tools.drop_vain_choice(&[]);
    if is_vain {
        left_out.add_field(TOOLS.choice);
    }
    offered.calls = if tools.list.is_empty() { Calls::None } else { Calls::Tools };
    Ok(offered)
}

fn old_functions(fields: &Fields, functions: &[Value]) -> Result<Offered, Error> {
    let choice = match fields.get(FUNCTIONS.choice) {
        None => ToolChoice::Auto,
        Some(Value::String(word)) => plain_choice(FUNCTIONS.choice, word)?,
        Some(value) => ToolChoice::Named(name_in(FUNCTIONS.choice, value)?),
    };
    let tools = Tools { choice, parallel: false, ..Tools::default() };
    let mut offered = Offered { tools, ..Offered::default() };
    if offered.tools.choice == ToolChoice::None {
        return Ok(offered);
    }
    let function = |(at, value)| self::function(&format!("functions[{at}]"), value);
    offered.tools.list = functions.iter().enumerate().map(function).collect::<Result<_, _>>()?;
    offered.tools.check(&FUNCTIONS)?;
    offered.calls = Calls::Function;
    Ok(offered)
}

impl Offered {
    fn add_all(&mut self, tools: &[Value], left_out: &mut LeftOutTools) -> Result<(), Error> {
        tools.iter().enumerate().try_for_each(|(at, value)| self.add(at, value, left_out))
    }

    fn add(&mut self, at: usize, value: &Value, left_out: &mut LeftOutTools) -> Result<(), Error> {
        let path = format!("tools[{at}]");
        let kind = value.get("type").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| missing(&format!("{path}.type")))?;
        let inner_path = format!("{path}.{kind}");
        let inner = || value.get(kind).ok_or_else(|| missing(&inner_path));
        let tool = match find(CHAT_TOOLS, kind) {
            Some((_, ChatToolReading::Function)) => function(&inner_path, inner()?)?,
            Some((_, ChatToolReading::Custom)) => {
                let tool = custom::tool(&inner_path, inner()?)?;
                self.custom.push(tool.name.clone());
                tool
            }
            None => {
                let known = find(RESPONSE_TOOLS, kind).map(|(name, _)| *name);
                left_out.add(known, &path, Standing::Request);
                return Ok(());
            }
        };
        self.tools.list.push(tool);
        Ok(())
    }
}

/// Reads a function, whose fields are in the object at `path`.
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
    Ok(Tool { name, description, parameters, strict, deferred: false })
}

/// Reads whether a tool has to be called; `None` if it is one that cannot be had here.
fn choice(fields: &Fields) -> Result<Option<ToolChoice>, Error> {
    let value = match fields.get(TOOLS.choice) {
        None => return Ok(Some(ToolChoice::Auto)),
        Some(Value::String(word)) => return plain_choice(TOOLS.choice, word).map(Some),
        Some(value) => value,
    };
    match value.get("type").and_then(Value::as_str) {
        Some("allowed_tools") => {
            let mode = value.pointer("/allowed_tools/mode").and_then(Value::as_str);
            plain_choice("tool_choice.allowed_tools.mode", mode.unwrap_or("auto")).map(Some)
        }
        Some(kind) if find(CHAT_TOOLS, kind).is_some() => {
            let path = format!("tool_choice.{kind}");
            let inner = value.get(kind).ok_or_else(|| missing(&path))?;
            Ok(Some(ToolChoice::Named(name_in(&path, inner)?)))
        }
        Some(_) => Ok(None),
        None => Err(wrong_type(TOOLS.choice, "a string or an object with a `type`")),
    }
}

/// Reads whether a tool has to be called where one word says so; `param` names the field.
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

/// Allows only the tools that `allowed_tools` names; the others stay in the list for the sake of OpenAI's
/// cache.
fn narrow(fields: &Fields, offered: &mut Tools) -> Result<(), Error> {
    let allowed = fields.get("tool_choice").and_then(|choice| choice.pointer("/allowed_tools"));
    let Some(allowed) = allowed else { return Ok(()) };
    let path = "tool_choice.allowed_tools.tools";
    let list = allowed.get("tools").and_then(Value::as_array).ok_or_else(|| missing(path))?;
    let mut names = Vec::new();
    for tool in list {
        let kind = tool["type"].as_str().unwrap_or("function");
        if find(CHAT_TOOLS, kind).is_none() {
            continue;
        }
        let name = name_in(path, tool.get(kind).unwrap_or(tool))?;
        if !offered.list.iter().any(|tool| tool.name == name) {
            let message = format!("`{path}`: `tools` holds no tool `{name}`");
            return Err(Error::invalid(path, message));
        }
        names.push(name);
    }
    offered.allow_only(names);
    Ok(())
}

/// Reads the calls in an earlier message of the assistant's.
///
/// # Errors
/// [`Error::Invalid`] with the path of what is wrong.
pub fn calls(message: &Fields) -> Result<Vec<ToolCall>, Error> {
    if let Some(function) = message.get("function_call") {
        let path = message.path("function_call");
        let name = name_in(&path, function)?;
        let arguments = arguments(&path, function)?;
        // A function's result refers to its call by the function's name alone.
        return Ok(vec![ToolCall { id: name.clone(), name, arguments }]);
    }
    let path = message.path("tool_calls");
    let list = message.list("tool_calls")?.iter().enumerate();
    list.map(|(at, value)| call(&format!("{path}[{at}]"), value)).collect()
}

/// Reads a call. A call of an unknown kind is kept as it is, under the name of its kind, since its result
/// refers to it.
fn call(path: &str, value: &Value) -> Result<ToolCall, Error> {
    let id = value.get("id").and_then(Value::as_str);
    let id = id.ok_or_else(|| missing(&format!("{path}.id")))?.to_owned();
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("function");
    let path = format!("{path}.{kind}");
    let inner = || value.get(kind).ok_or_else(|| missing(&path));
    let (name, arguments) = match find(CHAT_TOOLS, kind) {
        Some((_, ChatToolReading::Function)) => {
            (name_in(&path, inner()?)?, arguments(&path, inner()?)?)
        }
        Some((_, ChatToolReading::Custom)) => {
            let input = inner()?["input"].as_str();
            let input = input.ok_or_else(|| missing(&format!("{path}.input")))?;
            (name_in(&path, inner()?)?, custom::arguments_of(input))
        }
        None => (kind.to_owned(), value.get(kind).map_or("{}".to_owned(), Value::to_string)),
    };
    Ok(ToolCall { id, name, arguments })
}

/// Reads the arguments of the call at `path`, which are JSON; a call may bring none.
pub(super) fn arguments(path: &str, function: &Value) -> Result<String, Error> {
    match function.get("arguments") {
        None | Some(Value::Null) => Ok("{}".to_owned()),
        Some(Value::String(arguments)) => Ok(arguments.clone()),
        Some(_) => Err(wrong_type(&format!("{path}.arguments"), "a string of JSON")),
    }
}

/// Reads the result of a tool for a call in the turns before it, which `called` knows.
///
/// # Errors
/// It names no call, or none before it.
pub fn result(
    message: &Fields,
    content: Content,
    before: &[Turn],
    called: &mut CallIds,
) -> Result<ToolResult, Error> {
    let field = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
    let call_id = field("tool_call_id").ok_or_else(|| message.missing("tool_call_id"))?;
    if !called.hold(before, &call_id) {
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
