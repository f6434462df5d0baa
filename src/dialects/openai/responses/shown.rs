//! The JSON of stored responses, of lists of their items, and of deleted and cancelled ones.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::dialects::writing::to_json;
use crate::error::Error;
use crate::stored::Item;

/// Advice for a client that refers to something that is not stored.
pub(super) const NOT_STORED: &str = "it is not stored here, or not any more; send the whole conversation as `input` \
                          (--store-responses and --store-age set how much is kept, and how long)";

/// Most items of a page, and the usual number.
const MOST: usize = 100;
const USUAL: usize = 20;

/// Separates an item's id from its number in a list of items, where the conversation holds the item several
/// times.
const AGAIN: char = '-';

/// The fields that are read of a stored item or response.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Known {
    id: String,
    r#type: String,
    status: String,
}

fn known(json: &str) -> Known {
    serde_json::from_str(json).unwrap_or_default()
}

/// Returns the status of a response; empty if it has none.
pub(super) fn status(response: &str) -> String {
    known(response).status
}

/// Returns the id of an item of the output; empty if it has none.
pub(super) fn id_in(item: &str) -> String {
    known(item).id
}

/// Returns the id that the client has given an item; `None` if it has given none.
pub(super) fn id_of(item: &Value) -> Option<String> {
    let id = item.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
    id.map(str::to_owned)
}

/// Returns the prefix of a new id for an item, by its type.
pub(super) fn id_prefix(item: &str) -> &'static str {
    match known(item).r#type.as_str() {
        "function_call" => "fc",
        "function_call_output" => "fco",
        "custom_tool_call" => "ctc",
        "custom_tool_call_output" => "ctco",
        "message" => "msg",
        "reasoning" => "rs",
        _ => "item",
    }
}

/// Returns the response, as JSON, with this status.
pub(super) fn with_status(response: &str, status: &str) -> String {
    let mut response: Value = serde_json::from_str(response).unwrap_or_default();
    if let Some(fields) = response.as_object_mut() {
        fields.insert("status".to_owned(), json!(status));
    }
    to_json(&response)
}

/// Returns the response as a cancelled one.
pub fn cancelled(response: &str) -> String {
    with_status(response, "cancelled")
}

/// Returns a background response whose run has ended with the program as a failed one.
pub fn interrupted(response: &str) -> String {
    let message = "langfast2api was ended while this response was in the background; send it again";
    failed(response, message)
}

/// Returns the response as one that has failed with this message, without its output.
pub(super) fn failed(response: &str, message: &str) -> String {
    let mut response: Value =
        serde_json::from_str(&with_status(response, "failed")).unwrap_or_default();
    if let Some(fields) = response.as_object_mut() {
        fields.insert("error".to_owned(), json!({"code": "server_error", "message": message}));
        fields.insert("output".to_owned(), json!([]));
    }
    to_json(&response)
}

/// Returns the answer to the deletion of a response, as JSON.
pub fn deleted(id: &str) -> String {
    to_json(&json!({"id": id, "object": "response", "deleted": true}))
}

/// Returns the error for a response that is not stored.
pub fn not_stored(id: &str) -> Error {
    Error::NotStored(format!("Response with id '{id}' not found: {NOT_STORED}"))
}

/// Returns the error for a response that cannot be cancelled.
pub fn not_in_background() -> Error {
    let message = "Only a response that was created with `background: true` can be cancelled; the \
                   others end when their client leaves";
    Error::invalid("response_id", message)
}

/// Returns the error for a response whose events are not kept.
pub fn no_events() -> Error {
    let message = "`stream`: this response was not created with `stream: true`, or its events were let go \
                   to make room; get it without `stream`";
    Error::invalid("stream", message)
}

/// The part of a list of items that a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// The most items that the part holds.
    limit: usize,
    /// True if the oldest item comes first.
    ascends: bool,
    /// The id of the item behind which the part begins.
    after: Option<&'a str>,
}

impl<'a> Page<'a> {
    /// Reads a query: `query` returns its fields by their names, which are `limit`, `order` and `after`.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field.
    pub fn read(query: impl Fn(&str) -> Option<&'a str>) -> Result<Page<'a>, Error> {
        let limit = match query("limit").map(str::parse) {
            None => USUAL,
            Some(Ok(limit @ 1..=MOST)) => limit,
            Some(_) => {
                let message = format!("`limit` must be a number from 1 to {MOST}");
                return Err(Error::invalid("limit", message));
            }
        };
        let ascends = match query("order") {
            None | Some("desc") => false,
            Some("asc") => true,
            Some(_) => return Err(Error::invalid("order", "`order` must be `asc` or `desc`")),
        };
        Ok(Page { limit, ascends, after: query("after").filter(|after| !after.is_empty()) })
    }

    /// Returns the page of these items, the oldest of which comes first, as JSON.
    ///
    /// # Errors
    /// None of them has the id that the page begins behind.
    pub fn of(&self, items: &[Arc<Item>]) -> Result<String, Error> {
        let mut items = numbered(items);
        if !self.ascends {
            items.reverse();
        }
        let begin = match self.after {
            None => 0,
            Some(after) => match items.iter().position(|(id, _)| *id == after) {
                Some(at) => at + 1,
                None => return Err(Error::invalid("after", "`after`: no item has this id")),
            },
        };
        let rest = &items[begin..];
        let page = &rest[..rest.len().min(self.limit)];
        let data: Vec<Box<RawValue>> =
            page.iter().filter_map(|(id, item)| with_id(id, item)).collect();
        Ok(to_json(&ItemList {
            object: "list",
            data,
            first_id: page.first().map(|(id, _)| &**id),
            last_id: page.last().map(|(id, _)| &**id),
            has_more: page.len() < rest.len(),
        }))
    }
}

#[derive(serde::Serialize)]
struct ItemList<'a> {
    object: &'static str,
    data: Vec<Box<RawValue>>,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
    has_more: bool,
}

/// Returns each item of a conversation with an id that no other one has. An item that occurs twice is stored
/// once; with a single id, a client that reads page after page would return to its first occurrence.
fn numbered(items: &[Arc<Item>]) -> Vec<(Cow<'_, str>, &Item)> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    let mut numbered = Vec::with_capacity(items.len());
    for item in items {
        let times = times.entry(&item.id).or_default();
        *times += 1;
        let id = match *times {
            1 => Cow::Borrowed(&*item.id),
            times => format!("{}{AGAIN}{times}", item.id).into(),
        };
        numbered.push((id, &**item));
    }
    numbered
}

/// Returns the id under which an item is stored that is listed under `id`.
pub(super) fn stored_id(id: &str) -> &str {
    let again = id.rsplit_once(AGAIN).filter(|(_, times)| times.parse::<usize>().is_ok());
    again.map_or(id, |(id, _)| id)
}

/// Returns the JSON of an item with this id, which its stored JSON may lack.
fn with_id(id: &str, item: &Item) -> Option<Box<RawValue>> {
    let own = id_in(&item.json);
    let json = match item.json.strip_prefix('{') {
        Some(rest) if own.is_empty() => format!(r#"{{"id":{},{rest}"#, to_json(&id)),
        _ if own == id => item.json.to_string(),
        _ => {
            let mut value: Value = serde_json::from_str(&item.json).ok()?;
            value.as_object_mut()?.insert("id".to_owned(), json!(id));
            to_json(&value)
        }
    };
    RawValue::from_string(json).ok()
}
