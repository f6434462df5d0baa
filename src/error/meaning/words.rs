//! The words of a refusal, by which it is recognised: those of OpenAI, Azure, Anthropic, PostgreSQL, and
//! likely ones of LangFast's own.
//!
//! Enters: code and message in lower case. Leaves: whether they speak of a quota, a plan, a login, a
//! model that is gone, and so on. It may not know the status nor the step, which [`super::Said`] weighs
//! beside the words.

/// Code and message in lower case.
pub(super) struct Words<'a>(pub(super) &'a str);

impl Words<'_> {
    pub(super) fn have(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.0.contains(part))
    }

    pub(super) fn speak_of_context(&self) -> bool {
        self.have(&["context length", "context_length", "context window", "maximum context"])
    }

    /// OpenAI's words, with and without their beginning, and Anthropic's.
    pub(super) fn refuse_parameter(&self) -> bool {
        self.have(&[
            "unsupported parameter",
            "unsupported_parameter",
            "unknown parameter",
            "unknown_parameter",
            "unrecognized request argument",
            "extra inputs are not permitted",
            "is deprecated for this model",
            "cannot both be specified for this model",
            "' is not supported with this model",
            "` is not supported with this model",
        ])
    }

    pub(super) fn refuse_value(&self) -> bool {
        self.have(&["unsupported value", "unsupported_value"])
            || self.have(&["invalid value: '"]) && self.have(&["supported values"])
            || self.have(&["' does not support "]) && self.have(&["with this model"])
            || self.have(&["supports at most"]) && self.have(&["completion tokens"])
    }

    /// OpenAI's words for images and the like that a model does not take, and other makers'.
    pub(super) fn refuse_content(&self) -> bool {
        const KINDS: &str = "audio document file image image_url input_audio input_file input_image pdf \
                             video";
        let refused = [
            "only supported by certain models",
            "no endpoints found that support",
            "not support",
            "n't support",
            "not accept",
            "n't accept",
        ];
        self.have(&refused) && names_one_of(KINDS, self.0)
    }

    pub(super) fn speak_of_rate(&self) -> bool {
        self.have(&["rate limit", "rate_limit", "too many requests", "per min", "per second"])
    }

    pub(super) fn speak_of_quota(&self) -> bool {
        if self.speak_of_rate() {
            return false;
        }
        let is_reached = self.have(&["limit"]) && self.have(&["reached", "used up", "exhausted"]);
        let spent = [
            "quota",
            "daily limit",
            "monthly limit",
            "out of credits",
            "out of requests",
            "enough credits",
            "insufficient credits",
            "insufficient balance",
            "no credits",
            "no more credits",
            "credits left",
            "requests left",
        ];
        let is_used = self.have(&["used all"]) && self.have(&["request", "credit"]);
        let bare = self.have(&["upgrade your plan"]) && !self.have(&["model"]);
        is_reached || is_used || self.have(&spent) || bare
    }

    /// Words that mean the user's quota whatever the status beside them.
    pub(super) fn speak_plainly_of_quota(&self) -> bool {
        let plain =
            ["current quota", "daily limit", "monthly limit", "daily quota", "monthly quota"];
        self.have(&plain) && !self.have(&["per min", "per second"])
    }

    pub(super) fn ask_for_plan(&self) -> bool {
        let names = [
            "premium model",
            "pro model",
            "pro user",
            "pro subscriber",
            "models are only available",
            "pro-only",
            "pro only",
        ];
        let asks = [
            "upgrade to",
            "upgrade your plan",
            "requires a",
            "require a",
            "requires pro",
            "requires premium",
            "needs a",
            "available on",
            "available to",
            "available for",
            "included in",
            "part of",
            "reserved for",
            "limited to",
            "subscribe",
        ];
        let plans = [
            "premium",
            "plan",
            "subscription",
            "to pro",
            "a pro",
            "on pro",
            "for pro",
            "requires pro",
            "subscribe",
        ];
        self.have(&names) || self.have(&asks) && self.have_word(&plans)
    }

    /// Whether one of these stands here as a whole word, or several.
    fn have_word(&self, parts: &[&str]) -> bool {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        parts.iter().any(|part| {
            self.0.match_indices(part).any(|(at, part)| {
                let (before, behind) = (&self.0[..at], &self.0[at + part.len()..]);
                let plural = behind.strip_prefix('s').unwrap_or(behind);
                !is_part(before.chars().next_back()) && !is_part(plural.chars().next())
            })
        })
    }

    /// OpenAI's, Azure's and likely words of LangFast's own for a model that cannot be had.
    pub(super) fn miss_model(&self) -> bool {
        const KNOWN: [&str; 12] = [
            "model_not_found",
            "model not found",
            "unknown model",
            "no such model",
            "invalid model name",
            "invalid model id",
            "invalid_model",
            "access to model",
            "to access model",
            "deploymentnotfound",
            "deployment for this resource does not exist",
            "not a valid model",
        ];
        let invalid = self.0.split("invalid model").skip(1).any(|rest| {
            rest.trim().is_empty() || rest.starts_with([':', '.', ',']) || is_quoted(rest)
        });
        // PostgreSQL's words, where a table of models does not have it.
        let is_key = self.have(&["foreign key constraint"]) && self.have(&["model"]);
        self.have(&KNOWN) || invalid || is_key || self.sentences_on_models().any(is_over)
    }

    /// What follows on the word "model", up to the sentence's end. The name of a model may hold full stops.
    fn sentences_on_models(&self) -> impl Iterator<Item = &str> {
        let starts = self.0.match_indices("model").map(|(at, word)| &self.0[at + word.len()..]);
        starts.map(|rest| rest.split(". ").next().unwrap_or_default())
    }

    pub(super) fn ask_for_login(&self) -> bool {
        self.have_word(&[
            "log in",
            "login required",
            "logged in",
            "please login",
            "sign in",
            "signed in",
            "anonymous user",
            "authentication required",
        ])
    }

    /// Words that ask for a login whatever the status beside them.
    pub(super) fn ask_plainly_for_login(&self) -> bool {
        self.have_word(&[
            "please log in",
            "please login",
            "please sign in",
            "must be logged in",
            "must be signed in",
            "need to log in",
            "need to sign in",
            "have to log in",
            "have to sign in",
            "login required",
            "anonymous users cannot",
            "anonymous users can't",
            "anonymous users are not",
            "authentication required",
        ])
    }

    /// A server's words about whoever connects to it.
    pub(super) fn refuse_user(&self) -> bool {
        self.have_word(&["unauthorized", "unauthenticated", "not authenticated", "not authorized"])
    }
}

/// Whether a name in quotes follows.
fn is_quoted(rest: &str) -> bool {
    rest.trim_start().starts_with(['`', '\'', '"'])
}

/// Whether a model of which this is said cannot be had any more, or never could.
fn is_over(said: &str) -> bool {
    let gone = [
        "does not exist",
        "doesn't exist",
        "not found",
        "been deprecated",
        "is deprecated",
        "was deprecated",
        "shut down",
        "been retired",
        "is retired",
        "been removed",
        "been discontinued",
        "decommissioned",
        "no longer available",
        "no longer supported",
        "is not available",
        "is not supported",
        "is not enabled",
        "not have access",
    ];
    // A prompt that is not there is another matter, and so is a model that is back in a moment.
    let other = ["prompt", "temporarily", "currently", "right now", "at the moment", "try again"];
    let is_other = other.iter().any(|part| said.contains(part));
    let missing = gone.iter().filter_map(|part| said.find(part)).min();
    missing.is_some_and(|at| !is_other && !names_other(&said[..at]))
}

/// Whether the subject is something that has to do with models: the model's runner, a key for it.
fn names_other(subject: &str) -> bool {
    const OTHERS: &str = "conversation credential execution file function gateway host image job key \
                          message provider run runner secret server service session token worker";
    names_one_of(OTHERS, subject)
}

/// Whether one of these words, or several of it, stands in a text. A name with hyphens is one word.
fn names_one_of(words: &str, text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_one = |found: &str| {
        let single = found.strip_suffix('s').unwrap_or(found);
        words.split(' ').any(|word| word == single)
    };
    text.split(|c: char| !is_part(c)).any(is_one)
}
