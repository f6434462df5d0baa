//! Reads numbers in unusual forms: with a fraction, too large, or as a string.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Reads a number of seconds, at least 1: with or without a fraction, or in quotes. Anything else is
/// `None`; a number that is too large becomes the largest.
///
/// # Errors
/// The input is not JSON.
pub fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    // Read as raw text, because serde_json rejects the whole document if a number in it fits no type.
    let text = Box::<RawValue>::deserialize(from)?;
    let number: Option<f64> = text.get().trim_matches('"').trim().parse().ok();
    Ok(number.filter(|seconds| *seconds >= 1.0).map(|seconds| seconds as u64))
}

/// Reads a Unix time as [`seconds`] does; returns 0 if there is none.
///
/// # Errors
/// The input is not JSON.
pub fn unix_time<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    seconds(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        #[serde(default, deserialize_with = "seconds")]
        number: Option<u64>,
    }

    #[test]
    fn seconds_are_read_from_whatever_they_are_written_as() {
        for (text, expected) in [
            ("3600", Some(3600)),
            ("3600.9", Some(3600)),
            ("3.6e3", Some(3600)),
            ("\"3600\"", Some(3600)),
            ("\" 3600.0 \"", Some(3600)),
            ("18446744073709551615", Some(u64::MAX)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("1e999", Some(u64::MAX)),
            ("0", None),
            ("0.5", None),
            ("-1", None),
            ("-1e999", None),
            ("null", None),
            ("true", None),
            ("\"\"", None),
            ("\"soon\"", None),
            ("\"NaN\"", None),
            ("[1]", None),
            ("{\"a\":1}", None),
        ] {
            let holder: Holder = serde_json::from_str(&format!("{{\"number\":{text}}}")).unwrap();
            assert_eq!(holder.number, expected, "{text}");
        }
        assert_eq!(serde_json::from_str::<Holder>("{}").unwrap().number, None);
    }
}
