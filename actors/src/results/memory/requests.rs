//! The memory backend's answers to what the actor wants.

use super::Memory;
use crate::results::{
    backend::{Answer, Done, FirstPending, JobInfo, Page, Question, Viewer, Write},
    evicted_run, part,
};
use crate::scheduler::{Known, Located, Whereabouts};
use crate::status::StatusCounts;
use crate::task::JobId;
use crate::wire::{Run, StoreRefusal};

impl Memory {
    /// Keeps something, at once.
    pub fn apply(&mut self, write: Write, now_us: u64) -> Option<Done> {
        match write {
            Write::Keep(keep) => {
                let owner = keep.open.as_ref().map(|(owner, _)| owner.name.clone());
                if let (Some(owner), Some((of, _))) = (&owner, self.job(keep.job))
                    && **owner != *of
                {
                    return Some(Done::Kept(Err(format!("job {} belongs to another client: use a fresh id", keep.job))));
                }
                owner.into_iter().for_each(|owner| self.open(keep.job, &owner));
                // What is here already, of a job that was submitted again, is not kept twice.
                if self.job(keep.job).is_some_and(|(_, counts)| counts.submitted == keep.first) && !self.has_ended(keep.job) {
                    // A run has fewer than 2^32 tasks, which the scheduler checks.
                    self.extend(keep.job, keep.arguments.len() as u32, now_us);
                }
                if keep.closed && !self.has_ended(keep.job) {
                    self.close(keep.job);
                }
                self.stamp(keep.job, now_us);
                Some(Done::Kept(Ok(self.has_ended(keep.job))))
            }
            Write::Record { job, run } => {
                let run = self.record(job, run).cloned();
                self.stamp(job, now_us);
                Some(Done::Recorded(run, self.has_ended(job)))
            }
            // What is in memory does not outlive the scheduler, which knows them.
            Write::Losses { .. } | Write::Engines(_) | Write::Released { .. } => None,
            Write::Count { viewer, job, first, count } => Some(Done::Counted(self.known(&viewer, job, first, count))),
            Write::Take { job, owner, runs } => {
                if self.job(job).is_some_and(|(of, _)| *of == *owner) {
                    runs.into_iter().for_each(|first| self.take(job, first));
                }
                None
            }
            Write::Look { job } => Some(Done::Looked(self.info(job))),
            Write::Settle => Some(Done::Settled),
            Write::Purge { viewer, runs } => Some(Done::Purged(self.purge_all(&viewer, &runs))),
            Write::PurgeOlder { viewer, shard, before_us } => Some(Done::Purged(Ok(self.purge_older(&viewer, shard, before_us)))),
        }
    }

    /// Answers, at once.
    pub fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Job(job) => Answer::Job(self.info(job)),
            Question::Page { job, ranges, bytes_max } => Answer::Page(self.page(job, &ranges, bytes_max)),
            Question::Status { viewer, runs } => {
                let mut sum = StatusCounts::default();
                for (job, first, count) in runs {
                    sum += self.status_for(&viewer, job, first, count);
                }
                Answer::Status(sum)
            }
            Question::FirstPending { viewer, job, first, end } => {
                Answer::FirstPending(self.first_pending(&viewer, job, first, end))
            }
            Question::Whereabouts { viewer, question } => Answer::Whereabouts(self.located(&viewer, &question)),
            Question::Tasks { .. } => Answer::Tasks(Err(StoreRefusal::NotHere(
                "the controller keeps results in memory, and no arguments of tasks that have ended: start it with `--store sqlite`"
                    .into(),
            ))),
            Question::Records { .. } => Answer::Records(Err(StoreRefusal::NotHere(
                "the controller keeps results in memory, and no history: start it with `--store sqlite`".into(),
            ))),
        }
    }

    fn info(&self, job: JobId) -> Option<JobInfo> {
        let (owner, counts) = self.job(job)?;
        Some(JobInfo { owner: owner.into(), counts, ended: self.has_ended(job) })
    }

    fn known(&self, viewer: &Viewer, job: JobId, first: u32, count: u32) -> Option<Known> {
        let info = self.info(job).filter(|info| viewer.sees(&info.owner))?;
        let whole = first == 0 && count >= info.counts.submitted;
        let part = if whole { StatusCounts::default() } else { self.status(job, first, count) };
        Some(info.known((first, count), part))
    }

    /// Where tasks ran whose outcomes are here.
    fn located(&self, viewer: &Viewer, question: &Whereabouts) -> Located {
        let mut located = Located::default();
        let Some(info) = self.info(question.of).filter(|info| viewer.sees(&info.owner)) else { return located };
        let (first, end) = (question.first, question.first.saturating_add(question.count).min(info.counts.submitted));
        for kept in self.kept_within(question.of, first, end) {
            let (from, to) = (kept.run.first.max(first), kept.run.end().min(end));
            let tasks = question.counting(to - from, kept.run.failed_within(from, to));
            if located.add(kept.run.engine, tasks, question.most) {
                return located;
            }
        }
        let dropped = self.evicted_within(question.of, first, end.saturating_sub(first));
        located.nowhere += dropped.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        located
    }

    fn status_for(&self, viewer: &Viewer, job: JobId, first: u32, count: u32) -> StatusCounts {
        match self.job(job) {
            Some((of, _)) if viewer.sees(of) => self.status(job, first, count),
            _ => StatusCounts { total: u64::from(count), unknown: u64::from(count), ..StatusCounts::default() },
        }
    }

    fn page(&self, job: JobId, ranges: &[(u32, u32)], bytes_max: u64) -> Page {
        let mut page = Page { runs: Vec::new(), until: ranges.last().map_or(0, |(_, end)| *end) };
        let (mut bytes, mut seen) = (0, 0);
        for (first, end) in ranges {
            let mut until = *end;
            for start in self.runs_within(job, *first, end - first) {
                let Some(run) = self.run(job, start).filter(|run| run.end() > seen) else { continue };
                (bytes, seen) = (bytes + run.window_bytes(), run.end());
                page.runs.push(run.clone());
                if bytes >= bytes_max {
                    until = run.end().min(*end);
                    break;
                }
            }
            let gone = self.evicted_within(job, *first, until - first);
            page.runs.extend(gone.into_iter().map(|(start, count)| evicted_run(start, start + count)));
            if bytes >= bytes_max {
                page.until = until;
                break;
            }
        }
        page
    }

    fn first_pending(&self, viewer: &Viewer, job: JobId, first: u32, end: u32) -> FirstPending {
        match self.job(job) {
            Some((of, counts)) if viewer.sees(of) && end <= counts.submitted => {
                self.gap(job, first, end).map_or(FirstPending::None, FirstPending::At)
            }
            _ => FirstPending::Unknown,
        }
    }

    fn purge_all(&mut self, viewer: &Viewer, runs: &[(JobId, u32, u32)]) -> Result<u64, StoreRefusal> {
        let mut pending = 0;
        for (job, first, count) in runs {
            let status = self.status_for(viewer, *job, *first, *count);
            if status.unknown > 0 || first.checked_add(*count).is_none() {
                return Err(StoreRefusal::Unknown(*job));
            }
            pending += status.pending;
        }
        if pending > 0 {
            return Err(StoreRefusal::Pending(pending));
        }
        Ok(runs.iter().map(|(job, first, count)| self.purge(*job, *first, first.saturating_add(*count))).sum())
    }

    fn purge(&mut self, job: JobId, first: u32, end: u32) -> u64 {
        let starts: Vec<u32> = self.runs_within(job, first, end - first).collect();
        let mut purged = 0;
        for start in starts {
            let Some(run) = self.run(job, start).cloned() else { continue };
            let (from, to) = (run.first.max(first), run.end().min(end));
            let rest = |left: u32, right: u32| (left < right).then(|| part(&run, left, right));
            let rest: Vec<Run> = [rest(run.first, from), rest(to, run.end())].into_iter().flatten().collect();
            self.replace(job, start, (from, to), rest);
            purged += u64::from(to - from);
        }
        purged
    }

    fn purge_older(&mut self, viewer: &Viewer, shard: u32, before_us: u64) -> u64 {
        let jobs = self.ended_before(viewer, shard, before_us);
        jobs.into_iter().map(|job| self.purge(job, 0, u32::MAX)).sum()
    }
}
