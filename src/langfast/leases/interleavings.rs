//! The requests and the runner's thread in many interleavings. The code is the real one but for the
//! socket, which is a [`Wire`] here. Time stands still: see [`crate::sync`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{self, JoinHandle};

use super::*;

const USER: &str = "user";
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);
/// A pause that ends only if somebody waits for the socket.
const UNTIL_NEEDED: Pause = Pause { full: LONG, hurried: Duration::ZERO };

/// Runs a test in interleavings that are chosen in two ways: each switch by chance, and with few switches
/// at chosen places, which finds what needs a certain order.
fn check(test: impl Fn() + Send + Sync + 'static) {
    let test = Arc::new(test);
    let again = test.clone();
    shuttle::check_random(move || again(), 2_000);
    shuttle::check_pct(move || test(), 2_000, 3);
}

/// A stand-in for a connected socket: its thread reads it until it is woken.
#[derive(Default)]
struct Wire {
    woken: Mutex<bool>,
    changed: Condvar,
    is_closed: AtomicBool,
}

impl Wire {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn read(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

/// LangFast, and the thread that connects to it.
struct World {
    leases: Arc<Leases>,
    /// The signed-in user.
    user: Arc<std::sync::Mutex<&'static str>>,
    /// Whether attempts to connect may fail, and sockets break.
    is_unsteady: bool,
    /// The sockets so far.
    wires: std::sync::Mutex<Vec<Arc<Wire>>>,
    /// Number of events that wake waiting requests: connected sockets and failed attempts.
    news: AtomicUsize,
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl World {
    fn new(idle: Duration, is_unsteady: bool) -> Arc<World> {
        let user = Arc::new(std::sync::Mutex::new(USER));
        let present = user.clone();
        let limits = LeaseLimits { connect: LONG, idle, answer: 1 << 20 };
        Arc::new(World {
            leases: Leases::new(limits, Box::new(move |user| *present.lock().unwrap() == user)),
            user,
            is_unsteady,
            wires: std::sync::Mutex::default(),
            news: AtomicUsize::new(0),
            threads: std::sync::Mutex::default(),
        })
    }

    fn lease(self: &Arc<World>) -> Lease {
        Leases::lease(&self.leases, || {
            let world = self.clone();
            self.threads.lock().unwrap().push(thread::spawn(move || world.run()));
            Ok(())
        })
        .unwrap()
    }

    /// Does what the runner's thread does.
    fn run(&self) {
        let heartbeat = Heartbeat::new("the thread");
        let mut pause = Pause::NONE;
        while self.leases.pause(pause, &heartbeat) {
            pause = self.one_socket();
        }
    }

    fn one_socket(&self) -> Pause {
        self.news.fetch_add(1, Ordering::SeqCst);
        if self.fails() {
            let failure = Failure::Broken("on purpose".to_owned());
            self.leases.note_failure(Error::upstream(Step::Connect, failure));
            return UNTIL_NEEDED;
        }
        let wire = Arc::new(Wire::default());
        self.wires.lock().unwrap().push(wire.clone());
        let user = *self.user.lock().unwrap();
        let own = wire.clone();
        self.leases.note_link(Link::new(user.to_owned(), Box::new(move || own.wake())));
        loop {
            if let Instruction::Close(_) = self.leases.look() {
                wire.is_closed.store(true, Ordering::SeqCst);
                return Pause::NONE;
            }
            if self.fails() {
                self.leases.note_loss();
                return UNTIL_NEEDED;
            }
            wire.read();
        }
    }

    fn fails(&self) -> bool {
        self.is_unsteady && thread_rng().gen_bool(0.5)
    }

    /// Waits with a lease for the socket of `user`, and checks that the lease woke only for news.
    fn connect(&self, lease: &Lease, user: &str) -> Result<bool, Error> {
        let looks = Arc::new(AtomicUsize::new(0));
        let own = looks.clone();
        let unwanted: Unwanted = Arc::new(move || {
            own.fetch_add(1, Ordering::SeqCst);
            None
        });
        let connected = lease.connected(user, &unwanted);
        let (looks, news) = (looks.load(Ordering::SeqCst), self.news.load(Ordering::SeqCst));
        assert!(looks <= news + 1, "looked {looks} times for {news} pieces of news");
        connected
    }

    /// Waits for the end of all threads: it has to come when the last lease has gone.
    fn end(&self) {
        loop {
            let Some(thread) = self.threads.lock().unwrap().pop() else { break };
            thread.join().unwrap();
        }
        assert!(!self.leases.is_connected());
    }
}

fn at_once(count: usize, request: impl Fn() + Clone + Send + 'static) {
    let requests: Vec<_> = (0..count).map(|_| thread::spawn(request.clone())).collect();
    requests.into_iter().for_each(|request| request.join().unwrap());
}

#[test]
fn who_waits_is_told_what_comes_of_it_and_nobody_wakes_for_anything_else() {
    check(|| {
        let world = World::new(Duration::ZERO, true);
        let own = world.clone();
        at_once(3, move || drop(own.connect(&own.lease(), USER)));
        world.end();
    });
}

#[test]
fn nobody_counts_on_a_socket_that_is_being_closed_because_nobody_needs_it() {
    check(|| {
        let world = World::new(Duration::ZERO, false);
        let own = world.clone();
        at_once(2, move || {
            for _ in 0..2 {
                let lease = own.lease();
                assert_eq!(own.connect(&lease, USER), Ok(true));
                let wire = own.wires.lock().unwrap().last().unwrap().clone();
                thread::yield_now();
                assert!(!wire.is_closed.load(Ordering::SeqCst));
                drop(lease);
            }
        });
        world.end();
    });
}

#[test]
fn a_socket_that_is_kept_is_left_when_another_user_signs_in_and_when_the_runner_goes() {
    check(|| {
        let world = World::new(LONG, false);
        let own = world.clone();
        let new_user = thread::spawn(move || {
            *own.user.lock().unwrap() = "another";
            assert_eq!(own.connect(&own.lease(), "another"), Ok(true));
        });
        let own = world.clone();
        at_once(2, move || drop(own.connect(&own.lease(), USER)));
        new_user.join().unwrap();
        world.leases.close();
        world.end();
    });
}

fn event(leases: &Leases, job: &str, text: &str, status: &str) {
    let packet = format!(r#"{{"executionId":"{job}","content":"{text}","status":"{status}"}}"#);
    if !leases.grow(packet.as_bytes()) {
        leases.dispatch(&packet, &Notice::read("execution:chunk", &packet).unwrap());
    }
}

fn started(job: &str) -> Started {
    Started { job_id: job.to_owned(), run_id: format!("our {job}") }
}

#[test]
fn a_run_that_was_given_up_does_not_come_back_and_the_others_lose_nothing() {
    check(|| {
        let world = World::new(LONG, false);
        let (given_up, wanted) = (world.lease(), world.lease());
        let leases = world.leases.clone();
        let langfast = thread::spawn(move || {
            for text in ["o", "on", "one"] {
                event(&leases, "given up", text, "in_progress");
                event(&leases, "wanted", text, "in_progress");
            }
            event(&leases, "wanted", "one!", "completed");
            event(&leases, "given up", "one!", "completed");
        });
        let leases = world.leases.clone();
        let gives_up = thread::spawn(move || {
            drop(given_up.subscribe(started("given up"), &Listener::default()));
            thread::yield_now();
            assert!(!leases.lock().routes.knows("given up"));
        });
        let wants = wanted.subscribe(started("wanted"), &Listener::default());
        langfast.join().unwrap();
        gives_up.join().unwrap();
        let texts = wants.events.try_iter().filter_map(|event| match event {
            RunEvent::Text(text) => Some(text),
            _ => None,
        });
        assert_eq!(texts.collect::<String>(), "one!");
        let routes_know = |id| world.leases.lock().routes.knows(id);
        assert!(routes_know("wanted") && !routes_know("given up"));
        drop(wants);
        assert!(!routes_know("wanted"));
        world.leases.close();
        world.end();
    });
}
