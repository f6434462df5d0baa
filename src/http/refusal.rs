//! Refusals that the HTTP server writes by itself, without a worker.

use std::fmt::Write;

use ::http::StatusCode;

use super::{Look, websocket};
use crate::error::{Error, ErrorReport};

/// A refusal of one request.
pub struct Refusal<'a> {
    pub error: &'a Error,
    pub look: &'a Look,
    pub request_id: &'a str,
    /// False in the answer to HEAD.
    pub has_body: bool,
    /// Whether the connection serves another request; if not, the refusal says `Connection: close`.
    pub keeps_alive: bool,
}

impl Refusal<'_> {
    /// Returns the whole answer: its head, and the error in the client's dialect.
    pub fn bytes(&self) -> Vec<u8> {
        let Refusal { error, look, request_id, .. } = *self;
        let report = error.report();
        let body = (look.envelope)(error, request_id);
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             x-request-id: {request_id}\r\nrequest-id: {request_id}\r\n",
            report.status,
            reason_phrase(report.status),
            body.len()
        );
        for (name, value) in &look.fields {
            put(&mut head, name, value);
        }
        if !self.keeps_alive {
            put(&mut head, "Connection", &"close");
        }
        put_fields(&mut head, error, &report);
        head.push_str("\r\n");
        if self.has_body {
            head.push_str(&body);
        }
        head.into_bytes()
    }
}

/// Writes the header fields that this kind of error has.
fn put_fields(head: &mut String, error: &Error, report: &ErrorReport) {
    if report.status == 401 {
        put(head, "WWW-Authenticate", &"Bearer");
    }
    if report.status == 426 {
        put(head, "Upgrade", &"websocket");
        put(head, "Sec-WebSocket-Version", &websocket::VERSION);
    }
    if let Error::WrongMethod { allow, .. } = error {
        put(head, "Allow", allow);
    }
    if let Some(seconds) = report.retry_after {
        put(head, "Retry-After", &seconds);
    }
    if let Some(should_retry) = report.should_retry {
        put(head, "x-should-retry", &should_retry);
    }
}

fn put(head: &mut String, name: &str, value: &dyn std::fmt::Display) {
    write!(head, "{name}: {value}\r\n").expect("a String takes everything");
}

/// Returns the standard reason phrase of a status; `Unknown` if it has none.
pub fn reason_phrase(status: u16) -> &'static str {
    let known = StatusCode::from_u16(status).ok();
    known.and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}
