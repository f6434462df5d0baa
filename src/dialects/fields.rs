//! Reads clients' JSON field by field: an error names the missing or wrong field by its path, such as
//! `messages[0].role`. For every dialect.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::budget::Body;
use crate::chat::nesting::DEEPEST;
use crate::dialects::json::{self, Unread};
use crate::error::Error;
use crate::escape::utf16_unit;

/// The fields of a body, or of an object within it, which are read one by one. Empty by default.
#[derive(Default)]
pub struct Fields<'a> {
    map: Cow<'a, Map<String, Value>>,
    /// The beginning of the fields' paths: empty, or the object's own path and a dot.
    prefix: String,
    /// The names of the fields that were built; `None` if all were.
    known: Option<&'static [&'static str]>,
}

impl Fields<'static> {
    /// Reads a body and builds only the fields that `known` names; other fields are ignored. Their
    /// memory is taken from the body's share.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not a JSON object; [`Error::Overloaded`] or a 413 if there is no
    /// memory for it.
    pub fn parse(
        body: &mut Body,
        known: &'static [&'static str],
    ) -> Result<Fields<'static>, Error> {
        const BOM: &[u8] = b"\xef\xbb\xbf";
        let (bytes, share) = body.parts();
        let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
        if bytes.trim_ascii().is_empty() {
            return Err(bad_json("The body is empty; it must be a JSON object"));
        }
        let read = match json::read_object(bytes, known, share) {
            Err(Unread::Invalid(error)) => match without_lone_surrogates(bytes) {
                Some(mended) => {
                    share.grow(mended.len(), None)?;
                    json::read_object(&mended, known, share)
                }
                None => Err(Unread::Invalid(error)),
            },
            read => read,
        };
        match read {
            Ok(map) => {
                Ok(Fields { map: Cow::Owned(map), prefix: String::new(), known: Some(known) })
            }
            Err(Unread::NoObject) => Err(bad_json("The body must be a JSON object")),
            Err(Unread::NoMemory(full)) => Err(full.into()),
            Err(Unread::Invalid(e)) => Err(bad_json(&format!(
                "The body is not valid JSON (line {}, column {})",
                e.line(),
                e.column()
            ))),
            Err(Unread::TooDeep(e)) => Err(bad_json(&format!(
                "The body's JSON is nested deeper than {DEEPEST} levels (line {}, column {}); send it \
                 flatter, or the deep part as a string",
                e.line(),
                e.column()
            ))),
        }
    }
}

impl<'a> Fields<'a> {
    /// Creates the fields of an object, which is at `path`.
    pub fn within(map: &'a Map<String, Value>, path: &str) -> Fields<'a> {
        Fields { map: Cow::Borrowed(map), prefix: format!("{path}."), known: None }
    }

    /// Reads `value`, which is at `path`, as an object.
    ///
    /// # Errors
    /// [`Error::Invalid`] with its path, if it is not an object.
    pub fn of(value: &'a Value, path: &str) -> Result<Fields<'a>, Error> {
        match value {
            Value::Object(map) => Ok(Fields::within(map, path)),
            _ => Err(wrong_type(path, "an object")),
        }
    }

    /// Returns the path of the field `name`, such as `messages[0].role`.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Returns the value of a field; `None` if it is missing or null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        debug_assert!(self.known.is_none_or(|known| known.contains(&name)), "{name} is not read");
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Returns the value of a field, to be changed; `None` if it is missing.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.map.to_mut().get_mut(name)
    }

    /// Returns the error for a field of a wrong type.
    pub fn wrong(&self, name: &str, expected: &str) -> Error {
        wrong_type(&self.path(name), expected)
    }

    /// Returns the error for a missing field.
    pub fn missing(&self, name: &str) -> Error {
        missing(&self.path(name))
    }

    /// Reads a string; `None` if the field is missing or null.
    ///
    /// # Errors
    /// The field has another type.
    pub fn string(&self, name: &str) -> Result<Option<&str>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(name, "a string"))
    }

    /// Reads a string that has to be there.
    ///
    /// # Errors
    /// The field is missing or has another type.
    pub fn required_string(&self, name: &str) -> Result<&str, Error> {
        self.string(name)?.ok_or_else(|| self.missing(name))
    }

    /// Reads a boolean; `None` if the field is missing or null.
    ///
    /// # Errors
    /// The field has another type.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(name, "a boolean"))
    }

    /// Reads a list; empty if the field is missing or null.
    ///
    /// # Errors
    /// The field has another type.
    pub fn list(&self, name: &str) -> Result<&[Value], Error> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(name, "a list")),
        }
    }

    /// Reads the list `messages`, which has to hold at least one.
    ///
    /// # Errors
    /// The field is missing, has another type, or is empty.
    pub fn messages(&self) -> Result<&[Value], Error> {
        const NAME: &str = "messages";
        match self.list(NAME)? {
            [] if self.get(NAME).is_none() => Err(self.missing(NAME)),
            [] => Err(Error::invalid(NAME, "`messages` must hold at least one message")),
            messages => Ok(messages),
        }
    }

    /// Reads an object; `None` if the field is missing or null.
    ///
    /// # Errors
    /// The field has another type.
    pub fn object(&self, name: &str) -> Result<Option<Fields<'_>>, Error> {
        self.get(name).map(|value| Fields::of(value, &self.path(name))).transpose()
    }

    /// Reads an integer, which may be written as `5.0`; `None` if the field is missing or null.
    ///
    /// # Errors
    /// The field has another type, or is beyond 64 bits.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let whole =
            |number: f64| (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64);
        let number = value.as_i64().or_else(|| value.as_f64().and_then(whole));
        number.map(Some).ok_or_else(|| self.wrong(name, "an integer"))
    }

    /// Reads a number from `least` to `most`, both included; `None` if the field is missing or null.
    ///
    /// # Errors
    /// The number is outside that range, or the field has another type.
    pub fn number(&self, name: &str, least: f64, most: f64) -> Result<Option<f64>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| self.wrong(name, "a number"))?;
        if number < least || number > most {
            let path = self.path(name);
            let message = format!("`{path}` must be between {least} and {most}, not {number}");
            return Err(Error::invalid(path, message));
        }
        Ok(Some(number))
    }
}

/// Returns the body with U+FFFD in place of each escape of half a surrogate pair; `None` if there is none.
/// Clients that cut text by UTF-16 units send such halves, and serde_json refuses them.
fn without_lone_surrogates(body: &[u8]) -> Option<Vec<u8>> {
    let mut mended = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = &rest[at..];
        let length = match utf16_unit(escape) {
            Some(0xD800..0xDC00) if matches!(utf16_unit(&escape[6..]), Some(0xDC00..0xE000)) => 12,
            Some(0xD800..0xE000) => 0,
            Some(_) => 6,
            None => escape.len().min(2),
        };
        mended.extend_from_slice(&rest[..at + length]);
        if length == 0 {
            mended.extend_from_slice(b"\\ufffd");
        }
        rest = &escape[if length == 0 { 6 } else { length }..];
    }
    mended.extend_from_slice(rest);
    (mended != body).then_some(mended)
}

fn bad_json(message: &str) -> Error {
    Error::Invalid { message: message.to_owned(), param: None, code: None }
}

/// Returns the error for a missing field, whose path is `param`.
pub fn missing(param: &str) -> Error {
    Error::Invalid {
        message: format!("Missing required parameter: `{param}`"),
        param: Some(param.to_owned()),
        code: Some("missing_required_parameter"),
    }
}

/// Returns the error for a field of a wrong type, whose path is `param`.
pub fn wrong_type(param: &str, expected: &str) -> Error {
    Error::Invalid {
        message: format!("Invalid type for `{param}`: it must be {expected}"),
        param: Some(param.to_owned()),
        code: Some("invalid_type"),
    }
}

/// Reads the `name` in an object, which is at `path`.
///
/// # Errors
/// [`Error::Invalid`] if there is none, or it is not a string.
pub fn name_in(path: &str, value: &Value) -> Result<String, Error> {
    let name = value.get("name").and_then(Value::as_str);
    Ok(name.ok_or_else(|| missing(&format!("{path}.name")))?.to_owned())
}
