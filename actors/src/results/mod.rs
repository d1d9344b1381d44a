//! Result stores: what became of each task, by message id.
//!
//! A controller has several, and each job belongs to one of them by its id. [`memory`] and [`sqlite`] keep what there is, in
//! memory or in a file that all stores of a controller share; both take what is in [`backend`]. [`actor`] receives outcomes, serves
//! questions and sends results to those who subscribed; it holds no results itself.

mod actor;
mod awaiting;
mod backend;
mod cursor;
mod memory;
mod messages;
mod runs;
mod sqlite;
mod subscription;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use actor::ResultStore;
pub(crate) use memory::MemoryLimits;
pub(crate) use messages::{
    EndLink, KeepRun, Kept, NoteEngines, Owner, RecordLosses, RecordRun, Settle, StoreStatus, SubscribeOwner,
};
pub(crate) use sqlite::{PendingTasks, Restored, RestoredEnd, RestoredJob, Store};
pub use sqlite::{Retention, StoreError};

use runs::{evicted_run, part};

/// Microseconds since the Unix epoch by this machine's clock.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
