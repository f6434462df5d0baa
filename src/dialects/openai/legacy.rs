//! `POST /v1/completions`, OpenAI's text completions, which old clients use: each prompt becomes a
//! conversation of one user message.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::completion::{CompletionWriter, Form};
use super::identity::Identity;
use super::request::{self, MOST_CHOICES};
use crate::budget::{Body, Share};
use crate::chat::{ChatRequest, Role, Sampling, ToolCall, Tools, Turn, Usage};
use crate::dialects::fields::{Fields, missing, wrong_type};
use crate::dialects::writing::put_json;
use crate::dialects::{Choice, CompletionRequest, Dialect, Ending, Events, Start};
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

/// Reads a body as a request with one conversation for each prompt. `deployment` is the model that the URL
/// names, if it does.
///
/// # Errors
/// [`Error::Invalid`], with the field's name as `param`; see also [`Fields::parse`].
pub fn parse(body: &mut Body, deployment: Option<String>) -> Result<CompletionRequest, Error> {
    let fields = Fields::parse(body, FIELDS)?;
    let mut ignored = Vec::new();
    let model = request::model_of(deployment, &fields, &mut ignored)?;
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
    ignored.extend(without_effect(&fields));
    let echoes = echoes(&fields, &prompts, n, body.parts().1)?;
    let identity = Identity::new("cmpl-", &model);
    let dialect = TextAnswer::new(identity, request::include_usage(&fields)?, echoes);
    let stop = request::stop(&fields)?;
    let chats = prompts
        .into_iter()
        .map(|prompt| ChatRequest {
            model: model.clone(),
            turns: vec![Turn::message(Role::User, prompt)],
            tools: Tools::default(),
            sampling: sampling.clone(),
            stop: stop.clone(),
            n,
            ignored: ignored.clone(),
            left_out: Vec::new(),
        })
        .collect();
    let stream = fields.boolean("stream")?.unwrap_or(false);
    Ok(CompletionRequest { chats, stream, dialect: Box::new(dialect), keeper: None })
}

/// Reads whether answers begin with their prompts, and returns the prompt of each answer, of which a prompt has
/// `n`; none if they do not. The memory of the copies is taken from `share`.
fn echoes(
    fields: &Fields,
    prompts: &[String],
    n: usize,
    share: &mut Share,
) -> Result<Vec<Arc<str>>, Error> {
    if !fields.boolean("echo")?.unwrap_or(false) {
        return Ok(Vec::new());
    }
    share.grow(prompts.iter().map(String::len).sum(), None)?;
    let copies = prompts.iter().map(|prompt| Arc::from(prompt.as_str()));
    Ok(copies.flat_map(|prompt| std::iter::repeat_n(prompt, n)).collect())
}

/// Returns the names of the fields that ask for something and have no effect here.
fn without_effect(fields: &Fields) -> impl Iterator<Item = &'static str> {
    let matters = |name: &str| fields.get(name).is_some_and(|value| *value != 1 && *value != "");
    let names = ["suffix", "logprobs", "best_of", "seed", "logit_bias"];
    names.into_iter().filter(move |name| matters(name))
}

/// Reads the prompts: a string or a list of strings. Lists of token ids cannot be read without the
/// tokenizer.
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

/// The words of text completions.
const FORM: Form =
    Form { whole: "text_completion", chunk: "text_completion", piece: "text", service_tier: None };

/// Writes a text completion, whole or as the chunks of a stream.
struct TextAnswer {
    writer: CompletionWriter,
    /// The prompt that each choice's text begins with, which choices share; empty if prompts are not echoed.
    echoes: Vec<Arc<str>>,
}

#[derive(Serialize)]
struct ChoiceObject<'a> {
    index: usize,
    text: Echoed<'a>,
    logprobs: (),
    finish_reason: &'static str,
}

/// A prompt and the text behind it, which are written as one text without being joined in memory.
struct Echoed<'a>(&'a str, &'a str);

impl Serialize for Echoed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{}", self.0, self.1))
    }
}

impl TextAnswer {
    fn new(identity: Identity, include_usage: bool, echoes: Vec<Arc<str>>) -> TextAnswer {
        TextAnswer { writer: CompletionWriter::new(FORM, identity, include_usage), echoes }
    }

    /// Adds a chunk with a piece of a choice's text.
    fn piece(&self, events: &mut dyn Events, choice: usize, text: &str) {
        self.writer.chunk(events, choice, None, |out| put_json(out, text));
    }
}

impl Dialect for TextAnswer {
    fn begin(&mut self, events: &mut dyn Events, _: &Start) {
        for (choice, echo) in self.echoes.iter().enumerate() {
            self.piece(events, choice, echo);
        }
    }

    fn text(&mut self, events: &mut dyn Events, choice: usize, text: &str) {
        self.piece(events, choice, text);
    }

    /// Text completions have no tools, so none is called.
    fn call_begin(&mut self, _: &mut dyn Events, _: usize, _: usize, _: &ToolCall) {}

    fn call_arguments(&mut self, _: &mut dyn Events, _: usize, _: usize, _: &str) {}

    fn finish(&mut self, events: &mut dyn Events, choice: usize, ending: &Ending) {
        self.writer.chunk(events, choice, Some(ending.reason.name()), |out| put_json(out, ""));
    }

    fn end(&mut self, events: &mut dyn Events, usage: &Usage) {
        self.writer.end(events, usage);
    }

    fn fail(&mut self, events: &mut dyn Events, error: &Error) {
        self.writer.fail(events, error);
    }

    fn whole(&self, choices: &[Choice], usage: &Usage) -> String {
        let objects = choices.iter().enumerate().map(|(index, choice)| ChoiceObject {
            index,
            text: Echoed(self.echoes.get(index).map_or("", |echo| echo), &choice.text),
            logprobs: (),
            finish_reason: choice.ending.reason.name(),
        });
        self.writer.whole(objects.collect(), usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::chat::FinishReason;
    use crate::dialects::openai::identity::tests::identity;
    use crate::dialects::openai::response::tests::{chunks, reason};
    use crate::dialects::stories::{Story, StoryStep, any_story, failure, finish, text};
    use proptest::prelude::*;

    fn answer(include_usage: bool, echoes: &[&str]) -> TextAnswer {
        let echoes = echoes.iter().map(|echo| Arc::from(*echo)).collect();
        TextAnswer::new(identity("cmpl-1"), include_usage, echoes)
    }

    /// The beginning of every chunk.
    const HEAD: &str = r#"{"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"a \"model\"","choices":["#;

    fn chunk(choice: usize, text: &str, reason: &str) -> String {
        format!(
            r#"{HEAD}{{"index":{choice},"text":{text},"logprobs":null,"finish_reason":{reason}}}]}}"#
        )
    }

    fn two_choices() -> Story {
        Story::interleaved(
            2,
            [
                (1, text("b")),
                (0, text("\"é\n")),
                (0, StoryStep::KeepAlive),
                (1, finish(FinishReason::Stop)),
                (0, finish(FinishReason::Length)),
            ],
        )
    }

    #[test]
    fn a_streams_events_are_chunks_of_its_choices_as_they_come_and_done() {
        assert_eq!(
            two_choices().lines(&mut answer(false, &[])),
            [
                chunk(1, r#""b""#, "null"),
                chunk(0, r#""\"é\n""#, "null"),
                "(keep-alive)".to_owned(),
                chunk(1, r#""""#, r#""stop""#),
                chunk(0, r#""""#, r#""length""#),
                "[DONE]".to_owned(),
            ]
        );
    }

    #[test]
    fn an_echo_is_what_a_choices_text_begins_with_streamed_and_whole() {
        let lines = two_choices().lines(&mut answer(false, &["one", "two"]));
        assert_eq!(lines[..2], [chunk(0, r#""one""#, "null"), chunk(1, r#""two""#, "null")]);
        let whole =
            answer(false, &["one ", "two "]).whole(&two_choices().whole(), &Usage::default());
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(whole["choices"][0]["text"], "one \"é\n");
        assert_eq!(whole["choices"][1]["text"], "two b");
    }

    #[test]
    fn an_echo_takes_memory_of_the_bodies_once_however_many_answers_begin_with_it() {
        let used = |fields: &str| {
            let prompt = "x".repeat(100_000);
            let json = format!(r#"{{"model":"m","prompt":"{prompt}"{fields}}}"#).into_bytes();
            let budget = Budget::new(1 << 20);
            let mut body = Body::with(json, Share::of(&budget));
            let request = parse(&mut body, None).unwrap();
            drop(request);
            budget.used()
        };
        let without = used(r#","n":8"#);
        assert_eq!(used(r#","n":8,"echo":true"#), without + 100_000);
    }

    #[test]
    fn usage_is_a_chunk_of_no_choice_and_null_in_all_others() {
        let told = two_choices().lines(&mut answer(true, &["one", "two"]));
        let (usage, others) = (&told[told.len() - 2], &told[..told.len() - 2]);
        let chunks = others.iter().filter(|line| *line != "(keep-alive)");
        assert!(chunks.clone().count() == 6);
        assert!(chunks.into_iter().all(|line| line.ends_with(r#"],"usage":null}"#)), "{told:?}");
        let begin = format!(r#"{HEAD}],"usage":{{"prompt_tokens":7,"completion_tokens":3,"#);
        assert!(usage.starts_with(&begin), "{usage}");
    }

    #[test]
    fn a_stream_that_breaks_off_ends_with_the_error_and_without_done() {
        let told = Story::of([text("a")]).broken_off().lines(&mut answer(true, &[]));
        assert_eq!(told.len(), 2);
        assert_eq!(told[1], failure().body());
    }

    #[test]
    fn a_whole_answer_has_its_fields_in_openais_order() {
        let story = Story::of([text("Hi"), finish(FinishReason::Stop)]);
        let usage = Usage { prompt_tokens: 7, completion_tokens: 3, ..Usage::default() };
        let whole = answer(true, &[]).whole(&story.whole(), &usage);
        let begin = concat!(
            r#"{"id":"cmpl-1","object":"text_completion","created":1700000000,"#,
            r#""model":"a \"model\"","choices":[{"index":0,"text":"Hi","logprobs":null,"#,
            r#""finish_reason":"stop"}],"usage":{"prompt_tokens":7,"#
        );
        assert!(whole.starts_with(begin), "{whole}");
    }

    proptest! {
        #[test]
        fn what_is_streamed_adds_up_to_what_was_told(story in any_story(4, false)) {
            let told = story.told(&mut answer(false, &[]));
            let mut texts = vec![String::new(); story.choices];
            let mut ends = vec![None; story.choices];
            for chunk in chunks(&told, &story) {
                let choice = &chunk["choices"][0];
                let at = choice["index"].as_u64().unwrap() as usize;
                let text = choice["text"].as_str().unwrap();
                prop_assert_eq!(ends[at], None, "nothing comes behind a choice's end");
                ends[at] = choice["finish_reason"].as_str().map(reason);
                prop_assert_eq!(text.is_empty(), ends[at].is_some());
                texts[at].push_str(text);
            }
            for (choice, (text, end)) in story.whole().iter().zip(texts.into_iter().zip(ends)) {
                prop_assert_eq!(&choice.text, &text);
                prop_assert_eq!(choice.ending.reason, end.unwrap_or(FinishReason::Stop));
                prop_assert!(end.is_some() || story.usage.is_none());
            }
        }
    }
}
