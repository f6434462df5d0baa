//! The log: its formats, the request's id in its lines, and what never is in it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use crate::simulator::{Fault, Simulator, Step};
use crate::support::{Directory, Program, Start, chat_body, user, wait_until};
use langfast2api::observe::logger::{self, LogFormat};
use rustix::process::Signal;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// A chat completion that brings its own request id.
fn ask_as(program: &Program, id: &str, mut fields: Value) -> u16 {
    fields["model"] = json!("gpt-4o");
    let headers = format!("Content-Type: application/json\r\nX-Request-Id: {id}\r\n");
    program.request("POST", CHAT, &headers, chat_body(fields).to_string().as_bytes()).status
}

/// The lines of the log, once `text` is in it.
fn lines_with(program: &Program, text: &str) -> Vec<String> {
    program.wait_for_log(text);
    program.log().lines().map(str::to_owned).collect()
}

#[test]
fn every_line_of_a_request_has_its_id_those_of_further_runs_too() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--log=trace").start();
    assert_eq!(ask_as(&program, "first", user("hello")), 200);
    let mut fields = user("hello");
    fields["n"] = json!(3);
    assert_eq!(ask_as(&program, "second", fields), 200);
    simulator.fault(Step::Run, Fault::status(500).times(1));
    assert_eq!(ask_as(&program, "third", user("hello")), 502);
    assert_eq!(ask_as(&program, "fourth", user("/sim events=9 fail=3 error=boom")), 502);
    assert_eq!(ask_as(&program, "fifth", json!({"messages": []})), 400);
    program.request("GET", "/nowhere", "X-Request-Id: sixth\r\n", b"");

    // Some lines follow their answers.
    let log = program.stop();
    let lines: Vec<&str> = log.lines().collect();
    let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    for id in ["first", "second", "third", "fourth", "fifth"] {
        assert_eq!(count(&format!("POST {CHAT} status")), 5);
        let of_it = lines.iter().filter(|line| line.ends_with(&format!(" id={id}")));
        let requests = of_it.filter(|line| line.contains(&format!("POST {CHAT}"))).count();
        assert_eq!(requests, 1, "{id}: {lines:?}");
    }
    let runs = |id: &str| {
        let of_it = lines.iter().filter(|line| line.ends_with(&format!(" id={id}")));
        of_it.filter(|line| line.contains("start the run: ")).count()
    };
    assert_eq!([runs("first"), runs("second"), runs("third"), runs("fourth")], [1, 3, 1, 1]);
    assert_eq!(count("start the run: "), 6, "none without an id: {lines:?}");
    let refused = lines.iter().find(|line| line.ends_with("id=sixth")).unwrap();
    assert!(refused.contains("GET /nowhere status=404 error=no_such_url peer=127.0.0.1:"));
}

#[test]
fn as_json_every_line_is_an_object_the_first_and_the_last_too() {
    let simulator = Simulator::start();
    let program =
        Start::new(&simulator.url()).env("LANGFAST2API_LOG_FORMAT", "json").arg("--log=trace");
    let program = program.lasting().start();
    assert_eq!(ask_as(&program, "first", user("hello")), 200);
    program.wait_for_log("\"first\"");
    wait_until("the line of the request", || program.log().contains("\"status\":200"));
    let lines = program.log();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
        assert!(["debug", "info"].contains(&line["level"].as_str().unwrap()), "{line}");
        assert!(line["message"].is_string() && line["module"].is_string(), "{line}");
    }
    let request = lines.iter().find(|line| line["status"] == 200).unwrap();
    assert_eq!(request["message"], format!("POST {CHAT}"));
    assert_eq!(request["request_id"], "first");
    assert_eq!(request["model"], "gpt-4o");
    assert!(request["ms"].is_u64() && request["first_ms"].is_u64() && request["bytes"].is_u64());
    assert_eq!(request.get("error"), None, "what there is not is left out");

    let (status, _, log) = Start::new("ftp://x").arg("--log=off").arg("--log-format=json").run();
    assert_eq!(status.code(), Some(2));
    let line: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["message"].as_str().unwrap().contains("--supabase-url: "), "{line}");

    // Also of what is found before the settings are read.
    let start = Start::new("http://x").env("LANGFAST2API_LOG_FORMAT", "json");
    let (status, _, log) = start.env("LANGFAST2API_MAX_BODY", "x").run();
    assert_eq!(status.code(), Some(2));
    let line: Value = serde_json::from_str(&log).unwrap();
    assert!(line["message"].as_str().unwrap().contains("LANGFAST2API_MAX_BODY"), "{line}");
}

/// What it writes when standard error is a file, with `JOURNAL_STREAM` as `stream` makes it from
/// that file's device and inode.
fn first_words(stream: impl Fn(u64, u64) -> String) -> String {
    let directory = Directory::new();
    let log = File::create(directory.path().join("log")).unwrap();
    let file = log.metadata().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_langfast2api"))
        .env("JOURNAL_STREAM", stream(file.dev(), file.ino()))
        .args(["--supabase-url", "ftp://x"])
        .stdin(Stdio::null())
        .stderr(log)
        .status()
        .unwrap();
    assert_eq!(output.code(), Some(2));
    std::fs::read_to_string(directory.path().join("log")).unwrap()
}

#[test]
fn the_journal_is_known_by_its_stream_and_gets_priorities() {
    let line = first_words(|device, inode| format!("{device}:{inode}"));
    assert!(line.starts_with("<3>langfast2api: --supabase-url: "), "{line}");
    let line = first_words(|device, inode| format!("{device}:{}", inode + 1));
    assert!(line.starts_with("langfast2api: "), "standard error was redirected: {line}");

    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).lasting().arg("--log-format=journal").start();
    simulator.fault(Step::Run, Fault::status(500).times(1));
    assert_eq!(ask_as(&program, "first", user("hello")), 502);
    let lines = lines_with(&program, &format!("<6>POST {CHAT} status=502"));
    assert!(lines.iter().all(|line| line.starts_with("<6>") || line.starts_with("<7>")));
    assert!(lines.iter().any(|line| line.starts_with("<7>start the run: 500")), "{lines:?}");
}

/// What it writes on a terminal, which `script` makes.
fn on_a_terminal(no_color: &str) -> String {
    let simulator = Simulator::start();
    let program = env!("CARGO_BIN_EXE_langfast2api");
    let url = simulator.url();
    let state = Directory::new();
    let state_dir = state.path().display();
    let command = format!(
        "{program} --listen 127.0.0.1:0 --supabase-url {url} --runner-url {url} \
         --state-dir {state_dir} > {state_dir}/out & \
         until grep -q listens {state_dir}/out; do sleep 0.02; done; kill -TERM $!; wait $!"
    );
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("NO_COLOR", no_color)
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .output()
        .expect("script, of Debian's bsdutils");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_terminal_has_colours_unless_it_shall_not() {
    let coloured = on_a_terminal("");
    assert!(coloured.contains("Z \x1b[32mINFO \x1b[0m stopping"), "{coloured:?}");
    let plain = on_a_terminal("1");
    assert!(plain.contains("Z INFO  stopping"), "{plain:?}");
}

#[test]
fn a_module_has_a_level_of_its_own() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--log=warn,langfast=debug").start();
    assert_eq!(ask_as(&program, "first", user("hello")), 200);
    // The request's own line would follow its answer.
    let log = program.stop();
    assert!(log.contains("start the run: 200") && !log.contains("POST"), "{log}");
}

#[test]
#[ignore = "a_panic_is_logged_without_its_words runs it"]
fn a_thread_that_panics() {
    logger::start("info", LogFormat::Text);
    let words = || panic!("the-prompt");
    let thread = std::thread::Builder::new().name("worker".to_owned());
    assert!(thread.spawn(words).unwrap().join().is_err());
}

#[test]
fn a_panic_is_logged_without_its_words() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logs::a_thread_that_panics", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let log = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(log.contains("ERROR a panic at tests/it/logs.rs:"), "{log}");
    assert!(log.contains("in the thread `worker`") && !log.contains("the-prompt"), "{log}");
}

#[test]
fn nothing_said_or_secret_reaches_the_log_whatever_its_format() {
    for format in ["text", "journal", "json"] {
        let simulator = Simulator::builder().token_lifetime(60).start();
        let program = Start::new(&simulator.url())
            .env("LANGFAST2API_API_KEYS", "the-api-key")
            .env("LANGFAST2API_EMAIL", "user@example.com")
            .env("LANGFAST2API_PASSWORD", "correct-password")
            .args(["--log=trace", "--log-format", format])
            .start();
        whole_run(&simulator, &program);
        let session = session_of(&program);
        let mut log = program.log();
        log.push_str(&program.stop());
        // JWTs begin with eyJ; the anonymous key is one.
        let said = ["the-prompt", "the-answer", "the-query", "the-wrong-key", "the-failure"];
        let secrets = ["the-api-key", "correct-password", "eyJ", "refresh_token", "Bearer"];
        for secret in said.iter().chain(&secrets).copied().chain([session.as_str()]) {
            assert!(!log.contains(secret), "{format}: {secret} in {log}");
        }
        let count = |text: &str| log.matches(text).count();
        let lines = log.lines().count();
        assert!(lines > 15 && count("sign in: 200") > 0 && count("socket lost") > 0, "{log}");
    }
}

/// Every kind of request and mishap, with words in them that can be looked for.
fn whole_run(simulator: &Simulator, program: &Program) {
    let ask = |fields: Value, key: &str| {
        let headers = format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
        let path = format!("{CHAT}?key=the-query");
        program.request("POST", &path, &headers, chat_body(fields).to_string().as_bytes())
    };
    let key = "the-api-key";
    assert_eq!(ask(user("the-prompt"), key).content(), "the-prompt");
    assert_eq!(ask(user("/sim say=the-answer"), key).content(), "the-answer");
    assert_eq!(ask(user("the-prompt"), "the-wrong-key").status, 401);
    let mut stream = user("/sim text=count events=9 fail=3 error=the-failure");
    stream["stream"] = json!(true);
    assert!(!ask(stream, key).is_done());
    assert_eq!(ask(user("/sim fail=0 error=the-failure"), key).status, 502);
    for step in [Step::Run, Step::CreatePrompt] {
        simulator.fault(step, Fault::status(400).body("the-prompt the-failure").times(1));
        ask(user("the-prompt"), key);
    }
    let broken = format!("x-api-key: {key}\r\nContent-Type: application/json\r\n");
    assert_eq!(program.request("POST", CHAT, &broken, b"{\"the-prompt\"").status, 400);
    let unknown =
        json!({"model": "the-prompt as a model", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(ask(unknown, key).status, 400);

    simulator.expire_tokens();
    assert_eq!(ask(user("the-prompt"), key).status, 200);
    simulator.cut_sockets();
    program.wait_for_log("socket lost");
    simulator.fault(Step::Connect, Fault::refuse("not now: eyJhbGciOi.x.y").times(2));
    ask(user("the-prompt"), key);
    program.signal(Signal::HUP);
    program.wait_for_log("reloaded");
    simulator.revoke_refresh_tokens();
    simulator.expire_tokens();
    assert_eq!(ask(user("the-prompt"), key).status, 200);
}

/// The refresh token that is kept.
fn session_of(program: &Program) -> String {
    let files = std::fs::read_dir(program.state_dir()).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    let path = paths.find(|path| path.extension().is_some_and(|ending| ending == "json"));
    let kept: Value = serde_json::from_slice(&std::fs::read(path.unwrap()).unwrap()).unwrap();
    kept["session"]["refresh_token"].as_str().unwrap().to_owned()
}
