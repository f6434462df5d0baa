//! What models have refused in a run's `prompt_meta`: read from their words, remembered while the process
//! lives, and left out of later runs.
//!
//! The words are OpenAI's, which come through LangFast as they are (known of one; inferred of the others).

mod form;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::chat::models::Model;
use crate::chat::{Role, Sampling};
use crate::error::meaning::Meaning;
use crate::error::{Error, clean};
use form::hash;

/// Most models of which something is remembered. Whoever asks for more names makes it forget.
const MOST_MODELS: usize = 256;
/// Most facts about one model: all parameters, and some values of those that take words.
const MOST_FACTS: usize = 32;

/// Longest value that is remembered, in bytes: no model takes a longer word, and clients may send megabytes.
const LONGEST_WORD: usize = 64;

/// What a run may do without, so that a model's refusal of it can be got round. `messages` and `model` are
/// not among them; a `response_format` can be asked for in words.
const DISPENSABLE: [&str; 9] = [
    "stream",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "reasoning_effort",
    "verbosity",
    "response_format",
];

/// Other names under which a model speaks of a parameter: OpenAI's older API and its Responses API, which
/// LangFast may use.
const OTHER_NAMES: [(&str, &str); 8] = [
    ("max_tokens", "max_completion_tokens"),
    ("max_output_tokens", "max_completion_tokens"),
    ("reasoning.effort", "reasoning_effort"),
    ("reasoning", "reasoning_effort"),
    ("text.verbosity", "verbosity"),
    ("text.format", "response_format"),
    ("response_format.type", "response_format"),
    ("text.format.type", "response_format"),
];

/// Something that a model refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fact {
    /// A parameter, whatever its value.
    Parameter(&'static str),
    /// A value of a parameter that takes words.
    Word(&'static str, String),
    /// More tokens of an answer than this.
    MoreTokens(u64),
    /// Instructions under this role.
    Role(Role),
    /// The `json_schema` of this hash.
    Schema(u64),
}

/// What one model refuses, as far as it has said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused(Vec<Fact>);

impl Refused {
    /// Whether a run may carry `parameter`.
    pub fn allows(&self, parameter: &'static str) -> bool {
        !self.0.contains(&Fact::Parameter(parameter))
    }

    /// Whether a run may carry this value of `parameter`.
    pub fn allows_word(&self, parameter: &'static str, word: &str) -> bool {
        let is_it =
            |fact: &Fact| matches!(fact, Fact::Word(of, w) if *of == parameter && w == word);
        self.allows(parameter) && !self.0.iter().any(is_it)
    }

    /// Whether a run may carry this `response_format` of a schema.
    pub fn allows_schema(&self, format: &Value) -> bool {
        !self.0.contains(&Fact::Schema(hash(format)))
    }

    /// The most tokens that the model gives an answer, if it has named a limit.
    pub fn most_tokens(&self) -> Option<u64> {
        let limits = self.0.iter().filter_map(|fact| match fact {
            Fact::MoreTokens(limit) => Some(*limit),
            _ => None,
        });
        limits.min()
    }

    /// The role that instructions go under: one that the model's record lists, or the other one if the
    /// model has refused that; `None` if it takes them only from the user.
    pub fn instruction_role(&self, model: &Model) -> Option<Role> {
        let listed = model.instruction_role()?;
        let other = if listed == Role::System { Role::Developer } else { Role::System };
        [listed, other].into_iter().find(|role| !self.0.contains(&Fact::Role(*role)))
    }
}

/// The parts of a run's `prompt_meta` that a model can refuse and a run can do without.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sent {
    parameters: Vec<(&'static str, Value)>,
    /// The role of its instructions, if it has any under a role of their own.
    role: Option<Role>,
    /// The hash of the schema that its `response_format` brings.
    schema: Option<u64>,
}

impl Sent {
    /// Notes the parts of this `prompt_meta` that a run can do without.
    pub fn of(prompt_meta: &Value) -> Sent {
        let value = |name: &&'static str| Some((*name, prompt_meta.get(*name)?.clone()));
        let parameters = DISPENSABLE.iter().filter_map(value);
        let form = prompt_meta.get("response_format").filter(|form| form.is_object());
        // A form that is an object goes by its type.
        let plain = |(name, value): (&'static str, Value)| match value.get("type") {
            Some(kind) => (name, kind.clone()),
            None => (name, value),
        };
        let messages = prompt_meta["messages"].as_array().into_iter().flatten();
        let role = |message: &Value| {
            [Role::System, Role::Developer].into_iter().find(|role| message["role"] == role.name())
        };
        Sent {
            parameters: parameters.map(plain).collect(),
            role: messages.filter_map(role).next(),
            schema: form.map(hash),
        }
    }

    /// The settings among them, in neutral words.
    pub fn sampling(&self) -> Sampling {
        let value = |name| self.parameters.iter().find(|(sent, _)| *sent == name).map(|(_, v)| v);
        let number = |name| value(name).and_then(Value::as_f64);
        let word = |name| value(name).and_then(Value::as_str).map(str::to_owned);
        Sampling {
            max_completion_tokens: value("max_completion_tokens").and_then(Value::as_u64),
            temperature: number("temperature"),
            top_p: number("top_p"),
            presence_penalty: number("presence_penalty"),
            frequency_penalty: number("frequency_penalty"),
            reasoning_effort: word("reasoning_effort"),
            verbosity: word("verbosity"),
            response_format: None,
        }
    }

    /// The parameter that a model calls `name`, with its value, if it was sent.
    fn parameter(&self, name: &str) -> Option<&(&'static str, Value)> {
        let other = OTHER_NAMES.iter().find(|(other, _)| *other == name);
        let name = other.map_or(name, |(_, own)| own);
        self.parameters.iter().find(|(sent, _)| *sent == name)
    }

    /// Reads from an error's words which of these parts the model has refused. Returns nothing for any other
    /// error, and where leaving something out would not help.
    fn refused(&self, error: &Error) -> Vec<Fact> {
        let words = error.words().unwrap_or_default();
        let facts = match error.meaning() {
            Some(Meaning::Parameter) => self.parameters_in(words),
            Some(Meaning::Value) => self.value_in(words).into_iter().collect(),
            Some(_) => return Vec::new(),
            None => Vec::new(),
        };
        let is_of_form = |fact: &Fact| *fact == Fact::Parameter("response_format");
        // What is said of one form need not be meant of all.
        match facts.is_empty() || facts.iter().any(is_of_form) {
            true => self.form_in(words).map_or(facts, |fact| vec![fact]),
            false => facts,
        }
    }

    /// "Unsupported parameter: 'temperature' is not supported with this model.", "Unknown parameter:
    /// 'verbosity'.", "Unrecognized request arguments supplied: a, b", "temperature: Extra inputs …".
    fn parameters_in(&self, words: &str) -> Vec<Fact> {
        let fact = |name: &str| self.parameter(name).map(|(name, _)| Fact::Parameter(name));
        if let Some((_, list)) = words.split_once("supplied:") {
            return names(list).filter_map(fact).collect();
        }
        let first = quoted(words).next().or_else(|| names(words).find(|name| fact(name).is_some()));
        first.and_then(|name| fact(name).or_else(|| self.role_in(name))).into_iter().collect()
    }

    /// "Unsupported value: 'temperature' does not support 0.2 with this model.", "Invalid value: 'xhigh'.
    /// Supported values are: …", "max_tokens is too large: 9. This model supports at most 8 completion
    /// tokens, …".
    fn value_in(&self, words: &str) -> Option<Fact> {
        if let Some((_, limit)) = words.split_once("supports at most ") {
            let (_, sent) = self.parameter("max_completion_tokens")?;
            let limit = names(limit).next()?.parse().ok()?;
            return Some(match sent.as_u64().is_some_and(|sent| sent > limit) {
                true => Fact::MoreTokens(limit),
                false => Fact::Parameter("max_completion_tokens"),
            });
        }
        let named = quoted(words).next()?;
        match self.parameter(named) {
            Some((name, Value::String(word))) => {
                (word.len() <= LONGEST_WORD).then(|| Fact::Word(name, word.clone()))
            }
            Some((name, _)) => Some(Fact::Parameter(name)),
            None => self.role_in(named).or_else(|| {
                // Only the value is named.
                let of = self.parameters.iter().find(|(_, value)| value == named);
                of.map(|(name, _)| Fact::Word(name, named.to_owned()))
            }),
        }
    }

    /// Instructions under a role that the model does not take: `messages[0].role`, or the role itself.
    fn role_in(&self, named: &str) -> Option<Fact> {
        let is_role = named.starts_with("messages[") && named.ends_with("].role");
        self.role.filter(|role| is_role || named == role.name()).map(Fact::Role)
    }
}

/// The texts in quotes.
fn quoted(words: &str) -> impl Iterator<Item = &str> {
    words.split(['\'', '`', '"']).skip(1).step_by(2)
}

/// The words that may be names of parameters, or numbers.
fn names(words: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
    let words = words.split(move |c: char| !is_part(c));
    words.map(|word| word.trim_end_matches('.')).filter(|word| !word.is_empty())
}

/// What all models have refused since the process began.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, Refused>>);

impl Refusals {
    /// What this model has refused so far.
    pub fn of(&self, model: &str) -> Refused {
        let by_model = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by_model.get(model).cloned().unwrap_or_default()
    }

    /// Remembers what the error says that the model has refused of what was sent. Returns whether leaving
    /// that out may help.
    pub fn learn(&self, model: &str, error: &Error, sent: &Sent) -> bool {
        let mut facts = sent.refused(error);
        if facts.is_empty() {
            facts.extend(sent.guess(error));
        }
        if facts.is_empty() {
            return false;
        }
        let mut by_model = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if by_model.len() >= MOST_MODELS && !by_model.contains_key(model) {
            by_model.clear();
        }
        let Refused(known) = by_model.entry(model.to_owned()).or_default();
        for fact in facts.into_iter().filter(|fact| !known.contains(fact)).collect::<Vec<_>>() {
            // A client may have put its key in the place of a name.
            log::info!("{} refuses {fact}: {} from now on", clean(model), fact.instead());
            if known.len() >= MOST_FACTS {
                known.clear();
            }
            known.push(fact);
        }
        true
    }
}

/// For the log: names no value that a client has sent.
impl Fact {
    /// Returns, for the log, how later runs avoid the refusal.
    fn instead(&self) -> &'static str {
        match self {
            Fact::Parameter(_) | Fact::Word(..) => "it is left out",
            Fact::MoreTokens(_) => "no more are asked for",
            Fact::Role(_) => "instructions go under another",
            Fact::Schema(_) => "it is put in words",
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Parameter(name) => f.write_str(name),
            Fact::Word(name, _) => write!(f, "a value of {name}"),
            Fact::MoreTokens(limit) => write!(f, "more max_completion_tokens than {limit}"),
            Fact::Role(role) => write!(f, "the role {}", role.name()),
            Fact::Schema(_) => f.write_str("a json_schema"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::models::{BUILT_IN, Models, Unknown};
    use crate::error::{Failure, Step};
    use proptest::prelude::*;
    use serde_json::json;

    fn everything() -> Sent {
        Sent::of(&json!({
            "model": "m",
            "messages": [{"role": "developer", "content": "Be brief."}],
            "stream": true,
            "max_completion_tokens": 100_000,
            "temperature": 0.2,
            "top_p": 0.5,
            "presence_penalty": 1,
            "frequency_penalty": 1,
            "reasoning_effort": "xhigh",
            "verbosity": "low",
            "response_format": "text",
        }))
    }

    fn said(words: &str) -> Error {
        Error::upstream(Step::Run, Failure::Refused(words.to_owned()))
    }

    fn facts(sent: &Sent, words: &str) -> Vec<Fact> {
        sent.refused(&said(words))
    }

    #[test]
    fn what_is_refused_is_read_in_all_forms() {
        let parameter = Fact::Parameter;
        let word = |name, word: &str| Fact::Word(name, word.to_owned());
        for (words, fact) in [
            (
                "Unsupported parameter: 'temperature' is not supported with this model.",
                parameter("temperature"),
            ),
            ("400 'top_p' is not supported with this model.", parameter("top_p")),
            (
                "Unsupported value: 'temperature' does not support 0.2 with this model. Only the \
                 default (1) value is supported.",
                parameter("temperature"),
            ),
            (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
                 'max_completion_tokens' instead.",
                parameter("max_completion_tokens"),
            ),
            ("Unknown parameter: 'verbosity'.", parameter("verbosity")),
            ("Unknown parameter: 'text.verbosity'.", parameter("verbosity")),
            ("Unsupported parameter: 'reasoning.effort'", parameter("reasoning_effort")),
            (
                "Unrecognized request argument supplied: reasoning_effort",
                parameter("reasoning_effort"),
            ),
            ("temperature: Extra inputs are not permitted", parameter("temperature")),
            ("`temperature` is deprecated for this model.", parameter("temperature")),
            (
                "Unsupported value: 'stream' does not support true with this model. Supported values \
                 are: false.",
                parameter("stream"),
            ),
            ("Unknown parameter: 'response_format'.", parameter("response_format")),
            (
                "Invalid value: 'xhigh'. Supported values are: 'low', 'medium', and 'high'.",
                word("reasoning_effort", "xhigh"),
            ),
            (
                "Unsupported value: 'verbosity' does not support 'low' with this model. Supported \
                 values are: 'medium'.",
                word("verbosity", "low"),
            ),
            (
                "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, \
                 whereas you provided 100000.",
                Fact::MoreTokens(16_384),
            ),
            (
                "Unsupported value: 'messages[0].role' does not support 'developer' with this model.",
                Fact::Role(Role::Developer),
            ),
            (
                "'messages[0].role' does not support 'developer' with this model",
                Fact::Role(Role::Developer),
            ),
            (
                "Invalid value: 'developer'. Supported values are: 'system', 'assistant', 'user'.",
                Fact::Role(Role::Developer),
            ),
        ] {
            assert_eq!(facts(&everything(), words), [fact], "{words}");
        }
        let several =
            facts(&everything(), "Unrecognized request arguments supplied: top_p, verbosity");
        assert_eq!(several, [parameter("top_p"), parameter("verbosity")]);
    }

    #[test]
    fn what_was_not_sent_or_cannot_be_left_out_is_not_read() {
        let json = json!({"messages": [], "response_format": {"type": "json_object"}});
        let form = Sent::of(&json);
        for words in [
            "Unsupported parameter: 'temperature' is not supported with this model.",
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            "Unsupported parameter: 'messages'",
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type \
             'json_object'.",
            "The server had an error",
        ] {
            assert_eq!(facts(&form, words), [], "{words}");
        }
        for words in [
            "Unsupported parameter: 'tools' is not supported with this model.",
            "Unsupported value: 'model' does not support 'x' with this model.",
            "Invalid value: 'input_image'. Supported values are: 'text'.",
            "the temperature of the server is too high",
            "The model `stream` does not exist",
            "",
        ] {
            assert_eq!(facts(&everything(), words), [], "{words}");
        }
    }

    #[test]
    fn a_fact_counts_for_its_model_alone() {
        let refusals = Refusals::default();
        let words = said("Unsupported parameter: 'temperature' is not supported with this model.");
        assert!(refusals.learn("one", &words, &everything()));
        assert!(
            refusals.learn("one", &words, &everything()),
            "who sent it meanwhile may try again"
        );
        assert!(!refusals.learn("one", &words, &Sent::default()), "it does not help");
        assert!(!refusals.of("one").allows("temperature") && refusals.of("one").allows("top_p"));
        assert_eq!(refusals.of("one").0.len(), 1);
        assert_eq!(refusals.of("two"), Refused::default());
    }

    #[test]
    fn a_refused_word_leaves_the_others() {
        let refusals = Refusals::default();
        let words = said("Invalid value: 'xhigh'. Supported values are: 'low'.");
        assert!(refusals.learn("m", &words, &everything()));
        let refused = refusals.of("m");
        assert!(!refused.allows_word("reasoning_effort", "xhigh"));
        assert!(
            refused.allows_word("reasoning_effort", "low") && refused.allows("reasoning_effort")
        );
    }

    #[test]
    fn however_many_models_and_values_are_refused_memory_is_bounded() {
        let refusals = Refusals::default();
        let words = said("Unknown parameter: 'stream'.");
        for model in 0..1_000 {
            refusals.learn(&model.to_string(), &words, &everything());
            assert!(refusals.0.lock().unwrap().len() <= MOST_MODELS);
        }
        let long = Sent::of(&json!({"reasoning_effort": "x".repeat(LONGEST_WORD + 1)}));
        let of_value =
            said("Unsupported value: 'reasoning_effort' does not support 'x…' with this model");
        assert!(!refusals.learn("m", &of_value, &long), "nobody means such a word");
        for effort in 0..1_000 {
            let sent = Sent::of(&json!({"reasoning_effort": effort.to_string()}));
            let words = format!(
                "Unsupported value: 'reasoning_effort' does not support '{effort}' with this model"
            );
            assert!(refusals.learn("m", &said(&words), &sent));
            let refused = refusals.of("m");
            assert!(refused.0.len() <= MOST_FACTS);
            assert!(
                !refused.allows_word("reasoning_effort", &effort.to_string()),
                "the last counts"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_a_model_says_only_what_was_sent_is_left_out(
            words in "(Unsupported (value|parameter)|Unknown parameter|Invalid value): ['a-z_.\\[\\]0-9 ]{0,60}",
        ) {
            let sent = Sent::of(&json!({"top_p": 0.5}));
            let left_out = facts(&sent, &words);
            prop_assert!(left_out.iter().all(|fact| *fact == Fact::Parameter("top_p")), "{left_out:?}");
        }
    }

    #[test]
    fn instructions_go_under_the_other_role_and_then_under_none() {
        let models = Models::parse(BUILT_IN, &[], Unknown::Refuse).unwrap();
        let model = |name| models.find(name).unwrap();
        let of = |roles: &[Role]| Refused(roles.iter().map(|role| Fact::Role(*role)).collect());
        let (system, developer) = (Role::System, Role::Developer);
        for (name, own, other) in [("gpt-4o", system, developer), ("o3", developer, system)] {
            assert_eq!(of(&[]).instruction_role(model(name)), Some(own));
            assert_eq!(of(&[own]).instruction_role(model(name)), Some(other));
            assert_eq!(of(&[other]).instruction_role(model(name)), Some(own));
            assert_eq!(of(&[own, other]).instruction_role(model(name)), None);
        }
        assert_eq!(of(&[]).instruction_role(model("o1-mini")), None);
    }
}
