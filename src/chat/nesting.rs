//! How deep JSON may be nested to be read.

/// The deepest nesting that is read, the outermost value counted: more could exhaust a thread's stack.
/// It is serde_json's own limit, which cannot be changed but only be removed.
pub const DEEPEST: usize = 127;

/// True if text was not read because it is nested deeper than [`DEEPEST`]; whether it is JSON is not
/// known then.
pub fn is_too_deep(error: &serde_json::Error) -> bool {
    // serde_json has no other sign of it: its category is that of a wrong character.
    error.to_string().starts_with("recursion limit exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn the_deepest_nesting_is_read_and_one_level_more_is_told_from_what_is_no_json() {
        assert!(serde_json::from_str::<Value>(&nested(DEEPEST)).is_ok());
        for (text, expected) in
            [(nested(DEEPEST + 1), true), ("[".repeat(100_000), true), ("[1,]".to_owned(), false)]
        {
            let error = serde_json::from_str::<Value>(&text).unwrap_err();
            assert_eq!(is_too_deep(&error), expected);
        }
    }
}
