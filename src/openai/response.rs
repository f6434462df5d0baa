//! OpenAI's answers: chat completions, their chunks, and models, as lines of JSON.

use std::io::Write;

use serde::Serialize;

use crate::chat::{FinishReason, Usage};
use crate::error::Error;
use crate::models::{Model, Models};

/// What every chunk of an answer, or the whole answer, says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `chatcmpl-…`.
    pub id: String,
    /// Unix time at which the request was accepted.
    pub created: u64,
    /// The model as it was asked for.
    pub model: String,
}

impl Identity {
    /// The identity of a new answer.
    pub fn new(model: &str) -> Identity {
        let now = std::time::SystemTime::now();
        Identity {
            id: format!("chatcmpl-{}", uuid::Uuid::new_v4().simple()),
            created: now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            model: model.to_owned(),
        }
    }
}

/// A whole answer.
pub fn completion(
    identity: &Identity,
    choices: &[(String, FinishReason)],
    usage: &Usage,
) -> String {
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
struct UsageObject {
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

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers always serialise")
}

/// Writes the chunks of one streamed answer. What they have in common is made once: a chunk is
/// written for every delta.
#[derive(Debug)]
pub struct Chunks {
    /// Up to the list of choices.
    head: String,
    /// From behind the list of choices.
    tail: &'static str,
}

impl Chunks {
    /// The chunks of an answer; those that announce a usage chunk carry a null one.
    pub fn new(identity: &Identity, include_usage: bool) -> Chunks {
        let model = to_json(&identity.model);
        let head = format!(
            r#"{{"id":"{}","object":"chat.completion.chunk","created":{},"model":{model},"service_tier":"default","choices":["#,
            identity.id, identity.created
        );
        Chunks { head, tail: if include_usage { r#"],"usage":null}"# } else { "]}" } }
    }

    /// The first chunk of a choice.
    pub fn role(&self, out: &mut Vec<u8>, index: usize) {
        self.choice(out, index, None, |out| {
            out.extend_from_slice(br#"{"role":"assistant","content":"","refusal":null}"#);
        });
    }

    /// A piece of a choice's text.
    pub fn text(&self, out: &mut Vec<u8>, index: usize, text: &str) {
        self.choice(out, index, None, |out| {
            out.extend_from_slice(br#"{"content":"#);
            serde_json::to_writer(&mut *out, text).expect("a Vec takes everything");
            out.push(b'}');
        });
    }

    /// The last chunk of a choice.
    pub fn finish(&self, out: &mut Vec<u8>, index: usize, reason: FinishReason) {
        self.choice(out, index, Some(reason), |out| out.extend_from_slice(b"{}"));
    }

    /// The chunk that holds the usage and no choice.
    pub fn usage(&self, out: &mut Vec<u8>, usage: &Usage) {
        out.extend_from_slice(self.head.as_bytes());
        write!(out, "],\"usage\":{}}}", to_json(&UsageObject::from(usage)))
            .expect("a Vec takes everything");
    }

    fn choice(
        &self,
        out: &mut Vec<u8>,
        index: usize,
        reason: Option<FinishReason>,
        delta: impl FnOnce(&mut Vec<u8>),
    ) {
        out.extend_from_slice(self.head.as_bytes());
        write!(out, r#"{{"index":{index},"delta":"#).expect("a Vec takes everything");
        delta(out);
        match reason {
            None => out.extend_from_slice(br#","logprobs":null,"finish_reason":null}"#),
            Some(reason) => {
                write!(out, r#","logprobs":null,"finish_reason":"{}"}}"#, reason.name())
                    .expect("a Vec takes everything")
            }
        }
        out.extend_from_slice(self.tail.as_bytes());
    }
}

/// The error of an answer that had begun.
pub fn error_event(out: &mut Vec<u8>, error: &Error) {
    out.extend_from_slice(error.body().as_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn identity() -> Identity {
        Identity { id: "chatcmpl-1".to_owned(), created: 7, model: "a\"b".to_owned() }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = Vec::new();
        write(&mut out);
        assert!(!out.contains(&b'\n'), "an event's data is one line");
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn chunks_are_what_the_contract_says() {
        let chunks = Chunks::new(&identity(), false);
        let expected = |delta: Value, reason: Value| {
            json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7,
                "model": "a\"b", "service_tier": "default",
                "choices": [{"index": 1, "delta": delta, "logprobs": null, "finish_reason": reason}]
            })
        };
        let role = json!({"role": "assistant", "content": "", "refusal": null});
        assert_eq!(written(|out| chunks.role(out, 1)), expected(role, Value::Null));
        let text = "a\n\"ü\"\u{2028}\u{0}";
        let delta = json!({ "content": text });
        assert_eq!(written(|out| chunks.text(out, 1, text)), expected(delta, Value::Null));
        let end = written(|out| chunks.finish(out, 1, FinishReason::Length));
        assert_eq!(end, expected(json!({}), json!("length")));
    }

    #[test]
    fn with_usage_every_chunk_has_the_field_and_the_last_one_fills_it() {
        let chunks = Chunks::new(&identity(), true);
        assert_eq!(written(|out| chunks.role(out, 0)).get("usage"), Some(&Value::Null));
        let usage = Usage { prompt_tokens: 2, completion_tokens: 3 };
        let last = written(|out| chunks.usage(out, &usage));
        assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(5)));
    }
}
