//! Permission to call LangFast for a while.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::api::Tokens;
use super::store::SavedSession;

/// An access token is renewed when this much time is left, or a quarter of its lifetime if that is
/// less.
pub const MARGIN: Duration = Duration::from_secs(60);
/// Seconds that an access token lasts when LangFast does not say: Supabase's default.
const DEFAULT_LIFETIME: u64 = 3600;
/// Upper limit of an access token's lifetime, in seconds: a week, the longest that Supabase can be set
/// to.
const LONGEST_LIFETIME: u64 = 7 * 24 * 3600;

/// Permission to call LangFast for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The bearer token.
    pub access_token: String,
    /// The id of the user whom the token belongs to.
    pub user_id: String,
    /// The account's address; `None` for an anonymous user.
    pub email: Option<String>,
    pub(super) renew_at: Instant,
    expires_at: Instant,
}

impl Grant {
    /// The grant of a session whose access token lasts `lifetime` more seconds (at most a week).
    pub(super) fn of(session: &SavedSession, lifetime: u64) -> Grant {
        let now = Instant::now();
        let lifetime = Duration::from_secs(lifetime.min(LONGEST_LIFETIME));
        Grant {
            access_token: session.access_token.clone(),
            user_id: session.user_id.clone(),
            email: session.email.clone(),
            renew_at: now + lifetime.saturating_sub(MARGIN.min(lifetime / 4)),
            expires_at: now + lifetime,
        }
    }

    /// Seconds until the access token expires; negative when it has.
    pub fn expires_in(&self) -> f64 {
        let now = Instant::now();
        let left = self.expires_at.saturating_duration_since(now).as_secs_f64();
        left - now.saturating_duration_since(self.expires_at).as_secs_f64()
    }

    /// The signed-in user, for people to read: an e-mail address, or the id of an anonymous user.
    pub fn who(&self) -> String {
        match &self.email {
            Some(email) => email.clone(),
            None => format!("an anonymous user ({})", self.user_id),
        }
    }
}

/// Seconds that the access token of a sign-in lasts.
pub fn lifetime(tokens: &Tokens) -> u64 {
    tokens.expires_in.unwrap_or(DEFAULT_LIFETIME).min(LONGEST_LIFETIME)
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
impl Grant {
    /// A grant of an anonymous user that lasts `lifetime` seconds.
    pub fn for_test(access_token: &str, user_id: &str, lifetime: u64) -> Grant {
        let session = SavedSession {
            refresh_token: String::new(),
            access_token: access_token.to_owned(),
            expires_at: 0,
            user_id: user_id.to_owned(),
            email: None,
            prompt_id: None,
            began_with: None,
        };
        Grant::of(&session, lifetime)
    }
}
