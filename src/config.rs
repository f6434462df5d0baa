//! Settings: flags, environment and a configuration file, read once into validated values.
//!
//! Enters: the command line, the environment, files. Leaves: [`Settings`], a struct for each room, or what
//! is wrong with one, by the name that it was given by. It may not know what a setting does.

mod file;
pub mod given;
mod memory;
pub mod model_list;
mod reading;
pub mod secrets;
mod settings;
mod values;
mod variables;

use std::fmt;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Arg, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use file::{DEFAULT_PATH, SECRETS};
pub use memory::{FittedLimits, Memory};
pub use settings::{
    Account, AnswerSettings, ClientSettings, DeadlineSettings, LangFastSettings, LimitSettings,
    RefusedParameters, ServingSettings, SetToken, Settings,
};

use settings::DEFAULT_LOG;

/// An OpenAI-compatible API in front of LangFast.
///
/// Point any OpenAI client at http://127.0.0.1:8000/v1. Nothing has to be configured; every setting
/// is a flag, an environment variable (the flag's name as LANGFAST2API_…), or a line of a file
/// (--config). A flag wins over a variable, and a variable over the file.
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
    /// What to log. The doctor's report says what the log would, unless more is asked for.
    pub fn log_levels(&self) -> &str {
        match self.command {
            Some(Command::Doctor(_)) if self.settings.serving.log == DEFAULT_LOG => "off",
            _ => &self.settings.serving.log,
        }
    }

    /// What `--help`, the man page and shells tell of. The environment's values stay out of it: it may
    /// be shown to others.
    pub fn definition() -> clap::Command {
        Cli::define(|arg| arg)
    }

    /// The same for the command line alone: no value is taken from the environment.
    fn flags() -> clap::Command {
        Cli::define(|arg| arg.env(Resettable::Reset))
    }

    fn define(change: impl Fn(Arg) -> Arg) -> clap::Command {
        let ids: Vec<String> = settings().map(|arg| arg.get_id().to_string()).collect();
        let set_up = |arg: Arg| match ids.iter().find(|id| arg.get_id() == id.as_str()) {
            Some(id) => change(arg.global(true).env(variable_of(id)).hide_env_values(true)),
            None => arg,
        };
        let all = Cli::command().mut_args(set_up).after_help(exit_codes());
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

/// The settings, as their rooms define them.
fn settings() -> impl Iterator<Item = Arg> {
    let all = Settings::augment_args(clap::Command::new("settings"));
    all.get_arguments().cloned().collect::<Vec<_>>().into_iter()
}

/// The variable of a setting.
pub fn variable_of(setting: &str) -> String {
    format!("{}{}", variables::PREFIX, setting.to_ascii_uppercase())
}

/// The settings that a command's help lists; it takes the others too.
fn settings_of(command: &str) -> &'static [&'static str] {
    match command {
        "login" => &[
            "config",
            "state_dir",
            "unit",
            "supabase_url",
            "origin",
            "anon_key",
            "connect_timeout",
            "request_timeout",
        ],
        "logout" | "whoami" => &["config", "state_dir", "unit", "supabase_url"],
        "keys" => &["config", "api_keys_file"],
        "models" => &["config", "models", "model_aliases", "unknown_models", "state_dir", "unit"],
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
    /// Asks for e-mail and password on the terminal. With --refresh-token, asks for a refresh token
    /// instead, or for the value that a browser keeps it in: the one of Local Storage, or cookies.
    Login {
        /// Ask for a refresh token, or for what a browser keeps it in.
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
    /// connections, sign-in, prompt, socket. It uses the server's session, signs no anonymous user up without
    /// --sign-in, and spends nothing of the quota without --run. It minds every setting of the server: see
    /// `langfast2api --help`. Root examines the installed service, if there is one (--unit).
    Doctor(Examination),
    /// List the models with what each accepts, or bring the list up to date.
    ///
    /// With --import, takes LangFast's own list as you can copy it out of your browser: open LangFast's page
    /// and the developer tools (F12), tab Network, reload, find the answer whose rows have `slug` and
    /// `parameters` (from supabase.co/rest/v1/…), and copy its response.
    Models(ModelsCommand),
    /// Manage the file of API keys that clients send: make a key for somebody, list whose there are, take one
    /// away.
    ///
    /// The file is --api-keys-file, else the service's, /etc/langfast2api/api-keys. A new key is shown once.
    Keys(KeysCommand),
    /// Print completions for a shell, to be put where it looks for them.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the man page (`langfast2api man | man -l -`).
    Man,
}

/// What is to be done with the models.
#[derive(Args, Clone, Debug, Default)]
pub struct ModelsCommand {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// Read LangFast's list from this file, or from standard input (`-`), and keep it in the state directory,
    /// where the server finds it. A list replaces the one before; a single record is added to it.
    #[arg(long, value_name = "FILE", conflicts_with = "reset")]
    pub import: Option<PathBuf>,
    /// Add what is imported to the list before, and keep models that it does not name.
    #[arg(long, requires = "import")]
    pub merge: bool,
    /// Remove the imported list, so that the one built in counts again.
    #[arg(long)]
    pub reset: bool,
}

/// What is to be done with the API keys.
#[derive(Args, Clone, Debug)]
pub struct KeysCommand {
    /// What to do.
    #[arg(value_enum, default_value = "list")]
    pub action: KeysAction,
    /// Whose key: a name of your own choice. To revoke one, also its fingerprint, as `list` shows it.
    #[arg(required_if_eq_any([("action", "add"), ("action", "revoke")]))]
    pub name: Option<String>,
}

/// What can be done with the API keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeysAction {
    /// Show each key's fingerprint and name.
    List,
    /// Make a key, and show it.
    Add,
    /// Take a key out of the file.
    Revoke,
}

/// What the doctor is to do.
#[derive(Args, Clone, Debug, Default)]
pub struct Examination {
    /// Sign an anonymous user up if nobody is signed in, as the server would with its first request.
    #[arg(long)]
    pub sign_in: bool,
    /// Also run a prompt with an answer of a few tokens: one request of LangFast's quota.
    #[arg(long)]
    pub run: bool,
    /// The model to do that with [default: the first of the list that is not shut down].
    #[arg(long, value_name = "NAME", requires = "run")]
    pub model: Option<String>,
    /// Also go to the running server as its clients do, at this public URL: whether it asks for the
    /// key, whether events arrive one by one through the proxy in front of it, and whether its requests fail.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Record all that goes between this program and LangFast, as JSON lines in this new file, to be shown
    /// to others: tokens, keys, ids, addresses and texts are placeholders in it. Says what in it differs
    /// from what this program knows. Only with --run, which costs one request of the quota, is a run in it.
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

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
            assert_eq!(parse(args).langfast.origin, "x");
        }
        // One that a command's help does not list.
        assert_eq!(
            parse(&["--listen", "a:1", "whoami", "--listen", "b:2"]).serving.listen,
            ["b:2"]
        );
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
}
