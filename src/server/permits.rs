//! The limit on requests under way, and the number of worker threads that they need.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Longest wait of a request for a permit. A client that has just read its last byte may send the
/// next request before the permit of the previous one is given back.
const PERMIT_WITHIN: Duration = Duration::from_millis(250);
/// Workers that stay when there is nothing to do.
const LEAST_WORKERS: usize = 1;

/// Permits for requests under way, and the count of worker threads for them.
pub struct Permits {
    most: usize,
    count: Mutex<Count>,
    /// Notified when a permit is given back while somebody waits for one.
    freed: Condvar,
    /// Called with the numbers of threads and of busy ones whenever one of them changes.
    note: Box<dyn Fn(usize, usize) + Send + Sync>,
}

#[derive(Default)]
struct Count {
    threads: usize,
    /// Requests that occupy or will occupy a worker.
    busy: usize,
    /// Requests under way, including those whose answer is being written.
    permits: usize,
    /// Requests that are waiting for a permit.
    waiting: usize,
}

/// The permission to work on one request, with a worker for it, so that it never queues for a
/// worker. Held until the answer has been written; dropping it gives both back.
pub struct Permit {
    permits: Arc<Permits>,
    has_worker: bool,
}

impl Permit {
    /// Releases the worker for another request; the permit stays.
    pub fn let_worker_go(&mut self) {
        if std::mem::take(&mut self.has_worker) {
            let mut count = self.permits.count();
            count.busy -= 1;
            self.permits.note(&count);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.let_worker_go();
        let mut count = self.permits.count();
        count.permits -= 1;
        if count.waiting > 0 {
            self.permits.freed.notify_one();
        }
    }
}

impl Permits {
    /// Creates permits for `most` requests at the same time, at least one. `note` is called with
    /// the numbers of threads and of busy ones whenever one of them changes.
    pub fn new(most: usize, note: impl Fn(usize, usize) + Send + Sync + 'static) -> Arc<Permits> {
        let (count, freed) = (Mutex::default(), Condvar::new());
        Arc::new(Permits { most, count, freed, note: Box::new(note) })
    }

    /// Returns the number of permits that are taken.
    pub fn taken(&self) -> usize {
        self.count().permits
    }

    /// Returns the number of requests that occupy or will occupy a worker.
    pub fn busy(&self) -> usize {
        self.count().busy
    }

    /// Takes a permit, and calls `spawn` to start a worker if all are busy. If all permits are
    /// taken, waits a moment for one.
    ///
    /// # Errors
    /// All permits are taken, or no thread can be started.
    pub fn take(
        self: &Arc<Permits>,
        spawn: impl FnOnce() -> io::Result<()>,
    ) -> Result<Permit, Error> {
        let mut count = self.wait(self.count())?;
        if count.threads <= count.busy {
            spawn().map_err(|e| Error::Overloaded(format!("no thread can be made ({e})")))?;
            count.threads += 1;
        }
        count.permits += 1;
        count.busy += 1;
        self.note(&count);
        Ok(Permit { permits: self.clone(), has_worker: true })
    }

    fn wait<'a>(
        &'a self,
        mut count: MutexGuard<'a, Count>,
    ) -> Result<MutexGuard<'a, Count>, Error> {
        let deadline = Instant::now() + PERMIT_WITHIN;
        while count.permits >= self.most {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Overloaded(format!("{} requests are under way", self.most)));
            }
            count.waiting += 1;
            let waited = self.freed.wait_timeout(count, left);
            count = waited.unwrap_or_else(PoisonError::into_inner).0;
            count.waiting -= 1;
        }
        Ok(count)
    }

    /// Removes a worker from the count if more than `spare` are idle; true if the calling worker
    /// must end.
    pub fn may_end(&self, spare: usize) -> bool {
        let mut count = self.count();
        let ends = count.threads > (count.busy + spare).max(LEAST_WORKERS);
        if ends {
            count.threads -= 1;
            self.note(&count);
        }
        ends
    }

    fn note(&self, count: &Count) {
        (self.note)(count.threads, count.busy);
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, feature = "interleavings"))]
mod interleavings {
    //! No timeout passes in these tests: a request waits until a permit is free.

    use super::*;
    use shuttle::thread;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn check(test: impl Fn() + Send + Sync + 'static) {
        let test = Arc::new(test);
        let again = test.clone();
        shuttle::check_random(move || again(), 2_000);
        shuttle::check_pct(move || test(), 2_000, 3);
    }

    #[test]
    fn no_more_are_worked_on_than_may_be_and_whoever_waits_comes_to_their_turn() {
        check(|| {
            const MOST: usize = 2;
            let permits = Permits::new(MOST, |threads, busy| assert!(threads >= busy));
            let at_work = Arc::new(AtomicUsize::new(0));
            let requests: Vec<_> = (0..5)
                .map(|number| {
                    let (permits, at_work) = (permits.clone(), at_work.clone());
                    thread::spawn(move || {
                        let mut permit = permits.take(|| Ok(())).expect("a permit");
                        assert!(at_work.fetch_add(1, Ordering::SeqCst) < MOST);
                        thread::yield_now();
                        if number % 2 == 0 {
                            permit.let_worker_go();
                            permits.may_end(0);
                        }
                        at_work.fetch_sub(1, Ordering::SeqCst);
                    })
                })
                .collect();
            requests.into_iter().for_each(|request| request.join().unwrap());
            assert_eq!(permits.taken(), 0);
            assert_eq!(permits.count().busy, 0);
            while permits.may_end(0) {}
            assert_eq!(permits.count().threads, LEAST_WORKERS);
        });
    }

    #[test]
    fn a_thread_that_cannot_be_made_costs_no_permit() {
        check(|| {
            let permits = Permits::new(1, |_, _| {});
            let failing = permits.clone();
            let failed = thread::spawn(move || {
                failing.take(|| Err(io::ErrorKind::OutOfMemory.into())).err().is_some()
            });
            drop(permits.take(|| Ok(())).expect("a permit"));
            failed.join().unwrap();
            assert_eq!(permits.taken(), 0);
        });
    }
}
