//! A plain HTTP client: one connection, blocking.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Longest wait for any byte.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that is kept.
pub struct Client {
    connection: BufReader<TcpStream>,
}

impl Client {
    pub fn open(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { connection: BufReader::new(stream) }
    }

    /// The body of a successful answer.
    pub fn get(&mut self, path: &str) -> Vec<u8> {
        self.send("GET", path, "", "");
        self.whole_body()
    }

    /// The body of the answer to a URL that there is not.
    pub fn get_nothing(&mut self) -> Vec<u8> {
        self.send("GET", "/nowhere", "", "");
        let length = self.head_of("4");
        self.body(length)
    }

    /// The JSON of a successful answer to a call of LangFast's.
    pub fn post(&mut self, path: &str, bearer: &str, body: &Value) -> Value {
        let headers = format!("apikey: none\r\nAuthorization: Bearer {bearer}\r\n");
        self.send("POST", path, &headers, &body.to_string());
        serde_json::from_slice(&self.whole_body()).expect("JSON")
    }

    /// Works one of the simulator's switches.
    pub fn command(&mut self, path: &str, body: &Value) {
        self.send("POST", path, "", &body.to_string());
        assert_eq!(self.head(), 0, "a switch answers nothing");
    }

    /// A whole answer of the gateway's.
    pub fn ask(&mut self, message: &str) -> Vec<u8> {
        self.send_chat(message, false);
        self.whole_body()
    }

    /// A streamed answer of the gateway's: `each` gets the data of every event as it comes.
    pub fn ask_stream(&mut self, message: &str, mut each: impl FnMut(&str)) {
        self.send_chat(message, true);
        self.head();
        let mut line = String::new();
        let mut is_done = false;
        // The chunks' sizes are lines too; an event is never cut between chunks.
        while !(is_done && line == "0\r\n") {
            self.line(&mut line);
            let Some(data) = line.strip_prefix("data: ") else { continue };
            is_done = data.starts_with("[DONE]");
            each(data);
        }
        self.line(&mut line);
    }

    fn send_chat(&mut self, message: &str, stream: bool) {
        let messages = json!([{"role": "user", "content": message}]);
        let body = json!({"model": "gpt-4o", "messages": messages, "stream": stream});
        self.send("POST", "/v1/chat/completions", "", &body.to_string());
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}"
        );
        self.connection.get_mut().write_all(request.as_bytes()).expect("the server reads");
    }

    fn whole_body(&mut self) -> Vec<u8> {
        let length = self.head();
        self.body(length)
    }

    fn body(&mut self, length: usize) -> Vec<u8> {
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body).expect("a whole body");
        body
    }

    /// Reads the head of a successful answer; its Content-Length, or 0.
    fn head(&mut self) -> usize {
        self.head_of("2")
    }

    /// Reads the head of an answer whose status begins so; its Content-Length, or 0.
    fn head_of(&mut self, status: &str) -> usize {
        let (mut line, mut head, mut length) = (String::new(), String::new(), 0);
        while line != "\r\n" {
            self.line(&mut line);
            head.push_str(&line);
            if let Some((name, value)) = line.split_once(": ") {
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim_end().parse().expect("a length");
                }
            }
        }
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "not {status}xx: {head}");
        length
    }

    fn line(&mut self, line: &mut String) {
        line.clear();
        assert!(self.connection.read_line(line).expect("a line in time") > 0, "the answer is cut");
    }
}

/// The time at which the simulator sent the piece of text in an event's data, if there is one.
pub fn stamp_in(data: &str) -> Option<u64> {
    data.split_once(r#""content":""#)?.1.split_once(' ')?.0.parse().ok()
}

/// Unix time in microseconds.
pub fn unix_micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(now.as_micros()).expect("microseconds fit 64 bits for ages")
}
