//! The buffers of a call, in which what is to be sent gathers.
//!
//! Enters: what ureq writes, which is a request's head and then its body, piece by piece. Leaves: the same
//! in as few pieces as fit the buffer. It may not know what the bytes mean.

use ureq::unversioned::transport::Buffers;

/// Sizes in bytes. The head of an answer has to fit into the input, through which ureq also reads bodies
/// (it needs 10 KiB for that). The head of a request, with its tokens, has to fit into the output.
const INPUT: usize = 16 * 1024;
const OUTPUT: usize = 8 * 1024;

/// The buffers of a call; they take memory from the first use on.
#[derive(Debug, Default)]
pub struct CallBuffers {
    output: Vec<u8>,
    /// Bytes at the output's beginning that are still to be sent.
    held: usize,
    input: Vec<u8>,
    /// The end of what has been read into the input, and of what of it is done with.
    filled: usize,
    consumed: usize,
    /// Whether something was done with the input last.
    has_progressed: bool,
}

impl CallBuffers {
    /// Notes that so many bytes more are to be sent; true if that is due now.
    pub fn hold(&mut self, amount: usize) -> bool {
        self.held += amount;
        self.held > OUTPUT / 2
    }

    /// What is to be sent.
    pub fn held(&self) -> &[u8] {
        &self.output[..self.held]
    }

    /// Notes that all that was to be sent is sent.
    pub fn sent(&mut self) {
        self.held = 0;
    }

    /// The same memory for another call.
    pub fn emptied(self) -> CallBuffers {
        CallBuffers { output: self.output, input: self.input, ..CallBuffers::default() }
    }

    fn allocate(&mut self) {
        if self.output.is_empty() {
            (self.output, self.input) = (vec![0; OUTPUT], vec![0; INPUT]);
        }
    }

    /// Makes room behind the input that is not done with.
    fn make_room(&mut self) {
        self.allocate();
        if self.consumed == self.filled || self.filled > INPUT / 2 {
            self.input.copy_within(self.consumed..self.filled, 0);
            self.filled -= self.consumed;
            self.consumed = 0;
        }
    }
}

impl Buffers for CallBuffers {
    fn output(&mut self) -> &mut [u8] {
        self.allocate();
        &mut self.output[self.held..]
    }

    fn input(&self) -> &[u8] {
        &self.input[self.consumed..self.filled]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.make_room();
        &mut self.input[self.filled..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.filled += amount;
    }

    fn input_consume(&mut self, amount: usize) {
        self.has_progressed = amount > 0;
        self.consumed += amount;
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.make_room();
        (&mut self.input[self.filled..], &mut self.output[self.held..])
    }

    fn can_use_input(&self) -> bool {
        self.has_progressed && !self.input().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(buffers: &mut CallBuffers, bytes: &[u8]) -> bool {
        buffers.output()[..bytes.len()].copy_from_slice(bytes);
        buffers.hold(bytes.len())
    }

    #[test]
    fn small_pieces_gather_until_they_are_sent_and_a_large_one_is_due_at_once() {
        let mut buffers = CallBuffers::default();
        assert!(!put(&mut buffers, b"head"));
        assert!(!put(&mut buffers, b"body"));
        assert_eq!(buffers.held(), b"headbody");
        buffers.sent();
        assert_eq!(buffers.held(), b"");
        assert_eq!(buffers.output().len(), OUTPUT);
        let large = [b'x'; OUTPUT];
        assert!(put(&mut buffers, &large));
        assert_eq!(buffers.held(), large);
    }

    #[test]
    fn there_is_room_for_input_until_the_buffer_is_full_of_what_nobody_takes() {
        let mut buffers = CallBuffers::default();
        let mut read = Vec::new();
        for number in 0..40u8 {
            let room = buffers.input_append_buf();
            room[..1000].fill(number);
            buffers.input_appended(1000);
            assert!(!buffers.can_use_input() || number > 0);
            read.extend_from_slice(&buffers.input()[..900]);
            buffers.input_consume(900);
        }
        read.extend_from_slice(buffers.input());
        assert!(read.chunks(1000).zip(0..).all(|(piece, number)| piece == [number; 1000]));
        let mut buffers = buffers.emptied();
        assert!(buffers.input().is_empty() && !buffers.can_use_input());
        while let room @ 1.. = buffers.input_append_buf().len() {
            buffers.input_appended(room);
        }
        assert_eq!(buffers.input().len(), INPUT);
    }
}
