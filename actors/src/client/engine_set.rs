//! Which engines a view is for. Pure.

use std::{
    collections::HashMap,
    ops::{Range, RangeInclusive},
};

use crate::error::{Error, Result};
use crate::status::EngineInfo;
use crate::task::{EngineId, Selection};

/// Which engines a view is for, and for a direct view in which order. All but lists are looked up anew at each call, so that engines that have
/// joined take part, and those that have left do not.
///
/// ```no_run
/// # use engineroom::{EngineId, Engines, prelude::*};
/// # let client = Client::connect(Profile::default())?;
/// let everywhere = client.direct_view_on(Engines::all())?;
/// let on_gpus = client.direct_view_on(Engines::label("gpu", "a100"))?;
/// let ranks = client.direct_view_on(Engines::all().by_rank())?; // started by mpiexec or Slurm: rank 0 comes first
/// let one = client.direct_view_on(EngineId(3))?;
/// let some = client.direct_view_on([EngineId(5), EngineId(2)])?;
/// let first_four = client.direct_view_on(0..4)?;
/// # Ok::<(), engineroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engines {
    choice: Choice,
    order: Order,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    All,
    /// Exactly these, whether they are there or not.
    These(Vec<EngineId>),
    /// Those there are of these.
    Within(RangeInclusive<u32>),
    Label {
        key: String,
        value: String,
    },
    Node(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// By id; a list in its own order.
    Usual,
    Rank,
}

impl Engines {
    /// All engines.
    pub fn all() -> Self {
        Self::of(Choice::All)
    }

    /// Exactly these, in this order. One that is not there fails its own tasks.
    pub fn list(engines: impl IntoIterator<Item = EngineId>) -> Self {
        Self::of(Choice::These(engines.into_iter().collect()))
    }

    /// Those whose node was started with this label.
    pub fn label(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::of(Choice::Label { key: key.into(), value: value.into() })
    }

    /// Those of one node, by its name in [`EngineInfo::node`].
    pub fn node(name: impl Into<String>) -> Self {
        Self::of(Choice::Node(name.into()))
    }

    /// The same in the order of the ranks that mpiexec or Slurm gave to their nodes; those of one rank by id, those without a
    /// rank last.
    pub fn by_rank(self) -> Self {
        Self { order: Order::Rank, ..self }
    }

    /// Whether they are the same at each call, or told apart by the controller.
    pub(super) fn are_fixed(&self) -> bool {
        matches!(self.choice, Choice::All | Choice::These(_) | Choice::Label { .. })
    }

    /// Adds to a selection that tasks may run on these only; a label stays a label.
    ///
    /// # Errors
    /// When there are none.
    pub(super) fn narrow(&self, selection: &mut Selection, there: impl FnOnce() -> Vec<EngineInfo>) -> Result<()> {
        let engines = match &self.choice {
            Choice::All => return Ok(()),
            Choice::Label { key, value } => {
                selection.labels.insert((key.clone(), value.clone()));
                return Ok(());
            }
            Choice::These(engines) => engines.clone(),
            Choice::Within(_) | Choice::Node(_) => self.among(&there()),
        };
        if engines.is_empty() {
            return Err(Error::NoEngines);
        }
        selection.engines = Some(engines.into_iter().collect());
        Ok(())
    }

    fn of(choice: Choice) -> Self {
        Self { choice, order: Order::Usual }
    }

    /// These of the engines there are, which come by id.
    pub(super) fn among(&self, there: &[EngineInfo]) -> Vec<EngineId> {
        let chosen =
            |choose: &dyn Fn(&EngineInfo) -> bool| there.iter().filter(|engine| choose(engine)).map(|engine| engine.id).collect();
        let mut engines: Vec<EngineId> = match &self.choice {
            Choice::All => chosen(&|_| true),
            Choice::These(engines) => engines.clone(),
            Choice::Within(ids) => chosen(&|engine| ids.contains(&engine.id.0)),
            Choice::Label { key, value } => chosen(&|engine| engine.labels.get(key) == Some(value)),
            Choice::Node(name) => chosen(&|engine| engine.node == *name),
        };
        if self.order == Order::Rank {
            let ranks: HashMap<EngineId, u32> = there.iter().filter_map(|engine| Some((engine.id, engine.rank?))).collect();
            engines.sort_by_key(|id| (ranks.get(id).copied().unwrap_or(u32::MAX), *id));
        }
        engines
    }
}

impl From<EngineId> for Engines {
    fn from(engine: EngineId) -> Self {
        Self::list([engine])
    }
}

impl From<&[EngineId]> for Engines {
    fn from(engines: &[EngineId]) -> Self {
        Self::list(engines.iter().copied())
    }
}

impl From<&Vec<EngineId>> for Engines {
    fn from(engines: &Vec<EngineId>) -> Self {
        Self::list(engines.iter().copied())
    }
}

impl From<Vec<EngineId>> for Engines {
    fn from(engines: Vec<EngineId>) -> Self {
        Self::list(engines)
    }
}

impl<const N: usize> From<[EngineId; N]> for Engines {
    fn from(engines: [EngineId; N]) -> Self {
        Self::list(engines)
    }
}

impl<const N: usize> From<&[EngineId; N]> for Engines {
    fn from(engines: &[EngineId; N]) -> Self {
        Self::list(*engines)
    }
}

impl From<RangeInclusive<u32>> for Engines {
    fn from(ids: RangeInclusive<u32>) -> Self {
        Self::of(Choice::Within(ids))
    }
}

impl From<Range<u32>> for Engines {
    fn from(ids: Range<u32>) -> Self {
        match ids.end.checked_sub(1) {
            Some(last) => (ids.start..=last).into(),
            None => Self::list([]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(id: u32, node: &str, gpu: Option<&str>, rank: Option<u32>) -> EngineInfo {
        let labels = gpu.map(|gpu| ("gpu".to_string(), gpu.to_string()));
        let (id, node, labels) = (EngineId(id), node.into(), labels.into_iter().collect());
        EngineInfo { id, node, labels, resources: Default::default(), rank }
    }

    #[test]
    fn engines_are_chosen_and_ordered() {
        let there = [
            engine(0, "a", None, None),
            engine(2, "b", Some("a100"), Some(1)),
            engine(3, "b", Some("a100"), Some(1)),
            engine(7, "c", Some("h100"), Some(0)),
        ];
        for (engines, expected) in [
            (Engines::all(), &[0, 2, 3, 7][..]),
            (Engines::all().by_rank(), &[7, 2, 3, 0]),
            (Engines::label("gpu", "a100"), &[2, 3]),
            (Engines::label("gpu", "none"), &[]),
            (Engines::node("b"), &[2, 3]),
            ((1..4).into(), &[2, 3]),
            ((3..=7).into(), &[3, 7]),
            ((0..0).into(), &[]),
            // One that is not there is not passed over.
            ([EngineId(7), EngineId(5), EngineId(0)].into(), &[7, 5, 0]),
            (Engines::list([EngineId(3), EngineId(5), EngineId(7)]).by_rank(), &[7, 3, 5]),
            (EngineId(2).into(), &[2]),
        ] {
            let chosen: Vec<u32> = engines.among(&there).iter().map(|id| id.0).collect();
            assert_eq!(chosen, expected, "{engines:?}");
        }
    }

    #[test]
    fn tasks_are_narrowed_to_engines_and_labels_stay_labels() {
        let there = [engine(0, "a", None, None), engine(2, "b", None, None), engine(3, "b", None, None)];
        let narrowed = |engines: Engines| {
            let mut selection = Selection::default();
            engines.narrow(&mut selection, || there.to_vec()).map(|()| selection)
        };
        let ids = |ids: &[u32]| Selection { engines: Some(ids.iter().copied().map(EngineId).collect()), ..Selection::default() };
        assert_eq!(narrowed(Engines::all()).unwrap(), Selection::default());
        assert_eq!(narrowed([EngineId(9), EngineId(2), EngineId(9)].into()).unwrap(), ids(&[2, 9]));
        assert_eq!(narrowed(Engines::node("b").by_rank()).unwrap(), ids(&[2, 3]));
        assert_eq!(narrowed((0..3).into()).unwrap(), ids(&[0, 2]));
        let label = Selection { labels: [("gpu".to_string(), "a100".to_string())].into(), ..Selection::default() };
        assert_eq!(narrowed(Engines::label("gpu", "a100")).unwrap(), label);
        for none in [Engines::node("c"), Engines::list([]), (7..9).into()] {
            assert!(matches!(narrowed(none), Err(Error::NoEngines)));
        }
    }
}
