//! Wakes a thread that waits for several things at once.
//!
//! crossbeam's `Select` does that too, but looks for a while before it sleeps: of a token's way to its
//! client that was a third of the CPU.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Thread, current, park_timeout};
use std::time::Instant;

/// A bell for one thread. Who makes something ready rings behind it; who is woken looks what it is.
#[derive(Debug, Default)]
pub struct Bell(Mutex<Option<Thread>>);

impl Bell {
    /// From now on it is this thread that is woken. What was made ready before can be seen.
    pub fn listen(&self) {
        *self.thread() = Some(current());
    }

    /// Ends the wait of the thread that listens, or its next one.
    pub fn ring(&self) {
        if let Some(thread) = &*self.thread() {
            thread.unpark();
        }
    }

    fn thread(&self) -> MutexGuard<'_, Option<Thread>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a bell of this thread rings, or until `deadline`; it may also end without either.
pub fn wait(deadline: Instant) {
    park_timeout(deadline.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    #[test]
    fn a_wait_ends_when_it_rings_even_if_that_was_before_it_began() {
        let far = Instant::now() + Duration::from_secs(600);
        let (bell, ready) = (Arc::new(Bell::default()), Arc::new(AtomicBool::new(false)));
        bell.listen();
        bell.ring();
        wait(far);
        let (its_bell, its_ready) = (bell.clone(), ready.clone());
        let ringer = std::thread::spawn(move || {
            its_ready.store(true, Ordering::Relaxed);
            its_bell.ring();
        });
        while !ready.load(Ordering::Relaxed) {
            wait(far);
        }
        ringer.join().unwrap();
    }

    #[test]
    fn a_bell_that_nobody_listens_to_may_ring() {
        Bell::default().ring();
    }
}
