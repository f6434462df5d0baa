//! What the service manager is told: the tests listen where systemd would.

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::simulator::{Fault, Simulator, Step};
use crate::support::frozen::Frozen;
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Directory, Program, Start, user, wait_until};
use rustix::process::Signal;

/// How long the manager of these tests waits for a sign of life.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket that the program tells what it has to tell. Its messages are taken off at once: where
/// nobody does, the program waits.
struct Manager {
    messages: Receiver<String>,
    directory: Directory,
}

impl Manager {
    fn new() -> Manager {
        let directory = Directory::new();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = socket.recv(&mut buffer) {
                let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Manager { messages, directory }
    }

    fn start(&self, simulator: &Simulator) -> Start {
        Start::new(&simulator.url())
            .env("NOTIFY_SOCKET", self.directory.path().join("notify"))
            .env("WATCHDOG_USEC", PATIENCE.as_micros().to_string())
    }

    /// Waits for a message that begins like this.
    fn wait_for(&self, beginning: &str) -> String {
        let mut found = None;
        wait_until(beginning, || {
            found = self.messages.try_iter().find(|message| message.starts_with(beginning));
            found.is_some()
        });
        found.unwrap()
    }

    /// Forgets what has been told so far.
    fn forget(&self) {
        self.messages.try_iter().for_each(drop);
    }

    /// Waits until the program says that something is stuck, and holds it to that: there must be no
    /// more signs of life until its threads go on.
    fn sees_stuck(&self, program: &Program, what: &str, frozen: Frozen) {
        program.wait_for_log(&format!("ERROR {what}"));
        self.forget();
        // It would be told several times within its patience.
        while let Ok(message) = self.messages.recv_timeout(2 * PATIENCE) {
            assert!(message.starts_with(&format!("STATUS={what}")), "{message}");
        }
        drop(frozen);
        self.wait_for("WATCHDOG=1");
    }
}

#[test]
fn it_is_told_when_the_server_is_ready_reloads_and_stops() {
    let (manager, simulator) = (Manager::new(), Simulator::start());
    let mut program = manager.start(&simulator).start();
    manager.wait_for("READY=1");
    assert_eq!(program.get("/healthz").status, 200);
    manager.wait_for("WATCHDOG=1");
    program.signal(Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1");
    let time = reloading.trim_end().split_once("\nMONOTONIC_USEC=").unwrap().1;
    assert!(time.parse::<u64>().unwrap() > 0);
    manager.wait_for("READY=1");
    program.signal(Signal::TERM);
    assert_eq!(manager.wait_for("STOPPING=1"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=37000000\n");
    assert!(program.wait().success());
}

#[test]
fn the_status_tells_of_requests_and_of_what_somebody_has_to_do() {
    let (manager, simulator) = (Manager::new(), Simulator::builder().literal_socket().start());
    simulator.fault(Step::SignUp, Fault::status(403).times(1));
    let program = manager.start(&simulator).start();
    assert_eq!(program.ask("hello").status, 403);
    let failed = manager.wait_for("STATUS=0 requests under way; signing in failed: ");
    assert_eq!(failed.trim_end().lines().count(), 1);
    let _answer = program.chat_connection(user(SILENT));
    // The failure is told of until the next sign-in has succeeded.
    manager.wait_for("STATUS=1 requests under way\n");
}

#[test]
fn a_server_that_has_all_it_can_do_is_not_stuck() {
    let (manager, simulator) = (Manager::new(), Simulator::builder().literal_socket().start());
    let program = manager
        .start(&simulator)
        .env("LANGFAST2API_MAX_CONNECTIONS", "2")
        .env("LANGFAST2API_MAX_REQUESTS", "1")
        .start();
    let _answer = program.chat_connection(user(SILENT));
    let run = Stepped::only(&simulator);
    assert_eq!(program.ask("hello").status, 503, "a request too many");
    let mut second = program.send("GET", "/healthz", "", b"");
    assert_eq!(second.head().status, 503);
    wait_until("a connection too many", || program.get("/healthz").status == 503);
    manager.forget();
    for _ in 0..10 {
        manager.wait_for("WATCHDOG=1");
        run.says("one ");
    }
    assert!(!program.log().contains("stuck"), "{}", program.log());
}

#[test]
fn a_stuck_accept_loop_is_noticed() {
    let (manager, simulator) = (Manager::new(), Simulator::start());
    let program = manager.start(&simulator).start();
    manager.wait_for("WATCHDOG=1");
    let frozen = Frozen::threads(program.pid(), "accept");
    manager.sees_stuck(&program, "the accept loop is stuck", frozen);
}

#[test]
fn a_stuck_runner_is_noticed() {
    let manager = Manager::new();
    let simulator = Simulator::builder().ping_interval(200).ping_timeout(200).start();
    let program = manager.start(&simulator).start();
    assert_eq!(program.ask("hello").content(), "hello");
    let frozen = Frozen::threads(program.pid(), "runner");
    manager.sees_stuck(&program, "the runner's thread is stuck", frozen);
}

#[test]
fn a_blocked_way_to_the_workers_is_noticed() {
    let (manager, simulator) = (Manager::new(), Simulator::start());
    let program = manager.start(&simulator).start();
    // tiny_http's threads have no names: the kernel gives them the program's. The others have it too until
    // they have begun.
    manager.wait_for("WATCHDOG=1");
    assert_eq!(program.get("/healthz").status, 200);
    let frozen = Frozen::threads(program.pid(), "langfast2api");
    let mut waiting = program.send("GET", "/healthz", "", b"");
    manager.sees_stuck(&program, "the way to the workers is stuck", frozen);
    assert_eq!(waiting.response().status, 200);
}
