//! Looking at the beginning of a text that may not all be there yet.

/// Why a text does not match: it never will, or it may when there is more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Whatever follows.
    Never,
    /// So far it does.
    More,
}

/// Longest word behind the backticks of a Markdown fence, as `javascript`.
const LONGEST_LANGUAGE: usize = 12;
/// The three backticks.
pub const FENCE: &str = "```";

/// A text, read from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    /// What has not been read.
    pub rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// At the beginning of `text`.
    pub fn new(text: &'a str) -> Cursor<'a> {
        Cursor { rest: text }
    }

    /// Passes over white space.
    pub fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Passes over exactly this word.
    pub fn word(&mut self, word: &str) -> Result<(), Miss> {
        match self.rest.strip_prefix(word) {
            Some(rest) => self.rest = rest,
            None if word.starts_with(self.rest) => return Err(Miss::More),
            None => return Err(Miss::Never),
        }
        Ok(())
    }

    /// Passes over the first character, one of `these`.
    pub fn one_of(&mut self, these: &[char]) -> Result<char, Miss> {
        let c = self.rest.chars().next().ok_or(Miss::More)?;
        if !these.contains(&c) {
            return Err(Miss::Never);
        }
        self.rest = &self.rest[c.len_utf8()..];
        Ok(c)
    }

    /// Gives up to `most` bytes of `allowed` characters before `end`, and passes over them and it.
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

    /// Passes over white space and the opening of a Markdown fence, if there is one.
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
