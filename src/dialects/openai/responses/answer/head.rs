//! The head of a response: its status, and why and with what it ended.

use serde::Serialize;

use crate::chat::{FinishReason, Usage};
use crate::dialects::openai::identity::Identity;
use crate::error::{Error, ErrorObject};

/// The stage of a response: under way, ended, or failed.
pub enum ResponseStage<'a> {
    /// The run goes on.
    InProgress,
    /// The answer is whole, or was cut, as the reason says.
    Ended(FinishReason, &'a Usage),
    /// The answer broke off.
    Failed(&'a Error),
}

impl ResponseStage<'_> {
    /// Returns the `status` of the response.
    pub fn status(&self) -> &'static str {
        match self {
            ResponseStage::InProgress => "in_progress",
            ResponseStage::Ended(FinishReason::Length | FinishReason::ContentFilter, _) => {
                "incomplete"
            }
            ResponseStage::Ended(..) => "completed",
            ResponseStage::Failed(_) => "failed",
        }
    }

    fn incomplete_reason(&self) -> Option<&'static str> {
        match self {
            ResponseStage::Ended(FinishReason::Length, _) => Some("max_output_tokens"),
            ResponseStage::Ended(FinishReason::ContentFilter, _) => Some("content_filter"),
            _ => None,
        }
    }
}

/// The fields of a response before those that repeat its request.
#[derive(Serialize)]
pub struct ResponseHead<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    completed_at: Option<u64>,
    error: Option<FailureObject<'a>>,
    incomplete_details: Option<IncompleteDetails>,
    model: &'a str,
    usage: Option<UsageObject>,
}

impl<'a> ResponseHead<'a> {
    /// Creates the head of the response of this identity, which is at this stage.
    pub fn new(identity: &'a Identity, stage: &ResponseStage<'a>) -> ResponseHead<'a> {
        let status = stage.status();
        let (error, usage) = match stage {
            ResponseStage::InProgress => (None, None),
            ResponseStage::Ended(_, usage) => (None, Some((*usage).into())),
            ResponseStage::Failed(error) => (Some((*error).into()), None),
        };
        ResponseHead {
            id: &identity.id,
            object: "response",
            created_at: identity.created,
            status,
            completed_at: (status == "completed").then(Identity::now),
            error,
            incomplete_details: stage
                .incomplete_reason()
                .map(|reason| IncompleteDetails { reason }),
            model: &identity.model,
            usage,
        }
    }
}

#[derive(Serialize)]
struct IncompleteDetails {
    reason: &'static str,
}

#[derive(Serialize)]
struct FailureObject<'a> {
    code: &'static str,
    message: String,
    param: Option<&'a str>,
    r#type: &'static str,
}

impl<'a> From<&'a Error> for FailureObject<'a> {
    fn from(error: &'a Error) -> FailureObject<'a> {
        let ErrorObject { message, r#type, param, code } = error.object();
        let code = match code {
            // Clients decide by these codes whether to try again.
            Some(
                code @ ("context_length_exceeded" | "insufficient_quota" | "rate_limit_exceeded"),
            ) => code,
            _ if ["invalid_request_error", "permission_error"].contains(&r#type) => {
                "invalid_prompt"
            }
            _ => "server_error",
        };
        FailureObject { code, message, param, r#type }
    }
}

/// The `usage` of a response. Details of which nothing is known are zero; they are there because clients read
/// them.
#[derive(Serialize)]
struct UsageObject {
    input_tokens: u64,
    input_tokens_details: InputTokensDetails,
    output_tokens: u64,
    output_tokens_details: OutputTokensDetails,
    total_tokens: u64,
}

#[derive(Default, Serialize)]
struct InputTokensDetails {
    cache_write_tokens: u64,
    cached_tokens: u64,
}

#[derive(Serialize)]
struct OutputTokensDetails {
    reasoning_tokens: u64,
}

impl From<&Usage> for UsageObject {
    fn from(usage: &Usage) -> UsageObject {
        UsageObject {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens: usage.cached_tokens,
                ..InputTokensDetails::default()
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: usage.reasoning_tokens },
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_clients_act_on_are_passed_on_and_no_others() {
        let code = |error: Error| FailureObject::from(&error).code;
        assert_eq!(code(Error::invalid("input", "no")), "invalid_prompt");
        assert_eq!(code(Error::CutShort), "server_error");
    }
}
