//! What engine nodes tell the scheduler.

use actix::{AsyncContext, Context, Handler, Message};
use engineroom_runtime::{
    actor::{Remote, RemoteAddr},
    net::link::Link,
    proto::packet::CloseCode,
};

use super::SchedulerActor;
use crate::engine::EngineActor;
use crate::results::RecordRun;
use crate::scheduler::{Capability, Refused, WorkerMode};
use crate::status::EngineInfo;
use crate::task::EngineId;
use crate::wire::{Draining, Register, Registered, Report, Retracted, Run, RunBody, engine_actor};

/// How many engines one node may register.
const ENGINES_PER_NODE_MAX: u32 = 4096;

/// How many engines a controller has at most.
const ENGINES_MAX: usize = 65_536;

/// Where an engine is.
pub(super) struct Seat {
    pub info: EngineInfo,
    pub remote: RemoteAddr<EngineActor>,
    pub draining: bool,
}

/// An engine actor has ended although its link has not.
#[derive(Message)]
#[rtype(result = "()")]
struct EngineEnded(EngineId, String);

impl SchedulerActor {
    pub(super) fn node_left(&mut self, link: &Link, reason: &str, context: &mut Context<Self>) {
        let lost: Vec<EngineId> = self.seats.iter().filter(|(_, seat)| seat.remote.link() == link).map(|(id, _)| *id).collect();
        if !lost.is_empty() {
            tracing::info!(node = %link.peer().name, engines = lost.len(), "an engine node is gone: {reason}");
            self.lose(&lost, reason, context);
        }
    }

    /// The engines that take work, by id.
    pub(super) fn engine_infos(&self) -> Vec<EngineInfo> {
        let mut engines: Vec<EngineInfo> =
            self.seats.values().filter(|seat| !seat.draining).map(|seat| seat.info.clone()).collect();
        engines.sort_by_key(|info| info.id);
        engines
    }

    fn lose(&mut self, engines: &[EngineId], detail: &str, context: &mut Context<Self>) {
        let now = self.now();
        let mut found = false;
        for engine in engines {
            if self.seats.remove(engine).is_some() {
                self.core.engine_lost(now, *engine, detail);
                found = true;
            }
        }
        // The end of a link is also told as the end of each engine behind it.
        if found {
            self.carry_out(context);
            self.announce_engines(context);
        }
    }

    fn register(&mut self, register: Register, from: &Link, context: &mut Context<Self>) -> Result<Registered, String> {
        if register.engines == 0 || register.engines > ENGINES_PER_NODE_MAX {
            return Err(format!("a node has 1 to {ENGINES_PER_NODE_MAX} engines, not {}", register.engines));
        }
        if self.seats.len() + register.engines as usize > ENGINES_MAX {
            return Err(format!("the controller has {} engines; it takes {ENGINES_MAX} at most", self.seats.len()));
        }
        if self.seats.values().any(|seat| seat.remote.link() == from) {
            return Err("this node has registered its engines already".into());
        }
        let Some(next_engine) = self.next_engine.checked_add(register.engines) else {
            return Err("the controller has given out all numbers of engines: restart it".into());
        };
        let worker = match register.thread_bundle {
            None => WorkerMode::Process,
            Some(bundle) => WorkerMode::Thread { bundle },
        };
        let capability = Capability { target: register.target, worker, names: register.tasks.into_iter().collect() };
        let now = self.now();
        let node = format!("{}@{}", from.peer().name.name(), register.place);
        let ids: Vec<EngineId> = (self.next_engine..next_engine).map(EngineId).collect();
        self.next_engine = next_engine;
        for (place, id) in (0..).zip(&ids) {
            let id = *id;
            let info = EngineInfo { id, node: node.clone(), labels: register.labels.clone() };
            let remote = RemoteAddr::<EngineActor>::new(from.clone(), engine_actor(place));
            let (ended, own) = (remote.monitor(), context.address());
            actix_rt::spawn(async move { own.do_send(EngineEnded(id, ended.await.to_string())) });
            self.seats.insert(id, Seat { info, remote, draining: false });
            self.core.engine_joined(now, id, capability.clone());
        }
        Ok(Registered { engines: ids, kept: Vec::new() })
    }

    /// Whether that engine is one of the node behind that link.
    fn is_of(&self, engine: EngineId, link: &Link) -> bool {
        self.seats.get(&engine).is_some_and(|seat| seat.remote.link() == link)
    }
}

impl Handler<EngineEnded> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, EngineEnded(engine, reason): EngineEnded, context: &mut Context<Self>) {
        self.lose(&[engine], &reason, context);
    }
}

impl Handler<Remote<Register>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Register>, context: &mut Context<Self>) {
        // Engines of a link that has ended would never be lost. The node registers again by its next link.
        if !remote.from.is_up() {
            return;
        }
        let answer = self.register(remote.message, &remote.from, context);
        remote.reply.send(&answer);
        if answer.is_ok() {
            self.carry_out(context);
            self.announce_engines(context);
        }
    }
}

impl Handler<Remote<Draining>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Draining>, context: &mut Context<Self>) {
        let mut changed = false;
        for engine in remote.message.engines {
            if self.is_of(engine, &remote.from)
                && let Some(seat) = self.seats.get_mut(&engine)
            {
                changed |= !std::mem::replace(&mut seat.draining, true);
                self.core.engine_draining(engine);
            }
        }
        if changed {
            self.carry_out(context);
            self.announce_engines(context);
        }
        remote.reply.send(&());
    }
}

impl Handler<Remote<Report>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Report>, context: &mut Context<Self>) {
        let Report { engine, batch, first, outcomes } = remote.message;
        if !self.is_of(engine, &remote.from) || !outcomes.is_sound() {
            return remote
                .from
                .close(CloseCode::ProtocolViolation, "a report that contradicts itself, or of another node's engine");
        }
        let count = u32::try_from(outcomes.len()).unwrap_or(u32::MAX);
        let now = self.now();
        match self.core.progress(now, engine, batch, first, count, outcomes.busy_us()) {
            Ok(accepted) => {
                let (job, attempt) = (accepted.job, accepted.attempt);
                let run = Run { first, count, engine: Some(engine), attempt, submitted_us: 0, body: RunBody::Ran(outcomes) };
                self.store(job).do_send(RecordRun { job, run, kept: Some(remote.reply) });
                self.end_tasks(job, first, count);
            }
            Err(refused @ Refused::OutOfStep { .. }) => {
                // Acknowledged or not, tasks in between would never end. With its link all engines of the node are lost, and
                // what they had runs again elsewhere.
                tracing::warn!(%engine, peer = %remote.from.peer().name, "an engine reports out of step: {refused}");
                return remote.from.close(CloseCode::ProtocolViolation, &refused.to_string());
            }
            Err(refused) => {
                // An old attempt: its tasks have outcomes, or will have them from elsewhere.
                tracing::debug!(%engine, %batch, "a late report: {refused}");
                remote.reply.send(&());
            }
        }
        self.carry_out(context);
    }
}

impl Handler<Remote<Retracted>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Retracted>, context: &mut Context<Self>) {
        let Retracted { engine, batch, returned } = remote.message;
        if !self.is_of(engine, &remote.from) {
            return;
        }
        let now = self.now();
        if returned {
            self.core.retracted(now, engine, batch);
        } else {
            self.core.retract_refused(engine, batch);
        }
        self.carry_out(context);
    }
}
