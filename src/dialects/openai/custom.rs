//! Custom tools, which take one text of any form: the model gets them as functions with one argument.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::chat::Tool;
use crate::dialects::fields::{missing, name_in};
use crate::error::Error;

/// The only argument of a custom tool.
const INPUT: &str = "input";

/// Returns the arguments of a call that passes this text to a custom tool.
pub fn arguments_of(input: &str) -> String {
    json!({ INPUT: input }).to_string()
}

/// Returns the text that a call passes to a custom tool: all that the model wrote, if that does not have the
/// expected form.
pub fn input_of(arguments: &str) -> String {
    // As values, what is beside the text could take many times the memory of its own.
    let read: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(arguments).ok();
    let input = read.and_then(|read| serde_json::from_str(read.get(INPUT)?.get()).ok());
    input.unwrap_or_else(|| arguments.to_owned())
}

/// Reads a custom tool as a function that takes a text. The description says so, because clients
/// describe it as one that takes no JSON.
///
/// # Errors
/// [`Error::Invalid`] with the path of what is missing.
pub fn tool(path: &str, value: &Value) -> Result<Tool, Error> {
    let name = name_in(path, value)?;
    let own = value.get("description").and_then(Value::as_str).unwrap_or_default();
    let mut description =
        format!("{own}\nIts text goes here as the argument `{INPUT}`, a JSON string.");
    if let Some(grammar) = grammar(&format!("{path}.format"), &value["format"])? {
        description.push_str(&grammar);
    }
    let parameters = json!({
        "type": "object",
        "properties": {INPUT: {"type": "string"}},
        "required": [INPUT],
        "additionalProperties": false,
    });
    let description = Some(description.trim_start().to_owned());
    Ok(Tool { name, description, parameters: Some(parameters), strict: true, deferred: false })
}

/// Returns the grammar of a custom tool's text in words; `None` if any text will do. Chat completions have
/// it in an object of its own.
fn grammar(path: &str, format: &Value) -> Result<Option<String>, Error> {
    match format["type"].as_str() {
        None | Some("text") => Ok(None),
        Some("grammar") => {
            let grammar = format.get("grammar").unwrap_or(format);
            let part = |name: &str| {
                grammar[name].as_str().ok_or_else(|| missing(&format!("{path}.{name}")))
            };
            let (syntax, definition) = (part("syntax")?, part("definition")?);
            Ok(Some(format!(" It has to fit this grammar ({syntax}):\n{definition}")))
        }
        Some(_) => {
            let path = format!("{path}.type");
            let message = format!("`{path}` must be text or grammar");
            Err(Error::invalid(path, message))
        }
    }
}
