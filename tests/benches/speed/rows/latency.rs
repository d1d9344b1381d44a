//! The round trip of one task: `apply` of a function that does nothing, one after the other.

use std::time::Instant;

use crate::{
    Failure,
    cluster::{Cluster, Plan, Workers, expect, noop},
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// Round trips before any counts.
const WARM_TRIPS: u64 = 200;

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line { what: "a task, p50", figure: "latency.p50_us", unit: Unit::Micros, target: Target::AtMostTimes(1.6, "relay.p50_us") },
    Line {
        what: "a task, p99",
        figure: "latency.p99_us",
        unit: Unit::Micros,
        target: Target::AtMostTimes(3.0, "latency.p50_us"),
    },
    Line {
        what: "in a thread worker, p50",
        figure: "latency.thread.p50_us",
        unit: Unit::Micros,
        target: Target::Beside("relay.p50_us"),
    },
    Line {
        what: "in a thread worker, p99",
        figure: "latency.thread.p99_us",
        unit: Unit::Micros,
        target: Target::Beside("latency.thread.p50_us"),
    },
];

/// Measures it, with both kinds of workers.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let count = scale.of(2_000, 300);
    let processes = trips(Workers::Processes, count)?;
    let threads = trips(Workers::Threads, count)?;
    Ok(Reading::default().trips("latency", processes).trips("latency.thread", threads))
}

fn trips(workers: Workers, count: u64) -> Result<Vec<f64>, Failure> {
    let cluster = Cluster::start(Plan { workers, ..Plan::engines(1) })?;
    let view = cluster.client.load_balanced_view();
    let mut trips_us = Vec::new();
    for number in 0..WARM_TRIPS + count {
        let began = Instant::now();
        let back = view.apply(noop, number).get()?;
        if number >= WARM_TRIPS {
            trips_us.push(began.elapsed().as_secs_f64() * 1e6);
        }
        expect("a task's result", back, number)?;
    }
    Ok(trips_us)
}
