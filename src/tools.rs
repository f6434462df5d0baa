//! Tools for models that LangFast lets speak text only: the one place that makes plain text of tools,
//! calls and results, for all dialects.

use crate::chat::{ChatRequest, Message, Prompt, Role, ToolChoice, Turn, find_call};
use crate::error::Error;
use crate::models::Model;

/// What a request's runs are given.
///
/// # Errors
/// [`Error::Invalid`] for what cannot be put in words.
pub fn plan(request: &ChatRequest, _: &Model) -> Result<Prompt, Error> {
    if !request.tools.list.is_empty() && request.tools.choice != ToolChoice::None {
        return Err(Error::unsupported("tools", "Tools are not supported yet"));
    }
    let turns = &request.turns;
    let messages = turns.iter().enumerate().map(|(at, turn)| message(&turns[..at], turn));
    Ok(Prompt { messages: messages.collect(), sampling: request.sampling.clone() })
}

fn message(before: &[Turn], turn: &Turn) -> Message {
    match turn {
        Turn::Message(message) => message.clone(),
        Turn::Calls { text, calls } => {
            let calls = calls.iter().map(|call| format!("\n{}: {}", call.name, call.arguments));
            Message { role: Role::Assistant, content: text.clone() + &calls.collect::<String>() }
        }
        Turn::Result(result) => {
            let call = find_call(before, &result.call_id).map(|call| &call.name);
            let name = result.name.as_ref().or(call).map_or("unknown", String::as_str);
            Message { role: Role::User, content: format!("{name}:\n{}", result.text) }
        }
    }
}
