//! Calls as an answer of JSON. Where a call is required and the model obeys a schema, the answer's
//! schema is composed of the tools' schemas, so that the arguments are valid by construction.
//!
//! - `schema`: the schema of the answer; `strict`: schemas that a model can be bound to
//! - [`Parser`]: reads calls as they come, in the form that was asked for
//! - `whole`: reads an answer in any other form, when all of it is there
//!
//! A model that does not take the schema is told to write its calls between markers: those are read too.

mod schema;
mod strict;
mod whole;

use std::sync::Arc;

use super::Piece;
use super::cursor::{Cursor, Miss};
use super::marked::{self, Marker};
use super::relaxed::{Ends, Relaxed};
use super::{relaxed, slots};
use crate::chat::Tool;
pub use schema::form;
use whole::{Calls, Reading};

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

/// Parses calls from JSON as it arrives. An answer in another form is read at its end; if there is no call
/// in it, it is text.
pub struct Parser {
    form: Form,
    tools: Arc<[Tool]>,
    marker: Marker,
    parallel: bool,
    state: State,
    /// Text read since the last call, or since the beginning.
    held_back: String,
    /// True once a call has ended.
    called: bool,
    left_out: bool,
    broke_off: bool,
    repaired: bool,
}

enum State {
    /// Before the arguments of the next call.
    Lead,
    /// Within the arguments of a call of the tool at this place.
    Arguments(Box<Relaxed>, usize),
    /// Calls between markers.
    Marked(Box<marked::Parser>),
    /// The answer, or what follows its first calls, is in another form.
    Other,
    /// No further text is wanted.
    Done,
}

/// What an answer begins with.
enum Lead {
    /// The arguments of the tool at this place.
    Arguments(usize),
    /// A call between markers.
    Marker,
    /// The end of the list of calls.
    End,
}

impl Parser {
    /// Creates a parser for calls of these tools; `parallel` allows more than one call. `marker` is that of
    /// calls in another form.
    pub fn new(form: Form, tools: Arc<[Tool]>, marker: Marker, parallel: bool) -> Parser {
        Parser {
            form,
            tools,
            marker,
            parallel,
            state: State::Lead,
            held_back: String::new(),
            called: false,
            left_out: false,
            broke_off: false,
            repaired: false,
        }
    }

    /// Parses further text and appends the pieces found.
    pub fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        for (at, c) in text.char_indices() {
            match &mut self.state {
                State::Lead => self.take_lead(c, pieces),
                State::Arguments(..) => self.take_argument(c, pieces),
                State::Marked(parser) => return parser.push(&text[at..], pieces),
                State::Other => return self.held_back.push_str(&text[at..]),
                State::Done => break,
            }
        }
    }

    /// Ends the text, and appends what was held back.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        if let State::Arguments(json, tool) = &mut self.state {
            let schema = self.tools[*tool].parameters.as_ref();
            json.finish(schema);
            if json.lacks_only_its_end(schema) {
                json.close(schema);
            }
            if json.is_done() {
                self.end(pieces);
            }
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Arguments(mut json, _) => {
                json.flush();
                put_arguments(json.take(), pieces);
                pieces.push(Piece::Cut);
                self.broke_off = true;
            }
            State::Marked(parser) => self.finish_marked(*parser, pieces),
            State::Lead | State::Other => self.read_other(pieces),
            State::Done => {}
        }
    }

    /// True if arguments were not JSON of the schema's types, and were repaired.
    pub fn repaired(&self) -> bool {
        self.repaired
    }

    /// True if no further text is wanted.
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Marked(parser) => parser.is_done(),
            state => matches!(state, State::Done),
        }
    }

    /// True if the text has ended within a call.
    pub fn broke_off(&self) -> bool {
        self.broke_off
    }

    /// True if something was dropped that is no call of a tool which may be called.
    pub fn left_out(&self) -> bool {
        self.left_out
    }

    fn take_argument(&mut self, c: char, pieces: &mut Vec<Piece>) {
        let State::Arguments(json, tool) = &mut self.state else { return };
        json.push(c, self.tools[*tool].parameters.as_ref());
        put_arguments(json.take(), pieces);
        if json.is_done() {
            self.end(pieces);
        } else if json.is_stopped() {
            let rest = json.rest();
            json.resume(&rest, None);
        }
    }

    /// Ends a call; what was read behind it may lead to another one.
    fn end(&mut self, pieces: &mut Vec<Piece>) {
        let may_follow = self.form == Form::List && self.parallel;
        let next = if may_follow { State::Lead } else { State::Done };
        let State::Arguments(mut json, _) = std::mem::replace(&mut self.state, next) else {
            return;
        };
        put_arguments(json.take(), pieces);
        // The strict form of a schema asks for nulls.
        self.repaired |= json.is_repaired_besides_nulls();
        self.called = true;
        pieces.push(Piece::End);
        self.push(&json.rest(), pieces);
    }

    fn take_lead(&mut self, c: char, pieces: &mut Vec<Piece>) {
        self.held_back.push(c);
        match self.lead() {
            Ok(Lead::Arguments(tool)) => self.begin(tool, pieces),
            Ok(Lead::Marker) => {
                let mut parser = self.marked();
                parser.push(&std::mem::take(&mut self.held_back), pieces);
                self.state = State::Marked(Box::new(parser));
            }
            Ok(Lead::End) => self.state = State::Done,
            Err(Miss::More) if self.held_back.len() <= MOST_HELD_BACK => {}
            Err(_) => self.state = State::Other,
        }
    }

    /// Begins a call whose arguments are held back from their opening brace on.
    fn begin(&mut self, tool: usize, pieces: &mut Vec<Piece>) {
        let lead = std::mem::take(&mut self.held_back);
        pieces.push(Piece::Begin { name: self.tools[tool].name.clone() });
        let brace = lead.rfind('{').unwrap_or_default();
        self.state = State::Arguments(Box::new(Relaxed::new(Ends::default())), tool);
        self.push(&lead[brace..], pieces);
    }

    /// A parser of calls between markers, which a model may write all the same.
    fn marked(&self) -> marked::Parser {
        marked::Parser::new(self.marker.clone(), self.tools.clone(), self.parallel)
    }

    fn finish_marked(&mut self, mut parser: marked::Parser, pieces: &mut Vec<Piece>) {
        parser.finish(pieces);
        self.left_out = parser.left_out();
        self.broke_off = parser.broke_off();
        self.repaired |= parser.repaired();
    }

    /// Returns what the text that is held back leads to.
    fn lead(&self) -> Result<Lead, Miss> {
        let mut cursor = Cursor::new(&self.held_back);
        if !self.called {
            cursor.fence()?;
            if cursor.rest.starts_with('<') {
                return cursor.word(&self.marker.begin()).map(|()| Lead::Marker);
            }
        }
        match &self.form {
            Form::Arguments { name } => self.arguments_lead(name, &mut cursor),
            Form::List => self.list_lead(&mut cursor),
        }
    }

    /// Arguments begin with the name of one of the tool's properties: anything else may be another form.
    fn arguments_lead(&self, name: &str, cursor: &mut Cursor<'_>) -> Result<Lead, Miss> {
        let tool = self.tools.iter().position(|tool| tool.name == name).ok_or(Miss::Never)?;
        cursor.word("{")?;
        cursor.blanks();
        if cursor.rest.starts_with('}') {
            return Ok(Lead::Arguments(tool));
        }
        cursor.word("\"")?;
        let property = cursor.until('"', 128, |c| c != '\\' && !c.is_control())?;
        let schema = self.tools[tool].parameters.as_ref();
        let known = schema.and_then(|schema| schema["properties"].get(property));
        known.map(|_| Lead::Arguments(tool)).ok_or(Miss::Never)
    }

    fn list_lead(&self, cursor: &mut Cursor<'_>) -> Result<Lead, Miss> {
        let tokens: &[&str] = match self.called {
            false => &["{", "\"calls\"", ":", "[", "{", "\"name\"", ":", "\""],
            true => &["}", ",", "{", "\"name\"", ":", "\""],
        };
        for (at, token) in tokens.iter().enumerate() {
            cursor.blanks();
            if self.called && at == 1 && cursor.rest.starts_with(']') {
                return Ok(Lead::End);
            }
            cursor.word(token)?;
        }
        let name = cursor.until('"', 128, |c| !c.is_control())?;
        let tool = self.tools.iter().position(|tool| tool.name == name).ok_or(Miss::Never)?;
        for token in [",", "\"arguments\"", ":"] {
            cursor.blanks();
            cursor.word(token)?;
        }
        cursor.blanks();
        cursor.word("{")?;
        Ok(Lead::Arguments(tool))
    }

    /// Reads what was held back because it is in another form.
    fn read_other(&mut self, pieces: &mut Vec<Piece>) {
        let text = std::mem::take(&mut self.held_back);
        let reading = Reading { form: &self.form, tools: &self.tools };
        if self.called {
            let rest = reading.rest(&text);
            return self.tell(rest, pieces);
        }
        if text.contains(self.marker.nonce()) {
            let mut parser = self.marked();
            parser.push(&text, pieces);
            return self.finish_marked(parser, pieces);
        }
        match reading.answer(&text) {
            Some(calls) => self.tell(calls, pieces),
            None => pieces.extend((!text.is_empty()).then_some(Piece::Text(text))),
        }
    }

    fn tell(&mut self, calls: Calls, pieces: &mut Vec<Piece>) {
        self.left_out |= calls.left_out;
        let most = if self.parallel { usize::MAX } else { 1 };
        for (tool, arguments) in calls.list.into_iter().take(most) {
            let tool = &self.tools[tool];
            let fitting =
                relaxed::whole(&arguments, tool.parameters.as_ref(), &slots::Slot::root());
            pieces.push(Piece::Begin { name: tool.name.clone() });
            pieces.push(Piece::Arguments(fitting.unwrap_or(arguments)));
            pieces.push(Piece::End);
        }
    }
}

fn put_arguments(text: String, pieces: &mut Vec<Piece>) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Arguments(last)) => last.push_str(&text),
        _ => pieces.push(Piece::Arguments(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::tools::merged;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(form: &Form, pieces: &[&str]) -> (Vec<Piece>, bool) {
        let mut parser = Parser::new(form.clone(), tools(), Marker::new("7f3a"), true);
        let mut found = Vec::new();
        pieces.iter().for_each(|piece| parser.push(piece, &mut found));
        parser.finish(&mut found);
        (merged(found), parser.left_out())
    }

    /// `add`, which takes `a` of any type, and `weather`, which takes what is not said.
    fn tools() -> Arc<[Tool]> {
        let schema = json!({"type": "object", "properties": {"a": {}}, "required": ["a"]});
        let tool =
            |name: &str, parameters| Tool { name: name.to_owned(), parameters, ..Tool::default() };
        [tool("add", Some(schema)), tool("weather", None)].into()
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
        assert!(matches!(cut.last(), Some(Piece::Cut)));
    }

    /// By the square of their number these would take minutes.
    #[test]
    fn a_long_list_of_other_things_is_read_in_time_by_its_length() {
        let others = ",{}".repeat(100_000);
        let written =
            format!("{{\"calls\":[{{\"name\":\"add\",\"arguments\":{{\"a\":1}}}}{others}]}}");
        assert_eq!(parse(&Form::List, &[&written]), (called("add", r#"{"a":1}"#).to_vec(), true));
    }

    #[test]
    fn arguments_that_lack_only_their_last_brace_are_closed() {
        let call = called("add", r#"{"a":{"b":1}}"#);
        assert_eq!(found(&arguments_of_add(), r#"{"a":{"b":1}"#), call);
        assert_eq!(found(&Form::List, r#"{"calls":[{"name":"add","arguments":{"a":{"b":1} "#), {
            called("add", r#"{"a":{"b":1} }"#)
        });
        // More may have been to come.
        for cut in [r#"{"a":{"b":1"#, r#"{"a":[1"#, r#"{"a":1"#, r#"{"a":"x"#, r#"{"a":"x","#] {
            let pieces = found(&arguments_of_add(), cut);
            assert!(matches!(pieces.last(), Some(Piece::Cut)), "{cut}");
        }
        let many = Form::List;
        let pieces = found(&many, r#"{"calls":[{"name":"weather","arguments":{"b":"x""#);
        assert!(matches!(pieces.last(), Some(Piece::Cut)), "whose properties are not known");
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
