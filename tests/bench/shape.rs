//! The least that the shape of the gateway demands: a thread that reads frames from one socket, a channel a
//! stream, and a thread a stream that writes chunks to a client. It looks for a run's id and for its text at
//! fixed places, knows no deadlines, and notices no client that leaves.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use langfast2api::sync::Bell;
use serde_json::Value;

use super::direct::{Direct, after, frame};

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNK: &str = r#"{"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":""#;

type Runs = Arc<Mutex<HashMap<String, (Sender<Option<String>>, Arc<Bell>)>>>;

/// Serves so many clients, each one stream, until it is killed.
pub fn run(upstream: SocketAddr, streams: usize) -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("listens on http://{}", listener.local_addr().expect("an address"));
    let direct = Direct::connect(upstream);
    let (starter, mut socket) = direct.split();
    let (starter, runs) = (Arc::new(Mutex::new(starter)), Runs::default());
    for _ in 0..streams {
        let (client, _) = listener.accept().expect("a client");
        let (starter, runs) = (starter.clone(), runs.clone());
        thread::spawn(move || {
            let message = message(&client);
            let bell = Arc::new(Bell::default());
            let events = {
                // Both under the lock of the runs, so that no event is missed.
                let mut runs = runs.lock().unwrap();
                let id = starter.lock().unwrap().start(&message);
                let (sender, events) = unbounded();
                runs.insert(id, (sender, bell.clone()));
                events
            };
            write(&client, &events, &bell);
        });
    }
    let mut texts: HashMap<String, usize> = HashMap::new();
    loop {
        let frame = frame(&mut socket);
        let Some(id) = after(&frame, r#""executionId":""#) else { continue };
        let Some(text) = after(&frame, r#""content":""#) else { continue };
        let shown = texts.entry(id.to_owned()).or_default();
        let runs = runs.lock().unwrap();
        let Some((sender, bell)) = runs.get(id) else { continue };
        let _ = sender.send(text.get(*shown..).map(str::to_owned));
        *shown = text.len();
        if frame.contains(r#""status":"completed""#) {
            let _ = sender.send(None);
        }
        bell.ring();
    }
}

/// The message of a request for chat.
fn message(client: &TcpStream) -> String {
    let mut reader = BufReader::new(client);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).expect("a head");
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim_end().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    body["messages"][0]["content"].as_str().expect("a text").to_owned()
}

fn write(mut client: &TcpStream, events: &Receiver<Option<String>>, bell: &Bell) {
    client.set_nodelay(true).expect("TCP");
    client.write_all(HEAD).expect("a client");
    let mut chunk = Vec::new();
    loop {
        let Ok(text) = events.try_recv() else {
            bell.wait(None);
            continue;
        };
        let Some(text) = text else { break };
        let event = format!("data: {CHUNK}{text}\"}},\"finish_reason\":null}}]}}\n\n");
        chunk.clear();
        write!(chunk, "{:x}\r\n{event}\r\n", event.len()).expect("memory");
        if client.write_all(&chunk).is_err() {
            return;
        }
    }
    let _ = client.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
}
