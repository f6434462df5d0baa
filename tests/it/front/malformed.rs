//! Requests that are refused for their form, and unusual ones that are not.

use langfast2api::http::Limits;

use super::server::Server;

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused() {
    let server = Server::start(Limits::default());
    let host = "POST /echo HTTP/1.1\r\nHost: h\r\n";
    let chunked = format!("{host}Transfer-Encoding: chunked\r\n\r\n");
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let with = |field: &str| format!("{host}{field}\r\n\r\nhello");
    let table: Vec<(&str, u16, String)> = vec![
        // Where the head's lines end, and what they are made of.
        ("a bare LF after the request line", 400, "GET / HTTP/1.1\nHost: h\r\n\r\n".into()),
        ("a bare LF after a header", 400, "GET / HTTP/1.1\r\nHost: h\n\r\n".into()),
        ("an empty line of a bare LF", 400, "GET / HTTP/1.1\r\nHost: h\r\n\n".into()),
        ("a bare CR", 400, with("X: a\rb")),
        ("two CRs", 400, with("X: a\r")),
        ("a folded line", 400, with("X: a\r\n b")),
        ("a first header that is folded", 400, "GET / HTTP/1.1\r\n Host: h\r\n\r\n".into()),
        ("a NUL in a value", 400, with("X: a\0b")),
        ("a DEL in a value", 400, with("X: a\x7fb")),
        ("a NUL in the target", 400, get("/a\0b")),
        ("a space before the colon", 400, with("Content-Length : 5")),
        ("a tab before the colon", 400, with("Content-Length\t: 5")),
        ("an empty header name", 400, with(": x")),
        ("a header name that is no token", 400, with("X(y): z")),
        ("a header name that is not ASCII", 400, with("X\u{e9}: z")),
        ("a header without a colon", 400, with("Content-Length")),
        ("three empty lines at first", 400, format!("\r\n\r\n\r\n{}", get("/hello"))),
        // The request line.
        ("no version", 400, "GET /\r\nHost: h\r\n\r\n".into()),
        ("two spaces", 400, "GET  / HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("two spaces before the version", 400, "GET /  HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("a space after the version", 400, "GET / HTTP/1.1 \r\nHost: h\r\n\r\n".into()),
        ("a tab between the parts", 400, "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("a space in the target", 400, get("/a b")),
        ("a method that is no token", 400, "G@T / HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("an empty target", 400, get("")),
        ("a target that is not ASCII", 400, get("/\u{e9}")),
        ("a target that is no path", 400, get("hello")),
        ("an asterisk without OPTIONS", 400, get("*")),
        ("an authority", 400, "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("another scheme", 400, get("ftp://h/hello")),
        ("an absolute target without a host", 400, get("http:///hello")),
        ("a version in small letters", 400, "GET / http/1.1\r\nHost: h\r\n\r\n".into()),
        ("a version of two digits", 400, "GET / HTTP/1.10\r\nHost: h\r\n\r\n".into()),
        ("HTTP/2's preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("HTTP/2.0", 505, "GET / HTTP/2.0\r\nHost: h\r\n\r\n".into()),
        ("HTTP/1.2", 505, "GET / HTTP/1.2\r\nHost: h\r\n\r\n".into()),
        ("HTTP/0.9 by its name", 505, "GET / HTTP/0.9\r\nHost: h\r\n\r\n".into()),
        ("a TLS handshake", 400, "\x16\x03\x01\x02\x00\x01\x00\x01".into()),
        // Host.
        ("no Host", 400, "GET / HTTP/1.1\r\n\r\n".into()),
        ("two Hosts", 400, with("Host: h")),
        ("two Hosts in HTTP/1.0", 400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".into()),
        // How long the body is.
        ("both lengths", 400, with("Content-Length: 5\r\nTransfer-Encoding: chunked")),
        ("both, the other way", 400, with("Transfer-Encoding: chunked\r\nContent-Length: 5")),
        ("both, in other letters", 400, with("TRANSFER-ENCODING: x\r\ncontent-length: 5")),
        ("two different lengths", 400, with("Content-Length: 5\r\nContent-Length: 6")),
        ("twice the same length", 400, with("Content-Length: 5\r\nContent-Length: 5")),
        ("a list of lengths", 400, with("Content-Length: 5, 5")),
        ("a length with a plus", 400, with("Content-Length: +5")),
        ("a negative length", 400, with("Content-Length: -5")),
        ("a length in hexadecimal", 400, with("Content-Length: 0x5")),
        ("a length with a fraction", 400, with("Content-Length: 5.0")),
        ("a length with a space in it", 400, with("Content-Length: 5 5")),
        ("an empty length", 400, with("Content-Length:")),
        ("a length in other digits", 400, with("Content-Length: \u{665}")),
        ("a length beyond 64 bits", 400, with("Content-Length: 99999999999999999999")),
        ("a length beyond the limit", 413, with("Content-Length: 16777217")),
        ("a length far beyond it", 413, with("Content-Length: 18446744073709551615")),
        ("an unknown coding", 501, with("Transfer-Encoding: gzip")),
        ("identity", 501, with("Transfer-Encoding: identity")),
        ("an empty coding", 501, with("Transfer-Encoding:")),
        ("a list of codings", 501, with("Transfer-Encoding: gzip, chunked")),
        ("chunked twice", 501, with("Transfer-Encoding: chunked, chunked")),
        (
            "chunked in two fields",
            501,
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ),
        ("a coding in quotes", 501, with("Transfer-Encoding: \"chunked\"")),
        ("almost chunked", 501, with("Transfer-Encoding: xchunked")),
        ("a vertical tab before chunked", 400, with("Transfer-Encoding: \x0bchunked")),
        (
            "chunks in HTTP/1.0",
            400,
            "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        ),
        ("another expectation", 417, with("Expect: 200-ok")),
        ("one expectation too many", 417, with("Expect: 100-continue\r\nExpect: tea")),
        // Chunks.
        ("an empty chunk size", 400, format!("{chunked}\r\nhello\r\n0\r\n\r\n")),
        ("a chunk size of an extension only", 400, format!("{chunked};x\r\n\r\n")),
        ("a chunk size that is no number", 400, format!("{chunked}five\r\n")),
        ("a chunk size with 0x", 400, format!("{chunked}0x5\r\nhello\r\n0\r\n\r\n")),
        ("a chunk size with a plus", 400, format!("{chunked}+5\r\nhello\r\n0\r\n\r\n")),
        ("a negative chunk size", 400, format!("{chunked}-5\r\nhello\r\n0\r\n\r\n")),
        ("a space before a chunk size", 400, format!("{chunked} 5\r\nhello\r\n0\r\n\r\n")),
        ("a space after a chunk size", 400, format!("{chunked}5 \r\nhello\r\n0\r\n\r\n")),
        ("a chunk size of 17 digits", 400, format!("{chunked}00000000000000005\r\nhello\r\n")),
        ("the largest chunk size", 413, format!("{chunked}ffffffffffffffff\r\nhello\r\n")),
        ("a chunk beyond the limit", 413, format!("{chunked}1000001\r\n")),
        ("chunks that add up to more", 413, format!("{chunked}5\r\nhello\r\nfffffc\r\n")),
        (
            "sizes that overflow together",
            413,
            format!("{chunked}5\r\nhello\r\nfffffffffffffffb\r\n"),
        ),
        ("a bare LF after a chunk size", 400, format!("{chunked}5\nhello\r\n0\r\n\r\n")),
        ("a bare LF in an extension", 400, format!("{chunked}5;a\nb\r\nhello\r\n0\r\n\r\n")),
        ("a bare CR in an extension", 400, format!("{chunked}5;a\rb\r\nhello\r\n0\r\n\r\n")),
        ("a NUL in an extension", 400, format!("{chunked}5;a\0b\r\nhello\r\n0\r\n\r\n")),
        ("a long extension", 400, format!("{chunked}5;{}\r\n", "x".repeat(300))),
        ("a chunk longer than it says", 400, format!("{chunked}5\r\nhellooo\r\n0\r\n\r\n")),
        ("a chunk shorter than it says", 400, format!("{chunked}5\r\nhell\r\n0\r\n\r\n")),
        ("a bare LF after a chunk", 400, format!("{chunked}5\r\nhello\n0\r\n\r\n")),
        ("a bare LF after the last chunk", 400, format!("{chunked}0\r\n\n")),
        ("a bare LF in a trailer", 400, format!("{chunked}0\r\nA: b\nC: d\r\n\r\n")),
        ("too much of trailers", 400, format!("{chunked}0\r\n{}", "A: bcdefghi\r\n".repeat(500))),
    ];
    for (what, status, request) in table {
        let mut client = server.client();
        // What follows must never be served.
        client.try_send(format!("{request}GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.fields["connection"], "close", "{what}");
        client.ends();
    }
    server.serves();
}

#[test]
fn unusual_requests_that_are_sound_are_served() {
    let server = Server::start(Limits::default());
    let long_but_fine = format!("X: {}", "y".repeat(15_000));
    for request in [
        "\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /hello HTTP/1.1\r\nhOST:\t h \t\r\nX-Empty:\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: h\r\nX: caf\u{e9} \u{2603}\r\n\r\n",
        "GET /hello?a=b#c HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET HTTP://User@Example.com:80/hello HTTP/1.1\r\nHost: other\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 0005\r\n\r\nhello",
        "POST /hello HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
        "M-SEARCH /hello HTTP/1.1\r\nHost: h\r\n\r\n",
        &format!("GET /hello HTTP/1.1\r\nHost: h\r\n{long_but_fine}\r\n\r\n"),
    ] {
        let mut client = server.client();
        client.send(request.repeat(2));
        for _ in 0..2 {
            let mut answer = client.answer();
            if answer.status == 100 {
                answer = client.answer();
            }
            assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]), "{request}");
        }
    }
}

#[test]
fn a_refusal_is_an_openai_error_with_a_request_id() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send("GET / HTTP/3.0\r\nHost: h\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.fields["content-type"], "application/json");
    assert!(answer.fields["x-request-id"].starts_with("req_"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert!(body["error"]["message"].as_str().unwrap().contains("HTTP/1.1"));
}

#[test]
fn a_tls_handshake_is_told_that_this_is_plain_http_before_it_is_complete() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.send([0x16]);
    assert!(String::from_utf8(client.answer().body).unwrap().contains("plain HTTP"));
}
