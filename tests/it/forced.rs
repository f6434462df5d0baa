//! Answers of models that have to call a tool, as JSON of a schema, against what a client is told of them:
//! `tests/outputs/forced.json`, each read whole, a character at a time, and cut in two at every place.

use langfast2api::chat::Tool;
use langfast2api::chat::tools::Piece;
use langfast2api::chat::tools::forced::{Form, Parser};
use langfast2api::chat::tools::marked::Marker;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const OUTPUTS: &str = include_str!("../outputs/forced.json");

/// What is told of an answer: texts and calls, whether something was left out, and whether the last call was
/// cut.
#[derive(Debug, PartialEq)]
struct Told {
    text: String,
    calls: Vec<(String, String)>,
    left_out: bool,
    is_cut: bool,
}

fn told(form: &Form, tools: &Arc<[Tool]>, pieces: &[&str]) -> Told {
    let marker = Marker::new("48213907");
    let mut parser = Parser::new(form.clone(), tools.clone(), marker, true);
    let mut found = Vec::new();
    pieces.iter().for_each(|piece| parser.push(piece, &mut found));
    parser.finish(&mut found);
    let mut told =
        Told { text: String::new(), calls: Vec::new(), left_out: parser.left_out(), is_cut: false };
    for piece in found {
        match piece {
            Piece::Text(text) => told.text += &text,
            Piece::Begin { name } => told.calls.push((name, String::new())),
            Piece::Arguments(piece) => told.calls.last_mut().unwrap().1 += &piece,
            Piece::Cut => told.is_cut = true,
            _ => {}
        }
    }
    told
}

fn tool(tool: &Value) -> Tool {
    let name = tool["name"].as_str().unwrap().to_owned();
    Tool { name, parameters: Some(tool["parameters"].clone()), ..Tool::default() }
}

/// Whether a client is told what the file says.
fn is_right(output: &Value, told: &Told) -> bool {
    let calls = output["calls"].as_array().unwrap();
    let is_same = |(call, (name, arguments)): (&Value, &(String, String))| {
        let expected = &call["arguments"];
        let read = || serde_json::from_str::<Value>(arguments).unwrap_or(json!(arguments));
        call["name"] == *name && (*expected == read() || *expected == **arguments)
    };
    calls.len() == told.calls.len()
        && calls.iter().zip(&told.calls).all(is_same)
        && told.is_cut == output["cut"].as_bool().unwrap_or(false)
        && told.left_out == output["left_out"].as_bool().unwrap_or(false)
        && (!calls.is_empty() || output["text"] == *told.text)
}

#[test]
fn an_answer_that_has_to_be_a_call_is_read_however_it_is_written_and_cut() {
    let file: Value = serde_json::from_str(OUTPUTS).unwrap();
    let tools: Arc<[Tool]> = file["tools"].as_array().unwrap().iter().map(tool).collect();
    let mut score: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for output in file["outputs"].as_array().unwrap() {
        let form = match output["tool"].as_str() {
            Some(name) => Form::Arguments { name: name.to_owned() },
            None => Form::List,
        };
        let text = output["text"].as_str().unwrap();
        let whole = told(&form, &tools, &[text]);
        let places: Vec<usize> =
            text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let single: Vec<&str> = places.windows(2).map(|at| &text[at[0]..at[1]]).collect();
        assert_eq!(told(&form, &tools, &single), whole, "a character at a time: {text}");
        for at in &places {
            assert_eq!(
                told(&form, &tools, &[&text[..*at], &text[*at..]]),
                whole,
                "at {at}: {text}"
            );
        }
        let (right, all) = score.entry(output["kind"].as_str().unwrap()).or_default();
        *all += 1;
        match is_right(output, &whole) {
            true => *right += 1,
            false => wrong.push(format!("{text}\n  is told as {whole:?}")),
        }
    }
    println!("{score:#?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
