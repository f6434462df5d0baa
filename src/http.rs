//! The client-facing side. It accepts connections, reads one whole request at a time under limits and
//! deadlines, refuses what is not well-formed, and only then hands it over to those behind the
//! [`Gate`]. It is the one place that knows when a client has gone.
//!
//! Enters: bytes of clients. Leaves: sound requests as [`Exchange`]s, and the bytes of their answers, which
//! take no way back through here: a hop less for each token. It may not know what a URL or a body means.
//!
//! ```text
//! accept ─▶ connection ─▶ head ─▶ gate ─▶ body ─▶ gate ─▶ attend ◀─ over
//!             ▲  (thread per client)                         │
//!             └────────────────── next request ──────────────┘
//! ```
//!
//! The front and who answers share an [`Exchange`]: the one who answers holds it as a [`Turn`], writes
//! to the client's own socket with [`Exchange::write`], learns when the client has gone, and says with
//! [`Exchange::finish`] that the answer is complete. The exchange is over when the turn is dropped. An
//! answer that ends without having been finished is cut by a reset, so that no client takes a part for
//! the whole.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

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
mod socket;
pub mod sse;

use crate::budget::Budget;
use crate::error::{DEFAULT_ENVELOPE, Envelope, Error};
use crate::observe::heartbeat::Heartbeat;
use accept::Acceptor;
use socket::{ClientSocket, Signal};

pub use exchange::{ClientNews, Exchange, Turn};
pub use head::{BodyLength, Head};
pub use refusal::{reason_phrase, refusal};

/// What a client may take of us. The defaults are in brackets.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once (1024); one more is told 503. See [`connections_for`].
    pub connections: usize,
    /// Bytes of a request's head (16 KiB), which is also what may be read ahead of a request.
    pub head_bytes: usize,
    /// Header fields of a request (100).
    pub headers: usize,
    /// Bytes of a request's body (16 MiB).
    pub body_bytes: usize,
    /// Bytes of all bodies together, with what is made of them (64 MiB). See [`Budget`].
    pub body_memory: usize,
    /// From the first byte of a head to its end (10 s).
    pub head_deadline: Duration,
    /// Bytes a second (1024) that a body must bring, once it has had `head_deadline` to begin. What
    /// came faster is credit for at most that long.
    pub body_rate: u32,
    /// How long a connection may wait for its first or next request (75 s).
    pub idle: Duration,
    /// How long a client may take to make room for 16 KiB of its answer (30 s).
    pub write_stall: Duration,
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
        }
    }
}

/// How a refusal looks to a client.
#[derive(Clone)]
pub struct Look {
    /// How the error is worded.
    pub envelope: Envelope,
    /// Header fields besides those that every refusal has.
    pub fields: Vec<(&'static str, String)>,
}

impl Default for Look {
    /// The look where nothing is known of the client.
    fn default() -> Look {
        Look { envelope: DEFAULT_ENVELOPE, fields: Vec::new() }
    }
}

/// Those behind the front: they decide whether a request is let in, and answer it.
pub trait Gate: Send + Sync {
    /// Asked when the head has been read and is well-formed, before any of the body is:
    /// authorisation, routes.
    ///
    /// # Errors
    /// What the client is told.
    fn admit(&self, head: &Head) -> Result<(), Error>;

    /// Takes a request that has been read whole, and has somebody answer it. Clients that are slow
    /// with their bodies keep nobody from work, because only this takes somebody.
    ///
    /// # Errors
    /// What the client is told: there is nobody to answer.
    fn hand_over(&self, exchange: &Arc<Exchange>) -> Result<(), Error>;

    /// Told that an exchange that was handed over has waited [`TAKEN_WITHIN`] for somebody to take it,
    /// for the `tries`-th time.
    ///
    /// # Errors
    /// What the client is told: nobody will answer.
    fn is_overdue(&self, exchange: &Arc<Exchange>, tries: u32) -> Result<(), Error>;

    /// Told that nobody waits for this answer any more: it has ended, or its client has gone.
    fn forget(&self, exchange: &Exchange);

    /// How a refusal looks to the client that sent this head.
    fn look(&self, _: &Head) -> Look {
        Look::default()
    }

    /// Told of each request that is refused, by the gate or by the front itself; there is no head if
    /// it was not well-formed.
    fn note_refusal(&self, _head: Option<&Head>, _error: &Error) {}

    /// Told how many connections are open, whenever that changes.
    fn note_connections(&self, _open: usize) {}

    /// Told of each client that is turned away because no more connections can be had.
    fn note_turned_away(&self) {}
}

/// How long an exchange that was handed over may wait for somebody to take it before
/// [`Gate::is_overdue`] is told.
pub const TAKEN_WITHIN: Duration = Duration::from_secs(3);

/// A socket to accept clients on.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a Unix socket, for a proxy on the same machine.
    Unix(UnixListener),
}

impl Listener {
    /// A client and its address.
    fn accept(&self) -> io::Result<(ClientSocket, String)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                // Fails only if the client has left, which is found out soon enough.
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

/// The running front. Dropping it is [`Front::stop_accepting`] and [`Front::close_all`].
pub struct Front {
    shared: Arc<Shared>,
    acceptors: Mutex<Vec<JoinHandle<()>>>,
    heartbeats: Vec<Arc<Heartbeat>>,
}

impl Front {
    /// Starts a thread per listener.
    ///
    /// # Errors
    /// For want of descriptors or threads.
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

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        *self.shared.connections()
    }

    /// Those of the accept loops.
    pub fn heartbeats(&self) -> &[Arc<Heartbeat>] {
        &self.heartbeats
    }

    /// Closes the listeners and the idle connections at once. Running exchanges go on, and their
    /// connections end with them. The listeners are closed when this returns.
    pub fn stop_accepting(&self) {
        self.shared.stop.raise();
        for acceptor in self.acceptors().drain(..) {
            // A panic of it has been reported where it happened.
            let _ = acceptor.join();
        }
    }

    /// Waits until all connections have ended; false when the deadline came first.
    pub fn wait_idle(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let connections = self.shared.connections();
        let waited = self.shared.ended.wait_timeout_while(connections, left, |count| *count > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    /// Ends every connection, whatever it is doing; answers that are not complete are cut. Does not
    /// wait: see [`Front::wait_idle`].
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

/// What all threads of the front know.
struct Shared {
    limits: Limits,
    /// What all bodies take together.
    bodies: Arc<Budget>,
    /// The id of the exchange that was begun last.
    last_id: AtomicU64,
    gate: Arc<dyn Gate>,
    /// Raised when no new request is to be waited for.
    stop: Signal,
    /// Raised when every connection is to end.
    close: Signal,
    connections: Mutex<usize>,
    /// Told whenever a connection has ended.
    ended: Condvar,
}

impl Shared {
    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn connections(&self) -> MutexGuard<'_, usize> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among those allowed, given back when it is dropped.
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

/// Raises the soft limit of open descriptors to the hard one and returns what then holds.
pub fn raise_descriptor_limit() -> u64 {
    let hard = getrlimit(Resource::Nofile).maximum;
    // If it is refused, the old limit holds.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections so many descriptors are enough for, at least one. An active exchange takes
/// three: the client's, the signal that it is over, and one to LangFast. All count as active.
pub fn connections_for(descriptors: u64) -> usize {
    /// Listeners, log, state file, tiny_http's, the connection to the runner, and some to spare.
    const OTHERS: u64 = 64;
    const PER_EXCHANGE: u64 = 3;
    let connections = descriptors.saturating_sub(OTHERS) / PER_EXCHANGE;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}
