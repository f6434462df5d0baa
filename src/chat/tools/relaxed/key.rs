//! Keys of objects, and the colons behind them.

use serde_json::Value;

use super::super::slots::{self, Slot};
use super::string_state::closer;
use super::{Relaxed, State, Where, string};

impl Relaxed {
    pub(super) fn key(&mut self, c: char, root: Option<&Value>) {
        if self.between(c, Where::Key) {
            return;
        }
        match c {
            '}' | ']' => self.end_level(c == '}', root),
            ',' | ';' => self.repaired = true,
            // Templates double their braces; fences may stand before the end.
            '{' if self.levels.len() == 1 && self.first_key.is_none() => self.repaired = true,
            '`' => self.repaired = true,
            // Dots for what is left out.
            '.' | '…' if self.first_key.is_some() => self.repaired = true,
            '\\' if self.first_key.is_none() => {
                self.stop(c);
                self.before = State::Broken;
            }
            _ => {
                self.word.clear();
                self.state = State::InKey(closer(c));
                if closer(c).is_none() {
                    self.word.push(c);
                }
                self.repaired |= c != '"';
            }
        }
    }

    pub(super) fn in_key(&mut self, c: char, end: Option<char>, root: Option<&Value>) {
        match end {
            Some(end) if c == end && !ends_in_escape(&self.word) => self.end_quoted_key(end, root),
            Some(_) => self.word.push(c),
            // The quote that is missing before the key.
            None if c == '"' => self.end_key(root),
            None if c.is_alphanumeric() || "_-$.…".contains(c) => self.word.push(c),
            None => {
                self.end_key(root);
                self.queue.push(c);
            }
        }
    }

    /// Ends a key at its quote. One that ends in a colon may lack its own quote, `{"a: "b"}`: what follows
    /// shows it.
    pub(super) fn end_quoted_key(&mut self, end: char, root: Option<&Value>) {
        match self.word.trim_end().ends_with(':') {
            true => self.state = State::OddKey(end),
            false => self.end_key(root),
        }
    }

    /// Reads on behind a key that ends in a colon.
    pub(super) fn behind_odd_key(&mut self, c: char, end: char, root: Option<&Value>) {
        if c.is_whitespace() {
            return self.member.push(c);
        }
        let gap = std::mem::take(&mut self.member);
        self.queue.push(c);
        self.queue.extend(gap.chars().rev());
        if c != ':' {
            self.repaired = true;
            let name = self.word.trim_end().trim_end_matches(':').to_owned();
            self.word = name;
            self.end_key(root);
            self.put_behind_key(":");
            return self.begin_string(end, end, root);
        }
        self.end_key(root);
    }

    pub(super) fn end_key(&mut self, root: Option<&Value>) {
        let written = std::mem::take(&mut self.word);
        let level = self.levels.last().map_or(Slot::none(), |level| level.slot.clone());
        let (key, slot) = slots::property(root, &level, &written);
        self.repaired |= key != written;
        self.first_key.get_or_insert_with(|| key.clone());
        let is_new = self.levels.len() == 1 && !self.known_keys.contains(&key);
        if is_new && slots::knows(root, &level, &key) {
            self.known_keys.push(key.clone());
        }
        self.may_lack = slots::may_lack(root, &level, &key);
        self.slot = slot;
        // As it is, escapes included.
        self.member = format!("\"{}\"", string::escaped_key(&key));
        if !self.may_lack {
            self.separate();
        }
        self.state = State::Colon;
    }

    /// Passes on what follows a key, or keeps it with the key.
    pub(super) fn put_behind_key(&mut self, text: &str) {
        if self.member.is_empty() { self.put(text) } else { self.member.push_str(text) }
    }

    pub(super) fn colon(&mut self, c: char, root: Option<&Value>) {
        if self.between(c, Where::Colon) {
            return;
        }
        self.state = State::Value;
        self.put_behind_key(":");
        if c != ':' {
            self.repaired = true;
            match c {
                '=' => {}
                '}' | ',' => self.give_up(c),
                _ => self.value(c, root),
            }
        }
    }
}

/// True if the last character is a backslash that escapes the next one.
fn ends_in_escape(text: &str) -> bool {
    (text.len() - text.trim_end_matches('\\').len()) % 2 == 1
}
