//! What LangFast means by a refusal, told by its status, its code and its words.
//!
//! LangFast answers through several hands: Supabase's gateway, Auth, PostgREST, the platform of its edge
//! function, the function itself, the prompt runner, and the model's maker, whose words come through as
//! they are. Each has its own form; this is the one place that tells them apart, and `words` knows their words.

mod words;

use super::Step;
use words::Words;

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The public key that every request carries is disabled or wrong.
    PublicKey,
    /// Somebody has to log in.
    Login,
    /// The access token is good, and LangFast's clocks disagree for a moment (PostgREST before 14.18
    /// says so wrongly after an idle spell).
    IssuedInFuture,
    /// LangFast's whole project is restricted or paused by its host.
    ProjectRestricted,
    /// The function that a step calls is not there.
    NoFunction,
    /// The edge function did not start, so it did nothing.
    NotBooted,
    /// The edge function has crashed or was ended for its use of memory or time.
    FunctionFailed,
    /// The edge function did not answer within its platform's own limit.
    FunctionIdle,
    /// The messages are too long for the model.
    ContextLength,
    /// The model has spent all tokens that an answer may have before it began to answer.
    AnswerLimit,
    /// The model does not take a parameter.
    Parameter,
    /// The model does not take a parameter's value.
    Value,
    /// The model does not exist, is shut down, or is not for LangFast's or the user's account.
    NoSuchModel,
    /// The model is for a plan that the user does not have.
    Plan,
    /// The user's quota is spent.
    Quota,
    /// Too many requests in too short a time.
    Rate,
}

/// A refusal, as it was received.
pub struct Said<'a> {
    /// The HTTP status; `None` for what came over the socket.
    pub status: Option<u16>,
    /// The error code, or an empty text.
    pub code: &'a str,
    /// The message, or an empty text.
    pub message: &'a str,
}

impl Said<'_> {
    /// Returns the meaning of the refusal at this step; `None` if it is not known.
    pub fn meaning(&self, step: Step) -> Option<Meaning> {
        let words = format!("{} {}", self.code, self.message).to_ascii_lowercase();
        let words = Words(&words);
        self.of_platform(step, &words).or_else(|| self.of_service(step, &words)).or(
            match self.status {
                Some(402) => Some(Meaning::Quota),
                Some(429) => Some(Meaning::Rate),
                _ => None,
            },
        )
    }

    /// Reads the refusals of Supabase's own parts, and of the gateway in front of them.
    fn of_platform(&self, step: Step, words: &Words) -> Option<Meaning> {
        if self.refuses_key(step, words) {
            return Some(Meaning::PublicKey);
        }
        let restricted =
            ["exceed_", "overdue", "restricted", "project paused", "project is paused"];
        if matches!(self.status, Some(402 | 540)) && words.have(&restricted)
            || self.status == Some(540)
        {
            return Some(Meaning::ProjectRestricted);
        }
        // A run that says so has been started all the same.
        if step != Step::Run && words.have(&["issued at future", "issued in the future"]) {
            return Some(Meaning::IssuedInFuture);
        }
        if self.misses_function(step, words) {
            return Some(Meaning::NoFunction);
        }
        // Supabase's names for the failures of edge functions (known from its documentation); 546 is its
        // status for a limit on resources.
        match self.code {
            "BOOT_ERROR" => Some(Meaning::NotBooted),
            "IDLE_TIMEOUT" => Some(Meaning::FunctionIdle),
            "WORKER_LIMIT" | "WORKER_RESOURCE_LIMIT" | "WORKER_ERROR" => {
                Some(Meaning::FunctionFailed)
            }
            _ if self.status == Some(546) => Some(Meaning::FunctionFailed),
            _ => None,
        }
    }

    /// Known from Supabase: a 401 without a code, whatever is asked for. A model's maker may speak of an
    /// invalid key as well, which is LangFast's then; so what a run says does not count.
    fn refuses_key(&self, step: Step, words: &Words) -> bool {
        let known = ["legacy api keys", "invalid api key", "unregistered api key"];
        match (step, self.status) {
            (Step::Run, _) => false,
            (Step::Connect, None) => words.have(&known),
            // The key is the bearer too.
            (Step::SignIn, Some(401)) if self.code.starts_with("UNAUTHORIZED_") => true,
            (_, Some(401 | 403)) => words.have(&known) || words.have(&["no api key found"]),
            _ => false,
        }
    }

    /// The function has its own status for all that it refuses, such as 400 or 500: only plain words count
    /// beside one that means something else.
    fn asks_for_login(&self, step: Step, words: &Words) -> bool {
        match self.status {
            None if step == Step::Connect && words.refuse_user() => true,
            None | Some(401 | 403) => words.ask_for_login(),
            _ => words.ask_plainly_for_login(),
        }
    }

    fn misses_function(&self, step: Step, words: &Words) -> bool {
        match (step, self.status) {
            // A page of whoever stands in front: there is nothing behind the URL.
            (Step::CreatePrompt | Step::StartRun, Some(404)) if words.0.trim().is_empty() => true,
            (Step::CreatePrompt, Some(404)) => self.code == "PGRST202",
            (Step::StartRun, Some(404)) => {
                // The function itself may say that of what it was asked to run, and its own name is about a
                // prompt too.
                let others = words.0.replace("initiate-prompt-run", "it");
                let is_other = Words(&others).have(&["prompt", "model", "deployment"]);
                words.have(&["function was not found", "function not found"])
                    || self.code == "NOT_FOUND" && !is_other
            }
            _ => false,
        }
    }

    /// Reads the refusals of LangFast's own code, and of a model's maker through it.
    fn of_service(&self, step: Step, words: &Words) -> Option<Meaning> {
        match self.status {
            Some(429) if words.speak_of_quota() || words.speak_plainly_of_quota() => {
                return Some(Meaning::Quota);
            }
            Some(429) => return Some(Meaning::Rate),
            _ => {}
        }
        // A server's own trouble may be told in words that otherwise mean a refusal.
        let is_refusal = self.status.is_none_or(|status| status < 500);
        Some(if is_refusal && words.speak_of_context() {
            Meaning::ContextLength
        } else if is_refusal && words.have(&["output limit was reached"]) {
            // OpenAI's words, of a model that reasons.
            Meaning::AnswerLimit
        } else if words.refuse_parameter() {
            Meaning::Parameter
        } else if words.refuse_value() || is_refusal && words.refuse_content() {
            Meaning::Value
        } else if is_refusal && words.speak_of_quota() || words.speak_plainly_of_quota() {
            Meaning::Quota
        } else if words.ask_for_plan() {
            Meaning::Plan
        } else if is_refusal && words.speak_of_rate() {
            Meaning::Rate
        } else if words.miss_model() {
            Meaning::NoSuchModel
        } else if self.asks_for_login(step, words) {
            Meaning::Login
        } else {
            return None;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(step: Step, status: Option<u16>, code: &str, message: &str) -> Option<Meaning> {
        Said { status, code, message }.meaning(step)
    }

    /// What a run's failing event means.
    fn of_run(message: &str) -> Option<Meaning> {
        meaning(Step::Run, None, "", message)
    }

    #[test]
    fn a_model_that_cannot_be_had_is_told_in_many_words() {
        for words in [
            "The model `gpt-4` does not exist or you do not have access to it.",
            "404 The model 'gpt-4.5-preview' does not exist",
            "The model `gpt-4` has been deprecated, learn more here: https://platform.openai.com/docs",
            "The model gpt-4.1-nano has been shut down. Use another one.",
            "This model is no longer available",
            "model_not_found",
            "Model not found",
            "Unknown model: gpt-9",
            "invalid model",
            "Invalid model: gpt-9",
            "Invalid model `gpt-9`",
            "Project `proj_x` does not have access to model `gpt-4`",
            "Your organization is not allowed to access model gpt-4",
            "DeploymentNotFound",
            "The API deployment for this resource does not exist. If you created it just now, wait.",
            "gpt-9 is not a valid model ID",
            "The model `x-runner` was not found for your key",
            "The model gpt-4 does not exist, or your API key does not have access to it.",
            "The model `gpt-4o-audio-preview` is not supported",
            "insert on table \"prompts\" violates foreign key constraint \"prompts_model_fkey\"",
        ] {
            assert_eq!(of_run(words), Some(Meaning::NoSuchModel), "{words}");
            for status in [400, 403, 404, 500] {
                let meaning = meaning(Step::StartRun, Some(status), "", words);
                assert_eq!(meaning, Some(Meaning::NoSuchModel), "{status} {words}");
            }
        }
        let by_code = meaning(Step::StartRun, Some(404), "model_not_found", "");
        assert_eq!(by_code, Some(Meaning::NoSuchModel));
    }

    #[test]
    fn other_talk_of_models_is_about_something_else() {
        for (words, expected) in [
            ("This model's maximum context length is 8192 tokens.", Some(Meaning::ContextLength)),
            ("Rate limit reached for model gpt-4o: limit 3, used 3", Some(Meaning::Rate)),
            ("You exceeded your current quota for this model", Some(Meaning::Quota)),
            (
                "Could not finish the message because max_tokens or model output limit was reached. Please \
                 try again with higher max_tokens.",
                Some(Meaning::AnswerLimit),
            ),
            ("The model is currently not available, try again later", None),
            ("The model produced invalid content", None),
            ("Invalid model output", None),
            ("The model: the prompt was not found", None),
            ("Prompt not found", None),
            ("model runner: API key not found", None),
            ("Model provider: the credentials were not found", None),
            ("The model's runner is not available", None),
            ("Model server not found", None),
            ("Model run not found", None),
            ("'temperature' is not supported with this model.", Some(Meaning::Parameter)),
        ] {
            assert_eq!(of_run(words), expected, "{words}");
        }
    }

    #[test]
    fn content_that_a_model_does_not_take_is_told_from_a_model_that_is_gone() {
        for words in [
            "Invalid content type. image_url is only supported by certain models.",
            "input_audio is only supported by certain models",
            "This model does not support image inputs.",
            "The model `o1-mini` doesn't support images",
            "The model gpt-4: image input is not supported",
            "Image input is not supported by this model",
            "No endpoints found that support image input",
            "Model gpt-4 does not accept PDF documents",
        ] {
            assert_eq!(of_run(words), Some(Meaning::Value), "{words}");
            let refused = meaning(Step::StartRun, Some(400), "", words);
            assert_eq!(refused, Some(Meaning::Value), "{words}");
            assert_ne!(
                meaning(Step::StartRun, Some(500), "", words),
                Some(Meaning::Value),
                "{words}"
            );
        }
        for words in
            ["The image is too large", "audio: the model is overloaded", "Profile not supported"]
        {
            assert_eq!(of_run(words), None, "{words}");
        }
    }

    #[test]
    fn a_plan_for_a_model_is_told_apart_from_a_spent_quota() {
        for words in [
            "Upgrade to Pro to use this model",
            "gpt-5 is a premium model",
            "This model requires a Pro plan",
            "Model requires Pro plan",
            "o3 requires Pro",
            "This model needs a paid plan",
            "This model is for Pro users",
            "This model is only available to Pro users",
            "o3 is not included in your plan",
            "Upgrade your plan to use this model",
            "Model not available on the free plan. Upgrade to Pro",
        ] {
            for status in [None, Some(400), Some(402), Some(403)] {
                let step = if status.is_some() { Step::StartRun } else { Step::Run };
                assert_eq!(meaning(step, status, "", words), Some(Meaning::Plan), "{words}");
            }
        }
        for words in [
            "You have reached your daily limit of 50 requests. Upgrade to Pro",
            "Monthly limit reached. Upgrade your plan",
            "You have used all of your 50 free requests today",
            "You are out of requests. Upgrade to Pro",
            "Not enough credits to run this model",
            "You have no credits left",
            "Insufficient credits",
            "You've reached the limit for premium models",
            "Upgrade your plan",
            "You exceeded your current quota, please check your plan and billing details",
        ] {
            assert_eq!(of_run(words), Some(Meaning::Quota), "{words}");
        }
        assert_eq!(meaning(Step::StartRun, Some(402), "", "Pay"), Some(Meaning::Quota));
        for words in [
            "You have reached your monthly limit of 1500 requests",
            "Daily limit reached",
            "You exceeded your current quota, please check your plan and billing details",
        ] {
            let meaning = meaning(Step::StartRun, Some(500), "", words);
            assert_eq!(meaning, Some(Meaning::Quota), "{words}");
        }
        assert_eq!(meaning(Step::StartRun, Some(500), "", "Connection limit reached"), None);
        let many = "Too many requests: your daily quota is exhausted";
        assert_eq!(of_run(many), Some(Meaning::Quota));
        assert_eq!(meaning(Step::StartRun, Some(429), "", many), Some(Meaning::Quota));
    }

    #[test]
    fn a_rate_is_over_in_a_moment_and_is_no_quota() {
        for words in [
            "You have reached the limit of 5 requests per minute",
            "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000.",
            "rate_limit_exceeded: the limit is reached",
            "Quota exceeded for quota metric 'requests per minute', current quota 5",
        ] {
            assert_eq!(of_run(words), Some(Meaning::Rate), "{words}");
            let by_status = meaning(Step::StartRun, Some(429), "", words);
            assert_eq!(by_status, Some(Meaning::Rate), "{words}");
        }
    }

    #[test]
    fn a_token_of_the_future_is_met_before_a_run_and_not_in_one() {
        for step in [Step::SignIn, Step::CreatePrompt, Step::Connect, Step::StartRun] {
            let meaning = meaning(step, Some(401), "PGRST303", "JWT issued at future");
            assert_eq!(meaning, Some(Meaning::IssuedInFuture), "{step:?}");
        }
        assert_eq!(of_run("JWT issued at future"), None);
    }

    #[test]
    fn a_public_key_is_refused_by_a_gateway_and_not_by_a_run() {
        for words in [
            "Legacy API keys are disabled",
            "Invalid API key",
            "Unregistered API key",
            "Your legacy API keys (anon, service_role) were disabled on 2026-12-01",
        ] {
            for step in [Step::SignIn, Step::CreatePrompt, Step::StartRun] {
                assert_eq!(
                    meaning(step, Some(401), "", words),
                    Some(Meaning::PublicKey),
                    "{words}"
                );
            }
            assert_eq!(meaning(Step::Connect, None, "", words), Some(Meaning::PublicKey));
            assert_eq!(of_run(words), None, "that is the key of LangFast at the model's maker");
        }
        let legacy = |step| meaning(step, Some(401), "UNAUTHORIZED_LEGACY_JWT", "Invalid JWT");
        assert_eq!(legacy(Step::SignIn), Some(Meaning::PublicKey));
        assert_eq!(legacy(Step::StartRun), None, "there the token is the user's");
        assert_eq!(meaning(Step::StartRun, Some(401), "", "Incorrect API key provided"), None);
    }

    #[test]
    fn a_restricted_project_is_not_the_users_quota() {
        for words in [
            "Service for this project is restricted due to the following violations: \
             exceed_egress_quota. The project owner must upgrade their plan",
            "exceed_db_size_quota",
            "overdue_payment",
        ] {
            let meaning = meaning(Step::SignIn, Some(402), "", words);
            assert_eq!(meaning, Some(Meaning::ProjectRestricted), "{words}");
        }
        assert_eq!(meaning(Step::SignIn, Some(540), "", ""), Some(Meaning::ProjectRestricted));
    }

    #[test]
    fn the_platform_of_functions_has_codes_of_its_own() {
        let start = |status, code, words| meaning(Step::StartRun, Some(status), code, words);
        assert_eq!(start(503, "BOOT_ERROR", ""), Some(Meaning::NotBooted));
        assert_eq!(start(546, "", ""), Some(Meaning::FunctionFailed));
        assert_eq!(start(546, "WORKER_LIMIT", ""), Some(Meaning::FunctionFailed));
        assert_eq!(start(504, "IDLE_TIMEOUT", ""), Some(Meaning::FunctionIdle));
        let words = "Requested function was not found";
        assert_eq!(start(404, "NOT_FOUND", words), Some(Meaning::NoFunction));
        assert_eq!(start(404, "NOT_FOUND", ""), Some(Meaning::NoFunction));
        let named = start(404, "NOT_FOUND", "There is no initiate-prompt-run");
        assert_eq!(named, Some(Meaning::NoFunction));
        assert_eq!(start(404, "", ""), Some(Meaning::NoFunction), "a page");
        assert_eq!(start(404, "", "Prompt not found"), None);
        assert_eq!(start(404, "NOT_FOUND", "Prompt not found"), None);
        let rpc = meaning(Step::CreatePrompt, Some(404), "PGRST202", "Could not find the function");
        assert_eq!(rpc, Some(Meaning::NoFunction));
    }

    #[test]
    fn a_login_is_asked_for_in_words() {
        for words in ["Please log in to run prompts", "Anonymous users cannot run prompts"] {
            assert_eq!(meaning(Step::StartRun, Some(403), "", words), Some(Meaning::Login));
            assert_eq!(of_run(words), Some(Meaning::Login));
        }
        for words in [
            "Please log in to run prompts",
            "You must be signed in",
            "Anonymous users cannot run prompts",
            "Anonymous users are not allowed to run prompts. Please sign in.",
            "Authentication required",
        ] {
            for status in [400, 403, 422, 500] {
                let meaning = meaning(Step::StartRun, Some(status), "", words);
                assert_eq!(meaning, Some(Meaning::Login), "{status} {words}");
            }
        }
        for words in ["Unauthorized", "unauthenticated: no session", "Not authenticated"] {
            assert_eq!(meaning(Step::Connect, None, "", words), Some(Meaning::Login), "{words}");
            assert_eq!(of_run(words), None, "that is LangFast's key at the model's maker: {words}");
        }
        assert_eq!(meaning(Step::StartRun, Some(500), "", "the log in question"), None);
        assert_eq!(meaning(Step::StartRun, Some(500), "", "sign in service is down"), None);
        for words in ["The catalog in use is broken", "A missing design in the schema"] {
            assert_eq!(of_run(words), None, "{words}");
        }
    }
}
