//! Jobs that wait for tasks of other jobs: until these have ended as they should, theirs are queued and sent to nobody.
//!
//! A job that waits stands with each job that it waits for, as long as that is here: once if it waits for the whole job, whatever
//! the number of tasks, and once for each run of tasks otherwise. What became of tasks before is asked of the store, and what
//! comes after the question is counted here. So no outcome is kept here, and none is missed: commands are carried out in order.
//! What is decided waits until the outcomes are on disk that decided it: those of tasks that run again after a restart may differ.

use std::collections::BTreeSet;

use super::{
    Command, Time,
    core::Scheduler,
    dependency::{Counts, Stage, Verdict, Wait},
    job::Job,
    slab::Key,
};
use crate::task::{Cause, JobId, TaskOptions};

/// Whether tasks of a job may be given out.
#[derive(Debug)]
pub(crate) enum Gate {
    Open,
    /// Not yet.
    Waiting(Box<Wait>),
    /// Never: all of them end with this.
    Shut(Box<Cause>),
}

/// Which of consecutive tasks that have ended have no value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failed<'a> {
    All,
    /// Those at these offsets from the first, ascending.
    At(&'a [u32]),
}

impl Failed<'_> {
    /// How many there are from one offset to another. However many tasks and dependents there are, this costs next to nothing.
    fn within(self, low: u32, high: u32) -> u32 {
        match self {
            Failed::All => high - low,
            // No more than there are tasks.
            Failed::At(offsets) => (offsets.partition_point(|at| *at < high) - offsets.partition_point(|at| *at < low)) as u32,
        }
    }
}

/// Which jobs wait for a job: themselves, and which of their items is about it.
#[derive(Debug, Default)]
pub(crate) struct Dependents {
    whole: BTreeSet<(Key<Job>, usize)>,
    /// First and end of the run that is waited for.
    runs: BTreeSet<(u32, u32, Key<Job>, usize)>,
    /// The length of the longest one ever: how far before a task a run with that task may begin.
    longest: u32,
    /// Whether those who wait for the whole were told of a value, and of a failure.
    told: (bool, bool),
}

/// A question to the store, so that an answer to a job of the same id that was opened before is not taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) job: JobId,
    pub(crate) seq: u64,
    pub(crate) item: usize,
}

/// What the store knows of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// How many tasks the job has so far.
    pub submitted: u32,
    /// Whether all of them have ended and there will be no more.
    pub ended: bool,
    /// Of those that were asked about: with a value.
    pub succeeded: u32,
    /// Without one.
    pub failed: u32,
    /// With an outcome that was dropped since.
    pub dropped: u32,
}

impl Dependents {
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = (Key<Job>, usize)> {
        self.whole.iter().copied().chain(self.runs.iter().map(|(_, _, key, item)| (*key, *item)))
    }
}

impl Gate {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Gate::Open)
    }
}

impl Scheduler {
    /// A job that was entered waits for tasks of others.
    pub(super) fn make_wait(&mut self, key: Key<Job>, options: &TaskOptions) {
        let wait = Wait::new(options);
        let (id, seq) = (self.jobs[key].id, self.jobs[key].seq);
        for (item, waited) in wait.items.iter().enumerate() {
            let (of, first, end) = (waited.job, waited.first, waited.end);
            if let Some(on) = self.job_keys.get(&of) {
                let dependents = self.jobs[*on].dependents.get_or_insert_default();
                if waited.is_whole() {
                    dependents.whole.insert((key, item));
                } else {
                    dependents.longest = dependents.longest.max(end - first);
                    dependents.runs.insert((first, end, key, item));
                }
            }
            self.out.push(Command::Count { ticket: Ticket { job: id, seq, item }, of, first, count: end - first });
        }
        if wait.items.is_empty() {
            self.touched.push(id);
        }
        self.jobs[key].gate = Gate::Waiting(Box::new(wait));
    }

    /// The store answers a [`Command::Count`]: what it knew of these tasks when it was asked. `None` if it does not know the job, or
    /// the job is another owner's.
    pub fn counted(&mut self, now: Time, ticket: Ticket, known: Option<Known>) {
        self.advance(now);
        let Some(key) = self.job_keys.get(&ticket.job).copied().filter(|key| self.jobs[*key].seq == ticket.seq) else { return };
        let Gate::Waiting(wait) = &mut self.jobs[key].gate else { return };
        let Some(item) = wait.items.get_mut(ticket.item).filter(|item| !item.answered) else { return };
        item.answered = true;
        let (of, whole) = (item.job, item.is_whole());
        let counts = &mut item.counts;
        match known {
            None => {
                let of = (of, item.first, item.end);
                let tasks = counts.tasks.filter(|_| !whole).unwrap_or(1);
                *counts = Counts { tasks: Some(tasks), missing: tasks, ..Counts::default() };
                self.stand_no_longer(of, key, ticket.item);
            }
            // It has ended meanwhile, with these counts.
            Some(_) if whole && counts.tasks.is_some() => {}
            Some(known) if whole => {
                let tasks = known.ended.then_some(known.submitted);
                *counts = Counts { tasks, succeeded: known.succeeded, failed: known.failed, dropped: known.dropped, missing: 0 };
            }
            Some(known) => {
                counts.succeeded += known.succeeded;
                counts.failed += known.failed;
                counts.dropped += known.dropped;
                if known.ended {
                    counts.missing = item.end - known.submitted.clamp(item.first, item.end);
                }
            }
        }
        if whole {
            self.count_whole(key, ticket.item, of);
        }
        self.touched.push(ticket.job);
    }

    /// Whether a job waits for tasks of others, so that its own do not run.
    pub fn waits_for_others(&self, job: JobId) -> bool {
        self.job_keys.get(&job).is_some_and(|key| matches!(self.jobs[*key].gate, Gate::Waiting(_)))
    }

    /// Tasks of a job that others wait for have ended, some or all of them without a value.
    pub(super) fn tell_dependents(&mut self, key: Key<Job>, (first, count): (u32, u32), failed: Failed<'_>) {
        let job = &self.jobs[key];
        let now = (job.done - job.failed > 0, job.failed > 0);
        let job = &mut self.jobs[key];
        let Some(dependents) = &mut job.dependents else { return };
        let end = first + count;
        let from = (first.saturating_sub(dependents.longest), 0, Key::FIRST, 0);
        let met: Vec<_> = dependents.runs.range(from..(end, 0, Key::FIRST, 0)).filter(|run| run.1 > first).copied().collect();
        // Whoever waits for a whole job can tell nothing from a second value, or a second failure.
        let news = std::mem::replace(&mut dependents.told, now) != now;
        let whole: Vec<_> = if news { dependents.whole.iter().copied().collect() } else { Vec::new() };
        let id = job.id;
        for (start, stop, waiting, item) in met {
            let (low, high) = (start.max(first), stop.min(end));
            let within = failed.within(low - first, high - first);
            if let Gate::Waiting(wait) = &mut self.jobs[waiting].gate {
                let counts = &mut wait.items[item].counts;
                counts.failed += within;
                counts.succeeded += high - low - within;
            }
            self.touched.push(self.jobs[waiting].id);
        }
        for (waiting, item) in whole {
            self.count_whole(waiting, item, id);
            self.touched.push(self.jobs[waiting].id);
        }
    }

    /// A job that is about to be forgotten has ended.
    pub(super) fn tell_end(&mut self, job: &Job) {
        let Some(dependents) = &job.dependents else { return };
        for &(waiting, item) in &dependents.whole {
            if let Gate::Waiting(wait) = &mut self.jobs[waiting].gate {
                let (succeeded, failed) = (job.done - job.failed, job.failed);
                wait.items[item].counts = Counts { tasks: Some(job.total), succeeded, failed, dropped: 0, missing: 0 };
            }
            self.touched.push(self.jobs[waiting].id);
        }
        for &(first, end, waiting, item) in &dependents.runs {
            if let Gate::Waiting(wait) = &mut self.jobs[waiting].gate {
                wait.items[item].counts.missing = end - job.total.clamp(first, end);
            }
            self.touched.push(self.jobs[waiting].id);
        }
    }

    /// Finds out for which jobs it is decided what becomes of them, now that something has ended that they wait for.
    pub(super) fn judge_touched(&mut self) {
        // One that waits for many tasks of a batch has been touched by each.
        self.touched.sort_unstable();
        self.touched.dedup();
        while let Some(id) = self.touched.pop() {
            let Some(job) = self.job_keys.get(&id).map(|key| &mut self.jobs[*key]) else { continue };
            let Gate::Waiting(wait) = &mut job.gate else { continue };
            if wait.stage == Stage::Undecided && wait.verdict() != Verdict::Undecided {
                wait.stage = Stage::Decided;
                self.out.push(Command::Confirm { ticket: Ticket { job: id, seq: job.seq, item: 0 } });
            }
        }
    }

    /// Everything is kept that decided what becomes of a job: no restart will decide otherwise. Now its tasks are given out, or end.
    pub fn confirmed(&mut self, now: Time, ticket: Ticket) {
        self.advance(now);
        let Some(key) = self.job_keys.get(&ticket.job).copied().filter(|key| self.jobs[*key].seq == ticket.seq) else { return };
        let Gate::Waiting(wait) = &mut self.jobs[key].gate else { return };
        match std::mem::replace(&mut wait.stage, Stage::Locating) {
            Stage::Located(engines) => {
                self.bind(key, engines);
                return self.open_gate(key);
            }
            Stage::Decided => {}
            other => return wait.stage = other,
        }
        match wait.verdict() {
            Verdict::Undecided => wait.stage = Stage::Undecided,
            Verdict::Met if wait.follows() => self.locate(key),
            Verdict::Met => {
                self.out.push(Command::Released { job: ticket.job, engines: None });
                self.open_gate(key);
            }
            Verdict::Hopeless(cause) => self.shut_gate(key, cause),
        }
    }

    /// A job waits no longer: it is taken from those that it waited for.
    pub(super) fn wait_no_longer(&mut self, key: Key<Job>, gate: &Gate) {
        let Gate::Waiting(wait) = gate else { return };
        for (item, waited) in wait.items.iter().enumerate() {
            self.stand_no_longer((waited.job, waited.first, waited.end), key, item);
        }
    }

    fn stand_no_longer(&mut self, (of, first, end): (JobId, u32, u32), waiting: Key<Job>, item: usize) {
        let Some(on) = self.job_keys.get(&of) else { return };
        let job = &mut self.jobs[*on];
        let Some(dependents) = &mut job.dependents else { return };
        dependents.whole.remove(&(waiting, item));
        dependents.runs.remove(&(first, end, waiting, item));
        if dependents.whole.is_empty() && dependents.runs.is_empty() {
            job.dependents = None;
        }
    }

    /// Where the queued tasks of a job are counted: among those that compete for engines, or not.
    pub(super) fn queued_of(&mut self, key: Key<Job>) -> &mut u64 {
        let job = &self.jobs[key];
        let client = &mut self.clients[job.client];
        if job.gate.is_open() { &mut client.queued } else { &mut client.held }
    }

    /// A whole job that is still here says itself how far it is.
    fn count_whole(&mut self, waiting: Key<Job>, item: usize, of: JobId) {
        let Some(job) = self.job_keys.get(&of).map(|key| &self.jobs[*key]) else { return };
        let (succeeded, failed) = (job.done - job.failed, job.failed);
        if let Gate::Waiting(wait) = &mut self.jobs[waiting].gate
            && wait.items[item].counts.missing == 0
        {
            wait.items[item].counts = Counts { tasks: None, succeeded, failed, dropped: 0, missing: 0 };
        }
    }

    fn open_gate(&mut self, key: Key<Job>) {
        self.pass_gate(key, Gate::Open);
        for part in 0..self.jobs[key].parts.len() {
            let job = &self.jobs[key];
            if job.parts[part].pending.is_empty() {
                continue;
            }
            match job.parts[part].pin.and_then(|engine| self.pin_refusal(engine, job.class)) {
                Some(cause) => self.settle_part(key, part, &cause),
                None => {
                    self.list(key, part);
                    self.pump(key, part);
                }
            }
        }
        self.finish_if_done(key);
    }

    pub(super) fn shut_gate(&mut self, key: Key<Job>, cause: Cause) {
        self.pass_gate(key, Gate::Shut(Box::new(cause.clone())));
        for part in 0..self.jobs[key].parts.len() {
            self.settle_part(key, part, &cause);
        }
        self.finish_if_done(key);
    }

    /// A job waits no longer. Its queued tasks are counted where they belong now.
    fn pass_gate(&mut self, key: Key<Job>, gate: Gate) {
        let queued = u64::from(self.jobs[key].queued);
        *self.queued_of(key) -= queued;
        let before = std::mem::replace(&mut self.jobs[key].gate, gate);
        *self.queued_of(key) += queued;
        self.wait_no_longer(key, &before);
    }
}

#[cfg(test)]
mod tests {
    use super::Failed;

    #[test]
    fn failures_are_counted_as_if_each_was_looked_at() {
        let offsets = [0, 3, 4, 9];
        for low in 0..=10 {
            for high in low..=10 {
                let each = offsets.iter().filter(|at| (low..high).contains(*at)).count();
                assert_eq!(Failed::At(&offsets).within(low, high) as usize, each, "{low} {high}");
                assert_eq!(Failed::All.within(low, high), high - low);
            }
        }
    }
}
