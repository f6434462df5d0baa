//! Waiting for a connection to bring something in a way that another thread can end.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read, write};

/// Wakes the thread that waits by a [`Watch`].
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// A waker that has not been used yet.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new() -> io::Result<Waker> {
        Ok(Waker(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Ends the wait that is under way, or else the next one.
    pub fn wake(&self) {
        // It can only fail when the counter is full, and then the wait ends all the same.
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }

    fn reset(&self) {
        // There is nothing to read only if it has been reset already.
        let _ = read(&self.0, &mut [0; 8]);
    }
}

/// How long a thread waits for its connection.
#[derive(Debug)]
pub struct Watch {
    waker: Arc<Waker>,
    /// The most time without a byte.
    silence: Duration,
    /// When the last byte came.
    heard: Instant,
    /// When the thread wants to be called away at the latest.
    look_at: Option<Instant>,
}

impl Watch {
    /// Waits for at most `silence` after the last byte, and ends when `waker` says so.
    pub fn new(waker: Arc<Waker>, silence: Duration) -> Watch {
        Watch { waker, silence, heard: Instant::now(), look_at: None }
    }

    /// Has waits end at this time too; with `None` at no time.
    pub fn look_at(&mut self, at: Option<Instant>) {
        self.look_at = at;
    }

    /// Notes that something has come.
    pub fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Waits until there is something to read.
    ///
    /// # Errors
    /// `WouldBlock`: the thread was woken, or it is time to look; waiting can go on. `TimedOut`: the peer
    /// has been silent for too long.
    pub fn wait(&self, tcp: &TcpStream) -> io::Result<()> {
        let silent_at = self.heard + self.silence;
        let until = self.look_at.map_or(silent_at, |at| at.min(silent_at));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds =
                [PollFd::new(&self.waker.0, PollFlags::IN), PollFd::new(tcp, PollFlags::IN)];
            let ready = match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
                Err(Errno::INTR) => continue,
                ready => ready?,
            };
            if !fds[0].revents().is_empty() {
                self.waker.reset();
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // What has come in time counts, however late the thread is.
            if ready > 0 {
                return Ok(());
            }
            if left.is_zero() {
                let is_silent = until == silent_at;
                let kind =
                    if is_silent { io::ErrorKind::TimedOut } else { io::ErrorKind::WouldBlock };
                return Err(kind.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// Longer than any wait takes that ends as it should.
    const LONG: Duration = Duration::from_secs(60);

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn kind(result: io::Result<()>) -> Option<io::ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn a_wait_ends_when_something_comes_or_the_thread_is_woken_once() {
        let (ours, mut theirs) = connection();
        let waker = Arc::new(Waker::new().unwrap());
        let watch = Watch::new(waker.clone(), LONG);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| kind(watch.wait(&ours)));
            waker.wake();
            assert_eq!(waiting.join().unwrap(), Some(io::ErrorKind::WouldBlock));
        });
        theirs.write_all(b"x").unwrap();
        assert_eq!(kind(watch.wait(&ours)), None, "it was woken for one wait");
    }

    #[test]
    fn silence_is_told_from_the_time_to_look_and_what_has_come_counts_more() {
        let (ours, mut theirs) = connection();
        let waker = Arc::new(Waker::new().unwrap());
        let mut watch = Watch::new(waker.clone(), LONG);
        watch.look_at(Some(Instant::now()));
        assert_eq!(kind(watch.wait(&ours)), Some(io::ErrorKind::WouldBlock));
        let mut watch = Watch::new(waker, Duration::ZERO);
        watch.look_at(Some(Instant::now() + LONG));
        assert_eq!(kind(watch.wait(&ours)), Some(io::ErrorKind::TimedOut));
        theirs.write_all(b"x").unwrap();
        while kind(watch.wait(&ours)).is_some() {
            std::thread::yield_now();
        }
    }
}
