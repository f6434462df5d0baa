//! Finds the refresh token in what a person has copied out of a browser; has no effects of its own.
//!
//! What browsers keep (known from the sources of supabase-js and supabase/ssr): the session object as
//! JSON in Local Storage; the same in cookies, as `base64-` and base64url, in parts `.0`, `.1`, … of at
//! most 3,180 bytes; and, by older versions, a list `[access token, refresh token, …]`. On its way here
//! it may be quoted, percent-encoded, wrapped into lines, or cut.

use std::fmt;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Longest refresh token that is believed to be one, in bytes: the known kinds have 12 to about 100.
const LONGEST: usize = 512;
/// Wrappings that are taken off, one within the other.
const DEEPEST: usize = 8;
/// The key of the token in a session object.
const KEY: &str = "refresh_token";
/// How the names of Supabase's cookies and keys in Local Storage end, before the number of a part.
const NAME_END: &str = "-auth-token";
/// Base64 as cookies have it, also if it is cut.
const COOKIE_BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A refresh token, and what it was found in.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundToken {
    /// The token.
    pub token: String,
    /// The wrapping in which the token was found.
    pub within: Wrapping,
}

/// The form of the text in which a refresh token was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// Nothing: the token alone.
    None,
    /// A session object, as Local Storage has it.
    Session,
    /// A list that begins with the access token.
    List,
    /// A cookie, or the parts of one.
    Cookie,
    /// Text that names it, such as a session object that is cut.
    Words,
}

/// Why there is no refresh token in a text. Its words do not quote the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoToken {
    /// The text is blank.
    Blank,
    /// It is an access token, or a key of the old kind: both are JWTs.
    Jwt,
    /// It is a key of the project (`sb_publishable_…`).
    ProjectKey,
    /// It has the form of a session, and no refresh token.
    Incomplete,
    /// It is something else.
    Unknown,
}

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrapping::None => "the text itself",
            Wrapping::Session => "a session in JSON, as Local Storage has it",
            Wrapping::List => "a list of tokens",
            Wrapping::Cookie => "a cookie",
            Wrapping::Words => "a session, by its name",
        })
    }
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoToken::Blank => "nothing was given",
            NoToken::Jwt => {
                "this is an access token or a key (a JWT), not a refresh token. Take the whole value that \
                 it is from: the refresh token stands in it, too"
            }
            NoToken::ProjectKey => "this is a key of LangFast's project, not a refresh token",
            NoToken::Incomplete => {
                "this is a part of a session, without its refresh token. Take the whole value; a cookie \
                 in parts (.0, .1) is whole when they follow one another"
            }
            NoToken::Unknown => "this is no refresh token, and nothing that is known to hold one",
        })
    }
}

/// Finds the refresh token in a text: the token itself, or whatever a browser keeps it in.
///
/// # Errors
/// There is none; the error says what the text is instead, as far as that can be told.
pub fn find(text: &str) -> Result<FoundToken, NoToken> {
    let text: String = text.chars().filter_map(plain).collect();
    search(&text, 0)
}

/// A character without what editors, terminals and web pages make of it.
fn plain(c: char) -> Option<char> {
    match c {
        '\u{feff}' | '\u{200b}'..='\u{200d}' | '\u{2060}' => None,
        '\u{a0}' | '\r' => Some(' '),
        '“' | '”' | '„' => Some('"'),
        '‘' | '’' => Some('\''),
        '\n' | '\t' => Some(c),
        c => Some(c).filter(|c| !c.is_control()),
    }
}

fn search(text: &str, depth: usize) -> Result<FoundToken, NoToken> {
    let deeper = |text: &str, within| {
        let found = search(text, depth + 1)?;
        Ok(FoundToken { within, ..found })
    };
    let text = text.trim().trim_end_matches([',', ';']);
    if depth > DEEPEST {
        return Err(NoToken::Unknown);
    }
    if let Some(value) = json(text).or_else(|| json(unquoted(text))) {
        return in_json(&value, depth);
    }
    let text = unquoted(text);
    if text.starts_with(['{', '[']) {
        return in_words(text);
    }
    if let Some(value) = cookie(text) {
        return deeper(&value, Wrapping::Cookie).map_err(|why| match why {
            NoToken::ProjectKey | NoToken::Unknown | NoToken::Blank => NoToken::Incomplete,
            other => other,
        });
    }
    if is_percent_encoded(text) {
        return search(&percent_decode_str(text).decode_utf8_lossy(), depth + 1);
    }
    if text.contains(KEY) {
        return in_words(text);
    }
    if let Some(base64) = text.strip_prefix("base64-") {
        return deeper(&decoded(base64), Wrapping::Cookie).map_err(|_| NoToken::Incomplete);
    }
    alone(text)
}

/// A text without the pair of quotes around it.
fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    ['"', '\'', '`'].into_iter().find_map(inner).unwrap_or(text).trim()
}

/// The JSON in a text, also if lines were broken within it.
fn json(text: &str) -> Option<Value> {
    if !text.starts_with(['{', '[', '"']) {
        return None;
    }
    let unbroken = || serde_json::from_str(&text.replace('\n', "")).ok();
    serde_json::from_str(text).ok().or_else(unbroken)
}

fn in_json(value: &Value, depth: usize) -> Result<FoundToken, NoToken> {
    let texts = |value: &Value| match value {
        Value::String(text) => search(text, depth + 1),
        Value::Array(_) | Value::Object(_) if depth < DEEPEST => in_json(value, depth + 1),
        _ => Err(NoToken::Unknown),
    };
    match value {
        Value::Object(fields) => match fields.get(KEY) {
            Some(Value::String(token)) => believed(token, Wrapping::Session),
            _ => fields.values().find_map(|value| wrapped(texts(value))).ok_or(NoToken::Incomplete),
        },
        Value::Array(items) => match &items[..] {
            [Value::String(access), Value::String(token), ..] if is_jwt(access) => {
                believed(token, Wrapping::List)
            }
            items => {
                items.iter().find_map(|value| wrapped(texts(value))).ok_or(NoToken::Incomplete)
            }
        },
        Value::String(text) => search(text, depth + 1),
        _ => Err(NoToken::Unknown),
    }
}

/// A token within something: any word could be one that stands alone.
fn wrapped(found: Result<FoundToken, NoToken>) -> Option<FoundToken> {
    found.ok().filter(|found| found.within != Wrapping::None)
}

/// Finds the token behind its name in a text that is no JSON, as one that is cut, or one in JavaScript's
/// notation. A token in quotes that do not end is cut, and not taken.
fn in_words(text: &str) -> Result<FoundToken, NoToken> {
    let text: String = text.chars().filter(|c| *c != '\\' && *c != '\n').collect();
    let of = |at: usize| {
        // Not `provider_refresh_token`, which is another's.
        let is_name = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let rest = text[at + KEY.len()..].trim_start_matches(['"', '\'', '`']).trim_start();
        let rest = rest.strip_prefix([':', '=']).filter(|_| is_name)?.trim_start();
        let value = rest.trim_start_matches(['"', '\'', '`']);
        let end = value.find(|c| !is_of_token(c));
        let is_whole = value.len() == rest.len() || end.is_some();
        is_whole.then(|| &value[..end.unwrap_or(value.len())])
    };
    let found = text.match_indices(KEY).find_map(|(at, _)| of(at));
    found.map_or(Err(NoToken::Incomplete), |token| believed(token, Wrapping::Words))
}

/// The value of Supabase's cookie in a list of cookies, or of a row of the browser's table: parts put
/// together in their order. `None` if no such cookie is named.
fn cookie(text: &str) -> Option<String> {
    let mut parts: Vec<(usize, String)> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(NAME_END) {
        rest = &rest[at + NAME_END.len()..];
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let number = rest.strip_prefix('.').map_or("", |rest| &rest[..digits(rest)]);
        let behind = &rest[if number.is_empty() { 0 } else { 1 + number.len() }..];
        let value = behind.trim_start_matches(['"', '\'', ' ']);
        if let Some(value) = value.strip_prefix(['=', ':', '\t']).or(behind.strip_prefix(' ')) {
            parts.push((number.parse().unwrap_or(0), value_at(value).to_owned()));
        }
    }
    parts.sort_by_key(|(number, _)| *number);
    (!parts.is_empty()).then(|| parts.into_iter().map(|(_, value)| value).collect())
}

/// The value that a text begins with: up to the end of a cookie or of a table's cell, or to the next
/// cookie's name.
fn value_at(text: &str) -> &str {
    let text = text.trim_start();
    if text.starts_with(['{', '[']) {
        return text;
    }
    let text = text.split([';', '\t']).next().unwrap_or_default();
    let next = text.find(NAME_END).and_then(|at| text[..at].rfind("sb-"));
    text[..next.unwrap_or(text.len())].trim_matches([' ', '\n', '"', '\''])
}

fn is_percent_encoded(text: &str) -> bool {
    ["%7B", "%7b", "%5B", "%5b", "%22", "%25"].iter().any(|sign| text.contains(sign))
}

/// The text of a base64 value, as far as it goes.
fn decoded(base64: &str) -> String {
    let to_url = |c| match c {
        '+' => '-',
        '/' => '_',
        c => c,
    };
    let is_of_base64 = |c: &char| c.is_ascii_alphanumeric() || "-_+/".contains(*c);
    let unbroken = base64.chars().filter(|c| !c.is_whitespace());
    let mut text: String = unbroken.take_while(is_of_base64).map(to_url).collect();
    if text.len() % 4 == 1 {
        text.pop();
    }
    let bytes = COOKIE_BASE64.decode(text).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text that holds nothing but, perhaps, the token.
fn alone(text: &str) -> Result<FoundToken, NoToken> {
    if text.is_empty() {
        return Err(NoToken::Blank);
    }
    if text.starts_with("sb_") {
        return Err(NoToken::ProjectKey);
    }
    let unbroken: String = text.split_whitespace().collect();
    if unbroken.starts_with("eyJ") || unbroken.starts_with("WyJ") {
        // Base64 of `{"` and of `["`: a JWT, or a cookie's value without its beginning.
        let within = decoded(&unbroken);
        return match is_jwt(&unbroken) {
            true => Err(NoToken::Jwt),
            false => search(&within, DEEPEST)
                .map(|found| FoundToken { within: Wrapping::Cookie, ..found })
                .map_err(|_| NoToken::Incomplete),
        };
    }
    believed(text, Wrapping::None)
}

/// Whether a text is a JWT, or its beginning.
fn is_jwt(text: &str) -> bool {
    text.split_once('.').is_some_and(|(head, _)| {
        head.starts_with("eyJ") && head.bytes().all(|b| is_of_token(b.into()))
    })
}

fn believed(token: &str, within: Wrapping) -> Result<FoundToken, NoToken> {
    let is_token = !token.is_empty() && token.len() <= LONGEST && token.chars().all(is_of_token);
    match is_token {
        true if is_jwt(token) => Err(NoToken::Jwt),
        true => Ok(FoundToken { token: token.to_owned(), within }),
        false if within == Wrapping::None => Err(NoToken::Unknown),
        false => Err(NoToken::Incomplete),
    }
}

/// The characters of tokens: base64's, and those that URLs leave as they are.
fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~+/=".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;
    use serde_json::json;

    const TOKEN: &str = "v4kq-7Zb_xw2y";

    fn access_token() -> String {
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"sub": "id", "user_metadata": {"name": "x".repeat(1500)}});
        format!("{}.{}.c2ln", part(json!({"alg": "HS256"})), part(claims))
    }

    /// In the order in which Supabase Auth writes it.
    fn session() -> Value {
        json!({
            "provider_token": "ya29.provider",
            "provider_refresh_token": "1//provider",
            "access_token": access_token(),
            "token_type": "bearer",
            "expires_in": 3600,
            "expires_at": 1_900_000_000,
            "refresh_token": TOKEN,
            "user": {"id": "id", "email": "a@b.c", "user_metadata": {"name": "A; B \"C\" Ü"}},
        })
    }

    fn cookie_value() -> String {
        format!("base64-{}", BASE64_URL_SAFE_NO_PAD.encode(session().to_string()))
    }

    fn encoded(text: &str) -> String {
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
    }

    fn within(text: &str) -> Wrapping {
        let found = find(text).map_err(|why| format!("{why:?} in {text}")).unwrap();
        assert_eq!(found.token, TOKEN, "{text}");
        found.within
    }

    /// A text in lines of this length.
    fn broken(text: &str, length: usize, line_end: &str) -> String {
        let bytes: Vec<&str> =
            text.as_bytes().chunks(length).map(|line| std::str::from_utf8(line).unwrap()).collect();
        bytes.join(line_end)
    }

    #[test]
    fn a_token_alone_is_itself_whatever_surrounds_it() {
        for text in [
            TOKEN.to_owned(),
            format!(" {TOKEN}\r\n\r\n"),
            format!("\"{TOKEN}\""),
            format!("'{TOKEN}',"),
            format!("\u{feff}{TOKEN}\u{200b}"),
            format!("“{TOKEN}”"),
        ] {
            assert_eq!(within(&text), Wrapping::None);
        }
        assert_eq!(find("abcdefghijkl").unwrap().token, "abcdefghijkl");
    }

    #[test]
    fn it_is_found_in_a_session_of_local_storage_in_any_dress() {
        let text = session().to_string();
        let pretty = serde_json::to_string_pretty(&session()).unwrap();
        let older = json!({"currentSession": session(), "expiresAt": 1}).to_string();
        let storage = json!({"theme": "dark", "sb-abc-auth-token": text}).to_string();
        for text in [
            text.clone(),
            pretty.replace('\n', "\r\n"),
            format!("'{text}'"),
            format!("  {text} \n"),
            serde_json::to_string(&text).unwrap(),
            encoded(&text),
            encoded(&encoded(&text)),
            broken(&text.replace('Ü', "U"), 80, "\n"),
            older,
            storage,
        ] {
            assert_eq!(within(&text), Wrapping::Session, "{text}");
        }
        assert_eq!(within(&format!("sb-abc-auth-token\t{text}")), Wrapping::Cookie);
    }

    #[test]
    fn it_is_found_in_a_list_as_older_versions_wrote_it() {
        let list = json!([access_token(), TOKEN, null, null, null]).to_string();
        for text in [list.clone(), encoded(&list), format!("\"{}\"", encoded(&list))] {
            assert_eq!(within(&text), Wrapping::List);
        }
        assert_eq!(within(&format!("sb-abc-auth-token={}", encoded(&list))), Wrapping::Cookie);
    }

    #[test]
    fn it_is_found_in_a_cookie_whole_or_in_parts() {
        let value = cookie_value();
        let (first, second) = value.split_at(value.len() / 2);
        let standard = BASE64_STANDARD.encode(session().to_string());
        let parts = format!("sb-abc-auth-token.0={first}; sb-abc-auth-token.1={second}");
        for text in [
            value.clone(),
            format!("sb-abc-auth-token={value}"),
            format!("base64-{standard}"),
            value["base64-".len()..].to_owned(),
            broken(&value, 80, "\n"),
            broken(&value, 77, "\r\n  "),
            format!("{first}\n{second}"),
            format!("{first}{second}"),
            parts.clone(),
            format!("Cookie: theme=dark; {parts}; other=1"),
            format!("sb-abc-auth-token.1={second}; sb-abc-auth-token.0={first}"),
            format!("sb-abc-auth-token.0={first}\nsb-abc-auth-token.1={second}"),
            format!("sb-abc-auth-token.0={first}sb-abc-auth-token.1={second}"),
            format!(
                "sb-abc-auth-token.0\t{first}\tlangfa.st\t/\t2027-01-01T00:00:00.000Z\t3180\n\
                     sb-abc-auth-token.1\t{second}\tlangfa.st\t/\t2027-01-01T00:00:00.000Z\t900"
            ),
            format!("sb-abc-auth-token-code-verifier=abc; sb-abc-auth-token={value}"),
        ] {
            assert_eq!(within(&text), Wrapping::Cookie, "{text}");
        }
        let export = json!([{"name": "sb-abc-auth-token", "value": value}]).to_string();
        assert_eq!(within(&export), Wrapping::Cookie);
    }

    #[test]
    fn it_is_found_by_its_name_where_the_rest_is_cut_or_no_json() {
        let text = session().to_string();
        let cut = &text[..text.find("\"user\"").unwrap()];
        assert_eq!(within(cut), Wrapping::Words);
        assert_eq!(
            within(&format!("{{access_token: 'eyJ.a', refresh_token: '{TOKEN}', …}}")),
            Wrapping::Words
        );
        assert_eq!(within(&format!("refresh_token: {TOKEN}")), Wrapping::Words);
        let link = format!("https://langfa.st/#access_token=eyJ.a.b&refresh_token={TOKEN}&type=x");
        assert_eq!(within(&link), Wrapping::Words);
        let cookie = cookie_value();
        assert_eq!(within(&cookie[..cookie.len() - 40]), Wrapping::Cookie);
    }

    #[test]
    fn a_token_that_may_be_cut_is_not_taken() {
        let text = session().to_string();
        let at = text.find(TOKEN).unwrap();
        for end in [at, at + 3, at + TOKEN.len()] {
            assert_eq!(find(&text[..end]).err(), Some(NoToken::Incomplete), "{end}");
        }
    }

    #[test]
    fn what_is_no_refresh_token_is_told_apart_and_never_quoted() {
        let no_token = json!({"access_token": access_token(), "user": {"id": "id"}}).to_string();
        let cookie = cookie_value();
        for (text, expected) in [
            ("", NoToken::Blank),
            (" \n\t", NoToken::Blank),
            ("\"\"", NoToken::Blank),
            (&access_token(), NoToken::Jwt),
            (&broken(&access_token(), 80, "\n"), NoToken::Jwt),
            (&access_token()[..400], NoToken::Jwt),
            ("sb_publishable_abc", NoToken::ProjectKey),
            (&no_token, NoToken::Incomplete),
            (&cookie[..300], NoToken::Incomplete),
            (&format!("sb-abc-auth-token.1={}", &cookie[2000..]), NoToken::Incomplete),
            ("{}", NoToken::Incomplete),
            ("[1]", NoToken::Incomplete),
            ("user@example.com", NoToken::Unknown),
            ("two words", NoToken::Unknown),
            ("пароль", NoToken::Unknown),
            (&"a".repeat(LONGEST + 1), NoToken::Unknown),
            ("sb-abc-auth-token=", NoToken::Incomplete),
        ] {
            let why = find(text).err();
            assert_eq!(why, Some(expected), "{text}");
        }
    }

    #[test]
    fn wrappings_without_end_are_given_up() {
        let nested = (0..2000).fold(json!(TOKEN).to_string(), |inner, _| format!("[{inner}]"));
        assert!(find(&nested).is_err());
        let quoted = (0..12).fold(json!({ KEY: TOKEN }), |inner, _| json!(inner.to_string()));
        assert!(find(&quoted.to_string()).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", signs in "[-sb_auth.token=%257B{}\\[\\]\"';:eyJ \n\t]{0,200}") {
            let _ = find(&text);
            let _ = find(&signs);
            let _ = find(&format!("sb-a-auth-token.{text}"));
            let _ = find(&format!("base64-{signs}"));
            let _ = find(&format!("{{{signs}{KEY}{text}"));
        }
    }
}
