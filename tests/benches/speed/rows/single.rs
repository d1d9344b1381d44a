//! Single tasks: as many `apply` calls as one client makes, all under way at once.

use std::time::Instant;

use engineroom::Client;

use crate::{
    Failure,
    cluster::{Cluster, Plan, expect, noop},
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line { what: "tasks", figure: "single.per_second", unit: Unit::PerSecond, target: Target::AtLeast(250e3) },
    Line {
        what: "tasks, of the relay's frames",
        figure: "single.per_second",
        unit: Unit::PerSecond,
        target: Target::AtLeastTimes(0.3, "relay.per_second"),
    },
];

/// Measures it, with two engines.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let cluster = Cluster::start(Plan::engines(2))?;
    Ok(Reading::default().figure("single.per_second", rate(&cluster.client, scale.of(200_000, 50_000))?))
}

/// How many single tasks a second a client has run, from the first call until it has the last result.
pub fn rate(client: &Client, count: u64) -> Result<f64, Failure> {
    let view = client.load_balanced_view();
    let began = Instant::now();
    let results: Vec<_> = (0..count).map(|number| view.apply(noop, number)).collect();
    for (number, result) in (0..).zip(results) {
        expect("a task's result", result.get()?, number)?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
