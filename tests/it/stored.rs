//! Responses that are stored: continued, fetched again, run in the background, and let go.

use std::io::Write;

use crate::simulator::Simulator;
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{
    Connection, Program, Response, Start, free_address, sent, start, start_stepped, wait_until,
};
use serde_json::{Value, json};

const JSON: &str = "Content-Type: application/json\r\n";

fn with(mut fields: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    fields.as_object_mut().unwrap().extend(more);
    fields
}

fn body(fields: &Value) -> Vec<u8> {
    let defaults = json!({"model": "gpt-5", "input": "Hi"});
    with(defaults, fields.clone()).to_string().into_bytes()
}

fn post(program: &Program, fields: &Value) -> Response {
    program.request("POST", "/v1/responses", JSON, &body(fields))
}

/// The response to these fields, whether it is streamed or not.
fn create(program: &Program, fields: &Value) -> Value {
    let answer = post(program, fields);
    assert_eq!(answer.status, 200, "{}", answer.text());
    match fields["stream"] == true {
        true => events(answer.text()).last().unwrap()["response"].clone(),
        false => answer.json(),
    }
}

fn open(program: &Program, fields: &Value) -> Connection {
    program.send("POST", "/v1/responses", JSON, &body(fields))
}

fn events(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn id(response: &Value) -> &str {
    response["id"].as_str().unwrap()
}

fn get(program: &Program, response: &Value, rest: &str) -> Response {
    program.get(&format!("/v1/responses/{}{rest}", id(response)))
}

fn status(program: &Program, response: &Value) -> String {
    get(program, response, "").json()["status"].as_str().unwrap_or_default().to_owned()
}

/// Reads a stream until this is in it.
fn read_until(connection: &mut Connection, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        read += &String::from_utf8(connection.chunk().expect("more of the stream")).unwrap();
    }
    read
}

fn weather() -> Value {
    json!({"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": false})
}

fn in_oslo() -> Value {
    json!({"name": "weather", "arguments": {"place": "Oslo"}})
}

// Continued.

#[test]
fn a_conversation_is_continued_by_the_id_of_its_last_response_alone() {
    let (simulator, program) = start();
    let mut last = Value::Null;
    for (at, stream) in [false, true, false].into_iter().enumerate() {
        simulator.turn(json!({"text": format!("Answer {at}.")}));
        let fields = json!({
            "input": format!("Question {at}?"), "instructions": format!("Rule {at}."),
            "previous_response_id": last.get("id"), "stream": stream
        });
        let response = create(&program, &fields);
        assert_eq!((&response["store"], &response["status"]), (&json!(true), &json!("completed")));
        assert_eq!(response["previous_response_id"], fields["previous_response_id"]);
        last = response;
    }
    let texts: Vec<String> = sent(&simulator).into_iter().map(|(_, text)| text).collect();
    assert_eq!(
        texts,
        ["Rule 2.", "Question 0?", "Answer 0.", "Question 1?", "Answer 1.", "Question 2?"],
        "instructions are those of the request alone"
    );
}

#[test]
fn a_conversation_goes_on_without_any_input_of_its_own() {
    let (simulator, program) = start();
    let first = create(&program, &json!({"input": "Begin"}));
    for input in [Value::Null, json!([])] {
        let fields = json!({"input": input, "previous_response_id": first["id"]});
        assert_eq!(create(&program, &fields)["status"], "completed");
        let expected = [("user", "Begin"), ("assistant", "Begin")];
        assert!(
            sent(&simulator).iter().map(|(role, text)| (&**role, &**text)).eq(expected),
            "{:?}",
            sent(&simulator)
        );
        let alone = post(&program, &json!({"input": input}));
        assert_eq!((alone.status, &alone.error()["param"]), (400, &json!("input")));
    }
}

#[test]
fn outputs_of_tools_continue_the_response_that_calls_them() {
    for stream in [false, true] {
        let (simulator, program) = start();
        simulator.turn(json!({"text": "Let me look.", "calls": [in_oslo(), in_oslo()]}));
        let fields = json!({"input": "Weather?", "tools": [weather()], "stream": stream});
        let response = create(&program, &fields);
        let calls = &response["output"].as_array().unwrap()[1..];
        let output = |call: &Value, text: &str| json!({"type": "function_call_output", "call_id": call["call_id"], "output": text});
        simulator.turn(json!({"text": "It rains."}));
        let next = json!({
            "input": [output(&calls[0], "rain"), output(&calls[1], "more rain")],
            "previous_response_id": id(&response), "tools": [weather()], "stream": stream
        });
        assert_eq!(create(&program, &next)["output"][0]["content"][0]["text"], "It rains.");
        let texts = sent(&simulator);
        assert_eq!(texts[1].1, "Weather?");
        assert!(texts[2].1.contains("Let me look.") && texts[2].1.contains("Oslo"), "{texts:?}");
        assert!(texts[3].1.contains("more rain"), "{texts:?}");

        let unknown = json!({
            "input": [output(&json!({"call_id": "call_x"}), "rain")],
            "previous_response_id": id(&response)
        });
        assert_eq!(post(&program, &unknown).error()["param"], "input[0].call_id");
    }
}

#[test]
fn tools_that_items_brought_stay_with_the_conversation_and_places_in_it_are_told_from_the_field() {
    let (simulator, program) = start();
    let tools = json!({"type": "additional_tools", "role": "developer", "tools": [weather()]});
    let search = json!({"type": "web_search_call", "id": "ws_1", "status": "completed"});
    let question = json!({"role": "user", "content": "Weather?"});
    let first = create(&program, &json!({"input": [tools, search, question]}));
    simulator.turn(json!({"calls": [in_oslo()]}));
    let fields = json!({"previous_response_id": id(&first), "input": "And now?"});
    let answer = post(&program, &fields);
    assert_eq!(answer.json()["output"][0]["name"], "weather", "{}", answer.text());
    assert_eq!(answer.header("x-langfast2api-ignored"), Some("previous_response_id[1]"));
}

#[test]
fn an_item_may_be_referred_to_by_its_id() {
    let (simulator, program) = start();
    for stream in [false, true] {
        simulator.turn(json!({"text": "Let me look.", "calls": [in_oslo()]}));
        let response =
            create(&program, &json!({"tools": [weather()], "input": "Weather?", "stream": stream}));
        let output = &response["output"];
        let listed = get(&program, &response, "/input_items").json();
        simulator.turn(json!({"text": "Rain."}));
        let input = json!([
            {"id": listed["data"][0]["id"], "type": "item_reference"},
            {"id": output[0]["id"]},
            {"id": output[1]["id"], "type": null},
            {"type": "function_call_output", "call_id": output[1]["call_id"], "output": "rain"},
        ]);
        create(&program, &json!({"input": input, "tools": [weather()]}));
        let texts: Vec<String> = sent(&simulator).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts[1], "Weather?");
        assert!(texts[2].contains("Let me look.") && texts[2].contains("Oslo"), "{texts:?}");
        assert!(texts[3].contains("rain"));
    }
    let runs = simulator.stats().runs;
    let answer = post(&program, &json!({"input": [{"type": "item_reference", "id": "msg_1"}]}));
    assert_eq!((answer.status, &answer.error()["param"]), (400, &json!("input[0]")));
    assert_eq!(simulator.stats().runs, runs);
}

#[test]
fn what_is_not_stored_cannot_be_continued_and_the_error_says_what_to_do() {
    let (simulator, program) = start();
    for stream in [false, true] {
        let response = create(&program, &json!({"store": false, "stream": stream}));
        assert_eq!(response["store"], false);
        assert_eq!(get(&program, &response, "").status, 404);
        let answer = post(&program, &json!({"previous_response_id": id(&response)}));
        let error = answer.error();
        assert_eq!((answer.status, &error["code"]), (400, &json!("previous_response_not_found")));
        assert_eq!(error["param"], "previous_response_id");
        for words in ["send the whole conversation", "--store-responses"] {
            assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        }
    }
    assert_eq!(simulator.stats().runs, 2);
}

#[test]
fn a_conversation_outlives_its_earlier_responses() {
    let (simulator, program) = start();
    simulator.turn(json!({"text": "One."}));
    let first = create(&program, &json!({"input": "First?"}));
    let second = create(&program, &json!({"previous_response_id": id(&first)}));
    let path = format!("/v1/responses/{}", id(&first));
    assert_eq!(program.request("DELETE", &path, "", b"").status, 200);
    create(&program, &json!({"previous_response_id": id(&second)}));
    assert!(sent(&simulator).iter().any(|(_, text)| text == "First?"));
}

// Fetched.

#[test]
fn a_response_is_fetched_as_it_was_told_until_it_is_deleted() {
    let (simulator, program) = start();
    for stream in [false, true] {
        simulator.turn(json!({"text": "It rains.", "calls": [in_oslo()]}));
        let response = create(&program, &json!({"tools": [weather()], "stream": stream}));
        let path = format!("/v1/responses/{}", id(&response));
        let encoded = path.replace('_', "%5F");
        for path in [&path, &encoded] {
            let answer = program.get(path);
            assert_eq!((answer.status, answer.json()), (200, response.clone()));
        }
        let mut head = program.send("HEAD", &path, "", b"");
        assert_eq!(head.head().status, 200);
        let answer = program.request("DELETE", &path, "", b"");
        let deleted = json!({"id": id(&response), "object": "response", "deleted": true});
        assert_eq!((answer.status, answer.json()), (200, deleted));
        for method in ["GET", "DELETE"] {
            let answer = program.request(method, &path, "", b"");
            assert_eq!(
                (answer.status, &answer.error()["code"]),
                (404, &json!("response_not_found"))
            );
        }
    }
    let runs = simulator.stats().runs;
    assert_eq!(runs, 2);
}

#[test]
fn the_input_of_a_response_is_listed_in_pages() {
    let (_simulator, program) = start();
    let image = json!({"type": "input_text", "text": "c"});
    let input = json!([
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"id": "msg_own", "type": "message", "role": "user", "content": [image]},
    ]);
    let first = create(&program, &json!({"input": input}));
    let response = create(&program, &json!({"input": "d", "previous_response_id": id(&first)}));
    let list = |query: &str| get(&program, &response, &format!("/input_items{query}")).json();
    let texts = |list: &Value| -> Vec<String> {
        let data = list["data"].as_array().unwrap();
        let text = |item: &Value| item["content"][0]["text"].as_str().unwrap().to_owned();
        data.iter().map(text).collect()
    };
    let all = list("?order=asc");
    assert_eq!(texts(&all)[..3], ["a", "b", "c"]);
    assert_eq!((texts(&all).len(), &all["has_more"]), (5, &json!(false)));
    assert_eq!(all["data"][1]["content"][0]["type"], "output_text");
    assert_eq!(all["data"][2]["id"], "msg_own");
    for item in all["data"].as_array().unwrap() {
        assert!(item["id"].as_str().unwrap().starts_with("msg_"), "{item}");
        assert_eq!((&item["type"], &item["status"]), (&json!("message"), &json!("completed")));
    }
    assert_eq!(texts(&list(""))[0], "d", "the newest first unless it is said otherwise");
    let page = list("?order=asc&limit=2&after=msg_own");
    assert_eq!((texts(&page).len(), &page["has_more"]), (2, &json!(false)));
    let page = list("?limit=2");
    assert_eq!((&page["has_more"], &page["last_id"]), (&json!(true), &page["data"][1]["id"]));
    for (query, param) in [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=x", "limit"),
        ("?order=up", "order"),
        ("?after=msg_none", "after"),
    ] {
        let answer = get(&program, &response, &format!("/input_items{query}"));
        assert_eq!((answer.status, &answer.error()["param"]), (400, &json!(param)), "{query}");
    }
}

#[test]
fn whoever_reads_page_behind_page_comes_to_the_end_whatever_is_said_twice() {
    let (simulator, program) = start();
    let said = |text: &str| json!({"id": null, "role": "user", "content": text, "status": null});
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"});
    let mut other = call.clone();
    other["call_id"] = json!("call_2");
    let input = json!([said("a"), call, said("a"), said("b"), other, said("a"), said("c")]);
    let response = create(&program, &json!({ "input": input }));
    let mut ids: Vec<String> = Vec::new();
    let mut after = String::new();
    loop {
        let list =
            get(&program, &response, &format!("/input_items?order=asc&limit=1{after}")).json();
        let id = list["data"][0]["id"].as_str().expect("an id").to_owned();
        assert_eq!(list["last_id"], id.as_str());
        assert!(!ids.contains(&id), "{id} behind {ids:?}");
        after = format!("&after={id}");
        ids.push(id);
        if list["has_more"] == false {
            break;
        }
    }
    assert_eq!(ids.len(), 7);
    assert_eq!((&*ids[1], &*ids[4]), ("fc_1", "fc_1-2"));
    create(&program, &json!({"input": [{"id": ids[5]}]}));
    assert_eq!(sent(&simulator), [("user".to_owned(), "a".to_owned())]);
}

#[test]
fn the_urls_of_stored_responses_say_which_methods_they_know() {
    let simulator = Simulator::start();
    let origin = "https://app.example";
    let program = Start::new(&simulator.url()).env("LANGFAST2API_CORS_ORIGINS", origin).start();
    for (method, path, allow) in [
        ("POST", "/v1/responses/resp_1", "GET, HEAD, DELETE"),
        ("DELETE", "/v1/responses/resp_1/input_items", "GET, HEAD"),
        ("GET", "/v1/responses/resp_1/cancel", "POST"),
    ] {
        let answer = program.request(method, path, JSON, b"");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
        let asked = format!("Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\n");
        let answer = program.request("OPTIONS", path, &asked, b"");
        let allowed = answer.header("access-control-allow-methods");
        assert_eq!((answer.status, allowed), (204, Some(allow)), "{path}");
    }
    for (method, path) in [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("POST", "/responses/resp_1/cancel"),
    ] {
        let answer = program.request(method, path, "", b"");
        assert_eq!(answer.status, 404, "{method} {path}");
        assert!(answer.error()["message"].as_str().unwrap().contains("not stored"));
    }
    assert_eq!(program.get("/v1/responses").status, 405);
}

#[test]
fn api_keys_do_not_see_each_others_responses() {
    let simulator = Simulator::start();
    let keys = "sk-one-0123456789,sk-two-0123456789";
    let program = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", keys).start();
    let ask = |key: &str, method: &str, path: &str, fields: &Value| {
        let headers = format!("{JSON}Authorization: Bearer sk-{key}-0123456789\r\n");
        program.request(method, path, &headers, &body(fields))
    };
    let response = ask("one", "POST", "/v1/responses", &json!({})).json();
    let path = format!("/v1/responses/{}", id(&response));
    let item = &response["output"][0]["id"];
    for (key, status) in [("two", 404), ("one", 200)] {
        assert_eq!(ask(key, "GET", &path, &json!({})).status, status);
        assert_eq!(ask(key, "GET", &format!("{path}/input_items"), &json!({})).status, status);
        let status = if status == 404 { 400 } else { 200 };
        for fields in [
            json!({"previous_response_id": id(&response)}),
            json!({"input": [{"role": "user", "content": "x"}, {"type": "item_reference", "id": item}]}),
        ] {
            assert_eq!(ask(key, "POST", "/v1/responses", &fields).status, status, "{fields}");
        }
    }
    assert_eq!(ask("two", "DELETE", &path, &json!({})).status, 404);
    assert_eq!(ask("one", "DELETE", &path, &json!({})).status, 200);
}

// Streams, again.

#[test]
fn a_stream_is_told_again_from_any_of_its_events() {
    let (simulator, program) = start();
    simulator.turn(json!({"text": "It rains in Oslo.", "calls": [in_oslo()], "sim": "events=5"}));
    let told = post(&program, &json!({"stream": true, "tools": [weather()]})).text().to_owned();
    let all = events(&told);
    let response = &all.last().unwrap()["response"];
    assert_eq!(get(&program, response, "?stream=true").text(), told);
    for after in [0, 3, all.len() - 2, all.len() - 1, all.len() + 7] {
        let answer = get(&program, response, &format!("?stream=true&starting_after={after}"));
        assert_eq!((answer.status, answer.complete), (200, true));
        assert_eq!(events(answer.text()), all[all.len().min(after + 1)..], "after {after}");
    }
    let answer = get(&program, response, "?stream=true&starting_after=x");
    assert_eq!((answer.status, &answer.error()["param"]), (400, &json!("starting_after")));
    let whole = create(&program, &json!({}));
    let answer = get(&program, &whole, "?stream=true");
    assert_eq!((answer.status, &answer.error()["param"]), (400, &json!("stream")));
}

#[test]
fn a_long_stream_is_told_again_in_pieces() {
    let (_simulator, program) = start();
    let fields = json!({"input": "/sim text=lorem events=2000", "stream": true});
    let response = create(&program, &fields);
    let path = format!("/v1/responses/{}?stream=true", id(&response));
    let mut connection = program.send("GET", &path, "", b"");
    connection.head();
    let mut pieces: Vec<usize> = Vec::new();
    while let Some(piece) = connection.chunk() {
        pieces.push(piece.len());
    }
    let all: usize = pieces.iter().sum();
    assert!(all > 300_000 && pieces.len() > 3, "{pieces:?}");
}

#[test]
fn a_client_that_loses_its_stream_can_fetch_what_it_has_paid_for() {
    let (simulator, program) = start_stepped();
    let mut connection = open(&program, &json!({"input": SILENT, "stream": true}));
    let run = Stepped::only(&simulator);
    run.says("one ");
    connection.head();
    let read = read_until(&mut connection, "one ");
    let response = events(&read)[0]["response"].clone();
    let last = events(&read).last().unwrap()["sequence_number"].clone();
    assert_eq!(status(&program, &response), "in_progress");
    drop(connection);
    wait_until("the server to notice", || program.get("/metrics").text().contains("connections 1"));
    let path = format!("/v1/responses/{}?stream=true&starting_after={last}", id(&response));
    let mut again = program.send("GET", &path, "", b"");
    run.says("one two ");
    assert_eq!(again.head().status, 200);
    assert!(read_until(&mut again, "two ").contains("output_text.delta"));
    run.ends("one two three");
    assert!(read_until(&mut again, "response.completed").contains("three"));
    assert_eq!(again.chunk(), None);
    let text = &get(&program, &response, "").json()["output"][0]["content"][0]["text"];
    assert_eq!(text, "one two three");
    assert_eq!(simulator.stats().runs, 1);
    wait_until("its line in the log", || program.log().contains("error=client_gone"));
}

#[test]
fn a_stream_without_a_client_ends_by_its_deadline_and_takes_no_processor_time_until_then() {
    let simulator = Simulator::builder().literal_socket().start();
    let start = Start::new(&simulator.url()).args(["--keep-alive", "0.1"]);
    let program = start.args(["--silence-timeout", "3"]).start();
    let mut connection = open(&program, &json!({"input": SILENT, "stream": true}));
    let run = Stepped::only(&simulator);
    run.says("one ");
    connection.head();
    let response = events(&read_until(&mut connection, "one "))[0]["response"].clone();
    drop(connection);
    wait_until("the server to notice", || program.get("/metrics").text().contains("connections 1"));
    run.says("one two ");
    let path = format!("/v1/responses/{}?stream=true", id(&response));
    let mut again = program.send("GET", &path, "", b"");
    again.head();
    read_until(&mut again, "two ");
    let before = program.processor_ticks();
    wait_until("its line in the log", || program.log().contains("error=client_gone"));
    let taken = program.processor_ticks() - before;
    assert!(taken < 60, "{taken} hundredths of a second in three seconds");
    let ended = get(&program, &response, "").json();
    assert_eq!(
        (&ended["status"], &ended["error"]["code"]),
        (&json!("failed"), &json!("server_error"))
    );
}

#[test]
fn a_client_that_leaves_before_it_knows_an_id_gives_its_run_up() {
    for fields in [json!({"stream": true}), json!({}), json!({"stream": true, "store": false})] {
        let (simulator, program) = start_stepped();
        let connection = open(&program, &with(json!({"input": SILENT}), fields));
        let run = Stepped::only(&simulator);
        drop(connection);
        wait_until("the request's end", || program.log().contains("error=client_gone"));
        run.emits(json!({"error": "boom"}));
        wait_until("no run", || program.log().contains("a failure of no run that is ours"));
    }
}

// In the background.

#[test]
fn a_response_in_the_background_is_polled_until_it_is_there() {
    let (simulator, program) = start_stepped();
    let response = create(&program, &json!({"input": SILENT, "background": true}));
    assert_eq!(
        (&response["status"], &response["background"]),
        (&json!("in_progress"), &json!(true))
    );
    assert_eq!(status(&program, &response), "in_progress");
    let early = post(&program, &json!({"previous_response_id": id(&response)}));
    assert_eq!((early.status, &early.error()["param"]), (400, &json!("previous_response_id")));
    Stepped::only(&simulator).ends("Done.");
    wait_until("the response", || status(&program, &response) == "completed");
    let ended = get(&program, &response, "").json();
    assert_eq!(ended["output"][0]["content"][0]["text"], "Done.");
    assert_eq!((id(&ended), &ended["created_at"]), (id(&response), &response["created_at"]));

    let path = format!("/v1/responses/{}/cancel", id(&response));
    let answer = program.request("POST", &path, "", b"");
    assert_eq!((answer.status, answer.json()), (200, ended), "what has ended stays as it is");
}

#[test]
fn a_failure_in_the_background_is_the_response() {
    let (_simulator, program) = start();
    let fields = json!({"input": "/sim fail=3 error=broken", "background": true});
    let response = create(&program, &fields);
    wait_until("the failure", || status(&program, &response) == "failed");
    let error = &get(&program, &response, "").json()["error"];
    assert!(error["message"].as_str().unwrap().contains("broken"), "{error}");
}

/// A response in the background as its client first sees it, whole or in its stream's first event.
fn begun(connection: &mut Connection, run: &Stepped, stream: bool) -> Value {
    if !stream {
        return connection.response().json();
    }
    run.says("one ");
    connection.head();
    events(&read_until(connection, "one "))[0]["response"].clone()
}

#[test]
fn a_response_in_the_background_can_be_cancelled_and_others_cannot() {
    for stream in [false, true] {
        let (simulator, program) = start_stepped();
        let fields = json!({"input": SILENT, "background": true, "stream": stream});
        let mut connection = open(&program, &fields);
        let run = Stepped::only(&simulator);
        let response = begun(&mut connection, &run, stream);
        let path = format!("/v1/responses/{}/cancel", id(&response));
        for _ in 0..2 {
            let answer = program.request("POST", &path, JSON, b"");
            assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("cancelled")));
        }
        if stream {
            let rest = read_until(&mut connection, "response.failed");
            assert!(rest.contains("event: error"), "no client may take it for complete: {rest}");
        }
        wait_until("the run's end", || {
            run.emits(json!({"error": "boom"}));
            program.log().contains("a failure of no run that is ours")
        });
        assert_eq!(status(&program, &response), "cancelled");
    }
    let (_simulator, program) = start();
    let response = create(&program, &json!({}));
    let path = format!("/v1/responses/{}/cancel", id(&response));
    let answer = program.request("POST", &path, "", b"");
    assert_eq!(answer.status, 400);
    assert!(answer.error()["message"].as_str().unwrap().contains("background"));
}

#[test]
fn a_deleted_response_in_the_background_runs_no_more() {
    let (simulator, program) = start_stepped();
    let response = create(&program, &json!({"input": SILENT, "background": true}));
    let run = Stepped::only(&simulator);
    let path = format!("/v1/responses/{}", id(&response));
    assert_eq!(program.request("DELETE", &path, "", b"").status, 200);
    wait_until("the run's end", || {
        run.emits(json!({"error": "boom"}));
        program.log().contains("a failure of no run that is ours")
    });
    assert_eq!(program.get(&path).status, 404);
}

#[test]
fn a_stream_in_the_background_goes_on_without_its_client() {
    let (simulator, program) = start_stepped();
    let mut connection =
        open(&program, &json!({"input": SILENT, "stream": true, "background": true}));
    let run = Stepped::only(&simulator);
    run.says("one ");
    connection.head();
    let response = events(&read_until(&mut connection, "one "))[0]["response"].clone();
    drop(connection);
    run.ends("one two");
    wait_until("the response", || status(&program, &response) == "completed");
    let again = get(&program, &response, "?stream=true");
    let last = events(again.text()).pop().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], "one two");
}

#[test]
fn the_background_needs_a_store() {
    let (simulator, program) = start();
    let answer = post(&program, &json!({"background": true, "store": false}));
    assert_eq!((answer.status, &answer.error()["param"]), (400, &json!("background")));
    assert_eq!(simulator.stats().runs, 0);
}

#[test]
fn what_could_never_be_asked_for_is_not_begun_in_the_background() {
    let (simulator, program) = start_with(&["--store-responses", "1"]);
    // 100 kB of text, and some 250 bytes for each of its items besides.
    let items: Vec<Value> =
        (0..5000).map(|at| json!({"role": "user", "content": at.to_string()})).collect();
    let answer = post(&program, &json!({"input": items, "background": true}));
    assert_eq!((answer.status, &answer.error()["param"]), (400, &json!("background")));
    assert_eq!(simulator.stats().runs, 0);
    let answer = post(&program, &json!({"input": items, "store": true}));
    assert_eq!(answer.header("x-langfast2api-ignored"), Some("store"));
    let same = vec![json!({"role": "user", "content": "Hi"}); 5000];
    let answer = post(&program, &json!({"input": same, "background": true}));
    assert_eq!(answer.status, 200, "one item that stands there often is stored once");
}

#[test]
fn a_response_in_the_background_that_outgrows_the_store_has_failed() {
    for stream in [false, true] {
        let simulator = Simulator::builder().literal_socket().start();
        let program = Start::new(&simulator.url()).args(["--store-responses", "1"]).start();
        let fields = json!({"input": SILENT, "background": true, "stream": stream});
        let mut connection = open(&program, &fields);
        let run = Stepped::only(&simulator);
        let response = begun(&mut connection, &run, stream);
        drop(connection);
        run.ends(&format!("one {}", "x".repeat(3 << 20)));
        wait_until("the failure", || status(&program, &response) == "failed");
        let found = get(&program, &response, "").json();
        assert!(found["error"]["message"].as_str().unwrap().contains("too large"), "{found}");
    }
}

// Bounds.

fn start_with(flags: &[&str]) -> (Simulator, Program) {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(flags).start();
    (simulator, program)
}

/// The value of a metric without labels.
fn metric(program: &Program, name: &str) -> u64 {
    let metrics = program.get("/metrics");
    let line = metrics.text().lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[test]
fn without_a_store_nothing_is_promised_and_what_needs_one_is_refused() {
    let (simulator, program) = start_with(&["--store-responses", "0"]);
    let answer = post(&program, &json!({}));
    assert_eq!(
        (&answer.json()["store"], answer.header("x-langfast2api-ignored")),
        (&json!(false), None)
    );
    let wanted = post(&program, &json!({"store": true}));
    assert_eq!(wanted.header("x-langfast2api-ignored"), Some("store"));
    for (fields, param) in [
        (json!({"previous_response_id": answer.json()["id"]}), "previous_response_id"),
        (json!({"background": true}), "background"),
        (json!({"input": [{"id": answer.json()["output"][0]["id"]}]}), "input[0]"),
    ] {
        let answer = post(&program, &fields);
        assert_eq!((answer.status, &answer.error()["param"]), (400, &json!(param)));
        assert!(answer.error()["message"].as_str().unwrap().contains("stored here"));
    }
    let answer = get(&program, &answer.json(), "");
    assert_eq!((answer.status, &answer.error()["code"]), (404, &json!("unknown_url")));
    assert_eq!((simulator.stats().runs, metric(&program, "langfast2api_stored_responses")), (2, 0));
}

#[test]
fn the_oldest_responses_make_room_for_new_ones() {
    let (_simulator, program) = start_with(&["--store-responses", "1"]);
    let responses: Vec<Value> = (0..30)
        .map(|at| {
            let long = json!({"role": "user", "content": format!("{at} {}", "x".repeat(100_000))});
            let input = json!([long, {"role": "user", "content": "/sim say=Hi"}]);
            create(&program, &json!({"input": input, "stream": at % 2 == 0}))
        })
        .collect();
    let is_kept = |response: &&Value| get(&program, response, "").status == 200;
    let kept: Vec<&Value> = responses.iter().filter(is_kept).collect();
    assert!((9..=10).contains(&kept.len()), "{} of 100 kB each within 1 MiB", kept.len());
    assert_eq!(kept, responses[30 - kept.len()..].iter().collect::<Vec<_>>());
    assert_eq!(metric(&program, "langfast2api_stored_responses"), kept.len() as u64);
    let bytes = metric(&program, "langfast2api_stored_responses_memory_bytes");
    assert!((500_000..=1 << 20).contains(&bytes), "{bytes}");
    let answer = post(&program, &json!({"previous_response_id": id(&responses[0])}));
    assert_eq!(answer.error()["code"], "previous_response_not_found");
}

#[test]
fn what_is_sent_again_with_each_request_is_stored_once() {
    let (_simulator, program) = start_with(&["--store-responses", "1"]);
    let long = json!({"role": "user", "content": "x".repeat(500_000)});
    let mut input = vec![long];
    let responses: Vec<Value> = (0..10)
        .map(|at| {
            input.push(json!({"role": "user", "content": format!("Question {at}?")}));
            create(&program, &json!({"input": input}))
        })
        .collect();
    assert!(responses.iter().all(|response| get(&program, response, "").status == 200));
    assert!(metric(&program, "langfast2api_stored_responses_memory_bytes") < 600_000);
}

#[test]
fn a_request_larger_than_the_store_is_answered_and_not_stored() {
    let (_simulator, program) = start_with(&["--store-responses", "1"]);
    let kept = create(&program, &json!({}));
    for stream in [false, true] {
        let input = "x".repeat(2 << 20);
        let response = create(&program, &json!({"input": input, "stream": stream}));
        assert_eq!(response["store"], false);
        assert_eq!(get(&program, &response, "").status, 404);
    }
    assert_eq!(get(&program, &kept, "").status, 200, "nothing was let go for it");
}

#[test]
fn nothing_of_a_stored_response_is_logged() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_LOG", "trace").start();
    simulator.turn(json!({"text": "mysecretanswer"}));
    let response = create(&program, &json!({"input": "mysecretquestion", "stream": true}));
    get(&program, &response, "");
    get(&program, &response, "/input_items");
    get(&program, &response, "?stream=true");
    create(&program, &json!({"previous_response_id": id(&response)}));
    assert!(!program.log().contains("mysecret"), "{}", program.log());
}

// Several instances.

/// Two instances that know each other, each with a LangFast of its own.
fn two() -> [(Simulator, Program); 2] {
    let addresses = [free_address(), free_address()];
    let instances = format!("one=http://{},two=http://{}", addresses[0], addresses[1]);
    let start = |name: &str, at: usize| {
        let simulator = Simulator::start();
        let flags = ["--listen", &addresses[at].to_string(), "--instance", name];
        let start = Start::new(&simulator.url()).args(flags).args(["--instances", &instances]);
        let keys = "sk-one-0123456789,sk-two-0123456789";
        (simulator, start.env("LANGFAST2API_API_KEYS", keys).start())
    };
    [start("one", 0), start("two", 1)]
}

#[test]
fn the_instance_that_has_a_response_is_found_from_any_other() {
    let [(simulator, one), (other_simulator, other)] = two();
    let ask = |program: &Program, method: &str, path: &str, fields: &Value| {
        let headers = format!("{JSON}Authorization: Bearer sk-one-0123456789\r\n");
        program.request(method, path, &headers, &body(fields))
    };
    for stream in [false, true] {
        simulator.turn(json!({"text": "Let me look.", "calls": [in_oslo()]}));
        let fields = json!({"input": "Weather?", "tools": [weather()], "stream": stream});
        let told = ask(&one, "POST", "/v1/responses", &fields);
        let response = match stream {
            true => events(told.text()).pop().unwrap()["response"].clone(),
            false => told.json(),
        };
        assert!(id(&response).starts_with("resp_one_"), "{response}");
        let path = format!("/v1/responses/{}", id(&response));
        assert_eq!(ask(&other, "GET", &path, &json!({})).json(), response);
        if stream {
            let again = ask(&other, "GET", &format!("{path}?stream=true"), &json!({}));
            assert_eq!((again.status, again.text()), (200, told.text()));
        }
        let call = &response["output"][1];
        let output =
            json!({"type": "function_call_output", "call_id": call["call_id"], "output": "rain"});
        for fields in [
            json!({"previous_response_id": id(&response), "input": [output]}),
            json!({"input": [{"role": "user", "content": "?"}, {"id": call["id"]}, output]}),
        ] {
            let fields = with(fields, json!({"tools": [weather()], "stream": stream}));
            let answer = ask(&other, "POST", "/v1/responses", &fields);
            assert_eq!((answer.status, answer.complete), (200, true), "{}", answer.text());
            assert!(sent(&simulator).iter().any(|(_, text)| text.contains("rain")));
        }
        let items = ask(&other, "GET", &format!("{path}/input_items"), &json!({})).json();
        assert!(items["data"][0]["id"].as_str().unwrap().starts_with("msg_one_"), "{items}");
        let foreign = "Authorization: Bearer sk-two-0123456789\r\n";
        assert_eq!(other.request("GET", &path, foreign, b"").status, 404);
        assert_eq!(ask(&other, "DELETE", &path, &json!({})).json()["deleted"], true);
        assert_eq!(ask(&one, "GET", &path, &json!({})).status, 404);
    }
    assert_eq!((simulator.stats().runs, other_simulator.stats().runs), (6, 0));
}

#[test]
fn a_page_of_the_proxys_origin_is_let_in_by_both_and_a_request_has_one_id() {
    let [(_simulator, one), (_other_simulator, other)] = two();
    let key = "Authorization: Bearer sk-one-0123456789\r\n";
    let response = one.request("POST", "/v1/responses", &format!("{JSON}{key}"), &body(&json!({})));
    let path = format!("/v1/responses/{}", id(&response.json()));
    let page = format!("{key}Origin: http://localhost\r\nX-Request-Id: mine\r\n");
    let answer = other.request("GET", &path, &page, b"");
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some("mine")));
    for program in [&one, &other] {
        wait_until("the log", || program.log().contains("id=mine"));
    }
    let foreign = format!("{key}Origin: http://evil.example\r\n");
    assert_eq!(other.request("GET", &path, &foreign, b"").status, 403);
}

#[test]
fn an_instance_that_is_gone_is_a_response_that_is_not_stored() {
    let [(_simulator, mut one), (_other_simulator, other)] = two();
    let headers = format!("{JSON}Authorization: Bearer sk-one-0123456789\r\n");
    let post = |program: &Program, fields: &Value| {
        program.request("POST", "/v1/responses", &headers, &body(fields))
    };
    let response = post(&one, &json!({})).json();
    one.signal(rustix::process::Signal::KILL);
    one.wait();
    let answer = post(&other, &json!({"previous_response_id": id(&response)}));
    assert_eq!(answer.error()["code"], "previous_response_not_found");
    let path = format!("/v1/responses/{}", id(&response));
    assert_eq!(other.request("GET", &path, &headers, b"").status, 404);
    assert!(other.log().contains("the instance one cannot be reached"));
}

#[test]
fn an_instance_that_is_stuck_keeps_nobody_waiting_who_wants_no_text_nor_the_end() {
    let stuck = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let instances = format!("two=http://{}", stuck.local_addr().unwrap());
    let flags = ["--instance", "one", "--instances", &instances, "--shutdown-timeout", "1"];
    let (_simulator, program) = start_with(&flags);
    let answer = program.get("/v1/responses/resp_two_1");
    assert_eq!((answer.status, &answer.error()["code"]), (503, &json!("overloaded")));
    let mut waiting = open(&program, &json!({"previous_response_id": "resp_two_1"}));
    let _handed = (stuck.accept().unwrap(), stuck.accept().unwrap());
    program.signal(rustix::process::Signal::TERM);
    let answer = waiting.response();
    assert_eq!((answer.status, answer.header("x-should-retry")), (503, Some("false")));
    assert!(answer.text().contains("given this answer up"), "{}", answer.text());
}

#[test]
fn a_question_handed_to_an_instance_that_is_stuck_ends_and_one_that_is_slow_is_waited_for() {
    for is_stuck in [true, false] {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let instances = format!("two=http://{}", other.local_addr().unwrap());
        let (_simulator, program) = start_with(&["--instance", "one", "--instances", &instances]);
        let mut waiting = open(&program, &json!({"previous_response_id": "resp_two_1"}));
        let (mut question, _) = other.accept().unwrap();
        // After some seconds it is asked whether it is well.
        let (mut health, _) = other.accept().unwrap();
        if is_stuck {
            let answer = waiting.response();
            assert_eq!((answer.status, answer.header("x-should-retry")), (503, Some("false")));
            assert!(answer.text().contains("it is stuck"), "{}", answer.text());
            continue;
        }
        health.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        drop(health);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        question.write_all(answer).unwrap();
        drop(question);
        assert_eq!(waiting.response().text(), "{}");
    }
}

#[test]
fn an_instance_may_be_known_by_any_name_where_no_keys_are_asked_for() {
    let (_simulator, one) = start_with(&["--instance", "one"]);
    let response = create(&one, &json!({}));
    // Means 127.0.0.1, and is neither an address nor a name that is let in.
    let instances = format!("one=http://127.1:{}", one.address().port());
    let (_other_simulator, other) = start_with(&["--instance", "two", "--instances", &instances]);
    assert_eq!(get(&other, &response, "").json(), response);
}

#[test]
fn instances_need_names_that_can_stand_in_ids() {
    for (flags, words) in [
        (&["--instances", "one=http://127.0.0.1:1"][..], "name this instance"),
        (&["--instance", "a_b"], "letters and digits"),
        (&["--instance", "a", "--instances", "b=https://127.0.0.1:1"], "NAME=http://HOST:PORT"),
        (&["--instance", "a", "--instances", "b=http://127.0.0.1"], "NAME=http://HOST:PORT"),
        (&["--instance", "a", "--instances", "127.0.0.1:1"], "NAME=http://HOST:PORT"),
    ] {
        let (status, _, log) = Start::new("http://127.0.0.1:1").args(flags).run();
        assert!(!status.success() && log.contains(words), "{flags:?}: {log}");
    }
}
