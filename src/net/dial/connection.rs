//! A connection that is made: reads and writes that end by one deadline, or wait as a watch says.
//!
//! Enters: a TCP socket, with TLS or without. Leaves: the same as `Read` and `Write`. It may not know how
//! it was made, nor what is spoken over it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use native_tls::TlsStream;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::net::waker::{Watch, is_writable};

/// By how much a read's timeout in the kernel may differ from the time that is left, so that most reads
/// need not set it anew.
const TIMEOUT_SLACK: Duration = Duration::from_millis(10);

/// A TCP socket whose reads and writes all end by one deadline, however many there are.
#[derive(Debug)]
pub struct TimedSocket {
    tcp: TcpStream,
    wait: Wait,
    /// The timeout of reads that the kernel has been told last.
    read_timeout: Option<Duration>,
    /// How reads wait if there is no deadline.
    watch: Option<Watch>,
}

/// How long reads and writes wait.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// As long as the watch says, or the timeouts that were set last.
    Untimed,
    Until(Instant),
    /// Not at all.
    Never,
}

impl TimedSocket {
    pub(super) fn new(tcp: TcpStream, deadline: Instant) -> TimedSocket {
        TimedSocket { tcp, wait: Wait::Until(deadline), read_timeout: None, watch: None }
    }

    fn read_by(&mut self, deadline: Instant, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = left(deadline)?;
            if self.read_timeout.is_none_or(|timeout| timeout.abs_diff(left) > TIMEOUT_SLACK) {
                self.tcp.set_read_timeout(Some(left))?;
                self.read_timeout = Some(left);
            }
            match self.tcp.read(buf) {
                Err(error) if is_interrupted(&error) => {}
                // The kernel's timeout may have been a little too short.
                Err(error) if is_early(&error, deadline) => {}
                result => return result,
            }
        }
    }

    fn write_by(&mut self, deadline: Instant, buf: &[u8]) -> io::Result<usize> {
        // There mostly is room.
        match send(&self.tcp, buf, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(result?),
        }
        again_if_interrupted(|| {
            self.tcp.set_write_timeout(Some(left(deadline)?))?;
            self.tcp.write(buf)
        })
    }
}

/// The time that is left until `deadline`.
///
/// # Errors
/// `TimedOut`: there is none.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

impl Read for TimedSocket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match (self.wait, &mut self.watch) {
            (Wait::Until(deadline), _) => self.read_by(deadline, buf),
            (Wait::Never, _) => Ok(recv(&self.tcp, buf, RecvFlags::DONTWAIT)?.0),
            (Wait::Untimed, Some(watch)) => watch.read(&self.tcp, buf),
            (Wait::Untimed, None) => again_if_interrupted(|| self.tcp.read(buf)),
        }
    }
}

impl Write for TimedSocket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.wait {
            Wait::Until(deadline) => self.write_by(deadline, buf),
            Wait::Never => Ok(send(&self.tcp, buf, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?),
            Wait::Untimed => again_if_interrupted(|| self.tcp.write(buf)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// Makes a call, and repeats it while it is interrupted: when a stopped program (Ctrl-Z, `kill -STOP`)
/// goes on, its calls on sockets with a timeout end with that error (signal(7)).
fn again_if_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if is_interrupted(&error) => {}
            result => return result,
        }
    }
}

fn is_early(error: &io::Error, deadline: Instant) -> bool {
    error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline
}

fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// A connection to LangFast.
#[derive(Debug)]
pub enum OutboundConnection {
    /// Without TLS: to a simulator, or to a proxy of the operator's own.
    Plain(TimedSocket),
    /// With TLS.
    Tls(Box<TlsStream<TimedSocket>>),
}

impl OutboundConnection {
    fn socket(&mut self) -> &mut TimedSocket {
        match self {
            OutboundConnection::Plain(socket) => socket,
            OutboundConnection::Tls(stream) => stream.get_mut(),
        }
    }

    /// Makes every read and write end by `deadline`. With `None`, reads wait as
    /// [`OutboundConnection::set_watch`] says; without a watch, the timeouts that were set last remain.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.socket().wait = deadline.map_or(Wait::Untimed, Wait::Until);
    }

    /// Sets how reads wait while there is no deadline, and how long one write may block.
    ///
    /// # Errors
    /// The system refuses the socket option.
    pub fn set_watch(&mut self, watch: Watch, write: Duration) -> io::Result<()> {
        let socket = self.socket();
        watch.set_up(&socket.tcp)?;
        (socket.watch, socket.read_timeout) = (Some(watch), None);
        socket.tcp.set_write_timeout(Some(write))
    }

    /// The watch by which reads wait, if one is set.
    pub fn watch(&mut self) -> Option<&mut Watch> {
        self.socket().watch.as_mut()
    }

    /// Whether a few bytes can be written without waiting for the peer to read.
    pub fn is_writable(&mut self) -> bool {
        is_writable(&self.socket().tcp)
    }

    /// Whether the peer has neither closed the connection nor sent anything unasked, so that an idle
    /// connection can be used again.
    pub fn is_idle(&mut self) -> bool {
        self.socket().wait = Wait::Never;
        // Reads instead of peeking, because TLS has messages of its own, such as tickets.
        let read = self.read(&mut [0]);
        self.set_deadline(None);
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Read for OutboundConnection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            OutboundConnection::Plain(socket) => socket.read(buf),
            OutboundConnection::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for OutboundConnection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            OutboundConnection::Plain(socket) => socket.write(buf),
            OutboundConnection::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            OutboundConnection::Plain(socket) => socket.flush(),
            OutboundConnection::Tls(stream) => stream.flush(),
        }
    }
}
