//! Reads a recording of the requests that a browser has made, in the format HAR 1.2, as far as it matters here.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{LIST_LIMIT, copied};

/// The error for a recording that lists no models.
pub const NO_ROWS: &str = "This is a recording (HAR), and none of its answers lists the models, as rows with `slug` and `parameters`. \
     Load LangFast's page while the developer tools are open, and save it with the contents of the answers";

/// An answer that may list the models.
pub struct Answer {
    /// Its URL without the query, which may hold a key.
    pub url: String,
    /// Its body.
    pub text: String,
}

#[derive(Deserialize)]
struct Har<'a> {
    #[serde(borrow)]
    log: Log<'a>,
}

#[derive(Deserialize)]
struct Log<'a> {
    #[serde(borrow)]
    entries: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    request: Request,
    #[serde(borrow)]
    response: Response<'a>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    content: Content<'a>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    text: &'a RawValue,
    #[serde(default)]
    encoding: Option<String>,
}

/// Returns the answers of a recording that may list the models; `None` if the text is no recording.
///
/// # Errors
/// It holds no answer's content.
pub fn answers(text: &str) -> Option<Result<Vec<Answer>, String>> {
    let har: Har = serde_json::from_str(text).ok()?;
    let entries = har.log.entries.into_iter();
    let with_content = entries.filter_map(|raw| serde_json::from_str::<Entry>(raw.get()).ok());
    let mut with_content = with_content.peekable();
    if with_content.peek().is_none() {
        return Some(Err(NO_ROWS.to_owned()));
    }
    Some(Ok(with_content.filter_map(answer).collect()))
}

/// Returns an answer; `None` if it cannot be a list of models.
fn answer(entry: Entry) -> Option<Answer> {
    let content = entry.response.content;
    if content.text.get().len() > 2 * LIST_LIMIT {
        return None;
    }
    let text: String = serde_json::from_str(content.text.get()).ok()?;
    let text = match content.encoding.as_deref() {
        Some("base64") => {
            copied::decode(&BASE64_STANDARD.decode(text).ok()?).map(Cow::into_owned).ok()?
        }
        _ => text,
    };
    // Both words stand in a list of models; most answers are thus passed over at once.
    let is_list = ["slug", "parameters"].iter().all(|word| text.contains(word));
    let url = entry.request.url.split(['?', '#']).next().unwrap_or_default();
    (is_list && text.len() <= LIST_LIMIT).then(|| Answer { url: super::shown(url), text })
}
