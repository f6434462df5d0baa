//! Merges the runs of one request into one sequence: their events, their deadlines, and the client's
//! leaving.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;

use crate::chat::{FinishReason, ReportedUsage, Sampling};
use crate::completions::starter::{StartedRun, Starting};
use crate::error::Error;
use crate::http::Exchange;
use crate::langfast::{Deadlines, Listener, Revised, RunClock, RunEvent, Sent};
use crate::sync::{Alarm, Rings};

/// How often a listener that is not rung for each text looks at what has come, so that the deadlines of its
/// runs count from when it came.
const LOOK: Duration = Duration::from_millis(500);

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
    /// The parts of the run's request that a model can refuse.
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
    /// Its bell is rung for everything that is waited for.
    listener: Listener,
    /// `None` if the answer goes on whatever becomes of the client.
    client: Option<Arc<Exchange>>,
    /// Whether it was told that the client sends no more.
    is_half_closed_told: bool,
    /// Raised when the client has cancelled its answer.
    aborted: Option<Rings>,
    /// Raised when the server no longer waits for its answers to end.
    stopping: Rings,
}

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
        listener: Listener,
        stopping: &Arc<Alarm>,
    ) -> Choices {
        let clock = RunClock::start(deadlines);
        let choice = |run| RunningChoice::new(Run::UnderWay(run), clock.restart());
        let choices = runs.into_iter().map(choice).collect();
        let stopping = stopping.rings(listener.bell.clone());
        let (client, aborted, is_half_closed_told) = (Some(client), None, false);
        Choices { choices, listener, client, is_half_closed_told, aborted, stopping }
    }

    /// Ends the runs when this is raised.
    pub fn abort_by(&mut self, aborted: &Arc<Alarm>) {
        self.aborted = Some(aborted.rings(self.listener.bell.clone()));
    }

    /// Goes on whatever becomes of the client.
    pub fn leave_client(&mut self) {
        self.client = None;
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

    /// Waits until there is an event, or may be one, but not longer than `until`; true if so, or if nothing
    /// more comes.
    pub fn has_news_by(&self, until: Instant) -> bool {
        self.all_ended()
            || self.choices.iter().any(RunningChoice::has_news)
            || self.listener.bell.wait(Some(until))
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
            self.check_wanted()?;
            if self.has_just_half_closed() {
                return Ok(ChoiceNews::HalfClosed);
            }
            let (deadline, at) = self.earliest_deadline();
            let due = silence.map_or(deadline, |silence| silence.min(deadline));
            if self.wait(due) {
                continue;
            }
            return match self.ready() {
                // It came unrung.
                Some(ready) => ready,
                None if Instant::now() < deadline => Ok(ChoiceNews::Silence),
                None => self.choices[at].expire().map(|event| ChoiceNews::Choice(at, event)),
            };
        }
    }

    /// Whether the answer is still wanted.
    fn check_wanted(&self) -> Result<(), Error> {
        if self.stopping.is_raised() {
            return Err(Error::CutShort);
        }
        if self.aborted.as_ref().is_some_and(Rings::is_raised) {
            return Err(Error::Cancelled);
        }
        match self.client.as_ref().is_some_and(|client| client.client_has_gone()) {
            true => Err(Error::ClientGone),
            false => Ok(()),
        }
    }

    /// Whether the client sends no more; true once.
    fn has_just_half_closed(&mut self) -> bool {
        let told = self.is_half_closed_told;
        let has_half_closed = |client: &Arc<Exchange>| client.client_has_half_closed();
        self.is_half_closed_told |= self.client.as_ref().is_some_and(has_half_closed);
        self.is_half_closed_told && !told
    }

    /// Waits until there may be news; false if there are none until `due`.
    fn wait(&self, due: Instant) -> bool {
        let look = match self.listener.wants_each {
            true => due,
            false => due.min(Instant::now() + LOOK),
        };
        self.listener.bell.wait(Some(look)) || look < due
    }

    fn earliest_deadline(&self) -> (Instant, usize) {
        let running = self.choices.iter().enumerate().filter(|(_, choice)| choice.run.is_some());
        let deadlines = running.map(|(at, choice)| (choice.deadline(), at));
        deadlines.min().unwrap_or((Instant::now(), 0))
    }
}

impl RunningChoice {
    fn new(run: Run, clock: RunClock) -> RunningChoice {
        RunningChoice { run: Some(run), clock, ending: None, may_fail: false, has_text: false }
    }

    fn has_news(&self) -> bool {
        matches!(&self.run, Some(Run::UnderWay(run)) if !run.subscription.events.is_empty())
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
