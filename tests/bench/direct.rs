//! LangFast without a gateway: a bare reader of the simulator's socket.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::client::client_with_config;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use super::client::{Client, unix_micros};

/// A signed-in user with a prompt and a joined socket.
pub struct Direct {
    starter: Starter,
    socket: WebSocket<TcpStream>,
}

/// Starts runs.
pub struct Starter {
    http: Client,
    token: String,
    user: Value,
    prompt: Value,
}

impl Direct {
    pub fn connect(simulator: SocketAddr) -> Direct {
        let mut http = Client::open(simulator);
        let session = http.post("/auth/v1/signup", "", &json!({}));
        let token = session["access_token"].as_str().expect("a token").to_owned();
        let prompt = http.post("/rest/v1/rpc/create_prompt", &token, &prompt());
        let socket = join(simulator, &token);
        let user = session["user"]["id"].clone();
        Direct { starter: Starter { http, token, user, prompt }, socket }
    }

    /// What starts runs, and the socket on which their events come.
    pub fn split(self) -> (Starter, WebSocket<TcpStream>) {
        (self.starter, self.socket)
    }

    /// Starts so many runs and reads them to their ends: microseconds from an event's sending until
    /// it has been read, without the first `skip` of every run.
    pub fn latencies(mut self, runs: usize, message: &str, skip: usize) -> Vec<f64> {
        let (starter, socket) = (&mut self.starter, &mut self.socket);
        std::thread::scope(|scope| {
            scope.spawn(move || (0..runs).for_each(|_| drop(starter.start(message))));
            read_runs(socket, runs, skip)
        })
    }
}

fn prompt() -> Value {
    json!({
        "p_name": "bench",
        "p_icon": "openai",
        "p_meta": {"model": "gpt-4o", "messages": [{"role": "user", "content": "bench"}]},
        "p_test_cases": [{"name": "bench", "variables": []}],
    })
}

impl Starter {
    /// Starts a run of this message; returns the id that its events have.
    pub fn start(&mut self, message: &str) -> String {
        let messages = json!([{"role": "user", "content": message}]);
        let body = json!({
            "run_id": uuid::Uuid::new_v4(),
            "prompt_id": self.prompt,
            "prompt_meta": {"model": "gpt-4o", "messages": messages, "stream": true},
            "test_cases": [{"name": "bench", "variables": []}],
            "created_by": self.user,
        });
        let started = self.http.post("/functions/v1/initiate-prompt-run", &self.token, &body);
        started["jobs"][0]["job_id"].as_str().expect("an id").to_owned()
    }
}

fn join(simulator: SocketAddr, token: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(simulator).expect("the simulator accepts");
    stream.set_nodelay(true).unwrap();
    let url = format!("ws://{simulator}/socket.io/?EIO=4&transport=websocket");
    // By default each read clears 128 KiB first.
    let config = WebSocketConfig::default().read_buffer_size(16 * 1024);
    let (mut socket, _) = client_with_config(url, stream, Some(config)).expect("a WebSocket");
    assert!(frame(&mut socket).starts_with('0'));
    let connect = format!("40{}", json!({ "token": token }));
    socket.send(Message::text(connect)).expect("the simulator reads");
    assert!(frame(&mut socket).starts_with("40"));
    socket
}

fn read_runs(socket: &mut WebSocket<TcpStream>, runs: usize, skip: usize) -> Vec<f64> {
    let (mut latencies, mut seen, mut ended) = (Vec::new(), HashMap::new(), 0);
    while ended < runs {
        let frame = frame(socket);
        let now = unix_micros();
        let Some(sent_at) = after(&frame, r#""sentAt":"#) else { continue };
        let run = after(&frame, r#""executionId":""#).unwrap_or_default();
        let count: &mut usize = seen.entry(run.to_owned()).or_default();
        *count += 1;
        if *count > skip {
            latencies.push(now as f64 - sent_at.parse::<f64>().expect("microseconds"));
        }
        ended += usize::from(frame.contains(r#""status":"completed""#));
    }
    latencies
}

pub fn frame(socket: &mut WebSocket<TcpStream>) -> tungstenite::Utf8Bytes {
    loop {
        match socket.read().expect("a frame") {
            Message::Text(text) if text.as_str() == "2" => {
                socket.send(Message::text("3")).expect("the simulator reads");
            }
            Message::Text(text) => return text,
            _ => {}
        }
    }
}

/// What stands behind a key, up to the value's end. Stamps hold nothing that is escaped.
pub fn after<'a>(frame: &'a str, key: &str) -> Option<&'a str> {
    frame.split_once(key)?.1.split(['"', ',', '}']).next()
}
