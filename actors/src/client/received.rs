//! The results of one job as they have come to this client. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::task::Ranges;
use crate::wire::Run;

/// Results by the index of their task. A run of results is kept until the program has no use for any of it.
#[derive(Debug, Default)]
pub(crate) struct Received {
    runs: BTreeMap<u32, Held>,
    /// Runs whose bytes have not been given back to the sender's window, by their first task.
    ungranted: BTreeSet<u32>,
    /// Runs of which a task has no value, by their first task.
    failed: BTreeSet<u32>,
    /// Tasks whose results have come.
    ended: Ranges,
    /// Tasks whose results the program does not want any more.
    released: Ranges,
}

#[derive(Debug)]
struct Held {
    run: Run,
    /// When it came, in microseconds since the Unix epoch.
    received_us: u64,
    bytes: u64,
    /// Tasks that the program may still ask for.
    live: u32,
    /// Tasks that the program has not read.
    unread: u32,
}

/// What is to be told to the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// The runs that the program has done with, by their first task.
    pub runs: Vec<u32>,
    /// How many more bytes may be sent.
    pub grant_bytes: u64,
}

impl Acknowledgement {
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.grant_bytes == 0
    }

    pub fn add(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.grant_bytes += other.grant_bytes;
    }
}

impl Received {
    /// Takes a run in; its window is given back at once if somebody waits. What has come before, after a link was lost, is
    /// not taken twice. `now_us` is the time, in microseconds since the Unix epoch.
    pub fn insert(&mut self, run: Run, now_us: u64, wanted_now: bool) -> Acknowledgement {
        let (first, end, bytes) = (run.first, run.end(), run.window_bytes());
        let unwanted = Acknowledgement { runs: Vec::new(), grant_bytes: bytes };
        if run.count == 0 || self.ended.covered(first, end) > 0 {
            return unwanted;
        }
        self.ended.cover(first, end);
        let live = run.count - self.released.covered(first, end);
        if live == 0 {
            return unwanted;
        }
        let unread = run.count;
        if run.has_failed() {
            self.failed.insert(first);
        }
        self.runs.insert(first, Held { run, received_us: now_us, bytes, live, unread });
        if wanted_now {
            return unwanted;
        }
        self.ungranted.insert(first);
        Acknowledgement::default()
    }

    /// Somebody waits for results that have not come: whatever is held must not keep them from coming.
    pub fn grant_all(&mut self) -> Acknowledgement {
        let held = std::mem::take(&mut self.ungranted);
        let bytes = held.iter().filter_map(|first| self.runs.get(first)).map(|held| held.bytes);
        Acknowledgement { runs: Vec::new(), grant_bytes: bytes.sum() }
    }

    /// A new subscription has a window of its own; what was held by the old one does not count in it.
    pub fn forget_window(&mut self) {
        self.ungranted.clear();
    }

    /// The program has read these results. Each is read once.
    pub fn read(&mut self, first: u32, end: u32) -> Acknowledgement {
        let mut done = Acknowledgement::default();
        let mut complete = Vec::new();
        for held in self.overlapping(first, end) {
            held.unread = held.unread.saturating_sub(held.overlap(first, end));
            if held.unread == 0 {
                complete.push((held.run.first, held.bytes));
            }
        }
        for (first, bytes) in complete {
            done.runs.push(first);
            done.grant_bytes += self.grant(first, bytes);
        }
        done
    }

    /// The program has no more use for these results, those that have come and those to come. Each is released once. A run
    /// of which nothing was read stays with the store, where its message ids may lead somebody else.
    pub fn release(&mut self, first: u32, end: u32) -> Acknowledgement {
        let mut done = Acknowledgement::default();
        let mut gone = Vec::new();
        for held in self.overlapping(first, end) {
            held.live = held.live.saturating_sub(held.overlap(first, end));
            if held.live == 0 {
                let partly_read = held.unread > 0 && held.unread < held.run.count;
                gone.push((held.run.first, held.bytes, partly_read));
            }
        }
        for (first, bytes, partly_read) in gone {
            done.runs.extend(partly_read.then_some(first));
            done.grant_bytes += self.grant(first, bytes);
            self.runs.remove(&first);
            self.failed.remove(&first);
        }
        self.released.cover(first, end);
        done
    }

    /// The first task of a range whose result has not come.
    pub fn first_missing(&self, first: u32, end: u32) -> Option<u32> {
        self.ended.first_gap(first, end)
    }

    /// The last task of a range whose result has not come.
    pub fn last_missing(&self, first: u32, end: u32) -> Option<u32> {
        self.ended.last_gap(first, end)
    }

    /// The run that holds a task's result, and the task's place in it.
    pub fn find(&self, index: u32) -> Option<(&Run, u32)> {
        let (first, held) = self.runs.range(..=index).next_back()?;
        let offset = index - first;
        (offset < held.run.count).then_some((&held.run, offset))
    }

    /// The runs that hold results of a range, and when each came, in microseconds since the Unix epoch.
    pub fn runs_within(&self, first: u32, end: u32) -> impl Iterator<Item = (&Run, u64)> {
        let from = self.runs.range(..=first).next_back().map_or(first, |(start, _)| *start);
        let held = self.runs.range(from..end.max(from)).map(|(_, held)| held);
        held.filter(move |held| held.overlap(first, end) > 0).map(|held| (&held.run, held.received_us))
    }

    /// The first task of a range that is held here without a value.
    pub fn first_failed(&self, first: u32, end: u32) -> Option<u32> {
        let from = self.failed.range(..=first).next_back().map_or(first, |start| *start);
        let runs = self.failed.range(from..end.max(from)).filter_map(|start| self.runs.get(start));
        runs.into_iter().find_map(|held| held.run.first_failed_within(first, end))
    }

    /// The tasks of some run that has come which lie within the range, as start and end.
    pub fn any_within(&self, first: u32, end: u32) -> Option<(u32, u32)> {
        let (start, held) = self.runs.range(..end).next_back()?;
        (held.run.end() > first).then_some(((*start).max(first), held.run.end().min(end)))
    }

    /// The tasks of the first run that is held, as start and end.
    pub fn first_held(&self) -> Option<(u32, u32)> {
        self.runs.first_key_value().map(|(first, held)| (*first, held.run.end()))
    }

    /// How many tasks of a range have ended.
    pub fn done_within(&self, first: u32, end: u32) -> u32 {
        self.ended.covered(first, end)
    }

    /// How many tasks of a range are held here without a value.
    pub fn failed_within(&self, first: u32, end: u32) -> u32 {
        let before = self.runs.range(..first).next_back().into_iter();
        before.chain(self.runs.range(first..end.max(first))).map(|(_, held)| held.run.failed_within(first, end)).sum()
    }

    /// The ranges within `first..end` whose results have not come, as start and count.
    pub fn missing(&self, first: u32, end: u32) -> Vec<(u32, u32)> {
        self.ended.gaps(first, end).into_iter().map(|(start, stop)| (start, stop - start)).collect()
    }

    fn grant(&mut self, first: u32, bytes: u64) -> u64 {
        if self.ungranted.remove(&first) { bytes } else { 0 }
    }

    fn overlapping(&mut self, first: u32, end: u32) -> impl Iterator<Item = &mut Held> {
        let from = self.runs.range(..=first).next_back().map_or(first, |(start, _)| *start);
        self.runs.range_mut(from..end.max(from)).map(|(_, held)| held).filter(move |held| held.overlap(first, end) > 0)
    }
}

impl Held {
    fn overlap(&self, first: u32, end: u32) -> u32 {
        self.run.end().min(end).saturating_sub(self.run.first.max(first))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::task::{Cause, Outcomes, PackedBuilder, Timing};
    use crate::wire::RunBody;

    pub fn run(first: u32, count: u32) -> Run {
        Run { first, count, engine: None, attempt: 0, submitted_us: 0, body: RunBody::Ended(Cause::Aborted) }
    }

    fn window() -> u64 {
        run(0, 1).window_bytes()
    }

    #[test]
    fn a_run_goes_once_all_of_it_is_read_and_released() {
        let mut received = Received::default();
        assert!(received.insert(run(0, 4), 1, false).is_empty());
        assert!(received.read(0, 1).is_empty());
        assert!(received.release(0, 1).is_empty());
        assert_eq!(received.read(1, 4), Acknowledgement { runs: vec![0], grant_bytes: window() });
        assert!(received.find(3).is_some());
        assert!(received.release(1, 4).is_empty());
        assert!(received.find(3).is_none());
        assert_eq!(received.first_missing(0, 4), None);
    }

    #[test]
    fn results_that_nobody_wants_are_not_kept_and_give_their_window_back() {
        let mut received = Received::default();
        received.release(2, 6);
        assert!(received.insert(run(0, 4), 1, false).is_empty());
        assert_eq!(received.insert(run(4, 2), 1, false), Acknowledgement { runs: vec![], grant_bytes: window() });
        assert!(received.find(4).is_none());
        assert_eq!(received.release(0, 2), Acknowledgement { runs: vec![], grant_bytes: window() });
        assert!(received.find(0).is_none());
    }

    #[test]
    fn a_run_shared_by_a_reader_and_one_who_dropped_is_taken() {
        let mut received = Received::default();
        received.insert(run(0, 2), 1, true);
        received.read(0, 1);
        received.release(0, 1);
        assert_eq!(received.release(1, 2).runs, [0]);
    }

    #[test]
    fn what_comes_twice_counts_once() {
        let mut received = Received::default();
        received.insert(run(0, 4), 1, true);
        assert_eq!(received.insert(run(0, 4), 1, true).grant_bytes, window());
        assert_eq!(received.done_within(0, 10), 4);
        assert_eq!(received.missing(0, 10), [(4, 6)]);
        assert_eq!(received.failed_within(0, 10), 4);
    }

    #[test]
    fn the_first_failure_of_a_range_is_found_while_it_is_held() {
        let mut received = Received::default();
        let mut values = PackedBuilder::default();
        (0..4).for_each(|_| values.push(&[7]));
        let values = values.build();
        let outcomes = |failed: &[u32]| Outcomes {
            values: values.clone(),
            timings: vec![Timing::default(); 4],
            failures: failed.iter().map(|at| (*at, Cause::Aborted)).collect(),
            ..Outcomes::default()
        };
        for (first, failed) in [(0, &[][..]), (4, &[1, 3][..]), (8, &[][..]), (12, &[0][..])] {
            received.insert(Run { body: RunBody::Ran(outcomes(failed)), ..run(first, 4) }, 1, true);
        }
        for (range, expected) in [((0, 16), Some(5)), ((0, 5), None), ((6, 16), Some(7)), ((8, 12), None), ((9, 13), Some(12))] {
            assert_eq!(received.first_failed(range.0, range.1), expected, "{range:?}");
        }
        assert_eq!(received.runs_within(5, 9).map(|(run, _)| run.first).collect::<Vec<_>>(), [4, 8]);
        let _ = received.release(4, 8);
        assert_eq!(received.first_failed(0, 16), Some(12));
    }

    #[test]
    fn a_waiter_opens_the_window_once() {
        let mut received = Received::default();
        received.insert(run(0, 4), 1, false);
        assert_eq!(received.grant_all().grant_bytes, window());
        assert_eq!(received.grant_all().grant_bytes, 0);
        assert_eq!(received.read(0, 4), Acknowledgement { runs: vec![0], grant_bytes: 0 });
    }
}
