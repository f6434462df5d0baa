//! Many streams at once while clients leave, sockets are cut and LangFast refuses at every step: nothing
//! hangs, nothing false is told, nothing is left behind. Some seconds as a test; `scripts/soak SECONDS`
//! runs it longer and prints the figures.

mod simulator;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::{Fault, Simulator, Step};
use support::{Program, Start, wait_until};

/// What may be in memory that was not before, in KiB: code of the program that only faults run, and the
/// stacks of ended threads that glibc keeps for new ones (at most 20, of 50 KiB each).
const MORE: u64 = 6 * 1024;

/// By when they have to be given back; threads wait a quarter of a minute for another request.
const SETTLING: Duration = Duration::from_secs(60);

/// How a request ended.
type Outcome = &'static str;

/// What clients have seen so far.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<BTreeMap<Outcome, u64>>>);

impl Tally {
    fn count(&self, outcome: Outcome) {
        *self.0.lock().unwrap().entry(outcome).or_default() += 1;
    }

    fn of(&self, outcome: Outcome) -> u64 {
        self.0.lock().unwrap().get(outcome).copied().unwrap_or(0)
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A text of its own for every request, of words that arrive in some 20 events.
fn text_for(client: usize, round: usize) -> String {
    (0..60).map(|word| format!("{client}-{round}-{word} ")).collect()
}

/// One request; some leave before its end.
fn ask(address: SocketAddr, client: usize, round: usize) -> std::io::Result<Outcome> {
    let text = text_for(client, round);
    let (stream, leave) = (fastrand::bool(), fastrand::u8(..10) == 0);
    let delay = fastrand::u32(0..60);
    let encoded = text.trim_end().replace(' ', "%20");
    let prompt = format!("/sim say={encoded} events=20 delay={delay}");
    let body = json!({
        "model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": prompt}]
    })
    .to_string();
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(30)))?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(body.as_bytes())?;
    if leave {
        connection.set_read_timeout(Some(Duration::from_millis(fastrand::u64(1..600))))?;
        let _ = connection.read(&mut [0; 200]);
        return Ok("left");
    }
    let mut reader = BufReader::new(connection);
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut rest = String::new();
    reader.read_to_string(&mut rest)?;
    let (_, body) = rest.split_once("\r\n\r\n").unwrap_or_default();
    Ok(match status.split(' ').nth(1) {
        Some("200") if stream => judge_stream(body, text.trim_end()),
        Some("200") => {
            let answer: Value = serde_json::from_str(body).expect("a whole answer is JSON");
            let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
            assert_eq!(content, text.trim_end(), "a whole answer is what LangFast sent");
            "whole answers"
        }
        Some(_) => {
            let error: Value = serde_json::from_str(body).expect("an error is JSON");
            assert!(error["error"]["message"].is_string(), "{error}");
            match status.split(' ').nth(1) {
                // A token that LangFast refuses as soon as it is new.
                Some("403") => "errors 403",
                Some("429") => "errors 429",
                Some("502") => "errors 502",
                Some("503") => "errors 503",
                Some("504") => "errors 504",
                _ => "errors of other kinds",
            }
        }
        None => "cut",
    })
}

/// A stream is complete and right, or says that it failed.
fn judge_stream(body: &str, text: &str) -> Outcome {
    let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
    let (mut content, mut finished, mut done, mut failed) = (String::new(), false, false, false);
    for event in data {
        assert!(!done, "nothing comes behind [DONE]");
        if event == "[DONE]" {
            done = true;
            continue;
        }
        let event: Value = serde_json::from_str(event).expect("an event is JSON");
        failed |= event.get("error").is_some();
        let choice = &event["choices"][0];
        content.push_str(choice["delta"]["content"].as_str().unwrap_or(""));
        finished |= choice["finish_reason"].is_string();
    }
    assert_eq!(done, finished, "[DONE] and the finish reason come together");
    assert!(done != failed, "a stream is done or has failed");
    assert!(text.starts_with(&content), "no character is lost or doubled: {content}");
    if done {
        assert_eq!(content, text, "a stream that is done is whole");
        return "streams";
    }
    "failed streams"
}

/// Does to LangFast what happens to it, until it is told to stop.
fn disturb(simulator: &Simulator, stop: &AtomicBool) {
    let mut cut = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let fault = match fastrand::u8(0..6) {
            0 => Fault::status(503),
            1 => Fault::status(429).header("retry-after", "1"),
            2 => Fault::status(502).body("<html>Bad gateway</html>"),
            3 => Fault::slow(200),
            4 => Fault::reset(),
            _ => Fault::status(200).body("nonsense"),
        };
        let is_time_to_cut = cut.elapsed() > Duration::from_secs(2);
        let step = match fastrand::u8(0..10) {
            _ if is_time_to_cut => Step::Connect,
            0 => Step::Refresh,
            _ => Step::Run,
        };
        simulator.fault(step, fault.times(1));
        if is_time_to_cut {
            simulator.cut_sockets();
            cut = Instant::now();
        }
        if fastrand::u8(0..20) == 0 {
            simulator.expire_tokens();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn figures(program: &Program) -> (u64, u64) {
    (program.figure("VmRSS"), program.figure("Threads"))
}

/// Lets so many clients ask for so long, while LangFast is disturbed.
fn load(simulator: &Simulator, program: &Program, clients: usize, duration: Duration) -> Tally {
    let (tally, stop) = (Tally::default(), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| disturb(simulator, &stop));
        let asking: Vec<_> = (0..clients)
            .map(|client| {
                let (tally, address) = (tally.clone(), program.address());
                scope.spawn(move || {
                    for round in 0.. {
                        if began.elapsed() > duration {
                            break;
                        }
                        match ask(address, client, round) {
                            Ok(outcome) => {
                                tally.count(outcome);
                                if outcome.starts_with("error") {
                                    // As clients do; else refusals would be all that is measured.
                                    std::thread::sleep(Duration::from_millis(500));
                                }
                            }
                            Err(error) => {
                                tally.count("unanswered");
                                eprintln!("client {client}: {error}");
                            }
                        }
                    }
                })
            })
            .collect();
        let results: Vec<_> = asking.into_iter().map(|thread| thread.join()).collect();
        stop.store(true, Ordering::Relaxed);
        for result in results {
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    tally
}

#[test]
fn under_load_and_faults_nothing_hangs_and_nothing_false_is_told() {
    let duration = Duration::from_secs(setting("SOAK_SECONDS", 4));
    let clients = setting("SOAK_CLIENTS", 200) as usize;
    let simulator = Simulator::start();
    // A lost event is noticed by silence; in earnest that takes minutes.
    let program = Start::new(&simulator.url())
        .env("LANGFAST2API_FIRST_EVENT_TIMEOUT", "4")
        .env("LANGFAST2API_SILENCE_TIMEOUT", "4")
        .arg("--log=warn")
        .start();
    assert_eq!(program.ask("hello").content(), "hello");
    let before = figures(&program);

    let began = Instant::now();
    let tally = load(&simulator, &program, clients, duration);
    let took = began.elapsed().as_secs_f64();
    println!("{took:.0} s, {clients} clients: {:?}", tally.0.lock().unwrap());
    let burst = figures(&program);
    let settled = |(memory, threads)| threads <= before.1 + 2 && memory <= before.0 + MORE;
    let deadline = Instant::now() + SETTLING;
    let mut after = burst;
    while !settled(after) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        after = figures(&program);
    }
    println!("memory {} -> {} -> {} KiB", before.0, burst.0, after.0);
    println!("threads {} -> {} -> {}", before.1, burst.1, after.1);
    assert!(settled(after), "threads and memory are as before");
    assert!(tally.of("streams") > 0 && tally.of("whole answers") > 0 && tally.of("left") > 0);
    assert_eq!(tally.of("unanswered"), 0, "every request gets an answer in time");
    assert_eq!(tally.of("cut"), 0, "an answer is whole or an error");
    // LangFast is let be: what is left of the faults is taken back, and the next request succeeds.
    ureq::post(format!("{}/_sim/reset", simulator.url())).send_empty().unwrap();
    wait_until("the next request to succeed", || program.ask("hello").status == 200);
}
