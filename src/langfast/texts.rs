//! The texts of a run, which are known to be whole, each all that was said so far, and may come in
//! pieces some day, each only what is new, under the same name.
//!
//! The two are told apart by what they do. A whole text extends the one before it; a piece mostly has
//! nothing in common with it. Neither is certain from two texts: the pieces "a" and "ab" look like a whole
//! text that grows, and a whole text that LangFast revises looks like two pieces. A wrong guess would
//! send text that is not LangFast's, so this is how it is decided:
//!
//! - The first text is the same either way, and is shown at once.
//! - Texts are taken as whole, as is known of LangFast, until something speaks against it: what extends
//!   the text before is shown, and nothing is of what does not, as of a [revised](Revised) text.
//! - Two texts in a row, neither of which has to do with the one before it, are pieces: a text that grows
//!   is not revised from its beginning with each event. What was held back meanwhile is shown then. A run
//!   of three events is enough to see it.
//! - A text that extends one of [`SURE`] bytes, or three that each extend the one before, are whole, and so is
//!   a text that differs from the one before behind a long beginning in common: pieces do neither. From
//!   then on the run's texts are whole whatever comes, and the fast path applies.
//! - Where pieces are expected, because the field is called `delta` or because earlier runs had them
//!   there, one text that has nothing to do with the one before it is enough. A text that extends the one
//!   before it is held back then until the next one tells ("ha", "haha", …). Where earlier runs had whole
//!   texts, three in a row are needed.
//! - The same text again is an event that was repeated or an equal piece, and a shorter one is stale or a
//!   piece: neither says anything, unless it is long. As pieces they count as pieces.
//! - The last event's text may be whole after pieces too, or the last piece, or missing. It is whole if it
//!   begins as the pieces do; then it proves them right or, as a revised text, wrong.
//! - What cannot be told (an answer in two texts that have nothing in common) is read in the way that is
//!   known: as whole, where nothing else is expected.
//!
//! A stream of pieces has no second chance: what is sent while the socket is away is missing for good.
//! Nothing more is shown then, and the run fails unless its last text is whole.

mod manners;
mod open;

use std::ops::Range;
use std::sync::Arc;

use super::transcript::{Abridged, Revised, Transcript, unescape};
use manners::Manner;
pub use manners::{Manners, Place};
use open::{Open, is_same, is_same_but_for_space};

/// Bytes of a text that no piece of a text repeats by chance.
const SURE: usize = 16;
/// Bytes of a beginning that two texts have in common only if they are the same text.
const SAME_BEGINNING: usize = 12;
/// Bytes of what was shown that a later piece does not begin with by chance.
const RETURN: usize = 6;
/// Number of texts in a row that each extend the one before, after which texts are whole.
const GROWN: u32 = 3;
/// Number of texts after which what still does not tell is taken for what is expected.
const MOST_OPEN: u32 = 64;

/// The texts of one run, taken one after the other.
#[derive(Debug)]
pub struct Texts {
    transcript: Transcript,
    place: Place,
    state: State,
    manners: Arc<Manners>,
    /// Whether events of the run may have been missed.
    has_gap: bool,
}

#[derive(Debug)]
enum State {
    Open(Open),
    Whole,
    Pieces(LastPiece),
}

#[derive(Debug, Default)]
struct LastPiece {
    text: Vec<u8>,
    grown: u32,
}

impl Texts {
    /// No text yet; they will be at `place`.
    pub fn new(place: Place, manners: Arc<Manners>, has_gap: bool) -> Texts {
        let (transcript, state) = (Transcript::default(), State::Open(Open::default()));
        Texts { transcript, place, state, manners, has_gap }
    }

    /// The place of the texts.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Takes the next event's text, which is at `text` in its packet (JSON string content), and returns
    /// what is new and certain.
    pub fn advance(&mut self, packet: &[u8], text: Range<usize>) -> String {
        match &mut self.state {
            State::Whole => self.transcript.advance(packet, text),
            _ if text.is_empty() => String::new(),
            State::Pieces(_) => self.take_piece(packet, text),
            State::Open(_) => self.weigh(packet, text),
        }
    }

    /// Takes the last event's text and returns what is new; nothing is held back any more.
    pub fn complete(&mut self, packet: &[u8], text: Range<usize>) -> String {
        match &self.state {
            State::Whole => self.transcript.complete(packet, text),
            _ if text.is_empty() => self.finish(),
            State::Pieces(_) => self.take_last_behind_pieces(packet, text),
            State::Open(_) => self.take_last(packet, text),
        }
    }

    /// Takes the end of a run that says nothing of its text, and returns what was held back.
    pub fn finish(&mut self) -> String {
        self.settle() + &self.close()
    }

    /// Decides what is open, because the run may have ended, and returns what was held back for that.
    pub fn settle(&mut self) -> String {
        let State::Open(open) = &self.state else { return String::new() };
        if open.count < 2 {
            return String::new();
        }
        let last = open.last.clone();
        if self.expects_pieces() && !open.all_grew() {
            return self.turn_to_pieces();
        }
        let joined = self.turn_to_whole();
        self.transcript.advance(&joined, last)
    }

    /// Allows [`Texts::grow`] for the next packets, once it is certain that texts are whole, or if the
    /// next one would make it so.
    pub fn may_grow(&mut self) {
        let is_whole = match &self.state {
            State::Whole => true,
            State::Open(open) => {
                open.count == 1 && self.manners.of(self.place) == Some(Manner::Whole)
            }
            State::Pieces(_) => false,
        };
        if is_whole {
            self.transcript.may_grow();
        }
    }

    /// See [`Transcript::grow`].
    pub fn grow(
        &mut self,
        packet: &[u8],
        goes_on: impl FnOnce(&Abridged) -> bool,
    ) -> Option<String> {
        if matches!(&self.state, State::Open(open) if open.count > MOST_OPEN) {
            // It is time to decide.
            return None;
        }
        let delta = self.transcript.grow(packet, goes_on)?;
        if let State::Open(_) = self.state {
            self.note_grown(!delta.is_empty());
        }
        Some(delta)
    }

    /// Notes that a text extends the first one, where texts were whole in earlier runs; the same text again
    /// does not tell.
    fn note_grown(&mut self, is_longer: bool) {
        if is_longer {
            self.state = State::Whole;
        } else {
            let same = self.transcript.content().to_vec();
            self.add(&same);
        }
    }

    /// Whether a last text at another place belongs to these texts: it begins as they do.
    pub fn belongs(&self, text: &[u8]) -> bool {
        let (known, text) = (unescape(self.transcript.content()), unescape(text));
        is_same(&known, &text) || !known.is_empty() && text.starts_with(&known)
    }

    /// Notes that events may have been missed.
    pub fn note_gap(&mut self) {
        self.has_gap = true;
    }

    /// Whether pieces of the text are missing.
    pub fn is_lost(&self) -> bool {
        self.has_gap && matches!(self.state, State::Pieces(_))
    }

    /// See [`Transcript::revised`].
    pub fn revised(&self) -> Option<Revised> {
        self.transcript.revised()
    }

    /// The text as it is known now, whatever of it was shown.
    pub fn text(&self) -> String {
        self.revised().map_or_else(|| self.transcript.shown_text(), |revised| revised.text)
    }

    /// The same texts, of which all is shown by now.
    pub fn into_shown(mut self) -> Texts {
        self.transcript.accept();
        self
    }

    /// Bytes of the text, or of what was shown if that is longer.
    pub fn length(&self) -> usize {
        self.transcript.length()
    }

    /// Memory of the kept texts, in bytes.
    pub fn bytes(&self) -> usize {
        let more = match &self.state {
            State::Open(open) => open.joined.capacity(),
            State::Whole => 0,
            State::Pieces(last) => last.text.capacity(),
        };
        self.transcript.bytes() + more
    }

    /// Whether texts at this place are taken for pieces where they do not tell.
    fn expects_pieces(&self) -> bool {
        match self.manners.of(self.place) {
            Some(manner) => manner == Manner::Pieces,
            None => self.place == Place::Delta,
        }
    }

    /// Takes a text while it is not decided what it is.
    fn weigh(&mut self, packet: &[u8], text: Range<usize>) -> String {
        self.add(&packet[text.clone()]);
        match self.judge() {
            Some(Manner::Whole) => {
                self.turn_to_whole();
                self.transcript.advance(packet, text)
            }
            Some(Manner::Pieces) => self.turn_to_pieces(),
            None if self.is_to_hold() => String::new(),
            None => self.transcript.advance(packet, text),
        }
    }

    /// Whether a text that does not tell what it is cannot be shown yet.
    fn is_to_hold(&self) -> bool {
        let is_first = matches!(&self.state, State::Open(open) if open.count == 1);
        self.expects_pieces() && (!is_first || self.has_gap)
    }

    /// Adds a text, and compares it with those before it.
    fn add(&mut self, raw: &[u8]) {
        let State::Open(open) = &mut self.state else { return };
        if let Some((before, now)) = open.add(raw) {
            let shown = self.transcript.shown_text();
            let returns = shown.len() >= RETURN && now.starts_with(&shown);
            open.compare(&before, &now, returns);
        }
    }

    /// What the texts are, if that is certain enough by now.
    fn judge(&self) -> Option<Manner> {
        let State::Open(open) = &self.state else { return None };
        let known = self.manners.of(self.place);
        let enough = match (known, self.place) {
            (Some(Manner::Pieces), _) | (None, Place::Delta) => 1,
            (None, _) => 2,
            (Some(Manner::Whole), _) => 3,
        };
        let is_as_ever = known == Some(Manner::Whole) && open.grown > 0 && !open.was_apart;
        if open.is_surely_whole || open.grown >= GROWN || is_as_ever {
            return Some(Manner::Whole);
        }
        if open.apart >= enough || open.count > MOST_OPEN && self.expects_pieces() {
            return Some(Manner::Pieces);
        }
        (open.count > MOST_OPEN).then_some(Manner::Whole)
    }

    /// Decides that texts are whole; returns the texts so far, joined.
    fn turn_to_whole(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.state, State::Whole) {
            State::Open(open) => {
                if open.is_surely_whole || open.grown >= GROWN {
                    self.manners.learn(self.place, Manner::Whole);
                }
                open.joined
            }
            _ => Vec::new(),
        }
    }

    /// Decides that texts are pieces; returns what is new of them.
    fn turn_to_pieces(&mut self) -> String {
        let last = LastPiece::default();
        let State::Open(open) = std::mem::replace(&mut self.state, State::Pieces(last)) else {
            return String::new();
        };
        self.manners.learn(self.place, Manner::Pieces);
        if self.has_gap {
            return String::new();
        }
        self.transcript.advance(&open.joined, 0..open.joined.len())
    }

    fn take_piece(&mut self, packet: &[u8], text: Range<usize>) -> String {
        let State::Pieces(last) = &mut self.state else { return String::new() };
        let raw = &packet[text.clone()];
        let known = self.transcript.content();
        if known.len() >= SURE && raw.starts_with(known) {
            // The whole text in between.
            let more = text.start + known.len()..text.end;
            self.has_gap = false;
            return self.transcript.append(&packet[more]);
        }
        let grows = raw.len() > last.text.len() && raw.starts_with(&last.text);
        last.grown = if grows && last.text.len() >= SURE { last.grown + 1 } else { 0 };
        raw.clone_into(&mut last.text);
        if last.grown >= GROWN - 1 {
            // They are whole after all. What was sent is wrong, and the end will say so.
            self.state = State::Whole;
            self.manners.learn(self.place, Manner::Whole);
            return self.transcript.advance(packet, text);
        }
        if self.has_gap { String::new() } else { self.transcript.append(raw) }
    }

    /// Takes the last text of a run whose texts are pieces.
    fn take_last_behind_pieces(&mut self, packet: &[u8], text: Range<usize>) -> String {
        if self.belongs(&packet[text.clone()]) {
            self.has_gap = false;
            return self.transcript.complete(packet, text);
        }
        if self.has_gap {
            return String::new();
        }
        self.transcript.append(&packet[text]) + &self.close()
    }

    /// Takes the last text of a run of which it is not decided yet.
    fn take_last(&mut self, packet: &[u8], text: Range<usize>) -> String {
        let State::Open(open) = &self.state else { return String::new() };
        let last = unescape(&packet[text.clone()]);
        let joined = unescape(&open.joined);
        if open.count > 1 && (last.starts_with(&joined) || is_same_but_for_space(&joined, &last)) {
            // What came before were pieces of it.
            let delta = self.turn_to_pieces();
            self.has_gap = false;
            return delta + &self.transcript.complete(packet, text);
        }
        let before = open.last_text();
        let shown = self.transcript.shown_text();
        let extends = last.starts_with(&before)
            || is_same_but_for_space(&before, &last)
            || shown.len() >= RETURN && last.starts_with(&shown);
        let may_be_piece =
            if extends { self.expects_pieces() && open.count > 1 } else { open.count > 0 };
        if may_be_piece {
            self.add(&packet[text.clone()]);
            if self.judge() == Some(Manner::Pieces) || self.expects_pieces() && !self.all_grew() {
                return self.turn_to_pieces() + &self.close();
            }
        }
        self.turn_to_whole();
        self.transcript.complete(packet, text)
    }

    fn all_grew(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.all_grew())
    }

    fn close(&mut self) -> String {
        match self.state {
            State::Pieces(_) if !self.has_gap => self.transcript.close(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes these texts as a run's, the last one as its end, as the gateway does.
    fn play_in(texts: &mut Texts, events: &[&str]) -> String {
        let (last, earlier) = events.split_last().unwrap();
        let mut shown = String::new();
        for event in earlier {
            let packet = format!("{{\"content\":\"{event}\",\"executionId\":\"j\"}}");
            shown += &texts.grow(packet.as_bytes(), |_| false).unwrap_or_else(|| {
                let delta = texts.advance(packet.as_bytes(), 12..12 + event.len());
                texts.may_grow();
                delta
            });
        }
        shown + &texts.complete(last.as_bytes(), 0..last.len())
    }

    fn play(place: Place, manners: &Arc<Manners>, events: &[&str]) -> (String, String) {
        let mut texts = Texts::new(place, manners.clone(), false);
        let shown = play_in(&mut texts, events);
        assert_eq!(texts.revised().is_none(), shown == texts.text(), "{events:?}");
        (shown, texts.text())
    }

    /// What is shown in a stream, and the whole answer, where nothing is known yet.
    fn first(place: Place, events: &[&str]) -> (String, String) {
        play(place, &Arc::default(), events)
    }

    fn both(text: &str) -> (String, String) {
        (text.to_owned(), text.to_owned())
    }

    const CONTENT: Place = Place::Content;
    const DELTA: Place = Place::Delta;

    #[test]
    fn pieces_are_told_from_whole_texts_and_the_last_may_be_whole_a_piece_or_nothing() {
        for place in [CONTENT, DELTA, Place::Other] {
            for last in ["Hello world, I am here.", " I am here.", ""] {
                let pieces = ["Hello", " wor", "ld,", " I am here."];
                let events = match last {
                    "" | "Hello world, I am here." => [&pieces[..], &[last]].concat(),
                    last => [&pieces[..3], &[last]].concat(),
                };
                let expected = both("Hello world, I am here.");
                assert_eq!(first(place, &events), expected, "{place:?} {events:?}");
            }
            let whole = ["H", "He", "Hello", "Hello world", "Hello world, I", "Hello world, I am"];
            for last in ["Hello world, I am here", "Hello world, I am", ""] {
                let (shown, text) = first(place, &[&whole[..], &[last]].concat());
                let expected = if last.is_empty() { "Hello world, I am" } else { last };
                assert_eq!((shown, text), both(expected), "{place:?} {last:?}");
            }
        }
    }

    #[test]
    fn what_looks_like_the_other_kind_at_first_is_held_back_where_pieces_are_expected() {
        for (events, expected) in [
            (&["ha", "ha", "!", "?"][..], "haha!?"),
            (&["a", "ab", "c", ""], "aabc"),
            (&["ha", "haha", "hahaha", "hahahaha", ""], "hahahaha"),
            (&["ha", "ha", ""], "haha"),
            (&["ha", "ha", "haha"], "haha"),
            (&["there", "the", "n", ""], "therethen"),
            (&["OK", "OK"], "OK"),
            (&["Hel", "Hello"], "Hello"),
            (&["Hel", "lo"], "Hello"),
            (&["Hel", "Hello", ""], "Hello"),
            (&["a long piece of text", "a long piece of text that grows", "x"], "x"),
        ] {
            let (shown, text) = first(DELTA, events);
            assert_eq!(text, expected, "{events:?}");
            assert!(shown == text || expected == "x", "{events:?}: {shown}");
        }
    }

    #[test]
    fn a_stream_in_the_known_field_that_was_taken_for_whole_too_long_is_wrong_and_known_to_be() {
        let (shown, text) = first(CONTENT, &["a", "ab", "c", "d", "e"]);
        assert_eq!((shown.as_str(), text.as_str()), ("ab", "aabcde"));
    }

    #[test]
    fn a_text_in_the_known_field_that_is_revised_is_no_piece() {
        for (events, shown, text) in [
            (&["one two", "uno", ""][..], "one two", "uno"),
            (&["one two", "uno", "one two"], "one two", "one two"),
            (&["one two", "uno", "one two three"], "one two three", "one two three"),
            (&["one", "uno", "uno dos", "uno dos tres"], "one", "uno dos tres"),
            (
                &["The answer is 41", "The answer is 42", "The answer is 43"],
                "The answer is 41",
                "The answer is 43",
            ),
            (
                &["one two three four", "one two three four five", "uno", "dos", "tres", ""],
                "one two three four five",
                "tres",
            ),
        ] {
            let expected = (shown.to_owned(), text.to_owned());
            assert_eq!(first(CONTENT, events), expected, "{events:?}");
        }
    }

    #[test]
    fn what_earlier_runs_have_shown_counts_and_a_change_is_noticed_in_either_direction() {
        let manners = Arc::default();
        let whole = ["The", "The harbour", "The harbour wakes", "The harbour wakes up", ""];
        let pieces = ["The", " harbour", " wakes", " before", " the town", ""];
        assert_eq!(play(CONTENT, &manners, &whole), both("The harbour wakes up"));
        // Whole texts are expected now: what may be revised may be pieces too.
        assert_eq!(play(CONTENT, &manners, &["Hi", "Ho", "Ha"]), ("Hi".into(), "Ha".into()));
        assert_eq!(play(CONTENT, &manners, &pieces), both("The harbour wakes before the town"));
        // And now pieces.
        assert_eq!(play(CONTENT, &manners, &["Hi", " Jo", ""]), both("Hi Jo"));
        assert_eq!(play(CONTENT, &manners, &whole), both("The harbour wakes up"));
        assert_eq!(play(CONTENT, &manners, &["Hi", " Jo", ""]), ("Hi".into(), " Jo".into()));
    }

    #[test]
    fn a_last_text_that_proves_pieces_wrong_is_the_answer_and_one_that_was_trimmed_too() {
        let pieces = ["Hello", " wor", "ld, I am", " here"];
        let play = |last| first(CONTENT, &[&pieces[..], &[last]].concat());
        let (shown, text) = play("Hello world, I was here");
        assert_eq!(
            (shown.as_str(), text.as_str()),
            ("Hello world, I am here", "Hello world, I was here")
        );
        assert_eq!(
            first(CONTENT, &["Hel", "lo", "!\\n", "Hello!"]),
            ("Hello!\n".into(), "Hello!".into())
        );
    }

    #[test]
    fn characters_that_are_cut_between_pieces_are_whole() {
        let events = ["a", r"\ud83d", r"\ude00b", "c", ""];
        assert_eq!(first(DELTA, &events), both("a😀bc"));
        assert_eq!(first(CONTENT, &events), both("a😀bc"));
        assert_eq!(first(DELTA, &["a", "b", r"\ud83d", ""]), both("ab\u{fffd}"));
    }

    #[test]
    fn nothing_is_shown_behind_missing_pieces_unless_the_last_text_is_whole() {
        for (last, expected) in
            [("onetwothreefour", Some("onetwothreefour")), ("four", None), ("", None)]
        {
            let mut texts = Texts::new(DELTA, Arc::default(), false);
            let shown = ["one", "two"].map(|piece| texts.advance(piece.as_bytes(), 0..3)).concat();
            texts.note_gap();
            let lost = texts.advance(b"three", 0..5);
            assert_eq!((shown + &lost).as_str(), "onetwo");
            let rest = texts.complete(last.as_bytes(), 0..last.len());
            assert_eq!(texts.is_lost(), expected.is_none(), "{last}");
            assert_eq!(rest, expected.map_or("", |text| &text[6..]));
        }
        // Whole texts bring what was missed.
        let mut texts = Texts::new(CONTENT, Arc::default(), true);
        assert_eq!(play_in(&mut texts, &["one two", "one two three"]), "one two three");
        assert!(!texts.is_lost());
    }

    #[test]
    fn a_text_that_is_repeated_for_ever_takes_no_more_memory() {
        for (place, text) in
            [(CONTENT, "ab"), (DELTA, "ab"), (CONTENT, "a text of more than sixteen bytes")]
        {
            let mut texts = Texts::new(place, Arc::default(), false);
            for _ in 0..10_000 {
                texts.advance(text.as_bytes(), 0..text.len());
            }
            assert!(texts.bytes() < 40_000, "{place:?} {text} {}", texts.bytes());
        }
    }

    proptest! {
        #[test]
        fn prose_comes_out_right_in_either_manner(
            words in prop::collection::vec("[a-zé]{2,9}[ ,.]", 4..30), last in 0..3, delta: bool,
        ) {
            let distinct = |n: usize| words[n].chars().next() != words[n + 1].chars().next();
            prop_assume!((0..3).all(distinct));
            let place = if delta { DELTA } else { CONTENT };
            let whole: Vec<String> = (1..=words.len()).map(|n| words[..n].concat()).collect();
            let text = whole.last().unwrap().clone();
            for pieces in [&whole, &words] {
                let mut events: Vec<&str> = pieces.iter().map(String::as_str).collect();
                match last {
                    0 => events.push(&text),
                    1 => events.push(""),
                    _ => {}
                }
                prop_assert_eq!(first(place, &events), both(&text));
            }
        }
    }
}
