//! Acknowledges events that want it, in their order, without ever waiting for a server that does not read:
//! what cannot be sent at once is sent with a later event.

use std::collections::VecDeque;

use tungstenite::{Error, Message};

use super::runner_socket::RunnerSocket;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::langfast::join::sockets;

    #[test]
    fn a_server_that_does_not_read_is_not_waited_for_and_gets_what_waits_later_in_order() {
        let (mut socket, mut peer) = sockets();
        let mut acks = Acks::default();
        acks.add("1", &mut socket).unwrap();
        assert_eq!(peer.read().unwrap(), Message::text("431[]"));
        let mut filled = 0;
        while socket.get_mut().is_writable() {
            socket.send(Message::binary(vec![0; 1024])).unwrap();
            filled += 1;
        }
        for id in 2..=MOST + 100 {
            acks.add(&id.to_string(), &mut socket).unwrap();
        }
        // The peer's system may have taken some of them.
        assert!(acks.waiting.len() <= MOST);
        (0..filled).for_each(|_| assert!(peer.read().unwrap().is_binary()));
        while !socket.get_mut().is_writable() {
            std::thread::yield_now();
        }
        acks.send(&mut socket).unwrap();
        for id in 2..=MOST {
            assert_eq!(peer.read().unwrap(), Message::text(format!("43{id}[]")));
        }
    }
}
