//! The HTTP server that clients connect to: it accepts connections and reads each request whole,
//! within limits and deadlines. Malformed requests are refused here; the others are handed to the
//! [`Gate`]. It is the one place that knows when a client has gone.
//!
//! Enters: bytes of clients. Leaves: well-formed requests as [`Exchange`]s. Answers do not come
//! back through a connection's thread: who answers writes to the client's socket, which saves a hop
//! for each token. It may not know what a URL or a body means.
//!
//! ```text
//! accept ─▶ connection ─▶ head ─▶ gate ─▶ body ─▶ gate ─▶ attend ◀─ over
//!             ▲  (thread per client)                         │
//!             └────────────────── next request ──────────────┘
//! ```
//!
//! A connection may become a WebSocket: see [`websocket`].
//!
//! The connection's thread and the thread that answers share an [`Exchange`]. The answering thread
//! holds it as a [`AnswerTurn`], writes to the client's socket with [`Exchange::write`], learns when the
//! client has gone, and declares the answer complete with [`Exchange::finish`]. Dropping the turn
//! ends the exchange. An answer that ends without `finish` is cut by a connection reset, so that no
//! client takes a part for the whole.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::info;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod accept;
pub mod answer;
mod attend;
pub mod body;
mod connection;
mod exchange;
pub mod head;
mod pace;
mod refusal;
mod request_id;
mod socket;
pub mod sse;
pub mod websocket;

use crate::budget::Budget;
use crate::error::{DEFAULT_ENVELOPE, Envelope, Error};
use crate::observe::heartbeat::Heartbeat;
use accept::Acceptor;
use socket::{ClientSocket, Signal};

pub use exchange::{AnswerTurn, Exchange};
pub use head::{BodyLength, Head};

/// Limits on what clients may use of the server. Defaults are in parentheses.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most open connections (1024); a further client gets a 503. See [`connections_for`].
    pub connections: usize,
    /// Most bytes of a request's head (16 KiB); also the most bytes read ahead of a request.
    pub head_bytes: usize,
    /// Most header fields of a request (100).
    pub headers: usize,
    /// Most bytes of a request's body (16 MiB).
    pub body_bytes: usize,
    /// Most bytes for all bodies together, including what is parsed from them (64 MiB). See
    /// [`Budget`].
    pub body_memory: usize,
    /// Longest time from the first byte of a head to its end (10 s).
    pub head_deadline: Duration,
    /// Least bytes a second of a body (1024), after a grace of `head_deadline`. Faster bytes earn
    /// credit for at most that time.
    pub body_rate: u32,
    /// Longest wait of a connection for its first or next request (75 s).
    pub idle: Duration,
    /// Longest time for a client to make room for 16 KiB of its answer (30 s).
    pub write_stall: Duration,
    /// Silence after which the client of an idle WebSocket is pinged (15 s); it is taken for lost if `idle`
    /// passes without a sign of it. Zero is never.
    pub ping: Duration,
    /// Longest time that a WebSocket is open (60 minutes, as OpenAI's); an answer under way may end.
    pub socket_age: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            head_bytes: 16 * 1024,
            headers: 100,
            body_bytes: 16 * 1024 * 1024,
            body_memory: 64 * 1024 * 1024,
            head_deadline: Duration::from_secs(10),
            body_rate: 1024,
            idle: Duration::from_secs(75),
            write_stall: Duration::from_secs(30),
            ping: Duration::from_secs(15),
            socket_age: Duration::from_secs(60 * 60),
        }
    }
}

/// The form of a refusal for a particular client.
#[derive(Clone)]
pub struct Look {
    /// Writes the error as the body, in the client's dialect.
    pub envelope: Envelope,
    /// Header fields besides those that every refusal has.
    pub fields: Vec<(&'static str, String)>,
}

impl Default for Look {
    /// OpenAI's error object and no extra fields, for clients of which nothing is known.
    fn default() -> Look {
        Look { envelope: DEFAULT_ENVELOPE, fields: Vec::new() }
    }
}

/// The application behind the HTTP server: decides whether a request is let in, and answers it.
pub trait Gate: Send + Sync {
    /// Checks a well-formed head before any of its body is read: authorisation, routes.
    ///
    /// # Errors
    /// The request is refused; the client is sent this error.
    fn admit(&self, head: &Head) -> Result<(), Error>;

    /// Returns how errors are written on the WebSocket that an admitted request asks for; `None` if it asks
    /// for none. Each message is then handed over as a request, and its answer goes as messages.
    fn upgrade(&self, _: &Head) -> Option<Envelope> {
        None
    }

    /// Takes over a request that has been read whole, and assigns somebody to answer it. A client
    /// that sends its body slowly occupies nobody, because nobody is assigned before this call.
    ///
    /// # Errors
    /// Nobody can answer; the client is sent this error.
    fn hand_over(&self, exchange: &Arc<Exchange>) -> Result<(), Error>;

    /// Called when an exchange that was handed over has not been taken for another
    /// [`TAKEN_WITHIN`]; `tries` counts these calls from 1.
    ///
    /// # Errors
    /// Nobody will answer; the client is sent this error.
    fn is_overdue(&self, exchange: &Arc<Exchange>, tries: u32) -> Result<(), Error>;

    /// Called when nobody waits for this answer any more: it has ended, or its client has gone.
    fn forget(&self, exchange: &Exchange);

    /// Returns the form of a refusal for the client that sent this head.
    fn look(&self, _: &Head) -> Look {
        Look::default()
    }

    /// Called for each request that is refused, by the gate or by the server itself. The head is
    /// `None` if it was not well-formed, or if no exchange could be opened.
    fn note_refusal(&self, _head: Option<&Head>, _error: &Error) {}

    /// Called with the number of open connections whenever it changes.
    fn note_connections(&self, _open: usize) {}

    /// Called when the WebSocket of this id opens and when it ends.
    fn note_socket(&self, _id: u64, _is_open: bool) {}

    /// Called for each client that is turned away because no more connections are possible.
    fn note_turned_away(&self) {}
}

/// Longest wait of an exchange that was handed over for somebody to take it; after each such time
/// [`Gate::is_overdue`] is called.
pub const TAKEN_WITHIN: Duration = Duration::from_secs(3);

/// A socket to accept clients on.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket, for a proxy on the same machine.
    Unix(UnixListener),
}

impl Listener {
    /// Accepts one client; returns its socket and its address for logs.
    fn accept(&self) -> io::Result<(ClientSocket, String)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                // It fails only if the client has left, which the first read or write reports.
                let _ = stream.set_nodelay(true);
                Ok((stream.into(), peer.to_string()))
            }
            Listener::Unix(listener) => Ok((listener.accept()?.0.into(), "unix".to_owned())),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

/// The running HTTP server. Dropping it calls [`Front::close_all`] and [`Front::stop_accepting`].
pub struct Front {
    shared: Arc<Shared>,
    acceptors: Mutex<Vec<JoinHandle<()>>>,
    heartbeats: Vec<Arc<Heartbeat>>,
}

impl Front {
    /// Starts an accept thread for each listener.
    ///
    /// # Errors
    /// No descriptor or thread is available.
    pub fn start(
        listeners: Vec<Listener>,
        gate: Arc<dyn Gate>,
        limits: Limits,
    ) -> io::Result<Front> {
        let shared = Arc::new(Shared {
            bodies: Budget::new(limits.body_memory),
            limits,
            last_id: AtomicU64::new(0),
            gate,
            stop: Signal::new()?,
            close: Signal::new()?,
            connections: Mutex::new(0),
            ended: Condvar::new(),
        });
        let mut front = Front { shared, acceptors: Mutex::default(), heartbeats: Vec::new() };
        for listener in listeners {
            let heartbeat = Arc::new(Heartbeat::new("the accept loop"));
            front.heartbeats.push(heartbeat.clone());
            let acceptor = Acceptor::new(listener, front.shared.clone(), heartbeat)?;
            let thread = thread::Builder::new().name("accept".to_owned());
            front.acceptors().push(thread.spawn(|| acceptor.run())?);
        }
        Ok(front)
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        *self.shared.connections()
    }

    /// Returns the heartbeats of the accept threads.
    pub fn heartbeats(&self) -> &[Arc<Heartbeat>] {
        &self.heartbeats
    }

    /// Closes the listeners and the idle connections. Exchanges under way go on; their connections
    /// close after them. When this returns, the listeners are closed.
    pub fn stop_accepting(&self) {
        self.shared.stop.raise();
        for acceptor in self.acceptors().drain(..) {
            // A panic of the thread has been reported where it happened.
            let _ = acceptor.join();
        }
    }

    /// Waits until all connections have ended; false if the deadline passed first.
    pub fn wait_idle(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let connections = self.shared.connections();
        let waited = self.shared.ended.wait_timeout_while(connections, left, |count| *count > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    /// Ends every connection, even in the middle of an answer, which is then cut. Returns at once:
    /// see [`Front::wait_idle`].
    pub fn close_all(&self) {
        self.shared.stop.raise();
        self.shared.close.raise();
    }

    fn acceptors(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.acceptors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.close_all();
        self.stop_accepting();
    }
}

/// State that all threads of the HTTP server share.
struct Shared {
    limits: Limits,
    /// The memory that all request bodies share.
    bodies: Arc<Budget>,
    /// The id of the latest exchange.
    last_id: AtomicU64,
    gate: Arc<dyn Gate>,
    /// Raised when connections must not wait for further requests.
    stop: Signal,
    /// Raised when every connection must end.
    close: Signal,
    connections: Mutex<usize>,
    /// Notified whenever a connection has ended.
    ended: Condvar,
}

impl Shared {
    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Logs one line for a refused request, as for a served one, and tells the gate. Without a head only
    /// the client's address is known.
    fn note_refusal(&self, peer: &str, head: Option<&Head>, error: &Error) {
        let what = head.map(|head| format!("{} {}", head.method, head.path()));
        let what = what.as_deref().unwrap_or("-");
        info!(status = error.report().status, error = error.cause(), peer; "{what}");
        self.gate.note_refusal(head, error);
    }

    fn connections(&self) -> MutexGuard<'_, usize> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the connections that the limit allows; dropping it frees the place.
struct Slot(Arc<Shared>);

impl Slot {
    fn take(shared: &Arc<Shared>) -> Option<Slot> {
        let mut connections = shared.connections();
        if *connections >= shared.limits.connections {
            return None;
        }
        *connections += 1;
        shared.gate.note_connections(*connections);
        Some(Slot(shared.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut connections = self.0.connections();
        *connections -= 1;
        self.0.gate.note_connections(*connections);
        drop(connections);
        self.0.ended.notify_all();
    }
}

/// Raises the soft limit on open descriptors to the hard limit, and returns the limit that now
/// applies.
pub fn raise_descriptor_limit() -> u64 {
    let hard = getrlimit(Resource::Nofile).maximum;
    // If this fails, the old limit stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns how many connections this many descriptors are enough for, at least one. An active
/// exchange uses three: the client's socket, the signal for its end, and one to LangFast. All
/// connections are assumed active.
pub fn connections_for(descriptors: u64) -> usize {
    /// Descriptors for listeners, log, state file, tiny_http and the connection to the runner, with
    /// some to spare.
    const OTHERS: u64 = 64;
    const PER_EXCHANGE: u64 = 3;
    let connections = descriptors.saturating_sub(OTHERS) / PER_EXCHANGE;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}
