//! The primitives by which threads wait for each other.
//!
//! Enters: a thread that has nothing to do. Leaves: the same, once another one has something for it. It may
//! not know what that is.
//!
//! They are the standard library's, the system's futex, and what is made of these, except in the unit tests
//! that are built with the feature `interleavings`. There they are shuttle's, which runs a test again and
//! again, each time with its threads interleaved in another way, and reports a deadlock (a lost wake-up,
//! say) with the schedule that led to it.
//!
//! Modules whose threads interact in a way that is worth such tests take their primitives from here,
//! and have the tests in a module named `interleavings`:
//!
//! ```text
//! #[cfg(all(test, feature = "interleavings"))]
//! mod interleavings;
//! ```
//!
//! ```text
//! cargo test --lib --features interleavings interleavings
//! ```
//!
//! In that build only those tests can run: shuttle's primitives work only within its checks. Time
//! stands still there: a wait with a time limit ends only if it is notified, so no limit hides a lost
//! wake-up. A check must not block a thread by other means, such as the receiving end of a crossbeam
//! channel.

mod bell;
mod futex;

pub use bell::{Alarm, Bell, RingAtEnd, Rings};

#[cfg(not(all(test, feature = "interleavings")))]
pub use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};

#[cfg(all(test, feature = "interleavings"))]
pub use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};

/// Atomic values.
pub mod atomic {
    #[cfg(not(all(test, feature = "interleavings")))]
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

    #[cfg(all(test, feature = "interleavings"))]
    pub use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}
