//! Finds the stored response that a request continues, and the stored items that it refers to.

use std::sync::Arc;

use serde_json::Value;

use super::shown::{self, NOT_STORED};
use crate::budget::{Body, Share};
use crate::dialects::fields::Fields;
use crate::dialects::json;
use crate::error::Error;
use crate::stored::{Item, OwnStore};

/// The field that names the response which is continued.
pub const PREVIOUS: &str = "previous_response_id";

/// The conversation before a request's own input, in two forms.
#[derive(Default)]
pub struct Earlier {
    /// The items as they are stored.
    pub items: Vec<Arc<Item>>,
    /// The same items as JSON values, to be read.
    pub values: Vec<Value>,
}

/// Finds the conversation that a request continues, and puts the items that its input refers to in their
/// places. References to what is not stored stay as they are. Memory is taken from `share`.
///
/// # Errors
/// The response that is continued is not stored, or has not ended.
pub fn find(fields: &mut Fields, own: &OwnStore, share: &mut Share) -> Result<Earlier, Error> {
    let items = match fields.string(PREVIOUS)? {
        Some(id) => continued(id, own)?,
        None => Vec::new(),
    };
    let values = items.iter().map(|item| json::read_own(&item.json, share));
    let values = values.collect::<Result<_, _>>()?;
    if let Some(Value::Array(input)) = fields.get_mut("input") {
        for value in input.iter_mut() {
            let stored = |id| own.find_item(id).or_else(|| own.find_item(shown::stored_id(id)));
            if let Some(item) = referred(value).and_then(stored) {
                *value = json::read_own(&item.json, share)?;
            }
        }
    }
    Ok(Earlier { items, values })
}

/// Returns the conversation up to the response of this id, its output included.
fn continued(id: &str, own: &OwnStore) -> Result<Vec<Arc<Item>>, Error> {
    let Some(entry) = own.find(id) else {
        return Err(Error::Invalid {
            message: format!("Previous response with id '{id}' not found: {NOT_STORED}"),
            param: Some(PREVIOUS.to_owned()),
            code: Some("previous_response_not_found"),
        });
    };
    if !entry.outcome().is_final {
        let message = format!(
            "The response `{id}` is still under way: continue it when its status is `completed`"
        );
        return Err(Error::invalid(PREVIOUS, message));
    }
    Ok(entry.conversation())
}

/// Returns the id of something stored that the request in `body` refers to: the response that it continues, or
/// the first item. `None` if there is none, or the body is not understood.
pub fn referred_in(body: &mut Body) -> Option<String> {
    let fields = Fields::parse(body, &[PREVIOUS, "input"]).ok()?;
    let previous = fields.get(PREVIOUS).and_then(Value::as_str);
    let items = fields.get("input").and_then(Value::as_array).into_iter().flatten();
    previous.or_else(|| items.into_iter().find_map(referred)).map(str::to_owned)
}

/// Returns the id that an item refers to; `None` if it is more than a reference. Source: the SDKs' types, in
/// which the type of a reference is optional.
fn referred(item: &Value) -> Option<&str> {
    let is_reference = match item.get("type") {
        None | Some(Value::Null) => item.get("role").is_none(),
        Some(kind) => kind == "item_reference",
    };
    item.get("id").filter(|_| is_reference)?.as_str()
}
