//! The HTTP server by itself, with real sockets, and workers of the tests' own behind it.

mod bytes;
mod client;
mod crowds;
mod failing_workers;
mod gate;
mod leaving;
mod limits;
mod malformed;
mod requests;
mod server;
mod stopping;
mod worker;

use std::time::Duration;

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn quick(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
