//! LangFast's list of models as a person can copy it out of a browser, made into a models.json.
//!
//! Enters: the bytes that were copied, and the list so far. Leaves: the new list, and what differs; or
//! what is wrong, where, and what to copy instead. Records are kept word for word, since LangFast may have
//! fields that are not known here.
//!
//! A record is recognised by its fields `slug` and `parameters`, wherever it stands: the table's name and
//! the shape of the answer are not known.

mod copied;
mod recording;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::records::{self, Record, shown};
use super::unix_time;

/// Most bytes that are read: a recording of a whole visit may have as many.
pub const INPUT_LIMIT: usize = 64 << 20;
/// Most bytes of an answer that may list the models, and of a list that is kept. A list of 17 has 9 KB.
pub const LIST_LIMIT: usize = 4 << 20;
/// Most records of a list: each is a value of a metric's label.
const MOST_RECORDS: usize = 1_000;
/// Longest `slug`, in bytes.
const LONGEST_SLUG: usize = 200;
/// Most `versions` of a record.
const MOST_VERSIONS: usize = 100;
/// How deep in an answer records are looked for.
const DEPTH: usize = 8;

/// The records that were found in what was copied.
#[derive(Debug, Default)]
pub struct Found {
    rows: Vec<Row>,
    left_out: Vec<String>,
    /// The URLs of the answers that they were found in, if it was a recording.
    found_in: Vec<String>,
}

/// A record that counts.
#[derive(Debug)]
struct Row {
    place: String,
    slug: String,
    versions: Vec<String>,
    /// Its JSON on one line.
    text: String,
}

/// A list to be kept, and how it differs from the one before.
#[derive(Debug)]
pub struct Plan {
    /// The models.json.
    pub json: String,
    /// What differs.
    pub changes: Changes,
}

/// What an import changes.
#[derive(Debug, Default, Serialize)]
pub struct Changes {
    /// Records that were taken from what was copied.
    pub records: usize,
    /// Whether they were added to the list before; else they replace it.
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
    /// Fields that models are asked by and that no record has any more.
    pub missing: Vec<String>,
}

/// Finds the records in what was copied: LangFast's answer, as JSON, or a recording of many (HAR).
///
/// # Errors
/// There are none, or one is malformed: where, why, and what to copy instead.
pub fn find(bytes: &[u8]) -> Result<Found, String> {
    let text = copied::decode(bytes)?;
    // The Enter behind what was pasted would be a character in a text that is cut off.
    let text = text.trim_end();
    if let Some(else_) = copied::something_else(text) {
        return Err(else_);
    }
    let found = match recording::answers(text) {
        Some(answers) => in_recording(answers?)?,
        None if text.len() > LIST_LIMIT => return Err(too_long(text.len())),
        None => in_answer(text)?,
    };
    if found.rows.is_empty() {
        return Err(format!(
            "none of the records can be used:\n  {}\nIf LangFast's page offers these models all the same, \
             mend the records in a file, and import that",
            found.left_out.join("\n  ")
        ));
    }
    Ok(found)
}

fn too_long(length: usize) -> String {
    format!("it has {} MiB, and a list of models has some KB: copy that one answer", length >> 20)
}

/// The records of an answer.
fn in_answer(text: &str) -> Result<Found, String> {
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

/// The records of all answers. The latest answer counts, where two have the same record.
fn in_recording(answers: Vec<recording::Answer>) -> Result<Found, String> {
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

/// Whether an answer of a recording lists models; any other is nobody's mistake.
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

/// The fields of an object; none of anything else.
fn fields_of(raw: &RawValue) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

fn is_row(fields: &BTreeMap<String, &RawValue>) -> bool {
    ["slug", "parameters"].iter().all(|name| fields.contains_key(*name))
}

impl Found {
    /// Takes a record, or notes why it is left out.
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

    fn take(&mut self, row: Row) {
        match self.clash(&row) {
            Some(why) => self.left_out.push(format!("{}: {why}", row.place)),
            None if self.rows.iter().any(|other| other.slug == row.slug) => {}
            None => self.rows.push(row),
        }
    }

    /// Why a record cannot stand in the list beside those before it. One that says the same as another is
    /// no matter.
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

fn enough(records: usize) -> Result<(), String> {
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

/// Why a well-formed record is of no use.
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

/// Makes the list that is to be kept. A single record is always added to `before`, a models.json; a list
/// replaces it, unless it is to be merged.
///
/// # Errors
/// `before` is no models.json, or the two lists cannot be one.
pub fn plan(found: Found, before: &str, merge: bool) -> Result<Plan, String> {
    let before = records::read_with_text(before)?;
    let merged = merge || found.rows.len() == 1;
    let kept = if merged { &before[..] } else { &[] };
    let after = joined(kept, &found.rows)?;
    let json = models_json(&after)?;
    let offered = before.iter().filter(|(record, _)| record.is_public());
    let before: Vec<(&str, &str)> =
        offered.map(|(record, text)| (record.slug.as_str(), *text)).collect();
    let missing = if merged { Vec::new() } else { missing(&before, &after) };
    let (records, changes) = (found.rows.len(), compare(&before, &after));
    let Found { found_in, left_out, .. } = found;
    Ok(Plan { json, changes: Changes { records, merged, found_in, left_out, missing, ..changes } })
}

/// The records that are kept, with the new ones in their places or behind them: each with its slug.
fn joined(kept: &[(Record, &str)], new: &[Row]) -> Result<Vec<(String, String)>, String> {
    let mut joined: Vec<(String, String)> =
        kept.iter().map(|(record, text)| (record.slug.clone(), compact(text))).collect();
    let mut places: HashMap<String, usize> = HashMap::new();
    places.extend(joined.iter().enumerate().map(|(at, (slug, _))| (slug.clone(), at)));
    let replaced: HashSet<&str> = new.iter().map(|row| row.slug.as_str()).collect();
    for row in new {
        let has_one =
            |record: &Record| row.versions.iter().any(|name| record.versions.contains(name));
        let mut others = kept.iter().filter(|(record, _)| !replaced.contains(record.slug.as_str()));
        if let Some((other, _)) = others.find(|(record, _)| record.is_public() && has_one(record)) {
            let other = shown(&other.slug);
            return Err(format!(
                "{}: `versions` has a name that `{other}` of the list before has, too: import the whole list",
                row.place
            ));
        }
        let fresh = (row.slug.clone(), row.text.clone());
        match places.get(&row.slug) {
            Some(at) => joined[*at] = fresh,
            None => joined.push(fresh),
        }
    }
    Ok(joined)
}

fn models_json(records: &[(String, String)]) -> Result<String, String> {
    enough(records.len())?;
    let lines: Vec<String> = records.iter().map(|(_, text)| format!("  {text}")).collect();
    let json = format!("[\n{}\n]\n", lines.join(",\n"));
    if json.len() > LIST_LIMIT { Err(too_long(json.len())) } else { Ok(json) }
}

/// What no record tells any more of how its model is to be asked: LangFast's format is another then.
fn missing(before: &[(&str, &str)], after: &[(String, String)]) -> Vec<String> {
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

fn compare(before: &[(&str, &str)], after: &[(String, String)]) -> Changes {
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

/// The fields in which two records differ, those of `parameters` one by one. The times of a record say
/// nothing about its model.
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

/// The names of both, each once.
fn names<'a>(one: &'a Map<String, Value>, other: &'a Map<String, Value>) -> Vec<&'a String> {
    let further = other.keys().filter(|name| !one.contains_key(*name));
    one.keys().chain(further).collect()
}

/// Unix time of the latest change to a record of a models.json, if they tell.
pub fn as_of(json: &str) -> Option<u64> {
    let records = records::read(json).ok()?;
    let times = records.into_iter().filter_map(|record| record.updated_at.or(record.created_at));
    times.filter_map(|time| unix_time(&time)).max()
}

/// JSON on one line: without the white space that is in no text.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let keep = |c: &char| {
        let is_kept = in_text || !c.is_ascii_whitespace();
        in_text ^= *c == '"' && !escaped;
        escaped = in_text && *c == '\\' && !escaped;
        is_kept
    };
    json.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{BUILT_IN, Models, Unknown};
    use super::*;
    use serde_json::json;

    const ROW: &str = r#"{"slug": "a", "parameters": {"stream": true}}"#;

    fn slugs(found: &Found) -> Vec<&str> {
        found.rows.iter().map(|row| row.slug.as_str()).collect()
    }

    fn planned(copied: &str, before: &str, merge: bool) -> Plan {
        plan(find(copied.as_bytes()).unwrap(), before, merge).unwrap()
    }

    /// A recording of answers.
    fn recording(answers: &[(&str, &str)]) -> String {
        let entry = |(url, text): &(&str, &str)| json!({"request": {"url": url}, "response": {"content": {"text": text}}});
        let entries: Vec<Value> = answers.iter().map(entry).collect();
        json!({"log": {"version": "1.2", "entries": entries}}).to_string()
    }

    #[test]
    fn records_are_found_in_every_shape_of_answer() {
        let utf16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            format!("[{ROW}]").encode_utf16().flat_map(unit).collect()
        };
        let encoded = recording(&[("u", "")]).replace(
            r#""text":"""#,
            &format!(r#""text":"{}","encoding":"base64""#, base64(&format!("[{ROW}]"))),
        );
        let shapes: Vec<Vec<u8>> = vec![
            format!("[{ROW}]").into(),
            format!("\u{feff} [\n{ROW}\n]\n").into(),
            ROW.into(),
            format!(r#"{{"data": [{ROW}], "count": 1}}"#).into(),
            format!(r#"{{"models": [{ROW}]}}"#).into(),
            format!(r#"[{{"result": {{"data": {{"json": [{ROW}]}}}}}}]"#).into(),
            format!(r#"[{{"id": 1, "model": {ROW}}}, {{"id": 2, "model": null}}]"#).into(),
            format!(r#"[{{"slug": "openai", "models": [{ROW}]}}]"#).into(),
            Value::from(format!("[{ROW}]")).to_string().into(),
            [b"\xff\xfe".to_vec(), utf16(u16::to_le_bytes)].concat(),
            [b"\xfe\xff".to_vec(), utf16(u16::to_be_bytes)].concat(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
            recording(&[("u", "<html>"), ("u", &format!("[{ROW}]")), ("u", "[]")]).into(),
            encoded.into(),
        ];
        for shape in shapes {
            let found = find(&shape);
            let found =
                found.unwrap_or_else(|why| panic!("{}: {why}", String::from_utf8_lossy(&shape)));
            assert_eq!(slugs(&found), ["a"], "{}", String::from_utf8_lossy(&shape));
        }
    }

    fn base64(text: &str) -> String {
        use base64::Engine;
        base64::prelude::BASE64_STANDARD.encode(text)
    }

    #[test]
    fn the_built_in_list_is_an_answer_that_changes_nothing() {
        let plan = planned(BUILT_IN, BUILT_IN, false);
        assert_eq!((plan.changes.records, plan.changes.merged), (17, false));
        let Changes { new, changed, gone, left_out, .. } = plan.changes;
        assert!(new.is_empty() && changed.is_empty() && gone.is_empty() && left_out.is_empty());
        let read = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        assert_eq!(read(&plan.json), read(BUILT_IN));
        assert_eq!(as_of(BUILT_IN), unix_time("2025-10-16T07:31:13"));
    }

    #[test]
    fn what_is_no_list_of_models_is_told_apart() {
        for (copied, words) in [
            ("", "Nothing was given"),
            (" \n", "Nothing was given"),
            ("curl 'https://x' -H 'authorization: Bearer eyJ'", "`Copy as cURL`"),
            ("fetch(\"https://x\", {", "`Copy as fetch`"),
            ("await fetch(\"https://x\"", "`Copy as fetch`"),
            ("$session = New-Object", "PowerShell"),
            ("<!DOCTYPE html><script id=\"__NEXT_DATA__\">", "of Next.js"),
            ("<?xml version='1.0'?>", "HTML or XML"),
            ("0:{\"a\":\"$@1\"}\n1:[]", "of Next.js"),
            ("https://x.supabase.co/rest/v1/models?select=*", "`Copy URL`"),
            ("GET /rest/v1/models HTTP/2", "headers"),
            ("HTTP/2 200\ncontent-type: application/json", "headers"),
            ("eyJhbGciOi", "a key or a token"),
            ("data: {\"slug\"", "events"),
            ("slug,parameters\na,{}", "CSV"),
            ("\u{1f}", "line 1, column 1"),
            (
                "[{\"slug\": NaN, \"parameters\": {}}]",
                "line 1, column 11: this is no JSON (it has no `NaN`",
            ),
            ("{slug: 'a'}", "names stand in double quotes"),
            ("[{\"slug\": \"a\",\n\"parameters\": {\"str", "line 2: the file ends too early"),
            (
                "[{\"slug\": \"a\", \"parameters\": {\"x\": 1}}]\n$ ",
                "line 2, column 1: the JSON has ended",
            ),
            ("[]", "The list is empty"),
            ("{}", "an object without fields"),
            ("null", "no list of rows"),
            ("\"text\"", "no list of rows"),
            ("[1, 2]", "not of rows"),
            (
                "{\"code\":\"PGRST301\",\"message\":\"JWT expired\",\"details\":null}",
                "an error of LangFast's (PGRST301: JWT expired)",
            ),
            (
                "{\"message\":\"Invalid API key\",\"hint\":\"x\"}",
                "an error of LangFast's (Invalid API key)",
            ),
            ("{\"error\":{\"message\":\"no\"}}", "an error of LangFast's (no)"),
            (
                "{\"code\":401,\"error_code\":\"x\",\"msg\":\"no\"}",
                "an error of LangFast's (401: no)",
            ),
            (
                "[{\"id\": 1, \"name\": \"x\"}]",
                "they have `id`, `name`, and no `slug` and no `parameters`",
            ),
            ("[{\"slug\": \"a\"}]", "they have `slug`, and no `parameters`"),
        ] {
            let error = find(copied.as_bytes()).expect_err(copied);
            assert!(error.contains(words), "{copied}: {error}");
            assert!(!error.contains("eyJ"), "no token");
        }
        let cut = find("[{\"slug\": \"é".as_bytes().split_last().unwrap().1).unwrap_err();
        assert!(cut.contains("ends too early"), "{cut}");
        for bytes in
            [&b"\x1f\x8b\x08"[..], b"PK\x03\x04", b"[\"\xff\"]", b"\xff\xfe[", b"\xff\xfe\x00\xd8"]
        {
            assert!(find(bytes).is_err(), "{bytes:?}");
        }
        let error = find(recording(&[("u", "[]")]).as_bytes()).unwrap_err();
        assert!(error.contains("(HAR)"), "{error}");
    }

    #[test]
    fn a_malformed_record_is_told_with_its_place_and_nothing_is_taken() {
        for (copied, words) in [
            (format!("[{ROW},\n{{\"name\": \"b\"}}]"), "record 2 (line 2): `slug` is missing"),
            (format!("[{ROW},\n7]"), "record 2 (line 2): it is a number, and has to be an object"),
            (
                r#"[{"slug": 7, "parameters": {}}]"#.to_owned(),
                "`slug` is a number, and has to be a text",
            ),
            (
                r#"[{"slug": "a", "parameters": []}]"#.to_owned(),
                "`parameters` is a list, and has to be an object",
            ),
            (
                r#"[{"slug": "a\u001b[2J", "parameters": {}}]"#.to_owned(),
                "record 1 (line 1, `a\u{fffd}[2J`): `slug` is no name",
            ),
            (
                format!(r#"[{{"slug": "{}", "parameters": {{}}}}]"#, "a".repeat(201)),
                "`slug` is no name",
            ),
            (r#"[{"slug": "a", "parameters": {"x": 1e999}}]"#.to_owned(), "number out of range"),
            (
                recording(&[("https://x/y?apikey=secret", r#"[{"slug": 7, "parameters": {}}]"#)]),
                "https://x/y: record 1",
            ),
        ] {
            let error = find(copied.as_bytes()).expect_err(&copied);
            assert!(error.contains(words), "{copied}: {error}");
            assert!(!error.contains("secret"));
        }
    }

    #[test]
    fn records_that_cannot_be_used_are_left_out_and_the_rest_is_taken() {
        let copied = r#"[
            {"slug": "a", "parameters": {"stream": true}, "versions": ["v"]},
            {"slug": "a", "versions": ["v"], "parameters": {"stream": true}},
            {"slug": "a", "parameters": {"stream": true}, "versions": ["v"]},
            {"slug": "b", "parameters": {"stream": true}, "versions": ["v"]},
            {"slug": "c", "parameters": {"stream": true}, "status": "hidden"},
            {"slug": "d", "parameters": null}]"#;
        let plan = planned(copied, BUILT_IN, true);
        assert_eq!(plan.changes.new, ["a"]);
        let left_out = plan.changes.left_out;
        let expected = [
            "record 2 (line 3, `a`): `slug` is that of record 1 (line 2, `a`) too",
            "record 4 (line 5, `b`): `versions` has `v`, as record 1 (line 2, `a`) has",
            "record 5 (line 6, `c`): `status` is `hidden`",
            "record 6 (line 7, `d`): `parameters` is empty",
        ];
        assert_eq!(left_out.len(), expected.len(), "{left_out:?}");
        for (why, expected) in left_out.iter().zip(expected) {
            assert!(why.starts_with(expected), "{why}");
        }
        let error =
            find(br#"[{"slug": "c", "parameters": {"x": 1}, "status": "beta"}]"#).unwrap_err();
        assert!(error.contains("none of the records") && error.contains("`beta`"), "{error}");
    }

    #[test]
    fn a_list_replaces_one_record_is_merged_and_what_differs_is_named() {
        let before = r#"[
            {"slug": "a", "parameters": {"stream": true, "top_p": true}, "updated_at": "2025-01-01"},
            {"slug": "b", "parameters": {"stream": true}},
            {"slug": "h", "status": "hidden"}]"#;
        let list = r#"[
            {"slug": "c", "parameters": {"stream": true}, "price": {"of": [1, 2]}},
            {"slug": "a", "parameters": {"stream": true, "top_p": false, "x": 1}, "premium": true, "updated_at": "2026"}]"#;
        let Plan { json, changes } = planned(list, before, false);
        assert_eq!((changes.new, changes.gone), (vec!["c".to_owned()], vec!["b".to_owned()]));
        assert_eq!(changes.changed["a"], ["parameters.top_p", "parameters.x", "premium"]);
        assert!(json.contains(r#""price":{"of":[1,2]}"#), "{json}");
        assert!(!changes.merged && !json.contains(r#""b""#));

        let Plan { json, changes } = planned(list, before, true);
        assert!(changes.merged && changes.gone.is_empty());
        let slugs: Vec<String> =
            records::read(&json).unwrap().into_iter().map(|r| r.slug).collect();
        assert_eq!(slugs, ["a", "b", "h", "c"]);

        let one = r#"{"slug": "b", "parameters": {"stream": false}}"#;
        let Plan { json, changes } = planned(one, before, false);
        assert!(changes.merged && changes.gone.is_empty());
        assert_eq!(changes.changed["b"], ["parameters.stream"]);
        assert!(changes.missing.is_empty());
        assert!(Models::parse(&json, &[], Unknown::Refuse).is_ok());
    }

    #[test]
    fn a_new_record_that_takes_a_kept_ones_version_is_refused() {
        let before = r#"[{"slug": "a", "versions": ["v"]}, {"slug": "b", "versions": ["w"]}]"#;
        let row = |slug: &str, version: &str| {
            format!(r#"{{"slug": "{slug}", "versions": ["{version}"], "parameters": {{"x": 1}}}}"#)
        };
        let planned = |copied: String| plan(find(copied.as_bytes()).unwrap(), before, true);
        assert!(planned(row("a", "v")).is_ok() && planned(row("a", "u")).is_ok());
        let error = planned(row("c", "v")).unwrap_err();
        assert!(error.contains("`versions` has a name that `a` of the list before has"), "{error}");
        assert!(planned(format!("[{}, {}]", row("a", "u"), row("c", "v"))).is_ok());
    }

    #[test]
    fn a_format_that_tells_no_more_how_to_ask_is_noticed() {
        let copied = r#"[{"slug": "a", "parameters": {"stream": true}}, {"slug": "b", "parameters": {"x": 1}}]"#;
        let missing = planned(copied, BUILT_IN, false).changes.missing;
        assert_eq!(missing, ["parameters.message_types", "parameters.max_completion_tokens"]);
        assert!(planned(copied, BUILT_IN, true).changes.missing.is_empty());
    }

    #[test]
    fn of_the_answers_of_a_recording_the_latest_counts() {
        let old = ROW.replace("true", "false");
        let text = recording(&[
            ("https://x/rest/v1/models?select=*", &format!("[{old}]")),
            (
                "https://x/rest/v1/models?select=*",
                &format!("[{ROW}, {}]", ROW.replace("\"a\"", "\"c\"")),
            ),
            ("https://x/other", "{\"slug\": \"b\", \"of\": \"parameters\"}"),
        ]);
        let found = find(text.as_bytes()).unwrap();
        assert_eq!(slugs(&found), ["a", "c"]);
        assert!(found.rows[0].text.contains("true"));
        assert_eq!(found.found_in, ["https://x/rest/v1/models"]);
    }

    #[test]
    fn text_is_kept_word_for_word_and_white_space_is_not() {
        let json = "{ \"a \\\" b\" :\t[ 1.10, 1e400, \"\\\\\" , \"x y\" ]\n}";
        assert_eq!(compact(json), "{\"a \\\" b\":[1.10,1e400,\"\\\\\",\"x y\"]}");
    }

    #[test]
    fn what_is_too_long_too_many_or_too_deep_is_refused() {
        let many: Vec<String> =
            (0..=MOST_RECORDS).map(|at| ROW.replace("\"a\"", &format!("\"m{at}\""))).collect();
        assert!(
            find(format!("[{}]", many.join(",")).as_bytes())
                .unwrap_err()
                .contains("more than 1000")
        );
        let long = format!("[\"{}\"]", "x".repeat(LIST_LIMIT));
        assert!(find(long.as_bytes()).unwrap_err().contains("4 MiB"));
        let deep = [vec![b'['; 1 << 20], vec![b']'; 1 << 20]].concat();
        assert!(find(&deep).is_err());
        let nested = format!(
            "[{{\"slug\": \"a\", \"parameters\": {{\"x\": {}{}}}}}]",
            "[".repeat(500),
            "]".repeat(500)
        );
        assert!(find(nested.as_bytes()).unwrap_err().contains("recursion"));
        let big =
            format!("[{}]", ROW.replace("true", &format!("\"{}\"", "x".repeat(LIST_LIMIT - 100))));
        assert!(plan(find(big.as_bytes()).unwrap(), BUILT_IN, true).unwrap_err().contains("4 MiB"));
    }
}
