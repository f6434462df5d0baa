//! Who we are to LangFast: one identity, its tokens, and when they are renewed.
//!
//! The operator's own account if there is one (a kept session, or e-mail and password), else one
//! anonymous user. A refresh token works once and two uses of it end the session, so one thread at a
//! time renews, under a lock that other processes respect, and the new token is on disk before the
//! access token that came with it is used.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::api::{Api, Credentials, Tokens};
use super::store::{LockError, Locked, Saved, SavedSession, Store};
use crate::config::Account;
use crate::error::{Error, Failure, Step};

/// An access token this close to its end is renewed first; a shorter-lived one at three quarters.
const MARGIN: Duration = Duration::from_secs(60);
/// What an access token lasts when LangFast does not say: Supabase's default.
const DEFAULT_LIFETIME: u64 = 3600;
/// Anonymous sign-ups in an hour at the most.
const SIGN_UPS_AN_HOUR: usize = 3;
const HOUR: u64 = 3600;
/// Most seconds that an access token is taken to last: a week, the most that Supabase lets be set.
const LONGEST_LIFETIME: u64 = 7 * 24 * 3600;
/// When to try again after another process did not give up the lock in time.
const LOCK_HOLD_OFF: Duration = Duration::from_secs(5);
/// Longest that a request waits for the lock only to keep its prompt for later starts.
const PROMPT_PATIENCE: Duration = Duration::from_secs(2);

/// Permission to call LangFast for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The bearer token.
    pub access_token: String,
    /// Whose it is.
    pub user_id: String,
    /// The account's address; `None` for an anonymous user.
    pub email: Option<String>,
    renew_at: Instant,
    expires_at: Instant,
}

impl Grant {
    /// Seconds until the access token expires; negative when it has.
    pub fn expires_in(&self) -> f64 {
        let now = Instant::now();
        let left = self.expires_at.saturating_duration_since(now).as_secs_f64();
        left - now.saturating_duration_since(self.expires_at).as_secs_f64()
    }

    /// Who is signed in, for people to read.
    pub fn who(&self) -> String {
        match &self.email {
            Some(email) => email.clone(),
            None => format!("an anonymous user ({})", &self.user_id),
        }
    }
}

/// The one identity of this process.
pub struct Session {
    api: Arc<Api>,
    store: Store,
    account: Account,
    patience: Duration,
    state: Mutex<State>,
    renewed: Condvar,
}

#[derive(Default)]
struct State {
    grant: Option<Arc<Grant>>,
    prompt_id: Option<String>,
    sign_ups: Vec<u64>,
    renewing: bool,
    /// How many renewals have ended, and how the last one failed if it did.
    renewals: u64,
    failure: Option<Error>,
    /// After a 429 nobody asks before this.
    hold_off: Option<Instant>,
}

impl Session {
    /// A session whose identity is kept in `store`. `patience` bounds the wait for another process.
    pub fn new(api: Arc<Api>, store: Store, account: Account, patience: Duration) -> Session {
        let state = Mutex::default();
        Session { api, store, account, patience, state, renewed: Condvar::new() }
    }

    /// A grant that lasts a while yet: the present one, or a renewed one. However many ask at once,
    /// LangFast is asked once.
    ///
    /// # Errors
    /// [`Step::SignIn`]: what LangFast said, or what the operator has to do.
    pub fn grant(&self) -> Result<Arc<Grant>, Error> {
        self.renew_unless(|grant| grant.renew_at > Instant::now())
    }

    /// A grant other than `refused`, which LangFast did not accept.
    ///
    /// # Errors
    /// As [`Session::grant`].
    pub fn renew(&self, refused: &Grant) -> Result<Arc<Grant>, Error> {
        self.renew_unless(|grant| grant.access_token != refused.access_token)
    }

    /// Signs in anew and keeps the session, whoever was signed in before.
    ///
    /// # Errors
    /// [`Step::SignIn`]; or when the session cannot be kept.
    pub fn log_in(&self, credentials: &Credentials) -> Result<Grant, Error> {
        let failed =
            |e: io::Error| Error::Internal(format!("{}: {e}", self.store.path().display()));
        let lock = self.store.lock(self.patience).map_err(|e| needs_operator(e.to_string()))?;
        let tokens = self.api.sign_in(credentials).map_err(explain)?;
        let lifetime = lifetime(&tokens);
        let session = saved_session(tokens, lifetime, None);
        let grant = grant_of(&session, lifetime);
        let saved = Saved { session: Some(session), ..self.load() };
        self.store.save(&saved, &lock).map_err(failed)?;
        Ok(grant)
    }

    /// Forgets the kept session, and says whose it was. The count of sign-ups stays.
    ///
    /// # Errors
    /// When the session file cannot be read or written.
    pub fn log_out(&self) -> io::Result<Option<String>> {
        let lock = self.store.lock(self.patience).map_err(io::Error::other)?;
        let mut saved = self.store.load()?;
        let Some(session) = saved.session.take() else { return Ok(None) };
        self.store.save(&saved, &lock)?;
        Ok(Some(grant_of(&session, 0).who()))
    }

    /// Whose session is kept, and the seconds that its access token lasts yet.
    ///
    /// # Errors
    /// When the session file cannot be read.
    pub fn kept(&self) -> io::Result<Option<(String, u64)>> {
        let session = self.store.load()?.session;
        Ok(session.map(|session| {
            let left = session.expires_at.saturating_sub(unix_now());
            (grant_of(&session, left).who(), left)
        }))
    }

    /// The session file's path.
    pub fn path(&self) -> std::path::PathBuf {
        self.store.path()
    }

    /// Why the last sign-in failed, if it did.
    pub fn failure(&self) -> Option<Error> {
        self.state.lock().unwrap().failure.clone()
    }

    /// Lets go of the present grant: the next request reads the session file again.
    pub fn reload(&self) {
        self.state.lock().unwrap().grant = None;
    }

    /// Who the next sign-in will be, as far as it is known, for people to read.
    pub fn expected(&self) -> String {
        if let Some((email, _)) = &self.account.login {
            return email.clone();
        }
        match self.load().session {
            Some(SavedSession { email: Some(email), .. }) => email,
            _ if self.account.refresh_token.is_some() => {
                "the holder of the refresh token".to_owned()
            }
            _ => "an anonymous user".to_owned(),
        }
    }

    /// The present grant, without asking LangFast for anything.
    pub fn present(&self) -> Option<Arc<Grant>> {
        self.state.lock().unwrap().grant.clone()
    }

    /// The prompt that runs of `grant`'s user are started under, if one is known.
    pub fn prompt_id(&self, grant: &Grant) -> Option<String> {
        let state = self.state.lock().unwrap();
        let same_user = state.grant.as_ref().is_some_and(|g| g.user_id == grant.user_id);
        state.prompt_id.clone().filter(|_| same_user)
    }

    /// Keeps (or, with `None`, forgets) the prompt of `grant`'s user, also across restarts.
    pub fn set_prompt_id(&self, grant: &Grant, prompt_id: Option<&str>) {
        let mut state = self.state.lock().unwrap();
        if state.grant.as_ref().is_some_and(|present| present.user_id == grant.user_id) {
            state.prompt_id = prompt_id.map(str::to_owned);
        }
        drop(state);
        let lock = match self.store.lock(self.patience.min(PROMPT_PATIENCE)) {
            Ok(lock) => lock,
            Err(error) => return log::warn!("the prompt is not kept: {error}"),
        };
        let mut saved = self.load();
        match &mut saved.session {
            Some(session) if session.user_id == grant.user_id => {
                session.prompt_id = prompt_id.map(str::to_owned);
                self.save(&saved, Some(&lock));
            }
            _ => {}
        }
    }

    fn renew_unless(&self, good: impl Fn(&Grant) -> bool) -> Result<Arc<Grant>, Error> {
        let mut state = self.state.lock().unwrap();
        let seen = state.renewals;
        loop {
            if let Some(grant) = state.grant.as_ref().filter(|grant| good(grant)) {
                return Ok(grant.clone());
            }
            // Somebody tried while we waited: their failure is ours.
            if let Some(failure) = state.failure.as_ref().filter(|_| state.renewals > seen) {
                return Err(failure.clone());
            }
            if !state.renewing {
                break;
            }
            state = self.renewed.wait(state).unwrap();
        }
        self.check_hold_off(&state)?;
        state.renewing = true;
        let old = state.grant.clone();
        drop(state);

        // Whatever happens in there, the waiting threads must be let go.
        let turn = Turn(self);
        let outcome = self.obtain(old.as_deref());
        turn.end(outcome)
    }

    fn check_hold_off(&self, state: &State) -> Result<(), Error> {
        let left = state.hold_off.and_then(|until| until.checked_duration_since(Instant::now()));
        match left {
            Some(left) => Err(hold_off("LangFast asked us to wait before signing in", left)),
            None => Ok(()),
        }
    }

    /// Gets a grant that differs from `old`. Only one thread at a time is in here.
    fn obtain(&self, old: Option<&Grant>) -> Result<Obtained, Error> {
        let lock = self.lock()?;
        let lock = lock.as_ref();
        let mut saved = self.load();
        let mut kept = saved.session.take().filter(|session| self.is_ours(session));
        if let Some(session) = &kept {
            if let Some(grant) = usable(session, old) {
                return Ok(Obtained { grant, prompt_id: session.prompt_id.clone() });
            }
        }
        let tokens = self.sign_in(kept.as_ref(), &mut saved, lock)?;
        let prompt_id = kept
            .take_if(|session| session.user_id == tokens.user.id)
            .and_then(|session| session.prompt_id);
        let lifetime = lifetime(&tokens);
        let session = saved_session(tokens, lifetime, prompt_id.clone());
        let grant = grant_of(&session, lifetime);
        saved.session = Some(session);
        self.save(&saved, lock);
        Ok(Obtained { grant, prompt_id })
    }

    /// Whether a kept session belongs to the account that the operator set.
    fn is_ours(&self, session: &SavedSession) -> bool {
        match &self.account.login {
            Some((email, _)) => {
                session.email.as_ref().is_some_and(|e| e.eq_ignore_ascii_case(email))
            }
            None => true,
        }
    }

    /// Signs in by what is at hand, the mildest first: refresh token, password, a new anonymous user.
    fn sign_in(
        &self,
        kept: Option<&SavedSession>,
        saved: &mut Saved,
        lock: Option<&Locked>,
    ) -> Result<Tokens, Error> {
        let refresh_token = match kept {
            Some(session) => Some(&session.refresh_token),
            None if self.account.login.is_none() => self.account.refresh_token.as_ref(),
            None => None,
        };
        if let Some(token) = refresh_token {
            let refreshed = self.api.sign_in(&Credentials::RefreshToken(token.clone()));
            match refreshed {
                Err(error) if is_dead_session(&error) => {
                    let is_account = kept.is_none_or(|session| session.email.is_some());
                    if is_account && self.account.login.is_none() {
                        return Err(explain(error));
                    }
                    log::warn!("the kept session is over ({}), signing in anew", error.cause());
                }
                other => return other.map_err(explain),
            }
        }
        let credentials = match &self.account.login {
            Some((email, password)) => {
                Credentials::Password { email: email.clone(), password: password.clone() }
            }
            None => {
                self.count_sign_up(saved, lock)?;
                Credentials::Anonymous
            }
        };
        let signed_in = self.api.sign_in(&credentials);
        if signed_in.as_ref().is_err_and(|error| self.account.login.is_none() && is_refusal(error))
        {
            self.discount_sign_up(saved, lock);
        }
        signed_in.map_err(explain)
    }

    /// Counts an anonymous sign-up that is about to be made, on disk before it is.
    fn count_sign_up(&self, saved: &mut Saved, lock: Option<&Locked>) -> Result<(), Error> {
        let now = unix_now();
        let mut state = self.state.lock().unwrap();
        // A directory that cannot be written keeps no count: the process's own is the least.
        let counted = saved.sign_ups.iter().chain(&state.sign_ups);
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
        let at = recent.last().map_or(now, |last| now.max(last + 1));
        recent.push(at);
        state.sign_ups.clone_from(&recent);
        drop(state);
        saved.sign_ups = recent;
        self.save(saved, lock);
        Ok(())
    }

    /// Takes the latest sign-up back: it made no user.
    fn discount_sign_up(&self, saved: &mut Saved, lock: Option<&Locked>) {
        saved.sign_ups.pop();
        self.state.lock().unwrap().sign_ups.clone_from(&saved.sign_ups);
        self.save(saved, lock);
    }

    /// The lock; `None` where nothing can be kept, and so nobody else keeps anything.
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

    fn load(&self) -> Saved {
        self.store.load().unwrap_or_else(|error| {
            log::warn!("{}: {error}", self.store.path().display());
            Saved::default()
        })
    }

    fn save(&self, saved: &Saved, lock: Option<&Locked>) {
        let Some(lock) = lock else { return };
        if let Err(error) = self.store.save(saved, lock) {
            let path = self.store.path();
            log::warn!("{}: {error}; the session is not kept", path.display());
        }
    }
}

struct Obtained {
    grant: Grant,
    prompt_id: Option<String>,
}

/// The renewing thread's turn; a panic in it ends it as a failure.
struct Turn<'a>(&'a Session);

impl Turn<'_> {
    fn end(self, outcome: Result<Obtained, Error>) -> Result<Arc<Grant>, Error> {
        let mut state = self.0.state.lock().unwrap();
        match outcome {
            Ok(obtained) => {
                let grant = Arc::new(obtained.grant);
                state.grant = Some(grant.clone());
                state.prompt_id = obtained.prompt_id;
                state.failure = None;
                Ok(grant)
            }
            Err(error) => {
                state.failure = Some(error.clone());
                state.hold_off = retry_after(&error).map(|wait| Instant::now() + wait);
                Err(error)
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // `end` has let the lock go by now; a poisoned one is taken all the same.
        let mut state = self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.renewing = false;
        state.renewals += 1;
        if std::thread::panicking() {
            state.failure = Some(Error::Internal("signing in panicked".to_owned()));
        }
        self.0.renewed.notify_all();
    }
}

/// The kept access token, if it lasts and is not the refused one.
fn usable(session: &SavedSession, old: Option<&Grant>) -> Option<Grant> {
    let left = session.expires_at.saturating_sub(unix_now());
    let grant = grant_of(session, left);
    let is_new = old.is_none_or(|old| old.access_token != session.access_token);
    (is_new && left > MARGIN.as_secs()).then_some(grant)
}

fn saved_session(tokens: Tokens, lifetime: u64, prompt_id: Option<String>) -> SavedSession {
    SavedSession {
        refresh_token: tokens.refresh_token,
        access_token: tokens.access_token,
        expires_at: unix_now().saturating_add(lifetime),
        user_id: tokens.user.id,
        email: tokens.user.email.filter(|email| !email.is_empty()),
        prompt_id,
        began_with: None,
    }
}

/// Seconds that the access token of a sign-in lasts.
fn lifetime(tokens: &Tokens) -> u64 {
    tokens.expires_in.unwrap_or(DEFAULT_LIFETIME).min(LONGEST_LIFETIME)
}

fn grant_of(session: &SavedSession, lifetime: u64) -> Grant {
    let (now, lifetime) = (Instant::now(), Duration::from_secs(lifetime.min(LONGEST_LIFETIME)));
    Grant {
        access_token: session.access_token.clone(),
        user_id: session.user_id.clone(),
        email: session.email.clone(),
        renew_at: now + lifetime.saturating_sub(MARGIN.min(lifetime / 4)),
        expires_at: now + lifetime,
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn needs_operator(how: impl Into<String>) -> Error {
    Error::upstream(Step::SignIn, Failure::NeedsOperator(how.into()))
}

fn hold_off(why: &str, wait: Duration) -> Error {
    let seconds = wait.as_secs().max(1);
    Error::upstream(Step::SignIn, Failure::HoldOff { message: why.to_owned(), seconds })
}

/// How long Supabase wants to be left alone after a 429.
fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Upstream { failure: Failure::Status { status: 429, retry_after, .. }, .. } => {
            Some(Duration::from_secs(retry_after.unwrap_or(5).clamp(1, HOUR)))
        }
        _ => None,
    }
}

/// Whether a sign-up certainly made no user: it did not arrive, or was refused.
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

/// Supabase Auth's error codes in words that say what to do.
fn explain(error: Error) -> Error {
    let login = "Sign in with `langfast2api login` (or set LANGFAST2API_EMAIL and a password)";
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
        "captcha_failed" => {
            format!("LangFast wants a captcha solved, which only a person can. {login}")
        }
        "signup_disabled" => format!("LangFast takes no new users at present. {login}"),
        "user_banned" => "LangFast has banned this account. Ask LangFast's support".to_owned(),
        _ => return error,
    };
    needs_operator(words)
}
