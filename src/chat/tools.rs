//! Tool calls for models that LangFast restricts to text. This is the one place, for all dialects,
//! that writes tools, calls and results as text, and finds calls in text.
//!
//! - [`plan`]: the prompt of a request's runs, and the form in which calls are expected
//! - `words`: descriptions of tools, and calls and results of earlier turns, as text
//! - [`marked`]: calls between markers in a text; [`forced`]: calls as an answer of JSON
//! - `cursor`, `object`: reading of text that arrives in pieces

mod cursor;
pub mod forced;
pub mod marked;
mod object;
mod words;

use std::sync::Arc;

use serde_json::Value;

use crate::chat::models::Model;
use crate::chat::nesting::{DEEPEST, is_too_deep};
use crate::chat::schema::Schema;
use crate::chat::{ChatRequest, Message, Prompt, Role, Tool, ToolCall, ToolChoice, Turn};
use marked::Marker;
use words::Words;

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
    Cut {
        /// The call as the model wrote it, marker included.
        raw: String,
    },
}

/// The form in which a model writes calls.
#[derive(Clone, Debug)]
enum Form {
    /// The request offers no tools.
    None,
    Marked(Marker),
    Forced(forced::Form),
}

/// The prompt for a request's runs, and how to read their text.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The input of each run.
    pub prompt: Arc<Prompt>,
    form: Form,
    tools: Vec<Tool>,
    parallel: bool,
    must_call: bool,
}

/// Plans the runs of a request. The request's turns and tools are moved out of it.
pub fn plan(request: &mut ChatRequest, model: &Model) -> Plan {
    let (turns, tools) = (std::mem::take(&mut request.turns), std::mem::take(&mut request.tools));
    let mut sampling = request.sampling.clone();
    let offered = !tools.list.is_empty() && tools.choice != ToolChoice::None;
    if !offered && !has_calls(&turns) {
        let messages = turns.into_iter().filter_map(Turn::into_message).collect();
        return Plan::without_tools(Prompt { messages, sampling });
    }
    let words = Words::new(&turns);
    if !offered {
        let messages = words.messages(turns, words.about_the_past());
        return Plan::without_tools(Prompt { messages, sampling });
    }
    // Nobody has asked for a schema: it is used where the model is known to take one.
    let takes_schema = model.lists("response_format", "json_schema");
    let forced = takes_schema.then(|| forced::form(&tools)).flatten();
    let (form, format, instructions) = match forced {
        Some((form, format)) => {
            let instructions = words.about_forced_call(&tools, &form);
            (Form::Forced(form), Some(format), instructions)
        }
        // `response_format` would force JSON and rule out markers, so the prompt asks for the
        // format in words.
        None => {
            let wanted = sampling.response_format.as_ref();
            (Form::Marked(words.marker()), None, words.about_tools(&tools, wanted))
        }
    };
    sampling.response_format = format;
    Plan {
        prompt: Prompt { messages: words.messages(turns, instructions), sampling }.into(),
        form,
        must_call: matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_)),
        parallel: tools.parallel,
        tools: tools.list,
    }
}

impl Plan {
    fn without_tools(prompt: Prompt) -> Plan {
        Plan {
            prompt: prompt.into(),
            form: Form::None,
            tools: Vec::new(),
            parallel: true,
            must_call: false,
        }
    }

    /// Returns a parser for the text of one run; `None` if all of it is text.
    pub fn parser(&self) -> Option<Parser> {
        let names = self.tools.iter().map(|tool| tool.name.clone()).collect();
        match &self.form {
            Form::None => None,
            Form::Marked(marker) => {
                let marker = marker.clone();
                Some(Parser::Marked(marked::Parser::new(marker, names, self.parallel)))
            }
            Form::Forced(form) => {
                Some(Parser::Forced(forced::Parser::new(form.clone(), names, self.parallel)))
            }
        }
    }

    /// True if an answer without a call does not satisfy the request.
    pub fn must_call(&self) -> bool {
        self.must_call
    }

    /// Returns what is wrong with a call's arguments, for the model to read; `None` if they are
    /// valid.
    pub fn fault(&self, call: &ToolCall) -> Option<String> {
        let arguments = match serde_json::from_str::<Value>(&call.arguments) {
            Ok(arguments) if arguments.is_object() => arguments,
            Ok(_) => return Some(format!("The arguments of {} are no JSON object.", call.name)),
            Err(error) if is_too_deep(&error) => {
                return Some(format!(
                    "The arguments of {} are nested deeper than {DEEPEST} levels.",
                    call.name
                ));
            }
            Err(error) => {
                return Some(format!(
                    "The arguments of {} are not valid JSON: {error}.",
                    call.name
                ));
            }
        };
        let tool = self.tools.iter().find(|tool| tool.name == call.name)?;
        let fault = Schema::new(tool.parameters.as_ref()?).fault(&arguments)?;
        Some(format!("The arguments of {} do not fit their schema: {fault}.", call.name))
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
