//! The threads that take requests from tiny_http.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::permits::{Permit, Permits};
use super::service::Service;
use super::tickets::Tickets;
use crate::completions::CompletionRecord;
use crate::error::Error;
use crate::http::AnswerTurn;
use crate::http::answer::Answer;
use crate::observe::logger;
use crate::server::pool::Pool;

/// Idle time after which a worker that is not needed ends. It is short because workers touch more
/// of their stacks than any other threads.
const WORKER_IDLE: Duration = Duration::from_secs(1);
/// How long a worker waits for the beginning of an answer that is written whole, to write it itself.
const AT_ONCE: Duration = Duration::from_millis(50);
/// Idle time after which a writer ends. It is longer than the workers', so that their memory is
/// already free when the end of the last writers triggers its return.
const WRITER_IDLE: Duration = Duration::from_secs(10);
/// Most idle workers; those that become idle beyond this number end at once.
const MOST_SPARE: usize = 64;
/// Stack of a worker, in bytes: enough for a TLS handshake and for JSON as deep as
/// serde_json reads it, even in a debug build. Only touched pages take memory. glibc caches ended
/// threads' stacks up to a total size: the larger each, the fewer it caches.
const STACK: usize = 2 * 1024 * 1024;
/// Stack of a writer, in bytes. Larger than a worker's, because glibc gives an ended thread's stack, with
/// all the pages that were touched, to the next thread for which it is large enough.
const WRITER_STACK: usize = STACK + 64 * 1024;

/// The worker threads. There is one for each request whose run has not started yet; idle ones stay
/// a while for the next requests.
///
/// Starting a run goes deep into HTTP and TLS, and the stack pages that this touches stay with the
/// thread. Streams may take minutes, so they are written by other threads, the writers, which stay
/// small. A whole answer that comes at once is written by its worker: to hand it on would be a tenth of
/// what it costs.
pub struct Workers {
    tickets: Arc<Tickets>,
    service: Arc<Service>,
    permits: Arc<Permits>,
    writers: Arc<Pool>,
}

impl Workers {
    /// Creates workers for the requests of `tickets`, of which `most` are worked on at the same
    /// time. `after_burst` is called each time that half of the writers have ended.
    pub fn new(
        tickets: Arc<Tickets>,
        service: Arc<Service>,
        most: usize,
        after_burst: fn(),
    ) -> Arc<Workers> {
        let writers = Pool::new("writer", WRITER_STACK, WRITER_IDLE, after_burst);
        let vitals = service.vitals.clone();
        let permits = Permits::new(most, move |threads, busy| vitals.note_workers(threads, busy));
        Arc::new(Workers { tickets, service, permits, writers })
    }

    /// The service that answers the requests.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Returns the number of requests under way.
    pub fn requests(&self) -> usize {
        self.permits.taken()
    }

    /// Takes a permit for one request, and starts a worker if all are busy.
    ///
    /// # Errors
    /// All permits are taken, or no thread can be started.
    pub fn permit(workers: &Arc<Workers>) -> Result<Permit, Error> {
        workers.permits.take(|| {
            let own = workers.clone();
            let thread = std::thread::Builder::new().name("worker".to_owned()).stack_size(STACK);
            thread.spawn(move || own.work()).map(drop)
        })
    }

    /// Runs a worker thread: takes tickets until it is no longer needed.
    fn work(&self) {
        loop {
            let spare = match self.tickets.line().next(WORKER_IDLE) {
                Ok(Some(ticket)) => {
                    // The panic hook has reported the panic; here it ends one request.
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
        // Otherwise the client has gone already.
        if let Some((turn, permit)) = self.tickets.call(ticket) {
            self.answer(turn, permit);
        }
    }

    fn answer(&self, turn: AnswerTurn, mut permit: Permit) {
        let _lines = logger::concerning(&turn.request_id);
        let body = turn.take_body();
        self.service.vitals.note_received(body.bytes().len());
        let mut answer = Answer::new(turn);
        let mut record = CompletionRecord::default();
        let begun = self.service.answer(body, &mut answer, &mut record);
        let service = self.service.clone();
        match begun {
            Ok(None) => service.finish(answer, &record, Ok(()), permit),
            Err(error) => service.finish(answer, &record, Err(error), permit),
            Ok(Some(rest)) => {
                let is_one_of_few = self.permits.busy() <= MOST_SPARE;
                let is_there = is_one_of_few && rest.comes_whole_by(Instant::now() + AT_ONCE);
                let write = move |mut answer: Answer, permit| {
                    let _lines = logger::concerning(&answer.exchange().request_id);
                    let (record, result) = rest.write(&mut answer);
                    service.finish(answer, &record, result, permit);
                };
                if is_there {
                    return write(answer, permit);
                }
                permit.let_worker_go();
                self.writers.run(Box::new(move || write(answer, permit)));
            }
        }
    }
}
