//! OpenAI's dialects, chat and text completions and responses: their JSON to and from [`crate::chat`].

pub mod legacy;
pub mod request;
pub mod response;
pub mod responses;
mod tools;
