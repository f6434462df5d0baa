//! The network between here and LangFast: names, TLS, certificates, proxies. Each failure has a message
//! of its own, and a whole run works over each way.

use std::net::TcpListener;

use crate::simulator::Simulator;
use crate::support::relay::{CERTIFICATE, HASH_NAME, Relay};
use crate::support::{Directory, Program, Start, free_address, wait_until};

/// The message and code of the error that a request meets.
fn failure(program: &Program) -> (String, String) {
    let response = program.ask("Hi");
    let error = response.error();
    let text = |name: &str| error[name].as_str().unwrap().to_owned();
    let status = if text("code") == "timeout" { 504 } else { 502 };
    assert_eq!(response.status, status, "{error}");
    assert_eq!(response.header("x-should-retry"), None, "nothing was sent: {error}");
    (text("message"), text("code"))
}

fn assert_unreachable(program: &Program, words: &[&str]) {
    let (message, code) = failure(program);
    assert_eq!(code, "upstream_unreachable", "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} in {message}");
    }
}

/// The relay's address under the name in its certificate.
fn https(relay: &Relay) -> String {
    format!("https://localhost:{}", relay.address().port())
}

/// Whole and streamed runs, several times.
fn assert_works(program: &Program) {
    for _ in 0..3 {
        let whole = program.ask("/sim text=lorem delay=0").content();
        let streamed = program.ask_stream("/sim text=lorem delay=0");
        assert!(streamed.is_done());
        assert_eq!(streamed.streamed_text(0), whole);
    }
}

// Names.

#[test]
fn a_name_that_is_not_there_is_named() {
    let program = Program::start("http://no-such-host.invalid");
    assert_unreachable(&program, &["sign in", "no-such-host.invalid cannot be looked up", "DNS"]);
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url())
        .arg("--runner-url")
        .arg("wss://no-such-runner.invalid")
        .start();
    assert_unreachable(&program, &["prompt runner", "no-such-runner.invalid cannot be looked up"]);
}

#[test]
fn a_name_of_several_addresses_is_tried_until_one_answers() {
    let simulator = Simulator::start();
    // localhost may be ::1 too, where nobody listens.
    let url = simulator.url().replace("127.0.0.1", "localhost");
    assert_works(&Program::start(&url));
}

// TLS.

#[test]
fn a_run_works_over_tls() {
    let simulator = Simulator::start();
    let relay = Relay::with_tls(&simulator.url());
    let program = Start::new(&https(&relay)).env("SSL_CERT_FILE", CERTIFICATE).start();
    assert_works(&program);
    assert!(relay.connections() <= 3, "connections are kept: {}", relay.connections());
    assert_eq!(simulator.stats().connects, 1);
}

#[test]
fn a_cut_tls_socket_is_made_again() {
    let simulator = Simulator::start();
    let relay = Relay::with_tls(&simulator.url());
    let runner = https(&relay).replace("https", "wss");
    let program = Start::new(&simulator.url())
        .arg("--runner-url")
        .arg(runner)
        .env("SSL_CERT_FILE", CERTIFICATE)
        .start();
    let response = program.ask_stream("/sim text=count events=30 delay=30 cut=5");
    let expected: String = (1..=30).map(|number| format!("{number} ")).collect();
    assert_eq!(response.streamed_text(0), expected);
    assert!(response.is_done());
    assert_eq!(simulator.stats().connects, 2);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_with_advice() {
    let simulator = Simulator::start();
    let relay = Relay::with_tls(&simulator.url());
    let program = Start::new(&https(&relay)).start();
    let advice = ["certificate of localhost is not accepted", "SSL_CERT_FILE", "sign in"];
    assert_unreachable(&program, &advice);
    let program = Start::new(&simulator.url()).arg("--runner-url").arg(https(&relay)).start();
    assert_unreachable(&program, &["certificate of localhost is not accepted", "prompt runner"]);
    assert_eq!(simulator.stats().runs, 0);
}

#[test]
fn a_named_folder_of_root_certificates_is_trusted() {
    let simulator = Simulator::start();
    let relay = Relay::with_tls(&simulator.url());
    let folder = Directory::new();
    std::fs::copy(CERTIFICATE, folder.path().join(HASH_NAME)).unwrap();
    assert_works(&Start::new(&https(&relay)).env("SSL_CERT_DIR", folder.path()).start());
}

#[test]
fn a_named_file_of_root_certificates_that_cannot_be_read_is_named() {
    let simulator = Simulator::start();
    let relay = Relay::with_tls(&simulator.url());
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        let start = Start::new(&https(&relay)).env(variable, "/no/such.pem");
        let (status, _, log) = start.run();
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains(&format!("{variable}: /no/such.pem: ")), "{log}");
    }
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let simulator = Simulator::start();
    let relay = Relay::with_tls(&simulator.url());
    let url = relay.url().replace("http", "https");
    let program = Start::new(&url).env("SSL_CERT_FILE", CERTIFICATE).start();
    let words = ["certificate of 127.0.0.1 is not accepted", "mismatch"];
    assert_unreachable(&program, &words);
}

#[test]
fn a_server_that_does_not_speak_tls_is_told_apart_from_a_bad_certificate() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url().replace("http", "https"));
    let (message, code) = failure(&program);
    assert_eq!(code, "upstream_unreachable");
    assert!(message.contains("TLS handshake with 127.0.0.1 failed"), "{message}");
    assert!(!message.contains("certificate"), "{message}");
}

#[test]
fn a_tls_handshake_that_hangs_is_ended_by_the_deadline_of_connecting() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let program = Start::new(&url).env("LANGFAST2API_CONNECT_TIMEOUT", "0.5").start();
    let (message, code) = failure(&program);
    assert_eq!(code, "timeout");
    assert!(
        message.contains("within 0.5 s (--connect-timeout or LANGFAST2API_CONNECT_TIMEOUT sets"),
        "{message}"
    );
}

// Proxies.

#[test]
fn the_http_calls_and_the_socket_go_through_the_proxy() {
    let simulator = Simulator::start();
    let relay = Relay::with_tls(&simulator.url());
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let proxy = Relay::proxy();
        let program = Start::new(&https(&relay))
            .env("SSL_CERT_FILE", CERTIFICATE)
            .env(variable, proxy.url().replace("127.0.0.1", "me:secret%20word@127.0.0.1"))
            .start();
        let before = relay.connections();
        assert_works(&program);
        let asked = proxy.asked();
        assert!(asked.len() >= 2, "the calls' connection and the socket's: {asked:?}");
        assert_eq!(relay.connections() - before, asked.len(), "nothing goes past it");
        for head in asked {
            let target = format!("localhost:{}", relay.address().port());
            assert!(
                head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n")),
                "{head}"
            );
            // me:secret word
            assert!(head.contains("Proxy-Authorization: Basic bWU6c2VjcmV0IHdvcmQ=\r\n"), "{head}");
        }
        assert!(!program.log().contains("secret"), "{}", program.log());
    }
}

#[test]
fn no_proxy_names_what_goes_past_the_proxy() {
    let simulator = Simulator::start();
    let proxy = Relay::proxy();
    for (no_proxy, through) in [
        ("127.0.0.1", false),
        ("example.com,127.0.0.1", false),
        ("*", false),
        ("example.com", true),
    ] {
        let program = Start::new(&simulator.url())
            .env("HTTPS_PROXY", proxy.url())
            .env("NO_PROXY", no_proxy)
            .start();
        let before = proxy.connections();
        assert_works(&program);
        assert_eq!(proxy.connections() > before, through, "{no_proxy}");
    }
}

#[test]
fn a_proxy_that_gives_no_tunnel_is_named_with_its_reason() {
    for (answer, words) in [
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nNo",
            "refused a tunnel to langfast.invalid:443 (HTTP 403)",
        ),
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            "wants a user and password (HTTP 407)",
        ),
        ("HTTP/1.0 502 Bad Gateway\r\n\r\n", "refused a tunnel to langfast.invalid:443 (HTTP 502)"),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "is not HTTP"),
        ("", "is not HTTP"),
    ] {
        let proxy = Relay::refusing_proxy(answer);
        let program =
            Start::new("https://langfast.invalid").env("HTTPS_PROXY", proxy.url()).start();
        let name = format!("the proxy {}", proxy.address());
        assert_unreachable(&program, &["sign in", &name, words]);
        // The name is the proxy's to look up.
        assert!(proxy.asked()[0].starts_with("CONNECT langfast.invalid:443 "));
    }
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let closed = free_address();
    let start =
        |proxy: &str| Start::new("https://langfast.invalid").env("HTTPS_PROXY", proxy).start();
    let program = start(&format!("http://{closed}"));
    assert_unreachable(&program, &[&format!("the proxy {closed}"), "refused"]);
    let program = start("http://no-such-proxy.invalid:3128");
    assert_unreachable(&program, &["the proxy no-such-proxy.invalid:3128", "cannot be looked up"]);
}

#[test]
fn a_proxy_that_cannot_be_used_is_a_bad_setting_unless_it_is_not_asked() {
    let start = |proxy: &str| {
        Start::new("https://langfast.invalid").env("HTTPS_PROXY", proxy).arg("--check-config")
    };
    for (proxy, why) in [
        ("socks5://127.0.0.1:1080", "only http:// proxies"),
        ("https://127.0.0.1:1080", "only http:// proxies"),
        ("http://127.0.0.1:99999", "ports are 1 to 65535"),
        ("http://user:pass word@127.0.0.1", "write http://HOST:PORT"),
        ("http://user:secret@127.0.0.1:0", "ports are 1 to 65535"),
    ] {
        let (status, _, log) = start(proxy).run();
        assert_eq!(status.code(), Some(2), "{proxy}: {log}");
        assert!(log.contains("HTTPS_PROXY: the proxy ") && log.contains(why), "{log}");
        assert!(!log.contains("secret") && !log.contains("pass"), "{log}");
    }
    assert!(start("socks5://127.0.0.1:1080").env("NO_PROXY", ".invalid").run().0.success());
    assert!(start("http://user:word@127.0.0.1:3128").run().0.success());
}

#[test]
fn a_proxy_that_hangs_is_ended_by_the_deadline_of_connecting() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = Start::new("https://langfast.invalid")
        .env("HTTPS_PROXY", format!("http://{}", silent.local_addr().unwrap()))
        .env("LANGFAST2API_CONNECT_TIMEOUT", "0.5")
        .start();
    let (message, code) = failure(&program);
    assert_eq!(code, "timeout");
    assert!(message.contains("LANGFAST2API_CONNECT_TIMEOUT"), "{message}");
}

// Connections that are kept.

#[test]
fn a_warmed_up_server_asks_for_its_first_run_alone_on_a_connection_that_is_there() {
    for tls in [false, true] {
        let simulator = Simulator::start();
        let relay = match tls {
            false => Relay::to(&simulator.url()),
            true => Relay::with_tls(&simulator.url()),
        };
        let state = Directory::new();
        // The first start signs in and makes the prompt, the second one finds both.
        for start in ["first", "second"] {
            let url = if tls { https(&relay) } else { relay.url() };
            let program = Start::new(&url)
                .env("SSL_CERT_FILE", CERTIFICATE)
                .env("LANGFAST2API_LOG", "debug")
                .arg("--warm-up")
                .state_dir(state.path())
                .start();
            program.wait_for_log("warm: signed in and connected");
            relay.settle();
            let (warm, connections) = (simulator.stats(), relay.connections());
            assert_eq!(program.ask("hello").status, 200);
            assert_eq!(simulator.stats().http_requests, warm.http_requests + 1, "TLS: {tls}");
            assert_eq!(relay.connections(), connections, "TLS: {tls}, {start} start");
        }
    }
}

#[test]
fn connections_that_have_not_been_used_for_a_while_are_closed() {
    let simulator = Simulator::start();
    let relay = Relay::to(&simulator.url());
    let program = Start::new(&relay.url()).env("LANGFAST2API_KEEP_WARM", "0.2").start();
    assert_eq!(program.ask("hello").status, 200);
    wait_until("the idle connections' end", || relay.open() == 0);
    assert_eq!(program.ask("hello").status, 200);
}
