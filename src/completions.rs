//! The whole story of a request for text, in named steps, whatever dialect it came in.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::answer::Answer;
use crate::chat::{ChatRequest, FinishReason, ResponseFormat, Usage};
use crate::choices::{ChoiceEvent, Choices, Deadlines, Never, Next};
use crate::dialect::{Call, Dialect};
use crate::error::Error;
use crate::json_mode::{self, Verdict};
use crate::langfast::{Gone, LangFast, Subscription, prompt_meta};
use crate::models::{Model, Models};
use crate::sse::EventStream;
use crate::usage::{TokenCounter, estimate_prompt, estimate_tokens};

/// A stream's status line waits for the run's first event, so that an early failure is an honest HTTP
/// status; but no longer than this.
const HOLD_STATUS: Duration = Duration::from_secs(10);

/// What completions need.
pub struct Completions {
    /// The way to LangFast.
    pub langfast: LangFast,
    /// How long a run may take.
    pub deadlines: Deadlines,
    /// Whether what LangFast cannot do is refused instead of left out.
    pub strict: bool,
    /// Silence after which a stream gets a comment; zero is never.
    pub keep_alive: Duration,
    /// Disconnected when the server has waited long enough for its answers to end.
    pub stopping: Receiver<Never>,
}

/// What the log says of a completion.
#[derive(Debug, Default)]
pub struct Record {
    /// LangFast's name of the model.
    pub model: Option<String>,
    /// From the request to the first text.
    pub first_text: Option<Duration>,
}

impl Completions {
    /// Answers a call, streamed or whole.
    ///
    /// # Errors
    /// Whatever happened before the answer was begun; later failures are told in the stream.
    pub fn create(
        &self,
        models: &Models,
        call: &Call,
        answer: &mut Answer,
        record: &mut Record,
    ) -> Result<(), Error> {
        let [first, ..] = &call.requests[..] else {
            return Err(Error::Internal("a call without a request".to_owned()));
        };
        let model =
            models.find(&first.model).ok_or_else(|| Error::NoSuchModel(first.model.clone()))?;
        record.model = Some(model.slug.clone());
        let runs = self.start(&call.requests, model, answer)?;
        let (client, stopping) = (answer.exchange().clone(), self.stopping.clone());
        let mut reply = Reply {
            dialect: &*call.dialect,
            format: first.sampling.response_format.as_ref(),
            prompt_tokens: call.requests.iter().map(prompt_tokens).sum(),
            choices: Choices::new(runs, &first.stop, self.deadlines, client, stopping),
            record,
            began: answer.exchange().accepted,
        };
        match call.stream {
            true => reply.stream(answer, self.keep_alive),
            false => reply.whole(answer),
        }
    }

    /// Starts the runs, several at the same time, and names in the answer's head what they go
    /// without.
    fn start(
        &self,
        requests: &[ChatRequest],
        model: &Model,
        answer: &mut Answer,
    ) -> Result<Vec<Subscription>, Error> {
        let mut metas = Vec::new();
        let mut ignored: Vec<&str> = Vec::new();
        for request in requests {
            let (meta, left_out) = prompt_meta(request, model)?;
            metas.extend(std::iter::repeat_n(meta, request.n));
            ignored.extend(request.ignored.iter().chain(&left_out));
        }
        ignored.sort_unstable();
        ignored.dedup();
        if let (true, Some(first)) = (self.strict, ignored.first()) {
            let message = format!("`{first}` would have no effect with the model `{}`", model.slug);
            return Err(Error::unsupported(*first, message));
        }
        if !ignored.is_empty() {
            answer.field("x-langfast2api-ignored", ignored.join(", "));
        }
        let client = answer.exchange().clone();
        let gone: Gone = Arc::new(move || client.client_has_gone());
        let start = |meta| self.langfast.start(&model.slug, meta, &gone);
        std::thread::scope(|scope| {
            // The first run is this thread's own.
            let spawn = |meta| std::thread::Builder::new().spawn_scoped(scope, move || start(meta));
            let others: Vec<_> = metas[1..].iter().map(spawn).collect();
            let mut runs = vec![start(&metas[0])];
            for thread in others {
                let run = thread.map_err(|e| Error::Overloaded(format!("no thread: {e}")));
                let panicked = || Error::Internal("a panic".to_owned());
                runs.push(run.and_then(|thread| thread.join().map_err(|_| panicked())?));
            }
            if runs.iter().any(Result::is_ok) && runs.iter().any(Result::is_err) {
                // Some have been started: trying again would start them twice.
                answer.field("x-should-retry", "false");
            }
            runs.into_iter().collect()
        })
    }
}

fn prompt_tokens(request: &ChatRequest) -> u64 {
    estimate_prompt(request.messages.iter().map(|m| (m.role.name(), m.content.as_str())))
}

/// An answer in the making.
struct Reply<'a> {
    dialect: &'a dyn Dialect,
    format: Option<&'a ResponseFormat>,
    prompt_tokens: u64,
    choices: Choices,
    record: &'a mut Record,
    began: Instant,
}

impl Reply<'_> {
    /// All choices at once, when all have ended.
    fn whole(&mut self, answer: &mut Answer) -> Result<(), Error> {
        let mut choices = vec![(String::new(), FinishReason::Stop); self.choices.len()];
        while !self.choices.all_ended() {
            match self.choices.next(None)? {
                Next::Choice(at, ChoiceEvent::Text(text)) => {
                    self.note_first_text();
                    choices[at].0.push_str(&text);
                }
                Next::Choice(at, ChoiceEvent::Ended { reason, revised }) => {
                    choices[at].1 = reason;
                    if let Some(text) = revised {
                        choices[at].0 = text;
                    }
                }
                Next::Choice(_, ChoiceEvent::Alive) | Next::Silence | Next::HalfClosed => {}
            }
        }
        if let Some(verdict) = self.format.and_then(|format| check_json(&mut choices, format)) {
            answer.field("x-langfast2api-json", verdict.name());
        }
        let completion_tokens = choices.iter().map(|(text, _)| estimate_tokens(text)).sum();
        let usage = Usage { prompt_tokens: self.prompt_tokens, completion_tokens };
        sent(answer.json(200, &self.dialect.whole(&choices, &usage)))
    }

    /// Each text as it comes, the choices interleaved.
    fn stream(&mut self, answer: &mut Answer, keep_alive: Duration) -> Result<(), Error> {
        let first = self.await_first_event()?;
        let mut counters = vec![TokenCounter::default(); self.choices.len()];
        let mut events = EventStream::begin(answer);
        self.dialect.begin(&mut events, self.choices.len());
        let mut next = Ok(first);
        let mut sent_at = Instant::now();
        loop {
            match next {
                Ok(Next::Choice(at, ChoiceEvent::Text(text))) => {
                    self.note_first_text();
                    counters[at].push(&text);
                    self.dialect.text(&mut events, at, &text);
                }
                Ok(Next::Choice(at, ChoiceEvent::Ended { reason, .. })) => {
                    self.dialect.finish(&mut events, at, reason);
                }
                Ok(Next::Choice(_, ChoiceEvent::Alive)) => {}
                Ok(Next::Silence | Next::HalfClosed) => events.comment(),
                Err(error) => return fail(events, error),
            }
            if self.choices.all_ended() {
                break;
            }
            // What is there already goes out in the same write.
            next = match self.choices.ready() {
                Some(ready) => ready,
                None => {
                    if sent(events.flush())? {
                        sent_at = Instant::now();
                    }
                    let silence = (!keep_alive.is_zero()).then(|| sent_at + keep_alive);
                    self.choices.next(silence)
                }
            };
        }
        let completion_tokens = counters.iter().map(TokenCounter::total).sum();
        let usage = Usage { prompt_tokens: self.prompt_tokens, completion_tokens };
        self.dialect.end(&mut events, &usage);
        sent(events.done())
    }

    fn await_first_event(&mut self) -> Result<Next, Error> {
        let until = Instant::now() + HOLD_STATUS;
        loop {
            match self.choices.next(Some(until))? {
                // Nothing can be written yet: the front has its own way to find out.
                Next::HalfClosed => {}
                first => return Ok(first),
            }
        }
    }

    fn note_first_text(&mut self) {
        self.record.first_text.get_or_insert_with(|| self.began.elapsed());
    }
}

/// Checks every choice's text; the worst verdict counts.
fn check_json(choices: &mut [(String, FinishReason)], format: &ResponseFormat) -> Option<Verdict> {
    choices.iter_mut().filter_map(|(text, _)| json_mode::check(text, format)).max()
}

/// Ends a stream that has begun with what went wrong; a client that has gone is not told.
fn fail(events: EventStream<'_>, error: Error) -> Result<(), Error> {
    if error == Error::ClientGone {
        return Err(error);
    }
    log::warn!("a stream ends with an error: {}", error.cause());
    sent(events.fail(&error.body()))
}

/// A write can only fail because nobody reads any more.
fn sent<T>(result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|_| Error::ClientGone)
}
