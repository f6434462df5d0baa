//! What the runs of this process have shown of how their texts come, for the next runs.
//!
//! Enters: what a run was certain of at the end of its weighing. Leaves: what to expect of a text at the
//! same place. It may not know any text.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// The field of an event at which a text was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The known one: `content` of the payload.
    Content,
    /// One that is called `delta`, or is in something that is.
    Delta,
    /// Any other.
    Other,
}

/// Whether texts are whole or pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Whole = 1,
    Pieces = 2,
}

/// What the runs of this process have shown so far, for those that follow.
#[derive(Debug, Default)]
pub struct Manners {
    /// The manner of each place's texts; 0 while none is known.
    of_place: [AtomicU8; 3],
    /// Whether the last run that ended well had its text at the known place.
    is_known_form: AtomicBool,
}

impl Manners {
    pub(super) fn of(&self, place: Place) -> Option<Manner> {
        match self.of_place[place as usize].load(Ordering::Relaxed) {
            1 => Some(Manner::Whole),
            2 => Some(Manner::Pieces),
            _ => None,
        }
    }

    pub(super) fn learn(&self, place: Place, manner: Manner) {
        self.of_place[place as usize].store(manner as u8, Ordering::Relaxed);
    }

    /// The manners of a process whose runs had whole texts.
    #[cfg(test)]
    pub fn all_whole() -> std::sync::Arc<Manners> {
        let of_place = std::array::from_fn(|_| AtomicU8::new(Manner::Whole as u8));
        std::sync::Arc::new(Manners { of_place, is_known_form: AtomicBool::new(true) })
    }

    /// Whether text is expected at the known place only.
    pub fn is_known_form(&self) -> bool {
        self.is_known_form.load(Ordering::Relaxed)
    }

    /// Notes that a run has ended well whose text was at the known place, or was not.
    pub fn note_form(&self, is_known: bool) {
        self.is_known_form.store(is_known, Ordering::Relaxed);
    }
}
