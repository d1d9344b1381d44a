//! What tasks need and what engines have.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::task::{BundleHash, EngineId, Equipment};

/// What an engine needs to have to run the tasks of a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Requirement {
    /// A program, which travels to the engine or is there already.
    Bundle {
        /// The program.
        hash: BundleHash,
        /// The target triple that it is built for.
        target: String,
    },
    /// A task that the engine's own program has registered by name.
    Named {
        /// The name.
        name: String,
    },
}

impl Requirement {
    /// Why a job with this requirement waits while no connected engine satisfies it.
    pub(crate) fn unmet(&self) -> String {
        match self {
            Requirement::Bundle { hash, target } => format!("no connected engine can run {target} bundle {}", short(hash)),
            Requirement::Named { name } => format!("no connected engine offers the task {name:?}"),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requirement::Bundle { hash, target } => write!(f, "of {target} bundle {}", short(hash)),
            Requirement::Named { name } => write!(f, "named {name:?}"),
        }
    }
}

/// What an engine runs code in, and so which code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WorkerMode {
    /// Processes that it starts: any bundle of its target.
    Process,
    /// A thread of its own program: functions of that program.
    Thread {
        /// That program, if it is known which it is.
        bundle: Option<BundleHash>,
    },
}

/// What an engine can run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Capability {
    /// The target triple of the programs that it runs.
    pub target: String,
    /// What it runs them in.
    pub worker: WorkerMode,
    /// The named tasks that it offers.
    pub names: BTreeSet<String>,
}

/// An engine, as it comes.
#[derive(Clone, Debug)]
pub struct EngineSpec {
    /// Its number.
    pub id: EngineId,
    /// What it can run.
    pub capability: Capability,
    /// What its node was started with. Shared by the engines of a node.
    pub equipment: Arc<Equipment>,
}

impl Capability {
    /// Whether it can run tasks with this requirement.
    pub fn satisfies(&self, requirement: &Requirement) -> bool {
        match requirement {
            Requirement::Named { name } => self.names.contains(name),
            Requirement::Bundle { hash, target } => {
                *target == self.target
                    && match &self.worker {
                        WorkerMode::Process => true,
                        WorkerMode::Thread { bundle } => bundle.as_ref() == Some(hash),
                    }
            }
        }
    }

    /// Why it cannot run tasks with this requirement, or `None` when it can.
    pub fn refusal(&self, requirement: &Requirement) -> Option<String> {
        if self.satisfies(requirement) {
            return None;
        }
        Some(match (requirement, &self.worker) {
            (Requirement::Named { name }, _) => format!("it offers no task named {name:?}"),
            (Requirement::Bundle { target, .. }, _) if *target != self.target => {
                format!("it runs programs built for {}, and this one is built for {target}", self.target)
            }
            (Requirement::Bundle { hash, .. }, WorkerMode::Thread { bundle: Some(own) }) => {
                format!(
                    "it runs the functions of its own program (bundle {}) only, not those of bundle {}",
                    short(own),
                    short(hash)
                )
            }
            (Requirement::Bundle { .. }, _) => "it runs named tasks only".into(),
        })
    }
}

/// Eight hexadecimal digits tell the bundles of a cluster apart.
fn short(hash: &BundleHash) -> String {
    format!("{}…", &hash.to_string()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_run_what() {
        let bundle = |n: u8, target: &str| Requirement::Bundle { hash: BundleHash([n; 32]), target: target.into() };
        let named = |name: &str| Requirement::Named { name: name.into() };
        let engine = |worker| Capability { target: "a".into(), worker, names: ["sum".to_string()].into() };
        let process = engine(WorkerMode::Process);
        let own = engine(WorkerMode::Thread { bundle: Some(BundleHash([1; 32])) });
        let bare = engine(WorkerMode::Thread { bundle: None });
        for (capability, requirement, expected) in [
            (&process, bundle(1, "a"), None),
            (&process, bundle(2, "a"), None),
            (&process, bundle(1, "b"), Some("it runs programs built for a, and this one is built for b")),
            (&process, named("sum"), None),
            (&process, named("product"), Some("it offers no task named \"product\"")),
            (&own, bundle(1, "a"), None),
            (
                &own,
                bundle(2, "a"),
                Some("it runs the functions of its own program (bundle 01010101…) only, not those of bundle 02020202…"),
            ),
            (&own, bundle(1, "b"), Some("it runs programs built for a, and this one is built for b")),
            (&bare, bundle(1, "a"), Some("it runs named tasks only")),
            (&bare, named("sum"), None),
        ] {
            assert_eq!(capability.refusal(&requirement).as_deref(), expected, "{capability:?} {requirement:?}");
            assert_eq!(capability.satisfies(&requirement), expected.is_none());
        }
    }
}
