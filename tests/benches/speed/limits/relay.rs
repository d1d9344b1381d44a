//! The relay: three processes, client → controller → engine → controller → client, that only copy frames.

use std::time::Instant;

use bytes::Bytes;
use engineroom_tests::Lab;

use crate::{
    Failure,
    bare::{self, Frames},
    cluster::expect,
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// The bytes of a frame: about what a small task and its outcome have.
const FRAME_BYTES: usize = 64;

/// Round trips before any counts.
const WARM_TRIPS: usize = 500;

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line { what: "round trip, p50", figure: "relay.p50_us", unit: Unit::Micros, target: Target::None },
    Line { what: "round trip, p99", figure: "relay.p99_us", unit: Unit::Micros, target: Target::None },
    Line { what: "frames, pipelined", figure: "relay.per_second", unit: Unit::PerSecond, target: Target::None },
];

/// Measures it.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let lab = Lab::new();
    bare::prepare(&lab.profile_dir())?;
    let (_controller, address) = bare::start_listener(&lab, "relay")?;
    let _engine = bare::start_dialler(&lab, "end", address)?;
    bare::block_on(async {
        let (_endpoint, connection) = bare::dial(&lab.profile_dir(), address).await?;
        measure_frames("relay", Frames::open(&connection).await?, scale).await
    })
}

/// Round trips one after the other, and frames as fast as they go, over whatever is at the other end.
pub async fn measure_frames(name: &str, mut frames: Frames, scale: Scale) -> Result<Reading, Failure> {
    let trips = trips(&mut frames, scale.of(4_000, 500)).await?;
    let rate = pipelined(frames, scale.of(500_000, 100_000)).await?;
    Ok(Reading::default().trips(name, trips).figure(&format!("{name}.per_second"), rate))
}

async fn trips(frames: &mut Frames, count: usize) -> Result<Vec<f64>, Failure> {
    let frame = frame();
    let mut trips_us = Vec::with_capacity(count);
    for number in 0..WARM_TRIPS + count {
        let began = Instant::now();
        let back = frames.ask(&frame).await?;
        if number >= WARM_TRIPS {
            trips_us.push(began.elapsed().as_secs_f64() * 1e6);
        }
        expect("a frame that came back", back, frame.clone())?;
    }
    Ok(trips_us)
}

/// How many frames a second come back when as many are sent as go.
async fn pipelined(frames: Frames, count: usize) -> Result<f64, Failure> {
    let Frames { to_send, mut received } = frames;
    let frame = frame();
    let began = Instant::now();
    let send = async {
        for _ in 0..count {
            to_send.send(frame.clone()).await?;
        }
        Ok::<_, Failure>(())
    };
    let receive = async {
        let (mut came, mut bytes, mut some) = (0, 0, Vec::new());
        while came < count {
            match received.recv_many(&mut some, bare::FRAMES_AT_ONCE).await {
                0 => return Err("the peer has left".into()),
                more => came += more,
            }
            bytes += some.drain(..).map(|frame| frame.len()).sum::<usize>();
        }
        expect("the bytes that came back", bytes, count * FRAME_BYTES)
    };
    let (sent, received) = tokio::join!(send, receive);
    sent.and(received)?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

fn frame() -> Bytes {
    Bytes::from(vec![7; FRAME_BYTES])
}
