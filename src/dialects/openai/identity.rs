//! The fields that identify an answer, whole or in chunks.
//!
//! Enters: the model's name as the client spelled it. Leaves: a new id, and the time. It may not know
//! what the answer is.

/// The fields by which a whole answer, and every chunk of one, is identified.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `chatcmpl-…` or the like.
    pub id: String,
    /// Unix time at which the request's body was read.
    pub created: u64,
    /// The model's name as the client spelled it.
    pub model: String,
}

impl Identity {
    /// Creates the identity of a new answer, whose id begins with `prefix`.
    pub fn new(prefix: &str, model: &str) -> Identity {
        Identity {
            id: format!("{prefix}{}", uuid::Uuid::new_v4().simple()),
            created: Identity::now(),
            model: model.to_owned(),
        }
    }

    /// Returns the present Unix time, in seconds.
    pub(super) fn now() -> u64 {
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The identity of every answer in tests, but for its id.
    pub fn identity(id: &str) -> Identity {
        Identity { id: id.to_owned(), created: 1_700_000_000, model: "a \"model\"".to_owned() }
    }
}
