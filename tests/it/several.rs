//! Several instances behind HAProxy and nginx, with the configurations in `scripts/`: one that is killed
//! takes its own answers with it, as errors, and no others.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::simulator::Simulator;
use crate::support::proxy::{Client, Kind, Proxy};
use crate::support::{Program, Start, chat_body, user, wait_until};
use rustix::process::Signal;
use serde_json::json;

const STREAMS: usize = 24;
const HEADERS: &str = "Authorization: Bearer the-key\r\nContent-Type: application/json\r\n";

/// An instance, and a LangFast of its own to see what reaches it.
fn instance() -> (Simulator, Program) {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).env("LANGFAST2API_API_KEYS", "the-key").start();
    (simulator, program)
}

/// The proxy in front of two instances, as a person would set it up.
fn in_front_of(kind: Kind, one: SocketAddr, two: SocketAddr) -> Proxy {
    let second = format!("server {two};");
    let second_of_haproxy = format!("server two {two}");
    let changes = match kind {
        Kind::Haproxy => &[("#server two 127.0.0.1:8002", &*second_of_haproxy)][..],
        _ => &[("#server 127.0.0.1:8001;", &*second), ("#least_conn;", "least_conn;")][..],
    };
    Proxy::start_with(kind, one, changes)
}

fn kinds() -> impl Iterator<Item = Kind> {
    // Caddy's configuration is for one.
    Kind::installed().into_iter().filter(|kind| *kind != Kind::Caddy)
}

/// How an answer went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    Whole,
    /// Not whole, and no client could think that it is.
    Broken,
}

/// Reads a streamed answer to its end, and counts it as begun with its first event.
fn read_stream(mut client: Client, begun: &AtomicUsize) -> Went {
    assert_eq!(client.head().status, 200);
    let mut text = String::new();
    loop {
        match client.chunk() {
            Ok(Some(chunk)) => {
                if text.is_empty() {
                    begun.fetch_add(1, Ordering::SeqCst);
                }
                text.push_str(&String::from_utf8_lossy(&chunk));
            }
            Ok(None) => {
                assert!(text.ends_with("data: [DONE]\n\n"), "falsely complete: {text}");
                return Went::Whole;
            }
            Err(_) => {
                assert!(!text.contains("[DONE]"), "{text}");
                return Went::Broken;
            }
        }
    }
}

/// Reads a whole answer, of which none is silent about how it went.
fn read_whole(mut client: Client) -> Went {
    let answer = client.response();
    match answer.status {
        200 => {
            assert!(answer.content().starts_with("one"), "{}", answer.text());
            Went::Whole
        }
        status => {
            assert_eq!((status, &answer.error()["type"]), (502, &json!("server_error")));
            Went::Broken
        }
    }
}

#[test]
fn an_instance_that_is_killed_in_mid_load_loses_only_its_own_answers() {
    for kind in kinds() {
        let ((simulator, one), (other_simulator, two)) = (instance(), instance());
        let proxy = in_front_of(kind, one.address(), two.address());
        let send = |content: &str, stream: bool| {
            let mut fields = user(content);
            fields["stream"] = json!(stream);
            let body = chat_body(fields).to_string();
            proxy.send("POST", "/v1/chat/completions", HEADERS, body.as_bytes())
        };
        let begun = AtomicUsize::new(0);
        let slow = "/sim say=one%20two%20three%20four events=4 delay=700";
        let (streams, wholes) = std::thread::scope(|scope| {
            let stream = |_| scope.spawn(|| read_stream(send(slow, true), &begun));
            let whole = |_| scope.spawn(|| read_whole(send(slow, false)));
            let streams: Vec<_> = (0..STREAMS).map(stream).collect();
            let wholes: Vec<_> = (0..STREAMS).map(whole).collect();
            wait_until("all runs", || {
                simulator.stats().runs + other_simulator.stats().runs == 2 * STREAMS
                    && begun.load(Ordering::SeqCst) == STREAMS
            });
            one.signal(Signal::KILL);
            let ends = |threads: Vec<std::thread::ScopedJoinHandle<Went>>| {
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            };
            (ends(streams), ends(wholes))
        });
        let count = |all: &[Went], went| all.iter().filter(|one| **one == went).count();
        let lost = count(&streams, Went::Broken) + count(&wholes, Went::Broken);
        assert_eq!(lost, simulator.stats().runs, "{kind:?}: {streams:?} {wholes:?}");
        assert!(lost > 0 && lost < 2 * STREAMS, "{kind:?}: both had some: {lost}");
        let runs = other_simulator.stats().runs;
        assert_eq!(runs, 2 * STREAMS - lost, "{kind:?}: none was started a second time");

        for _ in 0..6 {
            assert_eq!(send("/sim say=Hi", false).response().content(), "Hi");
        }
        assert_eq!(other_simulator.stats().runs, runs + 6, "the other one serves on");
    }
}
