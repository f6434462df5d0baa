//! What the server knows of its own doings: counts and recent times, nothing of what was said. The
//! page shows them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many of the latest times to the first token are kept.
const RECENT: usize = 60;

/// The signs of life, since the start.
#[derive(Debug)]
pub struct Vitals {
    started: Instant,
    under_way: AtomicUsize,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// How many answers have had a first token.
    count: u64,
    /// The latest of their times, the newest last.
    first_tokens: VecDeque<Duration>,
}

impl Default for Vitals {
    fn default() -> Vitals {
        let (under_way, recent) = (AtomicUsize::default(), Mutex::default());
        Vitals { started: Instant::now(), under_way, recent }
    }
}

/// An answer under way; it has ended when this is dropped.
pub struct UnderWay(Arc<Vitals>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Vitals {
    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts an answer in.
    pub fn begin_answer(self: &Arc<Vitals>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Answers that are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Notes how long an answer's first token took, from the request on.
    pub fn note_first_token(&self, took: Duration) {
        let mut recent = self.recent();
        recent.count += 1;
        if recent.first_tokens.len() == RECENT {
            recent.first_tokens.pop_front();
        }
        recent.first_tokens.push_back(took);
    }

    /// How many answers have had a first token, and the latest of their times, the newest last.
    pub fn first_tokens(&self) -> (u64, Vec<Duration>) {
        let recent = self.recent();
        (recent.count, recent.first_tokens.iter().copied().collect())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_times_are_kept_and_all_are_counted() {
        let vitals = Arc::new(Vitals::default());
        let times: Vec<Duration> = (0..RECENT as u64 + 2).map(Duration::from_millis).collect();
        times.iter().for_each(|time| vitals.note_first_token(*time));
        assert_eq!(vitals.first_tokens(), (times.len() as u64, times[2..].to_vec()));
    }

    #[test]
    fn an_answer_is_under_way_until_it_is_let_go() {
        let vitals = Arc::new(Vitals::default());
        let (one, two) = (vitals.begin_answer(), vitals.begin_answer());
        assert_eq!(vitals.under_way(), 2);
        drop((one, two));
        assert_eq!(vitals.under_way(), 0);
    }
}
