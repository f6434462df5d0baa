//! The present grant: one thread at a time renews it, and all others wait for the outcome. Knows
//! nothing of how a grant is obtained.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::grant::Grant;
use crate::error::{Error, Failure, Step};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Longest pause that LangFast can ask for, in seconds.
const LONGEST_HOLD_OFF: u64 = 3600;

/// The result of a renewal.
pub struct Obtained {
    /// The grant.
    pub grant: Grant,
    /// The prompt of its user, if one is known.
    pub prompt_id: Option<String>,
}

type Outcome = Result<Arc<Grant>, Error>;

/// The present grant, and its renewals.
#[derive(Default)]
pub struct Renewals {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    grant: Option<Arc<Grant>>,
    prompt: KeptPrompt,
    /// Whether a thread is renewing.
    renewing: bool,
    /// Number of renewals that have ended, and the last one.
    count: u64,
    last: Option<EndedRenewal>,
    /// Number of calls of [`Renewals::reload`].
    reloads: u64,
    /// The time before which nobody asks LangFast after a 429.
    hold_off: Option<Instant>,
}

/// The prompt of the user whom the last renewal has signed in.
#[derive(Default)]
struct KeptPrompt {
    user_id: String,
    id: Option<String>,
    /// Whether [`Renewals::set_prompt_id`] has set or removed the id. Then no renewal changes it: what
    /// that brings may have been read before.
    is_own: bool,
}

struct EndedRenewal {
    /// [`State::reloads`] when it began.
    began: u64,
    outcome: Outcome,
}

impl Renewals {
    /// Returns the present grant if it has time left and its access token is not `refused`; else the
    /// outcome of a renewal, either one that ends while the caller waits or the caller's own. The
    /// caller's own is made by `obtain`, which takes the access token that is no longer good, if there
    /// is one.
    ///
    /// # Errors
    /// The error of `obtain`, shared by all who wait; [`Failure::HoldOff`] if LangFast has asked for a
    /// pause.
    pub fn get(
        &self,
        refused: Option<&str>,
        obtain: impl FnOnce(Option<&str>) -> Result<Obtained, Error>,
    ) -> Outcome {
        match self.wait_for_turn(refused) {
            ControlFlow::Break(outcome) => outcome,
            ControlFlow::Continue(turn) => {
                let old = turn.old.clone();
                let outcome = obtain(refused.or(old.as_ref().map(|old| &*old.access_token)));
                turn.end(outcome)
            }
        }
    }

    fn wait_for_turn(&self, refused: Option<&str>) -> ControlFlow<Outcome, RenewalTurn<'_>> {
        let is_other = |grant: &Grant| refused != Some(grant.access_token.as_str());
        let is_good = |grant: &Grant| match refused {
            Some(_) => is_other(grant),
            None => grant.renew_at > Instant::now(),
        };
        let mut state = self.state();
        let (seen, reloads) = (state.count, state.reloads);
        loop {
            if let Some(grant) = state.grant.as_ref().filter(|grant| is_good(grant)) {
                return ControlFlow::Break(Ok(grant.clone()));
            }
            // A renewal that ended while we waited counts for us too, even if its grant is short-lived;
            // but not if it began before the last reload before this call.
            let ended =
                state.last.as_ref().filter(|ended| state.count > seen && ended.began >= reloads);
            match ended.map(|ended| &ended.outcome) {
                Some(Ok(grant)) if !is_other(grant) => {}
                Some(outcome) => return ControlFlow::Break(outcome.clone()),
                None => {}
            }
            if !state.renewing {
                break;
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(left) = state.hold_off() {
            let message = "LangFast asked us to wait before signing in";
            return ControlFlow::Break(Err(hold_off(message, left)));
        }
        state.renewing = true;
        let (old, began) = (state.grant.clone(), state.reloads);
        ControlFlow::Continue(RenewalTurn { renewals: self, old, began, ended: false })
    }

    /// Drops the present grant, and the pause that LangFast has asked for: somebody else may be signed
    /// in now.
    pub fn reload(&self) {
        let mut state = self.state();
        state.grant = None;
        state.hold_off = None;
        state.reloads += 1;
    }

    /// The present grant.
    pub fn present(&self) -> Option<Arc<Grant>> {
        self.state().grant.clone()
    }

    /// The error of the last renewal, if it failed.
    pub fn failure(&self) -> Option<Error> {
        self.state().last.as_ref().and_then(|ended| ended.outcome.as_ref().err().cloned())
    }

    /// This user's prompt, if one is known and nobody else has signed in since.
    pub fn prompt_id(&self, user_id: &str) -> Option<String> {
        let prompt = &self.state().prompt;
        prompt.id.clone().filter(|_| prompt.user_id == user_id)
    }

    /// Sets or forgets this user's prompt, unless somebody else has signed in since.
    pub fn set_prompt_id(&self, user_id: &str, prompt_id: Option<&str>) {
        let prompt = &mut self.state().prompt;
        if prompt.user_id == user_id {
            prompt.id = prompt_id.map(str::to_owned);
            prompt.is_own = true;
        }
    }

    /// Locks the state. A poisoned lock is taken over, because no panic leaves the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The rest of the pause that LangFast has asked for, if it is not over.
    fn hold_off(&self) -> Option<Duration> {
        self.hold_off?.checked_duration_since(Instant::now())
    }

    fn end(&mut self, began: u64, outcome: Result<Obtained, Error>) -> Outcome {
        self.hold_off =
            outcome.as_ref().err().and_then(|error| Some(Instant::now() + retry_after(error)?));
        let outcome = outcome.map(|obtained| {
            let grant = Arc::new(obtained.grant);
            if !(self.prompt.is_own && self.prompt.user_id == grant.user_id) {
                let (user_id, id) = (grant.user_id.clone(), obtained.prompt_id);
                self.prompt = KeptPrompt { user_id, id, is_own: false };
            }
            // A grant from before a reload is good for those who waited for it, not for later callers.
            self.grant = (self.reloads == began).then(|| grant.clone());
            grant
        });
        self.renewing = false;
        self.count += 1;
        self.last = Some(EndedRenewal { began, outcome: outcome.clone() });
        outcome
    }
}

/// The turn of the thread that renews. Dropping it by a panic ends the renewal as a failure, so that
/// nobody waits for ever.
struct RenewalTurn<'a> {
    renewals: &'a Renewals,
    old: Option<Arc<Grant>>,
    /// [`State::reloads`] when it began.
    began: u64,
    ended: bool,
}

impl RenewalTurn<'_> {
    fn end(mut self, outcome: Result<Obtained, Error>) -> Outcome {
        self.finish(outcome)
    }

    fn finish(&mut self, outcome: Result<Obtained, Error>) -> Outcome {
        self.ended = true;
        let outcome = self.renewals.state().end(self.began, outcome);
        self.renewals.ended.notify_all();
        outcome
    }
}

impl Drop for RenewalTurn<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.finish(Err(Error::Internal("signing in panicked".to_owned())));
        }
    }
}

/// The error while LangFast is not asked for a sign-in: why, and for how long.
pub fn hold_off(why: &str, wait: Duration) -> Error {
    let seconds = wait.as_secs().max(1);
    Error::upstream(Step::SignIn, Failure::HoldOff { message: why.to_owned(), seconds })
}

/// The pause that Supabase asks for with a 429.
fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Upstream { failure: Failure::Status { status: 429, retry_after, .. }, .. } => {
            Some(Duration::from_secs(retry_after.unwrap_or(5).clamp(1, LONGEST_HOLD_OFF)))
        }
        _ => None,
    }
}

#[cfg(all(test, feature = "interleavings"))]
mod interleavings;

#[cfg(all(test, not(feature = "interleavings")))]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicBool, Ordering};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn obtained(access_token: &str) -> Obtained {
        Obtained { grant: Grant::for_test(access_token, "user", 3600), prompt_id: None }
    }

    #[test]
    fn a_poisoned_lock_is_taken_over() {
        let renewals = Renewals::default();
        let poisoning = || {
            let _state = renewals.state();
            panic!("as asked");
        };
        assert!(std::thread::scope(|scope| scope.spawn(poisoning).join()).is_err());
        assert!(renewals.state.is_poisoned());
        renewals.get(None, |_| Ok(obtained("token"))).unwrap();
        renewals.set_prompt_id("user", Some("prompt"));
        assert_eq!(renewals.prompt_id("user").as_deref(), Some("prompt"));
        renewals.reload();
        assert_eq!((renewals.present(), renewals.failure()), (None, None));
    }

    #[test]
    fn a_reload_ends_the_wait_that_langfast_asked_for() {
        let renewals = Renewals::default();
        let failure =
            Failure::Status { status: 429, code: None, message: None, retry_after: Some(u64::MAX) };
        let too_many = Error::upstream(Step::SignIn, failure);
        assert!(renewals.get(None, |_| Err(too_many)).is_err());
        let held_off = renewals.get(None, |_| Ok(obtained("token"))).unwrap_err();
        assert_eq!(held_off.cause(), "hold_off");
        renewals.reload();
        renewals.get(None, |_| Ok(obtained("token"))).unwrap();
    }

    #[test]
    fn a_panic_in_the_renewing_thread_ends_the_waiting_of_all_others() {
        for _ in 0..100 {
            let (renewals, first) = (Renewals::default(), AtomicBool::new(true));
            let get = || {
                renewals.get(None, |_| match first.swap(false, Ordering::SeqCst) {
                    // Without the panic hook's words.
                    true => std::panic::resume_unwind(Box::new("as asked")),
                    false => Ok(obtained("new")),
                })
            };
            let get = || catch_unwind(AssertUnwindSafe(get)).ok();
            let outcomes: Vec<Option<Outcome>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(get)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(outcomes.iter().filter(|outcome| outcome.is_none()).count(), 1);
            for outcome in outcomes.into_iter().flatten() {
                let told = Err(Error::Internal("signing in panicked".to_owned()));
                assert!(outcome.is_ok() || outcome == told, "{outcome:?}");
            }
        }
    }
}
