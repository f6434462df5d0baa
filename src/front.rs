//! The client-facing side. It accepts connections, reads one whole request at a time under limits
//! and deadlines, refuses what is not well-formed, and only then passes the request on, normalised,
//! over a private Unix socket to tiny_http. So tiny_http, which has no limits of its own, only ever
//! sees sound requests, each on its own connection; and here is the one place that knows when a client
//! has gone. The answer takes no way back through here: a hop less for each token.
//!
//! ```text
//! accept ─▶ connection ─▶ head ─▶ gate ─▶ body ─▶ relay ◀─▶ private socket
//!             ▲  (thread per client)                │
//!             └──────────── next request ───────────┘
//! ```
//!
//! The front and who answers share an [`Exchange`]: a worker takes it by the id that the private
//! request carries, answers on the client's socket with [`Exchange::write`], learns when the client
//! has gone, and says with [`Exchange::finish`] that the answer is complete. It is over when the
//! private connection ends. An answer that ends without having been finished is cut by a reset, so
//! that no client takes a part for the whole.

use std::any::Any;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod accept;
pub mod body;
mod connection;
mod exchange;
pub mod head;
mod refusal;
mod relay;
mod socket;

use crate::error::{DEFAULT_ENVELOPE, Envelope, Error};
use crate::heartbeat::Heartbeat;
use accept::Acceptor;
use socket::{Signal, Socket};

pub use exchange::{ClientNews, Exchange, Exchanges};
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
    /// From the first byte of a head to its end (10 s).
    pub head_deadline: Duration,
    /// Bytes a second (1024) that a body must bring on average at any time, once it has had
    /// `head_deadline` to begin.
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
            head_deadline: Duration::from_secs(10),
            body_rate: 1024,
            idle: Duration::from_secs(75),
            write_stall: Duration::from_secs(30),
        }
    }
}

/// Decides whether a request is let in.
pub trait Gate: Send + Sync {
    /// Asked when the head has been read and is well-formed, before any of the body is:
    /// authorisation, routes.
    ///
    /// # Errors
    /// What the client is told.
    fn admit(&self, head: &Head) -> Result<(), Error>;

    /// Asked when the whole request has been read: whether there is somebody to work on it. Clients
    /// that are slow with their bodies keep nobody from work. The value is kept in the [`Exchange`]
    /// until both sides have dropped it.
    ///
    /// # Errors
    /// What the client is told.
    fn permit(&self) -> Result<Box<dyn Any + Send + Sync>, Error>;

    /// How an error looks to the client that sent this head.
    fn envelope(&self, _: &Head) -> Envelope {
        DEFAULT_ENVELOPE
    }

    /// Told of each request that is refused, by the gate or by the front itself; there is no head if
    /// it was not well-formed.
    fn note_refusal(&self, _head: Option<&Head>, _error: &Error) {}

    /// Told how many connections are open, whenever that changes.
    fn note_connections(&self, _open: usize) {}

    /// Told of each client that is turned away because no more connections can be had.
    fn note_turned_away(&self) {}
}

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
    fn accept(&self) -> io::Result<(Socket, String)> {
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
    /// Starts a thread per listener. `backend` is the path of the private socket, which should be in
    /// a directory that nobody else can enter. Fails for want of descriptors or threads.
    pub fn start(
        listeners: Vec<Listener>,
        backend: PathBuf,
        exchanges: Arc<Exchanges>,
        gate: Arc<dyn Gate>,
        limits: Limits,
    ) -> io::Result<Front> {
        let shared = Arc::new(Shared {
            limits,
            backend,
            exchanges,
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
    backend: PathBuf,
    exchanges: Arc<Exchanges>,
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
/// five: the client's, two ends of the private connection, tiny_http's copy of its end, and one to
/// LangFast. tiny_http stops accepting for good when there are none left, so all count as active.
pub fn connections_for(descriptors: u64) -> usize {
    /// Listeners, log, state file, the connection to the runner, and some to spare.
    const OTHERS: u64 = 64;
    const PER_EXCHANGE: u64 = 5;
    let connections = descriptors.saturating_sub(OTHERS) / PER_EXCHANGE;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}
