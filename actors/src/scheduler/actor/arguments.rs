//! The arguments of one job's tasks that have not ended. Pure.

use std::collections::VecDeque;

use crate::task::{Packed, PackedBuilder, Ranges};

/// What a run costs beside its arguments, in bytes: its record and its allocations.
const RUN_BYTES: usize = 128;

/// So many ended runs may keep their places behind one that has not ended, whatever there is besides.
const ENDED_MIN: usize = 64;

/// Arguments in the runs in which they were submitted. The arguments of a run are dropped once all of its tasks have ended, so
/// that a job of any length holds no more than what is under way.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    runs: VecDeque<Run>,
    /// Of those, all of whose tasks have ended.
    ended: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Run {
    first: u32,
    count: u32,
    /// Of all its tasks, or of none once all have ended.
    arguments: Packed,
    /// Tasks of it that have not ended.
    open: u32,
}

impl Run {
    fn end(&self) -> u32 {
        // A job has at most 2^32 - 1 tasks, which `Scheduler::extend_job` checks.
        self.first + self.count
    }
}

impl Arguments {
    /// What holding these arguments costs, in bytes.
    pub fn cost(arguments: &Packed) -> usize {
        if arguments.is_empty() { 0 } else { RUN_BYTES + arguments.bytes() }
    }

    /// Adds the arguments of the tasks from `first` on, which come after all that were added before.
    pub fn extend(&mut self, first: u32, arguments: Packed) {
        if !arguments.is_empty() {
            self.bytes += Self::cost(&arguments);
            let count = arguments.len() as u32;
            self.runs.push_back(Run { first, count, arguments, open: count });
        }
    }

    /// The arguments of `count` tasks from `first` on; `None` if one of them is not here.
    pub fn slice(&self, first: u32, count: u32) -> Option<Packed> {
        let (at, stop) = (self.position(first)?, first.checked_add(count)?);
        let run = &self.runs[at];
        if stop <= run.end() {
            return (run.open > 0).then(|| run.arguments.slice((first - run.first) as usize, count as usize));
        }
        let mut builder = PackedBuilder::default();
        let mut next = first;
        for run in self.runs.range(at..) {
            while next < stop && next < run.end() {
                builder.push(run.arguments.item(next.checked_sub(run.first)? as usize)?);
                next += 1;
            }
        }
        (next == stop).then(|| builder.build())
    }

    /// `count` tasks from `first` on have ended. Each is said to have ended once.
    pub fn end(&mut self, first: u32, count: u32) {
        let (mut next, end) = (first, first.saturating_add(count));
        while next < end {
            let Some(at) = self.position(next) else { break };
            let run = &mut self.runs[at];
            let here = end.min(run.end()) - next;
            run.open = run.open.saturating_sub(here);
            next += here;
            if run.open == 0 {
                // Its place is kept for a while, so that runs are found by halving.
                self.bytes -= std::mem::take(&mut run.arguments).bytes();
                self.ended += 1;
            }
        }
        let before = self.runs.len();
        while self.runs.pop_front_if(|run| run.open == 0).is_some() {
            self.ended -= 1;
        }
        // A task that never ends keeps no places but a few.
        if self.ended > ENDED_MIN && self.ended > self.runs.len() / 2 {
            self.runs.retain(|run| run.open > 0);
            self.ended = 0;
        }
        self.bytes -= (before - self.runs.len()) * RUN_BYTES;
    }

    /// Of all tasks that are here, only these, given ascending as start and end, have not ended.
    pub fn keep_only(&mut self, open: impl Iterator<Item = (u32, u32)>) {
        let held: Vec<(u32, u32)> = self.runs.iter().map(|run| (run.first, run.end())).collect();
        let mut kept = Ranges::default();
        open.for_each(|(first, end)| kept.cover(first, end));
        for (first, end) in held {
            for (first, end) in kept.gaps(first, end) {
                self.end(first, end - first);
            }
        }
    }

    /// The bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn position(&self, index: u32) -> Option<usize> {
        let at = self.runs.partition_point(|run| run.end() <= index);
        (self.runs.get(at)?.first <= index).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(range: std::ops::Range<u32>) -> Packed {
        let mut builder = PackedBuilder::default();
        range.for_each(|number| builder.push(&number.to_le_bytes()));
        builder.build()
    }

    fn numbers(packed: &Packed) -> Vec<u32> {
        packed.iter().map(|item| u32::from_le_bytes(item.try_into().unwrap())).collect()
    }

    #[test]
    fn slices_reach_across_runs() {
        let mut arguments = Arguments::default();
        for (first, end) in [(0, 3), (3, 4), (4, 10)] {
            arguments.extend(first, packed(first..end));
        }
        for first in 0..10 {
            for end in first + 1..=10 {
                let slice = arguments.slice(first, end - first).unwrap();
                assert_eq!(numbers(&slice), (first..end).collect::<Vec<_>>());
            }
        }
        for (first, count) in [(9, 2), (10, 1), (9, u32::MAX)] {
            assert!(arguments.slice(first, count).is_none());
        }
    }

    #[test]
    fn ended_runs_are_dropped_whatever_the_order() {
        let mut arguments = Arguments::default();
        for first in (0..100).step_by(10) {
            arguments.extend(first, packed(first..first + 10));
        }
        let whole = arguments.bytes();
        arguments.end(5, 20);
        assert_eq!(arguments.bytes(), whole - 80, "the first run is still open; the arguments of the second are not held");
        assert!(arguments.slice(10, 1).is_none() && arguments.slice(9, 2).is_none() && arguments.slice(5, 30).is_none());
        arguments.end(0, 5);
        assert_eq!(arguments.bytes(), whole * 8 / 10);
        assert_eq!(numbers(&arguments.slice(25, 2).unwrap()), [25, 26]);
        arguments.end(25, 75);
        assert_eq!(arguments.bytes(), 0);
    }

    #[test]
    fn what_is_taken_up_again_is_what_has_not_ended() {
        let mut arguments = Arguments::default();
        for first in [0, 10, 30] {
            arguments.extend(first, packed(first..first + 10));
        }
        arguments.keep_only([(3, 5), (12, 20), (38, 40)].into_iter());
        for (first, end) in [(3, 5), (12, 20), (38, 40)] {
            assert_eq!(numbers(&arguments.slice(first, end - first).unwrap()), (first..end).collect::<Vec<_>>());
            arguments.end(first, end - first);
        }
        assert_eq!(arguments.bytes(), 0);
    }

    #[test]
    fn a_straggler_holds_no_arguments_but_its_own() {
        let mut arguments = Arguments::default();
        for first in 0..1_000 {
            arguments.extend(first, packed(first..first + 1));
        }
        for index in 1..1_000 {
            arguments.end(index, 1);
        }
        let places = arguments.bytes() - (RUN_BYTES + 8);
        assert!(places <= ENDED_MIN * RUN_BYTES, "one argument with its end, and {places} bytes");
        assert_eq!(numbers(&arguments.slice(0, 1).unwrap()), [0]);
        arguments.end(0, 1);
        assert_eq!(arguments.bytes(), 0);
    }
}
