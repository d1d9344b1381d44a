//! The arguments of one job's tasks that have not ended. Pure.

use std::collections::VecDeque;

use crate::task::{Packed, PackedBuilder};

/// Arguments in the runs in which they were submitted. A run is dropped once all of its tasks have ended, so that a job of
/// any length holds no more than what is under way.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    runs: VecDeque<Run>,
    bytes: usize,
}

#[derive(Debug)]
struct Run {
    first: u32,
    arguments: Packed,
    /// Tasks of it that have not ended.
    open: u32,
}

impl Run {
    fn end(&self) -> u32 {
        // A job has at most 2^32 tasks, which `Scheduler::extend_job` checks.
        self.first + self.arguments.len() as u32
    }
}

impl Arguments {
    /// Adds the arguments of the tasks from `first` on, which come after all that were added before.
    pub fn extend(&mut self, first: u32, arguments: Packed) {
        if !arguments.is_empty() {
            self.bytes += arguments.bytes();
            let open = arguments.len() as u32;
            self.runs.push_back(Run { first, arguments, open });
        }
    }

    /// The arguments of `count` tasks from `first` on; `None` if one of them is not here.
    pub fn slice(&self, first: u32, count: u32) -> Option<Packed> {
        let at = self.position(first)?;
        let run = &self.runs[at];
        if first + count <= run.end() {
            return Some(run.arguments.slice((first - run.first) as usize, count as usize));
        }
        let mut builder = PackedBuilder::default();
        let mut next = first;
        for run in self.runs.range(at..) {
            while next < first + count && next < run.end() {
                builder.push(run.arguments.item(next.checked_sub(run.first)? as usize)?);
                next += 1;
            }
        }
        (next == first + count).then(|| builder.build())
    }

    /// `count` tasks from `first` on have ended. Each is said to have ended once.
    pub fn end(&mut self, first: u32, count: u32) {
        let (mut next, end) = (first, first + count);
        while next < end {
            let Some(at) = self.position(next) else { return };
            let run = &mut self.runs[at];
            let here = end.min(run.end()) - next;
            run.open = run.open.saturating_sub(here);
            next += here;
        }
        while self.runs.front().is_some_and(|run| run.open == 0) {
            self.drop_run(0);
        }
        // A run may be done before its neighbours when batches end out of order; it holds memory only until they do.
    }

    /// The bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn position(&self, index: u32) -> Option<usize> {
        let at = self.runs.partition_point(|run| run.end() <= index);
        (self.runs.get(at)?.first <= index).then_some(at)
    }

    fn drop_run(&mut self, at: usize) {
        if let Some(run) = self.runs.remove(at) {
            self.bytes -= run.arguments.bytes();
        }
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
        assert!(arguments.slice(9, 2).is_none());
        assert!(arguments.slice(10, 1).is_none());
    }

    #[test]
    fn ended_runs_are_dropped_whatever_the_order() {
        let mut arguments = Arguments::default();
        for first in (0..100).step_by(10) {
            arguments.extend(first, packed(first..first + 10));
        }
        let whole = arguments.bytes();
        arguments.end(5, 20);
        assert_eq!(arguments.bytes(), whole, "the first run is still open");
        arguments.end(0, 5);
        assert_eq!(arguments.bytes(), whole * 8 / 10);
        assert_eq!(numbers(&arguments.slice(25, 2).unwrap()), [25, 26]);
        arguments.end(25, 75);
        assert_eq!(arguments.bytes(), 0);
    }
}
