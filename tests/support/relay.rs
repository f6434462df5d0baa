//! A relay between the program and the simulator that can fail as networks do: it cuts connections,
//! holds back what passes through, speaks TLS, or wants to be asked for a tunnel as a proxy.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use native_tls::{Identity, TlsAcceptor, TlsStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::wait_until;

/// How often a connection looks whether it has been cut.
const TICK: Duration = Duration::from_millis(5);

/// A certificate for `localhost`, its own authority; its path is for `SSL_CERT_FILE`.
pub const CERTIFICATE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificate/localhost.pem");

/// What [`CERTIFICATE`] is called in a folder of root certificates: `openssl x509 -hash`.
pub const HASH_NAME: &str = "ffb4d76d.0";

/// A relay; everything it holds ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Raised by every cut.
    generation: AtomicUsize,
    /// Whether what the target says is held back.
    muted: AtomicBool,
    /// Whether new connections are closed at once.
    closed: AtomicBool,
    stopped: AtomicBool,
    connections: AtomicUsize,
    /// The client of the last one.
    latest: Mutex<Option<SocketAddr>>,
    open: AtomicUsize,
    /// Pieces of what the targets said that were passed on.
    passed: AtomicUsize,
    /// The heads that a proxy was sent.
    asked: Mutex<Vec<String>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How a relay meets a client.
#[derive(Clone)]
enum Manner {
    Plain,
    Tls(TlsAcceptor),
    /// As an HTTP proxy that answers CONNECT with this.
    Proxy(&'static str),
}

impl Relay {
    /// A relay to the address in this URL.
    pub fn to(url: &str) -> Relay {
        Relay::start(Some(address_of(url)), Manner::Plain)
    }

    /// A relay that speaks TLS, with [`CERTIFICATE`], to its clients and none to its target.
    pub fn with_tls(url: &str) -> Relay {
        let read = |name: &str| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificate/");
            std::fs::read(format!("{folder}{name}")).unwrap()
        };
        let identity =
            Identity::from_pkcs8(&read("localhost.pem"), &read("localhost.key")).unwrap();
        Relay::start(Some(address_of(url)), Manner::Tls(TlsAcceptor::new(identity).unwrap()))
    }

    /// An HTTP proxy that lets every tunnel pass.
    pub fn proxy() -> Relay {
        Relay::start(
            None,
            Manner::Proxy("HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"),
        )
    }

    /// An HTTP proxy that gives this answer and no tunnel.
    pub fn refusing_proxy(answer: &'static str) -> Relay {
        Relay::start(None, Manner::Proxy(answer))
    }

    fn start(target: Option<SocketAddr>, manner: Manner) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let acceptor = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if own.stopped.load(Ordering::SeqCst) {
                    return;
                }
                if own.closed.load(Ordering::SeqCst) {
                    continue;
                }
                own.connections.fetch_add(1, Ordering::SeqCst);
                *own.latest.lock().unwrap() = client.peer_addr().ok();
                let (shared, manner) = (own.clone(), manner.clone());
                let thread = std::thread::spawn(move || {
                    shared.open.fetch_add(1, Ordering::SeqCst);
                    // That a side has ended, or fails the handshake, is what this is for.
                    let _ = shared.serve(client, target, &manner);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
                own.threads.lock().unwrap().push(thread);
            }
        });
        Relay { address, shared, acceptor: Some(acceptor) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until all connections that clients have made so far are counted. One more is: its own.
    pub fn settle(&self) {
        let last = TcpStream::connect(self.address).unwrap();
        let address = last.local_addr().unwrap();
        wait_until("a connection behind all others", || {
            *self.shared.latest.lock().unwrap() == Some(address)
        });
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Pieces of what the target said that were passed on so far.
    pub fn passed(&self) -> usize {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// Closes every connection.
    pub fn cut(&self) {
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Holds back, or no longer, what the target says, its end too: to the clients it is dead.
    pub fn mute(&self, muted: bool) {
        self.shared.muted.store(muted, Ordering::SeqCst);
    }

    /// Closes, or no longer, every new connection as soon as it is made.
    pub fn close(&self, closed: bool) {
        self.shared.closed.store(closed, Ordering::SeqCst);
    }

    /// The heads of the requests that a proxy was sent, in order.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the acceptor; if that fails, it has ended.
        let _ = TcpStream::connect(self.address);
        let _ = self.acceptor.take().unwrap().join();
        for thread in self.shared.threads.lock().unwrap().drain(..) {
            let _ = thread.join();
        }
    }
}

fn address_of(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

/// One end of a relayed connection; reads do not block, writes do.
enum Side {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Side {
    fn tcp(&self) -> &TcpStream {
        match self {
            Side::Plain(tcp) => tcp,
            Side::Tls(tls) => tls.get_ref(),
        }
    }

    /// What there is to read; `None` at the end.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; 64 * 1024];
        self.tcp().set_nonblocking(true)?;
        let read = match self {
            Side::Plain(tcp) => tcp.read(&mut bytes),
            Side::Tls(tls) => tls.read(&mut bytes),
        };
        match read {
            Ok(0) => Ok(None),
            Ok(length) => {
                bytes.truncate(length);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(Vec::new())),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tcp().set_nonblocking(false)?;
        match self {
            Side::Plain(tcp) => tcp.write_all(bytes),
            Side::Tls(tls) => tls.write_all(bytes),
        }
    }
}

impl Shared {
    fn serve(
        &self,
        mut client: TcpStream,
        target: Option<SocketAddr>,
        manner: &Manner,
    ) -> io::Result<()> {
        let generation = self.generation.load(Ordering::SeqCst);
        client.set_nodelay(true)?;
        // A client that says nothing would hold the handshake up for ever.
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        let (client, target) = match manner {
            Manner::Plain => (Side::Plain(client), target.unwrap()),
            Manner::Tls(tls) => {
                let stream = tls.accept(client).map_err(|e| io::Error::other(e.to_string()))?;
                (Side::Tls(Box::new(stream)), target.unwrap())
            }
            Manner::Proxy(answer) => {
                let head = read_head(&mut client)?;
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                self.asked.lock().unwrap().push(head);
                client.write_all(answer.as_bytes())?;
                if !answer.contains(" 200 ") {
                    return Ok(());
                }
                // Of localhost's addresses the test's servers have the IPv4 one.
                let target = target.replace("localhost", "127.0.0.1");
                (Side::Plain(client), target.parse().map_err(io::Error::other)?)
            }
        };
        let target = TcpStream::connect(target)?;
        target.set_nodelay(true)?;
        self.pump(client, Side::Plain(target), generation)
    }

    fn pump(&self, mut client: Side, mut target: Side, generation: usize) -> io::Result<()> {
        let tick = Timespec::try_from(TICK).unwrap();
        while self.generation.load(Ordering::SeqCst) == generation {
            let muted = self.muted.load(Ordering::SeqCst);
            let mut fds = vec![PollFd::from_borrowed_fd(client.tcp().as_fd(), PollFlags::IN)];
            if !muted {
                fds.push(PollFd::from_borrowed_fd(target.tcp().as_fd(), PollFlags::IN));
            }
            poll(&mut fds, Some(&tick))?;
            // TLS may hold what poll cannot see.
            loop {
                let Some(bytes) = client.read()? else { return Ok(()) };
                if bytes.is_empty() {
                    break;
                }
                // A dead target takes everything.
                if target.write(&bytes).is_err() && !muted {
                    return Ok(());
                }
            }
            if self.muted.load(Ordering::SeqCst) {
                continue;
            }
            match target.read()? {
                None => return Ok(()),
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => {
                    client.write(&bytes)?;
                    self.passed.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        Ok(())
    }
}

fn read_head(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
