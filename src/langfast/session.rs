//! The session with LangFast: the signed-in user, its tokens, and when they are renewed.
//!
//! The user is the operator's own account if there is one, else an anonymous user: [`super::identity`]
//! decides. A refresh token works once and two uses of it end the session, so one thread at a time
//! renews ([`super::renewals`]), under a lock that other processes respect, and the new token is on
//! disk before the access token that came with it is used. If the process dies in between, the token on
//! disk is the parent of the lost one, and LangFast accepts it again (known of Supabase Auth).

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::api::{Api, Credentials, Tokens};
use super::fingerprint::Fingerprint;
pub use super::grant::Grant;
use super::grant::{MARGIN, lifetime, unix_now};
use super::identity::{Outlook, SignInPlan, cannot, outlook};
use super::renewals::{Obtained, Renewals, hold_off};
use super::store::{LockError, Locked, Saved, SavedSession, Store};
use super::unwanted::{Unwanted, wanted_always};
use crate::config::{Account, SetToken};
use crate::error::{Error, Failure, Step};

/// Most anonymous sign-ups in an hour.
const SIGN_UPS_AN_HOUR: usize = 3;
const HOUR: u64 = 3600;
/// Pause after another process did not release the lock in time.
const LOCK_HOLD_OFF: Duration = Duration::from_secs(5);
/// Longest wait for the lock when only the prompt has to be saved.
const PROMPT_PATIENCE: Duration = Duration::from_secs(2);

/// The signed-in user of this process, with its tokens and its prompt.
pub struct Session {
    api: Arc<Api>,
    store: Store,
    account: Account,
    patience: Duration,
    renewals: Renewals,
    memory: Mutex<Memory>,
}

/// State that belongs in the session file, in case the file cannot be written.
#[derive(Default)]
struct Memory {
    sign_ups: Vec<u64>,
    /// The content that could not be saved, and the refresh token in the file at that time: while it is
    /// still there, nobody else has renewed the session.
    unsaved: Option<(Saved, Option<String>)>,
}

/// The state of one attempt to sign in.
struct Attempt<'a> {
    /// The new content of the session file.
    saved: Saved,
    lock: Option<Locked>,
    unwanted: &'a Unwanted,
}

impl Session {
    /// A session whose identity is kept in `store`. `patience` bounds the wait for another process.
    pub fn new(api: Arc<Api>, store: Store, account: Account, patience: Duration) -> Session {
        let (renewals, memory) = (Renewals::default(), Mutex::default());
        Session { api, store, account, patience, renewals, memory }
    }

    /// Returns a grant with time left: the present one, or a renewed one. Callers that come together
    /// share one request to LangFast and its outcome.
    ///
    /// # Errors
    /// [`Step::SignIn`]: LangFast's answer, or what the operator has to do. The error that `unwanted`
    /// returns.
    pub fn grant(&self, unwanted: &Unwanted) -> Result<Arc<Grant>, Error> {
        self.renewals.get(None, |old| self.obtain(old, unwanted))
    }

    /// Returns a grant other than `refused`, which LangFast did not accept.
    ///
    /// # Errors
    /// As [`Session::grant`].
    pub fn renew(&self, refused: &Grant, unwanted: &Unwanted) -> Result<Arc<Grant>, Error> {
        self.renewals.get(Some(&refused.access_token), |old| self.obtain(old, unwanted))
    }

    /// Signs in with `credentials` and saves the session in place of any other.
    ///
    /// # Errors
    /// [`Step::SignIn`]; or when the session cannot be kept.
    pub fn log_in(&self, credentials: &Credentials) -> Result<Grant, Error> {
        let lock = self.store.lock(self.patience).map_err(|e| needs_operator(e.to_string()))?;
        let mut saved = self.load()?;
        let signed_in = self.api.sign_in(credentials, &wanted_always());
        let tokens = signed_in.map_err(|error| match credentials {
            Credentials::RefreshToken(_) if is_dead_session(&error) => needs_operator(
                "the refresh token was used already, or its session is over. Take a new one from the \
                 browser, and do not use it there any more",
            ),
            _ => self.explain(error),
        })?;
        // By logging in, the operator has dealt with refused tokens.
        saved.used_tokens.get_or_insert_default().iter_mut().for_each(|used| used.refused = false);
        let began_with = match credentials {
            Credentials::RefreshToken(token) => Some(saved.note_use(token, false)),
            _ => None,
        };
        let lifetime = lifetime(&tokens);
        let session = saved_session(tokens, lifetime, began_with);
        let grant = Grant::of(&session, lifetime);
        saved.session = Some(session);
        self.store.save(&saved, &lock).map_err(|error| self.file_failed(&error))?;
        Ok(grant)
    }

    /// Deletes the kept session and returns its user; `None` if none was kept. The number of sign-ups
    /// and the list of used refresh tokens stay.
    ///
    /// # Errors
    /// The session file cannot be read or written.
    pub fn log_out(&self) -> io::Result<Option<String>> {
        let lock = self.store.lock(self.patience).map_err(io::Error::other)?;
        let mut saved = self.store.load()?;
        let Some(session) = saved.session.take() else { return Ok(None) };
        // It matters no more which token the deleted session began with.
        saved.used_tokens.get_or_insert_default();
        self.store.save(&saved, &lock)?;
        Ok(Some(Grant::of(&session, 0).who()))
    }

    /// The user of the kept session, and the seconds left of its access token.
    ///
    /// # Errors
    /// The session file cannot be read.
    pub fn kept(&self) -> io::Result<Option<(String, u64)>> {
        let session = self.store.load()?.session;
        Ok(session.map(|session| (Grant::of(&session, 0).who(), seconds_left(&session))))
    }

    /// The session file's path.
    pub fn path(&self) -> PathBuf {
        self.store.path()
    }

    /// The error of the last sign-in, if it failed.
    pub fn failure(&self) -> Option<Error> {
        self.renewals.failure()
    }

    /// Drops the present grant, so that the next request reads the session file again.
    pub fn reload(&self) {
        self.renewals.reload();
    }

    /// Describes the next sign-in for people, as far as it is known.
    pub fn outlook(&self) -> Outlook {
        match self.store.load() {
            Ok(saved) => outlook(&self.account, &saved),
            Err(error) => {
                let why = self.file_failed(&error).to_string();
                Outlook {
                    who: format!("nobody: {why}"),
                    change: Some(format!("not sign in: {why}")),
                    warnings: Vec::new(),
                }
            }
        }
    }

    /// The present grant, without asking LangFast for anything.
    pub fn present(&self) -> Option<Arc<Grant>> {
        self.renewals.present()
    }

    /// The prompt that runs of `grant`'s user are started under, if one is known.
    pub fn prompt_id(&self, grant: &Grant) -> Option<String> {
        self.renewals.prompt_id(&grant.user_id)
    }

    /// Keeps (or, with `None`, forgets) the prompt of `grant`'s user, also across restarts.
    pub fn set_prompt_id(&self, grant: &Grant, prompt_id: Option<&str>) {
        self.renewals.set_prompt_id(&grant.user_id, prompt_id);
        let lock = match self.store.lock(self.patience.min(PROMPT_PATIENCE)) {
            Ok(lock) => Some(lock),
            Err(LockError::Unwritable(..)) => None,
            Err(error) => return log::warn!("the prompt is not kept: {error}"),
        };
        let mut saved = match self.recall(lock.as_ref()) {
            Ok(saved) => saved,
            Err(error) => return log::warn!("the prompt is not kept: {error}"),
        };
        match &mut saved.session {
            Some(session) if session.user_id == grant.user_id => {
                session.prompt_id = prompt_id.map(str::to_owned);
                self.keep(&saved, lock.as_ref());
            }
            _ => {}
        }
    }

    /// Obtains a grant whose access token is not `old`. Only one thread at a time runs this.
    fn obtain(&self, old: Option<&str>, unwanted: &Unwanted) -> Result<Obtained, Error> {
        let lock = self.lock()?;
        let saved = self.recall(lock.as_ref())?;
        let mut attempt = Attempt { saved, lock, unwanted };
        let plan = SignInPlan::of(&self.account, &attempt.saved);
        let kept = attempt.saved.session.clone();
        if let Some(session) = kept.as_ref().filter(|_| plan == SignInPlan::GoOn) {
            if let Some(grant) = usable(session, old) {
                return Ok(Obtained { grant, prompt_id: session.prompt_id.clone() });
            }
        }
        let (tokens, began_with) = match (plan, &kept, &self.account) {
            (SignInPlan::GoOn, Some(session), _) => self.go_on(session, &mut attempt)?,
            (SignInPlan::SetToken, _, Account { refresh_token: Some(set), .. }) => {
                self.begin_with(set, &mut attempt)?
            }
            (
                SignInPlan::UsedUp | SignInPlan::Refused,
                _,
                Account { refresh_token: Some(set), .. },
            ) => {
                return Err(needs_operator(cannot(plan, set, &attempt.saved)));
            }
            _ => (self.begin(&mut attempt)?, None),
        };
        let lifetime = lifetime(&tokens);
        let mut session = saved_session(tokens, lifetime, began_with);
        let same_user = kept.filter(|kept| kept.user_id == session.user_id);
        session.prompt_id = same_user.and_then(|kept| kept.prompt_id);
        let obtained =
            Obtained { grant: Grant::of(&session, lifetime), prompt_id: session.prompt_id.clone() };
        attempt.saved.session = Some(session);
        self.keep(&attempt.saved, attempt.lock.as_ref());
        Ok(obtained)
    }

    /// Renews the kept session. If it is over, signs in anew, unless an anonymous user would replace an
    /// account.
    fn go_on(
        &self,
        session: &SavedSession,
        attempt: &mut Attempt<'_>,
    ) -> Result<(Tokens, Option<Fingerprint>), Error> {
        let credentials = Credentials::RefreshToken(session.refresh_token.clone());
        match self.api.sign_in(&credentials, attempt.unwanted) {
            Ok(tokens) => Ok((tokens, session.began_with.clone())),
            Err(error) if is_dead_session(&error) => {
                let wants_account = session.email.is_some() || self.account.refresh_token.is_some();
                if wants_account && self.account.login.is_none() {
                    return Err(self.explain(error));
                }
                log::warn!("the kept session is over ({}), signing in anew", error.cause());
                Ok((self.begin(attempt)?, None))
            }
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Signs in with the refresh token in the settings. A dead one is noted, so that it is not sent
    /// again.
    fn begin_with(
        &self,
        set: &SetToken,
        attempt: &mut Attempt<'_>,
    ) -> Result<(Tokens, Option<Fingerprint>), Error> {
        let credentials = Credentials::RefreshToken(set.token.clone());
        let saved = &mut attempt.saved;
        match self.api.sign_in(&credentials, attempt.unwanted) {
            Ok(tokens) => Ok((tokens, Some(saved.note_use(&set.token, false)))),
            Err(error) if is_dead_session(&error) => {
                saved.note_use(&set.token, true);
                self.keep(saved, attempt.lock.as_ref());
                Err(needs_operator(cannot(SignInPlan::Refused, set, saved)))
            }
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Signs in with the password in the settings, or as a new anonymous user.
    fn begin(&self, attempt: &mut Attempt<'_>) -> Result<Tokens, Error> {
        attempt.saved.used_tokens.get_or_insert_default();
        let Some((email, password)) = &self.account.login else { return self.sign_up(attempt) };
        let credentials =
            Credentials::Password { email: email.clone(), password: password.clone() };
        let signed_in = self.api.sign_in(&credentials, attempt.unwanted);
        let mut tokens = signed_in.map_err(|error| self.explain(error))?;
        // Spelled as in the settings, since this shows that the session is the account's.
        tokens.user.email = Some(email.clone());
        Ok(tokens)
    }

    fn sign_up(&self, attempt: &mut Attempt<'_>) -> Result<Tokens, Error> {
        let Attempt { saved, lock, unwanted } = attempt;
        self.count_sign_up(saved, lock.as_ref())?;
        let signed_up = self.api.sign_in(&Credentials::Anonymous, unwanted);
        if signed_up.as_ref().is_err_and(is_refusal) {
            self.discount_sign_up(saved, lock.as_ref());
        }
        signed_up.map_err(|error| self.explain(error))
    }

    /// Counts an anonymous sign-up before it is made, on disk if possible; fails if there were too many
    /// in the last hour.
    fn count_sign_up(&self, saved: &mut Saved, lock: Option<&Locked>) -> Result<(), Error> {
        let now = unix_now();
        // If the directory cannot be written, at least this process's own sign-ups count.
        let own = self.memory().sign_ups.clone();
        let counted = saved.sign_ups.iter().chain(&own);
        let mut recent: Vec<u64> = counted.copied().filter(|at| at.abs_diff(now) < HOUR).collect();
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
        self.memory().sign_ups.clone_from(&recent);
        saved.sign_ups = recent;
        self.keep(saved, lock);
        Ok(())
    }

    /// Takes the latest sign-up off the count, because it created no user.
    fn discount_sign_up(&self, saved: &mut Saved, lock: Option<&Locked>) {
        saved.sign_ups.pop();
        self.memory().sign_ups.clone_from(&saved.sign_ups);
        self.keep(saved, lock);
    }

    /// Takes the lock; `None` if the directory cannot be written, so that no process like this one uses
    /// it.
    fn lock(&self) -> Result<Option<Locked>, Error> {
        match self.store.lock(self.patience) {
            Ok(lock) => Ok(Some(lock)),
            Err(error @ LockError::Unwritable(..)) => {
                log::warn!("{error}; the session is not kept");
                Ok(None)
            }
            Err(error) => Err(hold_off(&error.to_string(), LOCK_HOLD_OFF)),
        }
    }

    /// Loads the state from the file, or from memory if it could not be written there.
    fn recall(&self, lock: Option<&Locked>) -> Result<Saved, Error> {
        let loaded = match lock {
            Some(_) => self.load()?,
            // A file that cannot be read is not overwritten, since nothing can be written here.
            None => self.store.load().unwrap_or_else(|error| {
                log::warn!("{}: {error}", self.store.path().display());
                Saved::default()
            }),
        };
        match &self.memory().unsaved {
            Some((saved, over)) if refresh_token(&loaded) == over.as_deref() => Ok(saved.clone()),
            _ => Ok(loaded),
        }
    }

    /// Saves the state in the file, or keeps it in memory if that fails.
    fn keep(&self, saved: &Saved, lock: Option<&Locked>) {
        let result = lock.map(|lock| self.store.save(saved, lock));
        let unsaved = match &result {
            Some(Ok(())) => None,
            _ => {
                let loaded = self.store.load().unwrap_or_default();
                Some((saved.clone(), refresh_token(&loaded).map(str::to_owned)))
            }
        };
        self.memory().unsaved = unsaved;
        if let Some(Err(error)) = result {
            log::warn!("{}: {error}; the session is not kept", self.store.path().display());
        }
    }

    fn explain(&self, error: Error) -> Error {
        let or_set = match &self.account.refresh_token {
            Some(set) => format!("put a new refresh token into {}", set.setting),
            None => "set LANGFAST2API_EMAIL and a password".to_owned(),
        };
        explain(error, &format!("Sign in with `langfast2api login` (or {or_set})"))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads the session file. One that cannot be read is an error and not replaced: it may hold the
    /// operator's session.
    fn load(&self) -> Result<Saved, Error> {
        self.store.load().map_err(|error| self.file_failed(&error))
    }

    fn file_failed(&self, error: &io::Error) -> Error {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                ". Give the session's file to the user that the server runs as"
            }
            _ => "",
        };
        needs_operator(format!("{}: {error}{advice}", self.store.path().display()))
    }
}

/// The grant of a kept session, if its access token has time left and is not `old`.
fn usable(session: &SavedSession, old: Option<&str>) -> Option<Grant> {
    let left = seconds_left(session);
    let is_new = old != Some(session.access_token.as_str());
    (is_new && left > MARGIN.as_secs()).then(|| Grant::of(session, left))
}

fn seconds_left(session: &SavedSession) -> u64 {
    session.expires_at.saturating_sub(unix_now())
}

fn saved_session(tokens: Tokens, lifetime: u64, began_with: Option<Fingerprint>) -> SavedSession {
    SavedSession {
        refresh_token: tokens.refresh_token,
        access_token: tokens.access_token,
        expires_at: unix_now().saturating_add(lifetime),
        user_id: tokens.user.id,
        email: tokens.user.email.filter(|email| !email.is_empty()),
        prompt_id: None,
        began_with,
    }
}

fn refresh_token(saved: &Saved) -> Option<&str> {
    saved.session.as_ref().map(|session| session.refresh_token.as_str())
}

fn needs_operator(how: impl Into<String>) -> Error {
    Error::upstream(Step::SignIn, Failure::NeedsOperator(how.into()))
}

/// Whether a sign-up certainly created no user: it did not arrive, or was refused.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::Upstream { failure: Failure::Unreachable(_), .. } => true,
        Error::Upstream { failure: Failure::Status { status, .. }, .. } => *status < 500,
        _ => false,
    }
}

fn auth_code(error: &Error) -> Option<&str> {
    match error {
        Error::Upstream { failure: Failure::Status { code, .. }, .. } => code.as_deref(),
        _ => None,
    }
}

/// Whether the refresh token will never work again.
fn is_dead_session(error: &Error) -> bool {
    matches!(
        auth_code(error),
        Some(
            "refresh_token_not_found"
                | "refresh_token_already_used"
                | "session_not_found"
                | "session_expired"
        )
    )
}

/// Replaces Supabase Auth's error codes by words that say what to do; `login` is a sentence on how to
/// sign in.
fn explain(error: Error, login: &str) -> Error {
    let words = match auth_code(&error).unwrap_or_default() {
        "refresh_token_not_found" => format!("the kept session is unknown to LangFast. {login}"),
        "refresh_token_already_used" => {
            format!("the kept session was used elsewhere too and is over. {login}")
        }
        "session_not_found" => format!("the session was ended (signed out elsewhere?). {login}"),
        "session_expired" => format!("the session has expired. {login}"),
        "invalid_credentials" | "invalid_grant" => {
            "e-mail or password is wrong. Check LANGFAST2API_EMAIL and its password, or run \
             `langfast2api login`"
                .to_owned()
        }
        "email_not_confirmed" => {
            "the account's e-mail address is not confirmed yet. Open the link \
                                  in LangFast's confirmation mail first"
                .to_owned()
        }
        "anonymous_provider_disabled" => {
            format!("LangFast no longer lets anonymous visitors in. {login}")
        }
        // The captcha guards sign-ins by password as well.
        "captcha_failed" => "LangFast wants a captcha solved, which only a person can. Sign in to \
                             LangFast in a browser and hand over its refresh token \
                             (`langfast2api login --refresh-token`)"
            .to_owned(),
        "signup_disabled" => format!("LangFast takes no new users at present. {login}"),
        "user_banned" => "LangFast has banned this account. Ask LangFast's support".to_owned(),
        _ => return error,
    };
    needs_operator(words)
}
