//! Who may come in: keys, hosts, origins, and what the server refuses to listen on.

mod simulator;
mod support;

use simulator::Simulator;
use support::{Connection, Directory, Program, Start, chat_body, user};

fn chat_with(program: &Program, headers: &str) -> support::Response {
    let body = chat_body(user("hello")).to_string();
    program.request("POST", "/v1/chat/completions", headers, body.as_bytes())
}

#[test]
fn with_keys_only_their_holders_are_let_in() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", "one,two").start();
    for headers in ["Authorization: Bearer one\r\n", "x-api-key: two\r\n"] {
        assert_eq!(chat_with(&program, headers).content(), "hello");
    }
    for headers in ["", "Authorization: Bearer three\r\n", "Authorization: Bearer \r\n"] {
        let refused = chat_with(&program, headers);
        assert_eq!(refused.status, 401);
        assert_eq!(refused.error()["code"], "invalid_api_key");
    }
    assert_eq!(program.get("/v1/models").status, 401);
    assert_eq!(program.get("/healthz").status, 200);
    assert_eq!(simulator.stats().runs, 2);
    assert!(!program.log().contains("three"));
}

#[test]
fn keys_come_from_a_file_or_a_systemd_credential_too() {
    let simulator = Simulator::start();
    let directory = Directory::new();
    let file = directory.path().join("api-keys");
    std::fs::write(&file, "# for the phone\nphone-key\n\n# for the laptop\nlaptop-key\n").unwrap();
    let by_file = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS_FILE", &file).start();
    let by_credential =
        Start::new(&simulator.url()).env("CREDENTIALS_DIRECTORY", directory.path()).start();
    for program in [by_file, by_credential] {
        assert_eq!(chat_with(&program, "x-api-key: laptop-key\r\n").status, 200);
        assert_eq!(chat_with(&program, "x-api-key: for\r\n").status, 401);
    }
}

#[test]
fn a_request_without_a_key_is_refused_before_its_body_is_read() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", "one").start();
    let mut connection = Connection::open(program.address());
    connection.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n",
    );
    assert_eq!(connection.response().status, 401);
}

#[test]
fn without_a_key_the_server_refuses_to_listen_for_other_machines() {
    let start = |listen: &str| Start::new("http://127.0.0.1:1").arg("--listen").arg(listen);
    let (status, _, log) = start("0.0.0.0:0").run();
    assert_eq!(status.code(), Some(2));
    assert!(log.contains("LANGFAST2API_API_KEYS"), "{log}");
    let (status, _, log) = start("127.0.0.1:0,[::]:0").run();
    assert_eq!(status.code(), Some(2), "{log}");
    let program = start("0.0.0.0:0").env("LANGFAST2API_API_KEYS", "one").start();
    assert_eq!(program.get("/healthz").status, 200);
}

#[test]
fn without_a_key_a_foreign_host_name_is_refused() {
    let program =
        Start::new("http://127.0.0.1:1").env("LANGFAST2API_ALLOWED_HOSTS", "my.host").start();
    let get = |host: &str| {
        let mut connection = Connection::open(program.address());
        connection.write(format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        connection.response()
    };
    for host in ["localhost", "127.0.0.1:8000", "[::1]", "my.host"] {
        assert_eq!(get(host).status, 200, "{host}");
    }
    let refused = get("rebound.example:8000");
    assert_eq!(refused.status, 403);
    assert!(refused.error()["message"].as_str().unwrap().contains("LANGFAST2API_ALLOWED_HOSTS"));
}

#[test]
fn pages_of_allowed_origins_may_call_after_a_preflight_without_a_key() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url())
        .env("LANGFAST2API_API_KEYS", "one")
        .env("LANGFAST2API_CORS_ORIGINS", "https://app.example")
        .start();
    let wanted = "authorization,x-stainless-os,content-type";
    let headers = format!(
        "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: {wanted}\r\n"
    );
    let preflight = program.request("OPTIONS", "/v1/chat/completions", &headers, b"");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some(wanted));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("POST"));

    let answer = chat_with(&program, "x-api-key: one\r\nOrigin: https://app.example\r\n");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    let answer = chat_with(&program, "x-api-key: one\r\nOrigin: https://evil.example\r\n");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let headers = headers.replace("app.example", "evil.example");
    let preflight = program.request("OPTIONS", "/v1/chat/completions", &headers, b"");
    assert_eq!(preflight.status, 405);
}

#[test]
fn cors_is_off_unless_it_was_asked_for() {
    let program = Program::start("http://127.0.0.1:1");
    let headers = "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n";
    let preflight = program.request("OPTIONS", "/v1/chat/completions", headers, b"");
    assert_eq!(preflight.status, 405);
    assert_eq!(
        program.request("GET", "/", headers, b"").header("access-control-allow-origin"),
        None
    );
}

#[test]
fn a_unix_socket_is_served_and_replaced_when_a_killed_process_left_it() {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    let directory = Directory::new();
    let path = directory.path().join("api.sock");
    drop(UnixListener::bind(&path).unwrap());
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let mut program = Start::new("http://127.0.0.1:1").arg("--listen").arg(listen).start();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\r\n\r\n{\"status\":\"ok\"}"), "{answer}");
    program.signal(rustix::process::Signal::TERM);
    assert!(program.wait().success());
    assert!(!path.exists());
}
