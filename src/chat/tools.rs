//! Tool calls for models that LangFast restricts to text. This is the one place, for all dialects,
//! that writes tools, calls and results as text, and finds calls in text.
//!
//! - [`plan`]: the prompt of a request's runs, and the form in which calls are expected
//! - [`nonce`]: what makes the markers of a conversation its own
//! - `offer`, `example`: what the model is told about tools, and what it has to do
//! - `words`: calls and results of earlier turns as text
//! - [`marked`]: calls between markers in a text; [`forced`]: calls as an answer of JSON
//! - `relaxed`: JSON as models write it; `slots`: places in a tool's schema; `names`: the tool that is meant;
//!   `wrapped`: calls in JSON with more than arguments
//! - [`leak`]: calls in a form that is not read, which are noticed
//! - `cursor`: reading of text that arrives in pieces

mod cursor;
mod example;
pub mod forced;
pub mod leak;
pub mod marked;
mod names;
pub mod nonce;
mod offer;
mod relaxed;
mod slots;
mod words;
mod wrapped;

use std::sync::Arc;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::chat::models::Model;
use crate::chat::nesting::{DEEPEST, is_too_deep};
use crate::chat::schema::Schema;
use crate::chat::values::{self, NotBuilt};
use crate::chat::{
    ChatRequest, Closing, Message, Prompt, Role, Sampling, Tool, ToolCall, ToolChoice, Tools, Turn,
    json_mode,
};
use marked::Marker;
use nonce::Secret;
pub use offer::described;

/// A part of an answer as a parser finds it: first text, then calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Answer text; never empty.
    Text(String),
    /// The beginning of a call.
    Begin {
        /// The tool's name.
        name: String,
    },
    /// A part of the call's arguments; never empty.
    Arguments(String),
    /// The end of the call, whose arguments may be invalid.
    End,
    /// The answer ended within the call.
    Cut,
}

/// The form in which a model writes calls.
#[derive(Clone, Debug)]
enum Form {
    /// The request offers no tools.
    None,
    Marked(Marker),
    /// With the marker that stands for calls where the model does not take the format.
    Forced(forced::Form, Marker),
}

/// The prompt for a request's runs, and how to read their text.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The input of each run.
    pub prompt: Arc<Prompt>,
    form: Form,
    /// Those that may be called.
    tools: Arc<[Tool]>,
    parallel: bool,
    must_call: bool,
}

/// Plans the runs of a request. The request's turns and tools are moved out of it. The markers' nonce is
/// made of `secret`.
pub fn plan(request: &mut ChatRequest, model: &Model, secret: &Secret) -> Plan {
    let (turns, mut tools) =
        (std::mem::take(&mut request.turns), std::mem::take(&mut request.tools));
    if tools.choice == ToolChoice::None && !has_calls(&turns) {
        // Nothing has been called, and nothing may be: nobody misses them.
        tools.list.clear();
    }
    let sampling = request.sampling.clone();
    let wanted = json_mode::in_words(sampling.response_format.as_ref());
    let closing = Closing { usual: String::new(), unformatted: wanted, is_clients: true };
    if tools.list.is_empty() && !has_calls(&turns) {
        let messages = turns.into_iter().filter_map(Turn::into_message).collect();
        return Plan::without_tools(Prompt { messages, sampling, closing });
    }
    let nonce = secret.nonce(&turns, &tools.list, &closing.unformatted);
    if tools.list.is_empty() {
        let messages = words::messages(turns, offer::about_the_past(&nonce), &nonce);
        return Plan::without_tools(Prompt { messages, sampling, closing });
    }
    let is_instruction = |turn: &&Turn| turn.is_of(Role::System) || turn.is_of(Role::Developer);
    let length = turns.iter().filter(|turn| !is_instruction(turn)).map(Turn::bytes).sum();
    let messages = words::messages(turns, offer::introduction(&tools, &nonce), &nonce);
    let demand = |wanted: &str| offer::demand(&tools, &nonce, length, wanted);
    if tools.choice == ToolChoice::None {
        let (usual, unformatted) = (demand(""), demand(&closing.unformatted));
        let closing = Closing { usual, unformatted, ..closing };
        return Plan::without_tools(Prompt { messages, sampling, closing });
    }
    // Nobody has asked for a schema: it is used where the model is known to take one.
    let takes_schema = model.lists("response_format", "json_schema");
    let forced = takes_schema.then(|| forced::form(&tools)).flatten();
    let (form, format, usual) = match forced {
        Some((form, format)) => {
            let demand = offer::forced_demand(&form);
            (Form::Forced(form, Marker::new(&nonce)), Some(format), demand)
        }
        // `response_format` would force JSON and rule out markers, so the prompt asks for the
        // format in words.
        None => (Form::Marked(Marker::new(&nonce)), None, demand(&closing.unformatted)),
    };
    let closing = Closing { usual, unformatted: demand(""), is_clients: false };
    let sampling = Sampling { response_format: format, ..sampling };
    Plan {
        prompt: Prompt { messages, sampling, closing }.into(),
        form,
        must_call: matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_)),
        parallel: tools.parallel,
        tools: callable(tools).into(),
    }
}

/// The tools that may be called now.
fn callable(tools: Tools) -> Vec<Tool> {
    let Tools { mut list, allowed, .. } = tools;
    if let Some(allowed) = allowed {
        list.retain(|tool| allowed.contains(&tool.name));
    }
    list
}

impl Plan {
    fn without_tools(prompt: Prompt) -> Plan {
        Plan {
            prompt: prompt.into(),
            form: Form::None,
            tools: Arc::default(),
            parallel: true,
            must_call: false,
        }
    }

    /// Returns a parser for the text of one run; `None` if all of it is text.
    pub fn parser(&self) -> Option<Parser> {
        match &self.form {
            Form::None => None,
            Form::Marked(marker) => {
                let (marker, tools) = (marker.clone(), self.tools.clone());
                Some(Parser::Marked(marked::Parser::new(marker, tools, self.parallel)))
            }
            Form::Forced(form, marker) => {
                let (form, tools, marker) = (form.clone(), self.tools.clone(), marker.clone());
                Some(Parser::Forced(forced::Parser::new(form, tools, marker, self.parallel)))
            }
        }
    }

    /// Returns a search for calls in the text of one run in forms that are not read; `None` if no tool can be
    /// called, or the whole answer has to be a call.
    pub fn leak(&self) -> Option<leak::Leak> {
        let Form::Marked(marker) = &self.form else { return None };
        Some(leak::Leak::new(self.tools.clone(), marker.nonce()))
    }

    /// Returns a hold for such calls in the text of one run; `None` as with [`Plan::leak`].
    pub fn hold(&self) -> Option<leak::Hold> {
        let Form::Marked(marker) = &self.form else { return None };
        Some(leak::Hold::new(self.tools.clone(), marker.nonce()))
    }

    /// True if the request offers a tool of this name.
    pub fn offers(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    /// True if an answer without a call does not satisfy the request.
    pub fn must_call(&self) -> bool {
        self.must_call
    }

    /// Returns what is wrong with a call's arguments, for the model to read; `None` if they are
    /// valid.
    pub fn fault(&self, call: &ToolCall) -> Option<String> {
        let name = &call.name;
        let arguments = match object(&call.arguments) {
            Ok(arguments) => arguments,
            Err(fault) => return Some(format!("The arguments of {name} {fault}.")),
        };
        let Some(tool) = self.tools.iter().find(|tool| tool.name == *name) else {
            return Some(format!("There is no tool {name}."));
        };
        let fault = Schema::new(tool.parameters.as_ref()?).fault(&arguments?)?;
        Some(format!("The arguments of {name} do not fit their schema: {fault}."))
    }

    /// Returns the prompt for a run that corrects `reply`, whose call has the fault `fault`.
    pub fn repair(&self, reply: &str, fault: &str) -> Prompt {
        let mut prompt = Prompt::clone(&self.prompt);
        let form = "Write the tool call again, correctly and in the form that was asked for, and \
                    nothing else.";
        prompt.messages.extend([
            Message { role: Role::Assistant, content: reply.into() },
            Message { role: Role::User, content: format!("{fault} {form}").into() },
        ]);
        prompt
    }
}

/// Reads a call's arguments; `None` if they are an object that would take too much memory. The error says
/// what is wrong with them, behind their name.
fn object(arguments: &str) -> Result<Option<Value>, String> {
    // Of what serde_json has no value for, this reads `1e999` and halves of surrogate pairs.
    let checked = serde_json::from_str::<IgnoredAny>(arguments);
    match (values::of_text(arguments), checked) {
        (Ok(value), _) if value.is_object() => Ok(Some(value)),
        (Err(NotBuilt::NoMemory(_)), Ok(_)) if arguments.trim_start().starts_with('{') => Ok(None),
        (Ok(_) | Err(NotBuilt::NoMemory(_)), Ok(_)) => Err("are no JSON object".to_owned()),
        (Err(NotBuilt::Invalid(error)), _) if is_too_deep(&error) => {
            Err(format!("are nested deeper than {DEEPEST} levels"))
        }
        (Err(NotBuilt::Invalid(error)), Ok(_)) => {
            Err(format!("hold a number, or half a character, that cannot be read: {error}"))
        }
        (_, Err(error)) => Err(format!("are not valid JSON: {error}")),
    }
}

/// True if a conversation contains calls or results.
fn has_calls(turns: &[Turn]) -> bool {
    turns.iter().any(|turn| !matches!(turn, Turn::Message(_)))
}

/// Separates text and calls as an answer arrives, in the form that was planned.
pub enum Parser {
    /// Calls between markers.
    Marked(marked::Parser),
    /// Calls as JSON.
    Forced(forced::Parser),
}

impl Parser {
    /// Parses further text and appends the pieces found.
    pub fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        match self {
            Parser::Marked(parser) => parser.push(text, pieces),
            Parser::Forced(parser) => parser.push(text, pieces),
        }
    }

    /// Ends the text, and appends what was held back.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        match self {
            Parser::Marked(parser) => parser.finish(pieces),
            Parser::Forced(parser) => parser.finish(pieces),
        }
    }

    /// True if no further text is wanted.
    pub fn is_done(&self) -> bool {
        match self {
            Parser::Marked(parser) => parser.is_done(),
            Parser::Forced(parser) => parser.is_done(),
        }
    }

    /// True if arguments were not JSON of the schema's types, and were repaired.
    pub fn repaired(&self) -> bool {
        match self {
            Parser::Marked(parser) => parser.repaired(),
            Parser::Forced(parser) => parser.repaired(),
        }
    }

    /// True if the text has ended within a call.
    pub fn broke_off(&self) -> bool {
        match self {
            Parser::Marked(parser) => parser.broke_off(),
            Parser::Forced(parser) => parser.broke_off(),
        }
    }

    /// True if something other than a call followed the calls, and was dropped.
    pub fn left_out(&self) -> bool {
        match self {
            Parser::Marked(parser) => parser.left_out(),
            Parser::Forced(parser) => parser.left_out(),
        }
    }
}

/// Joins neighbouring pieces of the same kind, so that results do not depend on how text was split.
#[cfg(test)]
fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut merged: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (merged.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(text)) => last.push_str(&text),
            (Some(Piece::Arguments(last)), Piece::Arguments(text)) => last.push_str(&text),
            (_, piece) => merged.push(piece),
        }
    }
    merged
}
