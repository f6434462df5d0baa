//! The running server: `front`'s connections, and the workers that tiny_http hands requests to (`server`
//! is the only user of tiny_http).
//!
//! tiny_http listens on a private Unix socket, on which `front` sends it one sound request a
//! connection. The worker learns from the exchange what the client sent in its head.

mod admission;
mod private;
mod route;
mod service;
mod workers;

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use service::Service;

use admission::Admission;
use private::PrivateSocket;
use workers::Workers;

use crate::front::{Exchanges, Front, Limits, Listener};
use crate::heartbeat::Heartbeat;
use crate::manager::Pulse;

/// How much the server does at once.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Of the connections.
    pub front: Limits,
    /// Requests that are worked on at once.
    pub requests: usize,
    /// Called when a burst of requests is over.
    pub after_burst: fn(),
}

/// The running server. Dropping it ends all connections.
pub struct Server {
    /// The clients' side.
    pub front: Front,
    workers: Arc<Workers>,
    _private: PrivateSocket,
}

impl Server {
    /// Starts to serve on `listeners`.
    ///
    /// # Errors
    /// When the private socket, a thread or a descriptor cannot be had.
    pub fn start(
        listeners: Vec<Listener>,
        service: Arc<Service>,
        limits: ServerLimits,
    ) -> io::Result<Server> {
        let (private, listener) = PrivateSocket::bind()?;
        let http = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let exchanges = Arc::new(Exchanges::default());
        let workers =
            Workers::new(http, exchanges.clone(), service, limits.requests, limits.after_burst);
        let gate = Arc::new(Admission { workers: workers.clone() });
        let path = private.path();
        let front = Front::start(listeners, path, exchanges, gate, limits.front)?;
        Ok(Server { front, workers, _private: private })
    }

    /// How the server is, for its watchdog.
    pub fn pulse(&self) -> ServerPulse {
        let mut heartbeats = self.front.heartbeats().to_vec();
        heartbeats.push(self.workers.service().completions.langfast.heartbeat());
        ServerPulse { heartbeats, workers: self.workers.clone() }
    }
}

/// How the server is: whether its accept loops, LangFast's runner and the way to the workers go on. A
/// server that is busy, even one that turns clients away, is not stuck.
pub struct ServerPulse {
    heartbeats: Vec<Arc<Heartbeat>>,
    workers: Arc<Workers>,
}

impl Pulse for ServerPulse {
    fn check(&self, grace: Duration) -> Result<(), String> {
        self.heartbeats.iter().try_for_each(|heartbeat| heartbeat.check(grace))?;
        match self.workers.longest_wait() {
            Some(wait) if wait > grace => Err("the way to the workers is stuck".to_owned()),
            _ => Ok(()),
        }
    }

    fn status(&self) -> String {
        let requests = format!("{} requests under way", self.workers.requests());
        match self.workers.service().completions.langfast.session().failure() {
            Some(error) => format!("{requests}; signing in failed: {error}"),
            None => requests,
        }
    }
}
