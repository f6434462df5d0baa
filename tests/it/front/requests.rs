//! Requests and their answers, one after the other on a connection.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};

use langfast2api::http::{Limits, Listener};

use super::client::Client;
use super::post;
use super::server::Server;
use crate::support::{Directory, wait_until};

#[test]
fn a_connection_serves_one_request_after_another() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    for round in 0..20 {
        let body = format!("round {round}");
        client.send(post("/echo", &body));
        assert_eq!(client.answer().body, body.as_bytes());
    }
    assert_eq!(server.front.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    let requests: String = (0..50).map(|n| post("/echo", &format!("request {n}"))).collect();
    client.send(requests);
    for n in 0..50 {
        assert_eq!(client.answer().body, format!("request {n}").as_bytes());
    }
}

#[test]
fn bodies_of_every_size_arrive_whole() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    for size in [0, 1, 1023, 1024, 1025, 16 * 1024, 300_000, 3_000_000] {
        let body: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let head = format!("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n");
        let sent = send_from_another_thread(&client, [head.as_bytes(), &body].concat());
        assert!(client.answer().body == body, "with a length of {size}");
        sent.join().unwrap();

        let mut chunked =
            b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n".to_vec();
        for chunk in body.chunks(size / 7 + 1) {
            chunked.extend(format!("{:X};ext=\"a b\"\r\n", chunk.len()).into_bytes());
            chunked.extend(chunk);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"000\r\nTrailer: read over\r\n\r\n");
        let sent = send_from_another_thread(&client, chunked);
        assert!(client.answer().body == body, "in chunks, {size} bytes");
        sent.join().unwrap();
    }
}

fn send_from_another_thread(client: &Client<TcpStream>, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut stream = client.stream.try_clone().unwrap();
    thread::spawn(move || stream.write_all(&bytes).unwrap())
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    let request = "\r\nPOST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4\r\nbody\r\n0\r\n\r\n";
    for byte in request.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.answer().body, b"body");
}

#[test]
fn the_worker_gets_the_clients_headers_and_a_sane_request_id() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /id HTTP/1.1\r\nHost: h\r\nX-Request-ID: my.own_id:1-2\r\n\r\n");
    assert_eq!(client.answer().body, b"my.own_id:1-2");
    for unfit in ["", "with space", "quote\"", &"x".repeat(129)] {
        client.send(format!("GET /id HTTP/1.1\r\nHost: h\r\nX-Request-Id: {unfit}\r\n\r\n"));
        let id = String::from_utf8(client.answer().body).unwrap();
        let hex = id.strip_prefix("req_").unwrap();
        assert!(hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}

#[test]
fn http_1_0_and_connection_close_end_the_connection_after_the_answer() {
    let server = Server::start(Limits::default());
    for request in [
        "GET /hello HTTP/1.0\r\n\r\n",
        "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: h\r\nConnection: foo, CLOSE\r\n\r\n",
    ] {
        let mut client = server.client();
        client.send(request);
        let answer = client.answer();
        assert_eq!(answer.body, b"hello");
        assert_eq!(answer.fields["connection"], "close");
        client.ends();
    }
}

#[test]
fn an_http_1_0_stream_is_ended_by_the_end_of_the_connection() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /stream HTTP/1.0\r\n\r\n");
    (0..3).for_each(|_| server.go_on.send(()).unwrap());
    let (answer, reset) = client.rest();
    assert!(answer.ends_with(b"\r\n\r\nchunk 1;chunk 2;chunk 3;"));
    assert!(!reset);
}

#[test]
fn chunks_arrive_as_they_come() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.read_to(b"\r\n\r\n");
    client.take(head);
    for n in 1..=3 {
        server.go_on.send(()).unwrap();
        assert_eq!(client.chunk(), format!("chunk {n};").as_bytes());
    }
    assert_eq!(client.chunk(), b"");
    client.send(post("/echo", "next"));
    assert_eq!(client.answer().body, b"next");
}

#[test]
fn clients_are_served_over_a_unix_socket_too() {
    let directory = Directory::new();
    let path = directory.path().join("public.sock");
    let listeners = vec![Listener::Unix(UnixListener::bind(&path).unwrap())];
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::start_with(Limits::default(), nowhere, listeners);
    let mut client = Client { stream: UnixStream::connect(&path).unwrap(), read: Vec::new() };
    client.send(post("/echo", "one").repeat(2));
    assert_eq!(client.answer().body, b"one");
    assert_eq!(client.answer().body, b"one");
    client.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "waiting");
    drop(client);
    wait_until("the worker to learn that the client has gone", || server.report() == "gone");
}
