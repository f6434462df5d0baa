//! Reads from a terminal what must not be shown or is longer than a line.
//!
//! In its usual mode a terminal keeps 4,095 bytes of a line and drops the rest, which would cut a session
//! that is pasted. So this reads byte by byte, and does itself what the terminal else does: erase, end,
//! interrupt.

use std::io::{self, Stdin, Write, stderr, stdin};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// Longest text that is kept, in bytes.
const LONGEST: usize = 1 << 16;
/// Silence after which a paste counts as over: what came later would be shown, and the shell would take it
/// for a command.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: [u8; 2] = [0x08, 0x7f];
const ERASE_LINE: u8 = 0x15;
const ESCAPE: u8 = 0x1b;

/// Asks a question on standard error and reads the answer from the terminal at standard input. It ends
/// with the first line by which it `is_enough`, an empty line, or the end of input; after a line that
/// is not enough, `go_on` is said.
///
/// # Errors
/// [`io::ErrorKind::Interrupted`] on Ctrl-C; the terminal cannot be read.
pub fn ask(question: &str, go_on: &str, is_enough: impl Fn(&str) -> bool) -> io::Result<String> {
    let terminal = Quiet::new(stdin())?;
    tell(question)?;
    let answer = terminal.lines(|text| {
        let ends = is_enough(text);
        if !ends {
            tell(&format!("\n{go_on}"))?;
        }
        Ok(ends)
    });
    tell("\n")?;
    answer
}

fn tell(words: &str) -> io::Result<()> {
    stderr().write_all(words.as_bytes())?;
    stderr().flush()
}

/// A terminal without echo that passes on each byte. Dropping this restores its former modes.
pub struct Quiet {
    terminal: Stdin,
    before: Termios,
}

impl Quiet {
    /// Changes the terminal's modes.
    ///
    /// # Errors
    /// It is no terminal.
    pub fn new(terminal: Stdin) -> io::Result<Quiet> {
        let before = tcgetattr(&terminal)?;
        let mut modes = before.clone();
        modes.local_modes -=
            LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        // A read waits for one byte, without a time limit.
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Now, &modes)?;
        Ok(Quiet { terminal, before })
    }

    /// Waits for bytes; 0 if the input has ended.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::read(&self.terminal, &mut *bytes))?)
    }

    fn lines(&self, is_enough: impl Fn(&str) -> io::Result<bool>) -> io::Result<String> {
        let (mut typed, mut bytes) = (Typed::default(), [0; 4096]);
        loop {
            let count = self.read(&mut bytes)?;
            if count == 0 {
                return Ok(typed.text());
            }
            for byte in &bytes[..count] {
                match typed.take(*byte) {
                    Key::Other => {}
                    Key::Line if !is_enough(&typed.text())? => {}
                    Key::Line | Key::End => return Ok(typed.text()),
                    Key::Interrupt => {
                        return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
                    }
                }
            }
        }
    }

    /// Reads the rest of a paste.
    fn drain(&self) {
        let mut bytes = [0; 4096];
        let more = || poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], Some(&QUIET));
        while more() == Ok(1) && rustix::io::read(&self.terminal, &mut bytes).is_ok_and(|n| n > 0) {
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.drain();
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// The text typed so far, and how far a key that is no text has been read.
#[derive(Default)]
struct Typed {
    bytes: Vec<u8>,
    escape: Escape,
}

/// The part of an escape sequence, as of an arrow key or around a paste, that is being passed over.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Parameters,
}

#[derive(Debug, PartialEq, Eq)]
enum Key {
    /// A line has ended that is not empty.
    Line,
    /// The input has ended, or an empty line has.
    End,
    Interrupt,
    Other,
}

impl Typed {
    fn take(&mut self, byte: u8) -> Key {
        if self.is_in_escape(byte) {
            return Key::Other;
        }
        match byte {
            INTERRUPT => return Key::Interrupt,
            END => return Key::End,
            b'\r' | b'\n' if self.line().iter().all(u8::is_ascii_whitespace) => return Key::End,
            b'\r' | b'\n' => {
                self.bytes.push(b'\n');
                return Key::Line;
            }
            ERASE_LINE => self.bytes.truncate(self.bytes.len() - self.line().len()),
            byte if BACKSPACE.contains(&byte) => self.erase(),
            byte if self.bytes.len() < LONGEST => self.bytes.push(byte),
            _ => {}
        }
        Key::Other
    }

    fn is_in_escape(&mut self, byte: u8) -> bool {
        let (is_part, next) = match self.escape {
            Escape::None if byte == ESCAPE => (true, Escape::Begun),
            Escape::None => (false, Escape::None),
            Escape::Begun if byte == b'[' || byte == b'O' => (true, Escape::Parameters),
            Escape::Begun => (true, Escape::None),
            Escape::Parameters if (0x40..=0x7e).contains(&byte) => (true, Escape::None),
            Escape::Parameters => (true, Escape::Parameters),
        };
        self.escape = next;
        is_part
    }

    /// The line that has not ended.
    fn line(&self) -> &[u8] {
        self.bytes.rsplit(|byte| *byte == b'\n').next().unwrap_or_default()
    }

    /// Erases the line's last character, which may be several bytes.
    fn erase(&mut self) {
        let is_within = |byte: u8| byte & 0xc0 == 0x80;
        while self.line().last().is_some_and(|byte| is_within(*byte)) {
            self.bytes.pop();
        }
        if !self.line().is_empty() {
            self.bytes.pop();
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text, and the keys that are no text.
    fn typed(keys: &str) -> (String, Vec<Key>) {
        let mut typed = Typed::default();
        let keys = keys.bytes().map(|byte| typed.take(byte)).filter(|key| *key != Key::Other);
        let keys = keys.collect();
        (typed.text(), keys)
    }

    #[test]
    fn lines_end_and_an_empty_one_ends_the_input() {
        assert_eq!(typed("one\rtwo\n"), ("one\ntwo\n".to_owned(), vec![Key::Line, Key::Line]));
        assert_eq!(typed("one\n \n"), ("one\n ".to_owned(), vec![Key::Line, Key::End]));
        assert_eq!(typed("\n"), (String::new(), vec![Key::End]));
        assert_eq!(typed("a\u{4}"), ("a".to_owned(), vec![Key::End]));
        assert_eq!(typed("a\u{3}"), ("a".to_owned(), vec![Key::Interrupt]));
    }

    #[test]
    fn a_character_or_a_line_can_be_erased_and_no_line_before() {
        assert_eq!(typed("aü\u{7f}b\u{8}c").0, "ac");
        assert_eq!(typed("one\ntwo\u{15}x").0, "one\nx");
        assert_eq!(typed("one\n\u{7f}\u{15}\u{7f}").0, "one\n");
    }

    #[test]
    fn what_terminals_put_around_a_paste_and_arrow_keys_are_passed_over() {
        assert_eq!(typed("\u{1b}[200~text\u{1b}[201~\u{1b}[A\u{1b}OP").0, "text");
    }

    #[test]
    fn no_paste_is_kept_beyond_the_limit() {
        assert_eq!(typed(&"x".repeat(LONGEST + 9)).0.len(), LONGEST);
    }
}
