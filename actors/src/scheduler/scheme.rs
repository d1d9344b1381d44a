//! Which engine gets a batch when several have room.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::Deserialize;

use super::{
    core::Scheduler,
    engines::{Engine, Line, Place},
    matching::{Class, Kind},
    slab::Key,
};
use crate::rng::Rng;

/// Which engine gets a batch, of those that can run it and have room: they run nothing, or fewer batches wait there than may. An
/// engine's *load* is how many batches it holds.
///
/// The names are those of IPython Parallel, whose schemes (`ipyparallel.controller.task_scheduler`) these are but for details. When
/// tasks are queued there is nothing to choose: an engine that gets room takes what is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// One of the lowest load: of those that run nothing the one that worked last, whose worker is warm; of the others, which all
    /// run something, the one that has had room for longest.
    #[default]
    LeastLoaded,
    /// The least recently used: of those that run nothing the one that has been idle for longest, then as above. To be chosen by a job
    /// that names or requires certain engines counts as use.
    Lru,
    /// Each with the same probability, whether it runs something or not.
    Random,
    /// Two are drawn, each with the same probability, and the less loaded of them gets it; the first one, if they are equal. (In
    /// IPython Parallel the one that was used less recently does.)
    TwoBin,
    /// As [`TwoBin`](Self::TwoBin), but an engine of load *n* is drawn with a probability that is proportional to 1 / (1 + *n*).
    Weighted,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::LeastLoaded, Self::Lru, Self::Random, Self::TwoBin, Self::Weighted];

    /// As settings call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeastLoaded => "least-loaded",
            Self::Lru => "lru",
            Self::Random => "random",
            Self::TwoBin => "two-bin",
            Self::Weighted => "weighted",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scheme| scheme.name() == text);
        found.ok_or_else(|| format!("{text:?} is not a dispatch scheme: {}", Self::ALL.map(Self::name).join(", ")))
    }
}

impl Scheduler {
    /// An engine that can run tasks of the class and has room.
    pub(super) fn choose(&mut self, class: Key<Class>) -> Option<Key<Engine>> {
        let kinds = &self.classes[class].kinds;
        if let Some(lots) = &mut self.lots {
            return lots.draw(kinds);
        }
        let first = |line: fn(&Kind) -> &Line| {
            let mut firsts = kinds.iter().filter_map(|kind| line(&self.kinds[*kind]).first());
            match self.settings.scheme {
                Scheme::Lru => firsts.min_by_key(|engine| self.engines[*engine].turn),
                _ => firsts.next(),
            }
        };
        first(|kind| &kind.idle).or_else(|| first(|kind| &kind.open))
    }

    /// Puts an engine at its place in a line: at the front, those that worked last.
    pub(super) fn stand_in_line(&mut self, key: Key<Engine>, place: Place) {
        let kind = &mut self.kinds[self.engines[key].kind];
        match (place, self.settings.scheme) {
            (Place::Away, _) => {}
            (Place::Idle, Scheme::Lru) => kind.idle.push_back(&mut self.engines, key),
            (Place::Idle, _) => kind.idle.push_front(&mut self.engines, key),
            (Place::Open, _) => kind.open.push_back(&mut self.engines, key),
        }
        if self.settings.scheme == Scheme::Lru {
            self.turns += 1;
            self.engines[key].turn = self.turns;
        }
    }

    #[cfg(test)]
    /// Those that lots are drawn among are those that have room.
    pub(super) fn check_lots(&self) {
        let Some(lots) = &self.lots else { return };
        let with_room = self.engines.iter().filter(|(_, engine)| engine.place != Place::Away);
        let with_room: Vec<_> = with_room.map(|(key, engine)| (key, (engine.kind, engine.batches.len()))).collect();
        let known = |(key, urn): &(Key<Engine>, Urn)| lots.urns.get(urn).is_some_and(|urn| urn.contains(key));
        assert!(with_room.iter().all(known), "an engine with room has no lot");
        assert_eq!(lots.urns.values().map(Vec::len).sum::<usize>(), with_room.len(), "lots of engines without room");
        assert!(lots.urns.values().all(|urn| !urn.is_empty()), "an empty urn is kept");
    }
}

/// What the weights of loads are parts of.
const WEIGHT: u64 = 1 << 32;

/// The engines with room, for the schemes that draw lots; the others do not have this.
#[derive(Debug)]
pub(super) struct Lots {
    scheme: Scheme,
    rng: Rng,
    urns: BTreeMap<Urn, Vec<Key<Engine>>>,
    /// In which urn each is, and where in it.
    places: BTreeMap<Key<Engine>, (Urn, usize)>,
}

/// Engines of one kind and one load.
type Urn = (Key<Kind>, usize);

impl Lots {
    /// What a scheme needs. The same seed draws the same.
    pub(super) fn of(scheme: Scheme, seed: u64) -> Option<Box<Self>> {
        let draws = matches!(scheme, Scheme::Random | Scheme::TwoBin | Scheme::Weighted);
        draws.then(|| Box::new(Self { scheme, rng: Rng(seed), urns: BTreeMap::new(), places: BTreeMap::new() }))
    }

    /// An engine has this load now; without one, it has no room.
    pub(super) fn put(&mut self, engine: Key<Engine>, kind: Key<Kind>, load: Option<usize>) {
        let due = load.map(|load| (kind, load));
        if self.places.get(&engine).map(|(urn, _)| *urn) == due {
            return;
        }
        if let Some((urn, at)) = self.places.remove(&engine)
            && let Some(lots) = self.urns.get_mut(&urn)
        {
            lots.swap_remove(at);
            if let Some(moved) = lots.get(at) {
                self.places.insert(*moved, (urn, at));
            }
            if lots.is_empty() {
                self.urns.remove(&urn);
            }
        }
        if let Some(urn) = due {
            let lots = self.urns.entry(urn).or_default();
            self.places.insert(engine, (urn, lots.len()));
            lots.push(engine);
        }
    }

    /// One of these kinds, if there is one.
    fn draw(&mut self, kinds: &[Key<Kind>]) -> Option<Key<Engine>> {
        let (load, engine) = self.draw_one(kinds)?;
        if self.scheme == Scheme::Random {
            return Some(engine);
        }
        let (other_load, other) = self.draw_one(kinds)?;
        Some(if other_load < load { other } else { engine })
    }

    /// One of these kinds, and its load.
    fn draw_one(&mut self, kinds: &[Key<Kind>]) -> Option<(usize, Key<Engine>)> {
        let weigh = |load: usize| if self.scheme == Scheme::Weighted { WEIGHT / (1 + load as u64) } else { 1 };
        // A handful: engines of equal abilities are of one kind, and loads are small.
        let urns = kinds.iter().flat_map(|kind| self.urns.range((*kind, 0)..=(*kind, usize::MAX)));
        let urns: Vec<_> = urns.map(|((_, load), lots)| (*load, weigh(*load), lots)).collect();
        let mut at = self.rng.below(urns.iter().map(|(_, weight, lots)| weight * lots.len() as u64).sum());
        for (load, weight, lots) in urns {
            match lots.get((at / weight) as usize) {
                Some(engine) => return Some((load, *engine)),
                None => at -= weight * lots.len() as u64,
            }
        }
        None
    }
}
