//! Whole clusters over real processes and sockets.

mod access;
mod certificates;
mod chance;
mod chaos;
mod clients;
mod damage;
mod disk;
mod engines;
mod errors;
mod failures;
mod handles;
mod hostile;
mod lazy;
mod lifecycle;
mod loss;
mod misuse;
mod namespace;
mod network;
mod news;
mod parity;
mod placement;
mod programs;
mod records;
mod restart;
mod scheduling;
mod services;
mod shared;
mod stopped;
mod views;
mod volume;

use engineroom_tests::{Finished, Lab};

/// The client program of these tests.
const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// Runs the client program on a cluster of one node with two engines, to its good end.
fn probe_two_engines<'a>(args: impl IntoIterator<Item = &'a str>) -> Finished {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    lab.run(PROBE, args).success()
}
