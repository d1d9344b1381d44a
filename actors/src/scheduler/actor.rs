//! The scheduler actor: carries messages between links, result stores and the pure core, and holds what the core must
//! not know: links, arguments, the clock. What clients ask of it is in [`clients`], what engine nodes tell it in [`nodes`].

pub(crate) mod absences;
mod announcements;
mod arguments;
mod clients;
mod cluster_status;
mod control;
mod finished;
pub(crate) mod ledger;
mod needed;
mod nodes;
mod recovery;
mod waiting;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use engineroom_runtime::{
    actor::RemoteAddr,
    net::{
        identity::Role,
        link::{Link, SendError},
    },
    proto::packet::CloseCode,
};

pub(crate) use self::recovery::Leaving;
use self::{
    absences::Absences,
    announcements::Announcements,
    clients::{Client, Waiter, Watcher},
    ledger::Ledger,
    needed::NeededBlobs,
    nodes::Seat,
    recovery::Recovery,
    waiting::Alarm,
};
use super::{ClientKey, Command, Scheduler, Settings, TICK, Time};
use crate::code::BlobCache;
use crate::engine::EngineActor;
use crate::results::{EndLink, NoteReleased, Owner, RecordLosses, RecordRun, Restored, ResultStore};
use crate::task::{EngineId, JobId};
use crate::wire::{Dispatch, Retract, Run, RunBody, SHARDS, StopTasks};

/// An actor that tracks engines and sends them batches.
pub(crate) struct SchedulerActor {
    core: Scheduler,
    started: Instant,
    ledger: Ledger,
    seats: HashMap<EngineId, Seat>,
    clients: HashMap<ClientKey, Client>,
    client_keys: HashMap<Owner, ClientKey>,
    /// Who waits for runs of a job to be kept, in the order of the runs.
    waiters: HashMap<JobId, VecDeque<Waiter>>,
    absences: Absences,
    recovery: Recovery,
    needed: NeededBlobs,
    /// Absences are being looked after.
    sweeping: bool,
    stores: Vec<Addr<ResultStore>>,
    /// Who is told of changes of the engines, by the link.
    watchers: HashMap<u64, Watcher>,
    announcements: Announcements,
    next_engine: u32,
    next_client: u64,
    cluster: String,
    /// A tick is on its way.
    ticking: bool,
    alarm: Option<Alarm>,
}

/// The stores that share the jobs, and what they have kept from an earlier life of the controller. Comes once, before anything
/// else.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct UseStores {
    pub stores: Vec<Addr<ResultStore>>,
    pub restored: Restored,
}

/// A link to a client or an engine node is up.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LinkUp(pub Link);

/// It has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LinkDown(pub Link, pub String);

impl SchedulerActor {
    /// A scheduler that needs its stores before anything else; see [`UseStores`].
    pub fn new(cluster: String, settings: Settings, blobs: Arc<BlobCache>) -> Self {
        Self {
            core: Scheduler::new(settings),
            started: Instant::now(),
            ledger: Ledger::default(),
            seats: HashMap::new(),
            clients: HashMap::new(),
            client_keys: HashMap::new(),
            waiters: HashMap::new(),
            absences: Absences::default(),
            recovery: Recovery::default(),
            needed: NeededBlobs::new(blobs),
            sweeping: false,
            stores: Vec::new(),
            watchers: HashMap::new(),
            announcements: Announcements::default(),
            next_engine: 0,
            next_client: 0,
            cluster,
            ticking: false,
            alarm: None,
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn store(&self, job: JobId) -> actix::Addr<ResultStore> {
        // There is at least one store; see `ControllerConfig::stores`.
        self.stores[job.shard(SHARDS) % self.stores.len()].clone()
    }

    /// Carries out what the core has decided since the last time.
    fn carry_out(&mut self, context: &mut Context<Self>) {
        let commands: Vec<Command> = self.core.commands().collect();
        for command in commands {
            match command {
                Command::Dispatch { engine, batch, job, first, count, attempt } => {
                    let Some(entry) = self.ledger.job(job) else { continue };
                    // The core dispatches only what was submitted and has not ended, whose arguments are here.
                    let Some(arguments) = entry.arguments.slice(first, count) else { continue };
                    let (function, shared, time_limit_ms) = (entry.function.clone(), entry.shared, entry.time_limit_ms);
                    let dispatch = Dispatch { engine, batch, job, first, attempt, function, arguments, shared, time_limit_ms };
                    self.send(engine, |to| to.tell(&dispatch));
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
                Command::Tried { job, first, count, tries } => {
                    let losses = tries.kept();
                    self.store(job).do_send(RecordLosses { job, first, count, losses });
                }
                Command::Count { ticket, of, first, count } => self.count_tasks(ticket, of, (first, count), context),
                Command::Confirm { ticket } => self.confirm(ticket, context),
                Command::Locate { ticket, question } => self.locate_tasks(ticket, question, context),
                Command::Released { job, engines } => self.store(job).do_send(NoteReleased { job, engines }),
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
        self.set_alarm(context);
    }

    fn send(&self, engine: EngineId, tell: impl FnOnce(&RemoteAddr<EngineActor>) -> Result<(), SendError>) {
        let Some(seat) = self.seats.get(&engine) else { return };
        if let Err(error) = tell(&seat.remote) {
            // Its end tells the core that the engine is lost, and the tasks go elsewhere.
            seat.remote.link().close(CloseCode::Overrun, &error.to_string());
        }
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;
}

impl Handler<UseStores> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, UseStores { stores, restored }: UseStores, context: &mut Context<Self>) {
        self.stores = stores;
        self.restore(restored, context);
    }
}

impl Handler<LinkUp> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, LinkUp(link): LinkUp, _: &mut Context<Self>) {
        if link.peer().name.role == Role::Client {
            self.client_came(link);
        }
    }
}

impl Handler<LinkDown> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, LinkDown(link, reason): LinkDown, context: &mut Context<Self>) {
        if self.recovery.leaving {
            // The peers go on without this controller, and come back to the next one with what they have.
            return;
        }
        self.stores.iter().for_each(|store| store.do_send(EndLink { link: link.clone() }));
        match link.peer().name.role {
            Role::Client => self.client_left(&link, context),
            _ => self.node_left(&link, &reason, context),
        }
    }
}
