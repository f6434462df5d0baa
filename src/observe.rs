//! How the server is, for people and programs that look after it.
//!
//! Enters: what other rooms note. Leaves: lines of the log, counters, what systemd is told. It may not
//! know why something happens, and holds no text of a client or of LangFast.

pub mod heartbeat;
pub mod logger;
pub mod manager;
pub mod vitals;
