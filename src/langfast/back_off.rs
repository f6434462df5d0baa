//! How long the runner waits between two attempts to connect.

use std::time::Duration;

/// Between two attempts: this, doubled each time, up to the limit, each with jitter.
pub const BACK_OFF: Duration = Duration::from_millis(250);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// A socket that lasted this long was a good one: its end counts as no failure.
const GOOD_SOCKET: Duration = Duration::from_secs(1);

/// How long to wait before the next attempt.
#[derive(Default)]
pub struct BackOff {
    failures: u32,
}

impl BackOff {
    /// An attempt has failed.
    pub fn failed(&mut self) {
        self.failures += 1;
    }

    /// A socket has ended that lasted so long.
    pub fn lost(&mut self, lasted: Duration) {
        self.failures = if lasted >= GOOD_SOCKET { 0 } else { self.failures + 1 };
    }

    /// At once after a good socket, so that runs under way miss little; jitter keeps many instances
    /// from coming back in the same moment.
    pub fn next_pause(&self) -> Duration {
        let jitter = 0.5 + fastrand::f64() / 2.0;
        match self.failures {
            0 => Duration::from_millis(50).mul_f64(jitter),
            n => (BACK_OFF * 2u32.pow((n - 1).min(10))).min(LONGEST_BACK_OFF).mul_f64(jitter),
        }
    }
}
