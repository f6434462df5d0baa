//! Values as the type that a tool's schema asks for, where that is plain: `"3"` for 3, `"[1]"` for a list, an
//! object's JSON where a text is asked for.

use serde_json::Value;

use super::super::names::plain;
use super::super::slots::{Kinds, Slot, items, kinds, of_kind, rules};
use super::string::quoted;
use super::whole_at;
use crate::chat::values;

/// Most times that a value is taken out of another one: a schema may ask for lists in lists without end.
const DEEPEST: u8 = 8;

/// The JSON of a value as a type that its place allows; `None` if it has one, or cannot be one. `depth` counts
/// the values that it was taken out of: texts that hold JSON, and what stands for a list.
pub fn fitting(root: Option<&Value>, slot: &Slot, json: &str, depth: u8) -> Option<String> {
    let wanted = kinds(root, slot);
    let value = values::of_text(json).ok()?;
    if let (Value::String(text), true) = (&value, wanted.contains(Kinds::STRING)) {
        return choice(root, slot, text);
    }
    if wanted.contains(Kinds::of(&value)) {
        return None;
    }
    match &value {
        Value::String(text) => of_text(root, slot, text.trim(), wanted, depth),
        Value::Number(number) if wanted.contains(Kinds::INTEGER) => whole_number(number.as_f64()?),
        Value::Number(_) | Value::Bool(_) if wanted.contains(Kinds::STRING) => {
            Some(Value::from(json).to_string())
        }
        Value::Object(_) | Value::Array(_) if wanted.contains(Kinds::STRING) => {
            Some(Value::from(json).to_string())
        }
        Value::Object(_) | Value::Number(_) if wanted.contains(Kinds::ARRAY) => {
            in_list(root, slot, json, depth)
        }
        _ => None,
    }
}

/// The listed text that differs from this one in its case alone.
fn choice(root: Option<&Value>, slot: &Slot, text: &str) -> Option<String> {
    let (rules, _) = rules(root, slot)?;
    let choices = rules.get("enum")?.as_array()?;
    let mut choices = choices.iter().filter_map(Value::as_str);
    if choices.clone().any(|choice| choice == text) {
        return None;
    }
    choices.find(|choice| plain(choice) == plain(text)).map(quoted)
}

fn of_text(
    root: Option<&Value>,
    slot: &Slot,
    text: &str,
    wanted: Kinds,
    depth: u8,
) -> Option<String> {
    let number = || {
        let number = serde_json::from_str::<serde_json::Number>(text).ok()?;
        match wanted.contains(Kinds::NUMBER) || !number.is_f64() {
            true => Some(text.to_owned()),
            false => whole_number(number.as_f64()?),
        }
    };
    let lower = text.to_ascii_lowercase();
    if wanted.contains(Kinds::BOOLEAN) && matches!(lower.as_str(), "true" | "false") {
        return Some(lower);
    }
    if wanted.contains(Kinds::INTEGER) && number().is_some() {
        return number();
    }
    if wanted.contains(Kinds::NULL) && matches!(lower.as_str(), "null" | "none") {
        return Some("null".to_owned());
    }
    let (object, array) = (wanted.contains(Kinds::OBJECT), wanted.contains(Kinds::ARRAY));
    match text.chars().next() {
        Some('{') if object => within(text, root, slot, depth),
        Some('[') if array => within(text, root, slot, depth),
        Some(_) if array => in_list(root, slot, &quoted(text), depth),
        _ => None,
    }
}

/// Repairs a value that stands in another one.
fn within(text: &str, root: Option<&Value>, slot: &Slot, depth: u8) -> Option<String> {
    (depth < DEEPEST).then(|| whole_at(text, root, slot, depth + 1))?
}

/// A list of one value, if the list's items may be such.
fn in_list(root: Option<&Value>, slot: &Slot, json: &str, depth: u8) -> Option<String> {
    let list = of_kind(root, slot.clone(), "array");
    let items = items(root, &list);
    let item = within(json, root, &items, depth)?;
    let value = values::of_text(&item).ok()?;
    let known = kinds(root, &items);
    (known != Kinds::ANY && known.contains(Kinds::of(&value))).then(|| format!("[{item}]"))
}

fn whole_number(number: f64) -> Option<String> {
    // Up to here each whole number has a float of its own.
    let is_whole = number.fract() == 0.0 && number.abs() < 9e15;
    is_whole.then(|| (number as i64).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::tools::slots::property;
    use serde_json::json;

    #[test]
    fn values_take_the_type_that_their_place_asks_for_where_that_is_plain() {
        let schema = json!({
            "properties": {
                "i": {"type": "integer"}, "n": {"type": ["number", "null"]}, "b": {"type": "boolean"},
                "s": {"type": "string"}, "l": {"anyOf": [{"$ref": "#/$defs/l"}, {"type": "null"}]},
                "o": {"type": "object", "properties": {"i": {"type": "integer"}}},
                "e": {"enum": ["red", "blue"]}
            },
            "$defs": {"l": {"type": "array", "items": {"type": "string"}}}
        });
        let fit = |key: &str, json: &str| {
            let (_, slot) = property(Some(&schema), &Slot::root(), key);
            fitting(Some(&schema), &slot, json, 0)
        };
        for (key, json, expected) in [
            ("i", "\"3\"", Some("3")),
            ("i", "3.0", Some("3")),
            ("i", "\"3.5\"", None),
            ("i", "\"three\"", None),
            ("n", "\"2.5\"", Some("2.5")),
            ("n", "\"null\"", Some("null")),
            ("b", "\"True\"", Some("true")),
            ("b", "1", None),
            ("s", "1.50", Some("\"1.50\"")),
            ("s", "null", None),
            ("s", "{\"a\": 1}", Some(r#""{\"a\": 1}""#)),
            ("l", "\"a\"", Some("[\"a\"]")),
            ("l", "\"['a', 1]\"", Some("['a', 1]")),
            ("l", "null", None),
            ("o", r#""{\"i\": \"7\"}""#, Some("{\"i\": 7}")),
            ("e", "\"Red\"", Some("\"red\"")),
            ("e", "\"green\"", None),
            ("x", "\"3\"", None),
        ] {
            let expected = expected.map(|text| text.replace("['a', 1]", "[\"a\", \"1\"]"));
            assert_eq!(fit(key, json), expected, "{key} {json}");
        }
        assert_eq!(property(Some(&schema), &Slot::root(), "E").0, "e");
    }

    #[test]
    fn a_list_of_lists_without_end_is_not_made() {
        let schema = json!({
            "properties": {"l": {"$ref": "#/$defs/l"}, "m": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}},
            "$defs": {"l": {"type": "array", "items": {"$ref": "#/$defs/l"}}}
        });
        let fit = |key: &str, json: &str| {
            let (_, slot) = property(Some(&schema), &Slot::root(), key);
            fitting(Some(&schema), &slot, json, 0)
        };
        for json in ["3", "\"a\"", "{\"a\": 1}"] {
            assert_eq!(fit("l", json), None, "{json}");
        }
        assert_eq!(fit("m", "3").as_deref(), Some("[[3]]"));
    }
}
