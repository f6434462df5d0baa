//! Matching at the beginning of a text that may not have arrived completely.

/// The reason that a text does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// It cannot match, whatever follows.
    Never,
    /// It matches so far; more text is needed.
    More,
}

/// Longest language name after a fence's backticks, such as `javascript`.
const LONGEST_LANGUAGE: usize = 12;
/// The backticks of a Markdown fence.
pub const FENCE: &str = "```";

/// A position in a text, which moves forward over matches.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    /// The text that has not been read.
    pub rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of `text`.
    pub fn new(text: &'a str) -> Cursor<'a> {
        Cursor { rest: text }
    }

    /// Skips white space.
    pub fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Skips exactly this word.
    pub fn word(&mut self, word: &str) -> Result<(), Miss> {
        match self.rest.strip_prefix(word) {
            Some(rest) => self.rest = rest,
            None if word.starts_with(self.rest) => return Err(Miss::More),
            None => return Err(Miss::Never),
        }
        Ok(())
    }

    /// Returns and skips the next character, which must be one of `these`.
    pub fn one_of(&mut self, these: &[char]) -> Result<char, Miss> {
        let c = self.rest.chars().next().ok_or(Miss::More)?;
        if !these.contains(&c) {
            return Err(Miss::Never);
        }
        self.rest = &self.rest[c.len_utf8()..];
        Ok(c)
    }

    /// Returns the text before `end`, at most `most` bytes of `allowed` characters, and skips it
    /// and `end`.
    pub fn until(
        &mut self,
        end: char,
        most: usize,
        allowed: impl Fn(char) -> bool,
    ) -> Result<&'a str, Miss> {
        let length = self.rest.find(|c| c == end || !allowed(c));
        match length {
            _ if length.unwrap_or(self.rest.len()) > most => Err(Miss::Never),
            None => Err(Miss::More),
            Some(length) => {
                let found = &self.rest[..length];
                self.rest = self.rest[length..].strip_prefix(end).ok_or(Miss::Never)?;
                Ok(found)
            }
        }
    }

    /// Skips white space and, if there is one, a Markdown fence with its language name.
    pub fn fence(&mut self) -> Result<(), Miss> {
        self.blanks();
        if !self.rest.starts_with('`') {
            return Ok(());
        }
        self.word(FENCE)?;
        let letters = |c: char| c.is_ascii_alphanumeric();
        let language = self.rest.find(|c| !letters(c)).unwrap_or(self.rest.len());
        if language > LONGEST_LANGUAGE {
            return Err(Miss::Never);
        }
        self.rest = &self.rest[language..];
        self.blanks();
        Ok(())
    }
}
