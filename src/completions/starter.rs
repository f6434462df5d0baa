//! Starts the runs of a request, the first ones and further ones: without what the model has just refused,
//! or to mend tool calls.

use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};
use serde_json::Value;

use crate::budget::{Budget, Share};
use crate::chat::Prompt;
use crate::chat::models::Model;
use crate::error::Error;
use crate::langfast::{
    Admission, LangFast, Listener, Refusals, Sent, Subscription, Unwanted, prompt_meta,
};
use crate::observe::logger;
use crate::sync::RingAtEnd;

/// Most runs for one choice because of what the model refuses: a model that refuses one parameter may
/// refuse another one beside it, and says so of one at a time. What the third run meets is the client's
/// to know, and is left out of the next request's first run.
const MOST_TRIES: usize = 3;
/// Most bytes of prompts that are kept, all requests together, until their runs have begun to answer.
const KEPT: usize = 32 << 20;

/// Tries again without what models refuse, and remembers it.
pub struct SecondTries {
    refusals: Refusals,
    /// The memory of the prompts that are kept for second tries.
    kept: Arc<Budget>,
}

impl Default for SecondTries {
    fn default() -> SecondTries {
        SecondTries { refusals: Refusals::default(), kept: Budget::new(KEPT) }
    }
}

/// The prompt of a run that has not begun to answer, kept for another run.
#[derive(Clone)]
pub struct KeptPrompt {
    prompt: Arc<Prompt>,
    _share: Arc<Share>,
}

/// A run that has been started.
pub struct StartedRun {
    /// Its events.
    pub subscription: Subscription,
    /// The parts of the run's request that a model can refuse.
    pub sent: Sent,
    /// The fields that were left out of it.
    pub left_out: Vec<&'static str>,
    /// The number of runs so far for the same choice and prompt, this one included.
    pub tries: usize,
}

/// A `prompt_meta`, and the names of the fields that are left out of it.
pub type Fitted = (Arc<Value>, Vec<&'static str>);

/// A further run that is being started: the result is sent once. A disconnected channel is a failure.
pub type Starting = Receiver<Result<StartedRun, Error>>;

/// Starts the runs of one request.
#[derive(Clone)]
pub struct Starter {
    /// The client of LangFast.
    pub langfast: Arc<LangFast>,
    /// The request's model.
    pub model: Arc<Model>,
    /// The request's leave to start runs.
    pub admission: Arc<Admission>,
    /// `None` if a refused parameter is an error.
    pub second_tries: Option<Arc<SecondTries>>,
    /// Tells whether the request's answer is still wanted.
    pub unwanted: Unwanted,
    /// Who listens to the runs.
    pub listener: Listener,
    /// The request's id, for the log.
    pub request_id: String,
}

impl Starter {
    /// Fits a prompt to what the model accepts, as far as that is known.
    ///
    /// # Errors
    /// See [`prompt_meta`].
    pub fn fit(&self, prompt: &Prompt) -> Result<Fitted, Error> {
        let tries = self.second_tries.as_ref();
        let refused = tries.map(|tries| tries.refusals.of(&self.model.slug)).unwrap_or_default();
        let (meta, left_out) = prompt_meta(prompt, &self.model, &refused)?;
        Ok((Arc::new(meta), left_out))
    }

    /// Starts a run of `prompt`, which has been `fitted` to the model, after `tries` other ones. If it is
    /// refused for something that it can do without, starts another one in its place.
    ///
    /// # Errors
    /// The step that failed, and how.
    pub fn run(
        &self,
        prompt: &Prompt,
        mut fitted: Fitted,
        mut tries: usize,
    ) -> Result<StartedRun, Error> {
        let _lines = logger::concerning(&self.request_id);
        let mut before: Option<(Error, Sent)> = None;
        loop {
            let (meta, left_out) = fitted;
            tries += 1;
            let sent = Sent::of(&meta);
            let (slug, admission) = (&self.model.slug, &self.admission);
            match self.langfast.start(slug, &meta, admission, &self.listener, &self.unwanted) {
                Ok(subscription) => {
                    return Ok(StartedRun { subscription, sent, left_out, tries });
                }
                Err(error) => {
                    if let (Some((first, sent)), Some(tries)) = (&before, &self.second_tries) {
                        tries.refusals.doubt(slug, first, sent, &error);
                    }
                    if !self.may_try_again(&error, &sent, tries) {
                        return Err(error);
                    }
                    fitted = self.fit(prompt)?;
                    before = Some((error, sent));
                }
            }
        }
    }

    /// Starts a further run after `tries` other ones, in a thread of its own: signing in, connecting and
    /// starting it may take long, and meanwhile the stream is kept alive and its client's leaving is
    /// noticed.
    pub fn start(&self, prompt: Arc<Prompt>, tries: usize) -> Starting {
        let (started, starting) = bounded(1);
        let (own, sender) = (self.clone(), started.clone());
        let ring = RingAtEnd(self.listener.bell.clone());
        let thread = std::thread::Builder::new().name("further run".to_owned()).spawn(move || {
            // In this order: rung when the sender is gone.
            let (_ring, sender) = (ring, sender);
            let run = own.fit(&prompt).and_then(|fitted| own.run(&prompt, fitted, tries));
            // Nobody receives the run if the client has gone: then it is dropped, and so given up.
            let _ = sender.send(run);
        });
        if let Err(error) = thread {
            let _ = started.send(Err(Error::Overloaded(format!("no thread: {error}"))));
        }
        starting
    }

    /// Learns from the error of a run that was given `sent`, the last of `tries` ones; returns whether a
    /// run without what was refused may be tried.
    pub fn may_try_again(&self, error: &Error, sent: &Sent, tries: usize) -> bool {
        let Some(second_tries) = &self.second_tries else { return false };
        second_tries.refusals.learn(&self.model.slug, error, sent) && tries < MOST_TRIES
    }

    /// Keeps a prompt for a second try, if there is one and memory for it.
    pub fn keep(&self, prompt: &Arc<Prompt>) -> Option<KeptPrompt> {
        let mut share = Share::of(&self.second_tries.as_ref()?.kept);
        let bytes = prompt.messages.iter().map(|message| message.content.bytes()).sum::<usize>();
        let bytes = bytes + prompt.closing.usual.len() + prompt.closing.unformatted.len();
        share.grow(bytes, None).ok()?;
        Some(KeptPrompt { prompt: prompt.clone(), _share: Arc::new(share) })
    }
}

impl KeptPrompt {
    /// The prompt.
    pub fn prompt(&self) -> &Arc<Prompt> {
        &self.prompt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Role};
    use crate::config::Settings;
    use crate::langfast::wanted_always;

    #[test]
    fn prompts_are_kept_as_far_as_there_is_memory_for_them() {
        let settings = Settings::of_flags(&["--state-dir", "/nowhere"]);
        let langfast = Arc::new(LangFast::new(&settings.langfast).unwrap());
        let starter = Starter {
            admission: Arc::new(langfast.admit("gpt-4o", &wanted_always()).unwrap()),
            langfast,
            model: settings.model_source().read().unwrap().models.serve("gpt-4o").unwrap(),
            second_tries: Some(Arc::default()),
            unwanted: wanted_always(),
            listener: Listener::default(),
            request_id: String::new(),
        };
        let content = "x".repeat(KEPT / 2);
        let messages = vec![Message { role: Role::User, content: content.into() }];
        let prompt = Arc::new(Prompt { messages, ..Prompt::default() });
        let (first, second) = (starter.keep(&prompt), starter.keep(&prompt));
        assert!(first.is_some() && second.is_some());
        assert!(starter.keep(&prompt).is_none());
        drop(first);
        assert!(starter.keep(&prompt).is_some());
        let none = Starter { second_tries: None, ..starter };
        assert!(none.keep(&prompt).is_none(), "there is no second try to keep it for");
    }
}
