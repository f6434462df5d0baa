//! Routes, and the worker threads that tiny_http hands requests to (the only user of tiny_http).
//!
//! tiny_http listens on a private Unix socket, on which `front` sends it one sound request a
//! connection. The worker learns from the exchange what the client sent in its head.

use std::any::Any;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::access::Access;
use crate::answer::Answer;
use crate::anthropic;
use crate::completions::{Completions, Record, Reply};
use crate::dialect::Call;
use crate::error::{DEFAULT_ENVELOPE, Envelope, Error, Step};
use crate::front::{BodyLength, Exchanges, Front, Gate, Head, Limits, Listener};
use crate::heartbeat::Heartbeat;
use crate::logger;
use crate::manager::Pulse;
use crate::models::Models;
use crate::openai::{legacy, request, response, responses};
use crate::pool::Pool;
use crate::vitals::{Ended, UnderWay, Vitals};
use crate::{metrics, page, pulse};

/// A worker that has had nothing to do for this long ends, if it is not needed: of all threads it has
/// touched the most of its stack.
const WORKER_IDLE: Duration = Duration::from_secs(1);
/// A writer too. Longer, so that when the last of a burst ends, and memory is given back, the workers'
/// has become free.
const WRITER_IDLE: Duration = Duration::from_secs(10);
/// Workers that stay.
const LEAST_WORKERS: usize = 1;
/// A thread's stack: enough for a TLS handshake and for JSON as deep as serde_json reads it, also
/// without optimisation; only what is touched takes memory. As for `front`'s threads, the larger it is,
/// the fewer does glibc keep of those that have ended.
const STACK: usize = 2 * 1024 * 1024;

/// What the server answers from.
pub struct Service {
    /// The models, replaced as a whole when they are read again.
    pub models: RwLock<Arc<Models>>,
    /// Chat completions.
    pub completions: Completions,
    /// Who may come in.
    pub access: Access,
    /// What is known of the server's doings.
    pub vitals: Arc<Vitals>,
    /// Whether the metrics may be read without a key.
    pub open_metrics: bool,
}

/// How much the server does at once.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Of the connections.
    pub front: Limits,
    /// Requests that are worked on at once.
    pub requests: usize,
    /// Called when a burst of requests is over.
    pub after_burst: fn(),
}

/// The running server. Dropping it ends all connections.
pub struct Server {
    /// The clients' side.
    pub front: Front,
    workers: Arc<Workers>,
    _private: PrivateSocket,
}

impl Server {
    /// Starts to serve on `listeners`.
    ///
    /// # Errors
    /// When the private socket, a thread or a descriptor cannot be had.
    pub fn start(
        listeners: Vec<Listener>,
        service: Arc<Service>,
        limits: ServerLimits,
    ) -> io::Result<Server> {
        let (private, listener) = PrivateSocket::bind()?;
        let http = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let exchanges = Arc::new(Exchanges::default());
        let workers = Arc::new(Workers {
            http,
            exchanges: exchanges.clone(),
            service,
            most: limits.requests,
            count: Mutex::default(),
            writers: Pool::new("writer", STACK, WRITER_IDLE, limits.after_burst),
        });
        let gate = Arc::new(Admission { workers: workers.clone() });
        let path = private.path();
        let front = Front::start(listeners, path, exchanges, gate, limits.front)?;
        Ok(Server { front, workers, _private: private })
    }

    /// How the server is, for its watchdog.
    pub fn pulse(&self) -> ServerPulse {
        let mut heartbeats = self.front.heartbeats().to_vec();
        heartbeats.push(self.workers.service.completions.langfast.heartbeat());
        ServerPulse { heartbeats, workers: self.workers.clone() }
    }
}

/// How the server is: whether its accept loops, LangFast's runner and the way to the workers go on. A
/// server that is busy, even one that turns clients away, is not stuck.
pub struct ServerPulse {
    heartbeats: Vec<Arc<Heartbeat>>,
    workers: Arc<Workers>,
}

impl Pulse for ServerPulse {
    fn check(&self, grace: Duration) -> Result<(), String> {
        self.heartbeats.iter().try_for_each(|heartbeat| heartbeat.check(grace))?;
        match self.workers.exchanges.longest_wait() {
            Some(wait) if wait > grace => Err("the way to the workers is stuck".to_owned()),
            _ => Ok(()),
        }
    }

    fn status(&self) -> String {
        let requests = format!("{} requests under way", self.workers.count().permits);
        match self.workers.service.completions.langfast.session().failure() {
            Some(error) => format!("{requests}; signing in failed: {error}"),
            None => requests,
        }
    }
}

/// The private socket, in a directory that only this user can enter; both go with it.
struct PrivateSocket {
    directory: PathBuf,
}

impl PrivateSocket {
    fn bind() -> io::Result<(PrivateSocket, UnixListener)> {
        let mut failure = None;
        for base in private_places() {
            remove_stale(&base);
            let directory = base.join(format!("{PRIVATE}{:016x}", fastrand::u64(..)));
            let made = std::fs::DirBuilder::new().mode(0o700).create(&directory);
            let socket = PrivateSocket { directory };
            match made.and_then(|()| UnixListener::bind(socket.path())) {
                Ok(listener) => return Ok((socket, listener)),
                Err(error) => failure = Some((base, error)),
            }
        }
        Err(match failure {
            Some((base, error)) => {
                io::Error::other(format!("no private socket in {}: {error}", base.display()))
            }
            None => io::Error::other("no place for a private socket"),
        })
    }

    fn path(&self) -> PathBuf {
        self.directory.join("http")
    }
}

impl Drop for PrivateSocket {
    fn drop(&mut self) {
        // What is not there need not be removed.
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_dir(&self.directory);
    }
}

/// Where a socket may be put for as long as the process runs, the best place first.
fn private_places() -> Vec<PathBuf> {
    let from_env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let places = [from_env("RUNTIME_DIRECTORY"), from_env("XDG_RUNTIME_DIR")];
    let fallback = [std::env::temp_dir(), PathBuf::from("/run"), PathBuf::from("/dev/shm")];
    let fit = |place: &PathBuf| place.is_absolute() && fits_a_socket(place);
    places.into_iter().flatten().chain(fallback).filter(fit).collect()
}

/// What the names of the private directories begin with.
const PRIVATE: &str = "langfast2api-";

/// Removes what killed processes have left behind: directories of ours whose socket nobody answers.
fn remove_stale(base: &Path) {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PRIVATE)) {
        let socket = PrivateSocket { directory: entry.path() };
        let answer = UnixStream::connect(socket.path());
        // Dropping it removes it. Other users' cannot even be looked into.
        match answer.map_err(|error| error.kind()) {
            Err(io::ErrorKind::ConnectionRefused) => drop(socket),
            _ => std::mem::forget(socket),
        }
    }
}

/// A socket's path may have 107 bytes.
fn fits_a_socket(place: &Path) -> bool {
    place.as_os_str().len() + "/".len() + PRIVATE.len() + 16 + "/http".len() <= 107
}

/// What a URL means.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Root,
    Health,
    Ready,
    Models,
    Model(String),
    ChatCompletions,
    Completions,
    Status,
    StatusOfModels,
    Pulse,
    Messages,
    CountTokens,
    Responses,
    StoredResponse,
    Metrics,
}

impl Route {
    /// The route of a path, as forgiving as clients need it: a doubled slash, one at the end, and a
    /// missing `/v1` are put up with.
    fn find(path: &str) -> Option<Route> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let is_versioned = parts.first() == Some(&"v1");
        match (&parts[usize::from(is_versioned)..], is_versioned) {
            ([], false) => Some(Route::Root),
            (["healthz"], false) => Some(Route::Health),
            (["readyz"], false) => Some(Route::Ready),
            (["models"], _) => Some(Route::Models),
            (["models", name @ ..], _) => {
                let name = name.join("/");
                let name = percent_decode_str(&name).decode_utf8().ok()?;
                Some(Route::Model(name.into_owned()))
            }
            (["chat", "completions"], _) => Some(Route::ChatCompletions),
            (["completions"], _) => Some(Route::Completions),
            (["status"], false) => Some(Route::Status),
            (["status", "models"], false) => Some(Route::StatusOfModels),
            (["doctor", "stream"], _) => Some(Route::Pulse),
            (["messages"], _) => Some(Route::Messages),
            (["messages", "count_tokens"], _) => Some(Route::CountTokens),
            (["responses"], _) => Some(Route::Responses),
            (["responses", id] | ["responses", id, "input_items" | "cancel"], _)
                if id.starts_with("resp_") =>
            {
                Some(Route::StoredResponse)
            }
            (["metrics"], false) => Some(Route::Metrics),
            _ => None,
        }
    }

    /// Its name, whatever the client wrote.
    fn name(&self) -> &'static str {
        match self {
            Route::Root => "/",
            Route::Health => "/healthz",
            Route::Ready => "/readyz",
            Route::Models => "/v1/models",
            Route::Model(_) => "/v1/models/{model}",
            Route::ChatCompletions => "/v1/chat/completions",
            Route::Completions => "/v1/completions",
            Route::Status => "/status",
            Route::StatusOfModels => "/status/models",
            Route::Pulse => pulse::PATH,
            Route::Metrics => "/metrics",
            Route::Messages => "/v1/messages",
            Route::CountTokens => "/v1/messages/count_tokens",
            Route::Responses => "/v1/responses",
            Route::StoredResponse => "/v1/responses/{id}",
        }
    }

    fn methods(&self) -> &'static str {
        match self {
            Route::Pulse => "GET",
            Route::ChatCompletions
            | Route::Completions
            | Route::Responses
            | Route::Messages
            | Route::CountTokens => "POST",
            Route::StoredResponse => "GET, HEAD, POST, DELETE",
            _ => "GET, HEAD",
        }
    }

    /// Whether a key is asked for, if keys are set.
    fn is_protected(&self) -> bool {
        !matches!(self, Route::Root | Route::Health | Route::Ready)
    }

    fn allows(&self, method: &str) -> bool {
        self.methods().split(", ").any(|allowed| allowed == method)
    }
}

/// Lets requests in: those that have a route, and for which there is a worker.
struct Admission {
    workers: Arc<Workers>,
}

impl Gate for Admission {
    fn admit(&self, head: &Head) -> Result<(), Error> {
        let access = &self.workers.service.access;
        access.check_host(head)?;
        let unknown = || Error::NoSuchUrl(format!("{} {}", head.method, head.path()));
        let route = Route::find(head.path()).ok_or_else(unknown)?;
        // A preflight carries no key; it is answered for the origins that were allowed alone.
        let is_preflight = head.method == "OPTIONS" && access.allowed_origin(head).is_some();
        if !is_preflight && !route.allows(&head.method) {
            return Err(Error::WrongMethod { method: head.method.clone(), allow: route.methods() });
        }
        let is_open = route == Route::Metrics && self.workers.service.open_metrics;
        if !is_preflight && route.is_protected() && !is_open {
            access.check_key(head)?;
        }
        if head.method == "POST" {
            check_media(head)?;
        }
        Ok(())
    }

    fn permit(&self) -> Result<Box<dyn Any + Send + Sync>, Error> {
        Ok(Box::new(Workers::permit(&self.workers)?))
    }

    fn envelope(&self, head: &Head) -> Envelope {
        envelope(head)
    }

    fn note_refusal(&self, head: Option<&Head>, error: &Error) {
        let route = head.and_then(|head| Route::find(head.path()));
        self.workers.service.vitals.note_refusal(route.map(|route| route.name()), error);
    }

    fn note_connections(&self, open: usize) {
        self.workers.service.vitals.note_connections(open);
    }

    fn note_turned_away(&self) {
        self.workers.service.vitals.note_turned_away();
    }
}

/// How errors look to the client that sent this head.
fn envelope(head: &Head) -> Envelope {
    if speaks_anthropic(head) { anthropic::envelope } else { DEFAULT_ENVELOPE }
}

/// Whether a client is one of Anthropic's: by the URL, or by the header field that they all send.
fn speaks_anthropic(head: &Head) -> bool {
    let route = Route::find(head.path());
    matches!(route, Some(Route::Messages | Route::CountTokens))
        || head.header("anthropic-version").is_some()
}

/// Refuses a body that is declared as something other than plain JSON. One that is not declared is
/// taken for it.
fn check_media(head: &Head) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::BadHttp { status: 415, message });
    if let Some(encoding) = head.header("content-encoding") {
        if !encoding.trim().eq_ignore_ascii_case("identity") {
            return refuse(format!(
                "Content-Encoding {encoding} is not supported; send plain JSON"
            ));
        }
    }
    let declared = head.header("content-type").unwrap_or("application/json");
    let kind = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.is_empty() || kind == "application/json" || kind.ends_with("+json") {
        return Ok(());
    }
    refuse(format!("Content-Type {kind} is not supported; send JSON as application/json"))
}

/// The worker threads: as many as there are requests that have not got their runs yet, kept a while for
/// the next ones.
///
/// Starting a run goes deep into HTTP and TLS, and the stack that this has touched stays the thread's.
/// So the answers, which may take minutes, are written by threads of their own, which stay small.
struct Workers {
    http: tiny_http::Server,
    exchanges: Arc<Exchanges>,
    service: Arc<Service>,
    most: usize,
    count: Mutex<Count>,
    writers: Arc<Pool>,
}

#[derive(Default)]
struct Count {
    threads: usize,
    /// Requests that have or will have a worker.
    busy: usize,
    /// Requests under way.
    permits: usize,
}

/// The right to be worked on, and to a worker, so that no request waits for one in a queue. Held by the
/// exchange until both of its sides have dropped it.
struct Permit {
    workers: Arc<Workers>,
    has_worker: AtomicBool,
}

impl Permit {
    /// The worker can take another request.
    fn let_worker_go(&self) {
        if self.has_worker.swap(false, Ordering::Relaxed) {
            let mut count = self.workers.count();
            count.busy -= 1;
            self.workers.note(&count);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.let_worker_go();
        self.workers.count().permits -= 1;
    }
}

impl Workers {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(workers: &Arc<Workers>) -> Result<Permit, Error> {
        let mut count = workers.count();
        if count.permits >= workers.most {
            return Err(Error::Overloaded(format!("{} requests are under way", workers.most)));
        }
        if count.threads <= count.busy {
            let own = workers.clone();
            std::thread::Builder::new()
                .name("worker".to_owned())
                .stack_size(STACK)
                .spawn(move || own.work())
                .map_err(|e| Error::Overloaded(format!("no thread can be made ({e})")))?;
            count.threads += 1;
        }
        count.permits += 1;
        count.busy += 1;
        workers.note(&count);
        Ok(Permit { workers: workers.clone(), has_worker: AtomicBool::new(true) })
    }

    fn note(&self, count: &Count) {
        self.service.vitals.note_workers(count.threads, count.busy);
    }

    /// A worker's life.
    fn work(&self) {
        loop {
            match self.http.recv_timeout(WORKER_IDLE) {
                Ok(Some(request)) => {
                    // The panic itself is reported where it happens; here it ends one request.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.answer(request)));
                }
                Ok(None) => {
                    let mut count = self.count();
                    if count.threads > count.busy.max(LEAST_WORKERS) {
                        count.threads -= 1;
                        self.note(&count);
                        return;
                    }
                }
                Err(error) => {
                    // Its accept loop has ended, for good: nobody would be answered any more.
                    log::error!("tiny_http accepts no more ({error}); ending, to be started anew");
                    std::process::exit(1);
                }
            }
        }
    }

    fn answer(&self, mut request: tiny_http::Request) {
        let id = request.headers().iter().find(|header| header.field.equiv("X-Exchange"));
        let id = id.and_then(|header| header.value.as_str().parse().ok());
        let Some(exchange) = id.and_then(|id| self.exchanges.take(id)) else {
            // The client has gone already.
            return;
        };
        let _lines = logger::concerning(&exchange.request_id);
        // The writer drops the reader: the body comes first.
        let body = read_body(&mut request, &exchange.head);
        // Nothing is written to it: the exchange has the client's own socket, which spares each token
        // a hop. But the private connection, which lasts as long, tells `front` how long that is.
        let until_answered = request.into_writer();
        let mut answer = Answer::new(exchange.clone());
        let mut record = Record::default();
        self.service.vitals.note_received(body.as_ref().map_or(0, Vec::len));
        let begun = body.and_then(|body| self.service.answer(&body, &mut answer, &mut record));
        let service = self.service.clone();
        match begun {
            Ok(None) => service.finish(answer, &record, Ok(()), until_answered),
            Err(error) => service.finish(answer, &record, Err(error), until_answered),
            Ok(Some((reply, under_way))) => self.writers.run(Box::new(move || {
                let _lines = logger::concerning(&answer.exchange().request_id);
                let (record, result) = reply.write(&mut answer);
                drop(under_way);
                service.finish(answer, &record, result, until_answered);
            })),
        }
        if let Some(permit) = exchange.permit().downcast_ref::<Permit>() {
            permit.let_worker_go();
        }
    }
}

fn read_body(request: &mut tiny_http::Request, head: &Head) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    if head.body != BodyLength::Known(0) {
        body.reserve_exact(request.body_length().unwrap_or(0));
        request.as_reader().read_to_end(&mut body).map_err(|_| Error::ClientGone)?;
    }
    Ok(body)
}

impl Service {
    /// Answers a request, but for the reply to a call, whose runs are only started.
    fn answer(
        &self,
        body: &[u8],
        answer: &mut Answer,
        record: &mut Record,
    ) -> Result<Option<(Reply, UnderWay)>, Error> {
        let exchange = answer.exchange().clone();
        let path = exchange.head.path();
        let route = Route::find(path).ok_or_else(|| Error::NoSuchUrl(path.to_owned()))?;
        if let Some(origin) = self.access.allowed_origin(&exchange.head) {
            allow_origin(answer, origin);
            if exchange.head.method == "OPTIONS" {
                let written = preflight(answer, &exchange.head, &route);
                return written.map(|()| None).map_err(|_| Error::ClientGone);
            }
        }
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner).clone();
        let written = match route {
            Route::ChatCompletions => {
                return self.begin(&models, request::parse(body)?, answer, record).map(Some);
            }
            Route::Completions => {
                return self.begin(&models, legacy::parse(body)?, answer, record).map(Some);
            }
            Route::Messages => {
                let call = anthropic::request::parse(body)?;
                return self.begin(&models, call, answer, record).map(Some);
            }
            Route::CountTokens => {
                let request = anthropic::request::parse_to_count(body)?;
                let tokens = self.completions.estimate(&models, &request)?;
                answer.json(200, &anthropic::response::token_count(tokens))
            }
            Route::Responses => {
                return self.begin(&models, responses::parse(body)?, answer, record).map(Some);
            }
            Route::StoredResponse => {
                let why = "responses are not stored here: send the conversation with each request";
                return Err(Error::NoSuchUrl(format!("{} {path} ({why})", exchange.head.method)));
            }
            Route::Models if speaks_anthropic(&exchange.head) => {
                answer.json(200, &anthropic::response::model_list(&models))
            }
            Route::Models => answer.json(200, &response::model_list(&models)),
            Route::Model(name) => {
                let model = models.find(&name).ok_or_else(|| Error::NoSuchModel(name.clone()))?;
                let look = match speaks_anthropic(&exchange.head) {
                    true => anthropic::response::model(model, &name),
                    false => response::model(model, &name),
                };
                answer.json(200, &look)
            }
            Route::Root if page::is_wanted(&exchange.head) => page::send(answer),
            Route::Root => {
                answer.field("Vary", "Accept");
                answer.whole(200, "text/plain; charset=utf-8", ROOT)
            }
            Route::Status => {
                answer.field("Cache-Control", "no-store");
                answer.json(200, &page::status(&self.vitals, &self.completions.langfast))
            }
            Route::StatusOfModels => answer.json(200, &page::models(&models)),
            Route::Pulse => pulse::send(answer),
            Route::Metrics => metrics::send(answer, &self.vitals, &self.completions.langfast),
            Route::Ready => match self.completions.langfast.session().failure() {
                // Requests would fail alike until somebody acts or the next one succeeds.
                Some(failure) => return Err(failure),
                None => answer.json(200, OK),
            },
            Route::Health => answer.json(200, OK),
        };
        written.map(|()| None).map_err(|_| Error::ClientGone)
    }

    /// Starts the runs of a call.
    fn begin(
        &self,
        models: &Arc<Models>,
        call: Call,
        answer: &mut Answer,
        record: &mut Record,
    ) -> Result<(Reply, UnderWay), Error> {
        let under_way = self.vitals.begin_answer(call.stream);
        Ok((self.completions.create(models, call, answer, record)?, under_way))
    }

    /// Tells what went wrong if nothing has been told yet, and notes how it went.
    fn finish(
        &self,
        mut answer: Answer,
        record: &Record,
        result: Result<(), Error>,
        until_answered: Box<dyn Write + Send>,
    ) {
        if let (Err(error), None) = (&result, answer.status()) {
            // If this fails the client has gone, and cannot be told.
            let envelope = envelope(&answer.exchange().head);
            let _ = answer.error(error, envelope);
        }
        drop(until_answered);
        count_request(&self.vitals, &answer, record, result.as_ref().err());
        log_request(&answer, record, result.as_ref().err());
    }
}

/// Lets the page that asked read the answer.
fn allow_origin(answer: &mut Answer, origin: &str) {
    answer.field("Access-Control-Allow-Origin", origin);
    answer.field("Vary", "Origin");
    let exposed = "x-request-id, request-id, openai-processing-ms, x-langfast2api-ignored, \
                   x-langfast2api-json, x-langfast2api-tools, retry-after";
    answer.field("Access-Control-Expose-Headers", exposed);
}

/// Answers a preflight: whatever headers the page wants to send (SDKs send many) it may.
fn preflight(answer: &mut Answer, head: &Head, route: &Route) -> io::Result<()> {
    answer.field("Access-Control-Allow-Methods", route.methods());
    if let Some(wanted) = head.header("access-control-request-headers") {
        answer.field("Access-Control-Allow-Headers", wanted);
    }
    answer.field("Access-Control-Max-Age", "600");
    answer.empty(204)
}

const OK: &str = r#"{"status":"ok"}"#;

const ROOT: &str = concat!(
    "langfast2api ",
    env!("CARGO_PKG_VERSION"),
    ": an OpenAI-compatible API in front of LangFast.\n",
    "Point an OpenAI client at the path /v1 of this address. GET /v1/models lists the models.\n",
);

fn count_request(vitals: &Vitals, answer: &Answer, record: &Record, error: Option<&Error>) {
    let exchange = answer.exchange();
    vitals.note_request(&Ended {
        route: Route::find(exchange.head.path()).map(|route| route.name()),
        model: record.model.as_deref(),
        status: answer.status(),
        took: exchange.accepted.elapsed(),
        first_text: record.first_text,
        usage: record.usage,
        sent: answer.bytes(),
        error: error.or(record.broken.as_ref()),
    });
}

/// One line a request: what it was and how it went, nothing of what was said.
fn log_request(answer: &Answer, record: &Record, error: Option<&Error>) {
    let exchange = answer.exchange();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // An open page asks every few seconds, and Prometheus does.
    let is_routine =
        matches!(exchange.head.path(), "/status" | "/metrics") && answer.status() == Some(200);
    log::log!(
        if is_routine { log::Level::Debug } else { log::Level::Info },
        status = answer.status(),
        model = record.model.as_deref(),
        first_ms = record.first_text.map(millis),
        tools = record.tools.as_deref(),
        ms = millis(exchange.accepted.elapsed()),
        bytes = answer.bytes(),
        error = error.map(Error::cause),
        step = error.and_then(Error::step).map(Step::name);
        "{} {}",
        exchange.head.method,
        // The query may hold what nobody should read.
        exchange.head.path(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_found_as_clients_write_them() {
        for path in ["/v1/chat/completions", "//v1/chat/completions/", "/chat/completions"] {
            assert_eq!(Route::find(path), Some(Route::ChatCompletions), "{path}");
        }
        assert_eq!(Route::find("/v1/models/"), Some(Route::Models));
        assert_eq!(Route::find("/v1/models/a%2Fb"), Some(Route::Model("a/b".to_owned())));
        assert_eq!(Route::find("/"), Some(Route::Root));
        for path in ["/v1", "/v2/models", "/v1/healthz", "/v1/models/%ff", "/x"] {
            assert_eq!(Route::find(path), None, "{path}");
        }
    }
}
