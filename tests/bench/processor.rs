//! What the gateway costs in processor time and system calls, measured so that the machine's mood cancels:
//! in units of what the load client itself used in the same run, and in counts. The gateway has a core of its
//! own, if there are two.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use super::apart::Apart;
use super::client::Client;
use super::lines::{CLIENT_STACK, LONG_BYTES, LONG_EVENTS, SHORT, Setup, World, figure};
use super::process::{Process, own_cpu_micros};
use super::strace::Counts;
use super::table::Figure;

const STREAMS: usize = 100;
/// Tokens of a stream in a second.
const PACE: usize = 100;
/// How long the streams go on before anything is counted.
const LEAD: Duration = Duration::from_millis(1500);

pub fn processor(setup: &Setup, gateway: &Path) -> Vec<Figure> {
    let apart = Apart::go();
    let world = World::warm_apart(setup, gateway, &apart);
    let streams = tokens_of(setup, world.gateway.address, &world.gateway);
    let calls = calls_of(setup, &world);
    let long = long_answers(setup, &world);
    let whole = whole_answers(setup, &world);
    drop(world);
    let floor = {
        let simulator = Process::simulator(&setup.simulator);
        let shape = apart.start(|| Process::shape(simulator.address, STREAMS));
        tokens_of(setup, shape.address, &shape)
    };

    let (unit, of_clients) =
        ("× client", "the gateway's CPU ÷ the load client's, 100 streams × 100/s");
    let each = "strace -c, of the same streams; needs strace";
    let count = |name, call: &str| {
        let counted = calls.as_ref().map(|(counts, tokens)| counts.of(call) / tokens);
        figure(name, counted.unwrap_or(f64::NAN), "calls/token", each)
    };
    vec![
        figure("100 streams", streams.times_client(), unit, of_clients),
        figure("  a token", streams.each, "µs CPU", "the same, utime + stime"),
        figure(
            "  the least",
            floor.each,
            "µs CPU",
            "a thread that reads, a channel, a thread a stream",
        ),
        figure(
            "  ÷ the least",
            streams.times_client() / floor.times_client(),
            "×",
            "in units of the client",
        ),
        count("  futex", "futex"),
        count("  sched_yield", "sched_yield"),
        count("  send", "sendto"),
        count("  read", "recvfrom"),
        count("  all calls", Counts::ALL),
        figure(
            "long answers",
            long.times_client(),
            unit,
            "500 KB in 2,000 events, one after another",
        ),
        figure("  a long one", long.each / 1e3, "ms CPU", "the same, utime + stime"),
        figure("whole answers", whole.times_client(), unit, "20 tokens, no delay, 50 clients"),
        figure("  a whole one", whole.each, "µs CPU", "the same, utime + stime"),
    ]
}

/// CPU time, in microseconds: the gateway's and the load client's, and the gateway's for each token or
/// answer.
struct Spent {
    gateway: f64,
    client: f64,
    each: f64,
}

impl Spent {
    fn times_client(&self) -> f64 {
        self.gateway / self.client
    }
}

/// CPU time that is spent while `work` runs, which returns how many tokens or answers that brought.
fn spent(gateway: &Process, work: impl FnOnce() -> usize) -> Spent {
    let before = (gateway.cpu_micros(), own_cpu_micros());
    let brought = work();
    let gateway = gateway.cpu_micros() - before.0;
    Spent { gateway, client: own_cpu_micros() - before.1, each: gateway / brought as f64 }
}

/// Runs `work` beside streams in their steady state; it is given the count of tokens so far.
fn beside_streams<T>(
    address: SocketAddr,
    long: Duration,
    work: impl FnOnce(&AtomicUsize) -> T,
) -> T {
    let events = (long + 2 * LEAD).as_millis() as usize * PACE / 1000;
    let message = format!("/sim delay={} events={events}", 1000 / PACE);
    let tokens = AtomicUsize::new(0);
    let count = |_: &str| {
        tokens.fetch_add(1, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        for _ in 0..STREAMS {
            let stream = || Client::open(address).ask_stream(&message, count);
            thread::Builder::new().stack_size(CLIENT_STACK).spawn_scoped(scope, stream).unwrap();
        }
        sleep(LEAD);
        work(&tokens)
    })
}

fn span(setup: &Setup) -> Duration {
    Duration::from_secs(if setup.quick { 2 } else { 5 })
}

fn tokens_of(setup: &Setup, address: SocketAddr, gateway: &Process) -> Spent {
    let span = span(setup);
    beside_streams(address, span, |tokens| {
        spent(gateway, || {
            let before = tokens.load(Ordering::Relaxed);
            sleep(span);
            tokens.load(Ordering::Relaxed) - before
        })
    })
}

/// The system calls of streams, and how many tokens these brought; `None` without strace.
fn calls_of(setup: &Setup, world: &World) -> Option<(Counts, f64)> {
    let span = span(setup) + Duration::from_secs(4);
    beside_streams(world.gateway.address, span, |tokens| {
        let read = || tokens.load(Ordering::Relaxed);
        let (counts, tokens) = Counts::of_process(world.gateway.id(), self::span(setup), read)?;
        Some((counts, tokens as f64))
    })
}

fn long_answers(setup: &Setup, world: &World) -> Spent {
    let message = format!("/sim text=lorem bytes={LONG_BYTES} events={LONG_EVENTS} delay=0");
    let answers = if setup.quick { 5 } else { 15 };
    let mut client = world.client();
    spent(&world.gateway, || {
        (0..answers).for_each(|_| client.ask_stream(&message, |_| {}));
        answers
    })
}

fn whole_answers(setup: &Setup, world: &World) -> Spent {
    const CLIENTS: usize = 50;
    let each = if setup.quick { 40 } else { 150 };
    let ask = || {
        let mut client = world.client();
        (0..each).for_each(|_| drop(client.ask(SHORT)));
    };
    thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(ask))));
    spent(&world.gateway, || {
        thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(ask))));
        CLIENTS * each
    })
}
