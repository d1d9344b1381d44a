//! The engine actor: one execution slot. Carries batches to its worker and outcomes back, as its [`Slot`] says.

use std::{sync::Arc, time::Duration};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult};
use engineroom_runtime::{
    actor::{Remote, RemoteAddr},
    net::link::{INLINE_BYTES_MAX, Link},
    proto::packet::CloseCode,
};
use tokio::sync::oneshot;

use super::{
    holdings::{Held, Holdings},
    host::{EngineHost, NeedBlob},
    slot::{Slot, Step},
    worker::{self, EventSink, Reporting, RunError, Worker, WorkerEvent, WorkerExited},
};
use crate::code::{BlobPin, FunctionRef, SharedFile, SharedValues, Tasks};
use crate::scheduler::SchedulerActor;
use crate::task::{BatchId, BlobHash, BundleHash, EngineId};
use crate::wire::{Dispatch, Report, Retract, Retracted, SCHEDULER, StopTasks};

/// How many reports may be under way to the controller without its acknowledgement. Beyond it the engine starts nothing
/// new: a controller that cannot keep outcomes is not given more.
const REPORTS_MAX: usize = 256;

/// How long the controller may take to acknowledge a report before the link is given up. Long: its disk may be full, and a link
/// that is silent is given up sooner.
pub(super) const REPORT_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// A link that carries less than this many bytes a second is given up while it carries a long result.
const REPORT_BYTES_PER_SECOND_MIN: u64 = 256 << 10;

/// How many bytes of outcomes one report has, unless a single one is longer. Fits what travels inline.
const REPORT_BYTES: usize = 24 << 10;

/// What a report needs beside its outcomes, in bytes.
const REPORT_MARGIN_BYTES: usize = 128;

/// How many workers of different programs an engine keeps. Starting one takes milliseconds; each costs its memory.
const WORKERS_MAX: usize = 4;

/// How many workers in a row may be gone before they take a task.
const GONE_MAX: u32 = 3;

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
    /// So many workers in a row were gone before they took anything.
    gone: u32,
    /// The running batch waits for this blob: its program, or what its tasks share.
    awaited: Option<BlobHash>,
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
}

struct Seat {
    number: u64,
    /// The program that it runs, kept in the cache meanwhile; `None` for the thread worker, which is one for all.
    program: Option<BlobPin>,
    worker: Worker,
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

#[derive(Message)]
#[rtype(result = "()")]
struct FromWorker {
    number: u64,
    event: WorkerEvent,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Acknowledged {
    link: u64,
    number: u64,
    bulk: bool,
    failure: Option<String>,
}

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
            gone: 0,
            awaited: None,
            shared: None,
            holdings: Holdings::default(),
            resumed: false,
            id: None,
            bulk_under_way: false,
            idle_waiters: Vec::new(),
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

    /// Whether the controller keeps up with the reports, so that another batch may begin.
    fn may_begin(&self) -> bool {
        self.holdings.reports() < REPORTS_MAX
    }

    fn fail_running(&mut self, detail: &str) {
        let mut reports = Vec::new();
        self.slot.fail_running(detail, &mut reports);
        self.put_out(reports);
    }

    /// Reports go out in parts that travel inline, which keeps their order; one long result travels alone.
    fn put_out(&mut self, reports: Vec<Report>) {
        for Report { engine, batch, first, outcomes } in reports {
            let (mut first, engine) = (first, self.id.unwrap_or(engine));
            for outcomes in outcomes.split(REPORT_BYTES) {
                // A batch has fewer than 2^32 tasks.
                let count = outcomes.len() as u32;
                self.holdings.report(Report { engine, batch, first, outcomes });
                first += count;
            }
        }
    }

    /// Hands tasks to a worker, once there is one.
    fn give(&mut self, first: u32, count: u32, careful: bool, context: &mut Context<Self>) -> Result<(), String> {
        let Some(dispatch) = self.slot.current() else { return Ok(()) };
        let pin = self.shared.as_ref().filter(|pin| Some(pin.hash) == dispatch.shared);
        let shared = pin.map(|pin| SharedFile { hash: pin.hash, path: pin.readable_path(), bytes: pin.bytes });
        if let Some(hash) = dispatch.shared.filter(|_| shared.is_none()) {
            self.need(hash, context);
            return Ok(());
        }
        let offset = (first - dispatch.first) as usize;
        let run = worker::Run {
            batch: dispatch.batch,
            first,
            function: dispatch.function.clone(),
            arguments: dispatch.arguments.slice(offset, count as usize),
            job: dispatch.job,
            attempt: dispatch.attempt,
            engine: dispatch.engine,
            reporting: if careful { Reporting::Careful } else { Reporting::Coalesced },
            shared,
        };
        let program = match (&self.setup, &dispatch.function.reference) {
            (WorkerSetup::Thread { .. }, _) => None,
            (WorkerSetup::Process, FunctionRef::Offset { bundle, .. }) => Some(*bundle),
            (WorkerSetup::Process, FunctionRef::Named { name }) => {
                return Err(format!("this engine runs programs in processes and offers no named task {name:?}"));
            }
        };
        let Some(at) =
            self.workers.iter().position(|seat| seat.program.as_ref().map(|bundle| bundle.hash) == program.map(BlobHash::from))
        else {
            return self.start_worker(program, context);
        };
        let seat = self.workers.remove(at);
        match seat.worker.run(run) {
            Ok(()) => {
                self.running_on = Some(seat.number);
                self.workers.push(seat);
                self.gone = 0;
                Ok(())
            }
            // It has died while it was idle, which is nobody's fault; another takes its place.
            Err(RunError::Gone) if self.gone < GONE_MAX => {
                self.gone += 1;
                self.start_worker(program, context)
            }
            Err(RunError::Gone) => {
                self.gone = 0;
                Err(format!("{GONE_MAX} workers in a row ended before they took a task"))
            }
            Err(error) => {
                self.workers.push(seat);
                Err(format!("the worker does not take the tasks: {error}"))
            }
        }
    }

    fn start_worker(&mut self, program: Option<BundleHash>, context: &mut Context<Self>) -> Result<(), String> {
        if let Some(hash) = program {
            self.need(hash.into(), context);
            return Ok(());
        }
        let WorkerSetup::Thread { bundle, tasks, values } = self.setup.clone() else { return Ok(()) };
        let (number, sink) = self.sink(context);
        let worker =
            Worker::thread(bundle, tasks, values, sink).map_err(|error| format!("no thread could be started: {error}"))?;
        self.seat(Seat { number, program: None, worker });
        self.run_piece(context);
        Ok(())
    }

    /// The running batch goes on when that blob is here.
    fn need(&mut self, hash: BlobHash, context: &Context<Self>) {
        self.awaited = Some(hash);
        self.host.do_send(NeedBlob { hash, engine: context.address() });
    }

    /// What the running batch waited for is here.
    fn use_blob(&mut self, blob: BlobPin, context: &Context<Self>) -> Result<(), String> {
        let awaits_value = self.slot.current().is_some_and(|dispatch| dispatch.shared == Some(blob.hash));
        if awaits_value && self.shared.as_ref().is_none_or(|pin| pin.hash != blob.hash) {
            self.shared = Some(blob);
            return Ok(());
        }
        let (number, sink) = self.sink(context);
        let worker = Worker::process(&blob.path, BundleHash(blob.hash.0), sink)
            .map_err(|error| format!("the program cannot be started on this machine: {error}"))?;
        self.seat(Seat { number, program: Some(blob), worker });
        Ok(())
    }

    fn sink(&mut self, context: &Context<Self>) -> (u64, EventSink) {
        let (number, own) = (self.next_worker, context.address());
        self.next_worker += 1;
        (number, Arc::new(move |event| own.do_send(FromWorker { number, event })))
    }

    fn seat(&mut self, seat: Seat) {
        if self.workers.len() == WORKERS_MAX {
            // Dropping a worker stops it.
            self.workers.remove(0);
        }
        self.workers.push(seat);
    }

    fn send_reports(&mut self, context: &mut Context<Self>) {
        let Some(scheduler) = self.scheduler.as_ref().filter(|_| self.resumed) else { return };
        while let Some(report) = self.holdings.next() {
            let bytes = report.outcomes.bytes();
            let bulk = bytes + REPORT_MARGIN_BYTES > INLINE_BYTES_MAX;
            let under_way = self.holdings.under_way();
            if self.bulk_under_way || (bulk && under_way > 0) || under_way >= REPORTS_MAX {
                return;
            }
            let answer = scheduler.ask(report, REPORT_DEADLINE + Duration::from_secs(bytes as u64 / REPORT_BYTES_PER_SECOND_MIN));
            let Some(number) = self.holdings.sent() else { return };
            let (link, own) = (scheduler.link().id(), context.address());
            actix_rt::spawn(async move {
                let failure = answer.await.err().map(|error| error.to_string());
                own.do_send(Acknowledged { link, number, bulk, failure });
            });
            self.bulk_under_way = bulk;
        }
    }

    /// A worker has ended by itself. An idle one is merely gone.
    fn worker_exited(&mut self, number: u64, exited: &WorkerExited, context: &mut Context<Self>) {
        self.workers.retain(|seat| seat.number != number);
        if self.running_on != Some(number) {
            return;
        }
        self.running_on = None;
        let mut reports = Vec::new();
        let again = exited.killed && self.slot.worker_killed();
        match &exited.not_started {
            _ if again => {}
            None => self.slot.worker_crashed(exited.exit, &exited.last_output, &mut reports),
            Some(detail) => self.slot.fail_running(detail, &mut reports),
        }
        self.put_out(reports);
        self.run_piece(context);
    }

    /// Stops the worker if the task that it is at is to be stopped. A dropped worker is killed and not heard of any more, so
    /// that the next piece can be given to another at once. A thread cannot be stopped; it skips what it has not begun.
    fn stop_if_due(&mut self, context: &mut Context<Self>) {
        let Some(number) = self.running_on else {
            // The program is on its way; what is to be stopped need not wait for it.
            if self.awaited.is_some() && self.slot.is_at_stopped() {
                self.awaited = None;
                self.run_piece(context);
            }
            return;
        };
        if matches!(self.setup, WorkerSetup::Process) && self.slot.is_at_stopped() {
            self.drop_worker(number);
            self.slot.worker_left();
            self.run_piece(context);
        }
    }

    fn link_lost(&mut self) {
        self.scheduler = None;
        (self.resumed, self.bulk_under_way) = (false, false);
        self.holdings.link_lost();
    }

    /// Stops the worker that has the running piece, or the wait for one.
    fn stop_running(&mut self) {
        if let Some(number) = self.running_on {
            self.drop_worker(number);
        }
        self.awaited = None;
    }

    fn drop_worker(&mut self, number: u64) {
        self.workers.retain(|seat| seat.number != number);
        self.running_on = None;
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
        if self.awaited != Some(ready.hash) {
            return;
        }
        self.awaited = None;
        let is_shared = self.slot.current().is_some_and(|dispatch| dispatch.shared == Some(ready.hash));
        let what = if is_shared { "the value that its tasks share" } else { "its program" };
        let blob = ready.blob.map_err(|text| format!("{what} is not here: {text}"));
        if let Err(detail) = blob.and_then(|blob| self.use_blob(blob, context)) {
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

impl Handler<FromWorker> for EngineActor {
    type Result = ();

    fn handle(&mut self, FromWorker { number, event }: FromWorker, context: &mut Context<Self>) {
        match event {
            WorkerEvent::Exited(exited) => self.worker_exited(number, &exited, context),
            // Of a worker that was given up.
            WorkerEvent::Report(_) if self.running_on != Some(number) => {}
            WorkerEvent::Report(report) if report.outcomes.is_empty() => self.slot.running_at(report.batch, report.first),
            WorkerEvent::Report(report) => {
                if let Some((report, piece_done)) = self.slot.progressed(report.batch, report.first, report.outcomes) {
                    self.put_out(vec![report]);
                    if piece_done {
                        self.running_on = None;
                        self.run_piece(context);
                    } else {
                        self.stop_if_due(context);
                    }
                }
            }
        }
        self.advance(context);
    }
}

impl Handler<Acknowledged> for EngineActor {
    type Result = ();

    fn handle(&mut self, acknowledged: Acknowledged, context: &mut Context<Self>) {
        let Some(scheduler) = self.scheduler.as_ref().filter(|scheduler| scheduler.link().id() == acknowledged.link) else {
            return;
        };
        if let Some(failure) = acknowledged.failure {
            return scheduler.link().close(CloseCode::Internal, &format!("a report was not acknowledged: {failure}"));
        }
        self.holdings.acknowledged(acknowledged.number);
        if acknowledged.bulk {
            self.bulk_under_way = false;
        }
        self.advance(context);
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
        let running = self.workers.iter().find(|seat| Some(seat.number) == self.running_on);
        if let Some(seat) = running.filter(|_| matches!(self.setup, WorkerSetup::Thread { .. })) {
            seat.worker.cancel(batch, first, count);
        }
        self.stop_if_due(context);
        self.advance(context);
    }
}
