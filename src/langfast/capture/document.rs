//! Writes a tape as JSON lines: one for its head, one for each call and frame in the order of their
//! beginnings, one for what differs from the wire as it is known.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::known::{Place, place_of};
use super::mask::{Around, Mask, jwt_parts};
use super::secrets::Secrets;
use super::{
    Answer, Answered, Bytes, Frame, Headers, Outcome, Record, RecordedEvent, SocketEvent, Tape,
    differences, known,
};

/// Version of the format.
const VERSION: u64 = 1;
/// For whoever opens the file.
const ABOUT: &str = "What went between langfast2api and LangFast. Tokens, keys, ids, addresses, prompts and \
    texts are placeholders: the same value has the same one everywhere. Times begin in the year 2000; ms \
    counts from the start.";

/// A tape as it may be shown to others.
pub struct Document {
    /// JSON lines.
    pub text: String,
    /// What in it differs from the wire as it is known, in words.
    pub differences: Vec<String>,
    /// The differences that are in the form of answers and events.
    pub of_form: Vec<String>,
    /// Number of HTTP calls.
    pub calls: usize,
    /// Number of frames on sockets, in both directions.
    pub frames: usize,
}

/// Writes what is on `tape` so far.
pub fn write(tape: &Tape) -> Document {
    let kept = tape.kept();
    let (first, last) = (kept.first.clone(), kept.last.clone());
    let left_out = kept.left_out;
    drop(kept);
    let records: Vec<&Record> = first.iter().chain(&last).map(|record| &**record).collect();
    let mut secrets = Secrets::new();
    records.iter().for_each(|record| learn(&mut secrets, record));
    let mut writer = Writer { mask: Mask::new(secrets, tape.key.clone(), tape.began_at) };

    let mut lines: Vec<Value> = Vec::with_capacity(records.len());
    for (number, record) in records.iter().enumerate() {
        if number == first.len() && left_out.records > 0 {
            let (records, bytes) = (left_out.records, left_out.bytes);
            lines.push(json!({"left_out": {"records": records, "bytes": bytes}}));
        }
        lines.push(writer.line(record));
    }
    let (differences, of_form) = (differences::find(&lines), differences::of_form(&lines));
    let head = json!({
        "langfast2api_capture": VERSION,
        "program": env!("CARGO_PKG_VERSION"),
        "about": ABOUT,
    });
    let tail = json!({"differences": differences});
    let count = |key: &str| lines.iter().filter(|line| line.get(key).is_some()).count();
    let (calls, frames) = (count("http"), count("from"));
    let text = [&head].into_iter().chain(&lines).chain([&tail]);
    let text = text.map(|line| writer.checked(line)).collect();
    Document { text, differences, of_form, calls, frames }
}

/// Remembers what is secret in a record.
fn learn(secrets: &mut Secrets, record: &Record) {
    match &record.event {
        RecordedEvent::Call(request, outcome) => {
            learn_headers(secrets, &request.headers);
            learn_bytes(secrets, &request.body);
            let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(Outcome { how: Answered::With(answer), .. }) = &*outcome {
                learn_answer(secrets, answer);
            }
        }
        RecordedEvent::Socket(_, SocketEvent::Asked(headers)) => learn_headers(secrets, headers),
        RecordedEvent::Socket(_, SocketEvent::Answered(answer)) => learn_answer(secrets, answer),
        RecordedEvent::Socket(_, SocketEvent::Frame { frame: Frame::Text(text), .. }) => {
            let Bytes::Whole(bytes) = text else { return };
            let frame = String::from_utf8_lossy(bytes);
            match Packet::split(&frame) {
                // The name of an event is no secret by itself.
                Some((_, Some(Value::Array(values)))) => {
                    values.iter().skip(1).for_each(|v| learn_value(secrets, v, Place::Other));
                }
                Some((_, Some(json))) => learn_value(secrets, &json, Place::Other),
                _ => {}
            }
        }
        RecordedEvent::Socket(..) => {}
    }
}

fn learn_answer(secrets: &mut Secrets, answer: &Answer) {
    learn_headers(secrets, &answer.headers);
    learn_bytes(secrets, &answer.body);
}

fn learn_headers(secrets: &mut Secrets, headers: &Headers) {
    for (name, value) in headers {
        if ["apikey", "authorization", "cookie", "set-cookie"].contains(&name.as_str()) {
            let value = value.strip_prefix("Bearer ").unwrap_or(value);
            learn_string(secrets, value, Place::Secret);
        }
    }
}

fn learn_bytes(secrets: &mut Secrets, bytes: &Bytes) {
    if let Bytes::Whole(bytes) = bytes {
        if let Some(value) = lenient_json(&String::from_utf8_lossy(bytes)) {
            learn_value(secrets, &value, Place::Other);
        }
    }
}

/// Remembers each string that does not stand where words of the protocol or about errors do.
fn learn_value(secrets: &mut Secrets, value: &Value, place: Place) {
    match value {
        Value::String(text) => learn_string(secrets, text, place),
        Value::Array(values) => values.iter().for_each(|value| learn_value(secrets, value, place)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            let own = if place == Place::Personal { place } else { place_of(key) };
            learn_value(secrets, value, own);
        }),
        _ => {}
    }
}

fn learn_string(secrets: &mut Secrets, text: &str, place: Place) {
    if known::OWN_TEXTS.contains(&text) {
        return;
    }
    match place {
        Place::Word | Place::Model | Place::Message | Place::Time => {}
        Place::Personal => secrets.learn_person(text),
        Place::Secret if text.contains(['@', ' ']) => secrets.learn_person(text),
        Place::Secret => secrets.learn_encoded(text),
        Place::Text | Place::Other | Place::Count => secrets.learn_text(text),
    }
    if let Some((_, claims)) = jwt_parts(text) {
        // The first part names the algorithm, which is nobody's secret.
        text.split('.').skip(1).for_each(|part| secrets.learn_encoded(part));
        learn_value(secrets, &claims, Place::Other);
    }
}

/// JSON, also with halves of characters in it, which JavaScript sends where it cuts a text.
fn lenient_json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&without_halves(text)).ok())
}

/// Puts U+FFFD in place of each `\ud83d` that stands alone.
fn without_halves(json: &str) -> String {
    let unit = |text: &str| match text.strip_prefix("\\u") {
        Some(digits) => digits.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok()),
        None => None,
    };
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => 0,
            (Some(_), _) => 6,
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(if length == 0 { "\u{fffd}" } else { &rest[..length] });
        rest = &rest[length.max(if length == 0 { 6 } else { 1 })..];
    }
    out + rest
}

/// A packet of Engine.IO, in front of its JSON.
struct Packet<'a> {
    /// Engine.IO's type, and Socket.IO's where there is one.
    kind: &'a str,
    attachments: &'a str,
    namespace: &'a str,
    ack: &'a str,
    /// All behind the kind.
    data: &'a str,
}

impl<'a> Packet<'a> {
    /// The packet that a frame is, and its JSON if that is what follows; `None` if it is no packet.
    fn split(frame: &'a str) -> Option<(Packet<'a>, Option<Value>)> {
        let digits = frame.bytes().take(2).take_while(u8::is_ascii_digit).count();
        let length = if frame.starts_with('4') { digits } else { digits.min(1) };
        let (kind, data) = frame.split_at(length);
        if kind.is_empty() {
            return None;
        }
        let (mut attachments, mut namespace, mut rest) = ("", "", data);
        if let Some((count, behind)) = rest.split_once('-').filter(|(count, _)| is_number(count)) {
            (attachments, rest) = (count, behind);
        }
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let ack = &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()];
        let ack = if kind.len() == 2 { ack } else { "" };
        let json = lenient_json(&rest[ack.len()..]);
        Some((Packet { kind, attachments, namespace, ack, data }, json))
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit())
}

struct Writer {
    mask: Mask,
}

impl Writer {
    fn line(&mut self, record: &Record) -> Value {
        let mut line = Map::new();
        line.insert("ms".to_owned(), ms(record.at));
        match &record.event {
            RecordedEvent::Call(request, outcome) => {
                let path = self.mask.path(&request.path);
                line.insert("http".to_owned(), format!("{} {path}", request.method).into());
                let mut asked = Map::new();
                asked.insert("headers".to_owned(), self.headers(&request.headers));
                self.body(&mut asked, &request.body, Around { error: false });
                line.insert("request".to_owned(), asked.into());
                let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(outcome) = &*outcome {
                    line.insert("took_ms".to_owned(), ms(outcome.took));
                    let (key, how) = match &outcome.how {
                        Answered::With(answer) => ("answer", self.answer(answer)),
                        Answered::Failed(how) => ("failed", (*how).into()),
                    };
                    line.insert(key.to_owned(), how);
                }
            }
            RecordedEvent::Socket(number, event) => {
                line.insert("socket".to_owned(), (*number).into());
                self.socket_event(&mut line, event);
            }
        }
        line.into()
    }

    fn socket_event(&mut self, line: &mut Map<String, Value>, event: &SocketEvent) {
        match event {
            SocketEvent::Asked(headers) => {
                let headers = self.headers(headers);
                line.insert(
                    "asked".to_owned(),
                    json!({"path": known::SOCKET_PATH, "headers": headers}),
                );
            }
            SocketEvent::Answered(answer) => {
                line.insert("answer".to_owned(), self.answer(answer));
            }
            SocketEvent::Ended(how) => {
                line.insert("ended".to_owned(), (*how).into());
            }
            SocketEvent::Frame { from_server, frame } => {
                let from = if *from_server { "server" } else { "client" };
                line.insert("from".to_owned(), from.into());
                self.frame(line, frame);
            }
        }
    }

    fn headers(&mut self, headers: &Headers) -> Value {
        let pair = |(name, value): &(String, String)| {
            let shown = match known::header(name) {
                Some(_) => name.clone(),
                None => self.mask.key(name),
            };
            json!([shown, self.mask.header(name, value)])
        };
        headers.iter().map(pair).collect()
    }

    fn answer(&mut self, answer: &Answer) -> Value {
        let mut fields = Map::new();
        fields.insert("status".to_owned(), answer.status.into());
        fields.insert("headers".to_owned(), self.headers(&answer.headers));
        let error = !(200..=299).contains(&answer.status);
        self.body(&mut fields, &answer.body, Around { error });
        fields.into()
    }

    /// Adds a body, as `body` if it is JSON, as `page` or `text` if it is something else.
    fn body(&mut self, fields: &mut Map<String, Value>, body: &Bytes, around: Around) {
        let (key, value) = match body {
            Bytes::TooLong(length) => ("left_out_bytes", (*length).into()),
            Bytes::Whole(bytes) if bytes.is_empty() => return,
            Bytes::Whole(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                match lenient_json(&text) {
                    // The answer of PostgREST may be a string alone.
                    Some(json) => ("body", self.mask.value(&json, Place::Other, around)),
                    None if text.contains('<') => ("page", self.page(&text).into()),
                    None if around.error => ("text", self.mask.message(&text).into()),
                    None => ("text", self.mask.text(&text).into()),
                }
            }
        };
        fields.insert(key.to_owned(), value);
    }

    /// An HTML page: its title, and the length of the rest.
    fn page(&mut self, page: &str) -> String {
        let title = page.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
        let title = title.map_or(String::new(), |(title, _)| self.mask.message(title));
        let title = title.replace(['<', '>'], "");
        format!("<html><title>{title}</title>{}</html>", "x".repeat(page.len().min(1000)))
    }

    fn frame(&mut self, line: &mut Map<String, Value>, frame: &Frame) {
        let (key, value) = match frame {
            Frame::Binary(length) => ("binary", (*length).into()),
            Frame::Ping(length) => ("ping", (*length).into()),
            Frame::Pong(length) => ("pong", (*length).into()),
            Frame::Close(None) => ("close", Value::Null),
            Frame::Close(Some((code, reason))) => {
                ("close", json!({"code": code, "reason": self.mask.message(reason)}))
            }
            Frame::Text(Bytes::TooLong(length)) => ("left_out_bytes", (*length).into()),
            Frame::Text(Bytes::Whole(bytes)) => {
                return self.packet(line, &String::from_utf8_lossy(bytes));
            }
        };
        line.insert(key.to_owned(), value);
    }

    /// Adds a packet: its type, and its JSON or other data.
    fn packet(&mut self, line: &mut Map<String, Value>, frame: &str) {
        let Some((packet, json)) = Packet::split(frame) else {
            line.insert("text".to_owned(), self.mask.text(frame).into());
            return;
        };
        line.insert("packet".to_owned(), packet.kind.into());
        for (key, value) in [("attachments", packet.attachments), ("ack", packet.ack)] {
            if let Ok(number) = value.parse::<u64>() {
                line.insert(key.to_owned(), number.min(100_000).into());
            }
        }
        if !packet.namespace.is_empty() {
            line.insert("namespace".to_owned(), self.mask.path(packet.namespace).into());
        }
        match json {
            Some(Value::Array(values)) if matches!(packet.kind, "42" | "45") => {
                line.insert("json".to_owned(), self.event(&values));
            }
            Some(json) => {
                let error = packet.kind == "44";
                let place = if error { Place::Message } else { Place::Other };
                line.insert("json".to_owned(), self.mask.value(&json, place, Around { error }));
            }
            None if packet.data.is_empty() => {}
            None => {
                line.insert("data".to_owned(), self.mask.shaped(packet.data).into());
            }
        }
    }

    /// An event: its name, then its arguments.
    fn event(&mut self, values: &[Value]) -> Value {
        let error = values.first().and_then(Value::as_str).is_some_and(is_failing)
            || values.get(1).and_then(|payload| payload["status"].as_str()).is_some_and(is_failing);
        let value = |(number, value): (usize, &Value)| {
            let place = if number == 0 { Place::Word } else { Place::Other };
            self.mask.value(value, place, Around { error: error && number > 0 })
        };
        values.iter().enumerate().map(value).collect()
    }

    /// A line as text, unless a long secret should be in it after all.
    fn checked(&self, line: &Value) -> String {
        let text = format!("{line}\n");
        let small = text.to_lowercase();
        match self.mask.secrets().long().take(1000).any(|secret| small.contains(secret)) {
            true => format!("{}\n", json!({"left_out": "a secret was found in this line"})),
            false => text,
        }
    }
}

/// Whether an event's name or status speaks of a failure.
fn is_failing(word: &str) -> bool {
    ["error", "fail"].iter().any(|failing| word.contains(failing))
}

fn ms(time: Duration) -> Value {
    let ms = (time.as_secs_f64() * 1e4).round() / 10.0;
    json!(ms)
}
