//! Turns a connection into a socket that has joined the prompt runner: the handshakes of WebSocket,
//! Engine.IO and Socket.IO.

use std::str;
use std::sync::Arc;

use tungstenite::client::{ClientRequestBuilder, client_with_config};
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::client::{ClientHandshake, Response};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use crate::error::{Failure, clean};
use crate::langfast::api::ApiAnswer;
use crate::langfast::capture::{Tape, TapedSocket};
use crate::langfast::runner_socket::{Frames, Received, RunnerSocket};
use crate::langfast::socketio::{self, EnginePacket, Open, SocketPacket};
use crate::net::dial::{Endpoint, OutboundConnection};

/// Engine.IO 4 over WebSocket, without polling first (known).
const PATH: &str = "/socket.io/?EIO=4&transport=websocket";
/// Bytes of one read by tungstenite, which seldom has to read more than pings.
const READ_BUFFER: usize = 1024;

/// A joined socket.
pub struct Joined {
    /// The socket.
    pub socket: RunnerSocket,
    /// Engine.IO's handshake.
    pub open: Open,
    /// The session's id for connection state recovery, if the server offers that.
    pub pid: Option<String>,
}

/// The place in a lost session up to which events have come: its `pid`, and the offset of its last event.
pub type Had<'a> = (&'a str, &'a str);

/// Joins the runner at `endpoint` as the holder of the access token `token`, within the connection's
/// deadline, and asks to be sent what was missed since `had`. The socket accepts messages with up to
/// `answer_limit` bytes of text. All of it is recorded on `tape`.
///
/// # Errors
/// The connection broke, the server does not speak the known protocol, or it refused the token.
pub fn join(
    connection: OutboundConnection,
    endpoint: &Endpoint,
    origin: &str,
    answer_limit: usize,
    token: &str,
    had: Option<Had<'_>>,
    tape: Option<&Arc<Tape>>,
) -> Result<Joined, Failure> {
    let url = endpoint.url("ws", PATH);
    let url = url.parse().map_err(|_| Failure::Malformed("the runner's URL".to_owned()))?;
    let request = ClientRequestBuilder::new(url).with_header("Origin", origin);
    // Twice the text, since quotes and newlines are escaped on the wire.
    let longest = 2 * answer_limit + (1 << 20);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    let tape = tape.map(|tape| tape.socket(origin));
    let connection = Frames::new(connection, longest);
    let shaken = client_with_config(request, connection, Some(config));
    if let Some(tape) = &tape {
        note_handshake(tape, &shaken);
    }
    let (socket, _) = shaken.map_err(|error| match error {
        HandshakeError::Failure(error) => handshake_failure(error),
        HandshakeError::Interrupted(_) => Failure::Broken("no answer in time".to_owned()),
    })?;
    let mut socket = RunnerSocket::new(socket, tape);
    let (open, pid) = connect(&mut socket, token, had)?;
    Ok(Joined { socket, open, pid })
}

/// A handshake's end.
type Shaken = Result<
    (WebSocket<Frames<OutboundConnection>>, Response),
    HandshakeError<ClientHandshake<Frames<OutboundConnection>>>,
>;

fn note_handshake(tape: &TapedSocket, shaken: &Shaken) {
    match shaken {
        Ok((_, answer)) => tape.answered(answer.status().as_u16(), answer.headers(), b""),
        Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            let body = answer.body().as_deref().unwrap_or_default();
            tape.answered(answer.status().as_u16(), answer.headers(), body);
        }
        Err(HandshakeError::Failure(_)) => tape.ended("broken"),
        Err(HandshakeError::Interrupted(_)) => tape.ended("silent"),
    }
}

/// Performs Engine.IO's handshake, then Socket.IO's CONNECT with the token; returns the handshake and the
/// session's `pid`.
fn connect(
    socket: &mut RunnerSocket,
    token: &str,
    had: Option<Had<'_>>,
) -> Result<(Open, Option<String>), Failure> {
    let broken = |error: tungstenite::Error| Failure::Broken(clean(&error.to_string()));
    let mut open = None;
    // A server sends a handful of packets before it answers CONNECT, if any.
    for _ in 0..100 {
        let frame = match socket.read().map_err(broken)? {
            Received::Text(frame) => frame,
            Received::Other(Message::Close(_)) => {
                return Err(Failure::Broken("the server closed it".to_owned()));
            }
            Received::Other(_) => continue,
        };
        let frame = str::from_utf8(&frame).map_err(|error| broken(error.into()))?;
        match socketio::parse(frame).map_err(|e| Failure::Malformed(e.0.to_owned()))? {
            EnginePacket::Open(handshake) => {
                open = Some(handshake);
                socket.send(Message::text(socketio::connect(token, had))).map_err(broken)?;
            }
            EnginePacket::Ping(data) => {
                socket.send(Message::text(socketio::pong(data))).map_err(broken)?;
            }
            EnginePacket::Close | EnginePacket::Message(SocketPacket::Disconnect) => {
                return Err(Failure::Broken("the server closed it".to_owned()));
            }
            EnginePacket::Message(SocketPacket::ConnectError(why)) => {
                return Err(Failure::Refused(clean(&why)));
            }
            EnginePacket::Message(SocketPacket::Connect { pid }) => {
                let none = || Failure::Malformed("no Engine.IO handshake".to_owned());
                return Ok((open.ok_or_else(none)?, pid));
            }
            _ => {}
        }
    }
    Err(Failure::Malformed("no answer to CONNECT".to_owned()))
}

fn handshake_failure(error: tungstenite::Error) -> Failure {
    match error {
        tungstenite::Error::Http(response) => {
            let (head, body) = response.into_parts();
            ApiAnswer::new(&head, body.unwrap_or_default()).into_failure()
        }
        tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            Failure::Broken("the server closed it".to_owned())
        }
        tungstenite::Error::Protocol(error) => Failure::Malformed(error.to_string()),
        error => Failure::Broken(clean(&error.to_string())),
    }
}

/// A socket that counts as joined, and its other end.
#[cfg(test)]
pub fn sockets() -> (RunnerSocket, WebSocket<std::net::TcpStream>) {
    use std::time::Duration;
    use tungstenite::protocol::Role;

    const PATIENCE: Duration = Duration::from_secs(20);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let dialer = crate::net::dial::Dialer::new(PATIENCE);
    let connection = dialer.dial(&Endpoint::parse(&url).unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let connection = Frames::shaken(connection, usize::MAX);
    let socket = WebSocket::from_raw_socket(connection, Role::Client, None);
    (RunnerSocket::new(socket, None), WebSocket::from_raw_socket(peer, Role::Server, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_closes_without_an_answer_has_not_changed_what_it_says() {
        let closed = tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete);
        assert!(matches!(handshake_failure(closed), Failure::Broken(_)));
        let other = tungstenite::Error::Protocol(ProtocolError::MissingConnectionUpgradeHeader);
        assert!(matches!(handshake_failure(other), Failure::Malformed(_)));
    }
}
