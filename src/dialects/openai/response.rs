//! OpenAI's answers: chat completions, their chunks, and models, as lines of JSON.

use std::io::Write;

use serde::Serialize;

use crate::chat::models::{Model, Models};
use crate::chat::{FinishReason, ToolCall, Usage};
use crate::dialects::{Choice, Dialect, Ending, Events, Start};
use crate::error::Error;

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
        Identity {
            id: format!("{prefix}{}", uuid::Uuid::new_v4().simple()),
            created: Identity::now(),
            model: model.to_owned(),
        }
    }

    /// The Unix time.
    pub(super) fn now() -> u64 {
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// A message of the assistant, as it stands in a whole answer.
#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    /// Null when there is none beside calls.
    content: Option<&'a str>,
    refusal: (),
    annotations: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<ToolCallObject<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionObject<'a>>,
}

#[derive(Serialize)]
struct ToolCallObject<'a> {
    id: &'a str,
    r#type: &'static str,
    function: FunctionObject<'a>,
}

#[derive(Serialize)]
struct FunctionObject<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a ToolCall> for FunctionObject<'a> {
    fn from(call: &'a ToolCall) -> FunctionObject<'a> {
        FunctionObject { name: &call.name, arguments: &call.arguments }
    }
}

impl<'a> From<&'a ToolCall> for ToolCallObject<'a> {
    fn from(call: &'a ToolCall) -> ToolCallObject<'a> {
        ToolCallObject { id: &call.id, r#type: "function", function: call.into() }
    }
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

/// How calls are told, if there can be any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// No tool was offered.
    None,
    /// As `tool_calls`.
    Tools,
    /// As one `function_call`, as clients of 2023 know it.
    Function,
}

/// A chat completion's look. What its chunks have in common is made once: a chunk is written for
/// every delta.
pub struct ChatAnswer {
    identity: Identity,
    /// Every chunk up to its list of choices.
    head: String,
    include_usage: bool,
    calls: Calls,
}

impl ChatAnswer {
    /// The look of an answer whose stream ends with the usage if that is asked for; then its other
    /// chunks carry a null one.
    pub fn new(identity: Identity, include_usage: bool, calls: Calls) -> ChatAnswer {
        let head = chunk_head(&identity, "chat.completion.chunk");
        let head = head + r#""service_tier":"default","choices":["#;
        ChatAnswer { identity, head, include_usage, calls }
    }

    fn chunk(
        &self,
        events: &mut dyn Events,
        choice: usize,
        reason: Option<FinishReason>,
        delta: impl Fn(&mut Vec<u8>),
    ) {
        events.put(None, &|out| {
            out.extend_from_slice(self.head.as_bytes());
            put(out, format_args!(r#"{{"index":{choice},"delta":"#));
            delta(out);
            put_end(out, reason.map(|reason| self.reason_name(reason)), self.include_usage);
        });
    }

    fn reason_name(&self, reason: FinishReason) -> &'static str {
        match (reason, self.calls) {
            (FinishReason::ToolCalls, Calls::Function) => "function_call",
            _ => reason.name(),
        }
    }

    fn message<'a>(&self, choice: &'a Choice) -> Message<'a> {
        let calls = Some(&choice.calls).filter(|calls| !calls.is_empty());
        let is_function = self.calls == Calls::Function;
        Message {
            role: "assistant",
            content: (calls.is_none() || !choice.text.is_empty()).then_some(&choice.text),
            refusal: (),
            annotations: [],
            tool_calls: calls
                .filter(|_| !is_function)
                .map(|calls| calls.iter().map(ToolCallObject::from).collect()),
            function_call: calls
                .filter(|_| is_function)
                .and_then(|calls| calls.first().map(FunctionObject::from)),
        }
    }
}

impl Dialect for ChatAnswer {
    fn begin(&mut self, events: &mut dyn Events, start: &Start) {
        // Whether there will be text beside calls is not known yet.
        let content = if self.calls == Calls::None { r#""""# } else { "null" };
        for choice in 0..start.choices {
            self.chunk(events, choice, None, |out| {
                put(
                    out,
                    format_args!(r#"{{"role":"assistant","content":{content},"refusal":null}}"#),
                );
            });
        }
    }

    fn text(&mut self, events: &mut dyn Events, choice: usize, text: &str) {
        self.chunk(events, choice, None, |out| {
            out.extend_from_slice(br#"{"content":"#);
            put_string(out, text);
            out.push(b'}');
        });
    }

    fn call_begin(
        &mut self,
        events: &mut dyn Events,
        choice: usize,
        index: usize,
        call: &ToolCall,
    ) {
        let json = if self.calls == Calls::Function {
            to_json(&FunctionObject::from(call))
        } else {
            to_json(&ToolCallObject::from(call))
        };
        self.chunk(events, choice, None, |out| match self.calls {
            Calls::Function => put(out, format_args!(r#"{{"function_call":{json}}}"#)),
            _ => {
                let rest = &json[1..];
                put(out, format_args!(r#"{{"tool_calls":[{{"index":{index},{rest}]}}"#));
            }
        });
    }

    fn call_arguments(
        &mut self,
        events: &mut dyn Events,
        choice: usize,
        index: usize,
        piece: &str,
    ) {
        self.chunk(events, choice, None, |out| match self.calls {
            Calls::Function => {
                out.extend_from_slice(br#"{"function_call":{"arguments":"#);
                put_string(out, piece);
                out.extend_from_slice(b"}}");
            }
            _ => {
                put(
                    out,
                    format_args!(r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":"#),
                );
                put_string(out, piece);
                out.extend_from_slice(b"}}]}");
            }
        });
    }

    fn finish(&mut self, events: &mut dyn Events, choice: usize, ending: &Ending) {
        self.chunk(events, choice, Some(ending.reason), |out| out.extend_from_slice(b"{}"));
    }

    fn end(&mut self, events: &mut dyn Events, usage: &Usage) {
        if self.include_usage {
            put_usage(events, &self.head, usage);
        }
        put_done(events);
    }

    fn fail(&mut self, events: &mut dyn Events, error: &Error) {
        put_error(events, error);
    }

    fn whole(&self, choices: &[Choice], usage: &Usage) -> String {
        #[derive(Serialize)]
        struct Completion<'a> {
            id: &'a str,
            object: &'static str,
            created: u64,
            model: &'a str,
            choices: Vec<Object<'a>>,
            usage: UsageObject,
            service_tier: &'static str,
        }
        #[derive(Serialize)]
        struct Object<'a> {
            index: usize,
            message: Message<'a>,
            logprobs: (),
            finish_reason: &'static str,
        }
        let objects = choices.iter().enumerate().map(|(index, choice)| Object {
            index,
            message: self.message(choice),
            logprobs: (),
            finish_reason: self.reason_name(choice.ending.reason),
        });
        to_json(&Completion {
            id: &self.identity.id,
            object: "chat.completion",
            created: self.identity.created,
            model: &self.identity.model,
            choices: objects.collect(),
            usage: usage.into(),
            service_tier: "default",
        })
    }
}

/// Puts the last event of a complete stream.
pub(super) fn put_done(events: &mut dyn Events) {
    events.put(None, &|out| out.extend_from_slice(b"[DONE]"));
}

/// Puts the event of a stream that breaks off; none but it comes last.
pub(super) fn put_error(events: &mut dyn Events, error: &Error) {
    events.put(None, &|out| out.extend_from_slice(error.body().as_bytes()));
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
pub(super) fn put_end(out: &mut Vec<u8>, reason: Option<&str>, include_usage: bool) {
    match reason {
        None => out.extend_from_slice(br#","logprobs":null,"finish_reason":null}"#),
        Some(reason) => {
            put(out, format_args!(r#","logprobs":null,"finish_reason":"{reason}"}}"#));
        }
    }
    out.extend_from_slice(if include_usage { br#"],"usage":null}"# } else { b"]}" });
}

/// Puts the chunk that holds the usage and no choice.
pub(super) fn put_usage(events: &mut dyn Events, head: &str, usage: &Usage) {
    let usage = to_json(&UsageObject::from(usage));
    events.put(None, &|out| put(out, format_args!("{head}],\"usage\":{usage}}}")));
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
