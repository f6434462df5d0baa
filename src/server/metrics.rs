//! `/metrics`: the server's counters and state, in Prometheus' formats.
//!
//! Each scrape builds a new registry. Counters are handles, so this is cheap; values that are only
//! known at this moment (the process's memory, the session's expiry) are left out when they are not
//! known.

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

mod process;

use crate::http::Head;
use crate::http::answer::Answer;
use crate::langfast::LangFast;
use crate::net::dial::TLS;
use crate::server::Service;
use crate::stored::Store;

const OPENMETRICS: &str = "application/openmetrics-text";
const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers with all metrics, in OpenMetrics' format if the client prefers it, else in Prometheus'
/// older text format.
///
/// # Errors
/// The client has gone.
pub fn send(answer: &mut Answer, service: &Service) -> std::io::Result<()> {
    let registry = registry(service);
    let is_openmetrics = prefers_openmetrics(&answer.exchange().head);
    let mut body = String::new();
    let (content_type, encoded) = match is_openmetrics {
        true => (OPENMETRICS_TYPE, text::encode(&mut body, &registry)),
        false => (prometheus_text::CONTENT_TYPE, prometheus_text::encode(&mut body, &registry)),
    };
    encoded.expect("a String takes everything");
    answer.field("Cache-Control", "no-store");
    answer.field("Vary", "Accept");
    answer.whole(200, content_type, &body)
}

fn prefers_openmetrics(head: &Head) -> bool {
    let openmetrics = head.accepts(OPENMETRICS).unwrap_or(0.0);
    openmetrics > 0.0 && openmetrics >= head.accepts("text/plain").unwrap_or(0.0)
}

fn registry(service: &Service) -> Registry {
    let (vitals, langfast) = (&service.vitals, &service.completions.langfast);
    let mut registry = Registry::default();
    registry.register("langfast2api_build", "The program", Info::new(Build::of_this_program()));
    vitals.register(&mut registry);
    langfast.vitals().register(&mut registry);
    register_langfast(langfast, &mut registry);
    register_stored(&service.stored, &mut registry);
    process::register(vitals, &mut registry);
    registry
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Build {
    version: &'static str,
    target: String,
    tls: &'static str,
}

impl Build {
    fn of_this_program() -> Build {
        use std::env::consts::{ARCH, OS};
        let libc = match (cfg!(target_env = "gnu"), cfg!(target_env = "musl")) {
            (true, _) => "-gnu",
            (_, true) => "-musl",
            _ => "",
        };
        let target = format!("{ARCH}-{OS}{libc}");
        Build { version: env!("CARGO_PKG_VERSION"), target, tls: TLS }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Identity {
    kind: &'static str,
}

/// Adds how much is stored, and nothing of what.
fn register_stored(stored: &Store, registry: &mut Registry) {
    let count = i64::try_from(stored.count()).unwrap_or(i64::MAX);
    let bytes = i64::try_from(stored.bytes()).unwrap_or(i64::MAX);
    registry.register(
        "langfast2api_stored_responses",
        "Responses that can be asked for by their ids, under way or ended",
        ConstGauge::new(count),
    );
    registry.register_with_unit(
        "langfast2api_stored_responses_memory",
        "Memory of stored responses; --store-responses limits it",
        Unit::Bytes,
        ConstGauge::new(bytes),
    );
}

/// Adds the state of the connection to LangFast, without the account's name.
fn register_langfast(langfast: &LangFast, registry: &mut Registry) {
    let is_connected = langfast.runner().is_connected();
    registry.register(
        "langfast2api_socket_connected",
        "Whether the socket to LangFast's prompt runner is connected (1); it is let go when nobody has \
         needed it for a while",
        ConstGauge::new(i64::from(is_connected)),
    );
    registry.register(
        "langfast2api_quota_spent",
        "Whether LangFast has said that the quota is spent (1), so that it is not asked for runs for a while",
        ConstGauge::new(i64::from(langfast.spent_quota().is_some())),
    );
    let session = langfast.session();
    registry.register(
        "langfast2api_session_failing",
        "Whether the last attempt to sign in has failed (1), and requests will fail alike",
        ConstGauge::new(i64::from(session.failure().is_some())),
    );
    let Some(grant) = session.present() else { return };
    let kind = if grant.email.is_some() { "account" } else { "anonymous" };
    registry.register("langfast2api_session", "Who is signed in", Info::new(Identity { kind }));
    registry.register_with_unit(
        "langfast2api_session_expires_in",
        "Until the access token expires; it is renewed by the first request of its last minute or \
         after, so that it may well be in the past when there are none",
        Unit::Seconds,
        ConstGauge::new(grant.expires_in()),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Limits;

    #[test]
    fn openmetrics_is_for_those_who_prefer_it() {
        let prefers = |accept: &str| {
            let head = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n");
            prefers_openmetrics(&Head::parse(head.as_bytes(), &Limits::default()).unwrap())
        };
        // Sent by Prometheus 2.42 and by 3.
        assert!(prefers(
            "Accept: application/openmetrics-text;version=1.0.0,\
             application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n"
        ));
        assert!(prefers(
            "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.2\r\n"
        ));
        for accept in [
            "",
            "Accept: */*\r\n",
            "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n",
            "Accept: text/plain;version=0.0.4,application/openmetrics-text;q=0.5\r\n",
            "Accept: application/openmetrics-text;q=0\r\n",
        ] {
            assert!(!prefers(accept), "{accept}");
        }
    }
}
