//! Reads the body of `POST /v1/messages`, field by field; an error names the wrong field.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::error::THREAD_UNSUPPORTED;
use super::kinds::{BLOCKS, BlockReading};
use super::response::MessageAnswer;
use super::tools;
use crate::budget::Body;
use crate::chat::media::Images;
use crate::chat::tools::described;
use crate::chat::{
    CallIds, ChatRequest, Content, Part, ResponseFormat, Role, Sampling, Tool, ToolCall,
    ToolResult, Turn,
};
use crate::dialects::CompletionRequest;
use crate::dialects::fields::{Fields, wrong_type};
use crate::dialects::kinds::find;
use crate::dialects::media::MediaReader;
use crate::error::Error;

/// Most stop texts of a request: more than any client sends, and each is looked for in all of the answer.
const MOST_STOPS: usize = 1_000;

/// The fields of a body that are read.
const FIELDS: &[&str] = &[
    "container",
    "context_management",
    "max_tokens",
    "mcp_servers",
    "messages",
    "model",
    "output_config",
    "output_format",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "thread",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

/// Reads a body as a request with one conversation. Fields that Anthropic does not have are ignored, and so are
/// null ones.
///
/// # Errors
/// [`Error::Invalid`], with the field's name as `param`; see also [`Fields::parse`].
pub fn parse(body: &mut Body, images: Images) -> Result<CompletionRequest, Error> {
    let fields = Fields::parse(body, FIELDS)?;
    let mut request = conversation(&fields, MediaReader::new(images, body))?;
    let limit = token_limit(&fields)?;
    // Known: with no tokens to write, only the cache of prompts is filled.
    request.n = usize::from(limit > 0);
    request.sampling = Sampling {
        max_completion_tokens: Some(limit),
        reasoning_effort: effort(&fields)?,
        temperature: fields.number("temperature", 0.0, 1.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        ..request.sampling
    };
    request.stop = stops(&fields)?;
    request.ignored = without_effect(&fields, &request.turns)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let dialect = Box::new(MessageAnswer::new(&request.model));
    Ok(CompletionRequest { chats: vec![request], stream, dialect, keeper: None })
}

/// Reads the body of `POST /v1/messages/count_tokens`, which has only the fields that make up the prompt.
///
/// # Errors
/// [`Error::Invalid`], with the field's name as `param`; see also [`Fields::parse`].
pub fn parse_to_count(body: &mut Body, images: Images) -> Result<ChatRequest, Error> {
    let fields = Fields::parse(body, FIELDS)?;
    conversation(&fields, MediaReader::new(images, body))
}

/// Reads all fields that become part of the prompt.
fn conversation(fields: &Fields, media: MediaReader) -> Result<ChatRequest, Error> {
    let model = fields.required_string("model")?;
    if model.is_empty() {
        return Err(fields.missing("model"));
    }
    refuse_what_servers_keep(fields)?;
    let mut tools_left_out = Vec::new();
    let tools = tools::parse(fields, &mut tools_left_out)?;
    let tools_by_name = tools.list.iter().map(|tool| (tool.name.as_str(), tool)).collect();
    let (described, called) = (HashSet::new(), CallIds::default());
    let mut reader = Reader { media, tools: tools_by_name, described, called };
    let turns = turns(fields, &mut reader)?;
    let mut left_out = reader.media.finish("messages", &turns)?;
    left_out.append(&mut tools_left_out);
    Ok(ChatRequest {
        model: model.to_owned(),
        turns,
        tools,
        sampling: Sampling { response_format: response_format(fields)?, ..Sampling::default() },
        stop: Vec::new(),
        n: 1,
        ignored: Vec::new(),
        left_out,
    })
}

/// Refuses a reference to a conversation that only Anthropic's servers have: without it, the model would
/// lack part of what was said.
fn refuse_what_servers_keep(fields: &Fields) -> Result<(), Error> {
    if fields.get("thread").is_some_and(|thread| *thread != false) {
        return Err(Error::Invalid {
            message: "`thread`: no conversation is kept here; send all of it".to_owned(),
            param: Some("thread".to_owned()),
            code: Some(THREAD_UNSUPPORTED),
        });
    }
    Ok(())
}

fn token_limit(fields: &Fields) -> Result<u64, Error> {
    let limit = fields.integer("max_tokens")?.ok_or_else(|| fields.missing("max_tokens"))?;
    let too_low =
        || Error::invalid("max_tokens", format!("`max_tokens` must be at least 0, not {limit}"));
    u64::try_from(limit).map_err(|_| too_low())
}

fn effort(fields: &Fields) -> Result<Option<String>, Error> {
    let Some(config) = fields.object("output_config")? else { return Ok(None) };
    Ok(config.string("effort")?.map(str::to_owned))
}

/// Reads the form of the answer: `output_config.format`, or `output_format`, its name in the beta.
fn response_format(fields: &Fields) -> Result<Option<ResponseFormat>, Error> {
    let config = fields.object("output_config")?;
    let format = match &config {
        Some(config) => config.object("format")?,
        None => None,
    };
    let Some(format) = format.or(fields.object("output_format")?) else { return Ok(None) };
    if format.required_string("type")? != "json_schema" {
        let path = format.path("type");
        return Err(Error::invalid(&path, format!("`{path}` must be json_schema")));
    }
    let Some(schema @ Value::Object(_)) = format.get("schema") else {
        return Err(format.wrong("schema", "a JSON Schema"));
    };
    let named = json!({"name": "answer", "schema": schema});
    Ok(Some(ResponseFormat::JsonSchema(json!({"type": "json_schema", "json_schema": named}))))
}

fn stops(fields: &Fields) -> Result<Vec<String>, Error> {
    if fields.list("stop_sequences")?.len() > MOST_STOPS {
        let message = format!("`stop_sequences` must hold at most {MOST_STOPS} texts");
        return Err(Error::invalid("stop_sequences", message));
    }
    let text = |stop: &Value| stop.as_str().map(str::to_owned);
    let stops: Option<Vec<String>> = fields.list("stop_sequences")?.iter().map(text).collect();
    stops.ok_or_else(|| fields.wrong("stop_sequences", "a list of strings"))
}

/// Returns the names of the fields that ask for something and have no effect here, and `prefill` for a begun
/// answer.
fn without_effect(fields: &Fields, turns: &[Turn]) -> Result<Vec<&'static str>, Error> {
    let mut ignored = Vec::new();
    for name in ["top_k", "container", "context_management"] {
        if fields.get(name).is_some() {
            ignored.push(name);
        }
    }
    let thinking = fields.object("thinking")?;
    if thinking.is_some_and(|thinking| thinking.get("type").is_none_or(|kind| kind != "disabled")) {
        ignored.push("thinking");
    }
    // The model gets what it has said so far, and answers that; it does not go on in mid-sentence.
    if matches!(turns.last(), Some(Turn::Message(last)) if last.role == Role::Assistant) {
        ignored.push("prefill");
    }
    Ok(ignored)
}

/// The reader of a request's blocks.
struct Reader<'a> {
    media: MediaReader<'a>,
    /// The tools of the request by their names.
    tools: HashMap<&'a str, &'a Tool>,
    /// The names of the tools that have been described in a message, since messages may refer to a tool any
    /// number of times.
    described: HashSet<&'a str>,
    /// The calls of the messages before the one that is read.
    called: CallIds,
}

impl Reader<'_> {
    /// Returns a reference to a tool in words, and the tool's description with the first one: from here on it
    /// can be called.
    fn tool(&mut self, name: &str) -> String {
        match self.tools.get(name) {
            Some(tool) if tool.deferred && self.described.insert(&tool.name) => {
                format!("The tool {name} can be called now:\n{}", described(tool))
            }
            Some(_) => format!("The tool {name} can be called now."),
            None => format!("The tool {name}"),
        }
    }
}

fn turns(fields: &Fields, reader: &mut Reader) -> Result<Vec<Turn>, Error> {
    let mut turns = Vec::new();
    let system = fields.get("system").map(|system| said("system", system, reader));
    if let Some(system) = system.transpose()?.filter(|system| !system.is_empty()) {
        turns.push(Turn::message(Role::System, system));
    }
    reader.media.end_message(&turns);
    let list = fields.messages()?;
    for (at, value) in list.iter().enumerate() {
        add_turns(&Fields::of(value, &format!("messages[{at}]"))?, &mut turns, reader)?;
        reader.media.end_message(&turns);
    }
    Ok(turns)
}

/// Adds a message's turns: results of tools are turns of their own.
fn add_turns(message: &Fields, turns: &mut Vec<Turn>, reader: &mut Reader) -> Result<(), Error> {
    let role = message.required_string("role")?;
    let path = message.path("content");
    let content = message.get("content").ok_or_else(|| message.missing("content"))?;
    match role {
        "user" => return add_user(&path, content, turns, reader),
        "assistant" => turns.extend(assistant(&path, content, reader)?),
        "system" => turns.push(Turn::message(Role::System, said(&path, content, reader)?)),
        _ => {
            let path = message.path("role");
            let message = format!("`{path}` must be user, assistant or system");
            return Err(Error::invalid(path, message));
        }
    }
    Ok(())
}

/// Adds a user's message: first the results of tools, then what is said.
fn add_user(
    path: &str,
    content: &Value,
    turns: &mut Vec<Turn>,
    reader: &mut Reader,
) -> Result<(), Error> {
    let mut said = Vec::new();
    let mut results = Vec::new();
    for (at, block) in blocks(path, content, reader)? {
        match block {
            Block::Said(content) => said.push(content),
            Block::Result(result) => {
                let is_of_call = reader.called.hold(turns, &result.call_id);
                check_result(path, at, &result, is_of_call)?;
                results.push(Turn::Result(result));
            }
            Block::Call(_) => return Err(misplaced(&path_of(path, at), "assistant")),
        }
    }
    let has_only_results = said.iter().all(Content::is_empty) && !results.is_empty();
    turns.append(&mut results);
    if !has_only_results {
        turns.push(Turn::message(Role::User, lines(said)));
    }
    Ok(())
}

/// Reads a message of the assistant's; `None` if nothing can be read of it.
fn assistant(path: &str, content: &Value, reader: &mut Reader) -> Result<Option<Turn>, Error> {
    let mut whole = Content::default();
    let mut calls = Vec::new();
    for (at, block) in blocks(path, content, reader)? {
        match block {
            // An answer may be cut into blocks anywhere, for instance at a citation.
            Block::Said(piece) => whole.append(piece),
            Block::Call(call) => calls.push(call),
            Block::Result(_) => return Err(misplaced(&path_of(path, at), "user")),
        }
    }
    let is_gone = whole.is_empty() && calls.is_empty() && !content.is_string();
    Ok((!is_gone).then(|| match calls.is_empty() {
        true => Turn::message(Role::Assistant, whole),
        false => Turn::Calls { content: whole, calls },
    }))
}

fn misplaced(path: &str, role: &str) -> Error {
    let message = format!("`{path}` is of a type that only messages of role {role} can hold");
    Error::invalid(path, message)
}

/// Refuses a result unless it is of a call in the turns before it.
fn check_result(
    path: &str,
    at: Option<usize>,
    result: &ToolResult,
    is_of_call: bool,
) -> Result<(), Error> {
    if is_of_call {
        return Ok(());
    }
    let path = format!("{}.tool_use_id", path_of(path, at));
    let message = format!(
        "`{path}` is `{}`: each tool_result block must have its tool_use block in a message before it",
        result.call_id
    );
    Err(Error::invalid(path, message))
}

/// A part of a message's content.
enum Block {
    /// A text, or something that is no text.
    Said(Content),
    Call(ToolCall),
    Result(ToolResult),
}

/// Returns the path of the block `at` of the content at `path`; without `at`, that of the content itself.
fn path_of(path: &str, at: Option<usize>) -> String {
    at.map_or_else(|| path.to_owned(), |at| format!("{path}[{at}]"))
}

/// A block, and its index if it is in a list. Its path is made only when an error needs it: kept paths of many
/// short blocks within others would take many times the blocks' own memory.
type Placed = (Option<usize>, Block);

/// Reads the blocks of a content, without those that are left out or passed over; a string is one text block.
fn blocks(path: &str, content: &Value, reader: &mut Reader) -> Result<Vec<Placed>, Error> {
    match content {
        Value::String(text) => Ok(vec![(None, Block::Said(text.as_str().into()))]),
        Value::Array(list) => {
            let blocks = list.iter().enumerate().map(|(at, value)| {
                let block = block(&format!("{path}[{at}]"), value, reader)?;
                Ok(block.map(|block| (Some(at), block)))
            });
            blocks.filter_map(Result::transpose).collect()
        }
        _ => Err(wrong_type(path, "a string or a list of blocks")),
    }
}

/// Reads a block; `None` if it is left out or passed over.
fn block(path: &str, value: &Value, reader: &mut Reader) -> Result<Option<Block>, Error> {
    let fields = Fields::of(value, path)?;
    let kind = fields.required_string("type")?;
    let reading = find(BLOCKS, kind).map_or(&BlockReading::LeftOut, |(_, how)| how);
    Ok(Some(match reading {
        BlockReading::Text => Block::Said(fields.required_string("text")?.into()),
        BlockReading::SearchResult => Block::Said(search_result(&fields, reader)?),
        BlockReading::ToolReference => {
            Block::Said(reader.tool(fields.required_string("tool_name")?).into())
        }
        BlockReading::Compaction => {
            Block::Said(fields.string("content")?.unwrap_or_default().into())
        }
        BlockReading::Call => Block::Call(call(&fields)?),
        BlockReading::Result => Block::Result(result(&fields, reader)?),
        BlockReading::Document(_) if has_text(value) => {
            Block::Said(document(&fields, value, reader)?)
        }
        BlockReading::Document(of) | BlockReading::Media(of) => {
            Block::Said(Part::Media(reader.media.read(of, path, value)?).into())
        }
        BlockReading::PassedOver => return Ok(None),
        BlockReading::LeftOut => {
            reader.media.leave_out(path);
            return Ok(None);
        }
    }))
}

/// Reads a text that a search has found, and puts it below its title and its source.
fn search_result(block: &Fields, reader: &mut Reader) -> Result<Content, Error> {
    let text = block.get("content").map(|text| said(&block.path("content"), text, reader));
    let known = [block.string("title")?, block.string("source")?];
    Ok(below(known, text.transpose()?.unwrap_or_default()))
}

/// Puts a content below lines that say what it is.
fn below(known: [Option<&str>; 2], mut content: Content) -> Content {
    let lines: String = known.into_iter().flatten().map(|line| format!("{line}\n")).collect();
    if !lines.is_empty() {
        content.prepend(lines);
    }
    content
}

/// True for a document that is a text, or a list of blocks.
fn has_text(document: &Value) -> bool {
    let source = &document["source"];
    source["type"] == "text" && source["data"].is_string()
        || source["type"] == "content" && !source["content"].is_null()
}

/// Reads a document's text, and puts it below its title and what is said about it.
fn document(block: &Fields, value: &Value, reader: &mut Reader) -> Result<Content, Error> {
    let source = &value["source"];
    let text = match source["data"].as_str() {
        Some(text) => text.into(),
        None => said(&block.path("source.content"), &source["content"], reader)?,
    };
    Ok(below([block.string("title")?, block.string("context")?], text))
}

fn call(block: &Fields) -> Result<ToolCall, Error> {
    let arguments = match block.get("input") {
        None => "{}".to_owned(),
        Some(input @ Value::Object(_)) => input.to_string(),
        Some(_) => return Err(block.wrong("input", "an object")),
    };
    let text = |name: &str| block.required_string(name).map(str::to_owned);
    Ok(ToolCall { id: text("id")?, name: text("name")?, arguments })
}

fn result(block: &Fields, reader: &mut Reader) -> Result<ToolResult, Error> {
    let content = block.get("content").map(|content| said(&block.path("content"), content, reader));
    Ok(ToolResult {
        call_id: block.required_string("tool_use_id")?.to_owned(),
        name: None,
        content: content.transpose()?.unwrap_or_default(),
        is_error: block.boolean("is_error")?.unwrap_or(false),
    })
}

/// Reads a content that may hold neither calls nor results.
fn said(path: &str, content: &Value, reader: &mut Reader) -> Result<Content, Error> {
    let said = blocks(path, content, reader)?.into_iter().map(|(at, block)| match block {
        Block::Said(content) => Ok(content),
        _ => {
            let path = path_of(path, at);
            Err(Error::invalid(&path, format!("`{path}` must be of type text")))
        }
    });
    Ok(lines(said.collect::<Result<Vec<_>, _>>()?))
}

/// Joins several blocks' contents: between texts side by side comes a line break.
fn lines(contents: Vec<Content>) -> Content {
    let is_text = |part: Option<&Part>| matches!(part, Some(Part::Text(_)));
    let mut whole = Content::default();
    for content in contents {
        if is_text(whole.parts().last()) && is_text(content.parts().first()) {
            whole.push_text("\n");
        }
        whole.append(content);
    }
    whole
}
