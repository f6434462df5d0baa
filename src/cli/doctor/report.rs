//! The report: each step as soon as it is done, as a line for people (in colours on a terminal), or, in
//! the end, all as JSON.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Effects, Style};
use serde::Serialize;

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It works.
    Ok,
    /// It works, and something about it may bring trouble.
    Warning,
    /// It does not work.
    Failed,
    /// It was not tried.
    Skipped,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "FAILED",
            State::Skipped => "skipped",
        }
    }

    fn style(self) -> Style {
        match self {
            State::Ok => AnsiColor::Green.on_default(),
            State::Warning => AnsiColor::Yellow.on_default().effects(Effects::BOLD),
            State::Failed => AnsiColor::Red.on_default().effects(Effects::BOLD),
            State::Skipped => Style::new().effects(Effects::DIMMED),
        }
    }
}

/// The result of a step, in words.
pub struct Outcome {
    state: State,
    message: String,
    advice: Option<String>,
}

impl Outcome {
    fn new(state: State, message: impl Display) -> Outcome {
        Outcome { state, message: message.to_string(), advice: None }
    }

    /// It works.
    pub fn ok(message: impl Display) -> Outcome {
        Outcome::new(State::Ok, message)
    }

    /// It works so far.
    pub fn warning(message: impl Display) -> Outcome {
        Outcome::new(State::Warning, message)
    }

    /// It does not work.
    pub fn failed(message: impl Display) -> Outcome {
        Outcome::new(State::Failed, message)
    }

    /// It was not tried.
    pub fn skipped(why: impl Display) -> Outcome {
        Outcome::new(State::Skipped, why)
    }

    /// What to do about it.
    pub fn advise(self, advice: impl Display) -> Outcome {
        Outcome { advice: Some(advice.to_string()), ..self }
    }
}

/// A step that is done.
#[derive(Serialize)]
struct Finding {
    step: String,
    state: State,
    /// How long it took; absent where nothing was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// The steps so far.
pub struct Report {
    findings: Vec<Finding>,
    json: bool,
    /// True if the step under way is shown, which needs a terminal, where its line can be overwritten.
    live: bool,
}

impl Report {
    /// Creates an empty report.
    pub fn new(json: bool) -> Report {
        let is_plain = AutoStream::choice(&io::stdout()) == ColorChoice::Never;
        Report { findings: Vec::new(), json, live: io::stdout().is_terminal() && !is_plain }
    }

    /// Runs a step; true if it did not fail.
    ///
    /// # Errors
    /// When standard output takes no more.
    pub fn step(&mut self, name: &str, work: impl FnOnce() -> Outcome) -> io::Result<bool> {
        self.announce(name)?;
        let began = Instant::now();
        let outcome = work();
        self.add(name, Some(began.elapsed().as_secs_f64() * 1e3), outcome)
    }

    /// Shows the step under way, if its line can be overwritten by the next one.
    ///
    /// # Errors
    /// When standard output takes no more.
    pub fn announce(&self, name: &str) -> io::Result<()> {
        if !self.live || self.json {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        write!(out, "  …        {name}")?;
        out.flush()
    }

    /// Notes a step that has been done and took `ms` milliseconds; true if it did not fail.
    ///
    /// # Errors
    /// When standard output takes no more.
    pub fn add(&mut self, name: &str, ms: Option<f64>, outcome: Outcome) -> io::Result<bool> {
        let Outcome { state, message, advice } = outcome;
        let ms = ms.filter(|_| state != State::Skipped).map(|ms| (ms * 10.0).round() / 10.0);
        let finding = Finding { step: name.to_owned(), state, ms, message, advice };
        if !self.json {
            self.show(&finding)?;
        }
        self.findings.push(finding);
        Ok(state == State::Ok || state == State::Warning)
    }

    /// Notes a step that is skipped.
    ///
    /// # Errors
    /// When standard output takes no more.
    pub fn skip(&mut self, name: &str, why: impl Display) -> io::Result<bool> {
        self.add(name, None, Outcome::skipped(why))
    }

    fn show(&self, finding: &Finding) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        if self.live {
            write!(out, "\r\x1b[2K")?;
        }
        let (style, state) = (finding.state.style(), finding.state.name());
        let time = finding.ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default();
        let Finding { step, message, advice, .. } = finding;
        writeln!(out, "  {style}{state:<8}{style:#} {step:<22} {time:>10}  {message}")?;
        if let Some(advice) = advice {
            writeln!(out, "           → {advice}")?;
        }
        out.flush()
    }

    /// Ends the report; true if no step failed.
    ///
    /// # Errors
    /// When standard output takes no more.
    pub fn finish(self) -> io::Result<bool> {
        let count = |state| self.findings.iter().filter(|finding| finding.state == state).count();
        let (failed, warnings) = (count(State::Failed), count(State::Warning));
        let mut out = anstream::stdout().lock();
        if self.json {
            #[derive(Serialize)]
            struct Whole {
                ok: bool,
                version: &'static str,
                steps: Vec<Finding>,
            }
            let version = env!("CARGO_PKG_VERSION");
            let whole = Whole { ok: failed == 0, version, steps: self.findings };
            serde_json::to_writer_pretty(&mut out, &whole)?;
            writeln!(out)?;
        } else {
            let besides = match warnings {
                0 => String::new(),
                _ => format!(" (warnings: {warnings})"),
            };
            let is_open =
                |finding: &Finding| finding.state == State::Skipped && finding.advice.is_some();
            match failed {
                0 if self.findings.iter().any(is_open) => {
                    writeln!(out, "All is well, as far as it was tried{besides}.")?;
                }
                0 => writeln!(out, "All is well{besides}.")?,
                _ => writeln!(out, "Steps that failed: {failed}{besides}.")?,
            }
        }
        Ok(failed == 0)
    }
}
