//! The whole story of a request for text, in named steps, whatever dialect it came in.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::answer::Answer;
use crate::chat::{ChatRequest, FinishReason, Prompt, ResponseFormat, Usage};
use crate::choices::{ChoiceEvent, Choices, Deadlines, Never, Next};
use crate::dialect::{Call, Choice, Dialect, Ending, Start};
use crate::error::Error;
use crate::json_mode::{self, Verdict};
use crate::langfast::{Gone, LangFast, Subscription, prompt_meta};
use crate::models::{Model, Models};
use crate::reader::{Part, Reader, add_part};
use crate::sse::EventStream;
use crate::tools;
use crate::usage::estimate_prompt;

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
        call: &mut Call,
        answer: &mut Answer,
        record: &mut Record,
    ) -> Result<(), Error> {
        let [first, ..] = &call.requests[..] else {
            return Err(Error::Internal("a call without a request".to_owned()));
        };
        let model =
            models.find(&first.model).ok_or_else(|| Error::NoSuchModel(first.model.clone()))?;
        record.model = Some(model.slug.clone());
        let plan = |request| tools::plan(request, model);
        let prompts: Vec<Prompt> = call.requests.iter().map(plan).collect::<Result<_, _>>()?;
        let runs = self.start(&call.requests, &prompts, model, answer)?;
        let (client, stopping) = (answer.exchange().clone(), self.stopping.clone());
        let mut reply = Reply {
            dialect: &mut *call.dialect,
            format: first.sampling.response_format.as_ref(),
            prompt_tokens: prompts.iter().map(prompt_tokens).sum(),
            readers: runs.iter().map(|_| Reader::new(&first.stop)).collect(),
            choices: Choices::new(runs, self.deadlines, client, stopping),
            stops: &first.stop,
            record,
            began: answer.exchange().accepted,
        };
        match call.stream {
            true => reply.stream(answer, self.keep_alive),
            false => reply.whole(answer),
        }
    }

    /// The estimated tokens of a request's prompt, its tools included; nothing is run.
    ///
    /// # Errors
    /// What [`Completions::create`] would refuse it for.
    pub fn estimate(&self, models: &Models, request: &ChatRequest) -> Result<u64, Error> {
        let model =
            models.find(&request.model).ok_or_else(|| Error::NoSuchModel(request.model.clone()))?;
        Ok(prompt_tokens(&tools::plan(request, model)?))
    }

    /// Starts the runs, several at the same time, and names in the answer's head what they go
    /// without.
    fn start(
        &self,
        requests: &[ChatRequest],
        prompts: &[Prompt],
        model: &Model,
        answer: &mut Answer,
    ) -> Result<Vec<Subscription>, Error> {
        let mut metas = Vec::new();
        let mut ignored: Vec<&str> = Vec::new();
        for (request, prompt) in requests.iter().zip(prompts) {
            let (meta, left_out) = prompt_meta(prompt, model)?;
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

fn prompt_tokens(prompt: &Prompt) -> u64 {
    estimate_prompt(prompt.messages.iter().map(|m| (m.role.name(), m.content.as_str())))
}

/// An answer in the making.
struct Reply<'a> {
    dialect: &'a mut dyn Dialect,
    format: Option<&'a ResponseFormat>,
    prompt_tokens: u64,
    choices: Choices,
    readers: Vec<Reader>,
    stops: &'a [String],
    record: &'a mut Record,
    began: Instant,
}

impl Reply<'_> {
    /// All choices at once, when all have ended.
    fn whole(&mut self, answer: &mut Answer) -> Result<(), Error> {
        let mut choices = vec![unwritten(); self.choices.len()];
        let mut parts = Vec::new();
        while !self.choices.all_ended() {
            let Next::Choice(at, event) = self.choices.next(None)? else { continue };
            if let ChoiceEvent::Ended { revised: Some(text), .. } = &event {
                choices[at] = unwritten();
                self.readers[at] = Reader::new(self.stops);
                self.readers[at].push(text.clone(), &mut parts);
            }
            if let Some(ending) = self.read(at, event, &mut parts) {
                choices[at].ending = ending;
            }
            parts.drain(..).for_each(|part| add_part(&mut choices[at], part));
        }
        if let Some(verdict) = self.format.and_then(|format| check_json(&mut choices, format)) {
            answer.field("x-langfast2api-json", verdict.name());
        }
        let usage = self.usage();
        sent(answer.json(200, &self.dialect.whole(&choices, &usage)))
    }

    /// Each part as it comes, the choices interleaved.
    fn stream(&mut self, answer: &mut Answer, keep_alive: Duration) -> Result<(), Error> {
        let first = self.await_first_event()?;
        let mut calls = vec![0; self.choices.len()];
        let mut parts = Vec::new();
        let mut events = EventStream::begin(answer);
        let start = Start { choices: self.choices.len(), prompt_tokens: self.prompt_tokens };
        self.dialect.begin(&mut events, &start);
        let mut next = Ok(first);
        let mut sent_at = Instant::now();
        loop {
            match next {
                Ok(Next::Choice(at, event)) => {
                    let ending = self.read(at, event, &mut parts);
                    for part in parts.drain(..) {
                        tell(self.dialect, &mut events, at, &mut calls[at], part);
                    }
                    if let Some(ending) = ending {
                        self.dialect.finish(&mut events, at, &ending);
                    }
                }
                Ok(Next::Silence | Next::HalfClosed) => self.dialect.keep_alive(&mut events),
                Err(error) => return self.fail(events, error),
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
        self.dialect.end(&mut events, &self.usage());
        sent(events.finish())
    }

    /// Takes a choice's event: adds to `parts` what it brings, and gives the ending if it is one.
    fn read(&mut self, at: usize, event: ChoiceEvent, parts: &mut Vec<Part>) -> Option<Ending> {
        let reader = &mut self.readers[at];
        match event {
            ChoiceEvent::Alive => None,
            ChoiceEvent::Text(text) => {
                self.record.first_text.get_or_insert_with(|| self.began.elapsed());
                reader.push(text, parts);
                reader.is_done().then(|| {
                    self.choices.end(at);
                    reader.ending(FinishReason::Stop)
                })
            }
            ChoiceEvent::Ended { reason, .. } => {
                reader.finish(parts);
                Some(reader.ending(reason))
            }
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.readers.iter().map(Reader::tokens).sum(),
        }
    }

    /// Ends a stream that has begun with what went wrong; a client that has gone is not told.
    fn fail(&mut self, mut events: EventStream<'_>, error: Error) -> Result<(), Error> {
        if error == Error::ClientGone {
            return Err(error);
        }
        log::warn!("a stream ends with an error: {}", error.cause());
        self.dialect.fail(&mut events, &error);
        sent(events.break_off())
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
}

/// A choice of which nothing has come yet.
fn unwritten() -> Choice {
    let ending = Ending { reason: FinishReason::Stop, stop: None };
    Choice { text: String::new(), calls: Vec::new(), ending }
}

/// Tells a part of a choice that has made `calls` calls so far.
fn tell(
    dialect: &mut dyn Dialect,
    events: &mut EventStream<'_>,
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

/// Checks the text of every choice that is no call; the worst verdict counts.
fn check_json(choices: &mut [Choice], format: &ResponseFormat) -> Option<Verdict> {
    let texts = choices.iter_mut().filter(|choice| choice.calls.is_empty());
    texts.filter_map(|choice| json_mode::check(&mut choice.text, format)).max()
}

/// A write can only fail because nobody reads any more.
fn sent<T>(result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|_| Error::ClientGone)
}
