//! LangFast, from a prompt to its run's events: sign in, create a prompt, connect the socket, start
//! the run, receive.
//!
//! Enters: the `prompt_meta` of a run. Leaves: the run's events, in neutral words. It is the only room
//! that knows LangFast's wire format; it may know no dialect and no client.

mod acks;
mod api;
mod back_off;
#[cfg(test)]
mod bounds;
pub mod capture;
mod deadlines;
mod fingerprint;
mod grant;
mod id_place;
mod identity;
mod join;
mod leases;
mod lenient;
mod not_yet;
mod notice;
mod outcome;
mod prompt_meta;
mod public_key;
mod raw;
pub mod refresh_token;
mod refusals;
mod refused_sign_ins;
mod remedies;
mod renewals;
mod reported;
mod routes;
pub mod run;
mod runner;
mod runner_socket;
mod session;
pub mod socketio;
mod spare;
mod spent_quota;
mod store;
mod texts;
pub mod transcript;
mod unfamiliar;
mod unwanted;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

pub use api::{Api, Credentials, Tokens};
pub use deadlines::{Deadlines, RunClock};
pub use fingerprint::{Fingerprint, mark};
pub use identity::Outlook;
pub use leases::Subscription;
pub use prompt_meta::prompt_meta;
pub use refusals::{Refusals, Refused, Sent};
pub use remedies::BrowserPlace;
pub use routes::Listener;
pub use run::RunEvent;
pub use runner::{Runner, RunnerConfig};
pub use session::{Grant, Session};
pub use spent_quota::Admission;
pub use store::{LockError, Locked, Saved, SavedSession, Store, UsedToken};
pub use transcript::Revised;
pub use unwanted::{Unwanted, wanted_always};

use capture::Tape;
use not_yet::once_valid;
use spent_quota::SpentQuotas;
use unwanted::wanted_by_others;

use crate::config::{Account, BadSetting, LangFastSettings};
use crate::error::meaning::Meaning;
use crate::error::{Error, Failure, Step};
use crate::net::dial::{Dialer, Endpoint};
use crate::net::roots;
use crate::net::transport::Timeouts;
use crate::observe::heartbeat::Heartbeat;
use crate::observe::vitals::Upstream;

/// Longest text of one answer, in bytes. A channel holds at most this much.
pub const ANSWER_LIMIT: usize = 16 << 20;

/// The client of LangFast: its session, its prompt, its HTTP calls and its socket.
pub struct LangFast {
    dialer: Arc<Dialer>,
    api: Arc<Api>,
    session: Arc<Session>,
    runner: Runner,
    vitals: Arc<Upstream>,
    quotas: Arc<SpentQuotas>,
    /// Held while a prompt is created, so that concurrent requests create only one. Holds the time and
    /// the error of the last attempt, if that failed.
    creating_prompt: Mutex<Option<(Instant, Error)>>,
}

impl LangFast {
    /// Creates the client from the settings; sends nothing to LangFast yet.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn new(settings: &LangFastSettings) -> Result<LangFast, BadSetting> {
        let account = account(settings)?;
        let endpoint = |name: &str, url: &str| {
            Endpoint::parse(url).map_err(|why| settings.given.bad(name, why))
        };
        let supabase = endpoint("supabase_url", &settings.supabase_url)?;
        let runner = endpoint("runner_url", &settings.runner_url)?;
        let origin = settings.origin.trim_end_matches('/').to_owned();
        endpoint("origin", &origin)?;
        public_key::check(&settings.anon_key).map_err(|why| settings.given.bad("anon_key", why))?;
        let server = supabase.authority();
        let timeouts = Timeouts { call: settings.request_timeout, keep_warm: settings.keep_warm };

        let dialer = Arc::new(Dialer::new(settings.connect_timeout));
        roots::check_named().map_err(BadSetting)?;
        for endpoint in [&supabase, &runner] {
            dialer.check_proxy(endpoint).map_err(BadSetting)?;
        }
        let anon_key = settings.anon_key.clone();
        let vitals = Arc::new(Upstream::default());
        let api =
            Api::new(dialer.clone(), supabase, anon_key, origin.clone(), timeouts, vitals.clone());
        let api = Arc::new(api);
        let store = Store::new(settings.state_dir()?, &server);
        let session = Session::new(api.clone(), store, account, settings.request_timeout);
        let session = Arc::new(session);
        let config = RunnerConfig {
            endpoint: runner,
            origin,
            handshake_timeout: settings.request_timeout,
            idle: settings.keep_warm,
            answer_limit: ANSWER_LIMIT,
        };
        let idle_api = api.clone();
        let when_idle = Box::new(move || idle_api.close_idle());
        let runner =
            Runner::new(config, dialer.clone(), session.clone(), when_idle, vitals.clone());
        let (quotas, creating_prompt) = (Arc::default(), Mutex::default());
        Ok(LangFast { dialer, api, session, runner, vitals, quotas, creating_prompt })
    }

    /// Why requests fail until somebody acts or LangFast changes its mind: signing in has failed, or the
    /// public key was refused at any step.
    pub fn failure(&self) -> Option<Error> {
        self.session.failure().or_else(|| self.api.key_refused())
    }

    /// What requests are told while the quota is spent, as far as is known; LangFast is not asked.
    pub fn spent_quota(&self) -> Option<Error> {
        self.quotas.answer(Instant::now())
    }

    /// Reads the session file again with the next request, and asks LangFast again whatever it has refused.
    pub fn reload(&self) {
        self.session.reload();
        self.quotas.forget();
    }

    /// Lets a request for this model start runs, unless LangFast has said that the quota of the signed-in
    /// user is spent; then one request now and then finds out whether it still is. A login of another
    /// process ends it.
    ///
    /// # Errors
    /// [`Error::Remembered`]. While a quota is spent: the error of signing in.
    pub fn admit(&self, model: &str, unwanted: &Unwanted) -> Result<Admission, Error> {
        if self.quotas.is_empty() {
            return Ok(Admission::free(&self.quotas, model));
        }
        if self.session.is_superseded() {
            self.reload();
        }
        let grant = self.session.grant(&wanted_by_others(unwanted))?;
        SpentQuotas::admit(&self.quotas, &grant.user_id, model, Instant::now())
    }

    /// Has all HTTP calls, and the sockets that are connected from now on, recorded; once a client.
    pub fn record(&self, tape: &Arc<Tape>) {
        self.api.record(tape.clone());
        self.runner.record(tape.clone());
    }

    /// The session: the signed-in user and its tokens.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Does ahead of time what a first request would wait for: signs in, creates the prompt, connects
    /// the socket, and opens a connection for the run request.
    ///
    /// # Errors
    /// The step that failed, and how.
    pub fn warm_up(&self, model: &str) -> Result<(), Error> {
        let unwanted = wanted_always();
        let grant = self.session.grant(&unwanted)?;
        let lease = self.runner.lease()?;
        self.prompt(&grant, model, &unwanted)?;
        self.api.connect_ahead()?;
        lease.connected(&grant.user_id, &unwanted).map(drop)
    }

    /// The dialer that makes all connections to LangFast.
    pub fn dialer(&self) -> &Arc<Dialer> {
        &self.dialer
    }

    /// Counters of the calls and sockets to LangFast.
    pub fn vitals(&self) -> &Upstream {
        &self.vitals
    }

    /// The client of LangFast's HTTP API.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The owner of the socket to LangFast's prompt runner.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// Signs in and creates a prompt if none is kept, as a run would, without starting one. Returns
    /// true if the prompt was kept already.
    ///
    /// # Errors
    /// The step that failed, and how.
    pub fn prepare_prompt(&self, model: &str) -> Result<bool, Error> {
        let unwanted = wanted_always();
        let is_kept = |grant: &Grant| Ok(Some(self.prompt(grant, model, &unwanted)?.is_kept));
        self.as_user(&unwanted, is_kept)
    }

    /// Signs in and connects the socket, as a run would, without starting one.
    ///
    /// # Errors
    /// The step that failed, and how.
    pub fn connect(&self) -> Result<(), Error> {
        let unwanted = wanted_always();
        let connected = |grant: &Grant| self.runner.lease()?.connected(&grant.user_id, &unwanted);
        self.as_user(&unwanted, |grant| Ok(connected(grant)?.then_some(())))
    }

    /// The heartbeat of the thread that owns the socket.
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        self.runner.heartbeat()
    }

    /// Starts a run of `prompt_meta` for a request that was let through ([`LangFast::admit`]), and returns
    /// its events, of which `listener` is told. An access token that LangFast rejects
    /// (401) is renewed once. The start is given up once `unwanted` returns an error; but the sign-in
    /// and the prompt, which other requests use too, only when the server ends.
    ///
    /// # Errors
    /// The step that failed, and how.
    pub fn start(
        &self,
        model: &str,
        prompt_meta: &Value,
        admission: &Admission,
        listener: &Listener,
        unwanted: &Unwanted,
    ) -> Result<Subscription, Error> {
        let start = |grant: &Grant| {
            admission.note_user(&grant.user_id);
            self.start_as(grant, model, prompt_meta, listener, unwanted)
        };
        self.as_user(&wanted_by_others(unwanted), start)
    }

    /// Calls `work` as the signed-in user: once more with a new access token after a 401, with the same
    /// token after a moment if LangFast takes that for one of the future, and as the new user if it
    /// returns `None` because another user has signed in.
    fn as_user<T>(
        &self,
        unwanted: &Unwanted,
        work: impl Fn(&Grant) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let mut grant = self.session.grant(unwanted)?;
        let mut renewed = false;
        loop {
            match once_valid(unwanted, || work(&grant)) {
                Err(error) if is_refused_token(&error) && !renewed => {
                    renewed = true;
                    grant = self.session.renew(&grant, unwanted)?;
                }
                Ok(None) => grant = self.session.grant(unwanted)?,
                Ok(Some(done)) => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts a run as the user of `grant`; returns `None` if another user has signed in meanwhile. The
    /// socket connects while the prompt is created, and has to be connected before the run is started:
    /// an event that is sent while no socket is connected is lost.
    fn start_as(
        &self,
        grant: &Grant,
        model: &str,
        prompt_meta: &Value,
        listener: &Listener,
        unwanted: &Unwanted,
    ) -> Result<Option<Subscription>, Error> {
        let lease = self.runner.lease()?;
        let wanted_by_others = wanted_by_others(unwanted);
        let prompt = self.prompt(grant, model, &wanted_by_others)?;
        if !self.runner.is_connected() {
            // For the run request.
            self.api.connect_beside();
        }
        if !lease.connected(&grant.user_id, unwanted)? {
            return Ok(None);
        }
        let run = |prompt_id: &str| {
            self.api.start_run(
                &grant.access_token,
                &grant.user_id,
                prompt_id,
                prompt_meta,
                unwanted,
            )
        };
        let started = match run(&prompt.id) {
            // The kept prompt may have been deleted in the web page meanwhile.
            Err(error) if prompt.is_kept && is_about_prompt(&error) => {
                self.session.set_prompt_id(grant, None);
                run(&self.prompt(grant, model, &wanted_by_others)?.id)?
            }
            other => other?,
        };
        Ok(Some(lease.subscribe(started, listener)))
    }

    /// Returns the prompt of the signed-in user, and creates it if there is none yet.
    fn prompt(
        &self,
        grant: &Grant,
        model: &str,
        unwanted: &Unwanted,
    ) -> Result<LangFastPrompt, Error> {
        let kept = || self.session.prompt_id(grant).map(|id| LangFastPrompt { id, is_kept: true });
        if let Some(prompt) = kept() {
            return Ok(prompt);
        }
        let came = Instant::now();
        let mut creating = self.creating_prompt.lock().unwrap_or_else(|p| p.into_inner());
        if let Some(prompt) = kept() {
            return Ok(prompt);
        }
        // An attempt that failed while this thread waited counts for it too: if LangFast hangs, waiting
        // in turn would take a deadline for each request.
        if let Some((_, error)) = creating.as_ref().filter(|(failed, _)| *failed > came) {
            return Err(error.clone());
        }
        let created = self.api.create_prompt(&grant.access_token, model, unwanted);
        // But what is said of this model is not about theirs.
        let of_all = created.as_ref().err().filter(|error| !is_about_model(error));
        *creating = of_all.map(|error| (Instant::now(), error.clone()));
        let id = created?;
        self.session.set_prompt_id(grant, Some(&id));
        Ok(LangFastPrompt { id, is_kept: false })
    }
}

/// The account in the settings; its refresh token without what it was copied in.
fn account(settings: &LangFastSettings) -> Result<Account, BadSetting> {
    let mut account = settings.account()?;
    if let Some(set) = &mut account.refresh_token {
        let bad = |why| BadSetting(format!("{}: {why}", set.setting));
        set.token = refresh_token::find(&set.token).map_err(bad)?.token;
    }
    Ok(account)
}

struct LangFastPrompt {
    id: String,
    is_kept: bool,
}

/// Whether a call was refused for its access token, and not for the public key beside it, nor because the
/// token is not valid yet.
fn is_refused_token(error: &Error) -> bool {
    let is_401 =
        matches!(error, Error::Upstream { failure: Failure::Status { status: 401, .. }, .. });
    is_401 && !matches!(error.meaning(), Some(Meaning::PublicKey | Meaning::IssuedInFuture))
}

fn is_about_model(error: &Error) -> bool {
    matches!(error.meaning(), Some(Meaning::NoSuchModel | Meaning::Plan))
}

/// Whether a run was refused because of the prompt it names. Inferred: how LangFast says so is not
/// known, so any refusal that speaks of the prompt counts.
fn is_about_prompt(error: &Error) -> bool {
    match error {
        _ if error.meaning().is_some() => false,
        Error::Upstream {
            step: Step::StartRun,
            failure: Failure::Status { status: 400 | 404 | 409 | 410 | 422, code, message, .. },
        } => {
            let words = format!("{code:?} {message:?}").to_ascii_lowercase();
            words.contains("prompt")
        }
        _ => false,
    }
}
