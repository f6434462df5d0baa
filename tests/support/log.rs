//! What the program has logged, complete whenever it is asked for.

use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ChildStderr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionbio;

/// A program's standard error, which is read all the time, so that the program never waits for its
/// reader.
pub struct Log {
    read: Arc<Mutex<SoFar>>,
    reader: Option<JoinHandle<()>>,
}

/// What has been read of it.
struct SoFar {
    pipe: ChildStderr,
    text: String,
}

impl Log {
    pub fn of(pipe: ChildStderr) -> Log {
        ioctl_fionbio(&pipe, true).unwrap();
        let waiting = pipe.as_fd().try_clone_to_owned().unwrap();
        let read = Arc::new(Mutex::new(SoFar { pipe, text: String::new() }));
        let reader = std::thread::spawn({
            let read = read.clone();
            move || read_to_end(&waiting, &read)
        });
        Log { read, reader: Some(reader) }
    }

    /// All that has been logged. A line that was written before an answer is there when the answer is.
    pub fn text(&self) -> String {
        let mut read = self.read.lock().unwrap();
        read.go_on();
        read.text.clone()
    }

    /// Waits until nobody can write to it any more.
    pub fn wait_for_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read_to_end(pipe: &OwnedFd, into: &Mutex<SoFar>) {
    loop {
        let _ = poll(&mut [PollFd::new(pipe, PollFlags::IN)], None);
        if !into.lock().unwrap().go_on() {
            return;
        }
    }
}

impl SoFar {
    /// Reads what is there; false at the end.
    fn go_on(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.text += &String::from_utf8_lossy(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }
}
