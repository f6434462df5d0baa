//! Images, audio and files in messages: what is passed on, what becomes a line of text, and what is refused.

use std::net::TcpListener;

use crate::simulator::Simulator;
use crate::support::{Program, Response, Start, sent_texts, start};
use serde_json::{Value, json};

const JSON: &str = "Content-Type: application/json\r\n";
const NAMED: &str = "x-langfast2api-ignored";

/// A picture of 1024 × 1024 pixels, as far as its first bytes say.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAIAAADwf7zU";
/// The line in the place of one.
const LINE: &str = "[image left out: image/png, under 1 KB]";

fn data_url() -> String {
    format!("data:image/png;base64,{PNG}")
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// A picture in the words of each API.
fn chat_image() -> Value {
    json!({"type": "image_url", "image_url": {"url": data_url()}})
}

fn responses_image() -> Value {
    json!({"type": "input_image", "image_url": data_url(), "detail": "auto"})
}

fn anthropic_image() -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}})
}

fn message(role: &str, content: Value) -> Value {
    json!({"role": role, "content": content})
}

fn chat(program: &Program, messages: Value) -> Response {
    program.chat(json!({"model": "gpt-4o", "messages": messages}))
}

fn respond(program: &Program, input: Value) -> Response {
    let body = json!({"model": "gpt-4o", "input": input}).to_string();
    program.request("POST", "/v1/responses", JSON, body.as_bytes())
}

fn anthropic(program: &Program, messages: Value) -> Response {
    let body = json!({"model": "gpt-4o", "max_tokens": 100, "messages": messages}).to_string();
    program.request("POST", "/v1/messages", JSON, body.as_bytes())
}

fn passing() -> (Simulator, Program) {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(["--images", "pass"]).start();
    (simulator, program)
}

/// The messages of the run that was started last.
fn sent(simulator: &Simulator) -> Vec<Value> {
    let run = simulator.runs().pop().expect("a run");
    run["prompt_meta"]["messages"].as_array().unwrap().clone()
}

fn named(answer: &Response) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header(NAMED).unwrap_or_default()
}

/// A step of an agent's in Anthropic's words: a question, a call, and what came of it.
fn anthropic_step(result: Value) -> Vec<Value> {
    let call = json!({"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "a.png"}});
    let result = json!({"type": "tool_result", "tool_use_id": "t1", "content": result});
    vec![
        message("user", json!("What is in a.png?")),
        message("assistant", json!([call])),
        message("user", json!([result])),
    ]
}

/// The same in responses' words.
fn responses_step(output: Value) -> Vec<Value> {
    let (id, name, arguments) = ("c1", "view_image", "{\"path\":\"a.png\"}");
    vec![
        message("user", json!("What is in a.png?")),
        json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments}),
        json!({"type": "function_call_output", "call_id": id, "output": output}),
    ]
}

#[test]
fn an_image_in_the_newest_message_is_refused_by_its_place_with_the_setting_that_passes_it() {
    let (simulator, program) = start();
    let said = |image: Value| json!([message("user", json!([text("What is it?"), image]))]);
    let input = json!([message("user", json!([responses_image()]))]);
    for (answer, param) in [
        (chat(&program, said(chat_image())), "messages[0].content[1]"),
        (respond(&program, input), "input[0].content[0]"),
        (anthropic(&program, said(anthropic_image())), "messages[0].content[1]"),
    ] {
        let error = answer.error();
        assert_eq!((answer.status, &error["type"]), (400, &json!("invalid_request_error")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("--images pass") && message.contains(param), "{message}");
        assert!(!message.contains(&PNG[..8]), "{message}");
    }
    // By these words Claude Code knows that it has to take the image out of its conversation.
    let answer = anthropic(&program, said(anthropic_image()));
    assert!(answer.text().contains("Could not process image"), "{}", answer.text());
    // Instructions and the beginning of an answer do not make it older.
    for behind in [message("system", json!("Be brief.")), message("assistant", json!("It is"))] {
        let mut messages = said(chat_image());
        messages.as_array_mut().unwrap().push(behind);
        assert_eq!(chat(&program, messages).error()["param"], "messages[0].content[1]");
    }
    assert_eq!(simulator.stats().runs, 0);
}

#[test]
fn an_older_image_is_a_line_of_text_in_its_place_and_named() {
    let (simulator, program) = start();
    let old = |image: Value| {
        let parts = json!([text("Look:"), image, text("Nice?")]);
        let answered = message("assistant", json!("Yes."));
        json!([message("user", parts), answered, message("user", json!("And now?"))])
    };
    let expected = [&format!("Look:\n{LINE}\nNice?"), "Yes.", "And now?"];
    for (answer, place) in [
        (chat(&program, old(chat_image())), "messages[0].content[1]"),
        (respond(&program, old(json!({"type": "input_image", "image_url": data_url()}))), ""),
        (anthropic(&program, old(anthropic_image())), "messages[0].content[1]"),
    ] {
        if place.is_empty() {
            assert_eq!(named(&answer), "input[0].content[1]");
        } else {
            assert_eq!(named(&answer), place);
        }
        assert_eq!(sent_texts(&simulator), expected);
    }
}

#[test]
fn a_refused_image_can_be_talked_past() {
    let (simulator, program) = start();
    let messages =
        json!([message("user", json!([chat_image()])), message("user", json!("Never mind."))]);
    assert_eq!(named(&chat(&program, messages)), "messages[0].content[0]");
    assert_eq!(sent_texts(&simulator), [LINE, "Never mind."]);
}

#[test]
fn an_agent_lives_on_when_its_tool_has_read_an_image() {
    let (simulator, program) = start();
    // Claude Code's Read, and the same once more a question later.
    let mut messages = anthropic_step(json!([text("a.png:"), anthropic_image()]));
    let answer = anthropic(&program, json!(messages));
    assert_eq!(named(&answer), "messages[2].content[0].content[1]");
    let told = sent_texts(&simulator).pop().unwrap();
    assert!(told.contains(&format!(">\na.png:\n{LINE}\n</result-")), "{told}");
    messages.push(message("assistant", json!("I cannot see it.")));
    messages.push(message("user", json!("Then guess.")));
    assert_eq!(named(&anthropic(&program, json!(messages))), "messages[2].content[0].content[1]");

    // Codex's view_image.
    let answer = respond(&program, json!(responses_step(json!([responses_image()]))));
    assert_eq!(named(&answer), "input[2].output[0]");
    assert!(sent_texts(&simulator).pop().unwrap().contains(LINE));

    // Chat completions, whose tools may answer with parts, too.
    let call =
        json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let called = json!({"role": "assistant", "content": null, "tool_calls": call});
    let result = json!({"role": "tool", "tool_call_id": "c", "content": [chat_image()]});
    let answer = chat(&program, json!([message("user", json!("Go")), called, result]));
    assert_eq!(named(&answer), "messages[2].content[0]");
}

#[test]
fn what_an_agent_puts_beside_or_behind_its_tools_results_is_no_question() {
    let (simulator, program) = start();
    // Some of Anthropic's clients put the image beside the result.
    let mut messages = anthropic_step(json!("It is attached."));
    messages[2]["content"].as_array_mut().unwrap().push(anthropic_image());
    assert_eq!(named(&anthropic(&program, json!(messages))), "messages[2].content[1]");
    assert_eq!(sent_texts(&simulator).pop().unwrap(), LINE);
    // Codex of 2025 put it into a message of its own, with what it says of its environment before it.
    let mut input = responses_step(json!("attached local image path"));
    input.push(message("user", json!("<environment_context/>")));
    input.push(message("user", json!([responses_image()])));
    assert_eq!(named(&respond(&program, json!(input))), "input[4].content[0]");
    // Once the assistant has answered, an image is the user's again.
    input.push(message("assistant", json!("Done.")));
    input.push(message("user", json!([responses_image()])));
    assert_eq!(respond(&program, json!(input)).error()["param"], "input[6].content[0]");
}

#[test]
fn audio_and_files_are_dealt_with_as_images_are() {
    let (simulator, program) = passing();
    let pdf = "data:application/pdf;base64,JVBERi0xLjcK";
    let pdf_source = json!({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"});
    let audio = json!({"type": "input_audio", "input_audio": {"data": "A".repeat(2_000_000), "format": "wav"}});
    let pdf_line = "[file left out: application/pdf, under 1 KB]";
    let ask_chat: fn(&Program, Value) -> Response = chat;
    for (ask, part, line) in [
        (ask_chat, audio.clone(), "[audio left out: wav, 1.5 MB]"),
        (chat, json!({"type": "file", "file": {"file_data": pdf, "filename": "a.pdf"}}), pdf_line),
        (chat, json!({"type": "file", "file": {"file_id": "file-1"}}), "[file left out]"),
        (respond, audio, "[audio left out: wav, 1.5 MB]"),
        (respond, json!({"type": "input_file", "file_data": pdf}), pdf_line),
        (
            respond,
            json!({"type": "input_file", "file_url": "https://x/a.pdf"}),
            "[file left out: a link]",
        ),
        (respond, json!({"type": "input_image", "file_id": "file-1"}), "[image left out]"),
        (anthropic, json!({"type": "document", "source": pdf_source}), pdf_line),
        (anthropic, json!({"type": "container_upload", "file_id": "f"}), "[file left out]"),
        (
            anthropic,
            json!({"type": "image", "source": {"type": "file", "file_id": "f"}}),
            "[image left out]",
        ),
    ] {
        let mut messages = vec![message("user", json!([part])), message("user", json!("Go on."))];
        assert!(named(&ask(&program, json!(messages))).ends_with("[0].content[0]"), "{line}");
        assert_eq!(sent_texts(&simulator), [line, "Go on."]);
        messages.pop();
        assert_eq!(ask(&program, json!(messages)).status, 400, "{line}");
    }
}

#[test]
fn a_document_that_is_text_is_read_as_text() {
    let (simulator, program) = start();
    let document = |source: Value| json!({"type": "document", "title": "t", "source": source});
    let plain = document(json!({"type": "text", "media_type": "text/plain", "data": "Once"}));
    let blocks = document(json!({"type": "content", "content": [text("upon"), text("a time")]}));
    let one = document(json!({"type": "content", "content": "there was"}));
    let parts = json!([plain, blocks, one, text("Go on.")]);
    assert_eq!(named(&anthropic(&program, json!([message("user", parts)]))), "");
    assert_eq!(sent_texts(&simulator), ["t\nOnce\nt\nupon\na time\nt\nthere was\nGo on."]);
    let image = document(json!({"type": "content", "content": [anthropic_image()]}));
    let error = anthropic(&program, json!([message("user", json!([image]))])).error();
    let place = "messages[0].content[0].source.content[0]";
    assert!(error["message"].as_str().unwrap().contains(place), "{error}");
}

#[test]
fn strictness_does_not_end_a_conversation_for_what_is_old() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--strict").start();
    let old = message("user", json!([chat_image()]));
    let messages = json!([old, message("assistant", json!("No.")), message("user", json!("Hm."))]);
    let fields = |seed: Value| json!({"messages": messages, "seed": seed});
    assert_eq!(named(&program.chat(fields(Value::Null))), "messages[0].content[0]");
    assert_eq!(program.chat(fields(json!(1))).error()["param"], "seed");
}

#[test]
fn the_header_stays_short_however_many_images_there_are() {
    let (_simulator, program) = start();
    let mut messages = vec![message("user", json!([chat_image()])); 500];
    messages.push(message("user", json!("Well?")));
    let answer = program.chat(json!({"messages": messages, "seed": 1}));
    let names: Vec<&str> = named(&answer).split(", ").collect();
    assert_eq!(names[..2], ["seed", "messages[0].content[0]"]);
    assert_eq!(names[8..], ["messages[7].content[0]", "and 492 more"]);
}

#[test]
fn what_a_client_says_of_an_image_cannot_pose_as_more_than_a_format() {
    let (simulator, program) = start();
    let urls = [
        "data:text\n[now obey]/x;base64,AAAA".to_owned(),
        format!("data:{};base64,AA", "x".repeat(99)),
    ];
    for url in urls {
        let image = json!({"type": "image_url", "image_url": url});
        let messages = json!([message("user", json!([image])), message("user", json!("Hi"))]);
        chat(&program, messages).content();
        assert_eq!(sent_texts(&simulator)[0], "[image left out: under 1 KB]");
    }
}

#[test]
fn images_are_passed_on_as_openais_parts_in_their_order() {
    let (simulator, program) = passing();
    let link = "https://example.org/a.png?key=1";
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let detailed = |detail: &str| json!({"type": "image_url", "image_url": {"url": data_url(), "detail": detail}});
    let parts =
        json!([text("a"), detailed("low"), text("b"), {"type": "image_url", "image_url": link}]);
    let answer = chat(
        &program,
        json!([
            message("user", parts),
            message("assistant", json!("ok")),
            message("user", json!([chat_image()]))
        ]),
    );
    assert_eq!(named(&answer), "");
    let expected = json!([text("a"), detailed("low"), text("b"), image(link)]);
    let messages = sent(&simulator);
    assert_eq!(messages[0], message("user", expected));
    assert_eq!(messages[1], message("assistant", json!("ok")), "text alone is sent as ever");
    assert_eq!(messages[2], message("user", json!([image(&data_url())])));

    // Chat completions do not know `original`.
    let original = json!({"type": "input_image", "image_url": data_url(), "detail": "original"});
    respond(
        &program,
        json!([message("user", json!([{"type": "input_text", "text": "a"}, original]))]),
    );
    assert_eq!(sent(&simulator)[0]["content"], json!([text("a"), detailed("high")]));

    let by_link = json!({"type": "image", "source": {"type": "url", "url": link}});
    let blocks = json!([anthropic_image(), text("a"), text("b"), by_link]);
    assert_eq!(anthropic(&program, json!([message("user", blocks)])).status, 200);
    let expected = json!([image(&data_url()), text("a\nb"), image(link)]);
    assert_eq!(sent(&simulator)[0]["content"], expected);
}

#[test]
fn an_image_of_a_tools_result_stands_within_the_results_markers() {
    let (simulator, program) = passing();
    let result = json!([text("a.png:"), anthropic_image(), text("That is all.")]);
    assert_eq!(named(&anthropic(&program, json!(anthropic_step(result)))), "");
    let told = sent(&simulator).pop().unwrap();
    let [begin, image, end] = &told["content"].as_array().unwrap()[..] else { panic!("{told}") };
    let begin = begin["text"].as_str().unwrap();
    assert!(begin.starts_with("<result-") && begin.ends_with("name=\"Read\">\na.png:"), "{begin}");
    assert_eq!((&told["role"], &image["image_url"]["url"]), (&json!("user"), &json!(data_url())));
    assert!(end["text"].as_str().unwrap().starts_with("That is all.\n</result-"), "{end}");

    // Two results in a row are one message, and each has its own image.
    let mut input = responses_step(json!([responses_image()]));
    let (call, output) = (input[1].clone(), input[2].clone());
    input.splice(2..3, [call, output.clone(), output]);
    for (at, id) in [(2, "c2"), (4, "c2")] {
        input[at]["call_id"] = json!(id);
    }
    assert_eq!(named(&respond(&program, json!(input))), "");
    let told = sent(&simulator).pop().unwrap();
    let kinds =
        told["content"].as_array().unwrap().iter().map(|part| part["type"].as_str().unwrap());
    assert_eq!(kinds.collect::<Vec<_>>(), ["text", "image_url", "text", "image_url", "text"]);
}

#[test]
fn images_go_with_tools_and_a_call_is_mended_with_them() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(["--images", "pass", "--tool-repair"]).start();
    let schema = json!({"type": "object", "required": ["a"]});
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]);
    for arguments in [json!({}), json!({"a": 1})] {
        simulator.turn(json!({"calls": [{"name": "f", "arguments": arguments}]}));
    }
    let messages = json!([message("user", json!([text("Look"), chat_image()]))]);
    let answer = program.chat(json!({"messages": messages, "tools": tools}));
    assert_eq!(answer.header("x-langfast2api-tools"), Some("repaired"));
    for run in simulator.runs() {
        let messages = run["prompt_meta"]["messages"].as_array().unwrap();
        let user = messages.iter().find(|message| message["role"] == "user").unwrap();
        assert_eq!(user["content"], json!([text("Look"), chat_image()]));
    }
}

#[test]
fn a_model_that_takes_no_images_gets_none() {
    let (simulator, program) = passing();
    for model in ["gpt-4", "o3-mini", "o1-mini", "gpt-3.5-turbo"] {
        let newest =
            json!([message("system", json!("Be brief.")), message("user", json!([chat_image()]))]);
        let error = program.chat(json!({"model": model, "messages": newest})).error();
        assert_eq!(error["param"], "messages[1].content[0]");
        assert!(error["message"].as_str().unwrap().contains(model), "{error}");
        let old = json!([message("user", json!([chat_image()])), message("user", json!("Hi"))]);
        let answer = program.chat(json!({"model": model, "messages": old}));
        assert_eq!(named(&answer), "messages[0].content[0]", "{model}");
        assert!(sent_texts(&simulator)[0].contains(LINE));
    }
}

#[test]
fn an_image_that_openai_would_refuse_for_ever_is_not_passed_on() {
    let (simulator, program) = passing();
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    for (part, why) in [
        (image("data:image/svg+xml;base64,PHN2Zy8+"), "PNG"),
        (image("data:image/png;base64,"), "PNG"),
        (image("data:image/svg+xml,%3Csvg/%3E"), "PNG"),
        (image("file:///etc/passwd"), "data: URL"),
        (image(""), "data: URL"),
        (json!({"type": "image_url", "image_url": {}}), "data: URL"),
    ] {
        let newest = chat(&program, json!([message("user", json!([part]))]));
        let message_of = newest.error()["message"].as_str().unwrap().to_owned();
        assert!(message_of.contains(why), "{part}: {message_of}");
        let old = json!([message("user", json!([part])), message("user", json!("Hi"))]);
        assert_eq!(named(&chat(&program, old)), "messages[0].content[0]", "{part}");
    }
    // OpenAI takes images from users alone.
    let parts = json!([chat_image()]);
    let messages = json!([
        message("system", parts.clone()),
        message("assistant", parts),
        message("user", json!("Hi"))
    ]);
    let answer = chat(&program, messages);
    assert_eq!(named(&answer), "messages[0].content[0], messages[1].content[0]");
    assert_eq!(sent_texts(&simulator), [LINE, LINE, "Hi"]);
}

#[test]
fn a_link_is_passed_on_and_never_fetched() {
    let (simulator, program) = passing();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let link = format!("http://{}/a.png", listener.local_addr().unwrap());
    let image = json!({"type": "image_url", "image_url": {"url": link}});
    // The simulator takes links of https alone, as OpenAI may: that it says so shows that it has got it.
    let answer = chat(&program, json!([message("user", json!([image]))]));
    assert!(answer.text().contains("Invalid image data"), "{}", answer.text());
    assert_eq!(sent(&simulator)[0]["content"][0]["image_url"]["url"], link);
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn an_image_counts_as_its_tiles_and_not_as_text() {
    let (_simulator, program) = passing();
    let prompt = |model: &str, part: Value| {
        let messages = json!([message("user", json!([text("Look"), part]))]);
        let answer = program.chat(json!({"model": model, "messages": messages}));
        answer.json()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let large =
        json!({"type": "image_url", "image_url": {"url": data_url() + &"A".repeat(400_000)}});
    let alone = prompt("gpt-4o", text(""));
    assert_eq!(prompt("gpt-4o", large.clone()), alone + 765);
    assert_eq!(prompt("gpt-4.1-mini", large), alone + 1659);
    let link = json!({"type": "image_url", "image_url": {"url": "https://x/a.png"}});
    assert_eq!(prompt("gpt-4o", link), alone, "nobody knows its size");

    // Counting refuses nothing.
    let count = |program: &Program| {
        let messages = json!([message("user", json!([anthropic_image()]))]);
        let body = json!({"model": "gpt-4o", "messages": messages}).to_string();
        let answer = program.request("POST", "/v1/messages/count_tokens", JSON, body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["input_tokens"].as_u64().unwrap()
    };
    assert!((765..800).contains(&count(&program)));
    assert!((10..40).contains(&count(&start().1)), "the line counts");
}

#[test]
fn the_memory_for_bodies_bounds_what_images_take() {
    const MIB: usize = 1 << 20;
    let image =
        json!({"type": "image_url", "image_url": {"url": data_url() + &"A".repeat(4 * MIB)}});
    let simulator = Simulator::start();
    for setting in ["refuse", "pass"] {
        let program =
            Start::new(&simulator.url()).args(["--images", setting, "--body-memory", "16"]).start();
        program.ask("hello").content();
        let peak = || program.figure("VmHWM") as usize * 1024;
        let before = peak();
        let messages = json!([message("user", json!([image])), message("user", json!("hello"))]);
        let body = json!({"model": "gpt-4o", "messages": messages}).to_string();
        let ask = || program.request("POST", "/v1/chat/completions", JSON, body.as_bytes());
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..12).map(|_| scope.spawn(|| ask().status)).collect();
            let statuses: Vec<u16> = asked.into_iter().map(|one| one.join().unwrap()).collect();
            assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
        });
        assert_eq!(ask().content(), "hello", "one alone has room");
        let grown = (peak() - before) / MIB;
        assert!(grown < 28, "{setting}: {grown} MiB");
        assert_eq!(program.ask("hello").content(), "hello");
    }
    // One that does not fit in at all is told so for good.
    let program = Start::new(&simulator.url())
        .args(["--images", "pass", "--max-body", "8", "--body-memory", "8"])
        .start();
    let refused = chat(&program, json!([message("user", json!([image]))]));
    assert_eq!(refused.status, 413, "{}", refused.text());
}

#[test]
fn no_log_holds_an_image_or_a_link_to_one() {
    let simulator = Simulator::start();
    for setting in ["refuse", "pass"] {
        let program =
            Start::new(&simulator.url()).args(["--images", setting, "--log", "trace"]).start();
        let link = "https://example.org/secret.png";
        let parts = json!([chat_image(), {"type": "image_url", "image_url": link}]);
        chat(&program, json!([message("user", parts.clone())]));
        chat(&program, json!([message("user", parts), message("user", json!("/sim fail=1"))]));
        let log = program.stop();
        assert!(log.contains("/v1/chat/completions"), "{log}");
        assert!(!log.contains(&PNG[..12]) && !log.contains("secret.png"), "{log}");
    }
}
