//! Result stores: what became of each task, by message id.
//!
//! A controller has several, and each job belongs to one of them by its id. [`memory`] is the state, without actors or
//! clocks; [`actor`] receives outcomes, serves questions and sends results to those who subscribed.

mod actor;
mod memory;

pub(crate) use actor::{EndLink, ExtendJob, OpenJob, RecordRun, ResultStore, StoreStatus};
