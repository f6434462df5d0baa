//! Requests that have just failed, so that the same request of the same client does not cost another run:
//! agents repeat by the status alone, within seconds, what has failed and will fail again.
//!
//! A request is known again by what a run would be given of it, as a hash under a key that is this process's
//! own; neither its text nor its client's key is kept. Its bytes would not do: agents write unknown fields anew
//! each time (Codex `client_metadata`, in another order). Requests that are under way at the same time know nothing of each other.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::chat::ChatRequest;
use crate::error::meaning::Meaning;
use crate::error::{Error, Failure, Memory, Step};

/// Most failures that are remembered; beyond it the oldest is forgotten.
const REMEMBERED: usize = 1000;

/// How many times longer than at first a failure may count.
const GROWTH: u32 = 4;

/// The failures of the last seconds.
#[derive(Debug)]
pub struct Repeats {
    /// How long a first failure counts; zero is not at all.
    span: Duration,
    /// Makes the hashes (SipHash, whose key is random): without the key nobody finds two requests of one
    /// hash, and by chance one request in 10^16 meets that of a thousand others.
    keys: RandomState,
    failures: Mutex<HashMap<u64, Failed>>,
}

#[derive(Debug)]
struct Failed {
    error: Error,
    at: Instant,
    /// How long it counts; twice as long it is known that the request has failed before.
    span: Duration,
}

/// A request, as it is known again.
#[derive(Debug)]
pub struct Asked {
    repeats: Arc<Repeats>,
    hash: u64,
}

impl Repeats {
    /// Remembers failures for `span`, and up to four times as long if the same request fails again soon
    /// after, since agents wait longer each time; zero is not at all.
    pub fn new(span: Duration) -> Arc<Repeats> {
        Arc::new(Repeats { span, keys: RandomState::new(), failures: Mutex::default() })
    }

    /// The request that `client` makes, whether its answer is streamed or not; `None` if failures are not
    /// remembered. What makes a client another one is the caller's to say.
    pub fn asked(
        repeats: &Arc<Repeats>,
        client: impl Hash,
        chats: &[ChatRequest],
    ) -> Option<Asked> {
        let hash = || repeats.keys.hash_one((client, chats));
        (!repeats.span.is_zero()).then(|| Asked { repeats: repeats.clone(), hash: hash() })
    }

    /// Forgets everything: each request is tried again.
    pub fn forget(&self) {
        self.lock().clear();
    }

    fn note(&self, hash: u64, error: &Error, now: Instant) {
        let mut failures = self.lock();
        let before = failures.remove(&hash).filter(|failed| !failed.is_over(now));
        let span = before.map_or(self.span, |failed| (failed.span * 2).min(self.span * GROWTH));
        if failures.len() >= REMEMBERED {
            failures.retain(|_, failed| !failed.is_over(now));
        }
        if failures.len() >= REMEMBERED {
            let oldest = failures.iter().min_by_key(|(_, failed)| failed.at).map(|(hash, _)| *hash);
            oldest.map(|hash| failures.remove(&hash));
        }
        failures.insert(hash, Failed { error: error.clone(), at: now, span });
    }

    fn standing(&self, hash: u64, now: Instant) -> Option<Error> {
        let failures = self.lock();
        let Failed { error, at, span } = failures.get(&hash)?;
        let ago = now.saturating_duration_since(*at);
        (ago < *span).then(|| Error::remembered(error, Memory::SameRequest, ago, Some(*span - ago)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Failed>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failed {
    /// Whether the failure can be forgotten: twice its span has passed.
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= self.span * 2
    }
}

impl Asked {
    /// Checks that this very request has not just failed.
    ///
    /// # Errors
    /// [`Error::Remembered`] if it has.
    pub fn check(&self) -> Result<(), Error> {
        self.repeats.standing(self.hash, Instant::now()).map_or(Ok(()), Err)
    }

    /// Remembers the request's failure, if it may have cost a run and trying again is not known to help.
    pub fn note_failure(&self, error: &Error) {
        if costs_again(error) {
            self.repeats.note(self.hash, error, Instant::now());
        }
    }
}

/// Whether the same request may cost another run, and fail again.
fn costs_again(error: &Error) -> bool {
    let Error::Upstream { step: Step::StartRun | Step::Run, failure } = error else { return false };
    match failure {
        // Nothing was sent.
        Failure::Unreachable(_) | Failure::HoldOff { .. } => false,
        // Without `stream` the same request is answered.
        Failure::Revised => false,
        // LangFast itself says when it wants to be asked again.
        Failure::Status { status: 503, retry_after: Some(_), .. } => false,
        _ => !matches!(
            error.meaning(),
            Some(
                // Nothing was started, and a moment later it may be.
                Meaning::IssuedInFuture | Meaning::NotBooted | Meaning::Rate
                // The next run goes without, or asks for fewer tokens.
                | Meaning::Parameter | Meaning::Value | Meaning::ContextLength
                // `langfast` has a memory for that.
                | Meaning::Quota
            )
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ResponseFormat, Role, Sampling, Tool, Tools, Turn};
    use serde_json::{Value, json};

    const SPAN: Duration = Duration::from_secs(30);

    fn failure() -> Error {
        Error::upstream(Step::Run, Failure::Refused("boom".to_owned()))
    }

    #[test]
    fn a_failure_is_remembered_for_the_span_and_not_longer() {
        let (repeats, now) = (Repeats::new(SPAN), Instant::now());
        repeats.note(1, &failure(), now);
        let Some(Error::Remembered { error, ago, left, .. }) =
            repeats.standing(1, now + SPAN - Duration::from_millis(1500))
        else {
            panic!("it is not remembered");
        };
        assert_eq!((*error, ago, left), (failure(), 28, Some(2)));
        assert_eq!(repeats.standing(2, now), None);
        assert_eq!(repeats.standing(1, now + SPAN), None);
    }

    #[test]
    fn what_fails_again_soon_after_is_remembered_for_longer() {
        let (repeats, mut now) = (Repeats::new(SPAN), Instant::now());
        for times in [1, 2, 4, 4] {
            repeats.note(1, &failure(), now);
            let end = now + SPAN * times;
            assert!(repeats.standing(1, end - Duration::from_millis(1)).is_some());
            assert_eq!(repeats.standing(1, end), None);
            now = end;
        }
        now += SPAN * 4;
        repeats.note(1, &failure(), now);
        assert_eq!(repeats.standing(1, now + SPAN), None, "that was long ago");
    }

    fn chat(content: &str) -> ChatRequest {
        ChatRequest {
            model: "m".to_owned(),
            turns: vec![Turn::message(Role::User, content)],
            tools: Tools::default(),
            sampling: Sampling { temperature: Some(0.5), ..Sampling::default() },
            stop: Vec::new(),
            n: 1,
            ignored: Vec::new(),
            left_out: Vec::new(),
        }
    }

    fn tool(parameters: Value) -> Tool {
        Tool { name: "t".to_owned(), parameters: Some(parameters), ..Tool::default() }
    }

    #[test]
    fn whatever_a_run_is_given_makes_another_request_and_so_does_another_client() {
        let repeats = Repeats::new(SPAN);
        let hash = |client: &str, chat: ChatRequest| {
            Repeats::asked(&repeats, client, &[chat]).unwrap().hash
        };
        let own = hash("a", chat("b"));
        assert_eq!(hash("a", ChatRequest { ignored: vec!["seed"], ..chat("b") }), own);
        let mut shorter = chat("b");
        shorter.sampling.max_completion_tokens = Some(9);
        assert_eq!(hash("a", shorter), own);
        assert_ne!(hash("ab", chat("")), own);
        assert_ne!(hash("c", chat("b")), own);
        let mut others = vec![chat("c"), chat("b"), chat("b"), chat("b"), chat("b"), chat("b")];
        others[1].n = 2;
        others[2].sampling.temperature = None;
        others[3].sampling.response_format = Some(ResponseFormat::JsonObject);
        others[4].stop = vec!["b".to_owned()];
        others[5].tools.list = vec![tool(json!({"a": 1}))];
        for other in others {
            assert_ne!(hash("a", other.clone()), own, "{other:?}");
        }
        let with = |parameters| ChatRequest {
            tools: Tools { list: vec![tool(parameters)], ..Tools::default() },
            ..chat("b")
        };
        let reordered = json!({"c": 2, "a": 1});
        assert_eq!(hash("a", with(reordered)), hash("a", with(json!({"a": 1, "c": 2}))));
        let other = Repeats::new(SPAN);
        assert_ne!(Repeats::asked(&other, "a", &[chat("b")]).unwrap().hash, own);
    }

    #[test]
    fn few_are_kept_and_the_newest_of_them() {
        let (repeats, now) = (Repeats::new(SPAN), Instant::now());
        for at in 0..3 * REMEMBERED as u64 {
            repeats.note(at, &failure(), now + Duration::from_millis(at));
        }
        assert_eq!(repeats.lock().len(), REMEMBERED);
        assert!(repeats.standing(3 * REMEMBERED as u64 - 1, now + SPAN / 2).is_some());
        repeats.note(1, &failure(), now + SPAN * 9);
        assert_eq!(repeats.lock().len(), 1, "what is over is forgotten first");
        repeats.forget();
        assert!(repeats.lock().is_empty());
    }

    #[test]
    fn zero_is_not_at_all() {
        assert!(Repeats::asked(&Repeats::new(Duration::ZERO), "a", &[chat("b")]).is_none());
    }

    #[test]
    fn what_a_second_try_may_mend_or_what_has_cost_nothing_is_not_remembered() {
        let status = |status, message: &str, retry_after| Failure::Status {
            status,
            code: None,
            message: Some(message.to_owned()),
            retry_after,
        };
        let refused = |message: &str| Failure::Refused(message.to_owned());
        let broken = || Failure::Broken("cut".to_owned());
        for (step, failure, expected) in [
            (Step::Run, refused("boom"), true),
            (Step::Run, broken(), true),
            (Step::Run, Failure::TimedOut { setting: "X", limit: SPAN }, true),
            (Step::StartRun, broken(), true),
            (Step::StartRun, status(500, "boom", None), true),
            (Step::StartRun, status(503, "", None), true),
            (Step::StartRun, status(403, "Upgrade to Pro to use this model", None), true),
            (Step::Run, refused("The model `x` does not exist"), true),
            (Step::StartRun, status(503, "", Some(1)), false),
            (Step::StartRun, status(429, "Too many requests", None), false),
            (Step::Run, refused("Daily limit reached"), false),
            (Step::Run, refused("Unsupported parameter: 'top_p'"), false),
            (Step::Run, refused("maximum context length is 8192 tokens"), false),
            (Step::StartRun, status(401, "JWT issued at future", None), false),
            (Step::StartRun, Failure::Unreachable("no".to_owned()), false),
            (Step::Run, Failure::Revised, false),
            (Step::Connect, broken(), false),
            (Step::SignIn, status(500, "boom", None), false),
        ] {
            let error = Error::upstream(step, failure);
            assert_eq!(costs_again(&error), expected, "{error}");
            let remembered = Error::remembered(&error, Memory::SameRequest, SPAN, Some(SPAN));
            assert!(!costs_again(&remembered), "a memory is not renewed by itself");
        }
        for error in [Error::ClientGone, Error::ShuttingDown, Error::CutShort] {
            assert!(!costs_again(&error));
        }
    }
}
