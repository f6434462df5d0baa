//! One request and its answer, shared by the connection's thread and the thread that answers.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::socket::{ClientSocket, Signal, Stopped};
use super::websocket::outgoing::Outgoing;
use super::{Head, Shared};
use crate::budget::Body;
use crate::sync::Bell;

/// An interim answer, which every client must skip (RFC 9110, 15.2). Writing it finds out whether a
/// client that has ended its side is still there: if not, its machine answers with a reset.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeEnd {
    /// The whole answer has been written.
    Complete,
    /// The exchange ended before any of the answer was written.
    Silent,
    /// The answer ended before it was complete.
    Cut,
    /// The client has gone, or all connections are being closed.
    Gone,
}

/// The exchange is not over, and its connection's thread need not be told when it is.
const UNDER_WAY: u8 = 0;
/// The connection's thread waits for the exchange to be over.
const AWAITED: u8 = 1;
/// The [`AnswerTurn`] has been dropped.
const OVER: u8 = 2;

/// One request and its answer.
pub struct Exchange {
    /// Unique within this process.
    pub id: u64,
    /// The client's head.
    pub head: Head,
    /// The client's own `x-request-id` if it is fit for logs and headers, else a new one.
    pub request_id: String,
    /// The client's address, for logs; `unix` if it came over a Unix socket.
    pub peer: String,
    /// When the request was let in: after its head was read, before its body.
    pub accepted: Instant,
    /// The body, until [`Exchange::take_body`] takes it.
    body: Mutex<Option<Body>>,
    client: Arc<ClientSocket>,
    /// The WebSocket that the request came on as a message: its id, and its sending side.
    socket: Option<(u64, Arc<Outgoing>)>,
    /// True once the answer has begun. [`OpenExchange::probe`] holds the lock while it writes, so
    /// that its bytes precede the answer.
    begun: Mutex<bool>,
    /// True if the answer's head tells the length of its body, by which the client sees for itself if it is cut.
    tells_length: AtomicBool,
    shared: Arc<Shared>,
    /// Rung when the client has ended its side or gone.
    bell: Arc<Bell>,
    half_closed: AtomicBool,
    /// True once somebody has taken the exchange to answer it.
    taken: AtomicBool,
    finished: AtomicBool,
    last: AtomicBool,
    gone: AtomicBool,
    /// [`UNDER_WAY`], [`AWAITED`] or [`OVER`].
    stage: AtomicU8,
    /// Raised when the exchange is over, if its connection's thread has to act on that at once.
    over: Arc<Signal>,
}

impl Exchange {
    /// The bell of the thread that answers. It is rung when one of the following has become true; whatever
    /// else that thread waits for may ring it too.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// True if the client has gone, and nobody reads the answer any more.
    pub fn client_has_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// True if the client will send nothing more. It may still read or have gone: only a write finds out.
    pub fn client_has_half_closed(&self) -> bool {
        self.half_closed.load(Ordering::Acquire)
    }

    /// Takes the exchange to answer it; `None` if it is already taken. Dropping the turn ends the
    /// exchange.
    pub fn take(self: &Arc<Exchange>) -> Option<AnswerTurn> {
        let is_first = !self.taken.swap(true, Ordering::AcqRel);
        is_first.then(|| AnswerTurn(self.clone()))
    }

    /// True if somebody has taken the exchange.
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes the request's body; empty if it was taken before.
    pub fn take_body(&self) -> Body {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.take().unwrap_or_else(|| Vec::new().into())
    }

    /// The id of the WebSocket on which the request came as a message, and on which the answer goes as
    /// messages; `None` for a request of its own. Unique within this process.
    pub fn socket(&self) -> Option<u64> {
        self.socket.as_ref().map(|(id, _)| *id)
    }

    /// Writes all of `bytes` to the client; on a WebSocket they must be whole frames. Waits for a slow client,
    /// but not for one that has stopped reading.
    ///
    /// # Errors
    /// The client has gone or reads nothing, or all connections are being closed.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if !std::mem::replace(&mut *self.begun(), true) && self.is_cut_unseen() {
            // From here on part of an answer may have been written. If the connection ends, even by a
            // panic, a reset keeps the client from taking that part for the whole.
            self.client.reset_on_close(true);
        }
        let written = match &self.socket {
            Some((_, outgoing)) => outgoing.send(bytes, &self.shared),
            None => {
                let stall = self.shared.limits.write_stall;
                self.client.write_paced(bytes, stall, &self.shared.close)
            }
        };
        written.map_err(|stopped| match stopped {
            Stopped::Late => io::ErrorKind::TimedOut.into(),
            Stopped::Gone => io::ErrorKind::BrokenPipe.into(),
        })
    }

    /// Notes that the answer's head tells the length of its body. Call it before the first byte is written.
    pub fn tell_length(&self) {
        self.tells_length.store(true, Ordering::Relaxed);
    }

    /// True if a client could take an answer that is cut for a whole one.
    fn is_cut_unseen(&self) -> bool {
        self.socket.is_none() && !self.tells_length.load(Ordering::Relaxed)
    }

    fn begun(&self) -> MutexGuard<'_, bool> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the client's connection after this answer, even if its head announced keep-alive.
    pub fn end_connection(&self) {
        self.last.store(true, Ordering::Release);
    }

    /// Has the client read the end of the connection behind what was written.
    pub fn end_writing(&self) {
        self.client.end_writing();
    }

    /// Declares the answer complete. Call it after the last byte has been written and before the
    /// turn is dropped; an answer that ends without it is cut.
    pub fn finish(&self) {
        if *self.begun() && self.is_cut_unseen() {
            self.client.reset_on_close(false);
        }
        self.finished.store(true, Ordering::Release);
    }

    /// True if the connection goes on, so that its thread has nothing to do before the next request.
    fn ends_quietly(&self) -> bool {
        self.finished.load(Ordering::Acquire) && self.keeps_alive()
    }

    /// True if the connection can serve another request after this answer.
    pub fn keeps_alive(&self) -> bool {
        self.head.keep_alive && !self.last.load(Ordering::Acquire)
    }
}

/// The right and the duty to answer an exchange. Dropping it ends the exchange, also in a panic.
pub struct AnswerTurn(Arc<Exchange>);

impl Deref for AnswerTurn {
    type Target = Arc<Exchange>;

    fn deref(&self) -> &Arc<Exchange> {
        &self.0
    }
}

impl Drop for AnswerTurn {
    fn drop(&mut self) {
        let before = self.0.stage.swap(OVER, Ordering::AcqRel);
        if before == AWAITED || !self.0.ends_quietly() {
            self.0.over.raise();
        }
    }
}

/// A request that has been read whole, and its client.
pub(super) struct Request {
    pub head: Head,
    pub body: Body,
    pub request_id: String,
    pub peer: String,
    pub accepted: Instant,
    pub client: Arc<ClientSocket>,
    /// The WebSocket that it came on as a message: its id, and its sending side.
    pub socket: Option<(u64, Arc<Outgoing>)>,
    /// The connection's signal for the end of an exchange.
    pub over: Arc<Signal>,
}

/// The connection's side of an exchange. Dropping it tells the answering thread that the client has
/// gone.
pub struct OpenExchange {
    exchange: Arc<Exchange>,
}

impl OpenExchange {
    /// Opens an exchange for a request.
    pub(super) fn new(request: Request, shared: &Arc<Shared>) -> OpenExchange {
        let exchange = Arc::new(Exchange {
            id: shared.next_id(),
            head: request.head,
            request_id: request.request_id,
            peer: request.peer,
            accepted: request.accepted,
            body: Mutex::new(Some(request.body)),
            client: request.client,
            socket: request.socket,
            begun: Mutex::new(false),
            tells_length: AtomicBool::new(false),
            shared: shared.clone(),
            bell: Arc::default(),
            half_closed: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            last: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            stage: AtomicU8::new(UNDER_WAY),
            over: request.over,
        });
        OpenExchange { exchange }
    }

    /// The signal that is raised when the exchange is over, if that [is awaited](OpenExchange::await_over) or
    /// the connection ends with it. It may be raised still for an earlier exchange.
    pub(super) fn over(&self) -> &Signal {
        &self.exchange.over
    }

    /// True once the [`AnswerTurn`] has been dropped.
    pub fn is_over(&self) -> bool {
        self.exchange.stage.load(Ordering::Acquire) == OVER
    }

    /// Has the signal raised when the exchange is over; false if it is over already.
    pub fn await_over(&self) -> bool {
        let stage = &self.exchange.stage;
        stage.fetch_max(AWAITED, Ordering::AcqRel) != OVER
    }

    /// Returns how the exchange ended; meaningful only once its turn has been dropped.
    pub fn end(&self) -> ExchangeEnd {
        match (*self.exchange.begun(), self.exchange.finished.load(Ordering::Acquire)) {
            // A message of a WebSocket may want no answer.
            (_, true) => ExchangeEnd::Complete,
            (true, false) => ExchangeEnd::Cut,
            (false, false) => ExchangeEnd::Silent,
        }
    }

    /// Tests by a write whether a client that has ended its side is still there: here before the
    /// answer has begun, later by the answer itself. False if the client has gone. If this write
    /// cannot tell yet, the client's reset of the connection does.
    pub fn probe(&self) -> bool {
        // Whoever holds the lock is about to write, which tests the client as well.
        let Ok(begun) = self.exchange.begun.try_lock() else { return true };
        let mute = *begun || self.exchange.head.minor_version == 0;
        mute || self.exchange.client.write(PROBE) == Ok(PROBE.len())
    }

    /// Tells the answering thread that the client has ended its sending side.
    pub fn tell_half_closed(&self) {
        self.exchange.half_closed.store(true, Ordering::Release);
        self.exchange.bell.ring();
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
        // Whoever has answered does something else by now.
        if !self.is_over() {
            self.exchange.gone.store(true, Ordering::Release);
            self.exchange.bell.ring();
        }
        self.exchange.shared.gate.forget(&self.exchange);
    }
}
