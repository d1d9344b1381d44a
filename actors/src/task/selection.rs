//! Which engines may run the tasks of a job, by what their nodes were started with. Pure data and pure matching.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::EngineId;

/// Which engines may run tasks, beside those that have their function: those that meet all of this. The empty one is met by all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Those with each of these labels.
    pub labels: BTreeSet<(String, String)>,
    /// Those with at least so much of each of these resources.
    pub resources: BTreeMap<String, u64>,
    /// Those that offer each of these named tasks.
    pub tasks: BTreeSet<String>,
    /// These.
    pub engines: Option<BTreeSet<EngineId>>,
}

/// What an engine's node was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Equipment {
    pub labels: BTreeMap<String, String>,
    pub resources: BTreeMap<String, u64>,
}

impl Selection {
    /// Whether all engines meet it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The only engine that may meet it, if it names one alone; it names none then.
    pub fn take_only_engine(&mut self) -> Option<EngineId> {
        self.engines.take_if(|engines| engines.len() == 1)?.pop_first()
    }

    /// Whether an engine with this equipment that offers these named tasks meets it. One task runs at a time, so that amounts need
    /// no accounting.
    pub fn is_met_by(&self, engine: EngineId, equipment: &Equipment, tasks: &BTreeSet<String>) -> bool {
        self.engines.as_ref().is_none_or(|engines| engines.contains(&engine))
            && self.labels.iter().all(|(key, value)| equipment.labels.get(key) == Some(value))
            && self.resources.iter().all(|(name, amount)| has(equipment, name) >= *amount)
            && self.tasks.is_subset(tasks)
    }

    /// Leaves these of its engines only.
    pub fn narrow(&mut self, engines: &BTreeSet<EngineId>) {
        self.engines = Some(match &self.engines {
            Some(named) => named & engines,
            None => engines.clone(),
        });
    }

    /// How many labels, resources, tasks and engines it names.
    pub fn len(&self) -> usize {
        self.labels.len() + self.resources.len() + self.tasks.len() + self.engines.as_ref().map_or(0, BTreeSet::len)
    }

    /// The bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let labels = self.labels.iter().map(|(key, value)| key.len() + value.len());
        let names = self.resources.keys().chain(&self.tasks).map(String::len);
        labels.chain(names).sum()
    }
}

/// How much it has; 0 of what it was not started with.
fn has(equipment: &Equipment, resource: &str) -> u64 {
    equipment.resources.get(resource).copied().unwrap_or(0)
}

/// What an engine needs to have, but for its number.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.labels.iter().map(|(key, value)| format!("the label {key}={value}"));
        let resources = self.resources.iter().map(|(name, amount)| format!("{amount} of the resource {name}"));
        let tasks = self.tasks.iter().map(|name| format!("the task {name:?}"));
        let all: Vec<String> = labels.chain(resources).chain(tasks).collect();
        f.write_str(&all.join(" and "))
    }
}

/// `3, 7 and 9`: engines for people, the first few of many.
pub(crate) fn engines_shown(engines: &BTreeSet<EngineId>) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = engines.iter().take(SHOWN).map(EngineId::to_string).collect();
    let more = engines.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map<V>(key: &str, value: V) -> BTreeMap<String, V> {
        BTreeMap::from([(key.to_string(), value)])
    }

    fn label(key: &str, value: &str) -> BTreeSet<(String, String)> {
        [(key.to_string(), value.to_string())].into()
    }

    #[test]
    fn an_engine_meets_what_is_asked_of_it_if_it_meets_all_of_it() {
        let equipment = Equipment { labels: map("gpu", "a100".into()), resources: map("memory_gb", 16) };
        let tasks = BTreeSet::from(["sum".to_string()]);
        let all = Selection::default;
        for (selection, expected) in [
            (all(), true),
            (Selection { labels: label("gpu", "a100"), ..all() }, true),
            (Selection { labels: label("gpu", "h100"), ..all() }, false),
            (Selection { labels: label("rack", "3"), ..all() }, false),
            (Selection { resources: map("memory_gb", 16), ..all() }, true),
            (Selection { resources: map("memory_gb", 17), ..all() }, false),
            (Selection { resources: map("disk_gb", 1), ..all() }, false),
            (Selection { resources: map("disk_gb", 0), ..all() }, true),
            (Selection { tasks: tasks.clone(), ..all() }, true),
            (Selection { tasks: BTreeSet::from(["product".to_string()]), ..all() }, false),
            (Selection { engines: Some([EngineId(3), EngineId(4)].into()), ..all() }, true),
            (Selection { engines: Some([EngineId(4)].into()), ..all() }, false),
            (Selection { engines: Some(BTreeSet::new()), ..all() }, false),
            (Selection { labels: label("gpu", "a100"), resources: map("memory_gb", 32), ..all() }, false),
        ] {
            assert_eq!(selection.is_met_by(EngineId(3), &equipment, &tasks), expected, "{selection:?}");
        }
    }

    #[test]
    fn people_are_told_what_is_asked_for() {
        let selection = Selection { labels: label("gpu", "a100"), resources: map("memory_gb", 16), ..Selection::default() };
        assert_eq!(selection.to_string(), "the label gpu=a100 and 16 of the resource memory_gb");
        assert_eq!(engines_shown(&[EngineId(9), EngineId(3)].into()), "3, 9");
        assert_eq!(engines_shown(&(0..12).map(EngineId).collect()), "0, 1, 2, 3, 4, 5, 6, 7 and 4 more");
    }
}
