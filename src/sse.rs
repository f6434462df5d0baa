//! Server-Sent Events: an event is `data: <one line>` and an empty line, and nothing else; OpenAI's
//! clients fail on `id:`, `retry:` or an event without data.

use std::io;

use crate::answer::{Answer, Stream};

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

    /// Ends a complete answer with OpenAI's last event.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn done(mut self) -> io::Result<()> {
        self.event(|data| data.extend_from_slice(b"[DONE]"));
        self.stream.finish()
    }

    /// Ends an answer that is not complete, with an event that says why (a line of JSON) and without
    /// the last one.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn fail(mut self, error: &str) -> io::Result<()> {
        self.event(|data| data.extend_from_slice(error.as_bytes()));
        self.stream.finish_connection()
    }
}
