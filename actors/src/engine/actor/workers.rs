//! The workers of an engine: one for each program, started when it is needed, replaced when it is gone, stopped when its task is.

use std::{sync::Arc, time::Duration};

use actix::{AsyncContext, Context, Handler, Message};
use engineroom_runtime::net::link::SOON;

use super::{Awaited, EngineActor, WorkerSetup};
use crate::code::{BlobPin, FunctionRef, SharedFile};
use crate::engine::{
    host::NeedBlob,
    worker::{self, EventSink, Reporting, RunError, Told, Worker, WorkerEvent, WorkerExited},
};
use crate::task::{BlobHash, BundleHash};
use crate::wire::TaskNews;

/// How many workers of different programs an engine keeps. Starting one takes milliseconds; each costs its memory.
const WORKERS_MAX: usize = 4;

/// How many workers in a row may be gone before they take a task.
const GONE_MAX: u32 = 3;

pub(super) struct Seat {
    number: u64,
    /// The program that it runs, kept in the cache meanwhile; `None` for the thread worker, which is one for all.
    program: Option<BlobPin>,
    worker: Worker,
    /// It has started, so that what it is given it runs.
    ready: bool,
}

#[derive(Message)]
#[rtype(result = "()")]
struct FromWorker {
    number: u64,
    event: WorkerEvent,
}

impl EngineActor {
    /// Hands tasks to a worker, once there is one.
    pub(super) fn give(&mut self, first: u32, count: u32, careful: bool, context: &mut Context<Self>) -> Result<(), String> {
        let Some(dispatch) = self.slot.current() else { return Ok(()) };
        let pin = self.shared.as_ref().filter(|pin| Some(pin.hash) == dispatch.shared);
        let shared = pin.map(|pin| SharedFile { hash: pin.hash, path: pin.readable_path(), bytes: pin.bytes });
        if let Some(hash) = dispatch.shared.filter(|_| shared.is_none()) {
            self.need(Awaited::Value(hash), context);
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
        let limit = (dispatch.time_limit_ms > 0).then(|| Duration::from_millis(dispatch.time_limit_ms));
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
                let ready = seat.ready;
                self.workers.push(seat);
                self.gone = 0;
                self.stopwatch.set(limit);
                if ready {
                    self.task_begins(context);
                }
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
            self.need(Awaited::Program(hash), context);
            return Ok(());
        }
        let WorkerSetup::Thread { bundle, tasks, values } = self.setup.clone() else { return Ok(()) };
        let (number, sink) = self.sink(context);
        let worker =
            Worker::thread(bundle, tasks, values, sink).map_err(|error| format!("no thread could be started: {error}"))?;
        self.seat(Seat { number, program: None, worker, ready: true });
        self.run_piece(context);
        Ok(())
    }

    /// The running batch goes on when that blob is here.
    fn need(&mut self, awaited: Awaited, context: &Context<Self>) {
        self.awaited = Some(awaited);
        self.host.do_send(NeedBlob { hash: awaited.hash(), engine: context.address() });
    }

    /// What the running batch waited for is here.
    pub(super) fn use_blob(&mut self, awaited: Awaited, blob: BlobPin, context: &Context<Self>) -> Result<(), String> {
        match awaited {
            Awaited::Value(_) => self.shared = Some(blob),
            Awaited::Program(bundle) => {
                let (number, sink) = self.sink(context);
                let worker = Worker::process(&blob.path, bundle, sink)
                    .map_err(|error| format!("the program cannot be started on this machine: {error}"))?;
                self.seat(Seat { number, program: Some(blob), worker, ready: false });
            }
        }
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

    /// The worker that has the running piece.
    pub(super) fn running_worker(&self) -> Option<&Worker> {
        let number = self.running_on?;
        self.workers.iter().find(|seat| seat.number == number).map(|seat| &seat.worker)
    }

    /// Sends a signal to all worker processes; how many there are.
    pub(super) fn signal_workers(&self, signal: i32) -> usize {
        self.workers.iter().filter(|seat| seat.worker.signal(signal)).count()
    }

    /// What the running task tells goes to the controller, if it is there and has nothing better to do.
    fn pass_on(&self, Told { batch, index, news }: Told) {
        let Some(scheduler) = self.scheduler.as_ref().filter(|_| self.resumed) else { return };
        if let Some(dispatch) = self.slot.current().filter(|dispatch| dispatch.batch == batch) {
            let engine = self.id.unwrap_or(dispatch.engine);
            // What cannot be sent is of no use later.
            let _ = scheduler.tell_within(SOON, &TaskNews { engine, batch, index, news });
        }
    }

    fn worker_ready(&mut self, number: u64, context: &mut Context<Self>) {
        self.workers.iter_mut().filter(|seat| seat.number == number).for_each(|seat| seat.ready = true);
        if self.running_on == Some(number) {
            self.task_begins(context);
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
    pub(super) fn stop_if_due(&mut self, context: &mut Context<Self>) {
        if self.running_on.is_none() {
            // The program is on its way; what is to be stopped need not wait for it.
            if self.awaited.is_some() && self.slot.is_at_stopped() {
                self.awaited = None;
                self.run_piece(context);
            }
            return;
        }
        if matches!(self.setup, WorkerSetup::Process) && self.slot.is_at_stopped() {
            self.stop_running();
            self.slot.worker_left();
            self.run_piece(context);
        }
    }

    /// Stops the worker that has the running piece, or the wait for one.
    pub(super) fn stop_running(&mut self) {
        if let Some(number) = self.running_on.take() {
            self.workers.retain(|seat| seat.number != number);
        }
        self.awaited = None;
    }
}

impl Handler<FromWorker> for EngineActor {
    type Result = ();

    fn handle(&mut self, FromWorker { number, event }: FromWorker, context: &mut Context<Self>) {
        match event {
            WorkerEvent::Ready => self.worker_ready(number, context),
            WorkerEvent::Exited(exited) => self.worker_exited(number, &exited, context),
            // Of a worker that was given up.
            WorkerEvent::Report(_) | WorkerEvent::Told(_) if self.running_on != Some(number) => {}
            WorkerEvent::Told(told) => return self.pass_on(told),
            WorkerEvent::Report(report) if report.outcomes.is_empty() => self.slot.running_at(report.batch, report.first),
            WorkerEvent::Report(report) => {
                if let Some((report, piece_done)) = self.slot.progressed(report.batch, report.first, report.outcomes) {
                    self.put_out(vec![report]);
                    if piece_done {
                        self.running_on = None;
                        self.run_piece(context);
                    } else {
                        self.task_begins(context);
                        self.stop_if_due(context);
                    }
                }
            }
        }
        self.advance(context);
    }
}
