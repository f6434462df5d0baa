//! Secrets, from where they cannot be seen: the environment, a file of their own, the configuration file,
//! or a systemd credential; never a flag, which everybody can read in the process list.

use std::env::{self, VarError};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::BadSetting;
use super::given::Given;

/// The unit's word on what its credentials are: what the path of each file begins with, before the name of
/// the credential (`/etc/langfast2api/`).
pub const CREDENTIALS_FROM: &str = "LANGFAST2API_CREDENTIALS_FROM";
/// Suffix of the runtime directory's name that makes the directory of renewed credentials. It belongs to
/// root, so that the service cannot place links there for the reload to follow.
const RELOADED: &str = ".reload";

/// The secrets that this program can make itself.
const API_KEYS: &str = "api_keys";

/// The places of a secret, in the order in which they are searched.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The variable that holds it.
    pub variable: &'a str,
    /// The file that the setting `{key}_file` names.
    pub file: Option<&'a Path>,
    /// Its key in the configuration file.
    pub key: &'a str,
    /// The configuration file's secrets, and where settings are from.
    pub given: &'a Given,
    /// Name of the systemd credential (`LoadCredential=`) that holds it.
    pub credential: &'a str,
    /// Whether a blank credential counts as none: systemd has no optional credentials, but takes a
    /// value in place of one that is missing (`SetCredential=`).
    pub is_optional: bool,
}

/// A secret that was found.
pub struct Secret {
    /// The secret, without white space or a byte order mark around it; never empty.
    pub text: String,
    /// The setting that it is from, for messages.
    pub setting: String,
    /// The same, with the file if there is one.
    pub source: String,
}

/// Returns the secret of the first place that has one; `None` if none has.
///
/// A variable that is set to nothing counts as not set: environment files have them so. Anything else
/// that was meant to be a secret and is none is an error, lest a server is left open, or signs in as
/// somebody else, because of a slip.
///
/// # Errors
/// When a place is there and is blank, cannot be read, or is no text.
pub fn find(places: Places<'_>) -> Result<Option<Secret>, BadSetting> {
    match env::var(places.variable) {
        Ok(value) if value.is_empty() => {}
        Err(VarError::NotPresent) => {}
        Ok(value) => {
            return Secret::new(&value, places.variable, places.variable.to_owned()).map(Some);
        }
        Err(VarError::NotUnicode(_)) => {
            return Err(BadSetting(format!("{}: it is not UTF-8", places.variable)));
        }
    }
    if let Some(path) = places.file {
        let setting = places.given.name(&format!("{}_file", places.key));
        let text = fs::read_to_string(readable(path)).map_err(|error| {
            let is_to_be_made = places.key == API_KEYS && error.kind() == io::ErrorKind::NotFound;
            let more = if is_to_be_made { ", or make it: langfast2api keys add NAME" } else { "" };
            BadSetting(unreadable(&setting, path, &error).0 + more)
        })?;
        let source = format!("{setting}: {}", path.display());
        return Secret::new(&text, &setting, source).map(Some);
    }
    if let Some(secret) = places.given.secret(places.key) {
        let setting = secret.origin.name(places.key);
        return Secret::new(&secret.text, &setting, setting.clone()).map(Some);
    }
    let Some(path) = credential(places.credential) else { return Ok(None) };
    let setting = format!("the systemd credential `{}`", places.credential);
    match fs::read_to_string(&path) {
        Ok(text) if places.is_optional && bare(&text).is_empty() => Ok(None),
        // What stands in /run is a copy: nobody mends anything there.
        Ok(text) => {
            let source = format!("{setting} (LoadCredential= in the unit names its file)");
            Secret::new(&text, &setting, source).map(Some)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&setting, &path, &error)),
    }
}

impl Secret {
    fn new(text: &str, setting: &str, source: String) -> Result<Secret, BadSetting> {
        match bare(text) {
            "" => Err(BadSetting(format!(
                "{source}: it is set, and there is nothing in it. Write it there, or take the setting away"
            ))),
            text => Ok(Secret { text: text.to_owned(), setting: setting.to_owned(), source }),
        }
    }
}

/// Removes white space and a byte order mark, which editors leave around a text.
fn bare(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text).trim()
}

/// The file of a systemd credential, which need not be there: the one that a reload of the unit has renewed
/// (`ExecReload=` puts it beside the runtime directory), else the one of the unit's start. `None` where
/// systemd hands on none.
pub fn credential(name: &str) -> Option<PathBuf> {
    let at_start = PathBuf::from(env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    let renewed = env::var("RUNTIME_DIRECTORY").ok().map(|directories| {
        // systemd lists several with colons; ours is the first.
        let first = directories.split(':').next().unwrap_or_default();
        Path::new(&format!("{first}{RELOADED}")).join(name)
    });
    Some(renewed.filter(|path| path.exists()).unwrap_or(at_start))
}

/// Where a file that a setting names can be read: a service of a user of its own reads of the files in
/// `/etc/langfast2api` only what its unit hands on as credentials.
pub fn readable(path: &Path) -> PathBuf {
    let handed_on = || {
        let from = env::var_os(CREDENTIALS_FROM)?;
        let name = path.to_str()?.strip_prefix(from.to_str()?)?;
        // What stands in for a file that is missing is blank.
        let is_file = |found: &PathBuf| fs::metadata(found).is_ok_and(|found| found.len() > 1);
        credential(name).filter(|found| !name.is_empty() && is_file(found))
    };
    handed_on().unwrap_or_else(|| path.to_owned())
}

fn unreadable(setting: &str, path: &Path, error: &io::Error) -> BadSetting {
    BadSetting(format!("{setting}: {}: {error}{}", path.display(), advice(path, error)))
}

/// Advice for a file that a setting names and that cannot be read, as a sentence of its own.
pub fn advice(path: &Path, error: &io::Error) -> &'static str {
    let is_service = env::var_os("CREDENTIALS_DIRECTORY").is_some();
    match error.kind() {
        io::ErrorKind::PermissionDenied if is_service && readable(path) == path => {
            ". The service's user may read no file but those that its unit hands on, if they are there; `systemctl cat \
             langfast2api` shows them (LoadCredential=)"
        }
        io::ErrorKind::PermissionDenied => {
            ". Give it to the user that the server runs as (`ls -l` says whose it is)"
        }
        io::ErrorKind::NotFound => ". Name a file that is there, or take the setting away",
        io::ErrorKind::IsADirectory => ". Name a file in it",
        _ => "",
    }
}
