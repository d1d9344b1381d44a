//! Waiting batches go from engines that are busy to engines that are not.

use super::{
    Command,
    core::{Pause, Scheduler},
    engines::{Engine, Place, Retraction},
    slab::Key,
};
use crate::task::{BatchId, EngineId};

/// How many waiting batches are looked at for an idle engine. The oldest come first, and with them those behind long tasks.
const CANDIDATES_MAX: usize = 8;

/// How many idle engines of a kind are served in one tick, so that a tick stays short.
const THIEVES_MAX: usize = 64;

impl Scheduler {
    /// Asks for a waiting batch for an idle engine that found nothing queued, if one is worth it.
    pub(super) fn steal_for(&mut self, thief: Key<Engine>) {
        if self.engines[thief].steals.is_some() {
            return;
        }
        let Some((victim, batch)) = self.best_waiting(thief) else { return };
        self.engines[thief].steals = Some(batch);
        self.retract(victim, batch, Some(thief));
    }

    /// Asks an engine to give a waiting batch back.
    pub(super) fn retract(&mut self, engine: Key<Engine>, batch: BatchId, thief: Option<Key<Engine>>) {
        let thief = thief.map(|thief| self.engines[thief].id);
        let record = &mut self.engines[engine];
        let Some(held) = record.batches.iter_mut().find(|held| held.id == batch) else { return };
        let listed = held.is_stealable().then(|| self.jobs[held.job].class);
        held.retraction = Retraction::Asked(thief);
        self.out.push(Command::Retract { engine: record.id, batch });
        if let Some(class) = listed {
            self.unmark_waiting(class, batch);
        }
    }

    /// A retraction for `thief` has come to its end. Returns the engine if it is still there.
    pub(super) fn stolen(&mut self, thief: EngineId, batch: BatchId) -> Option<Key<Engine>> {
        let key = *self.engine_keys.get(&thief)?;
        let steals = &mut self.engines[key].steals;
        (*steals == Some(batch)).then(|| *steals = None)?;
        Some(key)
    }

    /// Looks again for engines that are idle: a batch that was expected to end soon may not have.
    pub(super) fn steal_overdue(&mut self) {
        if self.pause == Pause::Paused {
            return;
        }
        for kind in self.kinds.keys().collect::<Vec<_>>() {
            if self.kinds[kind].stealable.is_empty() {
                continue;
            }
            let thieves: Vec<_> = self.kinds[kind].idle.iter(&self.engines).take(THIEVES_MAX).collect();
            for thief in thieves {
                self.steal_for(thief);
            }
        }
    }

    /// Of the oldest waiting batches that `thief` can run, the one that would wait longest, if it would wait long enough.
    fn best_waiting(&self, thief: Key<Engine>) -> Option<(Key<Engine>, BatchId)> {
        let engine = &self.engines[thief];
        debug_assert_eq!(engine.place, Place::Idle);
        let classes = self.kinds[engine.kind].stealable.iter();
        let candidates = classes.flat_map(|class| self.classes[*class].waiting.iter()).take(CANDIDATES_MAX);
        let waits = candidates.map(|(batch, victim)| (self.remaining_us(victim), victim, batch));
        // The oldest of equals.
        let longest = waits.reduce(|best, other| if other.0 > best.0 { other } else { best })?;
        (longest.0 > self.settings.steal_min_us).then_some((longest.1, longest.2))
    }

    /// How long the batch that an engine runs will probably take; `u64::MAX` when nobody knows.
    fn remaining_us(&self, engine: Key<Engine>) -> u64 {
        let Some(batch) = self.engines[engine].batches.front() else { return 0 };
        let Some(expected) = self.jobs[batch.job].pace.expect_us(batch.left()) else { return u64::MAX };
        let elapsed = self.now.since(self.engines[engine].heard);
        if elapsed > expected.saturating_add(self.settings.steal_min_us) {
            return u64::MAX;
        }
        expected.saturating_sub(elapsed)
    }
}
