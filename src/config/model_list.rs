//! Chooses the list of models that counts: the file that is set, else the list that was imported into the
//! state directory, else the one built in.
//!
//! An imported list that cannot be used never keeps the server from starting.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{BadSetting, ServingSettings, Settings, secrets};
use crate::chat::models::import::{LIST_LIMIT, as_of};
use crate::chat::models::shutdowns::Day;
use crate::chat::models::{BUILT_IN, BadModels, Models, Unknown};

/// The imported list's file in the state directory.
const IMPORTED: &str = "models.json";

/// Where lists of models are looked for.
#[derive(Clone, Debug)]
pub struct ModelSource {
    serving: ServingSettings,
    /// The imported list's file, which need not be there; `None` without a state directory.
    imported: Option<PathBuf>,
}

/// The models, and which list they are of.
#[derive(Debug)]
pub struct LoadedModels {
    /// The models.
    pub models: Models,
    /// Which list.
    pub list: ModelList,
}

/// The list of models that counts, for people to read.
#[derive(Clone, Debug)]
pub struct ModelList {
    origin: ListOrigin,
    count: usize,
    /// Unix time of LangFast's latest change to a record, if the list tells.
    as_of: Option<u64>,
    /// The state of the imported list's file before it was read.
    pub stamp: Option<Stamp>,
    /// The reason that an imported list cannot be used; `None` if it can, or there is none.
    pub problem: Option<String>,
    /// Further warnings, for people.
    pub note: Option<String>,
}

#[derive(Clone, Debug)]
enum ListOrigin {
    /// The setting's name, the file, and the Unix time of its last change.
    Set(String, PathBuf, Option<u64>),
    /// The file, and the Unix time at which it was written.
    Imported(PathBuf, Option<u64>),
    BuiltIn,
}

/// The state of a file: another one, or another content, has another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Option<([u64; 3], [i64; 2])>);

impl Settings {
    /// Where lists of models are looked for.
    pub fn model_source(&self) -> ModelSource {
        // Without a state directory nothing has been imported.
        let imported = self.langfast.state_dir().ok().map(|directory| directory.join(IMPORTED));
        ModelSource { serving: self.serving.clone(), imported }
    }
}

impl ModelSource {
    /// Returns the models, those built in if the imported list cannot be used.
    ///
    /// # Errors
    /// The file that is set cannot be used, or an alias names no model.
    pub fn read(&self) -> Result<LoadedModels, BadSetting> {
        match self.read_strictly() {
            Err(why) if self.serving.models.is_none() => {
                let LoadedModels { models, list } = self.built_in()?;
                Ok(LoadedModels { models, list: ModelList { problem: Some(why.0), ..list } })
            }
            listed => listed,
        }
    }

    /// Returns the models, as for a server that keeps those that it has if the list cannot be used.
    ///
    /// # Errors
    /// The list that counts, or an alias, cannot be used.
    pub fn read_strictly(&self) -> Result<LoadedModels, BadSetting> {
        match (&self.serving.models, &self.imported, self.stamp()) {
            (Some(path), ..) => self.set(path),
            (None, Some(path), Some(_)) => self.imported(path),
            _ => self.built_in(),
        }
    }

    /// The state of the imported list's file; `None` if there is none, or if it does not count.
    pub fn stamp(&self) -> Option<Stamp> {
        let path = self.imported.as_ref().filter(|_| self.serving.models.is_none())?;
        match fs::metadata(path) {
            Ok(metadata) => Some(Stamp::of(&metadata)),
            Err(error) if is_absence(&error) => None,
            // Reading will say what is wrong.
            Err(_) => Some(Stamp(None)),
        }
    }

    /// The file that an imported list is kept in; `None` without a state directory.
    pub fn imported_path(&self) -> Option<&Path> {
        self.imported.as_deref()
    }

    /// The setting by which another list than an imported one counts, and its file.
    pub fn set_instead(&self) -> Option<(String, &Path)> {
        Some((self.serving.given.name("models"), self.serving.models.as_deref()?))
    }

    /// The text of the list that an import adds to or replaces, and what it is.
    pub fn before_import(&self) -> (String, &'static str) {
        let imported = self.imported.as_ref().and_then(|path| {
            let text = read_file(path).ok()?;
            Models::parse(&text, &[], Unknown::Refuse)
                .is_ok()
                .then_some((text, "the list imported before"))
        });
        imported.unwrap_or_else(|| (BUILT_IN.to_owned(), "the built-in list"))
    }

    /// Reads the models of a list; `place` says whose words a message's are.
    ///
    /// # Errors
    /// A record, or an alias, cannot be used.
    pub fn parse(&self, text: &str, place: &str) -> Result<Models, BadSetting> {
        Models::parse(text, &self.serving.model_aliases, self.serving.unknown_models).map_err(
            |error| match error {
                BadModels::Aliases(why) => self.serving.given.bad("model_aliases", why),
                BadModels::File(why) => BadSetting(format!("{place}: {why}")),
            },
        )
    }

    fn set(&self, path: &Path) -> Result<LoadedModels, BadSetting> {
        let setting = self.serving.given.name("models");
        let place = format!("{setting}: {}", path.display());
        let unreadable = |error: io::Error| {
            BadSetting(format!("{place}: {error}{}", secrets::advice(path, &error)))
        };
        let text = fs::read_to_string(secrets::readable(path)).map_err(unreadable)?;
        let models = self.parse(&text, &place)?;
        let overruled = self.imported.as_ref().filter(|path| path.exists());
        let note = overruled.map(|path| {
            format!(
                "an imported list of models does not count, because of {setting}: {}",
                path.display()
            )
        });
        let list =
            self.list(ListOrigin::Set(setting, path.to_owned(), changed(path)), &models, &text);
        Ok(LoadedModels { models, list: ModelList { note, ..list } })
    }

    fn imported(&self, path: &Path) -> Result<LoadedModels, BadSetting> {
        let stamp = self.stamp();
        let place = format!("the imported list of models, {}", path.display());
        let mend = |why: BadSetting| {
            BadSetting(format!(
                "{why}. Import it anew, or go back with `langfast2api models --reset`"
            ))
        };
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                BadSetting(format!("{place}: {error}. Give it to the user that the server runs as"))
            }
            _ => mend(BadSetting(format!("{place}: {error}"))),
        };
        let text = read_file(path).map_err(unreadable)?;
        let models = self.parse(&text, &place).map_err(mend)?;
        let list = self.list(ListOrigin::Imported(path.to_owned(), changed(path)), &models, &text);
        Ok(LoadedModels { models, list: ModelList { stamp, ..list } })
    }

    fn built_in(&self) -> Result<LoadedModels, BadSetting> {
        let stamp = self.stamp();
        let models = self.parse(BUILT_IN, "the built-in models")?;
        let list = self.list(ListOrigin::BuiltIn, &models, BUILT_IN);
        Ok(LoadedModels { models, list: ModelList { stamp, ..list } })
    }

    fn list(&self, origin: ListOrigin, models: &Models, text: &str) -> ModelList {
        let (count, as_of) = (models.iter().count(), as_of(text));
        ModelList { origin, count, as_of, stamp: None, problem: None, note: None }
    }
}

impl ModelList {
    /// True if it is the one built in.
    pub fn is_built_in(&self) -> bool {
        matches!(self.origin, ListOrigin::BuiltIn)
    }

    /// Returns warnings about the list, for people.
    pub fn remarks(&self) -> impl Iterator<Item = &String> {
        self.problem.iter().chain(&self.note)
    }

    /// Logs which list counts, behind a word for what is done with it, and what should be known of it and
    /// of its `models`.
    pub fn log(&self, word: &str, models: &Models) {
        self.problem.iter().for_each(|problem| log::error!("{problem}"));
        self.note.iter().for_each(|note| log::warn!("{note}"));
        log::info!("{word}: {self}");
        models.warnings(&Day::today()).iter().for_each(|warning| log::warn!("{warning}"));
    }
}

impl fmt::Display for ModelList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |word: &str, time: &Option<u64>| {
            time.map(|time| format!("{word} on {}", day(time))).unwrap_or_default()
        };
        let (count, s) = (self.count, if self.count == 1 { "" } else { "s" });
        write!(f, "{count} model{s}, ")?;
        match &self.origin {
            ListOrigin::BuiltIn => write!(f, "built in")?,
            ListOrigin::Imported(path, time) => {
                write!(f, "imported{} into {}", on("", time), path.display())?;
            }
            ListOrigin::Set(setting, path, time) => {
                write!(f, "of {} ({setting}){}", path.display(), on(", changed", time))?;
            }
        }
        self.as_of.map_or(Ok(()), |time| write!(f, "; LangFast's records are of {}", day(time)))
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        let file = [metadata.dev(), metadata.ino(), metadata.len()];
        Stamp(Some((file, [metadata.mtime(), metadata.mtime_nsec()])))
    }
}

/// True if no file is there.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads an imported list. Nothing is waited for, and no more is read than a list can have.
fn read_file(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(LIST_LIMIT as u64 + 1).read_to_string(&mut text)?;
    match text.len() > LIST_LIMIT {
        true => Err(io::Error::other("it is too long for a list of models")),
        false => Ok(text),
    }
}

/// Unix time of a file's last change.
fn changed(path: &Path) -> Option<u64> {
    let time = fs::metadata(path).ok()?.modified().ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// A day, and how long ago it was: `2025-10-16 (406 days ago)`.
fn day(time: u64) -> String {
    const DAY: u64 = 24 * 60 * 60;
    /// The last second of the year 9999: later ones cannot be written.
    const END: u64 = 253_402_300_799;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = time.min(END);
    let date =
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time)).to_string();
    let date = date.split('T').next().unwrap_or_default();
    let age = (now / DAY).saturating_sub(time / DAY);
    match age {
        0 => format!("{date} (today)"),
        1 => format!("{date} (yesterday)"),
        days => format!("{date} ({days} days ago)"),
    }
}
