//! Bulk over one hop: a stream of one direction, into a process that throws the bytes away.

use std::time::Instant;

use bytes::Bytes;
use engineroom_tests::Lab;

use crate::{
    Failure, bare,
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// How many bytes are given to quinn at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What stands in the table.
pub const LINES: &[Line] =
    &[Line { what: "bytes over one hop", figure: "bare-bulk.mb_per_second", unit: Unit::MbPerSecond, target: Target::None }];

/// Measures it: the time until the peer has acknowledged all.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let lab = Lab::new();
    bare::prepare(&lab.profile_dir())?;
    let (_sink, address) = bare::start_listener(&lab, "sink")?;
    let chunks = scale.of(1024, 256);
    let rate = bare::block_on(async {
        let (_endpoint, connection) = bare::dial(&lab.profile_dir(), address).await?;
        let mut stream = connection.open_uni().await?;
        let chunk = Bytes::from(vec![1; CHUNK_BYTES]);
        let began = Instant::now();
        for _ in 0..chunks {
            stream.write_chunk(chunk.clone()).await?;
        }
        stream.finish()?;
        match stream.stopped().await? {
            None => Ok((chunks * CHUNK_BYTES) as f64 / 1e6 / began.elapsed().as_secs_f64()),
            Some(code) => Err(format!("the sink has stopped the stream with {code}").into()),
        }
    })?;
    Ok(Reading::default().figure("bare-bulk.mb_per_second", rate))
}
