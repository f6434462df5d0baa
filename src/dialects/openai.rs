//! OpenAI's dialects: chat completions, text completions and responses. Translate their JSON to and
//! from [`crate::chat`].

mod custom;
pub mod kinds;
pub mod legacy;
mod parts;
pub mod request;
pub mod response;
pub mod responses;
mod tools;
