//! Decoding of request bodies, without I/O: bytes in, the body out (RFC 9112, sections 6 and 7).

use super::BodyLength;
use crate::error::Error;

/// Most bytes of a chunk-size line, extensions included. No client is known to send extensions.
const SIZE_LINE: usize = 256;
/// Most bytes of all trailer fields, which are skipped.
const TRAILERS: usize = 4096;

/// Decodes one body from the bytes of a connection, however they are split.
pub struct Decoder {
    state: State,
    chunked: bool,
    /// Most bytes of the body; a chunk that exceeds it is refused by its size line.
    limit: usize,
    announced: usize,
    /// The part of the current line that has arrived.
    line: Vec<u8>,
    /// Bytes that trailer fields may still use.
    trailers: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the line with a chunk's size.
    Size,
    /// Within data of which this many bytes are missing.
    Data(usize),
    /// At the CRLF after a chunk's data.
    DataEnd,
    /// At a trailer field, or at the empty line that ends them.
    Trailer,
    Done,
}

impl Decoder {
    /// Creates a decoder for a body of at most `limit` bytes.
    pub fn new(length: BodyLength, limit: usize) -> Decoder {
        let (state, chunked) = match length {
            BodyLength::Known(0) => (State::Done, false),
            BodyLength::Known(length) => (State::Data(length), false),
            BodyLength::Chunked => (State::Size, true),
        };
        Decoder { state, chunked, limit, announced: 0, line: Vec::new(), trailers: TRAILERS }
    }

    /// True once the whole body has been decoded.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Consumes what belongs to the body from the start of `bytes`, appends its data to `body`, and
    /// returns the number of bytes consumed. Fails with [`Error::BadHttp`].
    pub fn feed(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, Error> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_done() {
            self.state = match self.state {
                State::Data(length) => {
                    let (data, after) = rest.split_at(length.min(rest.len()));
                    body.extend_from_slice(data);
                    rest = after;
                    self.after_data(length - data.len())
                }
                _ => match self.take_line(&mut rest)? {
                    Some(line) => self.after_line(&line)?,
                    None => break,
                },
            };
        }
        Ok(bytes.len() - rest.len())
    }

    fn after_data(&self, missing: usize) -> State {
        match missing {
            0 if self.chunked => State::DataEnd,
            0 => State::Done,
            missing => State::Data(missing),
        }
    }

    fn after_line(&mut self, line: &[u8]) -> Result<State, Error> {
        match self.state {
            State::Size => match chunk_size(line)? {
                0 => Ok(State::Trailer),
                size => self.announce(size).map(State::Data),
            },
            State::DataEnd => Ok(State::Size),
            _ if line.is_empty() => Ok(State::Done),
            _ => {
                self.trailers -= line.len();
                Ok(State::Trailer)
            }
        }
    }

    fn announce(&mut self, size: u64) -> Result<usize, Error> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.announced = self.announced.saturating_add(size);
        if self.announced <= self.limit { Ok(size) } else { Err(too_large(self.limit)) }
    }

    /// Returns the next line without its CRLF; `None` if it is not complete, and its part is kept.
    fn take_line(&mut self, rest: &mut &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let longest = match self.state {
            State::Size => SIZE_LINE,
            State::Trailer => self.trailers,
            _ => 0,
        };
        while let Some((&byte, after)) = rest.split_first() {
            *rest = after;
            let after_cr = self.line.last() == Some(&b'\r');
            match (after_cr, byte) {
                (true, b'\n') => {
                    self.line.pop();
                    return Ok(Some(std::mem::take(&mut self.line)));
                }
                (false, b'\r') => {}
                (false, b'\t' | b' '..=b'~' | 0x80..) if self.line.len() < longest => {}
                _ => return Err(bad_chunk()),
            }
            self.line.push(byte);
        }
        Ok(None)
    }
}

/// Reads a chunk's size: 1 to 16 hexadecimal digits, then perhaps an extension, which is ignored.
fn chunk_size(line: &[u8]) -> Result<u64, Error> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
    let append = |size: u64, &digit| Some(size << 4 | u64::from(char::from(digit).to_digit(16)?));
    let size = digits.iter().try_fold(0, append);
    size.filter(|_| (1..=16).contains(&digits.len())).ok_or_else(bad_chunk)
}

fn bad_chunk() -> Error {
    Error::BadHttp { status: 400, message: "The chunks of the body are malformed".to_owned() }
}

/// Returns the error for a body of more than `limit` bytes.
pub fn too_large(limit: usize) -> Error {
    let message = format!("The body is larger than {limit} bytes");
    Error::BadHttp { status: 413, message }
}
