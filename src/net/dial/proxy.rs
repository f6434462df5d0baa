//! An HTTP proxy on the way: whether its URL can be used, and the tunnel that it opens (RFC 9110,
//! CONNECT).
//!
//! Enters: a proxy's URL, and the endpoint behind it. Leaves: a socket through which the endpoint can be
//! spoken to; or what is wrong with the proxy, without the password in its URL. It may not know TLS.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::connection::TimedSocket;
use super::endpoint::{Endpoint, has_sound_port};
use super::{DialError, connect_tcp};

/// Why a proxy of another kind is not used.
const ONLY_HTTP: &str = "only http:// proxies are supported";

/// The variables that may name a proxy, in the order in which ureq looks for one.
pub(super) const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// Why a proxy's URL cannot be used.
pub(super) fn proxy_fault(url: &str) -> Option<&'static str> {
    let Ok(proxy) = ureq::Proxy::new(url) else {
        return Some("write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT");
    };
    match proxy.protocol() {
        ureq::ProxyProtocol::Http if proxy.host().is_empty() => Some("it has no host"),
        ureq::ProxyProtocol::Http if !has_sound_port(proxy.uri()) => Some("ports are 1 to 65535"),
        ureq::ProxyProtocol::Http => None,
        _ => Some(ONLY_HTTP),
    }
}

/// Opens a tunnel through an HTTP proxy (RFC 9110, CONNECT).
pub(super) fn connect_through(
    proxy: &ureq::Proxy,
    endpoint: &Endpoint,
    deadline: Instant,
) -> Result<TimedSocket, DialError> {
    let name = format!("the proxy {}:{}", proxy.host(), proxy.port());
    let failed = |why: &dyn fmt::Display| DialError::Failed(format!("{name}: {why}"));
    if proxy.protocol() != ureq::ProxyProtocol::Http {
        return Err(failed(&ONLY_HTTP));
    }
    let tcp = connect_tcp(proxy.host(), proxy.port(), deadline, &mut |_, _| {});
    let tcp = tcp.map_err(|e| failed(&e))?;
    let mut socket = TimedSocket::new(tcp, deadline);

    let target = endpoint.authority();
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(user) = proxy.username() {
        let login = format!("{user}:{}", proxy.password().unwrap_or_default());
        let login = BASE64_STANDARD.encode(login);
        request.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
    }
    request.push_str("\r\n");
    socket.write_all(request.as_bytes()).map_err(|e| failed(&e))?;
    match read_connect_status(&mut socket).map_err(|e| failed(&e))? {
        200..=299 => Ok(socket),
        407 => Err(failed(&"it wants a user and password (HTTP 407): put them into its URL")),
        status => Err(failed(&format_args!("it refused a tunnel to {target} (HTTP {status})"))),
    }
}

/// Reads the head of a proxy's answer and returns its status. Reads byte by byte, because what follows
/// belongs to the tunnel.
fn read_connect_status(socket: &mut TimedSocket) -> io::Result<u16> {
    const LONGEST_HEAD: usize = 16 * 1024;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST_HEAD || socket.read(&mut byte)? == 0 {
            return Err(io::Error::other("its answer to CONNECT is not HTTP"));
        }
        head.push(byte[0]);
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(&head);
    match (parsed, response.code) {
        (Ok(_), Some(status)) => Ok(status),
        _ => Err(io::Error::other("its answer to CONNECT is not HTTP")),
    }
}
