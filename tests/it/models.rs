//! Names of models: those that are listed, those that are not and are tried, aliases, and models that OpenAI
//! has shut down. The list on other days than this one is tested beside `chat::models`.

use crate::simulator::{Fault, Simulator, Step};
use crate::support::{Program, Response, Start, start, streamed, user, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Asks a model with further fields.
fn ask(program: &Program, model: &str, more: Value) -> Response {
    let mut fields = json!({"model": model, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
    ]});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    program.chat(fields)
}

/// What the last run was given.
fn latest(simulator: &Simulator) -> Value {
    simulator.runs().last().unwrap()["prompt_meta"].clone()
}

fn listed(program: &Program, path: &str) -> Vec<String> {
    let list = program.get(path).json();
    let models = list["data"].as_array().unwrap().iter();
    models.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_name_that_is_not_listed_is_given_to_langfast_with_what_the_nearest_record_takes() {
    let (simulator, program) = start();
    let sampling =
        json!({"temperature": 0.5, "max_tokens": 1_000_000, "reasoning_effort": "xhigh"});
    for (name, role, streams, left_out) in [
        ("gpt-5.6-sol", "developer", true, "temperature"),
        ("gpt-6-luna-2026-10-01", "developer", true, "temperature"),
        ("openai/gpt-6-luna", "developer", true, "temperature"),
        ("o9", "developer", false, "temperature"),
        ("gpt-4.2", "system", true, "reasoning_effort"),
        ("claude-opus-4-8", "system", true, "reasoning_effort, temperature"),
    ] {
        let answer = ask(&program, name, sampling.clone());
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(answer.json()["model"], name);
        assert_eq!(answer.header("x-langfast2api-ignored"), Some(left_out), "{name}");
        let meta = latest(&simulator);
        assert_eq!((&meta["model"], &meta["messages"][0]["role"]), (&json!(name), &json!(role)));
        assert_eq!(meta["stream"], if streams { json!(true) } else { Value::Null }, "{name}");
        // No other model's limit binds this one.
        assert_eq!(meta["max_completion_tokens"], 1_000_000, "{name}");
        assert_eq!(meta.get("temperature").is_some(), role == "system" && name == "gpt-4.2");
        if role == "developer" {
            assert_eq!(meta["reasoning_effort"], "xhigh", "{name}");
        }
        assert!(program.chat(json!({"model": name, "messages": [{"role": "user", "content": "Hi"}], "stream": true})).is_done());
        assert!(latest(&simulator).get("max_completion_tokens").is_none(), "{name}");
    }
    assert_eq!(program.get("/v1/models/gpt-5.6-sol").status, 404);
    assert!(!listed(&program, "/v1/models?all=true").contains(&"o9".to_owned()));
}

#[test]
fn a_form_of_answer_that_is_asked_for_goes_to_a_model_of_which_nothing_is_known() {
    let (simulator, program) = start();
    let schema =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}});
    for (format, sent) in [
        (Value::Null, None),
        (json!({"type": "text"}), None),
        (json!({"type": "json_object"}), Some(json!("json_object"))),
        (schema.clone(), Some(schema)),
    ] {
        let answer = ask(&program, "gemini-3.8-flash", json!({"response_format": format}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-langfast2api-ignored"), None);
        assert_eq!(latest(&simulator).get("response_format"), sent.as_ref());
    }
}

#[test]
fn tools_are_offered_to_a_model_of_which_nothing_is_known_in_words_alone() {
    let (simulator, program) = start();
    let tools = json!({"tools": [{"type": "function", "function": {"name": "now"}}], "tool_choice": "required"});
    for (name, is_forced) in [("claude-opus-4-8", false), ("gpt-6-luna", true)] {
        ask(&program, name, tools.clone());
        let meta = latest(&simulator);
        assert!(meta["messages"].to_string().contains("now"), "{name}: {meta}");
        assert_eq!(meta["response_format"].is_object(), is_forced, "{name}: {meta}");
    }
}

#[test]
fn the_log_says_once_for_a_name_what_stands_in_for_it() {
    let (_simulator, program) = start();
    for name in ["gpt-6-luna", "gpt-6-luna", "llama", "gpt-4o", "gpt-6-luna"] {
        assert_eq!(ask(&program, name, json!({})).status, 200);
    }
    let log = program.stop();
    assert_eq!(
        log.matches("gpt-6-luna is not listed: it is tried, as one like gpt-5").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("llama is not listed, nor one like it").count(), 1, "{log}");
    assert_eq!(log.matches("is not listed").count(), 2, "{log}");
}

#[test]
fn a_name_that_can_be_no_models_is_not_tried_and_not_logged() {
    let (simulator, program) = start();
    for name in ["tell me a story".to_owned(), "a\nb".to_owned(), "x".repeat(100_000)] {
        let answer = ask(&program, &name, json!({}));
        assert_eq!((answer.status, &answer.error()["param"]), (400, &json!("model")));
        assert!(answer.body.len() < 1000);
    }
    assert_eq!(simulator.stats().http_requests, 0);
    let log = program.stop();
    assert!(!log.contains("story") && !log.contains("xxxx"), "{log}");
}

#[test]
fn refused_names_are_told_the_ways_out() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_UNKNOWN_MODELS", "refuse").start();
    let refused = ask(&program, "gpt-6-luna", json!({}));
    assert_eq!((refused.status, &refused.error()["code"]), (404, &json!("model_not_found")));
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    for way_out in ["GET /v1/models", "--unknown-models try", "--model-aliases gpt-6-luna="] {
        assert!(message.contains(way_out), "{message}");
    }
    assert_eq!(simulator.stats().http_requests, 0);
    let aliases = ["--model-aliases", "fast=gpt-6-mini", "--unknown-models", "refuse"];
    let (status, _, log) = Start::new(&simulator.url()).args(aliases).run();
    assert_eq!(status.code(), Some(2));
    assert!(log.contains("`fast=gpt-6-mini`: no such model is served"), "{log}");
    assert!(
        log.contains("--unknown-models refuse") && log.contains("langfast2api models"),
        "{log}"
    );
}

#[test]
fn aliases_lead_to_names_that_are_not_listed_and_patterns_win_over_trying() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url())
        .args(["--model-aliases", "fast=gpt-6-mini,claude-*=gpt-6-luna", "--tool-repair"])
        .start();
    for (asked, served) in
        [("fast", "gpt-6-mini"), ("claude-opus-4-8", "gpt-6-luna"), ("gpt-6-sol", "gpt-6-sol")]
    {
        let answer = ask(&program, asked, json!({"temperature": 1}));
        assert_eq!(answer.json()["model"], asked);
        assert_eq!(latest(&simulator)["model"], served);
        assert_eq!(answer.header("x-langfast2api-ignored"), Some("temperature"));
    }
    // The second run, which mends a call, is of the same model.
    let tools = json!({"tools": [{"type": "function", "function": {"name": "now"}}], "tool_choice": "required"});
    simulator.turn(json!({"text": "no call"}));
    let runs = simulator.runs().len();
    ask(&program, "gpt-6-sol", tools);
    wait_until("the second run", || simulator.runs().len() == runs + 2);
    assert_eq!(latest(&simulator)["model"], "gpt-6-sol");
}

#[test]
fn exact_aliases_are_listed_once_as_what_they_lead_to() {
    let aliases = "fast=gpt-4o,new=gpt-6-luna,o3=gpt-6-luna,claude-*=gpt-6-luna";
    let program =
        Start::new("http://127.0.0.1:1").args(["--model-aliases", aliases, "--all-models"]).start();
    let ids = listed(&program, "/v1/models");
    assert_eq!(ids.len(), 17 + 2);
    assert_eq!(ids[17..], ["fast", "new"]);
    assert_eq!(ids.iter().filter(|id| *id == "o3").count(), 1);
    let model = |name: &str| program.get(&format!("/v1/models/{name}")).json();
    let (fast, gpt_4o) = (model("fast"), model("gpt-4o"));
    assert_eq!(fast["id"], "fast");
    for field in ["created", "owned_by", "shutdown_date"] {
        assert_eq!(fast[field], gpt_4o[field], "{field}");
    }
    assert_eq!(gpt_4o["shutdown_date"], "2027-01-14");
    assert_eq!(model("new")["shutdown_date"], Value::Null);
    assert_eq!(model("o3")["shutdown_date"], Value::Null, "it is served by another");
    assert_eq!(model("claude-x")["id"], "claude-x");
    let anthropic = "anthropic-version: 2023-06-01\r\n";
    let list = program.request("GET", "/v1/models", anthropic, b"").json();
    assert_eq!(list["data"].as_array().unwrap().len(), 19);
}

#[test]
fn what_is_gone_is_listed_if_it_is_wanted_and_served_in_any_case() {
    let simulator = Simulator::start();
    // These aliases keep the list from being empty, on whatever day this runs.
    let start = || Start::new(&simulator.url()).args(["--model-aliases", "new=gpt-6-luna"]);
    let program = start().start();
    for path in ["/v1/models", "/v1/models?all=false", "/v1/models?limit=1"] {
        let ids = listed(&program, path);
        assert!(ids.contains(&"new".to_owned()), "{path}: {ids:?}");
        assert!(!ids.contains(&"gpt-4.5-preview".to_owned()), "{path}: {ids:?}");
    }
    assert!(
        listed(&program, "/v1/models?limit=1&all=true").contains(&"gpt-4.5-preview".to_owned())
    );
    assert_eq!(program.get("/v1/models/gpt-4.5-preview").json()["shutdown_date"], "2025-07-14");
    assert_eq!(ask(&program, "gpt-4.5-preview", json!({})).status, 200);
    assert_eq!(latest(&simulator)["model"], "gpt-4.5-preview");
    let program = start().env("LANGFAST2API_ALL_MODELS", "true").start();
    assert!(listed(&program, "/v1/models").contains(&"gpt-4.5-preview".to_owned()));
}

/// A list of which nothing is left on any day that this runs.
const GONE: &str =
    r#"[{"slug": "o1-mini", "provider": "openai", "parameters": {"message_types": ["user"]}}]"#;

#[test]
fn a_list_of_which_nothing_is_left_still_serves_and_says_what_to_do() {
    let directory = crate::support::Directory::new();
    let file = directory.path().join("models.json");
    std::fs::write(&file, GONE).unwrap();
    let simulator = Simulator::start();
    let start = || Start::new(&simulator.url()).arg("--models").arg(&file);
    let program = start().arg("--warm-up").start();
    assert_eq!(listed(&program, "/v1/models"), ["o1-mini"]);
    let warning = "OpenAI has shut down every model of the list, the last on 2025-10-27";
    program.wait_for_log(warning);
    program.wait_for_log("warm: signed in and connected");
    assert_eq!(program.ask("Hi").content(), "Hi");
    program.signal(Signal::HUP);
    wait_until("the second warning", || program.times_logged(warning) == 2);

    let (status, report, _) = start().args(["doctor", "--json", "--sign-in", "--run"]).run();
    assert!(status.success(), "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    let steps = report["steps"].as_array().unwrap();
    let models = steps.iter().find(|step| step["step"] == "models").unwrap();
    assert_eq!(models["state"], "warning");
    assert!(models["message"].as_str().unwrap().ends_with(&format!("; but {warning}")), "{models}");
    assert!(models["advice"].as_str().unwrap().contains("models --import"), "{models}");
    let (_, check, _) = start().arg("--check-config").run();
    assert!(check.contains(&format!("but {warning}")), "{check}");
    let (_, table, notes) = start().arg("models").run();
    assert!(table.contains("2025-10-27 (gone)") && notes.contains(warning), "{table}{notes}");
}

#[test]
fn the_doctor_warns_of_aliases_that_lead_to_what_is_gone_and_names_what_replaces_it() {
    let simulator = Simulator::start();
    let start = || {
        Start::new(&simulator.url()).args(["--model-aliases", "old=o1-mini,x-*=gpt-4.5-preview"])
    };
    let (status, report, _) = start().args(["doctor", "--sign-in"]).run();
    assert!(status.success(), "{report}");
    for words in [
        "`old` leads to o1-mini: OpenAI has shut it down on 2025-10-27",
        "`x-*` leads to gpt-4.5-preview",
        "'old=gpt-5.6-terra'",
    ] {
        assert!(report.contains(words), "{report}");
    }
    let program = start().start();
    program.wait_for_log("the alias `old` leads to o1-mini");
    // A run with a model that is gone is made, and says what is known of it where it fails.
    simulator
        .fault(Step::Run, Fault::status(400).body(r#"{"error":"The model has been deprecated"}"#));
    let (_, report, _) = start().args(["doctor", "--sign-in", "--run", "--model", "old"]).run();
    assert!(report.contains("and names gpt-5.6-terra in its place"), "{report}");
}

#[test]
fn the_doctor_runs_a_model_that_is_not_listed() {
    let simulator = Simulator::start();
    let (status, report, _) = Start::new(&simulator.url())
        .args(["doctor", "--sign-in", "--run", "--model", "gpt-6-luna"])
        .run();
    assert!(status.success(), "{report}");
    assert_eq!(latest(&simulator)["model"], "gpt-6-luna");
}

#[test]
fn the_page_and_the_command_tell_until_when_a_model_is_there() {
    let program =
        Start::new("http://127.0.0.1:1").args(["--model-aliases", "new=gpt-6-luna"]).start();
    let list = program.get("/status/models").json();
    let find = |id: &str| list.as_array().unwrap().iter().find(|model| model["id"] == id).unwrap();
    let gone = find("gpt-4.5-preview");
    assert_eq!((&gone["is_shut_down"], &gone["replacement"]), (&json!(true), &json!("gpt-6-luna")));
    assert_eq!(find("gpt-4o")["shutdown_date"], "2027-01-14");
    let luna = find("gpt-6-luna");
    assert_eq!((&luna["names"], &luna["is_listed"]), (&json!(["new"]), &json!(false)));
    let (_, json, _) = Start::new("http://127.0.0.1:1").args(["models", "--json"]).run();
    let list: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list[0]["shutdown_date"], "2027-01-14");
}

#[test]
fn tokens_are_counted_for_a_name_that_is_not_listed() {
    let (simulator, program) = start();
    let body =
        json!({"model": "claude-opus-4-8", "max_tokens": 1, "messages": user("Hi")["messages"]});
    let count = |program: &Program| {
        let headers = "Content-Type: application/json\r\nanthropic-version: 2023-06-01\r\n";
        program.request("POST", "/v1/messages/count_tokens", headers, body.to_string().as_bytes())
    };
    assert!(count(&program).json()["input_tokens"].as_u64() > Some(0));
    let refusing = Start::new(&simulator.url()).args(["--unknown-models", "refuse"]).start();
    assert_eq!(count(&refusing).status, 404);
    assert!(simulator.runs().is_empty());
}

#[test]
fn a_streamed_answer_carries_the_name_that_was_asked_for() {
    let (_simulator, program) = start();
    let mut fields = streamed("Hi");
    fields["model"] = json!("gpt-6-luna");
    let chunks = program.chat(fields).chunks();
    assert!(chunks.iter().all(|chunk| chunk["model"] == "gpt-6-luna"));
}
