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
    /// Shows white space that is held back, if `rest` behind it leads to no call; false if something is still
    /// held back.
    pub(super) fn passes_blanks(&mut self, rest: &str, out: &mut String) -> bool {
        if self.held_back.is_empty() {
            return true;
        }
        let is_word = rest.starts_with(char::is_alphabetic)
            && self.held_back.bytes().all(|byte| byte.is_ascii_whitespace())
            && !(bullet::may_begin(rest) && self.is_at_line_start());
        if is_word {
            let blanks = std::mem::take(&mut self.held_back);
            self.show(&blanks, out);
        }
        is_word
    }

    fn is_at_line_start(&self) -> bool {
        self.held_back.contains('\n') || self.context.is_at_line_start()
    }

    /// The length of the text that can lead to no call, and is passed on at once.
    pub(super) fn plain(&self, text: &str) -> usize {
        let in_fence = self.context.is_in_fence();
        let mut at_line_start = !in_fence && self.context.is_at_line_start();
        let mut leads = |(at, byte): (usize, u8)| match byte {
            b'<' | b'&' => tag::may_begin(&text[at..], &self.nonce),
            b'`' | b'~' => true,
            b'\n' => {
                at_line_start = !in_fence;
                false
            }
            _ if byte.is_ascii_whitespace() => false,
            _ if std::mem::take(&mut at_line_start) && bullet::may_begin(&text[at..]) => true,
            // The first bytes of other brackets.
            b'[' | 0xe2 | 0xe3 | 0xef if !in_fence => {
                let rest = &text[at..];
                rest.starts_with(tag::opens) && tag::may_begin(rest, &self.nonce)
            }
            _ => false,
        };
        let end = text.bytes().enumerate().find_map(|byte| leads(byte).then_some(byte.0));
        let end = end.unwrap_or(text.len());
        if in_fence { end } else { text[..end].trim_end().len() }
    }

    pub(super) fn take_text(&mut self, c: char, out: &mut String, pieces: &mut Vec<Piece>) {
        self.held_back.push(c);
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
