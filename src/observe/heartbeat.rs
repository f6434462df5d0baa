//! Heartbeats, which tell a thread that makes progress from one that is stuck.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time by which a thread must report again; later means stuck. A report costs one reading of
/// the clock.
#[derive(Debug)]
pub struct Heartbeat {
    /// The thread's name, for messages.
    name: String,
    /// When the next report is due, in milliseconds since [`EPOCH`]; [`NEVER`] while the thread
    /// rests.
    due: AtomicU64,
}

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
const NEVER: u64 = u64::MAX;

impl Heartbeat {
    /// Creates the heartbeat of a thread that has not started: it rests.
    pub fn new(name: impl Into<String>) -> Heartbeat {
        Heartbeat { name: name.into(), due: AtomicU64::new(NEVER) }
    }

    /// Reports, and promises the next report within `next`.
    pub fn beat(&self, next: Duration) {
        self.due.store(millis(EPOCH.elapsed().saturating_add(next)), Ordering::Relaxed);
    }

    /// Suspends the duty to report until the next [`Heartbeat::beat`]: the thread ends, or waits
    /// for something that may take any time.
    pub fn rest(&self) {
        self.due.store(NEVER, Ordering::Relaxed);
    }

    /// Checks that the thread has reported in time.
    ///
    /// # Errors
    /// The report is more than `grace` late; the message says which thread is stuck.
    pub fn check(&self, grace: Duration) -> Result<(), String> {
        let due = self.due.load(Ordering::Relaxed);
        let late = Duration::from_millis(millis(EPOCH.elapsed()).saturating_sub(due));
        if late <= grace { Ok(()) } else { Err(format!("{} is stuck", self.name)) }
    }
}

/// Returns milliseconds, less than [`NEVER`] for the next half a billion years.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_beaten_in_time_is_stuck_and_who_rests_is_not() {
        let (heartbeat, grace) = (Heartbeat::new("the loop"), Duration::ZERO);
        let is_alive = || heartbeat.check(grace).is_ok();
        assert!(is_alive(), "it has not begun");
        heartbeat.beat(Duration::ZERO);
        while is_alive() {
            std::thread::yield_now();
        }
        assert!(heartbeat.check(grace).unwrap_err() == "the loop is stuck");
        assert!(heartbeat.check(Duration::from_secs(3600)).is_ok(), "within the grace");
        heartbeat.beat(Duration::from_secs(3600));
        assert!(is_alive());
        heartbeat.beat(Duration::MAX);
        assert!(is_alive());
        heartbeat.beat(Duration::ZERO);
        heartbeat.rest();
        assert!(is_alive());
    }
}
