//! Prometheus' own view of the metrics, and what is shipped for it and for Grafana: configuration,
//! alerts, dashboard.
//!
//! Without Prometheus (`apt-get install prometheus`) only the names are compared, unless
//! `REQUIRE_PROMETHEUS=1` is set.

use std::collections::BTreeSet;
use std::fs;

use crate::simulator::{Fault, Simulator, Step};
use crate::support::prometheus::{Prometheus, promtool};
use crate::support::scrape::Scrape;
use crate::support::{Program, Start, wait_until};
use serde_json::Value;

const RULES: &str = "scripts/prometheus-rules.yml";

fn dashboard() -> Value {
    let text = fs::read_to_string("scripts/grafana-dashboard.json").unwrap();
    serde_json::from_str(&text).unwrap()
}

fn panels() -> Vec<Value> {
    dashboard()["panels"].as_array().unwrap().clone()
}

/// The dashboard's expressions by panel, with Grafana's variables filled in.
fn dashboard_expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in panels() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let expression =
                expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
            assert!(!expression.contains('$'), "a variable that is not known: {expression}");
            found.push((panel["title"].as_str().unwrap().to_owned(), expression));
        }
    }
    assert!(found.len() > 20);
    found
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_ours = |word: &&str| {
        let prefixes = ["langfast2api_", "process_"];
        prefixes.iter().any(|prefix| word.starts_with(prefix))
    };
    words.filter(is_ours).map(str::to_owned).collect()
}

/// Makes every metric appear: an answer of each kind, a failure of LangFast's, a refusal.
fn busy_program(simulator: &Simulator, start: Start) -> Program {
    let program = start.start();
    assert_eq!(program.ask("hello").status, 200);
    assert!(program.ask_stream("/sim text=lorem delay=1").is_done());
    simulator.fault(Step::Run, Fault::status(500));
    assert_eq!(program.ask("hello").status, 502);
    let body = crate::support::chat_body(crate::support::user("hello")).to_string();
    let json = "Content-Type: application/json\r\n";
    assert_eq!(program.request("POST", "/v1/nothing", json, body.as_bytes()).status, 404);
    wait_until("all to be counted", || {
        let scrape = Scrape::of(&program);
        let count = |labels: &[(&str, &str)]| scrape.sum("langfast2api_requests_total", labels);
        count(&[("model", "gpt-4o")]) == 3.0 && count(&[("status", "404")]) == 1.0
    });
    program
}

#[test]
fn dashboard_and_alerts_name_only_metrics_that_exist_and_none_is_left_out() {
    let simulator = Simulator::start();
    let program = busy_program(&simulator, Start::new(&simulator.url()));
    let text = program.get("/metrics").text().to_owned();
    let scrape = Scrape::read(&text);
    let told: BTreeSet<String> = scrape.samples().iter().map(|s| s.name.clone()).collect();
    let shown: BTreeSet<String> =
        dashboard_expressions().iter().flat_map(|(_, expression)| names(expression)).collect();
    let rules = fs::read_to_string(RULES).unwrap();
    for name in shown.iter().chain(&names(&rules)) {
        assert!(told.contains(name), "{name} is not among the metrics");
    }
    let is_shown = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let bucket = format!("{}_bucket", base.unwrap_or(name));
        shown.contains(name) || shown.contains(&bucket)
    };
    let elsewhere = [
        // How long requests take says little here: it is the answers' length.
        "langfast2api_request_duration_seconds_bucket",
        "langfast2api_request_duration_seconds_count",
        "langfast2api_request_duration_seconds_sum",
        "langfast2api_session_info",
        "process_max_fds",
        "process_start_time_seconds",
    ];
    let missing: Vec<&String> =
        told.iter().filter(|name| !is_shown(name) && !elsewhere.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "not shown: {missing:?}");
}

#[test]
fn the_dashboard_can_be_imported_whatever_the_data_source_is_called() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables[0]["name"], "datasource");
    assert_eq!(variables[0]["type"], "datasource");
    let mut ids = BTreeSet::new();
    let mut places: Vec<[u64; 4]> = Vec::new();
    for panel in panels() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id is used twice");
        let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        let overlap = |other: &[u64; 4]| {
            let apart = |axis: usize| {
                place[axis] >= other[axis] + other[axis + 2]
                    || other[axis] >= place[axis] + place[axis + 2]
            };
            !apart(0) && !apart(1)
        };
        assert!(!places.iter().any(overlap), "{} lies over another panel", panel["title"]);
        assert!(place[0] + place[2] <= 24, "{} is too wide", panel["title"]);
        places.push(place);
        if panel["type"] == "row" {
            continue;
        }
        for source in [&panel["datasource"], &panel["targets"][0]["datasource"]] {
            assert_eq!(source["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
}

#[test]
fn promtool_finds_no_fault_with_the_metrics() {
    if !crate::support::prometheus::is_installed() {
        return;
    }
    let simulator = Simulator::start();
    let program = busy_program(&simulator, Start::new(&simulator.url()));
    let (is_sound, words) = promtool(&["check", "metrics"], program.get("/metrics").text());
    assert!(is_sound && words.is_empty(), "{words}");
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    if !crate::support::prometheus::is_installed() {
        return;
    }
    let (is_sound, words) = promtool(&["check", "rules", RULES], "");
    assert!(is_sound, "{words}");
    let (is_sound, words) = promtool(&["test", "rules", "tests/prometheus-rules.yml"], "");
    assert!(is_sound, "{words}");
}

#[test]
fn a_real_prometheus_scrapes_with_the_key_and_understands_every_panel() {
    if !crate::support::prometheus::is_installed() {
        return;
    }
    let simulator = Simulator::start();
    let start = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", "the-key");
    let program = start.start();
    let mut prometheus = Prometheus::start(program.address(), "the-key");
    prometheus.wait_ready();
    wait_until("a scrape", || !prometheus.query("up{job=\"langfast2api\"} == 1").is_empty());
    let ask = |content: &str, stream: bool| {
        let mut fields = crate::support::chat_body(crate::support::user(content));
        fields["stream"] = stream.into();
        let headers = "Authorization: Bearer the-key\r\nContent-Type: application/json\r\n";
        let body = fields.to_string();
        let path = "/v1/chat/completions";
        program.request("POST", path, headers, body.as_bytes()).status
    };
    let is_empty = |expression: &str| prometheus.query(expression).is_empty();
    // A rate needs two samples of a series that begins with its first request: further ones move it.
    wait_until("every panel to show something", || {
        assert_eq!(ask("/sim text=lorem delay=1", true), 200);
        simulator.fault(Step::Run, Fault::status(500));
        assert_eq!(ask("hello", false), 502);
        let mut empty = dashboard_expressions();
        empty.retain(|(_, expression)| is_empty(expression));
        empty.is_empty()
    });
    let (_, rules) = prometheus.get("/api/v1/rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap().clone();
    assert_eq!(rules.len(), 6);
    for rule in rules {
        assert_ne!(rule["health"], "err", "{rule}");
    }
    let (_, targets) = prometheus.get("/api/v1/targets");
    assert_eq!(targets["data"]["activeTargets"][0]["lastError"], "", "{targets}");
}
