//! What a queued task costs: memory of a controller without engines, a million tasks submitted.

use engineroom::Client;
use engineroom_tests::{Lab, SOON, wait_for};

use crate::{
    Failure,
    cluster::{expect, noop},
    line::{Line, Target, Unit},
    options::Scale,
    process::memory_now_bytes,
    reading::Reading,
};

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
    let map = bytes_each(count, |client| {
        let results = client.load_balanced_view().map(noop, numbers());
        move || drop(results)
    })?;
    let single = bytes_each(count, |client| {
        let view = client.load_balanced_view();
        let results: Vec<_> = numbers().map(|number| view.apply(noop, number)).collect();
        move || drop((view, results))
    })?;
    Ok(Reading::default().figure("queued.map_bytes", map).figure("queued.single_bytes", single))
}

/// What each of so many tasks takes of the controller's memory. `submit` gives what keeps them.
fn bytes_each<K: FnOnce()>(count: usize, submit: impl FnOnce(&Client) -> K) -> Result<f64, Failure> {
    let lab = Lab::new();
    let controller = lab.controller_with(["--store", "memory"]);
    let client = lab.client();
    // The program has travelled before the memory is looked at.
    drop(client.load_balanced_view().map(noop, [FIRST_NUMBER]));
    client.flush(SOON)?;
    let before = memory_now_bytes(controller.pid())?;
    let release = submit(&client);
    client.flush(SOON)?;
    let queued = wait_for("all tasks in the queue", || {
        let queued: u64 = client.status().ok()?.clients.iter().map(|client| client.queued).sum();
        (queued >= count as u64).then_some(queued)
    });
    let after = memory_now_bytes(controller.pid())?;
    expect("the number of queued tasks, with the first", queued, count as u64 + 1)?;
    release();
    Ok((after - before) / count as f64 - ARGUMENT_BYTES)
}
