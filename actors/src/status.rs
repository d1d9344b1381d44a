//! What a cluster says of itself: engines, clients, counts. Public data, for people, `--json` and decisions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::task::EngineId;

/// How many of a set of tasks are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCounts {
    /// How many were asked about.
    pub total: u64,
    /// Submitted and without an outcome: waiting or running.
    pub pending: u64,
    /// Ended with a value.
    pub succeeded: u64,
    /// Ended without a value: failed or aborted.
    pub failed: u64,
    /// Ended, but the outcome has been dropped since to make room.
    pub evicted: u64,
    /// Never heard of, or forgotten.
    pub unknown: u64,
}

impl StatusCounts {
    /// How many have ended, in whatever way.
    pub fn done(&self) -> u64 {
        self.succeeded + self.failed + self.evicted
    }
}

impl std::ops::AddAssign for StatusCounts {
    fn add_assign(&mut self, other: Self) {
        self.total += other.total;
        self.pending += other.pending;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.evicted += other.evicted;
        self.unknown += other.unknown;
    }
}

/// A cluster at one moment, as its controller sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's name.
    pub cluster: String,
    /// The version of engineroom that the controller runs.
    pub version: String,
    /// How long the controller has been up, in milliseconds.
    pub uptime_ms: u64,
    /// The engines, by id.
    pub engines: Vec<EngineStatus>,
    /// The clients that are connected or have work here.
    pub clients: Vec<ClientStatus>,
    /// How many jobs the result stores hold, ended ones included.
    pub jobs: u64,
    /// The bytes of all results that are held.
    pub result_bytes: u64,
}

/// One engine, as far as clients choose by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// Its id.
    pub id: EngineId,
    /// Its node: the name in the certificate, the machine, the process.
    pub node: String,
    /// The labels that its node was started with.
    pub labels: BTreeMap<String, String>,
    /// The resources that its node was started with, and how much of each.
    #[serde(default)]
    pub resources: BTreeMap<String, u64>,
    /// The rank that mpiexec or Slurm gave its node, if one of them started it.
    #[serde(default)]
    pub rank: Option<u32>,
}

/// One engine at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Id, node and labels.
    #[serde(flatten)]
    pub info: EngineInfo,
    /// What it does.
    pub state: EngineState,
    /// Tasks sent to it that have no outcome yet, the running one included.
    pub tasks: u64,
    /// Tasks that it has ended.
    pub completed: u64,
    /// Where its node is reached.
    pub address: String,
}

/// What an engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineState {
    /// It waits for work.
    Idle,
    /// It runs a task.
    Busy,
    /// It finishes what it has and takes nothing new.
    Draining,
}

/// One client at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// The name in its certificate.
    pub name: String,
    /// Where it is reached; `None` when it has left and its work goes on.
    pub address: Option<String>,
    /// Its jobs that have not ended.
    pub jobs: u64,
    /// Its tasks that wait for an engine.
    pub queued: u64,
    /// Its tasks that are at an engine.
    pub running: u64,
    /// Why something of it waits, if something does.
    pub waiting: Option<String>,
}
