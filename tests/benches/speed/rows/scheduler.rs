//! The scheduler's core alone: no sockets, no processes, tasks that take no time.

use engineroom::measure::{Batches, SingleTasks, schedule};

use crate::{
    Failure,
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
    statistics::{median, range},
};

/// How often each figure is taken. Of rates the median counts; of costs, which only noise adds to, the least.
const REPETITIONS: usize = 5;

/// The numbers of engines that the cost of a task is taken at.
pub const ENGINES: [u32; 5] = [1, 10, 100, 1_000, 10_000];

/// The numbers of queued tasks that the cost of a task is taken at, with 1,000 engines.
pub const QUEUED: [u32; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line {
        what: "single tasks, 1,000 engines",
        figure: "scheduler.per_second",
        unit: Unit::PerSecond,
        target: Target::AtLeast(1e6),
    },
    Line { what: "each a batch of its own", figure: "scheduler.alone_per_second", unit: Unit::PerSecond, target: Target::None },
    Line { what: "a task, 10 engines", figure: "scheduler.engines_10_ns", unit: Unit::Nanos, target: Target::None },
    Line {
        what: "a task, 10,000 engines",
        figure: "scheduler.engines_10000_ns",
        unit: Unit::Nanos,
        target: Target::AtMostTimes(1.5, "scheduler.engines_10_ns"),
    },
    Line { what: "a task, 1,000 queued", figure: "scheduler.queued_1000_ns", unit: Unit::Nanos, target: Target::None },
    Line {
        what: "a task, 10,000,000 queued",
        figure: "scheduler.queued_10000000_ns",
        unit: Unit::Nanos,
        target: Target::Beside("scheduler.queued_1000_ns"),
    },
];

/// Measures it: the usual rate, the worst one, and how the cost of a task grows with engines and with queued tasks.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let tasks = scale.of(1_000_000, 200_000);
    let usual = SingleTasks { tasks, engines: 1_000, queued: 0, batches: Batches::Adaptive };
    // Without a queue to draw from, batches would be as small as what has just been submitted.
    let mut reading = rate(Reading::default(), "scheduler.per_second", SingleTasks { queued: tasks, ..usual });
    reading = rate(reading, "scheduler.alone_per_second", SingleTasks { queued: 10_000, batches: Batches::OfOne, ..usual });
    for engines in ENGINES {
        let load = SingleTasks { engines, queued: 100_000, batches: Batches::OfOne, ..usual };
        reading = cost(reading, &format!("scheduler.engines_{engines}_ns"), load);
    }
    for queued in QUEUED {
        let load = SingleTasks { queued, batches: Batches::OfOne, ..usual };
        reading = cost(reading, &format!("scheduler.queued_{queued}_ns"), load);
    }
    Ok(reading)
}

fn rate(reading: Reading, name: &str, load: SingleTasks) -> Reading {
    let seconds = seconds_of(load);
    let rates = seconds.iter().map(|seconds| f64::from(load.tasks) / seconds).collect::<Vec<_>>();
    reading.figure(name, median(&rates)).samples(name, rates)
}

fn cost(reading: Reading, name: &str, load: SingleTasks) -> Reading {
    let costs = seconds_of(load).iter().map(|seconds| 1e9 * seconds / f64::from(load.tasks)).collect::<Vec<_>>();
    reading.figure(name, range(&costs).0).samples(name, costs)
}

/// For `tasks` tasks, a few times.
fn seconds_of(load: SingleTasks) -> Vec<f64> {
    let once = |_| {
        let done = schedule(load);
        done.seconds * f64::from(load.tasks) / f64::from(done.tasks)
    };
    (0..REPETITIONS).map(once).collect()
}
