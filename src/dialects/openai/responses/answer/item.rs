//! The items of a response's output: texts and calls.

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::chat::{FinishReason, ToolCall};
use crate::dialects::openai::responses::ids;
use crate::dialects::openai::responses::tools::{self, Form, Origin};
use crate::dialects::writing::to_json;

/// An item of the output: a text or a call.
pub struct Item {
    /// Its id.
    pub id: String,
    /// The call; `None` if the item is a text.
    pub call: Option<CalledTool>,
    /// The text, or the call's arguments as the model wrote them.
    pub text: String,
}

/// A call of a tool.
pub struct CalledTool {
    /// The id of the call.
    id: String,
    /// The tool as the client knows it.
    pub origin: Origin,
}

/// The status of an item.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
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
        content: Vec<ContentPart<'a>>,
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
    #[serde(untagged)]
    Client(ClientCall<'a>),
}

/// A call of a tool of OpenAI's that the client runs.
#[derive(Serialize)]
struct ClientCall<'a> {
    r#type: &'static str,
    id: &'a str,
    status: Status,
    call_id: &'a str,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

/// The content part of a message, which has exactly one.
#[derive(Serialize)]
pub struct ContentPart<'a> {
    r#type: &'static str,
    text: &'a str,
    annotations: [(); 0],
    logprobs: [(); 0],
}

impl<'a> ContentPart<'a> {
    /// Creates the part that holds this text.
    pub fn new(text: &'a str) -> ContentPart<'a> {
        ContentPart { r#type: "output_text", text, annotations: [], logprobs: [] }
    }
}

impl Item {
    /// Creates an empty text, with a new id that names `instance`.
    pub fn message(instance: Option<&str>) -> Item {
        Item { id: ids::new("msg", instance), call: None, text: String::new() }
    }

    /// Creates the call of one of the tools of these origins, with a new id that names `instance`.
    pub fn call(call: &ToolCall, origins: &[Origin], instance: Option<&str>) -> Item {
        let known = origins.iter().find(|origin| origin.called == call.name).cloned();
        let origin = known.unwrap_or_else(|| Origin {
            called: call.name.clone(),
            name: call.name.clone(),
            namespace: None,
            form: Form::Function,
        });
        let kind = match origin.form {
            Form::Function => "fc",
            Form::Custom => "ctc",
            Form::Client(tool) => tool.id_prefix(),
        };
        let id = ids::new(kind, instance);
        let call_id = call.id.clone();
        Item { id, call: Some(CalledTool { id: call_id, origin }), text: call.arguments.clone() }
    }

    /// True if the item's text is sent only at its end, because the model writes JSON that contains it.
    pub fn is_told_at_end(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.origin.form != Form::Function)
    }

    /// Returns the item's status if the answer ended for `reason`. A call whose arguments are JSON is complete
    /// even if the answer was cut: it may be carried out.
    pub fn status_at_end(&self, reason: FinishReason) -> Status {
        let is_complete_call =
            || self.call.is_some() && serde_json::from_str::<IgnoredAny>(&self.text).is_ok();
        match reason {
            FinishReason::Length | FinishReason::ContentFilter if !is_complete_call() => {
                Status::Incomplete
            }
            _ => Status::Completed,
        }
    }

    /// Returns the item as JSON.
    pub fn json(&self, status: Status) -> String {
        let is_begun = status != Status::InProgress;
        to_json(&match &self.call {
            None => ItemObject::Message {
                id: &self.id,
                status,
                role: "assistant",
                content: is_begun.then(|| ContentPart::new(&self.text)).into_iter().collect(),
            },
            Some(CalledTool { id, origin: Origin { form: Form::Client(tool), .. } }) => {
                ItemObject::Client(ClientCall {
                    r#type: tool.call_type(),
                    id: &self.id,
                    status,
                    call_id: id,
                    fields: tool.call_fields(&self.text),
                })
            }
            Some(CalledTool { id, origin }) if origin.form == Form::Custom => {
                ItemObject::CustomToolCall {
                    id: &self.id,
                    call_id: id,
                    name: &origin.name,
                    namespace: origin.namespace.as_deref(),
                    input: if is_begun { tools::input_of(&self.text) } else { String::new() },
                }
            }
            Some(CalledTool { id, origin }) => ItemObject::FunctionCall {
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
