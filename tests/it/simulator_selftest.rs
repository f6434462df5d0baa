//! The simulator itself, met with literal bytes over real sockets: what the other tests build on.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::simulator::{Fault, Simulator, Step};

/// A signed-in client with its socket and a prompt.
struct Client {
    url: String,
    access_token: String,
    user: String,
    prompt: String,
    socket: WebSocket<TcpStream>,
}

impl Client {
    /// Signs up, connects, creates a prompt.
    fn new(simulator: &Simulator) -> Self {
        let url = simulator.url();
        let (status, session) = post(&url, "/auth/v1/signup", "anon", &json!({"data": {}}));
        assert_eq!(status, 200, "{session}");
        let access_token = text(&session["access_token"]);
        let (status, prompt) =
            post(&url, "/rest/v1/rpc/create_prompt", &access_token, &prompt_body());
        assert_eq!(status, 200, "{prompt}");
        Self {
            socket: connect(&url, &access_token),
            user: text(&session["user"]["id"]),
            prompt: text(&prompt),
            access_token,
            url,
        }
    }

    /// Asks for a run of this message; the status and the body of the answer.
    fn run(&self, message: &str) -> (u16, Value) {
        let body = json!({
            "run_id": "7b0c3c1e-6f0a-4a53-9a55-0a2f6d0c9b11",
            "prompt_id": self.prompt,
            "prompt_meta": meta(message),
            "test_cases": [{"name": "API Test Case", "variables": []}],
            "created_by": self.user,
        });
        post(&self.url, "/functions/v1/initiate-prompt-run", &self.access_token, &body)
    }

    /// The payloads of the events of a run until one that is not in progress.
    fn answer(&mut self, message: &str) -> Vec<Value> {
        let (status, run) = self.run(message);
        assert_eq!(status, 200, "{run}");
        let mut events = Vec::new();
        loop {
            let frame = next_packet(&mut self.socket);
            let packet = frame.strip_prefix("42").expect("an event packet");
            let packet: Value = serde_json::from_str(packet).expect("a JSON packet");
            assert_eq!(packet[0], "execution:chunk");
            assert_eq!(packet[1]["executionId"], run["jobs"][0]["job_id"]);
            events.push(packet[1].clone());
            if packet[1]["status"] != "in_progress" {
                return events;
            }
        }
    }
}

fn prompt_body() -> Value {
    json!({
        "p_name": "api-1",
        "p_icon": "openai",
        "p_meta": meta("Hello"),
        "p_test_cases": [{"name": "API Test Case", "variables": []}],
    })
}

fn meta(message: &str) -> Value {
    json!({
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": message}],
        "stream": true,
    })
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn post(url: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let request = ureq::post(format!("{url}{path}"))
        .config()
        .http_status_as_error(false)
        .build()
        .header("apikey", "anon")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json");
    let mut response = request.send(body.to_string()).expect("an answer");
    let body = response.body_mut().read_to_string().expect("a body");
    let json = serde_json::from_str(&body).unwrap_or(Value::String(body));
    (response.status().as_u16(), json)
}

/// A WebSocket whose Engine.IO session is open.
fn open(url: &str) -> WebSocket<TcpStream> {
    let host = url.strip_prefix("http://").expect("a plain URL");
    let stream = TcpStream::connect(host).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout is set");
    let socket_url = format!("ws://{host}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = tungstenite::client(socket_url, stream).expect("a WebSocket handshake");
    let open = next_packet(&mut socket);
    assert!(open.starts_with("0{\"") && open.contains("\"sid\":"), "{open}");
    socket
}

/// A WebSocket whose CONNECT was accepted.
fn connect(url: &str, token: &str) -> WebSocket<TcpStream> {
    let mut socket = open(url);
    send_connect(&mut socket, token);
    let answer = next_packet(&mut socket);
    assert!(answer.starts_with("40{\"sid\":\""), "{answer}");
    socket
}

fn send_connect(socket: &mut WebSocket<TcpStream>, token: &str) {
    let packet = format!("40{{\"token\":\"{token}\"}}");
    socket.send(Message::text(packet)).expect("the socket takes a packet");
}

/// The next packet that is no ping; pings are answered.
fn next_packet(socket: &mut WebSocket<TcpStream>) -> String {
    loop {
        let message = socket.read().expect("a message");
        let packet = message.into_text().expect("a text frame");
        if packet != "2" {
            return packet.to_string();
        }
        socket.send(Message::text("3")).expect("the socket takes a pong");
    }
}

/// Both kinds of simulator.
fn both() -> [Simulator; 2] {
    [Simulator::start(), Simulator::builder().literal_socket().start()]
}

#[test]
fn a_run_comes_back_in_cumulative_events_and_a_completed_one() {
    for simulator in both() {
        let mut client = Client::new(&simulator);
        let events = client.answer("Hello, wide  world");
        let contents: Vec<_> = events.iter().map(|event| text(&event["content"])).collect();
        assert_eq!(contents, ["Hello, ", "Hello, wide  ", "Hello, wide  world"]);
        assert_eq!(events[1]["finish_reason"], Value::Null);
        assert_eq!(events[2]["status"], "completed");
        assert_eq!(events[2]["finish_reason"], "stop");
        let stats = simulator.wait_until(|stats| stats.finished_runs == 1);
        assert_eq!((stats.signups, stats.prompts, stats.runs, stats.connects), (1, 1, 1, 1));
        assert_eq!(simulator.runs()[0]["created_by"], client.user.as_str());
    }
}

#[test]
fn the_sim_line_chooses_the_answer() {
    for simulator in both() {
        let mut client = Client::new(&simulator);
        let events = client.answer("/sim events=1000 delay=0 finish=length");
        assert_eq!(events.len(), 1000);
        assert_eq!(events[999]["finish_reason"], "length");
        let events = client.answer("/sim fail=2 error=no%20more");
        assert_eq!(events[1]["content"], "1 2 ");
        assert_eq!(events[2]["error"]["message"], "no more");
        let events = client.answer("/sim say=one%20two%20three revise=3 null=1 stale=1");
        assert_eq!(events.last().expect("an event")["content"], "one REVISED three");
        let (status, refusal) = client.run("/sim colour=red");
        assert_eq!((status, &refusal["error"]), (400, &json!("\"colour=red\": no such key")));
    }
}

#[test]
fn a_scripted_model_calls_as_its_messages_say_one_turn_a_run() {
    let simulator = Simulator::start();
    let mut client = Client::new(&simulator);
    let call = json!({"name": "add", "arguments": {"a": 1}});
    simulator.turn(json!({"text": "So:", "calls": [call, call], "sim": "finish=length"}));
    let told = "Write <call-ab12 name=\"NAME\">{…}</call-ab12>.";
    let last = client.answer(told).pop().unwrap();
    let written = "<call-ab12 name=\"add\">{\"a\":1}</call-ab12>";
    assert_eq!(last["content"], format!("So:\n{written}\n{written}"));
    assert_eq!(last["finish_reason"], "length");
    assert_eq!(client.answer(told).pop().unwrap()["content"], told, "an echo again");
    simulator.turn(json!({"calls": [call]}));
    assert_eq!(client.run("Nobody says how to call.").0, 400);
}

#[test]
fn a_pair_of_surrogates_can_come_in_halves() {
    for simulator in both() {
        let mut client = Client::new(&simulator);
        let (status, _) = client.run("/sim say=%F0%9F%98%80 surrogate=1");
        assert_eq!(status, 200);
        assert!(next_packet(&mut client.socket).ends_with(r#""content":"\ud83d"}]"#));
        assert!(next_packet(&mut client.socket).ends_with("\"content\":\"\u{1f600}\"}]"));
    }
}

#[test]
fn tokens_expire_and_refresh_tokens_work_once() {
    for simulator in both() {
        let client = Client::new(&simulator);
        simulator.expire_tokens();
        let (status, error) = client.run("Hello");
        assert_eq!((status, &error["code"]), (401, &json!("PGRST303")));
        assert_eq!(simulator.stats().refused_tokens, 1);
        let mut socket = open(&client.url);
        send_connect(&mut socket, &client.access_token);
        assert_eq!(next_packet(&mut socket), r#"44{"message":"jwt expired"}"#);

        let account = json!({"email": "user@example.com", "password": "correct-password"});
        let (_, session) =
            post(&client.url, "/auth/v1/token?grant_type=password", "anon", &account);
        let refresh = json!({"refresh_token": session["refresh_token"]});
        let path = "/auth/v1/token?grant_type=refresh_token";
        let (status, next) = post(&client.url, path, "anon", &refresh);
        assert_eq!((status, &next["user"]["id"]), (200, &session["user"]["id"]));
        let (status, error) = post(&client.url, path, "anon", &refresh);
        assert_eq!((status, &error["error_code"]), (400, &json!("refresh_token_already_used")));
    }
}

#[test]
fn faults_strike_once_each_and_then_the_answer_comes() {
    for simulator in both() {
        let client = Client::new(&simulator);
        simulator.fault(Step::Run, Fault::status(429).body("slow down").header("retry-after", "7"));
        assert_eq!(client.run("Hello"), (429, json!("slow down")));
        assert_eq!(client.run("Hello").0, 200);

        simulator.fault(Step::SignUp, Fault::reset());
        let url = format!("{}/auth/v1/signup", client.url);
        let error = ureq::post(&url).header("apikey", "anon").send("{}").expect_err("no answer");
        assert!(error.to_string().contains("reset"), "{error}");

        simulator.fault(Step::Connect, Fault::refuse("not today"));
        let mut socket = open(&client.url);
        send_connect(&mut socket, &client.access_token);
        assert_eq!(next_packet(&mut socket), r#"44{"message":"not today"}"#);
    }
}

#[test]
fn cut_sockets_end_without_a_closing_handshake_and_the_run_goes_on() {
    for simulator in both() {
        let mut client = Client::new(&simulator);
        client.run("/sim events=3 cut=1");
        assert!(next_packet(&mut client.socket).contains("\"content\":\"1 \""));
        assert!(client.socket.read().is_err());
        let stats = simulator.wait_until(|stats| stats.finished_runs == 1);
        assert_eq!(stats.open_sockets, 0);
    }
}

#[test]
fn the_literal_socket_sends_whatever_it_is_told() {
    let simulator = Simulator::builder().literal_socket().start();
    let mut client = Client::new(&simulator);
    simulator.emit_raw("42[\"odd\"");
    simulator.emit_binary(&[4, 0, 255]);
    assert_eq!(next_packet(&mut client.socket), "42[\"odd\"");
    assert_eq!(client.socket.read().expect("a frame"), Message::binary(vec![4, 0, 255]));
}

#[test]
fn a_client_without_pongs_is_dropped() {
    let builder = || Simulator::builder().ping_interval(50).ping_timeout(50);
    for simulator in [builder().start(), builder().literal_socket().start()] {
        let mut client = Client::new(&simulator);
        while client.socket.read().is_ok() {}
        simulator.wait_until(|stats| stats.open_sockets == 0);
    }
}

#[test]
fn the_switches_work_over_http() {
    let simulator = Simulator::start();
    let client = Client::new(&simulator);
    let fault = json!({"step": "run", "status": 503, "body": {"error": "busy"}, "times": 2});
    assert_eq!(post(&client.url, "/_sim/fault", "", &fault).0, 204);
    assert_eq!(client.run("Hello"), (503, json!({"error": "busy"})));
    assert_eq!(post(&client.url, "/_sim/reset", "", &Value::Null).0, 204);
    assert_eq!(client.run("Hello").0, 200);
    let mut stats = ureq::get(format!("{}/_sim/stats", client.url)).call().expect("an answer");
    let stats: Value = serde_json::from_reader(stats.body_mut().as_reader()).expect("JSON");
    assert_eq!(stats["runs"], 1);
}

#[test]
fn the_parent_of_an_unused_refresh_token_works_again_only_where_that_is_asked_for() {
    for parents in [true, false] {
        let builder = Simulator::builder();
        let simulator = if parents { builder.parent_tokens() } else { builder }.start();
        let url = simulator.url();
        let path = "/auth/v1/token?grant_type=refresh_token";
        let refresh = |session: &Value| {
            let body = json!({"refresh_token": session["refresh_token"]});
            post(&url, path, "anon", &body)
        };
        let (_, first) = post(&url, "/auth/v1/signup", "anon", &json!({"data": {}}));
        let (_, second) = refresh(&first);
        let (status, again) = refresh(&first);
        if !parents {
            assert_eq!(status, 400);
            continue;
        }
        assert_eq!(again["refresh_token"], second["refresh_token"], "the one that is not used yet");
        assert_ne!(again["access_token"], second["access_token"]);
        assert_eq!(refresh(&second).0, 200);
        assert_eq!(refresh(&first).0, 400, "no parent any more");
        let stats = simulator.stats();
        assert_eq!((stats.refreshes, stats.refused_refreshes), (3, 1));
    }
}
