//! Tasks that failed and are tried again.
//!
//! They wait, each by itself, beside the queue: first until the batch that they were in has ended, so that an index is never in two
//! batches at a time; then for as long as the client wants.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Command, Failure, Time,
    core::Scheduler,
    engines::{Batch, Duty, Engine, Reach},
    gate::Gate,
    job::Job,
    pending::Span,
    slab::Key,
};
use crate::task::{Cause, Retries};

/// The longest time between two attempts, in microseconds: an hour. Doubling stops there.
const PAUSE_US_MAX: u64 = 3_600_000_000;

/// The tasks of a job that failed and will be tried again.
#[derive(Debug)]
pub(crate) struct Again {
    rule: Retries,
    tasks: BTreeMap<u32, Deferred>,
    /// Those whose batch has ended, by the time at which they are queued.
    due: BTreeSet<(Time, u32)>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Deferred {
    part: usize,
    span: Span,
    /// When it is queued, once its batch has ended.
    due: Option<Time>,
}

impl Again {
    pub(crate) fn new(rule: Retries) -> Self {
        Self { rule, tasks: BTreeMap::new(), due: BTreeSet::new() }
    }

    #[cfg(test)]
    /// How many tasks wait to be tried again.
    pub(crate) fn len(&self) -> u32 {
        // They are of one job, which has fewer than 2^32.
        self.tasks.len() as u32
    }

    /// How many failures of a task are followed by another attempt.
    pub(crate) fn failures_max(&self) -> u32 {
        self.rule.failures
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    #[cfg(test)]
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> {
        self.tasks.keys().copied()
    }

    /// How long is waited after so many failures, in microseconds: twice as long each time.
    fn pause_us(&self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(u64::BITS - 1);
        self.rule.pause_us.saturating_mul(1 << doublings).min(PAUSE_US_MAX.max(self.rule.pause_us))
    }

    fn take(&mut self, index: u32) -> Option<Deferred> {
        let deferred = self.tasks.remove(&index)?;
        if let Some(at) = deferred.due {
            self.due.remove(&(at, index));
        }
        Some(deferred)
    }
}

impl Scheduler {
    /// Which of the tasks that an engine reports to have failed are tried again.
    pub(super) fn deferrable(&self, engine: Key<Engine>, at: usize, first: u32, failed: &[Failure]) -> Vec<u32> {
        let engine = &self.engines[engine];
        let held = &engine.batches[at];
        let job = &self.jobs[held.job];
        let Some(again) = &job.again else { return Vec::new() };
        let leaves = held.reach == Reach::Pinned && engine.duty == Duty::Draining;
        if held.span.failures >= again.rule.failures || leaves || matches!(job.gate, Gate::Shut(_)) {
            return Vec::new();
        }
        let indices = failed.iter().filter(|failure| failure.may_pass).map(|failure| first + failure.at);
        indices.filter(|index| !held.is_cancelled(*index)).collect()
    }

    /// Tasks of a batch have failed and are tried again, once it has ended.
    pub(super) fn defer(&mut self, key: Key<Job>, part: usize, of: Span, indices: &[u32]) {
        let job = &mut self.jobs[key];
        let Some(again) = &mut job.again else { return };
        for &first in indices {
            let span = Span { first, count: 1, failures: of.failures + 1, ..of };
            again.tasks.insert(first, Deferred { part, span, due: None });
            self.out.push(Command::Tried { job: job.id, first, count: 1, tries: span.tries() });
        }
        self.clients[job.client].held += indices.len() as u64;
    }

    /// A batch is at no engine any more: the pauses of its tasks that failed begin.
    pub(super) fn start_pauses(&mut self, batch: &Batch) {
        let (key, now) = (batch.job, self.now);
        let before = self.jobs[key].alarm();
        if let Some(again) = &mut self.jobs[key].again {
            let waiting: Vec<u32> = again.tasks.range(batch.span.first..batch.span.end()).map(|(index, _)| *index).collect();
            for index in waiting {
                let pause_us = again.pause_us(batch.span.failures + 1);
                let Some(task) = again.tasks.get_mut(&index).filter(|task| task.due.is_none()) else { continue };
                let at = Time(now.0.saturating_add(pause_us));
                task.due = Some(at);
                again.due.insert((at, index));
            }
        }
        self.set_alarm(key, before);
    }

    /// The tasks whose pause is over.
    pub(super) fn take_due(&mut self, key: Key<Job>) -> Vec<(usize, Span)> {
        let now = self.now;
        let Some(again) = &mut self.jobs[key].again else { return Vec::new() };
        let mut taken = Vec::new();
        while let Some(&(at, index)) = again.due.first()
            && at <= now
        {
            taken.extend(again.take(index).map(|task| (task.part, task.span)));
        }
        taken
    }

    /// Queues tasks whose pause is over, unless nobody takes them any more.
    pub(super) fn try_again(&mut self, key: Key<Job>, tasks: Vec<(usize, Span)>) {
        for (part, span) in tasks {
            let job = &self.jobs[key];
            self.clients[job.client].held -= 1;
            match job.parts[part].pin.and_then(|engine| self.pin_refusal(engine, job.class)) {
                Some(cause) => self.settle(key, (span.first, 1), span.attempts(), None, cause),
                None => {
                    self.queue_again(key, part, span);
                    self.pump(key, part);
                }
            }
        }
    }

    /// Aborts tasks that wait to be tried again. Returns how many there were.
    pub(super) fn cancel_deferred(&mut self, key: Key<Job>, first: u32, end: u32) -> u32 {
        let before = self.jobs[key].alarm();
        let Some(again) = &mut self.jobs[key].again else { return 0 };
        let indices: Vec<u32> = again.tasks.range(first..end).map(|(index, _)| *index).collect();
        let taken: Vec<Span> = indices.iter().filter_map(|index| again.take(*index)).map(|task| task.span).collect();
        self.set_alarm(key, before);
        let client = self.jobs[key].client;
        self.clients[client].held -= taken.len() as u64;
        for span in &taken {
            self.settle(key, (span.first, 1), span.attempts(), None, Cause::Aborted);
        }
        taken.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_have_an_end() {
        let again = |pause_us| Again::new(Retries { failures: 9, pause_us });
        assert_eq!([1, 2, 3, 4].map(|failures| again(100).pause_us(failures)), [100, 200, 400, 800]);
        assert_eq!(again(100).pause_us(u32::MAX), PAUSE_US_MAX);
        assert_eq!(again(0).pause_us(9), 0);
        assert_eq!(again(2 * PAUSE_US_MAX).pause_us(3), 2 * PAUSE_US_MAX, "as long as was asked for");
    }
}
