//! Limits on the size of a request, and deadlines for its coming.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use langfast2api::http::Limits;

use super::client::Client;
use super::server::Server;
use super::{post, quick};

#[test]
fn heads_beyond_the_limits_are_refused_as_soon_as_they_are() {
    let limits = Limits { head_bytes: 1000, headers: 10, body_bytes: 100, ..Limits::default() };
    let server = Server::start(limits);
    let long_line = format!("GET /{}", "a".repeat(2000));
    let long_head = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(2000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(11));
    for (request, status) in [(long_line, 414), (long_head, 431), (many, 431)] {
        let mut client = server.client();
        client.try_send(request);
        assert_eq!(client.answer().status, status);
        client.ends();
    }
    let mut client = server.client();
    let fits = "GET /hello HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n";
    let filler = "y".repeat(1000 - fits.len());
    client.send(fits.replace("X: ", &format!("X: {filler}")));
    assert_eq!(client.answer().status, 200);
    client.send(fits.replace("X: ", &format!("X: {filler}y")));
    assert_eq!(client.answer().status, 431);
}

#[test]
fn a_body_beyond_the_limit_is_refused_by_its_length_or_as_it_grows() {
    let server = Server::start(Limits { body_bytes: 10, ..Limits::default() });
    let head = "POST /echo HTTP/1.1\r\nHost: h\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    for request in [
        format!("{head}Content-Length: 11\r\n\r\n"),
        format!("{chunked}b\r\n"),
        format!("{chunked}5\r\nhello\r\n6\r\n"),
    ] {
        let mut client = server.client();
        client.send(request);
        assert_eq!(client.answer().status, 413);
        client.ends();
    }
    let mut client = server.client();
    client.send(format!("{chunked}5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n"));
    assert_eq!(client.answer().body, b"hellohello");
}

#[test]
fn a_client_that_goes_on_sending_can_read_why_it_was_refused() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n");
    // Far more than socket buffers hold.
    client.send(vec![b'x'; 12_000_000]);
    assert_eq!(client.answer().status, 413);
    client.ends();
}

#[test]
fn a_head_has_one_deadline_that_single_bytes_do_not_prolong() {
    let server = Server::start(Limits { head_deadline: quick(300), ..Limits::default() });
    let mut client = server.client();
    let begun = Instant::now();
    drip(&client, "GET /hello HTTP/1.1\r\nHost: h\r\nX: ".bytes().chain(std::iter::repeat(b'y')));
    let answer = client.answer();
    assert_eq!(answer.status, 408);
    assert!(String::from_utf8(answer.body).unwrap().contains("within 0.3 s"));
    assert!(
        begun.elapsed() >= quick(300) && begun.elapsed() < quick(2000),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_body_must_keep_up_with_the_least_rate() {
    let limits = Limits { head_deadline: quick(300), body_rate: 1000, ..Limits::default() };
    let server = Server::start(limits);
    // What came fast is no credit for what follows.
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'y'; 900_000]);
    drip(&client, std::iter::repeat(b'y'));
    assert_eq!(client.answer().status, 408);
    for length in ["Content-Length: 16000000", "Transfer-Encoding: chunked"] {
        let mut client = server.client();
        let begun = Instant::now();
        client.send(format!("POST /echo HTTP/1.1\r\nHost: h\r\n{length}\r\n\r\nffffff\r\n"));
        drip(&client, std::iter::repeat(b'y'));
        assert_eq!(client.answer().status, 408);
        assert!(begun.elapsed() < quick(2000), "{:?}", begun.elapsed());
    }
    // Slow, but fast enough: 3000 bytes in a second.
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n");
    for _ in 0..10 {
        client.send([b'y'; 300]);
        thread::sleep(quick(100));
    }
    assert_eq!(client.answer().body.len(), 3000);
}

/// Sends a byte every few milliseconds until that fails.
fn drip(client: &Client<TcpStream>, bytes: impl Iterator<Item = u8> + Send + 'static) {
    let mut stream = client.stream.try_clone().unwrap();
    thread::spawn(move || {
        for byte in bytes {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(quick(20));
        }
    });
}

#[test]
fn idle_connections_are_closed_without_a_word() {
    let server = Server::start(Limits { idle: quick(100), ..Limits::default() });
    let mut silent = server.client();
    let mut used = server.client();
    used.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(used.answer().body, b"hello");
    used.ends();
    silent.ends();
}

#[test]
fn an_empty_line_after_a_body_is_not_half_a_request() {
    let server = Server::start(Limits { head_deadline: quick(50), ..Limits::default() });
    let mut client = server.client();
    client.send(post("/echo", "body") + "\r\n");
    assert_eq!(client.answer().body, b"body");
    client.ends();
}
