//! The server under test, and a gate that refuses by path.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use langfast2api::error::Error;
use langfast2api::http::{Exchange, Front, Gate, Head, Limits, Listener, Look};

use super::PATIENCE;
use super::client::{Client, connect};
use super::worker::{Worker, respond};
use crate::support::wait_until;

pub struct Server {
    pub front: Front,
    pub address: SocketAddr,
    pub doorman: Arc<Doorman>,
    /// What workers report.
    pub reports: Receiver<String>,
    /// Lets waiting workers go on, one per message.
    pub go_on: Sender<()>,
}

impl Server {
    pub fn start(limits: Limits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Server::start_with(limits, address, vec![Listener::Tcp(listener)])
    }

    pub fn start_with(limits: Limits, address: SocketAddr, listeners: Vec<Listener>) -> Server {
        let (report, reports) = unbounded();
        let (go_on, wait) = unbounded();
        let doorman = Doorman::new(Some(Worker { reports: report, go_on: wait }));
        let front = Front::start(listeners, doorman.clone(), limits).unwrap();
        Server { front, address, doorman, reports, go_on }
    }

    pub fn client(&self) -> Client<TcpStream> {
        connect(self.address)
    }

    /// What a worker reports next.
    pub fn report(&self) -> String {
        self.reports.recv_timeout(PATIENCE).expect("a worker should have reported")
    }

    pub fn wait_for_connections(&self, expected: usize) {
        wait_until(&format!("{expected} connections"), || self.front.connections() == expected);
    }

    /// Shows that the server still serves.
    pub fn serves(&self) {
        let mut client = self.client();
        client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.answer().body, b"hello");
    }
}

/// A front with nobody behind it.
pub fn front_alone() -> (Front, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listeners = vec![Listener::Tcp(listener)];
    (Front::start(listeners, Doorman::new(None), Limits::default()).unwrap(), address)
}

/// Refuses by path, as the real one does; `/gate-panics` shows that even that is confined.
pub struct Doorman {
    /// Nobody works on anything if there is none.
    worker: Option<Worker>,
    /// Requests handed over that have not been answered.
    pub under_way: Arc<AtomicUsize>,
    /// Whether there is nobody to work on a request.
    pub is_full: AtomicBool,
    /// Those that nobody has taken yet.
    pub left: Mutex<Vec<Arc<Exchange>>>,
}

/// Counts a request while it is answered.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Doorman {
    fn new(worker: Option<Worker>) -> Arc<Doorman> {
        let (under_way, is_full, left) = Default::default();
        Arc::new(Doorman { worker, under_way, is_full, left })
    }
}

impl Gate for Doorman {
    fn admit(&self, head: &Head) -> Result<(), Error> {
        match head.path() {
            "/secret" => Err(Error::Unauthorized("no key")),
            "/get-only" => {
                Err(Error::WrongMethod { method: head.method.clone(), allow: "GET, HEAD" })
            }
            "/full" => Err(Error::Overloaded("test".to_owned())),
            "/gate-panics" => panic!("a gate that panics, on purpose"),
            _ => Ok(()),
        }
    }

    fn hand_over(&self, exchange: &Arc<Exchange>) -> Result<(), Error> {
        let worker = self.worker.clone().filter(|_| !self.is_full.load(Ordering::SeqCst));
        let Some(worker) = worker else { return Err(Error::Overloaded("test".to_owned())) };
        if exchange.head.path().starts_with("/left") {
            self.left.lock().unwrap().push(exchange.clone());
            return Ok(());
        }
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let (turn, under_way) = (exchange.take().unwrap(), UnderWay(self.under_way.clone()));
        thread::spawn(move || {
            let _under_way = under_way;
            worker.answer(&turn);
        });
        Ok(())
    }

    fn is_overdue(&self, exchange: &Arc<Exchange>, _: u32) -> Result<(), Error> {
        match exchange.head.path() {
            "/left-for-good" => Err(Error::Overloaded("nobody takes it".to_owned())),
            "/left-and-taken-too-late" => {
                respond(&exchange.take().unwrap(), b"late");
                Err(Error::Overloaded("nobody takes it".to_owned()))
            }
            _ => {
                respond(&exchange.take().unwrap(), b"late");
                Ok(())
            }
        }
    }

    fn forget(&self, exchange: &Exchange) {
        self.left.lock().unwrap().retain(|left| left.id != exchange.id);
    }

    fn look(&self, _: &Head) -> Look {
        Look { fields: vec![("X-Look", "test".to_owned())], ..Look::default() }
    }
}
