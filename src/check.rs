//! The configuration as a whole, looked at before anything is done with it: for `--check-config` and
//! the doctor.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use crate::access::Access;
use crate::config::{BadSetting, Settings};
use crate::langfast::LangFast;
use crate::models::Models;

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
    let access = settings.access()?;
    for address in &settings.listen {
        check_address(address, &access)?;
    }
    let langfast = LangFast::new(settings)?;
    Ok(Checked { models, access, langfast, listen: settings.listen.clone() })
}

/// Refuses an address to listen on that is neither `HOST:PORT` nor `unix:/path`.
///
/// # Errors
/// Names the setting.
pub fn check_form(address: &str) -> Result<(), BadSetting> {
    match address.contains(':') {
        true => Ok(()),
        false => Err(cannot_listen(address, &"write HOST:PORT or unix:/path/of/socket")),
    }
}

fn check_address(address: &str, access: &Access) -> Result<(), BadSetting> {
    check_form(address)?;
    if let Some(path) = address.strip_prefix("unix:") {
        return match Path::new(path).parent() {
            Some(directory) if directory.as_os_str().is_empty() || directory.is_dir() => Ok(()),
            _ => Err(cannot_listen(address, &"no such directory")),
        };
    }
    let found = address.to_socket_addrs().map_err(|e| cannot_listen(address, &e))?;
    found.into_iter().try_for_each(|address: SocketAddr| access.check_address(address))
}

fn cannot_listen(address: &str, why: &dyn fmt::Display) -> BadSetting {
    BadSetting(format!("LANGFAST2API_LISTEN: cannot listen on {address}: {why}"))
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
        let who = self.langfast.session().expected();
        write!(f, "configuration is sound: {}; as {who}", self.summary())
    }
}
