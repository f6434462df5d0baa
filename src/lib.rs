//! langfast2api puts an OpenAI-compatible API in front of LangFast.
//!
//! # The path of one request
//!
//! [`front`] accepts the client's connection, reads one whole request under limits and deadlines,
//! and hands it over to [`server`], where tiny_http passes a ticket for it to a worker thread.
//! [`completions`] tells the rest of the story: [`openai::request`] turns the body into the
//! neutral words of [`chat`]; [`tools`] puts tools into plain text, since LangFast has none;
//! [`models`] says what the model accepts; [`langfast`] signs in, makes sure of a prompt and of the
//! socket, and starts the run. From there on the run's events arrive on the one socket that all runs
//! share: the runner's thread makes a delta of each packet's cumulative text, without parsing the
//! packet if only its text has grown ([`socketio`], [`langfast::transcript`]), and sends it into the
//! run's channel. The worker leaves the rest to a writer of the [`pool`], which drains the channel
//! ([`choices`]), tells text and calls apart ([`reader`]), and writes each part as an event
//! ([`openai::response`], [`sse`], [`answer`]) on the client's own socket, while `front` watches
//! whether the client is still there.
//!
//! # The modules, each knowing only those below it
//!
//! ```text
//! main        settings, signals                      commands, doctor, manual: besides serving
//! server      routes, workers                           (the only user of tiny_http)
//! completions a call for text, from its runs to its answer
//! choices     the runs of a request as one sequence     reader: what their texts are made of
//! tools       tools in plain text, and calls back       stop: stop texts
//! openai      JSON ⇄ chat        langfast   the way to LangFast (ureq, tungstenite)
//! anthropic   JSON ⇄ chat        fields     reading JSON, with names for faults
//! dialect     their interface    json_mode  checks of JSON answers (schema)
//! sse         events             socketio   packets
//! answer      HTTP answers       models     what each model accepts
//! access      keys, hosts, origins                   config, secrets, check: settings
//! page        what browsers get at `/`               metrics, pulse: how the server is
//! front       connections        usage      token estimates
//! vitals      all counters
//! manager     what systemd is told (the only user of sd-notify)
//! chat, error, escape, heartbeat, logger, pool, sync
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod access;
pub mod answer;
pub mod anthropic;
pub mod budget;
pub mod chat;
pub mod check;
pub mod choices;
pub mod commands;
pub mod completions;
pub mod config;
pub mod dialect;
pub mod doctor;
pub mod error;
pub mod escape;
pub mod fields;
pub mod front;
pub mod heartbeat;
pub mod json;
pub mod json_mode;
pub mod langfast;
pub mod listen;
pub mod logger;
pub mod manager;
pub mod manual;
pub mod metrics;
pub mod models;
pub mod openai;
pub mod page;
pub mod pool;
pub mod pulse;
pub mod reader;
pub mod schema;
pub mod secrets;
pub mod server;
pub mod socketio;
pub mod sse;
pub mod stop;
pub mod sync;
pub mod tools;
pub mod usage;
pub mod vitals;
