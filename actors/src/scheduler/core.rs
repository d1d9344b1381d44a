//! The scheduler's state, and what clients do with it.

use std::collections::{BTreeSet, HashMap};

use super::{
    CancelCounts, Capability, ClientKey, Command, ExtendError, JobSpec, OpenError, Requirement, Settings, Time, UnknownJob,
    Weight, WorkerMode,
    ascending::Ascending,
    batch_size::{Load, Pace},
    client::Client,
    demand::Demand,
    engines::{Duty, Engine},
    gate::{Failed, Gate},
    job::{Intake, Job, parts},
    matching::{Class, Kind},
    order::Order,
    pending::Span,
    retries::Again,
    scheme::Lots,
    slab::{Key, Slab},
    timeouts::QueueTimeouts,
};
use crate::task::{Cause, EngineId, JobId, Selection};

/// Decides which engine runs which tasks, and when.
///
/// Everything that happens is told to it by a method call; what is to be done about it is then in [`Scheduler::commands`].
///
/// ```ignore
/// let mut scheduler = Scheduler::new(Settings::default());
/// scheduler.engine_joined(Time(0), EngineId(1), capability);
/// scheduler.open_job(spec)?;
/// scheduler.extend_job(Time(5), id, 1_000, Weight::default())?;
/// for command in scheduler.commands() {
///     // Command::Dispatch { engine: EngineId(1), first: 0, .. }, …
/// }
/// ```
#[derive(Debug)]
pub struct Scheduler {
    pub(super) settings: Settings,
    pub(super) now: Time,
    pub(super) jobs: Slab<Job>,
    pub(super) job_keys: HashMap<JobId, Key<Job>>,
    pub(super) clients: Slab<Client>,
    pub(super) client_keys: HashMap<ClientKey, Key<Client>>,
    pub(super) classes: Slab<Class>,
    pub(super) class_keys: HashMap<(Requirement, Option<Key<Demand>>), Key<Class>>,
    pub(super) kinds: Slab<Kind>,
    pub(super) kind_keys: HashMap<(Capability, BTreeSet<Key<Demand>>), Key<Kind>>,
    pub(super) demands: Slab<Demand>,
    pub(super) demand_keys: HashMap<Selection, Key<Demand>>,
    pub(super) engines: Slab<Engine>,
    pub(super) engine_keys: HashMap<EngineId, Key<Engine>>,
    /// The parts with queued tasks that are bound to engines which are not there. Only while it is paused.
    pub(super) absent: HashMap<EngineId, Order>,
    pub(super) pause: Pause,
    /// Engines that were there before may be about to come back, so that nobody is held to have left whom tasks are to follow.
    pub(super) expects_engines: bool,
    /// How many clients have queued tasks that found no engine at once.
    pub(super) clients_waiting: usize,
    /// When something is due that only the passing of time brings, and of which job.
    pub(super) alarms: BTreeSet<(Time, Key<Job>)>,
    /// Jobs of which something that they wait for has ended.
    pub(super) touched: Vec<JobId>,
    /// Jobs with queued tasks that none of the engines which they name may be left for.
    pub(super) stranded: Vec<JobId>,
    /// With a scheme that draws lots.
    pub(super) lots: Option<Box<Lots>>,
    /// How often an engine has come to stand in a line; counted where the scheme needs it.
    pub(super) turns: u64,
    pub(super) next_batch: u64,
    pub(super) next_seq: u64,
    pub(super) out: Vec<Command>,
}

/// Whether tasks are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    Running,
    /// None are: engines that have some already may be about to come back.
    Paused,
}

impl Scheduler {
    /// A scheduler without jobs and engines.
    pub fn new(settings: Settings) -> Self {
        Self {
            next_batch: settings.first_batch,
            // No two lives of a controller have this number in common.
            lots: Lots::of(settings.scheme, settings.first_batch),
            turns: 0,
            settings,
            now: Time(0),
            jobs: Slab::default(),
            job_keys: HashMap::new(),
            clients: Slab::default(),
            client_keys: HashMap::new(),
            classes: Slab::default(),
            class_keys: HashMap::new(),
            kinds: Slab::default(),
            kind_keys: HashMap::new(),
            demands: Slab::default(),
            demand_keys: HashMap::new(),
            engines: Slab::default(),
            engine_keys: HashMap::new(),
            absent: HashMap::new(),
            pause: Pause::Running,
            expects_engines: false,
            clients_waiting: 0,
            alarms: BTreeSet::new(),
            touched: Vec::new(),
            stranded: Vec::new(),
            next_seq: 0,
            out: Vec::new(),
        }
    }

    /// What is to be done, in order. To be carried out after every call that may have decided something.
    pub fn commands(&mut self) -> std::vec::Drain<'_, Command> {
        self.settle_stranded();
        self.judge_touched();
        self.out.drain(..)
    }

    /// Opens a job without tasks.
    ///
    /// # Errors
    /// When the id is in use, or a bound of [`Settings`] is reached.
    pub fn open_job(&mut self, spec: JobSpec) -> Result<(), OpenError> {
        let waits = spec.options.conditions().next().is_some().then(|| spec.options.clone());
        let key = self.enter_job(spec)?;
        if let Some(options) = waits {
            self.make_wait(key, &options);
        }
        Ok(())
    }

    /// Opens a job without tasks, and says where it is.
    pub(super) fn enter_job(&mut self, spec: JobSpec) -> Result<Key<Job>, OpenError> {
        if self.job_keys.contains_key(&spec.id) {
            return Err(OpenError::Exists(spec.id));
        }
        if self.jobs.len() >= self.settings.jobs_max {
            return Err(OpenError::TooManyJobs { max: self.settings.jobs_max });
        }
        let mut selection = spec.options.selection;
        let parts = parts(spec.placement, &mut selection, self.settings.placement_max)?;
        let client = self.join_client(spec.client);
        let class = self.join_class(spec.requirement, &selection);
        self.next_seq += 1;
        let key = self.jobs.insert(Job {
            id: spec.id,
            client,
            class,
            priority: spec.options.priority,
            chunk: spec.chunk,
            intake: Intake::Open,
            gate: Gate::Open,
            dependents: None,
            again: (spec.options.retries.failures > 0).then(|| Box::new(Again::new(spec.options.retries))),
            poison_losses: spec.options.losses_max.map_or(self.settings.poison_losses, |max| max.saturating_add(1)),
            timeouts: spec.options.queue_timeout_us.map(|limit_us| Box::new(QueueTimeouts::new(limit_us))),
            seq: self.next_seq,
            parts,
            batches: Ascending::default(),
            pace: Pace::default(),
            load: Load::default(),
            total: 0,
            queued: 0,
            active: 0,
            done: 0,
            failed: 0,
        });
        self.job_keys.insert(spec.id, key);
        Ok(key)
    }

    /// Adds `count` tasks, whose arguments have that weight, to a job and returns the index of the first.
    ///
    /// # Errors
    /// When the job is unknown or closed, or has no room for so many: a job holds up to 2^32 − 1 tasks, a direct one as many as its
    /// placement names.
    pub fn extend_job(&mut self, now: Time, id: JobId, count: u32, weight: Weight) -> Result<u32, ExtendError> {
        self.advance(now);
        let key = *self.job_keys.get(&id).ok_or(ExtendError::UnknownJob(id))?;
        let job = &mut self.jobs[key];
        if job.intake == Intake::Closed {
            return Err(ExtendError::Closed(id));
        }
        if count > job.room() {
            return Err(ExtendError::TooManyTasks { job: id, room: job.room(), count });
        }
        let first = job.total;
        job.total += count;
        job.load.add(count, weight);
        if job.timeouts.is_some() {
            self.start_clock(key, 0, first + count);
        }
        let job = &self.jobs[key];
        let (mut at, mut part) = (first, job.part_of(first));
        while at < first + count {
            let end = self.jobs[key].parts[part].end.min(first + count);
            self.add(key, part, Span::fresh(at, end - at));
            (at, part) = (end, part + 1);
        }
        Ok(first)
    }

    /// No more tasks will be added. The job is finished once all that it has are ended.
    ///
    /// # Errors
    /// When there is no such job.
    pub fn close_job(&mut self, id: JobId) -> Result<(), UnknownJob> {
        let key = *self.job_keys.get(&id).ok_or(UnknownJob(id))?;
        self.jobs[key].intake = Intake::Closed;
        self.finish_if_done(key);
        Ok(())
    }

    /// Aborts those of tasks `first..first + count` that have not ended: the queued ones at once; engines are asked to abort the
    /// others, and report them as usual. Indices that the job does not have are passed over.
    pub fn cancel(&mut self, now: Time, id: JobId, first: u32, count: u32) -> CancelCounts {
        self.advance(now);
        let Some(&key) = self.job_keys.get(&id) else { return CancelCounts::default() };
        let end = first.saturating_add(count).min(self.jobs[key].total);
        if first >= end {
            return CancelCounts::default();
        }
        let queued = self.cancel_queued(key, first, end);
        let (active, in_threads) = if queued == end - first { (0, 0) } else { self.cancel_active(key, first, end) };
        self.finish_if_done(key);
        CancelCounts { queued, active, in_threads }
    }

    #[cfg(test)]
    /// Where the tasks of a job are, or `None` when there is no such job or it has finished.
    pub fn counts(&self, id: JobId) -> Option<super::JobCounts> {
        Some(self.jobs[*self.job_keys.get(&id)?].counts())
    }

    /// Looks after what only the passing of time changes: batches that wait behind one that takes unexpectedly long, and what is due
    /// at a certain time. To be called every few milliseconds while [`Scheduler::needs_tick`], and at [`Scheduler::next_alarm`].
    pub fn tick(&mut self, now: Time) {
        self.advance(now);
        if self.pause == Pause::Paused {
            return;
        }
        self.ring();
        self.steal_overdue();
    }

    /// Whether a [`Scheduler::tick`] could find anything to do.
    pub fn needs_tick(&self) -> bool {
        self.pause == Pause::Running
            && self.kinds.iter().any(|(_, kind)| kind.idle.first().is_some() && !kind.stealable.is_empty())
    }

    pub(super) fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// Some tasks of a job have ended without a value. Whoever calls has taken them from where they were.
    pub(super) fn settle(
        &mut self,
        key: Key<Job>,
        (first, count): (u32, u32),
        attempt: u32,
        engine: Option<EngineId>,
        cause: Cause,
    ) {
        let job = &mut self.jobs[key];
        job.done += count;
        job.failed += count;
        self.out.push(Command::Settle { job: job.id, first, count, attempt, engine, cause });
        if self.jobs[key].dependents.is_some() {
            self.tell_dependents(key, (first, count), Failed::All);
        }
    }

    /// Forgets a job if it is finished. Does nothing for one that was forgotten before.
    pub(super) fn finish_if_done(&mut self, key: Key<Job>) {
        if !self.jobs.get(key).is_some_and(Job::is_finished) {
            return;
        }
        if let Some(job) = self.jobs.remove(key) {
            self.job_keys.remove(&job.id);
            self.leave_class(job.class);
            self.leave_client(job.client);
            self.wait_no_longer(key, &job.gate);
            if let Some(at) = job.alarm() {
                self.alarms.remove(&(at, key));
            }
            self.tell_end(&job);
            self.out.push(Command::Finished { job: job.id });
        }
    }

    /// Why a direct task cannot go to its engine now or ever.
    pub(super) fn pin_refusal(&self, engine: EngineId, class: Key<Class>) -> Option<Cause> {
        let Some(record) = self.engine_keys.get(&engine).map(|key| &self.engines[*key]) else {
            return (self.pause == Pause::Running).then(|| absent(engine));
        };
        if record.duty == Duty::Draining {
            return Some(draining(engine));
        }
        // A kind knows its classes: the refusal is worded only when there is one.
        (!self.kinds[record.kind].classes.contains(&class)).then(|| self.refusal(record, &self.classes[class]))
    }

    /// Queues tasks above all that the part has, or ends them if their engine does not take them.
    pub(super) fn add(&mut self, key: Key<Job>, part: usize, span: Span) {
        let count = span.count;
        if count == 0 {
            return;
        }
        let job = &self.jobs[key];
        let refusal = match &job.gate {
            Gate::Open => job.parts[part].pin.and_then(|engine| self.pin_refusal(engine, job.class)),
            Gate::Waiting(_) => None,
            Gate::Shut(cause) => Some(Cause::clone(cause)),
        };
        if let Some(cause) = refusal {
            return self.settle(key, (span.first, count), span.attempts(), None, cause);
        }
        let job = &mut self.jobs[key];
        job.queued += count;
        job.parts[part].pending.restore(span);
        *self.queued_of(key) += u64::from(count);
        self.offer(key, part);
    }

    pub(super) fn cancel_queued(&mut self, key: Key<Job>, first: u32, end: u32) -> u32 {
        let mut cancelled = 0;
        let parts = self.jobs[key].part_of(first)..=self.jobs[key].part_of(end - 1);
        for part in parts {
            let job = &mut self.jobs[key];
            let removed = job.parts[part].pending.remove(first, end);
            let count: u32 = removed.iter().map(|span| span.count).sum();
            job.queued -= count;
            *self.queued_of(key) -= u64::from(count);
            for span in removed {
                self.settle(key, (span.first, span.count), span.attempts(), None, Cause::Aborted);
            }
            self.unlist_if_empty(key, part);
            cancelled += count;
        }
        cancelled + self.cancel_deferred(key, first, end)
    }

    /// How many tasks at engines are asked back, and how many of them run in threads.
    pub(super) fn cancel_active(&mut self, key: Key<Job>, first: u32, end: u32) -> (u32, u32) {
        let job = &self.jobs[key];
        // The batch that holds `first` may start before it.
        let from = job.batches.range(0..first + 1).next_back().map_or(first, |(from, _)| from);
        let (mut cancelled, mut in_threads) = (0, 0);
        for (batch_first, engine) in job.batches.range(from..end) {
            let engine = &mut self.engines[engine];
            let in_thread = matches!(self.kinds[engine.kind].capability.worker, WorkerMode::Thread { .. });
            let found = engine.batches.iter_mut().find(|batch| batch.job == key && batch.span.first == batch_first);
            let Some(batch) = found else { continue };
            let (low, high) = (first.max(batch.next()), end.min(batch.span.end()));
            if low >= high {
                continue;
            }
            for (low, high) in batch.cancel(low, high) {
                cancelled += high - low;
                in_threads += if in_thread { high - low } else { 0 };
                self.out.push(Command::Cancel { engine: engine.id, batch: batch.id, first: low, count: high - low });
            }
        }
        (cancelled, in_threads)
    }

    fn join_client(&mut self, client: ClientKey) -> Key<Client> {
        let key = *self.client_keys.entry(client).or_insert_with(|| self.clients.insert(Client::new(client)));
        self.clients[key].jobs += 1;
        key
    }

    pub(super) fn leave_client(&mut self, key: Key<Client>) {
        self.clients[key].jobs -= 1;
        if self.clients[key].jobs == 0
            && let Some(client) = self.clients.remove(key)
        {
            self.client_keys.remove(&client.key);
        }
    }
}

/// What becomes of direct tasks whose engine takes no more.
pub(super) fn draining(engine: EngineId) -> Cause {
    Cause::EngineLost { detail: format!("engine {engine} is leaving and takes no more tasks") }
}

/// What becomes of direct tasks whose engine is not there.
pub(super) fn absent(engine: EngineId) -> Cause {
    Cause::EngineLost { detail: format!("engine {engine} is not connected") }
}
