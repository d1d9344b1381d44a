//! What a controller says of its cluster: the core's counters, with the names that only the actor knows.

use actix::{AsyncContext, Context, Handler};
use engineroom_runtime::actor::Remote;

use super::{SchedulerActor, clients::Client};
use crate::results::StoreStatus;
use crate::scheduler::{ClientKey, EngineStatus as CoreEngine};
use crate::status::{ClientStatus, ClusterStatus, EngineState, EngineStatus};
use crate::wire::QueryCluster;

impl SchedulerActor {
    fn status(&self) -> ClusterStatus {
        let core = self.core.status();
        let engine = |of_core: &CoreEngine| {
            let seat = self.seats.get(&of_core.engine)?;
            let running = of_core.running.as_ref().map_or(0, |running| u64::from(running.remaining));
            let state = match (seat.draining, running) {
                (true, _) => EngineState::Draining,
                (false, 0) => EngineState::Idle,
                (false, _) => EngineState::Busy,
            };
            Some(EngineStatus {
                info: seat.info.clone(),
                state,
                tasks: running + of_core.waiting,
                completed: of_core.completed,
                address: seat.remote.link().peer().address.to_string(),
            })
        };
        let client = |(key, client): (&ClientKey, &Client)| {
            let of_core = core.clients.iter().find(|of_core| of_core.client == *key);
            ClientStatus {
                name: client.owner.name.as_ref().to_owned(),
                address: client.link.as_ref().map(|link| link.peer().address.to_string()),
                jobs: self.ledger.account(*key).jobs,
                queued: of_core.map_or(0, |of_core| of_core.queued),
                running: of_core.map_or(0, |of_core| of_core.active),
                waiting: of_core.and_then(|of_core| of_core.waits.clone()),
            }
        };
        let mut engines: Vec<EngineStatus> = core.engines.iter().filter_map(engine).collect();
        engines.sort_by_key(|engine| engine.info.id);
        let mut clients: Vec<_> = self.clients.iter().collect();
        clients.sort_by_key(|(key, _)| key.0);
        ClusterStatus {
            cluster: self.cluster.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: self.now().0 / 1000,
            engines,
            clients: clients.into_iter().map(client).collect(),
            jobs: 0,
            result_bytes: 0,
        }
    }
}

impl Handler<Remote<QueryCluster>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<QueryCluster>, context: &mut Context<Self>) {
        let mut status = self.status();
        let stores = self.stores.clone();
        let answer = async move {
            for store in stores {
                if let Ok((bytes, jobs)) = store.send(StoreStatus).await {
                    status.result_bytes += bytes as u64;
                    status.jobs += jobs as u64;
                }
            }
            remote.reply.send(&status);
        };
        context.spawn(actix::fut::wrap_future(answer));
    }
}
