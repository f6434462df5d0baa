//! The memory that all request bodies share, with what is parsed from them: the server stays within
//! it however many large requests come at once.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crate::error::Error;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Bytes of each body that are not counted, so that small requests do not wait for large ones. The
/// limit on connections bounds them.
const FREE: usize = 16 * 1024;

/// The bytes that a body of this many counts as.
pub fn price(bytes: usize) -> usize {
    bytes.saturating_sub(FREE)
}

/// A limited number of bytes, of which bodies take shares and give them back.
pub struct Budget {
    limit: usize,
    taken: Mutex<Taken>,
    /// Notified when bytes are given back while somebody waits for some.
    freed: Condvar,
}

#[derive(Default)]
struct Taken {
    bytes: usize,
    /// Shares that wait for bytes.
    waiting: usize,
}

impl Budget {
    /// Creates a budget of `limit` bytes, of which nothing is taken.
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { limit, taken: Mutex::default(), freed: Condvar::new() })
    }

    /// Returns the bytes that are taken now.
    pub fn used(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Part of a budget, given back on drop.
pub struct Share {
    /// `None` if the share is unlimited.
    budget: Option<Arc<Budget>>,
    bytes: usize,
}

/// The reason that a share cannot grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Others hold the bytes at the moment.
    ForNow,
    /// It would exceed the whole budget, whose limit is given in bytes.
    Never(usize),
}

impl From<Full> for Error {
    /// Returns the error for the client of the request.
    fn from(full: Full) -> Error {
        match full {
            Full::ForNow => {
                Error::Overloaded("there is no memory for a body like this now".to_owned())
            }
            Full::Never(limit) => Error::BadHttp {
                status: 413,
                message: format!(
                    "The body takes more memory than the {} MiB that all bodies may have \
                     (LANGFAST2API_BODY_MEMORY sets this limit)",
                    limit >> 20
                ),
            },
        }
    }
}

impl Share {
    /// An empty share of `budget`.
    pub fn of(budget: &Arc<Budget>) -> Share {
        Share { budget: Some(budget.clone()), bytes: 0 }
    }

    /// A share that can grow without limit.
    fn unlimited() -> Share {
        Share { budget: None, bytes: 0 }
    }

    /// Takes `more` further bytes, waiting until `deadline` for others to give some back; without a
    /// deadline it does not wait.
    ///
    /// # Errors
    /// See [`Full`].
    pub fn grow(&mut self, more: usize, deadline: Option<Instant>) -> Result<(), Full> {
        let Some(budget) = &self.budget else { return Ok(()) };
        if self.bytes.saturating_add(more) > budget.limit {
            return Err(Full::Never(budget.limit));
        }
        let mut taken = budget.lock();
        while budget.limit - taken.bytes < more {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let Some(left) = left.filter(|left| !left.is_zero()) else { return Err(Full::ForNow) };
            taken.waiting += 1;
            let waited = budget.freed.wait_timeout(taken, left);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
            taken.waiting -= 1;
        }
        taken.bytes += more;
        self.bytes += more;
        Ok(())
    }

    /// Takes `more` further bytes. Waits until `deadline` for others, but only for the first ones: two that
    /// both hold some could wait for each other.
    ///
    /// # Errors
    /// See [`Full`].
    pub fn cover(&mut self, more: usize, deadline: Instant) -> Result<(), Full> {
        let deadline = (self.bytes == 0).then_some(deadline);
        self.grow(more, deadline)
    }

    fn shrink(&mut self, less: usize) {
        let Some(budget) = &self.budget else { return };
        if less == 0 {
            return;
        }
        self.bytes -= less;
        let mut taken = budget.lock();
        taken.bytes -= less;
        // Notifying costs a system call even if nobody waits.
        if taken.waiting > 0 {
            // Each waiter wants its own number of bytes, so all must look.
            budget.freed.notify_all();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// The length of a body, as far as its head states it.
#[derive(Clone, Copy, Debug)]
pub enum BodySize {
    /// The exact length, in bytes.
    Known(usize),
    /// Only the most bytes that it may have.
    AtMost(usize),
}

/// A request's body, and its share of the budget.
pub struct Body {
    bytes: Vec<u8>,
    share: Share,
}

impl Body {
    /// An empty body.
    pub fn new(budget: &Arc<Budget>) -> Body {
        Body { bytes: Vec::new(), share: Share::of(budget) }
    }

    /// Returns the bytes read so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes read so far, and the share, from which memory for parsed values is taken.
    pub fn parts(&mut self) -> (&[u8], &mut Share) {
        (&self.bytes, &mut self.share)
    }

    /// The buffer to append to, within the room that [`Body::make_room`] has made.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// A body that has been read already, for which `share` holds the memory; what it holds beyond that is
    /// given back.
    pub fn with(bytes: Vec<u8>, mut share: Share) -> Body {
        share.shrink(share.bytes.saturating_sub(price(bytes.len())));
        Body { bytes, share }
    }

    /// Makes room for `more` bytes in a body of this size. Waits until `deadline` for
    /// other bodies to end, as [`Share::cover`] does.
    ///
    /// # Errors
    /// See [`Full`].
    pub fn make_room(
        &mut self,
        more: usize,
        size: BodySize,
        deadline: Instant,
    ) -> Result<(), Full> {
        let (length, room) = (self.bytes.len(), self.bytes.capacity());
        let capacity = match size {
            BodySize::Known(whole) => whole,
            // Doubling moves a body only a few times.
            BodySize::AtMost(most) if length + more > room => {
                (length + more).max(2 * room).min(most)
            }
            BodySize::AtMost(_) => room,
        };
        if capacity <= room {
            return Ok(());
        }
        self.share.cover(price(capacity).saturating_sub(self.share.bytes), deadline)?;
        self.bytes.reserve_exact(capacity - length);
        Ok(())
    }

    /// Gives back the capacity behind the body's end.
    pub fn trim(&mut self) {
        let room = self.bytes.capacity();
        self.bytes.shrink_to_fit();
        let less = room.saturating_sub(self.bytes.capacity().max(FREE));
        self.share.shrink(less.min(self.share.bytes));
    }

    /// Frees the bytes and keeps the share for the values parsed from them.
    pub fn into_share(self) -> Share {
        self.share
    }
}

impl From<Vec<u8>> for Body {
    /// A body that counts against no budget.
    fn from(bytes: Vec<u8>) -> Body {
        Body { bytes, share: Share::unlimited() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn shares_together_take_no_more_than_there_is_and_are_given_back() {
        let budget = Budget::new(10);
        let (mut one, mut other) = (Share::of(&budget), Share::of(&budget));
        assert_eq!(one.grow(6, None), Ok(()));
        assert_eq!(other.grow(5, None), Err(Full::ForNow));
        assert_eq!(one.grow(5, Some(soon())), Err(Full::Never(10)));
        assert_eq!(other.grow(4, None), Ok(()));
        assert_eq!(budget.used(), 10);
        drop(one);
        assert_eq!(other.grow(6, None), Ok(()));
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_waits_goes_on_when_there_is_room() {
        let budget = Budget::new(10);
        let mut one = Share::of(&budget);
        one.grow(10, None).unwrap();
        std::thread::scope(|scope| {
            let waiting = [4, 6].map(|bytes| {
                let budget = &budget;
                scope.spawn(move || Share::of(budget).grow(bytes, Some(soon())))
            });
            drop(one);
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap().is_ok()));
        });
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_body_is_priced_by_its_room_and_trimmed_to_its_length() {
        let budget = Budget::new(1 << 20);
        let mut body = Body::new(&budget);
        for piece in [FREE, 1, 100_000] {
            body.make_room(piece, BodySize::AtMost(1 << 20), soon()).unwrap();
            body.buffer().extend(std::iter::repeat_n(b'x', piece));
            assert!(budget.used() >= body.bytes().len() - FREE);
            assert!(budget.used() <= body.buffer().capacity() - FREE);
        }
        body.trim();
        assert_eq!(budget.used(), body.bytes().len() - FREE);
        let share = body.into_share();
        assert!(budget.used() > 0, "what was made of it still counts");
        drop(share);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_small_body_costs_nothing_even_when_nothing_is_left() {
        let budget = Budget::new(10);
        Share::of(&budget).grow(10, None).unwrap();
        let mut body = Body::new(&budget);
        assert_eq!(body.make_room(FREE, BodySize::AtMost(1 << 20), soon()), Ok(()));
        assert_eq!(body.make_room(1000, BodySize::Known(FREE), soon()), Ok(()), "no more can come");
    }

    #[test]
    fn a_body_of_known_length_takes_its_share_at_once_and_one_that_grows_does_not_wait_for_more() {
        let budget = Budget::new(100_000);
        let mut known = Body::new(&budget);
        known.make_room(1, BodySize::Known(FREE + 60_000), soon()).unwrap();
        assert_eq!(budget.used(), 60_000);
        let mut growing = Body::new(&budget);
        growing.make_room(FREE + 30_000, BodySize::AtMost(1 << 20), soon()).unwrap();
        growing.buffer().extend(std::iter::repeat_n(b'x', FREE + 30_000));
        let more = growing.make_room(30_000, BodySize::AtMost(1 << 20), soon());
        assert_eq!(more, Err(Full::ForNow));
    }
}

#[cfg(all(test, feature = "interleavings"))]
mod interleavings {
    //! No timeout passes in these tests: a waiter waits until there is room.

    use super::*;
    use shuttle::thread;
    use std::time::Duration;

    #[test]
    fn no_more_is_taken_than_there_is_and_whoever_waits_comes_to_their_turn() {
        let test = || {
            let budget = Budget::new(10);
            let bodies: Vec<_> = [3, 5, 7, 10]
                .map(|bytes| {
                    let budget = budget.clone();
                    thread::spawn(move || {
                        let late = Instant::now() + Duration::from_secs(3600);
                        let mut share = Share::of(&budget);
                        assert_eq!(share.grow(bytes, Some(late)), Ok(()));
                        assert!(budget.used() <= 10);
                        share.shrink(1);
                    })
                })
                .into_iter()
                .collect();
            bodies.into_iter().for_each(|body| body.join().unwrap());
            assert_eq!(budget.used(), 0);
        };
        shuttle::check_random(test, 2_000);
        shuttle::check_pct(test, 2_000, 3);
    }
}
