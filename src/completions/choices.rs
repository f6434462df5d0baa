//! Merges the runs of one request into one sequence: their events, their deadlines, and the client's
//! leaving.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Select, TryRecvError, never};

use crate::chat::{FinishReason, ReportedUsage, Sampling};
use crate::completions::starter::{StartedRun, Starting};
use crate::error::Error;
use crate::http::{ClientNews, Exchange};
use crate::langfast::{Deadlines, Revised, RunClock, RunEvent, Sent};

/// An event of a choice.
#[derive(Clone, Debug, PartialEq)]
pub enum ChoiceEvent {
    /// Further text, never empty.
    Text(String),
    /// A sign of life of the choice's run.
    Alive,
    /// The connection that brings the run's events is lost (`true`), or there again.
    Cut(bool),
    /// The tokens that LangFast has counted for the choice's run.
    Usage(ReportedUsage),
    /// A further run for the choice has been started.
    Restarted(Box<FurtherRun>),
    /// The choice's run has failed before any text: another one may take its place
    /// ([`Choices::replace`]), or the request fails.
    Failed(Box<FailedRun>),
    /// The choice has ended.
    Ended {
        /// Why it has ended.
        reason: FinishReason,
        /// The final text, if it differs from what the texts add up to.
        revised: Option<Box<Revised>>,
    },
}

/// A run in the place of another one.
#[derive(Clone, Debug, PartialEq)]
pub struct FurtherRun {
    /// The fields that it was started without.
    pub left_out: Vec<&'static str>,
    /// The settings that it was started with.
    pub done: Sampling,
}

/// A run that has failed before any text.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedRun {
    /// How.
    pub error: Error,
    /// What it was given that a model can refuse.
    pub sent: Sent,
    /// The number of runs so far for the same choice and prompt.
    pub tries: usize,
}

/// The result of waiting for the choices of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum ChoiceNews {
    /// An event of the choice of this index.
    Choice(usize, ChoiceEvent),
    /// Nothing has happened until the given time.
    Silence,
    /// The client sends no more; it may have gone.
    HalfClosed,
}

/// The choices of one request, each with its run.
pub struct Choices {
    choices: Vec<RunningChoice>,
    client: Receiver<ClientNews>,
    /// Disconnected when the client has cancelled its answer.
    aborted: Receiver<Infallible>,
    stopping: Receiver<Never>,
}

/// Uninhabited: the channel signals only by being dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

enum Run {
    Starting(Starting),
    UnderWay(StartedRun),
}

struct RunningChoice {
    /// `None` once it has ended.
    run: Option<Run>,
    clock: RunClock,
    /// The reason and the final text as known since the run said that it is done, which more may follow.
    ending: Option<(FinishReason, Option<Box<Revised>>)>,
    /// Whether the answer can do without this run.
    may_fail: bool,
    /// Whether the run has brought any text.
    has_text: bool,
}

impl Choices {
    /// The choices of these runs, in their order.
    pub fn new(
        runs: Vec<StartedRun>,
        deadlines: Deadlines,
        client: Arc<Exchange>,
        stopping: Receiver<Never>,
    ) -> Choices {
        let clock = RunClock::start(deadlines);
        let choice = |run| RunningChoice::new(Run::UnderWay(run), clock.restart());
        let client = client.news().clone();
        let choices = runs.into_iter().map(choice).collect();
        Choices { choices, client, aborted: never(), stopping }
    }

    /// Ends the runs when this channel is disconnected.
    pub fn abort_by(&mut self, aborted: Receiver<Infallible>) {
        self.aborted = aborted;
    }

    /// Goes on whatever becomes of the client.
    pub fn leave_client(&mut self) {
        self.client = never();
    }

    /// The number of choices.
    pub fn len(&self) -> usize {
        self.choices.len()
    }

    /// Whether there is no choice.
    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// Whether all choices have ended.
    pub fn all_ended(&self) -> bool {
        self.choices.iter().all(|choice| choice.run.is_none())
    }

    /// Ends a choice and drops its run, of which nothing more is wanted.
    pub fn end(&mut self, at: usize) {
        self.choices[at].run = None;
    }

    /// Puts another run in the place of a choice's one that has failed, with deadlines of its own.
    pub fn replace(&mut self, at: usize, run: Starting) {
        let clock = self.choices[at].clock.restart();
        self.choices[at] = RunningChoice::new(Run::Starting(run), clock);
    }

    /// Replaces a choice's run by another one, with deadlines of its own. If that one fails, or is not
    /// started, the choice ends as if nothing more had come, because it has had an answer.
    pub fn restart(&mut self, at: usize, run: Starting) {
        let clock = self.choices[at].clock.restart();
        self.choices[at] =
            RunningChoice { may_fail: true, ..RunningChoice::new(Run::Starting(run), clock) };
    }

    /// Returns the next event without waiting; `None` if there is none yet.
    pub fn ready(&mut self) -> Option<Result<ChoiceNews, Error>> {
        for at in 0..self.choices.len() {
            if let Some(event) = self.choices[at].ready() {
                return Some(event.map(|event| ChoiceNews::Choice(at, event)));
            }
        }
        None
    }

    /// Waits for the next event, or until `silence`.
    ///
    /// # Errors
    /// A run has failed or exceeded one of its deadlines; the client has gone, or has cancelled its answer;
    /// the server stops.
    pub fn next(&mut self, silence: Option<Instant>) -> Result<ChoiceNews, Error> {
        loop {
            if let Some(ready) = self.ready() {
                return ready;
            }
            let (deadline, at) = self.earliest_deadline();
            match self.wait(silence.map_or(deadline, |silence| silence.min(deadline)))? {
                Woken::ByRun => {}
                Woken::ByClient => return Ok(ChoiceNews::HalfClosed),
                Woken::InTime if Instant::now() < deadline => return Ok(ChoiceNews::Silence),
                Woken::InTime => {
                    let event = self.choices[at].expire()?;
                    return Ok(ChoiceNews::Choice(at, event));
                }
            }
        }
    }

    fn earliest_deadline(&self) -> (Instant, usize) {
        let running = self.choices.iter().enumerate().filter(|(_, choice)| choice.run.is_some());
        let deadlines = running.map(|(at, choice)| (choice.deadline(), at));
        deadlines.min().unwrap_or((Instant::now(), 0))
    }

    fn wait(&self, until: Instant) -> Result<Woken, Error> {
        let mut select = Select::new();
        let (by_client, by_stop) = (select.recv(&self.client), select.recv(&self.stopping));
        let by_abort = select.recv(&self.aborted);
        for choice in &self.choices {
            match &choice.run {
                Some(Run::UnderWay(run)) => drop(select.recv(&run.subscription.events)),
                Some(Run::Starting(run)) => drop(select.recv(run)),
                None => {}
            }
        }
        match select.ready_deadline(until) {
            Ok(ready) if ready == by_stop => Err(Error::CutShort),
            Ok(ready) if ready == by_abort => Err(Error::Cancelled),
            Ok(ready) if ready == by_client => match self.client.try_recv() {
                Ok(ClientNews::HalfClosed) => Ok(Woken::ByClient),
                Err(TryRecvError::Empty) => Ok(Woken::ByRun),
                Err(TryRecvError::Disconnected) => Err(Error::ClientGone),
            },
            Ok(_) => Ok(Woken::ByRun),
            Err(_) => Ok(Woken::InTime),
        }
    }
}

/// The cause that ended a wait.
enum Woken {
    ByRun,
    ByClient,
    InTime,
}

impl RunningChoice {
    fn new(run: Run, clock: RunClock) -> RunningChoice {
        RunningChoice { run: Some(run), clock, ending: None, may_fail: false, has_text: false }
    }

    fn ready(&mut self) -> Option<Result<ChoiceEvent, Error>> {
        match self.run.as_ref()? {
            Run::UnderWay(run) => {
                let event = run.subscription.events.try_recv().ok()?;
                Some(self.take(event))
            }
            Run::Starting(run) => match run.try_recv() {
                Ok(Ok(run)) => {
                    let may_fail = self.may_fail;
                    let (clock, left_out) = (self.clock.restart(), run.left_out.clone());
                    let further = FurtherRun { left_out, done: run.sent.sampling() };
                    *self =
                        RunningChoice { may_fail, ..RunningChoice::new(Run::UnderWay(run), clock) };
                    Some(Ok(ChoiceEvent::Restarted(further.into())))
                }
                Ok(Err(error)) => Some(self.fail(error)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => {
                    Some(self.fail(Error::Internal("a panic".to_owned())))
                }
            },
        }
    }

    fn take(&mut self, event: RunEvent) -> Result<ChoiceEvent, Error> {
        self.clock.note(&event);
        match event {
            RunEvent::Alive => Ok(ChoiceEvent::Alive),
            RunEvent::Cut(is_cut) => Ok(ChoiceEvent::Cut(is_cut)),
            RunEvent::Usage(usage) => Ok(ChoiceEvent::Usage(*usage)),
            RunEvent::Ending { reason, revised } => {
                self.ending = Some((reason, revised));
                Ok(ChoiceEvent::Alive)
            }
            RunEvent::Text(text) => {
                self.has_text = true;
                Ok(ChoiceEvent::Text(text))
            }
            RunEvent::Finished { reason, revised } => {
                self.run = None;
                Ok(ChoiceEvent::Ended { reason, revised })
            }
            RunEvent::Failed(error) => self.fail(*error),
        }
    }

    fn deadline(&self) -> Instant {
        match self.run {
            // The steps of starting a run have deadlines of their own.
            Some(Run::Starting(_)) => self.clock.at_last(),
            _ => self.clock.deadline(),
        }
    }

    /// Judges that the deadline has passed: the choice has ended, or its run has failed.
    fn expire(&mut self) -> Result<ChoiceEvent, Error> {
        match self.clock.expire() {
            Ok(()) => {
                self.run = None;
                let (reason, revised) = self.ending.take().unwrap_or((FinishReason::Stop, None));
                Ok(ChoiceEvent::Ended { reason, revised })
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: Error) -> Result<ChoiceEvent, Error> {
        if self.may_fail {
            log::warn!("a further run for the same answer has failed: {}", error.cause());
            return Ok(self.stop());
        }
        match self.run.take() {
            Some(Run::UnderWay(StartedRun { sent, tries, .. })) if !self.has_text => {
                Ok(ChoiceEvent::Failed(Box::new(FailedRun { error, sent, tries })))
            }
            _ => Err(error),
        }
    }

    fn stop(&mut self) -> ChoiceEvent {
        self.run = None;
        ChoiceEvent::Ended { reason: FinishReason::Stop, revised: None }
    }
}
