//! The way from a request to a worker: tiny_http delivers a ticket, a number, and the worker
//! fetches the request's exchange and permit from here.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::line::Line;
use super::permits::Permit;
use crate::error::Error;
use crate::http::{AnswerTurn, Exchange, TAKEN_WITHIN};

/// How often [`Tickets::look_after`] tries to help a request, once in each [`TAKEN_WITHIN`]; the
/// next call gives it up.
const MOST_TRIES: u32 = 5;

/// The requests that wait for a worker, and the line through tiny_http that carries their tickets.
pub struct Tickets {
    waiting: Mutex<HashMap<u64, Waiting>>,
    line: RwLock<Arc<Line>>,
}

struct Waiting {
    exchange: Arc<Exchange>,
    permit: Permit,
    since: Instant,
    /// The line on which its ticket was sent last.
    line: Arc<Line>,
}

impl Tickets {
    /// Opens the first line.
    ///
    /// # Errors
    /// See [`Line::open`].
    pub fn new() -> io::Result<Tickets> {
        Ok(Tickets { waiting: Mutex::default(), line: RwLock::new(Arc::new(Line::open()?)) })
    }

    /// Returns the line that tickets are sent on now.
    pub fn line(&self) -> Arc<Line> {
        self.line.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets a request wait, and sends its ticket.
    ///
    /// # Errors
    /// No line works; the request does not wait.
    pub fn put(&self, exchange: &Arc<Exchange>, permit: Permit) -> Result<(), Error> {
        let (line, since) = (self.line(), Instant::now());
        let waiting = Waiting { exchange: exchange.clone(), permit, since, line: line.clone() };
        self.waiting().insert(exchange.id, waiting);
        let sent = line.send(exchange.id).or_else(|error| {
            self.replace(&line, &error.to_string())?;
            self.send_again(exchange.id)
        });
        sent.map_err(|error| {
            self.forget(exchange.id);
            out_of_order(&error)
        })
    }

    /// Takes the request of a ticket; `None` if its client has left, or the ticket has come out
    /// before.
    pub fn call(&self, ticket: u64) -> Option<(AnswerTurn, Permit)> {
        let waiting = self.waiting().remove(&ticket)?;
        Some((waiting.exchange.take()?, waiting.permit))
    }

    /// Helps a request that has waited for long: replaces a line that is stuck, and sends the
    /// ticket again.
    ///
    /// # Errors
    /// No line works, or too many tries have not helped; the request does not wait any more.
    pub fn look_after(&self, ticket: u64, tries: u32) -> Result<(), Error> {
        let Some(line) = self.waiting().get(&ticket).map(|waiting| waiting.line.clone()) else {
            return Ok(());
        };
        let is_current = Arc::ptr_eq(&line, &self.line());
        // A line that delivers other requests' tickets is slow, not stuck.
        let done = match is_current && line.silence() < TAKEN_WITHIN {
            true => Ok(()),
            false => {
                let replaced = self.replace(&line, "tickets do not come out");
                replaced.and_then(|()| self.send_again(ticket))
            }
        };
        let done = match tries > MOST_TRIES {
            true => Err(io::Error::other("tickets do not come out")),
            false => done,
        };
        done.map_err(|error| {
            self.forget(ticket);
            out_of_order(&error)
        })
    }

    /// Removes a request that nobody waits for any more.
    pub fn forget(&self, ticket: u64) {
        let forgotten = self.waiting().remove(&ticket);
        drop(forgotten);
    }

    /// Returns how long the oldest request has been waiting. Each has a worker of its own, so a
    /// long wait means that the way to the workers is blocked.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.waiting().values().map(|waiting| waiting.since.elapsed()).max()
    }

    /// Sends a ticket on the present line if its request still waits.
    fn send_again(&self, ticket: u64) -> io::Result<()> {
        let line = self.line();
        match self.waiting().get_mut(&ticket) {
            Some(waiting) => waiting.line = line.clone(),
            None => return Ok(()),
        }
        line.send(ticket)
    }

    /// Opens another line if `broken` is still in use.
    fn replace(&self, broken: &Arc<Line>, why: &str) -> io::Result<()> {
        let mut line = self.line.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&line, broken) {
            log::error!("the private line to the workers is out of order ({why}); opening another");
            *line = Arc::new(Line::open()?);
        }
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn out_of_order(error: &io::Error) -> Error {
    log::error!("no request can be handed to a worker: {error}");
    Error::Overloaded("no more requests can be taken at the moment".to_owned())
}
