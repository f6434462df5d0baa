//! LangFast's list of models as a person can copy it out of a browser, made into a models.json.
//!
//! Enters: the bytes that were copied, and the list so far. Leaves: the new list, and what differs; or
//! what is wrong, where, and what to copy instead. Records are kept word for word, since LangFast may have
//! fields that are not known here.
//!
//! A record is recognised by its fields `slug` and `parameters`, wherever it stands: the table's name and
//! the shape of the answer are not known.

mod changes;
mod copied;
mod found;
mod recording;

use std::collections::{HashMap, HashSet};

use super::records::{self, Record, shown};
use super::unix_time;
pub use changes::Changes;
use changes::{compare, missing};
pub use found::Found;
use found::{Row, compact, enough, in_answer, in_recording};

/// Most bytes that are read: a recording of a whole visit may have as many.
pub const INPUT_LIMIT: usize = 64 << 20;
/// Most bytes of an answer that may list the models, and of a list that is kept. A list of 17 has 9 KB.
pub const LIST_LIMIT: usize = 4 << 20;

/// A list that is ready to be kept, and how it differs from the one before.
#[derive(Debug)]
pub struct Plan {
    /// The models.json.
    pub json: String,
    /// How it differs.
    pub changes: Changes,
}

/// Finds the records in what was copied: an answer of LangFast's, as JSON, or a recording of many answers
/// (HAR).
///
/// # Errors
/// There are none, or one is malformed. The words say where, why, and what to copy instead.
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

/// Returns the words for a list of `length` bytes, which is too long.
fn too_long(length: usize) -> String {
    format!("it has {} MiB, and a list of models has some KB: copy that one answer", length >> 20)
}

/// Makes the list to keep. A single record is always added to `before`, a models.json; several replace it,
/// unless they are to be added too (`merge`).
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

/// Returns the records of the new list, each with its slug: those that are kept, with new ones in the places of
/// those with the same slug, and the rest behind them.
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

/// Writes records as a models.json, one a line.
fn models_json(records: &[(String, String)]) -> Result<String, String> {
    enough(records.len())?;
    let lines: Vec<String> = records.iter().map(|(_, text)| format!("  {text}")).collect();
    let json = format!("[\n{}\n]\n", lines.join(",\n"));
    if json.len() > LIST_LIMIT { Err(too_long(json.len())) } else { Ok(json) }
}

/// Returns the Unix time of the latest change to a record of a models.json, in seconds; `None` if none has a
/// time.
pub fn as_of(json: &str) -> Option<u64> {
    let records = records::read(json).ok()?;
    let times = records.into_iter().filter_map(|record| record.updated_at.or(record.created_at));
    times.filter_map(|time| unix_time(&time)).max()
}

#[cfg(test)]
mod tests {
    use super::super::{BUILT_IN, Models, Unknown};
    use super::found::MOST_RECORDS;
    use super::*;
    use serde_json::{Value, json};

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
