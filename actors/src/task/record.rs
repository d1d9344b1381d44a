//! What a controller remembers of single tasks, and how to choose among them. Public data, for people, `--json` and decisions.

use serde::{Deserialize, Serialize};

use super::{EngineId, JobId, MessageId};

/// How far a task is, as its result store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Submitted and without an outcome: waiting or running.
    Pending,
    /// Ended with a value.
    Succeeded,
    /// Ended without a value.
    Failed,
    /// Aborted before it ended.
    Aborted,
    /// Ended, but the outcome has been dropped since.
    Evicted,
}

/// Which tasks to list. The default lists all of them; each part that is set leaves fewer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskFilter {
    /// In one of these states; empty: in any.
    pub states: Vec<TaskState>,
    /// Of this job.
    pub job: Option<JobId>,
    /// Of jobs with this label.
    pub label: Option<String>,
    /// Of jobs whose function has this in its name.
    pub function: Option<String>,
    /// That this engine ran last.
    pub engine: Option<EngineId>,
    /// Submitted at this time or later; microseconds since the Unix epoch, as all times here.
    pub submitted_after_us: Option<u64>,
    /// Submitted before this time.
    pub submitted_before_us: Option<u64>,
    /// Ended at this time or later.
    pub completed_after_us: Option<u64>,
    /// Ended before this time.
    pub completed_before_us: Option<u64>,
    /// Submitted by this owner. Only an administrator sees the tasks of others.
    pub owner: Option<String>,
}

/// One task, as its result store knows it. All times are microseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Which task.
    pub id: MessageId,
    /// How far it is.
    pub state: TaskState,
    /// The label of its job.
    pub label: Option<String>,
    /// The name of its function.
    pub function: String,
    /// Who submitted it: the name in the client's certificate.
    pub owner: String,
    /// The engine that ran it last, if one did.
    pub engine: Option<EngineId>,
    /// How often it had been sent to an engine; 0 when it never was, or is not known.
    pub attempt: u32,
    /// When it was submitted, by the controller's clock.
    pub submitted_us: u64,
    /// When it started, by the worker's clock.
    pub started_us: Option<u64>,
    /// When it ended, by the worker's clock; by the controller's for a task that did not run.
    pub completed_us: Option<u64>,
    /// Why it has no value: at most 512 bytes of it.
    pub error: Option<String>,
}
