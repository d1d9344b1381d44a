//! The engine actor: one execution slot. Carries batches to its worker and outcomes back, as its [`Slot`] says.

mod limits;
mod orders;
mod reports;
mod workers;

use std::{fmt, sync::Arc};

use actix::{Actor, Addr, Context, Handler, Message, MessageResult};
use engineroom_runtime::{
    actor::{Remote, RemoteAddr},
    net::link::Link,
    proto::packet::CloseCode,
};
use tokio::sync::oneshot;

pub(super) use self::reports::REPORT_DEADLINE;
use self::{limits::Look, workers::Seat};
use super::{
    holdings::{Held, Holdings},
    host::EngineHost,
    slot::{Slot, Step},
    stopwatch::Stopwatch,
};
use crate::code::{BlobPin, SharedValues, Tasks};
use crate::scheduler::SchedulerActor;
use crate::task::{BatchId, BlobHash, BundleHash, EngineId};
use crate::wire::{Dispatch, Retract, Retracted, SCHEDULER, StopTasks};

/// What the engines of a node run code in.
#[derive(Clone, Debug)]
pub(crate) enum WorkerSetup {
    /// A process of the bundle's own executable.
    Process,
    /// A thread of this process, which has the functions of its own program and these named tasks. `values` is what the threads
    /// of all engines keep of what jobs' tasks share.
    Thread { bundle: Option<BundleHash>, tasks: Tasks, values: SharedValues },
}

/// One execution slot.
pub(crate) struct EngineActor {
    host: Addr<EngineHost>,
    setup: WorkerSetup,
    scheduler: Option<RemoteAddr<SchedulerActor>>,
    slot: Slot,
    /// The most recently used last. The last one runs what runs.
    workers: Vec<Seat>,
    next_worker: u64,
    /// The worker that has the piece that runs.
    running_on: Option<u64>,
    /// How long the task that runs has been running, if that is limited.
    stopwatch: Stopwatch,
    look: Option<Look>,
    /// So many workers in a row were gone before they took anything.
    gone: u32,
    /// The running batch waits for this.
    awaited: Option<Awaited>,
    /// What the tasks of the last batch share that shared something, kept in the cache for the next one.
    shared: Option<BlobPin>,
    /// What the controller does not have yet.
    holdings: Holdings,
    /// The controller has said by this link what it wants of what was stated to it.
    resumed: bool,
    /// The id that the controller has given to this engine.
    id: Option<EngineId>,
    /// A report that travels as bulk is under way: nothing may overtake it.
    bulk_under_way: bool,
    idle_waiters: Vec<oneshot::Sender<()>>,
    /// A client wants it to end when it has nothing to do.
    leaving: bool,
}

/// A blob without which the running batch cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Program(BundleHash),
    /// What its tasks share.
    Value(BlobHash),
}

/// The link to the controller is up. Answered by what the engine has, and whether it has begun with it.
#[derive(Message)]
#[rtype(result = "Vec<(Held, bool)>")]
pub(crate) struct Connected(pub Link);

/// The controller has answered to what the engine has.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Resume {
    /// By which link.
    pub link: u64,
    /// The engine's id from now on.
    pub engine: EngineId,
    /// The batches that it goes on with, and from where on. All others that were stated are not wanted any more.
    pub kept: Arc<[(BatchId, u32)]>,
}

/// The link is lost. The engine goes on with what it has.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Disconnected;

/// A blob is here, or cannot be had.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub(crate) struct BlobReady {
    pub hash: BlobHash,
    pub blob: Result<BlobPin, String>,
}

/// Tell me when there is nothing to do and nothing to be acknowledged.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AwaitIdle(pub oneshot::Sender<()>);

/// Stop all workers, now.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopWorkers;

impl EngineActor {
    pub fn new(host: Addr<EngineHost>, setup: WorkerSetup) -> Self {
        Self {
            host,
            setup,
            scheduler: None,
            slot: Slot::default(),
            workers: Vec::new(),
            next_worker: 0,
            running_on: None,
            stopwatch: Stopwatch::default(),
            look: None,
            gone: 0,
            awaited: None,
            shared: None,
            holdings: Holdings::default(),
            resumed: false,
            id: None,
            bulk_under_way: false,
            idle_waiters: Vec::new(),
            leaving: false,
        }
    }

    /// Does whatever can be done now: starts a batch, runs its next piece, sends reports.
    fn advance(&mut self, context: &mut Context<Self>) {
        if self.may_begin() && self.slot.begin() {
            self.run_piece(context);
        }
        self.send_reports(context);
        if self.slot.is_idle() && self.holdings.is_empty() {
            for waiter in self.idle_waiters.drain(..) {
                // The host has ended; so will this engine.
                let _ = waiter.send(());
            }
        }
        self.leave_if_idle(context);
    }

    /// Gives the worker the next piece of the running batch, or ends the batch.
    fn run_piece(&mut self, context: &mut Context<Self>) {
        loop {
            let mut reports = Vec::new();
            let step = self.slot.step(&mut reports);
            self.put_out(reports);
            match step {
                Step::Idle => {
                    if !self.may_begin() || !self.slot.begin() {
                        return;
                    }
                }
                Step::Run { first, count, careful } => match self.give(first, count, careful, context) {
                    Ok(()) => return,
                    Err(detail) => self.fail_running(&detail),
                },
            }
        }
    }

    fn fail_running(&mut self, detail: &str) {
        let mut reports = Vec::new();
        self.slot.fail_running(detail, &mut reports);
        self.put_out(reports);
    }

    fn link_lost(&mut self) {
        self.scheduler = None;
        (self.resumed, self.bulk_under_way) = (false, false);
        self.holdings.link_lost();
    }
}

impl Awaited {
    fn hash(self) -> BlobHash {
        match self {
            Awaited::Program(bundle) => bundle.into(),
            Awaited::Value(hash) => hash,
        }
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Awaited::Program(_) => "its program",
            Awaited::Value(_) => "the value that its tasks share",
        })
    }
}

impl Actor for EngineActor {
    type Context = Context<Self>;
}

impl Handler<Connected> for EngineActor {
    type Result = MessageResult<Connected>;

    fn handle(&mut self, Connected(link): Connected, _: &mut Context<Self>) -> Self::Result {
        self.link_lost();
        self.scheduler = Some(RemoteAddr::new(link, SCHEDULER));
        let held = self.holdings.state();
        MessageResult(held.into_iter().map(|held| (held.clone(), !self.slot.waits(held.batch))).collect())
    }
}

impl Handler<Resume> for EngineActor {
    type Result = ();

    fn handle(&mut self, Resume { link, engine, kept }: Resume, context: &mut Context<Self>) {
        if self.scheduler.as_ref().is_none_or(|scheduler| scheduler.link().id() != link) {
            return;
        }
        (self.resumed, self.id) = (true, Some(engine));
        self.say_that_it_leaves();
        let mut stop = false;
        for batch in self.holdings.resume(engine, &kept) {
            stop |= self.slot.drop_batch(batch);
        }
        for (batch, from) in kept.iter() {
            stop |= self.slot.skip(*batch, *from);
        }
        if stop {
            // A thread goes on with the task that it is at, and is not heard of any more.
            self.stop_running();
            self.run_piece(context);
        }
        self.advance(context);
    }
}

impl Handler<Disconnected> for EngineActor {
    type Result = ();

    fn handle(&mut self, _: Disconnected, context: &mut Context<Self>) {
        self.link_lost();
        self.advance(context);
    }
}

impl Handler<BlobReady> for EngineActor {
    type Result = ();

    fn handle(&mut self, ready: BlobReady, context: &mut Context<Self>) {
        let Some(awaited) = self.awaited.take_if(|awaited| awaited.hash() == ready.hash) else { return };
        let blob = ready.blob.map_err(|text| format!("{awaited} is not here: {text}"));
        if let Err(detail) = blob.and_then(|blob| self.use_blob(awaited, blob, context)) {
            self.fail_running(&detail);
        }
        self.run_piece(context);
        self.advance(context);
    }
}

impl Handler<AwaitIdle> for EngineActor {
    type Result = ();

    fn handle(&mut self, AwaitIdle(waiter): AwaitIdle, context: &mut Context<Self>) {
        self.idle_waiters.push(waiter);
        self.advance(context);
    }
}

impl Handler<StopWorkers> for EngineActor {
    type Result = ();

    fn handle(&mut self, _: StopWorkers, _: &mut Context<Self>) {
        self.workers.clear();
    }
}

impl Handler<Remote<Dispatch>> for EngineActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Dispatch>, context: &mut Context<Self>) {
        let Remote { message, from, .. } = remote;
        let batch = message.batch;
        let sound = message.arguments.is_sound() && !message.arguments.is_empty();
        if sound {
            self.holdings.add(&message);
        }
        if !sound || !self.slot.dispatched(message) {
            return from.close(CloseCode::ProtocolViolation, "a batch that contradicts itself, or one too many");
        }
        if !self.slot.waits(batch) {
            // It was asked back before it came.
            self.holdings.give_back(batch);
        }
        self.advance(context);
    }
}

impl Handler<Remote<Retract>> for EngineActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Retract>, _: &mut Context<Self>) {
        let batch = remote.message.batch;
        let returned = self.slot.retract(batch);
        if returned {
            self.holdings.give_back(batch);
        }
        if let Some(scheduler) = &self.scheduler {
            let engine = remote.message.engine;
            // If the link is down, the controller takes everything back anyway.
            let _ = scheduler.tell(&Retracted { engine, batch, returned });
        }
    }
}

impl Handler<Remote<StopTasks>> for EngineActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<StopTasks>, context: &mut Context<Self>) {
        let StopTasks { batch, first, count } = remote.message;
        self.slot.stop(batch, first, count);
        if let Some(worker) = self.running_worker() {
            worker.cancel(batch, first, count);
        }
        self.stop_if_due(context);
        self.advance(context);
    }
}
