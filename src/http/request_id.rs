//! The id of a request, which the client, the log and errors name it by.

use uuid::Uuid;

use super::Head;

/// Longest id of a client's own, in bytes.
const LONGEST: usize = 128;

/// Returns the client's own `x-request-id` if it is fit for logs and headers, else a new one.
pub fn of(head: &Head) -> String {
    head.header("x-request-id").filter(|id| is_fit(id)).map_or_else(new, str::to_owned)
}

/// Returns an id that no other request has.
pub fn new() -> String {
    format!("req_{}", Uuid::new_v4().simple())
}

fn is_fit(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=LONGEST).contains(&id.len()) && id.bytes().all(is_allowed)
}
