//! The memory backend: jobs and their outcomes, in runs of consecutive tasks. Pure.
//!
//! What no client has taken yet is never dropped. What one has taken stays until it is pushed out by newer results.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::status::StatusCounts;
use crate::task::JobId;
use crate::wire::{JobCounts, Run, RunBody};

/// What a store keeps of results that a client has taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// How many bytes of taken results; the oldest go first.
    pub taken_bytes_max: usize,
    /// How many ended jobs, with nothing left to be taken; the oldest go first.
    pub ended_jobs_max: usize,
}

impl Default for Retention {
    fn default() -> Self {
        // Enough for a client to come back to its last results, little beside what a controller may use.
        Self { taken_bytes_max: 64 << 20, ended_jobs_max: 20_000 }
    }
}

/// How many times of submission a job keeps. A job submitted in more runs keeps every second one, and its tasks seem
/// to have been submitted a little earlier than they were.
const SUBMISSIONS_MAX: usize = 1024;

/// Fixed costs of a run in memory, in bytes, beside its outcomes.
const RUN_BYTES: usize = 200;

/// The state of one result store.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    retention: Retention,
    jobs: HashMap<JobId, Job>,
    /// Runs that a client has taken, oldest first, and their bytes.
    taken: VecDeque<(JobId, u32, usize)>,
    taken_bytes: usize,
    kept_bytes: usize,
    ended: VecDeque<JobId>,
}

#[derive(Debug, Default)]
struct Job {
    owner: String,
    counts: JobCounts,
    /// No more tasks will be submitted.
    closed: bool,
    /// First index and time of runs submitted together.
    submissions: BTreeMap<u32, u64>,
    runs: BTreeMap<u32, Kept>,
    evicted: u32,
}

#[derive(Debug)]
struct Kept {
    run: Run,
    bytes: usize,
    taken: bool,
}

impl Memory {
    pub fn new(retention: Retention) -> Self {
        Self { retention, ..Self::default() }
    }

    /// A new job of that owner. Does nothing when it is there already.
    pub fn open(&mut self, job: JobId, owner: &str) {
        self.jobs.entry(job).or_insert_with(|| Job { owner: owner.to_owned(), ..Job::default() });
    }

    /// `count` more tasks were submitted.
    pub fn extend(&mut self, job: JobId, count: u32, now_us: u64) {
        let Some(job) = self.jobs.get_mut(&job) else { return };
        if count > 0 {
            job.submissions.insert(job.counts.submitted, now_us);
            job.counts.submitted += count;
        }
        if job.submissions.len() > SUBMISSIONS_MAX {
            let mut keep = false;
            job.submissions.retain(|first, _| {
                keep = !keep;
                keep || *first == 0
            });
        }
    }

    /// No more tasks will be submitted.
    pub fn close(&mut self, job: JobId) {
        if let Some(record) = self.jobs.get_mut(&job) {
            record.closed = true;
            self.note_end(job);
        }
    }

    /// Records the outcomes of a run, and gives it back with the time of its submission, for those who wait for it.
    /// `None` when the job is not here, or a task of it has an outcome already: the first one stands.
    pub fn record(&mut self, job: JobId, mut run: Run) -> Option<(&Run, JobCounts)> {
        let record = self.jobs.get_mut(&job)?;
        let overlaps = record
            .runs
            .range(..run.first + run.count)
            .next_back()
            .is_some_and(|(first, kept)| first + kept.run.count > run.first);
        if overlaps || run.count == 0 {
            return None;
        }
        run.submitted_us = record.submissions.range(..=run.first).next_back().map_or(0, |(_, at)| *at);
        record.counts.done += run.count;
        record.counts.failed += failures(&run, 0, run.count);
        let bytes = RUN_BYTES + run_bytes(&run);
        self.kept_bytes += bytes;
        let first = run.first;
        record.runs.insert(first, Kept { run, bytes, taken: false });
        self.note_end(job);
        let record = self.jobs.get(&job)?;
        Some((&record.runs.get(&first)?.run, record.counts))
    }

    /// A client has taken the run that starts at `first`: it may be dropped when room is needed.
    pub fn take(&mut self, job: JobId, first: u32) {
        let Some(record) = self.jobs.get_mut(&job) else { return };
        let Some(kept) = record.runs.get_mut(&first).filter(|kept| !kept.taken) else { return };
        kept.taken = true;
        self.taken_bytes += kept.bytes;
        self.taken.push_back((job, first, kept.bytes));
        while self.taken_bytes > self.retention.taken_bytes_max {
            let Some((job, first, bytes)) = self.taken.pop_front() else { break };
            self.taken_bytes -= bytes;
            self.evict(job, first);
        }
    }

    /// The run that starts at `first`, if it is kept.
    pub fn run(&self, job: JobId, first: u32) -> Option<&Run> {
        Some(&self.jobs.get(&job)?.runs.get(&first)?.run)
    }

    /// The starts of the kept runs that lie within, or overlap, `first..first + count`.
    pub fn runs_within(&self, job: JobId, first: u32, count: u32) -> impl Iterator<Item = u32> {
        let end = first.saturating_add(count);
        let runs = self.jobs.get(&job).map(|job| &job.runs);
        let before = runs.and_then(|runs| runs.range(..first).next_back());
        let before = before.filter(move |(start, kept)| **start + kept.run.count > first);
        let within = runs.into_iter().flat_map(move |runs| runs.range(first..end.max(first)));
        before.into_iter().chain(within).map(|(start, _)| *start)
    }

    /// Who submitted the job, and how far it is.
    pub fn job(&self, job: JobId) -> Option<(&str, JobCounts)> {
        self.jobs.get(&job).map(|job| (job.owner.as_str(), job.counts))
    }

    /// Whether every task of the job has an outcome and no more will come. True for a job that is not here.
    pub fn has_ended(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_none_or(Job::has_ended)
    }

    /// Those tasks of `first..first + count` that have ended but whose outcomes have been dropped.
    pub fn evicted_within(&self, job: JobId, first: u32, count: u32) -> Vec<(u32, u32)> {
        let Some(record) = self.jobs.get(&job).filter(|job| job.evicted > 0) else { return Vec::new() };
        // Evicted tasks are exactly those below the submitted ones that are neither kept nor still to come; with all
        // done they are the gaps, and before that the gaps below the first task that was never recorded are not known
        // apart from waiting ones. Runs are recorded roughly in order, so only a finished job reports its gaps.
        if record.counts.done < record.counts.submitted {
            return Vec::new();
        }
        let end = first.saturating_add(count).min(record.counts.submitted);
        let mut gaps = Vec::new();
        let mut next = first;
        for start in self.runs_within(job, first, count) {
            if start > next {
                gaps.push((next, start - next));
            }
            next = next.max(start + record.runs.get(&start).map_or(0, |kept| kept.run.count));
        }
        if next < end {
            gaps.push((next, end - next));
        }
        gaps
    }

    /// How many of those tasks are in which state. Running ones count as pending; the scheduler knows which those are.
    pub fn status(&self, job: JobId, first: u32, count: u32) -> StatusCounts {
        let mut status = StatusCounts { total: u64::from(count), ..StatusCounts::default() };
        let Some(record) = self.jobs.get(&job) else {
            status.unknown = u64::from(count);
            return status;
        };
        let end = first.saturating_add(count);
        let known_end = end.min(record.counts.submitted).max(first);
        status.unknown = u64::from(end - known_end);
        let (mut done, mut failed) = (0, 0);
        for start in self.runs_within(job, first, known_end - first) {
            let Some(kept) = record.runs.get(&start) else { continue };
            let (from, to) = (start.max(first), (start + kept.run.count).min(known_end));
            done += to - from;
            failed += failures(&kept.run, from - start, to - from);
        }
        let evicted: u32 = self.evicted_within(job, first, known_end - first).iter().map(|(_, count)| count).sum();
        status.evicted = u64::from(evicted);
        status.failed = u64::from(failed);
        status.succeeded = u64::from(done - failed);
        status.pending = u64::from(known_end - first - done - evicted);
        status
    }

    /// The bytes of all kept results, and the number of jobs.
    pub fn size(&self) -> (usize, usize) {
        (self.kept_bytes, self.jobs.len())
    }

    fn evict(&mut self, job: JobId, first: u32) {
        let Some(record) = self.jobs.get_mut(&job) else { return };
        if let Some(kept) = record.runs.remove(&first) {
            record.evicted += kept.run.count;
            self.kept_bytes -= kept.bytes;
        }
    }

    /// Remembers an ended job, and forgets the oldest ones beyond the bound that have nothing left to be taken.
    fn note_end(&mut self, job: JobId) {
        let ended = self.jobs.get(&job).is_some_and(Job::has_ended);
        if ended {
            self.ended.push_back(job);
        }
        while self.ended.len() > self.retention.ended_jobs_max {
            let Some(oldest) = self.ended.pop_front() else { break };
            let untaken = self.jobs.get(&oldest).is_some_and(|job| job.runs.values().any(|kept| !kept.taken));
            if untaken {
                // Never dropped before it is taken; looked at again when it is the oldest once more.
                self.ended.push_back(oldest);
                break;
            }
            if let Some(record) = self.jobs.remove(&oldest) {
                self.kept_bytes -= record.runs.values().map(|kept| kept.bytes).sum::<usize>();
            }
        }
    }

    /// Panics when the state contradicts itself. For tests.
    #[cfg(test)]
    pub fn check_invariants(&self) {
        let mut kept_bytes = 0;
        for (id, job) in &self.jobs {
            let mut next = 0;
            let (mut done, mut failed) = (job.evicted, 0);
            for (first, kept) in &job.runs {
                assert!(*first >= next, "runs of {id} overlap at {first}");
                next = first + kept.run.count;
                done += kept.run.count;
                failed += failures(&kept.run, 0, kept.run.count);
                kept_bytes += kept.bytes;
            }
            assert!(next <= job.counts.submitted, "{id} has an outcome for a task that was never submitted");
            assert_eq!(done, job.counts.done, "{id}");
            assert!(failed <= job.counts.failed, "{id}");
            assert!(job.submissions.len() <= SUBMISSIONS_MAX);
        }
        assert_eq!(kept_bytes, self.kept_bytes);
        assert!(self.taken_bytes <= self.retention.taken_bytes_max);
    }
}

impl Job {
    fn has_ended(&self) -> bool {
        self.closed && self.counts.done == self.counts.submitted
    }
}

/// How many of `count` tasks from `offset` on have no value.
fn failures(run: &Run, offset: u32, count: u32) -> u32 {
    match &run.body {
        RunBody::Ended(_) => count,
        RunBody::Ran(outcomes) => {
            let within = outcomes.failures.iter().filter(|(at, _)| (offset..offset + count).contains(at));
            // At most `count`, which is a u32.
            within.count() as u32
        }
    }
}

pub(super) fn run_bytes(run: &Run) -> usize {
    match &run.body {
        RunBody::Ran(outcomes) => outcomes.bytes(),
        RunBody::Ended(_) => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Cause, EngineId, Outcomes, PackedBuilder, Timing};

    const JOB: JobId = JobId::from_u128(7);

    fn ran(first: u32, count: u32, failed: &[u32]) -> Run {
        let mut values = PackedBuilder::default();
        (0..count).for_each(|_| values.push(&[0; 100]));
        let outcomes = Outcomes {
            values: values.build(),
            timings: vec![Timing::default(); count as usize],
            failures: failed.iter().map(|at| (*at, Cause::Aborted)).collect(),
            ..Outcomes::default()
        };
        Run { first, count, engine: Some(EngineId(0)), attempt: 1, submitted_us: 0, body: RunBody::Ran(outcomes) }
    }

    fn store(tasks: u32) -> Memory {
        let mut memory = Memory::new(Retention { taken_bytes_max: 2_000, ended_jobs_max: 2 });
        memory.open(JOB, "ada");
        memory.extend(JOB, tasks, 5);
        memory
    }

    #[test]
    fn the_first_outcome_of_a_task_stands() {
        let mut memory = store(10);
        assert!(memory.record(JOB, ran(2, 3, &[])).is_some());
        for (first, count) in [(2, 3), (0, 3), (4, 1), (3, 5), (0, 10)] {
            assert!(memory.record(JOB, ran(first, count, &[])).is_none(), "{first}+{count}");
        }
        assert!(memory.record(JOB, ran(5, 5, &[0])).is_some());
        assert_eq!(memory.job(JOB), Some(("ada", JobCounts { submitted: 10, done: 8, failed: 1 })));
        memory.check_invariants();
    }

    #[test]
    fn status_counts_parts_of_runs() {
        let mut memory = store(10);
        memory.record(JOB, ran(2, 4, &[1, 2]));
        let status = memory.status(JOB, 1, 3);
        assert_eq!((status.pending, status.succeeded, status.failed, status.unknown), (1, 1, 1, 0));
        let status = memory.status(JOB, 8, 5);
        assert_eq!((status.pending, status.unknown, status.total), (2, 3, 5));
        assert_eq!(memory.status(JobId::from_u128(8), 0, 4).unknown, 4);
    }

    #[test]
    fn only_taken_results_make_room_and_say_so() {
        let mut memory = store(100);
        for first in (0..100).step_by(5) {
            memory.record(JOB, ran(first, 5, &[]));
            memory.check_invariants();
        }
        assert_eq!(memory.status(JOB, 0, 100).succeeded, 100, "nothing was taken, nothing is dropped");
        for first in (0..50).step_by(5) {
            memory.take(JOB, first);
            memory.check_invariants();
        }
        let status = memory.status(JOB, 0, 100);
        assert_eq!(status.evicted + status.succeeded, 100);
        assert!(status.evicted >= 30, "{status:?}");
        assert_eq!(memory.evicted_within(JOB, 0, 100), [(0, status.evicted as u32)]);
        assert_eq!(memory.status(JOB, 50, 50).succeeded, 50);
    }

    #[test]
    fn many_submissions_keep_bounded_times() {
        let mut memory = store(0);
        for at in 0..10_000 {
            memory.extend(JOB, 1, at);
        }
        memory.check_invariants();
        let (run, _) = memory.record(JOB, ran(9_999, 1, &[])).expect("it was submitted");
        assert!(run.submitted_us > 9_000);
    }

    #[test]
    fn ended_jobs_are_forgotten_once_taken() {
        let mut memory = store(0);
        for number in 10..20 {
            let job = JobId::from_u128(number);
            memory.open(job, "ada");
            memory.extend(job, 1, 0);
            memory.record(job, ran(0, 1, &[]));
            memory.take(job, 0);
            memory.close(job);
            memory.check_invariants();
        }
        assert_eq!(memory.size().1, 3, "the two newest, and the one that has not ended");
    }
}
