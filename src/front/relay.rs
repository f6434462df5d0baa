//! The relay: passes one request to the private socket and its answer to the client, byte for byte,
//! and watches whether the client is still there.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::exchange::{ClientNews, OpenExchange};
use super::socket::{Signal, Socket, wait};

/// Bytes that are read from the private socket and written to the client at a time.
const PIECE: usize = 4 * 1024;

/// A 1xx answer that a client must read over (RFC 9110, 15.2); one that has gone resets instead.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const LOST: PollFlags = PollFlags::ERR.union(PollFlags::HUP).union(PollFlags::NVAL);

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The whole answer has been relayed.
    Complete,
    /// No worker gave an answer; nothing has been relayed.
    Silent,
    /// The answer ended too soon.
    Cut,
    /// The client has gone, or has to go: it takes nothing, or all connections are being closed.
    Gone,
}

/// What an exchange runs between.
pub struct Sides<'a> {
    pub client: &'a Socket,
    pub backend: &'a Socket,
    pub exchange: &'a OpenExchange,
    /// Ends the exchange when raised.
    pub close: &'a Signal,
    /// How long the client may take for a piece of the answer.
    pub write_stall: Duration,
}

pub struct Relay<'a> {
    sides: Sides<'a>,
    /// All that the private socket is to be sent, and how much of it has been.
    request: Vec<u8>,
    sent: usize,
    /// The part of the answer that is being passed on.
    piece: Vec<u8>,
    /// Whether the client has had any of the answer.
    relayed: bool,
    /// Whether the client has ended its side.
    half_closed: bool,
}

impl Relay<'_> {
    pub fn new(sides: Sides<'_>, request: Vec<u8>) -> Relay<'_> {
        let piece = Vec::with_capacity(PIECE);
        Relay { sides, request, sent: 0, piece, relayed: false, half_closed: false }
    }

    /// Runs the exchange to its end. Nothing is read from the client: what it still sends is its next
    /// request's.
    pub fn run(mut self) -> End {
        loop {
            let (client, backend) = self.wait();
            if client.intersects(LOST) {
                return End::Gone;
            }
            if client.contains(PollFlags::RDHUP) && !self.probe() {
                return End::Gone;
            }
            if backend.contains(PollFlags::OUT) {
                self.pass_request_on();
            }
            if backend.intersects(PollFlags::IN | LOST) {
                if let Some(end) = self.pass_answer_on() {
                    return end;
                }
            }
        }
    }

    /// Waits for news, and tells what there is of the client and of the private socket.
    fn wait(&self) -> (PollFlags, PollFlags) {
        // That the client is lost is reported unasked.
        let client = if self.half_closed { PollFlags::empty() } else { PollFlags::RDHUP };
        let out = if self.request.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut fds = [
            PollFd::new(self.sides.client, client),
            PollFd::new(self.sides.backend, PollFlags::IN | out),
            self.sides.close.poll_fd(),
        ];
        if !wait(&mut fds, None) || !fds[2].revents().is_empty() {
            return (LOST, PollFlags::empty());
        }
        (fds[0].revents(), fds[1].revents())
    }

    /// A client that ends its side may still want the answer, or may have gone. Writing finds out:
    /// here while there is no answer yet, by the worker in the middle of one. False if it is found
    /// out at once; else the next wait tells.
    fn probe(&mut self) -> bool {
        self.half_closed = true;
        self.sides.exchange.tell(ClientNews::HalfClosed);
        self.relayed || self.sides.exchange.head.minor_version == 0 || self.write(PROBE)
    }

    /// Sends what the private socket takes now.
    fn pass_request_on(&mut self) {
        match self.sides.backend.write(&self.request[self.sent..]) {
            Ok(written) => self.sent += written,
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The worker reads no further; it may answer all the same.
            Err(_) => self.sent = self.request.len(),
        }
        if self.sent == self.request.len() {
            // An answer may take minutes, and a request may be large.
            (self.request, self.sent) = (Vec::new(), 0);
        }
    }

    /// Passes a piece of the answer on, or tells how the exchange has ended.
    fn pass_answer_on(&mut self) -> Option<End> {
        self.piece.clear();
        match self.sides.backend.read(&mut self.piece) {
            Err(Errno::AGAIN | Errno::INTR) => None,
            Ok(0) | Err(_) => Some(self.how_it_ended()),
            Ok(_) if !self.relayed && !self.sides.exchange.is_taken() => Some(End::Silent),
            Ok(_) => {
                self.relayed = true;
                if self.write(&self.piece) { None } else { Some(End::Gone) }
            }
        }
    }

    /// Writes to the client; false if it has gone or does not take it.
    fn write(&self, bytes: &[u8]) -> bool {
        let deadline = Instant::now() + self.sides.write_stall;
        self.sides.client.write_by(bytes, deadline, self.sides.close).is_ok()
    }

    fn how_it_ended(&self) -> End {
        match (self.sides.exchange.is_finished(), self.relayed) {
            (true, true) => End::Complete,
            (false, true) => End::Cut,
            (_, false) => End::Silent,
        }
    }
}
