//! Settings: flags and environment, parsed once into validated values. Every default and every limit
//! that a person may set stands here.
//!
//! Enters: the command line, the environment, files of secrets. Leaves: [`Settings`], or what is wrong
//! with one, by its name. It may not know what a setting does.

pub mod secrets;
pub mod variables;

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, Resettable};
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use self::secrets::{Places, Secret};
use crate::chat::models::{BUILT_IN, Models};
use crate::observe::logger::LogFormat;

/// LangFast's publishable ("anon") key: its web page hands it to every visitor.
const ANON_KEY: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZSIsInJlZiI6Inl6YWF4d2tqdWthanB3cWZsbmR1Iiwicm9sZSI6ImFub24iLCJpYXQiOjE3NDMxNTgzNzUsImV4cCI6MjA1ODczNDM3NX0.tDu7BsFUOV4aPo8U-dsokQJSRw29LQWT8JfDqQe5MoI";

/// An OpenAI-compatible API in front of LangFast.
///
/// Point any OpenAI client at http://127.0.0.1:8000/v1. Nothing has to be configured; every setting
/// is a flag or an environment variable, and a flag wins.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, args_override_self = true)]
pub struct Cli {
    /// Check all settings and the files that they name, say what would be served, and do nothing
    /// else.
    #[arg(long)]
    pub check_config: bool,
    /// The settings of the server and of every command.
    #[command(flatten)]
    pub settings: Settings,
    /// What to do; without one the server is started.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program's exit codes mean.
pub const EXIT_CODES: [(u8, &str); 3] = [
    (0, "a signal ended the server, or the command did what it is for"),
    (1, "something failed; standard error says what (doctor: its report does)"),
    (2, "the command line or a setting cannot be used: mend it before trying again"),
];

impl Cli {
    /// Reads the command line and the environment; help, version and errors end the process.
    pub fn read() -> Cli {
        let matches = Cli::without_empty_variables().get_matches();
        Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// What to log. The doctor's report says what the log would, unless more is asked for.
    pub fn log_levels(&self) -> &str {
        match self.command {
            Some(Command::Doctor(_)) if self.settings.log == DEFAULT_LOG => "off",
            _ => &self.settings.log,
        }
    }

    /// What `--help`, the man page and shells tell of. The environment's values stay out of it: it may
    /// be shown to others.
    pub fn definition() -> clap::Command {
        Cli::define(|arg| arg)
    }

    /// The same without the variables that are empty: environment files have them so, and mean that
    /// they are not set.
    fn without_empty_variables() -> clap::Command {
        let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        Cli::define(|arg| match arg.get_env().is_some_and(is_empty) {
            true => arg.env(Resettable::Reset),
            false => arg,
        })
    }

    fn define(change: impl Fn(Arg) -> Arg) -> clap::Command {
        let all = Cli::command()
            .mut_args(|arg| change(arg.hide_env_values(true)))
            .after_help(exit_codes());
        let settings: Vec<Arg> =
            all.get_arguments().filter(|a| a.is_global_set()).cloned().collect();
        // A setting that a command has got already is not handed down to it by clap, and what it is
        // given there counts all the same.
        all.mut_subcommands(|command| {
            let shown = settings_of(command.get_name());
            let is_shown = |arg: &Arg| shown.contains(&arg.get_id().as_str());
            let settings = settings.iter().map(|arg| arg.clone().hide(!is_shown(arg)));
            command.args(settings)
        })
    }
}

/// The settings that a command's help lists; it takes the others too.
fn settings_of(command: &str) -> &'static [&'static str] {
    match command {
        "login" => &[
            "state_dir",
            "supabase_url",
            "origin",
            "anon_key",
            "connect_timeout",
            "request_timeout",
        ],
        "logout" | "whoami" => &["state_dir", "supabase_url"],
        "models" => &["models", "model_aliases"],
        _ => &[],
    }
}

fn exit_codes() -> String {
    let lines = EXIT_CODES.map(|(code, meaning)| format!("  {code}  {meaning}"));
    format!("Exit codes:\n{}", lines.join("\n"))
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
    /// Find out what works and what does not, step by step, and what to do about it.
    ///
    /// Looks at the settings, the files and the clock; then goes the server's own way to LangFast: names,
    /// connections, sign-in, prompt, socket. It uses the server's session (if there is none it signs in,
    /// as the server would) and spends nothing of the quota without --run. It minds every setting of the
    /// server: see `langfast2api --help`.
    Doctor(Examination),
    /// List the models with what each accepts.
    Models {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print completions for a shell, to be put where it looks for them.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the man page (`langfast2api man | man -l -`).
    Man,
}

/// What the doctor is to do.
#[derive(Args, Clone, Debug, Default)]
pub struct Examination {
    /// Also run a prompt with an answer of a few tokens: one request of LangFast's quota.
    #[arg(long)]
    pub run: bool,
    /// The model to do that with [default: the first of the list].
    #[arg(long, value_name = "NAME", requires = "run")]
    pub model: Option<String>,
    /// Also go to the running server as its clients do, at this public URL: whether it asks for the
    /// key, and whether events arrive one by one through the proxy in front of it.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The settings, as given.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Addresses to listen on: HOST:PORT or unix:/path/of/socket, several with commas. If systemd
    /// passes sockets on, they are used instead.
    #[arg(
        long,
        env = "LANGFAST2API_LISTEN",
        default_value = "127.0.0.1:8000",
        value_name = "ADDRESS",
        value_delimiter = ',',
        global = true,
        help_heading = "Serving"
    )]
    pub listen: Vec<String>,

    /// Another models.json than the one built in.
    #[arg(
        long,
        env = "LANGFAST2API_MODELS",
        value_name = "FILE",
        global = true,
        help_heading = "Serving"
    )]
    pub models: Option<PathBuf>,

    /// Further names for models: ASKED=SERVED,… ; claude-*=gpt-5 serves every unknown name that begins
    /// so, *=gpt-5 every unknown one.
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
    #[arg(
        long,
        env = "LANGFAST2API_STRICT",
        value_parser = BoolishValueParser::new(),
        global = true,
        help_heading = "Serving"
    )]
    pub strict: bool,

    /// Ask the model once more when its tool calls do not fit their schemas, or when a call was
    /// required and none came. This costs another request of your quota, and streamed calls then come
    /// whole instead of piece by piece.
    #[arg(
        long,
        env = "LANGFAST2API_TOOL_REPAIR",
        value_parser = BoolishValueParser::new(),
        global = true,
        help_heading = "Serving"
    )]
    pub tool_repair: bool,

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

    /// Sign in, make the prompt and connect to LangFast at the start, so that the first request is
    /// answered as soon as any other.
    #[arg(
        long,
        env = "LANGFAST2API_WARM_UP",
        value_parser = BoolishValueParser::new(),
        global = true,
        help_heading = "LangFast"
    )]
    pub warm_up: bool,

    /// How long the connections to LangFast are kept for the next request when there is none; 0 is not
    /// at all.
    #[arg(
        long,
        env = "LANGFAST2API_KEEP_WARM",
        default_value = "300",
        value_name = "SECONDS",
        value_parser = seconds_or_never,
        global = true,
        help_heading = "LangFast"
    )]
    pub keep_warm: Duration,

    /// What to log: error, warn, info, debug or trace, or as module=level,….
    #[arg(
        long,
        env = "LANGFAST2API_LOG",
        default_value = DEFAULT_LOG,
        value_name = "LEVEL",
        value_parser = levels,
        global = true,
        help_heading = "Serving"
    )]
    pub log: String,

    /// How to log.
    #[arg(
        long,
        env = "LANGFAST2API_LOG_FORMAT",
        default_value = "auto",
        value_name = "FORMAT",
        value_enum,
        global = true,
        help_heading = "Serving"
    )]
    pub log_format: LogFormat,

    /// File with the API keys that clients must send, a line each. Also: the keys themselves, with
    /// commas, in LANGFAST2API_API_KEYS, or a systemd credential named api-keys.
    #[arg(
        long,
        env = "LANGFAST2API_API_KEYS_FILE",
        value_name = "FILE",
        global = true,
        help_heading = "Clients"
    )]
    pub api_keys_file: Option<PathBuf>,

    /// Names in a request's Host that are let in without an API key, besides localhost and addresses.
    #[arg(
        long,
        env = "LANGFAST2API_ALLOWED_HOSTS",
        value_name = "LIST",
        value_delimiter = ',',
        global = true,
        help_heading = "Clients"
    )]
    pub allowed_hosts: Vec<String>,

    /// Origins whose pages may call the server (CORS), as `https://app.example`, or `*`.
    #[arg(
        long,
        env = "LANGFAST2API_CORS_ORIGINS",
        value_name = "LIST",
        value_delimiter = ',',
        global = true,
        help_heading = "Clients"
    )]
    pub cors_origins: Vec<String>,

    /// Let Prometheus read /metrics without an API key. The metrics say how much the server is used, and
    /// nothing of what for.
    #[arg(
        long,
        env = "LANGFAST2API_METRICS_OPEN",
        value_parser = BoolishValueParser::new(),
        global = true,
        help_heading = "Clients"
    )]
    pub metrics_open: bool,

    /// Connections at once; one more is told 503. Never more than the descriptors allow.
    #[arg(
        long,
        env = "LANGFAST2API_MAX_CONNECTIONS",
        default_value = "1024",
        value_name = "N",
        value_parser = at_least_one,
        global = true,
        help_heading = "Clients"
    )]
    pub max_connections: usize,

    /// Requests worked on at once; one more is told 503.
    #[arg(
        long,
        env = "LANGFAST2API_MAX_REQUESTS",
        default_value = "256",
        value_name = "N",
        value_parser = at_least_one,
        global = true,
        help_heading = "Clients"
    )]
    pub max_requests: usize,

    /// Longest body of a request, in MiB.
    #[arg(
        long,
        env = "LANGFAST2API_MAX_BODY",
        default_value = "16",
        value_name = "MIB",
        value_parser = clap::value_parser!(u16).range(1..=1024),
        global = true,
        help_heading = "Clients"
    )]
    pub max_body: u16,

    /// Memory for the bodies of all requests together, with what is made of them, in MiB; a request
    /// for which there is none in time is told 503 [default: 64, or --max-body if that is more].
    #[arg(
        long,
        env = "LANGFAST2API_BODY_MEMORY",
        value_name = "MIB",
        value_parser = clap::value_parser!(u16).range(1..),
        global = true,
        help_heading = "Clients"
    )]
    pub body_memory: Option<u16>,

    /// How long the head of a request may take, and its body to begin.
    #[arg(
        long,
        env = "LANGFAST2API_HEAD_TIMEOUT",
        default_value = "10",
        value_name = "SECONDS",
        value_parser = seconds,
        global = true,
        help_heading = "Clients"
    )]
    pub head_timeout: Duration,

    /// How long a connection may wait for its next request.
    #[arg(
        long,
        env = "LANGFAST2API_IDLE_TIMEOUT",
        default_value = "75",
        value_name = "SECONDS",
        value_parser = seconds,
        global = true,
        help_heading = "Clients"
    )]
    pub idle_timeout: Duration,

    /// How long a client may take no more of its answer.
    #[arg(
        long,
        env = "LANGFAST2API_WRITE_TIMEOUT",
        default_value = "30",
        value_name = "SECONDS",
        value_parser = seconds,
        global = true,
        help_heading = "Clients"
    )]
    pub write_timeout: Duration,

    /// E-mail address of your LangFast account; without one an anonymous user is signed up. The
    /// password is taken from LANGFAST2API_PASSWORD, --password-file, or a systemd credential named
    /// password.
    #[arg(
        long,
        env = "LANGFAST2API_EMAIL",
        value_name = "ADDRESS",
        global = true,
        help_heading = "LangFast"
    )]
    pub email: Option<String>,

    /// File that holds the account's password.
    #[arg(
        long,
        env = "LANGFAST2API_PASSWORD_FILE",
        value_name = "FILE",
        global = true,
        help_heading = "LangFast"
    )]
    pub password_file: Option<PathBuf>,

    /// File that holds a refresh token to begin with. Also LANGFAST2API_REFRESH_TOKEN, or a systemd
    /// credential named refresh-token.
    #[arg(
        long,
        env = "LANGFAST2API_REFRESH_TOKEN_FILE",
        value_name = "FILE",
        global = true,
        help_heading = "LangFast"
    )]
    pub refresh_token_file: Option<PathBuf>,

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

/// The account that the operator set, if any.
#[derive(Clone, Default)]
pub struct Account {
    /// E-mail and password.
    pub login: Option<(String, String)>,
    /// A refresh token to begin with.
    pub refresh_token: Option<SetToken>,
    /// Whether a password is set without an address, which is nothing to sign in with.
    pub password_alone: bool,
}

/// A refresh token, and where it is set.
#[derive(Clone)]
pub struct SetToken {
    /// The token; it works once.
    pub token: String,
    /// The setting that holds it, for people to read.
    pub setting: String,
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
    /// The account to sign in with.
    ///
    /// # Errors
    /// When an address has no password, or a secret's file cannot be read.
    pub fn account(&self) -> Result<Account, BadSetting> {
        let password = secrets::find(Places {
            variable: "LANGFAST2API_PASSWORD",
            file: self.password_file.as_deref().map(|path| (path, "LANGFAST2API_PASSWORD_FILE")),
            credential: "password",
            is_optional: true,
        })?;
        let file = self.refresh_token_file.as_deref();
        let refresh_token = secrets::find(Places {
            variable: "LANGFAST2API_REFRESH_TOKEN",
            file: file.map(|path| (path, "LANGFAST2API_REFRESH_TOKEN_FILE")),
            credential: "refresh-token",
            is_optional: true,
        })?
        .map(|found| SetToken { token: found.text, setting: found.setting });
        let password_alone = self.email.is_none() && password.is_some();
        let login = match (&self.email, password) {
            (Some(email), Some(password)) => Some((email.clone(), password.text)),
            (Some(_), None) => {
                return Err(BadSetting(
                    "LANGFAST2API_EMAIL is set, its password is not: set LANGFAST2API_PASSWORD_FILE \
                     or LANGFAST2API_PASSWORD, or the systemd credential `password`"
                        .to_owned(),
                ));
            }
            (None, _) => None,
        };
        Ok(Account { login, refresh_token, password_alone })
    }

    /// The API keys that clients have to send, as they were written; `None` if no key is asked for.
    ///
    /// # Errors
    /// When they are set and cannot be read.
    pub fn api_keys(&self) -> Result<Option<Secret>, BadSetting> {
        secrets::find(Places {
            variable: "LANGFAST2API_API_KEYS",
            file: self.api_keys_file.as_deref().map(|path| (path, "LANGFAST2API_API_KEYS_FILE")),
            credential: "api-keys",
            is_optional: false,
        })
    }

    /// Bytes that all bodies may take together.
    ///
    /// # Errors
    /// When not even one body of the greatest length would fit.
    pub fn body_memory(&self) -> Result<usize, BadSetting> {
        let memory = self.body_memory.unwrap_or(self.max_body.max(BODY_MEMORY));
        match memory >= self.max_body {
            true => Ok(usize::from(memory) << 20),
            false => Err(BadSetting(format!(
                "LANGFAST2API_BODY_MEMORY is {memory} MiB, and one body may have {} \
                 (LANGFAST2API_MAX_BODY): raise the one, or lower the other",
                self.max_body
            ))),
        }
    }

    /// The models, from the file that is set or built in.
    ///
    /// # Errors
    /// When the file cannot be read or used, or an alias names no model.
    pub fn read_models(&self) -> Result<Models, BadSetting> {
        let Some(path) = &self.models else {
            return Models::parse(BUILT_IN, &self.model_aliases)
                .map_err(|e| BadSetting(e.to_string()));
        };
        let bad = |error: &dyn fmt::Display| {
            BadSetting(format!("LANGFAST2API_MODELS: {}: {error}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|e| bad(&e))?;
        Models::parse(&text, &self.model_aliases).map_err(|e| bad(&e))
    }

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

const DEFAULT_LOG: &str = "info";

/// Memory for all bodies unless it is set, in MiB.
const BODY_MEMORY: u16 = 64;

/// Longest deadline that can be set: a day.
const LONGEST: f64 = 86_400.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= LONGEST => Ok(Duration::from_secs_f64(value)),
        _ => Err(format!("takes seconds, more than 0 and at most {LONGEST}")),
    }
}

fn levels(text: &str) -> Result<String, String> {
    let is_level = |part: &str| {
        let level = part.rsplit('=').next().unwrap_or(part).trim();
        level.parse::<log::LevelFilter>().is_ok()
    };
    match text.split(',').all(is_level) {
        true => Ok(text.to_owned()),
        false => Err("takes off, error, warn, info, debug or trace, or module=level,…".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err("takes a whole number, at least 1".to_owned()),
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

    #[test]
    fn the_command_line_is_sound() {
        Cli::definition().debug_assert();
    }

    #[test]
    fn a_setting_counts_before_and_behind_a_command_and_the_one_behind_wins() {
        let parse = |args: &[&str]| {
            let args = ["langfast2api"].iter().chain(args);
            let matches = Cli::definition().try_get_matches_from(args).unwrap();
            Cli::from_arg_matches(&matches).unwrap().settings
        };
        for args in [&["--origin", "x", "login"], &["login", "--origin", "x"]] {
            assert_eq!(parse(args).origin, "x");
        }
        // One that a command's help does not list.
        assert_eq!(parse(&["--listen", "a:1", "whoami", "--listen", "b:2"]).listen, ["b:2"]);
    }

    #[test]
    fn a_command_lists_the_settings_that_concern_it_and_all_that_are_listed_exist() {
        let mut definition = Cli::definition();
        definition.build();
        for command in definition.get_subcommands().filter(|c| c.get_name() != "help") {
            let shown = command.get_arguments().filter(|a| a.is_global_set() && !a.is_hide_set());
            let mut shown: Vec<&str> = shown.map(|arg| arg.get_id().as_str()).collect();
            shown.retain(|id| !["help", "version"].contains(id));
            let mut expected = settings_of(command.get_name()).to_vec();
            shown.sort_unstable();
            expected.sort_unstable();
            assert_eq!(shown, expected, "{}", command.get_name());
        }
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
