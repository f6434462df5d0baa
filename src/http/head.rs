//! Parsing of request heads, without I/O: bytes in, a [`Head`] or a refusal out (RFC 9112, sections
//! 2 to 6).
//!
//! Constructs that proxies and servers are known to read in different ways are refused, not
//! repaired: the next request on a connection begins where this one ends, and both sides must agree
//! on where that is.

use httparse::{Header, Request};

use super::Limits;
use super::body::too_large;
use crate::error::Error;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// From `Content-Length`, in bytes; 0 without one. Not limited yet: see [`Head::check_size`].
    Known(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The head of a well-formed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The method as sent: case matters.
    pub method: String,
    /// Path and query as sent, printable ASCII; `*` only for OPTIONS.
    pub target: String,
    /// The x of HTTP/1.x: 0 or 1.
    pub minor_version: u8,
    /// True if the connection can serve another request after this one; never for HTTP/1.0. If
    /// false, the answer must say `Connection: close`.
    pub keep_alive: bool,
    /// How the end of the body is found.
    pub body: BodyLength,
    /// True if the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Parses a whole head, including its empty line, as [`Scan`] finds it. Fails with
    /// [`Error::BadHttp`].
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Head, Error> {
        let mut fields = vec![httparse::EMPTY_HEADER; limits.headers];
        let mut request = Request::new(&mut fields);
        let (Some(method), Some(target), Some(minor_version)) = (match request.parse(bytes) {
            Ok(_) => (request.method, request.path, request.version),
            Err(error) => return Err(unparsable(error, bytes)),
        }) else {
            return Err(bad(400, "The request ends within its head"));
        };
        let mut head = Head {
            method: method.to_owned(),
            target: origin_form(method, target)?,
            minor_version,
            keep_alive: false,
            body: BodyLength::Known(0),
            expects_continue: false,
            headers: request.headers.iter().map(owned).collect(),
        };
        head.check_host()?;
        head.body = head.body_length()?;
        head.expects_continue = head.expectation()?;
        head.keep_alive = minor_version == 1 && !head.asks_to_close();
        Ok(head)
    }

    /// Returns the first field of this name, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// Returns all fields of this name in order. Bytes that are not UTF-8 have become U+FFFD.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// Returns the quality, 0 to 1, that `Accept` states for exactly this media type; `None` if
    /// only a range with `*` covers it.
    pub fn accepts(&self, media_type: &str) -> Option<f32> {
        let mut ranges =
            self.header("accept")?.split(',').map(|range| range.split(';').map(str::trim));
        let is_it = |name: &str| name.eq_ignore_ascii_case(media_type);
        let mut range = ranges.find(|range| range.clone().next().is_some_and(is_it))?;
        let quality = range.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.eq_ignore_ascii_case("q").then(|| value.trim().parse().ok())?
        });
        Some(quality.unwrap_or(1.0))
    }

    /// Returns the target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of a field of the query, as it is written there: of the first one of that name.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|field| field.split_once('='))
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v)
    }

    /// True if a body follows the head.
    pub fn has_body(&self) -> bool {
        self.body != BodyLength::Known(0)
    }

    /// Refuses a body whose announced length exceeds the limit.
    pub fn check_size(&self, limits: &Limits) -> Result<(), Error> {
        match self.body {
            BodyLength::Known(length) if length > limits.body_bytes => {
                Err(too_large(limits.body_bytes))
            }
            _ => Ok(()),
        }
    }

    /// Requires exactly one Host field, or at most one for HTTP/1.0 (RFC 9112, 3.2).
    fn check_host(&self) -> Result<(), Error> {
        match self.headers("host").count() {
            1 => Ok(()),
            0 if self.minor_version == 0 => Ok(()),
            0 => Err(bad(400, "An HTTP/1.1 request needs a Host header")),
            _ => Err(bad(400, "The request has more than one Host header")),
        }
    }

    /// Determines how the end of the body is found (RFC 9112, 6.3), refusing wherever the RFC
    /// leaves a choice.
    fn body_length(&self) -> Result<BodyLength, Error> {
        let encodings: Vec<&str> = self.headers("transfer-encoding").collect();
        let lengths: Vec<&str> = self.headers("content-length").collect();
        match (&encodings[..], &lengths[..]) {
            ([], []) => Ok(BodyLength::Known(0)),
            ([], [length]) => content_length(length).map(BodyLength::Known),
            ([], _) => Err(bad(400, "The request has more than one Content-Length")),
            (_, [_, ..]) => {
                Err(bad(400, "The request has both a Transfer-Encoding and a Content-Length"))
            }
            _ if self.minor_version == 0 => {
                Err(bad(400, "HTTP/1.0 has no Transfer-Encoding; send a Content-Length"))
            }
            ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(BodyLength::Chunked),
            _ => Err(bad(501, "The only Transfer-Encoding known here is chunked")),
        }
    }

    fn expectation(&self) -> Result<bool, Error> {
        let mut expectations = self.headers("expect").peekable();
        if expectations.peek().is_none() {
            return Ok(false);
        }
        if !expectations.all(|value| value.eq_ignore_ascii_case("100-continue")) {
            return Err(bad(417, "The only expectation known here is 100-continue"));
        }
        // RFC 9110, 10.1.1: an HTTP/1.0 client does not know `100 Continue`.
        Ok(self.minor_version == 1)
    }

    fn asks_to_close(&self) -> bool {
        self.headers("connection")
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case("close"))
    }
}

/// Finds the end of a head in bytes that arrive in pieces. A fault is reported as soon as it is
/// visible, so that the client need not wait for the deadline.
#[derive(Default)]
pub struct Scan {
    /// Number of bytes already examined.
    at: usize,
    /// Length of the current line so far.
    line: usize,
    /// Number of complete lines that were not empty.
    lines: usize,
    /// Number of empty lines before the request line.
    blank: usize,
}

impl Scan {
    /// Continues in `bytes`, which begin with those of the previous call. `Some` is the offset
    /// behind the head.
    pub fn find_end(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Error> {
        let window = &bytes[..bytes.len().min(limits.head_bytes)];
        while let Some(&byte) = window.get(self.at) {
            let after_cr = self.at > 0 && window[self.at - 1] == b'\r';
            self.at += 1;
            match (after_cr, byte) {
                (false, b'\r') => {}
                (true, b'\n') => {
                    if self.end_line()? {
                        return Ok(Some(self.at));
                    }
                }
                (true, _) | (false, b'\n') => {
                    return Err(bad(400, "A line of the head does not end with CRLF"));
                }
                (_, b'\t' | b' '..=b'~' | 0x80..) => self.line += 1,
                (_, 0x16) if self.at == 1 => return Err(bad(400, TLS_HINT)),
                _ => return Err(bad(400, "The head has a control character in it")),
            }
        }
        if window.len() < limits.head_bytes {
            Ok(None)
        } else if self.lines == 0 {
            Err(too_long(414, "The request line", limits))
        } else {
            Err(too_long(431, "The request's head", limits))
        }
    }

    /// Counts the end of a line; true if it ends the head.
    fn end_line(&mut self) -> Result<bool, Error> {
        let empty = std::mem::take(&mut self.line) == 0;
        match (empty, self.lines) {
            (true, 0) => self.blank += 1,
            (true, _) => return Ok(true),
            (false, _) => self.lines += 1,
        }
        // RFC 9112, 2.2: some clients send an empty line after a body.
        if self.blank > 2 {
            Err(bad(400, "The request begins with empty lines"))
        } else {
            Ok(false)
        }
    }
}

/// The message for a TLS handshake, whose first byte cannot begin a request.
const TLS_HINT: &str = "This port speaks plain HTTP, and this is a TLS handshake: use http://, or a \
                        proxy that ends TLS in front of it";

fn bad(status: u16, message: &str) -> Error {
    Error::BadHttp { status, message: message.to_owned() }
}

fn too_long(status: u16, what: &str, limits: &Limits) -> Error {
    bad(status, &format!("{what} is longer than {} bytes", limits.head_bytes))
}

fn unparsable(error: httparse::Error, bytes: &[u8]) -> Error {
    match error {
        httparse::Error::TooManyHeaders => bad(431, "The request has too many headers"),
        httparse::Error::Version if names_a_version(bytes) => {
            bad(505, "This server speaks HTTP/1.1 and HTTP/1.0")
        }
        httparse::Error::HeaderName => bad(400, "A header name is empty or not a token"),
        httparse::Error::HeaderValue => bad(400, "A header value has an invalid character in it"),
        _ => bad(400, "The request line is not `METHOD target HTTP/1.1`"),
    }
}

/// True if the request line is well-formed except for an HTTP version that is not supported.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_start().split(|&byte| byte == b'\r').next().unwrap_or_default();
    let version = line.split(|&byte| byte == b' ').nth(2).unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'])
}

/// Returns path and query of a target in origin or absolute form (RFC 9112, 3.2).
fn origin_form(method: &str, target: &str) -> Result<String, Error> {
    let not_a_path = || bad(400, "The target is not a path");
    let origin = match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].contains(&&*scheme.to_ascii_lowercase()) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if authority.is_empty() {
                return Err(not_a_path());
            }
            format!("/{}", path.strip_prefix('/').unwrap_or(path))
        }
        _ => target.to_owned(),
    };
    let known = origin.starts_with('/') || (origin == "*" && method == "OPTIONS");
    if known && origin.is_ascii() { Ok(origin) } else { Err(not_a_path()) }
}

/// Parses a Content-Length: digits and nothing else (RFC 9110, 8.6). Too large for `usize` counts
/// as its maximum.
fn content_length(value: &str) -> Result<usize, Error> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse::<u64>() {
        Ok(length) if digits => Ok(usize::try_from(length).unwrap_or(usize::MAX)),
        _ => Err(bad(400, "The Content-Length is not a number of bytes")),
    }
}

fn owned(header: &Header<'_>) -> (String, String) {
    (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
}
