//! Writes a response, whole and as events.
//!
//! An event of the stream has its name twice, as SSE's `event:` and as `type`. There is no `[DONE]`:
//! the last event holds the whole response.

mod head;
mod item;
#[cfg(test)]
mod sums;

use serde_json::{Map, Value};

use super::tools::{Form, Origin, input_of};
use super::{echo, ids, socket};
use crate::chat::{FinishReason, Sampling, ToolCall, Usage};
use crate::dialects::openai::identity::Identity;
use crate::dialects::writing::{put, put_json, to_json};
use crate::dialects::{Choice, Dialect, Ending, Events, Start};
use crate::error::Error;
use head::{ResponseHead, ResponseStage};
use item::{ContentPart, Item, Status};

const TEXT_DELTA: &str = "response.output_text.delta";
const TEXT_DONE: &str = "response.output_text.done";
const ARGUMENTS_DELTA: &str = "response.function_call_arguments.delta";
const ARGUMENTS_DONE: &str = "response.function_call_arguments.done";
const INPUT_DELTA: &str = "response.custom_tool_call_input.delta";
const INPUT_DONE: &str = "response.custom_tool_call_input.done";

/// Writes a response, whole or as a stream of events.
pub struct ResponseAnswer {
    identity: Identity,
    /// The fields of the request that the response repeats.
    asked: Map<String, Value>,
    /// The fields of `asked` as JSON, a comma before each.
    echo: String,
    origins: Vec<Origin>,
    /// The name of the WebSocket's lane that it is sent in; `None` if it is a stream of its own.
    lane: Option<String>,
    /// The end of each event: the field that names the lane, a comma before it.
    tail: String,
    /// The number of the stream's next event.
    sequence: u64,
    /// The item that has been begun and not ended.
    open: Option<OpenItem>,
    /// The items that have ended, as JSON with commas between them.
    told: String,
    /// The number of items that have ended.
    count: usize,
    /// Why the text ended.
    ending: Option<FinishReason>,
}

/// An item that has been begun and not ended.
struct OpenItem {
    item: Item,
    /// The beginning of the events with the item's deltas: one is written for every piece.
    delta: String,
}

/// Returns fields as JSON, a comma before each.
fn fields_of(map: &Map<String, Value>) -> String {
    let json = to_json(map);
    format!(",{}", &json[1..json.len() - 1])
}

impl ResponseAnswer {
    /// Creates a response that repeats the fields in `echo` and may call the tools of these origins. `lane` is
    /// the WebSocket's lane that it is sent in, if it is.
    pub fn new(
        identity: Identity,
        echo: Map<String, Value>,
        origins: Vec<Origin>,
        lane: Option<&str>,
    ) -> ResponseAnswer {
        ResponseAnswer {
            lane: lane.map(str::to_owned),
            tail: lane.map(socket::lane_field).unwrap_or_default(),
            identity,
            echo: fields_of(&echo),
            asked: echo,
            origins,
            sequence: 0,
            open: None,
            told: String::new(),
            count: 0,
            ending: None,
        }
    }

    /// Returns the instance that the response's id names, and that the ids of its items have to name.
    fn instance(&self) -> Option<&str> {
        ids::instance_of(&self.identity.id)
    }

    /// Returns the response at a stage, with these items as its output, as JSON.
    fn response(&self, stage: &ResponseStage<'_>, output: &str) -> String {
        let mut response = to_json(&ResponseHead::new(&self.identity, stage));
        response.pop();
        response + &self.echo + ",\"output\":[" + output + "]}"
    }

    /// Adds an event; `fields` writes its own fields, a comma before each.
    fn event(&mut self, events: &mut dyn Events, name: &str, fields: impl Fn(&mut Vec<u8>)) {
        let (sequence, tail) = (self.sequence, &self.tail);
        self.sequence += 1;
        events.put(Some(name), &|out| {
            put(out, format_args!(r#"{{"type":"{name}","sequence_number":{sequence}"#));
            fields(out);
            put(out, format_args!("{tail}}}"));
        });
    }

    /// Adds an event that holds the response as it is now.
    fn response_event(&mut self, events: &mut dyn Events, name: &str, stage: &ResponseStage<'_>) {
        let response = self.response(stage, &self.told);
        self.event(events, name, |out| put(out, format_args!(r#","response":{response}"#)));
    }

    /// Adds the event that makes clients raise an error. Many that hear only of `response.failed` take
    /// the text so far for the answer. OpenAI's specification has the error's fields beside `type`, its
    /// servers send them in an object of their own; clients read either.
    fn error_event(&mut self, events: &mut dyn Events, error: &Error) {
        if self.lane.is_some() {
            let fields = socket::error_fields(error, None);
            return self.event(events, "error", |out| out.extend_from_slice(fields.as_bytes()));
        }
        let object = error.object();
        let nested = to_json(&object);
        let [code, param] = [object.code, object.param].map(|field| to_json(&field));
        let message = to_json(&object.message);
        self.event(events, "error", |out| {
            put(out, format_args!(r#","error":{nested},"code":{code},"message":{message}"#));
            put(out, format_args!(r#","param":{param}"#));
        });
    }

    /// Begins an item, which stays open.
    fn begin_item(&mut self, events: &mut dyn Events, item: Item) {
        let at = self.count;
        let json = item.json(Status::InProgress);
        self.event(events, "response.output_item.added", |out| {
            put(out, format_args!(r#","output_index":{at},"item":{json}"#));
        });
        let place = format!(r#""item_id":"{}","output_index":{at}"#, item.id);
        let delta = if item.call.is_some() {
            format!(r#"{{"type":"{ARGUMENTS_DELTA}",{place},"delta":"#)
        } else {
            let part = to_json(&ContentPart::new(""));
            self.event(events, "response.content_part.added", |out| {
                put(out, format_args!(r#",{place},"content_index":0,"part":{part}"#));
            });
            format!(r#"{{"type":"{TEXT_DELTA}",{place},"content_index":0,"logprobs":[],"delta":"#)
        };
        self.open = Some(OpenItem { item, delta });
    }

    /// Adds a piece of the open item.
    fn delta(&mut self, events: &mut dyn Events, piece: &str) {
        let Some(OpenItem { item, delta }) = &mut self.open else { return };
        item.text.push_str(piece);
        if item.is_told_at_end() {
            return;
        }
        let name = if item.call.is_some() { ARGUMENTS_DELTA } else { TEXT_DELTA };
        let (sequence, tail) = (self.sequence, &self.tail);
        self.sequence += 1;
        events.put(Some(name), &|out| {
            out.extend_from_slice(delta.as_bytes());
            put_json(out, piece);
            put(out, format_args!(r#","sequence_number":{sequence}{tail}}}"#));
        });
    }

    /// Ends the open item, if there is one.
    fn end_item(&mut self, events: &mut dyn Events, reason: FinishReason) {
        let Some(OpenItem { item, .. }) = self.open.take() else { return };
        self.end_contents(events, &item);
        let at = self.count;
        let json = item.json(item.status_at_end(reason));
        self.event(events, "response.output_item.done", |out| {
            put(out, format_args!(r#","output_index":{at},"item":{json}"#));
        });
        if self.count > 0 {
            self.told.push(',');
        }
        self.told.push_str(&json);
        self.count += 1;
    }

    /// Adds the events that repeat an item's text, arguments or input as a whole.
    fn end_contents(&mut self, events: &mut dyn Events, item: &Item) {
        let place = format!(r#","item_id":"{}","output_index":{}"#, item.id, self.count);
        match item.call.as_ref().map(|call| call.origin.form) {
            None => {
                let (text, part) = (to_json(&item.text), to_json(&ContentPart::new(&item.text)));
                let place = format!(r#"{place},"content_index":0"#);
                self.event(events, TEXT_DONE, |out| {
                    put(out, format_args!(r#"{place},"logprobs":[],"text":{text}"#));
                });
                self.event(events, "response.content_part.done", |out| {
                    put(out, format_args!(r#"{place},"part":{part}"#));
                });
            }
            Some(Form::Function) => {
                let arguments = to_json(&item.text);
                self.event(events, ARGUMENTS_DONE, |out| {
                    put(out, format_args!(r#"{place},"arguments":{arguments}"#));
                });
            }
            Some(Form::Custom) => {
                let input = to_json(&input_of(&item.text));
                for (name, field) in [(INPUT_DELTA, "delta"), (INPUT_DONE, "input")] {
                    self.event(events, name, |out| {
                        put(out, format_args!(r#"{place},"{field}":{input}"#));
                    });
                }
            }
            // OpenAI's own events for parts of these are optional: the whole item follows.
            Some(Form::Client(_)) => {}
        }
    }
}

/// A response has exactly one choice.
impl Dialect for ResponseAnswer {
    fn own_name(&self, field: &'static str) -> &'static str {
        match field {
            "max_completion_tokens" => "max_output_tokens",
            "reasoning_effort" => "reasoning.effort",
            "verbosity" => "text.verbosity",
            other => other,
        }
    }

    fn note_done(&mut self, done: &Sampling) {
        echo::note_done(&mut self.asked, done);
        self.echo = fields_of(&self.asked);
    }

    fn begin(&mut self, events: &mut dyn Events, _: &Start) {
        for name in ["response.created", "response.in_progress"] {
            self.response_event(events, name, &ResponseStage::InProgress);
        }
    }

    fn text(&mut self, events: &mut dyn Events, _: usize, text: &str) {
        if self.open.is_none() {
            self.begin_item(events, Item::message(self.instance()));
        }
        self.delta(events, text);
    }

    fn call_begin(&mut self, events: &mut dyn Events, _: usize, _: usize, call: &ToolCall) {
        self.end_item(events, FinishReason::ToolCalls);
        let item = Item::call(call, &self.origins, self.instance());
        self.begin_item(events, item);
    }

    // A call's item is ended by what follows it, because only that shows whether the call was cut.
    fn call_arguments(&mut self, events: &mut dyn Events, _: usize, _: usize, piece: &str) {
        self.delta(events, piece);
    }

    fn finish(&mut self, events: &mut dyn Events, _: usize, ending: &Ending) {
        if self.open.is_none() && self.count == 0 {
            self.begin_item(events, Item::message(self.instance()));
        }
        self.end_item(events, ending.reason);
        self.ending = Some(ending.reason);
    }

    fn end(&mut self, events: &mut dyn Events, usage: &Usage) {
        let stage = ResponseStage::Ended(self.ending.unwrap_or(FinishReason::Stop), usage);
        self.response_event(events, &format!("response.{}", stage.status()), &stage);
    }

    fn fail(&mut self, events: &mut dyn Events, error: &Error) {
        self.error_event(events, error);
        if self.lane.is_some() {
            // Known of OpenAI's SDKs: on a WebSocket an error is the end of its response. What came behind it
            // would be taken for the next one's.
            events.leave_client();
        }
        self.response_event(events, "response.failed", &ResponseStage::Failed(error));
    }

    fn whole(&self, choices: &[Choice], usage: &Usage) -> String {
        let Some(Choice { text, calls, ending }) = choices.first() else {
            return self.response(&ResponseStage::Ended(FinishReason::Stop, usage), "");
        };
        let mut items = Vec::new();
        if !text.is_empty() || calls.is_empty() {
            items.push(Item { text: text.clone(), ..Item::message(self.instance()) });
        }
        let call = |call| Item::call(call, &self.origins, self.instance());
        items.extend(calls.iter().map(call));
        let last = items.len() - 1;
        let json = |(at, item): (usize, &Item)| {
            let reason = if at == last { ending.reason } else { FinishReason::ToolCalls };
            item.json(item.status_at_end(reason))
        };
        let output: Vec<String> = items.iter().enumerate().map(json).collect();
        self.response(&ResponseStage::Ended(ending.reason, usage), &output.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::openai::identity::tests::identity;
    use crate::dialects::stories::{Story, StoryStep, arguments, call, failure, finish, text};
    use serde_json::json;

    /// An answer that repeats one field, and may call `weather` and, as a custom tool of a namespace,
    /// `time`.
    pub fn answer() -> ResponseAnswer {
        let echo = Map::from_iter([("user".to_owned(), json!("u"))]);
        let custom = Origin {
            called: "time".to_owned(),
            name: "clock".to_owned(),
            namespace: Some("space".to_owned()),
            form: Form::Custom,
        };
        ResponseAnswer::new(identity("resp_1"), echo, vec![custom], None)
    }

    /// The client's lines, with ids of items replaced by their output's index, and the time by a fixed
    /// one.
    fn lines(story: &Story) -> Vec<String> {
        let lines = story.lines(&mut answer());
        let items: Vec<String> = lines.iter().filter_map(|line| added_id(line)).collect();
        let same = |line: String| {
            let line = items.iter().enumerate().fold(line, |line, (at, id)| {
                line.replace(&format!(r#""{id}""#), &format!(r#""item_{at}""#))
            });
            without_time(&line)
        };
        lines.into_iter().map(same).collect()
    }

    /// The id of the item that an event adds.
    fn added_id(line: &str) -> Option<String> {
        let event: Value = serde_json::from_str(line.split_once(' ')?.1).ok()?;
        let is_added = event["type"] == "response.output_item.added";
        is_added.then(|| event["item"]["id"].as_str().unwrap().to_owned())
    }

    fn without_time(line: &str) -> String {
        let Some((before, rest)) = line.split_once(r#""completed_at":"#) else {
            return line.to_owned();
        };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        format!(r#"{before}"completed_at":{rest}"#)
    }

    /// An event with these fields, which begin with a comma.
    fn event(name: &str, sequence: usize, fields: &str) -> String {
        format!(r#"{name} {{"type":"{name}","sequence_number":{sequence}{fields}}}"#)
    }

    fn response(name: &str, sequence: usize, middle: &str, output: &str) -> String {
        let head = r#""id":"resp_1","object":"response","created_at":1700000000"#;
        let tail = format!(r#""user":"u","output":[{output}]"#);
        event(name, sequence, &format!(r#","response":{{{head},{middle},{tail}}}"#))
    }

    fn begun() -> [String; 2] {
        let middle = concat!(
            r#""status":"in_progress","completed_at":null,"error":null,"#,
            r#""incomplete_details":null,"model":"a \"model\"","usage":null"#
        );
        [
            response("response.created", 0, middle, ""),
            response("response.in_progress", 1, middle, ""),
        ]
    }

    const USAGE: &str = concat!(
        r#""model":"a \"model\"","usage":{"input_tokens":7,"#,
        r#""input_tokens_details":{"cache_write_tokens":0,"cached_tokens":0},"output_tokens":3,"#,
        r#""output_tokens_details":{"reasoning_tokens":0},"total_tokens":10}"#
    );

    fn completed(sequence: usize, output: &str) -> String {
        let middle = format!(
            r#""status":"completed","completed_at":,"error":null,"incomplete_details":null,{USAGE}"#
        );
        response("response.completed", sequence, &middle, output)
    }

    fn part(text: &str) -> String {
        format!(r#"{{"type":"output_text","text":{text},"annotations":[],"logprobs":[]}}"#)
    }

    fn message(status: &str, content: &str) -> String {
        format!(
            r#"{{"type":"message","id":"item_0","status":"{status}","role":"assistant","content":[{content}]}}"#
        )
    }

    fn added(sequence: usize, index: usize, item: &str) -> String {
        let fields = format!(r#","output_index":{index},"item":{item}"#);
        event("response.output_item.added", sequence, &fields)
    }

    fn done(sequence: usize, index: usize, item: &str) -> String {
        let fields = format!(r#","output_index":{index},"item":{item}"#);
        event("response.output_item.done", sequence, &fields)
    }

    const PLACE: &str = r#""item_id":"item_0","output_index":0"#;

    fn text_delta(sequence: usize, text: &str) -> String {
        format!(
            r#"{TEXT_DELTA} {{"type":"{TEXT_DELTA}",{PLACE},"content_index":0,"logprobs":[],"delta":{text},"sequence_number":{sequence}}}"#
        )
    }

    /// The events of a text, from the number of its first delta on, and the item.
    fn text_done(sequence: usize, text: &str, status: &str) -> ([String; 3], String) {
        let item = message(status, &part(text));
        let fields = format!(r#",{PLACE},"content_index":0,"logprobs":[],"text":{text}"#);
        let ended = format!(r#",{PLACE},"content_index":0,"part":{}"#, part(text));
        let events = [
            event(TEXT_DONE, sequence, &fields),
            event("response.content_part.done", sequence + 1, &ended),
            done(sequence + 2, 0, &item),
        ];
        (events, item)
    }

    fn text_begun() -> [String; 2] {
        let empty = format!(r#",{PLACE},"content_index":0,"part":{}"#, part(r#""""#));
        [added(2, 0, &message("in_progress", "")), event("response.content_part.added", 3, &empty)]
    }

    #[test]
    fn a_text_is_told_as_an_item_and_again_at_its_end() {
        let told = lines(&Story::of([
            text("\"é\n"),
            StoryStep::KeepAlive,
            text("b"),
            finish(FinishReason::Stop),
        ]));
        let (ended, item) = text_done(6, r#""\"é\nb""#, "completed");
        let mut expected = Vec::from_iter(begun().into_iter().chain(text_begun()));
        expected.extend([
            text_delta(4, r#""\"é\n""#),
            "(keep-alive)".to_owned(),
            text_delta(5, r#""b""#),
        ]);
        expected.extend(ended);
        expected.push(completed(9, &item));
        assert_eq!(told, expected);
    }

    #[test]
    fn a_text_that_is_cut_is_incomplete_and_so_is_its_response() {
        for (reason, name) in [
            (FinishReason::Length, "max_output_tokens"),
            (FinishReason::ContentFilter, "content_filter"),
        ] {
            let told = lines(&Story::of([text("a"), finish(reason)]));
            let (ended, item) = text_done(5, r#""a""#, "incomplete");
            assert_eq!(told[5..8], ended);
            let middle = format!(
                r#""status":"incomplete","completed_at":null,"error":null,"incomplete_details":{{"reason":"{name}"}},{USAGE}"#
            );
            assert_eq!(told[8..], [response("response.incomplete", 8, &middle, &item)]);
        }
    }

    #[test]
    fn an_empty_answer_is_an_empty_message() {
        let told = lines(&Story::of([finish(FinishReason::Stop)]));
        let (ended, item) = text_done(4, r#""""#, "completed");
        let mut expected = Vec::from_iter(begun().into_iter().chain(text_begun()));
        expected.extend(ended);
        expected.push(completed(7, &item));
        assert_eq!(told, expected);
    }

    #[test]
    fn the_arguments_of_a_function_come_in_pieces_and_again_at_their_end() {
        let told = lines(&Story::of([
            call("weather"),
            arguments("{\"a\":"),
            arguments("1}"),
            StoryStep::CallEnd,
            finish(FinishReason::ToolCalls),
        ]));
        let item = |status: &str, arguments: &str| {
            format!(
                r#"{{"type":"function_call","id":"item_0","status":"{status}","call_id":"call_weather","name":"weather","arguments":"{arguments}"}}"#
            )
        };
        let piece = |sequence: usize, piece: &str| {
            format!(
                r#"{ARGUMENTS_DELTA} {{"type":"{ARGUMENTS_DELTA}",{PLACE},"delta":"{piece}","sequence_number":{sequence}}}"#
            )
        };
        let whole = item("completed", r#"{\"a\":1}"#);
        let mut expected = Vec::from(begun());
        expected.extend([
            added(2, 0, &item("in_progress", "")),
            piece(3, r#"{\"a\":"#),
            piece(4, "1}"),
            event(ARGUMENTS_DONE, 5, &format!(r#",{PLACE},"arguments":"{{\"a\":1}}""#)),
            done(6, 0, &whole),
            completed(7, &whole),
        ]);
        assert_eq!(told, expected);
    }

    #[test]
    fn the_input_of_a_custom_tool_is_told_whole_and_under_the_tools_own_name() {
        let told = lines(&Story::of([
            call("time"),
            arguments("{\"input\":\"a"),
            arguments("\\nb\"}"),
            StoryStep::CallEnd,
            finish(FinishReason::ToolCalls),
        ]));
        let item = |input: &str| {
            format!(
                r#"{{"type":"custom_tool_call","id":"item_0","call_id":"call_time","name":"clock","namespace":"space","input":"{input}"}}"#
            )
        };
        let whole = item(r"a\nb");
        let mut expected = Vec::from(begun());
        expected.extend([
            added(2, 0, &item("")),
            event(INPUT_DELTA, 3, &format!(r#",{PLACE},"delta":"a\nb""#)),
            event(INPUT_DONE, 4, &format!(r#",{PLACE},"input":"a\nb""#)),
            done(5, 0, &whole),
            completed(6, &whole),
        ]);
        assert_eq!(told, expected);
    }

    #[test]
    fn a_response_that_fails_says_so_and_holds_the_items_that_were_complete() {
        let told = lines(&Story::of([text("a"), call("weather"), arguments("{")]).broken_off());
        let (_, item) = text_done(5, r#""a""#, "completed");
        let message = json!(failure().to_string());
        let error = format!(
            r#"{{"code":"server_error","message":{message},"param":null,"type":"server_error"}}"#
        );
        let middle = format!(
            r#""status":"failed","completed_at":null,"error":{error},"incomplete_details":null,"model":"a \"model\"","usage":null"#
        );
        assert_eq!(told.last(), Some(&response("response.failed", 11, &middle, &item)));
        assert_eq!(told.len(), 12);
        let nested = format!(
            r#"{{"message":{message},"type":"server_error","param":null,"code":"overloaded"}}"#
        );
        let flat = format!(r#""code":"overloaded","message":{message},"param":null"#);
        assert_eq!(told[10], event("error", 10, &format!(r#","error":{nested},{flat}"#)));
    }

    #[test]
    fn a_call_that_is_cut_is_incomplete_unless_its_arguments_are_whole() {
        for (piece, status) in [("{\"a\":1}", "completed"), ("{\"a\":", "incomplete")] {
            let story = Story::of([
                call("weather"),
                arguments(piece),
                StoryStep::CallEnd,
                finish(FinishReason::Length),
            ]);
            let whole = answer().whole(&story.whole(), &Usage::default());
            let whole: Value = serde_json::from_str(&whole).unwrap();
            assert_eq!(whole["output"][0]["status"], status);
            let told = lines(&story);
            let last = told.last().unwrap().split_once(' ').unwrap().1;
            let last: Value = serde_json::from_str(last).unwrap();
            assert_eq!(last["response"]["output"][0]["status"], status);
        }
    }
}
