//! Numbers of tokens, as OpenAI writes them in a completion's `usage`.
//!
//! Enters: the neutral [`Usage`]. Leaves: its JSON object. It may not know how the numbers were counted.

use serde::Serialize;

use crate::chat::Usage;

/// The `usage` of a completion. Details of which nothing is known are zero; they are there because clients read
/// them.
#[derive(Default, Serialize)]
pub(super) struct UsageObject {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
    completion_tokens_details: CompletionTokensDetails,
}

#[derive(Default, Serialize)]
struct PromptTokensDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Default, Serialize)]
struct CompletionTokensDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

impl From<&Usage> for UsageObject {
    fn from(usage: &Usage) -> UsageObject {
        UsageObject {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: usage.cached_tokens,
                ..PromptTokensDetails::default()
            },
            completion_tokens_details: CompletionTokensDetails {
                reasoning_tokens: usage.reasoning_tokens,
                ..CompletionTokensDetails::default()
            },
        }
    }
}
