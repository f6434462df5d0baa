//! Connections to LangFast: DNS, TCP, a proxy's CONNECT and TLS, under one deadline, for the HTTP
//! calls and the socket alike. The one TLS connector lives here: each costs about 1 MB.

mod connection;
mod endpoint;
mod proxy;

use std::fmt::{self, Display};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use native_tls::{HandshakeError, TlsConnector};
use rustix::net::sockopt;
use ureq::http::Uri;

use super::roots;
pub use connection::{OutboundConnection, TimedSocket};
pub use endpoint::Endpoint;
use proxy::{PROXY_VARIABLES, connect_through, proxy_fault};

/// The TLS library, by name: native-tls uses OpenSSL on all systems that this program runs on.
pub const TLS: &str = "openssl";

/// TCP keep-alive: the silence after which an idle connection is probed, and the time between two
/// probes.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Number of unanswered probes after which a connection counts as lost.
const LOST_SIGNS: u32 = 3;

/// Why no connection was made: which part failed, and what to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError {
    /// DNS, TCP, TLS or a proxy failed, described in words.
    Failed(String),
    /// A name has no address, described in words.
    NoName(String),
    /// The connect deadline passed.
    TimedOut(Duration),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Failed(why) | DialError::NoName(why) => f.write_str(why),
            DialError::TimedOut(limit) => {
                write!(f, "no connection within {} s", limit.as_secs_f64())
            }
        }
    }
}

impl std::error::Error for DialError {}

/// A stage in making a connection, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The name is looked up.
    Lookup,
    /// TCP connects.
    Connect,
    /// A proxy opens a tunnel, in place of the two above.
    Tunnel,
    /// The TLS handshake, if the endpoint uses TLS.
    Tls,
}

/// Called after each completed stage, with a detail of it for people to read.
type Done<'a> = &'a mut dyn FnMut(Stage, &dyn Display);

/// Makes connections, directly or through a proxy.
#[derive(Debug)]
pub struct Dialer {
    timeout: Duration,
    proxy: Option<ureq::Proxy>,
    tls: OnceLock<Result<TlsConnector, String>>,
}

impl Dialer {
    /// A dialer with one deadline for all parts of a connection, and the proxy that the environment
    /// names (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).
    pub fn new(timeout: Duration) -> Dialer {
        Dialer { timeout, proxy: ureq::Proxy::try_from_env(), tls: OnceLock::new() }
    }

    /// Whether the proxy that the environment names can be used on the way to `endpoint`; nothing is
    /// connected. ureq passes over a URL that it cannot read, and requests would go past the proxy.
    ///
    /// # Errors
    /// Names the variable, and says what it takes; a password in it is left out.
    pub fn check_proxy(&self, endpoint: &Endpoint) -> Result<(), String> {
        let named = PROXY_VARIABLES.into_iter().find_map(|name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        let Some((name, value)) = named else { return Ok(()) };
        let is_unused = self.proxy.is_some() && self.proxy_for(endpoint).is_none();
        match proxy_fault(&value).filter(|_| !is_unused) {
            Some(why) => {
                let shown = value.rsplit('@').next().unwrap_or_default();
                Err(format!("{name}: the proxy `{shown}` cannot be used: {why}"))
            }
            None => Ok(()),
        }
    }

    /// The deadline of one connection.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Connects to `endpoint`, with `TCP_NODELAY`, and with TLS if the endpoint uses it.
    ///
    /// The connection has no deadline: set one with [`OutboundConnection::set_deadline`].
    ///
    /// # Errors
    /// [`DialError`] says which part failed.
    pub fn dial(&self, endpoint: &Endpoint) -> Result<OutboundConnection, DialError> {
        self.dial_in_stages(endpoint, &mut |_, _| {})
    }

    /// The stages of a connection to `endpoint`.
    pub fn stages(&self, endpoint: &Endpoint) -> Vec<Stage> {
        let way: &[Stage] = match self.proxy_for(endpoint) {
            Some(_) => &[Stage::Tunnel],
            None => &[Stage::Lookup, Stage::Connect],
        };
        way.iter().copied().chain(endpoint.tls.then_some(Stage::Tls)).collect()
    }

    /// As [`Dialer::dial`], and calls `done` after each stage: the first stage without a call is the
    /// one that failed.
    ///
    /// # Errors
    /// As [`Dialer::dial`].
    pub fn dial_in_stages(
        &self,
        endpoint: &Endpoint,
        done: Done<'_>,
    ) -> Result<OutboundConnection, DialError> {
        let deadline = Instant::now() + self.timeout;
        let mut connection = self.dial_by(endpoint, deadline, done).map_err(|error| {
            // Any failure after the deadline counts as this deadline's.
            if Instant::now() >= deadline { DialError::TimedOut(self.timeout) } else { error }
        })?;
        connection.set_deadline(None);
        Ok(connection)
    }

    fn dial_by(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
        done: Done<'_>,
    ) -> Result<OutboundConnection, DialError> {
        let tcp = match self.proxy_for(endpoint) {
            Some(proxy) => {
                let socket = connect_through(proxy, endpoint, deadline)?;
                done(Stage::Tunnel, &format_args!("{}:{}", proxy.host(), proxy.port()));
                socket
            }
            None => {
                let tcp = connect_tcp(&endpoint.host, endpoint.port, deadline, done)?;
                TimedSocket::new(tcp, deadline)
            }
        };
        if !endpoint.tls {
            return Ok(OutboundConnection::Plain(tcp));
        }
        let connector = self.tls().map_err(DialError::Failed)?;
        match connector.connect(&endpoint.host, tcp) {
            Ok(stream) => {
                done(Stage::Tls, &"its certificate is accepted");
                Ok(OutboundConnection::Tls(Box::new(stream)))
            }
            Err(error) => Err(DialError::Failed(tls_failure(&endpoint.host, error))),
        }
    }

    fn proxy_for(&self, endpoint: &Endpoint) -> Option<&ureq::Proxy> {
        let uri: Uri = endpoint.url("http", "/").parse().ok()?;
        self.proxy.as_ref().filter(|proxy| !proxy.is_no_proxy(&uri))
    }

    fn tls(&self) -> Result<&TlsConnector, String> {
        self.tls
            .get_or_init(|| roots::connector().map_err(|e| format!("TLS cannot be set up: {e}")))
            .as_ref()
            .map_err(Clone::clone)
    }
}

fn tls_failure(host: &str, error: HandshakeError<TimedSocket>) -> String {
    let why = match error {
        HandshakeError::Failure(error) => error.to_string(),
        HandshakeError::WouldBlock(_) => "no answer in time".to_owned(),
    };
    if why.contains("certificate") {
        format!(
            "the TLS certificate of {host} is not accepted ({why}). Check the clock, the system's root \
             certificates (SSL_CERT_FILE), and who answers under that name"
        )
    } else {
        format!("the TLS handshake with {host} failed: {why}")
    }
}

fn connect_tcp(
    host: &str,
    port: u16,
    deadline: Instant,
    done: Done<'_>,
) -> Result<TcpStream, DialError> {
    let addresses = resolve(host, port, deadline)?;
    done(Stage::Lookup, &Addresses(&addresses));
    let (tcp, address) = connect_to_one_of(&addresses, deadline).map_err(|failure| {
        DialError::Failed(match failure {
            Some(error) => format!("{host} port {port} does not accept connections: {error}"),
            None => format!("{host} has no address"),
        })
    })?;
    set_options(&tcp).map_err(|e| DialError::Failed(e.to_string()))?;
    done(Stage::Connect, &address);
    Ok(tcp)
}

/// Connects to the first address that answers. Fails with the last one's error; with `None` if there is
/// no address.
fn connect_to_one_of(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<(TcpStream, SocketAddr), Option<io::Error>> {
    let mut failure = None;
    for (at, address) in addresses.iter().enumerate() {
        // Each address gets an equal share of what is left, so that a dead first one (IPv6 without a
        // route, say) leaves time for the others.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - at) as u32;
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(tcp) => return Ok((tcp, *address)),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure)
}

/// Sets `TCP_NODELAY` and keep-alive: a peer that has vanished without a word is noticed before a
/// request is lost on it, and routers on the way do not forget idle connections.
fn set_options(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(tcp, KEEP_ALIVE)?;
    Ok(sockopt::set_tcp_keepcnt(tcp, LOST_SIGNS)?)
}

/// Displays addresses as a list, for people to read.
struct Addresses<'a>(&'a [SocketAddr]);

impl Display for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            write!(f, "{}{}", if at > 0 { ", " } else { "" }, address.ip())?;
        }
        Ok(())
    }
}

/// Looks `host` up. The system's resolver takes no deadline, so it runs in a thread that is left behind
/// when the deadline passes; that thread ends when the resolver gives up.
fn resolve(host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let name = host.to_owned();
    std::thread::Builder::new()
        .name("resolver".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs();
            let _ = sender.send(found.map(|addresses| addresses.collect::<Vec<_>>()));
        })
        .map_err(|e| DialError::Failed(format!("no thread to look up {host}: {e}")))?;
    let why = match receiver.recv_deadline(deadline) {
        Ok(Ok(addresses)) => return Ok(addresses),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    Err(DialError::NoName(format!("the name {host} cannot be looked up ({why})")))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_refused_connection_says_who_refused_it() {
        let closed = closed_address();
        let deadline = Instant::now() + Duration::from_secs(5);
        let error = connect_tcp("127.0.0.1", closed.port(), deadline, &mut |_, _| {});
        let message = error.unwrap_err().to_string();
        assert!(message.contains("127.0.0.1") && message.contains("refused"), "{message}");
    }

    fn closed_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn of_several_addresses_the_first_that_answers_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (open, closed) = (listener.local_addr().unwrap(), closed_address());
        let deadline = Instant::now() + Duration::from_secs(5);
        for addresses in [&[open][..], &[closed, open], &[closed, closed, open], &[open, closed]] {
            let (_, taken) = connect_to_one_of(addresses, deadline).unwrap();
            assert_eq!(taken, open, "{addresses:?}");
        }
        assert!(matches!(connect_to_one_of(&[closed, closed], deadline), Err(Some(_))));
        assert!(matches!(connect_to_one_of(&[], deadline), Err(None)));
    }

    #[test]
    fn an_address_that_says_nothing_leaves_time_for_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let (open, full) = (listener.local_addr().unwrap(), silent.local_addr().unwrap());
        // With its short queue full, it does not answer.
        rustix::net::listen(&silent, 0).unwrap();
        let connect = || TcpStream::connect_timeout(&full, Duration::from_millis(100)).ok();
        let _waiting: Vec<TcpStream> = std::iter::from_fn(connect).collect();
        let deadline = Instant::now() + Duration::from_secs(2);
        let (_, taken) = connect_to_one_of(&[full, open], deadline).unwrap();
        assert_eq!(taken, open);
        assert!(Instant::now() < deadline, "and what follows has time, too");
    }

    #[test]
    fn addresses_are_told_without_their_port_as_a_list() {
        let addresses: [SocketAddr; 2] =
            ["192.0.2.1:443".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap()];
        assert_eq!(Addresses(&addresses).to_string(), "192.0.2.1, 2001:db8::1");
        assert_eq!(Addresses(&addresses[..1]).to_string(), "192.0.2.1");
    }

    fn dialer(proxy: Option<&str>) -> Dialer {
        let proxy = proxy.map(|url| ureq::Proxy::new(url).unwrap());
        Dialer { timeout: Duration::from_secs(20), proxy, tls: OnceLock::new() }
    }

    #[test]
    fn with_a_proxy_the_tunnel_takes_the_place_of_name_and_connection() {
        let (tls, plain) = ("https://a.example", "http://a.example");
        let stages = |proxy, url| dialer(proxy).stages(&Endpoint::parse(url).unwrap());
        assert_eq!(stages(None, tls), [Stage::Lookup, Stage::Connect, Stage::Tls]);
        assert_eq!(stages(None, plain), [Stage::Lookup, Stage::Connect]);
        let proxy = Some("http://127.0.0.1:3128");
        assert_eq!(stages(proxy, tls), [Stage::Tunnel, Stage::Tls]);
        assert_eq!(stages(proxy, plain), [Stage::Tunnel]);
    }

    /// Dials through a proxy that gives this answer; returns what was sent to the proxy, and the
    /// result.
    fn dial_through(scheme_and_user: &str, answer: &str) -> (String, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("{scheme_and_user}{}", listener.local_addr().unwrap());
        let endpoint = Endpoint::parse("http://[2001:db8::1]:8080").unwrap();
        std::thread::scope(|scope| {
            let dialled = scope.spawn(|| dialer(Some(&proxy)).dial(&endpoint));
            let (mut peer, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                assert_eq!(peer.read(&mut byte).unwrap(), 1);
                head.push(byte[0]);
            }
            peer.write_all(answer.as_bytes()).unwrap();
            drop(peer);
            let dialled = dialled.join().unwrap().map(drop).map_err(|error| error.to_string());
            (String::from_utf8(head).unwrap(), dialled)
        })
    }

    #[test]
    fn a_proxy_is_asked_for_a_tunnel_with_the_login_of_its_url() {
        let (asked, dialled) = dial_through("http://us:er@", "HTTP/1.1 200 Established\r\n\r\n");
        let target = "[2001:db8::1]:8080";
        assert!(asked.starts_with(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n")));
        assert!(asked.contains("\r\nProxy-Authorization: Basic dXM6ZXI=\r\n"), "{asked}");
        assert_eq!(dialled, Ok(()));
        let (asked, _) = dial_through("http://", "HTTP/1.1 200 Established\r\n\r\n");
        assert!(!asked.contains("Proxy-Authorization"), "{asked}");
    }

    #[test]
    fn a_proxy_that_gives_no_tunnel_is_blamed_in_words() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(20_000));
        for (answer, words) in [
            ("HTTP/1.1 407 Who?\r\n\r\n", "user and password"),
            ("HTTP/1.1 403 No\r\n\r\n", "refused a tunnel to [2001:db8::1]:8080 (HTTP 403)"),
            ("SSH-2.0-OpenSSH\r\n\r\n", "is not HTTP"),
            ("HTTP/1.1 200 OK\r\n", "is not HTTP"),
            ("", "is not HTTP"),
            (&long, "is not HTTP"),
        ] {
            let told = dial_through("http://", answer).1.unwrap_err();
            assert!(told.contains("the proxy 127.0.0.1:"), "{told}");
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn a_proxy_that_speaks_something_else_than_http_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("https://{}", listener.local_addr().unwrap());
        let endpoint = Endpoint::parse("http://a.example").unwrap();
        let told = dialer(Some(&proxy)).dial(&endpoint).unwrap_err().to_string();
        assert!(told.contains("only http:// proxies"), "{told}");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
    }
}
