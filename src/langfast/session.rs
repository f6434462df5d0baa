//! The session with LangFast: the signed-in user, its tokens, and when they are renewed.
//!
//! The user is the operator's own account if there is one, else an anonymous user: [`super::identity`]
//! decides. A refresh token works once and two uses of it end the session, so one thread at a time
//! renews ([`super::renewals`]), under a lock that other processes respect, and the new token is on
//! disk before the access token that came with it is used. If the process dies in between, the token on
//! disk is the parent of the lost one, and LangFast accepts it again (known of Supabase Auth). A token
//! that nothing else could replace is sent only when its successor can be kept.

mod sign_ups;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::api::{Api, Credentials, Tokens};
use super::fingerprint::Fingerprint;
pub use super::grant::Grant;
use super::grant::{MARGIN, lifetime, unix_now};
use super::identity::{Outlook, SignInPlan, cannot, outlook};
use super::refused_sign_ins::RefusedSignIns;
use super::remedies::{self, BrowserPlace, is_dead_session};
use super::renewals::{Obtained, Renewals, hold_off};
use super::spare::Spare;
use super::store::{LockError, Locked, Saved, SavedSession, Store};
use super::unwanted::{Unwanted, wanted_always};
use crate::config::{Account, SetToken};
use crate::error::{Error, Failure, Step};
use crate::files;

/// Pause after another process did not release the lock in time.
const LOCK_HOLD_OFF: Duration = Duration::from_secs(5);
/// Longest wait for the lock when only the prompt has to be saved.
const PROMPT_PATIENCE: Duration = Duration::from_secs(2);

/// The signed-in user of this process, with its tokens and its prompt.
pub struct Session {
    api: Arc<Api>,
    store: Store,
    spare: Spare,
    account: Account,
    patience: Duration,
    renewals: Renewals,
    memory: Mutex<Memory>,
    /// Set if no anonymous user may be signed up.
    asks_first: OnceLock<()>,
}

/// State of this process: what belongs in the session file, in case that cannot be written, and what
/// LangFast has refused.
#[derive(Default)]
struct Memory {
    sign_ups: Vec<u64>,
    /// The content that could not be saved, and the refresh token in the file at that time: while it is
    /// still there, nobody else has renewed the session.
    unsaved: Option<(Saved, Option<String>)>,
    refused: RefusedSignIns,
}

/// The state of one attempt to sign in.
struct Attempt<'a> {
    /// The new content of the session file.
    saved: Saved,
    /// The lock; or why the directory cannot be written.
    lock: Result<Locked, LockError>,
    unwanted: &'a Unwanted,
}

impl Session {
    /// A session whose identity is kept in `store`, or, as far as that cannot be written, by this
    /// process alone. `patience` bounds the wait for another process.
    pub fn new(api: Arc<Api>, store: Store, account: Account, patience: Duration) -> Session {
        let spare = Spare::new(api.endpoint().authority());
        let (renewals, memory) = (Renewals::default(), Mutex::default());
        let asks_first = OnceLock::new();
        Session { api, store, spare, account, patience, renewals, memory, asks_first }
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

    /// Signs in with `credentials` and saves the session in place of any other. Nothing is sent unless
    /// the session can be kept.
    ///
    /// # Errors
    /// [`Step::SignIn`]; or when the session cannot be kept.
    pub fn log_in(&self, credentials: &Credentials) -> Result<Grant, Error> {
        let lock =
            self.store.lock(self.patience).map_err(|error| not_sent(&cannot_lock(&error)))?;
        let mut saved = self.load()?;
        let proof = self.store.prove(&saved, &lock);
        proof.map_err(|error| not_sent(&self.cannot_keep(&error)))?;
        let tokens = self.api.sign_in(credentials, &wanted_always());
        let tokens = tokens.map_err(|error| self.explain_login(error, credentials))?;
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
        let kept = self.store.save(&saved, &lock);
        kept.map_err(|error| self.not_kept(&error, credentials))?;
        Ok(grant)
    }

    /// Where a browser keeps the session of who is signed in to LangFast.
    pub fn browser_place(&self) -> BrowserPlace {
        BrowserPlace::new(self.api.origin(), &self.api.endpoint().host)
    }

    fn explain_login(&self, error: Error, credentials: &Credentials) -> Error {
        match credentials {
            Credentials::RefreshToken(_) if is_dead_session(&error) => needs_operator(format!(
                "the refresh token was used already, or its session is over. Take a new one, and do not \
                 use it in the browser any more: {}",
                self.browser_place().recipe()
            )),
            _ => self.explain(error, credentials),
        }
    }

    /// The error for a login that LangFast has granted, and that is lost all the same. The parent of a
    /// session's newest refresh token may be used again at any time (known of Supabase Auth).
    fn not_kept(&self, error: &io::Error, credentials: &Credentials) -> Error {
        let again = match credentials {
            Credentials::RefreshToken(_) => {
                "then do this again with the same token, soon: LangFast takes it once more, as long as \
                 nothing has gone on with its session"
            }
            _ => "then log in again",
        };
        let why = self.cannot_keep(error);
        needs_operator(format!(
            "LangFast has signed you in, but the session is not kept: {why}; {again}"
        ))
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

    /// Drops the present grant, so that the next request reads the session file again, and asks
    /// LangFast again whatever it has refused.
    pub fn reload(&self) {
        self.memory().refused = RefusedSignIns::default();
        self.renewals.reload();
    }

    /// Whether the session file holds another sign-in than the present grant: somebody has logged in, or
    /// another process has renewed the session.
    pub fn is_superseded(&self) -> bool {
        let Some(grant) = self.present() else { return false };
        if self.memory().unsaved.is_some() {
            return false;
        }
        let kept = self.store.load().ok().and_then(|saved| saved.session);
        kept.is_some_and(|kept| kept.access_token != grant.access_token)
    }

    /// Describes the next sign-in for people, as far as it is known.
    pub fn outlook(&self) -> Outlook {
        let unwritable = self.store.check_writable().err();
        let saved = match self.store.load() {
            Ok(saved) => saved,
            // The server goes on without what it can neither read nor write.
            Err(_) if unwritable.is_some() => Saved::default(),
            Err(error) => {
                let why = self.file_failed(&error).to_string();
                return Outlook {
                    who: format!("nobody: {why}"),
                    change: Some(format!("not sign in: {why}")),
                    warnings: Vec::new(),
                };
            }
        };
        let mut outlook = outlook(&self.account, &saved);
        outlook.warnings.extend(unwritable.map(|error| not_kept(&cannot_lock(&error))));
        outlook
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
        let saved = self.recall(lock.as_ref().ok())?;
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
        self.keep(&attempt.saved, attempt.lock.as_ref().ok());
        Ok(obtained)
    }

    /// Renews the kept session. If it is over, signs in anew, unless an anonymous user would replace an
    /// account.
    fn go_on(
        &self,
        session: &SavedSession,
        attempt: &mut Attempt<'_>,
    ) -> Result<(Tokens, Option<Fingerprint>), Error> {
        let wants_account = session.email.is_some() || self.account.refresh_token.is_some();
        let is_irreplaceable = wants_account && self.account.login.is_none();
        if is_irreplaceable {
            self.prove(attempt)?;
        }
        let credentials = Credentials::RefreshToken(session.refresh_token.clone());
        match self.sign_in(&credentials, attempt.unwanted) {
            Ok(tokens) => Ok((tokens, session.began_with.clone())),
            Err(error) if is_dead_session(&error) && !is_irreplaceable => {
                log::warn!("the kept session is over ({}), signing in anew", error.cause());
                Ok((self.begin(attempt)?, None))
            }
            Err(error) => Err(self.explain(error, &credentials)),
        }
    }

    /// Signs in with the refresh token in the settings. A dead one is noted, so that it is not sent
    /// again.
    fn begin_with(
        &self,
        set: &SetToken,
        attempt: &mut Attempt<'_>,
    ) -> Result<(Tokens, Option<Fingerprint>), Error> {
        self.prove(attempt)?;
        let credentials = Credentials::RefreshToken(set.token.clone());
        let saved = &mut attempt.saved;
        match self.sign_in(&credentials, attempt.unwanted) {
            Ok(tokens) => Ok((tokens, Some(saved.note_use(&set.token, false)))),
            Err(error) if is_dead_session(&error) => {
                saved.note_use(&set.token, true);
                self.keep(saved, attempt.lock.as_ref().ok());
                Err(needs_operator(cannot(SignInPlan::Refused, set, saved)))
            }
            Err(error) => Err(self.explain(error, &credentials)),
        }
    }

    /// Makes sure that the successor of an account's refresh token can be kept: else the account would
    /// be lost at the next restart, and only a person could bring it back.
    fn prove(&self, attempt: &Attempt<'_>) -> Result<(), Error> {
        let lock = attempt.lock.as_ref().map_err(|error| not_sent(&cannot_lock(error)))?;
        let proof = self.store.prove(&attempt.saved, lock);
        proof.map_err(|error| not_sent(&self.cannot_keep(&error)))
    }

    /// Signs in with the password in the settings, or as a new anonymous user.
    fn begin(&self, attempt: &mut Attempt<'_>) -> Result<Tokens, Error> {
        attempt.saved.used_tokens.get_or_insert_default();
        let Some((email, password)) = &self.account.login else { return self.sign_up(attempt) };
        let credentials =
            Credentials::Password { email: email.clone(), password: password.clone() };
        let signed_in = self.sign_in(&credentials, attempt.unwanted);
        let mut tokens = signed_in.map_err(|error| self.explain(error, &credentials))?;
        // Spelled as in the settings, since this shows that the session is the account's.
        tokens.user.email = Some(email.clone());
        Ok(tokens)
    }

    /// Signs in, unless LangFast has refused these credentials lately: then with the same error.
    fn sign_in(&self, credentials: &Credentials, unwanted: &Unwanted) -> Result<Tokens, Error> {
        self.check_refused(credentials)?;
        let signed_in = self.api.sign_in(credentials, unwanted);
        let refused = &mut self.memory().refused;
        match &signed_in {
            Ok(_) => refused.clear(credentials),
            Err(error) if self.remedy(error, credentials).is_some() => {
                refused.note(credentials, error, Instant::now());
            }
            Err(_) => {}
        }
        signed_in
    }

    fn check_refused(&self, credentials: &Credentials) -> Result<(), Error> {
        let standing = self.memory().refused.standing(credentials, Instant::now());
        standing.map_or(Ok(()), |(error, _)| Err(error))
    }

    /// Takes the lock, or says why the directory cannot be written, so that no process like this one
    /// uses it.
    fn lock(&self) -> Result<Result<Locked, LockError>, Error> {
        match self.store.lock(self.patience) {
            Ok(lock) => Ok(Ok(lock)),
            Err(error @ LockError::Unwritable(..)) => {
                log::warn!("{}", not_kept(&cannot_lock(&error)));
                Ok(Err(error))
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

    /// Saves the state in the file, or goes on with it in memory.
    fn keep(&self, saved: &Saved, lock: Option<&Locked>) {
        let _ = self.try_keep(saved, lock);
    }

    /// Saves the state in the file, or keeps it in memory if that fails; the error says why.
    fn try_keep(&self, saved: &Saved, lock: Option<&Locked>) -> Result<(), String> {
        let kept = match lock {
            Some(lock) => self.store.save(saved, lock).map_err(|error| self.cannot_keep(&error)),
            None => Err(format!("{} cannot be written", self.store.path().display())),
        };
        let unsaved = kept.is_err().then(|| {
            let loaded = self.store.load().unwrap_or_default();
            (saved.clone(), refresh_token(&loaded).map(str::to_owned))
        });
        self.memory().unsaved = unsaved;
        if let (Err(why), Some(_)) = (&kept, lock) {
            log::warn!("{}", not_kept(why));
        }
        kept
    }

    /// Puts what only a person can mend into words that say how, and when LangFast is asked again.
    fn explain(&self, error: Error, credentials: &Credentials) -> Error {
        let Some(words) = self.remedy(&error, credentials) else { return error };
        match self.memory().refused.standing(credentials, Instant::now()) {
            None => needs_operator(words),
            Some((_, left)) => needs_operator(format!(
                "{words}. The server asks LangFast again in {} s at the earliest, or at once after SIGHUP",
                left.as_secs().max(1)
            )),
        }
    }

    fn remedy(&self, error: &Error, credentials: &Credentials) -> Option<String> {
        let set = self.account.refresh_token.as_ref();
        remedies::remedy(error, credentials, set, &self.browser_place())
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

    /// Why the session file cannot be written, and what to do.
    fn cannot_keep(&self, error: &io::Error) -> String {
        let advice = files::advice(error);
        format!("{} cannot be written: {error}. {advice}", self.store.path().display())
    }
}

fn not_kept(why: &str) -> String {
    format!("the session is not kept: {why}")
}

/// Why the lock cannot be taken, and what to do.
fn cannot_lock(error: &LockError) -> String {
    match error {
        LockError::Unwritable(_, why) => format!("{error}. {}", files::advice(why)),
        LockError::Held { .. } | LockError::Unusable(..) => error.to_string(),
    }
}

/// The error for a token that was kept back, because its successor could not be kept.
fn not_sent(why: &str) -> Error {
    needs_operator(format!(
        "{why}. Nothing was sent to LangFast: a refresh token is as good as before"
    ))
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
