//! Connections to LangFast: DNS, TCP, a proxy's CONNECT and TLS, under one deadline, for the HTTP
//! calls and the socket alike. The one TLS connector lives here: each costs about 1 MB.

use std::fmt::{self, Display};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use native_tls::{HandshakeError, TlsConnector, TlsStream};
use rustix::net::sockopt;
use ureq::http::Uri;

use super::roots;
use super::waker::{Watch, is_writable};

/// The TLS library, by name: native-tls uses OpenSSL on all systems that this program runs on.
pub const TLS: &str = "openssl";

/// Why a proxy of another kind is not used.
const ONLY_HTTP: &str = "only http:// proxies are supported";

/// TCP keep-alive: the silence after which an idle connection is probed, and the time between two
/// probes.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Number of unanswered probes after which a connection counts as lost.
const LOST_SIGNS: u32 = 3;

/// The address of a server, parsed from a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether to speak TLS.
    pub tls: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path in front of every request's path, without a trailing slash.
    pub base: String,
}

impl Endpoint {
    /// Reads `http(s)://` or `ws(s)://host[:port][/base]`.
    ///
    /// # Errors
    /// A description of what is wrong with the URL.
    pub fn parse(url: &str) -> Result<Endpoint, String> {
        let bad = |why: &str| format!("`{url}` cannot be used: {why}");
        let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("https" | "wss") => true,
            Some("http" | "ws") => false,
            _ => return Err(bad("it must begin with https://, http://, wss:// or ws://")),
        };
        if uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(bad("give scheme, host, port and path only"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("no host"))?;
        if !has_sound_port(&uri) {
            return Err(bad("ports are 1 to 65535"));
        }
        Ok(Endpoint {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// `host:port`, the host in brackets if it is an IPv6 address.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The URL of `path` at this endpoint, with `scheme` `http` or `ws`; TLS adds the `s`. The scheme's
    /// default port is left out, as browsers do, because the URL becomes the `Host` header.
    pub fn url(&self, scheme: &str, path: &str) -> String {
        let (s, own_port) = if self.tls { ("s", ":443") } else { ("", ":80") };
        let authority = self.authority();
        let authority = authority.strip_suffix(own_port).unwrap_or(&authority);
        format!("{scheme}{s}://{authority}{}{path}", self.base)
    }
}

/// Whether a URL has no port, or one that there can be: a larger number is passed over in silence by
/// [`Uri::port_u16`].
fn has_sound_port(uri: &Uri) -> bool {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let behind_host = authority.rsplit(['@', ']']).next().unwrap_or(authority);
    match behind_host.split_once(':') {
        Some((_, port)) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => true,
    }
}

/// The variables that may name a proxy, in the order in which ureq looks for one.
const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

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

/// Why a proxy's URL cannot be used.
fn proxy_fault(url: &str) -> Option<&'static str> {
    let Ok(proxy) = ureq::Proxy::new(url) else {
        return Some("write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT");
    };
    match proxy.protocol() {
        ureq::ProxyProtocol::Http if proxy.host().is_empty() => Some("it has no host"),
        ureq::ProxyProtocol::Http if !has_sound_port(proxy.uri()) => Some("ports are 1 to 65535"),
        ureq::ProxyProtocol::Http => None,
        _ => Some(ONLY_HTTP),
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

/// Opens a tunnel through an HTTP proxy (RFC 9110, CONNECT).
fn connect_through(
    proxy: &ureq::Proxy,
    endpoint: &Endpoint,
    deadline: Instant,
) -> Result<TimedSocket, DialError> {
    let name = format!("the proxy {}:{}", proxy.host(), proxy.port());
    let failed = |why: &dyn fmt::Display| DialError::Failed(format!("{name}: {why}"));
    if proxy.protocol() != ureq::ProxyProtocol::Http {
        return Err(failed(&ONLY_HTTP));
    }
    let tcp = connect_tcp(proxy.host(), proxy.port(), deadline, &mut |_, _| {});
    let tcp = tcp.map_err(|e| failed(&e))?;
    let mut socket = TimedSocket::new(tcp, deadline);

    let target = endpoint.authority();
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(user) = proxy.username() {
        let login = format!("{user}:{}", proxy.password().unwrap_or_default());
        let login = BASE64_STANDARD.encode(login);
        request.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
    }
    request.push_str("\r\n");
    socket.write_all(request.as_bytes()).map_err(|e| failed(&e))?;
    match read_connect_status(&mut socket).map_err(|e| failed(&e))? {
        200..=299 => Ok(socket),
        407 => Err(failed(&"it wants a user and password (HTTP 407): put them into its URL")),
        status => Err(failed(&format_args!("it refused a tunnel to {target} (HTTP {status})"))),
    }
}

/// Reads the head of a proxy's answer and returns its status. Reads byte by byte, because what follows
/// belongs to the tunnel.
fn read_connect_status(socket: &mut TimedSocket) -> io::Result<u16> {
    const LONGEST_HEAD: usize = 16 * 1024;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST_HEAD || socket.read(&mut byte)? == 0 {
            return Err(io::Error::other("its answer to CONNECT is not HTTP"));
        }
        head.push(byte[0]);
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(&head);
    match (parsed, response.code) {
        (Ok(_), Some(status)) => Ok(status),
        _ => Err(io::Error::other("its answer to CONNECT is not HTTP")),
    }
}

/// A TCP socket whose reads and writes all end by one deadline, however many there are.
#[derive(Debug)]
pub struct TimedSocket {
    tcp: TcpStream,
    deadline: Option<Instant>,
    /// How reads wait if there is no deadline.
    watch: Option<Watch>,
}

impl TimedSocket {
    fn new(tcp: TcpStream, deadline: Instant) -> TimedSocket {
        TimedSocket { tcp, deadline: Some(deadline), watch: None }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for TimedSocket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let (None, Some(watch)) = (self.deadline, &mut self.watch) {
            return watch.read(&self.tcp, buf);
        }
        again_if_interrupted(|| {
            if let Some(left) = self.left()? {
                self.tcp.set_read_timeout(Some(left))?;
            }
            self.tcp.read(buf)
        })
    }
}

impl Write for TimedSocket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        again_if_interrupted(|| {
            if let Some(left) = self.left()? {
                self.tcp.set_write_timeout(Some(left))?;
            }
            self.tcp.write(buf)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// Makes a call, and repeats it while it is interrupted: when a stopped program (Ctrl-Z, `kill -STOP`)
/// goes on, its calls on sockets with a timeout end with that error (signal(7)).
fn again_if_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A connection to LangFast.
#[derive(Debug)]
pub enum OutboundConnection {
    /// Without TLS: to a simulator, or to a proxy of the operator's own.
    Plain(TimedSocket),
    /// With TLS.
    Tls(Box<TlsStream<TimedSocket>>),
}

impl OutboundConnection {
    fn socket(&mut self) -> &mut TimedSocket {
        match self {
            OutboundConnection::Plain(socket) => socket,
            OutboundConnection::Tls(stream) => stream.get_mut(),
        }
    }

    /// Makes every read and write end by `deadline`. With `None`, reads wait as
    /// [`OutboundConnection::set_watch`] says; without a watch, the timeouts that were set last remain.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.socket().deadline = deadline;
    }

    /// Sets how reads wait while there is no deadline, and how long one write may block.
    ///
    /// # Errors
    /// The system refuses the socket option.
    pub fn set_watch(&mut self, watch: Watch, write: Duration) -> io::Result<()> {
        let socket = self.socket();
        watch.set_up(&socket.tcp)?;
        socket.watch = Some(watch);
        socket.tcp.set_write_timeout(Some(write))
    }

    /// The watch by which reads wait, if one is set.
    pub fn watch(&mut self) -> Option<&mut Watch> {
        self.socket().watch.as_mut()
    }

    /// Whether a few bytes can be written without waiting for the peer to read.
    pub fn is_writable(&mut self) -> bool {
        is_writable(&self.socket().tcp)
    }

    /// Whether the peer has neither closed the connection nor sent anything unasked, so that an idle
    /// connection can be used again.
    pub fn is_idle(&mut self) -> bool {
        self.set_deadline(None);
        if self.socket().tcp.set_nonblocking(true).is_err() {
            return false;
        }
        // Reads instead of peeking, because TLS has messages of its own, such as tickets.
        let silent = matches!(self.read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        silent && self.socket().tcp.set_nonblocking(false).is_ok()
    }
}

impl Read for OutboundConnection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            OutboundConnection::Plain(socket) => socket.read(buf),
            OutboundConnection::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for OutboundConnection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            OutboundConnection::Plain(socket) => socket.write(buf),
            OutboundConnection::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            OutboundConnection::Plain(socket) => socket.flush(),
            OutboundConnection::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_endpoint_is_read_from_http_and_ws_urls() {
        let endpoint = Endpoint::parse("wss://runner.example/base/").unwrap();
        assert_eq!(endpoint.url("http", "/x"), "https://runner.example/base/x");
        let endpoint = Endpoint::parse("http://[::1]:9000").unwrap();
        assert_eq!((endpoint.tls, endpoint.host.as_str()), (false, "::1"));
        assert_eq!(endpoint.url("ws", "/x"), "ws://[::1]:9000/x");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_in_words() {
        for url in ["", "example.com", "ftp://x", "https://", "https://u:p@h/", "https://h/?q"] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
        for url in ["https://h:99999", "https://h:0", "http://[::1]:65536/x"] {
            assert!(Endpoint::parse(url).unwrap_err().contains("ports are 1 to 65535"), "{url}");
        }
    }

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

    #[test]
    fn the_schemes_own_port_is_left_out_of_urls_and_any_other_is_not() {
        for (given, url) in [
            ("https://a.example", "https://a.example/x"),
            ("https://a.example:443/", "https://a.example/x"),
            ("https://a.example:80", "https://a.example:80/x"),
            ("http://[::1]:80", "http://[::1]/x"),
            ("http://[::1]:443", "http://[::1]:443/x"),
        ] {
            assert_eq!(Endpoint::parse(given).unwrap().url("http", "/x"), url, "{given}");
        }
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
