//! The results of one job as they have come to this client. Pure.

use std::collections::BTreeMap;

use crate::wire::{Run, RunBody};

/// Results by the index of their task. A run of results is kept until the program has no use for any of it.
#[derive(Debug, Default)]
pub(crate) struct Received {
    runs: BTreeMap<u32, Held>,
    /// Ended tasks, received or dropped: disjoint, from start to end.
    ended: BTreeMap<u32, u32>,
    /// Tasks whose results the program does not want any more, from start to end.
    released: BTreeMap<u32, u32>,
}

#[derive(Debug)]
struct Held {
    run: Run,
    /// The number of the message that it came in.
    sequence: u64,
    bytes: u64,
    /// Tasks that the program may still ask for.
    live: u32,
    /// Tasks that the program has not read.
    unread: u32,
    /// Its bytes have been given back to the sender's window.
    granted: bool,
}

/// What is to be told to the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// The messages all of whose results the program has read.
    pub sequence: Vec<u64>,
    /// How many more bytes may be sent.
    pub grant_bytes: u64,
}

impl Acknowledgement {
    pub fn is_empty(&self) -> bool {
        self.sequence.is_empty() && self.grant_bytes == 0
    }

    pub fn add(&mut self, other: Self) {
        self.sequence.extend(other.sequence);
        self.grant_bytes += other.grant_bytes;
    }
}

impl Received {
    /// Takes a run in. What has come before, after a link was lost, is not taken twice.
    pub fn insert(&mut self, sequence: u64, run: Run, bytes: u64, wanted_now: bool) -> Acknowledgement {
        let (first, end) = (run.first, run.first.saturating_add(run.count));
        if covered(&self.ended, first, end) > 0 || run.count == 0 {
            return Acknowledgement { sequence: Vec::new(), grant_bytes: bytes };
        }
        cover(&mut self.ended, first, end);
        let live = run.count - covered(&self.released, first, end);
        if live == 0 {
            return Acknowledgement { sequence: Vec::new(), grant_bytes: bytes };
        }
        let grant_bytes = if wanted_now { bytes } else { 0 };
        let unread = run.count;
        self.runs.insert(first, Held { run, sequence, bytes, live, unread, granted: wanted_now });
        Acknowledgement { sequence: Vec::new(), grant_bytes }
    }

    /// Somebody waits for results that have not come: whatever is held must not keep them from coming.
    pub fn grant_all(&mut self) -> Acknowledgement {
        let mut acknowledgement = Acknowledgement::default();
        for held in self.runs.values_mut().filter(|held| !held.granted) {
            held.granted = true;
            acknowledgement.grant_bytes += held.bytes;
        }
        acknowledgement
    }

    /// The program has read these results. Each is read once.
    pub fn read(&mut self, first: u32, end: u32) -> Acknowledgement {
        let mut acknowledgement = Acknowledgement::default();
        for held in self.overlapping(first, end) {
            let overlap = held.overlap(first, end);
            held.unread = held.unread.saturating_sub(overlap);
            if overlap > 0 && held.unread == 0 {
                acknowledgement.sequence.push(held.sequence);
                acknowledgement.grant_bytes += if std::mem::replace(&mut held.granted, true) { 0 } else { held.bytes };
            }
        }
        acknowledgement
    }

    /// The program has no more use for these results, those that have come and those to come. Each is released once.
    pub fn release(&mut self, first: u32, end: u32) -> Acknowledgement {
        let mut acknowledgement = Acknowledgement::default();
        let mut gone = Vec::new();
        for held in self.overlapping(first, end) {
            held.live = held.live.saturating_sub(held.overlap(first, end));
            if held.live == 0 {
                gone.push(held.run.first);
                acknowledgement.grant_bytes += if held.granted { 0 } else { held.bytes };
            }
        }
        gone.iter().for_each(|first| drop(self.runs.remove(first)));
        cover(&mut self.released, first, end);
        acknowledgement
    }

    /// Whether all tasks of a range have ended.
    pub fn is_complete(&self, first: u32, end: u32) -> bool {
        covered(&self.ended, first, end) == end - first
    }

    /// The run that holds a task's result, and the task's place in it.
    pub fn find(&self, index: u32) -> Option<(&Run, u32)> {
        let (first, held) = self.runs.range(..=index).next_back()?;
        let offset = index - first;
        (offset < held.run.count).then_some((&held.run, offset))
    }

    /// The first task of a run that has come and lies, in part, within the range.
    pub fn any_within(&self, first: u32, end: u32) -> Option<(u32, u32)> {
        let (start, held) = self.runs.range(..end).next_back()?;
        let run_end = start + held.run.count;
        (run_end > first).then_some(((*start).max(first), run_end.min(end)))
    }

    /// How many tasks of a range have ended.
    pub fn done_within(&self, first: u32, end: u32) -> u32 {
        covered(&self.ended, first, end)
    }

    /// How many tasks of a range are held here without a value.
    pub fn failed_within(&self, first: u32, end: u32) -> u32 {
        let before = self.runs.range(..first).next_back().into_iter();
        before.chain(self.runs.range(first..end.max(first))).map(|(_, held)| failures(&held.run, first, end)).sum()
    }

    /// The ranges within `first..end` that have not ended.
    pub fn missing(&self, first: u32, end: u32) -> Vec<(u32, u32)> {
        let mut gaps = Vec::new();
        let mut next = first;
        for (start, stop) in overlapping(&self.ended, first, end) {
            if start > next {
                gaps.push((next, start - next));
            }
            next = next.max(stop);
        }
        if next < end {
            gaps.push((next, end - next));
        }
        gaps
    }

    fn overlapping(&mut self, first: u32, end: u32) -> impl Iterator<Item = &mut Held> {
        let from = self.runs.range(..=first).next_back().map_or(first, |(start, _)| *start);
        self.runs.range_mut(from..end.max(from)).map(|(_, held)| held).filter(move |held| held.overlap(first, end) > 0)
    }
}

impl Held {
    fn overlap(&self, first: u32, end: u32) -> u32 {
        let stop = self.run.first.saturating_add(self.run.count).min(end);
        stop.saturating_sub(self.run.first.max(first))
    }
}

fn failures(run: &Run, first: u32, end: u32) -> u32 {
    let stop = run.first.saturating_add(run.count).min(end);
    let start = run.first.max(first);
    match &run.body {
        RunBody::Ended(_) => stop.saturating_sub(start),
        RunBody::Ran(outcomes) => {
            let within = |at: &u32| (start..stop).contains(&(run.first + at));
            outcomes.failures.iter().filter(|(at, _)| within(at)).count() as u32
        }
    }
}

/// The parts of a set of disjoint ranges that overlap `first..end`, whole.
fn overlapping(set: &BTreeMap<u32, u32>, first: u32, end: u32) -> impl Iterator<Item = (u32, u32)> {
    let before = set.range(..first).next_back().filter(move |(_, stop)| **stop > first);
    before.into_iter().chain(set.range(first..end.max(first))).map(|(start, stop)| (*start, *stop))
}

/// How many of `first..end` a set of disjoint ranges covers.
fn covered(set: &BTreeMap<u32, u32>, first: u32, end: u32) -> u32 {
    overlapping(set, first, end).map(|(start, stop)| stop.min(end) - start.max(first)).sum()
}

/// Adds a range to a set of disjoint ranges, merged with those that it meets.
fn cover(set: &mut BTreeMap<u32, u32>, first: u32, end: u32) {
    if first >= end {
        return;
    }
    let (mut first, mut end) = (first, end);
    while let Some((&start, &stop)) = set.range(..=end).next_back().filter(|(_, stop)| **stop >= first) {
        set.remove(&start);
        first = first.min(start);
        end = end.max(stop);
    }
    set.insert(first, end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Cause;

    fn run(first: u32, count: u32) -> Run {
        Run { first, count, engine: None, attempt: 0, submitted_us: 0, body: RunBody::Ended(Cause::Aborted) }
    }

    #[test]
    fn ranges_merge_whatever_their_order() {
        for order in [[(0, 3), (3, 5), (8, 9)], [(8, 9), (3, 5), (0, 3)], [(3, 5), (8, 9), (0, 4)]] {
            let mut set = BTreeMap::new();
            order.iter().for_each(|(first, end)| cover(&mut set, *first, *end));
            assert_eq!(set.into_iter().collect::<Vec<_>>(), [(0, 5), (8, 9)]);
        }
    }

    #[test]
    fn a_run_goes_once_all_of_it_is_read_and_released() {
        let mut received = Received::default();
        assert!(received.insert(1, run(0, 4), 100, false).is_empty());
        assert!(received.read(0, 1).is_empty());
        assert!(received.release(0, 1).is_empty());
        assert_eq!(received.read(1, 4), Acknowledgement { sequence: vec![1], grant_bytes: 100 });
        assert!(received.find(3).is_some());
        assert!(received.release(1, 4).is_empty());
        assert!(received.find(3).is_none());
        assert!(received.is_complete(0, 4));
    }

    #[test]
    fn results_that_nobody_wants_are_not_kept_and_give_their_window_back() {
        let mut received = Received::default();
        received.release(2, 6);
        assert!(received.insert(1, run(0, 4), 100, false).is_empty());
        assert_eq!(received.insert(2, run(4, 2), 50, false).grant_bytes, 50);
        assert!(received.find(4).is_none());
        assert_eq!(received.release(0, 2).grant_bytes, 100);
        assert!(received.find(0).is_none());
    }

    #[test]
    fn what_comes_twice_counts_once() {
        let mut received = Received::default();
        received.insert(1, run(0, 4), 100, true);
        assert_eq!(received.insert(9, run(0, 4), 100, true).grant_bytes, 100);
        assert_eq!(received.done_within(0, 10), 4);
        assert_eq!(received.missing(0, 10), [(4, 6)]);
        assert_eq!(received.failed_within(0, 10), 4);
    }

    #[test]
    fn a_waiter_opens_the_window_once() {
        let mut received = Received::default();
        received.insert(1, run(0, 4), 100, false);
        assert_eq!(received.grant_all().grant_bytes, 100);
        assert_eq!(received.grant_all().grant_bytes, 0);
        assert_eq!(received.read(0, 4), Acknowledgement { sequence: vec![1], grant_bytes: 0 });
    }
}
