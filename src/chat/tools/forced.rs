//! Calls as an answer of JSON. Where a call is required and the model obeys a schema, the answer's
//! schema is composed of the tools' schemas, so that the arguments are valid by construction.

use serde_json::{Map, Value, json};

use super::Piece;
use super::cursor::{Cursor, Miss};
use super::object::ObjectEnd;
use crate::chat::{ResponseFormat, Tool, ToolChoice, Tools};

/// Most bytes before the arguments of a call that may still turn out to lead to a call.
const MOST_HELD_BACK: usize = 400;

/// The form of the JSON answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// The answer is the arguments of this tool.
    Arguments {
        /// The tool's name.
        name: String,
    },
    /// The answer is `{"calls":[{"name":…,"arguments":{…}},…]}`.
    List,
}

/// Returns the form of a required call, and the `response_format` that asks for it. `None` if no
/// call is required, or the tools' schemas cannot be combined.
pub fn form(tools: &Tools) -> Option<(Form, ResponseFormat)> {
    let one = match (&tools.choice, &tools.list[..]) {
        (ToolChoice::Named(name), list) => list.iter().find(|tool| tool.name == *name),
        (ToolChoice::Required, [tool]) => Some(tool),
        (ToolChoice::Required, _) => None,
        _ => return None,
    };
    if let Some(tool) = one {
        let schema = parameters(tool)?;
        let strict = tool.strict && fits_strict(&schema);
        let form = Form::Arguments { name: tool.name.clone() };
        return Some((form, response_format(&tool.name, schema, strict)));
    }
    let mut definitions = Map::new();
    let mut kinds = Vec::new();
    let mut strict = true;
    for (at, tool) in tools.list.iter().enumerate() {
        let arguments = hoisted(parameters(tool)?, &format!("tool{at}_"), &mut definitions)?;
        strict &= tool.strict && fits_strict(&arguments);
        kinds.push(closed_object(json!({
            "name": {"type": "string", "enum": [tool.name]},
            "arguments": arguments
        })));
    }
    strict &= definitions.values().all(fits_strict);
    let list = json!({"type": "array", "items": {"anyOf": kinds}});
    let mut schema = closed_object(json!({ "calls": list }));
    if !definitions.is_empty() {
        schema["$defs"] = Value::Object(definitions);
    }
    Some((Form::List, response_format("calls", schema, strict)))
}

fn response_format(name: &str, schema: Value, strict: bool) -> ResponseFormat {
    let name: String = name.chars().take(64).collect();
    let schema = json!({"name": name, "strict": strict, "schema": schema});
    ResponseFormat::JsonSchema(json!({"type": "json_schema", "json_schema": schema}))
}

/// Returns the schema of an object with exactly these properties.
fn closed_object(properties: Value) -> Value {
    let names: Vec<String> =
        properties.as_object().into_iter().flatten().map(|p| p.0.clone()).collect();
    json!({
        "type": "object", "properties": properties, "required": names, "additionalProperties": false
    })
}

/// Returns the schema of a tool's arguments; `None` if it is not an object's, which the root of an
/// answer must be.
fn parameters(tool: &Tool) -> Option<Value> {
    let mut schema = match &tool.parameters {
        None => return Some(closed_object(json!({}))),
        Some(schema) => schema.clone(),
    };
    let rules = schema.as_object_mut()?;
    if rules.is_empty() {
        rules.insert("type".to_owned(), json!("object"));
    }
    rules.entry("properties").or_insert_with(|| json!({}));
    (rules.get("type")? == "object").then_some(schema)
}

/// True if OpenAI accepts a schema as strict: objects are closed, all their properties are
/// required, and no keyword is used that its structured outputs do not know.
fn fits_strict(schema: &Value) -> bool {
    let Some(rules) = schema.as_object() else { return false };
    let unknown = ["allOf", "oneOf", "not", "if", "then", "else", "patternProperties", "default"];
    if unknown.iter().any(|keyword| rules.contains_key(*keyword)) {
        return false;
    }
    let values = |name: &str| rules.get(name).and_then(Value::as_object).map(Map::values);
    let properties = rules.get("properties").and_then(Value::as_object);
    let required = rules.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_required = |name: &String| required.iter().any(|required| required == name);
    let is_object = properties.is_some() || rules.get("type").is_some_and(|kind| kind == "object");
    let closed = rules.get("additionalProperties") == Some(&Value::Bool(false))
        && properties.is_none_or(|properties| properties.keys().all(is_required));
    (!is_object || closed)
        && ["properties", "$defs", "definitions"]
            .iter()
            .filter_map(|name| values(name))
            .all(|mut schemas| schemas.all(fits_strict))
        && rules.get("items").is_none_or(fits_strict)
        && rules
            .get("anyOf")
            .and_then(Value::as_array)
            .is_none_or(|schemas| schemas.iter().all(fits_strict))
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

/// Parses calls from JSON as it arrives. Anything not in the form is text.
pub struct Parser {
    form: Form,
    names: Vec<String>,
    parallel: bool,
    state: State,
    /// Text read since the last call, or since the beginning.
    held_back: String,
    /// The current call as the model wrote it.
    raw: String,
    /// True once a call has ended.
    called: bool,
    left_out: bool,
}

enum State {
    /// Before the arguments of the next call.
    Lead,
    /// Within the arguments of a call.
    Arguments(ObjectEnd),
    /// The answer is not in the form, and shown as text.
    Text,
    /// No further text is wanted.
    Done,
}

impl Parser {
    /// Creates a parser for calls of the tools `names`; `parallel` allows more than one call.
    pub fn new(form: Form, names: Vec<String>, parallel: bool) -> Parser {
        Parser {
            form,
            names,
            parallel,
            state: State::Lead,
            held_back: String::new(),
            raw: String::new(),
            called: false,
            left_out: false,
        }
    }

    /// Parses further text and appends the pieces found.
    pub fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        let mut out = String::new();
        for c in text.chars() {
            match &mut self.state {
                State::Lead => self.take_lead(c, &mut out, pieces),
                State::Arguments(object) => {
                    self.raw.push(c);
                    if object.push(c, &mut out) {
                        pieces.push(Piece::Arguments(std::mem::take(&mut out)));
                        self.end(pieces);
                    }
                }
                State::Text => out.push(c),
                State::Done => break,
            }
        }
        self.put_out(out, pieces);
    }

    /// Ends the text, and appends what was held back.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        let held_back = std::mem::take(&mut self.held_back);
        if let State::Arguments(_) = self.state {
            pieces.push(Piece::Cut { raw: std::mem::take(&mut self.raw) });
        } else if !self.called {
            self.put_out(held_back, pieces);
        }
        self.state = State::Done;
    }

    /// True if no further text is wanted.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// True if text was dropped after the calls that does not look like the rest of the list.
    pub fn left_out(&self) -> bool {
        self.left_out
    }

    fn put_out(&self, out: String, pieces: &mut Vec<Piece>) {
        match self.state {
            _ if out.is_empty() => {}
            State::Arguments(_) => pieces.push(Piece::Arguments(out)),
            _ => pieces.push(Piece::Text(out)),
        }
    }

    fn end(&mut self, pieces: &mut Vec<Piece>) {
        self.raw.clear();
        pieces.push(Piece::End);
        let may_follow = self.form == Form::List && self.parallel;
        self.state = if may_follow { State::Lead } else { State::Done };
        self.called = true;
    }

    fn take_lead(&mut self, c: char, out: &mut String, pieces: &mut Vec<Piece>) {
        self.held_back.push(c);
        match self.lead() {
            Ok(name) => {
                self.raw = std::mem::take(&mut self.held_back);
                let mut object = ObjectEnd::default();
                object.push('{', out);
                self.state = State::Arguments(object);
                pieces.push(Piece::Begin { name });
            }
            Err(Miss::More) if self.held_back.len() <= MOST_HELD_BACK => {}
            Err(_) if self.called => {
                // After the last call, only the end of the list is expected.
                self.left_out = !self.held_back.trim_start().starts_with('}');
                self.state = State::Done;
            }
            Err(_) => {
                self.state = State::Text;
                out.push_str(&std::mem::take(&mut self.held_back));
            }
        }
    }

    /// Returns the name of the tool whose arguments begin with the last character held back.
    fn lead(&self) -> Result<String, Miss> {
        let mut cursor = Cursor::new(&self.held_back);
        if !self.called {
            cursor.fence()?;
        }
        let name = match &self.form {
            Form::Arguments { name } => name.clone(),
            Form::List => self.list_lead(&mut cursor)?,
        };
        cursor.word("{")?;
        Ok(name)
    }

    fn list_lead(&self, cursor: &mut Cursor<'_>) -> Result<String, Miss> {
        let tokens: &[&str] = match self.called {
            false => &["{", "\"calls\"", ":", "[", "{", "\"name\"", ":", "\""],
            true => &["}", ",", "{", "\"name\"", ":", "\""],
        };
        for token in tokens {
            cursor.blanks();
            cursor.word(token)?;
        }
        let name = cursor.until('"', 128, |c| !c.is_control())?;
        if !self.names.iter().any(|known| known == name) {
            return Err(Miss::Never);
        }
        for token in [",", "\"arguments\"", ":"] {
            cursor.blanks();
            cursor.word(token)?;
        }
        cursor.blanks();
        Ok(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::tools::merged;
    use proptest::prelude::*;

    fn parse(form: &Form, pieces: &[&str]) -> (Vec<Piece>, bool) {
        let names = ["add", "weather"].map(str::to_owned).to_vec();
        let mut parser = Parser::new(form.clone(), names, true);
        let mut found = Vec::new();
        pieces.iter().for_each(|piece| parser.push(piece, &mut found));
        parser.finish(&mut found);
        (merged(found), parser.left_out())
    }

    fn found(form: &Form, text: &str) -> Vec<Piece> {
        parse(form, &[text]).0
    }

    fn called(name: &str, arguments: &str) -> [Piece; 3] {
        let begin = Piece::Begin { name: name.to_owned() };
        [begin, Piece::Arguments(arguments.to_owned()), Piece::End]
    }

    fn arguments_of_add() -> Form {
        Form::Arguments { name: "add".to_owned() }
    }

    #[test]
    fn an_object_is_the_arguments_of_the_one_tool() {
        let form = arguments_of_add();
        for written in [r#"{"a":1}"#, "\n{\"a\":1}\n", "```json\n{\"a\":1}\n```"] {
            assert_eq!(found(&form, written), called("add", r#"{"a":1}"#), "{written}");
        }
        let text = "I cannot.";
        assert_eq!(found(&form, text), [Piece::Text(text.to_owned())]);
    }

    #[test]
    fn a_list_of_calls_is_read_as_it_comes() {
        let both = [called("add", r#"{"a":{}}"#), called("weather", "{}")].concat();
        for written in [
            r#"{"calls":[{"name":"add","arguments":{"a":{}}},{"name":"weather","arguments":{}}]}"#,
            r#" { "calls" : [ { "name" : "add" , "arguments" : {"a":{}} } ,
                {"name": "weather", "arguments": {}}] }"#,
        ] {
            assert_eq!(parse(&Form::List, &[written]), (both.clone(), false), "{written}");
        }
        for written in [r#"{"calls":[]}"#, r#"{"calls":[{"name":"x","arguments":{}}]}"#, "no", ""] {
            let text = Some(Piece::Text(written.to_owned())).filter(|_| !written.is_empty());
            assert_eq!(found(&Form::List, written), Vec::from_iter(text), "{written}");
        }
        let cut = found(&Form::List, r#"{"calls":[{"name":"add","arguments":{"a"#);
        assert!(matches!(cut.last(), Some(Piece::Cut { .. })));
    }

    fn tool(name: &str, strict: bool, parameters: Value) -> Tool {
        Tool { name: name.to_owned(), description: None, parameters: Some(parameters), strict }
    }

    fn asked(choice: ToolChoice, list: Vec<Tool>) -> Option<(Form, Value)> {
        let (form, format) = form(&Tools { list, choice, parallel: true })?;
        let ResponseFormat::JsonSchema(format) = format else { panic!("{format:?}") };
        Some((form, format["json_schema"].clone()))
    }

    #[test]
    fn one_tool_is_asked_for_by_its_own_schema_strict_only_if_it_fits() {
        let closed = closed_object(json!({"a": {"type": "integer"}}));
        let open = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
        for (strict, schema, expected) in
            [(true, &closed, true), (false, &closed, false), (true, &open, false)]
        {
            let list = vec![tool("add", strict, schema.clone()), tool("weather", true, json!({}))];
            let (form, format) = asked(ToolChoice::Named("add".to_owned()), list).unwrap();
            assert_eq!(form, arguments_of_add());
            assert_eq!(format, json!({"name": "add", "strict": expected, "schema": schema}));
        }
    }

    #[test]
    fn several_tools_are_asked_for_as_a_list_with_their_definitions_at_the_root() {
        let tree =
            closed_object(json!({"list": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}));
        let mut schema = closed_object(json!({"tree": {"$ref": "#/$defs/tree"}}));
        schema["$defs"] = json!({ "tree": tree });
        let list = vec![tool("add", true, schema.clone()), tool("weather", true, schema)];
        let (form, format) = asked(ToolChoice::Required, list).unwrap();
        assert_eq!((form, &format["strict"]), (Form::List, &json!(true)));
        let kinds = &format["schema"]["properties"]["calls"]["items"]["anyOf"];
        assert_eq!(kinds[0]["properties"]["name"]["enum"], json!(["add"]));
        let reference = &kinds[1]["properties"]["arguments"]["properties"]["tree"]["$ref"];
        assert_eq!(reference, "#/$defs/tool1_tree");
        let inner = "/schema/$defs/tool1_tree/properties/list/items/$ref";
        assert_eq!(format.pointer(inner).unwrap(), "#/$defs/tool1_tree");
    }

    #[test]
    fn what_cannot_be_asked_for_by_a_schema_is_not() {
        let any_of = json!({"anyOf": [{"type": "object"}, {"type": "string"}]});
        assert_eq!(asked(ToolChoice::Required, vec![tool("add", false, any_of)]), None);
        let odd = json!({"type": "object", "properties": {"a": {"$ref": "#/properties/b"}}});
        let list = vec![tool("add", false, odd), tool("weather", false, json!({}))];
        assert_eq!(asked(ToolChoice::Required, list.clone()), None);
        assert_eq!(asked(ToolChoice::Auto, list), None);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            parts in prop::collection::vec(prop::sample::select(vec![
                "{\"calls\":[", "{\"name\":\"add\",\"arguments\":", "{\"a\":\"}\"}", "}", "]", ",", "{",
                "```", " ", "\n", "x", "é", "\"", "\\",
            ]), 0..12),
            cuts: Vec<prop::sample::Index>,
            list: bool,
        ) {
            let form = if list { Form::List } else { arguments_of_add() };
            let text = parts.concat();
            let boundary = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| boundary(cut.index(text.len() + 1))).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(parse(&form, &pieces), parse(&form, &[&text]));
        }
    }
}
