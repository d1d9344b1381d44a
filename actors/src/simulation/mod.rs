//! The whole system under one seed: the real scheduler core and ledger, with models of the store on disk, of engine nodes, clients
//! and the network between them. Messages are late, overtake each other and are lost with their links; links break, disks fill,
//! and every process dies and comes back, between any two steps. After each step what must never be broken is checked; in the
//! end, when nothing fails any more, every task that was acknowledged has one outcome and every client all its results.
//!
//! `ENGINEROOM_SIM_SEED=N` replays one history, `ENGINEROOM_SIM_SEEDS=N` tries more of them, from `ENGINEROOM_SIM_FIRST` on.

mod client;
mod controller;
mod engine;
mod network;
mod store;
mod truth;
mod world;

use std::panic::catch_unwind;

/// How many histories are tried by default. Takes a few seconds in a release build.
const SEEDS: u64 = if cfg!(debug_assertions) { 100 } else { 1_500 };

/// How many histories lie between two lines of progress.
const PROGRESS: u64 = 1_000;

#[test]
fn nothing_acknowledged_is_lost_and_every_task_has_one_outcome() {
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is no number")));
    if let Some(seed) = number("ENGINEROOM_SIM_SEED") {
        let sum = world::World::new(seed, true).live();
        return println!("seed {seed}: {sum:?}");
    }
    let (first, count) = (number("ENGINEROOM_SIM_FIRST").unwrap_or(0), number("ENGINEROOM_SIM_SEEDS").unwrap_or(SEEDS));
    let mut sum = world::Sum::default();
    for seed in first..first + count {
        let name = "simulation::nothing_acknowledged_is_lost_and_every_task_has_one_outcome";
        match catch_unwind(|| world::World::new(seed, false).live()) {
            Ok(of_seed) => sum.add(&of_seed),
            Err(_) => {
                panic!("seed {seed}: reproduce with ENGINEROOM_SIM_SEED={seed} cargo test --release -p engineroom --lib {name}")
            }
        }
        if (seed - first + 1).is_multiple_of(PROGRESS) {
            println!("{} histories: {sum:?}", seed - first + 1);
        }
    }
    assert!(count < 100 || sum.is_rich(), "the histories are poor: {sum:?}");
}
