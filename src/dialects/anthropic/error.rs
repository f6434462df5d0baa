//! Errors as Anthropic's clients expect them.

use serde::Serialize;

use crate::dialects::writing::to_json;
use crate::error::Error;

/// Anthropic's error code for a conversation that the server cannot keep. The SDKs' tool runners first
/// ask for a kept one, and send the whole conversation when they get this code.
pub(super) const THREAD_UNSUPPORTED: &str = "thread_unsupported_request";

/// An error as it stands in an envelope, or in the event that ends a stream.
#[derive(Serialize)]
pub(super) struct ErrorObject {
    r#type: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<ErrorDetails>,
}

/// Details of an error that programs can act on.
#[derive(Serialize)]
struct ErrorDetails {
    error_code: &'static str,
}

impl From<&Error> for ErrorObject {
    fn from(error: &Error) -> ErrorObject {
        let code = match error {
            Error::Invalid { code, .. } => *code,
            _ => None,
        };
        // The other codes are OpenAI's.
        let code = code.filter(|code| *code == THREAD_UNSUPPORTED);
        let details = code.map(|error_code| ErrorDetails { error_code });
        ErrorObject { r#type: error_type(error), message: error.to_string(), details }
    }
}

/// Returns Anthropic's type of an error, mostly by its status. Being overloaded has status 503 here and 529 at
/// Anthropic; the SDKs try again either way.
fn error_type(error: &Error) -> &'static str {
    if matches!(error, Error::Overloaded(_) | Error::ShuttingDown | Error::CutShort) {
        return "overloaded_error";
    }
    match error.report().status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// Returns the body of an error answer, as JSON.
pub fn envelope(error: &Error, request_id: &str) -> String {
    #[derive(Serialize)]
    struct Envelope<'a> {
        r#type: &'static str,
        error: ErrorObject,
        request_id: &'a str,
    }
    to_json(&Envelope { r#type: "error", error: error.into(), request_id })
}
