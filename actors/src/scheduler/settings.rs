//! What can be set about scheduling.

use std::time::Duration;

use super::Scheme;

/// How often the scheduler wants to be told that time passes, while it does; see [`Scheduler::tick`](super::Scheduler::tick). As
/// often as a batch must have to wait to be moved, see [`Settings::steal_min_us`].
pub(crate) const TICK: Duration = Duration::from_micros(500);

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
    /// The most tasks in an adaptive batch, however short they are. Two batches of the shortest tasks must take longer than a
    /// message to the controller and one back, or the engine waits; with 9 bytes each, so many still travel as one short message.
    pub batch_tasks_max: u32,
    /// The most tasks in a batch whose size the client has fixed. Bounds what a dispatch costs and what is lost with an engine.
    pub chunk_tasks_max: u32,
    /// How many bytes of arguments an adaptive batch aims to hold at most, as far as a task's mean tells. More holds up other
    /// messages to the engine's node and binds long arguments to one engine.
    pub batch_bytes: u64,
    /// No batch of several tasks holds more bytes of arguments. Well below what a message may have.
    pub batch_bytes_max: u64,
    /// Waiting batches are taken from an engine whose running batch needs at least this much longer, in microseconds. Below it,
    /// the batch would have started before the retraction arrives: it takes three messages to move a batch. A retraction that comes
    /// too late is refused and costs nothing else.
    pub steal_min_us: u64,
    /// Which engine gets a batch, of those that have room.
    pub scheme: Scheme,
    /// The most open jobs; further ones are refused. Bounds the memory that clients can take.
    pub jobs_max: usize,
    /// The most engines that the placement of one direct job names.
    pub placement_max: usize,
    /// The number of the first batch. A controller that was restarted starts above every number that it gave out before, so that
    /// a report of an old batch is never taken for a new one. It is also the seed of what is drawn by lot.
    pub first_batch: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poison_losses: 3,
            prefetch: 1,
            batch_target_us: 4_000,
            batch_tasks_max: 2_048,
            chunk_tasks_max: 65_536,
            batch_bytes: 8 << 20,
            batch_bytes_max: 256 << 20,
            steal_min_us: 500,
            scheme: Scheme::default(),
            jobs_max: 1_000_000,
            placement_max: 65_536,
            first_batch: 1,
        }
    }
}
