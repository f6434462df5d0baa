//! What the tests of the real program share: starting it in front of a simulator, and plain HTTP to
//! talk to it.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod frozen;
pub mod log;
pub mod page;
pub mod prometheus;
pub mod proxy;
pub mod relay;
pub mod scrape;
pub mod stepped;
pub mod typed;
pub mod websocket;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::simulator::Simulator;
use log::Log;

/// A user with no rights.
pub const NOBODY: u32 = 65_534;

/// Longest that any condition is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program, running; it is killed when this is dropped.
pub struct Program {
    child: Child,
    address: SocketAddr,
    line: String,
    log: Log,
    state: Option<Directory>,
}

/// How to start the program.
pub struct Start {
    command: Command,
    state: Option<Directory>,
}

impl Start {
    /// In front of LangFast at `upstream`, on a free port, with a state directory of its own.
    pub fn new(upstream: &str) -> Start {
        let state = Directory::new();
        let command = Command::new(env!("CARGO_BIN_EXE_langfast2api"));
        let start = Start::of(command, upstream, state.path());
        Start { state: Some(state), ..start }
    }

    /// The same with another command that runs it, and a state directory of the caller's.
    pub fn of(mut command: Command, upstream: &str, state: &Path) -> Start {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LANGFAST2API_")) {
            command.env_remove(name);
        }
        for name in
            ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"]
        {
            command.env_remove(name);
        }
        command
            .args(["--listen", "127.0.0.1:0", "--log", "debug"])
            .args(["--supabase-url", upstream, "--runner-url", upstream])
            // A test that has the same request fail again means another run, unless it is about that.
            .args(["--remember-failures", "0"])
            .arg("--state-dir")
            .arg(state)
            .env_remove("SSL_CERT_FILE")
            .env_remove("SSL_CERT_DIR");
        Start { command, state: None }
    }

    /// With a further argument.
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Start {
        self.command.arg(arg);
        self
    }

    /// With further arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Start {
        self.command.args(args);
        self
    }

    /// As another user than root; for whom is root the modes of files mean nothing. No change if that
    /// is not who runs the tests.
    pub fn not_as_root(mut self) -> Start {
        if rustix::process::geteuid().is_root() {
            self.command.uid(NOBODY).gid(NOBODY);
        }
        self
    }

    /// With a variable in its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Start {
        self.command.env(name, value);
        self
    }

    /// With a model that is never shut down, so that it has nothing to say of models on whatever day.
    pub fn lasting(mut self) -> Start {
        self.command.args(["--model-aliases", "lasting=a-model-that-lasts"]);
        self
    }

    /// With failures remembered as by default.
    pub fn remembering(self) -> Start {
        self.args(["--remember-failures", "30"])
    }

    /// With a state directory that outlives it.
    pub fn state_dir(mut self, path: &Path) -> Start {
        self.state = None;
        self.command.arg("--state-dir").arg(path);
        self
    }

    /// Starts it and waits for its one line.
    pub fn start(mut self) -> Program {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the program starts");
        let mut log = Log::of(child.stderr.take().unwrap());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some(address) = address_in(&line) else {
            let _ = child.kill();
            let status = child.wait();
            log.wait_for_end();
            panic!("no address in {line:?}; {status:?}; log: {}", log.text());
        };
        Program { child, address, line, log, state: self.state }
    }

    /// Runs it to its end: exit status, standard output, log.
    pub fn run(self) -> (ExitStatus, String, String) {
        self.run_with(Stdio::null())
    }

    /// The same with an input.
    pub fn run_with(mut self, input: impl Into<Stdio>) -> (ExitStatus, String, String) {
        let output = self.command.stdin(input).output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status, text(output.stdout), text(output.stderr))
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    line.split("http://").nth(1)?.split([',', '/', ' ']).next()?.parse().ok()
}

impl Program {
    /// In front of LangFast at `upstream`, with default settings.
    pub fn start(upstream: &str) -> Program {
        Start::new(upstream).start()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The one line that it has said on standard output.
    pub fn line(&self) -> &str {
        &self.line
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// The number of times that this text is in the log.
    pub fn times_logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// The state directory that it was given, if it is its own.
    pub fn state_dir(&self) -> &Path {
        self.state.as_ref().expect("a state directory of its own").path()
    }

    /// Waits until the log holds `text`.
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("{text:?} in the log"), || self.log().contains(text));
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Ends it as an operator does; all that it has logged.
    pub fn stop(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
        self.log.wait_for_end();
        self.log()
    }

    /// A figure of `/proc/PID/status`, such as `VmRSS` in KiB or `Threads`.
    pub fn figure(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The processor time that it has taken so far, in hundredths of a second.
    pub fn processor_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // `utime` and `stime` of proc_pid_stat(5), which counts from 1 and the name as the second.
        fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// One request on a connection of its own; the whole answer.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Response {
        let mut connection = self.send(method, path, headers, body);
        connection.response()
    }

    /// Sends a request and leaves the answer to be read.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Connection {
        let mut connection = Connection::open(self.address);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        connection.write(head.as_bytes());
        connection.write(body);
        connection
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, "", b"")
    }

    /// A chat completion of these fields; `model` and `stream: false` are filled in.
    pub fn chat(&self, fields: Value) -> Response {
        self.chat_connection(fields).response()
    }

    /// A chat completion whose answer is left to be read.
    pub fn chat_connection(&self, fields: Value) -> Connection {
        let body = chat_body(fields).to_string();
        let headers = "Content-Type: application/json\r\n";
        self.send("POST", "/v1/chat/completions", headers, body.as_bytes())
    }

    /// A whole answer to one user message.
    pub fn ask(&self, content: &str) -> Response {
        self.chat(user(content))
    }

    /// A streamed answer to one user message.
    pub fn ask_stream(&self, content: &str) -> Response {
        let mut fields = user(content);
        fields["stream"] = json!(true);
        self.chat(fields)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.log.wait_for_end();
        if std::thread::panicking() {
            eprintln!("the program's log:\n{}", self.log());
        }
    }
}

/// A free port that stays free until somebody listens on it: nobody else is told of its address, so that
/// nothing takes the port in between.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    TcpListener::bind((Ipv4Addr::new(127, 1, high, low), 0)).unwrap().local_addr().unwrap()
}

/// The program with default settings, in front of a simulator.
pub fn start() -> (Simulator, Program) {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    (simulator, program)
}

/// The same with events that the test sends itself.
pub fn start_stepped() -> (Simulator, Program) {
    let simulator = Simulator::builder().literal_socket().start();
    let program = Program::start(&simulator.url());
    (simulator, program)
}

/// The fields of a streamed request with one user message.
pub fn streamed(content: &str) -> Value {
    let mut fields = user(content);
    fields["stream"] = json!(true);
    fields
}

/// The fields of a request with one user message.
pub fn user(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

/// The `prompt_meta` of the run that was started last.
pub fn last_meta(simulator: &Simulator) -> Value {
    simulator.runs().pop().expect("a run")["prompt_meta"].clone()
}

/// The role and the text of each message of that run.
pub fn sent(simulator: &Simulator) -> Vec<(String, String)> {
    let meta = last_meta(simulator);
    let messages = meta["messages"].as_array().expect("messages").iter();
    let field = |message: &Value, name: &str| message[name].as_str().expect(name).to_owned();
    messages.map(|message| (field(message, "role"), field(message, "content"))).collect()
}

/// The text of each message of that run.
pub fn sent_texts(simulator: &Simulator) -> Vec<String> {
    sent(simulator).into_iter().map(|(_, text)| text).collect()
}

/// A chat request's body with `gpt-4o` as model if none is given.
pub fn chat_body(mut fields: Value) -> Value {
    let object = fields.as_object_mut().expect("fields");
    object.entry("model").or_insert(json!("gpt-4o"));
    fields
}

/// A plain connection.
pub struct Connection {
    pub stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection { stream: BufReader::new(stream) }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Reads the head of an answer.
    pub fn head(&mut self) -> Response {
        Response::head_from(&mut self.stream)
    }

    /// Reads the next chunk of a chunked body; `None` at its end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        read_chunk(&mut self.stream).expect("a whole chunk")
    }

    /// Reads what is left of a stream, to its end.
    pub fn rest(&mut self) -> String {
        let rest: Vec<u8> = std::iter::from_fn(|| self.chunk()).flatten().collect();
        String::from_utf8(rest).unwrap()
    }

    /// Reads a chat's stream up to its next chunk with events, and returns the text in that.
    pub fn next_text(&mut self) -> String {
        let mut chunk = || String::from_utf8(self.chunk().expect("a chunk")).unwrap();
        let chunk =
            std::iter::repeat_with(&mut chunk).find(|chunk| chunk.contains("data: ")).unwrap();
        let texts = chunk.lines().filter_map(|line| {
            let event: Value = serde_json::from_str(line.strip_prefix("data: ")?).ok()?;
            event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
        });
        texts.collect()
    }

    /// Reads a whole answer.
    pub fn response(&mut self) -> Response {
        Response::read_from(&mut self.stream)
    }
}

/// Reads the next chunk of a chunked body; `None` at its end, an error if it is cut.
pub fn read_chunk(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut size = String::new();
    if stream.read_line(&mut size)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk)?;
    assert!(chunk.ends_with(b"\r\n"));
    chunk.truncate(size);
    Ok((size > 0).then_some(chunk))
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether its body was read to its end.
    pub complete: bool,
}

impl Response {
    /// Reads the head of an answer.
    pub fn head_from(stream: &mut impl BufRead) -> Response {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).unwrap() > 0, "cut in the head: {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Response { status, head, body: Vec::new(), complete: false }
    }

    /// Reads a whole answer.
    pub fn read_from(stream: &mut impl BufRead) -> Response {
        let mut response = Response::head_from(stream);
        if let Some(length) = response.header("content-length") {
            response.body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut response.body).unwrap();
        } else if response.header("transfer-encoding").is_some() {
            while let Some(chunk) = read_chunk(stream).unwrap() {
                response.body.extend(chunk);
            }
        }
        response.complete = true;
        response
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The text of a whole answer's first choice.
    pub fn content(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }

    /// The error object.
    pub fn error(&self) -> Value {
        self.json()["error"].clone()
    }

    /// The data of a stream's events, in order; the last one of a complete stream is `[DONE]`.
    pub fn events(&self) -> Vec<String> {
        let events = self.text().split("\n\n").filter(|event| !event.is_empty());
        events
            .map(|event| {
                let lines = event.lines().filter(|line| !line.starts_with(':'));
                let lines: Vec<&str> = lines.collect();
                assert_eq!(lines.len(), 1, "an event is one line: {event:?}");
                lines[0].strip_prefix("data: ").expect("data").to_owned()
            })
            .collect()
    }

    /// A stream's events as JSON, without `[DONE]`.
    pub fn chunks(&self) -> Vec<Value> {
        let events = self.events();
        let chunks = events.iter().filter(|event| *event != "[DONE]");
        chunks.map(|event| serde_json::from_str(event).unwrap()).collect()
    }

    /// The text that the choice's deltas add up to.
    pub fn streamed_text(&self, index: u64) -> String {
        let chunks = self.chunks();
        let choices = chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten();
        let own = choices.filter(|choice| choice["index"] == index);
        own.filter_map(|choice| choice["delta"]["content"].as_str().map(str::to_owned)).collect()
    }

    /// Whether the stream ended with `[DONE]`.
    pub fn is_done(&self) -> bool {
        self.events().last().is_some_and(|event| event == "[DONE]")
    }
}

/// A directory that is removed when this is dropped.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        let name = format!("langfast2api-test-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits for a condition.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
