//! Settings: what they accept, how they are read again, and sockets that are passed on.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
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

#[test]
fn a_setting_that_cannot_be_used_is_named() {
    for (name, value) in [
        ("LANGFAST2API_SUPABASE_URL", "ftp://x"),
        ("LANGFAST2API_RUNNER_URL", "no url"),
        ("LANGFAST2API_MODELS", "/no/such/file"),
        ("LANGFAST2API_API_KEYS_FILE", "/no/such/file"),
        ("LANGFAST2API_PASSWORD_FILE", "/no/such/file"),
        ("LANGFAST2API_EMAIL", "user@example.com"),
        ("LANGFAST2API_RUN_TIMEOUT", "soon"),
        ("LANGFAST2API_MAX_REQUESTS", "0"),
        ("LANGFAST2API_MODEL_ALIASES", "x=no-such-model"),
    ] {
        let url = "http://127.0.0.1:1";
        let mut command = Command::new(env!("CARGO_BIN_EXE_langfast2api"));
        command.args(["--listen", "127.0.0.1:0"]).env(name, value);
        if !name.ends_with("_URL") {
            command.args(["--supabase-url", url, "--runner-url", url]);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{name}");
        let flag = name.trim_start_matches("LANGFAST2API_").to_lowercase().replace('_', "-");
        let named = text.contains(name) || text.contains(&flag) || text.contains(value);
        assert!(named, "{name}: {text}");
    }
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
        !status.success() && log.contains("api-keys: it is set, and there is nothing in it"),
        "{log}"
    );
}
