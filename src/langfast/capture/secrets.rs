//! What a capture's bytes hold that nobody may see, so that no word that is shown repeats a part of it.

use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::known;
use super::words::parts;

/// Most secrets that are remembered; beyond it no word is shown that is not in the vocabulary.
const MOST: usize = 4096;
/// Most bytes of all of them together.
const MOST_BYTES: usize = 1 << 20;
/// Most words that are compared with them; any further one counts as secret, lest a hostile server keep
/// the comparison going for ever.
const MOST_WORDS: usize = 2000;
/// Shortest secret, or part of a word, that is looked for inside something longer, in bytes.
const SHORTEST_INSIDE: usize = 4;
/// Length of the pieces of a shown text that may not stand in a secret, in bytes.
const WINDOW: usize = 8;

/// The secrets of a capture: tokens, ids, what tells of a person, texts.
#[derive(Default)]
pub struct Secrets {
    /// In small letters.
    values: Vec<String>,
    /// The secrets that are texts and may grow.
    texts: Vec<String>,
    bytes: usize,
    is_full: bool,
    vocabulary: HashSet<&'static str>,
    /// The parts of its words.
    known_parts: HashSet<String>,
    /// Answers of [`Secrets::touch`] so far.
    answers: HashMap<String, bool>,
}

impl Secrets {
    /// None yet.
    pub fn new() -> Secrets {
        let vocabulary: HashSet<&str> = known::words().collect();
        let known_parts = vocabulary.iter().flat_map(|word| parts(word)).collect();
        Secrets { vocabulary, known_parts, ..Secrets::default() }
    }

    /// Remembers a secret, also as it is in encodings that may pass for a word.
    pub fn learn_encoded(&mut self, secret: &str) {
        self.learn(secret);
        if secret.len() >= SHORTEST_INSIDE {
            self.learn(&BASE64_URL.encode(secret));
            self.learn(&utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string());
        }
    }

    /// Remembers a secret.
    pub fn learn(&mut self, secret: &str) {
        let secret = secret.trim().to_lowercase();
        let is_new = !self.is_known_word(&secret) && !self.values.contains(&secret);
        if self.is_full || secret.is_empty() || !is_new {
            return;
        }
        self.answers.clear();
        self.bytes += secret.len();
        self.values.push(secret);
        self.is_full |= self.values.len() > MOST || self.bytes > MOST_BYTES;
    }

    /// Remembers a text, in place of its beginning if that was remembered: texts grow from event to
    /// event.
    pub fn learn_text(&mut self, text: &str) {
        let small = text.trim().to_lowercase();
        let is_beginning = |value: &String| {
            value.len() >= SHORTEST_INSIDE && small.starts_with(value.as_str()) && *value != small
        };
        if let Some(beginning) = self.texts.iter().position(is_beginning) {
            let beginning = self.texts.swap_remove(beginning);
            self.bytes -= beginning.len();
            self.values.retain(|value| *value != beginning);
        }
        self.learn(text);
        if self.values.last() == Some(&small) {
            self.texts.push(small);
        }
    }

    /// Remembers what tells of a person: as a whole, and each of its words.
    pub fn learn_person(&mut self, text: &str) {
        self.learn_encoded(text);
        let words = text.split(|c: char| !c.is_alphanumeric());
        words.filter(|word| word.chars().count() >= 3).for_each(|word| self.learn(word));
    }

    /// Whether `word` is in the vocabulary, in small or capital letters.
    pub fn is_known_word(&self, word: &str) -> bool {
        self.vocabulary.contains(word) || self.vocabulary.contains(word.to_lowercase().as_str())
    }

    /// Whether a word that is not in the vocabulary is, holds, or is a part of a secret, also read
    /// backwards.
    pub fn touch(&mut self, word: &str) -> bool {
        if let Some(answer) = self.answers.get(word) {
            return *answer;
        }
        if self.is_full || self.answers.len() >= MOST_WORDS {
            return true;
        }
        let small = word.to_lowercase();
        let backwards: String = small.chars().rev().collect();
        let answer = self.touches(&small) || self.touches(&backwards);
        self.answers.insert(word.to_owned(), answer);
        answer
    }

    fn touches(&self, word: &str) -> bool {
        let mut pieces = parts(word);
        pieces.retain(|part| !self.known_parts.contains(part));
        pieces.push(word.to_owned());
        pieces.retain(|piece| piece.len() >= SHORTEST_INSIDE);
        self.values.iter().any(|value| {
            value == word
                || (value.len() >= SHORTEST_INSIDE && word.contains(value.as_str()))
                || pieces.iter().any(|piece| value.contains(piece.as_str()))
        })
    }

    /// Whether a secret is in `text`, or a piece of `text` in a secret.
    pub fn share_with(&self, text: &str) -> bool {
        let small = text.to_lowercase();
        let pieces: Vec<&str> = pieces_of(&small).collect();
        let has = |value: &String| {
            let is_inside = value.len() >= SHORTEST_INSIDE && small.contains(value.as_str());
            is_inside || pieces.iter().any(|piece| value.contains(piece))
        };
        self.is_full || self.values.iter().any(has)
    }

    /// The secrets of some length that a reader could take for nothing else.
    pub fn long(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(String::as_str).filter(|value| value.len() >= 2 * WINDOW)
    }
}

/// All pieces of `text` that are as long as a window, or longer by a part of a character.
fn pieces_of(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().filter_map(move |(from, _)| {
        let to = (from + WINDOW..=text.len()).find(|to| text.is_char_boundary(*to))?;
        Some(&text[from..to])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_touch_a_secret_are_found() {
        let mut secrets = Secrets::new();
        secrets.learn("The Secretword is Paris");
        secrets.learn_person("Alice Smith <alice@corner.example>");
        secrets.learn("abc");
        for word in
            ["secretword", "paris", "alice", "state:smith", "corner", "abc", "sirap", "xyzalicexyz"]
        {
            assert!(secrets.touch(word), "{word}");
        }
        for word in ["progress", "abcd", "execution:progress", "queue"] {
            assert!(!secrets.touch(word), "{word}");
        }
    }

    #[test]
    fn the_vocabulary_stays_visible_whatever_is_secret() {
        let mut secrets = Secrets::new();
        secrets.learn("completed");
        assert!(secrets.is_known_word("completed") && secrets.is_known_word("PGRST301"));
        assert!(!secrets.touch("completely"));
    }

    #[test]
    fn with_more_secrets_than_are_remembered_no_word_is_harmless() {
        let mut secrets = Secrets::new();
        (0..=MOST).for_each(|number| secrets.learn(&format!("{number:05} is a secret")));
        assert!(secrets.touch("progress"));
    }
}
