//! The address of a server, read from a URL and written into others.
//!
//! Enters: `http(s)://` or `ws(s)://host[:port][/base]`, as a setting has it. Leaves: host, port, TLS or
//! not, and URLs below the base. It may not know names' addresses nor sockets.

use ureq::http::Uri;

/// The address of a server, parsed from a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether to speak TLS.
    pub tls: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path in front of every request's path, without a trailing slash.
    pub base: String,
}

impl Endpoint {
    /// Reads `http(s)://` or `ws(s)://host[:port][/base]`.
    ///
    /// # Errors
    /// A description of what is wrong with the URL.
    pub fn parse(url: &str) -> Result<Endpoint, String> {
        let bad = |why: &str| format!("`{url}` cannot be used: {why}");
        let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("https" | "wss") => true,
            Some("http" | "ws") => false,
            _ => return Err(bad("it must begin with https://, http://, wss:// or ws://")),
        };
        if uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(bad("give scheme, host, port and path only"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("no host"))?;
        if !has_sound_port(&uri) {
            return Err(bad("ports are 1 to 65535"));
        }
        Ok(Endpoint {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// `host:port`, the host in brackets if it is an IPv6 address.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The URL of `path` at this endpoint, with `scheme` `http` or `ws`; TLS adds the `s`. The scheme's
    /// default port is left out, as browsers do, because the URL becomes the `Host` header.
    pub fn url(&self, scheme: &str, path: &str) -> String {
        let (s, own_port) = if self.tls { ("s", ":443") } else { ("", ":80") };
        let authority = self.authority();
        let authority = authority.strip_suffix(own_port).unwrap_or(&authority);
        format!("{scheme}{s}://{authority}{}{path}", self.base)
    }
}

/// Whether a URL has no port, or one that there can be: a larger number is passed over in silence by
/// [`Uri::port_u16`].
pub(super) fn has_sound_port(uri: &Uri) -> bool {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let behind_host = authority.rsplit(['@', ']']).next().unwrap_or(authority);
    match behind_host.split_once(':') {
        Some((_, port)) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_from_http_and_ws_urls() {
        let endpoint = Endpoint::parse("wss://runner.example/base/").unwrap();
        assert_eq!(endpoint.url("http", "/x"), "https://runner.example/base/x");
        let endpoint = Endpoint::parse("http://[::1]:9000").unwrap();
        assert_eq!((endpoint.tls, endpoint.host.as_str()), (false, "::1"));
        assert_eq!(endpoint.url("ws", "/x"), "ws://[::1]:9000/x");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_in_words() {
        for url in ["", "example.com", "ftp://x", "https://", "https://u:p@h/", "https://h/?q"] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
        for url in ["https://h:99999", "https://h:0", "http://[::1]:65536/x"] {
            assert!(Endpoint::parse(url).unwrap_err().contains("ports are 1 to 65535"), "{url}");
        }
    }

    #[test]
    fn the_schemes_own_port_is_left_out_of_urls_and_any_other_is_not() {
        for (given, url) in [
            ("https://a.example", "https://a.example/x"),
            ("https://a.example:443/", "https://a.example/x"),
            ("https://a.example:80", "https://a.example:80/x"),
            ("http://[::1]:80", "http://[::1]/x"),
            ("http://[::1]:443", "http://[::1]:443/x"),
        ] {
            assert_eq!(Endpoint::parse(given).unwrap().url("http", "/x"), url, "{given}");
        }
    }
}
