//! One client's connection: serves request after request until the connection ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, warn};
use rustix::event::{PollFd, PollFlags};

use super::attend::Attendance;
use super::body::Decoder;
use super::exchange::{ExchangeEnd, OpenExchange, Request};
use super::head::{BodyLength, Head, Scan};
use super::pace::Pace;
use super::refusal::Refusal;
use super::socket::{ClientSocket, Signal, Stopped, wait};
use super::websocket::session::{Client, Session};
use super::{Look, Shared, Slot, request_id, websocket};
use crate::budget::{Body, BodySize};
use crate::error::{Envelope, Error};
use crate::observe::logger;

/// Most bytes of a refused request's body that are read and dropped to keep the connection.
const READ_OVER: usize = 64 * 1024;

/// How long the client is read from after the last answer. Closing while it still sends would reset
/// the connection, and the client could lose the answer.
const LINGER: Duration = Duration::from_secs(2);

/// The reason that a request is not served.
enum NotServed {
    /// The client has gone, or the connection is closed without an answer.
    Gone,
    /// The client is sent the error; then the connection ends.
    Refused(Error),
    /// As `Refused`, but the gate has already been told of it.
    Noted(Error),
}

impl From<Error> for NotServed {
    fn from(error: Error) -> NotServed {
        NotServed::Refused(error)
    }
}

/// The next action of a connection after a request.
enum AfterRequest {
    Request,
    Close,
    /// Closes without reading further; the socket is reset if an answer was cut.
    Drop,
}

pub struct Connection {
    socket: Arc<ClientSocket>,
    peer: String,
    /// Bytes that have been read and belong to no request yet, at most `head_bytes`.
    buffer: Vec<u8>,
    shared: Arc<Shared>,
    /// Raised when an exchange is over; made for the first one.
    over: Option<Arc<Signal>>,
    /// Dropping it frees the connection's place.
    _slot: Slot,
}

impl Connection {
    pub fn new(
        socket: Arc<ClientSocket>,
        peer: String,
        shared: Arc<Shared>,
        slot: Slot,
    ) -> Connection {
        Connection { socket, peer, buffer: Vec::new(), shared, over: None, _slot: slot }
    }

    /// Serves requests until the connection ends.
    pub fn serve(mut self) {
        loop {
            match self.serve_request() {
                AfterRequest::Request => {}
                AfterRequest::Close => return self.linger(),
                AfterRequest::Drop => return,
            }
        }
    }

    fn serve_request(&mut self) -> AfterRequest {
        let (request_id, has_body, look, served) = match self.read_head() {
            Err(stop) => (request_id::new(), true, Look::default(), Err(stop)),
            Ok(head) => {
                let (request_id, has_body) = (request_id::of(&head), head.method != "HEAD");
                let look = self.shared.gate.look(&head);
                (request_id.clone(), has_body, look, self.exchange(head, request_id))
            }
        };
        let error = match served {
            Ok(next) => return next,
            Err(NotServed::Gone) => return AfterRequest::Drop,
            Err(NotServed::Refused(error)) => {
                let _lines = logger::concerning(&request_id);
                self.shared.note_refusal(&self.peer, None, &error);
                error
            }
            Err(NotServed::Noted(error)) => error,
        };
        let (error, look, request_id) = (&error, &look, &*request_id);
        let refusal = Refusal { error, look, request_id, has_body, keeps_alive: false };
        self.write(&refusal.bytes()).map_or(AfterRequest::Drop, |()| AfterRequest::Close)
    }

    /// Reads the body of a request whose head has been read, has it answered, and returns what
    /// comes next.
    fn exchange(&mut self, mut head: Head, request_id: String) -> Result<AfterRequest, NotServed> {
        let _lines = logger::concerning(&request_id);
        head.keep_alive &= !self.shared.stop.is_raised();
        let checked = head.check_size(&self.shared.limits);
        checked.map_err(|error| self.noted(error.into(), &head))?;
        if let Err(error) = self.shared.gate.admit(&head) {
            return self.turn_down(&head, error, &request_id);
        }
        if let Some(envelope) = self.shared.gate.upgrade(&head) {
            return self.become_websocket(head, envelope, &request_id);
        }
        if head.expects_continue && self.buffer.is_empty() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let accepted = Instant::now();
        let body = self.read_body(&head).map_err(|stop| self.noted(stop, &head))?;
        // An answer may take minutes: bytes read ahead stay, spare capacity is freed.
        self.buffer.shrink_to_fit();
        let request = Request {
            head,
            body,
            request_id,
            peer: self.peer.clone(),
            accepted,
            client: self.socket.clone(),
            socket: None,
            over: self.over()?,
        };
        let exchange = OpenExchange::new(request, &self.shared);
        let ended = self.have_answered(&exchange);
        match ended.map_err(|error| self.noted(error.into(), &exchange.head))? {
            ExchangeEnd::Complete if exchange.keeps_alive() => Ok(AfterRequest::Request),
            ExchangeEnd::Complete => Ok(AfterRequest::Close),
            ExchangeEnd::Gone => Ok(AfterRequest::Drop),
            ExchangeEnd::Cut => {
                warn!("the answer was cut");
                Ok(AfterRequest::Drop)
            }
            ExchangeEnd::Silent => {
                error!("nobody gave an answer");
                Err(Error::Internal("no answer was given".to_owned()).into())
            }
        }
    }

    /// Answers the messages of a client that has asked for a WebSocket, until it ends.
    fn become_websocket(
        &mut self,
        head: Head,
        envelope: Envelope,
        request_id: &str,
    ) -> Result<AfterRequest, NotServed> {
        let look = self.shared.gate.look(&head);
        let over = self.over()?;
        self.write(&websocket::accepted(&head, &look.fields, request_id))?;
        let (socket, peer) = (self.socket.clone(), self.peer.clone());
        let client = Client { socket, head, peer, envelope, over };
        let session = Session::new(client, std::mem::take(&mut self.buffer), &self.shared);
        Ok(if session.run() { AfterRequest::Close } else { AfterRequest::Drop })
    }

    /// Refuses a request by its head. The connection stays open if the body is short and already on
    /// its way, that is, if the client does not wait for `100 Continue`.
    fn turn_down(
        &mut self,
        head: &Head,
        error: Error,
        request_id: &str,
    ) -> Result<AfterRequest, NotServed> {
        let to_read_over = match head.body {
            BodyLength::Known(length) if length == 0 || !head.expects_continue => length,
            _ => usize::MAX,
        };
        self.shared.note_refusal(&self.peer, Some(head), &error);
        if to_read_over > READ_OVER || !head.keep_alive {
            return Err(NotServed::Noted(error));
        }
        let (error, look) = (&error, &self.shared.gate.look(head));
        let has_body = head.method != "HEAD";
        let refusal = Refusal { error, look, request_id, has_body, keeps_alive: true };
        self.write(&refusal.bytes())?;
        // If reading fails, the client gets nothing further: it has its answer.
        self.read_body(head).map(|_| AfterRequest::Request).map_err(|_| NotServed::Gone)
    }

    /// Reports a refusal with the request's head, which is not known further up.
    fn noted(&self, stop: NotServed, head: &Head) -> NotServed {
        let NotServed::Refused(error) = stop else { return stop };
        self.shared.note_refusal(&self.peer, Some(head), &error);
        NotServed::Noted(error)
    }

    /// Reads a head; bytes behind it stay in the buffer.
    fn read_head(&mut self) -> Result<Head, NotServed> {
        self.await_request()?;
        let deadline = Instant::now() + self.shared.limits.head_deadline;
        let mut scan = Scan::default();
        loop {
            if let Some(end) = scan.find_end(&self.buffer, &self.shared.limits)? {
                let head = Head::parse(&self.buffer[..end], &self.shared.limits)?;
                self.buffer.drain(..end);
                return Ok(head);
            }
            if let Err(stopped) = self.read_more(deadline) {
                // Some clients send an empty line after a body; if nothing follows it, there is no
                // request to refuse.
                let nothing = self.buffer.trim_ascii().is_empty();
                return Err(if nothing { NotServed::Gone } else { self.late_head(stopped) });
            }
        }
    }

    /// Waits for the first byte of a request; returns at once if the buffer holds one, or one has come.
    fn await_request(&mut self) -> Result<(), NotServed> {
        if self.buffer.is_empty() {
            self.buffer.reserve_exact(self.shared.limits.head_bytes);
            // The end of the stream, and what has gone wrong, is met where it is waited for.
            let _ = self.socket.read(&mut self.buffer);
        }
        if !self.buffer.is_empty() {
            return Ok(());
        }
        self.buffer = Vec::new(); // An idle connection keeps no memory.
        let mut fds = [PollFd::new(&*self.socket, PollFlags::IN), self.shared.stop.poll_fd()];
        wait(&mut fds, Some(Instant::now() + self.shared.limits.idle));
        // A request that has arrived is served even while the server is stopping.
        if fds[0].revents().is_empty() { Err(NotServed::Gone) } else { Ok(()) }
    }

    /// Reads and decodes a body. It must arrive at the least rate throughout, whatever its length,
    /// so that no client can stay by sending next to nothing. If the memory for bodies is in use,
    /// it waits for some until the client's own deadline.
    fn read_body(&mut self, head: &Head) -> Result<Body, NotServed> {
        let limits = &self.shared.limits;
        let whole = match head.body {
            BodyLength::Known(length) => BodySize::Known(length),
            BodyLength::Chunked => BodySize::AtMost(limits.body_bytes),
        };
        let mut pace = Pace::new(limits.head_deadline, limits.body_rate);
        let mut decoder = Decoder::new(head.body, limits.body_bytes);
        let mut body = Body::new(&self.shared.bodies);
        loop {
            body.make_room(self.buffer.len(), whole, pace.deadline()).map_err(Error::from)?;
            let taken = decoder.feed(&self.buffer, body.buffer())?;
            self.buffer.drain(..taken);
            if decoder.is_done() {
                body.trim();
                return Ok(body);
            }
            pace.note(taken);
            self.read_more(pace.deadline()).map_err(|stopped| self.late_body(stopped))?;
        }
    }

    fn late_head(&self, stopped: Stopped) -> NotServed {
        let limit = self.shared.limits.head_deadline.as_secs_f64();
        stop(stopped, format!("The request's head did not arrive within {limit} s"))
    }

    fn late_body(&self, stopped: Stopped) -> NotServed {
        let rate = self.shared.limits.body_rate;
        stop(stopped, format!("The request's body came at less than {rate} bytes a second"))
    }

    /// Hands the request over and watches the client until the exchange is over.
    ///
    /// # Errors
    /// Nobody will answer.
    fn have_answered(&self, exchange: &OpenExchange) -> Result<ExchangeEnd, Error> {
        let shared = &self.shared;
        shared.gate.hand_over(exchange)?;
        let (client, gate) = (&*self.socket, &*shared.gate);
        let (close, stop) = (&shared.close, &shared.stop);
        Attendance { client, exchange, gate, close, stop, meanwhile: None }.run()
    }

    /// The signal for the end of an exchange.
    ///
    /// # Errors
    /// No descriptor is left.
    fn over(&mut self) -> Result<Arc<Signal>, Error> {
        if let Some(over) = &self.over {
            return Ok(over.clone());
        }
        let over = Signal::new().map_err(|error| {
            Error::Overloaded(format!("no more requests can be taken at the moment ({error})"))
        })?;
        Ok(self.over.insert(Arc::new(over)).clone())
    }

    /// Ends the sending side, and reads for a moment so that the client can see the end and close.
    fn linger(&mut self) {
        self.socket.end_writing();
        let deadline = Instant::now() + LINGER;
        let mut left = self.shared.limits.body_bytes;
        while left > 0 {
            self.buffer.clear();
            match self.read_more(deadline) {
                Ok(read) => left = left.saturating_sub(read),
                Err(_) => return,
            }
        }
    }

    /// Reads until the buffer holds `head_bytes` at most; returns the number of bytes read.
    fn read_more(&mut self, deadline: Instant) -> Result<usize, Stopped> {
        let room = self.shared.limits.head_bytes.saturating_sub(self.buffer.len());
        self.buffer.reserve_exact(room);
        self.socket.read_by(&mut self.buffer, deadline, &self.shared.close)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), NotServed> {
        let stall = self.shared.limits.write_stall;
        self.socket.write_paced(bytes, stall, &self.shared.close).map_err(|_| NotServed::Gone)
    }
}

/// Returns a 408 for a client that is late; nothing is sent to one that has gone.
fn stop(stopped: Stopped, message: String) -> NotServed {
    match stopped {
        Stopped::Late => NotServed::Refused(Error::BadHttp { status: 408, message }),
        Stopped::Gone => NotServed::Gone,
    }
}
