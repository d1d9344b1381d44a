//! How a store on disk answers those that use it.

use super::backend::{Answer, Done};

/// What the threads tell those that use a store.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(super) enum FromStore {
    /// These are on disk, in the order in which they were told.
    Committed(Vec<(u64, Done)>),
    Answered(u64, Box<Answer>),
    /// The store has ended, for this reason. What it was told since its last commit is not kept.
    Failed(String),
}

/// One of those that use a store.
pub(super) struct Port {
    pub number: usize,
    pub tell: Box<dyn Fn(FromStore) + Send + Sync>,
}
