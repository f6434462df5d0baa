//! The parts of this build and their ages, for `--version` and for the doctor.

use std::env::consts::{ARCH, OS};
use std::time::{Duration, SystemTime};

use crate::chat::models::BUILT_IN;
use crate::chat::models::import::as_of;
use crate::chat::models::shutdowns::Day;
use crate::net::roots;

/// The commit that this is built from, and the target, which `scripts/build-static` sets; a plain build knows
/// neither.
const COMMIT: Option<&str> = option_env!("BUILD_COMMIT");
const TARGET: Option<&str> = option_env!("BUILD_TARGET");
/// Age in days at which OpenSSL is likely to have known faults.
const OLD_OPENSSL: u64 = 365;
/// Age in days at which certificates and models are likely to have changed.
const OLD_DATA: u64 = 730;

/// Returns the text of `--version`: the version, and a line for each part.
pub fn long() -> String {
    let mut lines = vec![concat!("langfast2api ", env!("CARGO_PKG_VERSION")).to_owned()];
    lines.extend(COMMIT.map(|commit| format!("commit: {commit}")));
    lines.push(format!("target: {}", TARGET.map_or(format!("{ARCH} {OS}"), str::to_owned)));
    let whose = if is_built_in() { "built in" } else { "the system's" };
    lines.push(format!("TLS: {}, {whose}", roots::library()));
    lines.push(format!(
        "root certificates, where the system has none: Mozilla's of {}",
        roots::AS_OF
    ));
    lines.push(format!("models, unless a list is imported: LangFast's of {}", models().as_str()));
    lines.join("\n")
}

/// The day of the commit that this is built from; if that is not known, the day of its newest part.
pub fn date() -> &'static str {
    let commit = COMMIT.and_then(|commit| commit.rsplit_once(", "));
    commit.map_or(roots::AS_OF, |(_, day)| day)
}

/// True if OpenSSL is part of the program.
fn is_built_in() -> bool {
    cfg!(feature = "vendored")
}

/// The day of LangFast's latest change to the built-in models.
fn models() -> Day {
    Day::of(SystemTime::UNIX_EPOCH + Duration::from_secs(as_of(BUILT_IN).unwrap_or(0)))
}

/// Describes each part that is in use and too old. The built-in models count only if they are `served`.
pub fn old(served: bool, now: SystemTime) -> Vec<String> {
    let openssl = is_built_in().then(|| date_in(roots::library())).flatten();
    let roots = roots::are_built_in_used().then(|| roots::AS_OF.to_owned());
    let models = served.then(|| models().as_str().to_owned());
    [
        ("OpenSSL", openssl, OLD_OPENSSL),
        ("the built-in root certificates", roots, OLD_DATA),
        ("the built-in models", models, OLD_DATA),
    ]
    .into_iter()
    .filter_map(|(what, date, days)| {
        let date = date.filter(|date| is_older(date, days, now))?;
        Some(format!("{what} of {date}"))
    })
    .collect()
}

fn is_older(date: &str, days: u64, now: SystemTime) -> bool {
    let then =
        now.checked_sub(Duration::from_secs(days * 86_400)).unwrap_or(SystemTime::UNIX_EPOCH);
    date < Day::of(then).as_str()
}

/// The date in OpenSSL's version (`OpenSSL 3.0.20 7 Apr 2026`), as `YYYY-MM-DD`.
fn date_in(version: &str) -> Option<String> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = version.split_whitespace().skip(2);
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let month = MONTHS.find(month).filter(|_| month.len() == 3)? / 3 + 1;
    let (day, year): (u8, u16) = (day.parse().ok()?, year.parse().ok()?);
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_tells_its_date() {
        assert_eq!(date_in("OpenSSL 3.0.20 7 Apr 2026").as_deref(), Some("2026-04-07"));
        for other in ["LibreSSL 4.0.0", "OpenSSL 3.0.20 7 Apr", "OpenSSL 3.0.20 x Apr 2026"] {
            assert_eq!(date_in(other), None, "{other}");
        }
        assert!(roots::library().contains("SSL"));
    }

    #[test]
    fn what_is_used_and_older_than_it_may_be_is_named() {
        let at = |day: &str| humantime::parse_rfc3339(&format!("{day}T00:00:00Z")).unwrap();
        assert!(old(true, at("2026-11-26")).iter().all(|what| !what.contains("models")));
        let late = at("2040-01-01");
        assert!(old(true, late).contains(&format!("the built-in models of {}", models().as_str())));
        assert!(old(false, late).iter().all(|what| !what.contains("models")));
        assert!(is_older("2024-11-25", 730, at("2026-11-26")));
        assert!(!is_older("2024-11-26", 730, at("2026-11-26")));
    }

    #[test]
    fn the_version_says_what_the_program_is_made_of() {
        let long = long();
        assert!(long.starts_with(concat!("langfast2api ", env!("CARGO_PKG_VERSION"), "\n")));
        for part in ["target: ", "TLS: ", "Mozilla's of 20", "LangFast's of 2025-10-16"] {
            assert!(long.contains(part), "{part}: {long}");
        }
    }
}
