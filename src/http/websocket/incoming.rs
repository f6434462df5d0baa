//! The bytes of a WebSocket's client, as tungstenite reads them.
//!
//! tungstenite reads a frame into memory as the frame announces it, and keeps the largest such memory as long
//! as the connection lives. So it is given the bytes of one frame at a time, each only when there is room
//! for it in the memory that all bodies share; and between two frames nothing of the client's is in it, so
//! that it can be replaced.

use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::OpCode;

use super::outgoing::Outgoing;
use crate::budget::{Full, Share, price};
use crate::http::socket::{ClientSocket, Stopped};
use crate::http::{Limits, Shared};

/// Longest head of a frame, in bytes.
const LONGEST_HEAD: usize = 14;
/// Longest payload of a control frame: RFC 6455, 5.5.
const LONGEST_CONTROL: usize = 125;
/// Memory of a message in several frames, as a multiple of its length: the frame, and the text so far, which
/// doubles when it grows.
const IN_PIECES: usize = 3;
/// Most frames that are begun between two calls of [`Incoming::go_on`]. tungstenite reads on until a message
/// ends, so a client that sends empty frames would keep the thread busy for ever.
const AT_ONCE: usize = 64;

/// A client's bytes, and the way back to it.
pub struct Incoming {
    socket: Arc<ClientSocket>,
    outgoing: Arc<Outgoing>,
    shared: Arc<Shared>,
    /// Bytes that have been read, from the beginning of the next frame or of the one under way.
    ahead: Vec<u8>,
    /// Bytes of the frame under way that are still to come.
    left: usize,
    /// True if the message under way has a frame still to begin.
    in_pieces: bool,
    /// The memory for the message under way.
    share: Share,
    /// The reason that the message under way cannot have its memory.
    full: Option<Full>,
    /// When bytes came last.
    heard: Instant,
    /// Bytes that have come since [`Incoming::take_count`].
    count: usize,
    /// Frames that may still be begun.
    frames: usize,
}

impl Incoming {
    /// Creates the reader of a connection from which `ahead` has been read already.
    pub(in crate::http) fn new(
        socket: Arc<ClientSocket>,
        outgoing: Arc<Outgoing>,
        shared: Arc<Shared>,
        ahead: Vec<u8>,
    ) -> Incoming {
        Incoming {
            share: Share::of(&shared.bodies),
            socket,
            outgoing,
            shared,
            ahead,
            left: 0,
            in_pieces: false,
            full: None,
            heard: Instant::now(),
            count: 0,
            frames: AT_ONCE,
        }
    }

    /// Lets [`AT_ONCE`] further frames be begun.
    pub fn go_on(&mut self) {
        self.frames = AT_ONCE;
    }

    /// True if no more is read before [`Incoming::go_on`], whether or not more has come.
    pub fn is_held_up(&self) -> bool {
        self.frames == 0
    }

    /// True if part of a message has come, and the rest is still to come.
    pub fn is_within_message(&self) -> bool {
        self.left > 0 || self.in_pieces || !self.ahead.is_empty()
    }

    /// Returns when bytes came last.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Returns the number of bytes that have come since the last call.
    pub fn take_count(&mut self) -> usize {
        std::mem::take(&mut self.count)
    }

    /// Takes the memory of the message that has just come whole.
    pub fn take_share(&mut self) -> Share {
        std::mem::replace(&mut self.share, Share::of(&self.shared.bodies))
    }

    /// Returns the reason that a message could not have its memory; `None` if all could.
    pub fn full(&self) -> Option<Full> {
        self.full
    }

    /// Begins the next frame once its head is whole, and takes memory for it; false at the end of the stream.
    fn begin_frame(&mut self) -> io::Result<bool> {
        if self.is_held_up() {
            return Err(ErrorKind::WouldBlock.into());
        }
        loop {
            let mut head = Cursor::new(&self.ahead);
            match FrameHeader::parse(&mut head) {
                Ok(Some((header, length))) => {
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    let head = head.position() as usize;
                    self.left = head.saturating_add(length);
                    self.frames -= 1;
                    return self.note_frame(&header, length).map(|()| true);
                }
                Ok(None) => {}
                // tungstenite finds the fault itself.
                Err(_) => {
                    self.left = self.ahead.len();
                    return Ok(true);
                }
            }
            let mut bytes = [0; LONGEST_HEAD];
            let room = LONGEST_HEAD - self.ahead.len().min(LONGEST_HEAD - 1);
            match self.receive(&mut bytes[..room])? {
                0 => return Ok(false),
                read => self.ahead.extend_from_slice(&bytes[..read]),
            }
        }
    }

    /// Takes memory for a frame. One that is too long for a body takes none: tungstenite refuses it by its
    /// head. A ping that is too long it would read first.
    fn note_frame(&mut self, header: &FrameHeader, length: usize) -> io::Result<()> {
        let OpCode::Data(_) = header.opcode else {
            return match length {
                0..=LONGEST_CONTROL => Ok(()),
                _ => Err(ErrorKind::InvalidData.into()),
            };
        };
        let is_whole = header.is_final && !self.in_pieces;
        self.in_pieces = !header.is_final;
        let Limits { body_bytes, head_deadline, .. } = self.shared.limits;
        if length > body_bytes {
            return Ok(());
        }
        let bytes = if is_whole { price(length) } else { length.saturating_mul(IN_PIECES) };
        self.share.cover(bytes, Instant::now() + head_deadline).map_err(|full| {
            self.full = Some(full);
            io::Error::other("there is no memory for a message")
        })
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.socket.receive(into) {
            Ok(read) => {
                self.heard = Instant::now();
                self.count += read;
                Ok(read)
            }
            Err(Errno::AGAIN | Errno::INTR) => Err(ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.begin_frame()? {
            return Ok(0);
        }
        let most = into.len().min(self.left);
        let read = match self.ahead.len().min(most) {
            0 => self.receive(&mut into[..most])?,
            ready => {
                into[..ready].copy_from_slice(&self.ahead[..ready]);
                self.ahead.drain(..ready);
                ready
            }
        };
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
        self.left -= read;
        Ok(read)
    }
}

/// tungstenite writes what it has to say in one piece: pongs, and the end.
impl Write for Incoming {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        match self.outgoing.send(frames, &self.shared) {
            Ok(()) => Ok(frames.len()),
            Err(Stopped::Late) => Err(ErrorKind::TimedOut.into()),
            Err(Stopped::Gone) => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
