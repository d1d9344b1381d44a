//! MessagePack: a message about the size of one small task, encoded and decoded.

use std::{hint::black_box, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    cluster::expect,
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line { what: "a task, as an array", figure: "codec.array_ns", unit: Unit::Nanos, target: Target::None },
    Line { what: "a task, with field names", figure: "codec.named_ns", unit: Unit::Nanos, target: Target::None },
];

/// What a task message could be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    job: [u8; 16],
    function: String,
    argument: Vec<u8>,
    index: u64,
    priority: i32,
    after: Vec<u64>,
}

/// Measures it, once to and once from bytes a message.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let count = scale.of(1_000_000, 100_000);
    let array = nanos_each(count, rmp_serde::to_vec)?;
    let named = nanos_each(count, rmp_serde::to_vec_named)?;
    Ok(Reading::default().figure("codec.array_ns", array).figure("codec.named_ns", named))
}

fn nanos_each(count: u32, encode: impl Fn(&Task) -> Result<Vec<u8>, rmp_serde::encode::Error>) -> Result<f64, Failure> {
    let task =
        Task { job: [7; 16], function: "factorial".into(), argument: vec![1; 8], index: 42, priority: 0, after: Vec::new() };
    let began = Instant::now();
    for _ in 0..count {
        let bytes = encode(black_box(&task))?;
        black_box(rmp_serde::from_slice::<Task>(black_box(&bytes))?);
    }
    let nanos = began.elapsed().as_nanos() as f64 / f64::from(count);
    expect("a decoded message", rmp_serde::from_slice(&encode(&task)?)?, task)?;
    Ok(nanos)
}
