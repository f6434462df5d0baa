//! Secrets of all kinds, at places where they belong and where nobody expects them, in all encodings:
//! none may be in the document.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;
use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use super::{Document, Tape};

/// Shortest secret, or piece of a text, that is looked for: shorter ones may be in any text by chance.
const SHORTEST: usize = 8;

#[derive(Clone, Debug)]
struct Secrets {
    user: String,
    email: String,
    person: String,
    password: String,
    refresh_token: String,
    access_token: String,
    prompt: String,
    answer: String,
}

impl Secrets {
    fn all(&self) -> Vec<String> {
        let Secrets { user, email, person, password, refresh_token, .. } = self;
        let (local, domain) = email.split_once('@').unwrap();
        let mut all: Vec<String> =
            [user, email, person, password, refresh_token, &self.access_token]
                .into_iter()
                .chain(person.split(' ').map(str::to_owned).collect::<Vec<_>>().iter())
                .cloned()
                .collect();
        all.extend(self.access_token.split('.').skip(1).map(str::to_owned));
        all.extend([local.to_owned(), domain.to_owned(), user.replace('-', "")]);
        all
    }

    /// Each secret and text, in each encoding.
    fn forms(&self) -> Vec<String> {
        let texts = [self.prompt.clone(), self.answer.clone()];
        self.all().iter().chain(&texts).flat_map(|secret| encoded(secret)).collect()
    }
}

fn encoded(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let json = serde_json::to_string(secret).unwrap();
    let escaped: String = secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    vec![
        secret.to_owned(),
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex.to_uppercase(),
        hex,
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
        json.trim_matches('"').to_owned(),
        escaped,
        secret.chars().rev().collect(),
    ]
}

/// A word that can be said, so that nothing but its being secret keeps it from being shown.
fn word() -> impl Strategy<Value = String> {
    "([bdfglmnprst][aeio]){4,6}"
}

fn token() -> impl Strategy<Value = String> {
    prop_oneof![word(), "[a-z0-9]{12}", "[A-Za-z0-9_-]{32}", "[0-9a-f]{40}", "[0-9]{8,12}"]
}

fn secrets() -> impl Strategy<Value = Secrets> {
    let person = (word(), word()).prop_map(|(one, other)| format!("{one} {other}"));
    let email = (word(), word()).prop_map(|(local, domain)| format!("{local}@{domain}.example"));
    let texts = || proptest::collection::vec(word(), 2..6).prop_map(|words| words.join(" "));
    let user = any::<u128>().prop_map(|bits| uuid::Uuid::from_u128(bits).to_string());
    let password = prop_oneof![word(), "[!-~]{8,20}", "[a-zäöüß漢字]{8,12}"];
    let known = (user, email, person, password, token(), "[A-Za-z0-9_-]{43}", texts(), texts());
    known.prop_map(|(user, email, person, password, refresh_token, signature, prompt, answer)| {
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let claims = json!({"sub": user, "email": email, "user_metadata": {"full_name": person}});
        let head = json!({"alg": "HS256", "typ": "JWT"});
        let access_token = format!("{}.{}.{signature}", part(head), part(claims));
        Secrets { user, email, person, password, refresh_token, access_token, prompt, answer }
    })
}

/// A way on which the secrets are where they belong.
fn expected(tape: &std::sync::Arc<Tape>, s: &Secrets) {
    let call = |path: &str, body: Value, answer: Value| {
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", s.access_token);
        headers.insert("authorization", bearer.parse().unwrap());
        let mut call = tape.call("POST", path, &headers, body.to_string().as_bytes());
        call.head(200, &HeaderMap::new());
        call.body(answer.to_string().as_bytes());
    };
    let session = json!({
        "access_token": s.access_token, "refresh_token": s.refresh_token, "token_type": "bearer",
        "user": {"id": s.user, "email": s.email, "user_metadata": {"name": s.person, s.person.clone(): 1}},
    });
    let login = json!({"email": s.email, "password": s.password});
    call("/auth/v1/token?grant_type=password", login, session);
    let messages = json!([{"role": "user", "content": s.prompt}]);
    let run = json!({"prompt_meta": {"messages": messages}, "created_by": s.user});
    call("/functions/v1/initiate-prompt-run", run, json!({"jobs": [{"job_id": "j"}]}));
    let socket = tape.socket("https://langfa.st");
    socket.sent(&Message::text(format!("40{}", json!({"token": s.access_token}))));
    for end in (1..=s.answer.len()).filter(|end| s.answer.is_char_boundary(*end)) {
        let chunk = json!(["execution:chunk", {"executionId": "j", "content": s.answer[..end]}]);
        socket.received(&Message::text(format!("42{chunk}")));
    }
}

/// The same way with `leak` at all places of it.
fn unexpected(tape: &std::sync::Arc<Tape>, leak: &str) {
    let (headers, fields) = (headers_with(leak), fields_with(leak));
    let bodies =
        [fields.to_string(), leak.to_owned(), format!("<html><title>{leak}</title>{leak}</html>")];
    for (status, body) in
        [200, 401, 418].into_iter().flat_map(|status| bodies.iter().map(move |b| (status, b)))
    {
        let mut call =
            tape.call("GET", &format!("/{leak}/v1?{leak}={leak}&state={leak}"), &headers, b"");
        call.head(status, &headers);
        call.body(body.as_bytes());
    }
    let socket = tape.socket(leak);
    socket.answered(403, &headers, leak.as_bytes());
    for frame in frames_with(leak, &fields) {
        socket.received(&Message::text(frame));
    }
    let reason = leak.get(..leak.len().min(100)).unwrap_or_default().to_owned();
    let code = 4001.into();
    socket.received(&Message::Close(Some(CloseFrame { code, reason: reason.into() })));
}

fn headers_with(leak: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(leak) {
        for name in
            ["x-new", "server", "content-type", "retry-after", "cf-cache-status", "sb-error-code"]
        {
            headers.append(name, value.clone());
        }
    }
    if let Ok(value) = format!("https://{leak}/callback?code={leak}#access_token={leak}").parse() {
        headers.append("location", value);
    }
    if let Ok(name) = leak.to_lowercase().parse::<HeaderName>() {
        headers.append(name, HeaderValue::from_static("1"));
    }
    headers
}

fn fields_with(leak: &str) -> Value {
    json!({
        leak: leak, "status": leak, "code": leak, "error_code": leak, "role": leak, "type": leak,
        "model": leak, "message": format!("The {leak} is not valid: \"{leak}\""), "hint": leak,
        "details": [leak, {"reason": leak}], "error": {"message": leak, leak: {"status": leak}},
        "unknown": format!("x{leak}"), "nested": json!({leak: [leak]}).to_string(), "created_at": leak,
        "expires_in": leak, "name": leak, "url": format!("https://example.org/{leak}?{leak}={leak}"),
        "number": leak.parse::<u64>().unwrap_or(7), "count": leak.parse::<u64>().unwrap_or(7),
    })
}

fn frames_with(leak: &str, fields: &Value) -> [String; 11] {
    [
        format!("42{}", json!([leak, fields, leak])),
        format!("42{}", json!(["execution:error", fields])),
        format!("42{}", json!(["execution:chunk", fields.to_string()])),
        format!("42{}", json!([fields, leak])),
        format!("42/{leak},17{}", json!([leak])),
        format!("44{}", json!({"message": leak, "data": fields})),
        format!("0{fields}"),
        format!("2{leak}"),
        format!("43{leak}"),
        format!("42[\"{leak}"),
        leak.to_owned(),
    ]
}

fn holds(document: &Document, form: &str) -> bool {
    let told = document.differences.join("\n");
    [&document.text, &told].iter().any(|text| text.to_lowercase().contains(&form.to_lowercase()))
}

proptest! {
    // What is simplified, to zeroes in the end, is no secret any more.
    #![proptest_config(ProptestConfig {
        cases: 32, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn no_secret_is_in_a_capture_in_any_encoding(
        secrets in secrets(), which in any::<prop::sample::Index>(),
    ) {
        let tape = Tape::new();
        expected(&tape, &secrets);
        let forms = secrets.forms();
        // Each form once in a while, and always some secret as it is.
        unexpected(&tape, which.get(&forms[..]).as_str());
        unexpected(&tape, which.get(&secrets.all()[..]).as_str());
        unexpected(&tape, &secrets.answer);
        let document = tape.document();
        for form in forms.iter().filter(|form| form.len() >= SHORTEST) {
            prop_assert!(!holds(&document, form), "{form} in {}", document.text);
        }
        for text in [&secrets.prompt, &secrets.answer] {
            for piece in text.as_bytes().windows(SHORTEST) {
                let piece = std::str::from_utf8(piece).unwrap();
                prop_assert!(!holds(&document, piece), "{piece} in {}", document.text);
            }
        }
    }

    #[test]
    fn whatever_comes_can_be_recorded(
        frame in prop_oneof![any::<String>(), r#"[0-9]{0,3}[-/,0-9]{0,4}[\[{"\\ud8-f0-9a/:.@=?#%-]{0,40}"#],
    ) {
        let tape = Tape::new();
        unexpected(&tape, &frame);
        tape.socket("").received(&Message::text(frame));
        for line in tape.document().text.lines() {
            prop_assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_value_has_the_same_placeholder_everywhere_and_a_text_that_goes_on_too(
        secrets in secrets(), more in word(),
    ) {
        let tape = Tape::new();
        let socket = tape.socket("https://langfa.st");
        let longer = format!("{}{more}", secrets.answer);
        for content in [&secrets.answer, &longer] {
            let chunk = json!({"executionId": secrets.user, "jobId": secrets.user, "content": content});
            socket.received(&Message::text(format!("42{}", json!(["execution:chunk", chunk]))));
        }
        let text = tape.document().text;
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [_, _, one, other, _] = &lines[..] else { panic!("{text}") };
        let [one, other] = [&one["json"][1], &other["json"][1]];
        prop_assert_eq!(&one["executionId"], &other["executionId"]);
        prop_assert_eq!(&one["executionId"], &one["jobId"]);
        let [one, other] = [one, other].map(|chunk| chunk["content"].as_str().unwrap());
        prop_assert!(other.starts_with(one) && other.len() > one.len(), "{one}, then {other}");
        prop_assert_eq!(one.chars().count(), secrets.answer.chars().count());
    }
}
