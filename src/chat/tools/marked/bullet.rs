//! What a line of a list begins with: `- `, `* [ ] `, `1. `, `(a) `, `**2.** `, `3️⃣ `, `④`, `一、`, `（五）`, or the
//! bracket of a list around calls.

use super::super::cursor::{Cursor, Miss};
use super::tag;

const SIGNS: [char; 7] = ['-', '*', '+', '•', '–', '→', '·'];
/// Letters that count lines.
const LETTERS: [std::ops::RangeInclusive<char>; 2] = ['a'..='h', 'A'..='H'];
/// Chinese and Japanese numerals.
pub const NUMERALS: [char; 10] = ['一', '二', '三', '四', '五', '六', '七', '八', '九', '十'];
/// What ends a counter.
const ENDS: [char; 7] = ['.', ')', ':', '、', '．', '）', '：'];
/// What makes an emoji of a digit.
const KEYCAP: &str = "\u{fe0f}\u{20e3}";

/// False if a line that begins so is none of a list, as its first characters show.
pub fn may_begin(line: &str) -> bool {
    let mut chars = line.chars();
    match chars.next() {
        Some(c) if is_letter(c) => matches!(chars.next(), None | Some(')' | '.')),
        Some(c) if c.is_ascii() => c.is_ascii_digit() || "([_-*+".contains(c),
        Some(c) if NUMERALS.contains(&c) => chars.next().is_none_or(|c| ENDS.contains(&c)),
        Some(c) => SIGNS.contains(&c) || is_foreign(c),
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

/// True for digits in circles, other digits than ASCII's, and a bracket as wide as Chinese letters.
fn is_foreign(c: char) -> bool {
    !c.is_ascii() && (c == '（' || is_circled(c) || is_digit(c))
}

fn is_circled(c: char) -> bool {
    matches!(c, '①'..='⓿' | '❶'..='➓')
}

/// True for digits of ASCII, as wide as Chinese letters, of Arabic and of Devanagari.
fn is_digit(c: char) -> bool {
    matches!(c, '0'..='9' | '０'..='９' | '٠'..='٩' | '۰'..='۹' | '०'..='९')
}

fn begins_counter(text: &str) -> bool {
    let begins =
        |c| c == '(' || is_digit(c) || is_letter(c) || is_foreign(c) || NUMERALS.contains(&c);
    text.starts_with(begins)
}

/// Skips a number or letter and what ends it: `1.`, `a)`, `(2)`, `3:`, `4️⃣`, `⑤`, `六、`.
pub fn counter(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    let is_around = cursor.rest.starts_with(['(', '（']);
    if is_around {
        cursor.one_of(&['(', '（'])?;
    }
    let c = cursor.rest.chars().next().ok_or(Miss::More)?;
    match c {
        _ if is_digit(c) => digits(cursor)?,
        _ if is_circled(c) || is_letter(c) || NUMERALS.contains(&c) => {
            cursor.rest = &cursor.rest[c.len_utf8()..];
        }
        _ => return Err(Miss::Never),
    }
    if is_circled(c) && !is_around {
        return Ok(());
    }
    if cursor.rest.starts_with(['\u{fe0f}', '\u{20e3}']) && !is_around {
        cursor.rest = cursor.rest.trim_start_matches('\u{fe0f}');
        return cursor.word(&KEYCAP[3..]);
    }
    let ends: &[char] = if is_around { &[')', '）'] } else { &ENDS };
    cursor.one_of(ends).map(|_| ())
}

fn digits(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    let behind = cursor.rest.trim_start_matches(is_digit);
    let number = &cursor.rest[..cursor.rest.len() - behind.len()];
    cursor.rest = behind;
    if number.chars().count() <= 3 { Ok(()) } else { Err(Miss::Never) }
}
