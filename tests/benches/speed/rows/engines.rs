//! A thousand engines in a few processes: how soon they are there, and what they do to the rate of single tasks.

use std::time::Instant;

use engineroom_tests::{Lab, memory_now_bytes};

use super::single::rate;
use crate::{
    Failure,
    cluster::{Cluster, Plan, Workers, controller},
    line::{Line, Target, Unit},
    options::Scale,
    process::cpu_seconds,
    reading::Reading,
};

/// How many processes have them.
const NODES: usize = 4;

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line { what: "all engines joined", figure: "engines.joined_s", unit: Unit::Seconds, target: Target::AtMost(10.0) },
    Line {
        what: "single tasks, of those with 2 engines",
        figure: "engines.per_second",
        unit: Unit::PerSecond,
        target: Target::AtLeastTimes(0.5, "engines.two.per_second"),
    },
    Line {
        what: "the controller's CPU time for these",
        figure: "engines.controller_cpu_s",
        unit: Unit::Seconds,
        target: Target::Beside("engines.two.controller_cpu_s"),
    },
    Line {
        what: "the controller's memory after these",
        figure: "engines.controller_mib",
        unit: Unit::Mib,
        target: Target::Beside("engines.two.controller_mib"),
    },
];

/// Measures it with few and with many engines, of the same kind.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let tasks = scale.of(1_000_000, 100_000);
    let two = tasks_with("engines.two", Cluster::start(Plan { workers: Workers::Threads, ..Plan::engines(2) })?, tasks)?;
    let plan = Plan { nodes: NODES, workers: Workers::Threads, ..Plan::engines(scale.of(1_000, 200)) };
    let lab = Lab::new();
    let controller = controller(&lab, plan.store);
    let began = Instant::now();
    let cluster = Cluster::join(lab, controller, plan)?;
    let joined = began.elapsed().as_secs_f64();
    cluster.warm_up()?;
    let many = tasks_with("engines", cluster, tasks)?.figure("engines.joined_s", joined);
    Ok(Reading::merged(vec![two, many]))
}

/// The rate of so many single tasks, and the processor time that the controller takes for them, in seconds.
pub fn rate_and_cpu(cluster: &Cluster, tasks: u64) -> Result<(f64, f64), Failure> {
    let before = cpu_seconds(cluster.controller_pid())?;
    let rate = rate(&cluster.client, tasks)?;
    Ok((rate, cpu_seconds(cluster.controller_pid())? - before))
}

fn tasks_with(name: &str, cluster: Cluster, tasks: u64) -> Result<Reading, Failure> {
    let (rate, cpu_s) = rate_and_cpu(&cluster, tasks)?;
    Ok(Reading::default()
        .figure(&format!("{name}.per_second"), rate)
        .figure(&format!("{name}.controller_cpu_s"), cpu_s)
        .figure(&format!("{name}.controller_mib"), memory_now_bytes(cluster.controller_pid()) as f64 / f64::from(1 << 20)))
}
