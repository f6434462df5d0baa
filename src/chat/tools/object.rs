//! Finds the end of a JSON object that arrives a character at a time.

/// Follows an object from its opening brace to the closing one. It does not check that the contents
/// are JSON, but recognises strings, since braces in them do not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObjectEnd {
    /// Number of open braces and brackets.
    depth: usize,
    in_string: bool,
    /// True directly after a backslash in a string.
    escaped: bool,
}

impl ObjectEnd {
    /// Appends the next character to `out`; true if it closes the object. Models write raw line
    /// breaks into strings, which JSON does not allow: those are escaped.
    pub fn push(&mut self, c: char, out: &mut String) -> bool {
        if self.in_string {
            self.push_in_string(c, out);
            return false;
        }
        out.push(c);
        match c {
            '"' => self.in_string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }

    fn push_in_string(&mut self, c: char, out: &mut String) {
        match c {
            '\n' if !self.escaped => out.push_str("\\n"),
            '\t' if !self.escaped => out.push_str("\\t"),
            '\r' if !self.escaped => out.push_str("\\r"),
            _ => out.push(c),
        }
        self.in_string = c != '"' || self.escaped;
        self.escaped = c == '\\' && !self.escaped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object_in(text: &str) -> Option<String> {
        let (mut end, mut out) = (ObjectEnd::default(), String::new());
        text.chars().any(|c| end.push(c, &mut out)).then_some(out)
    }

    #[test]
    fn the_closing_brace_is_found_past_strings_escapes_and_nesting() {
        for object in ["{}", r#"{"a":{"b":[1,{}]}}"#, r#"{"a":"}\"}\\"}"#, r#"{ "{": "é😀" }"#] {
            let text = format!("{object} and }}");
            assert_eq!(object_in(&text).as_deref(), Some(object));
        }
        for open in ["{", r#"{"a":"}"#, r#"{"a":"\"}"#, r#"{"a":[}"#] {
            assert_eq!(object_in(open), None, "{open}");
        }
    }

    #[test]
    fn line_breaks_in_strings_become_valid_json() {
        let object = object_in("{\n\"a\": \"x\n\ty\"}").unwrap();
        assert_eq!(object, "{\n\"a\": \"x\\n\\ty\"}");
        assert!(serde_json::from_str::<serde_json::Value>(&object).is_ok());
    }
}
