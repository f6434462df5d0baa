//! Connections to the outside, made in one place for the HTTP calls and the socket alike.
//!
//! Enters: an endpoint and deadlines. Leaves: a connection, plain or TLS, through a proxy if the
//! environment names one; or a client for HTTP calls over such connections. It may not know whom it calls,
//! nor what is said.

pub mod dial;
pub mod roots;
pub mod transport;
pub mod waker;
