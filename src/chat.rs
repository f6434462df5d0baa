//! The neutral model of a chat that dialects and LangFast's side translate to and from: request,
//! output of a run, finish reason. And the processing of text that all dialects share.
//!
//! Enters: a conversation as neutral values. Leaves: messages that LangFast's models accept, and
//! the meaning of the models' text. It may know neither a dialect's JSON nor LangFast's, and no
//! socket.

mod content;
pub mod json_mode;
pub mod media;
pub mod models;
pub mod nesting;
pub mod schema;
pub mod stop;
pub mod tools;
pub mod usage;
pub mod values;

use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use serde_json::Value;

pub use content::{Content, Part};

use crate::error::Error;

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions, for models up to gpt-4.1.
    System,
    /// Instructions, for the reasoning models.
    Developer,
    /// The person who asks.
    User,
    /// The model that answers.
    Assistant,
}

impl Role {
    /// Returns the role's name, which is the same for LangFast and OpenAI.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// What somebody says; LangFast knows no other kind of message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The author.
    pub role: Role,
    /// The text, with the texts of the client's message joined, and images.
    pub content: Content,
}

/// One turn of a conversation as clients send it. LangFast knows no tools: [`crate::chat::tools`]
/// turns calls and results into messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// A message from any role.
    Message(Message),
    /// The model's turn with at least one tool call.
    Calls {
        /// What the model says before the calls; mostly nothing.
        content: Content,
        /// The calls in their order.
        calls: Vec<ToolCall>,
    },
    /// A tool's result for one call.
    Result(ToolResult),
}

impl Turn {
    /// Creates a turn without calls and results.
    pub fn message(role: Role, content: impl Into<Content>) -> Turn {
        Turn::Message(Message { role, content: content.into() })
    }

    /// Returns what is said in the turn, and whether images may be: OpenAI's API takes them from the
    /// user alone, under whose name a tool's result is told.
    fn content_mut(&mut self) -> (&mut Content, bool) {
        match self {
            Turn::Message(message) => (&mut message.content, message.role == Role::User),
            Turn::Calls { content, .. } => (content, false),
            Turn::Result(result) => (&mut result.content, true),
        }
    }

    /// Bytes of memory that what is said and called in the turn takes.
    pub fn bytes(&self) -> usize {
        match self {
            Turn::Message(message) => message.content.bytes(),
            Turn::Calls { content, calls } => {
                content.bytes() + calls.iter().map(|call| call.arguments.len()).sum::<usize>()
            }
            Turn::Result(result) => result.content.bytes(),
        }
    }

    /// True if the turn is a message of this role.
    pub fn is_of(&self, role: Role) -> bool {
        matches!(self, Turn::Message(message) if message.role == role)
    }

    /// True if the turn is a message of which nothing is there.
    pub fn is_empty(&self) -> bool {
        matches!(self, Turn::Message(message) if message.content.is_empty())
    }

    /// Returns the message; `None` if the turn is calls or a result.
    pub fn into_message(self) -> Option<Message> {
        if let Turn::Message(message) = self { Some(message) } else { None }
    }
}

/// The model's call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ToolCall {
    /// The id by which the result refers to the call.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as the model wrote them: meant to be JSON, perhaps invalid.
    pub arguments: String,
}

impl ToolCall {
    /// Returns a random id for a new call.
    pub fn new_id() -> String {
        std::iter::once("call_".to_owned())
            .chain((0..24).map(|_| fastrand::alphanumeric().to_string()))
            .collect()
    }
}

/// A tool's result for one call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ToolResult {
    /// The id of the call.
    pub call_id: String,
    /// The tool's name, if the client sent it; else the name in the call applies.
    pub name: Option<String>,
    /// What the tool gave back: untrusted data from outside.
    pub content: Content,
    /// True if the client marked the result as a failure.
    pub is_error: bool,
}

/// The ids of the calls in a conversation, as it is read: to look through its calls for each result would
/// take time by the square of their number.
#[derive(Debug, Default)]
pub struct CallIds {
    ids: HashSet<String>,
    /// The number of turns before the last one that was looked at, and of calls in that one.
    turns: usize,
    calls: usize,
}

impl CallIds {
    /// True if a call with this id is in `turns`: those that were looked at before, to which turns, and calls
    /// in the last one, may have been added.
    pub fn hold(&mut self, turns: &[Turn], id: &str) -> bool {
        for (at, turn) in turns.iter().enumerate().skip(self.turns) {
            let known = if at == self.turns { self.calls } else { 0 };
            (self.turns, self.calls) = (at, 0);
            if let Turn::Calls { calls, .. } = turn {
                self.ids.extend(calls.iter().skip(known).map(|call| call.id.clone()));
                self.calls = calls.len();
            }
        }
        self.ids.contains(id)
    }
}

/// A tool that the model may call.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Tool {
    /// The tool's name, unique within a request.
    pub name: String,
    /// The tool's purpose, for the model to read.
    pub description: Option<String>,
    /// JSON Schema of the arguments object; `None` if the tool takes no arguments.
    pub parameters: Option<Value>,
    /// True if the arguments must match the schema.
    pub strict: bool,
    /// True if the client shows the description only when the model has searched for it.
    pub deferred: bool,
}

/// The client's demand on whether the model calls a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// The model must not call a tool.
    None,
    /// The model must call at least one tool.
    Required,
    /// The model must call the tool of this name.
    Named(String),
}

/// The tools of a request and the rules for calling them.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Tools {
    /// The tools that the model may call; mostly empty.
    pub list: Vec<Tool>,
    /// The demand on whether one is called.
    pub choice: ToolChoice,
    /// The names of those that may be called now; `None` if all may be.
    pub allowed: Option<Vec<String>>,
    /// True if one answer may hold several calls.
    pub parallel: bool,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { list: Vec::new(), choice: ToolChoice::Auto, allowed: None, parallel: true }
    }
}

/// Most tools in a request where the API sets no lower limit: as many as Anthropic lets a model search.
pub const MOST_TOOLS: usize = 10_000;

/// A dialect's names for the fields that [`Tools::check`] complains of.
#[derive(Clone, Copy, Debug)]
pub struct ToolFields {
    /// The list of tools, such as `tools`.
    pub list: &'static str,
    /// A tool's name within the list, such as `function.name`.
    pub name: &'static str,
    /// The tool choice, such as `tool_choice`.
    pub choice: &'static str,
    /// Most characters of a tool's name.
    pub longest_name: usize,
    /// Most tools, at most [`MOST_TOOLS`].
    pub most: usize,
}

impl Tools {
    /// Lets the model decide, if it can call nothing that it has to: no tool is there, or the one that it
    /// has to call is among those that are `gone`. Returns true if so.
    pub fn drop_vain_choice(&mut self, gone: &[String]) -> bool {
        let is_vain = match &self.choice {
            ToolChoice::Required => self.list.is_empty(),
            ToolChoice::Named(name) => gone.contains(name),
            ToolChoice::Auto | ToolChoice::None => false,
        };
        if is_vain {
            self.choice = ToolChoice::Auto;
        }
        is_vain
    }

    /// Lets only these tools be called; none at all if that is no tool.
    pub fn allow_only(&mut self, mut names: Vec<String>) {
        if names.is_empty() {
            self.list.clear();
            return;
        }
        let mut allowed = HashSet::new();
        names.retain(|name| allowed.insert(name.clone()));
        if self.list.iter().any(|tool| !allowed.contains(&tool.name)) {
            self.allowed = Some(names);
        }
    }

    /// Checks the rules that all dialects share: the number of tools, their names, and that the
    /// chosen tool exists.
    ///
    /// # Errors
    /// [`Error::Invalid`], whose `param` is the dialect's name of the field.
    pub fn check(&self, fields: &ToolFields) -> Result<(), Error> {
        let ToolFields { list, choice, longest_name, most, .. } = *fields;
        if self.list.len() > most {
            let message = format!("`{list}` must hold at most {most} tools");
            return Err(Error::invalid(list, message));
        }
        let mut names = HashSet::new();
        for (at, tool) in self.list.iter().enumerate() {
            let param = format!("{list}[{at}].{}", fields.name);
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let name = &tool.name;
            if name.is_empty() || name.len() > longest_name || !name.chars().all(allowed) {
                let form = format!("1 to {longest_name} letters, digits, _ or -");
                return Err(Error::invalid(&param, format!("`{param}` must be {form}")));
            }
            if !names.insert(name) {
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

/// The form that an answer must have.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that fits a schema; holds OpenAI's whole `response_format` object, which is passed on
    /// unchanged.
    JsonSchema(Value),
}

impl ResponseFormat {
    /// Returns the name of the form in models.json.
    pub fn name(&self) -> &'static str {
        match self {
            ResponseFormat::Text => "text",
            ResponseFormat::JsonObject => "json_object",
            ResponseFormat::JsonSchema(_) => "json_schema",
        }
    }
}

/// The optional settings of a run, which not every model takes. `None` means that the client did
/// not set it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Most tokens of the answer.
    pub max_completion_tokens: Option<u64>,
    /// From 0 to 2.
    pub temperature: Option<f64>,
    /// From 0 to 1.
    pub top_p: Option<f64>,
    /// From −2 to 2.
    pub presence_penalty: Option<f64>,
    /// From −2 to 2.
    pub frequency_penalty: Option<f64>,
    /// One of the values in models.json, such as `minimal`, `low`, `medium` or `high`.
    pub reasoning_effort: Option<String>,
    /// One of the values in models.json, such as `low`, `medium` or `high`.
    pub verbosity: Option<String>,
    /// The form of the answer.
    pub response_format: Option<ResponseFormat>,
}

/// All but the limit of tokens: see [`ChatRequest`]'s.
impl Hash for Sampling {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Sampling { temperature, top_p, presence_penalty, frequency_penalty, .. } = self;
        for number in [temperature, top_p, presence_penalty, frequency_penalty] {
            number.map(f64::to_bits).hash(state);
        }
        let Sampling { reasoning_effort, verbosity, response_format, .. } = self;
        (reasoning_effort, verbosity, response_format).hash(state);
    }
}

/// Something in a request of which nothing can be made here: it is left out, and named by its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its path in the request, such as `messages[2].content[1]`.
    pub place: String,
    /// Who can take it back.
    pub standing: Standing,
}

/// Where something stands that is left out: whether whoever asks can take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the request's own fields, such as its tools: a new request can do without it.
    Request,
    /// In the user's turn of this index: it can be taken back while that turn is the newest question.
    Turn(usize),
    /// In what a model or a tool has said: clients send it again with every request.
    History,
}

impl LeftOut {
    /// True if whoever asks can take it back, where the newest question is the turn `question`.
    pub fn is_of_this_request(&self, question: Option<usize>) -> bool {
        match self.standing {
            Standing::Request => true,
            Standing::Turn(at) => question == Some(at),
            Standing::History => false,
        }
    }
}

/// One chat request, independent of the dialect it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The model's name as the client wrote it; answers repeat it.
    pub model: String,
    /// The conversation; never empty.
    pub turns: Vec<Turn>,
    /// The tools that the model may call.
    pub tools: Tools,
    /// The settings of the runs.
    pub sampling: Sampling,
    /// Texts that end the answer. They are applied here, because LangFast is not known to take
    /// them.
    pub stop: Vec<String>,
    /// Number of answers, up to 8; each is a run of its own. 0 if the client only prepares a later
    /// request and wants no answer.
    pub n: usize,
    /// Names of fields that the client set and that have no effect.
    pub ignored: Vec<&'static str>,
    /// Parts of the request that the dialect cannot pass on.
    pub left_out: Vec<LeftOut>,
}

/// Covers the fields of which a run is made. Those without effect do not count, nor does the limit of tokens:
/// Claude Code halves it when a stream has broken off, and then asks once more without streaming.
impl Hash for ChatRequest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ChatRequest { model, turns, tools, sampling, stop, n, ignored: _, left_out: _ } = self;
        (model, turns, tools, sampling, stop, n).hash(state);
    }
}

/// The input of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// The conversation as plain messages.
    pub messages: Vec<Message>,
    /// The settings of the run.
    pub sampling: Sampling,
    /// What the model is told behind the conversation.
    pub closing: Closing,
}

/// Instructions behind the conversation: they hold for one answer, so the next request does not repeat
/// them, and what is in front of them stays what it was. Empty texts are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Closing {
    /// Said where the run has the [`Sampling::response_format`] that the prompt asks for.
    pub usual: String,
    /// Said in its place where the model does not take that.
    pub unformatted: String,
    /// True if the client has asked for the format, so that its absence is named.
    pub is_clients: bool,
}

impl Closing {
    /// Returns the message; `None` if there is nothing to say.
    pub fn message(&self, is_formatted: bool) -> Option<Message> {
        let words = if is_formatted { &self.usual } else { &self.unformatted };
        let message = || Message { role: Role::System, content: words.as_str().into() };
        (!words.is_empty()).then(message)
    }
}

/// The reason that an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model was done, or a stop text was reached.
    Stop,
    /// The token limit was reached.
    Length,
    /// The answer was withheld.
    ContentFilter,
    /// The answer calls tools.
    ToolCalls,
}

impl FinishReason {
    /// Returns OpenAI's word for the reason.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ContentFilter => "content_filter",
            FinishReason::ToolCalls => "tool_calls",
        }
    }
}

/// Tokens of a request and its answers: as LangFast reports them, or else as estimated
/// ([`crate::chat::usage`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the conversation.
    pub prompt_tokens: u64,
    /// Tokens of the conversation that were read from a cache, as far as is known.
    pub cached_tokens: u64,
    /// Tokens of all answers together.
    pub completion_tokens: u64,
    /// Tokens of the answers that were spent on thinking, as far as is known.
    pub reasoning_tokens: u64,
}

/// The tokens of one run as LangFast has counted them, as far as it reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportedUsage {
    /// Tokens of the conversation.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the conversation that were read from a cache.
    pub cached_tokens: Option<u64>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u64>,
    /// Tokens of the answer that were spent on thinking.
    pub reasoning_tokens: Option<u64>,
}
