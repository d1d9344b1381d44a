//! The scheduler actor: carries messages between links, result stores and the pure core, and holds what the core must
//! not know: links, arguments, the clock.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use actix::{Actor, AsyncContext, Context, Handler, Message};
use engineroom_runtime::{
    actor::{ActorHandle, Remote, RemoteAddr, Reply},
    net::{identity::Role, link::Link},
    proto::{
        handshake::Incarnation,
        packet::{AskCode, CloseCode},
    },
};

use super::{
    Capability, Chunk, ClientKey, Command, JobSpec, Placement, Requirement, Scheduler, Settings, Time, WorkerMode,
    arguments::Arguments,
};
use crate::client::ClientActor;
use crate::code::FunctionRef;
use crate::engine::EngineActor;
use crate::results::{EndLink, ExtendJob, OpenJob, RecordRun, ResultStore};
use crate::status::EngineInfo;
use crate::task::{EngineId, JobId};
use crate::wire::{
    Abort, AbortCounts, CLIENT, Dispatch, Draining, EnginesChanged, JobHeader, Register, Report, Retract, Retracted, Run,
    RunBody, SHARDS, StopTasks, Submit, SubmitRefusal, WatchEngines, engine_actor,
};

/// How many bytes of arguments one client may have waiting. Beyond it its submissions are acknowledged only as its tasks
/// end, which holds it back.
const CLIENT_ARGUMENT_BYTES_MAX: usize = 1 << 30;

/// How many engines one node may register.
const ENGINES_PER_NODE_MAX: u32 = 4096;

/// How many engines a controller has at most.
const ENGINES_MAX: usize = 65_536;

/// How many jobs may be open at once, of all clients.
const JOBS_MAX: usize = 1 << 20;

/// How often the core looks after waiting batches while an engine is idle. Half of what a batch must have to wait to be moved.
const TICK: Duration = Duration::from_millis(2);

/// An actor that tracks engines and sends them batches.
pub(crate) struct SchedulerActor {
    pub(super) core: Scheduler,
    started: Instant,
    jobs: HashMap<JobId, Job>,
    pub(super) seats: HashMap<EngineId, Seat>,
    pub(super) clients: HashMap<ClientKey, Client>,
    client_keys: HashMap<(String, Incarnation), ClientKey>,
    pub(super) stores: Vec<ActorHandle<ResultStore>>,
    watchers: HashMap<u64, RemoteAddr<ClientActor>>,
    next_engine: u32,
    next_client: u64,
    pub(super) cluster: String,
    /// A tick is on its way.
    ticking: bool,
}

struct Job {
    client: ClientKey,
    header: JobHeader,
    arguments: Arguments,
    submitted: u32,
    closed: bool,
}

/// Where an engine is.
pub(super) struct Seat {
    pub info: EngineInfo,
    pub remote: RemoteAddr<EngineActor>,
    pub draining: bool,
}

/// One program that is connected, or was and has work here.
pub(super) struct Client {
    pub name: String,
    incarnation: Incarnation,
    pub link: Option<Link>,
    pub jobs: u64,
    argument_bytes: usize,
    /// Acknowledgements that wait until the client has fewer arguments here.
    held: VecDeque<Reply<Result<(), SubmitRefusal>>>,
}

/// A link to a client or an engine node is up.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LinkUp(pub Link);

/// It has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LinkDown(pub Link, pub String);

/// An engine actor has ended although its link has not.
#[derive(Message)]
#[rtype(result = "()")]
struct EngineEnded(EngineId, String);

impl SchedulerActor {
    pub fn new(cluster: String, settings: Settings, stores: Vec<ActorHandle<ResultStore>>) -> Self {
        Self {
            core: Scheduler::new(settings),
            started: Instant::now(),
            jobs: HashMap::new(),
            seats: HashMap::new(),
            clients: HashMap::new(),
            client_keys: HashMap::new(),
            stores,
            watchers: HashMap::new(),
            next_engine: 0,
            next_client: 0,
            cluster,
            ticking: false,
        }
    }

    pub(super) fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn store(&self, job: JobId) -> actix::Addr<ResultStore> {
        // There is at least one store; see `ControllerConfig::stores`.
        self.stores[job.shard(SHARDS) % self.stores.len()].addr()
    }

    /// Carries out what the core has decided since the last time.
    fn carry_out(&mut self, context: &mut Context<Self>) {
        let commands: Vec<Command> = self.core.commands().collect();
        for command in commands {
            match command {
                Command::Dispatch { engine, batch, job, first, count, attempt } => {
                    let Some(entry) = self.jobs.get(&job) else { continue };
                    // The core dispatches only what was submitted and has not ended, whose arguments are here.
                    let Some(arguments) = entry.arguments.slice(first, count) else { continue };
                    let function = entry.header.function.clone();
                    self.send(engine, |to| to.tell(&Dispatch { engine, batch, job, first, attempt, function, arguments }));
                }
                Command::Retract { engine, batch } => self.send(engine, |to| to.tell(&Retract { engine, batch })),
                Command::Cancel { engine, batch, first, count } => {
                    self.send(engine, |to| to.tell(&StopTasks { batch, first, count }));
                }
                Command::Settle { job, first, count, attempt, engine, cause } => {
                    let run = Run { first, count, engine, attempt, submitted_us: 0, body: RunBody::Ended(cause) };
                    self.store(job).do_send(RecordRun { job, run, kept: None });
                    self.end_tasks(job, first, count);
                }
                Command::Finished { job } => self.finish(job),
            }
        }
        if self.core.needs_tick() && !std::mem::replace(&mut self.ticking, true) {
            context.run_later(TICK, |this, context| {
                this.ticking = false;
                this.core.tick(this.now());
                this.carry_out(context);
            });
        }
    }

    fn send(
        &self,
        engine: EngineId,
        tell: impl FnOnce(&RemoteAddr<EngineActor>) -> Result<(), engineroom_runtime::net::link::SendError>,
    ) {
        let Some(seat) = self.seats.get(&engine) else { return };
        if let Err(error) = tell(&seat.remote) {
            // Its end tells the core that the engine is lost, and the tasks go elsewhere.
            seat.remote.link().close(CloseCode::Overrun, &error.to_string());
        }
    }

    fn end_tasks(&mut self, job: JobId, first: u32, count: u32) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let before = entry.arguments.bytes();
        entry.arguments.end(first, count);
        let freed = before - entry.arguments.bytes();
        if let Some(client) = self.clients.get_mut(&entry.client) {
            client.argument_bytes -= freed;
            client.release();
        }
    }

    fn finish(&mut self, job: JobId) {
        let Some(entry) = self.jobs.remove(&job) else { return };
        if let Some(client) = self.clients.get_mut(&entry.client) {
            client.argument_bytes -= entry.arguments.bytes();
            client.jobs -= 1;
            client.release();
        }
        self.forget_if_gone(entry.client);
    }

    fn forget_if_gone(&mut self, key: ClientKey) {
        if self.clients.get(&key).is_some_and(|client| client.link.is_none() && client.jobs == 0)
            && let Some(client) = self.clients.remove(&key)
        {
            self.client_keys.remove(&(client.name, client.incarnation));
        }
    }

    fn client_key(&mut self, link: &Link) -> ClientKey {
        let peer = link.peer();
        let identity = (peer.name.name().to_owned(), peer.incarnation);
        if let Some(key) = self.client_keys.get(&identity) {
            return *key;
        }
        let key = ClientKey(self.next_client);
        self.next_client += 1;
        let client = Client {
            name: identity.0.clone(),
            incarnation: identity.1,
            link: Some(link.clone()),
            jobs: 0,
            argument_bytes: 0,
            held: VecDeque::new(),
        };
        self.clients.insert(key, client);
        self.client_keys.insert(identity, key);
        key
    }

    fn submit(&mut self, submit: Submit, from: &Link) -> Result<(), SubmitRefusal> {
        let Submit { job, open, first, arguments, closed } = submit;
        let client = self.client_key(from);
        if !arguments.is_sound() {
            return Err(SubmitRefusal::Invalid("its arguments contradict themselves".into()));
        }
        match open {
            Some(header) if !self.jobs.contains_key(&job) => self.open(job, client, header, from)?,
            // The client's link was lost before it heard that the job is open.
            Some(header) => self.open_in_store(job, &header, from),
            None => {}
        }
        let entry = self.jobs.get_mut(&job).filter(|entry| entry.client == client).ok_or(SubmitRefusal::UnknownJob)?;
        let count = u32::try_from(arguments.len()).unwrap_or(u32::MAX);
        if first.checked_add(count).is_some_and(|end| end <= entry.submitted) && (count > 0 || entry.closed) {
            // A client that was not told of the acknowledgement sends again.
            return Ok(());
        }
        if first != entry.submitted || entry.closed {
            let text = format!("its tasks start at {first}, but {} are there and the next must follow", entry.submitted);
            return Err(SubmitRefusal::Invalid(text));
        }
        let bytes = arguments.bytes();
        entry.arguments.extend(first, arguments);
        entry.submitted += count;
        entry.closed = closed;
        let bytes = if count == 0 { 0 } else { bytes };
        if let Some(client) = self.clients.get_mut(&client) {
            client.argument_bytes += bytes;
        }
        self.store(job).do_send(ExtendJob { job, count, closed });
        let now = self.now();
        if count > 0
            && let Err(error) = self.core.extend_job(now, job, count)
        {
            return Err(SubmitRefusal::Invalid(error.to_string()));
        }
        if closed && let Err(error) = self.core.close_job(job) {
            return Err(SubmitRefusal::Invalid(error.to_string()));
        }
        Ok(())
    }

    fn open(&mut self, job: JobId, client: ClientKey, header: JobHeader, from: &Link) -> Result<(), SubmitRefusal> {
        if self.jobs.len() >= JOBS_MAX {
            return Err(SubmitRefusal::Invalid(format!("the controller has {JOBS_MAX} open jobs, as many as it takes")));
        }
        let requirement = match &header.function.reference {
            FunctionRef::Offset { bundle, .. } => Requirement::Bundle { hash: *bundle, target: header.target.clone() },
            FunctionRef::Named { name } => Requirement::Named { name: name.clone() },
        };
        let direct = !header.direct.is_empty();
        let placement = if direct { Placement::Direct(header.direct.clone()) } else { Placement::Balanced };
        let chunk = std::num::NonZeroU32::new(header.chunk).map_or(Chunk::Adaptive, Chunk::Fixed);
        let spec = JobSpec { id: job, client, requirement, placement, priority: 0, chunk };
        self.core.open_job(spec).map_err(|error| SubmitRefusal::Invalid(error.to_string()))?;
        self.open_in_store(job, &header, from);
        self.jobs.insert(job, Job { client, header, arguments: Arguments::default(), submitted: 0, closed: false });
        if let Some(client) = self.clients.get_mut(&client) {
            client.jobs += 1;
        }
        Ok(())
    }

    fn open_in_store(&self, job: JobId, header: &JobHeader, from: &Link) {
        let (subscription, window_bytes) = (header.subscription, header.window_bytes);
        self.store(job).do_send(OpenJob { job, client: from.clone(), subscription, window_bytes });
    }

    fn register(&mut self, register: Register, from: &Link, context: &mut Context<Self>) -> Result<Vec<EngineId>, String> {
        if register.engines == 0 || register.engines > ENGINES_PER_NODE_MAX {
            return Err(format!("a node has 1 to {ENGINES_PER_NODE_MAX} engines, not {}", register.engines));
        }
        if self.seats.len() + register.engines as usize > ENGINES_MAX {
            return Err(format!("the controller has {} engines; it takes {ENGINES_MAX} at most", self.seats.len()));
        }
        if self.seats.values().any(|seat| seat.remote.link() == from) {
            return Err("this node has registered its engines already".into());
        }
        let worker = match register.thread_bundle {
            None => WorkerMode::Process,
            Some(bundle) => WorkerMode::Thread { bundle },
        };
        let capability = Capability { target: register.target, worker, names: register.tasks.into_iter().collect() };
        let now = self.now();
        let node = format!("{}@{}", from.peer().name.name(), register.place);
        let mut ids = Vec::new();
        for place in 0..register.engines {
            let id = EngineId(self.next_engine);
            self.next_engine += 1;
            let info = EngineInfo { id, node: node.clone(), labels: register.labels.clone() };
            let remote = RemoteAddr::<EngineActor>::new(from.clone(), engine_actor(place));
            let (ended, own) = (remote.monitor(), context.address());
            actix_rt::spawn(async move { own.do_send(EngineEnded(id, ended.await.to_string())) });
            self.seats.insert(id, Seat { info, remote, draining: false });
            self.core.engine_joined(now, id, capability.clone());
            ids.push(id);
        }
        Ok(ids)
    }

    fn lose(&mut self, engines: &[EngineId], detail: &str, context: &mut Context<Self>) {
        let now = self.now();
        for engine in engines {
            if self.seats.remove(engine).is_some() {
                self.core.engine_lost(now, *engine, detail);
            }
        }
        self.carry_out(context);
        self.tell_watchers();
    }

    fn engine_infos(&self) -> Vec<EngineInfo> {
        let mut engines: Vec<EngineInfo> =
            self.seats.values().filter(|seat| !seat.draining).map(|seat| seat.info.clone()).collect();
        engines.sort_by_key(|info| info.id);
        engines
    }

    fn tell_watchers(&mut self) {
        if self.watchers.is_empty() {
            return;
        }
        let changed = EnginesChanged { engines: self.engine_infos() };
        // A watcher whose link is down subscribes again when it is back.
        self.watchers.retain(|_, watcher| watcher.tell(&changed).is_ok());
    }

    /// Whether that engine is one of the node behind that link.
    fn is_of(&self, engine: EngineId, link: &Link) -> bool {
        self.seats.get(&engine).is_some_and(|seat| seat.remote.link() == link)
    }
}

impl Client {
    fn release(&mut self) {
        while self.argument_bytes <= CLIENT_ARGUMENT_BYTES_MAX {
            let Some(reply) = self.held.pop_front() else { break };
            reply.send(&Ok(()));
        }
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;
}

impl Handler<LinkUp> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, LinkUp(link): LinkUp, _: &mut Context<Self>) {
        if link.peer().name.role == Role::Client {
            let key = self.client_key(&link);
            if let Some(client) = self.clients.get_mut(&key) {
                client.link = Some(link);
            }
        }
    }
}

impl Handler<LinkDown> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, LinkDown(link, reason): LinkDown, context: &mut Context<Self>) {
        self.watchers.remove(&link.id());
        self.stores.iter().for_each(|store| store.addr().do_send(EndLink { link: link.clone() }));
        let gone: Vec<ClientKey> =
            self.clients.iter().filter(|(_, client)| client.link.as_ref() == Some(&link)).map(|(key, _)| *key).collect();
        for key in gone {
            if let Some(client) = self.clients.get_mut(&key) {
                client.link = None;
                client.held.clear();
            }
            self.forget_if_gone(key);
        }
        let lost: Vec<EngineId> = self.seats.iter().filter(|(_, seat)| *seat.remote.link() == link).map(|(id, _)| *id).collect();
        if !lost.is_empty() {
            tracing::info!(node = %link.peer().name, engines = lost.len(), "an engine node is gone: {reason}");
            self.lose(&lost, &reason, context);
        }
    }
}

impl Handler<EngineEnded> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, EngineEnded(engine, reason): EngineEnded, context: &mut Context<Self>) {
        self.lose(&[engine], &reason, context);
    }
}

impl Handler<Remote<Submit>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Submit>, context: &mut Context<Self>) {
        let answer = self.submit(remote.message, &remote.from);
        let key = self.client_key(&remote.from);
        self.carry_out(context);
        match self.clients.get_mut(&key) {
            Some(client) if answer.is_ok() && client.argument_bytes > CLIENT_ARGUMENT_BYTES_MAX => {
                client.held.push_back(remote.reply)
            }
            _ => remote.reply.send(&answer),
        }
    }
}

impl Handler<Remote<Abort>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Abort>, context: &mut Context<Self>) {
        let Abort { job, first, count } = remote.message;
        let owner = self.jobs.get(&job).and_then(|entry| self.clients.get(&entry.client)).map(|client| client.name.as_str());
        let counts = match owner {
            Some(owner) if owner != remote.from.peer().name.name() => {
                return remote.reply.refuse(AskCode::NotAllowed, "the job belongs to another owner");
            }
            // Ended and forgotten: there is nothing to be aborted.
            None => AbortCounts::default(),
            Some(_) => {
                let now = self.now();
                let met = self.core.cancel(now, job, first, count);
                AbortCounts { queued: met.queued, active: met.active }
            }
        };
        self.carry_out(context);
        remote.reply.send(&counts);
    }
}

impl Handler<Remote<WatchEngines>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<WatchEngines>, _: &mut Context<Self>) {
        self.watchers.insert(remote.from.id(), RemoteAddr::new(remote.from.clone(), CLIENT));
        remote.reply.send(&self.engine_infos());
    }
}

impl Handler<Remote<Register>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Register>, context: &mut Context<Self>) {
        let answer = self.register(remote.message, &remote.from, context);
        remote.reply.send(&answer);
        self.carry_out(context);
        self.tell_watchers();
    }
}

impl Handler<Remote<Draining>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Draining>, context: &mut Context<Self>) {
        for engine in remote.message.engines {
            if self.is_of(engine, &remote.from) {
                self.core.engine_draining(engine);
                if let Some(seat) = self.seats.get_mut(&engine) {
                    seat.draining = true;
                }
            }
        }
        self.carry_out(context);
        self.tell_watchers();
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
