//! What is measured: a function a line of the table.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use langfast2api::langfast::run::Progress;
use serde_json::{Value, json};

use super::apart::Apart;
use super::client::{Client, stamp_in, unix_micros};
use super::direct::Direct;
use super::floor::{self, LongAnswer};
use super::process::Process;
use super::processor::processor;
use super::table::{Figure, percentile};

/// What the measurements have in common.
pub struct Setup {
    pub simulator: PathBuf,
    pub quick: bool,
}

/// A line of the table.
pub struct Line {
    pub number: u8,
    pub title: &'static str,
    pub rounds: usize,
    pub quick_rounds: usize,
    /// Measures the gateway at this path once.
    pub measure: fn(&Setup, &Path) -> Vec<Figure>,
}

pub const LINES: [Line; 9] = [
    Line {
        number: 1,
        title: "to the first token",
        rounds: 5,
        quick_rounds: 3,
        measure: first_token,
    },
    Line { number: 2, title: "latency a token", rounds: 5, quick_rounds: 1, measure: latency },
    Line { number: 3, title: "the front's share", rounds: 5, quick_rounds: 3, measure: front },
    Line { number: 4, title: "long answers", rounds: 5, quick_rounds: 3, measure: long_answer },
    Line { number: 5, title: "throughput", rounds: 5, quick_rounds: 1, measure: throughput },
    Line { number: 6, title: "memory", rounds: 1, quick_rounds: 1, measure: memory },
    Line { number: 7, title: "size and start", rounds: 1, quick_rounds: 1, measure: start },
    Line { number: 8, title: "many connections", rounds: 3, quick_rounds: 1, measure: crowd },
    Line { number: 9, title: "processor", rounds: 5, quick_rounds: 1, measure: processor },
];

/// A short answer, as quick as can be.
pub const SHORT: &str = "/sim events=20 delay=0";

/// How much the clients of one gateway stand on: a thread each.
pub const CLIENT_STACK: usize = 128 * 1024;

/// A gateway in front of a simulator.
pub struct World {
    // The gateway ends first.
    pub gateway: Process,
    simulator: Process,
}

impl World {
    fn start(setup: &Setup, gateway: &Path, flags: &[&str]) -> World {
        let simulator = Process::simulator(&setup.simulator);
        let gateway = Process::gateway(gateway, simulator.address, flags);
        World { gateway, simulator }
    }

    /// One that is signed in and has a socket, so that nothing is measured twice.
    pub fn warm(setup: &Setup, gateway: &Path) -> World {
        World::start(setup, gateway, &[]).warmed()
    }

    /// The same with the gateway on a core of its own.
    pub fn warm_apart(setup: &Setup, gateway: &Path, apart: &Apart) -> World {
        let simulator = Process::simulator(&setup.simulator);
        let gateway = apart.start(|| Process::gateway(gateway, simulator.address, &[]));
        World { gateway, simulator }.warmed()
    }

    fn warmed(self) -> World {
        self.client().ask(SHORT);
        self
    }

    pub fn client(&self) -> Client {
        Client::open(self.gateway.address)
    }

    fn count(&self, name: &str) -> f64 {
        let stats = Client::open(self.simulator.address).get("/_sim/stats");
        let stats: Value = serde_json::from_slice(&stats).expect("JSON");
        stats[name].as_f64().expect("a count of this name")
    }
}

pub fn figure(name: &'static str, value: f64, unit: &'static str, how: &'static str) -> Figure {
    Figure { name, unit, value, how }
}

/// Starts a client's thread.
fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    thread::Builder::new().stack_size(CLIENT_STACK).spawn_scoped(scope, body).expect("a thread")
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

// ---- 1

fn first_token(setup: &Setup, gateway: &Path) -> Vec<Figure> {
    let world = World::start(setup, gateway, &[]);
    let cold = until_first_token(&world);
    let warm = until_first_token(&world);

    let slow_world = World::start(setup, gateway, &[]);
    let cold_steps = steps_until_first_token(&slow_world);
    let warm_steps = steps_until_first_token(&slow_world);
    let requests = "simulator's count, WebSocket handshakes included";
    let steps = "time to the first token when each answer takes 100 ms longer";
    vec![
        figure("cold: HTTP requests", cold.requests, "requests", requests),
        figure("cold: Socket.IO connects", cold.connects, "connects", "simulator's count"),
        figure("cold: waits in a row", cold_steps, "round trips", steps),
        figure("cold: first token", cold.millis, "ms", "request to first token, no delay"),
        figure("warm: HTTP requests", warm.requests, "requests", requests),
        figure("warm: Socket.IO connects", warm.connects, "connects", "simulator's count"),
        figure("warm: waits in a row", warm_steps, "round trips", steps),
        figure("warm: first token", warm.millis, "ms", "request to first token, no delay"),
    ]
}

struct FirstToken {
    requests: f64,
    connects: f64,
    millis: f64,
}

fn until_first_token(world: &World) -> FirstToken {
    let before = (world.count("http_requests"), world.count("connects"));
    let millis = first_token_millis(world);
    FirstToken {
        requests: world.count("http_requests") - before.0,
        connects: world.count("connects") - before.1,
        millis,
    }
}

fn first_token_millis(world: &World) -> f64 {
    let began = Instant::now();
    let mut first = None;
    world.client().ask_stream("/sim stamp=1 events=1 delay=0", |data| {
        if stamp_in(data).is_some() {
            first.get_or_insert_with(|| micros(began) / 1e3);
        }
    });
    first.expect("a token")
}

/// How many of LangFast's answers are waited for one after the other.
fn steps_until_first_token(world: &World) -> f64 {
    const SLOWER: f64 = 100.0;
    let mut simulator = Client::open(world.simulator.address);
    for step in ["sign_up", "create_prompt", "connect", "run"] {
        let fault = json!({"step": step, "kind": "slow", "delay_ms": SLOWER as u64});
        simulator.command("/_sim/fault", &fault);
    }
    let steps = (first_token_millis(world) / SLOWER).floor();
    simulator.command("/_sim/reset", &json!({}));
    steps
}

// ---- 2

fn latency(setup: &Setup, gateway: &Path) -> Vec<Figure> {
    let world = World::warm(setup, gateway);
    let (one, direct_one) = latencies_both_ways(&world, setup, 1);
    let (many, direct_many) = latencies_both_ways(&world, setup, 100);
    let through = "simulator's stamp until the client has read it";
    let direct = "the same read from the simulator's own socket";
    let mut figures = Vec::new();
    let mut add = |names: [&'static str; 4], all: &[f64], direct_all: &[f64]| {
        let p50 = (percentile(all, 0.5), percentile(direct_all, 0.5));
        figures.push(figure(names[0], p50.0, "µs", through));
        figures.push(figure(names[1], percentile(all, 0.99), "µs", through));
        figures.push(figure(names[2], p50.1, "µs", direct));
        figures.push(figure(names[3], percentile(direct_all, 0.99), "µs", direct));
    };
    let names = ["1 stream p50", "1 stream p99", "1 stream direct p50", "1 stream direct p99"];
    add(names, &one, &direct_one);
    let names =
        ["100 streams p50", "100 streams p99", "100 streams direct p50", "100 streams direct p99"];
    add(names, &many, &direct_many);
    figures
}

/// Latencies of every token of so many streams, each of 100 tokens a second: through the gateway,
/// and without it. The first half second of each is left out, in which the others begin.
fn latencies_both_ways(world: &World, setup: &Setup, streams: usize) -> (Vec<f64>, Vec<f64>) {
    const SKIP: usize = 50;
    let events = SKIP + if setup.quick { 100 } else { 300 };
    let message = format!("/sim stamp=1 delay=10 events={events}");
    let through = thread::scope(|scope| {
        let stream = || latencies(world.gateway.address, &message, SKIP);
        let clients: Vec<_> = (0..streams).map(|_| spawn(scope, stream)).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    let direct = Direct::connect(world.simulator.address).latencies(streams, &message, SKIP);
    (through, direct)
}

fn latencies(gateway: SocketAddr, message: &str, skip: usize) -> Vec<f64> {
    let mut latencies = Vec::new();
    Client::open(gateway).ask_stream(message, |data| {
        let now = unix_micros();
        latencies.extend(stamp_in(data).map(|sent_at| now as f64 - sent_at as f64));
    });
    latencies.split_off(skip)
}

// ---- 3

fn front(setup: &Setup, gateway: &Path) -> Vec<Figure> {
    let world = World::warm(setup, gateway);
    let whole = median_of_calls(setup, || {
        let mut client = world.client();
        move || drop(client.get("/healthz"))
    });
    // What the front refuses by itself takes every step of a request but the way to a worker and back.
    let refused = median_of_calls(setup, || {
        let mut client = world.client();
        move || drop(client.get_nothing())
    });
    let by_thread = cpu_by_thread(&world, setup);
    let cpu = |name: &str| by_thread.iter().find(|(n, _)| n == name).map_or(f64::NAN, |(_, v)| *v);
    let share = 100.0 * cpu("client") / by_thread.iter().map(|(_, value)| value).sum::<f64>();
    let by_name = "its threads' CPU, 20 streams × 100 tokens/s";
    vec![
        figure("GET /healthz p50", whole, "µs", "over kept TCP: front, ticket, tiny_http, worker"),
        figure("front's own p50", refused, "µs", "GET /nowhere: refused before a worker is asked"),
        figure("behind the front p50", whole - refused, "µs", "the difference"),
        figure("front", cpu("client"), "µs CPU/token", by_name),
        figure("writer", cpu("writer"), "µs CPU/token", by_name),
        figure("runner", cpu("runner"), "µs CPU/token", by_name),
        figure("front's share", share, "% of CPU", "of these three"),
    ]
}

/// Median time of a call, in microseconds.
fn median_of_calls<F: FnMut()>(setup: &Setup, prepare: impl FnOnce() -> F) -> f64 {
    let mut call = prepare();
    let calls = if setup.quick { 1000 } else { 5000 };
    let mut timed = || {
        let began = Instant::now();
        call();
        micros(began)
    };
    let mut times: Vec<f64> = (0..calls * 11 / 10).map(|_| timed()).collect();
    // The first ones are there to warm up.
    percentile(&times.split_off(calls / 10), 0.5)
}

/// CPU time a token takes in each kind of thread, in microseconds.
fn cpu_by_thread(world: &World, setup: &Setup) -> Vec<(String, f64)> {
    let seconds = if setup.quick { 1.0 } else { 3.0 };
    let events = ((seconds + 2.0) * 100.0) as usize;
    let message = format!("/sim stamp=1 delay=10 events={events}");
    let tokens = AtomicUsize::new(0);
    let count = |_: &str| {
        tokens.fetch_add(1, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        for _ in 0..20 {
            spawn(scope, || world.client().ask_stream(&message, count));
        }
        sleep(Duration::from_secs(1));
        let before = (world.gateway.cpu_micros_by_thread(), tokens.load(Ordering::Relaxed));
        sleep(Duration::from_secs_f64(seconds));
        let after = (world.gateway.cpu_micros_by_thread(), tokens.load(Ordering::Relaxed));
        let read = (after.1 - before.1) as f64;
        let spent = |name: &str| after.0[name] - before.0.get(name).copied().unwrap_or(0.0);
        let of_tokens = ["client", "writer", "runner"].map(str::to_owned).into_iter();
        of_tokens
            .filter(|n| after.0.contains_key(n))
            .map(|n| (n.clone(), spent(&n) / read))
            .collect()
    })
}

// ---- 4

pub const LONG_BYTES: usize = 500_000;
pub const LONG_EVENTS: usize = 2000;

fn long_answer(setup: &Setup, gateway: &Path) -> Vec<Figure> {
    let world = World::warm(setup, gateway);
    let message = format!("/sim text=lorem bytes={LONG_BYTES} events={LONG_EVENTS} delay=0");
    let ask = || world.client().ask_stream(&message, |_| {});

    let rest = world.gateway.status("VmRSS");
    world.gateway.reset_peak();
    ask();
    let peak = world.gateway.status("VmHWM") - rest;

    let answers = if setup.quick { 3 } else { 5 };
    let before = world.gateway.cpu_micros();
    (0..answers).for_each(|_| ask());
    let cpu = (world.gateway.cpu_micros() - before) / f64::from(answers) / 1e3;
    drop(world);

    let events = LongAnswer::new(LONG_BYTES, LONG_EVENTS);
    let parse = events.cpu_micros(floor::parse) / 1e3;
    let compare = events.cpu_micros(floor::compare) / 1e3;
    let parsing = events.cpu_micros_in_memory(|packet| floor::parse(packet.as_bytes(), &[])) / 1e3;
    let mut progress = Progress::new(usize::MAX);
    let taking = events.cpu_micros_in_memory(|packet| floor::take(&mut progress, packet)) / 1e3;
    let text = LONG_BYTES as f64 / 1024.0;
    vec![
        figure("gateway", cpu, "ms CPU", "of an answer of 500 KB in 2,000 events"),
        figure(
            "(a) read and parse",
            parse,
            "ms CPU",
            "the bench: each event from TCP, serde Value",
        ),
        figure(
            "(b) read and compare",
            compare,
            "ms CPU",
            "the bench: from TCP, memcmp of prefixes",
        ),
        figure("gateway ÷ (a)", cpu / parse, "×", "below 1 is better than parsing"),
        figure("gateway ÷ (b)", cpu / compare, "×", "1 would be the floor"),
        figure("(c) parse alone", parsing, "ms CPU", "the same events in memory, serde Value"),
        figure("(d) the gateway's way alone", taking, "ms CPU", "the same, by its own code"),
        figure("(d) ÷ (c)", taking / parsing, "×", "what not parsing saves"),
        figure("peak memory over rest", peak, "KiB", "VmHWM of one such answer less VmRSS before"),
        figure("peak ÷ text", peak / text, "×", "the same, in texts"),
    ]
}

// ---- 5

fn throughput(setup: &Setup, gateway: &Path) -> Vec<Figure> {
    let world = World::warm(setup, gateway);
    let whole = answers_of_many(&world, setup, |client| drop(client.ask(SHORT)));
    let streamed = answers_of_many(&world, setup, |client| client.ask_stream(SHORT, |_| {}));
    let how = "50 clients, kept connections, 20 tokens, no delay";
    vec![
        figure("whole answers", whole.per_second, "answers/s", how),
        figure("  gateway's CPU", whole.cpu_micros, "µs/answer", "utime + stime"),
        figure("streamed answers", streamed.per_second, "answers/s", how),
        figure("  its CPU, streamed", streamed.cpu_micros, "µs/answer", "utime + stime"),
    ]
}

struct Throughput {
    per_second: f64,
    cpu_micros: f64,
}

fn answers_of_many(world: &World, setup: &Setup, ask: impl Fn(&mut Client) + Sync) -> Throughput {
    let span = Duration::from_secs(if setup.quick { 2 } else { 5 });
    let answers_until = |deadline: Instant| {
        let mut client = world.client();
        let asked = std::iter::from_fn(|| (Instant::now() < deadline).then(|| ask(&mut client)));
        asked.count()
    };
    let all_until = |deadline| {
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..50).map(|_| spawn(scope, || answers_until(deadline))).collect();
            clients.into_iter().map(|client| client.join().expect("a client")).sum::<usize>() as f64
        })
    };
    all_until(Instant::now() + Duration::from_millis(300));
    let (began, before) = (Instant::now(), world.gateway.cpu_micros());
    let answers = all_until(began + span);
    Throughput {
        per_second: answers / began.elapsed().as_secs_f64(),
        cpu_micros: (world.gateway.cpu_micros() - before) / answers,
    }
}

// ---- 6

fn memory(setup: &Setup, gateway: &Path) -> Vec<Figure> {
    const STREAMS: usize = 1000;
    let flags = ["--max-requests", "2000", "--max-connections", "2000"];
    let world = World::start(setup, gateway, &flags);
    let rss = || world.gateway.status("VmRSS");
    let threads = || world.gateway.status("Threads");
    let at_start = rss();
    world.client().ask(SHORT);
    let (first, threads_before) = (rss(), threads());

    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let events = if setup.quick { 16 } else { 40 };
    let message = format!("/sim stamp=1 delay=500 events={events}");
    let stream = || {
        let mut first = Some(());
        world.client().ask_stream(&message, |data| {
            if stamp_in(data).is_some() && first.take().is_some() {
                begun.fetch_add(1, Ordering::Relaxed);
            }
        });
        ended.fetch_add(1, Ordering::Relaxed);
    };
    let (at_once, threads_at_once) = thread::scope(|scope| {
        (0..STREAMS).for_each(|_| drop(spawn(scope, stream)));
        let deadline = Instant::now() + Duration::from_secs(60);
        while begun.load(Ordering::Relaxed) < STREAMS {
            assert!(Instant::now() < deadline, "only {begun:?} of {STREAMS} streams have begun");
            sleep(Duration::from_millis(10));
        }
        let figures = (rss(), threads());
        assert_eq!(ended.load(Ordering::Relaxed), 0, "streams ended before all had begun");
        figures
    });
    sleep(Duration::from_secs(if setup.quick { 5 } else { 60 }));
    let after = if setup.quick { "VmRSS 5 s after" } else { "VmRSS 60 s after" };
    let each = |all: f64, before: f64| (all - before) / STREAMS as f64;
    vec![
        figure("after start", at_start, "KiB", "VmRSS"),
        figure("after the first answer", first, "KiB", "VmRSS"),
        figure("1,000 streams", at_once, "KiB", "VmRSS when all have had a token"),
        figure("  each", each(at_once, first), "KiB/stream", "over the first answer's"),
        figure("  threads", each(threads_at_once, threads_before), "a stream", "Threads, likewise"),
        figure("after the streams", rss(), "KiB", after),
    ]
}

// ---- 7

fn start(setup: &Setup, gateway: &Path) -> Vec<Figure> {
    let simulator = Process::simulator(&setup.simulator);
    let starts = (0..20).map(|_| {
        let began = Instant::now();
        let gateway = Process::gateway(gateway, simulator.address, &[]);
        Client::open(gateway.address).get("/v1/models");
        micros(began) / 1e3
    });
    let ready = percentile(&starts.collect::<Vec<_>>(), 0.5);
    vec![
        figure("binary", size(gateway), "KiB", "the file"),
        figure("static binary", size(&static_sibling(gateway)), "KiB", "the file, if it was built"),
        figure("ready", ready, "ms", "exec until GET /v1/models is answered, p50 of 20"),
    ]
}

fn size(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(f64::NAN, |file| file.len() as f64 / 1024.0)
}

/// `target/release/program` → `target/x86_64-unknown-linux-gnu/release/program`
fn static_sibling(gateway: &Path) -> PathBuf {
    let target = gateway.ancestors().nth(2).unwrap_or(Path::new("."));
    let triple = format!("{}-unknown-linux-gnu/release", std::env::consts::ARCH);
    target.join(triple).join(gateway.file_name().unwrap_or_default())
}

// ---- 8

fn crowd(setup: &Setup, gateway: &Path) -> Vec<Figure> {
    let world = World::start(setup, gateway, &["--max-connections", "2000"]);
    let ask = || {
        let mut client = world.client();
        move || drop(client.get("/healthz"))
    };
    let alone = median_of_calls(setup, ask);
    let rss = world.gateway.status("VmRSS");
    // Each has had an answer and keeps its connection.
    let idle: Vec<Client> = (0..1000)
        .map(|_| {
            let mut client = world.client();
            client.get("/healthz");
            client
        })
        .collect();
    let beside = median_of_calls(setup, ask);
    let each = (world.gateway.status("VmRSS") - rss) / idle.len() as f64;
    drop(idle);
    let served = burst(&world);
    vec![
        figure("GET /healthz p50", alone, "µs", "alone"),
        figure("  beside 1,000 idle", beside, "µs", "with 1,000 idle kept connections"),
        figure("an idle connection", each, "KiB", "VmRSS, over none"),
        figure("200 at once, the last", served, "ms", "connect until answered, all kept alive"),
    ]
}

/// 200 clients connect together, ask, and keep their connections: until the last has its answer.
fn burst(world: &World) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..200)
            .map(|_| {
                spawn(scope, || {
                    let mut client = world.client();
                    client.get("/healthz");
                    client
                })
            })
            .collect();
        let kept: Vec<Client> =
            clients.into_iter().map(|client| client.join().expect("it is served")).collect();
        let took = micros(began) / 1e3;
        drop(kept);
        took
    })
}
