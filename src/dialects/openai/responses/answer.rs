//! How a response looks, whole and as events.
//!
//! An event of the stream has its name twice, as SSE's `event:` and as `type`. There is no `[DONE]`:
//! the stream ends with the response as a whole.

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::tools::{self, Origin};
use crate::chat::{FinishReason, ToolCall, Usage};
use crate::dialects::openai::response::{Identity, put, put_string, to_json};
use crate::dialects::{Choice, Dialect, Ending, Events, Start};
use crate::error::Error;

const TEXT_DELTA: &str = "response.output_text.delta";
const TEXT_DONE: &str = "response.output_text.done";
const ARGUMENTS_DELTA: &str = "response.function_call_arguments.delta";
const ARGUMENTS_DONE: &str = "response.function_call_arguments.done";
const INPUT_DELTA: &str = "response.custom_tool_call_input.delta";
const INPUT_DONE: &str = "response.custom_tool_call_input.done";

/// A response's look.
pub struct ResponseAnswer {
    identity: Identity,
    /// What the response repeats of its request: fields of JSON, a comma before each.
    echo: String,
    origins: Vec<Origin>,
    /// Number of the stream's next event.
    sequence: u64,
    /// The item that is being told.
    open: Option<Open>,
    /// The items that have been told, as JSON with commas between them.
    told: String,
    /// How many those are.
    count: usize,
    /// Why the text ended.
    ending: Option<FinishReason>,
}

/// An item in the making.
struct Open {
    item: Item,
    /// What the events of its deltas begin with: one is written for every piece.
    delta: String,
}

/// An item of the output.
struct Item {
    id: String,
    /// The call, if it is none of text.
    call: Option<Called>,
    /// Its text, or the arguments of the call as the model wrote them.
    text: String,
}

/// What a client has to know of a call.
struct Called {
    id: String,
    origin: Origin,
}

/// How far an item is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    InProgress,
    Completed,
    Incomplete,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ItemObject<'a> {
    Message {
        id: &'a str,
        status: Status,
        role: &'static str,
        content: Vec<Part<'a>>,
    },
    FunctionCall {
        id: &'a str,
        status: Status,
        call_id: &'a str,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        arguments: &'a str,
    },
    CustomToolCall {
        id: &'a str,
        call_id: &'a str,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        input: String,
    },
}

/// A part of a message: there is one only.
#[derive(Serialize)]
struct Part<'a> {
    r#type: &'static str,
    text: &'a str,
    annotations: [(); 0],
    logprobs: [(); 0],
}

impl<'a> Part<'a> {
    fn new(text: &'a str) -> Part<'a> {
        Part { r#type: "output_text", text, annotations: [], logprobs: [] }
    }
}

/// An id as OpenAI's look.
fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", uuid::Uuid::new_v4().simple())
}

impl Item {
    fn message() -> Item {
        Item { id: new_id("msg"), call: None, text: String::new() }
    }

    fn call(call: &ToolCall, origins: &[Origin]) -> Item {
        let known = origins.iter().find(|origin| origin.called == call.name).cloned();
        let origin = known.unwrap_or_else(|| Origin {
            called: call.name.clone(),
            name: call.name.clone(),
            namespace: None,
            is_custom: false,
        });
        let id = new_id(if origin.is_custom { "ctc" } else { "fc" });
        let call_id = call.id.clone();
        Item { id, call: Some(Called { id: call_id, origin }), text: call.arguments.clone() }
    }

    fn is_custom(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.origin.is_custom)
    }

    /// How far it is when the answer ended for `reason`: a call that is complete may be made, however
    /// the text behind it ended.
    fn status_at_end(&self, reason: FinishReason) -> Status {
        let is_complete_call =
            || self.call.is_some() && serde_json::from_str::<IgnoredAny>(&self.text).is_ok();
        match reason {
            FinishReason::Length | FinishReason::ContentFilter if !is_complete_call() => {
                Status::Incomplete
            }
            _ => Status::Completed,
        }
    }

    fn json(&self, status: Status) -> String {
        let is_begun = status != Status::InProgress;
        to_json(&match &self.call {
            None => ItemObject::Message {
                id: &self.id,
                status,
                role: "assistant",
                content: is_begun.then(|| Part::new(&self.text)).into_iter().collect(),
            },
            Some(Called { id, origin }) if origin.is_custom => ItemObject::CustomToolCall {
                id: &self.id,
                call_id: id,
                name: &origin.name,
                namespace: origin.namespace.as_deref(),
                input: if is_begun { tools::input_of(&self.text) } else { String::new() },
            },
            Some(Called { id, origin }) => ItemObject::FunctionCall {
                id: &self.id,
                status,
                call_id: id,
                name: &origin.name,
                namespace: origin.namespace.as_deref(),
                arguments: &self.text,
            },
        })
    }
}

/// How far a response is.
enum Stage<'a> {
    InProgress,
    Ended(FinishReason, &'a Usage),
    Failed(&'a Error),
}

impl Stage<'_> {
    fn status(&self) -> &'static str {
        match self {
            Stage::InProgress => "in_progress",
            Stage::Ended(FinishReason::Length | FinishReason::ContentFilter, _) => "incomplete",
            Stage::Ended(..) => "completed",
            Stage::Failed(_) => "failed",
        }
    }

    fn incomplete_reason(&self) -> Option<&'static str> {
        match self {
            Stage::Ended(FinishReason::Length, _) => Some("max_output_tokens"),
            Stage::Ended(FinishReason::ContentFilter, _) => Some("content_filter"),
            _ => None,
        }
    }
}

/// A response up to what it repeats of its request.
#[derive(Serialize)]
struct Head<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    completed_at: Option<u64>,
    error: Option<ErrorObject>,
    incomplete_details: Option<IncompleteDetails>,
    model: &'a str,
    usage: Option<UsageObject>,
}

#[derive(Serialize)]
struct IncompleteDetails {
    reason: &'static str,
}

#[derive(Serialize)]
struct ErrorObject {
    code: &'static str,
    message: String,
}

impl From<&Error> for ErrorObject {
    fn from(error: &Error) -> ErrorObject {
        let report = error.report();
        let code = match report.code {
            // Clients tell by these whether to try again.
            Some(
                code @ ("context_length_exceeded" | "insufficient_quota" | "rate_limit_exceeded"),
            ) => code,
            _ if report.kind == "invalid_request_error" => "invalid_prompt",
            _ => "server_error",
        };
        ErrorObject { code, message: error.to_string() }
    }
}

/// Estimates; the details, of which nothing is known, are there because clients read them.
#[derive(Serialize)]
struct UsageObject {
    input_tokens: u64,
    input_tokens_details: InputTokensDetails,
    output_tokens: u64,
    output_tokens_details: OutputTokensDetails,
    total_tokens: u64,
}

#[derive(Default, Serialize)]
struct InputTokensDetails {
    cache_write_tokens: u64,
    cached_tokens: u64,
}

#[derive(Default, Serialize)]
struct OutputTokensDetails {
    reasoning_tokens: u64,
}

impl From<&Usage> for UsageObject {
    fn from(usage: &Usage) -> UsageObject {
        UsageObject {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails::default(),
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails::default(),
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}

impl ResponseAnswer {
    /// The look of a response that repeats `echo`, and that may call the tools of these origins.
    pub fn new(
        identity: Identity,
        echo: Map<String, Value>,
        origins: Vec<Origin>,
    ) -> ResponseAnswer {
        let echo = to_json(&echo);
        ResponseAnswer {
            identity,
            echo: format!(",{}", &echo[1..echo.len() - 1]),
            origins,
            sequence: 0,
            open: None,
            told: String::new(),
            count: 0,
            ending: None,
        }
    }

    /// The response as a whole, with these items as its output.
    fn response(&self, stage: &Stage<'_>, output: &str) -> String {
        let status = stage.status();
        let mut response = to_json(&Head {
            id: &self.identity.id,
            object: "response",
            created_at: self.identity.created,
            status,
            completed_at: (status == "completed").then(Identity::now),
            error: if let Stage::Failed(error) = stage { Some((*error).into()) } else { None },
            incomplete_details: stage
                .incomplete_reason()
                .map(|reason| IncompleteDetails { reason }),
            model: &self.identity.model,
            usage: if let Stage::Ended(_, usage) = stage { Some((*usage).into()) } else { None },
        });
        response.pop();
        response + &self.echo + ",\"output\":[" + output + "]}"
    }

    /// Puts an event in; `fields` writes its own fields, a comma before each.
    fn event(&mut self, events: &mut dyn Events, name: &str, fields: impl Fn(&mut Vec<u8>)) {
        let sequence = self.sequence;
        self.sequence += 1;
        events.put(Some(name), &|out| {
            put(out, format_args!(r#"{{"type":"{name}","sequence_number":{sequence}"#));
            fields(out);
            out.push(b'}');
        });
    }

    fn response_event(&mut self, events: &mut dyn Events, name: &str, stage: &Stage<'_>) {
        let response = self.response(stage, &self.told);
        self.event(events, name, |out| put(out, format_args!(r#","response":{response}"#)));
    }

    /// Begins an item.
    fn begin_item(&mut self, events: &mut dyn Events, item: Item) {
        let at = self.count;
        let json = item.json(Status::InProgress);
        self.event(events, "response.output_item.added", |out| {
            put(out, format_args!(r#","output_index":{at},"item":{json}"#));
        });
        let place = format!(r#""item_id":"{}","output_index":{at}"#, item.id);
        let delta = if item.call.is_some() {
            format!(r#"{{"type":"{ARGUMENTS_DELTA}",{place},"delta":"#)
        } else {
            let part = to_json(&Part::new(""));
            self.event(events, "response.content_part.added", |out| {
                put(out, format_args!(r#",{place},"content_index":0,"part":{part}"#));
            });
            format!(r#"{{"type":"{TEXT_DELTA}",{place},"content_index":0,"logprobs":[],"delta":"#)
        };
        self.open = Some(Open { item, delta });
    }

    /// Tells a piece of the open item.
    fn delta(&mut self, events: &mut dyn Events, piece: &str) {
        let Some(Open { item, delta }) = &mut self.open else { return };
        item.text.push_str(piece);
        if item.is_custom() {
            // Told at its end: what the model writes is JSON that holds it.
            return;
        }
        let name = if item.call.is_some() { ARGUMENTS_DELTA } else { TEXT_DELTA };
        let sequence = self.sequence;
        self.sequence += 1;
        events.put(Some(name), &|out| {
            out.extend_from_slice(delta.as_bytes());
            put_string(out, piece);
            put(out, format_args!(r#","sequence_number":{sequence}}}"#));
        });
    }

    /// Ends the open item, if there is one.
    fn end_item(&mut self, events: &mut dyn Events, reason: FinishReason) {
        let Some(Open { item, .. }) = self.open.take() else { return };
        let at = self.count;
        let place = format!(r#","item_id":"{}","output_index":{at}"#, item.id);
        match &item.call {
            None => {
                let (text, part) = (to_json(&item.text), to_json(&Part::new(&item.text)));
                let place = format!(r#"{place},"content_index":0"#);
                self.event(events, TEXT_DONE, |out| {
                    put(out, format_args!(r#"{place},"logprobs":[],"text":{text}"#));
                });
                self.event(events, "response.content_part.done", |out| {
                    put(out, format_args!(r#"{place},"part":{part}"#));
                });
            }
            Some(call) if call.origin.is_custom => {
                let input = to_json(&tools::input_of(&item.text));
                for (name, field) in [(INPUT_DELTA, "delta"), (INPUT_DONE, "input")] {
                    self.event(events, name, |out| {
                        put(out, format_args!(r#"{place},"{field}":{input}"#));
                    });
                }
            }
            Some(_) => {
                let arguments = to_json(&item.text);
                self.event(events, ARGUMENTS_DONE, |out| {
                    put(out, format_args!(r#"{place},"arguments":{arguments}"#));
                });
            }
        }
        let json = item.json(item.status_at_end(reason));
        self.event(events, "response.output_item.done", |out| {
            put(out, format_args!(r#","output_index":{at},"item":{json}"#));
        });
        if self.count > 0 {
            self.told.push(',');
        }
        self.told.push_str(&json);
        self.count += 1;
    }
}

/// There is one choice only.
impl Dialect for ResponseAnswer {
    fn begin(&mut self, events: &mut dyn Events, _: &Start) {
        for name in ["response.created", "response.in_progress"] {
            self.response_event(events, name, &Stage::InProgress);
        }
    }

    fn text(&mut self, events: &mut dyn Events, _: usize, text: &str) {
        if self.open.is_none() {
            self.begin_item(events, Item::message());
        }
        self.delta(events, text);
    }

    fn call_begin(&mut self, events: &mut dyn Events, _: usize, _: usize, call: &ToolCall) {
        self.end_item(events, FinishReason::ToolCalls);
        let item = Item::call(call, &self.origins);
        self.begin_item(events, item);
    }

    // A call's item is ended by what follows it: only that shows whether it was cut.
    fn call_arguments(&mut self, events: &mut dyn Events, _: usize, _: usize, piece: &str) {
        self.delta(events, piece);
    }

    fn finish(&mut self, events: &mut dyn Events, _: usize, ending: &Ending) {
        if self.open.is_none() && self.count == 0 {
            self.begin_item(events, Item::message());
        }
        self.end_item(events, ending.reason);
        self.ending = Some(ending.reason);
    }

    fn end(&mut self, events: &mut dyn Events, usage: &Usage) {
        let stage = Stage::Ended(self.ending.unwrap_or(FinishReason::Stop), usage);
        self.response_event(events, &format!("response.{}", stage.status()), &stage);
    }

    fn fail(&mut self, events: &mut dyn Events, error: &Error) {
        self.response_event(events, "response.failed", &Stage::Failed(error));
    }

    fn whole(&self, choices: &[Choice], usage: &Usage) -> String {
        let Some(Choice { text, calls, ending }) = choices.first() else { return String::new() };
        let mut items = Vec::new();
        if !text.is_empty() || calls.is_empty() {
            items.push(Item { text: text.clone(), ..Item::message() });
        }
        items.extend(calls.iter().map(|call| Item::call(call, &self.origins)));
        let last = items.len() - 1;
        let json = |(at, item): (usize, &Item)| {
            let reason = if at == last { ending.reason } else { FinishReason::ToolCalls };
            item.json(item.status_at_end(reason))
        };
        let output: Vec<String> = items.iter().enumerate().map(json).collect();
        self.response(&Stage::Ended(ending.reason, usage), &output.join(","))
    }
}
