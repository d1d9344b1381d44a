//! Which engines jobs choose, beside what their functions need.
//!
//! Engines are told apart only as far as open jobs ask: a kind is split when a job comes that part of its engines may run, and is
//! whole again when the last such job has gone. So the number of kinds, which plain jobs pay for as well, does not grow with what
//! engines are started with, and a job that names a thousand of ten thousand engines costs one kind more.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    core::{Pause, Scheduler},
    engines::{Duty, Engine, Line, Place},
    matching::{Class, Kind},
    slab::Key,
};
use crate::task::{Cause, EngineId, Selection, engines_shown};

/// A selection that is not empty, as open jobs have it.
#[derive(Debug)]
pub(crate) struct Demand {
    pub(crate) selection: Selection,
    pub(crate) classes: usize,
}

impl Scheduler {
    /// The demand of a selection, for one of its classes. None for one that all engines meet.
    pub(super) fn demand(&mut self, selection: &Selection) -> Option<Key<Demand>> {
        if selection.is_empty() {
            return None;
        }
        if let Some(key) = self.demand_keys.get(selection) {
            return Some(*key);
        }
        let key = self.demands.insert(Demand { selection: selection.clone(), classes: 0 });
        self.demand_keys.insert(selection.clone(), key);
        let candidates: Vec<Key<Engine>> = match &selection.engines {
            Some(engines) => engines.iter().filter_map(|engine| self.engine_keys.get(engine).copied()).collect(),
            None => self.engines.keys().collect(),
        };
        let meets = |engine: &Key<Engine>| {
            let engine = &self.engines[*engine];
            selection.is_met_by(engine.id, &engine.equipment, &self.kinds[engine.kind].capability.names)
        };
        let able = candidates.into_iter().filter(meets).collect();
        self.regroup(able, |demands| demands.insert(key));
        Some(key)
    }

    /// One class of a demand is gone.
    pub(super) fn leave_demand(&mut self, key: Key<Demand>) {
        self.demands[key].classes -= 1;
        if self.demands[key].classes > 0 {
            return;
        }
        if let Some(demand) = self.demands.remove(key) {
            self.demand_keys.remove(&demand.selection);
            let able = self.engines.iter().filter(|(_, engine)| self.kinds[engine.kind].meets.contains(&key));
            let able = able.map(|(engine, _)| engine).collect();
            self.regroup(able, |demands| demands.remove(&key));
        }
    }

    /// Changes which demands these engines meet: as a whole kind where they are one, else by moving them to another.
    fn regroup(&mut self, engines: Vec<Key<Engine>>, change: impl Fn(&mut BTreeSet<Key<Demand>>) -> bool) {
        let mut by_kind: BTreeMap<Key<Kind>, Vec<Key<Engine>>> = BTreeMap::new();
        for engine in engines {
            by_kind.entry(self.engines[engine].kind).or_default().push(engine);
        }
        for (from, engines) in by_kind {
            let kind = &self.kinds[from];
            let old = (kind.capability.clone(), kind.meets.clone());
            let mut meets = kind.meets.clone();
            change(&mut meets);
            let new = (kind.capability.clone(), meets);
            let to = match self.kind_keys.get(&new) {
                Some(to) => *to,
                None if engines.len() == kind.engines as usize => {
                    self.kind_keys.remove(&old);
                    self.kinds[from].meets.clone_from(&new.1);
                    self.kind_keys.insert(new, from);
                    continue;
                }
                None => self.split_kind(from, new.1),
            };
            engines.into_iter().for_each(|engine| self.move_to_kind(engine, to));
        }
    }

    /// A kind without engines beside another one, which can run the same.
    fn split_kind(&mut self, from: Key<Kind>, meets: BTreeSet<Key<Demand>>) -> Key<Kind> {
        let Kind { capability, classes, stealable, order, .. } = &self.kinds[from];
        let kind = Kind {
            capability: capability.clone(),
            meets: meets.clone(),
            engines: 0,
            serving: 0,
            classes: classes.clone(),
            stealable: stealable.clone(),
            order: order.clone(),
            idle: Line::default(),
            open: Line::default(),
        };
        let name = (kind.capability.clone(), meets);
        let key = self.kinds.insert(kind);
        for class in &self.kinds[key].classes {
            self.classes[*class].kinds.push(key);
        }
        self.kind_keys.insert(name, key);
        key
    }

    fn move_to_kind(&mut self, engine: Key<Engine>, to: Key<Kind>) {
        self.stand(engine, Place::Away);
        let from = std::mem::replace(&mut self.engines[engine].kind, to);
        let serving = u32::from(self.engines[engine].duty == Duty::Serving);
        self.kinds[from].serving -= serving;
        self.kinds[to].serving += serving;
        self.kinds[to].engines += 1;
        self.leave_kind(from);
        self.place(engine);
    }

    /// Why an engine that is there does not run tasks of a class.
    pub(super) fn refusal(&self, engine: &Engine, class: &Class) -> Cause {
        let unable = self.kinds[engine.kind].capability.refusal(&class.requirement);
        match (unable, class.demand.map(|demand| &self.demands[demand].selection)) {
            (None, Some(selection)) => {
                Cause::UnmetDependency { detail: format!("engine {} does not have {selection}", engine.id) }
            }
            (unable, _) => Cause::FunctionUnknown { function: class.requirement.to_string(), detail: unable.unwrap_or_default() },
        }
    }

    /// Why jobs of a class wait that no engine runs.
    pub(super) fn unmet(&self, class: &Class) -> String {
        let able = |kind: &Kind| kind.serving > 0 && kind.capability.satisfies(&class.requirement);
        match class.demand.map(|demand| &self.demands[demand].selection) {
            Some(selection) if self.kinds.iter().any(|(_, kind)| able(kind)) => match &selection.engines {
                None => format!("no connected engine that could run its tasks has {selection}"),
                Some(engines) => format!("none of the engines that its tasks may run on takes them: {}", engines_shown(engines)),
            },
            _ => class.requirement.unmet(),
        }
    }

    /// The engines that jobs of a class name, if none of them will ever run their tasks: ids are not used again. While nothing is
    /// given out they may be about to come back.
    pub(super) fn stranding(&self, key: Key<Class>) -> Option<&BTreeSet<EngineId>> {
        let class = &self.classes[key];
        let engines = self.demands[class.demand?].selection.engines.as_ref()?;
        (self.pause == Pause::Running && self.serving(key) == 0).then_some(engines)
    }

    /// A kind has lost its last engine that takes tasks: jobs that named such engines may be left without any.
    pub(super) fn strand_jobs_of(&mut self, kind: Key<Kind>) {
        let classes = self.kinds[kind].classes.iter().copied();
        let stranded: BTreeSet<_> = classes.filter(|class| self.stranding(*class).is_some()).collect();
        self.strand(&stranded);
    }

    /// Tasks are given out again, and not all engines have come back.
    pub(super) fn strand_jobs(&mut self) {
        let stranded: BTreeSet<_> = self.classes.keys().filter(|class| self.stranding(*class).is_some()).collect();
        self.strand(&stranded);
    }

    /// Notes the jobs of these classes that have tasks queued. A walk over the open jobs, when there are such classes.
    fn strand(&mut self, classes: &BTreeSet<Key<Class>>) {
        if !classes.is_empty() {
            let jobs = self.jobs.iter().map(|(_, job)| job).filter(|job| classes.contains(&job.class));
            self.stranded.extend(jobs.filter(|job| job.parts.iter().any(|part| part.listed)).map(|job| job.id));
        }
    }

    /// Ends queued tasks of jobs that none of the engines which they name will run.
    pub(super) fn settle_stranded(&mut self) {
        for id in std::mem::take(&mut self.stranded) {
            let Some(&key) = self.job_keys.get(&id) else { continue };
            let class = self.jobs[key].class;
            let Some(engines) = self.stranding(class).filter(|_| self.jobs[key].gate.is_open()) else { continue };
            let mut there = engines.iter().filter_map(|engine| Some(&self.engines[*self.engine_keys.get(engine)?]));
            let serving = there.find(|engine| engine.duty == Duty::Serving);
            let cause = match serving {
                Some(engine) => self.refusal(engine, &self.classes[class]),
                None => gone(engines),
            };
            for part in 0..self.jobs[key].parts.len() {
                self.settle_part(key, part, &cause);
            }
            self.finish_if_done(key);
        }
    }
}

/// What becomes of tasks when the engines that they may run on have left.
fn gone(engines: &BTreeSet<EngineId>) -> Cause {
    let detail = match engines.len() {
        0 => "it names no engines to run on".into(),
        _ => format!("none of the engines that it may run on is connected and takes tasks: {}", engines_shown(engines)),
    };
    Cause::EngineLost { detail }
}
