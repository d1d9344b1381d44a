//! Result stores: what became of each task, by message id.
//!
//! A controller has several, and each job belongs to one of them by its id. [`memory`] and [`sqlite`] keep what there is, in
//! memory or in a file that all stores of a controller share; both take what is in [`backend`]. [`actor`] receives outcomes, serves
//! questions and sends results to those who subscribed; it holds no results itself. Without the feature `sqlite`, which is on by
//! default, `without_sqlite` stands for the file.

#![cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "some of what stores are told is for those on disk only"))]

mod actor;
mod awaiting;
mod backend;
mod cursor;
mod memory;
mod messages;
mod port;
mod restored;
mod retention;
mod runs;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store_error;
mod subscription;
#[cfg(all(test, feature = "sqlite"))]
mod testing;
#[cfg(all(test, feature = "sqlite"))]
mod tests;
#[cfg(not(feature = "sqlite"))]
mod without_sqlite;

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use actor::ResultStore;
pub(crate) use memory::MemoryLimits;
pub(crate) use messages::{
    CountTasks, EndLink, KeepRun, Kept, LocateTasks, NoteEngines, NoteReleased, Owner, PassNews, RecordLosses, RecordRun, Settle,
    StoreStatus, SubscribeOwner,
};
pub(crate) use restored::{PendingTasks, Restored, RestoredEnd, RestoredJob};
pub use retention::Retention;
#[cfg(feature = "sqlite")]
pub(crate) use sqlite::Store;
pub use store_error::StoreError;
#[cfg(not(feature = "sqlite"))]
pub(crate) use without_sqlite::Store;

use runs::evicted_run;
pub(crate) use runs::part;

/// Microseconds since the Unix epoch by this machine's clock.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
