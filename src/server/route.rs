//! The routes: which URLs and methods the server knows.

use percent_encoding::percent_decode_str;

use super::probe;
use crate::http::Head;

/// The resource that a URL names.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    Root,
    /// The icon that browsers show beside the page.
    Icon,
    Health,
    Ready,
    Models,
    Model(String),
    /// The model, if the URL names it, as Azure's do.
    ChatCompletions(Option<String>),
    /// The model, if the URL names it, as Azure's do.
    Completions(Option<String>),
    Status,
    StatusOfModels,
    Probe,
    Messages,
    CountTokens,
    Responses,
    /// A stored response, by its id.
    Response(String),
    /// The input of a stored response.
    ResponseInput(String),
    /// Where a stored response is cancelled.
    ResponseCancel(String),
    Metrics,
}

impl Route {
    /// Returns the route of a path, tolerant of what clients write: a doubled slash, one at the end, and
    /// for the APIs the prefixes of other servers, none at all, or a base URL that holds a whole path.
    ///
    /// Nothing is decoded or put into lower case before it is compared, and no path leads to the server's
    /// own routes but theirs, so that what a proxy in front keeps away stays away.
    pub fn find(path: &str) -> Option<Route> {
        let parts = segments(path);
        of_the_server(&parts).or_else(|| of_an_api(&parts))
    }

    /// Returns the route's canonical path, whatever form the client wrote; used as a label in
    /// metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Route::Root => "/",
            Route::Icon => "/favicon.ico",
            Route::Health => "/healthz",
            Route::Ready => "/readyz",
            Route::Models => "/v1/models",
            Route::Model(_) => "/v1/models/{model}",
            Route::ChatCompletions(_) => "/v1/chat/completions",
            Route::Completions(_) => "/v1/completions",
            Route::Status => "/status",
            Route::StatusOfModels => "/status/models",
            Route::Probe => probe::PATH,
            Route::Metrics => "/metrics",
            Route::Messages => "/v1/messages",
            Route::CountTokens => "/v1/messages/count_tokens",
            Route::Responses => "/v1/responses",
            Route::Response(_) => "/v1/responses/{id}",
            Route::ResponseInput(_) => "/v1/responses/{id}/input_items",
            Route::ResponseCancel(_) => "/v1/responses/{id}/cancel",
        }
    }

    /// The allowed methods, as the `Allow` header lists them.
    pub fn methods(&self) -> &'static str {
        match self {
            Route::Probe => "GET",
            Route::ChatCompletions(_)
            | Route::Completions(_)
            | Route::Responses
            | Route::ResponseCancel(_)
            | Route::Messages
            | Route::CountTokens => "POST",
            Route::Response(_) => "GET, HEAD, DELETE",
            _ => "GET, HEAD",
        }
    }

    /// True if the route needs a key when keys are set.
    pub fn is_protected(&self) -> bool {
        !matches!(self, Route::Root | Route::Icon | Route::Health | Route::Ready)
    }

    /// True if the route allows this method.
    pub fn allows(&self, method: &str) -> bool {
        self.methods().split(", ").any(|allowed| allowed == method)
    }
}

/// The parts of a path between its slashes, without empty ones.
pub fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

fn of_the_server(parts: &[&str]) -> Option<Route> {
    match parts {
        [] => Some(Route::Root),
        ["favicon.ico"] => Some(Route::Icon),
        ["health" | "healthz" | "livez"] | ["v1", "health"] => Some(Route::Health),
        ["ready" | "readyz"] => Some(Route::Ready),
        ["status"] => Some(Route::Status),
        ["status", "models"] => Some(Route::StatusOfModels),
        ["doctor", "stream"] | ["v1", "doctor", "stream"] => Some(Route::Probe),
        ["metrics"] => Some(Route::Metrics),
        _ => None,
    }
}

/// The path prefixes of other servers, in any order and number in front of a resource: OpenAI's `/v1`,
/// OpenRouter's `/api/v1`, Azure's `/openai` and `/openai/v1`, and `/anthropic`, as several have it.
const PREFIXES: [&str; 4] = ["v1", "api", "openai", "anthropic"];

/// Removes all prefixes in front of a resource.
pub fn without_prefixes<'a, 'b>(parts: &'a [&'b str]) -> &'a [&'b str] {
    let prefixes = parts.iter().take_while(|part| PREFIXES.contains(part)).count();
    &parts[prefixes..]
}

/// A client adds its path to a base URL that holds a whole path already: what it adds counts, if it
/// [belongs](belongs) there.
fn of_an_api(parts: &[&str]) -> Option<Route> {
    let (route, rest) = resource(without_prefixes(parts))?;
    if rest.is_empty() {
        return Some(route);
    }
    let (added, rest) = resource(without_prefixes(rest))?;
    (rest.is_empty() && belongs(&added, &route)).then_some(added)
}

/// True if one resource is the same as the other, part of it, or the list of models. A proxy's rule for
/// a resource or a deployment could be passed by otherwise, with another one behind its path.
fn belongs(added: &Route, route: &Route) -> bool {
    match (added, route) {
        (Route::Models | Route::Model(_), _) => true,
        (_, Route::ChatCompletions(Some(_)) | Route::Completions(Some(_))) => added == route,
        _ => added.name().starts_with(route.name()),
    }
}

/// The resource that the parts begin with, and the parts behind it.
fn resource<'a, 'b>(parts: &'a [&'b str]) -> Option<(Route, &'a [&'b str])> {
    match parts {
        ["models"] => Some((Route::Models, &[])),
        ["models", name @ ..] => model(name).map(|route| (route, &[][..])),
        ["chat", "completions", rest @ ..] => Some((Route::ChatCompletions(None), rest)),
        ["completions", rest @ ..] => Some((Route::Completions(None), rest)),
        ["deployments", rest @ ..] => deployment(rest),
        ["messages", "count_tokens", rest @ ..] => Some((Route::CountTokens, rest)),
        ["messages", rest @ ..] => Some((Route::Messages, rest)),
        ["responses", rest @ ..] => match stored_response(rest) {
            Some(route) => Some((route, &[])),
            None => Some((Route::Responses, rest)),
        },
        _ => None,
    }
}

fn stored_response(parts: &[&str]) -> Option<Route> {
    match parts {
        [id] => response_id(id).map(Route::Response),
        [id, "input_items"] => response_id(id).map(Route::ResponseInput),
        [id, "cancel"] => response_id(id).map(Route::ResponseCancel),
        _ => None,
    }
}

/// A model by its name, which may hold slashes. `/models` with a task behind it is a wrong base URL.
fn model(parts: &[&str]) -> Option<Route> {
    if begins_with_task(without_prefixes(parts)) || is_of_google(parts) {
        return None;
    }
    decoded(parts).map(Route::Model)
}

fn begins_with_task(parts: &[&str]) -> bool {
    matches!(parts, ["chat", "completions", ..] | ["completions" | "responses" | "messages", ..])
}

/// True if the last part names a model and a method, as in Google's Gemini API.
pub fn is_of_google(parts: &[&str]) -> bool {
    const METHODS: [&str; 5] = [
        "batchEmbedContents",
        "countTokens",
        "embedContent",
        "generateContent",
        "streamGenerateContent",
    ];
    let last = parts.last().and_then(|last| last.rsplit_once(':'));
    last.is_some_and(|(_, method)| METHODS.contains(&method))
}

/// Azure's deployment, whose name stands for a model and may hold slashes.
fn deployment<'a, 'b>(parts: &'a [&'b str]) -> Option<(Route, &'a [&'b str])> {
    // At once a task, and so no name.
    let at = (0..parts.len()).find(|at| begins_with_task(&parts[*at..])).filter(|at| *at > 0)?;
    let name = decoded(&parts[..at])?;
    match &parts[at..] {
        ["chat", _, rest @ ..] => Some((Route::ChatCompletions(Some(name)), rest)),
        ["completions", rest @ ..] => Some((Route::Completions(Some(name)), rest)),
        _ => None,
    }
}

/// The name that the parts of a path make up together.
fn decoded(parts: &[&str]) -> Option<String> {
    let name = parts.join("/");
    Some(percent_decode_str(&name).decode_utf8().ok()?.into_owned())
}

/// The id of a response in a path; `None` if the part is the name of something else.
fn response_id(part: &str) -> Option<String> {
    let id = percent_decode_str(part).decode_utf8().ok()?;
    id.starts_with("resp_").then(|| id.into_owned())
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
            assert_eq!(Route::find(path), Some(Route::ChatCompletions(None)), "{path}");
        }
        assert_eq!(Route::find("/v1/models/"), Some(Route::Models));
        assert_eq!(Route::find("/v1/models/a%2Fb"), Some(Route::Model("a/b".to_owned())));
        assert_eq!(Route::find("/"), Some(Route::Root));
        let response = || "resp_1".to_owned();
        assert_eq!(Route::find("/v1/responses/resp%5F1/"), Some(Route::Response(response())));
        let input = Some(Route::ResponseInput(response()));
        assert_eq!(Route::find("//responses/resp_1/input_items"), input);
        let cancel = Some(Route::ResponseCancel(response()));
        assert_eq!(Route::find("/v1/responses/resp_1/cancel"), cancel);
        for path in ["/v1/responses/compact", "/v1/responses/resp_1/x", "/v1/responses/resp_%ff"] {
            assert_eq!(Route::find(path), None, "{path}");
        }
        for path in ["/v1", "/v2/models", "/v1/healthz", "/v1/models/%ff", "/x"] {
            assert_eq!(Route::find(path), None, "{path}");
        }
    }

    #[test]
    fn a_deployment_is_named_by_all_that_stands_before_its_task() {
        let chat = |name: &str| Some(Route::ChatCompletions(Some(name.to_owned())));
        for (path, route) in [
            ("/openai/deployments/a/chat/completions", chat("a")),
            ("/deployments/a%2Fb/chat/completions", chat("a/b")),
            ("/openai/deployments/a/b/chat/completions", chat("a/b")),
            ("/openai/deployments/v1/completions", Some(Route::Completions(Some("v1".to_owned())))),
            ("/openai/deployments/a/completions/chat/completions", None),
            ("/openai/deployments/chat/completions", None),
            ("/openai/deployments/a/messages", None),
            ("/openai/deployments/a/chat/completions/x", None),
            ("/openai/deployments/a/chat/completions/deployments/a/chat/completions", chat("a")),
            ("/openai/deployments/a/chat/completions/deployments/b/chat/completions", None),
            ("/openai/deployments/a/chat/completions/chat/completions", None),
        ] {
            assert_eq!(Route::find(path), route, "{path}");
        }
    }

    #[test]
    fn behind_a_whole_path_only_the_same_resource_or_the_models_are_found() {
        let find = |path: &str| Route::find(path).map(|route| route.name());
        assert_eq!(find("/v1/responses/v1/responses/resp_1"), Some("/v1/responses/{id}"));
        assert_eq!(
            find("/v1/messages/v1/messages/count_tokens"),
            Some("/v1/messages/count_tokens")
        );
        assert_eq!(find("/v1/completions/models/a"), Some("/v1/models/{model}"));
        for path in [
            "/v1/messages/count_tokens/v1/messages",
            "/v1/messages/chat/completions",
            "/v1/models/responses",
            "/v1/responses/responses/responses",
            "/v1/completions/metrics",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }
}
