//! When OpenAI shuts models down, and what it names in their place.
//!
//! Known: copied from copies of OpenAI's deprecations page, <https://developers.openai.com/api/docs/deprecations>,
//! of July to November 2026, read on 2026-11-26, for models that write text. Names of dated versions have dates of
//! their own. What replaces a model is the page's latest word; empty is unknown. Not known: whether LangFast
//! runs on OpenAI's own API; Azure has dates of its own. So the dates are for lists and advice, and no request
//! is refused by them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Dates, each with the model that OpenAI names in place of those that it shuts down then, and the names of
/// those.
const SHUTDOWNS: [(&str, &str, &[&str]); 22] = [
    (
        "2024-09-13",
        "gpt-3.5-turbo",
        &["gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613", "gpt-3.5-turbo-16k-0613"],
    ),
    ("2024-12-06", "gpt-4o", &["gpt-4-vision-preview", "gpt-4-1106-vision-preview"]),
    ("2025-06-06", "gpt-4o", &["gpt-4-32k", "gpt-4-32k-0314", "gpt-4-32k-0613"]),
    ("2025-07-14", "gpt-4.1", &["gpt-4.5-preview", "gpt-4.5-preview-2025-02-27"]),
    ("2025-07-28", "o3", &["o1-preview", "o1-preview-2024-09-12"]),
    ("2025-10-27", "o4-mini", &["o1-mini", "o1-mini-2024-09-12"]),
    ("2026-02-17", "gpt-5.1-chat-latest", &["chatgpt-4o-latest"]),
    ("2026-03-26", "gpt-5", &["gpt-4-0125-preview", "gpt-4-0314", "gpt-4-turbo-preview"]),
    (
        "2026-07-23",
        "gpt-5.6-sol",
        &[
            "gpt-5-chat-latest",
            "gpt-5-codex",
            "gpt-5.1-chat-latest",
            "gpt-5.1-codex",
            "gpt-5.1-codex-max",
            "gpt-5.2-codex",
            "o3-deep-research",
            "o3-deep-research-2025-06-26",
            "o4-mini-deep-research",
            "o4-mini-deep-research-2025-06-26",
        ],
    ),
    (
        "2026-07-23",
        "gpt-5.6-terra",
        &[
            "gpt-4o-mini-search-preview-2025-03-11",
            "gpt-4o-search-preview-2025-03-11",
            "gpt-5.1-codex-mini",
        ],
    ),
    ("2026-08-10", "gpt-5.6-sol", &["gpt-5.2-chat-latest", "gpt-5.3-chat-latest"]),
    ("2026-09-28", "gpt-5.4-mini", &["gpt-3.5-turbo-1106", "gpt-3.5-turbo-instruct"]),
    ("2026-10-23", "gpt-5.6-luna", &["gpt-4.1-nano", "gpt-4.1-nano-2025-04-14"]),
    (
        "2026-10-23",
        "gpt-5.6-terra",
        &["gpt-3.5-turbo", "gpt-3.5-turbo-0125", "o4-mini", "o4-mini-2025-04-16"],
    ),
    (
        "2026-10-23",
        "gpt-5.6-sol",
        &[
            "gpt-4",
            "gpt-4-0613",
            "gpt-4-1106-preview",
            "gpt-4-turbo",
            "gpt-4-turbo-2024-04-09",
            "gpt-4o-2024-05-13",
            "o1",
            "o1-2024-12-17",
            "o1-pro",
            "o1-pro-2025-03-19",
            "o3-mini",
            "o3-mini-2025-01-31",
        ],
    ),
    ("2026-12-11", "gpt-6-luna", &["gpt-5-nano", "gpt-5-nano-2025-08-07"]),
    ("2026-12-11", "gpt-6.1-terra", &["gpt-5-mini", "gpt-5-mini-2025-08-07"]),
    (
        "2026-12-11",
        "gpt-6.1-sol",
        &[
            "gpt-5",
            "gpt-5-2025-08-07",
            "gpt-5-pro",
            "gpt-5-pro-2025-10-06",
            "o3",
            "o3-2025-04-16",
            "o3-pro",
            "o3-pro-2025-06-10",
        ],
    ),
    (
        "2027-01-14",
        "gpt-6-luna",
        &[
            "gpt-4.1",
            "gpt-4.1-2025-04-14",
            "gpt-4.1-mini",
            "gpt-4.1-mini-2025-04-14",
            "gpt-4o",
            "gpt-4o-2024-08-06",
            "gpt-4o-2024-11-20",
            "gpt-4o-mini",
            "gpt-4o-mini-2024-07-18",
        ],
    ),
    ("2027-02-01", "", &["gpt-5.5-cyber-preview"]),
    ("2027-04-01", "", &["gpt-5.1", "gpt-5.3-codex"]),
    ("2027-04-01", "", &["gpt-5.4-nano"]),
];

/// A day of the calendar, in UTC. The earlier of two days is the lesser.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(String);

impl Day {
    /// Returns the present day.
    pub fn today() -> Day {
        Day::of(SystemTime::now())
    }

    /// Returns the day of `time`. A time before 1970, or after 9999, counts as the nearest in between.
    pub fn of(time: SystemTime) -> Day {
        // 9999-12-31T23:59:59Z
        let latest = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let time = humantime::format_rfc3339_seconds(time.clamp(UNIX_EPOCH, latest)).to_string();
        Day(time[.."YYYY-MM-DD".len()].to_owned())
    }

    /// Returns the day as `YYYY-MM-DD`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A day as tests write it.
    #[cfg(test)]
    pub fn named(day: &str) -> Day {
        Day(day.to_owned())
    }
}

/// The announced end of a model on OpenAI's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// The day, as `YYYY-MM-DD`.
    pub date: &'static str,
    /// The model that OpenAI names in its place, and that is not known to be shut down itself.
    pub replacement: Option<&'static str>,
}

impl Shutdown {
    /// True if the model is gone, which it is from that day on.
    pub fn is_over(&self, today: &Day) -> bool {
        self.date <= today.as_str()
    }

    /// Returns a sentence for people to read: "OpenAI has shut it down …", or "OpenAI shuts it down …".
    pub fn words(&self, today: &Day) -> String {
        let verb = if self.is_over(today) { "has shut" } else { "shuts" };
        let instead = match self.replacement {
            Some(replacement) => format!(", and names {replacement} in its place"),
            None => String::new(),
        };
        format!("OpenAI {verb} it down on {}{instead}", self.date)
    }
}

/// Returns the announced end of the model that OpenAI calls `name`; `None` if none is known.
pub fn of(name: &str) -> Option<Shutdown> {
    let (date, replacement) = entry(name)?;
    Some(Shutdown { date, replacement: successor(replacement) })
}

/// Returns the date in the table, and what replaces the model; `None` if the table does not have it.
fn entry(name: &str) -> Option<(&'static str, &'static str)> {
    let found = SHUTDOWNS.iter().find(|(_, _, names)| names.contains(&name));
    found.map(|(date, replacement, _)| (*date, *replacement))
}

/// Returns the first model that is not shut down itself among a replacement, its replacement, and so on; `None`
/// if there is none.
fn successor(replacement: &'static str) -> Option<&'static str> {
    // No chain is longer than the table.
    let chain = std::iter::successors(Some(replacement), |name| entry(name).map(|(_, next)| next));
    let lasting = chain.take(SHUTDOWNS.len()).find(|name| entry(name).is_none());
    lasting.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_date_is_one_and_no_name_stands_twice() {
        let mut names: Vec<&str> = Vec::new();
        for (date, _, models) in SHUTDOWNS {
            let time = humantime::parse_rfc3339(&format!("{date}T00:00:00Z")).expect(date);
            assert_eq!(Day::of(time), Day::named(date));
            names.extend(models);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_model_is_gone_from_its_day_on() {
        let gpt_4o = of("gpt-4o").unwrap();
        for (day, is_over) in [
            ("2026-11-26", false),
            ("2027-01-13", false),
            ("2027-01-14", true),
            ("2027-02-01", true),
            ("2099-01-01", true),
        ] {
            assert_eq!(gpt_4o.is_over(&Day::named(day)), is_over, "{day}");
        }
        let luna = "OpenAI shuts it down on 2027-01-14, and names gpt-6-luna in its place";
        assert_eq!(gpt_4o.words(&Day::named("2027-01-13")), luna);
        assert_eq!(gpt_4o.words(&Day::named("2027-01-14")), luna.replace("shuts", "has shut"));
        assert_eq!(of("gpt-6-luna"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_dated_version_has_a_date_of_its_own() {
        assert_eq!(of("gpt-4o-2024-05-13").unwrap().date, "2026-10-23");
        assert_eq!(of("gpt-4o-2024-11-20").unwrap().date, "2027-01-14");
        assert_eq!(of("gpt-4-0314").unwrap().date, "2026-03-26");
    }

    #[test]
    fn what_is_named_as_a_replacement_is_not_shut_down_itself() {
        for name in SHUTDOWNS.iter().flat_map(|(_, _, names)| *names) {
            let replacement = of(name).unwrap().replacement;
            assert!(replacement.is_none_or(|model| of(model).is_none()), "{name}: {replacement:?}");
        }
        // Its replacement is named o4-mini, which is gone as well.
        assert_eq!(of("o1-mini").unwrap().replacement, Some("gpt-5.6-terra"));
        assert_eq!(of("gpt-5.1").unwrap().replacement, None);
    }

    #[test]
    fn a_day_is_utcs_and_a_clock_that_is_far_off_ends_nothing() {
        let after = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(Day::of(after(1_799_971_199)), Day::named("2027-01-14"));
        assert_eq!(Day::of(after(1_799_971_200)), Day::named("2027-01-15"));
        assert_eq!(Day::of(UNIX_EPOCH - Duration::from_secs(1)), Day::named("1970-01-01"));
        assert_eq!(Day::of(after(1 << 40)), Day::named("9999-12-31"));
    }
}
