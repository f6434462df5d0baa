//! An exchange: one request and its answer, as the front and the worker share it.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::socket::{Socket, Stopped};
use super::{Head, Shared};

/// A 1xx answer that a client must read over (RFC 9110, 15.2); one that has gone resets instead.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the front has seen of a client during its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientNews {
    /// The client will send nothing more. It may still read, or it may have gone: writing something
    /// finds out. Told once.
    HalfClosed,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client has the whole answer.
    Complete,
    /// No worker gave an answer; the client has been sent nothing.
    Silent,
    /// The answer ended too soon.
    Cut,
    /// The client has gone, or has to go: all connections are being closed.
    Gone,
}

/// One request and its answer.
pub struct Exchange {
    /// What the header `X-Exchange` of the private request holds.
    pub id: u64,
    /// The client's head.
    pub head: Head,
    /// The client's own `x-request-id` if it is sane, else a new one.
    pub request_id: String,
    /// The client's address, for logs; `unix` if it came over a Unix socket.
    pub peer: String,
    /// When the request was let in: its head had been read, its body had not.
    pub accepted: Instant,
    /// When a worker could have taken it at the earliest.
    opened: Instant,
    client: Arc<Socket>,
    /// Whether the client has been sent any of the answer; held while it is written to.
    begun: Mutex<bool>,
    shared: Arc<Shared>,
    permit: Box<dyn Any + Send + Sync>,
    news: Receiver<ClientNews>,
    finished: AtomicBool,
    last: AtomicBool,
    gone: AtomicBool,
}

impl Exchange {
    /// Whether the client has gone, for those who cannot wait for its news.
    pub fn client_has_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// What the [`Gate`](super::Gate) gave for it.
    pub fn permit(&self) -> &(dyn Any + Send + Sync) {
        &*self.permit
    }

    /// Writes a part of the answer to the client, all of it; waits for a client that is slow, but not
    /// for one that takes no more.
    ///
    /// # Errors
    /// When the client has gone, takes nothing, or all connections are being closed.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        *self.begun() = true;
        let written =
            self.client.write_paced(bytes, self.shared.limits.write_stall, &self.shared.close);
        written.map_err(|stopped| match stopped {
            Stopped::Late => io::ErrorKind::TimedOut.into(),
            Stopped::Gone => io::ErrorKind::BrokenPipe.into(),
        })
    }

    fn begun(&self) -> MutexGuard<'_, bool> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// News of the client. Disconnected means that it has gone: nobody reads the answer any more.
    pub fn client(&self) -> &Receiver<ClientNews> {
        &self.news
    }

    /// Asks the front to end the client's connection behind this answer, whatever its head says.
    pub fn end_connection(&self) {
        self.last.store(true, Ordering::Release);
    }

    /// Tells the front that the answer is complete. To be called after its last byte has been
    /// written and before the private connection is closed; an answer that ends without it is cut.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }
}

/// A request that has been read, and who sent it.
pub(super) struct Request {
    pub head: Head,
    pub request_id: String,
    pub peer: String,
    pub accepted: Instant,
    pub client: Arc<Socket>,
    pub shared: Arc<Shared>,
    pub permit: Box<dyn Any + Send + Sync>,
}

/// The exchanges that wait for their worker.
#[derive(Default)]
pub struct Exchanges {
    last_id: AtomicU64,
    waiting: Mutex<HashMap<u64, Arc<Exchange>>>,
}

impl Exchanges {
    /// Hands over the exchange that a private request names in `X-Exchange`; each only once. None if
    /// its client has left already: then there is nothing to do.
    pub fn take(&self, id: u64) -> Option<Arc<Exchange>> {
        self.waiting().remove(&id)
    }

    /// How long the oldest exchange has been waiting for its worker. There is one for each: waiting
    /// for long means that the way to them is blocked.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.waiting().values().map(|exchange| exchange.opened.elapsed()).max()
    }

    /// Opens an exchange; a worker can take it as soon as it is told the id.
    pub(super) fn open(self: &Arc<Exchanges>, request: Request) -> OpenExchange {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (client, news) = bounded(1);
        let exchange = Arc::new(Exchange {
            id,
            head: request.head,
            request_id: request.request_id,
            peer: request.peer,
            accepted: request.accepted,
            opened: Instant::now(),
            client: request.client,
            begun: Mutex::new(false),
            shared: request.shared,
            permit: request.permit,
            news,
            finished: AtomicBool::new(false),
            last: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        self.waiting().insert(id, exchange.clone());
        OpenExchange { exchanges: self.clone(), exchange, client }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Arc<Exchange>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The front's side of an exchange. Dropping it tells the worker that the client has gone.
pub struct OpenExchange {
    exchanges: Arc<Exchanges>,
    exchange: Arc<Exchange>,
    client: Sender<ClientNews>,
}

impl OpenExchange {
    /// Whether the connection can serve another request behind this answer.
    pub fn keeps_alive(&self) -> bool {
        self.exchange.head.keep_alive && !self.exchange.last.load(Ordering::Acquire)
    }

    /// How the answer stands, once its worker is done.
    pub fn end(&self) -> End {
        match (*self.exchange.begun(), self.exchange.finished.load(Ordering::Acquire)) {
            (true, true) => End::Complete,
            (true, false) => End::Cut,
            (false, _) => End::Silent,
        }
    }

    /// Finds out whether a client that has ended its side is still there: by writing to it, here while
    /// there is no answer yet, by the worker in the middle of one. False if it has gone; a client that
    /// is found out later resets the connection.
    pub fn probe(&self) -> bool {
        // Who holds the lock is writing.
        let Ok(begun) = self.exchange.begun.try_lock() else { return true };
        let mute = *begun || self.exchange.head.minor_version == 0;
        mute || self.exchange.client.write(PROBE) == Ok(PROBE.len())
    }

    /// Passes news on. Never waits: there is only one piece of news, and the channel has room for it.
    pub fn tell(&self, news: ClientNews) {
        let _ = self.client.try_send(news);
    }
}

impl Deref for OpenExchange {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        &self.exchange
    }
}

impl Drop for OpenExchange {
    fn drop(&mut self) {
        self.exchange.gone.store(true, Ordering::Release);
        self.exchanges.waiting().remove(&self.exchange.id);
    }
}
