//! An answer as messages of a WebSocket. They are collected and sent by the next flush, in one write.
//!
//! A message has no head. What the head of an answer would say of the answer itself is in `headers` of the
//! first message, as it is in an error's; known of OpenAI's WebSocket, whose clients read `headers` of events
//! and pass over what they do not know.

use std::collections::BTreeMap;
use std::io;

use super::outgoing::{put_ping, put_text};
use crate::http::answer::Answer;

/// Prefix of the header fields that say something of the answer itself.
const OWN: &str = "x-langfast2api-";

/// An answer as messages.
pub struct Messages<'a> {
    answer: &'a mut Answer,
    frames: Vec<u8>,
    /// Bytes of the messages in the frames, without their heads.
    length: usize,
    /// The message under way, kept apart because its frame begins with its length.
    message: Vec<u8>,
    /// The end of the first message, a JSON object, until that message is put.
    headers: Option<String>,
}

impl<'a> Messages<'a> {
    /// Begins the answer; nothing is sent before the first flush.
    pub fn begin(answer: &'a mut Answer) -> Messages<'a> {
        let headers = headers(&answer.fields_of(OWN));
        Messages { answer, frames: Vec::new(), length: 0, message: Vec::new(), headers }
    }

    /// Adds the message that `data` appends.
    pub fn put(&mut self, data: impl FnOnce(&mut Vec<u8>)) {
        self.message.clear();
        data(&mut self.message);
        if let Some(headers) = self.headers.take().filter(|_| self.message.ends_with(b"}")) {
            self.message.pop();
            self.message.extend_from_slice(headers.as_bytes());
        }
        put_text(&mut self.frames, &self.message);
        self.length += self.message.len();
    }

    /// Adds a ping.
    pub fn ping(&mut self) {
        put_ping(&mut self.frames);
    }

    /// Sends what has been added; false if there was nothing.
    ///
    /// # Errors
    /// The client has gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        if self.frames.is_empty() {
            return Ok(false);
        }
        self.answer.send_frames(200, &self.frames, self.length)?;
        self.frames.clear();
        self.length = 0;
        Ok(true)
    }

    /// Sends what has been added, and ends the answer; the connection goes on.
    ///
    /// # Errors
    /// The client has gone.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.answer.exchange().finish();
        Ok(())
    }
}

/// Returns these header fields as the last member of a JSON object, and its brace; `None` if there are none.
fn headers(fields: &[(&str, &str)]) -> Option<String> {
    let fields: BTreeMap<&str, &str> = fields.iter().copied().collect();
    let json = serde_json::to_string(&fields).ok().filter(|_| !fields.is_empty())?;
    Some(format!(",\"headers\":{json}}}"))
}
