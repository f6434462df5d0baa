//! `models --import`: LangFast's list as a person copies it out of a browser, where it is kept, and when it
//! counts.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};
use serde_json::{Value, json};

use crate::support::{Directory, Program, Start, wait_until};

const NOWHERE: &str = "http://127.0.0.1:1";
/// What PostgREST answers: one line.
const TWO: &str = r#"[{"slug":"gpt-9","name":"GPT-9","provider":"openai","status":"public","versions":["gpt-9-2027-01-01"],"parameters":{"stream":true,"message_types":["developer","user","assistant"]},"updated_at":"2026-11-01T00:00:00+00:00","premium":true,"context":{"window":400000}},{"slug":"gpt-4o","status":"public","versions":[],"parameters":{"stream":true}}]"#;

/// A state directory, and files beside it.
struct Place {
    directory: Directory,
}

impl Place {
    fn new() -> Place {
        Place { directory: Directory::new() }
    }

    fn state(&self) -> std::path::PathBuf {
        self.directory.path().join("state")
    }

    fn kept(&self) -> std::path::PathBuf {
        self.state().join("models.json")
    }

    fn file(&self, content: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.directory.path().join("copied");
        fs::write(&path, content).unwrap();
        path
    }

    fn start(&self) -> Start {
        Start::new(NOWHERE).state_dir(&self.state())
    }

    /// Imports it: exit code, standard output, standard error.
    fn import(&self, content: impl AsRef<[u8]>, args: &[&str]) -> (i32, String, String) {
        let file = self.file(content);
        let start = self.start().arg("models").arg("--import").arg(file).args(args);
        let (status, output, errors) = start.run();
        (status.code().unwrap(), output, errors)
    }

    fn keep(&self, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.state()).unwrap();
        // In one step, as the import does.
        let fresh = self.state().join("fresh");
        fs::write(&fresh, content).unwrap();
        fs::rename(&fresh, self.kept()).unwrap();
    }
}

fn served(program: &Program) -> Vec<String> {
    let list = program.get("/v1/models?all=true").json();
    list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_copied_list_is_compared_kept_and_served() {
    let place = Place::new();
    let (code, output, errors) = place.import(TWO, &[]);
    assert_eq!((code, errors.as_str()), (0, ""), "{output}");
    for words in [
        "2 records: the whole list now, in place of the built-in list",
        "new:      gpt-9\n",
        "gpt-4o (",
        "gone:     gpt-4.1, ",
    ] {
        assert!(output.contains(words), "{output}");
    }
    assert!(output.contains(&place.kept().display().to_string()), "{output}");
    assert_eq!((mode(&place.kept()), mode(&place.state())), (0o644, 0o700));
    let kept: Value = serde_json::from_slice(&fs::read(place.kept()).unwrap()).unwrap();
    assert_eq!(kept, serde_json::from_str::<Value>(TWO).unwrap(), "with fields that are not known");

    let program = place.start().start();
    assert_eq!(served(&program), ["gpt-9", "gpt-4o"]);
    assert_eq!(program.get("/v1/models/gpt-9-2027-01-01").status, 200);
    program.wait_for_log("serving: 2 models, imported on ");

    let (_, output, _) = place.start().arg("--check-config").run();
    for words in
        ["2 models, imported on ", " (today) into ", "LangFast's records are of 2026-11-01 ("]
    {
        assert!(output.contains(words), "{output}");
    }
    let (_, table, which) = place.start().arg("models").run();
    assert!(table.starts_with("MODEL") && which.contains("imported on"), "{which}");
    let (_, output, _) = place.start().args(["models", "--json"]).run();
    assert_eq!(serde_json::from_str::<Value>(&output).unwrap()[0]["id"], "gpt-9");
}

#[test]
fn one_record_or_a_list_with_merge_is_added_and_reset_goes_back() {
    let place = Place::new();
    let one = r#"{"slug": "gpt-9", "parameters": {"stream": true}}"#;
    let (code, output, _) = place.import(one, &[]);
    assert_eq!(code, 0);
    assert!(output.contains("1 record: added to the built-in list"), "{output}");
    let other = r#"[{"slug": "o9", "parameters": {"stream": true}}, {"slug": "gpt-9", "parameters": {"x": 1}}]"#;
    let (_, output, _) = place.import(other, &["--merge", "--json"]);
    let changes: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(changes["merged"], true);
    assert_eq!(changes["new"], json!(["o9"]));
    assert_eq!(changes["changed"], json!({"gpt-9": ["parameters.stream", "parameters.x"]}));
    let program = place.start().start();
    assert_eq!(served(&program).len(), 19);

    let (status, output, _) = place.start().args(["models", "--reset"]).run();
    assert!(status.success() && output.contains("the built-in list counts again"), "{output}");
    assert!(!place.kept().exists());
    wait_until("the built-in list", || served(&program).len() == 17);
    let (status, output, _) = place.start().args(["models", "--reset"]).run();
    assert!(status.success() && output.contains("No list is imported"), "{output}");
    let (status, ..) = place.start().args(["models", "--reset", "--import", "x"]).run();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn what_a_killed_import_has_left_behind_is_removed_by_the_next_one() {
    let place = Place::new();
    place.keep(TWO);
    let leftover = place.state().join(".models.a1b2c3d4.new");
    fs::write(&leftover, "half of a list").unwrap();
    let (code, _, log) = place.import(TWO, &[]);
    assert_eq!(code, 0, "{log}");
    assert!(!leftover.exists() && place.kept().exists());
}

#[test]
fn a_running_server_takes_a_list_up_by_itself() {
    let place = Place::new();
    let program = place.start().start();
    assert_eq!(served(&program).len(), 17);
    assert_eq!(place.import(TWO, &[]).0, 0);
    wait_until("the imported list", || served(&program) == ["gpt-9", "gpt-4o"]);
    assert_eq!(program.get("/status/models").json()[0]["id"], "gpt-9");
    program.wait_for_log("reloaded: 2 models, imported on");
}

#[test]
fn a_signal_takes_a_list_up_without_a_request() {
    let place = Place::new();
    let program = place.start().start();
    assert_eq!(place.import(TWO, &[]).0, 0);
    program.signal(Signal::HUP);
    program.wait_for_log("reloaded: 2 models, imported on");
}

#[test]
fn a_list_that_cannot_be_used_keeps_no_server_from_starting_and_is_said() {
    type Spoil = fn(&Place);
    let spoil: [(&str, Spoil); 5] = [
        ("line 1: the file ends too early", |place| place.keep("[{\"slug\":")),
        ("there is no record of a public model", |place| place.keep("[]")),
        ("no regular file", |place| fs::create_dir_all(place.kept()).unwrap()),
        ("no regular file", |place| {
            fs::create_dir_all(place.state()).unwrap();
            let made = std::process::Command::new("mkfifo").arg(place.kept()).status().unwrap();
            assert!(made.success());
        }),
        ("too long", |place| place.keep(vec![b' '; 5 << 20])),
    ];
    for (words, spoil) in spoil {
        let place = Place::new();
        spoil(&place);
        let program = place.start().start();
        assert_eq!(served(&program).len(), 17, "{words}");
        let log = program.stop();
        let line = log.lines().find(|line| line.contains(words)).expect(&log);
        assert!(line.contains("ERROR") && line.contains("models --reset"), "{line}");

        let (status, output, _) = place.start().arg("--check-config").run();
        assert!(status.success() && output.contains(words), "{output}");
        let (status, output, _) = place.start().arg("doctor").run();
        let step = output.lines().find(|line| line.contains(words)).expect(&output);
        assert!(!status.success() && step.contains("FAILED   models"), "{output}");
    }
}

#[test]
fn a_list_that_breaks_under_a_running_server_leaves_it_the_one_before() {
    let place = Place::new();
    place.keep(TWO);
    let program = place.start().start();
    place.keep("[");
    wait_until("a look at the file", || {
        assert_eq!(served(&program), ["gpt-9", "gpt-4o"]);
        program.log().contains("the models stay as they were: the imported list of models, ")
    });
    program.signal(Signal::HUP);
    wait_until("another", || program.times_logged("the models stay as they were") == 2);
    assert_eq!(served(&program), ["gpt-9", "gpt-4o"]);
    place.keep(TWO.replace("gpt-9\"", "gpt-10\""));
    wait_until("the mended list", || served(&program) == ["gpt-10", "gpt-4o"]);
}

#[test]
fn a_file_that_is_set_counts_before_an_imported_list_and_this_is_said() {
    let place = Place::new();
    let set = place.directory.path().join("set.json");
    fs::write(&set, r#"[{"slug": "mine"}]"#).unwrap();
    let set = set.to_str().unwrap();
    let (code, output, errors) = place.import(TWO, &["--models", set]);
    assert_eq!(code, 0, "{errors}");
    assert!(output.contains("in place of the built-in list"), "{output}");
    assert!(errors.contains("does not count, because --models names "), "{errors}");
    let program = place.start().args(["--models", set]).start();
    assert_eq!(served(&program), ["mine"]);
    program.wait_for_log("an imported list of models does not count, because of --models");
    program.wait_for_log("serving: 1 model, of ");
    let (_, output, _) = place.start().args(["--models", set, "--check-config"]).run();
    assert!(
        output.contains("does not count") && output.contains("set.json (--models), changed on "),
        "{output}"
    );
}

#[test]
fn what_is_no_list_is_refused_in_words_and_nothing_is_written() {
    let place = Place::new();
    assert_eq!(place.import(TWO, &[]).0, 0);
    let before = fs::read(place.kept()).unwrap();
    for (content, code, words) in [
        ("curl 'https://x' -H 'authorization: Bearer eyJabc'", 1, "`Copy as cURL`"),
        ("<!doctype html>", 1, "web page"),
        (&TWO[..300], 1, "ends too early"),
        // Cut off within a text, with the Enter of whoever has pasted it.
        ("[{\"slug\": \"gpt\n", 1, "Only a part has arrived"),
        (
            "{\"object\": \"list\"}",
            1,
            "an object: it has `object`, and no `slug` and no `parameters`",
        ),
        (
            "[{\"slug\": \"a\", \"parameters\": {}},\n{\"slug\": 7}]",
            1,
            "record 2 (line 2): `slug` is a number",
        ),
        (
            r#"{"code":"42501","message":"permission denied for table models"}"#,
            1,
            "42501: permission denied",
        ),
        ("", 1, "Nothing was given"),
    ] {
        let (got, output, errors) = place.import(content, &[]);
        assert_eq!((got, output.as_str()), (code, ""), "{content}");
        assert!(errors.contains(words), "{content}: {errors}");
        assert!(!errors.contains("eyJ"), "{errors}");
        assert_eq!(fs::read(place.kept()).unwrap(), before);
    }
    let refused = |from: &str, args: &[&str]| {
        let start = place.start().args(["models", "--import", from]).args(args);
        let (status, _, errors) = start.run();
        assert_eq!(fs::read(place.kept()).unwrap(), before);
        (status.code().unwrap(), errors)
    };
    let (code, errors) = refused("/no/such/file", &[]);
    assert!(code == 2 && errors.contains("--import: /no/such/file: No such file"), "{errors}");
    let (code, errors) = refused("/", &[]);
    assert!(code == 2 && errors.contains("--import: /: Is a directory"), "{errors}");
    let (code, errors) = refused("/dev/zero", &[]);
    assert!(code == 1 && errors.contains("more than 64 MiB"), "{errors}");
    let copied = place.file(TWO);
    let (code, errors) = refused(copied.to_str().unwrap(), &["--model-aliases", "nonsense"]);
    assert!(code == 2 && errors.contains("--model-aliases: `nonsense`"), "{errors}");
}

#[test]
fn a_directory_that_cannot_be_written_is_said_and_the_old_list_stays() {
    let place = Place::new();
    place.keep("[{\"slug\": \"old\"}]");
    let file = place.file(TWO);
    // Even for root nothing can be made below a file.
    let state = place.kept().join("state");
    let start = Start::new(NOWHERE).state_dir(&state).arg("models").arg("--import").arg(&file);
    let (status, output, errors) = start.run();
    assert_eq!((status.code(), output.as_str()), (Some(1), ""));
    assert!(errors.contains("state/models.json cannot be written: "), "{errors}");
    assert!(errors.contains("Name a directory (LANGFAST2API_STATE_DIR)"), "{errors}");
    assert_eq!(fs::read_to_string(place.kept()).unwrap(), "[{\"slug\": \"old\"}]");
}

#[test]
fn a_list_comes_through_standard_input() {
    let place = Place::new();
    let input = File::open(place.file(TWO)).unwrap();
    let (status, output, errors) = place.start().args(["models", "--import", "-"]).run_with(input);
    assert!(status.success() && errors.is_empty(), "{errors}");
    assert!(output.contains("2 records"), "{output}");
}

/// A terminal: what is written into the first end is typed at the second.
fn terminal() -> (File, File) {
    let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keys).unwrap();
    unlockpt(&keys).unwrap();
    let name = ptsname(&keys, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let screen = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    (keys.into(), screen.into())
}

fn shows_lines(modes: &Termios) -> bool {
    modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

#[test]
fn a_long_line_survives_being_pasted_into_a_terminal_and_ctrl_c_gives_up() {
    // Longer than the 4,095 bytes that a terminal takes as a line.
    let rows: Vec<Value> = (0..100)
        .map(|at| json!({"slug": format!("model-{at}"), "parameters": {"stream": true, "note": "x".repeat(100)}}))
        .collect();
    let line = Value::from(rows).to_string();
    assert!(line.len() > 10_000);
    for (end, is_taken) in [("\n\u{4}", true), ("\u{4}", true), ("\u{3}", false)] {
        let place = Place::new();
        let (mut keys, screen) = terminal();
        let watched = keys.try_clone().unwrap();
        let program = place.start().args(["models", "--import", "-"]);
        let running = std::thread::spawn(move || program.run_with(screen));
        wait_until("the question", || !shows_lines(&tcgetattr(&watched).unwrap()));
        std::io::Write::write_all(&mut keys, [&line, end].concat().as_bytes()).unwrap();
        let (status, output, errors) = running.join().unwrap();
        assert!(
            errors.contains("Paste what you have copied") && errors.contains("Ctrl-D"),
            "{errors}"
        );
        assert_eq!(status.success(), is_taken, "{errors}");
        assert_eq!(output.contains("100 records"), is_taken, "{output}");
        assert_eq!(place.kept().exists(), is_taken);
        assert!(shows_lines(&tcgetattr(&watched).unwrap()), "the terminal is as it was");
    }
}
