//! How far a string has been read.

/// A string under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringState {
    /// The character that ends it.
    pub end: char,
    /// Whether three of these end it.
    pub triple: bool,
    pub escape: Escape,
    /// Number of characters so far, up to 3.
    pub length: u8,
    /// Whether it holds a quote that was not escaped.
    pub has_inner: bool,
    /// Number of braces and brackets that its text has left open.
    pub open: i32,
    /// Whether it begins as a path of Windows may, with a letter and a colon.
    pub drive: bool,
    /// Within a path of Windows whose backslashes are not doubled.
    pub in_path: bool,
}

/// The part of an escape that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    None,
    /// A backslash.
    Slash,
    /// A backslash and one of the letters of escapes, at the beginning of what may be a path.
    Drive(char),
    /// `\u` and so many digits, which are in `word`.
    Unicode(u8),
}

/// The character that ends a string that begins with `c`; `None` if no string does.
pub fn closer(c: char) -> Option<char> {
    match c {
        '"' | '\'' | '`' => Some(c),
        '“' | '”' => Some('”'),
        '‘' | '’' => Some('’'),
        _ => None,
    }
}
