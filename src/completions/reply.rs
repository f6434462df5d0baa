//! Writes the answer of runs that have been started: whole, streamed, or for whoever asks for it later.
//!
//! Enters: runs under way, with a reader for each. Leaves: the answer in the client's dialect, and the facts
//! to log. It may not know how runs are started.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::choices::{ChoiceEvent, ChoiceNews, Choices, FailedRun};
use super::ignored::{self, Ignored};
use super::part::{Part, add_part};
use super::reader::Reader;
use super::starter::{KeptPrompt, Starter};
use super::tally::Tally;
use super::told::Told;
use super::{CompletionRecord, note_failure, prompt_tokens};
use crate::chat::json_mode::{self, Verdict};
use crate::chat::{FinishReason, ResponseFormat, Usage};
use crate::dialects::{Choice, Dialect, Ending, Events, Keeper, Start};
use crate::error::{Error, Failure, Step};
use crate::http::answer::Answer;
use crate::langfast::Revised;
use crate::observe::vitals::StreamPace;

/// Longest time that a stream's status line waits for the run's first event, so that an early failure
/// is an honest HTTP status.
const HOLD_STATUS: Duration = Duration::from_secs(10);

/// What a stream is told when the connection to LangFast is lost, and when it is there again.
const CUT: &str = "the connection to LangFast is lost; connecting again";
const GOES_ON: &str = "connected to LangFast again";

/// An answer whose runs have been started and which has to be written.
pub struct Reply {
    pub(super) dialect: Box<dyn Dialect>,
    pub(super) streamed: bool,
    /// Keeps the answer, if it is to be kept.
    pub(super) keeper: Option<Box<dyn Keeper>>,
    /// Set when the run may go on without the client.
    pub(super) goes_on: Arc<AtomicBool>,
    /// For each choice, the number of calls that a stream has told.
    pub(super) calls: Vec<usize>,
    pub(super) keep_alive: Duration,
    pub(super) format: Option<ResponseFormat>,
    pub(super) tally: Tally,
    pub(super) choices: Choices,
    pub(super) readers: Vec<Reader>,
    /// Starts further runs.
    pub(super) starter: Starter,
    /// Whether tool calls are mended by a second run.
    pub(super) tool_repair: bool,
    /// For each choice, its prompt, until the choice has text or if there is no memory for it.
    pub(super) kept: Vec<Option<KeptPrompt>>,
    /// What has no effect.
    pub(super) ignored: Ignored,
    /// Whether the answer's head is made, so that it can name no more fields.
    pub(super) head_is_out: bool,
    /// Whether the connection that brings the runs' events is lost.
    pub(super) is_cut: bool,
    pub(super) record: CompletionRecord,
    /// Measures how evenly a stream is written.
    pub(super) pace: StreamPace,
    pub(super) began: Instant,
}

impl Reply {
    /// Waits until something has come of an answer that is written whole, but not longer than `until`; true if
    /// so.
    pub fn comes_whole_by(&self, until: Instant) -> bool {
        let is_background = self.keeper.as_ref().is_some_and(|keeper| keeper.is_background());
        !self.streamed && !is_background && self.choices.has_news_by(until)
    }

    /// Writes the answer, streamed or whole, and returns the facts to log.
    ///
    /// # Errors
    /// Any failure before the answer was begun; a later one is sent in the stream.
    pub fn write(mut self, answer: &mut Answer) -> (CompletionRecord, Result<(), Error>) {
        let keeper = self.keeper.take();
        let result = match (keeper, self.streamed) {
            (keeper, true) => self.stream(answer, keeper),
            (Some(keeper), false) if keeper.is_background() => self.in_background(answer, keeper),
            (keeper, false) => self.whole(answer, keeper),
        };
        if result.is_err() && !self.head_is_out {
            // Whatever has failed, runs have been started: trying again would start them twice.
            answer.replace_field("x-should-retry", "false");
        }
        // Before anybody is told of it, and may ask again.
        if let Err(error) = &result {
            note_failure(&self.starter, &self.record, error);
        }
        self.record.usage = Some(self.usage());
        (self.record, result)
    }

    /// Writes all choices at once, when all have ended.
    fn whole(&mut self, answer: &mut Answer, keeper: Option<Box<dyn Keeper>>) -> Result<(), Error> {
        let (whole, verdict) = self.complete()?;
        if let Some(verdict) = verdict {
            answer.field("x-langfast2api-json", verdict.name());
        }
        if let Some(tools) = &self.record.tools {
            answer.field("x-langfast2api-tools", tools);
        }
        if keeper.is_some_and(|mut keeper| !keeper.whole(&whole)) {
            self.ignored.insert("store");
        }
        self.ignored.name_in(answer);
        sent(answer.json(200, &whole))
    }

    /// Answers that the response is under way, and completes it for whoever asks for it later.
    fn in_background(
        &mut self,
        answer: &mut Answer,
        mut keeper: Box<dyn Keeper>,
    ) -> Result<(), Error> {
        self.goes_on.store(true, Ordering::Relaxed);
        self.choices.leave_client();
        let start = self.start();
        self.dialect.begin(&mut Told::to_keeper(&mut *keeper), &start);
        if !keeper.is_kept() {
            let why =
                "other responses under way leave no room to store this one (--store-responses)";
            return Err(Error::Overloaded(why.to_owned()));
        }
        self.ignored.name_in(answer);
        sent(answer.json(200, &keeper.answer()))?;
        answer.end();
        match self.complete() {
            Ok((whole, _)) => drop(keeper.whole(&whole)),
            Err(error) => {
                log::warn!("a response in the background has failed: {}", error.cause());
                note_failure(&self.starter, &self.record, &error);
                self.dialect.fail(&mut Told::to_keeper(&mut *keeper), &error);
                self.record.broken = Some(error);
            }
        }
        Ok(())
    }

    /// Waits until all choices have ended; returns the whole answer and, where JSON was asked for, whether
    /// it is that.
    fn complete(&mut self) -> Result<(String, Option<Verdict>), Error> {
        let mut choices = vec![unwritten(); self.choices.len()];
        let mut parts = Vec::new();
        while !self.choices.all_ended() {
            let ChoiceNews::Choice(at, mut event) = self.choices.next(None)? else { continue };
            // Nothing has been sent: the final text is the answer, whatever came before it.
            if let ChoiceEvent::Ended { revised, .. } = &mut event {
                if let Some(revised) = revised.take() {
                    if self.readers[at].restart() {
                        choices[at] = unwritten();
                    }
                    self.readers[at].push(revised.text, &mut parts);
                }
            }
            if let Some(ending) = self.read(at, event, &mut parts)? {
                choices[at].ending = ending;
            }
            parts.drain(..).for_each(|part| add_part(&mut choices[at], part));
        }
        let verdict = self.format.as_ref().and_then(|format| check_json(&mut choices, format));
        self.note_tools();
        Ok((self.dialect.whole(&choices, &self.usage()), verdict))
    }

    /// Streams each part as it comes, the choices interleaved. A kept answer whose client goes is completed
    /// all the same: its run is paid.
    fn stream(
        &mut self,
        answer: &mut Answer,
        mut keeper: Option<Box<dyn Keeper>>,
    ) -> Result<(), Error> {
        // A request that wants no answer has no choices.
        let first = (!self.choices.is_empty()).then(|| self.await_first_event()).transpose()?;
        self.ignored.name_in(answer);
        self.head_is_out = true;
        self.calls = vec![0; self.choices.len()];
        self.goes_on.store(keeper.is_some(), Ordering::Relaxed);
        let start = self.start();
        let mut told = Told::to_client(answer, keeper.as_deref_mut());
        self.dialect.begin(&mut told, &start);
        let all = match first {
            Some(first) => self.tell_all(&mut told, Ok(first)),
            None => {
                self.dialect.end(&mut told, &self.tally.usage([].into_iter()));
                Ok(())
            }
        };
        match all {
            Ok(()) => sent(told.finish()),
            Err(Error::ClientGone) => {
                drop(told);
                answer.end();
                keeper.into_iter().for_each(|keeper| self.go_on_without_client(keeper));
                Err(Error::ClientGone)
            }
            Err(error) => self.fail(told, error),
        }
    }

    /// Completes a stream that its client has left, if there is a place for it.
    fn go_on_without_client(&mut self, mut keeper: Box<dyn Keeper>) {
        self.choices.leave_client();
        let is_adopted = keeper.adopt();
        let mut told = Told::to_keeper(&mut *keeper);
        let end = match is_adopted {
            true => {
                let next = self.choices.next(None);
                self.tell_all(&mut told, next)
            }
            false => Err(Error::ClientGone),
        };
        if let Err(error) = end {
            note_failure(&self.starter, &self.record, &error);
            self.dialect.fail(&mut told, &error);
        }
    }

    fn start(&self) -> Start {
        Start { choices: self.choices.len(), prompt_tokens: self.tally.prompt_tokens() }
    }

    /// Tells all events, of which `next` is the first, and the end.
    fn tell_all(
        &mut self,
        told: &mut Told<'_>,
        mut next: Result<ChoiceNews, Error>,
    ) -> Result<(), Error> {
        let mut parts = Vec::new();
        let mut sent_at = Instant::now();
        let mut brings_text = false;
        let mut told_cut = false;
        loop {
            match next {
                Ok(ChoiceNews::Choice(at, event)) => {
                    let ending = self.read(at, event, &mut parts)?;
                    brings_text |= !parts.is_empty();
                    for part in parts.drain(..) {
                        tell(&mut *self.dialect, told, at, &mut self.calls[at], part);
                    }
                    if let Some(ending) = ending {
                        self.dialect.finish(told, at, &ending);
                    }
                    if self.is_cut != told_cut {
                        told_cut = self.is_cut;
                        self.tell_cut(told);
                    }
                }
                // Only writing shows whether a client that sends no more still reads; but not every
                // client bears a comment.
                Ok(ChoiceNews::Silence | ChoiceNews::HalfClosed) if !self.keep_alive.is_zero() => {
                    self.dialect.keep_alive(told);
                }
                Ok(ChoiceNews::Silence | ChoiceNews::HalfClosed) => {}
                Err(error) => return Err(error),
            }
            if self.choices.all_ended() {
                break;
            }
            // Events that are there already go out in the same write.
            next = match self.choices.ready() {
                Some(ready) => ready,
                None => {
                    if sent(told.flush())? {
                        sent_at = Instant::now();
                        if std::mem::take(&mut brings_text) {
                            self.pace.note_write(sent_at);
                        }
                    }
                    let silence = (!self.keep_alive.is_zero()).then(|| sent_at + self.keep_alive);
                    self.choices.next(silence)
                }
            };
        }
        self.note_tools();
        self.dialect.end(told, &self.usage());
        Ok(())
    }

    /// Says that the connection to LangFast is lost, or there again, to a client that bears comments.
    fn tell_cut(&self, told: &mut Told<'_>) {
        if !self.keep_alive.is_zero() {
            told.comment(if self.is_cut { CUT } else { GOES_ON });
        }
    }

    /// Handles a choice's event: adds its parts to `parts`, and returns the ending if the choice has
    /// ended.
    ///
    /// # Errors
    /// The choice's run has failed, and no other one takes its place; or its final text does not begin with
    /// the text that was sent, so the client has no valid answer.
    fn read(
        &mut self,
        at: usize,
        event: ChoiceEvent,
        parts: &mut Vec<Part>,
    ) -> Result<Option<Ending>, Error> {
        let reader = &mut self.readers[at];
        let reason = match event {
            ChoiceEvent::Alive => return Ok(None),
            ChoiceEvent::Cut(is_cut) => {
                self.is_cut = is_cut;
                return Ok(None);
            }
            ChoiceEvent::Usage(usage) => {
                self.tally.note(at, &usage);
                return Ok(None);
            }
            ChoiceEvent::Restarted(further) => {
                self.tally.begin_further(at);
                // What was told of the run before says nothing of this one, which is told anew.
                self.is_cut = false;
                self.note_left_out(&further.left_out);
                self.dialect.note_done(&further.done);
                return Ok(None);
            }
            ChoiceEvent::Failed(failed) => {
                return self.try_again(at, *failed).map(|()| None);
            }
            ChoiceEvent::Text(text) => {
                self.kept[at] = None;
                if self.record.first_text.is_none() {
                    self.record.first_text = Some(self.began.elapsed());
                    self.starter.admission.note_answer();
                }
                reader.push(text, parts);
                if !reader.is_done() {
                    return Ok(None);
                }
                self.choices.end(at);
                FinishReason::Stop
            }
            ChoiceEvent::Ended { reason, revised: None } => {
                self.starter.admission.note_answer();
                reader.finish(parts);
                reason
            }
            ChoiceEvent::Ended { reason, revised: Some(revised) } => {
                let agreement = revised.agreement();
                let Revised { shown, text } = *revised;
                if !reader.revise(&shown, text, parts) {
                    log::warn!("a streamed text was revised: {agreement}");
                    return Err(Error::upstream(Step::Run, Failure::Revised));
                }
                reason
            }
        };
        let mended = self.run_again(at, reason);
        Ok((!mended).then(|| self.readers[at].end(reason, parts)))
    }

    /// Starts another run in the place of one that has failed before any text, without what the model has
    /// refused.
    ///
    /// # Errors
    /// The run's own, if it was not for something that a run can do without.
    fn try_again(&mut self, at: usize, failed: FailedRun) -> Result<(), Error> {
        let FailedRun { error, sent, tries } = failed;
        // Learnt from in any case, so that the next request is served.
        let may_try_again = self.starter.may_try_again(&error, &sent, tries);
        match &self.kept[at] {
            Some(kept) if may_try_again => {
                self.readers[at].restart();
                self.choices.replace(at, self.starter.start(kept.prompt().clone(), tries));
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Notes the fields that a further run was started without.
    fn note_left_out(&mut self, left_out: &[&'static str]) {
        for name in left_out.iter().map(|name| self.dialect.own_name(name)) {
            if self.ignored.insert(name) && self.head_is_out {
                log::info!("left out by a second try, too late for {}: {name}", ignored::HEADER);
            }
        }
    }

    /// Starts a second run for a choice whose tool calls are not valid; returns false if it needs none
    /// or has had one. If the run cannot be started, the first run's calls count.
    fn run_again(&mut self, at: usize, reason: FinishReason) -> bool {
        let prompt = self.tool_repair.then(|| self.readers[at].repair(reason));
        let Some(prompt) = prompt.flatten() else { return false };
        self.tally.prepare_second(at, prompt_tokens(&prompt, &self.starter.model.slug));
        self.choices.restart(at, self.starter.start(Arc::new(prompt), 0));
        true
    }

    /// Records the state of tool calls, the worst of all choices.
    fn note_tools(&mut self) {
        let Some(verdict) = self.readers.iter().filter_map(Reader::verdict).max() else { return };
        let mut state = verdict.name().to_owned();
        for (is_so, word) in [
            (self.readers.iter().any(Reader::repaired), "repaired-arguments"),
            (self.readers.iter().any(Reader::left_out), "text-left-out"),
        ] {
            if is_so {
                state = format!("{state}, {word}");
            }
        }
        self.record.tools = Some(state);
        self.record.verdict = Some(verdict.name());
    }

    fn usage(&self) -> Usage {
        self.tally.usage(self.readers.iter().map(Reader::tokens))
    }

    /// Ends a stream that has begun with an error event.
    fn fail(&mut self, mut told: Told<'_>, error: Error) -> Result<(), Error> {
        log::warn!("a stream ends with an error: {}", error.cause());
        note_failure(&self.starter, &self.record, &error);
        self.dialect.fail(&mut told, &error);
        self.record.broken = Some(error);
        sent(told.break_off())
    }

    fn await_first_event(&mut self) -> Result<ChoiceNews, Error> {
        let until = Instant::now() + HOLD_STATUS;
        loop {
            match self.choices.next(Some(until))? {
                // Nothing can be written yet; the front has its own way to find out whether the client
                // has gone.
                ChoiceNews::HalfClosed => {}
                // A run that another one takes the place of has begun nothing, tokens that are counted may be
                // a failed run's, and the connection's state is none of the run.
                ChoiceNews::Choice(
                    at,
                    event @ (ChoiceEvent::Failed(_)
                    | ChoiceEvent::Restarted(_)
                    | ChoiceEvent::Cut(_)
                    | ChoiceEvent::Usage(_)),
                ) => {
                    self.read(at, event, &mut Vec::new())?;
                }
                first => return Ok(first),
            }
        }
    }
}

/// A choice of which nothing has come yet.
fn unwritten() -> Choice {
    let ending = Ending { reason: FinishReason::Stop, stop: None };
    Choice { text: String::new(), calls: Vec::new(), ending }
}

/// Puts a part of a choice that has made `calls` calls so far into `events`.
fn tell(
    dialect: &mut dyn Dialect,
    events: &mut dyn Events,
    at: usize,
    calls: &mut usize,
    part: Part,
) {
    match part {
        Part::Text(text) => dialect.text(events, at, &text),
        Part::CallBegin(call) => {
            dialect.call_begin(events, at, *calls, &call);
            *calls += 1;
        }
        Part::Arguments(piece) => dialect.call_arguments(events, at, *calls - 1, &piece),
        Part::CallEnd => dialect.call_end(events, at, *calls - 1),
    }
}

/// Checks the text of every choice without calls; returns the worst verdict.
fn check_json(choices: &mut [Choice], format: &ResponseFormat) -> Option<Verdict> {
    let texts = choices.iter_mut().filter(|choice| choice.calls.is_empty());
    texts.filter_map(|choice| json_mode::check(&mut choice.text, format)).max()
}

/// Turns a failed write into [`Error::ClientGone`]: it can only fail because nobody reads any more.
fn sent<T>(result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|_| Error::ClientGone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::ToolCall;
    use crate::dialects::openai::response::{Calls, ChatAnswer, Identity};
    use crate::dialects::stories::{Kept, Told};
    use serde_json::{Value, json};

    #[test]
    fn parts_are_told_in_the_dialect_with_the_calls_of_each_choice_numbered() {
        let mut dialect = ChatAnswer::new(Identity::new("chatcmpl-", "m"), false, Calls::Tools);
        let (mut kept, mut calls) = (Kept::default(), [0; 2]);
        let call = |name: &str| {
            let (id, arguments) = (format!("call_{name}"), String::new());
            Part::CallBegin(ToolCall { id, name: name.to_owned(), arguments })
        };
        for (at, part) in [
            (0, Part::Text("a".to_owned())),
            (0, call("b")),
            (1, call("c")),
            (0, Part::Arguments("{}".to_owned())),
            (0, Part::CallEnd),
            (0, call("d")),
            (1, Part::CallEnd),
            (0, Part::Arguments("[]".to_owned())),
            (0, Part::CallEnd),
        ] {
            tell(&mut dialect, &mut kept, at, &mut calls[at], part);
        }
        assert_eq!(calls, [2, 1]);
        let told = kept.0.iter().map(|told| {
            let Told::Event(None, data) = told else { panic!("{told:?}") };
            let chunk: Value = serde_json::from_str(data).unwrap();
            let choice = &chunk["choices"][0];
            let call = &choice["delta"]["tool_calls"][0];
            let function = &call["function"];
            json!([choice["index"], call["index"], function["name"], function["arguments"]])
        });
        let expected = [
            json!([0, null, null, null]),
            json!([0, 0, "b", ""]),
            json!([1, 0, "c", ""]),
            json!([0, 0, null, "{}"]),
            json!([0, 1, "d", ""]),
            json!([0, 1, null, "[]"]),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn of_the_json_of_several_choices_the_worst_counts_and_calls_are_none() {
        let text = |text: &str| Choice { text: text.to_owned(), ..unwritten() };
        let (id, name, arguments) = ("call_1".to_owned(), "a".to_owned(), "{".to_owned());
        let call = Choice { calls: vec![ToolCall { id, name, arguments }], ..unwritten() };
        let check = |choices: &mut [Choice]| {
            check_json(choices, &ResponseFormat::JsonObject).map(Verdict::name)
        };
        assert_eq!(check(&mut [call.clone()]), None);
        assert_eq!(check(&mut [text("{}"), call.clone()]), Some("valid"));
        let mut mended = [text("{}"), text("```json\n{\"a\": 1}\n```")];
        assert_eq!(check(&mut mended), Some("repaired"));
        assert_eq!(mended[1].text, "{\"a\": 1}");
        assert_eq!(check(&mut [text("no"), text("{}")]), Some("not-json"));
    }

    #[test]
    fn a_write_fails_only_because_the_client_has_gone() {
        for kind in [io::ErrorKind::TimedOut, io::ErrorKind::BrokenPipe] {
            assert_eq!(sent::<()>(Err(kind.into())), Err(Error::ClientGone));
        }
        assert_eq!(sent(Ok(true)), Ok(true));
    }
}
