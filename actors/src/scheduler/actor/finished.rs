//! The jobs that have finished lately. Pure.

use std::collections::{HashMap, VecDeque};

use crate::{results::Owner, task::JobId};

/// How many finished jobs are remembered. A submission is sent again when its acknowledgement was lost with the link, at once
/// when the link is back: many more jobs than a client has under way, and a few megabytes.
pub(super) const FINISHED_MAX: usize = 65_536;

/// A job that has finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FinishedJob {
    pub owner: Owner,
    /// How many tasks it had.
    pub submitted: u32,
}

/// Remembers the last [`FINISHED_MAX`] jobs that finished; who finished first is forgotten first.
#[derive(Debug, Default)]
pub(super) struct FinishedJobs {
    jobs: HashMap<JobId, FinishedJob>,
    order: VecDeque<JobId>,
}

impl FinishedJobs {
    pub fn add(&mut self, id: JobId, job: FinishedJob) {
        if self.jobs.insert(id, job).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > FINISHED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.jobs.remove(&oldest);
        }
    }

    pub fn find(&self, id: JobId) -> Option<&FinishedJob> {
        self.jobs.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use engineroom_runtime::proto::handshake::Incarnation;

    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut finished = FinishedJobs::default();
        let owner = Owner { name: "ada".into(), incarnation: Incarnation::from_u128(1) };
        let id = |number: usize| JobId::from_u128(number as u128);
        for number in 0..FINISHED_MAX + 10 {
            finished.add(id(number), FinishedJob { owner: owner.clone(), submitted: number as u32 });
            finished.add(id(number), FinishedJob { owner: owner.clone(), submitted: number as u32 });
        }
        assert_eq!((finished.jobs.len(), finished.order.len()), (FINISHED_MAX, FINISHED_MAX));
        assert_eq!(finished.find(id(9)), None);
        assert_eq!(finished.find(id(10)).map(|job| job.submitted), Some(10));
    }
}
