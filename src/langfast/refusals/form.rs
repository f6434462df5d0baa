//! What is said where a run's form of JSON is refused, in whatever words, or in none: `json_schema` on
//! LangFast's wire is only inferred.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::PoisonError;

use serde_json::Value;

use super::{Fact, Refusals, Refused, Sent, quoted};
use crate::error::{Error, Failure, Step};

/// Words that a refusal of a form of JSON holds, in small letters.
const FORM_WORDS: [&str; 6] = [
    "response_format",
    "response format",
    "text.format",
    "json_schema",
    "json_object",
    "structured output",
];

/// The hash by which a form is known again; the same only within the process.
pub(super) fn hash(form: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    form.hash(&mut hasher);
    hasher.finish()
}

impl Sent {
    /// The name of the form of JSON that was asked for.
    fn form(&self) -> Option<&str> {
        let (_, form) = self.parameter("response_format")?;
        form.as_str().filter(|form| *form != "text")
    }

    /// "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
    /// "Invalid schema for response_format 'calls': In context=(), …", "prompt_meta.response_format:
    /// Expected string, received object". That a message has to speak of JSON is the client's to mend.
    pub(super) fn form_in(&self, words: &str) -> Option<Fact> {
        let form = self.form()?;
        let said = words.to_ascii_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
        if has(&["must contain the word"]) || !has(&FORM_WORDS) {
            return None;
        }
        if has(&["invalid schema", "invalid_json_schema"]) {
            return self.schema.map(Fact::Schema);
        }
        // Only the parameter is named.
        let is_bare = quoted(words).any(|word| word == "response_format") && !said.contains(form);
        let unknown =
            is_bare && has(&["unsupported parameter", "unknown parameter", "unrecognized"]);
        Some(match unknown {
            true => Fact::Parameter("response_format"),
            false => Fact::Word("response_format", form.to_owned()),
        })
    }

    /// The form of JSON that was asked for, where a run request with it was refused as wrong without
    /// anything being said of it.
    pub(super) fn guess(&self, error: &Error) -> Option<Fact> {
        let Error::Upstream { step: Step::StartRun, failure } = error else { return None };
        let Failure::Status { status: 400 | 406 | 415 | 422, .. } = failure else { return None };
        let form = self.form().filter(|_| error.meaning().is_none())?;
        Some(Fact::Word("response_format", form.to_owned()))
    }
}

impl Refusals {
    /// Forgets what was only guessed from the `first` error of a run that was given `sent`, if one without
    /// has failed the same way: that was not it.
    pub fn doubt(&self, model: &str, first: &Error, sent: &Sent, second: &Error) {
        let same = matches!(
            (first, second),
            (
                Error::Upstream { failure: Failure::Status { status: one, .. }, .. },
                Error::Upstream { failure: Failure::Status { status: other, .. }, .. },
            ) if one == other
        );
        let guess = sent.guess(first).filter(|_| same && sent.refused(first).is_empty());
        let mut by_model = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(Refused(known)), Some(guess)) = (by_model.get_mut(model), guess) {
            known.retain(|fact| *fact != guess);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(words: &str) -> Error {
        Error::upstream(Step::Run, Failure::Refused(words.to_owned()))
    }

    #[test]
    fn a_refused_form_of_json_is_told_from_a_refused_schema_and_from_any_form() {
        let format = json!({"type": "json_schema", "json_schema": {"name": "calls", "schema": {}}});
        let sent = Sent::of(&json!({"messages": [], "response_format": format}));
        let word = Fact::Word("response_format", "json_schema".to_owned());
        for (words, fact) in [
            (
                "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this \
                 model. Learn more about supported models at the Structured Outputs guide.",
                word.clone(),
            ),
            ("Invalid value: 'json_schema'. Supported values are: 'text'.", word.clone()),
            ("prompt_meta.response_format: Expected string, received object", word.clone()),
            (
                "response_format value as json_schema is enabled only for api versions 2024-08-01",
                word,
            ),
            (
                "Unsupported parameter: 'response_format' is not supported with this model.",
                Fact::Parameter("response_format"),
            ),
            (
                "Invalid schema for response_format 'calls': In context=(), 'required' is required to be \
                 supplied.",
                Fact::Schema(hash(&format)),
            ),
        ] {
            assert_eq!(sent.refused(&said(words)), [fact], "{words}");
        }
        let refusals = Refusals::default();
        let words = "Invalid schema for response_format 'calls'";
        assert!(refusals.learn("m", &said(words), &sent));
        let refused = refusals.of("m");
        assert!(!refused.allows_schema(&format) && refused.allows_schema(&json!({})));
        assert!(refused.allows_word("response_format", "json_schema"));
    }

    #[test]
    fn a_run_that_is_refused_as_wrong_without_a_word_may_be_for_its_form_until_that_helps_nothing()
    {
        let refused = |step, status| {
            let (code, message, retry_after) = (None, None, None);
            Error::upstream(step, Failure::Status { status, code, message, retry_after })
        };
        let form = Sent::of(&json!({"response_format": {"type": "json_schema"}}));
        let refusals = Refusals::default();
        let first = refused(Step::StartRun, 400);
        assert!(refusals.learn("m", &first, &form));
        let is_sent = || refusals.of("m").allows_word("response_format", "json_schema");
        assert!(!is_sent());
        refusals.doubt("m", &first, &form, &refused(Step::StartRun, 503));
        assert!(!is_sent(), "that was for another reason");
        refusals.doubt("m", &first, &form, &first);
        assert!(is_sent());
        for (error, sent) in [
            (refused(Step::StartRun, 400), Sent::of(&json!({"response_format": "text"}))),
            (refused(Step::CreatePrompt, 400), form.clone()),
            (refused(Step::StartRun, 401), form.clone()),
            (refused(Step::StartRun, 429), form.clone()),
            (refused(Step::StartRun, 500), form.clone()),
        ] {
            assert!(!refusals.learn("m", &error, &sent), "{error}");
        }
    }
}
