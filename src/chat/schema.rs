//! Validation by JSON Schema, as far as OpenAI's structured outputs and tools use it: types,
//! properties, items, enums, references, combinations and limits. Other keywords (`format`,
//! `pattern`) are not checked.

use std::cell::Cell;

use serde_json::{Map, Value};

/// Deepest nesting that is checked, since a schema may refer to itself.
const DEEPEST: usize = 100;
/// Most comparisons of a value with a schema in one check, since references and combinations can
/// multiply without end.
const MOST_COMPARISONS: u32 = 100_000;

/// A schema that values are checked against.
pub struct Schema<'a> {
    root: &'a Value,
    left: Cell<u32>,
}

/// The reason that a value does not fit, and where.
struct Fault {
    /// The path to the value, innermost step first.
    path: Vec<String>,
    why: String,
}

impl Fault {
    fn new(why: impl Into<String>) -> Result<(), Fault> {
        Err(Fault { path: Vec::new(), why: why.into() })
    }

    fn within(mut self, step: String) -> Fault {
        self.path.push(step);
        self
    }
}

impl<'a> Schema<'a> {
    /// Creates a checker for this schema; parts of it that are not understood allow everything.
    pub fn new(root: &'a Value) -> Schema<'a> {
        Schema { root, left: Cell::new(MOST_COMPARISONS) }
    }

    /// Returns why a value does not fit, as place and reason for people and models to read; `None`
    /// if it fits.
    pub fn fault(&self, value: &Value) -> Option<String> {
        self.left.set(MOST_COMPARISONS);
        let fault = self.check(self.root, value, 0).err()?;
        let path: String = fault.path.iter().rev().map(String::as_str).collect();
        Some(format!("${path} {}", fault.why))
    }

    /// True if a value fits.
    pub fn allows(&self, value: &Value) -> bool {
        self.fault(value).is_none()
    }

    fn check(&self, schema: &Value, value: &Value, depth: usize) -> Result<(), Fault> {
        let rules = match schema {
            Value::Bool(false) => return Fault::new("is not allowed"),
            Value::Object(rules) => rules,
            _ => return Ok(()),
        };
        if depth > DEEPEST || self.left.get() == 0 {
            return Ok(());
        }
        self.left.set(self.left.get() - 1);
        check_plain_rules(rules, value)?;
        if let Some(target) = rules.get("$ref").and_then(|target| self.find(target)) {
            self.check(target, value, depth + 1)?;
        }
        self.check_combinations(rules, value, depth)?;
        match value {
            Value::Object(object) => self.check_object(rules, object, depth),
            Value::Array(list) => self.check_list(rules, list, depth),
            _ => Ok(()),
        }
    }

    fn check_combinations(
        &self,
        rules: &Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> Result<(), Fault> {
        let list = |name: &str| rules.get(name).and_then(Value::as_array);
        let fits = |schema: &&Value| self.check(schema, value, depth + 1).is_ok();
        if list("anyOf").is_some_and(|schemas| !schemas.iter().any(|schema| fits(&schema))) {
            return Fault::new("fits none of the schemas in anyOf");
        }
        if list("oneOf").is_some_and(|schemas| schemas.iter().filter(fits).count() != 1) {
            return Fault::new("does not fit exactly one of the schemas in oneOf");
        }
        let all = list("allOf").into_iter().flatten();
        all.into_iter().try_for_each(|schema| self.check(schema, value, depth + 1))
    }

    fn check_object(
        &self,
        rules: &Map<String, Value>,
        object: &Map<String, Value>,
        depth: usize,
    ) -> Result<(), Fault> {
        let required = rules.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(name) {
                return Fault::new(format!("lacks the required property `{name}`"));
            }
        }
        let properties = rules.get("properties").and_then(Value::as_object);
        let others = rules.get("additionalProperties");
        for (name, value) in object {
            let Some(schema) = properties.and_then(|known| known.get(name)).or(others) else {
                continue;
            };
            let checked = self.check(schema, value, depth + 1);
            checked.map_err(|fault| fault.within(format!(".{name}")))?;
        }
        Ok(())
    }

    fn check_list(
        &self,
        rules: &Map<String, Value>,
        list: &[Value],
        depth: usize,
    ) -> Result<(), Fault> {
        let Some(items) = rules.get("items") else { return Ok(()) };
        for (at, item) in list.iter().enumerate() {
            let checked = self.check(items, item, depth + 1);
            checked.map_err(|fault| fault.within(format!("[{at}]")))?;
        }
        Ok(())
    }

    /// Returns the target of a reference within the schema.
    fn find(&self, target: &Value) -> Option<&Value> {
        self.root.pointer(target.as_str()?.strip_prefix('#')?)
    }
}

/// Checks the rules that concern only the value itself, not its parts.
fn check_plain_rules(rules: &Map<String, Value>, value: &Value) -> Result<(), Fault> {
    if let Some(kind) = rules.get("type").filter(|kind| !is_of_type(kind, value)) {
        return Fault::new(format!("must be of type {kind}"));
    }
    let listed = rules.get("enum").and_then(Value::as_array);
    if let Some(list) = listed.filter(|list| !list.contains(value)) {
        return Fault::new(format!("must be one of {}", Value::from(list.clone())));
    }
    if let Some(constant) = rules.get("const").filter(|constant| *constant != value) {
        return Fault::new(format!("must be {constant}"));
    }
    if within_limits(rules, value) { Ok(()) } else { Fault::new("is over a limit of the schema") }
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
        let schema = Schema::new(&schema);
        for good in [
            json!({"name": "x"}),
            json!({"name": "x", "age": null, "kind": "b", "either": 2}),
            json!({"name": "x", "tree": {"children": [{"children": []}]}}),
        ] {
            assert_eq!(schema.fault(&good), None, "{good}");
        }
        for (bad, fault) in [
            (json!({}), "$ lacks the required property `name`"),
            (json!([]), "$ must be of type \"object\""),
            (json!({"name": ""}), "$.name is over a limit of the schema"),
            (json!({"name": "x", "age": 1.5}), "$.age must be of type [\"integer\",\"null\"]"),
            (json!({"name": "x", "age": -1}), "$.age is over a limit of the schema"),
            (json!({"name": "x", "kind": "c"}), "$.kind must be one of [\"a\",\"b\"]"),
            (json!({"name": "x", "other": 1}), "$.other is not allowed"),
            (json!({"name": "x", "either": null}), "$.either fits none of the schemas in anyOf"),
            (
                json!({"name": "x", "tree": {"children": [{"x": []}]}}),
                "$.tree.children[0].x is not allowed",
            ),
        ] {
            assert_eq!(schema.fault(&bad).as_deref(), Some(fault), "{bad}");
        }
    }

    #[test]
    fn every_limit_ends_where_it_says_and_of_several_schemas_one_fits() {
        let one_of = json!({"oneOf": [{"type": "number"}, {"minimum": 5}, {"type": "string"}]});
        for (schema, good, bad) in [
            (json!({"minimum": 2}), json!([2, 2.5, "x"]), json!([1, 1.9])),
            (json!({"maximum": 2}), json!([2, -1]), json!([3, 2.1])),
            (json!({"exclusiveMinimum": 2}), json!([2.1, 3]), json!([2, 1])),
            (json!({"exclusiveMaximum": 2}), json!([1.9, 1]), json!([2, 3])),
            (json!({"minLength": 2}), json!(["ab", "éé", 1]), json!(["é", ""])),
            (json!({"maxLength": 2}), json!(["éé", ""]), json!(["abc"])),
            (json!({"minItems": 2}), json!([[1, 2], {}]), json!([[1], []])),
            (json!({"maxItems": 2}), json!([[1, 2], []]), json!([[1, 2, 3]])),
            (one_of, json!([3, null]), json!([6, "x"])),
        ] {
            let (good, bad) = (good.as_array().unwrap(), bad.as_array().unwrap());
            for value in good {
                assert!(Schema::new(&schema).allows(value), "{value} by {schema}");
            }
            for value in bad {
                assert!(!Schema::new(&schema).allows(value), "{value} by {schema}");
            }
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_without_end_is_followed_so_far() {
        assert!(Schema::new(&json!({"$ref": "#"})).allows(&json!({})));
        let twice = json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]});
        assert!(Schema::new(&twice).allows(&json!({})));
    }
}
