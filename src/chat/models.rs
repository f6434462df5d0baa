//! The models: LangFast's own records of them (models.json), what each accepts, and what a name means.
//!
//! - `records`: reads a models.json
//! - [`import`]: makes one of what a person has copied out of a browser
//! - `stand_in`: what is assumed of a model that the list does not hold
//! - [`shutdowns`]: when OpenAI shuts models down
//! - `today`: what the list says on a day

pub mod import;
mod records;
pub mod shutdowns;
mod stand_in;
mod today;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value};

pub use self::today::{Accepted, Listed, Warning};

use self::records::Record;
use self::shutdowns::Shutdown;
use crate::chat::Role;
use crate::error::{Error, clean};

/// The records that the binary carries, LangFast's as of October 2025.
pub const BUILT_IN: &str = include_str!("../../models.json");

/// The metrics' label of all models that only clients have named, since they can name any number.
pub const UNLISTED: &str = "other";

/// Most names of models that are not listed of which the log tells.
const MOST_TOLD: usize = 100;

/// The `owned_by` of a model whose maker is not known.
const UNKNOWN_PROVIDER: &str = "langfast";
/// The `created_at` of a model whose time is not known, as Anthropic's API has it.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// What becomes of a request for a model that is neither listed nor an alias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// LangFast is asked for it by that name.
    #[default]
    Try,
    /// The request is refused.
    Refuse,
}

/// One model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// LangFast's name for it, which runs are given.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Who makes it, as `owned_by`.
    pub provider: String,
    /// Unix time of its record; 0 if it has none.
    pub created: u64,
    /// The time of its record in RFC 3339; that of Unix time 0 if it has none.
    pub created_at: String,
    /// Dated names that mean the model too, such as `gpt-4o-2024-08-06`.
    pub versions: Vec<String>,
    /// The `parameters` of LangFast's record: what is absent is not accepted.
    parameters: Map<String, Value>,
    source: Source,
}

/// The source of what is known of a model.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    /// LangFast's record of it.
    Record,
    /// The record of the nearest model that is listed, which it is assumed to be like.
    Guess {
        /// The slug of that model; `None` if none is of its family.
        like: Option<String>,
        /// True if the operator has set its name, as an alias; false if only a client has named it.
        is_set: bool,
    },
}

impl Model {
    /// True if a run of this model may carry `parameter`.
    pub fn accepts(&self, parameter: &str) -> bool {
        !matches!(self.parameters.get(parameter), None | Some(Value::Null | Value::Bool(false)))
    }

    /// True if a run of this model may carry `parameter` with this value when a request asks for it.
    ///
    /// The values of a model without a record are not known: any is passed on, and the model itself may refuse
    /// it. `response_format` is passed on even where the parameter is not known: without it the answer would
    /// silently have another form than the client reads, and a refusal of ours would rest on a guess.
    pub fn accepts_value(&self, parameter: &str, value: &str) -> bool {
        let is_guess = matches!(self.source, Source::Guess { .. });
        let may_be = is_guess && (self.accepts(parameter) || parameter == "response_format");
        may_be || self.lists(parameter, value)
    }

    /// True if the list of values of `parameter` holds `value`, which is enough to send it unasked.
    pub fn lists(&self, parameter: &str, value: &str) -> bool {
        self.values(parameter).any(|listed| listed == value)
    }

    /// Returns the values that `parameter` may take; none if it is not accepted, or takes any.
    pub fn values(&self, parameter: &str) -> impl Iterator<Item = &str> {
        let list = self.parameters.get(parameter).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    /// Returns the most tokens that an answer may have; `None` if the model's own record does not say.
    pub fn max_completion_tokens(&self) -> Option<u64> {
        match self.source {
            Source::Record => {
                self.parameters.get("max_completion_tokens")?.get("max_value")?.as_u64()
            }
            Source::Guess { .. } => None,
        }
    }

    /// Returns the role that instructions go under; `None` if the model takes them only from the user.
    pub fn instruction_role(&self) -> Option<Role> {
        [Role::Developer, Role::System]
            .into_iter()
            .find(|role| self.lists("message_types", role.name()))
    }

    /// Returns the model's label in metrics. There are few of them, whatever names clients send.
    pub fn label(&self) -> &str {
        match self.source {
            Source::Guess { is_set: false, .. } => UNLISTED,
            Source::Record | Source::Guess { .. } => &self.slug,
        }
    }

    /// Returns the end of the model on OpenAI's API; `None` if none is announced.
    pub fn shutdown(&self) -> Option<Shutdown> {
        self.shutdown_of(&self.slug)
    }

    /// Returns the end of what one of the model's names means: a dated version has an end of its own.
    fn shutdown_of(&self, name: &str) -> Option<Shutdown> {
        let may_be_openais = ["openai", UNKNOWN_PROVIDER].contains(&self.provider.as_str());
        let of = |name| shutdowns::of(name).filter(|_| may_be_openais);
        let version = self.versions.iter().find(|version| *version == name);
        version.and_then(|version| of(version)).or_else(|| of(&self.slug))
    }
}

/// All models that are listed, and the names that mean them.
#[derive(Debug)]
pub struct Models {
    /// The models, in the file's order.
    list: Vec<Arc<Model>>,
    /// The places in the list by slugs and dated versions.
    by_name: HashMap<String, usize>,
    /// The models by aliases that are whole names.
    aliases: BTreeMap<String, Arc<Model>>,
    /// The aliases that end in `*` and mean every name with that beginning; the longest first.
    patterns: Vec<(String, Arc<Model>)>,
    unknown: Unknown,
    /// The names of models that are not listed of which the log has told.
    told: Mutex<BTreeSet<String>>,
}

/// The reason that a list of models cannot be used, in words for the operator.
#[derive(Debug, PartialEq, Eq)]
pub enum BadModels {
    /// A record is wrong: which one, and which of its fields.
    File(String),
    /// An alias is wrong: which one, and why.
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
    /// Reads a models.json and aliases, each `asked=served`. An asked name that ends in `*` means every name
    /// with that beginning that is otherwise unknown. A served name may be of a model that is not listed, if
    /// `unknown` models are tried.
    ///
    /// Records whose `status` is not `public` are left out: LangFast does not offer them.
    ///
    /// # Errors
    /// The file is not a list of records, or holds no model, or one twice; an alias names no model, or stands
    /// twice.
    pub fn parse(json: &str, aliases: &[String], unknown: Unknown) -> Result<Models, BadModels> {
        let records = records::read(json).map_err(BadModels::File)?;
        let public: Vec<Record> = records.into_iter().filter(Record::is_public).collect();
        if public.is_empty() {
            return Err(BadModels::File("there is no record of a public model in it".to_owned()));
        }
        let by_name = by_name(&public).map_err(BadModels::File)?;
        let list = public.into_iter().map(|record| Arc::new(Model::from(record))).collect();
        let mut models = Models {
            list,
            by_name,
            aliases: BTreeMap::new(),
            patterns: Vec::new(),
            unknown,
            told: Mutex::default(),
        };
        models.add_aliases(aliases).map_err(BadModels::Aliases)?;
        Ok(models)
    }

    /// Adds the aliases, each `asked=served`; fails with the wrong one, and why it is wrong.
    fn add_aliases(&mut self, aliases: &[String]) -> Result<(), String> {
        let aliases = aliases.iter().map(|alias| alias.trim()).filter(|alias| !alias.is_empty());
        let pair = |alias| split_alias(alias).ok_or(format!("`{alias}`: write ASKED=SERVED"));
        let pairs: Vec<(&str, &str)> = aliases.map(pair).collect::<Result<_, _>>()?;
        for (asked, served) in &pairs {
            let bad = |why: &str| format!("`{asked}={served}`: {why}");
            // A name that stands for itself is listed, and no pattern means it.
            let is_alias = pairs.iter().any(|(other, of)| other == served && other != of);
            let model = match self.by_name.get(*served) {
                Some(at) => self.list[*at].clone(),
                None if is_alias => return Err(bad("that is an alias too; name its model")),
                None if self.unknown == Unknown::Try && stand_in::is_name(served) => {
                    Arc::new(self.guess(served, true))
                }
                None if stand_in::is_name(served) => {
                    return Err(bad(
                        "no such model is served (`langfast2api models` lists those that are), and \
                                    --unknown-models refuse tries no other",
                    ));
                }
                None => return Err(bad("no such model is served: that is no name of a model")),
            };
            if !self.add_alias(asked, model) {
                return Err(bad(&format!("`{asked}` stands in the list twice")));
            }
        }
        self.patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
        Ok(())
    }

    /// Adds an alias; false if there is such an alias already.
    fn add_alias(&mut self, asked: &str, model: Arc<Model>) -> bool {
        if !asked.ends_with('*') {
            return self.aliases.insert(asked.to_owned(), model).is_none();
        }
        let is_new = self.patterns.iter().all(|(pattern, _)| pattern != asked);
        self.patterns.push((asked.to_owned(), model));
        is_new
    }

    /// Returns the model that `name` is known to mean: as an alias, a slug, or a dated version, or else by the
    /// longest of the aliases for a beginning that it has. `None` if it means none.
    pub fn find(&self, name: &str) -> Option<&Arc<Model>> {
        let listed = || self.by_name.get(name).map(|at| &self.list[*at]);
        let fits = |pattern: &str| name.starts_with(pattern.trim_end_matches('*'));
        let begun = || self.patterns.iter().find(|(pattern, _)| fits(pattern));
        self.aliases.get(name).or_else(listed).or_else(|| begun().map(|(_, model)| model))
    }

    /// Returns the model that serves a request for `name`: the one that it is known to mean, or else, if
    /// unknown models are tried, one of that name which is assumed to be like the nearest that is listed.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`] if unknown models are refused; [`Error::Invalid`] for what cannot be a model's
    /// name.
    pub fn serve(&self, name: &str) -> Result<Arc<Model>, Error> {
        let model = match self.find(name) {
            Some(model) => model.clone(),
            None if !stand_in::is_name(name) => return Err(no_name()),
            None if self.unknown == Unknown::Refuse => return Err(no_such_model(name)),
            None => Arc::new(self.guess(name, false)),
        };
        self.tell(&model);
        Ok(model)
    }

    fn guess(&self, slug: &str, is_set: bool) -> Model {
        stand_in::of(slug, self.list.iter().map(|model| &**model), is_set)
    }

    /// Logs what is assumed of a model that is not listed: once for each, and of the first [`MOST_TOLD`] alone.
    fn tell(&self, model: &Model) {
        let Source::Guess { like, .. } = &model.source else { return };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MOST_TOLD || !told.insert(model.slug.clone()) {
            return;
        }
        let last = if told.len() == MOST_TOLD {
            " (of further such names the log says nothing)"
        } else {
            ""
        };
        drop(told);
        let name = clean(&model.slug);
        match like {
            Some(like) => {
                log::info!("the model {name} is not listed: it is tried, as one like {like}{last}")
            }
            None => log::info!(
                "the model {name} is not listed, nor one like it: it is tried with what every model takes{last}"
            ),
        }
    }

    /// Returns all models that are listed, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.list.iter()
    }
}

/// Splits `asked=served`; `None` if that is not its form.
fn split_alias(alias: &str) -> Option<(&str, &str)> {
    let (asked, served) = alias.split_once('=')?;
    let (asked, served) = (asked.trim(), served.trim());
    (!asked.is_empty()).then_some((asked, served))
}

/// Returns the error for a model that is not listed, where only such models count.
pub fn no_such_model(name: &str) -> Error {
    // A client may send megabytes.
    Error::NoSuchModel(clean(name))
}

/// Returns the error for what cannot be a model's name.
fn no_name() -> Error {
    let longest = stand_in::LONGEST_NAME;
    let message = format!(
        "`model` is no name of a model: it must be 1 to {longest} bytes of letters, digits and punctuation, \
         without spaces. GET /v1/models lists the models."
    );
    Error::invalid("model", message)
}

/// Returns the place of the record that each name means. A model's slug wins over another's version.
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
            provider: record.provider.unwrap_or_else(|| UNKNOWN_PROVIDER.to_owned()),
            created: created.unwrap_or(0),
            created_at: match created {
                Some(_) => format!("{}Z", &created_at[.."YYYY-MM-DDThh:mm:ss".len()]),
                None => EPOCH.to_owned(),
            },
            versions: record.versions,
            parameters: record.parameters,
            source: Source::Record,
        }
    }
}

/// Returns the Unix time of a time in RFC 3339, in seconds. Its zone is taken for UTC, as LangFast writes it.
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
        Models::parse(BUILT_IN, &aliases, Unknown::Refuse)
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
            Models::parse(twice, &[], Unknown::Refuse).unwrap_err().to_string(),
            "record 3 (line 3, `a`): `slug` is that of record 1 (line 1, `a`) too; remove one of the two"
        );
        let version = "[{\"slug\": \"a\", \"versions\": [\"v\", \"v\"]},
                        {\"slug\": \"b\", \"versions\": [\"v\"]}]";
        let error = Models::parse(version, &[], Unknown::Refuse).unwrap_err().to_string();
        assert!(error.starts_with("record 2 (line 2, `b`): `versions` has `v`"), "{error}");
        // What LangFast does not offer is in nobody's way.
        let hidden = "[{\"slug\": \"a\"}, {\"slug\": \"a\", \"status\": \"hidden\"}]";
        assert!(Models::parse(hidden, &[], Unknown::Refuse).is_ok());
    }

    #[test]
    fn an_alias_may_lead_to_a_model_that_is_not_listed_if_such_are_tried() {
        let aliases = |aliases: &[&str]| {
            let aliases: Vec<String> = aliases.iter().map(|alias| alias.to_string()).collect();
            Models::parse(BUILT_IN, &aliases, Unknown::Try)
        };
        let models = aliases(&["fast=gpt-6-mini", "claude-*=gpt-6-luna"]).unwrap();
        for (name, slug) in
            [("fast", "gpt-6-mini"), ("claude-x", "gpt-6-luna"), ("gpt-6-nano", "gpt-6-nano")]
        {
            assert_eq!(models.serve(name).unwrap().slug, slug);
        }
        // What the operator has set makes labels, what a client sends does not.
        let label = |name| models.serve(name).unwrap().label().to_owned();
        assert_eq!([label("fast"), label("gpt-4o")], ["gpt-6-mini", "gpt-4o"]);
        assert_eq!([label("gpt-6-mini"), label("nonsense")], [UNLISTED, UNLISTED]);
        for bad in ["fast=", "fast=gpt 6", "=gpt-6"] {
            assert!(aliases(&[bad]).is_err(), "{bad}");
        }
        let models = aliases(&["gpt-7=gpt-7", "fast=gpt-7", "*=gpt-6-luna"]).unwrap();
        for (name, slug) in [("gpt-7", "gpt-7"), ("fast", "gpt-7"), ("gpt-8", "gpt-6-luna")] {
            assert_eq!(models.serve(name).unwrap().slug, slug, "{name}");
        }
        let chain = aliases(&["a=b", "b=gpt-4o"]).unwrap_err().to_string();
        assert!(chain.contains("`a=b`: that is an alias too"), "{chain}");
    }

    #[test]
    fn a_name_that_is_not_listed_is_tried_or_refused_and_what_is_none_is_refused() {
        let models = |unknown| Models::parse(BUILT_IN, &[], unknown).unwrap();
        let (trying, refusing) = (models(Unknown::Try), models(Unknown::Refuse));
        assert_eq!(trying.serve("gpt-6-luna").unwrap().slug, "gpt-6-luna");
        assert!(trying.find("gpt-6-luna").is_none());
        let refusal = refusing.serve("gpt-6-luna").unwrap_err();
        assert_eq!(refusal, Error::NoSuchModel("gpt-6-luna".to_owned()));
        for way_out in ["--model-aliases", "--unknown-models try", "GET /v1/models"] {
            assert!(refusal.to_string().contains(way_out), "{refusal}");
        }
        for models in [trying, refusing] {
            assert_eq!(models.serve("gpt-4o-2024-08-06").unwrap().slug, "gpt-4o");
            for name in ["Hi there", "a\nb", &"x".repeat(200)] {
                let refusal = models.serve(name).unwrap_err();
                assert_eq!(refusal.report().status, 400, "{name}");
                assert!(!refusal.to_string().contains(name), "{refusal}");
            }
        }
        assert!(no_such_model(&"x".repeat(1_000_000)).to_string().len() < 2000);
    }

    #[test]
    fn a_model_that_is_gone_is_served_all_the_same() {
        for name in ["gpt-4.5-preview", "o1-mini", "gpt-4-0314"] {
            for unknown in [Unknown::Try, Unknown::Refuse] {
                assert!(Models::parse(BUILT_IN, &[], unknown).unwrap().serve(name).is_ok());
            }
        }
    }

    #[test]
    fn of_a_million_names_the_first_are_told_and_no_more_kept() {
        let models = Models::parse(BUILT_IN, &[], Unknown::Try).unwrap();
        (0..10_000).for_each(|number| drop(models.serve(&format!("gpt-{number}-x"))));
        assert_eq!(models.told.lock().unwrap().len(), MOST_TOLD);
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
            assert!(Models::parse(json, &[], Unknown::Refuse).is_err(), "{json}");
        }
    }
}
