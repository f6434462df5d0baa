//! Numbers as JSON has them: of any size, and equal if their values are (`1` and `1.0`).
//!
//! serde_json holds an integer beyond 64 bits as the double next to it. Where that could decide,
//! nothing is said (`None`).

use std::cmp::Ordering;

use serde_json::Number;

/// From here on neighbouring doubles are further apart than integers.
const INTEGERS_END: f64 = 9_007_199_254_740_992.0;

/// Compares two numbers by value; `None` if that cannot be told.
pub fn compare(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        (Some(left), None) => compare_mixed(left, right.as_f64()?),
        (None, Some(right)) => compare_mixed(right, left.as_f64()?).map(Ordering::reverse),
        (None, None) => {
            let (left, right) = (left.as_f64()?, right.as_f64()?);
            let order = left.partial_cmp(&right)?;
            (order.is_ne() || left.abs() < INTEGERS_END).then_some(order)
        }
    }
}

fn compare_mixed(integer: i128, number: f64) -> Option<Ordering> {
    // A cast beyond the ends of `i128` stops there, which is beyond all 64-bit integers too.
    let below = number.floor() as i128;
    let order = integer.cmp(&below);
    Some(if order.is_eq() && number.fract() != 0.0 { Ordering::Less } else { order })
}

/// True if a number is a whole multiple of another, reckoned in decimals as they are written; `None` if that
/// cannot be told, or `of` is not above 0.
pub fn is_multiple(number: &Number, of: &Number) -> Option<bool> {
    let (value, power) = decimal(number)?;
    let (divisor, divisor_power) = decimal(of)?;
    if divisor == 0 || of.as_f64()? < 0.0 {
        return None;
    }
    let shift = power - divisor_power;
    if shift < 0 {
        let scale = 10u128.checked_pow(shift.unsigned_abs());
        let scaled = scale.and_then(|scale| scale.checked_mul(divisor));
        return Some(scaled.map_or(value == 0, |scaled| value % scaled == 0));
    }
    Some((0..shift).fold(value % divisor, |left, _| left * 10 % divisor) == 0)
}

/// Returns a number without its sign, as a 64-bit integer and a power of ten; `None` if it has more digits.
fn decimal(number: &Number) -> Option<(u128, i32)> {
    if !number.is_i64() && !number.is_u64() && number.as_f64()?.abs() >= INTEGERS_END {
        return None;
    }
    let text = number.to_string();
    let (digits, power) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let mut digits = digits.bytes().filter(u8::is_ascii_digit);
    let value = digits.try_fold(0u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    let power: i32 = power.parse().ok()?;
    Some((value.into(), power - i32::try_from(fraction).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn numbers_are_compared_by_value_whatever_holds_them() {
        use Ordering::{Equal, Greater, Less};
        for (left, right, order) in [
            ("1", "1.0", Some(Equal)),
            ("1", "1.5", Some(Less)),
            ("-1", "-1.5", Some(Greater)),
            ("0", "-0.0", Some(Equal)),
            ("9007199254740993", "9007199254740992.0", Some(Greater)),
            ("18446744073709551615", "18446744073709551616", Some(Less)),
            ("-9223372036854775808", "-1e300", Some(Greater)),
            ("0.1", "0.1", Some(Equal)),
            ("1e300", "2e300", Some(Less)),
            ("18446744073709551616", "18446744073709551617", None),
        ] {
            let (left, right) = (number(left), number(right));
            assert_eq!(compare(&left, &right), order, "{left} {right}");
            assert_eq!(compare(&right, &left), order.map(Ordering::reverse), "{right} {left}");
        }
    }

    #[test]
    fn multiples_are_reckoned_in_decimals() {
        for (value, of, expected) in [
            ("0.0075", "0.0001", Some(true)),
            ("0.00751", "0.0001", Some(false)),
            ("19.99", "0.01", Some(true)),
            ("0.3", "0.1", Some(true)),
            ("-4.5", "1.5", Some(true)),
            ("35", "1.5", Some(false)),
            ("12391239123", "1e-8", Some(true)),
            ("1", "1e-300", Some(true)),
            ("1e-300", "3", Some(false)),
            ("0", "7", Some(true)),
            ("0.0", "7", Some(true)),
            ("18446744073709551615", "5", Some(true)),
            ("18446744073709551615", "2", Some(false)),
            ("1e308", "7", None),
            ("7", "0", None),
            ("7", "-7", None),
        ] {
            let (value, of) = (number(value), number(of));
            assert_eq!(is_multiple(&value, &of), expected, "{value} {of}");
        }
    }
}
