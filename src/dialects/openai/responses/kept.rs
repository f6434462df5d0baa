//! Stores a response while it is written.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{ids, shown};
use crate::budget::Body;
use crate::dialects::Keeper;
use crate::dialects::fields::Fields;
use crate::dialects::openai::identity::Identity;
use crate::dialects::writing::to_json;
use crate::error::Error;
use crate::stored::{Draft, Entry, Item, Lane, Orphan, Outcome, OwnStore};
use crate::sync::Alarm;

/// Stores one response.
pub struct Kept {
    own: OwnStore,
    /// The lane that alone keeps it, to continue it.
    lane: Option<Lane>,
    entry: Arc<Entry>,
    /// True if it can be asked for.
    is_put: bool,
    /// Held once its client has left, while the answer is completed.
    orphan: Option<Orphan>,
}

impl Kept {
    /// Prepares to store the response to the request in `body`, which continues `earlier` items; `None` if
    /// it is not to be stored, or there is no room for it or its copy, which is taken from the body's share.
    /// On a WebSocket a response that is not stored is kept for its lane.
    ///
    /// # Errors
    /// It is asked for in the background, which needs a store.
    pub fn new(
        fields: &Fields,
        body: &mut Body,
        identity: &Identity,
        earlier: Vec<Arc<Item>>,
        own: &OwnStore,
        is_streamed: bool,
    ) -> Result<Option<Kept>, Error> {
        let is_background = fields.boolean("background")?.unwrap_or(false);
        let is_wanted = fields.boolean("store")?.unwrap_or(true);
        let bytes = body.bytes().len();
        let is_stored = is_wanted && own.is_on() && own.could_hold(bytes);
        let lane = own.lane().filter(|_| !is_stored).cloned();
        let place = if is_stored { Some(own.clone()) } else { lane.as_ref().map(Lane::own) };
        let has_room =
            |place: &OwnStore| place.could_hold(bytes) && body.parts().1.grow(bytes, None).is_ok();
        let Some(own) = place.filter(has_room) else {
            return if is_background { Err(needs_store(is_wanted, own)) } else { Ok(None) };
        };
        let item = |(id, json): (Option<String>, String)| {
            let prefix = shown::id_prefix(&json);
            own.item(json, || id.unwrap_or_else(|| ids::new(prefix, own.instance())))
        };
        let entry = own.entry(Draft {
            id: identity.id.clone(),
            earlier,
            input: input(fields).into_iter().map(item).collect(),
            is_background,
            has_events: is_streamed && lane.is_none(),
        });
        match own.has_room_for(&entry, &Outcome::default()) {
            // Many small items take more room than their text.
            false if is_background => Err(needs_store(is_wanted, &own)),
            false => Ok(None),
            true => Ok(Some(Kept { own, lane, entry, is_put: false, orphan: None })),
        }
    }

    /// True if the response can be asked for by its id, and not only continued in its lane.
    pub fn is_stored(&self) -> bool {
        self.lane.is_none()
    }

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

fn needs_store(is_wanted: bool, own: &OwnStore) -> Error {
    let why = match (is_wanted, own.is_on()) {
        (false, _) => "it needs `store: true`, to be asked for later",
        (true, false) => "nothing is stored here (--store-responses 0) to be asked for later",
        (true, true) => "there is no memory to store its input (--store-responses, --body-memory)",
    };
    Error::unsupported("background", format!("`background` must be false: {why}"))
}

/// The outcome of a background response that does not fit into the store: it fails, so that no client waits
/// for it for ever.
fn too_large(response: &str) -> Outcome {
    let message = "The response has become too large to be stored (--store-responses)";
    Outcome::new(&shown::failed(response, message), Vec::new(), true)
}

/// The items of a request's own input, each with its id if it brings one.
fn input(fields: &Fields) -> Vec<(Option<String>, String)> {
    let items = match fields.get("input") {
        Some(Value::String(text)) => vec![stored_form(&json!({"role": "user", "content": text}))],
        Some(Value::Array(items)) => items.iter().map(stored_form).collect(),
        _ => Vec::new(),
    };
    items.into_iter().map(|item| (shown::id_of(&item), to_json(&item))).collect()
}

/// An item as OpenAI shows it: with its type, its status, and a message's content as parts.
fn stored_form(item: &Value) -> Value {
    let mut item = item.clone();
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

/// The items of a response's output, with their ids.
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
