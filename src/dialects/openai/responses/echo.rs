//! The fields of a response besides those of its answer: those that it repeats from its request, and those
//! that are the same for every response here.
//!
//! Known: OpenAI's servers send all of these, null where nothing was asked; its published types lack
//! `store` and the penalties. Left out are those that its types know and do not allow to be null, since
//! nothing is known of them (`image`, `input_transformations`, `prompt_cache_diagnostics`,
//! `prompt_cache_options`, `tool_usage`), and `billing`, since OpenAI bills nobody for it.

use serde_json::{Map, Value, json};

use crate::chat::Sampling;
use crate::dialects::fields::Fields;

/// Tells whether a value has the type that OpenAI gives the field.
type IsOfType = fn(&Value) -> bool;

/// The fields that are repeated if their values are of OpenAI's type, and null otherwise: a field without
/// effect is no reason to refuse a request, and clients fail on a value of another type.
const REPEATED: &[(&str, IsOfType)] = &[
    ("instructions", Value::is_string),
    ("max_output_tokens", is_count),
    ("max_tool_calls", is_count),
    ("prompt_cache_key", Value::is_string),
    ("prompt_cache_retention", is_retention),
    ("safety_identifier", Value::is_string),
    ("temperature", Value::is_number),
    ("top_p", Value::is_number),
    ("user", Value::is_string),
];

fn is_count(value: &Value) -> bool {
    value.as_u64().is_some_and(|count| count > 0)
}

fn is_retention(value: &Value) -> bool {
    matches!(value.as_str(), Some("in_memory" | "24h"))
}

/// Returns the fields of the response to a request, which `is_stored` or not. They claim nothing that is not
/// done here: a response is not truncated, and belongs to no conversation.
pub fn of(fields: &Fields, is_stored: bool) -> Map<String, Value> {
    let or = |name: &str, default: Value| fields.get(name).cloned().unwrap_or(default);
    let own = [
        ("access_programs", Value::Null),
        ("background", json!(is_stored && fields.get("background") == Some(&json!(true)))),
        ("conversation", Value::Null),
        ("frequency_penalty", json!(0)),
        ("metadata", metadata(fields.get("metadata"))),
        ("moderation", Value::Null),
        ("parallel_tool_calls", or("parallel_tool_calls", json!(true))),
        ("presence_penalty", json!(0)),
        ("previous_response_id", or("previous_response_id", Value::Null)),
        ("prompt", Value::Null),
        ("reasoning", reasoning(fields.get("reasoning"))),
        ("service_tier", json!("default")),
        ("store", json!(is_stored)),
        ("text", text(fields.get("text"))),
        ("tool_choice", or("tool_choice", json!("auto"))),
        ("tools", tools(fields.get("tools"))),
        ("top_logprobs", json!(0)),
        ("truncation", json!("disabled")),
    ];
    let repeated = REPEATED.iter().map(|(name, fits)| {
        let value = fields.get(name).filter(|value| fits(value)).cloned();
        (*name, value.unwrap_or_default())
    });
    own.into_iter().chain(repeated).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Sets the fields to what the run was started with: null where it was started without.
pub fn note_done(echo: &mut Map<String, Value>, done: &Sampling) {
    for (name, is_done) in [
        ("max_output_tokens", done.max_completion_tokens.is_some()),
        ("temperature", done.temperature.is_some()),
        ("top_p", done.top_p.is_some()),
    ] {
        if let (Some(value), false) = (echo.get_mut(name), is_done) {
            *value = Value::Null;
        }
    }
    if let Some(reasoning) = echo.get_mut("reasoning") {
        reasoning["effort"] = json!(done.reasoning_effort);
    }
    if let Some(Value::Object(text)) = echo.get_mut("text") {
        text.remove("verbosity");
        text.extend(done.verbosity.as_ref().map(|word| ("verbosity".to_owned(), json!(word))));
    }
}

/// Returns the pairs of texts in the request's `metadata`; what else stands there is left out.
fn metadata(asked: Option<&Value>) -> Value {
    let pairs = asked.and_then(Value::as_object).into_iter().flatten();
    let texts = pairs.filter(|(_, value)| value.is_string());
    texts.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into()
}

/// Returns the `reasoning` field: the effort that was asked for, and never a summary.
fn reasoning(asked: Option<&Value>) -> Value {
    let effort = asked.and_then(|asked| asked.get("effort"));
    json!({"effort": effort, "summary": null})
}

/// Fields of tools, by type, that may be missing in a request and that strict clients want to see in a
/// response. Known: OpenAI's description of its API asks for a function's, and async-openai's types for a
/// custom tool's.
const FIELDS_OF_TOOLS: [(&str, &str); 3] =
    [("custom", "format"), ("function", "parameters"), ("function", "strict")];

/// Returns the tools, with those fields: null, or plain text as the form of a custom tool's input. What is no
/// tool is left out: a request that wants no call may bring it.
fn tools(asked: Option<&Value>) -> Value {
    let asked = asked.and_then(Value::as_array).into_iter().flatten();
    let mut tools: Vec<Value> = asked.filter(|tool| tool["type"].is_string()).cloned().collect();
    for tool in &mut tools {
        for (kind, field) in FIELDS_OF_TOOLS {
            if tool["type"] == kind && tool[field].is_null() {
                let is_form = field == "format";
                tool[field] = if is_form { json!({"type": "text"}) } else { Value::Null };
            }
        }
    }
    tools.into()
}

/// Returns the `text` field: the format, which is plain unless another was asked for, and the verbosity.
fn text(asked: Option<&Value>) -> Value {
    let field = |name: &str| asked.and_then(|asked| asked.get(name)).filter(|at| !at.is_null());
    let mut text = json!({"format": field("format").unwrap_or(&json!({"type": "text"}))});
    if let Some(verbosity) = field("verbosity") {
        text["verbosity"] = verbosity.clone();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_tools_only_tools_are_repeated() {
        assert_eq!(tools(Some(&json!("none"))), json!([]));
        let tool = json!({"type": "function", "name": "f", "parameters": {}, "strict": true});
        assert_eq!(tools(Some(&json!([7, {"name": "x"}, tool]))), json!([tool]));
    }
}
