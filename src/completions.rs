//! Answers a request for text, in named steps, whatever dialect it came in.
//!
//! Enters: a [`CompletionRequest`]. Leaves: the answer, whole or streamed, on the client's own socket.
//! It may not know routes, keys or threads of the server.

pub mod choices;
mod ignored;
pub mod reader;
mod repeats;
pub mod starter;
mod tally;
mod told;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::chat::json_mode::{self, Verdict};
use crate::chat::media::{self, Images, vision};
use crate::chat::models::{Model, Models};
use crate::chat::tools::nonce::Secret;
use crate::chat::tools::{self, Plan};
use crate::chat::usage::estimate_prompt;
use crate::chat::{ChatRequest, FinishReason, LeftOut, Prompt, ResponseFormat, Usage};
use crate::completions::choices::{ChoiceEvent, ChoiceNews, Choices, FailedRun};
use crate::completions::ignored::Ignored;
use crate::completions::reader::{Part, Reader, add_part};
pub use crate::completions::repeats::{Asked, Repeats};
use crate::completions::starter::{Fitted, KeptPrompt, SecondTries, StartedRun, Starter};
use crate::completions::tally::Tally;
use crate::completions::told::Told;
use crate::dialects::{Choice, CompletionRequest, Dialect, Ending, Events, Keeper, Start};
use crate::error::{Error, Failure, Step};
use crate::http::answer::Answer;
use crate::langfast::{Deadlines, LangFast, Listener, Revised, Unwanted};
use crate::observe::vitals::{StreamPace, Vitals};
use crate::sync::Alarm;

/// Longest time that a stream's status line waits for the run's first event, so that an early failure
/// is an honest HTTP status.
const HOLD_STATUS: Duration = Duration::from_secs(10);

/// What a stream is told when the connection to LangFast is lost, and when it is there again.
const CUT: &str = "the connection to LangFast is lost; connecting again";
const GOES_ON: &str = "connected to LangFast again";

/// The client of LangFast and the settings that every completion needs.
pub struct Completions {
    /// The client of LangFast.
    pub langfast: Arc<LangFast>,
    /// Time limits of a run.
    pub deadlines: Deadlines,
    /// Whether a field that LangFast cannot act on is refused instead of left out.
    pub strict: bool,
    /// Tries again without what a model refuses; `None` if that is an error instead.
    pub second_tries: Option<Arc<SecondTries>>,
    /// Silence after which a stream gets a comment; zero means never.
    pub keep_alive: Duration,
    /// What becomes of images in messages.
    pub images: Images,
    /// Whether a run with invalid tool calls is repeated once, to have them mended.
    pub tool_repair: bool,
    /// What the markers of calls are made of.
    pub marker_secret: Secret,
    /// Raised when the server no longer waits for its answers to end.
    pub stopping: Arc<Alarm>,
    /// The requests that have just failed.
    pub repeats: Arc<Repeats>,
    /// Where the pace of streams is noted.
    pub vitals: Arc<Vitals>,
}

/// The facts of a completion that are logged, and the request as it is known again.
#[derive(Default)]
pub struct CompletionRecord {
    /// The request, if its failure is to be remembered.
    pub asked: Option<Asked>,
    /// What the markers of this client's calls are made of; the server's if it is not known.
    pub marker_secret: Option<Secret>,
    /// The model.
    pub model: Option<Arc<Model>>,
    /// Time from the request to the first text.
    pub first_text: Option<Duration>,
    /// The state of tool calls, whether arguments were repaired, and whether text behind them was left out.
    pub tools: Option<String>,
    /// The state alone, one of [`reader::CallVerdict`]'s names.
    pub verdict: Option<&'static str>,
    /// The tokens of the prompt, and of the answer as far as it came.
    pub usage: Option<Usage>,
    /// Why a stream broke off.
    pub broken: Option<Error>,
    /// The lane of the WebSocket's message that is answered; empty if it has no name.
    pub lane: String,
}

impl Completions {
    /// Starts the runs of a request, whose answer is then written by [`Reply::write`].
    ///
    /// # Errors
    /// The step that failed, and how. [`Error::Remembered`]: nothing was started, since the quota is spent
    /// or the same request has just failed.
    pub fn create(
        &self,
        models: &Models,
        mut request: CompletionRequest,
        answer: &mut Answer,
        record: &mut CompletionRecord,
    ) -> Result<Reply, Error> {
        let [first, ..] = &request.chats[..] else {
            return Err(Error::Internal("a request without a chat".to_owned()));
        };
        let model = models.serve(&first.model)?;
        record.model = Some(model.clone());
        record.asked.as_ref().map_or(Ok(()), Asked::check)?;
        let (stops, format) = (first.stop.clone(), first.sampling.response_format.clone());
        let mut left_out = Vec::new();
        for chat in &mut request.chats {
            let question = media::newest_question(&chat.turns);
            if self.strict {
                refuse_left_out(chat, question)?;
            }
            left_out.extend(chat.left_out.drain(..).map(|left| left.place));
            left_out.extend(media::settle(&mut chat.turns, &model.slug, question)?);
        }
        let secret = record.marker_secret.as_ref().unwrap_or(&self.marker_secret);
        let plan = |chat| tools::plan(chat, &model, secret);
        let plans: Vec<Plan> = request.chats.iter_mut().map(plan).collect();
        let goes_on = Arc::new(AtomicBool::new(false));
        let unwanted = self.unwanted(answer, &goes_on);
        // A whole answer is made of all texts together, unless one of them may end it.
        let wants_each = request.stream || !stops.is_empty();
        let listener = Listener { bell: answer.exchange().bell().clone(), wants_each };
        let starter = Starter {
            langfast: self.langfast.clone(),
            admission: Arc::new(self.langfast.admit(&model.slug, &unwanted)?),
            model: model.clone(),
            second_tries: self.second_tries.clone().filter(|_| !self.strict),
            unwanted,
            listener: listener.clone(),
            request_id: answer.exchange().request_id.clone(),
        };
        let mut ignored = Ignored::at(left_out);
        let runs = self.start(&request, &plans, &starter, &mut ignored, answer);
        let runs = runs.inspect_err(|error| note_failure(&starter, record, error))?;
        if let Some(run) = runs.first() {
            request.dialect.note_done(&run.sent.sampling());
        }
        let prompts = plans.iter().map(|plan| prompt_tokens(&plan.prompt, &model.slug));
        let tally = Tally::new(prompts.zip(request.chats.iter().map(|chat| chat.n)));
        let client = answer.exchange().clone();
        let kept = kept_prompts(&request.chats, &plans, &starter);
        let mut choices = Choices::new(runs, self.deadlines, client, listener, &self.stopping);
        if let Some(keeper) = &request.keeper {
            choices.abort_by(keeper.aborted());
        }
        Ok(Reply {
            streamed: request.stream,
            keeper: request.keeper,
            goes_on,
            keep_alive: self.keep_alive,
            format,
            tally,
            readers: self.readers(&request.chats, plans, &stops, request.stream),
            choices,
            calls: Vec::new(),
            starter,
            tool_repair: self.tool_repair,
            kept,
            ignored,
            head_is_out: false,
            is_cut: false,
            record: std::mem::take(record),
            pace: self.vitals.pace(model.label()),
            began: answer.exchange().accepted,
            dialect: request.dialect,
        })
    }

    /// Has the next requests try everything again: the session that is kept may be another one.
    pub fn reload(&self) {
        self.langfast.reload();
        self.repeats.forget();
    }

    /// Estimates the tokens of a request's prompt, its tools included; starts no run.
    ///
    /// # Errors
    /// No model serves the name.
    pub fn estimate(&self, models: &Models, request: &ChatRequest) -> Result<u64, Error> {
        let model = models.serve(&request.model)?;
        let mut request = request.clone();
        media::settle(&mut request.turns, &model.slug, None)?;
        Ok(prompt_tokens(
            &tools::plan(&mut request, &model, &self.marker_secret).prompt,
            &model.slug,
        ))
    }

    /// Creates a reader for each choice, and frees what the readers do not need of the prompts.
    fn readers(
        &self,
        requests: &[ChatRequest],
        mut plans: Vec<Plan>,
        stops: &[String],
        stream: bool,
    ) -> Vec<Reader> {
        if !self.tool_repair {
            plans.iter_mut().for_each(|plan| plan.prompt = Arc::default());
        }
        let stops: Arc<[String]> = stops.into();
        let holds_calls = self.tool_repair || !stream;
        let plans = plans.into_iter().map(Arc::new).zip(requests);
        let readers = plans.flat_map(|(plan, request)| std::iter::repeat_n(plan, request.n));
        readers.map(|plan| Reader::new(plan, stops.clone(), holds_calls)).collect()
    }

    /// Starts the runs, several at the same time, and names what is `ignored` in the answer's head.
    fn start(
        &self,
        request: &CompletionRequest,
        plans: &[Plan],
        starter: &Starter,
        ignored: &mut Ignored,
        answer: &mut Answer,
    ) -> Result<Vec<StartedRun>, Error> {
        let own_name = |name: &&'static str| request.dialect.own_name(name);
        let mut runs: Vec<(&Prompt, Fitted)> = Vec::new();
        for (request, plan) in request.chats.iter().zip(plans) {
            let fitted = starter.fit(&plan.prompt)?;
            ignored.extend(request.ignored.iter().copied().chain(fitted.1.iter().map(own_name)));
            runs.extend(std::iter::repeat_n((&*plan.prompt, fitted), request.n));
        }
        if let (true, Some(first)) = (self.strict, ignored.first_field()) {
            let model = &starter.model.slug;
            let message = format!("`{first}` would not do what it says with the model `{model}`");
            return Err(Error::unsupported(first, message));
        }
        ignored.name_in(answer);
        let start = |(prompt, fitted)| starter.run(prompt, fitted, 0);
        let mut runs = runs.into_iter();
        // None is wanted of a request that only prepares a later one.
        let Some(first) = runs.next() else { return Ok(Vec::new()) };
        let runs: Result<Vec<StartedRun>, Error> = std::thread::scope(|scope| {
            // The first run is started by this thread.
            let spawn = |run| std::thread::Builder::new().spawn_scoped(scope, move || start(run));
            let others: Vec<_> = runs.map(spawn).collect();
            let mut runs = vec![start(first)];
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
        });
        let runs = runs?;
        ignored.extend(runs.iter().flat_map(|run| run.left_out.iter().map(own_name)));
        ignored.name_in(answer);
        Ok(runs)
    }

    /// Returns the [`Unwanted`] of an answer: its client has gone, unless the run `goes_on` without, or the
    /// server ends.
    fn unwanted(&self, answer: &Answer, goes_on: &Arc<AtomicBool>) -> Unwanted {
        let (client, stopping) = (answer.exchange().clone(), self.stopping.clone());
        let goes_on = goes_on.clone();
        Arc::new(move || {
            // The server's end goes first, because it concerns what others wait for too.
            if stopping.is_raised() {
                return Some(Error::ShuttingDown);
            }
            let has_gone = !goes_on.load(Ordering::Relaxed) && client.client_has_gone();
            has_gone.then_some(Error::ClientGone)
        })
    }
}

/// Remembers a failure where asking again would cost, and help nobody.
fn note_failure(starter: &Starter, record: &CompletionRecord, error: &Error) {
    starter.admission.note_failure(error);
    if let Some(asked) = &record.asked {
        asked.note_failure(error);
    }
}

/// The prompts of all choices, as far as they are kept for second tries.
fn kept_prompts(
    requests: &[ChatRequest],
    plans: &[Plan],
    starter: &Starter,
) -> Vec<Option<KeptPrompt>> {
    let plans = requests.iter().zip(plans);
    plans.flat_map(|(of, plan)| std::iter::repeat_n(starter.keep(&plan.prompt), of.n)).collect()
}

fn prompt_tokens(prompt: &Prompt, slug: &str) -> u64 {
    let closing = prompt.closing.message(true);
    let messages = prompt.messages.iter().chain(&closing);
    let texts: Vec<_> = messages.map(|m| (m.role.name(), m.content.text())).collect();
    let media = prompt.messages.iter().flat_map(|message| message.content.media());
    let images = media.filter_map(|media| media.image.as_ref().ok());
    let images: u64 = images.map(|image| vision::tokens(image, slug)).sum();
    estimate_prompt(texts.iter().map(|(role, text)| (*role, text.as_ref()))) + images
}

/// An answer whose runs have been started and which has to be written.
pub struct Reply {
    dialect: Box<dyn Dialect>,
    streamed: bool,
    /// Keeps the answer, if it is to be kept.
    keeper: Option<Box<dyn Keeper>>,
    /// Set when the run may go on without the client.
    goes_on: Arc<AtomicBool>,
    /// For each choice, the number of calls that a stream has told.
    calls: Vec<usize>,
    keep_alive: Duration,
    format: Option<ResponseFormat>,
    tally: Tally,
    choices: Choices,
    readers: Vec<Reader>,
    /// Starts further runs.
    starter: Starter,
    /// Whether tool calls are mended by a second run.
    tool_repair: bool,
    /// For each choice, its prompt, until the choice has text or if there is no memory for it.
    kept: Vec<Option<KeptPrompt>>,
    /// What has no effect.
    ignored: Ignored,
    /// Whether the answer's head is made, so that it can name no more fields.
    head_is_out: bool,
    /// Whether the connection that brings the runs' events is lost.
    is_cut: bool,
    record: CompletionRecord,
    /// Measures how evenly a stream is written.
    pace: StreamPace,
    began: Instant,
}

impl Reply {
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

/// Refuses what the dialect has left out, unless whoever asks cannot take it back.
fn refuse_left_out(chat: &ChatRequest, question: Option<usize>) -> Result<(), Error> {
    match chat.left_out.iter().find(|left| left.is_of_this_request(question)) {
        Some(LeftOut { place, .. }) => {
            let message = format!("`{place}` cannot be had here, and would be left out");
            Err(Error::unsupported(place, message))
        }
        None => Ok(()),
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
