//! Actors that other nodes can reach: messages, registry, addresses, supervision.

mod message;
mod registry;
mod remote;
mod supervise;

pub use message::{Remote, RemoteMessage, Reply};
pub use registry::{ActorId, DuplicateMessage, Registry};
pub(crate) use registry::{Exports, Local};
pub use remote::RemoteAddr;
pub use supervise::{ActorHandle, MONITORS_MAX, Restart, spawn_actor};
