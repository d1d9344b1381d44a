//! Workers that are threads of the engine's process: no isolation, nothing to start, the quickest way to run small tasks.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{
    EventSink, Report, Run, RunError, Told, WorkerEvent, WorkerExited,
    control::{Control, RUNS_MAX},
    outbox::ReportSink,
    runner::Runner,
};
use crate::{
    code::{SharedValues, Tasks},
    task::{BatchId, BundleHash, WorkerExit},
};

/// The stack of a worker thread, in bytes: what a process's main thread usually has, so that a function that runs in a
/// worker process also runs in a worker thread. Only what is used takes memory.
pub(super) const STACK_BYTES: usize = 8 << 20;

/// A worker thread. When dropped, it is not heard of any more; the thread ends after the task that it runs.
#[derive(Debug)]
pub(super) struct ThreadWorker {
    runs: SyncSender<Run>,
    control: Arc<Control>,
    muted: Arc<AtomicBool>,
}

impl ThreadWorker {
    /// Starts a worker thread.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub(super) fn start(own_bundle: Option<BundleHash>, tasks: Tasks, values: SharedValues, sink: EventSink) -> io::Result<Self> {
        let (sender, runs) = sync_channel(RUNS_MAX);
        let (control, muted) = (Arc::<Control>::default(), Arc::<AtomicBool>::default());
        let events = Events { sink, muted: Arc::clone(&muted) };
        let runner = Runner::of_thread(own_bundle, tasks, values, Arc::clone(&control), events.clone())?;
        let controlled = Arc::clone(&control);
        thread::Builder::new()
            .name("worker".into())
            .stack_size(STACK_BYTES)
            .spawn(move || serve(runner, &runs, &controlled, events))?;
        Ok(Self { runs: sender, control, muted })
    }

    /// See [`Worker::run`](super::Worker::run).
    pub(super) fn run(&self, run: Run) -> Result<(), RunError> {
        let batch = run.batch;
        self.control.begin(&run).map_err(|_| RunError::Busy)?;
        self.runs.try_send(run).map_err(|error| {
            self.control.end(batch);
            match error {
                TrySendError::Full(_) => RunError::Busy,
                TrySendError::Disconnected(_) => RunError::Gone,
            }
        })
    }

    #[cfg(test)]
    /// Aborts all tasks that have not begun.
    pub(super) fn kill(&self) {
        self.control.cancel_all();
    }

    /// See [`Worker::cancel`](super::Worker::cancel).
    pub(super) fn cancel(&self, batch: BatchId, first: u32, count: u32) -> bool {
        self.control.cancel(batch, first, count)
    }

    /// See [`Worker::overrun`](super::Worker::overrun).
    pub(super) fn overrun(&self, batch: BatchId, index: u32, limit: Duration) {
        self.control.overrun(batch, index, limit);
    }
}

impl Drop for ThreadWorker {
    fn drop(&mut self) {
        self.muted.store(true, Ordering::Release);
        self.control.cancel_all();
    }
}

/// Where the thread's events go until its worker is dropped.
#[derive(Clone)]
struct Events {
    sink: EventSink,
    muted: Arc<AtomicBool>,
}

impl Events {
    fn emit(&self, event: WorkerEvent) {
        if !self.muted.load(Ordering::Acquire) {
            (self.sink)(event);
        }
    }
}

impl ReportSink for Events {
    fn send(&mut self, report: Report) {
        self.emit(WorkerEvent::Report(report));
    }

    fn tell(&mut self, told: Told) {
        self.emit(WorkerEvent::Told(told));
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("muted", &self.muted).finish_non_exhaustive()
    }
}

/// Tells that the thread is gone, if it is gone for another reason than that its worker was dropped.
struct Farewell(Events);

impl Drop for Farewell {
    fn drop(&mut self) {
        let last_output = "the worker thread ended by a fault of its own".to_string();
        self.0.emit(WorkerEvent::Exited(WorkerExited {
            exit: WorkerExit::Unknown,
            last_output,
            not_started: None,
            killed: false,
        }));
    }
}

fn serve(mut runner: Runner<Events>, runs: &Receiver<Run>, control: &Control, events: Events) {
    // Dropped last: after the runner, and so after its last report.
    let _farewell = Farewell(events);
    while let Ok(run) = runs.recv() {
        runner.run(&run);
        control.end(run.batch);
    }
    drop(runner);
}

#[cfg(test)]
mod tests;
