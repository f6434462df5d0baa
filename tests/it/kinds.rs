//! Kinds of content, item and tool: which are read, which are left out and named, and that none of an old
//! turn ends a conversation.

use std::fs;
use std::path::Path;

use crate::simulator::Simulator;
use crate::support::{Program, Response, Start, sent, start};
use langfast2api::dialects::kinds::{Fate, Listed};
use langfast2api::dialects::{anthropic, openai};
use serde_json::{Value, json};

const JSON: &str = "Content-Type: application/json\r\n";

fn post(program: &Program, path: &str, mut fields: Value) -> Response {
    fields.as_object_mut().unwrap().entry("model").or_insert(json!("gpt-5"));
    program.request("POST", path, JSON, fields.to_string().as_bytes())
}

fn chat(program: &Program, fields: Value) -> Response {
    post(program, "/v1/chat/completions", fields)
}

fn respond(program: &Program, fields: Value) -> Response {
    post(program, "/v1/responses", fields)
}

fn anthropic(program: &Program, mut fields: Value) -> Response {
    fields.as_object_mut().unwrap().entry("max_tokens").or_insert(json!(100));
    post(program, "/v1/messages", fields)
}

/// What the answer's header names.
fn named(answer: &Response) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-langfast2api-ignored").unwrap_or_default()
}

fn strict() -> (Simulator, Program) {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--strict").start();
    (simulator, program)
}

fn user(content: Value) -> Value {
    json!({"role": "user", "content": content})
}

fn said(content: Value) -> Value {
    json!({"role": "assistant", "content": content})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// The role and the text of each message of the run that was started last, instructions left out.
fn told(simulator: &Simulator) -> Vec<(String, String)> {
    sent(simulator).into_iter().filter(|(role, _)| role != "developer").collect()
}

/// The instructions of that run.
fn instructions(simulator: &Simulator) -> String {
    let all = sent(simulator).into_iter().filter(|(role, _)| role == "developer");
    all.map(|(_, text)| text).collect::<Vec<_>>().join("\n")
}

fn pair(role: &str, text: &str) -> (String, String) {
    (role.to_owned(), text.to_owned())
}

/// The kinds of a list that are left out.
fn left_out(lists: &[Listed], what: &str) -> Vec<&'static str> {
    let list = lists.iter().find(|list| list.what == what).expect("a list of this name");
    list.kinds.iter().filter(|(_, fate)| *fate == Fate::LeftOut).map(|(name, _)| *name).collect()
}

#[test]
fn no_kind_of_item_in_a_history_ends_a_conversation_of_responses() {
    let (simulator, program) = strict();
    let mut kinds = left_out(&openai::kinds::of_responses(), "items");
    kinds.push("whatever_comes_next");
    for kind in kinds {
        let item = json!({"type": kind, "id": "x_1", "status": "completed"});
        let input = json!([user(json!("a")), item, said(json!("b")), user(json!("c"))]);
        let answer = respond(&program, json!({ "input": input }));
        assert_eq!(named(&answer), "input[1]", "{kind}");
        let expected = [pair("user", "a"), pair("assistant", "b"), pair("user", "c")];
        assert_eq!(told(&simulator), expected, "{kind}");
    }
}

#[test]
fn no_kind_of_block_in_a_history_ends_a_conversation_of_messages() {
    let (simulator, program) = strict();
    let mut kinds = left_out(&anthropic::kinds::of_messages(), "blocks");
    kinds.push("whatever_comes_next");
    for kind in kinds {
        let block = json!({"type": kind, "id": "x_1", "name": "n", "input": {}, "content": []});
        let messages = json!([
            user(json!([text("a"), block])),
            said(json!([block, text("b")])),
            said(json!([block])),
            user(json!("c"))
        ]);
        let answer = anthropic(&program, json!({"messages": messages}));
        let places = "messages[0].content[1], messages[1].content[0], messages[2].content[0]";
        assert_eq!(named(&answer), places, "{kind}");
        let expected = [pair("user", "a"), pair("assistant", "b"), pair("user", "c")];
        assert_eq!(told(&simulator), expected, "{kind}");
    }
}

#[test]
fn a_block_that_is_unknown_is_left_out_wherever_it_stands_and_is_strictly_refused_in_the_newest_message()
 {
    let part = json!({"type": "hologram", "data": "x"});
    let newest = json!({"messages": [user(json!([text("a"), part]))]});
    let tool = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
    let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [part, text("r")]});
    let in_result = json!({
        "messages": [user(json!("a")), said(json!([tool])), user(json!([result, part]))],
        "system": [part, text("s")]
    });
    let items = json!({"input": [user(json!([{"type": "input_text", "text": "a"}, part]))]});

    let (simulator, program) = start();
    assert_eq!(named(&chat(&program, newest.clone())), "messages[0].content[1]");
    assert_eq!(named(&anthropic(&program, newest.clone())), "messages[0].content[1]");
    assert_eq!(named(&respond(&program, items.clone())), "input[0].content[1]");
    assert_eq!(told(&simulator), [pair("user", "a")]);

    let (simulator, program) = strict();
    let refused = [
        (chat(&program, newest.clone()), "messages[0].content[1]"),
        (anthropic(&program, newest), "messages[0].content[1]"),
        (respond(&program, items), "input[0].content[1]"),
    ];
    for (answer, place) in refused {
        assert_eq!(answer.status, 400);
        assert!(answer.error()["message"].as_str().unwrap().contains(place), "{}", answer.text());
    }
    assert_eq!(simulator.stats().runs, 0);
    let places = "system[0], messages[2].content[0].content[0], messages[2].content[1]";
    assert_eq!(named(&anthropic(&program, in_result)), places);
    assert!(told(&simulator)[2].1.contains("\nr\n"));
}

#[test]
fn a_request_of_which_nothing_is_left_is_refused_by_what_it_held() {
    let (simulator, program) = start();
    let part = json!({"type": "hologram"});
    let call = json!({"type": "web_search_call", "id": "ws_1"});
    let messages = json!({"messages": [user(json!([part]))]});
    for (answer, place) in [
        (chat(&program, messages.clone()), "messages[0].content[0]"),
        (anthropic(&program, messages), "messages[0].content[0]"),
        (respond(&program, json!({"input": [call], "instructions": "Be brief."})), "input[0]"),
    ] {
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.error()["message"].as_str().unwrap().contains(place), "{}", answer.text());
    }
    let trigger = json!({"type": "compaction_trigger"});
    let answer = respond(&program, json!({"input": [user(json!("a")), trigger]}));
    assert_eq!((answer.status, &answer.error()["param"]), (400, &json!("input[1]")));
    assert_eq!(simulator.stats().runs, 0);
}

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "parameters": {"type": "object"}, "strict": false})
}

#[test]
fn hosted_tools_beside_others_are_left_out_by_their_kinds_and_strictly_refused() {
    let (simulator, program) = start();
    let own = |dialect: &str| match dialect {
        "chat" => json!({"type": "function", "function": {"name": "mine"}}),
        "responses" => function("mine"),
        _ => json!({"name": "mine", "input_schema": {"type": "object"}}),
    };
    let ask = |program: &Program, dialect: &str, kind: &str| {
        let tools = json!([{"type": kind, "name": "w"}, own(dialect)]);
        let fields = json!({"messages": [user(json!("Hi"))], "input": "Hi", "tools": tools});
        match dialect {
            "chat" => chat(program, fields),
            "responses" => respond(program, fields),
            _ => anthropic(program, fields),
        }
    };
    let (_other, strict) = strict();
    for (dialect, kind, name) in [
        ("chat", "web_search", "tools.web_search"),
        ("chat", "whatever\r\nx: y", "tools[0]"),
        ("responses", "web_search_preview_2025_03_11", "tools.web_search"),
        ("responses", "image_generation", "tools.image_generation"),
        ("responses", "tool_search", "tools.tool_search"),
        ("responses", "mcp", "tools.mcp"),
        ("responses", "whatever", "tools[0]"),
        ("messages", "web_search_20250305", "tools.web_search"),
        ("messages", "code_execution_20260521", "tools.code_execution"),
        ("messages", "computer_20250124", "tools.computer"),
        ("messages", "whatever_20300101", "tools[0]"),
    ] {
        assert_eq!(named(&ask(&program, dialect, kind)), name, "{dialect} {kind}");
        assert!(instructions(&simulator).contains("<tool name=\"mine\">"), "{dialect} {kind}");
        let refused = ask(&strict, dialect, kind);
        assert_eq!(refused.status, 400, "{dialect} {kind}");
        assert!(refused.error()["message"].as_str().unwrap().contains(name), "{dialect} {kind}");
    }
    // A container of OpenAI's is no shell of the client's.
    let shell = json!({"type": "shell", "environment": {"type": "container_auto"}});
    assert_eq!(named(&respond(&program, json!({"input": "Hi", "tools": [shell]}))), "tools.shell");
    let fields = json!({"messages": [user(json!("Hi"))], "mcp_servers": [{"name": "x"}]});
    assert_eq!(named(&anthropic(&program, fields)), "mcp_servers");
}

#[test]
fn a_tool_choice_that_asks_for_a_tool_that_is_left_out_is_left_out_with_it() {
    let (simulator, program) = start();
    let search = json!({"type": "web_search"});
    let allowed =
        |tools: Value| json!({"type": "allowed_tools", "mode": "required", "tools": tools});
    let mine = json!({"type": "function", "name": "mine"});
    for (tools, choice, expected) in [
        (json!([search]), json!("required"), "tool_choice, tools.web_search"),
        (json!([search]), search.clone(), "tool_choice, tools.web_search"),
        (json!([function("mine")]), search.clone(), "tool_choice"),
        (json!([search, function("mine")]), allowed(json!([search, mine])), "tools.web_search"),
        (
            json!([search, function("mine")]),
            allowed(json!([search])),
            "tool_choice, tools.web_search",
        ),
    ] {
        let fields = json!({"input": "Hi", "tools": tools, "tool_choice": choice});
        let answer = respond(&program, fields.clone());
        let mut places: Vec<&str> = named(&answer).split(", ").collect();
        places.sort_unstable();
        assert_eq!(places.join(", "), expected, "{fields}");
    }
    let hosted = json!({"type": "web_search_20250305", "name": "web_search"});
    for choice in [json!({"type": "any"}), json!({"type": "tool", "name": "web_search"})] {
        let messages = json!([user(json!("Hi"))]);
        let fields = json!({"messages": messages, "tools": [hosted], "tool_choice": choice});
        assert_eq!(named(&anthropic(&program, fields)), "tools.web_search, tool_choice");
    }
    assert_eq!(simulator.stats().runs, 7);
}

#[test]
fn tools_that_items_bring_can_be_called_and_wrong_ones_among_them_do_no_harm() {
    let (simulator, program) = start();
    let exec = json!({"type": "custom", "name": "exec", "description": "Runs it."});
    let space =
        json!({"type": "namespace", "name": "functions", "tools": [exec, function("wait")]});
    let wrong = json!([{"type": "function", "name": "a b"}, {}, {"type": "mcp"}, 7]);
    let item =
        |tools: Value| json!({"type": "additional_tools", "role": "developer", "tools": tools});
    let input = json!([item(json!([space])), item(wrong), user(json!("Run it."))]);
    simulator.turn(json!({"calls": [{"name": "functions__exec", "arguments": {"input": "1+1"}}]}));
    let answer = respond(&program, json!({ "input": input }));
    let places = "input[1].tools[0], input[1].tools[1], tools.mcp, input[1].tools[3]";
    assert_eq!(named(&answer), places);
    let call = answer.json()["output"][0].clone();
    assert_eq!(call["type"], "custom_tool_call");
    let parts = [&call["name"], &call["namespace"], &call["input"]];
    assert_eq!(parts, [&json!("exec"), &json!("functions"), &json!("1+1")]);
    // The tools that a search has found, one of them in the place of an earlier one.
    let found = json!({
        "type": "tool_search_output", "call_id": "s", "execution": "client",
        "tools": [function("found"), {"type": "function", "name": "mine", "description": "New."}]
    });
    let search = json!({"type": "tool_search_call", "call_id": "s", "arguments": {"query": "q"}});
    let input = json!([user(json!("Look.")), search, found, user(json!("Go on."))]);
    let answer = respond(&program, json!({"input": input, "tools": [function("mine")]}));
    assert_eq!(named(&answer), "");
    let tools = instructions(&simulator);
    assert!(
        tools.contains("<tool name=\"found\">\n") && tools.contains("<tool name=\"mine\">\nNew."),
        "{tools}"
    );
    assert_eq!(tools.matches("<tool name=\"mine\">").count(), 1);
}

#[test]
fn openais_own_tools_that_the_client_runs_are_called_as_items_of_their_own() {
    let (simulator, program) = start();
    let search = json!({"type": "tool_search", "execution": "client", "description": "Looks."});
    let tools = json!([
        {"type": "local_shell"}, {"type": "shell", "environment": {"type": "local"}},
        {"type": "apply_patch"}, search
    ]);
    for (name, arguments, field, expected) in [
        (
            "local_shell",
            json!({"command": ["ls", "-l"]}),
            "action",
            json!({"type": "exec", "command": ["ls", "-l"], "env": {}}),
        ),
        (
            "shell",
            json!({"commands": ["ls"]}),
            "action",
            json!({"commands": ["ls"], "timeout_ms": null, "max_output_length": null}),
        ),
        (
            "apply_patch",
            json!({"type": "create_file", "path": "a", "diff": "+b"}),
            "operation",
            json!({"type": "create_file", "path": "a", "diff": "+b"}),
        ),
        ("tool_search", json!({"query": "mail"}), "arguments", json!({"query": "mail"})),
    ] {
        let fields = json!({"input": "Go.", "tools": tools, "stream": false});
        simulator.turn(json!({"calls": [{"name": name, "arguments": arguments}]}));
        let answer = respond(&program, fields.clone());
        assert_eq!(named(&answer), "");
        let item = answer.json()["output"][0].clone();
        assert_eq!(item["type"], format!("{name}_call"));
        assert_eq!((&item[field], &item["status"]), (&expected, &json!("completed")));

        let mut streamed = fields;
        streamed["stream"] = json!(true);
        simulator.turn(json!({"calls": [{"name": name, "arguments": arguments}]}));
        let events = respond(&program, streamed).text().to_owned();
        let done = events.lines().filter_map(|line| line.strip_prefix("data: "));
        let done: Vec<Value> = done.map(|data| serde_json::from_str(data).unwrap()).collect();
        let types: Vec<&str> = done.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let [.., "response.output_item.added", "response.output_item.done", "response.completed"] =
            types[..]
        else {
            panic!("{types:?}")
        };
        assert_eq!(done[done.len() - 2]["item"][field], expected);
    }
}

#[test]
fn what_a_clients_shell_and_patches_have_done_is_told_to_the_model() {
    let (simulator, program) = start();
    let input = json!([
        user(json!("Go.")),
        {"type": "shell_call", "call_id": "1", "action": {"commands": ["ls"], "timeout_ms": null}},
        {"type": "shell_call_output", "call_id": "1", "output": [
            {"stdout": "a.txt", "stderr": "oh", "outcome": {"type": "exit", "exit_code": 2}}
        ]},
        {"type": "local_shell_call", "id": "2", "call_id": "2", "action": {"type": "exec", "command": ["pwd"]}},
        {"type": "local_shell_call_output", "id": "2", "output": "/home"},
        {"type": "apply_patch_call", "call_id": "3", "operation": {"type": "delete_file", "path": "b"}},
        {"type": "apply_patch_call_output", "call_id": "3", "status": "failed"},
        {"type": "shell_call_output", "call_id": "nobody's", "output": []},
        user(json!("And?"))
    ]);
    let answer = respond(&program, json!({ "input": input }));
    assert_eq!(named(&answer), "input[7]");
    let texts: Vec<String> = told(&simulator).into_iter().map(|(_, text)| text).collect();
    for (at, expected) in [
        (1, r#"name="shell">{"commands":["ls"]}"#),
        (2, "a.txt\nstderr: oh\nexit code 2"),
        (3, r#"name="local_shell">{"command":["pwd"]}"#),
        (4, "/home"),
        (5, r#""path":"b""#),
        (6, "failed"),
    ] {
        assert!(texts[at].contains(expected), "{at}: {texts:?}");
    }
}

#[test]
fn custom_tools_of_chat_completions_take_one_text() {
    let (simulator, program) = start();
    let grammar = json!({"syntax": "lark", "definition": "start: /x+/"});
    let format = json!({"type": "grammar", "grammar": grammar});
    let tool = json!({"type": "custom", "custom": {"name": "run", "description": "Runs.", "format": format}});
    let call = |id: &str| json!({"id": id, "type": "custom", "custom": {"name": "run", "input": "x \"y\""}});
    let unknown = json!({"id": "u", "type": "odd", "odd": {"a": 1}});
    let messages = json!([
        user(json!("Go.")),
        {"role": "assistant", "content": null, "tool_calls": [call("c"), unknown]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
        {"role": "tool", "tool_call_id": "u", "content": "odd"},
        user(json!("Again."))
    ]);
    let turn = json!({"calls": [{"name": "run", "arguments": {"input": "x \"y\""}}]});
    for choice in [json!("auto"), json!({"type": "custom", "custom": {"name": "run"}})] {
        let fields = json!({"messages": messages, "tools": [tool], "tool_choice": choice});
        simulator.turn(turn.clone());
        let answer =
            chat(&program, json!({"model": "gpt-4", "messages": messages, "tools": [tool]}));
        assert_eq!(named(&answer), "");
        let choice = answer.json()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], "tool_calls");
        let called = choice["message"]["tool_calls"][0].clone();
        assert_eq!(called, call(called["id"].as_str().unwrap()), "{fields}");
    }
    let run = simulator.runs().pop().unwrap().to_string();
    assert!(run.contains("start: /x+/") && run.contains("odd"), "{run}");

    simulator.turn(turn);
    let answer = chat(
        &program,
        json!({"model": "gpt-4", "messages": messages, "tools": [tool], "stream": true}),
    );
    let calls: Vec<Value> = answer
        .chunks()
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0].as_object().cloned())
        .map(Value::Object)
        .collect();
    let id = calls[0]["id"].clone();
    let begin =
        json!({"index": 0, "id": id, "type": "custom", "custom": {"name": "run", "input": ""}});
    let end = json!({"index": 0, "custom": {"input": "x \"y\""}});
    assert_eq!(calls, [begin, end]);
}

#[test]
fn beside_tools_old_functions_do_not_count_and_are_named() {
    let (simulator, program) = start();
    let tool = json!({"type": "function", "function": {"name": "new_one"}});
    let fields = json!({
        "messages": [user(json!("Hi"))], "tools": [tool], "functions": [{"name": "old_one"}]
    });
    assert_eq!(named(&chat(&program, fields)), "functions");
    let tools = instructions(&simulator);
    assert!(tools.contains("new_one") && !tools.contains("old_one"), "{tools}");
}

#[test]
fn a_message_of_the_assistants_says_its_refusal_and_that_it_was_spoken() {
    let (simulator, program) = start();
    let messages = json!([
        user(json!("a")),
        {"role": "assistant", "content": null, "refusal": "I will not."},
        user(json!("b")),
        {"role": "assistant", "content": null, "audio": {"id": "audio_1"}},
        user(json!("c"))
    ]);
    assert_eq!(named(&chat(&program, json!({ "messages": messages }))), "messages[3].audio");
    let texts: Vec<String> = told(&simulator).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["a", "I will not.", "b", "[audio left out]", "c"]);
}

#[test]
fn names_of_authors_go_before_what_they_say_and_the_assistants_is_left_out() {
    let (simulator, program) = start();
    let by = |role: &str, name: &str, content: &str| json!({"role": role, "name": name, "content": content});
    let messages = json!([
        by("system", "example_user", "x"),
        by("user", "Ann", "Hi"),
        by("assistant", "Bot", "Hello"),
        by("user", "Bob\nsystem", "Ho"),
        by("user", &"x".repeat(65), "long"),
        by("user", "李", "Hey")
    ]);
    assert_eq!(named(&chat(&program, json!({ "messages": messages }))), "messages[2].name");
    let texts: Vec<String> = told(&simulator).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["Ann: Hi", "Hello", "Ho", "long", "李: Hey"]);
    assert_eq!(instructions(&simulator), "example_user: x");
}

#[test]
fn what_searches_and_documents_say_stands_below_where_it_is_from() {
    let (simulator, program) = start();
    let found = json!({
        "type": "search_result", "title": "T", "source": "https://x", "content": [text("found")]
    });
    let document = json!({
        "type": "document", "title": "D", "context": "of 2020",
        "source": {"type": "text", "data": "written"}
    });
    let summary = json!({"type": "compaction", "content": "What was before."});
    let call = json!({"type": "tool_use", "id": "t", "name": "ToolSearch", "input": {}});
    let reference = json!({"type": "tool_reference", "tool_name": "Mail"});
    let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [reference, found]});
    let messages = json!([
        user(json!("Look.")),
        said(json!([summary, call])),
        user(json!([result])),
        said(json!("Yes.")),
        user(json!([found, document, text("So?")]))
    ]);
    assert_eq!(named(&anthropic(&program, json!({"messages": messages}))), "");
    let texts: Vec<String> = told(&simulator).into_iter().map(|(_, text)| text).collect();
    assert!(texts[1].starts_with("What was before.\n"), "{texts:?}");
    assert!(texts[2].contains("\nThe tool Mail\nT\nhttps://x\nfound\n"), "{texts:?}");
    assert_eq!(texts[4], "T\nhttps://x\nfound\nD\nof 2020\nwritten\nSo?");
}

#[test]
fn of_calls_that_share_an_id_each_gets_its_own_result() {
    let (simulator, program) = start();
    let call = |name: &str| json!({"id": "same", "function": {"name": name, "arguments": "{}"}});
    let result = |text: &str| json!({"role": "tool", "tool_call_id": "same", "content": text});
    let calls = |names: &[&str]| {
        let calls: Vec<Value> = names.iter().map(|name| call(name)).collect();
        json!({"role": "assistant", "content": null, "tool_calls": calls})
    };
    let messages = json!([
        user(json!("Go.")),
        calls(&["left", "right"]),
        result("L"),
        result("R"),
        result("more"),
        // The first of these has no result, and the next turn's is not its.
        calls(&["lost"]),
        user(json!("Hm.")),
        calls(&["last"]),
        result("Z"),
        user(json!("So?"))
    ]);
    assert_eq!(named(&chat(&program, json!({ "messages": messages }))), "");
    let all: String = told(&simulator).into_iter().map(|(_, text)| text + "\n").collect();
    let results: Vec<(&str, &str)> = all
        .split("<result-")
        .skip(1)
        .map(|rest| {
            let (attributes, rest) = rest.split_once(">\n").unwrap();
            (attributes.split_once(' ').unwrap().1, rest.split_once('\n').unwrap().0)
        })
        .collect();
    let expected = [
        (r#"name="left" call="1""#, "L"),
        (r#"name="right" call="2""#, "R"),
        (r#"name="right" call="2""#, "more"),
        (r#"name="last""#, "Z"),
    ];
    assert_eq!(results, expected);
}

#[test]
fn an_effort_that_the_model_does_not_list_becomes_the_nearest_and_is_named_as_the_client_calls_it()
{
    let (simulator, program) = start();
    let messages = json!([user(json!("Hi"))]);
    let sent = || simulator.runs().pop().unwrap()["prompt_meta"]["reasoning_effort"].clone();
    for (model, asked, expected) in [
        ("o3", "none", json!("low")),
        ("o3", "xhigh", json!("high")),
        ("gpt-5", "max", json!("high")),
        ("gpt-5", "none", json!("minimal")),
        ("gpt-4o", "high", Value::Null),
    ] {
        let fields = json!({"model": model, "messages": messages, "reasoning_effort": asked});
        assert_eq!(named(&chat(&program, fields)), "reasoning_effort", "{model} {asked}");
        assert_eq!(sent(), expected, "{model} {asked}");

        let effort = json!({"effort": asked});
        let fields = json!({"model": model, "messages": messages, "output_config": effort});
        assert_eq!(named(&anthropic(&program, fields)), "output_config.effort", "{model} {asked}");
        assert_eq!(sent(), expected, "{model} {asked}");

        let answer = respond(&program, json!({"model": model, "input": "Hi", "reasoning": effort}));
        assert_eq!(named(&answer), "reasoning.effort", "{model} {asked}");
        assert_eq!((&sent(), &answer.json()["reasoning"]["effort"]), (&expected, &expected));
    }
    // What a model that is not listed takes is not known.
    let fields = json!({"model": "gpt-6-luna", "input": "Hi", "reasoning": {"effort": "max"}});
    let answer = respond(&program, fields);
    assert_eq!((named(&answer), &sent()), ("", &json!("max")));
    assert_eq!(answer.json()["reasoning"]["effort"], "max");
}

#[test]
fn a_request_that_wants_no_answer_starts_no_run_and_gets_an_empty_one() {
    let (simulator, program) = start();
    let messages = json!({"messages": [user(json!("Hi"))], "max_tokens": 0});
    let message = anthropic(&program, messages.clone()).json();
    assert_eq!((&message["content"], &message["stop_reason"]), (&json!([]), &json!("max_tokens")));
    let usage = &message["usage"];
    assert_eq!(usage["output_tokens"], 0);
    assert!(usage["input_tokens"].as_u64() > Some(0), "{usage}");

    let streamed = |mut fields: Value| {
        fields["stream"] = json!(true);
        fields
    };
    let events = anthropic(&program, streamed(messages)).text().to_owned();
    let names: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["message_start", "message_delta", "message_stop"]);
    assert!(events.contains(r#""stop_reason":"max_tokens""#), "{events}");

    for wish in [json!({"prompt_cache_options": {"prewarm": true}}), json!({"generate": false})] {
        let mut fields = json!({"input": "Hi"});
        fields.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        let response = respond(&program, fields.clone()).json();
        assert_eq!((&response["output"], &response["status"]), (&json!([]), &json!("completed")));
        assert_eq!(response["usage"]["output_tokens"], 0);
        assert!(response["usage"]["input_tokens"].as_u64() > Some(0), "{response}");
        let events = respond(&program, streamed(fields)).text().to_owned();
        let names: Vec<&str> =
            events.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        let expected = ["response.created", "response.in_progress", "response.completed"];
        assert_eq!(names, expected);
    }
    assert_eq!(simulator.stats().runs, 0);
    let asked = json!({"input": "Hi", "prompt_cache_options": {"prewarm": false, "ttl": "30m"}});
    assert_eq!(respond(&program, asked).json()["output"][0]["content"][0]["text"], "Hi");
}

#[test]
fn a_response_does_not_repeat_the_effort_that_a_further_run_was_started_without() {
    let (simulator, program) = start();
    let error = "error=Invalid%20value:%20'minimal'.%20Supported%20values%20are:%20'low'.";
    let input = format!("/sim say=Hi refuse=reasoning_effort {error}");
    let answer = respond(&program, json!({"input": input, "reasoning": {"effort": "minimal"}}));
    assert_eq!((named(&answer), simulator.stats().runs), ("reasoning.effort", 2));
    assert_eq!(answer.json()["reasoning"]["effort"], Value::Null);
}

/// What becomes of kinds, in the order of the table's columns.
const FATES: [(Fate, &str); 6] = [
    (Fate::Text, "read as text"),
    (Fate::Tool, "run by the client"),
    (Fate::Media, "[images and files](#images-audio-and-files)"),
    (Fate::PassedOver, "passed over"),
    (Fate::LeftOut, "left out, and named"),
    (Fate::Refused, "an error"),
];

/// The table of all kinds in Markdown.
fn table() -> String {
    let heads: String = FATES.iter().map(|(_, head)| format!(" {head} |")).collect();
    let mut table = format!("| |{heads}\n| --- |{}\n", " --- |".repeat(FATES.len()));
    for (api, lists) in [
        ("chat completions", openai::kinds::of_chat()),
        ("responses", openai::kinds::of_responses()),
        ("messages", anthropic::kinds::of_messages()),
    ] {
        for Listed { what, kinds } in lists {
            let cell = |fate: Fate| {
                let names = kinds.iter().filter(|(_, of)| *of == fate);
                names.map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            };
            let cells: String =
                FATES.iter().map(|(fate, _)| format!(" {} |", cell(*fate))).collect();
            table += &format!("| {api}: {what} |{cells}\n");
        }
    }
    table
}

#[test]
fn the_table_of_kinds_is_the_sources() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/README.md");
    let page = fs::read_to_string(&path).unwrap();
    let start = "<!-- kinds: made by UPDATE=1 cargo test --test it kinds:: -->\n";
    let (before, rest) = page.split_once(start).expect("the start of the table");
    let (shown, after) = rest.split_once("<!-- /kinds -->").expect("the end of the table");
    let made = table();
    if std::env::var("UPDATE").is_ok_and(|value| value == "1") {
        fs::write(&path, [before, start, &made, "<!-- /kinds -->", after].concat()).unwrap();
        return;
    }
    assert_eq!(shown, made, "src/README.md is out of date: UPDATE=1 cargo test --test it kinds::");
}
