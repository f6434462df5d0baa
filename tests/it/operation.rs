//! What an operator does beside the running server: keys, signals, and commands as the installed service.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::simulator::{Fault, Simulator, Step};
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Directory, NOBODY, Program, Start, streamed, wait_until};
use rustix::process::Signal;

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// Runs `keys` on a file; standard output, and standard error.
fn keys(file: &Path, args: &[&str]) -> Result<(String, String), String> {
    let start = Start::new("http://x").arg("--api-keys-file").arg(file).arg("keys").args(args);
    let (status, output, error) = start.run();
    if status.success() { Ok((output, error)) } else { Err(error) }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn keys_are_made_listed_and_revoked_by_name_and_none_is_shown_twice() {
    let directory = Directory::new();
    let file = directory.path().join("api-keys");
    let (key, said) = keys(&file, &["add", "alice's laptop"]).unwrap();
    let key = key.trim_end();
    assert!(key.len() == 48 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    assert!(said.contains("not shown again") && !said.contains(key), "{said}");
    assert_eq!(mode(&file), 0o600);

    let (_, _) = keys(&file, &["add", "bob"]).unwrap();
    assert!(keys(&file, &["add", "bob"]).unwrap_err().contains("bob already"));
    let (list, _) = keys(&file, &[]).unwrap();
    assert!(list.contains("  alice's laptop\n") && list.contains("  bob\n"), "{list}");
    assert!(!list.contains(key), "{list}");

    keys(&file, &["revoke", "alice's laptop"]).unwrap();
    assert!(!fs::read_to_string(&file).unwrap().contains(key));
    assert!(keys(&file, &["revoke", "bob"]).unwrap_err().contains("only key"));
    assert!(keys(&file, &["revoke", "carol"]).unwrap_err().contains("no key of carol"));
    assert!(keys(&file, &["add"]).is_err(), "without a name");
    let nowhere = directory.path().join("none/api-keys");
    let said = keys(&nowhere, &["add", "x"]).unwrap_err();
    assert!(said.contains("none/api-keys: its directory is not there"), "{said}");
}

#[test]
fn a_file_that_root_changes_stays_its_owners() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = Directory::new();
    let file = directory.path().join("api-keys");
    std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    keys(&file, &["add", "alice"]).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().uid(), NOBODY, "as its directory");
    std::os::unix::fs::chown(&file, Some(1), Some(1)).unwrap();
    keys(&file, &["add", "bob"]).unwrap();
    let found = fs::metadata(&file).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (1, 1, 0o600));
}

fn status_with(program: &Program, key: &str) -> u16 {
    program.request("GET", "/v1/models", &format!("Authorization: Bearer {key}\r\n"), b"").status
}

#[test]
fn keys_count_after_sighup_and_such_as_cannot_be_read_change_nothing() {
    let (simulator, directory) = (Simulator::start(), Directory::new());
    let file = directory.path().join("api-keys");
    write(&file, "sk-alice-0123456789\n");
    let program = Start::new(&simulator.url()).arg("--api-keys-file").arg(&file).start();
    let (bob, _) = keys(&file, &["add", "bob"]).unwrap();
    let bob = bob.trim_end();
    assert_eq!(status_with(&program, bob), 401);
    program.signal(Signal::HUP);
    wait_until("bob is let in", || status_with(&program, bob) == 200);
    assert_eq!(status_with(&program, "sk-alice-0123456789"), 200);

    write(&file, "# nobody\n");
    program.signal(Signal::HUP);
    program.wait_for_log("the API keys stay as they were");
    assert_eq!(status_with(&program, bob), 200);
    assert_eq!(status_with(&program, ""), 401);

    write(&file, &format!("{bob}\n"));
    program.signal(Signal::HUP);
    wait_until("alice is kept out", || status_with(&program, "sk-alice-0123456789") == 401);
    assert!(!program.log().contains(bob), "{}", program.log());
}

#[test]
fn a_warm_up_that_fails_is_tried_again() {
    let simulator = Simulator::start();
    simulator.fault(Step::SignUp, Fault::status(503).times(2));
    let program = Start::new(&simulator.url()).arg("--warm-up").start();
    program.wait_for_log("could not warm up: ");
    program.wait_for_log("warm: signed in and connected");
    assert_eq!(simulator.stats().open_sockets, 1);
}

#[test]
fn a_second_signal_ends_answers_with_an_error_that_says_so() {
    let simulator = Simulator::builder().literal_socket().start();
    let start = Start::new(&simulator.url()).env("LANGFAST2API_SHUTDOWN_TIMEOUT", "3600");
    let mut program = start.start();
    let mut connection = program.chat_connection(streamed(SILENT));
    Stepped::only(&simulator).says("one ");
    connection.head();
    connection.chunk().unwrap();
    program.signal(Signal::TERM);
    program.wait_for_log("stopping: ");
    program.signal(Signal::TERM);
    let rest = connection.rest();
    assert!(rest.contains("shutting down") && !rest.contains("[DONE]"), "{rest}");
    assert!(program.wait().success());
    assert!(program.log().contains("a further signal"), "{}", program.log());
}

#[test]
fn what_cannot_be_read_or_listened_on_is_named_with_what_to_do() {
    let directory = Directory::new();
    let file = directory.path().join("file");
    write(&file, "");
    for command in ["whoami", "logout"] {
        let (status, _, error) = Start::new("http://x").state_dir(&file).arg(command).run();
        assert!(!status.success() && error.contains(file.to_str().unwrap()), "{command}: {error}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, _, error) = Start::new("http://x").args(["--listen", &address]).run();
    assert_eq!(status.code(), Some(1));
    assert!(
        error.contains("Another program listens there") && error.contains("--listen"),
        "{error}"
    );
}

/// A service's files as its unit hands them on: what the settings name cannot be read itself.
struct HandedOn {
    directory: Directory,
}

impl HandedOn {
    fn new() -> HandedOn {
        let directory = Directory::new();
        for name in ["etc", "credentials", "run", "run.reload"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        HandedOn { directory }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self, simulator: &Simulator) -> Start {
        Start::new(&simulator.url())
            .env("CREDENTIALS_DIRECTORY", self.path("credentials"))
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .env("LANGFAST2API_CREDENTIALS_FROM", self.path("etc").join("8001."))
    }
}

/// A list with one model.
const ONE: &str =
    r#"[{"slug": "mine-1", "provider": "openai", "parameters": {"message_types": ["user"]}}]"#;

#[test]
fn a_path_whose_file_the_unit_hands_on_is_read_from_there() {
    let (simulator, service) = (Simulator::start(), HandedOn::new());
    write(&service.path("credentials/models.json"), ONE);
    write(&service.path("credentials/keys"), "sk-alice-0123456789");
    write(&service.path("credentials/password"), "correct-password\n");
    write(&service.path("credentials/all.toml"), "log = \"debug\"\n");
    let named = |start: Start, flag: &str, name: &str| {
        start.arg(flag).arg(service.path("etc").join(format!("8001.{name}")))
    };
    let start = named(service.start(&simulator), "--models", "models.json");
    let start = named(start, "--api-keys-file", "keys");
    let start = named(start, "--password-file", "password");
    let start = named(start, "--config", "all.toml").args(["--email", "user@example.com"]);
    let program = start.start();
    let models = |key: &str| {
        program
            .request("GET", "/v1/models", &format!("x-api-key: {key}\r\n"), b"")
            .text()
            .to_owned()
    };
    assert!(models("sk-alice-0123456789").contains("mine-1"));
    assert!(program.line().contains("user@example.com"), "{}", program.line());

    // As a reload of the unit leaves them.
    write(&service.path("run.reload/keys"), "sk-bob-0123456789");
    write(&service.path("run.reload/models.json"), &ONE.replace("mine-1", "mine-2"));
    program.signal(Signal::HUP);
    wait_until("bob is let in", || models("sk-bob-0123456789").contains("mine-2"));
    assert!(models("sk-alice-0123456789").contains("Incorrect API key"));
}

#[test]
fn a_path_that_the_services_user_may_not_read_is_named_with_what_to_do() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (simulator, service) = (Simulator::start(), HandedOn::new());
    let closed = service.path("etc/other.json");
    write(&closed, ONE);
    fs::set_permissions(service.directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(service.path("etc"), Permissions::from_mode(0o700)).unwrap();
    for flag in ["--models", "--api-keys-file", "--password-file", "--config"] {
        let start = service.start(&simulator).not_as_root().arg(flag).arg(&closed);
        let (status, _, error) = start.arg("--check-config").run();
        assert_eq!(status.code(), Some(2), "{flag}: {error}");
        assert!(error.contains("LoadCredential=") && error.contains("other.json"), "{error}");
    }
}

/// Tools of systemd that say what they are asked for.
fn tools() -> Directory {
    let directory = Directory::new();
    let unit = "[Service]\nExecStart=/opt/langfast2api --log info\nDynamicUser=yes\n\
                StateDirectory=langfast2api\nStateDirectoryMode=0700\n\
                EnvironmentFile=-/etc/langfast2api/langfast2api.env\n\
                LoadCredential=api-keys:/etc/passwd\nReadOnlyPaths=/srv\n\
                SetCredential=password:\\n\n";
    for (name, text) in [
        ("unit", unit.to_owned()),
        (
            "systemctl",
            format!(
                "#!/bin/sh\ncase \"$*\" in\n*other.service) exit 1 ;;\nis-active*) echo failed; exit 3 ;;\n\
                 *) cat '{}/unit' ;;\nesac\n",
                directory.path().display()
            ),
        ),
        ("systemd-run", "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 7\n".to_owned()),
    ] {
        let path = directory.path().join(name);
        write(&path, &text);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

/// Root, without any word on where the state is.
fn as_root(tools: &Directory, args: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_langfast2api"))
        .args(args)
        .env("PATH", format!("{}:/usr/bin:/bin", tools.path().display()))
        .env("HOME", tools.path())
        .env_remove("XDG_STATE_HOME")
        .env_remove("STATE_DIRECTORY")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let lines = text(output.stdout).lines().map(str::to_owned).collect();
    (output.status.code(), lines, text(output.stderr))
}

#[test]
fn beside_an_installed_service_roots_commands_are_the_services() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let tools = tools();
    let (code, asked, said) = as_root(&tools, &["doctor", "--run"]);
    assert_eq!(code, Some(7), "{said}");
    let asked_for = [
        "--quiet",
        "--wait",
        "--collect",
        "--pipe",
        "--property=DynamicUser=yes",
        "--property=StateDirectory=langfast2api",
        "--property=StateDirectoryMode=0700",
        "--property=EnvironmentFile=-/etc/langfast2api/langfast2api.env",
        "--property=LoadCredential=api-keys:/etc/passwd",
        "--property=ReadOnlyPaths=/srv",
        "--property=SetCredential=password:\\n",
        "--property=User=langfast2api",
        "--",
        "/opt/langfast2api",
        "--log",
        "info",
        "doctor",
        "--run",
        "--unit",
        "none",
    ];
    assert_eq!(asked, asked_for);
    assert!(said.contains("As the service langfast2api"), "{said}");
    assert!(said.contains("Others can read /etc/passwd: chmod 600"), "{said}");
    assert!(said.contains("does not run (failed): `journalctl -u langfast2api"), "{said}");
    for command in [&["whoami"][..], &["logout"], &["models"], &["login"]] {
        let (code, asked, _) = as_root(&tools, command);
        assert!(code == Some(7) && asked.contains(&command[0].to_owned()), "{asked:?}");
    }
    let state = Directory::new();
    for own in [&["--unit", "none"][..], &["--state-dir", state.path().to_str().unwrap()]] {
        let (code, lines, _) = as_root(&tools, &[&["whoami"], own].concat());
        assert_eq!(
            (code, lines.concat().contains("Nobody is signed in")),
            (Some(0), true),
            "{own:?}"
        );
    }
}

#[test]
fn what_keeps_a_command_from_being_the_services_is_said() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let tools = tools();
    let (code, asked, said) = as_root(&tools, &["whoami", "--unit", "other"]);
    assert!(code == Some(1) && asked.is_empty() && said.contains("no such unit"), "{said}");

    write(&tools.path().join("systemd-run"), "#!/bin/sh\nexit 243\n");
    let (code, _, said) = as_root(&tools, &["whoami"]);
    assert!(code == Some(243) && said.contains("systemd-analyze exit-status 243"), "{said}");

    write(&tools.path().join("unit"), "ExecStart=/x\nLoadCredential=api-keys:/nowhere/api-keys\n");
    let (code, _, said) = as_root(&tools, &["doctor"]);
    assert!(code == Some(1) && said.contains("/nowhere/api-keys is not there"), "{said}");
}

#[test]
fn files_that_root_names_are_handed_to_the_services_user_and_taken_from_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let tools = tools();
    let list = tools.path().join("list.json");
    write(&list, ONE);
    write(&tools.path().join("systemd-run"), "#!/bin/sh\nprintf '%s\\n' \"$@\" | tail -2\ncat\n");
    let (_, asked, _) = as_root(&tools, &["models", "--import", list.to_str().unwrap()]);
    assert_eq!(asked, ["--import", "-", ONE]);

    let state = tools.path().join("state");
    fs::create_dir(&state).unwrap();
    let unit = fs::read_to_string(tools.path().join("unit")).unwrap();
    let there = format!("StateDirectory={}", state.display());
    write(
        &tools.path().join("unit"),
        &unit.replace("StateDirectory=langfast2api\n", &(there + "\n")),
    );
    let record = "#!/bin/sh\nfor last; do :; done\necho recorded >\"$last\"\n";
    write(&tools.path().join("systemd-run"), record);
    let wanted = tools.path().join("capture.jsonl");
    let capture = ["doctor", "--capture", wanted.to_str().unwrap()];
    let (code, _, said) = as_root(&tools, &capture);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read_to_string(&wanted).unwrap(), "recorded\n");
    assert_eq!((mode(&wanted), fs::read_dir(&state).unwrap().count()), (0o600, 0));
    let (code, _, said) = as_root(&tools, &capture);
    assert!(code == Some(1) && said.contains("capture.jsonl"), "it is there already: {said}");
}
