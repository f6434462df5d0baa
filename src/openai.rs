//! OpenAI's dialect: its JSON to and from [`crate::chat`].

pub mod request;
pub mod response;
