//! The scheduler: which engine runs which tasks, and when.
//!
//! The core is pure. Events go in as method calls on [`Scheduler`], with the time as an argument; [`Command`]s come out. It knows no
//! clock, socket, thread or source of chance but a seed, so that a test can replay any history.
//!
//! # How it is built
//!
//! * A **job** holds its tasks as intervals of indices ([`pending`]); a queued task costs a share of an interval, not a record.
//!   A job has one *part* when it is load-balanced, and one for each engine when it is direct.
//! * What jobs require is interned as **classes**, what engines can do as **kinds** ([`matching`]). Which kinds can run which
//!   classes is worked out when a new class or kind appears, never when a task is dispatched. Kinds tell engines apart by labels,
//!   resources and ids as far as open jobs ask for these ([`demand`]).
//! * Every kind has an **order** ([`order`]) of the parts that it can run and that have queued tasks: by priority, then by the engine
//!   time that the client has used, then by submission. Every engine has a second one for what is bound to it.
//! * A job that waits for tasks of others stands behind a **gate** ([`gate`]): in no order, until counts of ended tasks say so.
//!   One that **follows** others is then bound to where these ran ([`follow`]).
//! * Every kind has a **line** of idle engines and one of engines with a free waiting slot ([`engines`]). A **scheme** ([`scheme`])
//!   says which of them gets a batch; the schemes that draw lots have urns beside the lines.
//!
//! Two invariants make a dispatch cheap: *no engine is idle, and no waiting slot is free, while a task that could go there is queued*.
//! So a task that arrives meets either a free engine and no competitor, or competitors and no free engine.
//!
//! # What operations cost
//!
//! Extending a job, a report of progress and a dispatch cost O(log) of the jobs and clients that wait, times the number of kinds
//! that match (a handful: engines with equal abilities share one, and open jobs that choose engines split it). Losing an engine costs its own batches. Only the first engine of a
//! *new* kind costs a walk over the open jobs.

mod actor;
mod ascending;
mod batch_size;
mod client;
mod commands;
mod core;
mod demand;
mod dependency;
mod dispatch;
mod engines;
mod follow;
mod gate;
#[cfg(test)]
mod invariants;
mod job;
mod matching;
mod membership;
mod order;
mod pending;
mod rejoin;
mod reports;
mod requirement;
mod restart;
mod retries;
mod scheme;
mod settings;
mod slab;
mod status;
mod steal;
mod timeouts;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub(crate) use actor::{Leaving, LinkDown, LinkUp, SchedulerActor, UseStores};
#[cfg(test)]
pub(crate) use actor::{absences, ledger};
#[cfg(test)]
pub use commands::JobCounts;
pub use commands::{
    Accepted, CancelCounts, Chunk, Claim, ClientKey, Command, ExtendError, Failure, JobSpec, OpenError, Past, Placement, Refused,
    Suspended, Time, UnknownJob, Verdict, Weight,
};
pub use core::Scheduler;
pub use follow::{Located, Whereabouts};
pub use gate::{Known, Ticket};
pub(crate) use reports::between;
pub use requirement::{Capability, EngineSpec, Requirement, WorkerMode};
pub use scheme::Scheme;
pub use settings::Settings;
pub(crate) use settings::TICK;
pub use status::EngineStatus;
