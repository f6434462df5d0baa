//! Tools for models that LangFast lets speak text only: the one place that makes plain text of tools,
//! calls and results, and calls of text, for all dialects.
//!
//! - [`plan`]: what a request's runs are given, and in which form calls are to be expected
//! - `words`: the tools described, the history told
//! - [`marked`]: calls between markers in a text; [`forced`]: calls as an answer of JSON
//! - `cursor`, `object`: reading a text that comes in pieces

mod cursor;
pub mod forced;
pub mod marked;
mod object;
mod words;

use serde_json::Value;

use crate::chat::models::Model;
use crate::chat::schema::Schema;
use crate::chat::{ChatRequest, Message, Prompt, Role, Tool, ToolCall, ToolChoice, Turn};
use marked::Marker;
use words::Words;

/// What a parser finds in a text: text first, then calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text, never empty.
    Text(String),
    /// A call begins.
    Begin {
        /// The tool's name.
        name: String,
    },
    /// A piece of the call's arguments, never empty.
    Arguments(String),
    /// The call has ended. Its arguments may be invalid.
    End,
    /// The text has ended within the call.
    Cut {
        /// The call as it was written, marker and all.
        raw: String,
    },
}

/// In which form a model's calls come.
#[derive(Clone, Debug)]
enum Form {
    /// It has no tools.
    None,
    Marked(Marker),
    Forced(forced::Form),
}

/// What a request's runs are given, and what to make of their text.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the runs are given.
    pub prompt: Prompt,
    form: Form,
    tools: Vec<Tool>,
    parallel: bool,
    must_call: bool,
}

/// Plans the runs of a request, and takes turns and tools out of it.
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
    let takes_schema = model.accepts_value("response_format", "json_schema");
    let forced = takes_schema.then(|| forced::form(&tools)).flatten();
    let (form, format, instructions) = match forced {
        Some((form, format)) => {
            let instructions = words.about_forced_call(&tools, &form);
            (Form::Forced(form), Some(format), instructions)
        }
        // The model could not write a marker if it had to write JSON: that is asked for in words.
        None => {
            let wanted = sampling.response_format.as_ref();
            (Form::Marked(words.marker()), None, words.about_tools(&tools, wanted))
        }
    };
    sampling.response_format = format;
    Plan {
        prompt: Prompt { messages: words.messages(turns, instructions), sampling },
        form,
        must_call: matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_)),
        parallel: tools.parallel,
        tools: tools.list,
    }
}

impl Plan {
    fn without_tools(prompt: Prompt) -> Plan {
        Plan { prompt, form: Form::None, tools: Vec::new(), parallel: true, must_call: false }
    }

    /// A parser of one run's text; `None` where all of it is text.
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

    /// Whether an answer without a call is not what was asked for.
    pub fn must_call(&self) -> bool {
        self.must_call
    }

    /// What is wrong with a call's arguments, for the model to read; `None` if they are valid.
    pub fn fault(&self, call: &ToolCall) -> Option<String> {
        let arguments = match serde_json::from_str::<Value>(&call.arguments) {
            Ok(arguments) if arguments.is_object() => arguments,
            Ok(_) => return Some(format!("The arguments of {} are no JSON object.", call.name)),
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

    /// What a run is given that is to mend the `reply` of another.
    pub fn repair(&self, reply: &str, fault: &str) -> Prompt {
        let mut prompt = self.prompt.clone();
        let form = "Write the tool call again, correctly and in the form that was asked for, and \
                    nothing else.";
        prompt.messages.extend([
            Message { role: Role::Assistant, content: reply.to_owned() },
            Message { role: Role::User, content: format!("{fault} {form}") },
        ]);
        prompt
    }
}

/// Whether a conversation has calls or results in it.
fn has_calls(turns: &[Turn]) -> bool {
    turns.iter().any(|turn| !matches!(turn, Turn::Message(_)))
}

/// Tells text and calls apart as they come, in the form that was asked for.
pub enum Parser {
    /// Calls between markers.
    Marked(marked::Parser),
    /// Calls as JSON.
    Forced(forced::Parser),
}

impl Parser {
    /// Takes further text and adds what it is.
    pub fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        match self {
            Parser::Marked(parser) => parser.push(text, pieces),
            Parser::Forced(parser) => parser.push(text, pieces),
        }
    }

    /// Adds what was held back: the text has ended.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        match self {
            Parser::Marked(parser) => parser.finish(pieces),
            Parser::Forced(parser) => parser.finish(pieces),
        }
    }

    /// Whether nothing that may follow is wanted.
    pub fn is_done(&self) -> bool {
        match self {
            Parser::Marked(parser) => parser.is_done(),
            Parser::Forced(parser) => parser.is_done(),
        }
    }

    /// Whether there was something behind the calls.
    pub fn left_out(&self) -> bool {
        match self {
            Parser::Marked(parser) => parser.left_out(),
            Parser::Forced(parser) => parser.left_out(),
        }
    }
}

/// The pieces with neighbours of the same kind put together: what they are, however they came.
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
