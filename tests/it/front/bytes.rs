//! Heads and bodies as bytes, in pieces of any size.

use std::fmt::Write;

use langfast2api::error::Error;
use langfast2api::http::body::Decoder;
use langfast2api::http::head::Scan;
use langfast2api::http::{BodyLength, Head, Limits};
use proptest::prelude::*;

/// Feeds a head as the front does, in pieces of these sizes, then one by one.
fn scanned(bytes: &[u8], pieces: &[usize], limits: &Limits) -> Result<Option<usize>, Error> {
    let mut scan = Scan::default();
    let mut end = 0;
    let mut pieces = pieces.iter();
    loop {
        let piece = pieces.next().copied().unwrap_or(1);
        end = (end + piece).min(bytes.len());
        match scan.find_end(&bytes[..end], limits) {
            Ok(None) if end < bytes.len() => {}
            result => return result,
        }
    }
}

type Decoded = Result<(bool, usize, Vec<u8>), Error>;

/// Feeds a body in pieces; tells whether it is done, how much was taken, and the data.
fn decoded(bytes: &[u8], pieces: &[usize], length: BodyLength) -> Decoded {
    let mut decoder = Decoder::new(length, 1000);
    let (mut taken, mut body) = (0, Vec::new());
    let mut pieces = pieces.iter();
    while taken < bytes.len() && !decoder.is_done() {
        let piece = pieces.next().copied().unwrap_or(1);
        let end = (taken + piece).min(bytes.len());
        taken += decoder.feed(&bytes[taken..end], &mut body)?;
    }
    Ok((decoder.is_done(), taken, body))
}

/// Bytes that look like HTTP often enough to get anywhere.
fn http_like() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => proptest::sample::select(vec![
            "\r\n", "\r\n\r\n", "\n", "\r", " ", ":", ": ", "\t", ";", ",", "GET /", "POST / HTTP/1.1\r\n",
            "GET /a?b HTTP/1.1\r\nHost: h\r\n", " HTTP/1.1", " HTTP/1.0", " HTTP/2.0", "*", "http://h/",
            "Host: h\r\n", "Content-Length: 5\r\n", "Content-Length", "Transfer-Encoding: chunked\r\n",
            "Expect: 100-continue\r\n", "Connection: close\r\n", "0\r\n", "5\r\n", "5\r\nhello\r\n",
            "0\r\n\r\n", "3e8\r\n", "ffffffffffffffff", "hello", "A: b\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1..40usize, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_head_is_the_same_in_any_pieces_and_never_a_panic(bytes in http_like(), pieces in pieces()) {
        let limits = Limits { head_bytes: 200, headers: 4, body_bytes: 1000, ..Limits::default() };
        let whole = scanned(&bytes, &[bytes.len()], &limits);
        prop_assert_eq!(&whole, &scanned(&bytes, &pieces, &limits));
        if let Ok(Some(end)) = whole {
            prop_assert!(bytes[..end].ends_with(b"\r\n\r\n"));
            let _ = Head::parse(&bytes[..end], &limits);
        }
        let _ = Head::parse(&bytes, &limits);
    }

    #[test]
    fn a_body_is_the_same_in_any_pieces_and_never_a_panic(
        bytes in http_like(),
        pieces in pieces(),
        length in 0..40usize,
    ) {
        for length in [BodyLength::Chunked, BodyLength::Known(length)] {
            let whole = decoded(&bytes, &[bytes.len()], length);
            prop_assert_eq!(&whole, &decoded(&bytes, &pieces, length));
            if let (Ok((done, taken, body)), BodyLength::Known(length)) = (whole, length) {
                prop_assert_eq!(&body[..], &bytes[..length.min(bytes.len())]);
                prop_assert_eq!((done, taken), (bytes.len() >= length, body.len()));
            }
        }
    }

    #[test]
    fn chunks_of_any_size_give_back_the_body(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..15),
        pieces in pieces(),
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            let mut size = String::new();
            write!(size, "{:x}\r\n", chunk.len()).unwrap();
            bytes.extend([size.as_bytes(), chunk, b"\r\n"].concat());
        }
        bytes.extend(b"0\r\n\r\n");
        let length = bytes.len();
        bytes.extend(b"GET /next HTTP/1.1\r\n");
        let (done, taken, body) = decoded(&bytes, &pieces, BodyLength::Chunked).unwrap();
        prop_assert_eq!((done, taken, body), (true, length, chunks.concat()));
    }
}
