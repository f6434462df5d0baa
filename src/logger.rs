//! The log: one line a record on standard error, of this program's own modules only. Other crates'
//! records may hold what a log must not (tungstenite's hold whole messages), so none is let through.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use env_logger::{Builder, Target};

/// Starts logging as `levels` says: a level, or a list of `module=level`.
pub fn start(levels: &str) {
    let own = |target: &str| target.split("::").next() == Some(env!("CARGO_PKG_NAME"));
    Builder::new()
        .parse_filters(&with_full_names(levels))
        .target(Target::Stderr)
        .format(move |out, record| {
            if !own(record.target()) {
                return Ok(());
            }
            writeln!(out, "{} {:<5} {}", timestamp(), record.level(), record.args())
        })
        .init();
}

/// `langfast=debug` means this program's module of that name.
fn with_full_names(levels: &str) -> String {
    let full = |part: &str| match part.split_once('=') {
        Some((module, level)) if !module.starts_with(env!("CARGO_PKG_NAME")) => {
            format!("{}::{}={level}", env!("CARGO_PKG_NAME"), module.trim())
        }
        _ => part.to_owned(),
    };
    levels.split(',').map(full).collect::<Vec<_>>().join(",")
}

/// The time as RFC 3339, in UTC, to the millisecond.
fn timestamp() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day since the epoch, counted in years that begin in March, so that leap
/// days come last (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(19_782), (2024, 2, 29));
        assert_eq!(date(20_781), (2026, 11, 24));
    }

    #[test]
    fn a_bare_module_is_one_of_ours() {
        let full = with_full_names("info,langfast=debug,langfast2api::front=trace");
        assert_eq!(full, "info,langfast2api::langfast=debug,langfast2api::front=trace");
    }
}
