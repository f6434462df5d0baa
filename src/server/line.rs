//! The private line to tiny_http: one connection that carries nothing but tickets.
//!
//! tiny_http has no limits and deadlines, its accept loop ends for good at the first error, and it
//! panics if it cannot start a thread for a further connection. So there is no further connection:
//! once this one is accepted, the listener is closed, and nobody else, not even another process of
//! this user, can reach tiny_http.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::catch_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

/// Longest wait for the first ticket, and for tiny_http to notice that its listener is closed.
const OPENED_WITHIN: Duration = Duration::from_secs(5);
/// Longest time that writing a ticket may block. tiny_http's thread does nothing but read them.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);
/// The first ticket, which belongs to no request.
const NOBODY: u64 = 0;

/// A tiny_http server and the only connection to it.
pub struct Line {
    /// Never dropped: dropping would look up the path of the listener, which has none, and panic. A
    /// replaced line leaves some hundred bytes behind.
    http: ManuallyDrop<tiny_http::Server>,
    connection: Mutex<UnixStream>,
    /// The time at which the latest ticket came out.
    last_called: Mutex<Instant>,
}

impl Line {
    /// Opens a line, and returns once a first ticket has passed through it.
    ///
    /// # Errors
    /// No descriptor or thread is available.
    pub fn open() -> io::Result<Line> {
        // Connected before anything accepts, so that nobody can come first.
        let (listener, connection) =
            private_pair(&format!("langfast2api-{}", uuid::Uuid::new_v4()))?;
        let to_close = listener.try_clone()?;
        let http = catch_unwind(|| tiny_http::Server::from_listener(listener, None))
            .map_err(|_| io::Error::other("tiny_http cannot start a thread"))?;
        let http = ManuallyDrop::new(http.map_err(io::Error::other)?);
        connection.set_write_timeout(Some(WRITTEN_WITHIN))?;
        let (connection, last_called) = (Mutex::new(connection), Mutex::new(Instant::now()));
        let line = Line { http, connection, last_called };
        let sent = line.send(NOBODY);
        let came = line.next(OPENED_WITHIN);
        // Also when it has failed: tiny_http's thread would go on accepting.
        shutdown(&to_close, Shutdown::Both)?;
        sent?;
        if came != Ok(Some(NOBODY)) {
            return Err(io::Error::other("tiny_http does not answer"));
        }
        match line.next(OPENED_WITHIN) {
            Err(LineEnded) => Ok(line),
            Ok(_) => Err(io::Error::other("tiny_http goes on accepting")),
        }
    }

    /// Sends a ticket, as the path of a request that has nothing else.
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
    /// The listener has been closed. tiny_http reports this once.
    pub fn next(&self, within: Duration) -> Result<Option<u64>, LineEnded> {
        let Some(request) = self.http.recv_timeout(within).map_err(|_| LineEnded)? else {
            return Ok(None);
        };
        *self.last_called.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let ticket = request.url().strip_prefix('/').and_then(|ticket| ticket.parse().ok());
        // tiny_http must not answer on the line: the answer goes directly to the client.
        drop(request.into_writer());
        Ok(ticket)
    }

    /// Returns the time since the latest ticket came out.
    pub fn silence(&self) -> Duration {
        self.last_called.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Makes sending fail, as when tiny_http's thread has ended.
    #[cfg(test)]
    pub fn break_off(&self) {
        self.connection().shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Makes sent tickets disappear, as when tiny_http's thread is stuck.
    #[cfg(test)]
    pub fn get_stuck(&self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        *self.connection() = ours;
        // The other end stays open, and nobody reads it.
        std::mem::forget(theirs);
    }

    fn connection(&self) -> MutexGuard<'_, UnixStream> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener with a connection to it that waits to be accepted. An abstract name, which Linux alone has, needs
/// no directory, and no file that somebody might remove.
#[cfg(target_os = "linux")]
fn private_pair(name: &str) -> io::Result<(UnixListener, UnixStream)> {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    Ok((listener, UnixStream::connect_addr(&address)?))
}

/// The same by a file, in a directory of the user's own; both are gone when this returns.
#[cfg(not(target_os = "linux"))]
fn private_pair(name: &str) -> io::Result<(UnixListener, UnixStream)> {
    use std::os::unix::fs::DirBuilderExt;
    let directory = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
    let path = directory.join("line");
    let pair = UnixListener::bind(&path).and_then(|listener| {
        let connection = UnixStream::connect(&path)?;
        Ok((listener, connection))
    });
    std::fs::remove_dir_all(&directory)?;
    pair
}

/// tiny_http has stopped accepting connections.
#[derive(Debug, PartialEq, Eq)]
pub struct LineEnded;

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
        if cfg!(target_os = "linux") {
            let address = line.connection().peer_addr().unwrap();
            let refused = UnixStream::connect_addr(&address).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn a_ticket_on_a_line_that_nobody_reads_any_more_is_an_error() {
        let line = Line::open().unwrap();
        line.break_off();
        assert!(line.send(1).is_err());
    }
}
