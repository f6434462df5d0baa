//! Connections to the outside, made in one place for the HTTP calls and the socket alike.
//!
//! Enters: an endpoint and deadlines. Leaves: a connection, plain or TLS, through a proxy if the
//! environment names one. It may not know what is spoken on it.

pub mod dial;
mod roots;
pub mod waker;
