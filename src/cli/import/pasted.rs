//! What is pasted into a terminal.
//!
//! A terminal hands over lines, and cuts each after 4,095 bytes (Linux, `N_TTY`): an answer that is copied
//! out of a browser is one longer line. So it is read without lines, and without being shown; what ends
//! the input then is the byte of Ctrl-D itself.

use std::io::{self, Read, Write, stderr, stdin};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// Bytes that keys send.
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

/// Asks for the paste and reads it until Ctrl-D.
///
/// # Errors
/// Ctrl-C, too many bytes, or the terminal cannot be read.
pub fn read(limit: usize) -> io::Result<Vec<u8>> {
    let raw = Raw::begin();
    eprint!("Paste what you have copied (it is not shown), then press Ctrl-D: ");
    stderr().flush()?;
    let pasted = until_the_end(stdin().lock(), limit);
    drop(raw);
    eprintln!();
    pasted
}

fn until_the_end(mut input: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut pasted = Vec::new();
    let mut buffer = [0; 4096];
    while pasted.len() <= limit {
        let length = match input.read(&mut buffer) {
            Ok(0) => return Ok(pasted),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let read = &buffer[..length];
        let end = read.iter().position(|byte| [CTRL_C, CTRL_D].contains(byte));
        pasted.extend_from_slice(&read[..end.unwrap_or(length)]);
        match end.map(|at| read[at]) {
            Some(CTRL_C) => return Err(io::Error::other("given up: nothing is changed")),
            Some(_) => return Ok(pasted),
            None => {}
        }
    }
    Err(io::Error::other(format!("more than {} MiB were pasted: give it as a file", limit >> 20)))
}

/// The terminal without lines, echo and signals; dropping it brings back what was before.
struct Raw(Option<Termios>);

impl Raw {
    /// A terminal that cannot be set stays as it is: lines of a file that is not one long line still
    /// arrive.
    fn begin() -> Raw {
        let before = tcgetattr(stdin()).ok();
        if let Some(mut modes) = before.clone() {
            modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            // A read waits for one byte, without a time limit.
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            let _ = tcsetattr(stdin(), OptionalActions::Now, &modes);
        }
        Raw(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}
