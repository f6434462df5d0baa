//! Checks of whole answers for which JSON was requested. Models mostly comply, and LangFast does
//! not report when they did not.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::chat::ResponseFormat;
use crate::chat::schema::{Judgement, Schema};
use crate::chat::values::{self, NotBuilt};

/// The result of a check, in ascending order of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The answer has the requested form.
    Valid,
    /// The answer is JSON, and breaks nothing in the schema that is understood; but not all is, or the check
    /// would take too much time or memory.
    Unjudged,
    /// The answer has the requested form once a Markdown fence around it is removed, as far as the schema is
    /// understood.
    Repaired,
    /// The answer is JSON, but does not fit the schema.
    NotOfSchema,
    /// The answer is not JSON, or not an object.
    NotJson,
}

impl Verdict {
    /// Returns the value for the header `x-langfast2api-json`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Unjudged => "unjudged",
            Verdict::Repaired => "repaired",
            Verdict::NotOfSchema => "not-of-schema",
            Verdict::NotJson => "not-json",
        }
    }
}

/// Returns the requested form as an instruction, for models that cannot be bound to it; empty if any text
/// was requested.
pub fn in_words(format: Option<&ResponseFormat>) -> String {
    match format {
        None | Some(ResponseFormat::Text) => String::new(),
        Some(ResponseFormat::JsonObject) => {
            "Answer with one JSON object and with nothing else.".to_owned()
        }
        Some(ResponseFormat::JsonSchema(format)) => {
            let schema = format.pointer("/json_schema/schema");
            let schema = schema.map_or_else(|| "{}".to_owned(), ToString::to_string);
            format!("Answer with JSON that fits this schema, and with nothing else:\n{schema}")
        }
    }
}

/// Checks a text against the requested form, and removes a fence that encloses all of it. `None` if
/// any text was requested, or if the text is JSON that cannot be held in memory as it is: nested too
/// deep, with a number beyond all doubles, or with half a surrogate pair.
///
/// A text whose values would take more than about 32 MiB of memory is not judged by a schema.
pub fn check(text: &mut String, format: &ResponseFormat) -> Option<Verdict> {
    let schema = match format {
        ResponseFormat::Text => return None,
        ResponseFormat::JsonObject => None,
        ResponseFormat::JsonSchema(format) => format.pointer("/json_schema/schema"),
    };
    match read(text) {
        Ok(value) => return Some(judge(text, value, schema)),
        Err(Unread::NoValue) => return None,
        Err(Unread::NotJson) => {}
    }
    let Some(inside) = unfenced(text).map(str::to_owned) else { return Some(Verdict::NotJson) };
    let Ok(value) = read(&inside) else { return Some(Verdict::NotJson) };
    let verdict = judge(&inside, value, schema);
    *text = inside;
    Some(verdict.max(Verdict::Repaired))
}

/// The reason that a text has no value.
enum Unread {
    /// It is not JSON.
    NotJson,
    /// It is JSON, and no value can hold it.
    NoValue,
}

/// Reads the value of a JSON text; `None` if it would take too much memory.
fn read(text: &str) -> Result<Option<Value>, Unread> {
    match values::of_text(text) {
        Ok(value) => Ok(Some(value)),
        Err(_) if serde_json::from_str::<IgnoredAny>(text).is_err() => Err(Unread::NotJson),
        Err(NotBuilt::NoMemory(_)) => Ok(None),
        Err(NotBuilt::Invalid(_)) => Err(Unread::NoValue),
    }
}

/// Judges JSON, and its value if that is known, by the schema, or, without one, by whether it is an object.
fn judge(json: &str, value: Option<Value>, schema: Option<&Value>) -> Verdict {
    match (schema, value) {
        (None, _) if json.trim_start().starts_with('{') => Verdict::Valid,
        (None, _) => Verdict::NotJson,
        (Some(_), None) => Verdict::Unjudged,
        (Some(schema), Some(value)) => match Schema::new(schema).judge(&value) {
            Judgement::Fits => Verdict::Valid,
            Judgement::Open => Verdict::Unjudged,
            Judgement::Unfit(_) => Verdict::NotOfSchema,
        },
    }
}

/// Returns the contents of a Markdown fence that encloses the whole text.
fn unfenced(text: &str) -> Option<&str> {
    let inside = text.trim().strip_prefix("```")?.strip_suffix("```")?;
    let (language, json) = inside.split_once('\n')?;
    let plain = language.trim().is_empty() || language.trim().eq_ignore_ascii_case("json");
    (plain && !json.contains("```")).then(|| json.trim())
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
    fn nothing_is_said_of_json_that_cannot_be_held() {
        let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
        for text in [deep, r#"{"a": 1e999}"#.to_owned(), r#"{"a": "\ud83d"}"#.to_owned()] {
            assert_eq!(checked(&text, &ResponseFormat::JsonObject), (None, text));
        }
    }

    #[test]
    fn json_whose_values_would_take_far_more_memory_than_its_text_is_not_judged_by_its_schema() {
        let zeros = format!("[{}0]", "0,".repeat(1_000_000));
        for schema in [json!({"type": "array"}), json!({"type": "object"})] {
            assert_eq!(of_schema(schema.clone(), &zeros), Verdict::Unjudged);
            assert_eq!(of_schema(schema.clone(), &format!("```\n{zeros}\n```")), Verdict::Repaired);
            assert_eq!(of_schema(schema, &format!("{zeros}]")), Verdict::NotJson);
        }
        let object = |json: &str| checked(json, &ResponseFormat::JsonObject).0;
        assert_eq!(object(&format!("{{\"a\":{zeros}}}")), Some(Verdict::Valid));
        assert_eq!(object(&zeros), Some(Verdict::NotJson));
        let prose = format!("\"{}\"", "word ".repeat(2_000_000));
        assert_eq!(of_schema(json!({"type": "string"}), &prose), Verdict::Valid);
    }

    #[test]
    fn what_is_not_of_the_schema_is_told_from_what_is_no_json() {
        let schema = json!({"type": "object", "required": ["a"]});
        assert_eq!(of_schema(schema.clone(), r#"{"a": 1}"#), Verdict::Valid);
        assert_eq!(of_schema(schema.clone(), r#"{"b": 1}"#), Verdict::NotOfSchema);
        assert_eq!(of_schema(schema, r#"{"a": 1"#), Verdict::NotJson);
        let open = json!({"type": "object", "properties": {"a": {"pattern": "(?=x)"}}});
        assert_eq!(of_schema(open.clone(), r#"{"a": "b"}"#), Verdict::Unjudged);
        assert_eq!(of_schema(open.clone(), "```\n{\"a\": \"b\"}\n```"), Verdict::Repaired);
        assert_eq!(of_schema(open, "[]"), Verdict::NotOfSchema);
    }
}
