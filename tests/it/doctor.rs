//! `langfast2api doctor`: what it finds, and that it goes no further than it may.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use crate::simulator::{Fault, Simulator, Step};
use crate::support::{Directory, Start, free_address};
use serde_json::{Value, json};

/// What a doctor said.
#[derive(Debug)]
struct Diagnosis {
    code: i32,
    steps: Vec<Value>,
    log: String,
}

impl Diagnosis {
    fn step(&self, name: &str) -> &Value {
        let mut steps = self.steps.iter();
        steps.find(|step| step["step"] == name).unwrap_or_else(|| panic!("{name} in {self:?}"))
    }

    fn state(&self, name: &str) -> &str {
        self.step(name)["state"].as_str().unwrap()
    }

    fn states(&self, state: &str) -> Vec<&str> {
        let steps = self.steps.iter().filter(|step| step["state"] == state);
        steps.map(|step| step["step"].as_str().unwrap()).collect()
    }

    fn advice(&self, name: &str) -> &str {
        self.step(name)["advice"].as_str().unwrap_or_default()
    }
}

fn doctor(start: Start, args: &[&str]) -> Diagnosis {
    let start = args
        .iter()
        .fold(start.args(["doctor", "--json", "--sign-in"]), |start, arg| start.arg(arg));
    let (status, output, log) = start.run();
    let report: Value =
        serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e}: {output} {log}"));
    let code = status.code().unwrap();
    assert_eq!(report["ok"], code == 0, "{report}");
    Diagnosis { code, steps: report["steps"].as_array().unwrap().clone(), log }
}

#[test]
fn the_whole_way_is_gone_without_spending_anything() {
    let simulator = Simulator::start();
    let start = Start::new(&simulator.url()).arg("--log").arg("info");
    let diagnosis = doctor(start, &[]);
    assert_eq!(diagnosis.code, 0, "{diagnosis:?}");
    assert_eq!(diagnosis.states("skipped"), ["run"]);
    for name in ["settings", "LangFast: TCP", "LangFast: answer", "sign-in", "prompt", "socket"] {
        assert_eq!(diagnosis.state(name), "ok", "{name}");
    }
    assert!(diagnosis.step("socket")["ms"].as_f64().unwrap() >= 0.0);
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.prompts, stats.runs), (1, 1, 0));
    assert_eq!(diagnosis.log, "", "the report says it all");
}

/// The same as root or whoever may ask, without leave to sign anybody up.
fn unasked(start: Start, args: &[&str]) -> Diagnosis {
    let (status, output, log) = start.args(["doctor", "--json"]).args(args).run();
    let report: Value = serde_json::from_str(&output).unwrap();
    let (code, steps) = (status.code().unwrap(), report["steps"].as_array().unwrap().clone());
    Diagnosis { code, steps, log }
}

#[test]
fn nobody_is_signed_up_unless_that_is_asked_for() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let start = || Start::new(&simulator.url()).state_dir(directory.path());
    let diagnosis = unasked(start(), &[]);
    assert_eq!((diagnosis.code, diagnosis.states("failed")), (0, vec![]), "{diagnosis:?}");
    assert_eq!(diagnosis.states("skipped"), ["sign-in", "prompt", "socket", "run"]);
    assert!(diagnosis.advice("sign-in").contains("--sign-in"));
    let (_, text, _) = start().lasting().arg("doctor").run();
    assert!(text.ends_with("All is well, as far as it was tried.\n"), "{text}");
    let run = unasked(start(), &["--run"]);
    assert_eq!((run.code, run.states("failed")), (1, vec!["sign-in"]), "a run was asked for");
    assert_eq!(simulator.stats().signups, 0);

    // A session that is kept is used, and no other takes its place when it is over.
    assert_eq!(doctor(start(), &[]).code, 0);
    assert_eq!(unasked(start(), &[]).state("socket"), "ok");
    simulator.expire_tokens();
    simulator.revoke_refresh_tokens();
    let over = unasked(start(), &[]);
    assert_eq!(over.states("failed"), ["socket"], "{over:?}");
    assert!(over.advice("socket").contains("--sign-in"), "{over:?}");
    assert_eq!(simulator.stats().signups, 1);
}

#[test]
fn an_account_is_signed_in_for_it_is_no_sign_up() {
    let simulator = Simulator::start();
    let start = Start::new(&simulator.url())
        .env("LANGFAST2API_EMAIL", "user@example.com")
        .env("LANGFAST2API_PASSWORD", "correct-password");
    assert_eq!(unasked(start, &[]).state("socket"), "ok");
    assert_eq!(simulator.stats().signups, 0);
}

#[test]
fn who_connects_to_nobody_is_asked_first_whether_the_server_runs() {
    let simulator = Simulator::start();
    let nobody = free_address();
    let diagnosis = doctor(Start::new(&simulator.url()), &["--url", &format!("http://{nobody}")]);
    assert_eq!(diagnosis.states("failed"), ["public URL: TCP"]);
    assert!(diagnosis.advice("public URL: TCP").starts_with("Is it running"), "{diagnosis:?}");
}

#[test]
fn nothing_above_the_word_that_the_network_is_sound_doubts_the_network() {
    let simulator = Simulator::start();
    let start = Start::new(&simulator.url()).args(["--runner-url", "https://no-such-name.invalid"]);
    let diagnosis = doctor(start, &[]);
    assert!(diagnosis.advice("runner: name").contains("the network is sound"), "{diagnosis:?}");
    let message = diagnosis.step("runner: name")["message"].as_str().unwrap();
    assert!(!message.contains("Check the network"), "{message}");
}

#[test]
fn doctor_and_server_share_one_session() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let start = || Start::new(&simulator.url()).state_dir(directory.path());
    assert_eq!(doctor(start(), &[]).code, 0);
    assert_eq!(doctor(start(), &[]).code, 0);
    assert_eq!(start().start().ask("hello").content(), "hello");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.prompts), (1, 1));
}

#[test]
fn a_kept_session_that_is_no_longer_accepted_is_renewed() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let start = || Start::new(&simulator.url()).state_dir(directory.path());
    assert_eq!(doctor(start(), &[]).code, 0);
    simulator.expire_tokens();
    assert_eq!(doctor(start(), &["--run"]).code, 0);
    assert_eq!(simulator.stats().signups, 1);
}

#[test]
fn the_report_does_not_name_the_account() {
    let simulator = Simulator::start();
    let start = Start::new(&simulator.url())
        .env("LANGFAST2API_EMAIL", "user@example.com")
        .env("LANGFAST2API_PASSWORD", "correct-password");
    let diagnosis = doctor(start, &[]);
    assert!(diagnosis.step("sign-in")["message"].as_str().unwrap().contains("your account"));
    assert!(!format!("{:?}", diagnosis.steps).contains("user@"), "{diagnosis:?}");
}

#[test]
fn a_run_is_made_when_it_is_asked_for() {
    let simulator = Simulator::start();
    let diagnosis = doctor(Start::new(&simulator.url()), &["--run", "--model", "gpt-5"]);
    assert_eq!(diagnosis.code, 0, "{diagnosis:?}");
    let runs = simulator.runs();
    assert_eq!(runs.len(), 1);
    let meta = &runs[0]["prompt_meta"];
    // A model that reasons would spend a small limit on its thoughts, and fail.
    assert_eq!((&meta["model"], meta.get("max_completion_tokens")), (&"gpt-5".into(), None));
}

#[test]
fn a_run_that_says_it_is_done_without_its_last_text_works_as_it_does_for_clients() {
    let simulator = Simulator::builder().literal_socket().start();
    let done = r#"42["completion_finished",{"jobId":"$JOB"}]"#;
    let raw = done.replace('"', "%22");
    simulator.turn(json!({"text": "one two", "sim": format!("lost=last raw={raw}")}));
    let diagnosis = doctor(Start::new(&simulator.url()), &["--run"]);
    assert_eq!(diagnosis.state("run"), "ok", "{diagnosis:?}");
    let message = diagnosis.step("run")["message"].as_str().unwrap();
    assert!(message.contains("1 pieces of text"), "{message}");
}

#[test]
fn a_run_that_fails_says_why() {
    let simulator = Simulator::start();
    simulator.fault(Step::Run, Fault::status(429).body(r#"{"error":"daily limit reached"}"#));
    let diagnosis = doctor(Start::new(&simulator.url()), &["--run"]);
    assert_eq!((diagnosis.code, diagnosis.states("failed")), (1, vec!["run"]));
    assert!(diagnosis.step("run")["message"].as_str().unwrap().contains("daily limit reached"));
    let refusing = Start::new(&simulator.url()).args(["--unknown-models", "refuse"]);
    let unknown = doctor(refusing, &["--run", "--model", "gpt-99"]);
    assert!(unknown.advice("run").contains("langfast2api models"), "{unknown:?}");
}

#[test]
fn what_needs_a_step_that_failed_is_skipped() {
    let diagnosis = doctor(Start::new(&format!("http://{}", free_address())), &["--run"]);
    assert_eq!(diagnosis.code, 1);
    assert_eq!(diagnosis.states("failed"), ["LangFast: TCP", "runner: TCP"]);
    let skipped = ["LangFast: answer", "sign-in", "prompt", "socket", "run"];
    assert_eq!(diagnosis.states("skipped"), skipped);
    assert!(diagnosis.advice("LangFast: TCP").contains("HTTPS_PROXY"));
}

#[test]
fn a_name_that_does_not_exist_fails_at_the_name() {
    let diagnosis = doctor(Start::new("https://no-such-name.invalid"), &[]);
    assert_eq!(diagnosis.states("failed"), ["LangFast: name", "runner: name"]);
    assert_eq!(diagnosis.state("LangFast: TLS"), "skipped");
}

#[test]
fn who_is_not_let_in_is_told_what_to_do() {
    let simulator = Simulator::start();
    let refusal = r#"{"code":422,"error_code":"anonymous_provider_disabled","msg":"no"}"#;
    simulator.fault(Step::SignUp, Fault::status(422).body(refusal));
    let diagnosis = doctor(Start::new(&simulator.url()), &[]);
    assert_eq!(diagnosis.states("failed"), ["sign-in"]);
    assert_eq!(diagnosis.states("skipped"), ["prompt", "socket", "run"]);
    let step = diagnosis.step("sign-in");
    assert!(step["message"].as_str().unwrap().contains("no longer lets anonymous visitors in"));
    assert!(diagnosis.advice("sign-in").contains("langfast2api login"));
}

#[test]
fn no_more_users_are_signed_up_than_a_server_may() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let examine = || doctor(Start::new(&simulator.url()).state_dir(directory.path()), &[]);
    for _ in 0..3 {
        assert_eq!(examine().code, 0);
        // What forgets the session and keeps the count.
        let (status, ..) =
            Start::new(&simulator.url()).state_dir(directory.path()).arg("logout").run();
        assert!(status.success());
    }
    let diagnosis = examine();
    assert_eq!(diagnosis.states("failed"), ["sign-in"]);
    assert!(diagnosis.advice("sign-in").contains("langfast2api login"));
    assert_eq!(simulator.stats().signups, 3);
}

#[test]
fn a_setting_that_cannot_be_used_ends_the_examination_with_2() {
    let start = Start::new("http://127.0.0.1:1").arg("--listen").arg("0.0.0.0:8000");
    let diagnosis = doctor(start, &[]);
    assert_eq!((diagnosis.code, diagnosis.states("failed")), (2, vec!["settings"]));
    assert_eq!(diagnosis.steps.len(), 1);
}

#[test]
fn secrets_that_others_can_read_are_found() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let keys = directory.path().join("keys");
    fs::write(&keys, "a-key").unwrap();
    let start = || {
        let state = directory.path().join("state");
        Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS_FILE", &keys).state_dir(&state)
    };
    let chmod =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    chmod(&keys, 0o640);
    assert_eq!(doctor(start(), &[]).code, 0, "a group may read it");

    chmod(&keys, 0o644);
    let state = directory.path().join("state");
    let session = fs::read_dir(&state).unwrap().map(|file| file.unwrap().path());
    let session = session.into_iter().find(|path| path.extension() == Some("json".as_ref()));
    chmod(&session.unwrap(), 0o640);
    chmod(&state, 0o777);
    let diagnosis = doctor(start(), &[]);
    assert_eq!(diagnosis.states("failed"), ["state directory", "session file", "API keys file"]);
    assert!(diagnosis.advice("API keys file").contains("chmod 600"));

    let diagnosis = doctor(start().state_dir(&keys), &[]);
    assert!(diagnosis.advice("state directory").contains("Name another"), "a file is in its place");
}

#[test]
fn a_unix_socket_that_no_proxy_can_connect_to_is_warned_of() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let examined = |address: &str| {
        let start = Start::new(&simulator.url()).state_dir(directory.path());
        doctor(start, &["--listen", address])
    };
    let (open, closed) = (directory.path().display(), closed.display());
    for (address, advice) in [
        (format!("unix:{open}/s"), "?mode=660&group=www-data"),
        (format!("unix:{open}/s?mode=660"), "?mode=660&group=www-data"),
        (format!("unix:{closed}/s?mode=666"), "chmod o+x"),
    ] {
        let diagnosis = examined(&address);
        assert_eq!(diagnosis.state("listen"), "warning", "{address}");
        assert!(diagnosis.advice("listen").contains(advice), "{}", diagnosis.advice("listen"));
    }
    for sound in ["s?mode=600", "s?mode=666", "s?mode=660&group=0"] {
        assert_eq!(examined(&format!("unix:{open}/{sound}")).state("listen"), "ok", "{sound}");
    }
}

#[test]
fn people_get_lines_without_colours_when_nobody_shows_them() {
    let simulator = Simulator::start();
    let (status, text, _) =
        Start::new(&simulator.url()).lasting().args(["doctor", "--sign-in"]).run();
    assert!(status.success());
    assert!(text.contains("ok       sign-in") && text.ends_with("All is well.\n"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\r'), "{text:?}");
    assert!(!text.contains('…'), "no progress: {text}");
}

/// Something in front of the server: it passes requests on, one a connection, and answers as `pass`
/// does. It ends with the process.
fn in_front_of(
    server: SocketAddr,
    pass: fn(&mut TcpStream, &mut TcpStream) -> io::Result<()>,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut server = TcpStream::connect(server)?;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    client.read_exact(&mut byte)?;
                    head.push(byte[0]);
                }
                let end = head.len() - 2;
                head.splice(end.., *b"Connection: close\r\n\r\n");
                server.write_all(&head)?;
                pass(&mut client, &mut server)
            });
        }
    });
    url
}

fn at_once(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    io::copy(server, client).map(drop)
}

fn when_it_is_whole(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    client.write_all(&answer)
}

fn compressed_when_it_is_whole(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    // What is in it is not looked at.
    let answer = answer.replacen("\r\n", "\r\nContent-Encoding: gzip\r\n", 1);
    client.write_all(answer.as_bytes())
}

#[test]
fn a_proxy_that_holds_events_back_is_found() {
    let simulator = Simulator::start();
    let start = || Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", "the-key");
    let server = start().start();
    let good = in_front_of(server.address(), at_once);
    let bad = in_front_of(server.address(), when_it_is_whole);

    // As people give it: with or without the path that clients need.
    let diagnosis = doctor(start(), &["--url", &format!("{good}/v1/")]);
    assert_eq!(diagnosis.code, 0, "{diagnosis:?}");
    assert_eq!(diagnosis.state("public URL: no key"), "ok");
    let diagnosis = doctor(start(), &["--url", &bad]);
    assert_eq!(diagnosis.states("failed"), ["public URL: stream"]);
    assert!(diagnosis.advice("public URL: stream").contains("proxy_buffering off"));
    let gzip = in_front_of(server.address(), compressed_when_it_is_whole);
    let diagnosis = doctor(start(), &["--url", &gzip]);
    assert!(diagnosis.advice("public URL: stream").contains("gzip off"), "{diagnosis:?}");
    assert_eq!(simulator.stats().runs, 0);
}

#[test]
fn a_server_that_asks_nobody_for_a_key_is_found() {
    let simulator = Simulator::start();
    let server = Start::new(&simulator.url()).start();
    let url = format!("http://{}", server.address());
    let without = doctor(Start::new(&simulator.url()), &["--url", &url]);
    assert_eq!(without.state("public URL: no key"), "ok", "nobody else reaches it");
    let keyed = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", "the-key");
    let diagnosis = doctor(keyed, &["--url", &url]);
    assert_eq!(diagnosis.states("failed"), ["public URL: no key"]);
}

#[test]
fn a_key_that_the_server_does_not_know_is_found() {
    let simulator = Simulator::start();
    let with_key = |key: &str| Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", key);
    let server = with_key("old-key").start();
    let diagnosis =
        doctor(with_key("new-key"), &["--url", &format!("http://{}", server.address())]);
    assert_eq!(diagnosis.states("failed"), ["public URL: models"]);
    assert_eq!(diagnosis.state("public URL: stream"), "skipped");
    assert!(!format!("{diagnosis:?}").contains("new-key"));
}

#[test]
fn a_clock_that_is_wrong_is_found() {
    let simulator = Simulator::start();
    // Another clock than ours: only its date can tell.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.write_all(
                b"HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nContent-Length: 2\r\n\r\n{}",
            );
        }
    });
    let start = Start::new(&simulator.url()).arg("--supabase-url").arg(&url);
    let diagnosis = doctor(start, &[]);
    assert_eq!(diagnosis.state("LangFast: answer"), "warning");
    assert!(diagnosis.advice("LangFast: answer").contains("Set the clock"));
}
