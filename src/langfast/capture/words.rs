//! Tells a word of a protocol from what may be a secret, by its letters alone.

/// Longest word that is shown without being known, in bytes.
const LONGEST: usize = 40;
/// Most parts of such a word, between its separators.
const MOST_PARTS: usize = 6;
/// Longest part, in letters.
const LONGEST_PART: usize = 16;
/// Most digits of a word, and of a model's name.
const MOST_DIGITS: (usize, usize) = (4, 10);

/// For each letter from `a` on, those that follow it in English words and abbreviations of them.
const FOLLOWERS: [&str; 26] = [
    "bcdefghiklmnpqrstuvwxyz",
    "abeijlorsuy",
    "acehiklorstuy",
    "adefgilmorsuvy",
    "abcdefghiklmnopqrstuvwxyz",
    "aefilorstuy",
    "aeghilnoprsuy",
    "aeilnortuy",
    "abcdefgklmnopqrstvxz",
    "aeou",
    "aeiklnosy",
    "abcdefgiklmoprstuvwy",
    "abeilmnopsuy",
    "acdefgiklnoprstuvwy",
    "abcdefgiklmnoprstuvwxyz",
    "aehilmoprstuy",
    "u",
    "abcdefgiklmnoprstuvwy",
    "acehiklmnopqrstuwy",
    "acdefhilmnoprstuwyz",
    "abcdefgilmnoprstvx",
    "aeio",
    "aehiklnorsx",
    "aceiptuy",
    "aceilmnoprstw",
    "aeioyz",
];

/// Whether `text` is like an identifier that people have made up: `in_progress`, `execution:chunk`,
/// `BOOT_ERROR`, `sentAt`, `v2`.
pub fn is_word(text: &str) -> bool {
    is_made_of_parts(text, MOST_DIGITS.0, is_part)
}

/// Whether `text` is like a model's name, in which digits may stand alone: `gpt-4o-2024-08-06`.
pub fn is_model(text: &str) -> bool {
    let is_number = |part: &str| part.len() <= 8 && part.bytes().all(|b| b.is_ascii_digit());
    let has_version = |part: &str| part.len() <= 3;
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && is_made_of_parts(text, MOST_DIGITS.1, |part| {
            is_part(part) || is_number(part) || has_version(part)
        })
}

/// Whether `text` is like a short code, of SQL for one: `22023`, `PGRST301`, `P0001`.
pub fn is_code(text: &str) -> bool {
    let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
    letters <= 5
        && (3..=5).contains(&(text.len() - letters))
        && text.bytes().skip(letters).all(|b| b.is_ascii_digit())
}

fn is_made_of_parts(text: &str, most_digits: usize, is_part: impl Fn(&str) -> bool) -> bool {
    let is_in_charset = |b: u8| b.is_ascii_alphanumeric() || b"_:.-/".contains(&b);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if text.is_empty() || text.len() > LONGEST || digits > most_digits {
        return false;
    }
    let parts = parts(text);
    text.bytes().all(is_in_charset)
        && parts.len() <= MOST_PARTS
        // Letters and digits that change at every turn are no words.
        && parts.iter().map(String::len).sum::<usize>() > 2 * parts.len().saturating_sub(1)
        && parts.iter().any(|part| part.bytes().any(|b| b.is_ascii_alphabetic()))
        && parts.iter().all(|part| is_part(part))
}

/// The parts of a name, in small letters: between separators, and at the capitals of `camelCase`.
pub fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut last = '_';
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && last.is_ascii_lowercase()) {
            parts.push(String::new());
        }
        if c.is_ascii_alphanumeric() {
            parts.last_mut().expect("one is there").push(c.to_ascii_lowercase());
        }
        last = c;
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Whether a part is letters that can be said, with up to two digits behind them, or a short number.
fn is_part(part: &str) -> bool {
    let letters = part.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = part.len() - letters.len();
    if !letters.bytes().all(|b| b.is_ascii_lowercase()) || letters.len() > LONGEST_PART {
        return false;
    }
    match letters.len() {
        0 => digits <= 3,
        1..=3 => digits <= 2,
        _ => digits <= 2 && !is_hex_like(letters) && can_be_said(letters),
    }
}

fn is_hex_like(letters: &str) -> bool {
    letters.len() >= 6 && letters.bytes().all(|b| b.is_ascii_hexdigit())
}

fn can_be_said(letters: &str) -> bool {
    let is_vowel = |b: &u8| b"aeiouy".contains(b);
    let bytes = letters.as_bytes();
    let vowels = bytes.iter().filter(|b| is_vowel(b)).count();
    let has_run = |length: usize, vowels: bool| {
        bytes.windows(length).any(|run| run.iter().all(|b| is_vowel(b) == vowels))
    };
    let follows =
        |pair: &[u8]| FOLLOWERS[usize::from(pair[0] - b'a')].as_bytes().contains(&pair[1]);
    vowels * 7 >= letters.len()
        && !has_run(5, false)
        && !has_run(5, true)
        && bytes.windows(2).all(follows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_make_up_are_words() {
        for word in [
            "in_progress",
            "completed",
            "execution:progress",
            "run.finished",
            "BOOT_ERROR",
            "sentAt",
            "UNAUTHORIZED_LEGACY_JWT",
            "v2",
            "queue",
            "tool_calls",
            "wrapped_up",
            "rateLimited",
            "max_output_tokens",
            "prompt_tokens",
            "streaming",
            "aborted",
            "timed_out",
            "content-filter",
            "cost",
            "id",
        ] {
            assert!(is_word(word), "{word}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_no_word() {
        for secret in [
            "",
            "4nygjzqcsvyb",
            "deadbeef",
            "d41d8cd98f00b204e9800998ecf8427e",
            "aGVsbG8gd29ybGQ",
            "eyJhbGciOiJIUzI1NiJ9",
            "550e8400-e29b-41d4-a716-446655440000",
            "sk-proj-Ab3dE9",
            "hunter2000000",
            "two words",
            "me@example.com",
            "xkqzvbnm",
            "naïve",
            "k3j2h4g5",
            "averyveryverylongwordindeed",
            "a_b_c_d_e_f_g_h",
            "qQwWeErRtT",
        ] {
            assert!(!is_word(secret), "{secret}");
        }
    }

    #[test]
    fn models_have_more_digits_and_codes_have_few_letters() {
        for model in
            ["gpt-4o-2024-08-06", "gpt-5.6-sol", "o9", "claude-opus-4-1-20250805", "gpt-4o"]
        {
            assert!(is_model(model), "{model}");
        }
        for other in ["550e8400-e29b-41d4-a716-446655440000", "20250805", "4nygjzqcsvyb"] {
            assert!(!is_model(other), "{other}");
        }
        for code in ["22023", "PGRST301", "P0001", "42501", "404"] {
            assert!(is_code(code), "{code}");
        }
        for other in ["1", "1234567", "SECRET12345", "ABCDEF123"] {
            assert!(!is_code(other), "{other}");
        }
    }
}
