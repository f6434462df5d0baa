//! Recognises a secret that was seen before without keeping it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::sha256;

/// Bytes of the hash that are kept. A secret has one fingerprint for each salt, and shares it with one
/// in 16 million other secrets: whoever reads it learns 24 bits of the secret, too few to find even a
/// password, and a new token is mistaken for an old one less often than once in a million.
const KEPT: usize = 3;

/// A truncated, salted SHA-256 of a secret: enough to recognise the secret, too little to find it. As
/// text: the salt, a colon, and hexadecimal digits.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// A fingerprint of `secret`, with a new salt.
    pub fn of(secret: &str) -> Fingerprint {
        Fingerprint::salted(&Uuid::new_v4().simple().to_string(), secret)
    }

    /// Whether this is a fingerprint of `secret`.
    pub fn is_of(&self, secret: &str) -> bool {
        let salt = self.0.split(':').next().unwrap_or_default();
        Fingerprint::salted(salt, secret) == *self
    }

    fn salted(salt: &str, secret: &str) -> Fingerprint {
        let digest = sha256([salt.as_bytes(), secret.as_bytes()]);
        let kept = digest.iter().take(KEPT).map(|byte| format!("{byte:02x}"));
        Fingerprint(format!("{salt}:{}", kept.collect::<String>()))
    }
}

/// A number that tells `secret` from all others, and from 0, for as long as the salt is the same: 64 bits of
/// its salted SHA-256. Whoever knows the salt can tell whether a guess is right.
pub fn mark(salt: &str, secret: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = sha256([salt.as_bytes(), secret.as_bytes()]);
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_recognised_and_no_other_is() {
        let fingerprint = Fingerprint::of("token");
        assert!(fingerprint.is_of("token"));
        for other in ["", "tokem", "token ", "Token"] {
            assert!(!fingerprint.is_of(other), "{other}");
        }
        assert_ne!(Fingerprint::of("token"), fingerprint, "each has its own salt");
        assert_eq!(mark("salt", "key"), mark("salt", "key"));
        assert_ne!(mark("salt", "key"), mark("salt", "other"));
        assert_ne!(mark("salt", "key"), mark("other", "key"));
    }

    #[test]
    fn it_holds_24_bits_of_what_it_was_made_of() {
        let text = serde_json::to_string(&Fingerprint::of("a secret")).unwrap();
        let (salt, rest) = text.trim_matches('"').split_once(':').unwrap();
        assert_eq!((salt.len(), rest.len()), (32, 6), "{text}");
    }

    #[test]
    fn a_damaged_one_is_nobodys() {
        for text in ["\"\"", "\":\"", "\"salt:\"", "\"salt\""] {
            let damaged: Fingerprint = serde_json::from_str(text).unwrap();
            assert!(!damaged.is_of("") && !damaged.is_of("token"), "{text}");
        }
    }
}
