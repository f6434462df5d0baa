//! The state that requests share with the thread that owns the socket: who needs the socket, whether it
//! is connected, and the runs whose events it brings. Nothing in here waits for the network.
//!
//! Requests and the thread sleep on different condition variables, and none notifies the one that it
//! sleeps on itself: else the requests that wait for the socket would keep each other awake.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::api::Started;
use super::routes::{Listener, Routes, RunKey};
use super::run::{Notice, RunEvent};
use super::unwanted::Unwanted;
use crate::error::{Error, Failure, Step};
use crate::net::transport::LOOK;
use crate::observe::heartbeat::Heartbeat;
use crate::sync::{Bell, Condvar, Mutex, MutexGuard};

#[cfg(all(test, feature = "interleavings"))]
mod interleavings;

/// A request gives up after this many failed attempts to connect.
const ATTEMPTS: u64 = 2;
/// Longest pause that LangFast can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The state that the socket's thread and the requests share.
pub struct Leases {
    limits: LeaseLimits,
    /// Tells whether the user of this id is signed in now.
    is_signed_in: Box<dyn Fn(&str) -> bool + Send + Sync>,
    state: Mutex<State>,
    /// Wakes the requests that wait for the socket: it is connected, or an attempt has failed.
    news: Condvar,
    /// Wakes the thread between two attempts: a request has begun to wait, or none is left.
    needed: Condvar,
}

/// Limits of the socket and its runs.
#[derive(Clone, Copy, Debug)]
pub struct LeaseLimits {
    /// How long a request waits for the socket.
    pub connect: Duration,
    /// How long a socket that nobody needs is kept.
    pub idle: Duration,
    /// Longest text of one answer, in bytes.
    pub answer: usize,
}

struct State {
    /// Whether the thread runs.
    thread: bool,
    /// Whether the thread has to end, even if there are leases.
    closed: bool,
    /// The connected socket.
    link: Option<Link>,
    /// Number of failed attempts so far, the error of the last one, and the earliest time of the next.
    failures: u64,
    failure: Option<Error>,
    not_before: Option<Instant>,
    /// Number of leases, and of requests among them that wait for the connection.
    leases: usize,
    waiting: usize,
    /// The time at which the last lease ended.
    idle_since: Option<Instant>,
    routes: Routes,
}

/// A connected socket.
pub struct Link {
    user_id: String,
    /// Interrupts the thread that reads the socket, so that it asks what to do next.
    wake: Box<dyn Fn() + Send>,
    /// Whether the socket is of no use, because another user has signed in.
    is_former: bool,
}

impl Link {
    /// The connected socket of this user; `wake` interrupts the thread that reads it.
    pub fn new(user_id: String, wake: Box<dyn Fn() + Send>) -> Link {
        Link { user_id, wake, is_former: false }
    }
}

/// The next action of the thread that reads the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Read on, and ask again when woken, or at this time.
    ReadOn(Option<Instant>),
    /// Close the socket, for this reason: nobody needs it, or nobody can use it. No lease relies on it
    /// any more.
    Close(&'static str),
}

/// The thread's wait between two attempts to connect.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// While no request waits for the socket.
    pub full: Duration,
    /// While a request waits for the socket.
    pub hurried: Duration,
}

impl Pause {
    /// No pause.
    pub const NONE: Pause = Pause { full: Duration::ZERO, hurried: Duration::ZERO };
}

// Called by requests.
impl Leases {
    /// The state of a socket that nobody needs yet. `is_signed_in` tells whether the user of an id is
    /// signed in now.
    pub fn new(
        limits: LeaseLimits,
        is_signed_in: Box<dyn Fn(&str) -> bool + Send + Sync>,
    ) -> Arc<Leases> {
        let state = Mutex::new(State::new(limits.answer));
        let (news, needed) = (Condvar::new(), Condvar::new());
        Arc::new(Leases { limits, is_signed_in, state, news, needed })
    }

    /// Claims the socket. Calls `start_thread` if the thread does not run.
    ///
    /// # Errors
    /// The error of `start_thread`.
    pub fn lease(
        leases: &Arc<Leases>,
        start_thread: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Lease, Error> {
        let mut state = leases.lock();
        if !state.thread {
            start_thread()?;
            state.thread = true;
        }
        state.leases += 1;
        state.routes.begin_start();
        let failures = state.failures;
        drop(state);
        Ok(Lease { leases: leases.clone(), failures, gaps: Cell::default(), run: None })
    }

    /// Whether the socket is connected now.
    pub fn is_connected(&self) -> bool {
        self.lock().link.is_some()
    }

    /// Makes the thread end.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.wake_thread();
        self.needed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn wait<'a>(
    condition: &Condvar,
    state: MutexGuard<'a, State>,
    limit: Duration,
) -> MutexGuard<'a, State> {
    let waited = condition.wait_timeout(state, limit);
    waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
}

// Called by the thread.
impl Leases {
    /// Notes that the socket is connected, and wakes the requests that wait for it.
    pub fn note_link(&self, link: Link) {
        let mut state = self.lock();
        state.link = Some(link);
        state.failure = None;
        state.not_before = None;
        state.routes.note_cut(false);
        self.news.notify_all();
        drop(state);
        self.ring(&mut Vec::new());
    }

    /// Notes that an attempt to connect has failed, and wakes the requests that wait for the socket.
    pub fn note_failure(&self, error: Error) {
        let mut state = self.lock();
        state.failures += 1;
        state.not_before = told_to_wait(&error).map(|wait| Instant::now() + wait);
        state.failure = Some(error);
        self.news.notify_all();
    }

    /// Notes that the socket is lost, and tells the runs under way. Wakes no request: those that wait do so
    /// for another socket.
    pub fn note_loss(&self) {
        let mut state = self.lock();
        state.link = None;
        state.routes.note_cut(true);
        drop(state);
        self.ring(&mut Vec::new());
    }

    /// Notes that events may have been missed: see [`Routes::note_gap`].
    pub fn note_gap(&self) {
        self.lock().routes.note_gap();
    }

    /// Decides what the thread that reads the socket does next. No lease can be taken meanwhile: the
    /// next one finds the socket either kept or gone.
    pub fn look(&self) -> Instruction {
        let mut state = self.lock();
        let why = if state.closed {
            "the runner is let go"
        } else if state.link.as_ref().is_some_and(|link| link.is_former) {
            "another user has signed in"
        } else if state.leases > 0 {
            return Instruction::ReadOn(None);
        } else {
            let now = Instant::now();
            let until = state.idle_since.unwrap_or(now) + self.limits.idle;
            if now < until {
                return Instruction::ReadOn(Some(until));
            }
            "nobody needs it"
        };
        state.link = None;
        Instruction::Close(why)
    }

    /// Waits until the next attempt is due. Returns false if nobody needs the socket, so that the
    /// thread has to end.
    pub fn pause(&self, pause: Pause, heartbeat: &Heartbeat) -> bool {
        let began = Instant::now();
        let mut state = self.lock();
        loop {
            if state.closed || state.leases == 0 {
                heartbeat.rest();
                state.thread = false;
                return false;
            }
            let pause = if state.waiting > 0 { pause.hurried } else { pause.full };
            let until = state.not_before.map_or(began + pause, |at| at.max(began + pause));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            heartbeat.beat(left);
            state = wait(&self.needed, state, left);
        }
    }

    /// Rings the bells of those whose runs have had events since the last call. `spare` is empty, and kept
    /// for the next call.
    pub fn ring(&self, spare: &mut Vec<Arc<Bell>>) {
        self.lock().routes.take_due(spare);
        spare.drain(..).for_each(|bell| bell.ring());
    }

    /// Passes a packet to its run without parsing it, if possible: see [`Routes::grow`]. Rings once many are
    /// to be told, so that the first of them does not wait until all that has been read is dealt with.
    pub fn grow(&self, packet: &[u8]) -> bool {
        let mut state = self.lock();
        let is_taken = state.routes.grow(packet);
        let many = state.routes.take_many_due();
        drop(state);
        many.into_iter().flatten().for_each(|bell| bell.ring());
        is_taken
    }

    /// Passes a notice, which came in `packet`, to its run.
    pub fn dispatch(&self, packet: &str, notice: &Notice<'_>) {
        self.lock().routes.dispatch(packet, notice);
    }
}

impl State {
    fn new(answer_limit: usize) -> State {
        State {
            thread: false,
            closed: false,
            link: None,
            failures: 0,
            failure: None,
            not_before: None,
            leases: 0,
            waiting: 0,
            idle_since: None,
            routes: Routes::new(answer_limit),
        }
    }

    /// Interrupts the thread's reading, so that it asks what to do next.
    fn wake_thread(&self) {
        if let Some(link) = &self.link {
            (link.wake)();
        }
    }
}

/// A request's claim on the socket: while there is a lease, the socket is kept.
pub struct Lease {
    leases: Arc<Leases>,
    /// Number of attempts that had failed when the lease began.
    failures: u64,
    /// How often events had been missed when the socket was connected for it.
    gaps: Cell<u64>,
    /// The run that was started under it.
    run: Option<RunKey>,
}

impl Lease {
    /// Waits until the socket is connected as this user, which it has to be before a run is started.
    /// Returns false if another user has signed in since.
    ///
    /// # Errors
    /// [`Step::Connect`]: the second failed attempt, one that trying again cannot mend, or the
    /// deadline, which is the connection's and the handshakes' together. The error that `unwanted`
    /// returns.
    pub fn connected(&self, user_id: &str, unwanted: &Unwanted) -> Result<bool, Error> {
        let limit = self.leases.limits.connect;
        let deadline = Instant::now() + limit;
        let mut state = self.leases.lock();
        let mut is_waiting = false;
        let result = loop {
            if let Some(is_users) = self.link_is_of(&mut state, user_id) {
                self.gaps.set(state.routes.gaps());
                break Ok(is_users);
            }
            if let Err(why) = self.check_failures(&state).and(unwanted().map_or(Ok(()), Err)) {
                break Err(why);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let setting = "connect_timeout + request_timeout";
                break Err(Error::upstream(Step::Connect, Failure::TimedOut { setting, limit }));
            }
            if !is_waiting {
                is_waiting = true;
                state.waiting += 1;
                self.leases.needed.notify_one();
            }
            state = wait(&self.leases.news, state, left.min(LOOK));
        };
        state.waiting -= usize::from(is_waiting);
        result
    }

    /// Whether the socket is this user's; `None` if there is no socket that anybody can use.
    fn link_is_of(&self, state: &mut State, user_id: &str) -> Option<bool> {
        let link = state.link.as_mut()?;
        if link.user_id == user_id {
            return Some(true);
        }
        if (self.leases.is_signed_in)(&link.user_id) {
            return Some(false);
        }
        if !link.is_former {
            link.is_former = true;
            (link.wake)();
        }
        None
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

    /// Subscribes to the events of the run that was started under this lease, including those that have
    /// come already; `listener` is told of those that come.
    pub fn subscribe(mut self, started: Started, listener: &Listener) -> Subscription {
        let gaps = self.gaps.get();
        let (run, events) = self.leases.lock().routes.claim(started, gaps, listener.clone());
        self.run = Some(run);
        Subscription { events, _lease: self }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.leases.lock();
        match self.run {
            Some(run) => state.routes.remove(run),
            None => state.routes.end_start(),
        }
        state.leases -= 1;
        if state.leases == 0 {
            state.idle_since = Some(Instant::now());
            state.routes.shrink();
            state.wake_thread();
            self.leases.needed.notify_one();
        }
    }
}

/// The events of a run. Dropping it abandons the run here; LangFast has no known way to cancel one.
pub struct Subscription {
    /// The run's events.
    pub events: Receiver<RunEvent>,
    _lease: Lease,
}

/// Whether trying again at once cannot mend a failed attempt to connect.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Upstream { failure, .. } => match failure {
            Failure::NeedsOperator(_) | Failure::HoldOff { .. } | Failure::Refused(_) => true,
            // A request that has waited this long need not wait as long again.
            Failure::TimedOut { .. } => true,
            Failure::Status { status, .. } => *status < 500,
            _ => false,
        },
        _ => false,
    }
}

/// The pause that LangFast asks for in an error, if it does.
fn told_to_wait(error: &Error) -> Option<Duration> {
    let Error::Upstream { failure, .. } = error else { return None };
    let seconds = match failure {
        Failure::Status { status: 429 | 503, retry_after, .. } => (*retry_after)?,
        Failure::HoldOff { seconds, .. } => *seconds,
        _ => return None,
    };
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(connect: Duration) -> Arc<Leases> {
        let limits = LeaseLimits { connect, idle: Duration::ZERO, answer: 1 << 20 };
        Leases::new(limits, Box::new(|_| true))
    }

    fn failed(failure: Failure) -> Error {
        Error::upstream(Step::Connect, failure)
    }

    #[test]
    fn who_waits_for_a_run_is_woken_when_the_connection_is_lost() {
        let leases = leases(Duration::ZERO);
        let started = Started { run_id: "run".to_owned(), job_id: "job".to_owned() };
        let listener = Listener::default();
        let bell = listener.bell.clone();
        let (_, events) = {
            let mut state = leases.lock();
            state.routes.begin_start();
            state.routes.claim(started, 0, listener)
        };
        leases.note_loss();
        assert!(bell.wait(Some(Instant::now())));
        assert_eq!(events.try_recv(), Ok(RunEvent::Cut(true)));
    }

    #[test]
    fn when_many_are_to_be_told_the_first_do_not_wait_for_the_rest() {
        let leases = leases(Duration::ZERO);
        let claim = |number: usize| {
            let [run_id, job_id] = ["run", "job"].map(|kind| format!("{kind} {number:02}"));
            let listener = Listener { bell: Arc::default(), wants_each: true };
            let mut state = leases.lock();
            state.routes.begin_start();
            let bell = listener.bell.clone();
            (bell, state.routes.claim(Started { run_id, job_id }, 0, listener))
        };
        let runs: Vec<_> = (0..20).map(claim).collect();
        let is_rung = |number: usize| runs[number].0.wait(Some(Instant::now()));
        let send = |number: usize, text: &str| {
            let packet = format!(r#"{{"executionId":"job {number:02}","content":"{text}"}}"#);
            if !leases.grow(packet.as_bytes()) {
                leases.dispatch(&packet, &Notice::read("execution:chunk", &packet).unwrap());
            }
        };
        (0..20).for_each(|number| send(number, "a"));
        leases.ring(&mut Vec::new());
        assert!((0..20).all(is_rung));
        (0..20).for_each(|number| send(number, "a b"));
        assert!((0..16).all(is_rung), "they are rung while more is dealt with");
        assert!(!(16..20).any(is_rung));
        leases.ring(&mut Vec::new());
        assert!((16..20).all(is_rung));
    }

    #[test]
    fn who_has_waited_too_long_is_told_by_which_settings() {
        let lease = Leases::lease(&leases(Duration::ZERO), || Ok(())).unwrap();
        let told = lease.connected("user", &(Arc::new(|| None) as Unwanted)).unwrap_err();
        let settings = "LANGFAST2API_CONNECT_TIMEOUT + LANGFAST2API_REQUEST_TIMEOUT";
        assert!(told.to_string().contains(settings), "{told}");
    }

    #[test]
    fn however_long_langfast_wants_to_be_left_alone_it_is_so_for_an_hour_at_most() {
        let leases = leases(Duration::from_secs(60));
        let _lease = Leases::lease(&leases, || Ok(())).unwrap();
        let (message, code) = (Some("Wait".to_owned()), None);
        for failure in [
            Failure::HoldOff { message: "Wait".to_owned(), seconds: u64::MAX },
            Failure::Status { status: 429, code, message, retry_after: Some(u64::MAX) },
        ] {
            leases.note_failure(failed(failure));
            let not_before = leases.lock().not_before.unwrap();
            assert!(not_before <= Instant::now() + LONGEST_WAIT);
        }
    }

    #[test]
    fn a_thread_that_cannot_be_made_leaves_no_claim() {
        let leases = leases(Duration::from_secs(60));
        let none = || Err(Error::Overloaded("no thread".to_owned()));
        assert!(Leases::lease(&leases, none).is_err());
        let state = leases.lock();
        assert_eq!((state.thread, state.leases), (false, 0));
    }
}
