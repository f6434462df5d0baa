//! `/v1/responses` as a WebSocket: what clients are told, what they may send, and how it ends.

use std::io::Write;
use std::net::Shutdown;

use crate::simulator::Simulator;
use crate::support::scrape::Scrape;
use crate::support::stepped::{SILENT, Stepped};
use crate::support::websocket::{
    Client, by_hand, create, frame, frame_head, head, read_close, read_frame, text,
};
use crate::support::{Connection, Directory, Start, sent_texts, start, start_stepped, wait_until};
use rustix::net::sockopt;
use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

// Responses.

#[test]
fn the_events_are_those_of_the_stream_each_a_message() {
    let (_simulator, program) = start();
    let mut client = Client::open(&program);
    for _ in 0..2 {
        client.create(json!({"input": "/sim say=Hello"}));
        let events = client.events();
        let body = json!({"model": "gpt-5", "input": "/sim say=Hello", "stream": true});
        let json = "Content-Type: application/json\r\n";
        let stream = program.request("POST", "/v1/responses", json, body.to_string().as_bytes());
        let lines = stream.text().lines().filter_map(|line| line.strip_prefix("data: "));
        let streamed: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let deltas = |events: &[Value]| -> String {
            events.iter().filter_map(|event| event["delta"].as_str()).collect()
        };
        assert_eq!(deltas(&events), deltas(&streamed));
        let mut names = [kinds(&events), kinds(&streamed)];
        names.iter_mut().for_each(|names| names.dedup());
        assert_eq!(names[0], names[1]);
        let fields = |event: &Value| -> Vec<String> {
            event["response"].as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(fields(events.last().unwrap()), fields(streamed.last().unwrap()));
        let numbers = events.iter().map(|event| event["sequence_number"].as_u64().unwrap());
        assert!(numbers.eq(0..events.len() as u64));
    }
}

#[test]
fn what_is_left_out_is_named_in_the_first_message_of_a_response() {
    let (_simulator, program) = start();
    let mut client = Client::open(&program);
    let tools = json!([{"type": "web_search"}]);
    client.create(json!({"input": "/sim say=Hello", "truncation": "auto", "tools": tools}));
    let events = client.events();
    assert_eq!(events[0]["type"], "response.created");
    let headers = json!({"x-langfast2api-ignored": "truncation, tools.web_search"});
    assert_eq!(events[0]["headers"], headers, "{}", events[0]);
    assert!(events[1..].iter().all(|event| event.get("headers").is_none()), "{events:?}");
    client.create(json!({"input": "/sim say=Hello"}));
    assert!(client.events().iter().all(|event| event.get("headers").is_none()));
    // One that fails before its first event says nothing of it, nor does the next one.
    client.create(json!({"input": "/sim http=500", "truncation": "auto"}));
    assert_eq!(kinds(&client.events()), ["error"]);
    client.create(json!({"input": "/sim fail=1", "truncation": "auto"}));
    let events = client.events();
    assert_eq!(events[0]["headers"], json!({"x-langfast2api-ignored": "truncation"}));
}

#[test]
fn each_delta_comes_when_it_is_there() {
    let (simulator, program) = start_stepped();
    let mut client = Client::open(&program);
    client.create(json!({"input": SILENT}));
    let run = Stepped::only(&simulator);
    run.says("one ");
    let mut event = client.event();
    while event["type"] != "response.output_text.delta" {
        event = client.event();
    }
    assert_eq!(event["delta"], "one ");
    run.says("one two ");
    assert_eq!(client.event()["delta"], "two ");
    run.ends("one two ");
    assert_eq!(client.events().last().unwrap()["type"], "response.completed");
}

#[test]
fn fields_that_only_a_request_has_change_nothing_or_are_refused() {
    let (simulator, program) = start();
    let mut client = Client::open(&program);
    for stream in [json!(true), json!(false), json!(null)] {
        client.respond(json!({"stream": stream}));
    }
    let error = client.error(&create(json!({"background": true})));
    assert_eq!((&error["status"], &error["error"]["param"]), (&json!(400), &json!("background")));
    assert_eq!(simulator.stats().runs, 3);
}

#[test]
fn a_message_in_many_frames_among_pings_is_one_message() {
    let (_simulator, program) = start();
    let (mut connection, _) = by_hand(&program, "");
    let message = create(json!({"input": "/sim say=Grüße"})).to_string();
    let bytes = message.as_bytes();
    connection.write(&frame(0x01, &bytes[..1]));
    for byte in &bytes[1..bytes.len() - 1] {
        connection.write(&frame(0x00, &[*byte]));
        connection.write(&frame(0x89, b"x"));
    }
    connection.write(&frame(0x80, &bytes[bytes.len() - 1..]));
    let (mut pongs, mut all) = (0, String::new());
    while !all.contains("response.completed") {
        match read_frame(&mut connection).unwrap() {
            (0x8a, payload) if payload == b"x" => pongs += 1,
            (0x81, payload) => all += std::str::from_utf8(&payload).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert!(all.contains("Grüße"));
    assert_eq!(pongs, bytes.len() - 2);
}

#[test]
fn messages_that_come_meanwhile_are_answered_in_their_order() {
    let (simulator, program) = start_stepped();
    let mut client = Client::open(&program);
    for at in 0..3 {
        let lane = ["a", "b", "a"][at];
        client.create(json!({"input": SILENT, "stream_id": lane}));
    }
    client.send(&json!({"type": "response.cancel", "stream_id": "a"}));
    for (at, lane) in ["a", "b", "a"].iter().enumerate() {
        let run = Stepped::nth(&simulator, at + 1);
        assert_eq!(simulator.stats().runs, at + 1, "one at a time");
        run.ends(&format!("answer {at}"));
        let events = client.events();
        assert!(events.iter().all(|event| event["stream_id"] == *lane), "{events:?}");
        assert_eq!(text(&events.last().unwrap()["response"]), format!("answer {at}"));
    }
    let error = client.event();
    assert_eq!((&error["error"]["param"], &error["stream_id"]), (&json!("type"), &json!("a")));
    assert!(error["error"]["message"].as_str().unwrap().contains("close the WebSocket"), "{error}");
}

#[test]
fn a_client_that_sends_without_end_is_read_no_faster_than_it_is_answered() {
    let (simulator, program) = start_stepped();
    let mut client = Client::open(&program);
    client.create(json!({"input": SILENT}));
    let run = Stepped::only(&simulator);
    let padding = "x".repeat(1 << 20);
    let rest = std::thread::scope(|scope| {
        let mut writer = client.0.get_ref().try_clone().unwrap();
        let sending = scope.spawn(move || {
            let message = create(json!({"input": SILENT, "padding": padding}));
            let bytes = frame(0x81, message.to_string().as_bytes());
            (0..24).all(|_| std::io::Write::write_all(&mut writer, &bytes).is_ok())
        });
        run.ends("one");
        client.events();
        for number in 2..=25 {
            Stepped::nth(&simulator, number).ends("more");
            client.events();
        }
        sending.join().unwrap()
    });
    assert!(rest);
    assert_eq!(simulator.stats().runs, 25);
}

// Continued.

#[test]
fn the_newest_response_of_the_connection_is_continued_without_being_stored() {
    for store in ["0", "16"] {
        let simulator = Simulator::start();
        let program = Start::new(&simulator.url()).args(["--store-responses", store]).start();
        let mut client = Client::open(&program);
        let mut last = Value::Null;
        for at in 0..3 {
            simulator.turn(json!({"text": format!("Answer {at}.")}));
            last = client.respond(json!({
                "input": format!("Question {at}?"), "store": false,
                "previous_response_id": last.get("id")
            }));
            assert_eq!(last["store"], false);
        }
        let all = ["Question 0?", "Answer 0.", "Question 1?", "Answer 1.", "Question 2?"];
        assert_eq!(sent_texts(&simulator), all);
        let id = last["id"].as_str().unwrap();
        assert_eq!(program.get(&format!("/v1/responses/{id}")).status, 404, "it is not stored");

        let mut other = Client::open(&program);
        let again = create(json!({"previous_response_id": id, "store": false}));
        let error = other.error(&again);
        assert_eq!(error["error"]["code"], "previous_response_not_found");
        assert_eq!(
            (&error["status"], &error["error"]["param"]),
            (&json!(400), &json!("previous_response_id"))
        );
        // Whoever is told so sends everything again, on the same connection.
        other.respond(json!({"input": "All of it"}));
        drop(client);
        assert_eq!(simulator.stats().runs, 4);
    }
}

#[test]
fn outputs_of_tools_and_references_to_items_continue_a_response_that_is_not_stored() {
    let (simulator, program) = start();
    let mut client = Client::open(&program);
    let weather = json!({"name": "weather", "arguments": {"place": "Oslo"}});
    simulator.turn(json!({"text": "Let me look.", "calls": [weather]}));
    let tools = json!([{"type": "function", "name": "weather", "parameters": {"type": "object"}}]);
    let first = client.respond(json!({"input": "Weather?", "tools": tools, "store": false}));
    let call = &first["output"][1];
    simulator.turn(json!({"text": "It rains."}));
    let second = client.respond(json!({
        "input": [
            {"type": "item_reference", "id": first["output"][0]["id"]},
            {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
        ],
        "previous_response_id": first["id"], "tools": tools, "store": false
    }));
    assert_eq!(text(&second), "It rains.");
    let texts = sent_texts(&simulator);
    let has = |text: &str| texts.iter().any(|sent| sent.contains(text));
    assert!(has("Weather?") && has("Oslo") && has("rain"), "{texts:?}");
}

#[test]
fn a_stored_response_is_found_from_a_request_and_from_a_connection() {
    let (simulator, program) = start();
    let mut client = Client::open(&program);
    let first = client.respond(json!({"input": "/sim say=One"}));
    let id = first["id"].as_str().unwrap();
    assert_eq!(first["store"], true);
    assert_eq!(text(&program.get(&format!("/v1/responses/{id}")).json()), "One");
    drop(client);
    let mut client = Client::open(&program);
    client.respond(json!({"input": "Two?", "previous_response_id": id}));
    assert_eq!(sent_texts(&simulator), ["/sim say=One", "One", "Two?"]);
}

#[test]
fn what_another_instance_has_stored_is_not_found_and_starts_no_run() {
    let simulator = Simulator::start();
    let start = |name: &str| Start::new(&simulator.url()).args(["--instance", name]);
    let one = start("one").start();
    let others = format!("one=http://{},two=http://127.0.0.1:1", one.address());
    let two = start("two").args(["--instances", &others]).start();
    let stored = Client::open(&one).respond(json!({}));
    assert!(stored["id"].as_str().unwrap().starts_with("resp_one_"));
    let mut client = Client::open(&two);
    let error = client.error(&create(json!({"previous_response_id": stored["id"]})));
    assert_eq!(error["error"]["code"], "previous_response_not_found");
    assert_eq!(simulator.stats().runs, 1);
    let own = client.respond(json!({"store": false}));
    assert!(own["id"].as_str().unwrap().starts_with("resp_two_"));
    client.respond(json!({"previous_response_id": own["id"], "store": false}));
}

#[test]
fn each_lane_keeps_its_newest_and_a_failure_takes_nothing_away() {
    let (simulator, program) = start();
    let mut client = Client::open(&program);
    let planner = client.respond(json!({"store": false, "stream_id": "planner"}));
    let research = client.respond(json!({"store": false, "stream_id": "research"}));
    let fork = |lane: &str, parent: &Value, input: &str| {
        create(json!({
            "store": false, "stream_id": lane, "previous_response_id": parent["id"], "input": input
        }))
    };
    client.send(&fork("critic", &planner, "Gaps?"));
    client.events();
    assert_eq!(sent_texts(&simulator).len(), 3);
    client.send(&fork("planner", &planner, "/sim error=boom"));
    let error = client.events().pop().unwrap();
    assert_eq!((&error["type"], &error["stream_id"]), (&json!("error"), &json!("planner")));
    client.send(&fork("planner", &planner, "Again."));
    assert_eq!(client.events().last().unwrap()["type"], "response.completed");
    client.send(&fork("research", &research, "More."));
    client.events();
    let error = client.error(&fork("planner", &planner, "The one before the newest"));
    assert_eq!(error["error"]["code"], "previous_response_not_found");
    assert_eq!(error["stream_id"], "planner");
}

#[test]
fn names_of_lanes_are_checked_and_counted() {
    let (simulator, program) = start();
    let mut client = Client::open(&program);
    for name in [json!(""), json!("a b"), json!(7), json!("x".repeat(257))] {
        let error = client.error(&create(json!({"stream_id": name})));
        assert_eq!(error["error"]["code"], "invalid_stream_id");
        assert_eq!(error.get("stream_id"), None);
    }
    for at in 0..32 {
        client.respond(json!({"stream_id": format!("lane{at}"), "generate": false}));
    }
    let error = client.error(&create(json!({"stream_id": "lane32"})));
    assert_eq!(error["error"]["code"], "websocket_stream_limit_reached");
    assert_eq!(error["stream_id"], "lane32");
    client.respond(json!({"stream_id": "lane3", "generate": false}));
    client.respond(json!({"generate": false}));
    assert_eq!(simulator.stats().runs, 0);
}

#[test]
fn a_warm_up_costs_no_run_and_can_be_continued() {
    let (simulator, program) = start();
    let mut client = Client::open(&program);
    for input in [json!([]), json!(null), json!("Rules.")] {
        let warm = client.respond(json!({"generate": false, "input": input, "store": false}));
        assert_eq!((&warm["output"], &warm["status"]), (&json!([]), &json!("completed")));
        let runs = simulator.stats().runs;
        client.respond(json!({"previous_response_id": warm["id"], "input": "Go."}));
        assert_eq!(simulator.stats().runs, runs + 1);
        assert_eq!(sent_texts(&simulator).last().unwrap(), "Go.");
    }
    assert_eq!(sent_texts(&simulator), ["Rules.", "Go."]);
    let error = client.error(&create(json!({"input": []})));
    assert_eq!(error["error"]["param"], "input");
}

// Errors.

#[test]
fn an_error_has_a_status_is_the_only_end_and_leaves_the_connection_open() {
    let (simulator, program) = start_stepped();
    let mut client = Client::open(&program);
    for (message, param) in [
        (create(json!({"model": 7})), json!("model")),
        (json!({"type": "response.create", "model": "gpt-5"}), json!("input")),
        (json!({"type": "session.update"}), json!("type")),
        (json!({"model": "gpt-5"}), json!("type")),
        (json!([]), Value::Null),
    ] {
        let error = client.error(&message);
        assert_eq!((&error["status"], &error["error"]["param"]), (&json!(400), &param), "{error}");
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert_eq!(error["error"]["headers"], error["headers"]);
        assert!(error["headers"]["x-request-id"].as_str().unwrap().starts_with("req_"));
    }
    client.0.send(Message::text("{garbage")).unwrap();
    assert_eq!(client.event()["status"], 400);

    client.create(json!({"input": SILENT}));
    let run = Stepped::only(&simulator);
    run.says("half ");
    while client.event()["type"] != "response.output_text.delta" {}
    run.emits(json!({"error": "boom"}));
    let end = client.event();
    assert_eq!((&end["type"], &end["status"]), (&json!("error"), &json!(502)), "{end}");
    assert!(end["sequence_number"].as_u64().unwrap() > 2);
    let error = client.error(&json!({"type": "response.cancel"}));
    assert_eq!(error["error"]["param"], "type", "nothing else came behind the end");
}

#[test]
fn what_is_steered_comes_back_and_what_wants_no_answer_gets_none() {
    let (_simulator, program) = start();
    let mut client = Client::open(&program);
    client.send(&json!({"type": "response.processed", "response_id": "resp_1"}));
    let input = json!([{"role": "user", "content": "Left!"}]);
    client.send(&json!({
        "type": "response.steer", "previous_response_id": "resp_1", "input": input
    }));
    let event = client.event();
    assert_eq!(event["type"], "response.steer.failed");
    assert_eq!(event["error"]["code"], "steering_not_supported");
    assert_eq!(event["steer"], json!({"input": input, "previous_response_id": "resp_1"}));
    assert_eq!(program.times_logged("nobody gave an answer"), 0);
}

#[test]
fn a_permit_is_taken_for_a_response_and_not_for_a_connection() {
    let simulator = Simulator::builder().literal_socket().start();
    let program = Start::new(&simulator.url()).args(["--max-requests", "1"]).start();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::open(&program)).collect();
    clients[0].create(json!({"input": SILENT}));
    let run = Stepped::only(&simulator);
    let error = clients[1].error(&create(json!({})));
    assert_eq!((&error["status"], &error["error"]["code"]), (&json!(503), &json!("overloaded")));
    assert_eq!(error["headers"]["retry-after"], "1");
    run.ends("done");
    clients[0].events();
    clients[2].create(json!({"input": SILENT}));
    Stepped::nth(&simulator, 2).ends("done");
    assert_eq!(clients[2].events().last().unwrap()["type"], "response.completed");
}

// Bad input.

#[test]
fn frames_that_break_the_protocol_end_the_connection_with_their_code() {
    let (simulator, program) = start();
    let begun = |first, length| [frame_head(first, length), vec![1, 2, 3, 4]].concat();
    for (what, bytes, code) in [
        ("binary", frame(0x82, b"{}"), 1003),
        ("not UTF-8", frame(0x81, b"\xff\xfe"), 1007),
        ("compressed", frame(0xc1, b"{}"), 1002),
        ("an unknown opcode", frame(0x83, b"{}"), 1002),
        ("an unknown control frame", frame(0x8b, b""), 1002),
        ("not masked", b"\x81\x02{}".to_vec(), 1002),
        ("a continuation of nothing", frame(0x80, b"{}"), 1002),
        ("a ping in pieces", frame(0x09, b""), 1002),
        ("a long ping", frame(0x89, &[b'x'; 126]), 1002),
        ("a very long ping", begun(0x89, 15 << 20), 1002),
        ("too long", begun(0x81, 17 << 20), 1009),
        ("longer than anything", begun(0x81, u64::MAX >> 1), 1009),
        ("of more bytes than there are", begun(0x81, u64::MAX), 1009),
    ] {
        let (mut connection, _) = by_hand(&program, "");
        connection.write(&bytes);
        assert_eq!(read_close(&mut connection), code, "{what}");
        assert!(read_frame(&mut connection).is_none(), "{what}");
    }
    let mut client = Client::open(&program);
    client.respond(json!({}));
    assert_eq!(simulator.stats().runs, 1);
}

#[test]
fn who_sends_frames_without_end_keeps_neither_an_answer_nor_the_servers_end() {
    let simulator = Simulator::start();
    let start = Start::new(&simulator.url()).env("LANGFAST2API_SHUTDOWN_TIMEOUT", "3600");
    let program = start.start();
    let (mut connection, _) = by_hand(&program, "");
    let mut sender = connection.stream.get_ref().try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        // Pieces that are empty make no message, and want no answer.
        let first = [frame(0x81, create(json!({})).to_string().as_bytes()), frame(0x01, b"")];
        let pieces = frame(0x00, b"").repeat(1000);
        let sent = sender.write_all(&first.concat());
        while sent.is_ok() && sender.write_all(&pieces).is_ok() {}
    });
    let mut last = Vec::new();
    while !String::from_utf8_lossy(&last).contains("response.completed") {
        last = read_frame(&mut connection).expect("the answer").1;
    }
    program.signal(Signal::TERM);
    assert_eq!(read_close(&mut connection), 1001);
    drop(connection);
    program.stop();
    flood.join().unwrap();
}

#[test]
fn a_key_that_counts_no_more_has_no_message_answered() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let file = directory.path().join("api-keys");
    let [alice, bob] = ["sk-alice-0123456789", "sk-bob-0123456789"];
    let write = |keys: &[&str]| std::fs::write(&file, keys.join("\n")).unwrap();
    write(&[alice, bob]);
    let program = Start::new(&simulator.url()).arg("--api-keys-file").arg(&file).start();
    let open = |key| Client::open_at(program.address(), "/v1/responses", &[("api-key", key)]);
    let [mut of_alice, mut of_bob] = [alice, bob].map(|key| open(key).unwrap());
    let response = of_alice.respond(json!({}));
    write(&[bob]);
    program.signal(Signal::HUP);
    program.wait_for_log("reloaded");
    let continued = json!({"previous_response_id": response["id"]});
    let error = of_alice.error(&create(continued));
    assert_eq!(
        (&error["status"], &error["error"]["code"]),
        (&json!(401), &json!("invalid_api_key"))
    );
    of_bob.respond(json!({}));
    assert_eq!(simulator.stats().runs, 2);
    write(&[alice, bob]);
    program.signal(Signal::HUP);
    wait_until("both keys", || program.times_logged("reloaded") == 2);
    of_alice.respond(json!({}));
}

#[test]
fn a_message_in_pieces_has_the_same_limit_and_is_told_so() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(["--max-body", "1"]).start();
    let (mut connection, _) = by_hand(&program, "");
    connection.write(&frame(0x01, &vec![b' '; 700_000]));
    connection.write(&frame(0x80, &vec![b' '; 700_000]));
    let (first, message) = read_frame(&mut connection).unwrap();
    let error: Value = serde_json::from_slice(&message).unwrap();
    assert_eq!((first, &error["status"], &error["type"]), (0x81, &json!(413), &json!("error")));
    assert_eq!(read_close(&mut connection), 1009);

    let mut client = Client::open(&program);
    let mut just = create(json!({"padding": ""})).to_string().into_bytes();
    let padding = vec![b'x'; (1 << 20) - just.len()];
    let at = just.len() - 2;
    just.splice(at..at, padding);
    assert_eq!(just.len(), 1 << 20);
    client.0.send(Message::text(String::from_utf8(just).unwrap())).unwrap();
    assert_eq!(client.events().last().unwrap()["type"], "response.completed");
}

#[test]
fn messages_share_the_memory_of_all_bodies() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url())
        .args(["--max-body", "2", "--body-memory", "2", "--head-timeout", "5"])
        .start();
    // Half of a message is on its way, and so holds nearly all of the memory.
    let (mut holder, _) = by_hand(&program, "");
    holder.write(&frame_head(0x81, 2_000_000));
    holder.write(&[1, 2, 3, 4]);
    holder.write(&vec![b' '; 1_000_000]);
    // One that has some already does not wait for more.
    wait_until("the memory to be taken", || {
        let (mut connection, _) = by_hand(&program, "");
        connection.write(&frame(0x01, &vec![b' '; 20_000]));
        connection.write(&frame(0x80, &vec![b' '; 60_000]));
        let (_, message) = read_frame(&mut connection).unwrap();
        let error: Value = serde_json::from_slice(&message).unwrap();
        error["status"] == 503 && read_close(&mut connection) == 1013
    });
    // One that has none yet waits, and one that comes no further gives it back.
    let mut client = Client::open(&program);
    client.create(json!({"padding": "x".repeat(500_000)}));
    assert_eq!(read_close(&mut holder), 1008);
    assert_eq!(client.events().last().unwrap()["type"], "response.completed");
}

#[test]
fn the_memory_of_a_large_message_is_given_back_while_the_connection_stays() {
    let (_simulator, program) = start();
    let mut clients: Vec<Client> = (0..8).map(|_| Client::open(&program)).collect();
    clients.iter_mut().for_each(|client| drop(client.respond(json!({}))));
    let before = program.figure("VmRSS");
    let padding = "x".repeat(8 << 20);
    for client in &mut clients {
        client.respond(json!({"padding": padding}));
    }
    // Otherwise 64 MiB would stay.
    wait_until("the memory", || program.figure("VmRSS") < before + 32 * 1024);
    clients.iter_mut().for_each(|client| drop(client.respond(json!({}))));
}

#[test]
fn a_slow_reader_gets_everything_and_one_that_stops_reading_is_given_up() {
    let simulator = Simulator::builder().literal_socket().start();
    let program = Start::new(&simulator.url()).args(["--write-timeout", "4"]).start();
    let mut slow = Client::open(&program);
    slow.create(json!({"input": SILENT}));
    let run = Stepped::only(&simulator);
    let part = "x".repeat(100_000);
    let text = part.repeat(5);
    (1..=4).for_each(|parts| run.says(&part.repeat(parts)));
    run.ends(&text);
    let events = slow.events();
    let deltas: usize =
        events.iter().filter_map(|event| event["delta"].as_str()).map(str::len).sum();
    assert_eq!(deltas, text.len());

    let mut deaf = Client::open(&program);
    // Its system keeps little for it.
    sockopt::set_socket_recv_buffer_size(deaf.0.get_ref(), 4096).unwrap();
    deaf.create(json!({"input": SILENT, "store": false}));
    let run = Stepped::nth(&simulator, 2);
    // More than the program's system keeps for it.
    (1..=8).for_each(|parts| run.says(&part.repeat(10 * parts)));
    program.wait_for_log("error=client_gone");
    assert_eq!(program.times_logged("error=client_gone"), 1);
}

// The handshake.

#[test]
fn what_is_offered_besides_is_not_taken_up() {
    let (_simulator, program) = start();
    let (mut connection, head) = by_hand(
        &program,
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
         Sec-WebSocket-Protocol: realtime\r\nOpenAI-Beta: responses_websockets=2026-02-06\r\n",
    );
    let head = head.to_ascii_lowercase();
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    assert!(head.contains("x-request-id: req_"), "{head}");
    for field in ["sec-websocket-extensions", "sec-websocket-protocol", "content-length"] {
        assert!(!head.contains(field), "{head}");
    }
    connection.write(&frame(0x81, create(json!({})).to_string().as_bytes()));
    assert_eq!(read_frame(&mut connection).unwrap().0, 0x81, "not compressed");
}

#[test]
fn a_message_behind_the_head_in_the_same_packet_is_answered() {
    let (_simulator, program) = start();
    let mut connection = Connection::open(program.address());
    let mut bytes = head("").into_bytes();
    bytes.extend(frame(0x81, create(json!({})).to_string().as_bytes()));
    bytes.extend(frame(0x89, b"there"));
    connection.write(&bytes);
    assert_eq!(connection.head().status, 101);
    let mut frames = std::iter::from_fn(|| read_frame(&mut connection));
    let found = frames.by_ref().find(|(first, _)| *first == 0x8a);
    assert_eq!(found.unwrap().1, b"there");
    assert!(
        frames.any(|(_, data)| String::from_utf8(data).unwrap().contains("response.completed"))
    );
}

#[test]
fn what_is_no_websocket_is_told_so_in_the_usual_form() {
    let (_simulator, program) = start();
    let ask = |from: &str, to: &str| {
        let mut connection = Connection::open(program.address());
        connection.write(head("").replace(from, to).as_bytes());
        connection.response()
    };
    let version = ask("Version: 13", "Version: 8");
    assert_eq!((version.status, version.header("sec-websocket-version")), (426, Some("13")));
    assert_eq!(version.error()["type"], "invalid_request_error");
    for (from, to) in [
        ("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        ("Connection: Upgrade\r\n", ""),
        ("Sec-WebSocket-Key", "X-Key"),
        ("HTTP/1.1", "HTTP/1.0"),
    ] {
        assert_eq!(ask(from, to).status, 400, "{from}");
    }
    assert_eq!(ask("Upgrade: websocket\r\n", "").status, 405);
    // Elsewhere, or for something else, nobody minds the wish.
    assert_eq!(ask("/v1/responses", "/v1/models").status, 200);
    assert_eq!(ask("/v1/responses", "/v1/chat/completions").status, 405);
    assert_eq!(ask("GET ", "DELETE ").status, 405);
    for path in ["/responses", "/openai/v1/responses?api-version=preview", "//v1/responses/"] {
        assert!(Client::open_at(program.address(), path, &[]).is_ok(), "{path}");
    }
}

#[test]
fn keys_are_asked_for_before_the_upgrade_and_tell_owners_apart() {
    let simulator = Simulator::start();
    let program =
        Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", "one-key,two-key").start();
    let open =
        |headers: &[(&str, &str)]| Client::open_at(program.address(), "/v1/responses", headers);
    for headers in [&[][..], &[("Authorization", "Bearer wrong")]] {
        let refused = open(headers).err().unwrap();
        assert_eq!(
            (refused.status, &refused.body["error"]["code"]),
            (401, &json!("invalid_api_key"))
        );
    }
    let mut one = open(&[("Authorization", "Bearer one-key")]).unwrap();
    let id = one.respond(json!({}))["id"].clone();
    let mut two = open(&[("api-key", "two-key")]).unwrap();
    let error = two.error(&create(json!({"previous_response_id": id})));
    assert_eq!(error["error"]["code"], "previous_response_not_found");
    one.respond(json!({"previous_response_id": id}));
}

#[test]
fn a_foreign_page_opens_no_websocket() {
    let simulator = Simulator::start();
    let program =
        Start::new(&simulator.url()).args(["--cors-origins", "https://good.example"]).start();
    let open =
        |headers: &[(&str, &str)]| Client::open_at(program.address(), "/v1/responses", headers);
    // What browsers send: no preflight, and no key that a page could not add.
    for headers in [
        &[("Origin", "https://evil.example")][..],
        &[("Origin", "null")],
        &[("Origin", "https://evil.example"), ("Sec-Fetch-Mode", "websocket")],
        &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "websocket")],
    ] {
        let refused = open(headers).err().unwrap();
        assert_eq!(
            (refused.status, &refused.body["error"]["type"]),
            (403, &json!("permission_error"))
        );
    }
    let mut rebound = Connection::open(program.address());
    rebound.write(head("").replace("Host: localhost", "Host: evil.example").as_bytes());
    assert_eq!(rebound.response().status, 403);
    let own = format!("http://{}", program.address());
    for headers in [&[("Origin", "https://good.example")][..], &[("Origin", &*own)]] {
        open(headers).unwrap().respond(json!({}));
    }
    assert_eq!(simulator.stats().runs, 2);
}

// The end.

#[test]
fn a_client_that_goes_gives_its_run_up_however_it_goes() {
    let (simulator, program) = start_stepped();
    let goodbye = |client: &mut Client| client.0.close(None).unwrap();
    let half = |client: &mut Client| client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    let gone = |client: &mut Client| client.0.get_ref().shutdown(Shutdown::Both).unwrap();
    for (at, go) in [goodbye, half, gone].into_iter().enumerate() {
        let mut client = Client::open(&program);
        client.create(json!({"input": SILENT, "store": false}));
        let run = Stepped::nth(&simulator, at + 1);
        run.says("one ");
        client.event();
        go(&mut client);
        wait_until("the request's end", || program.times_logged("error=client_gone") == at + 1);
        run.emits(json!({"error": "boom"}));
        wait_until("no run", || program.times_logged("a failure of no run that is ours") == at + 1);
    }
}

#[test]
fn a_goodbye_is_returned_also_within_a_response() {
    let (simulator, program) = start_stepped();
    for asks in [false, true] {
        let mut client = Client::open(&program);
        if asks {
            client.create(json!({"input": SILENT, "store": false}));
            Stepped::only(&simulator).says("one ");
            client.event();
        }
        let code = tungstenite::protocol::frame::coding::CloseCode::Library(4242);
        let frame = tungstenite::protocol::CloseFrame { code, reason: "bye".into() };
        client.0.close(Some(frame)).unwrap();
        assert_eq!(client.close_code(), 4242);
    }
}

#[test]
fn a_stored_response_is_completed_for_a_client_that_has_gone() {
    let (simulator, program) = start_stepped();
    let mut client = Client::open(&program);
    client.create(json!({"input": SILENT}));
    let run = Stepped::only(&simulator);
    run.says("one ");
    let id = client.event()["response"]["id"].as_str().unwrap().to_owned();
    drop(client);
    run.ends("one two");
    wait_until("the whole response", || {
        text(&program.get(&format!("/v1/responses/{id}")).json()) == "one two"
    });
}

#[test]
fn at_shutdown_idle_connections_end_and_a_response_under_way_is_completed() {
    let (simulator, mut program) = start_stepped();
    let mut idle = Client::open(&program);
    idle.respond(json!({"generate": false}));
    let mut busy = Client::open(&program);
    busy.create(json!({"input": SILENT}));
    let run = Stepped::only(&simulator);
    run.says("one ");
    busy.event();
    program.signal(Signal::TERM);
    assert_eq!(idle.close_code(), 1001);
    run.ends("one two");
    let last = busy.events().pop().unwrap();
    assert_eq!((&last["type"], text(&last["response"])), (&json!("response.completed"), "one two"));
    assert_eq!(busy.close_code(), 1001);
    drop((idle, busy));
    assert!(program.wait().success());
}

#[test]
fn a_response_that_shutdown_cuts_short_ends_with_an_error() {
    let simulator = Simulator::builder().literal_socket().start();
    let program = Start::new(&simulator.url()).args(["--shutdown-timeout", "1"]).start();
    let mut client = Client::open(&program);
    client.create(json!({"input": SILENT}));
    Stepped::only(&simulator).says("one ");
    client.event();
    program.signal(Signal::TERM);
    let last = client.events().pop().unwrap();
    assert_eq!((&last["type"], &last["status"]), (&json!("error"), &json!(503)), "{last}");
}

#[test]
fn an_idle_client_is_pinged_and_one_that_is_silent_is_given_up() {
    let simulator = Simulator::builder().literal_socket().start();
    let program =
        Start::new(&simulator.url()).args(["--keep-alive", "1", "--idle-timeout", "1"]).start();
    // This one answers no pings.
    let (mut silent, _) = by_hand(&program, "");
    let mut client = Client::open(&program);
    let mut pings = 0;
    while pings < 4 {
        pings += usize::from(matches!(client.0.read().unwrap(), Message::Ping(_)));
    }
    assert_eq!(read_frame(&mut silent), Some((0x89, Vec::new())));
    assert_eq!(read_frame(&mut silent).filter(|(first, _)| *first != 0x89), None);
    while read_frame(&mut silent).is_some() {}

    client.create(json!({"input": SILENT}));
    let run = Stepped::only(&simulator);
    run.says("one ");
    while client.event()["type"] != "response.output_text.delta" {}
    assert!(matches!(client.0.read().unwrap(), Message::Ping(_)), "within a response, too");
    run.ends("one ");
    assert_eq!(client.events().last().unwrap()["type"], "response.completed");
}

#[test]
fn a_client_that_only_listened_to_a_long_answer_is_not_taken_for_lost() {
    let simulator = Simulator::start();
    let program =
        Start::new(&simulator.url()).args(["--keep-alive", "1", "--idle-timeout", "1"]).start();
    let mut client = Client::open(&program);
    // Text all the time, so that there is no ping to answer, for longer than silence is borne.
    let long = "/sim text=lorem events=30 delay=100";
    for _ in 0..2 {
        client.respond(json!({"input": long}));
    }
    wait_until("the log", || program.times_logged("status=200") == 2);
}

// What operators see.

#[test]
fn each_response_is_a_line_of_the_log_and_counts_as_a_request() {
    let (_simulator, program) = start();
    let mut client = Client::open(&program);
    for _ in 0..3 {
        client.respond(json!({}));
    }
    client.error(&json!({"type": "response.cancel"}));
    wait_until("the log", || program.times_logged("GET /v1/responses") == 4);
    let log = program.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("GET /v1/responses")).collect();
    assert!(lines[..3].iter().all(|line| line.contains("status=200") && line.contains("model=")));
    assert!(lines[3].contains("status=400"), "{}", lines[3]);
    let scrape = || Scrape::of(&program);
    let requests = |status: &str| {
        let labels = [("route", "/v1/responses"), ("status", status)];
        scrape().sum("langfast2api_requests_total", &labels)
    };
    assert_eq!((requests("200"), requests("400")), (3.0, 1.0));
    assert_eq!(scrape().sum("langfast2api_websockets", &[]), 1.0);
    drop(client);
    wait_until("the connection's end", || scrape().sum("langfast2api_websockets", &[]) == 0.0);
}
