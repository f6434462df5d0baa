//! Reads `\uXXXX`, the only escape of JSON strings that is read by hand: serde_json refuses halves of
//! surrogate pairs, which clients and LangFast send all the same.

/// The UTF-16 unit of the `\uXXXX` that `raw` begins with; `None` if it begins with anything else.
pub fn utf16_unit(raw: &[u8]) -> Option<u32> {
    let digits = raw.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + (*digit as char).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::utf16_unit;

    #[test]
    fn a_unit_has_four_hexadecimal_digits_and_nothing_else() {
        assert_eq!(utf16_unit(br"\u00e9 and more"), Some(0xE9));
        assert_eq!(utf16_unit(br"\uD83D"), Some(0xD83D));
        for other in [&br"\u00e"[..], br"\u+0e9", br"\u00g9", br"\n0000", br"u00e9", b""] {
            assert_eq!(utf16_unit(other), None, "{}", other.escape_ascii());
        }
    }
}
