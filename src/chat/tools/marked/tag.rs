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

/// False if a text that begins with `<` or `&` is no tag of a call, as its first characters show.
pub fn may_begin(text: &str, nonce: &str) -> bool {
    let agrees = |rest: &str, word: &str| {
        rest.bytes().zip(word.bytes()).all(|(a, b)| a.eq_ignore_ascii_case(&b))
    };
    let Some(rest) = text.strip_prefix('<') else { return agrees(text, "&lt;") };
    let rest = rest.trim_start_matches(['|', ' ', '\n']);
    ROOTS.iter().any(|root| agrees(rest, root)) || agrees(rest, nonce)
}

/// Reads the begin tag at the cursor, whose `<` may be escaped for HTML: then the text up to the tag's end is.
pub fn begin(cursor: &mut Cursor<'_>, nonce: &str) -> Result<Begin, Miss> {
    if !cursor.rest.starts_with('&') {
        return plain_begin(cursor, nonce);
    }
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

fn plain_begin(cursor: &mut Cursor<'_>, nonce: &str) -> Result<Begin, Miss> {
    own_word(cursor, nonce)?;
    let begin = attributes(cursor, nonce)?;
    Ok(begin)
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
    let is_behind = |c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c));
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
        let rest = rest.strip_prefix(['-', '_', ':']).unwrap_or(rest);
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

/// Reads attributes to the end of the tag; a brace ends it, too.
fn attributes(cursor: &mut Cursor<'_>, nonce: &str) -> Result<Begin, Miss> {
    let mut begin = Begin::default();
    let mut bare = None;
    loop {
        cursor.rest =
            cursor.rest.trim_start_matches(|c: char| c.is_whitespace() || ",:.|\\".contains(c));
        match cursor.rest.chars().next().ok_or(Miss::More)? {
            '>' => {
                cursor.rest = &cursor.rest[1..];
                break;
            }
            '{' => break,
            '/' => {
                cursor.rest = &cursor.rest[1..];
                begin.is_closed = cursor.rest.starts_with('>');
                if cursor.rest.is_empty() {
                    return Err(Miss::More);
                }
            }
            '<' => return Err(Miss::Never),
            _ => {
                let word = value(cursor)?;
                let behind = cursor.rest.trim_start();
                if let Some(rest) = behind.strip_prefix(['=', ':']) {
                    cursor.rest = rest.trim_start();
                    begin.attributes.push((word, value(cursor)?));
                } else if behind.is_empty() {
                    return Err(Miss::More);
                } else {
                    bare.get_or_insert(word);
                }
            }
        }
    }
    let named = NAMES.iter().find_map(|key| {
        let is_it = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(key);
        begin.attributes.iter().find(is_it).map(|(_, value)| value.clone())
    });
    begin.name = named.or(bare.filter(|word| word != nonce));
    Ok(begin)
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
    let mut cursor = Cursor::new(text);
    cursor.word("<")?;
    cursor.rest = cursor.rest.trim_start_matches(['|', ' ']);
    cursor.word("/")?;
    let at = cursor.rest.find('>');
    let tag = &cursor.rest[..at.unwrap_or(cursor.rest.len())];
    let is_allowed =
        |c: char| c.is_ascii_alphanumeric() || c.is_whitespace() || "_-|=\"'.:".contains(c);
    if tag.len() > LONGEST_STRAY || !tag.chars().all(is_allowed) {
        return Err(Miss::Never);
    }
    let rest = &cursor.rest[at.ok_or(Miss::More)? + 1..];
    let word = tag.trim().split(|c: char| c.is_whitespace() || c == '|').next();
    Ok((word.unwrap_or_default(), rest))
}

/// Finds out whether a text begins with a begin tag, up to the nonce.
pub fn own_begin(text: &str, nonce: &str) -> Result<(), Miss> {
    let mut cursor = Cursor::new(text);
    cursor.word("<")?;
    cursor.blanks();
    let end = end_of_head(cursor.rest);
    match head_of(&cursor.rest[..end.unwrap_or(cursor.rest.len())], nonce) {
        Ok(()) => Ok(()),
        Err(Miss::More) if end.is_none() => Err(Miss::More),
        Err(_) => Err(Miss::Never),
    }
}

/// Skips a tag that means nothing between calls, such as `</tool_calls>`, `<br/>` or `<|end|>`.
pub fn stray(cursor: &mut Cursor<'_>) -> Result<(), Miss> {
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
