//! The tags of a call as models write them. The nonce is what makes a tag one of ours; everything else may
//! differ: the word before it, white space, case, quotes, other attributes, HTML's escapes.

use super::super::cursor::{Cursor, Miss};

/// Words that models put before the nonce, or at the beginning of end tags.
const WORDS: [&str; 8] =
    ["tool_call", "tool-call", "toolcall", "function_call", "function", "invoke", "call", "tool"];
/// What those, and the words of tags around calls, begin with.
const ROOTS: [&str; 4] = ["call", "tool", "function", "invoke"];
/// Longest word of a stray tag, in bytes.
const LONGEST_STRAY: usize = 60;
/// Longest end tag, and longest begin tag up to the nonce, in bytes, that is looked for in other text.
pub const LONGEST: usize = 256;
/// The attributes that name the tool, in this order.
const NAMES: [&str; 6] = ["name", "tool", "tool_name", "function", "fn", "recipient_name"];
const ENTITIES: [(&str, char); 9] = [
    ("&lt;", '<'),
    ("&gt;", '>'),
    ("&quot;", '"'),
    ("&amp;", '&'),
    ("&apos;", '\''),
    ("&#39;", '\''),
    ("&#34;", '"'),
    ("&#x27;", '\''),
    ("&#x22;", '"'),
];

/// What begins character data, in which no entities are.
pub const CDATA: &str = "<![CDATA[";
/// Brackets that models put in the place of `<` and `>`.
const BRACKETS: [(char, char); 6] =
    [('[', ']'), ('＜', '＞'), ('〈', '〉'), ('《', '》'), ('⟨', '⟩'), ('【', '】')];

/// Hyphens that models put between the word and the nonce.
const HYPHENS: [char; 9] = ['-', '_', ':', '\u{2010}', '\u{2011}', '\u{2012}', '–', '—', '－'];

/// A begin tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// The name of a tool, as it was written, if the tag has one.
    pub name: Option<String>,
    /// All attributes with values.
    pub attributes: Vec<(String, String)>,
    /// True if the tag closes itself.
    pub is_closed: bool,
}

/// True if a tag may begin with this character.
pub fn opens(c: char) -> bool {
    c == '<' || closer(c).is_some()
}

/// The bracket that closes another one than `<`.
fn closer(c: char) -> Option<char> {
    BRACKETS.iter().find(|(open, _)| *open == c).map(|(_, close)| *close)
}

/// False if a text that begins with a bracket or `&` is no tag of a call, as its first characters show.
pub fn may_begin(text: &str, nonce: &str) -> bool {
    let agrees = |rest: &str, word: &str| {
        rest.bytes().zip(word.bytes()).all(|(a, b)| a.eq_ignore_ascii_case(&b))
    };
    if let Some(rest) = text.strip_prefix(|c| closer(c).is_some()) {
        return agrees(rest, ROOTS[0]) || agrees(rest, nonce);
    }
    let Some(rest) = text.strip_prefix('<') else { return agrees(text, "&lt;") };
    let rest = rest.trim_start_matches(['|', ' ', '\n']);
    // Of most tags the first letter decides.
    let may_be = |byte: &u8| b"ctfi".contains(&byte.to_ascii_lowercase());
    let is_root = rest.as_bytes().first().is_none_or(may_be);
    (is_root && ROOTS.iter().any(|root| agrees(rest, root))) || agrees(rest, nonce)
}

/// Reads the begin tag at the cursor, whose `<` may be escaped for HTML, or another bracket: then the text up
/// to the tag's end is.
pub fn begin(cursor: &mut Cursor<'_>, nonce: &str) -> Result<Begin, Miss> {
    match cursor.rest.chars().next() {
        Some('&') => escaped_begin(cursor, nonce),
        Some(c) if closer(c).is_some() => bracketed_begin(cursor, nonce),
        _ => plain_begin(cursor, nonce),
    }
}

fn escaped_begin(cursor: &mut Cursor<'_>, nonce: &str) -> Result<Begin, Miss> {
    let (text, _) = decoded(cursor.rest);
    let mut decoded = Cursor::new(&text);
    let begin = match decoded.rest.starts_with('<') {
        true => plain_begin(&mut decoded, nonce)?,
        false if "&lt;".starts_with(cursor.rest) => return Err(Miss::More),
        false => return Err(Miss::Never),
    };
    let text = cursor.rest;
    let ends = text.char_indices().map(|(at, _)| &text[at..]);
    let rest = ends.rev().find(|rest| self::decoded(rest).0 == decoded.rest);
    cursor.rest = if decoded.rest.is_empty() { "" } else { rest.unwrap_or_default() };
    Ok(begin)
}

/// Reads a begin tag in other brackets than `<` and `>`, all of which stands between them.
fn bracketed_begin(cursor: &mut Cursor<'_>, nonce: &str) -> Result<Begin, Miss> {
    let mut chars = cursor.rest.chars();
    let close = chars.next().and_then(closer).ok_or(Miss::Never)?;
    let inside = chars.as_str();
    let end = inside.find(['>', close]);
    let tag = format!("<{}", &inside[..end.unwrap_or(inside.len())]);
    let Some(end) = end else {
        let missed = plain_begin(&mut Cursor::new(&tag), nonce);
        return Err(missed.err().unwrap_or(Miss::More));
    };
    let tag = format!("{tag}>");
    let mut at = Cursor::new(&tag);
    let begin = plain_begin(&mut at, nonce).map_err(|_| Miss::Never)?;
    let behind = &inside[end..];
    cursor.rest = &behind[behind.chars().next().map_or(0, char::len_utf8)..];
    if at.rest.is_empty() { Ok(begin) } else { Err(Miss::Never) }
}

fn plain_begin(cursor: &mut Cursor<'_>, nonce: &str) -> Result<Begin, Miss> {
    own_word(cursor, nonce)?;
    attributes(cursor, nonce)
}

/// Skips `<`, a word and the nonce; or `<` and a word whose attributes have the nonce.
fn own_word(cursor: &mut Cursor<'_>, nonce: &str) -> Result<(), Miss> {
    cursor.word("<")?;
    cursor.rest = cursor.rest.trim_start_matches(['|', ' ', '\n']);
    let end = end_of_head(cursor.rest);
    let head = &cursor.rest[..end.unwrap_or(cursor.rest.len())];
    match head_of(head, nonce) {
        Ok(()) if end.is_some() => {
            cursor.rest = &cursor.rest[head.len()..];
            // What is next to the nonce must not be part of it.
            if cursor.rest.starts_with(char::is_alphanumeric) { Err(Miss::Never) } else { Ok(()) }
        }
        Ok(()) => Err(Miss::More),
        Err(Miss::More) if end.is_none() => Err(Miss::More),
        _ => nonce_in_attributes(cursor, head, end.is_some(), nonce),
    }
}

/// Where a tag's word ends, which may have a colon before the nonce, as names with a prefix have in XML.
fn end_of_head(text: &str) -> Option<usize> {
    let is_behind = |c: char| !(c.is_ascii_alphanumeric() || (c != ':' && HYPHENS.contains(&c)));
    let end = text.find(is_behind)?;
    match text[end..].strip_prefix(':') {
        Some(rest) if WORDS.contains(&text[..end].to_ascii_lowercase().as_str()) => {
            Some(end + 1 + rest.find(is_behind)?)
        }
        _ => Some(end),
    }
}

/// True if `head` is a word and the nonce.
fn head_of(head: &str, nonce: &str) -> Result<(), Miss> {
    let lower = head.to_ascii_lowercase();
    let nonce = nonce.to_ascii_lowercase();
    let mut best = Miss::Never;
    for word in WORDS.into_iter().chain([""]) {
        if word.starts_with(&lower) {
            best = Miss::More;
        }
        let Some(rest) = lower.strip_prefix(word) else { continue };
        let rest = rest.strip_prefix(HYPHENS).unwrap_or(rest);
        if rest == nonce {
            return Ok(());
        }
        if nonce.starts_with(rest) {
            best = Miss::More;
        }
    }
    Err(best)
}

/// Skips a word behind which an attribute has the nonce.
fn nonce_in_attributes(
    cursor: &mut Cursor<'_>,
    head: &str,
    is_ended: bool,
    nonce: &str,
) -> Result<(), Miss> {
    let lower = head.to_ascii_lowercase();
    if !is_ended || !WORDS.contains(&lower.as_str()) {
        return Err(Miss::Never);
    }
    let rest = &cursor.rest[head.len()..];
    if !rest.starts_with(char::is_whitespace) {
        return Err(Miss::Never);
    }
    let end = rest.find('>').ok_or(Miss::More)?;
    let has_nonce = rest[..end].split(|c: char| !c.is_alphanumeric()).any(|part| part == nonce);
    cursor.rest = rest;
    if has_nonce { Ok(()) } else { Err(Miss::Never) }
}

/// What stands next in a tag.
enum Item {
    /// The tag's end.
    End,
    /// A slash, which is the tag's own if `true`.
    Slash(bool),
    Attribute(String, String),
    /// A word without a value.
    Bare(String),
}

/// Reads attributes to the end of the tag; a brace ends it, too.
fn attributes(cursor: &mut Cursor<'_>, nonce: &str) -> Result<Begin, Miss> {
    let mut begin = Begin::default();
    let mut bare = None;
    loop {
        match item(cursor)? {
            Item::End => break,
            Item::Slash(is_closed) => begin.is_closed = is_closed,
            Item::Attribute(key, value) => begin.attributes.push((key, value)),
            Item::Bare(word) => {
                bare.get_or_insert(word);
            }
        }
    }
    begin.name = named(&begin.attributes).or(bare.filter(|word| word != nonce));
    Ok(begin)
}

fn item(cursor: &mut Cursor<'_>) -> Result<Item, Miss> {
    let is_nothing = |c: char| c.is_whitespace() || ",:.|\\".contains(c);
    cursor.rest = cursor.rest.trim_start_matches(is_nothing);
    match cursor.rest.chars().next().ok_or(Miss::More)? {
        '>' => {
            cursor.rest = &cursor.rest[1..];
            Ok(Item::End)
        }
        '{' => Ok(Item::End),
        '/' => {
            cursor.rest = &cursor.rest[1..];
            if cursor.rest.is_empty() {
                return Err(Miss::More);
            }
            Ok(Item::Slash(cursor.rest.starts_with('>')))
        }
        '<' => Err(Miss::Never),
        _ => attribute(cursor),
    }
}

/// Reads a word, and its value if it has one.
fn attribute(cursor: &mut Cursor<'_>) -> Result<Item, Miss> {
    let word = value(cursor)?;
    let behind = cursor.rest.trim_start();
    if let Some(rest) = behind.strip_prefix(['=', ':']) {
        cursor.rest = rest.trim_start();
        return Ok(Item::Attribute(word, value(cursor)?));
    }
    if behind.is_empty() { Err(Miss::More) } else { Ok(Item::Bare(word)) }
}

/// The name of the tool by the attribute that names it best.
fn named(attributes: &[(String, String)]) -> Option<String> {
    NAMES.iter().find_map(|key| {
        let found = attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.clone())
    })
}

/// Reads a value in quotes of any kind, or a word without.
fn value(cursor: &mut Cursor<'_>) -> Result<String, Miss> {
    cursor.rest = cursor.rest.strip_prefix('\\').unwrap_or(cursor.rest);
    let first = cursor.rest.chars().next().ok_or(Miss::More)?;
    let end = match first {
        '"' | '\'' | '`' => first,
        '“' | '”' | '„' => '”',
        '‘' | '’' => '’',
        _ => {
            let is_end = |c: char| c.is_whitespace() || "=>{<|\"'".contains(c);
            let at = cursor.rest.find(is_end).ok_or(Miss::More)?;
            let word = cursor.rest[..at].trim_end_matches('/');
            if word.is_empty() {
                return Err(Miss::Never);
            }
            cursor.rest = &cursor.rest[word.len()..];
            return Ok(word.to_owned());
        }
    };
    let inside = &cursor.rest[first.len_utf8()..];
    let also = if end == '”' { '“' } else { end };
    let at = inside.find([end, also]).ok_or(Miss::More)?;
    let behind = &inside[at..];
    cursor.rest = &behind[behind.chars().next().map_or(0, char::len_utf8)..];
    Ok(inside[..at].trim_end_matches('\\').to_owned())
}

/// Decodes HTML's entities, as far as they are complete; true if something was one.
pub fn decoded(text: &str) -> (String, bool) {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (length, c) = entity(rest).unwrap_or((1, '&'));
        out.push(c);
        rest = &rest[length..];
    }
    out.push_str(rest);
    let changed = out.len() != text.len();
    (out, changed)
}

/// The length and meaning of the entity at the beginning of a text.
pub fn entity(text: &str) -> Option<(usize, char)> {
    ENTITIES.iter().find(|(name, _)| text.starts_with(name)).map(|(name, c)| (name.len(), *c))
}

/// True if a text may become an entity.
pub fn may_be_entity(text: &str) -> bool {
    ENTITIES.iter().any(|(name, _)| name.starts_with(text))
}

/// False if the tag of [`own_end`], [`any_end`] or [`own_begin`] cannot be complete with this character.
pub fn may_complete(c: char, nonce: &str) -> bool {
    let closes = |(_, close): &(char, char)| *close == c;
    c == '>'
        || BRACKETS.iter().any(closes)
        || nonce.ends_with(|last: char| last.eq_ignore_ascii_case(&c))
}

/// Reads the end tag with the nonce; returns what follows it.
pub fn own_end<'a>(text: &'a str, nonce: &str) -> Result<&'a str, Miss> {
    let (word, rest) = end_tag(text)?;
    if head_of(word, nonce).is_ok() { Ok(rest) } else { Err(Miss::Never) }
}

/// Reads an end tag with the nonce, or of another form of calls; returns what follows it.
pub fn any_end<'a>(text: &'a str, nonce: &str) -> Result<&'a str, Miss> {
    let (word, rest) = end_tag(text)?;
    let is_end =
        head_of(word, nonce).is_ok() || WORDS.contains(&word.to_ascii_lowercase().as_str());
    if is_end { Ok(rest) } else { Err(Miss::Never) }
}

/// Reads an end tag: its word, and what follows it. Attributes behind the word do not matter.
fn end_tag(text: &str) -> Result<(&str, &str), Miss> {
    let first = text.chars().next().ok_or(Miss::More)?;
    if !opens(first) {
        return Err(Miss::Never);
    }
    let mut cursor = Cursor::new(&text[first.len_utf8()..]);
    cursor.rest = cursor.rest.trim_start_matches(['|', ' ']);
    cursor.word("/")?;
    let at = cursor.rest.find(['>', closer(first).unwrap_or('>')]);
    let tag = &cursor.rest[..at.unwrap_or(cursor.rest.len())];
    let is_allowed = |c: char| {
        c.is_ascii_alphanumeric()
            || c.is_whitespace()
            || "|=\"'.".contains(c)
            || HYPHENS.contains(&c)
    };
    if tag.len() > LONGEST_STRAY || !tag.chars().all(is_allowed) {
        return Err(Miss::Never);
    }
    let behind = &cursor.rest[at.ok_or(Miss::More)?..];
    let rest = &behind[behind.chars().next().map_or(0, char::len_utf8)..];
    let word = tag.trim().split(|c: char| c.is_whitespace() || c == '|').next();
    Ok((word.unwrap_or_default(), rest))
}

/// Finds out whether a text begins with a begin tag, up to the nonce.
pub fn own_begin(text: &str, nonce: &str) -> Result<(), Miss> {
    let first = text.chars().next().ok_or(Miss::More)?;
    if !opens(first) {
        return Err(Miss::Never);
    }
    let mut cursor = Cursor::new(&text[first.len_utf8()..]);
    cursor.blanks();
    let end = end_of_head(cursor.rest);
    match head_of(&cursor.rest[..end.unwrap_or(cursor.rest.len())], nonce) {
        Ok(()) => Ok(()),
        Err(Miss::More) if end.is_none() => Err(Miss::More),
        Err(_) => Err(Miss::Never),
    }
}

/// Skips what means nothing between calls: a tag such as `</tool_calls>`, `<br/>` or `<|end|>`, a comment, an
/// end tag in other brackets, or such a bracket.
pub fn stray(cursor: &mut Cursor<'_>, nonce: &str) -> Result<(), Miss> {
    let other = cursor.rest.chars().next().filter(|c| closer(*c).is_some());
    if let Some(c) = other {
        cursor.rest = match any_end(cursor.rest, nonce) {
            Ok(rest) => rest,
            Err(Miss::More) => return Err(Miss::More),
            Err(Miss::Never) => &cursor.rest[c.len_utf8()..],
        };
        return Ok(());
    }
    if let Some(comment) = cursor.rest.strip_prefix("<!--") {
        cursor.rest = &comment[comment.find("-->").ok_or(Miss::More)? + 3..];
        return Ok(());
    }
    if "<!--".starts_with(cursor.rest) {
        return Err(Miss::More);
    }
    let at = cursor.rest.find('>');
    let tag = &cursor.rest[..at.unwrap_or(cursor.rest.len())];
    let is_allowed =
        |c: char| c.is_ascii_alphanumeric() || " </|_-:=\"'".contains(c) || c == '｜' || c == '▁';
    let word = tag.trim_start_matches(['<', '/', ' ', '|']).to_ascii_lowercase();
    if tag.len() > LONGEST_STRAY || !tag.chars().all(is_allowed) || word.starts_with("result") {
        return Err(Miss::Never);
    }
    cursor.rest = &cursor.rest[at.ok_or(Miss::More)? + 1..];
    Ok(())
}

/// The tags that models put around all calls.
const WRAPPERS: [&str; 7] =
    ["tool_calls", "function_calls", "tool_call", "function_call", "calls", "call", "tools"];

/// Skips a tag that models put around calls.
pub fn wrapper(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
    let mut best = Miss::Never;
    for word in WRAPPERS {
        let mut at = *cursor;
        let missed = at.word("<").and_then(|()| at.word(word)).and_then(|()| at.word(">"));
        match missed {
            Ok(()) => {
                *cursor = at;
                return Ok(());
            }
            Err(Miss::More) => best = Miss::More,
            Err(Miss::Never) => {}
        }
    }
    Err(best)
}
