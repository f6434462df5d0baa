//! Writes a prompt as LangFast's `prompt_meta`, fitted to what the model accepts.

use serde_json::{Map, Value, json};

use super::refusals::Refused;
use crate::chat::media::image::Image;
use crate::chat::models::Model;
use crate::chat::{Content, Message, Part, Prompt, ResponseFormat, Role, Sampling};
use crate::error::Error;

/// Returns the `prompt_meta` of a run, and the names of the fields that are left out because the
/// model's record does not list them, or because the model has `refused` them. A level that it does not
/// take is named too, though the nearest one is sent in its place, and so is a `response_format` that it has
/// refused, which is asked for in words then ([`Closing`](crate::chat::Closing)).
///
/// # Errors
/// [`Error::Invalid`] for a `response_format` that the model's record does not
/// list: who asks for it can ask for another.
pub fn prompt_meta(
    prompt: &Prompt,
    model: &Model,
    refused: &Refused,
) -> Result<(Value, Vec<&'static str>), Error> {
    let mut meta = Map::new();
    let mut left_out = Vec::new();
    meta.insert("model".to_owned(), json!(model.slug));
    check_format(prompt.sampling.response_format.as_ref(), model)?;
    let (format, is_formatted) = response_format(prompt, model, refused);
    let closing = prompt.closing.message(is_formatted);
    let all: Vec<&Message> = prompt.messages.iter().chain(&closing).collect();
    meta.insert("messages".to_owned(), messages(&all, refused.instruction_role(model)));
    if accepts(model, refused, "stream") {
        meta.insert("stream".to_owned(), json!(true));
    }
    left_out.extend(insert_numbers(&mut meta, &prompt.sampling, model, refused));
    left_out.extend(insert_levels(&mut meta, &prompt.sampling, model, refused));
    if !is_formatted && prompt.closing.is_clients {
        left_out.push("response_format");
    }
    meta.extend(format.map(|format| ("response_format".to_owned(), format)));
    Ok((Value::Object(meta), left_out))
}

fn accepts(model: &Model, refused: &Refused, name: &'static str) -> bool {
    model.accepts(name) && refused.allows(name)
}

/// Inserts the numbers that the model takes; returns the names of the others. A limit of tokens is lowered to
/// the model's own.
fn insert_numbers(
    meta: &mut Map<String, Value>,
    sampling: &Sampling,
    model: &Model,
    refused: &Refused,
) -> Vec<&'static str> {
    let mut left_out = Vec::new();
    let most = model.max_completion_tokens().unwrap_or(u64::MAX);
    let most = most.min(refused.most_tokens().unwrap_or(u64::MAX));
    let tokens = sampling.max_completion_tokens.map(|tokens| tokens.min(most));
    for (name, value) in [
        ("max_completion_tokens", tokens.map(Value::from)),
        ("temperature", sampling.temperature.map(Value::from)),
        ("top_p", sampling.top_p.map(Value::from)),
        ("presence_penalty", sampling.presence_penalty.map(Value::from)),
        ("frequency_penalty", sampling.frequency_penalty.map(Value::from)),
    ] {
        match value {
            Some(value) if accepts(model, refused, name) => {
                drop(meta.insert(name.to_owned(), value))
            }
            Some(_) => left_out.push(name),
            None => {}
        }
    }
    left_out
}

/// Inserts the levels of effort and verbosity, each the nearest one that the model takes; returns the names of
/// those whose level is another than the one asked for.
fn insert_levels(
    meta: &mut Map<String, Value>,
    sampling: &Sampling,
    model: &Model,
    refused: &Refused,
) -> Vec<&'static str> {
    let mut left_out = Vec::new();
    for (name, value) in
        [("reasoning_effort", &sampling.reasoning_effort), ("verbosity", &sampling.verbosity)]
    {
        let Some(asked) = value else { continue };
        let is_taken =
            |word: &str| model.accepts_value(name, word) && refused.allows_word(name, word);
        if is_taken(asked) {
            meta.insert(name.to_owned(), json!(asked));
            continue;
        }
        left_out.push(name);
        // A model that refuses what its record lists may refuse the next level too, at a run each.
        let is_refused = model.accepts_value(name, asked);
        let level = nearest(asked, model.values(name).filter(|word| !is_refused && is_taken(word)));
        meta.extend(level.map(|word| (name.to_owned(), json!(word))));
    }
    left_out
}

/// OpenAI's levels of effort and verbosity, from the least to the most.
const LEVELS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The level among `taken` that is nearest to the one that is asked for, the lower one of two; `None` if
/// that is no level.
fn nearest<'a>(asked: &str, taken: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let level = |word: &str| LEVELS.iter().position(|level| *level == word);
    let asked = level(asked)?;
    let known = taken.filter_map(|word| Some((level(word)?, word)));
    known.min_by_key(|(at, _)| (at.abs_diff(asked), *at)).map(|(_, word)| word)
}

fn check_format(format: Option<&ResponseFormat>, model: &Model) -> Result<(), Error> {
    let name = format.map_or("text", ResponseFormat::name);
    if name == "text" || model.accepts_value("response_format", name) {
        return Ok(());
    }
    let taken: Vec<&str> = model.values("response_format").collect();
    Err(Error::unsupported(
        "response_format",
        format!(
            "The model `{}` does not take a `response_format` of {name} (it takes: {})",
            model.slug,
            if taken.is_empty() { "none".to_owned() } else { taken.join(", ") }
        ),
    ))
}

/// The `response_format` of a run, if the model accepts one, and whether it is what the prompt asks for.
/// Known: a string for text. Inferred: a string for `json_object`, OpenAI's object for `json_schema`.
fn response_format(prompt: &Prompt, model: &Model, refused: &Refused) -> (Option<Value>, bool) {
    let name = "response_format";
    let is_allowed = |word: &str| refused.allows_word(name, word);
    let is_taken = |word: &str| model.accepts_value(name, word) && is_allowed(word);
    // Every model's own: said where it is known to be understood.
    let text = || (model.lists(name, "text") && is_allowed("text")).then(|| json!("text"));
    match &prompt.sampling.response_format {
        None | Some(ResponseFormat::Text) => (text(), true),
        Some(ResponseFormat::JsonSchema(object))
            if is_taken("json_schema") && refused.allows_schema(object) =>
        {
            (Some(object.clone()), true)
        }
        Some(ResponseFormat::JsonObject) if is_taken("json_object") => {
            (Some(json!("json_object")), true)
        }
        // An object of any kind is nearer to what the client wants than a text; a call may be none.
        Some(ResponseFormat::JsonSchema(_))
            if prompt.closing.is_clients && is_taken("json_object") =>
        {
            (Some(json!("json_object")), false)
        }
        Some(_) => (text(), false),
    }
}

/// The messages, with instructions under the role that the model accepts, or, if it accepts none, at
/// the head of the first user message.
fn messages(messages: &[&Message], instruction_role: Option<Role>) -> Value {
    let is_instruction = |m: &&&Message| matches!(m.role, Role::System | Role::Developer);
    let plain = |role: Role, said: &Content| json!({"role": role.name(), "content": content(said)});
    if let Some(role) = instruction_role {
        let fitted = messages.iter().map(|message| {
            plain(if is_instruction(&message) { role } else { message.role }, &message.content)
        });
        return fitted.collect();
    }
    let instructions: Vec<_> =
        messages.iter().filter(is_instruction).map(|m| m.content.text()).collect();
    let mut rest: Vec<Message> =
        messages.iter().filter(|m| !is_instruction(m)).map(|m| Message::clone(m)).collect();
    if !instructions.is_empty() {
        let instructions = instructions.join("\n\n");
        match rest.iter_mut().find(|message| message.role == Role::User) {
            Some(first) => first.content.prepend(format!("{instructions}\n\n")),
            None => rest.insert(0, Message { role: Role::User, content: instructions.into() }),
        }
    }
    rest.iter().map(|message| plain(message.role, &message.content)).collect()
}

/// The `content` of a message. Known: a string for text. Unknown: whether LangFast takes images at all;
/// guessed: a list of OpenAI's content parts.
fn content(said: &Content) -> Value {
    if said.media().next().is_none() {
        return json!(said.text());
    }
    let parts = said.parts().iter().filter_map(|part| match part {
        Part::Text(text) => Some(json!({"type": "text", "text": text})),
        Part::Media(media) => media.image.as_ref().ok().map(image),
    });
    parts.collect()
}

fn image(image: &Image) -> Value {
    let mut object = json!({"url": *image.url});
    if let Some(detail) = image.detail {
        object["detail"] = json!(detail.name());
    }
    json!({"type": "image_url", "image_url": object})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::models::{BUILT_IN, Models, Unknown};
    use crate::chat::{Closing, Sampling};
    use crate::error::{Failure, Step};
    use crate::langfast::refusals::{Refusals, Sent};

    fn fit(model: &str, sampling: Sampling) -> (Value, Vec<&'static str>) {
        fit_messages(model, sampling, &[(Role::System, "Be brief."), (Role::User, "Hi")])
    }

    fn fit_messages(
        model: &str,
        sampling: Sampling,
        messages: &[(Role, &str)],
    ) -> (Value, Vec<&'static str>) {
        let models = Models::parse(BUILT_IN, &[], Unknown::Refuse).unwrap();
        let message =
            |(role, text): &(Role, &str)| Message { role: *role, content: (*text).into() };
        let messages = messages.iter().map(message).collect();
        let prompt = Prompt { messages, sampling, ..Prompt::default() };
        prompt_meta(&prompt, models.find(model).unwrap(), &Refused::default()).unwrap()
    }

    #[test]
    fn what_the_record_lists_is_sent_and_the_rest_is_named() {
        let sampling = Sampling {
            max_completion_tokens: Some(1_000_000),
            temperature: Some(0.5),
            reasoning_effort: Some("low".to_owned()),
            ..Sampling::default()
        };
        let (meta, left_out) = fit("gpt-4o", sampling.clone());
        assert_eq!(meta["max_completion_tokens"], 16384);
        assert_eq!(meta["temperature"], 0.5);
        assert_eq!(meta["response_format"], "text");
        assert_eq!((meta.get("reasoning_effort"), left_out), (None, vec!["reasoning_effort"]));

        let (meta, left_out) = fit("o1", sampling);
        assert_eq!(meta["reasoning_effort"], "low");
        assert_eq!((meta.get("temperature"), meta.get("stream")), (None, None));
        assert_eq!(left_out, ["temperature"]);
    }

    #[test]
    fn instructions_go_where_the_model_takes_them() {
        let first = |model| fit(model, Sampling::default()).0["messages"][0].clone();
        assert_eq!(first("gpt-4o"), json!({"role": "system", "content": "Be brief."}));
        assert_eq!(first("gpt-5"), json!({"role": "developer", "content": "Be brief."}));
        assert_eq!(first("o1-mini"), json!({"role": "user", "content": "Be brief.\n\nHi"}));
        let alone =
            fit_messages("o1-mini", Sampling::default(), &[(Role::Developer, "Be brief.")]).0;
        assert_eq!(alone["messages"], json!([{"role": "user", "content": "Be brief."}]));
    }

    #[test]
    fn a_level_that_the_model_does_not_take_becomes_the_nearest_one() {
        let sent = |model, effort: &str| {
            let reasoning_effort = Some(effort.to_owned());
            let (meta, left_out) = fit(model, Sampling { reasoning_effort, ..Sampling::default() });
            (meta["reasoning_effort"].as_str().map(str::to_owned), left_out.is_empty())
        };
        let word = |word: &str| Some(word.to_owned());
        for (model, asked, expected) in [
            ("gpt-5", "none", (word("minimal"), false)),
            ("gpt-5", "minimal", (word("minimal"), true)),
            ("gpt-5", "max", (word("high"), false)),
            ("o3", "minimal", (word("low"), false)),
            ("o3", "xhigh", (word("high"), false)),
            ("o3", "medium", (word("medium"), true)),
            ("o3", "turbo", (None, false)),
            ("gpt-4o", "low", (None, false)),
        ] {
            assert_eq!(sent(model, asked), expected, "{model} {asked}");
        }
        assert_eq!(nearest("medium", ["high", "low"].into_iter()), Some("low"));
    }

    #[test]
    fn a_form_of_answer_that_the_model_cannot_give_is_an_error() {
        let models = Models::parse(BUILT_IN, &[], Unknown::Refuse).unwrap();
        let sampling = Sampling {
            response_format: Some(ResponseFormat::JsonSchema(json!({}))),
            ..Sampling::default()
        };
        let prompt = Prompt { sampling, ..Prompt::default() };
        let error =
            prompt_meta(&prompt, models.find("gpt-4").unwrap(), &Refused::default()).unwrap_err();
        assert!(error.to_string().contains("text, json_object"), "{error}");
    }

    #[test]
    fn a_form_of_answer_that_the_model_has_refused_is_asked_for_in_words_and_named() {
        let models = Models::parse(BUILT_IN, &[], Unknown::Refuse).unwrap();
        let model = models.find("gpt-4o").unwrap();
        let schema = ResponseFormat::JsonSchema(json!({"type": "json_schema"}));
        for (format, words, is_clients, sent, last) in [
            (&schema, &[][..], true, json!({"type": "json_schema"}), "usual"),
            (&schema, &["json_schema"], true, json!("json_object"), "in words"),
            (&schema, &["json_schema"], false, json!("text"), "in words"),
            (&schema, &["json_schema", "json_object"], true, json!("text"), "in words"),
            (&ResponseFormat::JsonObject, &["json_object"], true, json!("text"), "in words"),
            (&ResponseFormat::JsonObject, &["json_schema"], true, json!("json_object"), "usual"),
        ] {
            let refusals = Refusals::default();
            for word in words {
                let meta = json!({"response_format": {"type": word}});
                let words = format!("Invalid value: '{word}'. Supported values are: 'text'.");
                let error = Error::upstream(Step::Run, Failure::Refused(words));
                assert!(refusals.learn("gpt-4o", &error, &Sent::of(&meta)));
            }
            let [usual, unformatted] = ["usual", "in words"].map(str::to_owned);
            let prompt = Prompt {
                messages: vec![Message { role: Role::User, content: "Hi".into() }],
                sampling: Sampling { response_format: Some(format.clone()), ..Sampling::default() },
                closing: Closing { usual, unformatted, is_clients },
            };
            let (meta, left_out) = prompt_meta(&prompt, model, &refusals.of("gpt-4o")).unwrap();
            assert_eq!(left_out.contains(&"response_format"), is_clients && last == "in words");
            assert_eq!(meta["response_format"], sent);
            assert_eq!(meta["messages"][1], json!({"role": "system", "content": last}));
        }
    }
}
