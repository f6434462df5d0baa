//! Server-Sent Events: an event is `data: <one line>` and an empty line, in some dialects with its
//! name before it, and nothing else; OpenAI's clients fail on `id:`, `retry:` or an event without data.

use std::io;

use crate::http::answer::{Answer, Stream};

/// An answer as a stream of events. What is put in is sent at the next flush, in one write.
pub struct EventStream<'a> {
    stream: Stream<'a>,
}

impl<'a> EventStream<'a> {
    /// Begins the answer; nothing is sent before the first flush.
    pub fn begin(answer: &'a mut Answer) -> EventStream<'a> {
        answer.field("Cache-Control", "no-cache");
        // nginx buffers answers unless it is told not to.
        answer.field("X-Accel-Buffering", "no");
        EventStream { stream: answer.stream("text/event-stream; charset=utf-8") }
    }

    /// Puts an event in; `data` must write one line.
    pub fn event(&mut self, data: impl FnOnce(&mut Vec<u8>)) {
        let buffer = self.stream.buffer();
        buffer.extend_from_slice(b"data: ");
        data(buffer);
        buffer.extend_from_slice(b"\n\n");
    }

    /// Puts an event with a name in; `data` must write one line.
    pub fn named_event(&mut self, name: &str, data: impl FnOnce(&mut Vec<u8>)) {
        let buffer = self.stream.buffer();
        for part in ["event: ", name, "\n"] {
            buffer.extend_from_slice(part.as_bytes());
        }
        self.event(data);
    }

    /// Puts a comment in, which clients pass over: it shows proxies that the stream is alive. One
    /// line end only: with two, some clients see an empty event.
    pub fn comment(&mut self) {
        self.stream.buffer().extend_from_slice(b": keep-alive\n");
    }

    /// Sends what has been put in; false if that is nothing.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        self.stream.flush()
    }

    /// Sends what has been put in and ends a complete answer.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn finish(self) -> io::Result<()> {
        self.stream.finish()
    }

    /// Sends what has been put in and ends an answer that is not complete.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn break_off(self) -> io::Result<()> {
        self.stream.finish_connection()
    }
}
