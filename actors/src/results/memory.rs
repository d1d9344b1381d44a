//! The memory backend: jobs and their outcomes, in runs of consecutive tasks. Pure.
//!
//! What a client has taken stays until it is pushed out by newer results. What no client has taken is dropped only when the
//! controller would run out of memory otherwise. What was dropped says so.

mod requests;

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::backend::Viewer;
use crate::status::StatusCounts;
use crate::task::{JobId, Ranges};
use crate::wire::{JobCounts, Run, SHARDS};

/// What a store in memory keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryLimits {
    /// How many bytes of results that a client has taken; the oldest go first.
    pub taken_bytes_max: usize,
    /// How many bytes of results that no client has taken; the oldest go first. This is memory that programs asked for and
    /// did not come back for; without a bound they would bring the controller down, and everybody's results with it.
    pub untaken_bytes_max: usize,
    /// How many ended jobs, with nothing left to be taken; the oldest go first.
    pub ended_jobs_max: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        // Enough for a client to come back to its last results, little beside what a controller may use.
        Self { taken_bytes_max: 32 << 20, untaken_bytes_max: 2 << 30, ended_jobs_max: 20_000 }
    }
}

/// How many times of submission a job keeps. A job submitted in more runs keeps every second one, and its tasks seem
/// to have been submitted a little earlier than they were.
const SUBMISSIONS_MAX: usize = 1024;

/// The state of one result store.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    retention: MemoryLimits,
    jobs: HashMap<JobId, Job>,
    /// Runs that a client has taken, oldest first, and their bytes.
    taken: Line,
    taken_bytes: usize,
    /// All runs in the order of their coming, among them some that are taken or gone.
    untaken: Line,
    untaken_bytes: usize,
    ended: VecDeque<JobId>,
}

/// Runs in the order in which they are to make room, among them some that are not to any more.
#[derive(Debug, Default)]
struct Line {
    runs: VecDeque<(JobId, u32)>,
    /// With how many it is looked which of them still stand here: twice as many as did the last time, and some.
    swept_at: usize,
}

/// A line is not swept while it has no more runs than these.
const SWEPT_MIN: usize = 1024;

impl Line {
    fn push(&mut self, job: JobId, first: u32, stands: impl Fn(&JobId, u32) -> bool) {
        self.runs.push_back((job, first));
        if self.runs.len() > self.swept_at.max(SWEPT_MIN) {
            self.runs.retain(|(job, first)| stands(job, *first));
            self.swept_at = 2 * self.runs.len();
        }
    }
}

#[derive(Debug, Default)]
struct Job {
    owner: String,
    counts: JobCounts,
    /// No more tasks will be submitted.
    closed: bool,
    /// When it was noticed that it has ended.
    ended_us: Option<u64>,
    /// First index and time of runs submitted together.
    submissions: BTreeMap<u32, u64>,
    runs: BTreeMap<u32, Kept>,
    evicted: Ranges,
}

#[derive(Debug)]
struct Kept {
    run: Run,
    bytes: usize,
    taken: bool,
}

impl Memory {
    pub fn new(retention: MemoryLimits) -> Self {
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
    pub fn record(&mut self, job: JobId, mut run: Run) -> Option<&Run> {
        let record = self.jobs.get_mut(&job)?;
        let (first, end) = (run.first, run.end());
        let before = record.runs.range(..end).next_back();
        let overlaps = before.is_some_and(|(_, kept)| kept.run.end() > first) || record.evicted.covered(first, end) > 0;
        if overlaps || run.count == 0 || end > record.counts.submitted {
            return None;
        }
        run.submitted_us = record.submissions.range(..=first).next_back().map_or(0, |(_, at)| *at);
        record.counts.done += run.count;
        record.counts.failed += run.failed_within(first, end);
        let bytes = run.window_bytes() as usize;
        record.runs.insert(first, Kept { run, bytes, taken: false });
        self.untaken.push(job, first, stands(&self.jobs, false));
        self.untaken_bytes += bytes;
        self.note_end(job);
        self.make_room();
        self.run(job, first)
    }

    /// A client has taken the run that starts at `first`: it may be dropped when room is needed.
    pub fn take(&mut self, job: JobId, first: u32) {
        let Some(record) = self.jobs.get_mut(&job) else { return };
        let Some(kept) = record.runs.get_mut(&first).filter(|kept| !kept.taken) else { return };
        kept.taken = true;
        self.untaken_bytes -= kept.bytes;
        self.taken_bytes += kept.bytes;
        self.taken.push(job, first, stands(&self.jobs, true));
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.taken_bytes > self.retention.taken_bytes_max {
            let Some((job, first)) = self.taken.runs.pop_front() else { break };
            self.evict(job, first);
        }
        // What has been taken since, or is gone, is not looked for among the others until it is their oldest.
        while let Some(&(job, first)) = self.untaken.runs.front() {
            let waits = stands(&self.jobs, false)(&job, first);
            if waits && self.untaken_bytes <= self.retention.untaken_bytes_max {
                break;
            }
            self.untaken.runs.pop_front();
            if waits {
                tracing::warn!(%job, first, "results that nobody has taken are dropped: the store is full");
                self.evict(job, first);
            }
        }
    }

    /// The run that starts at `first`, if it is kept.
    pub fn run(&self, job: JobId, first: u32) -> Option<&Run> {
        Some(&self.jobs.get(&job)?.runs.get(&first)?.run)
    }

    /// The first of `first..end` without an outcome.
    pub fn gap(&self, job: JobId, first: u32, end: u32) -> Option<u32> {
        let record = self.jobs.get(&job)?;
        let mut next = first;
        while next < end {
            let before = next;
            next = record.evicted.first_gap(next, end).unwrap_or(end);
            let runs = record.runs.range(..=next).next_back().into_iter().chain(record.runs.range(next.saturating_add(1)..));
            for (_, kept) in runs {
                if kept.run.first > next {
                    break;
                }
                next = next.max(kept.run.end());
            }
            if next == before {
                return Some(next);
            }
        }
        None
    }

    /// Drops the outcomes `gone` of a run; `rest` is what of it stays.
    pub fn replace(&mut self, job: JobId, first: u32, gone: (u32, u32), rest: Vec<Run>) {
        let Some(record) = self.jobs.get_mut(&job) else { return };
        let Some(old) = record.runs.remove(&first) else { return };
        record.evicted.cover(gone.0, gone.1);
        let taken = old.taken;
        self.uncount(&old);
        for run in rest {
            let (first, bytes) = (run.first, run.window_bytes() as usize);
            if let Some(record) = self.jobs.get_mut(&job) {
                record.runs.insert(first, Kept { run, bytes, taken });
            }
            let (line, total) =
                if taken { (&mut self.taken, &mut self.taken_bytes) } else { (&mut self.untaken, &mut self.untaken_bytes) };
            line.push(job, first, stands(&self.jobs, taken));
            *total += bytes;
        }
    }

    /// Notes the time, if the job has ended.
    pub fn stamp(&mut self, job: JobId, now_us: u64) {
        if let Some(record) = self.jobs.get_mut(&job).filter(|record| record.ended_us.is_none() && record.has_ended()) {
            record.ended_us = Some(now_us);
        }
    }

    /// The jobs of an owner and a shard that ended before that time.
    pub fn ended_before(&self, viewer: &Viewer, shard: u32, before_us: u64) -> Vec<JobId> {
        let is_due = |job: &Job| viewer.sees(&job.owner) && job.ended_us.is_some_and(|at| at < before_us);
        let due = self.jobs.iter().filter(|(id, job)| id.shard(SHARDS) == shard as usize && is_due(job));
        due.map(|(id, _)| *id).collect()
    }

    /// The starts of the kept runs that lie within, or overlap, `first..first + count`.
    pub fn runs_within(&self, job: JobId, first: u32, count: u32) -> impl Iterator<Item = u32> {
        self.kept_within(job, first, first.saturating_add(count)).map(|kept| kept.run.first)
    }

    fn kept_within(&self, job: JobId, first: u32, end: u32) -> impl Iterator<Item = &Kept> {
        let runs = self.jobs.get(&job).map(|job| &job.runs);
        let before = runs.and_then(|runs| runs.range(..first).next_back());
        let before = before.filter(move |(_, kept)| kept.run.end() > first);
        let within = runs.into_iter().flat_map(move |runs| runs.range(first..end.max(first)));
        before.into_iter().chain(within).map(|(_, kept)| kept)
    }

    /// Who submitted the job, and how far it is.
    pub fn job(&self, job: JobId) -> Option<(&str, JobCounts)> {
        self.jobs.get(&job).map(|job| (job.owner.as_str(), job.counts))
    }

    /// Whether every task of the job has an outcome and no more will come. True for a job that is not here.
    pub fn has_ended(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_none_or(Job::has_ended)
    }

    /// Those tasks of `first..first + count` whose outcomes have been dropped, as start and count.
    pub fn evicted_within(&self, job: JobId, first: u32, count: u32) -> Vec<(u32, u32)> {
        let Some(record) = self.jobs.get(&job) else { return Vec::new() };
        let evicted = record.evicted.within(first, first.saturating_add(count));
        evicted.map(|(start, stop)| (start, stop - start)).collect()
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
        for kept in self.kept_within(job, first, known_end) {
            done += kept.run.end().min(known_end) - kept.run.first.max(first);
            failed += kept.run.failed_within(first, known_end);
        }
        let evicted = record.evicted.covered(first, known_end);
        status.evicted = u64::from(evicted);
        status.failed = u64::from(failed);
        status.succeeded = u64::from(done - failed);
        status.pending = u64::from(known_end - first - done - evicted);
        status
    }

    /// The bytes of all kept results, and the number of jobs.
    pub fn size(&self) -> (usize, usize) {
        (self.taken_bytes + self.untaken_bytes, self.jobs.len())
    }

    fn evict(&mut self, job: JobId, first: u32) {
        let Some(record) = self.jobs.get_mut(&job) else { return };
        if let Some(kept) = record.runs.remove(&first) {
            record.evicted.cover(first, kept.run.end());
            self.uncount(&kept);
        }
    }

    fn uncount(&mut self, kept: &Kept) {
        let bytes = if kept.taken { &mut self.taken_bytes } else { &mut self.untaken_bytes };
        *bytes -= kept.bytes;
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
                record.runs.values().for_each(|kept| self.uncount(kept));
            }
        }
    }

    /// Panics when the state contradicts itself. For tests.
    #[cfg(test)]
    pub fn check_invariants(&self) {
        let (mut taken_bytes, mut untaken_bytes) = (0, 0);
        for (id, job) in &self.jobs {
            let mut next = 0;
            let (mut done, mut failed) = (job.evicted.covered(0, u32::MAX), 0);
            for (first, kept) in &job.runs {
                assert!(*first >= next, "runs of {id} overlap at {first}");
                next = kept.run.end();
                assert_eq!(job.evicted.covered(*first, next), 0, "{id}");
                done += kept.run.count;
                failed += kept.run.failed_within(*first, next);
                *(if kept.taken { &mut taken_bytes } else { &mut untaken_bytes }) += kept.bytes;
            }
            assert!(next <= job.counts.submitted, "{id} has an outcome for a task that was never submitted");
            assert_eq!(done, job.counts.done, "{id}");
            assert!(failed <= job.counts.failed, "{id}");
            assert!(job.submissions.len() <= SUBMISSIONS_MAX);
        }
        assert_eq!((taken_bytes, untaken_bytes), (self.taken_bytes, self.untaken_bytes));
        assert!(self.taken_bytes <= self.retention.taken_bytes_max);
        assert!(self.untaken_bytes <= self.retention.untaken_bytes_max);
    }
}

/// Whether a run is there, and taken or not.
fn stands(jobs: &HashMap<JobId, Job>, taken: bool) -> impl Fn(&JobId, u32) -> bool {
    move |job, first| jobs.get(job).and_then(|job| job.runs.get(&first)).is_some_and(|kept| kept.taken == taken)
}

impl Job {
    fn has_ended(&self) -> bool {
        self.closed && self.counts.done == self.counts.submitted
    }
}

#[cfg(test)]
mod tests;
