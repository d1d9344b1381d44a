//! What must hold whatever happens, seen from outside of all parties.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    client::argument,
    controller::Note,
    store::{Disk, Store, Write},
};
use crate::scheduler::Verdict;
use crate::task::{BatchId, Cause, EngineId, JobId, Ranges};
use crate::wire::{Run, RunBody};

/// What is known of everything that ever was.
#[derive(Default)]
pub(super) struct Truth {
    batches: BTreeMap<BatchId, Batch>,
    /// How many engines were lost with a task, as the controller knows it.
    losses: BTreeMap<(JobId, u32), u32>,
    last_batch: u64,
    /// What clients wanted aborted, and what of it the controller that lives has heard of.
    pub(super) cancelled: BTreeMap<JobId, Ranges>,
    heard: BTreeMap<JobId, Ranges>,
    /// The engines of the roster that the controller found when it started.
    pub(super) awaited: BTreeSet<EngineId>,
    /// How often a task that was under way somewhere was given out again, and how often batches went on through a loss.
    pub(super) repeated: u64,
    pub(super) adopted: u64,
}

struct Batch {
    engine: EngineId,
    job: JobId,
    first: u32,
    end: u32,
    /// The controller has given the engine up since, for a reason that counts.
    forsaken: bool,
    /// An engine that lives has it, or outcomes of it that are not acknowledged.
    held: bool,
    /// Its engine has died with it, and the controller, which had not given it up, does not know yet.
    unnoticed: bool,
}

impl Truth {
    /// A controller has started with what is on disk.
    pub(super) fn started(&mut self, disk: &Disk) {
        self.losses.clear();
        self.heard.clear();
        for (id, job) in &disk.jobs {
            self.losses.extend((0..job.submitted).map(|index| ((*id, index), job.losses(index))));
        }
        self.awaited = disk.engines.clone();
        self.batches.values_mut().for_each(|batch| batch.unnoticed = false);
        // Nobody knows any more that these were there.
        self.forsake(|engine| !disk.engines.contains(&engine));
    }

    pub(super) fn note(&mut self, note: Note, store: &Store) {
        match note {
            Note::Dispatched { engine, batch, job, first, count, attempt } => {
                self.dispatched(engine, batch, (job, first, first + count), attempt, store);
            }
            Note::Judged { engine, claim, verdict } => {
                let overlaps = |other: &Batch| other.job == claim.job && other.first < claim.end && claim.first < other.end;
                let there = |other: &Batch| (other.held || other.unnoticed) && overlaps(other);
                let elsewhere = self.batches.iter().any(|(id, other)| *id != claim.batch && there(other));
                let Some(batch) = self.batches.get_mut(&claim.batch) else { panic!("{claim:?} was never given out") };
                batch.engine = engine;
                match verdict {
                    Verdict::Kept { from } => {
                        self.adopted += 1;
                        batch.forsaken = false;
                        for index in claim.first..claim.end {
                            assert_eq!(store.is_recorded(claim.job, index), index < from, "{claim:?}: {index} {from}");
                            if index >= from {
                                self.losses.insert((claim.job, index), claim.attempt - 1);
                            }
                        }
                    }
                    Verdict::Dropped => {
                        let ended = (claim.first..claim.end).any(|index| store.is_recorded(claim.job, index));
                        assert!(ended || elsewhere || batch.forsaken, "{claim:?} was dropped for no reason");
                        batch.forsaken = true;
                    }
                }
            }
            Note::Cancelled { job, first, count, total } => {
                self.heard.entry(job).or_default().cover(first, (first + count).min(total));
            }
            Note::Lost { engine } => self.forsake(|of| of == engine),
            Note::LossesKnown { job, first, count, losses } => {
                for index in first..first + count {
                    let before = self.losses.insert((job, index), losses).unwrap_or(0);
                    assert!(before <= losses, "task {index}: {losses} losses after {before}");
                }
            }
            Note::Resumed { seated, complete } => {
                let awaited = std::mem::take(&mut self.awaited);
                // Who was not known to be there, or was waited for in vain.
                self.forsake(|engine| !seated.contains(&engine) && (!complete || !awaited.contains(&engine)));
            }
        }
    }

    fn forsake(&mut self, which: impl Fn(EngineId) -> bool) {
        for batch in self.batches.values_mut().filter(|batch| which(batch.engine)) {
            (batch.forsaken, batch.unnoticed) = (true, false);
        }
    }

    fn dispatched(&mut self, engine: EngineId, id: BatchId, (job, first, end): (JobId, u32, u32), attempt: u32, store: &Store) {
        assert!(id.0 > self.last_batch, "batch {id} after batch {}", self.last_batch);
        self.last_batch = id.0;
        let stored = &store.disk.jobs[&job];
        assert!(end <= stored.submitted, "tasks are given out that are not kept");
        let verdicts = store.verdicts(job);
        assert!(verdicts.iter().all(|met| *met == Some(true)), "job {job} waits for others: {verdicts:?}");
        assert!(store.may_run(job, engine), "job {job} is to run where others ran, and not on engine {engine}");
        for index in first..end {
            assert!(!store.is_recorded(job, index), "task {index} of job {job} is given out and has an outcome");
            let heard = self.heard.get(&job).is_some_and(|set| set.contains(index, index + 1));
            assert!(!heard, "task {index} of job {job} is given out and was to be aborted");
            let losses = self.losses.get(&(job, index)).copied().unwrap_or(0);
            assert_eq!(attempt, losses + 1, "task {index} of job {job}: attempt");
        }
        for (other, batch) in self.batches.iter().filter(|(_, batch)| batch.held && batch.job == job) {
            if batch.first < end && first < batch.end {
                self.repeated += 1;
                assert!(batch.forsaken, "{first}..{end} is given out again, and engine {} has it as batch {other}", batch.engine);
            }
        }
        self.batches.insert(id, Batch { engine, job, first, end, forsaken: false, held: false, unnoticed: false });
    }

    /// A batch has come to an engine, or is there no more.
    pub(super) fn held(&mut self, batch: BatchId, held: bool) {
        if let Some(batch) = self.batches.get_mut(&batch) {
            batch.held = held;
        }
    }

    /// A batch has gone with the engine that had it.
    pub(super) fn died(&mut self, batch: BatchId) {
        if let Some(batch) = self.batches.get_mut(&batch) {
            (batch.held, batch.unnoticed) = (false, !batch.forsaken);
        }
    }

    /// The controller asks the store to keep something.
    pub(super) fn writes(&self, write: &Write, store: &Store) {
        let Write::Record { job, run, .. } = write else { return };
        let Run { first, attempt, ref body, .. } = *run;
        for index in first..run.end() {
            assert!(!store.is_recorded(*job, index), "task {index} of job {job} has two outcomes");
            let committed = store.disk.jobs.get(job).map_or(0, |stored| stored.losses(index));
            assert!(
                attempt >= committed || matches!(body, RunBody::Ended(Cause::Aborted)),
                "task {index}: attempt {attempt} after {committed} losses"
            );
            self.check_outcome(*job, index, index - first, body, store);
        }
    }

    fn check_outcome(&self, job: JobId, index: u32, offset: u32, body: &RunBody, store: &Store) {
        let cancelled = || self.cancelled.get(&job).is_some_and(|set| set.contains(index, index + 1));
        match body {
            RunBody::Ran(outcomes) => match outcomes.failure(offset) {
                None => {
                    assert_eq!(outcomes.values.item(offset as usize), Some(&*argument(job, index)), "task {index}: its value")
                }
                Some(Cause::Aborted) => assert!(cancelled(), "task {index} was not to be aborted"),
                Some(Cause::WorkerCrashed { .. } | Cause::TimeLimit { .. }) => {}
                Some(other) => panic!("task {index}: {other}"),
            },
            RunBody::Ended(Cause::Aborted) => assert!(cancelled(), "task {index} was not to be aborted"),
            RunBody::Ended(Cause::Poisoned { .. } | Cause::EngineLost { .. }) => {}
            RunBody::Ended(Cause::UnmetDependency { .. } | Cause::ImpossibleDependency { .. }) => {
                let verdicts = store.verdicts(job);
                // Those that it follows may have run nowhere, on several engines, or where nobody is left.
                let followed = matches!(body, RunBody::Ended(Cause::ImpossibleDependency { .. })) && store.follows(job);
                assert!(
                    followed || verdicts.contains(&Some(false)),
                    "task {index} of job {job} need not have failed: {verdicts:?}"
                );
            }
            RunBody::Ended(other) => panic!("task {index}: {other}"),
        }
    }

    /// An engine has forgotten outcomes because it was told that they are kept.
    pub(super) fn forgot(&self, job: JobId, first: u32, count: u32, disk: &Disk) {
        for index in first..first + count {
            assert!(disk.outcome(job, index).is_some(), "the outcome of task {index} of job {job} is forgotten and not kept");
        }
    }

    /// A client was told that its tasks up to `end` are kept.
    pub(super) fn acknowledged(&self, job: JobId, end: u32, closed: bool, disk: &Disk) {
        let stored = disk.jobs.get(&job).unwrap_or_else(|| panic!("job {job} is acknowledged and not kept"));
        assert!(end <= stored.submitted && (!closed || stored.closed), "tasks of job {job} are acknowledged and not kept");
    }
}
