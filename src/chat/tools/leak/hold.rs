//! Text that may begin a call in a form that is not read, held back for a model that can be asked again: so
//! that the call is not shown before it is written anew.
//!
//! Held back is what looks like such a call up to a tool's name, at most [`LONGEST`] bytes; and from a
//! call on everything to the text's end, which whoever asks shows or drops.

use std::sync::Arc;

use super::super::cursor::{Cursor, Miss};
use super::{ARGUMENTS, NAMES, is_called};
use crate::chat::Tool;

/// Most bytes that are held back while they may begin a call.
const LONGEST: usize = 400;
/// Most bytes, behind a sign of a call, in which a tool's name is waited for.
const FARTHEST: usize = 256;
/// Longest language name of a fence.
const LONGEST_LANGUAGE: usize = 16;
/// What calls begin with, anywhere.
const SIGNS: [&str; 10] = [
    "<tool_call",
    "<function_call",
    "<function=",
    "<invoke ",
    "<|tool_call",
    "<|python_tag|>",
    "<｜tool",
    "<｜DSML｜",
    "<call",
    "[TOOL_CALLS]",
];
/// The same where a word begins.
const WORDS: [&str; 4] = ["to=functions.", "functions.", "default_api.", "assistant to="];
/// The keys that an object begins with that is a call.
const KEYS: [&str; 9] = [
    "name",
    "tool",
    "recipient_name",
    "function",
    "action",
    "tool_uses",
    "tool_calls",
    "type",
    "id",
];

/// Text on its way to the client.
pub struct Hold {
    tools: Arc<[Tool]>,
    /// The request's own marker: a call that has it is shown on purpose.
    own: String,
    /// The last character that was let through.
    last: Option<char>,
    held_back: String,
    is_closed: bool,
}

impl Hold {
    /// Creates a hold for calls of these tools in a request with this nonce.
    pub fn new(tools: Arc<[Tool]>, nonce: &str) -> Hold {
        let own = format!("<call-{nonce}");
        Hold { tools, own, last: None, held_back: String::new(), is_closed: false }
    }

    /// Takes further text, and returns what may be shown.
    pub fn push(&mut self, text: &str) -> String {
        self.held_back.push_str(text);
        let mut shown = String::new();
        let mut at = 0;
        while let Some(c) = self.held_back[at..].chars().next().filter(|_| !self.is_closed) {
            let text = &self.held_back[at..];
            let looked_at = beginning(text, LONGEST);
            match self.call(looked_at) {
                Ok(()) => self.is_closed = true,
                Err(Miss::More) if looked_at.len() == text.len() => break,
                Err(_) => {
                    at += c.len_utf8();
                    self.last = Some(c);
                }
            }
        }
        shown.extend(self.held_back.drain(..at));
        shown
    }

    /// Takes all that is held back.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.held_back)
    }

    /// Finds out whether a call begins here.
    fn call(&self, text: &str) -> Result<(), Miss> {
        let at_line_start = self.last.is_none_or(|c| c == '\n');
        let at_word_start = !self.last.is_some_and(|c| c.is_alphanumeric() || "_.=".contains(c));
        let first = text.bytes().next();
        match first {
            Some(b'<' | b'[') => self.signed(text, &SIGNS),
            Some(b'{' | b'`') if at_line_start => self.fenced(text),
            Some(b'A') if at_line_start => self.signed(text, &["Action: "]),
            Some(b't' | b'f' | b'd' | b'a') if at_word_start => self.signed(text, &WORDS),
            _ => Err(Miss::Never),
        }
    }

    /// Finds out whether one of the signs stands here, and the name of a tool behind it.
    fn signed(&self, text: &str, signs: &[&str]) -> Result<(), Miss> {
        if let Some(called) = text.strip_prefix('[') {
            if self.tools.iter().any(|tool| is_called(called, tool)) {
                return Ok(());
            }
            if self.tools.iter().any(|tool| tool.name.starts_with(called) || tool.name == called) {
                return Err(Miss::More);
            }
        }
        if text.starts_with(&self.own) {
            return Err(Miss::Never);
        }
        let mut best = if self.own.starts_with(text) { Miss::More } else { Miss::Never };
        for sign in signs {
            let mut cursor = Cursor::new(text);
            match cursor.word(sign) {
                Ok(()) => return self.named(cursor.rest),
                Err(Miss::More) => best = Miss::More,
                Err(Miss::Never) => {}
            }
        }
        Err(best)
    }

    /// Finds out whether an object that is a call stands here, which a fence may be around.
    fn fenced(&self, text: &str) -> Result<(), Miss> {
        if text.starts_with('{') {
            return self.object(text);
        }
        let mut cursor = Cursor::new(text);
        cursor.word("```")?;
        let language =
            cursor.until('\n', LONGEST_LANGUAGE, |c| c.is_ascii_alphanumeric() || c == '_')?;
        if language == "tool_code" {
            return self.named(cursor.rest);
        }
        cursor.blanks();
        match cursor.rest.chars().next() {
            None => Err(Miss::More),
            Some('{') => self.object(cursor.rest),
            Some('<' | '[') => self.signed(cursor.rest, &SIGNS),
            Some(_) => Err(Miss::Never),
        }
    }

    fn object(&self, text: &str) -> Result<(), Miss> {
        let mut cursor = Cursor::new(text);
        cursor.word("{")?;
        cursor.blanks();
        cursor.word("\"")?;
        let key = cursor.until('"', FARTHEST, |c| c.is_ascii_alphanumeric() || c == '_')?;
        if !KEYS.contains(&key) {
            return Err(Miss::Never);
        }
        self.named(text)?;
        let beginning = beginning(text, FARTHEST);
        let has = |words: &[&str]| words.iter().any(|word| beginning.contains(word));
        match has(&NAMES) && has(&ARGUMENTS) {
            true => Ok(()),
            false if beginning.len() < text.len() => Err(Miss::Never),
            false => Err(Miss::More),
        }
    }

    /// Finds out whether the name of a tool stands in the beginning of a text, and a character behind it.
    fn named(&self, text: &str) -> Result<(), Miss> {
        let beginning = beginning(text, FARTHEST);
        let is_in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let is_there = |tool: &Tool| {
            beginning.match_indices(&tool.name).any(|(at, name)| {
                let behind = beginning[at + name.len()..].chars().next();
                !beginning[..at].ends_with(is_in_word) && behind.is_some_and(|c| !is_in_word(c))
            })
        };
        match self.tools.iter().any(is_there) {
            true => Ok(()),
            false if beginning.len() < text.len() => Err(Miss::Never),
            false => Err(Miss::More),
        }
    }
}

/// At most this many bytes of a text.
fn beginning(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hold() -> Hold {
        let tool = |name: &str| Tool { name: name.to_owned(), ..Tool::default() };
        Hold::new(["bash", "weather"].map(tool).into(), "7f3a90bc")
    }

    #[test]
    fn a_call_in_a_foreign_form_is_held_back_from_its_beginning_on() {
        for call in [
            "<tool_call>\n{\"name\": \"bash\", \"arguments\": {}}",
            "<function_calls>\n<invoke name=\"bash\">\n<parameter name=\"command\">ls</parameter>",
            "<function=bash>{}</function>",
            "<|python_tag|>{\"name\": \"weather\"}",
            "<call-12345678 name=\"bash\">{}",
            "<call name=\"bash\">{}",
            "[TOOL_CALLS] [{\"name\": \"weather\"}]",
            "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"bash\">",
            "[bash(command='ls')]",
            "to=functions.weather json",
            "{\"name\": \"bash\", \"arguments\": {\"command\": \"ls\"}}",
            "```json\n{\"tool\": \"bash\", \"args\": {}}\n```",
            "```tool_code\nprint(default_api.bash(command='ls'))",
            "Action: bash\nAction Input: ls",
        ] {
            let (mut hold, mut shown) = (hold(), String::new());
            for c in format!("Let me see.\n{call} and more").chars() {
                shown += &hold.push(&c.to_string());
            }
            assert_eq!(shown, "Let me see.\n", "{call}");
            assert_eq!(hold.take(), format!("{call} and more"));
        }
    }

    #[test]
    fn other_text_passes_and_is_never_held_back_for_long() {
        let own = "<call-7f3a90bc name=\"bash\">{}</call-7f3a90bc>";
        for text in [
            "Action: none. The functions. of a tool, <table>, [1], {\"a\": 1}\n",
            "\n{\"name\": \"Ann\", \"age\": 3}\n",
            "```json\n{\"id\": 1}\n```\n```rust\nfn main() {}\n```\n",
            "to=me; default_api; <callout> <call >",
            own,
        ] {
            let mut hold = hold();
            let shown = hold.push(&text.repeat(9)) + &hold.push(&" ".repeat(LONGEST + 100));
            assert!(shown.starts_with(&text.repeat(9)), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            parts in prop::collection::vec(prop::sample::select(vec![
                "<tool_call>", "{\"name\": \"", "bash", "\", \"arguments\": {", "}", "```", "json", "\n", " ", "x",
                "é", "functions.", "to=", "<call-", "7f3a90bc", "[", "(", "Action: ", "weather",
            ]), 0..14),
            cut: prop::sample::Index,
        ) {
            let text = parts.concat();
            let at = (0..=cut.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let (mut one, mut two) = (hold(), hold());
            let shown = one.push(&text[..at]) + &one.push(&text[at..]);
            prop_assert_eq!(&shown, &two.push(&text));
            prop_assert_eq!(shown + &one.take(), text);
        }
    }
}
