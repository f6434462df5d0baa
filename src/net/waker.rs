//! Waits for data on a connection in a way that another thread can end. The kernel does the waiting, so
//! no test can try its interleavings; what is decided on waking is in `langfast::leases`.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read, write};
use rustix::net::{RecvFlags, recv};

/// Longest time until a [`Watch`] that has no time to look notices that it was woken. It waits in `recv`,
/// which only time and data end: a wait in `poll` can be ended at once, but costs each token 60 µs more
/// (measured in a virtual machine with two cores).
const WAKE_WITHIN: Duration = Duration::from_millis(100);

/// Bytes of a read behind which there is likely more already. Reads of TLS's, which are of whole records and
/// their heads, are smaller unless the peer has much to say.
const LARGE: usize = 4096;
/// Longest time for which what is to be done before reads is put off, while more has come already.
const PUT_OFF: Duration = Duration::from_millis(1);

/// Whether a few bytes can be written to `tcp` without waiting.
pub fn is_writable(tcp: &TcpStream) -> bool {
    let mut fds = [PollFd::new(tcp, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Wakes the thread that waits in a [`Watch`].
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// A waker that has not been used yet.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    pub fn new() -> io::Result<Waker> {
        Ok(Waker(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Ends the wait that is under way, or else the next one, at once or within a moment: see [`Watch`].
    pub fn wake(&self) {
        // Writing fails only if the counter is full, and then the wait ends all the same.
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }

    fn reset(&self) {
        // Reading fails only if the counter has been reset already.
        let _ = read(&self.0, &mut [0; 8]);
    }
}

/// Reads a connection, and ends waits on silence, on time, or when woken: at once while there is a time
/// to look, which is when nobody waits for what comes, else within a tenth of a second.
pub struct Watch {
    waker: Arc<Waker>,
    /// Longest time without a byte.
    silence: Duration,
    /// The time of the last byte.
    heard: Instant,
    /// The time at which a wait has to end at the latest, so that the thread can look what to do.
    look_at: Option<Instant>,
    /// Whether the last read filled its buffer, so that the next one need not wait: a long message
    /// saves a system call for each of its pieces.
    is_behind: bool,
    /// Called before a read that may wait.
    before: Box<dyn FnMut() + Send + Sync>,
    /// The time at which it is called though there is more to read, while it is put off.
    put_off: Option<Instant>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Watch").field("silence", &self.silence).finish_non_exhaustive()
    }
}

impl Watch {
    /// A watch whose waits end `silence` after the last byte at the latest, and whenever `waker` is
    /// woken.
    pub fn new(waker: Arc<Waker>, silence: Duration) -> Watch {
        let before = Box::new(|| {});
        Watch {
            waker,
            silence,
            heard: Instant::now(),
            look_at: None,
            is_behind: false,
            before,
            put_off: None,
        }
    }

    /// Has `before` called when all that has been read is dealt with: before each read, but while large
    /// pieces come one after the other only every millisecond.
    pub fn before_reads(self, before: Box<dyn FnMut() + Send + Sync>) -> Watch {
        Watch { before, ..self }
    }

    /// Makes waits end at this time too; `None` removes that limit.
    pub fn look_at(&mut self, at: Option<Instant>) {
        self.look_at = at;
    }

    /// Has reads of `tcp` wait as [`Watch::read`] needs it.
    ///
    /// # Errors
    /// The system refuses the socket option.
    pub fn set_up(&self, tcp: &TcpStream) -> io::Result<()> {
        tcp.set_read_timeout(Some(WAKE_WITHIN))
    }

    /// Waits until there is something to read, and reads it. `tcp` has been [set up](Watch::set_up).
    ///
    /// # Errors
    /// `WouldBlock`: the thread was woken, or the time of [`Watch::look_at`] has come; reading can go
    /// on. `TimedOut`: the peer has been silent for too long. Any error of the connection.
    pub fn read(&mut self, tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(length) = self.read_on(tcp, buffer)? {
            return Ok(length);
        }
        (self.before)();
        loop {
            let waits_by_itself = self.look_at.is_none();
            if !waits_by_itself && !self.is_behind {
                self.wait(tcp, self.silent_at())?;
            }
            let flags = if waits_by_itself { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
            match recv(tcp, &mut *buffer, flags) {
                Ok((_, length)) => return Ok(self.note_read(length, buffer.len())),
                Err(Errno::AGAIN) => {
                    self.is_behind = false;
                    if waits_by_itself && self.has_to_end()? {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads what is there already, if that has just been much; `None` if `before` is due.
    fn read_on(&mut self, tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.put_off.is_none_or(|until| Instant::now() >= until) {
            self.put_off = None;
            return Ok(None);
        }
        match recv(tcp, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, length)) => Ok(Some(self.note_read(length, buffer.len()))),
            Err(Errno::AGAIN | Errno::INTR) => {
                (self.put_off, self.is_behind) = (None, false);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn note_read(&mut self, length: usize, room: usize) -> usize {
        self.heard = Instant::now();
        self.is_behind = length == room;
        self.put_off = (self.is_behind && length >= LARGE)
            .then(|| self.put_off.unwrap_or(self.heard + PUT_OFF));
        length
    }

    fn silent_at(&self) -> Instant {
        self.heard + self.silence
    }

    /// Whether the thread was woken meanwhile.
    ///
    /// # Errors
    /// `TimedOut`: the peer has been silent for too long.
    fn has_to_end(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.waker.0, PollFlags::IN)];
        if poll(&mut fds, Some(&Timespec::default()))? > 0 {
            self.waker.reset();
            return Ok(true);
        }
        match Instant::now() < self.silent_at() {
            true => Ok(false),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn wait(&self, tcp: &TcpStream, silent_at: Instant) -> io::Result<()> {
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
            // Data that came in time counts, however late the thread is.
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Longer than any wait takes that ends as it should.
    const LONG: Duration = Duration::from_secs(60);

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_read_timeout(Some(WAKE_WITHIN)).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn kind(result: io::Result<usize>) -> io::ErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn a_read_ends_when_something_comes_or_the_thread_is_woken_once() {
        let (ours, mut theirs) = connection();
        let waker = Arc::new(Waker::new().unwrap());
        let mut watch = Watch::new(waker.clone(), LONG);
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| kind(watch.read(&ours, &mut [0; 8])));
            waker.wake();
            assert_eq!(reading.join().unwrap(), io::ErrorKind::WouldBlock);
        });
        theirs.write_all(b"x").unwrap();
        assert_eq!(watch.read(&ours, &mut [0; 8]).unwrap(), 1, "it was woken for one read");
        drop(theirs);
        assert_eq!(watch.read(&ours, &mut [0; 8]).unwrap(), 0, "the end");
    }

    #[test]
    fn silence_is_told_from_the_time_to_look_and_what_has_come_counts_more() {
        let (ours, mut theirs) = connection();
        let waker = Arc::new(Waker::new().unwrap());
        let mut watch = Watch::new(waker.clone(), LONG);
        watch.look_at(Some(Instant::now()));
        assert_eq!(kind(watch.read(&ours, &mut [0; 8])), io::ErrorKind::WouldBlock);
        let mut watch = Watch::new(waker.clone(), Duration::ZERO);
        assert_eq!(kind(watch.read(&ours, &mut [0; 8])), io::ErrorKind::TimedOut);
        let mut watch = Watch::new(waker, Duration::ZERO);
        watch.look_at(Some(Instant::now() + LONG));
        assert_eq!(kind(watch.read(&ours, &mut [0; 8])), io::ErrorKind::TimedOut);
        theirs.write_all(b"x").unwrap();
        while watch.read(&ours, &mut [0; 8]).is_err() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn no_read_waits_before_what_is_to_be_done_first_however_much_has_come() {
        let (ours, mut theirs) = connection();
        let (waker, calls) = (Arc::new(Waker::new().unwrap()), Arc::new(AtomicUsize::new(0)));
        let count = calls.clone();
        let before = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let mut watch = Watch::new(waker.clone(), LONG).before_reads(before);
        let made = || calls.swap(0, Ordering::Relaxed);
        let mut large = vec![0; LARGE];
        theirs.write_all(&[b'x'; 3 * LARGE]).unwrap();
        let lengths = [(); 3].map(|()| watch.read(&ours, &mut large).unwrap());
        assert!((1..=3).contains(&made()), "once, unless a millisecond is over");
        assert_eq!(lengths.iter().sum::<usize>(), 3 * LARGE);
        waker.wake();
        assert_eq!(kind(watch.read(&ours, &mut large)), io::ErrorKind::WouldBlock);
        assert_eq!(made(), 1);
        theirs.write_all(b"x").unwrap();
        assert_eq!(watch.read(&ours, &mut large).unwrap(), 1);
        assert_eq!(made(), 1);
    }

    #[test]
    fn a_long_message_is_read_in_pieces_and_waited_for_behind_its_end() {
        let (ours, mut theirs) = connection();
        let mut watch = Watch::new(Arc::new(Waker::new().unwrap()), LONG);
        theirs.write_all(b"12345678").unwrap();
        let mut whole = Vec::new();
        while whole.len() < 8 {
            let mut piece = [0; 4];
            let length = watch.read(&ours, &mut piece).unwrap();
            whole.extend_from_slice(&piece[..length]);
        }
        assert_eq!(whole, b"12345678");
        watch.look_at(Some(Instant::now()));
        assert_eq!(kind(watch.read(&ours, &mut [0; 4])), io::ErrorKind::WouldBlock);
    }
}
