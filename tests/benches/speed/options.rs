//! The command line.

use std::{env, net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::row::Row;

/// The most runs that one call makes: an evening's worth.
const RUNS_MAX: i64 = 1000;

/// Measures engineroom beside the bare limits of this machine, and compares it with its targets.
///
/// It starts controllers and engines of its own. Let nothing else run meanwhile.
#[derive(Debug, Parser)]
#[command(
    name = "cargo bench -p engineroom-tests --bench speed --",
    bin_name = "cargo bench -p engineroom-tests --bench speed --"
)]
pub struct Options {
    #[command(subcommand)]
    pub task: Option<Task>,

    /// Measure this row only, and what it is compared with; repeat it for more [default: all]
    #[arg(long, value_name = "ROW", value_enum)]
    pub only: Vec<Row>,

    /// Smaller counts, for a first look: seconds a row. Figures are not comparable with those of full runs
    #[arg(long, global = true)]
    pub quick: bool,

    /// Measure everything so many times, and show medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=RUNS_MAX))]
    pub runs: u32,

    /// Write what was measured, with all samples, to this file [default: bench/speed.json in the target directory]
    #[arg(long, value_name = "FILE", global = true)]
    pub json: Option<PathBuf>,

    /// What cargo says to every benchmark
    #[arg(long, hide = true, global = true)]
    pub bench: bool,
}

/// What else this program does than measure everything.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Measures other task runtimes beside engineroom, those that are installed: Ray, Dask, IPython Parallel
    Peers(PeersOptions),
    /// Draws how the costs of a task grow with engines and with tasks, as an SVG file
    Growth(GrowthOptions),
    /// Measures one row in this process, and prints its reading as JSON
    #[command(hide = true)]
    Measure {
        /// The row
        #[arg(value_enum)]
        row: Row,
    },
    /// Is one process of a limit
    #[command(hide = true)]
    Bare(BarePeer),
    /// Is an engine node with threads as workers, until its standard input ends
    #[command(hide = true)]
    Engines(EnginesPlan),
}

/// Where the picture of growth goes.
#[derive(Debug, Args)]
pub struct GrowthOptions {
    /// The file [default: bench/growth.svg in the target directory]
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// How the peers are measured.
#[derive(Debug, Args)]
pub struct PeersOptions {
    /// The Python whose packages they are
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: String,
}

/// One process of a limit.
#[derive(Debug, Args)]
pub struct BarePeer {
    /// What it does with what comes
    #[arg(value_enum)]
    pub part: BarePart,

    /// Whom it dials, if it does
    #[arg(long, value_name = "ADDR:PORT")]
    pub to: Option<SocketAddr>,

    /// Where certificate and key are
    #[arg(long, value_name = "DIR")]
    pub profile_dir: PathBuf,
}

/// What a process of a limit does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BarePart {
    /// Listens, and sends each frame back
    Echo,
    /// Listens, and hands frames from one peer to the other
    Relay,
    /// Dials, and sends each frame back
    End,
    /// Listens, and throws away what comes on streams of one direction
    Sink,
}

/// An engine node with threads as workers.
#[derive(Debug, Args)]
pub struct EnginesPlan {
    /// How many engines
    #[arg(long, value_name = "N")]
    pub engines: usize,

    /// Whose cluster
    #[arg(long, value_name = "DIR")]
    pub profile_dir: PathBuf,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// What the targets speak of.
    Full,
    /// Enough to see that it works, and about how fast.
    Quick,
}

impl Scale {
    /// What is to stand with figures of this scale.
    pub fn warning(self) -> &'static str {
        self.of("", ", SMALLER COUNTS (--quick): not to be compared with full runs")
    }

    /// One of two counts.
    pub fn of<T>(self, full: T, quick: T) -> T {
        match self {
            Scale::Full => full,
            Scale::Quick => quick,
        }
    }
}

impl Options {
    /// How much is to be measured.
    pub fn scale(&self) -> Scale {
        if self.quick { Scale::Quick } else { Scale::Full }
    }

    /// The rows to measure, each after those that it is compared with.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let wanted = if self.only.is_empty() { Row::value_variants() } else { &self.only };
        for row in wanted {
            for row in row.compared_with().iter().chain([row]) {
                if !rows.contains(row) {
                    rows.push(*row);
                }
            }
        }
        rows
    }

    /// Where the JSON goes, which has this name unless the options have another.
    pub fn json_path(&self, name: &str) -> PathBuf {
        let executable = env::current_exe().unwrap_or_default();
        // Cargo puts benchmarks into target/release/deps.
        let target = executable.ancestors().nth(3).map_or_else(PathBuf::new, PathBuf::from);
        self.json.clone().unwrap_or_else(|| target.join("bench").join(name))
    }
}
