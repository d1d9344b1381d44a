//! What the scheduler actor and the result stores do with the pure parts, without actors: the core and the ledger are the real
//! ones.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::{
    network::{Answer, ToController, ToPeer, Way},
    store::{Reply, Settled, Told, Write},
};
use crate::results::{Owner, Restored};
use crate::scheduler::{
    Capability, Claim, ClientKey, Command, EngineSpec, Failure, Refused, Scheduler, Settings, Time, Verdict, WorkerMode,
    absences::Absences,
    ledger::{Admission, Ledger},
};
use crate::task::{Cause, EngineId, JobId};
use crate::wire::{
    Before, Dispatch, HeldBatch, Register, Registered, Report, Retract, Retracted, Run, RunBody, StopTasks, Submit, SubmitRefusal,
};

/// How long a controller that was started again waits for its engines, in microseconds.
pub(super) const GRACE_US: u64 = 15_000_000;

/// What the controller does, in order.
pub(super) enum Effect {
    Send(u64, ToPeer),
    Write(Write),
    Note(Note),
}

/// What is to be checked.
#[derive(Debug)]
pub(super) enum Note {
    Dispatched {
        engine: EngineId,
        batch: crate::task::BatchId,
        job: JobId,
        first: u32,
        count: u32,
        attempt: u32,
    },
    Judged {
        engine: EngineId,
        claim: Claim,
        verdict: Verdict,
    },
    Lost {
        engine: EngineId,
    },
    /// Of so many tasks that the job had.
    Cancelled {
        job: JobId,
        first: u32,
        count: u32,
        total: u32,
    },
    LossesKnown {
        job: JobId,
        first: u32,
        count: u32,
        losses: u32,
    },
    Resumed {
        seated: BTreeSet<EngineId>,
        complete: bool,
    },
}

/// One link's end at the controller.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) link: u64,
    /// The peer's name and life.
    pub(super) owner: Owner,
}

struct Seat {
    link: u64,
    place: u32,
    life: Owner,
}

enum Waiting {
    Submitted(Reply),
    Abort { first: u32, count: u32, reply: Reply },
}

pub(super) struct Controller {
    pub(super) core: Scheduler,
    ledger: Ledger,
    seats: BTreeMap<EngineId, Seat>,
    clients: BTreeMap<ClientKey, (Owner, Option<u64>)>,
    waiters: BTreeMap<JobId, VecDeque<(u64, Waiting)>>,
    absences: Absences,
    subscriptions: BTreeSet<(u64, JobId)>,
    awaited: BTreeSet<EngineId>,
    pub(super) paused: bool,
    started: Time,
    now: Time,
    next_engine: u32,
    next_client: u64,
    pub(super) effects: Vec<Effect>,
}

impl Controller {
    pub(super) fn start(settings: Settings, restored: Restored, now: Time) -> Self {
        let Restored { first_batch, next_engine, engines, jobs, ended } = restored;
        let mut this = Self {
            core: Scheduler::new(Settings { first_batch, ..settings }),
            ledger: Ledger::default(),
            seats: BTreeMap::new(),
            clients: BTreeMap::new(),
            waiters: BTreeMap::new(),
            absences: Absences::default(),
            subscriptions: BTreeSet::new(),
            awaited: BTreeSet::new(),
            paused: false,
            started: now,
            now,
            next_engine,
            next_client: 0,
            effects: Vec::new(),
        };
        ended.into_iter().for_each(|job| this.ledger.restore_ended(job));
        this.write(Write::Engines { next: next_engine, joined: Vec::new(), left: engines.clone() });
        if jobs.is_empty() {
            return this;
        }
        this.core.pause();
        (this.paused, this.awaited) = (true, engines.into_iter().collect());
        for job in jobs {
            let (client, id) = (this.client_of(&job.owner), job.id);
            this.ledger.restore(&mut this.core, client, job).unwrap_or_else(|error| panic!("job {id} is not restored: {error}"));
        }
        for client in this.clients.keys() {
            this.absences.left(*client, now);
        }
        this.carry_out();
        this.resume_if_complete(true);
        this
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) {
        self.now = now;
        if self.paused && now.since(self.started) >= GRACE_US {
            self.awaited.clear();
            self.resume_if_complete(false);
        }
        let overdue = self.absences.take_overdue(now);
        if !overdue.is_empty() {
            self.close_all_of(&overdue);
        }
        self.core.tick(now);
        self.carry_out();
    }

    fn close_all_of(&mut self, overdue: &HashSet<ClientKey>) {
        for keep in self.ledger.close_all_of(overdue) {
            self.write(Write::Keep(keep));
        }
    }

    pub(super) fn client_came(&mut self, caller: &Caller) {
        let key = self.client_of(&caller.owner);
        self.absences.over(key);
        self.clients.insert(key, (caller.owner.clone(), Some(caller.link)));
    }

    pub(super) fn link_down(&mut self, link: u64) {
        self.subscriptions.retain(|(of, _)| *of != link);
        let gone: Vec<_> = self.clients.iter().filter(|(_, (_, at))| *at == Some(link)).map(|(key, _)| *key).collect();
        for key in gone {
            if let Some(client) = self.clients.get_mut(&key) {
                client.1 = None;
            }
            self.absences.left(key, self.now);
            self.forget_if_gone(key);
        }
        let lost: Vec<_> = self.seats.iter().filter(|(_, seat)| seat.link == link).map(|(id, _)| *id).collect();
        for &engine in &lost {
            self.seats.remove(&engine);
            self.note(Note::Lost { engine });
            self.core.engine_lost(self.now, engine, "its link ended");
        }
        if !lost.is_empty() {
            self.write(Write::Engines { next: self.next_engine, joined: Vec::new(), left: lost });
            self.carry_out();
        }
    }

    pub(super) fn handle(&mut self, caller: &Caller, message: ToController) {
        match message {
            ToController::Register(register) => self.register(caller, register),
            ToController::Report { ask, report } => self.report((caller.link, ask), report),
            ToController::Retracted(Retracted { engine, batch, returned }) if self.is_of(engine, caller.link) => {
                if returned {
                    self.core.retracted(self.now, engine, batch);
                } else {
                    self.core.retract_refused(engine, batch);
                }
            }
            ToController::Retracted(_) => {}
            ToController::Submit { ask, submit } => self.submit(caller, ask, submit),
            ToController::Abort { ask, job, first, count } => {
                let reply = (caller.link, ask);
                match self.ledger.job(job) {
                    None => self.answer(reply, Answer::Aborted),
                    Some(_) => {
                        let runs = self.ledger.runs_taken(job);
                        self.when_kept(job, runs, Waiting::Abort { first, count, reply });
                    }
                }
            }
            // The store answers this; see the world.
            ToController::Subscribe(job) => drop(self.subscriptions.insert((caller.link, job))),
        }
        self.carry_out();
    }

    pub(super) fn told(&mut self, told: Told) {
        match told {
            Told::Kept { job, outcome: Ok(()) } => {
                let runs = self.ledger.kept(&mut self.core, self.now, job);
                self.carry_out();
                while let Some(waiters) = self.waiters.get_mut(&job)
                    && let Some((_, waiting)) = waiters.pop_front_if(|waiter| waiter.0 <= runs)
                {
                    self.go_on(job, waiting);
                }
            }
            Told::Kept { job, outcome: Err(_) } if self.ledger.was_given_up(job) => {}
            Told::Kept { job, outcome: Err(text) } => {
                for (_, waiting) in self.waiters.remove(&job).into_iter().flatten() {
                    match waiting {
                        Waiting::Submitted(reply) => {
                            self.answer(reply, Answer::Submitted(Err(SubmitRefusal::NotKept(text.clone()))));
                        }
                        Waiting::Abort { reply, .. } => self.answer(reply, Answer::Aborted),
                    }
                }
                if let Some(client) = self.ledger.not_kept(&mut self.core, job) {
                    self.forget_if_gone(client);
                }
            }
            Told::Recorded { job, run, reply } => {
                if let Some(reply) = reply {
                    self.answer(reply, Answer::Kept);
                }
                for &(link, _) in self.subscriptions.iter().filter(|(_, of)| *of == job) {
                    self.effects.push(Effect::Send(link, ToPeer::Results { job, run: run.clone() }));
                }
            }
            Told::Counted { ticket, known } => self.core.counted(self.now, ticket, known),
            Told::Located { ticket, located } => self.core.located(self.now, ticket, located),
            Told::Settled(Settled::Registered(link, answer)) => self.send(link, ToPeer::Registered(answer)),
            Told::Settled(Settled::Confirmed(ticket)) => self.core.confirmed(self.now, ticket),
            Told::Settled(Settled::Aborted(reply)) => self.answer(reply, Answer::Aborted),
        }
        self.carry_out();
    }

    pub(super) fn open_jobs(&self) -> usize {
        self.clients.keys().map(|key| self.ledger.account(*key).jobs as usize).sum()
    }

    fn register(&mut self, caller: &Caller, register: Register) {
        if self.seats.values().any(|seat| seat.link == caller.link) {
            return self.send(caller.link, ToPeer::Registered(Err("twice".into())));
        }
        let Before { ids: former, batches } = register.before.unwrap_or_default();
        let is_free = |id: &EngineId| {
            id.0 < self.next_engine && self.seats.get(id).is_none_or(|seat| seat.life.incarnation == caller.owner.incarnation)
        };
        let may_return = former.len() == register.engines as usize && former.iter().all(is_free);
        let ids = if may_return {
            former
        } else {
            let next = self.next_engine + register.engines;
            (std::mem::replace(&mut self.next_engine, next)..next).map(EngineId).collect()
        };
        let capability =
            Capability { target: register.target, worker: WorkerMode::Process, names: register.tasks.into_iter().collect() };
        let mut kept = Vec::new();
        for (place, &engine) in (0..).zip(&ids) {
            self.seats.insert(engine, Seat { link: caller.link, place, life: caller.owner.clone() });
            let claims: Vec<Claim> = batches.iter().filter(|held| held.place == place).map(claim).collect();
            let spec = EngineSpec { id: engine, capability: capability.clone(), equipment: Default::default() };
            let verdicts = self.core.engine_rejoined(self.now, spec, &claims);
            for (claim, verdict) in claims.into_iter().zip(verdicts) {
                self.note(Note::Judged { engine, claim, verdict });
                if let Verdict::Kept { from } = verdict {
                    kept.push((claim.batch, from));
                }
            }
        }
        for engine in &ids {
            self.awaited.remove(engine);
        }
        let answer = Ok(Registered { engines: ids.clone(), kept });
        self.write(Write::Engines { next: self.next_engine, joined: ids, left: Vec::new() });
        if batches.is_empty() && may_return {
            self.send(caller.link, ToPeer::Registered(answer));
        } else {
            self.write(Write::Settle(Settled::Registered(caller.link, answer)));
        }
        self.resume_if_complete(true);
    }

    fn report(&mut self, reply: Reply, report: Report) {
        let Report { engine, batch, first, outcomes } = report;
        if !self.is_of(engine, reply.0) {
            return;
        }
        let count = outcomes.len() as u32;
        let failure = |(at, cause): &(u32, Cause)| Failure { at: *at, may_pass: cause.may_pass() };
        let failed: Vec<Failure> = outcomes.failures.iter().map(failure).collect();
        match self.core.reported(self.now, engine, batch, (first, count), outcomes.busy_us(), &failed) {
            Ok((accepted, again)) => {
                assert!(again.is_empty(), "no job here has retries");
                let (job, attempt) = (accepted.job, accepted.attempt);
                let run = Run { first, count, engine: Some(engine), attempt, submitted_us: 0, body: RunBody::Ran(outcomes) };
                self.write(Write::Record { job, run, reply: Some(reply) });
                self.ledger.end_tasks(job, first, count);
            }
            Err(refused @ Refused::OutOfStep { .. }) => panic!("an honest engine reports out of step: {refused}"),
            Err(_) => self.answer(reply, Answer::NotWanted),
        }
    }

    fn submit(&mut self, caller: &Caller, ask: u64, submit: Submit) {
        let (key, job) = (self.client_of(&caller.owner), submit.job);
        match self.ledger.submit(&mut self.core, (key, &caller.owner), submit) {
            Err(refusal) => self.answer((caller.link, ask), Answer::Submitted(Err(refusal))),
            Ok(Admission { keep, subscribe, runs }) => {
                if let Some(keep) = keep {
                    self.write(Write::Keep(keep));
                }
                if subscribe.is_some() {
                    self.subscriptions.insert((caller.link, job));
                }
                self.when_kept(job, runs, Waiting::Submitted((caller.link, ask)));
            }
        }
    }

    fn when_kept(&mut self, job: JobId, runs: u64, waiting: Waiting) {
        if runs <= self.ledger.runs_kept(job) {
            self.go_on(job, waiting);
        } else {
            self.waiters.entry(job).or_default().push_back((runs, waiting));
        }
    }

    fn go_on(&mut self, job: JobId, waiting: Waiting) {
        match waiting {
            Waiting::Submitted(reply) => self.answer(reply, Answer::Submitted(Ok(()))),
            Waiting::Abort { first, count, reply } => {
                let total = self.core.counts(job).map_or(0, |counts| counts.queued + counts.active + counts.done);
                self.note(Note::Cancelled { job, first, count, total });
                self.core.cancel(self.now, job, first, count);
                // Behind what the core has ended just now.
                self.carry_out();
                self.write(Write::Settle(Settled::Aborted(reply)));
            }
        }
    }

    fn carry_out(&mut self) {
        for command in self.core.commands().collect::<Vec<_>>() {
            match command {
                Command::Dispatch { engine, batch, job, first, count, attempt } => {
                    self.note(Note::Dispatched { engine, batch, job, first, count, attempt });
                    let entry = self.ledger.job(job).expect("what is given out is of an open job");
                    let arguments = entry.arguments.slice(first, count).expect("the arguments of what is given out are here");
                    let function = entry.function.clone();
                    let dispatch =
                        Dispatch { engine, batch, job, first, attempt, function, arguments, shared: None, time_limit_ms: 0 };
                    self.tell_engine(engine, |place| ToPeer::Dispatch(place, dispatch));
                }
                Command::Retract { engine, batch } => {
                    self.tell_engine(engine, |place| ToPeer::Retract(place, Retract { engine, batch }));
                }
                Command::Cancel { engine, batch, first, count } => {
                    self.tell_engine(engine, |place| ToPeer::Stop(place, StopTasks { batch, first, count }));
                }
                Command::Settle { job, first, count, attempt, engine, cause } => {
                    let run = Run { first, count, engine, attempt, submitted_us: 0, body: RunBody::Ended(cause) };
                    self.write(Write::Record { job, run, reply: None });
                    self.ledger.end_tasks(job, first, count);
                }
                Command::Tried { job, first, count, tries } => {
                    let losses = tries.kept();
                    self.note(Note::LossesKnown { job, first, count, losses });
                    self.write(Write::Losses { job, first, count, losses });
                }
                Command::Count { ticket, of, first, count } => self.write(Write::Count { ticket, of, first, count }),
                Command::Confirm { ticket } => self.write(Write::Settle(Settled::Confirmed(ticket))),
                Command::Locate { ticket, question } => self.write(Write::Locate { ticket, question }),
                Command::Released { job, engines } => self.write(Write::Released { job, engines }),
                Command::Finished { job } => {
                    if let Some(client) = self.ledger.finish(job) {
                        self.forget_if_gone(client);
                    }
                }
            }
        }
    }

    fn resume_if_complete(&mut self, complete: bool) {
        if self.paused && self.awaited.is_empty() {
            self.paused = false;
            let seated = self.seats.keys().copied().collect();
            self.note(Note::Resumed { seated, complete });
            self.core.resume(self.now);
            self.carry_out();
        }
    }

    fn forget_if_gone(&mut self, key: ClientKey) {
        let gone = self.clients.get(&key).is_some_and(|(_, link)| link.is_none());
        if gone && self.ledger.account(key).jobs == 0 {
            self.clients.remove(&key);
            self.absences.over(key);
        }
    }

    fn client_of(&mut self, owner: &Owner) -> ClientKey {
        if let Some((key, _)) = self.clients.iter().find(|(_, (of, _))| of == owner) {
            return *key;
        }
        self.next_client += 1;
        let key = ClientKey(self.next_client);
        self.clients.insert(key, (owner.clone(), None));
        key
    }

    fn is_of(&self, engine: EngineId, link: u64) -> bool {
        self.seats.get(&engine).is_some_and(|seat| seat.link == link)
    }

    fn tell_engine(&mut self, engine: EngineId, message: impl FnOnce(u32) -> ToPeer) {
        if let Some(Seat { link, place, .. }) = self.seats.get(&engine) {
            self.effects.push(Effect::Send(*link, message(*place)));
        }
    }

    fn answer(&mut self, (link, ask): Reply, answer: Answer) {
        self.send(link, ToPeer::Answer { ask, answer });
    }

    fn send(&mut self, link: u64, message: ToPeer) {
        self.effects.push(Effect::Send(link, message));
    }

    fn write(&mut self, write: Write) {
        self.effects.push(Effect::Write(write));
    }

    fn note(&mut self, note: Note) {
        self.effects.push(Effect::Note(note));
    }
}

fn claim(held: &HeldBatch) -> Claim {
    let HeldBatch { batch, job, first, end, attempt, started, .. } = *held;
    Claim { batch, job, first, end, attempt, started }
}

impl ToPeer {
    /// How it travels, if what is long is.
    pub(super) fn way(&self, long: bool) -> Way {
        let may_be_long = matches!(self, ToPeer::Dispatch(..) | ToPeer::Results { .. });
        if long && may_be_long { Way::Bulk } else { Way::Control }
    }
}
