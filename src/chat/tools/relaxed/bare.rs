//! Words without quotes: numbers, literals, and texts whose quotes were left out.

use serde_json::Value;

use super::string_state::closer;
use super::{Relaxed, fit, string};

impl Relaxed {
    /// Reads on in a word without quotes. A text goes on over blanks, a number or literal does not.
    pub(super) fn bare(&mut self, c: char, root: Option<&Value>) {
        if let (Some(end), "r" | "b" | "f" | "u") = (closer(c), self.word.as_str()) {
            // A string of Python; in a raw one backslashes are text.
            let is_raw = std::mem::take(&mut self.word) == "r";
            return self.begin_string(if is_raw { 'r' } else { c }, end, root);
        }
        let ends = match c {
            ',' | '}' | ']' | '\n' | '<' | '\r' => true,
            _ if c.is_whitespace() || c == '，' => literal(self.word.trim()).is_some(),
            _ => false,
        };
        if !ends {
            return self.word.push(c);
        }
        self.end_bare(root);
        self.queue.push(c);
    }

    pub(super) fn end_bare(&mut self, root: Option<&Value>) {
        let written = std::mem::take(&mut self.word);
        let word = written.trim_end();
        // The quote before it is missing.
        let word = word.strip_suffix('"').filter(|word| !word.contains('"')).unwrap_or(word);
        let strict = literal(word).unwrap_or_else(|| string::quoted(word));
        let fitting = match &self.capture {
            Some(_) => None,
            None => fit::fitting(root, &self.slot, &strict, self.depth),
        };
        let strict = fitting.unwrap_or(strict);
        if strict == "null" && self.may_lack && !self.member.is_empty() {
            return self.leave_out(root);
        }
        self.separate();
        self.repaired |= strict != word;
        self.put(&strict);
        self.put(&written[written.trim_end().len()..]);
        self.value_ended(root);
    }

    /// Leaves out a null that stands for what is not given, and its key.
    fn leave_out(&mut self, root: Option<&Value>) {
        self.null_left_out = true;
        self.member.clear();
        self.gap.clear();
        self.is_first = !std::mem::take(&mut self.comma);
        self.value_ended(root);
    }
}

/// The strict form of a number or a literal, as JSON, JavaScript and Python write them; `None` for any other
/// word.
fn literal(word: &str) -> Option<String> {
    let strict = match word {
        "true" | "True" | "TRUE" => "true",
        "false" | "False" | "FALSE" => "false",
        "null" | "None" | "NULL" | "nil" | "undefined" => "null",
        _ => return number(word),
    };
    Some(strict.to_owned())
}

fn number(word: &str) -> Option<String> {
    if !word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return None;
    }
    if serde_json::from_str::<serde_json::Number>(word).is_ok() {
        return Some(word.to_owned());
    }
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", word.strip_prefix('+').unwrap_or(word)),
    };
    if let Some(hexadecimal) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return u64::from_str_radix(hexadecimal, 16).ok().map(|number| format!("{sign}{number}"));
    }
    let plain = digits.replace('_', "");
    let plain = match plain.split_once('.') {
        Some(("", fraction)) => format!("0.{fraction}"),
        Some((whole, "")) => format!("{whole}.0"),
        _ => plain.trim_start_matches('0').to_owned(),
    };
    let plain = if plain.is_empty() { "0" } else { &plain };
    let number = format!("{sign}{plain}");
    serde_json::from_str::<serde_json::Number>(&number).is_ok().then_some(number)
}
