//! Turns cumulative text into deltas. Each event of a run holds the whole text so far (or else `texts`
//! joins its pieces); a client wants what is new. Parsing each event would take time that grows with the square of the answer's length,
//! so a packet is first compared byte by byte with the one before it: if only the text has grown, the
//! new part is decoded and nothing is parsed; if what follows the text has changed too, only that is.

use std::ops::Range;
use std::str;

use crate::escape::utf16_unit;

/// Bytes of the longest escape, of which at least one byte of text comes.
const LONGEST_ESCAPE: usize = "\\u0041".len();
/// Most halves of characters at the end of a text that may be whole in the next event: more are no cut
/// character, but what is said.
const MOST_HALVES: usize = 8;

/// The text of a run, and how much of it has been shown, that is, returned as a delta.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The packet with the latest text. Packets whose text is only a beginning of it are not kept.
    packet: Vec<u8>,
    /// The range of the text in the packet: JSON string content, without the quotes.
    text: Range<usize>,
    /// The position in the packet up to which the text has been decoded.
    read_to: usize,
    /// Bytes of decoded text.
    read: usize,
    /// Whether the fast path applies: a packet that differs only by longer text only extends the text.
    may_grow: bool,
    /// Bytes of text shown.
    shown: usize,
    /// The shown text, while the packet's text does not begin with it because LangFast has revised it.
    /// Nothing more is shown until a text comes that does.
    apart: Option<String>,
    /// Whether the last event's text was only a beginning of the known text: an earlier one again, or a
    /// trimmed one.
    is_stale: bool,
    /// The final text, if it is only a beginning of the known text.
    trimmed: Option<String>,
}

/// A final text that does not begin with the text that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revised {
    /// The final text.
    pub text: String,
    /// The text that was shown.
    pub shown: String,
}

impl Revised {
    /// Describes how long a beginning both texts have in common: in figures, without quoting them.
    pub fn agreement(&self) -> String {
        let common = &self.shown[..common_prefix(&self.shown, &self.text)];
        let figures =
            |text: &str| format!("{} bytes ({} characters)", text.len(), text.chars().count());
        format!(
            "what was sent, {}, and the final text, {}, agree in the first {}",
            figures(&self.shown),
            figures(&self.text),
            figures(common)
        )
    }
}

/// A packet with a short text in place of its own, which says the same apart from that.
pub struct Abridged {
    /// The packet.
    pub packet: String,
    /// Where the short text is in it.
    pub text: Range<usize>,
}

impl Abridged {
    /// Made of what comes before the text, and what comes behind it; `None` if either is no UTF-8.
    fn new(before: &[u8], behind: &[u8]) -> Option<Abridged> {
        // Not empty, which would say something else.
        const TEXT: &[u8] = b"x";
        let packet = String::from_utf8([before, TEXT, behind].concat()).ok()?;
        Some(Abridged { packet, text: before.len()..before.len() + TEXT.len() })
    }
}

impl Transcript {
    /// Takes the next event's text, which is at `text` in its packet (JSON string content), and returns
    /// what is new; empty if nothing is.
    ///
    /// Half a surrogate pair or a replacement character at the end is held back: the sender has cut a
    /// character, and the next event brings it whole. Shown text cannot be taken back, so nothing is
    /// shown of a text that does not begin with it; a later event may bring one that does.
    pub fn advance(&mut self, packet: &[u8], text: Range<usize>) -> String {
        let raw = without_cut_character(&packet[text.clone()]);
        self.is_stale = false;
        if raw.starts_with(self.raw()) {
            let read_to = text.start + self.raw().len();
            self.remember(packet, text, read_to);
            return self.read(read_to..self.text.start + raw.len());
        }
        if self.raw().starts_with(raw) {
            self.is_stale = true;
            return String::new();
        }
        let end = text.start + raw.len();
        self.replace(packet, text, end)
    }

    /// Takes the last event's text and returns what is new; nothing is held back any more.
    pub fn complete(&mut self, packet: &[u8], text: Range<usize>) -> String {
        let delta = self.advance(packet, text.clone());
        if self.is_stale {
            // An empty last event says nothing about the text.
            self.trimmed = Some(unescape(&packet[text])).filter(|text| !text.is_empty());
            return delta;
        }
        delta + &self.read(self.read_to..self.text.end)
    }

    /// Takes the next piece of a text that comes in pieces (JSON string content), behind the known text,
    /// and returns what is new. A character that is cut at its end is held back for the next piece.
    pub fn append(&mut self, piece: &[u8]) -> String {
        self.is_stale = false;
        self.packet.truncate(self.text.end);
        let length = self.packet.len() + piece.len();
        make_room(&mut self.packet, length);
        self.packet.extend_from_slice(piece);
        self.text.end = length;
        let length = without_cut_character(&self.packet[self.read_to..]).len();
        self.read(self.read_to..self.read_to + length)
    }

    /// Ends a text that came in pieces: returns what was held back.
    pub fn close(&mut self) -> String {
        self.read(self.read_to..self.text.end)
    }

    /// The latest text as JSON string content, with what is held back of it.
    pub fn content(&self) -> &[u8] {
        &self.packet[self.text.clone()]
    }

    /// The shown text.
    pub fn shown_text(&self) -> String {
        self.apart.clone().unwrap_or_else(|| unescape(self.raw()))
    }

    /// Notes that all of the latest text is shown, in place of what was.
    pub fn accept(&mut self) {
        (self.apart, self.trimmed) = (None, None);
    }

    /// Allows [`Transcript::grow`] for the next packets: the packet just taken says nothing but its
    /// text and that the run goes on.
    pub fn may_grow(&mut self) {
        self.may_grow |= !self.is_stale;
    }

    /// Takes a packet that begins, up to the end of its text, as the one before it, and goes on with more
    /// text, without parsing all of it; returns what is new. `None` for any other packet, which has to be
    /// parsed, and may be no UTF-8.
    ///
    /// What follows the text may differ too: a time, a count. Then `goes_on` tells whether the packet still
    /// says nothing but its text and that the run goes on.
    pub fn grow(
        &mut self,
        packet: &[u8],
        goes_on: impl FnOnce(&Abridged) -> bool,
    ) -> Option<String> {
        if !self.may_grow {
            return None;
        }
        let (known, behind) = self.packet.split_at(self.text.end);
        let more = packet.get(known.len()..)?;
        if !is_same(&packet[..known.len()], known) {
            return None;
        }
        let end = string_end(more)?;
        // What is known is checked already.
        str::from_utf8(more).ok()?;
        if more[end..] != *behind
            && !goes_on(&Abridged::new(&packet[..self.text.start], &more[end..])?)
        {
            return None;
        }
        self.is_stale = false;
        self.packet.truncate(self.text.end);
        make_room(&mut self.packet, packet.len());
        self.packet.extend_from_slice(more);
        self.text.end += end;
        let length = without_cut_character(&self.packet[self.read_to..self.text.end]).len();
        Some(self.read(self.read_to..self.read_to + length))
    }

    /// The final text as it is known now, if it differs from what the deltas add up to.
    pub fn revised(&self) -> Option<Revised> {
        let text = match &self.trimmed {
            Some(text) => text.clone(),
            None if self.apart.is_some() => unescape(self.raw()),
            None => return None,
        };
        let shown = self.shown_text();
        Some(Revised { text, shown }).filter(|revised| revised.text != revised.shown)
    }

    /// Bytes of text shown so far.
    pub fn shown(&self) -> usize {
        self.shown
    }

    /// Bytes of the latest text, or of what was shown if that is longer.
    pub fn length(&self) -> usize {
        self.read.max(self.shown)
    }

    /// Memory of the kept text, in bytes.
    pub fn bytes(&self) -> usize {
        self.packet.capacity() + self.apart.as_ref().map_or(0, String::capacity)
    }

    /// The decoded part of the text, as JSON string content.
    fn raw(&self) -> &[u8] {
        &self.packet[self.text.start..self.read_to]
    }

    fn remember(&mut self, packet: &[u8], text: Range<usize>, read_to: usize) {
        self.packet.clear();
        make_room(&mut self.packet, packet.len());
        self.packet.extend_from_slice(packet);
        (self.text, self.read_to, self.may_grow) = (text, read_to, false);
    }

    /// Decodes the next part of the text, and returns it if it may be shown, else an empty text.
    fn read(&mut self, part: Range<usize>) -> String {
        self.read_to = part.end;
        let delta = unescape(&self.packet[part]);
        self.read += delta.len();
        if self.apart.is_some() {
            return String::new();
        }
        self.shown += delta.len();
        delta
    }

    /// Takes a text, to be decoded up to `read_to`, whose bytes do not begin with those of the known
    /// text.
    fn replace(&mut self, packet: &[u8], text: Range<usize>, read_to: usize) -> String {
        let now = unescape(&packet[text.start..read_to]);
        let enough = LONGEST_ESCAPE * (now.len() + 2);
        if self.apart.is_none() && self.raw().len() > enough {
            self.is_stale = unescape(&self.raw()[..enough]).starts_with(&now);
            if self.is_stale {
                return String::new();
            }
        }
        let shown = self.apart.take();
        let is_apart = shown.is_some();
        let shown = shown.unwrap_or_else(|| unescape(self.raw()));
        // The same text may be escaped in another way.
        if let Some(more) = now.strip_prefix(shown.as_str()) {
            self.remember(packet, text, read_to);
            self.read = now.len();
            self.shown += more.len();
            return more.to_owned();
        }
        self.is_stale = shown.starts_with(&now);
        if !self.is_stale {
            self.remember(packet, text, read_to);
            self.read = now.len();
        }
        self.apart = (is_apart || !self.is_stale).then_some(shown);
        String::new()
    }
}

/// Whether both, which are of one length, are the same. What `==` calls compares byte by byte in musl, and
/// elsewhere by vectors, which is twice as fast as these blocks.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    const BLOCK: usize = 32;
    if !cfg!(target_env = "musl") {
        return a == b;
    }
    let block = |bytes| <&[u8; BLOCK]>::try_from(bytes).expect("a block is of its length");
    let (a, b) = (a.chunks_exact(BLOCK), b.chunks_exact(BLOCK));
    a.remainder() == b.remainder() && a.zip(b).all(|(a, b)| block(a) == block(b))
}

/// Makes room in `packet` for `length` bytes in all and a little more: it grows seldom enough to be
/// cheap, and wastes less than doubling. The sizes are few, because glibc keeps some freed pieces of
/// every small size for each thread, and each of them keeps a page from the system.
fn make_room(packet: &mut Vec<u8>, length: usize) {
    const STEP: usize = 512;
    if length > packet.capacity() {
        let capacity = (length + length / 32).next_multiple_of(STEP);
        packet.reserve_exact(capacity - packet.len());
    }
}

/// Where the content of a JSON string ends: at its quote, or else with the bytes. `None` if it is broken.
fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    while let Some(at) = bytes[end..].iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))
    {
        end += at;
        end += match &bytes[end..] {
            [b'"', ..] => return Some(end),
            escape @ [b'\\', b'u', ..] if utf16_unit(escape).is_some() => 6,
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            _ => return None,
        };
    }
    Some(bytes.len())
}

/// Length in bytes of the longest prefix of whole characters that both have.
pub fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(x, y)| x == y);
    same.map(|(c, _)| c.len_utf8()).sum()
}

/// Returns `raw` without what is left at its end of a cut character: a few escaped lone high surrogates, or
/// U+FFFD.
pub fn without_cut_character(mut raw: &[u8]) -> &[u8] {
    for _ in 0..MOST_HALVES {
        let rest = raw.strip_suffix("\u{fffd}".as_bytes());
        let Some(rest) = rest.or_else(|| without_high_surrogate(raw)) else { break };
        raw = rest;
    }
    raw
}

fn without_high_surrogate(raw: &[u8]) -> Option<&[u8]> {
    let (rest, escape) = raw.split_at(raw.len().checked_sub("\\ud83d".len())?);
    // An even number of backslashes in front are escaped ones; an odd number escape ours.
    let backslashes = rest.iter().rev().take_while(|byte| **byte == b'\\').count();
    let is_high = utf16_unit(escape).is_some_and(|unit| (0xD800..0xDC00).contains(&unit));
    (is_high && backslashes % 2 == 0).then_some(rest)
}

/// Decodes JSON string content. Lone surrogates, which serde_json refuses, become U+FFFD; so do invalid
/// escapes.
pub fn unescape(mut raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    while let Some(at) = raw.iter().position(|byte| *byte == b'\\') {
        text.push_str(&String::from_utf8_lossy(&raw[..at]));
        let (character, length) = unescape_one(&raw[at..]);
        text.push(character);
        raw = &raw[at + length..];
    }
    text.push_str(&String::from_utf8_lossy(raw));
    text
}

/// The character of the escape at the start of `raw`, and the escape's length.
fn unescape_one(raw: &[u8]) -> (char, usize) {
    let simple = match raw.get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => return unescape_unit(raw),
        Some(&byte @ (b'"' | b'\\' | b'/')) => byte as char,
        _ => return (char::REPLACEMENT_CHARACTER, 1),
    };
    (simple, 2)
}

fn unescape_unit(raw: &[u8]) -> (char, usize) {
    let Some(unit) = utf16_unit(raw) else { return (char::REPLACEMENT_CHARACTER, 2) };
    if let Some(character) = char::from_u32(unit) {
        return (character, 6);
    }
    let low = utf16_unit(&raw[6..]).filter(|low| (0xDC00..0xE000).contains(low));
    match low {
        Some(low) if unit < 0xDC00 => {
            let pair = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
            (char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn advance(transcript: &mut Transcript, raw: &[u8]) -> String {
        transcript.advance(raw, 0..raw.len())
    }

    /// Returns a packet with JSON string content in it, and the range of that content.
    fn packet(before: &str, raw: &str, behind: &str) -> (Vec<u8>, Range<usize>) {
        let text = before.len()..before.len() + raw.len();
        ([before, raw, behind].concat().into_bytes(), text)
    }

    /// Plays cumulative texts (JSON string content); returns the deltas and the final text if it was
    /// revised.
    fn play(events: &[&str]) -> (Vec<String>, Option<String>) {
        let mut transcript = Transcript::default();
        let (last, earlier) = events.split_last().unwrap();
        let mut deltas: Vec<String> =
            earlier.iter().map(|event| advance(&mut transcript, event.as_bytes())).collect();
        deltas.push(transcript.complete(last.as_bytes(), 0..last.len()));
        assert_eq!(transcript.shown(), deltas.concat().len());
        let revised = transcript.revised();
        assert!(revised.as_ref().is_none_or(|revised| revised.shown == deltas.concat()));
        (deltas, revised.map(|revised| revised.text))
    }

    #[test]
    fn growing_text_gives_what_is_new() {
        let (deltas, revised) = play(&["Hel", r"Hello\n", r"Hello\nw\u00f6rld"]);
        assert_eq!(deltas, ["Hel", "lo\n", "wörld"]);
        assert_eq!(revised, None);
    }

    #[test]
    fn repeated_stale_and_empty_events_give_nothing() {
        let (deltas, revised) = play(&["Hello", "Hello", "He", "", "Hello!"]);
        assert_eq!(deltas.concat(), "Hello!");
        assert_eq!(revised, None);
    }

    #[test]
    fn a_cut_surrogate_pair_is_held_back_until_it_is_whole() {
        let (deltas, _) = play(&[r"a\ud83d", r"a\ud83d\ude00", "a😀b"]);
        assert_eq!(deltas, ["a", "😀", "b"]);
        let (deltas, _) = play(&[r"a\ud83d", "a😀"]);
        assert_eq!(deltas, ["a", "😀"]);
        let (deltas, _) = play(&[r"a\ud83d\ud83d", r"a\ud83d\ude00"]);
        assert_eq!(deltas, ["a", "😀"]);
    }

    #[test]
    fn a_character_cut_by_the_sender_is_held_back_until_it_is_whole() {
        let (deltas, revised) = play(&["caf\u{fffd}", "café"]);
        assert_eq!((deltas.concat().as_str(), revised), ("café", None));
    }

    #[test]
    fn a_half_that_stays_alone_becomes_the_replacement_character() {
        assert_eq!(play(&["a", r"a\ud83d"]).0.concat(), "a\u{fffd}");
        assert_eq!(play(&[r"a\ud83dx"]).0.concat(), "a\u{fffd}x");
        assert_eq!(play(&[r"a\\ud83d"]).0.concat(), r"a\ud83d");
    }

    #[test]
    fn nothing_of_a_revised_text_is_shown_and_the_final_text_is_known() {
        let (deltas, revised) = play(&["The answer is 41", "The answer is 42, sure"]);
        assert_eq!(deltas, ["The answer is 41", ""]);
        assert_eq!(revised.as_deref(), Some("The answer is 42, sure"));
        let (deltas, revised) = play(&["abc", "axyz", "axyz and more"]);
        assert_eq!(deltas, ["abc", "", ""]);
        assert_eq!(revised.as_deref(), Some("axyz and more"));
        let (deltas, revised) = play(&["abc", "x", ""]);
        assert_eq!((deltas.concat().as_str(), revised.as_deref()), ("abc", Some("x")));
    }

    #[test]
    fn a_text_that_begins_with_what_was_shown_goes_on_with_it_whatever_came_in_between() {
        for between in [&["x"][..], &["abX", "abXY", "abX"], &["ab"], &["x", "ab"], &[""]] {
            let events = [&["abc"], between, &["abcd", "abcde"]].concat();
            let (deltas, revised) = play(&events);
            assert_eq!((deltas.concat().as_str(), revised), ("abcde", None), "{between:?}");
        }
        let (deltas, revised) = play(&[r"\u00e9!", "é", "é!", "é!?"]);
        assert_eq!((deltas.concat().as_str(), revised), ("é!?", None));
    }

    #[test]
    fn a_revised_text_grows_without_being_parsed_and_nothing_of_it_is_shown() {
        let mut transcript = Transcript::default();
        advance(&mut transcript, b"abc");
        assert_eq!(advance(&mut transcript, b"xy"), "");
        transcript.may_grow();
        assert_eq!(transcript.grow(b"xyz and more", |_| false).as_deref(), Some(""));
        assert_eq!((transcript.shown(), transcript.length()), (3, 12));
        let revised = transcript.revised().unwrap();
        assert_eq!((revised.shown.as_str(), revised.text.as_str()), ("abc", "xyz and more"));
        assert_eq!(
            revised.agreement(),
            "what was sent, 3 bytes (3 characters), and the final text, 12 bytes (12 characters), \
             agree in the first 0 bytes (0 characters)"
        );
        assert_eq!(advance(&mut transcript, b"abcd"), "d");
        assert_eq!(transcript.revised(), None);
    }

    #[test]
    fn trimmed_text_takes_nothing_back_and_the_final_text_is_known() {
        let (deltas, revised) = play(&["Hello ", "Hello"]);
        assert_eq!((deltas.concat().as_str(), revised.as_deref()), ("Hello ", Some("Hello")));
        let (deltas, revised) = play(&["Hello ", "Hello", "Hello world"]);
        assert_eq!((deltas.concat().as_str(), revised), ("Hello world", None));
    }

    #[test]
    fn a_shorter_final_text_is_known_with_the_half_that_stays_alone() {
        let (_, revised) = play(&["abcdefgh", r"ab\ud83d"]);
        assert_eq!(revised.as_deref(), Some("ab\u{fffd}"));
    }

    #[test]
    fn a_packet_that_has_only_more_text_is_taken_without_being_parsed_and_no_other_is() {
        let mut transcript = Transcript::default();
        let (first, text) = packet(r#"{"id":"j","content":""#, r"a\n", r#"","x":"y"}"#);
        assert_eq!(transcript.advance(&first, text), "a\n");
        assert_eq!(transcript.grow(&first, |_| false), None, "nobody has said that it may");
        transcript.may_grow();
        let mut grow = |packet: &str| transcript.grow(packet.as_bytes(), |_| false);
        assert_eq!(grow(r#"{"id":"j","content":"a\n","x":"y"}"#).as_deref(), Some(""));
        assert_eq!(grow(r#"{"id":"j","content":"a\nb\"\ud83d","x":"y"}"#).as_deref(), Some("b\""));
        for other in [
            r#"{"id":"k","content":"a\nb\"\ud83dc","x":"y"}"#,
            r#"{"id":"j","content":"a\nb\"\ud83dc","x":"z"}"#,
            r#"{"id":"j","content":"a\nb\"\ud83dc","error":"e","x":"y"}"#,
            r#"{"id":"j","content":"a\nb\"\ud83dc\","x":"y"}"#,
            r#"{"id":"j","content":"a\n","x":"y"}"#,
            r#"{"id":"j","content":"a\nb\"\ud83d"#,
            "",
        ] {
            assert_eq!(grow(other), None, "{other}");
        }
        let whole = r#"{"id":"j","content":"a\nb\"\ud83d\ude00.","x":"y"}"#;
        assert_eq!(grow(whole).as_deref(), Some("😀."));
        assert_eq!(transcript.shown(), "a\nb\"😀.".len());
    }

    #[test]
    fn a_shorter_text_in_between_does_not_stop_a_packet_from_growing() {
        let mut transcript = Transcript::default();
        advance(&mut transcript, b"Hello");
        transcript.may_grow();
        assert_eq!(advance(&mut transcript, b"He"), "");
        assert_eq!(transcript.grow(b"Hello!", |_| false).as_deref(), Some("!"));
        assert_eq!(transcript.revised(), None);
    }

    #[test]
    fn an_empty_last_event_leaves_the_text_as_it_was() {
        assert_eq!(play(&["Hello", ""]), (vec!["Hello".to_owned(), String::new()], None));
    }

    #[test]
    fn the_same_text_in_other_escapes_is_the_same_text() {
        let (deltas, revised) = play(&["é", r"\u00e9!"]);
        assert_eq!((deltas.concat().as_str(), revised), ("é!", None));
    }

    proptest! {
        #[test]
        fn unescape_agrees_with_serde_json(text: String) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(unescape(&json.as_bytes()[1..json.len() - 1]), text);
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes: Vec<u8>) {
            unescape(&bytes);
            let mut transcript = Transcript::default();
            advance(&mut transcript, &bytes);
            transcript.may_grow();
            transcript.grow(&bytes, |_| false);
            transcript.complete(&bytes, 0..bytes.len());
        }

        #[test]
        fn any_text_in_any_pieces_adds_up_to_itself(pieces: Vec<String>) {
            let mut transcript = Transcript::default();
            let (mut whole, mut shown) = (String::new(), String::new());
            for piece in &pieces {
                whole.push_str(piece);
                let json = serde_json::to_string(&whole).unwrap();
                let (packet, text) = packet("{\"content\":\"", &json[1..json.len() - 1], "\"}");
                shown += &transcript.grow(&packet, |_| false).unwrap_or_else(|| {
                    let delta = transcript.advance(&packet, text);
                    transcript.may_grow();
                    delta
                });
            }
            let json = serde_json::to_string(&whole).unwrap();
            let (packet, text) = packet("{\"content\":\"", &json[1..json.len() - 1], "\"}");
            shown += &transcript.complete(&packet, text);
            prop_assert_eq!(shown, whole);
        }
    }
}
