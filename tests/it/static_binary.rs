//! The static binary of `scripts/build-static` where there is nothing else: in an empty root directory,
//! and in a network of its own with a name server of the tests'. `scripts/test --static` sees to all
//! of that. One for another architecture is run by qemu-user, which `STATIC_RUNNER` names.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::simulator::Simulator;
use crate::support::relay::{CERTIFICATE, HASH_NAME, Relay};
use crate::support::{Directory, Program, Start};

/// In bytes.
const LARGEST: u64 = 8_000_000;

fn binary() -> PathBuf {
    std::env::var_os("STATIC_BINARY").expect("STATIC_BINARY is the path of one").into()
}

/// What runs a binary of another architecture: a program that needs nothing else.
fn runner() -> Option<PathBuf> {
    std::env::var_os("STATIC_RUNNER").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A root directory with the binary, what runs it, a place for its state, and nothing else.
struct Root(Directory);

impl Root {
    fn new() -> Root {
        let root = Directory::new();
        copy(&binary(), &root.path().join("langfast2api"));
        if let Some(runner) = runner() {
            copy(&runner, &root.path().join("runner"));
        }
        std::fs::create_dir(root.path().join("state")).unwrap();
        Root(root)
    }

    fn with_file(self, path: &str, content: impl AsRef<[u8]>) -> Root {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.0.path());
        if runner().is_some() {
            command.arg("/runner");
        }
        command.arg("/langfast2api");
        command
    }

    fn start(&self, upstream: &str) -> Start {
        Start::of(self.command(), upstream, Path::new("/state"))
    }
}

/// Copies a program. Not by this process: what it holds open for writing, a child of another thread's
/// may hold too, and then it cannot be run.
fn copy(program: &Path, to: &Path) {
    assert!(Command::new("cp").arg(program).arg(to).status().unwrap().success());
}

/// Answers to queries by address and name; others are told that there is no such name.
static NAME_SERVERS: LazyLock<()> = LazyLock::new(|| {
    serve_names("127.0.0.1:53", &["localhost", "asked-by-default.test"]);
    serve_names("127.0.0.2:53", &["in-resolv-conf.test"]);
});

/// A name server for as long as the tests run. Its names are 127.0.0.1's.
fn serve_names(address: &str, names: &'static [&'static str]) {
    let socket = UdpSocket::bind(address).expect("a network of its own: scripts/test --static");
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            let _ = socket.send_to(&dns_answer(&query[..length], names), client);
        }
    });
}

/// RFC 1035, section 4: the header, the question as it came, and its address if it asks for one.
fn dns_answer(query: &[u8], names: &[&str]) -> Vec<u8> {
    const A: [u8; 2] = [0, 1];
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(std::str::from_utf8(&query[at + 1..end]).unwrap());
        at = end;
    }
    let (kind, end) = (&query[at + 1..at + 3], at + 5);
    let is_known = names.contains(&labels.join(".").as_str());
    let has_address = is_known && kind == A;
    let no_such_name = if is_known { 0 } else { 3 };
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | no_such_name, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    answer.extend(&query[12..end]);
    if has_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

/// A whole run with the simulator at this URL.
fn assert_works(program: &Program) {
    let answer = program.ask("/sim text=count events=3");
    assert_eq!(answer.content(), "1 2 3 ");
}

/// The message of an error about the connection.
fn failure(program: &Program) -> String {
    let response = program.ask("Hi");
    assert_eq!(response.status, 502);
    response.error()["message"].as_str().unwrap().to_owned()
}

fn https(relay: &Relay) -> String {
    LazyLock::force(&NAME_SERVERS);
    format!("https://localhost:{}", relay.address().port())
}

#[test]
#[ignore = "wants what scripts/test --static prepares"]
fn it_runs_where_there_is_nothing_else() {
    let root = Root::new();
    let output = root.command().arg("--version").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let version = format!("langfast2api {}\ncommit: ", env!("CARGO_PKG_VERSION"));
    assert!(told.starts_with(&version), "{told}");
    assert!(told.contains("\nTLS: OpenSSL ") && told.contains(", built in\n"), "{told}");
}

#[test]
#[ignore = "wants what scripts/test --static prepares"]
fn it_is_small_and_can_be_loaded_at_any_address() {
    let binary = std::fs::read(binary()).unwrap();
    assert!(binary.len() as u64 <= LARGEST, "{} bytes", binary.len());
    const ET_DYN: [u8; 2] = [3, 0];
    assert_eq!(binary[16..18], ET_DYN, "position-independent");
}

#[test]
#[ignore = "wants what scripts/test --static prepares"]
fn it_asks_the_name_server_of_this_machine_where_none_is_set() {
    LazyLock::force(&NAME_SERVERS);
    let simulator = Simulator::start();
    let url = simulator.url().replace("127.0.0.1", "asked-by-default.test");
    let root = Root::new();
    assert_works(&root.start(&url).start());
}

#[test]
#[ignore = "wants what scripts/test --static prepares"]
fn it_asks_the_name_server_in_resolv_conf() {
    LazyLock::force(&NAME_SERVERS);
    let simulator = Simulator::start();
    let url = simulator.url().replace("127.0.0.1", "in-resolv-conf.test");
    let root = Root::new().with_file("etc/resolv.conf", "nameserver 127.0.0.2\n");
    assert_works(&root.start(&url).start());
    let without = Root::new();
    let message = failure(&without.start(&url).start());
    assert!(message.contains("in-resolv-conf.test cannot be looked up"), "{message}");
}

#[test]
#[ignore = "wants what scripts/test --static prepares"]
fn it_reads_the_hosts_file() {
    LazyLock::force(&NAME_SERVERS);
    let simulator = Simulator::start();
    let url = simulator.url().replace("127.0.0.1", "in-hosts.test");
    let root = Root::new().with_file("etc/hosts", "127.0.0.1 in-hosts.test\n");
    assert_works(&root.start(&url).start());
}

#[test]
#[ignore = "wants what scripts/test --static prepares"]
fn without_root_certificates_the_built_in_ones_are_trusted_and_no_others() {
    let simulator = Simulator::start();
    let relay = Relay::with_tls(&simulator.url());
    let root = Root::new();
    let program = root.start(&https(&relay)).start();
    let message = failure(&program);
    assert!(message.contains("certificate of localhost is not accepted"), "{message}");
    assert!(message.contains("SSL_CERT_FILE"), "{message}");
    let log = program.log();
    let number = log.split("TLS trusts ").nth(1).and_then(|rest| rest.split(' ').next());
    let number: u32 = number.and_then(|number| number.parse().ok()).expect(&log);
    assert!(number > 100 && log.contains("built-in root certificates"), "{log}");
}

#[test]
#[ignore = "wants what scripts/test --static prepares"]
fn root_certificates_that_are_there_are_trusted_in_place_of_the_built_in_ones() {
    let simulator = Simulator::start();
    let relay = Relay::with_tls(&simulator.url());
    let certificate = std::fs::read(CERTIFICATE).unwrap();
    let hashed = format!("etc/ssl/certs/{HASH_NAME}");
    let elsewhere = format!("own/{HASH_NAME}");
    let places: [(&str, HashMap<&str, &str>); 4] = [
        ("own/ca.pem", [("SSL_CERT_FILE", "/own/ca.pem")].into()),
        (&elsewhere, [("SSL_CERT_DIR", "/own")].into()),
        ("etc/ssl/certs/ca-certificates.crt", [].into()),
        (&hashed, [].into()),
    ];
    for (path, variables) in places {
        let root = Root::new().with_file(path, &certificate);
        let mut start = root.start(&https(&relay));
        for (name, value) in variables {
            start = start.env(name, value);
        }
        let program = start.start();
        assert_works(&program);
        assert!(!program.log().contains("built-in"), "{path}: {}", program.log());
    }
}
