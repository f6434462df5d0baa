//! Writes the answer to one request as HTTP/1.1: its head, then its body whole or as a stream. One to a
//! WebSocket's message is written as messages.
//!
//! It writes directly to the client's socket, because tiny_http's `respond` holds back 8 KiB of a
//! stream.

use std::io::{self, Write};
use std::sync::Arc;

use crate::error::{Envelope, Error};
use crate::http::refusal::reason_phrase;
use crate::http::websocket::outgoing::put_text;
use crate::http::{AnswerTurn, Exchange};

/// Largest body, in bytes, that is copied behind its head so that both go out in one write.
const ONE_WRITE: usize = 16 * 1024;

/// The answer to an exchange.
pub struct Answer {
    exchange: Arc<Exchange>,
    /// The turn to answer; dropping it ends the exchange.
    turn: Option<AnswerTurn>,
    /// Header fields besides those that every answer has.
    fields: Vec<(&'static str, String)>,
    /// The status, once the head has been written.
    status: Option<u16>,
    /// Bytes of the body written so far.
    bytes: u64,
}

impl Answer {
    /// Creates an answer of which nothing has been written.
    pub fn new(turn: AnswerTurn) -> Answer {
        let exchange = turn.clone();
        Answer { exchange, turn: Some(turn), fields: Vec::new(), status: None, bytes: 0 }
    }

    /// Ends the exchange: nothing more will be written.
    pub fn end(&mut self) {
        self.turn = None;
    }

    /// The exchange that is being answered.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// The status; `None` until the head is made.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Returns the bytes of the body written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a header field; for use before the head is written.
    pub fn field(&mut self, name: &'static str, value: impl Into<String>) {
        self.fields.push((name, value.into()));
    }

    /// Sets a header field in the place of any of this name; for use before the head is written.
    pub fn replace_field(&mut self, name: &'static str, value: impl Into<String>) {
        self.fields.retain(|(other, _)| *other != name);
        self.field(name, value);
    }

    /// Returns the header fields whose names begin with `prefix`, and their values.
    pub(super) fn fields_of(&self, prefix: &str) -> Vec<(&'static str, &str)> {
        let fields = self.fields.iter().filter(|(name, _)| name.starts_with(prefix));
        fields.map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// True if the answer goes as messages of a WebSocket.
    pub fn is_messages(&self) -> bool {
        self.exchange.socket().is_some()
    }

    /// Answers a message of a WebSocket with one message. The status is for logs.
    ///
    /// # Errors
    /// The client has gone.
    pub fn message(&mut self, status: u16, message: &str) -> io::Result<()> {
        let mut frame = Vec::new();
        put_text(&mut frame, message.as_bytes());
        self.send_frames(status, &frame, message.len())?;
        self.exchange.finish();
        Ok(())
    }

    /// Ends the answer to a message of a WebSocket that wants none.
    pub fn no_message(&mut self) {
        self.status = Some(200);
        self.exchange.finish();
    }

    /// Sends frames. `length` is the bytes of the messages in them, which count as the body.
    pub(super) fn send_frames(
        &mut self,
        status: u16,
        frames: &[u8],
        length: usize,
    ) -> io::Result<()> {
        self.status = Some(status);
        self.bytes += length as u64;
        self.exchange.write(frames)
    }

    /// Writes the answer with a complete body.
    ///
    /// # Errors
    /// The client has gone.
    pub fn whole(&mut self, status: u16, content_type: &str, body: &str) -> io::Result<()> {
        self.field("Content-Type", content_type);
        self.field("Content-Length", body.len().to_string());
        self.exchange.tell_length();
        let body = if self.exchange.head.method == "HEAD" { "" } else { body };
        self.bytes += body.len() as u64;
        let mut bytes = self.head(status);
        if body.len() <= ONE_WRITE {
            bytes.extend_from_slice(body.as_bytes());
            self.exchange.write(&bytes)?;
        } else {
            self.exchange.write(&bytes)?;
            self.exchange.write(body.as_bytes())?;
        }
        self.exchange.finish();
        Ok(())
    }

    /// Writes the answer without a body (204).
    ///
    /// # Errors
    /// The client has gone.
    pub fn empty(&mut self, status: u16) -> io::Result<()> {
        let head = self.head(status);
        self.exchange.write(&head)?;
        self.exchange.finish();
        Ok(())
    }

    /// Writes the answer with JSON as its body.
    ///
    /// # Errors
    /// The client has gone.
    pub fn json(&mut self, status: u16, body: &str) -> io::Result<()> {
        self.whole(status, "application/json", body)
    }

    /// Writes an error: status and fields come from [`Error::report`], the body from `envelope`.
    ///
    /// # Errors
    /// The client has gone.
    pub fn error(&mut self, error: &Error, envelope: Envelope) -> io::Result<()> {
        let report = error.report();
        if let Error::WrongMethod { allow, .. } = error {
            self.field("Allow", *allow);
        }
        if let Some(seconds) = report.retry_after {
            self.field("Retry-After", seconds.to_string());
        }
        let is_said = self.fields.iter().any(|(name, _)| *name == "x-should-retry");
        if let Some(should_retry) = report.should_retry.filter(|_| !is_said) {
            self.field("x-should-retry", should_retry.to_string());
        }
        let body = envelope(error, &self.exchange.request_id);
        self.json(report.status, &body)
    }

    /// Begins a streamed body; nothing is sent before the first [`Stream::flush`].
    pub fn stream(&mut self, content_type: &str) -> Stream<'_> {
        self.field("Content-Type", content_type);
        // HTTP/1.0 has no chunks: there the end of the connection ends the body.
        let chunked = self.exchange.head.minor_version > 0;
        if chunked {
            self.field("Transfer-Encoding", "chunked");
        }
        let mut buffer = self.head(200);
        let head = buffer.len();
        buffer.extend_from_slice(&[0; ROOM]);
        Stream { answer: self, chunked, head, buffer }
    }

    /// Passes on bytes of an answer that somebody else has made, head and all. They begin with a whole status
    /// line.
    ///
    /// # Errors
    /// The client has gone.
    pub fn pass_on(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.status.is_none() {
            let digits = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
            self.status = digits.and_then(|digits| digits.parse().ok());
        }
        self.bytes += bytes.len() as u64;
        self.exchange.write(bytes)
    }

    /// Ends an answer that has been passed on whole.
    ///
    /// # Errors
    /// Nothing was passed on.
    pub fn passed_on(&mut self) -> io::Result<()> {
        if self.status.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.exchange.finish();
        Ok(())
    }

    fn head(&mut self, status: u16) -> Vec<u8> {
        self.status = Some(status);
        let took = self.exchange.accepted.elapsed().as_millis();
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status)).into_bytes();
        let mut line = |name: &str, value: &str| {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        };
        for (name, value) in &self.fields {
            line(name, value);
        }
        // OpenAI's name for the field, and Anthropic's.
        line("x-request-id", &self.exchange.request_id);
        line("request-id", &self.exchange.request_id);
        line("openai-processing-ms", &took.to_string());
        if !self.exchange.head.keep_alive {
            line("Connection", "close");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// Bytes kept free for a chunk's size line: at most eight hexadecimal digits, and CRLF.
const ROOM: usize = 10;
/// Bytes of a stream's buffer once its head has been sent; what does not fit makes it grow.
const EVENT: usize = 384;

/// A streamed body. Each flush sends what the buffer holds as one chunk in one write.
pub struct Stream<'a> {
    answer: &'a mut Answer,
    chunked: bool,
    /// Length of the answer's head at the start of the buffer; 0 once it has been sent.
    head: usize,
    /// The head, then [`ROOM`] bytes, then the data for the next flush.
    buffer: Vec<u8>,
}

impl Stream<'_> {
    /// The buffer, to whose end data for the next flush is appended.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Sends the buffer, and the head before the first data; false if there was nothing to send.
    ///
    /// # Errors
    /// The client has gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        let is_empty = self.buffer.len() == self.head + ROOM;
        if self.head == 0 && is_empty {
            return Ok(false);
        }
        self.send(b"").map(|()| true)
    }

    /// Sends the buffer and the end of the body in one write: the answer is complete.
    ///
    /// # Errors
    /// The client has gone.
    pub fn finish(mut self) -> io::Result<()> {
        self.send(if self.chunked { b"0\r\n\r\n" } else { b"" })?;
        self.answer.exchange.finish();
        Ok(())
    }

    /// Sends the buffer and the end of the body, and closes the client's connection: the client has
    /// not been sent all of the answer.
    ///
    /// The end is sent because Node.js may throw away what it has not handed on yet of a body that breaks
    /// off: the event that says what went wrong would be lost with it, and agents take a broken connection
    /// for a reason to ask again. The connection's end follows at once: a client that keeps connections
    /// would send its next request into one that is about to close.
    ///
    /// # Errors
    /// The client has gone.
    pub fn finish_connection(self) -> io::Result<()> {
        let exchange = self.answer.exchange.clone();
        exchange.end_connection();
        self.finish()?;
        exchange.end_writing();
        Ok(())
    }

    fn send(&mut self, end: &[u8]) -> io::Result<()> {
        let length = self.buffer.len() - self.head - ROOM;
        let mut line = [0; ROOM];
        let mut left = &mut line[..];
        if self.chunked && length > 0 {
            write!(left, "{length:x}\r\n")?;
            self.buffer.extend_from_slice(b"\r\n");
        }
        let left = left.len();
        let size = &line[..ROOM - left];
        self.buffer.extend_from_slice(end);
        // The head moves right, up to the chunk's size line, which moves up to the data.
        let begin = ROOM - size.len();
        self.buffer.copy_within(..self.head, begin);
        self.buffer[begin + self.head..self.head + ROOM].copy_from_slice(size);
        self.answer.exchange.write(&self.buffer[begin..])?;

        self.answer.bytes += length as u64;
        self.buffer.truncate(ROOM);
        if std::mem::take(&mut self.head) > 0 {
            // Events are shorter than a head.
            self.buffer.shrink_to(EVENT);
        }
        Ok(())
    }
}
