//! What a controller's other actors tell a result store.

use std::{collections::BTreeSet, sync::Arc};

use actix::Message;
use engineroom_runtime::{actor::Reply, net::link::Link, proto::handshake::Incarnation};
use tokio::sync::oneshot;

use crate::scheduler::{Known, Located, Whereabouts};
use crate::task::{EngineId, JobId, News, Packed};
use crate::wire::{JobHeader, Run};

/// Whose a job is: one life of one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// The name in its certificate.
    pub name: Arc<str>,
    pub incarnation: Incarnation,
}

/// Keep this run of tasks. Answered by [`Kept`], in order: at once by a store in memory, after the commit by one on disk.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct KeepRun {
    pub job: JobId,
    /// Whose the job is and what its tasks have in common; with the first run only.
    pub open: Option<(Owner, JobHeader)>,
    /// The index of the first task.
    pub first: u32,
    pub arguments: Packed,
    /// Whether this is the last run.
    pub closed: bool,
}

/// A store tells the scheduler what became of a [`KeepRun`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Kept {
    pub job: JobId,
    /// `Err` for the run that opens a job only, and for all that follow it: the job could not be kept, the text says why. Later
    /// runs wait until they can be.
    pub outcome: Result<(), String>,
}

/// The client that submits a job wants its results.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SubscribeOwner {
    pub job: JobId,
    pub client: Link,
    pub subscription: u64,
    pub window_bytes: u64,
}

/// What a running task tells, for those who want its result and are there.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PassNews {
    pub job: JobId,
    pub index: u32,
    pub news: News,
}

/// The outcomes of a run of tasks, accepted by the scheduler.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordRun {
    pub job: JobId,
    pub run: Run,
    /// Told once the outcomes are kept.
    pub kept: Option<Reply<()>>,
}

/// Tasks that are queued again, and how many engines were lost with them so far; and how often they failed, see
/// [`Tries::kept`](crate::task::Tries::kept). Kept, so that a task that brings engines down
/// is known for it after a restart too.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordLosses {
    pub job: JobId,
    pub first: u32,
    pub count: u32,
    pub losses: u32,
}

/// A job waits for no other tasks any more. Kept, so that it does not wait again after a restart, whatever has become of these.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NoteReleased {
    pub job: JobId,
    /// The only engines that it may run on since, if it follows others.
    pub engines: Option<BTreeSet<EngineId>>,
}

/// Where did these tasks run? Everything that is to count is kept. Nowhere if this store does not know the job, or that is another
/// owner's.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LocateTasks {
    pub question: Whereabouts,
    pub owner: Arc<str>,
    pub reply: oneshot::Sender<Located>,
}

/// What is known of these tasks after everything that this store was told before? `None` if it does not know the job, or that is
/// another owner's.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CountTasks {
    pub job: JobId,
    pub first: u32,
    /// `u32::MAX` from the first task on means all of them.
    pub count: u32,
    pub owner: Arc<str>,
    pub reply: oneshot::Sender<Option<Known>>,
}

/// Engines came or went. Kept, so that a controller that was restarted knows for whom to wait before it gives out tasks anew.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct NoteEngines {
    /// No id from this one on has been given.
    pub next: u32,
    pub joined: Vec<EngineId>,
    pub left: Vec<EngineId>,
}

/// Answered when everything that this store was told before is kept.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Settle;

/// Links that ended: their subscriptions go.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EndLink {
    pub link: Link,
}

/// How much this store holds: bytes, jobs.
#[derive(Message)]
#[rtype(result = "(usize, usize)")]
pub(crate) struct StoreStatus;
