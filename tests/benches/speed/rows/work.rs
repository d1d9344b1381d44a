//! Real work: tasks of ten milliseconds on two engines, beside the same work without engineroom.

use std::{hint::black_box, time::Instant};

use crate::{
    Failure,
    cluster::{Cluster, Plan, expect},
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// How long one task takes that has a core for itself, in seconds.
const TASK_S: f64 = 0.01;

/// How many engines, each of which should be worth a core.
const ENGINES: usize = 2;

/// How many rounds the first guess is made of.
const CALIBRATION_ROUNDS: u64 = 10_000_000;

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line {
        what: "tasks of 10 ms, of two cores'",
        figure: "work.per_second",
        unit: Unit::PerSecond,
        target: Target::AtLeastTimes(0.95, "work.two_cores_per_second"),
    },
    Line {
        what: "tasks of 10 ms, of two bare processes'",
        figure: "work.per_second",
        unit: Unit::PerSecond,
        target: Target::Beside("work.two_threads_per_second"),
    },
];

/// Measures it. Tasks are so many rounds, not so much time: where a core is shared, they take longer.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let tasks = scale.of(2_000, 400);
    let rounds = calibrated();
    let before = alone(rounds, tasks / 10);
    let side_by_side = on_threads(rounds, tasks / 4)?;
    let cluster = Cluster::start(Plan::engines(ENGINES))?;
    let view = cluster.client.load_balanced_view();
    // Workers have loaded the function, and the scheduler knows how long it takes.
    view.map(burn, vec![rounds; 10 * ENGINES]).get()?;
    let began = Instant::now();
    let results = view.map(burn, vec![rounds; tasks]).get()?;
    let rate = tasks as f64 / began.elapsed().as_secs_f64();
    expect("the results of the work", results, vec![burn(rounds); tasks])?;
    let after = alone(rounds, tasks / 10);
    Ok(Reading::default()
        .figure("work.per_second", rate)
        .figure("work.two_cores_per_second", ENGINES as f64 * (before + after) / 2.0)
        .figure("work.two_threads_per_second", side_by_side)
        .samples("work.one_core_per_second", vec![before, after]))
}

/// Work that no compiler takes away and no cache helps: each round needs the one before.
fn burn(rounds: u64) -> u64 {
    (0..rounds).fold(black_box(1), |state: u64, round| (state ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23))
}

/// How many rounds take as long as a task should.
fn calibrated() -> u64 {
    let seconds = |()| {
        let began = Instant::now();
        black_box(burn(CALIBRATION_ROUNDS));
        began.elapsed().as_secs_f64()
    };
    // The quickest of some is the one that nothing disturbed.
    let quickest = [(); 10].map(seconds).into_iter().fold(f64::INFINITY, f64::min);
    (CALIBRATION_ROUNDS as f64 * TASK_S / quickest) as u64
}

/// How many tasks a second one core does, in this very thread.
fn alone(rounds: u64, tasks: usize) -> f64 {
    let began = Instant::now();
    for _ in 0..tasks {
        black_box(burn(black_box(rounds)));
    }
    tasks as f64 / began.elapsed().as_secs_f64()
}

/// How many tasks a second as many threads do as there are engines: what the machine has when more than one core works.
fn on_threads(rounds: u64, tasks: usize) -> Result<f64, Failure> {
    let threads: Vec<_> = (0..ENGINES).map(|_| std::thread::spawn(move || alone(rounds, tasks))).collect();
    let mut sum = 0.0;
    for thread in threads {
        sum += thread.join().map_err(|_| "a thread that works panicked")?;
    }
    Ok(sum)
}
