//! What goes into the scheduler and what comes out of it.

use std::{collections::BTreeSet, num::NonZeroU32};

use serde::{Deserialize, Serialize};

use super::{Requirement, follow::Whereabouts, gate::Ticket};
use crate::task::{BatchId, Cause, EngineId, JobId, TaskOptions, Tries};

/// A point in time: microseconds since an arbitrary start, from a clock that never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// How long ago `earlier` was, in microseconds; 0 when it lies ahead.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Tells the clients apart between which engine time is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientKey(pub u64);

/// What is known of a job when it is opened. Tasks are added later, see [`Scheduler::extend_job`](super::Scheduler::extend_job).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// The job.
    pub id: JobId,
    /// Whose share of engine time it uses.
    pub client: ClientKey,
    /// What an engine needs to have to run its tasks.
    pub requirement: Requirement,
    /// Which engines its tasks go to.
    pub placement: Placement,
    /// How many tasks make a batch.
    pub chunk: Chunk,
    /// What the client has chosen.
    pub options: TaskOptions,
}

/// Which engines the tasks of a job go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// Wherever there is room.
    Balanced,
    /// The first tasks to the first engine, as many as stated; the next to the second; and so on. A task whose engine is not there,
    /// is lost or drains before the task has ended fails.
    Direct(Vec<(EngineId, u32)>),
}

/// How many tasks make a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chunk {
    /// As many as measurement suggests.
    Adaptive,
    /// This many, or what is left; at most [`Settings::chunk_tasks_max`](super::Settings::chunk_tasks_max).
    Fixed(NonZeroU32),
}

/// How long the arguments of tasks are that are added to a job. Decides, beside the time that they take, how many go at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// All of them together, in bytes.
    pub bytes: u64,
    /// The longest one, in bytes.
    pub longest_bytes: u64,
}

/// What the scheduler wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send tasks `first..first + count` of `job` to `engine`.
    Dispatch {
        /// Where to.
        engine: EngineId,
        /// The dispatch; reports about it carry this number.
        batch: BatchId,
        /// Whose tasks.
        job: JobId,
        /// The first of them.
        first: u32,
        /// How many.
        count: u32,
        /// 1, and 1 more for each failure, and for each engine that was lost while it may have run them.
        attempt: u32,
    },
    /// Ask `engine` to give `batch` back unless it has started it. It answers with
    /// [`retracted`](super::Scheduler::retracted) or [`retract_refused`](super::Scheduler::retract_refused).
    Retract {
        /// Whom to ask.
        engine: EngineId,
        /// For which batch.
        batch: BatchId,
    },
    /// Ask `engine` to abort these tasks of `batch`. It reports them like all others, as aborted.
    Cancel {
        /// Whom to ask.
        engine: EngineId,
        /// The batch that the tasks are in.
        batch: BatchId,
        /// The first of them: an index of the job.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Record that tasks `first..first + count` of `job` ended without a value.
    Settle {
        /// Whose tasks.
        job: JobId,
        /// The first of them.
        first: u32,
        /// How many.
        count: u32,
        /// How often they had been sent to an engine.
        attempt: u32,
        /// The engine that they were at, if they were at one.
        engine: Option<EngineId>,
        /// Why they have no value.
        cause: Cause,
    },
    /// Remember that tasks `first..first + count` of `job`, which are queued again, have been tried so often.
    Tried {
        /// Whose tasks.
        job: JobId,
        /// The first of them.
        first: u32,
        /// How many.
        count: u32,
        /// How often, and how that ended.
        tries: Tries,
    },
    /// Find out what is known of tasks `first..first + count` of job `of`, as of now: after what was to be recorded before this, and
    /// before what comes after it. [`counted`](super::Scheduler::counted) takes the answer.
    Count {
        /// What to answer to.
        ticket: Ticket,
        /// Whose tasks.
        of: JobId,
        /// The first of them.
        first: u32,
        /// How many.
        count: u32,
    },
    /// It is decided what becomes of a job that waited for others, by outcomes that may not be kept yet. Say
    /// [`confirmed`](super::Scheduler::confirmed) when everything is that was to be recorded before this.
    Confirm {
        /// What to say it of.
        ticket: Ticket,
    },
    /// Find out where tasks of job `of` ran; [`located`](super::Scheduler::located) takes the answer.
    Locate {
        /// What to answer to.
        ticket: Ticket,
        /// Which tasks, and how many engines are of interest.
        question: Whereabouts,
    },
    /// Remember that `job` waits for no other tasks any more, whatever becomes of these.
    Released {
        /// The job.
        job: JobId,
        /// The only engines that it may run on from now on, if it follows others.
        engines: Option<BTreeSet<EngineId>>,
    },
    /// `job` is closed and all its tasks have ended. The scheduler has forgotten it.
    Finished {
        /// The job.
        job: JobId,
    },
}

/// A task that an engine has ended without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its offset from the first task that is reported.
    pub at: u32,
    /// Whether another attempt may end otherwise.
    pub may_pass: bool,
}

/// A report of progress that counts: its outcomes are the outcomes of those tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The job that the tasks belong to.
    pub job: JobId,
    /// Which attempt at them it was.
    pub attempt: u32,
}

/// A report of progress that does not count: its outcomes are to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The engine is not, or no longer, connected.
    #[error("engine {0} is not connected: what it reports does not count")]
    UnknownEngine(EngineId),
    /// The batch is not at that engine; most often an old attempt, whose tasks went elsewhere.
    #[error("batch {batch} is not at engine {engine}: what is reported of it does not count")]
    UnknownBatch {
        /// Who reported.
        engine: EngineId,
        /// What of.
        batch: BatchId,
    },
    /// The tasks are not the next ones of the batch.
    #[error("batch {batch} expects a report from task {expected} on, of 1 to {left} tasks; got {count} from task {first} on")]
    OutOfStep {
        /// The batch.
        batch: BatchId,
        /// The first task without a report.
        expected: u32,
        /// How many are without one.
        left: u32,
        /// The first task that was reported.
        first: u32,
        /// How many were.
        count: u32,
    },
}

/// Why a job was not opened. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is an open job with this id.
    #[error("job {0} is open already")]
    Exists(JobId),
    /// There are too many open jobs.
    #[error("there are {max} open jobs, which is the limit: wait until some have finished")]
    TooManyJobs {
        /// The limit.
        max: usize,
    },
    /// What is kept of the job does not fit together.
    #[error("what is kept of job {0} contradicts itself: the store is damaged")]
    Contradiction(JobId),
    /// The placement names too many engines.
    #[error("the placement has {parts} parts, and {max} is the limit: split the job")]
    PlacementTooLong {
        /// How many it names.
        parts: usize,
        /// The limit.
        max: usize,
    },
    /// The placement has room for more tasks than a job can have.
    #[error("the placement has room for more than {max} tasks, the most of one job: split the job")]
    PlacementTooLarge {
        /// The limit.
        max: u32,
    },
}

/// Why a job was not extended. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// There is no such job, or it has finished.
    #[error("job {0} is not open")]
    UnknownJob(JobId),
    /// The job is closed.
    #[error("job {0} is closed: open another one for further tasks")]
    Closed(JobId),
    /// The job has no room for so many more.
    #[error("job {job} has room for {room} more tasks, not for {count}: open another one for them")]
    TooManyTasks {
        /// The job.
        job: JobId,
        /// How many more it could take.
        room: u32,
        /// How many were to be added.
        count: u32,
    },
}

/// There is no such job, or it has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("job {0} is not open")]
pub struct UnknownJob(pub JobId);

/// How many tasks a cancellation reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelCounts {
    /// Those that were queued, and have ended.
    pub queued: u32,
    /// Those at engines, which were asked to abort them. Those that had been asked before do not count again.
    pub active: u32,
    /// Of those at engines, the ones at engines that run tasks in threads.
    pub in_threads: u32,
}

#[cfg(test)]
/// Where the tasks of a job are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    /// Not yet sent to an engine.
    pub queued: u32,
    /// In a batch at an engine.
    pub active: u32,
    /// Ended.
    pub done: u32,
}

/// A batch that an engine says to have when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The dispatch.
    pub batch: BatchId,
    /// Whose tasks.
    pub job: JobId,
    /// The first task whose outcome was not acknowledged.
    pub first: u32,
    /// The end of the batch.
    pub end: u32,
    /// Which attempt at them it is.
    pub attempt: u32,
    /// Whether one of its tasks has started.
    pub started: bool,
}

/// What becomes of a [`Claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The engine goes on with it.
    Kept {
        /// The first task whose outcome is still wanted.
        from: u32,
    },
    /// The engine is to drop it: its tasks have ended, or are elsewhere.
    Dropped,
}

/// What a restored job has behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How many tasks it has so far.
    pub total: u32,
    /// How many of them have ended without a value.
    pub failed: u32,
    /// Whether no more will be added.
    pub closed: bool,
    /// Whether it waits for no other tasks any more.
    pub released: bool,
    /// The engines that it is bound to since, if it follows others.
    pub engines: Option<BTreeSet<EngineId>>,
    /// For how many microseconds tasks up to an index, exclusively, have been waiting; ascending. Needed with a queue timeout only.
    pub waited: Vec<(u32, u64)>,
}

/// Tasks of a restored job that have no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspended {
    /// The first of them.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// How often they have been tried.
    pub tries: Tries,
}
