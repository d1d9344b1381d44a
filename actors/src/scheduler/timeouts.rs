//! Tasks that may wait only so long until they are sent to an engine.

use std::collections::VecDeque;

use super::{
    Time,
    core::{Pause, Scheduler},
    engines::{Retraction, Stage},
    job::Job,
    slab::Key,
};
use crate::task::Cause;

/// Tasks submitted within this part of their time run out of it together, the earlier ones a little later than they might: so a job
/// keeps a few dozen times, however often it is extended.
const GRAIN: u64 = 64;

/// When the tasks of a job run out of time.
#[derive(Debug)]
pub(crate) struct QueueTimeouts {
    limit_us: u64,
    /// Earliest and latest time of tasks up to that index; ascending.
    due: VecDeque<(Time, Time, u32)>,
    /// Tasks below this index have run out of time.
    pub(crate) expired: u32,
}

impl QueueTimeouts {
    pub(crate) fn new(limit_us: u64) -> Self {
        Self { limit_us, due: VecDeque::new(), expired: 0 }
    }

    /// Tasks up to `end`, exclusively, have been waiting for so long.
    pub(crate) fn add(&mut self, now: Time, waited_us: u64, end: u32) {
        let at = Time(now.0.saturating_add(self.limit_us.saturating_sub(waited_us)));
        match self.due.back_mut() {
            Some((earliest, latest, until)) if at.since(*earliest) <= self.limit_us / GRAIN => {
                (*latest, *until) = (at.max(*latest), end);
            }
            _ => self.due.push_back((at, at, end)),
        }
    }

    /// When the next tasks run out of time.
    pub(crate) fn next(&self) -> Option<Time> {
        self.due.front().map(|(_, latest, _)| *latest)
    }

    fn expire(&mut self, now: Time) {
        while let Some((.., end)) = self.due.pop_front_if(|(_, latest, _)| *latest <= now) {
            self.expired = end;
        }
    }

    pub(crate) fn cause(&self) -> Cause {
        Cause::QueueTimeout { limit_ms: self.limit_us / 1000 }
    }
}

impl Scheduler {
    /// When [`tick`](Self::tick) has something to do that is due at a certain time.
    pub fn next_alarm(&self) -> Option<Time> {
        self.alarms.first().map(|(at, _)| *at).filter(|_| self.pause == Pause::Running)
    }

    /// Tasks of a job up to `end`, exclusively, have been waiting for so long.
    pub(super) fn start_clock(&mut self, key: Key<Job>, waited_us: u64, end: u32) {
        let before = self.jobs[key].alarm();
        if let Some(timeouts) = &mut self.jobs[key].timeouts {
            timeouts.add(self.now, waited_us, end);
        }
        self.set_alarm(key, before);
    }

    /// Does what is due.
    pub(super) fn ring(&mut self) {
        while let Some(&(at, key)) = self.alarms.first()
            && at <= self.now
        {
            if let Some(timeouts) = &mut self.jobs[key].timeouts {
                timeouts.expire(self.now);
            }
            let again = self.take_due(key);
            self.set_alarm(key, Some(at));
            self.expire(key);
            self.try_again(key, again);
            self.finish_if_done(key);
        }
    }

    /// The next time of a job may have changed; it was this.
    pub(super) fn set_alarm(&mut self, key: Key<Job>, before: Option<Time>) {
        let after = self.jobs[key].alarm();
        if before != after {
            if let Some(at) = before {
                self.alarms.remove(&(at, key));
            }
            self.alarms.extend(after.map(|at| (at, key)));
        }
    }

    /// Where the tasks of a job end that have run out of time, if they were never sent to an engine.
    pub(super) fn expired(&self, key: Key<Job>) -> u32 {
        self.jobs[key].timeouts.as_ref().map_or(0, |timeouts| timeouts.expired)
    }

    /// Ends the tasks that have run out of time. Those that wait at engines are asked back.
    fn expire(&mut self, key: Key<Job>) {
        let Some(timeouts) = &self.jobs[key].timeouts else { return };
        let (end, cause) = (timeouts.expired, timeouts.cause());
        for part in 0..self.jobs[key].parts.len() {
            for span in self.jobs[key].parts[part].pending.remove(0, end) {
                if span.attempts() > 0 {
                    self.jobs[key].parts[part].pending.put_back(span);
                    continue;
                }
                self.jobs[key].queued -= span.count;
                *self.queued_of(key) -= u64::from(span.count);
                self.settle(key, (span.first, span.count), 0, None, cause.clone());
            }
            self.unlist_if_empty(key, part);
        }
        let holders: Vec<_> = self.jobs[key].batches.range(0..end).collect();
        for (first, engine) in holders {
            let waits = self.engines[engine].batches.iter().find(|batch| {
                let of_job = batch.job == key && batch.span.first == first;
                of_job && batch.stage == Stage::Waiting && batch.retraction == Retraction::Unasked && batch.span.attempts() == 0
            });
            if let Some(batch) = waits.map(|batch| batch.id) {
                self.retract(engine, batch, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_many_submissions_share_times_and_none_ends_early() {
        let mut timeouts = QueueTimeouts::new(6_400);
        for at in 0..10_000 {
            timeouts.add(Time(at), 0, at as u32 + 1);
            assert!(timeouts.due.len() <= 2 * GRAIN as usize + 2, "{at}");
            timeouts.expire(Time(at));
            assert!(u64::from(timeouts.expired) <= at.saturating_sub(6_399), "{at}: {}", timeouts.expired);
            assert!(u64::from(timeouts.expired) + 6_400 + 101 >= at, "{at}: {}", timeouts.expired);
        }
    }

    #[test]
    fn the_time_before_a_restart_counts() {
        let mut timeouts = QueueTimeouts::new(1_000_000);
        timeouts.add(Time(5), 2_000_000, 3);
        timeouts.add(Time(5), 400_000, 7);
        assert_eq!(timeouts.next(), Some(Time(5)));
        timeouts.expire(Time(5));
        assert_eq!((timeouts.expired, timeouts.next()), (3, Some(Time(600_005))));
    }
}
