//! The texts that a run can answer with, and how they are cut into the pieces of its events.

use std::iter;

/// The most events that a text gets when the run does not say how many.
const MOST_EVENTS: usize = 2000;

/// How many events a text of `bytes=` bytes gets when the run does not say.
const EVENTS_OF_BYTES: usize = 100;

const LOREM: &str = "\
The harbour wakes before the town does. Nets are hauled up, shaken, and laid out along the quay; \
a radio plays to nobody. By six, two boats have left and one has come back with less than it \
hoped for.

\"Not today,\" says the skipper, and counts the crates again: eleven, not twelve. Gulls argue \
over the difference. Further along, where the road bends away from the water, the baker has \
opened her door to let the heat out - that is how most people here learn what time it is.

Nobody hurries. There are three kinds of weather, an old joke says: rain, the end of rain, and \
the start of it. Even so, the light on the slate roofs at noon is worth the walk up the hill, \
and those who make it usually stay a while, saying little. ";

const UNICODE: &str = "\
Caf\u{e9} and cafe\u{301}; \u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}\u{3002} \u{1f600} \u{1f468}\
\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466} \u{1f3f3}\u{fe0f}\u{200d}\u{1f308} \
\u{1f44d}\u{1f3fd} \u{1f1e9}\u{1f1f0} \u{d55c}\u{ad6d}\u{c5b4} \u{1112}\u{1161}\u{11ab} \
\u{645}\u{631}\u{62d}\u{628}\u{627} \u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947} \u{e01}\u{e33} \
z\u{335}\u{321}\u{33f}a\u{334}\u{30a} \
\u{1d517}\u{1d522}\u{1d535}\u{1d531} \u{20bb7} \u{2028}\u{fffd} ";

const CODE: &str = "\
```python
def greet(name: str, *, times: int = 1) -> list[str]:
    \"\"\"Say hello, more than once if need be.\"\"\"
    return [f\"Hello, {name}! \\\\o/ <b>&amp;</b> \\t{i}\" for i in range(times)]

if __name__ == \"__main__\":
\tprint(\"\\n\".join(greet('w\\u00f6rld', times=3)))
```
";

const JSON: &str = concat!(
    r#"{ "name": "LangFast", "answer": 42, "ratio": -1.5e3, "open": true, "none": null, "#,
    r#""list": [1, "two", { "three": 3 }], "quoted": "a \"b\" \\ c\n" }"#,
);

/// A kind of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// This text.
    Say(String),
    /// `1 2 3 …`
    Count,
    /// Prose, with paragraphs and all sorts of punctuation.
    Lorem,
    /// Emoji, ZWJ sequences, flags, combining marks, CJK, right-to-left: one code point an event.
    Unicode,
    /// A valid JSON object.
    Json,
    /// A fenced block of code with quotes, backslashes and tabs.
    Code,
}

impl Text {
    /// The pieces of the text, one an event; at least one, and exactly `events` if that is given.
    ///
    /// With `bytes`, the text is made about that long: repeated, or cut. With `events` alone, a
    /// text that has no end is as long as it takes, and another one is cut evenly.
    pub fn pieces(&self, events: Option<usize>, bytes: Option<usize>) -> Vec<String> {
        match (events, bytes) {
            (None, None) => at_most(MOST_EVENTS, self.units()),
            (events, Some(bytes)) => {
                split(&self.of_length(bytes), events.unwrap_or(EVENTS_OF_BYTES))
            }
            (Some(events), None) => match self {
                Self::Say(text) => split(text, events),
                Self::Json => split(JSON, events),
                _ => self.endless().take(events).collect(),
            },
        }
    }

    /// The text once, in its natural pieces.
    fn units(&self) -> Vec<String> {
        match self {
            Self::Say(text) => words(text),
            Self::Count => (1..=20).map(|number| format!("{number} ")).collect(),
            Self::Lorem => words(LOREM),
            Self::Unicode => UNICODE.chars().map(String::from).collect(),
            Self::Json => words(JSON),
            Self::Code => words(CODE),
        }
    }

    /// The text over and over, in its natural pieces.
    fn endless(&self) -> Box<dyn Iterator<Item = String>> {
        match self {
            Self::Count => Box::new((1..).map(|number: u64| format!("{number} "))),
            _ => Box::new(self.units().into_iter().cycle()),
        }
    }

    /// The text, repeated or cut to about this many bytes; JSON is filled up and stays valid.
    fn of_length(&self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes);
        if *self == Self::Json {
            let frame = r#"{ "answer": 42, "filler": "" }"#;
            let filler = "x".repeat(bytes.saturating_sub(frame.len()));
            return format!(r#"{{ "answer": 42, "filler": "{filler}" }}"#);
        }
        for piece in self.endless() {
            if text.len() >= bytes || piece.is_empty() {
                break;
            }
            text.push_str(&piece);
        }
        text.truncate(boundary(&text, bytes));
        text
    }
}

/// The text in words, each with the white space after it; an empty text is one empty word.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut after_space = false;
    for (at, character) in text.char_indices() {
        if after_space && !character.is_whitespace() {
            words.push(text[start..at].to_owned());
            start = at;
        }
        after_space = character.is_whitespace();
    }
    words.push(text[start..].to_owned());
    words
}

/// The pieces, or their text in fewer if they are too many.
fn at_most(most: usize, pieces: Vec<String>) -> Vec<String> {
    if pieces.len() <= most { pieces } else { split(&pieces.concat(), most) }
}

/// The text in this many pieces of about the same length, some empty if it is too short.
fn split(text: &str, pieces: usize) -> Vec<String> {
    let pieces = pieces.max(1);
    let ends = (1..=pieces).map(|nth| boundary(text, text.len() * nth / pieces));
    let starts = iter::once(0).chain(ends.clone());
    starts.zip(ends).map(|(start, end)| text[start..end].to_owned()).collect()
}

/// The last character boundary at or before this byte.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}
