//! Supabase Auth: `/auth/v1/signup` and `/auth/v1/token`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::accounts::{BadRefresh, EMAIL, PASSWORD, User};
use super::state::{Shared, State as SimulatorState};

/// `POST /auth/v1/signup`: an anonymous sign-up, whatever the object in the body holds.
pub async fn sign_up(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    if read_object(&body).is_none() {
        return refuse_body();
    }
    shared.update(|state| {
        state.stats.signups += 1;
        session(state, User::anonymous(), shared.settings.token_lifetime)
    })
}

/// `POST /auth/v1/token?grant_type=…`
pub async fn token(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let Some(body) = read_object(&body) else {
        return refuse_body();
    };
    match query.as_deref() {
        Some("grant_type=refresh_token") => refresh(&shared, &body),
        Some("grant_type=password") => log_in(&shared, &body),
        _ => refuse(400, "invalid_credentials", "unsupported_grant_type"),
    }
}

fn refresh(shared: &Shared, body: &Value) -> Response {
    let Some(token) = body["refresh_token"].as_str() else {
        return refuse(400, "validation_failed", "refresh_token required");
    };
    let settings = &shared.settings;
    shared.update(|state| {
        let refreshed =
            state.accounts.refresh(token, settings.parent_tokens, settings.token_lifetime);
        match &refreshed {
            Ok(_) => state.stats.refreshes += 1,
            Err(_) => state.stats.refused_refreshes += 1,
        }
        let (code, message) = match refreshed {
            Ok(session) => return Json(session).into_response(),
            Err(BadRefresh::NotFound) => ("refresh_token_not_found", "Refresh Token Not Found"),
            Err(BadRefresh::AlreadyUsed) => ("refresh_token_already_used", "Already Used"),
        };
        refuse(400, code, &format!("Invalid Refresh Token: {message}"))
    })
}

fn log_in(shared: &Shared, body: &Value) -> Response {
    if body["email"] != EMAIL || body["password"] != PASSWORD {
        return refuse(400, "invalid_credentials", "Invalid login credentials");
    }
    shared.update(|state| {
        state.stats.password_logins += 1;
        session(state, User::with_account(), shared.settings.token_lifetime)
    })
}

fn session(state: &mut SimulatorState, user: User, lifetime: u64) -> Response {
    Json(state.accounts.new_session(user, lifetime)).into_response()
}

/// The body, if it is a JSON object.
fn read_object(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().filter(Value::is_object)
}

fn refuse_body() -> Response {
    refuse(400, "bad_json", "Could not parse request body as JSON")
}

/// An error in Supabase Auth's form.
fn refuse(status: u16, error_code: &str, message: &str) -> Response {
    let body = json!({"code": status, "error_code": error_code, "msg": message});
    let status = StatusCode::from_u16(status).expect("an HTTP status");
    (status, Json(body)).into_response()
}
