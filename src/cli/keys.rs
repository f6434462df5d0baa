//! `langfast2api keys`: the file of API keys, a line for each with a name behind it. A key is shown once, when
//! it is made.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::commands::say;
use crate::config::{BadSetting, ClientSettings, KeysAction, KeysCommand};
use crate::files;
use crate::server::access::Keys;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The service's file, which is meant where no setting names one.
const OF_THE_SERVICE: &str = "/etc/langfast2api/api-keys";
/// Random bytes of a key.
const BYTES: usize = 24;
/// Letters of a key's fingerprint.
const FINGERPRINT: usize = 8;
/// Longest name of a key, in characters.
const LONGEST_NAME: usize = 64;
const MODE: u32 = 0o600;

/// Adds, lists or revokes keys in the file that `--api-keys-file` names, else in the service's own.
///
/// # Errors
/// The file cannot be read or written, a name is taken or unknown, or no key would be left.
pub fn run(command: &KeysCommand, settings: &ClientSettings) -> Result<()> {
    let path = settings.api_keys_file.clone().unwrap_or_else(|| PathBuf::from(OF_THE_SERVICE));
    let text = read(&path)?;
    let keys = KeyFile::parse(&text);
    let name = command.name.as_deref().unwrap_or_default();
    match command.action {
        KeysAction::List => {
            if keys.named().next().is_none() {
                eprintln!(
                    "There is no key in {}. Make one: langfast2api keys add NAME",
                    path.display()
                );
            }
            keys.list().iter().try_for_each(|line| say(line))
        }
        KeysAction::Add => {
            let key = new_key()?;
            write(&path, &keys.with(&key, name)?)?;
            say(&key)?;
            eprintln!("The key of {name}, in {}. It is not shown again. {COUNTS}", path.display());
            Ok(())
        }
        KeysAction::Revoke => {
            write(&path, &keys.without(name)?)?;
            eprintln!("The key of {name} is out of {}. {COUNTS}", path.display());
            Ok(())
        }
    }
}

const COUNTS: &str =
    "A running server takes the change up at SIGHUP (`systemctl reload langfast2api`).";

fn read(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|error| cannot(path, &error)),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    // What cannot be served must not be written.
    Keys::read(text, &path.display().to_string())?;
    files::replace(path, text.as_bytes(), MODE).map_err(|error| cannot(path, &error))
}

fn cannot(path: &Path, error: &io::Error) -> Box<dyn std::error::Error> {
    let why = match error.kind() {
        io::ErrorKind::NotFound => {
            "its directory is not there. Without an installed service, name your own file with --api-keys-file".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("{error}. Name your own file with --api-keys-file; the service's is root's")
        }
        _ => error.to_string(),
    };
    format!("{}: {why}", path.display()).into()
}

fn new_key() -> Result<String> {
    let mut random = [0; BYTES];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The parsed lines of a file of keys.
struct KeyFile<'a> {
    lines: Vec<Line<'a>>,
}

struct Line<'a> {
    text: &'a str,
    keys: Vec<&'a str>,
    comment: &'a str,
}

impl<'a> KeyFile<'a> {
    fn parse(text: &'a str) -> KeyFile<'a> {
        KeyFile {
            lines: text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(Line::parse).collect(),
        }
    }

    fn named(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.lines.iter().flat_map(|line| line.keys.iter().map(|key| (*key, line.comment)))
    }

    /// A line for each key: its fingerprint, and its name.
    fn list(&self) -> Vec<String> {
        self.named()
            .map(|(key, name)| format!("{}  {name}", fingerprint(key)).trim_end().to_owned())
            .collect()
    }

    /// The file with another key of this name.
    fn with(&self, key: &str, name: &str) -> Result<String> {
        if name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control)
        {
            return Err(BadSetting(format!(
                "a key's name is 1 to {LONGEST_NAME} characters on one line"
            ))
            .into());
        }
        match self.named().any(|(_, taken)| taken == name) {
            true => Err(format!(
                "there is a key of {name} already: revoke it first, or take another name"
            )
            .into()),
            false => {
                Ok(self.text(|line| Some(line.text.to_owned())) + &format!("{key}  # {name}\n"))
            }
        }
    }

    /// The file without the keys of this name or fingerprint.
    fn without(&self, name: &str) -> Result<String> {
        if name.is_empty() {
            // Else every key without a name would be meant.
            return Err(BadSetting(
                "name the key, or give its fingerprint, as `langfast2api keys list` shows them"
                    .to_owned(),
            )
            .into());
        }
        let is_meant = |key: &str, comment: &str| comment == name || fingerprint(key) == name;
        let meant = self.named().filter(|(key, comment)| is_meant(key, comment)).count();
        if meant == 0 {
            return Err(
                format!("there is no key of {name}; `langfast2api keys list` shows all").into()
            );
        }
        if meant == self.named().count() {
            return Err("it is the only key, and without any everybody would be let in: add another one first".into());
        }
        Ok(self.text(|line| line.without(|key| is_meant(key, line.comment))))
    }

    fn text(&self, line: impl Fn(&Line<'a>) -> Option<String>) -> String {
        self.lines.iter().filter_map(line).map(|line| line + "\n").collect()
    }
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Line<'a> {
        let (before, comment) = text.split_once('#').unwrap_or((text, ""));
        let keys = before.split(',').map(str::trim).filter(|key| !key.is_empty()).collect();
        Line { text, keys, comment: comment.trim() }
    }

    /// The line without some of its keys; `None` if none is left.
    fn without(&self, is_meant: impl Fn(&str) -> bool) -> Option<String> {
        let left: Vec<&str> = self.keys.iter().copied().filter(|key| !is_meant(key)).collect();
        match (left.len() == self.keys.len(), self.comment, left.is_empty()) {
            (true, ..) => Some(self.text.to_owned()),
            (false, _, true) => None,
            (false, "", false) => Some(left.join(", ")),
            (false, comment, false) => Some(format!("{}  # {comment}", left.join(", "))),
        }
    }
}

/// Returns a few digits of the key's SHA-256, which identify it without revealing it.
fn fingerprint(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..FINGERPRINT].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\nsk-alice-0123456789  # alice\nsk-bob-0123456789, sk-carol-0123456789 # team\n\nsk-old-0123456789\n";

    #[test]
    fn a_key_is_added_behind_what_is_there_and_a_name_is_taken_once() {
        let file = KeyFile::parse(FILE);
        let more = file.with("k", "dave").unwrap();
        assert_eq!(more, format!("{FILE}k  # dave\n"));
        for (name, why) in
            [("alice", "already"), ("team", "already"), ("", "1 to 64"), ("a\nb", "1 to 64")]
        {
            assert!(file.with("k", name).unwrap_err().to_string().contains(why), "{name:?}");
        }
        assert_eq!(KeyFile::parse("\u{feff}a").with("k", "n").unwrap(), "a\nk  # n\n");
    }

    #[test]
    fn a_key_is_revoked_by_its_name_or_its_fingerprint_and_nothing_else_is_touched() {
        let file = KeyFile::parse(FILE);
        assert_eq!(
            file.without("alice").unwrap(),
            FILE.replace("sk-alice-0123456789  # alice\n", "")
        );
        let bob = fingerprint("sk-bob-0123456789");
        let without_bob = FILE.replace(
            "sk-bob-0123456789, sk-carol-0123456789 # team",
            "sk-carol-0123456789  # team",
        );
        assert_eq!(file.without(&bob).unwrap(), without_bob);
        assert!(file.without("").unwrap_err().to_string().contains("fingerprint"));
        assert!(file.without("nobody").unwrap_err().to_string().contains("no key of nobody"));
    }

    #[test]
    fn the_last_key_stays() {
        let only = KeyFile::parse("k # alice\n# a comment\n").without("alice").unwrap_err();
        assert!(only.to_string().contains("only key"), "{only}");
    }

    #[test]
    fn the_list_names_keys_and_shows_none() {
        let list = KeyFile::parse(FILE).list();
        assert_eq!(list.len(), 4);
        assert!(
            list[0].ends_with("  alice") && list[3] == fingerprint("sk-old-0123456789"),
            "{list:?}"
        );
        assert!(!list.concat().contains("sk-"), "{list:?}");
    }
}
