//! The pause between two attempts of the runner to connect.

use std::time::Duration;

/// The pause after the first failed attempt. Each further failure doubles it, up to the limit; jitter
/// shortens it by up to a half.
pub const BACK_OFF: Duration = Duration::from_millis(250);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// A socket that lasted at least this long does not count as a failed attempt.
const GOOD_SOCKET: Duration = Duration::from_secs(1);

/// Counts failed attempts, and returns the pause before the next one.
#[derive(Default)]
pub struct BackOff {
    failures: u32,
}

impl BackOff {
    /// Notes a failed attempt.
    pub fn failed(&mut self) {
        self.failures += 1;
    }

    /// Notes the end of a socket that lasted this long; a short-lived one counts as a failed attempt.
    pub fn lost(&mut self, lasted: Duration) {
        self.failures = if lasted >= GOOD_SOCKET { 0 } else { self.failures + 1 };
    }

    /// The pause before the next attempt. It is short after a good socket, so that runs under way miss
    /// little; jitter keeps many instances from coming back in the same moment.
    pub fn next_pause(&self) -> Duration {
        let jitter = 0.5 + fastrand::f64() / 2.0;
        match self.failures {
            0 => Duration::from_millis(50).mul_f64(jitter),
            n => (BACK_OFF * 2u32.pow((n - 1).min(10))).min(LONGEST_BACK_OFF).mul_f64(jitter),
        }
    }
}
