//! The routes: which URLs and methods the server knows.

use percent_encoding::percent_decode_str;

use super::probe;
use crate::http::Head;

/// The resource that a URL names.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    Root,
    Health,
    Ready,
    Models,
    Model(String),
    ChatCompletions,
    Completions,
    Status,
    StatusOfModels,
    Probe,
    Messages,
    CountTokens,
    Responses,
    StoredResponse,
    Metrics,
}

impl Route {
    /// Returns the route of a path, tolerant of what clients write: a doubled slash, one at the
    /// end, and a missing `/v1`.
    pub fn find(path: &str) -> Option<Route> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let is_versioned = parts.first() == Some(&"v1");
        match (&parts[usize::from(is_versioned)..], is_versioned) {
            ([], false) => Some(Route::Root),
            (["healthz"], false) => Some(Route::Health),
            (["readyz"], false) => Some(Route::Ready),
            (["models"], _) => Some(Route::Models),
            (["models", name @ ..], _) => {
                let name = name.join("/");
                let name = percent_decode_str(&name).decode_utf8().ok()?;
                Some(Route::Model(name.into_owned()))
            }
            (["chat", "completions"], _) => Some(Route::ChatCompletions),
            (["completions"], _) => Some(Route::Completions),
            (["status"], false) => Some(Route::Status),
            (["status", "models"], false) => Some(Route::StatusOfModels),
            (["doctor", "stream"], _) => Some(Route::Probe),
            (["messages"], _) => Some(Route::Messages),
            (["messages", "count_tokens"], _) => Some(Route::CountTokens),
            (["responses"], _) => Some(Route::Responses),
            (["responses", id] | ["responses", id, "input_items" | "cancel"], _)
                if id.starts_with("resp_") =>
            {
                Some(Route::StoredResponse)
            }
            (["metrics"], false) => Some(Route::Metrics),
            _ => None,
        }
    }

    /// Returns the route's canonical path, whatever form the client wrote; used as a label in
    /// metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Route::Root => "/",
            Route::Health => "/healthz",
            Route::Ready => "/readyz",
            Route::Models => "/v1/models",
            Route::Model(_) => "/v1/models/{model}",
            Route::ChatCompletions => "/v1/chat/completions",
            Route::Completions => "/v1/completions",
            Route::Status => "/status",
            Route::StatusOfModels => "/status/models",
            Route::Probe => probe::PATH,
            Route::Metrics => "/metrics",
            Route::Messages => "/v1/messages",
            Route::CountTokens => "/v1/messages/count_tokens",
            Route::Responses => "/v1/responses",
            Route::StoredResponse => "/v1/responses/{id}",
        }
    }

    /// The allowed methods, as the `Allow` header lists them.
    pub fn methods(&self) -> &'static str {
        match self {
            Route::Probe => "GET",
            Route::ChatCompletions
            | Route::Completions
            | Route::Responses
            | Route::Messages
            | Route::CountTokens => "POST",
            Route::StoredResponse => "GET, HEAD, POST, DELETE",
            _ => "GET, HEAD",
        }
    }

    /// True if the route needs a key when keys are set.
    pub fn is_protected(&self) -> bool {
        !matches!(self, Route::Root | Route::Health | Route::Ready)
    }

    /// True if the route allows this method.
    pub fn allows(&self, method: &str) -> bool {
        self.methods().split(", ").any(|allowed| allowed == method)
    }
}

/// True if the client speaks Anthropic's API: by the URL, or by the header field that all its
/// clients send.
pub fn speaks_anthropic(head: &Head) -> bool {
    let route = Route::find(head.path());
    matches!(route, Some(Route::Messages | Route::CountTokens))
        || head.header("anthropic-version").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_found_as_clients_write_them() {
        for path in ["/v1/chat/completions", "//v1/chat/completions/", "/chat/completions"] {
            assert_eq!(Route::find(path), Some(Route::ChatCompletions), "{path}");
        }
        assert_eq!(Route::find("/v1/models/"), Some(Route::Models));
        assert_eq!(Route::find("/v1/models/a%2Fb"), Some(Route::Model("a/b".to_owned())));
        assert_eq!(Route::find("/"), Some(Route::Root));
        for path in ["/v1", "/v2/models", "/v1/healthz", "/v1/models/%ff", "/x"] {
            assert_eq!(Route::find(path), None, "{path}");
        }
    }
}
