//! Tasks meet engines.

use super::{
    Command,
    batch_size::{Contention, batch_size},
    core::{Pause, Scheduler},
    engines::{Batch, Engine, Place, Reach, Stage},
    job::Job,
    order::Entry,
    slab::Key,
};
use crate::task::BatchId;

impl Scheduler {
    /// A part has new tasks. Those that meet free engines go at once: nothing else is queued for an engine that is free.
    pub(super) fn offer(&mut self, job: Key<Job>, part: usize) {
        if self.jobs[job].parts[part].listed || !self.jobs[job].gate.is_open() {
            return;
        }
        while !self.jobs[job].parts[part].pending.is_empty() {
            match self.free_engine(job, part) {
                Some(engine) => self.dispatch(engine, job, part),
                None => return self.list(job, part),
            }
        }
    }

    /// Parts got tasks back, several perhaps at the same time: free engines choose among all of them.
    pub(super) fn pump(&mut self, job: Key<Job>, part: usize) {
        while self.jobs.get(job).is_some_and(|job| job.parts[part].listed) {
            let Some(engine) = self.free_engine(job, part) else { return };
            let Some(next) = self.next_for(engine) else { return };
            self.dispatch(engine, next.job, next.part);
        }
    }

    /// An engine may have become free: it takes what it should, and finds its place.
    pub(super) fn feed(&mut self, engine: Key<Engine>) {
        self.place(engine);
        if self.pause == Pause::Paused {
            return;
        }
        while self.engines[engine].place != Place::Away {
            let Some(next) = self.next_for(engine) else { break };
            self.dispatch(engine, next.job, next.part);
        }
        if self.engines[engine].place == Place::Idle {
            self.steal_for(engine);
        }
    }

    /// All engines take what they should, after a time in which none did: every idle one has something before a batch waits.
    pub(super) fn feed_all(&mut self) {
        let engines: Vec<_> = self.engines.keys().collect();
        for &engine in &engines {
            if self.engines[engine].place == Place::Idle
                && let Some(next) = self.next_for(engine)
            {
                self.dispatch(engine, next.job, next.part);
            }
        }
        engines.into_iter().for_each(|engine| self.feed(engine));
    }

    /// Puts an engine in the line where it belongs.
    pub(super) fn place(&mut self, engine: Key<Engine>) {
        let due = self.engines[engine].due_place(self.settings.prefetch);
        self.stand(engine, due);
    }

    /// Moves an engine to a line.
    pub(super) fn stand(&mut self, engine: Key<Engine>, due: Place) {
        let (kind, place) = (self.engines[engine].kind, self.engines[engine].place);
        if let Some(lots) = &mut self.lots {
            let load = self.engines[engine].batches.len();
            lots.put(engine, kind, (due != Place::Away).then_some(load));
        }
        if place == due {
            return;
        }
        let kind = &mut self.kinds[kind];
        match place {
            Place::Away => {}
            Place::Idle => kind.idle.remove(&mut self.engines, engine),
            Place::Open => kind.open.remove(&mut self.engines, engine),
        }
        self.stand_in_line(engine, due);
        self.engines[engine].place = due;
    }

    /// Enters a part with queued tasks in the orders of those who could run it, unless its job waits for others.
    pub(super) fn list(&mut self, key: Key<Job>, part: usize) {
        let job = &mut self.jobs[key];
        if !job.gate.is_open() || std::mem::replace(&mut job.parts[part].listed, true) {
            return;
        }
        let entry = job.entry(key, part);
        let waited = self.clients[job.client].is_waiting();
        if let Some(pin) = job.parts[part].pin {
            let order = match self.engine_keys.get(&pin) {
                Some(engine) => &mut self.engines[*engine].pinned,
                None => self.absent.entry(pin).or_default(),
            };
            let client = &mut self.clients[job.client];
            order.insert(job.priority, job.client, client.vtime(), entry);
            client.waits_pinned += 1;
        } else {
            let kinds = &self.classes[job.class].kinds;
            if !waited {
                let floors = kinds.iter().map(|kind| self.kinds[*kind].order.floor(job.priority, &self.clients));
                let floor = floors.min().unwrap_or(0);
                self.clients[job.client].enter(floor);
            }
            let vtime = self.clients[job.client].vtime();
            for kind in kinds {
                self.kinds[*kind].order.insert(job.priority, job.client, vtime, entry);
            }
            *self.clients[job.client].waits.entry(job.class).or_default() += 1;
            let (id, class) = (job.id, job.class);
            if self.stranding(class).is_some() {
                self.stranded.push(id);
            }
        }
        self.clients_waiting += usize::from(!waited);
    }

    /// Takes a part that has run dry from the orders.
    pub(super) fn unlist_if_empty(&mut self, key: Key<Job>, part: usize) {
        let job = &mut self.jobs[key];
        if !job.parts[part].listed || !job.parts[part].pending.is_empty() {
            return;
        }
        job.parts[part].listed = false;
        let entry = job.entry(key, part);
        let client = &mut self.clients[job.client];
        if let Some(pin) = job.parts[part].pin {
            client.waits_pinned -= 1;
            if let Some(engine) = self.engine_keys.get(&pin) {
                self.engines[*engine].pinned.remove(job.priority, job.client, entry);
            } else if let Some(order) = self.absent.get_mut(&pin) {
                order.remove(job.priority, job.client, entry);
                if order.is_empty() {
                    self.absent.remove(&pin);
                }
            }
        } else {
            for kind in &self.classes[job.class].kinds {
                self.kinds[*kind].order.remove(job.priority, job.client, entry);
            }
            if let Some(parts) = client.waits.get_mut(&job.class) {
                *parts -= 1;
                if *parts == 0 {
                    client.waits.remove(&job.class);
                }
            }
        }
        self.clients_waiting -= usize::from(!client.is_waiting());
    }

    /// An engine with room that can run the part.
    fn free_engine(&mut self, job: Key<Job>, part: usize) -> Option<Key<Engine>> {
        if self.pause == Pause::Paused {
            return None;
        }
        let job = &self.jobs[job];
        if let Some(pin) = job.parts[part].pin {
            let engine = *self.engine_keys.get(&pin)?;
            return (self.engines[engine].place != Place::Away).then_some(engine);
        }
        self.choose(job.class)
    }

    /// What an engine runs next: what is bound to it before what is not, but for load-balanced tasks that have chosen it, which give
    /// way to a higher priority.
    fn next_for(&mut self, engine: Key<Engine>) -> Option<Entry> {
        let engine = &mut self.engines[engine];
        let order = &mut self.kinds[engine.kind].order;
        let Some(bound) = engine.pinned.first(&self.clients) else { return order.first(&self.clients) };
        let job = &self.jobs[bound.job];
        if !job.is_balanced() {
            return Some(bound);
        }
        let higher = |free: &Entry| self.jobs[free.job].priority > job.priority;
        order.first(&self.clients).filter(higher).or(Some(bound))
    }

    /// Sends one batch of a part that has queued tasks to an engine that has room.
    fn dispatch(&mut self, engine_key: Key<Engine>, job_key: Key<Job>, part: usize) {
        let job = &self.jobs[job_key];
        let (client_key, class) = (job.client, job.class);
        let reach = if job.parts[part].pin.is_some() { Reach::Pinned } else { Reach::Balanced };
        let engines = if reach == Reach::Pinned { 1 } else { self.serving(class) };
        let waits = self.clients[client_key].is_waiting();
        let contention = if self.clients_waiting > usize::from(waits) { Contention::Shared } else { Contention::Alone };

        let job = &mut self.jobs[job_key];
        let queued = job.parts[part].pending.len();
        let size = batch_size(&self.settings, job.chunk, &job.pace, queued, engines, contention);
        let size = size.min(job.load.tasks_max(&self.settings, job.chunk));
        let Some(span) = job.parts[part].pending.take(size) else { return };
        let price_us = job.pace.price_us();
        job.queued -= span.count;
        job.active += span.count;
        job.batches.insert(span.first, engine_key);

        let engine = &mut self.engines[engine_key];
        let order = if reach == Reach::Pinned { &mut engine.pinned } else { &mut self.kinds[engine.kind].order };
        let client = &mut self.clients[client_key];
        client.queued -= u64::from(span.count);
        client.active += u64::from(span.count);
        if !waits {
            let floor = order.floor(job.priority, &self.clients);
            self.clients[client_key].enter(floor);
        }
        let client = &mut self.clients[client_key];
        order.served(client.vtime());
        client.charge(u64::from(price_us) * u64::from(span.count));

        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        let stage = if engine.batches.is_empty() { Stage::Started } else { Stage::Waiting };
        if stage == Stage::Started {
            engine.heard = self.now;
        }
        let batch = Batch::new(id, (job_key, part), span, reach, stage, price_us);
        let (first, count, attempt) = (span.first, span.count, batch.attempt());
        self.out.push(Command::Dispatch { engine: engine.id, batch: id, job: job.id, first, count, attempt });
        let stealable = batch.is_stealable();
        engine.batches.push_back(batch);
        if stealable {
            self.mark_waiting(class, id, engine_key);
        }
        self.unlist_if_empty(job_key, part);
        self.place(engine_key);
    }
}
