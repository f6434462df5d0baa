//! Clients that leave, end their sending side, or read nothing.

use std::io::Write;
use std::time::Instant;

use langfast2api::http::Limits;

use super::server::Server;
use super::{post, quick};
use crate::support::wait_until;

#[test]
fn a_client_may_reset_at_any_byte_of_its_request() {
    let server = Server::start(Limits::default());
    let request = post("/wait", "body");
    for end in 0..=request.len() {
        let mut client = server.client();
        client.send(&request[..end]);
        if end == request.len() {
            assert_eq!(server.report(), "waiting");
        }
        client.reset();
        server.wait_for_connections(0);
    }
    assert_eq!(server.report(), "gone");
    server.serves();
}

#[test]
fn a_client_may_leave_in_order_at_any_byte_of_its_request() {
    let server = Server::start(Limits::default());
    let request = post("/echo", "body");
    for end in 0..=request.len() {
        let mut client = server.client();
        client.send(&request[..end]);
        drop(client);
        server.wait_for_connections(0);
    }
    server.serves();
}

#[test]
fn the_worker_learns_within_a_moment_that_its_client_has_left() {
    let server = Server::start(Limits::default());
    for reset in [true, false] {
        let mut client = server.client();
        client.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(server.report(), "waiting");
        let left = Instant::now();
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        wait_until("the worker to learn that its client has gone", || server.report() == "gone");
        assert!(left.elapsed() < quick(500), "{:?}", left.elapsed());
        server.wait_for_connections(0);
    }
}

#[test]
fn the_worker_learns_in_the_middle_of_a_stream_that_its_client_has_left() {
    let server = Server::start(Limits::default());
    for reset in [true, false] {
        let mut client = server.client();
        client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(server.report(), "streaming");
        server.go_on.send(()).unwrap();
        client.read_to(b"chunk 1;\r\n");
        let left = Instant::now();
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        assert_eq!(server.report(), "gone");
        assert!(left.elapsed() < quick(500), "{:?}", left.elapsed());
    }
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "waiting");
    client.half_close();
    assert_eq!(server.report(), "half-closed");
    assert_eq!(client.answer().status, 100);
    server.go_on.send(()).unwrap();
    assert_eq!(client.answer().body, b"at last");
    client.ends();
}

#[test]
fn a_client_that_half_closes_at_once_gets_all_its_answers() {
    let server = Server::start(Limits::default());
    for version in ["1.0", "1.1"] {
        let mut client = server.client();
        client.send(format!("GET /hello HTTP/{version}\r\nHost: h\r\n\r\n").repeat(2));
        client.half_close();
        let (answers, reset) = client.rest();
        let count = if version == "1.0" { 1 } else { 2 };
        assert_eq!(String::from_utf8(answers).unwrap().matches("hello").count(), count);
        assert!(!reset);
    }
}

#[test]
fn a_client_that_half_closes_in_mid_stream_is_sent_a_comment_and_the_rest() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "streaming");
    let head = client.read_to(b"\r\n\r\n");
    client.take(head);
    client.half_close();
    assert_eq!(client.chunk(), b": comment;");
    (0..3).for_each(|_| server.go_on.send(()).unwrap());
    assert_eq!(client.chunks(), b"chunk 1;chunk 2;chunk 3;");
    client.ends();
}

#[test]
fn a_client_that_does_not_read_is_given_up_and_others_are_not_kept_waiting() {
    let server = Server::start(Limits { write_stall: quick(500), ..Limits::default() });
    let mut stalled = server.client();
    stalled.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "endless");
    let begun = Instant::now();
    while begun.elapsed() < quick(400) {
        server.serves();
    }
    assert_eq!(server.report(), "endless ended: TimedOut");
    let (_, reset) = stalled.rest();
    assert!(reset, "a cut answer must not look complete");
    server.wait_for_connections(0);
}

#[test]
fn nothing_is_read_from_a_client_while_its_exchange_runs() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "waiting");
    client.stream.set_write_timeout(Some(quick(300))).unwrap();
    let next = post("/echo", &"x".repeat(1_000_000));
    let mut sent = 0;
    // Loopback's socket buffers hold some megabytes.
    while let Ok(count) = client.stream.write(&next.as_bytes()[sent % next.len()..]) {
        sent += count;
        assert!(sent < 50_000_000, "somebody reads");
    }
    server.go_on.send(()).unwrap();
    assert_eq!(client.answer().body, b"at last");
    assert_eq!(client.answer().body.len(), 1_000_000);
}
