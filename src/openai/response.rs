//! OpenAI's answers: chat completions, their chunks, and models, as lines of JSON.

use std::io::Write;

use serde::Serialize;

use crate::chat::{FinishReason, Usage};
use crate::dialect::Dialect;
use crate::models::{Model, Models};
use crate::sse::EventStream;

/// What every chunk of an answer, or the whole answer, says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `chatcmpl-…` or the like.
    pub id: String,
    /// Unix time at which the request was accepted.
    pub created: u64,
    /// The model as it was asked for.
    pub model: String,
}

impl Identity {
    /// The identity of a new answer, its id beginning with `prefix`.
    pub fn new(prefix: &str, model: &str) -> Identity {
        let now = std::time::SystemTime::now();
        Identity {
            id: format!("{prefix}{}", uuid::Uuid::new_v4().simple()),
            created: now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            model: model.to_owned(),
        }
    }
}

/// A whole answer.
fn completion(identity: &Identity, choices: &[(String, FinishReason)], usage: &Usage) -> String {
    #[derive(Serialize)]
    struct Completion<'a> {
        id: &'a str,
        object: &'static str,
        created: u64,
        model: &'a str,
        choices: Vec<Choice<'a>>,
        usage: UsageObject,
        service_tier: &'static str,
    }
    #[derive(Serialize)]
    struct Choice<'a> {
        index: usize,
        message: Message<'a>,
        logprobs: (),
        finish_reason: &'static str,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        role: &'static str,
        content: &'a str,
        refusal: (),
        annotations: [(); 0],
    }
    let choices = choices.iter().enumerate().map(|(index, (content, reason))| Choice {
        index,
        message: Message { role: "assistant", content, refusal: (), annotations: [] },
        logprobs: (),
        finish_reason: reason.name(),
    });
    to_json(&Completion {
        id: &identity.id,
        object: "chat.completion",
        created: identity.created,
        model: &identity.model,
        choices: choices.collect(),
        usage: usage.into(),
        service_tier: "default",
    })
}

/// Estimates; the details, of which nothing is known, are there because clients read them.
#[derive(Default, Serialize)]
pub(super) struct UsageObject {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
    completion_tokens_details: CompletionTokensDetails,
}

#[derive(Default, Serialize)]
struct PromptTokensDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Default, Serialize)]
struct CompletionTokensDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

impl From<&Usage> for UsageObject {
    fn from(usage: &Usage) -> UsageObject {
        UsageObject {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
            ..UsageObject::default()
        }
    }
}

pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers always serialise")
}

/// A chat completion's look. What its chunks have in common is made once: a chunk is written for
/// every delta.
pub struct ChatAnswer {
    identity: Identity,
    /// Every chunk up to its list of choices.
    head: String,
    include_usage: bool,
}

impl ChatAnswer {
    /// The look of an answer whose stream ends with the usage if that is asked for; then its other
    /// chunks carry a null one.
    pub fn new(identity: Identity, include_usage: bool) -> ChatAnswer {
        let head = chunk_head(&identity, "chat.completion.chunk");
        let head = head + r#""service_tier":"default","choices":["#;
        ChatAnswer { identity, head, include_usage }
    }

    fn chunk(
        &self,
        events: &mut EventStream<'_>,
        choice: usize,
        reason: Option<FinishReason>,
        delta: impl FnOnce(&mut Vec<u8>),
    ) {
        events.event(|out| {
            out.extend_from_slice(self.head.as_bytes());
            put(out, format_args!(r#"{{"index":{choice},"delta":"#));
            delta(out);
            put_end(out, reason, self.include_usage);
        });
    }
}

impl Dialect for ChatAnswer {
    fn begin(&self, events: &mut EventStream<'_>, choices: usize) {
        let role = br#"{"role":"assistant","content":"","refusal":null}"#;
        for choice in 0..choices {
            self.chunk(events, choice, None, |out| out.extend_from_slice(role));
        }
    }

    fn text(&self, events: &mut EventStream<'_>, choice: usize, text: &str) {
        self.chunk(events, choice, None, |out| {
            out.extend_from_slice(br#"{"content":"#);
            put_string(out, text);
            out.push(b'}');
        });
    }

    fn finish(&self, events: &mut EventStream<'_>, choice: usize, reason: FinishReason) {
        self.chunk(events, choice, Some(reason), |out| out.extend_from_slice(b"{}"));
    }

    fn end(&self, events: &mut EventStream<'_>, usage: &Usage) {
        if self.include_usage {
            put_usage(events, &self.head, usage);
        }
    }

    fn whole(&self, choices: &[(String, FinishReason)], usage: &Usage) -> String {
        completion(&self.identity, choices, usage)
    }
}

/// What every chunk of a stream begins with; the dialect's own fields and `"choices":[` follow.
pub(super) fn chunk_head(identity: &Identity, object: &str) -> String {
    let model = to_json(&identity.model);
    format!(
        r#"{{"id":"{}","object":"{object}","created":{},"model":{model},"#,
        identity.id, identity.created
    )
}

/// Puts the end of a chunk, from behind its delta or text.
pub(super) fn put_end(out: &mut Vec<u8>, reason: Option<FinishReason>, include_usage: bool) {
    match reason {
        None => out.extend_from_slice(br#","logprobs":null,"finish_reason":null}"#),
        Some(reason) => {
            put(out, format_args!(r#","logprobs":null,"finish_reason":"{}"}}"#, reason.name()));
        }
    }
    out.extend_from_slice(if include_usage { br#"],"usage":null}"# } else { b"]}" });
}

/// Puts the chunk that holds the usage and no choice.
pub(super) fn put_usage(events: &mut EventStream<'_>, head: &str, usage: &Usage) {
    let usage = to_json(&UsageObject::from(usage));
    events.event(|out| put(out, format_args!("{head}],\"usage\":{usage}}}")));
}

pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes everything");
}

pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}

#[derive(Serialize)]
struct ModelObject<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

impl<'a> From<&'a Model> for ModelObject<'a> {
    fn from(model: &'a Model) -> ModelObject<'a> {
        ModelObject {
            id: &model.slug,
            object: "model",
            created: model.created,
            owned_by: &model.provider,
        }
    }
}

/// The list of models.
pub fn model_list(models: &Models) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<ModelObject<'a>>,
    }
    to_json(&List { object: "list", data: models.iter().map(ModelObject::from).collect() })
}

/// One model, under the name that it was asked for by.
pub fn model(model: &Model, asked: &str) -> String {
    to_json(&ModelObject { id: asked, ..ModelObject::from(model) })
}
