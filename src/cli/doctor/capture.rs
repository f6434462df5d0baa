//! Records what went between this program and LangFast, reports what is new in it, and writes the file of
//! `--capture`.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::report::{Outcome, Report};
use crate::langfast::LangFast;
use crate::langfast::capture::{Document, Tape};

/// Time for which the socket is recorded after a run, since events may follow the run's last one.
const LINGER: Duration = Duration::from_secs(1);

/// Differences that are told without a file.
const SHOWN: usize = 3;

/// A recording, and the file that it is kept in, if one is wanted: it is written when this ends, also by an
/// error, SIGINT or SIGTERM.
pub struct Capture {
    tape: Arc<Tape>,
    pages: Option<Arc<Pages>>,
    signals: Option<Handle>,
}

struct Pages {
    tape: Arc<Tape>,
    path: PathBuf,
    file: Mutex<File>,
}

impl Capture {
    /// Begins to record, and creates the file, of mode 0600. A file that exists is left as it is.
    ///
    /// # Errors
    /// The file exists, or cannot be created; in words.
    pub fn begin(path: Option<&Path>, langfast: &LangFast) -> Result<Capture, Outcome> {
        let tape = Tape::new();
        langfast.record(&tape);
        let pages = path.map(|path| Pages::create(path, &tape)).transpose()?.map(Arc::new);
        let signals = pages.as_ref().and_then(|pages| pages.clone().write_on_signals());
        Ok(Capture { tape, pages, signals })
    }

    /// Reports what differs from the wire as it is known, and writes the file. After a run it listens for a
    /// moment more for that.
    ///
    /// # Errors
    /// Standard output takes no more.
    pub fn finish(mut self, has_run: bool, report: &mut Report) -> io::Result<()> {
        let Some(pages) = self.pages.take() else { return self.tell_what_is_new(report) };
        if has_run {
            std::thread::sleep(LINGER);
        }
        let path = pages.path.display();
        let document = match pages.write() {
            Ok(document) => document,
            Err(error) => {
                let outcome = Outcome::failed(format_args!("{path}: {error}"));
                return report.add("capture", None, outcome).map(drop);
            }
        };
        let Document { differences, calls, frames, .. } = document;
        let told = format!("{path}: {calls} calls and {frames} frames");
        report.add(
            "capture",
            None,
            match differences.len() {
                0 => Outcome::ok(format_args!("{told}, nothing of which is new to this program")),
                count => Outcome::warning(format_args!("{told}; new to this program: {count}"))
                    .advise("Attach the file to a report: it holds no secret, id, address or text"),
            },
        )?;
        for difference in differences {
            report.add("difference", None, Outcome::warning(difference))?;
        }
        Ok(())
    }

    /// Reports in one line if LangFast has changed the form of what it sends.
    fn tell_what_is_new(&self, report: &mut Report) -> io::Result<()> {
        let new = self.tape.document().of_form;
        if new.is_empty() {
            return Ok(());
        }
        let more = match new.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let shown = new[..new.len().min(SHOWN)].join("; ");
        let outcome = Outcome::warning(format_args!("LangFast has changed: {shown}{more}")).advise(
            "It is taken as it comes, and may work. If answers are wrong, run this again with \
             `--run --capture FILE`, look for a newer version of langfast2api, or attach the file to a report",
        );
        report.add("form", None, outcome).map(drop)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Some(pages) = &self.pages {
            // Nobody is left to be told of an error.
            let _ = pages.write();
        }
        if let Some(signals) = &self.signals {
            signals.close();
        }
    }
}

impl Pages {
    fn create(path: &Path, tape: &Arc<Tape>) -> Result<Pages, Outcome> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| {
            Outcome::failed(format_args!("{}: {error}", path.display()))
                .advise("Name a file that does not exist, in a directory that can be written")
        })?;
        Ok(Pages { tape: tape.clone(), path: path.to_owned(), file: Mutex::new(file) })
    }

    fn write(&self) -> io::Result<Document> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let document = self.tape.document();
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(document.text.as_bytes())?;
        file.sync_all()?;
        Ok(document)
    }

    /// Writes the file when a signal ends the program. If no thread can be started for that, the file is
    /// written at the end only.
    fn write_on_signals(self: Arc<Pages>) -> Option<Handle> {
        let mut signals = Signals::new([SIGINT, SIGTERM]).ok()?;
        let handle = signals.handle();
        let wait = move || {
            if let Some(signal) = signals.forever().next() {
                let _ = self.write();
                process::exit(128 + signal);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).ok()?;
        Some(handle)
    }
}
