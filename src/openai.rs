//! OpenAI's dialects, chat and text completions: their JSON to and from [`crate::chat`].

pub mod legacy;
pub mod request;
pub mod response;
mod tools;
