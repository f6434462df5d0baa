//! The server's counters and times, without any text of a request or an answer. Each counter is
//! defined here with its description for Prometheus (`server::metrics`); the status page shows a
//! few.
//!
//! Label values come from short lists of our own (routes, models.json and aliases, causes), never from a
//! request, so that no client can create series at will. They are looked up once for each request;
//! each token costs only an atomic addition or two.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

mod histogram;
mod upstream;

pub use histogram::Histogram;
pub use upstream::{Loss, Upstream};

use crate::chat::Usage;
use crate::chat::models::UNLISTED;
use crate::error::Error;

/// Number of latest times to the first token that are kept.
const RECENT: usize = 60;

/// Bucket bounds, in seconds, for the duration of a request.
const REQUEST: [f64; 13] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];
/// Bucket bounds, in seconds, for the time to the first text.
const FIRST_TOKEN: [f64; 14] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// Bucket bounds, in seconds, for the time between two writes of a stream.
const GAP: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Label value where there is no route, model or step.
const NONE: &str = "none";
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The server's counters since its start.
#[derive(Debug)]
pub struct Vitals {
    started: Instant,
    started_at: SystemTime,
    recent: Mutex<Recent>,
    requests: Family<OfRequest, Counter>,
    errors: Family<OfError, Counter>,
    durations: Histograms<OfRoute>,
    first_tokens: Histograms<OfModel>,
    gaps: Histograms<OfModel>,
    tokens: Family<OfTokens, Counter>,
    tools: Family<OfTools, Counter>,
    answers: Family<OfAnswer, Gauge>,
    received: Counter,
    sent: Counter,
    connections: Gauge,
    sockets: Gauge,
    turned_away: Counter,
    workers: Gauge,
    busy_workers: Gauge,
}

#[derive(Debug, Default)]
struct Recent {
    /// Number of answers that have had a first token.
    count: u64,
    /// The latest times to the first token, the newest last.
    first_tokens: VecDeque<Duration>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfRequest {
    route: &'static str,
    model: String,
    status: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfError {
    cause: &'static str,
    step: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfRoute {
    route: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfModel {
    model: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfTokens {
    model: String,
    kind: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfTools {
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfAnswer {
    kind: &'static str,
}

impl OfAnswer {
    const BOTH: [OfAnswer; 2] = [OfAnswer { kind: "stream" }, OfAnswer { kind: "whole" }];
}

impl Default for Vitals {
    fn default() -> Vitals {
        let vitals = Vitals {
            started: Instant::now(),
            started_at: SystemTime::now(),
            recent: Mutex::default(),
            requests: Family::default(),
            errors: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(&REQUEST)),
            first_tokens: Family::new_with_constructor(|| Histogram::new(&FIRST_TOKEN)),
            gaps: Family::new_with_constructor(|| Histogram::new(&GAP)),
            tokens: Family::default(),
            tools: Family::default(),
            answers: Family::default(),
            received: Counter::default(),
            sent: Counter::default(),
            connections: Gauge::default(),
            sockets: Gauge::default(),
            turned_away: Counter::default(),
            workers: Gauge::default(),
            busy_workers: Gauge::default(),
        };
        // These series exist from the start, because a series that begins with its first event
        // hides that event from `increase()`; and 0 answers under way is a value too.
        OfAnswer::BOTH.iter().for_each(|kind| drop(vitals.answers.get_or_create(kind)));
        let overloaded = Error::Overloaded(String::new()).cause();
        drop(vitals.errors.get_or_create(&OfError { cause: overloaded, step: NONE }));
        vitals
    }
}

/// An answer under way; dropping it counts the answer out.
pub struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Measures the times between the writes of one stream.
pub struct StreamPace {
    gaps: Histogram,
    last: Option<Instant>,
}

impl StreamPace {
    /// Notes that text was written at `now`.
    pub fn note_write(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.gaps.observe(now.saturating_duration_since(last));
        }
    }
}

/// The outcome of a request that has been answered, or whose client has gone.
pub struct AnsweredRequest<'a> {
    /// The route's canonical path; `None` if the URL has no route.
    pub route: Option<&'static str>,
    /// The model's label; `None` if it is not known.
    pub model: Option<&'a str>,
    /// The answer's status; `None` if no answer has begun.
    pub status: Option<u16>,
    /// Time from the end of the request's head to the end of its answer.
    pub took: Duration,
    /// Time from the end of the request's head to the answer's first text.
    pub first_text: Option<Duration>,
    /// The state of its tool calls, a word of a short list; `None` if it has none.
    pub tools: Option<&'static str>,
    /// Tokens, as reported or estimated.
    pub usage: Option<Usage>,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// The error that kept the client from its answer, or from part of it.
    pub error: Option<&'a Error>,
}

impl Vitals {
    /// Returns the time since the server's start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns when the server was started.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// Counts an answer in; it is counted out when the returned value is dropped.
    pub fn begin_answer(&self, is_stream: bool) -> UnderWay {
        let [stream, whole] = &OfAnswer::BOTH;
        let gauge = self.answers.get_or_create_owned(if is_stream { stream } else { whole });
        gauge.inc();
        UnderWay(gauge)
    }

    /// Returns the number of answers under way.
    pub fn under_way(&self) -> usize {
        let count = |kind| usize::try_from(self.answers.get_or_create(kind).get()).unwrap_or(0);
        OfAnswer::BOTH.iter().map(count).sum()
    }

    /// Returns a measure for the pace of one stream of this model.
    pub fn pace(&self, model: &str) -> StreamPace {
        let gaps = self.gaps.get_or_create_owned(&OfModel { model: model.to_owned() });
        StreamPace { gaps, last: None }
    }

    /// Counts a request that a worker has handled.
    pub fn note_request(&self, ended: &AnsweredRequest<'_>) {
        let model = match (ended.model, ended.error) {
            (Some(model), _) => model,
            (None, Some(Error::NoSuchModel(_))) => UNLISTED,
            (None, _) => NONE,
        };
        // Without a status no answer has begun, since the client has gone.
        let status = ended.status.unwrap_or_else(|| Error::ClientGone.report().status);
        let route = ended.route.unwrap_or(NONE);
        self.count(route, model, status, ended.error);
        self.durations.get_or_create(&OfRoute { route }).observe(ended.took);
        self.sent.inc_by(ended.sent);
        if let Some(took) = ended.first_text {
            self.note_first_token(model, took);
        }
        if let Some(state) = ended.tools {
            self.tools.get_or_create(&OfTools { state }).inc();
        }
        if let Some(usage) = &ended.usage {
            let tokens = |kind| OfTokens { model: model.to_owned(), kind };
            self.tokens.get_or_create(&tokens("prompt")).inc_by(usage.prompt_tokens);
            self.tokens.get_or_create(&tokens("completion")).inc_by(usage.completion_tokens);
        }
    }

    /// Counts a request that was refused before a worker took it; `route` is `None` if it is
    /// unknown.
    pub fn note_refusal(&self, route: Option<&'static str>, error: &Error) {
        self.count(route.unwrap_or(NONE), NONE, error.report().status, Some(error));
    }

    fn count(&self, route: &'static str, model: &str, status: u16, error: Option<&Error>) {
        let model = model.to_owned();
        self.requests.get_or_create(&OfRequest { route, model, status }).inc();
        if let Some(error) = error {
            let step = error.step().map_or(NONE, |step| step.name());
            self.errors.get_or_create(&OfError { cause: error.cause(), step }).inc();
        }
    }

    fn note_first_token(&self, model: &str, took: Duration) {
        self.first_tokens.get_or_create(&OfModel { model: model.to_owned() }).observe(took);
        let mut recent = self.recent();
        recent.count += 1;
        if recent.first_tokens.len() == RECENT {
            recent.first_tokens.pop_front();
        }
        recent.first_tokens.push_back(took);
    }

    /// Returns the number of answers that have had a first token, and the latest times to it, the
    /// newest last.
    pub fn first_tokens(&self) -> (u64, Vec<Duration>) {
        let recent = self.recent();
        (recent.count, recent.first_tokens.iter().copied().collect())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the size of a request's body.
    pub fn note_received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }

    /// Counts a WebSocket that opens or ends.
    pub fn note_socket(&self, is_open: bool) {
        if is_open {
            self.sockets.inc()
        } else {
            self.sockets.dec()
        };
    }

    /// Sets the number of open connections.
    pub fn note_connections(&self, open: usize) {
        self.connections.set(figure(open));
    }

    /// Counts a client that was turned away when it connected.
    pub fn note_turned_away(&self) {
        self.turned_away.inc();
    }

    /// Sets the number of workers, and of those that have a request.
    pub fn note_workers(&self, all: usize, busy: usize) {
        self.workers.set(figure(all));
        self.busy_workers.set(figure(busy));
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        self.register_requests(registry);
        self.register_answers(registry);
        self.register_limits(registry);
    }

    fn register_requests(&self, registry: &mut Registry) {
        registry.register(
            "langfast2api_requests",
            "Requests by route, model and status, refused ones included. Model: of models.json or an alias; \
             other if it is only in a request; none if the request has none or was refused before",
            self.requests.clone(),
        );
        registry.register(
            "langfast2api_errors",
            "Requests that ended with an error, streams that broke off included, by cause and, where \
             LangFast failed, by step",
            self.errors.clone(),
        );
        registry.register_with_unit(
            "langfast2api_request_duration",
            "From the end of a request's head to the end of its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "langfast2api_received",
            "Bytes of requests' bodies",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register_with_unit(
            "langfast2api_sent",
            "Bytes of answers' bodies, counted when an answer ends",
            Unit::Bytes,
            self.sent.clone(),
        );
    }

    fn register_answers(&self, registry: &mut Registry) {
        registry.register(
            "langfast2api_answers_active",
            "Answers of models under way, streamed and whole",
            self.answers.clone(),
        );
        registry.register_with_unit(
            "langfast2api_time_to_first_token",
            "From the end of a request's head to its answer's first text; counted when the answer \
             ends",
            Unit::Seconds,
            self.first_tokens.clone(),
        );
        registry.register_with_unit(
            "langfast2api_token_gap",
            "Between two writes of a stream that bring text. A write brings a token, or those that \
             have come together",
            Unit::Seconds,
            self.gaps.clone(),
        );
        registry.register(
            "langfast2api_tokens",
            "Tokens of prompts and completions, as LangFast reports them, or else estimated from their \
             texts. Counted when an answer ends",
            self.tokens.clone(),
        );
        registry.register(
            "langfast2api_tool_answers",
            "Answers with tool calls, or without one that was required or that the text holds in a form that \
             is not read, by the state that x-langfast2api-tools names first",
            self.tools.clone(),
        );
    }

    fn register_limits(&self, registry: &mut Registry) {
        registry.register(
            "langfast2api_connections",
            "Clients' connections that are open",
            self.connections.clone(),
        );
        registry.register(
            "langfast2api_websockets",
            "Connections that are WebSockets",
            self.sockets.clone(),
        );
        registry.register(
            "langfast2api_connections_turned_away",
            "Connections refused because no more are allowed or can be made",
            self.turned_away.clone(),
        );
        registry.register("langfast2api_workers", "Worker threads", self.workers.clone());
        registry.register(
            "langfast2api_workers_busy",
            "Worker threads with a request that has not got its run yet",
            self.busy_workers.clone(),
        );
    }
}

fn figure(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_times_are_kept_and_all_are_counted() {
        let vitals = Vitals::default();
        let times: Vec<Duration> = (0..RECENT as u64 + 2).map(Duration::from_millis).collect();
        times.iter().for_each(|time| vitals.note_first_token("m", *time));
        assert_eq!(vitals.first_tokens(), (times.len() as u64, times[2..].to_vec()));
    }

    #[test]
    fn an_answer_is_under_way_until_it_is_let_go() {
        let vitals = Vitals::default();
        let (one, two) = (vitals.begin_answer(true), vitals.begin_answer(false));
        assert_eq!(vitals.under_way(), 2);
        drop(one);
        assert_eq!(vitals.under_way(), 1);
        drop(two);
        assert_eq!(vitals.under_way(), 0);
    }
}
