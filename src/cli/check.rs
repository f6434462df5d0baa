//! Checks the configuration as a whole before it is used: for the server's start, `--check-config`, and the
//! doctor.

use std::fmt;

use crate::chat::models::Models;
use crate::chat::models::shutdowns::Day;
use crate::config::given::{Given, Origin};
use crate::config::model_list::{LoadedModels, ModelList};
use crate::config::secrets::Secret;
use crate::config::{BadSetting, FittedLimits, Settings};
use crate::langfast::LangFast;
use crate::server::access::Access;
use crate::server::listen;
use crate::server::peers::Peers;

/// Shown in place of a value that is private.
const MASK: &str = "********";
/// Settings whose values are not shown.
const MASKED: [&str; 1] = ["anon_key"];

/// A configuration that has been checked. Its `Display` is for people to read.
pub struct Checked {
    /// The models.
    pub models: Models,
    /// The list that the models are from.
    pub list: ModelList,
    /// The access rules.
    pub access: Access,
    /// The client of LangFast, which has sent nothing yet.
    pub langfast: LangFast,
    /// The other instances behind the same proxy.
    pub peers: Peers,
    /// The limits, lowered to fit into the memory.
    pub limits: FittedLimits,
    listen: Vec<String>,
    given: Given,
    /// The name and origin of each secret that is set.
    secrets: Vec<(&'static str, String)>,
}

/// Reads all settings and the files that they name. Nothing is written, bound or asked of LangFast.
///
/// # Errors
/// The first setting that cannot be used.
pub fn check(settings: &Settings) -> Result<Checked, BadSetting> {
    let LoadedModels { models, list } = settings.model_source().read()?;
    let access = Access::of(&settings.clients)?;
    listen::check(&settings.serving, &access)?;
    let peers = Peers::of(&settings.serving)?;
    let limits = FittedLimits::of(&settings.limits)?;
    let langfast = LangFast::new(&settings.langfast)?;
    let secrets = [
        ("api_keys", settings.clients.api_keys()?),
        ("password", settings.langfast.password()?),
        ("refresh_token", settings.langfast.refresh_token()?),
    ];
    let place = |(name, secret): (_, Option<Secret>)| Some((name, secret?.source));
    let secrets = secrets.into_iter().filter_map(place).collect();
    let (listen, given) = (settings.serving.listen.clone(), settings.given.clone());
    Ok(Checked { models, list, access, langfast, peers, limits, listen, given, secrets })
}

impl Checked {
    /// Returns one line that says where the server would listen, whether it asks for a key, and which models
    /// it has.
    pub fn summary(&self) -> String {
        let keys = match self.access.has_keys() {
            true => "an API key is asked for",
            false => "no API key is asked for",
        };
        format!("it would listen on {}; {keys}; {}", self.listen.join(" and "), self.list,)
    }

    /// Returns the name, value and origin of each setting that has a value.
    fn rows(&self) -> Vec<[String; 3]> {
        let settings = self.given.settings().iter().filter_map(|counting| {
            let value = match counting.setting.as_str() {
                name if MASKED.contains(&name) => MASK.to_owned(),
                "state_dir" => self.langfast.session().path().parent()?.display().to_string(),
                name => self.limits.shown(name).or_else(|| counting.value.clone())?,
            };
            let origin = match &counting.origin {
                Origin::Flag => "flag".to_owned(),
                Origin::Variable => "variable".to_owned(),
                Origin::File(path, line) => format!("{}:{line}", path.display()),
                Origin::Default => match self.limits.lowered_by {
                    Some(memory) if self.limits.shown(&counting.setting).is_some() => {
                        format!("fit for {memory}")
                    }
                    _ => "default".to_owned(),
                },
            };
            Some([counting.setting.clone(), value, origin])
        });
        let secret =
            |(name, source): &(&str, String)| [(*name).to_owned(), MASK.to_owned(), source.clone()];
        settings.chain(self.secrets.iter().map(secret)).collect()
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outlook = self.langfast.session().outlook();
        write!(f, "configuration is sound: {}; as {}", self.summary(), outlook.who)?;
        let warnings = self.given.warnings().iter().chain(self.list.remarks());
        let warnings = warnings.chain(&outlook.warnings);
        warnings.into_iter().try_for_each(|warning| write!(f, "\nbut {warning}"))?;
        let of_models = self.models.warnings(&Day::today());
        of_models.iter().try_for_each(|warning| write!(f, "\nbut {warning}"))?;
        let rows = self.rows();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let [names, values] = [0, 1].map(|column| width(column).unwrap_or(0));
        rows.iter().try_for_each(|[name, value, origin]| {
            write!(f, "\n{name:names$}  {value:values$}  {origin}")
        })
    }
}
