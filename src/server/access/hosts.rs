//! The host names that the server answers to.

use std::net::IpAddr;

use crate::error::Error;
use crate::http::Head;

/// The host names that requests may be sent to; any, unless they are restricted.
#[derive(Clone, Default)]
pub struct Hosts {
    /// Names that are allowed besides local ones, in lower case.
    names: Vec<String>,
    is_restricted: bool,
}

impl Hosts {
    /// Allows these names.
    ///
    /// # Errors
    /// Names one that no client sends as a host, so that it would never match.
    pub fn allow(&mut self, names: &[String]) -> Result<(), String> {
        let names = names.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        for name in names {
            match host_fault(name) {
                Some(why) => return Err(format!("`{name}` can never match: {why}")),
                None => self.names.push(name.to_ascii_lowercase()),
            }
        }
        Ok(())
    }

    /// Restricts requests to local names, IP addresses, and the allowed names.
    pub fn restrict(&mut self) {
        self.is_restricted = true;
    }

    /// Refuses a request for any other name.
    ///
    /// # Errors
    /// [`Error::Forbidden`] says which setting allows the name.
    pub fn check(&self, head: &Head) -> Result<(), Error> {
        if !self.is_restricted {
            return Ok(());
        }
        // HTTP/1.0 allows requests without Host, and no browser speaks it.
        let Some(host) = head.header("host") else { return Ok(()) };
        let name = host_name(host).to_ascii_lowercase();
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if is_local || name.parse::<IpAddr>().is_ok() || self.names.contains(&name) {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "Requests for the host {name} are not let in without an API key. Set one \
             (LANGFAST2API_API_KEYS), or allow the name (LANGFAST2API_ALLOWED_HOSTS)"
        )))
    }
}

/// The reason that no client can send `name` as a host; `None` if one can.
fn host_fault(name: &str) -> Option<&'static str> {
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return None;
    }
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match name {
        _ if name.contains("://") => Some("write the name alone, without a scheme"),
        _ if name.contains('/') => Some("write the name alone, without a path"),
        _ if name.contains('*') => Some("names are compared as a whole; write each, without `*`"),
        _ if name.contains(':') => Some("write the name alone, without a port"),
        _ if !name.is_ascii() => Some("write it as clients send it, in ASCII (xn--…)"),
        _ if !name.bytes().all(is_of_name) => Some("it is no name of a host"),
        _ => None,
    }
}

/// Returns the name in a `Host` field, without port and brackets.
fn host_name(host: &str) -> &str {
    let host = host.trim();
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::access::tests::head_for;

    #[test]
    fn only_local_names_addresses_and_allowed_names_are_answered_to_if_hosts_are_restricted() {
        let mut hosts = Hosts::default();
        assert!(hosts.check(&head_for("evil.example")).is_ok());
        hosts.allow(&[" My.host ".to_owned()]).unwrap();
        hosts.restrict();
        for host in ["localhost:8000", "127.0.0.1", "[::1]:8000", "a.localhost", "my.host:80"] {
            assert!(hosts.check(&head_for(host)).is_ok(), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000"] {
            assert!(hosts.check(&head_for(host)).is_err(), "{host}");
        }
    }

    #[test]
    fn hosts_that_no_client_asks_for_are_refused_as_settings() {
        for host in [
            "https://a.example",
            "a.example:8000",
            "a.example/v1",
            "*.example",
            "b\u{fc}cher.example",
            "a example",
        ] {
            let fault = Hosts::default().allow(&[host.to_owned()]).unwrap_err();
            assert!(fault.contains(host), "{fault}");
        }
        for host in ["a.example", "[::1]", "10.0.0.1", "my_host", "", "xn--bcher-kva.example"] {
            assert!(Hosts::default().allow(&[host.to_owned()]).is_ok(), "{host}");
        }
    }
}
