//! The dialects: reads what each API's clients ask for, and writes answers as they expect them,
//! streamed and whole.
//!
//! Enters: a body, and later the parts of the answer. Leaves: a [`CompletionRequest`] in neutral words,
//! and [`Events`] or JSON in the client's dialect. A dialect may know [`crate::chat`], but no run, no
//! socket, not how events travel, and not another API's dialect.

pub mod anthropic;
#[cfg(test)]
mod bounds;
pub mod fields;
pub mod json;
pub mod kinds;
pub mod media;
pub mod openai;
#[cfg(test)]
pub(crate) mod stories;
pub mod writing;

use std::sync::Arc;

use crate::chat::{ChatRequest, FinishReason, Sampling, ToolCall, Usage};
use crate::error::Error;
use crate::sync::Alarm;

/// A request for text, in neutral words, whichever dialect the client speaks.
pub struct CompletionRequest {
    /// The conversations, each of which is answered `n` times; never empty. All name the same model.
    pub chats: Vec<ChatRequest>,
    /// True if the answer has to be streamed.
    pub stream: bool,
    /// Writes the answer in the client's dialect; holds what the client asked for that only this
    /// dialect knows.
    pub dialect: Box<dyn Dialect>,
    /// Keeps the answer for later requests; `None` if it is not kept.
    pub keeper: Option<Box<dyn Keeper>>,
}

/// Keeps an answer while it is written, even after its client has left. The answer can be asked for from its
/// first event on; dropping the keeper ends it.
pub trait Keeper: Send {
    /// True if the run goes on without a client from the beginning.
    fn is_background(&self) -> bool;

    /// Keeps an event of the answer's stream.
    fn event(&mut self, name: Option<&str>, data: &[u8]);

    /// Makes the events kept so far visible to those who ask for the answer.
    fn flush(&mut self);

    /// Returns the answer as it is now, as JSON; empty if none has begun.
    fn answer(&self) -> String;

    /// Keeps a whole answer; false if there is no room for it.
    fn whole(&mut self, answer: &str) -> bool;

    /// True if the answer can be asked for now.
    fn is_kept(&self) -> bool;

    /// Returns the alarm that is raised when the run has to end.
    fn aborted(&self) -> &Arc<Alarm>;

    /// Takes the answer over from a client that has left: true if the run may go on, since the answer can be
    /// asked for later.
    fn adopt(&mut self) -> bool;
}

/// The facts that are known when a stream begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Number of choices, of all chats of the request together.
    pub choices: usize,
    /// Estimated tokens of all prompts, as they were sent. A second run, if one is needed to mend a
    /// call, adds to them: the usage at the end counts.
    pub prompt_tokens: u64,
}

/// The end of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why the choice ended.
    pub reason: FinishReason,
    /// The stop text that ended it, if one did; `reason` is [`FinishReason::Stop`] then.
    pub stop: Option<String>,
}

/// A whole choice: first its text, then its calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The text; empty if the choice only calls tools.
    pub text: String,
    /// The calls of tools.
    pub calls: Vec<ToolCall>,
    /// How the choice ended.
    pub ending: Ending,
}

/// Receives the events of a streamed answer, one after the other, and frames them for the client: as
/// Server-Sent Events, or as messages of a WebSocket.
pub trait Events {
    /// Adds an event. `data` appends its data, one line, mostly JSON, to the buffer that is sent.
    /// `name` is for dialects whose events have a name beside their data.
    fn put(&mut self, name: Option<&str>, data: &dyn Fn(&mut Vec<u8>));

    /// Adds a sign of life that is no event, such as a comment or a ping, to show proxies that the
    /// stream is alive.
    fn keep_alive(&mut self);

    /// Ends the events for the client: those that follow are only for whoever keeps the answer.
    fn leave_client(&mut self) {}
}

/// Writes an answer as the clients of an API expect it. Choices are numbered through all chats of a
/// request.
///
/// The methods for a streamed answer are called in this order: [`begin`](Dialect::begin); for each
/// choice, interleaved with the others, any number of [`text`](Dialect::text); then, call by call,
/// [`call_begin`](Dialect::call_begin), any number of [`call_arguments`](Dialect::call_arguments),
/// [`call_end`](Dialect::call_end); then [`finish`](Dialect::finish); and after the last choice's end,
/// [`end`](Dialect::end). A request that wants no answer (`n` of 0) has no choices. Text never follows a call
/// of the same choice. At any point [`fail`](Dialect::fail) may come instead, and nothing after it.
///
/// A dialect that numbers its events, or repeats earlier ones at the end, keeps track of them itself.
pub trait Dialect: Send {
    /// Returns the client's name for a field of [`Sampling`], which is mostly the same.
    fn own_name(&self, field: &'static str) -> &'static str {
        field
    }

    /// Takes note of the settings that a run was started with: a dialect that repeats its request in the
    /// answer repeats only those. Called again if another run takes that one's place.
    fn note_done(&mut self, _done: &Sampling) {}

    /// Adds the events that a stream begins with.
    fn begin(&mut self, events: &mut dyn Events, start: &Start);

    /// Adds a piece of a choice's text, never an empty one.
    fn text(&mut self, events: &mut dyn Events, choice: usize, text: &str);

    /// Adds the beginning of a choice's call of a tool: its `index`-th call, from 0. The arguments of
    /// `call` are empty and follow.
    fn call_begin(&mut self, events: &mut dyn Events, choice: usize, index: usize, call: &ToolCall);

    /// Adds a piece of the arguments of the call begun last, never an empty one.
    fn call_arguments(&mut self, events: &mut dyn Events, choice: usize, index: usize, piece: &str);

    /// Adds the end of the call begun last, whose arguments are complete. Nothing by default, since OpenAI's
    /// chunks have no event for that.
    fn call_end(&mut self, _: &mut dyn Events, _choice: usize, _index: usize) {}

    /// Adds the end of a choice.
    fn finish(&mut self, events: &mut dyn Events, choice: usize, ending: &Ending);

    /// Adds all that follows the last choice's end, such as the usage and `[DONE]`; it ends the body.
    fn end(&mut self, events: &mut dyn Events, usage: &Usage);

    /// Adds the error with which the answer breaks off; it ends the body and the connection.
    fn fail(&mut self, events: &mut dyn Events, error: &Error);

    /// Adds a sign of life for proxies: the dialect's own event for that, or the framing's if there is
    /// none.
    fn keep_alive(&mut self, events: &mut dyn Events) {
        events.keep_alive();
    }

    /// Returns a whole answer, as JSON.
    fn whole(&self, choices: &[Choice], usage: &Usage) -> String;
}
