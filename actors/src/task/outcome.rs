//! What became of tasks: values, failures and their causes.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{EngineId, MessageId, Packed, compact};

/// What an entry of [`Outcomes::failures`] or [`Outcomes::output`] has beside its texts, in bytes: its offset, the name of the
/// cause, how a worker ended, and the lengths of texts. The longest take 42.
const ENTRY_BYTES: usize = 64;

/// The most that a [`Timing`] has, in bytes, and what the end of a value has beyond the four that [`Packed::bytes`] counts.
const TIMING_BYTES: usize = 12;

/// The most that outcomes of no tasks have, in bytes: the clock's epoch and the lengths of the parts.
const PARTS_BYTES: usize = 64;

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
        /// The calls that led there, if the engine's node was started with `RUST_BACKTRACE` set.
        #[serde(default)]
        backtrace: Option<String>,
    },
    /// The function returned an `Err`.
    ReturnedError {
        /// The Rust name of the error's type.
        type_name: String,
        /// The error as it displays itself.
        message: String,
        /// The error itself, encoded, if the function returned it as a [`TypedError`](crate::TypedError); see
        /// [`TaskError::downcast`].
        #[serde(default)]
        value: Option<Bytes>,
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
    /// The engine that the task was bound to is gone, or the last of those that it might run on.
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
    /// It ran for longer than the [limit](crate::LoadBalancedView::time_limit) of its job.
    TimeLimit {
        /// The limit, in milliseconds.
        limit_ms: u64,
        /// How long it ran, if it could not be stopped: in a thread.
        ran_ms: Option<u64>,
    },
    /// It waited too long to be sent to an engine.
    QueueTimeout {
        /// How long it might wait, in milliseconds.
        limit_ms: u64,
    },
    /// It was to run after other tasks that are not there, or of whose outcomes nothing is known any more; or where others ran, and there
    /// is no such engine.
    ImpossibleDependency {
        /// Which, and why.
        detail: String,
    },
    /// It was to run after other tasks, and these have ended otherwise than it was to be; or on certain engines, and these do not have
    /// what it requires.
    UnmetDependency {
        /// Which, and how.
        detail: String,
    },
    /// The outcome was recorded, and dropped since, by the store's retention.
    Evicted,
    /// It was recorded, but what the result store has on disk is not what was written.
    Damaged {
        /// What is wrong with it.
        detail: String,
    },
}

impl Cause {
    /// The cause of a task that has run for longer than it may, and for how long if it could not be stopped.
    pub(crate) fn time_limit(limit: Duration, ran: Option<Duration>) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Cause::TimeLimit { limit_ms: ms(limit), ran_ms: ran.map(ms) }
    }

    /// Whether another attempt may end otherwise.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Cause::Panicked { .. }
                | Cause::ReturnedError { .. }
                | Cause::WorkerCrashed { .. }
                | Cause::WorkerUnavailable { .. }
                | Cause::TimeLimit { .. }
        )
    }

    /// The bytes that it occupies as a part of [`Outcomes`]: never less than its encoded form has, and little more.
    pub(crate) fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let texts = match self {
            Cause::Panicked { message, location, backtrace } => message.len() + length(location) + length(backtrace),
            Cause::ReturnedError { type_name, message, value } => {
                type_name.len() + message.len() + value.as_ref().map_or(0, Bytes::len)
            }
            Cause::WrongResult { type_name, message } => type_name.len() + message.len(),
            Cause::WrongArgument { expected, message } => expected.len() + message.len(),
            Cause::FunctionUnknown { function, detail } => function.len() + detail.len(),
            Cause::WorkerCrashed { last_output, .. } => last_output.len(),
            Cause::WorkerUnavailable { detail }
            | Cause::EngineLost { detail }
            | Cause::Damaged { detail }
            | Cause::ImpossibleDependency { detail }
            | Cause::UnmetDependency { detail } => detail.len(),
            Cause::Poisoned { .. } | Cause::Aborted | Cause::TimeLimit { .. } | Cause::QueueTimeout { .. } | Cause::Evicted => 0,
        };
        ENTRY_BYTES + texts
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Panicked { message, location: Some(at), .. } => write!(f, "the function panicked at {at}: {message}"),
            Cause::Panicked { message, location: None, .. } => write!(f, "the function panicked: {message}"),
            Cause::ReturnedError { type_name, message, .. } => {
                write!(f, "the function returned an error ({type_name}): {message}")
            }
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
            Cause::TimeLimit { limit_ms, ran_ms: None } => {
                write!(f, "it ran for longer than its limit of {limit_ms} ms, and was stopped")
            }
            Cause::TimeLimit { limit_ms, ran_ms: Some(ran_ms) } => write!(
                f,
                "it ran for longer than its limit of {limit_ms} ms; its engine runs tasks in threads, which cannot be stopped, so that \
                 it ended by itself after {ran_ms} ms"
            ),
            Cause::QueueTimeout { limit_ms } => {
                write!(f, "it waited for an engine for longer than the {limit_ms} ms that it was given")
            }
            Cause::ImpossibleDependency { detail } | Cause::UnmetDependency { detail } => {
                write!(f, "what it was to wait for will never be: {detail}")
            }
            Cause::Evicted => write!(f, "its outcome was recorded but has been dropped since to make room"),
            Cause::Damaged { detail } => write!(
                f,
                "its outcome was recorded, but the file of the result store is damaged there ({detail}): put the file back from a \
                 backup, or submit the task again"
            ),
        }
    }
}

impl std::error::Error for Cause {}

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

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// What a task has left beside its outcome: what it wrote to its standard output and error, each with its last
/// [`TaskOutput::BYTES_MAX`] bytes, and the value that it published last, which [`AsyncResult::published`](crate::AsyncResult::published)
/// gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskOutput {
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The published value, as it is encoded.
    pub(crate) published: Option<Bytes>,
}

impl TaskOutput {
    /// How much of each stream is kept, from its end.
    pub const BYTES_MAX: usize = 16 * 1024;

    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        self.stdout.len() + self.stderr.len() + self.published.as_ref().map_or(0, Bytes::len)
    }
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
    #[serde(with = "compact")]
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

    /// The bytes that they occupy: never less than their encoded form has, and little more.
    pub fn bytes(&self) -> usize {
        let failures: usize = self.failures.iter().map(|(_, cause)| cause.bytes()).sum();
        let output: usize = self.output.iter().map(|(_, output)| output_bytes(output)).sum();
        PARTS_BYTES + self.values.bytes() + TIMING_BYTES * self.timings.len() + failures + output
    }

    /// Cuts them into consecutive parts of at most `bytes_max` bytes each, as [`bytes`](Self::bytes) counts; one task that has
    /// more is a part of its own. They must be [sound](Self::is_sound).
    pub(crate) fn split(self, bytes_max: usize) -> Vec<Self> {
        if self.len() <= 1 || self.bytes() <= bytes_max {
            return vec![self];
        }
        let count = self.len() as u32;
        let (mut failures, mut output) = (self.failures.into_iter().peekable(), self.output.into_iter().peekable());
        let (mut parts, mut part, mut first, mut bytes) = (Vec::new(), Self::default(), 0, PARTS_BYTES);
        for index in 0..count {
            let failure = failures.next_if(|(at, _)| *at == index);
            let wrote = output.next_if(|(at, _)| *at == index);
            let own = self.values.item(index as usize).map_or(0, <[u8]>::len)
                + size_of::<u32>()
                + TIMING_BYTES
                + failure.as_ref().map_or(0, |(_, cause)| cause.bytes())
                + wrote.as_ref().map_or(0, |(_, output)| output_bytes(output));
            if index > first && bytes + own > bytes_max {
                parts.push((first, std::mem::take(&mut part)));
                (first, bytes) = (index, PARTS_BYTES);
            }
            bytes += own;
            part.failures.extend(failure.map(|(_, cause)| (index - first, cause)));
            part.output.extend(wrote.map(|(_, output)| (index - first, output)));
        }
        parts.push((first, part));
        let ends: Vec<u32> = parts.iter().skip(1).map(|(first, _)| *first).chain([count]).collect();
        let filled = parts.into_iter().zip(ends).map(|((first, part), end)| {
            let (from, to) = (first as usize, end as usize);
            let (values, timings) = (self.values.slice(from, to - from), self.timings[from..to].to_vec());
            Self { epoch_us: self.epoch_us, values, timings, ..part }
        });
        filled.collect()
    }

    /// Those from the one at `offset` on. They must be [sound](Self::is_sound), and more than `offset`.
    pub(crate) fn skip(self, offset: u32) -> Self {
        if offset == 0 {
            return self;
        }
        let from = offset as usize;
        Self {
            values: self.values.slice(from, self.values.len() - from),
            timings: self.timings[from..].to_vec(),
            failures: self.failures.into_iter().filter_map(|(at, cause)| Some((at.checked_sub(offset)?, cause))).collect(),
            output: self.output.into_iter().filter_map(|(at, output)| Some((at.checked_sub(offset)?, output))).collect(),
            epoch_us: self.epoch_us,
        }
    }

    /// What the task at `offset` has left, if anything.
    pub(crate) fn output_of(&self, offset: u32) -> Option<&TaskOutput> {
        let place = self.output.binary_search_by_key(&offset, |(at, _)| *at).ok()?;
        Some(&self.output[place].1)
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

fn output_bytes(output: &TaskOutput) -> usize {
    ENTRY_BYTES + output.bytes()
}

#[cfg(test)]
mod tests;
