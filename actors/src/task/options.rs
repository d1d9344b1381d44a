//! What a client may choose for the tasks of a job. Pure data.

use serde::{Deserialize, Serialize};

use super::{JobId, Selection};

/// What all tasks of a job have in common, by choice of the client. On disk and on the wire as a part of the job's header: what is
/// added here, at the end, is taken over when tasks are submitted again, and missing in headers from before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskOptions {
    /// Higher goes first, before any question of fairness between clients.
    pub priority: i32,
    /// How long each may run, in milliseconds; 0 lets it run for as long as it likes.
    pub time_limit_ms: u64,
    /// How long a task may wait until it is sent to an engine for the first time, in microseconds. Beyond that it fails.
    pub queue_timeout_us: Option<u64>,
    /// What is waited for, all of it, before any task is sent to an engine.
    pub after: Vec<Condition>,
    /// What follows when a task fails.
    pub retries: Retries,
    /// How many engines may be lost with a task until it is held to be the reason; `None`: as many as usual.
    pub losses_max: Option<u32>,
    /// Which engines may run them.
    pub selection: Selection,
    /// As `after`; and they may run only where all of this ran.
    pub follow: Vec<Condition>,
}

/// How often, and when, a task is tried again that has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retries {
    /// How many failures are followed by another attempt.
    pub failures: u32,
    /// How long is waited after the first failure, in microseconds; twice as long after each further one.
    pub pause_us: u64,
}

/// How often tasks without an outcome have been tried, and how that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many engines were lost while they may have run them.
    pub losses: u32,
    /// How often they have failed.
    pub failures: u32,
}

impl Tries {
    /// As a store keeps it: one number, which is that of the losses alone as long as nothing has failed. Either part stops at 65,535.
    pub fn kept(self) -> u32 {
        self.failures.min(0xFFFF) << 16 | self.losses.min(0xFFFF)
    }

    /// What a store has kept.
    pub fn of_kept(kept: u32) -> Self {
        Self { losses: kept & 0xFFFF, failures: kept >> 16 }
    }

    /// How many there were.
    pub fn count(self) -> u32 {
        self.losses.saturating_add(self.failures)
    }
}

/// What tasks of other jobs must have come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which tasks: of each job the first index, and how many. `u32::MAX` from index 0 on means the whole job, closed.
    pub runs: Vec<(JobId, u32, u32)>,
    pub quorum: Quorum,
    pub end: End,
}

/// How many of the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quorum {
    All,
    Any,
}

/// How they must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Succeeded,
    Failed,
    Either,
}

impl TaskOptions {
    /// How many runs of other tasks it names.
    pub fn dependencies(&self) -> usize {
        self.conditions().map(|condition| condition.runs.len()).sum()
    }

    /// What is waited for, and then what is followed.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.after.iter().chain(&self.follow)
    }

    /// The jobs of the tasks that it names.
    pub fn named_jobs(&self) -> impl Iterator<Item = JobId> {
        self.conditions().flat_map(|condition| condition.runs.iter().map(|run| run.0))
    }
}
