//! The service behind the routes: what each route answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::admission::envelope;
use super::models_in_use::ModelsInUse;
use super::peers::{Peers, Relay};
use super::permits::Permit;
use super::route::{Route, speaks_anthropic};
use super::stored_responses::{self, Replay};
use super::{metrics, page, probe, unknown_url};
use crate::budget::Body;
use crate::chat::models::shutdowns::Day;
use crate::chat::models::{Model, Models, no_such_model};
use crate::completions::{CompletionRecord, Completions, Repeats, Reply};
use crate::config::FittedLimits;
use crate::dialects::openai::responses::socket::{self, Message, Wish};
use crate::dialects::openai::{legacy, request, responses};
use crate::dialects::{CompletionRequest, anthropic, openai};
use crate::error::{Error, Step, clean};
use crate::http::answer::Answer;
use crate::http::{Exchange, Head};
use crate::observe::vitals::{AnsweredRequest, UnderWay, Vitals};
use crate::server::access::Access;
use crate::stored::{Lanes, MOST_LANES, OwnStore, Owner, Store};

/// Everything that answers are made from.
pub struct Service {
    /// The models.
    pub models: ModelsInUse,
    /// True if models that are shut down are listed, too.
    pub all_models: bool,
    /// Calls to models.
    pub completions: Completions,
    /// The access rules: keys, hosts and origins.
    pub access: Access,
    /// The server's counters.
    pub vitals: Arc<Vitals>,
    /// The responses that are stored.
    pub stored: Arc<Store>,
    /// The newest responses of WebSockets, for themselves.
    pub lanes: Arc<Lanes>,
    /// The other instances, which have stored others.
    pub peers: Peers,
    /// True if `/metrics` needs no key.
    pub open_metrics: bool,
    /// The limits, to be shown.
    pub limits: FittedLimits,
}

/// What is left to be written of an answer, by a thread that stays small.
pub enum Rest {
    /// The reply of a model.
    Reply(Box<Reply>, UnderWay),
    /// A stored response, streamed again.
    Replay(Replay),
    /// An answer of another instance.
    Relay(Relay),
}

impl Rest {
    /// Writes the rest, and returns the facts to log.
    pub fn write(self, answer: &mut Answer) -> (CompletionRecord, Result<(), Error>) {
        match self {
            Rest::Reply(reply, _under_way) => reply.write(answer),
            Rest::Replay(replay) => (CompletionRecord::default(), replay.write(answer)),
            Rest::Relay(relay) => (CompletionRecord::default(), relay.write(answer)),
        }
    }
}

impl Service {
    /// Answers a request. Of what takes long only the beginning is done, such as starting the runs of a call
    /// to a model, and the rest is returned for another thread to write.
    pub fn answer(
        &self,
        mut body: Body,
        answer: &mut Answer,
        record: &mut CompletionRecord,
    ) -> Result<Option<Rest>, Error> {
        let exchange = answer.exchange().clone();
        if let Some(id) = exchange.socket() {
            return self.answer_message(id, body, answer, record);
        }
        let path = exchange.head.path();
        let route = Route::find(path).ok_or_else(|| unknown_url::error(&exchange.head))?;
        for (name, value) in self.access.cors_fields(&exchange.head) {
            answer.field(name, value);
        }
        if exchange.head.method == "OPTIONS" && self.access.comes_from_allowed_page(&exchange.head)
        {
            let written = preflight(answer, &exchange.head, &route);
            return written.map(|()| None).map_err(|_| Error::ClientGone);
        }
        if let Some(relay) = self.hand_over(&route, &exchange, &mut body) {
            return Ok(Some(Rest::Relay(relay)));
        }
        let models = self.models.current();
        let written = match route {
            Route::ChatCompletions(model) => {
                let request = request::parse(&mut body, self.completions.images, model)?;
                return self.begin(&models, request, body, answer, record).map(Some);
            }
            Route::Completions(model) => {
                let request = legacy::parse(&mut body, model)?;
                return self.begin(&models, request, body, answer, record).map(Some);
            }
            Route::Messages => {
                let request = anthropic::request::parse(&mut body, self.completions.images)?;
                return self.begin(&models, request, body, answer, record).map(Some);
            }
            Route::CountTokens => {
                let request =
                    anthropic::request::parse_to_count(&mut body, self.completions.images)?;
                let tokens = self.completions.estimate(&models, &request)?;
                answer.json(200, &anthropic::response::token_count(tokens))
            }
            Route::Responses => {
                let request = responses::parse(
                    &mut body,
                    self.completions.images,
                    &self.own(&exchange.head)?,
                )?;
                return self.begin(&models, request, body, answer, record).map(Some);
            }
            Route::Response(_) | Route::ResponseInput(_) | Route::ResponseCancel(_)
                if !self.stored.is_on() =>
            {
                let why = "responses are not stored here (--store-responses 0): send the conversation \
                           with each request";
                return Err(Error::NoSuchUrl(format!("{} {path} ({why})", exchange.head.method)));
            }
            Route::Response(id) if exchange.head.method == "DELETE" => {
                stored_responses::delete(answer, &self.own(&exchange.head)?, &id)?
            }
            Route::Response(id) => {
                let entry = stored_responses::find(&self.own(&exchange.head)?, &id)?;
                if let Some(replay) = Replay::wanted(entry.clone(), &exchange.head)? {
                    let replay = replay.keeping_alive(self.completions.keep_alive);
                    return Ok(Some(Rest::Replay(replay)));
                }
                answer.json(200, &entry.outcome().answer())
            }
            Route::ResponseInput(id) => {
                let entry = stored_responses::find(&self.own(&exchange.head)?, &id)?;
                stored_responses::input(answer, &entry)?
            }
            Route::ResponseCancel(id) => {
                let entry = stored_responses::find(&self.own(&exchange.head)?, &id)?;
                stored_responses::cancel(answer, &entry)?
            }
            Route::Models => {
                let today = Day::today();
                let all = self.all_models || exchange.head.query("all") == Some("true");
                let offered = models.offered(&today, all);
                let list = match speaks_anthropic(&exchange.head) {
                    true => anthropic::models::model_list(&offered, &today),
                    false => openai::models::model_list(&offered),
                };
                answer.json(200, &list)
            }
            Route::Model(name) => {
                let model = models.find(&name).ok_or_else(|| no_such_model(&name))?;
                let listed = models.listed(&name, model);
                let look = match speaks_anthropic(&exchange.head) {
                    true => anthropic::models::model(&listed, &Day::today()),
                    false => openai::models::model(&listed),
                };
                answer.json(200, &look)
            }
            Route::Root if page::is_wanted(&exchange.head) => page::send(answer),
            Route::Root => {
                answer.field("Vary", "Accept");
                answer.whole(200, "text/plain; charset=utf-8", ROOT)
            }
            Route::Icon => page::icon(answer),
            Route::Status => {
                answer.field("Cache-Control", "no-store");
                answer.json(200, &page::status(self))
            }
            Route::StatusOfModels => answer.json(200, &page::models(&models, &Day::today())),
            Route::Probe => probe::send(answer),
            Route::Metrics => metrics::send(answer, self),
            Route::Ready => match self.completions.langfast.failure() {
                // Requests would fail the same way until somebody acts or a sign-in succeeds.
                Some(failure) => return Err(failure),
                None => answer.json(200, OK),
            },
            Route::Health => answer.json(200, OK),
        };
        written.map(|()| None).map_err(|_| Error::ClientGone)
    }

    /// Answers a message of a WebSocket. It is not handed to another instance: a client knows what to do where
    /// a response is not found, and the one that it continues is mostly the WebSocket's own.
    fn answer_message(
        &self,
        id: u64,
        mut body: Body,
        answer: &mut Answer,
        record: &mut CompletionRecord,
    ) -> Result<Option<Rest>, Error> {
        let message = Message::read(&mut body)?;
        record.lane.clone_from(&message.lane);
        let written = match message.wish()? {
            Wish::Create => {
                let lane = self.lanes.enter(id, &message.lane);
                let lane = lane.ok_or_else(|| socket::too_many_lanes(MOST_LANES))?;
                let own = self.own(&answer.exchange().head)?.on(lane);
                let request = responses::parse(&mut body, self.completions.images, &own)?;
                return self.begin(&self.models.current(), request, body, answer, record).map(Some);
            }
            Wish::Steer => answer.message(200, &socket::not_steered(&mut body)?),
            Wish::Nothing => {
                answer.no_message();
                Ok(())
            }
        };
        written.map(|()| None).map_err(|_| Error::ClientGone)
    }

    /// Hands a request to the instance that has what it refers to, if that is another one.
    fn hand_over(&self, route: &Route, exchange: &Exchange, body: &mut Body) -> Option<Relay> {
        self.peers.hand_over(route, exchange, body, &self.completions.stopping)
    }

    /// Starts the runs of a call that was parsed from `body`.
    fn begin(
        &self,
        models: &Models,
        request: CompletionRequest,
        body: Body,
        answer: &mut Answer,
        record: &mut CompletionRecord,
    ) -> Result<Rest, Error> {
        // The bytes are freed, and the values parsed from them count in their place.
        let _share = body.into_share();
        let head = &answer.exchange().head;
        let keys = Access::keys_given(head);
        record.marker_secret = Some(self.completions.marker_secret.of_client(&keys));
        let client = (keys, Route::find(head.path()).map(|route| route.name()));
        record.asked = Repeats::asked(&self.completions.repeats, client, &request.chats);
        let under_way = self.vitals.begin_answer(request.stream);
        let reply = self.completions.create(models, request, answer, record)?;
        Ok(Rest::Reply(Box::new(reply), under_way))
    }

    /// What the sender of this head has stored.
    ///
    /// # Errors
    /// Its key does not count any more.
    fn own(&self, head: &Head) -> Result<OwnStore, Error> {
        self.access.owner(head).map(|owner| self.stored.of(Owner(owner)))
    }

    /// Ends a request: answers with the error if nothing has been answered, gives the permit back,
    /// and counts and logs the outcome.
    pub fn finish(
        &self,
        mut answer: Answer,
        record: &CompletionRecord,
        result: Result<(), Error>,
        permit: Permit,
    ) {
        if let (Err(error), None) = (&result, answer.status()) {
            // This fails only if the client has gone and cannot be told.
            let _ = write_error(&mut answer, error, &record.lane);
        }
        // The exchange ends before the request is logged, so that the client can go on at once.
        drop(permit);
        answer.end();
        count_request(&self.vitals, &answer, record, result.as_ref().err());
        log_request(&answer, record, result.as_ref().err());
    }
}

/// Answers with an error: on a WebSocket with a message of this lane.
fn write_error(answer: &mut Answer, error: &Error, lane: &str) -> io::Result<()> {
    let exchange = answer.exchange().clone();
    if !answer.is_messages() {
        return answer.error(error, envelope(&exchange.head));
    }
    let message = socket::error_message(error, &exchange.request_id, lane);
    answer.message(error.report().status, &message)
}

/// Answers a preflight, allowing whatever header fields the page asks for, since SDKs send many.
fn preflight(answer: &mut Answer, head: &Head, route: &Route) -> io::Result<()> {
    answer.field("Access-Control-Allow-Methods", route.methods());
    if let Some(wanted) = head.header("access-control-request-headers") {
        answer.field("Access-Control-Allow-Headers", wanted);
    }
    // Chrome asks this where a page of the Internet calls an address of the local network.
    if head.header("access-control-request-private-network") == Some("true") {
        answer.field("Access-Control-Allow-Private-Network", "true");
    }
    answer.field("Access-Control-Max-Age", "600");
    answer.empty(204)
}

const OK: &str = r#"{"status":"ok"}"#;

const ROOT: &str = concat!(
    "langfast2api ",
    env!("CARGO_PKG_VERSION"),
    ": an OpenAI-compatible API in front of LangFast.\n",
    "Point an OpenAI client at the path /v1 of this address. GET /v1/models lists the models.\n",
);

fn count_request(
    vitals: &Vitals,
    answer: &Answer,
    record: &CompletionRecord,
    error: Option<&Error>,
) {
    let exchange = answer.exchange();
    vitals.note_request(&AnsweredRequest {
        route: Route::find(exchange.head.path()).map(|route| route.name()),
        model: record.model.as_deref().map(Model::label),
        status: answer.status(),
        took: exchange.accepted.elapsed(),
        first_text: record.first_text,
        tools: record.verdict,
        usage: record.usage,
        sent: answer.bytes(),
        error: error.or(record.broken.as_ref()),
    });
}

/// Logs one line for a request: its route, result and times, and nothing of its contents.
fn log_request(answer: &Answer, record: &CompletionRecord, error: Option<&Error>) {
    let exchange = answer.exchange();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // An open status page and Prometheus ask every few seconds.
    let is_routine =
        matches!(exchange.head.path(), "/status" | "/metrics") && answer.status() == Some(200);
    log::log!(
        if is_routine { log::Level::Debug } else { log::Level::Info },
        status = answer.status(),
        model = record.model.as_ref().map(|model| clean(&model.slug)),
        first_ms = record.first_text.map(millis),
        tools = record.tools.as_deref(),
        ms = millis(exchange.accepted.elapsed()),
        bytes = answer.bytes(),
        error = error.map(Error::cause),
        step = error.and_then(Error::step).map(Step::name);
        "{} {}",
        exchange.head.method,
        // The query is left out: it may hold secrets.
        exchange.head.path(),
    );
}
