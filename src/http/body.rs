//! Request bodies, pure: bytes in, the body out (RFC 9112, sections 6 and 7).

use super::BodyLength;
use crate::error::Error;

/// Bytes of a line with a chunk's size, extensions included. Nobody is known to send extensions.
const SIZE_LINE: usize = 256;
/// Bytes of all trailer fields; they are read over.
const TRAILERS: usize = 4096;

/// Takes a body out of the bytes of a connection, whatever pieces they arrive in.
pub struct Decoder {
    state: State,
    chunked: bool,
    /// Bytes that the body may have, and that its chunks have announced.
    limit: usize,
    announced: usize,
    /// The part of a line that has arrived.
    line: Vec<u8>,
    /// Bytes that trailers may still take.
    trailers: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the line with a chunk's size.
    Size,
    /// Within data, of which so many bytes are to come.
    Data(usize),
    /// At the CRLF after a chunk's data.
    DataEnd,
    /// At a trailer, or the empty line that ends them.
    Trailer,
    Done,
}

impl Decoder {
    /// `limit` is the most bytes that a body may have.
    pub fn new(length: BodyLength, limit: usize) -> Decoder {
        let (state, chunked) = match length {
            BodyLength::Known(0) => (State::Done, false),
            BodyLength::Known(length) => (State::Data(length), false),
            BodyLength::Chunked => (State::Size, true),
        };
        Decoder { state, chunked, limit, announced: 0, line: Vec::new(), trailers: TRAILERS }
    }

    /// Whether the whole body has been taken.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes what belongs to the body from the start of `bytes`, adds its data to `body`, and tells
    /// how many bytes that were. Fails with [`Error::BadHttp`].
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

    /// Takes a line without its CRLF, or keeps the part of it that is there.
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

/// Reads up to 16 hexadecimal digits, which an extension may follow. An extension means nothing here.
fn chunk_size(line: &[u8]) -> Result<u64, Error> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
    let append = |size: u64, &digit| Some(size << 4 | u64::from(char::from(digit).to_digit(16)?));
    let size = digits.iter().try_fold(0, append);
    size.filter(|_| (1..=16).contains(&digits.len())).ok_or_else(bad_chunk)
}

fn bad_chunk() -> Error {
    Error::BadHttp { status: 400, message: "The chunks of the body are malformed".to_owned() }
}

/// The refusal of a body of more than `limit` bytes.
pub fn too_large(limit: usize) -> Error {
    let message = format!("The body is larger than {limit} bytes");
    Error::BadHttp { status: 413, message }
}
