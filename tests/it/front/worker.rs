//! Workers that answer by path, and report what they hear of their clients.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use langfast2api::http::{AnswerTurn, Exchange};

#[derive(Clone)]
pub struct Worker {
    pub reports: Sender<String>,
    pub go_on: Receiver<()>,
}

/// What a worker hears.
enum News {
    GoOn,
    HalfClosed,
    Gone,
}

impl Worker {
    pub fn answer(self, exchange: &AnswerTurn) {
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

pub fn respond(exchange: &Exchange, body: &[u8]) {
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
