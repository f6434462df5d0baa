//! Reads the body of `POST /v1/chat/completions`, field by field; an error names the wrong field.

use serde_json::Value;

use super::identity::Identity;
use super::kinds::SPOKEN;
use super::parts::content;
use super::response::ChatAnswer;
use super::tools;
use crate::budget::Body;
use crate::chat::media::Images;
use crate::chat::{CallIds, ChatRequest, Content, Part, ResponseFormat, Role, Sampling, Turn};
use crate::dialects::CompletionRequest;
use crate::dialects::fields::{Fields, missing, wrong_type};
use crate::dialects::media::MediaReader;
use crate::error::Error;

/// Most answers that one request may ask for, since each is a run of its own.
pub(super) const MOST_CHOICES: u64 = 8;
/// Longest name of a message's author, in characters; OpenAI's limit.
const LONGEST_NAME: usize = 64;
/// Most stop texts of a request, OpenAI's limit.
const MOST_STOPS: usize = 4;

/// The fields of a body that are read.
const FIELDS: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "modalities",
    "model",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "verbosity",
    "web_search_options",
];

/// Reads a body as a request with one conversation. Fields that OpenAI does not have are ignored, and so are
/// null ones. `deployment` is the model that the URL names, if it does.
///
/// # Errors
/// [`Error::Invalid`], with the field's name as `param`; see also [`Fields::parse`].
pub fn parse(
    body: &mut Body,
    images: Images,
    deployment: Option<String>,
) -> Result<CompletionRequest, Error> {
    let fields = Fields::parse(body, FIELDS)?;
    let mut ignored = Vec::new();

    let model = model_of(deployment, &fields, &mut ignored)?;
    let mut media = MediaReader::new(images, body);
    let turns = turns(&fields, &mut media)?;
    let mut left_out = media.finish("messages", &turns)?;
    let offered = tools::parse(&fields, &mut left_out)?;

    let sampling = Sampling {
        max_completion_tokens: token_limit(&fields, &mut ignored)?,
        reasoning_effort: fields.string("reasoning_effort")?.map(str::to_owned),
        verbosity: fields.string("verbosity")?.map(str::to_owned),
        response_format: response_format(&fields)?,
        ..common_sampling(&fields)?
    };
    ignored.extend(without_effect(&fields)?);
    let identity = Identity::new("chatcmpl-", &model);
    let dialect = ChatAnswer::new(identity, include_usage(&fields)?, offered.calls);
    let request = ChatRequest {
        model,
        turns,
        tools: offered.tools,
        sampling,
        stop: stop(&fields)?,
        n: choices(&fields)?,
        ignored,
        left_out,
    };
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let dialect = Box::new(dialect.with_custom(offered.custom));
    Ok(CompletionRequest { chats: vec![request], stream, dialect, keeper: None })
}

/// Reads the name of the model.
pub(super) fn model(fields: &Fields) -> Result<String, Error> {
    let name = fields.string("model")?.filter(|model| !model.is_empty());
    Ok(name.ok_or_else(|| fields.missing("model"))?.to_owned())
}

/// Reads the name of the model, where the URL may name a deployment as Azure's do. A deployment counts (known:
/// Azure needs no `model` beside it), and a different `model` is added to `ignored`.
pub(super) fn model_of(
    deployment: Option<String>,
    fields: &Fields,
    ignored: &mut Vec<&'static str>,
) -> Result<String, Error> {
    let Some(name) = deployment else { return model(fields) };
    if fields.get("model").is_some_and(|model| *model != name) {
        ignored.push("model");
    }
    Ok(name)
}

/// Reads the sampling fields that chat and text completions share.
pub(super) fn common_sampling(fields: &Fields) -> Result<Sampling, Error> {
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0, 2.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        presence_penalty: fields.number("presence_penalty", -2.0, 2.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0, 2.0)?,
        ..Sampling::default()
    })
}

/// Reads the limit of the answer's tokens. The newer field wins; one of 0 or less limits nothing and is added
/// to `ignored`.
pub(super) fn token_limit(
    fields: &Fields,
    ignored: &mut Vec<&'static str>,
) -> Result<Option<u64>, Error> {
    let mut found = None;
    for name in ["max_completion_tokens", "max_tokens"] {
        match fields.integer(name)? {
            Some(limit) if limit <= 0 => ignored.push(name),
            Some(limit) => found = found.or(Some(limit as u64)),
            None => {}
        }
    }
    Ok(found)
}

/// True if a stream has to end with the usage.
pub(super) fn include_usage(fields: &Fields) -> Result<bool, Error> {
    let Some(options) = fields.object("stream_options")? else { return Ok(false) };
    Ok(options.boolean("include_usage")?.unwrap_or(false))
}

/// Reads the number of answers.
pub(super) fn choices(fields: &Fields) -> Result<usize, Error> {
    match fields.integer("n")? {
        None => Ok(1),
        Some(n) if (1..=MOST_CHOICES as i64).contains(&n) => Ok(n as usize),
        Some(n) => {
            Err(Error::invalid("n", format!("`n` must be between 1 and {MOST_CHOICES}, not {n}")))
        }
    }
}

/// Reads the stop texts.
pub(super) fn stop(fields: &Fields) -> Result<Vec<String>, Error> {
    let wrong = || fields.wrong("stop", "a string or a list of up to 4 strings");
    match fields.get("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(stop)) => Ok(vec![stop.clone()]),
        Some(Value::Array(stops)) if stops.len() <= MOST_STOPS => {
            stops.iter().map(|stop| stop.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn response_format(fields: &Fields) -> Result<Option<ResponseFormat>, Error> {
    let Some(value) = fields.get("response_format") else { return Ok(None) };
    let kind = value.get("type").and_then(Value::as_str);
    match kind {
        Some("text") => Ok(Some(ResponseFormat::Text)),
        Some("json_object") => Ok(Some(ResponseFormat::JsonObject)),
        Some("json_schema") => {
            let schema = value.get("json_schema");
            let named = schema.and_then(|schema| schema.get("name")).is_some_and(Value::is_string);
            if !named {
                return Err(missing("response_format.json_schema.name"));
            }
            Ok(Some(ResponseFormat::JsonSchema(value.clone())))
        }
        Some(_) => Err(Error::invalid(
            "response_format.type",
            "`response_format.type` must be text, json_object or json_schema",
        )),
        None => Err(wrong_type("response_format", "an object with a `type`")),
    }
}

/// Returns the names of fields in the request that have no effect here although they matter.
fn without_effect(fields: &Fields) -> Result<Vec<&'static str>, Error> {
    let mut ignored = Vec::new();
    for name in ["seed", "logit_bias", "prediction", "top_logprobs", "audio", "web_search_options"]
    {
        if fields.get(name).is_some() {
            ignored.push(name);
        }
    }
    if fields.boolean("logprobs")? == Some(true) {
        ignored.push("logprobs");
    }
    let modalities = fields.get("modalities").and_then(Value::as_array);
    if modalities.is_some_and(|list| list.iter().any(|kind| kind.as_str() != Some("text"))) {
        ignored.push("modalities");
    }
    Ok(ignored)
}

fn turns(fields: &Fields, media: &mut MediaReader) -> Result<Vec<Turn>, Error> {
    let list = fields.messages()?;
    let mut turns = Vec::with_capacity(list.len());
    let mut called = CallIds::default();
    for (at, value) in list.iter().enumerate() {
        let turn = turn(&format!("messages[{at}]"), value, &turns, &mut called, media)?;
        // Nothing is left of it, and whoever it is from has said it long ago.
        let is_gone = turn.is_empty() && media.has_left_out() && !turn.is_of(Role::User);
        if !is_gone {
            turns.push(turn);
        }
        media.end_message(&turns);
    }
    Ok(turns)
}

/// Reads one message; `before` are the turns before it, whose calls `called` knows.
fn turn(
    path: &str,
    value: &Value,
    before: &[Turn],
    called: &mut CallIds,
    media: &mut MediaReader,
) -> Result<Turn, Error> {
    let message = Fields::of(value, path)?;
    let role = message.required_string("role")?;
    let said = content(&message.path("content"), message.get("content"), media)?;
    let must_have = |said: Option<Content>| {
        said.ok_or_else(|| message.wrong("content", "a string or a list of parts"))
    };
    let by = |role: Role, said: Option<Content>| {
        Ok::<_, Error>(Turn::message(role, under_name(&message, must_have(said)?)?))
    };
    Ok(match role {
        "system" => by(Role::System, said)?,
        "developer" => by(Role::Developer, said)?,
        "user" => by(Role::User, said)?,
        "assistant" => assistant(&message, said.unwrap_or_default(), media)?,
        "tool" => Turn::Result(tools::result(&message, said.unwrap_or_default(), before, called)?),
        "function" => Turn::Result(tools::function_result(&message, said.unwrap_or_default())),
        // Whether a text is an instruction, a question or an answer, only its role says.
        _ => {
            let role_path = message.path("role");
            return Err(Error::Invalid {
                message: format!(
                    "Invalid value for `{role_path}`: it must be system, developer, user, \
                     assistant, tool or function"
                ),
                param: Some(role_path),
                code: Some("invalid_value"),
            });
        }
    })
}

/// Prefixes a content with its author's name. Names that are longer than OpenAI allows, or have several
/// lines, are ignored.
fn under_name(message: &Fields, mut content: Content) -> Result<Content, Error> {
    let name = message.string("name")?.unwrap_or_default().trim();
    if (1..=LONGEST_NAME).contains(&name.chars().count()) && !name.contains(['\n', '\r']) {
        content.prepend(format!("{name}: "));
    }
    Ok(content)
}

/// Reads a message of the assistant's. Its name is left out: a model that saw it before its earlier
/// answers would begin the next one with it.
fn assistant(
    message: &Fields,
    mut content: Content,
    media: &mut MediaReader,
) -> Result<Turn, Error> {
    let calls = tools::calls(message)?;
    if content.is_empty() {
        content.push_text(message.string("refusal")?.unwrap_or_default());
    }
    if let Some(audio) = message.get("audio").filter(|_| content.is_empty()) {
        content.push(Part::Media(media.read(&SPOKEN, &message.path("audio"), audio)?));
    }
    if message.string("name")?.is_some_and(|name| !name.is_empty()) {
        media.leave_out(&message.path("name"));
    }
    Ok(match calls.is_empty() {
        true => Turn::message(Role::Assistant, content),
        false => Turn::Calls { content, calls },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ToolCall, ToolChoice, ToolResult};
    use serde_json::json;

    fn call(mut fields: Value) -> Result<ChatRequest, Error> {
        let whole = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]});
        let fields = fields.as_object_mut().unwrap();
        for (name, value) in whole.as_object().unwrap() {
            fields.entry(name).or_insert(value.clone());
        }
        let request = parse(&mut serde_json::to_vec(fields).unwrap().into(), Images::Refuse, None)?;
        Ok(request.chats.into_iter().next().unwrap())
    }

    fn bytes(body: &str) -> Body {
        body.as_bytes().to_vec().into()
    }

    fn param(fields: Value) -> String {
        match call(fields.clone()) {
            Err(Error::Invalid { param: Some(param), .. }) => param,
            other => panic!("{fields}: {other:?}"),
        }
    }

    fn turns(messages: Value) -> Vec<Turn> {
        call(json!({ "messages": messages })).unwrap().turns
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name}})
    }

    fn chosen(name: &str) -> Value {
        tool(name)
    }

    #[test]
    fn what_is_missing_or_of_a_wrong_type_is_named() {
        for (fields, expected) in [
            (json!({"model": null}), "model"),
            (json!({"model": 7}), "model"),
            (json!({"model": ""}), "model"),
            (json!({"messages": null}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": "hi"}), "messages"),
            (json!({"messages": ["hi"]}), "messages[0]"),
            (json!({"messages": [{"content": "hi"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "robot", "content": "hi"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
            (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content"),
            (json!({"temperature": "1"}), "temperature"),
            (json!({"temperature": 2.1}), "temperature"),
            (json!({"top_p": -0.1}), "top_p"),
            (json!({"n": 0}), "n"),
            (json!({"n": 9}), "n"),
            (json!({"n": 1.5}), "n"),
            (json!({"stop": 7}), "stop"),
            (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
            (json!({"max_tokens": "5"}), "max_tokens"),
            (json!({"stream": "yes"}), "stream"),
            (json!({"stream_options": 7}), "stream_options"),
            (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage"),
            (json!({"response_format": "json"}), "response_format"),
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"tools": 7}), "tools"),
            (json!({"tools": [{}]}), "tools[0].type"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
            (json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name"),
            (json!({"tools": [tool("a b")]}), "tools[0].function.name"),
            (json!({"tools": [tool(&"a".repeat(65))]}), "tools[0].function.name"),
            (json!({"tools": [tool("a"), tool("a")]}), "tools[1].function.name"),
            (json!({"tools": vec![tool("a"); 129]}), "tools"),
            (json!({"tools": [tool("a")], "tool_choice": "maybe"}), "tool_choice"),
            (json!({"tools": [tool("a")], "tool_choice": chosen("b")}), "tool_choice"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            // What is left out of the history is no tool.
            (
                json!({"tool_choice": "required", "messages": [
                    {"role": "user", "content": [{"type": "new"}]},
                    {"role": "user", "content": "hi"},
                ]}),
                "tool_choice",
            ),
            (json!({"tools": [{"type": "custom", "custom": {}}]}), "tools[0].custom.name"),
            (json!({"functions": [{"name": 7}]}), "functions[0].name"),
            (
                json!({"functions": [{"name": "a"}], "function_call": {"name": "b"}}),
                "function_call",
            ),
            (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].tool_call_id"),
            (
                json!({"messages": [{"role": "tool", "content": "x", "tool_call_id": "y"}]}),
                "messages[0].tool_call_id",
            ),
        ] {
            assert_eq!(param(fields.clone()), expected, "{fields}");
        }
    }

    #[test]
    fn it_is_said_what_is_wrong_with_a_message_and_with_a_function() {
        let turn = |turn: Value| json!({ "messages": [turn] });
        let function =
            |function: Value| json!({"tools": [{"type": "function", "function": function}]});
        let invalid =
            |what: &str, must: &str| format!("Invalid type for `{what}`: it must be {must}");
        let missing = |what: &str| format!("Missing required parameter: `{what}`");
        let (path, parts) = ("tools[0].function", "a string or a list of parts");
        for (fields, words) in [
            (turn(json!(7)), invalid("messages[0]", "an object")),
            (turn(json!({"role": null})), missing("messages[0].role")),
            (turn(json!({"role": 7})), invalid("messages[0].role", "a string")),
            (turn(json!({"role": "user", "content": null})), invalid("messages[0].content", parts)),
            (turn(json!({"role": "tool", "tool_call_id": 7})), missing("messages[0].tool_call_id")),
            (
                turn(json!({"role": "assistant", "tool_calls": 7})),
                invalid("messages[0].tool_calls", "a list"),
            ),
            (
                turn(json!({"role": "assistant", "tool_calls": [{"id": 7}]})),
                missing("messages[0].tool_calls[0].id"),
            ),
            (
                turn(json!({"role": "assistant", "function_call": {}})),
                missing("messages[0].function_call.name"),
            ),
            (function(json!(7)), invalid(path, "an object")),
            (function(json!({"name": null})), missing("tools[0].function.name")),
            (function(json!({"name": 7})), invalid("tools[0].function.name", "a string")),
            (
                function(json!({"name": "f", "description": 7})),
                invalid("tools[0].function.description", "a string"),
            ),
            (
                function(json!({"name": "f", "strict": 7})),
                invalid("tools[0].function.strict", "a boolean"),
            ),
            (
                function(json!({"name": "f", "parameters": 7})),
                invalid("tools[0].function.parameters", "a JSON Schema of type object"),
            ),
        ] {
            let Err(Error::Invalid { message, .. }) = call(fields.clone()) else {
                panic!("{fields}")
            };
            assert_eq!(message, words, "{fields}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_object_is_refused() {
        for body in ["", " ", "[]", "7", "{", "{\"model\":}", "nonsense", "\u{feff}"] {
            let Err(error) = parse(&mut bytes(body), Images::Refuse, None) else {
                panic!("{body}")
            };
            assert!(matches!(error, Error::Invalid { param: None, .. }), "{body}: {error}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&mut bytes(&deep), Images::Refuse, None).is_err());
        assert!(parse(&mut b"\xff\xfe".to_vec().into(), Images::Refuse, None).is_err());
    }

    #[test]
    fn a_byte_order_mark_and_unknown_and_null_fields_are_passed_over() {
        let body = "\u{feff}{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\"}],\
                    \"temperature\":null,\"whatever\":{}}";
        assert!(parse(&mut bytes(body), Images::Refuse, None).is_ok());
    }

    #[test]
    fn texts_are_joined_and_what_is_no_text_keeps_its_place() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]);
        let read = turns(json!([{"role": "user", "content": parts}]));
        assert_eq!(read, [Turn::message(Role::User, "ab")]);
        let parts = json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]);
        let [Turn::Message(message)] = &turns(json!([{"role": "user", "content": parts}]))[..]
        else {
            panic!()
        };
        let media: Vec<_> = message.content.media().map(|media| &media.place[..]).collect();
        assert_eq!(
            (message.content.text().as_ref(), &media[..]),
            ("a", &["messages[0].content[1]"][..])
        );
    }

    #[test]
    fn a_history_holds_the_calls_and_their_results() {
        let function = json!({"name": "add", "arguments": "{\"a\":1}"});
        let turns = turns(json!([
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "function": function}]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
            {"role": "assistant", "content": "ok", "function_call": function},
            {"role": "function", "name": "add", "content": "2"},
        ]));
        let called = |text: &str, id: &str| {
            let (name, arguments) = ("add".to_owned(), "{\"a\":1}".to_owned());
            let call = ToolCall { id: id.to_owned(), name, arguments };
            Turn::Calls { content: text.into(), calls: vec![call] }
        };
        let result = |id: &str, name: Option<&str>| {
            let (call_id, name) = (id.to_owned(), name.map(str::to_owned));
            Turn::Result(ToolResult { call_id, name, content: "2".into(), is_error: false })
        };
        let expected =
            [called("", "c1"), result("c1", None), called("ok", "add"), result("add", Some("add"))];
        assert_eq!(turns, expected);
    }

    #[test]
    fn tools_are_read_as_they_are_and_as_they_were() {
        let schema = json!({"type": "object"});
        let function =
            json!({"name": "f", "description": "d", "parameters": schema, "strict": true});
        let tools = json!([tool("g"), {"type": "function", "function": function}]);
        let read = |fields| call(fields).unwrap().tools;
        let named = ToolChoice::Named("f".to_owned());
        let new = read(json!({"tools": tools, "tool_choice": chosen("f")}));
        assert_eq!((&new.choice, new.parallel, new.list.len()), (&named, true, 2));
        let old = read(json!({"functions": [function], "function_call": {"name": "f"}}));
        assert_eq!((&old.choice, old.parallel), (&named, false));
        assert_eq!(old.list[0], new.list[1]);
        let fields = json!({"tools": tools, "tool_choice": {
            "type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("f")]}
        }});
        let allowed = read(fields);
        assert_eq!(
            (&allowed.choice, &allowed.list, &allowed.allowed),
            (&ToolChoice::Required, &new.list, &Some(vec!["f".to_owned()]))
        );
    }

    #[test]
    fn tools_that_are_not_wanted_pass() {
        assert!(call(json!({"tools": []})).is_ok());
        assert!(call(json!({"tools": [{}], "tool_choice": "none"})).is_ok());
        assert!(call(json!({"functions": [{}], "function_call": "none"})).is_ok());
    }

    #[test]
    fn the_newer_token_limit_wins_and_none_below_one_is_used() {
        let limit = |fields| {
            let request = call(fields).unwrap();
            (request.sampling.max_completion_tokens, request.ignored)
        };
        let both = json!({"max_tokens": 5, "max_completion_tokens": 7});
        assert_eq!(limit(both), (Some(7), vec![]));
        assert_eq!(limit(json!({"max_tokens": 0})), (None, vec!["max_tokens"]));
        assert_eq!(limit(json!({"max_tokens": 5.0})), (Some(5), vec![]));
    }

    #[test]
    fn fields_without_effect_are_named_if_a_client_could_expect_one() {
        let fields = json!({
            "seed": 1, "logit_bias": {}, "logprobs": true, "user": "u", "store": false,
            "metadata": {}, "modalities": ["text"], "parallel_tool_calls": true
        });
        assert_eq!(call(fields).unwrap().ignored, ["seed", "logit_bias", "logprobs"]);
        assert!(call(json!({"logprobs": false})).unwrap().ignored.is_empty());
    }
}
