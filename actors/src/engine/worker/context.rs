//! What a running task can learn about itself, and what it finds that earlier tasks have left.

use std::{
    cell::{Cell, RefCell},
    fmt,
    sync::Arc,
};

use serde::Serialize;

use super::{Run, control::Control, namespace::Namespace, outbox::Bulletin};
use crate::code::{EncodeError, encode_bounded};
use crate::task::{BatchId, EngineId, MessageId, News, PUBLISHED_BYTES_MAX};

thread_local! {
    /// Set for every task, so that it must cost next to nothing.
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
    /// Set for every batch.
    static SURROUNDINGS: RefCell<Option<Arc<Surroundings>>> = const { RefCell::new(None) };
}

/// Which task the current thread runs, where, and what it has to do with its surroundings.
///
/// ```
/// use engineroom::TaskContext;
///
/// fn work(x: u64) -> u64 {
///     if let Some(task) = TaskContext::current() {
///         println!("this is task {} on engine {}", task.id, task.engine);
///     }
///     x
/// }
/// # assert!(TaskContext::current().is_none());
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct TaskContext {
    /// The engine that runs the task.
    pub engine: EngineId,
    /// The task.
    pub id: MessageId,
    /// How often the task has been sent to an engine, this time included: 1 the first time.
    pub attempt: u32,
    batch: BatchId,
    surroundings: Arc<Surroundings>,
}

/// Why a value is not [published](TaskContext::publish).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It is too long.
    #[error("it has more than {bytes_max} bytes, which is the limit: publish a summary, and return the rest")]
    TooLong {
        /// How many bytes it may have.
        bytes_max: usize,
    },
    /// Its `Serialize` fails.
    #[error("it cannot be encoded: {0}")]
    NotEncoded(String),
}

/// What the tasks of one worker have in common.
pub(super) struct Surroundings {
    pub(super) control: Arc<Control>,
    pub(super) namespace: Namespace,
    pub(super) bulletin: Arc<dyn Bulletin>,
}

#[derive(Clone, Copy)]
struct Current {
    engine: EngineId,
    id: MessageId,
    attempt: u32,
    batch: BatchId,
}

impl TaskContext {
    /// The task that the current thread runs; `None` outside of tasks, and on threads that a task has started: give them a clone.
    pub fn current() -> Option<Self> {
        let Current { engine, id, attempt, batch } = CURRENT.get()?;
        let surroundings = SURROUNDINGS.with_borrow(Clone::clone)?;
        Some(Self { engine, id, attempt, batch, surroundings })
    }

    /// Whether the task is not wanted any more, because it was aborted or has run for longer than it may, so that it may as well
    /// return early, with whatever value.
    ///
    /// A worker that is a process is stopped then, so that a task there never sees `true`. A thread cannot be stopped: there a task
    /// that takes long should ask from time to time. One that has been told `true` has no value, whatever it returns: it ends as
    /// aborted, or as one that took too long. One that was aborted and never asks comes to its end and has its value.
    pub fn is_cancelled(&self) -> bool {
        self.surroundings.control.tell(self.batch, self.id.index)
    }

    /// A number to seed a generator of random numbers with: always the same for this task, also when it runs again because an
    /// engine was lost, and another one for every other task. So a run can be repeated by the ids of its tasks.
    ///
    /// It is made of the first eight bytes, as a little-endian number, of the BLAKE3 hash of the job id's sixteen bytes, in the
    /// order in which they are printed, and the task's index as four little-endian bytes. A task that is *resubmitted* has
    /// another id, and other numbers: where those must not change from job to job, the seed is a part of the argument.
    ///
    pub fn seed(&self) -> u64 {
        Self::seed_of(self.id)
    }

    /// What [`TaskContext::seed`] is for a task with this id, for one who looks at a task's run later.
    pub fn seed_of(id: MessageId) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(id.job.as_bytes()).update(&id.index.to_le_bytes());
        let mut seed = [0; 8];
        hasher.finalize_xof().fill(&mut seed);
        u64::from_le_bytes(seed)
    }

    /// Tells those who wait for this task how much of it is done, from 0 to 1: they see it by
    /// [`AsyncResult::task_progress`](crate::AsyncResult::task_progress). Cheap enough to be called often: the newest counts, and is
    /// sent at most five times a second.
    pub fn progress(&self, fraction: f64) {
        // What is no number says nothing.
        let progress = (!fraction.is_nan()).then(|| fraction.clamp(0.0, 1.0));
        self.surroundings.bulletin.post(self.batch, self.id.index, News { progress, ..News::default() });
    }

    /// Shows a value to those who wait for this task: the newest, while it runs and when it has ended in whatever way but a crash.
    /// They get it by [`AsyncResult::published`](crate::AsyncResult::published). Sent at most five times a second; encoding it is
    /// what it costs.
    ///
    /// # Errors
    /// When it cannot be encoded, or has more than 16 KiB. What was published before stays.
    pub fn publish<T: Serialize>(&self, value: &T) -> Result<(), PublishError> {
        let published = encode_bounded(value, PUBLISHED_BYTES_MAX).map_err(|error| match error {
            EncodeError::TooLong { bytes_max } => PublishError::TooLong { bytes_max },
            EncodeError::Failed(error) => PublishError::NotEncoded(error.to_string()),
        })?;
        let news = News { published: Some(published.into()), ..News::default() };
        self.surroundings.bulletin.post(self.batch, self.id.index, news);
        Ok(())
    }

    /// The values that tasks of this program have left on this engine.
    pub fn namespace(&self) -> &Namespace {
        &self.surroundings.namespace
    }

    /// This thread turns to a batch.
    pub(super) fn enter(surroundings: &Arc<Surroundings>) {
        SURROUNDINGS.set(Some(Arc::clone(surroundings)));
    }

    /// This thread turns to a task of a batch.
    pub(super) fn begin(run: &Run, id: MessageId) {
        CURRENT.set(Some(Current { engine: run.engine, id, attempt: run.attempt, batch: run.batch }));
    }

    /// This thread is done with a batch.
    pub(super) fn leave() {
        CURRENT.set(None);
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { engine, id, attempt, .. } = self;
        write!(f, "TaskContext({id} on engine {engine}, attempt {attempt})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::JobId;

    #[test]
    fn the_seed_is_that_of_the_message_id_for_ever() {
        // A run may be repeated with another release.
        let seed = |job, index| TaskContext::seed_of(MessageId { job: JobId::from_u128(job), index });
        assert_eq!(seed(0x0190_a6e2_5d3c_7f10_8a3b_2f1c_5e6d_7a8b, 3), 10_960_357_457_472_672_000);
        assert_ne!(seed(1, 3), seed(1, 4));
        assert_ne!(seed(1, 3), seed(2, 3));
    }
}
