//! Strings: escapes, raw control characters, and paths of Windows whose backslashes were not doubled.

use std::fmt::Write;

use serde_json::Value;

use super::super::slots::{self, Kinds};
use super::quote::{self, Verdict};
use super::string_state::{Escape, StringState, closer};
use super::{Relaxed, State};

/// Longest white space, or key, that is waited for within a string, in bytes.
const LONGEST_GAP: usize = 120;

/// What a character adds to the number of open braces and brackets.
fn opens(c: char) -> i32 {
    match c {
        '{' | '[' => 1,
        '}' | ']' => -1,
        _ => 0,
    }
}

/// A text as a JSON string.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The inside of a key, whose escapes are left as they are.
pub fn escaped_key(key: &str) -> String {
    let mut escaped = String::new();
    let mut is_escaped = false;
    for c in key.chars() {
        match c {
            '"' if !is_escaped => escaped.push_str("\\\""),
            _ if c.is_control() => put_control(&mut escaped, c),
            _ => escaped.push(c),
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    escaped
}

fn put_control(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // JSON allows those from U+007F on.
        '\u{20}'.. => out.push(c),
        _ => write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes everything"),
    }
}

impl Relaxed {
    pub(super) fn begin_string(&mut self, c: char, end: char, root: Option<&Value>) {
        self.separate();
        self.repaired |= c != '"';
        let wanted = slots::has_choices(root, &self.slot);
        self.capture_unless(if wanted { Kinds::CHOICE } else { Kinds::STRING }, root);
        self.put("\"");
        self.state = State::InString(StringState {
            end,
            triple: false,
            escape: Escape::None,
            length: 0,
            has_inner: false,
            open: 0,
            drive: false,
            in_path: c == 'r',
        });
    }

    pub(super) fn in_string(&mut self, c: char, mut string: StringState) {
        match string.escape {
            Escape::Slash => return self.escaped(c, string),
            Escape::Drive(letter) => return self.in_drive(c, letter, string),
            Escape::Unicode(digits) => return self.unicode(c, digits, string),
            Escape::None => {}
        }
        if c == string.end {
            self.word.clear();
            self.state = State::Quote(string);
            return;
        }
        if matches!(c, '<' | '}' | ']' | ',') && self.ends.is_marked() {
            self.word = c.to_string();
            self.state = State::Marker(string);
            return;
        }
        string.drive = match string.length {
            0 => c.is_ascii_alphabetic(),
            1 => string.drive && c == ':',
            _ => string.drive && string.length == 2 && c == '\\',
        };
        string.in_path &= !"\"';|<>\n".contains(c);
        string.length = (string.length + 1).min(3);
        string.open = string.open.saturating_add(opens(c));
        match c {
            '\\' => string.escape = Escape::Slash,
            _ => self.put_content(c),
        }
        self.state = State::InString(string);
    }

    /// Passes on a character of a string's content.
    fn put_content(&mut self, c: char) {
        if c == '"' {
            return self.put("\\\"");
        }
        if c < ' ' {
            self.repaired = true;
            let mut escaped = String::new();
            put_control(&mut escaped, c);
            return self.put(&escaped);
        }
        self.put_char(c);
    }

    /// Reads the character behind a backslash. An escape that JSON does not know is a backslash that was
    /// not doubled (`\d`, `\$`), but for that of an apostrophe.
    fn escaped(&mut self, c: char, mut string: StringState) {
        string.escape = Escape::None;
        let begins_path = std::mem::take(&mut string.drive);
        match c {
            // It may end the string.
            '"' if string.in_path && string.end == c => {
                self.put("\\\\");
                self.queue.push(c);
            }
            '"' | '\\' | '/' => {
                self.put("\\");
                self.put_char(c);
            }
            'b' | 'f' | 'n' | 'r' | 't' | 'u' if string.in_path => {
                self.put("\\\\");
                self.put_char(c);
            }
            'b' | 'f' | 'n' | 'r' | 't' if begins_path => string.escape = Escape::Drive(c),
            'b' | 'f' | 'n' | 'r' | 't' => {
                self.put("\\");
                self.put_char(c);
            }
            'u' => {
                self.word.clear();
                string.escape = Escape::Unicode(0);
            }
            '\'' | '`' if c == string.end || c == '\'' => {
                self.repaired = true;
                self.put_char(c);
            }
            _ => {
                self.repaired = true;
                self.put("\\\\");
                string.in_path |= begins_path;
                self.queue.push(c);
            }
        }
        if begins_path && matches!(c, 'u') {
            string.in_path = true;
        }
        self.state = State::InString(string);
    }

    /// Reads on behind `C:\n`: a small letter belongs to a name in a path, anything else follows a line
    /// break.
    fn in_drive(&mut self, c: char, letter: char, mut string: StringState) {
        string.escape = Escape::None;
        string.in_path = c.is_ascii_lowercase();
        self.repaired |= string.in_path;
        self.put(if string.in_path { "\\\\" } else { "\\" });
        self.put_char(letter);
        self.queue.push(c);
        self.state = State::InString(string);
    }

    fn unicode(&mut self, c: char, digits: u8, mut string: StringState) {
        if c.is_ascii_hexdigit() {
            self.word.push(c);
            string.escape = Escape::Unicode(digits + 1);
            if digits == 3 {
                string.escape = Escape::None;
                let word = std::mem::take(&mut self.word);
                self.put("\\u");
                self.put(&word);
            }
        } else {
            self.repaired = true;
            string.escape = Escape::None;
            self.put("\\\\u");
            self.queue.push(c);
            self.requeue();
        }
        self.state = State::InString(string);
    }

    /// Ends a string; what was read behind its quote is read again.
    pub(super) fn end_string(&mut self, string: StringState, root: Option<&Value>) {
        match string.escape {
            Escape::Slash => self.put("\\\\"),
            Escape::Drive(letter) => {
                self.put("\\");
                self.put_char(letter);
            }
            Escape::Unicode(_) => {
                let word = std::mem::take(&mut self.word);
                self.put("\\\\u");
                self.put(&word);
            }
            Escape::None => {}
        }
        self.put("\"");
        self.value_ended(root);
        if string.triple {
            let quotes = self.word.len() - self.word.trim_start_matches(string.end).len();
            self.word.drain(..quotes.min(2));
        }
        self.requeue();
    }

    /// Goes on in a string behind a quote that belongs to its text.
    pub(super) fn go_on_behind_quote(&mut self, mut string: StringState) {
        self.repaired = true;
        string.has_inner = true;
        string.length = 3;
        self.put_content(string.end);
        self.state = State::InString(string);
        self.requeue();
    }

    /// True if the key behind a quote belongs to the text of a string that holds quotes already, as in JSON and
    /// code that were not escaped: it has no quotes, or stands in a brace of the text, and is none of the tool's.
    pub(super) fn is_before_inner_key(&self, string: StringState, root: Option<&Value>) -> bool {
        let Some(level) = self.levels.last().filter(|level| level.is_object && string.has_inner)
        else {
            return false;
        };
        let key = self.word.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        let is_plain = key.starts_with(char::is_alphabetic);
        let is_quoted = key.chars().next().is_some_and(|c| closer(c).is_some());
        let name = key
            .trim_start_matches(|c| closer(c).is_some())
            .split(|c: char| " \n\"'`:=".contains(c))
            .next();
        (is_plain || (is_quoted && string.open > 0))
            && slots::rules_out(root, &level.slot, name.unwrap_or_default())
    }

    pub(super) fn begin_triple(&mut self, mut string: StringState) {
        self.repaired = true;
        self.word.remove(0);
        string.triple = true;
        string.length = 3;
        self.state = State::InString(string);
        // A line break behind the opening quotes stays: Python keeps it.
        self.requeue();
    }

    /// Reads on in a string at what may be the end marker.
    pub(super) fn in_marker(&mut self, c: char, string: StringState, root: Option<&Value>) {
        self.word.push(c);
        if self.is_blank_again() {
            return;
        }
        let verdict = match self.word.strip_prefix(',') {
            Some(behind) => self.judge_comma(behind, string, root),
            None => quote::judge_marker(&self.word, &self.levels, string, &self.ends),
        };
        match verdict {
            Verdict::More => {}
            Verdict::Closing => self.end_at_marker(string, root),
            _ => {
                let first = self.word.remove(0);
                self.put_char(first);
                let open = string.open.saturating_add(opens(first));
                self.state = State::InString(StringState { length: 3, open, ..string });
                self.requeue();
            }
        }
    }

    /// Judges a comma in a string by what follows it: with the key of another property, the string's own quote
    /// is missing.
    fn judge_comma(&self, behind: &str, string: StringState, root: Option<&Value>) -> Verdict {
        let key = behind.trim_start();
        if key.is_empty() && behind.len() < LONGEST_GAP {
            return Verdict::More;
        }
        let Some(key) = key.strip_prefix('"').filter(|_| !string.has_inner && string.end == '"')
        else {
            return Verdict::Inner;
        };
        let is_in_name = |c: char| c.is_alphanumeric() || "_-$".contains(c);
        let (name, rest) = key.split_at(key.find(|c| !is_in_name(c)).unwrap_or(key.len()));
        let Some(level) = self.levels.last().filter(|level| level.is_object) else {
            return Verdict::Inner;
        };
        match rest.strip_prefix('"').map(str::trim_start) {
            None if rest.is_empty() && name.len() < LONGEST_GAP => Verdict::More,
            Some("") if rest.len() < LONGEST_GAP => Verdict::More,
            Some(rest) if rest.starts_with(':') && slots::knows(root, &level.slot, name) => {
                Verdict::Closing
            }
            _ => Verdict::Inner,
        }
    }

    /// Ends a string whose quote is missing before what is in `word`, if that is the end.
    pub(super) fn end_at_marker(&mut self, string: StringState, root: Option<&Value>) {
        let marker = self.word.trim_start_matches(['}', ']', ' ', '\n', ',']);
        if !self.word.starts_with(',') && self.ends.length_of_end(marker).is_none() {
            let word = std::mem::take(&mut self.word);
            self.put(&word);
            self.state = State::InString(string);
            return;
        }
        self.repaired = true;
        self.end_string(string, root);
    }
}
