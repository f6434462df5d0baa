//! Anthropic's dialect, the Messages API: translates its JSON to and from [`crate::chat`].
//!
//! Source: the types of Anthropic's own SDKs, <https://github.com/anthropics/anthropic-sdk-python>.

pub mod kinds;
pub mod models;
pub mod request;
pub mod response;
mod tools;

pub use response::envelope;
