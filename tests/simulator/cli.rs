//! The simulator as a program: `cargo run --example simulator -- --help`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::{process, thread};

use clap::Parser;

#[path = "mod.rs"]
mod simulator;

use simulator::Simulator;

/// Simulates LangFast on this machine, for demonstrations, tests and benchmarks.
#[derive(Parser)]
#[command(after_help = simulator::KEYS)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Serve the socket by packets written by hand; needed for raw=
    #[arg(long)]
    literal: bool,
    /// Play this capture of `langfast2api doctor --capture` back, instead of simulating anything
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Offer Socket.IO's connection state recovery; with --literal
    #[arg(long)]
    recovery: bool,
    /// Milliseconds between two events of a run that does not say
    #[arg(long, default_value_t = 5)]
    delay: u64,
    /// Milliseconds between two pings
    #[arg(long, default_value_t = 25_000)]
    ping_interval: u64,
    /// Milliseconds that a client has for its pong
    #[arg(long, default_value_t = 20_000)]
    ping_timeout: u64,
    /// Seconds that an access token is valid
    #[arg(long, default_value_t = 3600)]
    token_lifetime: u64,
}

fn main() {
    let arguments = Arguments::parse();
    let simulator = start(&arguments);
    println!("simulator of LangFast on {}", simulator.url());
    loop {
        thread::park();
    }
}

fn start(arguments: &Arguments) -> Simulator {
    let builder = Simulator::builder()
        .listen(arguments.listen)
        .delay(arguments.delay)
        .ping_interval(arguments.ping_interval)
        .ping_timeout(arguments.ping_timeout)
        .token_lifetime(arguments.token_lifetime);
    let builder = match &arguments.replay {
        Some(capture) => builder.replay_in_time(capture).unwrap_or_else(|why| {
            eprintln!("{why}; `langfast2api doctor --run --capture FILE` records one");
            process::exit(2)
        }),
        None => builder,
    };
    let builder = if arguments.recovery { builder.recovery() } else { builder };
    if arguments.literal { builder.literal_socket() } else { builder }.start()
}
