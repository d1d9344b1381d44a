//! What is kept of a job.

use super::{
    Chunk, OpenError, Placement, Time,
    ascending::Ascending,
    batch_size::{Load, Pace},
    client::Client,
    engines::Engine,
    gate::{Dependents, Gate},
    matching::Class,
    order::Entry,
    pending::Pending,
    retries::Again,
    slab::Key,
    timeouts::QueueTimeouts,
};
use crate::task::{EngineId, JobId, Selection};

/// The most tasks of one job: their indices and their number are a `u32`.
pub(crate) const TASKS_MAX: u32 = u32::MAX;

/// Whether tasks may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    Open,
    Closed,
}

/// A job that is not finished.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) client: Key<Client>,
    pub(crate) class: Key<Class>,
    pub(crate) priority: i32,
    pub(crate) chunk: Chunk,
    pub(crate) intake: Intake,
    /// Whether it waits for other tasks.
    pub(crate) gate: Gate,
    /// Who waits for it, if anybody does.
    pub(crate) dependents: Option<Box<Dependents>>,
    /// When its tasks run out of time, if they can.
    pub(crate) timeouts: Option<Box<QueueTimeouts>>,
    /// Its tasks that failed and are tried again, if it has retries.
    pub(crate) again: Option<Box<Again>>,
    /// A task that ran alone and has lost this many engines in a row fails.
    pub(crate) poison_losses: u32,
    /// Its number in the order of submission.
    pub(crate) seq: u64,
    /// One for a balanced job; one for each item of a direct job's placement.
    pub(crate) parts: Vec<Part>,
    /// Where each live batch is, by its first index.
    pub(crate) batches: Ascending<u32, Key<Engine>>,
    pub(crate) pace: Pace,
    pub(crate) load: Load,
    /// How many tasks it has so far.
    pub(crate) total: u32,
    pub(crate) queued: u32,
    pub(crate) active: u32,
    pub(crate) done: u32,
    /// How many of those have no value.
    pub(crate) failed: u32,
}

/// Tasks of a job that go the same way.
#[derive(Debug)]
pub(crate) struct Part {
    /// The engine that they are bound to, if they are.
    pub(crate) pin: Option<EngineId>,
    /// The end of what there is room for; it begins where the part before it ends.
    pub(crate) end: u32,
    pub(crate) pending: Pending,
    /// Whether it is in the orders of those who could run it. It is not while all its tasks found an engine at once.
    pub(crate) listed: bool,
}

impl Part {
    pub(crate) fn new(pin: Option<EngineId>, end: u32) -> Self {
        Self { pin, end, pending: Pending::default(), listed: false }
    }
}

impl Job {
    /// How many more tasks it can take.
    pub(crate) fn room(&self) -> u32 {
        self.parts.last().map_or(0, |part| part.end) - self.total
    }

    /// Whether its tasks were not each given an engine: it has one part, with room for all there can be.
    pub(crate) fn is_balanced(&self) -> bool {
        self.parts.len() == 1 && self.parts[0].end == TASKS_MAX
    }

    /// The part that holds `index`.
    pub(crate) fn part_of(&self, index: u32) -> usize {
        self.parts.partition_point(|part| part.end <= index)
    }

    pub(crate) fn entry(&self, job: Key<Job>, part: usize) -> Entry {
        Entry { seq: self.seq, job, part }
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> super::JobCounts {
        super::JobCounts { queued: self.queued, active: self.active, done: self.done }
    }

    /// When something is due with it.
    pub(crate) fn alarm(&self) -> Option<Time> {
        let expiry = self.timeouts.as_ref().and_then(|timeouts| timeouts.next());
        let again = self.again.as_ref().and_then(|again| again.next());
        expiry.into_iter().chain(again).min()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.intake == Intake::Closed && self.done == self.total
    }
}

/// The parts of a job. One that may run on a single engine is bound to that, which its selection then need not say.
pub(crate) fn parts(placement: Placement, selection: &mut Selection, max: usize) -> Result<Vec<Part>, OpenError> {
    let placement = match placement {
        Placement::Balanced => return Ok(vec![Part::new(selection.take_only_engine(), TASKS_MAX)]),
        Placement::Direct(placement) => placement,
    };
    if placement.len() > max {
        return Err(OpenError::PlacementTooLong { parts: placement.len(), max });
    }
    let mut parts = Vec::with_capacity(placement.len());
    let mut first = 0u32;
    for (engine, count) in placement {
        let end = first.checked_add(count).ok_or(OpenError::PlacementTooLarge { max: TASKS_MAX })?;
        parts.push(Part::new(Some(engine), end));
        first = end;
    }
    Ok(parts)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::scheduler::{ClientKey, slab::Slab};

    /// A job that belongs to nothing.
    pub(crate) fn job() -> Job {
        Job {
            id: JobId::from_u128(1),
            client: Slab::default().insert(Client::new(ClientKey(1))),
            class: Slab::default().insert(Class::new(crate::scheduler::Requirement::Named { name: "a".into() }, None)),
            priority: 0,
            chunk: Chunk::Adaptive,
            intake: Intake::Open,
            gate: Gate::Open,
            dependents: None,
            timeouts: None,
            again: None,
            poison_losses: 3,
            seq: 1,
            parts: vec![],
            batches: Ascending::default(),
            pace: Pace::default(),
            load: Load::default(),
            total: 0,
            queued: 0,
            active: 0,
            done: 0,
            failed: 0,
        }
    }

    #[test]
    fn an_index_lies_in_one_part_and_empty_parts_hold_none() {
        let mut job = job();
        job.parts = [(0, 3), (3, 3), (3, 5)].map(|(first, end)| Part::new(Some(EngineId(first)), end)).into();
        assert_eq!([0, 2, 3, 4].map(|index| job.part_of(index)), [0, 0, 2, 2]);
        assert_eq!(job.room(), 5);
    }
}
