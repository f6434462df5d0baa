//! What each route answers.

use std::io;
use std::time::Instant;

use super::peers::Relay;
use super::route::Route;
use super::service::Service;
use super::stored_responses::{self, Replay};
use super::{listed_models, metrics, page, probe, unknown_url};
use crate::budget::Body;
use crate::completions::{CompletionRecord, Repeats, Reply};
use crate::dialects::openai::responses::socket::{self, Message, Wish};
use crate::dialects::openai::{legacy, request, responses};
use crate::dialects::{CompletionRequest, anthropic};
use crate::error::Error;
use crate::http::Head;
use crate::http::answer::Answer;
use crate::observe::vitals::UnderWay;
use crate::server::access::Access;
use crate::stored::{MOST_LANES, OwnStore, Owner};

/// The rest of an answer, which a thread with a small stack writes.
pub enum Rest {
    /// The reply of a model.
    Reply(Box<Reply>, UnderWay),
    /// A stored response, streamed again.
    Replay(Replay),
    /// An answer of another instance.
    Relay(Relay),
}

impl Rest {
    /// Waits until something of a whole answer has come, but not longer than `until`; true if so.
    pub fn comes_whole_by(&self, until: Instant) -> bool {
        matches!(self, Rest::Reply(reply, _) if reply.comes_whole_by(until))
    }

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
    /// Answers a request. If that takes long, as a call to a model does, only the beginning is done here, and
    /// the rest is returned for another thread to write.
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
        let head = &exchange.head;
        let route = Route::find(head.path()).ok_or_else(|| unknown_url::error(head))?;
        for (name, value) in self.access.cors_fields(head) {
            answer.field(name, value);
        }
        if self.access.is_preflight(head) {
            return whole(preflight(answer, head, &route));
        }
        let stopping = &self.completions.stopping;
        if let Some(relay) = self.peers.hand_over(&route, &exchange, &mut body, stopping) {
            return Ok(Some(Rest::Relay(relay)));
        }
        self.answer_route(route, body, answer, record)
    }

    /// Answers at a route: begins a call to a model, or writes a whole answer.
    fn answer_route(
        &self,
        route: Route,
        mut body: Body,
        answer: &mut Answer,
        record: &mut CompletionRecord,
    ) -> Result<Option<Rest>, Error> {
        let exchange = answer.exchange().clone();
        let (head, images) = (&exchange.head, self.completions.images);
        let call = match route {
            Route::ChatCompletions(model) => request::parse(&mut body, images, model)?,
            Route::Completions(model) => legacy::parse(&mut body, model)?,
            Route::Messages => anthropic::request::parse(&mut body, images)?,
            Route::Responses => responses::parse(&mut body, images, &self.own(head)?)?,
            Route::CountTokens => return whole(self.count_tokens(&mut body, answer)?),
            Route::Response(id) => return self.answer_stored(&id, answer),
            Route::ResponseInput(id) => {
                return whole(stored_responses::input(answer, &self.own_at_url(head)?, &id)?);
            }
            Route::ResponseCancel(id) => {
                return whole(stored_responses::cancel(answer, &self.own_at_url(head)?, &id)?);
            }
            Route::Models => return whole(listed_models::list(answer, self)),
            Route::Model(name) => return whole(listed_models::one(answer, self, &name)?),
            Route::Root => return whole(page::root(answer)),
            Route::Icon => return whole(page::icon(answer)),
            Route::Status => return whole(page::status(answer, self)),
            Route::StatusOfModels => return whole(page::models(answer, self)),
            Route::Probe => return whole(probe::send(answer)),
            Route::Metrics => return whole(metrics::send(answer, self)),
            Route::Ready => return whole(self.tell_readiness(answer)?),
            Route::Health => return whole(answer.json(200, OK)),
        };
        self.begin(call, body, answer, record)
    }

    /// Answers with the estimated tokens of a prompt.
    fn count_tokens(&self, body: &mut Body, answer: &mut Answer) -> Result<io::Result<()>, Error> {
        let request = anthropic::request::parse_to_count(body, self.completions.images)?;
        let tokens = self.completions.estimate(&self.models.current(), &request)?;
        Ok(answer.json(200, &anthropic::response::token_count(tokens)))
    }

    /// Answers at the URL of a stored response: deletes it, tells it, or streams it again.
    fn answer_stored(&self, id: &str, answer: &mut Answer) -> Result<Option<Rest>, Error> {
        let exchange = answer.exchange().clone();
        let own = self.own_at_url(&exchange.head)?;
        if exchange.head.method == "DELETE" {
            return whole(stored_responses::delete(answer, &own, id)?);
        }
        let entry = stored_responses::find(&own, id)?;
        match Replay::wanted(entry.clone(), &exchange.head)? {
            Some(replay) => {
                let replay = replay.keeping_alive(self.completions.keep_alive);
                Ok(Some(Rest::Replay(replay)))
            }
            None => whole(answer.json(200, &entry.outcome().answer())),
        }
    }

    /// Answers whether requests can succeed.
    ///
    /// # Errors
    /// The failure that all requests would meet until somebody acts or a sign-in succeeds.
    fn tell_readiness(&self, answer: &mut Answer) -> Result<io::Result<()>, Error> {
        match self.completions.langfast.failure() {
            Some(failure) => Err(failure),
            None => Ok(answer.json(200, OK)),
        }
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
                return self.begin(request, body, answer, record);
            }
            Wish::Steer => answer.message(200, &socket::not_steered(&mut body)?),
            Wish::Nothing => {
                answer.no_message();
                Ok(())
            }
        };
        whole(written)
    }

    /// Starts the runs of a call that was parsed from `body`.
    fn begin(
        &self,
        call: CompletionRequest,
        body: Body,
        answer: &mut Answer,
        record: &mut CompletionRecord,
    ) -> Result<Option<Rest>, Error> {
        // The bytes are freed, and the values parsed from them count in their place.
        let _share = body.into_share();
        let head = &answer.exchange().head;
        let keys = Access::keys_given(head);
        record.marker_secret = Some(self.completions.marker_secret.of_client(&keys));
        let client = (keys, Route::find(head.path()).map(|route| route.name()));
        record.asked = Repeats::asked(&self.completions.repeats, client, &call.chats);
        let under_way = self.vitals.begin_answer(call.stream);
        let reply = self.completions.create(&self.models.current(), call, answer, record)?;
        Ok(Some(Rest::Reply(Box::new(reply), under_way)))
    }

    /// Returns the stored responses of the sender of this head.
    ///
    /// # Errors
    /// Its key does not count any more.
    fn own(&self, head: &Head) -> Result<OwnStore, Error> {
        self.access.owner(head).map(|owner| self.stored.of(Owner(owner)))
    }

    /// Returns the stored responses of the sender of this head, where a URL asks for one.
    ///
    /// # Errors
    /// Nothing is stored here, or its key does not count any more.
    fn own_at_url(&self, head: &Head) -> Result<OwnStore, Error> {
        if !self.stored.is_on() {
            let why = "responses are not stored here (--store-responses 0): send the conversation \
                       with each request";
            return Err(Error::NoSuchUrl(format!("{} {} ({why})", head.method, head.path())));
        }
        self.own(head)
    }
}

/// The end of an answer that has been written whole.
fn whole(written: io::Result<()>) -> Result<Option<Rest>, Error> {
    written.map(|()| None).map_err(|_| Error::ClientGone)
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
