//! What the gate refuses, and when it is asked.

use std::sync::atomic::Ordering;

use langfast2api::http::Limits;

use super::post;
use super::server::Server;

#[test]
fn the_gate_refuses_before_the_body_is_there() {
    let server = Server::start(Limits::default());
    for body in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut client = server.client();
        client.send(format!("POST /secret HTTP/1.1\r\nHost: h\r\n{body}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, 401);
        assert_eq!(answer.fields["www-authenticate"], "Bearer");
        assert_eq!(answer.fields["connection"], "close");
        client.ends();
    }
}

#[test]
fn a_refused_request_with_a_small_body_leaves_the_connection_usable() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    for body in ["", "small", &"x".repeat(60_000)] {
        client.send(post("/secret", body));
        client.send(post("/echo", "served"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.fields.get("connection")), (401, None));
        assert_eq!(client.answer().body, b"served");
    }
}

#[test]
fn refusals_carry_what_their_status_calls_for() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send(post("/get-only", ""));
    assert_eq!(client.answer().fields["allow"], "GET, HEAD");
    client.send("GET /full HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.fields["retry-after"]), (503, "1"));
    assert_eq!(answer.fields["x-request-id"], "mine");
    client.send("HEAD /secret HTTP/1.1\r\nHost: h\r\n\r\n");
    let head_end = client.read_to(b"\r\n\r\n");
    assert!(client.take(head_end).starts_with(b"HTTP/1.1 401 Unauthorized\r\n"));
    client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().body, b"hello");
}

#[test]
fn leave_to_send_the_body_is_given_after_the_gate_and_only_by_it() {
    let server = Server::start(Limits::default());
    let expect = "HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n";
    let mut client = server.client();
    for _ in 0..2 {
        client.send(format!("POST /echo {expect}"));
        assert_eq!(client.answer().status, 100);
        client.send("body");
        assert_eq!(client.answer().body, b"body");
    }
    client.send(format!("POST /secret {expect}"));
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.fields["connection"]), (401, "close"));
    client.ends();
}

#[test]
fn a_client_that_is_slow_with_its_body_keeps_nobody_at_work() {
    let server = Server::start(Limits::default());
    let mut slow = server.client();
    slow.send(
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(slow.answer().status, 100);
    assert_eq!(server.doorman.under_way.load(Ordering::SeqCst), 0);
    server.doorman.is_full.store(true, Ordering::SeqCst);
    slow.send("0123456789");
    assert_eq!(slow.answer().status, 503);
}

#[test]
fn a_panic_of_the_gate_ends_only_that_connection() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /gate-panics HTTP/1.1\r\nHost: h\r\n\r\n");
    client.ends();
    server.wait_for_connections(0);
    server.serves();
}
