//! Everything that the program does besides serving.
//!
//! Enters: what the command line asks for. Leaves: words for people, or JSON, on standard output. It may
//! know every other room; none knows it.

pub mod about;
pub mod check;
pub mod commands;
pub mod doctor;
pub mod import;
pub mod keys;
pub mod manual;
pub mod service;
mod terminal;
