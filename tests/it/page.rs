//! The page, what it asks the server for, and the stream that the doctor tries.

use crate::simulator::{Fault, Simulator, Step};
use crate::support::{Program, Response, Start, wait_until};
use serde_json::{Value, json};

const BROWSER: &str = "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n";

fn page(program: &Program) -> Response {
    program.request("GET", "/", BROWSER, b"")
}

fn status(program: &Program) -> Value {
    let status = program.get("/status");
    assert_eq!(status.header("cache-control"), Some("no-store"));
    status.json()
}

/// The directives of a policy, by name.
fn directive<'a>(policy: &'a str, name: &str) -> Option<&'a str> {
    let directives = policy.split("; ").filter_map(|directive| directive.split_once(' '));
    directives.into_iter().find(|(found, _)| *found == name).map(|(_, sources)| sources)
}

#[test]
fn browsers_get_the_page_and_programs_plain_text() {
    let program = Program::start("http://127.0.0.1:1");
    let text = program.get("/");
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(text.text().contains("/v1/models"));
    let page = page(&program);
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    for answer in [text, page] {
        assert_eq!(answer.header("vary"), Some("Accept"), "no cache takes one for the other");
    }
    let head = program.send("HEAD", "/", BROWSER, b"").head();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/html; charset=utf-8")));
}

#[test]
fn the_pages_policy_lets_its_own_style_and_script_run_and_nothing_else() {
    let program = Program::start("http://127.0.0.1:1");
    let (first, second) = (page(&program), page(&program));
    let policy = first.header("content-security-policy").unwrap();
    assert_eq!(directive(policy, "default-src"), Some("'none'"));
    assert_eq!(directive(policy, "connect-src"), Some("'self'"));
    for name in ["base-uri", "form-action", "frame-ancestors"] {
        assert_eq!(directive(policy, name), Some("'none'"), "{name}");
    }
    let source = directive(policy, "script-src").unwrap();
    assert_eq!(directive(policy, "style-src"), Some(source));
    let nonce = source.strip_prefix("'nonce-").unwrap().strip_suffix('\'').unwrap();
    let html = first.text();
    assert_eq!(html.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert_eq!(html.matches("<script").count() + html.matches("<style").count(), 2);
    assert!(!html.contains("{nonce}") && !html.contains("{style}") && !html.contains("{script}"));
    assert!(!second.text().contains(nonce), "a nonce is used once");
    assert_eq!(first.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(first.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(first.header("cache-control"), Some("no-store"));
}

#[test]
fn the_page_is_one_small_document_that_fetches_nothing_from_elsewhere() {
    let program = Program::start("http://127.0.0.1:1");
    let page = page(&program);
    let html = page.text();
    // The name of a language is no address.
    let urls = html.split("://").skip(1).filter(|rest| !rest.starts_with("www.w3.org/2000/svg"));
    assert_eq!(urls.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(html.len() < 60_000, "{} bytes", html.len());
}

/// What a model writes is shown by nodes that are created: nothing in the page reads HTML, or runs a text.
#[test]
fn the_pages_script_makes_no_html_and_no_code_of_texts() {
    let program = Program::start("http://127.0.0.1:1");
    let page = page(&program);
    let policy = page.header("content-security-policy").unwrap();
    assert_eq!(directive(policy, "require-trusted-types-for"), Some("'script'"));
    assert_eq!(directive(policy, "trusted-types"), Some("'none'"));
    let html = page.text();
    for sink in [
        ["inner", "HTML"],
        ["outer", "HTML"],
        ["insertAdjacent", "HTML"],
        ["document.", "write"],
        ["DOM", "Parser"],
        ["create", "ContextualFragment"],
        ["ev", "al("],
        ["new ", "Function"],
        ["src", "doc"],
        ["setHTML", ""],
    ] {
        assert!(!html.contains(&sink.concat()), "{}", sink.concat());
    }
    assert_eq!(html.matches("</script").count(), 1, "the script does not end early");
}

#[test]
fn browsers_get_an_icon_without_a_key() {
    let program = Start::new("http://127.0.0.1:1").env("LANGFAST2API_API_KEYS", "the-key").start();
    let icon = program.get("/favicon.ico");
    assert_eq!((icon.status, icon.header("content-type")), (200, Some("image/svg+xml")));
    assert!(icon.text().starts_with("<svg "), "{}", icon.text());
    assert!(page(&program).text().contains(r#"href="favicon.ico""#));
}

#[test]
fn the_status_follows_what_happens() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    let before = status(&program);
    assert!(before["limits"]["max_requests"].as_u64() >= Some(1), "{before}");
    assert_eq!(before["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&before["session"], &before["socket"]), (&json!("none"), &json!("closed")));
    assert_eq!((&before["answers"], &before["first_token_ms"]), (&json!(0), &json!([])));

    let mut slow = program.chat_connection(json!({
        "messages": [{"role": "user", "content": "/sim text=lorem delay=300"}], "stream": true
    }));
    slow.head();
    assert_eq!(status(&program)["under_way"], 1);
    drop(slow);
    wait_until("the answer to be given up", || status(&program)["under_way"] == 0);

    assert_eq!(program.ask("hello").content(), "hello");
    wait_until("the answer to be counted", || status(&program)["answers"] == 2);
    let after = status(&program);
    assert_eq!((&after["session"], &after["socket"]), (&json!("anonymous"), &json!("connected")));
    assert_eq!(after["first_token_ms"].as_array().unwrap().len(), 2);
    assert_eq!(after["problem"], Value::Null);
}

#[test]
fn the_status_says_why_nobody_can_sign_in() {
    let simulator = Simulator::start();
    let program = Program::start(&simulator.url());
    let refusal = r#"{"code":422,"error_code":"anonymous_provider_disabled","msg":"no"}"#;
    simulator.fault(Step::SignUp, Fault::status(422).body(refusal));
    assert_eq!(program.ask("hello").status, 503);
    let problem = status(&program)["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("langfast2api login"), "{problem}");
}

#[test]
fn the_status_does_not_tell_whose_account_it_is() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url())
        .env("LANGFAST2API_EMAIL", "user@example.com")
        .env("LANGFAST2API_PASSWORD", "correct-password")
        .start();
    assert_eq!(program.ask("hello").content(), "hello");
    let status = program.get("/status");
    assert_eq!(status.json()["session"], "account");
    assert!(!status.text().contains('@'), "{}", status.text());
}

#[test]
fn what_the_page_asks_for_needs_the_key_and_the_page_itself_does_not() {
    let program = Start::new("http://127.0.0.1:1").env("LANGFAST2API_API_KEYS", "the-key").start();
    for path in ["/status", "/status/models", "/v1/doctor/stream"] {
        assert_eq!(program.get(path).status, 401, "{path}");
        let answer = program.request("GET", path, "Authorization: Bearer the-key\r\n", b"");
        assert_eq!(answer.status, 200, "{path}");
    }
    let page = page(&program);
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("the-key"));
}

#[test]
fn what_each_model_accepts_is_listed_with_its_other_names() {
    let program = Start::new("http://127.0.0.1:1")
        .env("LANGFAST2API_MODEL_ALIASES", "mine=gpt-5,our-*=gpt-5")
        .start();
    let list = program.get("/status/models").json();
    let model = |id: &str| {
        let mut models = list.as_array().unwrap().iter();
        models.find(|model| model["id"] == id).unwrap().clone()
    };
    let gpt5 = model("gpt-5");
    assert_eq!(gpt5["names"], json!(["gpt-5-2025-08-07", "mine", "our-*"]));
    assert_eq!(gpt5["numbers"], json!([]));
    assert_eq!(gpt5["words"]["reasoning_effort"], json!(["minimal", "low", "medium", "high"]));
    assert_eq!(model("gpt-4o")["numbers"][0], "temperature");
    assert_eq!(model("o3")["streams"], false);
}

#[test]
fn the_doctors_stream_comes_event_by_event() {
    let program = Program::start("http://127.0.0.1:1");
    let mut connection = program.send("GET", "/v1/doctor/stream", "", b"");
    let head = connection.head();
    assert_eq!(head.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    let chunks: Vec<Vec<u8>> = std::iter::from_fn(|| connection.chunk()).collect();
    let chunks: Vec<&str> = chunks.iter().map(|c| std::str::from_utf8(c).unwrap()).collect();
    assert_eq!(chunks[0], "data: {\"event\":0}\n\n");
    assert_eq!(chunks.last(), Some(&"data: {\"event\":4}\n\n"));
    assert_eq!(chunks.len(), 5, "each event in a chunk of its own: {chunks:?}");
    let head = program.send("HEAD", "/v1/doctor/stream", "", b"").head();
    assert_eq!(head.status, 405, "a stream has no length that could be told");
}

#[test]
fn an_open_page_does_not_fill_the_log() {
    let program = Start::new("http://127.0.0.1:1").arg("--log").arg("info").start();
    status(&program);
    program.get("/healthz");
    program.wait_for_log("/healthz");
    assert!(!program.log().contains("/status"), "{}", program.log());
}
