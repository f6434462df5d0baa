//! Who may come in: keys, hosts, origins, and what the server refuses to listen on.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::simulator::{Fault, Simulator, Step};
use crate::support::{Connection, Directory, Program, Start, chat_body, user};

const KEY: &str = "sk-alice-0123456789";

fn chat_with(program: &Program, headers: &str) -> crate::support::Response {
    let body = chat_body(user("hello")).to_string();
    program.request("POST", "/v1/chat/completions", headers, body.as_bytes())
}

#[test]
fn with_keys_only_their_holders_are_let_in() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", "one,two").start();
    for headers in [
        "Authorization: Bearer one\r\n",
        "x-api-key: two\r\n",
        "api-key: two\r\n",
        "Authorization: Bearer somebody-elses\r\nx-api-key: two\r\n",
    ] {
        assert_eq!(chat_with(&program, headers).content(), "hello", "{headers}");
    }
    for headers in ["", "Authorization: Bearer three\r\n", "Authorization: Bearer \r\n"] {
        let refused = chat_with(&program, headers);
        assert_eq!(refused.status, 401);
        assert_eq!(refused.error()["code"], "invalid_api_key");
    }
    assert_eq!(program.get("/v1/models").status, 401);
    assert_eq!(program.get("/healthz").status, 200);
    assert_eq!(simulator.stats().runs, 4);
    assert!(!program.log().contains("three"));
    program.wait_for_log("fewer than 16 characters");
}

#[test]
fn keys_that_are_set_and_are_none_do_not_leave_the_server_open() {
    let directory = Directory::new();
    let file = |text: &[u8]| {
        let path = directory.path().join(format!("keys-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        Start::new("http://127.0.0.1:1").env("LANGFAST2API_API_KEYS_FILE", path)
    };
    let variable = |text: &str| {
        Start::new("http://127.0.0.1:1").env("LANGFAST2API_API_KEYS", OsStr::new(text))
    };
    let not_text = OsStr::from_bytes(b"sk-\xff");
    let starts = [
        file(b"# nobody yet\n"),
        file(b"\xef\xbb\xbf# nobody yet\r\n"),
        file(b""),
        file(b"one two\n"),
        file(b"\xff\xfes\0k\0"),
        variable(","),
        variable(" "),
        variable("#abc"),
        Start::new("http://127.0.0.1:1").env("LANGFAST2API_API_KEYS", not_text),
        Start::new("http://127.0.0.1:1").env("LANGFAST2API_API_KEYS_FILE", "/nowhere/at/all"),
    ];
    for (number, start) in starts.into_iter().enumerate() {
        let (status, _, log) = start.run();
        assert_eq!(status.code(), Some(2), "{number}: {log}");
        assert!(log.contains("LANGFAST2API_API_KEYS"), "{number}: {log}");
    }
    // An environment file that names a setting and leaves it empty has not set it.
    variable("").start();
}

#[test]
fn keys_come_from_a_file_or_a_systemd_credential_too() {
    let simulator = Simulator::start();
    let directory = Directory::new();
    let file = directory.path().join("api-keys");
    let keys =
        "\u{feff}# for the phone\r\nphone-key  # of alice\r\n\r\nlaptop-key # for the laptop";
    std::fs::write(&file, keys).unwrap();
    let by_file = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS_FILE", &file).start();
    let by_credential =
        Start::new(&simulator.url()).env("CREDENTIALS_DIRECTORY", directory.path()).start();
    for program in [by_file, by_credential] {
        assert_eq!(chat_with(&program, "x-api-key: laptop-key\r\n").status, 200);
        assert_eq!(chat_with(&program, "x-api-key: phone-key\r\n").status, 200);
        for word in ["for", "#", "of", "alice", "laptop", "phone-key  # of alice"] {
            let headers = format!("x-api-key: {word}\r\n");
            assert_eq!(chat_with(&program, &headers).status, 401, "{word}");
        }
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
    assert_eq!(answer.status, 200);
    let refused = chat_with(&program, "x-api-key: one\r\nOrigin: https://evil.example\r\n");
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("access-control-allow-origin"), None);
    let headers = headers.replace("app.example", "evil.example");
    let preflight = program.request("OPTIONS", "/v1/chat/completions", &headers, b"");
    assert_eq!(preflight.status, 403);
    assert_eq!(simulator.stats().runs, 1);
}

#[test]
fn cors_is_off_unless_it_was_asked_for() {
    let program = Program::start("http://127.0.0.1:1");
    let headers = "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n";
    for (method, path) in [("OPTIONS", "/v1/chat/completions"), ("GET", "/")] {
        let refused = program.request(method, path, headers, b"");
        assert_eq!(refused.status, 403, "{method} {path}");
        assert_eq!(refused.header("access-control-allow-origin"), None);
        let message = refused.error()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("LANGFAST2API_CORS_ORIGINS"), "{message}");
    }
}

/// What a browser sends with a request of a page of another origin, of each kind.
const OF_FOREIGN_PAGES: [&str; 5] = [
    "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
    "Origin: http://localhost:3000\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n",
    "Origin: null\r\n",
    "Origin: http://192.168.1.5\r\n",
    "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
];

#[test]
fn no_foreign_page_has_anything_answered_whatever_it_asks_for_and_however() {
    let simulator = Simulator::start();
    let with_keys = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", KEY).start();
    let without = Program::start(&simulator.url());
    let body = chat_body(user("hello")).to_string();
    let own_key = format!("x-api-key: {KEY}\r\n");
    for (program, key) in [(&without, ""), (&with_keys, &*own_key)] {
        for page in OF_FOREIGN_PAGES {
            let headers = format!("{page}{key}");
            for path in ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"]
            {
                let refused = program.request("POST", path, &headers, body.as_bytes());
                assert_eq!(refused.status, 403, "POST {path} {headers}");
            }
            for path in
                ["/", "/v1/models", "/status", "/metrics", "/healthz", "/v1/doctor/stream", "/x"]
            {
                let refused = program.request("GET", path, &headers, b"");
                assert_eq!(refused.status, 403, "GET {path} {headers}");
            }
        }
    }
    assert_eq!(simulator.stats().runs, 0);
}

#[test]
fn a_foreign_page_is_refused_before_its_body_is_there() {
    let program = Program::start("http://127.0.0.1:1");
    let mut connection = Connection::open(program.address());
    connection.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\
          Origin: https://evil.example\r\n\r\n",
    );
    assert_eq!(connection.response().status, 403);
}

#[test]
fn the_servers_own_page_and_a_link_to_it_are_let_in() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    let own = "Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n";
    assert_eq!(chat_with(&program, own).content(), "hello");
    let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n\
                Sec-Fetch-Dest: document\r\nAccept: text/html\r\n";
    assert_eq!(program.request("GET", "/", link, b"").status, 200);
}

#[test]
fn an_allowed_page_can_read_every_refusal_and_what_it_says_about_trying_again() {
    let simulator = Simulator::start();
    let spent = Fault::status(429).body(r#"{"error":"daily quota exceeded"}"#);
    simulator.fault(Step::Run, spent);
    let program = Start::new(&simulator.url())
        .env("LANGFAST2API_API_KEYS", KEY)
        .env("LANGFAST2API_CORS_ORIGINS", "https://app.example")
        .args(["--max-connections", "4"])
        .start();
    let page = "Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n";
    let key = format!("x-api-key: {KEY}\r\n");
    let chat = chat_body(user("hello")).to_string();
    let ask = |method: &str, path: &str, more: &str, body: &[u8]| {
        program.request(method, path, &format!("{page}{more}"), body)
    };
    let form = format!("{key}Content-Type: text/plain\r\n");
    let mut answers = vec![
        (401, ask("POST", "/v1/chat/completions", "", chat.as_bytes())),
        (404, ask("GET", "/nowhere", &key, b"")),
        (405, ask("PUT", "/v1/models", &key, b"")),
        (415, ask("POST", "/v1/chat/completions", &form, chat.as_bytes())),
        (400, ask("POST", "/v1/chat/completions", &key, b"{")),
        (429, ask("POST", "/v1/chat/completions", &key, chat.as_bytes())),
    ];
    let mut large = Connection::open(program.address());
    let head = format!("Host: h\r\nContent-Length: 99999999\r\n{page}{key}\r\n");
    large.write(format!("POST /v1/messages HTTP/1.1\r\n{head}").as_bytes());
    answers.push((413, large.response()));
    drop(large);
    let mut idle = Vec::new();
    let turned_away = std::iter::repeat_with(|| {
        // Connections of earlier requests may be ending only now.
        idle.push(Connection::open(program.address()));
        ask("GET", "/v1/models", &key, b"")
    });
    answers.push((503, turned_away.take(50).find(|answer| answer.status == 503).unwrap()));

    let exposed = "access-control-expose-headers";
    for (status, answer) in &answers {
        assert_eq!(answer.status, *status, "{}", answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
        let exposed = answer.header(exposed).unwrap_or_else(|| panic!("{status}"));
        let readable: Vec<&str> = exposed.split(", ").collect();
        // The Fetch standard's safelist, and what is not a script's business.
        let others = [
            "content-type",
            "content-length",
            "connection",
            "vary",
            "access-control-allow-origin",
            "access-control-expose-headers",
        ];
        for line in answer.head.lines().skip(1).filter(|line| !line.is_empty()) {
            let name = line.split(':').next().unwrap().to_ascii_lowercase();
            assert!(
                readable.contains(&&*name) || others.contains(&&*name),
                "{status}: {name} cannot be read"
            );
        }
    }
    assert_eq!(answers[5].1.header("x-should-retry"), Some("false"));
}

#[test]
fn an_origin_that_can_never_match_is_a_bad_setting() {
    let (status, _, log) =
        Start::new("http://127.0.0.1:1").env("LANGFAST2API_CORS_ORIGINS", "app.example").run();
    assert_eq!(status.code(), Some(2));
    assert!(log.contains("LANGFAST2API_CORS_ORIGINS"), "{log}");
}

#[test]
fn a_file_that_is_no_socket_is_neither_removed_nor_listened_on() {
    let directory = Directory::new();
    let path = directory.path().join("notes.txt");
    std::fs::write(&path, "precious").unwrap();
    let listen = format!("unix:{}", path.display());
    for check in [&["--check-config"][..], &[]] {
        let (status, _, log) =
            Start::new("http://127.0.0.1:1").arg("--listen").arg(&listen).args(check).run();
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains("--listen: "), "{log}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
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
