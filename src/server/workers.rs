//! The threads that tiny_http hands requests to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::service::Service;
use crate::answer::Answer;
use crate::completions::Record;
use crate::error::Error;
use crate::front::{BodyLength, Exchanges, Head};
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
    http: tiny_http::Server,
    exchanges: Arc<Exchanges>,
    service: Arc<Service>,
    most: usize,
    count: Mutex<Count>,
    writers: Arc<Pool>,
}

#[derive(Default)]
struct Count {
    threads: usize,
    /// Requests that have or will have a worker.
    busy: usize,
    /// Requests under way.
    permits: usize,
}

/// The right to be worked on, and to a worker, so that no request waits for one in a queue. Held by the
/// exchange until both of its sides have dropped it.
pub struct Permit {
    workers: Arc<Workers>,
    has_worker: AtomicBool,
}

impl Permit {
    /// The worker can take another request.
    fn let_worker_go(&self) {
        if self.has_worker.swap(false, Ordering::Relaxed) {
            let mut count = self.workers.count();
            count.busy -= 1;
            self.workers.note(&count);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.let_worker_go();
        self.workers.count().permits -= 1;
    }
}

impl Workers {
    /// Workers for the requests that `http` accepts, at most `most` at once. When a burst of them is over,
    /// `after_burst` is called.
    pub fn new(
        http: tiny_http::Server,
        exchanges: Arc<Exchanges>,
        service: Arc<Service>,
        most: usize,
        after_burst: fn(),
    ) -> Arc<Workers> {
        let writers = Pool::new("writer", STACK, WRITER_IDLE, after_burst);
        Arc::new(Workers { http, exchanges, service, most, count: Mutex::default(), writers })
    }

    /// What they answer from.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Requests under way.
    pub fn requests(&self) -> usize {
        self.count().permits
    }

    /// How long a request has waited to be taken, if any waits.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.exchanges.longest_wait()
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit for one request; a thread is started if all are busy.
    ///
    /// # Errors
    /// All permits are taken, or no thread can be made.
    pub fn permit(workers: &Arc<Workers>) -> Result<Permit, Error> {
        let mut count = workers.count();
        if count.permits >= workers.most {
            return Err(Error::Overloaded(format!("{} requests are under way", workers.most)));
        }
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
        Ok(Permit { workers: workers.clone(), has_worker: AtomicBool::new(true) })
    }

    fn note(&self, count: &Count) {
        self.service.vitals.note_workers(count.threads, count.busy);
    }

    /// A worker's life.
    fn work(&self) {
        loop {
            let spare = match self.http.recv_timeout(WORKER_IDLE) {
                Ok(Some(request)) => {
                    // The panic itself is reported where it happens; here it ends one request.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.answer(request)));
                    MOST_SPARE
                }
                Ok(None) => 0,
                Err(error) => {
                    // Its accept loop has ended, for good: nobody would be answered any more.
                    log::error!("tiny_http accepts no more ({error}); ending, to be started anew");
                    std::process::exit(1);
                }
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

    fn answer(&self, mut request: tiny_http::Request) {
        let id = request.headers().iter().find(|header| header.field.equiv("X-Exchange"));
        let id = id.and_then(|header| header.value.as_str().parse().ok());
        let Some(exchange) = id.and_then(|id| self.exchanges.take(id)) else {
            // The client has gone already.
            return;
        };
        let _lines = logger::concerning(&exchange.request_id);
        // The writer drops the reader: the body comes first.
        let body = read_body(&mut request, &exchange.head);
        // Nothing is written to it: the exchange has the client's own socket, which spares each token
        // a hop. But the private connection, which lasts as long, tells `front` how long that is.
        let until_answered = request.into_writer();
        let mut answer = Answer::new(exchange.clone());
        let mut record = Record::default();
        self.service.vitals.note_received(body.as_ref().map_or(0, Vec::len));
        let begun = body.and_then(|body| self.service.answer(&body, &mut answer, &mut record));
        let service = self.service.clone();
        match begun {
            Ok(None) => service.finish(answer, &record, Ok(()), until_answered),
            Err(error) => service.finish(answer, &record, Err(error), until_answered),
            Ok(Some((reply, under_way))) => self.writers.run(Box::new(move || {
                let _lines = logger::concerning(&answer.exchange().request_id);
                let (record, result) = reply.write(&mut answer);
                drop(under_way);
                service.finish(answer, &record, result, until_answered);
            })),
        }
        if let Some(permit) = exchange.permit().downcast_ref::<Permit>() {
            permit.let_worker_go();
        }
    }
}

fn read_body(request: &mut tiny_http::Request, head: &Head) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    if head.body != BodyLength::Known(0) {
        body.reserve_exact(request.body_length().unwrap_or(0));
        request.as_reader().read_to_end(&mut body).map_err(|_| Error::ClientGone)?;
    }
    Ok(body)
}
