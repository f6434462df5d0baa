//! What stands before a call, and between two: white space, bullets, fences, tags around calls.

use super::super::cursor::{Cursor, Miss};
use super::super::names;
use super::Parser;
use super::bullet;
use super::tag::{self, Begin};

/// Longest language name after a fence's backticks.
const LONGEST_LANGUAGE: usize = 16;
/// Words that join two calls.
const JOINTS: [&str; 14] = [
    "and", "then", "also", "plus", "und", "dann", "et", "puis", "y", "luego", "和", "然后", "以及",
    "と",
];

/// What leads to a call.
pub struct Lead {
    /// The tag.
    pub begin: Begin,
    /// Whether a fence or code span begins right before it.
    pub in_fence: bool,
    /// Where its tag begins.
    pub at: usize,
    /// The arguments' beginning, if it is what ends the tag.
    pub rest: String,
    /// Whether it is escaped for HTML.
    pub is_escaped: bool,
}

impl Parser {
    /// The beginning of a result's tag.
    pub(super) fn result(&self) -> String {
        format!("<result-{}", self.nonce)
    }

    /// Reads what leads to a call in a text: white space, a bullet, the beginning of a fence, a tag that
    /// models put around calls; and the begin tag, up to its end.
    pub(super) fn lead(&self, text: &str) -> Result<Lead, Miss> {
        if self.context.is_in_fence() && !text.starts_with(['<', '&']) {
            return Err(Miss::Never);
        }
        let mut cursor = Cursor::new(text);
        let mut at_line_start = self.context.is_at_line_start();
        let mut in_fence = false;
        loop {
            let blanks = cursor.rest.len() - cursor.rest.trim_start().len();
            at_line_start |= cursor.rest[..blanks].contains('\n');
            cursor.blanks();
            let c = cursor.rest.chars().next().ok_or(Miss::More)?;
            if matches!(c, '`' | '~') {
                fence(&mut cursor)?;
                (in_fence, at_line_start) = (true, true);
            } else if (tag::opens(c) || c == '&') && tag::may_begin(cursor.rest, &self.nonce) {
                let Err(miss) = tag::wrapper(&mut cursor) else { continue };
                return match self.tag(&mut cursor, text.len(), in_fence) {
                    Err(Miss::Never) => Err(miss),
                    lead => lead,
                };
            } else if at_line_start && bullet::may_begin(cursor.rest) {
                bullet::skip(&mut cursor)?;
                at_line_start = false;
            } else {
                return Err(Miss::Never);
            }
        }
    }

    /// Reads the begin tag at the cursor in a text of this length, unless its name is one that stands for any.
    fn tag(&self, cursor: &mut Cursor<'_>, length: usize, in_fence: bool) -> Result<Lead, Miss> {
        let at = length - cursor.rest.len();
        let is_escaped = cursor.rest.starts_with('&');
        let begin = tag::begin(cursor, &self.nonce)?;
        let is_name = |name: &String| {
            names::find(&self.tools, name).is_some() || names::unknown(name).is_some()
        };
        if !begin.name.as_ref().is_none_or(is_name) {
            return Err(Miss::Never);
        }
        Ok(Lead { begin, in_fence, at, rest: cursor.rest.to_owned(), is_escaped })
    }

    /// Reads what may stand between two calls, and the begin tag of the second.
    pub(super) fn between(&self, text: &str) -> Result<Lead, Miss> {
        let mut cursor = Cursor::new(text);
        loop {
            cursor.blanks();
            let c = cursor.rest.chars().next().ok_or(Miss::More)?;
            match c {
                _ if tag::opens(c) || c == '&' => {
                    let mut at = cursor;
                    match self.tag(&mut at, text.len(), false) {
                        Ok(lead) => return Ok(lead),
                        Err(Miss::More) => return Err(Miss::More),
                        Err(Miss::Never) if self.result().starts_with(cursor.rest) => {
                            let is_whole = self.result().len() == cursor.rest.len();
                            return Err(if is_whole { Miss::Never } else { Miss::More });
                        }
                        Err(Miss::Never) => tag::stray(&mut cursor, &self.nonce)?,
                    }
                }
                '`' | '~' => fence(&mut cursor)?,
                _ if c.is_alphanumeric() => {
                    let mut at = cursor;
                    match bullet::counter(&mut at) {
                        Ok(()) => cursor = at,
                        Err(Miss::More) => return Err(Miss::More),
                        Err(Miss::Never) => joint(&mut cursor)?,
                    }
                }
                // Punctuation says nothing.
                _ => cursor.rest = &cursor.rest[c.len_utf8()..],
            }
        }
    }
}

/// Skips a word that joins two calls.
fn joint(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    let end = cursor.rest.find(|c: char| !c.is_alphanumeric());
    let word = &cursor.rest[..end.unwrap_or(cursor.rest.len())];
    match end {
        Some(end) if JOINTS.contains(&word) => cursor.rest = &cursor.rest[end..],
        None if JOINTS.iter().any(|joint| joint.starts_with(word)) => return Err(Miss::More),
        _ => return Err(Miss::Never),
    }
    Ok(())
}

/// Skips the backticks or tildes of a fence with its language, or of a code span.
fn fence(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    let c = cursor.rest.chars().next().ok_or(Miss::More)?;
    let behind = cursor.rest.trim_start_matches(c);
    let length = cursor.rest.len() - behind.len();
    if behind.is_empty() {
        return Err(Miss::More);
    }
    cursor.rest = behind;
    if length < 3 {
        return if c == '`' { Ok(()) } else { Err(Miss::Never) };
    }
    let is_language = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let language = behind.find(|c| !is_language(c));
    match language {
        None if behind.len() <= LONGEST_LANGUAGE => Err(Miss::More),
        Some(length) if length <= LONGEST_LANGUAGE => {
            cursor.rest = &behind[length..];
            Ok(())
        }
        _ => Err(Miss::Never),
    }
}
