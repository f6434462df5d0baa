//! What a dialect has to say to the story of a request: what is asked for, and how an answer looks,
//! streamed and whole. Dialects know only [`crate::chat`] and [`crate::sse`], and not each other.

use crate::chat::{ChatRequest, FinishReason, Usage};
use crate::sse::EventStream;

/// What a client asks for, whatever dialect it speaks.
pub struct Call {
    /// The conversations, each of which is answered `n` times; never empty. All name the same model.
    pub requests: Vec<ChatRequest>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// How the answer looks.
    pub dialect: Box<dyn Dialect>,
}

/// How an answer looks. Choices are numbered through all requests of a call.
pub trait Dialect {
    /// Puts in what a stream begins with.
    fn begin(&self, events: &mut EventStream<'_>, choices: usize);

    /// Puts in a piece of a choice's text, never an empty one.
    fn text(&self, events: &mut EventStream<'_>, choice: usize, text: &str);

    /// Puts in the end of a choice.
    fn finish(&self, events: &mut EventStream<'_>, choice: usize, reason: FinishReason);

    /// Puts in what comes behind the last choice's end.
    fn end(&self, events: &mut EventStream<'_>, usage: &Usage);

    /// A whole answer, as JSON.
    fn whole(&self, choices: &[(String, FinishReason)], usage: &Usage) -> String;
}
