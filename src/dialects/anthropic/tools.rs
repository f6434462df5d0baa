//! Reads the tools of a message: `tools` and `tool_choice`. Besides the client's own tools there are
//! some that Anthropic's models know by heart and the client runs; other models get a description of
//! these.

use serde_json::Value;

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

/// Reads the tools that can be had here; adds the names of others to `gone`.
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

/// Reads whether a tool has to be called, and whether several may be called at once.
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

/// Reads a tool. If it cannot be had here, returns an inner `Err` with the name of its kind, if that is known.
fn tool(tool: &Fields) -> Result<Result<Tool, Option<&'static str>>, Error> {
    let row = find(TOOLS, tool.string("type")?.unwrap_or("custom"));
    let (description, parameters) = match row {
        Some((_, ToolReading::Own)) => (tool.string("description")?, schema(tool)?),
        Some((_, ToolReading::Known(known))) => (Some(known.description()), known.parameters()),
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
