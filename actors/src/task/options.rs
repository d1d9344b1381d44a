//! What a client may choose for the tasks of a job. Pure data.

use serde::{Deserialize, Serialize};

/// What all tasks of a job have in common, by choice of the client. On disk and on the wire as a part of the job's header: what is
/// added here is [kept](crate::Client::resubmit) when tasks are submitted again, and missing in headers from before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TaskOptions {
    /// Higher goes first, before any question of fairness between clients.
    pub priority: i32,
    /// How long each may run, in milliseconds; 0 lets it run for as long as it likes.
    pub time_limit_ms: u64,
}
