//! Notices calls in a form that is not read: those that models have learned elsewhere, or without the
//! request's nonce. They are never executed, since text from outside can hold them as well; but whoever asks
//! is told, and the model can be asked again; `hold` keeps them from the client until then.

mod hold;

use std::sync::Arc;

use serde_json::Value;

use crate::chat::Tool;
pub use hold::Hold;

/// Bytes of text that are looked at again with what follows them.
const WINDOW: usize = 256;
/// Most bytes of text that are looked at together: behind each sign in them a tool's name is looked for.
const MOST_AT_ONCE: usize = 4 * WINDOW;
/// Longest text that may be a tool's arguments as a whole, in bytes.
const LONGEST_WHOLE: usize = 8_192;
/// What foreign forms begin a call with, in two parts, of which the second begins with the anchor; the name
/// of a tool follows. [`may_be_sign`] has the bytes around the anchors.
const SIGNS: [(&str, &str); 16] = [
    ("", "<tool_call"),
    ("", "<function_call"),
    ("", "<function="),
    ("", "<invoke "),
    ("", "<|tool_call"),
    ("", "<|python_tag|>"),
    ("", "<｜tool"),
    ("", "<｜DSML｜invoke "),
    ("", "<call-"),
    ("", "<call "),
    ("", "[TOOL_CALLS]"),
    ("functions", "."),
    ("default", "_api."),
    ("tool", "_code"),
    ("tool", "_uses"),
    ("Action", ": "),
];
const NAMES: [&str; 5] =
    ["\"name\"", "\"tool\"", "\"recipient_name\"", "\"function\"", "\"action\""];
const ARGUMENTS: [&str; 4] = ["\"arguments\"", "\"parameters\"", "\"args\"", "\"action_input\""];

/// Looks for calls in the text that a client gets.
pub struct Leak {
    tools: Arc<[Tool]>,
    /// The request's own marker, which is no leak: a call that has it is shown on purpose.
    own: String,
    /// The last of the text.
    window: String,
    /// All text, as long as it may be arguments as a whole.
    whole: Option<String>,
    is_found: bool,
}

impl Leak {
    /// Creates a search for calls of these tools in a request with this nonce.
    pub fn new(tools: Arc<[Tool]>, nonce: &str) -> Leak {
        let own = format!("<call-{nonce}");
        Leak { tools, own, window: String::new(), whole: Some(String::new()), is_found: false }
    }

    /// Notes text that the client gets.
    pub fn note(&mut self, mut text: &str) {
        while text.len() > MOST_AT_ONCE && !self.is_found {
            let end = (0..=MOST_AT_ONCE).rev().find(|at| text.is_char_boundary(*at));
            let (part, rest) = text.split_at(end.unwrap_or(text.len()));
            self.note_part(part);
            text = rest;
        }
        self.note_part(text);
    }

    fn note_part(&mut self, text: &str) {
        if self.is_found {
            return;
        }
        if let Some(whole) = &mut self.whole {
            whole.push_str(text);
            let begin = whole.trim_start();
            let may_be = begin.is_empty() || begin.starts_with(['{', '`']);
            if !may_be || whole.len() > LONGEST_WHOLE {
                self.whole = None;
            }
        }
        self.window.push_str(text);
        if self.window.len() > MOST_AT_ONCE {
            let from = self.window.len() - WINDOW;
            self.is_found = self.holds_call(from);
            let from = (from..).find(|at| self.window.is_char_boundary(*at));
            self.window.drain(..from.unwrap_or(0));
        }
    }

    /// True if the text so far holds a call.
    pub fn is_found(&self) -> bool {
        self.is_found || self.holds_call(self.window.len()) || self.is_whole_call()
    }

    /// True if a call begins in the window before this place.
    fn holds_call(&self, end: usize) -> bool {
        let window = self.window.as_bytes();
        let (mut has_brace, mut has_name, mut has_arguments) = (false, false, false);
        let is_one = |at: usize, words: &[&str]| {
            words.iter().any(|word| window[at..].starts_with(word.as_bytes()))
        };
        for (at, byte) in window.iter().enumerate() {
            match byte {
                b'{' => has_brace = true,
                b'"' => {
                    has_name |= is_one(at, &NAMES);
                    has_arguments |= is_one(at, &ARGUMENTS);
                }
                byte if at < end && may_be_sign(window, at) && self.is_sign(at, *byte) => {
                    return true;
                }
                _ => {}
            }
        }
        has_brace && has_name && has_arguments && self.names_tool(&self.window)
    }

    /// True if a sign stands around this place, where this anchor is, and a tool's name behind it.
    fn is_sign(&self, at: usize, anchor: u8) -> bool {
        let (before, behind) = self.window.split_at(at);
        if anchor == b'[' && self.tools.iter().any(|tool| is_called(&behind[1..], tool)) {
            return true;
        }
        let sign = SIGNS.iter().find(|(first, second)| {
            second.as_bytes()[0] == anchor && behind.starts_with(second) && before.ends_with(first)
        });
        !behind.starts_with(&self.own)
            && sign.is_some_and(|(_, second)| self.names_tool(&behind[second.len()..]))
    }

    /// True if a text has the name of a tool as a word.
    fn names_tool(&self, text: &str) -> bool {
        let is_in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        self.tools.iter().any(|tool| {
            text.match_indices(&tool.name).any(|(at, name)| {
                !text[..at].ends_with(is_in_word)
                    && !text[at + name.len()..].starts_with(is_in_word)
            })
        })
    }

    /// True if all of the text is an object with the arguments that a tool requires, and no others.
    fn is_whole_call(&self) -> bool {
        let Some(whole) = &self.whole else { return false };
        let text = whole.trim().trim_matches('`').trim_start_matches("json");
        let Ok(Value::Object(object)) = serde_json::from_str(text) else { return false };
        self.tools.iter().filter_map(|tool| tool.parameters.as_ref()).any(|schema| {
            let properties = schema.get("properties").and_then(Value::as_object);
            let required = schema.get("required").and_then(Value::as_array);
            let required = required.into_iter().flatten().filter_map(Value::as_str);
            let mut required = required.peekable();
            required.peek().is_some()
                && required.all(|name| object.contains_key(name))
                && properties.is_some_and(|own| object.keys().all(|key| own.contains_key(key)))
        })
    }
}

/// False if the bytes beside an anchor rule out all signs.
fn may_be_sign(window: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).map(|at| window[at]);
    match window[at] {
        b'<' => matches!(window.get(at + 1), Some(b't' | b'f' | b'i' | b'c' | b'|' | 0xef)),
        b'.' => before == Some(b's'),
        b'_' => matches!(before, Some(b't' | b'l')),
        b':' => before == Some(b'n'),
        b'[' => true,
        _ => false,
    }
}

/// True if a text begins with a call of the tool as in a program.
fn is_called(text: &str, tool: &Tool) -> bool {
    text.strip_prefix(tool.name.as_str()).is_some_and(|rest| rest.starts_with('('))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn is_leaked(pieces: &[&str]) -> bool {
        let schema = json!({"type": "object", "properties": {"place": {}}, "required": ["place"]});
        let weather =
            Tool { name: "weather".to_owned(), parameters: Some(schema), ..Tool::default() };
        let mut leak = Leak::new([weather].into(), "7f3a90bc");
        pieces.iter().for_each(|piece| leak.note(piece));
        leak.is_found()
    }

    #[test]
    fn a_call_of_a_known_tool_in_a_foreign_form_is_noticed_wherever_it_stands() {
        let long = "word ".repeat(1000);
        for call in [
            "to=functions.weather",
            "<tool_call>{\"name\":\"weather\"",
            "<call-12345678 name=\"weather\">",
            r#"{"name": "weather", "arguments": {"place": "Oslo"}}"#,
        ] {
            let (one, two) = call.split_at(call.len() / 2);
            assert!(is_leaked(&[one, two]), "{call}");
            assert!(is_leaked(&[&long, one, two, "\n", &long]), "{call}");
        }
        assert!(
            is_leaked(&[r#"{"place": "Oslo"}"#]) && is_leaked(&["```json\n{\"place\": 1}\n```"])
        );
        let far = format!("<tool_call>{long}weather");
        assert!(!is_leaked(&[&far]) && !is_leaked(&far.split_inclusive(' ').collect::<Vec<_>>()));
        for text in [
            "<tool_call>{\"name\":\"time\"",
            "How is the weather? {}",
            r#"{"place": "Oslo", "sky": 1}"#,
            r#"The answer: {"place": "Oslo"}"#,
            "functions.weathering",
        ] {
            assert!(!is_leaked(&[text]), "{text}");
        }
    }
}
