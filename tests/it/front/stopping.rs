//! The end of the server, in good order and at once.

use std::net::TcpStream;
use std::time::Instant;

use langfast2api::http::Limits;

use super::server::Server;
use super::{PATIENCE, quick};

#[test]
fn stopping_closes_idle_connections_at_once_and_lets_exchanges_finish() {
    let server = Server::start(Limits::default());
    let mut fresh = server.client();
    let mut used = server.client();
    used.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    used.answer();
    let mut busy = server.client();
    busy.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "waiting");
    let mut half = server.client();
    half.send("GET /hello HTT");
    server.wait_for_connections(4);

    let begun = Instant::now();
    server.front.stop_accepting();
    fresh.ends();
    used.ends();
    assert!(begun.elapsed() < quick(1000), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(server.address).is_err(), "the listener should be closed");
    assert!(!server.front.wait_idle(Instant::now() + quick(50)));

    half.send("P/1.1\r\nHost: h\r\n\r\n");
    let answer = half.answer();
    assert_eq!((answer.body, &*answer.fields["connection"]), (b"hello".to_vec(), "close"));
    half.ends();
    server.go_on.send(()).unwrap();
    assert_eq!(busy.answer().body, b"at last");
    busy.ends();
    assert!(server.front.wait_idle(Instant::now() + PATIENCE));
}

#[test]
fn closing_all_cuts_what_is_running() {
    let server = Server::start(Limits::default());
    let mut stream = server.client();
    stream.send("GET /stream HTTP/1.0\r\n\r\n");
    assert_eq!(server.report(), "streaming");
    stream.read_to(b"\r\n\r\n");
    let mut stalled = server.client();
    stalled.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.report(), "endless");
    let mut half = server.client();
    half.send("GET /hello HTT");
    server.wait_for_connections(3);

    server.front.close_all();
    assert!(server.front.wait_idle(Instant::now() + quick(1000)));
    assert!(stream.rest().1, "a cut answer must not look complete");
    assert!(stalled.rest().1, "a cut answer must not look complete");
    let mut reports = [server.report(), server.report()];
    reports.sort();
    assert_eq!(reports, ["endless ended: BrokenPipe", "gone"]);
}
