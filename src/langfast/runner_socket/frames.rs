//! The frames of a server's WebSocket, between its connection and tungstenite.
//!
//! Enters: a connection, before its handshake. Leaves: whole texts, and for tungstenite the bytes of
//! everything else: the handshake, control frames, messages in pieces, and what breaks a rule. It may not know
//! what a text says.
//!
//! Nearly all that a prompt runner sends are texts of one frame, each of them the one before it and a little
//! more. tungstenite fills its buffer with zeroes before each read, and checks the UTF-8 of each text from
//! its beginning: a quarter of what a long answer costs. Here a text is read into one buffer that stays, and
//! whoever takes it checks only what is new. Frames are RFC 6455's, 5.2.

use std::io::{self, Cursor, Read, Write};
use std::ops::Deref;

use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// Bytes that are read at once, unless more of a text is to come.
const READ_AHEAD: usize = 16 * 1024;
/// Bytes by which the buffer for texts grows before they have come: a server may announce what it never sends.
const GROWTH: usize = 256 * 1024;
/// Bytes that the buffer for texts may keep, however small they are.
const KEPT: usize = 64 * 1024;
/// Number of texts in a row, each smaller than a quarter of the buffer, after which that is given up.
const MANY_SMALL: u32 = 1000;

/// A text of one frame, not checked to be UTF-8.
#[derive(Debug, Default)]
pub struct Text {
    /// The text, and behind it what the buffer has held before.
    buffer: Vec<u8>,
    length: usize,
}

impl Text {
    /// Makes room for the first `end` bytes of the text.
    fn make_room(&mut self, end: usize) {
        if end > self.buffer.capacity() {
            // A little more than all of it, since the next ones are a little longer.
            let capacity = self.length + self.length / 32;
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        if end > self.buffer.len() {
            self.buffer.resize(end, 0);
        }
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text { buffer: text.into(), length: text.len() }
    }
}

/// A connection whose whole texts are read here, and all else by tungstenite, through [`Read`].
#[derive(Debug)]
pub struct Frames<S> {
    stream: S,
    ahead: Ahead,
    is_shaken: bool,
    /// Bytes still to be given to tungstenite, of the handshake or of a frame.
    passing: usize,
    /// Whether a message under way, which is tungstenite's, has a frame still to begin.
    in_pieces: bool,
    /// Longest text, in bytes; tungstenite refuses longer ones.
    longest: usize,
    /// The text under way; its length is 0 if there is none.
    text: Text,
    /// Bytes of it that have come.
    filled: usize,
    small_in_a_row: u32,
}

impl<S> Frames<S> {
    /// Wraps a connection before its handshake; texts may have `longest` bytes.
    pub fn new(stream: S, longest: usize) -> Frames<S> {
        Frames {
            stream,
            ahead: Ahead { bytes: vec![0; READ_AHEAD].into(), start: 0, end: 0 },
            is_shaken: false,
            passing: 0,
            in_pieces: false,
            longest,
            text: Text::default(),
            filled: 0,
            small_in_a_row: 0,
        }
    }

    /// Wraps a connection behind its handshake.
    #[cfg(test)]
    pub fn shaken(stream: S, longest: usize) -> Frames<S> {
        Frames { is_shaken: true, ..Frames::new(stream, longest) }
    }

    /// The connection.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Takes back the buffer of a text, for those that come.
    pub fn reuse(&mut self, text: Text) {
        let Text { buffer, length } = text;
        let is_small = buffer.len() > KEPT && length < buffer.len() / 4;
        self.small_in_a_row = if is_small { self.small_in_a_row + 1 } else { 0 };
        if self.small_in_a_row < MANY_SMALL {
            self.text.buffer = buffer;
        }
    }
}

impl<S: Read> Frames<S> {
    /// Reads the next text, if the next frame is one and whole. `None` if what comes next is tungstenite's to
    /// read, which has to be done then.
    ///
    /// # Errors
    /// Those of the connection, or it ended within the text. After [`io::ErrorKind::WouldBlock`] the next call
    /// goes on with the same text.
    pub fn read_text(&mut self) -> tungstenite::Result<Option<Text>> {
        if self.text.length == 0 && !self.begin_text()? {
            return Ok(None);
        }
        while self.filled < self.text.length {
            let end = self.text.length.min(self.filled + GROWTH);
            self.text.make_room(end);
            let room = &mut self.text.buffer[self.filled..end];
            self.filled += match self.ahead.read(&mut self.stream, room)? {
                0 => return Err(ProtocolError::ResetWithoutClosingHandshake.into()),
                read => read,
            };
        }
        self.filled = 0;
        Ok(Some(std::mem::take(&mut self.text)))
    }

    /// Begins the next frame if it is a whole text; false if it is tungstenite's.
    fn begin_text(&mut self) -> io::Result<bool> {
        if !self.is_shaken || self.passing > 0 || self.in_pieces {
            return Ok(false);
        }
        let Some(Head { header, length, size }) = self.ahead.head(&mut self.stream)? else {
            return Ok(false);
        };
        let FrameHeader { is_final, rsv1, rsv2, rsv3, opcode, mask } = header;
        let is_text = opcode == OpCode::Data(Data::Text) && (1..=self.longest).contains(&length);
        let is_ours = is_text && is_final && !(rsv1 || rsv2 || rsv3) && mask.is_none();
        if is_ours {
            self.ahead.start += size;
            self.text.length = length;
        }
        Ok(is_ours)
    }

    /// Begins to give tungstenite what comes next: the answer to its handshake, or one frame. False at the
    /// end of the stream.
    fn begin_passing(&mut self) -> io::Result<bool> {
        if !self.is_shaken {
            self.passing = self.answer_length()?;
            return Ok(true);
        }
        self.passing = match self.ahead.head(&mut self.stream)? {
            Some(Head { header, length, size }) => {
                if let OpCode::Data(_) = header.opcode {
                    self.in_pieces = !header.is_final;
                }
                size.saturating_add(length)
            }
            // tungstenite finds the fault itself, or the end within a head.
            None => self.ahead.unread().len(),
        };
        Ok(self.passing > 0)
    }

    /// The bytes of the answer to the handshake: those of its head if the server agrees, since frames come
    /// behind that; else all that come.
    fn answer_length(&mut self) -> io::Result<usize> {
        const BEHIND_HEAD: &[u8] = b"\r\n\r\n";
        loop {
            let unread = self.ahead.unread();
            let head = unread.windows(BEHIND_HEAD.len()).position(|bytes| bytes == BEHIND_HEAD);
            match head {
                Some(head) if unread.starts_with(b"HTTP/1.1 101 ") => {
                    self.is_shaken = true;
                    return Ok(head + BEHIND_HEAD.len());
                }
                None if unread.len() < READ_AHEAD && self.ahead.fill(&mut self.stream)? > 0 => {}
                _ => return Ok(usize::MAX),
            }
        }
    }
}

/// What is tungstenite's.
impl<S: Read> Read for Frames<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.passing == 0 && !self.begin_passing()? {
            return Ok(0);
        }
        let most = into.len().min(self.passing);
        let read = self.ahead.read(&mut self.stream, &mut into[..most])?;
        self.passing -= read;
        Ok(read)
    }
}

impl<S: Write> Write for Frames<S> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        self.stream.write(frames)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The head of a frame.
struct Head {
    header: FrameHeader,
    /// Bytes of the payload, which comes behind it.
    length: usize,
    /// Bytes of the head itself.
    size: usize,
}

/// What has been read of a stream before it is needed: `bytes[start..end]`.
#[derive(Debug)]
struct Ahead {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Ahead {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Reads into `into`: what is ahead, or else from the stream.
    fn read(&mut self, stream: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
        let taken = self.unread().len().min(into.len());
        if taken == 0 {
            return stream.read(into);
        }
        into[..taken].copy_from_slice(&self.unread()[..taken]);
        self.start += taken;
        Ok(taken)
    }

    /// Reads what there is in the stream behind what is ahead; returns the number of bytes, 0 at its end. Not
    /// to be called when all the room is taken.
    fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let read = stream.read(&mut self.bytes[self.end..])?;
        self.end += read;
        Ok(read)
    }

    /// Reads on until the head of the next frame is ahead, and leaves it there. `None` if the stream ends
    /// before, or no frame has such a head.
    fn head(&mut self, stream: &mut impl Read) -> io::Result<Option<Head>> {
        loop {
            let mut bytes = Cursor::new(self.unread());
            match FrameHeader::parse(&mut bytes) {
                Ok(Some((header, length))) => {
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    return Ok(Some(Head { header, length, size: bytes.position() as usize }));
                }
                Ok(None) if self.fill(stream)? > 0 => {}
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_announced_takes_no_memory_before_it_comes() {
        let announced = [&[0x81, 127][..], &(1u64 << 30).to_be_bytes(), b"a few"].concat();
        let mut frames = Frames::shaken(&announced[..], usize::MAX);
        assert!(frames.read_text().is_err());
        assert!(frames.text.buffer.len() <= GROWTH + 8);
    }

    #[test]
    fn the_buffer_for_texts_stays_and_is_given_up_when_it_has_long_been_too_large() {
        let long = [&[0x81, 127][..], &(1u64 << 20).to_be_bytes(), &[b'x'; 1 << 20]].concat();
        let short = [0x81, 1, b'x'].repeat(MANY_SMALL as usize);
        let bytes = [&long[..], &short, &long].concat();
        let mut frames = Frames::shaken(&bytes[..], usize::MAX);
        let mut next = || {
            let text = frames.read_text().unwrap().unwrap();
            let (length, room) = (text.len(), text.buffer.capacity());
            frames.reuse(text);
            (length, room, frames.text.buffer.capacity())
        };
        let (length, room, kept) = next();
        assert_eq!((length, kept), (1 << 20, room));
        for _ in 1..MANY_SMALL {
            assert_eq!(next(), (1, room, room));
        }
        assert_eq!(next(), (1, room, 0));
        assert_eq!(next().0, 1 << 20);
    }
}
