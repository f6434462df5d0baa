//! An error's message: what happened and where, and behind it what to do.
//!
//! Enters: an error, with LangFast's own words where it has sent some. Leaves: one sentence or more for
//! people, in plain English and without a secret. It may not know the status and the code, which
//! [`super::report`] chooses.

use std::fmt;
use std::time::Duration;

use super::meaning::Meaning;
use super::{Error, Failure, Memory, Step};

impl Error {
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
}
