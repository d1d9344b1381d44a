//! The smallest program: a closure, mapped over numbers on all engines of a cluster.

use std::process::ExitCode;

use clap::Parser;
use engineroom_examples::{ClusterOptions, Failure, run, say};

/// Maps two closures over some numbers.
///
/// Examples:
///   hello                         on an embedded cluster, with one engine a core
///   hello --profile-dir /tmp/lab  on the cluster of that profile
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    #[command(flatten)]
    cluster: ClusterOptions,
}

fn main() -> ExitCode {
    engineroom::init(); // an engine may start this very program as its worker
    run(hello)
}

fn hello() -> Result<(), Failure> {
    let session = Options::parse().cluster.connect()?;
    let view = session.client.load_balanced_view();

    let squares: Vec<u64> = view.map(|x: u64| x * x, 0..10).get()?;
    say!("x^2 for x in 0..10: {squares:?}")?;

    let powers: Vec<u128> = view.map(|x: u128| x.pow(30), 0..8).get()?;
    say!("x^30 for x in 0..8: {powers:?}")?;
    Ok(())
}
