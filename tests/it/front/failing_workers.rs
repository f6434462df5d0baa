//! Workers that cut their answer, give none, or do not take the request.

use std::time::Instant;

use langfast2api::http::Limits;

use super::PATIENCE;
use super::client::connect;
use super::server::{Server, front_alone};
use crate::support::wait_until;

#[test]
fn a_cut_answer_ends_with_a_reset() {
    let server = Server::start(Limits::default());
    for path in ["/cut", "/panics-late"] {
        for version in ["1.0", "1.1"] {
            let mut client = server.client();
            client.send(format!("GET {path} HTTP/{version}\r\nHost: h\r\n\r\n"));
            let (_, reset) = client.rest();
            assert!(reset, "{path} {version}");
        }
    }
    server.wait_for_connections(0);
    server.serves();
}

#[test]
fn a_request_that_gets_no_answer_is_told_so() {
    let server = Server::start(Limits::default());
    for path in ["/nothing", "/panics"] {
        let mut client = server.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\n\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, &*answer.fields["x-request-id"]), (500, "mine"), "{path}");
        assert_eq!(&*answer.fields["x-should-retry"], "false", "a run may have been started");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["type"], "server_error");
        client.ends();
    }
    server.serves();
}

#[test]
fn a_request_that_nobody_takes_is_refused_and_one_that_is_taken_late_is_answered() {
    let server = Server::start(Limits::default());
    for (path, status) in
        [("/left-for-good", 503), ("/left-and-taken-too-late", 200), ("/left-at-first", 200)]
    {
        let mut client = server.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(client.answer().status, status, "{path}");
        wait_until("the exchange to be forgotten", || {
            server.doorman.left.lock().unwrap().is_empty()
        });
    }
}

#[test]
fn a_client_that_leaves_before_somebody_takes_its_request_is_forgotten() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /left-at-first HTTP/1.1\r\nHost: h\r\n\r\n");
    wait_until("the request", || !server.doorman.left.lock().unwrap().is_empty());
    drop(client);
    wait_until("the exchange to be forgotten", || server.doorman.left.lock().unwrap().is_empty());
}

#[test]
fn a_front_with_nobody_behind_it_says_that_it_is_overloaded() {
    let (front, address) = front_alone();
    let mut client = connect(address);
    client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().status, 503);
    drop(client);
    assert!(front.wait_idle(Instant::now() + PATIENCE));
}
