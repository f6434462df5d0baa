//! What a line of a list begins with: `- `, `* [ ] `, `1. `, `(a) `, `**2.** `, `3️⃣ `, or the bracket of a list
//! around calls.

use super::super::cursor::{Cursor, Miss};
use super::tag;

const SIGNS: [char; 7] = ['-', '*', '+', '•', '–', '→', '·'];
/// Letters that count lines.
const LETTERS: [std::ops::RangeInclusive<char>; 2] = ['a'..='h', 'A'..='H'];
/// What makes an emoji of a digit.
const KEYCAP: &str = "\u{fe0f}\u{20e3}";

/// False if a line that begins so is none of a list, as its first characters show.
pub fn may_begin(line: &str) -> bool {
    let mut chars = line.chars();
    match chars.next() {
        Some(c) if is_letter(c) => matches!(chars.next(), None | Some(')' | '.')),
        Some(c) => c.is_ascii_digit() || "([_".contains(c) || SIGNS.contains(&c),
        None => true,
    }
}

/// Skips it up to the blank behind it, which a bracket need not have.
pub fn skip(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    if cursor.rest.starts_with('[') {
        cursor.word("[")?;
        return blank(cursor);
    }
    let Some(emphasis) = emphasis(cursor)? else {
        return if begins_counter(cursor.rest) { counted(cursor) } else { sign(cursor) };
    };
    cursor.rest = &cursor.rest[emphasis.len()..];
    match cursor.rest.chars().next() {
        None => Err(Miss::More),
        Some(c) if c.is_whitespace() && emphasis == "*" => checkbox(cursor),
        // A counter, or the letters of the call itself.
        Some(_) if !begins_counter(cursor.rest) => Ok(()),
        Some(_) => {
            counter(cursor)?;
            cursor.word(emphasis)?;
            blank(cursor)
        }
    }
}

/// The signs around bold or slanted letters that begin here.
fn emphasis<'a>(cursor: &Cursor<'a>) -> Result<Option<&'a str>, Miss> {
    let Some(c) = cursor.rest.chars().next().filter(|c| matches!(c, '*' | '_')) else {
        return Ok(None);
    };
    let behind = cursor.rest.trim_start_matches(c);
    let signs = &cursor.rest[..cursor.rest.len() - behind.len()];
    if signs.len() > 3 { Err(Miss::Never) } else { Ok(Some(signs)) }
}

fn sign(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    cursor.one_of(&SIGNS)?;
    match cursor.rest.chars().next() {
        None => Err(Miss::More),
        Some(c) if c.is_whitespace() => checkbox(cursor),
        Some(_) => Err(Miss::Never),
    }
}

fn counted(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    counter(cursor)?;
    blank(cursor)
}

/// Skips the empty box of something to be done.
fn checkbox(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    let mut at = Cursor::new(cursor.rest.trim_start_matches([' ', '\t']));
    match at.word("[ ]") {
        Ok(()) => cursor.rest = at.rest,
        Err(Miss::More) => return Err(Miss::More),
        Err(Miss::Never) => {}
    }
    Ok(())
}

/// Checks that a blank follows, or the call itself.
fn blank(cursor: &Cursor<'_>) -> Result<(), Miss> {
    match cursor.rest.chars().next() {
        None => Err(Miss::More),
        Some(c) if c.is_whitespace() || tag::opens(c) => Ok(()),
        Some(_) => Err(Miss::Never),
    }
}

fn is_letter(c: char) -> bool {
    LETTERS.iter().any(|letters| letters.contains(&c))
}

fn begins_counter(text: &str) -> bool {
    text.starts_with(|c: char| c == '(' || c.is_ascii_digit() || is_letter(c))
}

/// Skips a number or letter and what ends it: `1.`, `a)`, `(2)`, `3:`, `4️⃣`.
pub fn counter(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    let is_around = cursor.rest.starts_with('(');
    if is_around {
        cursor.word("(")?;
    }
    let c = cursor.rest.chars().next().ok_or(Miss::More)?;
    match c {
        '0'..='9' => digits(cursor)?,
        _ if is_letter(c) => cursor.rest = &cursor.rest[1..],
        _ => return Err(Miss::Never),
    }
    if cursor.rest.starts_with(['\u{fe0f}', '\u{20e3}']) && !is_around {
        cursor.rest = cursor.rest.trim_start_matches('\u{fe0f}');
        return cursor.word(&KEYCAP[3..]);
    }
    let ends: &[char] = if is_around { &[')'] } else { &['.', ')', ':'] };
    cursor.one_of(ends).map(|_| ())
}

fn digits(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    let behind = cursor.rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let length = cursor.rest.len() - behind.len();
    cursor.rest = behind;
    if length <= 3 { Ok(()) } else { Err(Miss::Never) }
}
