//! What people copy by mistake, and what to copy instead.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::super::records::{self, shown};

/// What to copy instead, for the end of a message.
const WANTED: &str = "Wanted is LangFast's answer that lists the models, rows with `slug` and `parameters`: in the \
                      browser's developer tools, tab Network, choose it and copy its response";

/// Returns the text of a file in UTF-8 or UTF-16, with or without a byte order mark.
///
/// # Errors
/// It is neither, or compressed, in words.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    match bytes {
        [0x1F, 0x8B, ..] => Err("this is compressed (gzip): unpack it first".to_owned()),
        [b'P', b'K', 3, 4, ..] => Err("this is an archive (zip): unpack it first".to_owned()),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes).map(Cow::Owned),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes).map(Cow::Owned),
        // Without a mark; JSON begins with a character of ASCII.
        [first, 0, ..] if *first != 0 => utf16(bytes, u16::from_le_bytes).map(Cow::Owned),
        [0, second, ..] if *second != 0 => utf16(bytes, u16::from_be_bytes).map(Cow::Owned),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            // Cut within a character: the reader of JSON will say that it ends too early.
            Err(error) if error.error_len().is_none() => {
                Ok(String::from_utf8_lossy(&bytes[..error.valid_up_to()]))
            }
            Err(error) => {
                let line = 1 + bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count();
                Err(format!("line {line}: this is no text in UTF-8 or UTF-16. {WANTED}"))
            }
        },
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    match text {
        Ok(text) if bytes.len() % 2 == 0 => Ok(text),
        _ => Err(format!("this is no text in UTF-16, as its beginning has it. {WANTED}")),
    }
}

/// What is copied by mistake: how it begins, in whatever case, and what it is.
const MISTAKES: [(&[&str], &str); 6] = [
    (
        &["curl "],
        "This is a request (`Copy as cURL`), not its answer. It holds your access to LangFast: show it to nobody",
    ),
    (
        &["fetch(", "await fetch(", "$session", "invoke-webrequest", "invoke-restmethod"],
        "This is a request (`Copy as fetch` or PowerShell), not its answer. It holds your access to LangFast: \
         show it to nobody",
    ),
    (&["http://", "https://"], "This is the address of a request (`Copy URL`), not its answer"),
    (
        &[
            "http/",
            "get /",
            "post /",
            "options /",
            ":authority",
            ":method",
            "accept:",
            "authorization:",
        ],
        "These are headers, not the body of an answer",
    ),
    (
        &["eyJ", "sb_", "bearer ", "base64-"],
        "This looks like a key or a token, which has no place here",
    ),
    (&["data:", "event:", "42["], "These are events of an answer, not a list of models"),
];

/// Tells by its beginning what a text is instead of JSON, in whole sentences; `None` if it may be JSON.
pub fn something_else(text: &str) -> Option<String> {
    let text = text.trim_start();
    let starts = |beginnings: &[&str]| {
        beginnings.iter().any(|beginning| {
            text.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
        })
    };
    let is_table = |head: &str| head.contains("slug") && !head.contains(['{', '[']);
    let mistake = MISTAKES.iter().find(|(beginnings, _)| starts(beginnings));
    let what = if text.is_empty() {
        "Nothing was given"
    } else if starts(&["<"]) {
        kind_of_page(text)
    } else if let Some((_, what)) = mistake {
        what
    } else if is_flight(text) {
        "This is data of a page (of Next.js), not the answer to a request that the page has made"
    } else if text.lines().next().is_some_and(is_table) {
        "This is a table (CSV or the like), not JSON"
    } else {
        return None;
    };
    Some(format!("{what}. {WANTED}"))
}

/// Returns what a web page is.
fn kind_of_page(text: &str) -> &'static str {
    match text.contains("__NEXT_DATA__") || text.contains("self.__next_f") {
        true => {
            "This is a web page (HTML, of Next.js), not the answer to a request that the page has made"
        }
        false => {
            "This is a web page (HTML or XML), not the answer to a request that the page has made"
        }
    }
}

/// True if a text begins as the data of React's server components do: `0:{…`, `1:"$S…`, `2:I[…`.
fn is_flight(text: &str) -> bool {
    let number = text.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    let rest = number.strip_prefix(':').unwrap_or_default();
    number.len() < text.len() && rest.starts_with(['{', '[', '"', 'I', 'H', 'T'])
}

/// Returns why a text is no JSON, for the person who has copied it.
pub fn no_json(text: &str, error: &serde_json::Error) -> String {
    let why = records::no_json(text, error);
    if error.is_eof() {
        return format!(
            "{why}. Only a part has arrived: copy the whole response, or save it as a file"
        );
    }
    match error.to_string().starts_with("trailing characters") {
        true => format!(
            "line {}, column {}: the JSON has ended, and more text follows: copy the response alone",
            error.line(),
            error.column()
        ),
        false => format!("{why}. {WANTED}"),
    }
}

/// Describes JSON in which there are no records, and says what to copy instead.
pub fn no_rows(json: &str) -> String {
    let what = match serde_json::from_str(json) {
        Ok(Value::Object(fields)) => match error_in(&fields) {
            Some(error) => {
                return format!(
                    "This is an error of LangFast's ({error}), not a list of models: load its page again, \
                     sign in there, and copy the answer of the new request"
                );
            }
            None => fields_say("It is an object", "it has", &fields),
        },
        Ok(Value::Array(members)) if members.is_empty() => {
            "The list is empty: to this request LangFast shows no model".to_owned()
        }
        Ok(Value::Array(members)) => match members.iter().find_map(Value::as_object) {
            Some(fields) => fields_say("Its rows are those of another list", "they have", fields),
            None => "It is a list, but not of rows".to_owned(),
        },
        _ => "It is JSON, but no list of rows".to_owned(),
    };
    format!("There is no record of a model in it. {what}. {WANTED}")
}

/// Returns the words of the error that an object is: PostgREST's (`code`, `message`, `details`, `hint`), or the
/// platform's. `None` if it is none.
fn error_in(fields: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let of_error = || fields.get("error").and_then(|error| error.get("message")?.as_str());
    let message = ["message", "msg", "error_description", "error"].into_iter().find_map(text);
    let message = shown(message.or_else(of_error)?);
    let code = fields.get("code").or_else(|| fields.get("error_code"));
    Some(match code {
        Some(Value::String(code)) => format!("{}: {message}", shown(code)),
        Some(Value::Number(code)) => format!("{code}: {message}"),
        _ => message,
    })
}

/// Returns the fields that were found, and those that are missing, in words.
fn fields_say(what: &str, has: &str, fields: &Map<String, Value>) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> =
        fields.keys().take(SHOWN).map(|name| format!("`{}`", shown(name))).collect();
    if fields.len() > SHOWN {
        names.push("…".to_owned());
    }
    let lacking = ["slug", "parameters"].into_iter().filter(|name| !fields.contains_key(*name));
    let lacking: Vec<String> = lacking.map(|name| format!("`{name}`")).collect();
    match names.is_empty() {
        true => format!("{what} without fields"),
        false => format!("{what}: {has} {}, and no {}", names.join(", "), lacking.join(" and no ")),
    }
}
