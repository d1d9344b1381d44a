//! What is kept of an engine and its batches, and the lines in which free engines stand.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Time,
    job::Job,
    matching::Kind,
    order::Order,
    pending::{IndexSet, Span},
    slab::{Key, Slab},
};
use crate::task::{BatchId, EngineId, Equipment};

/// A connected engine.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) id: EngineId,
    pub(crate) kind: Key<Kind>,
    /// What jobs may choose it by.
    pub(crate) equipment: Arc<Equipment>,
    pub(crate) duty: Duty,
    /// The batches that it holds. It runs the first; the others wait.
    pub(crate) batches: VecDeque<Batch>,
    /// The parts that are bound to it and have queued tasks.
    pub(crate) pinned: Order,
    /// Where it stands, and beside whom.
    pub(crate) place: Place,
    before: Option<Key<Engine>>,
    after: Option<Key<Engine>>,
    /// When it came to stand there, as a number that others know who came later; with the scheme that needs it.
    pub(crate) turn: u64,
    /// When the batch that it runs started, or was last reported of.
    pub(crate) heard: Time,
    /// The waiting batch that was asked back from another engine for this one.
    pub(crate) steals: Option<BatchId>,
    /// How many outcomes of it have counted.
    pub(crate) completed: u64,
}

/// Whether an engine gets batches.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    #[default]
    Serving,
    Draining,
}

/// In which line of its kind an engine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In none: it takes nothing now.
    Away,
    /// It holds no batch.
    Idle,
    /// It runs one and has a free waiting slot.
    Open,
}

impl Engine {
    /// An engine without work, and with room for what it holds usually.
    pub(crate) fn new(id: EngineId, kind: Key<Kind>, equipment: Arc<Equipment>, prefetch: usize) -> Self {
        Self {
            id,
            kind,
            equipment,
            duty: Duty::Serving,
            batches: VecDeque::with_capacity(1 + prefetch),
            pinned: Order::default(),
            place: Place::Away,
            before: None,
            after: None,
            turn: 0,
            heard: Time(0),
            steals: None,
            completed: 0,
        }
    }

    /// Where the batch is among those that it holds.
    pub(crate) fn position(&self, batch: BatchId) -> Option<usize> {
        self.batches.iter().position(|held| held.id == batch)
    }

    /// Where it should stand, given how many batches may wait.
    pub(crate) fn due_place(&self, prefetch: usize) -> Place {
        match self.batches.back() {
            _ if self.duty == Duty::Draining => Place::Away,
            None => Place::Idle,
            // What waited behind a suspect would blur who brought the engine down.
            Some(last) if last.is_suspect() || self.batches.len() > prefetch => Place::Away,
            Some(_) => Place::Open,
        }
    }
}

/// One dispatch that has not ended.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    pub(crate) job: Key<Job>,
    /// A `u32`, to keep the record small: a placement has no more parts than a job has tasks.
    part: u32,
    /// What was sent.
    pub(crate) span: Span,
    /// How many of them, from the first, have an outcome.
    pub(crate) done: u32,
    /// What the client was charged for each task, in microseconds.
    price_us: u32,
    pub(crate) busy_us: u64,
    pub(crate) reach: Reach,
    pub(crate) stage: Stage,
    pub(crate) retraction: Retraction,
    /// The tasks that the engine was asked to abort. Boxed, to keep the record small: hardly ever are there any.
    cancelled: Option<Box<IndexSet>>,
}

/// Whether a batch may go to another engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Balanced,
    Pinned,
}

/// How far a batch is, as far as can be known from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Others are before it.
    Waiting,
    /// It may have started.
    Started,
}

/// Whether the engine was asked to give a batch back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retraction {
    Unasked,
    /// It was, on behalf of this engine if of any.
    Asked(Option<EngineId>),
    Refused,
}

impl Batch {
    /// A batch of a part of a job of which nothing is known yet. Each of its tasks was charged `price_us`.
    pub(crate) fn new(
        id: BatchId,
        (job, part): (Key<Job>, usize),
        span: Span,
        reach: Reach,
        stage: Stage,
        price_us: u32,
    ) -> Self {
        // There are at most as many parts as a placement has, see `Settings::placement_max`.
        let part = u32::try_from(part).expect("a job has fewer than 2^32 parts");
        let retraction = Retraction::Unasked;
        Self { id, job, part, span, done: 0, price_us, busy_us: 0, reach, stage, retraction, cancelled: None }
    }

    /// The part of the job that its tasks are of.
    pub(crate) fn part(&self) -> usize {
        self.part as usize
    }

    /// What the client was charged for so many of its tasks, in microseconds.
    pub(crate) fn price_us(&self, tasks: u32) -> u64 {
        u64::from(self.price_us) * u64::from(tasks)
    }

    /// The first task without an outcome.
    pub(crate) fn next(&self) -> u32 {
        self.span.first + self.done
    }

    /// How many tasks have no outcome.
    pub(crate) fn left(&self) -> u32 {
        self.span.count - self.done
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.span.attempts() + 1
    }

    /// The engine is asked to abort tasks `first..end`. Returns those for which it had not been before.
    pub(crate) fn cancel(&mut self, first: u32, end: u32) -> Vec<(u32, u32)> {
        self.cancelled.get_or_insert_default().insert(first, end)
    }

    /// Whether the engine was asked to abort that task.
    pub(crate) fn is_cancelled(&self, index: u32) -> bool {
        self.cancelled.as_ref().is_some_and(|cancelled| cancelled.cut(index, index + 1) == [(index, index + 1, true)])
    }

    /// The tasks without an outcome, as runs that the engine was asked to abort (`true`) or was not.
    pub(crate) fn rest(&self) -> Vec<(u32, u32, bool)> {
        let (next, end) = (self.next(), self.span.end());
        match &self.cancelled {
            Some(cancelled) => cancelled.cut(next, end),
            None => IndexSet::default().cut(next, end),
        }
    }

    /// As [`rest`](Self::rest), with a cut at that index.
    pub(crate) fn rest_from(&self, index: u32) -> Vec<(u32, u32, bool)> {
        let mut rest = self.rest();
        if let Some(at) = rest.iter().position(|(first, end, _)| *first < index && index < *end) {
            let (first, end, aborted) = rest[at];
            rest[at] = (index, end, aborted);
            rest.insert(at, (first, index, aborted));
        }
        rest
    }

    /// Whether it is one task on its own because engines were lost with it.
    pub(crate) fn is_suspect(&self) -> bool {
        self.span.losses > 0 && self.span.count == 1
    }

    /// Whether it stands in the list of batches that an idle engine may get.
    pub(crate) fn is_stealable(&self) -> bool {
        self.stage == Stage::Waiting && self.retraction == Retraction::Unasked && self.reach == Reach::Balanced
    }
}

/// Engines one behind the other. Entering and leaving cost the same wherever it happens.
#[derive(Debug, Default)]
pub(crate) struct Line {
    first: Option<Key<Engine>>,
    last: Option<Key<Engine>>,
}

impl Line {
    pub(crate) fn first(&self) -> Option<Key<Engine>> {
        self.first
    }

    pub(crate) fn push_front(&mut self, engines: &mut Slab<Engine>, key: Key<Engine>) {
        let old = self.first.replace(key);
        (engines[key].before, engines[key].after) = (None, old);
        match old {
            Some(old) => engines[old].before = Some(key),
            None => self.last = Some(key),
        }
    }

    pub(crate) fn push_back(&mut self, engines: &mut Slab<Engine>, key: Key<Engine>) {
        let old = self.last.replace(key);
        (engines[key].before, engines[key].after) = (old, None);
        match old {
            Some(old) => engines[old].after = Some(key),
            None => self.first = Some(key),
        }
    }

    pub(crate) fn remove(&mut self, engines: &mut Slab<Engine>, key: Key<Engine>) {
        let (before, after) = (engines[key].before.take(), engines[key].after.take());
        match before {
            Some(before) => engines[before].after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => engines[after].before = before,
            None => self.last = before,
        }
    }

    pub(crate) fn iter<'a>(&self, engines: &'a Slab<Engine>) -> impl Iterator<Item = Key<Engine>> + use<'a> {
        std::iter::successors(self.first, |key| engines[*key].after)
    }
}
