//! Writes OpenAI's chat completions, whole and as the chunks of a stream, as lines of JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::completion::{CompletionWriter, Form};
use super::custom;
pub use super::identity::Identity;
use crate::chat::{FinishReason, ToolCall, Usage};
use crate::dialects::writing::{put, put_json, to_json};
use crate::dialects::{Choice, Dialect, Ending, Events, Start};
use crate::error::Error;

/// A choice of a whole answer.
#[derive(Serialize)]
struct ChoiceObject<'a> {
    index: usize,
    message: MessageObject<'a>,
    logprobs: (),
    finish_reason: &'static str,
}

/// The assistant's message in a whole answer.
#[derive(Serialize)]
struct MessageObject<'a> {
    role: &'static str,
    /// Null if there are calls and no text.
    content: Option<&'a str>,
    refusal: (),
    annotations: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<ToolCallObject<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionObject<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ToolCallObject<'a> {
    Function { id: &'a str, r#type: &'static str, function: FunctionObject<'a> },
    Custom { id: &'a str, r#type: &'static str, custom: CustomObject<'a> },
}

#[derive(Serialize)]
struct CustomObject<'a> {
    name: &'a str,
    input: String,
}

#[derive(Serialize)]
struct FunctionObject<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a ToolCall> for FunctionObject<'a> {
    fn from(call: &'a ToolCall) -> FunctionObject<'a> {
        FunctionObject { name: &call.name, arguments: &call.arguments }
    }
}

/// The form in which an answer's calls of tools are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// There are none, since no tool was offered.
    #[default]
    None,
    /// As `tool_calls`.
    Tools,
    /// As one `function_call`, which clients of 2023 expect.
    Function,
}

/// The words of chat completions.
const FORM: Form = Form {
    whole: "chat.completion",
    chunk: "chat.completion.chunk",
    piece: "delta",
    service_tier: Some("default"),
};

/// Writes a chat completion, whole or as the chunks of a stream.
pub struct ChatAnswer {
    writer: CompletionWriter,
    calls: Calls,
    /// The names of tools that take one text.
    custom: Vec<String>,
    /// The open call of such a tool of each choice that has one: its index, and its arguments so far. The text
    /// is sent at the end, because the model writes JSON that contains it.
    open_custom: BTreeMap<usize, (usize, String)>,
}

impl ChatAnswer {
    /// Creates an answer whose calls are written in the form `calls`. With `include_usage` its stream ends
    /// with the usage, and all other chunks have a null one.
    pub fn new(identity: Identity, include_usage: bool, calls: Calls) -> ChatAnswer {
        let writer = CompletionWriter::new(FORM, identity, include_usage);
        ChatAnswer { writer, calls, custom: Vec::new(), open_custom: BTreeMap::new() }
    }

    /// Returns the same answer, with calls of the tools of these names written as calls that pass one text.
    pub fn with_custom(self, custom: Vec<String>) -> ChatAnswer {
        ChatAnswer { custom, ..self }
    }

    fn call_object<'a>(&self, call: &'a ToolCall) -> ToolCallObject<'a> {
        let (id, name) = (&call.id, &call.name);
        match self.custom.contains(name) {
            true => {
                let input = custom::input_of(&call.arguments);
                ToolCallObject::Custom {
                    id,
                    r#type: "custom",
                    custom: CustomObject { name, input },
                }
            }
            false => ToolCallObject::Function { id, r#type: "function", function: call.into() },
        }
    }

    /// Adds the text of a choice's open call, if that is a custom tool's, and closes the call.
    fn end_custom(&mut self, events: &mut dyn Events, choice: usize) {
        let Some((index, arguments)) = self.open_custom.remove(&choice) else { return };
        let input = to_json(&custom::input_of(&arguments));
        self.delta(events, choice, |out| {
            put(
                out,
                format_args!(
                    r#"{{"tool_calls":[{{"index":{index},"custom":{{"input":{input}}}}}]}}"#
                ),
            );
        });
    }

    /// Adds a chunk with a choice's `delta`, in the middle of the choice.
    fn delta(&self, events: &mut dyn Events, choice: usize, delta: impl Fn(&mut Vec<u8>)) {
        self.writer.chunk(events, choice, None, delta);
    }

    fn reason_name(&self, reason: FinishReason) -> &'static str {
        match (reason, self.calls) {
            (FinishReason::ToolCalls, Calls::Function) => "function_call",
            _ => reason.name(),
        }
    }

    fn message<'a>(&self, choice: &'a Choice) -> MessageObject<'a> {
        let calls = Some(&choice.calls).filter(|calls| !calls.is_empty());
        let is_function = self.calls == Calls::Function;
        MessageObject {
            role: "assistant",
            content: (calls.is_none() || !choice.text.is_empty()).then_some(&choice.text),
            refusal: (),
            annotations: [],
            tool_calls: calls
                .filter(|_| !is_function)
                .map(|calls| calls.iter().map(|call| self.call_object(call)).collect()),
            function_call: calls
                .filter(|_| is_function)
                .and_then(|calls| calls.first().map(FunctionObject::from)),
        }
    }
}

impl Dialect for ChatAnswer {
    fn begin(&mut self, events: &mut dyn Events, start: &Start) {
        // Whether there will be text beside calls is not known yet.
        let content = if self.calls == Calls::None { r#""""# } else { "null" };
        for choice in 0..start.choices {
            self.delta(events, choice, |out| {
                put(
                    out,
                    format_args!(r#"{{"role":"assistant","content":{content},"refusal":null}}"#),
                );
            });
        }
    }

    fn text(&mut self, events: &mut dyn Events, choice: usize, text: &str) {
        self.delta(events, choice, |out| {
            out.extend_from_slice(br#"{"content":"#);
            put_json(out, text);
            out.push(b'}');
        });
    }

    fn call_begin(
        &mut self,
        events: &mut dyn Events,
        choice: usize,
        index: usize,
        call: &ToolCall,
    ) {
        let json = if self.calls == Calls::Function {
            to_json(&FunctionObject::from(call))
        } else if self.custom.contains(&call.name) {
            self.open_custom.insert(choice, (index, String::new()));
            let custom = CustomObject { name: &call.name, input: String::new() };
            to_json(&ToolCallObject::Custom { id: &call.id, r#type: "custom", custom })
        } else {
            to_json(&self.call_object(call))
        };
        self.delta(events, choice, |out| match self.calls {
            Calls::Function => put(out, format_args!(r#"{{"function_call":{json}}}"#)),
            _ => {
                let rest = &json[1..];
                put(out, format_args!(r#"{{"tool_calls":[{{"index":{index},{rest}]}}"#));
            }
        });
    }

    fn call_arguments(
        &mut self,
        events: &mut dyn Events,
        choice: usize,
        index: usize,
        piece: &str,
    ) {
        if let Some((_, arguments)) = self.open_custom.get_mut(&choice) {
            arguments.push_str(piece);
            return;
        }
        self.delta(events, choice, |out| match self.calls {
            Calls::Function => {
                out.extend_from_slice(br#"{"function_call":{"arguments":"#);
                put_json(out, piece);
                out.extend_from_slice(b"}}");
            }
            _ => {
                put(
                    out,
                    format_args!(r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":"#),
                );
                put_json(out, piece);
                out.extend_from_slice(b"}}]}");
            }
        });
    }

    fn call_end(&mut self, events: &mut dyn Events, choice: usize, _: usize) {
        self.end_custom(events, choice);
    }

    fn finish(&mut self, events: &mut dyn Events, choice: usize, ending: &Ending) {
        self.end_custom(events, choice);
        let reason = self.reason_name(ending.reason);
        self.writer.chunk(events, choice, Some(reason), |out| out.extend_from_slice(b"{}"));
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
            message: self.message(choice),
            logprobs: (),
            finish_reason: self.reason_name(choice.ending.reason),
        });
        self.writer.whole(objects.collect(), usage)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dialects::openai::identity::tests::identity;
    use crate::dialects::stories::{
        Story, StoryStep, Told, any_story, arguments, call, failure, finish, text,
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn answer(include_usage: bool, calls: Calls) -> ChatAnswer {
        ChatAnswer::new(identity("chatcmpl-1"), include_usage, calls)
    }

    /// The beginning of every chunk.
    const HEAD: &str = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"a \"model\"","service_tier":"default","choices":["#;

    /// The lines of an answer, without the head that chunks have in common.
    fn lines(story: &Story, mut answer: ChatAnswer) -> Vec<String> {
        let rest = |line: String| line.strip_prefix(HEAD).map(str::to_owned).unwrap_or(line);
        story.lines(&mut answer).into_iter().map(rest).collect()
    }

    /// A chunk without its head.
    fn chunk(choice: usize, delta: &str, reason: &str) -> String {
        format!(
            r#"{{"index":{choice},"delta":{delta},"logprobs":null,"finish_reason":{reason}}}]}}"#
        )
    }

    const BEGIN: &str = r#"{"role":"assistant","content":"","refusal":null}"#;
    const BEGIN_WITH_TOOLS: &str = r#"{"role":"assistant","content":null,"refusal":null}"#;

    #[test]
    fn a_streams_events_are_chunks_of_its_choices_as_they_come_and_done() {
        let story = Story::interleaved(
            2,
            [
                (1, text("b")),
                (0, text("\"é\n")),
                (0, StoryStep::KeepAlive),
                (1, finish(FinishReason::Stop)),
                (0, text("a")),
                (0, finish(FinishReason::Length)),
            ],
        );
        assert_eq!(
            lines(&story, answer(false, Calls::None)),
            [
                chunk(0, BEGIN, "null"),
                chunk(1, BEGIN, "null"),
                chunk(1, r#"{"content":"b"}"#, "null"),
                chunk(0, r#"{"content":"\"é\n"}"#, "null"),
                "(keep-alive)".to_owned(),
                chunk(1, "{}", r#""stop""#),
                chunk(0, r#"{"content":"a"}"#, "null"),
                chunk(0, "{}", r#""length""#),
                "[DONE]".to_owned(),
            ]
        );
    }

    #[test]
    fn usage_is_a_chunk_of_no_choice_and_null_in_all_others() {
        let story = Story::of([text("a"), finish(FinishReason::ContentFilter)]);
        let told = lines(&story, answer(true, Calls::None));
        let (last, others) = told.split_last_chunk::<2>().map(|(o, l)| (l, o)).unwrap();
        assert!(others.iter().all(|line| line.ends_with(r#"],"usage":null}"#)), "{others:?}");
        assert!(others[2].contains(r#""finish_reason":"content_filter"}],"#), "{others:?}");
        let usage = concat!(
            r#"],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,"#,
            r#""prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"#,
            r#""completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"#,
            r#""accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}"#
        );
        assert_eq!(last, &[usage, "[DONE]"]);
    }

    fn calling() -> Story {
        Story::of([
            text("Look:"),
            call("weather"),
            arguments("{\"a\":"),
            arguments("1}"),
            StoryStep::CallEnd,
            call("time"),
            arguments("{}"),
            StoryStep::CallEnd,
            finish(FinishReason::ToolCalls),
        ])
    }

    #[test]
    fn calls_are_numbered_and_their_arguments_come_in_pieces() {
        let begun = |index: usize, name: &str| {
            let function = format!(r#""function":{{"name":"{name}","arguments":""}}"#);
            let id = format!(r#""id":"call_{name}","type":"function""#);
            chunk(0, &format!(r#"{{"tool_calls":[{{"index":{index},{id},{function}}}]}}"#), "null")
        };
        let piece = |index: usize, piece: &str| {
            let function = format!(r#""function":{{"arguments":"{piece}"}}"#);
            chunk(0, &format!(r#"{{"tool_calls":[{{"index":{index},{function}}}]}}"#), "null")
        };
        assert_eq!(
            lines(&calling(), answer(false, Calls::Tools)),
            [
                chunk(0, BEGIN_WITH_TOOLS, "null"),
                chunk(0, r#"{"content":"Look:"}"#, "null"),
                begun(0, "weather"),
                piece(0, r#"{\"a\":"#),
                piece(0, "1}"),
                begun(1, "time"),
                piece(1, "{}"),
                chunk(0, "{}", r#""tool_calls""#),
                "[DONE]".to_owned(),
            ]
        );
    }

    #[test]
    fn a_call_as_clients_of_2023_know_it_is_a_function_call() {
        let steps = [call("weather"), arguments("{\"a\":1}"), StoryStep::CallEnd];
        let story = Story::of(steps.into_iter().chain([finish(FinishReason::ToolCalls)]));
        let begun = r#"{"function_call":{"name":"weather","arguments":""}}"#;
        assert_eq!(
            lines(&story, answer(false, Calls::Function)),
            [
                chunk(0, BEGIN_WITH_TOOLS, "null"),
                chunk(0, begun, "null"),
                chunk(0, r#"{"function_call":{"arguments":"{\"a\":1}"}}"#, "null"),
                chunk(0, "{}", r#""function_call""#),
                "[DONE]".to_owned(),
            ]
        );
    }

    #[test]
    fn a_stream_that_breaks_off_ends_with_the_error_and_without_done() {
        let story = Story::of([text("a")]).broken_off();
        let told = lines(&story, answer(true, Calls::None));
        assert_eq!(told.len(), 3);
        assert_eq!(told[2], failure().body());
        assert!(told[2].starts_with(r#"{"error":{"message":"#), "{}", told[2]);
    }

    /// The message and the reason of a whole answer's only choice.
    fn message(story: &Story, calls: Calls) -> (Value, Value) {
        let usage = Usage { prompt_tokens: 7, completion_tokens: 3, ..Usage::default() };
        let whole = answer(false, calls).whole(&story.whole(), &usage);
        let mut whole: Value = serde_json::from_str(&whole).unwrap();
        let choice = whole["choices"][0].take();
        assert_eq!((&choice["index"], &choice["logprobs"]), (&json!(0), &Value::Null));
        (choice["message"].clone(), choice["finish_reason"].clone())
    }

    #[test]
    fn a_whole_answer_has_its_fields_in_openais_order() {
        let story = Story::of([text("Hi"), finish(FinishReason::Stop)]);
        let usage = Usage { prompt_tokens: 7, completion_tokens: 3, ..Usage::default() };
        let whole = answer(true, Calls::None).whole(&story.whole(), &usage);
        let begin = concat!(
            r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"#,
            r#""model":"a \"model\"","choices":[{"index":0,"message":{"role":"assistant","#,
            r#""content":"Hi","refusal":null,"annotations":[]},"logprobs":null,"#,
            r#""finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,"#,
            r#""total_tokens":10,"#
        );
        assert!(whole.starts_with(begin), "{whole}");
        assert!(whole.ends_with(r#"}},"service_tier":"default"}"#), "{whole}");
    }

    #[test]
    fn a_whole_message_that_calls_has_content_only_if_there_is_text() {
        let (with_text, reason) = message(&calling(), Calls::Tools);
        assert_eq!((&with_text["content"], &reason), (&json!("Look:"), &json!("tool_calls")));
        let weather = json!({"name": "weather", "arguments": "{\"a\":1}"});
        let expected = json!({"id": "call_weather", "type": "function", "function": weather});
        assert_eq!(with_text["tool_calls"][0], expected);
        assert_eq!(with_text["tool_calls"].as_array().unwrap().len(), 2);

        let silent = Story::of(calling().steps.into_iter().skip(1).map(|(_, step)| step));
        let (message, reason) = message(&silent, Calls::Function);
        assert_eq!((&message["content"], &reason), (&Value::Null, &json!("function_call")));
        assert_eq!(message["function_call"], weather);
        assert_eq!(message.get("tool_calls"), None);
    }

    /// The chunks of a stream, checked for how it ends.
    pub fn chunks(told: &[Told], story: &Story) -> Vec<Value> {
        let events = told.iter().filter_map(|told| match told {
            Told::Event(name, data) => {
                assert_eq!(*name, None);
                Some(data.as_str())
            }
            Told::KeepAlive => None,
        });
        let mut events: Vec<&str> = events.collect();
        let last = events.pop().unwrap();
        match story.usage {
            Some(_) => assert_eq!(last, "[DONE]"),
            None => assert_eq!(last, failure().body()),
        }
        events.iter().map(|data| serde_json::from_str(data).expect("JSON")).collect()
    }

    /// The choices that a stream adds up to, as a client puts them together.
    fn assembled(chunks: &[Value], choices: usize) -> Vec<Option<Choice>> {
        let mut assembled: Vec<Option<Choice>> = vec![None; choices];
        let mut finished = vec![false; choices];
        for chunk in chunks {
            let [choice] = &chunk["choices"].as_array().unwrap()[..] else { panic!("{chunk}") };
            let at = choice["index"].as_u64().unwrap() as usize;
            assert!(!finished[at], "nothing comes behind a choice's end: {chunk}");
            let delta = &choice["delta"];
            if delta["role"] == "assistant" {
                assert_eq!(assembled[at], None, "the role comes once and first");
                let ending = Ending { reason: FinishReason::Stop, stop: None };
                assembled[at] = Some(Choice { text: String::new(), calls: Vec::new(), ending });
                continue;
            }
            let whole = assembled[at].as_mut().expect("the role comes first");
            if let Some(text) = delta["content"].as_str() {
                assert!(!text.is_empty() && whole.calls.is_empty(), "{chunk}");
                whole.text.push_str(text);
            }
            if let Some(call) = delta.pointer("/tool_calls/0") {
                add_call(&mut whole.calls, call);
            }
            if let Some(name) = choice["finish_reason"].as_str() {
                finished[at] = true;
                whole.ending.reason = reason(name);
            }
        }
        assembled
    }

    fn add_call(calls: &mut Vec<ToolCall>, call: &Value) {
        let arguments = call["function"]["arguments"].as_str().unwrap();
        let index = call["index"].as_u64().unwrap() as usize;
        if let Some(id) = call["id"].as_str() {
            assert_eq!(index, calls.len());
            let name = call["function"]["name"].as_str().unwrap().to_owned();
            calls.push(ToolCall { id: id.to_owned(), name, arguments: String::new() });
        }
        assert_eq!(index + 1, calls.len(), "one call after the other");
        calls[index].arguments.push_str(arguments);
    }

    pub fn reason(name: &str) -> FinishReason {
        let all = [
            FinishReason::Stop,
            FinishReason::Length,
            FinishReason::ContentFilter,
            FinishReason::ToolCalls,
        ];
        all.into_iter().find(|reason| reason.name() == name).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_streamed_adds_up_to_what_was_told(story in any_story(4, true), usage: bool) {
            let told = story.told(&mut answer(usage, Calls::Tools));
            let mut chunks = chunks(&told, &story);
            if let (true, Some(told)) = (usage, story.usage) {
                let last = chunks.pop().unwrap();
                prop_assert_eq!(&last["choices"], &json!([]));
                prop_assert_eq!(&last["usage"]["prompt_tokens"], &json!(told.prompt_tokens));
            }
            prop_assert!(chunks.iter().all(|chunk| chunk.get("usage").is_some() == usage));
            let whole: Vec<_> = story.whole().into_iter().map(Some).collect();
            prop_assert_eq!(assembled(&chunks, story.choices), whole);
        }
    }
}
