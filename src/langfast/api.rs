//! LangFast's HTTP calls: paths, headers, bodies and errors of Supabase Auth, PostgREST and the edge
//! function.

mod answer;
mod success;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::Body;

use super::capture::{Tape, TapedCall};
use super::unwanted::{Unwanted, wanted_always};
use crate::error::meaning::Meaning;
use crate::error::{Error, Failure, Step, clean};
use crate::net::dial::{DialError, Dialer, Endpoint};
use crate::net::transport::{Connections, NotSent, Timeouts};
use crate::observe::vitals::Upstream;
pub use answer::ApiAnswer;

/// The client of LangFast's HTTP API.
pub struct Api {
    connections: Arc<Connections>,
    anon_key: String,
    origin: String,
    /// The deadline of a call.
    timeout: Duration,
    vitals: Arc<Upstream>,
    /// The last refusal of the key, until a call succeeds.
    key_refused: Mutex<Option<Error>>,
    /// Where calls are recorded.
    tape: OnceLock<Arc<Tape>>,
}

/// A way to sign in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// As a new anonymous user.
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

/// The result of a sign-in: Supabase Auth's session object (known on the wire).
#[derive(Clone, Deserialize)]
pub struct Tokens {
    /// The bearer token of all other calls.
    pub access_token: String,
    /// The token for the next sign-in; it works once.
    pub refresh_token: String,
    /// Seconds that the access token lasts, if LangFast says so; any number may stand here.
    #[serde(default, deserialize_with = "super::lenient::seconds")]
    pub expires_in: Option<u64>,
    /// The signed-in user.
    pub user: User,
}

/// The signed-in user.
#[derive(Clone, Deserialize)]
pub struct User {
    /// The user's id, a UUID.
    pub id: String,
    /// Whether the user is anonymous.
    #[serde(default)]
    pub is_anonymous: bool,
    /// The account's e-mail address; empty or absent for an anonymous user.
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
    /// A client of the Supabase project at `supabase`, whose calls are counted in `vitals`.
    pub fn new(
        dialer: Arc<Dialer>,
        supabase: Endpoint,
        anon_key: String,
        origin: String,
        timeouts: Timeouts,
        vitals: Arc<Upstream>,
    ) -> Api {
        let connections = Connections::new(dialer, supabase, timeouts);
        let (timeout, key_refused, tape) = (timeouts.call, Mutex::default(), OnceLock::new());
        Api { connections, anon_key, origin, timeout, vitals, key_refused, tape }
    }

    /// Has all calls recorded from now on; once a client.
    pub fn record(&self, tape: Arc<Tape>) {
        let _ = self.tape.set(tape);
    }

    /// The refusal of the key, if LangFast has refused it and has not accepted it since.
    pub fn key_refused(&self) -> Option<Error> {
        self.key_refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a connection ahead of the next call, so that the call need not wait for one.
    ///
    /// # Errors
    /// [`Step::StartRun`], when none can be made.
    pub fn connect_ahead(&self) -> Result<(), Error> {
        let failed = |error| Error::upstream(Step::StartRun, self.dial_failure(error));
        self.connections.connect_ahead().map_err(failed)
    }

    /// Opens a connection for a call that is about to be made, beside what the caller does before it, unless
    /// there is one.
    pub fn connect_beside(&self) {
        self.connections.connect_beside();
    }

    /// Closes the connections that no call uses now.
    pub fn close_idle(&self) {
        self.connections.close_idle();
    }

    /// The address of the Supabase project.
    pub fn endpoint(&self) -> &Endpoint {
        self.connections.endpoint()
    }

    /// LangFast's web page, as its `Origin`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// An HTTP client for one call, which is given up once `unwanted` returns an error.
    fn agent(&self, unwanted: &Unwanted) -> ureq::Agent {
        let unwanted = unwanted.clone();
        self.connections.agent(Arc::new(move || unwanted().is_some()))
    }

    /// Returns LangFast's time, to the second, from the `Date` of an answer; `None` if it has none.
    /// Asks for Supabase Auth's health (inferred), but any answer will do.
    ///
    /// # Errors
    /// [`Step::SignIn`]: no answer, a status of 500 or more, or one that concerns all requests.
    pub fn clock(&self) -> Result<Option<SystemTime>, Error> {
        let fail = |failure| Error::upstream(Step::SignIn, failure);
        let path = "/auth/v1/health";
        let agent = self.agent(&wanted_always());
        let request = agent.get(self.endpoint().url("http", path)).header("apikey", &self.anon_key);
        let mut taped = self.taped("GET", path, request.headers_ref(), b"");
        let answer = request.call().inspect_err(|error| note_failure(&mut taped, error));
        let answer = answer.map_err(|error| fail(self.call_failure(error)))?;
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let answer = ApiAnswer::read(answer, &mut taped);
        let answer = answer.map_err(|error| fail(self.call_failure(error)))?;
        let status = answer.status;
        let error = fail(answer.into_failure());
        match error.meaning() {
            Some(Meaning::PublicKey | Meaning::ProjectRestricted) => Err(error),
            _ if status >= 500 => Err(error),
            _ => Ok(date),
        }
    }

    /// Signs in. Known: anonymous. Inferred from Supabase Auth: the rest.
    ///
    /// # Errors
    /// [`Step::SignIn`], with the status and error code of Supabase Auth.
    pub fn sign_in(&self, credentials: &Credentials, unwanted: &Unwanted) -> Result<Tokens, Error> {
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
        let call = ApiCall { step: Step::SignIn, path, bearer: self.key_as_bearer(), unwanted };
        let answer = self.post(&call, &body)?;
        serde_json::from_slice(&answer)
            .map_err(|_| not_understood(Step::SignIn, &answer, "no session in it"))
    }

    /// The key as the bearer of calls for which nobody is signed in. Only a legacy key is a JWT and may be
    /// one (known of Supabase); a key `sb_publishable_…` goes in `apikey` alone.
    fn key_as_bearer(&self) -> Option<&str> {
        self.anon_key.starts_with("eyJ").then_some(&*self.anon_key)
    }

    /// Creates a prompt and returns its id (known). Any later run may name it.
    ///
    /// # Errors
    /// [`Step::CreatePrompt`]; an expired token is a 401.
    pub fn create_prompt(
        &self,
        access_token: &str,
        model: &str,
        unwanted: &Unwanted,
    ) -> Result<String, Error> {
        let now = std::time::SystemTime::now();
        let millis = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis());
        let body = json!({
            "p_name": format!("api-{millis}"),
            "p_icon": "openai",
            // Never executed, since each run carries its own: no user's text has to be stored with the
            // prompt.
            "p_meta": {
                "model": model,
                "messages": [{"role": "user", "content": "Created by langfast2api"}],
                "stream": true
            },
            "p_test_cases": test_cases(),
        });
        let path = "/rest/v1/rpc/create_prompt";
        let call = ApiCall { step: Step::CreatePrompt, path, bearer: Some(access_token), unwanted };
        let answer = self.post(&call, &body)?;
        id(Step::CreatePrompt, &answer, &success::PROMPT, "no prompt id in it")
    }

    /// Starts a run of `prompt_meta` under an existing prompt (known).
    ///
    /// A call whose answer was lost is not repeated, since the run may have started. The call is given
    /// up once `unwanted` returns an error.
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
        // Borrowed, for a prompt with images is large.
        #[derive(Serialize)]
        struct Run<'a> {
            run_id: &'a str,
            prompt_id: &'a str,
            prompt_meta: &'a Value,
            test_cases: [TestCase; 1],
            created_by: &'a str,
        }
        let run_id = uuid::Uuid::new_v4().to_string();
        let body = Run {
            run_id: &run_id,
            prompt_id,
            prompt_meta,
            test_cases: test_cases(),
            created_by: user_id,
        };
        let path = "/functions/v1/initiate-prompt-run";
        let call = ApiCall { step: Step::StartRun, path, bearer: Some(access_token), unwanted };
        let answer = self.post(&call, &body);
        let answer = unwanted().map_or(answer, Err).map_err(|error| match error {
            // The request has been sent.
            Error::ShuttingDown => Error::CutShort,
            other => other,
        })?;
        let job_id = id(Step::StartRun, &answer, &success::JOB, "no job in it")?;
        Ok(Started { run_id, job_id })
    }

    /// Makes a call and returns the body of a successful answer. A failed call is made once more if
    /// [`may_repeat`] allows it.
    fn post(&self, call: &ApiCall<'_>, body: &impl Serialize) -> Result<Vec<u8>, Error> {
        let body = serde_json::to_vec(body).expect("JSON values always serialise");
        let first = self.post_once(call, &body);
        match &first {
            Err(error) if may_repeat(error) => {
                log::debug!("{}: {}, once more", call.step.name(), error.cause());
                self.post_once(call, &body)
            }
            _ => first,
        }
    }

    fn post_once(&self, call: &ApiCall<'_>, body: &[u8]) -> Result<Vec<u8>, Error> {
        let ApiCall { step, unwanted, .. } = *call;
        let began = Instant::now();
        let result = self.exchange(call, body).map_err(|e| self.call_failure(e));
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
            // A call that was given up is not LangFast's failure.
            Err(failure) => Err(unwanted().unwrap_or_else(|| Error::upstream(step, failure))),
        };
        self.vitals.note_call(step, &result, took);
        self.note_key(&result);
        result
    }

    fn note_key<T>(&self, result: &Result<T, Error>) {
        let mut key_refused = self.key_refused.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => *key_refused = None,
            Err(error) if error.meaning() == Some(Meaning::PublicKey) => {
                *key_refused = Some(error.clone());
            }
            Err(_) => {}
        }
    }

    fn exchange(&self, call: &ApiCall<'_>, body: &[u8]) -> Result<ApiAnswer, ureq::Error> {
        let mut request = self
            .agent(call.unwanted)
            .post(self.endpoint().url("http", call.path))
            .header("apikey", &self.anon_key)
            .header("Content-Type", "application/json")
            // Without this header an answer may come in any coding, and none is decoded here.
            .header("Accept-Encoding", "identity")
            .header("Origin", &self.origin)
            .header("Referer", format!("{}/", self.origin));
        if let Some(bearer) = call.bearer {
            request = request.header("Authorization", format!("Bearer {bearer}"));
        }
        let mut taped = self.taped("POST", call.path, request.headers_ref(), body);
        let answer = request.send(body).and_then(|answer| ApiAnswer::read(answer, &mut taped));
        answer.inspect_err(|error| note_failure(&mut taped, error))
    }

    /// Begins to record a call, if calls are recorded.
    fn taped(
        &self,
        method: &'static str,
        path: &str,
        headers: Option<&HeaderMap>,
        body: &[u8],
    ) -> Option<TapedCall> {
        Some(self.tape.get()?.call(method, path, headers?, body))
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
            ureq::Error::Timeout(_) => {
                Failure::TimedOut { setting: "request_timeout", limit: self.timeout }
            }
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
        dial_failure(error, self.connections.connect_timeout())
    }
}

/// A POST, without its body.
#[derive(Clone, Copy)]
struct ApiCall<'a> {
    step: Step,
    path: &'a str,
    bearer: Option<&'a str>,
    unwanted: &'a Unwanted,
}

/// Turns a connection that could not be made into the failure of the step that needed it.
pub fn dial_failure(error: DialError, limit: Duration) -> Failure {
    match error {
        DialError::Failed(why) => Failure::Unreachable(why),
        DialError::NoName(why) => Failure::Unreachable(why + ". Check the network and DNS"),
        DialError::TimedOut(_) => Failure::TimedOut { setting: "connect_timeout", limit },
    }
}

/// LangFast runs a prompt over test cases; ours is one without variables.
#[derive(Serialize)]
struct TestCase {
    name: &'static str,
    variables: [(); 0],
}

fn test_cases() -> [TestCase; 1] {
    [TestCase { name: "API Test Case", variables: [] }]
}

/// The id in an answer of success, or the failure that the answer tells of.
fn id(step: Step, answer: &[u8], ids: &success::Ids, missing: &str) -> Result<String, Error> {
    let found = success::id(answer, ids).map_err(|failure| Error::upstream(step, failure))?;
    found.ok_or_else(|| not_understood(step, answer, missing))
}

/// The failure of a call whose answer of success is none: what it says of an error, or else what is
/// missing.
fn not_understood(step: Step, answer: &[u8], missing: &str) -> Error {
    let answer: Value = serde_json::from_slice(answer).unwrap_or(Value::Null);
    let text = |path: &str| answer.pointer(path).and_then(Value::as_str);
    let said = text("/error/message").or(text("/error")).map(clean).filter(|said| !said.is_empty());
    let malformed = || Failure::Malformed(missing.to_owned());
    Error::upstream(step, said.map_or_else(malformed, Failure::Refused))
}

/// Whether a failed call may be made again: when it was certainly not carried out, or when being
/// carried out twice does no harm. A run request that may have arrived is never sent again.
fn may_repeat(error: &Error) -> bool {
    let Error::Upstream { step, failure } = error else { return false };
    match error.meaning() {
        Some(Meaning::NotBooted) => return true,
        Some(Meaning::ProjectRestricted) => return false,
        _ => {}
    }
    match failure {
        Failure::Unreachable(_) => true,
        Failure::Broken(_) => *step != Step::StartRun,
        Failure::Status { status, .. } => *status >= 500 && *step != Step::StartRun,
        _ => false,
    }
}

fn note_head(taped: &mut Option<TapedCall>, answer: &Response<Body>) {
    if let Some(taped) = taped {
        taped.head(answer.status().as_u16(), answer.headers());
    }
}

fn note_body(taped: &mut Option<TapedCall>, body: &[u8]) {
    if let Some(taped) = taped {
        taped.body(body);
    }
}

fn note_failure(taped: &mut Option<TapedCall>, error: &ureq::Error) {
    if let Some(taped) = taped {
        taped.failed(match error {
            ureq::Error::Timeout(_) => "silent",
            ureq::Error::Other(error) if error.is::<DialError>() => "unreachable",
            ureq::Error::Protocol(_) | ureq::Error::Http(_) => "no HTTP",
            _ => "broken",
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, code: Option<&str>) -> Failure {
        let code = code.map(str::to_owned);
        Failure::Status { status, code, message: None, retry_after: None }
    }

    #[test]
    fn a_run_request_is_repeated_only_if_it_cannot_have_arrived() {
        let unreachable = Failure::Unreachable("refused".to_owned());
        let broken = Failure::Broken("reset".to_owned());
        let malformed = Failure::Malformed("it is not HTTP".to_owned());
        for step in [Step::SignIn, Step::CreatePrompt, Step::StartRun] {
            let may_repeat =
                |failure: &Failure| may_repeat(&Error::upstream(step, failure.clone()));
            let does_no_harm = step != Step::StartRun;
            assert!(may_repeat(&unreachable));
            assert_eq!(may_repeat(&broken), does_no_harm);
            assert_eq!(may_repeat(&failure(500, None)), does_no_harm);
            assert!(may_repeat(&failure(503, Some("BOOT_ERROR"))), "it did nothing");
            assert!(!may_repeat(&failure(540, None)));
            assert!(!may_repeat(&failure(429, None)));
            assert!(!may_repeat(&malformed));
        }
    }
}
