//! The neutral words that every dialect and LangFast's side translate to and from: a chat request,
//! what a run gives back, and why it ended; and what is done to text whatever it came in.
//!
//! Enters: words of a conversation. Leaves: words that LangFast's models take, and what their texts mean.
//! It may know neither the JSON of a dialect nor LangFast's, and no socket.

pub mod json_mode;
pub mod models;
pub mod schema;
pub mod stop;
pub mod tools;
pub mod usage;

use serde_json::Value;

use crate::error::Error;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions, as models up to gpt-4.1 take them.
    System,
    /// Instructions, as the reasoning models take them.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The word that LangFast and OpenAI both use.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// A text that somebody says: all that LangFast knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; parts have been joined.
    pub content: String,
}

/// One turn of a conversation as clients know it. LangFast knows no tools: [`crate::chat::tools`] makes
/// messages of the turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A text.
    Message(Message),
    /// What the model said and the tools that it called, never none.
    Calls {
        /// What it said before it called; mostly empty.
        text: String,
        /// The calls, in their order.
        calls: Vec<ToolCall>,
    },
    /// What a tool gave back for one call.
    Result(ToolResult),
}

impl Turn {
    /// A text that somebody says.
    pub fn message(role: Role, content: impl Into<String>) -> Turn {
        Turn::Message(Message { role, content: content.into() })
    }

    /// The text that somebody says, if that is all of it.
    pub fn into_message(self) -> Option<Message> {
        if let Turn::Message(message) = self { Some(message) } else { None }
    }
}

/// A call of a tool, by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// What its result refers to it by.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON, as the model wrote it: it may be invalid.
    pub arguments: String,
}

impl ToolCall {
    /// An id for a new call.
    pub fn new_id() -> String {
        std::iter::once("call_".to_owned())
            .chain((0..24).map(|_| fastrand::alphanumeric().to_string()))
            .collect()
    }
}

/// What a tool gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The call's id.
    pub call_id: String,
    /// The tool's name, if the client says it; else that of the call counts.
    pub name: Option<String>,
    /// The text: data from outside, which nobody vouches for.
    pub text: String,
    /// Whether the tool says that it failed.
    pub is_error: bool,
}

/// The call of this id, in the turns so far: the latest, if clients use ids again.
pub fn find_call<'a>(turns: &'a [Turn], id: &str) -> Option<&'a ToolCall> {
    turns.iter().rev().find_map(|turn| match turn {
        Turn::Calls { calls, .. } => calls.iter().find(|call| call.id == id),
        _ => None,
    })
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name, unique in a request.
    pub name: String,
    /// What it does, for the model to read.
    pub description: Option<String>,
    /// JSON Schema of its arguments, which are an object. `None`: it takes none.
    pub parameters: Option<Value>,
    /// Whether the arguments have to keep to the schema.
    pub strict: bool,
}

/// Whether the model has to call a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it sees fit.
    #[default]
    Auto,
    /// It must not.
    None,
    /// It must call one.
    Required,
    /// It must call this one.
    Named(String),
}

/// The tools of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Tools {
    /// Mostly empty.
    pub list: Vec<Tool>,
    /// Whether one has to be called.
    pub choice: ToolChoice,
    /// Whether one answer may hold several calls.
    pub parallel: bool,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { list: Vec::new(), choice: ToolChoice::Auto, parallel: true }
    }
}

/// Most tools of a request, as OpenAI has it.
pub const MOST_TOOLS: usize = 128;

/// What a dialect calls the fields that [`Tools::check`] complains of.
#[derive(Clone, Copy, Debug)]
pub struct ToolFields {
    /// The list, as `tools`.
    pub list: &'static str,
    /// A tool's name within it, as `function.name`.
    pub name: &'static str,
    /// The choice, as `tool_choice`.
    pub choice: &'static str,
    /// Most characters of a name.
    pub longest_name: usize,
}

impl Tools {
    /// Checks what all dialects want of tools: how many, their names, and that the one that is
    /// chosen is there.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the dialect's own name of the field as `param`.
    pub fn check(&self, fields: &ToolFields) -> Result<(), Error> {
        let ToolFields { list, choice, longest_name, .. } = *fields;
        if self.list.len() > MOST_TOOLS {
            let message = format!("`{list}` must hold at most {MOST_TOOLS} tools");
            return Err(Error::invalid(list, message));
        }
        for (at, tool) in self.list.iter().enumerate() {
            let param = format!("{list}[{at}].{}", fields.name);
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let name = &tool.name;
            if name.is_empty() || name.len() > longest_name || !name.chars().all(allowed) {
                let form = format!("1 to {longest_name} letters, digits, _ or -");
                return Err(Error::invalid(&param, format!("`{param}` must be {form}")));
            }
            if self.list[..at].iter().any(|other| other.name == *name) {
                let message = format!("`{param}` must be unique: there are two tools `{name}`");
                return Err(Error::invalid(&param, message));
            }
        }
        match &self.choice {
            ToolChoice::Named(name) if !self.list.iter().any(|tool| tool.name == *name) => {
                Err(Error::invalid(choice, format!("`{choice}`: `{list}` holds no tool `{name}`")))
            }
            ToolChoice::Required if self.list.is_empty() => {
                Err(Error::invalid(choice, format!("`{choice}` asks for a call without `{list}`")))
            }
            _ => Ok(()),
        }
    }
}

/// What form the answer has to have.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON of a schema: OpenAI's whole `response_format` object, passed on as it is.
    JsonSchema(Value),
}

impl ResponseFormat {
    /// The name that models.json lists it under.
    pub fn name(&self) -> &'static str {
        match self {
            ResponseFormat::Text => "text",
            ResponseFormat::JsonObject => "json_object",
            ResponseFormat::JsonSchema(_) => "json_schema",
        }
    }
}

/// The settings of a run that a model may or may not take. `None` was not asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Limit of the answer in tokens.
    pub max_completion_tokens: Option<u64>,
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// −2 to 2.
    pub presence_penalty: Option<f64>,
    /// −2 to 2.
    pub frequency_penalty: Option<f64>,
    /// `minimal`, `low`, `medium`, `high`: as models.json lists them.
    pub reasoning_effort: Option<String>,
    /// `low`, `medium`, `high`: as models.json lists them.
    pub verbosity: Option<String>,
    /// The form of the answer.
    pub response_format: Option<ResponseFormat>,
}

/// One chat request, whatever dialect it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The model's name as asked for; answers carry it back.
    pub model: String,
    /// The conversation, never empty.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Tools,
    /// What the model may take.
    pub sampling: Sampling,
    /// Texts that end the answer; applied here, LangFast is not known to take them.
    pub stop: Vec<String>,
    /// How many answers, 1 to 8, each a run of its own.
    pub n: usize,
    /// Fields that were asked for and will have no effect.
    pub ignored: Vec<&'static str>,
}

/// What a run is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The conversation as plain text.
    pub messages: Vec<Message>,
    /// What the model may take.
    pub sampling: Sampling,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done, or a stop text came.
    Stop,
    /// The token limit was reached.
    Length,
    /// The answer was withheld.
    ContentFilter,
    /// It calls tools.
    ToolCalls,
}

impl FinishReason {
    /// OpenAI's word for it.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ContentFilter => "content_filter",
            FinishReason::ToolCalls => "tool_calls",
        }
    }
}

/// Tokens used: estimates ([`crate::chat::usage`]), since LangFast tells none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the conversation.
    pub prompt_tokens: u64,
    /// Of all answers together.
    pub completion_tokens: u64,
}
