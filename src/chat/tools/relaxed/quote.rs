//! Whether a quote ends its string or belongs to its text: judged by what follows it.

use super::super::cursor::Miss;
use super::super::marked::tag;
use super::Level;
use super::string_state::{StringState, closer};

/// Longest text behind a quote, in bytes, that is waited for; white space may be longer.
pub const FARTHEST: usize = 400;
/// Longest key, in bytes, that is waited for.
const LONGEST_KEY: usize = 120;

/// The nonce of the markers that end an object; empty if there are none.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    nonce: String,
}

impl Ends {
    /// Creates the ends with this nonce.
    pub fn new(nonce: &str) -> Ends {
        Ends { nonce: nonce.to_owned() }
    }

    /// True if there are markers.
    pub fn is_marked(&self) -> bool {
        !self.nonce.is_empty()
    }

    /// The length of the end marker at the beginning of `text`; `None` if none is there.
    pub fn length_of_end(&self, text: &str) -> Option<usize> {
        self.end(text).ok().map(|rest| text.len() - rest.len())
    }

    fn end<'a>(&self, text: &'a str) -> Result<&'a str, Miss> {
        if self.is_marked() { tag::own_end(text, &self.nonce) } else { Err(Miss::Never) }
    }
}

/// The judgement on a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More text is needed.
    More,
    /// It ends the string.
    Closing,
    /// It belongs to the text.
    Inner,
    /// It is the second of three that begin a text over several lines.
    Triple,
    /// The string goes on in another one, behind this many bytes.
    Joined(usize),
}

/// Judges a quote by what follows it, within these open levels.
pub fn judge(ahead: &str, levels: &[Level], string: StringState, ends: &Ends) -> Verdict {
    if string.triple {
        return judge_triple(ahead, string.end);
    }
    if string.length == 0 && "\"'".contains(string.end) && ahead.starts_with(string.end) {
        return Verdict::Triple;
    }
    let rest = ahead.trim_start();
    if let (Some(behind), false) = (rest.strip_prefix('+'), string.has_inner) {
        return match behind.trim_start().chars().next() {
            None => Verdict::More,
            Some(c) if c == string.end => {
                Verdict::Joined(ahead.len() - behind.trim_start().len() + c.len_utf8())
            }
            Some(_) => Verdict::Inner,
        };
    }
    let gap = &ahead[..ahead.len() - rest.len()];
    if gap.contains('\n') && rest.starts_with('`') {
        // A fence around the object ends before the object is closed.
        return match "```".starts_with(rest) {
            true if rest.len() < 3 => Verdict::More,
            false if !rest.starts_with("```") => Verdict::Inner,
            _ => Verdict::Closing,
        };
    }
    let may_be_key = gap.contains('\n') || (!gap.is_empty() && !string.has_inner);
    Judge { ends, has_inner: string.has_inner }.behind_value(rest, levels, may_be_key)
}

fn judge_triple(ahead: &str, end: char) -> Verdict {
    let mut chars = ahead.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some(first), _, _) if first != end => Verdict::Inner,
        (Some(_), Some(second), _) if second != end => Verdict::Inner,
        (Some(_), Some(_), _) => Verdict::Closing,
        _ => Verdict::More,
    }
}

struct Judge<'a> {
    ends: &'a Ends,
    has_inner: bool,
}

impl Judge<'_> {
    /// Judges by the text behind a value, which begins with no blank. A key without quotes may follow if
    /// `may_be_key`.
    fn behind_value(&self, rest: &str, levels: &[Level], may_be_key: bool) -> Verdict {
        let Some(Level { is_object, .. }) = levels.last() else { return self.behind_all(rest) };
        let Some(c) = rest.chars().next() else { return Verdict::More };
        match c {
            ',' | '，' if *is_object => self.behind_comma(rest[c.len_utf8()..].trim_start()),
            ',' | '，' => self.item(rest[c.len_utf8()..].trim_start()),
            '}' | ']' => match levels.iter().rposition(|level| level.is_object == (c == '}')) {
                // A list may lack its bracket before a brace, but no brace is missing before a bracket.
                Some(at) if c == '}' || at + 1 == levels.len() => {
                    self.behind_value(rest[1..].trim_start(), &levels[..at], false)
                }
                Some(_) => self.behind_all_closers(rest),
                None => Verdict::Inner,
            },
            _ if tag::opens(c) => self.marker(rest),
            '"' if *is_object => key(rest, true),
            _ if may_be_key && *is_object && c.is_alphabetic() => key(rest, true),
            '/' if self.has_inner => Verdict::Inner,
            '/' => match rest.as_bytes().get(1) {
                None => Verdict::More,
                Some(b'/' | b'*') => Verdict::Closing,
                Some(_) => Verdict::Inner,
            },
            '#' | ';' if !self.has_inner => Verdict::Closing,
            _ => Verdict::Inner,
        }
    }

    /// Judges by closers in a wrong order, which count if the marker is right behind them.
    fn behind_all_closers(&self, rest: &str) -> Verdict {
        match rest.trim_start_matches(['}', ']', ' ', '\n']) {
            "" if rest.len() < LONGEST_KEY => Verdict::More,
            behind if behind.starts_with('<') => self.marker(behind),
            _ => Verdict::Inner,
        }
    }

    fn marker(&self, rest: &str) -> Verdict {
        match self.ends.end(rest) {
            Ok(_) => Verdict::Closing,
            Err(Miss::More) => Verdict::More,
            Err(Miss::Never) => Verdict::Inner,
        }
    }

    fn behind_comma(&self, rest: &str) -> Verdict {
        match rest.chars().next() {
            None => Verdict::More,
            Some('}' | ']' | ',') => Verdict::Closing,
            Some('<') => self.marker(rest),
            Some('/' | '#') if !self.has_inner => Verdict::Closing,
            Some('.' | '…') if rest.len() <= FARTHEST => {
                match rest.trim_start_matches(['.', '…']).trim_start().chars().next() {
                    None => Verdict::More,
                    Some('}' | ',') => Verdict::Closing,
                    Some(_) => Verdict::Inner,
                }
            }
            Some(_) => key(rest, false),
        }
    }

    fn item(&self, rest: &str) -> Verdict {
        match rest.chars().next() {
            None => Verdict::More,
            Some('<') => self.marker(rest),
            Some('}' | ']' | ',' | '{' | '[' | '-' | '0'..='9') => Verdict::Closing,
            Some('/' | '#') if !self.has_inner => Verdict::Closing,
            Some(c) if closer(c).is_some() => Verdict::Closing,
            Some(_) => literal(rest),
        }
    }

    /// Judges by the text behind the whole object. Only where what stands before the end marker looks like
    /// the end of a string and an object, this was not it.
    fn behind_all(&self, rest: &str) -> Verdict {
        match rest.chars().next() {
            None => return Verdict::More,
            Some('<' | '`' | '~') => return Verdict::Closing,
            // Another object follows.
            Some('{') => return key(rest[1..].trim_start(), true),
            Some(c) if tag::opens(c) && self.ends.end(rest) != Err(Miss::Never) => {
                return self.marker(rest);
            }
            Some(_) => {}
        }
        if !self.ends.is_marked() || rest.len() > FARTHEST {
            return Verdict::Closing;
        }
        for (at, _) in rest.match_indices('<') {
            match self.ends.end(&rest[at..]) {
                Ok(_) => {
                    let before = rest[..at].trim_end();
                    let open = before.trim_end_matches(['}', ']', ' ', '\n']);
                    let is_inner = open.len() < before.len() && open.ends_with('"');
                    return if is_inner { Verdict::Inner } else { Verdict::Closing };
                }
                Err(Miss::More) => return Verdict::More,
                Err(Miss::Never) => {}
            }
        }
        Verdict::More
    }
}

/// Judges by a key, which a colon has to follow. Where a comma is missing before it, it has to be a plain
/// name.
fn key(rest: &str, is_plain: bool) -> Verdict {
    let Some(first) = rest.chars().next() else { return Verdict::More };
    let is_name = |c: char| c.is_alphanumeric() || "_-$.".contains(c);
    let (name, behind) = match closer(first) {
        Some(end) => {
            let inside = &rest[first.len_utf8()..];
            match end_of(inside, end) {
                Some(at) => (&inside[..at], &inside[at + end.len_utf8()..]),
                None if is_plain && !inside.chars().all(is_name) => return Verdict::Inner,
                None if inside.contains('\n') => return Verdict::Inner,
                None if inside.len() > LONGEST_KEY => return Verdict::Closing,
                None => return Verdict::More,
            }
        }
        None => match rest.find(|c| !is_name(c)) {
            Some(0) => return Verdict::Inner,
            Some(at) => rest.split_at(at),
            None if rest.len() > LONGEST_KEY => return Verdict::Inner,
            None => return Verdict::More,
        },
    };
    if is_plain && (name.is_empty() || !name.chars().all(is_name)) {
        return Verdict::Inner;
    }
    match behind.trim_start().chars().next() {
        None => Verdict::More,
        Some(':' | '=' | '：') => Verdict::Closing,
        Some(_) => Verdict::Inner,
    }
}

/// The place of the first `end` that is not escaped.
fn end_of(text: &str, end: char) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let found = c == end && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        found.then_some(at)
    })
}

fn literal(rest: &str) -> Verdict {
    const WORDS: [&str; 6] = ["true", "false", "null", "True", "False", "None"];
    let end = rest.find(|c: char| !c.is_ascii_alphabetic());
    let word = &rest[..end.unwrap_or(rest.len())];
    match end {
        Some(_) if WORDS.contains(&word) => Verdict::Closing,
        None if WORDS.iter().any(|known| known.starts_with(word)) => Verdict::More,
        _ => Verdict::Inner,
    }
}

/// Judges a `<` within a string: `Closing` if it begins the end marker and the string's own quote is
/// missing, `Inner` if it belongs to the text.
pub fn judge_marker(ahead: &str, levels: &[Level], string: StringState, ends: &Ends) -> Verdict {
    // Without its quote, only closers of what is open stand before the marker.
    let marker = ahead.trim_start_matches(['}', ']', ' ', '\n']);
    let closers = ahead[..ahead.len() - marker.len()].matches(['}', ']']).count();
    if closers > levels.len() || ahead.len() - marker.len() > LONGEST_KEY {
        return Verdict::Inner;
    }
    if marker.is_empty() {
        return Verdict::More;
    }
    let behind = match ends.end(marker) {
        Ok(behind) => behind,
        Err(Miss::More) => return Verdict::More,
        Err(Miss::Never) => return Verdict::Inner,
    };
    // Another call follows.
    match tag::own_begin(behind.trim_start(), &ends.nonce) {
        Ok(()) => return Verdict::Closing,
        Err(Miss::More) if !behind.trim_start().is_empty() => return Verdict::More,
        Err(_) => {}
    }
    let mut from = 0;
    while let Some(at) = end_of(&behind[from..], string.end) {
        let after = from + at + string.end.len_utf8();
        match judge(&behind[after..], levels, StringState { length: 3, ..string }, ends) {
            Verdict::Closing => return Verdict::Inner,
            Verdict::More => return Verdict::More,
            _ => from = after,
        }
    }
    if behind.len() > FARTHEST { Verdict::Closing } else { Verdict::More }
}
