//! JSON as models write it, turned into strict JSON while it arrives.
//!
//! Enters: an object a character at a time. Leaves: the same object, with what is wrong repaired: comments,
//! trailing, doubled and missing commas, words of Python, other quotes, keys and values without quotes,
//! invalid escapes, raw control characters, quotes within strings, missing closers; and values that do not
//! have the type of the tool's schema, where they can be turned into it ([`fit`]). JSON that is strict
//! and fits leaves as it came. Held back are only a key, a word, a comma, what follows a quote until it is
//! clear whether that ends its string ([`quote`]), and a value that has another type than it should.

mod bare;
mod between;
mod fit;
mod key;
mod level;
mod quote;
mod string;
mod string_state;

use serde_json::Value;

use super::slots::{self, Slot};
use crate::chat::values::is_value;
pub use quote::Ends;
use quote::Verdict;
pub use string::quoted;
use string_state::{Escape, StringState};

/// Repairs one object.
pub struct Relaxed {
    ends: Ends,
    /// How many times what is read was taken out of another value: see [`fit::fitting`].
    depth: u8,
    levels: Vec<Level>,
    state: State,
    /// The state before a `<` that the caller has to read.
    before: State,
    /// Characters that are to be read, the next one last.
    queue: Vec<char>,
    /// The schema of the value that comes next.
    slot: Slot,
    /// A comma that has been read and not passed on.
    comma: bool,
    /// White space behind that comma.
    gap: String,
    /// A key and its colon, until it is known whether its value is left out.
    member: String,
    /// Whether the value of that key may be left out if it is null.
    may_lack: bool,
    /// Whether the first member of an object has been left out, so that no comma follows it.
    is_first: bool,
    /// A key or word under way.
    word: String,
    capture: Option<Capture>,
    out: String,
    first_key: Option<String>,
    /// The properties of the schema that the outermost object has had so far.
    known_keys: Vec<String>,
    repaired: bool,
    /// True if a null was left out that stands for what is not given.
    null_left_out: bool,
}

/// An object or list that is open.
struct Level {
    is_object: bool,
    slot: Slot,
}

/// A value that is turned into another type when it is complete.
struct Capture {
    /// The number of open levels around it.
    depth: usize,
    slot: Slot,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A key, or the end of the object, comes next.
    Key,
    /// Within a key that this character ends; without one it is any that no name has.
    InKey(Option<char>),
    /// Behind a key that ends in a colon, and this quote.
    OddKey(char),
    Colon,
    Value,
    /// Within a word without quotes.
    Bare,
    InString(StringState),
    /// Behind a quote that may end the string; what follows it is in `word`.
    Quote(StringState),
    /// Behind a `<` in a string that may begin the end marker, which is in `word`.
    Marker(StringState),
    Behind,
    /// Behind a slash that may begin a comment.
    Slash(Where),
    LineComment(Where),
    /// `true` behind a star.
    BlockComment(Where, bool),
    /// The object is complete.
    Done,
    /// A `<` outside of strings, which the caller has to read; it goes on if that is no marker.
    Stopped,
    /// It cannot be repaired: everything is passed on.
    Broken,
}

/// Where a comment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Key,
    Colon,
    Value,
    Behind,
}

impl Where {
    fn state(self) -> State {
        match self {
            Where::Key => State::Key,
            Where::Colon => State::Colon,
            Where::Value => State::Value,
            Where::Behind => State::Behind,
        }
    }
}

/// Repairs a whole text that is one value of the schema at `slot`; `None` if it cannot be.
pub fn whole(text: &str, root: Option<&Value>, slot: &Slot) -> Option<String> {
    whole_at(text, root, slot, 0)
}

/// The same for a text that was taken out of other values, `depth` times.
fn whole_at(text: &str, root: Option<&Value>, slot: &Slot, depth: u8) -> Option<String> {
    let mut json = Relaxed { depth, slot: slot.clone(), ..Relaxed::new(Ends::default()) };
    json.queue = text.chars().rev().collect();
    json.run(root);
    json.finish(root);
    json.close(root);
    let rest = json.rest();
    let is_all = rest.trim_matches(|c: char| c.is_whitespace() || "}]);,".contains(c)).is_empty();
    let out = json.take();
    (json.is_done() && is_all && is_value(&out)).then_some(out)
}

/// Repairs the object or list that a text begins with, and returns its length in the text, in bytes, too;
/// `None` if it has no end.
pub fn first(text: &str) -> Option<(String, usize)> {
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let mut json = Relaxed { slot: Slot::none(), ..Relaxed::new(Ends::default()) };
    // Where many values follow each other, what is behind this one must not be read for it.
    let mut behind = text.chars();
    while !json.is_done() && !json.is_stopped() {
        let Some(c) = behind.next() else {
            json.finish(None);
            break;
        };
        json.push(c, None);
    }
    let length = text.len() - behind.as_str().len() - json.rest().len();
    json.is_done().then(|| (json.take(), length))
}

impl Relaxed {
    /// Creates a reader of an object; `ends` says what ends it if its closers are missing.
    pub fn new(ends: Ends) -> Relaxed {
        Relaxed {
            ends,
            depth: 0,
            levels: Vec::new(),
            state: State::Value,
            before: State::Value,
            queue: Vec::new(),
            slot: Slot::root(),
            comma: false,
            gap: String::new(),
            member: String::new(),
            may_lack: false,
            is_first: false,
            word: String::new(),
            capture: None,
            out: String::new(),
            first_key: None,
            known_keys: Vec::new(),
            repaired: false,
            null_left_out: false,
        }
    }

    /// Reads a character; `root` is the tool's schema.
    pub fn push(&mut self, c: char, root: Option<&Value>) {
        self.queue.insert(0, c);
        self.run(root);
    }

    fn run(&mut self, root: Option<&Value>) {
        while !matches!(self.state, State::Done | State::Stopped) {
            let Some(c) = self.queue.pop() else { return };
            self.step(c, root);
        }
    }

    /// Takes what is ready to be passed on.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// The object's first key, once it has been read.
    pub fn first_key(&self) -> Option<&str> {
        self.first_key.as_deref()
    }

    /// Reads the rest without regard to a schema.
    pub fn forget_schema(&mut self) {
        self.slot = Slot::none();
        self.levels.iter_mut().for_each(|level| level.slot = Slot::none());
    }

    /// True once the object is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// True at a `<` that may begin a marker; [`Relaxed::rest`] begins with it.
    pub fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// True if the first quote is escaped, so that the object is the inside of a string.
    pub fn is_escaped(&self) -> bool {
        self.state == State::Stopped && self.queue.last() == Some(&'\\')
    }

    /// True within a string.
    pub fn is_in_string(&self) -> bool {
        matches!(
            self.state,
            State::InString(_) | State::Quote(_) | State::Marker(_) | State::InKey(Some(_))
        )
    }

    /// True if something was not strict JSON, or not of the schema's type.
    pub fn is_repaired(&self) -> bool {
        self.repaired || self.null_left_out
    }

    /// The same where null was asked for in the place of what is not given.
    pub fn is_repaired_besides_nulls(&self) -> bool {
        self.repaired
    }

    /// Takes the characters that were read too far.
    pub fn rest(&mut self) -> String {
        std::mem::take(&mut self.queue).into_iter().rev().collect()
    }

    /// Goes on with this text, at whose first character it has stopped, and which begins no marker.
    pub fn resume(&mut self, text: &str, root: Option<&Value>) {
        self.flush();
        self.state = State::Broken;
        let mut text = text.chars();
        text.next().into_iter().for_each(|c| self.put_char(c));
        self.queue.extend(text.rev());
        self.run(root);
    }

    /// Decides what is open because the text has ended.
    pub fn finish(&mut self, root: Option<&Value>) {
        while let State::Quote(string) | State::Marker(string) = self.state {
            match self.state {
                State::Quote(_) => self.end_string(string, root),
                _ => self.end_at_marker(string, root),
            }
            self.run(root);
        }
        if self.levels.is_empty() && self.state == State::Bare {
            self.end_bare(root);
        }
    }

    /// Closes what is open, because the end marker has come.
    pub fn close(&mut self, root: Option<&Value>) {
        if self.state == State::Stopped {
            self.state = self.before;
        }
        match self.state {
            State::InString(string) => self.end_string(string, root),
            State::Bare => self.end_bare(root),
            State::LineComment(at) | State::BlockComment(at, _) => self.state = at.state(),
            _ => {}
        }
        let is_list = self.levels.last().is_some_and(|level| !level.is_object);
        match self.state {
            State::Behind | State::Key => {}
            State::Value if is_list => {}
            _ => return self.flush(),
        }
        while let (Some(level), true) = (self.levels.last(), self.state != State::Done) {
            self.repaired = true;
            self.end_level(level.is_object, root);
        }
    }

    /// True if nothing can follow but the end of the object: it has all properties of the schema, and each
    /// of them is complete.
    pub fn lacks_only_its_end(&self, root: Option<&Value>) -> bool {
        let mut own = slots::properties(root).peekable();
        self.state == State::Behind
            && self.levels.len() == 1
            && own.peek().is_some()
            && own.all(|name| self.known_keys.contains(name))
    }

    /// Passes on all that is held back as it is, because nothing more comes.
    pub fn flush(&mut self) {
        self.separate();
        if let State::InKey(Some(_)) = self.state {
            self.put("\"");
        }
        if let State::InString(StringState { escape, .. }) = self.state {
            match escape {
                Escape::None => {}
                Escape::Slash => self.put("\\"),
                Escape::Unicode(_) => self.put("\\u"),
                Escape::Drive(letter) => {
                    self.put("\\");
                    self.put_char(letter);
                }
            }
        }
        let word = std::mem::take(&mut self.word);
        self.put(&word);
        if let Some(capture) = self.capture.take() {
            self.out.push_str(&capture.text);
        }
    }

    fn put(&mut self, text: &str) {
        match &mut self.capture {
            Some(capture) => capture.text.push_str(text),
            None => self.out.push_str(text),
        }
    }

    fn put_char(&mut self, c: char) {
        self.put(c.encode_utf8(&mut [0; 4]));
    }

    fn step(&mut self, c: char, root: Option<&Value>) {
        let c = self.half_width(c);
        match self.state {
            State::Key => self.key(c, root),
            State::InKey(end) => self.in_key(c, end, root),
            State::OddKey(end) => self.behind_odd_key(c, end, root),
            State::Colon => self.colon(c, root),
            State::Value => self.value(c, root),
            State::Bare => self.bare(c, root),
            State::InString(string) => self.in_string(c, string),
            State::Quote(string) => self.behind_quote(c, string, root),
            State::Marker(string) => self.in_marker(c, string, root),
            State::Behind => self.behind(c, root),
            State::Slash(at) => self.slash(c, at),
            State::LineComment(at) if c == '\n' => {
                self.state = at.state();
                self.blank(c);
            }
            State::BlockComment(at, star) => {
                let ends = star && c == '/';
                self.state = if ends { at.state() } else { State::BlockComment(at, c == '*') };
            }
            State::Broken if c == '<' => self.stop(c),
            State::Broken => self.put_char(c),
            State::LineComment(_) | State::Done | State::Stopped => {}
        }
    }

    fn stop(&mut self, c: char) {
        self.queue.push(c);
        self.before = std::mem::replace(&mut self.state, State::Stopped);
    }

    /// Passes on `c`, which makes no sense, and everything behind it.
    fn give_up(&mut self, c: char) {
        self.flush();
        self.state = State::Broken;
        self.put_char(c);
    }

    /// Passes on the comma and the key before a value.
    fn separate(&mut self) {
        if std::mem::take(&mut self.comma) {
            self.put(",");
        }
        let gap = std::mem::take(&mut self.gap);
        self.put(&gap);
        let member = std::mem::take(&mut self.member);
        self.put(&member);
    }

    fn behind_quote(&mut self, c: char, string: StringState, root: Option<&Value>) {
        self.word.push(c);
        if self.is_blank_again() {
            return;
        }
        match quote::judge(&self.word, &self.levels, string, &self.ends) {
            Verdict::More => {}
            Verdict::Closing if self.is_before_inner_key(string, root) => {
                self.go_on_behind_quote(string);
            }
            Verdict::Closing => self.end_string(string, root),
            Verdict::Inner => self.go_on_behind_quote(string),
            Verdict::Triple => self.begin_triple(string),
            Verdict::Joined(length) => {
                self.repaired = true;
                self.word.drain(..length);
                self.state = State::InString(string);
                self.requeue();
            }
        }
    }

    /// True if `word` ends in white space behind other white space, and is so long that this decides nothing:
    /// to judge each character of a long gap again would take ever longer.
    fn is_blank_again(&self) -> bool {
        let mut last = self.word.chars().rev();
        let mut is_blank = || last.next().is_some_and(char::is_whitespace);
        self.word.len() > quote::FARTHEST && is_blank() && is_blank()
    }

    /// Reads once more what was held back in `word`.
    fn requeue(&mut self) {
        let word = std::mem::take(&mut self.word);
        self.queue.extend(word.chars().rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What an object is repaired to.
    fn repaired(text: &str) -> String {
        whole(text, None, &Slot::none()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn what_models_write_for_json_becomes_json() {
        for (written, expected) in [
            (r#"{"a":1,}"#, r#"{"a":1}"#),
            (r#"{"a":[1,2,],}"#, r#"{"a":[1,2]}"#),
            (r#"{a: True, 'b': None}"#, r#"{"a": true, "b": null}"#),
            (r#"{"a" => "b"}"#, r#"{"a" : "b"}"#),
            ("{\"a\":1 // x\n,\"b\":2}", "{\"a\":1 \n,\"b\":2}"),
            (r#"{"a":"x "y" z"}"#, r#"{"a":"x \"y\" z"}"#),
            (r#"{"a":"f["b"]"}"#, r#"{"a":"f[\"b\"]"}"#),
            (r#"{"a":"\d\'\$"}"#, r#"{"a":"\\d'\\$"}"#),
            (r#"{"a":"C:\new\x"}"#, r#"{"a":"C:\\new\\x"}"#),
            (r#"{"a":"\u00e9\u12x"}"#, r#"{"a":"\u00e9\\u12x"}"#),
            ("{\"a\":\"x\ny\"}", r#"{"a":"x\ny"}"#),
            (
                r#"{"a":+.5,"b":0x1F,"c":007,"d":1_000,"e":5.}"#,
                r#"{"a":0.5,"b":31,"c":7,"d":1000,"e":5.0}"#,
            ),
            (r#"{"a":{"b":[1"#, r#"{"a":{"b":[1]}}"#),
            (r#"{"a":"x" "b":2}"#, r#"{"a":"x" ,"b":2}"#),
            (r#"{“a”: ‘b"c’}"#, r#"{"a": "b\"c"}"#),
        ] {
            assert_eq!(repaired(written), expected, "{written}");
        }
    }

    #[test]
    fn what_cannot_be_repaired_is_passed_on() {
        let mut json = Relaxed::new(Ends::default());
        r#"{"a": }"#.chars().for_each(|c| json.push(c, None));
        json.close(None);
        assert_eq!((json.take().as_str(), json.is_done()), (r#"{"a": }"#, false));
    }

    #[test]
    fn what_is_nested_beyond_all_measure_is_passed_on_and_takes_no_more_memory() {
        let text = "[".repeat(3 * level::MOST_LEVELS);
        let mut json = Relaxed::new(Ends::default());
        text.chars().for_each(|c| json.push(c, None));
        assert_eq!(json.levels.len(), level::MOST_LEVELS);
        assert!(json.take() == text, "all of it, as it came");
    }

    #[test]
    fn only_nulls_that_stand_for_nothing_are_left_out() {
        let schema = serde_json::json!({
            "type": "object",
            "properties": {
                "a": {"type": "string"},
                "b": {"type": ["string", "null"]},
                "c": {"type": "array", "items": {"$ref": "#/$defs/c"}},
                "d": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"x": {"type": "string"}}}]},
                "e": {"type": "string"},
                "f": {"type": "integer", "nullable": true},
            },
            "required": ["e"],
            "$defs": {"c": {"type": "object", "properties": {
                "a": {"type": "integer"}, "c": {"type": "array", "items": {"$ref": "#/$defs/c"}}
            }}},
        });
        let written = r#"{"a":null, "b":null,"c":[{"a":null,"c":[{"a": null }]},{"c":[],"a":null,"x":1}],
            "d":{"x":None},"e":null,"z":null,"f":null}"#;
        let left = serde_json::json!({
            "b": null, "c": [{"c": [{}]}, {"c": [], "x": 1}], "d": {}, "e": null, "z": null, "f": null
        });
        let read = whole(written, Some(&schema), &Slot::root()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), left, "{read}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = r#"[a-z"\\{}\[\]:, <`'é\n/#=+-]{0,12}"#;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text, inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn strict_json_leaves_as_it_came(value in any_json(), pretty: bool) {
            let value = serde_json::json!({"a": value});
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let mut json = Relaxed::new(Ends::default());
            text.chars().for_each(|c| json.push(c, None));
            json.finish(None);
            prop_assert!(json.is_done() && !json.is_repaired());
            prop_assert_eq!(json.take(), text);
        }
    }
}
