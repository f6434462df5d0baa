//! Checks the environment's `LANGFAST2API_*` variables. A misspelt one would set nothing, and a server that
//! was meant to ask for a key would let everybody in.

use std::env;

use super::secrets::CREDENTIALS_FROM;
use super::{BadSetting, variable_of};

/// The beginning of every variable's name that is a setting here.
pub const PREFIX: &str = "LANGFAST2API_";

/// The secrets that only the environment, files and credentials hold: there are no flags for them.
const SECRETS: [&str; 3] =
    ["LANGFAST2API_API_KEYS", "LANGFAST2API_PASSWORD", "LANGFAST2API_REFRESH_TOKEN"];
/// Variables that a unit of systemd sets about itself, and where `get.sh` has releases from: no settings of
/// the server's.
const OF_OTHERS: [&str; 2] = [CREDENTIALS_FROM, "LANGFAST2API_RELEASES"];

/// Refuses a variable that begins with our prefix and is not a setting, even if it is empty: whoever wrote it
/// expects an effect.
///
/// # Errors
/// Names the variable, and the one that is spelt most alike.
pub fn check() -> Result<(), BadSetting> {
    let known = known();
    let all = env::vars_os().map(|(name, value)| {
        (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
    });
    let ours = all.filter(|(name, _)| name.to_ascii_uppercase().starts_with(PREFIX));
    let mut unknown = ours.filter(|(name, value)| {
        !known.contains(name) && !is_of_kubernetes(&name[PREFIX.len()..], value)
    });
    let Some((name, _)) = unknown.next() else { return Ok(()) };
    let advice = match nearest(&name, known.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "`langfast2api --help` lists all".to_owned(),
    };
    Err(BadSetting(format!("{name}: there is no such setting; {advice}")))
}

fn known() -> Vec<String> {
    let settings = super::settings().map(|arg| variable_of(arg.get_id().as_str()));
    settings.chain(SECRETS.into_iter().chain(OF_OTHERS).map(str::to_owned)).collect()
}

/// Returns the name in `known` that differs least from `name`; `None` if half of its letters differ.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bare = |name: &str| name.to_ascii_uppercase().replace(PREFIX, "").replace('-', "_");
    let asked = bare(name);
    let distance = |known: &str| {
        let known = bare(known);
        let most = known.len().max(asked.len()) / 2;
        Some(strsim::osa_distance(&asked, &known)).filter(|distance| *distance <= most)
    };
    let near = known.filter_map(|known| Some((distance(known)?, known)));
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// True if Kubernetes has set the variable: it sets some in every container for each service, and those of a
/// service named `langfast2api` or `langfast2api-…` begin with our prefix.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let after = |mark: &str| name.rfind(mark).map(|at| &name[at + mark.len()..]);
    let name_ends = |ending: &str| format!("_{name}").ends_with(ending);
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_port_part = || {
        let port = name.strip_prefix("PORT_").or_else(|| after("_PORT_"));
        let mut parts = port.unwrap_or_default().split('_');
        is_number(parts.next().unwrap_or_default())
            && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
            && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
    };
    name_ends("_SERVICE_HOST")
        || name_ends("_SERVICE_PORT")
        || format!("_{name}").contains("_SERVICE_PORT_")
        || (name_ends("_PORT") && is_url)
        || is_port_part()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_scripts_take_from_the_environment_keeps_no_server_from_starting() {
        let (script, known) = (include_str!("../../scripts/packages/get.sh"), known());
        let is_of_name = |letter: char| letter.is_ascii_uppercase() || letter == '_';
        let names: Vec<String> = script
            .split(PREFIX)
            .skip(1)
            .map(|rest| format!("{PREFIX}{}", &rest[..rest.find(|at| !is_of_name(at)).unwrap()]))
            .collect();
        assert!(!names.is_empty() && names.iter().all(|name| known.contains(name)), "{names:?}");
    }

    #[test]
    fn the_nearest_name_is_the_one_with_the_fewest_other_letters() {
        let known = known();
        let nearest = |name: &str| nearest(name, known.iter().map(String::as_str));
        assert_eq!(nearest("LANGFAST2API_API_KEY"), Some("LANGFAST2API_API_KEYS"));
        assert_eq!(nearest("LANGFAST2API_MAXBODY"), Some("LANGFAST2API_MAX_BODY"));
        assert_eq!(nearest("langfast2api_listen"), Some("LANGFAST2API_LISTEN"));
        assert_eq!(nearest("LANGFAST2API_TOKEN_REFRESHMENT_SECRET"), None);
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_of_our_name_is_not_ours() {
        for (name, value) in [
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_PORT", "8000"),
            ("SERVICE_PORT_HTTP", "8000"),
            ("PORT", "tcp://10.0.0.1:8000"),
            ("PORT_8000_TCP", "tcp://10.0.0.1:8000"),
            ("PORT_8000_TCP_ADDR", "10.0.0.1"),
            ("CANARY_SERVICE_HOST", "10.0.0.1"),
            ("CANARY_PORT_8000_TCP_PROTO", "tcp"),
        ] {
            assert!(is_of_kubernetes(name, value), "{name}");
        }
        for name in ["PORT", "HOST", "SERVICE", "API_KEY", "PORT_TCP"] {
            assert!(!is_of_kubernetes(name, "8000"), "{name}");
        }
    }
}
