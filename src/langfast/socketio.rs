//! Engine.IO 4 and Socket.IO 5 packets as text, without any I/O: what a client of the default
//! namespace needs, and no more. Sources: the protocol documents of Engine.IO (v4) and Socket.IO (v5).
//!
//! A WebSocket text frame is one Engine.IO packet: a digit for its type, then its data. A `message`
//! packet's data is one Socket.IO packet: a digit for its type, then, each optional,
//! `<attachments>-`, `/<namespace>,`, `<ack id>`, and JSON.
//!
//! Three things are in the documents and have not been seen of LangFast: events with binary attachments,
//! which come as frames of their own behind the packet; events with an ack id, which the server wants
//! acknowledged; and connection state recovery. With that, the answer to CONNECT has a `pid`,
//! and each event a last argument more, its offset: a string that a client gives back, with the `pid`,
//! to be sent what it has missed.

use std::str;

use serde::Deserialize;

/// An Engine.IO packet that a server sends; borrowed from its frame.
#[derive(Debug)]
pub enum EnginePacket<'a> {
    /// `0{…}`: the handshake.
    Open(Open),
    /// `1`: the server closes the transport.
    Close,
    /// `2…`: a ping, to be answered by [`pong`] with the same data.
    Ping(&'a str),
    /// `4…`: a Socket.IO packet.
    Message(SocketPacket<'a>),
    /// `3`, `5`, `6`, or a Socket.IO packet of no interest here.
    Other,
}

/// The Engine.IO handshake.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Open {
    /// Milliseconds between the server's pings.
    #[serde(rename = "pingInterval")]
    pub ping_interval: u64,
    /// Milliseconds after a missed ping until the connection counts as dead.
    #[serde(rename = "pingTimeout")]
    pub ping_timeout: u64,
}

/// A Socket.IO packet of the default namespace; borrowed from its frame.
#[derive(Debug)]
pub enum SocketPacket<'a> {
    /// `0`: our CONNECT was accepted.
    Connect {
        /// The session's id for connection state recovery, if the server offers that.
        pid: Option<String>,
    },
    /// `1`: the server disconnects us from the namespace.
    Disconnect,
    /// `2["name",payload,…]`, or `5<attachments>-["name",payload,…]`, where an attachment has a placeholder.
    Event {
        /// The event's name.
        name: String,
        /// The arguments behind the name, unparsed: a JSON list without its brackets. Whoever needs a
        /// long text parses it, once.
        arguments: &'a str,
    },
    /// `4{"message":…}`: our CONNECT was refused.
    ConnectError(String),
    /// An ack, or another namespace's.
    Other,
}

/// Why a frame could not be read. Quotes nothing of the frame, which may be text of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct BadPacket(pub &'static str);

/// Reads one text frame.
///
/// # Errors
/// [`BadPacket`] when it is not a packet at all, or of a known type with broken JSON.
pub fn parse(frame: &str) -> Result<EnginePacket<'_>, BadPacket> {
    let (kind, data) = split_digit(frame).ok_or(BadPacket("no packet type"))?;
    match kind {
        b'0' => {
            let open = serde_json::from_str(data).map_err(|_| BadPacket("broken handshake"))?;
            Ok(EnginePacket::Open(open))
        }
        b'1' => Ok(EnginePacket::Close),
        b'2' => Ok(EnginePacket::Ping(data)),
        b'4' => parse_message(data).map(EnginePacket::Message),
        b'3' | b'5' | b'6' => Ok(EnginePacket::Other),
        _ => Err(BadPacket("unknown packet type")),
    }
}

fn parse_message(data: &str) -> Result<SocketPacket<'_>, BadPacket> {
    let (kind, rest) = split_digit(data).ok_or(BadPacket("no Socket.IO packet type"))?;
    let rest = match kind {
        // These are digits and a hyphen.
        b'5' | b'6' => &rest[rest.len() - behind_attachments(rest.as_bytes()).len()..],
        _ => rest,
    };
    let (namespace, rest) = split_namespace(rest);
    if namespace != "/" {
        return Ok(SocketPacket::Other);
    }
    match kind {
        b'0' => Ok(SocketPacket::Connect { pid: session_id(rest) }),
        b'1' => Ok(SocketPacket::Disconnect),
        b'2' | b'5' => parse_event(rest.trim_start_matches(|c: char| c.is_ascii_digit())),
        b'4' => Ok(SocketPacket::ConnectError(refusal(rest))),
        b'3' | b'6' => Ok(SocketPacket::Other),
        _ => Err(BadPacket("unknown Socket.IO packet type")),
    }
}

fn parse_event(json: &str) -> Result<SocketPacket<'_>, BadPacket> {
    let list = json.trim().strip_prefix('[').and_then(|json| json.strip_suffix(']'));
    let (name, arguments) = split_name(list.ok_or(BadPacket("broken event JSON"))?)?;
    Ok(SocketPacket::Event { name, arguments })
}

/// The name and the arguments in an event's list without its brackets.
fn split_name(list: &str) -> Result<(String, &str), BadPacket> {
    let mut values = serde_json::Deserializer::from_str(list).into_iter::<String>();
    let Some(Ok(name)) = values.next() else { return Err(BadPacket("an event without a name")) };
    let rest = list[values.byte_offset()..].trim_start();
    match rest.strip_prefix(',') {
        Some(arguments) => Ok((name, arguments.trim_start())),
        None if rest.is_empty() => Ok((name, "")),
        None => Err(BadPacket("broken event JSON")),
    }
}

/// The name and the arguments of an event with this [body](EventFrame::body); `None` if it is broken.
pub fn event_in(body: &str) -> Option<(String, &str)> {
    let list = body.strip_prefix('[')?;
    // Where there is an offset, the body is without the bracket.
    split_name(list.strip_suffix(']').unwrap_or(list)).ok()
}

/// The `pid` in the answer to CONNECT.
fn session_id(json: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Session {
        pid: String,
    }
    serde_json::from_str(json).ok().map(|session: Session| session.pid)
}

/// The reason in `{"message":…,"data":…}` (v5) or a bare JSON string (v4). A server's own words may be in
/// the `data`.
fn refusal(json: &str) -> String {
    // Numbers take forty times the memory of their text.
    let json = if json.len() <= LONGEST_REFUSAL { json } else { "" };
    let refusal: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let text = |path: &str| refusal.pointer(path).and_then(serde_json::Value::as_str);
    let said = ["", "/message", "/data/message", "/data/error", "/data", "/data/code"];
    let mut said: Vec<&str> = said.into_iter().filter_map(text).collect();
    said.dedup();
    match said.is_empty() {
        true => "no reason given".to_owned(),
        false => said.join(": "),
    }
}

fn split_digit(text: &str) -> Option<(u8, &str)> {
    let kind = *text.as_bytes().first()?;
    kind.is_ascii_digit().then(|| (kind, &text[1..]))
}

/// What follows the number of attachments, whose frames say nothing of a text.
fn behind_attachments(bytes: &[u8]) -> &[u8] {
    bytes[leading_digits(bytes)..].strip_prefix(b"-").unwrap_or(bytes)
}

/// How many digits come first, of as many as an id may have.
fn leading_digits(bytes: &[u8]) -> usize {
    bytes.iter().take(LONGEST_ACK).take_while(|byte| byte.is_ascii_digit()).count()
}

/// Splits `/name?query,` off the front and returns the name; the default namespace, `/`, if there is
/// none.
fn split_namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    (namespace.split('?').next().unwrap_or(namespace), rest)
}

/// The frame that answers a ping.
pub fn pong(data: &str) -> String {
    format!("3{data}")
}

/// The frame that acknowledges the event of this ack id.
pub fn ack(id: &str) -> String {
    format!("43{id}[]")
}

/// The frame that asks to join the default namespace as the holder of `token`, and to be sent what came
/// behind the offset in the session of this `pid`, if one is given.
pub fn connect(token: &str, missed: Option<(&str, &str)>) -> String {
    let auth = match missed {
        Some((pid, offset)) => serde_json::json!({"token": token, "pid": pid, "offset": offset}),
        None => serde_json::json!({ "token": token }),
    };
    format!("40{auth}")
}

/// An event's frame, apart from what differs from event to event without a meaning for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFrame<'a> {
    /// The frame without its types and ack id, and without the offset and what follows it; not checked to be
    /// UTF-8.
    pub body: &'a [u8],
    /// The id under which the event has to be acknowledged.
    pub ack: Option<&'a str>,
    /// The offset, if the last argument may be one.
    pub offset: Option<&'a str>,
}

/// Bytes of a refusal at most, of which the reason is read.
const LONGEST_REFUSAL: usize = 64 * 1024;
/// Digits of an ack id at most.
const LONGEST_ACK: usize = 20;
/// Bytes of an offset at most.
const LONGEST_OFFSET: usize = 64;

/// Takes the frame of an event of the default namespace apart, without reading what it says. Its time does
/// not depend on the frame's length. `None` for other frames.
pub fn event_frame(frame: &[u8]) -> Option<EventFrame<'_>> {
    let attached = || frame.strip_prefix(b"45").map(behind_attachments);
    let rest = frame.strip_prefix(b"42").or_else(attached)?;
    let (ack, body) = rest.split_at(leading_digits(rest));
    if !body.starts_with(b"[") {
        return None;
    }
    let ack = str::from_utf8(ack).ok().filter(|ack| !ack.is_empty());
    let (body, offset) = match split_offset(body) {
        Some((body, offset)) => (body, Some(offset)),
        None => (body, None),
    };
    Some(EventFrame { body, ack, offset })
}

/// Splits `,"offset"]` off the end of an event's JSON, if the argument before it is an object or a list.
fn split_offset(body: &[u8]) -> Option<(&[u8], &str)> {
    let rest = body.strip_suffix(b"\"]")?;
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\[]{},".contains(byte);
    let plain =
        rest.iter().rev().take(LONGEST_OFFSET + 1).take_while(|byte| is_plain(byte)).count();
    let (rest, offset) = rest.split_at(rest.len() - plain);
    let body = rest.strip_suffix(b",\"")?;
    let is_sound =
        matches!(body, [.., b'}' | b']']) && (1..=LONGEST_OFFSET).contains(&offset.len());
    is_sound.then_some((body, str::from_utf8(offset).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(frame: &str) -> (String, &str) {
        match parse(frame) {
            Ok(EnginePacket::Message(SocketPacket::Event { name, arguments })) => (name, arguments),
            other => panic!("{frame}: {other:?}"),
        }
    }

    #[test]
    fn the_handshake_is_read() {
        let frame =
            r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1}"#;
        let Ok(EnginePacket::Open(open)) = parse(frame) else { panic!() };
        assert_eq!(open, Open { ping_interval: 25000, ping_timeout: 20000 });
    }

    #[test]
    fn an_event_gives_its_name_and_arguments_with_or_without_ack_id_and_namespace() {
        let named = |arguments| ("execution:chunk".to_owned(), arguments);
        assert_eq!(event(r#"42["execution:chunk",{"a": 1}]"#), named(r#"{"a": 1}"#));
        assert_eq!(event(r#"4217["execution:chunk", {"a": 1},"b"]"#), named(r#"{"a": 1},"b""#));
        assert_eq!(event(r#"42/,["execution:chunk",{"a": 1}]"#), named(r#"{"a": 1}"#));
        assert_eq!(event(r#"42["execution:chunk"]"#), named(""));
        let attached = r#"{"a":{"_placeholder":true,"num":0}}"#;
        for head in ["451-", "4512-17", "451-/,", "45"] {
            let frame = format!(r#"{head}["execution:chunk",{attached}]"#);
            assert_eq!(event(&frame), named(attached));
        }
    }

    #[test]
    fn what_joins_and_what_ends_a_session_are_told_apart() {
        assert!(matches!(parse("1"), Ok(EnginePacket::Close)));
        for (frame, expected) in [
            (r#"40{"sid":"x"}"#, None),
            (r#"40{"sid":"x","pid":"p"}"#, Some("p")),
            (r#"40{"pid":7}"#, None),
            ("40", None),
        ] {
            let Ok(EnginePacket::Message(SocketPacket::Connect { pid })) = parse(frame) else {
                panic!("{frame}")
            };
            assert_eq!(pid.as_deref(), expected, "{frame}");
        }
        for frame in ["41", "41/,"] {
            let ended = parse(frame);
            assert!(
                matches!(ended, Ok(EnginePacket::Message(SocketPacket::Disconnect))),
                "{frame}"
            );
        }
    }

    #[test]
    fn other_namespaces_and_acks_are_passed_over() {
        for frame in [r#"42/admin,["x",1]"#, "431[1]", r#"451-/admin,["x",1]"#, "461-7[1]"] {
            assert!(
                matches!(parse(frame), Ok(EnginePacket::Message(SocketPacket::Other))),
                "{frame}"
            );
        }
        assert!(matches!(parse("6"), Ok(EnginePacket::Other)));
    }

    #[test]
    fn a_refused_connect_gives_the_reason_in_either_form() {
        for (frame, why) in [
            (r#"44{"message":"jwt expired"}"#, "jwt expired"),
            (r#"44"jwt expired""#, "jwt expired"),
            (r#"44{"message":"no","data":{"message":"log in","code":"L"}}"#, "no: log in: L"),
            (r#"44{"message":"no","data":"log in"}"#, "no: log in"),
            (r#"44{"message":"no","data":{"message":"no"}}"#, "no"),
            ("44", "no reason given"),
            ("44{}", "no reason given"),
            ("44[1]", "no reason given"),
        ] {
            let Ok(EnginePacket::Message(SocketPacket::ConnectError(reason))) = parse(frame) else {
                panic!("{frame}")
            };
            assert_eq!(reason, why, "{frame}");
        }
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        for frame in [
            "",
            "x",
            "9",
            "4",
            "4é",
            "42",
            "42[",
            "42{}",
            "42[]",
            "42[1]",
            "42[\"x\"1]",
            "0",
            "0{}",
            "é",
        ] {
            assert!(parse(frame).is_err(), "{frame}");
        }
    }

    #[test]
    fn a_ping_is_answered_with_its_own_data() {
        assert!(matches!(parse("2"), Ok(EnginePacket::Ping(""))));
        assert_eq!(pong("probe"), "3probe");
    }

    #[test]
    fn the_connect_packet_carries_the_token_and_what_was_had_last() {
        assert_eq!(connect("a\"b", None), r#"40{"token":"a\"b"}"#);
        let missed = connect("a", Some(("p", "o")));
        let auth: serde_json::Value = serde_json::from_str(&missed[2..]).unwrap();
        assert_eq!(auth, serde_json::json!({"token": "a", "pid": "p", "offset": "o"}));
    }

    #[test]
    fn an_events_frame_is_taken_apart_unread() {
        let apart = |frame| {
            let EventFrame { body, ack, offset } = event_frame(str::as_bytes(frame))?;
            Some((str::from_utf8(body).unwrap(), ack, offset))
        };
        for (frame, expected) in [
            (r#"42["c",{"a":1}]"#, (r#"["c",{"a":1}]"#, None, None)),
            (r#"4217["c",{"a":1}]"#, (r#"["c",{"a":1}]"#, Some("17"), None)),
            (r#"42["c",{"a":1},"P4.0_-:"]"#, (r#"["c",{"a":1}"#, None, Some("P4.0_-:"))),
            (r#"420["c",[1],"x"]"#, (r#"["c",[1]"#, Some("0"), Some("x"))),
            (r#"451-["c",{"a":1}]"#, (r#"["c",{"a":1}]"#, None, None)),
            (r#"4511-17["c",{"a":1},"x"]"#, (r#"["c",{"a":1}"#, Some("17"), Some("x"))),
            // None of these is an offset.
            (r#"42["c","x"]"#, (r#"["c","x"]"#, None, None)),
            (r#"42["c",{"a":"},\"x"}]"#, (r#"["c",{"a":"},\"x"}]"#, None, None)),
            (r#"42["c",{"a":1},""]"#, (r#"["c",{"a":1},""]"#, None, None)),
            (r#"42["c","{\"a\":1}"]"#, (r#"["c","{\"a\":1}"]"#, None, None)),
        ] {
            assert_eq!(apart(frame), Some(expected), "{frame}");
        }
        let long = format!(r#"42["c",{{}},"{}"]"#, "x".repeat(LONGEST_OFFSET + 1));
        assert_eq!(apart(&long).unwrap().2, None);
        for frame in ["", "42", "43[]", "42/admin,[]", "42123456789012345678901[]", "451-{}", "2"] {
            assert_eq!(apart(frame), None, "{frame}");
        }
    }
}
