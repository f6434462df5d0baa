//! The server's state for operators and their tools: log, counters, heartbeats, systemd.
//!
//! Enters: what other rooms report. Leaves: lines of the log, counters, messages to systemd. It may
//! not know why something happens, and holds no text of a client or of LangFast.

pub mod heartbeat;
pub mod logger;
pub mod manager;
pub mod vitals;
