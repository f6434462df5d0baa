//! Errors by cause, and the single place that maps a cause to what the client receives: HTTP
//! status, OpenAI's `type` and `code`, and whether a retry makes sense.
//!
//! A message says what happened, where, and what to do. It may quote LangFast, never a secret.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The steps of a request to LangFast, as messages and logs name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// `POST /auth/v1/…`: sign up, log in, refresh.
    SignIn,
    /// `POST /rest/v1/rpc/create_prompt`.
    CreatePrompt,
    /// The Socket.IO connection to the prompt runner.
    Connect,
    /// `POST /functions/v1/initiate-prompt-run`.
    StartRun,
    /// The events of a started run.
    Run,
}

impl Step {
    /// Returns the step as a verb phrase, for use after "LangFast failed to" and the like.
    pub fn name(self) -> &'static str {
        match self {
            Step::SignIn => "sign in",
            Step::CreatePrompt => "create a prompt",
            Step::Connect => "connect to the prompt runner",
            Step::StartRun => "start the run",
            Step::Run => "run the prompt",
        }
    }
}

/// The failure of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection was made: DNS, TCP, TLS or a proxy failed. The text says which.
    Unreachable(String),
    /// A connection ended before the whole answer had arrived.
    Broken(String),
    /// A deadline passed.
    TimedOut {
        /// Name of the environment variable that sets the deadline.
        setting: &'static str,
        /// The time that was allowed.
        limit: Duration,
    },
    /// LangFast answered with an HTTP status other than success.
    Status {
        /// The HTTP status.
        status: u16,
        /// LangFast's error code, if it sent one.
        code: Option<String>,
        /// LangFast's own words, cleaned by [`clean`], if it sent any.
        message: Option<String>,
        /// Seconds from `Retry-After`.
        retry_after: Option<u64>,
    },
    /// LangFast's answer does not follow the known protocol.
    Malformed(String),
    /// LangFast refused in words: a failed run, a rejected Socket.IO CONNECT.
    Refused(String),
    /// A limit of this program was exceeded, not LangFast's.
    OverLimit(String),
    /// LangFast changed text that had already been sent in a stream.
    Revised,
    /// An operator must act before it can work again; the text says how.
    NeedsOperator(String),
    /// This program makes no calls to LangFast for a while, to spare it.
    HoldOff {
        /// The reason, for the client.
        message: String,
        /// Seconds until the next try.
        seconds: u64,
    },
}

/// Every reason that a client may not get its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request is invalid.
    Invalid {
        /// What is wrong with the field.
        message: String,
        /// The field, such as `messages[0].role`.
        param: Option<String>,
        /// OpenAI's error code.
        code: Option<&'static str>,
    },
    /// The API key is missing or wrong.
    Unauthorized(&'static str),
    /// The request is understood but not allowed.
    Forbidden(String),
    /// The model does not exist; holds its name.
    NoSuchModel(String),
    /// The URL does not exist; holds method and path.
    NoSuchUrl(String),
    /// The URL exists, but not for this method.
    WrongMethod {
        /// The method of the request.
        method: String,
        /// The allowed methods, as the `Allow` header lists them.
        allow: &'static str,
    },
    /// The request is malformed or too large as HTTP, and refused before its JSON is parsed.
    BadHttp {
        /// The HTTP status: 400, 408, 413, 414, 415, 417, 431, 501 or 505.
        status: u16,
        /// What is wrong with the request.
        message: String,
    },
    /// A step of the request to LangFast failed.
    Upstream {
        /// The step that failed.
        step: Step,
        /// How it failed.
        failure: Failure,
    },
    /// More work is under way than the settings or the machine allow; the text says which limit.
    Overloaded(String),
    /// The server is stopping, and nothing was started for this request.
    ShuttingDown,
    /// The server is stopping, and the request's run has been or may have been started.
    CutShort,
    /// The client has gone; nobody reads the answer.
    ClientGone,
    /// A fault of this program.
    Internal(String),
}

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

/// Writes an error as a JSON body in a client's dialect, for the request of this id.
pub type Envelope = fn(&Error, request_id: &str) -> String;

/// OpenAI's error object ([`Error::body`]), for clients of which nothing is known.
pub const DEFAULT_ENVELOPE: Envelope = |error, _| error.body();

impl Error {
    /// Returns a 400 that names the field.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Error {
        Error::Invalid { message: message.into(), param: Some(param.into()), code: None }
    }

    /// Returns a 400 for a field that is understood but cannot be served.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Error {
        Error::Invalid {
            message: message.into(),
            param: Some(param.into()),
            code: Some("unsupported_parameter"),
        }
    }

    /// Returns the error for a failed step.
    pub fn upstream(step: Step, failure: Failure) -> Error {
        Error::Upstream { step, failure }
    }

    /// Returns the cause as one word for logs and metrics, without any text of a client or of
    /// LangFast.
    pub fn cause(&self) -> &'static str {
        match self {
            Error::Invalid { .. } => "invalid_request",
            Error::Unauthorized(_) => "unauthorized",
            Error::Forbidden(_) => "forbidden",
            Error::NoSuchModel(_) => "no_such_model",
            Error::NoSuchUrl(_) => "no_such_url",
            Error::WrongMethod { .. } => "wrong_method",
            Error::BadHttp { .. } => "bad_http",
            Error::Upstream { failure, .. } => failure.cause(),
            Error::Overloaded(_) => "overloaded",
            Error::ShuttingDown | Error::CutShort => "shutting_down",
            Error::ClientGone => "client_gone",
            Error::Internal(_) => "internal",
        }
    }

    /// Returns the step that failed, if the cause is LangFast.
    pub fn step(&self) -> Option<Step> {
        match self {
            Error::Upstream { step, .. } => Some(*step),
            _ => None,
        }
    }

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
            error: Body<'a>,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            message: String,
            r#type: &'a str,
            param: Option<&'a str>,
            code: Option<&'a str>,
        }
        let report = self.report();
        let param = match self {
            Error::Invalid { param, .. } => param.as_deref(),
            Error::NoSuchModel(_) => Some("model"),
            _ => None,
        };
        let error =
            Body { message: self.to_string(), r#type: report.kind, param, code: report.code };
        serde_json::to_string(&Envelope { error }).expect("strings always serialise")
    }
}

impl Failure {
    fn cause(&self) -> &'static str {
        match self {
            Failure::Unreachable(_) => "unreachable",
            Failure::Broken(_) => "broken",
            Failure::TimedOut { .. } => "timed_out",
            Failure::Status { .. } => "status",
            Failure::Malformed(_) => "malformed",
            Failure::Refused(_) => "refused",
            Failure::OverLimit(_) => "over_limit",
            Failure::Revised => "revised",
            Failure::NeedsOperator(_) => "needs_operator",
            Failure::HoldOff { .. } => "hold_off",
        }
    }

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
            Failure::Status { status, message, retry_after, .. } => {
                let words = message.as_deref().unwrap_or("");
                status_report(*status, words, *retry_after, report)
            }
            Failure::Refused(message) => refusal_report(message, report),
            Failure::Broken(_)
            | Failure::Malformed(_)
            | Failure::OverLimit(_)
            | Failure::Revised => report(502, "upstream_error", Some("upstream_error")),
        }
    }
}

/// Maps an HTTP status of LangFast to a report for the client.
fn status_report(
    status: u16,
    words: &str,
    retry_after: Option<u64>,
    report: impl Fn(u16, &'static str, Option<&'static str>) -> ErrorReport,
) -> ErrorReport {
    match status {
        402 => quota(report),
        403 | 429 if speaks_of_quota(words) => quota(report),
        // Refused for its rate, so not started: SDKs may retry after the time that LangFast states.
        429 => ErrorReport {
            retry_after: Some(retry_after.unwrap_or(1).max(1)),
            should_retry: None,
            ..report(429, "requests", Some("rate_limit_exceeded"))
        },
        401 | 403 => {
            ErrorReport { should_retry: Some(false), ..report(403, "permission_error", None) }
        }
        400 | 404 | 409 | 413 | 422 => refusal_report(words, report),
        503 => {
            ErrorReport { retry_after, ..report(503, "server_error", Some("upstream_unavailable")) }
        }
        _ => report(502, "upstream_error", Some("upstream_error")),
    }
}

/// Maps a message of LangFast to a report for the client. Models' errors arrive in OpenAI's words.
fn refusal_report(
    message: &str,
    report: impl Fn(u16, &'static str, Option<&'static str>) -> ErrorReport,
) -> ErrorReport {
    let words = message.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    let invalid = |code| ErrorReport {
        should_retry: Some(false),
        ..report(400, "invalid_request_error", Some(code))
    };
    if has(&["context length", "context_length", "context window", "maximum context"]) {
        invalid("context_length_exceeded")
    } else if has(&["unsupported parameter", "unsupported_parameter"]) {
        invalid("unsupported_parameter")
    } else if has(&["unsupported value", "unsupported_value"]) {
        invalid("unsupported_value")
    } else if speaks_of_quota(&words) {
        quota(report)
    } else if has(&["rate limit", "rate_limit", "too many requests"]) {
        ErrorReport {
            retry_after: Some(1),
            should_retry: None,
            ..report(429, "requests", Some("rate_limit_exceeded"))
        }
    } else {
        report(502, "upstream_error", Some("upstream_error"))
    }
}

/// Returns the report for a spent quota, for which a retry is of no use for hours.
fn quota(report: impl Fn(u16, &'static str, Option<&'static str>) -> ErrorReport) -> ErrorReport {
    ErrorReport {
        should_retry: Some(false),
        ..report(429, "insufficient_quota", Some("insufficient_quota"))
    }
}

fn speaks_of_quota(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    if words.contains("rate limit") {
        return false;
    }
    [
        "quota",
        "daily limit",
        "monthly limit",
        "limit reached",
        "out of credits",
        "upgrade your plan",
    ]
    .iter()
    .any(|part| words.contains(part))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid { message, .. } => f.write_str(message),
            Error::Unauthorized(message) => f.write_str(message),
            Error::Forbidden(message) => f.write_str(message),
            Error::NoSuchModel(model) => write!(
                f,
                "The model `{model}` does not exist here. GET /v1/models lists those that do."
            ),
            Error::NoSuchUrl(request) => write!(f, "Unknown request URL: {request}"),
            Error::WrongMethod { method, allow } => {
                write!(f, "Method {method} is not allowed here (allowed: {allow})")
            }
            Error::BadHttp { message, .. } => f.write_str(message),
            Error::Upstream { step, failure } => write_failure(f, *step, failure),
            Error::Overloaded(message) => write!(f, "The server is busy: {message}"),
            Error::ShuttingDown => {
                f.write_str("The server is shutting down; try again in a moment")
            }
            Error::CutShort => f.write_str(
                "The server is shutting down and has given this answer up; its run may have been \
                 counted by LangFast",
            ),
            Error::ClientGone => f.write_str("The client closed the connection"),
            Error::Internal(message) => {
                write!(
                    f,
                    "Internal error: {message}. The server's log has more under the request id."
                )
            }
        }
    }
}

fn write_failure(f: &mut fmt::Formatter<'_>, step: Step, failure: &Failure) -> fmt::Result {
    let step = step.name();
    match failure {
        Failure::Unreachable(why) => write!(f, "Could not {step}: {why}"),
        Failure::Broken(why) => {
            write!(f, "Could not {step}: the connection to LangFast broke ({why})")
        }
        Failure::TimedOut { setting, limit } => write!(
            f,
            "Could not {step}: LangFast did not answer within {} s ({setting} sets this limit)",
            limit.as_secs_f64()
        ),
        Failure::Status { status, message: Some(message), .. } => {
            write!(f, "LangFast refused to {step} (HTTP {status}): {message}")
        }
        Failure::Status { status, message: None, .. } => {
            write!(f, "LangFast refused to {step} (HTTP {status})")
        }
        Failure::Malformed(what) => {
            write!(f, "Could not {step}: LangFast's answer is not understood: {what}")
        }
        Failure::Refused(message) => write!(f, "LangFast failed to {step}: {message}"),
        Failure::OverLimit(what) => write!(f, "Could not {step}: {what}"),
        Failure::Revised => write!(
            f,
            "Could not {step}: LangFast has changed text that had been sent already, so this is not its \
             answer. Without `stream` an answer is always the final text"
        ),
        Failure::NeedsOperator(how) => write!(f, "Could not {step}: {how}"),
        Failure::HoldOff { message, seconds } => {
            write!(f, "Could not {step}: {message} (next try in {seconds} s)")
        }
    }
}

impl std::error::Error for Error {}

/// Makes text from LangFast fit to be shown: one line, at most 400 characters, no control
/// characters, and nothing that looks like an access token.
pub fn clean(words: &str) -> String {
    let mut out = String::new();
    for word in words.split_whitespace().take(120) {
        if !out.is_empty() {
            out.push(' ');
        }
        match word.find("eyJ") {
            Some(at) => {
                out.push_str(&word[..at]);
                out.push_str("[token]");
            }
            None => out.extend(word.chars().filter(|c| !c.is_control())),
        }
    }
    match out.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &out[..end]),
        None => out,
    }
}
