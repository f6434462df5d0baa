//! The sending side of a WebSocket. The thread that answers a message and the connection's own thread, which
//! answers pings, both send; a frame is never within another one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::http::Shared;
use crate::http::socket::{ClientSocket, Stopped};

/// The sending side of a WebSocket.
pub struct Outgoing {
    socket: Arc<ClientSocket>,
    /// Longest time for the client to make room: [`Limits::write_stall`](crate::http::Limits).
    stall: Duration,
    /// True once nothing more may be sent. Whoever sends holds the lock.
    has_ended: Mutex<bool>,
}

impl Outgoing {
    pub(in crate::http) fn new(socket: &Arc<ClientSocket>, stall: Duration) -> Arc<Outgoing> {
        Arc::new(Outgoing { socket: socket.clone(), stall, has_ended: Mutex::new(false) })
    }

    /// Sends whole frames.
    ///
    /// # Errors
    /// The client has gone or reads nothing, all connections are being closed, or the socket has
    /// [ended](Outgoing::end).
    pub(in crate::http) fn send(&self, frames: &[u8], shared: &Shared) -> Result<(), Stopped> {
        let mut has_ended = self.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        if *has_ended {
            return Err(Stopped::Gone);
        }
        let sent = self.socket.write_paced(frames, self.stall, &shared.close);
        // Part of a frame may be out: whatever followed would be taken for the rest of it.
        *has_ended = sent.is_err();
        sent
    }

    /// Lets nothing more be sent: the client has said that it goes, or has been told to.
    pub(in crate::http) fn end(&self) {
        *self.has_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// Appends a text message.
pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_frame(out, OpCode::Data(Data::Text), text);
}

/// Appends a ping, which every client answers by itself.
pub fn put_ping(out: &mut Vec<u8>) {
    put_frame(out, OpCode::Control(Control::Ping), b"");
}

fn put_frame(out: &mut Vec<u8>, opcode: OpCode, data: &[u8]) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    header.format(data.len() as u64, out).expect("a Vec takes everything");
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole_and_unmasked_whatever_their_length() {
        for (length, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            put_text(&mut out, &vec![b'x'; length]);
            assert_eq!((&out[..header.len()], out.len()), (&header[..], header.len() + length));
        }
        let mut out = Vec::new();
        put_ping(&mut out);
        assert_eq!(out, [0x89, 0]);
    }
}
