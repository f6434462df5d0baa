//! The model outputs of `tests/tool_calls`: what a client gets of each, whole and cut anywhere.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use langfast2api::chat::models::{BUILT_IN, Models, Unknown};
use langfast2api::chat::tools::nonce::Secret;
use langfast2api::chat::tools::{self, Plan};
use langfast2api::chat::{ChatRequest, FinishReason, Role, Sampling, Tool, Tools, Turn};
use langfast2api::completions::part::Part;
use langfast2api::completions::reader::Reader;
use serde_json::{Value, json};

use crate::simulator::Simulator;
use crate::support::{Response, start};

/// An output and what a client should get of it.
struct Output {
    kind: String,
    title: String,
    written: String,
    calls: Vec<Called>,
    /// The text that the client gets, if it is not what usually follows from the calls.
    text: Option<String>,
    cut: bool,
    notes: Vec<String>,
}

/// A call that should come.
#[derive(Debug)]
struct Called {
    name: String,
    arguments: String,
    /// Whether the arguments are compared as text, not as JSON.
    raw: bool,
}

/// What a client gets of an output.
#[derive(Clone, Debug, Default, PartialEq)]
struct Got {
    text: String,
    calls: Vec<(String, String)>,
    reason: String,
    state: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tool_calls")
}

/// The folders of outputs, each of which is counted by itself.
fn folders() -> [PathBuf; 6] {
    ["", "held_back", "by_another", "by_a_third", "by_a_fourth", "by_a_fifth"]
        .map(|name| folder().join(name))
}

/// The outputs of the files in a folder.
fn outputs(folder: &Path) -> Vec<Output> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "txt")).collect();
    files.sort();
    let read = |path: PathBuf| {
        let kind = path.file_stem().unwrap().to_str().unwrap().replace('_', " ");
        let text = std::fs::read_to_string(&path).unwrap();
        let outputs = text.split("### ").skip(1).map(|entry| output(&kind, entry));
        outputs.collect::<Vec<_>>()
    };
    files.into_iter().flat_map(read).collect()
}

fn output(kind: &str, entry: &str) -> Output {
    let (title, rest) = entry.split_once('\n').unwrap();
    let (written, expected) = rest.split_once("\n=>\n").unwrap_or_else(|| panic!("{title}"));
    let mut output = Output {
        kind: kind.to_owned(),
        title: title.to_owned(),
        written: written.to_owned(),
        calls: Vec::new(),
        text: None,
        cut: false,
        notes: Vec::new(),
    };
    // Raw arguments may hold line breaks only at the end of what is expected.
    for line in expected.lines().filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "call" | "raw" => {
                let (name, arguments) = rest.split_once(' ').unwrap();
                let (name, arguments) = (name.to_owned(), arguments.to_owned());
                output.calls.push(Called { name, arguments, raw: word == "raw" });
            }
            "text" => output.text = Some(serde_json::from_str(rest).unwrap()),
            "cut" => output.cut = true,
            "notes" => output.notes = rest.split(' ').map(str::to_owned).collect(),
            _ => panic!("{title}: {line}"),
        }
    }
    output
}

impl Output {
    /// What is wrong with what a client got, if anything is.
    fn fault(&self, got: &Got, nonce: &str) -> Option<String> {
        let own = |text: &str| text.replace("$N", nonce);
        let usual = if self.calls.is_empty() { &self.written } else { "" };
        let text = own(self.text.as_deref().unwrap_or(usual));
        let reason = match (self.cut, self.calls.is_empty()) {
            (true, _) => "length",
            (false, true) => "stop",
            (false, false) => "tool_calls",
        };
        let is_called = |(called, (name, arguments)): (&Called, &(String, String))| {
            let wanted = own(&called.arguments);
            let same = match called.raw {
                true => wanted == *arguments,
                false => {
                    let json = |text: &str| serde_json::from_str::<Value>(text).ok();
                    json(&wanted).is_some_and(|wanted| json(arguments) == Some(wanted))
                }
            };
            called.name == *name && same
        };
        let right = self.calls.len() == got.calls.len()
            && self.calls.iter().zip(&got.calls).all(is_called)
            && text == got.text
            && reason == got.reason
            && self.notes.iter().all(|note| got.state.split(", ").any(|state| state == note));
        (!right)
            .then(|| format!("{} / {}\n{}\ngot {got:?}", self.kind, self.title, own(&self.written)))
    }
}

fn offered() -> Vec<Value> {
    let tools = std::fs::read_to_string(folder().join("tools.json")).unwrap();
    serde_json::from_str(&tools).unwrap()
}

/// The plan of a request to a model that writes calls between markers, and its nonce.
fn plan() -> (Arc<Plan>, String) {
    let tool = |value: &Value| Tool {
        name: value["name"].as_str().unwrap().to_owned(),
        parameters: Some(value["parameters"].clone()),
        ..Tool::default()
    };
    let list = offered().iter().map(tool).collect();
    let mut request = ChatRequest {
        model: "gpt-3.5-turbo".to_owned(),
        turns: vec![Turn::message(Role::User, "Hi")],
        tools: Tools { list, parallel: true, ..Tools::default() },
        sampling: Sampling::default(),
        stop: Vec::new(),
        n: 1,
        ignored: Vec::new(),
        left_out: Vec::new(),
    };
    let models = Models::parse(BUILT_IN, &[], Unknown::Refuse).unwrap();
    let plan = tools::plan(&mut request, models.find("gpt-3.5-turbo").unwrap(), &Secret::default());
    let told: String = plan.prompt.messages.iter().map(|m| m.content.text()).collect();
    let nonce = told.split_once("<call-").unwrap().1.split([' ', '>']).next().unwrap().to_owned();
    (Arc::new(plan), nonce)
}

/// What a reader makes of a text that comes in pieces.
fn read<'a>(plan: &Arc<Plan>, holds: bool, pieces: impl IntoIterator<Item = &'a str>) -> Got {
    let mut reader = Reader::new(plan.clone(), Arc::default(), holds);
    let mut parts = Vec::new();
    for piece in pieces {
        if reader.is_done() {
            break;
        }
        reader.push(piece.to_owned(), &mut parts);
    }
    reader.finish(&mut parts);
    let ending = reader.end(FinishReason::Stop, &mut parts);
    let mut got = Got { reason: ending.reason.name().to_owned(), ..Got::default() };
    for part in parts {
        match part {
            Part::Text(text) => {
                assert!(got.calls.is_empty(), "text comes before the calls");
                got.text += &text;
            }
            Part::CallBegin(call) => got.calls.push((call.name, String::new())),
            Part::Arguments(piece) => got.calls.last_mut().unwrap().1 += &piece,
            Part::CallEnd => {}
        }
    }
    got.state = reader.verdict().map(|v| v.name().to_owned()).into_iter().collect();
    for (is_so, word) in
        [(reader.repaired(), ", repaired-arguments"), (reader.left_out(), ", text-left-out")]
    {
        got.state += if is_so { word } else { "" };
    }
    got
}

/// The outputs that come out wrong, after the number of those that are right of each kind is printed.
fn wrong(outputs: &[Output], got: impl Fn(&Output) -> (Got, String)) -> Vec<String> {
    let (mut faults, mut kinds) = (Vec::new(), BTreeMap::<&str, (usize, usize)>::new());
    for output in outputs {
        let (got, nonce) = got(output);
        let fault = output.fault(&got, &nonce);
        let kind = kinds.entry(output.kind.as_str()).or_default();
        kind.0 += usize::from(fault.is_none());
        kind.1 += 1;
        faults.extend(fault);
    }
    println!("{} of {}: {kinds:?}", outputs.len() - faults.len(), outputs.len());
    faults
}

#[test]
fn every_output_is_read_as_it_is_meant() {
    let (plan, nonce) = plan();
    for folder in folders() {
        let faults = wrong(&outputs(&folder), |output| {
            let written = output.written.replace("$N", &nonce);
            (read(&plan, false, [written.as_str()]), nonce.clone())
        });
        assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    }
}

#[test]
fn it_makes_no_difference_where_an_output_is_cut_and_whether_calls_are_held() {
    let (plan, nonce) = plan();
    for (number, output) in all_outputs().iter().enumerate() {
        let written = output.written.replace("$N", &nonce);
        let whole = read(&plan, false, [written.as_str()]);
        let characters = written.char_indices().map(|(at, c)| &written[at..at + c.len_utf8()]);
        assert_eq!(read(&plan, false, characters), whole, "{written}");
        for (at, _) in written.char_indices().skip(number % 8).step_by(8) {
            let (one, two) = written.split_at(at);
            assert_eq!(read(&plan, at % 3 == 0, [one, two]), whole, "{one:?} {two:?}");
        }
    }
}

fn all_outputs() -> Vec<Output> {
    folders().iter().flat_map(|folder| outputs(folder)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Chat,
    Responses,
    Messages,
}

impl Dialect {
    fn path(self) -> &'static str {
        match self {
            Dialect::Chat => "/v1/chat/completions",
            Dialect::Responses => "/v1/responses",
            Dialect::Messages => "/v1/messages",
        }
    }

    fn request(self, stream: bool) -> Value {
        let offered = offered();
        let tool = |tool: &Value| {
            let (name, schema) = (&tool["name"], &tool["parameters"]);
            let function = json!({"name": name, "parameters": schema});
            match self {
                Dialect::Chat => json!({"type": "function", "function": function}),
                Dialect::Responses => {
                    json!({"type": "function", "name": name, "parameters": schema, "strict": false})
                }
                Dialect::Messages => json!({"name": name, "input_schema": schema}),
            }
        };
        let tools: Vec<Value> = offered.iter().map(tool).collect();
        let said = json!([{"role": "user", "content": "Hi"}]);
        let mut request = json!({"model": "gpt-4o", "stream": stream, "tools": tools});
        let input = if self == Dialect::Responses { "input" } else { "messages" };
        request[input] = said;
        if self == Dialect::Messages {
            request["max_tokens"] = json!(1000);
        }
        request
    }

    fn got(self, answer: &Response, stream: bool) -> Got {
        assert_eq!(answer.status, 200, "{}", answer.text());
        match (self, stream) {
            (Dialect::Chat, false) => of_chat(&answer.json()["choices"][0]),
            (Dialect::Chat, true) => of_chunks(&answer.chunks()),
            (Dialect::Responses, false) => of_response(&answer.json()),
            (Dialect::Responses, true) => of_response(&data(answer).last().unwrap()["response"]),
            (Dialect::Messages, false) => of_message(&answer.json()),
            (Dialect::Messages, true) => of_message_events(&data(answer)),
        }
    }
}

/// The data of a stream's events.
fn data(answer: &Response) -> Vec<Value> {
    let lines = answer.text().lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn of_chat(choice: &Value) -> Got {
    let calls = choice["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
    let call = |call: &Value| {
        (text_of(&call["function"]["name"]), text_of(&call["function"]["arguments"]))
    };
    Got {
        text: text_of(&choice["message"]["content"]),
        calls: calls.iter().map(call).collect(),
        reason: text_of(&choice["finish_reason"]),
        ..Got::default()
    }
}

fn of_chunks(chunks: &[Value]) -> Got {
    let mut got = Got::default();
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        got.text += &text_of(&choice["delta"]["content"]);
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            if let Some(name) = function["name"].as_str() {
                got.calls.push((name.to_owned(), String::new()));
            }
            got.calls.last_mut().unwrap().1 += &text_of(&function["arguments"]);
        }
        got.reason += &text_of(&choice["finish_reason"]);
    }
    got
}

fn of_response(response: &Value) -> Got {
    let mut got = Got::default();
    for item in response["output"].as_array().unwrap() {
        match item["type"].as_str().unwrap() {
            "message" => got.text += &text_of(&item["content"][0]["text"]),
            _ => got.calls.push((text_of(&item["name"]), text_of(&item["arguments"]))),
        }
    }
    got.reason = match (response["status"].as_str().unwrap(), got.calls.is_empty()) {
        ("incomplete", _) => {
            assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
            "length"
        }
        (_, true) => "stop",
        (_, false) => "tool_calls",
    }
    .to_owned();
    got
}

fn of_message(message: &Value) -> Got {
    let mut got = Got::default();
    for block in message["content"].as_array().unwrap() {
        match block["type"].as_str().unwrap() {
            "text" => got.text += &text_of(&block["text"]),
            _ => got.calls.push((text_of(&block["name"]), block["input"].to_string())),
        }
    }
    got.reason = of_stop_reason(&message["stop_reason"]);
    got
}

fn of_stop_reason(reason: &Value) -> String {
    match reason.as_str().unwrap() {
        "max_tokens" => "length",
        "tool_use" => "tool_calls",
        _ => "stop",
    }
    .to_owned()
}

fn of_message_events(events: &[Value]) -> Got {
    let mut got = Got::default();
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" if event["content_block"]["type"] == "tool_use" => {
                got.calls.push((text_of(&event["content_block"]["name"]), String::new()));
            }
            "content_block_delta" if event["delta"]["type"] == "text_delta" => {
                got.text += &text_of(&event["delta"]["text"]);
            }
            "content_block_delta" => {
                got.calls.last_mut().unwrap().1 += &text_of(&event["delta"]["partial_json"]);
            }
            "message_delta" => got.reason = of_stop_reason(&event["delta"]["stop_reason"]),
            _ => {}
        }
    }
    // A block without deltas is an empty object.
    got.calls.iter_mut().filter(|call| call.1.is_empty()).for_each(|call| call.1 += "{}");
    got
}

/// The nonce that the model was told in the last run.
fn nonce_of(simulator: &Simulator) -> String {
    let told = simulator.runs().last().unwrap()["prompt_meta"]["messages"].to_string();
    told.split_once("<call-").unwrap().1.split([' ', '>']).next().unwrap().to_owned()
}

fn reaches_clients(dialect: Dialect) {
    let (simulator, program) = start();
    // All requests are the same one.
    let nonce = OnceCell::new();
    for stream in [false, true] {
        let faults = wrong(&all_outputs(), |output| {
            let written = output.written.replace("$N", "$NONCE");
            simulator.turn(json!({"text": written, "sim": "events=8 delay=0"}));
            let body = dialect.request(stream).to_string();
            let answer = program.request(
                "POST",
                dialect.path(),
                "Content-Type: application/json\r\n",
                body.as_bytes(),
            );
            let mut got = dialect.got(&answer, stream);
            got.state = answer.header("x-langfast2api-tools").unwrap_or_default().to_owned();
            if stream {
                // The head is out before anything is known of calls.
                got.state = output.notes.join(", ");
            }
            if dialect == Dialect::Messages {
                // Arguments that are no object cannot be told as they are in a whole answer.
                for (call, wanted) in got.calls.iter_mut().zip(&output.calls) {
                    let is_raw = wanted.raw;
                    call.1 = if is_raw { wanted.arguments.clone() } else { call.1.clone() };
                }
            }
            (got, nonce.get_or_init(|| nonce_of(&simulator)).clone())
        });
        assert!(faults.is_empty(), "{dialect:?} {stream}: {}", faults.join("\n\n"));
    }
}

#[test]
fn every_output_reaches_clients_of_chat_completions() {
    reaches_clients(Dialect::Chat);
}

#[test]
fn every_output_reaches_clients_of_responses() {
    reaches_clients(Dialect::Responses);
}

#[test]
fn every_output_reaches_clients_of_messages() {
    reaches_clients(Dialect::Messages);
}
