//! `/metrics`: each figure moves when it should, and no client can make series.

use std::collections::BTreeSet;

use crate::simulator::{Fault, Simulator, Step};
use crate::support::scrape::Scrape;
use crate::support::{Connection, Program, Start, start, streamed, user, wait_until};
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";
/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Waits until the samples of that name with these labels add up to `value`: some are counted when the
/// client has its answer already.
fn wait_for(program: &Program, name: &str, labels: &[(&str, &str)], value: f64) -> Scrape {
    let mut scrape = Scrape::of(program);
    wait_until(&format!("{name}{labels:?} to be {value}"), || {
        scrape = Scrape::of(program);
        scrape.sum(name, labels) == value
    });
    scrape
}

fn wait_for_requests(program: &Program, route: &str, model: &str, status: &str, count: f64) {
    let labels = [("route", route), ("model", model), ("status", status)];
    wait_for(program, "langfast2api_requests_total", &labels, count);
}

fn wait_for_error(program: &Program, cause: &str, step: &str, count: f64) {
    let labels = [("cause", cause), ("step", step)];
    wait_for(program, "langfast2api_errors_total", &labels, count);
}

#[test]
fn an_answered_request_is_counted_by_route_model_and_status() {
    let (_simulator, program) = start();
    program.ask("hello").content();
    program.chat(json!({"model": "gpt-4o-2024-08-06", "messages": []}));
    program.ask_stream("hello");
    wait_for_requests(&program, CHAT, "gpt-4o", "200", 2.0);
    wait_for_requests(&program, CHAT, "none", "400", 1.0);
    wait_for_error(&program, "invalid_request", "none", 1.0);
    program.get("/v1/models/gpt-4o");
    program.get("/models/gpt-5");
    wait_for_requests(&program, "/v1/models/{model}", "none", "200", 2.0);
    let labels = [("route", CHAT)];
    wait_for(&program, "langfast2api_request_duration_seconds_count", &labels, 3.0);
}

#[test]
fn a_request_that_no_worker_sees_is_counted_too() {
    let program = Start::new(NOWHERE)
        .env("LANGFAST2API_API_KEYS", "the-key")
        .arg("--metrics-open")
        .args(["--max-body", "1"])
        .start();
    program.get("/v1/models");
    wait_for_requests(&program, "/v1/models", "none", "401", 1.0);
    program.request("DELETE", "/v1/models/x", "Connection: close\r\n", b"");
    wait_for_requests(&program, "/v1/models/{model}", "none", "405", 1.0);
    program.get("/no/such/url");
    wait_for_requests(&program, "none", "none", "404", 1.0);
    let mut broken = Connection::open(program.address());
    broken.write(b"this is not HTTP\r\n\r\n");
    assert_eq!(broken.response().status, 400);
    wait_for_requests(&program, "none", "none", "400", 1.0);
    let mut large = Connection::open(program.address());
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n");
    large.write(head.as_bytes());
    assert_eq!(large.response().status, 413);
    wait_for_requests(&program, CHAT, "none", "413", 1.0);
    wait_for_error(&program, "bad_http", "none", 2.0);
}

#[test]
fn what_is_more_than_the_settings_allow_is_counted() {
    let simulator = Simulator::start();
    // Two, since a request may still be on its way out when the next one comes.
    let program = Start::new(&simulator.url()).args(["--max-requests", "2"]).start();
    let overloaded = [("cause", "overloaded"), ("step", "none")];
    let errors = "langfast2api_errors_total";
    assert_eq!(
        Scrape::of(&program).find(errors, &overloaded),
        Some(0.0),
        "it shows as an increase"
    );
    let held = [(); 2].map(|()| {
        let mut held = program.chat_connection(streamed("/sim text=lorem delay=300"));
        held.head();
        held
    });
    assert_eq!(program.get("/metrics").status, 503);
    drop(held);
    wait_until("the workers to be free", || program.get("/metrics").status == 200);
    wait_for(&program, "langfast2api_answers_active", &[], 0.0);
    let scrape = Scrape::of(&program);
    assert!(scrape.sum(errors, &overloaded) >= 1.0);
    let refused = [("route", "/metrics"), ("status", "503")];
    assert!(scrape.sum("langfast2api_requests_total", &refused) >= 1.0);
    wait_for_requests(&program, CHAT, "gpt-4o", "200", 2.0);
    wait_for_error(&program, "client_gone", "none", 2.0);
}

#[test]
fn connections_are_counted_and_so_are_those_turned_away() {
    let program = Start::new(NOWHERE).args(["--max-connections", "2"]).start();
    let mut scraper = Connection::open(program.address());
    let mut scrape = || {
        scraper.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Scrape::read(scraper.response().text())
    };
    assert_eq!(scrape().sum("langfast2api_connections", &[]), 1.0);
    let idle = Connection::open(program.address());
    wait_until("the idle one to be counted", || {
        scrape().sum("langfast2api_connections", &[]) == 2.0
    });
    assert_eq!(scrape().find("langfast2api_connections_turned_away_total", &[]), Some(0.0));
    assert_eq!(Connection::open(program.address()).response().status, 503);
    assert_eq!(scrape().sum("langfast2api_connections_turned_away_total", &[]), 1.0);
    drop(idle);
    wait_until("the idle one to end", || scrape().sum("langfast2api_connections", &[]) == 1.0);
}

#[test]
fn a_stream_shows_while_it_is_under_way_and_its_pace_and_tokens_are_kept() {
    let (_simulator, program) = start();
    let name = "langfast2api_answers_active";
    assert_eq!(Scrape::of(&program).find(name, &[("kind", "stream")]), Some(0.0));
    let mut slow = program.chat_connection(streamed("/sim text=lorem delay=100"));
    slow.head();
    let scrape = Scrape::of(&program);
    assert_eq!(scrape.sum(name, &[("kind", "stream")]), 1.0);
    assert_eq!(scrape.sum(name, &[("kind", "whole")]), 0.0);
    let busy = scrape.sum("langfast2api_workers_busy", &[]);
    assert_eq!(busy, 1.0, "the scrape's: a stream that has its run needs none");
    assert!(scrape.sum("langfast2api_workers", &[]) >= 1.0);
    // Gaps are seen while the stream goes on.
    let gaps = "langfast2api_token_gap_seconds_count";
    wait_until("gaps", || Scrape::of(&program).sum(gaps, &[("model", "gpt-4o")]) >= 2.0);
    let short = [("model", "gpt-4o"), ("le", "0.025")];
    let scrape = Scrape::of(&program);
    let all = scrape.sum(gaps, &[]);
    assert!(scrape.sum("langfast2api_token_gap_seconds_bucket", &short) < all, "100 ms each");
    drop(slow);
    let scrape = wait_for(&program, "langfast2api_time_to_first_token_seconds_count", &[], 1.0);
    assert_eq!(scrape.sum(name, &[]), 0.0);
    assert!(scrape.sum("langfast2api_tokens_total", &[("kind", "completion")]) >= 2.0);

    program.ask("hello").content();
    let first = [("model", "gpt-4o")];
    let name = "langfast2api_time_to_first_token_seconds_count";
    let scrape = wait_for(&program, name, &first, 2.0);
    assert!(scrape.sum("langfast2api_time_to_first_token_seconds_sum", &first) > 0.0);
}

#[test]
fn the_time_to_the_first_token_is_not_that_to_the_last() {
    let (_simulator, program) = start();
    program.ask("hello").content();
    let before = Scrape::of(&program);
    assert!(program.ask_stream("/sim events=2 silence=1000").is_done());
    let after =
        wait_for(&program, "langfast2api_request_duration_seconds_count", &[("route", CHAT)], 2.0);
    let moved = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
    let first = moved("langfast2api_time_to_first_token_seconds_sum");
    let labels = [("route", CHAT)];
    let whole = "langfast2api_request_duration_seconds_sum";
    let whole = after.sum(whole, &labels) - before.sum(whole, &labels);
    assert!(first > 0.0 && whole - first > 0.5, "{first} s of {whole} s");
}

#[test]
fn tokens_and_bytes_are_those_of_the_answers() {
    let (_simulator, program) = start();
    let before = Scrape::of(&program);
    let answer = program.ask("hello there");
    wait_for_requests(&program, CHAT, "gpt-4o", "200", 1.0);
    let after = Scrape::of(&program);
    for (kind, field) in [("prompt", "prompt_tokens"), ("completion", "completion_tokens")] {
        let told = answer.json()["usage"][field].as_f64().unwrap();
        let labels = [("model", "gpt-4o"), ("kind", kind)];
        assert_eq!(after.find("langfast2api_tokens_total", &labels), Some(told), "{kind}");
    }
    let moved = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
    let body = crate::support::chat_body(user("hello there")).to_string();
    assert_eq!(moved("langfast2api_received_bytes_total"), body.len() as f64);
    assert!(moved("langfast2api_sent_bytes_total") >= answer.body.len() as f64);
}

#[test]
fn a_stream_that_breaks_off_is_an_error_of_its_cause_and_step() {
    let (_simulator, program) = start();
    let answer = program.ask_stream("/sim text=lorem delay=1 fail=3");
    assert!(!answer.is_done());
    wait_for_requests(&program, CHAT, "gpt-4o", "200", 1.0);
    wait_for_error(&program, "refused", "run the prompt", 1.0);
}

#[test]
fn hostile_paths_methods_and_models_make_no_series() {
    for (unknown, status) in [("try", 200), ("refuse", 404)] {
        let simulator = Simulator::start();
        let program = Start::new(&simulator.url()).args(["--unknown-models", unknown]).start();
        hostile_names_make_no_series(&program, status);
    }
}

fn hostile_names_make_no_series(program: &Program, status: u16) {
    let send = |round: usize| {
        let name = format!("hostile{round}");
        program.get(&format!("/{name}"));
        program.get(&format!("/v1/models/{name}"));
        program.get(&format!("/v1/models?{name}"));
        program.get(&format!("//v1//models/?{name}"));
        program.request(&name.to_uppercase(), CHAT, "", b"");
        program.request(&name.to_uppercase(), &format!("/{name}"), "", b"");
        let mut fields = user("Hi");
        fields["model"] = json!(name);
        assert_eq!(program.chat(fields).status, status);
    };
    let series = || -> BTreeSet<String> {
        let scrape = Scrape::of(program);
        let series = scrape.samples().iter().map(|s| format!("{}{:?}", s.name, s.labels));
        series.collect()
    };
    send(0);
    let route = "/v1/models/{model}";
    let label = status.to_string();
    wait_for_requests(program, route, "other", "404", 1.0);
    wait_for_requests(program, CHAT, "other", &label, 1.0);
    wait_for_requests(program, "/v1/models", "none", "200", 2.0);
    let before = series();
    (1..20).for_each(send);
    wait_for_requests(program, CHAT, "other", &label, 20.0);
    assert_eq!(series(), before);
    assert!(!before.iter().any(|series| series.to_lowercase().contains("hostile")), "{before:?}");
}

#[test]
fn a_model_is_counted_under_langfasts_name_for_it() {
    let simulator = Simulator::start();
    let program =
        Start::new(&simulator.url()).env("LANGFAST2API_MODEL_ALIASES", "*=gpt-4.1-nano").start();
    let mut fields = user("Hi");
    fields["model"] = json!("whatever they call it");
    assert_eq!(program.chat(fields).status, 200);
    wait_for_requests(&program, CHAT, "gpt-4.1-nano", "200", 1.0);
    assert!(!program.get("/metrics").text().contains("whatever"));
}

#[test]
fn each_call_to_langfast_is_counted_by_step_and_outcome() {
    let (simulator, program) = start();
    let name = "langfast2api_upstream_calls_total";
    let limited = Scrape::of(&program).find(name, &[("step", "start the run"), ("outcome", "429")]);
    assert_eq!(limited, Some(0.0), "the first one shows as an increase");
    program.ask("hello").content();
    let scrape = Scrape::of(&program);
    for step in ["sign in", "create a prompt", "connect to the prompt runner", "start the run"] {
        let labels = [("step", step)];
        assert_eq!(scrape.sum(name, &[("step", step), ("outcome", "ok")]), 1.0, "{step}");
        let durations = "langfast2api_upstream_call_duration_seconds_count";
        assert_eq!(scrape.sum(durations, &labels), 1.0, "{step}");
    }
    for (status, outcome) in [(500, "5xx"), (429, "429"), (422, "4xx")] {
        simulator.fault(Step::Run, Fault::status(status));
        assert!(program.ask("hello").status >= 400);
        wait_for(&program, name, &[("step", "start the run"), ("outcome", outcome)], 1.0);
    }
    wait_for_error(&program, "status", "start the run", 3.0);
}

#[test]
fn a_langfast_that_is_not_there_or_does_not_answer_has_an_outcome_too() {
    let program = Program::start(NOWHERE);
    assert_eq!(program.ask("hello").status, 502);
    let name = "langfast2api_upstream_calls_total";
    // What was certainly not carried out is tried twice.
    wait_for(&program, name, &[("step", "sign in"), ("outcome", "unreachable")], 2.0);
    wait_for_error(&program, "unreachable", "sign in", 1.0);

    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).args(["--request-timeout", "0.3"]).start();
    simulator.fault(Step::Run, Fault::hang());
    assert_eq!(program.ask("hello").status, 504);
    wait_for(&program, name, &[("step", "start the run"), ("outcome", "timed_out")], 1.0);
}

#[test]
fn a_call_given_up_for_a_client_that_has_gone_is_no_failure_of_langfasts() {
    let (simulator, program) = start();
    simulator.fault(Step::Run, Fault::hang());
    let leaving = program.chat_connection(user("hello"));
    // Sign-up, prompt, socket and the run, which hangs.
    simulator.wait_until(|stats| stats.http_requests == 4);
    wait_for(&program, "langfast2api_answers_active", &[("kind", "whole")], 1.0);
    drop(leaving);
    let labels = [("step", "start the run"), ("outcome", "client_gone")];
    wait_for(&program, "langfast2api_upstream_calls_total", &labels, 1.0);
    wait_for_requests(&program, CHAT, "gpt-4o", "499", 1.0);
}

#[test]
fn the_socket_shows_when_it_is_connected_lost_and_made_again() {
    let (simulator, program) = start();
    let connected = "langfast2api_socket_connected";
    let connects = "langfast2api_socket_connects_total";
    let losses = "langfast2api_socket_losses_total";
    let before = Scrape::of(&program);
    assert_eq!(before.find(connected, &[]), Some(0.0));
    assert_eq!(before.find(losses, &[("cause", "broken")]), Some(0.0));
    let mut held = program.chat_connection(streamed("/sim text=lorem delay=300"));
    held.head();
    let during = Scrape::of(&program);
    assert_eq!((during.sum(connected, &[]), during.sum(connects, &[])), (1.0, 1.0));
    simulator.cut_sockets();
    wait_for(&program, connects, &[], 2.0);
    let after = wait_for(&program, connected, &[], 1.0);
    assert_eq!(after.sum(losses, &[]), 1.0);
}

#[test]
fn the_session_shows_how_long_its_token_lasts_and_not_whose_it_is() {
    let simulator = Simulator::builder().token_lifetime(1000).start();
    let program = Start::new(&simulator.url())
        .env("LANGFAST2API_EMAIL", "user@example.com")
        .env("LANGFAST2API_PASSWORD", "correct-password")
        .start();
    let name = "langfast2api_session_expires_in_seconds";
    assert_eq!(Scrape::of(&program).find(name, &[]), None, "nobody is signed in yet");
    program.ask("hello").content();
    let answer = program.get("/metrics");
    let scrape = Scrape::read(answer.text());
    let left = scrape.sum(name, &[]);
    assert!((900.0..=1000.0).contains(&left), "{left}");
    assert_eq!(scrape.find("langfast2api_session_info", &[("kind", "account")]), Some(1.0));
    assert_eq!(scrape.find("langfast2api_session_failing", &[]), Some(0.0));
    assert!(!answer.text().contains('@'), "{}", answer.text());
}

#[test]
fn a_sign_in_that_fails_shows() {
    let (simulator, program) = start();
    simulator.fault(Step::SignUp, Fault::status(422));
    assert!(program.ask("hello").status >= 400);
    assert_eq!(Scrape::of(&program).find("langfast2api_session_failing", &[]), Some(1.0));
    program.ask("hello").content();
    let scrape = Scrape::of(&program);
    assert_eq!(scrape.find("langfast2api_session_failing", &[]), Some(0.0));
    assert_eq!(scrape.find("langfast2api_session_info", &[("kind", "anonymous")]), Some(1.0));
}

#[test]
fn the_process_and_the_build_are_told() {
    let program = Program::start(NOWHERE);
    let scrape = Scrape::of(&program);
    let resident = scrape.sum("process_resident_memory_bytes", &[]);
    let now = program.figure("VmRSS") as f64 * 1024.0;
    assert!((now / 2.0..now * 2.0).contains(&resident), "{resident} and {now}");
    assert!(scrape.sum("process_threads", &[]) >= 3.0);
    let open = std::fs::read_dir(format!("/proc/{}/fd", program.pid())).unwrap().count() as f64;
    let told = scrape.sum("process_open_fds", &[]);
    assert!((open - 8.0..=open + 8.0).contains(&told), "{told} and {open}");
    assert!(scrape.sum("process_max_fds", &[]) >= told);
    assert!(scrape.sum("process_cpu_seconds_total", &[]) > 0.0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let started = scrape.sum("process_start_time_seconds", &[]);
    assert!((now - 60.0..=now).contains(&started), "{started} and {now}");
    let build = [("version", env!("CARGO_PKG_VERSION")), ("tls", "openssl")];
    assert_eq!(scrape.find("langfast2api_build_info", &build), Some(1.0));
}

#[test]
fn the_metrics_are_behind_the_key_unless_they_are_opened() {
    let keyed = || Start::new(NOWHERE).env("LANGFAST2API_API_KEYS", "the-key");
    let program = keyed().start();
    assert_eq!(program.get("/metrics").status, 401);
    let with_key = program.request("GET", "/metrics", "Authorization: Bearer the-key\r\n", b"");
    assert_eq!(with_key.status, 200);
    for open in [keyed().arg("--metrics-open"), keyed().env("LANGFAST2API_METRICS_OPEN", "true")] {
        let program = open.start();
        assert_eq!(program.get("/metrics").status, 200);
        assert_eq!(program.get("/status").status, 401, "nothing else is open");
    }
}

#[test]
fn a_page_with_a_name_of_its_own_for_this_machine_gets_no_metrics() {
    let program = Start::new(NOWHERE).arg("--metrics-open").start();
    let mut connection = Connection::open(program.address());
    connection.write(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(connection.response().status, 403);
}

#[test]
fn the_format_is_the_one_that_is_asked_for() {
    let program = Program::start(NOWHERE);
    let plain = program.get("/metrics");
    assert_eq!(
        plain.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8"),
        "for curl and a browser"
    );
    assert!(plain.text().contains("# TYPE langfast2api_received_bytes_total counter\n"));
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let open = program.request("GET", "/metrics", accept, b"");
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.text().contains("# TYPE langfast2api_received_bytes counter\n"));
    assert!(open.text().ends_with("# EOF\n"));
    for answer in [&plain, &open] {
        assert_eq!(answer.header("vary"), Some("Accept"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let head = program.send("HEAD", "/metrics", accept, b"").head();
    assert_eq!((head.status, head.header("content-type")), (200, open.header("content-type")));
    assert_eq!(program.request("POST", "/metrics", "", b"").status, 405);
    assert_eq!(program.get("/v1/metrics").status, 404);
}

#[test]
fn a_scraper_does_not_fill_the_log() {
    let program = Start::new(NOWHERE).args(["--log", "info"]).start();
    Scrape::of(&program);
    program.get("/healthz");
    program.wait_for_log("/healthz");
    assert!(!program.log().contains("/metrics"), "{}", program.log());
}
