//! URLs as clients write them: Azure's, a base URL that is wrong or holds too much, other APIs', probes.

use crate::simulator::Simulator;
use crate::support::scrape::Scrape;
use crate::support::{Connection, Program, Response, Start, start, streamed, user, wait_until};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// What each API takes, by the end of its path.
fn body_for(path: &str) -> Value {
    match path {
        _ if path.ends_with("responses") => json!({"model": "gpt-4o", "input": "hi"}),
        _ if path.ends_with("chat/completions") => {
            json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})
        }
        _ if path.ends_with("completions") => json!({"model": "gpt-4o", "prompt": "hi"}),
        _ => json!({"model": "gpt-4o", "max_tokens": 9,
                    "messages": [{"role": "user", "content": "hi"}]}),
    }
}

fn post(program: &Program, path: &str, body: &Value) -> Response {
    program.request("POST", path, "", body.to_string().as_bytes())
}

/// The forms of a path that clients make of a base URL which is longer or shorter than it should be.
const SERVED: [&str; 25] = [
    "/chat/completions",
    "/v1/v1/chat/completions",
    "//v1//chat///completions//",
    "/v1/chat/completions/",
    "/v1/chat/completions/chat/completions",
    "/v1/chat/completions/v1/chat/completions",
    "/chat/completions/v1/chat/completions",
    "/api/v1/chat/completions",
    "/api/chat/completions",
    "/openai/v1/chat/completions",
    "/completions",
    "/v1/completions/completions",
    "/openai/v1/completions",
    "/responses",
    "/v1/v1/responses",
    "/v1/responses/responses",
    "/openai/responses?api-version=2025-04-01-preview",
    "/openai/v1/responses?api-version=preview",
    "/messages",
    "/v1/v1/messages",
    "/anthropic/v1/messages",
    "/v1/messages/v1/messages",
    "/messages/count_tokens",
    "/anthropic/v1/messages/count_tokens",
    "/v1/messages/v1/messages/count_tokens",
];

#[test]
fn a_base_url_that_is_too_long_or_too_short_is_served_where_it_is_plain_what_is_meant() {
    let (simulator, program) = start();
    for path in SERVED {
        let plain = path.split('?').next().unwrap().trim_end_matches('/').replace("//", "/");
        let answer = post(&program, path, &body_for(&plain.replace("//", "/")));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    for path in [
        "/models",
        "/v1/v1/models/",
        "/api/v1/models",
        "/openai/models?api-version=2024-10-21",
        "/v1/chat/completions/models",
        "/v1/messages/v1/models",
    ] {
        assert_eq!(program.get(path).json()["object"], "list", "{path}");
    }
    for path in ["/openai/v1/models/gpt-4o", "/v1/v1/models/gpt-4o", "/v1/responses/models/gpt-4o"]
    {
        assert_eq!(program.get(path).json()["id"], "gpt-4o", "{path}");
    }
    assert_eq!(simulator.stats().runs, 22);
}

#[test]
fn the_deployment_in_azures_urls_is_the_model_and_a_different_one_in_the_body_has_no_effect() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(["--model-aliases", "mine=gpt-4o"]).start();
    let chat =
        |model: Value| json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    for (path, served, asked) in [
        ("deployments/gpt-4o/chat/completions?api-version=2024-10-21", "gpt-4o", "gpt-4o"),
        ("deployments/mine/chat/completions?api-version=any", "gpt-4o", "mine"),
        ("deployments/openai%2Fgpt-9/chat/completions", "openai/gpt-9", "openai/gpt-9"),
        ("deployments/openai/gpt-9/chat/completions", "openai/gpt-9", "openai/gpt-9"),
        // An endpoint that holds "/openai" already, and a whole URL as Azure's portal shows it.
        ("openai/deployments/mine/chat/completions", "gpt-4o", "mine"),
        (
            "deployments/mine/chat/completions/openai/deployments/mine/chat/completions",
            "gpt-4o",
            "mine",
        ),
    ] {
        for (model, ignored) in
            [(Value::Null, None), (json!(asked), None), (json!("gpt-5"), Some("model"))]
        {
            let answer = post(&program, &format!("/openai/{path}"), &chat(model));
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(answer.json()["model"], asked, "{path}");
            assert_eq!(answer.header("x-langfast2api-ignored"), ignored, "{path}");
            assert_eq!(simulator.runs().last().unwrap()["prompt_meta"]["model"], served, "{path}");
        }
    }
    let text = post(&program, "/openai/deployments/mine/completions", &json!({"prompt": "hi"}));
    assert_eq!(
        (&text.json()["model"], &text.json()["choices"][0]["text"]),
        (&json!("mine"), &json!("hi"))
    );
    let mut streaming = streamed("hi");
    streaming["model"] = json!("mine");
    let stream = post(&program, "/openai/deployments/mine/chat/completions", &streaming);
    assert!(stream.is_done() && stream.chunks().iter().all(|chunk| chunk["model"] == "mine"));
    let counted = [("route", CHAT), ("model", "gpt-4o"), ("status", "200")];
    wait_until("all to be counted under one route", || {
        Scrape::of(&program).sum("langfast2api_requests_total", &counted) == 13.0
    });
}

#[test]
fn with_strict_a_model_beside_another_deployment_is_refused() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--strict").start();
    let path = "/openai/deployments/gpt-4o/chat/completions";
    let ask = |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        post(&program, path, &body)
    };
    assert_eq!(ask("gpt-4o").status, 200);
    let refused = ask("gpt-5");
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("model")));
    assert_eq!(simulator.stats().runs, 1);
}

#[test]
fn a_url_that_is_not_served_says_what_to_do() {
    let (simulator, program) = start();
    let address = "http://localhost";
    for (path, words) in [
        ("/", "This is a base URL"),
        ("/v1", "This is a base URL"),
        ("/openai/", "This is a base URL"),
        ("/V1/Chat/Completions", "lower case"),
        ("/v1/chat/Completions", "lower case"),
        ("/v2/chat/completions", "set the base URL to"),
        ("/proxy/v1/models", "set the base URL to"),
        ("/v1/models/chat/completions", "set the base URL to"),
        ("/v1/models/v1/messages", "set the base URL to"),
        ("/v1/chat/completions/v1/responses", "set the base URL to"),
        ("/v1/completions/chat/completions", "set the base URL to"),
        ("/v1/chat", "Check the base URL"),
        ("/x", "Check the base URL"),
        ("/openai/deployments", "/openai/deployments/NAME/chat/completions"),
        ("/openai/deployments/gpt-4o/responses", "/openai/deployments/NAME/chat/completions"),
        ("/openai/deployments//chat/completions", "/openai/deployments/NAME/chat/completions"),
        ("/openai/deployments/%ff/chat/completions", "/openai/deployments/NAME/chat/completions"),
        ("/openai/deployments/a/chat/completions/chat/completions", "A deployment is a model"),
        ("/openai/deployments/gpt-4o/embeddings", "Embeddings are not served"),
        ("/v1/images/generations", "Generated images are not served"),
        ("/v1/messages/batches", "Batches are not served"),
        ("/v1beta/models/gemini-3:generateContent", "Google's Gemini API"),
        ("/v1/models/gemini-3:streamGenerateContent?alt=sse", "Google's Gemini API"),
        ("/v1beta/models", "Google's Gemini API"),
        ("/v1/models/%ff", "Check the base URL"),
    ] {
        let answer = post(&program, path, &body_for("chat/completions"));
        let error = answer.error();
        assert_eq!((answer.status, &error["code"]), (404, &json!("unknown_url")), "{path}");
        let message = error["message"].as_str().unwrap();
        let plain = path.split('?').next().unwrap();
        assert!(message.starts_with(&format!("Unknown request URL: POST {plain}. ")), "{message}");
        assert!(message.contains(words), "{path}: {message}");
        let names_it = message.contains(address) || words.ends_with("served");
        assert!(names_it, "{message}");
    }
    assert_eq!(simulator.stats().http_requests, 0);
}

#[test]
fn ollamas_clients_are_told_in_a_form_that_they_show_and_anthropics_in_theirs() {
    let program = Program::start("http://127.0.0.1:1");
    for (method, path) in [
        ("POST", "/api/chat"),
        ("POST", "/api/generate"),
        ("GET", "/api/tags"),
        ("GET", "/api/version"),
        ("DELETE", "/api/delete"),
        ("POST", "/v1/api/chat"),
    ] {
        let answer = program.request(method, path, "", b"");
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 404, "{path}");
        assert!(error.contains("Choose OpenAI") && error.contains("/v1;"), "{error}");
    }
    let anthropic = "anthropic-version: 2023-06-01\r\n";
    let answer = program.request("POST", "/v2/messages", anthropic, b"{}");
    assert_eq!((answer.status, &answer.json()["type"]), (404, &json!("error")));
    let message = answer.error()["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("set the base URL to http://localhost"), "{message}");
}

#[test]
fn probes_are_answered_under_the_names_that_they_have_elsewhere() {
    let program = Start::new("http://127.0.0.1:1").env("LANGFAST2API_API_KEYS", "one").start();
    for path in ["/healthz", "/health", "/livez", "/v1/health", "/readyz", "/ready", "/health/"] {
        assert_eq!(program.get(path).text(), r#"{"status":"ok"}"#, "{path}");
        let mut connection = program.send("HEAD", path, "Connection: close\r\n", b"");
        assert_eq!(connection.head().status, 200, "{path}");
        assert_eq!(program.request("POST", path, "", b"{}").status, 405, "{path}");
    }
}

#[test]
fn the_servers_own_urls_have_no_other_forms() {
    let program = Start::new("http://127.0.0.1:1").arg("--metrics-open").start();
    for path in [
        "/v1/metrics",
        "/api/metrics",
        "/openai/status",
        "/v1/status/models",
        "/METRICS",
        "/%6detrics",
        "/v1/../metrics",
        "/v1/chat/completions/metrics",
        "/status/metrics",
        "/openai/readyz",
    ] {
        assert_eq!(program.get(path).status, 404, "{path}");
    }
}

#[test]
fn every_form_of_a_url_asks_for_a_key_and_refuses_foreign_hosts_and_pages() {
    let simulator = Simulator::start();
    let with_keys = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", "one").start();
    let open = Program::start(&simulator.url());
    let azure = [
        "/openai/deployments/gpt-4o/chat/completions?api-version=1",
        "/openai/deployments/gpt-4o/completions",
    ];
    for path in SERVED.into_iter().chain(azure) {
        let body = body_for("chat/completions").to_string();
        for key in ["", "api-key: two\r\n", "Authorization: Bearer two\r\n"] {
            let refused = with_keys.request("POST", path, key, body.as_bytes());
            assert_eq!(refused.status, 401, "{path} {key}");
        }
        let page = "Origin: https://evil.example\r\n";
        assert_eq!(open.request("POST", path, page, body.as_bytes()).status, 403, "{path}");
        let mut rebound = Connection::open(open.address());
        rebound.write(
            format!("POST {path} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 9\r\n\r\n")
                .as_bytes(),
        );
        assert_eq!(rebound.response().status, 403, "{path}");
    }
    for key in ["api-key: one\r\n", "Authorization: Bearer one\r\n"] {
        let body = body_for("chat/completions").to_string();
        assert_eq!(with_keys.request("POST", azure[0], key, body.as_bytes()).status, 200, "{key}");
    }
    assert_eq!(simulator.stats().runs, 2);
}

#[test]
fn urls_of_any_number_and_length_make_no_series() {
    let program = Program::start("http://127.0.0.1:1");
    let long = "/v1/models".repeat(700);
    let paths = ["/openai/deployments/a/embeddings", "/api/chat", "/V1/models", &long];
    for path in paths.into_iter().chain(SERVED) {
        program.get(path);
    }
    let labels = [("route", "none"), ("status", "404")];
    wait_until("the refusals to be counted", || {
        Scrape::of(&program).sum("langfast2api_requests_total", &labels) == 3.0
    });
    let metrics = program.get("/metrics");
    assert!(!metrics.text().contains("deployments") && !metrics.text().contains("api/"));
}

#[test]
fn a_model_that_nobody_serves_is_told_what_to_do_in_every_dialect() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(["--unknown-models", "refuse"]).start();
    for path in [
        CHAT,
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/openai/deployments/none-such/chat/completions",
        "/openai/deployments/none-such/completions",
    ] {
        let mut body = body_for(path);
        body["model"] = json!("none-such");
        let answer = post(&program, path, &body);
        let message = answer.error()["message"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 404, "{path}");
        assert!(message.contains("--model-aliases none-such=NAME"), "{path}: {message}");
        assert!(message.contains("GET /v1/models"), "{path}: {message}");
    }
    assert_eq!(program.get("/openai/models/none-such").status, 404);
    assert_eq!(program.chat(user("hi")).status, 200);
    assert_eq!(simulator.stats().runs, 1);
}
