//! The state of a run: turns what its events say into the parts of an answer.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

pub use super::notice::{Notice, range_within, with_object};
use super::outcome::RunStatus;
use super::socketio;
pub use super::texts::Manners;
use super::texts::{Place, Texts};
use super::transcript::{Abridged, Revised};
use crate::chat::{FinishReason, ReportedUsage};
use crate::error::{Error, Failure, Step};

/// An event of a run. Nothing follows a [`RunEvent::Finished`] or [`RunEvent::Failed`].
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent {
    /// Further text, never empty.
    Text(String),
    /// An event that brought no new text; the run is alive.
    Alive,
    /// The socket that brings the run's events is lost (`true`), or connected again. Nothing of the run
    /// itself.
    Cut(bool),
    /// The tokens that LangFast has counted, as far as it reports them; the last report counts. Comes with
    /// an end, before the text of the same event. Boxed, as everything long, to keep events small: a
    /// channel has room for 31 of them from the start.
    Usage(Box<ReportedUsage>),
    /// The run has said that it is done, but without its final text, which may be on its way. Repeated
    /// whenever that changes; a text that is not followed by it takes it back.
    Ending {
        /// Why, as far as is known.
        reason: FinishReason,
        /// The final text in case nothing follows, if it differs from what the texts add up to.
        revised: Option<Box<Revised>>,
    },
    /// The run is done.
    Finished {
        /// Why.
        reason: FinishReason,
        /// The final text, if it differs from what the texts add up to.
        revised: Option<Box<Revised>>,
    },
    /// The run has failed.
    Failed(Box<Error>),
}

impl RunEvent {
    /// Approximate memory of the event, in bytes.
    pub fn bytes(&self) -> usize {
        let text = match self {
            RunEvent::Text(text) => text.capacity(),
            RunEvent::Ending { revised: Some(revised), .. }
            | RunEvent::Finished { revised: Some(revised), .. } => {
                revised.text.capacity() + revised.shown.capacity()
            }
            _ => 0,
        };
        size_of::<RunEvent>() + text
    }
}

/// Most bytes of revised texts behind an end, as a multiple of the longest answer.
const MOST_REVISED: usize = 4;

/// Whether a packet says nothing but its text, at this place, and that its run, which `is_of_it`
/// recognises, goes on.
fn only_goes_on(
    abridged: &Abridged,
    place: Place,
    is_of_it: impl FnOnce(&Notice<'_>) -> bool,
) -> bool {
    let Some((name, arguments)) = socketio::event_in(&abridged.packet) else { return false };
    let notices = Notice::all(&name, arguments);
    let [notice] = &notices[..] else { return false };
    let says = notice
        .text()
        .and_then(|(place, text)| range_within(&abridged.packet, text).map(|range| (place, range)));
    !notice.is_of_batch
        && notice.outcome == RunStatus::InProgress
        && says == Some((place, abridged.text.clone()))
        && is_of_it(notice)
}

fn failed(failure: Failure) -> RunEvent {
    RunEvent::Failed(Error::upstream(Step::Run, failure).into())
}

/// The state of one run, as its events have it so far.
#[derive(Debug)]
pub struct Progress {
    texts: Option<Texts>,
    /// Texts at a place where none are expected, which count if none come where they are.
    aside: Option<Box<Texts>>,
    manners: Arc<Manners>,
    /// Whether events of the run may have been missed.
    has_gap: bool,
    /// Whether any event has come.
    begun: bool,
    /// Whether any has told of a text, be it an empty one.
    is_text_told: bool,
    /// The reason, if the run has said that it is done, but its last text may follow.
    ending: Option<FinishReason>,
    /// Whether it has certainly said so.
    is_surely_ending: bool,
    /// The reason, and a hash, of the [`RunEvent::Ending`] that was told last, unless it was taken back.
    told_ending: Option<(FinishReason, u64)>,
    /// Bytes of all revised texts that were told.
    revised_bytes: usize,
    /// Tokens that are reported and not told yet.
    usage: Option<Box<ReportedUsage>>,
    ended: bool,
    limit: usize,
}

impl Progress {
    /// A run whose answer may have `limit` bytes of text.
    pub fn new(limit: usize) -> Progress {
        Progress::among(Arc::default(), limit)
    }

    /// The same among others, which have shown in what manner texts come.
    pub fn among(manners: Arc<Manners>, limit: usize) -> Progress {
        Progress {
            texts: None,
            aside: None,
            manners,
            has_gap: false,
            begun: false,
            is_text_told: false,
            ending: None,
            is_surely_ending: false,
            told_ending: None,
            revised_bytes: 0,
            usage: None,
            ended: false,
            limit,
        }
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
        let all = self.texts.iter().chain(self.aside.as_deref());
        all.map(Texts::bytes).sum()
    }

    /// Notes that events of the run may have been missed, because the socket was lost.
    pub fn note_gap(&mut self) {
        self.has_gap = true;
        self.texts.iter_mut().chain(self.aside.as_deref_mut()).for_each(Texts::note_gap);
    }

    /// Takes a packet that differs from the run's last one only by longer text, and maybe by what follows
    /// it without a meaning for the run, without parsing the text; returns `None` for any other packet.
    /// `is_of_it` tells whether a notice is about this run.
    pub fn grow(
        &mut self,
        packet: &[u8],
        is_of_it: impl FnOnce(&Notice<'_>) -> bool,
    ) -> Option<RunEvent> {
        if self.ending.is_some() || self.ended {
            return None;
        }
        let texts = self.texts.as_mut()?;
        let place = texts.place();
        let goes_on = |abridged: &Abridged| only_goes_on(abridged, place, is_of_it);
        let delta = texts.grow(packet, goes_on)?;
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
        self.is_text_told |= notice.tells_of_text();
        let delta = self.take_text(packet, notice);
        if let Some(failed) = self.over_limit() {
            return vec![failed];
        }
        let mut events = Vec::with_capacity(2);
        self.usage = notice.usage.map(Box::new).or(self.usage.take());
        let has_text = !delta.is_empty();
        if has_text {
            events.push(RunEvent::Text(delta));
        }
        self.note_ending(&notice.outcome, has_text);
        let is_as_told = !has_text && notice.text().is_none();
        let end = match &notice.outcome {
            RunStatus::Completed(reason) => Some(self.finished(*reason)),
            RunStatus::Failed(why) => Some(failed(why.clone())),
            _ => None,
        };
        if let Some(end) = end {
            self.tell_usage(&mut events);
            self.end();
            events.push(end);
        } else if let Some(reason) = self.ending {
            // All of the text would be read again for each event behind the end.
            let is_told = self.told_ending.is_some_and(|(told, _)| told == reason);
            if !(is_as_told && is_told && self.usage.is_none()) {
                self.tell_ending(reason, has_text, &mut events);
            }
        }
        if events.is_empty() {
            events.push(RunEvent::Alive);
        }
        events
    }

    /// Tells that the run has said it is done, unless that was told already and nothing has changed since:
    /// events wait for a client that reads slowly, and each may hold the whole text.
    fn tell_ending(&mut self, reason: FinishReason, has_text: bool, events: &mut Vec<RunEvent>) {
        let revised = self.revised();
        let mut mark = DefaultHasher::new();
        (reason, revised.as_ref().map(|revised| (&revised.text, &revised.shown))).hash(&mut mark);
        let mark = Some((reason, mark.finish()));
        if self.told_ending == mark && !has_text && self.usage.is_none() {
            return;
        }
        self.told_ending = mark;
        self.revised_bytes += revised.as_ref().map_or(0, |revised| revised.text.len());
        if self.revised_bytes > MOST_REVISED * self.limit {
            self.end();
            let why = "its text was revised again and again after its end".to_owned();
            return events.push(failed(Failure::OverLimit(why)));
        }
        self.tell_usage(events);
        events.push(RunEvent::Ending { reason, revised });
    }

    /// Tells what is reported of tokens, before a text of the same event: that may be all that is wanted.
    fn tell_usage(&mut self, events: &mut Vec<RunEvent>) {
        if let Some(usage) = self.usage.take() {
            events.insert(0, RunEvent::Usage(usage));
        }
    }

    /// Takes the text of a notice, and its end as far as it concerns the text; returns what is new.
    fn take_text(&mut self, packet: &str, notice: &Notice<'_>) -> String {
        // Text beside a failure may be the failure's message.
        let text = notice.text().filter(|_| !notice.is_failure());
        let is_last = matches!(notice.outcome, RunStatus::Completed(_));
        let may_be_last =
            matches!(notice.outcome, RunStatus::Ending(_) | RunStatus::MaybeEnding(_));
        // Of a list of events, which may be other runs', only the own text is kept.
        let packet = text.filter(|_| notice.is_of_batch).map_or(packet, |(_, raw)| raw);
        let mut delta = match text {
            Some((place, raw)) => self.take_text_at(place, packet, raw, is_last),
            None if is_last => self.texts.as_mut().map_or_else(String::new, Texts::finish),
            None => String::new(),
        };
        if may_be_last {
            delta += &self.texts.as_mut().map_or_else(String::new, Texts::settle);
        }
        if is_last || may_be_last {
            delta += &self.take_aside(is_last);
        }
        let goes_on = notice.outcome == RunStatus::InProgress && !notice.is_of_batch;
        if let (Some(texts), true, true) = (&mut self.texts, text.is_some(), goes_on) {
            texts.may_grow();
        }
        delta
    }

    /// Takes a text, and returns what is new; nothing if its place is not that of the answer.
    fn take_text_at(&mut self, place: Place, packet: &str, raw: &str, is_last: bool) -> String {
        // Text that was unwrapped from a string is not a part of its packet.
        let (packet, range) = match range_within(packet, raw) {
            Some(range) => (packet.as_bytes(), range),
            None => (raw.as_bytes(), 0..raw.len()),
        };
        if raw.is_empty() && self.texts.is_none() {
            return String::new();
        }
        let new = || Texts::new(place, self.manners.clone(), self.has_gap);
        let is_aside =
            self.texts.is_none() && place != Place::Content && self.manners.is_known_form();
        let texts = match (&mut self.texts, is_aside) {
            (_, true) => &mut **self.aside.get_or_insert_with(|| Box::new(new())),
            // The known place is the answer's once there is text. Other texts do not count, unless the
            // last one goes on with it.
            (Some(texts), _) if texts.place() == Place::Content && place != Place::Content => {
                if !is_last {
                    return String::new();
                }
                if !texts.belongs(raw.as_bytes()) {
                    return texts.finish();
                }
                texts
            }
            (texts, _) => texts.get_or_insert_with(new),
        };
        let delta = match is_last {
            true => texts.complete(packet, range),
            false => texts.advance(packet, range),
        };
        // What is aside is shown when it counts.
        if is_aside { String::new() } else { delta }
    }

    /// Takes what was aside for the answer, if there is no other; returns its text.
    fn take_aside(&mut self, is_last: bool) -> String {
        if self.texts.is_some() {
            return String::new();
        }
        let Some(mut aside) = self.aside.take() else { return String::new() };
        let _ = if is_last { aside.finish() } else { aside.settle() };
        let text = aside.text();
        self.texts = Some(aside.into_shown());
        text
    }

    /// Notes whether the run is about to end.
    fn note_ending(&mut self, outcome: &RunStatus, has_text: bool) {
        match outcome {
            RunStatus::Ending(reason) => {
                (self.ending, self.is_surely_ending) = (Some(*reason), true);
            }
            RunStatus::MaybeEnding(reason) => self.ending = self.ending.or(Some(*reason)),
            _ if has_text && !self.is_surely_ending => {
                (self.ending, self.told_ending) = (None, None)
            }
            _ => {}
        }
    }

    /// The end of a run that is done: a failure if pieces of its text are missing, or if no event has told
    /// of a text and nothing explains that, for then it is likely under a name that is not known.
    fn finished(&self, reason: FinishReason) -> RunEvent {
        if !self.is_text_told && reason == FinishReason::Stop {
            let why = "the run is done, and no event of it had a text under a name that is known";
            return failed(Failure::Malformed(why.to_owned()));
        }
        if self.texts.as_ref().is_some_and(Texts::is_lost) {
            let why = "pieces of the text were sent while the socket was cut";
            return failed(Failure::Broken(why.to_owned()));
        }
        if let Some(texts) = &self.texts {
            self.manners.note_form(texts.place() == Place::Content);
        }
        RunEvent::Finished { reason, revised: self.revised() }
    }

    fn revised(&self) -> Option<Box<Revised>> {
        self.texts.as_ref()?.revised().map(Box::new)
    }

    /// Ends the run if its answer has become too long, and returns the failure.
    fn over_limit(&mut self) -> Option<RunEvent> {
        let length = self.texts.iter().chain(self.aside.as_deref()).map(Texts::length).max();
        if length.unwrap_or(0) <= self.limit {
            return None;
        }
        self.end();
        let why = format!("the answer is longer than {} MiB", self.limit >> 20);
        Some(failed(Failure::OverLimit(why)))
    }

    /// Notes that the run has ended, and frees its text.
    fn end(&mut self) {
        self.ended = true;
        (self.texts, self.aside) = (None, None);
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

    const ENDING: RunEvent = RunEvent::Ending { reason: FinishReason::Stop, revised: None };
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
        let mut progress = Progress::among(Manners::all_whole(), 8);
        let packet = |content: &str| format!(r#"{{"content":"{content}","executionId":"j"}}"#);
        let take = |progress: &mut Progress, packet: &str| {
            progress.take(packet, &Notice::read("execution:chunk", packet).unwrap())
        };
        assert_eq!(progress.grow(packet("a").as_bytes(), |_| true), None);
        assert_eq!(take(&mut progress, &packet("a")), [text("a")]);
        assert_eq!(progress.grow(packet("a").as_bytes(), |_| true), Some(RunEvent::Alive));
        assert_eq!(progress.grow(packet("abc").as_bytes(), |_| true), Some(text("bc")));
        assert_eq!(progress.grow(packet(r#"abcd","error":"e"#).as_bytes(), |_| true), None);
        let too_long = progress.grow(packet("abcdefghi").as_bytes(), |_| true);
        assert!(matches!(&too_long, Some(RunEvent::Failed(e)) if e.cause() == "over_limit"));
        assert_eq!(progress.grow(packet("abcdefghij").as_bytes(), |_| true), None);

        let mut progress = Progress::new(8);
        let finished = r#"{"executionId":"j","status":"completed","content":"a"}"#;
        assert_eq!(take(&mut progress, finished), [text("a"), STOP]);
        assert_eq!(progress.grow(finished.replace('a', "ab").as_bytes(), |_| true), None);
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
    fn a_run_that_is_done_and_never_told_of_a_text_is_a_failure_and_an_empty_one_is_not() {
        let end = |fields: &str| {
            let payload = format!(r#"{{"executionId":"j","status":"completed",{fields}}}"#);
            let one = (r#"{"executionId":"j","status":"in_progress"}"#, &*payload);
            play(&[("execution:chunk", one.0), ("execution:chunk", one.1)]).pop().unwrap()
        };
        let unknown = end(r#""finish_reason":"stop","words":"one two""#);
        assert!(matches!(&unknown, RunEvent::Failed(e) if e.cause() == "malformed"), "{unknown:?}");
        for empty in [r#""content":"""#, r#""content":null"#, r#""text":"""#] {
            assert_eq!(end(empty), STOP, "{empty}");
        }
        let cut = RunEvent::Finished { reason: FinishReason::Length, revised: None };
        assert_eq!(end(r#""finish_reason":"length""#), cut);
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
        assert_eq!(play(&[(name, r#"{"executionId":"j"}"#)]), [ENDING]);
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
            ENDING,
            text(" two"),
            ENDING,
            RunEvent::Ending { reason: FinishReason::Stop, revised: Some(revised.into()) },
            ENDING,
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn an_end_is_told_again_only_when_something_has_changed_and_revisions_have_an_end() {
        let name = "execution:chunk";
        let event = |content: &str| format!(r#"{{"executionId":"j","content":"{content}"}}"#);
        let (uno, dos) = (event("uno"), event("dos dos"));
        let mut progress = Progress::new(8);
        let mut take = |name: &str, payload: &str| {
            progress.take(payload, &Notice::read(name, payload).unwrap())
        };
        assert_eq!(take(name, &event("one two")), [text("one two")]);
        assert_eq!(take("completion_finished", r#"{"executionId":"j"}"#), [ENDING]);
        assert!(matches!(&take(name, &uno)[..], [RunEvent::Ending { revised: Some(_), .. }]));
        assert_eq!(take(name, &uno), [RunEvent::Alive], "it is as it was");
        let mut changed = (0..20).flat_map(|at| take(name, if at % 2 == 0 { &dos } else { &uno }));
        let failed = changed.find(|event| matches!(event, RunEvent::Failed(_)));
        assert!(matches!(failed, Some(RunEvent::Failed(why)) if why.cause() == "over_limit"));
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
