//! Faults that a test or a person asks for: what the next requests at one step meet instead of an
//! answer.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;

/// The steps of a client's way to an answer, each of which can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// `POST /auth/v1/signup`
    #[serde(alias = "signup")]
    SignUp,
    /// `POST /auth/v1/token?grant_type=refresh_token`
    Refresh,
    /// `POST /auth/v1/token?grant_type=password`
    Password,
    /// `POST /rest/v1/rpc/create_prompt`
    CreatePrompt,
    /// `POST /functions/v1/initiate-prompt-run`
    Run,
    /// The WebSocket handshake at `/socket.io/`, or, for [`Fault::refuse`], the Socket.IO CONNECT.
    Connect,
}

impl Step {
    /// The step that a request is, if it is one.
    pub fn of(uri: &Uri) -> Option<Self> {
        match uri.path() {
            "/auth/v1/signup" => Some(Self::SignUp),
            "/auth/v1/token" if uri.query() == Some("grant_type=password") => Some(Self::Password),
            "/auth/v1/token" => Some(Self::Refresh),
            "/rest/v1/rpc/create_prompt" => Some(Self::CreatePrompt),
            "/functions/v1/initiate-prompt-run" => Some(Self::Run),
            "/socket.io/" => Some(Self::Connect),
            _ => None,
        }
    }
}

/// What a request meets.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(super) kind: Kind,
    delay: Duration,
    times: usize,
}

/// The kinds of [`Fault`].
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// An answer with this status, these headers and this body.
    Status { status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: String },
    /// No answer, and the connection stays open.
    Hang,
    /// No answer: the connection is reset.
    Reset,
    /// The Socket.IO CONNECT is refused with this message.
    Refuse { message: String },
    /// The usual answer, only later.
    Slow,
}

impl Fault {
    /// An answer with this status, and no body unless [`Fault::body`] gives one.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("an HTTP status");
        Self::new(Kind::Status { status, headers: Vec::new(), body: String::new() })
    }

    /// The request is taken and never answered.
    pub fn hang() -> Self {
        Self::new(Kind::Hang)
    }

    /// The request is taken; then its TCP connection is reset.
    pub fn reset() -> Self {
        Self::new(Kind::Reset)
    }

    /// `44{"message":…}` in answer to a Socket.IO CONNECT; for [`Step::Connect`] only.
    pub fn refuse(message: &str) -> Self {
        Self::new(Kind::Refuse { message: message.to_owned() })
    }

    /// The usual answer, this many milliseconds late.
    pub fn slow(ms: u64) -> Self {
        Self::new(Kind::Slow).delay(ms)
    }

    /// The body of a [`Fault::status`].
    pub fn body(mut self, text: &str) -> Self {
        if let Kind::Status { body, .. } = &mut self.kind {
            text.clone_into(body);
        }
        self
    }

    /// A header of a [`Fault::status`]. Panics when it is not a valid one.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Kind::Status { headers, .. } = &mut self.kind {
            let name = name.parse().expect("a header name");
            headers.push((name, value.parse().expect("a header value")));
        }
        self
    }

    /// Waits this many milliseconds first; a [`Fault::refuse`] does not wait.
    pub fn delay(mut self, ms: u64) -> Self {
        self.delay = Duration::from_millis(ms);
        self
    }

    /// How many requests meet it; 1 by default.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    fn new(kind: Kind) -> Self {
        Self { kind, delay: Duration::ZERO, times: 1 }
    }

    /// How long to wait before it happens.
    pub(super) fn wait(&self) -> Duration {
        self.delay
    }
}

/// The answer that a [`Kind::Status`] stands for.
pub(super) fn answer(
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: String,
) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().extend(headers);
    response
}

/// The faults still to come, first in first out at each step.
#[derive(Default)]
pub(super) struct Faults(HashMap<Step, VecDeque<Fault>>);

impl Faults {
    pub fn push(&mut self, step: Step, fault: Fault) {
        if fault.times > 0 {
            self.0.entry(step).or_default().push_back(fault);
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What an HTTP request at this step meets. A refusal is not for HTTP: it waits for the
    /// CONNECT.
    pub fn next_for_request(&mut self, step: Step) -> Option<Fault> {
        self.next_if(step, |kind| !matches!(kind, Kind::Refuse { .. }))
    }

    /// With which message the Socket.IO CONNECT that has just come is refused, if it is.
    pub fn next_refusal(&mut self) -> Option<String> {
        let fault = self.next_if(Step::Connect, |kind| matches!(kind, Kind::Refuse { .. }))?;
        match fault.kind {
            Kind::Refuse { message } => Some(message),
            _ => None,
        }
    }

    /// The first fault of the step if it is of the wanted kind, counted down.
    fn next_if(&mut self, step: Step, wanted: impl Fn(&Kind) -> bool) -> Option<Fault> {
        let queue = self.0.get_mut(&step)?;
        let first = queue.front_mut().filter(|fault| wanted(&fault.kind))?;
        first.times -= 1;
        let fault = first.clone();
        if fault.times == 0 {
            queue.pop_front();
        }
        Some(fault)
    }
}
