//! Sign-ins that LangFast has refused, and that only a person can mend: each is tried again after a pause
//! that grows, so that neither LangFast is hammered nor an account locked by a server that asks with each
//! request. Kept by the process alone.

use std::time::{Duration, Instant};

use super::api::Credentials;
use crate::error::Error;

/// The pause after the first refusal. Each further one doubles it, up to the limit.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Number of credentials that are remembered: one sign-in tries at most two ways.
const REMEMBERED: usize = 4;

/// The credentials that LangFast has refused.
#[derive(Default)]
pub struct RefusedSignIns(Vec<Refusal>);

struct Refusal {
    credentials: Credentials,
    error: Error,
    pause: Duration,
    until: Instant,
}

impl RefusedSignIns {
    /// The error of the last sign-in with these credentials, and the time until they may be tried again,
    /// while that has not come.
    pub fn standing(&self, credentials: &Credentials, now: Instant) -> Option<(Error, Duration)> {
        let refusal = self.0.iter().find(|refusal| refusal.credentials == *credentials)?;
        let left = refusal.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((refusal.error.clone(), left))
    }

    /// Notes a refusal; the pause until the next try.
    pub fn note(&mut self, credentials: &Credentials, error: &Error, now: Instant) -> Duration {
        let before = self.forget(credentials);
        let pause = before.map_or(PAUSE, |before| (before.pause * 2).min(LONGEST_PAUSE));
        self.0.truncate(REMEMBERED - 1);
        let (credentials, error, until) = (credentials.clone(), error.clone(), now + pause);
        self.0.insert(0, Refusal { credentials, error, pause, until });
        pause
    }

    /// Notes that these credentials were not refused.
    pub fn clear(&mut self, credentials: &Credentials) {
        self.forget(credentials);
    }

    fn forget(&mut self, credentials: &Credentials) -> Option<Refusal> {
        let at = self.0.iter().position(|refusal| refusal.credentials == *credentials)?;
        Some(self.0.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> Credentials {
        Credentials::RefreshToken(name.to_owned())
    }

    #[test]
    fn the_pause_doubles_up_to_an_hour_and_a_success_ends_it() {
        let (mut refusals, mut now) = (RefusedSignIns::default(), Instant::now());
        let (one, error) = (token("one"), Error::ClientGone);
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(refusals.standing(&one, now).is_none());
            let pause = refusals.note(&one, &error, now);
            assert_eq!(pause, Duration::from_secs(minutes * 60));
            assert_eq!(refusals.standing(&one, now), Some((error.clone(), pause)));
            now += pause;
        }
        refusals.note(&one, &error, now);
        refusals.clear(&one);
        assert!(refusals.standing(&one, now).is_none());
        assert_eq!(refusals.note(&one, &error, now), PAUSE);
    }

    #[test]
    fn other_credentials_are_not_held_up_and_few_are_remembered() {
        let (mut refusals, now) = (RefusedSignIns::default(), Instant::now());
        for at in 0..10 {
            refusals.note(&token(&at.to_string()), &Error::ClientGone, now);
        }
        assert!(refusals.standing(&token("9"), now).is_some());
        assert!(refusals.standing(&token("0"), now).is_none());
        assert!(refusals.standing(&Credentials::Anonymous, now).is_none());
        assert_eq!(refusals.0.len(), REMEMBERED);
    }
}
