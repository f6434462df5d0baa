//! What an error becomes for a client: HTTP status, OpenAI's `type` and `code`, whether a retry makes
//! sense, and OpenAI's error object.
//!
//! Enters: an error. Leaves: its [`ErrorReport`], and its JSON body. No other place maps a cause to a
//! status. It may not know what the message says, which [`super::message`] writes, nor another dialect's
//! envelope.

use serde::Serialize;

use super::meaning::Meaning;
use super::{Error, Failure, Step};

/// The mapping of an error to what clients receive.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorReport {
    /// The HTTP status.
    pub status: u16,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// OpenAI's `code`.
    pub code: Option<&'static str>,
    /// Seconds for the `Retry-After` header.
    pub retry_after: Option<u64>,
    /// Value of the `x-should-retry` header; `None` where the SDKs' own rule is right.
    pub should_retry: Option<bool>,
}

/// An error as OpenAI's clients parse it.
#[derive(Debug, Serialize)]
pub struct ErrorObject<'a> {
    /// What happened, where, and what to do.
    pub message: String,
    /// OpenAI's `type`, as in [`ErrorReport::kind`].
    pub r#type: &'static str,
    /// The field of the request that is wrong.
    pub param: Option<&'a str>,
    /// OpenAI's `code`, as in [`ErrorReport::code`].
    pub code: Option<&'static str>,
}

/// Writes an error as a JSON body in a client's dialect, for the request of this id.
pub type Envelope = fn(&Error, request_id: &str) -> String;

/// OpenAI's error object ([`Error::body`]), for clients of which nothing is known.
pub const DEFAULT_ENVELOPE: Envelope = |error, _| error.body();

impl Error {
    /// Maps the cause to status, type, code and retry headers. No other place does.
    pub fn report(&self) -> ErrorReport {
        let invalid = |status, code| ErrorReport {
            status,
            kind: "invalid_request_error",
            code,
            retry_after: None,
            should_retry: None,
        };
        match self {
            Error::Invalid { code, .. } => invalid(400, *code),
            Error::Unauthorized(_) => invalid(401, Some("invalid_api_key")),
            Error::Forbidden(_) => ErrorReport { kind: "permission_error", ..invalid(403, None) },
            Error::NoSuchModel(_) => invalid(404, Some("model_not_found")),
            Error::NoSuchUrl(_) => invalid(404, Some("unknown_url")),
            Error::WrongMethod { .. } => invalid(405, Some("method_not_allowed")),
            Error::BadHttp { status, .. } => invalid(*status, None),
            Error::Upstream { step, failure } => failure.report(*step),
            Error::Remembered { error, .. } => {
                ErrorReport { should_retry: Some(false), ..error.report() }
            }
            Error::Overloaded(_) | Error::ShuttingDown => ErrorReport {
                kind: "server_error",
                retry_after: Some(1),
                ..invalid(503, Some("overloaded"))
            },
            Error::CutShort => ErrorReport {
                kind: "server_error",
                // Each run costs a request of the quota.
                should_retry: Some(false),
                ..invalid(503, Some("overloaded"))
            },
            Error::ClientGone => ErrorReport { kind: "server_error", ..invalid(499, None) },
            Error::Cancelled => ErrorReport {
                should_retry: Some(false),
                ..invalid(400, Some("response_cancelled"))
            },
            Error::NotStored(_) => invalid(404, Some("response_not_found")),
            // Known: OpenAI's own, after 60 minutes and in the same words. Its clients know the code, and
            // connect anew.
            Error::SocketTooOld(_) => invalid(400, Some("websocket_connection_limit_reached")),
            Error::Internal(_) => ErrorReport {
                kind: "server_error",
                // Whatever failed, a run may already have been started.
                should_retry: Some(false),
                ..invalid(500, None)
            },
        }
    }

    /// Returns the error object that OpenAI's clients parse, as one line of JSON:
    /// `{"error":{"message","type","param","code"}}`, always with all four keys.
    pub fn body(&self) -> String {
        #[derive(Serialize)]
        struct Envelope<'a> {
            error: ErrorObject<'a>,
        }
        let error = self.object();
        serde_json::to_string(&Envelope { error }).expect("strings always serialise")
    }

    /// Returns the error object alone, without an envelope.
    pub fn object(&self) -> ErrorObject<'_> {
        let report = self.report();
        let param = match self {
            Error::Invalid { param, .. } => param.as_deref(),
            _ if report.code == Some("model_not_found") => Some("model"),
            _ => None,
        };
        ErrorObject { message: self.to_string(), r#type: report.kind, param, code: report.code }
    }
}

impl Failure {
    fn report(&self, step: Step) -> ErrorReport {
        // From here on the run may exist, and each run costs a request of the quota: an SDK must
        // not retry by itself.
        let may_have_started = matches!(step, Step::StartRun | Step::Run);
        let report = |status, kind, code| ErrorReport {
            status,
            kind,
            code,
            retry_after: None,
            should_retry: may_have_started.then_some(false),
        };
        match self {
            Failure::TimedOut { .. } => report(504, "server_error", Some("timeout")),
            Failure::Unreachable(_) => ErrorReport {
                // Nothing was sent, so nothing was started.
                should_retry: None,
                ..report(502, "server_error", Some("upstream_unreachable"))
            },
            Failure::NeedsOperator(_) => ErrorReport {
                should_retry: Some(false),
                ..report(503, "server_error", Some("sign_in_required"))
            },
            Failure::HoldOff { seconds, .. } => ErrorReport {
                retry_after: Some((*seconds).max(1)),
                should_retry: None,
                ..report(503, "server_error", Some("upstream_unavailable"))
            },
            Failure::Status { status, retry_after, .. } => match self.meaning(step) {
                Some(meaning) => refusal_report(meaning, step, *retry_after, report),
                None => status_report(*status, *retry_after, report),
            },
            Failure::Refused(_) => match self.meaning(step) {
                Some(meaning) => refusal_report(meaning, step, None, report),
                None => report(502, "upstream_error", Some("upstream_error")),
            },
            Failure::Ended { how: "timed_out" | "expired", .. } => {
                report(504, "server_error", Some("timeout"))
            }
            Failure::Ended { .. }
            | Failure::Broken(_)
            | Failure::Lost { .. }
            | Failure::Malformed(_)
            | Failure::OverLimit(_)
            | Failure::Revised => report(502, "upstream_error", Some("upstream_error")),
        }
    }
}

/// Maps an HTTP status of LangFast, of which nothing more is understood, to a report for the client.
fn status_report(
    status: u16,
    retry_after: Option<u64>,
    report: impl Fn(u16, &'static str, Option<&'static str>) -> ErrorReport,
) -> ErrorReport {
    match status {
        401 | 403 => {
            ErrorReport { should_retry: Some(false), ..report(403, "permission_error", None) }
        }
        503 => {
            ErrorReport { retry_after, ..report(503, "server_error", Some("upstream_unavailable")) }
        }
        _ => report(502, "upstream_error", Some("upstream_error")),
    }
}

/// Maps what LangFast means by a refusal to a report for the client.
fn refusal_report(
    meaning: Meaning,
    step: Step,
    retry_after: Option<u64>,
    report: impl Fn(u16, &'static str, Option<&'static str>) -> ErrorReport,
) -> ErrorReport {
    let never = |status, kind, code| ErrorReport {
        should_retry: Some(false),
        ..report(status, kind, Some(code))
    };
    // A run that was started has been counted by LangFast: whether another one is worth it is for the user to
    // say, and when it may succeed is said all the same.
    let soon = |status, kind, code| ErrorReport {
        retry_after: Some(retry_after.unwrap_or(1).max(1)),
        should_retry: (step == Step::Run).then_some(false),
        ..report(status, kind, Some(code))
    };
    match meaning {
        Meaning::PublicKey => never(503, "server_error", "upstream_key_refused"),
        Meaning::Login => never(503, "server_error", "sign_in_required"),
        Meaning::ProjectRestricted => never(503, "server_error", "upstream_unavailable"),
        Meaning::IssuedInFuture | Meaning::NotBooted => {
            soon(503, "server_error", "upstream_unavailable")
        }
        Meaning::FunctionFailed => report(503, "server_error", Some("upstream_unavailable")),
        Meaning::FunctionIdle => report(504, "server_error", Some("timeout")),
        Meaning::NoFunction => never(502, "upstream_error", "upstream_error"),
        Meaning::ContextLength => never(400, "invalid_request_error", "context_length_exceeded"),
        Meaning::AnswerLimit => {
            ErrorReport { should_retry: Some(false), ..report(400, "invalid_request_error", None) }
        }
        Meaning::Parameter => never(400, "invalid_request_error", "unsupported_parameter"),
        Meaning::Value => never(400, "invalid_request_error", "unsupported_value"),
        Meaning::NoSuchModel => never(404, "invalid_request_error", "model_not_found"),
        Meaning::Plan => never(403, "permission_error", "plan_required"),
        // A retry is of no use for hours.
        Meaning::Quota => never(429, "insufficient_quota", "insufficient_quota"),
        Meaning::Rate => soon(429, "requests", "rate_limit_exceeded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> Error {
        Error::upstream(Step::Run, Failure::Refused(message.to_owned()))
    }

    #[test]
    fn an_answer_without_tokens_left_is_the_requests_error_and_no_quota() {
        let error = refused(
            "Could not finish the message because max_tokens or model output limit was reached.",
        );
        let report = error.report();
        assert_eq!((report.status, report.code, report.should_retry), (400, None, Some(false)));
        assert_eq!(error.remedy(), None);
    }

    #[test]
    fn a_run_that_was_refused_by_its_rate_is_not_started_again_by_a_client() {
        let words = "Rate limit reached for gpt-4o";
        let retry = |error: Error| {
            let report = error.report();
            (report.status, report.should_retry, report.retry_after)
        };
        assert_eq!(retry(refused(words)), (429, Some(false), Some(1)));
        let not_started = Error::upstream(Step::StartRun, Failure::Refused(words.to_owned()));
        assert_eq!(retry(not_started), (429, None, Some(1)));
    }
}
