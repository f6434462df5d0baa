//! What every request passes first: the count, the fault that waits for it, the `apikey`.

use std::sync::Arc;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::sleep;

use super::fault::{self, Fault, Kind, Step};
use super::listener::Link;
use super::state::Shared;

/// The middleware around all routes.
pub async fn gate(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(link): ConnectInfo<Link>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path().starts_with("/_sim/") {
        return next.run(request).await;
    }
    let step = Step::of(request.uri());
    let fault = shared.update(|state| {
        state.stats.http_requests += 1;
        step.and_then(|step| state.faults.next_for_request(step))
    });
    if let Some(fault) = fault {
        sleep(fault.wait()).await;
        if !matches!(fault.kind, Kind::Slow) {
            return strike(fault, request, &link).await;
        }
    }
    if step == Some(Step::Connect) {
        shared.update(|state| state.add_web_socket(link.clone()));
    } else if let Some(refusal) = check_key(&shared, request.headers()) {
        return refusal;
    }
    next.run(request).await
}

/// Answers a request with a fault, after its body has been read: so the fault strikes when the
/// client waits for the answer, not while it still sends.
async fn strike(fault: Fault, request: Request, link: &Link) -> Response {
    // What cannot be read does not matter: the answer is the same.
    let _ = to_bytes(request.into_body(), usize::MAX).await;
    match fault.kind {
        Kind::Status { status, headers, body } => fault::answer(status, headers, body),
        Kind::Reset => {
            link.reset();
            std::future::pending().await
        }
        Kind::Hang | Kind::Slow | Kind::Refuse { .. } => std::future::pending().await,
    }
}

/// Supabase's refusal of the public key that a request carries, if it refuses it.
fn check_key(shared: &Shared, headers: &HeaderMap) -> Option<Response> {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = field("authorization").and_then(|value| value.strip_prefix("Bearer "));
    // A key of the new kind is no JWT, and no bearer.
    if bearer.is_some_and(|bearer| bearer.starts_with("sb_")) {
        return Some(refuse_key("Invalid JWT", None));
    }
    let Some(key) = field("apikey") else {
        let hint = "No `apikey` request header or url param was found.";
        return Some(refuse_key("No API key found in request", Some(hint)));
    };
    match &shared.state().publishable_key {
        Some(only) if key == only => None,
        Some(_) if key.starts_with("eyJ") => Some(refuse_key(
            "Legacy API keys are disabled",
            Some(
                "Your legacy API keys (anon, service_role) were disabled on \
                 2026-11-01T00:00:00.000000+00:00. Re-enable them in the Supabase dashboard, or use \
                 the new publishable and secret API keys.",
            ),
        )),
        Some(_) if key.starts_with("sb_") => Some(refuse_key("Unregistered API key", None)),
        Some(_) => Some(refuse_key(
            "Invalid API key",
            Some("Double check your Supabase `anon` or `service_role` API key."),
        )),
        None => None,
    }
}

/// A refusal in the form of Supabase's gateway.
fn refuse_key(message: &str, hint: Option<&str>) -> Response {
    let body = json!({"message": message, "hint": hint});
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}
