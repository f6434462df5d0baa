//! The tools that Anthropic's models know by heart and the client runs. Other models get a description of
//! these.

use serde_json::{Value, json};

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
    /// Returns the description that the model gets.
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// Returns the JSON Schema of the tool's arguments.
    pub fn parameters(&self) -> Value {
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
