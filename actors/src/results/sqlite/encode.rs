//! How bodies are written: a checksum, a version, and msgpack.
//!
//! sqlite notices damage to its own structure, not to what lies in it; the checksum notices that.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::task::{Cause, EngineId, Outcomes, Packed, TaskOutput, Timing, compact};
use crate::wire::{JobHeader, RunBody};

/// How many bytes of the BLAKE3 hash of a body stand before it. Eight find any accidental damage.
const SUM_BYTES: usize = 8;

/// The version of the encoding of bodies; one byte after the checksum.
const VERSION: u8 = 2;

/// The earliest version that is read: it has lists of numbers where there are byte strings now, and decoding takes either.
const VERSION_MIN: u8 = 1;

/// A body that is not what was written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored body {0}")]
pub(super) struct BadBody(pub String);

/// Outcomes as they are written. Arrays without names are short; what may grow has names, in [`Rest`].
#[derive(Serialize, Deserialize)]
enum Stored<P, T> {
    /// Epoch, values, timings, and [`Rest`] if there is any.
    Ran(u64, P, T, Option<Bytes>),
    Ended(Bytes),
}

#[derive(Serialize)]
#[serde(transparent)]
struct TimingsToWrite<'a>(#[serde(serialize_with = "compact::serialize")] &'a [Timing]);

#[derive(Deserialize)]
#[serde(transparent)]
struct WrittenTimings(#[serde(deserialize_with = "compact::deserialize")] Vec<Timing>);

/// Failures and output: rare, so that names cost nothing.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Rest {
    failures: Vec<(u32, Cause)>,
    output: Vec<(u32, TaskOutput)>,
}

pub(super) fn encode_run(body: &RunBody) -> Result<Vec<u8>, BadBody> {
    match body {
        RunBody::Ended(cause) => seal(&Stored::<(), ()>::Ended(named(cause)?)),
        RunBody::Ran(Outcomes { epoch_us, values, timings, failures, output }) => {
            let rest = if failures.is_empty() && output.is_empty() {
                None
            } else {
                Some(named(&Rest { failures: failures.clone(), output: output.clone() })?)
            };
            seal(&Stored::Ran(*epoch_us, values, TimingsToWrite(timings), rest))
        }
    }
}

pub(super) fn decode_run(bytes: &[u8], count: u32) -> Result<RunBody, BadBody> {
    match unseal::<Stored<Packed, WrittenTimings>>(bytes)? {
        Stored::Ended(cause) => Ok(RunBody::Ended(from_msgpack(&cause)?)),
        Stored::Ran(epoch_us, values, WrittenTimings(timings), rest) => {
            let Rest { failures, output } = rest.map_or_else(|| Ok(Rest::default()), |rest| from_msgpack(&rest))?;
            let outcomes = Outcomes { epoch_us, values, timings, failures, output };
            if !outcomes.is_sound() || outcomes.len() != count as usize {
                return Err(BadBody("has parts that do not fit together".into()));
            }
            Ok(RunBody::Ran(outcomes))
        }
    }
}

/// What is given out of a run. Outcomes that are damaged say so, each of them, since all others of the file can still be served.
pub(super) fn read_outcomes(bytes: &[u8], count: u32) -> RunBody {
    decode_run(bytes, count).unwrap_or_else(|bad| {
        tracing::error!("{count} outcomes are damaged: {bad}");
        RunBody::Ended(Cause::Damaged { detail: bad.to_string() })
    })
}

pub(super) fn encode_arguments(arguments: &Packed) -> Result<Vec<u8>, BadBody> {
    seal(arguments)
}

pub(super) fn decode_arguments(bytes: &[u8], count: u32) -> Result<Packed, BadBody> {
    let arguments: Packed = unseal(bytes)?;
    if !arguments.is_sound() || arguments.len() != count as usize {
        return Err(BadBody("has parts that do not fit together".into()));
    }
    Ok(arguments)
}

pub(super) fn encode_header(header: &JobHeader) -> Result<Vec<u8>, BadBody> {
    // With names: headers are read by later versions, whose jobs have more options.
    seal(&named(header)?)
}

pub(super) fn decode_header(bytes: &[u8]) -> Result<JobHeader, BadBody> {
    from_msgpack(&unseal::<Bytes>(bytes)?)
}

/// Ids of engines, each as four bytes, little endian.
pub(super) fn encode_engines(engines: &BTreeSet<EngineId>) -> Vec<u8> {
    engines.iter().flat_map(|engine| engine.0.to_le_bytes()).collect()
}

pub(super) fn decode_engines(bytes: &[u8]) -> Result<BTreeSet<EngineId>, BadBody> {
    let (ids, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(BadBody("has a part of an engine's id".into()));
    }
    Ok(ids.iter().map(|id| EngineId(u32::from_le_bytes(*id))).collect())
}

/// The offsets of failed tasks, so that parts of a run are counted without its body. `None` if none or all of them failed.
pub(super) fn encode_failures(body: &RunBody, count: u32) -> Option<Vec<u8>> {
    match body {
        RunBody::Ran(outcomes) if !outcomes.failures.is_empty() && outcomes.failures.len() < count as usize => {
            Some(outcomes.failures.iter().flat_map(|(at, _)| at.to_le_bytes()).collect())
        }
        _ => None,
    }
}

/// How many of the tasks from offset `from` to `to` failed, of a run with `failed` failures.
pub(super) fn failed_between(failures: Option<&[u8]>, failed: u32, from: u32, to: u32) -> u32 {
    match failures {
        None if failed == 0 => 0,
        None => to.saturating_sub(from),
        Some(offsets) => {
            let offsets = offsets.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
            // At most as many as there are tasks, which is a u32.
            offsets.filter(|at| (from..to).contains(at)).count() as u32
        }
    }
}

fn seal(value: &impl Serialize) -> Result<Vec<u8>, BadBody> {
    let mut bytes = vec![0; SUM_BYTES];
    bytes.push(VERSION);
    rmp_serde::encode::write(&mut bytes, value).map_err(|error| BadBody(format!("cannot be encoded: {error}")))?;
    let sum = blake3::hash(&bytes[SUM_BYTES..]);
    bytes[..SUM_BYTES].copy_from_slice(&sum.as_bytes()[..SUM_BYTES]);
    Ok(bytes)
}

fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadBody> {
    let (sum, rest) = bytes.split_at_checked(SUM_BYTES).ok_or_else(|| BadBody("is too short".into()))?;
    if blake3::hash(rest).as_bytes()[..SUM_BYTES] != *sum {
        return Err(BadBody("does not match its checksum".into()));
    }
    match rest.split_first() {
        Some((VERSION_MIN..=VERSION, body)) => from_msgpack(body),
        Some((version, _)) => Err(BadBody(format!("has the unknown encoding {version}"))),
        None => Err(BadBody("is empty".into())),
    }
}

fn named(value: &impl Serialize) -> Result<Bytes, BadBody> {
    rmp_serde::to_vec_named(value).map(Bytes::from).map_err(|error| BadBody(format!("cannot be encoded: {error}")))
}

fn from_msgpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadBody> {
    rmp_serde::from_slice(bytes).map_err(|error| BadBody(format!("cannot be decoded: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Function;
    use crate::results::testing::header;
    use crate::task::{BlobHash, EngineId, PackedBuilder, WorkerExit};

    fn bodies() -> Vec<(RunBody, u32)> {
        let mut values = PackedBuilder::default();
        values.push(b"");
        values.push(&[7; 300]);
        let timings = vec![Timing { start_us: 1, busy_us: u32::MAX }, Timing::default()];
        let crash = Cause::WorkerCrashed { exit: WorkerExit::Signal(9), last_output: "bye".into() };
        let output = TaskOutput { stdout: "out".into(), published: Some(Bytes::from_static(b"last")), ..TaskOutput::default() };
        let quiet = Outcomes { epoch_us: u64::MAX, values: values.build(), timings, ..Outcomes::default() };
        let loud = Outcomes { failures: vec![(0, crash)], output: vec![(1, output)], ..quiet.clone() };
        vec![(RunBody::Ran(quiet), 2), (RunBody::Ran(loud), 2), (RunBody::Ended(Cause::Poisoned { losses: 3 }), 9)]
    }

    #[test]
    fn bodies_come_back_as_written() {
        for (body, count) in bodies() {
            assert_eq!(decode_run(&encode_run(&body).unwrap(), count).unwrap(), body);
        }
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        for (body, count) in bodies() {
            let bytes = encode_run(&body).unwrap();
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x40;
                assert!(decode_run(&flipped, count).is_err(), "byte {at}");
                assert!(decode_run(&bytes[..at], count).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn headers_of_earlier_versions_are_read() {
        /// Without what jobs have had since.
        #[derive(Serialize)]
        struct Earlier {
            function: Function,
            target: String,
            direct: Vec<(EngineId, u32)>,
            chunk: u32,
            label: Option<String>,
            subscription: u64,
            window_bytes: u64,
        }
        let JobHeader { function, target, direct, chunk, label, subscription, window_bytes, .. } = header();
        let earlier = Earlier { function, target, direct, chunk, label, subscription, window_bytes };
        let read = decode_header(&seal(&named(&earlier).unwrap()).unwrap()).unwrap();
        assert_eq!((read.label, read.shared), (header().label, None));
        let shared = Some(BlobHash([7; 32]));
        let written = encode_header(&JobHeader { shared, ..header() }).unwrap();
        assert_eq!(decode_header(&written).unwrap().shared, shared);
    }

    #[test]
    fn failures_of_parts_are_counted_without_the_body() {
        let (loud, _) = bodies().remove(1);
        let offsets = encode_failures(&loud, 2);
        for (from, to, expected) in [(0, 2, 1), (0, 1, 1), (1, 2, 0), (0, 0, 0)] {
            assert_eq!(failed_between(offsets.as_deref(), 1, from, to), expected, "{from}..{to}");
        }
        assert_eq!(failed_between(None, 5, 1, 4), 3, "all failed");
        assert_eq!(failed_between(None, 0, 1, 4), 0, "none failed");
    }
}
