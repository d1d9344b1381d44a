//! What a controller does when there is nothing to do.

use std::{thread, time::Duration};

use engineroom_tests::Lab;

use crate::{
    Failure,
    line::{Line, Target, Unit},
    options::Scale,
    process::cpu_seconds,
    reading::Reading,
};

/// How many engines are idle.
const ENGINES: usize = 100;

/// What stands in the table.
pub const LINES: &[Line] = &[Line {
    what: "the controller's CPU, of a core",
    figure: "idle.controller_percent",
    unit: Unit::Percent,
    target: Target::AtMost(1.0),
}];

/// Measures it: a controller, an engine node, and some time in which nobody asks for anything.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let lab = Lab::new();
    let controller = lab.controller();
    let _engines = lab.engine_node(ENGINES);
    let time = Duration::from_secs(scale.of(20, 5));
    let before = cpu_seconds(controller.pid())?;
    thread::sleep(time);
    let used = cpu_seconds(controller.pid())? - before;
    Ok(Reading::default().figure("idle.controller_percent", 100.0 * used / time.as_secs_f64()))
}
