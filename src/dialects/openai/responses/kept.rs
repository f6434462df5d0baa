//! Stores a response while it is written, so that it can be asked for, followed, and continued.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{ids, shown};
use crate::budget::Body;
use crate::dialects::Keeper;
use crate::dialects::fields::Fields;
use crate::dialects::writing::to_json;
use crate::error::Error;
use crate::stored::{Draft, Entry, Item, Lane, Orphan, Outcome, OwnStore};
use crate::sync::Alarm;

/// Stores one response while it is written.
pub struct Kept {
    own: OwnStore,
    /// The lane that alone keeps it, so that it can be continued there; `None` if it is stored.
    lane: Option<Lane>,
    entry: Arc<Entry>,
    /// True if it has been handed to the store, or to the lane.
    is_put: bool,
    /// The right to complete the answer, once its client has left.
    orphan: Option<Orphan>,
}

/// The request whose response is kept.
pub struct Asked<'a> {
    /// The fields of its body.
    pub fields: &'a Fields<'a>,
    /// The id of its response.
    pub id: &'a str,
    /// The conversation that it continues.
    pub earlier: Vec<Arc<Item>>,
    /// True if its response is streamed.
    pub is_streamed: bool,
}

impl Kept {
    /// Prepares to store the response to the request in `body`; `None` if it is not to be stored, or there is
    /// no room for it or its copy, which is taken from the body's share. On a WebSocket a response that is not
    /// stored is kept for its lane.
    ///
    /// # Errors
    /// It is asked for in the background, which needs a store.
    pub fn new(asked: Asked, body: &mut Body, own: &OwnStore) -> Result<Option<Kept>, Error> {
        let is_background = asked.fields.boolean("background")?.unwrap_or(false);
        let is_wanted = asked.fields.boolean("store")?.unwrap_or(true);
        let not_kept = || if is_background { Err(needs_store(is_wanted, own)) } else { Ok(None) };
        let bytes = body.bytes().len();
        let place = place(own, is_wanted, bytes);
        let Some((own, lane)) = place.filter(|_| body.parts().1.grow(bytes, None).is_ok()) else {
            return not_kept();
        };
        let item = |(id, json): (Option<String>, String)| {
            let prefix = shown::id_prefix(&json);
            own.item(json, || id.unwrap_or_else(|| ids::new(prefix, own.instance())))
        };
        let entry = own.entry(Draft {
            id: asked.id.to_owned(),
            earlier: asked.earlier,
            input: input(asked.fields).map(item).collect(),
            is_background,
            has_events: asked.is_streamed && lane.is_none(),
        });
        // Many small items take more room than their text.
        match own.has_room_for(&entry, &Outcome::default()) {
            true => Ok(Some(Kept { own, lane, entry, is_put: false, orphan: None })),
            false => not_kept(),
        }
    }

    /// True if the response can be asked for by its id, and not only continued in its lane.
    pub fn is_stored(&self) -> bool {
        self.lane.is_none()
    }

    /// Hands the response to the store, or to the lane, once.
    fn put(&mut self) {
        if std::mem::replace(&mut self.is_put, true) {
            return;
        }
        match &self.lane {
            Some(lane) => lane.keep(&self.entry),
            None => self.own.keep(&self.entry),
        }
    }

    /// Stores the present state of the response, and the items of its output.
    fn set(&self, response: &str) {
        let items = output(response).into_iter();
        let output = items.map(|(id, json)| self.own.item(json, || id)).collect();
        let is_final = !matches!(shown::status(response).as_str(), "queued" | "in_progress");
        // Nobody asks for what only a lane keeps.
        let response = if self.is_stored() { response } else { "" };
        let outcome = Outcome::new(response, output, is_final);
        let is_lost = self.entry.is_background && !self.own.has_room_for(&self.entry, &outcome);
        self.entry.set(if is_lost { too_large(response) } else { outcome });
    }
}

impl Keeper for Kept {
    fn is_background(&self) -> bool {
        self.entry.is_background
    }

    fn event(&mut self, name: Option<&str>, data: &[u8]) {
        #[derive(Deserialize)]
        struct Told<'a> {
            #[serde(borrow)]
            response: &'a RawValue,
        }
        let name = name.unwrap_or_default();
        self.entry.tell(name, data);
        if matches!(
            name,
            "response.created" | "response.completed" | "response.incomplete" | "response.failed"
        ) {
            if let Ok(told) = serde_json::from_slice::<Told>(data) {
                self.set(told.response.get());
            }
            // A lane goes on with the one before until there is another that can be continued.
            if self.is_stored() || matches!(name, "response.completed" | "response.incomplete") {
                self.put();
            }
        }
    }

    fn flush(&mut self) {
        self.entry.flush();
        self.own.settle(&self.entry);
    }

    fn answer(&self) -> String {
        self.entry.outcome().answer()
    }

    fn whole(&mut self, answer: &str) -> bool {
        self.set(answer);
        self.put();
        self.is_kept()
    }

    fn is_kept(&self) -> bool {
        self.own.find(&self.entry.id).is_some()
    }

    fn aborted(&self) -> &Arc<Alarm> {
        self.entry.aborted()
    }

    fn adopt(&mut self) -> bool {
        if self.orphan.is_none() && !self.entry.is_background && self.is_stored() {
            self.orphan = self.own.adopt();
        }
        self.orphan.is_some() || self.entry.is_background
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.is_put {
            return;
        }
        let outcome = self.entry.outcome();
        if !outcome.is_final {
            // Whoever asks for it must not wait for ever.
            let failed = shown::with_status(&outcome.answer(), "failed");
            self.entry.set(Outcome::new(&failed, outcome.output, true));
        }
        self.own.close(&self.entry);
    }
}

/// Returns the store that keeps the response to a request of this many bytes: `own`, or what the WebSocket
/// keeps for the lane, if it has one; `None` if neither could hold it.
fn place(own: &OwnStore, is_wanted: bool, bytes: usize) -> Option<(OwnStore, Option<Lane>)> {
    if is_wanted && own.is_on() && own.could_hold(bytes) {
        return Some((own.clone(), None));
    }
    let lane = own.lane()?.clone();
    let place = lane.own();
    place.could_hold(bytes).then_some((place, Some(lane)))
}

/// Returns the error for a response in the background that cannot be stored.
fn needs_store(is_wanted: bool, own: &OwnStore) -> Error {
    let why = match (is_wanted, own.is_on()) {
        (false, _) => "it needs `store: true`, to be asked for later",
        (true, false) => "nothing is stored here (--store-responses 0) to be asked for later",
        (true, true) => "there is no memory to store its input (--store-responses, --body-memory)",
    };
    Error::unsupported("background", format!("`background` must be false: {why}"))
}

/// Returns the outcome of a background response that does not fit into the store: it fails, so that no client
/// waits for it for ever.
fn too_large(response: &str) -> Outcome {
    let message = "The response has become too large to be stored (--store-responses)";
    Outcome::new(&shown::failed(response, message), Vec::new(), true)
}

/// Returns the items of a request's own input as JSON, each with its id if it brings one. Each is made when it
/// is asked for: a few references to what is stored can stand for many times the body.
fn input(fields: &Fields) -> impl Iterator<Item = (Option<String>, String)> {
    let (text, items) = match fields.get("input") {
        Some(Value::String(text)) => (Some(json!({"role": "user", "content": text})), &[][..]),
        Some(Value::Array(items)) => (None, &items[..]),
        _ => (None, &[][..]),
    };
    let items = text.into_iter().chain(items.iter().cloned()).map(stored_form);
    items.map(|item| (shown::id_of(&item), to_json(&item)))
}

/// Returns an item as OpenAI shows it: with its type, its status, and a message's content as parts.
fn stored_form(mut item: Value) -> Value {
    let has_id = shown::id_of(&item).is_some();
    let Some(fields) = item.as_object_mut() else { return item };
    if !has_id {
        // Many clients write `null`; whoever lists the items gets a new one.
        fields.remove("id");
    }
    // Tools that an item brings have a role too.
    let is_message = match fields.get("type") {
        None | Some(Value::Null) => fields.contains_key("role"),
        Some(kind) => kind == "message",
    };
    if is_message {
        fields.insert("type".to_owned(), json!("message"));
    }
    if fields.get("status").is_none_or(Value::is_null) && fields.contains_key("type") {
        fields.insert("status".to_owned(), json!("completed"));
    }
    let is_answer = fields.get("role").is_some_and(|role| role == "assistant");
    if let (true, Some(Value::String(text))) = (is_message, fields.get_mut("content")) {
        let text = std::mem::take(text);
        let part = match is_answer {
            true => json!({"type": "output_text", "text": text, "annotations": []}),
            false => json!({"type": "input_text", "text": text}),
        };
        fields.insert("content".to_owned(), json!([part]));
    }
    item
}

/// Returns the items of a response's output as JSON, each with its id.
fn output(response: &str) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    struct Told<'a> {
        #[serde(borrow)]
        output: Vec<&'a RawValue>,
    }
    let told: Option<Told> = serde_json::from_str(response).ok();
    let items = told.into_iter().flat_map(|told| told.output);
    items.map(|item| (shown::id_in(item.get()), item.get().to_owned())).collect()
}
