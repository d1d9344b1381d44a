//! What holds between any two calls. For tests and simulations: it looks at everything.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    core::{Pause, Scheduler},
    engines::{Duty, Engine, Place, Reach, Retraction, Stage},
    gate::Gate,
    job::Job,
    rejoin::CLAIMS_MAX,
    slab::Key,
};

impl Scheduler {
    /// Checks that all parts of the state fit together.
    ///
    /// # Panics
    /// When they do not, with what is wrong. It never does, unless there is a mistake in the scheduler.
    pub fn check_invariants(&self) {
        self.check_jobs();
        self.check_gates();
        self.check_clients();
        self.check_engines();
        self.check_matching();
        self.check_lots();
        self.check_nothing_idles();
    }

    /// Who waits stands with whom it waits for, and nobody else does; every time is known.
    fn check_gates(&self) {
        let (mut waiting, mut standing, mut alarms) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (key, job) in self.jobs.iter() {
            assert!(job.failed <= job.done, "job {}: failed", job.id);
            alarms.extend(job.alarm().map(|at| (at, key)));
            if let Gate::Waiting(wait) = &job.gate {
                let known = wait.items.iter().enumerate().filter(|(_, item)| item.counts.missing == 0);
                waiting.extend(known.filter_map(|(at, item)| Some((*self.job_keys.get(&item.job)?, key, at))));
            }
            standing.extend(job.dependents.iter().flat_map(|dependents| dependents.all()).map(|(of, item)| (key, of, item)));
        }
        assert!(standing.is_subset(&waiting), "jobs wait for no reason");
        let later = waiting.difference(&standing).filter(|(on, of, _)| self.jobs[*on].seq < self.jobs[*of].seq);
        assert_eq!(later.count(), 0, "jobs wait and do not stand there");
        assert_eq!(alarms, self.alarms, "alarms");
    }

    fn check_jobs(&self) {
        assert!(self.jobs.len() <= self.settings.jobs_max, "more jobs than allowed");
        assert_eq!(self.jobs.len(), self.job_keys.len(), "jobs and their ids differ");
        let mut active: BTreeMap<Key<Job>, u32> = BTreeMap::new();
        for (_, engine) in self.engines.iter() {
            for batch in &engine.batches {
                *active.entry(batch.job).or_default() += batch.left();
            }
        }
        for (key, job) in self.jobs.iter() {
            assert_eq!(self.job_keys.get(&job.id), Some(&key), "job {} is not found by its id", job.id);
            assert!(!job.is_finished(), "job {} is finished and kept", job.id);
            let again = job.again.as_ref().map_or(0, |again| again.len());
            assert_eq!(job.queued + job.active + job.done + again, job.total, "job {}: counters and total differ", job.id);
            assert_eq!(active.get(&key).copied().unwrap_or(0), job.active, "job {}: active", job.id);
            let queued: u32 = job.parts.iter().map(|part| part.pending.len()).sum();
            assert_eq!(queued, job.queued, "job {}: queued", job.id);
            self.check_indices(key, job);
            for (part, state) in job.parts.iter().enumerate() {
                let due = job.gate.is_open() && !state.pending.is_empty();
                assert_eq!(state.listed, due, "job {} part {part}: listed", job.id);
            }
        }
    }

    /// No index is in two places at once.
    fn check_indices(&self, key: Key<Job>, job: &Job) {
        let mut taken: Vec<(u32, u32)> = Vec::new();
        let mut from = 0;
        for part in &job.parts {
            let spans: Vec<_> = part.pending.spans().collect();
            assert_eq!(spans.iter().map(|span| span.count).sum::<u32>(), part.pending.len(), "job {}: pending length", job.id);
            assert!(spans.windows(2).all(|pair| pair[0].end() <= pair[1].first), "job {}: intervals out of order", job.id);
            assert!(spans.iter().all(|s| s.count > 0 && from <= s.first && s.end() <= part.end), "job {}: interval", job.id);
            taken.extend(spans.iter().map(|span| (span.first, span.end())));
            from = part.end;
        }
        for (first, engine) in job.batches.iter() {
            let held = self.engines[engine].batches.iter().find(|batch| batch.job == key && batch.span.first == first);
            let batch = held.unwrap_or_else(|| panic!("job {}: the batch at {first} is not at its engine", job.id));
            assert!(batch.left() > 0, "job {}: an ended batch is kept", job.id);
            taken.push((batch.next(), batch.span.end()));
        }
        taken.extend(job.again.iter().flat_map(|again| again.indices()).map(|index| (index, index + 1)));
        taken.sort_unstable();
        assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0), "job {}: an index is in two places: {taken:?}", job.id);
        assert!(taken.last().is_none_or(|last| last.1 <= job.total), "job {}: an index beyond the end", job.id);
    }

    fn check_clients(&self) {
        assert_eq!(self.clients.len(), self.client_keys.len(), "clients and their keys differ");
        for (key, client) in self.clients.iter() {
            let jobs = || self.jobs.iter().map(|(_, job)| job).filter(|job| job.client == key);
            assert!(client.jobs > 0, "a client without jobs is kept");
            assert_eq!(jobs().count(), client.jobs as usize, "client {:?}: jobs", client.key);
            let queued =
                |open: bool| jobs().filter(|job| job.gate.is_open() == open).map(|job| u64::from(job.queued)).sum::<u64>();
            let again: u64 = jobs().filter_map(|job| job.again.as_ref()).map(|again| u64::from(again.len())).sum();
            assert_eq!((queued(true), queued(false) + again), (client.queued, client.held), "client {:?}: queued", client.key);
            assert_eq!(jobs().map(|job| u64::from(job.active)).sum::<u64>(), client.active, "client {:?}: active", client.key);
            let listed = jobs().flat_map(|job| &job.parts).filter(|part| part.listed).count();
            let counted = client.waits.values().sum::<u32>() + client.waits_pinned;
            assert_eq!(listed, counted as usize, "client {:?}: listed parts", client.key);
            assert_eq!(client.is_waiting(), client.queued > 0, "client {:?}: waiting", client.key);
        }
        let waiting = self.clients.iter().filter(|(_, client)| client.is_waiting()).count();
        assert_eq!(waiting, self.clients_waiting, "clients that wait");
    }

    fn check_engines(&self) {
        assert_eq!(self.engines.len(), self.engine_keys.len(), "engines and their ids differ");
        let mut batches = 0;
        for (key, engine) in self.engines.iter() {
            assert_eq!(self.engine_keys.get(&engine.id), Some(&key), "engine {} is not found by its id", engine.id);
            assert_eq!(engine.place, engine.due_place(self.settings.prefetch), "engine {} stands in the wrong line", engine.id);
            assert!(engine.batches.len() <= 1 + self.settings.prefetch + CLAIMS_MAX, "engine {} brought too many", engine.id);
            engine.pinned.check(&self.clients);
            batches += engine.batches.len();
            for (at, batch) in engine.batches.iter().enumerate() {
                let job = self.jobs.get(batch.job).unwrap_or_else(|| panic!("batch {} is of no job", batch.id));
                assert_eq!(job.batches.get(batch.span.first), Some(key), "batch {} is not found by its job", batch.id);
                assert!(batch.id.0 < self.next_batch, "batch {} was not given out", batch.id);
                assert!(at > 0 || batch.stage != Stage::Waiting, "batch {} waits for nothing", batch.id);
                let listed = self.classes[job.class].waiting.get(batch.id) == Some(key);
                assert_eq!(listed, batch.is_stealable(), "batch {}: list of waiting ones", batch.id);
                assert_eq!(
                    batch.reach == Reach::Pinned,
                    job.parts[batch.part()].pin == Some(engine.id),
                    "batch {}: reach",
                    batch.id
                );
                assert!(self.kinds[engine.kind].classes.contains(&job.class), "batch {} cannot run here", batch.id);
            }
            self.check_steal(engine);
        }
        assert_eq!(self.jobs.iter().map(|(_, job)| job.batches.len()).sum::<usize>(), batches, "batches of jobs and engines");
    }

    /// What an engine waits for is under way.
    fn check_steal(&self, thief: &Engine) {
        let Some(batch) = thief.steals else { return };
        let all = self.engines.iter().flat_map(|(_, engine)| &engine.batches);
        let found = all.into_iter().find(|held| held.id == batch);
        assert_eq!(found.map(|held| held.retraction), Some(Retraction::Asked(Some(thief.id))), "engine {} steals", thief.id);
    }

    fn check_matching(&self) {
        assert_eq!(self.classes.len(), self.class_keys.len(), "classes and their keys differ");
        assert_eq!(self.kinds.len(), self.kind_keys.len(), "kinds and their keys differ");
        for (class_key, class) in self.classes.iter() {
            assert_eq!(self.jobs.iter().filter(|(_, job)| job.class == class_key).count(), class.jobs, "jobs of a class");
            assert!(class.jobs > 0, "a class without jobs is kept");
            for (batch, engine) in class.waiting.iter() {
                assert!(self.engines[engine].position(batch).is_some(), "batch {batch} is listed as waiting");
            }
            for (kind_key, kind) in self.kinds.iter() {
                let able = kind.is_able(class);
                assert_eq!(class.kinds.contains(&kind_key), able, "kinds of a class");
                assert_eq!(kind.classes.contains(&class_key), able, "classes of a kind");
                assert_eq!(kind.stealable.contains(&class_key), able && !class.waiting.is_empty(), "stealable classes");
            }
        }
        assert_eq!(self.demands.len(), self.demand_keys.len(), "demands and their selections differ");
        for (key, demand) in self.demands.iter() {
            let classes = self.classes.iter().filter(|(_, class)| class.demand == Some(key)).count();
            assert!(classes > 0 && classes == demand.classes, "classes of a demand");
            for (_, engine) in self.engines.iter() {
                let kind = &self.kinds[engine.kind];
                let met = demand.selection.is_met_by(engine.id, &engine.equipment, &kind.capability.names);
                assert_eq!(kind.meets.contains(&key), met, "engine {} and {:?}", engine.id, demand.selection);
            }
        }
        for (key, kind) in self.kinds.iter() {
            let known = self.kind_keys.get(&(kind.capability.clone(), kind.meets.clone()));
            assert_eq!(known, Some(&key), "a kind is not found");
            let engines = || self.engines.iter().filter(|(_, engine)| engine.kind == key);
            assert!(kind.engines > 0, "a kind without engines is kept");
            assert_eq!(engines().count(), kind.engines as usize, "engines of a kind");
            let serving = engines().filter(|(_, engine)| engine.duty == Duty::Serving).count();
            assert_eq!(serving, kind.serving as usize, "serving engines of a kind");
            for (line, place) in [(&kind.idle, Place::Idle), (&kind.open, Place::Open)] {
                let line: Vec<_> = line.iter(&self.engines).take(self.engines.len() + 1).collect();
                let distinct: BTreeSet<_> = line.iter().copied().collect();
                let standing: BTreeSet<_> = engines().filter(|(_, engine)| engine.place == place).map(|(key, _)| key).collect();
                assert_eq!((line.len(), &distinct), (standing.len(), &standing), "the line {place:?} of a kind");
            }
            kind.order.check(&self.clients);
        }
    }

    /// Every listed part is in the right orders, and nobody who could run it has room, unless nothing is given out.
    fn check_nothing_idles(&self) {
        let mut listed = 0;
        for (key, job) in self.jobs.iter() {
            for (part, state) in job.parts.iter().enumerate().filter(|(_, part)| part.listed) {
                let entry = (job.priority, job.client, job.entry(key, part));
                let orders: Vec<_> = match state.pin {
                    None => self.classes[job.class].kinds.iter().map(|kind| &self.kinds[*kind].order).collect(),
                    Some(engine) => match self.engine_keys.get(&engine) {
                        Some(engine) => vec![&self.engines[*engine].pinned],
                        None => vec![&self.absent[&engine]],
                    },
                };
                listed += orders.len();
                let stranded = state.pin.is_none() && self.stranding(job.class).is_some();
                assert!(!stranded || self.stranded.contains(&job.id), "job {} has no engine, and is not known for it", job.id);
                for order in orders {
                    assert!(order.entries().any(|other| other == entry), "job {} part {part} is missing in an order", job.id);
                }
                let serves = |engine: &Engine| self.pause == Pause::Running && engine.place != Place::Away;
                for (_, engine) in self.engines.iter().filter(|(_, engine)| serves(engine)) {
                    let able = match state.pin {
                        None => self.kinds[engine.kind].classes.contains(&job.class),
                        Some(pin) => pin == engine.id,
                    };
                    assert!(!able, "engine {} is {:?} while job {} has queued tasks for it", engine.id, engine.place, job.id);
                }
            }
        }
        assert!(self.pause == Pause::Running || self.expects_engines, "it is paused for nobody");
        assert!(self.pause == Pause::Paused || self.absent.is_empty(), "tasks wait for an engine that is not there");
        for (engine, order) in &self.absent {
            assert!(!self.engine_keys.contains_key(engine) && !order.is_empty(), "engine {engine} is not absent");
            order.check(&self.clients);
        }
        let orders = self.kinds.iter().map(|(_, kind)| &kind.order).chain(self.engines.iter().map(|(_, engine)| &engine.pinned));
        let orders = orders.chain(self.absent.values());
        assert_eq!(
            orders.map(|order| order.entries().count()).sum::<usize>(),
            listed,
            "entries of jobs that have nothing queued"
        );
    }
}
