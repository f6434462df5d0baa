//! A worked example of a call: one of the tools that are offered, with arguments of its own schema.

use serde_json::{Map, Value, json};

use crate::chat::Tool;

/// Deepest nesting of the arguments of an example.
const DEEPEST: usize = 3;
/// Longest arguments of an example, in bytes.
const LONGEST: usize = 160;

/// Values for arguments by the end of their names: harmless, and such as somebody might write.
const VALUES: [(&str, &str); 20] = [
    ("path", "src/main.rs"),
    ("file", "src/main.rs"),
    ("filename", "notes.txt"),
    ("dir", "src"),
    ("directory", "src"),
    ("command", "ls"),
    ("cmd", "ls"),
    ("pattern", "TODO"),
    ("query", "opening hours"),
    ("search", "opening hours"),
    ("url", "https://example.com/"),
    ("city", "Oslo"),
    ("place", "Oslo"),
    ("location", "Oslo"),
    ("country", "Norway"),
    ("language", "en"),
    ("date", "2026-01-31"),
    ("email", "ann@example.com"),
    ("name", "Ann"),
    ("expression", "6 * 7"),
];

/// Returns the name of one of these tools and arguments for it as JSON, the first one for which there are
/// real values.
pub fn call(tools: &[Tool]) -> (String, String) {
    let own = |tool: &Tool| {
        let (arguments, is_real) = arguments(tool);
        let text = arguments.to_string();
        (text.len() <= LONGEST).then(|| (tool.name.clone(), text, is_real))
    };
    let mut some = tools.iter().filter(|tool| !tool.deferred).filter_map(own).peekable();
    let first = some.peek().cloned();
    match some.find(|(_, text, is_real)| *is_real && text != "{}").or(first) {
        Some((name, text, _)) => (name, text),
        None => ("NAME".to_owned(), "{…}".to_owned()),
    }
}

/// Arguments for the properties that a tool requires, and whether all values are real ones.
fn arguments(tool: &Tool) -> (Value, bool) {
    match &tool.parameters {
        Some(schema) => {
            let mut is_real = true;
            (object(schema, &mut is_real, DEEPEST), is_real)
        }
        None => (json!({}), true),
    }
}

fn object(schema: &Value, is_real: &mut bool, depth: usize) -> Value {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut members = Map::new();
    for name in required {
        // A name that is required again and again would be worked out each time, at each depth.
        if !members.contains_key(name) {
            let value = value(name, &schema["properties"][name], is_real, depth);
            members.insert(name.to_owned(), value);
        }
    }
    Value::Object(members)
}

/// A value for the property `name`: one that its schema names, or else one of its type.
fn value(name: &str, schema: &Value, is_real: &mut bool, depth: usize) -> Value {
    let listed = ["examples", "enum"].iter().find_map(|key| schema[key].get(0));
    if let Some(named) = schema.get("const").or(listed).or(schema.get("default")) {
        return named.clone();
    }
    let kind = schema["type"].as_str().or(schema["type"][0].as_str());
    match kind {
        Some("string") => text(name, is_real),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        Some("array") if depth > 0 => {
            let item = name.strip_suffix('s').unwrap_or(name);
            json!([value(item, &schema["items"], is_real, depth - 1)])
        }
        Some("object") if depth > 0 => object(schema, is_real, depth - 1),
        _ => {
            *is_real = false;
            Value::Null
        }
    }
}

fn text(name: &str, is_real: &mut bool) -> Value {
    let name = name.to_ascii_lowercase();
    let is_end = |end: &str| {
        let before = name.strip_suffix(end);
        before.is_some_and(|before| {
            before.is_empty() || before.ends_with(['_', '-']) || end.len() > 3
        })
    };
    let known = VALUES.iter().find(|(end, _)| is_end(end));
    *is_real &= known.is_some();
    json!(known.map_or("text", |(_, value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, parameters: Option<Value>) -> Tool {
        Tool { name: name.to_owned(), parameters, ..Tool::default() }
    }

    fn requiring(properties: Value) -> Option<Value> {
        let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        Some(json!({"type": "object", "properties": properties, "required": names}))
    }

    #[test]
    fn it_has_real_values_for_all_that_is_required() {
        let properties = json!({
            "file_path": {"type": "string"},
            "mode": {"enum": ["fast", "slow"]},
            "limit": {"type": "integer", "minimum": 5},
            "queries": {"type": "array", "items": {"type": "string", "examples": ["x"]}},
            "all": {"type": "boolean"},
        });
        let expected =
            r#"{"file_path":"src/main.rs","mode":"fast","limit":5,"queries":["x"],"all":true}"#;
        assert_eq!(call(&[tool("read", requiring(properties))]).1, expected);
    }

    #[test]
    fn what_is_required_many_times_over_is_worked_out_once() {
        let mut schema = json!({"type": "string"});
        for _ in 0..4 {
            schema = json!({
                "type": "object", "properties": {"city": schema}, "required": vec!["city"; 10_000]
            });
        }
        let expected = r#"{"city":{"city":{"city":{"city":"Oslo"}}}}"#;
        assert_eq!(call(&[tool("f", Some(schema))]).1, expected);
    }

    #[test]
    fn a_tool_with_real_values_is_taken_before_others_and_one_that_is_there_before_none() {
        let odd = tool("odd", requiring(json!({"zzz": {"type": "string"}, "b": {}})));
        let none = tool("none", None);
        let good = tool("good", requiring(json!({"city": {"type": "string"}})));
        let all = [odd.clone(), none.clone(), good];
        assert_eq!(call(&all), ("good".to_owned(), r#"{"city":"Oslo"}"#.to_owned()));
        let two = [odd.clone(), none];
        assert_eq!(call(&two), ("odd".to_owned(), r#"{"zzz":"text","b":null}"#.to_owned()));
        let long = requiring(json!({"a": {"const": "x".repeat(LONGEST)}}));
        assert_eq!(call(&[tool("long", long)]).0, "NAME", "too long to be an example");
    }
}
