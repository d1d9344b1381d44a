//! Single tasks with the store on disk: each submission and each outcome is committed.

use super::single::rate;
use crate::{
    Failure,
    cluster::{Cluster, Plan, Store},
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// What stands in the table.
pub const LINES: &[Line] = &[Line {
    what: "tasks, of those with the store in memory",
    figure: "durable.per_second",
    unit: Unit::PerSecond,
    target: Target::AtLeastTimes(0.5, "single.per_second"),
}];

/// Measures it, with two engines. The profile is in the directory of temporary files, on whatever disk that is.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let cluster = Cluster::start(Plan { store: Store::Sqlite, ..Plan::engines(2) })?;
    Ok(Reading::default().figure("durable.per_second", rate(&cluster.client, scale.of(200_000, 50_000))?))
}
