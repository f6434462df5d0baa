//! API keys as people write them: in a file, a variable, or a credential.

use crate::config::BadSetting;

/// Length, in characters, below which the log warns of a key.
const SHORT_KEY: usize = 16;

/// The keys that clients may send.
#[derive(Clone, Default)]
pub struct Keys {
    pub(super) list: Vec<String>,
    /// Warnings for people, which quote no key.
    pub warnings: Vec<String>,
}

impl Keys {
    /// Reads keys that are separated by commas or line ends; `#` and what follows it in a line is a
    /// comment. `source` names the setting in messages.
    ///
    /// # Errors
    /// There is no key in it, or white space within one. A setting that was meant to close the server
    /// must not leave it open.
    pub fn read(text: &str, source: &str) -> Result<Keys, BadSetting> {
        let mut keys = Keys::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            let (before, comment) = line.split_once('#').unwrap_or((line, ""));
            if !comment.is_empty() && before.ends_with(|last: char| !last.is_whitespace()) {
                keys.warnings.push(format!(
                    "{source}: in line {number} a key ends at `#`: what follows is a comment"
                ));
            }
            for key in before.split(',').map(str::trim).filter(|key| !key.is_empty()) {
                keys.add(key, number, source)?;
            }
        }
        match keys.list.is_empty() {
            false => Ok(keys),
            true => Err(BadSetting(format!(
                "{source} is set and holds no API key, so that everybody would be let in. Write a \
                 key there (`openssl rand -hex 24` makes one), a line each, or remove the setting"
            ))),
        }
    }

    fn add(&mut self, key: &str, line: usize, source: &str) -> Result<(), BadSetting> {
        if key.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(BadSetting(format!(
                "{source}: line {line} has white space within a key. Write a line for each key (or \
                 commas between them), and `#` before a comment"
            )));
        }
        if key.chars().count() < SHORT_KEY {
            self.warnings.push(format!(
                "{source}: a key in line {line} has fewer than {SHORT_KEY} characters and can be \
                 guessed; `openssl rand -hex 24` makes a good one"
            ));
        }
        self.list.push(key.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(keys: &str) -> String {
        Keys::read(keys, "KEYS").err().map(|e| e.0).unwrap_or_else(|| panic!("{keys:?} is read"))
    }

    #[test]
    fn nothing_of_a_comment_is_a_key_and_what_editors_leave_does_no_harm() {
        let text = "\u{feff}sk-alice-0123456789  # laptop of alice\r\n# bob\r\n sk-bob-0123456789,\r\n\
                    sk-carol-0123456789#her phone";
        let keys = Keys::read(text, "KEYS").map_err(|e| e.0).unwrap();
        assert_eq!(keys.list, ["sk-alice-0123456789", "sk-bob-0123456789", "sk-carol-0123456789"]);
        assert_eq!(keys.warnings.len(), 1, "of the key that ends at `#`: {:?}", keys.warnings);
        assert!(keys.warnings[0].contains("line 4"));
    }

    #[test]
    fn keys_that_are_none_and_white_space_within_one_are_refused() {
        for text in ["", " ", ",", " , ,\n", "#abc", "# a\n  # b\n", "\u{feff}", "\u{feff}# a"] {
            assert!(fault(text).contains("holds no API key"), "{text:?}");
        }
        for text in ["one two", "a\n\none\u{a0}two", "a,one\ttwo", "one\rtwo"] {
            let fault = fault(text);
            assert!(fault.contains("white space"), "{fault}");
            assert!(!fault.contains("one"), "a key is told: {fault}");
        }
    }

    #[test]
    fn short_keys_are_warned_of_without_being_told() {
        let warnings = |text: &str| Keys::read(text, "KEYS").map_err(|e| e.0).unwrap().warnings;
        let short = warnings("# a\nfifteen-letters");
        assert_eq!(short.len(), 1);
        assert!(short[0].contains("line 2") && !short[0].contains("fifteen-l"), "{short:?}");
        assert!(warnings("sixteen--letters").is_empty());
    }
}
