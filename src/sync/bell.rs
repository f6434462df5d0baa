//! A bell that one thread waits for and any thread rings, and a flag that rings bells.
//!
//! A thread that has several things to wait for (a channel, its client, the server's end) looks at all of
//! them, and then waits for its bell, which whoever changes one of them rings. crossbeam's `Select` does
//! that too, but gives the processor away four times before it sleeps, and enters and leaves the list of
//! waiters of each channel: a quarter of what a token costs.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::atomic::{AtomicBool, Ordering};
use super::futex::Futex;
use super::{Mutex, MutexGuard, thread};

/// A thread that waited no longer than this is in a flood: what it waits for likely comes before it could
/// sleep, and more with it. Tokens come ten times slower.
const SHORT: Duration = Duration::from_micros(300);
/// How often a thread whose last wait was short gives the processor away before it sleeps.
const YIELDS: usize = 4;

/// Nobody has rung, and nobody sleeps.
const QUIET: u32 = 0;
/// It was rung, and nobody has answered yet.
const RUNG: u32 = 1;
/// A thread sleeps until it is rung.
const ASLEEP: u32 = 2;

/// Wakes a thread. Rings before the thread waits count, all of them as one.
///
/// Whoever rings makes the change first, and whoever waits looks for changes after each wait: so none is
/// missed.
#[derive(Default)]
pub struct Bell {
    state: Futex,
    /// Whether the last wait was a short one, so that the next may be, too.
    was_short: AtomicBool,
}

impl Bell {
    /// Ends the wait that is under way, or else the next one. Costs a system call only if the thread sleeps.
    pub fn ring(&self) {
        // Who has not answered the last ring will look at this change, too.
        if self.state.swap(RUNG) == ASLEEP {
            self.state.wake();
        }
    }

    /// Waits for a ring, or until this time; `None` is for ever. Returns whether the bell was rung. One
    /// thread at a time may wait.
    pub fn wait(&self, until: Option<Instant>) -> bool {
        if self.answer() {
            return true;
        }
        let began = Instant::now();
        let is_rung =
            self.was_short.load(Ordering::Relaxed) && self.answer_soon() || self.sleep(until);
        self.was_short.store(is_rung && began.elapsed() < SHORT, Ordering::Relaxed);
        is_rung
    }

    /// Lets others go first, who may ring.
    fn answer_soon(&self) -> bool {
        (0..YIELDS).any(|_| {
            thread::yield_now();
            self.answer()
        })
    }

    fn sleep(&self, until: Option<Instant>) -> bool {
        loop {
            let left = until.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return self.answer();
            }
            if self.state.replace(QUIET, ASLEEP) {
                self.state.sleep(ASLEEP, left);
                // Whoever rings now needs not wake it.
                self.state.replace(ASLEEP, QUIET);
            }
            if self.answer() {
                return true;
            }
        }
    }

    fn answer(&self) -> bool {
        self.state.replace(RUNG, QUIET)
    }
}

/// Rings a bell when it is dropped, also in a panic.
pub struct RingAtEnd(pub Arc<Bell>);

impl Drop for RingAtEnd {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// A flag that is raised once, which rings the bells of all who are to hear of it.
#[derive(Default)]
pub struct Alarm {
    is_raised: AtomicBool,
    bells: Mutex<Vec<Arc<Bell>>>,
}

impl Alarm {
    /// Raises the flag and rings.
    pub fn raise(&self) {
        self.is_raised.store(true, Ordering::SeqCst);
        self.bells().iter().for_each(|bell| bell.ring());
    }

    /// Whether the flag has been raised.
    pub fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::SeqCst)
    }

    /// Has the alarm ring `bell`, as long as what is returned lives. A flag that is raised already rings
    /// nothing.
    pub fn rings(self: &Arc<Alarm>, bell: Arc<Bell>) -> Rings {
        self.bells().push(bell.clone());
        Rings { alarm: self.clone(), bell }
    }

    fn bells(&self) -> MutexGuard<'_, Vec<Arc<Bell>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An alarm that rings a bell until this is dropped.
pub struct Rings {
    alarm: Arc<Alarm>,
    bell: Arc<Bell>,
}

impl Rings {
    /// Whether the alarm has been raised.
    pub fn is_raised(&self) -> bool {
        self.alarm.is_raised()
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        let mut bells = self.alarm.bells();
        if let Some(at) = bells.iter().position(|bell| Arc::ptr_eq(bell, &self.bell)) {
            bells.swap_remove(at);
        }
        if bells.is_empty() {
            bells.shrink_to_fit();
        }
    }
}

#[cfg(all(test, not(feature = "interleavings")))]
mod tests {
    use super::*;

    #[test]
    fn rings_before_a_wait_count_as_one() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        assert!(bell.wait(None));
        assert!(!bell.wait(Some(Instant::now())));
    }

    #[test]
    fn another_thread_than_before_may_wait() {
        let bell = Bell::default();
        for _ in 0..2 {
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| bell.wait(None));
                bell.ring();
                assert!(waiting.join().unwrap());
            });
        }
        assert!(!bell.wait(Some(Instant::now() + Duration::from_millis(1))));
    }

    #[test]
    fn an_alarm_rings_the_bells_of_those_who_still_listen() {
        let alarm = Arc::new(Alarm::default());
        let (one, other) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let rings = alarm.rings(one.clone());
        drop(alarm.rings(other.clone()));
        assert!(!rings.is_raised());
        alarm.raise();
        assert!(rings.is_raised());
        assert!(one.wait(Some(Instant::now())));
        assert!(!other.wait(Some(Instant::now())));
        drop(rings);
        assert_eq!(alarm.bells().capacity(), 0);
    }

    #[test]
    fn a_bell_is_rung_by_a_thread_that_panics() {
        let bell = Arc::new(Bell::default());
        let ring = RingAtEnd(bell.clone());
        let panicking = std::thread::spawn(move || {
            let _ring = ring;
            panic!("on purpose");
        });
        assert!(bell.wait(None));
        assert!(panicking.join().is_err());
    }
}

#[cfg(all(test, feature = "interleavings"))]
mod interleavings {
    //! No timeout passes in these tests: a lost ring is a deadlock.

    use super::*;
    use crate::sync::atomic::AtomicUsize;

    fn check(test: impl Fn() + Send + Sync + 'static) {
        let test = Arc::new(test);
        let again = test.clone();
        shuttle::check_random(move || again(), 5_000);
        shuttle::check_pct(move || test(), 5_000, 3);
    }

    #[test]
    fn no_ring_is_lost_however_many_ring() {
        check(|| {
            let (bell, made) = (Arc::new(Bell::default()), Arc::new(AtomicUsize::new(0)));
            for _ in 0..3 {
                let (bell, made) = (bell.clone(), made.clone());
                thread::spawn(move || {
                    made.fetch_add(1, Ordering::SeqCst);
                    bell.ring();
                });
            }
            while made.load(Ordering::SeqCst) < 3 {
                assert!(bell.wait(None));
            }
        });
    }

    #[test]
    fn an_alarm_is_heard_by_all_who_look_at_it_once_it_rings_their_bell() {
        check(|| {
            let alarm = Arc::new(Alarm::default());
            let waiting: Vec<_> = (0..2)
                .map(|_| {
                    let alarm = alarm.clone();
                    thread::spawn(move || {
                        let bell = Arc::new(Bell::default());
                        let rings = alarm.rings(bell.clone());
                        while !rings.is_raised() {
                            bell.wait(None);
                        }
                    })
                })
                .collect();
            alarm.raise();
            waiting.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
