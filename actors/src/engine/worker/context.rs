//! What a running task can learn about itself.

use std::cell::Cell;

use crate::task::{EngineId, MessageId};

thread_local! {
    static CURRENT: Cell<Option<TaskContext>> = const { Cell::new(None) };
}

/// Which task the current thread runs, and where.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskContext {
    /// The engine that runs the task.
    pub engine: EngineId,
    /// The task.
    pub id: MessageId,
    /// How often the task has been sent to an engine, this time included: 1 the first time.
    pub attempt: u32,
}

impl TaskContext {
    /// The task that the current thread runs; `None` outside of tasks, and on threads that a task has started.
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }

    /// Sets what [`TaskContext::current`] returns on this thread.
    pub(super) fn set(current: Option<Self>) {
        CURRENT.set(current);
    }
}
