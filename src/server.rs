//! The running server: lets requests in and answers them. It is the only user of tiny_http.
//!
//! Enters: a request that [`crate::http`] has read. Leaves: its answer, by the routes of `answers`.
//! It may know every room but [`crate::cli`].
//!
//! ```text
//! front ─▶ admission ─▶ tickets ─▶ line ─▶ tiny_http ─▶ workers ─▶ answers
//! ```
//!
//! The front hands over a request that it has read. The request waits in `tickets`, while a ticket
//! with its number goes through tiny_http to a worker; the worker fetches the request by the number
//! and answers on the client's own socket.

pub mod access;
mod admission;
mod answers;
mod ending;
mod line;
mod listed_models;
pub mod listen;
mod metrics;
mod models_in_use;
mod page;
pub mod peers;
mod permits;
mod pool;
pub mod probe;
mod route;
mod service;
mod stored_responses;
mod tickets;
mod unknown_url;
pub mod warming;
mod workers;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use models_in_use::ModelsInUse;
pub use service::Service;

use admission::Admission;
use tickets::Tickets;
use workers::Workers;

use crate::http::{Front, Limits, Listener};
use crate::observe::heartbeat::Heartbeat;
use crate::observe::manager::Health;

/// Time between two looks at what goes on without a connection.
const LOOK: Duration = Duration::from_millis(10);

/// Limits on the work that the server does at the same time.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Limits on connections and their requests.
    pub front: Limits,
    /// Most requests that are worked on at the same time.
    pub requests: usize,
    /// Called when a burst of answers is over, to free its memory.
    pub after_burst: fn(),
}

/// The running server. Dropping it ends all connections.
pub struct Server {
    /// The side that accepts and reads clients.
    pub front: Front,
    workers: Arc<Workers>,
    tickets: Arc<Tickets>,
}

impl Server {
    /// Starts serving on `listeners`.
    ///
    /// # Errors
    /// No thread or descriptor is available.
    pub fn start(
        listeners: Vec<Listener>,
        service: Arc<Service>,
        limits: ServerLimits,
    ) -> io::Result<Server> {
        let tickets = Arc::new(Tickets::new()?);
        let workers = Workers::new(tickets.clone(), service, limits.requests, limits.after_burst);
        let gate = Admission { workers: workers.clone(), tickets: tickets.clone() };
        let front = Front::start(listeners, Arc::new(gate), limits.front)?;
        Ok(Server { front, workers, tickets })
    }

    /// Waits until no connection is open and no answer is under way, in the background neither; false if that
    /// is not so at the deadline.
    pub fn wait_idle(&self, deadline: Instant) -> bool {
        // An answer in the background has no connection, and nobody is told of its end.
        let mut is_idle = self.front.wait_idle(deadline) && self.workers.requests() == 0;
        while !is_idle && Instant::now() < deadline {
            std::thread::sleep(LOOK);
            is_idle = self.front.wait_idle(deadline) && self.workers.requests() == 0;
        }
        is_idle
    }

    /// Returns the checks of the server for its watchdog.
    pub fn health(&self) -> ServerHealth {
        let mut heartbeats = self.front.heartbeats().to_vec();
        heartbeats.push(self.workers.service().completions.langfast.heartbeat());
        let (workers, tickets) = (self.workers.clone(), self.tickets.clone());
        ServerHealth { heartbeats, workers, tickets }
    }
}

/// Reports for the watchdog whether the accept loops, LangFast's runner and the way to the workers
/// make progress. A busy server is not stuck, even one that turns clients away.
pub struct ServerHealth {
    heartbeats: Vec<Arc<Heartbeat>>,
    workers: Arc<Workers>,
    tickets: Arc<Tickets>,
}

impl Health for ServerHealth {
    fn check(&self, grace: Duration) -> Result<(), String> {
        self.heartbeats.iter().try_for_each(|heartbeat| heartbeat.check(grace))?;
        match self.tickets.longest_wait() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completions::{Completions, Repeats};
    use crate::config::model_list::LoadedModels;
    use crate::config::{FittedLimits, Settings};
    use crate::langfast::{Deadlines, LangFast};
    use crate::server::access::Access;
    use crate::stored::{Lanes, Store};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn start() -> (Server, SocketAddr) {
        start_with(Limits::default())
    }

    /// Starts a server whose LangFast cannot be reached.
    fn start_with(front: Limits) -> (Server, SocketAddr) {
        let flags = ["--state-dir", "/nowhere", "--origin", "http://127.0.0.1:1"];
        let settings = Settings::of_flags(&flags);
        let minute = Duration::from_secs(60);
        let completions = Completions {
            langfast: Arc::new(LangFast::new(&settings.langfast).unwrap()),
            deadlines: Deadlines {
                first_event: minute,
                silence: minute,
                run: minute,
                reconnect: minute,
            },
            strict: false,
            second_tries: None,
            keep_alive: minute,
            images: Default::default(),
            tool_repair: false,
            marker_secret: Default::default(),
            stopping: Arc::default(),
            repeats: Repeats::new(Duration::ZERO),
            vitals: Arc::default(),
        };
        let source = settings.model_source();
        let LoadedModels { models, list } = source.read().unwrap();
        let service = Service {
            models: ModelsInUse::new(source, models, &list),
            all_models: false,
            completions,
            access: Access::default(),
            vitals: Arc::default(),
            stored: Store::new(0, minute, None),
            lanes: Lanes::new(0, minute),
            peers: Default::default(),
            open_metrics: false,
            limits: FittedLimits::of(&settings.limits).unwrap(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listeners = vec![Listener::Tcp(listener)];
        let limits = ServerLimits { front, requests: 8, after_burst: || {} };
        (Server::start(listeners, Arc::new(service), limits).unwrap(), address)
    }

    fn serves(address: SocketAddr) -> bool {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.starts_with("HTTP/1.1 200 ")
    }

    #[test]
    fn when_tiny_http_ends_or_is_stuck_another_takes_its_place_and_no_request_is_lost() {
        let (server, address) = start();
        assert!(serves(address));
        for fail in [tickets_break as fn(&Server), tickets_get_stuck] {
            fail(&server);
            std::thread::scope(|scope| {
                let clients: Vec<_> =
                    (0..4).map(|_| scope.spawn(move || serves(address))).collect();
                assert!(clients.into_iter().all(|client| client.join().unwrap()));
            });
            assert!(serves(address));
        }
        assert_eq!(server.tickets.longest_wait(), None);
    }

    #[test]
    fn a_websocket_that_is_too_old_is_told_so_whatever_it_asks_and_ends() {
        let (_server, address) =
            start_with(Limits { socket_age: Duration::ZERO, ..Limits::default() });
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = "GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        // Masked with zeros.
        let message = b"\x81\x82\0\0\0\0{}";
        stream.write_all(&[head.as_bytes(), message].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("websocket_connection_limit_reached") && !text.contains("type`"));
        assert!(text.contains("(0 minutes)"), "{text}");
        let end = answer.windows(2).rposition(|bytes| bytes == [0x88, 27]).unwrap();
        assert_eq!(answer[end + 2..end + 4], 1000u16.to_be_bytes());
    }

    fn tickets_break(server: &Server) {
        server.tickets.line().break_off();
    }

    fn tickets_get_stuck(server: &Server) {
        server.tickets.line().get_stuck();
    }
}
