//! Which engines can run which jobs: what is asked of engines and what they can do, interned.

use std::collections::BTreeSet;

use super::{
    Capability, EngineSpec, Requirement,
    ascending::Ascending,
    core::Scheduler,
    demand::Demand,
    engines::{Engine, Line},
    order::Order,
    slab::Key,
};
use crate::task::{BatchId, Selection};

/// All jobs with the same requirement and demand. Exists as long as there is one.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) requirement: Requirement,
    pub(crate) demand: Option<Key<Demand>>,
    pub(crate) jobs: usize,
    /// The kinds that satisfy it.
    pub(crate) kinds: Vec<Key<Kind>>,
    /// The waiting batches of its jobs that an idle engine may get, oldest first.
    pub(crate) waiting: Ascending<BatchId, Key<Engine>>,
}

impl Class {
    pub(crate) fn new(requirement: Requirement, demand: Option<Key<Demand>>) -> Self {
        Self { requirement, demand, jobs: 0, kinds: Vec::new(), waiting: Ascending::default() }
    }
}

/// All engines with the same capability that meet the same demands. Exists as long as there is one.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) capability: Capability,
    pub(crate) meets: BTreeSet<Key<Demand>>,
    pub(crate) engines: u32,
    /// Those of them that do not drain.
    pub(crate) serving: u32,
    /// The classes that it satisfies.
    pub(crate) classes: BTreeSet<Key<Class>>,
    /// Those of them with a waiting batch that an idle engine may get.
    pub(crate) stealable: BTreeSet<Key<Class>>,
    /// The parts that it can run and that have queued tasks.
    pub(crate) order: Order,
    /// Last used first: its worker and its caches are warm.
    pub(crate) idle: Line,
    /// Longest busy first: it is likely to be free first.
    pub(crate) open: Line,
}

impl Kind {
    /// Whether its engines can run the jobs of a class.
    pub(crate) fn is_able(&self, class: &Class) -> bool {
        self.capability.satisfies(&class.requirement) && class.demand.is_none_or(|demand| self.meets.contains(&demand))
    }
}

impl Scheduler {
    /// The class of a requirement and a selection, for one more job.
    pub(super) fn join_class(&mut self, requirement: Requirement, selection: &Selection) -> Key<Class> {
        let name = (requirement, self.demand(selection));
        let key = match self.class_keys.get(&name) {
            Some(key) => *key,
            None => self.new_class(name),
        };
        self.classes[key].jobs += 1;
        key
    }

    /// One job of the class is gone.
    pub(super) fn leave_class(&mut self, key: Key<Class>) {
        self.classes[key].jobs -= 1;
        if self.classes[key].jobs > 0 {
            return;
        }
        if let Some(class) = self.classes.remove(key) {
            self.class_keys.remove(&(class.requirement, class.demand));
            for kind in class.kinds {
                self.kinds[kind].classes.remove(&key);
            }
            if let Some(demand) = class.demand {
                self.leave_demand(demand);
            }
        }
    }

    /// The kind of an engine that is about to take its seat.
    pub(super) fn join_kind(&mut self, EngineSpec { id, capability, equipment }: EngineSpec) -> Key<Kind> {
        let met = |demand: &Demand| demand.selection.is_met_by(id, &equipment, &capability.names);
        let meets = self.demands.iter().filter(|(_, demand)| met(demand)).map(|(key, _)| key).collect();
        let name = (capability, meets);
        let key = match self.kind_keys.get(&name) {
            Some(key) => *key,
            None => self.new_kind(name),
        };
        self.kinds[key].engines += 1;
        self.kinds[key].serving += 1;
        key
    }

    /// One engine of the kind is gone. Whether it served is accounted for by the caller.
    pub(super) fn leave_kind(&mut self, key: Key<Kind>) {
        self.kinds[key].engines -= 1;
        if self.kinds[key].engines > 0 {
            return;
        }
        if let Some(kind) = self.kinds.remove(key) {
            self.kind_keys.remove(&(kind.capability, kind.meets));
            for class in kind.classes {
                self.classes[class].kinds.retain(|other| *other != key);
            }
        }
    }

    /// How many engines can run jobs of the class.
    pub(super) fn serving(&self, class: Key<Class>) -> u32 {
        self.classes[class].kinds.iter().map(|kind| self.kinds[*kind].serving).sum()
    }

    /// A batch waits, and idle engines may get it.
    pub(super) fn mark_waiting(&mut self, key: Key<Class>, batch: BatchId, engine: Key<Engine>) {
        let class = &mut self.classes[key];
        if class.waiting.is_empty() {
            for kind in &class.kinds {
                self.kinds[*kind].stealable.insert(key);
            }
        }
        class.waiting.insert(batch, engine);
    }

    /// A batch that waited does so no longer, or was asked for.
    pub(super) fn unmark_waiting(&mut self, key: Key<Class>, batch: BatchId) {
        let class = &mut self.classes[key];
        class.waiting.remove(batch);
        if class.waiting.is_empty() {
            for kind in &class.kinds {
                self.kinds[*kind].stealable.remove(&key);
            }
        }
    }

    fn new_class(&mut self, (requirement, demand): (Requirement, Option<Key<Demand>>)) -> Key<Class> {
        let mut class = Class::new(requirement.clone(), demand);
        class.kinds = self.kinds.iter().filter(|(_, kind)| kind.is_able(&class)).map(|(key, _)| key).collect();
        if let Some(demand) = demand {
            self.demands[demand].classes += 1;
        }
        let key = self.classes.insert(class);
        for kind in &self.classes[key].kinds {
            self.kinds[*kind].classes.insert(key);
        }
        self.class_keys.insert((requirement, demand), key);
        key
    }

    /// A new kind has to learn what it can run of all that is queued: the one walk over the open jobs.
    fn new_kind(&mut self, name: (Capability, BTreeSet<Key<Demand>>)) -> Key<Kind> {
        let (capability, meets) = name.clone();
        let mut kind = Kind {
            capability,
            meets,
            engines: 0,
            serving: 0,
            classes: BTreeSet::new(),
            stealable: BTreeSet::new(),
            order: Order::default(),
            idle: Line::default(),
            open: Line::default(),
        };
        kind.classes = self.classes.iter().filter(|(_, class)| kind.is_able(class)).map(|(key, _)| key).collect();
        kind.stealable = kind.classes.iter().copied().filter(|key| !self.classes[*key].waiting.is_empty()).collect();
        for (key, job) in self.jobs.iter().filter(|(_, job)| kind.classes.contains(&job.class)) {
            let listed = |part: &usize| job.parts[*part].listed && job.parts[*part].pin.is_none();
            for part in (0..job.parts.len()).filter(listed) {
                kind.order.insert(job.priority, job.client, self.clients[job.client].vtime(), job.entry(key, part));
            }
        }
        let key = self.kinds.insert(kind);
        for class in &self.kinds[key].classes {
            self.classes[*class].kinds.push(key);
        }
        self.kind_keys.insert(name, key);
        key
    }
}
