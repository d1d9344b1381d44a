//! Result stores: what became of each task, by message id.
//!
//! A controller has several, and each job belongs to one of them by its id. [`memory`] is the state, without actors or
//! clocks; [`actor`] receives outcomes, serves questions and sends results to those who subscribed.

mod actor;
mod memory;
mod messages;
mod sqlite;

pub(crate) use actor::ResultStore;
pub(crate) use memory::MemoryLimits;
pub(crate) use messages::{
    EndLink, KeepRun, Kept, NoteEngines, Owner, RecordLosses, RecordRun, Settle, StoreStatus, SubscribeOwner,
};
pub(crate) use sqlite::{PendingTasks, Restored, RestoredJob, Store};
pub use sqlite::{Retention, StoreError};
