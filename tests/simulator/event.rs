//! The events of a run, as the packets that they are on the wire.
//!
//! Payloads are put together as JSON text: `content` grows with every event, and what is already
//! escaped need not be escaped again.

use std::ops::Range;

use axum::extract::ws::Utf8Bytes;

use super::script::Surrogates;

/// How an error event says that it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorForm {
    /// `"error":{"message":"…"}`
    Object,
    /// `"error":"…"`
    Text,
    /// By its status only.
    Status,
}

impl ErrorForm {
    pub const NAMES: &[(&str, Self)] =
        &[("object", Self::Object), ("string", Self::Text), ("status", Self::Status)];
}

/// A Socket.IO event packet on the default namespace: `42["name",payload]`.
pub struct Event {
    name: String,
    frame: Utf8Bytes,
    payload: Range<usize>,
}

impl Event {
    /// An event whose payload is the JSON that `write` appends.
    pub fn new(name: &str, write: impl FnOnce(&mut String)) -> Self {
        let mut frame = format!("42[\"{name}\",");
        let start = frame.len();
        write(&mut frame);
        let payload = start..frame.len();
        frame.push(']');
        Self { name: name.to_owned(), frame: frame.into(), payload }
    }

    /// The same event with its payload as a JSON string that holds the JSON.
    pub fn with_payload_as_string(self) -> Self {
        Self::new(&self.name, |json| json.push_str(&quoted(self.payload())))
    }

    /// The same event, to be acknowledged under this id; on the literal socket only.
    pub fn with_ack(self, id: usize) -> Self {
        let frame = format!("42{id}{}", &self.frame["42".len()..]);
        let more = frame.len() - self.frame.len();
        let payload = self.payload.start + more..self.payload.end + more;
        Self { name: self.name, frame: frame.into(), payload }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole packet.
    pub fn frame(&self) -> &Utf8Bytes {
        &self.frame
    }

    /// The payload's JSON.
    pub fn payload(&self) -> &str {
        &self.frame[self.payload.clone()]
    }
}

/// The payload of an event of a run that goes on or has come to its end.
pub struct Chunk<'a> {
    /// The job that it belongs to; on the wire `executionId`.
    pub execution_id: &'a str,
    pub status: &'a str,
    pub finish_reason: Option<&'a str>,
    pub content: Content<'a>,
    /// Unix time in microseconds.
    pub sent_at: Option<u64>,
}

/// The `content` of a chunk.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// Text that is JSON-escaped already.
    Escaped(&'a str),
    Null,
    /// The key is not there.
    Missing,
}

impl Chunk<'_> {
    /// Appends the payload's JSON, its keys in the order in which LangFast sends them.
    pub fn write(&self, json: &mut String) {
        json.push_str("{\"executionId\":");
        json.push_str(&quoted(self.execution_id));
        json.push_str(",\"status\":");
        json.push_str(&quoted(self.status));
        json.push_str(",\"finish_reason\":");
        json.push_str(&self.finish_reason.map_or("null".to_owned(), quoted));
        match self.content {
            Content::Escaped(text) => {
                // The text may be long: make room once, for what follows it too.
                json.reserve(text.len() + 64);
                json.push_str(",\"content\":\"");
                json.push_str(text);
                json.push('"');
            }
            Content::Null => json.push_str(",\"content\":null"),
            Content::Missing => {}
        }
        if let Some(micros) = self.sent_at {
            json.push_str(",\"sentAt\":");
            json.push_str(&micros.to_string());
        }
        json.push('}');
    }
}

/// The payload of an event that ends a run by an error.
pub fn error_json(execution_id: &str, status: &str, message: &str, form: ErrorForm) -> String {
    let start = format!("{{\"executionId\":{},\"status\":{}", quoted(execution_id), quoted(status));
    let message = quoted(message);
    match form {
        ErrorForm::Object => format!("{start},\"error\":{{\"message\":{message}}}}}"),
        ErrorForm::Text => format!("{start},\"error\":{message}}}"),
        ErrorForm::Status => format!("{start}}}"),
    }
}

/// A JSON string with its quotes.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string becomes JSON")
}

/// The text so far, JSON-escaped, and how far each event's text went.
#[derive(Default)]
pub struct Answer {
    escaped: String,
    /// The length of the text after each event, without the half character that it may have ended
    /// in.
    ends: Vec<usize>,
}

impl Answer {
    /// Adds the next event's piece of text.
    pub fn push(&mut self, piece: &Fragment) {
        self.escaped.truncate(self.end());
        self.escaped.push_str(&piece.escaped);
        self.ends.push(self.escaped.len());
        self.escaped.push_str(&piece.half);
    }

    /// Replaces the last piece by another word.
    pub fn revise(&mut self) {
        if self.ends.pop().is_some() {
            self.push(&Fragment::new("REVISED "));
        }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.escaped
    }

    /// What the last event has added to it.
    pub fn last_piece(&self) -> &str {
        let before = self.ends.len().checked_sub(2).map_or(0, |at| self.ends[at]);
        &self.escaped[before..]
    }

    /// The text as it was after half as many events.
    pub fn earlier_text(&self) -> &str {
        let end = self.ends.get(self.ends.len() / 2).copied().unwrap_or(0);
        &self.escaped[..end]
    }

    /// The text without the white space at its end.
    pub fn trimmed_text(&self) -> String {
        let quoted_text = format!("\"{}\"", self.escaped);
        let text: String = serde_json::from_str(&quoted_text).expect("escaped text is valid JSON");
        escaped(text.trim_end())
    }

    fn end(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }
}

/// A piece of text, JSON-escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// What is added to the text.
    escaped: String,
    /// The escape of half a character that only this event has after the text; mostly empty.
    half: String,
}

impl Fragment {
    pub fn new(text: &str) -> Self {
        Self { escaped: escaped(text), half: String::new() }
    }

    /// The text of all of them.
    pub fn joined(fragments: &[Self]) -> Self {
        let escaped = fragments.iter().map(|fragment| fragment.escaped.as_str()).collect();
        Self { escaped, half: String::new() }
    }

    /// The piece in fragments, each but the last of which ends in half a surrogate pair.
    pub fn cut_in_pairs(text: &str, surrogates: Surrogates) -> Vec<Self> {
        let mut fragments = Vec::new();
        let mut next = Self::default();
        for character in text.chars() {
            if let [high, low] = *character.encode_utf16(&mut [0; 2]) {
                let half = format!("\\u{high:04x}");
                let pair = match surrogates {
                    Surrogates::CutAndEscaped => format!("{half}\\u{low:04x}"),
                    Surrogates::Cut | Surrogates::Whole => character.to_string(),
                };
                fragments.push(Self { half, ..next });
                next = Self { escaped: pair, half: String::new() };
            } else {
                next.escaped.push_str(&escaped(&character.to_string()));
            }
        }
        fragments.push(next);
        fragments
    }
}

/// The text as JSON writes it between the quotes.
fn escaped(text: &str) -> String {
    let mut json = quoted(text);
    json.pop();
    json.remove(0);
    json
}
