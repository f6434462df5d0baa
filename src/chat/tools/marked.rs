//! Calls between markers in a text: `<call-NONCE name="tool">{…}</call-NONCE>`. The nonce is the
//! request's own, so that only the model knows how to write a call.
//!
//! The parser tolerates what models make of the form: a Markdown fence around a call or its
//! arguments, single quotes, white space, further attributes, a missing end marker, and the
//! namespace `functions.` from OpenAI's own form. Text that only begins like a call (another name,
//! no object after the marker) stays text.

use super::Piece;
use super::cursor::{Cursor, Miss};
use super::object::ObjectEnd;

/// Most bytes of text that are held back while they may begin a call. Of longer white space before
/// a call, the beginning is shown.
const MOST_HELD_BACK: usize = 300;
/// Longest name of a tool, in bytes.
const LONGEST_NAME: usize = 128;
/// The prefix that models trained on OpenAI's own form may put before a name.
const NAMESPACE: &str = "functions.";

/// The text around a call in this request.
#[derive(Clone, Debug)]
pub struct Marker {
    /// `<call-NONCE`
    begin: String,
    /// `</call-NONCE>`
    end: String,
}

impl Marker {
    /// Creates the marker with this nonce.
    pub fn new(nonce: &str) -> Marker {
        Marker { begin: format!("<call-{nonce}"), end: format!("</call-{nonce}>") }
    }

    /// What each call begins with.
    pub fn begin(&self) -> &str {
        &self.begin
    }

    /// Returns a call in the form that the model must write.
    pub fn call(&self, name: &str, arguments: &str) -> String {
        format!("{} name=\"{name}\">{arguments}{}", self.begin, self.end)
    }
}

/// Separates text and calls as an answer arrives.
pub struct Parser {
    marker: Marker,
    names: Vec<String>,
    parallel: bool,
    state: State,
    /// Text that may be part of a marker.
    held_back: String,
    /// The current call as the model wrote it.
    raw: String,
    left_out: bool,
}

enum State {
    /// Before the first call.
    Text,
    /// Within the arguments of a call.
    Arguments(ObjectEnd),
    /// After a call; another may follow.
    Behind,
    /// No further text is wanted.
    Done,
}

impl Parser {
    /// Creates a parser for calls of the tools `names`; `parallel` allows more than one call.
    pub fn new(marker: Marker, names: Vec<String>, parallel: bool) -> Parser {
        Parser {
            marker,
            names,
            parallel,
            state: State::Text,
            held_back: String::new(),
            raw: String::new(),
            left_out: false,
        }
    }

    /// Parses further text and appends the pieces found.
    pub fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        let mut out = String::new();
        for c in text.chars() {
            match &mut self.state {
                State::Text => self.take_text(c, &mut out, pieces),
                State::Arguments(_) => self.take_arguments(c, &mut out, pieces),
                State::Behind => self.take_behind(c, pieces),
                State::Done => break,
            }
        }
        self.put_out(&mut out, pieces);
    }

    /// Ends the text, and appends what was held back.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        let mut out = std::mem::take(&mut self.held_back);
        match self.state {
            State::Text | State::Arguments(_) => self.put_out(&mut out, pieces),
            State::Behind => self.left_out |= !is_trimming(&out, &self.marker),
            State::Done => {}
        }
        if let State::Arguments(_) = self.state {
            pieces.push(Piece::Cut { raw: std::mem::take(&mut self.raw) });
        }
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

    fn put_out(&mut self, out: &mut String, pieces: &mut Vec<Piece>) {
        if out.is_empty() {
            return;
        }
        let out = std::mem::take(out);
        pieces.push(match self.state {
            State::Arguments(_) => Piece::Arguments(out),
            _ => Piece::Text(out),
        });
    }

    fn take_text(&mut self, c: char, out: &mut String, pieces: &mut Vec<Piece>) {
        let may_begin = c.is_whitespace() || c == '`' || c == '<';
        if self.held_back.is_empty() && !may_begin {
            return out.push(c);
        }
        self.held_back.push(c);
        while !self.held_back.is_empty() {
            match self.lead(&self.held_back) {
                Ok(name) => return self.begin(name, out, pieces),
                Err(Miss::More) if self.held_back.len() <= MOST_HELD_BACK => return,
                // No call begins at the first character, but one may begin after it.
                Err(_) => out.push(self.held_back.remove(0)),
            }
        }
    }

    /// Begins the call whose marker is held back, up to and including the opening brace.
    fn begin(&mut self, name: String, out: &mut String, pieces: &mut Vec<Piece>) {
        self.put_out(out, pieces);
        self.raw = std::mem::take(&mut self.held_back);
        let mut end = ObjectEnd::default();
        end.push('{', out);
        self.state = State::Arguments(end);
        pieces.push(Piece::Begin { name });
    }

    fn take_arguments(&mut self, c: char, out: &mut String, pieces: &mut Vec<Piece>) {
        self.raw.push(c);
        self.held_back.push(c);
        if self.held_back == self.marker.end {
            // The end marker comes before the object's end: the arguments are cut, but the call is
            // over.
            self.held_back.clear();
            return self.end(out, pieces);
        }
        if self.marker.end.starts_with(&self.held_back) {
            return;
        }
        let held_back = std::mem::take(&mut self.held_back);
        // Only the last character can begin another marker.
        let again = self.marker.end.starts_with(c) && held_back.len() > c.len_utf8();
        let State::Arguments(object) = &mut self.state else { return };
        let taken = if again { &held_back[..held_back.len() - 1] } else { &held_back };
        let closed = taken.chars().any(|c| object.push(c, out));
        if again {
            self.held_back.push(c);
        }
        if closed {
            self.end(out, pieces);
        }
    }

    fn end(&mut self, out: &mut String, pieces: &mut Vec<Piece>) {
        self.put_out(out, pieces);
        self.raw.clear();
        self.state = if self.parallel { State::Behind } else { State::Done };
        pieces.push(Piece::End);
    }

    /// Handles a character after a call: the end marker, fences and another call may follow;
    /// anything else ends the calls.
    fn take_behind(&mut self, c: char, pieces: &mut Vec<Piece>) {
        self.held_back.push(c);
        let mut cursor = Cursor::new(&self.held_back);
        let missed = skip_end(&mut cursor, &self.marker);
        let lead = missed.and_then(|()| self.lead(cursor.rest));
        match lead {
            Ok(name) => {
                let mut out = String::new();
                self.begin(name, &mut out, pieces);
                self.put_out(&mut out, pieces);
            }
            Err(Miss::More) if self.held_back.len() <= MOST_HELD_BACK => {}
            Err(_) => {
                self.left_out = true;
                self.held_back.clear();
                self.state = State::Done;
            }
        }
    }

    /// Returns the name of the tool that `text` begins to call; it must be a complete marker up to
    /// and including the opening brace of the arguments.
    fn lead(&self, text: &str) -> Result<String, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.fence()?;
        cursor.word(&self.marker.begin)?;
        cursor.one_of(&[' ', '\n', '\t', '\r'])?;
        cursor.blanks();
        cursor.word("name")?;
        cursor.blanks();
        cursor.word("=")?;
        cursor.blanks();
        let quote = cursor.one_of(&['"', '\''])?;
        let is_in_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let name = cursor.until(quote, NAMESPACE.len() + LONGEST_NAME, is_in_name)?;
        let name = name.strip_prefix(NAMESPACE).unwrap_or(name);
        cursor.until('>', 64, |c| c != '<' && c != '\n')?;
        if !self.names.iter().any(|known| known == name) {
            return Err(Miss::Never);
        }
        cursor.fence()?;
        cursor.word("{")?;
        Ok(name.to_owned())
    }
}

/// Skips what may stand between a call's arguments and the next call.
fn skip_end(cursor: &mut Cursor<'_>, marker: &Marker) -> Result<(), Miss> {
    // A fence may be closed before the end marker, behind it, or both.
    cursor.fence()?;
    match cursor.word(&marker.end) {
        Err(Miss::More) => return Err(Miss::More),
        Ok(()) | Err(Miss::Never) => {}
    }
    cursor.fence()
}

/// True if `text` holds nothing but the end of a call, or a part of it.
fn is_trimming(text: &str, marker: &Marker) -> bool {
    let mut cursor = Cursor::new(text);
    skip_end(&mut cursor, marker) == Err(Miss::More) || cursor.rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::tools::merged;
    use proptest::prelude::*;

    fn parse(pieces: &[&str], parallel: bool) -> (Vec<Piece>, Parser) {
        let names = ["add", "get_weather"].map(str::to_owned).to_vec();
        let mut parser = Parser::new(Marker::new("7f3a"), names, parallel);
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
    fn several_calls_are_found_whatever_separates_them() {
        let both = [called("add", "{}"), called("get_weather", r#"{"x":"}"}"#)].concat();
        let (one, two) = (r#"name="add">{}"#, r#"name="get_weather">{"x":"}"}"#);
        for between in ["</call-7f3a>", "</call-7f3a>\n\n", "", "\n", "</call-7f3a>\n```\n```xml\n"]
        {
            let written = format!("<call-7f3a {one}{between}<call-7f3a {two}</call-7f3a>");
            assert_eq!(found(&written), both, "{between:?}");
        }
    }

    #[test]
    fn what_models_make_of_the_form_is_put_up_with() {
        let call = called("add", r#"{"a": 1}"#);
        for written in [
            "```xml\n<call-7f3a name=\"add\">{\"a\": 1}</call-7f3a>\n```",
            "```\n<call-7f3a name=\"add\">\n{\"a\": 1}\n</call-7f3a>\n```\n",
            "<call-7f3a name=\"add\">\n```json\n{\"a\": 1}\n```\n</call-7f3a>",
            "<call-7f3a name='add'>{\"a\": 1}</call-7f3a>",
            "<call-7f3a name=\"functions.add\">{\"a\": 1}</call-7f3a>",
            "<call-7f3a  name = \"add\" id=\"1\" >{\"a\": 1}",
            "\n <call-7f3a\nname=\"add\"> {\"a\": 1} ",
        ] {
            assert_eq!(found(written), call, "{written}");
        }
    }

    #[test]
    fn what_is_no_call_stays_text_as_it_is() {
        for written in [
            r#"<call-7f3b name="add">{"a": 1}</call-7f3b>"#,
            r#"<call-7f3a name="subtract">{"a": 1}</call-7f3a>"#,
            r#"<call-7f3a name="add">a</call-7f3a>"#,
            r#"<call-7f3a name="add" "#,
            r#"<call-7f3a>{}</call-7f3a>"#,
            "</call-7f3a>",
            "```python\nprint(1)\n```\n",
            " \n ",
            "a < b",
        ] {
            assert_eq!(found(written), [text(written)], "{written}");
        }
    }

    #[test]
    fn a_call_that_the_text_ends_within_is_told_as_written() {
        let written = r#"Now: <call-7f3a name="add">{"a": "#;
        let begin = Piece::Begin { name: "add".to_owned() };
        let arguments = Piece::Arguments(r#"{"a": "#.to_owned());
        let cut = Piece::Cut { raw: r#" <call-7f3a name="add">{"a": "#.to_owned() };
        assert_eq!(found(written), [text("Now:"), begin, arguments, cut]);
    }

    #[test]
    fn the_end_marker_ends_a_call_whose_braces_do_not() {
        let written = r#"<call-7f3a name="add">{"a": {"b": 1}</call-7f3a>"#;
        assert_eq!(found(written), called("add", r#"{"a": {"b": 1}"#));
        let twice = r#"<call-7f3a name="add">{"a": {"b": 1} <</call-7f3a>"#;
        assert_eq!(found(twice), called("add", r#"{"a": {"b": 1} <"#));
        let html = r#"<call-7f3a name="add">{"a": "<b></b></call>"}</call-7f3a>"#;
        assert_eq!(found(html), called("add", r#"{"a": "<b></b></call>"}"#));
    }

    #[test]
    fn what_is_made_up_behind_a_call_is_left_out() {
        let (pieces, parser) = parse(&[ADD, "\n<result-7f3a name=\"add\">\n2"], true);
        assert_eq!(pieces, called("add", r#"{"a": 1}"#));
        assert!(parser.left_out());
        for nothing in ["", "\n", "\n```", "\n```\n"] {
            assert!(!parse(&[ADD, nothing], true).1.left_out(), "{nothing:?}");
        }
    }

    #[test]
    fn without_parallel_calls_the_first_is_the_only_one() {
        let (pieces, parser) = parse(&[ADD, ADD], false);
        assert_eq!(pieces, called("add", r#"{"a": 1}"#));
        assert!(parser.is_done());
    }

    #[test]
    fn text_is_passed_on_at_once_and_a_beginning_that_is_none_right_behind() {
        let mut parser = Parser::new(Marker::new("7f3a"), vec!["add".to_owned()], true);
        let mut next = |piece: &str| {
            let mut found = Vec::new();
            parser.push(piece, &mut found);
            merged(found)
        };
        assert_eq!(next("Hello"), [text("Hello")]);
        assert_eq!(next(" <ca"), []);
        assert_eq!(next("t>"), [text(" <cat>")]);
        assert_eq!(
            next("<call-7f3a name=\"add\">{\"a"),
            [Piece::Begin { name: "add".to_owned() }, Piece::Arguments("{\"a".to_owned())]
        );
        assert_eq!(next("\": 1"), [Piece::Arguments("\": 1".to_owned())]);
        assert!(!parser.is_done());
    }

    #[test]
    fn what_could_lead_to_a_call_is_held_back_only_so_long() {
        let blanks = " ".repeat(10 * MOST_HELD_BACK);
        let mut parser = Parser::new(Marker::new("7f3a"), vec!["add".to_owned()], true);
        let mut found = Vec::new();
        parser.push(&blanks, &mut found);
        let shown: usize = found.iter().map(text_length).sum();
        assert!(blanks.len() - shown <= MOST_HELD_BACK, "{shown} shown");
        found.clear();
        parser.push(ADD, &mut found);
        assert!(!parser.is_done(), "another call may follow");
        parser.push(&blanks, &mut found);
        assert!(parser.is_done() && parser.left_out());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            parts in prop::collection::vec(prop::sample::select(vec![
                "<call-7f3a name=\"add\">", "{\"a\": \"b\"}", "</call-7f3a>", "```", "json\n", "<", "\"",
                "{", "}", "\\", " ", "\n", "x", "é", "name", "<call-7f3a", "</call",
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
            prop_assume!(!text.contains("<call-7f3a"));
            let mut parser = Parser::new(Marker::new("7f3a"), vec!["add".to_owned()], true);
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
