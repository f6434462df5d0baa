//! Responses that are stored on disk outlive the program, and nothing that is found there harms it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::simulator::Simulator;
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Directory, Program, Response, Start, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

const JSON: &str = "Content-Type: application/json\r\n";
const KEYS: [&str; 2] = ["sk-one-0123456789", "sk-two-0123456789"];

/// A state directory, and the simulator whose answers are stored there.
struct House {
    simulator: Simulator,
    state: Directory,
}

impl House {
    fn new() -> House {
        House { simulator: Simulator::start(), state: Directory::new() }
    }

    fn stepped() -> House {
        let simulator = Simulator::builder().literal_socket().start();
        House { simulator, state: Directory::new() }
    }

    fn prepare(&self) -> Start {
        Start::new(&self.simulator.url()).state_dir(self.state.path()).args(["--store-on-disk"])
    }

    fn start(&self) -> Program {
        self.prepare().start()
    }

    fn place(&self) -> PathBuf {
        self.state.path().join("responses")
    }

    /// What is in the files of responses and items, by their names.
    fn files(&self) -> BTreeMap<String, String> {
        let entries = fs::read_dir(self.place()).unwrap().map(Result::unwrap);
        let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
        let own = named.filter(|(name, _)| name.ends_with(".response") || name.ends_with(".items"));
        // One may go at any time.
        own.filter_map(|(name, path)| Some((name, fs::read_to_string(path).ok()?))).collect()
    }
}

fn ask(program: &Program, method: &str, path: &str, fields: &Value) -> Response {
    let body = if fields.is_null() { String::new() } else { fields.to_string() };
    program.request(method, path, JSON, body.as_bytes())
}

/// The response to these fields, whether it is streamed or not.
fn create(program: &Program, mut fields: Value) -> Value {
    fields["model"] = json!("gpt-5");
    let answer = ask(program, "POST", "/v1/responses", &fields);
    assert_eq!(answer.status, 200, "{}", answer.text());
    if fields["stream"] != true {
        return answer.json();
    }
    let last = answer.text().lines().rfind(|line| line.starts_with("data: ")).unwrap();
    serde_json::from_str::<Value>(&last[6..]).unwrap()["response"].clone()
}

fn path(response: &Value) -> String {
    format!("/v1/responses/{}", response["id"].as_str().unwrap())
}

fn get(program: &Program, response: &Value) -> Response {
    program.get(&path(response))
}

fn killed(mut program: Program) {
    program.signal(Signal::KILL);
    program.wait();
}

fn stopped(program: Program) {
    program.stop();
}

#[test]
fn responses_outlive_the_program_however_it_ends() {
    for (end, stream) in [(stopped as fn(Program), false), (killed, false), (stopped, true)] {
        let house = House::new();
        let program = house.start();
        let first = create(&program, json!({"input": "Question 1?", "stream": stream}));
        let fields = json!({"input": "Question 2?", "instructions": "Say \"yes\".",
            "previous_response_id": first["id"], "stream": stream});
        let second = create(&program, fields);
        let deleted = create(&program, json!({"input": "Question 3?", "stream": stream}));
        let items = program.get(&format!("{}/input_items", path(&second))).text().to_owned();
        assert_eq!(ask(&program, "DELETE", &path(&deleted), &Value::Null).status, 200);
        // What follows a streamed answer's last event is not waited for by its client.
        wait_until("the files", || house.files().keys().filter(|n| n.ends_with("e")).count() == 2);
        end(program);

        let program = house.start();
        assert_eq!(get(&program, &first).json(), first);
        assert_eq!(get(&program, &second).json(), second);
        assert_eq!(program.get(&format!("{}/input_items", path(&second))).text(), items);
        assert_eq!(get(&program, &deleted).status, 404);
        let again = program.get(&format!("{}?stream=true", path(&second)));
        assert_eq!((again.status, &again.error()["param"]), (400, &json!("stream")));
        let third = create(
            &program,
            json!({"input": "And?", "previous_response_id": second["id"], "stream": stream}),
        );
        let run = house.simulator.runs().pop().unwrap();
        let messages = run["prompt_meta"]["messages"].as_array().unwrap();
        let texts: Vec<&str> = messages.iter().map(|m| m["content"].as_str().unwrap()).collect();
        assert_eq!(
            texts,
            ["Question 1?", "Question 1?", "Question 2?", "Question 2?", "And?"],
            "the simulator repeats what it is told"
        );

        // The conversation outlives the responses that it began with.
        for response in [&first, &second] {
            assert_eq!(ask(&program, "DELETE", &path(response), &Value::Null).status, 200);
        }
        wait_until("the files", || house.files().keys().filter(|n| n.ends_with("e")).count() == 1);
        end(program);
        let program = house.start();
        assert_eq!(get(&program, &first).status, 404);
        assert_eq!(get(&program, &third).json(), third);
        let items = program.get(&format!("{}/input_items?order=asc", path(&third))).json();
        assert_eq!(items["data"][0]["content"][0]["text"], "Question 1?");
        assert_eq!(ask(&program, "DELETE", &path(&third), &Value::Null).status, 200);
        assert_eq!(house.files(), BTreeMap::new(), "nothing is left that nobody can ask for");
    }
}

#[test]
fn nobody_else_may_read_the_files_and_without_the_setting_there_are_none() {
    let house = House::new();
    let program = house.start();
    create(&program, json!({"input": "Hi"}));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&house.place()), 0o700);
    let files: Vec<_> = fs::read_dir(house.place()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "lock, salt, response, items: {files:?}");
    assert!(files.iter().all(|path| mode(path) == 0o600), "{files:?}");
    drop(program);

    let house = House::new();
    let program = Start::new(&house.simulator.url()).state_dir(house.state.path()).start();
    create(&program, json!({"input": "Hi"}));
    assert!(!house.place().exists());
}

#[test]
fn a_response_in_the_background_that_the_programs_end_cut_off_has_failed() {
    let house = House::stepped();
    let program = house.start();
    let response = create(&program, json!({"input": SILENT, "background": true}));
    Stepped::only(&house.simulator);
    assert_eq!(get(&program, &response).json()["status"], "in_progress");
    killed(program);
    for _ in 0..2 {
        let program = house.start();
        let found = get(&program, &response).json();
        assert_eq!((&found["status"], &found["output"]), (&json!("failed"), &json!([])));
        let message = found["error"]["message"].as_str().unwrap();
        assert!(message.contains("was ended while"), "{message}");
        let fields = json!({"input": "/sim say=Hi", "previous_response_id": response["id"]});
        assert_eq!(create(&program, fields)["status"], "completed");
        killed(program);
    }
}

#[test]
fn a_response_in_the_background_is_on_disk_when_it_has_ended_and_once() {
    let house = House::stepped();
    let program = house.start();
    let response = create(&program, json!({"input": SILENT, "background": true}));
    Stepped::only(&house.simulator).ends("Done.");
    let is_final = "\"is_final\":true";
    wait_until("the end", || house.files().values().any(|text| text.contains(is_final)));
    wait_until("one file", || house.files().keys().filter(|n| n.ends_with("e")).count() == 1);
    killed(program);
    let found = get(&house.start(), &response).json();
    assert_eq!((&found["status"], &found["error"]), (&json!("completed"), &json!(null)));
    assert_eq!(found["output"][0]["content"][0]["text"], "Done.");
}

#[test]
fn a_response_in_the_background_is_waited_for_when_the_program_is_told_to_stop() {
    let house = House::stepped();
    for (number, text) in ["Done.", ""].into_iter().enumerate() {
        let patience = if text.is_empty() { "0.3" } else { "60" };
        let mut program = house.prepare().args(["--shutdown-timeout", patience]).start();
        let response = create(&program, json!({"input": SILENT, "background": true}));
        let run = Stepped::nth(&house.simulator, number + 1);
        program.signal(Signal::TERM);
        wait_until("no new connections", || {
            std::net::TcpStream::connect(program.address()).is_err()
        });
        if !text.is_empty() {
            run.ends(text);
        }
        assert!(program.wait().success(), "{}", program.log());
        let found = get(&house.start(), &response).json();
        if text.is_empty() {
            let message = found["error"]["message"].as_str().unwrap();
            assert!(found["status"] == "failed" && message.contains("shutting down"), "{found}");
        } else {
            assert_eq!(found["output"][0]["content"][0]["text"], text, "{found}");
        }
    }
}

#[test]
fn api_keys_do_not_see_each_others_responses_after_a_restart_either_and_stand_in_no_file() {
    let house = House::new();
    let start =
        |keys: &[&str]| house.prepare().env("LANGFAST2API_API_KEYS", keys.join(",")).start();
    let with = |key: &str| format!("{JSON}Authorization: Bearer {key}\r\n");
    let program = start(&KEYS);
    let body = json!({"model": "gpt-5", "input": "Hi"}).to_string();
    let [one, two] = KEYS
        .map(|key| program.request("POST", "/v1/responses", &with(key), body.as_bytes()).json());
    drop(program);
    for entry in fs::read_dir(house.place()).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(KEYS.iter().all(|key| !text.contains(key)), "{text}");
    }
    let statuses = |program: &Program| {
        let pairs = [(KEYS[0], &one), (KEYS[0], &two), (KEYS[1], &one), (KEYS[1], &two)];
        pairs.map(|(key, of)| program.request("GET", &path(of), &with(key), b"").status)
    };
    // Another order, and one key fewer for a while.
    assert_eq!(statuses(&start(&[KEYS[1], KEYS[0]])), [200, 404, 404, 200]);
    assert_eq!(statuses(&start(&[KEYS[1]])), [401, 401, 404, 200]);
    assert_eq!(statuses(&start(&KEYS)), [200, 404, 404, 200]);
    assert_eq!(get(&house.start(), &one).status, 404, "who has no key is somebody else");
}

#[test]
fn damaged_and_foreign_files_are_left_alone_with_one_word_and_the_others_are_served() {
    let house = House::new();
    let program = house.start();
    let kept = create(&program, json!({"input": "A kept question"}));
    let lost = create(&program, json!({"input": "A lost question"}));
    drop(program);
    let place = house.place();
    let files = house.files();
    let (items, _) = files.iter().find(|(_, text)| text.contains("A lost question")).unwrap();
    fs::write(place.join(items), &files[items][..files[items].len() / 2]).unwrap();
    fs::write(place.join("000000000000000a.response"), "").unwrap();
    fs::write(place.join("000000000000000b.response"), "[".repeat(100_000)).unwrap();
    fs::write(place.join("000000000000000c.items"), b"\xff\0\xfe").unwrap();
    fs::write(place.join("ffffffffffffffff.response"), "{}").unwrap();
    fs::write(place.join("+00000000000000d.response"), "{}").unwrap();
    fs::write(place.join("notes.txt"), "mine").unwrap();
    fs::create_dir(place.join("000000000000000e.response")).unwrap();
    let pipe = place.join("000000000000000f.items");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.join("0000000000000010.items")).unwrap();
    // What a killed process leaves.
    fs::write(place.join(".0000000000000001.abcdEFG1.new"), "half").unwrap();
    fs::write(place.join("salt"), "too short").unwrap();
    for _ in 0..2 {
        let program = house.start();
        assert_eq!(get(&program, &kept).json(), kept);
        assert_eq!(get(&program, &lost).status, 404);
        create(&program, json!({"input": "Another question"}));
        let log = program.stop();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("damaged")).collect();
        assert!(lines.len() == 1 && lines[0].contains("11 files"), "{lines:?}");
    }
    assert!(place.join("notes.txt").exists() && pipe.exists());
    assert!(!place.join(".0000000000000001.abcdEFG1.new").exists());
}

#[test]
fn what_is_on_disk_stays_within_the_limit_and_what_is_too_old_goes() {
    let house = House::new();
    let start = |mib: &str| house.prepare().args(["--store-responses", mib]).start();
    let program = start("1");
    let responses: Vec<Value> = (0..30)
        .map(|at| {
            let long = json!({"role": "user", "content": format!("{at} {}", "x".repeat(100_000))});
            let input = json!([long, {"role": "user", "content": "/sim say=Hi"}]);
            create(&program, json!({"input": input}))
        })
        .collect();
    let kept = |program: &Program| -> Vec<bool> {
        responses.iter().map(|response| get(program, response).status == 200).collect()
    };
    let before = kept(&program);
    let count = before.iter().filter(|is_kept| **is_kept).count();
    assert!((8..=10).contains(&count) && before[30 - count..].iter().all(|kept| *kept));
    let bytes = || house.files().values().map(String::len).sum::<usize>();
    assert!((800_000..=1 << 20).contains(&bytes()), "{}", bytes());
    drop(program);
    let program = start("1");
    assert_eq!(kept(&program), before);
    drop(program);

    // As if it had been stored long ago.
    let files = house.files();
    let (name, text) = files.iter().rfind(|(name, _)| name.ends_with(".response")).unwrap();
    let mut old: Value = serde_json::from_str(text).unwrap();
    old["created"] = json!(old["created"].as_u64().unwrap() - 13 * 3600);
    fs::write(house.place().join(name), old.to_string()).unwrap();
    let program = start("1");
    assert_eq!(get(&program, &responses[29]).status, 404);
    assert!(!house.place().join(name).exists());
    assert_eq!(kept(&program).iter().filter(|is_kept| **is_kept).count(), count - 1);
}

#[test]
fn with_a_lower_limit_the_newest_come_back() {
    let house = House::new();
    let start = |mib: &str| house.prepare().args(["--store-responses", mib]).start();
    let program = start("3");
    let responses: Vec<Value> = (0..24)
        .map(|at| {
            let long = json!({"role": "user", "content": format!("{at} {}", "x".repeat(100_000))});
            let input = json!([long, {"role": "user", "content": "/sim say=Hi"}]);
            create(&program, json!({"input": input}))
        })
        .collect();
    assert!(responses.iter().all(|response| get(&program, response).status == 200));
    drop(program);
    for _ in 0..2 {
        let program = start("1");
        let status = |response: &Value| get(&program, response).status;
        let kept: Vec<bool> = responses.iter().map(|response| status(response) == 200).collect();
        let count = kept.iter().filter(|is_kept| **is_kept).count();
        assert!(
            (8..=10).contains(&count) && kept[24 - count..].iter().all(|kept| *kept),
            "{kept:?}"
        );
        assert!(!program.log().contains("damaged"), "{}", program.log());
        let bytes = house.files().values().map(String::len).sum::<usize>();
        assert!((800_000..=1 << 20).contains(&bytes), "{bytes}");
    }
}

#[test]
fn what_is_sent_again_with_each_request_is_written_once() {
    let house = House::new();
    let program = house.start();
    let mut input = vec![json!({"role": "user", "content": "y".repeat(200_000)})];
    let responses: Vec<Value> = (0..10)
        .map(|at| {
            input.push(json!({"role": "user", "content": format!("Question {at}?")}));
            create(&program, json!({"input": input}))
        })
        .collect();
    assert!(house.files().values().map(String::len).sum::<usize>() < 250_000);
    drop(program);
    let program = house.start();
    assert!(responses.iter().all(|response| get(&program, response).json() == *response));
}

#[test]
fn where_nothing_can_be_written_responses_are_stored_in_memory_and_the_log_says_so() {
    let house = House::new();
    fs::write(house.place(), "no directory").unwrap();
    let program = house.start();
    let response = create(&program, json!({"input": "Hi"}));
    assert_eq!(get(&program, &response).status, 200);
    assert!(program.log().contains("stored in memory alone"), "{}", program.log());

    // Or another process has the directory.
    let house = House::new();
    let first = house.start();
    let second = house.start();
    let log = second.log();
    assert!(log.contains("another process") && log.contains("LANGFAST2API_INSTANCE"), "{log}");
    let response = create(&second, json!({"input": "Hi"}));
    assert_eq!((get(&second, &response).status, get(&first, &response).status), (200, 404));
    assert_eq!(house.files(), BTreeMap::new());

    // Or the directory is taken away while the program runs.
    fs::rename(house.place(), house.state.path().join("elsewhere")).unwrap();
    for _ in 0..2 {
        let response = create(&first, json!({"input": "Hi"}));
        assert_eq!(get(&first, &response).status, 200);
    }
    assert_eq!(first.times_logged("stored in memory alone"), 1, "{}", first.log());
}

#[test]
fn what_could_not_be_written_is_written_as_soon_as_something_can() {
    let house = House::new();
    let program = house.start();
    let first = create(&program, json!({"input": "Before"}));
    let elsewhere = house.state.path().join("elsewhere");
    fs::rename(house.place(), &elsewhere).unwrap();
    let missed = create(&program, json!({"input": "Missed"}));
    let fields = json!({"input": "Missed too", "previous_response_id": missed["id"]});
    let missed = [missed, create(&program, fields)];
    fs::rename(&elsewhere, house.place()).unwrap();
    let last = create(&program, json!({"input": "After"}));
    let log = program.log();
    assert_eq!(log.matches("stored on disk again").count(), 1, "{log}");
    killed(program);
    let program = house.start();
    for response in [&first, &missed[0], &missed[1], &last] {
        assert_eq!(get(&program, response).json(), *response);
    }
    assert_eq!(house.files().keys().filter(|name| name.ends_with(".response")).count(), 4);
}

#[test]
fn what_there_is_no_room_for_is_removed_unread_and_what_newer_ones_need_stays() {
    let house = House::new();
    let start = |mib: &str| house.prepare().args(["--store-responses", mib]).start();
    let program = start("3");
    // All others go on from it.
    let long =
        |mark: &str| json!({"role": "user", "content": format!("{mark} {}", "x".repeat(100_000))});
    let root = create(
        &program,
        json!({"input": [long("root"), {"role": "user", "content": "/sim say=Hi"}]}),
    );
    let responses: Vec<Value> = (0..20)
        .map(|at| {
            let input = json!([long(&at.to_string()), {"role": "user", "content": "/sim say=Hi"}]);
            create(&program, json!({"input": input, "previous_response_id": root["id"]}))
        })
        .collect();
    drop(program);
    let oldest = house.place().join("0000000000000000.response");
    fs::write(&oldest, r#"{"id":"resp_0","#).unwrap();
    let program = start("1");
    assert!(!oldest.exists(), "whoever reads it finds that it is damaged");
    assert_eq!(get(&program, &root).status, 404);
    assert_eq!(get(&program, &responses[0]).status, 404);
    let items = program.request("GET", &format!("{}/input_items", path(&responses[19])), JSON, b"");
    assert!(items.text().contains("root x"), "{}", items.status);
    let bytes = house.files().values().map(String::len).sum::<usize>();
    assert!((700_000..=1 << 20).contains(&bytes), "{bytes}");
    assert!(!program.log().contains("damaged"), "{}", program.log());
}

#[test]
fn nothing_of_a_stored_response_is_logged_when_it_comes_back() {
    let house = House::new();
    let program = house.start();
    create(&program, json!({"input": "mysecretquestion"}));
    drop(program);
    let program = house.prepare().env("LANGFAST2API_LOG", "trace").start();
    assert!(!program.log().contains("mysecret"), "{}", program.log());
}
