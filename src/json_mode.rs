//! Checks of whole answers that were asked for as JSON: models mostly keep to it, and nobody else
//! tells when they did not.

use serde_json::{Map, Value};

use crate::chat::ResponseFormat;

/// What is found, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is as it was asked for.
    Valid,
    /// It is, without the Markdown fence that the model had put around it.
    Repaired,
    /// It is JSON, but not of the schema.
    NotOfSchema,
    /// It is not JSON, or no object.
    NotJson,
}

impl Verdict {
    /// The value of the answer's header `x-langfast2api-json`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Repaired => "repaired",
            Verdict::NotOfSchema => "not-of-schema",
            Verdict::NotJson => "not-json",
        }
    }
}

/// Checks a text against the form that was asked for, and takes a fence away that stands around all
/// of it. `None` if any text was asked for.
pub fn check(text: &mut String, format: &ResponseFormat) -> Option<Verdict> {
    let schema = match format {
        ResponseFormat::Text => return None,
        ResponseFormat::JsonObject => None,
        ResponseFormat::JsonSchema(format) => format.pointer("/json_schema/schema"),
    };
    let mut verdict = Verdict::Valid;
    let value = match serde_json::from_str::<Value>(text) {
        Ok(value) => value,
        Err(_) => {
            let inside = unfenced(text).map(str::to_owned);
            let parsed = inside
                .and_then(|inside| Some((serde_json::from_str::<Value>(&inside).ok()?, inside)));
            let Some((value, inside)) = parsed else { return Some(Verdict::NotJson) };
            *text = inside;
            verdict = Verdict::Repaired;
            value
        }
    };
    Some(match schema {
        None if !value.is_object() => Verdict::NotJson,
        Some(schema) if !Schema { root: schema }.allows(schema, &value, 0) => Verdict::NotOfSchema,
        _ => verdict,
    })
}

/// What stands in a Markdown fence, if nothing stands outside of it.
fn unfenced(text: &str) -> Option<&str> {
    let inside = text.trim().strip_prefix("```")?.strip_suffix("```")?;
    let (language, json) = inside.split_once('\n')?;
    let plain = language.trim().is_empty() || language.trim().eq_ignore_ascii_case("json");
    (plain && !json.contains("```")).then(|| json.trim())
}

/// A JSON Schema, as far as OpenAI's structured outputs take it: types, properties, items, enums,
/// references, combinations and limits. Other keywords (`format`, `pattern`) are not checked.
struct Schema<'a> {
    root: &'a Value,
}

/// Deepest nesting that is followed; a schema may refer to itself.
const DEEPEST: usize = 100;

impl Schema<'_> {
    fn allows(&self, schema: &Value, value: &Value, depth: usize) -> bool {
        let rules = match schema {
            Value::Bool(allowed) => return *allowed,
            Value::Object(rules) => rules,
            _ => return true,
        };
        if depth > DEEPEST {
            return true;
        }
        let all = |key: &str, judge: &dyn Fn(&Value) -> bool| rules.get(key).is_none_or(judge);
        let each = |list: &Value, wanted: &dyn Fn(usize) -> bool| {
            let list = list.as_array().map_or(&[][..], Vec::as_slice);
            wanted(list.iter().filter(|one| self.allows(one, value, depth + 1)).count())
        };
        let count = |list: &Value| list.as_array().map_or(0, Vec::len);
        all("type", &|kind| is_of_type(kind, value))
            && all("enum", &|list| list.as_array().is_none_or(|list| list.contains(value)))
            && all("const", &|constant| constant == value)
            && all("$ref", &|target| {
                self.find(target).is_none_or(|schema| self.allows(schema, value, depth + 1))
            })
            && all("anyOf", &|list| each(list, &|fitting| fitting > 0))
            && all("oneOf", &|list| each(list, &|fitting| fitting == 1))
            && all("allOf", &|list| each(list, &|fitting| fitting == count(list)))
            && within_limits(rules, value)
            && match value {
                Value::Object(object) => self.allows_object(rules, object, depth),
                Value::Array(list) => all("items", &|items| {
                    list.iter().all(|item| self.allows(items, item, depth + 1))
                }),
                _ => true,
            }
    }

    fn allows_object(
        &self,
        rules: &Map<String, Value>,
        object: &Map<String, Value>,
        depth: usize,
    ) -> bool {
        let properties = rules.get("properties").and_then(Value::as_object);
        let required = rules.get("required").and_then(Value::as_array);
        let others = rules.get("additionalProperties");
        let has = |name: &Value| name.as_str().is_none_or(|name| object.contains_key(name));
        required.is_none_or(|names| names.iter().all(has))
            && object.iter().all(|(name, value)| {
                let schema = properties.and_then(|known| known.get(name)).or(others);
                schema.is_none_or(|schema| self.allows(schema, value, depth + 1))
            })
    }

    /// The target of a reference within the schema.
    fn find(&self, target: &Value) -> Option<&Value> {
        self.root.pointer(target.as_str()?.strip_prefix('#')?)
    }
}

fn is_of_type(kind: &Value, value: &Value) -> bool {
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    };
    match kind {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

fn within_limits(rules: &Map<String, Value>, value: &Value) -> bool {
    let limit = |name: &str| rules.get(name).and_then(Value::as_f64);
    let between = |size: f64, least: &str, most: &str| {
        limit(least).is_none_or(|least| size >= least)
            && limit(most).is_none_or(|most| size <= most)
    };
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(0.0);
            between(number, "minimum", "maximum")
                && limit("exclusiveMinimum").is_none_or(|least| number > least)
                && limit("exclusiveMaximum").is_none_or(|most| number < most)
        }
        Value::String(text) => between(text.chars().count() as f64, "minLength", "maxLength"),
        Value::Array(list) => between(list.len() as f64, "minItems", "maxItems"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checked(text: &str, format: &ResponseFormat) -> (Option<Verdict>, String) {
        let mut text = text.to_owned();
        (check(&mut text, format), text)
    }

    fn of_schema(schema: Value, text: &str) -> Verdict {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        checked(text, &ResponseFormat::JsonSchema(format)).0.unwrap()
    }

    #[test]
    fn a_fence_around_all_of_it_is_taken_away_and_nothing_else_is_touched() {
        let format = ResponseFormat::JsonObject;
        let verdict = |text| checked(text, &format);
        assert_eq!(verdict(" {\"a\": 1}\n"), (Some(Verdict::Valid), " {\"a\": 1}\n".to_owned()));
        let repaired = (Some(Verdict::Repaired), "{\"a\": 1}".to_owned());
        assert_eq!(verdict("```json\n{\"a\": 1}\n```"), repaired);
        assert_eq!(verdict("\n```\n{\"a\": 1}\n```\n"), repaired);
        for text in ["", "[1]", "Here: {\"a\": 1}", "```json\n{\n```", "```js\n{}\n```", "```{}```"]
        {
            assert_eq!(verdict(text), (Some(Verdict::NotJson), text.to_owned()), "{text}");
        }
        assert_eq!(checked("```\n{}\n```", &ResponseFormat::Text).0, None);
    }

    #[test]
    fn values_are_held_against_the_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "age": {"type": ["integer", "null"], "minimum": 0},
                "kind": {"enum": ["a", "b"]},
                "tree": {"$ref": "#/$defs/tree"},
                "either": {"anyOf": [{"type": "string"}, {"type": "number"}]}
            },
            "required": ["name"],
            "additionalProperties": false,
            "$defs": {"tree": {
                "type": "object",
                "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                "additionalProperties": false
            }}
        });
        for good in [
            r#"{"name": "x"}"#,
            r#"{"name": "x", "age": null, "kind": "b", "either": 2}"#,
            r#"{"name": "x", "tree": {"children": [{"children": []}]}}"#,
        ] {
            assert_eq!(of_schema(schema.clone(), good), Verdict::Valid, "{good}");
        }
        for bad in [
            "{}",
            "[]",
            r#"{"name": ""}"#,
            r#"{"name": "x", "age": 1.5}"#,
            r#"{"name": "x", "age": -1}"#,
            r#"{"name": "x", "kind": "c"}"#,
            r#"{"name": "x", "other": 1}"#,
            r#"{"name": "x", "either": null}"#,
            r#"{"name": "x", "tree": {"children": [{"x": []}]}}"#,
        ] {
            assert_eq!(of_schema(schema.clone(), bad), Verdict::NotOfSchema, "{bad}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_without_end_is_followed_so_far() {
        assert_eq!(of_schema(json!({"$ref": "#"}), "{}"), Verdict::Valid);
    }
}
