//! What engines report of their batches.

use super::{
    Accepted, Command, Failure, Refused, Time,
    core::{Pause, Scheduler, draining},
    engines::{Batch, Duty, Engine, Reach, Retraction, Stage},
    gate::{Failed, Gate},
    job::Job,
    pending::Span,
    slab::Key,
};
use crate::task::{BatchId, Cause, EngineId, JobId};

/// The most time that one report may claim, in microseconds: about nine years. A greater value is a broken clock.
const BUSY_US_MAX: u64 = 1 << 48;

/// Whether tasks that come back without an outcome may be why they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    Innocent,
    Suspected,
}

impl Scheduler {
    /// The job of a task without an outcome, if it is in that batch at that engine.
    pub fn job_at(&self, engine: EngineId, batch: BatchId, index: u32) -> Option<JobId> {
        let engine = &self.engines[*self.engine_keys.get(&engine)?];
        let held = &engine.batches[engine.position(batch)?];
        (held.next()..held.span.end()).contains(&index).then(|| self.jobs[held.job].id)
    }

    /// An engine reports the outcomes of tasks `first..first + count` of a batch, which took it `busy_us` microseconds. All of them
    /// have a value.
    ///
    /// # Errors
    /// When the report does not count: the batch is not, or no longer, at that engine, or these are not the next tasks without an
    /// outcome. So every task has exactly one outcome. Nothing has changed then.
    pub fn progress(
        &mut self,
        now: Time,
        engine: EngineId,
        batch: BatchId,
        first: u32,
        count: u32,
        busy_us: u64,
    ) -> Result<Accepted, Refused> {
        self.reported(now, engine, batch, (first, count), busy_us, &[]).map(|(accepted, _)| accepted)
    }

    /// As [`progress`](Self::progress), of tasks some of which have no value; these ascend. Says, too, which tasks will be tried again,
    /// ascending: they have no outcome yet.
    ///
    /// # Errors
    /// As [`progress`](Self::progress).
    pub fn reported(
        &mut self,
        now: Time,
        engine: EngineId,
        batch: BatchId,
        (first, count): (u32, u32),
        busy_us: u64,
        failed: &[Failure],
    ) -> Result<(Accepted, Vec<u32>), Refused> {
        self.advance(now);
        let key = *self.engine_keys.get(&engine).ok_or(Refused::UnknownEngine(engine))?;
        let record = &self.engines[key];
        let at = record.position(batch).ok_or(Refused::UnknownBatch { engine, batch })?;
        let held = &record.batches[at];
        let (expected, left) = (held.next(), held.left());
        if first != expected || count == 0 || count > left {
            return Err(Refused::OutOfStep { batch, expected, left, first, count });
        }
        let again = if failed.is_empty() { Vec::new() } else { self.deferrable(key, at, first, failed) };
        let record = &mut self.engines[key];
        let held = &mut record.batches[at];
        let busy_us = busy_us.min(BUSY_US_MAX);
        let waited = held.is_stealable();
        held.done += count;
        held.busy_us = held.busy_us.saturating_add(busy_us);
        held.stage = Stage::Started;
        record.heard = self.now;
        record.completed += u64::from(count);

        let (job_key, charged_us) = (held.job, held.price_us(count));
        let job = &mut self.jobs[job_key];
        job.active -= count;
        // As many as there are tasks at most.
        let retried = again.len() as u32;
        job.done += count - retried;
        job.failed += failed.len() as u32 - retried;
        let (part, span) = (held.part(), held.span);
        let awaited = job.dependents.is_some();
        if held.left() == 0 {
            job.pace.measure(held.span.count, held.busy_us);
        } else {
            job.pace.hint(count, busy_us);
        }
        let (accepted, class, ended) = (Accepted { job: job.id, attempt: held.attempt() }, job.class, held.left() == 0);
        let client = &mut self.clients[job.client];
        client.active -= u64::from(count);
        // Tasks that take no time still take a turn.
        client.correct(charged_us, busy_us.max(u64::from(count)));
        if waited {
            // It is not what the engine should be running, but it evidently is.
            self.unmark_waiting(class, batch);
        }
        if retried > 0 {
            self.defer(job_key, part, span, &again);
        }
        if awaited {
            for (start, stop) in between(first, count, &again) {
                let within = |failure: &&Failure| (start..stop).contains(&(first + failure.at));
                let failed: Vec<u32> = failed.iter().filter(within).map(|failure| first + failure.at - start).collect();
                self.tell_dependents(job_key, (start, stop - start), Failed::At(&failed));
            }
        }
        if ended {
            let (_, thief) = self.remove_batch(key, at);
            self.feed(key);
            self.feed_thief(thief);
            self.finish_if_done(job_key);
        }
        Ok((accepted, again))
    }

    /// An engine gives a batch back that it has not started. Its tasks are queued again, before all others of their job.
    /// Does nothing when the batch is not at that engine.
    pub fn retracted(&mut self, now: Time, engine: EngineId, batch: BatchId) {
        self.advance(now);
        let Some(key) = self.engine_keys.get(&engine).copied() else { return };
        let Some(at) = self.engines[key].position(batch) else { return };
        let (batch, thief) = self.remove_batch(key, at);
        self.place(key);
        let (job, part) = (batch.job, batch.part());
        let bound = batch.reach == Reach::Pinned && self.engines[key].duty == Duty::Draining;
        let end = bound.then(|| draining(engine));
        self.return_tasks(&batch, engine, Blame::Innocent, end.as_ref());
        self.pump(job, part);
        self.feed(key);
        self.feed_thief(thief);
        self.finish_if_done(job);
    }

    /// An engine keeps a batch that it was asked to give back: it has started it, or ended it.
    pub fn retract_refused(&mut self, engine: EngineId, batch: BatchId) {
        let Some(key) = self.engine_keys.get(&engine).copied() else { return };
        let held = self.engines[key].batches.iter_mut().find(|held| held.id == batch);
        let Some(held) = held else { return };
        if let Retraction::Asked(thief) = held.retraction {
            held.retraction = Retraction::Refused;
            let thief = thief.and_then(|thief| self.stolen(thief, batch));
            self.feed_thief(thief);
        }
    }

    /// Takes a batch from an engine, ended or not; the next one starts if it was the first. Returns the engine for which it
    /// had been asked back, too.
    pub(super) fn remove_batch(&mut self, key: Key<Engine>, at: usize) -> (Batch, Option<Key<Engine>>) {
        let engine = &mut self.engines[key];
        // Callers have found the batch at this place.
        let batch = engine.batches.remove(at).expect("a batch is removed where it was found");
        let mut promoted = None;
        if at == 0
            && let Some(next) = engine.batches.front_mut()
            && next.stage == Stage::Waiting
        {
            promoted = next.is_stealable().then_some((next.job, next.id));
            next.stage = Stage::Started;
            engine.heard = self.now;
        }
        if let Some((job, id)) = promoted {
            self.unmark_waiting(self.jobs[job].class, id);
        }
        let job = &mut self.jobs[batch.job];
        job.batches.remove(batch.span.first);
        let retries = job.again.is_some();
        if batch.is_stealable() {
            let class = job.class;
            self.unmark_waiting(class, batch.id);
        }
        if retries {
            self.start_pauses(&batch);
        }
        let thief = match batch.retraction {
            Retraction::Asked(Some(thief)) => self.stolen(thief, batch.id),
            _ => None,
        };
        (batch, thief)
    }

    /// Queues the tasks of a removed batch that have no outcome, or ends them: those that were to be aborted, one that is poisoned,
    /// and all of them when there is an `end` for all.
    pub(super) fn return_tasks(&mut self, batch: &Batch, engine: EngineId, blame: Blame, end: Option<&Cause>) {
        let key = batch.job;
        self.deactivate(batch);
        let past = self.past(key, batch.span, blame);
        let poisoned = (blame == Blame::Suspected && batch.span.count == 1 && past.losses >= self.jobs[key].poison_losses)
            .then_some(Cause::Poisoned { losses: past.losses });
        let end = end.or(poisoned.as_ref());
        let late_until = if past.attempts() > 0 || self.pause == Pause::Paused { 0 } else { self.expired(key) };
        let late = self.jobs[key].timeouts.as_ref().map(|timeouts| timeouts.cause());
        for (first, stop, aborted) in batch.rest_from(late_until) {
            let end = if aborted { Some(&Cause::Aborted) } else { end.or(late.as_ref().filter(|_| first < late_until)) };
            if let Some(cause) = end {
                self.settle(key, (first, stop - first), batch.attempt(), Some(engine), cause.clone());
                continue;
            }
            self.queue_again(key, batch.part(), Span { first, count: stop - first, ..past });
            if past.losses > batch.span.losses {
                let (job, count, tries) = (self.jobs[key].id, stop - first, past.tries());
                self.out.push(Command::Tried { job, first, count, tries });
            }
        }
    }

    /// A batch that was removed is at no engine any more.
    pub(super) fn deactivate(&mut self, batch: &Batch) {
        let left = batch.left();
        let job = &mut self.jobs[batch.job];
        job.active -= left;
        let client = &mut self.clients[job.client];
        client.active -= u64::from(left);
        client.correct(batch.price_us(left), 0);
    }

    /// Puts tasks back that are at no engine any more.
    pub(super) fn queue_again(&mut self, key: Key<Job>, part: usize, span: Span) {
        if let Gate::Shut(cause) = &self.jobs[key].gate {
            let cause = Cause::clone(cause);
            return self.settle(key, (span.first, span.count), span.attempts(), None, cause);
        }
        let job = &mut self.jobs[key];
        job.queued += span.count;
        job.parts[part].pending.put_back(span);
        *self.queued_of(key) += u64::from(span.count);
        self.list(key, part);
    }

    /// An engine for which a batch had been asked back looks again for work.
    pub(super) fn feed_thief(&mut self, thief: Option<Key<Engine>>) {
        if let Some(thief) = thief {
            self.feed(thief);
        }
    }

    /// The past of tasks that come back: whoever may have brought an engine down goes in smaller company, and in the end alone.
    fn past(&self, key: Key<Job>, span: Span, blame: Blame) -> Span {
        if blame == Blame::Innocent {
            return span;
        }
        let losses = span.losses.saturating_add(1);
        Span { losses, limit: self.limit(key, losses, span.count), ..span }
    }

    /// The most tasks that may go in one batch when so many engines were lost with them, the last one while it had `count`.
    pub(super) fn limit(&self, key: Key<Job>, losses: u32, count: u32) -> u32 {
        if losses == 0 {
            u32::MAX
        } else if losses.saturating_add(1) >= self.jobs[key].poison_losses {
            1
        } else {
            (count / 8).max(1)
        }
    }
}

/// The parts of `first..first + count` without these indices, which lie in it and ascend.
pub(crate) fn between(first: u32, count: u32, without: &[u32]) -> Vec<(u32, u32)> {
    let mut parts = Vec::with_capacity(without.len() + 1);
    let mut start = first;
    for index in without.iter().copied().chain([first + count]) {
        if start < index {
            parts.push((start, index));
        }
        start = index.saturating_add(1);
    }
    parts
}
