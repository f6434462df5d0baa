//! `langfast2api doctor`: checks step by step what works, and says how to mend what does not.
//!
//! It uses the server's own parts ([`crate::langfast`]) and its session. A step that depends on one
//! that failed is skipped, because it would only report the same failure again.

mod capture;
mod door;
mod outside;
mod own;
mod report;
mod way;

use std::process::ExitCode;

use crate::cli::check::check;
use crate::config::{Examination, Settings};

use capture::Capture;
use report::{Outcome, Report};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs all checks, prints the report on standard output, and returns the exit code
/// ([`crate::config::EXIT_CODES`]); warnings do not count as failures.
///
/// # Errors
/// Standard output cannot be written.
pub fn examine(settings: &Settings, examination: &Examination) -> Result<ExitCode> {
    let mut report = Report::new(examination.json);
    let mut checked = None;
    let settings_are = match check(settings) {
        Ok(sound) => Outcome::ok(checked.insert(sound).summary()),
        Err(error) => Outcome::failed(error).advise("Mend this setting first"),
    };
    report.add("settings", None, settings_are)?;
    let Some(checked) = checked else {
        report.finish()?;
        return Ok(ExitCode::from(2));
    };
    let capture = match Capture::begin(examination.capture.as_deref(), &checked.langfast) {
        Ok(capture) => capture,
        Err(why) => {
            report.add("capture", None, why)?;
            report.finish()?;
            return Ok(ExitCode::from(2));
        }
    };
    own::examine(settings, &checked, &mut report)?;
    way::examine(settings, &checked, examination, &mut report)?;
    capture.finish(examination.run, &mut report)?;
    if let Some(url) = &examination.url {
        door::examine(url, settings, &checked, &mut report)?;
    }
    Ok(if report.finish()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
