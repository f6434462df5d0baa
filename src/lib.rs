//! langfast2api puts an OpenAI-compatible API in front of LangFast.
//!
//! # The rooms, in the order of who knows whom
//!
//! Each room knows only those below it (`tests/it/rooms.rs` holds that), and its head says what enters,
//! what leaves, and what it may not know.
//!
//! ```text
//! main         the process: signals, exit codes, the allocator
//! cli          everything besides serving: login, doctor, models, keys, completions, the man page
//! server       who is let in, tiny_http's tickets and worker threads, routes, the page, the metrics
//! completions  the story of a call for text: runs started, their events merged, read and answered
//! http         the front door: connections, heads, bodies, refusals, answers, Server-Sent Events
//! langfast     the way to LangFast: session, prompt, runs, the socket and its packets
//! net          connections to the outside: names, TCP, proxies, TLS, roots of trust, what HTTP goes over
//! config       settings and secrets
//! observe      the log, counters, heartbeats, the service manager
//! dialects     what each API says: openai (chat, text completions, responses), anthropic
//! chat         neutral words, and what is done to text: tools, stop texts, JSON, schemas, tokens, models
//! stored       answers that are kept in memory, to be asked for again and to be continued
//! budget       the memory that the bodies of all requests may take together
//! error        what can go wrong, and what clients are told
//! digest       SHA-256
//! escape       one reader of `\uXXXX`
//! files        files that are replaced in one step
//! sync         the primitives by which threads wait
//! ```
//!
//! # The way of one request body
//!
//! 1. [`http`]: a connection's thread reads the head, and `server::admission` lets it in by that alone;
//! 2. `http::pace` and [`budget`]: the body is read, as fast as it must come, within the memory
//!    that all bodies have;
//! 3. `server::tickets`: the request waits, while a ticket with its number goes through tiny_http;
//! 4. `server::workers`: a worker gets the ticket, fetches the request, and asks `server::answers`;
//! 5. [`dialects::json`], [`dialects::fields`]: the fields that are known become values;
//! 6. [`dialects::openai::request`] and its like: values become the neutral words of [`chat`];
//! 7. [`completions`]: what has just failed (`completions::repeats`), and a spent quota
//!    (`langfast::spent_quota`), is answered from memory; [`chat::models`] says what the model takes, or
//!    what stands in for a name that is not listed; [`chat::media`] settles what becomes of images and
//!    files, [`chat::tools`] writes tools as text, and `langfast::prompt_meta` leaves out what the model
//!    does not take, or has refused (`langfast::refusals`);
//! 8. [`langfast`]: signed in, with a prompt and a connected socket, the run is started by one call.
//!
//! A message on a WebSocket ([`http::websocket`]) is a request from step 2 on.
//!
//! # Where to add
//!
//! - A request field of chat completions: `FIELDS` and `parse` in [`dialects::openai::request`],
//!   [`chat::Sampling`], the table in `langfast::prompt_meta`, `NUMBERS` in [`chat::models`], and, if runs can
//!   do without it, `DISPENSABLE` in `langfast::refusals`.
//! - A kind of content, item or tool: the tables in [`dialects::openai::kinds`] and
//!   [`dialects::anthropic::kinds`], from which the table in `src/README.md` is made
//!   (`UPDATE=1 cargo test --test it -- kinds::`); [`chat::media`] for what is neither text, image, audio nor
//!   file, and `FAMILIES` in [`chat::media::vision`] for a model that sees.
//! - What LangFast means by a refusal: [`error::meaning`]; status, code, cause and remedy in [`error`].
//! - An event of LangFast: `langfast::notice`, which reads it in the known form, `langfast::unfamiliar` in any
//!   other, and [`langfast::run`], which says what it means for an answer;
//!   [`completions::choices`] and [`completions`], if answers have to know. What is known of the wire, and
//!   so is nothing new in a recording of it: `langfast::capture::known`.
//! - A date on which OpenAI shuts a model down: the table in [`chat::models::shutdowns`].
//! - A setting: `config::settings`; the flag, the variable, the key of the file and the tables of the
//!   READMEs follow from it (`UPDATE=1 cargo test --test it -- readme:: settings::`).
//! - A dialect: a room beside [`dialects::anthropic`] with a `parse` that returns a call in neutral words,
//!   a [`dialects::Dialect`] that tells its answer, and an envelope for errors; then its URLs in
//!   `server::route` and `server::answers`, and how it is recognised in `server::admission`.
//!
//! # The way of one delta
//!
//! 1. `langfast::runner`: the thread that owns the socket reads a frame ([`langfast::socketio`]), and rings for
//!    all runs that had events once it has dealt with what it has read ([`sync::Bell`]);
//! 2. `langfast::leases`, `langfast::routes`: which run it is about; `langfast::notice`: what it says, where
//!    more than the text has changed; [`langfast::run`], `langfast::texts`: whether the text is whole or a
//!    piece; [`langfast::transcript`]: what is new in it;
//! 3. the run's crossbeam channel brings it to the thread that writes the answer;
//! 4. [`completions::choices`]: the runs of a request as one sequence, with their deadlines;
//! 5. [`completions::reader`]: text, or part of a tool call ([`chat::tools`]), cut at stop texts;
//! 6. [`dialects::openai::response`] and its like: put into [`dialects::Events`] in the client's words;
//! 7. [`http::sse`], [`http::answer`]: framed, and written to the client's own socket as one chunk, or as
//!    messages of a WebSocket.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::large_stack_arrays))]

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
compile_error!(
    "langfast2api wakes and watches its threads by eventfd and POLLRDHUP, which this system does not have: \
     run it in a container or a virtual machine with Linux"
);

pub mod budget;
pub mod chat;
pub mod cli;
pub mod completions;
pub mod config;
pub mod dialects;
pub mod digest;
pub mod error;
pub mod escape;
pub mod files;
pub mod http;
pub mod langfast;
pub mod net;
pub mod observe;
pub mod server;
pub mod stored;
pub mod sync;
