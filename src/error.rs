//! Errors by cause, and the one place that turns a cause into what a client is told: HTTP status,
//! OpenAI's `type` and `code`, and whether trying again makes sense.
//!
//! A message says what happened, where, and what to do. It may quote LangFast, never a secret.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The steps of the way to LangFast, as messages and logs name them.
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
    /// What the step does, to be read after "LangFast failed to" or the like.
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

/// What went wrong at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: DNS, TCP, TLS or a proxy. The text says which.
    Unreachable(String),
    /// A connection ended before the whole answer had come.
    Broken(String),
    /// A deadline passed; `setting` is the one that sets it.
    TimedOut {
        /// Name of the environment variable that sets the deadline.
        setting: &'static str,
        /// The deadline.
        limit: Duration,
    },
    /// An HTTP status other than success, with LangFast's own words if there were any.
    Status {
        /// The HTTP status.
        status: u16,
        /// LangFast's error code, if it gave one.
        code: Option<String>,
        /// LangFast's own words, cleaned.
        message: Option<String>,
        /// Seconds of its `Retry-After`.
        retry_after: Option<u64>,
    },
    /// An answer that is not what the protocol says.
    Malformed(String),
    /// LangFast said no in so many words (a failed run, a refused Socket.IO CONNECT).
    Refused(String),
    /// This program's own limit, not LangFast's.
    OverLimit(String),
    /// The answer's text was revised after some of it had been sent in a stream.
    Revised,
    /// Somebody has to act before it can work again; the text says how.
    NeedsOperator(String),
    /// We keep away on our own account; try again after so many seconds.
    HoldOff {
        /// Why.
        message: String,
        /// Seconds to wait.
        seconds: u64,
    },
}

/// Everything that can keep a client from its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request is wrong. `param` names the field.
    Invalid {
        /// What is wrong with it.
        message: String,
        /// The field, as `messages[0].role`.
        param: Option<String>,
        /// OpenAI's error code.
        code: Option<&'static str>,
    },
    /// No key, or a wrong one.
    Unauthorized(&'static str),
    /// The request is understood and not allowed.
    Forbidden(String),
    /// No such model.
    NoSuchModel(String),
    /// No such URL; holds method and path.
    NoSuchUrl(String),
    /// The URL exists, the method does not.
    WrongMethod {
        /// The method that was asked for.
        method: String,
        /// The methods that exist, as `Allow` lists them.
        allow: &'static str,
    },
    /// The request as HTTP is wrong: refused by its status before anything reads it.
    BadHttp {
        /// 400, 408, 411, 413, 414, 415, 417, 431, 501 or 505.
        status: u16,
        /// What is wrong.
        message: String,
    },
    /// LangFast, or the way there.
    Upstream {
        /// Where.
        step: Step,
        /// What.
        failure: Failure,
    },
    /// More at once than the settings allow, or than the machine gives.
    Overloaded(String),
    /// The server is being stopped; nothing was started for this request.
    ShuttingDown,
    /// The server is being stopped, and the request's run was started, or may have been.
    CutShort,
    /// The client has left; nobody reads this.
    ClientGone,
    /// Our fault.
    Internal(String),
}

/// What an error looks like to a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// HTTP status.
    pub status: u16,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// OpenAI's `code`.
    pub code: Option<&'static str>,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u64>,
    /// `x-should-retry`, where the SDKs' own rule would do harm.
    pub should_retry: Option<bool>,
}

/// How an error looks to a client: a body, as JSON, in answer to the request of this id.
pub type Envelope = fn(&Error, request_id: &str) -> String;

/// How it looks where nothing is known of the client: [`Error::body`].
pub const DEFAULT_ENVELOPE: Envelope = |error, _| error.body();

impl Error {
    /// A 400 that names the field.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Error {
        Error::Invalid { message: message.into(), param: Some(param.into()), code: None }
    }

    /// A 400 for a field that is understood but cannot be served.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Error {
        Error::Invalid {
            message: message.into(),
            param: Some(param.into()),
            code: Some("unsupported_parameter"),
        }
    }

    /// Shorthand for a failure at a step.
    pub fn upstream(step: Step, failure: Failure) -> Error {
        Error::Upstream { step, failure }
    }

    /// The cause in one word, for logs and metrics: no text of a client or of LangFast in it.
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

    /// The step at which LangFast failed, if that was it.
    pub fn step(&self) -> Option<Step> {
        match self {
            Error::Upstream { step, .. } => Some(*step),
            _ => None,
        }
    }

    /// The mapping from cause to status, type and code: the only one.
    pub fn report(&self) -> Report {
        let invalid = |status, code| Report {
            status,
            kind: "invalid_request_error",
            code,
            retry_after: None,
            should_retry: None,
        };
        match self {
            Error::Invalid { code, .. } => invalid(400, *code),
            Error::Unauthorized(_) => invalid(401, Some("invalid_api_key")),
            Error::Forbidden(_) => Report { kind: "permission_error", ..invalid(403, None) },
            Error::NoSuchModel(_) => invalid(404, Some("model_not_found")),
            Error::NoSuchUrl(_) => invalid(404, Some("unknown_url")),
            Error::WrongMethod { .. } => invalid(405, Some("method_not_allowed")),
            Error::BadHttp { status, .. } => invalid(*status, None),
            Error::Upstream { step, failure } => failure.report(*step),
            Error::Overloaded(_) | Error::ShuttingDown => Report {
                kind: "server_error",
                retry_after: Some(1),
                ..invalid(503, Some("overloaded"))
            },
            Error::CutShort => Report {
                kind: "server_error",
                // Each run costs a request of the quota.
                should_retry: Some(false),
                ..invalid(503, Some("overloaded"))
            },
            Error::ClientGone => Report { kind: "server_error", ..invalid(499, None) },
            Error::Internal(_) => Report {
                kind: "server_error",
                // Whatever has failed here, a run may have been started before.
                should_retry: Some(false),
                ..invalid(500, None)
            },
        }
    }

    /// The error object that OpenAI's clients parse, as one line of JSON:
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

    fn report(&self, step: Step) -> Report {
        // Once the run request is under way the run may exist, and each costs a request of the quota:
        // an SDK must not repeat it by itself.
        let may_have_started = matches!(step, Step::StartRun | Step::Run);
        let report = |status, kind, code| Report {
            status,
            kind,
            code,
            retry_after: None,
            should_retry: may_have_started.then_some(false),
        };
        match self {
            Failure::TimedOut { .. } => report(504, "server_error", Some("timeout")),
            Failure::Unreachable(_) => Report {
                // Nothing was sent, so nothing was started.
                should_retry: None,
                ..report(502, "server_error", Some("upstream_unreachable"))
            },
            Failure::NeedsOperator(_) => Report {
                should_retry: Some(false),
                ..report(503, "server_error", Some("sign_in_required"))
            },
            Failure::HoldOff { seconds, .. } => Report {
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

/// What LangFast's HTTP status means to our client.
fn status_report(
    status: u16,
    words: &str,
    retry_after: Option<u64>,
    report: impl Fn(u16, &'static str, Option<&'static str>) -> Report,
) -> Report {
    match status {
        402 => quota(report),
        403 | 429 if speaks_of_quota(words) => quota(report),
        // Refused for its rate, so not started: the SDKs may come back after the time LangFast asks for.
        429 => Report {
            retry_after: Some(retry_after.unwrap_or(1).max(1)),
            should_retry: None,
            ..report(429, "requests", Some("rate_limit_exceeded"))
        },
        401 | 403 => Report { should_retry: Some(false), ..report(403, "permission_error", None) },
        400 | 404 | 409 | 413 | 422 => refusal_report(words, report),
        503 => Report { retry_after, ..report(503, "server_error", Some("upstream_unavailable")) },
        _ => report(502, "upstream_error", Some("upstream_error")),
    }
}

/// What LangFast's words mean to our client. The models' errors reach us as OpenAI words them.
fn refusal_report(
    message: &str,
    report: impl Fn(u16, &'static str, Option<&'static str>) -> Report,
) -> Report {
    let words = message.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    let invalid = |code| Report {
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
        Report {
            retry_after: Some(1),
            should_retry: None,
            ..report(429, "requests", Some("rate_limit_exceeded"))
        }
    } else {
        report(502, "upstream_error", Some("upstream_error"))
    }
}

/// A quota is spent: trying again is of no use for hours.
fn quota(report: impl Fn(u16, &'static str, Option<&'static str>) -> Report) -> Report {
    Report {
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

/// Makes words that came from LangFast fit to be shown: one line, at most 400 characters, no control
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
