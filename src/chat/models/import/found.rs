//! The records of models in what was copied, found wherever they stand, and those of them that count.
//!
//! Enters: an answer of LangFast as JSON, or those of a recording. Leaves: rows, each a record word for
//! word, and what was left out and why. It may not know the list before.

use std::collections::{BTreeMap, HashSet};

use serde_json::value::RawValue;

use super::{copied, recording};
use crate::chat::models::records::{self, Record, shown};

/// Most records of a list, since each is a value of a metric's label.
pub(super) const MOST_RECORDS: usize = 1_000;

/// Longest `slug`, in bytes.
pub(super) const LONGEST_SLUG: usize = 200;

/// Most `versions` of a record.
pub(super) const MOST_VERSIONS: usize = 100;

/// Deepest nesting in an answer in which records are looked for.
pub(super) const DEPTH: usize = 8;

/// The records that were found in what was copied.
#[derive(Debug, Default)]
pub struct Found {
    /// The records that count.
    pub(super) rows: Vec<Row>,
    /// The places of the others, and why they are left out.
    pub(super) left_out: Vec<String>,
    /// The URLs of the answers that they were found in, if it was a recording.
    pub(super) found_in: Vec<String>,
}

/// A record that counts.
#[derive(Debug)]
pub(super) struct Row {
    /// Where it stands, for people to read.
    pub(super) place: String,
    /// LangFast's name for the model.
    pub(super) slug: String,
    /// Dated names that mean the model too.
    pub(super) versions: Vec<String>,
    /// The record's JSON on one line.
    pub(super) text: String,
}

/// Finds the records of an answer.
///
/// # Errors
/// It is no JSON, or there are none, or one is malformed, in words.
pub(super) fn in_answer(text: &str) -> Result<Found, String> {
    let raw: &RawValue =
        serde_json::from_str(text).map_err(|error| copied::no_json(text, &error))?;
    if let Ok(inner) = serde_json::from_str::<String>(raw.get()) {
        // JSON that was copied as a text in quotes.
        let is_json = inner.trim_start().starts_with(['[', '{']);
        return if is_json { in_answer(&inner) } else { Err(copied::no_rows(raw.get())) };
    }
    let mut rows = Vec::new();
    gather(raw, DEPTH, &mut rows);
    if rows.is_empty() {
        return Err(copied::no_rows(raw.get()));
    }
    enough(rows.len())?;
    let mut found = Found::default();
    for (row, number) in rows.into_iter().zip(1..) {
        found.add(records::record(text, row.get(), number)?, row.get())?;
    }
    Ok(found)
}

/// Finds the records of a recording's answers. Of records with the same slug that of the latest answer counts.
///
/// # Errors
/// There are none, or one is malformed, in words.
pub(super) fn in_recording(answers: Vec<recording::Answer>) -> Result<Found, String> {
    let mut all = Found::default();
    let mut slugs = HashSet::new();
    for answer in answers.into_iter().rev() {
        if !holds_records(&answer.text) {
            continue;
        }
        let found = in_answer(&answer.text).map_err(|why| format!("{}: {why}", answer.url))?;
        for row in found.rows {
            if slugs.insert(row.slug.clone()) {
                all.take(row);
            }
        }
        enough(all.rows.len())?;
        all.left_out.extend(found.left_out);
        if !all.found_in.contains(&answer.url) {
            all.found_in.push(answer.url);
        }
    }
    match all.found_in.is_empty() {
        true => Err(recording::NO_ROWS.to_owned()),
        false => Ok(all),
    }
}

/// True if an answer of a recording lists models. One that does not is nobody's mistake.
fn holds_records(text: &str) -> bool {
    let mut rows = Vec::new();
    if let Ok(raw) = serde_json::from_str(text) {
        gather(raw, DEPTH, &mut rows);
    }
    !rows.is_empty()
}

/// Collects what may be records: the members of lists that hold one, and single ones.
fn gather<'a>(raw: &'a RawValue, depth: usize, rows: &mut Vec<&'a RawValue>) {
    if depth == 0 {
        return;
    }
    match raw.get().as_bytes().first() {
        Some(b'[') => {
            let members: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
            match members.iter().any(|member| is_row(&fields_of(member))) {
                true => rows.extend(members),
                false => members.into_iter().for_each(|member| gather(member, depth - 1, rows)),
            }
        }
        Some(b'{') => match fields_of(raw) {
            fields if is_row(&fields) => rows.push(raw),
            fields => fields.into_values().for_each(|value| gather(value, depth - 1, rows)),
        },
        _ => {}
    }
}

/// Returns the fields of an object; none of anything else.
fn fields_of(raw: &RawValue) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

fn is_row(fields: &BTreeMap<String, &RawValue>) -> bool {
    ["slug", "parameters"].iter().all(|name| fields.contains_key(*name))
}

impl Found {
    /// Takes a record, or notes why it is left out; fails if it is malformed.
    fn add(&mut self, record: Record, text: &str) -> Result<(), String> {
        let place = record.place.to_string();
        fit(&record).map_err(|why| format!("{place}: {why}"))?;
        match unusable(&record) {
            Some(why) => self.left_out.push(format!("{place}: {why}")),
            None => self.take(Row {
                place,
                slug: record.slug,
                versions: record.versions,
                text: compact(text),
            }),
        }
        Ok(())
    }

    /// Takes a row that fits beside those before it.
    fn take(&mut self, row: Row) {
        match self.clash(&row) {
            Some(why) => self.left_out.push(format!("{}: {why}", row.place)),
            None if self.rows.iter().any(|other| other.slug == row.slug) => {}
            None => self.rows.push(row),
        }
    }

    /// Returns why a record cannot stand in the list beside those before it; `None` if it can, or is the same
    /// as one of them.
    fn clash(&self, row: &Row) -> Option<String> {
        let same = |other: &&Row| other.slug == row.slug && other.text != row.text;
        if let Some(other) = self.rows.iter().find(same) {
            return Some(format!("`slug` is that of {} too, which counts", other.place));
        }
        let others = || self.rows.iter().filter(|other| other.slug != row.slug);
        let version = |version: &&String| others().find(|other| other.versions.contains(version));
        let (name, other) = row.versions.iter().find_map(|name| Some((name, version(&name)?)))?;
        Some(format!("`versions` has `{}`, as {} has, which counts", shown(name), other.place))
    }
}

/// Fails if there are more records than a list of models has.
pub(super) fn enough(records: usize) -> Result<(), String> {
    match records > MOST_RECORDS {
        true => {
            Err(format!("there are more than {MOST_RECORDS} records: that is no list of models"))
        }
        false => Ok(()),
    }
}

/// Fails if a record's names cannot be those of a model.
fn fit(record: &Record) -> Result<(), String> {
    if record.slug.len() > LONGEST_SLUG || record.slug.contains(char::is_control) {
        return Err(format!(
            "`slug` is no name of a model: it is longer than {LONGEST_SLUG} characters, or has control \
             characters"
        ));
    }
    match record.versions.len() > MOST_VERSIONS {
        true => Err(format!("`versions` has more than {MOST_VERSIONS} entries")),
        false => Ok(()),
    }
}

/// Returns why a well-formed record cannot be used; `None` if it can.
fn unusable(record: &Record) -> Option<String> {
    if !record.is_public() {
        let status = record.status.as_deref().unwrap_or_default();
        return Some(format!(
            "`status` is `{}`, and LangFast offers what is `public`",
            shown(status)
        ));
    }
    record
        .parameters
        .is_empty()
        .then(|| "`parameters` is empty: what it accepts is not known".to_owned())
}

/// Returns JSON on one line: without the white space that is in no text.
pub(super) fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let keep = |c: &char| {
        let is_kept = in_text || !c.is_ascii_whitespace();
        in_text ^= *c == '"' && !escaped;
        escaped = in_text && *c == '\\' && !escaped;
        is_kept
    };
    json.chars().filter(keep).collect()
}
