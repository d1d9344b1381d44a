//! A cluster in this very process.

use std::{fmt, sync::Arc, time::Duration};

use crate::client::{CONNECT_TIMEOUT, Client, Target};
use crate::code::Tasks;
use crate::controller::{Controller, ControllerConfig, StoreConfig};
use crate::engine::worker::abort_if_worker;
use crate::engine::{EngineConfig, EngineNode, WorkerKind};
use crate::error::{Error, Result};
use crate::profile::Profile;

/// How long the parts of an embedded cluster may take to end in order.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// An embedded cluster: a real controller and real engines, on loopback, in this process, with threads as workers. What runs
/// here runs unchanged on any other cluster, unless it relies on what tasks share here and do not elsewhere: globals, files, the
/// environment, the arguments of the command line.
///
/// Threads are not separate from the program: what tasks write goes where the program writes and is not captured, a task that takes too
/// long or is aborted cannot be stopped, and one that exits or crashes the process ends the program. In [processes](crate::WorkerKind),
/// the default of `node --role engine`, it costs one task.
///
/// It lives as long as it, or a client of it, does. Its files are in a temporary directory, which goes with it.
///
/// ```no_run
/// use engineroom::prelude::*;
///
/// fn main() -> engineroom::Result<()> {
///     engineroom::init();
///     let cluster = Cluster::local(4)?;
///     let client = cluster.client()?;
///     assert_eq!(client.load_balanced_view().map(|x: i32| -x, [1, 2, 3]).get()?, [-1, -2, -3]);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Cluster {
    parts: Arc<Parts>,
}

struct Parts {
    controller: Option<Controller>,
    engines: Option<EngineNode>,
    /// Removed last.
    _directory: tempfile::TempDir,
}

impl Cluster {
    /// Starts a cluster of so many engines in this process.
    ///
    /// # Errors
    /// When the number makes no sense, or no directory, socket or thread can be had.
    pub fn local(engines: usize) -> Result<Self> {
        Self::local_with(engines, Tasks::new())
    }

    /// As [`Cluster::local`], with engines that also offer named tasks.
    ///
    /// # Errors
    /// As [`Cluster::local`].
    pub fn local_with(engines: usize, tasks: Tasks) -> Result<Self> {
        abort_if_worker();
        let directory = tempfile::Builder::new().prefix("engineroom-").tempdir();
        let directory = directory.map_err(|error| Error::Start(format!("no temporary directory could be made: {error}")))?;
        let profile = Profile::in_dir(directory.path().join("local"));
        let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let controller =
            Controller::start(&profile, ControllerConfig { listen, store: StoreConfig::Memory, ..ControllerConfig::default() })?;
        let config = EngineConfig {
            engines,
            worker: WorkerKind::Thread,
            tasks,
            cache_dir: Some(directory.path().join("bundles")),
            ..EngineConfig::new(controller.engine_file().clone())
        };
        let engines = EngineNode::start(config)?;
        let parts = Parts { controller: Some(controller), engines: Some(engines), _directory: directory };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// A new client of this cluster.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn client(&self) -> Result<Client> {
        let Some(controller) = &self.parts.controller else { return Err(Error::Closed) };
        let target = Target::Connection(controller.client_file().clone());
        Client::start(target, CONNECT_TIMEOUT, Some(self.parts.clone()))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // The engines first, so that what they finish still has somewhere to go.
        let engines = self.engines.take().map(|engines| engines.shutdown(SHUTDOWN));
        let controller = self.controller.take().map(|controller| controller.shutdown(SHUTDOWN));
        for report in [engines, controller].into_iter().flatten().filter(|report| !report.finished) {
            tracing::warn!("an embedded cluster ended: {report}");
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parts.controller {
            Some(controller) => write!(f, "Cluster({})", controller.advertised()),
            None => f.write_str("Cluster(ended)"),
        }
    }
}
