//! The story of one WebSocket, told on its connection's thread: messages are answered one after the other,
//! and what the client sends meanwhile is read.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, error};
use rustix::event::{PollFd, PollFlags};
use tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Message, WebSocket};

use super::incoming::Incoming;
use super::outgoing::{Outgoing, put_ping, put_text};
use crate::budget::Body;
use crate::error::{Envelope, Error};
use crate::http::attend::{Attendance, Meanwhile};
use crate::http::body::too_large;
use crate::http::exchange::{ExchangeEnd, OpenExchange, Request};
use crate::http::pace::Pace;
use crate::http::socket::{ClientSocket, Signal, wait};
use crate::http::{Head, Limits, Shared, request_id};
use crate::observe::logger;

/// Most messages that wait while one is answered; beyond it nothing is read. Known of OpenAI: 16 responses
/// are under way on a connection, and further requests wait.
const MOST_WAITING: usize = 16;
/// Bytes of one read, which an idle connection keeps.
const READ: usize = 4 * 1024;
/// The reason that a client is told whose message comes too slowly.
const TOO_SLOW: &str = "the message comes too slowly";

/// The client at the other end of a WebSocket, as its first request describes it.
pub struct Client {
    pub socket: Arc<ClientSocket>,
    /// The head with which it has asked for the WebSocket.
    pub head: Head,
    /// Its address, for logs.
    pub peer: String,
    /// Writes an error as a message.
    pub envelope: Envelope,
    /// The connection's signal for the end of an exchange.
    pub over: Arc<Signal>,
}

/// One WebSocket.
pub struct Session {
    id: u64,
    client: Client,
    websocket: Option<WebSocket<Incoming>>,
    outgoing: Arc<Outgoing>,
    shared: Arc<Shared>,
    began: Instant,
    /// Messages that are still to be answered.
    waiting: VecDeque<Body>,
    /// The moving deadline of the message that is coming; `None` between two.
    pace: Option<Pace>,
    /// When the last ping was sent.
    pinged: Instant,
    /// When the last answer ended. With [`Incoming::heard`] it tells when the client last gave a sign of itself.
    seen: Instant,
    /// The reason that it ends; `None` as long as it goes on.
    end: Option<End>,
}

/// Why a WebSocket ends.
enum End {
    /// The client has gone, or nothing can be sent any more.
    Gone,
    /// The client has said goodbye, and this has been confirmed.
    Confirmed,
    /// It is ended from this side: with this error as a last message, if any, this code and this reason.
    Here(Option<Error>, CloseCode, &'static str),
}

impl End {
    fn here(code: CloseCode, reason: &'static str) -> End {
        End::Here(None, code, reason)
    }
}

impl Session {
    /// Opens a WebSocket on a connection that has become one; `ahead` has been read from it already.
    pub(in crate::http) fn new(client: Client, ahead: Vec<u8>, shared: &Arc<Shared>) -> Session {
        let outgoing = Outgoing::new(&client.socket, shared.limits.write_stall);
        let incoming =
            Incoming::new(client.socket.clone(), outgoing.clone(), shared.clone(), ahead);
        let config = config(shared.limits.body_bytes);
        let id = shared.next_id();
        shared.gate.note_socket(id, true);
        Session {
            id,
            client,
            websocket: Some(WebSocket::from_raw_socket(incoming, Role::Server, Some(config))),
            outgoing,
            shared: shared.clone(),
            began: Instant::now(),
            waiting: VecDeque::new(),
            pace: None,
            pinged: Instant::now(),
            seen: Instant::now(),
            end: None,
        }
    }

    /// Answers messages until the WebSocket ends; true if that was in good order, so that the connection may
    /// linger.
    pub fn run(mut self) -> bool {
        let end = loop {
            self.take_in();
            if let Some(end) = self.end.take().or_else(|| self.end_of_time(Instant::now())) {
                break end;
            }
            match self.waiting.pop_front() {
                Some(message) => self.answer(message),
                None => self.wait_for_more(),
            }
        };
        self.say_goodbye(end)
    }

    /// Reads the messages that have come, as many as may wait, and no more frames than
    /// [`Incoming::go_on`] allows.
    fn take_in(&mut self) {
        self.websocket.iter_mut().for_each(|websocket| websocket.get_mut().go_on());
        while self.end.is_none() && self.waiting.len() < MOST_WAITING {
            let Some(websocket) = &mut self.websocket else { return };
            match websocket.read() {
                Ok(Message::Text(text)) => {
                    let body = self.body(text.into());
                    self.waiting.push_back(body);
                }
                Ok(Message::Binary(_)) => {
                    let why = "messages must be text";
                    self.end = Some(End::here(CloseCode::Unsupported, why));
                }
                // The next read confirms it.
                Ok(Message::Close(_)) => self.waiting.clear(),
                Ok(_) => {}
                Err(WsError::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    return self.keep_pace();
                }
                Err(error) => self.end = Some(self.end_for(error)),
            }
        }
        if matches!(self.end, Some(End::Confirmed | End::Gone)) {
            self.outgoing.end();
        }
    }

    /// Returns a message that has come whole as a body, with its memory. tungstenite is replaced, because it keeps
    /// the memory of the largest frame.
    fn body(&mut self, text: Bytes) -> Body {
        let Some(websocket) = self.websocket.take() else { return Vec::new().into() };
        let mut incoming = websocket.into_inner();
        let share = incoming.take_share();
        let config = config(self.shared.limits.body_bytes);
        self.websocket = Some(WebSocket::from_raw_socket(incoming, Role::Server, Some(config)));
        self.pace = None;
        Body::with(text.into(), share)
    }

    /// Notes how fast the message under way comes.
    fn keep_pace(&mut self) {
        let Some(websocket) = &mut self.websocket else { return };
        let incoming = websocket.get_mut();
        let (limits, count) = (&self.shared.limits, incoming.take_count());
        if !incoming.is_within_message() {
            self.pace = None;
            return;
        }
        let begin = || Pace::new(limits.head_deadline, limits.body_rate);
        self.pace.get_or_insert_with(begin).note(count);
    }

    /// Says how the WebSocket ends after an error of reading.
    fn end_for(&self, error: WsError) -> End {
        let full = self.websocket.as_ref().and_then(|websocket| websocket.get_ref().full());
        match error {
            WsError::ConnectionClosed => End::Confirmed,
            WsError::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
                End::Here(Some(too_large(max_size)), CloseCode::Size, "the message is too large")
            }
            WsError::Io(_) if full.is_some() => {
                let code = CloseCode::Again;
                End::Here(full.map(Error::from), code, "there is no memory for the message")
            }
            WsError::Io(error) if error.kind() == ErrorKind::InvalidData => {
                End::here(CloseCode::Protocol, "a control frame is too long")
            }
            WsError::Io(_) | WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                End::Gone
            }
            WsError::Utf8(_) => End::here(CloseCode::Invalid, "text must be UTF-8"),
            error => {
                debug!("a WebSocket's client breaks the protocol: {error}");
                End::here(CloseCode::Protocol, "the frames break the protocol")
            }
        }
    }

    /// Has a message answered, as the request that it is.
    fn answer(&mut self, body: Body) {
        let request_id = request_id::new();
        let _lines = logger::concerning(&request_id);
        let request = Request {
            head: self.client.head.clone(),
            body,
            request_id: request_id.clone(),
            peer: self.client.peer.clone(),
            accepted: Instant::now(),
            client: self.client.socket.clone(),
            socket: Some((self.id, self.outgoing.clone())),
            over: self.client.over.clone(),
        };
        let ended = {
            let exchange = OpenExchange::new(request, &self.shared);
            let handed_over = self.shared.gate.hand_over(&exchange);
            handed_over.and_then(|()| self.attend(&exchange))
        };
        // While it was answered the client had no reason to say anything.
        self.seen = Instant::now();
        match ended {
            Ok(ExchangeEnd::Complete) => {}
            Ok(ExchangeEnd::Gone) => self.end = self.end.take().or(Some(End::Gone)),
            Ok(ExchangeEnd::Cut) => {
                self.end = Some(End::here(CloseCode::Error, "the answer was cut"));
            }
            Ok(ExchangeEnd::Silent) => {
                error!("nobody gave an answer");
                let error = Error::Internal("no answer was given".to_owned());
                self.refuse(&error, &request_id);
            }
            Err(error) => self.refuse(&error, &request_id),
        }
    }

    /// Watches the client until the answer is over.
    fn attend(&mut self, exchange: &OpenExchange) -> Result<ExchangeEnd, Error> {
        let (client, shared) = (self.client.socket.clone(), self.shared.clone());
        let (gate, close, stop) = (&*shared.gate, &shared.close, &shared.stop);
        Attendance { client: &client, exchange, gate, close, stop, meanwhile: Some(self) }.run()
    }

    /// Tells the client that a message is not answered.
    fn refuse(&mut self, error: &Error, request_id: &str) {
        self.shared.note_refusal(&self.client.peer, Some(&self.client.head), error);
        let mut frame = Vec::new();
        put_text(&mut frame, (self.client.envelope)(error, request_id).as_bytes());
        if self.outgoing.send(&frame, &self.shared).is_err() {
            self.end = Some(End::Gone);
        }
    }

    /// True if reading has paused by itself: what is left may be in memory, where `poll` does not see it.
    fn is_held_up(&self) -> bool {
        self.websocket.as_ref().is_some_and(|websocket| websocket.get_ref().is_held_up())
    }

    /// Waits for the client's next message, and pings the client meanwhile.
    fn wait_for_more(&mut self) {
        if self.ping_at().is_some_and(|at| Instant::now() >= at) {
            self.ping();
        }
        if self.is_held_up() {
            return;
        }
        let too_old = Some(self.began + self.shared.limits.socket_age);
        let until = [too_old, self.late_at(), self.ping_at(), self.lost_at()];
        let mut fds = [
            PollFd::new(&*self.client.socket, PollFlags::IN),
            self.shared.stop.poll_fd(),
            self.shared.close.poll_fd(),
        ];
        wait(&mut fds, until.into_iter().flatten().min());
    }

    /// Returns the reason if the time has come to answer and await no further message.
    fn end_of_time(&self, now: Instant) -> Option<End> {
        let has_passed = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let limits = &self.shared.limits;
        if self.shared.close.is_raised() || has_passed(self.lost_at()) {
            return Some(End::Gone);
        }
        if self.shared.stop.is_raised() {
            return Some(End::here(CloseCode::Away, "the server is shutting down"));
        }
        if has_passed(self.late_at()) {
            return Some(End::here(CloseCode::Policy, TOO_SLOW));
        }
        has_passed(Some(self.began + limits.socket_age)).then(|| {
            let error = Error::SocketTooOld(limits.socket_age);
            End::Here(Some(error), CloseCode::Normal, "the connection is too old")
        })
    }

    /// Returns when more of the message under way must have come.
    fn late_at(&self) -> Option<Instant> {
        self.pace.as_ref().map(Pace::deadline)
    }

    /// Returns when the client is pinged next; `None` if it never is.
    fn ping_at(&self) -> Option<Instant> {
        let ping = self.shared.limits.ping;
        (!ping.is_zero()).then(|| self.pinged.max(self.seen()) + ping)
    }

    /// Returns when the client is taken for lost, which answers pings if it is there.
    fn lost_at(&self) -> Option<Instant> {
        let Limits { ping, idle, .. } = self.shared.limits;
        (!ping.is_zero()).then(|| self.seen() + ping + idle)
    }

    /// Returns when the client last gave a sign of itself.
    fn seen(&self) -> Instant {
        let heard = self.websocket.as_ref().map(|websocket| websocket.get_ref().heard());
        heard.map_or(self.seen, |heard| heard.max(self.seen))
    }

    fn ping(&mut self) {
        self.pinged = Instant::now();
        let mut frame = Vec::new();
        put_ping(&mut frame);
        if self.outgoing.send(&frame, &self.shared).is_err() {
            self.end = Some(End::Gone);
        }
    }

    /// Ends the WebSocket; true if the client has been told so, or has said so. What it still sends is read by
    /// whoever lingers on the connection, so that no reset comes before what it has been told.
    fn say_goodbye(&mut self, end: End) -> bool {
        let (error, code, reason) = match end {
            End::Gone => return false,
            End::Confirmed => return true,
            End::Here(error, code, reason) => (error, code, reason),
        };
        debug!("a WebSocket is ended: {reason}");
        if let Some(error) = &error {
            self.refuse(error, &request_id::new());
        }
        let Some(websocket) = &mut self.websocket else { return false };
        let told = websocket.close(Some(CloseFrame { code, reason: reason.into() }));
        self.outgoing.end();
        told.is_ok()
    }
}

/// Tells the gate even in a panic, so that nothing is kept for a WebSocket that is gone.
impl Drop for Session {
    fn drop(&mut self) {
        self.shared.gate.note_socket(self.id, false);
    }
}

/// What a client sends while it is answered.
impl Meanwhile for Session {
    fn wants(&self) -> bool {
        self.waiting.len() < MOST_WAITING
    }

    fn deadline(&self) -> Option<Instant> {
        if self.is_held_up() { Some(self.began) } else { self.late_at() }
    }

    fn take(&mut self) -> bool {
        self.take_in();
        if self.end.is_none() && self.late_at().is_some_and(|at| Instant::now() >= at) {
            self.end = Some(End::here(CloseCode::Policy, TOO_SLOW));
        }
        self.end.is_none()
    }
}

fn config(body_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_message_size(Some(body_bytes))
        .max_frame_size(Some(body_bytes))
}
