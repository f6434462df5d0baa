//! The socket served by packets written by hand, so that it can also send what no library would.
//!
//! Of Engine.IO 4 and Socket.IO 5 it speaks what LangFast's clients need: the open packet, pings,
//! the CONNECT of the default namespace, events to the client and their acknowledgements, and connection
//! state recovery, if that is wanted. It sends no acknowledgements and takes no events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use super::socket_io::admit;
use super::state::{Outlet, Shared, State as Simulated};

/// How many messages may wait for a slow client before a run waits too.
const QUEUE: usize = 256;

/// What the open packet says that one message may hold, in bytes.
const MAX_PAYLOAD: usize = 1_000_000;

/// The session is over: the connection has failed or the client has broken the rules.
struct Over;

/// `GET /socket.io/?EIO=4&transport=websocket`
pub async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let is = |key: &str, value: &str| query.get(key).is_some_and(|found| found == value);
    if !is("transport", "websocket") {
        return refuse(0, "Transport unknown");
    }
    if !is("EIO", "4") {
        return refuse(5, "Unsupported protocol version");
    }
    upgrade.on_upgrade(|socket| Session::new(shared, socket).run())
}

/// An error in Engine.IO's form.
fn refuse(code: u8, message: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"code": code, "message": message}))).into_response()
}

/// One WebSocket.
struct Session {
    shared: Arc<Shared>,
    socket: WebSocket,
    id: Uuid,
    /// Who it is, once a CONNECT was accepted.
    user: Option<Uuid>,
    /// When the next ping is due or, while a pong is awaited, when it is too late.
    deadline: Instant,
    awaiting_pong: bool,
    /// The id of the last acknowledgement.
    acked: usize,
}

impl Session {
    fn new(shared: Arc<Shared>, socket: WebSocket) -> Self {
        let deadline = Instant::now() + shared.settings.ping_interval;
        Self {
            shared,
            socket,
            id: Uuid::new_v4(),
            user: None,
            deadline,
            awaiting_pong: false,
            acked: 0,
        }
    }

    /// The session's life. It ends without a closing handshake: the socket is just dropped.
    async fn run(mut self) {
        let (outlet, mut queue) = mpsc::channel(QUEUE);
        // Over is how every session ends.
        let _ = self.serve(outlet, &mut queue).await;
        if let Some(user) = self.user {
            self.shared.update(|state| state.remove_socket(user, self.id));
        }
    }

    /// Serves until the session is over.
    async fn serve(
        &mut self,
        outlet: mpsc::Sender<Message>,
        queue: &mut mpsc::Receiver<Message>,
    ) -> Result<(), Over> {
        self.send(self.open_packet()).await?;
        let mut batch = Vec::with_capacity(QUEUE);
        loop {
            tokio::select! {
                received = self.socket.recv() => match received {
                    Some(Ok(Message::Text(packet))) => self.receive(&packet, &outlet).await?,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Over),
                    Some(Ok(_)) => {}
                },
                _ = queue.recv_many(&mut batch, QUEUE) => self.send_all(&mut batch).await?,
                () = sleep_until(self.deadline) => self.ping().await?,
            }
        }
    }

    /// Engine.IO's first packet.
    fn open_packet(&self) -> String {
        let open = json!({
            "sid": self.id.simple().to_string(),
            "upgrades": [],
            "pingInterval": milliseconds(self.shared.settings.ping_interval),
            "pingTimeout": milliseconds(self.shared.settings.ping_timeout),
            "maxPayload": MAX_PAYLOAD,
        });
        format!("0{open}")
    }

    /// Takes a packet of the client.
    async fn receive(&mut self, packet: &str, outlet: &mpsc::Sender<Message>) -> Result<(), Over> {
        match packet {
            "3" => {
                self.awaiting_pong = false;
                self.deadline = Instant::now() + self.shared.settings.ping_interval;
                Ok(())
            }
            "1" | "41" => Err(Over),
            _ => match packet.strip_prefix("40") {
                Some(auth) => self.connect(auth, outlet).await,
                None => {
                    self.note_ack(packet);
                    Ok(())
                }
            },
        }
    }

    /// Counts an acknowledgement, if it is one and follows on the one before.
    fn note_ack(&mut self, packet: &str) {
        let id = packet.strip_prefix("43").and_then(|rest| rest.strip_suffix("[]"));
        let Some(id) = id.and_then(|id| id.parse().ok()) else { return };
        if id == self.acked + 1 {
            self.acked = id;
            self.shared.update(|state| state.stats.acks += 1);
        }
    }

    /// Answers a CONNECT; what follows its `40` is a namespace other than `/`, or the auth object.
    async fn connect(&mut self, auth: &str, outlet: &mpsc::Sender<Message>) -> Result<(), Over> {
        if auth.starts_with('/') {
            let namespace = auth.split(',').next().unwrap_or(auth);
            return self.send(format!(r#"44{namespace},{{"message":"Invalid namespace"}}"#)).await;
        }
        let auth: Option<Value> = serde_json::from_str(auth).ok();
        if self.user.is_some() {
            return Ok(());
        }
        match admit(&self.shared, auth.as_ref()) {
            Err(refusal) => {
                let error = json!({"message": refusal.to_string()});
                self.send(format!("44{error}")).await
            }
            Ok(user) => {
                self.user = Some(user);
                let outlet = Outlet::Literal(outlet.clone());
                let sid = Uuid::new_v4().simple().to_string();
                if !self.shared.settings.recovery {
                    self.shared.update(|state| state.add_socket(user, self.id, outlet));
                    return self.send(format!("40{}", json!({"sid": sid}))).await;
                }
                let had = auth.as_ref().and_then(|auth| {
                    Some((auth["pid"].as_str()?.to_owned(), auth["offset"].as_str()?.to_owned()))
                });
                let (pid, missed) = self.shared.update(|state| {
                    state.add_socket(user, self.id, outlet);
                    resume(state, user, had)
                });
                let answer = format!("40{}", json!({"sid": sid, "pid": pid}));
                let mut messages = vec![Message::text(answer)];
                messages.extend(missed.into_iter().map(Message::Text));
                self.send_all(&mut messages).await
            }
        }
    }

    /// Sends a ping, or gives the client up that has not answered the last one.
    async fn ping(&mut self) -> Result<(), Over> {
        if self.awaiting_pong {
            return Err(Over);
        }
        self.awaiting_pong = true;
        self.deadline = Instant::now() + self.shared.settings.ping_timeout;
        self.send("2".to_owned()).await
    }

    async fn send(&mut self, packet: String) -> Result<(), Over> {
        self.send_all(&mut vec![Message::text(packet)]).await
    }

    /// Sends messages, with one flush at the end. A client that does not read is given up after a
    /// while.
    async fn send_all(&mut self, messages: &mut Vec<Message>) -> Result<(), Over> {
        let patience = self.patience();
        let sending = async {
            for message in messages.drain(..) {
                self.socket.feed(message).await?;
            }
            self.socket.flush().await
        };
        match timeout(patience, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over),
        }
    }

    fn patience(&self) -> Duration {
        self.shared.settings.ping_interval + self.shared.settings.ping_timeout
    }
}

/// Goes on with a session, if there is one as the client says; returns its `pid`, and what was missed.
fn resume(
    state: &mut Simulated,
    user: Uuid,
    had: Option<(String, String)>,
) -> (String, Vec<Utf8Bytes>) {
    let had = had.filter(|(pid, _)| state.sessions.get(pid) == Some(&user));
    let found = had.and_then(|(pid, offset)| Some((pid, state.missed(user, &offset)?)));
    if let Some(found) = found {
        state.stats.recoveries += 1;
        return found;
    }
    let pid = Uuid::new_v4().simple().to_string();
    state.sessions.insert(pid.clone(), user);
    (pid, Vec::new())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
