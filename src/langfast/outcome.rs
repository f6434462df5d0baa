//! What an event says of a run's end: its status, in whatever word, its reason, its error.

use serde_json::value::RawValue;

use super::raw;
use crate::chat::FinishReason;
use crate::error::{Failure, clean};

/// The state of a run according to one event.
#[derive(Clone, Debug, PartialEq)]
pub enum RunStatus {
    /// It goes on, as far as the event says.
    InProgress,
    /// It is done, but its last text may follow.
    Ending(FinishReason),
    /// It is done, by what the event looks like; a further text shows that it is not.
    MaybeEnding(FinishReason),
    /// It is done.
    Completed(FinishReason),
    /// It has failed.
    Failed(Failure),
}

/// The fields of an event that tell of a run's end, as raw JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndFields<'a> {
    /// `status`
    pub status: Option<&'a RawValue>,
    /// `finish_reason`
    pub finish_reason: Option<&'a RawValue>,
    /// `error`
    pub error: Option<&'a RawValue>,
    /// `message`, which counts as the reason of a failure only.
    pub message: Option<&'a RawValue>,
}

/// Known is `completed`; the others are likely.
const COMPLETED: &[&str] =
    &["completed", "complete", "succeeded", "success", "successful", "finished", "done"];
/// Known is `in_progress`; the others are likely.
const IN_PROGRESS: &[&str] = &[
    "inprogress",
    "running",
    "processing",
    "pending",
    "queued",
    "streaming",
    "started",
    "starting",
    "generating",
    "active",
    "created",
    "waiting",
    "thinking",
];
/// What failing statuses are called is not known. These are likely, each with the word that people are
/// told; an empty one says no more than that the run has failed.
const FAILING: &[(&str, &str)] = &[
    ("failed", ""),
    ("failure", ""),
    ("error", ""),
    ("errored", ""),
    ("cancelled", "cancelled"),
    ("canceled", "cancelled"),
    ("aborted", "aborted"),
    ("timeout", "timed_out"),
    ("timedout", "timed_out"),
    ("expired", "expired"),
    ("rejected", "rejected"),
    ("denied", "rejected"),
    ("interrupted", "interrupted"),
    ("terminated", "terminated"),
    ("killed", "terminated"),
];
/// Names of events end in these where a run, or a part of it, is done.
const COMPLETED_NAMES: &[&str] = &["completed", "finished", "succeeded", "done"];

impl EndFields<'_> {
    /// The run's state according to the event `name`. Any `error` that says something is a failure, and so
    /// is a reason that says so, whatever the status beside it (the AI SDK's `error`); a status that is not
    /// known is progress, unless a reason says that the text has ended.
    pub fn outcome(&self, name: &str) -> RunStatus {
        let status = bare(&text(self.status).unwrap_or_default());
        if let Some(why) = self.error.and_then(error_message) {
            return RunStatus::Failed(self.failure(&status, Some(why)));
        }
        if failing(&status).is_some() || name.ends_with("error") || name.ends_with("failed") {
            return RunStatus::Failed(self.failure(&status, None));
        }
        let told = text(self.finish_reason);
        if let Some(how) = told.as_deref().map(bare).filter(|how| failing(how).is_some()) {
            return RunStatus::Failed(self.failure(&how, None));
        }
        let reason = finish_reason(told.as_deref());
        match (status.as_str(), &told) {
            (status, _) if COMPLETED.contains(&status) => RunStatus::Completed(reason),
            ("incomplete", None) => RunStatus::Completed(FinishReason::Length),
            ("incomplete", Some(_)) => RunStatus::Completed(reason),
            ("", Some(_)) if name == "completion_finished" => RunStatus::Completed(reason),
            ("", None) if name == "completion_finished" => RunStatus::Ending(reason),
            (status, Some(_)) if !IN_PROGRESS.contains(&status) => RunStatus::MaybeEnding(reason),
            _ => RunStatus::InProgress,
        }
    }

    /// The run's state according to an event that is certainly about a run, and whose form is not
    /// known: the event's name may say more than its fields.
    pub fn outcome_by_name(&self, name: &str) -> RunStatus {
        let outcome = self.outcome(name);
        let name = bare(name);
        let is_open = matches!(outcome, RunStatus::InProgress | RunStatus::MaybeEnding(_));
        if !is_open || text(self.status).is_some() {
            return outcome;
        }
        let failing = FAILING.iter().find(|(word, _)| name.ends_with(word));
        if let Some((word, _)) = failing {
            return RunStatus::Failed(self.failure(word, None));
        }
        match outcome {
            _ if !COMPLETED_NAMES.iter().any(|word| name.ends_with(word)) => outcome,
            RunStatus::MaybeEnding(reason) => RunStatus::Completed(reason),
            _ => RunStatus::MaybeEnding(FinishReason::Stop),
        }
    }

    /// The failure of a run of this status: by LangFast's words, if there are any, or else by the status.
    fn failure(&self, status: &str, why: Option<String>) -> Failure {
        let message = why.or_else(|| text(self.message).map(|message| clean(&message)));
        match (failing(status), message) {
            // How long LangFast waits says more than any words.
            (Some(how @ ("timed_out" | "expired")), message) => Failure::Ended { how, message },
            (_, Some(message)) => Failure::Refused(message),
            (None | Some(""), None) => Failure::Refused("no reason given".to_owned()),
            (Some(how), None) => Failure::Ended { how, message: None },
        }
    }
}

fn failing(status: &str) -> Option<&'static str> {
    FAILING.iter().find(|(name, _)| *name == status).map(|(_, how)| *how)
}

/// A word without what its writing may differ in: case, and what separates its parts.
pub fn bare(word: &str) -> String {
    let letters = word.chars().filter(|c| c.is_alphanumeric()).take(100);
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// Maps LangFast's reason to the nearest of OpenAI's.
fn finish_reason(reason: Option<&str>) -> FinishReason {
    match reason.map(bare).as_deref() {
        Some("length" | "maxtokens" | "maxoutputtokens" | "maxcompletiontokens" | "incomplete") => {
            FinishReason::Length
        }
        Some("contentfilter" | "safety" | "refusal") => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    }
}

/// The message of an `error` value; `None` for values that mean no error.
fn error_message(raw: &RawValue) -> Option<String> {
    if matches!(raw.get(), "null" | "false" | "\"\"") {
        return None;
    }
    // It may hold anything, which takes many times the memory of its text if all of it is read.
    let inner = raw::fields(raw);
    let error = field(&inner, "error");
    let error_says = error.and_then(|error| text(field(&raw::fields(error), "message")));
    let message = text(Some(raw))
        .or_else(|| text(field(&inner, "message")))
        .or(error_says)
        .or_else(|| text(error).or_else(|| text(field(&inner, "code"))));
    Some(clean(message.as_deref().unwrap_or("no reason given")))
}

/// The field of this name.
fn field<'a>(fields: &[(String, &'a RawValue)], name: &str) -> Option<&'a RawValue> {
    fields.iter().find(|(field, _)| field == name).map(|(_, value)| *value)
}

/// A string that is not empty.
pub fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str::<String>(raw?.get()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    fn of(name: &str, status: &str, reason: Option<&str>) -> RunStatus {
        let (status, reason) = (format!("{status:?}"), reason.map(|reason| format!("{reason:?}")));
        let fields = EndFields {
            status: Some(raw(&status)),
            finish_reason: reason.as_deref().map(raw),
            ..EndFields::default()
        };
        fields.outcome_by_name(name)
    }

    fn ended(how: &'static str) -> RunStatus {
        RunStatus::Failed(Failure::Ended { how, message: None })
    }

    const STOP: FinishReason = FinishReason::Stop;
    const LENGTH: FinishReason = FinishReason::Length;

    #[test]
    fn a_status_means_the_same_in_every_writing() {
        for status in ["completed", "Complete", "SUCCEEDED", "done", "finished", "success"] {
            assert_eq!(of("x", status, None), RunStatus::Completed(STOP), "{status}");
        }
        for (status, how) in [
            ("timed_out", "timed_out"),
            ("timed-out", "timed_out"),
            ("TimedOut", "timed_out"),
            ("TIMEOUT", "timed_out"),
            ("canceled", "cancelled"),
            ("Aborted", "aborted"),
            ("expired", "expired"),
            ("rejected", "rejected"),
        ] {
            assert_eq!(of("x", status, None), ended(how), "{status}");
        }
        for status in ["in_progress", "IN-PROGRESS", "queued", "", "never heard of"] {
            assert_eq!(of("x", status, None), RunStatus::InProgress, "{status}");
        }
        assert_eq!(of("x", "incomplete", None), RunStatus::Completed(LENGTH));
        let filtered = RunStatus::Completed(FinishReason::ContentFilter);
        assert_eq!(of("x", "incomplete", Some("content_filter")), filtered);
    }

    #[test]
    fn a_reason_or_a_name_without_a_status_may_be_an_end_and_both_are_one() {
        assert_eq!(of("x", "", Some("MAX_TOKENS")), RunStatus::MaybeEnding(LENGTH));
        assert_eq!(of("x", "never heard of", Some("stop")), RunStatus::MaybeEnding(STOP));
        assert_eq!(of("x", "in_progress", Some("stop")), RunStatus::InProgress);
        assert_eq!(of("run:completed", "", None), RunStatus::MaybeEnding(STOP));
        assert_eq!(of("run.done", "", Some("length")), RunStatus::Completed(LENGTH));
        assert_eq!(of("run:completed", "in_progress", None), RunStatus::InProgress);
        assert_eq!(of("run_timedOut", "", None), ended("timed_out"));
        assert_eq!(of("completion_finished", "", None), RunStatus::Ending(STOP));
    }

    #[test]
    fn a_reason_that_is_none_to_end_well_is_a_failure_beside_any_status() {
        let failed = RunStatus::Failed(Failure::Refused("no reason given".to_owned()));
        for status in ["completed", "done", "", "in_progress", "incomplete", "never heard of"] {
            assert_eq!(of("x", status, Some("error")), failed, "{status}");
            assert_eq!(of("completion_finished", status, Some("Error")), failed, "{status}");
            assert_eq!(of("x", status, Some("cancelled")), ended("cancelled"), "{status}");
            assert_eq!(of("x", status, Some("time-out")), ended("timed_out"), "{status}");
        }
        for reason in ["other", "unknown", "end_turn", "tool-calls", "eos"] {
            assert_eq!(of("x", "completed", Some(reason)), RunStatus::Completed(STOP), "{reason}");
        }
    }

    #[test]
    fn langfasts_words_say_more_than_a_status_unless_that_is_about_time() {
        let (message, error) = (raw("\"no \\n room\""), raw("{\"message\":\"boom\"}"));
        let failed = |status, error| {
            let (status, message) = (Some(raw(status)), Some(message));
            let fields = EndFields { status, message, error, finish_reason: None };
            fields.outcome("x")
        };
        let refused = |why: &str| RunStatus::Failed(Failure::Refused(why.to_owned()));
        assert_eq!(failed("\"rejected\"", None), refused("no room"));
        assert_eq!(failed("\"rejected\"", Some(error)), refused("boom"));
        let message = Some("boom".to_owned());
        let late = RunStatus::Failed(Failure::Ended { how: "expired", message });
        assert_eq!(failed("\"expired\"", Some(error)), late);
        assert_eq!(EndFields::default().outcome("x:failed"), refused("no reason given"));
    }
}
