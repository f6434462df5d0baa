//! Events that come by the thousand, or say one thing again and again: each takes time and memory by its own
//! length. By the length of all that came before, each of these would take minutes, or all memory.

use std::sync::Arc;

use super::outcome::RunStatus;
use super::run::{Manners, Notice, Progress, RunEvent};
use super::texts::{Place, Texts};
use crate::chat::FinishReason;
use crate::error::Failure;

const NAME: &str = "execution:chunk";
/// Longest answer, in bytes.
const LIMIT: usize = 8 << 20;

fn take(progress: &mut Progress, payload: &str) -> Vec<RunEvent> {
    progress.take(payload, &Notice::read(NAME, payload).unwrap())
}

fn said(content: &str) -> String {
    format!(r#"{{"executionId":"j","content":"{content}"}}"#)
}

#[test]
fn a_packet_that_is_repeated_before_it_is_certain_what_texts_are_takes_no_more_memory() {
    let text = "a text";
    let mut texts = Texts::new(Place::Content, Manners::all_whole(), false);
    let mut shown = texts.advance(text.as_bytes(), 0..text.len());
    for _ in 0..100_000 {
        texts.may_grow();
        let grown = texts.grow(text.as_bytes(), |_| false);
        shown += &grown.unwrap_or_else(|| texts.advance(text.as_bytes(), 0..text.len()));
    }
    assert_eq!(shown, text);
    assert!(texts.bytes() < 40_000, "{}", texts.bytes());
}

#[test]
fn signs_of_life_behind_the_end_of_a_long_revised_text_do_not_read_it_again() {
    let mut progress = Progress::new(LIMIT);
    take(&mut progress, &said("one"));
    take(&mut progress, &said(&"uno ".repeat(1 << 20)));
    let ended = take(&mut progress, r#"{"executionId":"j","finish_reason":"stop"}"#);
    assert!(matches!(&ended[..], [RunEvent::Ending { revised: Some(_), .. }]));
    for _ in 0..10_000 {
        assert_eq!(take(&mut progress, r#"{"executionId":"j"}"#), [RunEvent::Alive]);
    }
}

#[test]
fn short_texts_behind_a_long_one_do_not_read_it_again() {
    let mut progress = Progress::new(LIMIT);
    take(&mut progress, &said("é"));
    take(&mut progress, &said("é, a text of sixteen bytes"));
    take(&mut progress, &said(&format!("é, a text of sixteen bytes{}", "x".repeat(4 << 20))));
    for _ in 0..10_000 {
        assert_eq!(take(&mut progress, &said(r"\u00e9, a")), [RunEvent::Alive]);
    }
}

#[test]
fn of_characters_that_may_be_cut_a_few_are_held_back_and_the_rest_counts() {
    for place in [Place::Content, Place::Delta] {
        let mut texts = Texts::new(place, Arc::default(), false);
        let mut shown = String::new();
        for piece in ["one", "two", "tree", "4"] {
            shown += &texts.advance(piece.as_bytes(), 0..piece.len());
        }
        let cut = "\u{fffd}";
        for _ in 0..100_000 {
            shown += &texts.advance(cut.as_bytes(), 0..cut.len());
        }
        assert!(texts.length() > 290_000, "{}", texts.length());
        shown += &texts.finish();
        assert_eq!(shown, format!("onetwotree4{}", cut.repeat(100_000)));
    }
}

#[test]
fn of_a_packet_that_tells_of_many_runs_each_keeps_its_own_part() {
    let others = vec![r#"{"executionId":"k","content":"a"}"#; 100].join(",");
    let packet = format!("[{},{others}]", said("mine"));
    let mut progress = Progress::new(LIMIT);
    for notice in Notice::all(NAME, &packet).iter().take(1) {
        assert_eq!(progress.take(&packet, notice), [RunEvent::Text("mine".to_owned())]);
    }
    assert!(progress.bytes() < 2_000, "{}", progress.bytes());
}

#[test]
fn an_end_that_was_taken_back_by_a_text_is_told_again() {
    let mut progress = Progress::new(LIMIT);
    take(&mut progress, &said("one"));
    let end = r#"{"executionId":"j","finish_reason":"stop"}"#;
    let ending = [RunEvent::Ending { reason: FinishReason::Stop, revised: None }];
    assert_eq!(take(&mut progress, end), ending);
    assert_eq!(take(&mut progress, end), [RunEvent::Alive]);
    assert_eq!(take(&mut progress, &said("one two")), [RunEvent::Text(" two".to_owned())]);
    assert_eq!(take(&mut progress, end), ending);
}

#[test]
fn what_is_too_long_for_a_usage_is_not_read_and_of_a_long_error_the_words_are() {
    let numbers = vec!["0"; 100_000].join(",");
    let usage =
        format!(r#"{{"executionId":"j","usage":{{"prompt_tokens":7,"each":[{numbers}]}}}}"#);
    assert_eq!(Notice::read(NAME, &usage).unwrap().usage, None);
    let error = format!(r#"{{"executionId":"j","error":{{"each":[{numbers}],"message":"no"}}}}"#);
    let Some(Notice { outcome, .. }) = Notice::read(NAME, &error) else { panic!("no notice") };
    assert_eq!(outcome, RunStatus::Failed(Failure::Refused("no".to_owned())));
    for (error, words) in [
        (r#"{"error":{"message":"a"},"code":"b"}"#, "a"),
        (r#"{"error":"a","code":"b"}"#, "a"),
        (r#"{"code":"b"}"#, "b"),
        (r#"{"message":"c","code":"b","half":"\ud83d"}"#, "c"),
        ("true", "no reason given"),
    ] {
        let event = format!(r#"{{"executionId":"j","error":{error}}}"#);
        let outcome = Notice::read(NAME, &event).unwrap().outcome;
        assert_eq!(outcome, RunStatus::Failed(Failure::Refused(words.to_owned())), "{error}");
    }
}
