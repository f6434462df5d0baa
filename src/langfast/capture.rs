//! A recording of all that goes between this program and LangFast, to be shown to others: for
//! `langfast2api doctor --capture`.
//!
//! A [`Tape`] takes raw bytes while the way is gone, and keeps them in memory only, at most
//! [`MOST_BYTES`]. [`Tape::document`] makes of them JSON lines in which everything is a placeholder that
//! is not listed as harmless (`mask`), and says in what they differ from the wire as it is known
//! (`known`). Nothing is recorded, and nothing costs anything, where no tape is set.

mod differences;
mod document;
mod known;
#[cfg(test)]
mod leaks;
mod mask;
mod secrets;
mod words;

use std::collections::VecDeque;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use tungstenite::Message;

pub use document::Document;

/// Most bytes that a tape keeps. Of what is more, the middle is left out.
pub const MOST_BYTES: usize = 4 << 20;
/// How many of them are for the beginning.
const FIRST_BYTES: usize = MOST_BYTES / 4 * 3;
/// Longest body or frame that is kept, in bytes; of a longer one only the length is.
const LONGEST: usize = 256 * 1024;
/// Approximate memory of a record besides its texts, in bytes.
const RECORD: usize = 200;

/// A recording. It is filled from several threads.
pub struct Tape {
    began: Instant,
    began_at: SystemTime,
    /// Makes the placeholders of texts; never written.
    key: RandomState,
    kept: Mutex<Kept>,
}

/// The records, in the order in which they began.
#[derive(Default)]
struct Kept {
    first: Vec<Arc<Record>>,
    last: VecDeque<Arc<Record>>,
    first_bytes: usize,
    last_bytes: usize,
    left_out: LeftOut,
    sockets: usize,
}

/// Records and frames for which a tape had no room, counted.
#[derive(Clone, Copy, Default)]
struct LeftOut {
    records: usize,
    bytes: usize,
}

struct Record {
    at: Duration,
    event: RecordedEvent,
    bytes: usize,
}

enum RecordedEvent {
    Call(Request, Mutex<Option<Outcome>>),
    Socket(usize, SocketEvent),
}

/// A request as it was sent.
struct Request {
    method: &'static str,
    path: String,
    headers: Headers,
    body: Bytes,
}

type Headers = Vec<(String, String)>;

/// A body or a frame.
enum Bytes {
    Whole(Vec<u8>),
    /// Too long to be kept; its length in bytes.
    TooLong(usize),
}

/// How a call ended, and when.
struct Outcome {
    took: Duration,
    how: Answered,
}

enum Answered {
    With(Answer),
    /// No answer, in a word.
    Failed(&'static str),
}

struct Answer {
    status: u16,
    headers: Headers,
    body: Bytes,
}

enum SocketEvent {
    /// The handshake was asked for, with these headers.
    Asked(Headers),
    /// It was answered.
    Answered(Answer),
    Frame {
        from_server: bool,
        frame: Frame,
    },
    /// It ended without a closing frame, in a word.
    Ended(&'static str),
}

enum Frame {
    Text(Bytes),
    Binary(usize),
    Ping(usize),
    Pong(usize),
    Close(Option<(u16, String)>),
}

impl Bytes {
    fn of(bytes: &[u8]) -> Bytes {
        match bytes.len() {
            0..=LONGEST => Bytes::Whole(bytes.to_vec()),
            length => Bytes::TooLong(length),
        }
    }

    fn len(&self) -> usize {
        match self {
            Bytes::Whole(bytes) => bytes.len(),
            Bytes::TooLong(_) => 0,
        }
    }
}

impl RecordedEvent {
    /// Memory of its texts, in bytes; of a call without its answer.
    fn bytes(&self) -> usize {
        let headers = |headers: &Headers| -> usize {
            headers.iter().map(|(name, value)| name.len() + value.len()).sum()
        };
        match self {
            RecordedEvent::Call(request, _) => headers(&request.headers) + request.body.len(),
            RecordedEvent::Socket(_, SocketEvent::Asked(asked)) => headers(asked),
            RecordedEvent::Socket(_, SocketEvent::Answered(answer)) => {
                headers(&answer.headers) + answer.body.len()
            }
            RecordedEvent::Socket(_, SocketEvent::Frame { frame: Frame::Text(text), .. }) => {
                text.len()
            }
            RecordedEvent::Socket(..) => 0,
        }
    }
}

impl Kept {
    fn keep(&mut self, record: Arc<Record>) {
        if self.last.is_empty() && self.first_bytes + record.bytes <= FIRST_BYTES {
            self.first_bytes += record.bytes;
            return self.first.push(record);
        }
        self.last_bytes += record.bytes;
        self.last.push_back(record);
        while self.last_bytes > MOST_BYTES - FIRST_BYTES && self.last.len() > 1 {
            let Some(oldest) = self.last.pop_front() else { break };
            self.last_bytes -= oldest.bytes;
            self.left_out.records += 1;
            self.left_out.bytes += oldest.bytes;
        }
    }
}

impl Tape {
    /// An empty tape; times count from now.
    pub fn new() -> Arc<Tape> {
        let (began, began_at) = (Instant::now(), SystemTime::now());
        Arc::new(Tape { began, began_at, key: RandomState::new(), kept: Mutex::default() })
    }

    /// Records a request that is about to be sent; its end is told to what is returned.
    pub fn call(
        self: &Arc<Tape>,
        method: &'static str,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> TapedCall {
        let (path, headers, body) = (path.to_owned(), pairs(headers), Bytes::of(body));
        let request = Request { method, path, headers, body };
        let record = self.keep(RecordedEvent::Call(request, Mutex::default()));
        TapedCall { record, tape: self.clone(), head: None }
    }

    /// Records that a WebSocket is asked for from a page of `origin`; what happens on it is told to what is
    /// returned.
    pub fn socket(self: &Arc<Tape>, origin: &str) -> TapedSocket {
        let mut kept = self.kept();
        kept.sockets += 1;
        let number = kept.sockets;
        drop(kept);
        let headers = vec![("origin".to_owned(), origin.to_owned())];
        self.keep(RecordedEvent::Socket(number, SocketEvent::Asked(headers)));
        TapedSocket { tape: self.clone(), number }
    }

    /// What was recorded so far, as it may be shown to others.
    pub fn document(&self) -> Document {
        document::write(self)
    }

    fn keep(&self, event: RecordedEvent) -> Arc<Record> {
        let bytes = RECORD + event.bytes();
        let record = Arc::new(Record { at: self.began.elapsed(), event, bytes });
        self.kept().keep(record.clone());
        record
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pairs(headers: &HeaderMap) -> Headers {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// A call whose answer is still to be recorded. Dropped before that, it stays without one.
pub struct TapedCall {
    record: Arc<Record>,
    tape: Arc<Tape>,
    head: Option<(u16, Headers)>,
}

impl TapedCall {
    /// The answer's head has come.
    pub fn head(&mut self, status: u16, headers: &HeaderMap) {
        self.head = Some((status, pairs(headers)));
    }

    /// The whole body has come, and with it the answer's end.
    pub fn body(&mut self, body: &[u8]) {
        let (status, headers) = self.head.take().unwrap_or_default();
        self.end(Answered::With(Answer { status, headers, body: Bytes::of(body) }));
    }

    /// The call has failed, in a word such as `timeout`, perhaps behind the head.
    pub fn failed(&mut self, how: &'static str) {
        self.end(Answered::Failed(how));
    }

    fn end(&self, how: Answered) {
        let took = self.tape.began.elapsed().saturating_sub(self.record.at);
        if let RecordedEvent::Call(_, outcome) = &self.record.event {
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            outcome.get_or_insert(Outcome { took, how });
        }
    }
}

/// A WebSocket that is recorded.
pub struct TapedSocket {
    tape: Arc<Tape>,
    number: usize,
}

impl TapedSocket {
    /// The handshake was answered.
    pub fn answered(&self, status: u16, headers: &HeaderMap, body: &[u8]) {
        let answer = Answer { status, headers: pairs(headers), body: Bytes::of(body) };
        self.keep(SocketEvent::Answered(answer));
    }

    /// A frame was sent to the server.
    pub fn sent(&self, message: &Message) {
        self.frame(false, message);
    }

    /// A frame was received.
    pub fn received(&self, message: &Message) {
        self.frame(true, message);
    }

    /// A text was received.
    pub fn received_text(&self, text: &[u8]) {
        self.keep(SocketEvent::Frame { from_server: true, frame: Frame::Text(Bytes::of(text)) });
    }

    /// The socket has ended without a closing frame.
    pub fn ended(&self, how: &'static str) {
        self.keep(SocketEvent::Ended(how));
    }

    fn frame(&self, from_server: bool, message: &Message) {
        let frame = match message {
            Message::Text(text) => Frame::Text(Bytes::of(text.as_bytes())),
            Message::Binary(bytes) => Frame::Binary(bytes.len()),
            Message::Ping(bytes) => Frame::Ping(bytes.len()),
            Message::Pong(bytes) => Frame::Pong(bytes.len()),
            Message::Close(None) => Frame::Close(None),
            Message::Close(Some(close)) => {
                Frame::Close(Some((close.code.into(), close.reason.to_string())))
            }
            Message::Frame(_) => return,
        };
        self.keep(SocketEvent::Frame { from_server, frame });
    }

    fn keep(&self, event: SocketEvent) {
        self.tape.keep(RecordedEvent::Socket(self.number, event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The lines of what is on the tape.
    fn lines(tape: &Tape) -> Vec<Value> {
        let text = tape.document().text;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn of_more_than_a_tape_takes_the_middle_is_left_out_and_the_end_is_there() {
        let tape = Tape::new();
        let socket = tape.socket("");
        let filler = "x".repeat(LONGEST / 2);
        for number in 0..60 {
            let frame =
                format!(r#"42["execution:chunk",{{"index":{number},"content":"{filler}"}}]"#);
            socket.received(&Message::text(frame));
        }
        let lines = lines(&tape);
        let indices: Vec<u64> =
            lines.iter().filter_map(|line| line["json"][1]["index"].as_u64()).collect();
        assert_eq!((indices[0], indices[indices.len() - 1]), (0, 59));
        let left_out = lines.iter().find_map(|line| line["left_out"]["records"].as_u64());
        assert_eq!(indices.len() as u64 + left_out.unwrap(), 60, "{indices:?}");
        let kept = tape.kept();
        assert!(kept.first_bytes + kept.last_bytes <= MOST_BYTES);
    }

    #[test]
    fn of_a_frame_that_is_too_long_only_the_length_is_kept() {
        let tape = Tape::new();
        tape.socket("").received(&Message::text("4".repeat(LONGEST + 1)));
        assert_eq!(lines(&tape)[2]["left_out_bytes"], LONGEST + 1);
    }

    #[test]
    fn a_call_is_on_the_tape_before_its_answer_comes() {
        let tape = Tape::new();
        let mut call = tape.call("POST", "/auth/v1/signup", &HeaderMap::new(), b"{}");
        assert!(lines(&tape)[1].get("answer").is_none());
        call.head(200, &HeaderMap::new());
        call.body(b"\xff\xfe");
        assert_eq!(lines(&tape)[1]["answer"]["status"], 200);
        let mut call = tape.call("POST", "/auth/v1/signup", &HeaderMap::new(), b"{}");
        call.failed("broken");
        assert_eq!(lines(&tape)[2]["failed"], "broken");
    }

    #[test]
    fn half_a_character_stays_one_and_does_not_count_as_a_change_of_the_text() {
        let tape = Tape::new();
        let socket = tape.socket("");
        for content in [r"a\ud83d", r"a\ud83d\ude00b"] {
            let frame =
                format!(r#"42["execution:chunk",{{"executionId":"j","content":"{content}"}}]"#);
            socket.received(&Message::text(frame));
        }
        let document = tape.document();
        assert_eq!(document.differences, [""; 0], "{}", document.text);
        assert!(lines(&tape)[2]["json"][1]["content"].as_str().unwrap().ends_with('\u{fffd}'));
    }
}
