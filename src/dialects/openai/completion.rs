//! Writes what chat completions and text completions have in common: the frame of a chunk, the end of a
//! stream, and the object around a whole answer's choices.
//!
//! Enters: an answer's identity, its choices in the words of either API, and numbers. Leaves: events, or JSON.
//! It may not know what a choice holds, nor the order of the chunks.

use serde::Serialize;

use super::identity::Identity;
use super::usage::UsageObject;
use crate::chat::Usage;
use crate::dialects::Events;
use crate::dialects::writing::{put, to_json};
use crate::error::Error;

/// The words in which the two APIs differ.
pub(super) struct Form {
    /// The `object` of a whole answer.
    pub whole: &'static str,
    /// The `object` of a chunk.
    pub chunk: &'static str,
    /// The field of a chunk's choice that holds its piece of the answer.
    pub piece: &'static str,
    /// The `service_tier`; `None` if the API has no such field.
    pub service_tier: Option<&'static str>,
}

/// Writes one completion, whole or as the chunks of a stream.
pub(super) struct CompletionWriter {
    form: Form,
    identity: Identity,
    /// Every chunk up to its list of choices. It is made once, because a chunk is written for every token.
    head: String,
    include_usage: bool,
}

impl CompletionWriter {
    /// Creates a writer. With `include_usage` the stream ends with the usage, and all other chunks have a
    /// null one.
    pub fn new(form: Form, identity: Identity, include_usage: bool) -> CompletionWriter {
        let model = to_json(&identity.model);
        let tier = form.service_tier.map(|tier| format!(r#""service_tier":"{tier}","#));
        let head = format!(
            r#"{{"id":"{}","object":"{}","created":{},"model":{model},{}"choices":["#,
            identity.id,
            form.chunk,
            identity.created,
            tier.unwrap_or_default(),
        );
        CompletionWriter { form, identity, head, include_usage }
    }

    /// Adds a chunk of a choice; `piece` appends its piece of the answer, as JSON. `reason` is OpenAI's word
    /// for why the choice ends, in its last chunk alone.
    pub fn chunk(
        &self,
        events: &mut dyn Events,
        choice: usize,
        reason: Option<&str>,
        piece: impl Fn(&mut Vec<u8>),
    ) {
        events.put(None, &|out| {
            out.extend_from_slice(self.head.as_bytes());
            put(out, format_args!(r#"{{"index":{choice},"{}":"#, self.form.piece));
            piece(out);
            match reason {
                None => out.extend_from_slice(br#","logprobs":null,"finish_reason":null}"#),
                Some(reason) => {
                    put(out, format_args!(r#","logprobs":null,"finish_reason":"{reason}"}}"#));
                }
            }
            out.extend_from_slice(if self.include_usage { br#"],"usage":null}"# } else { b"]}" });
        });
    }

    /// Adds the end of a complete stream: the usage, if it is wanted, in a chunk without a choice, and
    /// `[DONE]`.
    pub fn end(&self, events: &mut dyn Events, usage: &Usage) {
        if self.include_usage {
            let usage = to_json(&UsageObject::from(usage));
            events.put(None, &|out| put(out, format_args!("{}],\"usage\":{usage}}}", self.head)));
        }
        events.put(None, &|out| out.extend_from_slice(b"[DONE]"));
    }

    /// Adds the error event of a stream that breaks off. No `[DONE]` follows, which clients would take for a
    /// complete answer.
    pub fn fail(&self, events: &mut dyn Events, error: &Error) {
        events.put(None, &|out| out.extend_from_slice(error.body().as_bytes()));
    }

    /// Returns a whole answer as JSON, with its fields in OpenAI's order.
    pub fn whole(&self, choices: Vec<impl Serialize>, usage: &Usage) -> String {
        to_json(&Completion {
            id: &self.identity.id,
            object: self.form.whole,
            created: self.identity.created,
            model: &self.identity.model,
            choices,
            usage: usage.into(),
            service_tier: self.form.service_tier,
        })
    }
}

#[derive(Serialize)]
struct Completion<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<C>,
    usage: UsageObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}
