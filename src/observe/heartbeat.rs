//! Heartbeats: how a thread that turns is told from one that is stuck.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A thread's word that it will be heard of again. It costs a look at the clock.
#[derive(Debug)]
pub struct Heartbeat {
    /// Whose it is, for people to read.
    name: String,
    /// When it is due, in milliseconds since [`EPOCH`]; [`NEVER`] while the thread rests.
    due: AtomicU64,
}

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
const NEVER: u64 = u64::MAX;

impl Heartbeat {
    /// The heartbeat of a thread that rests yet.
    pub fn new(name: impl Into<String>) -> Heartbeat {
        Heartbeat { name: name.into(), due: AtomicU64::new(NEVER) }
    }

    /// Beats; the next beat will come within this time.
    pub fn beat(&self, next: Duration) {
        self.due.store(millis(EPOCH.elapsed().saturating_add(next)), Ordering::Relaxed);
    }

    /// Until the next beat none is due: the thread ends, or waits for what may take any time.
    pub fn rest(&self) {
        self.due.store(NEVER, Ordering::Relaxed);
    }

    /// Whether the beat has come, or may still.
    ///
    /// # Errors
    /// That it is stuck, in words, if the beat is more than `grace` late.
    pub fn check(&self, grace: Duration) -> Result<(), String> {
        let due = self.due.load(Ordering::Relaxed);
        let late = Duration::from_millis(millis(EPOCH.elapsed()).saturating_sub(due));
        if late <= grace { Ok(()) } else { Err(format!("{} is stuck", self.name)) }
    }
}

/// Less than [`NEVER`] for the next half a billion years.
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
