//! Acknowledges events that want it, in their order, without ever waiting for a server that does not read:
//! what cannot be sent at once is sent with a later event.

use std::collections::VecDeque;

use tungstenite::{Error, Message};

use super::join::RunnerSocket;
use super::socketio;

/// Acknowledgements that wait at most; a server that leaves more unread is not given them.
const MOST: usize = 1024;

/// The acknowledgements that are still to be sent on one socket.
#[derive(Debug, Default)]
pub struct Acks {
    waiting: VecDeque<String>,
}

impl Acks {
    /// Acknowledges the event of this ack id, and all those before it.
    ///
    /// # Errors
    /// The connection broke.
    pub fn add(&mut self, id: &str, socket: &mut RunnerSocket) -> Result<(), Error> {
        if self.waiting.len() < MOST {
            self.waiting.push_back(id.to_owned());
        }
        self.send(socket)
    }

    /// Sends what waits, as far as the server takes it.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, socket: &mut RunnerSocket) -> Result<(), Error> {
        while !self.waiting.is_empty() && socket.get_mut().is_writable() {
            if let Some(id) = self.waiting.pop_front() {
                socket.send(Message::text(socketio::ack(&id)))?;
            }
        }
        Ok(())
    }
}
