//! A WebSocket's client for the tests: tungstenite's, and bytes by hand for what no client sends.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::client::ClientRequestBuilder;
use tungstenite::handshake::HandshakeError;
use tungstenite::{Message, WebSocket};

use super::{Connection, Program};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A refusal of the handshake: its status and its body.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub body: Value,
}

/// A client.
pub struct Client<S = TcpStream>(pub WebSocket<S>);

impl Client {
    pub fn open(program: &Program) -> Client {
        Client::open_at(program.address(), "/v1/responses", &[]).expect("a WebSocket")
    }

    pub fn open_at(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Client, Refused> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client::on(stream, &format!("ws://{address}{path}"), headers)
    }
}

impl<S: Read + Write> Client<S> {
    /// On a connection that is open already.
    pub fn on(stream: S, url: &str, headers: &[(&str, &str)]) -> Result<Client<S>, Refused> {
        let request = ClientRequestBuilder::new(url.parse().unwrap());
        let request = headers.iter().fold(request, |r, (name, value)| r.with_header(*name, *value));
        match tungstenite::client::client(request, stream) {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => Err(Refused {
                status: answer.status().as_u16(),
                body: serde_json::from_slice(answer.body().as_deref().unwrap_or_default())
                    .unwrap_or_default(),
            }),
            Err(HandshakeError::Failure(error)) => panic!("{error}"),
            Err(HandshakeError::Interrupted(_)) => panic!("no answer in time"),
        }
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    /// Asks for a response to these fields.
    pub fn create(&mut self, fields: Value) {
        self.send(&create(fields));
    }

    /// The next message.
    pub fn event(&mut self) -> Value {
        loop {
            match self.0.read().expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The events of a response to its end, or an error alone.
    pub fn events(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            events.push(self.event());
            let kind = events.last().unwrap()["type"].as_str().unwrap();
            let ends = ["response.completed", "response.failed", "response.incomplete", "error"];
            if ends.contains(&kind) {
                return events;
            }
        }
    }

    /// The response to these fields.
    pub fn respond(&mut self, fields: Value) -> Value {
        self.create(fields);
        let last = self.events().pop().unwrap();
        assert_eq!(last["type"], "response.completed", "{last}");
        last["response"].clone()
    }

    /// The error that these fields are answered with.
    pub fn error(&mut self, message: &Value) -> Value {
        self.send(message);
        let event = self.event();
        assert_eq!(event["type"], "error", "{event}");
        event
    }

    /// Waits for the end; the code that is given with it.
    pub fn close_code(&mut self) -> u16 {
        loop {
            match self.0.read() {
                Ok(Message::Close(Some(frame))) => return frame.code.into(),
                Ok(_) => {}
                Err(error) => panic!("no code: {error}"),
            }
        }
    }
}

/// The message that asks for a response to these fields.
pub fn create(fields: Value) -> Value {
    let mut message = json!({"type": "response.create", "model": "gpt-5", "input": "Hi"});
    message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    message
}

/// The text of a response.
pub fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap_or_default()
}

/// A connection that has become a WebSocket, for frames by hand.
pub fn by_hand(program: &Program, fields: &str) -> (Connection, String) {
    let mut connection = Connection::open(program.address());
    connection.write(head(fields).as_bytes());
    let head = connection.head();
    assert_eq!(head.status, 101, "{}", head.head);
    (connection, head.head)
}

/// The head that asks for a WebSocket.
pub fn head(fields: &str) -> String {
    format!(
        "GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
}

/// A masked frame: its first byte, and its payload.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = frame_head(first, payload.len() as u64);
    bytes.extend(MASK);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    bytes
}

/// The head of a masked frame, without its mask.
pub fn frame_head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// Reads the next frame: its first byte, and its payload. `None` at the end of the connection.
pub fn read_frame(connection: &mut Connection) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    connection.stream.read_exact(&mut head).ok()?;
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            connection.stream.read_exact(&mut length).ok()?;
            u64::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            connection.stream.read_exact(&mut length).ok()?;
            u64::from_be_bytes(length)
        }
        length => u64::from(length),
    };
    let mut payload = vec![0; length as usize];
    connection.stream.read_exact(&mut payload).ok()?;
    Some((head[0], payload))
}

/// Reads frames to the closing one: its code.
pub fn read_close(connection: &mut Connection) -> u16 {
    while let Some((first, payload)) = read_frame(connection) {
        if first == 0x88 {
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
    }
    panic!("no closing frame");
}
