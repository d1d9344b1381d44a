//! A model of the store on disk: writes wait in a queue, are committed some at a time, and only then answered. A crash loses the
//! queue and every answer that was not read. A full disk commits no job that is new and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque, btree_map::Entry};

use crate::results::{KeepRun, Owner, PendingTasks, Restored, RestoredEnd, RestoredJob};
use crate::scheduler::{Known, Located, Ticket, Whereabouts};
use crate::task::{Condition, End, EngineId, JobId, Packed, Quorum};
use crate::wire::{JobHeader, Registered, Run, RunBody};

/// How many batches one life of a controller may make, as a power of two.
const LIFE_SHIFT: u32 = 20;

/// Whom to answer: the link and the number of the ask.
pub(super) type Reply = (u64, u64);

#[derive(Debug)]
pub(super) enum Write {
    Keep(KeepRun),
    Record { job: JobId, run: Run, reply: Option<Reply> },
    Losses { job: JobId, first: u32, count: u32, losses: u32 },
    Engines { next: u32, joined: Vec<EngineId>, left: Vec<EngineId> },
    Released { job: JobId, engines: Option<BTreeSet<EngineId>> },
    Locate { ticket: Ticket, question: Whereabouts },
    Count { ticket: Ticket, of: JobId, first: u32, count: u32 },
    Settle(Settled),
}

/// What waits until everything before it is kept.
#[derive(Debug)]
pub(super) enum Settled {
    Registered(u64, Result<Registered, String>),
    Aborted(Reply),
    Confirmed(Ticket),
}

/// What the store says when a write is committed.
#[derive(Debug)]
pub(super) enum Told {
    Kept { job: JobId, outcome: Result<(), String> },
    Recorded { job: JobId, run: Run, reply: Option<Reply> },
    Counted { ticket: Ticket, known: Option<Known> },
    Located { ticket: Ticket, located: Located },
    Settled(Settled),
}

/// What survives.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) jobs: BTreeMap<JobId, Stored>,
    order: Vec<JobId>,
    life: u64,
    next_engine: u32,
    pub(super) engines: BTreeSet<EngineId>,
}

#[derive(Debug)]
pub(super) struct Stored {
    owner: Owner,
    header: JobHeader,
    runs: Vec<(u32, Packed)>,
    pub(super) submitted: u32,
    pub(super) closed: bool,
    /// By task: which attempt, and how it ended.
    pub(super) outcomes: BTreeMap<u32, (u32, RunBody, u32)>,
    losses: BTreeMap<u32, u32>,
    released: bool,
    /// Where it is to run since, if it follows others.
    pub(super) engines: Option<BTreeSet<EngineId>>,
    /// By task: where it ran.
    ran: BTreeMap<u32, EngineId>,
}

impl Stored {
    pub(super) fn has_ended(&self) -> bool {
        self.closed && self.outcomes.len() == self.submitted as usize
    }

    /// How many of these tasks, and of all, ended how.
    fn known(&self, first: u32, count: u32) -> Known {
        let within = self.outcomes.range(first..first.saturating_add(count));
        let failed = within.clone().filter(|(index, outcome)| has_failed(**index, outcome)).count() as u32;
        let succeeded = within.count() as u32 - failed;
        Known { submitted: self.submitted, ended: self.has_ended(), succeeded, failed, dropped: 0 }
    }

    fn located(&self, question: &Whereabouts) -> Located {
        let mut located = Located::default();
        for (index, outcome) in self.outcomes.range(question.first..question.first.saturating_add(question.count)) {
            let tasks = question.counting(1, u32::from(has_failed(*index, outcome)));
            located.add(self.ran.get(index).copied(), tasks, usize::MAX);
        }
        located
    }

    /// Whether an engine ran what a job follows, as far as this is about this job.
    fn ran_at(&self, engine: EngineId, (first, count): (u32, u32), quorum: Quorum) -> bool {
        let mut ran = self.outcomes.range(first..first.saturating_add(count)).map(|(index, _)| self.ran.get(index));
        match quorum {
            Quorum::All => ran.all(|ran| ran == Some(&engine)),
            Quorum::Any => ran.any(|ran| ran == Some(&engine)),
        }
    }

    pub(super) fn losses(&self, index: u32) -> u32 {
        self.losses.get(&index).copied().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) disk: Disk,
    pub(super) queue: VecDeque<Write>,
    /// Committed and not yet told.
    pub(super) told: VecDeque<Told>,
    pub(super) full: bool,
}

impl Store {
    /// A controller starts and reads what there is.
    pub(super) fn open(&mut self) -> Restored {
        self.disk.life += 1;
        let Disk { jobs, order, life, next_engine, engines } = &self.disk;
        let unended = order.iter().map(|id| (*id, &jobs[id])).filter(|(_, job)| !job.has_ended());
        let ended = order.iter().map(|id| (*id, &jobs[id])).filter(|(_, job)| job.has_ended());
        Restored {
            first_batch: life << LIFE_SHIFT,
            next_engine: *next_engine,
            engines: engines.iter().copied().collect(),
            jobs: unended.map(|(id, job)| restored(id, job)).collect(),
            ended: ended.map(|(id, job)| RestoredEnd { id, owner: job.owner.clone(), submitted: job.submitted }).collect(),
        }
    }

    /// Everything that is not on disk is lost.
    pub(super) fn crash(&mut self) {
        self.queue.clear();
        self.told.clear();
    }

    /// Commits the oldest `count` writes, as far as the disk has room.
    pub(super) fn commit(&mut self, count: usize) {
        let count = count.min(self.queue.len());
        if !self.full {
            for write in self.queue.drain(..count).collect::<Vec<_>>() {
                let told = self.disk.apply(write);
                self.told.extend(told);
            }
            return;
        }
        // Jobs that would be opened are refused, with all that follows of them; everything else waits.
        let mut refused: HashSet<JobId> = HashSet::new();
        let mut rest = VecDeque::new();
        for (at, write) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            match write {
                Write::Keep(keep) if at < count && keep.open.is_some() && !self.disk.jobs.contains_key(&keep.job) => {
                    refused.insert(keep.job);
                    self.told.push_back(Told::Kept { job: keep.job, outcome: Err("the disk is full".into()) });
                }
                Write::Keep(keep) if refused.contains(&keep.job) => {
                    self.told.push_back(Told::Kept { job: keep.job, outcome: Err("the disk is full".into()) });
                }
                other => rest.push_back(other),
            }
        }
        self.queue = rest;
    }

    /// Whether a task has an outcome, committed or about to be.
    pub(super) fn is_recorded(&self, job: JobId, index: u32) -> bool {
        let queued = |write: &Write| match write {
            Write::Record { job: of, run, .. } => *of == job && (run.first..run.end()).contains(&index),
            _ => false,
        };
        self.disk.outcome(job, index).is_some() || self.queue.iter().any(queued)
    }
}

impl Store {
    /// What can be said of the conditions of a job: met, never to be met, or neither. What is queued will be kept, or a new life
    /// of the controller finds it out anew.
    pub(super) fn verdicts(&self, job: JobId) -> Vec<Option<bool>> {
        self.disk.jobs[&job].header.options.conditions().map(|condition| self.verdict(condition)).collect()
    }

    pub(super) fn follows(&self, job: JobId) -> bool {
        !self.disk.jobs[&job].header.options.follow.is_empty()
    }

    /// Whether a job may run on an engine: it follows nothing, or is known on the disk to be bound to where that ran.
    pub(super) fn may_run(&self, job: JobId, engine: EngineId) -> bool {
        let stored = &self.disk.jobs[&job];
        let ran = |condition: &Condition| {
            let mut runs = condition.runs.iter();
            let at =
                |(of, first, count): &(JobId, u32, u32)| self.disk.jobs[of].ran_at(engine, (*first, *count), condition.quorum);
            if condition.quorum == Quorum::All { runs.all(at) } else { runs.any(at) }
        };
        let follow = &stored.header.options.follow;
        follow.is_empty() || stored.engines.as_ref().is_some_and(|bound| bound.contains(&engine)) && follow.iter().all(ran)
    }

    fn verdict(&self, Condition { runs, quorum, end }: &Condition) -> Option<bool> {
        let (mut good, mut bad, mut open) = (0, 0, false);
        for (job, first, count) in runs {
            let stored = &self.disk.jobs[job];
            let stop = if *count == u32::MAX { stored.submitted } else { first + count };
            open |= *count == u32::MAX && !stored.closed;
            for index in *first..stop {
                match self.has_failed(*job, index) {
                    _ if index >= stored.submitted => {
                        open |= !stored.closed;
                        bad += u32::from(stored.closed);
                    }
                    None => open = true,
                    Some(failed) => {
                        let wanted = *end == End::Either || failed == (*end == End::Failed);
                        *(if wanted { &mut good } else { &mut bad }) += 1;
                    }
                }
            }
        }
        match quorum {
            Quorum::All if bad > 0 => Some(false),
            Quorum::All => (!open).then_some(true),
            Quorum::Any if good > 0 => Some(true),
            Quorum::Any => (!open).then_some(false),
        }
    }

    /// Whether a task that has an outcome has no value.
    fn has_failed(&self, job: JobId, index: u32) -> Option<bool> {
        let queued = self.queue.iter().find_map(|write| match write {
            Write::Record { job: of, run, .. } if *of == job && (run.first..run.end()).contains(&index) => {
                Some(has_failed(index, &(run.attempt, run.body.clone(), run.first)))
            }
            _ => None,
        });
        self.disk.outcome(job, index).map(|outcome| has_failed(index, outcome)).or(queued)
    }
}

impl Disk {
    pub(super) fn outcome(&self, job: JobId, index: u32) -> Option<&(u32, RunBody, u32)> {
        self.jobs.get(&job)?.outcomes.get(&index)
    }

    fn apply(&mut self, write: Write) -> Option<Told> {
        match write {
            Write::Keep(keep) => {
                let job = keep.job;
                Some(Told::Kept { job, outcome: self.keep(keep) })
            }
            Write::Record { job, run, reply } => {
                if let Some(stored) = self.jobs.get_mut(&job) {
                    for index in run.first..run.end().min(stored.submitted) {
                        // The first outcome stands.
                        if let Entry::Vacant(entry) = stored.outcomes.entry(index) {
                            entry.insert((run.attempt, run.body.clone(), run.first));
                            stored.ran.extend(run.engine.map(|engine| (index, engine)));
                        }
                    }
                }
                Some(Told::Recorded { job, run, reply })
            }
            Write::Losses { job, first, count, losses } => {
                if let Some(stored) = self.jobs.get_mut(&job) {
                    stored.losses.extend((first..first + count).map(|index| (index, losses)));
                }
                None
            }
            Write::Engines { next, joined, left } => {
                self.next_engine = self.next_engine.max(next);
                left.iter().for_each(|id| {
                    self.engines.remove(id);
                });
                self.engines.extend(joined);
                None
            }
            Write::Released { job, engines } => {
                self.jobs.entry(job).and_modify(|stored| (stored.released, stored.engines) = (true, engines));
                None
            }
            Write::Locate { ticket, question } => {
                let located = self.jobs.get(&question.of).map(|stored| stored.located(&question)).unwrap_or_default();
                Some(Told::Located { ticket, located })
            }
            Write::Count { ticket, of, first, count } => {
                Some(Told::Counted { ticket, known: self.jobs.get(&of).map(|stored| stored.known(first, count)) })
            }
            Write::Settle(settled) => Some(Told::Settled(settled)),
        }
    }

    fn keep(&mut self, keep: KeepRun) -> Result<(), String> {
        let KeepRun { job, open, first, arguments, closed } = keep;
        let stored = match (self.jobs.entry(job), open) {
            (Entry::Occupied(entry), _) => entry.into_mut(),
            (Entry::Vacant(_), None) => return Err("it is not in the store".into()),
            (Entry::Vacant(entry), Some((owner, header))) => {
                self.order.push(job);
                let (runs, outcomes, losses, ran) = Default::default();
                let (submitted, closed, released, engines) = (0, false, false, None);
                entry.insert(Stored { owner, header, runs, submitted, closed, outcomes, losses, released, engines, ran })
            }
        };
        if first == stored.submitted && !stored.has_ended() {
            stored.submitted += arguments.len() as u32;
            if !arguments.is_empty() {
                stored.runs.push((first, arguments));
            }
        } else {
            assert!(first + arguments.len() as u32 <= stored.submitted, "a run of job {job} does not follow the one before");
        }
        stored.closed |= closed;
        Ok(())
    }
}

/// Whether an outcome, of which it is known where its run began, is no value.
fn has_failed(index: u32, (_, body, first): &(u32, RunBody, u32)) -> bool {
    match body {
        RunBody::Ended(_) => true,
        RunBody::Ran(outcomes) => outcomes.failure(index - first).is_some(),
    }
}

fn restored(id: JobId, job: &Stored) -> RestoredJob {
    let mut pending: Vec<PendingTasks> = Vec::new();
    for first in (0..job.submitted).filter(|index| !job.outcomes.contains_key(index)) {
        let losses = job.losses(first);
        match pending.last_mut() {
            Some(last) if last.first + last.count == first && last.losses == losses => last.count += 1,
            _ => pending.push(PendingTasks { first, count: 1, losses }),
        }
    }
    let is_pending = |first: u32, count: u32| (first..first + count).any(|index| !job.outcomes.contains_key(&index));
    let arguments = job.runs.iter().filter(|(first, run)| is_pending(*first, run.len() as u32)).cloned().collect();
    let (owner, header) = (job.owner.clone(), job.header.clone());
    let failed = job.outcomes.iter().filter(|(index, outcome)| has_failed(**index, outcome)).count() as u32;
    let (submitted, closed, released, engines) = (job.submitted, job.closed, job.released, job.engines.clone());
    RestoredJob { id, owner, header, submitted, failed, closed, released, engines, waited: Vec::new(), pending, arguments }
}
