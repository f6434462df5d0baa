//! The simulator's switches over HTTP, for a person and for test code in other languages.
//!
//! | request | what it does |
//! | --- | --- |
//! | `POST /_sim/fault` | queues a fault, see [`FaultRequest`] |
//! | `POST /_sim/expire` | makes every access token an expired one |
//! | `POST /_sim/key` | disables legacy public keys: only the key in the body is accepted |
//! | `POST /_sim/revoke` | forgets every refresh token |
//! | `POST /_sim/cut` | ends every WebSocket |
//! | `POST /_sim/turns` | queues what the next runs answer: a list of turns, see [`Turn`] |
//! | `POST /_sim/reset` | forgets queued faults and turns, recorded runs and prompts; counts stay |
//! | `GET /_sim/stats` | the counts |
//! | `GET /_sim/runs`, `GET /_sim/prompts` | the bodies of what was accepted, in order |

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;

use super::fault::{Fault, Step};
use super::model::Turn;
use super::state::{Shared, Stats};

/// The routes under `/_sim/`.
pub fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_sim/fault", post(fault))
        .route("/_sim/expire", post(expire))
        .route("/_sim/key", post(key))
        .route("/_sim/revoke", post(revoke))
        .route("/_sim/cut", post(cut))
        .route("/_sim/turns", post(turns))
        .route("/_sim/reset", post(reset))
        .route("/_sim/stats", get(stats))
        .route("/_sim/runs", get(runs))
        .route("/_sim/prompts", get(prompts))
}

/// `{"step":"run","status":429,"headers":{"retry-after":"1"},"body":"…" or {…},"times":2}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultRequest {
    /// sign_up, refresh, password, create_prompt, run or connect
    step: Step,
    #[serde(default)]
    kind: FaultKind,
    /// For the kind `status`.
    #[serde(default = "service_unavailable")]
    status: u16,
    /// For the kind `status`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The body for the kind `status`, the message for the kind `refuse`.
    #[serde(default)]
    body: Value,
    /// How many requests meet it.
    #[serde(default = "once")]
    times: usize,
    #[serde(default)]
    delay_ms: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FaultKind {
    #[default]
    Status,
    Hang,
    Reset,
    Refuse,
    Slow,
}

fn service_unavailable() -> u16 {
    503
}

fn once() -> usize {
    1
}

impl FaultRequest {
    fn into_fault(self) -> Result<Fault, String> {
        let body = match self.body {
            Value::Null => String::new(),
            Value::String(text) => text,
            json => json.to_string(),
        };
        let fault = match self.kind {
            FaultKind::Status => status_fault(self.status, &self.headers)?.body(&body),
            FaultKind::Hang => Fault::hang(),
            FaultKind::Reset => Fault::reset(),
            FaultKind::Refuse => Fault::refuse(&body),
            FaultKind::Slow => Fault::slow(self.delay_ms),
        };
        Ok(fault.delay(self.delay_ms).times(self.times))
    }
}

/// Checks what [`Fault`] would panic on.
fn status_fault(status: u16, headers: &BTreeMap<String, String>) -> Result<Fault, String> {
    StatusCode::from_u16(status).map_err(|_| format!("{status} is no HTTP status"))?;
    let mut fault = Fault::status(status);
    for (name, value) in headers {
        name.parse::<HeaderName>().map_err(|_| format!("{name:?} is no header name"))?;
        value.parse::<HeaderValue>().map_err(|_| format!("{value:?} is no header value"))?;
        fault = fault.header(name, value);
    }
    Ok(fault)
}

async fn fault(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<FaultRequest>,
) -> Result<StatusCode, (StatusCode, String)> {
    let step = request.step;
    let fault = request.into_fault().map_err(|error| (StatusCode::BAD_REQUEST, error))?;
    shared.update(|state| state.faults.push(step, fault));
    Ok(StatusCode::NO_CONTENT)
}

async fn expire(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.update(|state| state.accounts.expire_access_tokens());
    StatusCode::NO_CONTENT
}

async fn key(State(shared): State<Arc<Shared>>, key: String) -> StatusCode {
    shared.update(|state| state.publishable_key = Some(key.trim().to_owned()));
    StatusCode::NO_CONTENT
}

async fn revoke(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.update(|state| state.accounts.forget_refresh_tokens());
    StatusCode::NO_CONTENT
}

async fn cut(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.cut_sockets();
    StatusCode::NO_CONTENT
}

async fn turns(State(shared): State<Arc<Shared>>, Json(turns): Json<Vec<Turn>>) -> StatusCode {
    shared.update(|state| state.turns.extend(turns));
    StatusCode::NO_CONTENT
}

async fn reset(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.update(|state| {
        state.faults.clear();
        state.turns.clear();
        state.runs.clear();
        state.prompts.clear();
    });
    StatusCode::NO_CONTENT
}

async fn stats(State(shared): State<Arc<Shared>>) -> Json<Stats> {
    Json(shared.stats())
}

async fn runs(State(shared): State<Arc<Shared>>) -> Json<Vec<Value>> {
    Json(shared.state().runs.clone())
}

async fn prompts(State(shared): State<Arc<Shared>>) -> Json<Vec<Value>> {
    Json(shared.state().prompts.clone())
}
