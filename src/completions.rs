//! `POST /v1/chat/completions`: the whole story of a request, in named steps.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::answer::Answer;
use crate::chat::{ChatRequest, FinishReason, Usage};
use crate::choices::{ChoiceEvent, Choices, Deadlines, Never, Next};
use crate::error::Error;
use crate::langfast::{LangFast, Subscription, prompt_meta};
use crate::models::{Model, Models};
use crate::openai::request::{self, ChatCall};
use crate::openai::response::{self, Chunks, Identity};
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
    /// Answers a request, streamed or whole.
    ///
    /// # Errors
    /// Whatever happened before the answer was begun; later failures are told in the stream.
    pub fn create(
        &self,
        models: &Models,
        body: &[u8],
        answer: &mut Answer,
        record: &mut Record,
    ) -> Result<(), Error> {
        let ChatCall { request, stream, include_usage } = request::parse(body)?;
        let model =
            models.find(&request.model).ok_or_else(|| Error::NoSuchModel(request.model.clone()))?;
        record.model = Some(model.slug.clone());
        let runs = self.start(&request, model, answer)?;
        let (client, stopping) = (answer.exchange().clone(), self.stopping.clone());
        let choices = Choices::new(runs, &request.stop, self.deadlines, client, stopping);
        let mut reply = Reply {
            identity: Identity::new(&request.model),
            prompt_tokens: estimate_prompt(
                request.messages.iter().map(|m| (m.role.name(), m.content.as_str())),
            ),
            choices,
            record,
            began: answer.exchange().accepted,
        };
        match stream {
            true => reply.stream(answer, include_usage, self.keep_alive),
            false => reply.whole(answer),
        }
    }

    /// Starts the request's runs, several at the same time, and names in the answer's head what they
    /// go without.
    fn start(
        &self,
        request: &ChatRequest,
        model: &Model,
        answer: &mut Answer,
    ) -> Result<Vec<Subscription>, Error> {
        let (meta, left_out) = prompt_meta(request, model)?;
        let ignored: Vec<&str> = request.ignored.iter().chain(&left_out).copied().collect();
        if let (true, Some(first)) = (self.strict, ignored.first()) {
            let message = format!("`{first}` would have no effect with the model `{}`", model.slug);
            return Err(Error::unsupported(*first, message));
        }
        if !ignored.is_empty() {
            answer.field("x-langfast2api-ignored", ignored.join(", "));
        }
        let start = || self.langfast.start(&model.slug, &meta);
        let first = start()?;
        let mut runs = vec![first];
        std::thread::scope(|scope| {
            let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, start);
            let others: Vec<_> = (1..request.n).map(spawn).collect();
            for thread in others {
                let thread = thread.map_err(|e| Error::Overloaded(format!("no thread: {e}")))?;
                runs.push(thread.join().map_err(|_| Error::Internal("a panic".to_owned()))??);
            }
            Ok(runs)
        })
    }
}

/// An answer in the making.
struct Reply<'a> {
    identity: Identity,
    prompt_tokens: u64,
    choices: Choices,
    record: &'a mut Record,
    began: Instant,
}

impl Reply<'_> {
    /// All choices at once, when all have ended.
    fn whole(&mut self, answer: &mut Answer) -> Result<(), Error> {
        let mut texts = vec![String::new(); self.choices.len()];
        let mut reasons = vec![FinishReason::Stop; self.choices.len()];
        while !self.choices.all_ended() {
            match self.choices.next(None)? {
                Next::Choice(at, ChoiceEvent::Text(text)) => {
                    self.note_first_text();
                    texts[at].push_str(&text);
                }
                Next::Choice(at, ChoiceEvent::Ended { reason, revised }) => {
                    reasons[at] = reason;
                    if let Some(text) = revised {
                        texts[at] = text;
                    }
                }
                Next::Choice(_, ChoiceEvent::Alive) | Next::Silence | Next::HalfClosed => {}
            }
        }
        let completion_tokens = texts.iter().map(|text| estimate_tokens(text)).sum();
        let usage = Usage { prompt_tokens: self.prompt_tokens, completion_tokens };
        let choices: Vec<_> = texts.into_iter().zip(reasons).collect();
        sent(answer.json(200, &response::completion(&self.identity, &choices, &usage)))
    }

    /// Each text as it comes, the choices interleaved.
    fn stream(
        &mut self,
        answer: &mut Answer,
        include_usage: bool,
        keep_alive: Duration,
    ) -> Result<(), Error> {
        let first = self.await_first_event()?;
        let chunks = Chunks::new(&self.identity, include_usage);
        let mut counters = vec![TokenCounter::default(); self.choices.len()];
        let mut events = EventStream::begin(answer);
        for at in 0..self.choices.len() {
            events.event(|data| chunks.role(data, at));
        }
        let mut next = Ok(first);
        let mut sent_at = Instant::now();
        loop {
            match next {
                Ok(Next::Choice(at, ChoiceEvent::Text(text))) => {
                    self.note_first_text();
                    counters[at].push(&text);
                    events.event(|data| chunks.text(data, at, &text));
                }
                Ok(Next::Choice(at, ChoiceEvent::Ended { reason, .. })) => {
                    events.event(|data| chunks.finish(data, at, reason));
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
        if include_usage {
            let completion_tokens = counters.iter().map(TokenCounter::total).sum();
            let usage = Usage { prompt_tokens: self.prompt_tokens, completion_tokens };
            events.event(|data| chunks.usage(data, &usage));
        }
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

/// Ends a stream that has begun with what went wrong; a client that has gone is not told.
fn fail(events: EventStream<'_>, error: Error) -> Result<(), Error> {
    if error == Error::ClientGone {
        return Err(error);
    }
    log::warn!("a stream ends with an error: {}", error.cause());
    sent(events.fail(|data| response::error_event(data, &error)))
}

/// A write can only fail because nobody reads any more.
fn sent<T>(result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|_| Error::ClientGone)
}
