//! Origins of web pages, as the operator writes them and as browsers send them.

/// An allowed origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every origin.
    Any,
    /// This origin, as browsers write it.
    Origin(String),
}

impl Allowed {
    pub fn read(setting: &str) -> Result<Allowed, String> {
        let origin = setting.trim().trim_end_matches('/').to_ascii_lowercase();
        match origin.as_str() {
            "*" => return Ok(Allowed::Any),
            // Browsers send this for pages from files and sandboxed frames.
            "null" => return Ok(Allowed::Origin(origin)),
            // What the windows of some desktop programs send; its slashes are trimmed above.
            "file:" => return Ok(Allowed::Origin("file://".to_owned())),
            _ => {}
        }
        match origin.split_once("://") {
            Some((scheme, authority)) if is_scheme(scheme) && is_authority(authority) => {
                let default_port = match scheme {
                    "http" => ":80",
                    "https" => ":443",
                    _ => "",
                };
                let short = origin.strip_suffix(default_port).unwrap_or(&origin);
                Ok(Allowed::Origin(short.to_owned()))
            }
            _ => Err(format!(
                "`{}` is no origin as browsers send it: write SCHEME://HOST or SCHEME://HOST:PORT \
                 without a path, `null`, or `*`",
                setting.trim()
            )),
        }
    }
}

fn is_scheme(scheme: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(rest)
}

/// True if browsers write a host and port in this form.
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| {
        port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
    };
    !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@*\\".contains(&byte))
        && (host.starts_with('[') || !host.contains(':'))
        && port.is_none_or(is_port)
}
