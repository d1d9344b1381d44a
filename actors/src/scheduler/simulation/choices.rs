//! What jobs wait for, and where they may run: what is chosen, and what must follow from it.

use super::*;

impl Cluster {
    /// Which engines may run a job's tasks: such as those at the end can, or certain ones, there or not.
    pub(super) fn selection(&mut self, requirement: &Requirement) -> Selection {
        let mut selection = Selection::default();
        if self.rng.one_in(3) {
            let site = if self.rng.one_in(2) { "a" } else { "b" };
            selection.labels.insert(("site".into(), site.into()));
        }
        if self.rng.one_in(3) {
            selection.resources.insert("memory".into(), self.rng.below(MEMORY_MAX + 1));
        }
        if self.rng.one_in(6) && capability(0).satisfies(requirement) {
            selection.tasks.insert("sum".into());
        }
        if self.rng.one_in(2) {
            let ids = self.rng.below(4);
            let ever = u64::from(self.engines_ever) + 2;
            selection.engines = Some((0..ids).map(|_| EngineId(self.rng.below(ever) as u32)).collect());
        }
        selection
    }

    /// Something to wait for: tasks of jobs that are here, have ended, or never were.
    pub(super) fn conditions(&mut self) -> Vec<Condition> {
        let known: Vec<_> = self.jobs.keys().chain(self.ended.keys()).copied().chain([JobId::from_u128(u128::MAX)]).collect();
        let mut conditions = Vec::new();
        for _ in 0..1 + self.rng.below(2) {
            let quorum = if self.rng.one_in(3) { Quorum::Any } else { Quorum::All };
            let end = [End::Succeeded, End::Succeeded, End::Either, End::Failed][self.rng.below(4) as usize];
            let runs = (0..1 + self.rng.below(2)).map(|_| {
                // The unknown one is rarely asked for.
                let of = known.len() as u64 - u64::from(known.len() > 1 && !self.rng.one_in(10));
                let job = known[self.rng.below(of) as usize];
                let (first, count) = (self.rng.below(30) as u32, 1 + self.rng.below(8) as u32);
                if self.rng.one_in(2) { (job, 0, u32::MAX) } else { (job, first, count) }
            });
            conditions.push(Condition { runs: runs.collect(), quorum, end });
        }
        conditions
    }

    /// Whether a job names engines of which none will ever run it.
    pub(super) fn is_stranded(&self, job: &JobModel) -> bool {
        let selection = &job.options.selection;
        let takes = |id: &EngineId| {
            self.engines.get(id).is_some_and(|engine| {
                let able = engine.capability.satisfies(&job.requirement);
                !engine.draining && able && selection.is_met_by(*id, &engine.equipment, &engine.capability.names)
            })
        };
        let named = job.bound.as_ref().or(selection.engines.as_ref());
        named.is_some_and(|engines| !engines.iter().any(takes))
    }

    /// How tasks have ended: without a value or with one, and where. Those that have not are passed over.
    pub(super) fn ends(&self, (job, first, count): (JobId, u32, u32)) -> Vec<(bool, Option<EngineId>)> {
        let end = |task: &Task| (task.outcomes > 0).then_some((task.failed, task.engine));
        let all: Vec<_> = match (self.jobs.get(&job), self.ended.get(&job)) {
            (Some(job), _) => job.tasks.iter().map(end).collect(),
            (_, ended) => ended.into_iter().flatten().copied().map(Some).collect(),
        };
        all.into_iter().skip(first as usize).take(count as usize).flatten().collect()
    }

    /// Whether an engine ran all, or one, of the tasks that a condition is about and that have ended as it says.
    pub(super) fn has_run(&self, engine: EngineId, condition: &Condition) -> bool {
        let wanted = |(failed, _): &(bool, _)| condition.end == End::Either || *failed == (condition.end == End::Failed);
        let mut ends = condition.runs.iter().flat_map(|run| self.ends(*run)).filter(wanted).map(|(_, at)| at).peekable();
        match condition.quorum {
            Quorum::All => ends.peek().is_some() && ends.all(|at| at == Some(engine)),
            Quorum::Any => ends.any(|at| at == Some(engine)),
        }
    }

    /// The engines that have run what a job follows.
    pub(super) fn place(&self, job: &JobModel) -> BTreeSet<EngineId> {
        let follow = &job.options.follow;
        let engines = (0..=self.engines_ever).map(EngineId);
        engines.filter(|id| follow.iter().all(|condition| self.has_run(*id, condition))).collect()
    }

    /// Whether none of the engines is there that had run what a job follows, and may run it.
    pub(super) fn has_no_place(&self, job: &JobModel) -> bool {
        let named = job.options.selection.engines.as_ref();
        let takes = |id: &&EngineId| {
            named.is_none_or(|named| named.contains(id)) && self.engines.get(id).is_some_and(|engine| !engine.draining)
        };
        !job.options.follow.is_empty() && !job.place.iter().any(|id| takes(&id))
    }

    /// What became of tasks: how many succeeded and failed, how many there will be if that is known, how many of them never come.
    pub(super) fn counts(&self, (job, first, count): (JobId, u32, u32)) -> (u32, u32, Option<u32>, u32) {
        let whole = count == u32::MAX;
        let end = first.saturating_add(count);
        let (ends, over): (Vec<Option<bool>>, bool) = match (self.jobs.get(&job), self.ended.get(&job)) {
            (Some(job), _) => (job.tasks.iter().map(|task| (task.outcomes > 0).then_some(task.failed)).collect(), false),
            (_, Some(ends)) => (ends.iter().map(|(failed, _)| Some(*failed)).collect(), true),
            (None, None) => return (0, 0, Some(1), 1),
        };
        let there = ends.len() as u32;
        let within = ends.iter().skip(first as usize).take(count as usize);
        let failed = within.clone().filter(|end| **end == Some(true)).count() as u32;
        let succeeded = within.filter(|end| **end == Some(false)).count() as u32;
        let missing = if over && !whole { end - there.clamp(first, end) } else { 0 };
        let tasks = if whole { over.then_some(there) } else { Some(count) };
        (succeeded, failed, tasks, missing)
    }

    /// Whether a condition is met, and whether it never will be.
    pub(super) fn judged(&self, condition: &Condition) -> (bool, bool) {
        let counts: Vec<_> = condition.runs.iter().map(|run| self.counts(*run)).collect();
        let good = |(succeeded, failed, ..): &(u32, u32, Option<u32>, u32)| match condition.end {
            End::Succeeded => *succeeded,
            End::Failed => *failed,
            End::Either => succeeded + failed,
        };
        let sum: u32 = counts.iter().map(good).sum();
        let over: u32 = counts.iter().map(|(succeeded, failed, _, missing)| succeeded + failed + missing).sum();
        let tasks: Option<u32> = counts.iter().map(|counts| counts.2).sum();
        match condition.quorum {
            Quorum::All => (tasks == Some(sum), over > sum),
            Quorum::Any => (sum > 0, sum == 0 && tasks == Some(over)),
        }
    }
}
