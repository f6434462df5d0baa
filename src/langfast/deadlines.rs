//! The deadlines of a run: for its first event, for the silence between two, and for the whole run.

use std::time::{Duration, Instant};

use super::run::RunEvent;
use crate::config::DeadlineSettings;
use crate::error::{Error, Failure, Step};

/// Longest wait for the last text of a run that has said that it is done.
const ENDING: Duration = Duration::from_secs(1);

/// Time limits of a run.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the start to the first event.
    pub first_event: Duration,
    /// Between two events.
    pub silence: Duration,
    /// From the start to the end.
    pub run: Duration,
    /// From the loss of the socket to another one.
    pub reconnect: Duration,
}

impl Deadlines {
    /// The limits in the settings.
    pub fn of(settings: &DeadlineSettings) -> Deadlines {
        Deadlines {
            first_event: settings.first_event_timeout,
            silence: settings.silence_timeout,
            run: settings.run_timeout,
            reconnect: settings.reconnect_timeout,
        }
    }
}

/// Tracks the deadlines of one run from its start.
#[derive(Clone, Debug)]
pub struct RunClock {
    deadlines: Deadlines,
    started: Instant,
    last_event: Option<Instant>,
    /// The time at which the run said that it is done, without saying how, since its last text.
    ending: Option<Instant>,
    /// The time at which the socket was lost, until there is another one.
    cut: Option<Instant>,
}

impl RunClock {
    /// The clock of a run that starts now.
    pub fn start(deadlines: Deadlines) -> RunClock {
        RunClock { deadlines, started: Instant::now(), last_event: None, ending: None, cut: None }
    }

    /// The clock of another run under the same deadlines, which starts now.
    pub fn restart(&self) -> RunClock {
        RunClock::start(self.deadlines)
    }

    /// Notes an event of the run; the next deadline counts from it.
    pub fn note(&mut self, event: &RunEvent) {
        let now = Instant::now();
        if let RunEvent::Cut(is_cut) = event {
            self.cut = is_cut.then_some(now);
            return;
        }
        self.last_event = Some(now);
        match event {
            RunEvent::Ending { .. } => drop(self.ending.get_or_insert(now)),
            // A run that has more to say was not done.
            RunEvent::Text(_) => self.ending = None,
            _ => {}
        }
    }

    /// The time at which the whole run is over its limit.
    pub fn at_last(&self) -> Instant {
        self.started + self.deadlines.run
    }

    /// The time by which the next event has to come.
    pub fn deadline(&self) -> Instant {
        let event = match (self.ending, self.last_event) {
            (Some(ending), _) => ending + ENDING,
            (None, Some(last)) => last + self.deadlines.silence,
            (None, None) => self.started + self.deadlines.first_event,
        };
        let reconnected = self.cut.map_or(event, |cut| cut + self.deadlines.reconnect);
        event.min(reconnected).min(self.at_last())
    }

    /// Judges a run whose [`RunClock::deadline`] has passed: `Ok` if the run has said that it is done,
    /// so that this is its end.
    ///
    /// # Errors
    /// [`Step::Run`]: the run has taken too long; names the setting.
    pub fn expire(&self) -> Result<(), Error> {
        let Deadlines { first_event, silence, run, reconnect } = self.deadlines;
        if self.ending.is_some() {
            return Ok(());
        }
        let (setting, limit) = if self.started.elapsed() >= run {
            ("run_timeout", run)
        } else if self.cut.is_some_and(|cut| cut.elapsed() >= reconnect) {
            let setting = "reconnect_timeout";
            return Err(Error::upstream(Step::Run, Failure::Lost { setting, limit: reconnect }));
        } else if self.last_event.is_some() {
            ("silence_timeout", silence)
        } else {
            ("first_event_timeout", first_event)
        };
        Err(Error::upstream(Step::Run, Failure::TimedOut { setting, limit }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::FinishReason;

    const HOUR: Duration = Duration::from_secs(3600);
    const DONE: RunEvent = RunEvent::Ending { reason: FinishReason::Stop, revised: None };
    const LONG: Deadlines =
        Deadlines { first_event: HOUR, silence: HOUR, run: HOUR, reconnect: HOUR };

    fn blamed(clock: &RunClock) -> String {
        clock.expire().unwrap_err().to_string()
    }

    #[test]
    fn the_setting_is_named_whose_deadline_comes_first() {
        let mut clock = RunClock::start(Deadlines { first_event: Duration::ZERO, ..LONG });
        assert!(clock.deadline() <= Instant::now());
        assert!(blamed(&clock).contains("LANGFAST2API_FIRST_EVENT_TIMEOUT"));
        clock.note(&RunEvent::Alive);
        assert!(clock.deadline() > Instant::now(), "the first event has come");

        let mut clock = RunClock::start(Deadlines { silence: Duration::ZERO, ..LONG });
        assert!(clock.deadline() > Instant::now(), "no silence before the first event");
        clock.note(&RunEvent::Alive);
        assert!(clock.deadline() <= Instant::now());
        assert!(blamed(&clock).contains("LANGFAST2API_SILENCE_TIMEOUT"));

        let mut clock = RunClock::start(Deadlines { run: Duration::ZERO, ..LONG });
        clock.note(&RunEvent::Text("a".to_owned()));
        assert_eq!(clock.deadline(), clock.at_last());
        assert!(blamed(&clock).contains("LANGFAST2API_RUN_TIMEOUT"));
    }

    #[test]
    fn a_run_that_says_it_is_done_has_a_moment_from_then_on_and_fails_no_more() {
        let mut clock = RunClock::start(LONG);
        clock.note(&DONE);
        let until = clock.deadline();
        assert!(until <= Instant::now() + ENDING);
        clock.note(&RunEvent::Alive);
        clock.note(&DONE);
        assert_eq!(clock.deadline(), until, "the moment is not begun anew");
        assert_eq!(clock.expire(), Ok(()));
        clock.note(&RunEvent::Text("a".to_owned()));
        assert!(clock.deadline() > until + ENDING, "it was not done");
        assert!(clock.expire().is_err());
        clock.note(&DONE);
        assert_eq!(clock.expire(), Ok(()));
    }

    #[test]
    fn a_socket_that_is_lost_has_a_limit_of_its_own_and_is_no_event_of_the_run() {
        let mut clock = RunClock::start(Deadlines { reconnect: Duration::ZERO, ..LONG });
        clock.note(&RunEvent::Text("a".to_owned()));
        let silent = clock.deadline();
        clock.note(&RunEvent::Cut(true));
        assert!(clock.deadline() <= Instant::now());
        assert!(blamed(&clock).contains("LANGFAST2API_RECONNECT_TIMEOUT"));
        clock.note(&RunEvent::Cut(false));
        assert_eq!(clock.deadline(), silent);
        clock.note(&DONE);
        clock.note(&RunEvent::Cut(true));
        assert_eq!(clock.expire(), Ok(()), "it had said that it is done");
    }

    #[test]
    fn another_run_begins_anew() {
        let mut clock = RunClock::start(Deadlines { first_event: Duration::ZERO, ..LONG });
        clock.note(&DONE);
        let again = clock.restart();
        assert!(again.at_last() >= clock.at_last());
        assert!(blamed(&again).contains("LANGFAST2API_FIRST_EVENT_TIMEOUT"));
    }
}
