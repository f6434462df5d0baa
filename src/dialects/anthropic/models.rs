//! Models as Anthropic's `GET /v1/models` lists them.
//!
//! Enters: models that are listed here, and the day. Leaves: their JSON. It may not know which models are
//! offered, nor to whom.

use serde::Serialize;

use super::response::Absent;
use crate::chat::models::Listed;
use crate::chat::models::shutdowns::Day;
use crate::dialects::writing::to_json;

#[derive(Serialize)]
struct ModelObject<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: &'a str,
    lifecycle: &'static str,
    /// RFC 3339.
    retires_at: Option<String>,
    max_tokens: Option<u64>,
    max_input_tokens: Absent,
    capabilities: Absent,
}

impl<'a> ModelObject<'a> {
    fn new(listed: &Listed<'a>, today: &Day) -> ModelObject<'a> {
        let model = listed.model;
        ModelObject {
            r#type: "model",
            id: listed.id,
            display_name: &model.name,
            created_at: &model.created_at,
            lifecycle: match listed.shutdown {
                None => "active",
                Some(shutdown) if shutdown.is_over(today) => "retired",
                Some(_) => "deprecated",
            },
            retires_at: listed.shutdown.map(|shutdown| format!("{}T00:00:00Z", shutdown.date)),
            max_tokens: model.max_completion_tokens(),
            max_input_tokens: None,
            capabilities: None,
        }
    }
}

/// Returns the list of models as JSON, all on one page.
pub fn model_list(models: &[Listed<'_>], today: &Day) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        data: Vec<ModelObject<'a>>,
        has_more: bool,
        first_id: Option<&'a str>,
        last_id: Option<&'a str>,
    }
    let data: Vec<ModelObject<'_>> =
        models.iter().map(|listed| ModelObject::new(listed, today)).collect();
    let (first_id, last_id) = (data.first().map(|m| m.id), data.last().map(|m| m.id));
    to_json(&List { data, has_more: false, first_id, last_id })
}

/// Returns one model as JSON.
pub fn model(listed: &Listed<'_>, today: &Day) -> String {
    to_json(&ModelObject::new(listed, today))
}
