//! `POST /v1/responses`, OpenAI's responses, and the URLs of those that are stored.
//!
//! - `earlier`: finds what a request refers to among what is stored
//! - `ids`: what the ids of responses and items say
//! - `input`: reads items as turns
//! - `tools`: reads functions, custom tools and namespaces as tools for the model
//! - `echo`: the fields of a response that its request decides
//! - `answer`: writes the response and its events
//! - `kept`: stores it meanwhile
//! - `shown`: what is said of a stored one
//! - `socket`: the messages of a WebSocket, of which each is a request

mod answer;
mod earlier;
mod echo;
mod ids;
mod input;
mod kept;
pub mod shown;
pub mod socket;
mod tools;

use serde_json::{Map, Value, json};

use super::identity::Identity;
use super::request;
use crate::budget::Body;
use crate::chat::media::Images;
use crate::chat::{ChatRequest, ResponseFormat, Sampling};
use crate::dialects::fields::{Fields, missing};
use crate::dialects::media::MediaReader;
use crate::dialects::{CompletionRequest, Keeper};
use crate::error::Error;
use crate::stored::{Lane, OwnStore};
use answer::ResponseAnswer;
use kept::{Asked, Kept};

pub use earlier::referred_in as referred;
pub use ids::instance_of;

/// The fields of a body that are read, including those that a response repeats.
const FIELDS: &[&str] = &[
    "background",
    "context_management",
    "conversation",
    "generate",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "store",
    "stream",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// Reads a body, or, if `own` has a lane, a message of a WebSocket, which is always answered as a stream. `own`
/// is the store for the response, and for what it continues. Fields that OpenAI does not have are ignored, and
/// so are null ones.
///
/// # Errors
/// [`Error::Invalid`], with the field's name as `param`; see also [`Fields::parse`].
pub fn parse(body: &mut Body, images: Images, own: &OwnStore) -> Result<CompletionRequest, Error> {
    let mut fields = Fields::parse(body, FIELDS)?;
    let is_message = own.lane().is_some();
    refuse_what_is_elsewhere(&fields)?;
    if is_message {
        refuse_background(&fields)?;
    }
    let n = usize::from(wants_answer(&fields)?);
    let mut ignored = Vec::new();
    let model = request::model(&fields)?;
    let earlier = earlier::find(&mut fields, own, body.parts().1)?;
    let (turns, mut left_out) =
        input::turns(&fields, &earlier.values, MediaReader::new(images, body), n > 0)?;
    let (tools, origins) = tools::parse(&fields, &earlier.values, &mut left_out)?;
    let sampling = sampling(&fields, &mut ignored)?;
    let identity = Identity::new(&ids::prefix("resp", own.instance()), &model);
    let stream = is_message || fields.boolean("stream")?.unwrap_or(false);
    let asked =
        Asked { fields: &fields, id: &identity.id, earlier: earlier.items, is_streamed: stream };
    let keeper = Kept::new(asked, body, own)?;
    let is_stored = keeper.as_ref().is_some_and(Kept::is_stored);
    if !is_stored && fields.get("store") == Some(&Value::Bool(true)) {
        ignored.push("store");
    }
    let lane = own.lane().map(Lane::name);
    let dialect = ResponseAnswer::new(identity, echo::of(&fields, is_stored), origins, lane);
    let stop = Vec::new();
    let request = ChatRequest { model, turns, tools, sampling, stop, n, ignored, left_out };
    let keeper = keeper.map(|kept| Box::new(kept) as Box<dyn Keeper>);
    Ok(CompletionRequest { chats: vec![request], stream, dialect: Box::new(dialect), keeper })
}

/// Reads the settings of the run. Adds to `ignored` the fields that would matter but have no effect.
fn sampling(fields: &Fields, ignored: &mut Vec<&'static str>) -> Result<Sampling, Error> {
    let text = fields.object("text")?.unwrap_or_default();
    let reasoning = fields.object("reasoning")?.unwrap_or_default();
    let sampling = Sampling {
        max_completion_tokens: token_limit(fields, ignored)?,
        temperature: fields.number("temperature", 0.0, 2.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        reasoning_effort: reasoning.string("effort")?.map(str::to_owned),
        verbosity: text.string("verbosity")?.map(str::to_owned),
        response_format: response_format(&text)?,
        ..Sampling::default()
    };
    without_effect(fields, &reasoning, ignored);
    Ok(sampling)
}

/// False if the client only has the prompt prepared for a later request. Known of OpenAI's SDKs: both
/// fields, of which `generate` belongs to the WebSocket's requests.
fn wants_answer(fields: &Fields) -> Result<bool, Error> {
    let options = fields.object("prompt_cache_options")?.unwrap_or_default();
    let prewarm = options.boolean("prewarm")?.unwrap_or(false);
    Ok(!prewarm && fields.boolean("generate")? != Some(false))
}

/// Refuses a message of a WebSocket that wants its response in the background.
fn refuse_background(fields: &Fields) -> Result<(), Error> {
    match fields.boolean("background")? {
        Some(true) => {
            let message = "`background` must be false on a WebSocket";
            Err(Error::unsupported("background", message))
        }
        _ => Ok(()),
    }
}

/// Refuses a reference to what only OpenAI's servers keep.
fn refuse_what_is_elsewhere(fields: &Fields) -> Result<(), Error> {
    for name in ["conversation", "prompt"] {
        if fields.get(name).is_some() {
            let message = format!(
                "`{name}`: nothing like that is kept here; send the whole conversation as `input`, or \
                 continue a response with `previous_response_id`"
            );
            return Err(Error::unsupported(name, message));
        }
    }
    Ok(())
}

fn token_limit(fields: &Fields, ignored: &mut Vec<&'static str>) -> Result<Option<u64>, Error> {
    const NAME: &str = "max_output_tokens";
    let limit = fields.integer(NAME)?;
    if limit.is_some_and(|limit| limit <= 0) {
        ignored.push(NAME);
        return Ok(None);
    }
    Ok(limit.map(|limit| limit as u64))
}

/// Reads the form of the answer, which [`ResponseFormat`] has in the words of chat completions.
fn response_format(text: &Fields) -> Result<Option<ResponseFormat>, Error> {
    let Some(format) = text.object("format")? else { return Ok(None) };
    Ok(Some(match format.string("type")? {
        None => return Err(missing("text.format.type")),
        Some("text") => ResponseFormat::Text,
        Some("json_object") => ResponseFormat::JsonObject,
        Some("json_schema") => {
            let mut schema = Map::new();
            for name in ["name", "description", "schema", "strict"] {
                schema.extend(format.get(name).map(|value| (name.to_owned(), value.clone())));
            }
            for name in ["name", "schema"] {
                if !schema.contains_key(name) {
                    return Err(missing(&format!("text.format.{name}")));
                }
            }
            format.string("name")?;
            format.object("schema")?;
            ResponseFormat::JsonSchema(json!({"type": "json_schema", "json_schema": schema}))
        }
        Some(_) => {
            let message = "`text.format.type` must be text, json_object or json_schema";
            return Err(Error::invalid("text.format.type", message));
        }
    }))
}

/// Adds to `ignored` the fields in the request that would matter but have no effect.
fn without_effect(fields: &Fields, reasoning: &Fields, ignored: &mut Vec<&'static str>) {
    let is_asked = |name: &str| fields.get(name).is_some();
    ignored.extend(["moderation", "context_management"].into_iter().filter(|name| is_asked(name)));
    let includes = fields.get("include").and_then(Value::as_array);
    // Encrypted reasoning would be part of reasoning items, and there are none.
    let wanted = |name: &Value| *name != "reasoning.encrypted_content";
    if includes.is_some_and(|names| names.iter().any(wanted)) {
        ignored.push("include");
    }
    if fields.get("top_logprobs").is_some_and(|count| *count != 0) {
        ignored.push("top_logprobs");
    }
    if fields.get("truncation").is_some_and(|how| *how != "disabled") {
        ignored.push("truncation");
    }
    if reasoning.get("summary").is_some() {
        ignored.push("reasoning.summary");
    }
}
