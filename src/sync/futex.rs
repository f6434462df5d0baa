//! A word that a thread sleeps on for as long as it has a value: futex(2).

use std::time::Duration;

use super::atomic::{AtomicU32, Ordering};

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

/// The system's own.
#[cfg(not(all(test, feature = "interleavings")))]
#[derive(Default)]
struct Sleep;

#[cfg(not(all(test, feature = "interleavings")))]
impl Sleep {
    fn sleep(&self, word: &AtomicU32, value: u32, limit: Option<Duration>) {
        use rustix::thread::futex::{Flags, Timespec, wait};
        // A limit beyond the kernel's range is none.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // It fails if the word has another value, a signal came, or the limit has passed.
        let _ = wait(word, Flags::PRIVATE, value, limit.as_ref());
    }

    fn wake(&self, word: &AtomicU32) {
        use rustix::thread::futex::{Flags, wake};
        // It fails for addresses that are none alone.
        let _ = wake(word, Flags::PRIVATE, 1);
    }
}

/// The same by shuttle's primitives.
#[cfg(all(test, feature = "interleavings"))]
#[derive(Default)]
struct Sleep {
    lock: super::Mutex<()>,
    woken: super::Condvar,
}

#[cfg(all(test, feature = "interleavings"))]
impl Sleep {
    /// Here no limit passes.
    fn sleep(&self, word: &AtomicU32, value: u32, _limit: Option<Duration>) {
        let lock = self.lock.lock().unwrap();
        if word.load(Ordering::SeqCst) == value {
            drop(self.woken.wait(lock).unwrap());
        }
    }

    fn wake(&self, _word: &AtomicU32) {
        let _lock = self.lock.lock().unwrap();
        self.woken.notify_one();
    }
}
