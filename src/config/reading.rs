//! Reads the settings: the command line, then the environment, then the configuration file, each for the
//! settings that those before it leave open.
//!
//! clap reads the command line alone. Values from elsewhere are checked one by one, so that a message
//! names their place, and are then handed to clap in front of the command line.

use std::env;
use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, FromArgMatches, ValueEnum};

use super::file::{self, ConfigFile};
use super::given::{Counting, Given, Origin, Parts};
use super::{BadSetting, Cli, settings, variable_of, variables};
use crate::observe::logger::LogFormat;

/// The setting that names the configuration file. It cannot stand in it.
const CONFIG: &str = "config";
/// Commands that no setting changes.
const WITHOUT_SETTINGS: [&str; 2] = ["completions", "man"];

impl Cli {
    /// Reads the command line, the environment and the configuration file. Help, version and a wrong
    /// command line end the process.
    ///
    /// # Errors
    /// The first variable, or line of the file, that cannot be used.
    pub fn read() -> Result<Cli, BadSetting> {
        let args: Vec<OsString> = env::args_os().collect();
        let flags = Cli::flags().try_get_matches_from(&args).unwrap_or_else(|e| leave(&e));
        if flags.subcommand_name().is_some_and(|name| WITHOUT_SETTINGS.contains(&name)) {
            return Ok(cli(&flags));
        }
        variables::check()?;
        let file = read_file(&flags)?;
        let found: Vec<Found> =
            settings().map(|arg| find(&arg, &flags, &file)).collect::<Result<_, _>>()?;
        let further = found.iter().filter_map(|found| found.argument.as_ref());
        let (program, rest) = args.split_at(args.len().min(1));
        let all = program.iter().chain(further).chain(rest);
        let matches = Cli::flags().try_get_matches_from(all).unwrap_or_else(|e| leave(&e));
        let secret = |(key, _): (&'static str, _)| Some((key, file.secret(key)?));
        let given = Parts {
            settings: counting(&matches, found),
            secrets: file::SECRETS.into_iter().filter_map(secret).collect(),
            warnings: file.warning.iter().cloned().collect(),
        };
        let mut cli = cli(&matches);
        cli.settings.set_given(Given::new(given));
        Ok(cli)
    }

    /// Returns the log format for reporting that the settings cannot be read: the command line's or the
    /// environment's.
    pub fn log_format_alone() -> LogFormat {
        const LOG_FORMAT: &str = "log_format";
        let flags = Cli::flags().get_matches();
        if flags.value_source(LOG_FORMAT) == Some(ValueSource::CommandLine) {
            return flags.get_one(LOG_FORMAT).copied().unwrap_or_default();
        }
        let variable = variable(LOG_FORMAT).and_then(|(value, _)| value.into_string().ok());
        variable.and_then(|text| LogFormat::from_str(&text, false).ok()).unwrap_or_default()
    }
}

fn cli(matches: &ArgMatches) -> Cli {
    Cli::from_arg_matches(matches).unwrap_or_else(|error| error.exit())
}

/// Ends the process as clap would: with help, the version, or what is wrong.
fn leave(error: &clap::Error) -> ! {
    if error.kind() == ErrorKind::DisplayHelp {
        // This one tells of the variables too.
        let _ = Cli::definition().get_matches();
    }
    error.exit()
}

fn read_file(flags: &ArgMatches) -> Result<ConfigFile, BadSetting> {
    let by_flag = flags.get_one::<PathBuf>(CONFIG).cloned().map(|path| (path, Origin::Flag));
    let by_variable = || variable(CONFIG).map(|(path, origin)| (PathBuf::from(path), origin));
    let named = by_flag.or_else(by_variable);
    let keys = settings().map(|arg| arg.get_id().to_string()).filter(|key| key != CONFIG);
    let keys: Vec<String> = keys.chain(file::SECRETS.map(|(key, _)| key.to_owned())).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    ConfigFile::read(named.as_ref().map(|(path, origin)| (&**path, origin.name(CONFIG))), &keys)
}

/// Where a setting's value is from, and the argument that hands it to clap if that is needed.
struct Found {
    origin: Origin,
    argument: Option<OsString>,
}

fn find(arg: &Arg, flags: &ArgMatches, file: &ConfigFile) -> Result<Found, BadSetting> {
    let setting = arg.get_id().as_str();
    if flags.value_source(setting) == Some(ValueSource::CommandLine) {
        return Ok(Found { origin: Origin::Flag, argument: None });
    }
    let Some((value, origin)) = variable(setting).or_else(|| file.value(setting)) else {
        return Ok(Found { origin: Origin::Default, argument: None });
    };
    match as_flag(arg, &value) {
        Ok(argument) => Ok(Found { origin, argument }),
        Err(why) => Err(BadSetting(format!("{}: {why}", origin.name(setting)))),
    }
}

/// A setting's variable. One that is empty counts as not set: environment files have them so.
fn variable(setting: &str) -> Option<(OsString, Origin)> {
    let value = env::var_os(variable_of(setting)).filter(|value| !value.is_empty())?;
    Some((value, Origin::Variable))
}

/// The value as an argument of the command line; `None` for a switch that is off.
fn as_flag(arg: &Arg, value: &OsStr) -> Result<Option<OsString>, String> {
    let flag = format!("--{}", arg.get_long().unwrap_or_default());
    let argument = [OsStr::new(&flag), OsStr::new("="), value].join(OsStr::new(""));
    let takes_values = arg.get_action().takes_values();
    let mut alone = arg.clone().default_value(Resettable::Reset);
    if !takes_values {
        alone = alone.action(ArgAction::Set).num_args(1);
    }
    let command = clap::Command::new("setting").no_binary_name(true).arg(alone);
    let matches =
        command.try_get_matches_from([&argument]).map_err(|error| match takes_values {
            true => format!("`{}`: {}", value.to_string_lossy(), reason(&error)),
            false => format!("`{}`: takes true or false", value.to_string_lossy()),
        })?;
    if takes_values {
        return Ok(Some(argument));
    }
    let is_on = matches.get_one::<bool>(arg.get_id().as_str()).copied().unwrap_or(false);
    Ok(is_on.then(|| flag.into()))
}

/// Returns clap's reason for refusing a value, without its hints about the command line.
fn reason(error: &clap::Error) -> String {
    match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(why), _) => why.to_string(),
        (None, Some(ContextValue::Strings(words))) => format!("takes {}", words.join(", ")),
        (None, _) => "cannot be used".to_owned(),
    }
}

/// Returns each setting with the value that counts and its origin.
fn counting(matches: &ArgMatches, found: Vec<Found>) -> Vec<Counting> {
    let one = |(arg, Found { origin, .. }): (Arg, Found)| {
        let setting = arg.get_id().to_string();
        let values = matches.get_raw(&setting).into_iter().flatten();
        let values: Vec<_> = values.map(|value| value.to_string_lossy().into_owned()).collect();
        let value = (!values.is_empty()).then(|| values.join(","));
        Counting { setting, value, origin }
    };
    settings().zip(found).map(one).collect()
}
