//! What one engine has to do: its batches, how far the running one is, and what follows from each event. Pure.
//!
//! A slot runs one batch at a time, in index order. A batch may be run in several pieces: around tasks that are to be
//! stopped, and again from the task at which a worker crashed.

use std::collections::VecDeque;

use crate::task::{BatchId, Cause, Outcomes, PackedBuilder, Timing, WorkerExit};
use crate::wire::{Dispatch, Report};

/// How many batches may wait at an engine. The scheduler sends far fewer; more is a broken controller.
pub(crate) const WAITING_MAX: usize = 64;

/// How many retracted batches that had not come yet are remembered, so as not to run them when they do.
const RETRACTED_MAX: usize = 64;

/// The batches of one engine.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    waiting: VecDeque<Batch>,
    running: Option<Running>,
    /// Retracted before they came: a long batch travels as bulk, which the retraction overtakes.
    retracted: VecDeque<BatchId>,
}

#[derive(Debug)]
struct Batch {
    dispatch: Dispatch,
    /// Tasks to be stopped: first index and end.
    stopped: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct Running {
    batch: Batch,
    /// The first task without an outcome: the one that runs, or the next.
    next: u32,
    /// The end of the piece that the worker has.
    piece_end: u32,
    /// The task that the worker is known to be at; earlier ones may have ended without having been reported.
    at: Option<u32>,
    /// The worker reports each task before it starts the next, so that a crash has one possible culprit.
    careful: bool,
    /// The worker is being stopped because of a stopped task.
    stopping: bool,
}

/// What a slot wants done next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Run these tasks of the running batch.
    Run {
        /// The first of them.
        first: u32,
        /// How many.
        count: u32,
        /// Whether each is to be reported before the next starts.
        careful: bool,
    },
    /// There is nothing to do.
    Idle,
}

impl Slot {
    /// A batch has come. `false` if there are too many.
    pub fn dispatched(&mut self, dispatch: Dispatch) -> bool {
        if let Some(at) = self.retracted.iter().position(|batch| *batch == dispatch.batch) {
            self.retracted.remove(at);
            return true;
        }
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        self.waiting.push_back(Batch { dispatch, stopped: Vec::new() });
        true
    }

    /// Gives a batch back if it has not started; says whether it did.
    pub fn retract(&mut self, batch: BatchId) -> bool {
        if self.running.as_ref().is_some_and(|running| running.batch.dispatch.batch == batch) {
            return false;
        }
        match self.waiting.iter().position(|waiting| waiting.dispatch.batch == batch) {
            Some(at) => drop(self.waiting.remove(at)),
            None => {
                if self.retracted.len() == RETRACTED_MAX {
                    self.retracted.pop_front();
                }
                self.retracted.push_back(batch);
            }
        }
        true
    }

    /// The batch that runs or is the next to run.
    pub fn current(&self) -> Option<&Dispatch> {
        self.running.as_ref().map(|running| &running.batch.dispatch)
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }

    /// Makes the next waiting batch the running one, if none runs. Says whether there is a running one now that the
    /// worker does not have yet.
    pub fn begin(&mut self) -> bool {
        if self.running.is_some() {
            return false;
        }
        let Some(batch) = self.waiting.pop_front() else { return false };
        let next = batch.dispatch.first;
        self.running = Some(Running { batch, next, piece_end: next, at: None, careful: false, stopping: false });
        true
    }

    /// What the worker has to do now. Stopped tasks that come first are ended here, into `reports`.
    pub fn step(&mut self, reports: &mut Vec<Report>) -> Step {
        let Some(running) = self.running.as_mut() else { return Step::Idle };
        while let Some(end) = running.stopped_until(running.next) {
            let first = running.next;
            reports.push(running.ended(end - first, |_| Cause::Aborted));
        }
        if running.next == running.batch.end() {
            self.running = None;
            return Step::Idle;
        }
        running.piece_end = running.next_stop();
        running.at = None;
        Step::Run { first: running.next, count: running.piece_end - running.next, careful: running.careful }
    }

    /// The worker has ended tasks. The report to pass on, unless it is not about what runs here, and whether the worker
    /// has nothing left to do.
    pub fn progressed(&mut self, batch: BatchId, first: u32, outcomes: Outcomes) -> Option<(Report, bool)> {
        let running = self.running.as_mut()?;
        let count = u32::try_from(outcomes.len()).ok()?;
        let expected = running.batch.dispatch.batch == batch && running.next == first;
        if !expected || count == 0 || count > running.piece_end - first || !outcomes.is_sound() {
            return None;
        }
        running.next += count;
        let report = Report { engine: running.batch.dispatch.engine, batch, first, outcomes };
        Some((report, running.next == running.piece_end))
    }

    /// The worker says which task it is at.
    pub fn running_at(&mut self, batch: BatchId, index: u32) {
        if let Some(running) = self.running.as_mut().filter(|running| running.batch.dispatch.batch == batch) {
            running.at = Some(index);
        }
    }

    /// These tasks are to be stopped.
    pub fn stop(&mut self, batch: BatchId, first: u32, count: u32) {
        let end = first.saturating_add(count);
        let waiting = self.waiting.iter_mut().find(|waiting| waiting.dispatch.batch == batch);
        let running = self.running.as_mut().map(|running| &mut running.batch).filter(|running| running.dispatch.batch == batch);
        if let Some(batch) = running.or(waiting) {
            batch.stopped.push((first, end));
        }
    }

    /// Whether the worker is at a task that is to be stopped; true once a piece.
    pub fn must_stop_worker(&mut self) -> bool {
        let Some(running) = self.running.as_mut().filter(|running| !running.stopping) else { return false };
        running.stopping = running.next < running.piece_end && running.stopped_until(running.next).is_some();
        running.stopping
    }

    /// The worker has ended. Its task is ended with it, into `reports`, unless it is not certain which one it was: then
    /// the rest of the batch is run again, task by task.
    pub fn worker_ended(&mut self, exit: WorkerExit, last_output: &str, reports: &mut Vec<Report>) {
        let Some(running) = self.running.as_mut() else { return };
        let alone = running.piece_end - running.next <= 1;
        if std::mem::take(&mut running.stopping) {
            // The stopped tasks are ended by the next step.
        } else if alone || running.careful || running.at == Some(running.next) {
            let cause = Cause::WorkerCrashed { exit, last_output: last_output.to_owned() };
            reports.push(running.ended(1, |_| cause.clone()));
            running.careful = false;
        } else {
            running.careful = true;
        }
        running.piece_end = running.next;
        running.at = None;
    }

    /// The rest of the running batch cannot be run.
    pub fn fail_running(&mut self, cause: &Cause, reports: &mut Vec<Report>) {
        if let Some(mut running) = self.running.take() {
            let rest = running.batch.end() - running.next;
            reports.push(running.ended(rest, |_| cause.clone()));
        }
    }

    /// Forgets everything: whoever wanted it is gone.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Batch {
    fn end(&self) -> u32 {
        // The scheduler cuts batches within a job's 2^32 tasks.
        self.dispatch.first.saturating_add(self.dispatch.arguments.len() as u32)
    }
}

impl Running {
    /// The end of the stopped range that `index` lies in.
    fn stopped_until(&self, index: u32) -> Option<u32> {
        let covering = self.batch.stopped.iter().filter(|(first, end)| (*first..*end).contains(&index));
        let end = covering.map(|(_, end)| *end).max()?;
        Some(end.min(self.batch.end())).filter(|end| *end > index)
    }

    /// The first stopped task after `next`, or the end of the batch.
    fn next_stop(&self) -> u32 {
        let starts = self.batch.stopped.iter().map(|(first, _)| *first).filter(|first| *first > self.next);
        starts.min().unwrap_or(u32::MAX).min(self.batch.end())
    }

    /// Ends the next `count` tasks without values.
    fn ended(&mut self, count: u32, cause: impl Fn(u32) -> Cause) -> Report {
        let mut values = PackedBuilder::default();
        (0..count).for_each(|_| values.push(&[]));
        let outcomes = Outcomes {
            values: values.build(),
            timings: vec![Timing::default(); count as usize],
            failures: (0..count).map(|offset| (offset, cause(offset))).collect(),
            ..Outcomes::default()
        };
        let dispatch = &self.batch.dispatch;
        let report = Report { engine: dispatch.engine, batch: dispatch.batch, first: self.next, outcomes };
        self.next += count;
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{Function, FunctionRef};
    use crate::task::{EngineId, JobId};

    fn dispatch(batch: u64, first: u32, count: u32) -> Dispatch {
        let mut arguments = PackedBuilder::default();
        (0..count).for_each(|_| arguments.push(b"x"));
        let reference = FunctionRef::Named { name: "f".into() };
        let function = Function { reference, name: "f".into() };
        let (engine, job) = (EngineId(1), JobId::from_u128(1));
        Dispatch { engine, batch: BatchId(batch), job, first, attempt: 1, function, arguments: arguments.build() }
    }

    fn values(count: u32) -> Outcomes {
        let mut values = PackedBuilder::default();
        (0..count).for_each(|_| values.push(b"v"));
        Outcomes { values: values.build(), timings: vec![Timing::default(); count as usize], ..Outcomes::default() }
    }

    const CRASH: WorkerExit = WorkerExit::Signal(6);

    /// Runs a slot to its end with a worker that crashes at `culprits`, having reported only every `flush` tasks.
    /// Gives each task's outcome: whether it has a value.
    fn run(slot: &mut Slot, batch: u64, culprits: &[u32], flush: u32) -> Vec<(u32, Option<Cause>)> {
        let (mut reports, mut outcomes) = (Vec::new(), Vec::new());
        assert!(slot.begin());
        loop {
            let step = slot.step(&mut reports);
            let Step::Run { first, count, careful } = step else { break };
            let flush = if careful { 1 } else { flush };
            let mut next = first;
            while next < first + count {
                let end = (next + flush).min(first + count);
                if culprits.iter().any(|culprit| (next..end).contains(culprit)) {
                    slot.worker_ended(CRASH, "boom", &mut reports);
                    break;
                }
                let (report, _) = slot.progressed(BatchId(batch), next, values(end - next)).expect("it is about what runs");
                reports.push(report);
                next = end;
            }
        }
        for report in reports {
            for offset in 0..report.outcomes.len() as u32 {
                outcomes.push((report.first + offset, report.outcomes.failure(offset).cloned()));
            }
        }
        outcomes
    }

    #[test]
    fn a_crash_costs_its_own_task_only_whatever_was_reported() {
        for flush in [1, 2, 3, 10, 100] {
            for culprits in [&[][..], &[10], &[29], &[15, 16, 20], &[10, 11, 12]] {
                let mut slot = Slot::default();
                slot.dispatched(dispatch(1, 10, 20));
                let outcomes = run(&mut slot, 1, culprits, flush);
                assert_eq!(outcomes.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (10..30).collect::<Vec<_>>());
                for (index, failure) in outcomes {
                    assert_eq!(failure.is_some(), culprits.contains(&index), "task {index}, flush {flush}, {culprits:?}");
                }
            }
        }
    }

    #[test]
    fn a_crash_at_the_task_that_the_worker_was_at_needs_no_second_run() {
        let mut slot = Slot::default();
        slot.dispatched(dispatch(1, 0, 5));
        slot.begin();
        let mut reports = Vec::new();
        slot.step(&mut reports);
        slot.progressed(BatchId(1), 0, values(2));
        slot.running_at(BatchId(1), 2);
        slot.worker_ended(CRASH, "", &mut reports);
        assert_eq!((reports.len(), reports[0].first), (1, 2));
        assert!(matches!(slot.step(&mut reports), Step::Run { first: 3, count: 2, careful: false }));
    }

    #[test]
    fn stopped_tasks_are_skipped_and_the_others_run() {
        let mut slot = Slot::default();
        slot.dispatched(dispatch(1, 0, 10));
        slot.stop(BatchId(1), 0, 2);
        slot.stop(BatchId(1), 5, 3);
        slot.stop(BatchId(1), 6, 3);
        let stopped: Vec<u32> =
            run(&mut slot, 1, &[], 1).iter().filter(|(_, cause)| cause.is_some()).map(|(index, _)| *index).collect();
        assert_eq!(stopped, [0, 1, 5, 6, 7, 8]);
    }

    #[test]
    fn a_running_task_that_is_stopped_stops_the_worker_once() {
        let mut slot = Slot::default();
        slot.dispatched(dispatch(1, 0, 4));
        slot.begin();
        let mut reports = Vec::new();
        slot.step(&mut reports);
        slot.stop(BatchId(1), 1, 1);
        assert!(!slot.must_stop_worker(), "the task that runs is not to be stopped");
        slot.progressed(BatchId(1), 0, values(1));
        assert!(slot.must_stop_worker());
        assert!(!slot.must_stop_worker());
        slot.worker_ended(WorkerExit::Signal(9), "", &mut reports);
        assert!(matches!(slot.step(&mut reports), Step::Run { first: 2, count: 2, careful: false }));
        assert_eq!(reports[0].outcomes.failure(0), Some(&Cause::Aborted));
    }

    #[test]
    fn a_retraction_that_overtakes_its_batch_still_holds() {
        let mut slot = Slot::default();
        assert!(slot.retract(BatchId(1)));
        assert!(slot.dispatched(dispatch(1, 0, 4)));
        assert!(slot.is_idle());
        slot.dispatched(dispatch(2, 0, 4));
        slot.begin();
        assert!(!slot.retract(BatchId(2)), "it has started");
    }

    #[test]
    fn reports_that_do_not_fit_are_refused() {
        let mut slot = Slot::default();
        slot.dispatched(dispatch(1, 0, 4));
        slot.begin();
        slot.step(&mut Vec::new());
        for (batch, first, count) in [(2, 0, 1), (1, 1, 1), (1, 0, 5), (1, 0, 0)] {
            assert!(slot.progressed(BatchId(batch), first, values(count)).is_none(), "{batch} {first} {count}");
        }
    }
}
