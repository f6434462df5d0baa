//! Decides which requests are let in, by their heads.

use std::sync::Arc;

use super::route::{Route, speaks_anthropic};
use super::tickets::Tickets;
use super::unknown_url;
use super::workers::Workers;
use crate::dialects::anthropic;
use crate::dialects::openai::responses::socket;
use crate::error::{DEFAULT_ENVELOPE, Envelope, Error};
use crate::http::{Exchange, Gate, Head, Look, websocket};

/// Lets a request in if its host, origin, key, route and media type are right, and hands it to a
/// worker.
pub struct Admission {
    /// The threads that answer.
    pub workers: Arc<Workers>,
    /// The way from a request to a worker.
    pub tickets: Arc<Tickets>,
}

impl Gate for Admission {
    fn admit(&self, head: &Head) -> Result<(), Error> {
        let access = &self.workers.service().access;
        access.check_host(head)?;
        access.check_origin(head)?;
        let route = Route::find(head.path()).ok_or_else(|| unknown_url::error(head))?;
        // Its client takes the base URL for the whole one: which methods there are is of no help.
        if route == Route::Root && head.method == "POST" {
            return Err(unknown_url::error(head));
        }
        // A preflight carries no key; it is answered only for origins that are allowed.
        let is_preflight = access.is_preflight(head);
        if wants_socket(&route, head) {
            websocket::check(head)?;
        } else if !is_preflight && !route.allows(&head.method) {
            return Err(Error::WrongMethod { method: head.method.clone(), allow: route.methods() });
        }
        let is_open = route == Route::Metrics && self.workers.service().open_metrics;
        if !is_preflight && route.is_protected() && !is_open {
            access.check_key(head)?;
        }
        if head.method == "POST" {
            check_media(head)?;
        }
        Ok(())
    }

    fn upgrade(&self, head: &Head) -> Option<Envelope> {
        let is_wanted = Route::find(head.path()).is_some_and(|route| wants_socket(&route, head));
        is_wanted.then_some(|error, request_id| socket::error_message(error, request_id, ""))
    }

    fn hand_over(&self, exchange: &Arc<Exchange>) -> Result<(), Error> {
        self.tickets.put(exchange, Workers::permit(&self.workers)?)
    }

    fn is_overdue(&self, exchange: &Arc<Exchange>, tries: u32) -> Result<(), Error> {
        self.tickets.look_after(exchange.id, tries)
    }

    fn forget(&self, exchange: &Exchange) {
        self.tickets.forget(exchange.id);
    }

    fn look(&self, head: &Head) -> Look {
        Look { envelope: envelope(head), fields: self.workers.service().access.cors_fields(head) }
    }

    fn note_refusal(&self, head: Option<&Head>, error: &Error) {
        let route = head.and_then(|head| Route::find(head.path()));
        self.workers.service().vitals.note_refusal(route.map(|route| route.name()), error);
    }

    fn note_connections(&self, open: usize) {
        self.workers.service().vitals.note_connections(open);
    }

    fn note_socket(&self, id: u64, is_open: bool) {
        let service = self.workers.service();
        service.vitals.note_socket(is_open);
        match is_open {
            true => service.lanes.begin(id),
            false => service.lanes.forget(id),
        }
    }

    fn note_turned_away(&self) {
        self.workers.service().vitals.note_turned_away();
    }
}

/// True if a request asks for a WebSocket where there is one.
fn wants_socket(route: &Route, head: &Head) -> bool {
    *route == Route::Responses && websocket::is_wanted(head)
}

/// Returns how errors are written for the client that sent this head.
pub fn envelope(head: &Head) -> Envelope {
    match () {
        () if speaks_anthropic(head) => anthropic::envelope,
        () if unknown_url::is_of_ollama(head.path()) => unknown_url::envelope_of_ollama,
        () => DEFAULT_ENVELOPE,
    }
}

/// Refuses a body that is declared as something other than plain JSON. Without a declaration it is
/// taken for JSON.
fn check_media(head: &Head) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::BadHttp { status: 415, message });
    if let Some(encoding) = head.header("content-encoding") {
        if !encoding.trim().eq_ignore_ascii_case("identity") {
            return refuse(format!(
                "Content-Encoding {encoding} is not supported; send plain JSON"
            ));
        }
    }
    let declared = head.header("content-type").unwrap_or("application/json");
    let kind = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.is_empty() || kind == "application/json" || kind.ends_with("+json") {
        return Ok(());
    }
    refuse(format!("Content-Type {kind} is not supported; send JSON as application/json"))
}
