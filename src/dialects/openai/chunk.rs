//! The pieces of JSON of which the chunks of a stream are put together, those of chat completions and of
//! text completions alike.
//!
//! Enters: an answer's identity, texts and numbers. Leaves: bytes of events. It may not know the order of
//! the chunks.

use super::identity::Identity;
use super::usage::UsageObject;
use crate::chat::Usage;
use crate::dialects::Events;
use crate::dialects::writing::{put, to_json};
use crate::error::Error;

/// Adds the last event of a complete stream.
pub(super) fn put_done(events: &mut dyn Events) {
    events.put(None, &|out| out.extend_from_slice(b"[DONE]"));
}

/// Adds the error event of a stream that breaks off; it is the last event.
pub(super) fn put_error(events: &mut dyn Events, error: &Error) {
    events.put(None, &|out| out.extend_from_slice(error.body().as_bytes()));
}

/// The beginning of every chunk of a stream; the dialect's own fields and `"choices":[` follow.
pub(super) fn chunk_head(identity: &Identity, object: &str) -> String {
    let model = to_json(&identity.model);
    format!(
        r#"{{"id":"{}","object":"{object}","created":{},"model":{model},"#,
        identity.id, identity.created
    )
}

/// Appends the end of a chunk, after its delta or text.
pub(super) fn put_end(out: &mut Vec<u8>, reason: Option<&str>, include_usage: bool) {
    match reason {
        None => out.extend_from_slice(br#","logprobs":null,"finish_reason":null}"#),
        Some(reason) => {
            put(out, format_args!(r#","logprobs":null,"finish_reason":"{reason}"}}"#));
        }
    }
    out.extend_from_slice(if include_usage { br#"],"usage":null}"# } else { b"]}" });
}

/// Adds the chunk with the usage and without a choice.
pub(super) fn put_usage(events: &mut dyn Events, head: &str, usage: &Usage) {
    let usage = to_json(&UsageObject::from(usage));
    events.put(None, &|out| put(out, format_args!("{head}],\"usage\":{usage}}}")));
}
