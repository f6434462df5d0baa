//! Words for people in a capture: messages of errors, of which what is known stays.
//!
//! Enters: a message. Leaves: the same, in which every word that is not in the dictionary is a
//! placeholder. It may not know where the message stands.

use super::Mask;
use crate::langfast::capture::known;

/// Longest text that is taken for words about an error, in bytes.
const LONGEST_MESSAGE: usize = 2000;

impl Mask {
    /// Words for people: as they are if they are known, else by the words that are in the dictionary.
    pub fn message(&mut self, text: &str) -> String {
        let text = text.trim();
        if known::MESSAGES.iter().any(|known| known.eq_ignore_ascii_case(text)) {
            return text.to_owned();
        }
        if text.len() > LONGEST_MESSAGE {
            return self.text(text);
        }
        let words: Vec<(&str, String)> =
            text.split(' ').map(|word| (word, self.message_word(word))).collect();
        let as_they_are = words.iter().filter(|(word, shown)| word == shown).map(|(word, _)| *word);
        let as_they_are: Vec<&str> = as_they_are.collect();
        match self.secrets.share_with(&as_they_are.join(" ")) {
            true => self.text(text),
            false => words.into_iter().map(|(_, shown)| shown).collect::<Vec<_>>().join(" "),
        }
    }

    /// A word of such a text, with the signs around it.
    fn message_word(&mut self, word: &str) -> String {
        let is_sign = |c: char| c.is_ascii_punctuation() && c != '_' && c != '/';
        let bare = word.trim_matches(is_sign);
        if bare.is_empty() {
            return word.chars().take(3).collect();
        }
        let at = word.find(bare).unwrap_or(0);
        let (before, after) = (&word[..at], &word[at + bare.len()..]);
        let limit = |signs: &str| signs.chars().take(3).collect::<String>();
        let is_small = bare.len() <= 3 && bare.bytes().all(|b| b.is_ascii_digit());
        let shown = match is_small || self.is_in_dictionary(bare) {
            true => bare.to_owned(),
            false => self.shaped(bare),
        };
        format!("{}{shown}{}", limit(before), limit(after))
    }

    /// Whether each part of a word, between its signs, is in the dictionary.
    fn is_in_dictionary(&self, word: &str) -> bool {
        let mut parts = word.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let is_ascii = word.is_ascii();
        is_ascii
            && parts.all(|part| part.is_empty() || self.dictionary.contains(&part.to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use crate::langfast::capture::mask::tests::mask;

    #[test]
    fn known_messages_stay_and_of_others_the_words_that_are_known() {
        let mut mask = mask();
        for message in ["Legacy API keys are disabled", "jwt EXPIRED"] {
            assert_eq!(mask.message(message), message);
        }
        let shown =
            mask.message("Unsupported parameter: 'top_k' of model `gpt-9` is not supported");
        assert!(shown.starts_with("Unsupported parameter: '"), "{shown}");
        assert!(shown.contains("' of model `") && shown.ends_with("` is not supported"), "{shown}");
        assert!(!shown.contains("top_k") && !shown.contains("gpt-9"), "{shown}");
        let quoted = mask.message("Invalid prompt: tell me about the request");
        assert!(!quoted.contains("about the") && !quoted.contains("prompt"), "{quoted}");
    }
}
