//! One large result from an engine to the client, and what it does to the round trips of everything else.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use bytes::Bytes;
use engineroom::{Client, DirectView};

use crate::{
    Failure,
    cluster::{Cluster, Plan, expect, noop},
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
    statistics::median,
};

/// The large result, in bytes.
const RESULT_BYTES: usize = 256 << 20;

/// The same, small enough for a first look.
const RESULT_BYTES_QUICK: usize = 64 << 20;

/// What the result consists of: a number that MessagePack has one byte for, wherever it stands.
const CONTENT: u8 = 1;

/// Round trips while nothing else is under way.
const IDLE_TRIPS: usize = 2_000;

/// How much slower round trips may be while bulk is under way.
const SLOWER_MAX: f64 = 5.0;

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line {
        what: "one result, as Bytes",
        figure: "bulk.mb_per_second",
        unit: Unit::MbPerSecond,
        target: Target::AtLeastTimes(0.4, "bare-bulk.mb_per_second"),
    },
    Line {
        what: "one result, as Vec<u8>",
        figure: "bulk.vec.mb_per_second",
        unit: Unit::MbPerSecond,
        target: Target::Beside("bare-bulk.mb_per_second"),
    },
    Line {
        what: "status() meanwhile, p50, to idle",
        figure: "bulk.status.p50_us",
        unit: Unit::Micros,
        target: Target::AtMostTimes(SLOWER_MAX, "bulk.status.idle.p50_us"),
    },
    Line { what: "status() meanwhile, p99", figure: "bulk.status.p99_us", unit: Unit::Micros, target: Target::None },
    Line {
        what: "a task meanwhile, p50, to idle",
        figure: "bulk.task.p50_us",
        unit: Unit::Micros,
        target: Target::AtMostTimes(SLOWER_MAX, "bulk.task.idle.p50_us"),
    },
    Line { what: "a task meanwhile, p99", figure: "bulk.task.p99_us", unit: Unit::Micros, target: Target::None },
];

/// Measures it: one engine has the large result, the other runs small tasks.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let (size, times) = scale.of((RESULT_BYTES, 3), (RESULT_BYTES_QUICK, 2));
    let cluster = Cluster::start(Plan::engines(2))?;
    let client = &cluster.client;
    let engines = client.engine_ids();
    let (large, small) = (client.direct_view_on(&engines[..1])?, client.direct_view_on(&engines[1..])?);
    let status = || client.status().map(drop);
    let task = || small.apply(noop, 1).get().map(drop);
    let idle = [trips(IDLE_TRIPS, status)?, trips(IDLE_TRIPS, task)?];

    // The value is made by the first call, and kept.
    fetch(&large, size)?;
    let bytes = rates(size, times, || fetch(&large, size))?;
    let status_meanwhile = meanwhile(times, || fetch(&large, size), status)?;
    let task_meanwhile = meanwhile(times, || fetch(&large, size), task)?;
    let vectors = rates(size, times, || fetch_vector(client, size))?;
    let [idle_status, idle_task] = idle;
    Ok(Reading::default()
        .figure("bulk.mb_per_second", median(&bytes))
        .figure("bulk.vec.mb_per_second", median(&vectors))
        .samples("bulk.mb_per_second", bytes)
        .samples("bulk.vec.mb_per_second", vectors)
        .trips("bulk.status.idle", idle_status)
        .trips("bulk.task.idle", idle_task)
        .trips("bulk.status", status_meanwhile)
        .trips("bulk.task", task_meanwhile))
}

/// A large value that takes no time to make, but for the first time in a process.
fn large(size: usize) -> Bytes {
    static VALUE: OnceLock<Bytes> = OnceLock::new();
    VALUE.get_or_init(|| Bytes::from(vec![CONTENT; size])).clone()
}

/// As [`large`], as most programs would return it: MessagePack has it as a list of numbers.
fn large_vector(size: usize) -> Vec<u8> {
    vec![CONTENT; size]
}

fn fetch(view: &DirectView, size: usize) -> Result<(), Failure> {
    let came = view.apply(large, size).get()?;
    check(came.first().map(Bytes::as_ref), size)
}

fn fetch_vector(client: &Client, size: usize) -> Result<(), Failure> {
    check(Some(&client.load_balanced_view().apply(large_vector, size).get()?), size)
}

/// The length and some of the bytes: to look at all of them would take time that is not the network's.
fn check(came: Option<&[u8]>, size: usize) -> Result<(), Failure> {
    let came = came.unwrap_or_default();
    let right = came.iter().step_by(4099).all(|byte| *byte == CONTENT);
    expect("the large result's length and content", (came.len(), right), (size, true))
}

/// How many megabytes a second come, each time.
fn rates(size: usize, times: usize, fetch: impl Fn() -> Result<(), Failure>) -> Result<Vec<f64>, Failure> {
    let rate = |_| {
        let began = Instant::now();
        fetch()?;
        Ok(size as f64 / 1e6 / began.elapsed().as_secs_f64())
    };
    (0..times).map(rate).collect()
}

fn trips(count: usize, trip: impl Fn() -> engineroom::Result<()>) -> Result<Vec<f64>, Failure> {
    (0..count).map(|_| timed(&trip)).collect()
}

/// Round trips, one after the other, while results are fetched; they begin before these are all there.
fn meanwhile(
    times: usize,
    fetch: impl Fn() -> Result<(), Failure>,
    trip: impl Fn() -> engineroom::Result<()> + Sync,
) -> Result<Vec<f64>, Failure> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let trips = scope.spawn(|| {
            let mut trips_us = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                trips_us.push(timed(&trip)?);
            }
            Ok::<_, Failure>(trips_us)
        });
        let fetched = (0..times).try_for_each(|_| fetch());
        is_over.store(true, Ordering::Relaxed);
        let trips = trips.join().map_err(|_| "the thread that makes round trips panicked")?;
        fetched.and(trips)
    })
}

fn timed(trip: &impl Fn() -> engineroom::Result<()>) -> Result<f64, Failure> {
    let began = Instant::now();
    trip()?;
    Ok(began.elapsed().as_secs_f64() * 1e6)
}
