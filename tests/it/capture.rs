//! What the doctor records of the way to LangFast, that nothing in it is a secret, and that it can be
//! played back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::simulator::{Fault, Simulator, Step};
use crate::support::{Directory, Program, Start, streamed};

/// A doctor's report, and the capture that it has written.
struct Recorded {
    code: i32,
    steps: Vec<Value>,
    text: String,
    lines: Vec<Value>,
}

impl Recorded {
    /// Has a doctor record into a new file in `directory`.
    fn of(start: Start, directory: &Directory, args: &[&str]) -> Recorded {
        let path = directory.path().join(format!("{}.jsonl", uuid::Uuid::new_v4()));
        let start =
            start.args(["doctor", "--json", "--sign-in", "--capture"]).arg(&path).args(args);
        let (status, output, log) = start.run();
        let report: Value =
            serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e}: {output} {log}"));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let steps = report["steps"].as_array().unwrap().clone();
        Recorded { code: status.code().unwrap(), steps, text, lines }
    }

    fn differences(&self) -> Vec<&str> {
        let steps = self.steps.iter().filter(|step| step["step"] == "difference");
        let told: Vec<&str> = steps.map(|step| step["message"].as_str().unwrap()).collect();
        assert_eq!(self.lines.last().unwrap()["differences"], json!(told), "the file says so too");
        told
    }

    fn calls(&self) -> Vec<&str> {
        self.lines.iter().filter_map(|line| line["http"].as_str()).collect()
    }

    fn call(&self, path: &str) -> &Value {
        let mut calls = self.lines.iter().filter(|line| line["http"].is_string());
        calls.find(|line| line["http"].as_str().unwrap().contains(path)).unwrap()
    }

    fn events(&self) -> Vec<&Value> {
        let events = self.lines.iter().filter(|line| line["packet"] == "42");
        events.map(|line| &line["json"]).collect()
    }

    fn state(&self, name: &str) -> &str {
        let step = self.steps.iter().find(|step| step["step"] == name);
        step.unwrap_or_else(|| panic!("{name} in {:?}", self.steps))["state"].as_str().unwrap()
    }
}

fn record(simulator: &Simulator, args: &[&str]) -> Recorded {
    Recorded::of(Start::new(&simulator.url()), &Directory::new(), args)
}

fn capture_named(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)
}

#[test]
fn the_whole_way_is_recorded_and_what_is_as_usual_does_not_differ() {
    let recorded = record(&Simulator::start(), &["--run"]);
    assert_eq!((recorded.code, recorded.differences()), (0, vec![]), "{}", recorded.text);
    assert_eq!(recorded.lines[0]["langfast2api_capture"], 1);
    let calls = [
        "GET /auth/v1/health",
        "POST /auth/v1/signup",
        "POST /rest/v1/rpc/create_prompt",
        "POST /functions/v1/initiate-prompt-run",
    ];
    assert_eq!(recorded.calls(), calls);
    let packets = |from: &str| -> Vec<&str> {
        let frames = recorded.lines.iter().filter(|line| line["from"] == from);
        frames.filter_map(|line| line["packet"].as_str()).collect()
    };
    assert!(packets("client").contains(&"40"), "{}", recorded.text);
    // A ping may come at any time.
    let told: Vec<&str> = packets("server").into_iter().filter(|packet| *packet != "2").collect();
    assert!(told.starts_with(&["0", "40"]), "{}", recorded.text);
    let events = recorded.events();
    let last = events.last().unwrap();
    assert_eq!(last[1]["status"], "completed");
    assert_eq!(last[1]["finish_reason"], "stop");
    let times: Vec<f64> = recorded.lines.iter().filter_map(|line| line["ms"].as_f64()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn joins_stay_visible_and_texts_stay_cumulative() {
    let simulator = Simulator::start();
    simulator.turn(json!({"text": "Kingfishers catch fire, dragonflies draw flame"}));
    let recorded = record(&simulator, &["--run"]);
    let run = recorded.call("initiate-prompt-run");
    let session = &recorded.call("signup")["answer"]["body"];
    assert_eq!(run["request"]["body"]["created_by"], session["user"]["id"]);
    assert_eq!(run["request"]["body"]["run_id"], run["answer"]["body"]["run_id"]);
    assert_eq!(
        run["request"]["body"]["prompt_id"],
        recorded.call("create_prompt")["answer"]["body"]
    );
    let job = &run["answer"]["body"]["jobs"][0]["job_id"];
    assert!(uuid::Uuid::try_parse(job.as_str().unwrap()).is_ok());
    let contents: Vec<&str> = recorded
        .events()
        .iter()
        .map(|event| {
            assert_eq!(&event[1]["executionId"], job);
            event[1]["content"].as_str().unwrap()
        })
        .collect();
    assert_eq!(contents.len(), 6);
    assert!(contents.windows(2).all(|two| two[1].starts_with(two[0]) && two[1] != two[0]));
    let token = session["access_token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["sub"], session["user"]["id"], "names of claims stay, and their joins");
    let lasts = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lasts, 3600, "times are moved together");
    let bearer = format!("Bearer {token}");
    let headers = run["request"]["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["authorization", bearer])), "{headers:?}");
}

#[test]
fn what_is_new_on_the_wire_is_told() {
    let simulator = Simulator::builder().literal_socket().start();
    let frames = [
        r#"4217["execution:progress",{"executionId":"$JOB","status":"thinking","content":"a"},"x"]"#,
        r#"42["execution:progress",{"executionId":"$JOB","cost":0.003}]"#,
        r#"42["usage",{"job_id":"$JOB","usage":{"prompt_tokens":12}}]"#,
        r#"42["note",{"text":"for all"}]"#,
        r#"42["execution:chunk","{\"executionId\":\"$JOB\",\"content\":\"b\"}"]"#,
        r#"43["?"]"#,
    ];
    let raw = utf8_percent_encode(&frames.join("\n"), NON_ALPHANUMERIC).to_string();
    simulator.turn(json!({"text": "One two", "sim": format!("raw={raw} finish=out_of_budget")}));
    let recorded = record(&simulator, &["--run"]);
    let told = recorded.differences();
    for difference in [
        "event `execution:progress` is not known",
        "event `execution:progress` asks for an acknowledgement",
        "event `execution:progress` has more than one argument",
        "field `cost` in `execution:progress` is not known",
        "status `thinking` in `execution:progress` is not known",
        "`content` of `execution:progress` does not go on from the one before",
        "event `usage` is not known",
        "field `usage.prompt_tokens` in `usage` is not known",
        "event `note` names no run",
        "the payload of `execution:chunk` is JSON in a string",
        "packets of type `43` are not known",
        "finish_reason `out_of_budget` in `execution:chunk` is not known",
    ] {
        assert!(told.contains(&difference), "{difference} in {told:#?}");
    }
    assert_eq!(recorded.state("capture"), "warning");
    assert_eq!(recorded.code, 0, "what differs is no failure");
}

#[test]
fn a_way_that_fails_half_way_is_recorded_up_to_there() {
    let simulator = Simulator::start();
    let disabled =
        json!({"message": "Legacy API keys are disabled", "hint": "Ask Jane Doe about it"});
    let fault =
        Fault::status(401).header("x-new-header", "secretvalue").body(&disabled.to_string());
    simulator.fault(Step::SignUp, fault);
    let recorded = record(&simulator, &["--run"]);
    assert_eq!(recorded.code, 1);
    let answer = &recorded.call("signup")["answer"];
    assert_eq!(answer["status"], 401);
    assert_eq!(answer["body"]["message"], "Legacy API keys are disabled");
    assert!(!recorded.text.contains("Jane") && !recorded.text.contains("secretvalue"));
    let told = recorded.differences();
    assert!(told.contains(&"header `x-new-header` of sign-up is not known"), "{told:?}");

    let simulator = Simulator::start();
    simulator.fault(Step::Run, Fault::reset());
    simulator.fault(Step::Connect, Fault::refuse("No such socket for jane"));
    let recorded = record(&simulator, &["--run"]);
    assert!(recorded.lines.iter().any(|line| line["packet"] == "44"), "{}", recorded.text);
    assert!(!recorded.text.contains("jane"), "{}", recorded.text);
}

#[test]
fn a_file_that_exists_is_left_alone_and_nothing_is_asked() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let path = directory.path().join("old");
    fs::write(&path, "precious").unwrap();
    for path in [path.clone(), directory.path().join("no/such/directory")] {
        let start = Start::new(&simulator.url())
            .args(["doctor", "--run", "--sign-in", "--capture"])
            .arg(path);
        let (status, output, _) = start.run();
        assert_eq!(status.code(), Some(2), "{output}");
        assert!(output.contains("Name a file that does not exist"), "{output}");
    }
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    assert_eq!(simulator.stats().http_requests, 0);
}

#[test]
fn without_a_run_all_but_the_run_is_recorded_and_nothing_is_spent() {
    let simulator = Simulator::start();
    let recorded = record(&simulator, &[]);
    assert_eq!((recorded.calls().len(), recorded.events().len()), (3, 0));
    assert_eq!(simulator.stats().runs, 0);
}

#[test]
fn a_signal_has_the_file_written_first() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    simulator.fault(Step::Run, Fault::hang());
    let path = directory.path().join("capture");
    let (url, state) = (simulator.url(), directory.path().join("state"));
    let mut doctor = std::process::Command::new(env!("CARGO_BIN_EXE_langfast2api"))
        .args(["--supabase-url", &url, "--runner-url", &url, "--state-dir"])
        .arg(state)
        .args(["doctor", "--run", "--sign-in", "--capture"])
        .arg(&path)
        .env_clear()
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    simulator.wait_until(|stats| stats.connects == 1 && stats.http_requests >= 5);
    let pid = rustix::process::Pid::from_child(&doctor);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(doctor.wait().unwrap().code(), Some(130));
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("/functions/v1/initiate-prompt-run"), "{text}");
}

/// Each secret as it may be written.
fn encoded(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let json = json!(secret).to_string();
    vec![
        secret.to_owned(),
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex.to_uppercase(),
        hex,
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
        json.trim_matches('"').to_owned(),
        secret.chars().rev().collect(),
    ]
}

/// Asserts that no secret, nor any piece of a text, is in what was recorded or told.
fn assert_free_of(recorded: &Recorded, secrets: &[String], texts: &[&str]) {
    let all = format!("{}{}", recorded.text, json!(recorded.steps)).to_lowercase();
    for form in secrets.iter().flat_map(|secret| encoded(secret)).filter(|form| form.len() >= 8) {
        assert!(!all.contains(&form.to_lowercase()), "{form} in {all}");
    }
    for piece in texts.iter().flat_map(|text| text.as_bytes().windows(8)) {
        let piece = String::from_utf8_lossy(piece).to_lowercase();
        assert!(!all.contains(&piece), "{piece} in {all}");
    }
}

/// The secrets of the session that is kept in `state`.
fn kept_secrets(state: &Path) -> Vec<String> {
    let files = fs::read_dir(state).unwrap().map(|file| file.unwrap().path());
    let file = files.into_iter().find(|path| path.extension() == Some("json".as_ref())).unwrap();
    let saved: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let session = &saved["session"];
    let fields = ["access_token", "refresh_token", "user_id", "email", "prompt_id"];
    let mut secrets: Vec<String> =
        fields.iter().filter_map(|field| session[*field].as_str()).map(str::to_owned).collect();
    secrets.extend(secrets[0].clone().split('.').skip(1).map(str::to_owned));
    secrets.push(secrets[2].replace('-', ""));
    secrets
}

#[test]
fn no_secret_of_any_sign_in_is_in_a_capture() {
    let (simulator, directory) = (Simulator::builder().literal_socket().start(), Directory::new());
    let answer = "Kingfishers catch fire";
    let turn = || {
        let payload = r#"{"executionId":"$JOB","status":"kingfishers","catch":"fire"}"#;
        let raw = format!(r#"42["execution:kingfishers",{payload}]"#);
        let raw = utf8_percent_encode(&raw, NON_ALPHANUMERIC).to_string();
        simulator.turn(json!({"text": answer, "sim": format!("raw={raw}")}));
    };
    let account = |start: Start| {
        let start = start.arg("--email").arg("user@example.com");
        start.env("LANGFAST2API_PASSWORD", "correct-password")
    };
    let anonymous = directory.path().join("anonymous");
    let password = directory.path().join("password");
    for (state, start) in [
        (&anonymous, Start::new(&simulator.url())),
        (&password, account(Start::new(&simulator.url()))),
        // The same session again, by its refresh token.
        (&anonymous, Start::new(&simulator.url())),
    ] {
        turn();
        let mut secrets = Vec::new();
        if state.exists() {
            secrets = kept_secrets(state);
            simulator.expire_tokens();
        }
        let recorded = Recorded::of(start.state_dir(state), &directory, &["--run"]);
        assert_eq!(recorded.code, 0, "{:?}", recorded.steps);
        assert!(recorded.call("/auth/v1/")["answer"].is_object());
        secrets.extend(kept_secrets(state));
        secrets.extend(["user@example.com", "correct-password"].map(str::to_owned));
        assert_free_of(&recorded, &secrets, &[answer]);
    }
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.password_logins, stats.refreshes), (1, 1, 1));
}

/// A capture in whose every corner `leak` stands, with the session of somebody.
fn hostile(session: &Value, leak: &str, answer: &str) -> String {
    let ok = |body: &Value| {
        json!({"status": 200, "headers": [["x-leak", leak], ["location",
        format!("https://{leak}.example/?token={leak}")]], "body": body})
    };
    let call = |ms: u64, path: &str, answer: Value| json!({"ms": ms, "http": path, "took_ms": 0, "answer": answer});
    let frame = |ms: u64, packet: &str, json: Value| {
        let mut line = json!({"ms": ms, "socket": 1, "from": "server", "packet": packet});
        line["json"] = json;
        line
    };
    let mut session = session.clone();
    session["unknown"] = json!({leak: [leak, {"status": leak}]});
    let jobs = json!({"jobs": [{"job_id": "a-job"}], "queue": leak, leak: leak});
    let chunk = |status: &str, content: &str| {
        json!({"executionId": "a-job", "status": status, "content": content, leak: leak, "type": leak,
            "nested": json!({"content": answer, leak: leak}).to_string()})
    };
    let lines = [
        json!({"langfast2api_capture": 1}),
        call(
            1,
            "GET /auth/v1/health",
            json!({"status": 404, "headers": [], "body": {"code": leak,
            "message": format!("Not found: {leak}"), "hint": leak}}),
        ),
        call(2, "POST /auth/v1/signup", ok(&session)),
        call(3, "POST /rest/v1/rpc/create_prompt", ok(&json!("the-prompt"))),
        json!({"ms": 4, "socket": 1, "answer": {"status": 101, "headers": []}}),
        frame(
            5,
            "0",
            json!({"sid": leak, "pingInterval": 25000, "pingTimeout": 20000, leak: leak}),
        ),
        frame(6, "40", json!({"sid": leak, "pid": leak})),
        call(7, "POST /functions/v1/initiate-prompt-run", ok(&jobs)),
        frame(8, "42", json!([leak, chunk(leak, answer), leak])),
        frame(9, "42", json!([format!("execution:{leak}"), chunk("in_progress", answer)])),
        frame(10, "42", json!(["execution:chunk", chunk("completed", answer)])),
        json!({"ms": 11, "socket": 1, "from": "server", "close": {"code": 4001, "reason": leak}}),
    ];
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn no_secret_is_in_a_capture_wherever_langfast_puts_it() {
    let directory = Directory::new();
    let (user, signature) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4().simple().to_string());
    let claims =
        json!({"sub": user, "email": "rosalind.franklin@crystal.example", "role": "authenticated"});
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let token = format!("{}.{}.{signature}", part(&json!({"alg": "ES256"})), part(&claims));
    let session = json!({
        "access_token": token, "token_type": "bearer", "expires_in": 3600, "refresh_token": "kolibrimantel",
        "user": {"id": user, "email": "rosalind.franklin@crystal.example", "phone": "+441632960961",
            "user_metadata": {"full_name": "Rosalind Franklin"}},
    });
    let answer = "umbrellas bloom along the boulevard";
    let id = user.to_string();
    let secrets = [
        &token,
        "kolibrimantel",
        "rosalind.franklin@crystal.example",
        "Rosalind Franklin",
        "rosalind",
        &signature,
        &id,
        "+441632960961",
        "crystal.example",
    ]
    .map(str::to_owned);
    let mut leaks: Vec<String> = secrets.to_vec();
    leaks.extend([
        "boulevard".to_owned(),
        STANDARD.encode(&secrets[1]),
        "letnamirbilok".to_owned(),
    ]);
    for (number, leak) in leaks.iter().enumerate() {
        let path = directory.path().join(format!("hostile-{number}.jsonl"));
        fs::write(&path, hostile(&session, leak, answer)).unwrap();
        let simulator = Simulator::builder().replay(&path).start();
        let recorded = Recorded::of(Start::new(&simulator.url()), &directory, &["--run"]);
        assert_eq!(recorded.state("run"), "ok", "{leak}: {:?}", recorded.steps);
        assert_eq!(recorded.events().len(), 3, "{leak}: {}", recorded.text);
        assert_free_of(&recorded, &secrets, &[answer]);
    }
}

#[test]
fn a_capture_is_played_back_and_looks_the_same_when_it_is_recorded_again() {
    for (name, differing, differences) in
        [("good.jsonl", "ok", 0), ("renamed-events.jsonl", "warning", 4)]
    {
        let simulator = Simulator::builder().replay(&capture_named(name)).start();
        let recorded = record(&simulator, &["--run"]);
        assert_eq!(recorded.code, 0, "{:?}", recorded.steps);
        assert_eq!(recorded.state("capture"), differing);
        assert_eq!(recorded.differences().len(), differences, "{:?}", recorded.differences());
    }
}

/// The last text that a capture's run has said.
fn said_in(name: &str) -> String {
    let text = fs::read_to_string(capture_named(name)).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let contents = lines.filter_map(|line| line["json"][1]["content"].as_str().map(str::to_owned));
    contents.fold(String::new(), |_, content| content)
}

#[test]
fn the_real_program_answers_from_a_capture_as_often_as_it_is_asked() {
    for name in ["good.jsonl", "renamed-events.jsonl"] {
        let simulator = Simulator::builder().replay(&capture_named(name)).start();
        let program = Program::start(&simulator.url());
        assert_eq!(program.ask("Anything.").content(), said_in(name), "{name}");
        let answer = program.chat(streamed("Anything else."));
        assert_eq!(answer.streamed_text(0), said_in(name), "{name}");
        assert!(answer.is_done(), "{name}");
        let stats = simulator.stats();
        assert_eq!((stats.signups, stats.prompts, stats.runs, stats.connects), (1, 1, 2, 1));
    }
}

#[test]
fn a_failure_is_played_back_as_that_failure() {
    let simulator = Simulator::builder().replay(&capture_named("key-disabled.jsonl")).start();
    let recorded = record(&simulator, &["--run"]);
    assert_eq!((recorded.code, recorded.state("sign-in")), (1, "failed"));
    let answer = &recorded.call("signup")["answer"];
    assert_eq!(answer["status"], 401);
    assert_eq!(answer["body"]["message"], "Legacy API keys are disabled");
    let program = Program::start(&simulator.url());
    assert!(program.ask("Anything.").status >= 400);
    assert_eq!(simulator.stats().runs, 0);
}

#[test]
fn a_socket_that_was_lost_is_lost_when_it_is_played_back() {
    let simulator = Simulator::start();
    simulator.turn(json!({"text": "One two three four", "sim": "events=40 delay=50 cut=2"}));
    let directory = Directory::new();
    let recorded = Recorded::of(Start::new(&simulator.url()), &directory, &["--run"]);
    assert_eq!(recorded.state("run"), "ok", "{:?}", recorded.steps);
    assert!(recorded.lines.iter().any(|line| line["ended"] == "broken"), "{}", recorded.text);
    let path = directory.path().join("lost");
    fs::write(&path, &recorded.text).unwrap();
    let replayed = Simulator::builder().replay(&path).start();
    let again = record(&replayed, &["--run"]);
    assert_eq!(again.state("run"), "ok", "{:?}", again.steps);
    assert!(again.lines.iter().any(|line| line["socket"] == 2), "{}", again.text);
}
