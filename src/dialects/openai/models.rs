//! Models as OpenAI's `GET /v1/models` lists them.
//!
//! Enters: models that are listed here. Leaves: their JSON. It may not know which models are offered, nor
//! to whom.

use serde::Serialize;

use crate::chat::models::Listed;
use crate::dialects::writing::to_json;

#[derive(Serialize)]
struct ModelObject<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
    /// `YYYY-MM-DD`.
    shutdown_date: Option<&'static str>,
}

impl<'a> From<&Listed<'a>> for ModelObject<'a> {
    fn from(listed: &Listed<'a>) -> ModelObject<'a> {
        ModelObject {
            id: listed.id,
            object: "model",
            created: listed.model.created,
            owned_by: &listed.model.provider,
            shutdown_date: listed.shutdown.map(|shutdown| shutdown.date),
        }
    }
}

/// Returns the list of models as JSON.
pub fn model_list(models: &[Listed<'_>]) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<ModelObject<'a>>,
    }
    to_json(&List { object: "list", data: models.iter().map(ModelObject::from).collect() })
}

/// Returns one model as JSON.
pub fn model(listed: &Listed<'_>) -> String {
    to_json(&ModelObject::from(listed))
}
