//! The hop: two processes, of which the other sends frames back.

use engineroom_tests::Lab;

use super::relay::measure_frames;
use crate::{
    Failure,
    bare::{self, Frames},
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line { what: "round trip, p50", figure: "hop.p50_us", unit: Unit::Micros, target: Target::None },
    Line { what: "round trip, p99", figure: "hop.p99_us", unit: Unit::Micros, target: Target::None },
    Line { what: "frames, pipelined", figure: "hop.per_second", unit: Unit::PerSecond, target: Target::None },
];

/// Measures it.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let lab = Lab::new();
    bare::prepare(&lab.profile_dir())?;
    let (_peer, address) = bare::start_listener(&lab, "echo")?;
    bare::block_on(async {
        let (_endpoint, connection) = bare::dial(&lab.profile_dir(), address).await?;
        measure_frames("hop", Frames::open(&connection).await?, scale).await
    })
}
