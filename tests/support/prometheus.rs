//! The real Prometheus, with the configuration that is shipped.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::support::{Connection, Directory, wait_until};

/// Whether it is installed, with its `promtool`.
///
/// Panics if it is not and `REQUIRE_PROMETHEUS=1` says that it has to be.
pub fn is_installed() -> bool {
    let runs = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let there = runs("prometheus") && runs("promtool");
    let required = std::env::var("REQUIRE_PROMETHEUS").is_ok_and(|value| value == "1");
    let why = "prometheus is not installed: not tested with it";
    assert!(there || !required, "{why}");
    if !there {
        println!("{why}");
    }
    there
}

/// Runs `promtool` on a text: whether it is satisfied, and its words.
pub fn promtool(args: &[&str], text: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(words).unwrap())
}

/// A running Prometheus; it is killed when this is dropped.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    directory: Directory,
}

impl Prometheus {
    /// With the shipped configuration, in front of the program at `target`, whose key is `key`.
    pub fn start(target: SocketAddr, key: &str) -> Prometheus {
        let directory = Directory::new();
        let file = |name: &str| directory.path().join(name);
        fs::write(file("key"), key).unwrap();
        fs::copy("scripts/prometheus-rules.yml", file("prometheus-rules.yml")).unwrap();
        let config = shipped_for(target, &file("key"));
        fs::write(file("prometheus.yml"), config).unwrap();
        let address = TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", file("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(File::create(file("log")).unwrap())
            .spawn()
            .expect("prometheus starts");
        Prometheus { child, address, directory }
    }

    /// Waits until it answers that it is ready.
    pub fn wait_ready(&mut self) {
        wait_until("prometheus", || {
            assert_eq!(self.child.try_wait().unwrap(), None, "prometheus has ended");
            std::net::TcpStream::connect(self.address).is_ok() && self.get("/-/ready").0 == 200
        });
    }

    /// What an expression gives now.
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let expression = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let (_, body) = self.get(&format!("/api/v1/query?query={expression}"));
        assert_eq!(body["status"], "success", "{body}");
        body["data"]["result"].as_array().expect("a vector").clone()
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        let mut connection = Connection::open(self.address);
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        connection.write(head.as_bytes());
        let answer = connection.response();
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }
}

/// The shipped configuration with this target and key, scraping as often as a test wants.
fn shipped_for(target: SocketAddr, key: &Path) -> String {
    let mut config = fs::read_to_string("scripts/prometheus.yml").unwrap();
    for (shipped, own) in [
        ("127.0.0.1:8000", target.to_string()),
        ("/etc/prometheus/langfast2api.key", key.display().to_string()),
        ("scrape_interval: 15s", "scrape_interval: 200ms".to_owned()),
    ] {
        assert!(config.contains(shipped), "{shipped} in the shipped configuration");
        config = config.replace(shipped, &own);
    }
    config
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            eprintln!("Prometheus' log:\n{log}");
        }
    }
}
