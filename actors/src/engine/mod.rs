//! Engines: execution slots on an engine node, and the workers in which they run code.
//!
//! [`slot`] is the pure state of one engine; [`actor`] carries messages between it, the controller and the [`worker`];
//! [`host`] speaks for all engines of a node; [`node`] is what programs start.

mod actor;
mod holdings;
mod host;
mod launcher;
mod node;
mod slot;
mod stopwatch;
pub(crate) mod worker;

pub(crate) use actor::EngineActor;
pub(crate) use host::blocking;
pub use launcher::launcher_rank;
pub use node::{EngineConfig, EngineError, EngineNode, WorkerKind};

#[cfg(test)]
pub(crate) use {
    holdings::{Held, Holdings},
    slot::{Slot, Step},
};
