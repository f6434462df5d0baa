//! Anonymous sign-ups: whether one may be made, and how they are counted.
//!
//! Enters: an attempt to sign in for which no account is set. Leaves: an anonymous user's tokens, after
//! the sign-up was counted on disk; or why nobody is signed up. It knows the session's store, and the
//! [spare](super::Spare) place for the count where that cannot be written; it may not know how sessions
//! are renewed.

use std::path::PathBuf;
use std::time::Duration;

use super::{Attempt, LOCK_HOLD_OFF, Session, cannot_lock, needs_operator};
use crate::error::meaning::Meaning;
use crate::error::{Error, Failure};
use crate::langfast::api::{Credentials, Tokens};
use crate::langfast::grant::unix_now;
use crate::langfast::remedies::needs_person;
use crate::langfast::renewals::hold_off;
use crate::langfast::store::{LockError, Locked, Saved};

/// Most anonymous sign-ups in an hour.
const SIGN_UPS_AN_HOUR: usize = 3;

const HOUR: u64 = 3600;

/// What the log says of an anonymous sign-up: LangFast's terms of 2025-06-15.
const TERMS: &str = "signed up an anonymous user. Mind LangFast's terms: they allow neither access by \
                     automated means nor accounts made by such, unless LangFast consents; with your own \
                     account (`langfast2api login`) none is made";

/// Why nobody is signed up where that has to be asked for.
const UNASKED: &str = "nobody is signed in, and an anonymous user is signed up only when that is asked \
                       for. Do so (`langfast2api doctor --sign-in`), or sign in with your own account \
                       (`langfast2api login`)";

impl Session {
    /// Whether an anonymous user may be signed up: the settings name no account.
    pub fn may_sign_up(&self) -> bool {
        self.account.login.is_none() && self.account.refresh_token.is_none()
    }

    /// From now on signs no anonymous user up: what needs one fails ([`Session::is_unasked`]).
    pub fn forbid_sign_ups(&self) {
        let _ = self.asks_first.set(());
    }

    /// Whether an error is only that no anonymous user was to be signed up.
    pub fn is_unasked(error: &Error) -> bool {
        *error == needs_operator(UNASKED)
    }

    /// The file in which anonymous sign-ups are counted; and, if it is not the session's, why that cannot
    /// be written, and what to do.
    ///
    /// # Errors
    /// There is none, so that nobody is signed up; says why.
    pub fn sign_ups_counted_in(&self) -> Result<(PathBuf, Option<String>), String> {
        let own = || (self.path(), None);
        let why = match self.store.lock(Duration::ZERO) {
            Err(LockError::Held { .. }) => return Ok(own()),
            Err(error) => cannot_lock(&error),
            Ok(lock) => match self.store.load().and_then(|saved| self.store.prove(&saved, &lock)) {
                Ok(()) => return Ok(own()),
                Err(error) => self.cannot_keep(&error),
            },
        };
        match self.spare.open(Duration::ZERO) {
            Ok(count) => Ok((count.path(), Some(why))),
            Err(LockError::Held { path, .. }) => Ok((path, Some(why))),
            Err(_) => Err(self.uncounted(&why)),
        }
    }

    pub(super) fn sign_up(&self, attempt: &mut Attempt<'_>) -> Result<Tokens, Error> {
        if self.asks_first.get().is_some() {
            return Err(needs_operator(UNASKED));
        }
        let Attempt { saved, lock, unwanted } = attempt;
        let lock = lock.as_ref().ok();
        let explain = |error| self.explain(error, &Credentials::Anonymous);
        self.check_refused(&Credentials::Anonymous).map_err(explain)?;
        self.count_sign_up(saved, lock)?;
        let signed_up = self.sign_in(&Credentials::Anonymous, unwanted);
        if signed_up.as_ref().is_err_and(is_refusal) {
            self.discount_sign_up(saved, lock);
        }
        let tokens = signed_up.map_err(explain)?;
        log::info!("{TERMS}");
        Ok(tokens)
    }

    /// Counts an anonymous sign-up before it is made, on disk; fails if there were too many in the last
    /// hour, or if nothing can be written, since a process that is started again and again would then
    /// sign up as often.
    fn count_sign_up(&self, saved: &mut Saved, lock: Option<&Locked>) -> Result<(), Error> {
        let own = self.memory().sign_ups.clone();
        let counted = [&saved.sign_ups[..], &own].concat();
        let before = std::mem::replace(&mut saved.sign_ups, with_one_more(&counted)?);
        let mut on_disk = Ok(());
        if let Err(why) = self.try_keep(saved, lock) {
            on_disk = self.count_elsewhere(saved, &why);
        }
        if on_disk.is_err() {
            saved.sign_ups = before;
            self.keep(saved, lock);
        }
        self.memory().sign_ups.clone_from(&saved.sign_ups);
        on_disk
    }

    /// Counts a sign-up where it is counted in place of the session file, which cannot be written.
    fn count_elsewhere(&self, saved: &mut Saved, why: &str) -> Result<(), Error> {
        let mut count = self.spare.open(self.patience).map_err(|error| match error {
            LockError::Held { .. } => hold_off(&error.to_string(), LOCK_HOLD_OFF),
            _ => needs_operator(self.uncounted(why)),
        })?;
        // Without the one that is being counted.
        let others = saved.sign_ups.split_last().map_or(&[][..], |(_, others)| others);
        let sign_ups = with_one_more(&[others, count.sign_ups()].concat())?;
        count.set(sign_ups.clone()).map_err(|_| needs_operator(self.uncounted(why)))?;
        log::warn!("anonymous sign-ups are counted in {}", count.path().display());
        saved.sign_ups = sign_ups;
        Ok(())
    }

    /// Takes the latest sign-up off the count, because it created no user.
    fn discount_sign_up(&self, saved: &mut Saved, lock: Option<&Locked>) {
        let Some(last) = saved.sign_ups.pop() else { return };
        self.memory().sign_ups.clone_from(&saved.sign_ups);
        if self.try_keep(saved, lock).is_ok() {
            return;
        }
        if let Ok(mut count) = self.spare.open(self.patience) {
            let others = count.sign_ups().iter().copied().filter(|at| *at != last).collect();
            // If it fails, the sign-up stays counted, which does no harm.
            let _ = count.set(others);
        }
    }

    fn uncounted(&self, why: &str) -> String {
        format!(
            "nobody is signed up, because anonymous sign-ups cannot be counted: {why}. Nor can they in {}. \
             With your own account (LANGFAST2API_EMAIL and a password) none are needed",
            self.spare.names()
        )
    }
}

/// The times of the sign-ups of the last hour, and of one more now.
fn with_one_more(counted: &[u64]) -> Result<Vec<u64>, Error> {
    let now = unix_now();
    let mut recent: Vec<u64> =
        counted.iter().copied().filter(|at| at.abs_diff(now) < HOUR).collect();
    recent.sort_unstable();
    recent.dedup();
    if recent.len() >= SIGN_UPS_AN_HOUR {
        let wait = Duration::from_secs((recent[0] + HOUR).saturating_sub(now));
        let why = "this hour's anonymous sign-ups are used up; sign in with your own account \
                   (`langfast2api login`) to go on at once";
        return Err(hold_off(why, wait));
    }
    // Two in the same second count as two.
    recent.push(recent.last().map_or(now, |last| now.max(last + 1)));
    Ok(recent)
}

/// Whether a sign-up certainly created no user: it did not arrive, or was refused.
fn is_refusal(error: &Error) -> bool {
    match error {
        _ if needs_person(error) => true,
        _ if error.meaning() == Some(Meaning::ProjectRestricted) => true,
        Error::Upstream { failure: Failure::Unreachable(_), .. } => true,
        Error::Upstream { failure: Failure::Status { status, .. }, .. } => *status < 500,
        _ => false,
    }
}
