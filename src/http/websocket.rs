//! WebSockets (RFC 6455): a connection on which each message of the client is a request of its own, answered
//! by messages.
//!
//! A message becomes an [`Exchange`](super::Exchange) and goes the way of every request; only how its answer
//! travels differs. The connection's thread reads, with tungstenite; who answers writes whole frames to the
//! same socket.
//!
//! - `incoming`: the bytes as tungstenite reads them, frame by frame, within the memory for bodies
//! - `outgoing`: the sending side, which several threads share
//! - `messages`: an answer as messages
//! - `session`: the connection's story, from the first message to the last

mod incoming;
pub(super) mod messages;
pub(super) mod outgoing;
pub(super) mod session;

use tungstenite::handshake::derive_accept_key;

use super::Head;
use crate::error::Error;

/// The only version there is of the protocol: RFC 6455, 4.1.
pub const VERSION: &str = "13";
/// Length of a key: 16 bytes in base64.
const KEY_LENGTH: usize = 24;

/// True if the head asks for a connection to become a WebSocket, rightly or not.
pub fn is_wanted(head: &Head) -> bool {
    head.method == "GET" && has_token(head, "upgrade", "websocket")
}

/// Checks that a head asks for a WebSocket as RFC 6455, 4.2.1, wants it.
///
/// # Errors
/// [`Error::BadHttp`]: 426 for another version, otherwise 400.
pub fn check(head: &Head) -> Result<(), Error> {
    let bad = |status, message: &str| {
        Err(Error::BadHttp { status, message: format!("{message} (RFC 6455, 4.2.1)") })
    };
    let keys: Vec<&str> = head.headers("sec-websocket-key").collect();
    match () {
        () if head.minor_version == 0 || !has_token(head, "connection", "upgrade") => {
            bad(400, "A WebSocket is asked for with HTTP/1.1 and `Connection: Upgrade`")
        }
        () if head.header("sec-websocket-version") != Some(VERSION) => {
            bad(426, "The only version of WebSockets known here is 13")
        }
        () if !matches!(keys[..], [key] if key.len() == KEY_LENGTH) => {
            bad(400, "A WebSocket needs one Sec-WebSocket-Key of 16 bytes in base64")
        }
        () if head.has_body() => bad(400, "A request for a WebSocket has no body"),
        () => Ok(()),
    }
}

/// Returns the answer to a head that has been [checked](check), with these fields. No extension and no
/// subprotocol that the client offers is accepted.
pub fn accepted(head: &Head, fields: &[(&'static str, String)], request_id: &str) -> Vec<u8> {
    let key = head.header("sec-websocket-key").unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nx-request-id: {request_id}\r\n"
    );
    for (name, value) in fields {
        answer += &format!("{name}: {value}\r\n");
    }
    answer += "\r\n";
    answer.into_bytes()
}

/// True if a field that lists tokens lists this one.
fn has_token(head: &Head, name: &str, token: &str) -> bool {
    let tokens = head.headers(name).flat_map(|value| value.split(','));
    tokens.map(str::trim).any(|found| found.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Limits;

    fn head(fields: &str) -> Head {
        let text = format!("GET /x HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        Head::parse(text.as_bytes(), &Limits::default()).unwrap()
    }

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const REST: &str = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n";

    #[test]
    fn the_example_of_the_rfc_is_answered_as_it_says() {
        let head = head(&format!("{REST}{KEY}Sec-WebSocket-Version: 13\r\n"));
        assert!(is_wanted(&head) && check(&head) == Ok(()));
        let answer = String::from_utf8(accepted(&head, &[("Vary", "Origin".to_owned())], "req_1"));
        let answer = answer.unwrap();
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.ends_with("x-request-id: req_1\r\nVary: Origin\r\n\r\n"));
    }

    #[test]
    fn a_head_that_asks_wrongly_is_told_what_is_missing() {
        let version = "Sec-WebSocket-Version: 13\r\n";
        for (fields, status) in [
            (format!("Upgrade: websocket\r\n{KEY}{version}"), 400),
            (format!("{REST}{KEY}"), 426),
            (format!("{REST}{KEY}Sec-WebSocket-Version: 8\r\n"), 426),
            (format!("{REST}{version}"), 400),
            (format!("{REST}{version}{KEY}{KEY}"), 400),
            (format!("{REST}{version}Sec-WebSocket-Key: short\r\n"), 400),
            (format!("{REST}{KEY}{version}Content-Length: 2\r\n"), 400),
        ] {
            let head = head(&fields);
            assert!(is_wanted(&head), "{fields}");
            assert_eq!(check(&head).unwrap_err().report().status, status, "{fields}");
        }
        assert!(!is_wanted(&head("Upgrade: h2c\r\nConnection: Upgrade\r\n")));
    }
}
