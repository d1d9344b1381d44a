//! What can be set about scheduling.

/// How the scheduler behaves. [`Settings::default`] suits most clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A task that ran *alone* in its batch and has now lost this many engines in a row fails as poisoned. At least 1.
    pub poison_losses: u32,
    /// How many batches wait at an engine beside the one that runs. 0 costs a round trip between batches; more than 1 only
    /// helps when a round trip takes longer than a batch.
    pub prefetch: usize,
    /// How much work an adaptive batch aims to hold, in microseconds. More makes the overhead of a batch smaller, and the wait of
    /// another client's task longer.
    pub batch_target_us: u64,
    /// The most tasks in an adaptive batch, however short they are.
    pub batch_tasks_max: u32,
    /// Waiting batches are taken from an engine whose running batch needs at least this much longer, in microseconds. Below it,
    /// the batch would have started before the retraction arrives.
    pub steal_min_us: u64,
    /// The most open jobs; further ones are refused. Bounds the memory that clients can take.
    pub jobs_max: usize,
    /// The most engines that the placement of one direct job names.
    pub placement_max: usize,
    /// The number of the first batch. A controller that was restarted starts above every number that it gave out before, so that
    /// a report of an old batch is never taken for a new one.
    pub first_batch: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poison_losses: 3,
            prefetch: 1,
            batch_target_us: 4_000,
            batch_tasks_max: 4_096,
            steal_min_us: 2_000,
            jobs_max: 1_000_000,
            placement_max: 65_536,
            first_batch: 1,
        }
    }
}
