//! What may stand between any two parts: white space and comments.

use super::super::marked::tag;
use super::{Relaxed, State, Where};

impl Relaxed {
    /// Passes on white space, behind a comma that is held with it.
    pub(super) fn blank(&mut self, c: char) {
        let c = if c.is_ascii_whitespace() && c != '\u{c}' { c } else { ' ' };
        match (self.member.is_empty(), self.comma) {
            (false, _) => self.member.push(c),
            (true, true) => self.gap.push(c),
            (true, false) => self.put_char(c),
        }
    }

    /// Handles what may stand between any two parts; false if `c` is no such thing.
    pub(super) fn between(&mut self, c: char, at: Where) -> bool {
        match c {
            _ if c.is_whitespace() => self.blank(c),
            '/' => self.state = State::Slash(at),
            '#' => {
                self.repaired = true;
                self.state = State::LineComment(at);
            }
            // The list of a value may begin with this one.
            _ if tag::opens(c) && c != '[' => self.stop(c),
            _ => return false,
        }
        true
    }

    /// A colon or comma of Chinese as the one that JSON has, where one may stand.
    pub(super) fn half_width(&mut self, c: char) -> char {
        let own = match (c, self.state) {
            ('：', State::Colon) => ':',
            ('，', State::Key | State::Value | State::Behind) => ',',
            _ => return c,
        };
        self.repaired = true;
        own
    }

    pub(super) fn slash(&mut self, c: char, at: Where) {
        self.repaired = true;
        match c {
            '/' => self.state = State::LineComment(at),
            '*' => self.state = State::BlockComment(at, false),
            _ => {
                self.give_up('/');
                self.queue.push(c);
            }
        }
    }
}
