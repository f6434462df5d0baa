//! The origins whose pages may call the server.

use super::origin::Allowed;
use crate::error::Error;
use crate::http::Head;

/// The origins that are allowed besides the server's own.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    list: Vec<Allowed>,
}

impl Origins {
    /// Reads origins: each as a browser sends it, or `*` for every one.
    ///
    /// # Errors
    /// Names an origin that no browser sends, so that it would never match.
    pub fn read(origins: &[String]) -> Result<Origins, String> {
        let origins = origins.iter().filter(|origin| !origin.trim().is_empty());
        let list = origins.map(|origin| Allowed::read(origin)).collect::<Result<_, _>>()?;
        Ok(Origins { list })
    }

    /// True if every origin is allowed.
    pub fn are_all(&self) -> bool {
        self.list.contains(&Allowed::Any)
    }

    /// Refuses a request from a page of another origin, unless that origin is allowed.
    ///
    /// Browsers identify the page in two fields that it cannot change: `Origin`, and, for addresses
    /// that they trust (`https`, `localhost`, `127.0.0.1`), `Sec-Fetch-Site`. Following a link to
    /// the server is not a page's request: it comes as a navigation, which changes nothing here.
    ///
    /// # Errors
    /// [`Error::Forbidden`] says which setting allows the origin.
    pub fn check(&self, head: &Head) -> Result<(), Error> {
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

    /// True if this origin is allowed.
    fn allows(&self, origin: &str) -> bool {
        self.list.iter().any(|allowed| match allowed {
            Allowed::Any => true,
            Allowed::Origin(allowed) => allowed.eq_ignore_ascii_case(origin),
        })
    }

    /// True if the request comes from a page of one of them.
    pub fn have_sent(&self, head: &Head) -> bool {
        head.header("origin").is_some_and(|origin| self.allows(origin))
    }

    /// Returns the header fields that let the calling page read an answer of any status; empty if
    /// no origin is allowed.
    pub fn cors_fields(&self, head: &Head) -> Vec<(&'static str, String)> {
        if self.list.is_empty() {
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

/// Header fields of answers that a page's script may read besides the standard ones: those that
/// this program sends, and those that OpenAI's and Anthropic's SDKs look for.
const EXPOSED: &str = "x-request-id, request-id, openai-processing-ms, x-should-retry, retry-after, \
                       retry-after-ms, x-langfast2api-ignored, x-langfast2api-json, \
                       x-langfast2api-tools, allow, www-authenticate";

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::access::tests::head;

    fn allowing(origins: &[&str]) -> Origins {
        let origins: Vec<String> = origins.iter().map(|origin| origin.to_string()).collect();
        Origins::read(&origins).unwrap()
    }

    fn may_come(origins: &Origins, fields: &str) -> bool {
        origins.check(&head(&fields.replace('|', "\r\n"))).is_ok()
    }

    #[test]
    fn requests_of_foreign_pages_are_refused_and_those_of_nobodys_and_own_pages_are_not() {
        let none = Origins::default();
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
            assert!(may_come(&none, fields), "{fields}");
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
            assert!(!may_come(&none, fields), "{fields}");
        }
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
            let fault = Origins::read(&[origin.to_owned()]).unwrap_err();
            assert!(fault.contains(origin), "{fault}");
        }
        assert!(Origins::read(&["http://[::1]:3000".to_owned()]).is_ok());
    }

    #[test]
    fn only_allowed_pages_are_given_leave_to_read_and_caches_are_told() {
        let names = |origins: &Origins, fields: &str| {
            let fields = origins.cors_fields(&head(fields));
            fields.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let page = "Origin: https://a.example\r\n";
        let all = ["Vary", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers"];
        assert_eq!(names(&allowing(&["https://a.example"]), page), all);
        assert_eq!(names(&allowing(&["https://b.example"]), page), ["Vary"]);
        assert!(names(&Origins::default(), page).is_empty());
    }
}
