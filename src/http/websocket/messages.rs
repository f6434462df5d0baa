//! An answer as messages of a WebSocket. They are collected and sent by the next flush, in one write.

use std::io;

use super::outgoing::{put_ping, put_text};
use crate::http::answer::Answer;

/// An answer as messages.
pub struct Messages<'a> {
    answer: &'a mut Answer,
    frames: Vec<u8>,
    /// Bytes of the messages among the frames.
    length: usize,
    /// A message on its way to its frame, which begins with the message's length.
    message: Vec<u8>,
}

impl<'a> Messages<'a> {
    /// Begins the answer; nothing is sent before the first flush.
    pub fn begin(answer: &'a mut Answer) -> Messages<'a> {
        Messages { answer, frames: Vec::new(), length: 0, message: Vec::new() }
    }

    /// Adds the message that `data` appends.
    pub fn put(&mut self, data: impl FnOnce(&mut Vec<u8>)) {
        self.message.clear();
        data(&mut self.message);
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
