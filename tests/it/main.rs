//! All tests of the library and of the program as a whole, a module for each behaviour; what they share is
//! in `support`, and LangFast is the `simulator`. In one binary, so that it is linked once.

#[path = "../simulator/mod.rs"]
mod simulator;
#[path = "../support/mod.rs"]
mod support;

mod access;
mod asking;
mod bodies;
mod capture;
mod commands;
mod completions;
mod doctor;
mod events;
mod forced;
mod front;
mod images;
mod import;
mod json_schema;
mod kinds;
mod leaving;
mod legacy;
mod logs;
mod manager;
mod messages;
mod metrics;
mod models;
mod network;
mod operation;
mod packages;
mod page;
mod paths;
mod prometheus;
mod proxies;
mod readme;
mod refusals;
mod refused;
mod repeats;
mod responses;
mod revised;
mod rooms;
mod session;
mod settings;
mod several;
mod sign_in;
mod simulator_selftest;
mod socket;
mod static_binary;
mod stored;
mod stored_on_disk;
mod strict_types;
mod systemd;
mod tool_calls;
mod tools;
mod upstream;
mod usage;
mod variants;
mod websocket;
mod workers;
