//! The check by JSON Schema against the official test suite's required cases (`tests/json-schema`).

use std::path::Path;

use langfast2api::chat::schema::{Judgement, Schema};
use serde_json::{Value, json};

/// A case of the suite: a schema, a value, and whether the value fits.
struct Case {
    about: String,
    schema: Value,
    value: Value,
    fits: bool,
}

/// The cases of a draft, whose schemas name it by `uri` if they name none.
fn cases(draft: &str, uri: Option<&str>) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json-schema");
    let text = std::fs::read_to_string(folder.join(format!("{draft}.jsonl"))).unwrap();
    let mut cases = Vec::new();
    for line in text.lines() {
        let (file, group, mut schema, tests): (String, String, Value, Vec<(Value, bool)>) =
            serde_json::from_str(line).unwrap();
        if let (Some(rules), Some(uri)) = (schema.as_object_mut(), uri) {
            rules.entry("$schema").or_insert(json!(uri));
        }
        cases.extend(tests.into_iter().map(|(value, fits)| {
            let about = format!("{draft} {file}: {group}: {value} by {schema}");
            Case { about, schema: schema.clone(), value, fits }
        }));
    }
    cases
}

/// Of the cases that fit, and of those that do not: how many are told as such, and how many there are.
/// The others are left open; a wrong judgement is a failure.
#[derive(Default)]
struct Score {
    fit: (usize, usize),
    unfit: (usize, usize),
}

fn score(cases: &[Case]) -> Score {
    let (mut score, mut wrong) = (Score::default(), Vec::new());
    for case in cases {
        let (told, all) = if case.fits { &mut score.fit } else { &mut score.unfit };
        *all += 1;
        match Schema::new(&case.schema).judge(&case.value) {
            Judgement::Open => {}
            Judgement::Fits if case.fits => *told += 1,
            Judgement::Unfit(_) if !case.fits => *told += 1,
            judgement => wrong.push(format!("{judgement:?}: {}", case.about)),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    score
}

/// The score as a row of the table in `tests/README.md`.
fn row(name: &str, cases: &[Case]) -> String {
    let Score { fit, unfit } = score(cases);
    format!("| {name} | {} of {} | {} of {} | 0 |", unfit.0, unfit.1, fit.0, fit.1)
}

fn assert_published(row: &str) {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let is_there = std::fs::read_to_string(readme).unwrap().contains(row);
    assert!(is_there, "tests/README.md has to say: {row}");
}

#[test]
fn no_judgement_of_the_official_suite_is_wrong_and_the_score_is_the_published_one() {
    let new = cases("2020-12", Some("https://json-schema.org/draft/2020-12/schema"));
    assert_published(&row("2020-12", &new));
    let old = cases("draft-07", Some("http://json-schema.org/draft-07/schema#"));
    assert_published(&row("draft-07", &old));
}

/// Most tools name no draft: then nothing is held against a value on which the drafts differ.
#[test]
fn cases_of_either_draft_are_judged_rightly_when_none_is_named() {
    for draft in ["2020-12", "draft-07"] {
        let mut cases = cases(draft, None);
        // The cases that are about the draft which is named.
        cases.retain(|case| !case.about.starts_with("2020-12 vocabulary"));
        for case in &mut cases {
            if let Some(rules) = case.schema.as_object_mut() {
                rules.shift_remove("$schema");
            }
        }
        assert_published(&row(&format!("{draft}, not named"), &cases));
    }
}
