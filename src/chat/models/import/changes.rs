//! How a new list of models differs from the one before.
//!
//! Enters: the records of both, each with its slug. Leaves: which models are new, gone or changed, in
//! which fields. It may not know where the records came from.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::chat::models::records::shown;

/// What an import changes.
#[derive(Debug, Default, Serialize)]
pub struct Changes {
    /// Records that were taken from what was copied.
    pub records: usize,
    /// True if they were added to the list before; else they replace it.
    pub merged: bool,
    /// The URLs of the answers that they were found in; empty unless it was a recording.
    pub found_in: Vec<String>,
    /// Models that the list before did not offer.
    pub new: Vec<String>,
    /// Models with the fields that differ.
    pub changed: BTreeMap<String, Vec<String>>,
    /// Models that are not offered any more.
    pub gone: Vec<String>,
    /// Records that were not taken, and why.
    pub left_out: Vec<String>,
    /// Fields by which requests are made, and which no record has any more.
    pub missing: Vec<String>,
}

/// Returns the parameters that requests depend on, and that some record had before and none has now: then
/// LangFast's format has changed.
pub(super) fn missing(before: &[(&str, &str)], after: &[(String, String)]) -> Vec<String> {
    const NEEDED: [&str; 3] = ["message_types", "stream", "max_completion_tokens"];
    let has = |text: &str, name: &str| {
        let fields = serde_json::from_str::<Value>(text).unwrap_or_default();
        fields["parameters"].get(name).is_some()
    };
    let is_missing = |name: &&str| {
        before.iter().any(|(_, text)| has(text, name))
            && !after.iter().any(|(_, text)| has(text, name))
    };
    NEEDED.into_iter().filter(is_missing).map(|name| format!("parameters.{name}")).collect()
}

/// Returns which models are new, gone or changed.
pub(super) fn compare(before: &[(&str, &str)], after: &[(String, String)]) -> Changes {
    let mut changes = Changes::default();
    let old: HashMap<&str, &str> = before.iter().copied().collect();
    let kept: HashSet<&str> = after.iter().map(|(slug, _)| slug.as_str()).collect();
    let gone = before.iter().map(|(slug, _)| *slug).filter(|slug| !kept.contains(slug));
    changes.gone = gone.map(str::to_owned).collect();
    for (slug, text) in after {
        match old.get(slug.as_str()) {
            None => changes.new.push(slug.clone()),
            Some(old) => {
                let fields = differing(old, text);
                if !fields.is_empty() {
                    changes.changed.insert(slug.clone(), fields);
                }
            }
        }
    }
    changes
}

/// Returns the fields in which two records differ, those of objects such as `parameters` one by one. The times
/// of a record do not count: they say nothing about its model.
fn differing(one: &str, other: &str) -> Vec<String> {
    const TIMES: [&str; 2] = ["created_at", "updated_at"];
    let read = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let (one, other) = (read(one), read(other));
    let mut fields = Vec::new();
    for name in names(&one, &other).into_iter().filter(|name| !TIMES.contains(&name.as_str())) {
        match (one.get(name), other.get(name)) {
            (one, other) if one == other => {}
            (Some(Value::Object(one)), Some(Value::Object(other))) => {
                let inner =
                    names(one, other).into_iter().filter(|key| one.get(*key) != other.get(*key));
                fields.extend(inner.map(|key| shown(&format!("{name}.{key}"))));
            }
            _ => fields.push(shown(name)),
        }
    }
    fields
}

/// Returns the names of the fields of both objects, each once.
fn names<'a>(one: &'a Map<String, Value>, other: &'a Map<String, Value>) -> Vec<&'a String> {
    let further = other.keys().filter(|name| !one.contains_key(*name));
    one.keys().chain(further).collect()
}
