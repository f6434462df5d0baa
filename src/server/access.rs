//! The access rules: API keys, the host names that the server answers to without keys, and the
//! origins whose pages may call it.
//!
//! A browser sends a page's request to any address, even to a server that only this machine
//! reaches, and even if the page may not read the answer. So a request from a foreign page is
//! refused, with or without keys, unless the operator has allowed the page's origin. Programs other
//! than browsers send neither `Origin` nor `Sec-Fetch-Site` and are not affected.

mod hosts;
mod keys;
mod origin;
mod origins;
mod ring;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

pub use keys::Keys;

use hosts::Hosts;
use origins::Origins;
use ring::KeyRing;

use crate::config::secrets::Secret;
use crate::config::{BadSetting, ClientSettings};
use crate::error::Error;
use crate::http::Head;

/// The rules by which requests are let in.
#[derive(Clone, Default)]
pub struct Access {
    keys: Arc<RwLock<KeyRing>>,
    /// The names that are answered to without keys.
    hosts: Hosts,
    origins: Origins,
}

impl Access {
    /// Reads the rules that are set. Warns, in the log, of what is allowed and should not be.
    ///
    /// # Errors
    /// Keys are set and cannot be read, or none is among them; or a host or an origin can never match.
    pub fn of(settings: &ClientSettings) -> Result<Access, BadSetting> {
        let keys = match settings.api_keys()? {
            Some(found) => Keys::read(&found.text, &found.source)?,
            None => Keys::default(),
        };
        keys.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        let mut access = Access::new(keys);
        let bad = |setting| move |why: String| settings.given.bad(setting, why);
        access.origins = Origins::read(&settings.cors_origins).map_err(bad("cors_origins"))?;
        access.hosts.allow(&settings.allowed_hosts).map_err(bad("allowed_hosts"))?;
        if access.is_open_to_the_web() {
            log::warn!(
                "{}: `*` without API keys: every page that somebody opens in a browser on this \
                 machine can spend your quota. Name the origins, or set keys",
                settings.given.name("cors_origins")
            );
        }
        Ok(access)
    }

    /// Returns rules that ask for one of `keys`, or for no key if there are none.
    pub fn new(keys: Keys) -> Access {
        let access = Access::default();
        access.change_keys(keys);
        access
    }

    /// Marks each key, present and future ones, by `mark`, which must not return 0. Without this, keys are
    /// numbered, and marks end with the process.
    pub fn mark_keys(&self, mark: impl Fn(&str) -> u64 + Send + Sync + 'static) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).mark_by(Box::new(mark));
    }

    /// Reads the keys again from where they are set. Keys that cannot be read leave the present ones in
    /// place, and so does having none: a server that has asked for keys goes on to do so.
    pub fn reload_keys(&self, settings: &ClientSettings) {
        let read = |found: Secret| Keys::read(&found.text, &found.source);
        match settings.api_keys().and_then(|found| found.map(read).transpose()) {
            Ok(Some(keys)) => {
                keys.warnings.iter().for_each(|warning| log::warn!("{warning}"));
                log::info!("API keys read again: {}", keys.list.len());
                self.change_keys(keys);
            }
            Ok(None) => {}
            Err(error) => log::error!("the API keys stay as they were: {error}"),
        }
    }

    fn change_keys(&self, keys: Keys) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).replace(keys.list);
    }

    fn keys(&self) -> RwLockReadGuard<'_, KeyRing> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if every page of the web may have requests answered: all origins are allowed, and no
    /// key is needed.
    pub fn is_open_to_the_web(&self) -> bool {
        !self.has_keys() && self.origins.are_all()
    }

    /// True if requests need a key.
    pub fn has_keys(&self) -> bool {
        !self.keys().is_empty()
    }

    /// Returns one of the keys, for the program's own requests.
    pub fn any_key(&self) -> Option<String> {
        self.keys().any().map(str::to_owned)
    }

    /// Refuses to listen on an address that other machines reach unless keys are set.
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

    /// Without keys, restricts requests to local names, IP addresses, and the allowed names.
    ///
    /// A web page can make its own name resolve to 127.0.0.1 (DNS rebinding) and would be let in
    /// otherwise; it cannot send any other name than its own.
    pub fn restrict_hosts(&mut self) {
        self.hosts.restrict();
    }

    /// Refuses a request for a host name that the server does not answer to. With keys, it answers to all.
    ///
    /// # Errors
    /// [`Error::Forbidden`] says which setting allows the name.
    pub fn check_host(&self, head: &Head) -> Result<(), Error> {
        if self.has_keys() { Ok(()) } else { self.hosts.check(head) }
    }

    /// Refuses a request from a page of another origin, unless that origin is allowed.
    ///
    /// # Errors
    /// [`Error::Forbidden`] says which setting allows the origin.
    pub fn check_origin(&self, head: &Head) -> Result<(), Error> {
        self.origins.check(head)
    }

    /// Returns the owner of a request: the mark of the key that it brings; 0 if no key is asked for.
    ///
    /// # Errors
    /// [`Error::Unauthorized`]: its key does not count any more. The messages of a WebSocket may come long
    /// after its head was let in.
    pub fn owner(&self, head: &Head) -> Result<u64, Error> {
        self.keys().owner(head)
    }

    /// Refuses a request that brings no valid key, if keys are set. A key comes as `Authorization:
    /// Bearer KEY`, `x-api-key: KEY` (Anthropic's) or `api-key: KEY` (Azure's).
    ///
    /// # Errors
    /// [`Error::Unauthorized`].
    pub fn check_key(&self, head: &Head) -> Result<(), Error> {
        self.keys().check(head)
    }

    /// Returns the keys that a request brings, valid or not: what tells one client of ours from another.
    pub fn keys_given(head: &Head) -> Vec<&str> {
        ring::given(head).collect()
    }

    /// True if a browser asks, for a page of an allowed origin, whether that page may send its request.
    pub fn is_preflight(&self, head: &Head) -> bool {
        head.method == "OPTIONS" && self.origins.have_sent(head)
    }

    /// Returns the header fields that let the calling page read an answer of any status; empty if
    /// no origin is allowed.
    pub fn cors_fields(&self, head: &Head) -> Vec<(&'static str, String)> {
        self.origins.cors_fields(head)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::http::Limits;

    pub fn head(fields: &str) -> Head {
        let text = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        Head::parse(text.as_bytes(), &Limits::default()).unwrap()
    }

    pub fn head_for(host: &str) -> Head {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Head::parse(text.as_bytes(), &Limits::default()).unwrap()
    }

    fn access(keys: &str) -> Access {
        Access::new(Keys::read(keys, "KEYS").map_err(|e| e.0).unwrap())
    }

    #[test]
    fn hosts_are_restricted_only_as_long_as_there_are_no_keys() {
        let mut access = Access::default();
        access.restrict_hosts();
        assert!(access.check_host(&head_for("localhost")).is_ok());
        assert!(access.check_host(&head_for("evil.example")).is_err());
        access.change_keys(Keys::read("k", "KEYS").map_err(|e| e.0).unwrap());
        assert!(access.check_host(&head_for("evil.example")).is_ok());
    }

    #[test]
    fn a_key_does_not_let_a_foreign_page_in() {
        let access = access("sk-alice-0123456789");
        let page = head("Origin: https://evil.example\r\nx-api-key: sk-alice-0123456789\r\n");
        assert!(access.check_origin(&page).is_err());
        assert!(access.check_key(&page).is_ok());
    }

    #[test]
    fn a_server_without_keys_that_allows_every_origin_is_open_to_the_web() {
        let allowing = |origin: &str, mut access: Access| {
            access.origins = Origins::read(&[origin.to_owned()]).unwrap();
            access
        };
        assert!(allowing("*", Access::default()).is_open_to_the_web());
        assert!(!allowing("https://a.example", Access::default()).is_open_to_the_web());
        assert!(!allowing("*", access("sk-alice-0123456789")).is_open_to_the_web());
    }
}
