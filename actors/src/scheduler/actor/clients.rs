//! What clients ask of the scheduler.

use std::{collections::VecDeque, time::Duration};

use actix::{AsyncContext, Context, Handler};
use engineroom_runtime::{
    actor::{Remote, RemoteAddr, Reply},
    net::link::{Link, SendError},
    proto::packet::AskCode,
};

use super::{
    SchedulerActor,
    ledger::{Admission, HeldBack},
    needed::NoSharedValue,
};
use crate::client::ClientActor;
use crate::results::{Kept, Owner, Settle, SubscribeOwner};
use crate::scheduler::ClientKey;
use crate::task::JobId;
use crate::wire::{Abort, AbortCounts, CLIENT, EnginesChanged, Submit, SubmitRefusal, WatchEngines};

/// How many acknowledgements are held back for one client: as many as a link has asks under way. Who sends more does not wait
/// for answers, and is refused.
const HELD_MAX: usize = engineroom_runtime::net::link::ASKS_MAX;

/// How often is looked after clients that have gone. A tenth of how long they are waited for.
const SWEEP: Duration = Duration::from_secs(30);

/// One program that is connected, or was and has work here.
pub(super) struct Client {
    pub owner: Owner,
    pub link: Option<Link>,
    /// Acknowledgements that wait until the client has fewer arguments here.
    held: VecDeque<(JobId, Reply<Result<(), SubmitRefusal>>)>,
}

/// Who waits until the store has kept runs of a job.
pub(super) struct Waiter {
    /// How many runs.
    runs: u64,
    what: Waiting,
}

enum Waiting {
    /// A submission is to be acknowledged.
    Submitted(ClientKey, Reply<Result<(), SubmitRefusal>>),
    /// Tasks among them are to be aborted.
    Abort { first: u32, count: u32, reply: Reply<AbortCounts> },
}

/// One client that is told which engines there are.
pub(super) struct Watcher {
    remote: RemoteAddr<ClientActor>,
    /// The last version that was sent to it.
    told: u64,
}

impl SchedulerActor {
    pub(super) fn client_came(&mut self, link: Link) {
        let key = self.client_key(&link);
        self.absences.over(key);
        if let Some(client) = self.clients.get_mut(&key) {
            client.link = Some(link);
        }
    }

    pub(super) fn client_left(&mut self, link: &Link, context: &mut Context<Self>) {
        self.watchers.remove(&link.id());
        let gone: Vec<ClientKey> =
            self.clients.iter().filter(|(_, client)| client.link.as_ref() == Some(link)).map(|(key, _)| *key).collect();
        let now = self.now();
        for key in gone {
            if let Some(client) = self.clients.get_mut(&key) {
                client.link = None;
                client.held.clear();
            }
            self.absences.left(key, now);
            self.forget_if_gone(key);
        }
        self.look_after_absences(context);
    }

    pub(super) fn end_tasks(&mut self, job: JobId, first: u32, count: u32) {
        if let Some(client) = self.ledger.end_tasks(job, first, count) {
            self.release(client);
        }
    }

    pub(super) fn finish(&mut self, job: JobId) {
        self.needed.release(job);
        if let Some(client) = self.ledger.finish(job) {
            self.release(client);
            self.forget_if_gone(client);
        }
    }

    /// Tells those that watch which engines there are.
    fn tell_watchers(&mut self, context: &mut Context<Self>) {
        let now = self.now();
        self.announcements.announced(now);
        let version = self.announcements.version();
        let mut missed = false;
        let changed = EnginesChanged { version, engines: self.engine_infos() };
        self.watchers.retain(|_, watcher| {
            if watcher.told == version {
                return true;
            }
            match watcher.remote.tell(&changed) {
                Ok(()) => watcher.told = version,
                // It subscribes again when its link is back.
                Err(SendError::Down { .. }) => return false,
                Err(SendError::Full { .. }) => missed = true,
                Err(error) => {
                    tracing::warn!(peer = %watcher.remote.link().peer().name, "it cannot be told which engines there are: {error}");
                    watcher.told = version;
                }
            }
            true
        });
        if missed && let Some(wait) = self.announcements.again(now) {
            context.run_later(wait, Self::tell_watchers);
        }
    }

    /// The engines have changed: who watches is told soon.
    pub(super) fn announce_engines(&mut self, context: &mut Context<Self>) {
        if let Some(wait) = self.announcements.changed(self.now()) {
            context.run_later(wait, Self::tell_watchers);
        }
    }

    /// Acknowledges what was held back, once little enough is held for the client.
    fn release(&mut self, key: ClientKey) {
        if self.clients.get(&key).is_none_or(|client| client.held.is_empty()) {
            return;
        }
        let held_back = self.ledger.held_back(&self.core, key);
        let Some(client) = self.clients.get_mut(&key).filter(|_| held_back != HeldBack::All) else { return };
        for (job, reply) in std::mem::take(&mut client.held) {
            match held_back.includes(&self.core, job) {
                true => client.held.push_back((job, reply)),
                false => reply.send_soon(&Ok(())),
            }
        }
    }

    fn forget_if_gone(&mut self, key: ClientKey) {
        if self.clients.get(&key).is_some_and(|client| client.link.is_none())
            && self.ledger.account(key).jobs == 0
            && let Some(client) = self.clients.remove(&key)
        {
            self.client_keys.remove(&client.owner);
            self.absences.over(key);
        }
    }

    /// Closes the jobs of clients that are gone for good, so that they end when their tasks have.
    pub(super) fn look_after_absences(&mut self, context: &mut Context<Self>) {
        if self.absences.is_empty() || std::mem::replace(&mut self.sweeping, true) {
            return;
        }
        context.run_later(SWEEP, |this, context| {
            this.sweeping = false;
            let overdue = this.absences.take_overdue(this.now());
            if !overdue.is_empty() {
                for keep in this.ledger.close_all_of(&overdue) {
                    tracing::info!(job = %keep.job, "the job is closed: its client is gone");
                    this.store(keep.job).do_send(keep);
                }
            }
            this.look_after_absences(context);
        });
    }

    fn client_key(&mut self, link: &Link) -> ClientKey {
        let peer = link.peer();
        let key = self.client_of(&Owner { name: peer.name.name().into(), incarnation: peer.incarnation });
        if let Some(client) = self.clients.get_mut(&key)
            && client.link.is_none()
        {
            client.link = Some(link.clone());
        }
        key
    }

    /// The number of a client, which it gets if it has none.
    pub(super) fn client_of(&mut self, owner: &Owner) -> ClientKey {
        if let Some(key) = self.client_keys.get(owner) {
            return *key;
        }
        let key = ClientKey(self.next_client);
        self.next_client += 1;
        self.clients.insert(key, Client { owner: owner.clone(), link: None, held: VecDeque::new() });
        self.client_keys.insert(owner.clone(), key);
        key
    }

    /// Hands a submission to the ledger and its store. Returns how many runs of the job must have been kept before it may be
    /// acknowledged.
    fn submit(&mut self, key: ClientKey, submit: Submit, from: &Link) -> Result<u64, SubmitRefusal> {
        let Some(client) = self.clients.get(&key) else { return Err(SubmitRefusal::UnknownJob) };
        if client.held.len() >= HELD_MAX {
            return Err(SubmitRefusal::Invalid(format!("{HELD_MAX} submissions of this client wait to be acknowledged")));
        }
        let job = submit.job;
        let header = submit.open.as_ref().filter(|_| !self.ledger.knows(job));
        let needed = header.map(|header| self.needed.find(header)).transpose();
        let needed = needed.map_err(|NoSharedValue| SubmitRefusal::NoSharedValue)?;
        let Admission { keep, subscribe, runs } = self.ledger.submit(&mut self.core, (key, &client.owner), submit)?;
        if let Some(needed) = needed {
            self.needed.keep(job, needed);
        }
        let store = self.store(job);
        if let Some(keep) = keep {
            store.do_send(keep);
        }
        if let Some((subscription, window_bytes)) = subscribe {
            store.do_send(SubscribeOwner { job, client: from.clone(), subscription, window_bytes });
        }
        Ok(runs)
    }

    /// Does what waits until so many runs of a job have been kept: at once if they have.
    fn when_kept(&mut self, job: JobId, mut waiter: Waiter) {
        if waiter.runs <= self.ledger.runs_kept(job) {
            self.go_on(job, waiter.what);
        } else {
            if let Waiting::Submitted(_, reply) = &mut waiter.what {
                // What it brought is counted by the ledger from here on. A disk that is slow or full costs nobody the link.
                reply.release_permit();
            }
            self.waiters.entry(job).or_default().push_back(waiter);
        }
    }

    fn go_on(&mut self, job: JobId, waiting: Waiting) {
        match waiting {
            Waiting::Submitted(client, reply) => self.acknowledge(client, job, reply),
            Waiting::Abort { first, count, reply } => self.abort(job, (first, count), reply),
        }
    }

    /// Acknowledges a submission, or holds that back while too much is held for the client.
    fn acknowledge(&mut self, key: ClientKey, job: JobId, mut reply: Reply<Result<(), SubmitRefusal>>) {
        let held_back = self.ledger.held_back(&self.core, key).includes(&self.core, job);
        match self.clients.get_mut(&key) {
            Some(client) if held_back => {
                reply.release_permit();
                client.held.push_back((job, reply));
            }
            // The client is not waiting for it: it submits ahead.
            _ => reply.send_soon(&Ok(())),
        }
    }

    fn abort(&mut self, job: JobId, (first, count): (u32, u32), reply: Reply<AbortCounts>) {
        let now = self.now();
        let met = self.core.cancel(now, job, first, count);
        let ended = count.saturating_sub(met.queued).saturating_sub(met.active);
        let counts = AbortCounts { queued: met.queued, active: met.active, in_threads: met.in_threads, ended };
        let store = self.store(job);
        // Those that were queued have ended: that is said once it is kept. Their outcomes are on their way to the store before
        // this task first runs, since whoever calls carries the core's commands out.
        actix_rt::spawn(async move {
            match store.send(Settle).await {
                Ok(()) => reply.send(&counts),
                Err(_) => reply.refuse(AskCode::ActorStopped, "the result store has ended"),
            }
        });
    }
}

fn nothing_to_abort(count: u32) -> AbortCounts {
    AbortCounts { ended: count, ..AbortCounts::default() }
}

impl Handler<Kept> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, Kept { job, outcome }: Kept, context: &mut Context<Self>) {
        let now = self.now();
        match outcome {
            Ok(()) => {
                let runs = self.ledger.kept(&mut self.core, now, job);
                // What is given out goes before what stops it.
                self.carry_out(context);
                while let Some(waiters) = self.waiters.get_mut(&job)
                    && let Some(waiter) = waiters.pop_front_if(|waiter| waiter.runs <= runs)
                {
                    self.go_on(job, waiter.what);
                }
            }
            Err(_) if self.ledger.was_given_up(job) => {}
            Err(text) => {
                self.needed.release(job);
                for waiter in self.waiters.remove(&job).into_iter().flatten() {
                    match waiter.what {
                        Waiting::Submitted(_, reply) => reply.send(&Err(SubmitRefusal::NotKept(text.clone()))),
                        Waiting::Abort { count, reply, .. } => reply.send(&nothing_to_abort(count)),
                    }
                }
                if let Some(client) = self.ledger.not_kept(&mut self.core, job) {
                    self.release(client);
                    self.forget_if_gone(client);
                }
            }
        }
        if self.waiters.get(&job).is_some_and(VecDeque::is_empty) {
            self.waiters.remove(&job);
        }
        self.carry_out(context);
    }
}

impl Handler<Remote<Submit>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Submit>, context: &mut Context<Self>) {
        let Remote { message, from, reply } = remote;
        // What comes behind the end of its link would make a client anew that never ends. It is sent again by the next link.
        if !from.is_up() {
            return;
        }
        let (key, job, opens) = (self.client_key(&from), message.job, message.open.is_some());
        match self.submit(key, message, &from) {
            Ok(runs) => self.when_kept(job, Waiter { runs, what: Waiting::Submitted(key, reply) }),
            Err(refusal) => reply.send(&Err(refusal)),
        }
        if opens {
            // What it waits for is asked for before anything else can end.
            self.carry_out(context);
        }
    }
}

impl Handler<Remote<Abort>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Abort>, context: &mut Context<Self>) {
        let Remote { message: Abort { job, first, count }, from, reply } = remote;
        match self.ledger.job(job) {
            Some(entry) if *entry.owner.name != *from.peer().name.name() && !from.peer().admin => {
                reply.refuse(AskCode::NotAllowed, "the job belongs to another owner");
            }
            // Ended and forgotten: there is nothing to be aborted.
            None => reply.send(&nothing_to_abort(count)),
            Some(_) => {
                // It comes after the tasks that it is about; the core does not know them before they are kept.
                let runs = self.ledger.runs_taken(job);
                self.when_kept(job, Waiter { runs, what: Waiting::Abort { first, count, reply } });
                self.carry_out(context);
            }
        }
    }
}

impl Handler<Remote<WatchEngines>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<WatchEngines>, _: &mut Context<Self>) {
        if !remote.from.is_up() {
            return;
        }
        let version = self.announcements.version();
        let watcher = Watcher { remote: RemoteAddr::new(remote.from.clone(), CLIENT), told: version };
        self.watchers.insert(remote.from.id(), watcher);
        remote.reply.send(&EnginesChanged { version, engines: self.engine_infos() });
    }
}
