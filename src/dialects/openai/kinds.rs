//! The kinds of content, item and tool of OpenAI's APIs, and how each is read.
//!
//! Source: the types of OpenAI's own SDKs (openai-python 3.54), and what Codex 0.169 sends.

use serde_json::Value;

use super::client_tools::ClientTool;
use crate::chat::media::MediaKind;
use crate::dialects::kinds::{Fate, Listed, Reading, Table};
use crate::dialects::media::{Data, MediaType};

/// Returns the tables of chat completions, for the documentation.
pub fn of_chat() -> Vec<Listed> {
    vec![Listed::of("parts of messages", PARTS), Listed::of("tools, and calls", CHAT_TOOLS)]
}

/// Returns the tables of responses, for the documentation.
pub fn of_responses() -> Vec<Listed> {
    vec![Listed::of("items", ITEMS), Listed::of("tools", TOOLS)]
}

/// How a part of a message is read.
pub enum PartReading {
    /// As the text in this field.
    Text(&'static str),
    /// As something that is no text.
    Media(MediaType),
}

impl Reading for PartReading {
    fn fate(&self) -> Fate {
        match self {
            PartReading::Text(_) => Fate::Text,
            PartReading::Media(_) => Fate::Media,
        }
    }
}

/// The parts of messages, and of what tools give back, in chat completions and responses.
pub const PARTS: Table<PartReading> = &[
    ("text", PartReading::Text("text")),
    ("input_text", PartReading::Text("text")),
    ("output_text", PartReading::Text("text")),
    ("refusal", PartReading::Text("refusal")),
    ("image_url", PartReading::Media(media(MediaKind::Image, image))),
    ("input_image", PartReading::Media(media(MediaKind::Image, image))),
    ("computer_screenshot", PartReading::Media(media(MediaKind::Image, image))),
    ("input_audio", PartReading::Media(media(MediaKind::Audio, audio))),
    ("file", PartReading::Media(media(MediaKind::File, file))),
    ("input_file", PartReading::Media(media(MediaKind::File, file))),
];

/// An earlier answer of the assistant's that was audio: the request has only its id.
pub const SPOKEN: MediaType = media(MediaKind::Audio, |_| Data::Elsewhere);

const fn media(kind: MediaKind, data: fn(&Value) -> Data<'_>) -> MediaType {
    MediaType { kind, refusal: "", data }
}

/// Finds an image, which is a URL, or an object with one.
fn image(part: &Value) -> Data<'_> {
    let image = &part["image_url"];
    match image.as_str().or_else(|| image["url"].as_str()) {
        Some(url) => {
            Data::Url { url, detail: image["detail"].as_str().or(part["detail"].as_str()) }
        }
        None => Data::Elsewhere,
    }
}

fn audio(part: &Value) -> Data<'_> {
    let audio = &part["input_audio"];
    match audio["data"].as_str() {
        Some(base64) => Data::Base64 { format: audio["format"].as_str(), base64, detail: None },
        None => Data::Elsewhere,
    }
}

/// Finds a file. Its fields stand in the part itself in responses, and in an object in chat completions.
fn file(part: &Value) -> Data<'_> {
    let file = part.get("file").unwrap_or(part);
    match file["file_data"].as_str().or(file["file_url"].as_str()) {
        Some(url) => Data::Url { url, detail: None },
        None => Data::Elsewhere,
    }
}

/// How a tool of a chat completion is read.
pub enum ChatToolReading {
    /// A function with arguments.
    Function,
    /// A tool that takes one text.
    Custom,
}

impl Reading for ChatToolReading {
    fn fate(&self) -> Fate {
        Fate::Tool
    }
}

/// The tools of chat completions. OpenAI has no hosted ones there; clients send those of responses.
pub const CHAT_TOOLS: Table<ChatToolReading> =
    &[("function", ChatToolReading::Function), ("custom", ChatToolReading::Custom)];

/// How an item of a response's input is read.
pub enum ItemReading {
    /// A message.
    Message,
    /// A call of a function.
    FunctionCall,
    /// A call of a tool that takes one text.
    CustomCall,
    /// The output of a function or of a tool that takes one text.
    Output,
    /// A call of a tool of OpenAI's that the client has run.
    ClientCall(ClientTool),
    /// The output of a tool of OpenAI's that the client has run.
    ClientOutput(ClientTool),
    /// Further tools.
    Tools,
    /// A reference to an item that is stored.
    Reference,
    /// What another server has noted for itself, such as a model's reasoning.
    PassedOver,
    /// The work of a tool on OpenAI's servers, or an item that cannot be read without them.
    LeftOut,
    /// A request for something other than an answer.
    Refused,
}

impl Reading for ItemReading {
    fn fate(&self) -> Fate {
        match self {
            ItemReading::Message => Fate::Text,
            ItemReading::FunctionCall
            | ItemReading::CustomCall
            | ItemReading::Output
            | ItemReading::ClientCall(_)
            | ItemReading::ClientOutput(_)
            | ItemReading::Tools => Fate::Tool,
            ItemReading::PassedOver => Fate::PassedOver,
            ItemReading::LeftOut => Fate::LeftOut,
            ItemReading::Reference | ItemReading::Refused => Fate::Refused,
        }
    }
}

/// The items of a response's input.
pub const ITEMS: Table<ItemReading> = &[
    ("message", ItemReading::Message),
    ("function_call", ItemReading::FunctionCall),
    ("function_call_output", ItemReading::Output),
    ("custom_tool_call", ItemReading::CustomCall),
    ("custom_tool_call_output", ItemReading::Output),
    ("local_shell_call", ItemReading::ClientCall(ClientTool::LocalShell)),
    ("local_shell_call_output", ItemReading::ClientOutput(ClientTool::LocalShell)),
    ("shell_call", ItemReading::ClientCall(ClientTool::Shell)),
    ("shell_call_output", ItemReading::ClientOutput(ClientTool::Shell)),
    ("apply_patch_call", ItemReading::ClientCall(ClientTool::ApplyPatch)),
    ("apply_patch_call_output", ItemReading::ClientOutput(ClientTool::ApplyPatch)),
    ("tool_search_call", ItemReading::ClientCall(ClientTool::ToolSearch)),
    ("tool_search_output", ItemReading::ClientOutput(ClientTool::ToolSearch)),
    ("additional_tools", ItemReading::Tools),
    ("item_reference", ItemReading::Reference),
    ("reasoning", ItemReading::PassedOver),
    ("web_search_call", ItemReading::LeftOut),
    ("file_search_call", ItemReading::LeftOut),
    ("code_interpreter_call", ItemReading::LeftOut),
    ("image_generation_call", ItemReading::LeftOut),
    ("computer_call", ItemReading::LeftOut),
    ("computer_call_output", ItemReading::LeftOut),
    ("mcp_call", ItemReading::LeftOut),
    ("mcp_list_tools", ItemReading::LeftOut),
    ("mcp_approval_request", ItemReading::LeftOut),
    ("mcp_approval_response", ItemReading::LeftOut),
    ("compaction", ItemReading::LeftOut),
    ("configuration_update", ItemReading::LeftOut),
    ("program", ItemReading::LeftOut),
    ("program_output", ItemReading::LeftOut),
    ("compaction_trigger", ItemReading::Refused),
];

/// How a tool of a response is read.
pub enum ToolReading {
    /// A function with arguments.
    Function,
    /// A tool that takes one text.
    Custom,
    /// Several functions and custom tools under a common name.
    Namespace,
    /// A tool of OpenAI's that the client runs, unless it asks for one on OpenAI's servers.
    Client(ClientTool),
    /// A tool that OpenAI's servers run, or that needs more than text.
    LeftOut,
}

impl Reading for ToolReading {
    fn fate(&self) -> Fate {
        match self {
            ToolReading::LeftOut => Fate::LeftOut,
            _ => Fate::Tool,
        }
    }
}

/// The tools of responses.
pub const TOOLS: Table<ToolReading> = &[
    ("function", ToolReading::Function),
    ("custom", ToolReading::Custom),
    ("namespace", ToolReading::Namespace),
    ("local_shell", ToolReading::Client(ClientTool::LocalShell)),
    ("shell", ToolReading::Client(ClientTool::Shell)),
    ("apply_patch", ToolReading::Client(ClientTool::ApplyPatch)),
    ("tool_search", ToolReading::Client(ClientTool::ToolSearch)),
    ("web_search*", ToolReading::LeftOut),
    ("file_search", ToolReading::LeftOut),
    ("code_interpreter", ToolReading::LeftOut),
    ("image_generation", ToolReading::LeftOut),
    ("computer*", ToolReading::LeftOut),
    ("mcp", ToolReading::LeftOut),
    ("programmatic_tool_calling", ToolReading::LeftOut),
];
