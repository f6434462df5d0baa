//! What stands before a call, and between two: white space, bullets, fences, tags around calls, labels.

use super::super::cursor::{Cursor, Miss};
use super::super::names;
use super::Parser;
use super::bullet;
use super::label::Label;
use super::tag::{self, Begin};

/// Longest language name after a fence's backticks.
const LONGEST_LANGUAGE: usize = 16;

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

/// How far the text behind a call has been read.
#[derive(Debug, Default)]
pub struct Reached {
    at: usize,
    label: Label,
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
        // Of a run of backticks that leads to no call the end does not, either.
        if text.starts_with('`') && self.context.ends_with_backtick() {
            return Err(Miss::Never);
        }
        let mut cursor = Cursor::new(text);
        let mut at_line_start = self.context.is_at_line_start();
        let mut in_fence = false;
        let mut open: Option<&str> = None;
        loop {
            let blanks = cursor.rest.len() - cursor.rest.trim_start().len();
            at_line_start |= cursor.rest[..blanks].contains('\n');
            cursor.blanks();
            let c = cursor.rest.chars().next().ok_or(Miss::More)?;
            if matches!(c, '`' | '~') {
                let before = cursor.rest;
                fence(&mut cursor)?;
                let line = &before[..before.len() - cursor.rest.len()];
                if open.is_some_and(|open| is_within(line, open)) {
                    // A fence in a fence is shown, with all that is in it.
                    return Err(Miss::Never);
                }
                open =
                    if open.is_some() { None } else { Some(line).filter(|line| line.len() >= 3) };
                (in_fence, at_line_start) = (true, true);
            } else if (tag::opens(c) || c == '&') && tag::may_begin(cursor.rest, &self.nonce) {
                let Err(miss) = tag::wrapper(&mut cursor) else { continue };
                return match self.tag(&mut cursor, text.len(), in_fence) {
                    Err(Miss::Never) => Err(miss),
                    // The line break that a fence's line ends with is part of it.
                    Ok(_) if begins_with_break(text) && self.context.is_on_fence() => {
                        Err(Miss::Never)
                    }
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

    /// Reads what may stand between two calls, and the begin tag of the second, from where it has come to with less
    /// of the text.
    pub(super) fn between(&self, text: &str, reached: &mut Reached) -> Result<Lead, Miss> {
        let mut cursor = Cursor::new(&text[reached.at..]);
        loop {
            reached.label.blanks(&mut cursor);
            reached.at = text.len() - cursor.rest.len();
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
                    // If more is needed, the word is read anew.
                    let mut label = reached.label;
                    label.skip(&mut cursor, &self.tools)?;
                    reached.label = label;
                }
                // Punctuation says nothing.
                _ => reached.label.sign(&mut cursor, c),
            }
        }
    }
}

fn begins_with_break(text: &str) -> bool {
    text[..text.len() - text.trim_start().len()].contains('\n')
}

/// True if a fence's line opens another within the one that `open` has opened, rather than closing it.
fn is_within(line: &str, open: &str) -> bool {
    let signs = |line: &str| line.len() - line.trim_start_matches(['`', '~']).len();
    let closes = line.as_bytes()[0] == open.as_bytes()[0] && signs(line) >= signs(open);
    signs(line) >= 3 && (!closes || signs(line) < line.len())
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
