//! The threads that tiny_http hands requests to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::permits::{Permit, Permits};
use super::service::Service;
use super::tickets::Tickets;
use crate::completions::Record;
use crate::error::Error;
use crate::http::Turn;
use crate::http::answer::Answer;
use crate::observe::logger;
use crate::server::pool::Pool;

/// A worker that has had nothing to do for this long ends, if it is not needed: of all threads it has
/// touched the most of its stack.
const WORKER_IDLE: Duration = Duration::from_secs(1);
/// A writer too. Longer, so that when the last of a burst ends, and memory is given back, the workers'
/// has become free.
const WRITER_IDLE: Duration = Duration::from_secs(10);
/// When more than so many have nothing to do, those that have just got free end at once.
const MOST_SPARE: usize = 32;
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
    permits: Arc<Permits>,
    writers: Arc<Pool>,
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
        let vitals = service.vitals.clone();
        let permits = Permits::new(most, move |threads, busy| vitals.note_workers(threads, busy));
        Arc::new(Workers { tickets, service, permits, writers })
    }

    /// What they answer from.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Requests under way.
    pub fn requests(&self) -> usize {
        self.permits.taken()
    }

    /// A permit for one request, and a worker for it.
    ///
    /// # Errors
    /// All permits are taken, or no thread can be made.
    pub fn permit(workers: &Arc<Workers>) -> Result<Permit, Error> {
        workers.permits.take(|| {
            let own = workers.clone();
            let thread = std::thread::Builder::new().name("worker".to_owned()).stack_size(STACK);
            thread.spawn(move || own.work()).map(drop)
        })
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
            if self.permits.may_end(spare) {
                return;
            }
        }
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
