//! Who may come in: API keys, the names the server answers to when there are none, and the origins
//! whose pages may call it.

use std::net::{IpAddr, SocketAddr};

use subtle::ConstantTimeEq;

use crate::config::BadSetting;
use crate::error::Error;
use crate::front::Head;

/// The rules.
#[derive(Clone, Default)]
pub struct Access {
    keys: Vec<String>,
    /// Names in `Host` that are let in without a key; `None` lets every name in.
    hosts: Option<Vec<String>>,
    origins: Vec<String>,
}

impl Access {
    /// Rules for these API keys, separated by commas or white space; a line that begins with `#` is a
    /// comment. Origins are as a browser sends them, or `*`.
    pub fn new(keys: Option<&str>, origins: &[String]) -> Access {
        let lines = keys.unwrap_or_default().lines();
        let keys = lines
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| line.split([',', ' ', '\t']))
            .filter(|key| !key.is_empty())
            .map(str::to_owned)
            .collect();
        let origins = origins.iter().map(|origin| origin.trim_end_matches('/').to_owned());
        Access { keys, hosts: None, origins: origins.filter(|o| !o.is_empty()).collect() }
    }

    /// Whether a key is asked for.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// One of the keys, for requests of the program's own.
    pub fn any_key(&self) -> Option<&str> {
        self.keys.first().map(String::as_str)
    }

    /// Refuses an address that other machines reach, if no key is asked for.
    ///
    /// # Errors
    /// [`BadSetting`] says what to set.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), BadSetting> {
        if self.has_keys() || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(BadSetting(format!(
            "refusing to listen on {address} without an API key: everybody who reaches it could use \
             your LangFast account. Set LANGFAST2API_API_KEYS (or LANGFAST2API_API_KEYS_FILE), or \
             listen on 127.0.0.1"
        )))
    }

    /// Lets in, without a key, only requests for a local name, an IP address, or one of these names.
    ///
    /// A page on the web can make its own name mean 127.0.0.1 (DNS rebinding) and would be let in
    /// otherwise; what it cannot do is to send another name than its own.
    pub fn check_hosts(&mut self, names: &[String]) {
        self.hosts = Some(names.iter().map(|name| name.to_ascii_lowercase()).collect());
    }

    /// Refuses a request for a name that the server does not answer to.
    ///
    /// # Errors
    /// [`Error::Forbidden`] says which setting allows the name.
    pub fn check_host(&self, head: &Head) -> Result<(), Error> {
        let Some(names) = self.hosts.as_ref().filter(|_| !self.has_keys()) else { return Ok(()) };
        // HTTP/1.0 has no Host, and no browser speaks it.
        let Some(host) = head.header("host") else { return Ok(()) };
        let name = host_name(host).to_ascii_lowercase();
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if is_local || name.parse::<IpAddr>().is_ok() || names.contains(&name) {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "Requests for the host {name} are not let in without an API key. Set one \
             (LANGFAST2API_API_KEYS), or allow the name (LANGFAST2API_ALLOWED_HOSTS)"
        )))
    }

    /// Refuses a request without a key, or with a wrong one, if keys are set. A key comes as
    /// `Authorization: Bearer KEY` or `x-api-key: KEY`.
    ///
    /// # Errors
    /// [`Error::Unauthorized`].
    pub fn check_key(&self, head: &Head) -> Result<(), Error> {
        if !self.has_keys() {
            return Ok(());
        }
        let bearer = head.header("authorization").and_then(|value| {
            let (scheme, key) = value.trim().split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let Some(given) = bearer.or_else(|| head.header("x-api-key").map(str::trim)) else {
            return Err(Error::Unauthorized(
                "You didn't provide an API key. Send it as `Authorization: Bearer KEY` or \
                 `x-api-key: KEY`",
            ));
        };
        // All keys are compared, whole, so that the time taken tells nothing of them.
        let equal = |key: &String| key.as_bytes().ct_eq(given.as_bytes());
        let any = self.keys.iter().map(equal).fold(subtle::Choice::from(0), |any, one| any | one);
        if any.into() { Ok(()) } else { Err(Error::Unauthorized("Incorrect API key provided")) }
    }

    /// The value of `Access-Control-Allow-Origin` for a request, if its page may call the server.
    pub fn allowed_origin<'a>(&self, head: &'a Head) -> Option<&'a str> {
        let origin = head.header("origin")?;
        let allowed = self.origins.iter().any(|allowed| allowed == "*" || allowed == origin);
        allowed.then_some(origin)
    }
}

/// The name in a `Host` field, without a port and brackets.
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
    use crate::front::Limits;

    fn head(fields: &str) -> Head {
        let text = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        Head::parse(text.as_bytes(), &Limits::default()).unwrap()
    }

    fn head_for(host: &str) -> Head {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Head::parse(text.as_bytes(), &Limits::default()).unwrap()
    }

    #[test]
    fn any_of_the_keys_opens_by_either_header_and_nothing_else_does() {
        let access = Access::new(Some("# ours\none, two\nthree"), &[]);
        for field in ["Authorization: Bearer one", "authorization: bearer  two", "x-api-key: three"]
        {
            assert!(access.check_key(&head(&format!("{field}\r\n"))).is_ok(), "{field}");
        }
        for field in ["", "x-api-key: on\r\n", "Authorization: one\r\n", "x-api-key: # ours\r\n"] {
            assert!(access.check_key(&head(field)).is_err(), "{field}");
        }
        assert!(Access::new(Some("# none"), &[]).check_key(&head("")).is_ok());
    }

    #[test]
    fn without_a_key_only_local_names_addresses_and_allowed_names_are_answered_to() {
        let mut access = Access::new(None, &[]);
        access.check_hosts(&["My.host".to_owned()]);
        for host in ["localhost:8000", "127.0.0.1", "[::1]:8000", "a.localhost", "my.host:80"] {
            assert!(access.check_host(&head_for(host)).is_ok(), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000"] {
            assert!(access.check_host(&head_for(host)).is_err(), "{host}");
        }
        let with_key = Access { keys: vec!["k".to_owned()], ..access };
        assert!(with_key.check_host(&head_for("evil.example")).is_ok());
    }

    #[test]
    fn only_listed_origins_may_call() {
        let from = head("Origin: https://a.example\r\n");
        let allowed = |origins: &[&str]| {
            let origins: Vec<String> = origins.iter().map(|o| o.to_string()).collect();
            Access::new(None, &origins).allowed_origin(&from).is_some()
        };
        assert!(allowed(&["https://a.example/"]) && allowed(&["*"]));
        assert!(!allowed(&[]) && !allowed(&["https://b.example", "a.example"]));
    }
}
