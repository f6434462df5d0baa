//! Watches a client while another thread answers it: whether the client is still there, and whether
//! anybody has taken its request.

use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::exchange::{ExchangeEnd, OpenExchange};
use super::socket::{ClientSocket, Signal, wait};
use super::{Gate, TAKEN_WITHIN};
use crate::error::Error;

const LOST: PollFlags = PollFlags::ERR.union(PollFlags::HUP).union(PollFlags::NVAL);

/// Time from the beginning of an exchange in which its end does not wake the thread that watches: the
/// client's next request, which wakes it anyway, often comes sooner. Until then the exchange keeps its memory.
const QUIET: Duration = Duration::from_secs(1);

/// How often the processor is given to others before the end of an exchange is waited for.
const YIELDS: usize = 3;

/// The watch over one client during one exchange.
pub struct Attendance<'a> {
    pub client: &'a ClientSocket,
    pub exchange: &'a OpenExchange,
    pub gate: &'a dyn Gate,
    /// Ends the exchange when raised.
    pub close: &'a Signal,
    /// Ends the connection when raised, once the exchange is over.
    pub stop: &'a Signal,
    /// Takes what the client sends meanwhile; without it nothing is read, since further bytes of the client
    /// belong to its next request.
    pub meanwhile: Option<&'a mut dyn Meanwhile>,
}

/// Takes what a client sends while it is answered.
pub trait Meanwhile {
    /// True if more can be taken now.
    fn wants(&self) -> bool;

    /// Returns the time at which [`Meanwhile::take`] must be called even if nothing has come.
    fn deadline(&self) -> Option<Instant>;

    /// Takes what has come; false if the client has gone, or must go.
    fn take(&mut self) -> bool;
}

/// An event that the watch waits for.
enum News {
    /// The client has gone, or all connections are being closed.
    Lost,
    /// The client has ended its sending side.
    HalfClosed,
    /// The client has sent something that is taken meanwhile, or has not in time.
    Meanwhile,
    /// The answering thread has dropped its turn.
    Over,
    /// It matters now when the answering thread drops its turn.
    OverMatters,
    /// An earlier exchange is over.
    Stale,
    /// The time in which somebody should have taken the exchange has passed.
    Overdue,
}

impl Attendance<'_> {
    /// Watches until the exchange is over, its client has gone, or nobody will answer it.
    ///
    /// # Errors
    /// Nobody will answer; the client must be sent this error.
    pub fn run(mut self) -> Result<ExchangeEnd, Error> {
        // The loss of the client (`LOST`) is reported by the kernel without being asked for.
        let mut of_client = PollFlags::RDHUP;
        let mut tries = 0;
        let begun = Instant::now();
        let mut overdue = Some(begun + TAKEN_WITHIN);
        let is_quiet = self.meanwhile.is_none() && self.exchange.keeps_alive();
        let mut quiet = is_quiet.then(|| begun + QUIET);
        if !is_quiet && !self.exchange.await_over() {
            return Ok(self.exchange.end());
        }
        loop {
            match self.wait(of_client, overdue, quiet) {
                News::Stale => {}
                // Whoever answers is mostly about to end the exchange.
                News::OverMatters if self.is_over_soon() => return Ok(self.exchange.end()),
                News::OverMatters => {
                    quiet = None;
                    if !self.exchange.await_over() {
                        return Ok(self.exchange.end());
                    }
                }
                News::Lost => return Ok(ExchangeEnd::Gone),
                News::Over => return Ok(self.exchange.end()),
                News::HalfClosed => {
                    of_client = PollFlags::empty();
                    self.exchange.tell_half_closed();
                    if !self.exchange.probe() {
                        return Ok(ExchangeEnd::Gone);
                    }
                }
                News::Meanwhile => {
                    if !self.meanwhile.as_mut().is_some_and(|meanwhile| meanwhile.take()) {
                        return Ok(ExchangeEnd::Gone);
                    }
                }
                News::Overdue if self.exchange.is_taken() => overdue = None,
                News::Overdue => {
                    tries += 1;
                    if let Err(error) = self.gate.is_overdue(self.exchange, tries) {
                        // Taking it here closes the race with a worker: one that comes now is too
                        // late.
                        if self.exchange.take().is_some() {
                            return Err(error);
                        }
                    }
                    overdue = Some(Instant::now() + TAKEN_WITHIN);
                }
            }
        }
    }

    /// Gives others the processor a few times; true if the exchange is over then.
    fn is_over_soon(&self) -> bool {
        (0..YIELDS).any(|_| {
            thread::yield_now();
            self.exchange.is_over()
        })
    }

    /// Waits for news. Until `quiet` the end of the exchange is no news, but what the client sends next is.
    fn wait(&self, of_client: PollFlags, overdue: Option<Instant>, quiet: Option<Instant>) -> News {
        let meanwhile = self.meanwhile.as_deref();
        let of_client = match meanwhile {
            Some(meanwhile) if meanwhile.wants() => PollFlags::IN,
            _ if quiet.is_some() => of_client | PollFlags::IN,
            _ => of_client,
        };
        let late = meanwhile.and_then(Meanwhile::deadline);
        let mut fds = [
            PollFd::new(self.client, of_client),
            self.exchange.over().poll_fd(),
            self.close.poll_fd(),
            self.stop.poll_fd(),
        ];
        let watched = if quiet.is_some() { &mut fds[..] } else { &mut fds[..3] };
        let is_in_time = wait(watched, [overdue, late, quiet].into_iter().flatten().min());
        let has_passed =
            |at: Option<Instant>| !is_in_time && at.is_some_and(|at| Instant::now() >= at);
        let [client, over, close, stop] = fds.map(|fd| fd.revents());
        if !over.is_empty() {
            self.exchange.over().lower();
        }
        // Over comes first: an answer that is complete is not cut because its client goes in the
        // same moment.
        if self.exchange.is_over() {
            News::Over
        } else if client.intersects(LOST) || !close.is_empty() {
            News::Lost
        } else if meanwhile.is_some() && (client.contains(PollFlags::IN) || has_passed(late)) {
            News::Meanwhile
        } else if client.contains(PollFlags::RDHUP) {
            if meanwhile.is_some() { News::Lost } else { News::HalfClosed }
        } else if client.contains(PollFlags::IN) || !stop.is_empty() || has_passed(quiet) {
            News::OverMatters
        } else if has_passed(overdue) {
            News::Overdue
        } else if !over.is_empty() {
            News::Stale
        } else {
            // `poll` itself failed: the kernel has no memory.
            News::Lost
        }
    }
}
