//! Tools of OpenAI's that the client runs and its models know by heart. Models here get a description;
//! calls of them are items of their own types, in a history and in answers.
//!
//! Source: the types of OpenAI's own SDKs.

use serde_json::{Map, Value, json};

use crate::chat::{Tool, values};

/// A tool that the client runs, though OpenAI defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTool {
    /// `local_shell`: one command.
    LocalShell,
    /// `shell`: several commands.
    Shell,
    /// `apply_patch`: one file is created, changed or deleted.
    ApplyPatch,
    /// `tool_search`: the client looks up tools that it has not offered yet.
    ToolSearch,
}

const DIFF: &str = "Not for delete_file. In create_file each line of the file behind a `+`. In \
                    update_file one or more sections, each begun by a line `@@` or `@@ ` and a line of \
                    the file above it, such as a function's head; then lines of the file as they are \
                    behind a blank, lines to remove behind `-`, lines to add behind `+`, three lines of \
                    context around each change; without line numbers.";

impl ClientTool {
    /// Returns the name under which the model gets the tool, which is also its `type` among the tools.
    pub fn name(self) -> &'static str {
        match self {
            ClientTool::LocalShell => "local_shell",
            ClientTool::Shell => "shell",
            ClientTool::ApplyPatch => "apply_patch",
            ClientTool::ToolSearch => "tool_search",
        }
    }

    /// Returns the `type` of an item that calls the tool.
    pub fn call_type(self) -> &'static str {
        match self {
            ClientTool::LocalShell => "local_shell_call",
            ClientTool::Shell => "shell_call",
            ClientTool::ApplyPatch => "apply_patch_call",
            ClientTool::ToolSearch => "tool_search_call",
        }
    }

    /// Returns the prefix of the ids of items that call the tool.
    pub fn id_prefix(self) -> &'static str {
        match self {
            ClientTool::LocalShell => "lsh",
            ClientTool::Shell => "sh",
            ClientTool::ApplyPatch => "apc",
            ClientTool::ToolSearch => "tsc",
        }
    }

    /// Returns the field of a call's item that holds its arguments.
    fn field(self) -> &'static str {
        match self {
            ClientTool::LocalShell | ClientTool::Shell => "action",
            ClientTool::ApplyPatch => "operation",
            ClientTool::ToolSearch => "arguments",
        }
    }

    /// True if the client offers to run the tool itself. Known: `shell` can be asked for in a container of
    /// OpenAI's, and `tool_search` is OpenAI's own unless it says otherwise.
    pub fn is_run_by_client(self, offered: &Value) -> bool {
        match self {
            ClientTool::LocalShell | ClientTool::ApplyPatch => true,
            ClientTool::Shell => {
                matches!(offered["environment"]["type"].as_str(), None | Some("local"))
            }
            ClientTool::ToolSearch => offered["execution"] == "client",
        }
    }

    /// Returns the tool as the model gets it; `offered` is what the client has sent.
    pub fn tool(self, offered: &Value) -> Tool {
        Tool {
            name: self.name().to_owned(),
            description: Some(self.description(offered).to_owned()),
            parameters: Some(self.parameters(offered)),
            strict: false,
            deferred: false,
        }
    }

    fn description(self, offered: &Value) -> &str {
        match self {
            ClientTool::LocalShell => {
                "Runs a command on the user's machine: a program and its arguments, without a shell."
            }
            ClientTool::Shell => "Runs shell commands on the user's machine, one after the other.",
            ClientTool::ApplyPatch => "Creates, updates or deletes one file.",
            ClientTool::ToolSearch => {
                offered["description"].as_str().unwrap_or("Looks for further tools.")
            }
        }
    }

    /// Returns the JSON Schema of the tool's arguments.
    fn parameters(self, offered: &Value) -> Value {
        let texts = json!({"type": "array", "items": {"type": "string"}});
        let (properties, required) = match self {
            ClientTool::LocalShell => (
                json!({
                    "command": texts,
                    "working_directory": {"type": "string"},
                    "timeout_ms": {"type": "integer"},
                }),
                &["command"][..],
            ),
            ClientTool::Shell => {
                (json!({"commands": texts, "timeout_ms": {"type": "integer"}}), &["commands"][..])
            }
            ClientTool::ApplyPatch => (
                json!({
                    "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                    "path": {"type": "string", "description": "relative to the workspace's root"},
                    "diff": {"type": "string", "description": DIFF},
                }),
                &["type", "path"][..],
            ),
            ClientTool::ToolSearch if offered["parameters"].is_object() => {
                return offered["parameters"].clone();
            }
            ClientTool::ToolSearch => (json!({"query": {"type": "string"}}), &["query"][..]),
        };
        object(properties, required)
    }

    /// Returns the arguments of a call in a history, as JSON and as the model writes them: without what only
    /// the item has.
    pub fn arguments(self, call: &Map<String, Value>) -> String {
        let Some(Value::Object(arguments)) = call.get(self.field()) else {
            return "{}".to_owned();
        };
        let mut arguments = arguments.clone();
        if self == ClientTool::LocalShell {
            arguments.remove("type");
        }
        arguments.retain(|_, value| !value.is_null() && *value != json!({}));
        Value::Object(arguments).to_string()
    }

    /// Returns the output of a call as text.
    pub fn output(self, output: &Map<String, Value>) -> String {
        if self == ClientTool::ToolSearch {
            let tools = output.get("tools").and_then(Value::as_array).into_iter().flatten();
            let names: Vec<&str> = tools.filter_map(|tool| tool["name"].as_str()).collect();
            return format!("Found: {}", names.join(", "));
        }
        let failed = output.get("status").is_some_and(|status| status == "failed");
        match output.get("output") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(pieces)) => pieces.iter().map(piece).collect::<Vec<_>>().join("\n"),
            _ if failed => "failed".to_owned(),
            _ => "done".to_owned(),
        }
    }

    /// Returns the fields of an item that calls the tool with these arguments, except its ids and its status.
    /// Arguments that are no object, or have no [value](values::of_text), count as none.
    pub fn call_fields(self, arguments: &str) -> Map<String, Value> {
        let read = values::of_text(arguments).unwrap_or_default();
        let arguments = if let Value::Object(arguments) = read { arguments } else { Map::new() };
        let defaults = match self {
            ClientTool::LocalShell => json!({"type": "exec", "command": [], "env": {}}),
            ClientTool::Shell => {
                json!({"commands": [], "timeout_ms": null, "max_output_length": null})
            }
            ClientTool::ApplyPatch | ClientTool::ToolSearch => json!({}),
        };
        let mut whole = if let Value::Object(defaults) = defaults { defaults } else { Map::new() };
        whole.extend(arguments);
        // Some models write a command as one text.
        for (name, shell) in [("command", &["sh", "-c"][..]), ("commands", &[])] {
            if let Some(Value::String(line)) = whole.get(name) {
                whole[name] = shell.iter().copied().chain([line.as_str()]).collect();
            }
        }
        let mut fields = Map::from_iter([(self.field().to_owned(), Value::Object(whole))]);
        if self == ClientTool::ToolSearch {
            fields.insert("execution".to_owned(), json!("client"));
        }
        fields
    }
}

/// Returns a piece of a shell's output as text: what it has printed, its errors, and how it has ended.
fn piece(piece: &Value) -> String {
    let text = |name: &str| piece[name].as_str().filter(|text| !text.is_empty());
    let outcome = match piece["outcome"]["exit_code"].as_i64() {
        Some(code) => Some(format!("exit code {code}")),
        None => piece["outcome"]["type"].as_str().map(str::to_owned),
    };
    let printed = text("stdout").map(str::to_owned);
    let errors = text("stderr").map(|text| format!("stderr: {text}"));
    [printed, errors, outcome].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}
