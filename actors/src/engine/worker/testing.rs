//! What the tests of several modules need.

use serde::{Serialize, de::DeserializeOwned};

use super::{Report, Reporting, Run};
use crate::{
    code::{Function, decode, encode},
    task::{BatchId, BundleHash, Cause, EngineId, JobId, PackedBuilder},
};

/// The bundle that stands for the test's own executable.
pub(super) const OWN: BundleHash = BundleHash([7; 32]);

/// A batch of calls of `function`, from index 0 of its job on.
pub(super) fn batch<A: Serialize>(batch: u64, function: Function, arguments: impl IntoIterator<Item = A>) -> Run {
    let mut packed = PackedBuilder::default();
    for argument in arguments {
        let mut encoded = Vec::new();
        encode(&argument, &mut encoded).unwrap();
        packed.push(&encoded);
    }
    Run {
        batch: BatchId(batch),
        first: 0,
        function,
        arguments: packed.build(),
        job: JobId::from_u128(1),
        attempt: 3,
        engine: EngineId(9),
        reporting: Reporting::Coalesced,
        shared: None,
    }
}

/// A batch of so many calls, from index `first` on, that nobody makes.
pub(super) fn idle(id: u64, first: u32, tasks: usize) -> Run {
    Run { first, ..batch(id, Function::named("f"), vec![(); tasks]) }
}

/// What became of each task, from reports that must be complete and in order.
pub(super) fn results<R: DeserializeOwned>(reports: &[Report]) -> Vec<Result<R, Cause>> {
    let mut results = Vec::new();
    let first = reports.first().map_or(0, |report| report.first as usize);
    for report in reports {
        assert_eq!(report.first as usize, first + results.len(), "reports have no gaps");
        // One without outcomes says that a task takes long.
        assert!(report.outcomes.is_sound());
        for (offset, value) in report.outcomes.values.iter().enumerate() {
            let failure = report.outcomes.failure(offset as u32).cloned();
            results.push(failure.map_or_else(|| Ok(decode(value).unwrap()), Err));
        }
    }
    results
}
