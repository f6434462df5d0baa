//! An exchange: one request and its answer, as the front and the worker share it.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::socket::{ClientSocket, Signal, Stopped};
use super::{Head, Shared};
use crate::budget::Body;
use crate::error::Error;

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
pub enum ExchangeEnd {
    /// The client has the whole answer.
    Complete,
    /// Nobody gave an answer; the client has been sent nothing.
    Silent,
    /// The answer ended too soon.
    Cut,
    /// The client has gone, or has to go: all connections are being closed.
    Gone,
}

/// One request and its answer.
pub struct Exchange {
    /// Tells it from all others of this process.
    pub id: u64,
    /// The client's head.
    pub head: Head,
    /// The client's own `x-request-id` if it is sane, else a new one.
    pub request_id: String,
    /// The client's address, for logs; `unix` if it came over a Unix socket.
    pub peer: String,
    /// When the request was let in: its head had been read, its body had not.
    pub accepted: Instant,
    /// Until it is taken.
    body: Mutex<Option<Body>>,
    client: Arc<ClientSocket>,
    /// Whether the client has been sent any of the answer; held while it is written to.
    begun: Mutex<bool>,
    shared: Arc<Shared>,
    news: Receiver<ClientNews>,
    /// Whether somebody has taken it, to answer it.
    taken: AtomicBool,
    finished: AtomicBool,
    last: AtomicBool,
    gone: AtomicBool,
    /// Raised when who has taken it is done.
    over: Signal,
}

impl Exchange {
    /// Whether the client has gone, for those who cannot wait for its news.
    pub fn client_has_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Takes the exchange, to answer it; `None` if somebody has done so before. The exchange is over
    /// when the turn is dropped.
    pub fn take(self: &Arc<Exchange>) -> Option<Turn> {
        let is_first = !self.taken.swap(true, Ordering::AcqRel);
        is_first.then(|| Turn(self.clone()))
    }

    /// Whether somebody has taken it.
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes the request's body; an empty one if it has been taken before.
    pub fn take_body(&self) -> Body {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.take().unwrap_or_else(|| Vec::new().into())
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
    pub fn news(&self) -> &Receiver<ClientNews> {
        &self.news
    }

    /// Asks the front to end the client's connection behind this answer, whatever its head says.
    pub fn end_connection(&self) {
        self.last.store(true, Ordering::Release);
    }

    /// Tells the front that the answer is complete. To be called after its last byte has been
    /// written and before the turn is dropped; an answer that ends without it is cut.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }
}

/// The right, and the duty, to answer an exchange. Dropping it, also by a panic, ends the exchange.
pub struct Turn(Arc<Exchange>);

impl Deref for Turn {
    type Target = Arc<Exchange>;

    fn deref(&self) -> &Arc<Exchange> {
        &self.0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.over.raise();
    }
}

/// A request that has been read, and who sent it.
pub(super) struct Request {
    pub head: Head,
    pub body: Body,
    pub request_id: String,
    pub peer: String,
    pub accepted: Instant,
    pub client: Arc<ClientSocket>,
}

/// The front's side of an exchange. Dropping it tells who answers that the client has gone.
pub struct OpenExchange {
    exchange: Arc<Exchange>,
    client: Sender<ClientNews>,
}

impl OpenExchange {
    /// Opens an exchange.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn new(request: Request, shared: &Arc<Shared>) -> Result<OpenExchange, Error> {
        let over = Signal::new().map_err(|error| {
            Error::Overloaded(format!("no more requests can be taken at the moment ({error})"))
        })?;
        let (client, news) = bounded(1);
        let exchange = Arc::new(Exchange {
            id: shared.next_id(),
            head: request.head,
            request_id: request.request_id,
            peer: request.peer,
            accepted: request.accepted,
            body: Mutex::new(Some(request.body)),
            client: request.client,
            begun: Mutex::new(false),
            shared: shared.clone(),
            news,
            taken: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            last: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            over,
        });
        Ok(OpenExchange { exchange, client })
    }

    /// Raised once who has taken the exchange is done.
    pub(super) fn over(&self) -> &Signal {
        &self.exchange.over
    }

    /// Whether the connection can serve another request behind this answer.
    pub fn keeps_alive(&self) -> bool {
        self.exchange.head.keep_alive && !self.exchange.last.load(Ordering::Acquire)
    }

    /// How the answer stands, once the exchange is over.
    pub fn end(&self) -> ExchangeEnd {
        match (*self.exchange.begun(), self.exchange.finished.load(Ordering::Acquire)) {
            (true, true) => ExchangeEnd::Complete,
            (true, false) => ExchangeEnd::Cut,
            (false, _) => ExchangeEnd::Silent,
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
    type Target = Arc<Exchange>;

    fn deref(&self) -> &Arc<Exchange> {
        &self.exchange
    }
}

impl Drop for OpenExchange {
    fn drop(&mut self) {
        self.exchange.gone.store(true, Ordering::Release);
        self.exchange.shared.gate.forget(&self.exchange);
    }
}
