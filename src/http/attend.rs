//! Attending to a client while somebody else answers it: whether it is still there, and whether somebody
//! has taken its request at all.

use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::exchange::{ClientNews, ExchangeEnd, OpenExchange};
use super::socket::{ClientSocket, Signal, wait};
use super::{Gate, TAKEN_WITHIN};
use crate::error::Error;

const LOST: PollFlags = PollFlags::ERR.union(PollFlags::HUP).union(PollFlags::NVAL);

/// Who is attended to.
pub struct Attendance<'a> {
    pub client: &'a ClientSocket,
    pub exchange: &'a OpenExchange,
    pub gate: &'a dyn Gate,
    /// Ends the exchange when raised.
    pub close: &'a Signal,
}

/// What has happened.
enum News {
    /// The client has gone, or has to go.
    Lost,
    /// The client sends no more.
    HalfClosed,
    /// Who has taken the exchange is done.
    Over,
    /// The time is up in which somebody should have taken it.
    Overdue,
}

impl Attendance<'_> {
    /// Attends until the exchange is over, its client has gone, or nobody will answer it. Nothing is
    /// read from the client: what it still sends is its next request's.
    ///
    /// # Errors
    /// Nobody has taken it, and nobody will; the client is to be told.
    pub fn run(self) -> Result<ExchangeEnd, Error> {
        // That the client is lost is reported unasked.
        let mut of_client = PollFlags::RDHUP;
        let mut tries = 0;
        let mut overdue = Some(Instant::now() + TAKEN_WITHIN);
        loop {
            match self.wait(of_client, overdue) {
                News::Lost => return Ok(ExchangeEnd::Gone),
                News::Over => return Ok(self.exchange.end()),
                News::HalfClosed => {
                    of_client = PollFlags::empty();
                    self.exchange.tell(ClientNews::HalfClosed);
                    if !self.exchange.probe() {
                        return Ok(ExchangeEnd::Gone);
                    }
                }
                News::Overdue if self.exchange.is_taken() => overdue = None,
                News::Overdue => {
                    tries += 1;
                    if let Err(error) = self.gate.is_overdue(self.exchange, tries) {
                        // Whoever takes it now comes too late, or has just been in time.
                        if self.exchange.take().is_some() {
                            return Err(error);
                        }
                    }
                    overdue = Some(Instant::now() + TAKEN_WITHIN);
                }
            }
        }
    }

    fn wait(&self, of_client: PollFlags, overdue: Option<Instant>) -> News {
        let mut fds = [
            PollFd::new(self.client, of_client),
            self.exchange.over().poll_fd(),
            self.close.poll_fd(),
        ];
        let is_in_time = wait(&mut fds, overdue);
        let [client, over, close] = fds.map(|fd| fd.revents());
        // What is complete is not cut because the client, or everybody, has to go in this moment.
        if !over.is_empty() {
            News::Over
        } else if client.intersects(LOST) || !close.is_empty() {
            News::Lost
        } else if client.contains(PollFlags::RDHUP) {
            News::HalfClosed
        } else if !is_in_time && overdue.is_some_and(|at| Instant::now() >= at) {
            News::Overdue
        } else {
            // Nothing can be waited for: the kernel has no memory.
            News::Lost
        }
    }
}
