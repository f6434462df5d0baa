//! The messages of a client on a WebSocket, and the errors that answer them.
//!
//! Known of OpenAI's guide and its SDKs' types: a request is `response.create` with the fields of a body beside
//! `type`, always streamed and never in the background; a `stream_id` names the lane that it belongs to, and
//! comes back in each of its events. Lanes here take turns. Seen of Codex: `response.processed`, which wants no
//! answer.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::budget::Body;
use crate::dialects::fields::{Fields, missing};
use crate::dialects::writing::to_json;
use crate::error::Error;

/// Longest name of a lane, in bytes.
const LONGEST_NAME: usize = 256;

/// A message of a client.
pub struct Message {
    /// The name of its lane; empty if it names none.
    pub lane: String,
    kind: Option<String>,
}

/// What a message asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// A response.
    Create,
    /// More input for the response under way.
    Steer,
    /// Nothing.
    Nothing,
}

impl Message {
    /// Reads a message's type and lane.
    ///
    /// # Errors
    /// It is not a JSON object, or the name of its lane is invalid.
    pub fn read(body: &mut Body) -> Result<Message, Error> {
        let fields = Fields::parse(body, &["type", "stream_id"])?;
        let lane = match fields.get("stream_id") {
            None => String::new(),
            Some(Value::String(name)) if is_name(name) => name.clone(),
            Some(_) => return Err(no_name()),
        };
        let kind = fields.get("type").and_then(Value::as_str).map(str::to_owned);
        Ok(Message { lane, kind })
    }

    /// Returns what the message asks for.
    ///
    /// # Errors
    /// Its type is missing or unknown.
    pub fn wish(&self) -> Result<Wish, Error> {
        match self.kind.as_deref() {
            Some("response.create") => Ok(Wish::Create),
            Some("response.steer") => Ok(Wish::Steer),
            Some("response.processed") => Ok(Wish::Nothing),
            Some(_) => Err(Error::Invalid {
                message:
                    "Invalid value for `type`: on this WebSocket it must be response.create. To \
                          cancel the response under way, close the WebSocket"
                        .to_owned(),
                param: Some("type".to_owned()),
                code: Some("invalid_value"),
            }),
            None => Err(missing("type")),
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_of_name)
}

fn no_name() -> Error {
    invalid_lane(
        "invalid_stream_id",
        format!(
            "The 'stream_id' field must be a non-empty string with at most {LONGEST_NAME} characters and \
             may only contain letters, numbers, underscores, hyphens, and periods."
        ),
    )
}

/// Returns the error for a connection that uses more than `most` named lanes.
pub fn too_many_lanes(most: usize) -> Error {
    invalid_lane(
        "websocket_stream_limit_reached",
        format!(
            "This WebSocket connection has reached its maximum number of distinct stream IDs ({most}). \
             Reuse an existing stream_id or open a new WebSocket connection."
        ),
    )
}

fn invalid_lane(code: &'static str, message: String) -> Error {
    Error::Invalid { message, param: Some("stream_id".to_owned()), code: Some(code) }
}

/// Returns the answer to a message that steers, as JSON: its input comes back, to be sent with the next
/// request.
///
/// # Errors
/// There is no memory for the input.
pub fn not_steered(body: &mut Body) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Steer<'a> {
        input: Option<&'a Value>,
        previous_response_id: Option<&'a Value>,
    }
    let fields = Fields::parse(body, &["input", "previous_response_id"])?;
    let [input, previous_response_id] =
        ["input", "previous_response_id"].map(|name| fields.get(name));
    // The input is written as it is: a copy of its values would take many times its text.
    let steer = to_json(&Steer { input, previous_response_id });
    let error = to_json(&json!({
        "type": "invalid_request_error",
        "code": "steering_not_supported",
        "message": "A response cannot be steered here: send the input with the next response.create"
    }));
    Ok(format!(
        r#"{{"type":"response.steer.failed","sequence_number":0,"error":{error},"steer":{steer}}}"#
    ))
}

/// Returns the message of an error in place of an answer, as JSON, for the request of this id in this lane.
pub fn error_message(error: &Error, request_id: &str, lane: &str) -> String {
    let fields = error_fields(error, Some(request_id));
    format!(r#"{{"type":"error","sequence_number":0{fields}{}}}"#, lane_field(lane))
}

/// Returns the fields of an error on a WebSocket, as JSON with a comma before each. The header fields that HTTP
/// would have are among them. Known: OpenAI's types have them in the error, Codex reads them beside it.
pub(super) fn error_fields(error: &Error, request_id: Option<&str>) -> String {
    let report = error.report();
    let mut headers = Map::new();
    let mut field = |name: &str, value: Option<String>| {
        headers.extend(value.map(|value| (name.to_owned(), Value::String(value))));
    };
    field("x-request-id", request_id.map(str::to_owned));
    field("retry-after", report.retry_after.map(|seconds| seconds.to_string()));
    field("x-should-retry", report.should_retry.map(|should| should.to_string()));
    let mut nested = json!(error.object());
    nested["headers"] = json!(headers);
    let [nested, headers] = [&nested, &json!(headers)].map(to_json);
    format!(r#","status":{},"error":{nested},"headers":{headers}"#, report.status)
}

/// Returns the field that names a lane, as JSON with a comma before it; empty if the lane has no name.
pub(super) fn lane_field(lane: &str) -> String {
    match lane {
        "" => String::new(),
        lane => format!(r#","stream_id":"{lane}""#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Message, Error> {
        Message::read(&mut text.as_bytes().to_vec().into())
    }

    #[test]
    fn a_message_says_what_it_wants_and_where_it_belongs() {
        let wish = |text: &str| read(text).unwrap().wish();
        assert_eq!(wish(r#"{"type":"response.create","model":"a"}"#), Ok(Wish::Create));
        assert_eq!(wish(r#"{"type":"response.processed","response_id":"a"}"#), Ok(Wish::Nothing));
        for text in [r#"{"type":"response.cancel"}"#, r#"{"type":7}"#, "{}"] {
            let error = wish(text).unwrap_err();
            assert_eq!(error.object().param, Some("type"), "{text}");
        }
        assert_eq!(read(r#"{"stream_id":"a.B-_9"}"#).unwrap().lane, "a.B-_9");
        let long = format!(r#"{{"stream_id":"{}"}}"#, "a".repeat(257));
        for text in [r#"{"stream_id":""}"#, r#"{"stream_id":"a b"}"#, r#"{"stream_id":7}"#, &long] {
            let error = read(text).err().unwrap();
            assert_eq!(error.object().code, Some("invalid_stream_id"), "{text}");
        }
        assert!(read("no JSON").is_err() && read("[]").is_err());
    }

    #[test]
    fn an_error_has_its_status_its_headers_and_its_lane() {
        let error = Error::Overloaded("busy".to_owned());
        let message: Value = serde_json::from_str(&error_message(&error, "req_1", "main")).unwrap();
        assert_eq!((&message["status"], &message["stream_id"]), (&json!(503), &json!("main")));
        let headers = json!({"x-request-id": "req_1", "retry-after": "1"});
        assert_eq!((&message["headers"], &message["error"]["headers"]), (&headers, &headers));
        let message: Value = serde_json::from_str(&error_message(&error, "req_1", "")).unwrap();
        assert_eq!(message.get("stream_id"), None);
    }
}
