//! The page that browsers get at `/`, its icon, and the JSON that it asks the server for. It is one document
//! with its style and script inline, so that its policy can forbid everything else.

use std::io;

use serde_json::json;

use crate::chat::models::shutdowns::Day;
use crate::http::Head;
use crate::http::answer::Answer;
use crate::server::service::Service;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const ICON: &str = include_str!("page/icon.svg");
/// One script in one scope: a part may use what the parts before it define.
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/markdown.js"),
    include_str!("page/state.js"),
    include_str!("page/chat.js"),
    include_str!("page/code.js"),
    include_str!("page/begin.js"),
);

const ROOT: &str = concat!(
    "langfast2api ",
    env!("CARGO_PKG_VERSION"),
    ": an OpenAI-compatible API in front of LangFast.\n",
    "Point an OpenAI client at the path /v1 of this address. GET /v1/models lists the models.\n",
);

/// Answers at `/`: browsers with the page, programs with a line of advice.
///
/// # Errors
/// The client has gone.
pub fn root(answer: &mut Answer) -> io::Result<()> {
    if is_wanted(&answer.exchange().head) {
        return send(answer);
    }
    answer.field("Vary", "Accept");
    answer.whole(200, "text/plain; charset=utf-8", ROOT)
}

/// True if a request for `/` asks for the page: browsers name `text/html` in `Accept`, programs
/// accept anything.
fn is_wanted(head: &Head) -> bool {
    let html = head.accepts("text/html").unwrap_or(0.0);
    html > 0.0 && html >= head.accepts("text/plain").unwrap_or(0.0)
}

/// Answers with the page. Its Content-Security-Policy allows only its own script and style, by a
/// nonce that is new for each answer, and lets no text become HTML or script (Trusted Types): what models
/// write is shown in it.
fn send(answer: &mut Answer) -> io::Result<()> {
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    answer.field("Content-Security-Policy", policy);
    answer.field("X-Content-Type-Options", "nosniff");
    answer.field("Referrer-Policy", "no-referrer");
    answer.field("Cache-Control", "no-store");
    answer.field("Vary", "Accept");
    let page =
        PAGE.replace("{nonce}", &nonce).replace("{style}", STYLE).replace("{script}", SCRIPT);
    answer.whole(200, "text/html; charset=utf-8", &page)
}

/// Answers with the icon of the page, which browsers ask for at `/favicon.ico` on their own, too.
///
/// # Errors
/// The client has gone.
pub fn icon(answer: &mut Answer) -> io::Result<()> {
    answer.field("Cache-Control", "max-age=86400");
    answer.field("X-Content-Type-Options", "nosniff");
    answer.whole(200, "image/svg+xml", ICON)
}

/// Answers with the server's state.
///
/// # Errors
/// The client has gone.
pub fn status(answer: &mut Answer, service: &Service) -> io::Result<()> {
    answer.field("Cache-Control", "no-store");
    answer.json(200, &state(service))
}

/// Answers with what each model accepts.
///
/// # Errors
/// The client has gone.
pub fn models(answer: &mut Answer, service: &Service) -> io::Result<()> {
    let models = service.models.current();
    let accepted = models.accepted(&Day::today());
    answer.json(200, &serde_json::to_string(&accepted).expect("texts always serialise"))
}

/// The server's state as JSON, without the account that it uses.
fn state(service: &Service) -> String {
    let Service { vitals, limits, .. } = service;
    let langfast = &service.completions.langfast;
    let session = match langfast.session().present() {
        Some(grant) if grant.email.is_some() => "account",
        Some(_) => "anonymous",
        None => "none",
    };
    let (answers, recent) = vitals.first_tokens();
    let recent: Vec<u128> = recent.iter().map(|took| took.as_millis()).collect();
    let spent_quota = langfast.spent_quota();
    let problem = langfast.failure().or_else(|| spent_quota.clone());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": vitals.uptime().as_secs(),
        "session": session,
        // Why requests fail: the last sign-in has failed, the public key is refused, or the quota is spent.
        "problem": problem.map(|error| error.to_string()),
        "spent_quota": spent_quota.is_some(),
        "socket": if langfast.runner().is_connected() { "connected" } else { "closed" },
        "limits": {
            "max_requests": limits.requests,
            "max_connections": limits.connections,
            "body_memory": limits.body_memory >> 20,
            "store_responses": limits.stored >> 20,
            // Why they are lower than elsewhere, if nobody has set them so.
            "fit_for": limits.lowered_by.map(|memory| memory.to_string()),
        },
        "under_way": vitals.under_way(),
        "answers": answers,
        "first_token_ms": recent,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Limits;

    #[test]
    fn browsers_want_the_page_and_programs_do_not() {
        let wants = |accept: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n");
            is_wanted(&Head::parse(head.as_bytes(), &Limits::default()).unwrap())
        };
        assert!(wants("Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"));
        assert!(wants("Accept: text/plain;q=0.5, Text/HTML; q=0.9\r\n"));
        for accept in ["", "Accept: */*\r\n", "Accept: text/html;q=0\r\n", "Accept: text/*\r\n"] {
            assert!(!wants(accept), "{accept}");
        }
        assert!(!wants("Accept: text/plain, text/html;q=0.9\r\n"));
    }
}
