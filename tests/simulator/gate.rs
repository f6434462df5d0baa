//! What every request passes first: the count, the fault that waits for it, the `apikey`.

use std::sync::Arc;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
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
    } else if !request.headers().contains_key("apikey") {
        return no_api_key();
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

/// Supabase's answer to a request without a key.
fn no_api_key() -> Response {
    let body = json!({
        "message": "No API key found in request",
        "hint": "No `apikey` request header or url param was found.",
    });
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}
