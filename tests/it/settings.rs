//! Settings: what they accept, how they are read again, and sockets that are passed on.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Connection, Directory, Program, Start, wait_until};
use rustix::process::Signal;

const ONE_MODEL: &str = r#"[{"slug": "my-model", "parameters": {"message_types": ["user"]}}]"#;

fn models(program: &Program) -> Vec<String> {
    let list = program.get("/v1/models").json();
    let names = list["data"].as_array().unwrap().iter();
    names.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn help_and_version_are_printed_without_the_values_of_the_environment() {
    let (status, text, _) =
        Start::new("http://x").env("LANGFAST2API_ANON_KEY", "my-secret-key").arg("--help").run();
    assert!(status.success() && text.contains("LANGFAST2API_LISTEN"), "{text}");
    assert!(!text.contains("my-secret-key") && !text.contains("eyJ"));
    let (_, text, _) = Start::new("http://x").arg("--version").run();
    assert_eq!(text, format!("langfast2api {}\n", env!("CARGO_PKG_VERSION")));
}

/// The program with these arguments and no settings but a state directory: exit code, output, errors.
fn run(variables: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String, String) {
    let state = Directory::new();
    let command = Command::new(env!("CARGO_BIN_EXE_langfast2api"));
    // Without the flags that the other tests start it with.
    let mut command = without_settings(command);
    command.env("XDG_STATE_HOME", state.path()).args(args).stdin(Stdio::null());
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn without_settings(mut command: Command) -> Command {
    let ours = |name: &str| {
        let name = name.to_ascii_uppercase();
        name.starts_with("LANGFAST2API_") || name.ends_with("_PROXY") || name.starts_with("SSL_")
    };
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command
}

/// A file of settings, for its owner alone.
fn config(directory: &Directory, text: &str) -> String {
    let path = directory.path().join("settings.toml");
    std::fs::write(&path, text).unwrap();
    set_mode(&path, 0o600);
    path.to_str().unwrap().to_owned()
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The value of a setting that counts, and where it is from, as `--check-config` lists them.
fn counts(checked: &str, setting: &str) -> Option<(String, String)> {
    let mut rows = checked.lines().filter_map(|line| line.strip_prefix(setting)?.strip_prefix(' '));
    let (value, origin) = rows.next()?.trim().split_once("  ")?;
    Some((value.to_owned(), origin.trim().to_owned()))
}

/// Values that cannot be used, and a part of what is said of each.
const BAD: [(&str, &str, &str); 34] = [
    ("supabase_url", "ftp://x", "it must begin with https://"),
    ("runner_url", "no url", "not a URL"),
    ("runner_url", "https://x:99999", "ports are 1 to 65535"),
    ("origin", "langfa.st", "it must begin with https://"),
    ("anon_key", "a key", "give the value of the header alone"),
    (
        "models",
        "/no/such/file",
        "No such file or directory (os error 2). Name a file that is there",
    ),
    ("models", "/dev/null", "the file is empty; a list of records is expected"),
    ("model_aliases", "x=no such model", "no such model is served"),
    ("model_aliases", "x=y,y=gpt-5", "an alias too"),
    ("unknown_models", "guess", "try"),
    ("model_aliases", "x=gpt-5,x=gpt-4o", "twice"),
    ("api_keys_file", "/no/such/file", "or make it: langfast2api keys add NAME"),
    ("password_file", "/no/such/file", "Name a file that is there, or take the setting away"),
    ("refresh_token_file", "/dev/null", "there is nothing in it"),
    ("email", "user@example.com", "LANGFAST2API_PASSWORD"),
    ("listen", "127.0.0.1", "write HOST:PORT"),
    ("listen", "127.0.0.1:65536", "ports are 0 to 65535"),
    ("listen", "http://127.0.0.1:8000", "without a scheme"),
    ("listen", "unix:", "unix:/path/of/socket"),
    ("listen", "unix:/no/such/directory/socket", "no such directory; make it"),
    ("listen", "unix:/dev/null", "no socket"),
    ("listen", "127.0.0.1:7999,127.0.0.1:7999", "twice"),
    ("allowed_hosts", "https://my.host", "without a scheme"),
    ("allowed_hosts", "my.host:8000", "without a port"),
    ("allowed_hosts", "my.host/v1", "without a path"),
    ("allowed_hosts", "*.my.host", "without `*`"),
    ("cors_origins", "my.host", "no origin as browsers send it"),
    ("cors_origins", "https://my.host/page", "no origin as browsers send it"),
    ("cors_origins", "https://my.host:99999", "no origin as browsers send it"),
    ("body_memory", "1", "one body may have 16"),
    ("run_timeout", "soon", "takes seconds"),
    ("max_requests", "0", "takes a whole number, at least 1"),
    ("max_body", "2000", "takes a whole number of MiB, 1 to 1024"),
    ("log_format", "xml", "auto"),
];

#[test]
fn what_cannot_be_used_is_refused_at_the_start_and_by_the_check_as_what_it_was_given_by() {
    for (setting, value, why) in BAD {
        let directory = Directory::new();
        let file = config(&directory, &format!("# mine\n{setting} = {value:?}\n"));
        let flag = format!("--{}", setting.replace('_', "-"));
        let variable = format!("LANGFAST2API_{}", setting.to_uppercase());
        let place = format!("{file}:2: {setting}");
        for (name, variables, args) in [
            (&flag, vec![], vec![flag.as_str(), value]),
            (&variable, vec![(variable.as_str(), value)], vec![]),
            (&place, vec![], vec!["--config", file.as_str()]),
        ] {
            // clap puts its flag into quotes, and what it takes behind it.
            let is_named =
                |log: &str| log.contains(&format!("{name}: ")) || log.contains(&format!("{name} "));
            for check in [&["--check-config"][..], &[]] {
                let listen: &[&str] =
                    if setting == "listen" { &[] } else { &["--listen", "127.0.0.1:0"] };
                let (code, output, log) = run(&variables, &[check, listen, &args[..]].concat());
                assert_eq!((code, output.as_str()), (Some(2), ""), "{name} {value}: {log}");
                assert!(is_named(&log) && log.contains(why), "{name} {value}: {log}");
            }
        }
    }
}

#[test]
fn an_address_that_others_reach_needs_a_key_at_the_start_and_by_the_check() {
    for args in [&["--listen", "0.0.0.0:0"][..], &["--listen", "0.0.0.0:0", "--check-config"]] {
        let (code, _, log) = run(&[], args);
        assert!(code == Some(2) && log.contains("LANGFAST2API_API_KEYS"), "{log}");
    }
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let directory = Directory::new();
    let file = config(
        &directory,
        "max_body = 3\nallowed_hosts = [\"a.file\", \"b.file\"]\nstrict = true\nrun_timeout = 1.5\n",
    );
    let in_file = |line: usize| format!("{file}:{line}");
    let checked = |variables: &[(&str, &str)], args: &[&str]| {
        let (code, checked, log) =
            run(variables, &[&["--check-config", "--config", &file], args].concat());
        assert_eq!(code, Some(0), "{log}");
        move |setting: &str| counts(&checked, setting).unwrap_or_else(|| panic!("{checked}"))
    };
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());

    let counting = checked(&[], &[]);
    assert_eq!(counting("max_body"), pair("3", &in_file(1)));
    assert_eq!(counting("allowed_hosts"), pair("a.file,b.file", &in_file(2)));
    assert_eq!(counting("strict"), pair("true", &in_file(3)));
    assert_eq!(counting("run_timeout"), pair("1.5", &in_file(4)));
    assert_eq!(counting("max_requests"), pair("256", "default"));
    assert_eq!(counting("config"), pair(&file, "flag"));
    assert_eq!(counting("body_memory"), pair("64", "default"));

    let variables = [
        ("LANGFAST2API_MAX_BODY", "4"),
        ("LANGFAST2API_ALLOWED_HOSTS", "a.variable"),
        ("LANGFAST2API_STRICT", "false"),
        // Empty is not set.
        ("LANGFAST2API_RUN_TIMEOUT", ""),
    ];
    let counting = checked(&variables, &[]);
    assert_eq!(counting("max_body"), pair("4", "variable"));
    assert_eq!(counting("allowed_hosts"), pair("a.variable", "variable"));
    assert_eq!(counting("strict"), pair("false", "variable"));
    assert_eq!(counting("run_timeout"), pair("1.5", &in_file(4)));

    let flags = ["--max-body", "5", "--allowed-hosts", "a.flag", "--strict", "--run-timeout=6"];
    let counting = checked(&variables, &flags);
    for (setting, value) in
        [("max_body", "5"), ("allowed_hosts", "a.flag"), ("strict", "true"), ("run_timeout", "6")]
    {
        assert_eq!(counting(setting), pair(value, "flag"));
    }
    // What does not count is not looked at.
    let counting = checked(&[("LANGFAST2API_MAX_BODY", "much")], &["--max-body", "5"]);
    assert_eq!(counting("max_body"), pair("5", "flag"));
}

#[test]
fn the_server_and_its_commands_go_by_the_file_that_is_named() {
    let directory = Directory::new();
    let file = config(&directory, "model_aliases = [\"mine=gpt-5\"]\n");
    for (variables, args) in [
        (vec![], vec!["--config", file.as_str(), "models"]),
        (vec![], vec!["models", "--config", &file]),
        (vec![("LANGFAST2API_CONFIG", file.as_str())], vec!["models"]),
    ] {
        let (code, table, log) = run(&variables, &args);
        assert!(code == Some(0) && table.contains("gpt-5-2025-08-07, mine"), "{table}{log}");
    }
    let program = Start::new("http://127.0.0.1:1").args(["--config", &file]).start();
    assert_eq!(program.get("/v1/models/mine").status, 200);
}

#[test]
fn a_file_that_is_named_has_to_be_there_and_the_services_own_need_not() {
    for variables in [&[][..], &[("LANGFAST2API_CONFIG", "/no/such.toml")]] {
        let args: &[&str] = if variables.is_empty() { &["--config", "/no/such.toml"] } else { &[] };
        let (code, _, log) = run(variables, &[args, &["--check-config"]].concat());
        assert_eq!(code, Some(2), "{log}");
        let name = if variables.is_empty() { "--config" } else { "LANGFAST2API_CONFIG" };
        assert!(log.contains(&format!("{name}: /no/such.toml: No such file")), "{log}");
    }
    // systemd hands it over as a credential, which is blank if there is no file.
    let credentials = Directory::new();
    let directory = credentials.path().to_str().unwrap();
    let check = || run(&[("CREDENTIALS_DIRECTORY", directory)], &["--check-config"]).1;
    assert_eq!(counts(&check(), "max_body").unwrap().1, "default");
    std::fs::write(credentials.path().join("langfast2api.toml"), "\n").unwrap();
    assert_eq!(counts(&check(), "max_body").unwrap().1, "default");
    std::fs::write(credentials.path().join("langfast2api.toml"), "max_body = 3\n").unwrap();
    assert_eq!(counts(&check(), "max_body").unwrap().0, "3");
}

#[test]
fn a_key_of_the_file_that_is_misspelt_is_refused_and_the_nearest_is_named() {
    let directory = Directory::new();
    for (text, message) in [
        ("api_key = \"x\"\n", ":1: api_key: there is no such setting; did you mean api_keys?"),
        ("\nmax-body = 3\n", ":2: max-body: there is no such setting; did you mean max_body?"),
        ("config = \"x\"\n", ":1: config: there is no such setting"),
        ("[serving]\nlisten = \"x\"\n", ":1: [serving]: settings stand at the top"),
        ("max_body = \n", ":1: this is no TOML"),
    ] {
        let file = config(&directory, text);
        for args in [&["--check-config"][..], &[], &["whoami"]] {
            let (code, _, log) = run(&[("LANGFAST2API_CONFIG", &file)], args);
            assert_eq!(code, Some(2), "{log}");
            assert!(log.contains(&format!("{file}{message}")), "{log}");
        }
    }
}

#[test]
fn secrets_stand_in_the_file_only_while_others_cannot_read_it() {
    let directory = Directory::new();
    let text = "api_keys = [\"key-of-alice-0123\", \"key-of-bob-01234\"]\npassword = \"secret-word\"\n\
                email = \"user@example.com\"\nrefresh_token = \"secret-token\"\n";
    let file = config(&directory, text);
    let (code, checked, log) = run(&[], &["--config", &file, "--check-config"]);
    assert_eq!(code, Some(0), "{log}");
    assert!(checked.contains("an API key is asked for"), "{checked}");
    let row = |setting: &str| counts(&checked, setting).unwrap();
    assert_eq!(row("api_keys"), ("********".to_owned(), format!("{file}:1: api_keys")));
    assert_eq!(row("password"), ("********".to_owned(), format!("{file}:2: password")));
    assert_eq!(row("anon_key").0, "********");
    for secret in ["alice", "bob", "secret"] {
        assert!(!checked.contains(secret) && !log.contains(secret), "{checked}{log}");
    }

    let program = Start::new("http://127.0.0.1:1").args(["--config", &file]).start();
    assert_eq!(program.get("/v1/models").status, 401);
    for key in ["key-of-alice-0123", "key-of-bob-01234"] {
        let key = format!("x-api-key: {key}\r\n");
        assert_eq!(program.request("GET", "/v1/models", &key, b"").status, 200);
    }
    // The variable wins.
    let variable = [("LANGFAST2API_API_KEYS", "key-of-carol-0123")];
    let checked = run(&variable, &["--config", &file, "--check-config"]).1;
    assert_eq!(counts(&checked, "api_keys").unwrap().1, "LANGFAST2API_API_KEYS");

    for mode in [0o604, 0o644, 0o620] {
        set_mode(&file, mode);
        let (code, _, log) = run(&[], &["--config", &file, "--check-config"]);
        assert_eq!(code, Some(2), "{log}");
        assert!(
            log.contains(":1: api_keys: others get at this secret") && log.contains("chmod 600"),
            "{log}"
        );
    }
    let blank = config(&directory, "api_keys = \"\"\n");
    let (code, _, log) = run(&[], &["--config", &blank, "--check-config"]);
    assert!(code == Some(2) && log.contains("api_keys: it is set, and there is nothing"), "{log}");
}

#[test]
fn the_shipped_file_of_settings_is_that_of_the_definition_and_can_be_used() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/langfast2api.toml");
    let expected = langfast2api::cli::manual::example_file();
    if std::env::var("UPDATE").is_ok_and(|value| value == "1") {
        std::fs::write(&path, &expected).unwrap();
    }
    let shipped = std::fs::read_to_string(path).unwrap();
    assert!(shipped == expected, "`UPDATE=1 cargo test --test it settings::` writes it again");
    let directory = Directory::new();
    let file = config(&directory, &shipped);
    assert_eq!(run(&[], &["--config", &file, "--check-config"]).0, Some(0));

    // All that is switched on, but for what stands for a person's own.
    let own = |line: &str| ["/path/", "…", "you@"].iter().any(|part| line.contains(part));
    let is_setting =
        |line: &&str| line.starts_with('#') && line[1..].split(' ').nth(1) == Some("=");
    let settings: Vec<&str> = shipped.lines().filter(is_setting).collect();
    let on: Vec<&str> = settings.iter().filter(|line| !own(line)).map(|line| &line[1..]).collect();
    assert!(settings.len() > 35 && on.len() > 25, "{}", on.len());
    let file = config(&directory, &on.join("\n"));
    let (code, checked, log) = run(&[], &["--config", &file, "--check-config"]);
    assert_eq!(code, Some(0), "{log}");
    assert!(counts(&checked, "listen").unwrap().1.starts_with(&file), "{checked}");
}

#[test]
fn a_variable_that_is_misspelt_is_refused_and_the_nearest_is_named() {
    for (name, nearest) in [
        ("LANGFAST2API_API_KEY", "LANGFAST2API_API_KEYS?"),
        ("LANGFAST2API_PASSWORT", "LANGFAST2API_PASSWORD?"),
        ("LANGFAST2API_max_body", "LANGFAST2API_MAX_BODY?"),
        ("LANGFAST2API_QQQQQQQQQQQQQQQQQQQQQQQ", "--help"),
    ] {
        for args in [&[][..], &["--check-config"], &["whoami"], &["models"], &["doctor"]] {
            for value in ["x", ""] {
                let start = Start::new("http://127.0.0.1:1").env(name, value).args(args);
                let (status, output, log) = start.run();
                assert_eq!(status.code(), Some(2), "{name} {args:?}");
                assert!(log.contains(name) && log.contains(nearest), "{args:?}: {output}{log}");
            }
        }
        for args in [&["--help"][..], &["--version"], &["completions", "bash"], &["man"]] {
            let (status, ..) = Start::new("http://127.0.0.1:1").env(name, "x").args(args).run();
            assert!(status.success(), "{args:?}");
        }
    }
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_of_this_name_are_passed_over() {
    let start = Start::new("http://127.0.0.1:1")
        .env("LANGFAST2API_PORT", "tcp://10.0.0.1:8000")
        .env("LANGFAST2API_SERVICE_HOST", "10.0.0.1")
        .arg("--check-config");
    assert!(start.run().0.success());
}

#[test]
fn models_are_read_again_on_sighup_and_a_bad_file_leaves_the_old_ones() {
    let directory = Directory::new();
    let file = directory.path().join("models.json");
    std::fs::write(&file, ONE_MODEL).unwrap();
    let program = Start::new("http://127.0.0.1:1").env("LANGFAST2API_MODELS", &file).start();
    assert_eq!(models(&program), ["my-model"]);

    std::fs::write(&file, ONE_MODEL.replace("my-model", "my-other-model")).unwrap();
    program.signal(Signal::HUP);
    wait_until("the new models", || models(&program) == ["my-other-model"]);

    std::fs::write(&file, "nonsense").unwrap();
    program.signal(Signal::HUP);
    program.wait_for_log("the models stay as they were");
    assert_eq!(models(&program), ["my-other-model"]);
}

#[test]
fn a_model_can_be_asked_for_by_an_alias_and_any_other_name() {
    let program = Start::new("http://127.0.0.1:1")
        .env("LANGFAST2API_MODEL_ALIASES", "org/fast=gpt-4.1-nano,*=gpt-5")
        .start();
    for name in ["gpt-5", "org%2Ffast", "org/fast", "gpt-4o-2024-08-06", "claude"] {
        let model = program.get(&format!("/v1/models/{name}"));
        assert_eq!(model.status, 200, "{name}");
        assert_eq!(model.json()["id"], name.replace("%2F", "/"));
    }
}

#[test]
fn a_socket_that_is_passed_on_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let state = Directory::new();
    // As systemd does: the socket is descriptor 3, and the variables name the process.
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_langfast2api"), "--state-dir"])
        .arg(state.path())
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains(&address.to_string()), "{line}");
    let mut connection = Connection::open(address);
    connection.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.response().status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn limits_are_kept_and_what_is_over_them_is_told_so_at_once() {
    let program = Start::new("http://127.0.0.1:1")
        .env("LANGFAST2API_MAX_CONNECTIONS", "2")
        .env("LANGFAST2API_MAX_BODY", "1")
        .start();
    let body = vec![b' '; (1 << 20) + 1];
    let refused = program.request("POST", "/v1/chat/completions", "", &body[..]);
    assert_eq!(refused.status, 413);
    wait_until("the connection to end", || {
        let mut open: Vec<Connection> =
            (0..2).map(|_| Connection::open(program.address())).collect();
        for connection in &mut open {
            connection.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        let served = open.iter_mut().all(|connection| connection.response().status == 200);
        let refused = served && program.get("/healthz").status == 503;
        served && refused
    });
}

#[test]
fn a_blank_credential_is_none_but_for_the_keys() {
    let credentials = Directory::new();
    let put = |name: &str, text: &str| std::fs::write(credentials.path().join(name), text).unwrap();
    let start =
        || Start::new("http://127.0.0.1:1").env("CREDENTIALS_DIRECTORY", credentials.path());
    for name in ["password", "refresh-token"] {
        put(name, "\n");
    }
    put("api-keys", "the-key\n");
    let program = start().start();
    assert_eq!(program.get("/v1/models").status, 401);
    let key = "x-api-key: the-key\r\n";
    assert_eq!(program.request("GET", "/v1/models", key, b"").status, 200);

    let (status, _, log) = start().env("LANGFAST2API_EMAIL", "user@example.com").run();
    assert!(!status.success() && log.contains("its password is not"), "{log}");
    put("api-keys", "\n");
    let (status, _, log) = start().run();
    assert!(
        !status.success()
            && log.contains(
                "`api-keys` (LoadCredential= in the unit names its file): it is set, and"
            ),
        "{log}"
    );
}
