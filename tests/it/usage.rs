//! How far the estimate is from OpenAI's real tokenizer, over texts written for this test: prose in
//! several languages, code, data, Markdown, chat lines, encoded bytes and logs (`tests/corpus`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use langfast2api::chat::usage::{TokenCounter, estimate_prompt, estimate_tokens};
use proptest::prelude::*;

/// The mean of |estimate ÷ real − 1| that is allowed over all texts, and over those of one kind.
const ALLOWED_MEAN: f64 = 0.10;
const ALLOWED_PER_KIND: f64 = 0.20;

struct Sample {
    kind: String,
    text: String,
}

fn corpus() -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let sample = |path: &PathBuf| Sample {
        kind: path.file_stem().unwrap().to_str().unwrap().split('-').next().unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
    };
    paths.iter().map(sample).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The absolute relative errors of each kind's texts.
fn errors_by_kind() -> BTreeMap<String, Vec<f64>> {
    let tokenizer = tiktoken_rs::o200k_base().unwrap();
    let mut errors: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for Sample { kind, text } in corpus() {
        let real = tokenizer.encode_ordinary(&text).len() as f64;
        errors.entry(kind).or_default().push((estimate_tokens(&text) as f64 / real - 1.0).abs());
    }
    errors
}

#[test]
fn the_estimate_is_close_to_the_real_tokenizer() {
    let errors = errors_by_kind();
    for (kind, errors) in &errors {
        println!("{kind:12} {:5.1} %", 100.0 * mean(errors));
        assert!(mean(errors) < ALLOWED_PER_KIND, "{kind}: mean error {:.3}", mean(errors));
    }
    let all: Vec<f64> = errors.into_values().flatten().collect();
    println!("{:12} {:5.1} % over {} texts", "mean", 100.0 * mean(&all), all.len());
    assert!(all.len() >= 24, "only {} texts found", all.len());
    assert!(mean(&all) < ALLOWED_MEAN, "mean error {:.3}", mean(&all));
}

#[test]
fn a_text_in_parts_counts_as_much_as_the_whole() {
    for Sample { text, .. } in corpus() {
        let mut counter = TokenCounter::default();
        for part in text.split_inclusive(['e', ' ', '\n', '的']) {
            counter.push(part);
        }
        assert_eq!(counter.total(), estimate_tokens(&text));
    }
}

#[test]
fn empty_text_has_no_tokens() {
    assert_eq!(estimate_tokens(""), 0);
    assert_eq!(TokenCounter::default().total(), 0);
}

#[test]
fn any_text_has_at_least_one_token() {
    for text in ["a", " ", "\n", "7", "!", "的", "é", "😀", "\u{301}", "\0"] {
        assert!(estimate_tokens(text) >= 1, "{text:?}");
    }
}

#[test]
fn a_prompt_counts_three_tokens_and_the_role_per_message_and_three_for_the_reply() {
    assert_eq!(estimate_prompt([].into_iter()), 3);
    let messages = [("system", "Be brief."), ("user", "Hello!")];
    let contents = estimate_tokens("Be brief.") + estimate_tokens("Hello!");
    assert_eq!(estimate_prompt(messages.into_iter()), 2 * (3 + 1) + contents + 3);
}

#[test]
fn each_role_is_a_single_real_token() {
    let tokenizer = tiktoken_rs::o200k_base().unwrap();
    for role in ["system", "developer", "user", "assistant", "tool"] {
        assert_eq!(tokenizer.encode_ordinary(role).len(), 1, "{role}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_counted_the_same_however_it_is_cut(
        parts in prop::collection::vec("\\PC{0,12}|[a-zA-Z0-9 '.,\t\r\n/]{0,12}|[一-龥ぁ-ヿ，。 ]{0,6}", 0..12),
    ) {
        let mut counter = TokenCounter::default();
        parts.iter().for_each(|part| counter.push(part));
        prop_assert_eq!(counter.total(), estimate_tokens(&parts.concat()));
    }

    #[test]
    fn no_text_makes_it_panic_or_count_absurdly(text in any::<String>()) {
        let tokens = estimate_tokens(&text);
        prop_assert!(tokens <= 3 * text.chars().count() as u64);
        prop_assert_eq!(tokens == 0, text.is_empty());
    }
}
