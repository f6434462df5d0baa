//! OpenAI's dialects: chat completions, text completions and responses. Translate their JSON to and
//! from [`crate::chat`].

mod client_tools;
mod completion;
mod custom;
mod identity;
pub mod kinds;
pub mod legacy;
pub mod models;
mod parts;
pub mod request;
pub mod response;
pub mod responses;
mod tools;
mod usage;
