//! Writes values as JSON, and pieces of JSON into the buffer of an event. For every dialect.

use std::fmt::Arguments;
use std::io::Write;

use serde::Serialize;

/// Returns a value as JSON.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers always serialise")
}

/// Appends a value as JSON.
pub fn put_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("a Vec takes everything");
}

/// Appends text as it is.
pub fn put(out: &mut Vec<u8>, text: Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}
