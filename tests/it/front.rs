//! The front, with real sockets, and workers of the test's own behind it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use langfast2api::error::Error;
use langfast2api::http::body::Decoder;
use langfast2api::http::head::Scan;
use langfast2api::http::{
    AnswerTurn, BodyLength, Exchange, Front, Gate, Head, Limits, Listener, Look, connections_for,
    raise_descriptor_limit,
};
use proptest::prelude::*;
use rustix::net::sockopt;

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

// ---------------------------------------------------------------------------------------------
// The server under test: the front, and workers that answer by path.

struct Server {
    front: Option<Front>,
    address: SocketAddr,
    doorman: Arc<Doorman>,
    /// What workers report.
    reports: Receiver<String>,
    /// Lets waiting workers go on, one per message.
    go_on: Sender<()>,
}

#[derive(Clone)]
struct Worker {
    reports: Sender<String>,
    go_on: Receiver<()>,
}

/// What a worker hears.
enum News {
    GoOn,
    HalfClosed,
    Gone,
}

/// Refuses by path, as the real one does; `/gate-panics` shows that even that is confined.
struct Doorman {
    /// Nobody works on anything if there is none.
    worker: Option<Worker>,
    /// Requests handed over that have not been answered.
    under_way: Arc<AtomicUsize>,
    /// Whether there is nobody to work on a request.
    is_full: AtomicBool,
    /// Those that nobody has taken yet.
    left: std::sync::Mutex<Vec<Arc<Exchange>>>,
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

impl Server {
    fn start(limits: Limits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Server::start_with(limits, address, vec![Listener::Tcp(listener)])
    }

    fn start_with(limits: Limits, address: SocketAddr, listeners: Vec<Listener>) -> Server {
        let (report, reports) = unbounded();
        let (go_on, wait) = unbounded();
        let doorman = Doorman::new(Some(Worker { reports: report, go_on: wait }));
        let front = Some(Front::start(listeners, doorman.clone(), limits).unwrap());
        Server { front, address, doorman, reports, go_on }
    }

    fn front(&self) -> &Front {
        self.front.as_ref().unwrap()
    }

    fn client(&self) -> Client<TcpStream> {
        connect(self.address)
    }

    /// What a worker reports next.
    fn report(&self) -> String {
        self.reports.recv_timeout(PATIENCE).expect("a worker should have reported")
    }

    fn wait_for_connections(&self, expected: usize) {
        until(&format!("{expected} connections"), || self.front().connections() == expected);
    }

    /// Shows that the server still serves.
    fn serves(&self) {
        let mut client = self.client();
        client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.answer().body, b"hello");
    }
}

/// A front with nobody behind it.
fn front_alone() -> (Front, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listeners = vec![Listener::Tcp(listener)];
    (Front::start(listeners, Doorman::new(None), Limits::default()).unwrap(), address)
}

impl Worker {
    fn answer(self, exchange: &AnswerTurn) {
        let body = exchange.take_body();
        match exchange.head.path() {
            "/hello" => respond(exchange, b"hello"),
            "/echo" => respond(exchange, body.bytes()),
            "/id" => respond(exchange, exchange.request_id.as_bytes()),
            "/wait" => self.wait(exchange),
            "/stream" => self.stream(exchange),
            "/endless" => self.endless(exchange),
            "/cut" => {
                begin_stream(exchange);
                chunk(exchange, b"half an ans");
            }
            "/nothing" => {}
            "/panics" => panic!("a worker that panics, on purpose"),
            "/panics-late" => {
                begin_stream(exchange);
                chunk(exchange, b"half an ans");
                panic!("a worker that panics in mid-answer, on purpose");
            }
            path => panic!("the test has no answer for {path}"),
        }
    }

    /// Answers when it is told to, unless the client leaves.
    fn wait(&self, exchange: &Exchange) {
        self.reports.send("waiting".to_owned()).unwrap();
        let mut is_half_closed = false;
        loop {
            match self.news(exchange, &mut is_half_closed) {
                News::GoOn => return respond(exchange, b"at last"),
                News::HalfClosed => self.reports.send("half-closed".to_owned()).unwrap(),
                News::Gone => return self.reports.send("gone".to_owned()).unwrap(),
            }
        }
    }

    /// Waits until it is told to go on, or hears of the client; that it has half-closed, once.
    fn news(&self, exchange: &Exchange, is_half_closed: &mut bool) -> News {
        loop {
            if self.go_on.try_recv().is_ok() {
                return News::GoOn;
            }
            if exchange.client_has_gone() {
                return News::Gone;
            }
            if exchange.client_has_half_closed() && !std::mem::replace(is_half_closed, true) {
                return News::HalfClosed;
            }
            // The channel by which it is told rings no bell.
            exchange.bell().wait(Some(Instant::now() + Duration::from_millis(5)));
        }
    }

    /// Streams a chunk whenever it is told to; three make an answer. A client that has half-closed is
    /// sent a comment, as the real worker does.
    fn stream(&self, exchange: &Exchange) {
        begin_stream(exchange);
        self.reports.send("streaming".to_owned()).unwrap();
        let (mut chunks, mut is_half_closed) = (0, false);
        while chunks < 3 {
            match self.news(exchange, &mut is_half_closed) {
                News::GoOn => {
                    chunks += 1;
                    chunk(exchange, format!("chunk {chunks};").as_bytes());
                }
                News::HalfClosed => chunk(exchange, b": comment;"),
                News::Gone => return self.reports.send("gone".to_owned()).unwrap(),
            }
        }
        end_stream(exchange);
    }

    /// Writes until nobody takes it any more.
    fn endless(&self, exchange: &Exchange) {
        self.reports.send("endless".to_owned()).unwrap();
        begin_stream(exchange);
        let text = vec![b'x'; 8 * 1024];
        let failure = loop {
            if let Err(failure) = exchange.write(&framed(exchange, &text)) {
                break failure;
            }
        };
        self.reports.send(format!("endless ended: {:?}", failure.kind())).unwrap();
    }
}

fn connection_field(exchange: &Exchange) -> &'static str {
    if exchange.head.keep_alive { "" } else { "Connection: close\r\n" }
}

fn respond(exchange: &Exchange, body: &[u8]) {
    let close = connection_field(exchange);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}\r\n", body.len());
    let body = if exchange.head.method == "HEAD" { b"" } else { body };
    // A test's client may have left.
    if exchange.write(&[head.as_bytes(), body].concat()).is_ok() {
        exchange.finish();
    }
}

fn begin_stream(exchange: &Exchange) {
    let close = connection_field(exchange);
    let chunked = match exchange.head.minor_version {
        0 => "",
        _ => "Transfer-Encoding: chunked\r\n",
    };
    exchange.write(format!("HTTP/1.1 200 OK\r\n{chunked}{close}\r\n").as_bytes()).unwrap();
}

fn framed(exchange: &Exchange, data: &[u8]) -> Vec<u8> {
    match exchange.head.minor_version {
        0 => data.to_vec(),
        _ => [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat(),
    }
}

fn chunk(exchange: &Exchange, data: &[u8]) {
    let _ = exchange.write(&framed(exchange, data));
}

fn end_stream(exchange: &Exchange) {
    let last: &[u8] = if exchange.head.minor_version == 0 { b"" } else { b"0\r\n\r\n" };
    if exchange.write(last).is_ok() {
        exchange.finish();
    }
}

// ---------------------------------------------------------------------------------------------
// Clients.

struct Client<S> {
    stream: S,
    read: Vec<u8>,
}

struct Answer {
    status: u16,
    fields: HashMap<String, String>,
    body: Vec<u8>,
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what may not be taken any more.
    fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Reads one whole answer.
    fn answer(&mut self) -> Answer {
        let head_end = self.read_to(b"\r\n\r\n");
        let head = String::from_utf8(self.read.drain(..head_end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let fields: HashMap<_, _> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let body = match fields.get("content-length") {
            Some(length) => self.take(length.parse().unwrap()),
            None if fields.contains_key("transfer-encoding") => self.chunks(),
            None => Vec::new(),
        };
        Answer { status, fields, body }
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let data = self.chunk();
            if data.is_empty() {
                return body;
            }
            body.extend(data);
        }
    }

    /// One chunk; empty if it is the last.
    fn chunk(&mut self) -> Vec<u8> {
        let line_end = self.read_to(b"\r\n");
        let line = String::from_utf8(self.take(line_end)).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let mut data = self.take(size + 2);
        data.truncate(size);
        data
    }

    /// Reads until `end` has come and tells where it ends.
    fn read_to(&mut self, end: &[u8]) -> usize {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return at + end.len();
            }
            self.read_some();
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            self.read_some();
        }
        self.read.drain(..length).collect()
    }

    fn read_some(&mut self) {
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece).expect("an answer should come");
        assert!(count > 0, "the connection ended after {:?}", String::from_utf8_lossy(&self.read));
        self.read.extend_from_slice(&piece[..count]);
    }

    /// Reads to the end of the connection: what came, and whether it ended by a reset.
    fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut rest = std::mem::take(&mut self.read);
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => (rest, false),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (rest, true),
            Err(error) => panic!("the connection should have ended, but: {error}"),
        }
    }

    /// The connection must end in order, with nothing more before its end.
    fn ends(&mut self) {
        let (rest, reset) = self.rest();
        assert_eq!((String::from_utf8_lossy(&rest).as_ref(), reset), ("", false));
    }
}

impl Client<TcpStream> {
    fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Leaves by a reset instead of an orderly end.
    fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }
}

fn connect(address: SocketAddr) -> Client<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    Client { stream, read: Vec::new() }
}

/// A directory that is removed when this is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("langfast2api-front-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(unique);
        std::fs::create_dir(&directory).unwrap();
        Directory(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn quick(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

// ---------------------------------------------------------------------------------------------
// Requests and answers.

#[test]
fn a_connection_serves_one_request_after_another() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    for round in 0..20 {
        let body = format!("round {round}");
        client.send(post("/echo", &body));
        assert_eq!(client.answer().body, body.as_bytes());
    }
    assert_eq!(server.front().connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    let requests: String = (0..50).map(|n| post("/echo", &format!("request {n}"))).collect();
    client.send(requests);
    for n in 0..50 {
        assert_eq!(client.answer().body, format!("request {n}").as_bytes());
    }
}

#[test]
fn bodies_of_every_size_arrive_whole() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    for size in [0, 1, 1023, 1024, 1025, 16 * 1024, 300_000, 3_000_000] {
        let body: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let head = format!("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n");
        let sent = send_from_another_thread(&client, [head.as_bytes(), &body].concat());
        assert!(client.answer().body == body, "with a length of {size}");
        sent.join().unwrap();

        let mut chunked =
            b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n".to_vec();
        for chunk in body.chunks(size / 7 + 1) {
            chunked.extend(format!("{:X};ext=\"a b\"\r\n", chunk.len()).into_bytes());
            chunked.extend(chunk);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"000\r\nTrailer: read over\r\n\r\n");
        let sent = send_from_another_thread(&client, chunked);
        assert!(client.answer().body == body, "in chunks, {size} bytes");
        sent.join().unwrap();
    }
}

fn send_from_another_thread(client: &Client<TcpStream>, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut stream = client.stream.try_clone().unwrap();
    thread::spawn(move || stream.write_all(&bytes).unwrap())
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    let request = "\r\nPOST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4\r\nbody\r\n0\r\n\r\n";
    for byte in request.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.answer().body, b"body");
}

#[test]
fn the_worker_gets_the_clients_headers_and_a_sane_request_id() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /id HTTP/1.1\r\nHost: h\r\nX-Request-ID: my.own_id:1-2\r\n\r\n");
    assert_eq!(client.answer().body, b"my.own_id:1-2");
    for unfit in ["", "with space", "quote\"", &"x".repeat(129)] {
        client.send(format!("GET /id HTTP/1.1\r\nHost: h\r\nX-Request-Id: {unfit}\r\n\r\n"));
        let id = String::from_utf8(client.answer().body).unwrap();
        let hex = id.strip_prefix("req_").unwrap();
        assert!(hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}

#[test]
fn http_1_0_and_connection_close_end_the_connection_after_the_answer() {
    let server = Server::start(Limits::default());
    for request in [
        "GET /hello HTTP/1.0\r\n\r\n",
        "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: h\r\nConnection: foo, CLOSE\r\n\r\n",
    ] {
        let mut client = server.client();
        client.send(request);
        let answer = client.answer();
        assert_eq!(answer.body, b"hello");
        assert_eq!(answer.fields["connection"], "close");
        client.ends();
    }
}

#[test]
fn an_http_1_0_stream_is_ended_by_the_end_of_the_connection() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /stream HTTP/1.0\r\n\r\n");
    (0..3).for_each(|_| server.go_on.send(()).unwrap());
    let (answer, reset) = client.rest();
    assert!(answer.ends_with(b"\r\n\r\nchunk 1;chunk 2;chunk 3;"));
    assert!(!reset);
}

#[test]
fn chunks_arrive_as_they_come() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.read_to(b"\r\n\r\n");
    client.take(head);
    for n in 1..=3 {
        server.go_on.send(()).unwrap();
        assert_eq!(client.chunk(), format!("chunk {n};").as_bytes());
    }
    assert_eq!(client.chunk(), b"");
    client.send(post("/echo", "next"));
    assert_eq!(client.answer().body, b"next");
}

#[test]
fn clients_are_served_over_a_unix_socket_too() {
    let directory = Directory::new();
    let path = directory.0.join("public.sock");
    let listeners = vec![Listener::Unix(UnixListener::bind(&path).unwrap())];
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::start_with(Limits::default(), nowhere, listeners);
    let mut client = Client { stream: UnixStream::connect(&path).unwrap(), read: Vec::new() };
    client.send(post("/echo", "one").repeat(2));
    assert_eq!(client.answer().body, b"one");
    assert_eq!(client.answer().body, b"one");
    client.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "waiting");
    drop(client);
    until("the worker to learn that the client has gone", || server.report() == "gone");
}

// ---------------------------------------------------------------------------------------------
// What is refused.

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused() {
    let server = Server::start(Limits::default());
    let host = "POST /echo HTTP/1.1\r\nHost: h\r\n";
    let chunked = format!("{host}Transfer-Encoding: chunked\r\n\r\n");
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let with = |field: &str| format!("{host}{field}\r\n\r\nhello");
    let table: Vec<(&str, u16, String)> = vec![
        // Where the head's lines end, and what they are made of.
        ("a bare LF after the request line", 400, "GET / HTTP/1.1\nHost: h\r\n\r\n".into()),
        ("a bare LF after a header", 400, "GET / HTTP/1.1\r\nHost: h\n\r\n".into()),
        ("an empty line of a bare LF", 400, "GET / HTTP/1.1\r\nHost: h\r\n\n".into()),
        ("a bare CR", 400, with("X: a\rb")),
        ("two CRs", 400, with("X: a\r")),
        ("a folded line", 400, with("X: a\r\n b")),
        ("a first header that is folded", 400, "GET / HTTP/1.1\r\n Host: h\r\n\r\n".into()),
        ("a NUL in a value", 400, with("X: a\0b")),
        ("a DEL in a value", 400, with("X: a\x7fb")),
        ("a NUL in the target", 400, get("/a\0b")),
        ("a space before the colon", 400, with("Content-Length : 5")),
        ("a tab before the colon", 400, with("Content-Length\t: 5")),
        ("an empty header name", 400, with(": x")),
        ("a header name that is no token", 400, with("X(y): z")),
        ("a header name that is not ASCII", 400, with("X\u{e9}: z")),
        ("a header without a colon", 400, with("Content-Length")),
        ("three empty lines at first", 400, format!("\r\n\r\n\r\n{}", get("/hello"))),
        // The request line.
        ("no version", 400, "GET /\r\nHost: h\r\n\r\n".into()),
        ("two spaces", 400, "GET  / HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("two spaces before the version", 400, "GET /  HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("a space after the version", 400, "GET / HTTP/1.1 \r\nHost: h\r\n\r\n".into()),
        ("a tab between the parts", 400, "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("a space in the target", 400, get("/a b")),
        ("a method that is no token", 400, "G@T / HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("an empty target", 400, get("")),
        ("a target that is not ASCII", 400, get("/\u{e9}")),
        ("a target that is no path", 400, get("hello")),
        ("an asterisk without OPTIONS", 400, get("*")),
        ("an authority", 400, "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("another scheme", 400, get("ftp://h/hello")),
        ("an absolute target without a host", 400, get("http:///hello")),
        ("a version in small letters", 400, "GET / http/1.1\r\nHost: h\r\n\r\n".into()),
        ("a version of two digits", 400, "GET / HTTP/1.10\r\nHost: h\r\n\r\n".into()),
        ("HTTP/2's preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("HTTP/2.0", 505, "GET / HTTP/2.0\r\nHost: h\r\n\r\n".into()),
        ("HTTP/1.2", 505, "GET / HTTP/1.2\r\nHost: h\r\n\r\n".into()),
        ("HTTP/0.9 by its name", 505, "GET / HTTP/0.9\r\nHost: h\r\n\r\n".into()),
        ("a TLS handshake", 400, "\x16\x03\x01\x02\x00\x01\x00\x01".into()),
        // Host.
        ("no Host", 400, "GET / HTTP/1.1\r\n\r\n".into()),
        ("two Hosts", 400, with("Host: h")),
        ("two Hosts in HTTP/1.0", 400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".into()),
        // How long the body is.
        ("both lengths", 400, with("Content-Length: 5\r\nTransfer-Encoding: chunked")),
        ("both, the other way", 400, with("Transfer-Encoding: chunked\r\nContent-Length: 5")),
        ("both, in other letters", 400, with("TRANSFER-ENCODING: x\r\ncontent-length: 5")),
        ("two different lengths", 400, with("Content-Length: 5\r\nContent-Length: 6")),
        ("twice the same length", 400, with("Content-Length: 5\r\nContent-Length: 5")),
        ("a list of lengths", 400, with("Content-Length: 5, 5")),
        ("a length with a plus", 400, with("Content-Length: +5")),
        ("a negative length", 400, with("Content-Length: -5")),
        ("a length in hexadecimal", 400, with("Content-Length: 0x5")),
        ("a length with a fraction", 400, with("Content-Length: 5.0")),
        ("a length with a space in it", 400, with("Content-Length: 5 5")),
        ("an empty length", 400, with("Content-Length:")),
        ("a length in other digits", 400, with("Content-Length: \u{665}")),
        ("a length beyond 64 bits", 400, with("Content-Length: 99999999999999999999")),
        ("a length beyond the limit", 413, with("Content-Length: 16777217")),
        ("a length far beyond it", 413, with("Content-Length: 18446744073709551615")),
        ("an unknown coding", 501, with("Transfer-Encoding: gzip")),
        ("identity", 501, with("Transfer-Encoding: identity")),
        ("an empty coding", 501, with("Transfer-Encoding:")),
        ("a list of codings", 501, with("Transfer-Encoding: gzip, chunked")),
        ("chunked twice", 501, with("Transfer-Encoding: chunked, chunked")),
        (
            "chunked in two fields",
            501,
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ),
        ("a coding in quotes", 501, with("Transfer-Encoding: \"chunked\"")),
        ("almost chunked", 501, with("Transfer-Encoding: xchunked")),
        ("a vertical tab before chunked", 400, with("Transfer-Encoding: \x0bchunked")),
        (
            "chunks in HTTP/1.0",
            400,
            "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        ),
        ("another expectation", 417, with("Expect: 200-ok")),
        ("one expectation too many", 417, with("Expect: 100-continue\r\nExpect: tea")),
        // Chunks.
        ("an empty chunk size", 400, format!("{chunked}\r\nhello\r\n0\r\n\r\n")),
        ("a chunk size of an extension only", 400, format!("{chunked};x\r\n\r\n")),
        ("a chunk size that is no number", 400, format!("{chunked}five\r\n")),
        ("a chunk size with 0x", 400, format!("{chunked}0x5\r\nhello\r\n0\r\n\r\n")),
        ("a chunk size with a plus", 400, format!("{chunked}+5\r\nhello\r\n0\r\n\r\n")),
        ("a negative chunk size", 400, format!("{chunked}-5\r\nhello\r\n0\r\n\r\n")),
        ("a space before a chunk size", 400, format!("{chunked} 5\r\nhello\r\n0\r\n\r\n")),
        ("a space after a chunk size", 400, format!("{chunked}5 \r\nhello\r\n0\r\n\r\n")),
        ("a chunk size of 17 digits", 400, format!("{chunked}00000000000000005\r\nhello\r\n")),
        ("the largest chunk size", 413, format!("{chunked}ffffffffffffffff\r\nhello\r\n")),
        ("a chunk beyond the limit", 413, format!("{chunked}1000001\r\n")),
        ("chunks that add up to more", 413, format!("{chunked}5\r\nhello\r\nfffffc\r\n")),
        (
            "sizes that overflow together",
            413,
            format!("{chunked}5\r\nhello\r\nfffffffffffffffb\r\n"),
        ),
        ("a bare LF after a chunk size", 400, format!("{chunked}5\nhello\r\n0\r\n\r\n")),
        ("a bare LF in an extension", 400, format!("{chunked}5;a\nb\r\nhello\r\n0\r\n\r\n")),
        ("a bare CR in an extension", 400, format!("{chunked}5;a\rb\r\nhello\r\n0\r\n\r\n")),
        ("a NUL in an extension", 400, format!("{chunked}5;a\0b\r\nhello\r\n0\r\n\r\n")),
        ("a long extension", 400, format!("{chunked}5;{}\r\n", "x".repeat(300))),
        ("a chunk longer than it says", 400, format!("{chunked}5\r\nhellooo\r\n0\r\n\r\n")),
        ("a chunk shorter than it says", 400, format!("{chunked}5\r\nhell\r\n0\r\n\r\n")),
        ("a bare LF after a chunk", 400, format!("{chunked}5\r\nhello\n0\r\n\r\n")),
        ("a bare LF after the last chunk", 400, format!("{chunked}0\r\n\n")),
        ("a bare LF in a trailer", 400, format!("{chunked}0\r\nA: b\nC: d\r\n\r\n")),
        ("too much of trailers", 400, format!("{chunked}0\r\n{}", "A: bcdefghi\r\n".repeat(500))),
    ];
    for (what, status, request) in table {
        let mut client = server.client();
        // What follows must never be served.
        client.try_send(format!("{request}GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.fields["connection"], "close", "{what}");
        client.ends();
    }
    server.serves();
}

#[test]
fn unusual_requests_that_are_sound_are_served() {
    let server = Server::start(Limits::default());
    let long_but_fine = format!("X: {}", "y".repeat(15_000));
    for request in [
        "\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /hello HTTP/1.1\r\nhOST:\t h \t\r\nX-Empty:\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: h\r\nX: caf\u{e9} \u{2603}\r\n\r\n",
        "GET /hello?a=b#c HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET HTTP://User@Example.com:80/hello HTTP/1.1\r\nHost: other\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 0005\r\n\r\nhello",
        "POST /hello HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
        "M-SEARCH /hello HTTP/1.1\r\nHost: h\r\n\r\n",
        &format!("GET /hello HTTP/1.1\r\nHost: h\r\n{long_but_fine}\r\n\r\n"),
    ] {
        let mut client = server.client();
        client.send(request.repeat(2));
        for _ in 0..2 {
            let mut answer = client.answer();
            if answer.status == 100 {
                answer = client.answer();
            }
            assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]), "{request}");
        }
    }
}

#[test]
fn a_refusal_is_an_openai_error_with_a_request_id() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET / HTTP/3.0\r\nHost: h\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.fields["content-type"], "application/json");
    assert!(answer.fields["x-request-id"].starts_with("req_"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert!(body["error"]["message"].as_str().unwrap().contains("HTTP/1.1"));
}

#[test]
fn a_tls_handshake_is_told_that_this_is_plain_http_before_it_is_complete() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send([0x16]);
    assert!(String::from_utf8(client.answer().body).unwrap().contains("plain HTTP"));
}

#[test]
fn heads_beyond_the_limits_are_refused_as_soon_as_they_are() {
    let limits = Limits { head_bytes: 1000, headers: 10, body_bytes: 100, ..Limits::default() };
    let server = Server::start(limits);
    let long_line = format!("GET /{}", "a".repeat(2000));
    let long_head = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(2000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(11));
    for (request, status) in [(long_line, 414), (long_head, 431), (many, 431)] {
        let mut client = server.client();
        client.try_send(request);
        assert_eq!(client.answer().status, status);
        client.ends();
    }
    let mut client = server.client();
    let fits = "GET /hello HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n";
    let filler = "y".repeat(1000 - fits.len());
    client.send(fits.replace("X: ", &format!("X: {filler}")));
    assert_eq!(client.answer().status, 200);
    client.send(fits.replace("X: ", &format!("X: {filler}y")));
    assert_eq!(client.answer().status, 431);
}

#[test]
fn a_body_beyond_the_limit_is_refused_by_its_length_or_as_it_grows() {
    let server = Server::start(Limits { body_bytes: 10, ..Limits::default() });
    let head = "POST /echo HTTP/1.1\r\nHost: h\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    for request in [
        format!("{head}Content-Length: 11\r\n\r\n"),
        format!("{chunked}b\r\n"),
        format!("{chunked}5\r\nhello\r\n6\r\n"),
    ] {
        let mut client = server.client();
        client.send(request);
        assert_eq!(client.answer().status, 413);
        client.ends();
    }
    let mut client = server.client();
    client.send(format!("{chunked}5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n"));
    assert_eq!(client.answer().body, b"hellohello");
}

#[test]
fn a_client_that_goes_on_sending_can_read_why_it_was_refused() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n");
    // Far more than socket buffers hold.
    client.send(vec![b'x'; 12_000_000]);
    assert_eq!(client.answer().status, 413);
    client.ends();
}

// ---------------------------------------------------------------------------------------------
// The gate.

#[test]
fn the_gate_refuses_before_the_body_is_there() {
    let server = Server::start(Limits::default());
    for body in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut client = server.client();
        client.send(format!("POST /secret HTTP/1.1\r\nHost: h\r\n{body}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, 401);
        assert_eq!(answer.fields["www-authenticate"], "Bearer");
        assert_eq!(answer.fields["connection"], "close");
        client.ends();
    }
}

#[test]
fn a_refused_request_with_a_small_body_leaves_the_connection_usable() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    for body in ["", "small", &"x".repeat(60_000)] {
        client.send(post("/secret", body));
        client.send(post("/echo", "served"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.fields.get("connection")), (401, None));
        assert_eq!(client.answer().body, b"served");
    }
}

#[test]
fn refusals_carry_what_their_status_calls_for() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send(post("/get-only", ""));
    assert_eq!(client.answer().fields["allow"], "GET, HEAD");
    client.send("GET /full HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.fields["retry-after"]), (503, "1"));
    assert_eq!(answer.fields["x-request-id"], "mine");
    client.send("HEAD /secret HTTP/1.1\r\nHost: h\r\n\r\n");
    let head_end = client.read_to(b"\r\n\r\n");
    assert!(client.take(head_end).starts_with(b"HTTP/1.1 401 Unauthorized\r\n"));
    client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().body, b"hello");
}

#[test]
fn leave_to_send_the_body_is_given_after_the_gate_and_only_by_it() {
    let server = Server::start(Limits::default());
    let expect = "HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n";
    let mut client = server.client();
    for _ in 0..2 {
        client.send(format!("POST /echo {expect}"));
        assert_eq!(client.answer().status, 100);
        client.send("body");
        assert_eq!(client.answer().body, b"body");
    }
    client.send(format!("POST /secret {expect}"));
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.fields["connection"]), (401, "close"));
    client.ends();
}

#[test]
fn a_client_that_is_slow_with_its_body_keeps_nobody_at_work() {
    let server = Server::start(Limits::default());
    let mut slow = server.client();
    slow.send(
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(slow.answer().status, 100);
    assert_eq!(server.doorman.under_way.load(Ordering::SeqCst), 0);
    server.doorman.is_full.store(true, Ordering::SeqCst);
    slow.send("0123456789");
    assert_eq!(slow.answer().status, 503);
}

#[test]
fn a_panic_of_the_gate_ends_only_that_connection() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /gate-panics HTTP/1.1\r\nHost: h\r\n\r\n");
    client.ends();
    server.wait_for_connections(0);
    server.serves();
}

// ---------------------------------------------------------------------------------------------
// Deadlines.

#[test]
fn a_head_has_one_deadline_that_single_bytes_do_not_prolong() {
    let server = Server::start(Limits { head_deadline: quick(300), ..Limits::default() });
    let mut client = server.client();
    let begun = Instant::now();
    drip(&client, "GET /hello HTTP/1.1\r\nHost: h\r\nX: ".bytes().chain(std::iter::repeat(b'y')));
    let answer = client.answer();
    assert_eq!(answer.status, 408);
    assert!(String::from_utf8(answer.body).unwrap().contains("within 0.3 s"));
    assert!(
        begun.elapsed() >= quick(300) && begun.elapsed() < quick(2000),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_body_must_keep_up_with_the_least_rate() {
    let limits = Limits { head_deadline: quick(300), body_rate: 1000, ..Limits::default() };
    let server = Server::start(limits);
    // What came fast is no credit for what follows.
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'y'; 900_000]);
    drip(&client, std::iter::repeat(b'y'));
    assert_eq!(client.answer().status, 408);
    for length in ["Content-Length: 16000000", "Transfer-Encoding: chunked"] {
        let mut client = server.client();
        let begun = Instant::now();
        client.send(format!("POST /echo HTTP/1.1\r\nHost: h\r\n{length}\r\n\r\nffffff\r\n"));
        drip(&client, std::iter::repeat(b'y'));
        assert_eq!(client.answer().status, 408);
        assert!(begun.elapsed() < quick(2000), "{:?}", begun.elapsed());
    }
    // Slow, but fast enough: 3000 bytes in a second.
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n");
    for _ in 0..10 {
        client.send([b'y'; 300]);
        thread::sleep(quick(100));
    }
    assert_eq!(client.answer().body.len(), 3000);
}

/// Sends a byte every few milliseconds until that fails.
fn drip(client: &Client<TcpStream>, bytes: impl Iterator<Item = u8> + Send + 'static) {
    let mut stream = client.stream.try_clone().unwrap();
    thread::spawn(move || {
        for byte in bytes {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(quick(20));
        }
    });
}

#[test]
fn idle_connections_are_closed_without_a_word() {
    let server = Server::start(Limits { idle: quick(100), ..Limits::default() });
    let mut silent = server.client();
    let mut used = server.client();
    used.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(used.answer().body, b"hello");
    used.ends();
    silent.ends();
}

#[test]
fn an_empty_line_after_a_body_is_not_half_a_request() {
    let server = Server::start(Limits { head_deadline: quick(50), ..Limits::default() });
    let mut client = server.client();
    client.send(post("/echo", "body") + "\r\n");
    assert_eq!(client.answer().body, b"body");
    client.ends();
}

// ---------------------------------------------------------------------------------------------
// Many at once.

#[test]
fn two_hundred_keep_alive_clients_in_one_burst_are_all_served() {
    let server = Server::start(Limits::default());
    let mut clients: Vec<_> = (0..200).map(|_| server.client()).collect();
    for round in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(post("/echo", &format!("client {n}, round {round}")));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.answer().body, format!("client {n}, round {round}").as_bytes());
        }
    }
    assert_eq!(server.front().connections(), 200);
}

#[test]
fn a_request_is_served_beside_a_thousand_idle_connections() {
    raise_descriptor_limit();
    let server = Server::start(Limits { connections: 2000, ..Limits::default() });
    let idle: Vec<_> = (0..1000).map(|_| server.client()).collect();
    server.wait_for_connections(1000);
    server.serves();
    drop(idle);
    server.wait_for_connections(0);
}

#[test]
fn requests_are_served_beside_five_hundred_slow_heads() {
    raise_descriptor_limit();
    let server = Server::start(Limits { connections: 2000, ..Limits::default() });
    let mut slow: Vec<_> = (0..500).map(|_| server.client()).collect();
    slow.iter_mut().for_each(|client| client.send("GET /hello HTTP/1.1\r\nHost"));
    server.wait_for_connections(500);
    (0..20).for_each(|_| server.serves());
    for client in &mut slow {
        client.send(": h\r\n\r\n");
        assert_eq!(client.answer().body, b"hello");
    }
}

#[test]
fn a_client_over_the_limit_is_told_so_at_once() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() });
    let first = server.client();
    let _second = server.client();
    server.wait_for_connections(2);
    for request in ["", "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let mut third = server.client();
        third.try_send(request);
        let answer = third.answer();
        assert_eq!((answer.status, &*answer.fields["retry-after"]), (503, "1"));
        third.ends();
    }
    drop(first);
    server.wait_for_connections(1);
    server.serves();
}

/// Runs a test of this file by itself in a process with only so many descriptors.
fn in_a_process_with_descriptors(limit: u64, test: &str) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if std::env::var_os("FRONT_TEST_ALONE").is_some() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).unwrap();
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("FRONT_TEST_ALONE", "yes")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    false
}

#[test]
fn want_of_descriptors_does_not_end_the_accept_loop() {
    if !in_a_process_with_descriptors(64, "front::want_of_descriptors_does_not_end_the_accept_loop")
    {
        return;
    }
    let (front, address) = front_alone();
    let mut files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    for _ in 0..5 {
        // The client is in this process too, and takes the only free descriptor.
        files.pop().unwrap();
        let mut client = connect(address);
        let answer = client.answer();
        assert_eq!((answer.status, &*answer.fields["retry-after"]), (503, "1"));
        // Kept, so that there is again none.
        files.push(File::from(OwnedFd::from(client.stream)));
    }
    drop(files);
    let mut client = connect(address);
    client.send("GET /secret HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().status, 401);
    assert_eq!(front.connections(), 1);
}

// ---------------------------------------------------------------------------------------------
// Clients that leave.

#[test]
fn a_client_may_reset_at_any_byte_of_its_request() {
    let server = Server::start(Limits::default());
    let request = post("/wait", "body");
    for end in 0..=request.len() {
        let mut client = server.client();
        client.send(&request[..end]);
        if end == request.len() {
            assert_eq!(server.report(), "waiting");
        }
        client.reset();
        server.wait_for_connections(0);
    }
    assert_eq!(server.report(), "gone");
    server.serves();
}

#[test]
fn a_client_may_leave_in_order_at_any_byte_of_its_request() {
    let server = Server::start(Limits::default());
    let request = post("/echo", "body");
    for end in 0..=request.len() {
        let mut client = server.client();
        client.send(&request[..end]);
        drop(client);
        server.wait_for_connections(0);
    }
    server.serves();
}

#[test]
fn the_worker_learns_within_a_moment_that_its_client_has_left() {
    let server = Server::start(Limits::default());
    for reset in [true, false] {
        let mut client = server.client();
        client.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(server.report(), "waiting");
        let left = Instant::now();
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        until("the worker to learn that its client has gone", || server.report() == "gone");
        assert!(left.elapsed() < quick(500), "{:?}", left.elapsed());
        server.wait_for_connections(0);
    }
}

#[test]
fn the_worker_learns_in_the_middle_of_a_stream_that_its_client_has_left() {
    let server = Server::start(Limits::default());
    for reset in [true, false] {
        let mut client = server.client();
        client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(server.report(), "streaming");
        server.go_on.send(()).unwrap();
        client.read_to(b"chunk 1;\r\n");
        let left = Instant::now();
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        assert_eq!(server.report(), "gone");
        assert!(left.elapsed() < quick(500), "{:?}", left.elapsed());
    }
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "waiting");
    client.half_close();
    assert_eq!(server.report(), "half-closed");
    assert_eq!(client.answer().status, 100);
    server.go_on.send(()).unwrap();
    assert_eq!(client.answer().body, b"at last");
    client.ends();
}

#[test]
fn a_client_that_half_closes_at_once_gets_all_its_answers() {
    let server = Server::start(Limits::default());
    for version in ["1.0", "1.1"] {
        let mut client = server.client();
        client.send(format!("GET /hello HTTP/{version}\r\nHost: h\r\n\r\n").repeat(2));
        client.half_close();
        let (answers, reset) = client.rest();
        let count = if version == "1.0" { 1 } else { 2 };
        assert_eq!(String::from_utf8(answers).unwrap().matches("hello").count(), count);
        assert!(!reset);
    }
}

#[test]
fn a_client_that_half_closes_in_mid_stream_is_sent_a_comment_and_the_rest() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "streaming");
    let head = client.read_to(b"\r\n\r\n");
    client.take(head);
    client.half_close();
    assert_eq!(client.chunk(), b": comment;");
    (0..3).for_each(|_| server.go_on.send(()).unwrap());
    assert_eq!(client.chunks(), b"chunk 1;chunk 2;chunk 3;");
    client.ends();
}

#[test]
fn a_client_that_does_not_read_is_given_up_and_others_are_not_kept_waiting() {
    let server = Server::start(Limits { write_stall: quick(500), ..Limits::default() });
    let mut stalled = server.client();
    stalled.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "endless");
    let begun = Instant::now();
    while begun.elapsed() < quick(400) {
        server.serves();
    }
    assert_eq!(server.report(), "endless ended: TimedOut");
    let (_, reset) = stalled.rest();
    assert!(reset, "a cut answer must not look complete");
    server.wait_for_connections(0);
}

#[test]
fn nothing_is_read_from_a_client_while_its_exchange_runs() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "waiting");
    client.stream.set_write_timeout(Some(quick(300))).unwrap();
    let next = post("/echo", &"x".repeat(1_000_000));
    let mut sent = 0;
    // Loopback's socket buffers hold some megabytes.
    while let Ok(count) = client.stream.write(&next.as_bytes()[sent % next.len()..]) {
        sent += count;
        assert!(sent < 50_000_000, "somebody reads");
    }
    server.go_on.send(()).unwrap();
    assert_eq!(client.answer().body, b"at last");
    assert_eq!(client.answer().body.len(), 1_000_000);
}

// ---------------------------------------------------------------------------------------------
// Workers that fail.

#[test]
fn a_cut_answer_ends_with_a_reset() {
    let server = Server::start(Limits::default());
    for path in ["/cut", "/panics-late"] {
        for version in ["1.0", "1.1"] {
            let mut client = server.client();
            client.send(format!("GET {path} HTTP/{version}\r\nHost: h\r\n\r\n"));
            let (_, reset) = client.rest();
            assert!(reset, "{path} {version}");
        }
    }
    server.wait_for_connections(0);
    server.serves();
}

#[test]
fn a_request_that_gets_no_answer_is_told_so() {
    let server = Server::start(Limits::default());
    for path in ["/nothing", "/panics"] {
        let mut client = server.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\n\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, &*answer.fields["x-request-id"]), (500, "mine"), "{path}");
        assert_eq!(&*answer.fields["x-should-retry"], "false", "a run may have been started");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["type"], "server_error");
        client.ends();
    }
    server.serves();
}

#[test]
fn a_request_that_nobody_takes_is_refused_and_one_that_is_taken_late_is_answered() {
    let server = Server::start(Limits::default());
    for (path, status) in
        [("/left-for-good", 503), ("/left-and-taken-too-late", 200), ("/left-at-first", 200)]
    {
        let mut client = server.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(client.answer().status, status, "{path}");
        until("the exchange to be forgotten", || server.doorman.left.lock().unwrap().is_empty());
    }
}

#[test]
fn a_client_that_leaves_before_somebody_takes_its_request_is_forgotten() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /left-at-first HTTP/1.1\r\nHost: h\r\n\r\n");
    until("the request", || !server.doorman.left.lock().unwrap().is_empty());
    drop(client);
    until("the exchange to be forgotten", || server.doorman.left.lock().unwrap().is_empty());
}

#[test]
fn a_front_with_nobody_behind_it_says_that_it_is_overloaded() {
    let (front, address) = front_alone();
    let mut client = connect(address);
    client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().status, 503);
    drop(client);
    assert!(front.wait_idle(Instant::now() + PATIENCE));
}

// ---------------------------------------------------------------------------------------------
// Stopping.

#[test]
fn stopping_closes_idle_connections_at_once_and_lets_exchanges_finish() {
    let server = Server::start(Limits::default());
    let mut fresh = server.client();
    let mut used = server.client();
    used.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    used.answer();
    let mut busy = server.client();
    busy.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "waiting");
    let mut half = server.client();
    half.send("GET /hello HTT");
    server.wait_for_connections(4);

    let begun = Instant::now();
    server.front().stop_accepting();
    fresh.ends();
    used.ends();
    assert!(begun.elapsed() < quick(1000), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(server.address).is_err(), "the listener should be closed");
    assert!(!server.front().wait_idle(Instant::now() + quick(50)));

    half.send("P/1.1\r\nHost: h\r\n\r\n");
    let answer = half.answer();
    assert_eq!((answer.body, &*answer.fields["connection"]), (b"hello".to_vec(), "close"));
    half.ends();
    server.go_on.send(()).unwrap();
    assert_eq!(busy.answer().body, b"at last");
    busy.ends();
    assert!(server.front().wait_idle(Instant::now() + PATIENCE));
}

#[test]
fn closing_all_cuts_what_is_running() {
    let server = Server::start(Limits::default());
    let mut stream = server.client();
    stream.send("GET /stream HTTP/1.0\r\n\r\n");
    assert_eq!(server.report(), "streaming");
    stream.read_to(b"\r\n\r\n");
    let mut stalled = server.client();
    stalled.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "endless");
    let mut half = server.client();
    half.send("GET /hello HTT");
    server.wait_for_connections(3);

    server.front().close_all();
    assert!(server.front().wait_idle(Instant::now() + quick(1000)));
    assert!(stream.rest().1, "a cut answer must not look complete");
    assert!(stalled.rest().1, "a cut answer must not look complete");
    let mut reports = [server.report(), server.report()];
    reports.sort();
    assert_eq!(reports, ["endless ended: BrokenPipe", "gone"]);
}

#[test]
fn connections_are_bounded_by_descriptors() {
    assert_eq!(connections_for(0), 1);
    assert_eq!(connections_for(1024), 320);
    assert_eq!(connections_for(u64::MAX), (usize::MAX - 64) / 3);
}

// ---------------------------------------------------------------------------------------------
// Heads and bodies as bytes.

/// Feeds a head as the front does, in pieces of these sizes, then one by one.
fn scanned(bytes: &[u8], pieces: &[usize], limits: &Limits) -> Result<Option<usize>, Error> {
    let mut scan = Scan::default();
    let mut end = 0;
    let mut pieces = pieces.iter();
    loop {
        let piece = pieces.next().copied().unwrap_or(1);
        end = (end + piece).min(bytes.len());
        match scan.find_end(&bytes[..end], limits) {
            Ok(None) if end < bytes.len() => {}
            result => return result,
        }
    }
}

type Decoded = Result<(bool, usize, Vec<u8>), Error>;

/// Feeds a body in pieces; tells whether it is done, how much was taken, and the data.
fn decoded(bytes: &[u8], pieces: &[usize], length: BodyLength) -> Decoded {
    let mut decoder = Decoder::new(length, 1000);
    let (mut taken, mut body) = (0, Vec::new());
    let mut pieces = pieces.iter();
    while taken < bytes.len() && !decoder.is_done() {
        let piece = pieces.next().copied().unwrap_or(1);
        let end = (taken + piece).min(bytes.len());
        taken += decoder.feed(&bytes[taken..end], &mut body)?;
    }
    Ok((decoder.is_done(), taken, body))
}

/// Bytes that look like HTTP often enough to get anywhere.
fn http_like() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => proptest::sample::select(vec![
            "\r\n", "\r\n\r\n", "\n", "\r", " ", ":", ": ", "\t", ";", ",", "GET /", "POST / HTTP/1.1\r\n",
            "GET /a?b HTTP/1.1\r\nHost: h\r\n", " HTTP/1.1", " HTTP/1.0", " HTTP/2.0", "*", "http://h/",
            "Host: h\r\n", "Content-Length: 5\r\n", "Content-Length", "Transfer-Encoding: chunked\r\n",
            "Expect: 100-continue\r\n", "Connection: close\r\n", "0\r\n", "5\r\n", "5\r\nhello\r\n",
            "0\r\n\r\n", "3e8\r\n", "ffffffffffffffff", "hello", "A: b\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1..40usize, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_head_is_the_same_in_any_pieces_and_never_a_panic(bytes in http_like(), pieces in pieces()) {
        let limits = Limits { head_bytes: 200, headers: 4, body_bytes: 1000, ..Limits::default() };
        let whole = scanned(&bytes, &[bytes.len()], &limits);
        prop_assert_eq!(&whole, &scanned(&bytes, &pieces, &limits));
        if let Ok(Some(end)) = whole {
            prop_assert!(bytes[..end].ends_with(b"\r\n\r\n"));
            let _ = Head::parse(&bytes[..end], &limits);
        }
        let _ = Head::parse(&bytes, &limits);
    }

    #[test]
    fn a_body_is_the_same_in_any_pieces_and_never_a_panic(
        bytes in http_like(),
        pieces in pieces(),
        length in 0..40usize,
    ) {
        for length in [BodyLength::Chunked, BodyLength::Known(length)] {
            let whole = decoded(&bytes, &[bytes.len()], length);
            prop_assert_eq!(&whole, &decoded(&bytes, &pieces, length));
            if let (Ok((done, taken, body)), BodyLength::Known(length)) = (whole, length) {
                prop_assert_eq!(&body[..], &bytes[..length.min(bytes.len())]);
                prop_assert_eq!((done, taken), (bytes.len() >= length, body.len()));
            }
        }
    }

    #[test]
    fn chunks_of_any_size_give_back_the_body(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..15),
        pieces in pieces(),
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            let mut size = String::new();
            write!(size, "{:x}\r\n", chunk.len()).unwrap();
            bytes.extend([size.as_bytes(), chunk, b"\r\n"].concat());
        }
        bytes.extend(b"0\r\n\r\n");
        let length = bytes.len();
        bytes.extend(b"GET /next HTTP/1.1\r\n");
        let (done, taken, body) = decoded(&bytes, &pieces, BodyLength::Chunked).unwrap();
        prop_assert_eq!((done, taken, body), (true, length, chunks.concat()));
    }
}
