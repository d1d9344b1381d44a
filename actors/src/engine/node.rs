//! An engine node, as programs start it.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use engineroom_runtime::{
    actor::{Registry, Restart, spawn_actor},
    net::{
        connection_file::{ConnectionFile, ConnectionFileError},
        identity::Role,
        tls::ConnectFailure,
    },
    node::{DrainReport, LinkEvent, Node, NodeThread, StartError},
};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::{
    actor::{EngineActor, WorkerSetup},
    host::{ControllerDown, ControllerUp, Drain, EndWorkers, EngineHost, Offer, Registration, RegistrationState},
};
use crate::code::{BlobCache, Bundle, BundleError, CacheError, SharedValues, Tasks};
use crate::task::EngineId;
use crate::wire::{ControlEngine, Dispatch, Retract, StopTasks, engine_actor};

/// How many bytes of programs and shared values an engine node keeps on disk; the least recently used go first.
const BLOBS_BYTES_MAX: u64 = 8 << 30;

/// The most engines that one node may have.
const ENGINES_MAX: usize = 4096;

const CONTROLLER: &[Role] = &[Role::Controller];

/// What an engine runs code in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerKind {
    /// A process of the submitted program: any program's functions run, and a crash costs one task.
    #[default]
    Process,
    /// A thread of this process: it runs functions of this very program, and named tasks, and starts at once.
    Thread,
}

impl fmt::Display for WorkerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WorkerKind::Process => "process",
            WorkerKind::Thread => "thread",
        })
    }
}

impl FromStr for WorkerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "process" => Ok(WorkerKind::Process),
            "thread" => Ok(WorkerKind::Thread),
            other => Err(format!("{other:?} is no kind of worker: choose process or thread")),
        }
    }
}

/// How an engine node is to be run.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where the controller is, and what lets this node in.
    pub connection: ConnectionFile,
    /// How many engines; each runs one task at a time.
    pub engines: usize,
    /// What they run code in.
    pub worker: WorkerKind,
    /// What clients may choose its engines by.
    pub labels: BTreeMap<String, String>,
    /// What each of its engines can give to the one task that it runs, and how much of it: `gpu` 1, `memory_gb` 16. Tasks that
    /// [require](crate::LoadBalancedView::require_resource) more go elsewhere.
    pub resources: BTreeMap<String, u64>,
    /// Its place among nodes that were started together, by which direct views may be ordered; see [`launcher_rank`](crate::launcher_rank).
    pub rank: Option<u32>,
    /// The named tasks that it offers; with thread workers only.
    pub tasks: Tasks,
    /// Where programs are kept that came from clients. By default a directory of this user for all engine nodes of this
    /// machine.
    pub cache_dir: Option<PathBuf>,
    /// How long [`EngineNode::start`] waits for the controller.
    pub connect_timeout: Duration,
}

impl EngineConfig {
    /// One engine for each core, in processes, no labels and resources, 30 s to reach the controller.
    pub fn new(connection: ConnectionFile) -> Self {
        Self {
            connection,
            engines: std::thread::available_parallelism().map_or(1, usize::from),
            worker: WorkerKind::Process,
            labels: BTreeMap::new(),
            resources: BTreeMap::new(),
            rank: None,
            tasks: Tasks::new(),
            cache_dir: None,
            connect_timeout: Duration::from_secs(30),
        }
    }
}

/// Why an engine node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The connection file is not one for engines.
    #[error(transparent)]
    ConnectionFile(#[from] ConnectionFileError),
    /// The number of engines makes no sense.
    #[error("a node has 1 to {ENGINES_MAX} engines, not {0}")]
    Engines(usize),
    /// Named tasks were given to a node that runs programs in processes.
    #[error("named tasks run in threads: start this node with thread workers, or without named tasks")]
    TasksNeedThreads,
    /// The directory for programs and shared values cannot be used.
    #[error(transparent)]
    Bundles(#[from] CacheError),
    /// This program's own executable cannot be read.
    #[error(transparent)]
    Program(#[from] BundleError),
    /// The controller could not be reached, or does not want this node.
    #[error("{text}")]
    Connect {
        /// What happened, and what to do.
        text: String,
    },
    /// What mpiexec or Slurm has left in the environment is no rank.
    #[error("{variable}={value} is not a rank: correct or unset it")]
    Rank {
        /// The name of the variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// The controller refuses these engines.
    #[error("the controller refuses this node's engines: {0}")]
    Refused(String),
    /// The node could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A running engine node. It keeps its controller: when the link is lost it dials again, for ever. Dropped without
/// [`EngineNode::shutdown`], it ends without ceremony, and the controller gives its tasks to others.
#[derive(Debug)]
pub struct EngineNode {
    node: NodeThread,
    controller: String,
    connection_file: PathBuf,
    registration: Arc<Registration>,
}

impl EngineNode {
    /// Starts an engine node and waits until the controller has taken its engines.
    ///
    /// # Errors
    /// When the configuration makes no sense, or the controller refuses this node or does not answer in time.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        config.connection.expect_role(Role::Engine)?;
        if config.engines == 0 || config.engines > ENGINES_MAX {
            return Err(EngineError::Engines(config.engines));
        }
        if config.worker == WorkerKind::Process && config.tasks.names().next().is_some() {
            return Err(EngineError::TasksNeedThreads);
        }
        let setup = match config.worker {
            WorkerKind::Process => WorkerSetup::Process,
            WorkerKind::Thread => {
                let bundle = Some(Bundle::of_this_program()?.hash);
                WorkerSetup::Thread { bundle, tasks: config.tasks.clone(), values: SharedValues::default() }
            }
        };
        let cache_dir = config.cache_dir.clone().unwrap_or_else(default_cache_dir);
        let blobs = BlobCache::open(&cache_dir, BLOBS_BYTES_MAX)?;
        let registration = Arc::new(Registration::default());
        let controller = config.connection.address().to_owned();
        let (shared, identity, to) = (registration.clone(), config.connection.identity().clone(), config.connection.clone());
        let offer = Offer {
            engines: config.engines as u32,
            thread_bundle: match &setup {
                WorkerSetup::Process => None,
                WorkerSetup::Thread { bundle, .. } => Some(*bundle),
            },
            tasks: config.tasks.names().map(str::to_owned).collect(),
            labels: config.labels.clone(),
            resources: config.resources.clone(),
            rank: config.rank,
        };
        let set_up = move |node: &Node| set_up(node, &offer, &setup, &shared, &blobs, &to);
        let (node, ()) = NodeThread::start::<_, EngineError>("engineroom-engine", identity, set_up)?;
        let connection_file = config.connection.path().to_owned();
        let this = Self { node, controller, connection_file, registration };
        this.wait_registered(&config)?;
        Ok(this)
    }

    /// The ids that the controller has given to this node's engines; empty while the controller is not there.
    pub fn engine_ids(&self) -> Vec<EngineId> {
        self.registration.read().ids
    }

    /// The address of the controller.
    pub fn controller(&self) -> &str {
        &self.controller
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.node.is_running()
    }

    /// Whether clients have [shut down](crate::Client::shutdown) all of its engines, so that it is of no use any more.
    pub fn is_done(&self) -> bool {
        self.registration.read().is_over
    }

    /// Why the controller will never take this node again, if so: its certificate was revoked. It goes on living, without a
    /// link, until it is shut down.
    pub fn cut_off(&self) -> Option<EngineError> {
        let failure = self.registration.read().failure.filter(ConnectFailure::is_final)?;
        Some(EngineError::Connect { text: failure.describe(&self.controller, Some(&self.connection_file)) })
    }

    /// Ends the node in order: it takes nothing new, finishes the tasks that run, hands over their outcomes, and stops its
    /// workers. Blocks until then; after `deadline` it stops what still runs, and the controller gives that to others.
    pub fn shutdown(self, deadline: Duration) -> DrainReport {
        self.node.shutdown(deadline)
    }

    fn wait_registered(&self, config: &EngineConfig) -> Result<(), EngineError> {
        let hopeless = |failure: &ConnectFailure| !failure.is_retryable();
        let decided = |state: &RegistrationState| {
            !state.ids.is_empty() || state.refused.is_some() || state.failure.as_ref().is_some_and(hopeless)
        };
        let state = self.registration.wait(config.connect_timeout, decided);
        if !state.ids.is_empty() {
            return Ok(());
        }
        if let Some(refused) = state.refused {
            return Err(EngineError::Refused(refused));
        }
        let failure = state.failure.unwrap_or(ConnectFailure::NoAnswer);
        Err(EngineError::Connect { text: failure.describe(&self.controller, Some(config.connection.path())) })
    }
}

fn set_up(
    node: &Node,
    offer: &Offer,
    setup: &WorkerSetup,
    shared: &Arc<Registration>,
    blobs: &Arc<BlobCache>,
    to: &ConnectionFile,
) -> Result<(), EngineError> {
    let (offer, setup, own) = (offer.clone(), setup.clone(), node.clone());
    let (registration, blobs) = (shared.clone(), blobs.clone());
    let host = spawn_actor("engine host", Restart::Never, move |context| {
        let host = actix::AsyncContext::address(context);
        let engine = |place: u32| {
            let (host, setup) = (host.clone(), setup.clone());
            // Not restarted: a new one would not have what the controller believes it to have. Its end is told to the
            // controller, which counts the engine as lost.
            let engine = spawn_actor("engine", Restart::Never, move |_| EngineActor::new(host.clone(), setup.clone()));
            own.export(engine_actor(place), &engine);
            engine
        };
        let engines = (0..offer.engines).map(engine).collect();
        EngineHost::new(offer.clone(), engines, registration.clone(), blobs.clone())
    });
    let (host, failures, connection) = (host.addr(), shared.clone(), to.clone());
    let drained = host.clone();
    node.on_drain("engines", move |_| {
        async move {
            let (idle, is_idle) = oneshot::channel();
            drained.do_send(Drain { idle });
            is_idle.await.map_err(|_| "the host has ended".to_owned())
        }
        .boxed_local()
    });
    let stopped = host.clone();
    node.on_drain("workers", move |_| {
        async move { stopped.send(EndWorkers).await.map_err(|error| error.to_string()) }.boxed_local()
    });
    node.serve(registry()?, move |event| match event {
        LinkEvent::Up(link) => host.do_send(ControllerUp(link)),
        LinkEvent::Down(link, reason) => host.do_send(ControllerDown(link, reason)),
        LinkEvent::DialFailed { failure, .. } => failures.update(|state| dial_failed(state, failure, &connection)),
    });
    node.dial(to.address())?;
    Ok(())
}

/// A node that starts is told by its starter. One that has been at work says it once, and goes on trying.
fn dial_failed(state: &mut RegistrationState, failure: ConnectFailure, to: &ConnectionFile) {
    if state.was_taken && !failure.is_retryable() && state.failure.as_ref() != Some(&failure) {
        tracing::warn!("{}", failure.describe(to.address(), Some(to.path())));
    }
    state.failure = Some(failure);
}

fn registry() -> Result<Registry, StartError> {
    let mut registry = Registry::new();
    registry
        .message::<EngineActor, Dispatch>(CONTROLLER)?
        .message::<EngineActor, Retract>(CONTROLLER)?
        .message::<EngineActor, StopTasks>(CONTROLLER)?
        .message::<EngineActor, ControlEngine>(CONTROLLER)?;
    Ok(registry)
}

/// Programs are named by their content, so that all engine nodes of a user share them.
fn default_cache_dir() -> PathBuf {
    crate::profile::home_dir().join("bundles")
}
