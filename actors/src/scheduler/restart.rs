//! A scheduler is started again: its jobs come back from where they were kept, and its engines from wherever they are.

use super::{
    JobSpec, OpenError, Past, Suspended, Time, Weight,
    core::{Pause, Scheduler, absent},
    job::{Intake, Job},
    pending::Span,
    slab::Key,
};
use crate::task::Tries;

impl Scheduler {
    /// Engines that were there before may be about to come back: until [`Scheduler::resume`], no task that is to run where others ran
    /// fails because they are not there.
    pub fn expect_engines(&mut self) {
        self.expects_engines = true;
    }

    /// Whether engines may be about to come back.
    pub fn expects_engines(&self) -> bool {
        self.expects_engines
    }

    /// As [`Scheduler::expect_engines`]; and gives out no tasks until [`Scheduler::resume`]: nothing is dispatched or asked back, and
    /// tasks that are bound to an engine which is not there wait for it. Everything else goes on. So engines that come back find their
    /// tasks queued.
    pub fn pause(&mut self) {
        self.expect_engines();
        self.pause = Pause::Paused;
    }

    /// All engines have come that will, and tasks are given out. Those that are bound to engines which have not come fail.
    pub fn resume(&mut self, now: Time) {
        self.advance(now);
        self.expects_engines = false;
        if std::mem::replace(&mut self.pause, Pause::Running) == Pause::Paused {
            self.go_on();
        }
        self.place_located();
    }

    fn go_on(&mut self) {
        let mut ended = Vec::new();
        for (engine, order) in std::mem::take(&mut self.absent) {
            ended.extend(order.entries().map(|(_, _, entry)| (entry.job, entry.part, engine)));
        }
        // In an order that a test can repeat.
        ended.sort_unstable();
        for &(job, part, engine) in &ended {
            self.settle_part(job, part, &absent(engine));
        }
        for (job, ..) in ended {
            self.finish_if_done(job);
        }
        self.strand_jobs();
        self.feed_all();
    }

    /// Brings a job back, of whose tasks so far those in `pending` have no outcome, in ascending order. `weight` is that of their
    /// arguments. Jobs are to be brought back in the order in which they were submitted.
    ///
    /// # Errors
    /// When the id is in use, a bound of [`Settings`](super::Settings) is reached, or this does not fit together.
    pub fn restore_job(
        &mut self,
        mut spec: JobSpec,
        past: &Past,
        weight: Weight,
        pending: &[Suspended],
    ) -> Result<(), OpenError> {
        let Past { total, failed, closed, released, .. } = *past;
        let id = spec.id;
        let waits = (!released && spec.options.conditions().next().is_some()).then(|| spec.options.clone());
        if !is_sound(total, pending) {
            return Err(OpenError::Contradiction(id));
        }
        if let Some(engines) = &past.engines {
            spec.options.selection.narrow(engines);
        }
        let key = self.enter_job(spec)?;
        if total > self.jobs[key].room() {
            self.forget_empty(key);
            return Err(OpenError::Contradiction(id));
        }
        let queued = pending.iter().map(|run| run.count).sum();
        let job = &mut self.jobs[key];
        (job.total, job.done, job.failed) = (total, total - queued, failed.min(total - queued));
        job.load.add(queued, weight);
        if closed {
            job.intake = Intake::Closed;
        }
        for (end, waited_us) in &past.waited {
            self.start_clock(key, *waited_us, *end);
        }
        if let Some(options) = waits {
            self.make_wait(key, &options);
        }
        for run in pending {
            self.restore_run(key, *run);
        }
        self.finish_if_done(key);
        Ok(())
    }

    /// Queues tasks of a restored job, part by part.
    fn restore_run(&mut self, key: Key<Job>, run: Suspended) {
        let limit = self.limit(key, run.tries.losses, run.count);
        let Tries { losses, failures } = run.tries;
        let (mut at, end) = (run.first, run.first + run.count);
        let mut part = self.jobs[key].part_of(at);
        while at < end {
            let stop = self.jobs[key].parts[part].end.min(end);
            if at < stop {
                self.add(key, part, Span { first: at, count: stop - at, losses, failures, limit });
            }
            (at, part) = (stop, part + 1);
        }
    }

    /// Takes a job back that was entered and never had a task.
    fn forget_empty(&mut self, key: Key<Job>) {
        if let Some(job) = self.jobs.remove(key) {
            self.job_keys.remove(&job.id);
            self.leave_class(job.class);
            self.leave_client(job.client);
        }
    }
}

/// Whether these are runs of a job of `total` tasks, in ascending order.
fn is_sound(total: u32, pending: &[Suspended]) -> bool {
    let mut from = 0;
    pending.iter().all(|run| {
        let end = run.first.checked_add(run.count);
        let sound = run.count > 0 && run.tries.count() < u32::MAX && from <= run.first && end.is_some_and(|end| end <= total);
        from = end.unwrap_or(u32::MAX);
        sound
    })
}
