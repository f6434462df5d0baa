//! Signing in against odds: captchas, pasted sessions, full disks, places that cannot be written.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::simulator::{Fault, Simulator, Step};
use crate::support::{Directory, NOBODY, Program, Start, wait_until};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

/// A place where nothing can be made, for root neither.
const NOWHERE: &str = "/proc/no/such";

/// The program by a shell that has it survive a file that grows too long: with [`set_room`], a full disk.
fn program() -> Command {
    let mut command = Command::new("sh");
    let ignore = "trap '' XFSZ; exec \"$0\" \"$@\"";
    command.args(["-c", ignore, env!("CARGO_BIN_EXE_langfast2api")]);
    command
}

/// Has no file of the process grow beyond this many bytes; `None` is any number.
fn set_room(pid: u32, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Pid::from_raw(pid as i32), Resource::Fsize, limit).unwrap();
}

/// A login by a refresh token.
struct Login {
    command: Command,
}

impl Login {
    fn new(simulator: &Simulator, state: &Path) -> Login {
        let (url, mut command) = (simulator.url(), program());
        command
            .args(["login", "--refresh-token", "--supabase-url", &url, "--runner-url", &url])
            .arg("--state-dir")
            .arg(state)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Login { command }
    }

    fn not_as_root(mut self) -> Login {
        if rustix::process::geteuid().is_root() {
            self.command.uid(NOBODY).gid(NOBODY);
        }
        self
    }

    /// Starts it with this standard input, which stays open.
    fn start(mut self, input: &str) -> Child {
        let mut child = self.command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may have ended without reading.
        let _ = stdin.write_all(input.as_bytes());
        child
    }

    fn run(self, input: &str) -> (bool, String) {
        said(self.start(input))
    }
}

/// Whether a command has done its work, and all that it said, which is never about a server's log.
fn said(child: Child) -> (bool, String) {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!text.contains("request id") && !text.contains("nternal error"), "{text}");
    (output.status.success(), text)
}

/// The session object that LangFast answers the account's login with.
fn session(simulator: &Simulator) -> Value {
    let url = format!("{}/auth/v1/token?grant_type=password", simulator.url());
    let body = json!({"email": "user@example.com", "password": "correct-password"}).to_string();
    let answer = ureq::post(url).header("apikey", "any").send(&body);
    serde_json::from_str(&answer.unwrap().body_mut().read_to_string().unwrap()).unwrap()
}

fn token(session: &Value) -> String {
    session["refresh_token"].as_str().unwrap().to_owned()
}

fn refusal(program: &Program) -> String {
    let refused = program.ask("hello");
    assert_eq!((refused.status, refused.header("x-should-retry")), (503, Some("false")));
    assert_eq!(refused.error()["code"], "sign_in_required");
    refused.error()["message"].as_str().unwrap().to_owned()
}

fn with_account(start: Start) -> Start {
    start
        .env("LANGFAST2API_EMAIL", "user@example.com")
        .env("LANGFAST2API_PASSWORD", "correct-password")
}

#[test]
fn a_captcha_at_any_sign_in_is_told_with_what_helps_and_where_it_lies() {
    let words = "captcha protection: request disallowed (no captcha_token found)";
    for (status, body) in [
        (400, json!({"code": 400, "error_code": "captcha_failed", "msg": words})),
        (400, json!({"code": "captcha_failed", "message": words})),
        (400, json!({"code": 400, "msg": words})),
        (400, json!({"error": "invalid_request", "error_description": words})),
        (500, json!({"code": 500, "msg": "captcha verification process failed"})),
    ] {
        for step in [Step::SignUp, Step::Password] {
            let simulator = Simulator::start();
            simulator.fault(step, Fault::status(status).body(&body.to_string()).times(2));
            let start = Start::new(&simulator.url());
            let start = if step == Step::SignUp { start } else { with_account(start) };
            let message = refusal(&start.arg("--origin").arg("https://page.example").start());
            for words in [
                "only a person",
                "sign in at https://page.example",
                "Local Storage > https://page.example",
                "sb-127-auth-token",
                "cookies of that name",
                "langfast2api login --refresh-token",
            ] {
                assert!(message.contains(words), "{words} in {message}");
            }
            assert!(!message.contains("LANGFAST2API_EMAIL"), "no password helps: {message}");
        }
    }
}

#[test]
fn login_takes_the_token_out_of_whatever_a_browser_keeps_it_in_and_says_of_what() {
    type Form = (&'static str, fn(&Value) -> String);
    let cookie = |session: &Value| {
        let value = format!("base64-{}", BASE64_URL_SAFE_NO_PAD.encode(session.to_string()));
        let (first, second) = value.split_at(value.len() / 2);
        format!("theme=dark; sb-x-auth-token.0={first}; sb-x-auth-token.1={second}\n")
    };
    let list = |session: &Value| {
        let list = json!([session["access_token"], session["refresh_token"], null]).to_string();
        utf8_percent_encode(&list, NON_ALPHANUMERIC).to_string()
    };
    let forms: [Form; 5] = [
        ("the refresh token itself", |session| format!("{}\n", token(session))),
        ("a session in JSON", Value::to_string),
        ("out of a session", |session| serde_json::to_string_pretty(session).unwrap()),
        ("a cookie", cookie),
        ("a list of tokens", list),
    ];
    for (words, form) in forms {
        let (simulator, directory) = (Simulator::start(), Directory::new());
        let session = session(&simulator);
        let (done, text) = Login::new(&simulator, directory.path()).run(&form(&session));
        assert!(done && text.contains("Signed in as user@example.com"), "{words}: {text}");
        assert!(text.contains(words) && !text.contains(&token(&session)), "{words}: {text}");
    }
}

#[test]
fn login_tells_what_is_no_refresh_token_from_one_and_neither_sends_nor_shows_it() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let session = session(&simulator);
    let before = simulator.stats().http_requests;
    let access_token = session["access_token"].as_str().unwrap();
    let cut = &session.to_string()[..100];
    for (input, words) in [
        (access_token, "this is an access token"),
        (cut, "without its refresh token"),
        ("my secret pass phrase\n", "no refresh token"),
        ("\n", "nothing was given"),
        ("", "nothing was given"),
    ] {
        let (done, text) = Login::new(&simulator, directory.path()).run(input);
        assert!(!done && text.contains(words), "{text}");
        assert!(text.contains("Local Storage"), "says where it lies: {text}");
        let input = input.trim();
        assert!(input.is_empty() || !text.contains(&input[..10]), "{text}");
    }
    assert_eq!(simulator.stats().http_requests, before);
}

#[test]
fn login_does_not_wait_for_the_end_of_a_pipe_that_has_brought_the_token() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let session = session(&simulator);
    let mut login = Login::new(&simulator, directory.path());
    let mut child = login.command.stdin(Stdio::piped()).spawn().unwrap();
    let mut open = child.stdin.take().unwrap();
    let pretty = serde_json::to_string_pretty(&session).unwrap();
    open.write_all(pretty.as_bytes()).unwrap();
    let (done, text) = said(child);
    assert!(done && text.contains("Signed in"), "{text}");
    drop(open);
}

#[test]
fn a_paste_longer_than_a_terminals_line_arrives_whole_and_unseen() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let mut session = session(&simulator);
    let (secret, name) = (token(&session), "x".repeat(9000));
    // As LangFast writes it, but for the token at its end, behind what a terminal's line holds.
    let fields = session.as_object_mut().unwrap();
    let (refresh_token, user) =
        (fields.remove("refresh_token").unwrap(), fields.remove("user").unwrap());
    fields.extend([("name".to_owned(), json!(name)), ("user".to_owned(), user)]);
    fields.insert("refresh_token".to_owned(), refresh_token);

    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let terminal = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = OpenOptions::new().read(true).write(true).open(terminal).unwrap();
    let mut login = Login::new(&simulator, directory.path());
    let mut child = login.command.stdin(terminal.try_clone().unwrap()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let (mut asked, mut byte) = (String::new(), [0]);
    while !asked.ends_with("holds it: ") {
        assert_eq!(stderr.read(&mut byte).unwrap(), 1, "{asked}");
        asked.push(byte[0].into());
    }
    let mut keyboard = File::from(master);
    // In two lines, and with a third that nobody may take for a command.
    let text = session.to_string();
    let (first, second) = text.split_at(5000);
    write!(keyboard, "\x1b[200~{first}\r{second}\x1b[201~\rrm -rf secret\r\x04\x04").unwrap();
    stderr.read_to_string(&mut asked).unwrap();
    let (done, text) = said(child);
    assert!(done, "{asked}");
    assert!(text.contains("Signed in as user@example.com"), "{text}");
    assert!(asked.contains("Paste the rest"), "{asked}");
    assert!(asked.contains("Took the refresh token out of a session"), "{asked}");
    // What the terminal holds for the next that reads it, and what it has shown.
    keyboard.write_all(b"\x04").unwrap();
    let (mut held, mut shown) = (String::new(), Vec::new());
    (&terminal).read_to_string(&mut held).unwrap();
    drop((terminal, login));
    // It ends with an error once nobody has the terminal open.
    let _ = keyboard.read_to_end(&mut shown);
    for text in [String::from_utf8_lossy(&shown).into_owned(), held] {
        assert!(!text.contains("rm -rf") && !text.contains(&secret[..8]), "{text}");
    }
}

#[test]
fn a_token_in_the_settings_may_be_what_it_was_copied_in() {
    let directory = Directory::new();
    let simulator = Simulator::start();
    let file = directory.path().join("token");
    let session_of_file = session(&simulator);
    std::fs::write(&file, serde_json::to_string_pretty(&session_of_file).unwrap()).unwrap();
    let program = Start::new(&simulator.url()).arg("--refresh-token-file").arg(&file).start();
    assert_eq!(program.ask("hello").content(), "hello");
    let value = BASE64_URL_SAFE_NO_PAD.encode(session(&simulator).to_string());
    let start = Start::new(&simulator.url());
    let program = start.env("LANGFAST2API_REFRESH_TOKEN", format!("base64-{value}")).start();
    assert_eq!(program.ask("hello").content(), "hello");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.refused_refreshes), (0, 2, 0));
}

#[test]
fn a_setting_that_holds_no_refresh_token_is_named_at_the_start() {
    let simulator = Simulator::start();
    let access_token = session(&simulator)["access_token"].as_str().unwrap().to_owned();
    let start = Start::new(&simulator.url()).env("LANGFAST2API_REFRESH_TOKEN", &access_token);
    let (status, _, log) = start.run();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("LANGFAST2API_REFRESH_TOKEN: this is an access token"), "{log}");
    assert!(!log.contains(&access_token[..10]), "{log}");
}

#[test]
fn a_login_that_could_not_be_kept_sends_nothing_so_that_the_token_is_as_good_as_before() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let token = token(&session(&simulator));
    let before = simulator.stats().http_requests;
    let closed = directory.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    let nowhere = PathBuf::from(NOWHERE);
    for state in [&closed, &nowhere] {
        let (done, text) = Login::new(&simulator, state).not_as_root().run(&token);
        assert!(!done && text.contains("Nothing was sent"), "{text}");
        assert!(text.contains(state.to_str().unwrap()), "{text}");
        assert!(text.contains("LANGFAST2API_STATE_DIR") && !text.contains(&token), "{text}");
    }
    let mut login = Login::new(&simulator, directory.path());
    let mut child = login.command.stdin(Stdio::piped()).spawn().unwrap();
    set_room(child.id(), Some(0));
    child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    let (done, text) = said(child);
    assert!(!done && text.contains("Make room") && text.contains("Nothing was sent"), "{text}");
    assert_eq!(simulator.stats().http_requests, before);

    let (done, text) = Login::new(&simulator, directory.path()).run(&token);
    assert!(done, "{text}");
}

#[test]
fn a_login_whose_session_is_lost_all_the_same_says_that_the_token_works_once_more() {
    let directory = Directory::new();
    let simulator = Simulator::builder().parent_tokens().start();
    let token = token(&session(&simulator));
    simulator.fault(Step::Refresh, Fault::slow(300));
    let before = simulator.stats().http_requests;
    let child = Login::new(&simulator, directory.path()).start(&token);
    simulator.wait_until(|stats| stats.http_requests > before);
    set_room(child.id(), Some(0));
    let (done, text) = said(child);
    assert!(!done && text.contains("the session is not kept"), "{text}");
    assert!(text.contains("Make room") && text.contains("with the same token"), "{text}");
    assert!(!text.contains(&token), "{text}");
    assert_eq!(simulator.stats().refreshes, 1, "it was LangFast's turn already");

    let (done, text) = Login::new(&simulator, directory.path()).run(&token);
    assert!(done, "{text}");
    assert_eq!(simulator.stats().refused_refreshes, 0);
}

#[test]
fn a_full_disk_costs_a_server_no_token_of_an_account() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let set = token(&session(&simulator));
    let program = Start::of(program(), &simulator.url(), directory.path())
        .env("LANGFAST2API_REFRESH_TOKEN", &set)
        .start();
    for renewals in 0..2 {
        set_room(program.pid(), Some(0));
        for _ in 0..2 {
            let message = refusal(&program);
            assert!(
                message.contains("Make room") && message.contains("Nothing was sent"),
                "{message}"
            );
        }
        assert_eq!(simulator.stats().refreshes, renewals);
        set_room(program.pid(), None);
        assert_eq!(program.ask("hello").content(), "hello");
        assert_eq!(simulator.stats().refreshes, renewals + 1);
        simulator.expire_tokens();
    }
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refused_refreshes), (0, 0));
}

#[test]
fn a_server_that_is_killed_before_it_knows_that_it_can_keep_a_session_has_sent_nothing() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let (done, text) = Login::new(&simulator, directory.path()).run(&token(&session(&simulator)));
    assert!(done, "{text}");
    let files = || {
        let files = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path());
        let sessions = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
        sessions.map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>()
    };
    let (before, refreshes) = (files(), simulator.stats().refreshes);
    simulator.expire_tokens();
    let mut program = Start::new(&simulator.url()).state_dir(directory.path()).start();
    // No longer than the session, which is written only with a longer one proven.
    set_room(program.pid(), Some(before[0].len() as u64 + 1));
    let _asking = program.chat_connection(crate::support::user("hello"));
    assert_eq!(program.wait().signal(), Some(Signal::XFSZ.as_raw()));
    assert_eq!((files(), simulator.stats().refreshes), (before, refreshes));
    let program = Start::new(&simulator.url()).state_dir(directory.path()).start();
    assert_eq!(program.ask("hello").content(), "hello");
}

#[test]
fn a_token_of_the_settings_is_kept_back_where_its_session_could_not_be_kept() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let set = token(&session(&simulator));
    let start = |state: &Path| {
        let start = Start::new(&simulator.url()).state_dir(state);
        start.env("LANGFAST2API_REFRESH_TOKEN", &set).start()
    };
    let message = refusal(&start(Path::new(NOWHERE)));
    assert!(message.contains(NOWHERE) && message.contains("LANGFAST2API_STATE_DIR"), "{message}");
    assert_eq!(simulator.stats().refreshes, 0);
    assert_eq!(start(directory.path()).ask("hello").content(), "hello");
}

#[test]
fn a_sign_up_is_logged_with_what_langfasts_terms_say() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--log").arg("info").start();
    for _ in 0..2 {
        assert_eq!(program.ask("hello").content(), "hello");
        simulator.expire_tokens();
    }
    let log = program.stop();
    assert_eq!(log.matches("LangFast's terms").count(), 1, "{log}");
    assert!(log.contains("automated means") && log.contains("langfast2api login"), "{log}");
    let program = with_account(Start::new(&simulator.url())).start();
    assert_eq!(program.ask("hello").content(), "hello");
    assert!(!program.stop().contains("terms"));
}

#[test]
fn restarts_without_a_state_directory_sign_up_no_more_than_three_users() {
    let (simulator, runtime) = (Simulator::start(), Directory::new());
    let start = || {
        let start = Start::new(&simulator.url()).state_dir(Path::new(NOWHERE));
        start.env("XDG_RUNTIME_DIR", runtime.path())
    };
    for _ in 0..3 {
        let program = start().start();
        assert_eq!(program.ask("hello").content(), "hello");
        program.wait_for_log("sign-ups are counted in");
    }
    for _ in 0..3 {
        let refused = start().start().ask("hello");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 3000);
    }
    assert_eq!(simulator.stats().signups, 3);
    let files = std::fs::read_dir(runtime.path().join("langfast2api")).unwrap();
    for file in files.map(|file| file.unwrap().path()) {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains("_token\":"), "no token is there: {text}");
    }
    let (_, report, _) = start().arg("doctor").run();
    let place = runtime.path().join("langfast2api");
    let words = format!("anonymous ones are counted in {}", place.display());
    assert!(report.contains(&words), "{report}");
    assert!(report.contains("cannot be written: ") && report.contains("LANGFAST2API_STATE_DIR"));
}

#[test]
fn the_doctor_says_of_a_session_that_cannot_be_kept_that_it_is_not_kept() {
    let (simulator, runtime) = (Simulator::start(), Directory::new());
    let start = Start::new(&simulator.url()).env("XDG_RUNTIME_DIR", runtime.path());
    let start = start.state_dir(Path::new(NOWHERE)).args(["doctor", "--sign-in"]);
    let (_, report, _) = start.run();
    for words in ["a new session, which is not kept", "a new one, which is not kept"] {
        assert!(report.contains(words), "{report}");
    }
}

#[test]
fn a_sign_up_that_made_no_user_is_taken_off_the_count_wherever_that_is() {
    let (simulator, runtime) = (Simulator::start(), Directory::new());
    simulator.fault(Step::SignUp, Fault::status(422).times(5));
    let start = Start::new(&simulator.url()).env("XDG_RUNTIME_DIR", runtime.path());
    let program = start.state_dir(Path::new(NOWHERE)).start();
    for _ in 0..5 {
        assert_eq!(program.ask("hello").status, 502);
    }
    assert_eq!(program.ask("hello").content(), "hello");
}

#[test]
fn a_project_that_is_paused_makes_no_user_and_is_told_however_often_somebody_asks() {
    let simulator = Simulator::start();
    simulator.fault(Step::SignUp, Fault::status(540).times(5));
    let program = Start::new(&simulator.url()).start();
    for _ in 0..5 {
        assert!(program.ask("hello").text().contains("restricted by its host"));
    }
    assert_eq!(program.ask("hello").content(), "hello");
}

#[test]
fn a_captcha_that_auth_could_not_check_makes_no_user_and_is_told_after_each_restart() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let body = json!({"code": 500, "msg": "captcha verification process failed"}).to_string();
    simulator.fault(Step::SignUp, Fault::status(500).body(&body).times(100));
    for _ in 0..5 {
        let program = Start::new(&simulator.url()).state_dir(directory.path()).start();
        let message = refusal(&program);
        assert!(message.contains("captcha"), "{message}");
    }
}

/// Removes the empty files that a server in front of this simulator has left in places of the system's.
struct LocksOf(String);

impl Drop for LocksOf {
    fn drop(&mut self) {
        let name = self.0.trim_start_matches("http://").replace(':', "-");
        let own = format!("langfast2api-{}", rustix::process::geteuid().as_raw());
        for place in ["/run", "/dev/shm", "/var/tmp"] {
            let place = Path::new(place).join(&own);
            let _ = std::fs::remove_file(place.join(format!("session-{name}.lock")));
            let _ = std::fs::remove_dir(place);
        }
    }
}

#[test]
fn where_sign_ups_cannot_be_counted_at_all_nobody_is_signed_up() {
    let (simulator, directory, runtime) = (Simulator::start(), Directory::new(), Directory::new());
    let start = Start::of(program(), &simulator.url(), directory.path());
    let start = start.env("XDG_RUNTIME_DIR", runtime.path()).env("TMPDIR", runtime.path());
    let _locks = LocksOf(simulator.url());
    let program = start.start();
    set_room(program.pid(), Some(0));
    for _ in 0..4 {
        let message = refusal(&program);
        for words in ["nobody is signed up", "Make room", "/dev/shm", "LANGFAST2API_EMAIL"] {
            assert!(message.contains(words), "{message}");
        }
    }
    assert_eq!(simulator.stats().signups, 0);
    set_room(program.pid(), None);
    assert_eq!(program.ask("hello").content(), "hello");
}

#[test]
fn what_only_a_person_can_mend_is_not_asked_with_each_request_and_a_sighup_asks_again() {
    let refusal_of = |code: &str| json!({"code": 400, "error_code": code, "msg": "no"}).to_string();
    let wrong = |simulator: &Simulator| {
        with_account(Start::new(&simulator.url())).env("LANGFAST2API_PASSWORD", "wrong").start()
    };
    let captcha = |simulator: &Simulator| {
        let fault = Fault::status(400).body(&refusal_of("captcha_failed"));
        simulator.fault(Step::SignUp, fault.times(9));
        Program::start(&simulator.url())
    };
    type Kind<'a> = (&'a dyn Fn(&Simulator) -> Program, &'a str);
    let kinds: [Kind; 2] = [(&wrong, "password is wrong"), (&captcha, "captcha")];
    for (start, words) in kinds {
        let simulator = Simulator::start();
        let program = start(&simulator);
        let mut told = refusal(&program);
        let before = simulator.stats().http_requests;
        for _ in 0..3 {
            assert!(told.contains(words) && told.contains("SIGHUP"), "{told}");
            told = refusal(&program);
        }
        assert_eq!(simulator.stats().http_requests, before, "{words}");
        program.signal(Signal::HUP);
        program.wait_for_log("reloaded");
        wait_until("another try", || {
            assert!(refusal(&program).contains(words));
            simulator.stats().http_requests > before
        });
    }
}

#[test]
fn a_login_ends_the_wait_of_a_server_whose_session_was_refused() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let (done, text) = Login::new(&simulator, directory.path()).run(&token(&session(&simulator)));
    assert!(done, "{text}");
    simulator.expire_tokens();
    simulator.revoke_refresh_tokens();
    let program = Start::new(&simulator.url()).state_dir(directory.path()).start();
    for _ in 0..3 {
        assert!(refusal(&program).contains("langfast2api login"));
    }
    assert_eq!(simulator.stats().refused_refreshes, 1);
    let (done, text) = Login::new(&simulator, directory.path()).run(&token(&session(&simulator)));
    assert!(done, "{text}");
    assert_eq!(program.ask("hello").content(), "hello", "other credentials are not held up");
}
