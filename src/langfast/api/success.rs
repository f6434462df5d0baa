//! What the body of a successful answer says, in the known form or in any likely one: an id, or that
//! nothing has come of it after all.
//!
//! Enters: the body as it came. Leaves: the id, or the failure. It may not know what the id is good for.

use serde_json::value::RawValue;

use crate::error::Failure;
use crate::langfast::outcome::{EndFields, RunStatus, bare, text};
use crate::langfast::raw;

/// Names of what an answer may be wrapped in.
const WRAPPINGS: &[&str] = &["data", "payload", "body", "result", "response"];
/// Most levels, and values, of an answer that are looked at.
const MOST_LEVELS: usize = 5;
const MOST_VALUES: usize = 64;
/// Longest id, in bytes.
const LONGEST_ID: usize = 128;

/// Where an answer may have an id. Names are without case and separators.
pub(super) struct Ids {
    /// Names of the id itself.
    pub names: &'static [&'static str],
    /// Names of what may hold it: under `id`, or as a bare text.
    pub holders: &'static [&'static str],
    /// Whether the answer as a whole may hold it so.
    pub is_whole: bool,
}

/// The id of a run's job. Known: `{"jobs":[{"job_id"}]}`.
pub(super) const JOB: Ids = Ids {
    names: &["jobid", "jobids", "executionid", "executionids"],
    holders: &["job", "jobs", "jobid", "jobids", "execution", "executions", "executionids"],
    is_whole: false,
};

/// The id of a prompt. Known: the answer is a bare text. A function of PostgreSQL that returns a row, or
/// several, answers with an object or a list.
pub(super) const PROMPT: Ids = Ids {
    names: &["promptid", "createprompt"],
    holders: &["prompt", "createprompt"],
    is_whole: true,
};

/// A value in an answer, with the name of what holds it.
struct Part<'a> {
    value: &'a RawValue,
    is_holder: bool,
    depth: usize,
}

/// Returns the first id that the answer has, from the outside to the inside; `None` if it has none.
///
/// # Errors
/// The answer says that it is none of success, whatever its status.
pub(super) fn id(answer: &[u8], ids: &Ids) -> Result<Option<String>, Failure> {
    let Ok(answer) = serde_json::from_slice::<&RawValue>(answer) else { return Ok(None) };
    let mut parts = vec![Part { value: answer, is_holder: ids.is_whole, depth: 0 }];
    let mut found = None;
    let mut next = 0;
    while next < parts.len() {
        let Part { value, is_holder, depth } = parts[next];
        let fields = raw::fields(value);
        if let Some(failure) = failure(&fields) {
            return Err(failure);
        }
        found = found.or_else(|| ids.of(value, &fields, is_holder));
        let items = raw::items(value).into_iter().map(|item| (is_holder, item));
        let inner = fields.iter().filter_map(|(name, value)| Some((ids.holds(name)?, *value)));
        let room = MOST_VALUES.saturating_sub(parts.len());
        let inner = items.chain(inner).filter(|_| depth < MOST_LEVELS).take(room);
        let inner: Vec<Part> =
            inner.map(|(is_holder, value)| Part { value, is_holder, depth: depth + 1 }).collect();
        parts.extend(inner);
        next += 1;
    }
    Ok(found)
}

impl Ids {
    /// The id that a value is, or has in its own fields.
    fn of(
        &self,
        value: &RawValue,
        fields: &[(String, &RawValue)],
        is_holder: bool,
    ) -> Option<String> {
        let is_own = |name: &str| self.names.contains(&name) || is_holder && name == "id";
        let named = fields.iter().find(|(name, value)| is_own(&bare(name)) && is_text(value));
        let bare = (is_holder && is_text(value)).then_some(value);
        let id = text(bare.or(named.map(|(_, value)| *value)))?;
        (id.len() <= LONGEST_ID).then_some(id)
    }

    /// Whether a field of this name holds ids; `None` if it is not to be looked into.
    fn holds(&self, name: &str) -> Option<bool> {
        let name = bare(name);
        let is_holder = self.holders.contains(&&*name);
        let is_wrapping = WRAPPINGS.contains(&&*name);
        (is_holder || is_wrapping).then_some(is_holder || self.is_whole)
    }
}

fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

/// The failure that an object tells of: by its error or its status, as events do, or by `success: false`.
fn failure(fields: &[(String, &RawValue)]) -> Option<Failure> {
    let named = |wanted: &str| fields.iter().find(|(name, _)| bare(name) == wanted);
    let field = |wanted: &str| named(wanted).map(|(_, value)| *value);
    let is_no = |name: &&str| field(name).is_some_and(|value| value.get() == "false");
    let status = field("status").or(field("state"));
    let [error, message] = ["error", "message"].map(field);
    let end = EndFields { status, finish_reason: None, error, message };
    match end.outcome("") {
        RunStatus::Failed(failure) => Some(failure),
        _ if ["success", "ok"].iter().any(is_no) => {
            let said = text(message).unwrap_or_else(|| "no reason given".to_owned());
            Some(Failure::Refused(crate::error::clean(&said)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(answer: &str, ids: &Ids) -> Option<String> {
        id(answer.as_bytes(), ids).unwrap()
    }

    #[test]
    fn the_id_of_a_job_is_found_in_any_likely_form() {
        for answer in [
            r#"{"run_id":"r","jobs":[{"job_id":"j"}]}"#,
            r#"{"runId":"r","jobs":[{"jobId":"j"},{"jobId":"k"}]}"#,
            r#"{"run_id":"r","jobs":[{"id":"j","status":"queued"}]}"#,
            r#"{"id":"r","jobs":["j"]}"#,
            r#"{"id":"r","job_ids":["j"]}"#,
            r#"{"run_id":"r","job_id":"j","error":null,"success":true}"#,
            r#"{"executions":[{"execution_id":"j"}]}"#,
            r#"{"data":{"run_id":"r","jobs":[{"job_id":"j"}]},"error":null}"#,
            r#"[{"run_id":"r","job_id":"j"}]"#,
            r#"{"result":{"job":{"id":"j"}}}"#,
            r#"{"jobs":[{},{"job_id":"j"}]}"#,
        ] {
            assert_eq!(found(answer, &JOB).as_deref(), Some("j"), "{answer}");
        }
    }

    #[test]
    fn the_id_of_a_prompt_is_a_text_or_in_a_row() {
        for answer in [
            r#""p""#,
            r#"["p"]"#,
            r#"{"id":"p","name":"api-1"}"#,
            r#"[{"id":"p","user_id":"u"}]"#,
            r#"{"prompt_id":"p"}"#,
            r#"[{"create_prompt":"p"}]"#,
            r#"{"data":{"prompt":{"id":"p"}}}"#,
        ] {
            assert_eq!(found(answer, &PROMPT).as_deref(), Some("p"), "{answer}");
        }
    }

    #[test]
    fn what_is_no_id_is_none() {
        let long = format!(r#"{{"job_id":"{}"}}"#, "x".repeat(200));
        for answer in [
            "",
            "<html>",
            "null",
            "7",
            "{}",
            r#""j""#,
            r#"{"id":"r","run_id":"r"}"#,
            r#"{"jobs":[]}"#,
            r#"{"jobs":[{"job_id":7},{"job_id":""}]}"#,
            r#"{"user":{"id":"u"},"test_cases":[{"id":"t"}]}"#,
            &long,
        ] {
            assert_eq!(found(answer, &JOB), None, "{answer}");
        }
        for answer in ["null", r#""""#, "[]", r#"{"user":{"id":"u"}}"#, "<html>"] {
            assert_eq!(found(answer, &PROMPT), None, "{answer}");
        }
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert!(id(deep.as_bytes(), &PROMPT).is_ok_and(|found| found.is_none()));
    }

    #[test]
    fn an_answer_that_says_that_it_has_failed_is_a_failure_beside_any_id() {
        for (answer, why) in [
            (r#"{"error":"boom"}"#, "boom"),
            (r#"{"error":{"message":"boom"}}"#, "boom"),
            (r#"{"success":false,"message":"boom"}"#, "boom"),
            (r#"{"ok":false}"#, "no reason given"),
            (r#"{"run_id":"r","status":"failed","jobs":[{"job_id":"j"}]}"#, "no reason given"),
            (r#"{"run_id":"r","jobs":[{"job_id":"j","error":"boom"}]}"#, "boom"),
            (r#"{"data":null,"error":{"message":"boom"}}"#, "boom"),
        ] {
            let failure = id(answer.as_bytes(), &JOB);
            assert_eq!(failure, Err(Failure::Refused(why.to_owned())), "{answer}");
        }
    }
}
