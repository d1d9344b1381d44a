//! What engines do: they come, run tasks, go, come back, and talk nonsense.

use super::*;

impl Cluster {
    pub(super) fn join(&mut self) {
        if self.engines.len() < 8 {
            let which = self.rng.below(6);
            let site = [None, Some("a"), Some("b")][self.rng.below(3) as usize];
            let memory = self.rng.below(MEMORY_MAX + 1);
            self.join_with(capability(which), equipment(site, memory));
        }
    }

    pub(super) fn join_with(&mut self, capability: Capability, equipment: Equipment) {
        self.engines_ever += 1;
        let id = EngineId(self.engines_ever);
        let task_us = [1, 100, 2_000, 50_000][self.rng.below(4) as usize];
        let (inbox, outbox, held, known, asked) = Default::default();
        let spec = EngineSpec { id, capability: capability.clone(), equipment: equipment.clone().into() };
        let model = EngineModel { capability, equipment, task_us, draining: false, inbox, outbox, held, known, asked };
        self.engines.insert(id, model);
        self.scheduler.engine_rejoined(Time(self.now), spec, &[]);
        self.obey();
    }

    pub(super) fn lose(&mut self) {
        if let Some(id) = self.any_engine() {
            self.lose_this(id);
        }
    }

    fn lose_this(&mut self, id: EngineId) {
        let engine = self.engines.remove(&id).unwrap();
        self.stale.extend(engine.outbox.iter().map(|letter| (id, *letter)));
        // The first batch that is not ended may have been running, and so may those that are said to.
        for (_, held) in engine.known.iter().enumerate().filter(|(at, held)| *at == 0 || held.started) {
            let tasks = &mut self.jobs.get_mut(&held.job).unwrap().tasks;
            tasks[(held.first + held.done) as usize..(held.first + held.count) as usize]
                .iter_mut()
                .for_each(|task| task.losses += 1);
        }
        self.scheduler.engine_lost(Time(self.now), id, "it crashed");
        self.obey_with(Some(id));
    }

    /// An engine loses its link and has a new one: what was on its way is gone, and it says what it has. It may add nonsense.
    pub(super) fn rejoin(&mut self) {
        let Some(id) = self.any_engine() else { return };
        let engine = self.engines.get_mut(&id).unwrap();
        engine.inbox.clear();
        engine.asked.clear();
        // What was not acknowledged is reported again.
        let unsaid: Vec<Letter> = engine.outbox.drain(..).filter(|letter| matches!(letter, Letter::Progress { .. })).collect();
        let is_unsaid =
            |held: &Held| unsaid.iter().any(|letter| matches!(letter, Letter::Progress { batch, .. } if *batch == held.batch));
        let has = |held: &Held| is_unsaid(held) || engine.held.iter().any(|other| other.batch == held.batch);
        engine.known.retain(has);
        for known in &mut engine.known {
            let held = engine.held.iter().find(|held| held.batch == known.batch);
            known.started = held.is_none_or(|held| held.done > 0);
        }
        let claim = |held: &Held| Claim {
            batch: held.batch,
            job: held.job,
            first: held.first + held.done,
            end: held.first + held.count,
            attempt: held.attempt,
            started: held.started,
        };
        let mut claims: Vec<Claim> = engine.known.iter().map(claim).collect();
        let kept: Vec<Verdict> = claims.iter().map(|claim| Verdict::Kept { from: claim.first }).collect();
        engine.outbox.extend(unsaid);
        let (capability, now) = (engine.capability.clone(), Time(self.now));
        let spec = EngineSpec { id, capability, equipment: engine.equipment.clone().into() };
        claims.extend(self.garbage_claim(&claims));
        let verdicts = self.scheduler.engine_rejoined(now, spec, &claims);
        assert_eq!(verdicts[..kept.len()], kept, "{claims:?}");
        assert!(verdicts[kept.len()..].iter().all(|verdict| *verdict == Verdict::Dropped), "nonsense counted: {claims:?}");
    }

    /// A batch that is elsewhere, or claimed before, or invented.
    fn garbage_claim(&mut self, claims: &[Claim]) -> Option<Claim> {
        let job = self.any_job()?;
        let others: Vec<_> = claims.iter().map(|claim| claim.batch).collect();
        let batch = match self.rng.pick(&others) {
            Some(batch) if self.rng.one_in(2) => batch,
            _ => BatchId(u64::MAX - self.rng.below(9)),
        };
        let (first, end) = (self.rng.below(80) as u32, self.rng.below(80) as u32);
        Some(Claim { batch, job, first, end, attempt: self.rng.below(5) as u32, started: self.rng.one_in(2) })
    }

    pub(super) fn pause_or_resume(&mut self) {
        self.paused = !self.paused;
        if self.paused { self.scheduler.pause() } else { self.scheduler.resume(Time(self.now)) }
    }

    pub(super) fn drain(&mut self) {
        if let Some(id) = self.any_engine() {
            self.engines.get_mut(&id).unwrap().draining = true;
            self.scheduler.engine_draining(id);
        }
    }

    pub(super) fn deliver_to_engine(&mut self) {
        if let Some(id) = self.any_engine() {
            self.deliver_to(id);
        }
    }

    pub(super) fn deliver_to(&mut self, id: EngineId) {
        let Some(engine) = self.engines.get_mut(&id) else { return };
        match engine.inbox.pop_front() {
            Some(Letter::Take(held)) => engine.held.push_back(held),
            Some(Letter::Retract(batch)) => {
                let waiting = engine.held.iter().skip(1).position(|held| held.batch == batch);
                let answer = match waiting {
                    Some(at) => {
                        engine.held.remove(at + 1);
                        Letter::Retracted(batch)
                    }
                    None => Letter::RetractRefused(batch),
                };
                engine.outbox.push_back(answer);
            }
            _ => {}
        }
    }

    pub(super) fn work(&mut self) {
        if let Some(id) = self.any_engine() {
            self.work_at(id);
        }
    }

    /// Runs some tasks and reports them together, or crashes.
    pub(super) fn work_at(&mut self, id: EngineId) {
        let Some(engine) = self.engines.get_mut(&id) else { return };
        let Some(held) = engine.held.front_mut() else { return };
        let count = 1 + self.rng.below(u64::from(held.count - held.done)) as u32;
        let first = held.first + held.done;
        let tasks = self.jobs.get(&held.job).map(|job| &job.tasks);
        let deadly = tasks.is_some_and(|tasks| (first..first + count).any(|index| tasks[index as usize].deadly));
        if deadly {
            return self.lose_this(id);
        }
        let busy_us = engine.task_us * u64::from(count);
        engine.outbox.push_back(Letter::Progress { batch: held.batch, first, count, busy_us });
        held.done += count;
        if held.done == held.count {
            engine.held.pop_front();
        }
    }

    pub(super) fn deliver_from_engine(&mut self) {
        if let Some(id) = self.any_engine() {
            self.deliver_from(id);
        }
    }

    pub(super) fn deliver_from(&mut self, id: EngineId) {
        let Some(engine) = self.engines.get_mut(&id) else { return };
        let Some(letter) = engine.outbox.pop_front() else { return };
        match letter {
            Letter::Progress { batch, first, count, busy_us } => {
                let at = engine.known.iter().position(|held| held.batch == batch).unwrap();
                let held = &mut engine.known[at];
                held.done += count;
                let (job, ended) = (held.job, held.done == held.count);
                if ended {
                    engine.known.remove(at);
                }
                let model = self.jobs.get_mut(&job).unwrap();
                let attempt = 1 + model.tasks[first as usize].losses + model.tasks[first as usize].failures;
                let mut failed = Vec::new();
                for (at, task) in (0..).zip(&mut model.tasks[first as usize..(first + count) as usize]) {
                    task.outcomes += 1;
                    (task.failed, task.engine) = (task.failures < task.fails, Some(id));
                    failed.extend(task.failed.then_some(Failure { at, may_pass: true }));
                }
                let accepted = self.scheduler.reported(Time(self.now), id, batch, (first, count), busy_us, &failed);
                let (accepted, again) = accepted.expect("an honest report");
                assert_eq!(accepted, Accepted { job, attempt });
                for index in again {
                    let model = self.jobs.get_mut(&job).unwrap();
                    let most = model.options.retries.failures;
                    let task = &mut model.tasks[index as usize];
                    assert!(task.failed && task.failures < most && !task.cancelled, "task {index} is tried again");
                    (task.outcomes, task.failed, task.failures) = (0, false, task.failures + 1);
                }
                self.stale.push((id, letter));
            }
            Letter::Retracted(batch) => {
                engine.known.retain(|held| held.batch != batch);
                self.scheduler.retracted(Time(self.now), id, batch);
            }
            Letter::RetractRefused(batch) => self.scheduler.retract_refused(id, batch),
            Letter::Take(_) | Letter::Retract(_) => unreachable!("engines do not send this"),
        }
        self.obey();
    }

    /// A report that does not count arrives.
    pub(super) fn replay(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let at = self.rng.below(self.stale.len() as u64) as usize;
        match self.stale.swap_remove(at) {
            (id, Letter::Progress { batch, first, count, busy_us }) => {
                let result = self.scheduler.progress(Time(self.now), id, batch, first, count, busy_us);
                assert!(result.is_err(), "an old report counted: {batch} {first} {count}");
            }
            (id, Letter::Retracted(batch)) => self.scheduler.retracted(Time(self.now), id, batch),
            (id, Letter::RetractRefused(batch)) => self.scheduler.retract_refused(id, batch),
            _ => {}
        }
        assert_eq!(self.scheduler.commands().count(), 0, "an old report had consequences");
    }

    /// An engine reports nonsense about a batch that it has, or about another one.
    pub(super) fn garble(&mut self) {
        let Some(id) = self.any_engine() else { return };
        let other = BatchId(self.rng.next());
        let known = self.engines[&id].known.front().copied();
        let (batch, next, left) =
            known.map_or((other, 0, 0), |held| (held.batch, held.first + held.done, held.count - held.done));
        let reports =
            [(batch, next + 1, 1), (batch, next, left + 1), (batch, next, 0), (batch, next, u32::MAX), (other, next, 1)];
        let (batch, first, count) = reports[self.rng.below(5) as usize];
        let result = self.scheduler.progress(Time(self.now), id, batch, first, count, self.rng.0);
        assert!(result.is_err(), "nonsense counted: {batch} {first} {count}");
        assert_eq!(self.scheduler.commands().count(), 0, "nonsense had consequences");
    }
}
