//! Writes Anthropic's messages, whole and as the events of a stream.

use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::error::ErrorObject;
use crate::chat::{FinishReason, ToolCall, Usage};
use crate::dialects::writing::{put_json, to_json};
use crate::dialects::{Choice, Dialect, Ending, Events, Start};
use crate::error::Error;

/// Writes a message, whole or as a stream of events. It has exactly one choice.
pub struct MessageAnswer {
    id: String,
    /// The model's name as the client spelled it.
    model: String,
    /// Number of blocks that have been begun.
    blocks: usize,
    /// True if the last block is text and has not ended.
    in_text: bool,
    /// How the choice has ended; sent when the usage is known.
    ending: Option<Ending>,
}

impl MessageAnswer {
    /// Creates the answer to a request for `model`, which is the name as the client spelled it.
    pub fn new(model: &str) -> MessageAnswer {
        MessageAnswer {
            id: format!("msg_{}", uuid::Uuid::new_v4().simple()),
            model: model.to_owned(),
            blocks: 0,
            in_text: false,
            ending: None,
        }
    }

    /// Returns the message object with these blocks, for a whole answer and for the first event.
    fn object<'a>(
        &'a self,
        content: &'a [Block<'a>],
        ending: Option<&'a Ending>,
        usage: &Usage,
    ) -> MessageObject<'a> {
        MessageObject {
            id: &self.id,
            r#type: "message",
            role: "assistant",
            model: &self.model,
            content,
            stop: ending.into(),
            usage: MessageUsage {
                tokens: usage.into(),
                service_tier: "standard",
                cache_creation: None,
                inference_geo: None,
            },
        }
    }

    fn begin_block(&mut self, events: &mut dyn Events, content_block: &Block<'_>) {
        let index = self.blocks;
        self.blocks += 1;
        put(events, &Event::ContentBlockStart { index, content_block });
    }

    /// Adds a piece of the block that was begun last.
    fn delta(&self, events: &mut dyn Events, delta: Delta<'_>) {
        put(events, &Event::ContentBlockDelta { index: self.blocks - 1, delta });
    }

    /// Adds the end of the block that was begun last.
    fn end_block(&self, events: &mut dyn Events) {
        put(events, &Event::ContentBlockStop { index: self.blocks - 1 });
    }

    fn end_text(&mut self, events: &mut dyn Events) {
        if std::mem::take(&mut self.in_text) {
            self.end_block(events);
        }
    }
}

/// The end of a message with a limit of 0 tokens.
const NO_ANSWER: Ending = Ending { reason: FinishReason::Length, stop: None };

impl Dialect for MessageAnswer {
    fn own_name(&self, field: &'static str) -> &'static str {
        match field {
            "max_completion_tokens" => "max_tokens",
            "reasoning_effort" => "output_config.effort",
            other => other,
        }
    }

    fn begin(&mut self, events: &mut dyn Events, start: &Start) {
        let usage = Usage { prompt_tokens: start.prompt_tokens, ..Usage::default() };
        put(events, &Event::MessageStart { message: self.object(&[], None, &usage) });
    }

    fn text(&mut self, events: &mut dyn Events, _: usize, text: &str) {
        if !self.in_text {
            self.begin_block(events, &Block::Text { text: "", citations: None });
            self.in_text = true;
        }
        self.delta(events, Delta::TextDelta { text });
    }

    fn call_begin(&mut self, events: &mut dyn Events, _: usize, _: usize, call: &ToolCall) {
        self.end_text(events);
        let (id, input) = (tool_use_id(call), raw(&json!({})));
        let block = Block::ToolUse { id, name: &call.name, input, caller: DIRECT };
        self.begin_block(events, &block);
    }

    fn call_arguments(&mut self, events: &mut dyn Events, _: usize, _: usize, piece: &str) {
        self.delta(events, Delta::InputJsonDelta { partial_json: piece });
    }

    fn call_end(&mut self, events: &mut dyn Events, _: usize, _: usize) {
        self.end_block(events);
    }

    fn finish(&mut self, events: &mut dyn Events, _: usize, ending: &Ending) {
        self.end_text(events);
        self.ending = Some(ending.clone());
    }

    fn end(&mut self, events: &mut dyn Events, usage: &Usage) {
        let delta = Some(self.ending.as_ref().unwrap_or(&NO_ANSWER)).into();
        put(events, &Event::MessageDelta { delta, usage: usage.into() });
        put(events, &Event::MessageStop);
    }

    fn fail(&mut self, events: &mut dyn Events, error: &Error) {
        put(events, &Event::Error { error: error.into() });
    }

    fn keep_alive(&mut self, events: &mut dyn Events) {
        put(events, &Event::Ping);
    }

    fn whole(&self, choices: &[Choice], usage: &Usage) -> String {
        let Some(choice) = choices.first() else {
            return to_json(&self.object(&[], Some(&NO_ANSWER), usage));
        };
        let text = Some(&choice.text).filter(|text| !text.is_empty());
        let calls = choice.calls.iter().map(|call| Block::ToolUse {
            id: tool_use_id(call),
            name: &call.name,
            input: input(call),
            caller: DIRECT,
        });
        let blocks: Vec<Block<'_>> = text
            .map(|text| Block::Text { text, citations: None })
            .into_iter()
            .chain(calls)
            .collect();
        to_json(&self.object(&blocks, Some(&choice.ending), usage))
    }
}

/// Returns a call's id in Anthropic's form. The client's history has that, and results refer to it.
fn tool_use_id(call: &ToolCall) -> String {
    format!("toolu_{}", call.id.strip_prefix("call_").unwrap_or(&call.id))
}

/// Returns the arguments of a call as an object, word for word as in a stream: as values they would take many
/// times their memory, and large numbers would lose digits. Arguments that are no JSON object are wrapped as
/// Anthropic wants them returned to the model:
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming>
fn input(call: &ToolCall) -> Box<RawValue> {
    let json: Option<Box<RawValue>> = serde_json::from_str(&call.arguments).ok();
    let object = json.filter(|json| json.get().starts_with('{'));
    object.unwrap_or_else(|| raw(&json!({ "INVALID_JSON": call.arguments })))
}

/// Returns a value as JSON that is not read again.
fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("strings always serialise")
}

#[derive(Serialize)]
struct MessageObject<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: &'a [Block<'a>],
    #[serde(flatten)]
    stop: StopFields<'a>,
    usage: MessageUsage,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: &'a str, citations: Absent },
    ToolUse { id: String, name: &'a str, input: Box<RawValue>, caller: Caller },
}

/// `null` where Anthropic's answers always have a field of which there is nothing to say here.
pub(super) type Absent = Option<()>;

/// Who calls a tool: the model itself, not a program that Anthropic runs.
#[derive(Serialize)]
struct Caller {
    r#type: &'static str,
}

const DIRECT: Caller = Caller { r#type: "direct" };

/// Why a message ended; both null in one that has just begun.
#[derive(Serialize)]
struct StopFields<'a> {
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    stop_details: Absent,
    container: Absent,
}

impl<'a> From<Option<&'a Ending>> for StopFields<'a> {
    fn from(ending: Option<&'a Ending>) -> StopFields<'a> {
        let stop_sequence = ending.and_then(|ending| ending.stop.as_deref());
        let stop_reason = ending.map(|ending| match ending.reason {
            FinishReason::Stop if stop_sequence.is_some() => "stop_sequence",
            FinishReason::Stop => "end_turn",
            FinishReason::Length => "max_tokens",
            FinishReason::ContentFilter => "refusal",
            FinishReason::ToolCalls => "tool_use",
        });
        StopFields { stop_reason, stop_sequence, stop_details: None, container: None }
    }
}

/// Numbers of tokens. Here, unlike with OpenAI, what was read from a cache is not among `input_tokens`.
#[derive(Serialize)]
struct TokenCounts {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
    output_tokens_details: Absent,
    server_tool_use: Absent,
}

impl From<&Usage> for TokenCounts {
    fn from(usage: &Usage) -> TokenCounts {
        TokenCounts {
            input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_tokens,
            output_tokens: usage.completion_tokens,
            output_tokens_details: None,
            server_tool_use: None,
        }
    }
}

#[derive(Serialize)]
struct MessageUsage {
    #[serde(flatten)]
    tokens: TokenCounts,
    service_tier: &'static str,
    cache_creation: Absent,
    inference_geo: Absent,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart { message: MessageObject<'a> },
    ContentBlockStart { index: usize, content_block: &'a Block<'a> },
    ContentBlockDelta { index: usize, delta: Delta<'a> },
    ContentBlockStop { index: usize },
    MessageDelta { delta: StopFields<'a>, usage: TokenCounts },
    MessageStop,
    Ping,
    Error { error: ErrorObject },
}

impl Event<'_> {
    /// Returns the event's name, which is also the `type` in its data.
    fn name(&self) -> &'static str {
        match self {
            Event::MessageStart { .. } => "message_start",
            Event::ContentBlockStart { .. } => "content_block_start",
            Event::ContentBlockDelta { .. } => "content_block_delta",
            Event::ContentBlockStop { .. } => "content_block_stop",
            Event::MessageDelta { .. } => "message_delta",
            Event::MessageStop => "message_stop",
            Event::Ping => "ping",
            Event::Error { .. } => "error",
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Delta<'a> {
    TextDelta { text: &'a str },
    InputJsonDelta { partial_json: &'a str },
}

fn put(events: &mut dyn Events, event: &Event<'_>) {
    events.put(Some(event.name()), &|out| put_json(out, event));
}

/// Returns the answer to `POST /v1/messages/count_tokens`, as JSON.
pub fn token_count(input_tokens: u64) -> String {
    json!({ "input_tokens": input_tokens }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::stories::{
        Story, StoryStep, Told, any_story, arguments, call, failure, finish, text,
    };
    use proptest::prelude::*;
    use serde_json::Value;

    fn message() -> MessageAnswer {
        MessageAnswer { id: "msg_1".to_owned(), ..MessageAnswer::new("a \"model\"") }
    }

    const BEGIN: &str = concat!(
        r#"message_start {"type":"message_start","message":{"id":"msg_1","type":"message","#,
        r#""role":"assistant","model":"a \"model\"","content":[],"stop_reason":null,"#,
        r#""stop_sequence":null,"stop_details":null,"container":null,"usage":{"input_tokens":7,"#,
        r#""cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0,"#,
        r#""output_tokens_details":null,"server_tool_use":null,"service_tier":"standard","#,
        r#""cache_creation":null,"inference_geo":null}}}"#
    );
    const PING: &str = r#"ping {"type":"ping"}"#;
    const STOP: &str = r#"message_stop {"type":"message_stop"}"#;

    fn block_start(index: usize, block: &str) -> String {
        format!(
            r#"content_block_start {{"type":"content_block_start","index":{index},"content_block":{block}}}"#
        )
    }

    fn delta(index: usize, delta: &str) -> String {
        format!(
            r#"content_block_delta {{"type":"content_block_delta","index":{index},"delta":{delta}}}"#
        )
    }

    fn block_stop(index: usize) -> String {
        format!(r#"content_block_stop {{"type":"content_block_stop","index":{index}}}"#)
    }

    fn message_delta(reason: &str, sequence: &str) -> String {
        let stop = format!(
            r#"{{"stop_reason":"{reason}","stop_sequence":{sequence},"stop_details":null,"container":null}}"#
        );
        let usage = concat!(
            r#"{"input_tokens":7,"cache_creation_input_tokens":0,"#,
            r#""cache_read_input_tokens":0,"output_tokens":3,"output_tokens_details":null,"#,
            r#""server_tool_use":null}"#
        );
        format!(r#"message_delta {{"type":"message_delta","delta":{stop},"usage":{usage}}}"#)
    }

    #[test]
    fn a_text_is_one_block_of_deltas_and_pings_are_events() {
        let steps = [text("\"é\n"), StoryStep::KeepAlive, text("b"), finish(FinishReason::Length)];
        assert_eq!(
            Story::of(steps).lines(&mut message()),
            [
                BEGIN.to_owned(),
                block_start(0, r#"{"type":"text","text":"","citations":null}"#),
                delta(0, r#"{"type":"text_delta","text":"\"é\n"}"#),
                PING.to_owned(),
                delta(0, r#"{"type":"text_delta","text":"b"}"#),
                block_stop(0),
                message_delta("max_tokens", "null"),
                STOP.to_owned(),
            ]
        );
    }

    fn calling() -> Story {
        Story::of([
            text("Look:"),
            call("weather"),
            arguments("{\"a\":"),
            arguments("1}"),
            StoryStep::CallEnd,
            call("time"),
            StoryStep::CallEnd,
            finish(FinishReason::ToolCalls),
        ])
    }

    #[test]
    fn calls_are_blocks_behind_the_text() {
        let tool_use = |name: &str| {
            format!(
                r#"{{"type":"tool_use","id":"toolu_{name}","name":"{name}","input":{{}},"caller":{{"type":"direct"}}}}"#
            )
        };
        assert_eq!(
            calling().lines(&mut message()),
            [
                BEGIN.to_owned(),
                block_start(0, r#"{"type":"text","text":"","citations":null}"#),
                delta(0, r#"{"type":"text_delta","text":"Look:"}"#),
                block_stop(0),
                block_start(1, &tool_use("weather")),
                delta(1, r#"{"type":"input_json_delta","partial_json":"{\"a\":"}"#),
                delta(1, r#"{"type":"input_json_delta","partial_json":"1}"}"#),
                block_stop(1),
                block_start(2, &tool_use("time")),
                block_stop(2),
                message_delta("tool_use", "null"),
                STOP.to_owned(),
            ]
        );
    }

    #[test]
    fn an_empty_answer_has_no_block() {
        assert_eq!(
            Story::of([finish(FinishReason::Stop)]).lines(&mut message()),
            [BEGIN.to_owned(), message_delta("end_turn", "null"), STOP.to_owned()]
        );
    }

    #[test]
    fn why_it_ended_is_said_in_anthropics_words_streamed_and_whole() {
        for (reason, stop, name) in [
            (FinishReason::Stop, None, "end_turn"),
            (FinishReason::Stop, Some("END"), "stop_sequence"),
            (FinishReason::Length, None, "max_tokens"),
            (FinishReason::ContentFilter, None, "refusal"),
            (FinishReason::ToolCalls, None, "tool_use"),
        ] {
            let ending = Ending { reason, stop: stop.map(str::to_owned) };
            let story = Story::of([text("a"), StoryStep::Finish(ending)]);
            let sequence = json!(stop);
            let told = story.lines(&mut message());
            assert_eq!(told[told.len() - 2], message_delta(name, &sequence.to_string()));
            let whole = message().whole(&story.whole(), &Usage::default());
            let whole: Value = serde_json::from_str(&whole).unwrap();
            assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&json!(name), &sequence));
        }
    }

    #[test]
    fn a_whole_messages_arguments_are_those_of_the_stream_to_the_last_digit() {
        let json = r#"{"id":123456789012345678901234567890}"#;
        let steps = [call("time"), arguments(json), StoryStep::CallEnd];
        let story = Story::of(steps.into_iter().chain([finish(FinishReason::ToolCalls)]));
        let whole = message().whole(&story.whole(), &Usage::default());
        assert!(whole.contains(&format!(r#""input":{json},"#)), "{whole}");
    }

    #[test]
    fn a_stream_that_breaks_off_ends_with_an_error() {
        let told = Story::of([text("a")]).broken_off().lines(&mut message());
        assert_eq!(told.len(), 4);
        let text = json!(failure().to_string());
        let error = format!(r#"{{"type":"overloaded_error","message":{text}}}"#);
        assert_eq!(told[3], format!(r#"error {{"type":"error","error":{error}}}"#));
    }

    #[test]
    fn a_whole_message_is_its_blocks() {
        let usage = Usage { prompt_tokens: 7, completion_tokens: 3, ..Usage::default() };
        let whole = concat!(
            r#"{"id":"msg_1","type":"message","role":"assistant","model":"a \"model\"","content":["#,
            r#"{"type":"text","text":"Look:","citations":null},"#,
            r#"{"type":"tool_use","id":"toolu_weather","name":"weather","input":{"a":1},"#,
            r#""caller":{"type":"direct"}},"#,
            r#"{"type":"tool_use","id":"toolu_time","name":"time","input":{"INVALID_JSON":""},"#,
            r#""caller":{"type":"direct"}}],"#,
            r#""stop_reason":"tool_use","stop_sequence":null,"stop_details":null,"container":null,"#,
            r#""usage":{"input_tokens":7,"cache_creation_input_tokens":0,"#,
            r#""cache_read_input_tokens":0,"output_tokens":3,"output_tokens_details":null,"#,
            r#""server_tool_use":null,"service_tier":"standard","cache_creation":null,"#,
            r#""inference_geo":null}}"#
        );
        assert_eq!(message().whole(&calling().whole(), &usage), whole);
    }

    /// The blocks that the events of a stream add up to, as a client joins them.
    fn assembled(events: &[Value]) -> Vec<Value> {
        let (mut blocks, mut json, mut is_open) = (Vec::new(), String::new(), false);
        for event in events {
            let kind = event["type"].as_str().unwrap();
            if kind.starts_with("content_block") {
                let index = blocks.len() - usize::from(kind != "content_block_start");
                assert_eq!(event["index"], index, "one block after the other");
                assert_eq!(is_open, kind != "content_block_start", "{event}");
            }
            match kind {
                "content_block_start" => blocks.push(event["content_block"].clone()),
                "content_block_delta" => match event["delta"]["text"].as_str() {
                    Some(text) => {
                        assert!(!text.is_empty());
                        let block = &mut blocks.last_mut().unwrap()["text"];
                        *block = json!(block.as_str().unwrap().to_owned() + text);
                    }
                    None => json += event["delta"]["partial_json"].as_str().unwrap(),
                },
                "content_block_stop" if !json.is_empty() => {
                    blocks.last_mut().unwrap()["input"] = serde_json::from_str(&json).unwrap();
                    json.clear();
                }
                _ => {}
            }
            is_open = matches!(kind, "content_block_start" | "content_block_delta")
                || (is_open && kind == "ping");
        }
        blocks
    }

    proptest! {
        #[test]
        fn what_is_streamed_adds_up_to_the_whole_message(story in any_story(1, true)) {
            let event = |told: Told| {
                let Told::Event(Some(name), data) = told else { panic!("{told:?}") };
                let data: Value = serde_json::from_str(&data).expect("JSON");
                assert_eq!(data["type"], name);
                data
            };
            let events: Vec<Value> =
                story.told(&mut message()).into_iter().map(event).collect();
            let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
            let once = |kind: &str| kinds.iter().filter(|other| **other == kind).count() == 1;
            prop_assert!(kinds[0] == "message_start" && once("message_start"));
            let Some(usage) = story.usage else {
                prop_assert!(kinds.ends_with(&["error"]) && once("error"));
                prop_assert!(!kinds.contains(&"message_delta"));
                return Ok(());
            };
            prop_assert!(kinds.ends_with(&["message_delta", "message_stop"]));
            prop_assert!(once("message_delta") && once("message_stop"));
            let whole: Value =
                serde_json::from_str(&message().whole(&story.whole(), &usage)).unwrap();
            prop_assert_eq!(json!(assembled(&events)), whole["content"].clone());
            let last = &events[events.len() - 2];
            prop_assert_eq!(&last["delta"]["stop_reason"], &whole["stop_reason"]);
            prop_assert_eq!(&last["usage"]["output_tokens"], &whole["usage"]["output_tokens"]);
        }
    }
}
