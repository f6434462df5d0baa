//! Plays a capture of `langfast2api doctor --capture` back: LangFast as it was when that was recorded.
//!
//! Each HTTP call gets the answers that the same call got, in their order, the last one again and again;
//! where the capture has no sign-in or no prompt (a kept session has none), one that fits is made up. A
//! socket gets its handshake, and each run the frames that followed on its request: the ids of the
//! client's own that were in the request stand for the recorded ones, and a run that is played again has
//! jobs of its own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, body};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep, sleep_until};
use uuid::Uuid;

use super::fault::{self, Step};
use super::listener::Link;
use super::state::{Shared, State as SimulatorState};

/// How many messages may wait for a slow client before a run waits too.
const QUEUE: usize = 256;
/// How long a run waits for a socket to send its frames on.
const SOCKET_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait before something that was not ready is tried again.
const SHORT_PAUSE: Duration = Duration::from_millis(1);
/// A capture begins with this second of the clock, and speaks of times at most a month away.
const BEGIN: u64 = 946_684_800;
const MONTH: u64 = 31 * 24 * 3600;
/// Headers of the answer that the server here makes itself.
const OWN_HEADERS: [&str; 6] =
    ["connection", "content-encoding", "content-length", "date", "transfer-encoding", "upgrade"];

/// A capture that is played.
pub struct Replay {
    calls: Vec<Call>,
    sockets: Vec<Vec<SocketEvent>>,
    in_time: bool,
    playing: Mutex<Playing>,
}

/// A call and its end.
struct Call {
    request: String,
    at: f64,
    took: f64,
    asked: Value,
    /// The answer; a word instead if none came, or null.
    ended: Value,
}

/// What happened on a socket.
#[derive(Clone)]
struct SocketEvent {
    at: f64,
    what: SocketWhat,
}

#[derive(Clone)]
enum SocketWhat {
    Answer(Value),
    Frame(Message),
    /// It broke.
    Cut,
}

/// How far the capture was played.
#[derive(Default)]
struct Playing {
    /// How often each call was made.
    made: HashMap<String, usize>,
    sockets: usize,
    open: Vec<mpsc::Sender<Message>>,
}

impl Replay {
    /// Reads a capture; with `in_time` it is played at the speed at which it was recorded, else as fast
    /// as can be. The error says why the file is none.
    pub fn read(path: &Path, in_time: bool) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        text.and_then(|text| Self::parse(&text, in_time))
            .map_err(|why| format!("{}: {why}", path.display()))
    }

    fn parse(text: &str, in_time: bool) -> Result<Self, String> {
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        let lines = lines.map_err(|error| format!("a line is no JSON: {error}"))?;
        let version = lines.first().map_or(&Value::Null, |head| &head["langfast2api_capture"]);
        if *version != 1 {
            return Err("it is no capture of version 1".to_owned());
        }
        let calls = lines.iter().filter_map(Call::read).collect();
        let mut sockets: Vec<Vec<SocketEvent>> = Vec::new();
        for line in &lines {
            let Some(number) = line["socket"].as_u64() else { continue };
            let number = usize::try_from(number).unwrap_or(1).clamp(1, sockets.len() + 1);
            sockets.resize(sockets.len().max(number), Vec::new());
            sockets[number - 1].extend(SocketEvent::read(line));
        }
        Ok(Self { calls, sockets, in_time, playing: Mutex::default() })
    }

    fn playing(&self) -> MutexGuard<'_, Playing> {
        self.playing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next recorded call like this request, and how often it was played before.
    fn next(&self, request: &str) -> Option<(&Call, usize)> {
        let alike: Vec<&Call> = self.calls.iter().filter(|call| call.request == request).collect();
        let mut playing = self.playing();
        let made = playing.made.entry(request.to_owned()).or_default();
        let (index, last) = (*made, alike.len().checked_sub(1)?);
        *made += 1;
        Some((alike[index.min(last)], index.saturating_sub(last)))
    }

    fn runs(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.request.ends_with("/initiate-prompt-run"))
    }

    /// What followed on a run's request, up to the next one, but for the handshakes of sockets.
    fn frames_of(&self, run: &Call) -> Vec<SocketEvent> {
        let next = self.runs().map(|call| call.at).find(|at| *at > run.at).unwrap_or(f64::MAX);
        let all = self.sockets.iter().flatten();
        let own = all.filter(|event| event.at >= run.at && event.at < next);
        let mut own: Vec<SocketEvent> =
            own.filter(|event| !event.is_handshake()).cloned().collect();
        own.sort_by(|one, other| one.at.total_cmp(&other.at));
        own
    }

    /// What a socket gets as soon as it is there: all before a run, and the handshake.
    fn greeting(&self, number: usize) -> Vec<SocketEvent> {
        let first_run = self.runs().map(|call| call.at).next().unwrap_or(f64::MAX);
        let Some(last) = self.sockets.len().checked_sub(1) else { return Vec::new() };
        let events = self.sockets[number.min(last)].iter();
        events.filter(|event| event.is_handshake() || event.at < first_run).cloned().collect()
    }
}

impl Call {
    fn read(line: &Value) -> Option<Self> {
        let answer = line.get("answer").or(line.get("failed"));
        Some(Self {
            request: line["http"].as_str()?.to_owned(),
            at: line["ms"].as_f64()?,
            took: line["took_ms"].as_f64().unwrap_or_default(),
            asked: line["request"]["body"].clone(),
            ended: answer.cloned().unwrap_or_default(),
        })
    }
}

impl SocketEvent {
    /// What a line says of a socket; `None` for what only the client did, and for pings, which are sent
    /// when they are due.
    fn read(line: &Value) -> Option<Self> {
        let at = line["ms"].as_f64()?;
        let what = if let Some(answer) = line.get("answer") {
            SocketWhat::Answer(answer.clone())
        } else if line["from"] == "server" && line["packet"] != "2" {
            SocketWhat::Frame(frame(line)?)
        } else if ["broken", "silent"].iter().any(|how| line["ended"] == *how) {
            SocketWhat::Cut
        } else {
            return None;
        };
        Some(Self { at, what })
    }

    fn is_handshake(&self) -> bool {
        match &self.what {
            SocketWhat::Answer(_) => true,
            SocketWhat::Frame(Message::Text(frame)) => {
                frame.starts_with('0') || frame.starts_with("40") || frame.starts_with("44")
            }
            _ => false,
        }
    }
}

/// A line's frame as it is on the wire.
fn frame(line: &Value) -> Option<Message> {
    let zeroes =
        |length: &Value| vec![0; length.as_u64().unwrap_or_default().min(1 << 20) as usize];
    if let Some(close) = line.get("close") {
        let code = close["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        let reason = close["reason"].as_str().unwrap_or_default().to_owned();
        return Some(Message::Close(code.map(|code| CloseFrame { code, reason: reason.into() })));
    }
    if let Some(length) = line.get("binary") {
        return Some(Message::binary(zeroes(length)));
    }
    if let Some(text) = line["text"].as_str() {
        return Some(Message::text(text));
    }
    let mut packet = line["packet"].as_str()?.to_owned();
    if let Some(attachments) = line["attachments"].as_u64() {
        packet.push_str(&format!("{attachments}-"));
    }
    if let Some(namespace) = line["namespace"].as_str() {
        packet.push_str(&format!("{namespace},"));
    }
    if let Some(ack) = line["ack"].as_u64() {
        packet.push_str(&ack.to_string());
    }
    match (line.get("json"), line["data"].as_str()) {
        (Some(json), _) => packet.push_str(&json.to_string()),
        (None, Some(data)) => packet.push_str(data),
        (None, None) => {}
    }
    Some(Message::text(packet))
}

/// Ids of the capture, and those that stand for them.
#[derive(Clone, Default)]
struct Ids(Vec<(String, String)>);

impl Ids {
    /// Has each id of the recorded request stand for the one in its place in the real one.
    fn bind(&mut self, recorded: &Value, real: &Value) {
        match (recorded, real) {
            (Value::String(recorded), Value::String(real)) if is_id(recorded) => {
                self.0.push((recorded.clone(), real.clone()));
            }
            (Value::Object(recorded), Value::Object(real)) => {
                for (key, value) in recorded {
                    real.get(key).into_iter().for_each(|real| self.bind(value, real));
                }
            }
            _ => {}
        }
    }

    /// Has a new id stand for each of this answer that is bound to none yet.
    fn renew(&mut self, answer: &Value) {
        match answer {
            Value::String(id) if is_id(id) && !self.has(id) => {
                self.0.push((id.clone(), Uuid::new_v4().to_string()));
            }
            Value::Array(values) => values.iter().for_each(|value| self.renew(value)),
            Value::Object(fields) => fields.values().for_each(|value| self.renew(value)),
            _ => {}
        }
    }

    fn has(&self, id: &str) -> bool {
        self.0.iter().any(|(recorded, real)| recorded == id || real == id)
    }

    fn put_into(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (recorded, real)| text.replace(recorded, real))
    }
}

fn is_id(text: &str) -> bool {
    Uuid::try_parse(text).is_ok()
}

/// Answers any request but those under `/_sim/`.
pub async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(link): ConnectInfo<Link>,
    request: Request,
) -> Response {
    let replay = shared.settings.replay.clone().expect("a replay is served only if there is one");
    if request.uri().path() == "/socket.io/" {
        return socket(shared, replay, link, request).await;
    }
    let (parts, body) = request.into_parts();
    let body = body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let name = name_of(&parts.method, &parts.uri);
    match replay.next(&name) {
        Some((call, again)) => play(&shared, &replay, &link, call, again, &parts.uri, &body).await,
        None => make_up(&replay, &parts.uri),
    }
}

fn name_of(method: &Method, uri: &Uri) -> String {
    format!("{method} {}", uri.path_and_query().map_or("/", |path| path.as_str()))
}

/// Answers with a recorded call, and begins the run that it started.
async fn play(
    shared: &Arc<Shared>,
    replay: &Arc<Replay>,
    link: &Link,
    call: &Call,
    again: usize,
    uri: &Uri,
    body: &Bytes,
) -> Response {
    let began = Instant::now();
    let mut ids = Ids::default();
    ids.bind(&call.asked, &serde_json::from_slice(body).unwrap_or_default());
    if Step::of(uri) == Some(Step::Run) && again > 0 {
        ids.renew(&call.ended["body"]);
    }
    let took = Duration::from_secs_f64(call.took.max(0.0) / 1e3);
    if Step::of(uri) == Some(Step::Run) {
        let frames = replay.frames_of(call);
        let (early, late): (Vec<_>, Vec<_>) =
            frames.into_iter().partition(|event| event.at < call.at + call.took);
        let run = Run {
            shared: shared.clone(),
            replay: replay.clone(),
            ids: ids.clone(),
            began,
            at: call.at,
        };
        run.send(early).await;
        tokio::spawn(async move { run.send(late).await });
    }
    if replay.in_time {
        sleep_until(began + took).await;
    }
    if !call.ended.is_object() {
        if call.ended != "silent" && !call.ended.is_null() {
            link.reset();
        }
        return std::future::pending().await;
    }
    let response = response(&call.ended, &ids);
    if response.status().is_success() {
        shared.update(|state| count(state, uri));
    }
    response
}

fn count(state: &mut SimulatorState, uri: &Uri) {
    match Step::of(uri) {
        Some(Step::SignUp) => state.stats.signups += 1,
        Some(Step::Refresh) => state.stats.refreshes += 1,
        Some(Step::Password) => state.stats.password_logins += 1,
        Some(Step::CreatePrompt) => state.stats.prompts += 1,
        Some(Step::Run) => state.stats.runs += 1,
        Some(Step::Connect) | None => {}
    }
}

/// A recorded answer.
fn response(answer: &Value, ids: &Ids) -> Response {
    let status = answer["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let headers = answer["headers"].as_array().into_iter().flatten();
    let headers = headers.filter_map(|header| {
        let (name, value) = (header[0].as_str()?, header[1].as_str()?);
        let name = name.parse::<HeaderName>().ok()?;
        let is_own = OWN_HEADERS.contains(&name.as_str());
        Some((name, value.trim().parse::<HeaderValue>().ok()?)).filter(|_| !is_own)
    });
    let text = ["page", "text"].iter().find_map(|form| answer[*form].as_str());
    let body = match (text, answer.get("body"), answer["left_out_bytes"].as_u64()) {
        (Some(text), ..) => text.to_owned(),
        (_, Some(json), _) => ids.put_into(&in_our_time(json).to_string()),
        (.., length) => "x".repeat(length.unwrap_or_default().min(2 << 20) as usize),
    };
    fault::answer(status.unwrap_or(StatusCode::BAD_GATEWAY), headers.collect(), body)
}

/// The same JSON with its times moved to now.
fn in_our_time(value: &Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match value {
        Value::Number(number) => match number.as_u64() {
            Some(time) if time.abs_diff(BEGIN) <= MONTH => (now + time - BEGIN).into(),
            _ => value.clone(),
        },
        Value::Array(values) => values.iter().map(in_our_time).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), in_our_time(value))).collect()
        }
        _ => value.clone(),
    }
}

/// Answers what the capture does not hold, so that what it does hold comes to pass.
fn make_up(replay: &Replay, uri: &Uri) -> Response {
    let run = replay.runs().next();
    let id = |field: &str| {
        let recorded = run.and_then(|run| run.asked[field].as_str());
        recorded.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
    };
    match Step::of(uri) {
        Some(Step::SignUp | Step::Refresh | Step::Password) => {
            let other = replay.calls.iter().find(|call| call.request.starts_with("POST /auth/v1/"));
            match other.filter(|call| call.ended.is_object()) {
                Some(call) => response(&call.ended, &Ids::default()),
                None => Json(json!({
                    "access_token": "made-up-access-token",
                    "token_type": "bearer",
                    "expires_in": 3600,
                    "refresh_token": "made-up-refresh-token",
                    "user": {"id": id("created_by"), "is_anonymous": true},
                }))
                .into_response(),
            }
        }
        Some(Step::CreatePrompt) => Json(id("prompt_id")).into_response(),
        _ => {
            let body = json!({"error": "the capture has no such call"});
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
    }
}

/// A run that is played.
struct Run {
    shared: Arc<Shared>,
    replay: Arc<Replay>,
    ids: Ids,
    began: Instant,
    /// When it began in the capture, in milliseconds.
    at: f64,
}

impl Run {
    /// Sends events to whatever sockets are open when they are due.
    async fn send(&self, events: Vec<SocketEvent>) {
        for event in events {
            if self.replay.in_time {
                let after = Duration::from_secs_f64((event.at - self.at).max(0.0) / 1e3);
                sleep_until(self.began + after).await;
            }
            let sockets = self.sockets().await;
            match event.what {
                SocketWhat::Cut => {
                    self.replay.playing().open.clear();
                    self.shared.cut_sockets();
                }
                SocketWhat::Answer(_) => {}
                SocketWhat::Frame(message) => {
                    if matches!(message, Message::Close(_)) {
                        self.replay.playing().open.clear();
                    }
                    let message = self.with_ids(message);
                    for socket in sockets {
                        // A socket that has ended is no error.
                        let _ = socket.send(message.clone()).await;
                    }
                }
            }
        }
    }

    fn with_ids(&self, message: Message) -> Message {
        match message {
            Message::Text(text) => Message::text(self.ids.put_into(&text)),
            other => other,
        }
    }

    /// The open sockets; waits for one.
    async fn sockets(&self) -> Vec<mpsc::Sender<Message>> {
        let deadline = Instant::now() + SOCKET_LIMIT;
        loop {
            let open = {
                let mut playing = self.replay.playing();
                playing.open.retain(|socket| !socket.is_closed());
                playing.open.clone()
            };
            if !open.is_empty() || Instant::now() > deadline {
                return open;
            }
            sleep(SHORT_PAUSE).await;
        }
    }
}

/// Answers a handshake as the next socket of the capture was answered.
async fn socket(
    shared: Arc<Shared>,
    replay: Arc<Replay>,
    link: Link,
    request: Request,
) -> Response {
    let number = {
        let mut playing = replay.playing();
        playing.sockets += 1;
        playing.sockets - 1
    };
    let greeting = replay.greeting(number);
    let answer = greeting.iter().find_map(|event| match &event.what {
        SocketWhat::Answer(answer) => Some(answer),
        _ => None,
    });
    match answer {
        Some(answer) if answer["status"] == 101 => {
            let (mut parts, _) = request.into_parts();
            match WebSocketUpgrade::from_request_parts(&mut parts, &shared).await {
                Ok(upgrade) => upgrade.on_upgrade(|socket| serve(shared, replay, socket, greeting)),
                Err(error) => error.into_response(),
            }
        }
        Some(answer) => response(answer, &Ids::default()),
        None if replay.sockets.is_empty() => make_up(&replay, request.uri()),
        None => {
            link.reset();
            std::future::pending().await
        }
    }
}

/// A socket's life: the first packet, the client's CONNECT and the answer to it, then what runs send.
async fn serve(
    shared: Arc<Shared>,
    replay: Arc<Replay>,
    mut socket: WebSocket,
    greeting: Vec<SocketEvent>,
) {
    let frames = greeting.into_iter().filter_map(|event| match event.what {
        SocketWhat::Frame(message) => Some(Some(message)),
        SocketWhat::Cut => Some(None),
        SocketWhat::Answer(_) => None,
    });
    let frames: Vec<Option<Message>> = frames.collect();
    let opens =
        |frame: &Option<Message>| matches!(frame, Some(Message::Text(t)) if t.starts_with('0'));
    let (opening, answers): (Vec<_>, Vec<_>) = frames.into_iter().partition(opens);
    let pause = opening.iter().flatten().find_map(ping_interval).unwrap_or(Duration::from_secs(25));
    for message in opening.into_iter().flatten() {
        if socket.send(message).await.is_err() {
            return;
        }
    }
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(&message, Message::Text(text) if text.starts_with("40")) {
            break;
        }
    }
    for message in answers {
        let Some(message) = message else { return };
        let joins = matches!(&message, Message::Text(text) if text.starts_with("40"));
        let is_refusal = matches!(&message, Message::Text(text) if text.starts_with("44"));
        let (outlet, mut queue) = mpsc::channel(QUEUE);
        if joins {
            replay.playing().open.push(outlet);
            shared.update(|state| state.stats.connects += 1);
        }
        if socket.send(message).await.is_err() {
            return;
        }
        if joins {
            return hold(&mut socket, &mut queue, pause).await;
        }
        if is_refusal {
            break;
        }
    }
    while let Some(Ok(_)) = socket.recv().await {}
}

async fn hold(socket: &mut WebSocket, queue: &mut mpsc::Receiver<Message>, pause: Duration) {
    let mut pings = interval_at(Instant::now() + pause, pause);
    loop {
        let message = tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            Some(message) = queue.recv() => message,
            _ = pings.tick() => Message::text("2"),
        };
        let is_end = matches!(message, Message::Close(_));
        if socket.send(message).await.is_err() || is_end {
            return;
        }
    }
}

/// What an open packet says of the time between pings.
fn ping_interval(message: &Message) -> Option<Duration> {
    let Message::Text(text) = message else { return None };
    let open: Value = serde_json::from_str(text.strip_prefix('0')?).ok()?;
    Some(Duration::from_millis(open["pingInterval"].as_u64()?.max(1)))
}
