//! `langfast2api doctor`: what works and what does not, step by step, and what to do about it.
//!
//! It goes the server's own way, with the server's own parts ([`crate::langfast`]) and its session. A
//! step that needs another that failed is skipped: it would only say the same again.

mod door;
mod outside;
mod own;
mod report;
mod way;

use std::process::ExitCode;

use crate::cli::check::check;
use crate::config::{Examination, Settings};

use report::{Outcome, Report};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Examines, reports on standard output, and says with which code to exit
/// ([`crate::config::EXIT_CODES`]); warnings are no failures.
///
/// # Errors
/// When standard output takes no more.
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
    own::examine(settings, &checked, &mut report)?;
    way::examine(settings, &checked, examination, &mut report)?;
    if let Some(url) = &examination.url {
        door::examine(url, settings, &checked, &mut report)?;
    }
    Ok(if report.finish()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
