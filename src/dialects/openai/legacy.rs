//! `POST /v1/completions`, OpenAI's text completions, which old clients use: each prompt becomes a
//! conversation of one user message.

use serde::Serialize;
use serde_json::Value;

use super::request::{self, MOST_CHOICES};
use super::response::{
    Identity, UsageObject, chunk_head, put, put_done, put_end, put_error, put_string, put_usage,
    to_json,
};
use crate::budget::Body;
use crate::chat::{ChatRequest, FinishReason, Role, Sampling, ToolCall, Tools, Turn, Usage};
use crate::dialects::fields::{Fields, missing, wrong_type};
use crate::dialects::{Call, Choice, Dialect, Ending, Events, Start};
use crate::error::Error;

/// The fields of a body that are read.
const FIELDS: &[&str] = &[
    "best_of",
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "model",
    "n",
    "presence_penalty",
    "prompt",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "suffix",
    "temperature",
    "top_p",
];

/// Reads a body.
///
/// # Errors
/// [`Error::Invalid`], with the field's name as `param`; see also [`Fields::parse`].
pub fn parse(body: &mut Body) -> Result<Call, Error> {
    let fields = Fields::parse(body, FIELDS)?;
    let mut ignored = Vec::new();
    let model = request::model(&fields)?;
    let prompts = prompts(&fields)?;
    let n = request::choices(&fields)?;
    if (prompts.len() * n) as u64 > MOST_CHOICES {
        let message = format!("`prompt` and `n` ask for more than {MOST_CHOICES} answers");
        return Err(Error::invalid("prompt", message));
    }
    let sampling = Sampling {
        max_completion_tokens: request::token_limit(&fields, &mut ignored)?,
        ..request::common_sampling(&fields)?
    };
    for name in ["suffix", "logprobs", "best_of", "seed", "logit_bias"] {
        if fields.get(name).is_some_and(|value| *value != 1 && *value != "") {
            ignored.push(name);
        }
    }
    let echo = fields.boolean("echo")?.unwrap_or(false);
    let echoes = prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.clone(), n));
    let dialect = TextAnswer::new(
        Identity::new("cmpl-", &model),
        request::include_usage(&fields)?,
        if echo { echoes.collect() } else { Vec::new() },
    );
    let stop = request::stop(&fields)?;
    let requests = prompts
        .into_iter()
        .map(|prompt| ChatRequest {
            model: model.clone(),
            turns: vec![Turn::message(Role::User, prompt)],
            tools: Tools::default(),
            sampling: sampling.clone(),
            stop: stop.clone(),
            n,
            ignored: ignored.clone(),
        })
        .collect();
    let stream = fields.boolean("stream")?.unwrap_or(false);
    Ok(Call { requests, stream, dialect: Box::new(dialect) })
}

/// A string or a list of strings. Lists of token ids cannot be read without the tokenizer.
fn prompts(fields: &Fields) -> Result<Vec<String>, Error> {
    let wrong = || wrong_type("prompt", "a string or a list of strings");
    match fields.get("prompt") {
        None => Err(missing("prompt")),
        Some(Value::String(prompt)) => Ok(vec![prompt.clone()]),
        Some(Value::Array(prompts)) if !prompts.is_empty() => {
            prompts.iter().map(|p| p.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// A text completion's look.
struct TextAnswer {
    identity: Identity,
    /// Every chunk up to its list of choices.
    head: String,
    include_usage: bool,
    /// What each choice's text begins with; empty where nothing is echoed.
    echoes: Vec<String>,
}

impl TextAnswer {
    fn new(identity: Identity, include_usage: bool, echoes: Vec<String>) -> TextAnswer {
        let head = chunk_head(&identity, "text_completion") + r#""choices":["#;
        TextAnswer { identity, head, include_usage, echoes }
    }

    fn chunk(
        &self,
        events: &mut dyn Events,
        choice: usize,
        text: &str,
        reason: Option<FinishReason>,
    ) {
        events.put(None, &|out| {
            out.extend_from_slice(self.head.as_bytes());
            put(out, format_args!(r#"{{"index":{choice},"text":"#));
            put_string(out, text);
            put_end(out, reason.map(FinishReason::name), self.include_usage);
        });
    }
}

impl Dialect for TextAnswer {
    fn begin(&mut self, events: &mut dyn Events, _: &Start) {
        for (choice, echo) in self.echoes.iter().enumerate() {
            self.chunk(events, choice, echo, None);
        }
    }

    fn text(&mut self, events: &mut dyn Events, choice: usize, text: &str) {
        self.chunk(events, choice, text, None);
    }

    /// Text completions have no tools, so none is called.
    fn call_begin(&mut self, _: &mut dyn Events, _: usize, _: usize, _: &ToolCall) {}

    fn call_arguments(&mut self, _: &mut dyn Events, _: usize, _: usize, _: &str) {}

    fn finish(&mut self, events: &mut dyn Events, choice: usize, ending: &Ending) {
        self.chunk(events, choice, "", Some(ending.reason));
    }

    fn end(&mut self, events: &mut dyn Events, usage: &Usage) {
        if self.include_usage {
            put_usage(events, &self.head, usage);
        }
        put_done(events);
    }

    fn fail(&mut self, events: &mut dyn Events, error: &Error) {
        put_error(events, error);
    }

    fn whole(&self, choices: &[Choice], usage: &Usage) -> String {
        #[derive(Serialize)]
        struct Completion<'a> {
            id: &'a str,
            object: &'static str,
            created: u64,
            model: &'a str,
            choices: Vec<Object>,
            usage: UsageObject,
        }
        #[derive(Serialize)]
        struct Object {
            index: usize,
            text: String,
            logprobs: (),
            finish_reason: &'static str,
        }
        let object = |(index, choice): (usize, &Choice)| {
            let echo = self.echoes.get(index).map_or("", String::as_str);
            let text = format!("{echo}{}", choice.text);
            Object { index, text, logprobs: (), finish_reason: choice.ending.reason.name() }
        };
        to_json(&Completion {
            id: &self.identity.id,
            object: "text_completion",
            created: self.identity.created,
            model: &self.identity.model,
            choices: choices.iter().enumerate().map(object).collect(),
            usage: usage.into(),
        })
    }
}
