//! What became of tasks: values, failures and their causes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{EngineId, MessageId, Packed};

/// Why a task has no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cause {
    /// The function panicked.
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column` of the panic, where known.
        location: Option<String>,
    },
    /// The function returned an `Err`.
    ReturnedError {
        /// The Rust name of the error's type.
        type_name: String,
        /// The error as it displays itself.
        message: String,
    },
    /// The argument's bytes are not what the function takes.
    WrongArgument {
        /// The Rust name of the type that the function takes.
        expected: String,
        /// What the decoder found wrong.
        message: String,
    },
    /// The function's result could not be encoded.
    WrongResult {
        /// The Rust name of the result's type.
        type_name: String,
        /// What the encoder found wrong.
        message: String,
    },
    /// The engine has no such function.
    FunctionUnknown {
        /// The function as it was submitted.
        function: String,
        /// Why this engine cannot run it.
        detail: String,
    },
    /// The worker's process ended while it ran the task.
    WorkerCrashed {
        /// How the process ended.
        exit: WorkerExit,
        /// The last lines that it wrote to its standard error.
        last_output: String,
    },
    /// No worker could be started for the task.
    WorkerUnavailable {
        /// What went wrong.
        detail: String,
    },
    /// The engine that the task was bound to is gone.
    EngineLost {
        /// How it was lost.
        detail: String,
    },
    /// The task was running on so many engines in a row that were lost that it is held to be the reason.
    Poisoned {
        /// How many engines it took along.
        losses: u32,
    },
    /// The task was aborted before it ended.
    Aborted,
    /// The outcome was recorded, and dropped since, by the store's retention.
    Evicted,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Panicked { message, location: Some(at) } => write!(f, "the function panicked at {at}: {message}"),
            Cause::Panicked { message, location: None } => write!(f, "the function panicked: {message}"),
            Cause::ReturnedError { type_name, message } => write!(f, "the function returned an error ({type_name}): {message}"),
            Cause::WrongArgument { expected, message } => {
                write!(f, "the argument is not the {expected} that the function takes: {message}")
            }
            Cause::WrongResult { type_name, message } => write!(f, "the result ({type_name}) could not be encoded: {message}"),
            Cause::FunctionUnknown { function, detail } => write!(f, "the engine has no function {function}: {detail}"),
            Cause::WorkerCrashed { exit, last_output } if last_output.is_empty() => write!(f, "its worker process {exit}"),
            Cause::WorkerCrashed { exit, last_output } => {
                write!(f, "its worker process {exit}; its last output: {}", last_output.trim_end())
            }
            Cause::WorkerUnavailable { detail } => write!(f, "no worker could be started: {detail}"),
            Cause::EngineLost { detail } => write!(f, "its engine was lost: {detail}"),
            Cause::Poisoned { losses } => {
                write!(f, "{losses} engines in a row were lost while they ran it; it is not tried again")
            }
            Cause::Aborted => write!(f, "it was aborted"),
            Cause::Evicted => write!(f, "its outcome was recorded but has been dropped since to make room"),
        }
    }
}

/// How a worker process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerExit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It closed its socket to the engine, and how it ended is not known.
    Unknown,
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkerExit::Code(code) => write!(f, "exited with code {code}"),
            WorkerExit::Signal(signal) => write!(f, "was killed by signal {signal}{}", signal_name(*signal)),
            WorkerExit::Unknown => write!(f, "went away"),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// A task that ended without a value: which, where, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// The task.
    pub id: MessageId,
    /// The engine that ran it last, if one did.
    pub engine: Option<EngineId>,
    /// How often it had been sent to an engine; 0 when it never was.
    pub attempt: u32,
    /// Why it has no value.
    pub cause: Cause,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} ", self.id)?;
        match self.engine {
            Some(engine) => write!(f, "failed on engine {engine} (attempt {}): ", self.attempt)?,
            None => write!(f, "has no result: ")?,
        }
        self.cause.fmt(f)
    }
}

impl std::error::Error for TaskError {}

/// What a task wrote to its standard output and error. Each keeps its last [`TaskOutput::BYTES_MAX`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOutput {
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl TaskOutput {
    /// How much of each stream is kept, from its end.
    pub const BYTES_MAX: usize = 16 * 1024;
}

/// When one task ran, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From [`Outcomes::epoch_us`] to the start of the task.
    pub start_us: u32,
    /// How long it ran.
    pub busy_us: u32,
}

/// The outcomes of a run of consecutive tasks of one batch, in order, as a worker reports them.
///
/// `values` and `timings` have one entry a task; the value of a task in `failures` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// What `timings` count from: microseconds since the Unix epoch by the worker's clock.
    pub epoch_us: u64,
    /// The encoded result of each task.
    pub values: Packed,
    /// When each ran.
    pub timings: Vec<Timing>,
    /// Those without a value: offset from the first task, and why. Ascending.
    pub failures: Vec<(u32, Cause)>,
    /// Those that wrote something: offset from the first task, and what. Ascending.
    pub output: Vec<(u32, TaskOutput)>,
}

impl Outcomes {
    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The time that all of them ran for, in microseconds.
    pub fn busy_us(&self) -> u64 {
        self.timings.iter().map(|timing| u64::from(timing.busy_us)).sum()
    }

    /// The bytes that they occupy, roughly.
    pub fn bytes(&self) -> usize {
        let output: usize = self.output.iter().map(|(_, o)| o.stdout.len() + o.stderr.len() + 64).sum();
        self.values.bytes() + 8 * self.timings.len() + 256 * self.failures.len() + output
    }

    /// Whether the parts fit together. False only for what a broken or hostile peer sent.
    pub fn is_sound(&self) -> bool {
        let count = self.len();
        let within = |offset: u32| (offset as usize) < count;
        self.values.is_sound()
            && self.timings.len() == count
            && self.failures.is_sorted_by(|a, b| a.0 < b.0)
            && self.failures.last().is_none_or(|last| within(last.0))
            && self.output.is_sorted_by(|a, b| a.0 < b.0)
            && self.output.last().is_none_or(|last| within(last.0))
    }

    /// Why task `offset` has no value, if it has none.
    pub fn failure(&self, offset: u32) -> Option<&Cause> {
        let at = self.failures.binary_search_by_key(&offset, |(at, _)| *at).ok()?;
        Some(&self.failures[at].1)
    }
}
