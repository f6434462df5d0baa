//! The one socket to LangFast's prompt runner, shared by all runs of the signed-in user.
//!
//! A thread owns the socket: it connects on the first need, answers pings, hands each event to the
//! channel of the run that it belongs to, reconnects by itself while runs are under way, and closes
//! the socket when nobody has needed it for a while. It never waits for a client: channels of texts
//! are unbounded, but an answer is bounded.

use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use tungstenite::Message;

use super::api::{LOOK, Started, Unwanted, dial_failure};
use super::back_off::{BACK_OFF, BackOff};
use super::dial::{Dialer, Endpoint};
use super::join::{Socket, join};
use super::routes::Routes;
use super::run::{Notice, RunEvent, with_object};
use super::session::{Grant, Session};
use crate::error::{Error, Failure, Step, clean};
use crate::heartbeat::Heartbeat;
use crate::socketio::{self, EnginePacket, Open, SocketPacket};
use crate::vitals::{Loss, Upstream};

/// The least and the most silence, as the server's ping times ask for it, until a peer is dead.
const SILENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// How long one write (a pong) may block.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A request gives up after this many failed attempts to connect.
const ATTEMPTS: u64 = 2;
/// For so long a token that was refused as soon as it was new is not exchanged for another one: it is
/// not the token's fault.
const NEW_TOKEN: Duration = Duration::from_secs(10);

/// What one attempt to connect may take at most, in connections to LangFast and requests to it: two
/// sign-ins, of which each may be tried again and wait for another process's; two sockets.
const LONGEST_CONNECT: u32 = 12;
/// What one message may take at most, in silences: it may come in pieces.
const LONGEST_MESSAGE: u32 = 4;

/// What the runner needs to know.
#[derive(Clone, Debug)]
pub struct RunnerConfig {
    /// The prompt runner.
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

/// The shared socket.
pub struct Runner {
    shared: Arc<Shared>,
}

struct Shared {
    config: RunnerConfig,
    dialer: Arc<Dialer>,
    session: Arc<Session>,
    when_idle: Box<dyn Fn() + Send + Sync>,
    vitals: Arc<Upstream>,
    state: Mutex<State>,
    changed: Condvar,
    heartbeat: Arc<Heartbeat>,
}

/// What the thread and the leases share.
struct State {
    /// Whether the thread is there.
    thread: bool,
    /// The connected socket.
    link: Option<Link>,
    /// Attempts failed so far, the last one's error, and when the next may be made at the earliest.
    failures: u64,
    failure: Option<Error>,
    not_before: Option<Instant>,
    /// The access token that was refused although it was new, and when.
    refused: Option<(String, Instant)>,
    /// Somebody waits for a connection: no long pause now.
    hurry: bool,
    /// Requests that have a use for the socket.
    leases: usize,
    idle_since: Option<Instant>,
    routes: Routes,
}

struct Link {
    user_id: String,
    /// To shut the socket down from outside of the thread.
    tcp: std::net::TcpStream,
}

impl Runner {
    /// A runner that is not connected yet. `when_idle` is called whenever the socket has been let go;
    /// `vitals` counts sockets made and lost.
    pub fn new(
        config: RunnerConfig,
        dialer: Arc<Dialer>,
        session: Arc<Session>,
        when_idle: Box<dyn Fn() + Send + Sync>,
        vitals: Arc<Upstream>,
    ) -> Runner {
        let (state, changed) = (Mutex::new(State::new(config.answer_limit)), Condvar::new());
        let heartbeat = Arc::new(Heartbeat::new("the runner's thread"));
        let shared =
            Shared { config, dialer, session, when_idle, vitals, state, changed, heartbeat };
        Runner { shared: Arc::new(shared) }
    }

    /// Where it connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.config.endpoint
    }

    /// Whether the socket is connected now.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().link.is_some()
    }

    /// That of the thread, while there is one.
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        self.shared.heartbeat.clone()
    }

    /// Claims the socket for a run that is about to be started: it begins to connect if it is not.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn lease(&self) -> Result<Lease, Error> {
        let mut state = self.shared.lock();
        if !state.thread {
            Shared::spawn(&self.shared)?;
            state.thread = true;
        }
        state.leases += 1;
        state.routes.begin_start();
        let failures = state.failures;
        Ok(Lease { shared: self.shared.clone(), failures, run: None })
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.leases = 0;
        state.idle_since = None;
        if let Some(link) = &state.link {
            let _ = link.tcp.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }
}

/// A request's claim on the socket; while there is one it is kept.
pub struct Lease {
    shared: Arc<Shared>,
    failures: u64,
    run: Option<Started>,
}

impl Lease {
    /// Waits until the socket is connected as `grant`'s user: a run must not be started before.
    /// False if another user has signed in since, so that `grant` is of no use any more.
    ///
    /// # Errors
    /// [`Step::Connect`]: the second failed attempt, one that trying again cannot mend, or the
    /// handshake's deadline. Why it is not wanted any more, if it is not.
    pub fn connected(&self, grant: &Grant, unwanted: &Unwanted) -> Result<bool, Error> {
        let limit = self.shared.dialer.timeout() + self.shared.config.handshake_timeout;
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        loop {
            match &state.link {
                Some(link) if link.user_id == grant.user_id => return Ok(true),
                Some(link) if self.shared.is_signed_in(&link.user_id) => return Ok(false),
                // It is a former user's.
                Some(link) => drop(link.tcp.shutdown(Shutdown::Both)),
                None => {}
            }
            self.check_failures(&state)?;
            if let Some(why) = unwanted() {
                return Err(why);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let setting = "LANGFAST2API_REQUEST_TIMEOUT";
                return Err(Error::upstream(Step::Connect, Failure::TimedOut { setting, limit }));
            }
            state.hurry = true;
            self.shared.changed.notify_all();
            state = self.shared.wait_for_change(state, left.min(LOOK));
        }
    }

    fn check_failures(&self, state: &State) -> Result<(), Error> {
        let Some(failure) = &state.failure else { return Ok(()) };
        let told_to_wait = state.not_before.is_some_and(|at| Instant::now() < at);
        let failed = state.failures - self.failures;
        if told_to_wait || failed >= ATTEMPTS || (failed > 0 && is_final(failure)) {
            return Err(failure.clone());
        }
        Ok(())
    }

    /// Asks for the events of the run that was started under this lease, those included that have
    /// come already.
    pub fn subscribe(mut self, started: Started) -> Subscription {
        let mut state = self.shared.lock();
        let events = state.routes.claim(&started);
        drop(state);
        self.run = Some(started);
        Subscription { events, _lease: self }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        match &self.run {
            Some(run) => state.routes.remove(run),
            None => state.routes.end_start(),
        }
        state.leases = state.leases.saturating_sub(1);
        if state.leases == 0 {
            state.idle_since = Some(Instant::now());
            state.routes.shrink();
        }
    }
}

/// A run's events. Dropping it gives the run up here; LangFast knows no way to cancel one.
pub struct Subscription {
    /// The run's events.
    pub events: Receiver<RunEvent>,
    _lease: Lease,
}

impl State {
    /// That of a runner that has not been used yet.
    fn new(answer_limit: usize) -> State {
        State {
            thread: false,
            link: None,
            failures: 0,
            failure: None,
            not_before: None,
            refused: None,
            hurry: false,
            leases: 0,
            idle_since: None,
            routes: Routes::new(answer_limit),
        }
    }
}

/// Why a socket ended.
enum End {
    /// Nobody needs it.
    Idle,
    /// It broke: why, and in words.
    Lost(Loss, String),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wait_for_change<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Duration,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, limit);
        waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }

    fn is_signed_in(&self, user_id: &str) -> bool {
        self.session.present().is_some_and(|present| present.user_id == user_id)
    }

    fn spawn(shared: &Arc<Shared>) -> Result<(), Error> {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("runner".to_owned())
            .stack_size(1024 * 1024)
            .spawn(move || shared.run())
            .map(drop)
            .map_err(|e| Error::Overloaded(format!("no thread for the runner's socket: {e}")))
    }

    /// The thread: one socket after another, as long as there is a use for one.
    fn run(&self) {
        let mut back_off = BackOff::default();
        loop {
            let timeouts = self.dialer.timeout() + self.config.handshake_timeout;
            self.heartbeat.beat(timeouts * LONGEST_CONNECT);
            let turn = catch_unwind(AssertUnwindSafe(|| self.one_socket(&mut back_off)));
            if turn.is_err() {
                self.failed(Error::Internal("the runner's thread panicked".to_owned()));
                back_off.failed();
            }
            if !self.pause(&mut back_off) {
                return (self.when_idle)();
            }
        }
    }

    fn one_socket(&self, back_off: &mut BackOff) {
        let (mut socket, open, grant) = match self.connect() {
            Ok(connected) => connected,
            Err(error) => {
                log::warn!("runner: {error}");
                back_off.failed();
                return self.failed(error);
            }
        };
        let began = Instant::now();
        let end = match self.prepare(&mut socket, &open, &grant) {
            Ok(silence) => self.read(&mut socket, silence),
            Err(error) => End::Lost(Loss::Broken, error.to_string()),
        };
        self.lock().link = None;
        let lasted = began.elapsed();
        match end {
            End::Idle => {
                let _ = socket.close(None);
                let _ = socket.flush();
                log::debug!("runner: socket closed, nobody needs it");
            }
            End::Lost(loss, why) => {
                self.vitals.note_loss(loss);
                log::info!("runner: socket lost after {:.1} s: {why}", lasted.as_secs_f64());
                back_off.lost(lasted);
            }
        }
    }

    /// Connects and joins as the signed-in user. A refused token is renewed once.
    fn connect(&self) -> Result<(Socket, Open, Arc<Grant>), Error> {
        let grant = self.session.grant()?;
        match self.connect_as(&grant) {
            Err(error) if is_refused(&error) && !self.was_refused_when_new(&grant) => {
                log::debug!("runner: refused, once more with a new token");
                let grant = self.session.renew(&grant)?;
                let again = self.connect_as(&grant);
                if again.as_ref().is_err_and(is_refused) {
                    let refused = (grant.access_token.clone(), Instant::now());
                    self.lock().refused = Some(refused);
                }
                again.map(|(socket, open)| (socket, open, grant))
            }
            other => other.map(|(socket, open)| (socket, open, grant)),
        }
    }

    fn was_refused_when_new(&self, grant: &Grant) -> bool {
        let state = self.lock();
        let is_it = |(token, at): &(String, Instant)| {
            *token == grant.access_token && at.elapsed() < NEW_TOKEN
        };
        state.refused.as_ref().is_some_and(is_it)
    }

    fn connect_as(&self, grant: &Grant) -> Result<(Socket, Open), Error> {
        let began = Instant::now();
        let connected = self.dial_as(grant);
        self.vitals.note_call(Step::Connect, &connected, began.elapsed());
        connected
    }

    fn dial_as(&self, grant: &Grant) -> Result<(Socket, Open), Error> {
        let fail = |failure| Error::upstream(Step::Connect, failure);
        let mut connection = self
            .dialer
            .dial(&self.config.endpoint)
            .map_err(|error| fail(dial_failure(error, self.dialer.timeout())))?;
        let limit = self.config.handshake_timeout;
        let deadline = Instant::now() + limit;
        connection.set_deadline(Some(deadline));
        let RunnerConfig { endpoint, origin, answer_limit, .. } = &self.config;
        let joined = join(connection, endpoint, origin, *answer_limit, &grant.access_token);
        joined.map_err(|failure| match Instant::now() < deadline {
            true => fail(failure),
            false => fail(Failure::TimedOut { setting: "LANGFAST2API_REQUEST_TIMEOUT", limit }),
        })
    }

    /// Sets the joined socket up for reading and says that it is there.
    /// Returns how long the server may be silent.
    fn prepare(
        &self,
        socket: &mut Socket,
        open: &Open,
        grant: &Grant,
    ) -> std::io::Result<Duration> {
        let silence = Duration::from_millis(open.ping_interval.saturating_add(open.ping_timeout));
        let silence = silence.clamp(SILENCE.0, SILENCE.1);
        let connection = socket.get_mut();
        connection.set_deadline(None);
        connection.set_timeouts(silence, WRITE_TIMEOUT)?;
        let link = Link { user_id: grant.user_id.clone(), tcp: connection.try_clone_tcp()? };
        let mut state = self.lock();
        self.vitals.note_connect();
        state.link = Some(link);
        state.failure = None;
        state.not_before = None;
        self.changed.notify_all();
        Ok(silence)
    }

    fn read(&self, socket: &mut Socket, silence: Duration) -> End {
        let closed = || End::Lost(Loss::Closed, "the server closed it".to_owned());
        loop {
            self.heartbeat.beat(silence * LONGEST_MESSAGE);
            let sent = match socket.read() {
                Ok(Message::Text(frame)) if self.lock().routes.grow(&frame) => Ok(()),
                Ok(Message::Text(frame)) => match socketio::parse(&frame) {
                    Ok(EnginePacket::Ping(data)) => {
                        socket.send(Message::text(socketio::pong(data)))
                    }
                    Ok(EnginePacket::Message(SocketPacket::Event { name, arguments })) => {
                        let mut inside = String::new();
                        let arguments = with_object(arguments, &mut inside);
                        if let Some(notice) = Notice::read(&name, arguments) {
                            self.lock().routes.dispatch(&frame, &notice);
                        }
                        Ok(())
                    }
                    Ok(EnginePacket::Close | EnginePacket::Message(SocketPacket::Disconnect)) => {
                        return closed();
                    }
                    Ok(_) => Ok(()),
                    Err(error) => {
                        log::debug!("runner: a frame of {} bytes: {}", frame.len(), error.0);
                        Ok(())
                    }
                },
                Ok(Message::Close(_)) => return closed(),
                Ok(_) => Ok(()),
                Err(tungstenite::Error::Io(error)) if is_timeout(&error) => {
                    return End::Lost(Loss::Silent, "no ping in time".to_owned());
                }
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                return End::Lost(Loss::Broken, clean(&error.to_string()));
            }
            if self.is_idle() {
                return End::Idle;
            }
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.lock();
        let unused = || state.idle_since.is_none_or(|since| since.elapsed() >= self.config.idle);
        state.leases == 0 && unused()
    }

    fn failed(&self, error: Error) {
        let mut state = self.lock();
        state.failures += 1;
        state.not_before = told_to_wait(&error).map(|wait| Instant::now() + wait);
        state.failure = Some(error);
        self.changed.notify_all();
    }

    /// Waits as the back-off says, less if somebody is in a hurry; false ends the thread.
    fn pause(&self, back_off: &mut BackOff) -> bool {
        let began = Instant::now();
        let pause = back_off.next_pause();
        let mut state = self.lock();
        loop {
            if state.leases == 0 {
                self.heartbeat.rest();
                state.thread = false;
                return false;
            }
            let pause = if state.hurry { pause.min(BACK_OFF) } else { pause };
            let until = state.not_before.map_or(began + pause, |at| at.max(began + pause));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Who is still in a hurry when the attempt has failed will say so again.
                state.hurry = false;
                return true;
            }
            self.heartbeat.beat(left);
            state = self.wait_for_change(state, left);
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

/// Whether CONNECT was refused, and not for its rate.
fn is_refused(error: &Error) -> bool {
    match error {
        Error::Upstream { failure: Failure::Refused(why), .. } => !is_about_rate(why),
        _ => false,
    }
}

fn is_about_rate(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    ["limit", "quota", "too many"].iter().any(|word| why.contains(word))
}

/// Whether a failed attempt to connect will not be mended by trying again at once.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Upstream { failure, .. } => match failure {
            Failure::NeedsOperator(_) | Failure::HoldOff { .. } | Failure::Refused(_) => true,
            // Who has waited that long need not wait as long again.
            Failure::TimedOut { .. } => true,
            Failure::Status { status, .. } => *status < 500,
            _ => false,
        },
        _ => false,
    }
}

/// How long LangFast wants to be left alone.
fn told_to_wait(error: &Error) -> Option<Duration> {
    match error {
        Error::Upstream {
            failure: Failure::Status { status: 429 | 503, retry_after, .. }, ..
        } => retry_after.map(|seconds| Duration::from_secs(seconds.min(3600))),
        Error::Upstream { failure: Failure::HoldOff { seconds, .. }, .. } => {
            Some(Duration::from_secs(*seconds))
        }
        _ => None,
    }
}
