//! The disk backend: one sqlite file for all result stores of a controller.
//!
//! One thread writes, one reads. What all stores want written while a commit is under way goes into the next one together.

mod error;
mod restore;
mod retention;
mod store;

pub use error::StoreError;
pub(crate) use restore::{PendingTasks, Restored, RestoredJob};
pub use retention::Retention;
pub(crate) use store::Store;
