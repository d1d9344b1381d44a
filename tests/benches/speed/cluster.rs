//! Clusters to be measured: a real controller and real engines, and this process as their client.

use std::{env, io, path::PathBuf, time::Duration};

use engineroom::{Client, ConnectionFile, EngineConfig, EngineNode, Profile, WorkerKind};
use engineroom_tests::{Lab, Process, SOON};

use crate::{Failure, options::EnginesPlan};

/// How many tasks the engines have run before anything is measured: the program has travelled, workers are up, and the
/// scheduler knows how long tasks take.
const WARM_TASKS: u64 = 4_000;

/// How many of these each engine runs at least.
const WARM_TASKS_EACH: u64 = 10;

/// What an engine node says when its engines have joined, be it `node` or this program.
const ENGINES_READY: &str = "engine node ready";

/// How long an engine node of this program may take to end.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// What engines run tasks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// Processes, as `node` does by default.
    Processes,
    /// Threads of an engine node that is part of this program.
    Threads,
}

/// Where the controller keeps jobs and results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In memory.
    Memory,
    /// On disk.
    Sqlite,
}

/// Which cluster is to be started.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many engines, on all nodes together.
    pub engines: usize,
    /// How many engine nodes, each of which has as many engines.
    pub nodes: usize,
    /// What these run tasks in.
    pub workers: Workers,
    /// Where the controller keeps what it must not forget.
    pub store: Store,
}

/// A running cluster. What depends on something else stands before it, so that it is dropped first.
pub struct Cluster {
    /// This process.
    pub client: Client,
    _engines: Vec<Process>,
    controller: Process,
    _lab: Lab,
}

impl Cluster {
    /// A cluster that has already run something.
    pub fn start(plan: Plan) -> Result<Self, Failure> {
        let lab = Lab::new();
        let controller = controller(&lab, plan.store);
        let cluster = Self::join(lab, controller, plan)?;
        cluster.warm_up()?;
        Ok(cluster)
    }

    /// Engine nodes, all started at once, and a client, on a controller that is ready. Returns when all engines are there.
    pub fn join(lab: Lab, controller: Process, plan: Plan) -> Result<Self, Failure> {
        let each = plan.engines / plan.nodes;
        let engines: Result<Vec<_>, _> = (0..plan.nodes).map(|_| engine_node(&lab, each, plan.workers)).collect();
        let engines = engines?;
        engines.iter().for_each(|node| drop(node.wait_line(ENGINES_READY)));
        let client = lab.client();
        client.wait_for_engines(each * plan.nodes, SOON)?;
        Ok(Self { client, _engines: engines, controller, _lab: lab })
    }

    /// The id of the controller's process.
    pub fn controller_pid(&self) -> u32 {
        self.controller.pid()
    }

    /// Has all engines run something.
    pub fn warm_up(&self) -> Result<(), Failure> {
        let view = self.client.direct_view()?;
        let tasks = WARM_TASKS.max(WARM_TASKS_EACH * view.targets().len() as u64);
        let sum: u64 = view.map(noop, 0..tasks).get()?.into_iter().sum();
        expect("the sum of the first tasks", sum, sum_below(tasks))
    }
}

impl Plan {
    /// The usual: one node with so many engines, whose workers are processes, and a store in memory.
    pub fn engines(engines: usize) -> Self {
        Self { engines, nodes: 1, workers: Workers::Processes, store: Store::Memory }
    }
}

/// A controller that is ready.
pub fn controller(lab: &Lab, store: Store) -> Process {
    lab.controller_with([
        "--store",
        match store {
            Store::Memory => "memory",
            Store::Sqlite => "sqlite",
        },
    ])
}

/// The task that does nothing.
pub fn noop(number: u64) -> u64 {
    number
}

/// 0 + 1 + … + (n - 1).
pub fn sum_below(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

/// An error unless what came is what had to come: figures of wrong results are worth nothing.
pub fn expect<T: PartialEq + std::fmt::Debug>(what: &str, came: T, expected: T) -> Result<(), Failure> {
    if came == expected { Ok(()) } else { Err(format!("{what} is {came:?} and not {expected:?}").into()) }
}

/// Starts an engine node: `node`, or, with threads as workers, this program, whose functions it so has.
fn engine_node(lab: &Lab, engines: usize, workers: Workers) -> Result<Process, Failure> {
    let engines = engines.to_string();
    Ok(match workers {
        Workers::Processes => lab.start("node", ["--role", "engine", "--engines", &engines]),
        Workers::Threads => lab.start(&this_program()?, ["engines", "--engines", &engines]),
    })
}

/// The path of this very executable, as [`Lab::start`] takes it.
pub fn this_program() -> Result<String, Failure> {
    let path: PathBuf = env::current_exe()?;
    path.into_os_string().into_string().map_err(|path| format!("{} is no text", path.display()).into())
}

/// Is an engine node until standard input ends.
pub fn serve_engines(plan: &EnginesPlan) -> Result<(), Failure> {
    let connection = ConnectionFile::load(Profile::in_dir(&plan.profile_dir).engine_connection_file())?;
    let config = EngineConfig { engines: plan.engines, worker: WorkerKind::Thread, ..EngineConfig::new(connection) };
    let node = EngineNode::start(config)?;
    println!("{ENGINES_READY}");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    node.shutdown(SHUTDOWN);
    Ok(())
}
