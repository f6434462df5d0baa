//! The private line to tiny_http: one connection, on which `front` sends nothing but tickets.
//!
//! tiny_http has no limits and deadlines of its own, its accept loop ends for good at the first error,
//! and it panics where no thread can be had for a further connection. So there is no further connection:
//! when this one has been accepted the listener is closed, and nobody else, not even another process
//! of this user, can reach tiny_http.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::panic::catch_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

/// How long tiny_http may take to hand out the first ticket, and to notice that its listener is closed.
const OPENED_WITHIN: Duration = Duration::from_secs(5);
/// How long writing a ticket may block. tiny_http's thread does nothing but read them.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);
/// The first ticket, which is nobody's.
const NOBODY: u64 = 0;

/// A tiny_http server and the only connection to it.
pub struct Line {
    /// Never dropped: it would look for the path of its listener, which has none, and panic. What stays
    /// of a line that was replaced is some hundred bytes.
    http: ManuallyDrop<tiny_http::Server>,
    connection: Mutex<UnixStream>,
    /// When a ticket came out last.
    last_called: Mutex<Instant>,
}

impl Line {
    /// Opens a line, and returns when a first ticket has gone through it.
    ///
    /// # Errors
    /// A descriptor or a thread cannot be had.
    pub fn open() -> io::Result<Line> {
        // An abstract name needs no directory, and no file that somebody might remove.
        let name = format!("langfast2api-{}", uuid::Uuid::new_v4());
        let address = SocketAddr::from_abstract_name(name)?;
        let listener = UnixListener::bind_addr(&address)?;
        let to_close = listener.try_clone()?;
        let http = catch_unwind(|| tiny_http::Server::from_listener(listener, None))
            .map_err(|_| io::Error::other("tiny_http cannot start a thread"))?;
        let http = ManuallyDrop::new(http.map_err(io::Error::other)?);
        let connection = UnixStream::connect_addr(&address)?;
        connection.set_write_timeout(Some(WRITTEN_WITHIN))?;
        let (connection, last_called) = (Mutex::new(connection), Mutex::new(Instant::now()));
        let line = Line { http, connection, last_called };
        line.send(NOBODY)?;
        if line.next(OPENED_WITHIN) != Ok(Some(NOBODY)) {
            return Err(io::Error::other("tiny_http does not answer"));
        }
        shutdown(&to_close, Shutdown::Both)?;
        match line.next(OPENED_WITHIN) {
            Err(Ended) => Ok(line),
            Ok(_) => Err(io::Error::other("tiny_http goes on accepting")),
        }
    }

    /// Sends a ticket, the only content of a request.
    ///
    /// # Errors
    /// tiny_http does not read any more.
    pub fn send(&self, ticket: u64) -> io::Result<()> {
        let request = format!("GET /{ticket} HTTP/1.1\r\n\r\n");
        self.connection().write_all(request.as_bytes())
    }

    /// Waits for the next ticket; `None` if none comes in time.
    ///
    /// # Errors
    /// The listener has been closed. tiny_http says so once.
    pub fn next(&self, within: Duration) -> Result<Option<u64>, Ended> {
        let Some(request) = self.http.recv_timeout(within).map_err(|_| Ended)? else {
            return Ok(None);
        };
        *self.last_called.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let ticket = request.url().strip_prefix('/').and_then(|ticket| ticket.parse().ok());
        // Nothing is said on the line: the answer goes straight to the client.
        drop(request.into_writer());
        Ok(ticket)
    }

    /// How long ago a ticket came out last.
    pub fn silence(&self) -> Duration {
        self.last_called.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Has tiny_http read no more of what is sent, as when its thread has ended.
    #[cfg(test)]
    pub fn break_off(&self) {
        self.connection().shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Has what is sent get lost, as when tiny_http's thread is stuck.
    #[cfg(test)]
    pub fn get_stuck(&self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        *self.connection() = ours;
        // It stays open, and nobody reads it.
        std::mem::forget(theirs);
    }

    fn connection(&self) -> MutexGuard<'_, UnixStream> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// tiny_http accepts no more.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_come_out_as_they_were_sent_and_nobody_else_can_connect() {
        let line = Line::open().unwrap();
        for ticket in 1..=100 {
            line.send(ticket).unwrap();
        }
        for ticket in 1..=100 {
            assert_eq!(line.next(OPENED_WITHIN), Ok(Some(ticket)));
        }
        assert_eq!(line.next(Duration::from_millis(1)), Ok(None));
        let address = line.connection().peer_addr().unwrap();
        let refused = UnixStream::connect_addr(&address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_ticket_on_a_line_that_nobody_reads_any_more_is_an_error() {
        let line = Line::open().unwrap();
        line.break_off();
        assert!(line.send(1).is_err());
    }
}
