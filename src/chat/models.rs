//! models.json: LangFast's own model records, and what each model accepts.

pub mod import;
mod records;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use serde_json::{Map, Value};

use self::records::Record;
use crate::chat::Role;

/// The records that the binary carries, LangFast's as of October 2025.
pub const BUILT_IN: &str = include_str!("../../models.json");

/// One model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// LangFast's name for it, which runs are given.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Who makes it, as `owned_by`.
    pub provider: String,
    /// Unix time of its record.
    pub created: u64,
    /// The same as RFC 3339 has it.
    pub created_at: String,
    /// Dated names that mean it too.
    pub versions: Vec<String>,
    /// LangFast's `parameters`: what is absent is not accepted.
    parameters: Map<String, Value>,
}

impl Model {
    /// Whether a run of this model may carry `parameter`.
    pub fn accepts(&self, parameter: &str) -> bool {
        !matches!(self.parameters.get(parameter), None | Some(Value::Null | Value::Bool(false)))
    }

    /// Whether `parameter`'s list of values holds `value`.
    pub fn accepts_value(&self, parameter: &str, value: &str) -> bool {
        self.values(parameter).any(|listed| listed == value)
    }

    /// The values that `parameter` may take; empty when it is not accepted or takes any.
    pub fn values(&self, parameter: &str) -> impl Iterator<Item = &str> {
        let list = self.parameters.get(parameter).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    /// The most tokens an answer may have, if the record says so.
    pub fn max_completion_tokens(&self) -> Option<u64> {
        self.parameters.get("max_completion_tokens")?.get("max_value")?.as_u64()
    }

    /// The role that instructions go under; `None` when the model takes them only from the user.
    pub fn instruction_role(&self) -> Option<Role> {
        [Role::Developer, Role::System]
            .into_iter()
            .find(|role| self.accepts_value("message_types", role.name()))
    }
}

/// What a model accepts, as it is listed for people and for the page.
#[derive(Debug, Serialize)]
pub struct Accepted<'a> {
    /// LangFast's name for it.
    pub id: &'a str,
    /// The other names that mean it: dated versions, then aliases.
    pub names: Vec<&'a str>,
    /// Whether its text comes piece by piece.
    pub streams: bool,
    /// The most tokens of an answer.
    pub max_completion_tokens: Option<u64>,
    /// The parameters that take a number.
    pub numbers: Vec<&'static str>,
    /// The parameters that take a word, and the words.
    pub words: BTreeMap<&'static str, Vec<&'a str>>,
}

/// All models, by every name that means one.
#[derive(Debug)]
pub struct Models {
    list: Vec<Model>,
    by_name: HashMap<String, usize>,
    aliases: HashMap<String, usize>,
    /// What names may begin with, and a `*`; the longest first.
    patterns: Vec<(String, usize)>,
}

/// Why models cannot be used, in words.
#[derive(Debug, PartialEq, Eq)]
pub enum BadModels {
    /// The records: which one, and which of its fields.
    File(String),
    /// The aliases: which one.
    Aliases(String),
}

impl fmt::Display for BadModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (BadModels::File(why) | BadModels::Aliases(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for BadModels {}

impl Models {
    /// Reads a models.json and `asked=served` aliases. An asked one that ends in `*` means every name
    /// that is otherwise unknown and begins so.
    ///
    /// Records whose `status` is not `public` are left out: LangFast does not offer them.
    ///
    /// # Errors
    /// When the file is not a list of records, holds no model or one twice, or an alias names none or
    /// stands twice.
    pub fn parse(json: &str, aliases: &[String]) -> Result<Models, BadModels> {
        let records = records::read(json).map_err(BadModels::File)?;
        let public: Vec<Record> = records.into_iter().filter(Record::is_public).collect();
        if public.is_empty() {
            return Err(BadModels::File("there is no record of a public model in it".to_owned()));
        }
        let by_name = by_name(&public).map_err(BadModels::File)?;
        let list = public.into_iter().map(Model::from).collect();
        let mut models = Models { list, by_name, aliases: HashMap::new(), patterns: Vec::new() };
        for alias in aliases.iter().filter(|alias| !alias.trim().is_empty()) {
            models.add_alias(alias).map_err(BadModels::Aliases)?;
        }
        models.patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
        Ok(models)
    }

    fn add_alias(&mut self, alias: &str) -> Result<(), String> {
        let bad = |why: &str| format!("`{}`: {why}", alias.trim());
        let (asked, served) = alias.split_once('=').ok_or_else(|| bad("write ASKED=SERVED"))?;
        let (asked, served) = (asked.trim(), served.trim());
        let at = *self.by_name.get(served).ok_or_else(|| bad("no such model is served"))?;
        if asked.is_empty() {
            return Err(bad("write ASKED=SERVED"));
        }
        let twice = match asked.ends_with('*') {
            true => {
                let twice = self.patterns.iter().any(|(pattern, _)| pattern == asked);
                self.patterns.push((asked.to_owned(), at));
                twice
            }
            false => self.aliases.insert(asked.to_owned(), at).is_some(),
        };
        if twice { Err(bad(&format!("`{asked}` stands in the list twice"))) } else { Ok(()) }
    }

    /// The model that `name` means: an alias, a slug, a dated version, or else whatever the longest
    /// beginning of it that is an alias stands for.
    pub fn find(&self, name: &str) -> Option<&Model> {
        let named = self.aliases.get(name).or_else(|| self.by_name.get(name));
        let fits = |pattern: &str| name.starts_with(pattern.trim_end_matches('*'));
        let begun = || self.patterns.iter().find(|(pattern, _)| fits(pattern));
        let at = named.or_else(|| begun().map(|(_, at)| at))?;
        Some(&self.list[*at])
    }

    /// What each model accepts, in the file's order.
    pub fn accepted(&self) -> impl Iterator<Item = Accepted<'_>> {
        const NUMBERS: [&str; 4] =
            ["temperature", "top_p", "presence_penalty", "frequency_penalty"];
        const WORDS: [&str; 3] = ["reasoning_effort", "verbosity", "response_format"];
        self.list.iter().enumerate().map(|(at, model)| {
            let aliases = self.aliases.iter().filter(move |(_, of)| **of == at);
            let mut aliases: Vec<&str> = aliases.map(|(name, _)| name.as_str()).collect();
            aliases.sort_unstable();
            let patterns = self.patterns.iter().filter(|(_, of)| *of == at);
            aliases.extend(patterns.map(|(pattern, _)| pattern.as_str()));
            let words = WORDS.map(|name| (name, model.values(name).collect::<Vec<_>>()));
            Accepted {
                id: &model.slug,
                names: model.versions.iter().map(String::as_str).chain(aliases).collect(),
                streams: model.accepts("stream"),
                max_completion_tokens: model.max_completion_tokens(),
                numbers: NUMBERS.into_iter().filter(|name| model.accepts(name)).collect(),
                words: words.into_iter().filter(|(_, values)| !values.is_empty()).collect(),
            }
        })
    }

    /// All models in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Model> {
        self.list.iter()
    }
}

/// Which record each name means. A model's own name wins over another's version.
fn by_name(records: &[Record]) -> Result<HashMap<String, usize>, String> {
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut slugs: HashMap<&str, usize> = HashMap::new();
    for (at, record) in records.iter().enumerate() {
        if let Some(other) = slugs.insert(&record.slug, at) {
            let other = &records[other].place;
            return Err(format!(
                "{}: `slug` is that of {other} too; remove one of the two",
                record.place
            ));
        }
        for version in &record.versions {
            if let Some(other) = by_name.insert(version.clone(), at).filter(|other| *other != at) {
                let other = &records[other].place;
                return Err(format!(
                    "{}: `versions` has `{version}`, as {other} has; remove one of the two",
                    record.place
                ));
            }
        }
    }
    by_name.extend(slugs.into_iter().map(|(slug, at)| (slug.to_owned(), at)));
    Ok(by_name)
}

impl From<Record> for Model {
    fn from(record: Record) -> Model {
        let created_at = record.created_at.as_deref().unwrap_or_default();
        let created = unix_time(created_at);
        Model {
            name: record.name.unwrap_or_else(|| record.slug.clone()),
            slug: record.slug,
            provider: record.provider.unwrap_or_else(|| "langfast".to_owned()),
            created: created.unwrap_or(0),
            created_at: match created {
                Some(_) => format!("{}Z", &created_at[.."YYYY-MM-DDThh:mm:ss".len()]),
                None => "1970-01-01T00:00:00Z".to_owned(),
            },
            versions: record.versions,
            parameters: record.parameters,
        }
    }
}

/// Unix seconds of an RFC 3339 time; its zone is taken for UTC, as LangFast writes it.
fn unix_time(text: &str) -> Option<u64> {
    let without_zone = text.get(.."YYYY-MM-DDThh:mm:ss".len())?;
    let time = humantime::parse_rfc3339_weak(without_zone).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in(aliases: &[&str]) -> Result<Models, BadModels> {
        let aliases: Vec<String> = aliases.iter().map(|alias| alias.to_string()).collect();
        Models::parse(BUILT_IN, &aliases)
    }

    #[test]
    fn the_built_in_records_are_read() {
        let models = built_in(&[]).unwrap();
        assert_eq!(models.iter().count(), 17);
        let gpt5 = models.find("gpt-5").unwrap();
        assert!(!gpt5.accepts("temperature"));
        assert!(gpt5.accepts_value("reasoning_effort", "minimal"));
        assert_eq!(gpt5.max_completion_tokens(), Some(128_000));
        assert_eq!(gpt5.created, 1_754_672_525);
        assert_eq!(
            (gpt5.created_at.as_str(), gpt5.name.as_str()),
            ("2025-08-08T17:02:05Z", "GPT-5")
        );
    }

    #[test]
    fn instructions_go_under_the_role_that_the_model_takes() {
        let models = built_in(&[]).unwrap();
        let role = |name: &str| models.find(name).unwrap().instruction_role();
        assert_eq!(role("gpt-4o"), Some(Role::System));
        assert_eq!(role("o3"), Some(Role::Developer));
        assert_eq!(role("o1-mini"), None);
    }

    #[test]
    fn a_dated_version_and_an_alias_name_their_model() {
        let models = built_in(&["fast=gpt-4.1-nano", "*=gpt-5"]).unwrap();
        let slug = |name: &str| models.find(name).unwrap().slug.clone();
        assert_eq!(slug("gpt-4o-2024-08-06"), "gpt-4o");
        assert_eq!(slug("fast"), "gpt-4.1-nano");
        assert_eq!(slug("claude-3"), "gpt-5");
        assert!(built_in(&[]).unwrap().find("claude-3").is_none());
        assert!(
            built_in(&["fast=gpt-5"]).unwrap().find("faster").is_none(),
            "the whole name counts"
        );
    }

    #[test]
    fn times_become_unix_seconds() {
        for (time, seconds) in [
            ("1970-01-01T00:00:00", Some(0)),
            ("1999-12-31T23:59:59.5+00:00", Some(946_684_799)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2024-03-01T00:00:01Z", Some(1_709_251_201)),
            ("2025-01-31T10:20:30Z", Some(1_738_318_830)),
            ("1969-12-31T23:59:59Z", None),
            ("2024-00-01T00:00:00Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("yesterday", None),
        ] {
            assert_eq!(unix_time(time), seconds, "{time}");
        }
    }

    #[test]
    fn of_the_beginnings_of_a_name_the_longest_counts_and_only_if_the_name_is_unknown() {
        let models =
            built_in(&["*=gpt-4o", "claude-*=gpt-5", "claude-haiku-*=gpt-5-mini", "gpt-*=o3"])
                .unwrap();
        let slug = |name: &str| models.find(name).unwrap().slug.clone();
        assert_eq!(slug("claude-haiku-4-5-20251001"), "gpt-5-mini");
        assert_eq!(slug("claude-opus-4-8"), "gpt-5");
        assert_eq!(slug("claude"), "gpt-4o");
        assert_eq!(slug("gpt-4.1"), "gpt-4.1");
        assert_eq!(slug("gpt-9"), "o3");
        assert!(built_in(&["a*=gpt-4o"]).unwrap().find("b").is_none());
    }

    #[test]
    fn a_name_that_could_mean_two_models_is_refused() {
        for aliases in [["a*=gpt-4o", "a*=gpt-5"], ["a=gpt-4o", " a = gpt-4o"]] {
            let error = built_in(&aliases).unwrap_err();
            assert!(matches!(&error, BadModels::Aliases(why) if why.contains("twice")), "{error}");
        }
        let twice = "[{\"slug\": \"a\"},\n{\"slug\": \"b\"},\n{\"slug\": \"a\"}]";
        assert_eq!(
            Models::parse(twice, &[]).unwrap_err().to_string(),
            "record 3 (line 3, `a`): `slug` is that of record 1 (line 1, `a`) too; remove one of the two"
        );
        let version = "[{\"slug\": \"a\", \"versions\": [\"v\", \"v\"]},
                        {\"slug\": \"b\", \"versions\": [\"v\"]}]";
        let error = Models::parse(version, &[]).unwrap_err().to_string();
        assert!(error.starts_with("record 2 (line 2, `b`): `versions` has `v`"), "{error}");
        // What LangFast does not offer is in nobody's way.
        let hidden = "[{\"slug\": \"a\"}, {\"slug\": \"a\", \"status\": \"hidden\"}]";
        assert!(Models::parse(hidden, &[]).is_ok());
    }

    #[test]
    fn an_alias_for_nothing_is_refused_with_its_name() {
        for alias in ["fast", "=gpt-5", "fast=gpt-9"] {
            assert!(built_in(&[alias]).unwrap_err().to_string().contains(alias));
        }
    }

    #[test]
    fn a_models_file_that_is_none_is_refused() {
        for json in
            ["", "{}", "[]", "[{\"name\":\"x\"}]", "[{\"slug\":\"x\",\"status\":\"hidden\"}]"]
        {
            assert!(Models::parse(json, &[]).is_err(), "{json}");
        }
    }
}
