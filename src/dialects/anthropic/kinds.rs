//! The kinds of block and tool of Anthropic's API, and how each is read.
//!
//! Source: the types of Anthropic's own SDKs (anthropic-sdk-python 2.13).

use serde_json::Value;

use super::known_tools::{BASH, EDITOR, KnownTool, MEMORY, OLD_EDITOR};
use crate::chat::media::MediaKind;
use crate::dialects::kinds::{Fate, Listed, Reading, Table};
use crate::dialects::media::{Data, MediaType};

/// Returns the tables of the Messages API, for the documentation.
pub fn of_messages() -> Vec<Listed> {
    vec![Listed::of("blocks", BLOCKS), Listed::of("tools", TOOLS)]
}

/// How a block is read.
pub enum BlockReading {
    /// As the text in its `text`.
    Text,
    /// As the text of its blocks, below its title and its source.
    SearchResult,
    /// As a text if it is one, else as a file.
    Document(MediaType),
    /// As something that is no text.
    Media(MediaType),
    /// A call of a tool.
    Call,
    /// The result of a call.
    Result,
    /// As the name of a tool.
    ToolReference,
    /// As the text in its `content`, which stands for the conversation before it.
    Compaction,
    /// Another model's thoughts, which are of no use to this one, and mostly encrypted.
    PassedOver,
    /// The work of a tool on Anthropic's servers, or a block that cannot be read without them.
    LeftOut,
}

impl Reading for BlockReading {
    fn fate(&self) -> Fate {
        match self {
            BlockReading::Text
            | BlockReading::SearchResult
            | BlockReading::ToolReference
            | BlockReading::Compaction => Fate::Text,
            BlockReading::Document(_) | BlockReading::Media(_) => Fate::Media,
            BlockReading::Call | BlockReading::Result => Fate::Tool,
            BlockReading::PassedOver => Fate::PassedOver,
            BlockReading::LeftOut => Fate::LeftOut,
        }
    }
}

/// The blocks of messages, of instructions, and of what tools give back. The words of refusal are those by
/// which Claude Code knows that it has to take the block out of its conversation (seen in version 2.1.331).
/// Without them it sends the block for ever.
pub const BLOCKS: Table<BlockReading> = &[
    ("text", BlockReading::Text),
    ("search_result", BlockReading::SearchResult),
    ("tool_reference", BlockReading::ToolReference),
    ("compaction", BlockReading::Compaction),
    ("tool_use", BlockReading::Call),
    ("tool_result", BlockReading::Result),
    (
        "image",
        BlockReading::Media(MediaType {
            kind: MediaKind::Image,
            refusal: "Could not process image",
            data: source,
        }),
    ),
    (
        "document",
        BlockReading::Document(MediaType {
            kind: MediaKind::File,
            refusal: "capability_rejected: document_block",
            data: source,
        }),
    ),
    (
        "container_upload",
        BlockReading::Media(MediaType { kind: MediaKind::File, refusal: "", data: source }),
    ),
    ("thinking", BlockReading::PassedOver),
    ("redacted_thinking", BlockReading::PassedOver),
    ("fallback", BlockReading::PassedOver),
    ("server_tool_use", BlockReading::LeftOut),
    ("web_search_tool_result", BlockReading::LeftOut),
    ("web_fetch_tool_result", BlockReading::LeftOut),
    ("code_execution_tool_result", BlockReading::LeftOut),
    ("bash_code_execution_tool_result", BlockReading::LeftOut),
    ("text_editor_code_execution_tool_result", BlockReading::LeftOut),
    ("tool_search_tool_result", BlockReading::LeftOut),
    ("advisor_tool_result", BlockReading::LeftOut),
    ("mcp_tool_use", BlockReading::LeftOut),
    ("mcp_tool_result", BlockReading::LeftOut),
    ("mcp_tool_listing", BlockReading::LeftOut),
    ("tool_addition", BlockReading::LeftOut),
    ("tool_removal", BlockReading::LeftOut),
    ("browser_state", BlockReading::LeftOut),
];

/// Finds the data of an image or a document.
fn source(block: &Value) -> Data<'_> {
    let source = &block["source"];
    match (source["data"].as_str(), source["url"].as_str()) {
        (Some(base64), _) => {
            Data::Base64 { format: source["media_type"].as_str(), base64, detail: None }
        }
        (None, Some(url)) => Data::Url { url, detail: None },
        (None, None) => Data::Elsewhere,
    }
}

/// How a tool is read.
pub enum ToolReading {
    /// The client's own.
    Own,
    /// One that Anthropic's models know and the client runs.
    Known(KnownTool),
    /// One that Anthropic's servers run, or that needs more than text.
    LeftOut,
}

impl Reading for ToolReading {
    fn fate(&self) -> Fate {
        match self {
            ToolReading::Own | ToolReading::Known(_) => Fate::Tool,
            ToolReading::LeftOut => Fate::LeftOut,
        }
    }
}

/// The kinds of the search for tools that Anthropic's servers do.
pub const SERVER_SEARCH: &str = "tool_search_tool_*";

/// The tools. Those of Anthropic's end in the date of their version: a later one is taken to be the same
/// (inferred from those so far).
pub const TOOLS: Table<ToolReading> = &[
    ("custom", ToolReading::Own),
    ("bash_*", ToolReading::Known(BASH)),
    ("text_editor_20241022", ToolReading::Known(OLD_EDITOR)),
    ("text_editor_20250124", ToolReading::Known(OLD_EDITOR)),
    ("text_editor_*", ToolReading::Known(EDITOR)),
    ("memory_*", ToolReading::Known(MEMORY)),
    ("web_search_*", ToolReading::LeftOut),
    ("web_fetch_*", ToolReading::LeftOut),
    ("code_execution_*", ToolReading::LeftOut),
    (SERVER_SEARCH, ToolReading::LeftOut),
    ("advisor_*", ToolReading::LeftOut),
    ("computer_*", ToolReading::LeftOut),
    ("browser_*", ToolReading::LeftOut),
    ("mcp_toolset", ToolReading::LeftOut),
];
