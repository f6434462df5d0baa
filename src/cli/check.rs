//! The configuration as a whole, looked at before anything is done with it: for `--check-config` and
//! the doctor.

use std::fmt;

use crate::chat::models::Models;
use crate::config::{BadSetting, Settings};
use crate::langfast::LangFast;
use crate::server::access::Access;
use crate::server::listen;

/// A configuration that can be used. What it shows is for people to read.
pub struct Checked {
    /// The models.
    pub models: Models,
    /// Who may come in.
    pub access: Access,
    /// The way to LangFast, on which nothing has been asked yet.
    pub langfast: LangFast,
    listen: Vec<String>,
}

/// Reads all settings and the files that they name. Nothing is written, bound or asked of LangFast.
///
/// # Errors
/// The first setting that cannot be used.
pub fn check(settings: &Settings) -> Result<Checked, BadSetting> {
    let models = settings.read_models()?;
    let access = Access::of(settings)?;
    for address in &settings.listen {
        listen::check(address, &access)?;
    }
    settings.body_memory()?;
    let langfast = LangFast::new(settings)?;
    Ok(Checked { models, access, langfast, listen: settings.listen.clone() })
}

impl Checked {
    /// What would be served, where, to whom, in one line; not by whose account.
    pub fn summary(&self) -> String {
        let keys = match self.access.has_keys() {
            true => "an API key is asked for",
            false => "no API key is asked for",
        };
        format!(
            "it would listen on {}; {keys}; {} models",
            self.listen.join(" and "),
            self.models.iter().count(),
        )
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outlook = self.langfast.session().outlook();
        write!(f, "configuration is sound: {}; as {}", self.summary(), outlook.who)?;
        outlook.warnings.iter().try_for_each(|warning| write!(f, "\nbut {warning}"))
    }
}
