//! The events of a run: reads leniently what LangFast's runner sends about an execution, and turns it
//! into the parts of an answer.

use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::transcript::{Revised, Transcript};
use crate::chat::FinishReason;
use crate::error::{Error, Failure, Step, clean};

/// An event of a run. Nothing follows a [`RunEvent::Finished`] or [`RunEvent::Failed`].
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent {
    /// Further text, never empty.
    Text(String),
    /// An event that brought no new text; the run is alive.
    Alive,
    /// The run has said that it is done, but without its final text, which may be on its way. Repeated
    /// with every later notice. Holds the final text in case nothing follows, if it differs from what
    /// the texts add up to.
    Ending(Option<Box<Revised>>),
    /// The run is done.
    Finished {
        /// Why.
        reason: FinishReason,
        /// The final text, if it differs from what the texts add up to.
        revised: Option<Box<Revised>>,
    },
    /// The run has failed. Boxed to keep events small, since a channel has room for 31 of them from the
    /// start.
    Failed(Box<Error>),
}

impl RunEvent {
    /// Approximate memory of the event, in bytes.
    pub fn bytes(&self) -> usize {
        let text = match self {
            RunEvent::Text(text) => text.capacity(),
            RunEvent::Ending(Some(revised)) | RunEvent::Finished { revised: Some(revised), .. } => {
                revised.text.capacity() + revised.shown.capacity()
            }
            _ => 0,
        };
        size_of::<RunEvent>() + text
    }
}

/// An event about an execution, as it was received; borrows from its frame.
pub struct Notice<'a> {
    /// The ids in the event, one of which is the run's; empty if it names none.
    pub ids: Vec<String>,
    /// Raw JSON of the text so far, quotes included.
    content: Option<&'a RawValue>,
    outcome: RunStatus,
}

#[derive(Clone, Debug, PartialEq)]
enum RunStatus {
    InProgress,
    /// The event `completion_finished` without a status.
    Ending,
    Completed(FinishReason),
    Failed(String),
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
    /// Reads the event `name` whose first argument is the object that `arguments` begins with.
    ///
    /// Returns `None` for what is not about an execution: no object, or no known field in it.
    pub fn read(name: &str, arguments: &'a str) -> Option<Notice<'a>> {
        let payload: Payload<'a> = first_value(arguments)?;
        let ids: Vec<String> = [
            payload.execution_id,
            payload.execution_id_2,
            payload.job_id,
            payload.job_id_2,
            payload.run_id,
            payload.run_id_2,
        ]
        .into_iter()
        .filter_map(text)
        .collect();
        let outcome = payload.outcome(name);
        let content = payload.content.filter(|raw| raw.get().starts_with('"'));
        let about_nothing =
            ids.is_empty() && content.is_none() && !matches!(outcome, RunStatus::Failed(_));
        (!about_nothing).then_some(Notice { ids, content, outcome })
    }

    /// The text so far: JSON string content, a part of the arguments that were read.
    pub fn text(&self) -> Option<&'a str> {
        self.content.map(|raw| &raw.get()[1..raw.get().len() - 1])
    }

    /// Whether it reports a failure.
    pub fn is_failure(&self) -> bool {
        matches!(self.outcome, RunStatus::Failed(_))
    }
}

/// Returns arguments that begin with an object: `arguments` themselves or, as has been seen too, those
/// inside their first string, which is put into `inside`.
pub fn with_object<'a>(arguments: &'a str, inside: &'a mut String) -> &'a str {
    if arguments.starts_with('"') {
        if let Some(text) = first_value(arguments) {
            *inside = text;
            return inside;
        }
    }
    arguments
}

/// Reads the value at the start of `json`, whatever follows it.
fn first_value<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    T::deserialize(&mut serde_json::Deserializer::from_str(json)).ok()
}

impl Payload<'_> {
    /// The run's status according to the event `name`. Known are `in_progress` and `completed`. What
    /// failing statuses are called is not known: likely names of them and any `error` that says
    /// something are failures, and any other status is progress.
    fn outcome(&self, name: &str) -> RunStatus {
        let status = text(self.status).unwrap_or_default().to_ascii_lowercase();
        let failing = ["failed", "failure", "error", "errored", "cancelled", "canceled", "timeout"];
        if let Some(why) = self.error.and_then(error_message) {
            return RunStatus::Failed(why);
        }
        if failing.contains(&status.as_str()) || name.ends_with("error") || name.ends_with("failed")
        {
            let why = text(self.message).map(|message| clean(&message));
            return RunStatus::Failed(why.unwrap_or_else(|| "no reason given".to_owned()));
        }
        match status.as_str() {
            "completed" | "complete" | "succeeded" | "success" | "finished" => {
                RunStatus::Completed(finish_reason(text(self.finish_reason).as_deref()))
            }
            "" if name == "completion_finished" => match text(self.finish_reason) {
                Some(reason) => RunStatus::Completed(finish_reason(Some(&reason))),
                None => RunStatus::Ending,
            },
            _ => RunStatus::InProgress,
        }
    }
}

/// Maps LangFast's reason to the nearest of OpenAI's.
fn finish_reason(reason: Option<&str>) -> FinishReason {
    match reason {
        Some("length" | "max_tokens" | "max_output_tokens" | "incomplete") => FinishReason::Length,
        Some("content_filter" | "content-filter" | "safety" | "refusal") => {
            FinishReason::ContentFilter
        }
        _ => FinishReason::Stop,
    }
}

/// The message of an `error` value; `None` for values that mean no error.
fn error_message(raw: &RawValue) -> Option<String> {
    let value: Value = serde_json::from_str(raw.get()).unwrap_or(Value::Bool(true));
    let message = match &value {
        Value::Null | Value::Bool(false) => return None,
        Value::String(message) if message.is_empty() => return None,
        Value::String(message) => Some(message.as_str()),
        other => ["/message", "/error/message", "/error", "/code"]
            .into_iter()
            .find_map(|path| other.pointer(path)?.as_str()),
    };
    Some(clean(message.unwrap_or("no reason given")))
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str::<String>(raw?.get()).ok().filter(|text| !text.is_empty())
}

fn failed(failure: Failure) -> RunEvent {
    RunEvent::Failed(Error::upstream(Step::Run, failure).into())
}

/// The range of `inner` in `outer`; `None` if it is not a part of it.
pub fn range_within(outer: &str, inner: &str) -> Option<Range<usize>> {
    let begin = (inner.as_ptr() as usize).checked_sub(outer.as_ptr() as usize)?;
    let range = begin..begin + inner.len();
    (range.end <= outer.len()).then_some(range)
}

/// The state of one run, as its events have it so far.
#[derive(Debug)]
pub struct Progress {
    transcript: Transcript,
    /// Whether any event has come.
    begun: bool,
    /// Whether the run has said that it is done, but not how.
    ending: bool,
    ended: bool,
    limit: usize,
}

impl Progress {
    /// A run whose answer may have `limit` bytes of text.
    pub fn new(limit: usize) -> Progress {
        let transcript = Transcript::default();
        Progress { transcript, begun: false, ending: false, ended: false, limit }
    }

    /// Whether any event of the run has come.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the run has ended, so that nothing more comes.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Memory of the run's text, in bytes.
    pub fn bytes(&self) -> usize {
        self.transcript.bytes()
    }

    /// Takes a packet that differs from the run's last one only by longer text, without parsing it;
    /// returns `None` for any other packet.
    pub fn grow(&mut self, packet: &str) -> Option<RunEvent> {
        if self.ending || self.ended {
            return None;
        }
        let delta = self.transcript.grow(packet.as_bytes())?;
        Some(match self.over_limit() {
            Some(failed) => failed,
            None if delta.is_empty() => RunEvent::Alive,
            None => RunEvent::Text(delta),
        })
    }

    /// Takes a notice about this run, which came in `packet`, and returns what it means for the answer:
    /// text, an end, both, or a sign of life.
    pub fn take(&mut self, packet: &str, notice: &Notice<'_>) -> Vec<RunEvent> {
        if self.ended {
            return Vec::new();
        }
        self.begun = true;
        // Text beside a failure may be the failure's message.
        let text = notice.text().filter(|_| !notice.is_failure());
        let delta = text.map_or_else(String::new, |raw| {
            // Text that was unwrapped from a string is not a part of its packet.
            let (packet, text) = match range_within(packet, raw) {
                Some(text) => (packet, text),
                None => (raw, 0..raw.len()),
            };
            match notice.outcome {
                RunStatus::Completed(_) => self.transcript.complete(packet.as_bytes(), text),
                _ => self.transcript.advance(packet.as_bytes(), text),
            }
        });
        if let Some(failed) = self.over_limit() {
            return vec![failed];
        }
        if text.is_some() && notice.outcome == RunStatus::InProgress {
            self.transcript.may_grow();
        }
        let mut events = Vec::with_capacity(2);
        if !delta.is_empty() {
            events.push(RunEvent::Text(delta));
        }
        self.ending |= notice.outcome == RunStatus::Ending;
        let revised = || self.transcript.revised().map(Box::new);
        let end = match &notice.outcome {
            RunStatus::Completed(reason) => {
                Some(RunEvent::Finished { reason: *reason, revised: revised() })
            }
            RunStatus::Failed(why) => Some(failed(Failure::Refused(why.clone()))),
            RunStatus::InProgress | RunStatus::Ending => None,
        };
        if let Some(end) = end {
            self.end();
            events.push(end);
        } else if self.ending {
            events.push(RunEvent::Ending(revised()));
        } else if events.is_empty() {
            events.push(RunEvent::Alive);
        }
        events
    }

    /// Ends the run if its answer has become too long, and returns the failure.
    fn over_limit(&mut self) -> Option<RunEvent> {
        if self.transcript.length() <= self.limit {
            return None;
        }
        self.end();
        let why = format!("the answer is longer than {} MiB", self.limit >> 20);
        Some(failed(Failure::OverLimit(why)))
    }

    /// Notes that the run has ended, and frees its text.
    fn end(&mut self) {
        self.ended = true;
        self.transcript = Transcript::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(events: &[(&str, &str)]) -> Vec<RunEvent> {
        let mut progress = Progress::new(1 << 20);
        let take = |(name, payload): &(&str, &str)| {
            let notice = Notice::read(name, payload);
            notice.map_or_else(Vec::new, |notice| progress.take(payload, &notice))
        };
        events.iter().flat_map(take).collect()
    }

    fn text(text: &str) -> RunEvent {
        RunEvent::Text(text.to_owned())
    }

    const STOP: RunEvent = RunEvent::Finished { reason: FinishReason::Stop, revised: None };

    #[test]
    fn chunks_give_their_deltas_and_the_finish_reason() {
        let events = play(&[
            ("execution:chunk", r#"{"executionId":"j","status":"in_progress","content":"a"}"#),
            ("execution:chunk", r#"{"executionId":"j","status":"in_progress","content":"ab"}"#),
            (
                "execution:chunk",
                r#"{"executionId":"j","status":"completed","finish_reason":"length","content":"abc"}"#,
            ),
            ("execution:chunk", r#"{"executionId":"j","status":"in_progress","content":"abcd"}"#),
        ]);
        let length = RunEvent::Finished { reason: FinishReason::Length, revised: None };
        assert_eq!(events, [text("a"), text("b"), text("c"), length]);
    }

    #[test]
    fn packets_that_only_grow_give_their_deltas_unparsed_but_not_behind_an_end_or_a_failure() {
        let mut progress = Progress::new(8);
        let packet = |content: &str| format!(r#"{{"content":"{content}","executionId":"j"}}"#);
        let take = |progress: &mut Progress, packet: &str| {
            progress.take(packet, &Notice::read("execution:chunk", packet).unwrap())
        };
        assert_eq!(progress.grow(&packet("a")), None);
        assert_eq!(take(&mut progress, &packet("a")), [text("a")]);
        assert_eq!(progress.grow(&packet("a")), Some(RunEvent::Alive));
        assert_eq!(progress.grow(&packet("abc")), Some(text("bc")));
        assert_eq!(progress.grow(&packet(r#"abcd","error":"e"#)), None);
        let too_long = progress.grow(&packet("abcdefghi"));
        assert!(matches!(&too_long, Some(RunEvent::Failed(e)) if e.cause() == "over_limit"));
        assert_eq!(progress.grow(&packet("abcdefghij")), None);

        let mut progress = Progress::new(8);
        let finished = r#"{"executionId":"j","status":"completed","content":"a"}"#;
        assert_eq!(take(&mut progress, finished), [text("a"), STOP]);
        assert_eq!(progress.grow(&finished.replace('a', "ab")), None);
    }

    #[test]
    fn missing_null_and_empty_content_show_only_that_the_run_is_alive() {
        for payload in [
            r#"{"executionId":"j"}"#,
            r#"{"executionId":"j","content":null,"status":null}"#,
            r#"{"executionId":"j","content":"","status":"never heard of"}"#,
            r#"{"executionId":"j","content":7,"error":null}"#,
        ] {
            assert_eq!(play(&[("execution:chunk", payload)]), [RunEvent::Alive], "{payload}");
        }
    }

    #[test]
    fn errors_are_failures_as_object_string_status_or_name() {
        for (name, payload, why) in [
            ("execution:chunk", r#"{"executionId":"j","error":{"message":"boom"}}"#, "boom"),
            ("execution:chunk", r#"{"executionId":"j","error":"boom"}"#, "boom"),
            ("execution:chunk", r#"{"executionId":"j","status":"failed"}"#, "no reason given"),
            ("execution:error", r#"{"executionId":"j","message":"boom"}"#, "boom"),
            (
                "execution:chunk",
                r#"{"executionId":"j","status":"completed","error":"boom"}"#,
                "boom",
            ),
        ] {
            let failed = Error::upstream(Step::Run, Failure::Refused(why.to_owned()));
            assert_eq!(play(&[(name, payload)]), [RunEvent::Failed(failed.into())], "{payload}");
        }
        for payload in [r#"{"executionId":"j","error":""}"#, r#"{"executionId":"j","error":false}"#]
        {
            assert_eq!(play(&[("execution:chunk", payload)]), [RunEvent::Alive], "{payload}");
        }
    }

    #[test]
    fn completion_finished_ends_the_run_only_if_it_says_how() {
        let name = "completion_finished";
        assert_eq!(play(&[(name, r#"{"executionId":"j"}"#)]), [RunEvent::Ending(None)]);
        let done = r#"{"executionId":"j","content":"a","status":"completed"}"#;
        assert_eq!(play(&[(name, done)]), [text("a"), STOP]);
        let done = r#"{"executionId":"j","content":"a","finish_reason":"stop"}"#;
        assert_eq!(play(&[(name, done)]), [text("a"), STOP]);
    }

    #[test]
    fn what_follows_on_an_end_without_a_text_repeats_that_end_with_the_text_as_it_is_known_then() {
        let (name, uno) = ("execution:chunk", r#"{"executionId":"j","content":"uno"}"#);
        let events = play(&[
            (name, r#"{"executionId":"j","content":"one"}"#),
            ("completion_finished", r#"{"executionId":"j"}"#),
            (name, r#"{"executionId":"j","content":"one two"}"#),
            (name, uno),
            (name, r#"{"executionId":"j","content":"one two"}"#),
        ]);
        let revised = Revised { text: "uno".to_owned(), shown: "one two".to_owned() };
        let expected = [
            text("one"),
            RunEvent::Ending(None),
            text(" two"),
            RunEvent::Ending(None),
            RunEvent::Ending(Some(revised.into())),
            RunEvent::Ending(None),
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn a_payload_may_be_json_in_a_string() {
        let mut inside = String::new();
        let arguments = with_object(r#""{\"executionId\":\"j\"}",7"#, &mut inside);
        assert_eq!(Notice::read("execution:chunk", arguments).unwrap().ids, ["j"]);
    }

    #[test]
    fn what_is_about_no_execution_is_passed_over() {
        for payload in ["7", "null", "[]", "{}", r#"{"hello":"world"}"#, r#"{"executionId":7}"#] {
            assert!(Notice::read("hello", payload).is_none(), "{payload}");
        }
    }

    #[test]
    fn an_answer_over_the_limit_fails_by_name() {
        let mut progress = Progress::new(4);
        let packet = r#"{"executionId":"j","content":"12345"}"#;
        let events = progress.take(packet, &Notice::read("c", packet).unwrap());
        assert!(matches!(&events[..], [RunEvent::Failed(e)] if e.cause() == "over_limit"));
    }
}
