//! The origins of settings' values, so that messages name the flag, variable or file that the person has
//! used.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;

use super::{BadSetting, variable_of};

/// The origin of a setting's value. The first of these that has one wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Variable,
    /// The configuration file, and the line in it.
    File(PathBuf, usize),
    /// Nobody has set it.
    Default,
}

/// A setting with the value that counts, for people to read.
#[derive(Clone, Debug)]
pub struct Counting {
    /// The setting's name.
    pub setting: String,
    /// Its value; `None` if there is none.
    pub value: Option<String>,
    /// Where that is from.
    pub origin: Origin,
}

/// A secret that stands in the configuration file.
#[derive(Clone)]
pub struct FileSecret {
    /// The secret, as it is written there.
    pub text: String,
    /// Where it stands.
    pub origin: Origin,
}

/// Where the values of all settings are from, and the secrets of the configuration file. Cheap to
/// clone.
#[derive(Clone, Default)]
pub struct Given(Arc<Parts>);

/// The contents of [`Given`].
#[derive(Default)]
pub struct Parts {
    /// All settings, in the order of `--help`.
    pub settings: Vec<Counting>,
    /// The configuration file's secrets, by key.
    pub secrets: BTreeMap<&'static str, FileSecret>,
    /// Warnings of what was read, for people.
    pub warnings: Vec<String>,
}

impl Given {
    pub(super) fn new(parts: Parts) -> Given {
        Given(Arc::new(parts))
    }

    /// The origins of values for a command line of only these flags.
    #[cfg(test)]
    pub(super) fn of_flags(flags: &[&str]) -> Given {
        let names = flags.iter().filter_map(|flag| flag.strip_prefix("--"));
        let given = |name: &str| Counting {
            setting: name.replace('-', "_"),
            value: None,
            origin: Origin::Flag,
        };
        Given::new(Parts { settings: names.map(given).collect(), ..Parts::default() })
    }

    /// All settings, in the order of `--help`.
    pub fn settings(&self) -> &[Counting] {
        &self.0.settings
    }

    /// Warnings of what was read, for people.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// A secret of the configuration file.
    pub fn secret(&self, key: &str) -> Option<&FileSecret> {
        self.0.secrets.get(key)
    }

    /// The name that the setting was given by: its flag, its variable, or its place in the file. One
    /// that nobody has set is named by its variable.
    pub fn name(&self, setting: &str) -> String {
        let found = self.0.settings.iter().find(|counting| counting.setting == setting);
        found.map_or(&Origin::Default, |counting| &counting.origin).name(setting)
    }

    /// The error for a value that cannot be used.
    pub fn bad(&self, setting: &str, why: impl Display) -> BadSetting {
        BadSetting(format!("{}: {why}", self.name(setting)))
    }
}

impl Origin {
    /// The name of a setting that is from here.
    pub fn name(&self, setting: &str) -> String {
        match self {
            Origin::Flag => format!("--{}", setting.replace('_', "-")),
            Origin::File(path, line) => format!("{}:{line}: {setting}", path.display()),
            Origin::Variable | Origin::Default => variable_of(setting),
        }
    }
}

/// Without secrets.
impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Given").field(&self.0.settings).finish()
    }
}
