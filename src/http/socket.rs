//! Client sockets, TCP or Unix, and waiting for them with deadlines that incoming bytes do not
//! extend.
//!
//! No socket call blocks: all waiting happens in [`wait`], where a [`Signal`] can end it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{self, Errno};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

/// Bytes that a client must make room for within each stall time.
const PIECE: usize = 16 * 1024;

/// The reason that reading or writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The deadline passed.
    Late,
    /// The other side has gone, or the signal was raised.
    Gone,
}

/// Waits until one of the descriptors is ready; false if the deadline passed first or `poll`
/// failed.
pub fn wait(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> bool {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        // A deadline beyond the kernel's range counts as none.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(fds, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            Ok(0) if left != Some(Duration::ZERO) => {}
            Ok(ready) => return ready > 0,
            // The kernel has no memory: treated as a passed deadline.
            Err(_) => return false,
        }
    }
}

/// A flag that wakes every thread waiting for it.
pub struct Signal {
    is_raised: AtomicBool,
    event: OwnedFd,
}

impl Signal {
    pub fn new() -> io::Result<Signal> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Signal { is_raised: AtomicBool::new(false), event })
    }

    pub fn raise(&self) {
        self.is_raised.store(true, Ordering::Release);
        // It fails only if the counter is full, and then the signal has long been raised.
        let _ = io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Makes it possible to wait for the flag once more.
    pub fn lower(&self) {
        self.is_raised.store(false, Ordering::Release);
        // It fails only if the flag is not raised.
        let _ = io::read(&self.event, &mut [0; 8]);
    }

    pub fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::Acquire)
    }

    /// A poll entry that reports IN once the signal is raised.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.event, PollFlags::IN)
    }
}

/// A connected stream socket.
pub struct ClientSocket(OwnedFd);

impl<T: Into<OwnedFd>> From<T> for ClientSocket {
    fn from(stream: T) -> ClientSocket {
        ClientSocket(stream.into())
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ClientSocket {
    /// Appends bytes that have arrived to the spare capacity of `into`, which must not be empty. 0
    /// is the end of the stream; `AGAIN` means that nothing has arrived.
    pub fn read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        recv(&self.0, spare_capacity(into), RecvFlags::DONTWAIT).map(|(read, _)| read)
    }

    /// Reads bytes that have arrived into `into`, which must not be empty. 0 is the end of the stream;
    /// `AGAIN` means that nothing has arrived.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        recv(&self.0, into, RecvFlags::DONTWAIT).map(|(read, _)| read)
    }

    /// Writes as many bytes as there is room for; `AGAIN` if there is none.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    }

    /// Waits until something has arrived and reads it; returns at least 1.
    pub fn read_by(
        &self,
        into: &mut Vec<u8>,
        deadline: Instant,
        end: &Signal,
    ) -> Result<usize, Stopped> {
        loop {
            match self.read(into) {
                Err(Errno::AGAIN) => self.wait_for(PollFlags::IN, deadline, end)?,
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return Err(Stopped::Gone),
                Ok(read) => return Ok(read),
            }
        }
    }

    /// Writes all of `bytes`. The other side must make room for [`PIECE`] bytes within each
    /// `stall`.
    pub fn write_paced(
        &self,
        mut bytes: &[u8],
        stall: Duration,
        end: &Signal,
    ) -> Result<(), Stopped> {
        let mut since_pause = 0;
        let mut deadline = None;
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(written) => {
                    bytes = &bytes[written..];
                    since_pause += written;
                }
                Err(Errno::AGAIN | Errno::INTR) => {
                    if since_pause >= PIECE {
                        (since_pause, deadline) = (0, None);
                    }
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + stall);
                    self.wait_for(PollFlags::OUT, deadline, end)?;
                }
                Err(_) => return Err(Stopped::Gone),
            }
        }
        Ok(())
    }

    fn wait_for(&self, events: PollFlags, deadline: Instant, end: &Signal) -> Result<(), Stopped> {
        let mut fds = [PollFd::new(self, events), end.poll_fd()];
        match wait(&mut fds, Some(deadline)) {
            false => Err(Stopped::Late),
            true if !fds[1].revents().is_empty() => Err(Stopped::Gone),
            true => Ok(()),
        }
    }

    /// Ends the sending side: the other side reads the end of the stream.
    pub fn end_writing(&self) {
        // It fails only if the other side has already closed.
        let _ = shutdown(&self.0, Shutdown::Write);
    }

    /// Sets whether closing the socket resets the connection, also in a panic or when the process
    /// ends, so that a partial answer does not look complete. Unix sockets have no reset.
    pub fn reset_on_close(&self, reset: bool) {
        let _ = sockopt::set_socket_linger(&self.0, reset.then_some(Duration::ZERO));
    }
}
