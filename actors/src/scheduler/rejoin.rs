//! An engine takes its seat, for the first time or again, and says what it has.

use std::{collections::HashSet, ops::Range};

use super::{
    Claim, Command, EngineSpec, Time, Verdict,
    core::Scheduler,
    engines::{Batch, Duty, Engine, Reach, Stage},
    gate::Gate,
    job::Job,
    membership::Unseated,
    order::Entry,
    pending::Span,
    slab::Key,
};
use crate::task::{BatchId, Cause, Tries};

/// How many batches an engine may bring beside those that it runs and that wait by rule. It may have ended some hundreds whose
/// outcomes were not kept when a controller ended, each with a report that was not acknowledged; what it says beyond that is not
/// looked at, and runs again.
pub(super) const CLAIMS_MAX: usize = 512;

/// A claim that holds.
struct Adoption {
    job: Key<Job>,
    part: usize,
    /// The tasks whose outcomes are wanted.
    range: Range<u32>,
}

impl Scheduler {
    /// An engine takes its seat, perhaps again, and says which batches it has, in the order in which it runs them. Each is judged:
    /// the engine keeps it if it still is about queued tasks, and goes on as if it had never been away. If it is still connected
    /// under this id, what it had is taken back first, without blame: what it does not claim never reached it.
    ///
    /// Returns a verdict for each claim. Nonsense is dropped.
    pub fn engine_rejoined(&mut self, now: Time, engine: EngineSpec, claims: &[Claim]) -> Vec<Verdict> {
        self.advance(now);
        let (id, equipment) = (engine.id, engine.equipment.clone());
        let old = self.engine_keys.get(&id).copied().map(|key| self.unseat(key));
        let Unseated { batches, thieves, duty, completed } = old.unwrap_or_default();
        for batch in &batches {
            self.deactivate(batch);
            let span = Span { first: batch.next(), count: batch.left(), ..batch.span };
            self.queue_again(batch.job, batch.part(), span);
        }
        let kind = self.join_kind(engine);
        let mut engine = Engine::new(id, kind, equipment, self.settings.prefetch);
        engine.completed = completed;
        // What was queued for it while it was away.
        engine.pinned = self.absent.remove(&id).unwrap_or_default();
        let key = self.engines.insert(engine);
        self.engine_keys.insert(id, key);

        let mut kept = HashSet::new();
        let verdicts = claims.iter().map(|claim| self.judge(key, claim, &mut kept)).collect();
        self.cancel_again(&batches);
        if duty == Duty::Draining {
            self.stop_serving(key);
        }
        self.settle_refused(key);
        self.feed(key);
        self.go_on_without(&batches, thieves);
        verdicts
    }

    fn judge(&mut self, key: Key<Engine>, claim: &Claim, kept: &mut HashSet<BatchId>) -> Verdict {
        if kept.contains(&claim.batch) {
            return Verdict::Dropped;
        }
        let Some(adoption) = self.examine(key, claim) else { return Verdict::Dropped };
        kept.insert(claim.batch);
        let from = adoption.range.start;
        self.adopt(key, claim, adoption);
        Verdict::Kept { from }
    }

    /// What there is to a claim.
    fn examine(&self, key: Key<Engine>, claim: &Claim) -> Option<Adoption> {
        let engine = &self.engines[key];
        let room = engine.batches.len() < self.settings.prefetch + 1 + CLAIMS_MAX;
        // A number that was not given out will be. One that another engine has is none of this one's: its tasks are not queued, and
        // if the engine lies about them, it lies about its own batches only, since every report is looked up by engine and number.
        let given_out = claim.batch.0 < self.next_batch;
        let job_key = *self.job_keys.get(&claim.job)?;
        let job = &self.jobs[job_key];
        let (first, end) = (claim.first, claim.end);
        // No task of a job that follows others was sent before it was kept where it may run.
        let awaits_engines = matches!(&job.gate, Gate::Waiting(wait) if wait.follows());
        if awaits_engines || !room || !given_out || first >= end || end > job.total {
            return None;
        }
        let part = job.part_of(first);
        let state = &job.parts[part];
        let able = state.pin.is_none_or(|pin| pin == engine.id) && self.kinds[engine.kind].classes.contains(&job.class);
        let from = state.pending.first_from(first)?;
        if !able || end > state.end || from >= end || self.is_active(job_key, first..from) {
            return None;
        }
        let tries = all_queued(job, part, from..end)?.count();
        let retries = job.again.as_ref().map_or(0, |again| again.failures_max());
        // A lower one is an old attempt. One that is lower by one was counted as lost; a greater one knows of losses that were not
        // kept, of which there cannot be many before a task is poisoned.
        let most = job.poison_losses.max(2).max(tries.saturating_add(1)).saturating_add(retries);
        let attempts = tries.max(1)..=most;
        attempts.contains(&claim.attempt).then_some(Adoption { job: job_key, part, range: from..end })
    }

    /// Whether a task of the job in `range` is at an engine.
    fn is_active(&self, key: Key<Job>, range: Range<u32>) -> bool {
        if range.is_empty() {
            return false;
        }
        for (first, engine) in self.jobs[key].batches.range(0..range.end).rev() {
            let held = self.engines[engine].batches.iter().find(|held| held.job == key && held.span.first == first);
            match held {
                Some(batch) if batch.span.end() <= range.start => return false,
                Some(batch) if batch.next() < range.end => return true,
                _ => {}
            }
        }
        false
    }

    /// Makes a claim a batch of the engine.
    fn adopt(&mut self, engine_key: Key<Engine>, claim: &Claim, Adoption { job: job_key, part, range }: Adoption) {
        let (first, count) = (range.start, range.end - range.start);
        let job = &mut self.jobs[job_key];
        let known = job.parts[part].pending.take_out(range.start, range.end);
        let failures = known.iter().map(|span| span.failures).max().unwrap_or(0).min(claim.attempt - 1);
        let losses = claim.attempt - 1 - failures;
        // Who goes on without it goes in no greater company.
        let span = Span { first, count, losses, failures, limit: if losses == 0 { u32::MAX } else { count } };
        job.queued -= count;
        job.active += count;
        job.batches.insert(first, engine_key);
        let (client, class, id) = (job.client, job.class, job.id);
        let reach = if job.parts[part].pin.is_some() { Reach::Pinned } else { Reach::Balanced };
        *self.queued_of(job_key) -= u64::from(count);
        self.clients[client].active += u64::from(count);
        if known.iter().any(|known| known.losses < losses) {
            self.out.push(Command::Tried { job: id, first, count, tries: span.tries() });
        }

        let engine = &mut self.engines[engine_key];
        let stage = if claim.started || engine.batches.is_empty() { Stage::Started } else { Stage::Waiting };
        engine.heard = self.now;
        // It is charged when it reports.
        let batch = Batch::new(claim.batch, (job_key, part), span, reach, stage, 0);
        let stealable = batch.is_stealable();
        engine.batches.push_back(batch);
        if stealable {
            self.mark_waiting(class, claim.batch, engine_key);
        }
        self.unlist_if_empty(job_key, part);
    }

    /// What was to be aborted before these batches came back still is, wherever it is now.
    fn cancel_again(&mut self, batches: &[Batch]) {
        for batch in batches {
            for (first, end, cancelled) in batch.rest() {
                if cancelled {
                    self.cancel_queued(batch.job, first, end);
                    self.cancel_active(batch.job, first, end);
                }
            }
        }
    }

    /// Ends queued tasks that are bound to an engine which does not run them.
    fn settle_refused(&mut self, key: Key<Engine>) {
        let id = self.engines[key].id;
        let entries: Vec<_> = self.engines[key].pinned.entries().map(|(_, _, entry)| entry).collect();
        let refused = |entry: &Entry| Some((*entry, self.pin_refusal(id, self.jobs[entry.job].class)?));
        let refused: Vec<(_, Cause)> = entries.iter().filter_map(refused).collect();
        for (entry, cause) in &refused {
            self.settle_part(entry.job, entry.part, cause);
        }
        for (entry, _) in refused {
            self.finish_if_done(entry.job);
        }
    }
}

/// What the one of these tasks has behind it that was tried most, if all of them are queued.
fn all_queued(job: &Job, part: usize, range: Range<u32>) -> Option<Tries> {
    let (mut next, mut most) = (range.start, Tries::default());
    for span in job.parts[part].pending.from(range.start).take_while(|span| span.first < range.end) {
        if span.first != next {
            return None;
        }
        (next, most) = (span.end(), if span.attempts() > most.count() { span.tries() } else { most });
    }
    (next >= range.end).then_some(most)
}
