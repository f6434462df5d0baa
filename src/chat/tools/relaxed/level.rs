//! Objects and lists: what opens and closes them, what stands behind their values, and values that are held
//! back for their type.

use serde_json::Value;

use super::super::slots::{self, Kinds, Slot};
use super::string_state::closer;
use super::{Capture, Level, Relaxed, State, Where, fit};

/// Most levels that are open at once: each takes memory, and nobody reads JSON that is nested so deep.
pub(super) const MOST_LEVELS: usize = 10_000;

impl Relaxed {
    pub(super) fn value(&mut self, c: char, root: Option<&Value>) {
        if self.between(c, Where::Value) {
            return;
        }
        let in_list = self.levels.last().is_some_and(|level| !level.is_object);
        match c {
            '{' | '[' => self.begin_level(c, root),
            ']' | '}' if in_list => self.end_level(c == '}', root),
            ',' | ';' if in_list => self.repaired = true,
            // The second half of `=>`.
            '>' | '=' if !in_list => self.repaired = true,
            '}' | ']' | ',' | ':' => self.give_up(c),
            _ => match closer(c) {
                Some(end) => self.begin_string(c, end, root),
                None => {
                    self.word = c.to_string();
                    self.state = State::Bare;
                }
            },
        }
    }

    /// Begins to hold back a value that has another type than its schema asks for.
    pub(super) fn capture_unless(&mut self, kind: Kinds, root: Option<&Value>) {
        let slot = &self.slot;
        if self.capture.is_some() || slots::kinds(root, slot).contains(kind) {
            return;
        }
        let (depth, slot) = (self.levels.len(), std::mem::replace(&mut self.slot, Slot::none()));
        self.capture = Some(Capture { depth, slot, text: String::new() });
    }

    pub(super) fn begin_level(&mut self, c: char, root: Option<&Value>) {
        if self.levels.len() == MOST_LEVELS {
            return self.give_up(c);
        }
        let is_object = c == '{';
        self.separate();
        self.capture_unless(if is_object { Kinds::OBJECT } else { Kinds::ARRAY }, root);
        self.put_char(c);
        let slot = std::mem::replace(&mut self.slot, Slot::none());
        let slot = slots::of_kind(root, slot, if is_object { "object" } else { "array" });
        if !is_object {
            self.slot = slots::items(root, &slot);
        }
        self.levels.push(Level { is_object, slot });
        self.state = if is_object { State::Key } else { State::Value };
    }

    /// Closes the innermost level of the kind that the closer names, and what is open within it.
    pub(super) fn end_level(&mut self, object: bool, root: Option<&Value>) {
        self.repaired |= std::mem::take(&mut self.comma);
        self.is_first = false;
        let gap = std::mem::take(&mut self.gap);
        self.put(&gap);
        let Some(at) = self.levels.iter().rposition(|level| level.is_object == object) else {
            return self.give_up(if object { '}' } else { ']' });
        };
        self.repaired |= at + 1 < self.levels.len();
        while self.levels.len() > at {
            let level = self.levels.pop().expect("it is longer");
            self.put(if level.is_object { "}" } else { "]" });
            self.value_ended(root);
        }
    }

    pub(super) fn value_ended(&mut self, root: Option<&Value>) {
        self.release(root);
        self.state = if self.levels.is_empty() { State::Done } else { State::Behind };
    }

    /// Passes on a value that was held back, as the type that its schema asks for if it can be that.
    pub(super) fn release(&mut self, root: Option<&Value>) {
        let Some(capture) = self.capture.take_if(|held| held.depth == self.levels.len()) else {
            return;
        };
        let fitting = fit::fitting(root, &capture.slot, &capture.text, self.depth);
        self.repaired |= fitting.is_some();
        self.put(fitting.as_ref().unwrap_or(&capture.text));
    }

    pub(super) fn behind(&mut self, c: char, root: Option<&Value>) {
        if self.between(c, Where::Behind) {
            return;
        }
        match c {
            '}' | ']' => self.end_level(c == '}', root),
            ',' | ';' => {
                self.repaired |= c == ';';
                self.expect_next(root);
            }
            '`' => self.repaired = true,
            // A comma is missing.
            _ => {
                self.repaired = true;
                self.expect_next(root);
                self.queue.push(c);
            }
        }
    }

    /// Awaits what follows a comma.
    pub(super) fn expect_next(&mut self, root: Option<&Value>) {
        self.comma = !std::mem::take(&mut self.is_first);
        let Some(level) = self.levels.last() else { return };
        self.state = if level.is_object { State::Key } else { State::Value };
        if !level.is_object {
            self.slot = slots::items(root, &level.slot);
        }
    }
}
