//! Errors by cause, and the single place that maps a cause to what the client receives: HTTP
//! status, OpenAI's `type` and `code`, and whether a retry makes sense.
//!
//! Enters: a cause, with LangFast's own words where it has sent some; [`meaning`] tells what it means by them.
//! Leaves: status, code, retry headers, and a message that says what happened, where, and what to do. It may
//! quote LangFast, never a secret; and it may know no dialect but OpenAI's error object.

pub mod meaning;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use meaning::{Meaning, Said};

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
        /// Name of the setting; of two whose sum it is, with ` + ` between them.
        setting: &'static str,
        /// The time that was allowed.
        limit: Duration,
    },
    /// The socket that brings runs' events was lost, and no other one was connected within this time.
    Lost {
        /// Name of the setting.
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
    /// LangFast ended a run before its answer was complete, and said how rather than why.
    Ended {
        /// LangFast's status in one word, such as `timed_out`.
        how: &'static str,
        /// LangFast's own words, cleaned by [`clean`], if it sent any.
        message: Option<String>,
    },
    /// A limit of this program was exceeded, not LangFast's.
    OverLimit(String),
    /// LangFast changed text that had already been sent in a stream.
    Revised,
    /// An operator must act before it can work again. The text: the cause, and behind its full stop what
    /// to do.
    NeedsOperator(String),
    /// This program makes no calls to LangFast for a while, to spare it.
    HoldOff {
        /// The reason, for the client.
        message: String,
        /// Seconds until the next try.
        seconds: u64,
    },
}

/// Why an error is given again without LangFast being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The user's quota is spent.
    SpentQuota,
    /// The same request of the same client has just failed.
    SameRequest,
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
        /// The HTTP status: 400, 408, 413, 414, 415, 417, 426, 431, 501 or 505.
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
    /// LangFast was not asked, because of what it has answered before; see [`Error::remembered`].
    Remembered {
        /// That answer.
        error: Box<Error>,
        /// Why it counts again.
        memory: Memory,
        /// Seconds since LangFast has given it.
        ago: u64,
        /// Seconds until LangFast is asked again; `None` while another request finds out.
        left: Option<u64>,
    },
    /// More work is under way than the settings or the machine allow; the text says which limit.
    Overloaded(String),
    /// The server is stopping, and nothing was started for this request.
    ShuttingDown,
    /// The server is stopping, and the request's run has been or may have been started.
    CutShort,
    /// The client has gone; nobody reads the answer.
    ClientGone,
    /// The client has cancelled the answer, or has deleted it while it was under way.
    Cancelled,
    /// No such answer is stored, or the client may not see it; the text says what to do.
    NotStored(String),
    /// A WebSocket has been open as long as it may.
    SocketTooOld(Duration),
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

    /// Returns an error that was given this long ago, to be given again for so long as is `left`, or, with
    /// `None`, while another request finds out.
    pub fn remembered(
        error: &Error,
        memory: Memory,
        ago: Duration,
        left: Option<Duration>,
    ) -> Error {
        // A part of a second is a second that is left.
        let left = left.map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0));
        Error::Remembered { error: Box::new(error.clone()), memory, ago: ago.as_secs(), left }
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
            Error::Remembered { memory: Memory::SpentQuota, .. } => "remembered_quota",
            Error::Remembered { memory: Memory::SameRequest, .. } => "remembered_failure",
            Error::Overloaded(_) => "overloaded",
            Error::ShuttingDown | Error::CutShort => "shutting_down",
            Error::ClientGone => "client_gone",
            Error::Cancelled => "cancelled",
            Error::NotStored(_) => "not_stored",
            Error::SocketTooOld(_) => "socket_too_old",
            Error::Internal(_) => "internal",
        }
    }

    /// Returns the step that failed, if the cause is LangFast.
    pub fn step(&self) -> Option<Step> {
        match self {
            Error::Upstream { step, .. } => Some(*step),
            Error::Remembered { error, .. } => error.step(),
            _ => None,
        }
    }

    /// What LangFast means by its refusal, if the error is one and is understood.
    pub fn meaning(&self) -> Option<Meaning> {
        match self {
            Error::Upstream { step, failure } => failure.meaning(*step),
            Error::Remembered { error, .. } => error.meaning(),
            _ => None,
        }
    }

    /// LangFast's or the model's own words in a refusal; `None` if it has sent none.
    pub fn words(&self) -> Option<&str> {
        match self {
            Error::Upstream { failure: Failure::Status { message, .. }, .. } => message.as_deref(),
            Error::Upstream { failure: Failure::Refused(words), .. } => Some(words),
            Error::Remembered { error, .. } => error.words(),
            _ => None,
        }
    }

    /// Returns what happened and where, without what to do about it: see [`Error::remedy`].
    pub fn headline(&self) -> String {
        Headline(self).to_string()
    }

    /// Returns what to do, where the error tells that apart from what happened.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Error::Upstream { failure: Failure::NeedsOperator(words), .. } => {
                words.split_once(". ").map(|(_, remedy)| remedy)
            }
            Error::Upstream { failure: Failure::Malformed(_), .. } => Some(
                "LangFast may have changed: look for a newer version of langfast2api; `langfast2api doctor \
                 --run --capture FILE` records what it says",
            ),
            Error::Remembered { error, .. } => error.remedy(),
            _ => self.meaning().and_then(remedy_of),
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
    fn cause(&self) -> &'static str {
        match self {
            Failure::Unreachable(_) => "unreachable",
            Failure::Broken(_) => "broken",
            Failure::TimedOut { .. } => "timed_out",
            Failure::Lost { .. } => "lost",
            Failure::Status { .. } => "status",
            Failure::Malformed(_) => "malformed",
            Failure::Refused(_) => "refused",
            Failure::Ended { .. } => "ended",
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

    /// What LangFast means by its refusal, if it is one and is understood.
    fn meaning(&self, step: Step) -> Option<Meaning> {
        let said = match self {
            Failure::Status { status, code, message, .. } => Said {
                status: Some(*status),
                code: code.as_deref().unwrap_or_default(),
                message: message.as_deref().unwrap_or_default(),
            },
            Failure::Refused(message) => Said { status: None, code: "", message },
            _ => return None,
        };
        said.meaning(step)
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headline = self.headline();
        match self.remedy() {
            Some(remedy) if headline.ends_with(['.', '!', '?']) => {
                write!(f, "{headline} {remedy}")
            }
            Some(remedy) => write!(f, "{headline}. {remedy}"),
            None => f.write_str(&headline),
        }?;
        match self {
            Error::Remembered { memory, ago, left, .. } => write_memory(f, *memory, *ago, *left),
            _ => Ok(()),
        }
    }
}

/// Says that an error is from memory, since when, and until when.
fn write_memory(
    f: &mut fmt::Formatter<'_>,
    memory: Memory,
    ago: u64,
    left: Option<u64>,
) -> fmt::Result {
    let span = |seconds| humantime::format_duration(Duration::from_secs(seconds));
    let ago = span(ago);
    let what = match memory {
        Memory::SpentQuota => format!("LangFast said so {ago} ago; it is asked again"),
        Memory::SameRequest => {
            format!("this very request failed {ago} ago; it will be tried again")
        }
    };
    write!(f, " (answered from memory: {what} ")?;
    match left {
        None => f.write_str("by a request that is under way, which finds out for all"),
        Some(0) => f.write_str("with the next request"),
        Some(left) => write!(f, "in {}", span(left)),
    }?;
    match memory {
        Memory::SpentQuota => f.write_str(", or at once after a login, SIGHUP or a restart)"),
        Memory::SameRequest => f.write_str(")"),
    }
}

/// An error without what to do about it.
struct Headline<'a>(&'a Error);

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Error::Invalid { message, .. } => f.write_str(message),
            Error::Unauthorized(message) => f.write_str(message),
            Error::Forbidden(message) => f.write_str(message),
            Error::NoSuchModel(model) => write!(
                f,
                "The model `{model}` is not listed here: GET /v1/models lists those that are. A request for \
                 it is sent to LangFast with --unknown-models try, which is the default; --model-aliases \
                 {model}=NAME serves it with the model NAME."
            ),
            Error::NoSuchUrl(request) => write!(f, "Unknown request URL: {request}"),
            Error::WrongMethod { method, allow } => {
                write!(f, "Method {method} is not allowed here (allowed: {allow})")
            }
            Error::BadHttp { message, .. } => f.write_str(message),
            Error::Upstream { step, failure } => write_failure(f, *step, failure),
            Error::Remembered { error, .. } => Headline(error).fmt(f),
            Error::Overloaded(message) => write!(f, "The server is busy: {message}"),
            Error::ShuttingDown => {
                f.write_str("The server is shutting down; try again in a moment")
            }
            Error::CutShort => f.write_str(
                "The server is shutting down and has given this answer up; its run may have been \
                 counted by LangFast",
            ),
            Error::ClientGone => f.write_str("The client closed the connection"),
            Error::Cancelled => f.write_str("The response was cancelled at a client's request"),
            Error::NotStored(message) => f.write_str(message),
            Error::SocketTooOld(age) => write!(
                f,
                "Responses websocket connection limit reached ({} minutes). Create a new websocket \
                 connection to continue.",
                age.as_secs() / 60
            ),
            Error::Internal(message) => {
                write!(
                    f,
                    "Internal error: {message}. This is a fault of langfast2api; its log has more"
                )
            }
        }
    }
}

/// The flag and the variable of a setting: whichever it was set by, the person knows it again.
fn ways_to_set(setting: &str) -> String {
    let flag = |name: &str| format!("--{}", name.replace('_', "-"));
    let variable = |name: &str| format!("LANGFAST2API_{}", name.to_ascii_uppercase());
    let all = |way: &dyn Fn(&str) -> String| {
        setting.split(" + ").map(way).collect::<Vec<_>>().join(" + ")
    };
    format!("{} or {}", all(&flag), all(&variable))
}

fn write_failure(f: &mut fmt::Formatter<'_>, step: Step, failure: &Failure) -> fmt::Result {
    let cause = failure.meaning(step).and_then(cause_of);
    let step = step.name();
    match failure {
        Failure::Unreachable(why) => write!(f, "Could not {step}: {why}"),
        Failure::Broken(why) => {
            write!(f, "Could not {step}: the connection to LangFast broke ({why})")
        }
        Failure::TimedOut { setting, limit } => write!(
            f,
            "Could not {step}: LangFast did not answer within {} s ({} sets this limit)",
            limit.as_secs_f64(),
            ways_to_set(setting)
        ),
        Failure::Lost { setting, limit } => write!(
            f,
            "Could not {step}: the connection to LangFast was lost, and there was no other one within {} s \
             ({} sets this limit). LangFast may have gone on with the run",
            limit.as_secs_f64(),
            ways_to_set(setting)
        ),
        Failure::Status { status, code, message, .. } => {
            let said = message.as_ref().or(code.as_ref().filter(|_| cause.is_some()));
            write!(f, "LangFast refused to {step} (HTTP {status})")?;
            cause
                .into_iter()
                .chain(said.map(String::as_str))
                .try_for_each(|why| write!(f, ": {why}"))
        }
        Failure::Malformed(what) => {
            write!(f, "Could not {step}: LangFast's answer is not understood: {what}")
        }
        Failure::Refused(message) => {
            write!(f, "LangFast failed to {step}")?;
            cause.into_iter().chain([message.as_str()]).try_for_each(|why| write!(f, ": {why}"))
        }
        Failure::Ended { how, message } => {
            let why = message.as_deref().unwrap_or("no reason given");
            write!(f, "LangFast ended the run: {how} ({why})")
        }
        Failure::OverLimit(what) => write!(f, "Could not {step}: {what}"),
        Failure::Revised => write!(
            f,
            "Could not {step}: LangFast has changed text that had been sent already, so this is not its \
             answer. Without `stream` an answer is always the final text"
        ),
        Failure::NeedsOperator(words) => {
            let cause = words.split_once(". ").map_or(words.as_str(), |(cause, _)| cause);
            write!(f, "Could not {step}: {cause}")
        }
        Failure::HoldOff { message, seconds } => {
            write!(f, "Could not {step}: {message} (next try in {seconds} s)")
        }
    }
}

/// A refusal in words for people, where LangFast's own do not say it.
fn cause_of(meaning: Meaning) -> Option<&'static str> {
    match meaning {
        Meaning::PublicKey => Some("it no longer takes the public key that this program uses"),
        Meaning::Login => Some("it wants a user who is logged in"),
        Meaning::ProjectRestricted => Some("its whole project is restricted by its host"),
        Meaning::NoFunction => Some("it has renamed or removed the function for that"),
        Meaning::NotBooted => Some("its function did not start"),
        Meaning::FunctionFailed => Some("its function has crashed or used up its memory or time"),
        Meaning::FunctionIdle => Some("its function did not answer in the time that it has"),
        Meaning::IssuedInFuture => Some("its clocks disagree"),
        _ => None,
    }
}

/// What to do about a refusal.
fn remedy_of(meaning: Meaning) -> Option<&'static str> {
    match meaning {
        Meaning::PublicKey => Some(
            "LangFast has changed its key, and its web page has the new one: open the page, in the \
             browser's developer tools under Network choose any request to supabase.co, copy its header \
             `apikey`, and set it as --anon-key or LANGFAST2API_ANON_KEY",
        ),
        Meaning::Login => Some("Sign in with your own account: `langfast2api login`"),
        Meaning::ProjectRestricted => Some(
            "This is not your quota, and nothing here can mend it: try again in some hours, or ask \
             LangFast",
        ),
        Meaning::NoFunction => {
            Some("LangFast has changed: look for a newer version of langfast2api")
        }
        Meaning::NotBooted | Meaning::IssuedInFuture => {
            Some("Nothing was started: try again in a moment")
        }
        Meaning::FunctionFailed | Meaning::FunctionIdle => {
            Some("LangFast has trouble: try again later; the run may have been counted")
        }
        Meaning::NoSuchModel => Some(
            "Take another model (GET /v1/models lists what is known here), or have another one serve \
             this name (--model-aliases). What LangFast has today is on its own page; `langfast2api \
             models --import` brings the list up to date",
        ),
        Meaning::Plan => Some(
            "Take another model (GET /v1/models lists what is known here), or sign in with an account \
             whose plan has this one (`langfast2api login`)",
        ),
        Meaning::Quota => Some("Wait until LangFast renews the quota, or see its plans"),
        _ => None,
    }
}

impl std::error::Error for Error {}

/// What access tokens and secret keys begin with.
const SECRETS: [&str; 2] = ["eyJ", "sb_secret_"];

/// Makes text from LangFast fit to be shown: one line, at most 400 characters, no control
/// characters, and nothing that looks like an access token or a secret key.
pub fn clean(words: &str) -> String {
    let mut out = String::new();
    for word in words.split_whitespace().take(120) {
        if !out.is_empty() {
            out.push(' ');
        }
        match SECRETS.iter().filter_map(|secret| word.find(secret)).min() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> Error {
        Error::upstream(Step::Run, Failure::Refused(message.to_owned()))
    }

    #[test]
    fn a_message_is_its_headline_and_its_remedy() {
        let operator =
            Failure::NeedsOperator("the session is over. Sign in. Then go on".to_owned());
        let operator = Error::upstream(Step::SignIn, operator);
        let gone = refused("The model `x` does not exist.");
        for (error, headline, remedy) in [
            (operator, "Could not sign in: the session is over", "Sign in. Then go on"),
            (
                gone,
                "LangFast failed to run the prompt: The model `x` does not exist.",
                "Take another",
            ),
        ] {
            assert_eq!(error.headline(), headline);
            let (whole, told) = (error.to_string(), error.remedy().unwrap());
            assert!(told.starts_with(remedy) && whole.ends_with(told), "{whole}");
            assert!(!whole.contains(".."), "{whole}");
        }
        let other = refused("boom");
        assert_eq!((other.to_string(), other.remedy()), (other.headline(), None));
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

    #[test]
    fn a_refusal_by_the_platform_is_told_in_words_and_by_its_code() {
        let (message, retry_after) = (None, None);
        let code = Some("IDLE_TIMEOUT".to_owned());
        let failure = Failure::Status { status: 504, code, message, retry_after };
        let headline = Error::upstream(Step::StartRun, failure).headline();
        assert!(headline.contains("did not answer in the time"), "{headline}");
        assert!(
            headline.contains("HTTP 504") && headline.ends_with(": IDLE_TIMEOUT"),
            "{headline}"
        );
    }

    #[test]
    fn no_token_and_no_secret_key_is_shown() {
        let words = clean("one eyJhbGciOi.x two=sb_secret_abc three");
        assert_eq!(words, "one [token] two=[token] three");
    }
}
