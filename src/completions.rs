//! Answers a request for text, in named steps, whatever dialect it came in.
//!
//! Enters: a [`CompletionRequest`]. Leaves: the answer, whole or streamed, on the client's own socket.
//! It may not know routes, keys or threads of the server.

pub mod choices;
mod ignored;
pub mod part;
pub mod reader;
mod repeats;
mod reply;
pub mod starter;
mod tally;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::chat::media::{self, Images, vision};
use crate::chat::models::{Model, Models};
use crate::chat::tools::nonce::Secret;
use crate::chat::tools::{self, Plan};
use crate::chat::usage::estimate_prompt;
use crate::chat::{ChatRequest, LeftOut, Prompt, Usage};
use crate::completions::choices::Choices;
use crate::completions::ignored::Ignored;
use crate::completions::reader::Reader;
pub use crate::completions::repeats::{Asked, Repeats};
pub use crate::completions::reply::Reply;
use crate::completions::starter::{Fitted, KeptPrompt, SecondTries, StartedRun, Starter};
use crate::completions::tally::Tally;
use crate::dialects::CompletionRequest;
use crate::error::Error;
use crate::http::answer::Answer;
use crate::langfast::{Deadlines, LangFast, Listener, Unwanted};
use crate::observe::vitals::Vitals;
use crate::sync::Alarm;

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
