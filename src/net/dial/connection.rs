//! A connection that is made: reads and writes that end by one deadline, or wait as a watch says.
//!
//! Enters: a TCP socket, with TLS or without. Leaves: the same as `Read` and `Write`. It may not know how
//! it was made, nor what is spoken over it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use native_tls::TlsStream;

use crate::net::waker::{Watch, is_writable};

/// A TCP socket whose reads and writes all end by one deadline, however many there are.
#[derive(Debug)]
pub struct TimedSocket {
    tcp: TcpStream,
    deadline: Option<Instant>,
    /// How reads wait if there is no deadline.
    watch: Option<Watch>,
}

impl TimedSocket {
    pub(super) fn new(tcp: TcpStream, deadline: Instant) -> TimedSocket {
        TimedSocket { tcp, deadline: Some(deadline), watch: None }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for TimedSocket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let (None, Some(watch)) = (self.deadline, &mut self.watch) {
            return watch.read(&self.tcp, buf);
        }
        again_if_interrupted(|| {
            if let Some(left) = self.left()? {
                self.tcp.set_read_timeout(Some(left))?;
            }
            self.tcp.read(buf)
        })
    }
}

impl Write for TimedSocket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        again_if_interrupted(|| {
            if let Some(left) = self.left()? {
                self.tcp.set_write_timeout(Some(left))?;
            }
            self.tcp.write(buf)
        })
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
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
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
        self.socket().deadline = deadline;
    }

    /// Sets how reads wait while there is no deadline, and how long one write may block.
    ///
    /// # Errors
    /// The system refuses the socket option.
    pub fn set_watch(&mut self, watch: Watch, write: Duration) -> io::Result<()> {
        let socket = self.socket();
        watch.set_up(&socket.tcp)?;
        socket.watch = Some(watch);
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
        self.set_deadline(None);
        if self.socket().tcp.set_nonblocking(true).is_err() {
            return false;
        }
        // Reads instead of peeking, because TLS has messages of its own, such as tickets.
        let silent = matches!(self.read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        silent && self.socket().tcp.set_nonblocking(false).is_ok()
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
