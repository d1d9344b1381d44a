//! A map over more inputs than anyone would hold in memory: made as they are needed, folded as results arrive.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use engineroom_examples::{ClusterOptions, Failure, peak_resident_mib, run, say};

/// Doubles the numbers below N on the engines, adds up the results as they arrive, and tells how fast and in what memory.
///
/// Examples:
///   lazy                                on an embedded cluster, which shares this program's memory
///   lazy --items 1000000 --profile lab  on the cluster of that profile
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// How many numbers
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=ITEMS_MAX))]
    items: u64,

    #[command(flatten)]
    cluster: ClusterOptions,
}

/// The most numbers: as many tasks as one job has.
const ITEMS_MAX: u64 = 1 << 32;

fn main() -> ExitCode {
    engineroom::init();
    run(lazy)
}

fn lazy() -> Result<(), Failure> {
    let options = Options::parse();
    let session = options.cluster.connect()?;

    let start = Instant::now();
    let mut sum = 0_u128;
    for doubled in session.client.load_balanced_view().map_lazy(|x: u64| 2 * x, 0..options.items) {
        sum += u128::from(doubled?);
    }
    let seconds = start.elapsed().as_secs_f64();

    say!("sum   {sum}")?;
    say!("rate  {:.0} items/s ({} items in {seconds:.1} s)", options.items as f64 / seconds, options.items)?;
    if let Some(peak) = peak_resident_mib() {
        say!("peak  {peak} MiB of memory in this process")?;
    }
    let expected = u128::from(options.items) * u128::from(options.items - 1);
    if sum == expected { Ok(()) } else { Err(Failure::Work(format!("the sum should be {expected}"))) }
}
