//! Refusals that the HTTP server writes by itself, without a worker.

use std::fmt::Write;

use ::http::StatusCode;

use super::{Look, websocket};
use crate::error::{Error, ErrorReport};

/// Returns a refusal as bytes: head and error object, in the form `look`. Without `keep_alive` it
/// says `Connection: close`; `with_body` is false for HEAD.
pub fn refusal(
    error: &Error,
    look: &Look,
    request_id: &str,
    with_body: bool,
    keep_alive: bool,
) -> Vec<u8> {
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
    if !keep_alive {
        put(&mut head, "Connection", &"close");
    }
    put_fields(&mut head, error, &report);
    head.push_str("\r\n");
    if with_body {
        head.push_str(&body);
    }
    head.into_bytes()
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
