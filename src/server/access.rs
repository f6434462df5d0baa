//! The access rules: API keys, the host names that the server answers to without keys, and the
//! origins whose pages may call it.
//!
//! A browser sends a page's request to any address, even to a server that only this machine
//! reaches, and even if the page may not read the answer. So a request from a foreign page is
//! refused, with or without keys, unless the operator has allowed the page's origin. Programs other
//! than browsers send neither `Origin` nor `Sec-Fetch-Site` and are not affected.

mod keys;
mod origin;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use subtle::ConstantTimeEq;

pub use keys::Keys;

use keys::KeyRing;
use origin::Allowed;

use crate::config::secrets::Secret;
use crate::config::{BadSetting, ClientSettings};
use crate::error::Error;
use crate::http::Head;

/// The rules by which requests are let in.
#[derive(Clone, Default)]
pub struct Access {
    keys: Arc<RwLock<KeyRing>>,
    /// Host names that are let in without a key, in lower case.
    hosts: Vec<String>,
    /// Whether no other name is let in without a key.
    are_hosts_checked: bool,
    origins: Vec<Allowed>,
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
        access.allow_origins(&settings.cors_origins).map_err(bad("cors_origins"))?;
        access.allow_hosts(&settings.allowed_hosts).map_err(bad("allowed_hosts"))?;
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

    /// Gives each key, now and later, a mark that outlives this process, not 0. Without it, keys are numbered.
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

    /// Lets the pages of these origins call: each as a browser sends it, or `*` for every one.
    ///
    /// # Errors
    /// Names an origin that no browser sends, so that it would never match.
    pub fn allow_origins(&mut self, origins: &[String]) -> Result<(), String> {
        let origins = origins.iter().filter(|origin| !origin.trim().is_empty());
        self.origins = origins.map(|origin| Allowed::read(origin)).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// True if every page of the web may have requests answered: all origins are allowed, and no
    /// key is needed.
    pub fn is_open_to_the_web(&self) -> bool {
        !self.has_keys() && self.origins.contains(&Allowed::Any)
    }

    /// True if requests need a key.
    pub fn has_keys(&self) -> bool {
        !self.keys().keys.is_empty()
    }

    /// Returns one of the keys, for the program's own requests.
    pub fn any_key(&self) -> Option<String> {
        self.keys().keys.first().map(|key| key.text.clone())
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

    /// Lets requests for these names in without a key.
    ///
    /// # Errors
    /// Names one that no client sends as a host, so that it would never match.
    pub fn allow_hosts(&mut self, names: &[String]) -> Result<(), String> {
        let names = names.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        for name in names {
            match host_fault(name) {
                Some(why) => return Err(format!("`{name}` can never match: {why}")),
                None => self.hosts.push(name.to_ascii_lowercase()),
            }
        }
        Ok(())
    }

    /// Without keys, restricts requests to local names, IP addresses, and the allowed names.
    ///
    /// A web page can make its own name resolve to 127.0.0.1 (DNS rebinding) and would be let in
    /// otherwise; it cannot send any other name than its own.
    pub fn restrict_hosts(&mut self) {
        self.are_hosts_checked = true;
    }

    /// Refuses a request for a host name that the server does not answer to.
    ///
    /// # Errors
    /// [`Error::Forbidden`] says which setting allows the name.
    pub fn check_host(&self, head: &Head) -> Result<(), Error> {
        if self.has_keys() || !self.are_hosts_checked {
            return Ok(());
        }
        // HTTP/1.0 allows requests without Host, and no browser speaks it.
        let Some(host) = head.header("host") else { return Ok(()) };
        let name = host_name(host).to_ascii_lowercase();
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if is_local || name.parse::<IpAddr>().is_ok() || self.hosts.contains(&name) {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "Requests for the host {name} are not let in without an API key. Set one \
             (LANGFAST2API_API_KEYS), or allow the name (LANGFAST2API_ALLOWED_HOSTS)"
        )))
    }

    /// Refuses a request from a page of another origin, unless that origin is allowed.
    ///
    /// Browsers identify the page in two fields that it cannot change: `Origin`, and, for addresses
    /// that they trust (`https`, `localhost`, `127.0.0.1`), `Sec-Fetch-Site`. Following a link to
    /// the server is not a page's request: it comes as a navigation, which changes nothing here.
    ///
    /// # Errors
    /// [`Error::Forbidden`] says which setting allows the origin.
    pub fn check_origin(&self, head: &Head) -> Result<(), Error> {
        // An empty one says nothing of whose page it is.
        let origins = || head.headers("origin").filter(|origin| !origin.is_empty());
        let foreign = origins().find(|origin| !self.may_call(head, origin));
        let is_foreign = match (foreign, origins().next(), head.header("sec-fetch-site")) {
            (Some(_), ..) => true,
            (None, Some(_), _) => false,
            (None, None, None | Some("same-origin" | "none")) => false,
            (None, None, Some(_)) => !is_navigation(head),
        };
        if !is_foreign {
            return Ok(());
        }
        let who = match foreign.filter(|origin| is_presentable(origin)) {
            Some(origin) => format!("of the origin {origin}"),
            None => "of another origin".to_owned(),
        };
        Err(Error::Forbidden(format!(
            "Pages {who} may not call this server. If this one is to, add its origin to \
             LANGFAST2API_CORS_ORIGINS"
        )))
    }

    /// True if a page of this origin may have sent the request: it is allowed, or the server's own.
    fn may_call(&self, head: &Head, origin: &str) -> bool {
        let own = match head.header("sec-fetch-site") {
            Some("same-origin") => true,
            Some("same-site" | "cross-site") => false,
            _ => is_own(head, origin),
        };
        own || self.allows(origin)
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| match allowed {
            Allowed::Any => true,
            Allowed::Origin(allowed) => allowed.eq_ignore_ascii_case(origin),
        })
    }

    /// Returns whose the request is: the mark of the key that it brings; 0 if none is asked for.
    ///
    /// # Errors
    /// [`Error::Unauthorized`]: its key does not count any more. The messages of a WebSocket may come long
    /// after its head was let in.
    pub fn owner(&self, head: &Head) -> Result<u64, Error> {
        let given: Vec<&str> = given_keys(head).collect();
        let is_given = |key: &str| {
            let equal = given.iter().map(|given| key.as_bytes().ct_eq(given.as_bytes()));
            equal.fold(subtle::Choice::from(0), |any, one| any | one)
        };
        // All are compared, as in `check_key`.
        let ring = self.keys();
        let own = ring.keys.iter().filter(|key| is_given(&key.text).into());
        match own.fold(0, |first, key| if first == 0 { key.mark } else { first }) {
            0 if !ring.keys.is_empty() => Err(Error::Unauthorized(WRONG_KEY)),
            mark => Ok(mark),
        }
    }

    /// Refuses a request that brings no valid key, if keys are set. A key comes as `Authorization:
    /// Bearer KEY`, `x-api-key: KEY` (Anthropic's) or `api-key: KEY` (Azure's).
    ///
    /// # Errors
    /// [`Error::Unauthorized`].
    pub fn check_key(&self, head: &Head) -> Result<(), Error> {
        if !self.has_keys() {
            return Ok(());
        }
        let given: Vec<&str> = given_keys(head).collect();
        if given.is_empty() {
            return Err(Error::Unauthorized(
                "You didn't provide an API key. Send it as `Authorization: Bearer KEY`, \
                 `x-api-key: KEY` or `api-key: KEY`",
            ));
        }
        // All pairs are compared, and whole, so that the time taken reveals nothing of the keys.
        let ring = self.keys();
        let pairs = given.iter().flat_map(|given| ring.keys.iter().map(move |key| (given, key)));
        let equal = pairs.map(|(given, key)| key.text.as_bytes().ct_eq(given.as_bytes()));
        let any = equal.fold(subtle::Choice::from(0), |any, one| any | one);
        if any.into() { Ok(()) } else { Err(Error::Unauthorized(WRONG_KEY)) }
    }

    /// Returns the keys that a request brings, valid or not: what tells one client of ours from another.
    pub fn keys_given(head: &Head) -> Vec<&str> {
        given_keys(head).collect()
    }

    /// True if the request comes from a page of an allowed origin.
    pub fn comes_from_allowed_page(&self, head: &Head) -> bool {
        head.header("origin").is_some_and(|origin| self.allows(origin))
    }

    /// Returns the header fields that let the calling page read an answer of any status; empty if
    /// no origin is allowed.
    pub fn cors_fields(&self, head: &Head) -> Vec<(&'static str, String)> {
        if self.origins.is_empty() {
            return Vec::new();
        }
        // Tells caches that the answer depends on the origin.
        let mut fields = vec![("Vary", "Origin".to_owned())];
        if let Some(origin) = head.header("origin").filter(|origin| self.allows(origin)) {
            fields.push(("Access-Control-Allow-Origin", origin.to_owned()));
            fields.push(("Access-Control-Expose-Headers", EXPOSED.to_owned()));
        }
        fields
    }
}

/// What a client is told whose key is none that counts.
const WRONG_KEY: &str = "Incorrect API key provided";

/// Header fields of answers that a page's script may read besides the standard ones: those that
/// this program sends, and those that OpenAI's and Anthropic's SDKs look for.
const EXPOSED: &str = "x-request-id, request-id, openai-processing-ms, x-should-retry, retry-after, \
                       retry-after-ms, x-langfast2api-ignored, x-langfast2api-json, \
                       x-langfast2api-tools, allow, www-authenticate";

/// Why no client sends `name` as the host that it asks for, if so.
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

/// Returns all keys in a request. A client that is given a key may send it beside another one that
/// is meant for a different server.
fn given_keys(head: &Head) -> impl Iterator<Item = &str> {
    let bearer = head.headers("authorization").filter_map(|value| {
        let (scheme, key) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let own = ["x-api-key", "api-key"].into_iter().flat_map(|name| head.headers(name));
    bearer.chain(own.map(str::trim)).filter(|key| !key.is_empty())
}

/// True if an origin is the name and port that the request was sent to.
fn is_own(head: &Head, origin: &str) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let host = head.header("host").map(str::trim);
    authority.is_some()
        && authority.map(str::to_ascii_lowercase) == host.map(str::to_ascii_lowercase)
}

/// True if somebody opened the URL in a window of its own, by a link or otherwise.
fn is_navigation(head: &Head) -> bool {
    let is = |name: &str, value: &str| head.header(name).is_none_or(|found| found == value);
    ["GET", "HEAD"].contains(&&*head.method)
        && head.header("sec-fetch-mode") == Some("navigate")
        && is("sec-fetch-dest", "document")
}

/// True if an origin is fit to be repeated in a message.
fn is_presentable(origin: &str) -> bool {
    origin.len() <= 100 && origin.bytes().all(|byte| byte.is_ascii_graphic())
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
    use crate::http::Limits;

    fn head(fields: &str) -> Head {
        let text = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        Head::parse(text.as_bytes(), &Limits::default()).unwrap()
    }

    fn head_for(host: &str) -> Head {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Head::parse(text.as_bytes(), &Limits::default()).unwrap()
    }

    fn access(keys: &str) -> Access {
        Access::new(Keys::read(keys, "KEYS").map_err(|e| e.0).unwrap())
    }

    #[test]
    fn any_of_the_keys_opens_by_any_header_and_nothing_else_does() {
        let access = access("# ours\none, two\nthree");
        for field in [
            "Authorization: Bearer one",
            "authorization: bearer  two",
            "x-api-key: three",
            "api-key: three",
            "Authorization: Bearer other\r\nx-api-key: one",
            "Authorization: Bearer one\r\nx-api-key: other",
            "Authorization: Basic b3RoZXI=\r\nAuthorization: Bearer one",
        ] {
            assert!(access.check_key(&head(&format!("{field}\r\n"))).is_ok(), "{field}");
        }
        for field in [
            "",
            "x-api-key: on\r\n",
            "Authorization: one\r\n",
            "x-api-key: # ours\r\n",
            "Authorization: Bearer on\r\nx-api-key: e\r\n",
            "x-api-key: one, two\r\n",
        ] {
            assert!(access.check_key(&head(field)).is_err(), "{field}");
        }
    }

    #[test]
    fn keys_can_be_changed_and_one_that_stays_is_known_by_the_same_number() {
        let access = access("one, two");
        let with = |key: &str| head(&format!("x-api-key: {key}\r\n"));
        let number = |key: &str| access.owner(&with(key)).unwrap();
        let [one, two] = ["one", "two"].map(number);
        access.change_keys(Keys::read("three, two, two", "KEYS").map_err(|e| e.0).unwrap());
        assert!(access.check_key(&with("one")).is_err());
        assert!(access.owner(&with("one")).is_err(), "nobody else's number");
        assert!(access.check_key(&with("three")).is_ok());
        assert_eq!(number("two"), two);
        assert!(![0, one, two].contains(&number("three")), "{}", number("three"));
    }

    #[test]
    fn without_a_key_only_local_names_addresses_and_allowed_names_are_answered_to() {
        let mut access = Access::default();
        access.allow_hosts(&[" My.host ".to_owned()]).unwrap();
        access.restrict_hosts();
        for host in ["localhost:8000", "127.0.0.1", "[::1]:8000", "a.localhost", "my.host:80"] {
            assert!(access.check_host(&head_for(host)).is_ok(), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000"] {
            assert!(access.check_host(&head_for(host)).is_err(), "{host}");
        }
        access.change_keys(Keys::read("k", "KEYS").map_err(|e| e.0).unwrap());
        let with_key = access;
        assert!(with_key.check_host(&head_for("evil.example")).is_ok());
    }

    fn allowing(origins: &[&str]) -> Access {
        let mut access = Access::default();
        let origins: Vec<String> = origins.iter().map(|origin| origin.to_string()).collect();
        access.allow_origins(&origins).unwrap();
        access
    }

    fn may_come(access: &Access, fields: &str) -> bool {
        access.check_origin(&head(&fields.replace('|', "\r\n"))).is_ok()
    }

    #[test]
    fn requests_of_foreign_pages_are_refused_and_those_of_nobodys_and_own_pages_are_not() {
        let access = Access::default();
        for fields in [
            "",
            "Origin: |",
            "Origin: http://localhost|",
            "Origin: HTTP://LOCALHOST|",
            "Sec-Fetch-Site: none|",
            "Sec-Fetch-Site: same-origin|",
            "Origin: http://localhost|Sec-Fetch-Site: same-origin|",
            // A proxy in front may have changed the host name that the browser asked for.
            "Origin: https://api.example|Sec-Fetch-Site: same-origin|",
            "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document|",
        ] {
            assert!(may_come(&access, fields), "{fields}");
        }
        for fields in [
            "Origin: https://evil.example|",
            "Origin: null|",
            "Origin: http://localhost:3000|",
            "Origin: https://localhost.evil.example|",
            "Origin: localhost|",
            "Origin: chrome-extension://abc|Sec-Fetch-Site: none|",
            "Origin: http://localhost|Origin: https://evil.example|",
            "Origin: http://localhost:3000|Sec-Fetch-Site: same-site|",
            "Origin: https://evil.example|Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|",
            "Sec-Fetch-Site: cross-site|",
            "Sec-Fetch-Site: same-site|Sec-Fetch-Mode: no-cors|",
            "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: iframe|",
            "Sec-Fetch-Site: never heard of|",
            "Origin: |Sec-Fetch-Site: cross-site|",
        ] {
            assert!(!may_come(&access, fields), "{fields}");
        }
    }

    #[test]
    fn a_key_does_not_let_a_foreign_page_in() {
        let access = access("sk-alice-0123456789");
        assert!(!may_come(&access, "Origin: https://evil.example|x-api-key: sk-alice-0123456789|"));
    }

    #[test]
    fn pages_of_allowed_origins_may_call() {
        let origin = "Origin: https://a.example|Sec-Fetch-Site: cross-site|";
        for allowed in ["https://a.example", " HTTPS://A.example/ ", "https://a.example:443", "*"] {
            assert!(may_come(&allowing(&["https://b.example", allowed]), origin), "{allowed}");
        }
        assert!(!may_come(&allowing(&["https://b.example", "https://a.example:8443"]), origin));
        assert!(may_come(&allowing(&["null"]), "Origin: null|"));
        assert!(may_come(&allowing(&["file://"]), "Origin: file://|"));
        assert!(!may_come(&allowing(&["null"]), "Origin: file://|"));
        assert!(!may_come(&allowing(&["https://a.example"]), "Origin: null|"));
        let extension = "chrome-extension://abcdefgh";
        assert!(may_come(&allowing(&[extension]), &format!("Origin: {extension}|")));
    }

    #[test]
    fn origins_that_no_browser_sends_are_refused_as_settings() {
        for origin in [
            "a.example",
            "https://",
            "https://a.example/path",
            "://a",
            "https://*.a.b",
            "https://a.example:99999",
            "https://a.example:",
            "https://a.example:080",
            "https://:443",
        ] {
            let fault = Access::default().allow_origins(&[origin.to_owned()]).unwrap_err();
            assert!(fault.contains(origin), "{fault}");
        }
        assert!(Access::default().allow_origins(&["http://[::1]:3000".to_owned()]).is_ok());
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
            let fault = Access::default().allow_hosts(&[host.to_owned()]).unwrap_err();
            assert!(fault.contains(host), "{fault}");
        }
        for host in ["a.example", "[::1]", "10.0.0.1", "my_host", "", "xn--bcher-kva.example"] {
            assert!(Access::default().allow_hosts(&[host.to_owned()]).is_ok(), "{host}");
        }
    }

    #[test]
    fn only_allowed_pages_are_given_leave_to_read_and_caches_are_told() {
        let names = |access: &Access, fields: &str| {
            let fields = access.cors_fields(&head(fields));
            fields.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let page = "Origin: https://a.example\r\n";
        let all = ["Vary", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers"];
        assert_eq!(names(&allowing(&["https://a.example"]), page), all);
        assert_eq!(names(&allowing(&["https://b.example"]), page), ["Vary"]);
        assert!(names(&Access::default(), page).is_empty());
    }

    #[test]
    fn a_server_without_keys_that_allows_every_origin_is_open_to_the_web() {
        assert!(allowing(&["*"]).is_open_to_the_web());
        assert!(!allowing(&["https://a.example"]).is_open_to_the_web());
        let with_keys = Access { origins: vec![Allowed::Any], ..access("sk-alice-0123456789") };
        assert!(!with_keys.is_open_to_the_web());
    }
}
