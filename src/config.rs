//! Settings: flags and environment, parsed once into validated values. Every default and every limit
//! that a person may set stands here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// LangFast's publishable ("anon") key: its web page hands it to every visitor.
const ANON_KEY: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZSIsInJlZiI6Inl6YWF4d2tqdWthanB3cWZsbmR1Iiwicm9sZSI6ImFub24iLCJpYXQiOjE3NDMxNTgzNzUsImV4cCI6MjA1ODczNDM3NX0.tDu7BsFUOV4aPo8U-dsokQJSRw29LQWT8JfDqQe5MoI";

/// An OpenAI-compatible API in front of LangFast.
///
/// Point any OpenAI client at http://127.0.0.1:8000/v1. Nothing has to be configured; every setting
/// is a flag or an environment variable, and a flag wins.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// The settings of the server and of every command.
    #[command(flatten)]
    pub settings: Settings,
    /// What to do; without one the server is started.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Commands besides serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign in with your own LangFast account and keep the session.
    ///
    /// Asks for e-mail and password on the terminal. With --refresh-token, reads a refresh token
    /// from standard input instead.
    Login {
        /// Read a refresh token from standard input.
        #[arg(long)]
        refresh_token: bool,
    },
    /// Forget the kept session.
    Logout,
    /// Say whose session is kept, and how long its access token lasts.
    Whoami,
}

/// The settings, as given.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Address to listen on: HOST:PORT, or unix:/path/of/socket.
    #[arg(
        long,
        env = "LANGFAST2API_LISTEN",
        default_value = "127.0.0.1:8000",
        value_name = "ADDRESS",
        global = true,
        help_heading = "Serving"
    )]
    pub listen: String,

    /// Another models.json than the one built in.
    #[arg(
        long,
        env = "LANGFAST2API_MODELS",
        value_name = "FILE",
        global = true,
        help_heading = "Serving"
    )]
    pub models: Option<PathBuf>,

    /// Further names for models: ASKED=SERVED,… ; *=gpt-5 serves every unknown name.
    #[arg(
        long,
        env = "LANGFAST2API_MODEL_ALIASES",
        value_name = "LIST",
        value_delimiter = ',',
        global = true,
        help_heading = "Serving"
    )]
    pub model_aliases: Vec<String>,

    /// Refuse requests that ask for something LangFast cannot do, instead of leaving it out.
    #[arg(long, env = "LANGFAST2API_STRICT", global = true, help_heading = "Serving")]
    pub strict: bool,

    /// Seconds of silence after which a streamed answer gets a comment line that keeps proxies from
    /// closing it; 0 is never.
    #[arg(
        long,
        env = "LANGFAST2API_KEEP_ALIVE",
        default_value = "15",
        value_name = "SECONDS",
        value_parser = seconds_or_never,
        global = true,
        help_heading = "Serving"
    )]
    pub keep_alive: Duration,

    /// What to log: error, warn, info, debug or trace, or as module=level,….
    #[arg(
        long,
        env = "LANGFAST2API_LOG",
        default_value = "info",
        value_name = "LEVEL",
        global = true,
        help_heading = "Serving"
    )]
    pub log: String,

    /// Where the session is kept [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/langfast2api, else
    /// ~/.local/state/langfast2api].
    #[arg(
        long,
        env = "LANGFAST2API_STATE_DIR",
        value_name = "DIRECTORY",
        global = true,
        help_heading = "LangFast"
    )]
    pub state_dir: Option<PathBuf>,

    /// LangFast's Supabase project.
    #[arg(
        long,
        env = "LANGFAST2API_SUPABASE_URL",
        default_value = "https://yzaaxwkjukajpwqflndu.supabase.co",
        value_name = "URL",
        global = true,
        help_heading = "LangFast"
    )]
    pub supabase_url: String,

    /// LangFast's prompt runner: http(s) or ws(s).
    #[arg(
        long,
        env = "LANGFAST2API_RUNNER_URL",
        default_value = "https://langfast-prompt-runner-35808038077.us-central1.run.app",
        value_name = "URL",
        global = true,
        help_heading = "LangFast"
    )]
    pub runner_url: String,

    /// LangFast's web page, which requests name as their origin.
    #[arg(
        long,
        env = "LANGFAST2API_ORIGIN",
        default_value = "https://langfa.st",
        value_name = "URL",
        global = true,
        help_heading = "LangFast"
    )]
    pub origin: String,

    /// LangFast's publishable key [default: the one of its web page].
    #[arg(
        long,
        env = "LANGFAST2API_ANON_KEY",
        default_value = ANON_KEY,
        hide_default_value = true,
        hide_env_values = true,
        value_name = "KEY",
        global = true,
        help_heading = "LangFast"
    )]
    pub anon_key: String,

    /// Deadline of a connection to LangFast: DNS, TCP, TLS and a proxy together.
    #[arg(
        long,
        env = "LANGFAST2API_CONNECT_TIMEOUT",
        default_value = "10",
        value_name = "SECONDS",
        value_parser = seconds,
        global = true,
        help_heading = "Deadlines"
    )]
    pub connect_timeout: Duration,

    /// Deadline of each HTTP request to LangFast, and of the prompt runner's handshake.
    #[arg(
        long,
        env = "LANGFAST2API_REQUEST_TIMEOUT",
        default_value = "30",
        value_name = "SECONDS",
        value_parser = seconds,
        global = true,
        help_heading = "Deadlines"
    )]
    pub request_timeout: Duration,

    /// How long a started run may take until its first event; reasoning models think for minutes.
    #[arg(
        long,
        env = "LANGFAST2API_FIRST_EVENT_TIMEOUT",
        default_value = "300",
        value_name = "SECONDS",
        value_parser = seconds,
        global = true,
        help_heading = "Deadlines"
    )]
    pub first_event_timeout: Duration,

    /// How long a run may be silent between two events.
    #[arg(
        long,
        env = "LANGFAST2API_SILENCE_TIMEOUT",
        default_value = "120",
        value_name = "SECONDS",
        value_parser = seconds,
        global = true,
        help_heading = "Deadlines"
    )]
    pub silence_timeout: Duration,

    /// How long a run may take in all.
    #[arg(
        long,
        env = "LANGFAST2API_RUN_TIMEOUT",
        default_value = "1800",
        value_name = "SECONDS",
        value_parser = seconds,
        global = true,
        help_heading = "Deadlines"
    )]
    pub run_timeout: Duration,

    /// How long answers under way may go on when the server is told to stop.
    #[arg(
        long,
        env = "LANGFAST2API_SHUTDOWN_TIMEOUT",
        default_value = "30",
        value_name = "SECONDS",
        value_parser = seconds,
        global = true,
        help_heading = "Deadlines"
    )]
    pub shutdown_timeout: Duration,
}

/// A setting that cannot be used; the message names it and says what it takes.
#[derive(Debug, PartialEq, Eq)]
pub struct BadSetting(pub String);

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadSetting {}

impl Settings {
    /// The directory that the session is kept in.
    ///
    /// # Errors
    /// When neither the setting nor `$STATE_DIRECTORY`, `$XDG_STATE_HOME` or `$HOME` is there.
    pub fn state_dir(&self) -> Result<PathBuf, BadSetting> {
        let from_env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(dir) = &self.state_dir {
            return Ok(dir.clone());
        }
        if let Some(dirs) = from_env("STATE_DIRECTORY") {
            // systemd lists several with colons; ours is the first.
            let first = dirs.to_string_lossy().split(':').next().unwrap_or_default().to_owned();
            return Ok(first.into());
        }
        from_env("XDG_STATE_HOME")
            .map(PathBuf::from)
            .or_else(|| from_env("HOME").map(|home| PathBuf::from(home).join(".local/state")))
            .map(|base| base.join("langfast2api"))
            .ok_or_else(|| {
                BadSetting(
                    "no directory to keep the session in: set LANGFAST2API_STATE_DIR".to_owned(),
                )
            })
    }
}

/// Longest deadline that can be set: a day.
const LONGEST: f64 = 86_400.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= LONGEST => Ok(Duration::from_secs_f64(value)),
        _ => Err(format!("takes seconds, more than 0 and at most {LONGEST}")),
    }
}

fn seconds_or_never(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => seconds(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn deadlines_take_positive_seconds_with_fractions() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "1e9", "x", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds_or_never("0"), Ok(Duration::ZERO));
    }
}
