//! What a controller that starts finds in its store.

use std::collections::BTreeSet;

use super::Owner;
use crate::task::{EngineId, JobId, Packed};
use crate::wire::JobHeader;

/// What was there when a store was opened.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// Above all batches of earlier lives of the controller.
    pub first_batch: u64,
    /// Above all engine ids that were given.
    pub next_engine: u32,
    /// The engines that were there when the controller ended, ascending.
    pub engines: Vec<EngineId>,
    /// The jobs that have not ended, in the order in which they were opened.
    pub jobs: Vec<RestoredJob>,
    /// Of the newest jobs those that have ended, in the same order: a client that was not told of the acknowledgement
    /// may send their tasks again.
    pub ended: Vec<RestoredEnd>,
}

/// A job that has ended.
#[derive(Debug)]
pub(crate) struct RestoredEnd {
    pub id: JobId,
    pub owner: Owner,
    /// How many tasks it has.
    pub submitted: u32,
}

/// A job that has not ended.
#[derive(Debug)]
pub(crate) struct RestoredJob {
    pub id: JobId,
    pub owner: Owner,
    pub header: JobHeader,
    /// How many tasks have been submitted.
    pub submitted: u32,
    /// How many of them have ended without a value.
    pub failed: u32,
    /// Whether no more tasks will be submitted.
    pub closed: bool,
    /// Whether it waits for no other tasks any more.
    pub released: bool,
    /// The only engines that it may run on since, if it follows others.
    pub engines: Option<BTreeSet<EngineId>>,
    /// For how many microseconds tasks up to an index, exclusively, have been waiting; ascending. Of jobs with a queue timeout only.
    pub waited: Vec<(u32, u64)>,
    /// The tasks without an outcome, ascending; neighbours have different losses.
    pub pending: Vec<PendingTasks>,
    /// The arguments of all pending tasks, in the runs in which they were submitted, ascending: first index, and all arguments
    /// of that run. Runs of which no task is pending are left out.
    pub arguments: Vec<(u32, Packed)>,
}

/// Consecutive tasks without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingTasks {
    pub first: u32,
    pub count: u32,
    /// How many engines were lost with them so far.
    pub losses: u32,
}
