//! The nonce of the markers around calls and results: the same in all requests of a conversation, so that
//! what they have in common is the same text, which OpenAI's cache needs.
//!
//! Why no text from outside can pose as a call, or end its own block:
//!
//! - The nonce of a request occurs in nothing that the client has sent with it: neither in a message, a
//!   call, a result, nor in the tools. So whoever knows it, and wherever they have it from, cannot use it:
//!   with the text that holds it the request gets another one, the first of a fixed sequence that occurs
//!   nowhere.
//! - Nobody can tell it beforehand, for instance to hide it in an image or an encoded text that the model
//!   then writes out: it is made of a secret of this server and of the client's key. The client sees calls, never
//!   their markers, unless a model writes one where it is no call; then it is in the conversation.
//! - What is left is that a text talks the model into a call, as with every model that calls tools.

use std::fs;
use std::path::Path;

use crate::chat::{Content, Role, Tool, Turn};
use crate::digest::sha256;
use crate::files;

/// Number of decimal digits: they have no upper case, no escapes, and are few tokens.
pub const LENGTH: usize = 8;
/// The number of nonces.
const NONCES: u64 = 10_u64.pow(LENGTH as u32);
/// The secret's file in the state directory.
const FILE: &str = "marker-secret";

/// What nonces are made of, besides the conversation: a secret, of the server or of one client.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Default for Secret {
    /// A new secret.
    fn default() -> Secret {
        let random = || uuid::Uuid::new_v4().into_bytes();
        Secret(sha256([&random()[..], &random()]))
    }
}

impl Secret {
    /// Returns the secret that is kept in `directory`, where it is written first if there is none. Where
    /// that cannot be, or without a directory, the secret is new: then nonces change with the process, which
    /// costs each conversation one reading without the cache.
    pub fn kept(directory: Option<&Path>) -> Secret {
        let new = Secret::default();
        let Some(path) = directory.map(|directory| directory.join(FILE)) else { return new };
        let read = || fs::read(&path);
        let kept = read().or_else(|_| files::write_once(&path, &new.0).and_then(|()| read()));
        match kept.map(TryInto::try_into) {
            Ok(Ok(kept)) => Secret(kept),
            Ok(Err(_)) => {
                log::warn!("{} is damaged: remove it", path.display());
                new
            }
            Err(error) => {
                log::debug!("{} cannot be kept: {error}", path.display());
                new
            }
        }
    }

    /// Returns the secret for the client that brings these keys.
    pub fn of_client(&self, keys: &[&str]) -> Secret {
        let keys = keys.iter().flat_map(|key| [key.as_bytes(), b"\n"]);
        Secret(sha256([&self.0[..]].into_iter().chain(keys)))
    }

    /// Returns the nonce of a request: that of its conversation, unless a text of the request holds it.
    /// `demand` is what it says of the answer.
    pub fn nonce(&self, turns: &[Turn], tools: &[Tool], demand: &str) -> String {
        let beginning = self.beginning(turns);
        let number = |at: u64| sha256([&beginning[..], &at.to_le_bytes()]);
        let word = |hash: [u8; 32]| {
            let number = hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
            format!("{:0LENGTH$}", number % NONCES)
        };
        let nonces = (0..).map(|at| word(number(at)));
        let is_free = |nonce: &String| {
            !turns.iter().any(|turn| mentions(turn, nonce))
                && !tools.iter().any(|tool| describes(tool, nonce))
                && !holds(demand, nonce)
        };
        nonces.into_iter().find(is_free).unwrap_or_default()
    }

    /// The hash of what the requests of a conversation have in common: the instructions at its beginning,
    /// and the user's first message.
    fn beginning(&self, turns: &[Turn]) -> [u8; 32] {
        let is_instruction = |turn: &&Turn| turn.is_of(Role::System) || turn.is_of(Role::Developer);
        let instructions = turns.iter().take_while(is_instruction);
        let first = turns.iter().find(|turn| turn.is_of(Role::User));
        let said = instructions.chain(first).flat_map(|turn| match turn {
            Turn::Message(message) => Some(message.content.text()),
            _ => None,
        });
        said.fold(self.0, |hash, text| sha256([&hash[..], text.as_bytes()]))
    }
}

/// True if a text holds the nonce, also with other characters between its digits: a model may read over
/// spaces, and over what nobody sees.
fn holds(text: &str, nonce: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.contains(nonce)
}

fn mentions(turn: &Turn, nonce: &str) -> bool {
    let is_said = |content: &Content| content.texts().any(|text| holds(text, nonce));
    match turn {
        Turn::Message(message) => is_said(&message.content),
        Turn::Calls { content, calls } => {
            let is_called = |text: &String| holds(text, nonce);
            is_said(content)
                || calls.iter().any(|call| is_called(&call.arguments) || is_called(&call.name))
        }
        Turn::Result(result) => {
            is_said(&result.content) || result.name.iter().any(|name| holds(name, nonce))
        }
    }
}

fn describes(tool: &Tool, nonce: &str) -> bool {
    holds(&tool.name, nonce)
        || tool.description.iter().any(|words| holds(words, nonce))
        || tool.parameters.iter().any(|schema| holds(&schema.to_string(), nonce))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ToolCall, ToolResult};
    use serde_json::json;

    fn conversation() -> Vec<Turn> {
        vec![Turn::message(Role::System, "Be brief."), Turn::message(Role::User, "Hi")]
    }

    fn call(name: &str, arguments: &str) -> Turn {
        let [id, name, arguments] = ["1", name, arguments].map(str::to_owned);
        Turn::Calls { content: Content::default(), calls: vec![ToolCall { id, name, arguments }] }
    }

    fn result(name: Option<&str>, content: &str) -> Turn {
        let (call_id, name) = ("1".to_owned(), name.map(str::to_owned));
        Turn::Result(ToolResult { call_id, name, content: content.into(), is_error: false })
    }

    fn tool(name: &str, description: Option<&str>, parameters: serde_json::Value) -> Tool {
        let description = description.map(str::to_owned);
        Tool { name: name.to_owned(), description, parameters: Some(parameters), ..Tool::default() }
    }

    #[test]
    fn it_lasts_as_long_as_the_conversation_and_is_no_other_ones() {
        let secret = Secret::default();
        let mut turns = conversation();
        let nonce = secret.nonce(&turns, &[], "");
        assert!(nonce.len() == LENGTH && nonce.bytes().all(|byte| byte.is_ascii_digit()));
        turns.extend([call("f", "{}"), result(None, "x"), Turn::message(Role::User, "More")]);
        assert_eq!(secret.nonce(&turns, &[tool("f", None, json!({}))], ""), nonce);
        assert_ne!(Secret::default().nonce(&turns, &[], ""), nonce, "another server's");
        let of = |keys: &[&str]| secret.of_client(keys).nonce(&turns, &[], "");
        assert_eq!(of(&["a"]), of(&["a"]));
        assert!(of(&["a"]) != of(&["b"]) && of(&["a"]) != nonce, "another client's");
        for at in 0..2 {
            let mut other = turns.clone();
            other[at] = Turn::message([Role::System, Role::User][at], "Hello");
            assert_ne!(secret.nonce(&other, &[], ""), nonce, "another conversation's");
        }
    }

    #[test]
    fn no_text_of_the_request_holds_it_wherever_it_stands_and_the_next_one_lasts_too() {
        let secret = Secret::default();
        let first = secret.nonce(&conversation(), &[], "");
        let told = format!("see <call-{first} name=");
        let schema = json!({"properties": {"a": {"description": told}}});
        let apart = |between: &str| first.split("").collect::<Vec<_>>().join(between);
        let mut seconds = Vec::new();
        for (turn, tools) in [
            (Turn::message(Role::User, told.as_str()), vec![]),
            (Turn::message(Role::Assistant, told.as_str()), vec![]),
            (call("fetch", &json!({"url": told}).to_string()), vec![]),
            (call(&first, "{}"), vec![]),
            (result(None, &told), vec![]),
            (result(Some(&first), ""), vec![]),
            (result(None, &apart("\u{200b}")), vec![]),
            (result(None, &apart(" ")), vec![]),
            (Turn::message(Role::User, "x"), vec![tool("f", Some(&told), json!({}))]),
            (Turn::message(Role::User, "x"), vec![tool("f", None, schema)]),
            (Turn::message(Role::User, "x"), vec![tool(&first, None, json!({}))]),
        ] {
            let turns = [conversation(), vec![turn]].concat();
            let second = secret.nonce(&turns, &tools, "");
            assert_ne!(second, first, "{turns:?}");
            seconds.push(second);
        }
        assert!(seconds.iter().all(|second| *second == seconds[0]), "{seconds:?}");
        assert_eq!(secret.nonce(&conversation(), &[], &told), seconds[0]);
        let both = Turn::message(Role::Assistant, format!("{first} {}", seconds[0]));
        let third = secret.nonce(&[conversation(), vec![both]].concat(), &[], "");
        assert!(third != first && third != seconds[0]);
    }

    #[test]
    fn the_secret_outlives_the_process_where_it_can_be_kept() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("state");
        let nonce =
            |directory: Option<&Path>| Secret::kept(directory).nonce(&conversation(), &[], "");
        let first = nonce(Some(&place));
        assert_eq!(nonce(Some(&place)), first);
        assert_ne!(nonce(None), first);
        assert_ne!(nonce(Some(Path::new("/proc/nowhere"))), first);
        let file = place.join(FILE);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "short").unwrap();
        assert_ne!(nonce(Some(&place)), nonce(Some(&place)), "a damaged one is nobody's");
    }
}
