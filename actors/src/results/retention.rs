//! For how long, and how much, a store on disk keeps.

use std::time::Duration;

/// What a store on disk keeps. Tasks that have not ended are always kept, arguments and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// For how long an outcome is kept.
    pub age: Duration,
    /// How many bytes of outcomes and arguments are kept. Over it, the oldest outcomes that a client has fetched go first,
    /// then those that nobody has fetched for longer than `unfetched`. If that is not enough, new jobs are refused.
    pub bytes: u64,
    /// For how long an outcome that nobody has fetched is kept, even if that takes more than `bytes`.
    pub unfetched: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Retention {
    fn default() -> Self {
        Self { age: 30 * DAY, bytes: 16 << 30, unfetched: 7 * DAY }
    }
}
