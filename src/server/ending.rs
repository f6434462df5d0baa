//! The end of a request: its error is answered, and its outcome is counted and logged.

use std::io;
use std::time::Duration;

use super::admission::envelope;
use super::permits::Permit;
use super::route::Route;
use super::service::Service;
use crate::chat::models::Model;
use crate::completions::CompletionRecord;
use crate::dialects::openai::responses::socket;
use crate::error::{Error, Step, clean};
use crate::http::answer::Answer;
use crate::observe::vitals::{AnsweredRequest, Vitals};

impl Service {
    /// Ends a request: answers with the error if nothing has been answered, gives the permit back,
    /// and counts and logs the outcome.
    pub fn finish(
        &self,
        mut answer: Answer,
        record: &CompletionRecord,
        result: Result<(), Error>,
        permit: Permit,
    ) {
        let error = result.err();
        if let (Some(error), None) = (&error, answer.status()) {
            // This fails only if the client has gone and cannot be told.
            let _ = write_error(&mut answer, error, &record.lane);
        }
        // The exchange ends before the request is logged, so that the client can go on at once.
        drop(permit);
        answer.end();
        count_request(&self.vitals, &answer, record, error.as_ref());
        log_request(&answer, record, error.as_ref());
    }
}

/// Answers with an error: on a WebSocket with a message of this lane.
fn write_error(answer: &mut Answer, error: &Error, lane: &str) -> io::Result<()> {
    let exchange = answer.exchange().clone();
    if !answer.is_messages() {
        return answer.error(error, envelope(&exchange.head));
    }
    let message = socket::error_message(error, &exchange.request_id, lane);
    answer.message(error.report().status, &message)
}

/// Counts a request by its route, model, result and times.
fn count_request(
    vitals: &Vitals,
    answer: &Answer,
    record: &CompletionRecord,
    error: Option<&Error>,
) {
    let exchange = answer.exchange();
    vitals.note_request(&AnsweredRequest {
        route: Route::find(exchange.head.path()).map(|route| route.name()),
        model: record.model.as_deref().map(Model::label),
        status: answer.status(),
        took: exchange.accepted.elapsed(),
        first_text: record.first_text,
        tools: record.verdict,
        usage: record.usage,
        sent: answer.bytes(),
        error: error.or(record.broken.as_ref()),
    });
}

/// Logs one line for a request: its route, result and times, and nothing of its contents.
fn log_request(answer: &Answer, record: &CompletionRecord, error: Option<&Error>) {
    let exchange = answer.exchange();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // An open status page and Prometheus ask every few seconds.
    let is_routine =
        matches!(exchange.head.path(), "/status" | "/metrics") && answer.status() == Some(200);
    log::log!(
        if is_routine { log::Level::Debug } else { log::Level::Info },
        status = answer.status(),
        model = record.model.as_ref().map(|model| clean(&model.slug)),
        first_ms = record.first_text.map(millis),
        tools = record.tools.as_deref(),
        ms = millis(exchange.accepted.elapsed()),
        bytes = answer.bytes(),
        error = error.map(Error::cause),
        step = error.and_then(Error::step).map(Step::name);
        "{} {}",
        exchange.head.method,
        // The query is left out: it may hold secrets.
        exchange.head.path(),
    );
}
