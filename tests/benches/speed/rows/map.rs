//! A map of millions: a lazy iterator of inputs, results folded as they come, and the memory that it takes.

use std::{process, time::Instant};

use engineroom_tests::memory_peak_mib;

use crate::{
    Failure,
    cluster::{Cluster, Plan, expect, noop, sum_below},
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// The most memory that either of client and controller may take, in MiB: 150 MB.
const MEMORY_MAX_MIB: f64 = 143.0;

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line { what: "items", figure: "map.per_second", unit: Unit::PerSecond, target: Target::AtLeast(1e6) },
    Line {
        what: "memory of the client, peak",
        figure: "map.client_peak_mib",
        unit: Unit::Mib,
        target: Target::AtMost(MEMORY_MAX_MIB),
    },
    Line {
        what: "memory of the controller, peak",
        figure: "map.controller_peak_mib",
        unit: Unit::Mib,
        target: Target::AtMost(MEMORY_MAX_MIB),
    },
];

/// Measures it, with two engines.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let items = scale.of(10_000_000, 1_000_000);
    let cluster = Cluster::start(Plan::engines(2))?;
    let began = Instant::now();
    let mut sum = 0;
    for number in cluster.client.load_balanced_view().map_lazy(noop, 0..items) {
        sum += number?;
    }
    let seconds = began.elapsed().as_secs_f64();
    expect("the sum of the results", sum, sum_below(items))?;
    Ok(Reading::default()
        .figure("map.per_second", items as f64 / seconds)
        .figure("map.client_peak_mib", memory_peak_mib(process::id()) as f64)
        .figure("map.controller_peak_mib", memory_peak_mib(cluster.controller_pid()) as f64))
}
