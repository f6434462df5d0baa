//! The API keys that count now, and which of them a request brings.

use subtle::{Choice, ConstantTimeEq};

use crate::error::Error;
use crate::http::Head;

/// The message for a client that sends no key.
const NO_KEY: &str = "You didn't provide an API key. Send it as `Authorization: Bearer KEY`, \
                      `x-api-key: KEY` or `api-key: KEY`";
/// The message for a client whose key does not count.
const WRONG_KEY: &str = "Incorrect API key provided. This server takes its own keys alone: whoever runs it makes one \
                         with `langfast2api keys add NAME`";

/// The keys that count now.
#[derive(Default)]
pub struct KeyRing {
    keys: Vec<Key>,
    /// Number of keys that have ever counted: numbers are not used again.
    given_out: u64,
    /// Makes the mark of a key; `None` if keys are numbered.
    mark: Option<Mark>,
}

/// Makes a number of a key, not 0.
pub type Mark = Box<dyn Fn(&str) -> u64 + Send + Sync>;

/// A key that counts.
struct Key {
    /// The mark of its owner's stored responses.
    mark: u64,
    text: String,
}

impl KeyRing {
    /// Replaces the keys. One that has counted already keeps its mark, and its client what it has stored.
    pub fn replace(&mut self, texts: Vec<String>) {
        let mut former = std::mem::take(&mut self.keys);
        for text in texts {
            let at = former.iter().position(|key| key.text == text);
            let key = at.map(|at| former.swap_remove(at)).unwrap_or_else(|| self.key(text));
            self.keys.push(key);
        }
    }

    /// Makes all marks, present and future ones, by `mark`.
    pub fn mark_by(&mut self, mark: Mark) {
        self.keys.iter_mut().for_each(|key| key.mark = mark(&key.text));
        self.mark = Some(mark);
    }

    fn key(&mut self, text: String) -> Key {
        self.given_out += 1;
        let mark = self.mark.as_ref().map_or(self.given_out, |mark| mark(&text));
        Key { mark, text }
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns one of the keys.
    pub fn any(&self) -> Option<&str> {
        self.keys.first().map(|key| &*key.text)
    }

    /// Returns the mark of the key that a request brings; 0 if there are no keys.
    ///
    /// # Errors
    /// [`Error::Unauthorized`]: it brings none that counts.
    pub fn owner(&self, head: &Head) -> Result<u64, Error> {
        let given: Vec<&str> = given(head).collect();
        let is_given = |key: &str| {
            let equal = given.iter().map(|given| key.as_bytes().ct_eq(given.as_bytes()));
            equal.fold(Choice::from(0), |any, one| any | one)
        };
        // All are compared, as in `check`.
        let own = self.keys.iter().filter(|key| is_given(&key.text).into());
        match own.fold(0, |first, key| if first == 0 { key.mark } else { first }) {
            0 if !self.keys.is_empty() => Err(Error::Unauthorized(WRONG_KEY)),
            mark => Ok(mark),
        }
    }

    /// Refuses a request that brings no key that counts, if there are keys.
    ///
    /// # Errors
    /// [`Error::Unauthorized`].
    pub fn check(&self, head: &Head) -> Result<(), Error> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let given: Vec<&str> = given(head).collect();
        if given.is_empty() {
            return Err(Error::Unauthorized(NO_KEY));
        }
        // All pairs are compared, and whole, so that the time taken reveals nothing of the keys.
        let pairs = given.iter().flat_map(|given| self.keys.iter().map(move |key| (given, key)));
        let equal = pairs.map(|(given, key)| key.text.as_bytes().ct_eq(given.as_bytes()));
        let any = equal.fold(Choice::from(0), |any, one| any | one);
        if any.into() { Ok(()) } else { Err(Error::Unauthorized(WRONG_KEY)) }
    }
}

/// Returns all keys in a request. A client that is given a key may send it beside another one that
/// is meant for a different server.
pub fn given(head: &Head) -> impl Iterator<Item = &str> {
    let bearer = head.headers("authorization").filter_map(|value| {
        let (scheme, key) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let own = ["x-api-key", "api-key"].into_iter().flat_map(|name| head.headers(name));
    bearer.chain(own.map(str::trim)).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::access::Keys;
    use crate::server::access::tests::head;

    fn texts(keys: &str) -> Vec<String> {
        Keys::read(keys, "KEYS").map_err(|e| e.0).unwrap().list
    }

    fn ring(keys: &str) -> KeyRing {
        let mut ring = KeyRing::default();
        ring.replace(texts(keys));
        ring
    }

    #[test]
    fn any_of_the_keys_opens_by_any_header_and_nothing_else_does() {
        let ring = ring("# ours\none, two\nthree");
        for field in [
            "Authorization: Bearer one",
            "authorization: bearer  two",
            "x-api-key: three",
            "api-key: three",
            "Authorization: Bearer other\r\nx-api-key: one",
            "Authorization: Bearer one\r\nx-api-key: other",
            "Authorization: Basic b3RoZXI=\r\nAuthorization: Bearer one",
        ] {
            assert!(ring.check(&head(&format!("{field}\r\n"))).is_ok(), "{field}");
        }
        for field in [
            "",
            "x-api-key: on\r\n",
            "Authorization: one\r\n",
            "x-api-key: # ours\r\n",
            "Authorization: Bearer on\r\nx-api-key: e\r\n",
            "x-api-key: one, two\r\n",
        ] {
            assert!(ring.check(&head(field)).is_err(), "{field}");
        }
    }

    #[test]
    fn keys_can_be_changed_and_one_that_stays_is_known_by_the_same_number() {
        let mut ring = ring("one, two");
        let with = |key: &str| head(&format!("x-api-key: {key}\r\n"));
        let number = |ring: &KeyRing, key: &str| ring.owner(&with(key)).unwrap();
        let [one, two] = ["one", "two"].map(|key| number(&ring, key));
        ring.replace(texts("three, two, two"));
        assert!(ring.check(&with("one")).is_err());
        assert!(ring.owner(&with("one")).is_err(), "nobody else's number");
        assert!(ring.check(&with("three")).is_ok());
        assert_eq!(number(&ring, "two"), two);
        assert!(![0, one, two].contains(&number(&ring, "three")), "{}", number(&ring, "three"));
    }
}
