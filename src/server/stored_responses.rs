//! What the URLs of stored responses answer.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dialects::openai::responses::shown;
use crate::error::Error;
use crate::http::Head;
use crate::http::answer::Answer;
use crate::http::sse::{EventStream, KEEP_ALIVE};
use crate::stored::{Cursor, Entry, Outcome, OwnStore};

/// The stored response of this id.
///
/// # Errors
/// It is not there, or it is somebody else's.
pub fn find(own: &OwnStore, id: &str) -> Result<Arc<Entry>, Error> {
    own.find(id).ok_or_else(|| shown::not_stored(id))
}

/// Answers with the items from which a response was made.
///
/// # Errors
/// The response is not there, or the query asks for no page of it.
pub fn input(answer: &mut Answer, own: &OwnStore, id: &str) -> Result<io::Result<()>, Error> {
    let entry = find(own, id)?;
    let head = &answer.exchange().head;
    let items: Vec<_> = entry.earlier.iter().chain(&entry.input).cloned().collect();
    let page = shown::Page::read(|name| head.query(name))?.of(&items)?;
    Ok(answer.json(200, &page))
}

/// Deletes a response, and ends its run if that goes on without a client.
///
/// # Errors
/// It is not there.
pub fn delete(answer: &mut Answer, own: &OwnStore, id: &str) -> Result<io::Result<()>, Error> {
    let entry = own.remove(id).ok_or_else(|| shown::not_stored(id))?;
    if entry.is_background {
        entry.abort();
    }
    // What nobody else needs is gone from the disk when the client hears of it.
    drop(entry);
    Ok(answer.json(200, &shown::deleted(id)))
}

/// Ends the run of a response in the background. One that has ended stays as it is.
///
/// # Errors
/// It is not there, or not in the background.
pub fn cancel(answer: &mut Answer, own: &OwnStore, id: &str) -> Result<io::Result<()>, Error> {
    let entry = find(own, id)?;
    if !entry.is_background {
        return Err(shown::not_in_background());
    }
    let outcome = entry.outcome();
    let cancelled = shown::cancelled(&outcome.answer());
    if entry.set(Outcome::new(&cancelled, outcome.output, true)) {
        entry.abort();
    }
    Ok(answer.json(200, &entry.outcome().answer()))
}

/// Bytes of events that are sent at once: in the store they take much less memory.
const AT_ONCE: usize = 64 * 1024;

/// A stored response that is streamed again.
pub struct Replay {
    entry: Arc<Entry>,
    /// The number of the first event that is wanted.
    first: usize,
    keep_alive: Duration,
}

impl Replay {
    /// The stream that a request for a stored response asks for; `None` if it wants the response itself.
    ///
    /// # Errors
    /// It asks for a stream of which no events are kept, or from an event that is no number.
    pub fn wanted(entry: Arc<Entry>, head: &Head) -> Result<Option<Replay>, Error> {
        if head.method == "HEAD" || !matches!(head.query("stream"), Some("true" | "True" | "1")) {
            return Ok(None);
        }
        if !entry.has_events() {
            return Err(shown::no_events());
        }
        let first = match head.query("starting_after").map(str::parse::<usize>) {
            None => 0,
            Some(Ok(number)) => number.saturating_add(1),
            Some(Err(_)) => {
                let message = "`starting_after` must be the `sequence_number` of an event";
                return Err(Error::invalid("starting_after", message));
            }
        };
        Ok(Some(Replay { entry, first, keep_alive: Duration::ZERO }))
    }

    /// Sets the silence after which a comment is sent; none is sent if it is zero.
    pub fn keeping_alive(self, keep_alive: Duration) -> Replay {
        Replay { keep_alive, ..self }
    }

    /// Writes the stored events, and further ones as they come, to the response's end.
    ///
    /// # Errors
    /// The client has gone, or the events were let go before they were read.
    pub fn write(self, answer: &mut Answer) -> Result<(), Error> {
        let exchange = answer.exchange().clone();
        self.entry.follow(exchange.bell());
        let mut events = EventStream::begin(answer);
        let (mut cursor, mut number) = (Cursor::default(), 0);
        let mut added = 0;
        loop {
            // Asked first, because nothing is added behind the end.
            let has_ended = self.entry.is_closed();
            while let Some((name, data)) = self.entry.next_event(&mut cursor) {
                number += 1;
                if number <= self.first {
                    continue;
                }
                events.event(Some(&name), |out| out.extend_from_slice(&data));
                added += data.len();
                if added >= AT_ONCE {
                    events.flush().map_err(|_| Error::ClientGone)?;
                    added = 0;
                }
            }
            if !self.entry.has_events() {
                // Nothing that looks like an end may be sent.
                return Err(shown::no_events());
            }
            if has_ended {
                return events.finish().map_err(|_| Error::ClientGone);
            }
            events.flush().map_err(|_| Error::ClientGone)?;
            let silence = (!self.keep_alive.is_zero()).then(|| Instant::now() + self.keep_alive);
            if !exchange.bell().wait(silence) {
                events.comment(KEEP_ALIVE);
            } else if exchange.client_has_gone() {
                return Err(Error::ClientGone);
            }
        }
    }
}
