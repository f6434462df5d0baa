//! Text before calls: what can lead to none passes at once, the rest is held back until it is decided.

use super::super::Piece;
use super::super::cursor::Miss;
use super::context::Standing;
use super::lead::Lead;
use super::{Parser, Pending, bullet, put_text, tag};

/// Most bytes of text that are held back while they may begin a call. Of longer white space before
/// a call, the beginning is shown.
pub(super) const MOST_HELD_BACK: usize = 300;
/// The same once the nonce has been seen: a tag may hold arguments.
const LONGEST_TAG: usize = 4_000;

impl Parser {
    /// Shows white space, or the bracket of a tag, that is held back, if it leads to no call with `rest` behind it;
    /// false if something is still held back.
    pub(super) fn passes_held_back(&mut self, rest: &str, out: &mut String) -> bool {
        if self.held_back.is_empty() {
            return true;
        }
        let leads_nowhere = match self.held_back.trim_start() {
            "" => {
                !rest.starts_with(char::is_whitespace) && !self.leads(rest, self.is_at_line_start())
            }
            "<" => {
                let begin: String = "<".chars().chain(rest.chars().take(2)).collect();
                !tag::may_begin(&begin, &self.nonce)
            }
            _ => false,
        };
        if leads_nowhere {
            let held_back = std::mem::take(&mut self.held_back);
            self.show(&held_back, out);
        }
        leads_nowhere
    }

    /// Holds back the white space that a text begins with, and returns its length: 0 if it has to be looked at.
    pub(super) fn hold_blanks(&mut self, text: &str) -> usize {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace();
        let length = text.bytes().take_while(is_blank).count();
        let is_short = self.held_back.len() + length <= MOST_HELD_BACK;
        if length == 0 || !is_short || self.context.is_in_fence() {
            return 0;
        }
        self.held_back.push_str(&text[..length]);
        length
    }

    fn is_at_line_start(&self) -> bool {
        self.held_back.contains('\n') || self.context.is_at_line_start()
    }

    /// True if the beginning of a text may lead to a call.
    fn leads(&self, text: &str, at_line_start: bool) -> bool {
        match text.as_bytes().first() {
            Some(b'`' | b'~') => true,
            Some(b'<' | b'&') => tag::may_begin(text, &self.nonce),
            _ if at_line_start && bullet::may_begin(text) => true,
            _ => text.starts_with(tag::opens) && tag::may_begin(text, &self.nonce),
        }
    }

    /// The length of the text that can lead to no call, and is passed on at once.
    pub(super) fn plain(&self, text: &str) -> usize {
        let in_fence = self.context.is_in_fence();
        let end = self.end_of_plain(text, in_fence);
        if in_fence { end } else { text[..end].trim_end().len() }
    }

    fn end_of_plain(&self, text: &str, in_fence: bool) -> usize {
        let bytes = text.as_bytes();
        let mut at_line_start = !in_fence && self.context.is_at_line_start();
        let mut at = 0;
        loop {
            if at_line_start {
                at += bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                if at < bytes.len() && bullet::may_begin(&text[at..]) {
                    return at;
                }
            }
            let Some(next) = bytes[at..].iter().position(|byte| may_lead(*byte)) else {
                return bytes.len();
            };
            at += next;
            at_line_start = bytes[at] == b'\n' && !in_fence;
            if bytes[at] != b'\n' && self.leads(&text[at..], false) {
                return at;
            }
            at += 1;
        }
    }

    pub(super) fn take_text(&mut self, c: char, out: &mut String, pieces: &mut Vec<Piece>) {
        self.held_back.push(c);
        if self.held_back == "<" {
            return;
        }
        while !self.held_back.is_empty() {
            match self.lead(&self.held_back) {
                Ok(lead) => return self.meet(lead, out, pieces),
                Err(Miss::More) if self.may_hold() => return,
                // No call begins at the first character, but one may begin after it.
                Err(_) => {
                    let first = self.held_back.remove(0);
                    self.show(first.encode_utf8(&mut [0; 4]), out);
                }
            }
        }
    }

    pub(super) fn may_hold(&self) -> bool {
        let length = self.held_back.len();
        let is_in_tag = || {
            let tag = self.held_back.find(&self.nonce).map_or("", |at| &self.held_back[at..]);
            !tag.is_empty() && !tag.contains('>')
        };
        length <= MOST_HELD_BACK || (length <= LONGEST_TAG && is_in_tag())
    }

    /// Decides on a call in the text.
    pub(super) fn meet(&mut self, lead: Lead, out: &mut String, pieces: &mut Vec<Piece>) {
        let held_back = std::mem::take(&mut self.held_back);
        let standing = self.context.standing(&held_back[..lead.at], lead.in_fence);
        match standing {
            Standing::Shown => {
                self.show(&held_back[..held_back.len() - lead.rest.len()], out);
                return lead.rest.chars().for_each(|c| self.take(c, out, pieces));
            }
            Standing::Meant => put_text(out, pieces),
            _ => self.pending = Some(Pending { standing, pieces: Vec::new() }),
        }
        self.raw = held_back;
        self.enter(lead, out, pieces);
    }
}

/// False for bytes with which nothing begins that leads to a call, but for bullets.
fn may_lead(byte: u8) -> bool {
    // The last three are the first bytes of other brackets.
    matches!(byte, b'\n' | b'<' | b'&' | b'`' | b'~' | b'[' | 0xe2 | 0xe3 | 0xef)
}
