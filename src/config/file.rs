//! The configuration file: TOML, one key for each setting, named as its flag is (`max_body = 32`).
//!
//! It is read by `toml`, which cargo's own people keep, without serde: messages need a key's line, which
//! its document tree has. It takes 95 KB of the program; `toml_edit`, which can write too, takes 135, and
//! `basic-toml` takes 73 and knows no lines.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::{FileSecret, Origin};
use super::variables::nearest;
use super::{BadSetting, secrets};

/// The file that is read if none is named; it need not be there.
pub const DEFAULT_PATH: &str = "/etc/langfast2api/langfast2api.toml";
/// The systemd credential that stands for it: the service's user may not read `/etc/langfast2api`.
const CREDENTIAL: &str = "langfast2api.toml";

/// The keys that hold secrets, and the setting that names a file for each.
pub const SECRETS: [(&str, &str); 3] = [
    ("api_keys", "api_keys_file"),
    ("password", "password_file"),
    ("refresh_token", "refresh_token_file"),
];
/// Mode bits that a file with secrets may not have: any for others, and writing for the group. The group
/// may read it, since a service often gets its secrets that way.
const MODE_OF_OTHERS: u32 = 0o027;

/// The settings of a configuration file.
#[derive(Debug, Default)]
pub struct ConfigFile {
    path: PathBuf,
    entries: Vec<Entry>,
    /// The reason for passing over the default file; `None` if it is read or not there.
    pub warning: Option<String>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    /// The value as an environment variable would have it: a list has commas.
    value: String,
    line: usize,
}

impl ConfigFile {
    /// Reads the file that is `named` (its path, and the setting that names it), or else the service's:
    /// the credential, or [`DEFAULT_PATH`] if that may be read. `known` are the keys that it may have.
    ///
    /// # Errors
    /// When a named file is not there, or a file cannot be used.
    pub fn read(named: Option<(&Path, String)>, known: &[&str]) -> Result<ConfigFile, BadSetting> {
        let read = |path: &Path, name: String| match ConfigFile::open(&secrets::readable(path)) {
            Ok(text) => text.parse(path, known),
            Err(e) => {
                let advice = secrets::advice(path, &e);
                Err(BadSetting(format!("{name}: {}: {e}{advice}", path.display())))
            }
        };
        if let Some((path, setting)) = named {
            return read(path, setting);
        }
        if let Some(path) = secrets::credential(CREDENTIAL).filter(|path| path.exists()) {
            return read(&path, format!("the systemd credential `{CREDENTIAL}`"));
        }
        let path = Path::new(DEFAULT_PATH);
        match ConfigFile::open(path) {
            Ok(text) => text.parse(path, known),
            // Where not even the directory may be searched, the file is not for us.
            Err(_) if fs::metadata(path).is_err() => Ok(ConfigFile::default()),
            Err(error) => {
                let warning = Some(format!("{DEFAULT_PATH} is passed over: {error}"));
                Ok(ConfigFile { warning, ..ConfigFile::default() })
            }
        }
    }

    fn open(path: &Path) -> io::Result<Text> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mode = metadata.is_file().then(|| metadata.permissions().mode() & 0o7777);
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(Text { text, mode })
    }

    /// The setting's value as a variable would have it, and where it stands. One that is empty counts
    /// as not set, as it does in the environment.
    pub fn value(&self, setting: &str) -> Option<(OsString, Origin)> {
        let entry = self.entries.iter().find(|entry| entry.key == setting)?;
        let origin = Origin::File(self.path.clone(), entry.line);
        (!entry.value.is_empty()).then(|| (entry.value.clone().into(), origin))
    }

    /// A secret that stands in it, even a blank one.
    pub fn secret(&self, key: &str) -> Option<FileSecret> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let origin = Origin::File(self.path.clone(), entry.line);
        Some(FileSecret { text: entry.value.clone(), origin })
    }
}

/// A file's text, and its mode unless it is a pipe.
struct Text {
    text: String,
    mode: Option<u32>,
}

impl Text {
    fn parse(&self, path: &Path, known: &[&str]) -> Result<ConfigFile, BadSetting> {
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        let bad = |at: usize, why: &str| {
            BadSetting(format!("{}:{}: {why}", path.display(), line_at(text, at)))
        };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            bad(at, &format!("this is no TOML: {}", error.message().replace('\n', ", ")))
        })?;
        let mut entries = Vec::new();
        for (key, value) in table.get_ref() {
            let (name, at) = (key.get_ref(), key.span().start);
            if !known.contains(&name.as_ref()) {
                return Err(bad(at, &unknown_key(name, value.get_ref(), known)));
            }
            let value =
                as_text(value.get_ref()).map_err(|why| bad(at, &format!("{name}: {why}")))?;
            entries.push(Entry { key: name.to_string(), value, line: line_at(text, at) });
        }
        let file = ConfigFile { path: path.to_owned(), entries, warning: None };
        file.check_secrets(self.mode)?;
        Ok(file)
    }
}

impl ConfigFile {
    fn check_secrets(&self, mode: Option<u32>) -> Result<(), BadSetting> {
        let find = |key: &str| self.entries.iter().find(|entry| entry.key == key);
        for (secret, file) in SECRETS {
            let Some(Entry { line, .. }) = find(secret) else { continue };
            let place = format!("{}:{line}: {secret}", self.path.display());
            if find(file).is_some() {
                return Err(BadSetting(format!("{place}: {file} is set too; remove one of them")));
            }
            if let Some(mode) = mode.filter(|mode| mode & MODE_OF_OTHERS != 0) {
                return Err(BadSetting(format!(
                    "{place}: others get at this secret, since the file has mode {mode:04o}. chmod \
                     600 {}, and change what was in it",
                    self.path.display()
                )));
            }
        }
        Ok(())
    }
}

fn unknown_key(name: &str, value: &DeValue<'_>, known: &[&str]) -> String {
    if value.is_table() {
        return format!("[{name}]: settings stand at the top, in no table");
    }
    match nearest(name, known.iter().copied()) {
        Some(nearest) => format!("{name}: there is no such setting; did you mean {nearest}?"),
        None => format!("{name}: there is no such setting; `langfast2api --help` lists all"),
    }
}

fn as_text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::Array(values) => {
            let values = values.iter().map(|value: &Spanned<DeValue<'_>>| one(value.get_ref()));
            Ok(values.collect::<Result<Vec<_>, _>>()?.join(","))
        }
        value => one(value),
    }
}

fn one(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err("the number is too large".to_owned()),
        },
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(is) => Ok(is.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err("takes a text, a number, true or false, or a list of texts".to_owned())
        }
    }
}

/// The line of a place in a text, counted from 1.
fn line_at(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["listen", "max_body", "strict", "password", "password_file"];

    fn parse(text: &str) -> Result<ConfigFile, BadSetting> {
        let text = Text { text: text.to_owned(), mode: Some(0o600) };
        text.parse(Path::new("f"), &KNOWN)
    }

    #[test]
    fn values_come_as_variables_have_them() {
        let file = parse("# mine\nmax_body = 0x20\nlisten = [\"a:1\", \"b:2\"]\n\nstrict = true\n");
        let file = file.unwrap();
        let value = |name: &str| file.value(name).map(|(value, _)| value.into_string().unwrap());
        assert_eq!(value("max_body").as_deref(), Some("32"));
        assert_eq!(value("listen").as_deref(), Some("a:1,b:2"));
        assert_eq!(value("strict").as_deref(), Some("true"));
        assert_eq!(file.value("strict").unwrap().1, Origin::File("f".into(), 5));
        assert!(parse("listen = \"\"").unwrap().value("listen").is_none());
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_line() {
        for (text, message) in [
            ("\nmax-body = 3", "f:2: max-body: there is no such setting; did you mean max_body?"),
            ("[listen]\n", "f:1: listen: takes a text"),
            ("[server]\nlisten = 3", "f:1: [server]: settings stand at the top"),
            ("listen = ", "f:1: this is no TOML: "),
            ("listen = 1\nlisten = 2", "f:2: this is no TOML: duplicate key"),
            ("password = \"x\"\npassword_file = \"y\"", "f:1: password: password_file is set too"),
        ] {
            let error = parse(text).unwrap_err().0;
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
    }
}
