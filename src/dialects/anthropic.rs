//! Anthropic's dialect, the Messages API: translates its JSON to and from [`crate::chat`].
//!
//! Source: the types of Anthropic's own SDKs, <https://github.com/anthropics/anthropic-sdk-python>.

mod error;
pub mod kinds;
mod known_tools;
pub mod models;
pub mod request;
pub mod response;
mod tools;

pub use error::envelope;
