//! What each API says: what is asked for, and how an answer looks, streamed and whole.
//!
//! Enters: a body, and later what the story of the request has to tell. Leaves: a [`CompletionRequest`] in neutral
//! words, and [`Events`] or JSON in the client's dialect. A dialect may know [`crate::chat`], but no run,
//! no socket, not how events travel, and not another API's dialect.

pub mod anthropic;
pub mod fields;
pub mod json;
pub mod openai;
#[cfg(test)]
pub(crate) mod stories;

use crate::chat::{ChatRequest, FinishReason, ToolCall, Usage};
use crate::error::Error;

/// What a client asks for, whatever dialect it speaks.
pub struct CompletionRequest {
    /// The conversations, each of which is answered `n` times; never empty. All name the same model.
    pub chats: Vec<ChatRequest>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// How the answer looks; what the client asked for that only this dialect knows is in it.
    pub dialect: Box<dyn Dialect>,
}

/// What is known when a stream begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// How many choices there are, through all requests of the call.
    pub choices: usize,
    /// Estimated tokens of all prompts, as they were sent. A second run, should one be needed
    /// to mend a call, makes it more: what counts is the usage at the end.
    pub prompt_tokens: u64,
}

/// How a choice ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: FinishReason,
    /// The stop text that came, if that was why (then `reason` is [`FinishReason::Stop`]).
    pub stop: Option<String>,
}

/// A choice as a whole: first its text, then its calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The text, empty if it only calls.
    pub text: String,
    /// The calls.
    pub calls: Vec<ToolCall>,
    /// How it ended.
    pub ending: Ending,
}

/// Takes the events of a streamed answer, one after the other, and frames them as they travel: as
/// Server-Sent Events or, some day, as the frames of a WebSocket.
pub trait Events {
    /// Puts an event in. `data` appends its data to the buffer that is sent: one line, mostly JSON.
    /// `name` is for dialects whose events have one besides.
    fn put(&mut self, name: Option<&str>, data: &dyn Fn(&mut Vec<u8>));

    /// Shows proxies that the stream is alive by what the framing has for it, such as a comment or a
    /// ping, which is no event.
    fn keep_alive(&mut self);
}

/// How an answer looks. Choices are numbered through all requests of a call.
///
/// A streamed answer is told in this order: [`begin`](Dialect::begin); for each choice, interleaved
/// with the others, any number of [`text`](Dialect::text); then, call by call,
/// [`call_begin`](Dialect::call_begin), any number of [`call_arguments`](Dialect::call_arguments),
/// [`call_end`](Dialect::call_end); then [`finish`](Dialect::finish); and behind the last choice's
/// end, [`end`](Dialect::end). Text never comes behind a call of the same choice. At any point
/// [`fail`](Dialect::fail) may come instead, and nothing behind it.
///
/// A dialect that numbers its events, or repeats at the end what it has told, remembers it itself.
pub trait Dialect: Send {
    /// Puts in what a stream begins with.
    fn begin(&mut self, events: &mut dyn Events, start: &Start);

    /// Puts in a piece of a choice's text, never an empty one.
    fn text(&mut self, events: &mut dyn Events, choice: usize, text: &str);

    /// Puts in that a choice calls a tool: its `index`-th call, from 0. The arguments of `call` are
    /// empty and follow.
    fn call_begin(&mut self, events: &mut dyn Events, choice: usize, index: usize, call: &ToolCall);

    /// Puts in a piece of the arguments of the call begun last, never an empty one.
    fn call_arguments(&mut self, events: &mut dyn Events, choice: usize, index: usize, piece: &str);

    /// Puts in that the arguments of the call begun last are complete; OpenAI's chunks do not say so.
    fn call_end(&mut self, _: &mut dyn Events, _choice: usize, _index: usize) {}

    /// Puts in the end of a choice.
    fn finish(&mut self, events: &mut dyn Events, choice: usize, ending: &Ending);

    /// Puts in all that comes behind the last choice's end, such as usage and `[DONE]`. The body
    /// ends with it.
    fn end(&mut self, events: &mut dyn Events, usage: &Usage);

    /// Puts in that the answer breaks off, and why. The body, and the connection, end with it.
    fn fail(&mut self, events: &mut dyn Events, error: &Error);

    /// Puts in something that shows proxies that the stream is alive: the dialect's own event for
    /// that, or what the framing has if there is none.
    fn keep_alive(&mut self, events: &mut dyn Events) {
        events.keep_alive();
    }

    /// A whole answer, as JSON.
    fn whole(&self, choices: &[Choice], usage: &Usage) -> String;
}
