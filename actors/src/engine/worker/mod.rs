//! Workers: what an engine runs tasks in.
//!
//! A worker gets batches (`Run`), runs their tasks one after another, and reports each task's outcome soon after it has
//! ended (`Report`). There are two kinds:
//!
//! | | process | thread |
//! |---|---|---|
//! | runs | functions and named tasks of any bundle | functions and named tasks of the engine's own program |
//! | a crash | costs the running task | costs the engine's whole node |
//! | can be stopped | at any time | between two tasks |
//! | what tasks write | is captured, per task | goes where the node's output goes |
//!
//! Threads and queues of one worker:
//!
//! | what | where | bound |
//! |---|---|---|
//! | keeper: starts the process, waits for its end | engine, process worker | one thread |
//! | reading and writing the socket | engine, process worker | one task on the engine's thread |
//! | the tasks | thread worker: its thread; process: main thread | one |
//! | outbox helper: sends outcomes that wait behind a long task, and what it tells | where the tasks are | one thread, 256 KiB and a result |
//! | watcher: ends the process when the engine is gone, reads along what tasks write | process | one thread |
//! | batches | `Worker::run` | 8 (of a process: not yet sent), then `RunError::Busy` |

mod capture;
mod context;
mod control;
mod keeper;
mod namespace;
mod outbox;
mod panics;
mod process;
mod protocol;
mod runner;
mod serve;
mod socket;
mod thread;

use std::{fmt, io, path::Path, process::Command, sync::Arc, time::Duration};

pub use context::{PublishError, TaskContext};
pub use namespace::{Namespace, NamespaceError};
pub(crate) use protocol::{Report, Reporting, Run, Told};
pub(crate) use serve::{abort_if_worker, was_initialised};
pub use serve::{init, init_with};

use crate::{
    code::{SharedValues, Tasks},
    task::{BatchId, BundleHash, WorkerExit},
};
use process::ProcessWorker;
use protocol::Message;
use thread::ThreadWorker;

/// Takes what a worker has to say. Called on the engine's thread by a process worker, on other threads by a thread
/// worker; must return soon, and must not call the worker back.
pub(crate) type EventSink = Arc<dyn Fn(WorkerEvent) + Send + Sync>;

/// What a worker has to say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WorkerEvent {
    /// A process has started, and runs what it is given. A thread is ready from the first and does not say so.
    Ready,
    /// Tasks have ended. The reports of a batch come in order and without gaps; what a process reports is only as
    /// trustworthy as the code that it runs, so check that it belongs to a batch that the worker has.
    Report(Report),
    /// What the task has told that runs. Best effort, of late at times; check that it is of a batch that the worker has.
    Told(Told),
    /// The worker is gone. Its last event; comes exactly once, unless the [`Worker`] was dropped before.
    Exited(WorkerExited),
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerExited {
    /// How its process ended.
    pub(crate) exit: WorkerExit,
    /// The end of what it wrote to standard error since its last finished task.
    pub(crate) last_output: String,
    /// Why it never served: a sentence for people, fit for [`Cause::WorkerUnavailable`](crate::task::Cause). `None` for
    /// a worker that was ready.
    pub(crate) not_started: Option<String>,
    /// Somebody else has killed its process (SIGKILL): a person, or a system that has no memory left.
    pub(crate) killed: bool,
}

/// Why a worker does not take a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RunError {
    /// It has as many as it takes.
    #[error("the worker has as many batches as it takes")]
    Busy,
    /// It is gone. [`WorkerEvent::Exited`] tells why, or will.
    #[error("the worker is gone")]
    Gone,
    /// The batch is not one that can be run.
    #[error("the batch cannot be run: {0}")]
    Flawed(&'static str),
}

/// Runs tasks for one engine. Dropping it stops it, without waiting; nothing is heard of it after that.
#[derive(Debug)]
pub(crate) struct Worker {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Process(ProcessWorker),
    Thread(ThreadWorker),
}

impl Worker {
    /// Starts the program `exe`, whose hash is `bundle`, as a worker process. Returns before the process runs; that it
    /// cannot be started is told by [`WorkerEvent::Exited`] with a reason in `not_started`.
    ///
    /// Batches can be given to it at once. Dropping the runtime also ends the process.
    ///
    /// # Errors
    /// When the system has no more files or threads.
    ///
    /// # Panics
    /// Outside of a tokio `LocalSet` with I/O and time.
    pub(crate) fn process(exe: &Path, bundle: BundleHash, sink: EventSink) -> io::Result<Self> {
        Self::command(Command::new(exe), bundle, sink)
    }

    /// Starts a worker thread in this process, which runs functions of `own_bundle`, if that is given, and `tasks`. What their
    /// jobs' tasks share it keeps in `values`, for all threads that are given the same.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub(crate) fn thread(
        own_bundle: Option<BundleHash>,
        tasks: Tasks,
        values: SharedValues,
        sink: EventSink,
    ) -> io::Result<Self> {
        Ok(Self { kind: Kind::Thread(ThreadWorker::start(own_bundle, tasks, values, sink)?) })
    }

    /// Gives the worker a batch, to be run after those that it has.
    ///
    /// # Errors
    /// When it does not take the batch.
    pub(crate) fn run(&self, run: Run) -> Result<(), RunError> {
        if let Some(flaw) = run.flaw() {
            return Err(RunError::Flawed(flaw));
        }
        match &self.kind {
            Kind::Process(worker) => worker.run(run),
            Kind::Thread(worker) => worker.run(run),
        }
    }

    #[cfg(test)]
    /// Stops the worker's tasks. A process is killed, with all that it has started, and [`WorkerEvent::Exited`] follows. A
    /// thread finishes the task that it runs; all others that it has are reported as aborted, and it serves on.
    pub(crate) fn kill(&self) {
        match &self.kind {
            Kind::Process(worker) => worker.kill(),
            Kind::Thread(worker) => worker.kill(),
        }
    }

    /// Cancels `count` tasks of a batch, the first of which has the index `first` in its job. Whether those that have
    /// not begun will be reported as aborted: always `false` for a process, which must be killed instead.
    pub(crate) fn cancel(&self, batch: BatchId, first: u32, count: u32) -> bool {
        match &self.kind {
            Kind::Process(_) => false,
            Kind::Thread(worker) => worker.cancel(batch, first, count),
        }
    }

    /// Sends its process a signal, and all that it has started; whether there is such a process and such a signal.
    pub(crate) fn signal(&self, signal: i32) -> bool {
        match &self.kind {
            Kind::Process(worker) => worker.signal(signal),
            Kind::Thread(_) => false,
        }
    }

    /// A task has run for longer than it may. A thread is told, and reports it with that cause once it ends; a process must be
    /// stopped instead.
    pub(crate) fn overrun(&self, batch: BatchId, index: u32, limit: Duration) {
        match &self.kind {
            Kind::Process(_) => {}
            Kind::Thread(worker) => worker.overrun(batch, index, limit),
        }
    }

    fn command(command: Command, bundle: BundleHash, sink: EventSink) -> io::Result<Self> {
        Ok(Self { kind: Kind::Process(ProcessWorker::start(command, bundle, sink)?) })
    }
}

impl fmt::Display for WorkerExited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.not_started {
            Some(reason) => write!(f, "the worker did not start: {reason}"),
            None => write!(f, "the worker {}", self.exit),
        }
    }
}

#[cfg(test)]
mod process_tests;
#[cfg(test)]
mod testing;
