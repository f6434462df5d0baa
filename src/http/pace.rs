//! The deadline for a request's body, which moves as bytes arrive.

use std::time::{Duration, Instant};

/// A moving deadline: a body starts with some time, and each byte that arrives adds to it, up to
/// the initial time. So a client cannot stay by sending next to nothing, however fast its first
/// megabytes came.
pub struct Pace {
    /// The initial time, and the most that may be left at any moment.
    grace: Duration,
    /// Least rate, in bytes a second.
    rate: u32,
    deadline: Instant,
}

impl Pace {
    /// Starts now; the body must bring `rate` bytes a second after the first `grace`.
    pub fn new(grace: Duration, rate: u32) -> Pace {
        Pace { grace, rate: rate.max(1), deadline: Instant::now() + grace }
    }

    /// Returns the time by which the next byte must arrive.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Extends the deadline for bytes that have arrived.
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
