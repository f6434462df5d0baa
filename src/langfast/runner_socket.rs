//! The WebSocket to LangFast's prompt runner, and what is recorded of it.
//!
//! Enters: a connection, to be joined. Leaves: messages both ways, whole and in order. It may not know what
//! they say.

mod frames;

use std::io::{self, Read, Write};

use tungstenite::{Message, WebSocket};

use crate::langfast::capture::TapedSocket;
use crate::net::dial::OutboundConnection;
pub use frames::{Frames, Text};

/// The WebSocket to LangFast's prompt runner.
pub struct RunnerSocket {
    socket: WebSocket<Frames<OutboundConnection>>,
    /// Where its frames are recorded.
    tape: Option<TapedSocket>,
}

/// A message that the server has sent.
#[derive(Debug)]
pub enum Received {
    /// A text, not checked to be UTF-8. Its buffer goes back to [`RunnerSocket::reuse`].
    Text(Text),
    /// Anything but a text. A ping is answered already.
    Other(Message),
}

impl RunnerSocket {
    /// Wraps a socket behind its handshake; all that comes and goes is recorded on `tape`.
    pub fn new(
        socket: WebSocket<Frames<OutboundConnection>>,
        tape: Option<TapedSocket>,
    ) -> RunnerSocket {
        RunnerSocket { socket, tape }
    }

    /// Reads the next message.
    ///
    /// # Errors
    /// The connection broke, or the server broke a rule of WebSocket. After an I/O error of the kind
    /// `WouldBlock` the next call goes on with the same message.
    pub fn read(&mut self) -> tungstenite::Result<Received> {
        let read = read(&mut self.socket);
        if let Some(tape) = &self.tape {
            note_read(tape, &read);
        }
        read
    }

    /// Takes back the buffer of a text that has been read, for those that come.
    pub fn reuse(&mut self, text: Text) {
        self.socket.get_mut().reuse(text);
    }

    /// Sends a message at once, as [`WebSocket::send`].
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, message: Message) -> tungstenite::Result<()> {
        if let Some(tape) = &self.tape {
            tape.sent(&message);
        }
        self.socket.send(message)
    }

    /// Begins the closing handshake.
    pub fn close(&mut self) {
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
        if let Some(tape) = &self.tape {
            tape.ended("closed by us");
        }
    }

    /// The connection below.
    pub fn get_mut(&mut self) -> &mut OutboundConnection {
        self.socket.get_mut().get_mut()
    }
}

/// Reads the next message of a socket: a text of one frame past tungstenite, which reads all else.
fn read<S: Read + Write>(socket: &mut WebSocket<Frames<S>>) -> tungstenite::Result<Received> {
    let text = match socket.can_read() {
        true => socket.get_mut().read_text()?,
        false => None,
    };
    if let Some(text) = text {
        return Ok(Received::Text(text));
    }
    match socket.read()? {
        // It came in pieces.
        Message::Text(text) => Ok(Received::Text(text.as_str().into())),
        ping if ping.is_ping() => {
            // tungstenite answers it when it is called next, which may be late.
            match socket.flush() {
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                }
                flushed => flushed?,
            }
            Ok(Received::Other(ping))
        }
        other => Ok(Received::Other(other)),
    }
}

fn note_read(tape: &TapedSocket, read: &tungstenite::Result<Received>) {
    match read {
        Ok(Received::Text(text)) => tape.received_text(text),
        Ok(Received::Other(message)) => tape.received(message),
        // Only an interruption.
        Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::TimedOut => {
            tape.ended("silent");
        }
        Err(_) => tape.ended("broken"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use fastrand::Rng;
    use tungstenite::client::client_with_config;
    use tungstenite::error::{CapacityError, ProtocolError};
    use tungstenite::handshake::HandshakeError;
    use tungstenite::handshake::derive_accept_key;
    use tungstenite::protocol::{Role, WebSocketConfig};
    use tungstenite::{Error, Utf8Bytes};

    use super::*;

    /// Longest message, in bytes.
    const LONGEST: usize = 300_000;

    /// A server's bytes, which come in pieces. Before each piece nothing has come yet, once.
    #[derive(Default)]
    struct Pieces {
        pieces: VecDeque<Vec<u8>>,
        is_awaited: bool,
        written: Vec<u8>,
    }

    impl Pieces {
        fn new(bytes: &[u8], length: usize) -> Pieces {
            Pieces {
                pieces: bytes.chunks(length).map(<[u8]>::to_vec).collect(),
                ..Pieces::default()
            }
        }
    }

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(mut piece) = self.pieces.pop_front() else { return Ok(0) };
            self.is_awaited = !self.is_awaited;
            if self.is_awaited {
                self.pieces.push_front(piece);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken = piece.len().min(into.len());
            into[..taken].copy_from_slice(&piece[..taken]);
            piece.drain(..taken);
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
            Ok(taken)
        }
    }

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn config() -> WebSocketConfig {
        let longest = Some(LONGEST);
        WebSocketConfig::default()
            .read_buffer_size(1024)
            .max_message_size(longest)
            .max_frame_size(longest)
    }

    fn socket(bytes: &[u8], pieces: usize) -> WebSocket<Frames<Pieces>> {
        let stream = Frames::shaken(Pieces::new(bytes, pieces), LONGEST);
        WebSocket::from_raw_socket(stream, Role::Client, Some(config()))
    }

    /// A frame that begins with this byte: its flags and its opcode.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = match payload.len() {
            short @ 0..126 => vec![short as u8],
            long @ 126..65_536 => [&[126][..], &(long as u16).to_be_bytes()].concat(),
            long => [&[127][..], &(long as u64).to_be_bytes()].concat(),
        };
        [&[first][..], &length, payload].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        frame(0x81, text.as_bytes())
    }

    /// What a client has read, and how that ended.
    type Heard = (Vec<Message>, String);

    fn until_end(mut read: impl FnMut() -> tungstenite::Result<Message>) -> Heard {
        let mut messages = Vec::new();
        loop {
            match read() {
                Ok(message) => messages.push(message),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return (messages, error.to_string()),
            }
        }
    }

    /// Reads all that comes, as a runner does.
    fn heard(socket: &mut WebSocket<Frames<Pieces>>) -> Heard {
        until_end(|| match read(socket)? {
            Received::Text(text) => {
                let message = Message::text(Utf8Bytes::try_from(text.to_vec())?);
                socket.get_mut().reuse(text);
                Ok(message)
            }
            Received::Other(message) => Ok(message),
        })
    }

    #[test]
    fn messages_are_those_that_tungstenite_alone_reads_whatever_comes_and_in_whatever_pieces() {
        for seed in 0..1000 {
            let mut rng = Rng::with_seed(seed);
            let mut bytes = Vec::new();
            for _ in 0..rng.usize(1..12) {
                let length = [0, 1, 125, 126, 400, 20_000, 70_000, LONGEST + 1][rng.usize(..8)];
                let length = length.min([400, usize::MAX][usize::from(rng.u8(..) < 40)]);
                let mut payload = "é".repeat(length / 2).into_bytes();
                if rng.u8(..) < 8 {
                    payload.push(0xff);
                }
                bytes.extend(match rng.u8(..20) {
                    0..10 => frame(0x81, &payload),
                    10 => frame(0x01, &payload),
                    11 => frame(0x00, &payload),
                    12 => frame(0x80, &payload),
                    13 => frame(0x82, &payload),
                    14 => frame(0x89, &payload),
                    15 => frame(0x8a, b"a pong"),
                    16 => frame(0x88, &[3, 232, b'x']),
                    // A reserved bit, a mask, an unknown opcode.
                    17 => frame(0xc1, &payload),
                    18 => vec![0x81, 0x81, 1, 2, 3, 4, 5],
                    _ => frame(0x83 + rng.u8(..5), b""),
                });
            }
            bytes.truncate(bytes.len() - usize::from(rng.bool()));
            let pieces = [1, 2, 7, 1000, 16_384, usize::MAX][rng.usize(..6)];
            let pieces = if bytes.len() > 100_000 { pieces.max(1000) } else { pieces };
            let stream = Pieces::new(&bytes, pieces);
            let mut alone = WebSocket::from_raw_socket(stream, Role::Client, Some(config()));
            let (expected, end) = until_end(|| alone.read());
            let (messages, ended) = heard(&mut socket(&bytes, pieces));
            assert_eq!(ended, end, "seed {seed}");
            // What they say would be long.
            assert!(messages == expected, "seed {seed}");
        }
    }

    #[test]
    fn frames_that_come_with_the_answer_to_the_handshake_are_read_behind_it() {
        struct Server(Pieces, Vec<u8>, usize);
        impl Read for Server {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                if self.0.pieces.is_empty() && !self.0.written.is_empty() {
                    let request = String::from_utf8(std::mem::take(&mut self.0.written)).unwrap();
                    let key = request.split("sec-websocket-key: ").nth(1);
                    let key = key.or_else(|| request.split("Sec-WebSocket-Key: ").nth(1)).unwrap();
                    let accepted = derive_accept_key(key.split('\r').next().unwrap().as_bytes());
                    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                                Upgrade: websocket\r\nSec-WebSocket-Accept: ";
                    let answer =
                        [head.as_bytes(), accepted.as_bytes(), b"\r\n\r\n", &self.1].concat();
                    self.0 = Pieces::new(&answer, self.2);
                }
                self.0.is_awaited = true;
                self.0.read(into)
            }
        }
        impl Write for Server {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let frames = [text("0{}"), text("2"), frame(0x89, b"ping")].concat();
        for pieces in [40, 131, 140, usize::MAX] {
            let stream = Frames::new(Server(Pieces::default(), frames.clone(), pieces), LONGEST);
            let shaken = client_with_config("ws://x/", stream, Some(config()));
            let (mut socket, _) = shaken.unwrap_or_else(|error| panic!("{pieces}: {error}"));
            for expected in ["0{}", "2"] {
                assert!(
                    matches!(read(&mut socket), Ok(Received::Text(text)) if *text == *expected.as_bytes())
                );
            }
            assert!(matches!(read(&mut socket), Ok(Received::Other(Message::Ping(_)))));
            assert!(!socket.get_mut().get_mut().0.written.is_empty(), "a pong");
        }
    }

    #[test]
    fn a_refused_handshake_has_its_body() {
        let mut stream =
            Pieces::new(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nwhy: ", 400);
        stream.is_awaited = true;
        let Err(HandshakeError::Failure(Error::Http(answer))) =
            client_with_config("ws://x/", Frames::new(stream, LONGEST), Some(config()))
        else {
            panic!("it is refused")
        };
        assert_eq!(answer.body().as_deref(), Some(&b"why: "[..]));
    }

    #[test]
    fn a_text_that_is_too_long_or_breaks_off_is_an_error() {
        let too_long = frame(0x81, &vec![b'x'; LONGEST + 1]);
        let mut socket = socket(&too_long, 1000);
        let error = loop {
            match read(&mut socket) {
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => break error,
                Ok(received) => panic!("{received:.0?}"),
            }
        };
        assert!(matches!(error, Error::Capacity(CapacityError::MessageTooLong { .. })), "{error}");
        let whole = text("a text");
        for length in 0..whole.len() {
            let (messages, end) = heard(&mut self::socket(&whole[..length], usize::MAX));
            assert!(messages.is_empty());
            assert_eq!(
                end,
                Error::Protocol(ProtocolError::ResetWithoutClosingHandshake).to_string()
            );
        }
    }
}
