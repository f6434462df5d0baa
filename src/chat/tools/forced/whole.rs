//! Reads calls from a whole answer that is JSON, but not written as it was asked for: with other names of
//! fields, in another order, wrapped, as a bare list, or with prose around it.

use serde_json::{Map, Value};

use super::super::object::ObjectEnd;
use super::Form;
use crate::chat::Tool;
use crate::chat::schema::Schema;

/// Names of fields that hold a list of calls.
const LISTS: [&str; 4] = ["calls", "tool_calls", "tool_uses", "function_calls"];
/// Names of fields that hold a tool's name.
const NAMES: [&str; 5] = ["name", "recipient_name", "tool", "tool_name", "function"];
/// Names of fields that hold arguments.
const ARGUMENTS: [&str; 4] = ["arguments", "parameters", "args", "input"];

/// Calls that were read.
#[derive(Debug, Default, PartialEq)]
pub struct Calls {
    /// For each call, its tool by its place in the list, and its arguments, an object.
    pub list: Vec<(usize, Value)>,
    /// True if something was there that is no call of a tool that may be called.
    pub left_out: bool,
}

/// What calls are read by.
pub struct Reading<'a> {
    /// The form that was asked for.
    pub form: &'a Form,
    /// The tools that may be called.
    pub tools: &'a [Tool],
}

impl Reading<'_> {
    /// Reads the calls in a whole answer; `None` if it holds none.
    pub fn answer(&self, text: &str) -> Option<Calls> {
        let (before, value, behind) = first_value(text)?;
        let is_alone = is_nothing(before) && is_nothing(behind);
        let mut calls = self.value(&value);
        if !is_alone {
            // Prose may quote something that is only like a call.
            let all = calls.list.len();
            calls.list.retain(|(tool, arguments)| self.fits(*tool, arguments));
            calls.left_out |= calls.list.len() < all;
        }
        calls.left_out |= !is_nothing(behind);
        (!calls.list.is_empty()).then_some(calls)
    }

    /// Reads the rest of a list of calls, which begins behind the arguments of one of them.
    pub fn rest(&self, text: &str) -> Calls {
        let mut calls = Calls::default();
        let text = text.trim_start();
        if text.is_empty() {
            return calls;
        }
        // What else is said of the call before.
        let rest = match text.strip_prefix(',') {
            Some(members) => next_value(&format!("{{{members}")).map(|(_, end)| &text[end..]),
            None => text.strip_prefix('}'),
        };
        let Some(mut rest) = rest.map(str::trim_start) else { return left_out(calls) };
        while let Some(entry) = rest.strip_prefix(',').map(str::trim_start) {
            let Some((value, end)) = next_value(entry) else { return left_out(calls) };
            calls.add(self.entry(&value));
            rest = entry[end..].trim_start();
        }
        if rest.is_empty() || rest.starts_with(']') { calls } else { left_out(calls) }
    }

    fn value(&self, value: &Value) -> Calls {
        let mut calls = Calls::default();
        for entry in self.entries(value) {
            calls.add(self.entry(entry));
        }
        calls
    }

    /// The entries of a list of calls, whatever it stands in.
    fn entries<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let list = match value {
            Value::Array(list) => Some(list),
            Value::Object(fields) if !self.are_arguments(fields) => {
                LISTS.iter().find_map(|name| fields.get(*name)?.as_array())
            }
            _ => None,
        };
        list.map_or_else(|| vec![value], |list| list.iter().collect())
    }

    /// Reads one call.
    fn entry(&self, value: &Value) -> Option<(usize, Value)> {
        let fields = value.as_object()?;
        let only = self.only();
        if let Some(tool) = only.filter(|_| self.are_arguments(fields)) {
            return Some((tool, value.clone()));
        }
        let arguments = ARGUMENTS.iter().find_map(|name| fields.get(*name));
        if let Some(name) = NAMES.iter().find_map(|name| fields.get(*name)) {
            return match name {
                Value::String(name) => Some((self.tool(name)?, object(arguments)?)),
                // OpenAI's own form.
                inner => self.entry(inner),
            };
        }
        match fields.iter().next().filter(|_| fields.len() == 1) {
            Some((name, inner)) if self.tool(name).is_some() => {
                Some((self.tool(name)?, object(Some(inner))?))
            }
            Some((name, inner)) if ARGUMENTS.contains(&name.as_str()) => {
                Some((only?, object(Some(inner)).unwrap_or_else(|| value.clone())))
            }
            _ => Some((only?, value.clone())),
        }
    }

    /// The tool that has to be called, if it is one.
    fn only(&self) -> Option<usize> {
        match self.form {
            Form::Arguments { name } => self.tools.iter().position(|tool| tool.name == *name),
            Form::List => None,
        }
    }

    /// True if all these are arguments of the tool that has to be called.
    fn are_arguments(&self, fields: &Map<String, Value>) -> bool {
        let schema = self.only().and_then(|tool| self.tools[tool].parameters.as_ref());
        let known = schema.and_then(|schema| schema["properties"].as_object());
        known.is_some_and(|known| fields.keys().all(|name| known.contains_key(name)))
    }

    /// The tool of this name, whatever namespace a model puts before it and however it writes it.
    fn tool(&self, name: &str) -> Option<usize> {
        let find = |name: &str| self.tools.iter().position(|tool| tool.name == name);
        let alone = || {
            let is_same = |tool: &&Tool| plain(&tool.name).eq_ignore_ascii_case(plain(name));
            let mut same = self.tools.iter().filter(is_same);
            same.next().filter(|_| same.next().is_none()).and_then(|tool| find(&tool.name))
        };
        find(name).or_else(|| find(name.rsplit('.').next()?)).or_else(alone)
    }

    fn fits(&self, tool: usize, arguments: &Value) -> bool {
        let schema = self.tools[tool].parameters.as_ref();
        schema.is_none_or(|schema| Schema::new(schema).fault(arguments).is_none())
    }
}

impl Calls {
    fn add(&mut self, call: Option<(usize, Value)>) {
        match call {
            Some(call) => self.list.push(call),
            None => self.left_out = true,
        }
    }
}

fn left_out(calls: Calls) -> Calls {
    Calls { left_out: true, ..calls }
}

/// Arguments as an object; none are an empty one, and a text is read as JSON.
fn object(arguments: Option<&Value>) -> Option<Value> {
    match arguments {
        None | Some(Value::Null) => Some(Value::Object(Map::new())),
        Some(Value::String(text)) if text.trim().is_empty() => Some(Value::Object(Map::new())),
        Some(Value::String(text)) => serde_json::from_str(text).ok().filter(Value::is_object),
        Some(value) => Some(value.clone()).filter(Value::is_object),
    }
}

/// The first object or list in a text, with what is before and behind it: at the text's beginning, or else
/// at that of a line or behind a colon, so that no part of another one is taken for it.
fn first_value(text: &str) -> Option<(&str, Value, &str)> {
    let mut is_place = true;
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' if is_place => {
                if let Some((value, end)) = next_value(&text[at..]) {
                    return Some((&text[..at], value, &text[at + end..]));
                }
                // Whatever is within it is a part.
                return None;
            }
            '\n' | ':' | '`' => is_place = true,
            c => is_place &= c.is_whitespace(),
        }
    }
    None
}

/// The object or list that a text begins with, and where it ends.
fn next_value(text: &str) -> Option<(Value, usize)> {
    let (mut object, mut json) = (ObjectEnd::default(), String::new());
    let (at, last) = text
        .char_indices()
        .take_while(|(at, c)| *at > 0 || "{[".contains(*c))
        .find(|(_, c)| object.push(*c, &mut json))?;
    Some((serde_json::from_str(&json).ok()?, at + last.len_utf8()))
}

/// A tool's name without the namespace before it: `functions.`, `mcp__server__`.
fn plain(name: &str) -> &str {
    let name = name.rsplit('.').next().unwrap_or(name);
    name.rsplit("__").next().unwrap_or(name)
}

/// True for white space and the lines of a Markdown fence.
fn is_nothing(text: &str) -> bool {
    let is_fence = |line: &str| line.starts_with("```") && !line[3..].contains(' ');
    text.lines().map(str::trim).all(|line| line.is_empty() || is_fence(line))
}
