//! Measures how fast engineroom is, beside what this machine allows: `cargo bench -p engineroom-tests`.
//!
//! Each *row* is measured in a process of its own, which is the client program of real controllers and engines. *Limits* are
//! rows too: bare quinn, with the same TLS and without engineroom, in the same run. What was measured is compared with the
//! targets of the rows, shown as a table and written as JSON, with every sample.
//!
//! ```text
//! main ─▶ suite ─▶ this program again, for one row ─▶ rows, limits ─▶ Reading (JSON on standard output)
//!           └────▶ report: table, JSON
//! ```

mod bare;
mod cluster;
mod growth;
mod limits;
mod line;
mod machine;
mod options;
mod peers;
mod process;
mod reading;
mod report;
mod row;
mod rows;
mod statistics;
mod suite;

use std::{error::Error, process::ExitCode};

use clap::Parser;

use crate::options::{Options, Task};

/// Why something could not be measured, in words for the one who wanted to.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    engineroom::init();
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Failure> {
    match &options.task {
        None => suite::run(&options),
        Some(Task::Peers(peers)) => peers::compare(&options, peers),
        Some(Task::Growth(growth)) => growth::draw_growth(&options, growth),
        Some(Task::Measure { row }) => suite::measure_here(*row, options.scale()),
        Some(Task::Bare(peer)) => bare::serve(peer),
        Some(Task::Engines(plan)) => cluster::serve_engines(plan),
    }
}
