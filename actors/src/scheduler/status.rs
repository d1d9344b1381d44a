//! What can be seen from outside.

use serde::{Deserialize, Serialize};

use super::{
    ClientKey,
    client::Client,
    core::{Pause, Scheduler},
    engines::{Duty, Engine},
};
use crate::task::{EngineId, JobId};

/// The clients and engines at one moment, by key and id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The clients with open jobs.
    pub clients: Vec<ClientStatus>,
    /// The connected engines.
    pub engines: Vec<EngineStatus>,
}

/// A client at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// The client.
    pub client: ClientKey,
    /// How many open jobs it has.
    pub jobs: u32,
    /// How many of their tasks are queued.
    pub queued: u64,
    /// How many of their tasks are in batches at engines.
    pub active: u64,
    /// Why tasks are queued, if any are.
    pub waits: Option<String>,
}

/// An engine at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// The engine.
    pub engine: EngineId,
    /// The batch that it runs.
    pub running: Option<RunningStatus>,
    /// How many tasks wait at the engine, in batches behind that one.
    pub waiting: u64,
    /// How many tasks it has ended since it joined.
    pub completed: u64,
    /// Whether it is about to leave and gets no more tasks.
    pub draining: bool,
}

/// The batch that an engine runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStatus {
    /// The job that it belongs to.
    pub job: JobId,
    /// How many of its tasks have no outcome yet.
    pub remaining: u32,
}

impl Scheduler {
    /// Who waits for what, and who does what. Costs a step for each client and engine, none for jobs and tasks.
    pub fn status(&self) -> Status {
        let mut clients: Vec<_> = self.clients.iter().map(|(_, client)| self.client_status(client)).collect();
        clients.sort_unstable_by_key(|client| client.client);
        let mut engines: Vec<_> = self.engines.iter().map(|(_, engine)| self.engine_status(engine)).collect();
        engines.sort_unstable_by_key(|engine| engine.engine);
        Status { clients, engines }
    }

    fn client_status(&self, client: &Client) -> ClientStatus {
        let Client { key, jobs, queued, held, active, .. } = *client;
        ClientStatus { client: key, jobs, queued: queued + held, active, waits: self.reason(client) }
    }

    /// Why tasks of the client are queued. What needs somebody's attention comes first.
    fn reason(&self, client: &Client) -> Option<String> {
        if !client.is_waiting() {
            return (client.held > 0).then(|| "its tasks wait for other tasks".into());
        }
        if self.pause == Pause::Paused {
            return Some("the controller was started again and waits for its engines to come back".into());
        }
        if self.engines.len() == 0 {
            return Some("no engines are connected".into());
        }
        if self.kinds.iter().all(|(_, kind)| kind.serving == 0) {
            return Some("all connected engines are about to leave".into());
        }
        let unmet = client.waits.keys().find(|class| self.serving(**class) == 0);
        if let Some(class) = unmet {
            return Some(self.unmet(&self.classes[*class]));
        }
        Some(
            if client.waits.is_empty() { "the engines that its tasks are bound to are busy" } else { "all engines are busy" }
                .into(),
        )
    }

    fn engine_status(&self, engine: &Engine) -> EngineStatus {
        let running = engine.batches.front();
        EngineStatus {
            engine: engine.id,
            running: running.map(|batch| RunningStatus { job: self.jobs[batch.job].id, remaining: batch.left() }),
            waiting: engine.batches.iter().skip(1).map(|batch| u64::from(batch.left())).sum(),
            completed: engine.completed,
            draining: engine.duty == Duty::Draining,
        }
    }
}
