//! A spent quota, as LangFast has said it: until it may be renewed no run is asked for, and requests get what
//! LangFast has said. Agents repeat by the status alone, so that one question would else cost many calls.
//!
//! It holds for the user whom it was said to, and for one model where LangFast speaks of a model's quota.
//! It ends at the time that LangFast has named, else after a pause that grows: then one request is let
//! through, and only its answer from LangFast ends it for the others. Kept by the process alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::error::meaning::Meaning;
use crate::error::{Error, Failure, Memory};

/// The pause after the first refusal where LangFast names no time. Each further one doubles it, up to the
/// limit.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);
/// Longest that a time which LangFast names is taken for: a quota of a day is renewed within it, and a
/// month's is asked for once a day.
const LONGEST_NAMED: Duration = Duration::from_secs(24 * 3600);
/// Most quotas that are remembered: the user's, and those of some models.
const REMEMBERED: usize = 8;

/// The quotas that LangFast has said are spent.
#[derive(Default)]
pub struct SpentQuotas(Mutex<Vec<Spent>>);

struct Spent {
    user_id: String,
    /// `None` if it is the quota of all models.
    model: Option<String>,
    error: Error,
    /// When LangFast has said so last.
    said: Instant,
    until: Instant,
    refusals: u32,
    /// Whether a request is under way that was let through to find out.
    is_probed: bool,
}

/// A request's leave to start runs. What comes of them tells whether the quota is spent.
pub struct Admission {
    quotas: Arc<SpentQuotas>,
    model: String,
    /// The user as whom the runs are started, once that is known.
    user_id: Mutex<Option<String>>,
    /// Whether the request finds out for others, and has not yet.
    is_probe: AtomicBool,
}

impl SpentQuotas {
    /// Whether nothing is remembered, so that any request is let through.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Forgets everything: LangFast is asked again.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// Lets a request of this user for this model through.
    ///
    /// # Errors
    /// [`Error::Remembered`]: the quota is spent, as far as is known.
    pub fn admit(
        quotas: &Arc<SpentQuotas>,
        user_id: &str,
        model: &str,
        now: Instant,
    ) -> Result<Admission, Error> {
        let mut spent = quotas.lock();
        spent.retain(|spent| spent.user_id == user_id);
        let mut is_probe = false;
        if let Some(spent) = spent.iter_mut().find(|spent| spent.is_of(model)) {
            if spent.is_probed || now < spent.until {
                return Err(spent.answer(now));
            }
            spent.is_probed = true;
            is_probe = true;
        }
        drop(spent);
        Ok(Admission::new(quotas.clone(), model, is_probe))
    }

    /// Returns the error that requests get now if a quota is spent; one for all models comes before one for a
    /// single model.
    pub fn answer(&self, now: Instant) -> Option<Error> {
        let spent = self.lock();
        let of_all = spent.iter().find(|spent| spent.model.is_none());
        of_all.or(spent.first()).map(|spent| spent.answer(now))
    }

    fn note(&self, user_id: &str, model: &str, error: &Error, was_probe: bool, now: Instant) {
        let words = error.words().unwrap_or_default().to_ascii_lowercase();
        // OpenAI's words of LangFast's own account with it: other makers' models go on.
        let is_makers = words.contains("billing details");
        let model = (is_makers || words.contains("model")).then(|| model.to_owned());
        let mut all = self.lock();
        let known = all.iter().position(|spent| spent.user_id == user_id && spent.model == model);
        // What was said while another request finds out, or before the pause is over, is no further refusal.
        let standing = known.map(|at| &all[at]);
        if standing.is_some_and(|spent| !was_probe && (spent.is_probed || now < spent.until)) {
            return;
        }
        let refusals = known.map_or(0, |at| all.remove(at).refusals) + 1;
        let pause = pause(error, refusals);
        let told = humantime::format_duration(Duration::from_secs(pause.as_secs()));
        log::warn!(
            "LangFast says that the quota is spent: requests get that from memory, and it is asked again \
             in {told}"
        );
        all.truncate(REMEMBERED - 1);
        let (user_id, error, until) = (user_id.to_owned(), error.clone(), now + pause);
        let spent = Spent { user_id, model, error, said: now, until, refusals, is_probed: false };
        all.insert(0, spent);
    }

    /// Ends a probe: with LangFast's answer the quota is not spent any more, else the next request finds out.
    fn end_probe(&self, model: &str, is_answered: bool) {
        let mut spent = self.lock();
        let Some(at) = spent.iter().position(|spent| spent.is_probed && spent.is_of(model)) else {
            return;
        };
        if is_answered {
            log::info!("the quota is not spent any more");
            spent.remove(at);
        } else {
            spent[at].is_probed = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Spent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    fn is_of(&self, model: &str) -> bool {
        self.model.as_deref().is_none_or(|own| own == model)
    }

    fn answer(&self, now: Instant) -> Error {
        let ago = now.saturating_duration_since(self.said);
        let left = (!self.is_probed).then(|| self.until.saturating_duration_since(now));
        Error::remembered(&self.error, Memory::SpentQuota, ago, left)
    }
}

impl Admission {
    /// The leave of a request while no quota is known to be spent.
    pub fn free(quotas: &Arc<SpentQuotas>, model: &str) -> Admission {
        Admission::new(quotas.clone(), model, false)
    }

    fn new(quotas: Arc<SpentQuotas>, model: &str, is_probe: bool) -> Admission {
        let (user_id, is_probe) = (Mutex::default(), AtomicBool::new(is_probe));
        Admission { quotas, model: model.to_owned(), user_id, is_probe }
    }

    /// Notes as whom a run is started.
    pub fn note_user(&self, user_id: &str) {
        *self.user_id.lock().unwrap_or_else(PoisonError::into_inner) = Some(user_id.to_owned());
    }

    /// Notes that LangFast has answered: the quota is not spent.
    pub fn note_answer(&self) {
        if self.is_probe.swap(false, Ordering::AcqRel) {
            self.quotas.end_probe(&self.model, true);
        }
    }

    /// Notes that a run was refused or has failed: remembers it if the quota is spent.
    pub fn note_failure(&self, error: &Error) {
        let is_spent =
            matches!(error, Error::Upstream { .. }) && error.meaning() == Some(Meaning::Quota);
        let user_id = self.user_id.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (true, Some(user_id)) = (is_spent, user_id) {
            let was_probe = self.is_probe.swap(false, Ordering::AcqRel);
            self.quotas.note(&user_id, &self.model, error, was_probe, Instant::now());
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.is_probe.swap(false, Ordering::AcqRel) {
            self.quotas.end_probe(&self.model, false);
        }
    }
}

/// How long LangFast is not asked after it has refused this often in a row.
fn pause(error: &Error, refusals: u32) -> Duration {
    let growing = (PAUSE * 2u32.pow((refusals - 1).min(10))).min(LONGEST_PAUSE);
    match named(error, SystemTime::now()) {
        Some(named) => {
            // A time that has proved wrong counts no more by itself.
            let least = if refusals > 1 { growing } else { Duration::from_secs(1) };
            named.clamp(least, LONGEST_NAMED)
        }
        None => growing,
    }
}

/// The time until the quota is renewed, if LangFast names it, in `Retry-After` or in words.
fn named(error: &Error, now: SystemTime) -> Option<Duration> {
    let Error::Upstream { failure, .. } = error else { return None };
    if let Failure::Status { retry_after: Some(seconds), .. } = failure {
        return Some(Duration::from_secs(*seconds));
    }
    let words = error.words()?.to_ascii_lowercase();
    named_span(&words).or_else(|| named_moment(&words, now))
}

/// "Try again in 6m0s", "resets in 3 hours and 20 minutes". A span that is not spoken of in this way may
/// be the one that the quota is for.
fn named_span(words: &str) -> Option<Duration> {
    const BEFORE: [&str; 9] = [
        "again in ",
        "again after ",
        "reset in ",
        "resets in ",
        "renews in ",
        "renewed in ",
        "retry in ",
        "retry after ",
        "available in ",
    ];
    let behind = BEFORE.iter().find_map(|before| Some(words.split_once(before)?.1))?;
    let words = behind.split_whitespace().filter(|word| *word != "and").take(6);
    let words: Vec<&str> = words.map(|word| word.trim_end_matches(['.', ',', ';', ')'])).collect();
    (1..=words.len()).rev().find_map(|end| humantime::parse_duration(&words[..end].join(" ")).ok())
}

/// "Your quota resets at 2026-11-27T00:00:00Z", in UTC.
fn named_moment(words: &str, now: SystemTime) -> Option<Duration> {
    const OF: [&str; 5] = ["reset", "renew", "again", "until", "available"];
    if !OF.iter().any(|word| words.contains(word)) {
        return None;
    }
    let moment = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let utc = word.strip_suffix("+00:00").unwrap_or(word).to_ascii_uppercase();
        humantime::parse_rfc3339_weak(utc.trim_end_matches('Z')).ok()
    };
    words.split_whitespace().find_map(moment)?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Step;

    const MINUTE: Duration = Duration::from_secs(60);

    fn spent(words: &str) -> Error {
        Error::upstream(Step::Run, Failure::Refused(words.to_owned()))
    }

    fn quotas() -> Arc<SpentQuotas> {
        Arc::default()
    }

    fn admit(quotas: &Arc<SpentQuotas>, user: &str, now: Instant) -> Result<Admission, Error> {
        SpentQuotas::admit(quotas, user, "m", now)
    }

    #[test]
    fn the_pause_doubles_up_to_half_an_hour_and_one_request_finds_out_each_time() {
        let (quotas, mut now) = (quotas(), Instant::now());
        quotas.note("me", "m", &spent("Daily limit reached"), false, now);
        for minutes in [1, 2, 4, 8, 16, 30, 30] {
            assert!(admit(&quotas, "me", now).is_err());
            assert!(admit(&quotas, "me", now + MINUTE * minutes - MINUTE / 2).is_err());
            now += MINUTE * minutes;
            let probe = admit(&quotas, "me", now).expect("one is let through");
            assert!(admit(&quotas, "me", now).is_err(), "and no other one");
            quotas.note("me", "m", &spent("Daily limit reached"), true, now);
            drop(probe);
        }
        now += MINUTE * 30;
        drop(admit(&quotas, "me", now).expect("it has not found out"));
        let probe = admit(&quotas, "me", now).expect("so the next one does");
        probe.note_answer();
        assert!(quotas.is_empty());
    }

    #[test]
    fn it_is_of_one_user_and_of_one_model_where_that_is_said() {
        let (quotas, now) = (quotas(), Instant::now());
        let makers = "You exceeded your current quota, please check your plan and billing details.";
        for words in ["You exceeded your quota for this model", makers] {
            quotas.note("me", "o1", &spent(words), false, now);
            assert!(admit(&quotas, "me", now).is_ok(), "{words}");
        }
        assert!(SpentQuotas::admit(&quotas, "me", "o1", now).is_err());
        quotas.note("me", "m", &spent("quota"), false, now);
        assert!(SpentQuotas::admit(&quotas, "me", "other", now).is_err());
        assert!(admit(&quotas, "you", now).is_ok());
        assert!(quotas.is_empty(), "somebody else is signed in now");
        for at in 0..20 {
            quotas.note("me", &format!("m{at}"), &spent("quota for this model"), false, now);
        }
        assert_eq!(quotas.lock().len(), REMEMBERED);
    }

    #[test]
    fn a_time_that_is_named_counts_until_it_proves_wrong() {
        let told = |retry_after| Failure::Status {
            status: 429,
            code: None,
            message: Some("Daily limit reached".to_owned()),
            retry_after,
        };
        let told = |seconds| Error::upstream(Step::StartRun, told(seconds));
        assert_eq!(pause(&told(Some(7)), 1), Duration::from_secs(7));
        assert_eq!(pause(&told(Some(7)), 2), MINUTE * 2);
        assert_eq!(pause(&told(Some(0)), 1), Duration::from_secs(1));
        assert_eq!(pause(&told(Some(u64::MAX)), 1), LONGEST_NAMED);
        assert_eq!(pause(&told(None), 1), MINUTE);
    }

    #[test]
    fn a_time_in_words_is_found_where_it_is_plain() {
        let now = humantime::parse_rfc3339("2026-11-26T20:00:00Z").unwrap();
        let hour = Duration::from_secs(3600);
        for (words, expected) in [
            ("Quota exceeded. Try again in 6m0s.", Some(MINUTE * 6)),
            (
                "Daily limit reached (resets in 3 hours and 20 minutes)",
                Some(hour * 3 + MINUTE * 20),
            ),
            ("Quota exceeded, please retry after 90 seconds", Some(Duration::from_secs(90))),
            ("Your quota resets at 2026-11-27T00:00:00.000Z.", Some(hour * 4)),
            ("Daily limit reached until 2026-11-27T00:00:00+00:00", Some(hour * 4)),
            ("Your quota was reset at 2026-11-25T00:00:00Z", None),
            ("You have reached your limit of 50 requests in 24 hours", None),
            ("Daily limit reached. Try again in a while", None),
            ("quota", None),
        ] {
            assert_eq!(named(&spent(words), now), expected, "{words}");
        }
    }
}
