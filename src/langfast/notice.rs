//! Reads leniently what an event of LangFast's runner says about an execution.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::outcome::{EndFields, RunStatus, text};
use super::texts::Place;
use super::{reported, unfamiliar};
use crate::chat::ReportedUsage;

/// An event about an execution, as it was received; borrows from its frame.
pub struct Notice<'a> {
    /// The ids that the event names, one of which is the run's; empty if it names none.
    pub ids: Vec<String>,
    /// Further words of the event that are a run's id if a run has it.
    pub maybe_ids: Vec<String>,
    /// Raw JSON of the text, quotes included, and where it was found.
    content: Option<(Place, &'a RawValue)>,
    /// Whether a field of a text is there, and empty or null.
    has_no_text: bool,
    /// The run's state.
    pub outcome: RunStatus,
    /// The tokens that the event reports.
    pub usage: Option<ReportedUsage>,
    /// Whether its packet tells of several events.
    pub is_of_batch: bool,
    /// Whether it reports a failure that is nobody's unless one of [`Notice::maybe_ids`] is a run's.
    pub may_be_no_failure: bool,
}

/// The payload of an event. Every field may be missing, null, or of another type than is known.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload<'a> {
    #[serde(borrow, rename = "executionId")]
    execution_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "execution_id")]
    execution_id_2: Option<&'a RawValue>,
    #[serde(borrow, rename = "jobId")]
    job_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "job_id")]
    job_id_2: Option<&'a RawValue>,
    #[serde(borrow, rename = "runId")]
    run_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "run_id")]
    run_id_2: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

impl<'a> Notice<'a> {
    /// Reads the event `name` with these arguments, a JSON list without its brackets: the first is the
    /// payload.
    ///
    /// Returns `None` for what is not about an execution: nothing in it that is known or likely.
    pub fn read(name: &str, arguments: &'a str) -> Option<Notice<'a>> {
        let is_object = arguments.starts_with('{');
        let payload: Payload<'a> =
            if is_object { first_value(arguments)? } else { Payload::default() };
        let mut notice = payload.notice(name);
        if !notice.is_in_known_form() {
            notice.look_further(name, arguments, &payload);
        }
        if notice.may_report_usage() {
            notice.usage = reported::find(arguments);
        }
        (!notice.is_about_nothing()).then_some(notice)
    }

    /// Reads all that the event `name` says: one notice, or those of a list of payloads.
    pub fn all(name: &str, arguments: &'a str) -> Vec<Notice<'a>> {
        if !arguments.starts_with('[') {
            return Notice::read(name, arguments).into_iter().collect();
        }
        let read = |payload| Notice::read(name, payload);
        let notices = unfamiliar::batch(arguments).into_iter().filter_map(read);
        notices.map(|notice| Notice { is_of_batch: true, ..notice }).collect()
    }

    /// The text: JSON string content, a part of the arguments that were read; and its place.
    pub fn text(&self) -> Option<(Place, &'a str)> {
        self.content.map(|(place, raw)| (place, &raw.get()[1..raw.get().len() - 1]))
    }

    /// Whether it says what the text is, be it that there is none.
    pub fn tells_of_text(&self) -> bool {
        self.content.is_some() || self.has_no_text
    }

    /// The ids of the event, the named ones first.
    pub fn all_ids(&self) -> impl Iterator<Item = &String> {
        self.ids.iter().chain(&self.maybe_ids)
    }

    /// Whether it reports a failure.
    pub fn is_failure(&self) -> bool {
        matches!(self.outcome, RunStatus::Failed(_))
    }

    /// Whether it says all that an event in the known form can say.
    fn is_in_known_form(&self) -> bool {
        !self.ids.is_empty() && (self.has_text() || self.is_failure())
    }

    fn has_text(&self) -> bool {
        self.text().is_some_and(|(_, text)| !text.is_empty())
    }

    /// Looks for what the known form lacks.
    fn look_further(&mut self, name: &str, arguments: &'a str, payload: &Payload<'a>) {
        let found = unfamiliar::look(name, arguments);
        if self.ids.is_empty() {
            (self.ids, self.maybe_ids) = (found.ids, found.maybe_ids);
        }
        if !self.has_text() {
            self.content = found.text.or(self.content);
            self.has_no_text = found.has_no_text;
        }
        let is_open = matches!(self.outcome, RunStatus::InProgress | RunStatus::MaybeEnding(_));
        if is_open && !(self.ids.is_empty() && self.maybe_ids.is_empty()) {
            let known = payload.end();
            let end = EndFields {
                status: known.status.or(found.end.status),
                finish_reason: known.finish_reason.or(found.end.finish_reason),
                error: known.error.or(found.end.error),
                message: known.message.or(found.end.message),
            };
            self.outcome = end.outcome_by_name(name);
            self.may_be_no_failure = self.ids.is_empty() && self.is_failure();
        }
    }

    /// Whether it is worth looking for a usage: at the end of a run, or where there is nothing else.
    fn may_report_usage(&self) -> bool {
        self.outcome != RunStatus::InProgress || self.content.is_none()
    }

    fn is_about_nothing(&self) -> bool {
        let names_nothing = self.ids.is_empty() && self.maybe_ids.is_empty();
        names_nothing && self.content.is_none() && !self.is_failure()
    }
}

impl<'a> Payload<'a> {
    fn notice(&self, name: &str) -> Notice<'a> {
        let ids = [
            self.execution_id,
            self.execution_id_2,
            self.job_id,
            self.job_id_2,
            self.run_id,
            self.run_id_2,
        ];
        let content = self.content.filter(|raw| raw.get().starts_with('"'));
        Notice {
            ids: ids.into_iter().filter_map(text).collect(),
            maybe_ids: Vec::new(),
            content: content.map(|raw| (Place::Content, raw)),
            has_no_text: false,
            outcome: self.end().outcome(name),
            usage: None,
            is_of_batch: false,
            may_be_no_failure: false,
        }
    }

    fn end(&self) -> EndFields<'a> {
        let Payload { status, finish_reason, error, message, .. } = *self;
        EndFields { status, finish_reason, error, message }
    }
}

/// Returns arguments that begin with an object or a list: `arguments` themselves or, as has been seen too,
/// those inside their first string, which is put into `inside`.
pub fn with_object<'a>(arguments: &'a str, inside: &'a mut String) -> &'a str {
    if arguments.starts_with('"') {
        if let Some(text) = first_value::<String>(arguments) {
            if text.trim_start().starts_with(['{', '[']) {
                *inside = text;
                return inside.trim_start();
            }
        }
    }
    arguments
}

/// Reads the value at the start of `json`, whatever follows it.
fn first_value<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    T::deserialize(&mut serde_json::Deserializer::from_str(json)).ok()
}

/// The range of `inner` in `outer`; `None` if it is not a part of it.
pub fn range_within(outer: &str, inner: &str) -> Option<Range<usize>> {
    let begin = (inner.as_ptr() as usize).checked_sub(outer.as_ptr() as usize)?;
    let range = begin..begin + inner.len();
    (range.end <= outer.len()).then_some(range)
}
