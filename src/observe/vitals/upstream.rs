//! Counters of the calls to LangFast and of its socket.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::histogram::Histogram;
use crate::error::{Error, Failure, Step};

/// Bucket bounds, in seconds, for the duration of a call.
const CALL: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The outcome of a call that LangFast refused for its rate limit or quota.
const TOO_MANY: &str = "429";

/// The counters since the server's start.
#[derive(Debug)]
pub struct Upstream {
    calls: Family<OfCall, Counter>,
    durations: Family<OfStep, Histogram, fn() -> Histogram>,
    connects: Counter,
    losses: Family<OfCause, Counter>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfCall {
    step: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfStep {
    step: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfCause {
    cause: &'static str,
}

/// The reason that a socket was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// LangFast closed it.
    Closed,
    /// LangFast's pings stayed away.
    Silent,
    /// The connection broke.
    Broken,
}

impl Loss {
    fn name(self) -> &'static str {
        match self {
            Loss::Closed => "closed",
            Loss::Silent => "silent",
            Loss::Broken => "broken",
        }
    }
}

impl Default for Upstream {
    fn default() -> Upstream {
        let upstream = Upstream {
            calls: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(&CALL)),
            connects: Counter::default(),
            losses: Family::default(),
        };
        // These series exist from the start: one that begins with its first event hides it from
        // `increase()`.
        for loss in [Loss::Closed, Loss::Silent, Loss::Broken] {
            drop(upstream.losses.get_or_create(&OfCause { cause: loss.name() }));
        }
        for step in [Step::SignIn, Step::CreatePrompt, Step::Connect, Step::StartRun] {
            let call = OfCall { step: step.name(), outcome: TOO_MANY };
            drop(upstream.calls.get_or_create(&call));
        }
        upstream
    }
}

impl Upstream {
    /// Counts an attempt at a step by its result.
    pub fn note_call<T>(&self, step: Step, result: &Result<T, Error>, took: Duration) {
        let step = step.name();
        self.calls.get_or_create(&OfCall { step, outcome: outcome(result) }).inc();
        self.durations.get_or_create(&OfStep { step }).observe(took);
    }

    /// Counts a socket that has been connected and has joined.
    pub fn note_connect(&self) {
        self.connects.inc();
    }

    /// Counts a connected socket that was lost.
    pub fn note_loss(&self, loss: Loss) {
        self.losses.get_or_create(&OfCause { cause: loss.name() }).inc();
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "langfast2api_upstream_calls",
            "Attempts at a step of the way to LangFast (repeated ones count again), by what became \
             of them: ok, the class of the answer's status (429 by itself), or why there was none",
            self.calls.clone(),
        );
        registry.register_with_unit(
            "langfast2api_upstream_call_duration",
            "How long these attempts took, connections made for them included",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "langfast2api_socket_connects",
            "Connections made to LangFast's prompt runner; all but the first after a loss or an \
             idle time are reconnects",
            self.connects.clone(),
        );
        registry.register(
            "langfast2api_socket_losses",
            "Connections to the prompt runner that were lost: closed by it, silent for too long, or \
             broken",
            self.losses.clone(),
        );
    }
}

fn outcome<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Error::Upstream { failure: Failure::Status { status, .. }, .. }) => match status {
            429 => TOO_MANY,
            300..=399 => "3xx",
            400..=499 => "4xx",
            500..=599 => "5xx",
            _ => "other",
        },
        Err(error) => error.cause(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_one_of_few_words() {
        let status = |status| {
            let (code, message, retry_after) = (None, None, None);
            let failure = Failure::Status { status, code, message, retry_after };
            outcome::<()>(&Err(Error::upstream(Step::SignIn, failure)))
        };
        let found = [302, 401, 429, 503, 999].map(status);
        assert_eq!(found, ["3xx", "4xx", "429", "5xx", "other"]);
        let failure = Failure::Unreachable("no such host".to_owned());
        assert_eq!(outcome::<()>(&Err(Error::upstream(Step::StartRun, failure))), "unreachable");
        assert_eq!(outcome(&Ok(())), "ok");
    }
}
