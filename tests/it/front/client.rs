//! A client that sends bytes as they are, and reads answers strictly.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;

use super::PATIENCE;

pub struct Client<S> {
    pub stream: S,
    pub read: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    pub fields: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl<S: Read + Write> Client<S> {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what may not be taken any more.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Reads one whole answer.
    pub fn answer(&mut self) -> Answer {
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

    pub fn chunks(&mut self) -> Vec<u8> {
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
    pub fn chunk(&mut self) -> Vec<u8> {
        let line_end = self.read_to(b"\r\n");
        let line = String::from_utf8(self.take(line_end)).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let mut data = self.take(size + 2);
        data.truncate(size);
        data
    }

    /// Reads until `end` has come and tells where it ends.
    pub fn read_to(&mut self, end: &[u8]) -> usize {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return at + end.len();
            }
            self.read_some();
        }
    }

    pub fn take(&mut self, length: usize) -> Vec<u8> {
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
    pub fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut rest = std::mem::take(&mut self.read);
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => (rest, false),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (rest, true),
            Err(error) => panic!("the connection should have ended, but: {error}"),
        }
    }

    /// The connection must end in order, with nothing more before its end.
    pub fn ends(&mut self) {
        let (rest, reset) = self.rest();
        assert_eq!((String::from_utf8_lossy(&rest).as_ref(), reset), ("", false));
    }
}

impl Client<TcpStream> {
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Leaves by a reset instead of an orderly end.
    pub fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }
}

pub fn connect(address: SocketAddr) -> Client<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    Client { stream, read: Vec::new() }
}
