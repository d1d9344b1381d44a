//! The scheduler's rules, one by one.

mod balance;
mod direct;
mod following;
mod losses;
mod model;
mod order;
mod placement;
mod restart;
mod retries;
mod schemes;
mod stealing;
mod visible;
mod waiting;

use super::*;
use crate::task::{BatchId, BundleHash, EngineId, JobId, TaskOptions, Tries};

/// A scheduler with short names for what tests do.
pub(super) struct Rig {
    pub(super) scheduler: Scheduler,
    pub(super) now: u64,
}

/// A dispatch without its batch number: engine, job, first, count, attempt.
pub(super) type Sent = (u32, u128, u32, u32, u32);

/// What a cancellation has met, with engines that run tasks in processes.
pub(super) fn met(queued: u32, active: u32) -> CancelCounts {
    CancelCounts { queued, active, in_threads: 0 }
}

impl Rig {
    pub(super) fn new(settings: Settings) -> Self {
        Self { scheduler: Scheduler::new(settings), now: 0 }
    }

    /// Some engines with the numbers 1 to `engines`, of which each takes one batch at a time.
    pub(super) fn plain(engines: u32) -> Self {
        Self::with_prefetch(engines, 0)
    }

    pub(super) fn with_prefetch(engines: u32, prefetch: usize) -> Self {
        let mut rig = Self::new(Settings { prefetch, ..Settings::default() });
        (1..=engines).for_each(|engine| rig.join(engine));
        rig
    }

    pub(super) fn join(&mut self, engine: u32) {
        self.scheduler.engine_joined(Time(self.now), EngineId(engine), process());
    }

    pub(super) fn lose(&mut self, engine: u32) {
        self.scheduler.engine_lost(Time(self.now), EngineId(engine), "it went away");
    }

    /// Opens a job and gives it tasks.
    pub(super) fn submit(&mut self, spec: JobSpec, count: u32) {
        let id = spec.id;
        self.scheduler.open_job(spec).unwrap();
        self.scheduler.extend_job(Time(self.now), id, count, Weight::default()).unwrap();
    }

    pub(super) fn commands(&mut self) -> Vec<Command> {
        self.scheduler.check_invariants();
        self.decided()
    }

    /// The commands; what is decided is kept at once.
    pub(super) fn decided(&mut self) -> Vec<Command> {
        let mut all = Vec::new();
        loop {
            let mut confirmed = Vec::new();
            for command in self.scheduler.commands() {
                match command {
                    Command::Confirm { ticket } => confirmed.push(ticket),
                    other => all.push(other),
                }
            }
            if confirmed.is_empty() {
                return all;
            }
            confirmed.into_iter().for_each(|ticket| self.scheduler.confirmed(Time(self.now), ticket));
        }
    }

    /// The dispatches since the last look; nothing else must have been asked for, save that losses are remembered.
    pub(super) fn sent(&mut self) -> Vec<Sent> {
        let mut commands = self.commands();
        commands.retain(|command| !matches!(command, Command::Tried { .. }));
        commands.into_iter().map(|command| sent(&command).unwrap_or_else(|| panic!("unexpected {command:?}"))).collect()
    }

    /// The first batch at an engine.
    pub(super) fn running(&self, engine: u32) -> (BatchId, u32, u32) {
        self.batch(engine, 0).expect("the engine runs a batch")
    }

    pub(super) fn batch(&self, engine: u32, at: usize) -> Option<(BatchId, u32, u32)> {
        let key = self.scheduler.engine_keys[&EngineId(engine)];
        let batch = self.scheduler.engines[key].batches.get(at)?;
        Some((batch.id, batch.next(), batch.left()))
    }

    /// The engine ends its first batch; each task took that long.
    pub(super) fn end(&mut self, engine: u32, task_us: u64) {
        let (batch, first, count) = self.running(engine);
        self.now += task_us * u64::from(count);
        let busy_us = task_us * u64::from(count);
        self.scheduler.progress(Time(self.now), EngineId(engine), batch, first, count, busy_us).unwrap();
    }
}

pub(super) fn sent(command: &Command) -> Option<Sent> {
    match *command {
        Command::Dispatch { engine, job, first, count, attempt, .. } => Some((engine.0, number(job), first, count, attempt)),
        _ => None,
    }
}

pub(super) fn number(job: JobId) -> u128 {
    (1..100).find(|n| JobId::from_u128(*n) == job).expect("tests number their jobs")
}

pub(super) fn process() -> Capability {
    Capability { target: "x86_64-unknown-linux-gnu".into(), worker: WorkerMode::Process, names: Default::default() }
}

/// An engine without labels and resources.
pub(super) fn plain_engine(engine: u32) -> EngineSpec {
    EngineSpec { id: EngineId(engine), capability: process(), equipment: Default::default() }
}

/// A balanced job of client 1 that any [`process`] can run.
pub(super) fn spec(id: u128) -> JobSpec {
    JobSpec {
        id: JobId::from_u128(id),
        client: ClientKey(1),
        requirement: Requirement::Bundle { hash: BundleHash([0xab; 32]), target: "x86_64-unknown-linux-gnu".into() },
        placement: Placement::Balanced,
        chunk: Chunk::Adaptive,
        options: TaskOptions::default(),
    }
}

pub(super) fn prioritised(priority: i32, spec: JobSpec) -> JobSpec {
    JobSpec { options: TaskOptions { priority, ..spec.options.clone() }, ..spec }
}

pub(super) fn fixed(id: u128, count: u32) -> JobSpec {
    JobSpec { chunk: Chunk::Fixed(count.try_into().unwrap()), ..spec(id) }
}
