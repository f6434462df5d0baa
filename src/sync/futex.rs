//! A word that a thread sleeps on for as long as it has a value: futex(2).

use std::time::Duration;

use super::atomic::{AtomicU32, Ordering};
use sleep::Sleep;

/// An atomic word. Its operations are sequentially consistent.
#[derive(Default)]
pub struct Futex {
    word: AtomicU32,
    sleep: Sleep,
}

impl Futex {
    /// Sets the word, and returns its value before.
    pub fn swap(&self, value: u32) -> u32 {
        self.word.swap(value, Ordering::SeqCst)
    }

    /// Sets the word to `new` if it is `current`; returns whether it was.
    pub fn replace(&self, current: u32, new: u32) -> bool {
        self.word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Sleeps if the word is `value`, until it is woken; `None` is without a limit. May return sooner.
    pub fn sleep(&self, value: u32, limit: Option<Duration>) {
        self.sleep.sleep(&self.word, value, limit);
    }

    /// Wakes the thread that sleeps on the word. The word has to be changed before.
    pub fn wake(&self) {
        self.sleep.wake(&self.word);
    }
}

#[cfg(not(all(test, feature = "interleavings")))]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod sleep {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use rustix::thread::futex::{Flags, Timespec, wait, wake};

    /// The system's own.
    #[derive(Default)]
    pub struct Sleep;

    impl Sleep {
        pub fn sleep(&self, word: &AtomicU32, value: u32, limit: Option<Duration>) {
            // A limit beyond the kernel's range is none.
            let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
            // It fails if the word has another value, a signal came, or the limit has passed.
            let _ = wait(word, Flags::PRIVATE, value, limit.as_ref());
        }

        pub fn wake(&self, word: &AtomicU32) {
            // It fails only for what is no address.
            let _ = wake(word, Flags::PRIVATE, 1);
        }
    }
}

#[cfg(any(
    all(test, feature = "interleavings"),
    not(any(target_os = "linux", target_os = "android"))
))]
mod sleep {
    use std::sync::PoisonError;
    use std::time::Duration;

    use crate::sync::atomic::{AtomicU32, Ordering};
    use crate::sync::{Condvar, Mutex, MutexGuard};

    /// The same where the system has none, or shuttle has to see it.
    #[derive(Default)]
    pub struct Sleep {
        lock: Mutex<()>,
        woken: Condvar,
    }

    impl Sleep {
        pub fn sleep(&self, word: &AtomicU32, value: u32, limit: Option<Duration>) {
            let lock = self.lock();
            if word.load(Ordering::SeqCst) != value {
                return;
            }
            match limit {
                Some(limit) => drop(self.woken.wait_timeout(lock, limit)),
                None => drop(self.woken.wait(lock)),
            }
        }

        pub fn wake(&self, _word: &AtomicU32) {
            // Whoever has looked at the word, and does not sleep yet, has the lock.
            let _lock = self.lock();
            self.woken.notify_one();
        }

        fn lock(&self) -> MutexGuard<'_, ()> {
            self.lock.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
