//! The messages between client, controller and engine nodes, and who may send which.
//!
//! A version is part of each message: a change that an older node cannot read needs a new one.

use std::collections::BTreeMap;

use bytes::Bytes;
use engineroom_runtime::{
    actor::{ActorId, RemoteMessage},
    net::bulk::MESSAGE_BYTES_MAX,
};
use serde::{Deserialize, Serialize};

use crate::code::Function;
use crate::status::{ClusterStatus, EngineInfo, StatusCounts};
use crate::task::{
    BatchId, BlobHash, BundleHash, Cause, EngineId, JobId, MessageId, News, Outcomes, Packed, TaskFilter, TaskOptions, TaskRecord,
};

/// The scheduler, on the controller's node.
pub(crate) const SCHEDULER: ActorId = ActorId(1);
/// The keeper of blobs, on the controller's node.
pub(crate) const BLOBS: ActorId = ActorId(2);
/// The client actor, on a client's node.
pub(crate) const CLIENT: ActorId = ActorId(1);

/// The longest argument of one task, and the longest result, in bytes as they are encoded: what a message may have, less what it has
/// beside them, as names, timings and other results.
pub(crate) const VALUE_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (4 << 20);

/// Into how many shards jobs fall. A controller has fewer result stores and exports each under several shards, so that
/// nobody else needs to know how many there are.
pub(crate) const SHARDS: usize = 64;

/// The result store of that shard, on the controller's node.
pub(crate) fn store_actor(shard: usize) -> ActorId {
    ActorId(16 + shard as u32)
}

/// The engine in that place on its node. Places are known before the controller has given ids, so that nothing sent to
/// an engine can come before it is there.
pub(crate) fn engine_actor(place: u32) -> ActorId {
    ActorId(1024 + place)
}

macro_rules! remote_message {
    ($message:ty, $name:literal, $reply:ty) => {
        remote_message!($message, $name, 1, $reply);
    };
    ($message:ty, $name:literal, $version:literal, $reply:ty) => {
        impl RemoteMessage for $message {
            const NAME: &'static str = $name;
            const VERSION: u16 = $version;
            type Reply = $reply;
        }
    };
}

/// Client to scheduler: a run of consecutive tasks of a job. The first such message of a job opens it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Submit {
    pub job: JobId,
    /// What the tasks have in common; with the first run only.
    pub open: Option<JobHeader>,
    /// The index of the first task. Runs come in order and without gaps.
    pub first: u32,
    pub arguments: Packed,
    /// Whether this is the last run.
    pub closed: bool,
}
remote_message!(Submit, "submit", 3, Result<(), SubmitRefusal>);

/// What the tasks of a job have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JobHeader {
    pub function: Function,
    /// The target that the function's bundle was built for; empty for a named task.
    pub target: String,
    /// For a direct view: which engines, and how many consecutive tasks each gets. Empty: any engine.
    pub direct: Vec<(EngineId, u32)>,
    /// How many tasks go to an engine at once, as far as the scheduler's bounds allow; 0 lets it find out.
    pub chunk: u32,
    pub label: Option<String>,
    /// The submitting client's number for its subscription to the results.
    pub subscription: u64,
    /// How many bytes of results may be under way to it.
    pub window_bytes: u64,
    /// The value that the tasks share, beside their arguments. Headers on disk from before there was such a thing lack it.
    #[serde(default)]
    pub shared: Option<BlobHash>,
    /// What else the client has chosen for them. Missing in headers on disk from before.
    #[serde(default)]
    pub options: Box<TaskOptions>,
}

/// Why a submission was not taken. Nothing of it was kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum SubmitRefusal {
    /// The controller has never heard of the job, or has forgotten it: it was restarted.
    UnknownJob,
    /// The request makes no sense; the text says why.
    Invalid(String),
    /// The store cannot keep the job; the text says why, and what to do.
    NotKept(String),
    /// The controller does not have the value that the job's tasks share, or has it no longer.
    NoSharedValue,
}

/// Client to scheduler: abort these tasks. Answers what they were.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Abort {
    pub job: JobId,
    pub first: u32,
    pub count: u32,
}
remote_message!(Abort, "abort", 2, AbortCounts);

/// What the tasks were that an abort was about: the sum of `queued`, `active` and `ended` is how many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortCounts {
    /// Tasks that were waiting. They have ended as aborted, and never run.
    pub queued: u32,
    /// Tasks that were at an engine, running or about to. Each ends as aborted unless it ends first.
    pub active: u32,
    /// How many of `active` are at engines that run tasks in threads, which cannot be stopped: one that runs there goes on until it
    /// ends by itself, or [asks](crate::TaskContext::is_cancelled). All others are stopped.
    pub in_threads: u32,
    /// Tasks that had ended, had been asked to be aborted before, or are not known.
    pub ended: u32,
}

impl std::ops::AddAssign for AbortCounts {
    fn add_assign(&mut self, other: Self) {
        self.queued = self.queued.saturating_add(other.queued);
        self.active = self.active.saturating_add(other.active);
        self.in_threads = self.in_threads.saturating_add(other.in_threads);
        self.ended = self.ended.saturating_add(other.ended);
    }
}

/// Client to scheduler: how is the cluster?
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QueryCluster;
remote_message!(QueryCluster, "query-cluster", 2, ClusterStatus);

/// Client to scheduler: tell me now and henceforth which engines there are.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WatchEngines;
remote_message!(WatchEngines, "watch-engines", 3, EnginesChanged);

/// Scheduler to client: the engines are these now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EnginesChanged {
    /// Grows with every change while the controller lives. Long lists can be overtaken: the highest version counts, of those
    /// that came by one link.
    pub version: u64,
    pub engines: Vec<EngineInfo>,
}
remote_message!(EnginesChanged, "engines-changed", 3, ());

/// Client to store: send me the results of these tasks, those there are and those to come. No tasks at all end the
/// subscription.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Subscribe {
    pub job: JobId,
    /// The client's number for it; a second subscription of one number takes the place of the first.
    pub subscription: u64,
    /// Which: first index and count of each run.
    pub ranges: Vec<(u32, u32)>,
    pub window_bytes: u64,
}
remote_message!(Subscribe, "subscribe", Option<JobCounts>);

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobCounts {
    /// How many tasks have been submitted so far.
    pub submitted: u32,
    /// How many of them have an outcome.
    pub done: u32,
    /// How many of those have no value.
    pub failed: u32,
}

/// Client to store: the program has taken these results; as many more bytes may follow.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub job: JobId,
    pub subscription: u64,
    /// The runs that were taken, by their first task.
    pub runs: Vec<u32>,
    /// How many more bytes may be sent.
    pub grant_bytes: u64,
}
remote_message!(Taken, "taken", ());

/// Client to store: the counts of these tasks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QueryStatus {
    pub runs: Vec<(JobId, u32, u32)>,
}
remote_message!(QueryStatus, "query-status", StatusCounts);

/// Why a store did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum StoreRefusal {
    /// It is not there: it never was, is another owner's, or has been forgotten.
    #[error(
        "the controller does not know job {0}, or not all of its tasks: it was submitted elsewhere, by another owner, or was dropped since"
    )]
    Unknown(JobId),
    /// So many of the tasks have not ended.
    #[error("{0} of the tasks have not ended: abort them, or wait for them")]
    Pending(u64),
    /// This store cannot; the text says why, and what to do.
    #[error("{0}")]
    NotHere(String),
    /// Too much is asked for at once; the text says what.
    #[error("{0}")]
    TooMuch(String),
}

/// Client to store: answer when all of these tasks have ended. Given up when the link ends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AwaitEnd {
    pub runs: Vec<(JobId, u32, u32)>,
}
remote_message!(AwaitEnd, "await-end", Result<(), StoreRefusal>);

/// Client to store: with what were these tasks submitted?
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FetchTasks {
    pub job: JobId,
    /// First index and count of each run, ascending.
    pub ranges: Vec<(u32, u32)>,
}
remote_message!(FetchTasks, "fetch-tasks", 3, Result<FetchedTasks, StoreRefusal>);

/// With what tasks were submitted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FetchedTasks {
    pub header: Box<JobHeader>,
    /// First index, and the arguments from there on. Only tasks that were asked for, ascending.
    pub runs: Vec<(u32, Packed)>,
    /// Where to go on: tasks from this index on are not among `runs`. `None` if this is all.
    pub next: Option<u32>,
}

/// Client to store: drop the outcomes and arguments of these tasks, all of which must have ended. Answers how many there were.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Purge {
    pub runs: Vec<(JobId, u32, u32)>,
}
remote_message!(Purge, "purge", Result<u64, StoreRefusal>);

/// Client to store: drop the outcomes and arguments of this owner's jobs that ended before that time. Answers how many tasks
/// there were.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PurgeOlder {
    pub shard: u32,
    /// Microseconds since the Unix epoch.
    pub before_us: u64,
}
remote_message!(PurgeOlder, "purge-older", Result<u64, StoreRefusal>);

/// Client to store: tell of these tasks, those of the newest job first, within a job by index.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QueryTasks {
    pub shard: u32,
    pub filter: TaskFilter,
    /// Those that come after this one.
    pub after: Option<MessageId>,
    /// At most so many; a store may have a bound of its own.
    pub limit: u32,
}
remote_message!(QueryTasks, "query-tasks", Result<TaskPage, StoreRefusal>);

/// Some of the tasks that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskPage {
    pub records: Vec<TaskRecord>,
    /// Where to go on, even if `records` is empty: a page looks at a bounded number of tasks. `None` if there are no more.
    pub next: Option<MessageId>,
}

/// Store to client: results.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub job: JobId,
    pub subscription: u64,
    pub run: Run,
}
remote_message!(Results, "results", 3, ());

/// Store to client: what a running task tells. Best effort: what does not arrive is not sent again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PassedNews {
    pub job: JobId,
    pub subscription: u64,
    pub index: u32,
    pub news: News,
}
remote_message!(PassedNews, "passed-news", ());

/// The outcomes of a run of consecutive tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub first: u32,
    pub count: u32,
    pub engine: Option<EngineId>,
    pub attempt: u32,
    /// When they were submitted, in microseconds since the Unix epoch by the controller's clock.
    pub submitted_us: u64,
    pub body: RunBody,
}

impl Run {
    /// Whether its parts fit together. False only for what a broken or hostile peer sent.
    pub(crate) fn is_sound(&self) -> bool {
        let fits = match &self.body {
            RunBody::Ran(outcomes) => outcomes.is_sound() && outcomes.len() == self.count as usize,
            RunBody::Ended(_) => true,
        };
        fits && self.first.checked_add(self.count).is_some()
    }

    /// The end of its tasks.
    pub(crate) fn end(&self) -> u32 {
        self.first.saturating_add(self.count)
    }

    /// What it counts for in a window, in bytes; both sides count the same. The fixed part bounds the number of messages.
    pub(crate) fn window_bytes(&self) -> u64 {
        256 + match &self.body {
            RunBody::Ran(outcomes) => outcomes.bytes() as u64,
            RunBody::Ended(_) => 64,
        }
    }

    /// Whether one of its tasks has no value.
    pub(crate) fn has_failed(&self) -> bool {
        match &self.body {
            RunBody::Ended(_) => self.count > 0,
            RunBody::Ran(outcomes) => !outcomes.failures.is_empty(),
        }
    }

    /// The first of its tasks within `first..end` that has no value.
    pub(crate) fn first_failed_within(&self, first: u32, end: u32) -> Option<u32> {
        let (start, stop) = (self.first.max(first), self.end().min(end));
        match &self.body {
            RunBody::Ended(_) => (start < stop).then_some(start),
            RunBody::Ran(outcomes) => {
                let mut failed = outcomes.failures.iter().map(|(at, _)| self.first + at);
                failed.find(|index| (start..stop).contains(index))
            }
        }
    }

    /// How many of its tasks within `first..end` have no value.
    pub(crate) fn failed_within(&self, first: u32, end: u32) -> u32 {
        let (start, stop) = (self.first.max(first), self.end().min(end));
        match &self.body {
            RunBody::Ended(_) => stop.saturating_sub(start),
            RunBody::Ran(outcomes) => {
                let within = |at: &u32| (start..stop).contains(&(self.first + at));
                // At most as many as there are tasks, which is a u32.
                outcomes.failures.iter().filter(|(at, _)| within(at)).count() as u32
            }
        }
    }
}

/// What became of the tasks of a [`Run`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum RunBody {
    /// An engine ran them.
    Ran(Outcomes),
    /// They ended without having run to their end, all for the same reason.
    Ended(Cause),
}

/// Engine node to scheduler: here are so many engines.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Register {
    pub engines: u32,
    /// The node's machine and process, for people.
    pub place: String,
    pub target: String,
    /// `None` for process workers; for thread workers their program's bundle.
    pub thread_bundle: Option<Option<BundleHash>>,
    /// The named tasks that they offer.
    pub tasks: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub resources: BTreeMap<String, u64>,
    pub rank: Option<u32>,
    /// What a node that was registered before still has; `None` the first time.
    pub before: Option<Before>,
}
remote_message!(Register, "register", 3, Result<Registered, String>);

/// What an engine node has when it comes back: after its link was lost, or the controller was restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    /// The ids of its engines, by place.
    pub ids: Vec<EngineId>,
    /// Every batch of which it runs, or will run, tasks, or holds outcomes that were not acknowledged. Those of one place in the
    /// order in which they run.
    pub batches: Vec<HeldBatch>,
}

/// A batch that an engine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldBatch {
    /// Which engine of the node.
    pub place: u32,
    pub batch: BatchId,
    pub job: JobId,
    /// The first task whose outcome was not acknowledged.
    pub first: u32,
    /// The end of the batch.
    pub end: u32,
    pub attempt: u32,
    /// Whether one of its tasks has started.
    pub started: bool,
}

/// The engines of a node are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    /// Their ids, by place.
    pub engines: Vec<EngineId>,
    /// The batches of [`Before`] that stay where they are, and the first task of each whose outcome is still wanted. All others
    /// are to be dropped: their tasks have ended, or run elsewhere.
    pub kept: Vec<(BatchId, u32)>,
}

/// Engine node to scheduler: these engines take nothing new; what runs will be reported.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Draining {
    pub engines: Vec<EngineId>,
}
remote_message!(Draining, "draining", ());

/// Scheduler to engine: run these tasks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Dispatch {
    /// The id of the engine that this is for, which it need not know otherwise.
    pub engine: EngineId,
    pub batch: BatchId,
    pub job: JobId,
    pub first: u32,
    pub attempt: u32,
    pub function: Function,
    pub arguments: Packed,
    /// The value that the job's tasks share.
    pub shared: Option<BlobHash>,
    /// How long each task may run, in milliseconds; 0 lets it run for as long as it likes.
    pub time_limit_ms: u64,
}
remote_message!(Dispatch, "dispatch", 3, ());

/// Scheduler to engine: give that batch back if it has not started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Retract {
    pub engine: EngineId,
    pub batch: BatchId,
}
remote_message!(Retract, "retract", ());

/// Scheduler to engine: stop these tasks of that batch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StopTasks {
    pub batch: BatchId,
    pub first: u32,
    pub count: u32,
}
remote_message!(StopTasks, "stop-tasks", ());

/// What is to be done to an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EngineOrder {
    /// Send its worker processes the signal with this number.
    Signal(i32),
    /// Replace its worker processes; what runs is begun anew.
    Restart,
    /// Finish what has begun, and leave.
    Shutdown,
}

/// Client to scheduler: do that to these engines. Answers for each of them, in their order, why it was not done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ControlEngines {
    pub engines: Vec<EngineId>,
    pub order: EngineOrder,
}
remote_message!(ControlEngines, "control-engines", Result<Vec<Result<(), String>>, String>);

/// Scheduler to engine: do that.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ControlEngine {
    pub order: EngineOrder,
}
remote_message!(ControlEngine, "control-engine", Result<(), String>);

/// Engine to scheduler: these tasks have ended. The answer says that their outcomes are kept, or no longer wanted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub engine: EngineId,
    pub batch: BatchId,
    pub first: u32,
    pub outcomes: Outcomes,
}
remote_message!(Report, "report", 3, ());

/// Engine to scheduler: what the task tells that it runs. Best effort: what does not arrive is not sent again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TaskNews {
    pub engine: EngineId,
    pub batch: BatchId,
    pub index: u32,
    pub news: News,
}
remote_message!(TaskNews, "task-news", ());

/// Engine to scheduler: the answer to [`Retract`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Retracted {
    pub engine: EngineId,
    pub batch: BatchId,
    /// Whether it is given back; if not, it had started.
    pub returned: bool,
}
remote_message!(Retracted, "retracted", ());

/// Client to the keeper of blobs: do you need this one?
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OfferBlob {
    pub hash: BlobHash,
    pub bytes: u64,
}
remote_message!(OfferBlob, "offer-blob", Result<BlobState, String>);

/// What the keeper of blobs has of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BlobState {
    /// All of it.
    Present,
    /// Nothing: send it, from the start.
    Wanted,
}

/// Client to the keeper of blobs: the next part. Parts come one by one, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BlobPart {
    pub hash: BlobHash,
    pub offset: u64,
    pub data: Bytes,
    /// Whether it is the last: then the hash is checked before the answer.
    pub last: bool,
}
remote_message!(BlobPart, "blob-part", Result<(), String>);

/// Engine node to the keeper of blobs: send me a part.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FetchBlob {
    pub hash: BlobHash,
    pub offset: u64,
    /// At most so many bytes.
    pub bytes_max: u32,
}
remote_message!(FetchBlob, "fetch-blob", Result<FetchedPart, String>);

/// A part of a blob.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FetchedPart {
    /// How long the whole blob is.
    pub blob_bytes: u64,
    pub data: Bytes,
}
