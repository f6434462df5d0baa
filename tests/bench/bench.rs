//! Benchmarks of the real program in front of the simulator of LangFast; started by `scripts/bench`.
//!
//! The gateway and the simulator are processes of their own, so that what is read from `/proc` is
//! the gateway's alone. Every round starts both anew.
//!
//! - [`lines`]: what is measured, a function a line of the table
//! - [`client`], [`direct`]: who asks the gateway, and who asks the simulator without one
//! - [`processor`], [`strace`]: what a token costs in processor time and system calls
//! - [`apart`]: keeping what is measured on a core of its own
//! - [`shape`]: the least that the gateway's shape demands, a program of its own
//! - [`process`]: starting programs, and their figures in `/proc`
//! - [`floor`]: what reading a long answer's events costs at the least, and without thought
//! - [`table`]: medians, and how they are printed

mod apart;
mod client;
mod direct;
mod floor;
mod lines;
mod process;
mod processor;
mod shape;
mod strace;
mod table;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use lines::{LINES, Line, Setup};
use table::Table;

/// Measures langfast2api in front of a simulator of LangFast.
#[derive(Parser)]
struct Arguments {
    /// The program to measure
    #[arg(long, required_unless_present = "shape")]
    gateway: Option<PathBuf>,
    /// The same program in another version, to be measured in turns with it
    #[arg(long)]
    against: Option<PathBuf>,
    /// What to call the other version
    #[arg(long, default_value = "other")]
    against_name: String,
    /// The simulator of LangFast
    #[arg(long, required_unless_present = "shape")]
    simulator: Option<PathBuf>,
    /// Serve streams of the simulator at this address, as the least that the gateway's shape demands
    #[arg(long, hide = true)]
    shape: Option<SocketAddr>,
    /// How many
    #[arg(long, hide = true, default_value_t = 100)]
    streams: usize,
    /// Fewer rounds, and shorter ones
    #[arg(long)]
    quick: bool,
    /// Only this line of the table; may be repeated
    #[arg(long, value_name = "N")]
    only: Vec<u8>,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(upstream) = arguments.shape {
        shape::run(upstream, arguments.streams);
    }
    let (Some(gateway), Some(simulator)) = (arguments.gateway, arguments.simulator) else { return };
    let setup = Setup { simulator, quick: arguments.quick };
    let mut variants = vec![("this".to_owned(), gateway)];
    variants.extend(arguments.against.clone().map(|path| (arguments.against_name.clone(), path)));

    println!("{}", process::machine());
    let mut table = Table::new(variants.iter().map(|(name, _)| name.clone()).collect());
    for line in LINES.iter().filter(|line| wanted(line, &arguments.only)) {
        let rounds = if setup.quick { line.quick_rounds } else { line.rounds };
        for round in 1..=rounds {
            say(&format!("{}. {} ({round}/{rounds})", line.number, line.title));
            for (at, (_, gateway)) in variants.iter().enumerate() {
                table.add(line, at, (line.measure)(&setup, gateway));
            }
        }
    }
    say("");
    print!("{table}");
}

/// Says on the terminal, if there is one, what is going on.
fn say(what: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what}");
    }
}

fn wanted(line: &Line, only: &[u8]) -> bool {
    only.is_empty() || only.contains(&line.number)
}
