//! Secrets, from where they cannot be seen: the environment, a file, or a systemd credential; never a
//! flag, which everybody can read in the process list.

use std::path::{Path, PathBuf};

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
    /// Whether that may be blank, and then is none: systemd has no optional credentials, but takes a
    /// value in place of one that is missing (`SetCredential=`).
    pub is_optional: bool,
}

/// The first place's content without white space around it; `None` if it is nowhere.
///
/// # Errors
/// When a file that is named cannot be read, is empty, or holds no text.
pub fn find(places: Places<'_>) -> Result<Option<String>, BadSetting> {
    if let Ok(value) = std::env::var(places.variable) {
        if !value.trim().is_empty() {
            return Ok(Some(value.trim().to_owned()));
        }
    }
    if let Some((path, setting)) = places.file {
        return read(path, setting).map(Some);
    }
    let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
    let path = PathBuf::from(directory).join(places.credential);
    let is_blank = || std::fs::read(&path).is_ok_and(|bytes| bytes.trim_ascii().is_empty());
    if !path.exists() || (places.is_optional && is_blank()) {
        return Ok(None);
    }
    read(&path, "LoadCredential").map(Some)
}

fn read(path: &Path, setting: &str) -> Result<String, BadSetting> {
    let failed = |why: &str| BadSetting(format!("{setting}: {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e.to_string()))?;
    match text.trim() {
        "" => Err(failed("the file is empty")),
        secret => Ok(secret.to_owned()),
    }
}
