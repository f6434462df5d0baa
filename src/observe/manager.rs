//! Messages to the service manager, which is systemd (the only use of sd-notify): that the server
//! is ready, reloads or stops, and at intervals its status and that nothing is stuck. Without
//! `NOTIFY_SOCKET` nothing is sent.

use std::io;
use std::thread;
use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};

/// Interval between status messages if systemd runs no watchdog for the service.
const EVERY: Duration = Duration::from_secs(10);

/// The server's own view of its state.
pub trait Health: Send + 'static {
    /// Checks that nothing is stuck, allowing delays of up to `grace`.
    ///
    /// # Errors
    /// A message that says what is stuck.
    fn check(&self, grace: Duration) -> Result<(), String>;

    /// Returns the state of the server in one line.
    fn status(&self) -> String;
}

/// Reports that the listeners are served.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reports that settings are being read again, until [`ready`]. It includes the time, as
/// `Type=notify-reload` requires.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Reports that the server will end within `limit`, which replaces the manager's own limit.
pub fn stopping(limit: Duration) {
    let limit = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(limit)]);
}

/// Starts a thread that reports status and watchdog messages as long as the process runs.
///
/// # Errors
/// No thread can be started.
pub fn keep_telling(health: impl Health) -> io::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let patience = watchdog_enabled();
    let mut watchdog = Watchdog::new(health, patience.unwrap_or(EVERY * 3));
    let tick = move || loop {
        watchdog.tick(&mut |message| tell(&[NotifyState::Custom(message)]));
        thread::sleep(watchdog.patience / 3);
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(tick).map(drop)
}

/// Reports to systemd's watchdog as long as nothing is stuck.
struct Watchdog<P> {
    health: P,
    /// Time without a message after which the manager restarts the server.
    patience: Duration,
    /// How many checks in a row have found something stuck.
    found_stuck: u32,
    status: String,
}

impl<P: Health> Watchdog<P> {
    fn new(health: P, patience: Duration) -> Watchdog<P> {
        Watchdog { health, patience, found_stuck: 0, status: String::new() }
    }

    /// Checks once, and reports the result.
    fn tick(&mut self, tell: &mut dyn FnMut(&str)) {
        let stuck = self.health.check(self.patience / 2).err();
        self.found_stuck = if stuck.is_some() { self.found_stuck + 1 } else { 0 };
        let status = match stuck {
            // A single late check may come from a pause of the whole process: the machine slept.
            Some(why) if self.found_stuck > 1 => {
                if self.found_stuck == 2 {
                    log::error!("{why}; the service manager is not told that all is well");
                }
                why
            }
            _ => {
                tell("WATCHDOG=1");
                self.health.status()
            }
        };
        if status != self.status {
            // Control characters become blanks: systemd takes each line as an assignment of its
            // own.
            tell(&format!("STATUS={}", status.replace(char::is_control, " ")));
            self.status = status;
        }
    }
}

/// Sends messages to systemd. A failure is only logged: the server serves on without it.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = notify(states) {
        log::warn!("the service manager cannot be told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observe::heartbeat::Heartbeat;

    impl Health for Arc<Heartbeat> {
        fn check(&self, grace: Duration) -> Result<(), String> {
            Heartbeat::check(self, grace)
        }

        fn status(&self) -> String {
            "one\ntwo".to_owned()
        }
    }

    #[test]
    fn all_is_well_as_long_as_the_heart_beats_or_rests_and_again_when_it_does() {
        let heart = Arc::new(Heartbeat::new("the loop"));
        let mut watchdog = Watchdog::new(heart.clone(), Duration::ZERO);
        let mut tick = || {
            let mut told = Vec::new();
            watchdog.tick(&mut |message| told.push(message.to_owned()));
            told
        };
        assert_eq!(tick(), ["WATCHDOG=1", "STATUS=one two"]);
        heart.beat(Duration::from_secs(3600));
        assert_eq!(tick(), ["WATCHDOG=1"], "the same status need not be said again");

        heart.beat(Duration::ZERO);
        while heart.as_ref().check(Duration::ZERO).is_ok() {
            thread::yield_now();
        }
        assert_eq!(tick(), ["WATCHDOG=1"], "the machine may have slept");
        let stuck = tick();
        assert!(stuck.len() == 1 && stuck[0].starts_with("STATUS=the loop is stuck"), "{stuck:?}");
        assert!(!tick().contains(&"WATCHDOG=1".to_owned()));

        heart.rest();
        assert_eq!(tick(), ["WATCHDOG=1", "STATUS=one two"]);
    }
}
