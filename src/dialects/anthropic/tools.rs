//! Reads the tools of a message: `tools` and `tool_choice`. Besides the client's own tools there are
//! some that Anthropic's models know by heart and the client runs; other models get a description of
//! these.

use serde_json::{Value, json};

use crate::chat::{Tool, ToolChoice, ToolFields, Tools};
use crate::dialects::fields::Fields;
use crate::error::Error;

const FIELDS: ToolFields =
    ToolFields { list: "tools", name: "name", choice: "tool_choice", longest_name: 128 };

/// Reads the offered tools, and which of them the model may or has to call.
pub fn parse(fields: &Fields) -> Result<Tools, Error> {
    let (choice, parallel) = choice(fields)?;
    let mut tools = Tools { list: Vec::new(), choice, parallel };
    if tools.choice == ToolChoice::None {
        return Ok(tools);
    }
    let list = fields.list("tools")?.iter().enumerate();
    tools.list = list.map(|(at, value)| tool(at, value)).collect::<Result<_, _>>()?;
    tools.check(&FIELDS)?;
    Ok(tools)
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

fn tool(at: usize, value: &Value) -> Result<Tool, Error> {
    let tool = Fields::of(value, &format!("tools[{at}]"))?;
    let kind = tool.string("type")?.unwrap_or("custom");
    let (description, parameters) = match known(kind) {
        Some((description, parameters)) => (Some(description), parameters),
        None if kind == "custom" => (tool.string("description")?, schema(&tool)?),
        None => return Err(foreign(&tool, kind)),
    };
    Ok(Tool {
        name: tool.required_string("name")?.to_owned(),
        description: description.map(str::to_owned),
        parameters: Some(parameters),
        strict: tool.boolean("strict")?.unwrap_or(false),
    })
}

fn schema(tool: &Fields) -> Result<Value, Error> {
    match tool.get("input_schema") {
        Some(schema @ Value::Object(_)) => Ok(schema.clone()),
        Some(_) => Err(tool.wrong("input_schema", "a JSON Schema of type object")),
        None => Err(tool.missing("input_schema")),
    }
}

/// The error for a tool that runs on Anthropic's servers, or needs more than text.
fn foreign(tool: &Fields, kind: &str) -> Error {
    let path = tool.path("type");
    let message = format!(
        "`{path}` is `{kind}`, which cannot be had here: tools are the client's own, of type \
         `custom`, or Anthropic's bash, text_editor and memory tools"
    );
    Error::unsupported(path, message)
}

/// The purpose and the arguments' schema of a tool that Anthropic's models know and the client runs.
/// Source: the SDKs' types of these tools.
fn known(kind: &str) -> Option<(&'static str, Value)> {
    match kind {
        "bash_20241022" | "bash_20250124" => Some((BASH, bash())),
        "text_editor_20241022" | "text_editor_20250124" => {
            Some((EDITOR, editor(&["view", "create", "str_replace", "insert", "undo_edit"])))
        }
        "text_editor_20250429" | "text_editor_20250728" => {
            Some((EDITOR, editor(&["view", "create", "str_replace", "insert"])))
        }
        "memory_20250818" => Some((MEMORY, memory())),
        _ => None,
    }
}

const BASH: &str = "Runs a command in a bash session that lasts from call to call. With `restart` a \
                    new session is begun, and no command is needed.";

const EDITOR: &str = "Views and edits text files. `view` shows a file, or lists a directory; \
                      `create` writes a file; `str_replace` replaces a text that stands in it exactly \
                      once; `insert` puts a text behind a line, 0 for the beginning.";

const MEMORY: &str = "Files under /memories, which are kept from one conversation to the next: look \
                      there first, and write down what will matter later. `view`, `create`, \
                      `str_replace` and `insert` are those of an editor; `delete` removes a path; \
                      `rename` moves `old_path` to `new_path`.";

fn bash() -> Value {
    object(json!({"command": {"type": "string"}, "restart": {"type": "boolean"}}), &[])
}

fn editor(commands: &[&str]) -> Value {
    object(edits(commands), &["command", "path"])
}

fn memory() -> Value {
    let mut properties = edits(&["view", "create", "str_replace", "insert", "delete", "rename"]);
    properties["old_path"] = json!({"type": "string"});
    properties["new_path"] = json!({"type": "string"});
    object(properties, &["command"])
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
