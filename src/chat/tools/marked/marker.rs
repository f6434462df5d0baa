//! The form of a call in a request.

/// The text around a call in this request.
#[derive(Clone, Debug)]
pub struct Marker {
    nonce: String,
}

impl Marker {
    /// Creates the marker with this nonce.
    pub fn new(nonce: &str) -> Marker {
        Marker { nonce: nonce.to_owned() }
    }

    /// The nonce.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// What each call begins with.
    pub fn begin(&self) -> String {
        format!("<call-{}", self.nonce)
    }

    /// Returns a call in the form that the model must write.
    pub fn call(&self, name: &str, arguments: &str) -> String {
        let nonce = &self.nonce;
        // No arguments are an empty object: the model would learn another form from its own history.
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
        format!("<call-{nonce} name=\"{name}\">{arguments}</call-{nonce}>")
    }
}
