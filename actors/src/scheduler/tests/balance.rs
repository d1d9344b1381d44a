//! Engines are busy until the end and end together, whatever the tasks take and however fast the engines are.

use std::num::NonZeroU32;

use super::{
    model::{DELAY_NS, Outcome, run},
    *,
};
use crate::rng::Rng;

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const EVEN: [u64; 8] = [1; 8];
const UNEVEN: [u64; 8] = [1, 2, 4, 1, 2, 4, 1, 2];

/// Durations in nanoseconds whose logarithms are distributed normally, around that of a millisecond.
fn log_normal(seed: u64, sigma: f64) -> Vec<u64> {
    let mut rng = Rng(seed);
    let mut uniform = || (rng.next() >> 11) as f64 / (1u64 << 53) as f64;
    // By Box and Muller. 1 − u, since the logarithm of 0 is not finite.
    let mut normal = || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    (0..100_000).map(|_| (MS as f64 * (sigma * normal()).exp()) as u64).collect()
}

/// The shortest time that engines of these speeds could take.
fn ideal_ns(speeds: &[u64], work_ns: &[u64]) -> u64 {
    let (longest, fastest) = (work_ns.iter().max().unwrap(), speeds.iter().max().unwrap());
    (work_ns.iter().sum::<u64>() / speeds.iter().sum::<u64>()).max(longest / fastest)
}

/// No engine has had nothing to do for longer than it takes to notice and to move a batch, while one waited elsewhere.
fn assert_nothing_was_neglected(what: &str, outcome: &Outcome) {
    // The idle engine's report, the ask, the answer and the dispatch; and what is not worth it, which the next tick tells.
    let (ticks_ns, least_ns) = (crate::scheduler::TICK.as_nanos() as u64, Settings::default().steal_min_us * US);
    assert!(outcome.neglect_ns <= 4 * DELAY_NS + ticks_ns + least_ns, "{what}: {outcome:?}");
}

#[test]
fn uneven_tasks_on_uneven_engines_end_near_the_ideal() {
    for (sigma, seed) in [(1.0, 1), (1.0, 2), (1.0, 3), (2.0, 1), (2.0, 2), (2.0, 4), (2.0, 5)] {
        let work_ns = log_normal(seed, sigma);
        let outcome = run(Settings::default(), &UNEVEN, Chunk::Adaptive, &work_ns);
        let ideal_ns = ideal_ns(&UNEVEN, &work_ns);
        assert!(outcome.makespan_ns * 100 <= ideal_ns * 105, "sigma {sigma}, seed {seed}: ideal {ideal_ns} ns, {outcome:?}");
        assert_nothing_was_neglected(&format!("sigma {sigma}, seed {seed}"), &outcome);
    }
}

#[test]
fn no_task_is_held_up_behind_a_long_one_at_the_end() {
    // With these seeds a slow engine happens to begin a task of some seconds near the end, which nobody can know before. What
    // can be done is that all others have begun by then.
    for seed in [3, 6] {
        let work_ns = log_normal(seed, 2.0);
        let outcome = run(Settings::default(), &UNEVEN, Chunk::Adaptive, &work_ns);
        let ideal_ns = ideal_ns(&UNEVEN, &work_ns);
        assert!(outcome.last_start_ns * 100 <= ideal_ns * 102, "seed {seed}: ideal {ideal_ns} ns, {outcome:?}");
    }
}

#[test]
fn engines_are_busy_whatever_the_tasks_take() {
    let (short, middle, long) = (vec![US; 1_000_000], vec![MS; 50_000], vec![1_000 * MS; 1_000]);
    let mixed: Vec<u64> = (0..30_000).map(|task| [US, MS, 20 * MS][task % 3]).collect();
    let longer: Vec<u64> = (0..60_000).map(|task| [10 * US, MS, 10 * MS][task / 20_000]).collect();
    let shorter: Vec<u64> = longer.iter().rev().copied().collect();
    for (what, work_ns) in [
        ("1 µs each", &short),
        ("1 ms each", &middle),
        ("1 s each", &long),
        ("mixed", &mixed),
        ("ever longer", &longer),
        ("ever shorter", &shorter),
    ] {
        for speeds in [EVEN, UNEVEN] {
            let outcome = run(Settings::default(), &speeds, Chunk::Adaptive, work_ns);
            assert!(outcome.busy >= 0.95, "{what}, speeds {speeds:?}: {outcome:?}");
            assert_nothing_was_neglected(what, &outcome);
        }
    }
}

#[test]
fn short_tasks_share_what_a_batch_costs() {
    let outcome = run(Settings::default(), &EVEN, Chunk::Adaptive, &vec![US; 1_000_000]);
    assert!(outcome.batches <= 1_000, "1,000 tasks a batch at least: {outcome:?}");
}

#[test]
fn batches_of_a_fixed_size_move_to_idle_engines_too() {
    let chunk = Chunk::Fixed(NonZeroU32::new(20).unwrap());
    let outcome = run(Settings::default(), &UNEVEN, chunk, &vec![MS; 1_000]);
    assert!(outcome.returned > 0, "slow engines have batches that wait: {outcome:?}");
    assert_nothing_was_neglected("fixed", &outcome);
}
