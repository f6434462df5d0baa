//! The list of models on a day: which models are offered then, and what an operator should know of the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::shutdowns::{Day, Shutdown};
use super::{Model, Models, Source, Unknown};

/// A name that is listed, and the model that serves it.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// The name.
    pub id: &'a str,
    /// The model.
    pub model: &'a Model,
    /// The end of what the name means, if one is announced.
    pub shutdown: Option<Shutdown>,
}

/// Something that an operator should know of the models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is the matter.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.what, self.advice)
    }
}

/// A model and what it accepts, as it is listed for people and for the page.
#[derive(Debug, Serialize)]
pub struct Accepted<'a> {
    /// LangFast's name for it.
    pub id: &'a str,
    /// The other names that mean it: dated versions, then aliases.
    pub names: Vec<&'a str>,
    /// True if its text comes piece by piece.
    pub streams: bool,
    /// The most tokens of an answer, if they are known.
    pub max_completion_tokens: Option<u64>,
    /// The parameters that take a number.
    pub numbers: Vec<&'static str>,
    /// The parameters that take a word, and the words.
    pub words: BTreeMap<&'static str, Vec<&'a str>>,
    /// True if LangFast's list holds it; what an alias stands for need not be there, and is tried.
    pub is_listed: bool,
    /// The day from which it is gone from OpenAI's API, as `YYYY-MM-DD`, if one is announced.
    pub shutdown_date: Option<&'static str>,
    /// True if that day has come.
    pub is_shut_down: bool,
    /// The model that OpenAI names in its place.
    pub replacement: Option<&'static str>,
}

impl Models {
    /// Returns the entry of a model under `id`, one of its names.
    pub fn listed<'a>(&self, id: &'a str, model: &'a Model) -> Listed<'a> {
        Listed { id, model, shutdown: model.shutdown_of(id) }
    }

    /// Returns the names to offer: those of all models, and all aliases that are whole names. Models that are
    /// known to be shut down by `today` are left out, unless `all` are wanted, or none would be left: they can
    /// still be asked for, and a client with nothing to choose from is of no use.
    pub fn offered(&self, today: &Day, all: bool) -> Vec<Listed<'_>> {
        let slugs = self.list.iter().map(|model| {
            // An alias wins over a slug.
            let serving = self.aliases.get(&model.slug).unwrap_or(model);
            (&model.slug, serving)
        });
        let is_slug = |name: &str| self.list.iter().any(|model| model.slug == name);
        let aliases = self.aliases.iter().filter(|(name, _)| !is_slug(name));
        let every: Vec<Listed> = slugs
            .chain(aliases)
            .map(|(id, model)| Listed { id, model, shutdown: model.shutdown() })
            .collect();
        let is_left = |listed: &&Listed| !is_over(listed.shutdown, today);
        let left: Vec<Listed> = every.iter().filter(is_left).copied().collect();
        if all || left.is_empty() { every } else { left }
    }

    /// Returns the model to use where nobody says which: the first of the list, or else of the aliases, that is
    /// not known to be shut down by `today`; if all are, the first of the list.
    pub fn preferred(&self, today: &Day) -> Option<&Arc<Model>> {
        let all = || self.list.iter().chain(self.aliases.values());
        all().find(|model| !is_over(model.shutdown(), today)).or_else(|| all().next())
    }

    /// Returns what an operator should know of the list on this day: which aliases lead to models that are shut
    /// down, and whether no model is left, in the list or behind an alias.
    pub fn warnings(&self, today: &Day) -> Vec<Warning> {
        let patterns = self.patterns.iter().map(|(pattern, model)| (pattern, model));
        let of_alias = |(name, model): (&String, &Arc<Model>)| {
            let shutdown = model.shutdown().filter(|shutdown| shutdown.is_over(today))?;
            let can_be_served =
                |name: &&str| self.unknown == Unknown::Try || self.find(name).is_some();
            let instead = shutdown.replacement.filter(can_be_served).unwrap_or("MODEL");
            Some(Warning {
                what: format!(
                    "the alias `{name}` leads to {}: {}",
                    model.slug,
                    shutdown.words(today)
                ),
                advice: format!("Let it lead to another: --model-aliases '{name}={instead}'"),
            })
        };
        let of_aliases = self.aliases.iter().chain(patterns).filter_map(of_alias);
        of_aliases.chain(self.last_shutdown(today).map(|last| self.all_gone(last))).collect()
    }

    /// Returns the day from which no model of the list is left; `None` if it has not come, or an alias leads to
    /// a model that is left.
    fn last_shutdown(&self, today: &Day) -> Option<&'static str> {
        let patterns = self.patterns.iter().map(|(_, model)| model);
        let mut set = self.aliases.values().chain(patterns);
        if set.any(|model| !is_over(model.shutdown(), today)) {
            return None;
        }
        let end = |model: &Arc<Model>| {
            Some(model.shutdown().filter(|shutdown| shutdown.is_over(today))?.date)
        };
        self.list.iter().map(end).collect::<Option<Vec<&str>>>()?.into_iter().max()
    }

    fn all_gone(&self, last: &str) -> Warning {
        let advice = match self.unknown {
            Unknown::Try => {
                "Ask for a newer model by its name, which is tried, or give it an alias (--model-aliases \
                 NAME=MODEL); `langfast2api models --import` takes LangFast's own list out of a browser"
            }
            Unknown::Refuse => {
                "`langfast2api models --import` takes LangFast's own list out of a browser; with \
                 --unknown-models try, models that the list does not hold can \
                 be asked for"
            }
        };
        let what = format!("OpenAI has shut down every model of the list, the last on {last}");
        Warning { what, advice: advice.to_owned() }
    }

    /// Returns what each model accepts: those of the list in its order, then others that aliases stand for.
    pub fn accepted(&self, today: &Day) -> Vec<Accepted<'_>> {
        let mut models: Vec<&Arc<Model>> = self.list.iter().collect();
        let patterns = self.patterns.iter().map(|(_, model)| model);
        for model in self.aliases.values().chain(patterns) {
            if models.iter().all(|known| known.slug != model.slug) {
                models.push(model);
            }
        }
        models.into_iter().map(|model| self.accepted_by(model, today)).collect()
    }

    fn accepted_by<'a>(&'a self, model: &'a Model, today: &Day) -> Accepted<'a> {
        const NUMBERS: [&str; 4] =
            ["temperature", "top_p", "presence_penalty", "frequency_penalty"];
        const WORDS: [&str; 3] = ["reasoning_effort", "verbosity", "response_format"];
        let aliases = self.aliases.iter().map(|(name, of)| (name.as_str(), of));
        let patterns = self.patterns.iter().map(|(name, of)| (name.as_str(), of));
        let names = aliases.chain(patterns).filter(|(_, of)| of.slug == model.slug);
        let words = WORDS.map(|name| (name, model.values(name).collect::<Vec<_>>()));
        let shutdown = model.shutdown();
        Accepted {
            id: &model.slug,
            names: model
                .versions
                .iter()
                .map(String::as_str)
                .chain(names.map(|(name, _)| name))
                .collect(),
            streams: model.accepts("stream"),
            max_completion_tokens: model.max_completion_tokens(),
            numbers: NUMBERS.into_iter().filter(|name| model.accepts(name)).collect(),
            words: words.into_iter().filter(|(_, values)| !values.is_empty()).collect(),
            is_listed: model.source == Source::Record,
            shutdown_date: shutdown.map(|shutdown| shutdown.date),
            is_shut_down: is_over(shutdown, today),
            replacement: shutdown.and_then(|shutdown| shutdown.replacement),
        }
    }
}

fn is_over(shutdown: Option<Shutdown>, today: &Day) -> bool {
    shutdown.is_some_and(|shutdown| shutdown.is_over(today))
}

#[cfg(test)]
mod tests {
    use super::super::BUILT_IN;
    use super::*;

    fn built_in(aliases: &[&str]) -> Models {
        let aliases: Vec<String> = aliases.iter().map(|alias| alias.to_string()).collect();
        Models::parse(BUILT_IN, &aliases, Unknown::Try).unwrap()
    }

    fn ids(models: &Models, day: &str, all: bool) -> Vec<String> {
        let offered = models.offered(&Day::named(day), all);
        offered.iter().map(|listed| listed.id.to_owned()).collect()
    }

    #[test]
    fn a_model_is_listed_until_the_day_of_its_shutdown() {
        let models = built_in(&[]);
        assert_eq!(ids(&models, "2025-01-01", false).len(), 17);
        let left = ids(&models, "2026-11-26", false);
        assert_eq!(
            left,
            [
                "gpt-4.1",
                "gpt-4.1-mini",
                "gpt-4o",
                "gpt-4o-mini",
                "o3",
                "gpt-5",
                "gpt-5-mini",
                "gpt-5-nano"
            ]
        );
        let last = ["gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini"];
        for day in ["2026-12-11", "2027-01-13"] {
            assert_eq!(ids(&models, day, false), last, "{day}");
        }
        assert_eq!(ids(&models, "2026-12-11", true).len(), 17);
    }

    #[test]
    fn when_none_is_left_all_are_listed_and_something_is_preferred() {
        for day in ["2027-01-14", "2027-02-01", "2099-01-01"] {
            let models = built_in(&[]);
            assert_eq!(ids(&models, day, false).len(), 17, "{day}");
            assert_eq!(models.preferred(&Day::named(day)).unwrap().slug, "gpt-4.1");
            let models = built_in(&["a=gpt-4o", "fast=gpt-6-luna"]);
            assert_eq!(ids(&models, day, false), ["fast"], "{day}");
            assert_eq!(models.preferred(&Day::named(day)).unwrap().slug, "gpt-6-luna");
        }
        assert_eq!(built_in(&[]).preferred(&Day::named("2026-11-26")).unwrap().slug, "gpt-4.1");
    }

    #[test]
    fn an_exact_alias_is_listed_as_what_it_leads_to_and_no_name_twice() {
        let models = built_in(&["fast=gpt-4o", "gpt-4=gpt-6-luna", "claude-*=gpt-5", "old=gpt-4"]);
        let today = Day::named("2026-11-26");
        let offered = models.offered(&today, false);
        let find = |id| offered.iter().find(|listed| listed.id == id);
        let fast = find("fast").unwrap();
        assert_eq!((fast.model.slug.as_str(), fast.model.created), ("gpt-4o", 1_751_306_799));
        assert_eq!(fast.shutdown.unwrap().date, "2027-01-14");
        // OpenAI has shut it down, but the alias serves it with a model that is not.
        let gpt_4 = find("gpt-4").unwrap();
        assert_eq!((gpt_4.model.slug.as_str(), gpt_4.shutdown), ("gpt-6-luna", None));
        assert_eq!(offered.iter().filter(|listed| listed.id == "gpt-4").count(), 1);
        assert!(find("claude-*").is_none() && find("old").is_none());
        let all = models.offered(&today, true);
        assert_eq!(all.len(), 17 + 2);
    }

    #[test]
    fn a_version_has_its_own_end_and_an_alias_that_of_its_model() {
        let models = built_in(&["gpt-4o=gpt-6-luna", "mine=gpt-5"]);
        let end = |name: &str| {
            let listed = models.listed(name, models.find(name).unwrap());
            listed.shutdown.map(|shutdown| shutdown.date)
        };
        assert_eq!(end("gpt-4o-2024-05-13"), Some("2026-10-23"));
        assert_eq!(end("gpt-4o-2024-11-20"), Some("2027-01-14"));
        // LangFast's own name for a version.
        assert_eq!(end("o3-mini-2024-12-01-preview"), Some("2026-10-23"));
        assert_eq!((end("gpt-4o"), end("mine")), (None, Some("2026-12-11")));
    }

    #[test]
    fn the_dates_are_of_openais_models_only() {
        let list = r#"[{"slug": "gpt-4", "provider": "azure"}, {"slug": "gpt-4o", "provider": "openai"},
                       {"slug": "o1"}]"#;
        let models = Models::parse(list, &[], Unknown::Try).unwrap();
        assert_eq!(ids(&models, "2099-01-01", false), ["gpt-4"]);
    }

    #[test]
    fn an_operator_is_warned_of_aliases_for_models_that_are_gone_and_when_all_are() {
        let today = |models: &Models, day: &str| models.warnings(&Day::named(day));
        let models = built_in(&["fast=gpt-4.1-nano", "mine=gpt-5", "x-*=gpt-4"]);
        let warnings = today(&models, "2026-11-26");
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert_eq!(
            warnings[0].to_string(),
            "the alias `fast` leads to gpt-4.1-nano: OpenAI has shut it down on 2026-10-23, and names \
             gpt-5.6-luna in its place. Let it lead to another: --model-aliases 'fast=gpt-5.6-luna'"
        );
        assert!(warnings[1].what.starts_with("the alias `x-*` leads to gpt-4: "));
        assert!(today(&models, "2026-01-01").is_empty());
        let all_gone = "OpenAI has shut down every model of the list, the last on 2027-01-14";
        assert!(today(&built_in(&[]), "2027-01-13").is_empty());
        for day in ["2027-01-14", "2099-01-01"] {
            let warnings = today(&built_in(&[]), day);
            assert_eq!(warnings[0].what, all_gone);
            assert!(warnings.len() == 1 && warnings[0].advice.contains("models --import"));
            for set in ["fast=gpt-6-luna", "*=gpt-6-luna"] {
                assert!(today(&built_in(&[set]), day).is_empty(), "it is seen to already");
            }
        }
        let refusing = Models::parse(BUILT_IN, &["a=gpt-4".to_owned()], Unknown::Refuse).unwrap();
        let warnings = today(&refusing, "2099-01-01");
        assert!(warnings[0].advice.ends_with("'a=MODEL'"), "no advice leads to an error");
        assert!(warnings[1].advice.contains("--unknown-models try"));
    }

    #[test]
    fn what_is_listed_for_people_has_the_ends_and_what_aliases_lead_to() {
        let models = built_in(&["fast=gpt-6-luna", "claude-*=gpt-6-luna", "mine=gpt-5"]);
        let accepted = models.accepted(&Day::named("2026-12-01"));
        assert_eq!(accepted.len(), 18);
        let find = |id| accepted.iter().find(|model| model.id == id).unwrap();
        let luna = find("gpt-6-luna");
        assert_eq!((luna.names.clone(), luna.is_listed), (vec!["fast", "claude-*"], false));
        assert_eq!((luna.max_completion_tokens, luna.shutdown_date), (None, None));
        let gpt_5 = find("gpt-5");
        assert_eq!(gpt_5.names, ["gpt-5-2025-08-07", "mine"]);
        assert_eq!((gpt_5.shutdown_date, gpt_5.is_shut_down), (Some("2026-12-11"), false));
        let gpt_4 = find("gpt-4");
        assert!(gpt_4.is_shut_down && gpt_4.is_listed);
        assert_eq!(gpt_4.replacement, Some("gpt-5.6-sol"));
    }
}
