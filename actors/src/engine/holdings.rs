//! What one engine has of the controller: its batches, and the reports that were not acknowledged. Pure.
//!
//! It outlives the link: when the controller is back, or another life of it, the engine states what it has and is told what of it
//! is still wanted.

use std::collections::{BTreeMap, VecDeque};

use crate::task::{BatchId, EngineId, JobId};
use crate::wire::{Dispatch, Report};

/// A batch of which a task has no acknowledged outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub batch: BatchId,
    pub job: JobId,
    /// The first task whose outcome was not acknowledged.
    pub first: u32,
    /// The end of the batch.
    pub end: u32,
    pub attempt: u32,
    /// It has been stated to a controller that has not said yet whether it is still wanted.
    stated: bool,
}

/// What an engine has, in the order in which it came.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    batches: VecDeque<Held>,
    /// Reports to be sent, oldest first.
    waiting: VecDeque<Report>,
    /// Reports that were sent and not acknowledged, by their number.
    under_way: BTreeMap<u64, Report>,
    next_number: u64,
}

impl Holdings {
    /// A batch has come.
    pub fn add(&mut self, dispatch: &Dispatch) {
        let Dispatch { batch, job, first, attempt, .. } = *dispatch;
        // The scheduler cuts batches within a job's 2^32 tasks.
        let end = first.saturating_add(dispatch.arguments.len() as u32);
        self.batches.push_back(Held { batch, job, first, end, attempt, stated: false });
    }

    /// A batch was given back.
    pub fn give_back(&mut self, batch: BatchId) {
        self.batches.retain(|held| held.batch != batch);
    }

    /// Something is to be reported.
    pub fn report(&mut self, report: Report) {
        self.waiting.push_back(report);
    }

    /// How many reports have not been acknowledged.
    pub fn reports(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    /// How many reports are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// The next report to be sent.
    pub fn next(&self) -> Option<&Report> {
        self.waiting.front()
    }

    /// The next report was sent; the number under which it is acknowledged.
    pub fn sent(&mut self) -> Option<u64> {
        let report = self.waiting.pop_front()?;
        self.next_number += 1;
        self.under_way.insert(self.next_number, report);
        Some(self.next_number)
    }

    /// The outcomes of a report are kept by the controller.
    pub fn acknowledged(&mut self, number: u64) {
        let Some(report) = self.under_way.remove(&number) else { return };
        let end = report_end(&report);
        if let Some(held) = self.batches.iter_mut().find(|held| held.batch == report.batch) {
            held.first = held.first.max(end);
        }
        self.batches.retain(|held| held.first < held.end);
    }

    /// The link is lost: what was under way is to be sent again, before everything else.
    pub fn link_lost(&mut self) {
        for (_, report) in std::mem::take(&mut self.under_way).into_iter().rev() {
            self.waiting.push_front(report);
        }
    }

    /// What is to be stated to a controller that is there again. What comes afterwards is not a matter of its answer.
    pub fn state(&mut self) -> Vec<Held> {
        self.batches.iter_mut().for_each(|held| held.stated = true);
        self.batches.iter().cloned().collect()
    }

    /// The controller wants these of the stated batches, each from that task on, and knows this engine by that id. Returns the
    /// batches that it does not want any more.
    pub fn resume(&mut self, engine: EngineId, kept: &[(BatchId, u32)]) -> Vec<BatchId> {
        let mut dropped = Vec::new();
        for held in self.batches.iter_mut().filter(|held| held.stated) {
            held.stated = false;
            match kept.iter().find(|(batch, _)| *batch == held.batch) {
                Some((_, from)) => held.first = held.first.max(*from).min(held.end),
                None => dropped.push(held.batch),
            }
        }
        self.batches.retain(|held| !dropped.contains(&held.batch));
        for mut report in std::mem::take(&mut self.waiting) {
            let Some(held) = self.batches.iter().find(|held| held.batch == report.batch) else { continue };
            let (wanted, end) = (held.first.max(report.first), report_end(&report));
            if wanted < end {
                report.outcomes = report.outcomes.skip(wanted - report.first);
                (report.first, report.engine) = (wanted, engine);
                self.waiting.push_back(report);
            }
        }
        self.batches.retain(|held| held.first < held.end);
        dropped
    }

    #[cfg(test)]
    pub fn batches(&self) -> impl Iterator<Item = BatchId> {
        self.batches.iter().map(|held| held.batch)
    }

    /// Whether there is nothing that the controller does not have.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.reports() == 0
    }
}

fn report_end(report: &Report) -> u32 {
    // A batch has fewer than 2^32 tasks.
    report.first.saturating_add(report.outcomes.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{Function, FunctionRef};
    use crate::task::{Cause, Outcomes, PackedBuilder, Timing};

    fn dispatch(batch: u64, first: u32, count: u32) -> Dispatch {
        let mut arguments = PackedBuilder::default();
        (0..count).for_each(|_| arguments.push(b"x"));
        let function = Function { reference: FunctionRef::Named { name: "f".into() }, name: "f".into() };
        let (engine, job, attempt) = (EngineId(1), JobId::from_u128(7), 1);
        Dispatch {
            engine,
            batch: BatchId(batch),
            job,
            first,
            attempt,
            function,
            arguments: arguments.build(),
            shared: None,
            time_limit_ms: 0,
        }
    }

    fn report(batch: u64, first: u32, count: u32) -> Report {
        let mut values = PackedBuilder::default();
        (first..first + count).for_each(|index| values.push(&index.to_le_bytes()));
        let outcomes = Outcomes {
            values: values.build(),
            timings: vec![Timing::default(); count as usize],
            failures: (0..count).filter(|at| (first + at).is_multiple_of(3)).map(|at| (at, Cause::Aborted)).collect(),
            ..Outcomes::default()
        };
        Report { engine: EngineId(1), batch: BatchId(batch), first, outcomes }
    }

    /// What would be sent now: batch, first, values; and it is sound.
    fn pending(holdings: &Holdings) -> Vec<(u64, Vec<u32>)> {
        let values = |report: &Report| {
            assert!(report.outcomes.is_sound());
            assert!(report.outcomes.failures.iter().all(|(at, _)| (report.first + at).is_multiple_of(3)));
            let numbers: Vec<u32> =
                report.outcomes.values.iter().map(|item| u32::from_le_bytes(item.try_into().unwrap())).collect();
            assert_eq!(numbers.first(), Some(&report.first));
            (report.batch.0, numbers)
        };
        holdings.waiting.iter().map(values).collect()
    }

    fn stated(holdings: &mut Holdings) -> Vec<(u64, u32, u32)> {
        holdings.state().iter().map(|held| (held.batch.0, held.first, held.end)).collect()
    }

    #[test]
    fn what_was_not_acknowledged_is_stated_and_sent_again_in_order() {
        let mut holdings = Holdings::default();
        holdings.add(&dispatch(1, 10, 4));
        holdings.add(&dispatch(2, 20, 2));
        for first in 10..14 {
            holdings.report(report(1, first, 1));
        }
        let numbers: Vec<u64> = (0..3).filter_map(|_| holdings.sent()).collect();
        holdings.acknowledged(numbers[0]);
        holdings.link_lost();
        assert_eq!(stated(&mut holdings), [(1, 11, 14), (2, 20, 22)]);
        holdings.acknowledged(numbers[1]);
        assert!(holdings.resume(EngineId(5), &[(BatchId(1), 11), (BatchId(2), 20)]).is_empty());
        assert_eq!(pending(&holdings), [(1, vec![11]), (1, vec![12]), (1, vec![13])]);
        assert!(holdings.waiting.iter().all(|report| report.engine == EngineId(5)));
    }

    #[test]
    fn what_is_not_wanted_is_dropped_and_reports_are_cut() {
        let mut holdings = Holdings::default();
        for batch in 1..=3 {
            holdings.add(&dispatch(batch, 10, 6));
            holdings.report(report(batch, 10, 5));
        }
        assert_eq!(holdings.state().len(), 3);
        holdings.add(&dispatch(4, 0, 1));
        let dropped = holdings.resume(EngineId(1), &[(BatchId(1), 12), (BatchId(3), 16)]);
        assert_eq!(dropped, [BatchId(2)]);
        assert_eq!(pending(&holdings), [(1, vec![12, 13, 14])]);
        assert_eq!(stated(&mut holdings), [(1, 12, 16), (4, 0, 1)], "what came since is no matter of that answer");
    }

    #[test]
    fn acknowledgements_may_come_in_any_order_between_batches() {
        let mut holdings = Holdings::default();
        for batch in 1..=2 {
            holdings.add(&dispatch(batch, 0, 1));
            holdings.report(report(batch, 0, 1));
        }
        let numbers: Vec<u64> = (0..2).filter_map(|_| holdings.sent()).collect();
        holdings.acknowledged(numbers[1]);
        assert_eq!(stated(&mut holdings), [(1, 0, 1)]);
        holdings.acknowledged(numbers[0]);
        assert!(holdings.is_empty());
    }
}
