//! Server-Sent Events. An event is `data: <one line>` and an empty line, in some dialects preceded
//! by its name. Nothing else is sent: OpenAI's clients fail on `id:`, `retry:` or an event without
//! data.

use std::io;

use crate::http::answer::{Answer, Stream};
use crate::http::websocket::messages::Messages;

/// The comment that says nothing.
pub const KEEP_ALIVE: &str = "keep-alive";

/// An answer as a stream of events. Events are collected and sent by the next flush, in one write. On a
/// WebSocket each event's data is a message.
pub struct EventStream<'a>(Framing<'a>);

enum Framing<'a> {
    Sse(Stream<'a>),
    Messages(Messages<'a>),
}

impl<'a> EventStream<'a> {
    /// Begins the answer; nothing is sent before the first flush.
    pub fn begin(answer: &'a mut Answer) -> EventStream<'a> {
        if answer.is_messages() {
            return EventStream(Framing::Messages(Messages::begin(answer)));
        }
        answer.field("Cache-Control", "no-cache");
        // nginx buffers answers unless it is told not to.
        answer.field("X-Accel-Buffering", "no");
        EventStream(Framing::Sse(answer.stream("text/event-stream; charset=utf-8")))
    }

    /// Adds an event, with its name if it has one; `data` must append one line.
    pub fn event(&mut self, name: Option<&str>, data: impl FnOnce(&mut Vec<u8>)) {
        match &mut self.0 {
            Framing::Sse(stream) => put_event(stream.buffer(), name, data),
            Framing::Messages(messages) => messages.put(data),
        }
    }

    /// Adds a comment of one line, which clients skip, or a ping: it shows proxies that the stream is alive.
    pub fn comment(&mut self, words: &str) {
        match &mut self.0 {
            Framing::Sse(stream) => put_comment(stream.buffer(), words),
            Framing::Messages(messages) => messages.ping(),
        }
    }

    /// Sends what has been added; false if there was nothing.
    ///
    /// # Errors
    /// The client has gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        match &mut self.0 {
            Framing::Sse(stream) => stream.flush(),
            Framing::Messages(messages) => messages.flush(),
        }
    }

    /// Sends what has been added and ends a complete answer.
    ///
    /// # Errors
    /// The client has gone.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            Framing::Sse(stream) => stream.finish(),
            Framing::Messages(messages) => messages.finish(),
        }
    }

    /// Sends what has been added and ends an answer that is not complete. A WebSocket goes on: its last
    /// message has said so.
    ///
    /// # Errors
    /// The client has gone.
    pub fn break_off(self) -> io::Result<()> {
        match self.0 {
            Framing::Sse(stream) => stream.finish_connection(),
            Framing::Messages(messages) => messages.finish(),
        }
    }
}

fn put_event(buffer: &mut Vec<u8>, name: Option<&str>, data: impl FnOnce(&mut Vec<u8>)) {
    if let Some(name) = name {
        for part in ["event: ", name, "\n"] {
            buffer.extend_from_slice(part.as_bytes());
        }
    }
    buffer.extend_from_slice(b"data: ");
    data(buffer);
    buffer.extend_from_slice(b"\n\n");
}

/// A comment has one line end only: after two, some clients see an empty event.
fn put_comment(buffer: &mut Vec<u8>, words: &str) {
    for part in [": ", words, "\n"] {
        buffer.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_name_its_data_and_an_empty_line_behind_what_is_there() {
        let mut buffer = Vec::new();
        put_event(&mut buffer, Some("ping"), |data| data.extend_from_slice(b"{}"));
        put_comment(&mut buffer, KEEP_ALIVE);
        put_event(&mut buffer, None, |data| data.extend_from_slice(b"[DONE]"));
        let expected = "event: ping\ndata: {}\n\n: keep-alive\ndata: [DONE]\n\n";
        assert_eq!(String::from_utf8(buffer).unwrap(), expected);
    }
}
