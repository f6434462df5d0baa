//! What the values of settings may be. Each message says what the setting takes.

use std::time::Duration;

/// Longest deadline that can be set, in seconds: a day.
const LONGEST: f64 = 86_400.0;
/// Longest time in minutes that can be set: thirty days.
const LONGEST_MINUTES: u32 = 43_200;
/// Longest body of a request that can be set, in MiB.
const LARGEST_BODY: u16 = 1024;

/// Seconds, with fractions.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= LONGEST => Ok(Duration::from_secs_f64(value)),
        _ => Err(format!("takes seconds, more than 0 and at most {LONGEST}")),
    }
}

/// Seconds, or 0 for what is switched off.
pub fn seconds_or_never(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => seconds(text),
    }
}

/// What to log.
pub fn levels(text: &str) -> Result<String, String> {
    let is_level = |part: &str| {
        let level = part.rsplit('=').next().unwrap_or(part).trim();
        level.parse::<log::LevelFilter>().is_ok()
    };
    match text.split(',').all(is_level) {
        true => Ok(text.to_owned()),
        false => Err("takes off, error, warn, info, debug or trace, or module=level,…".to_owned()),
    }
}

/// A count.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err("takes a whole number, at least 1".to_owned()),
    }
}

/// A size in MiB.
pub fn mib(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("takes a whole number of MiB, 1 to {}", u16::MAX)),
    }
}

/// A size in MiB, or 0 for none.
pub fn mib_or_none(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("takes a whole number of MiB, 0 to {}", u16::MAX))
}

/// Whole minutes.
pub fn minutes(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(value @ 1..=LONGEST_MINUTES) => Ok(Duration::from_secs(60 * u64::from(value))),
        _ => Err(format!("takes a whole number of minutes, 1 to {LONGEST_MINUTES}")),
    }
}

/// A body's size in MiB.
pub fn mib_of_one_body(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(number @ 1..=LARGEST_BODY) => Ok(number),
        _ => Err(format!("takes a whole number of MiB, 1 to {LARGEST_BODY}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_take_positive_seconds_with_fractions() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "1e9", "x", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds_or_never("0"), Ok(Duration::ZERO));
    }
}
