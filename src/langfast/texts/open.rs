//! The first texts of a run, as long as it is not decided whether they are whole or pieces.
//!
//! Enters: one text after the other, as JSON string content. Leaves: what speaks for either reading: how
//! many texts in a row extended the one before, and how many had nothing to do with it. It may not
//! decide, nor know what was expected or shown.

use std::ops::Range;

use super::{SAME_BEGINNING, SURE};
use crate::langfast::transcript::{common_prefix, unescape, without_cut_character};

/// The texts so far, and what speaks for either reading of them.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// All texts joined, as if they were pieces; JSON string content.
    pub(super) joined: Vec<u8>,
    /// The position of the last text in it of which there is more than half a character.
    pub(super) last: Range<usize>,
    /// Number of texts.
    pub(super) count: u32,
    /// Texts in a row that each extended the one before.
    pub(super) grown: u32,
    /// Texts in a row that had nothing to do with the one before.
    pub(super) apart: u32,
    /// Whether some text can only be whole, and whether any had nothing to do with the one before it.
    pub(super) is_surely_whole: bool,
    pub(super) was_apart: bool,
}

impl Open {
    /// Whether each text extended the one before.
    pub(super) fn all_grew(&self) -> bool {
        self.grown + 1 == self.count
    }

    /// The last text.
    pub(super) fn last_text(&self) -> String {
        unescape(without_cut_character(&self.joined[self.last.clone()]))
    }

    /// Adds a text; returns the one before it and itself, if there is anything to compare.
    pub(super) fn add(&mut self, raw: &[u8]) -> Option<(String, String)> {
        let at = self.joined.len();
        self.joined.extend_from_slice(raw);
        self.count += 1;
        if without_cut_character(raw).is_empty() {
            return None;
        }
        let before = self.last_text();
        self.last = at..self.joined.len();
        (!before.is_empty()).then(|| (before, self.last_text()))
    }

    /// Compares a text with the one before; it may also go back to what was shown, and on from there.
    pub(super) fn compare(&mut self, before: &str, now: &str, returns: bool) {
        if before.starts_with(now) {
            self.is_surely_whole |= now.len() >= SURE;
        } else if now.starts_with(before) || returns {
            (self.grown, self.apart) = (self.grown + 1, 0);
            self.is_surely_whole |= before.len() >= SURE;
        } else if is_same(before, now) {
            self.is_surely_whole = true;
        } else {
            (self.grown, self.apart, self.was_apart) = (0, self.apart + 1, true);
        }
    }
}

/// Whether two texts are the same one, which was trimmed or revised: they have a long beginning in
/// common.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    let common = common_prefix(a, b);
    common >= SAME_BEGINNING && common >= a.len().min(b.len()) / 2 || is_same_but_for_space(a, b)
}

pub(super) fn is_same_but_for_space(a: &str, b: &str) -> bool {
    !a.trim().is_empty() && a.trim() == b.trim()
}
