//! The error for a URL that is not known here: it says which one the client may have meant, or that the
//! URL belongs to another API.

use serde_json::json;

use super::route::{Route, is_of_google, segments, without_prefixes};
use crate::error::Error;
use crate::http::Head;

/// Longest `Host` that a message repeats, in bytes.
const LONGEST_HOST: usize = 100;

/// Returns the error, in the words of the API that the client speaks.
pub fn error(head: &Head) -> Error {
    let address = address(head);
    let advice = advice(head.path(), &address);
    Error::NoSuchUrl(format!("{} {}. {advice}", head.method, head.path()))
}

/// True for a URL of Ollama's own API.
pub fn is_of_ollama(path: &str) -> bool {
    const CALLS: [&str; 14] = [
        "blobs",
        "chat",
        "copy",
        "create",
        "delete",
        "embed",
        "embeddings",
        "generate",
        "ps",
        "pull",
        "push",
        "show",
        "tags",
        "version",
    ];
    let parts = segments(path);
    let at = parts.iter().rposition(|part| *part == "api");
    let call = at.and_then(|at| parts.get(at + 1));
    call.is_some_and(|call| CALLS.contains(call)) && Route::find(path).is_none()
}

/// Writes an error for Ollama's clients, which show the text below `error`.
pub fn envelope_of_ollama(error: &Error, _request_id: &str) -> String {
    json!({ "error": error.to_string() }).to_string()
}

fn advice(path: &str, address: &str) -> String {
    let parts = segments(path);
    let rest = without_prefixes(&parts);
    let of_another = |api: &str| {
        format!(
            "This is a URL of {api}, which is not served here. Choose OpenAI, or an OpenAI-compatible API, \
             in the client, with the base URL {address}/v1; Anthropic's, with {address}, is served too"
        )
    };
    if is_of_ollama(path) {
        return of_another("Ollama's API");
    }
    if is_of_google(&parts) || parts.contains(&"v1beta") {
        return of_another("Google's Gemini API");
    }
    if let Some(what) = rest.iter().find_map(|part| not_served(part)) {
        return format!(
            "{what} are not served here, since LangFast runs prompts only: have the client ask another \
             server for them"
        );
    }
    match rest {
        [] => format!(
            "This is a base URL, to which clients add a path, such as {address}/v1/chat/completions; \
             {address}/v1/models lists the models"
        ),
        ["deployments", ..] => format!(
            "A deployment is a model or an alias here, for {address}/openai/deployments/NAME/chat/completions \
             and …/completions; {address}/openai/models lists them"
        ),
        _ => of_base_urls(path, &parts, address),
    }
}

/// Names the service behind a part of OpenAI's or Azure's URLs that LangFast does not have.
fn not_served(part: &str) -> Option<&'static str> {
    match part {
        "embeddings" => Some("Embeddings"),
        "images" => Some("Generated images"),
        "audio" | "realtime" => Some("Speech and audio"),
        "videos" => Some("Videos"),
        "moderations" => Some("Moderations"),
        "files" | "uploads" | "vector_stores" => Some("Files"),
        "batches" => Some("Batches"),
        "fine_tuning" | "fine-tunes" | "evals" => Some("Training and evaluation"),
        "assistants" | "threads" | "conversations" => Some("Assistants and stored conversations"),
        "rerank" => Some("Rerankings"),
        _ => None,
    }
}

/// The remedy for a URL in which only the base URL can be wrong.
fn of_base_urls(path: &str, parts: &[&str], address: &str) -> String {
    if Route::find(&path.to_ascii_lowercase()).is_some() {
        return format!("URLs are written in lower case here: set the base URL to {address}/v1");
    }
    let last_two = parts.len().saturating_sub(2);
    match (&parts[last_two..], parts.last()) {
        (["chat", "completions"], _) | (_, Some(&("models" | "completions" | "responses"))) => {
            format!(
                "The path ends as it should, but begins otherwise: set the base URL to {address}/v1"
            )
        }
        (["messages", "count_tokens"], _) | (_, Some(&"messages")) => {
            format!(
                "The path ends as it should, but begins otherwise: set the base URL to {address}"
            )
        }
        _ => format!(
            "Check the base URL: it is {address}/v1 for OpenAI's clients, {address} for Anthropic's, and \
             {address} as the endpoint of Azure's"
        ),
    }
}

/// The address of this server as the client wrote it, with `https` if a proxy says so.
fn address(head: &Head) -> String {
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let is_presentable = |host: &&str| {
        !host.is_empty() && host.len() <= LONGEST_HOST && host.bytes().all(is_of_host)
    };
    let scheme = match head.header("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    let host = head.header("host").filter(is_presentable).unwrap_or("HOST:PORT");
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Limits;

    fn told(path: &str, fields: &str) -> String {
        let text = format!("POST {path} HTTP/1.1\r\n{fields}\r\n");
        error(&Head::parse(text.as_bytes(), &Limits::default()).unwrap()).to_string()
    }

    #[test]
    fn the_address_is_the_one_that_the_client_asked_unless_it_is_unfit_to_be_shown() {
        for (fields, address) in [
            ("Host: [::1]:8000\r\n", "http://[::1]:8000/v1"),
            ("Host: a.example\r\nX-Forwarded-Proto: https\r\n", "https://a.example/v1"),
            ("Host: a.example\r\nX-Forwarded-Proto: evil\r\n", "http://a.example/v1"),
            ("Host: <b>\r\n", "http://HOST:PORT/v1"),
            (&format!("Host: {}\r\n", "a".repeat(101)), "http://HOST:PORT/v1"),
        ] {
            let told = told("/x/chat/completions", fields);
            assert!(told.ends_with(&format!("set the base URL to {address}")), "{told}");
        }
    }

    #[test]
    fn ollamas_calls_are_known_behind_any_base_url_and_nothing_served_is_taken_for_one() {
        for path in
            ["/api/chat", "/v1/api/tags", "/api/blobs/sha256:1", "/v1/chat/completions/api/show"]
        {
            assert!(is_of_ollama(path), "{path}");
        }
        for path in ["/api/chat/completions", "/api/v1/models", "/chat", "/api", "/api/x"] {
            assert!(!is_of_ollama(path), "{path}");
        }
    }
}
