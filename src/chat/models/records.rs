//! Reads the records of a models.json. An error tells the person who has written the file what is wrong, and
//! where.

use std::fmt;

use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// One record of LangFast's. What is absent, or `null`, is `None` or empty.
pub struct Record {
    /// Where it stands in the file.
    pub place: Place,
    /// LangFast's name for the model.
    pub slug: String,
    /// The model's name for people.
    pub name: Option<String>,
    /// The model's maker.
    pub provider: Option<String>,
    /// Dated names that mean the model too.
    pub versions: Vec<String>,
    /// What runs of the model accept.
    pub parameters: Map<String, Value>,
    /// The time at which LangFast has made the record, in RFC 3339.
    pub created_at: Option<String>,
    /// The time at which LangFast last changed the record, in RFC 3339.
    pub updated_at: Option<String>,
    /// `public` if LangFast offers the model.
    pub status: Option<String>,
}

/// The place of a record in a file, for people to read: its number and line, and its slug if it has one.
#[derive(Clone)]
pub struct Place {
    number: usize,
    line: usize,
    slug: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} (line {}", self.number, self.line)?;
        match &self.slug {
            Some(slug) => write!(f, ", `{}`)", shown(slug)),
            None => f.write_str(")"),
        }
    }
}

/// Returns a text of a file as a message can show it on a terminal: short, and without control characters.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(LONGEST).map(visible).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

impl Record {
    /// True if LangFast offers the model.
    pub fn is_public(&self) -> bool {
        self.status.as_deref().is_none_or(|status| status == "public")
    }
}

/// Reads a list of records.
///
/// # Errors
/// What is wrong, where, and what is expected, in words.
pub fn read(json: &str) -> Result<Vec<Record>, String> {
    Ok(read_with_text(json)?.into_iter().map(|(record, _)| record).collect())
}

/// Reads a list of records as [`read`] does, and returns each with its text.
///
/// # Errors
/// See [`read`].
pub fn read_with_text(json: &str) -> Result<Vec<(Record, &str)>, String> {
    let json = json.strip_prefix('\u{feff}').unwrap_or(json);
    let raw: Vec<&RawValue> = serde_json::from_str(json).map_err(|error| no_list(json, &error))?;
    let one = |(raw, number): (&&'_ RawValue, usize)| record(json, raw.get(), number);
    let records = raw.iter().zip(1..).map(one).collect::<Result<Vec<_>, _>>()?;
    Ok(records.into_iter().zip(raw.into_iter().map(RawValue::get)).collect())
}

/// Reads one record: the one of this `number`, from 1, whose `text` is a slice of `json`, the whole file.
///
/// # Errors
/// See [`read`].
pub fn record(json: &str, text: &str, number: usize) -> Result<Record, String> {
    let before = text.as_ptr() as usize - json.as_ptr() as usize;
    let line = 1 + json.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count();
    let mut place = Place { number, line, slug: None };
    let fields = match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => fields,
        Ok(other) => return Err(format!("{place}: {}", not("it", &other, "an object"))),
        Err(error) => return Err(format!("{place}: {error}")),
    };
    place.slug = fields.get("slug").and_then(Value::as_str).map(str::to_owned);
    let text = |name| text_of(&fields, name);
    let record = || -> Result<Record, String> {
        let slug = text("slug")?.filter(|slug| !slug.trim().is_empty());
        Ok(Record {
            place: place.clone(),
            slug: slug.ok_or("`slug` is missing, LangFast's name of the model")?,
            name: text("name")?,
            provider: text("provider")?,
            versions: texts_of(&fields, "versions")?,
            parameters: object_of(&fields, "parameters")?,
            created_at: text("created_at")?,
            updated_at: text("updated_at")?,
            status: text("status")?,
        })
    };
    record().map_err(|why| format!("{place}: {why}"))
}

fn text_of(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(not(&format!("`{name}`"), other, "a text")),
    }
}

fn texts_of(fields: &Map<String, Value>, name: &str) -> Result<Vec<String>, String> {
    let values = match fields.get(name) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(other) => return Err(not(&format!("`{name}`"), other, "a list of texts")),
    };
    let text = |(value, at): (&Value, usize)| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(not(&format!("entry {at} of `{name}`"), other, "a text")),
    };
    values.iter().zip(1..).map(text).collect()
}

fn object_of(fields: &Map<String, Value>, name: &str) -> Result<Map<String, Value>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(other) => Err(not(&format!("`{name}`"), other, "an object")),
    }
}

/// Returns the words for a value of a wrong type.
fn not(what: &str, found: &Value, expected: &str) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("{what} is {found}, and has to be {expected}")
}

/// Returns why a file is no list, for the person who has written it.
fn no_list(json: &str, error: &serde_json::Error) -> String {
    const EXPECTED: &str = "a list of records is expected, as in [{\"slug\": \"gpt-6-luna\"}]";
    if json.trim().is_empty() {
        return format!("the file is empty; {EXPECTED}");
    }
    match error.classify() {
        Category::Data => format!("line {}: this is no list; {EXPECTED}", error.line()),
        _ => no_json(json, error),
    }
}

/// Returns why a text is no JSON, for the person who has written it.
pub fn no_json(json: &str, error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    if error.is_eof() {
        return format!("line {line}: the file ends too early: a bracket or quote is open");
    }
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    let words = match word_at(json, line, column) {
        Some(word) => format!("it has no `{word}`: use null, true, false, or a number"),
        None if words == "key must be a string" => "names stand in double quotes".to_owned(),
        None => words.to_owned(),
    };
    format!("line {line}, column {column}: this is no JSON ({words})")
}

/// Returns the word of another language, such as `None`, that stands where a value was expected.
fn word_at(json: &str, line: usize, column: usize) -> Option<&'static str> {
    const WORDS: [&str; 6] = ["NaN", "Infinity", "undefined", "None", "True", "False"];
    let text = json.lines().nth(line.checked_sub(1)?)?.as_bytes();
    let rest = text.get(column.checked_sub(1)?..)?;
    let rest = rest.strip_prefix(b"-").unwrap_or(rest);
    WORDS.into_iter().find(|word| rest.starts_with(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_record_is_said_with_its_place_and_what_is_expected() {
        for (json, message) in [
            (" ", "the file is empty; a list of records is expected"),
            ("{}", "line 1: this is no list; a list of records is expected"),
            ("[\n{\"slug\": \"a\"", "line 2: the file ends too early"),
            ("[\n{\"slug\": \"a\"},\n]", "line 3, column 1: this is no JSON (trailing comma)"),
            (
                "[{\"slug\": \"a\"},\n7]",
                "record 2 (line 2): it is a number, and has to be an object",
            ),
            ("[\n{\"name\": \"x\"}]", "record 1 (line 2): `slug` is missing"),
            ("[{\"slug\": \" \"}]", "record 1 (line 1, ` `): `slug` is missing"),
            ("[{\"slug\": 7}]", "record 1 (line 1): `slug` is a number, and has to be a text"),
            (
                "[{\"slug\": \"a\", \"status\": true}]",
                "record 1 (line 1, `a`): `status` is true or false, and has to be a text",
            ),
            (
                "[{\"slug\": \"a\", \"versions\": \"v\"}]",
                "record 1 (line 1, `a`): `versions` is a text, and has to be a list of texts",
            ),
            (
                "[{\"slug\": \"a\", \"versions\": [\"v\", 2]}]",
                "record 1 (line 1, `a`): entry 2 of `versions` is a number, and has to be a text",
            ),
            (
                "[{\"slug\": \"a\", \"parameters\": []}]",
                "record 1 (line 1, `a`): `parameters` is a list, and has to be an object",
            ),
        ] {
            let error = read(json).err().expect(json);
            assert!(error.starts_with(message), "{json}: {error}");
        }
    }
}
