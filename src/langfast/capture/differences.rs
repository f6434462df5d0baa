//! What a capture holds that is not in the wire as it is known ([`known`]). It looks at the placeholders
//! only, so what it says can be shown to everybody.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::known::{self, Call};

/// Most differences that are told.
const MOST: usize = 60;
/// Most fields of one value that are looked at.
const MOST_FIELDS: usize = 500;

/// Finds what differs, each thing once, in the order in which it came.
pub fn find(lines: &[Value]) -> Vec<String> {
    find_by(lines, Found::default())
}

/// Finds what differs in the form of answers and events; headers and errors, which differ with whatever
/// stands in front of LangFast, are passed over.
pub fn of_form(lines: &[Value]) -> Vec<String> {
    find_by(lines, Found { only_form: true, ..Found::default() })
}

fn find_by(lines: &[Value], mut found: Found) -> Vec<String> {
    lines.iter().for_each(|line| found.line(line));
    found.nothing_came();
    let more = found.differences.len().saturating_sub(MOST);
    found.differences.truncate(MOST);
    if more > 0 {
        found.differences.push(format!("and {more} more"));
    }
    found.differences
}

#[derive(Default)]
struct Found {
    differences: Vec<String>,
    /// Whether headers and errors are passed over.
    only_form: bool,
    /// Ids of the runs that were started, and of their jobs.
    ids: BTreeSet<String>,
    has_event: bool,
    /// The last text of each run.
    texts: BTreeMap<String, String>,
}

impl Found {
    fn add(&mut self, difference: String) {
        if self.differences.len() < 10 * MOST && !self.differences.contains(&difference) {
            self.differences.push(difference);
        }
    }

    fn line(&mut self, line: &Value) {
        if let Some(request) = line["http"].as_str() {
            self.call(request, line);
        } else if line.get("left_out").is_some() {
            self.add("a part was left out, for its length".to_owned());
        } else if line["from"] == "server" {
            self.frame(line);
        } else if let Some(answer) = line.get("answer") {
            self.handshake(answer);
        }
    }

    fn call(&mut self, request: &str, line: &Value) {
        let known = known::CALLS.iter().find(|call| call.request == request);
        let name = known.map_or(request, |call| call.name);
        if known.is_none() {
            self.add(format!("the call {request} is not known"));
        }
        let Some(answer) = line.get("answer") else { return };
        self.headers(name, answer);
        let status = answer["status"].as_u64().unwrap_or_default();
        if !self.only_form && !known::HTTP_STATUSES.contains(&status) {
            self.add(format!("{name} was answered with status {status}, which is not known"));
        }
        match (200..=299).contains(&status) {
            true => self.good_answer(name, known, line, answer),
            false if self.only_form => {}
            false => self.error(name, answer),
        }
    }

    fn good_answer(&mut self, name: &str, known: Option<&Call>, line: &Value, answer: &Value) {
        let Some(known) = known else { return };
        let body = &answer["body"];
        if known.name == "create_prompt" {
            if !body.is_string() {
                self.add(format!("answer of {name} is not a string"));
            }
            return;
        }
        if known.needed.is_empty() {
            return;
        }
        if !body.is_object() {
            return self.add(format!("answer of {name} is not a JSON object"));
        }
        let mut paths = Vec::new();
        fields(body, "", &mut paths);
        for path in paths.iter().filter(|path| !is_listed(known.answer, path)) {
            self.add(format!("answer of {name} has `{path}`, which is not known"));
        }
        for needed in known.needed.iter().filter(|needed| !paths.iter().any(|path| path == *needed))
        {
            self.add(format!("answer of {name} has no `{needed}`"));
        }
        if known.name == "initiate-prompt-run" {
            let own = line["request"]["body"]["run_id"].as_str();
            let jobs = body["jobs"].as_array().into_iter().flatten();
            let jobs = jobs.filter_map(|job| job["job_id"].as_str());
            self.ids.extend(own.into_iter().chain(jobs).map(str::to_owned));
        }
    }

    fn error(&mut self, name: &str, answer: &Value) {
        let status = &answer["status"];
        if answer.get("page").is_some() {
            return self.add(format!("{name} was answered with a page (status {status})"));
        }
        let body = &answer["body"];
        let mut paths = Vec::new();
        fields(body, "", &mut paths);
        for path in paths.iter().filter(|path| !is_listed(known::ERROR_FIELDS, path)) {
            self.add(format!("error of {name} has `{path}`, which is not known"));
        }
        for code in ["/error_code", "/code", "/error/code"] {
            if let Some(code) = body.pointer(code).and_then(Value::as_str) {
                if !known::words().any(|known| known.eq_ignore_ascii_case(code)) {
                    self.add(format!("error code `{code}` of {name} is not known"));
                }
            }
        }
        for message in ["/msg", "/message", "/error/message", "/error_description", "/error"] {
            if let Some(message) = body.pointer(message).and_then(Value::as_str) {
                self.message(name, message);
            }
        }
        if let Some(text) = answer["text"].as_str() {
            self.message(name, text);
        }
    }

    fn message(&mut self, name: &str, message: &str) {
        if !self.only_form
            && !known::MESSAGES.iter().any(|known| known.eq_ignore_ascii_case(message))
        {
            self.add(format!("message of {name} is not known: {message}"));
        }
    }

    fn headers(&mut self, name: &str, answer: &Value) {
        if self.only_form {
            return;
        }
        for header in answer["headers"].as_array().into_iter().flatten() {
            let header = header[0].as_str().unwrap_or_default();
            if known::header(header).is_none() {
                self.add(format!("header `{header}` of {name} is not known"));
            }
        }
        if answer.get("left_out_bytes").is_some() {
            self.add(format!("answer of {name} is longer than any that is known"));
        }
    }

    fn handshake(&mut self, answer: &Value) {
        self.headers("the socket", answer);
        if !self.only_form && answer["status"] != 101 {
            let status = &answer["status"];
            self.add(format!("the socket's handshake was answered with status {status}"));
        }
    }

    fn frame(&mut self, line: &Value) {
        if let Some(length) = line["binary"].as_u64() {
            return self.add(format!("a binary frame ({length} bytes)"));
        }
        if let Some(close) = line.get("close") {
            return self.close(close);
        }
        if line.get("left_out_bytes").is_some() {
            return self.add("a frame is longer than any that is recorded".to_owned());
        }
        if line.get("text").is_some() {
            return self.add("a frame is no packet of Engine.IO".to_owned());
        }
        let Some(packet) = line["packet"].as_str() else { return };
        if !known::PACKETS.contains(&packet) {
            return self.add(format!("packets of type `{packet}` are not known"));
        }
        if let Some(namespace) = line["namespace"].as_str() {
            self.add(format!("a packet of the namespace `{namespace}`"));
        }
        match packet {
            "0" => self.listed("Engine.IO's open packet", known::OPEN_FIELDS, &line["json"]),
            "40" => self.listed("the answer to CONNECT", known::CONNECT_FIELDS, &line["json"]),
            "44" => {
                let reason = line["json"]["message"].as_str().or(line["json"].as_str());
                self.message("a refused CONNECT", reason.unwrap_or_default());
            }
            "42" => self.event(line),
            _ => {}
        }
    }

    fn listed(&mut self, name: &str, listed: &[&str], value: &Value) {
        let mut paths = Vec::new();
        fields(value, "", &mut paths);
        for path in paths.iter().filter(|path| !is_listed(listed, path)) {
            self.add(format!("{name} has `{path}`, which is not known"));
        }
    }

    fn close(&mut self, close: &Value) {
        let reason = match close["reason"].as_str() {
            Some(reason) if !reason.is_empty() => format!(" ({reason})"),
            _ => String::new(),
        };
        match close["code"].as_u64() {
            Some(code) if known::CLOSE_CODES.contains(&code) && reason.is_empty() => {}
            Some(code) => self.add(format!("the socket was closed with code {code}{reason}")),
            None => self.add("the socket was closed without a code".to_owned()),
        }
    }

    fn event(&mut self, line: &Value) {
        let (name, payload) = (line["json"][0].as_str().unwrap_or_default(), &line["json"][1]);
        let event = known::EVENTS.iter().find(|event| event.name == name);
        if event.is_none() {
            self.add(format!("event `{name}` is not known"));
        }
        if line.get("ack").is_some() {
            self.add(format!("event `{name}` asks for an acknowledgement"));
        }
        if line["json"].as_array().is_some_and(|values| values.len() > 2) {
            self.add(format!("event `{name}` has more than one argument"));
        }
        let inside = payload.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if inside.is_some() {
            self.add(format!("the payload of `{name}` is JSON in a string"));
        }
        let payload = inside.as_ref().unwrap_or(payload);
        if !payload.is_object() {
            return self.add(format!("the payload of `{name}` is no object"));
        }
        let listed = event.map_or(known::EVENTS[0].fields, |event| event.fields);
        let mut paths = Vec::new();
        fields(payload, "", &mut paths);
        for path in paths.iter().filter(|path| !is_listed(listed, path)) {
            self.add(format!("field `{path}` in `{name}` is not known"));
        }
        self.words(name, payload);
        self.ids(name, payload);
        self.text(name, payload);
    }

    fn words(&mut self, name: &str, payload: &Value) {
        let words = [("status", known::RUN_STATUSES), ("finish_reason", known::FINISH_REASONS)];
        for (field, known) in words {
            if let Some(word) = payload[field].as_str().filter(|word| !known.contains(word)) {
                self.add(format!("{field} `{word}` in `{name}` is not known"));
            }
        }
        let error = &payload["error"];
        if let Some(message) = error.as_str().or(error["message"].as_str()) {
            self.message("a run", message);
        }
    }

    fn ids(&mut self, name: &str, payload: &Value) {
        let ids = known::ID_FIELDS.iter().filter_map(|field| payload[*field].as_str());
        let ids: Vec<&str> = ids.collect();
        if ids.iter().any(|id| self.ids.contains(*id)) {
            self.has_event = true;
        } else if ids.is_empty() {
            self.add(format!("event `{name}` names no run"));
        } else if !self.ids.is_empty() {
            self.add(format!("event `{name}` names another run than was started"));
        }
    }

    fn text(&mut self, name: &str, payload: &Value) {
        let Some(content) = payload["content"].as_str() else { return };
        let id = known::ID_FIELDS.iter().find_map(|field| payload[*field].as_str());
        let last = self.texts.insert(id.unwrap_or_default().to_owned(), content.to_owned());
        let last = last.unwrap_or_default();
        // Half a character at the end is completed by the next event.
        if !content.starts_with(last.trim_end_matches('\u{fffd}')) {
            self.add(format!("`content` of `{name}` does not go on from the one before"));
        }
    }

    fn nothing_came(&mut self) {
        if !self.ids.is_empty() && !self.has_event {
            self.add("no event named the run that was started".to_owned());
        }
    }
}

/// The paths of all fields of a value; `[]` for a list's elements.
fn fields(value: &Value, path: &str, paths: &mut Vec<String>) {
    let mut add = |path: String, value: &Value| {
        if paths.len() < MOST_FIELDS && !paths.contains(&path) {
            paths.push(path.clone());
        }
        fields(value, &path, paths);
    };
    match value {
        Value::Object(map) => {
            let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
            map.iter().for_each(|(key, value)| add(format!("{prefix}{key}"), value));
        }
        Value::Array(values) => {
            for value in values.iter().filter(|value| value.is_object()) {
                fields(value, &format!("{path}[]"), paths);
            }
        }
        _ => {}
    }
}

/// Whether a path is listed, by itself or by a beginning that ends in `*`.
fn is_listed(listed: &[&str], path: &str) -> bool {
    listed.iter().any(|known| match known.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => *known == path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(name: &str, payload: Value) -> Value {
        json!({"from": "server", "packet": "42", "json": [name, payload]})
    }

    fn started() -> Value {
        json!({
            "http": "POST /functions/v1/initiate-prompt-run",
            "request": {"body": {"run_id": "r"}},
            "answer": {"status": 200, "headers": [], "body": {"run_id": "r", "jobs": [{"job_id": "j"}]}},
        })
    }

    #[test]
    fn what_is_known_does_not_differ() {
        let chunk = |content: &str, status: &str| {
            let mut fields = json!({"executionId": "j", "status": status, "finish_reason": null});
            fields["content"] = json!(content);
            event("execution:chunk", fields)
        };
        let lines = [started(), chunk("a", "in_progress"), chunk("ab", "completed")];
        assert_eq!(find(&lines), [""; 0]);
    }

    #[test]
    fn of_the_form_alone_are_neither_headers_nor_errors() {
        let refused = json!({"http": "POST /auth/v1/signup", "answer": {"status": 418,
            "headers": [["x-new", ""]], "body": {"code": "new", "message": "new"}}});
        let ended = event("execution:chunk", json!({"executionId": "j", "error": "new"}));
        let lines = [refused, started(), event("run:text", json!({"jobId": "j"})), ended];
        let expected =
            ["event `run:text` is not known", "field `jobId` in `run:text` is not known"];
        assert_eq!(of_form(&lines), expected);
        assert!(find(&lines).len() > 4);
    }

    #[test]
    fn each_kind_of_difference_is_told_once() {
        let lines = [
            started(),
            event("execution:progress", json!({"jobId": "j", "cost": 1})),
            event("execution:progress", json!({"jobId": "j", "cost": 2})),
            event(
                "execution:chunk",
                json!({"executionId": "j", "status": "streaming", "content": "ab"}),
            ),
            event("execution:chunk", json!({"executionId": "j", "content": "c"})),
            json!({"from": "server", "packet": "42", "ack": 7, "json": ["hello", "{}", 3]}),
            json!({"from": "server", "packet": "40", "json": {"sid": "s", "pid": "p"}}),
            json!({"from": "server", "binary": 3}),
            json!({"from": "server", "close": {"code": 4001, "reason": "bye"}}),
            json!({"http": "POST /auth/v1/signup", "answer": {"status": 418, "headers": [["x-new", ""]],
                "body": {"error_code": "no_tea", "message": "I am short"}}}),
        ];
        let found = find(&lines).join("\n");
        for words in [
            "event `execution:progress` is not known",
            "field `jobId` in `execution:progress` is not known",
            "field `cost` in `execution:progress` is not known",
            "status `streaming` in `execution:chunk` is not known",
            "`content` of `execution:chunk` does not go on from the one before",
            "event `hello` is not known",
            "event `hello` asks for an acknowledgement",
            "event `hello` has more than one argument",
            "the payload of `hello` is JSON in a string",
            "event `hello` names no run",
            "the answer to CONNECT has `pid`, which is not known",
            "a binary frame (3 bytes)",
            "the socket was closed with code 4001 (bye)",
            "sign-up was answered with status 418, which is not known",
            "header `x-new` of sign-up is not known",
            "error code `no_tea` of sign-up is not known",
            "message of sign-up is not known: I am short",
        ] {
            assert_eq!(found.matches(words).count(), 1, "{words}:\n{found}");
        }
        assert_eq!(found.lines().count(), 17, "{found}");
    }

    #[test]
    fn an_answer_of_another_shape_and_a_run_of_which_nothing_came_are_told() {
        let shape = |body: Value| {
            json!({"http": "POST /functions/v1/initiate-prompt-run",
            "request": {"body": {"run_id": "r"}}, "answer": {"status": 200, "headers": [], "body": body}})
        };
        let found =
            find(&[shape(json!({"run_id": "r", "queue": {"place": 3}, "jobs": []}))]).join("\n");
        for words in [
            "has `queue`, which",
            "has `queue.place`, which",
            "has no `jobs[].job_id`",
            "no event named",
        ] {
            assert!(found.contains(words), "{words}: {found}");
        }
        assert_eq!(
            find(&[shape(json!("text"))]),
            ["answer of initiate-prompt-run is not a JSON object"]
        );
    }
}
