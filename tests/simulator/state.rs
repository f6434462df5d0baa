//! Everything the simulator remembers, behind one lock, and the sockets of its users.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, Utf8Bytes};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use socketioxide::SendError;
use socketioxide::SocketError;
use socketioxide::extract::SocketRef;
use tokio::sync::mpsc;
use tokio::time::sleep;
use uuid::Uuid;

use super::accounts::Accounts;
use super::event::Event;
use super::fault::Faults;
use super::listener::Link;
use super::model::Turn;
use super::replay::Replay;

/// How long to wait before something that was not ready is tried again.
const SHORT_PAUSE: Duration = Duration::from_millis(1);

/// How long an accepted CONNECT may take until its socket is there.
const CONNECT_LIMIT: Duration = Duration::from_millis(100);

/// What was counted since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Anonymous sign-ups that succeeded.
    pub signups: usize,
    /// Refreshes that succeeded.
    pub refreshes: usize,
    /// Refreshes that were refused for their token.
    pub refused_refreshes: usize,
    /// Sign-ins by password that succeeded.
    pub password_logins: usize,
    /// Requests refused for an access token that is none, or has ended.
    pub refused_tokens: usize,
    /// Prompts created.
    pub prompts: usize,
    /// Runs accepted.
    pub runs: usize,
    /// Runs that have sent their last event.
    pub finished_runs: usize,
    /// Socket.IO CONNECTs accepted.
    pub connects: usize,
    /// Accepted sockets that are still connected.
    pub open_sockets: usize,
    /// Acknowledgements, in the order of what they acknowledge; others are not counted.
    pub acks: usize,
    /// CONNECTs that went on with a session that was lost.
    pub recoveries: usize,
    /// HTTP requests of all kinds, refused ones and WebSocket handshakes too, `/_sim/` apart.
    pub http_requests: usize,
    /// TCP connections accepted, `/_sim/` included.
    pub http_connections: usize,
}

/// What is fixed when the simulator starts.
pub struct Settings {
    pub literal_socket: bool,
    /// Whether connection state recovery is offered.
    pub recovery: bool,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// Seconds.
    pub token_lifetime: u64,
    /// Whether the parent of an unused refresh token may be used again.
    pub parent_tokens: bool,
    /// Between two events, where the run does not say.
    pub delay: Duration,
    /// The capture that is played back instead.
    pub replay: Option<Arc<Replay>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            literal_socket: false,
            recovery: false,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            token_lifetime: 3600,
            parent_tokens: false,
            delay: Duration::from_millis(5),
            replay: None,
        }
    }
}

/// What changes.
#[derive(Default)]
pub struct State {
    pub stats: Stats,
    /// The one public key that is accepted since legacy keys are disabled; until then any is.
    pub publishable_key: Option<String>,
    pub faults: Faults,
    pub accounts: Accounts,
    /// The bodies of the prompts created, in order.
    pub prompts: Vec<Value>,
    /// The ids of the prompts created.
    pub prompt_ids: HashSet<Uuid>,
    /// The bodies of the runs accepted, in order.
    pub runs: Vec<Value>,
    /// What the next runs answer, one a run; then they go by their last message again.
    pub turns: VecDeque<Turn>,
    /// The users of sessions that can be gone on with, by their `pid`.
    pub sessions: HashMap<String, Uuid>,
    /// The events of each user's sessions, each with its offset.
    sent: HashMap<Uuid, Vec<(String, Utf8Bytes)>>,
    /// The connected sockets of each user.
    pub sockets: HashMap<Uuid, Vec<OpenSocket>>,
    /// When each user's last CONNECT was accepted whose socket is not there yet.
    connecting: HashMap<Uuid, Instant>,
    /// The connections that asked for a WebSocket, whether or not a CONNECT has come on them.
    web_sockets: Vec<Link>,
}

impl State {
    /// Remembers a connection that asks for a WebSocket, and forgets those that have ended.
    pub fn add_web_socket(&mut self, link: Link) {
        self.web_sockets.retain(Link::is_open);
        self.web_sockets.push(link);
    }

    /// Remembers that a user's CONNECT was accepted: [`State::add_socket`] follows.
    pub fn expect_socket(&mut self, user: Uuid) {
        self.connecting.insert(user, Instant::now());
    }

    /// Adds a socket whose CONNECT was accepted.
    pub fn add_socket(&mut self, user: Uuid, id: Uuid, outlet: Outlet) {
        self.connecting.remove(&user);
        self.sockets.entry(user).or_default().push(OpenSocket { id, outlet });
        self.stats.connects += 1;
        self.stats.open_sockets += 1;
    }

    /// Removes a socket that has ended, if [`Shared::cut_sockets`] has not done so before.
    pub fn remove_socket(&mut self, user: Uuid, id: Uuid) {
        let Some(sockets) = self.sockets.get_mut(&user) else { return };
        let before = sockets.len();
        sockets.retain(|socket| socket.id != id);
        self.stats.open_sockets -= before - sockets.len();
    }

    /// Gives an event's packet an offset, and remembers it for those who miss it.
    fn stamp(&mut self, user: Uuid, frame: &Utf8Bytes) -> Utf8Bytes {
        let sent = self.sent.entry(user).or_default();
        // As with Socket.IO's own, not all are of the same length.
        let seed = if sent.len() % 3 == 2 { format!(".{}", sent.len()) } else { String::new() };
        let offset = format!("P{:x}{seed}", 0x0100_0000 + sent.len());
        let body = frame.strip_suffix(']').expect("an event's packet");
        let frame = Utf8Bytes::from(format!("{body},\"{offset}\"]"));
        sent.push((offset, frame.clone()));
        frame
    }

    /// What was sent to a user behind this offset; `None` if there is no such one.
    pub fn missed(&self, user: Uuid, offset: &str) -> Option<Vec<Utf8Bytes>> {
        let sent = self.sent.get(&user)?;
        let at = sent.iter().position(|(known, _)| known == offset)?;
        Some(sent[at + 1..].iter().map(|(_, frame)| frame.clone()).collect())
    }

    fn is_connecting(&self, user: Uuid) -> bool {
        self.connecting.get(&user).is_some_and(|since| since.elapsed() < CONNECT_LIMIT)
    }

    /// Where the events of a user's runs go.
    fn outlets(&self, user: Uuid) -> Vec<Outlet> {
        let sockets = self.sockets.get(&user);
        sockets.into_iter().flatten().map(|socket| socket.outlet.clone()).collect()
    }
}

/// A connected socket.
pub struct OpenSocket {
    id: Uuid,
    outlet: Outlet,
}

/// The way to a connected socket, by the kind of server that holds it.
#[derive(Clone)]
pub enum Outlet {
    Library(SocketRef),
    Literal(mpsc::Sender<Message>),
}

impl Outlet {
    /// Sends an event; waits while the socket's queue is full. A socket that has ended is no error.
    async fn emit(&self, event: &Event, frame: &Utf8Bytes) {
        match self {
            Self::Library(socket) => emit_by_library(socket, event).await,
            Self::Literal(queue) => drop(queue.send(Message::Text(frame.clone())).await),
        }
    }
}

/// The library refuses what does not fit its queue, so this asks again.
async fn emit_by_library(socket: &SocketRef, event: &Event) {
    let payload: &RawValue = serde_json::from_str(event.payload()).expect("an event is valid JSON");
    while let Err(SendError::Socket(SocketError::InternalChannelFull)) =
        socket.emit(event.name(), payload)
    {
        sleep(SHORT_PAUSE).await;
    }
}

/// The simulator's state, shared by all its tasks and by the test.
pub struct Shared {
    pub settings: Settings,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub fn new(settings: Settings) -> Self {
        Self { settings, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The state, to look at. A lock that a test's condition has poisoned still holds good state.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits for a change.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    pub fn stats(&self) -> Stats {
        self.state().stats.clone()
    }

    /// Waits until the counts meet a condition; returns the last ones, and whether they met it.
    pub fn wait_until(&self, limit: Duration, condition: impl Fn(&Stats) -> bool) -> (Stats, bool) {
        let deadline = Instant::now() + limit;
        let mut state = self.state();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let met = condition(&state.stats);
            if met || left.is_zero() {
                return (state.stats.clone(), met);
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends an event to every socket of a user.
    pub async fn emit(&self, user: Uuid, event: &Event) {
        let outlets = self.outlets(user).await;
        let frame = self.stamped(user, event.frame());
        for outlet in outlets {
            outlet.emit(event, &frame).await;
        }
    }

    /// An event's packet as it is sent to this user.
    fn stamped(&self, user: Uuid, frame: &Utf8Bytes) -> Utf8Bytes {
        match self.settings.recovery {
            true => self.update(|state| state.stamp(user, frame)),
            false => frame.clone(),
        }
    }

    /// Sends a message to the literal sockets of one user.
    pub async fn send(&self, user: Uuid, message: Message) {
        send_to(self.outlets(user).await, message).await;
    }

    /// Where the events of a user's runs go. The library answers a CONNECT a moment before it hands
    /// the socket over, and a quick client has started a run by then: such a socket is waited for.
    async fn outlets(&self, user: Uuid) -> Vec<Outlet> {
        while self.state().is_connecting(user) {
            sleep(SHORT_PAUSE).await;
        }
        self.state().outlets(user)
    }

    /// Sends a message to the literal sockets of all users.
    pub async fn broadcast(&self, message: Message) {
        if let (true, Message::Text(frame)) = (self.settings.recovery, &message) {
            let users: Vec<Uuid> = self.state().sessions.values().copied().collect();
            for user in users {
                let frame = self.stamped(user, frame);
                let outlets = self.state().outlets(user);
                send_to(outlets, Message::Text(frame)).await;
            }
            return;
        }
        let outlets = {
            let state = self.state();
            state.sockets.values().flatten().map(|socket| socket.outlet.clone()).collect()
        };
        send_to(outlets, message).await;
    }

    /// Ends every WebSocket at once. From here on nothing more is sent on any of them.
    pub fn cut_sockets(&self) {
        self.update(|state| {
            state.sockets.clear();
            state.stats.open_sockets = 0;
            state.web_sockets.drain(..).for_each(|link| link.cut());
        });
    }
}

async fn send_to(outlets: Vec<Outlet>, message: Message) {
    for outlet in outlets {
        if let Outlet::Literal(queue) = outlet {
            // A socket that has ended is no error.
            let _ = queue.send(message.clone()).await;
        }
    }
}
