//! Creating a prompt and starting a run: `/rest/v1/rpc/create_prompt` and
//! `/functions/v1/initiate-prompt-run`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::time::sleep;
use uuid::Uuid;

use super::accounts::BadToken;
use super::player::Player;
use super::said::Said;
use super::script::Script;
use super::state::Shared;

/// How many bodies are kept for [`super::Simulator::runs`]; a benchmark would fill the memory.
const RECORD_LIMIT: usize = 10_000;

/// The models, by the start of their names, that take no sampling parameters.
const REASONING_MODELS: [&str; 6] = ["o1", "o3", "o4-", "o9", "gpt-5", "gpt-6"];

/// What those models do not take.
const SAMPLING_PARAMETERS: [&str; 4] =
    ["temperature", "top_p", "presence_penalty", "frequency_penalty"];

/// The body of `create_prompt`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreatePrompt {
    p_name: String,
    p_icon: String,
    p_meta: PromptMeta,
    p_test_cases: Vec<TestCase>,
}

/// The body of `initiate-prompt-run`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InitiateRun {
    run_id: Uuid,
    prompt_id: Uuid,
    prompt_meta: PromptMeta,
    test_cases: Vec<TestCase>,
    created_by: Uuid,
}

/// What is executed.
#[derive(Deserialize)]
struct PromptMeta {
    model: String,
    messages: Vec<Message>,
    /// Models that do not stream may not take it.
    stream: Option<bool>,
    /// The parameters: not all are known, so any are taken.
    #[serde(flatten)]
    parameters: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: Role,
    content: Said,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestCase {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "variables")]
    _variables: Vec<Value>,
}

/// `POST /rest/v1/rpc/create_prompt`
pub async fn create_prompt(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(bad) = signed_in_user(&shared, &headers) {
        return refuse_token(bad);
    }
    match read_prompt(&body) {
        Ok(body) => Json(add_prompt(&shared, body)).into_response(),
        Err(why) => refuse(StatusCode::BAD_REQUEST, "22023", &why),
    }
}

/// `POST /functions/v1/initiate-prompt-run`
pub async fn initiate_prompt_run(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let user = match signed_in_user(&shared, &headers) {
        Ok(user) => user,
        Err(bad) => return refuse_token(bad),
    };
    let run = match read_run(&shared, user, &body) {
        Ok(run) => run,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    let script = match script_of(&shared, &run.prompt_meta) {
        Ok(script) => script,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    record_run(&shared, &body);
    match script.http {
        Some(status) => match script.fail {
            Some(fail) if !script.refuse.is_empty() => error(status, &fail.message),
            _ => error(status, "simulated"),
        },
        None => start(shared, user, run.run_id, script).await,
    }
}

/// Starts the run, and answers when the script says so.
async fn start(shared: Arc<Shared>, user: Uuid, run_id: Uuid, script: Script) -> Response {
    let job = Uuid::new_v4();
    let slow_run = script.slow_run;
    let (started, first_event) = oneshot::channel();
    if script.early {
        tokio::spawn(Player::new(shared, user, job, script).play(started));
        // An error means that the run has ended without an event.
        let _ = first_event.await;
        sleep(slow_run).await;
    } else {
        if !slow_run.is_zero() {
            sleep(slow_run).await;
        }
        tokio::spawn(Player::new(shared, user, job, script).play(started));
    }
    Json(json!({"run_id": run_id, "jobs": [{"job_id": job}]})).into_response()
}

/// What the run does: what [`answered`] says, or an error if the model does not take a
/// parameter.
fn script_of(shared: &Shared, meta: &PromptMeta) -> Result<Script, String> {
    if let Some(parameter) = unsupported_parameter(meta) {
        return Ok(Script::failing(format!(
            "Unsupported parameter: '{parameter}' is not supported with this model."
        )));
    }
    let refusal = |m: &Message| m.content.refusal(&meta.model, m.role == Role::User);
    if let Some(refusal) = meta.messages.iter().find_map(refusal) {
        return Ok(Script::failing(refusal.to_owned()));
    }
    let mut script = Script::parse(&answered(shared, meta)?, shared.settings.delay)?;
    let refused = script.refuse.iter().find(|name| meta.carries(name)).cloned();
    script = script.refusing(refused.as_deref());
    if meta.stream != Some(true) {
        script.pieces = script.pieces.in_one();
    }
    if !script.raw.is_empty() && !shared.settings.literal_socket {
        return Err("raw= needs the literal socket".to_owned());
    }
    Ok(script)
}

/// The message that the run answers: the last of the user's, or what the next turn in the queue says.
fn answered(shared: &Shared, meta: &PromptMeta) -> Result<String, String> {
    if let Some(turn) = shared.update(|state| state.turns.pop_front()) {
        let told: Vec<String> = meta.messages.iter().map(|m| m.content.text()).collect();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        return turn.line(&told, meta.parameters.get("response_format"));
    }
    let last = meta.messages.iter().rev().find(|message| message.role == Role::User);
    Ok(last.map(|message| message.content.text()).unwrap_or_default())
}

fn unsupported_parameter(meta: &PromptMeta) -> Option<&'static str> {
    let picky = REASONING_MODELS.iter().any(|start| meta.model.starts_with(start));
    let mut unsupported = SAMPLING_PARAMETERS.into_iter().filter(|_| picky);
    unsupported.find(|name| meta.parameters.contains_key(*name))
}

/// The body of `create_prompt`, if it has all that it must have.
fn read_prompt(body: &[u8]) -> Result<Value, String> {
    let prompt: CreatePrompt = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if prompt.p_name.is_empty() || prompt.p_icon.is_empty() {
        return Err("p_name and p_icon must not be empty".to_owned());
    }
    prompt.p_meta.check()?;
    check_test_cases(&prompt.p_test_cases)?;
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// The body of `initiate-prompt-run`, if it has all that it must have and fits what is known.
fn read_run(shared: &Shared, user: Uuid, body: &[u8]) -> Result<InitiateRun, String> {
    let run: InitiateRun = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    run.prompt_meta.check()?;
    check_test_cases(&run.test_cases)?;
    if run.created_by != user {
        return Err("created_by is not the signed-in user".to_owned());
    }
    if !shared.state().prompt_ids.contains(&run.prompt_id) {
        return Err(format!("there is no prompt {}", run.prompt_id));
    }
    Ok(run)
}

impl PromptMeta {
    /// Whether a parameter of this name is in it, or a message of this role.
    fn carries(&self, name: &str) -> bool {
        let has_role = |role| self.messages.iter().any(|message| message.role == role);
        match name {
            "stream" => self.stream.is_some(),
            "system" => has_role(Role::System),
            "developer" => has_role(Role::Developer),
            _ => self.parameters.contains_key(name),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.model.is_empty() {
            return Err("model must not be empty".to_owned());
        }
        if self.messages.is_empty() {
            return Err("messages must not be empty".to_owned());
        }
        match self.parameters.get("max_completion_tokens") {
            Some(limit) if limit.as_u64().is_none_or(|limit| limit == 0) => {
                Err("max_completion_tokens must be a positive integer".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn check_test_cases(test_cases: &[TestCase]) -> Result<(), String> {
    if test_cases.is_empty() { Err("there is no test case".to_owned()) } else { Ok(()) }
}

fn add_prompt(shared: &Shared, body: Value) -> Uuid {
    let id = Uuid::new_v4();
    shared.update(|state| {
        state.stats.prompts += 1;
        state.prompt_ids.insert(id);
        if state.prompts.len() < RECORD_LIMIT {
            state.prompts.push(body);
        }
    });
    id
}

fn record_run(shared: &Shared, body: &[u8]) {
    let body = serde_json::from_slice(body).expect("the body was read before");
    shared.update(|state| {
        state.stats.runs += 1;
        if state.runs.len() < RECORD_LIMIT {
            state.runs.push(body);
        }
    });
}

/// Whose access token the request carries.
fn signed_in_user(shared: &Shared, headers: &HeaderMap) -> Result<Uuid, BadToken> {
    let header = headers.get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).ok_or(BadToken::Invalid)?;
    shared.update(|state| {
        let user = state.accounts.check_access_token(token);
        state.stats.refused_tokens += usize::from(user.is_err());
        user
    })
}

fn refuse_token(bad: BadToken) -> Response {
    match bad {
        BadToken::Expired => refuse(StatusCode::UNAUTHORIZED, "PGRST303", "JWT expired"),
        BadToken::Invalid => refuse(
            StatusCode::UNAUTHORIZED,
            "PGRST301",
            "No suitable key was found to decode the JWT",
        ),
    }
}

/// An error in PostgREST's form.
fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({"code": code, "message": message, "details": null, "hint": null});
    (status, Json(body)).into_response()
}

/// An error in the function's form.
fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}
