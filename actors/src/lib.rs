//! Farms tasks out from programs to engines, on one machine or a thousand.
//!
//! A program connects to a cluster as a [`Client`], chooses engines by a view, and maps a function over inputs. The
//! cluster's controller sends the tasks, in batches, to engines that are free; engines run them and send back what became of
//! them. All of it travels by QUIC with mutual TLS.
//!
//! ```no_run
//! use engineroom::prelude::*;
//!
//! fn simulate(r0: f64) -> f64 {
//!     // an ordinary sequential function
//!     r0 * r0
//! }
//!
//! fn main() -> engineroom::Result<()> {
//!     engineroom::init(); // an engine may start this very program as its worker
//!     let client = Client::connect(Profile::default())?; // or Cluster::local(4)?.client()
//!     let sizes = client
//!         .load_balanced_view()
//!         .map(simulate, (0..1_000).map(|i| f64::from(i) / 250.0))
//!         .wait_interactive()? // a progress bar, then the results in order
//!         .get()?;
//!     println!("{sizes:?}");
//!     Ok(())
//! }
//! ```
//!
//! | to | use |
//! |---|---|
//! | submit work | [`Client`], [`LoadBalancedView`], [`DirectView`] |
//! | get results | [`AsyncResult`], [`LazyMap`], [`Client::get_result`] |
//! | run a cluster in this process | [`Cluster`] |
//! | run a part of a cluster in this process | [`Controller`], [`EngineNode`] |
//! | offer functions by name, between different programs | [`TaskName`], [`Tasks`] |

//! # Blocking and asynchronous programs
//!
//! The same types serve both. In a program without `async`, results are had by [`AsyncResult::get`] and its like, and iterators;
//! nothing needs a runtime. In asynchronous programs, on tokio, actix or any other executor, results are awaited (`.await`) or taken
//! as streams, and a client is made by [`Client::connect_async`]; [`init`] is the first call there too; whatever else waits for the controller blocks its thread, unless
//! [`Client::blocking`] makes the call. Blocking calls never panic inside of a runtime, and awaiting needs none.
//!
//! | awaited | when the future is dropped |
//! |---|---|
//! | an [`AsyncResult`], [`AsyncResult::results_async`] | the tasks go on; [`Client::get_result`] gives their results |
//! | [`AsyncResult::wait_async`], [`AsyncResult::first_error_async`] | nothing is lost; they can be awaited again |
//! | the next item of [`InOrder`], [`AsCompleted`], [`LazyMap`], [`LazyAsCompleted`] | nothing is lost; the next call gives it |
//! | [`Client::connect_async`] | the connection is given up |
//! | [`Client::blocking`] | a call that has begun goes on to its end |

mod client;
mod cluster;
mod code;
mod controller;
mod engine;
mod error;
#[doc(hidden)]
pub mod measure;
pub mod profile;
mod results;
mod rng;
mod scheduler;
#[cfg(test)]
mod simulation;
mod status;
mod task;
mod wire;

pub use client::{
    All, AsCompleted, AsyncResult, CLOSE_TIMEOUT, CONNECT_TIMEOUT, Client, Dependency, DirectView, Distribution, Engines,
    Gathered, History, InOrder, LazyAsCompleted, LazyMap, LoadBalancedView, One, Progress, Shape, Target, TaskMetadata,
};
pub use cluster::Cluster;
pub use code::{BundleError, CacheError, TaskName, Tasks, TypedError};
pub use controller::{Controller, ControllerConfig, ControllerError, StoreConfig};
pub use engine::worker::{Namespace, NamespaceError, PublishError, TaskContext, init, init_with};
pub use engine::{EngineConfig, EngineError, EngineNode, WorkerKind, launcher_rank};
pub use engineroom_runtime::net::connection_file::{ConnectionFile, ConnectionFileError};
pub use engineroom_runtime::node::DrainReport;
pub use error::{Error, Result};
pub use profile::{Profile, ProfileError};
pub use results::{Retention, StoreError};
pub use scheduler::Scheme;
pub use status::{ClientStatus, ClusterStatus, EngineInfo, EngineState, EngineStatus, StatusCounts};
pub use task::{
    BlobHash, BundleHash, Cause, EngineId, IdError, JobId, MessageId, OutputStream, TaskError, TaskFilter, TaskOutput,
    TaskRecord, TaskState, WorkerExit,
};
pub use wire::AbortCounts;

/// The certificates of a cluster: made, listed and revoked on the files of a profile.
pub mod certificates {
    pub use engineroom_runtime::net::{
        authority::{AUTHORITY_DAYS, CERTIFICATE_DAYS},
        certificate::Serial,
        certificates::{CertificatesError, Listed, Request, State, connection_path, issue, list, revoke},
        identity::Role,
        ledger::Issued,
    };
}

/// What most programs need.
pub mod prelude {
    pub use crate::{
        AsyncResult, Client, Cluster, ConnectionFile, DirectView, Error, LazyMap, LoadBalancedView, MessageId, Profile,
        TaskContext, TaskError, TaskName, Tasks,
    };
}
