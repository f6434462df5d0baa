//! What the URLs of models answer, in the dialect of the client.

use std::io;

use super::route::speaks_anthropic;
use super::service::Service;
use crate::chat::models::no_such_model;
use crate::chat::models::shutdowns::Day;
use crate::dialects::{anthropic, openai};
use crate::error::Error;
use crate::http::answer::Answer;

/// Answers with the models that are offered. With `?all=true` those that are shut down are among them.
///
/// # Errors
/// The client has gone.
pub fn list(answer: &mut Answer, service: &Service) -> io::Result<()> {
    let head = &answer.exchange().head;
    let models = service.models.current();
    let today = Day::today();
    let all = service.all_models || head.query("all") == Some("true");
    let offered = models.offered(&today, all);
    let list = match speaks_anthropic(head) {
        true => anthropic::models::model_list(&offered, &today),
        false => openai::models::model_list(&offered),
    };
    answer.json(200, &list)
}

/// Answers with the model of this name.
///
/// # Errors
/// There is none.
pub fn one(answer: &mut Answer, service: &Service, name: &str) -> Result<io::Result<()>, Error> {
    let models = service.models.current();
    let model = models.find(name).ok_or_else(|| no_such_model(name))?;
    let listed = models.listed(name, model);
    let model = match speaks_anthropic(&answer.exchange().head) {
        true => anthropic::models::model(&listed, &Day::today()),
        false => openai::models::model(&listed),
    };
    Ok(answer.json(200, &model))
}
