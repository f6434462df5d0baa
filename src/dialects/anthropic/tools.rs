//! Reads the tools of a message: `tools` and `tool_choice`. Besides the client's own tools there are
//! some that Anthropic's models know by heart and the client runs; other models get a description of
//! these.

use serde_json::{Value, json};

use super::kinds::{SERVER_SEARCH, TOOLS, ToolReading};
use crate::chat::{LeftOut, MOST_TOOLS, Standing, Tool, ToolChoice, ToolFields, Tools};
use crate::dialects::fields::Fields;
use crate::dialects::kinds::{LeftOutTools, find};
use crate::error::Error;

const FIELDS: ToolFields = ToolFields {
    list: "tools",
    name: "name",
    choice: "tool_choice",
    longest_name: 128,
    most: MOST_TOOLS,
};

/// Reads the offered tools, and which of them the model may or has to call. Adds to `left_out` what cannot
/// be had here.
///
/// # Errors
/// [`Error::Invalid`] with the path of what is wrong.
pub fn parse(fields: &Fields, left_out: &mut Vec<LeftOut>) -> Result<Tools, Error> {
    let (choice, parallel) = choice(fields)?;
    let mut tools = Tools { choice, parallel, ..Tools::default() };
    if tools.choice == ToolChoice::None {
        // They stand in the prompt for the sake of OpenAI's cache: whatever is wrong with them does no harm.
        let unheard = &mut Vec::new();
        let read = offered(fields, &mut LeftOutTools::new(unheard), &mut Vec::new());
        tools.list = read.unwrap_or_default();
        return Ok(if tools.check(&FIELDS).is_ok() { tools } else { Tools::default() });
    }
    let left_out = &mut LeftOutTools::new(left_out);
    if !fields.list("mcp_servers")?.is_empty() {
        left_out.add_field("mcp_servers");
    }
    let mut gone = Vec::new();
    tools.list = offered(fields, left_out, &mut gone)?;
    if !left_out.is_empty() && tools.drop_vain_choice(&gone) {
        left_out.add_field(FIELDS.choice);
    }
    tools.check(&FIELDS)?;
    Ok(tools)
}

/// The tools that can be had here; adds the names of others to `gone`.
fn offered(
    fields: &Fields,
    left_out: &mut LeftOutTools,
    gone: &mut Vec<String>,
) -> Result<Vec<Tool>, Error> {
    let mut list = Vec::new();
    let mut is_searched_by_server = false;
    for (at, value) in fields.list("tools")?.iter().enumerate() {
        let path = format!("tools[{at}]");
        let offered = Fields::of(value, &path)?;
        match tool(&offered)? {
            Ok(tool) => list.push(tool),
            Err(kind) => {
                is_searched_by_server |= kind == Some(SERVER_SEARCH);
                left_out.add(kind, &path, Standing::Request);
                gone.extend(offered.string("name")?.map(str::to_owned));
            }
        }
    }
    // Nobody would ever bring their descriptions.
    if is_searched_by_server || list.iter().all(|tool: &Tool| tool.deferred) {
        list.iter_mut().for_each(|tool| tool.deferred = false);
    }
    Ok(list)
}

/// Whether a tool has to be called, and whether several may be at once.
fn choice(fields: &Fields) -> Result<(ToolChoice, bool), Error> {
    let Some(choice) = fields.object("tool_choice")? else { return Ok((ToolChoice::Auto, true)) };
    let parallel = !choice.boolean("disable_parallel_tool_use")?.unwrap_or(false);
    let wanted = match choice.required_string("type")? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required_string("name")?.to_owned()),
        _ => {
            let message = "`tool_choice.type` must be auto, any, tool or none";
            return Err(Error::invalid("tool_choice.type", message));
        }
    };
    Ok((wanted, parallel))
}

/// Reads a tool. One that cannot be had here is an `Err` with the name of its kind, if that is known.
fn tool(tool: &Fields) -> Result<Result<Tool, Option<&'static str>>, Error> {
    let row = find(TOOLS, tool.string("type")?.unwrap_or("custom"));
    let (description, parameters) = match row {
        Some((_, ToolReading::Own)) => (tool.string("description")?, schema(tool)?),
        Some((_, ToolReading::Known(known))) => (Some(known.description), known.parameters()),
        Some((kind, ToolReading::LeftOut)) => return Ok(Err(Some(*kind))),
        None => return Ok(Err(None)),
    };
    Ok(Ok(Tool {
        name: tool.required_string("name")?.to_owned(),
        description: description.map(str::to_owned),
        parameters: Some(parameters),
        strict: tool.boolean("strict")?.unwrap_or(false),
        deferred: tool.boolean("defer_loading")?.unwrap_or(false),
    }))
}

fn schema(tool: &Fields) -> Result<Value, Error> {
    match tool.get("input_schema") {
        Some(schema @ Value::Object(_)) => Ok(schema.clone()),
        Some(_) => Err(tool.wrong("input_schema", "a JSON Schema of type object")),
        None => Err(tool.missing("input_schema")),
    }
}

/// A tool that Anthropic's models know by heart: its purpose and its commands. Source: the SDKs' types of
/// these tools.
#[derive(Clone, Copy, Debug)]
pub struct KnownTool {
    description: &'static str,
    /// The commands of an editor; none if it is a shell.
    commands: &'static [&'static str],
}

/// `bash`: a shell that lasts from call to call.
pub const BASH: KnownTool = KnownTool {
    description: "Runs a command in a bash session that lasts from call to call. With `restart` a new \
                  session is begun, and no command is needed.",
    commands: &[],
};

/// `text_editor`, in its versions since April 2025.
pub const EDITOR: KnownTool = KnownTool {
    description: "Views and edits text files. `view` shows a file, or lists a directory; `create` \
                  writes a file; `str_replace` replaces a text that stands in it exactly once; `insert` \
                  puts a text behind a line, 0 for the beginning.",
    commands: &["view", "create", "str_replace", "insert"],
};

/// `text_editor`, in its first versions.
pub const OLD_EDITOR: KnownTool =
    KnownTool { commands: &["view", "create", "str_replace", "insert", "undo_edit"], ..EDITOR };

/// `memory`: files that are kept from one conversation to the next.
pub const MEMORY: KnownTool = KnownTool {
    description: "Files under /memories, which are kept from one conversation to the next: look there \
                  first, and write down what will matter later. `view`, `create`, `str_replace` and \
                  `insert` are those of an editor; `delete` removes a path; `rename` moves `old_path` \
                  to `new_path`.",
    commands: &["view", "create", "str_replace", "insert", "delete", "rename"],
};

impl KnownTool {
    /// The JSON Schema of its arguments.
    fn parameters(&self) -> Value {
        if self.commands.is_empty() {
            let properties = json!({"command": {"type": "string"}, "restart": {"type": "boolean"}});
            return object(properties, &[]);
        }
        let mut properties = edits(self.commands);
        if !self.commands.contains(&"rename") {
            return object(properties, &["command", "path"]);
        }
        properties["old_path"] = json!({"type": "string"});
        properties["new_path"] = json!({"type": "string"});
        object(properties, &["command"])
    }
}

fn edits(commands: &[&str]) -> Value {
    let text = |of: &str| json!({"type": "string", "description": of});
    let lines = "first and last line to show, from 1; a last one of -1 is the end";
    json!({
        "command": {"type": "string", "enum": commands},
        "path": text("absolute path"),
        "file_text": text("for create: the whole text"),
        "old_str": text("for str_replace: the text to replace"),
        "new_str": text("for str_replace: the text in its place"),
        "insert_line": {"type": "integer", "description": "for insert: the line to put it behind"},
        "insert_text": text("for insert: the text"),
        "view_range": {
            "type": "array", "items": {"type": "integer"}, "description": format!("for view: {lines}")
        },
    })
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}
