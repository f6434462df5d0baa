//! Text behind calls, and calls that what follows them decides on.

use super::super::Piece;
use super::super::cursor::Miss;
use super::context::Standing;
use super::{Parser, Pending, State, put_text};

impl Parser {
    /// Handles a character after a call: what separates calls and another call may follow; anything else
    /// ends the calls.
    pub(super) fn take_behind(&mut self, c: char, out: &mut String, pieces: &mut Vec<Piece>) {
        self.held_back.push(c);
        if let (Some(Pending { standing: Standing::IfLastOnLine(_), .. }), '\n') =
            (&self.pending, c)
        {
            // Words count as nothing only if another call follows.
            if !self.has_words_behind() {
                self.confirm(out, pieces);
            }
        }
        let mut reached = std::mem::take(&mut self.reached);
        match self.between(&self.held_back, &mut reached) {
            Ok(lead) => {
                let held_back = std::mem::take(&mut self.held_back);
                if self.pending.is_none() {
                    self.raw = held_back;
                }
                if !matches!(self.state, State::Done) {
                    self.enter(lead, out, pieces);
                }
            }
            Err(Miss::More) if self.may_hold() => self.reached = reached,
            Err(_) => self.end_calls(out, pieces),
        }
    }

    /// True if words stand behind the last call.
    fn has_words_behind(&self) -> bool {
        let is_behind_tag = |part: &str| part.rsplit('>').next().is_some_and(has_word);
        self.held_back.split('<').any(is_behind_tag)
    }

    /// Decides at the end of the text on calls that what follows them decides on.
    pub(super) fn decide_at_end(&mut self, out: &mut String, pieces: &mut Vec<Piece>) {
        let Some(Pending { standing, .. }) = self.pending else { return };
        match standing {
            Standing::ShownWithNext => self.show_pending(out),
            Standing::IfLastOnLine(true) if self.begins_sentence() => self.confirm(out, pieces),
            _ if self.has_words_behind() => self.show_pending(out),
            _ => self.confirm(out, pieces),
        }
    }

    /// True if a sentence may begin with the first word that is held back behind a tag.
    fn begins_sentence(&self) -> bool {
        let words = self.held_back.rsplit('>').next().unwrap_or_default();
        words.chars().find(|c| c.is_alphanumeric()).is_some_and(char::is_uppercase)
    }

    /// Handles prose behind calls.
    pub(super) fn end_calls(&mut self, out: &mut String, pieces: &mut Vec<Piece>) {
        match self.pending.as_ref().map(|pending| pending.standing) {
            // Nobody makes up the result of a call that is only shown.
            Some(Standing::IfLast) if self.held_back.ends_with(&self.result()) => {
                self.confirm(out, pieces);
            }
            Some(Standing::IfLastOnLine(true)) if self.begins_sentence() => {
                self.confirm(out, pieces)
            }
            Some(_) => return self.show_pending(out),
            None => {}
        }
        self.left_out = true;
        self.held_back.clear();
        self.state = State::Done;
    }

    pub(super) fn pass_on(&mut self, pieces: &mut Vec<Piece>) {
        if self.found.is_empty() {
            return;
        }
        let found = std::mem::take(&mut self.found);
        match &mut self.pending {
            Some(pending) => pending.pieces.extend(found),
            None => found.into_iter().for_each(|piece| self.put(piece, pieces)),
        }
    }

    /// Passes on a piece of a call, unless enough calls have been made.
    pub(super) fn put(&mut self, piece: Piece, pieces: &mut Vec<Piece>) {
        if !self.parallel && self.ended > 0 {
            self.left_out = true;
            return;
        }
        match (pieces.last_mut(), piece) {
            (Some(Piece::Arguments(last)), Piece::Arguments(text)) => last.push_str(&text),
            (_, piece) => {
                self.ended += usize::from(matches!(piece, Piece::End | Piece::Cut));
                self.broke_off |= piece == Piece::Cut;
                pieces.push(piece);
            }
        }
    }

    /// Passes on calls that have turned out to be meant.
    pub(super) fn confirm(&mut self, out: &mut String, pieces: &mut Vec<Piece>) {
        let Some(pending) = self.pending.take() else { return };
        put_text(out, pieces);
        pending.pieces.into_iter().for_each(|piece| self.put(piece, pieces));
        self.raw.clear();
        if !self.parallel && self.ended > 0 {
            self.state = State::Done;
        }
    }

    /// Shows calls as the text that they have turned out to be.
    pub(super) fn show_pending(&mut self, out: &mut String) {
        let was_last = self.pending.take().is_some_and(|held| held.standing == Standing::IfLast);
        self.context.note_shown(was_last);
        self.shown += 1;
        self.entity = None;
        self.held_back.clear();
        self.state = State::Text;
        let raw = std::mem::take(&mut self.raw);
        self.show(&raw, out);
    }
}

fn has_word(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}
