//! The schema of an answer that is a call: composed of the schemas of the tools.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::Form;
use super::strict::{is_within_limits, strict};
use crate::chat::{ResponseFormat, Tool, ToolChoice, Tools};

/// Returns the form of a required call, and the `response_format` that asks for it. `None` if no
/// call is required, or the tools' schemas cannot be combined.
pub fn form(tools: &Tools) -> Option<(Form, ResponseFormat)> {
    let allowed: Option<HashSet<&String>> = tools.allowed.as_ref().map(|all| all.iter().collect());
    let is_allowed = |tool: &&Tool| allowed.as_ref().is_none_or(|names| names.contains(&tool.name));
    let list: Vec<&Tool> = match &tools.choice {
        ToolChoice::Named(name) => tools.list.iter().filter(|tool| tool.name == *name).collect(),
        ToolChoice::Required => tools.list.iter().filter(is_allowed).collect(),
        ToolChoice::Auto | ToolChoice::None => return None,
    };
    if let [tool] = list[..] {
        if let Some(schema) = parameters(tool).filter(is_plain_object) {
            let form = Form::Arguments { name: tool.name.clone() };
            let closed = strict(&schema).filter(is_within_limits);
            return Some((form, response_format(&tool.name, closed, schema)));
        }
    }
    let closed = list_of_calls(&list, |schema| strict(&schema)).filter(is_within_limits);
    Some((Form::List, response_format("calls", closed, list_of_calls(&list, Some)?)))
}

/// Asks for the strict schema if there is one, else for the open one.
fn response_format(name: &str, closed: Option<Value>, open: Value) -> ResponseFormat {
    let name: String = name.chars().take(64).collect();
    let is_strict = closed.is_some();
    let schema = json!({"name": name, "strict": is_strict, "schema": closed.unwrap_or(open)});
    ResponseFormat::JsonSchema(json!({"type": "json_schema", "json_schema": schema}))
}

/// The schema of `{"calls":[{"name":…,"arguments":{…}},…]}`; `None` if one of the tools cannot be in it.
fn list_of_calls(tools: &[&Tool], made: impl Fn(Value) -> Option<Value>) -> Option<Value> {
    let mut definitions = Map::new();
    let mut kinds = Vec::new();
    for (at, tool) in tools.iter().enumerate() {
        let schema = made(parameters(tool)?)?;
        let arguments = hoisted(schema, &format!("tool{at}_"), &mut definitions)?;
        kinds.push(closed_object(json!({
            "name": {"type": "string", "enum": [tool.name]},
            "arguments": arguments
        })));
    }
    let list = json!({"type": "array", "items": {"anyOf": kinds}});
    let mut schema = closed_object(json!({ "calls": list }));
    if !definitions.is_empty() {
        schema["$defs"] = Value::Object(definitions);
    }
    Some(schema)
}

/// Returns the schema of an object with exactly these properties.
fn closed_object(properties: Value) -> Value {
    let names: Vec<String> =
        properties.as_object().into_iter().flatten().map(|p| p.0.clone()).collect();
    json!({
        "type": "object", "properties": properties, "required": names, "additionalProperties": false
    })
}

/// Returns the schema of a tool's arguments; `None` if it is none.
fn parameters(tool: &Tool) -> Option<Value> {
    let Some(schema) = &tool.parameters else { return Some(closed_object(json!({}))) };
    let mut schema = schema.clone();
    let rules = schema.as_object_mut()?;
    let has_none = rules.get("properties").and_then(Value::as_object).is_some_and(Map::is_empty);
    if rules.is_empty() || has_none && rules.len() == 2 {
        // A tool without arguments, as most clients write it.
        return Some(closed_object(json!({})));
    }
    Some(schema)
}

/// True if an answer's schema may have this at its root: OpenAI takes only an object there, and no choice
/// among several.
fn is_plain_object(schema: &Value) -> bool {
    let choices = ["anyOf", "oneOf", "allOf", "$ref", "enum", "not"];
    schema["type"] == "object" && choices.iter().all(|keyword| schema.get(*keyword).is_none())
}

/// Prepares a schema to stand within another: its definitions move to `definitions`, the outer
/// schema's, under names that begin with `prefix`. `None` if it refers to anything but its
/// definitions.
fn hoisted(mut schema: Value, prefix: &str, definitions: &mut Map<String, Value>) -> Option<Value> {
    let own = ["$defs", "definitions"].map(|place| schema.as_object_mut()?.remove(place));
    point_to(&mut schema, prefix)?;
    for (name, mut definition) in own.into_iter().flatten().filter_map(into_object).flatten() {
        point_to(&mut definition, prefix)?;
        definitions.insert(format!("{prefix}{name}"), definition);
    }
    Some(schema)
}

fn into_object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(map) = value { Some(map) } else { None }
}

fn point_to(schema: &mut Value, prefix: &str) -> Option<()> {
    match schema {
        Value::Object(rules) => {
            for (keyword, value) in rules.iter_mut() {
                match value {
                    Value::String(target) if keyword == "$ref" => {
                        let name = ["#/$defs/", "#/definitions/"]
                            .iter()
                            .find_map(|place| target.strip_prefix(place))
                            .filter(|name| !name.contains('/'))?;
                        *target = format!("#/$defs/{prefix}{name}");
                    }
                    value => point_to(value, prefix)?,
                }
            }
        }
        Value::Array(list) => {
            list.iter_mut().try_for_each(|value| point_to(value, prefix).ok_or(())).ok()?
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, parameters: Value) -> Tool {
        let (name, parameters) = (name.to_owned(), Some(parameters));
        Tool { name, parameters, ..Tool::default() }
    }

    fn asked(choice: ToolChoice, list: Vec<Tool>) -> Option<(Form, Value)> {
        let (form, format) = form(&Tools { list, choice, ..Tools::default() })?;
        let ResponseFormat::JsonSchema(format) = format else { panic!("{format:?}") };
        Some((form, format["json_schema"].clone()))
    }

    #[test]
    fn one_tool_is_asked_for_by_its_own_schema_made_strict_where_it_can_be() {
        let closed = closed_object(json!({"a": {"type": "integer"}}));
        let optional = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
        let nullable = closed_object(json!({"a": {"type": ["integer", "null"]}}));
        let open = json!({
            "type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": true
        });
        let empty = json!({"type": "object", "properties": {}});
        for (schema, strict, expected) in [
            (&closed, true, &closed),
            (&optional, true, &nullable),
            (&open, false, &open),
            (&empty, true, &closed_object(json!({}))),
        ] {
            let list = vec![tool("add", schema.clone()), tool("weather", json!({}))];
            let (form, format) = asked(ToolChoice::Named("add".to_owned()), list).unwrap();
            assert_eq!(form, Form::Arguments { name: "add".to_owned() });
            assert_eq!(format, json!({"name": "add", "strict": strict, "schema": expected}));
        }
    }

    #[test]
    fn several_tools_are_asked_for_as_a_list_with_their_definitions_at_the_root() {
        let tree =
            closed_object(json!({"list": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}));
        let mut schema = closed_object(json!({"tree": {"$ref": "#/$defs/tree"}}));
        schema["$defs"] = json!({ "tree": tree });
        let list = vec![tool("add", schema.clone()), tool("weather", schema)];
        let (form, format) = asked(ToolChoice::Required, list.clone()).unwrap();
        assert_eq!((form, &format["strict"]), (Form::List, &json!(true)));
        let kinds = &format["schema"]["properties"]["calls"]["items"]["anyOf"];
        assert_eq!(kinds[0]["properties"]["name"]["enum"], json!(["add"]));
        let reference = &kinds[1]["properties"]["arguments"]["properties"]["tree"]["$ref"];
        assert_eq!(reference, "#/$defs/tool1_tree");
        let inner = "/schema/$defs/tool1_tree/properties/list/items/$ref";
        assert_eq!(format.pointer(inner).unwrap(), "#/$defs/tool1_tree");

        let (choice, allowed) = (ToolChoice::Required, Some(vec!["weather".to_owned()]));
        let (form, _) = self::form(&Tools { list, choice, allowed, parallel: true }).unwrap();
        assert_eq!(form, Form::Arguments { name: "weather".to_owned() }, "the only one allowed");
    }

    #[test]
    fn a_choice_of_schemas_is_asked_for_within_a_list_since_it_cannot_be_the_root() {
        let kinds = [json!({"type": "object", "properties": {}, "additionalProperties": false})];
        for schema in [json!({"anyOf": kinds}), json!({"type": "object", "anyOf": kinds})] {
            let list = vec![tool("add", schema)];
            let (form, format) = asked(ToolChoice::Required, list).unwrap();
            assert_eq!((form, &format["schema"]["type"]), (Form::List, &json!("object")));
        }
    }

    #[test]
    fn what_cannot_be_asked_for_by_a_schema_is_not() {
        let odd = json!({"type": "object", "properties": {"a": {"$ref": "#/properties/b"}}});
        let list = vec![tool("add", odd), tool("weather", json!({}))];
        assert_eq!(asked(ToolChoice::Required, list.clone()), None);
        assert_eq!(asked(ToolChoice::Auto, list), None);
    }

    #[test]
    fn beyond_the_limits_a_schema_is_asked_for_without_strictness() {
        let values: Vec<String> = (0..1_001).map(|at| at.to_string()).collect();
        let wide =
            json!({"type": "object", "properties": {"a": {"enum": values}}, "required": ["a"]});
        let (_, format) = asked(ToolChoice::Required, vec![tool("add", wide.clone())]).unwrap();
        assert_eq!(format, json!({"name": "add", "strict": false, "schema": wide}));
    }
}
