//! What engine nodes tell the scheduler.

use std::{collections::HashSet, sync::Arc};

use actix::{AsyncContext, Context, Handler, Message};
use engineroom_runtime::{
    actor::{Remote, RemoteAddr, Reply},
    net::link::{INLINE_BYTES_MAX, Link},
    proto::packet::CloseCode,
};

use super::SchedulerActor;
use crate::engine::EngineActor;
use crate::results::{PassNews, RecordRun, Settle, part};
use crate::scheduler::{Capability, Claim, EngineSpec, Failure, Refused, Verdict, WorkerMode, between};
use crate::status::EngineInfo;
use crate::task::{Cause, EngineId, Equipment, JobId};
use crate::wire::{Before, Draining, HeldBatch, Register, Registered, Report, Retracted, Run, RunBody, TaskNews, engine_actor};

/// How many engines one node may register.
const ENGINES_PER_NODE_MAX: u32 = 4096;

/// How many engines a controller has at most.
pub(super) const ENGINES_MAX: usize = 65_536;

/// Where an engine is.
pub(super) struct Seat {
    pub info: EngineInfo,
    pub remote: RemoteAddr<EngineActor>,
    pub draining: bool,
}

/// An engine actor has ended although its link has not.
#[derive(Message)]
#[rtype(result = "()")]
struct EngineEnded {
    engine: EngineId,
    /// The link that it was behind.
    link: u64,
    reason: String,
}

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

    /// These engines take nothing new.
    pub(super) fn drain(&mut self, engines: &[EngineId], context: &mut Context<Self>) {
        let mut changed = false;
        for engine in engines {
            if let Some(seat) = self.seats.get_mut(engine) {
                changed |= !std::mem::replace(&mut seat.draining, true);
                self.core.engine_draining(*engine);
            }
        }
        if changed {
            self.carry_out(context);
            self.announce_engines(context);
        }
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
            self.note_engines(Vec::new(), engines.to_vec());
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
        let Before { ids: former, batches } = register.before.unwrap_or_default();
        let ids = match self.may_return(&former, register.engines, from) {
            true => former,
            false => self.fresh_ids(register.engines)?,
        };
        let worker = match register.thread_bundle {
            None => WorkerMode::Process,
            Some(bundle) => WorkerMode::Thread { bundle },
        };
        let capability = Capability { target: register.target, worker, names: register.tasks.into_iter().collect() };
        let equipment = Arc::new(Equipment { labels: register.labels, resources: register.resources });
        let now = self.now();
        let node = format!("{}@{}", from.peer().name.name(), register.place);
        let mut kept = Vec::new();
        for (place, id) in (0..).zip(&ids) {
            let id = *id;
            let Equipment { labels, resources } = (*equipment).clone();
            let info = EngineInfo { id, node: node.clone(), labels, resources, rank: register.rank };
            let remote = RemoteAddr::<EngineActor>::new(from.clone(), engine_actor(place));
            let (ended, link, own) = (remote.monitor(), from.id(), context.address());
            actix_rt::spawn(async move { own.do_send(EngineEnded { engine: id, link, reason: ended.await.to_string() }) });
            self.seats.insert(id, Seat { info, remote, draining: false });
            let claims: Vec<Claim> = batches.iter().filter(|held| held.place == place).map(claim).collect();
            let spec = EngineSpec { id, capability: capability.clone(), equipment: equipment.clone() };
            let verdicts = self.core.engine_rejoined(now, spec, &claims);
            kept.extend(claims.iter().zip(verdicts).filter_map(|(claim, verdict)| match verdict {
                Verdict::Kept { from } => Some((claim.batch, from)),
                Verdict::Dropped => None,
            }));
        }
        if !batches.is_empty() {
            tracing::info!(%node, batches = batches.len(), kept = kept.len(), "an engine node is back with what it had");
        }
        Ok(Registered { engines: ids, kept })
    }

    /// Whether a node that comes back gets the ids that its engines had: they are its own, as far as can be told, and nobody
    /// else's.
    fn may_return(&self, ids: &[EngineId], engines: u32, from: &Link) -> bool {
        let distinct = ids.iter().collect::<HashSet<_>>().len() == ids.len();
        let is_free = |id: &EngineId| {
            let same_life = |seat: &Seat| seat.remote.link().peer().incarnation == from.peer().incarnation;
            id.0 < self.next_engine && self.seats.get(id).is_none_or(same_life)
        };
        ids.len() == engines as usize && distinct && ids.iter().all(is_free)
    }

    fn fresh_ids(&mut self, engines: u32) -> Result<Vec<EngineId>, String> {
        let Some(next_engine) = self.next_engine.checked_add(engines) else {
            return Err("the controller has given out all numbers of engines: begin with a new profile".into());
        };
        let ids = (self.next_engine..next_engine).map(EngineId).collect();
        self.next_engine = next_engine;
        Ok(ids)
    }

    /// Has outcomes kept, but for those of tasks that are tried again, and the engine told once they are.
    fn record(&mut self, job: JobId, run: Run, again: &[u32], reply: Reply<()>) {
        if again.is_empty() {
            let (first, count) = (run.first, run.count);
            self.store(job).do_send(RecordRun { job, run, kept: Some(reply) });
            return self.end_tasks(job, first, count);
        }
        let mut parts = between(run.first, run.count, again);
        let Some((start, stop)) = parts.pop() else { return reply.send(&()) };
        for (start, stop) in parts {
            self.store(job).do_send(RecordRun { job, run: part(&run, start, stop), kept: None });
            self.end_tasks(job, start, stop - start);
        }
        // The store keeps them in this order.
        self.store(job).do_send(RecordRun { job, run: part(&run, start, stop), kept: Some(reply) });
        self.end_tasks(job, start, stop - start);
    }

    /// Whether that engine is one of the node behind that link.
    fn is_of(&self, engine: EngineId, link: &Link) -> bool {
        self.seats.get(&engine).is_some_and(|seat| seat.remote.link() == link)
    }
}

fn claim(held: &HeldBatch) -> Claim {
    let HeldBatch { batch, job, first, end, attempt, started, .. } = *held;
    Claim { batch, job, first, end, attempt, started }
}

impl Handler<EngineEnded> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, EngineEnded { engine, link, reason }: EngineEnded, context: &mut Context<Self>) {
        // It may be back by another link.
        let there = self.seats.get(&engine).is_some_and(|seat| seat.remote.link().id() == link);
        if there && !self.recovery.leaving {
            self.lose(&[engine], &reason, context);
        }
    }
}

impl Handler<Remote<Register>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Register>, context: &mut Context<Self>) {
        // Engines of a link that has ended would never be lost. The node registers again by its next link.
        if !remote.from.is_up() {
            return;
        }
        let Remote { message, from, reply } = remote;
        let before = message.before.as_ref();
        let brings = before.is_some_and(|before| !before.batches.is_empty());
        let former = before.map(|before| before.ids.clone()).unwrap_or_default();
        let answer = self.register(message, &from, context);
        let ids = answer.as_ref().ok().map(|registered| registered.engines.clone());
        if brings || ids.as_ref().is_some_and(|ids| *ids != former) {
            // The node forgets what is not wanted any more, and goes by its new ids, so that both must be kept by then.
            let stores = self.stores.clone();
            actix_rt::spawn(async move {
                for store in stores {
                    // A store that has ended takes the controller with it.
                    let _ = store.send(Settle).await;
                }
                reply.send(&answer);
            });
        } else {
            reply.send(&answer);
        }
        if let Some(ids) = ids {
            self.engines_came(&ids, context);
            self.carry_out(context);
            self.announce_engines(context);
        }
    }
}

impl Handler<Remote<Draining>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Draining>, context: &mut Context<Self>) {
        let own: Vec<EngineId> = remote.message.engines.into_iter().filter(|engine| self.is_of(*engine, &remote.from)).collect();
        self.drain(&own, context);
        remote.reply.send(&());
    }
}

impl Handler<Remote<Report>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Report>, context: &mut Context<Self>) {
        let (Report { engine, batch, first, outcomes }, mut reply) = (remote.message, remote.reply);
        if !self.is_of(engine, &remote.from) || !outcomes.is_sound() {
            return remote
                .from
                .close(CloseCode::ProtocolViolation, "a report that contradicts itself, or of another node's engine");
        }
        if outcomes.values.bytes() <= INLINE_BYTES_MAX {
            // An engine has so few of these unacknowledged that a disk that is slow or full must not cost its node the link.
            reply.release_permit();
        }
        let count = u32::try_from(outcomes.len()).unwrap_or(u32::MAX);
        let now = self.now();
        let failure = |(at, cause): &(u32, Cause)| Failure { at: *at, may_pass: cause.may_pass() };
        let failed: Vec<Failure> = outcomes.failures.iter().map(failure).collect();
        match self.core.reported(now, engine, batch, (first, count), outcomes.busy_us(), &failed) {
            Ok((accepted, again)) => {
                let (job, attempt) = (accepted.job, accepted.attempt);
                let run = Run { first, count, engine: Some(engine), attempt, submitted_us: 0, body: RunBody::Ran(outcomes) };
                self.record(job, run, &again, reply);
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
                reply.send(&());
            }
        }
        self.carry_out(context);
    }
}

impl Handler<Remote<TaskNews>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<TaskNews>, _: &mut Context<Self>) {
        let TaskNews { engine, batch, index, news } = remote.message;
        if !self.is_of(engine, &remote.from) || !news.is_sound() {
            return remote
                .from
                .close(CloseCode::ProtocolViolation, "news that contradict themselves, or of another node's engine");
        }
        // Of a task that is not there any more they are of no use.
        if let Some(job) = self.core.job_at(engine, batch, index) {
            self.store(job).do_send(PassNews { job, index, news });
        }
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
