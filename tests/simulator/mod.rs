//! A simulator of LangFast: its accounts, its prompts and runs, and the socket on which a run's
//! text arrives, on one TCP port of this machine.
//!
//! It is a real HTTP server and a real Socket.IO server, so whatever talks to it can talk to
//! LangFast. It knows nothing of the program under test and shares no code with it: the wire forms
//! here are literal. It checks what it is sent more strictly than LangFast may, and every fault
//! that the gateway has to survive can be asked for.
//!
//! What happens to a request, and where that is written:
//!
//! - [`listener`]: the TCP connections, which can be cut or reset from outside
//! - [`gate`]: every request: counted, perhaps answered by a [`Fault`], checked for its `apikey`
//! - [`auth`], [`accounts`]: signing in, access tokens and refresh tokens
//! - [`runs`]: creating a prompt, starting a run
//! - [`script`], [`texts`]: what the run answers, chosen by the last message: `/sim key=value …`
//! - [`model`]: or a turn of a model that calls tools, from a queue
//! - [`player`], [`event`]: the run's events, one after the other; [`variant`]: in forms not known yet
//! - [`socket_io`], [`socket_literal`]: the two ways to serve the socket: by a Socket.IO library, or
//!   by packets written by hand, for what no library would send
//! - [`replay`]: instead of all that: a capture of the real LangFast, played back
//! - [`control`]: the simulator's switches over HTTP, under `/_sim/`
//! - [`state`]: everything that is remembered
//!
//! The public interface is synchronous. The server runs on threads of its own and ends on drop.

// Every test file that includes this module uses another part of it.
#![allow(dead_code)]

mod accounts;
mod auth;
mod control;
mod event;
mod fault;
mod gate;
mod listener;
mod model;
mod player;
mod replay;
mod runs;
mod said;
mod script;
mod socket_io;
mod socket_literal;
mod state;
mod texts;
mod variant;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::ws::Message;
use axum::middleware;
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};

// For the same reason as above.
#[allow(unused_imports)]
pub use {
    fault::{Fault, Step},
    script::KEYS,
    state::Stats,
};

use listener::{Link, LinkListener};
use replay::Replay;
use state::{Settings, Shared};

/// How long [`Simulator::wait_until`] waits.
const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// How long a drop waits for the server's threads.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// A running simulator. Dropping it closes its port and every connection.
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Taken by the drop.
    runtime: Option<Runtime>,
}

/// Settings of a simulator that has not started yet; from [`Simulator::builder`].
pub struct Builder {
    listen: SocketAddr,
    settings: Settings,
}

impl Builder {
    /// Serves the socket by packets written by hand instead of by a Socket.IO library; needed by
    /// [`Simulator::emit_raw`], [`Simulator::emit_binary`] and the key `raw`.
    pub fn literal_socket(mut self) -> Self {
        self.settings.literal_socket = true;
        self
    }

    /// Offers Socket.IO's connection state recovery; literal socket only.
    pub fn recovery(mut self) -> Self {
        self.settings.recovery = true;
        self
    }

    /// Milliseconds between two pings; 25,000 by default.
    pub fn ping_interval(mut self, ms: u64) -> Self {
        self.settings.ping_interval = Duration::from_millis(ms);
        self
    }

    /// Milliseconds that a client has for its pong; 20,000 by default.
    pub fn ping_timeout(mut self, ms: u64) -> Self {
        self.settings.ping_timeout = Duration::from_millis(ms);
        self
    }

    /// Seconds that an access token is valid; 3,600 by default.
    pub fn token_lifetime(mut self, seconds: u64) -> Self {
        self.settings.token_lifetime = seconds;
        self
    }

    /// Lets the parent of a refresh token that is not used yet be used again, as Supabase Auth does:
    /// whoever could not keep the new one gets it so. Without it a second use is always refused.
    pub fn parent_tokens(mut self) -> Self {
        self.settings.parent_tokens = true;
        self
    }

    /// Milliseconds between two events where the run does not say `delay=`; 5 by default.
    pub fn delay(mut self, ms: u64) -> Self {
        self.settings.delay = Duration::from_millis(ms);
        self
    }

    /// Plays a capture of `langfast2api doctor --capture` back, as fast as can be, instead of simulating
    /// anything. Panics when the file is no capture.
    pub fn replay(mut self, path: &Path) -> Self {
        self.settings.replay = Some(Arc::new(Replay::read(path, false).unwrap()));
        self
    }

    /// The same at the speed at which the capture was recorded. The error says why the file is no capture.
    pub fn replay_in_time(mut self, path: &Path) -> Result<Self, String> {
        self.settings.replay = Some(Arc::new(Replay::read(path, true)?));
        Ok(self)
    }

    /// The address to listen on; 127.0.0.1 and a free port by default.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Starts the simulator; it is ready when this returns. Panics when the address is taken.
    pub fn start(self) -> Simulator {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("simulator")
            .enable_all()
            .build()
            .expect("the simulator's runtime starts");
        let listener = runtime
            .block_on(TcpListener::bind(self.listen))
            .unwrap_or_else(|error| panic!("cannot listen on {}: {error}", self.listen));
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::new(self.settings));
        let listener = LinkListener::new(listener, shared.clone());
        let service = router(&shared).into_make_service_with_connect_info::<Link>();
        runtime.spawn(async move { axum::serve(listener, service).await });
        Simulator { address, shared, runtime: Some(runtime) }
    }
}

/// The routes. What is under `/socket.io/` depends on the kind of socket.
fn router(shared: &Arc<Shared>) -> Router {
    let routes = match shared.settings.replay {
        Some(_) => control::routes().fallback(replay::answer),
        None => simulated(shared),
    };
    routes
        .layer(middleware::from_fn_with_state(shared.clone(), gate::gate))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared.clone())
}

fn simulated(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let routes = Router::new()
        .route("/auth/v1/signup", post(auth::sign_up))
        .route("/auth/v1/token", post(auth::token))
        .route("/rest/v1/rpc/create_prompt", post(runs::create_prompt))
        .route("/functions/v1/initiate-prompt-run", post(runs::initiate_prompt_run))
        .merge(control::routes());
    if shared.settings.literal_socket {
        routes.route("/socket.io/", get(socket_literal::upgrade))
    } else {
        routes.layer(socket_io::layer(shared))
    }
}

impl Simulator {
    /// Starts a simulator with the default settings.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A simulator still to be set up.
    pub fn builder() -> Builder {
        Builder { listen: SocketAddr::from(([127, 0, 0, 1], 0)), settings: Settings::default() }
    }

    /// The base URL, of the Supabase project and of the prompt runner alike.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets the next requests at this step meet this fault. Faults of one step wait in a queue.
    pub fn fault(&self, step: Step, fault: Fault) {
        self.shared.update(|state| state.faults.push(step, fault));
    }

    /// Makes every access token issued so far an expired one.
    pub fn expire_tokens(&self) {
        self.shared.update(|state| state.accounts.expire_access_tokens());
    }

    /// Disables legacy public keys: from now on only this `sb_publishable_…` is accepted.
    pub fn change_key(&self, key: &str) {
        self.shared.update(|state| state.publishable_key = Some(key.to_owned()));
    }

    /// Forgets every refresh token issued so far.
    pub fn revoke_refresh_tokens(&self) {
        self.shared.update(|state| state.accounts.forget_refresh_tokens());
    }

    /// Lets the next run answer as this says: `{"text": …, "calls": [{"name": …, "arguments": …}],
    /// "sim": …}`, see [`model::Turn`]. Turns wait in a queue, one a run.
    pub fn turn(&self, turn: Value) {
        let turn = serde_json::from_value(turn).expect("a turn");
        self.shared.update(|state| state.turns.push_back(turn));
    }

    /// Ends every WebSocket without a closing handshake, as Cloud Run does. Runs go on, unheard.
    pub fn cut_sockets(&self) {
        self.shared.cut_sockets();
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The bodies of the runs that were accepted, in order.
    pub fn runs(&self) -> Vec<Value> {
        self.shared.state().runs.clone()
    }

    /// The bodies of the prompts that were created, in order.
    pub fn prompts(&self) -> Vec<Value> {
        self.shared.state().prompts.clone()
    }

    /// Waits until the condition holds and returns the counts that met it. Panics after 10 seconds.
    pub fn wait_until(&self, condition: impl Fn(&Stats) -> bool) -> Stats {
        let (stats, met) = self.shared.wait_until(WAIT_LIMIT, condition);
        assert!(met, "the simulator waited {WAIT_LIMIT:?} in vain; it has counted {stats:?}");
        stats
    }

    /// Sends this text frame, as it is, to every connected client. Literal socket only.
    pub fn emit_raw(&self, frame: &str) {
        self.emit(Message::text(frame));
    }

    /// Sends this binary frame to every connected client. Literal socket only.
    pub fn emit_binary(&self, frame: &[u8]) {
        self.emit(Message::binary(frame.to_vec()));
    }

    fn emit(&self, message: Message) {
        assert!(self.shared.settings.literal_socket, "raw frames need literal_socket()");
        let runtime = self.runtime.as_ref().expect("the runtime lives until the drop");
        runtime.block_on(self.shared.broadcast(message));
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(SHUTDOWN_LIMIT);
        }
        // The sockets hold handlers that hold this state: break the circle.
        self.shared.update(|state| state.sockets.clear());
    }
}
