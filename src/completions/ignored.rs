//! What of a request has no effect, and the header of its answer that names it.

use std::collections::BTreeSet;

use crate::http::answer::Answer;

/// The answer's header that names what has no effect.
pub const HEADER: &str = "x-langfast2api-ignored";
/// Most places in messages that the header names; of further ones it has the number.
const MOST_PLACES: usize = 8;

/// The fields of a request, and the places in its messages, that have no effect.
#[derive(Default)]
pub struct Ignored {
    fields: BTreeSet<&'static str>,
    places: Vec<String>,
}

impl Ignored {
    /// What was left out of messages, at these places.
    pub fn at(places: Vec<String>) -> Ignored {
        Ignored { fields: BTreeSet::new(), places }
    }

    /// Adds fields.
    pub fn extend(&mut self, names: impl IntoIterator<Item = &'static str>) {
        self.fields.extend(names);
    }

    /// Adds a field; true if it is new.
    pub fn insert(&mut self, name: &'static str) -> bool {
        self.fields.insert(name)
    }

    /// The first field, by name. Places do not count: they are no reason to refuse a request, however
    /// strict, since they come with each further one.
    pub fn first_field(&self) -> Option<&'static str> {
        self.fields.first().copied()
    }

    /// Names all of it in an answer's head, in place of what was named before.
    pub fn name_in(&self, answer: &mut Answer) {
        let mut names: Vec<&str> = self.fields.iter().copied().collect();
        names.extend(self.places.iter().take(MOST_PLACES).map(String::as_str));
        let more = self.places.len().saturating_sub(MOST_PLACES);
        let more = (more > 0).then(|| format!("and {more} more"));
        names.extend(more.as_deref());
        if !names.is_empty() {
            answer.replace_field(HEADER, names.join(", "));
        }
    }
}
