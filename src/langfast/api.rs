//! LangFast's HTTP calls (with [`super::outside`] the only user of ureq): paths, headers, bodies and errors of
//! Supabase Auth, PostgREST and the edge function.

use std::cell::RefCell;
use std::fmt;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Timeout;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::config::Settings;
use crate::error::{Error, Failure, Step, clean};
use crate::net::dial::{Connection, DialError, Dialer, Endpoint};
use crate::observe::vitals::Upstream;

/// Longest answer of an HTTP call that is read, in bytes: the real ones are under 10 KB.
const LONGEST_ANSWER: u64 = 1024 * 1024;
/// Idle connections kept for the next requests. A TLS connection is some 50 KB.
const IDLE_CONNECTIONS: usize = 16;
/// Buffers of a connection in use, in bytes. The head of an answer has to fit into the first, which is
/// also what ureq reads bodies through (it wants 10 KiB for that); the head of a request, with its
/// tokens, has to fit into the second, and a run request is written in pieces of that.
const INPUT_BUFFER: usize = 16 * 1024;
const OUTPUT_BUFFER: usize = 8 * 1024;

/// The HTTP side of LangFast.
pub struct Api {
    /// Replaced to close its idle connections: ureq lets go of them only when it is used.
    agent: RwLock<ureq::Agent>,
    connector: Arc<DialConnector>,
    supabase: Endpoint,
    anon_key: String,
    origin: String,
    timeouts: Timeouts,
    vitals: Arc<Upstream>,
}

/// Tells why that for which calls are made is not wanted any more, if it is not: its client has gone, or
/// the server ends.
pub type Unwanted = Arc<dyn Fn() -> Option<Error> + Send + Sync>;

thread_local! {
    /// What this thread's calls are made for; ureq has no way to hand its transports anything.
    static UNWANTED: RefCell<Option<Unwanted>> = const { RefCell::new(None) };
}

/// How soon a wait is given up when it is not wanted any more.
pub const LOOK: Duration = Duration::from_millis(250);

/// Makes calls whose answers are not waited for any longer than they are wanted. Connecting is not given
/// up: it has a deadline of its own.
pub fn while_wanted<T>(unwanted: &Unwanted, calls: impl FnOnce() -> T) -> T {
    /// Puts back what there was before, also after a panic.
    struct Before(Option<Unwanted>);
    impl Drop for Before {
        fn drop(&mut self) {
            UNWANTED.set(self.0.take());
        }
    }
    let _before = Before(UNWANTED.replace(Some(unwanted.clone())));
    calls()
}

/// Why this thread's call is not wanted any more, if it is not.
fn unwanted() -> Option<Error> {
    UNWANTED.with_borrow(|unwanted| unwanted.as_ref().and_then(|unwanted| unwanted()))
}

/// The deadlines of a call.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Of a connection.
    pub connect: Duration,
    /// Of a whole call.
    pub request: Duration,
    /// For so long an idle connection is kept for the next call.
    pub keep_warm: Duration,
}

impl Timeouts {
    /// Those that are set.
    pub fn of(settings: &Settings) -> Timeouts {
        Timeouts {
            connect: settings.connect_timeout,
            request: settings.request_timeout,
            keep_warm: settings.keep_warm,
        }
    }
}

/// How to sign in.
#[derive(Clone)]
pub enum Credentials {
    /// As nobody in particular: a new anonymous user.
    Anonymous,
    /// With an account.
    Password {
        /// The account's e-mail address.
        email: String,
        /// Its password.
        password: String,
    },
    /// With the refresh token of an earlier sign-in; it works once.
    RefreshToken(String),
}

/// What a sign-in gives (Supabase Auth's session object, known on the wire).
#[derive(Clone, Deserialize)]
pub struct Tokens {
    /// The bearer token of all other calls.
    pub access_token: String,
    /// Works once, for the next sign-in.
    pub refresh_token: String,
    /// Seconds that the access token lasts, if LangFast says so; any number may stand here.
    #[serde(default, deserialize_with = "super::lenient::seconds")]
    pub expires_in: Option<u64>,
    /// Who signed in.
    pub user: User,
}

/// The signed-in user.
#[derive(Clone, Deserialize)]
pub struct User {
    /// Its id, a uuid.
    pub id: String,
    /// Whether it is an anonymous one.
    #[serde(default)]
    pub is_anonymous: bool,
    /// The account's address; empty or absent for an anonymous one.
    #[serde(default)]
    pub email: Option<String>,
}

/// A started run: the ids its events may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Our own id of the run.
    pub run_id: String,
    /// LangFast's id of the job: known to be the events' `executionId`.
    pub job_id: String,
}

impl Api {
    /// The calls to the Supabase project at `supabase`, counted in `vitals`.
    pub fn new(
        dialer: Arc<Dialer>,
        supabase: Endpoint,
        anon_key: String,
        origin: String,
        timeouts: Timeouts,
        vitals: Arc<Upstream>,
    ) -> Api {
        let connector = DialConnector::new(dialer, supabase.clone());
        let agent = RwLock::new(agent(&connector, &timeouts));
        Api { agent, connector, supabase, anon_key, origin, timeouts, vitals }
    }

    /// Makes a connection for the next call, so that it need not wait for one.
    ///
    /// # Errors
    /// [`Step::StartRun`], when none can be made.
    pub fn connect_ahead(&self) -> Result<(), Error> {
        let failed = |error| Error::upstream(Step::StartRun, self.dial_failure(error));
        let connection = self.connector.dial().map_err(failed)?;
        *self.connector.ahead() = Some((connection, Instant::now()));
        Ok(())
    }

    /// Closes the connections that no call uses now.
    pub fn close_idle(&self) {
        *self.connector.ahead() = None;
        let agent = agent(&self.connector, &self.timeouts);
        *self.agent.write().unwrap_or_else(PoisonError::into_inner) = agent;
    }

    fn agent(&self) -> ureq::Agent {
        self.agent.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The Supabase project.
    pub fn endpoint(&self) -> &Endpoint {
        &self.supabase
    }

    /// What time it is at LangFast, to the second; `None` if it does not say. Asks for Supabase Auth's
    /// state (inferred), but any answer does: it is the `Date` that counts.
    ///
    /// # Errors
    /// [`Step::SignIn`]: no answer, or one that says that the server is broken.
    pub fn clock(&self) -> Result<Option<SystemTime>, Error> {
        let fail = |failure| Error::upstream(Step::SignIn, failure);
        let url = self.supabase.url("http", "/auth/v1/health");
        let answer = self.agent().get(url).header("apikey", &self.anon_key).call();
        let answer = answer.map_err(|error| fail(self.call_failure(error)))?;
        let status = answer.status().as_u16();
        if status >= 500 {
            let (code, message, retry_after) = (None, None, None);
            return Err(fail(Failure::Status { status, code, message, retry_after }));
        }
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
    }

    /// Signs in. Known: anonymous. Inferred from Supabase Auth: the rest.
    ///
    /// # Errors
    /// [`Step::SignIn`], with the status and error code of Supabase Auth.
    pub fn sign_in(&self, credentials: &Credentials) -> Result<Tokens, Error> {
        let (path, body) = match credentials {
            Credentials::Anonymous => {
                ("/auth/v1/signup", json!({"data": {}, "gotrue_meta_security": {}}))
            }
            Credentials::Password { email, password } => (
                "/auth/v1/token?grant_type=password",
                json!({"email": email, "password": password}),
            ),
            Credentials::RefreshToken(token) => {
                ("/auth/v1/token?grant_type=refresh_token", json!({"refresh_token": token}))
            }
        };
        let answer = self.post(Step::SignIn, path, &self.anon_key, &body)?;
        serde_json::from_slice(&answer)
            .map_err(|_| not_understood(Step::SignIn, "no session in it"))
    }

    /// Creates a prompt and gives its id (known). Any later run may name it.
    ///
    /// # Errors
    /// [`Step::CreatePrompt`]; an expired token is a 401.
    pub fn create_prompt(&self, access_token: &str, model: &str) -> Result<String, Error> {
        let now = std::time::SystemTime::now();
        let millis = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis());
        let body = json!({
            "p_name": format!("api-{millis}"),
            "p_icon": "openai",
            // A run carries its own: what stands here is never executed, so no user's text has to
            // be stored with the prompt.
            "p_meta": {
                "model": model,
                "messages": [{"role": "user", "content": "Created by langfast2api"}],
                "stream": true
            },
            "p_test_cases": test_cases(),
        });
        let answer =
            self.post(Step::CreatePrompt, "/rest/v1/rpc/create_prompt", access_token, &body)?;
        serde_json::from_slice::<String>(&answer)
            .ok()
            .filter(|id| !id.is_empty())
            .ok_or_else(|| not_understood(Step::CreatePrompt, "no prompt id in it"))
    }

    /// Starts a run of `prompt_meta` under an existing prompt (known).
    ///
    /// Sent once: a call whose answer was lost is not repeated, since the run may have started. Given
    /// up when it is not wanted any more.
    ///
    /// # Errors
    /// [`Step::StartRun`]; an expired token is a 401.
    pub fn start_run(
        &self,
        access_token: &str,
        user_id: &str,
        prompt_id: &str,
        prompt_meta: &Value,
        unwanted: &Unwanted,
    ) -> Result<Started, Error> {
        #[derive(Deserialize)]
        struct Answer {
            jobs: Vec<Job>,
        }
        #[derive(Deserialize)]
        struct Job {
            job_id: String,
        }
        let run_id = uuid::Uuid::new_v4().to_string();
        let body = json!({
            "run_id": run_id,
            "prompt_id": prompt_id,
            "prompt_meta": prompt_meta,
            "test_cases": test_cases(),
            "created_by": user_id,
        });
        let path = "/functions/v1/initiate-prompt-run";
        let post = || self.post(Step::StartRun, path, access_token, &body);
        let answer = while_wanted(unwanted, post);
        let answer = unwanted().map_or(answer, Err).map_err(|error| match error {
            // The request has been sent.
            Error::ShuttingDown => Error::CutShort,
            other => other,
        })?;
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|_| not_understood(Step::StartRun, "no jobs in it"))?;
        // One test case makes one job.
        let job = answer.jobs.into_iter().next();
        let job_id = job.ok_or_else(|| not_understood(Step::StartRun, "no job in it"))?.job_id;
        Ok(Started { run_id, job_id })
    }

    /// One call: the body of a successful answer, or the error that the answer is. A call that
    /// certainly had no effect is made once more.
    fn post(&self, step: Step, path: &str, bearer: &str, body: &Value) -> Result<Vec<u8>, Error> {
        let url = self.supabase.url("http", path);
        let body = serde_json::to_vec(body).expect("JSON values always serialise");
        let first = self.post_once(step, &url, bearer, &body);
        match &first {
            Err(Error::Upstream { failure, .. }) if may_repeat(step, failure) => {
                log::debug!("{}: {}, once more", step.name(), first.as_ref().unwrap_err().cause());
                self.post_once(step, &url, bearer, &body)
            }
            _ => first,
        }
    }

    fn post_once(
        &self,
        step: Step,
        url: &str,
        bearer: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let began = Instant::now();
        let result = self.exchange(url, bearer, body).map_err(|e| self.call_failure(e));
        let took = began.elapsed();
        log::debug!(
            "{}: {} in {:.1} ms",
            step.name(),
            result.as_ref().map_or("failed".to_owned(), |answer| answer.status.to_string()),
            took.as_secs_f64() * 1e3
        );
        let result = match result {
            Ok(answer) if (200..=299).contains(&answer.status) => Ok(answer.body),
            Ok(answer) => Err(Error::upstream(step, answer.into_failure())),
            // What was given up is no failure of LangFast's.
            Err(failure) => Err(unwanted().unwrap_or_else(|| Error::upstream(step, failure))),
        };
        self.vitals.note_call(step, &result, took);
        result
    }

    fn exchange(&self, url: &str, bearer: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
        let mut response = self
            .agent()
            .post(url)
            .header("apikey", &self.anon_key)
            .header("Authorization", format!("Bearer {bearer}"))
            .header("Content-Type", "application/json")
            .header("Origin", &self.origin)
            .header("Referer", format!("{}/", self.origin))
            .send(body)?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec()?;
        Ok(Answer { status, retry_after, body })
    }

    fn call_failure(&self, error: ureq::Error) -> Failure {
        let not_sent = |error: &ureq::Error| match error {
            ureq::Error::Other(inner) => inner.downcast_ref::<NotSent>().map(|e| e.0.clone()),
            _ => None,
        };
        if let Some(why) = not_sent(&error) {
            return Failure::Unreachable(why);
        }
        match error {
            ureq::Error::Other(inner) => match inner.downcast::<DialError>() {
                Ok(dial) => self.dial_failure(*dial),
                Err(other) => Failure::Broken(other.to_string()),
            },
            ureq::Error::Timeout(_) => Failure::TimedOut {
                setting: "LANGFAST2API_REQUEST_TIMEOUT",
                limit: self.timeouts.request,
            },
            ureq::Error::BodyExceedsLimit(_) => Failure::Malformed("it is too long".to_owned()),
            ureq::Error::Protocol(_)
            | ureq::Error::Http(_)
            | ureq::Error::LargeResponseHeader(..) => {
                Failure::Malformed("it is not HTTP".to_owned())
            }
            other => Failure::Broken(other.to_string()),
        }
    }

    fn dial_failure(&self, error: DialError) -> Failure {
        dial_failure(error, self.timeouts.connect)
    }
}

/// A client over the connector's connections. Any status is an answer to it, and no redirect is
/// followed.
pub(super) fn agent(connector: &Arc<DialConnector>, timeouts: &Timeouts) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(timeouts.request))
        .max_idle_connections(IDLE_CONNECTIONS)
        .max_idle_connections_per_host(IDLE_CONNECTIONS)
        .max_idle_age(timeouts.keep_warm)
        .input_buffer_size(INPUT_BUFFER)
        .output_buffer_size(OUTPUT_BUFFER)
        // The dialer sees to the proxy, for the socket too.
        .proxy(None)
        .user_agent(concat!("langfast2api/", env!("CARGO_PKG_VERSION")))
        .build();
    ureq::Agent::with_parts(config, SharedConnector(connector.clone()), NoResolver)
}

/// A connection that could not be made, as a failure of whatever step wanted it.
pub fn dial_failure(error: DialError, limit: Duration) -> Failure {
    match error {
        DialError::Failed(why) => Failure::Unreachable(why),
        DialError::TimedOut(_) => {
            Failure::TimedOut { setting: "LANGFAST2API_CONNECT_TIMEOUT", limit }
        }
    }
}

/// LangFast runs a prompt over test cases; ours is one without variables.
fn test_cases() -> Value {
    json!([{"name": "API Test Case", "variables": []}])
}

fn not_understood(step: Step, what: &str) -> Error {
    Error::upstream(step, Failure::Malformed(what.to_owned()))
}

/// Whether a failed call may be made again: when it was certainly not carried out, or when being
/// carried out twice does no harm. A run request that may have arrived is never sent again.
fn may_repeat(step: Step, failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable(_) => true,
        Failure::Broken(_) => step != Step::StartRun,
        Failure::Status { status, .. } => *status >= 500 && step != Step::StartRun,
        _ => false,
    }
}

/// An answer with any status.
struct Answer {
    status: u16,
    retry_after: Option<u64>,
    body: Vec<u8>,
}

impl Answer {
    /// Reads the error shapes of Supabase Auth (`error_code`, `msg`), PostgREST (`code`, `message`)
    /// and the function (`error`, a string or an object); anything else, as an HTML page of the
    /// platform in front, gives the status alone.
    fn into_failure(self) -> Failure {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        let text = |path: &str| body.pointer(path).and_then(Value::as_str);
        let code = text("/error_code").or(text("/code")).or(text("/error/code"));
        let plain = std::str::from_utf8(&self.body).ok().filter(|text| is_plain_message(text));
        let message = ["/msg", "/message", "/error/message", "/error_description", "/error"]
            .into_iter()
            .find_map(text)
            .or(plain);
        Failure::Status {
            status: self.status,
            code: code.map(clean),
            message: message.map(clean).filter(|message| !message.is_empty()),
            retry_after: self.retry_after,
        }
    }
}

/// Whether a body that is not JSON is a line of words, rather than a page of the platform in front.
fn is_plain_message(body: &str) -> bool {
    body.len() < 300 && !body.contains(['<', '{', '['])
}

/// Marks an error of a connection that broke before the whole request was handed to it: the request
/// cannot have been carried out.
#[derive(Debug)]
struct NotSent(String);

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotSent {}

/// The dialer resolves names itself, also behind a proxy.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// Connects to one endpoint.
#[derive(Debug)]
pub(super) struct DialConnector {
    dialer: Arc<Dialer>,
    endpoint: Endpoint,
    /// A connection made before it was needed, and when.
    ahead: Mutex<Option<(Connection, Instant)>>,
}

impl DialConnector {
    pub(super) fn new(dialer: Arc<Dialer>, endpoint: Endpoint) -> Arc<DialConnector> {
        Arc::new(DialConnector { dialer, endpoint, ahead: Mutex::default() })
    }

    fn dial(&self) -> Result<Connection, DialError> {
        self.dialer.dial(&self.endpoint)
    }

    fn ahead(&self) -> MutexGuard<'_, Option<(Connection, Instant)>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection made ahead, if it is still good.
    fn take_ahead(&self, keep_warm: Duration) -> Option<Connection> {
        let (mut connection, made) = self.ahead().take()?;
        (made.elapsed() < keep_warm && connection.is_idle()).then_some(connection)
    }
}

/// One connector for one agent after another.
#[derive(Debug)]
struct SharedConnector(Arc<DialConnector>);

impl Connector for SharedConnector {
    type Out = DialTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<DialTransport>, ureq::Error> {
        let ahead = self.0.take_ahead(details.config.max_idle_age());
        let connection = ahead.map_or_else(|| self.0.dial(), Ok);
        let connection = connection.map_err(|e| ureq::Error::Other(Box::new(e)))?;
        Ok(Some(DialTransport { connection, buffers: new_buffers() }))
    }
}

/// Buffers that take no memory before they are used.
fn new_buffers() -> LazyBuffers {
    LazyBuffers::new(INPUT_BUFFER, OUTPUT_BUFFER)
}

/// A connection as ureq uses it.
#[derive(Debug)]
struct DialTransport {
    connection: Connection,
    buffers: LazyBuffers,
}

impl DialTransport {
    fn set_deadline(&mut self, timeout: NextTimeout) {
        let deadline = timeout.not_zero().map(|left| Instant::now() + *left);
        self.connection.set_deadline(deadline);
    }
}

/// A read or write that ran out of time reports it by one of these two kinds.
fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

impl Transport for DialTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.set_deadline(timeout);
        let output = &self.buffers.output()[..amount];
        self.connection.write_all(output).map_err(|error| match is_timeout(&error) {
            true => ureq::Error::Timeout(timeout.reason),
            false => ureq::Error::Other(Box::new(NotSent(error.to_string()))),
        })
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let deadline = timeout.not_zero().map(|left| Instant::now() + *left);
        loop {
            let look = Instant::now() + LOOK;
            self.connection
                .set_deadline(Some(deadline.map_or(look, |deadline| deadline.min(look))));
            let input = self.buffers.input_append_buf();
            match self.connection.read(input) {
                Ok(amount) => {
                    self.buffers.input_appended(amount);
                    return Ok(amount > 0);
                }
                Err(error) if !is_timeout(&error) => return Err(ureq::Error::Io(error)),
                Err(_)
                    if unwanted().is_some() || deadline.is_some_and(|at| Instant::now() >= at) =>
                {
                    return Err(ureq::Error::Timeout(Timeout::Global));
                }
                Err(_) => {}
            }
        }
    }

    /// Asked when a call has ended and when the next one begins: in between, a connection keeps no
    /// memory.
    fn is_open(&mut self) -> bool {
        self.buffers = new_buffers();
        self.connection.is_idle()
    }

    fn is_tls(&self) -> bool {
        matches!(self.connection, Connection::Tls(_))
    }
}
