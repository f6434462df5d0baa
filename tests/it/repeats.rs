//! What cannot succeed does not cost again: a spent quota is answered from memory, and so is a request whose
//! run has just failed.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::simulator::{Fault, Simulator, Step};
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Directory, Program, Response, Start, chat_body, streamed, user, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

const SPENT: &str = r#"{"error":"You have reached your daily limit of 50 requests"}"#;

/// The program with default settings.
fn start() -> (Simulator, Program) {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).remembering().start();
    (simulator, program)
}

/// Has LangFast say once that the quota is spent.
fn spend(simulator: &Simulator) {
    simulator.fault(Step::Run, Fault::status(429).body(SPENT));
}

fn message(response: &Response) -> String {
    response.error()["message"].as_str().unwrap().to_owned()
}

#[track_caller]
fn is_spent(response: &Response) {
    assert_eq!(response.status, 429, "{}", response.text());
    assert_eq!(response.header("x-should-retry"), Some("false"));
    assert_eq!(response.header("retry-after"), None);
    assert!(message(response).contains("daily limit of 50 requests"), "{}", response.text());
}

#[track_caller]
fn is_from_memory(response: &Response) {
    assert!(message(response).contains("(answered from memory: "), "{}", response.text());
}

fn status(program: &Program) -> Value {
    program.get("/status").json()
}

fn post(program: &Program, path: &str, headers: &str, body: &Value) -> Response {
    program.request("POST", path, headers, body.to_string().as_bytes())
}

// A spent quota.

#[test]
fn a_spent_quota_is_answered_from_memory_in_every_dialect_until_langfast_is_asked_again() {
    let (simulator, program) = start();
    spend(&simulator);
    let first = program.ask("Hi");
    is_spent(&first);
    assert!(!message(&first).contains("from memory"));
    let asked = simulator.stats().http_requests;

    // Whatever is asked for, and by whom.
    let messages = json!([{"role": "user", "content": "another question"}]);
    for (path, fields) in [
        ("/v1/chat/completions", json!({"messages": messages, "stream": true})),
        ("/v1/completions", json!({"prompt": "another question"})),
        ("/v1/responses", json!({"input": "another question"})),
        ("/v1/responses", json!({"input": "another question", "stream": true})),
        ("/v1/messages", json!({"messages": messages, "max_tokens": 9})),
    ] {
        let answer = post(&program, path, "x-api-key: other\r\n", &chat_body(fields));
        is_spent(&answer);
        is_from_memory(&answer);
        let message = message(&answer);
        assert!(message.contains("LangFast said so") && message.contains(" ago"), "{message}");
        assert!(message.contains("it is asked again in"), "{message}");
        let is_anthropic = answer.json()["type"] == "error";
        assert_eq!(is_anthropic, path == "/v1/messages");
        let kind = if is_anthropic { "rate_limit_error" } else { "insufficient_quota" };
        assert_eq!(answer.error()["type"], kind, "{path}");
    }
    let other_model = program.chat(json!({"model": "gpt-4.1", "messages": messages}));
    is_from_memory(&other_model);
    assert_eq!(simulator.stats().http_requests, asked, "LangFast hears nothing of it");
    // What is wrong in itself, and what costs nothing, is answered as ever.
    assert_eq!(program.chat(json!({"messages": []})).status, 400);
    assert_eq!(program.get("/v1/models").status, 200);
    assert_eq!(program.get("/readyz").status, 200);
}

#[test]
fn a_quota_that_runs_out_within_a_run_is_remembered_too() {
    for how in
        ["error=Daily%20quota%20exceeded", "text=lorem fail=3 error=Daily%20quota%20exceeded"]
    {
        let (simulator, program) = start();
        let failed = program.ask_stream(&format!("/sim {how}"));
        assert!(failed.text().contains("Daily quota exceeded"), "{}", failed.text());
        let runs = simulator.stats().runs;
        let answer = program.ask("Hi");
        assert_eq!(answer.error()["code"], "insufficient_quota");
        is_from_memory(&answer);
        assert_eq!(simulator.stats().runs, runs);
    }
}

#[test]
fn a_rate_limit_and_a_plan_are_no_quota() {
    let (simulator, program) = start();
    for (fault, code) in [
        (Fault::status(429).body(r#"{"error":"Too many requests"}"#), "rate_limit_exceeded"),
        (
            Fault::status(403).body(r#"{"error":"Upgrade to Pro to use this model"}"#),
            "plan_required",
        ),
    ] {
        simulator.fault(Step::Run, fault);
        assert_eq!(program.ask(code).error()["code"], code);
        assert_eq!(program.ask("Hi").content(), "Hi", "{code}");
    }
    assert_eq!(status(&program)["spent_quota"], false);
}

#[test]
fn the_quota_of_one_model_leaves_the_others() {
    let (simulator, program) = start();
    let words = r#"{"error":"You have reached the daily limit for this model"}"#;
    simulator.fault(Step::Run, Fault::status(429).body(words));
    assert_eq!(program.ask("Hi").status, 429);
    is_from_memory(&program.ask("Ho"));
    let other =
        program.chat(json!({"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hi"}]}));
    assert_eq!(other.content(), "Hi");
    is_from_memory(&program.ask("Ho"));
}

#[test]
fn at_the_time_that_langfast_names_one_request_finds_out_for_all() {
    let (simulator, program) = start();
    simulator.fault(Step::Run, Fault::status(429).header("retry-after", "1").body(SPENT));
    is_spent(&program.ask("Hi"));
    // The one that is let through is held up.
    simulator.fault(Step::Run, Fault::slow(2000));
    std::thread::scope(|scope| {
        let probe = scope.spawn(|| {
            wait_until("LangFast to be asked again", || program.ask("Hi").status == 200);
        });
        let finds_out = "by a request that is under way";
        wait_until("a probe", || {
            status(&program)["problem"].as_str().is_some_and(|problem| problem.contains(finds_out))
        });
        let other = program.ask("Ho");
        is_spent(&other);
        assert!(message(&other).contains(finds_out), "{}", message(&other));
        probe.join().unwrap();
    });
    assert_eq!(program.ask("Ho").content(), "Ho");
    assert_eq!(simulator.stats().runs, 2);
}

#[test]
fn a_request_that_langfast_answers_again_ends_it() {
    let (simulator, program) = start();
    simulator.fault(Step::Run, Fault::status(429).header("retry-after", "1").body(SPENT));
    is_spent(&program.ask("Hi"));
    wait_until("LangFast to be asked again", || program.ask("Hi").status == 200);
    assert_eq!(program.ask("Ho").content(), "Ho");
    assert_eq!(simulator.stats().runs, 2);
    program.wait_for_log("the quota is not spent any more");
    assert_eq!(status(&program)["spent_quota"], false);
}

#[test]
fn a_probe_that_ends_without_an_answer_leaves_it_to_the_next_request() {
    let (simulator, program) = start();
    simulator.fault(Step::Run, Fault::status(429).header("retry-after", "1").body(SPENT));
    is_spent(&program.ask("Hi"));
    simulator.fault(Step::Run, Fault::status(500));
    wait_until("LangFast to be asked again", || program.ask("Hi").status == 502);
    assert_eq!(program.ask("Ho").content(), "Ho");
}

#[test]
fn sighup_and_a_restart_have_langfast_asked_again() {
    let (simulator, program) = start();
    spend(&simulator);
    is_spent(&program.ask("Hi"));
    is_from_memory(&program.ask("Hi"));
    program.signal(Signal::HUP);
    wait_until("LangFast to be asked again", || program.ask("Hi").status == 200);
    spend(&simulator);
    is_spent(&program.ask("Hi"));
    let again = Start::new(&simulator.url()).remembering().state_dir(program.state_dir()).start();
    assert_eq!(again.ask("Hi").content(), "Hi");
}

/// Logs in with the account, as a person does beside a running server.
fn log_in(simulator: &Simulator, state: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_langfast2api"));
    command.arg("login").stdin(Stdio::piped()).stdout(Stdio::piped());
    let start = Start::of(command, &simulator.url(), state);
    let (mut input, answers) =
        (tempfile::tempfile().unwrap(), "user@example.com\ncorrect-password\n");
    std::io::Write::write_all(&mut input, answers.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let (status, out, log) = start.run_with(input);
    assert!(status.success(), "{out}{log}");
}

#[test]
fn a_login_beside_the_running_server_ends_it_at_once() {
    let (simulator, state) = (Simulator::start(), Directory::new());
    let program = Start::new(&simulator.url()).remembering().state_dir(state.path()).start();
    assert_eq!(program.ask("Hi").content(), "Hi");
    // Twice: as another user, and as the same one again.
    for _ in 0..2 {
        spend(&simulator);
        is_spent(&program.ask("Hi"));
        is_from_memory(&program.ask("Hi"));
        log_in(&simulator, state.path());
        assert_eq!(program.ask("Hi").content(), "Hi");
        assert_eq!(status(&program)["session"], "account");
    }
}

#[test]
fn status_log_metrics_and_doctor_say_that_the_quota_is_spent() {
    let (simulator, program) = start();
    assert_eq!(status(&program)["spent_quota"], false);
    let metric = |line: &str| program.get("/metrics").text().lines().any(|other| other == line);
    assert!(metric("langfast2api_quota_spent 0"));
    spend(&simulator);
    is_spent(&program.ask("Hi"));
    is_from_memory(&program.ask("Ho"));

    let told = status(&program);
    assert_eq!(told["spent_quota"], true);
    let problem = told["problem"].as_str().unwrap();
    assert!(problem.contains("daily limit") && problem.contains("asked again in"), "{problem}");
    assert!(metric("langfast2api_quota_spent 1"));
    let counted = r#"langfast2api_errors_total{cause="remembered_quota",step="start the run"} 1"#;
    wait_until("it to be counted", || metric(counted));
    program.wait_for_log("the quota is spent");
    program.wait_for_log("remembered_quota");

    let url = format!("http://{}", program.address());
    let doctor = Start::new(&simulator.url()).args(["doctor", "--url", &url]);
    let (status, text, _) = doctor.run();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains("public URL: requests") && text.contains("daily limit"), "{text}");
}

// A request whose run has just failed.

#[test]
fn the_same_request_gets_the_same_failure_from_memory_streamed_or_not() {
    for begins in [false, true] {
        let (simulator, program) = start();
        let how = if begins { "text=lorem fail=3 error=boom" } else { "error=boom" };
        let content = format!("/sim {how}");
        let failed = program.ask_stream(&content);
        assert_eq!(failed.status, if begins { 200 } else { 502 });
        for answer in [program.ask(&content), program.ask_stream(&content)] {
            assert_eq!(answer.status, 502, "{}", answer.text());
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            let error = answer.error();
            assert_eq!(
                (&error["type"], &error["code"]),
                (&json!("upstream_error"), &json!("upstream_error"))
            );
            let message = message(&answer);
            assert!(
                message.contains("boom (answered from memory: this very request failed"),
                "{message}"
            );
            assert!(message.contains("it will be tried again in"), "{message}");
        }
        assert_eq!(simulator.stats().runs, 1);
        let counted =
            r#"langfast2api_errors_total{cause="remembered_failure",step="run the prompt"} 2"#;
        wait_until("them to be counted", || program.get("/metrics").text().contains(counted));
    }
}

#[test]
fn it_is_told_in_the_clients_dialect() {
    let (simulator, program) = start();
    let message = json!([{"role": "user", "content": "/sim error=boom"}]);
    for (path, fields) in [
        ("/v1/completions", json!({"prompt": "/sim error=boom"})),
        ("/v1/responses", json!({"input": "/sim error=boom", "stream": true})),
        ("/v1/messages", json!({"messages": message, "max_tokens": 9, "stream": true})),
    ] {
        let before = simulator.stats().runs;
        let (first, second) = (
            post(&program, path, "", &chat_body(fields.clone())),
            post(&program, path, "", &chat_body(fields)),
        );
        assert_eq!((first.status, second.status), (502, 502), "{path}");
        let keys = |answer: &Response| -> Vec<String> {
            answer.error().as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(&first), keys(&second));
        assert_eq!(first.error()["type"], second.error()["type"]);
        is_from_memory(&second);
        assert_eq!(simulator.stats().runs, before + 1, "{path}");
    }
}

#[test]
fn another_question_another_client_and_another_url_are_other_requests() {
    let (simulator, program) = start();
    let body = |more: Value| {
        let mut fields = user("/sim error=boom");
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        chat_body(fields)
    };
    let chat = "/v1/chat/completions";
    let own = "Authorization: Bearer mine\r\n";
    assert_eq!(post(&program, chat, own, &body(json!({}))).status, 502);
    for (path, headers, more) in [
        (chat, "Authorization: Bearer yours\r\n", json!({})),
        (chat, own, json!({"messages": [{"role": "user", "content": "/sim error=boom events=1"}]})),
        (chat, own, json!({"model": "gpt-4.1"})),
        (chat, own, json!({"stop": "x"})),
        ("/v1/messages", own, json!({"max_tokens": 5})),
    ] {
        let before = simulator.stats().runs;
        let answer = post(&program, path, headers, &body(more.clone()));
        assert_eq!(simulator.stats().runs, before + 1, "{path} {more}: {}", answer.text());
    }
    // What has no effect makes no other request, nor does another limit of tokens: agents write such things
    // anew each time.
    let before = simulator.stats().runs;
    for more in [
        json!({"metadata": {"turn": 1}}),
        json!({"client_metadata": {"a": 1, "b": 2}}),
        json!({"max_tokens": 5}),
    ] {
        is_from_memory(&post(&program, chat, own, &body(more)));
    }
    assert_eq!(simulator.stats().runs, before);
}

#[test]
fn what_a_second_try_mends_is_tried() {
    let (simulator, program) = start();
    for fault in [
        Fault::status(429).header("retry-after", "1").body(r#"{"error":"Too many requests"}"#),
        Fault::status(503).header("sb-error-code", "BOOT_ERROR").body("{}").times(2),
        Fault::status(503).header("retry-after", "1"),
    ] {
        simulator.fault(Step::Run, fault.clone());
        let told = format!("{fault:?}");
        assert_ne!(program.ask("Hi").status, 200, "{told}");
        assert_eq!(program.ask("Hi").content(), "Hi", "{told}");
    }
    for step in [Step::CreatePrompt, Step::SignUp] {
        let (simulator, program) = start();
        // The program itself tries these once more.
        simulator.fault(step, Fault::status(500).times(2));
        assert_ne!(program.ask("Hi").status, 200);
        assert_eq!(program.ask("Hi").content(), "Hi", "{step:?}: no run was started");
    }
}

#[test]
fn a_refused_parameter_that_was_learnt_is_no_failure_of_the_next_request() {
    let (simulator, program) = start();
    // More of them than one request gives up.
    let mut fields = user("/sim say=Hi refuse=temperature,top_p,presence_penalty");
    let more = json!({"temperature": 0.1, "top_p": 0.2, "presence_penalty": 0.3});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(program.chat(fields.clone()).status, 400);
    assert_eq!(program.chat(fields).content(), "Hi");
    assert_eq!(simulator.stats().runs, 4);
}

#[test]
fn a_client_that_leaves_leaves_no_failure() {
    let (simulator, program) = start();
    let connection = program.chat_connection(streamed("/sim text=lorem delay=300"));
    wait_until("the run", || simulator.stats().runs == 1);
    drop(connection);
    program.wait_for_log("client_gone");
    let mut again = program.chat_connection(streamed("/sim text=lorem delay=300"));
    assert_eq!(again.head().status, 200);
}

#[test]
fn after_the_time_that_is_set_or_with_0_or_sighup_it_is_tried_again() {
    let simulator = Simulator::start();
    for seconds in ["0", "0.05"] {
        let program = Start::new(&simulator.url()).args(["--remember-failures", seconds]).start();
        let before = simulator.stats().runs;
        wait_until("a second run", || {
            assert_eq!(program.ask("/sim error=boom").status, 502);
            simulator.stats().runs == before + 2
        });
    }
    let program = Start::new(&simulator.url()).remembering().start();
    let before = simulator.stats().runs;
    assert_eq!(program.ask("/sim error=boom").status, 502);
    program.signal(Signal::HUP);
    wait_until("a second run", || {
        program.ask("/sim error=boom");
        simulator.stats().runs == before + 2
    });
}

#[test]
fn neither_the_log_nor_the_error_of_a_remembered_request_tells_what_was_asked() {
    let (_simulator, program) = start();
    let messages = ["Staatsgeheimnis", "/sim error=boom"];
    let messages = messages.map(|content| json!({"role": "user", "content": content}));
    let body = chat_body(json!({ "messages": messages })).to_string();
    for _ in 0..2 {
        let answer = program.request(
            "POST",
            "/v1/chat/completions",
            "Authorization: Bearer my-own-key\r\n",
            body.as_bytes(),
        );
        assert_eq!(answer.status, 502);
        assert!(!answer.text().contains("Staatsgeheimnis"));
    }
    let log = program.stop();
    assert!(!log.contains("Staatsgeheimnis") && !log.contains("my-own-key"), "{log}");
}

// Runs that go on without a client.

#[test]
fn what_fails_in_the_background_is_remembered_too() {
    let background = |text: &str| chat_body(json!({"input": text, "background": true}));
    for (error, code) in
        [("Daily%20quota%20exceeded", "insufficient_quota"), ("boom", "upstream_error")]
    {
        let (simulator, program) = start();
        let question = background(&format!("/sim text=lorem fail=3 error={error}"));
        let response = post(&program, "/v1/responses", "", &question);
        assert_eq!(response.status, 200, "{}", response.text());
        let path = format!("/v1/responses/{}", response.json()["id"].as_str().unwrap());
        wait_until("the failure", || program.get(&path).json()["status"] == "failed");
        let answer = post(&program, "/v1/responses", "", &question);
        assert_eq!(answer.error()["code"], code, "{}", answer.text());
        is_from_memory(&answer);
        assert_eq!(simulator.stats().runs, 1);
    }
}

#[test]
fn what_fails_behind_a_client_that_has_left_is_remembered_too() {
    let simulator = Simulator::builder().literal_socket().start();
    let program = Start::new(&simulator.url()).remembering().start();
    let fields = json!({"input": SILENT, "stream": true});
    let body = chat_body(fields).to_string();
    let headers = "Content-Type: application/json\r\n";
    let mut connection = program.send("POST", "/v1/responses", headers, body.as_bytes());
    let run = Stepped::only(&simulator);
    run.says("one ");
    connection.head();
    connection.chunk();
    drop(connection);
    wait_until("the server to notice", || program.get("/metrics").text().contains("connections 1"));
    run.emits(json!({"error": "Daily quota exceeded"}));
    wait_until("the failure", || status(&program)["spent_quota"] == true);
    assert_eq!(program.ask("Hi").error()["code"], "insufficient_quota");
}
