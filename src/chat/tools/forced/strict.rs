//! Makes a tool's schema one that OpenAI's structured outputs take as strict, so that a model is bound to
//! it: objects are closed, all properties required, and those that were optional may be null. The nulls
//! are dropped from the arguments that come back, by `relaxed`.
//!
//! Limits and keywords: OpenAI's guide to structured outputs ("Supported schemas", read 2026-11) and, where
//! that leaves it open, Azure's, which takes less. What only narrows a value, such as `minLength`, is left
//! out: arguments are checked against the tool's own schema all the same.

use serde_json::{Map, Value, json};

use super::super::slots::{self, Slot};

/// Deepest nesting of objects and lists.
const LEVELS: usize = 10;
/// Most properties of all objects together.
const PROPERTIES: usize = 5_000;
/// Most values of all enumerations together.
const ENUM_VALUES: usize = 1_000;
/// Most characters of all names of properties and definitions, and of all values of enumerations.
const CHARACTERS: usize = 120_000;

/// Keywords that are kept as they are.
const KEPT: [&str; 13] = [
    "type",
    "enum",
    "const",
    "title",
    "description",
    "pattern",
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
];
/// Keywords that say which values there are, in a way that a strict schema has no words for.
const UNKNOWN: [&str; 14] = [
    "not",
    "if",
    "then",
    "else",
    "patternProperties",
    "prefixItems",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "$dynamicRef",
    "$recursiveRef",
    "unevaluatedProperties",
    "contains",
    "propertyNames",
];
/// Formats of texts that are taken.
const FORMATS: [&str; 9] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];
/// Keywords that say nothing about a value.
const ANNOTATIONS: [&str; 9] = [
    "title",
    "description",
    "default",
    "examples",
    "$comment",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
];

/// Returns the schema, made strict; `None` if it cannot be without another meaning. Definitions are made
/// strict too, where they stand.
pub fn strict(schema: &Value) -> Option<Value> {
    let rules = schema.as_object().filter(|rules| !rules.is_empty())?;
    if UNKNOWN.iter().any(|keyword| rules.contains_key(*keyword)) {
        return None;
    }
    let mut closed = if let Some(target) = rules.get("$ref") {
        is_alone("$ref", rules).then(|| json!({"$ref": target}))?
    } else if let Some(all) = rules.get("allOf") {
        let [one] = &all.as_array()?[..] else { return None };
        is_alone("allOf", rules).then(|| strict(one))??
    } else if let Some(keyword) =
        ["anyOf", "oneOf"].into_iter().find(|key| rules.contains_key(*key))
    {
        let kinds = rules[keyword].as_array()?.iter().map(strict);
        let kinds = kinds.collect::<Option<Vec<_>>>().filter(|_| is_alone(keyword, rules))?;
        with_description(json!({"anyOf": kinds}), rules)
    } else {
        plain(rules)?
    };
    for place in ["$defs", "definitions"] {
        if let Some(definitions) = rules.get(place) {
            let all = definitions.as_object()?.iter();
            let all = all.map(|(name, schema)| Some((name.clone(), strict(schema)?)));
            closed[place] = Value::Object(all.collect::<Option<Map<_, _>>>()?);
        }
    }
    Some(if rules.get("nullable") == Some(&Value::Bool(true)) { nullable(closed) } else { closed })
}

/// True if nothing beside this keyword says anything about a value.
fn is_alone(keyword: &str, rules: &Map<String, Value>) -> bool {
    let is_free = |other: &str| {
        other == keyword
            || ANNOTATIONS.contains(&other)
            || ["$defs", "definitions", "nullable"].contains(&other)
    };
    rules.keys().all(|other| is_free(other))
}

fn with_description(mut schema: Value, rules: &Map<String, Value>) -> Value {
    if let Some(words) = rules.get("description") {
        schema["description"] = words.clone();
    }
    schema
}

/// Makes a schema strict that consists of a type and rules for it.
fn plain(rules: &Map<String, Value>) -> Option<Value> {
    let is_kept = |(keyword, value): &(&String, &Value)| match keyword.as_str() {
        "format" => FORMATS.iter().any(|format| *value == format),
        // Expressions that look around are not taken.
        "pattern" => value.as_str().is_some_and(|pattern| !pattern.contains("(?")),
        keyword => KEPT.contains(&keyword),
    };
    let kept = rules.iter().filter(is_kept);
    let mut closed: Map<String, Value> =
        kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !closed.contains_key("type") {
        closed.insert("type".to_owned(), json!(kind(rules)?));
    }
    let is_of = |kind: &str| {
        let named = &closed["type"];
        named == kind
            || named.as_array().is_some_and(|kinds| kinds.iter().any(|named| named == kind))
    };
    let (is_object, is_list) = (is_of("object"), is_of("array"));
    if is_object {
        close(rules, &mut closed)?;
    }
    if is_list {
        closed.insert("items".to_owned(), strict(rules.get("items")?)?);
    }
    Some(Value::Object(closed))
}

/// The type of a schema that does not name it.
fn kind(rules: &Map<String, Value>) -> Option<&'static str> {
    let values = rules.get("const").map(std::slice::from_ref);
    let values = values.or(rules.get("enum").and_then(Value::as_array).map(Vec::as_slice));
    match values {
        Some(values) if values.iter().all(Value::is_string) => Some("string"),
        Some(values) if values.iter().all(Value::is_i64) => Some("integer"),
        Some(values) if values.iter().all(Value::is_number) => Some("number"),
        Some(values) if values.iter().all(Value::is_boolean) => Some("boolean"),
        Some(_) => None,
        None => rules.contains_key("properties").then_some("object"),
    }
}

/// Adds to `closed` the properties of an object, all of them required. An object that is open for others
/// cannot be closed.
fn close(rules: &Map<String, Value>, closed: &mut Map<String, Value>) -> Option<()> {
    let is_closed = rules.get("additionalProperties") == Some(&Value::Bool(false));
    if !is_closed && rules.contains_key("additionalProperties") {
        return None;
    }
    let none = Map::new();
    let properties = match rules.get("properties") {
        Some(properties) => properties.as_object()?,
        None => is_closed.then_some(&none)?,
    };
    let mut all = Map::new();
    for (name, schema) in properties {
        let is_free = is_optional(name, rules)
            && (schema.get("$ref").is_some() || !slots::allows_null(Some(schema), &Slot::root()));
        let property = strict(schema)?;
        all.insert(name.clone(), if is_free { nullable(property) } else { property });
    }
    let names: Vec<&String> = all.keys().collect();
    closed.insert("required".to_owned(), json!(names));
    closed.insert("properties".to_owned(), Value::Object(all));
    closed.insert("additionalProperties".to_owned(), json!(false));
    Some(())
}

fn is_optional(name: &str, rules: &Map<String, Value>) -> bool {
    let required = rules.get("required").and_then(Value::as_array);
    !required.is_some_and(|required| required.iter().any(|required| required == name))
}

/// Returns a strict schema that allows null, too.
fn nullable(mut schema: Value) -> Value {
    let is_scalar = schema["type"].is_string()
        && !["object", "array"].iter().any(|kind| schema["type"] == *kind)
        && schema.get("const").is_none();
    if is_scalar {
        schema["type"] = json!([schema["type"], "null"]);
        if let Some(Value::Array(values)) = schema.get_mut("enum") {
            values.push(Value::Null);
        }
        return schema;
    }
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// True if OpenAI takes a strict schema of this size.
pub fn is_within_limits(schema: &Value) -> bool {
    let mut size = Size::default();
    size.add(schema, 0);
    size.levels <= LEVELS
        && size.properties <= PROPERTIES
        && size.enum_values <= ENUM_VALUES
        && size.characters <= CHARACTERS
}

#[derive(Default)]
struct Size {
    levels: usize,
    properties: usize,
    enum_values: usize,
    characters: usize,
}

impl Size {
    fn add(&mut self, schema: &Value, level: usize) {
        let level = level + usize::from(schema.get("properties").or(schema.get("items")).is_some());
        self.levels = self.levels.max(level);
        for place in ["properties", "$defs", "definitions"] {
            for (name, schema) in schema[place].as_object().into_iter().flatten() {
                self.properties += usize::from(place == "properties");
                self.characters += name.len();
                self.add(schema, if place == "properties" { level } else { 0 });
            }
        }
        for value in schema["enum"].as_array().into_iter().flatten().chain(schema.get("const")) {
            self.enum_values += 1;
            self.characters += value.as_str().map_or(0, str::len);
        }
        schema.get("items").into_iter().for_each(|items| self.add(items, level));
        schema["anyOf"].as_array().into_iter().flatten().for_each(|kind| self.add(kind, level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_closed_and_what_was_optional_may_be_null() {
        let schema = json!({
            "$schema": "x",
            "type": "object",
            "properties": {
                "a": {"type": "string", "minLength": 1, "default": "x", "format": "date"},
                "b": {"type": "integer", "minimum": 1, "description": "B."},
                "c": {"enum": ["x", "y"]},
                "d": {"type": ["string", "null"]},
                "e": {"type": "array", "items": {"type": "object", "properties": {"f": {"type": "boolean"}}}},
                "g": {"$ref": "#/$defs/g", "description": "G."},
                "h": {"oneOf": [{"type": "string"}, {"type": "number"}]},
            },
            "required": ["a"],
            "$defs": {"g": {"type": "object", "properties": {}, "additionalProperties": false}},
        });
        let inner = json!({
            "type": "object",
            "required": ["f"],
            "properties": {"f": {"type": ["boolean", "null"]}},
            "additionalProperties": false,
        });
        let none = json!({"type": "null"});
        let expected = json!({
            "type": "object",
            "required": ["a", "b", "c", "d", "e", "g", "h"],
            "properties": {
                "a": {"type": "string", "format": "date"},
                "b": {"type": ["integer", "null"], "minimum": 1, "description": "B."},
                "c": {"enum": ["x", "y", null], "type": ["string", "null"]},
                "d": {"type": ["string", "null"]},
                "e": {"anyOf": [{"type": "array", "items": inner}, none]},
                "g": {"anyOf": [{"$ref": "#/$defs/g"}, none]},
                "h": {"anyOf": [{"anyOf": [{"type": "string"}, {"type": "number"}]}, none]},
            },
            "additionalProperties": false,
            "$defs": {"g": {
                "type": "object", "required": [], "properties": {}, "additionalProperties": false
            }},
        });
        assert_eq!(strict(&schema), Some(expected));
    }

    #[test]
    fn what_would_get_another_meaning_is_not_made_strict() {
        let of = |property: Value| json!({"type": "object", "properties": {"a": property}});
        for property in [
            json!({}),
            json!(true),
            json!({"type": "object"}),
            json!({"type": "array"}),
            json!({"type": "object", "properties": {}, "additionalProperties": true}),
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"type": "string", "not": {"const": "x"}}),
            json!({"type": "array", "prefixItems": [], "items": {"type": "string"}}),
            json!({"allOf": [{"type": "string"}, {"type": "string"}]}),
            json!({"$ref": "#/$defs/a", "minimum": 1}),
            json!({"type": "object", "anyOf": [{"required": ["a"]}]}),
            json!({"enum": ["a", 1]}),
        ] {
            assert_eq!(strict(&of(property.clone())), None, "{property}");
        }
    }

    #[test]
    fn each_limit_ends_where_it_says() {
        let nested = |levels: usize| {
            (1..levels)
                .fold(json!({"properties": {}}), |inner, _| json!({"properties": {"a": inner}}))
        };
        let wide = |count: usize| {
            let all = (0..count).map(|at| (format!("p{at}"), json!({"type": "string"})));
            json!({"properties": all.collect::<Map<_, _>>()})
        };
        let listed = |count: usize| json!({"enum": (0..count).collect::<Vec<_>>()});
        let long = |count: usize| json!({"enum": ["x".repeat(count)]});
        for (schema, most) in [
            (&nested as &dyn Fn(usize) -> Value, LEVELS),
            (&wide, PROPERTIES),
            (&listed, ENUM_VALUES),
            (&long, CHARACTERS),
        ] {
            assert!(is_within_limits(&schema(most)), "{most}");
            assert!(!is_within_limits(&schema(most + 1)), "{most}");
        }
    }
}
