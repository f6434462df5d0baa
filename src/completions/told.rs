//! Where the events of a stream go: to the client, if there is one, and to whoever keeps the answer.

use std::io;

use crate::dialects::{Events, Keeper};
use crate::http::answer::Answer;
use crate::http::sse::{EventStream, KEEP_ALIVE};

/// A stream that is being told.
pub struct Told<'a> {
    client: Option<EventStream<'a>>,
    keeper: Option<&'a mut (dyn Keeper + 'static)>,
    /// True if the client is told no further event.
    client_is_left: bool,
    /// An event on its way to the keeper.
    event: Vec<u8>,
}

impl<'a> Told<'a> {
    /// Begins a stream for a client.
    pub fn to_client(
        answer: &'a mut Answer,
        keeper: Option<&'a mut (dyn Keeper + 'static)>,
    ) -> Told<'a> {
        Told {
            client: Some(EventStream::begin(answer)),
            keeper,
            client_is_left: false,
            event: Vec::new(),
        }
    }

    /// A stream that is only kept.
    pub fn to_keeper(keeper: &'a mut (dyn Keeper + 'static)) -> Told<'a> {
        Told { client: None, keeper: Some(keeper), client_is_left: true, event: Vec::new() }
    }

    /// Tells the client of what is no part of the answer, in words of one line that its library skips.
    pub fn comment(&mut self, words: &str) {
        if let Some(client) = &mut self.client {
            client.comment(words);
        }
    }

    /// Sends what has been told; false if there was nothing to send. Without a client it is as if that had
    /// been sent.
    ///
    /// # Errors
    /// The client has gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        if let Some(keeper) = &mut self.keeper {
            keeper.flush();
        }
        self.client.as_mut().map_or(Ok(true), EventStream::flush)
    }

    /// Sends what has been told and ends a complete answer.
    ///
    /// # Errors
    /// The client has gone.
    pub fn finish(self) -> io::Result<()> {
        self.client.map_or(Ok(()), EventStream::finish)
    }

    /// Sends what has been told and ends an answer that is not complete.
    ///
    /// # Errors
    /// The client has gone.
    pub fn break_off(self) -> io::Result<()> {
        self.client.map_or(Ok(()), EventStream::break_off)
    }
}

/// Connects the dialects to the framing of events; neither knows the other.
impl Events for Told<'_> {
    fn put(&mut self, name: Option<&str>, data: &dyn Fn(&mut Vec<u8>)) {
        if let (Some(client), false) = (&mut self.client, self.client_is_left) {
            client.event(name, data);
        }
        if let Some(keeper) = &mut self.keeper {
            self.event.clear();
            data(&mut self.event);
            keeper.event(name, &self.event);
        }
    }

    fn keep_alive(&mut self) {
        if let Some(client) = &mut self.client {
            client.comment(KEEP_ALIVE);
        }
    }

    fn leave_client(&mut self) {
        self.client_is_left = true;
    }
}
