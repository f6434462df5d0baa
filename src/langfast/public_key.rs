//! LangFast's publishable ("anon") key, as a setting: what may be used as one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Checks a key that is to be used as LangFast's publishable one.
///
/// # Errors
/// In words that do not hold the key: it is none, or a secret one, which must never be used here.
pub fn check(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("it is empty; leave the setting out for the key that is built in");
    }
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !key.bytes().all(is_of_token) {
        return Err(
            "a key has letters, digits and a few signs only: give the value of the header alone, \
                    without its name and without quotes",
        );
    }
    if key.starts_with("sb_secret_") || role_of(key).is_some_and(|role| role == "service_role") {
        return Err(
            "this is a secret key of a Supabase project, which gives full rights over it and \
                    must not leave its owner's servers; set the publishable one, which the web page \
                    sends in its header `apikey`",
        );
    }
    Ok(())
}

/// The role in a legacy key, which is a JWT (known of Supabase).
fn role_of(key: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        role: String,
    }
    let claims = URL_SAFE_NO_PAD.decode(key.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&claims).ok().map(|claims| claims.role)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(role: &str) -> String {
        let claims = format!(r#"{{"iss":"supabase","role":"{role}"}}"#);
        format!("eyJhbGciOiJIUzI1NiJ9.{}.signature", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn publishable_keys_of_both_kinds_are_taken_and_secret_ones_are_not() {
        let anon = jwt("anon");
        for key in ["sb_publishable_abc", &anon, "eyJhbGciOiJIUzI1NiJ9.no-claims.x", "any-word"] {
            assert_eq!(check(key), Ok(()), "{key}");
        }
        let service_role = jwt("service_role");
        for key in ["sb_secret_abc", &service_role] {
            assert!(check(key).unwrap_err().contains("secret key"), "{key}");
        }
        for key in
            ["two words", "line\nbreak", "é", "'sb_publishable_abc'", "apikey:sb_publishable_abc"]
        {
            assert!(check(key).unwrap_err().contains("letters"), "{key}");
        }
        assert!(check("").unwrap_err().contains("empty"));
    }
}
