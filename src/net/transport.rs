//! HTTP calls over the dialer's connections: the transport that ureq speaks HTTP on.
//!
//! ureq tells a transport how long a call may take, and nothing else about the call; and it passes a
//! connection that it keeps from one call to the next. So it keeps none: the idle connections are kept
//! here, and each call gets an agent of its own, whose connections know when that call is given up.

mod buffers;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ureq::Timeout;
use ureq::config::Config;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use self::buffers::CallBuffers;
use super::dial::{DialError, Dialer, Endpoint, OutboundConnection};

/// Interval at which waiting calls ask whether they are given up: a wait ends at most this long after.
pub const LOOK: Duration = Duration::from_millis(250);

/// Idle connections kept for the next calls. A TLS connection is some 50 KB.
const MOST_IDLE: usize = 16;
/// Those kept for [`BRIEFLY`]: while many calls are made at once, their number goes up and down.
const MOST_BRIEFLY: usize = 64;
const BRIEFLY: Duration = Duration::from_secs(2);

/// Buffers kept for the next calls.
const MOST_BUFFERS: usize = 4;

/// Returns true once nobody waits for a call any more. Called every [`LOOK`] while the answer is
/// awaited.
pub type IsGivenUp = Arc<dyn Fn() -> bool + Send + Sync>;

/// Time limits of calls and of idle connections.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// The deadline of a call, connection and answer included.
    pub call: Duration,
    /// How long an idle connection is kept for the next call.
    pub keep_warm: Duration,
}

/// The connections to one server, over which HTTP calls are made.
pub struct Connections {
    dialer: Arc<Dialer>,
    endpoint: Endpoint,
    config: Config,
    idle: Mutex<Idle>,
}

/// The connections that no call uses now.
struct Idle {
    keep_warm: Duration,
    /// Each connection with the time since when it is idle, the latest at the back.
    connections: VecDeque<(OutboundConnection, Instant)>,
    buffers: Vec<CallBuffers>,
    /// Whether a connection is being opened beside.
    is_one_coming: bool,
    /// How often all were closed. A connection that was in use at such a time is not kept either.
    closed: u64,
}

impl Connections {
    /// Starts without a connection.
    pub fn new(dialer: Arc<Dialer>, endpoint: Endpoint, timeouts: Timeouts) -> Arc<Connections> {
        let Timeouts { call, keep_warm } = timeouts;
        let (connections, buffers) = (VecDeque::new(), Vec::new());
        let idle = Idle { keep_warm, connections, buffers, is_one_coming: false, closed: 0 };
        let idle = Mutex::new(idle);
        Arc::new(Connections { dialer, endpoint, config: config(call), idle })
    }

    /// The server's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The deadline of one connection.
    pub fn connect_timeout(&self) -> Duration {
        self.dialer.timeout()
    }

    /// Returns a client for one call. It accepts any status as an answer, follows no redirect, and
    /// stops waiting for the answer (with [`ureq::Error::Timeout`]) when the call is given up.
    /// Connecting goes on until its own deadline.
    pub fn agent(self: &Arc<Self>, is_given_up: IsGivenUp) -> ureq::Agent {
        let call = CallConnector { connections: self.clone(), is_given_up };
        ureq::Agent::with_parts(self.config.clone(), call, NoResolver)
    }

    /// Opens a connection ahead of the next call, so that the call need not wait for one.
    ///
    /// # Errors
    /// The error of [`Dialer::dial`].
    pub fn connect_ahead(&self) -> Result<(), DialError> {
        let closed = self.idle().closed;
        let connection = self.dialer.dial(&self.endpoint)?;
        self.idle().keep(connection, closed);
        Ok(())
    }

    /// Opens a connection for a call that is about to be made, in a thread of its own; not if one is idle or
    /// is being opened so already. If it cannot be opened, the call says so.
    pub fn connect_beside(self: &Arc<Self>) {
        if !self.idle().expect_one() {
            return;
        }
        let own = self.clone();
        let connect = move || {
            let connected = own.connect_ahead();
            own.idle().is_one_coming = false;
            connected
        };
        if thread::Builder::new().name("connect".to_owned()).spawn(connect).is_err() {
            self.idle().is_one_coming = false;
        }
    }

    /// Closes the connections that no call uses now; those in use are closed after their call.
    pub fn close_idle(&self) {
        let mut idle = self.idle();
        idle.closed += 1;
        idle.connections.clear();
    }

    /// Takes the latest idle connection that is still good.
    fn take_idle(&self) -> Option<OutboundConnection> {
        loop {
            let mut newest = self.idle().take()?;
            if newest.is_idle() {
                return Some(newest);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn take(&mut self) -> Option<OutboundConnection> {
        self.close_old();
        self.connections.pop_back().map(|(connection, _)| connection)
    }

    /// Keeps a connection whose call began when all had been closed `closed` times.
    fn keep(&mut self, connection: OutboundConnection, closed: u64) {
        if closed == self.closed {
            self.connections.push_back((connection, Instant::now()));
            self.close_old();
        }
    }

    /// Notes that a connection will come if there is none and none is coming; true if so.
    fn expect_one(&mut self) -> bool {
        self.close_old();
        self.connections.is_empty() && !std::mem::replace(&mut self.is_one_coming, true)
    }

    fn close_old(&mut self) {
        while self.connections.front().is_some_and(|(_, since)| since.elapsed() >= self.kept_for())
        {
            self.connections.pop_front();
        }
    }

    /// How long a connection is kept while there are as many as now.
    fn kept_for(&self) -> Duration {
        match self.connections.len() {
            0..=MOST_IDLE => self.keep_warm,
            length if length <= MOST_BRIEFLY => BRIEFLY.min(self.keep_warm),
            _ => Duration::ZERO,
        }
    }
}

fn config(call_timeout: Duration) -> Config {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(call_timeout))
        .max_idle_connections(0)
        // The dialer connects through the proxy, for the socket too.
        .proxy(None)
        .user_agent(concat!("langfast2api/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The error of a connection that broke before the whole request was written: the request cannot have
/// been carried out.
#[derive(Debug)]
pub struct NotSent(pub String);

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotSent {}

/// Resolves nothing: the dialer looks names up itself, also behind a proxy.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// Gives ureq the connection for one call.
#[derive(Clone)]
struct CallConnector {
    connections: Arc<Connections>,
    is_given_up: IsGivenUp,
}

impl fmt::Debug for CallConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a call to {}", self.connections.endpoint.authority())
    }
}

impl Connector for CallConnector {
    type Out = DialTransport;

    fn connect(
        &self,
        _: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<DialTransport>, ureq::Error> {
        let Connections { dialer, endpoint, .. } = &*self.connections;
        let (closed, buffers) = {
            let mut idle = self.connections.idle();
            (idle.closed, idle.buffers.pop().unwrap_or_default())
        };
        let idle = self.connections.take_idle();
        let connection = idle.map_or_else(|| dialer.dial(endpoint), Ok);
        let connection = connection.map_err(|e| ureq::Error::Other(Box::new(e)))?;
        Ok(Some(DialTransport {
            call: self.clone(),
            connection: Some(connection),
            buffers,
            closed,
            is_reusable: false,
        }))
    }
}

/// A connection as ureq uses it, for one call.
#[derive(Debug)]
struct DialTransport {
    call: CallConnector,
    /// `Some` until this is dropped.
    connection: Option<OutboundConnection>,
    buffers: CallBuffers,
    /// [`Idle::closed`] when the call began.
    closed: u64,
    /// Whether the answer was read to its end and the connection is good for another call.
    is_reusable: bool,
}

impl DialTransport {
    fn parts(&mut self) -> (&mut OutboundConnection, &mut CallBuffers) {
        let connection = self.connection.as_mut().expect("it is there until this is dropped");
        (connection, &mut self.buffers)
    }

    /// Sends what is held of the request.
    fn send_held(&mut self, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let (connection, buffers) = self.parts();
        connection.set_deadline(deadline(timeout));
        let written = connection.write_all(buffers.held());
        buffers.sent();
        written.map_err(|error| match is_timeout(&error) {
            true => ureq::Error::Timeout(timeout.reason),
            false => ureq::Error::Other(Box::new(NotSent(error.to_string()))),
        })
    }

    /// Reads until `deadline`; `None` if it has passed.
    fn read_by(&mut self, deadline: Instant) -> io::Result<Option<usize>> {
        let (connection, buffers) = self.parts();
        connection.set_deadline(Some(deadline));
        match connection.read(buffers.input_append_buf()) {
            Ok(amount) => {
                buffers.input_appended(amount);
                Ok(Some(amount))
            }
            Err(error) if is_timeout(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for DialTransport {
    fn drop(&mut self) {
        let kept = self.connection.take().filter(|_| self.is_reusable);
        let mut idle = self.call.connections.idle();
        if idle.buffers.len() < MOST_BUFFERS {
            idle.buffers.push(std::mem::take(&mut self.buffers).emptied());
        }
        if let Some(connection) = kept {
            idle.keep(connection, self.closed);
        }
    }
}

/// The time at which a wait that ureq limits to `timeout` has to end.
fn deadline(timeout: NextTimeout) -> Option<Instant> {
    timeout.not_zero().map(|left| Instant::now() + *left)
}

/// Whether a read or write ran out of time: it reports that by one of these two kinds.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

impl Transport for DialTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    /// Sends only what fills the buffer: a request's head and its body go out together.
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        match self.buffers.hold(amount) {
            true => self.send_held(timeout),
            false => Ok(()),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        if !self.buffers.held().is_empty() {
            self.send_held(timeout)?;
        }
        let deadline = deadline(timeout);
        loop {
            let look = Instant::now() + LOOK;
            let until = deadline.map_or(look, |deadline| deadline.min(look));
            if let Some(amount) = self.read_by(until).map_err(ureq::Error::Io)? {
                return Ok(amount > 0);
            }
            if (self.call.is_given_up)() || deadline.is_some_and(|at| Instant::now() >= at) {
                return Err(ureq::Error::Timeout(Timeout::Global));
            }
        }
    }

    /// ureq calls this when it has read an answer to its end, to keep the connection for later. Whether it is
    /// still open then is asked before its next call.
    fn is_open(&mut self) -> bool {
        self.is_reusable = true;
        true
    }

    fn is_tls(&self) -> bool {
        matches!(self.connection, Some(OutboundConnection::Tls(_)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::ScopedJoinHandle;

    use super::*;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(3600);
    /// How long a test waits for what should happen.
    const PATIENCE: Duration = Duration::from_secs(20);

    type Called = Result<String, ureq::Error>;

    fn server(keep_warm: Duration) -> (TcpListener, Arc<Connections>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let dialer = Arc::new(Dialer::new(PATIENCE));
        let timeouts = Timeouts { call: PATIENCE, keep_warm };
        (listener, Connections::new(dialer, Endpoint::parse(&url).unwrap(), timeouts))
    }

    fn accept(listener: &TcpListener) -> TcpStream {
        let (peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer
    }

    fn is_nobody_waiting(listener: &TcpListener) -> bool {
        listener.set_nonblocking(true).unwrap();
        let accepted = listener.accept();
        listener.set_nonblocking(false).unwrap();
        matches!(accepted, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn get_while(connections: &Arc<Connections>, is_given_up: IsGivenUp) -> Called {
        let url = connections.endpoint().url("http", "/");
        connections.agent(is_given_up).get(url).call()?.body_mut().read_to_string()
    }

    fn get(connections: &Arc<Connections>) -> Called {
        get_while(connections, Arc::new(|| false))
    }

    fn take_request(peer: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(peer.read(&mut byte).unwrap(), 1, "the connection is used");
            head.push(byte[0]);
        }
    }

    fn answer(peer: &mut TcpStream) {
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    }

    fn serve(peer: &mut TcpStream) {
        take_request(peer);
        answer(peer);
    }

    fn is_closed(mut peer: TcpStream) -> bool {
        matches!(peer.read(&mut [0]), Ok(0))
    }

    fn is_ok(call: ScopedJoinHandle<'_, Called>) -> bool {
        call.join().unwrap().unwrap() == "ok"
    }

    #[test]
    fn a_connection_is_kept_for_the_next_call_and_until_the_idle_ones_are_closed() {
        let (listener, connections) = server(LONG);
        thread::scope(|scope| {
            let first = scope.spawn(|| get(&connections));
            let mut peer = accept(&listener);
            serve(&mut peer);
            assert!(is_ok(first));
            let second = scope.spawn(|| get(&connections));
            serve(&mut peer);
            assert!(is_ok(second));
            assert!(is_nobody_waiting(&listener));
            connections.close_idle();
            assert!(is_closed(peer));
        });
    }

    #[test]
    fn a_connection_in_use_while_the_idle_ones_are_closed_is_not_kept() {
        let (listener, connections) = server(LONG);
        thread::scope(|scope| {
            let call = scope.spawn(|| get(&connections));
            let mut peer = accept(&listener);
            take_request(&mut peer);
            connections.close_idle();
            answer(&mut peer);
            assert!(is_ok(call), "it is not cut off");
            assert!(is_closed(peer));
        });
    }

    #[test]
    fn a_requests_head_and_body_come_together_and_a_large_body_comes_whole() {
        let (listener, connections) = server(LONG);
        let url = connections.endpoint().url("http", "/");
        let post = |body: Vec<u8>| {
            let agent = connections.agent(Arc::new(|| false));
            agent.post(&url).send(&body[..])?.body_mut().read_to_string()
        };
        thread::scope(|scope| {
            let small = scope.spawn(|| post(b"small".to_vec()));
            let mut peer = accept(&listener);
            let mut piece = [0; 4096];
            let length = peer.read(&mut piece).unwrap();
            assert!(piece[..length].ends_with(b"\r\n\r\nsmall"));
            answer(&mut peer);
            assert!(is_ok(small));

            let body: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
            let (post, sent) = (&post, body.clone());
            let large = scope.spawn(move || post(sent));
            take_request(&mut peer);
            let mut came = vec![0; body.len()];
            peer.read_exact(&mut came).unwrap();
            assert_eq!(came, body);
            answer(&mut peer);
            assert!(is_ok(large));
        });
    }

    #[test]
    fn a_connection_made_ahead_is_the_next_calls() {
        let (listener, connections) = server(LONG);
        connections.connect_ahead().unwrap();
        let mut peer = accept(&listener);
        thread::scope(|scope| {
            let call = scope.spawn(|| get(&connections));
            serve(&mut peer);
            assert!(is_ok(call));
        });
        assert!(is_nobody_waiting(&listener));
    }

    #[test]
    fn a_connection_is_made_beside_once_and_only_if_none_is_idle() {
        let (listener, connections) = server(LONG);
        connections.connect_beside();
        let mut peer = accept(&listener);
        let deadline = Instant::now() + PATIENCE;
        while connections.idle().is_one_coming {
            assert!(Instant::now() < deadline, "it comes");
            thread::yield_now();
        }
        connections.connect_beside();
        assert!(!connections.idle().is_one_coming, "one is idle");
        thread::scope(|scope| {
            let call = scope.spawn(|| get(&connections));
            serve(&mut peer);
            assert!(is_ok(call));
        });
        connections.close_idle();
        connections.idle().is_one_coming = true;
        connections.connect_beside();
        assert!(is_nobody_waiting(&listener), "one is coming");
    }

    #[test]
    fn a_connection_that_the_server_has_closed_or_that_is_too_old_is_not_used() {
        for keep_warm in [LONG, Duration::ZERO] {
            let (listener, connections) = server(keep_warm);
            connections.connect_ahead().unwrap();
            drop(accept(&listener));
            thread::scope(|scope| {
                let call = scope.spawn(|| get(&connections));
                serve(&mut accept(&listener));
                assert!(is_ok(call));
            });
        }
    }

    #[test]
    fn only_so_many_idle_connections_are_kept_and_the_oldest_goes_first() {
        let (listener, connections) = server(LONG);
        let ahead = || {
            connections.connect_ahead().unwrap();
            accept(&listener)
        };
        let mut peers: Vec<_> = (0..=MOST_BRIEFLY).map(|_| ahead()).collect();
        assert!(is_closed(peers.remove(0)));
        let mut idle = connections.idle();
        assert_eq!(idle.connections.len(), MOST_BRIEFLY);
        let while_ago = Instant::now().checked_sub(BRIEFLY).expect("the machine runs for longer");
        idle.connections.iter_mut().for_each(|(_, since)| *since = while_ago);
        idle.close_old();
        assert_eq!(idle.connections.len(), MOST_IDLE);
    }

    #[test]
    fn a_call_that_is_given_up_stops_waiting_and_its_connection_is_not_kept() {
        let (listener, connections) = server(LONG);
        let gone = Arc::new(AtomicBool::new(false));
        thread::scope(|scope| {
            let asked = gone.clone();
            let is_given_up = Arc::new(move || asked.load(Ordering::SeqCst));
            let call = scope.spawn(|| get_while(&connections, is_given_up));
            let mut peer = accept(&listener);
            take_request(&mut peer);
            gone.store(true, Ordering::SeqCst);
            assert!(matches!(call.join().unwrap(), Err(ureq::Error::Timeout(_))));
            assert!(is_closed(peer));
        });
    }

    #[test]
    fn a_kept_connection_heeds_the_call_that_uses_it_and_no_earlier_one() {
        let (listener, connections) = server(LONG);
        let first_is_gone = Arc::new(AtomicBool::new(false));
        let (asked, second_asked) = crossbeam_channel::unbounded();
        thread::scope(|scope| {
            let gone = first_is_gone.clone();
            let of_first = Arc::new(move || gone.load(Ordering::SeqCst));
            let first = scope.spawn(|| get_while(&connections, of_first));
            let mut peer = accept(&listener);
            serve(&mut peer);
            assert!(is_ok(first));
            first_is_gone.store(true, Ordering::SeqCst);

            let of_second = Arc::new(move || asked.send(()).is_err());
            let second = scope.spawn(|| get_while(&connections, of_second));
            take_request(&mut peer);
            second_asked.recv_timeout(PATIENCE).unwrap();
            answer(&mut peer);
            assert!(is_ok(second));
        });
    }
}
