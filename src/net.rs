//! Connections to the outside, made in one place for the HTTP calls and the socket alike.
//!
//! Enters: an endpoint and deadlines. Leaves: a connection, plain or TLS, through a proxy if the
//! environment names one; or a client for HTTP calls over such connections. It may not know which
//! service it connects to, nor what is sent.

pub mod dial;
pub mod roots;
pub mod transport;
pub mod waker;
