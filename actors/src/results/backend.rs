//! What the actor wants of whatever keeps its results, in memory or on disk.

use std::{collections::BTreeSet, sync::Arc};

use super::{KeepRun, NoteEngines};
use crate::scheduler::{Known, Located, Whereabouts};
use crate::status::StatusCounts;
use crate::task::{EngineId, JobId};
use crate::wire::{FetchTasks, FetchedTasks, JobCounts, QueryTasks, Run, StoreRefusal, TaskPage};

/// Who asks: the name in its certificate, and whether that makes it an admin, who may see what belongs to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Viewer {
    pub name: Arc<str>,
    pub admin: bool,
}

impl Viewer {
    /// Whether it may see, and purge, what belongs to that owner.
    pub fn sees(&self, owner: &str) -> bool {
        self.admin || *self.name == *owner
    }
}

impl<T: Into<Arc<str>>> From<T> for Viewer {
    fn from(name: T) -> Self {
        Self { name: name.into(), admin: false }
    }
}

/// Something to be kept.
#[derive(Debug)]
pub(super) enum Write {
    Keep(KeepRun),
    Record {
        job: JobId,
        run: Run,
    },
    Losses {
        job: JobId,
        first: u32,
        count: u32,
        losses: u32,
    },
    Engines(NoteEngines),
    /// The job waits for no other tasks any more.
    Released {
        job: JobId,
        /// The only engines that it may run on since, if it follows others.
        engines: Option<BTreeSet<EngineId>>,
    },
    /// What is known of these tasks, after everything that was to be kept before?
    Count {
        viewer: Viewer,
        job: JobId,
        first: u32,
        count: u32,
    },
    /// A client has taken the runs that start there.
    Take {
        job: JobId,
        owner: Arc<str>,
        runs: Vec<u32>,
    },
    /// How far is the job, after everything that was to be kept before?
    Look {
        job: JobId,
    },
    /// Everything before is kept.
    Settle,
    Purge {
        viewer: Viewer,
        runs: Vec<(JobId, u32, u32)>,
    },
    PurgeOlder {
        viewer: Viewer,
        shard: u32,
        before_us: u64,
    },
}

/// What became of a [`Write`].
#[derive(Debug, PartialEq)]
pub(super) enum Done {
    /// `Ok` says whether the job has ended.
    Kept(Result<bool, String>),
    /// The outcomes, unless they were not wanted: the job is not here, or a task of it has an outcome already. And whether the
    /// job has ended.
    Recorded(Option<Run>, bool),
    Looked(Option<JobInfo>),
    Counted(Option<Known>),
    Settled,
    Purged(Result<u64, StoreRefusal>),
}

/// Whose a job is, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobInfo {
    pub owner: Arc<str>,
    pub counts: JobCounts,
    /// Every task has an outcome and no more will come.
    pub ended: bool,
}

impl JobInfo {
    /// What is known of tasks of the job, of which those in `part` are asked about: of all of them, without looking at each, if these
    /// are all.
    pub fn known(&self, (first, count): (u32, u32), part: StatusCounts) -> Known {
        let JobCounts { submitted, done, failed } = self.counts;
        let all = Known { submitted, ended: self.ended, succeeded: done - failed.min(done), failed, dropped: 0 };
        if first == 0 && count >= submitted {
            return all;
        }
        // Counts of tasks of one job, which has fewer than 2^32.
        let [succeeded, failed, dropped] = [part.succeeded, part.failed, part.evicted].map(|count| count as u32);
        Known { succeeded, failed, dropped, ..all }
    }
}

/// Something to be read.
#[derive(Debug)]
pub(super) enum Question {
    Job(JobId),
    /// Runs and evicted tasks within these ranges, given as start and end, ascending.
    Page {
        job: JobId,
        ranges: Vec<(u32, u32)>,
        bytes_max: u64,
    },
    Status {
        viewer: Viewer,
        runs: Vec<(JobId, u32, u32)>,
    },
    FirstPending {
        viewer: Viewer,
        job: JobId,
        first: u32,
        end: u32,
    },
    Tasks {
        viewer: Viewer,
        fetch: FetchTasks,
    },
    Records {
        viewer: Viewer,
        query: Box<QueryTasks>,
    },
    Whereabouts {
        viewer: Viewer,
        question: Whereabouts,
    },
}

/// What there is to a [`Question`].
#[derive(Debug)]
pub(super) enum Answer {
    Job(Option<JobInfo>),
    Page(Page),
    Status(StatusCounts),
    FirstPending(FirstPending),
    Tasks(Result<FetchedTasks, StoreRefusal>),
    Records(Result<TaskPage, StoreRefusal>),
    Whereabouts(Located),
}

/// Some of the runs that were asked for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page {
    /// Runs that lie within or overlap the ranges, whole; and parts of the ranges that were evicted.
    pub runs: Vec<Run>,
    /// Of the ranges, everything below this is among `runs`, or has no outcome.
    pub until: u32,
}

/// The first task of a range that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstPending {
    /// All have ended.
    None,
    /// This one; those before have ended.
    At(u32),
    /// Those before this one have ended; there are more to be looked at.
    LookOn(u32),
    /// The job, or one of the tasks, is not here, or is another owner's.
    Unknown,
}
