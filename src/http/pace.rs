//! How long a client may take to send a body.

use std::time::{Duration, Instant};

/// The time that a body has left: some to begin with, and more for each byte that arrives, up to as much
/// as at the beginning. However fast the first megabytes came, a client cannot stay by sending next to
/// nothing from then on.
pub struct Pace {
    /// The most that may be left at any time.
    grace: Duration,
    /// Bytes a second.
    rate: u32,
    deadline: Instant,
}

impl Pace {
    /// A body begins now; it must bring `rate` bytes a second, after `grace`.
    pub fn new(grace: Duration, rate: u32) -> Pace {
        Pace { grace, rate: rate.max(1), deadline: Instant::now() + grace }
    }

    /// When the next byte has to be there at the latest.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Counts bytes that have arrived.
    pub fn note(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / f64::from(self.rate));
        let most = Instant::now() + self.grace;
        self.deadline = self.deadline.checked_add(earned).map_or(most, |earned| earned.min(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_fast_is_no_credit_for_longer_than_the_grace() {
        let grace = Duration::from_secs(10);
        let mut pace = Pace::new(grace, 1000);
        let first = pace.deadline();
        pace.note(100);
        assert!(pace.deadline() >= first && pace.deadline() <= Instant::now() + grace);
        pace.note(usize::MAX >> 20);
        assert!(pace.deadline() <= Instant::now() + grace);
        let before = pace.deadline();
        pace.note(0);
        assert_eq!(pace.deadline(), before);
    }
}
