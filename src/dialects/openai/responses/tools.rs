//! Reads the tools of a response: `tools` and `tool_choice`. The model gets all of them as functions;
//! the client's own names and kinds are remembered, so that calls come back as the client expects them.

use serde_json::{Value, json};

use crate::chat::{Tool, ToolChoice, ToolFields, Tools};
use crate::dialects::fields::{Fields, missing, wrong_type};
use crate::dialects::openai::tools::{function, name_in, plain_choice};
use crate::error::Error;

const FIELDS: ToolFields =
    ToolFields { list: "tools", name: "name", choice: "tool_choice", longest_name: 128 };
/// The only argument of a custom tool.
const INPUT: &str = "input";

/// A tool as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name that the model uses.
    pub called: String,
    /// The client's own name.
    pub name: String,
    /// The namespace that the tool belongs to.
    pub namespace: Option<String>,
    /// Whether the tool takes one text of any form, instead of arguments.
    pub is_custom: bool,
}

/// The name under which the model gets a tool: the namespace is a part of it.
pub fn called(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        None => name.to_owned(),
        Some(namespace) if namespace.ends_with("__") => format!("{namespace}{name}"),
        Some(namespace) => format!("{namespace}__{name}"),
    }
}

/// The arguments of a call that passes this text to a custom tool.
pub fn arguments_of(input: &str) -> String {
    json!({ INPUT: input }).to_string()
}

/// The text that a call passes to a custom tool: all that the model wrote, if that does not have the
/// expected form.
pub fn input_of(arguments: &str) -> String {
    let read: Option<Value> = serde_json::from_str(arguments).ok();
    let input = read.as_ref().and_then(|read| read.get(INPUT)).and_then(Value::as_str);
    input.unwrap_or(arguments).to_owned()
}

/// Reads the offered tools, and how the client knows each of them.
pub fn parse(
    fields: &Fields,
    ignored: &mut Vec<&'static str>,
) -> Result<(Tools, Vec<Origin>), Error> {
    let mut tools = Tools {
        list: Vec::new(),
        choice: choice(fields)?,
        parallel: fields.boolean("parallel_tool_calls")?.unwrap_or(true),
    };
    if tools.choice == ToolChoice::None {
        return Ok((tools, Vec::new()));
    }
    let mut offer = Offer::default();
    for (at, value) in fields.list(FIELDS.list)?.iter().enumerate() {
        offer.add(&format!("tools[{at}]"), value, None)?;
    }
    if offer.searches {
        ignored.push("tools.web_search");
    }
    tools.list = offer.list;
    tools.check(&FIELDS)?;
    narrow(fields, &mut tools)?;
    Ok((tools, offer.origins))
}

/// The tools that have been read so far.
#[derive(Default)]
struct Offer {
    list: Vec<Tool>,
    origins: Vec<Origin>,
    /// Whether the client offers a search of the web.
    searches: bool,
}

impl Offer {
    fn add(&mut self, path: &str, value: &Value, namespace: Option<&str>) -> Result<(), Error> {
        let kind_path = format!("{path}.type");
        let kind = value.get("type").and_then(Value::as_str);
        let tool = match (kind.ok_or_else(|| missing(&kind_path))?, namespace) {
            ("function", _) => strict_function(path, value)?,
            ("custom", _) => custom(path, value)?,
            ("namespace", None) => return self.add_namespace(path, value),
            // OpenAI itself would search if the model asked for it: no client expects a call.
            (kind, None) if kind.starts_with("web_search") => {
                self.searches = true;
                return Ok(());
            }
            (kind, _) => {
                let message = format!(
                    "`{kind_path}` is `{kind}`: tools of type `function`, `custom` and `namespace` \
                     are the only ones here, besides `web_search`, which is left out"
                );
                return Err(Error::unsupported(kind_path, message));
            }
        };
        let origin = Origin {
            called: called(namespace, &tool.name),
            name: tool.name.clone(),
            namespace: namespace.map(str::to_owned),
            is_custom: kind == Some("custom"),
        };
        self.list.push(Tool { name: origin.called.clone(), ..tool });
        self.origins.push(origin);
        Ok(())
    }

    /// Adds the tools of a namespace. The description of all of them is put before that of the first
    /// one.
    fn add_namespace(&mut self, path: &str, value: &Value) -> Result<(), Error> {
        let namespace = name_in(path, value)?;
        let path = format!("{path}.tools");
        let tools = value.get("tools").ok_or_else(|| missing(&path))?;
        let tools = tools.as_array().ok_or_else(|| wrong_type(&path, "a list"))?;
        let first = self.list.len();
        for (at, tool) in tools.iter().enumerate() {
            self.add(&format!("{path}[{at}]"), tool, Some(&namespace))?;
        }
        let about = value.get("description").and_then(Value::as_str).unwrap_or_default();
        if let (Some(tool), false) = (self.list.get_mut(first), about.is_empty()) {
            let own = tool.description.take().unwrap_or_default();
            let names = called(Some(&namespace), "");
            tool.description = Some(format!("(All tools {names}…: {about})\n{own}"));
        }
        Ok(())
    }
}

/// Reads a function. Unlike one of chat completions, it is strict unless it says that it is not.
fn strict_function(path: &str, value: &Value) -> Result<Tool, Error> {
    let strict = value.get("strict").is_none_or(Value::is_null);
    let tool = function(path, value)?;
    Ok(Tool { strict: strict || tool.strict, ..tool })
}

/// Reads a custom tool as a function that takes a text. The description says so, because clients
/// describe it as one that takes no JSON.
fn custom(path: &str, value: &Value) -> Result<Tool, Error> {
    let name = name_in(path, value)?;
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let own = text("/description").unwrap_or_default();
    let mut description =
        format!("{own}\nIts text goes here as the argument `{INPUT}`, a JSON string.");
    match text("/format/type") {
        None | Some("text") => {}
        Some("grammar") => {
            let part = |name: &str| {
                let path = format!("{path}.format.{name}");
                text(&format!("/format/{name}")).ok_or_else(|| missing(&path))
            };
            let (syntax, definition) = (part("syntax")?, part("definition")?);
            let grammar = format!(" It has to fit this grammar ({syntax}):\n{definition}");
            description.push_str(&grammar);
        }
        Some(_) => {
            let path = format!("{path}.format.type");
            let message = format!("`{path}` must be text or grammar");
            return Err(Error::invalid(path, message));
        }
    }
    let parameters = json!({
        "type": "object",
        "properties": {INPUT: {"type": "string"}},
        "required": [INPUT],
        "additionalProperties": false,
    });
    let description = Some(description.trim_start().to_owned());
    Ok(Tool { name, description, parameters: Some(parameters), strict: true })
}

fn choice(fields: &Fields) -> Result<ToolChoice, Error> {
    let value = match fields.get(FIELDS.choice) {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(word)) => return plain_choice(FIELDS.choice, word),
        Some(value) => value,
    };
    match value.get("type").and_then(Value::as_str) {
        Some("function" | "custom") => Ok(ToolChoice::Named(called_in(FIELDS.choice, value)?)),
        Some("allowed_tools") => {
            let mode = value.get("mode").and_then(Value::as_str);
            plain_choice("tool_choice.mode", mode.unwrap_or("auto"))
        }
        Some(kind) => {
            let message = format!(
                "`tool_choice.type` is `{kind}`: it must be `function`, `custom` or `allowed_tools` \
                 here"
            );
            Err(Error::unsupported("tool_choice.type", message))
        }
        None => Err(wrong_type(FIELDS.choice, "a string or an object with a `type`")),
    }
}

/// The model's name for the tool that an object names.
pub fn called_in(path: &str, value: &Value) -> Result<String, Error> {
    let namespace = value.get("namespace").and_then(Value::as_str);
    Ok(called(namespace, &name_in(path, value)?))
}

/// Keeps only the tools that `allowed_tools` names; the others are in the list for the sake of OpenAI's
/// cache.
fn narrow(fields: &Fields, tools: &mut Tools) -> Result<(), Error> {
    let choice = fields.get(FIELDS.choice).filter(|choice| choice["type"] == "allowed_tools");
    let Some(choice) = choice else { return Ok(()) };
    let path = "tool_choice.tools";
    let list = choice.get("tools").and_then(Value::as_array).ok_or_else(|| missing(path))?;
    let names: Vec<String> =
        list.iter().map(|tool| called_in(path, tool)).collect::<Result<_, _>>()?;
    if let Some(name) = names.iter().find(|name| tools.list.iter().all(|t| t.name != **name)) {
        return Err(Error::invalid(path, format!("`{path}`: `tools` holds no tool `{name}`")));
    }
    tools.list.retain(|tool| names.contains(&tool.name));
    Ok(())
}
