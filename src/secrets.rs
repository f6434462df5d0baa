//! Secrets, from where they cannot be seen: the environment, a file, or a systemd credential; never a
//! flag, which everybody can read in the process list.

use std::env::{self, VarError};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::config::BadSetting;

/// Where a secret may be, in the order in which it is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The variable that holds it.
    pub variable: &'a str,
    /// The file that a setting names, and that setting.
    pub file: Option<(&'a Path, &'a str)>,
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
    /// The setting and, if there is one, the file, for messages.
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
        Ok(value) => return Secret::new(&value, places.variable.to_owned()).map(Some),
        Err(VarError::NotUnicode(_)) => {
            return Err(BadSetting(format!("{}: it is not UTF-8", places.variable)));
        }
    }
    if let Some((path, setting)) = places.file {
        let source = format!("{setting}: {}", path.display());
        let text = fs::read_to_string(path).map_err(|error| unreadable(&source, &error))?;
        return Secret::new(&text, source).map(Some);
    }
    let Some(directory) = env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
    let path = PathBuf::from(directory).join(places.credential);
    let source = format!("LoadCredential: {}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) if places.is_optional && bare(&text).is_empty() => Ok(None),
        Ok(text) => Secret::new(&text, source).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&source, &error)),
    }
}

impl Secret {
    fn new(text: &str, source: String) -> Result<Secret, BadSetting> {
        match bare(text) {
            "" => Err(BadSetting(format!("{source}: it is set, and there is nothing in it"))),
            text => Ok(Secret { text: text.to_owned(), source }),
        }
    }
}

/// Without what editors leave around a text.
fn bare(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text).trim()
}

fn unreadable(source: &str, error: &io::Error) -> BadSetting {
    BadSetting(format!("{source}: {error}"))
}
