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
    use rustix::net::sockopt::set_socket_recv_buffer_size;

    #[test]
    fn a_server_that_does_not_read_is_not_waited_for_and_gets_what_waits_later_in_order() {
        assert!((0..20).any(|_| is_so_where_the_system_takes_no_more()));
    }

    /// False if the system has taken more than it said that it would.
    fn is_so_where_the_system_takes_no_more() -> bool {
        let (mut socket, mut peer) = sockets();
        // Otherwise it grows while nobody reads, and takes some of what waits.
        set_socket_recv_buffer_size(peer.get_ref(), 64 * 1024).unwrap();
        let mut acks = Acks::default();
        acks.add("1", &mut socket).unwrap();
        assert_eq!(peer.read().unwrap(), Message::text("431[]"));
        let (mut filled, mut last) = (0, 1);
        let mut add = |acks: &mut Acks, id: usize| {
            // The system may take more a moment later.
            while socket.get_mut().is_writable() {
                socket.send(Message::binary(vec![0; 1024])).unwrap();
                filled += 1;
            }
            acks.add(&id.to_string(), &mut socket).unwrap();
        };
        while acks.waiting.len() < MOST {
            last += 1;
            assert!(last < 100 * MOST);
            add(&mut acks, last);
        }
        (last + 1..=last + 100).for_each(|id| add(&mut acks, id));
        assert!(acks.waiting.len() <= MOST);
        if acks.waiting.len() < MOST {
            return false;
        }
        let sent = last - 1 - MOST;
        let read: Vec<Message> = (0..filled + sent).map(|_| peer.read().unwrap()).collect();
        while !socket.get_mut().is_writable() {
            std::thread::yield_now();
        }
        acks.send(&mut socket).unwrap();
        let rest = (0..MOST).map(|_| peer.read().unwrap());
        let told = read.into_iter().chain(rest).filter(Message::is_text);
        assert!(told.eq((2..=last).map(|id| Message::text(format!("43{id}[]")))));
        true
    }
}
