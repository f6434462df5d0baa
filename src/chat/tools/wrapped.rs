//! Calls in JSON that holds more than a tool's arguments: the tool's name beside them, several calls in a
//! list, or arguments that were encoded twice.

use serde_json::{Map, Value};

use super::{names, relaxed, slots};
use crate::chat::{Tool, values};

const NAMES: [&str; 8] =
    ["name", "tool", "tool_name", "function", "function_name", "recipient_name", "action", "call"];
const ARGUMENTS: [&str; 7] =
    ["arguments", "parameters", "args", "params", "input", "action_input", "tool_input"];
/// Names of fields that hold a list of calls.
pub const LISTS: [&str; 4] = ["tool_uses", "tool_calls", "calls", "function_calls"];
/// Keys that may stand beside those.
const OTHERS: [&str; 4] = ["id", "type", "call_id", "index"];
/// Deepest nesting of wrappers.
const DEEPEST: u8 = 8;

/// A call that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// The name as it was written, or that of the tag.
    pub name: String,
    /// JSON of its arguments.
    pub arguments: String,
}

/// True if an object whose first key is `key` may be no object of arguments.
pub fn may_be(key: &str, tools: &[Tool]) -> bool {
    let is_known = |list: &[&str]| list.contains(&key);
    is_known(&NAMES)
        || is_known(&ARGUMENTS)
        || is_known(&LISTS)
        || is_known(&OTHERS)
        || names::find(tools, key).is_some()
}

/// Finds the calls in a value that stands where the arguments of `name` should; empty if there are none.
pub fn calls(value: Value, name: Option<&str>, tools: &[Tool]) -> Vec<Wrapped> {
    let mut found = Vec::new();
    let is_whole = Search { tools, found: &mut found }.value(value, name, DEEPEST);
    if is_whole.is_none() {
        found.clear();
    }
    found
}

struct Search<'a> {
    tools: &'a [Tool],
    found: &'a mut Vec<Wrapped>,
}

impl Search<'_> {
    fn value(&mut self, value: Value, name: Option<&str>, depth: u8) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match value {
            Value::Object(object) => self.object(object, name, depth),
            Value::Array(list) => {
                list.into_iter().try_for_each(|value| self.value(value, name, depth).ok_or(())).ok()
            }
            Value::Null => self.add(name?, "{}"),
            Value::String(text) if text.trim().is_empty() => self.add(name?, "{}"),
            Value::String(text) => {
                let json = relaxed::whole(text.trim(), None, &slots::Slot::none());
                let inner = json.and_then(|json| values::of_text(&json).ok());
                match inner {
                    Some(inner @ (Value::Object(_) | Value::Array(_))) => {
                        self.value(inner, name, depth)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn add(&mut self, name: &str, arguments: &str) -> Option<()> {
        self.found.push(Wrapped { name: name.to_owned(), arguments: arguments.to_owned() });
        Some(())
    }

    fn object(
        &mut self,
        mut object: Map<String, Value>,
        name: Option<&str>,
        depth: u8,
    ) -> Option<()> {
        let own = name.map(|name| self.keys_of(name, &object)).unwrap_or_default();
        // What the tool's own arguments may be is no wrapper.
        if own.begin_it {
            return self.add(name?, &Value::Object(object).to_string());
        }
        if let Some(list) = LISTS.iter().find_map(|key| object.remove(*key)) {
            return list.is_array().then(|| self.value(list, None, depth))?;
        }
        if let Some(Value::Object(inner)) = object.get("function") {
            return self.object(inner.clone(), name, depth);
        }
        let inner = NAMES.iter().find_map(|key| object.get(*key)).and_then(Value::as_str);
        let inner = inner.map(str::to_owned);
        let arguments = ARGUMENTS.iter().find_map(|key| object.get(*key)).cloned();
        match (inner.as_deref().or(name), arguments) {
            (Some(name), Some(arguments)) if self.wraps(&object, name, &arguments) => {
                self.arguments(arguments, name, depth)
            }
            (_, None) => self.beside(object, inner, name),
            (_, Some(_)) => self.keyed(object, name),
        }
    }

    /// What the keys of an object are to a tool.
    fn keys_of(&self, name: &str, object: &Map<String, Value>) -> Own {
        let Some(at) = names::find(self.tools, name) else { return Own::default() };
        let schema = self.tools[at].parameters.as_ref();
        let has = |key: &String| slots::properties(schema).any(|own| own == key);
        Own {
            begin_it: object.keys().next().is_some_and(has),
            are_none: !object.keys().any(has) && slots::properties(schema).next().is_some(),
        }
    }

    /// True if an object is a wrapper around the arguments of a tool: beside them are only keys that say nothing,
    /// or none that the tool has, as a reason or a comment.
    fn wraps(&self, object: &Map<String, Value>, name: &str, arguments: &Value) -> bool {
        let are_none = || self.keys_of(name, object).are_none;
        !has_others(object) || (arguments.is_object() && are_none())
    }

    /// Reads an object without a wrapper's arguments: they may stand beside the name.
    fn beside(
        &mut self,
        mut object: Map<String, Value>,
        inner: Option<String>,
        name: Option<&str>,
    ) -> Option<()> {
        let tool = |name: &str| names::find(self.tools, name);
        let is_again = |inner: &str| tool(inner).is_some() && tool(inner) == name.and_then(tool);
        let is_alone = object.len() == 1;
        match inner {
            Some(inner)
                if !has_others(&object) && (name.is_none() || !is_alone || is_again(&inner)) =>
            {
                self.add(&inner, "{}")
            }
            Some(inner) if !is_alone && (name.is_none() || tool(&inner).is_some()) => {
                object.retain(|key, _| !NAMES.contains(&key.as_str()));
                self.add(&inner, &Value::Object(object).to_string())
            }
            _ => self.keyed(object, name),
        }
    }

    fn arguments(&mut self, arguments: Value, name: &str, depth: u8) -> Option<()> {
        match arguments {
            Value::Object(object) => self.add(name, &Value::Object(object).to_string()),
            other => self.value(other, Some(name), depth),
        }
    }

    /// Reads an object whose only key may be the name of a tool.
    fn keyed(&mut self, object: Map<String, Value>, name: Option<&str>) -> Option<()> {
        let only = object.iter().next().filter(|_| object.len() == 1);
        match only.map(|(key, value)| (names::find(self.tools, key), value)) {
            Some((Some(at), Value::Object(inner))) => {
                let tool = self.tools[at].name.clone();
                self.add(&tool, &Value::Object(inner.clone()).to_string())
            }
            _ => self.add(name?, &Value::Object(object.clone()).to_string()),
        }
    }
}

/// True if an object has keys that a wrapper has no use for.
fn has_others(object: &Map<String, Value>) -> bool {
    object.keys().any(|key| {
        let key = key.as_str();
        !NAMES.contains(&key) && !ARGUMENTS.contains(&key) && !OTHERS.contains(&key)
    })
}

/// What the keys of an object are to a tool whose arguments it may be.
#[derive(Default)]
struct Own {
    /// The first one is a property of the tool.
    begin_it: bool,
    /// None is, though the tool has properties.
    are_none: bool,
}
