//! Reads the tools of a response: `tools`, those that items of its conversation bring, and `tool_choice`. The
//! model gets all of them as functions; the client's own names and kinds are remembered, so that calls
//! come back as the client expects them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::earlier::PREVIOUS;
use crate::chat::{LeftOut, MOST_TOOLS, Standing, Tool, ToolChoice, ToolFields, Tools};
use crate::dialects::fields::{Fields, missing, name_in, wrong_type};
use crate::dialects::kinds::{LeftOutTools, find};
use crate::dialects::openai::client_tools::ClientTool;
use crate::dialects::openai::custom;
pub use crate::dialects::openai::custom::{arguments_of, input_of};
use crate::dialects::openai::kinds::{ITEMS, ItemReading, TOOLS, ToolReading};
use crate::dialects::openai::tools::{function, plain_choice};
use crate::error::Error;

const FIELDS: ToolFields = ToolFields {
    list: "tools",
    name: "name",
    choice: "tool_choice",
    longest_name: 128,
    most: MOST_TOOLS,
};

/// A tool as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name that the model uses.
    pub called: String,
    /// The client's own name.
    pub name: String,
    /// The namespace that the tool belongs to.
    pub namespace: Option<String>,
    /// The form in which the client expects calls.
    pub form: Form,
}

/// The form of a tool's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Arguments.
    Function,
    /// One text of any form, instead of arguments.
    Custom,
    /// An item of the tool's own type.
    Client(ClientTool),
}

/// Returns the name under which the model gets a tool: the namespace is a part of it.
pub fn called(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        None => name.to_owned(),
        Some(namespace) if namespace.ends_with("__") => format!("{namespace}{name}"),
        Some(namespace) => format!("{namespace}__{name}"),
    }
}

/// Reads the offered tools, including those that `earlier` items bring, and how the client knows each of them.
/// Adds to `left_out` what cannot be had here.
///
/// # Errors
/// [`Error::Invalid`] with the path of what is wrong.
pub fn parse(
    fields: &Fields,
    earlier: &[Value],
    left_out: &mut Vec<LeftOut>,
) -> Result<(Tools, Vec<Origin>), Error> {
    let wanted = choice(fields)?;
    let mut tools = Tools {
        choice: wanted.clone().unwrap_or_default(),
        parallel: fields.boolean("parallel_tool_calls")?.unwrap_or(true),
        ..Tools::default()
    };
    if tools.choice == ToolChoice::None {
        // They stand in the prompt for the sake of OpenAI's cache: whatever is wrong with them does no harm.
        let read = offered(fields, earlier, &mut LeftOutTools::new(&mut Vec::new()));
        tools.list = read.map(|(list, _)| list).unwrap_or_default();
        if tools.check(&FIELDS).is_err() {
            tools.list.clear();
        }
        return Ok((tools, Vec::new()));
    }
    let left_out = &mut LeftOutTools::new(left_out);
    let (list, origins) = offered(fields, earlier, left_out)?;
    tools.list = list;
    let mut is_vain = wanted.is_none() || (!left_out.is_empty() && tools.drop_vain_choice(&[]));
    tools.check(&FIELDS)?;
    narrow(fields, &mut tools)?;
    is_vain |= tools.drop_vain_choice(&[]);
    if is_vain {
        left_out.add_field(FIELDS.choice);
    }
    Ok((tools, origins))
}

/// Reads the tools of the request and of the items of its conversation.
fn offered(
    fields: &Fields,
    earlier: &[Value],
    left_out: &mut LeftOutTools,
) -> Result<(Vec<Tool>, Vec<Origin>), Error> {
    let (list, places) = (Vec::new(), HashMap::new());
    let mut offer = Offer { list, places, gone: 0, standing: Standing::Request, left_out };
    for (at, value) in fields.list(FIELDS.list)?.iter().enumerate() {
        offer.add(&format!("tools[{at}]"), value, None)?;
    }
    offer.add_later(PREVIOUS, earlier);
    let input = fields.get("input").and_then(Value::as_array);
    offer.add_later("input", input.map_or(&[], Vec::as_slice));
    Ok(offer.list.into_iter().flatten().unzip())
}

/// The tools of a request while they are read.
struct Offer<'a, 'b> {
    /// The tools; `None` in the place of one that a later one has replaced.
    list: Vec<Option<(Tool, Origin)>>,
    /// The place of the first tool of each name that is in the list.
    places: HashMap<String, usize>,
    /// The number of tools that have been replaced.
    gone: usize,
    /// Where the tools stand that are being read. A wrong one in a history is left out, since nobody can take
    /// it back.
    standing: Standing,
    left_out: &'a mut LeftOutTools<'b>,
}

impl Offer<'_, '_> {
    fn add(&mut self, path: &str, value: &Value, namespace: Option<&str>) -> Result<(), Error> {
        let kind = value.get("type").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| missing(&format!("{path}.type")))?;
        let row = find(TOOLS, kind);
        let (tool, form) = match (row.map(|(_, how)| how), namespace) {
            (Some(ToolReading::Function), _) => (strict_function(path, value)?, Form::Function),
            (Some(ToolReading::Custom), _) => (custom::tool(path, value)?, Form::Custom),
            (Some(ToolReading::Namespace), None) => return self.add_namespace(path, value),
            (Some(ToolReading::Client(client)), None) if client.is_run_by_client(value) => {
                (client.tool(value), Form::Client(*client))
            }
            _ => {
                self.left_out.add(row.map(|(name, _)| *name), path, self.standing);
                return Ok(());
            }
        };
        let origin = Origin {
            called: called(namespace, &tool.name),
            name: tool.name.clone(),
            namespace: namespace.map(str::to_owned),
            form,
        };
        let tool = Tool { name: origin.called.clone(), ..tool };
        if self.standing == Standing::History && !self.makes_room_for(&tool) {
            self.left_out.add(None, path, self.standing);
            return Ok(());
        }
        self.places.entry(tool.name.clone()).or_insert(self.list.len());
        self.list.push(Some((tool, origin)));
        Ok(())
    }

    /// Removes an earlier tool that `tool` replaces; false if `tool` is wrong, or there are too many.
    fn makes_room_for(&mut self, tool: &Tool) -> bool {
        let alone = Tool { name: tool.name.clone(), ..Tool::default() };
        let alone = Tools { list: vec![alone], ..Tools::default() };
        if self.list.len() - self.gone > MOST_TOOLS || alone.check(&FIELDS).is_err() {
            return false;
        }
        if let Some(at) = self.places.remove(&tool.name) {
            self.list[at] = None;
            self.gone += 1;
        }
        self.list.len() - self.gone < MOST_TOOLS
    }

    /// Adds the tools that the items of a list bring. Codex offers all of its tools in this way.
    fn add_later(&mut self, list: &str, items: &[Value]) {
        self.standing = Standing::History;
        for (at, item) in items.iter().enumerate() {
            let how = item["type"].as_str().and_then(|kind| find(ITEMS, kind));
            let brings_tools = matches!(
                how,
                Some((_, ItemReading::Tools | ItemReading::ClientOutput(ClientTool::ToolSearch)))
            );
            let tools = item["tools"].as_array().filter(|_| brings_tools);
            for (number, tool) in tools.into_iter().flatten().enumerate() {
                let path = format!("{list}[{at}].tools[{number}]");
                if self.add(&path, tool, None).is_err() {
                    self.left_out.add(None, &path, self.standing);
                }
            }
        }
    }

    /// Adds the tools of a namespace, whose own description is put before that of its first tool.
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
        let added = self.list.get_mut(first..).unwrap_or_default();
        let first = added.iter_mut().flatten().next();
        if let (Some((tool, _)), false) = (first, about.is_empty()) {
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

/// Reads whether a tool has to be called; `None` if it is one that cannot be had here.
fn choice(fields: &Fields) -> Result<Option<ToolChoice>, Error> {
    let value = match fields.get(FIELDS.choice) {
        None => return Ok(Some(ToolChoice::Auto)),
        Some(Value::String(word)) => return plain_choice(FIELDS.choice, word).map(Some),
        Some(value) => value,
    };
    match value.get("type").and_then(Value::as_str) {
        Some("allowed_tools") => {
            let mode = value.get("mode").and_then(Value::as_str);
            plain_choice("tool_choice.mode", mode.unwrap_or("auto")).map(Some)
        }
        Some(kind) => Ok(named(FIELDS.choice, kind, value)?.map(ToolChoice::Named)),
        None => Err(wrong_type(FIELDS.choice, "a string or an object with a `type`")),
    }
}

/// Reads the model's name for the tool of type `kind` that an object names; `None` if it cannot be had here.
fn named(path: &str, kind: &str, value: &Value) -> Result<Option<String>, Error> {
    Ok(match find(TOOLS, kind).map(|(_, how)| how) {
        Some(ToolReading::Function | ToolReading::Custom) => Some(called_in(path, value)?),
        Some(ToolReading::Client(client)) => Some(client.name().to_owned()),
        Some(ToolReading::Namespace | ToolReading::LeftOut) | None => None,
    })
}

/// Reads the model's name for the tool that an object names, whose path is `path`.
pub fn called_in(path: &str, value: &Value) -> Result<String, Error> {
    let namespace = value.get("namespace").and_then(Value::as_str);
    Ok(called(namespace, &name_in(path, value)?))
}

/// Allows only the tools that `allowed_tools` names; the others stay in the list for the sake of OpenAI's
/// cache.
fn narrow(fields: &Fields, tools: &mut Tools) -> Result<(), Error> {
    let choice = fields.get(FIELDS.choice).filter(|choice| choice["type"] == "allowed_tools");
    let Some(choice) = choice else { return Ok(()) };
    let path = "tool_choice.tools";
    let list = choice.get("tools").and_then(Value::as_array).ok_or_else(|| missing(path))?;
    let name = |tool: &Value| named(path, tool["type"].as_str().unwrap_or("function"), tool);
    let names: Vec<String> =
        list.iter().filter_map(|tool| name(tool).transpose()).collect::<Result<_, _>>()?;
    let known: HashSet<&str> = tools.list.iter().map(|tool| tool.name.as_str()).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) {
        return Err(Error::invalid(path, format!("`{path}`: `tools` holds no tool `{name}`")));
    }
    tools.allow_only(names);
    Ok(())
}
