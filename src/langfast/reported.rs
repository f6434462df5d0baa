//! The tokens of a run as LangFast reports them, if it does. LangFast's page shows tokens of each run, so
//! some event carries them, but in which form is not known: the names here are OpenAI's of both its APIs,
//! Gemini's, and what JavaScript's libraries make of them.

use serde_json::Value;
use serde_json::value::RawValue;

use super::outcome::bare;
use super::raw;
use crate::chat::ReportedUsage;

/// More tokens than any model reads or writes in one run; a larger number is none of tokens.
const MOST: u64 = 100_000_000;
/// Bytes of the longest usage that is read: read, a list of numbers takes forty times the memory of its text.
const LONGEST: usize = 64 * 1024;
/// Levels of objects and lists in which a usage is looked for.
const DEEPEST: usize = 6;

/// The usage in the JSON at the start of `json`, wherever in it; `None` if there is none that says
/// anything.
pub fn find(json: &str) -> Option<ReportedUsage> {
    // Most events have none, and the word is quickly looked for.
    if !["usage", "Usage"].iter().any(|word| json.contains(word)) {
        return None;
    }
    within(raw::first(json)?, DEEPEST)
}

fn within(value: &RawValue, depth: usize) -> Option<ReportedUsage> {
    let depth = depth.checked_sub(1)?;
    let fields = raw::fields(value);
    let is_usage =
        |name: &str| matches!(bare(name).as_str(), "usage" | "tokenusage" | "usagemetadata");
    let is_short = |usage: &RawValue| usage.get().len() <= LONGEST;
    let named = fields.iter().filter(|(name, usage)| is_usage(name) && is_short(usage));
    let mut here = named.filter_map(|(_, usage)| read(&serde_json::from_str(usage.get()).ok()?));
    let inner = fields.iter().map(|(_, value)| *value);
    here.next().or_else(|| inner.chain(raw::items(value)).find_map(|value| within(value, depth)))
}

/// Reads a usage object. A count that is no sound number is left out.
fn read(usage: &Value) -> Option<ReportedUsage> {
    const PROMPT: &[&str] =
        &["prompttokens", "inputtokens", "prompttokencount", "inputtokencount", "prompt", "input"];
    const COMPLETION: &[&str] = &[
        "completiontokens",
        "outputtokens",
        "candidatestokencount",
        "outputtokencount",
        "completion",
        "output",
    ];
    let prompt = count(usage, PROMPT);
    let completion = count(usage, COMPLETION);
    let total = count(usage, &["totaltokens", "totaltokencount", "total"]);
    let rest = |other: Option<u64>| total?.checked_sub(other?).filter(|rest| *rest > 0);
    let (prompt, completion) = (prompt.or(rest(completion)), completion.or(rest(prompt)));
    let cached = detail(usage, &["prompttokensdetails", "inputtokensdetails"], "cachedtokens")
        .or_else(|| count(usage, &["cachedtokens", "cachedinputtokens", "cachedprompttokens"]));
    let reasoning =
        detail(usage, &["completiontokensdetails", "outputtokensdetails"], "reasoningtokens")
            .or_else(|| count(usage, &["reasoningtokens"]));
    (prompt.is_some() || completion.is_some()).then(|| ReportedUsage {
        prompt_tokens: prompt,
        completion_tokens: completion,
        cached_tokens: cached.filter(|cached| prompt.is_some_and(|prompt| *cached <= prompt)),
        reasoning_tokens: reasoning
            .filter(|reasoning| completion.is_some_and(|completion| *reasoning <= completion)),
    })
}

/// The count under the first of these names that has a sound one. Zero is what is written where nothing
/// was counted, and left out.
fn count(object: &Value, names: &[&str]) -> Option<u64> {
    let fields = object.as_object()?;
    let named = |name: &&str| fields.iter().find(|(key, _)| bare(key) == **name);
    let sound = |(_, value): (&String, &Value)| whole(value).filter(|n| (1..=MOST).contains(n));
    names.iter().filter_map(named).find_map(sound)
}

/// A whole number, also where it is written with a fraction or as a text.
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number.fract() == 0.0 && (0.0..=MOST as f64).contains(&number)).then_some(number as u64)
}

fn detail(usage: &Value, names: &[&str], detail: &str) -> Option<u64> {
    let fields = usage.as_object()?;
    let named = fields.iter().filter(|(key, _)| names.contains(&bare(key).as_str()));
    named.filter_map(|(_, details)| count(details, &[detail])).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(json: &str) -> Option<[Option<u64>; 4]> {
        find(json).map(|usage| {
            [
                usage.prompt_tokens,
                usage.cached_tokens,
                usage.completion_tokens,
                usage.reasoning_tokens,
            ]
        })
    }

    #[test]
    fn a_usage_is_found_anywhere_and_under_any_likely_names() {
        for json in [
            r#"{"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}"#,
            r#"{"a":[{"b":{"usage":{"input_tokens":9,"output_tokens":5,"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":3}}}}]}"#,
            r#"{"tokenUsage":{"promptTokens":9,"completionTokens":5,"cachedInputTokens":4,"reasoningTokens":3}}"#,
            r#"{"usage":{"prompt_tokens":"9","completion_tokens":5.0,"cached_tokens":"4","reasoning_tokens":3e0}}"#,
            r#"{"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":5,"cachedTokens":4,"reasoningTokens":3}}"#,
            r#"{"usage":{"input":9,"total":14,"cachedTokens":4,"reasoning_tokens":3}}"#,
            r#"{"content":"half \ud83d","usage_metadata":{"inputTokens":9,"totalTokens":14,"cachedTokens":4,"reasoning_tokens":3}}, "x"]"#,
        ] {
            assert_eq!(counts(json), Some([Some(9), Some(4), Some(5), Some(3)]), "{json}");
        }
    }

    #[test]
    fn numbers_that_are_none_of_tokens_are_left_out() {
        for json in [
            r#"{}"#,
            r#"{"content":"usage"}"#,
            r#"{"usage":null}"#,
            r#"{"usage":7}"#,
            r#"{"usage":{}}"#,
            r#"{"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#,
            r#"{"usage":{"prompt_tokens":"nine","completion_tokens":-5}}"#,
            r#"{"usage":{"prompt_tokens":"NaN","completion_tokens":"inf","total_tokens":[9]}}"#,
            r#"{"usage":{"prompt":"a text","completion":{"text":"b"},"input":["c"]}}"#,
            r#"{"usage":{"prompt_tokens":1e300,"completion_tokens":5.5,"total_tokens":7}}"#,
            r#"{"usage":{"prompt_tokens":100000001}}"#,
            r#"{"usage":{"prompt_tokens":99999999999999999999}}"#,
            r#"{"usage":"#,
        ] {
            assert_eq!(counts(json), None, "{json}");
        }
        let more_than_all = r#"{"usage":{"prompt_tokens":9,"cached_tokens":10,"total_tokens":8,"reasoning_tokens":1}}"#;
        assert_eq!(counts(more_than_all), Some([Some(9), None, None, None]));
        let deep =
            format!("{}{}{}", "[".repeat(200), r#"{"usage":{"prompt_tokens":9}}"#, "]".repeat(200));
        assert_eq!(counts(&deep), None);
    }
}
