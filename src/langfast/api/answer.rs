//! The answer to an HTTP call of LangFast, and what its error says, in whichever shape.
//!
//! Enters: status, header and body as they came. Leaves: the body; or a [`Failure`] with LangFast's code
//! and cleaned words. It may not know which call it was, nor what the words mean.

use http::Response;
use serde_json::Value;
use ureq::Body;

use super::{note_body, note_head};
use crate::error::{Failure, clean};
use crate::langfast::capture::TapedCall;

/// Longest answer of an HTTP call that is read, in bytes: the real ones are under 10 KB.
const LONGEST_ANSWER: u64 = 1024 * 1024;

/// Where an error's words may be, the likeliest first. A hint is for the owner of the project, so it counts
/// only where nothing else is said. The last ones are of frameworks that a function may be written with.
const WORDS: &[&str] = &[
    "/msg",
    "/message",
    "/error/message",
    "/error_description",
    "/error",
    "/hint",
    "/errors/0/message",
    "/errors/0",
    "/detail",
    "/detail/0/msg",
    "/title",
];

/// An HTTP answer with any status.
#[derive(Default)]
pub struct ApiAnswer {
    pub(super) status: u16,
    retry_after: Option<u64>,
    /// The platform's code of an error: a header of edge functions, and of Auth (known).
    code: Option<String>,
    /// Where a redirect leads.
    location: Option<String>,
    pub(super) body: Vec<u8>,
}

impl ApiAnswer {
    /// An answer with this body.
    pub fn new(head: &http::response::Parts, body: Vec<u8>) -> ApiAnswer {
        let field = |name: &str| head.headers.get(name)?.to_str().ok().map(str::trim);
        let code = field("sb-error-code").or_else(|| field("x-sb-error-code"));
        ApiAnswer {
            status: head.status.as_u16(),
            retry_after: field("retry-after").and_then(|seconds| seconds.parse().ok()),
            code: code.map(str::to_owned),
            location: field("location").and_then(place),
            body,
        }
    }

    pub(super) fn read(
        answer: Response<Body>,
        taped: &mut Option<TapedCall>,
    ) -> Result<ApiAnswer, ureq::Error> {
        note_head(taped, &answer);
        let (head, mut body) = answer.into_parts();
        let body = body.with_config().limit(LONGEST_ANSWER).read_to_vec()?;
        note_body(taped, &body);
        Ok(ApiAnswer::new(&head, body))
    }

    /// Reads the error shapes of [`WORDS`]: Supabase's gateway (`message`, `hint`), Supabase Auth (`error_code`,
    /// `msg`; `code`, `message` since its version 2024-01-01), PostgREST (`code`, `message`, `hint`) and
    /// the function (`error`, a string or an object), and a short line of plain text. Of anything else,
    /// such as an HTML page of the platform in front, only the status and the header's code remain, and
    /// where a redirect leads.
    pub fn into_failure(self) -> Failure {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        let text = |path: &str| body.pointer(path).and_then(Value::as_str);
        let code = text("/error_code").or(text("/code")).or(text("/error/code"));
        let plain = std::str::from_utf8(&self.body).ok().filter(|text| is_plain_message(text));
        let message =
            WORDS.iter().copied().find_map(text).or(plain).filter(|text| !text.is_empty());
        let redirect = self.location.filter(|_| (300..=399).contains(&self.status));
        let redirect = redirect.map(|place| format!("it redirects to {place}"));
        let message = message.map(str::to_owned).or(redirect);
        Failure::Status {
            status: self.status,
            code: code.or(self.code.as_deref()).map(clean),
            message: message.map(|message| clean(&message)).filter(|message| !message.is_empty()),
            retry_after: self.retry_after,
        }
    }
}

/// An address without what may be secret in it.
fn place(location: &str) -> Option<String> {
    let location: http::Uri = location.split(['?', '#']).next()?.parse().ok()?;
    Some(format!("{}{}", location.host().unwrap_or_default(), location.path()))
}

/// Whether a body that is not JSON is a line of plain text, rather than a page of the platform in
/// front.
fn is_plain_message(body: &str) -> bool {
    body.len() < 300 && !body.contains(['<', '{', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, body: &str) -> Failure {
        ApiAnswer { status, body: body.as_bytes().to_vec(), ..ApiAnswer::default() }.into_failure()
    }

    /// The code and the message that are read from an answer's body.
    fn read(body: &str) -> (Option<String>, Option<String>) {
        let Failure::Status { code, message, .. } = failure(400, body) else { panic!("{body}") };
        (code, message)
    }

    fn words(code: &str, message: &str) -> (Option<String>, Option<String>) {
        (Some(code.to_owned()), Some(message.to_owned()))
    }

    #[test]
    fn errors_are_read_in_the_shape_of_whoever_answers() {
        // Supabase Auth, also as it was before it had codes; PostgREST; the function, both ways.
        let auth = r#"{"code":400,"error_code":"invalid_credentials","msg":"Invalid login"}"#;
        assert_eq!(read(auth), words("invalid_credentials", "Invalid login"));
        let old = r#"{"error":"invalid_grant","error_description":"Invalid login"}"#;
        assert_eq!(read(old), (None, Some("Invalid login".to_owned())));
        let rest = r#"{"code":"PGRST301","details":null,"hint":null,"message":"JWT expired"}"#;
        assert_eq!(read(rest), words("PGRST301", "JWT expired"));
        let function = r#"{"error":{"code":"quota","message":"daily limit reached"}}"#;
        assert_eq!(read(function), words("quota", "daily limit reached"));
        let text = r#"{"error":"daily limit reached"}"#;
        assert_eq!(read(text), (None, Some("daily limit reached".to_owned())));
    }

    #[test]
    fn frameworks_have_their_own_names_for_what_is_wrong() {
        for body in [
            r#"{"detail":"no"}"#,
            r#"{"detail":[{"loc":["body"],"msg":"no"}]}"#,
            r#"{"errors":[{"message":"no"}]}"#,
            r#"{"errors":["no"]}"#,
            r#"{"title":"no","status":400}"#,
        ] {
            assert_eq!(read(body), (None, Some("no".to_owned())), "{body}");
        }
    }

    #[test]
    fn a_redirect_says_where_it_leads_without_what_may_be_secret() {
        let told = |status, location| {
            let answer = http::Response::builder().status(status).header("location", location);
            let (head, ()) = answer.body(()).unwrap().into_parts();
            match ApiAnswer::new(&head, Vec::new()).into_failure() {
                Failure::Status { message, .. } => message,
                other => panic!("{other:?}"),
            }
        };
        let login = told(302, "https://user:pass@langfa.st/login?token=secret#secret");
        assert_eq!(login.as_deref(), Some("it redirects to langfa.st/login"));
        assert_eq!(told(307, "/maintenance").as_deref(), Some("it redirects to /maintenance"));
        assert_eq!(told(302, "http://[").as_deref(), None);
        assert_eq!(told(201, "https://langfa.st/").as_deref(), None);
    }

    #[test]
    fn a_line_of_words_is_a_message_and_a_page_or_anything_else_is_none() {
        assert_eq!(read("Too many requests"), (None, Some("Too many requests".to_owned())));
        let long = "no ".repeat(200);
        for body in ["", " ", "<html><h1>502 Bad Gateway</h1></html>", "[1]", "{", "{}", &long] {
            assert_eq!(read(body), (None, None), "{body}");
        }
        let not_text =
            ApiAnswer { status: 502, body: b"\xff\xfe".to_vec(), ..ApiAnswer::default() };
        let (code, message, retry_after) = (None, None, None);
        let expected = Failure::Status { status: 502, code, message, retry_after };
        assert_eq!(not_text.into_failure(), expected);
    }

    #[test]
    fn what_an_answer_quotes_is_cleaned() {
        let (code, message) =
            read("{\"code\":\"a\\u001bb\",\"message\":\"one\\u0000\\u001b[31mtwo\"}");
        for text in [code.unwrap(), message.unwrap()] {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn the_status_and_the_wait_that_is_asked_for_are_passed_on() {
        let answer = ApiAnswer { status: 429, retry_after: Some(7), ..ApiAnswer::default() };
        let (code, message) = (None, None);
        let expected = Failure::Status { status: 429, code, message, retry_after: Some(7) };
        assert_eq!(answer.into_failure(), expected);
    }

    #[test]
    fn the_platforms_code_is_read_from_a_header_where_the_body_has_none() {
        for name in ["sb-error-code", "x-sb-error-code"] {
            let answer = http::Response::builder().status(504).header(name, "IDLE_TIMEOUT");
            let (head, ()) = answer.body(()).unwrap().into_parts();
            let code = |body: &[u8]| match ApiAnswer::new(&head, body.to_vec()).into_failure() {
                Failure::Status { code, .. } => code.unwrap(),
                other => panic!("{other:?}"),
            };
            assert_eq!(code(b"<html>"), "IDLE_TIMEOUT", "{name}");
            assert_eq!(code(br#"{"code":"own","message":"no"}"#), "own", "{name}");
        }
    }

    #[test]
    fn a_hint_counts_only_where_nothing_else_is_said() {
        let body = r#"{"message":"Legacy API keys are disabled","hint":"They were disabled on …"}"#;
        assert_eq!(read(body).1.unwrap(), "Legacy API keys are disabled");
        let body = r#"{"message":null,"hint":"Your legacy API keys were disabled"}"#;
        assert_eq!(read(body).1.unwrap(), "Your legacy API keys were disabled");
    }
}
