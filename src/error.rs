//! Errors by cause: every reason for which a client may not get its answer.
//!
//! Enters: a cause, with LangFast's own words where it has sent some; [`meaning`] tells what it means by them.
//! Leaves: status, code and retry headers ([`ErrorReport`]), and a message that says what happened, where, and
//! what to do. It may quote LangFast, never a secret; and it may know no dialect but OpenAI's error object.

pub mod meaning;
mod message;
mod report;

use std::time::Duration;

pub use report::{DEFAULT_ENVELOPE, Envelope, ErrorObject, ErrorReport};

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
        /// The earlier answer.
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

    /// Returns an error that was given this long ago and counts again: for the time that is
    /// `left`, or, with `None`, while another request finds out.
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

    /// The meaning of LangFast's refusal; `None` for any other error, and for words that are not understood.
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

    /// The meaning of the refusal; `None` for any other failure, and for words that are not understood.
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

    #[test]
    fn no_token_and_no_secret_key_is_shown() {
        let words = clean("one eyJhbGciOi.x two=sb_secret_abc three");
        assert_eq!(words, "one [token] two=[token] three");
    }
}
