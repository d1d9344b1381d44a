//! Engines come and go.

use super::{
    Time,
    core::{Pause, Scheduler, draining},
    engines::{Batch, Duty, Engine, Place, Reach, Retraction, Stage},
    job::Job,
    matching::Kind,
    reports::Blame,
    slab::Key,
};
use crate::task::{Cause, EngineId};

/// What an engine leaves behind.
#[derive(Default)]
pub(super) struct Unseated {
    /// Its batches, the last one first.
    pub(super) batches: Vec<Batch>,
    /// The engines for which some of them had been asked back.
    pub(super) thieves: Vec<Key<Engine>>,
    pub(super) duty: Duty,
    pub(super) completed: u64,
}

impl Scheduler {
    #[cfg(test)]
    /// An engine is ready for work and has none. Its id must never have been used by another one.
    pub fn engine_joined(&mut self, now: Time, id: EngineId, capability: super::Capability) {
        self.engine_rejoined(now, super::EngineSpec { id, capability, equipment: Default::default() }, &[]);
    }

    /// An engine is gone, and how. Its unfinished tasks are queued again, before all others of their jobs; those that it may have
    /// been running are suspected of being the reason. Tasks that are bound to it fail; while the scheduler is paused they wait.
    pub fn engine_lost(&mut self, now: Time, id: EngineId, detail: &str) {
        self.advance(now);
        let Some(key) = self.engine_keys.get(&id).copied() else { return };
        if self.pause == Pause::Running {
            self.settle_pinned(key, &Cause::EngineLost { detail: format!("engine {id}: {detail}") });
        }
        let Unseated { batches, thieves, .. } = self.unseat(key);
        let lost = (self.pause == Pause::Running).then(|| Cause::EngineLost { detail: detail.into() });
        for batch in &batches {
            let blame = if batch.stage == Stage::Waiting { Blame::Innocent } else { Blame::Suspected };
            let end = lost.as_ref().filter(|_| batch.reach == Reach::Pinned);
            self.return_tasks(batch, id, blame, end);
        }
        self.go_on_without(&batches, thieves);
    }

    /// Takes an engine and its batches out. What was queued for it alone waits for it.
    pub(super) fn unseat(&mut self, key: Key<Engine>) -> Unseated {
        self.stand(key, Place::Away);
        let (mut batches, mut thieves) = (Vec::new(), Vec::new());
        // From the end, so that none is taken to start.
        while let Some(last) = self.engines[key].batches.len().checked_sub(1) {
            let (batch, thief) = self.remove_batch(key, last);
            batches.push(batch);
            thieves.extend(thief);
        }
        let (mut duty, mut completed) = (Duty::Serving, 0);
        if let Some(engine) = self.engines.remove(key) {
            (duty, completed) = (engine.duty, engine.completed);
            self.engine_keys.remove(&engine.id);
            if duty == Duty::Serving {
                self.serve_no_longer(engine.kind);
            }
            self.leave_kind(engine.kind);
            if !engine.pinned.is_empty() {
                self.absent.insert(engine.id, engine.pinned);
            }
        }
        Unseated { batches, thieves, duty, completed }
    }

    /// Batches have come back: others take what they can of them.
    pub(super) fn go_on_without(&mut self, batches: &[Batch], thieves: Vec<Key<Engine>>) {
        for batch in batches {
            self.pump(batch.job, batch.part());
        }
        for thief in thieves {
            self.feed(thief);
        }
        for batch in batches {
            self.finish_if_done(batch.job);
        }
    }

    /// An engine is about to leave: it gets no more batches, and those that it has not started are asked back. Queued tasks
    /// that are bound to it fail.
    pub fn engine_draining(&mut self, id: EngineId) {
        let Some(key) = self.engine_keys.get(&id).copied() else { return };
        if self.engines[key].duty == Duty::Draining {
            return;
        }
        self.stop_serving(key);
        self.settle_pinned(key, &draining(id));
        let waiting = |held: &&Batch| held.stage == Stage::Waiting && held.retraction == Retraction::Unasked;
        let waiting: Vec<_> = self.engines[key].batches.iter().filter(waiting).map(|held| held.id).collect();
        for batch in waiting {
            self.retract(key, batch, None);
        }
    }

    pub(super) fn stop_serving(&mut self, key: Key<Engine>) {
        self.stand(key, Place::Away);
        let engine = &mut self.engines[key];
        let kind = engine.kind;
        if std::mem::replace(&mut engine.duty, Duty::Draining) == Duty::Serving {
            self.serve_no_longer(kind);
        }
    }

    /// One engine of the kind takes no more tasks.
    fn serve_no_longer(&mut self, kind: Key<Kind>) {
        self.kinds[kind].serving -= 1;
        if self.kinds[kind].serving == 0 {
            self.strand_jobs_of(kind);
        }
    }

    /// Ends all queued tasks that are bound to an engine.
    fn settle_pinned(&mut self, key: Key<Engine>, cause: &Cause) {
        let parts: Vec<_> = self.engines[key].pinned.entries().map(|(_, _, entry)| (entry.job, entry.part)).collect();
        for &(job, part) in &parts {
            self.settle_part(job, part, cause);
        }
        for (job, _) in parts {
            self.finish_if_done(job);
        }
    }

    pub(super) fn settle_part(&mut self, key: Key<Job>, part: usize, cause: &Cause) {
        while let Some(span) = self.jobs[key].parts[part].pending.take(u32::MAX) {
            self.jobs[key].queued -= span.count;
            *self.queued_of(key) -= u64::from(span.count);
            self.settle(key, (span.first, span.count), span.attempts(), None, cause.clone());
        }
        self.unlist_if_empty(key, part);
    }
}
