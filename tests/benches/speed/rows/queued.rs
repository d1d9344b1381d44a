//! What a queued task costs: memory of a controller without engines, a million tasks submitted.

use engineroom::{LoadBalancedView, TaskName};
use engineroom_tests::{Lab, SOON, memory_now_bytes};

use crate::{
    Failure,
    cluster::expect,
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// What the tasks would do. It goes by name, so that no program travels: what the controller has freed of one would be used
/// for tasks, and hide what they take.
const TASK: TaskName<u64, u64> = TaskName::new("noop");

/// The argument of each task: a number that has so many bytes in MessagePack, whichever it is.
const FIRST_NUMBER: u64 = 1 << 32;

/// The encoded argument, in bytes: a mark and eight bytes.
const ARGUMENT_BYTES: f64 = 9.0;

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line { what: "a task of a map", figure: "queued.map_bytes", unit: Unit::Bytes, target: Target::AtMost(32.0) },
    Line { what: "a single task", figure: "queued.single_bytes", unit: Unit::Bytes, target: Target::AtMost(400.0) },
];

/// Measures both, each with a controller of its own. What their arguments take is not counted.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let count = scale.of(1_000_000, 200_000);
    let numbers = move || (FIRST_NUMBER..).take(count);
    let map = bytes_each(count, |view| view.map_named(TASK, numbers()))?;
    let single = single_bytes(count)?;
    Ok(Reading::default().figure("queued.map_bytes", map).figure("queued.single_bytes", single))
}

/// What each of so many single tasks takes of the controller's memory, without its argument.
pub fn single_bytes(count: usize) -> Result<f64, Failure> {
    let numbers = (FIRST_NUMBER..).take(count);
    bytes_each(count, |view| numbers.map(|number| view.apply_named(TASK, number)).collect::<Vec<_>>())
}

/// What each of so many tasks takes of the controller's memory. `submit` gives what keeps them.
fn bytes_each<K>(count: usize, submit: impl FnOnce(&LoadBalancedView) -> K) -> Result<f64, Failure> {
    let lab = Lab::new();
    let controller = lab.controller_with(["--store", "memory"]);
    let client = lab.client();
    let view = client.load_balanced_view();
    let before = memory_now_bytes(controller.pid()) as f64;
    let kept = submit(&view);
    client.flush(SOON)?;
    let queued = client.status()?.clients.iter().map(|client| client.queued).sum();
    expect("the number of queued tasks", queued, count as u64)?;
    let after = memory_now_bytes(controller.pid()) as f64;
    drop(kept);
    Ok((after - before) / count as f64 - ARGUMENT_BYTES)
}
