//! Reads calls from a whole answer that is JSON, but not written as it was asked for: with other names of
//! fields, in another order, wrapped, as a bare list, or with prose around it.

use serde_json::Value;

use super::super::relaxed;
use super::super::wrapped::{self, LISTS};
use super::super::{names, slots};
use super::Form;
use crate::chat::Tool;
use crate::chat::schema::Schema;
use crate::chat::values;

/// Calls that were read.
#[derive(Debug, Default, PartialEq)]
pub struct Calls {
    /// For each call, its tool by its place in the list, and the JSON of its arguments, an object.
    pub list: Vec<(usize, String)>,
    /// True if something was there that is no call of a tool that may be called.
    pub left_out: bool,
}

/// What calls are read by.
pub struct Reading<'a> {
    /// The form that was asked for.
    pub form: &'a Form,
    /// The tools that may be called.
    pub tools: &'a [Tool],
}

impl Reading<'_> {
    /// Reads the calls in a whole answer; `None` if it holds none.
    pub fn answer(&self, text: &str) -> Option<Calls> {
        let (before, value, behind) = first_value(text)?;
        let is_alone = is_nothing(before) && is_nothing(behind);
        let mut calls = self.value(value);
        if !is_alone {
            // Prose may quote something that is only like a call.
            let all = calls.list.len();
            calls.list.retain(|(tool, arguments)| self.fits(*tool, arguments));
            calls.left_out |= calls.list.len() < all;
        }
        calls.left_out |= !is_nothing(behind);
        (!calls.list.is_empty()).then_some(calls)
    }

    /// Reads the rest of a list of calls, which begins behind the arguments of one of them.
    pub fn rest(&self, text: &str) -> Calls {
        let mut calls = Calls::default();
        let text = text.trim_start();
        if text.is_empty() {
            return calls;
        }
        // What else is said of the call before.
        let rest = match text.strip_prefix(',') {
            Some(members) => next_value(&format!("{{{members}")).map(|(_, end)| &text[end..]),
            None => text.strip_prefix('}'),
        };
        let Some(mut rest) = rest.map(str::trim_start) else { return left_out(calls) };
        while let Some(entry) = rest.strip_prefix(',').map(str::trim_start) {
            let Some((value, end)) = next_value(entry) else { return left_out(calls) };
            self.entry(value, &mut calls);
            rest = entry[end..].trim_start();
        }
        if rest.is_empty() || rest.starts_with(']') { calls } else { left_out(calls) }
    }

    fn value(&self, value: Value) -> Calls {
        let mut calls = Calls::default();
        for entry in self.entries(value) {
            self.entry(entry, &mut calls);
        }
        calls
    }

    /// The entries of a list of calls, whatever it stands in.
    fn entries(&self, mut value: Value) -> Vec<Value> {
        let is_own = |key: &str| {
            let tool = self.only().and_then(|name| names::find(self.tools, name));
            let schema = tool.and_then(|tool| self.tools[tool].parameters.as_ref());
            slots::properties(schema).any(|own| own == key)
        };
        let key = LISTS.iter().find(|key| value[**key].is_array() && !is_own(key));
        let list = match key {
            Some(key) => value[*key].take(),
            None => value,
        };
        match list {
            Value::Array(list) => list,
            one => vec![one],
        }
    }

    /// Reads an entry, which should be one call.
    fn entry(&self, value: Value, calls: &mut Calls) {
        let found = wrapped::calls(value, self.only(), self.tools);
        calls.left_out |= found.is_empty();
        for call in found {
            let tool = names::find(self.tools, &call.name);
            calls.left_out |= tool.is_none();
            calls.list.extend(tool.map(|tool| (tool, call.arguments)));
        }
    }

    /// The name of the tool that has to be called, if it is one.
    fn only(&self) -> Option<&str> {
        match self.form {
            Form::Arguments { name } => Some(name),
            Form::List => None,
        }
    }

    fn fits(&self, tool: usize, arguments: &str) -> bool {
        let schema = self.tools[tool].parameters.as_ref();
        let fits = |schema| {
            let arguments = values::of_text(arguments);
            arguments.is_ok_and(|arguments| Schema::new(schema).fault(&arguments).is_none())
        };
        schema.is_none_or(fits)
    }
}

fn left_out(calls: Calls) -> Calls {
    Calls { left_out: true, ..calls }
}

/// The first object or list in a text, with what is before and behind it: at the text's beginning, or else
/// at that of a line or behind a colon, so that no part of another one is taken for it.
fn first_value(text: &str) -> Option<(&str, Value, &str)> {
    let mut is_place = true;
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' if is_place => {
                if let Some((value, end)) = next_value(&text[at..]) {
                    return Some((&text[..at], value, &text[at + end..]));
                }
                // Whatever is within it is a part.
                return None;
            }
            '\n' | ':' | '`' => is_place = true,
            c => is_place &= c.is_whitespace(),
        }
    }
    None
}

/// The object or list that a text begins with, and where it ends.
fn next_value(text: &str) -> Option<(Value, usize)> {
    let (json, end) = relaxed::first(text)?;
    Some((values::of_text(&json).ok()?, end))
}

/// True for white space and the lines of a Markdown fence.
fn is_nothing(text: &str) -> bool {
    let is_fence = |line: &str| line.starts_with("```") && !line[3..].contains(' ');
    text.lines().map(str::trim).all(|line| line.is_empty() || is_fence(line))
}
