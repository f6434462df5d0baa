//! Reads a paste from a terminal: lines of any length, until Ctrl-D.

use std::io::{self, Write, stderr, stdin};

use crate::cli::terminal::Quiet;

/// Bytes that keys send.
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

/// Asks for the paste and reads it until Ctrl-D.
///
/// # Errors
/// Ctrl-C, too many bytes, or the terminal cannot be read.
pub fn read(limit: usize) -> io::Result<Vec<u8>> {
    let terminal = Quiet::new(stdin())?;
    eprint!("Paste what you have copied (it is not shown), then press Ctrl-D: ");
    stderr().flush()?;
    let pasted = until_the_end(&terminal, limit);
    drop(terminal);
    eprintln!();
    pasted
}

fn until_the_end(terminal: &Quiet, limit: usize) -> io::Result<Vec<u8>> {
    let mut pasted = Vec::new();
    let mut buffer = [0; 4096];
    while pasted.len() <= limit {
        let length = terminal.read(&mut buffer)?;
        if length == 0 {
            return Ok(pasted);
        }
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
