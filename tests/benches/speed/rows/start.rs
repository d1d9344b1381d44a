//! How long a controller and an engine node take to get ready, from the start of the process.

use std::time::Instant;

use engineroom_tests::{Lab, Process};
use rustix::process::Signal;

use crate::{
    Failure,
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
    statistics::median,
};

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line { what: "controller, new profile", figure: "start.new_s", unit: Unit::Seconds, target: Target::AtMost(0.5) },
    Line { what: "controller, profile that is there", figure: "start.again_s", unit: Unit::Seconds, target: Target::AtMost(0.5) },
    Line { what: "engine node, joined", figure: "start.engine_s", unit: Unit::Seconds, target: Target::AtMost(0.3) },
];

/// Measures it, some times each. The store is the default one, on disk.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let [mut new, mut again, mut engine] = [const { Vec::new() }; 3];
    for _ in 0..scale.of(10, 3) {
        let lab = Lab::new();
        let (controller, seconds) = timed(|| lab.controller());
        new.push(seconds);
        end(controller);
        let (controller, seconds) = timed(|| lab.controller());
        again.push(seconds);
        let (engine_node, seconds) = timed(|| lab.engine_node(2));
        engine.push(seconds);
        end(engine_node);
        end(controller);
    }
    Ok(Reading::default()
        .figure("start.new_s", median(&new))
        .figure("start.again_s", median(&again))
        .figure("start.engine_s", median(&engine))
        .samples("start.new_s", new)
        .samples("start.again_s", again)
        .samples("start.engine_s", engine))
}

fn timed(start: impl FnOnce() -> Process) -> (Process, f64) {
    let began = Instant::now();
    (start(), began.elapsed().as_secs_f64())
}

fn end(process: Process) {
    process.signal(Signal::TERM);
    process.finish().success();
}
