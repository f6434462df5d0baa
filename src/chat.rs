//! The neutral words that every dialect and LangFast's side translate to and from: a chat request,
//! what a run gives back, and why it ended. Knows neither OpenAI's JSON nor LangFast's.

use serde_json::Value;

/// Who speaks. Tool calls and results have no role of their own here: LangFast knows none, so a
/// dialect turns them into text of the assistant or the user.
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

/// One message of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; parts have been joined.
    pub content: String,
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
    pub messages: Vec<Message>,
    /// What the model may take.
    pub sampling: Sampling,
    /// Texts that end the answer; applied here, LangFast is not known to take them.
    pub stop: Vec<String>,
    /// How many answers, 1 to 8, each a run of its own.
    pub n: usize,
    /// Fields that were asked for and will have no effect.
    pub ignored: Vec<&'static str>,
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
}

impl FinishReason {
    /// OpenAI's word for it.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ContentFilter => "content_filter",
        }
    }
}

/// Tokens used: estimates ([`crate::usage`]), since LangFast tells none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the conversation.
    pub prompt_tokens: u64,
    /// Of all answers together.
    pub completion_tokens: u64,
}
