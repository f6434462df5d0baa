//! The one socket to LangFast's prompt runner, shared by all runs of the signed-in user.
//!
//! A thread owns the socket: it connects when the socket is first needed, answers pings, passes each
//! event to the channel of its run, reconnects by itself while runs are under way, and closes the
//! socket when nobody has needed it for a while. It never waits for a client: the channels are
//! unbounded, and the length of an answer is limited.
//!
//! If the server offers connection state recovery (not known of LangFast), the next socket of the same
//! user asks for what was sent since the last event; else that is lost. The token is the present one in
//! either case, and another user is never given the session of the one before.

mod reading;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::acks::Acks;
use super::api::dial_failure;
use super::back_off::{BACK_OFF, BackOff};
use super::capture::Tape;
use super::join::{Joined, join};
use super::leases::{Lease, LeaseLimits, Leases, Link, Pause};
use super::not_yet::once_valid;
use super::runner_socket::RunnerSocket;
use super::session::{Grant, Session};
use super::unwanted::wanted_always;
use crate::error::meaning::Meaning;
use crate::error::{Error, Failure, Step};
use crate::langfast::socketio::Open;
use crate::net::dial::{Dialer, Endpoint};
use crate::net::waker::{Waker, Watch};
use crate::observe::heartbeat::Heartbeat;
use crate::observe::vitals::{Loss, Upstream};
use reading::{Past, Reading, SocketEnd};

/// Lower and upper bound of the silence after which the server counts as dead; the server's ping times
/// set it.
const SILENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// How long one write (a pong) may block.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a token that was refused although it was new is not exchanged for another: the token is not
/// to blame.
const NEW_TOKEN: Duration = Duration::from_secs(10);

/// Longest time of one attempt to connect, as a multiple of the connect and request timeouts together:
/// two sign-ins, each of which may be tried again and may wait for another process, and four sockets.
const LONGEST_CONNECT: u32 = 14;

/// Settings of the runner's socket.
#[derive(Clone, Debug)]
pub struct RunnerConfig {
    /// The address of the prompt runner.
    pub endpoint: Endpoint,
    /// The `Origin` header.
    pub origin: String,
    /// Deadline of the WebSocket and Socket.IO handshakes together.
    pub handshake_timeout: Duration,
    /// How long a socket that nobody needs is kept.
    pub idle: Duration,
    /// Longest text of one answer, in bytes.
    pub answer_limit: usize,
}

/// The shared socket; dropping it closes the socket and ends its thread.
pub struct Runner {
    shared: Arc<Shared>,
}

struct Shared {
    config: RunnerConfig,
    dialer: Arc<Dialer>,
    session: Arc<Session>,
    when_idle: Box<dyn Fn() + Send + Sync>,
    vitals: Arc<Upstream>,
    leases: Arc<Leases>,
    /// The access token that was refused although it was new, and when.
    refused: Mutex<Option<(String, Instant)>>,
    heartbeat: Arc<Heartbeat>,
    /// Where sockets are recorded that are still to be connected.
    tape: OnceLock<Arc<Tape>>,
}

impl Runner {
    /// Creates a runner that is not connected yet. `when_idle` is called whenever the socket's thread
    /// ends; `vitals` counts attempts to connect, and sockets connected and lost.
    pub fn new(
        config: RunnerConfig,
        dialer: Arc<Dialer>,
        session: Arc<Session>,
        when_idle: Box<dyn Fn() + Send + Sync>,
        vitals: Arc<Upstream>,
    ) -> Runner {
        let limits = LeaseLimits {
            connect: dialer.timeout() + config.handshake_timeout,
            idle: config.idle,
            answer: config.answer_limit,
        };
        let present = session.clone();
        let is_signed_in = move |user_id: &str| {
            present.present().is_some_and(|present| present.user_id == user_id)
        };
        let leases = Leases::new(limits, Box::new(is_signed_in));
        let refused = Mutex::new(None);
        let heartbeat = Arc::new(Heartbeat::new("the runner's thread"));
        let tape = OnceLock::new();
        let shared =
            Shared { config, dialer, session, when_idle, vitals, leases, refused, heartbeat, tape };
        Runner { shared: Arc::new(shared) }
    }

    /// Has all sockets recorded that are connected from now on; once a runner.
    pub fn record(&self, tape: Arc<Tape>) {
        let _ = self.shared.tape.set(tape);
    }

    /// The address that it connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.config.endpoint
    }

    /// Whether the socket is connected now.
    pub fn is_connected(&self) -> bool {
        self.shared.leases.is_connected()
    }

    /// The runner thread's heartbeat; at rest while no thread runs.
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        self.shared.heartbeat.clone()
    }

    /// Claims the socket for a run that is about to be started, and begins to connect if it is not
    /// connected.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn lease(&self) -> Result<Lease, Error> {
        Leases::lease(&self.shared.leases, || Shared::spawn(&self.shared))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.leases.close();
    }
}

impl Shared {
    fn spawn(shared: &Arc<Shared>) -> Result<(), Error> {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("runner".to_owned())
            .stack_size(1024 * 1024)
            .spawn(move || shared.run())
            .map(drop)
            .map_err(|e| Error::Overloaded(format!("no thread for the runner's socket: {e}")))
    }

    /// The thread's loop: one socket after another, as long as somebody needs one.
    fn run(&self) {
        let mut back_off = BackOff::default();
        let mut past = None;
        let mut pause = Pause::NONE;
        while self.leases.pause(pause, &self.heartbeat) {
            let timeouts = self.dialer.timeout() + self.config.handshake_timeout;
            self.heartbeat.beat(timeouts * LONGEST_CONNECT);
            let turn = catch_unwind(AssertUnwindSafe(|| self.one_socket(&mut back_off, &mut past)));
            // For what was read last.
            self.leases.ring(&mut Vec::new());
            pause = turn.unwrap_or_else(|_| {
                self.leases.note_loss();
                self.leases
                    .note_failure(Error::Internal("the runner's thread panicked".to_owned()));
                back_off.failed();
                pause_of(&back_off)
            });
        }
        (self.when_idle)();
    }

    /// Connects a socket and reads it to its end; returns how long to wait before the next one.
    fn one_socket(&self, back_off: &mut BackOff, past: &mut Option<Past>) -> Pause {
        let (joined, grant) = match self.connect(past) {
            Ok(connected) => connected,
            Err(error) => {
                log::warn!("runner: {error}");
                back_off.failed();
                self.leases.note_failure(error);
                return pause_of(back_off);
            }
        };
        let began = Instant::now();
        let Joined { socket, open, pid } = joined;
        let mut reading = Reading { socket, acks: Acks::default(), past: None };
        self.go_on(&mut reading, past.take(), pid, &grant);
        let end = match self.prepare(&mut reading.socket, &open, &grant) {
            Ok(silence) => self.read(&mut reading, silence),
            Err(error) => SocketEnd::Lost(Loss::Broken, error.to_string()),
        };
        match end {
            SocketEnd::Unwanted(why) => {
                reading.socket.close();
                log::debug!("runner: socket closed, {why}");
                Pause::NONE
            }
            SocketEnd::Lost(loss, why) => {
                *past = reading.past;
                self.leases.note_loss();
                self.vitals.note_loss(loss);
                let lasted = began.elapsed();
                log::info!("runner: socket lost after {:.1} s: {why}", lasted.as_secs_f64());
                back_off.lost(lasted);
                pause_of(back_off)
            }
        }
    }

    /// Has a new socket go on where the last one ended, if the server has taken it for the same session;
    /// else what was sent in between is lost.
    fn go_on(&self, new: &mut Reading, past: Option<Past>, pid: Option<String>, grant: &Grant) {
        let is_same =
            |past: &Past| past.had_by(&grant.user_id).is_some() && pid.as_ref() == Some(&past.pid);
        new.past = past.filter(is_same);
        if new.past.is_some() {
            log::debug!("runner: what was missed follows");
            return;
        }
        self.leases.note_gap();
        let user_id = grant.user_id.clone();
        new.past = pid.map(|pid| Past { user_id, pid, offset: String::new() });
    }

    /// Connects and joins as the signed-in user, to go on where the last socket ended. If that is refused,
    /// joins anew.
    fn connect(&self, past: &mut Option<Past>) -> Result<(Joined, Arc<Grant>), Error> {
        let connected = self.connect_renewing(past.as_ref());
        let has_asked = past.as_ref().is_some_and(|past| !past.offset.is_empty());
        if !(connected.as_ref().is_err_and(is_refused) && has_asked) {
            return connected;
        }
        log::debug!("runner: refused, once more as a new session");
        *past = None;
        self.connect_renewing(None)
    }

    /// Connects and joins as the signed-in user. A refused token is renewed once.
    fn connect_renewing(&self, past: Option<&Past>) -> Result<(Joined, Arc<Grant>), Error> {
        let unwanted = wanted_always();
        let grant = self.session.grant(&unwanted)?;
        match once_valid(&unwanted, || self.connect_as(&grant, past)) {
            Err(error) if is_refused(&error) && !self.was_refused_when_new(&grant) => {
                log::debug!("runner: refused, once more with a new token");
                let grant = self.session.renew(&grant, &unwanted)?;
                let again = self.connect_as(&grant, past);
                if again.as_ref().is_err_and(is_refused) {
                    let refused = (grant.access_token.clone(), Instant::now());
                    *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
                }
                again.map(|joined| (joined, grant))
            }
            other => other.map(|joined| (joined, grant)),
        }
    }

    fn was_refused_when_new(&self, grant: &Grant) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(token, at): &(String, Instant)| {
            *token == grant.access_token && at.elapsed() < NEW_TOKEN
        };
        refused.as_ref().is_some_and(is_it)
    }

    fn connect_as(&self, grant: &Grant, past: Option<&Past>) -> Result<Joined, Error> {
        let began = Instant::now();
        let connected = self.dial_as(grant, past);
        self.vitals.note_call(Step::Connect, &connected, began.elapsed());
        connected
    }

    fn dial_as(&self, grant: &Grant, past: Option<&Past>) -> Result<Joined, Error> {
        let fail = |failure| Error::upstream(Step::Connect, failure);
        let mut connection = self
            .dialer
            .dial(&self.config.endpoint)
            .map_err(|error| fail(dial_failure(error, self.dialer.timeout())))?;
        let limit = self.config.handshake_timeout;
        let deadline = Instant::now() + limit;
        connection.set_deadline(Some(deadline));
        let RunnerConfig { endpoint, origin, answer_limit, .. } = &self.config;
        let had = past.and_then(|past| past.had_by(&grant.user_id));
        let (token, tape) = (&grant.access_token, self.tape.get());
        let joined = join(connection, endpoint, origin, *answer_limit, token, had, tape);
        joined.map_err(|failure| match Instant::now() < deadline {
            true => fail(failure),
            false => fail(Failure::TimedOut { setting: "request_timeout", limit }),
        })
    }

    /// Sets the joined socket up for reading, and tells waiting requests that it is connected. Returns
    /// how long the server may be silent.
    fn prepare(
        &self,
        socket: &mut RunnerSocket,
        open: &Open,
        grant: &Grant,
    ) -> io::Result<Duration> {
        let silence = Duration::from_millis(open.ping_interval.saturating_add(open.ping_timeout));
        let silence = silence.clamp(SILENCE.0, SILENCE.1);
        let waker = Arc::new(Waker::new()?);
        let connection = socket.get_mut();
        connection.set_deadline(None);
        let watch = Watch::new(waker.clone(), silence).before_reads(self.bell_ringer());
        connection.set_watch(watch, WRITE_TIMEOUT)?;
        self.vitals.note_connect();
        let wake = move || waker.wake();
        self.leases.note_link(Link::new(grant.user_id.clone(), Box::new(wake)));
        Ok(silence)
    }

    /// Returns the function to call before each read: it rings for all runs that had events since the last
    /// one.
    fn bell_ringer(&self) -> Box<dyn FnMut() + Send + Sync> {
        let (leases, mut spare) = (self.leases.clone(), Vec::new());
        Box::new(move || leases.ring(&mut spare))
    }
}

fn pause_of(back_off: &BackOff) -> Pause {
    let full = back_off.next_pause();
    Pause { full, hurried: full.min(BACK_OFF) }
}

/// Whether CONNECT was refused for its token, and not for the public key, nor for too many of them.
fn is_refused(error: &Error) -> bool {
    match error {
        _ if matches!(error.meaning(), Some(Meaning::PublicKey | Meaning::IssuedInFuture)) => false,
        Error::Upstream { failure: Failure::Refused(why), .. } => !is_about_rate(why),
        _ => false,
    }
}

fn is_about_rate(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    ["limit", "quota", "too many"].iter().any(|word| why.contains(word))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use tungstenite::{Message, WebSocket};

    use super::*;
    use crate::config::Account;
    use crate::langfast::api::{Api, Started};
    use crate::langfast::join::sockets;
    use crate::langfast::leases::Subscription;
    use crate::langfast::store::Store;
    use crate::langfast::{Listener, RunEvent, wanted_always};
    use crate::net::transport::Timeouts;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A runner that would connect to `address`, where LangFast would be too.
    fn runner(address: &str, idle: Duration) -> Runner {
        let endpoint = Endpoint::parse(&format!("http://{address}")).unwrap();
        let (dialer, vitals) = (Arc::new(Dialer::new(PATIENCE)), Arc::new(Upstream::default()));
        let timeouts = Timeouts { call: PATIENCE, keep_warm: LONG };
        let key = String::new();
        let api =
            Api::new(dialer.clone(), endpoint.clone(), key.clone(), key, timeouts, vitals.clone());
        let store = Store::new("/dev/null/nowhere".into(), "test");
        let session = Session::new(Arc::new(api), store, Account::default(), PATIENCE);
        let config = RunnerConfig {
            endpoint,
            origin: String::new(),
            handshake_timeout: PATIENCE,
            idle,
            answer_limit: 1 << 20,
        };
        Runner::new(config, dialer, Arc::new(session), Box::new(|| {}), vitals)
    }

    fn reading(socket: RunnerSocket) -> Reading {
        Reading { socket, acks: Acks::default(), past: None }
    }

    fn grant(access_token: &str) -> Grant {
        Grant::for_test(access_token, "user", 3600)
    }

    fn open(ping_interval: u64) -> Open {
        Open { ping_interval, ping_timeout: ping_interval }
    }

    /// Lets the runner read what the peer sends until the socket ends, while a lease is held.
    fn read(peer_sends: impl FnOnce(WebSocket<TcpStream>) + Send) -> SocketEnd {
        let runner = runner("127.0.0.1:1", LONG);
        let _lease = Leases::lease(&runner.shared.leases, || Ok(())).unwrap();
        let (mut socket, peer) = sockets();
        std::thread::scope(|scope| {
            scope.spawn(move || peer_sends(peer));
            let silence = runner.shared.prepare(&mut socket, &open(1), &grant("token")).unwrap();
            runner.shared.read(&mut reading(socket), silence)
        })
    }

    fn send(peer: &mut WebSocket<TcpStream>, frame: &str) {
        peer.send(Message::text(frame)).unwrap();
    }

    #[test]
    fn a_socket_that_ends_is_told_apart_by_how() {
        let closed = |end: SocketEnd| matches!(end, SocketEnd::Lost(Loss::Closed, _));
        for frame in ["1", "41"] {
            // Engine.IO's close, and Socket.IO's disconnect.
            assert!(closed(read(|mut peer| send(&mut peer, frame))), "{frame}");
        }
        assert!(closed(read(|mut peer| peer.close(None).unwrap())));
        assert!(matches!(read(drop), SocketEnd::Lost(Loss::Broken, _)));
    }

    #[test]
    fn a_peer_that_says_nothing_for_as_long_as_its_pings_may_take_is_dead() {
        let runner = runner("127.0.0.1:1", LONG);
        let _lease = Leases::lease(&runner.shared.leases, || Ok(())).unwrap();
        let (mut socket, _peer) = sockets();
        let silence = runner.shared.prepare(&mut socket, &open(1), &grant("token")).unwrap();
        assert_eq!(silence, SILENCE.0, "but not sooner than this");
        let end = runner.shared.read(&mut reading(socket), silence);
        assert!(matches!(end, SocketEnd::Lost(Loss::Silent, _)), "{end:?}");
    }

    #[test]
    fn the_silence_that_is_borne_is_the_servers_own_within_bounds() {
        let runner = runner("127.0.0.1:1", LONG);
        for (ping, silence) in [(20_000, Duration::from_secs(40)), (u64::MAX, SILENCE.1)] {
            let (mut socket, _peer) = sockets();
            let borne = runner.shared.prepare(&mut socket, &open(ping), &grant("token")).unwrap();
            assert_eq!(borne, silence);
            assert!(runner.is_connected());
        }
    }

    #[test]
    fn pings_are_answered_with_their_data_and_frames_that_mean_nothing_are_passed_over() {
        let end = read(|mut peer| {
            for frame in ["", "x", "4", "42", "42[7]", "42/other,[\"execution:chunk\",{}]", "2data"]
            {
                send(&mut peer, frame);
            }
            assert_eq!(peer.read().unwrap(), Message::text("3data"));
            send(&mut peer, "1");
        });
        assert!(matches!(end, SocketEnd::Lost(Loss::Closed, _)), "{end:?}");
    }

    #[test]
    fn an_event_comes_to_the_run_that_it_names_and_what_only_grows_too() {
        let runner = runner("127.0.0.1:1", LONG);
        let subscribe = |id: &str| -> Subscription {
            let lease = Leases::lease(&runner.shared.leases, || Ok(())).unwrap();
            let started = Started { run_id: id.to_owned(), job_id: format!("job {id}") };
            lease.subscribe(started, &Listener::default())
        };
        let (one, two) = (subscribe("one"), subscribe("two"));
        let (socket, _peer) = sockets();
        let mut reading = reading(socket);
        let mut take = |id: &str, text: &str| {
            let fields = format!(r#"{{"executionId":"job {id}","content":"{text}"}}"#);
            let frame = format!(r#"42["execution:chunk",{fields}]"#);
            assert_eq!(runner.shared.take(&mut reading, frame.as_bytes()), Ok(()));
        };
        take("one", "a");
        take("two", "x");
        take("one", "ab");
        take("one", "abc");
        let texts = |run: &Subscription| -> Vec<RunEvent> { run.events.try_iter().collect() };
        let text = |text: &str| RunEvent::Text(text.to_owned());
        assert_eq!(texts(&one), [text("a"), text("b"), text("c")]);
        assert_eq!(texts(&two), [text("x")]);
    }

    #[test]
    fn a_frame_that_is_no_utf8_ends_the_socket_also_where_a_text_only_grows() {
        let runner = runner("127.0.0.1:1", LONG);
        let lease = Leases::lease(&runner.shared.leases, || Ok(())).unwrap();
        let started = Started { run_id: "run".to_owned(), job_id: "job".to_owned() };
        let run = lease.subscribe(started, &Listener::default());
        let (socket, _peer) = sockets();
        let mut reading = reading(socket);
        let mut take = |text: &[u8]| {
            let before = br#"42["execution:chunk",{"executionId":"job","content":""#;
            runner.shared.take(&mut reading, &[&before[..], text, br#""}]"#].concat())
        };
        let is_broken = |taken| matches!(taken, Err(SocketEnd::Lost(Loss::Broken, _)));
        assert!(is_broken(take(b"\xff")));
        // By then it is certain that each text is the whole one.
        (1..100).for_each(|length| assert_eq!(take(&vec![b'a'; length]), Ok(())));
        let text = ["a".repeat(99), "b".to_owned()].concat();
        assert!(is_broken(take(&[text.as_bytes(), b"\xff"].concat())));
        assert!(is_broken(take(&[text.as_bytes(), b"\xc3"].concat())));
        assert_eq!(take(&[text.as_bytes(), "é".as_bytes()].concat()), Ok(()));
        let last = run.events.try_iter().last();
        assert_eq!(last, Some(RunEvent::Text("bé".to_owned())));
    }

    #[test]
    fn a_socket_that_nobody_needs_is_closed_when_it_has_been_idle_for_long_enough() {
        let runner = runner("127.0.0.1:1", Duration::ZERO);
        let (mut socket, _peer) = sockets();
        let silence = runner.shared.prepare(&mut socket, &open(1), &grant("token")).unwrap();
        assert_eq!(
            runner.shared.read(&mut reading(socket), silence),
            SocketEnd::Unwanted("nobody needs it")
        );
        assert!(!runner.is_connected());
    }

    #[test]
    fn who_waits_for_a_socket_that_cannot_be_had_is_told_why() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let runner = runner(&closed.to_string(), LONG);
        let lease = runner.lease().unwrap();
        let told = lease.connected("user", &wanted_always()).unwrap_err();
        assert!(
            matches!(&told, Error::Upstream { failure: Failure::Unreachable(_), .. }),
            "{told}"
        );
        assert!(!runner.is_connected());
    }

    #[test]
    fn a_token_that_was_refused_as_soon_as_it_was_new_is_not_exchanged_for_another() {
        let runner = runner("127.0.0.1:1", LONG);
        assert!(!runner.shared.was_refused_when_new(&grant("token")));
        *runner.shared.refused.lock().unwrap() = Some(("token".to_owned(), Instant::now()));
        assert!(runner.shared.was_refused_when_new(&grant("token")));
        assert!(!runner.shared.was_refused_when_new(&grant("another")));
        let past = Instant::now().checked_sub(NEW_TOKEN).unwrap();
        *runner.shared.refused.lock().unwrap() = Some(("token".to_owned(), past));
        assert!(!runner.shared.was_refused_when_new(&grant("token")), "it is not new any more");
    }

    #[test]
    fn a_refusal_for_the_rate_is_no_refusal_of_the_token() {
        let refused = |why: &str| {
            is_refused(&Error::upstream(Step::Connect, Failure::Refused(why.to_owned())))
        };
        assert!(refused("jwt expired") && refused("Unauthorized"));
        for why in ["Rate limit exceeded", "Too many connections", "daily QUOTA reached"] {
            assert!(!refused(why), "{why}");
        }
        assert!(!is_refused(&Error::upstream(Step::Connect, Failure::Broken("reset".to_owned()))));
    }

    #[test]
    fn who_waits_shortens_a_long_pause() {
        let mut back_off = BackOff::default();
        (0..20).for_each(|_| back_off.failed());
        let pause = pause_of(&back_off);
        assert!(pause.full > BACK_OFF);
        assert_eq!(pause.hurried, BACK_OFF);
    }
}
