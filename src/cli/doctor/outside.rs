//! The doctor's requests to the server's public URL. They go over the same dialer as requests to LangFast,
//! and so through the same proxy.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::net::dial::{DialError, Dialer, Endpoint};
use crate::net::transport::{Connections, Timeouts};

/// Longest answer that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// The server at a public URL.
pub struct Outside {
    connections: Arc<Connections>,
}

/// An answer.
pub struct Seen {
    /// The HTTP status.
    pub status: u16,
    /// The target of a redirect.
    pub location: Option<String>,
    /// The body's `Content-Encoding`; `None` if it is not compressed.
    pub encoding: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
    /// Arrival times of the body's pieces, counted from the head's.
    pub arrivals: Vec<Duration>,
}

impl Outside {
    /// The server at `endpoint`.
    pub fn new(dialer: Arc<Dialer>, endpoint: Endpoint, timeouts: Timeouts) -> Outside {
        Outside { connections: Connections::new(dialer, endpoint, timeouts) }
    }

    /// Asks for `path` with this key, as a client's library would.
    ///
    /// # Errors
    /// No whole answer comes; the text says why.
    pub fn get(&self, path: &str, key: Option<&str>) -> Result<Seen, String> {
        let agent = self.connections.agent(Arc::new(|| false));
        let mut request = agent.get(self.connections.endpoint().url("http", path));
        // As the SDKs say: whether a proxy then compresses, and holds back, is part of the question.
        request = request.header("Accept-Encoding", "gzip, deflate");
        if let Some(key) = key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut answer = request.call().map_err(words)?;
        let field = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let (location, encoding) = (field("location"), field("content-encoding"));
        let status = answer.status().as_u16();
        let began = Instant::now();
        let (mut body, mut arrivals) = (Vec::new(), Vec::new());
        let mut reader = answer.body_mut().with_config().limit(LONGEST).reader();
        let mut piece = [0; 4096];
        loop {
            match reader.read(&mut piece).map_err(|e| e.to_string())? {
                0 => return Ok(Seen { status, location, encoding, body, arrivals }),
                length => {
                    arrivals.push(began.elapsed());
                    body.extend_from_slice(&piece[..length]);
                }
            }
        }
    }
}

fn words(error: ureq::Error) -> String {
    match error {
        ureq::Error::Other(inner) => match inner.downcast::<DialError>() {
            Ok(error) => error.to_string(),
            Err(other) => other.to_string(),
        },
        other => other.to_string(),
    }
}
