//! The runs that are over, finished or abandoned, as far as they are remembered.
//!
//! Enters: ids of runs that nobody waits for any more. Leaves: whether an id is among the latest of them,
//! so that its late events are neither kept nor taken for another program's. It may not know events.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Number of ids of finished and abandoned runs that are remembered, two for each run: LangFast goes on
/// with an abandoned run, perhaps for minutes.
pub(super) const MOST_OVER: usize = 2048;

/// The latest [`MOST_OVER`] ids of finished and abandoned runs. Only a hash of each is kept, which is
/// enough to recognise it.
#[derive(Default)]
pub(super) struct Over {
    hasher: RandomState,
    hashes: HashSet<u64>,
    /// The same hashes, oldest first.
    in_order: VecDeque<u64>,
}

impl Over {
    pub(super) fn add(&mut self, id: &str) {
        let hash = self.hasher.hash_one(id);
        if !self.hashes.insert(hash) {
            return;
        }
        self.in_order.push_back(hash);
        if self.in_order.len() > MOST_OVER {
            if let Some(oldest) = self.in_order.pop_front() {
                self.hashes.remove(&oldest);
            }
        }
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&self.hasher.hash_one(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_runs_that_are_over_are_remembered_up_to_a_limit() {
        let mut over = Over::default();
        (0..3 * MOST_OVER).for_each(|id| over.add(&id.to_string()));
        over.add("0");
        over.add("0");
        assert_eq!((over.hashes.len(), over.in_order.len()), (MOST_OVER, MOST_OVER));
        let known = (0..3 * MOST_OVER).filter(|id| over.contains(&id.to_string()));
        assert!(known.eq(std::iter::once(0).chain(2 * MOST_OVER + 1..3 * MOST_OVER)));
    }
}
