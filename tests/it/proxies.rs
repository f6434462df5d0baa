//! The program behind nginx, Caddy and HAProxy, with the configurations in `scripts/`: what a client
//! meets there is what it meets without them.
//!
//! What is not installed is left out, with a word, unless `REQUIRE_PROXIES=1` is set.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};

use crate::simulator::Simulator;
use crate::support::proxy::{Client, Kind, Proxy};
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Program, Response, Start, chat_body, free_address, user, wait_until};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
/// What an SDK sends: its key, and that it would take a compressed answer.
const HEADERS: &str =
    "Authorization: Bearer the-key\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n";

/// A program behind a proxy.
struct Site {
    // Dropped in this order.
    proxy: Proxy,
    program: Program,
    simulator: Simulator,
}

impl Site {
    fn start(kind: Kind) -> Site {
        Site::start_with(kind, &[], &[])
    }

    fn start_with(kind: Kind, variables: &[(&str, &str)], changes: &[(&str, &str)]) -> Site {
        let simulator = Simulator::builder().literal_socket().start();
        // The proxy passes on the name that the client asked for: without keys it is refused.
        let start = Start::new(&simulator.url())
            .env("LANGFAST2API_API_KEYS", "the-key")
            .args(["--unknown-models", "refuse"]);
        let start = variables.iter().fold(start, |start, (name, value)| start.env(name, value));
        let program = start.start();
        let proxy = Proxy::start_with(kind, program.address(), changes);
        Site { proxy, program, simulator }
    }

    fn send(&self, content: &str, stream: bool) -> Client {
        self.proxy.send("POST", CHAT, HEADERS, &body(content, stream))
    }

    fn ask(&self, content: &str) -> Response {
        self.send(content, false).response()
    }

    fn count(&self, text: &str) -> usize {
        self.program.times_logged(text)
    }
}

fn body(content: &str, stream: bool) -> Vec<u8> {
    let mut fields = user(content);
    fields["stream"] = json!(stream);
    chat_body(fields).to_string().into_bytes()
}

/// The text of the events in a part of a stream, and nothing but text.
fn text_in(part: &str) -> String {
    let texts = part.split_terminator("\n\n").map(|event| {
        let event: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        event["choices"][0]["delta"]["content"].as_str().unwrap().to_owned()
    });
    texts.collect()
}

#[test]
fn the_proxies_find_no_fault_in_the_configurations() {
    for kind in Kind::installed() {
        let (is_sound, words) = crate::support::proxy::check(kind);
        assert!(is_sound, "{kind:?}: {words}");
        // Caddy's warnings are about the test's certificate.
        assert!(kind != Kind::Nginx || !words.contains("[warn]"), "{words}");
    }
}

#[test]
fn models_and_whole_answers_pass_on_one_connection() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let mut client = site.proxy.connect();
        for _ in 0..3 {
            client.send("GET", "/v1/models", HEADERS, b"");
            let models = client.response();
            assert_eq!(models.status, 200);
            assert_eq!(models.json()["object"], "list");
            assert_eq!(models.header("content-encoding"), None);
            client.send("POST", CHAT, HEADERS, &body("/sim say=Hi", false));
            assert_eq!(client.response().content(), "Hi");
        }
        client.send("HEAD", "/v1/models/gpt-4o", HEADERS, b"");
        assert_eq!(client.head().status, 200);
        client.send("GET", "/v1/models/gpt%2D4o", HEADERS, b"");
        assert_eq!(client.response().json()["id"], "gpt-4o", "paths pass as they are encoded");
    }
}

#[test]
fn each_delta_arrives_before_the_next_is_sent() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let mut client = site.send(SILENT, true);
        let run = Stepped::only(&site.simulator);
        run.says("0 ");
        let head = client.head();
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(head.header("content-encoding"), None);
        let mut text = "0 ".to_owned();
        assert_eq!(text_in(&client.read_to("\n\n")), text);
        for number in 1..=20 {
            let piece = format!("{number} ");
            text += &piece;
            run.says(&text);
            assert_eq!(text_in(&client.read_to("\n\n")), piece);
        }
        run.ends(&text);
        assert!(client.read_to("data: [DONE]\n\n").contains(r#""finish_reason":"stop""#));
        assert_eq!(client.chunk().unwrap(), None);
    }
}

#[test]
fn a_run_at_full_speed_arrives_whole() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let content = "/sim text=unicode bytes=40000 events=300 delay=0";
        let streamed = site.send(content, true).response();
        assert!(streamed.is_done());
        assert_eq!(streamed.streamed_text(0), site.ask(content).content());
    }
}

#[test]
fn comments_pass_at_once_while_a_run_is_silent() {
    for kind in Kind::installed() {
        let site = Site::start_with(kind, &[("LANGFAST2API_KEEP_ALIVE", "0.2")], &[]);
        let mut client = site.send(SILENT, true);
        let run = Stepped::only(&site.simulator);
        run.says("one ");
        client.head();
        client.read_to("\n\n");
        for _ in 0..3 {
            assert_eq!(client.read_to("\n"), ": keep-alive\n");
        }
        run.ends("one two");
        assert!(client.read_to("[DONE]\n\n").contains(r#"{"content":"two"}"#));
    }
}

/// A server with this `--keep-alive`, behind an nginx that waits for a second of silence.
fn behind_impatient_nginx(keep_alive: &str) -> Site {
    let impatient = [("proxy_read_timeout 1h;", "proxy_read_timeout 1s;")];
    Site::start_with(Kind::Nginx, &[("LANGFAST2API_KEEP_ALIVE", keep_alive)], &impatient)
}

#[test]
fn comments_keep_a_silent_stream_alive_where_nginx_waits_for_less() {
    if !Kind::installed().contains(&Kind::Nginx) {
        return;
    }
    for (keep_alive, survives) in [("0.3", true), ("0", false)] {
        let site = behind_impatient_nginx(keep_alive);
        let mut client = site.send("/sim say=one%20two events=2 delay=0 silence=2500", true);
        assert_eq!(client.head().status, 200);
        let mut bytes = Vec::new();
        let end = loop {
            match client.chunk() {
                Ok(Some(chunk)) => bytes.extend(chunk),
                end => break end,
            }
        };
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(end.is_ok(), survives, "{text}");
        assert_eq!(text.ends_with("data: [DONE]\n\n"), survives, "{text}");
    }
}

#[test]
fn errors_keep_their_status_headers_and_body() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let content_type = "Content-Type: application/json\r\n";
        let long = body(&"x".repeat(2 << 20), false);
        let with_model = |model: &str| {
            json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]}).to_string()
        };
        for (status, path, headers, body) in [
            (401, CHAT, content_type, body("Hi", false)),
            (401, CHAT, content_type, long),
            (404, "/v1/nothing", HEADERS, body("Hi", false)),
            (404, CHAT, HEADERS, with_model("no-such-model").into_bytes()),
            (400, CHAT, HEADERS, b"{".to_vec()),
            (429, CHAT, HEADERS, body("/sim error=Rate%20limit%20reached", false)),
            (429, CHAT, HEADERS, body("/sim error=Rate%20limit%20reached", true)),
            (400, CHAT, HEADERS, body("/sim error=maximum%20context%20length", true)),
            (502, CHAT, HEADERS, body("/sim error=boom", false)),
            (502, CHAT, HEADERS, body("/sim error=boom", true)),
        ] {
            let direct = site.program.request("POST", path, headers, &body);
            let proxied = site.proxy.request("POST", path, headers, &body);
            assert_eq!((direct.status, proxied.status), (status, status), "{}", proxied.text());
            // A message that gives the server's address gives the one that the client used.
            let told =
                proxied.error().to_string().replace("https://api.example.com", "http://localhost");
            assert_eq!(told, direct.error().to_string());
            for name in ["content-type", "retry-after", "x-should-retry", "www-authenticate"] {
                assert_eq!(proxied.header(name), direct.header(name), "{name}: {status}");
            }
            assert!(proxied.header("x-request-id").is_some());
        }
        let limited = site.ask("/sim error=Rate%20limit%20reached");
        assert!(limited.header("retry-after").is_some(), "{limited:?}");
        let wrong = site.proxy.request("DELETE", CHAT, HEADERS, b"");
        assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    }
}

#[test]
fn a_run_that_fails_midway_ends_with_an_error_event_and_without_done() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let response = site.send("/sim text=count events=9 fail=3 error=boom", true).response();
        assert_eq!(response.status, 200);
        let chunks = response.chunks();
        let error = &chunks.last().unwrap()["error"];
        assert!(error["message"].as_str().unwrap().contains("boom"), "{error}");
        assert!(!response.is_done());
        assert!(!response.streamed_text(0).is_empty());
        assert!(chunks.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()));
    }
}

#[test]
fn an_answer_does_not_look_complete_when_the_program_dies() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let mut client = site.send(SILENT, true);
        Stepped::only(&site.simulator).says("one ");
        client.head();
        client.read_to("\n\n");
        site.program.signal(rustix::process::Signal::KILL);
        let end = client.chunk();
        assert!(matches!(end, Err(_) | Ok(None)), "{end:?}");
        // Caddy 2.6 ends the body as if it were whole; there the missing [DONE] has to tell.
        assert!(kind == Kind::Caddy || end.is_err());
    }
}

#[test]
fn a_prompt_of_two_megabytes_arrives() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let filler = "a ".repeat(1 << 20);
        let content = format!("/sim say=Hi\n{filler}");
        assert_eq!(site.ask(&content).content(), "Hi");
        assert!(site.send(&content, true).response().is_done());
        assert!(site.simulator.runs()[0].to_string().contains(&filler));
    }
}

#[test]
fn a_client_that_leaves_gives_its_run_up() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let mut left = 0;
        for stream in [false, true] {
            for said in [false, true] {
                let mut client = site.send(SILENT, stream);
                left += 1;
                let run = Stepped::nth(&site.simulator, left);
                if said {
                    run.says("one ");
                    if stream {
                        client.head();
                        client.read_to("\n\n");
                    }
                }
                drop(client);
                wait_until("the run's end", || site.count("error=client_gone") == left);
            }
        }
        assert_eq!(site.ask("/sim say=Hi").content(), "Hi");
    }
}

#[test]
fn what_the_proxy_itself_refuses_is_an_error_object_too() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let refused = site.proxy.request("POST", CHAT, HEADERS, &vec![b'x'; (16 << 20) + 1]);
        assert_eq!(refused.status, 413);
        assert_eq!(refused.error()["type"], "invalid_request_error");

        let nowhere = free_address();
        let refused = Proxy::start(kind, nowhere).request("POST", CHAT, HEADERS, b"{}");
        assert_eq!(refused.status, if kind == Kind::Haproxy { 503 } else { 502 });
        assert_eq!(refused.header("content-type"), Some("application/json"));
        assert_eq!(refused.error()["type"], "server_error");
        assert_eq!(refused.error().as_object().unwrap().len(), 4);
    }
}

#[test]
fn a_request_id_passes_both_ways() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let headers = format!("{HEADERS}X-Request-Id: my-own-id\r\n");
        let response = site.proxy.request("POST", CHAT, &headers, &body("/sim say=Hi", false));
        assert_eq!(response.header("x-request-id"), Some("my-own-id"));
        site.program.wait_for_log("id=my-own-id");
    }
}

/// Answers requests on one connection after the other; gives their heads, and -- between those of
/// different connections.
fn listen_to_heads() -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heads) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while let Ok(1..) = stream.read_line(&mut head) {
                if head.ends_with("\r\n\r\n") {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
                    stream.get_mut().write_all(answer).unwrap();
                    if sender.send(std::mem::take(&mut head)).is_err() {
                        return;
                    }
                }
            }
            let _ = sender.send("--".to_owned());
        }
    });
    (address, heads)
}

#[test]
fn the_program_hears_who_asks_for_what_on_connections_that_are_kept() {
    for kind in Kind::installed() {
        let (address, heads) = listen_to_heads();
        // HAProxy's checks of this one's health would be heard too.
        let unchecked = [("default-server check ", "default-server ")];
        let changes = if kind == Kind::Haproxy { &unchecked[..] } else { &[] };
        let proxy = Proxy::start_with(kind, address, changes);
        let lies = "X-Forwarded-For: 10.9.8.7\r\nX-Forwarded-Proto: http\r\n\
                    X-Forwarded-Host: evil.example\r\nX-Request-Id: my-own-id\r\n";
        let mut client = proxy.connect();
        for _ in 0..3 {
            if kind != Kind::Haproxy {
                // HAProxy keeps a connection for its client's further requests.
                client = proxy.connect();
            }
            client.send("GET", "/v1/models?a=%2F", lies, b"");
            assert_eq!(client.response().text(), "OK");
            let head = heads.recv().unwrap().to_ascii_lowercase();
            assert!(head.starts_with("get /v1/models?a=%2f http/1.1\r\n"), "{head}");
            for line in [
                "host: api.example.com",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-proto: https",
                "x-forwarded-host: api.example.com",
                "x-request-id: my-own-id",
            ] {
                assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}: {head}");
            }
            assert!(!head.contains("connection: close") && !head.contains("gzip"), "{head}");
        }
    }
}

#[test]
fn the_servers_own_page_may_call_at_a_port_that_is_not_the_usual_one() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let mut client = site.proxy.connect();
        let host = "api.example.com:8443";
        let headers = format!("{HEADERS}Origin: https://{host}\r\n");
        client.send_to(host, "POST", CHAT, &headers, &body("hello", false));
        assert_eq!(client.response().content(), "hello");
    }
}

// WebSockets.

const KEY: [(&str, &str); 1] = [("Authorization", "Bearer the-key")];

#[test]
fn a_websocket_passes_with_each_delta_at_once_and_long_messages() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let mut client = site.proxy.websocket(&KEY).unwrap();
        client.create(json!({"input": SILENT, "padding": "x".repeat(3 << 20), "store": false}));
        let run = Stepped::only(&site.simulator);
        let mut text = String::new();
        for number in 0..20 {
            text += &format!("{number} ");
            run.says(&text);
            while client.event()["delta"] != format!("{number} ") {}
        }
        run.ends(&text);
        let first = client.events().pop().unwrap()["response"]["id"].clone();
        client.create(json!({"input": SILENT, "previous_response_id": first, "store": false}));
        Stepped::nth(&site.simulator, 2).ends("done");
        assert_eq!(client.events().last().unwrap()["type"], "response.completed", "{kind:?}");
        client.0.close(None).unwrap();
        while client.0.read().is_ok() {}
    }
}

#[test]
fn a_websockets_client_that_leaves_a_proxy_gives_its_run_up() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let mut client = site.proxy.websocket(&KEY).unwrap();
        client.create(json!({"input": SILENT, "store": false}));
        Stepped::only(&site.simulator).says("one ");
        client.event();
        drop(client);
        wait_until("the request's end", || site.count("error=client_gone") == 1);
    }
}

#[test]
fn what_refuses_a_websocket_passes_and_so_does_the_end_of_one() {
    for kind in Kind::installed() {
        let site = Site::start(kind);
        let refused = site.proxy.websocket(&[]).err().unwrap();
        assert_eq!(
            (refused.status, &refused.body["error"]["code"]),
            (401, &json!("invalid_api_key"))
        );
        let foreign = [KEY[0], ("Origin", "https://evil.example")];
        assert_eq!(site.proxy.websocket(&foreign).err().unwrap().status, 403, "{kind:?}");
        // Another upgrade is none here.
        let models = site.proxy.request(
            "GET",
            "/v1/models",
            &format!("{HEADERS}Upgrade: h2c\r\nConnection: Upgrade\r\n"),
            b"",
        );
        assert_eq!(models.status, 200, "{kind:?}");
        let own = [KEY[0], ("Origin", "https://api.example.com")];
        let mut client = site.proxy.websocket(&own).unwrap();
        site.program.signal(rustix::process::Signal::TERM);
        assert_eq!(client.close_code(), 1001, "{kind:?}");
    }
}

#[test]
fn pings_keep_an_idle_websocket_alive_where_nginx_waits_for_less() {
    if !Kind::installed().contains(&Kind::Nginx) {
        return;
    }
    for (keep_alive, survives) in [("0.3", true), ("0", false)] {
        let site = behind_impatient_nginx(keep_alive);
        let mut client = site.proxy.websocket(&KEY).unwrap();
        let mut pings = (0..6).map(|_| client.0.read());
        assert_eq!(pings.all(|ping| ping.is_ok()), survives);
    }
}
