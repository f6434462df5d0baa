//! Models that the list does not hold: what is assumed of them, by the nearest record.

use std::cmp::Reverse;

use serde_json::{Map, Value, json};

use super::{EPOCH, Model, Source, UNKNOWN_PROVIDER};

/// Longest name that is tried, in bytes. OpenAI's and OpenRouter's names have up to 60.
pub const LONGEST_NAME: usize = 128;

/// True if `name` can be a model's: short, of letters, digits and ASCII punctuation. Such a name can stand in a
/// log and in a message as it is.
pub fn is_name(name: &str) -> bool {
    let may_be_in_it = |c: char| c.is_alphanumeric() || c.is_ascii_punctuation();
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(may_be_in_it)
}

/// Returns the model that LangFast is asked for by the name `slug` itself. It is assumed to be like the nearest
/// of the `listed` ones, or, if none is of its family, to take only what every model takes.
///
/// The limits and words in another model's record are not known to be this one's, so they bind nothing
/// ([`Model::accepts_value`], [`Model::max_completion_tokens`]): a request that is wrong about them gets the
/// model's own error, and one that is right is not bent.
pub fn of<'a>(slug: &str, listed: impl Iterator<Item = &'a Model>, is_set: bool) -> Model {
    let nearest = nearest(slug, listed);
    Model {
        slug: slug.to_owned(),
        name: slug.to_owned(),
        // Models of a family are of one maker.
        provider: nearest.map_or(UNKNOWN_PROVIDER, |model| &model.provider).to_owned(),
        created: 0,
        created_at: EPOCH.to_owned(),
        versions: Vec::new(),
        parameters: nearest.map_or_else(least, |model| model.parameters.clone()),
        source: Source::Guess { like: nearest.map(|model| model.slug.clone()), is_set },
    }
}

/// Returns the parameters that every model takes. A limit of tokens is `{}`, which any value fits.
fn least() -> Map<String, Value> {
    let least = json!({
        "message_types": ["system", "user", "assistant"],
        "stream": true,
        "max_completion_tokens": {},
    });
    if let Value::Object(parameters) = least { parameters } else { Map::new() }
}

/// How unlike a record and a name are; the least is the nearest. Compared in this order: whether the record has
/// a word that the name lacks, the differences of the major and the minor version, the number of common words
/// (more are nearer), and the number of further words in the record.
type Distance = (bool, u32, u32, Reverse<usize>, usize);

/// A name taken apart: `gpt-5.6-sol` is of the family `gpt`, in version 5.6, as variant `sol`.
#[derive(Debug, PartialEq)]
struct Shape {
    family: String,
    version: Option<(u32, u32)>,
    variant: Vec<String>,
}

impl Shape {
    /// Takes a name apart. What stands before a slash is a maker's or a host's name, and tells no family.
    fn of(name: &str) -> Shape {
        let name = name.rsplit('/').next().unwrap_or_default().to_lowercase();
        // ChatGPT's models are GPT models by another name.
        let name =
            name.strip_prefix("chat").filter(|rest| rest.starts_with("gpt")).unwrap_or(&name);
        let (family, rest) = split_at_first(name, |c| !c.is_ascii_alphabetic());
        let (digits, rest_of_name) = split_at_first(rest.trim_start_matches(['-', '_']), |c| {
            !c.is_ascii_digit() && c != '.'
        });
        let (version, rest) = match version(digits) {
            Some(version) => (Some(version), rest_of_name),
            None => (None, rest),
        };
        let words = rest.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        Shape { family: family.to_owned(), version, variant: words.map(str::to_owned).collect() }
    }

    /// Returns how far `record` is from this name; `None` if it is of another family.
    ///
    /// A record whose name, but for its version, is a beginning of this one comes before all others, so that
    /// `gpt-6-turbo` is like gpt-5 and not like gpt-4-turbo. Then the nearest version counts, then how many
    /// words of the variant both have.
    fn distance(&self, record: &Shape) -> Option<Distance> {
        if self.family.is_empty() || self.family != record.family {
            return None;
        }
        let ((major, minor), (its_major, its_minor)) = match (self.version, record.version) {
            (None, None) => ((0, 0), (0, 0)),
            (Some(version), Some(its)) => (version, its),
            // `gpt-oss-120b` has more in common with its name than with gpt-5.
            _ => return None,
        };
        let pairs = self.variant.iter().zip(&record.variant);
        let common = pairs.take_while(|(one, other)| one == other).count();
        let surplus = record.variant.len() - common;
        Some((
            surplus > 0,
            major.abs_diff(its_major),
            minor.abs_diff(its_minor),
            Reverse(common),
            surplus,
        ))
    }
}

/// Splits a text before the first character for which `is_end` holds.
fn split_at_first(text: &str, is_end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

/// Reads a version: `5.6` as 5 and 6, `5` as 5 and 0.
fn version(digits: &str) -> Option<(u32, u32)> {
    let mut numbers = digits.split('.');
    let major = numbers.next()?.parse().ok()?;
    Some((major, numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
}

/// Returns the model whose name is nearest to `name`; `None` if none is of its family.
fn nearest<'a>(name: &str, listed: impl Iterator<Item = &'a Model>) -> Option<&'a Model> {
    let asked = Shape::of(name);
    let distances =
        listed.filter_map(|model| Some((asked.distance(&Shape::of(&model.slug))?, model)));
    Some(distances.min_by(|(one, _), (other, _)| one.cmp(other))?.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;
    use crate::chat::models::{BUILT_IN, Models, Unknown};

    /// The record that stands in for `name`.
    fn like(json: &str, name: &str) -> Option<String> {
        let models = Models::parse(json, &[], Unknown::Try).unwrap();
        match &models.serve(name).unwrap().source {
            Source::Guess { like, .. } => like.clone(),
            Source::Record => panic!("{name} is listed"),
        }
    }

    #[test]
    fn the_nearest_record_is_of_the_same_family_and_has_the_longest_common_beginning() {
        for (name, expected) in [
            ("gpt-5.6-sol", "gpt-5"),
            ("gpt-6-luna", "gpt-5"),
            ("gpt-6-luna-2026-10-01", "gpt-5"),
            ("gpt-6.1-terra", "gpt-5"),
            ("GPT-7", "gpt-5"),
            ("gpt-6-mini", "gpt-5-mini"),
            ("gpt-5.4-nano-2026-03-17", "gpt-5-nano"),
            ("gpt-6-turbo", "gpt-5"),
            ("gpt-7-preview", "gpt-5"),
            ("gpt-5o", "gpt-5"),
            ("gpt-5-2026-01-01", "gpt-5"),
            ("gpt-4.2", "gpt-4.1"),
            ("gpt-4.2-mini", "gpt-4.1-mini"),
            ("gpt-4.5", "gpt-4.1"),
            ("gpt-4o-2025-03-27", "gpt-4o"),
            ("gpt-4o-search-preview", "gpt-4o"),
            ("gpt-4o-mini-audio", "gpt-4o-mini"),
            ("chatgpt-4o-latest", "gpt-4o"),
            ("gpt-4-32k", "gpt-4"),
            ("gpt-4-turbo-preview", "gpt-4-turbo"),
            ("gpt-3.5-turbo-16k", "gpt-3.5-turbo"),
            ("gpt-3", "gpt-4"),
            ("o9", "o3"),
            ("o3-pro", "o3"),
            ("o4", "o3"),
            ("o9-mini", "o4-mini"),
            ("o1-mini-2030-01-01", "o1-mini"),
            ("openai/gpt-5.6-sol", "gpt-5"),
            ("openrouter/openai/o9", "o3"),
        ] {
            assert_eq!(like(BUILT_IN, name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_name_of_no_family_that_is_listed_is_like_no_record() {
        for name in [
            "claude-opus-4-8",
            "anthropic/claude-sonnet-5-5",
            "gemini-3.8-flash",
            "grok-4.5",
            "llama",
            "meta-llama/Llama-3.3-70B-Instruct",
            "gpt-oss-120b",
            "gpt",
            "chat-latest",
            "olmo-2",
            "omni",
            "4o",
            "deepseek-r1",
            "gpt-99999999999999999999",
            "é",
            "/",
            "openai/",
        ] {
            assert_eq!(like(BUILT_IN, name), None, "{name}");
        }
    }

    #[test]
    fn a_list_of_other_makers_stands_in_for_their_names() {
        let list = r#"[{"slug": "gemini-3.8-flash"}, {"slug": "claude-sonnet-5-5"},
                       {"slug": "gpt-6-luna"}, {"slug": "gpt-6.1-sol"}]"#;
        for (name, expected) in [
            ("gemini-4-pro", "gemini-3.8-flash"),
            ("claude-opus-6", "claude-sonnet-5-5"),
            ("gpt-6-sol", "gpt-6.1-sol"),
            ("gpt-7-luna", "gpt-6-luna"),
            ("gpt-6.1-terra", "gpt-6.1-sol"),
        ] {
            assert_eq!(like(list, name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn what_stands_in_binds_by_no_limit_and_no_word_of_another_model() {
        let models = Models::parse(BUILT_IN, &[], Unknown::Try).unwrap();
        let luna = models.serve("gpt-6-luna").unwrap();
        assert_eq!(luna.slug, "gpt-6-luna");
        assert_eq!((luna.max_completion_tokens(), luna.created), (None, 0));
        assert_eq!(luna.instruction_role(), Some(Role::Developer));
        assert!(!luna.accepts("temperature") && luna.accepts("max_completion_tokens"));
        for effort in ["none", "high", "xhigh", "max"] {
            assert!(luna.accepts_value("reasoning_effort", effort), "{effort}");
        }
        let least = models.serve("llama").unwrap();
        assert_eq!(least.instruction_role(), Some(Role::System));
        assert!(least.accepts("stream") && least.accepts("max_completion_tokens"));
        assert!(!least.accepts("temperature") && !least.accepts_value("verbosity", "low"));
        for model in ["llama", "gpt-4-turbo-preview", "o1-mini-2030-01-01"] {
            let model = models.serve(model).unwrap();
            assert!(model.accepts_value("response_format", "json_schema"), "{}", model.slug);
            assert!(!model.lists("response_format", "json_schema"), "{}", model.slug);
        }
        assert!(luna.lists("response_format", "json_schema"));
    }

    #[test]
    fn a_name_is_short_and_can_be_shown() {
        for name in ["gpt-6", "a/b:c@d[1m]", "ünknown", "gpt-9\"<é>", &"x".repeat(LONGEST_NAME)] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            " ",
            "gpt 6",
            "a\nb",
            "a\u{0}",
            "a\u{202e}b",
            "a\u{2028}",
            &"x".repeat(LONGEST_NAME + 1),
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
