//! The settings, a struct for each room that is handed some, and what a room reads by them.
//!
//! The name of a field is the setting's: `max_body` is `--max-body`, `LANGFAST2API_MAX_BODY`, and
//! `max_body` in a configuration file. Every default and every limit that a person may set stands here.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValue};
use clap::{Args, ValueEnum};

use super::given::Given;
use super::secrets::{self, Places, Secret};
use super::{BadSetting, values};
use crate::chat::media::Images;
use crate::chat::models::Unknown;
use crate::observe::logger::LogFormat;

/// LangFast's publishable ("anon") key: its web page hands it to every visitor.
const ANON_KEY: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZSIsInJlZiI6Inl6YWF4d2tqdWthanB3cWZsbmR1Iiwicm9sZSI6ImFub24iLCJpYXQiOjE3NDMxNTgzNzUsImV4cCI6MjA1ODczNDM3NX0.tDu7BsFUOV4aPo8U-dsokQJSRw29LQWT8JfDqQe5MoI";

/// What is logged unless it is set.
pub const DEFAULT_LOG: &str = "info";

/// All settings, as given.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// What is served, and where.
    #[command(flatten)]
    pub serving: ServingSettings,
    /// How requests for text are answered.
    #[command(flatten)]
    pub answers: AnswerSettings,
    /// Who is let in.
    #[command(flatten)]
    pub clients: ClientSettings,
    /// How much clients may take, and how long.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// The account, and the way to LangFast.
    #[command(flatten)]
    pub langfast: LangFastSettings,
    /// How long runs may take.
    #[command(flatten)]
    pub deadlines: DeadlineSettings,
    /// Where each value is from.
    #[arg(skip)]
    pub given: Given,
}

/// What is served, and where.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Serving")]
pub struct ServingSettings {
    /// A file of settings, in TOML, with the flags' names as keys (max_body = 32); flags and variables win
    /// over it. It may hold the secrets too, if its mode keeps others out [default:
    /// /etc/langfast2api/langfast2api.toml, if it is there].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Addresses to listen on: HOST:PORT or unix:/path/of/socket, several with commas. Who may connect to a
    /// Unix socket can stand behind its path: unix:/path?mode=660&group=www-data. If systemd passes sockets
    /// on, they are used instead.
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "ADDRESS", value_delimiter = ',')]
    pub listen: Vec<String>,

    /// Name of this instance, if there are several behind one proxy: up to 16 letters and digits. It stands in
    /// the ids of its stored responses.
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,

    /// All instances: NAME=http://HOST:PORT,… A request for what another one has stored is handed to it.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub instances: Vec<String>,

    /// The installed service that root's commands (login, logout, whoami, doctor, models) are about: they run
    /// as its user, with its settings and state. With none, or with --state-dir, root's own are meant.
    #[arg(long, default_value = "langfast2api", value_name = "UNIT")]
    pub unit: String,

    /// Another models.json than the one built in, and than an imported one.
    #[arg(long, value_name = "FILE")]
    pub models: Option<PathBuf>,

    /// Further names for models: ASKED=SERVED,… ; claude-*=gpt-6-luna serves every unknown name that
    /// begins so, *=gpt-6-luna every unknown one.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub model_aliases: Vec<String>,

    /// What becomes of a request for a model that is neither listed nor an alias.
    #[arg(long, default_value = "try", value_name = "WHAT", value_enum)]
    pub unknown_models: Unknown,

    /// List models that OpenAI has shut down, too; they can be asked for in any case.
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub all_models: bool,

    /// What to log: error, warn, info, debug or trace, or as module=level,….
    #[arg(long, default_value = DEFAULT_LOG, value_name = "LEVEL", value_parser = values::levels)]
    pub log: String,

    /// How to log.
    #[arg(long, default_value = "auto", value_name = "FORMAT", value_enum)]
    pub log_format: LogFormat,

    /// Where each value is from.
    #[arg(skip)]
    pub given: Given,
}

/// How requests for text are answered.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Answers")]
pub struct AnswerSettings {
    /// Refuse requests that ask for something LangFast cannot do, instead of leaving it out.
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub strict: bool,

    /// What becomes of images in messages. Passing them on has never been tried against LangFast.
    #[arg(long, default_value = "refuse", value_name = "WHAT", value_enum)]
    pub images: Images,

    /// What to do when the model itself refuses a parameter that was sent: retry runs the request again
    /// without it, at most twice, which costs another request of your quota each time, names it in the
    /// answer's header, and leaves it out from then on; error passes the refusal on, as --strict always
    /// does.
    #[arg(long, default_value = "retry", value_name = "WHAT", value_enum)]
    pub refused_parameters: RefusedParameters,

    /// Ask the model once more when its tool calls do not fit their schemas, or when a call was
    /// required and none came. This costs another request of your quota, and streamed calls then come
    /// whole instead of piece by piece.
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub tool_repair: bool,

    /// How long the same request of the same client gets the same error from memory after its run has failed,
    /// and up to four times as long when it fails again: agents ask again by themselves, and each run costs
    /// a request of your quota; 0 is not at all. What another try is known to mend is not remembered.
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = values::seconds_or_never)]
    pub remember_failures: Duration,

    /// Seconds of silence after which a streamed answer gets a comment line, and a WebSocket a ping, which
    /// keeps proxies from closing it; 0 is never.
    #[arg(long, default_value = "15", value_name = "SECONDS", value_parser = values::seconds_or_never)]
    pub keep_alive: Duration,
}

/// What becomes of a request with a parameter that the model refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RefusedParameters {
    /// It is run again without.
    #[default]
    Retry,
    /// It fails.
    Error,
}

/// Who is let in.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Clients")]
pub struct ClientSettings {
    /// File with the API keys that clients must send, a line each. Also: the keys themselves, with
    /// commas, in LANGFAST2API_API_KEYS, or a systemd credential named api-keys.
    #[arg(long, value_name = "FILE")]
    pub api_keys_file: Option<PathBuf>,

    /// Names in a request's Host that are let in without an API key, besides localhost and addresses.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub allowed_hosts: Vec<String>,

    /// Origins whose pages may call the server (CORS), as `https://app.example`; also
    /// `chrome-extension://ID`, `app://NAME`, `file://`, `null`, or `*` for all.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cors_origins: Vec<String>,

    /// Let Prometheus read /metrics without an API key. The metrics say how much the server is used, and
    /// nothing of what for.
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub metrics_open: bool,

    /// Where each value is from.
    #[arg(skip)]
    pub given: Given,
}

/// How much clients may take, and how long.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitSettings {
    /// Connections at once; one more is told 503. Never more than the descriptors allow [default: 1024, or
    /// fewer where there is little memory].
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub max_connections: Option<usize>,

    /// Requests worked on at once; one more is told 503 [default: 256, or fewer where there is little
    /// memory].
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub max_requests: Option<usize>,

    /// Longest body of a request, in MiB.
    #[arg(long, default_value = "16", value_name = "MIB", value_parser = values::mib_of_one_body)]
    pub max_body: u16,

    /// Memory for the bodies of all requests together, with what is made of them, in MiB; a request
    /// for which there is none in time is told 503 [default: 64, or --max-body if that is more, or less
    /// where there is little memory].
    #[arg(long, value_name = "MIB", value_parser = values::mib)]
    pub body_memory: Option<u16>,

    /// How long the head of a request may take, and its body to begin.
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = values::seconds)]
    pub head_timeout: Duration,

    /// How long a connection may wait for its next request.
    #[arg(long, default_value = "75", value_name = "SECONDS", value_parser = values::seconds)]
    pub idle_timeout: Duration,

    /// How long a client may take no more of its answer.
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = values::seconds)]
    pub write_timeout: Duration,

    /// Memory for stored responses, in MiB, so that clients can continue and fetch them; when it is full, the
    /// oldest are let go. 0 stores none. WebSockets may take as much again, and no less than the default, to
    /// go on with what is not stored [default: 16, or less where there is little memory].
    #[arg(long, value_name = "MIB", value_parser = values::mib_or_none)]
    pub store_responses: Option<u16>,

    /// How long a response is stored at the longest, in minutes.
    #[arg(long, default_value = "720", value_name = "MINUTES", value_parser = values::minutes)]
    pub store_age: Duration,

    /// Keep stored responses in the state directory too, readable by this user only, so that a restart does
    /// not lose them. Each is written once, within the same two limits.
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub store_on_disk: bool,

    /// Where each value is from.
    #[arg(skip)]
    pub given: Given,
}

/// The account, and the way to LangFast.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "LangFast")]
pub struct LangFastSettings {
    /// E-mail address of your LangFast account; without one an anonymous user is signed up. The
    /// password is taken from LANGFAST2API_PASSWORD, --password-file, or a systemd credential named
    /// password.
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,

    /// File that holds the account's password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// File that holds a refresh token to begin with, or what a browser keeps it in. Also
    /// LANGFAST2API_REFRESH_TOKEN, or a systemd credential named refresh-token.
    #[arg(long, value_name = "FILE")]
    pub refresh_token_file: Option<PathBuf>,

    /// Where the session, an imported list of models and, if that is wanted, responses are kept [default:
    /// $STATE_DIRECTORY, else $XDG_STATE_HOME/langfast2api, else ~/.local/state/langfast2api].
    #[arg(long, value_name = "DIRECTORY")]
    pub state_dir: Option<PathBuf>,

    /// Sign in, make the prompt and connect to LangFast at the start, so that the first request is
    /// answered as soon as any other.
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub warm_up: bool,

    /// How long the connections to LangFast are kept for the next request when there is none; 0 is not
    /// at all.
    #[arg(long, default_value = "300", value_name = "SECONDS", value_parser = values::seconds_or_never)]
    pub keep_warm: Duration,

    /// LangFast's Supabase project.
    #[arg(long, default_value = "https://yzaaxwkjukajpwqflndu.supabase.co", value_name = "URL")]
    pub supabase_url: String,

    /// LangFast's prompt runner: http(s) or ws(s).
    #[arg(
        long,
        default_value = "https://langfast-prompt-runner-35808038077.us-central1.run.app",
        value_name = "URL"
    )]
    pub runner_url: String,

    /// LangFast's web page, which requests name as their origin.
    #[arg(long, default_value = "https://langfa.st", value_name = "URL")]
    pub origin: String,

    /// LangFast's publishable key [default: the one of its web page].
    #[arg(long, default_value = ANON_KEY, hide_default_value = true, value_name = "KEY")]
    pub anon_key: String,

    /// Deadline of a connection to LangFast: DNS, TCP, TLS and a proxy together.
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = values::seconds)]
    pub connect_timeout: Duration,

    /// Deadline of each HTTP request to LangFast, and of the prompt runner's handshake.
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = values::seconds)]
    pub request_timeout: Duration,

    /// Where each value is from.
    #[arg(skip)]
    pub given: Given,
}

/// How long runs may take.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Deadlines")]
pub struct DeadlineSettings {
    /// How long a started run may take until its first event; reasoning models think for minutes.
    #[arg(long, default_value = "300", value_name = "SECONDS", value_parser = values::seconds)]
    pub first_event_timeout: Duration,

    /// How long a run may be silent between two events.
    #[arg(long, default_value = "120", value_name = "SECONDS", value_parser = values::seconds)]
    pub silence_timeout: Duration,

    /// How long runs under way wait for another socket when LangFast's is lost; streams are told meanwhile, by
    /// a comment.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = values::seconds)]
    pub reconnect_timeout: Duration,

    /// How long a run may take in all.
    #[arg(long, default_value = "1800", value_name = "SECONDS", value_parser = values::seconds)]
    pub run_timeout: Duration,

    /// How long answers under way may go on when the server is told to stop.
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = values::seconds)]
    pub shutdown_timeout: Duration,
}

/// The account that the operator set, if any.
#[derive(Clone, Default)]
pub struct Account {
    /// E-mail and password.
    pub login: Option<(String, String)>,
    /// A refresh token to begin with, or what it was copied in.
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

impl Settings {
    /// The settings that a command line alone makes, for tests.
    #[cfg(test)]
    pub fn of_flags(flags: &[&str]) -> Settings {
        use clap::FromArgMatches;
        let definition = super::Cli::flags();
        let args = ["langfast2api"].iter().chain(flags);
        let matches = definition.try_get_matches_from(args).expect("flags");
        let mut cli = super::Cli::from_arg_matches(&matches).expect("settings");
        cli.settings.set_given(Given::of_flags(flags));
        cli.settings
    }

    /// Tells every room where the values of its settings are from.
    pub(super) fn set_given(&mut self, given: Given) {
        self.serving.given = given.clone();
        self.clients.given = given.clone();
        self.limits.given = given.clone();
        self.langfast.given = given.clone();
        self.given = given;
    }
}

impl ValueEnum for Unknown {
    fn value_variants<'a>() -> &'a [Unknown] {
        &[Unknown::Try, Unknown::Refuse]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Unknown::Try => {
                PossibleValue::new("try").help("LangFast is asked for it by that very name")
            }
            Unknown::Refuse => PossibleValue::new("refuse").help("it is answered with 404"),
        })
    }
}

impl ClientSettings {
    /// Returns the API keys that clients have to send, as they were written; `None` if no key is asked
    /// for.
    ///
    /// # Errors
    /// When they are set and cannot be read.
    pub fn api_keys(&self) -> Result<Option<Secret>, BadSetting> {
        secrets::find(Places {
            variable: "LANGFAST2API_API_KEYS",
            file: self.api_keys_file.as_deref(),
            key: "api_keys",
            given: &self.given,
            credential: "api-keys",
            is_optional: false,
        })
    }
}

impl LangFastSettings {
    /// Returns the account to sign in with.
    ///
    /// # Errors
    /// When an address has no password, or a secret's file cannot be read.
    pub fn account(&self) -> Result<Account, BadSetting> {
        let password = self.password()?;
        let refresh_token = self.refresh_token()?;
        let refresh_token =
            refresh_token.map(|found| SetToken { token: found.text, setting: found.setting });
        let password_alone = self.email.is_none() && password.is_some();
        let login = match (&self.email, password) {
            (Some(email), Some(password)) => Some((email.clone(), password.text)),
            (Some(_), None) => {
                return Err(BadSetting(format!(
                    "{} is set, its password is not: set LANGFAST2API_PASSWORD_FILE or \
                     LANGFAST2API_PASSWORD, or the systemd credential `password`",
                    self.given.name("email")
                )));
            }
            (None, _) => None,
        };
        Ok(Account { login, refresh_token, password_alone })
    }

    /// Returns the account's password.
    ///
    /// # Errors
    /// When it is set and cannot be read.
    pub fn password(&self) -> Result<Option<Secret>, BadSetting> {
        secrets::find(Places {
            variable: "LANGFAST2API_PASSWORD",
            file: self.password_file.as_deref(),
            key: "password",
            given: &self.given,
            credential: "password",
            is_optional: true,
        })
    }

    /// Returns the refresh token to begin with.
    ///
    /// # Errors
    /// When it is set and cannot be read.
    pub fn refresh_token(&self) -> Result<Option<Secret>, BadSetting> {
        secrets::find(Places {
            variable: "LANGFAST2API_REFRESH_TOKEN",
            file: self.refresh_token_file.as_deref(),
            key: "refresh_token",
            given: &self.given,
            credential: "refresh-token",
            is_optional: true,
        })
    }

    /// Returns the directory that the session is kept in.
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
