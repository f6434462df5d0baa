//! The threads that tiny_http hands requests to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::service::Service;
use super::tickets::Tickets;
use crate::answer::Answer;
use crate::completions::Record;
use crate::error::Error;
use crate::front::Turn;
use crate::logger;
use crate::pool::Pool;

/// A worker that has had nothing to do for this long ends, if it is not needed: of all threads it has
/// touched the most of its stack.
const WORKER_IDLE: Duration = Duration::from_secs(1);
/// A writer too. Longer, so that when the last of a burst ends, and memory is given back, the workers'
/// has become free.
const WRITER_IDLE: Duration = Duration::from_secs(10);
/// When more than so many have nothing to do, those that have just got free end at once.
const MOST_SPARE: usize = 32;
/// Workers that stay.
const LEAST_WORKERS: usize = 1;
/// How long a request waits for a permit: one whose client has just got its last byte becomes free in a
/// moment, and that client may go on at once.
const PERMIT_WITHIN: Duration = Duration::from_millis(250);
/// A thread's stack: enough for a TLS handshake and for JSON as deep as serde_json reads it, also
/// without optimisation; only what is touched takes memory. As for `front`'s threads, the larger it is,
/// the fewer does glibc keep of those that have ended.
const STACK: usize = 2 * 1024 * 1024;

/// The worker threads: as many as there are requests that have not got their runs yet, kept a while for
/// the next ones.
///
/// Starting a run goes deep into HTTP and TLS, and the stack that this has touched stays the thread's.
/// So the answers, which may take minutes, are written by threads of their own, which stay small.
pub struct Workers {
    tickets: Arc<Tickets>,
    service: Arc<Service>,
    most: usize,
    count: Mutex<Count>,
    /// Told when a permit has been given back and somebody waits for one.
    freed: Condvar,
    writers: Arc<Pool>,
}

#[derive(Default)]
struct Count {
    threads: usize,
    /// Requests that have or will have a worker.
    busy: usize,
    /// Requests under way.
    permits: usize,
    /// Requests that wait for a permit.
    waiting: usize,
}

/// The right to be worked on, and to a worker, so that no request waits for one in a queue. Held by who
/// answers, until the answer has been written.
pub struct Permit {
    workers: Arc<Workers>,
    has_worker: bool,
}

impl Permit {
    /// The worker can take another request.
    fn let_worker_go(&mut self) {
        if std::mem::take(&mut self.has_worker) {
            let mut count = self.workers.count();
            count.busy -= 1;
            self.workers.note(&count);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.let_worker_go();
        let mut count = self.workers.count();
        count.permits -= 1;
        if count.waiting > 0 {
            self.workers.freed.notify_one();
        }
    }
}

impl Workers {
    /// Workers for the requests of these tickets, of which `most` are worked on at once. `after_burst`
    /// is called when many threads have ended.
    pub fn new(
        tickets: Arc<Tickets>,
        service: Arc<Service>,
        most: usize,
        after_burst: fn(),
    ) -> Arc<Workers> {
        let writers = Pool::new("writer", STACK, WRITER_IDLE, after_burst);
        let (count, freed) = (Mutex::default(), Condvar::new());
        Arc::new(Workers { tickets, service, most, count, freed, writers })
    }

    /// What they answer from.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Requests under way.
    pub fn requests(&self) -> usize {
        self.count().permits
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit for one request; a thread is started if all are busy. Waits a moment if all permits
    /// are taken.
    ///
    /// # Errors
    /// All permits are taken, or no thread can be made.
    pub fn permit(workers: &Arc<Workers>) -> Result<Permit, Error> {
        let mut count = workers.wait_for_permit(workers.count())?;
        if count.threads <= count.busy {
            let own = workers.clone();
            std::thread::Builder::new()
                .name("worker".to_owned())
                .stack_size(STACK)
                .spawn(move || own.work())
                .map_err(|e| Error::Overloaded(format!("no thread can be made ({e})")))?;
            count.threads += 1;
        }
        count.permits += 1;
        count.busy += 1;
        workers.note(&count);
        Ok(Permit { workers: workers.clone(), has_worker: true })
    }

    fn wait_for_permit<'a>(
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

    fn note(&self, count: &Count) {
        self.service.vitals.note_workers(count.threads, count.busy);
    }

    /// A worker's life.
    fn work(&self) {
        loop {
            let spare = match self.tickets.line().next(WORKER_IDLE) {
                Ok(Some(ticket)) => {
                    // The panic itself is reported where it happens; here it ends one request.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.work_on(ticket)));
                    MOST_SPARE
                }
                Ok(None) | Err(_) => 0,
            };
            if self.leave(spare) {
                return;
            }
        }
    }

    /// Takes a worker off the count if more than `spare` have nothing to do: true if it is to end.
    fn leave(&self, spare: usize) -> bool {
        let mut count = self.count();
        let leaves = count.threads > (count.busy + spare).max(LEAST_WORKERS);
        if leaves {
            count.threads -= 1;
            self.note(&count);
        }
        leaves
    }

    fn work_on(&self, ticket: u64) {
        // The client may have gone already.
        if let Some((turn, permit)) = self.tickets.call(ticket) {
            self.answer(turn, permit);
        }
    }

    fn answer(&self, turn: Turn, mut permit: Permit) {
        let _lines = logger::concerning(&turn.request_id);
        let body = turn.take_body();
        self.service.vitals.note_received(body.bytes().len());
        let mut answer = Answer::new(turn);
        let mut record = Record::default();
        let begun = self.service.answer(body, &mut answer, &mut record);
        let service = self.service.clone();
        match begun {
            Ok(None) => service.finish(answer, &record, Ok(()), permit),
            Err(error) => service.finish(answer, &record, Err(error), permit),
            Ok(Some((reply, under_way))) => {
                permit.let_worker_go();
                self.writers.run(Box::new(move || {
                    let _lines = logger::concerning(&answer.exchange().request_id);
                    let (record, result) = reply.write(&mut answer);
                    drop(under_way);
                    service.finish(answer, &record, result, permit);
                }));
            }
        }
    }
}
