//! Calls between markers in a text: `<call-NONCE name="tool">{…}</call-NONCE>`. The nonce is the
//! request's own, so that only the model knows how to write a call.
//!
//! The nonce alone makes a call: whatever else models make of the form is read, as long as it has one meaning.
//!
//! - `marker`: the form that the model is told
//! - `tag`: the tags, whatever is around the nonce
//! - `body`: what stands between them; `loose`: arguments that are no JSON
//! - `text`, `behind`: the text before and behind calls
//! - `lead`: what stands before a call, and between two; `bullet`: what a line of a list begins with; `label`: words
//!   between two calls
//! - `context`: whether a call is meant, or shown to the reader, by the words of `phrases`, too
//!
//! The reader goes a character at a time, so that it makes no difference how a text was cut; text without calls
//! passes a run at a time. Held back is only what may lead to a call.

mod behind;
mod body;
mod bullet;
mod context;
mod label;
mod lead;
mod loose;
mod marker;
mod phrases;
pub(super) mod tag;
mod text;

use std::sync::Arc;

use super::Piece;
use crate::chat::Tool;
use body::{Body, Step};
use context::{Context, Standing};
use lead::{Lead, Reached};
pub use marker::Marker;

/// Separates text and calls as an answer arrives.
pub struct Parser {
    nonce: String,
    tools: Arc<[Tool]>,
    parallel: bool,
    state: State,
    context: Context,
    /// Text that may lead to a call, or stands behind one.
    held_back: String,
    /// How far of it has been read behind a call.
    reached: Reached,
    /// The present call as it was written, until it is certain to be one.
    raw: String,
    /// Calls that may turn out to be shown.
    pending: Option<Pending>,
    /// What the present call has led to.
    found: Vec<Piece>,
    /// The beginning of an entity, while calls are escaped for HTML.
    entity: Option<String>,
    /// Number of times that `raw` was shown: what is being read again then has been.
    shown: usize,
    /// Number of calls that have ended.
    ended: usize,
    left_out: bool,
    repaired: bool,
    broke_off: bool,
}

enum State {
    /// Before the first call.
    Text,
    /// Within a call.
    Call(Box<Body>),
    /// After a call; another may follow.
    Behind,
    /// No further text is wanted.
    Done,
}

/// Calls of which it is not clear yet whether they are meant.
struct Pending {
    standing: Standing,
    pieces: Vec<Piece>,
}

impl Parser {
    /// Creates a parser for calls of the tools; `parallel` allows more than one call.
    pub fn new(marker: Marker, tools: Arc<[Tool]>, parallel: bool) -> Parser {
        Parser {
            nonce: marker.nonce().to_owned(),
            tools,
            parallel,
            state: State::Text,
            context: Context::default(),
            held_back: String::new(),
            reached: Reached::default(),
            raw: String::new(),
            pending: None,
            found: Vec::new(),
            entity: None,
            shown: 0,
            ended: 0,
            left_out: false,
            repaired: false,
            broke_off: false,
        }
    }

    /// Parses further text and appends the pieces found.
    pub fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        let mut out = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if matches!(self.state, State::Text) && self.passes_held_back(rest, &mut out) {
                let plain = self.plain(rest);
                self.show(&rest[..plain], &mut out);
                rest = &rest[plain..];
                rest = &rest[self.hold_blanks(rest)..];
                if plain > 0 || !self.held_back.is_empty() {
                    continue;
                }
            }
            self.take(c, &mut out, pieces);
            rest = &rest[c.len_utf8()..];
        }
        put_text(&mut out, pieces);
    }

    /// Ends the text, and appends what was held back.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        let mut out = String::new();
        let entity = self.entity.as_mut().map(std::mem::take).unwrap_or_default();
        self.step_all(&entity, &mut out, pieces);
        // What turns out to be no call may be followed by one.
        while let State::Call(body) = &mut self.state {
            let step = body.finish(&mut self.found);
            self.follow(step, &mut out, pieces);
        }
        match self.state {
            State::Text => {
                let held_back = std::mem::take(&mut self.held_back);
                self.broke_off |= held_back.contains(&self.nonce);
                out.push_str(&held_back);
            }
            State::Behind | State::Call(_) | State::Done => {}
        }
        self.decide_at_end(&mut out, pieces);
        put_text(&mut out, pieces);
        self.state = State::Done;
    }

    /// True if no further text is wanted.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// True if something other than a call followed the calls, and was dropped. The model wrote it
    /// without their results, so it is guesswork, mostly about the results.
    pub fn left_out(&self) -> bool {
        self.left_out
    }

    /// True if arguments were not as they had to be, and were repaired.
    pub fn repaired(&self) -> bool {
        self.repaired
    }

    /// True if the text ended within a call or its tag.
    pub fn broke_off(&self) -> bool {
        self.broke_off
    }

    /// Adds to the text that is shown.
    fn show(&mut self, text: &str, out: &mut String) {
        self.context.note(text);
        out.push_str(text);
    }

    fn take(&mut self, c: char, out: &mut String, pieces: &mut Vec<Piece>) {
        if self.pending.is_some() || matches!(&self.state, State::Call(body) if !body.has_begun()) {
            self.raw.push(c);
        }
        let Some(entity) = &mut self.entity else { return self.step(c, out, pieces) };
        entity.push(c);
        if tag::may_be_entity(entity) && tag::entity(entity).is_none() {
            return;
        }
        let (text, is_decoded) = tag::decoded(&std::mem::take(entity));
        self.repaired |= is_decoded && matches!(self.state, State::Call(_));
        self.step_all(&text, out, pieces);
    }

    /// Reads text that has been taken already.
    fn step_all(&mut self, text: &str, out: &mut String, pieces: &mut Vec<Piece>) {
        let shown = self.shown;
        for c in text.chars() {
            if self.shown != shown {
                return;
            }
            self.step(c, out, pieces);
        }
    }

    fn step(&mut self, c: char, out: &mut String, pieces: &mut Vec<Piece>) {
        match &mut self.state {
            State::Text => self.take_text(c, out, pieces),
            State::Call(body) => {
                if c == '&' && self.entity.is_none() && !body.is_verbatim() {
                    // The arguments alone are escaped.
                    self.entity = Some(c.to_string());
                    return;
                }
                let step = body.push(c, &mut self.found);
                self.follow(step, out, pieces);
            }
            State::Behind => self.take_behind(c, out, pieces),
            State::Done => {}
        }
    }

    /// Begins to read a call behind its tag.
    fn enter(&mut self, lead: Lead, out: &mut String, pieces: &mut Vec<Piece>) {
        let is_decoded = self.entity.is_some();
        if lead.is_escaped {
            self.entity = Some(String::new());
        }
        let mut body = Body::new(lead.begin, self.tools.clone(), &self.nonce);
        let closed = body.closed(&mut self.found);
        self.state = State::Call(Box::new(body));
        if !is_decoded && self.raw.ends_with(&lead.rest) {
            self.raw.truncate(self.raw.len() - lead.rest.len());
        }
        if let Some(step) = closed {
            self.follow(step, out, pieces);
        }
        match is_decoded {
            true => self.step_all(&lead.rest, out, pieces),
            false => lead.rest.chars().for_each(|c| self.take(c, out, pieces)),
        }
    }

    /// Passes on what a call has led to.
    fn follow(&mut self, step: Step, out: &mut String, pieces: &mut Vec<Piece>) {
        if let State::Call(body) = &self.state {
            self.repaired |= body.is_repaired();
        }
        self.pass_on(pieces);
        match step {
            Step::Open => {}
            Step::Ended(rest) => {
                let is_enough = !self.parallel && self.pending.is_none() && self.ended > 0;
                self.state = if is_enough { State::Done } else { State::Behind };
                if self.pending.is_none() {
                    self.raw.clear();
                }
                self.step_all(&rest, out, pieces);
            }
            Step::NoCall(rest) => self.leave(&rest, out, pieces),
        }
    }

    /// Handles what looked like a call and is none.
    fn leave(&mut self, rest: &str, out: &mut String, pieces: &mut Vec<Piece>) {
        if self.ended > 0 && self.pending.is_none() {
            self.state = State::Behind;
            self.raw.clear();
            return self.step_all(rest, out, pieces);
        }
        self.shown += 1;
        self.pending = None;
        self.found.clear();
        self.state = State::Text;
        let mut raw = std::mem::take(&mut self.raw);
        // What was escaped is shown with the call.
        let is_apart = self.entity.take().is_none() && raw.ends_with(rest);
        if is_apart {
            raw.truncate(raw.len() - rest.len());
        }
        self.show(&raw, out);
        if is_apart {
            rest.chars().for_each(|c| self.take(c, out, pieces));
        }
    }
}

fn put_text(out: &mut String, pieces: &mut Vec<Piece>) {
    if !out.is_empty() {
        pieces.push(Piece::Text(std::mem::take(out)));
    }
}

#[cfg(test)]
mod tests {
    use super::text::MOST_HELD_BACK;
    use super::*;
    use crate::chat::tools::merged;
    use proptest::prelude::*;
    use serde_json::json;

    fn tools() -> Arc<[Tool]> {
        let tool = |name: &str| Tool {
            name: name.to_owned(),
            parameters: Some(json!({"type": "object", "properties": {"a": {}, "x": {}}})),
            ..Tool::default()
        };
        ["add", "get_weather"].map(tool).into()
    }

    fn parse(pieces: &[&str], parallel: bool) -> (Vec<Piece>, Parser) {
        let mut parser = Parser::new(Marker::new("7f3a"), tools(), parallel);
        let mut found = Vec::new();
        pieces.iter().for_each(|piece| parser.push(piece, &mut found));
        parser.finish(&mut found);
        (merged(found), parser)
    }

    fn found(text: &str) -> Vec<Piece> {
        parse(&[text], true).0
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn called(name: &str, arguments: &str) -> [Piece; 3] {
        let begin = Piece::Begin { name: name.to_owned() };
        [begin, Piece::Arguments(arguments.to_owned()), Piece::End]
    }

    fn text_length(piece: &Piece) -> usize {
        match piece {
            Piece::Text(text) => text.len(),
            other => panic!("{other:?}"),
        }
    }

    const ADD: &str = r#"<call-7f3a name="add">{"a": 1}</call-7f3a>"#;

    #[test]
    fn a_call_is_found_behind_text_and_the_space_between_is_none() {
        let call = called("add", r#"{"a": 1}"#);
        assert_eq!(found(ADD), call);
        let with_text = found(&format!("Let me see.\n\n{ADD}\n"));
        assert_eq!(with_text, [&[text("Let me see.")][..], &call].concat());
    }

    #[test]
    fn a_call_without_arguments_is_written_with_an_empty_object() {
        let call = Marker::new("7f3a").call("add", " ");
        assert_eq!(call, "<call-7f3a name=\"add\">{}</call-7f3a>");
    }

    #[test]
    fn several_calls_are_found_whatever_separates_them() {
        let both = [called("add", "{}"), called("get_weather", r#"{"x":"}"}"#)].concat();
        let (one, two) = (r#"name="add">{}"#, r#"name="get_weather">{"x":"}"}"#);
        for between in [
            "</call-7f3a>",
            "</call-7f3a>\n\n",
            "",
            "\n",
            "</call-7f3a>\n```\n```xml\n",
            "</call-7f3a>,\n---\n</tools>\n2. ",
        ] {
            let written = format!("<call-7f3a {one}{between}<call-7f3a {two}</call-7f3a>");
            assert_eq!(found(&written), both, "{between:?}");
        }
    }

    #[test]
    fn what_is_no_call_stays_text_as_it_is() {
        for written in [
            r#"<call-7f3b name="add">{"a": 1}</call-7f3b>"#,
            r#"<call-7f3a name="NAME">{"a": 1}</call-7f3a>"#,
            r#"<call-7f3a name="add">{…}</call-7f3a>"#,
            r#"<call-7f3a name="add" "#,
            r#"<call-7f3a>{}</call-7f3a>"#,
            r#"<result-7f3a name="add">1</result-7f3a>"#,
            "</call-7f3a>",
            "```python\nprint(1)\n```\n",
            " \n ",
            "a < b",
        ] {
            assert_eq!(found(written), [text(written)], "{written}");
        }
    }

    #[test]
    fn a_call_that_the_text_ends_within_is_told_as_far_as_it_goes() {
        let (pieces, parser) = parse(&[r#"Now: <call-7f3a name="add">{"a": "#], true);
        let begin = Piece::Begin { name: "add".to_owned() };
        let arguments = Piece::Arguments(r#"{"a": "#.to_owned());
        assert_eq!(pieces, [text("Now:"), begin, arguments, Piece::Cut]);
        assert!(parser.broke_off());
        assert!(parse(&["<call-7f3a name=\"a"], true).1.broke_off(), "within its tag");
        assert!(!parse(&[ADD], true).1.broke_off());
    }

    #[test]
    fn what_is_made_up_behind_a_call_is_left_out() {
        let (pieces, parser) = parse(&[ADD, "\n<result-7f3a name=\"add\">\n2"], true);
        assert_eq!(pieces, called("add", r#"{"a": 1}"#));
        assert!(parser.left_out());
        for nothing in ["", "\n", "\n```", "\n```\n", "</call-7f3a>.", " <br/>"] {
            assert!(!parse(&[ADD, nothing], true).1.left_out(), "{nothing:?}");
        }
    }

    #[test]
    fn without_parallel_calls_the_first_is_the_only_one() {
        for written in [[ADD, ADD], ["```\n", ADD]] {
            let (pieces, parser) = parse(&written, false);
            assert_eq!(pieces, called("add", r#"{"a": 1}"#));
            assert!(parser.is_done());
        }
    }

    #[test]
    fn text_is_passed_on_at_once_and_a_beginning_that_is_none_right_behind() {
        let mut parser = Parser::new(Marker::new("7f3a"), tools(), true);
        let mut next = |piece: &str| {
            let mut found = Vec::new();
            parser.push(piece, &mut found);
            merged(found)
        };
        assert_eq!(next("Hello"), [text("Hello")]);
        assert_eq!(next(" <ca"), []);
        assert_eq!(next("t>"), [text(" <cat>")]);
        assert_eq!(next("\n<call-7f3a name=\"add\">{\"a"), []);
        assert_eq!(
            next("\": 1"),
            [Piece::Begin { name: "add".to_owned() }, Piece::Arguments("{\"a\": ".to_owned())]
        );
        assert_eq!(next(", \"b\": \"x y"), [Piece::Arguments("1, \"b\": \"x y".to_owned())]);
        assert!(!parser.is_done());
    }

    #[test]
    fn what_could_lead_to_a_call_is_held_back_only_so_long() {
        let blanks = " ".repeat(10 * MOST_HELD_BACK);
        let mut parser = Parser::new(Marker::new("7f3a"), tools(), true);
        let mut found = Vec::new();
        parser.push(&blanks, &mut found);
        let shown: usize = found.iter().map(text_length).sum();
        assert!(blanks.len() - shown <= MOST_HELD_BACK, "{shown} shown");
        found.clear();
        parser.push(&format!("\n{ADD}"), &mut found);
        assert!(!parser.is_done(), "another call may follow");
        parser.push(&blanks, &mut found);
        assert!(parser.is_done() && parser.left_out());
    }

    /// By the square of its length each of these would take minutes.
    #[test]
    fn what_is_long_in_a_call_is_read_in_time_by_its_length() {
        let gap = " \n".repeat(100_000);
        let words = "so many words, ".repeat(5_000);
        for inside in [
            format!("{gap}{{\"a\": 1}}"),
            format!("{{\"a\": \"b\"{gap}}}"),
            format!("{{\"a\": \"b\",{gap}\"x\": 1}}"),
            format!("{{\"a\": \"b\" +{gap}\"c\"}}"),
            format!("{{\"a\": [\"b\",{gap}1]}}"),
            format!("{{\"a\": \"</call-7f3a>\"{gap}}}"),
            words.clone(),
            format!("{words}<{words}"),
        ] {
            let pieces = found(&format!("<call-7f3a name=\"add\">{inside}</call-7f3a>"));
            let ends = pieces.iter().filter(|piece| **piece == Piece::End).count();
            assert_eq!(ends, 1, "{inside:.40}");
        }
    }

    #[test]
    fn labels_between_many_calls_are_read_in_time_by_their_length() {
        let (one, two) = ("\nThen the 2nd call:".repeat(12), "\n次に第二次调用：".repeat(9));
        let calls = format!("{ADD}{one}\n{ADD}{two}\n").repeat(250);
        let pieces = found(&calls);
        assert_eq!(pieces.iter().filter(|piece| **piece == Piece::End).count(), 500);
    }

    #[test]
    fn elements_may_be_nested_as_deep_as_they_like() {
        let open: String = (0..5_000).map(|at| format!("<e{at}>")).collect();
        let close: String = (0..5_000).rev().map(|at| format!("</e{at}>")).collect();
        let call = format!("<call-7f3a name=\"add\"><a>{open}1{close}</a></call-7f3a>");
        assert!(matches!(&found(&call)[..], [Piece::Begin { .. }, .., Piece::End]));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            parts in prop::collection::vec(prop::sample::select(vec![
                "<call-7f3a name=\"add\">", "{\"a\": \"b\"}", "</call-7f3a>", "```", "json\n", "<", "\"",
                "{", "}", "\\", " ", "\n", "x", "é", "name", "<call-7f3a", "</call", "&lt;", "- ", ":", ",",
                "Call", "2", "nd", "-й", "第", "次に", "\n```\n", "Or", "①", "~~~",
            ]), 0..16),
            cuts: Vec<prop::sample::Index>,
            parallel: bool,
        ) {
            let text = parts.concat();
            let boundary = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| boundary(cut.index(text.len() + 1))).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(parse(&pieces, parallel).0, parse(&[&text], parallel).0);
        }

        #[test]
        fn any_other_text_is_shown_entirely_and_never_held_back_for_long(text in "(?s).{0,400}") {
            prop_assume!(!text.contains("7f3a"));
            let mut parser = Parser::new(Marker::new("7f3a"), tools(), true);
            let (mut found, mut taken) = (Vec::new(), 0);
            for c in text.chars() {
                taken += c.len_utf8();
                parser.push(c.encode_utf8(&mut [0; 4]), &mut found);
                let shown: usize = found.iter().map(text_length).sum();
                prop_assert!(taken - shown <= MOST_HELD_BACK);
            }
            parser.finish(&mut found);
            let shown = merged(found);
            prop_assert!(shown == [Piece::Text(text.clone())] || text.is_empty());
        }
    }
}
