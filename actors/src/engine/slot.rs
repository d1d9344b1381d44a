//! What one engine has to do: its batches, how far the running one is, and what follows from each event. Pure.
//!
//! A slot runs one batch at a time, in index order. A batch may be run in several pieces: around tasks that are to be
//! stopped, and again from the task at which a worker crashed.

use std::{collections::VecDeque, time::Duration};

use crate::task::{BatchId, Cause, Outcomes, PackedBuilder, Ranges, Timing, WorkerExit};
use crate::wire::{Dispatch, Report};

/// How many batches may wait at an engine. The scheduler sends far fewer; more is a broken controller.
pub(crate) const WAITING_MAX: usize = 64;

/// How many messages about batches that had not come yet are remembered, and how many batches that are over. The scheduler has
/// fewer batches at an engine; of more, the oldest are forgotten, and a task may run that need not.
const REMEMBERED_MAX: usize = 64;

/// How many bytes of text the failures of a batch's rest have together, when all have the same cause. Each has at least
/// [`DETAIL_BYTES_MIN`].
const DETAILS_BYTES_MAX: usize = 4 << 20;

/// What is left in any case of a text that many failures have, in bytes: a sentence.
const DETAIL_BYTES_MIN: usize = 256;

/// How many times in a row a worker may be killed before its task is held to be the reason: it may be what needs the memory.
const KILLS_MAX: u32 = 2;

/// The batches of one engine.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    waiting: VecDeque<Batch>,
    running: Option<Running>,
    /// Retracted before they came: a long batch travels as bulk, which the retraction overtakes.
    retracted: Recent<BatchId>,
    /// Tasks that were stopped before they came, for the same reason: batch, first index and end.
    stopped: Recent<(BatchId, u32, u32)>,
    /// No longer here: ended or given back.
    over: Recent<BatchId>,
}

/// The last [`REMEMBERED_MAX`] of something.
#[derive(Debug)]
struct Recent<T>(VecDeque<T>);

#[derive(Debug)]
struct Batch {
    dispatch: Dispatch,
    /// Tasks to be stopped.
    stopped: Ranges,
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
    /// Since the last outcome, so many workers were killed from outside.
    kills: u32,
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
        let id = dispatch.batch;
        let mut batch = Batch { dispatch, stopped: Ranges::default() };
        for (_, first, end) in self.stopped.take(|(stopped, ..)| *stopped == id) {
            batch.stopped.cover(first, end);
        }
        if !self.retracted.take(|retracted| *retracted == id).is_empty() {
            self.over.push(id);
            return true;
        }
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        self.waiting.push_back(batch);
        true
    }

    /// Gives a batch back if it has not started; says whether it did.
    pub fn retract(&mut self, batch: BatchId) -> bool {
        let runs = self.running.as_ref().is_some_and(|running| running.batch.dispatch.batch == batch);
        if runs || self.over.contains(&batch) {
            return false;
        }
        match self.waiting.iter().position(|waiting| waiting.dispatch.batch == batch) {
            Some(at) => {
                self.waiting.remove(at);
                self.over.push(batch);
            }
            None => self.retracted.push(batch),
        }
        true
    }

    /// The batch that runs or is the next to run.
    pub fn current(&self) -> Option<&Dispatch> {
        self.running.as_ref().map(|running| &running.batch.dispatch)
    }

    /// Whether a batch is here and has not begun.
    pub fn waits(&self, batch: BatchId) -> bool {
        self.waiting.iter().any(|waiting| waiting.dispatch.batch == batch)
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
        self.running = Some(Running { batch, next, piece_end: next, at: None, careful: false, kills: 0 });
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
            self.over.push(running.batch.dispatch.batch);
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
        running.kills = 0;
        let report = Report { engine: running.batch.dispatch.engine, batch, first, outcomes };
        Some((report, running.next == running.piece_end))
    }

    /// The worker says which task it is at.
    pub fn running_at(&mut self, batch: BatchId, index: u32) {
        if let Some(running) = self.running.as_mut().filter(|running| running.batch.dispatch.batch == batch) {
            running.at = Some(index);
        }
    }

    /// These tasks are to be stopped, now or when their batch comes.
    pub fn stop(&mut self, batch: BatchId, first: u32, count: u32) {
        let end = first.saturating_add(count);
        let waiting = self.waiting.iter_mut().find(|waiting| waiting.dispatch.batch == batch);
        let running = self.running.as_mut().map(|running| &mut running.batch).filter(|running| running.dispatch.batch == batch);
        match running.or(waiting) {
            Some(batch) => batch.stopped.cover(first, end),
            None if self.over.contains(&batch) => {}
            None => self.stopped.push((batch, first, end)),
        }
    }

    /// Whether the task that runs, or is the next to run, is to be stopped.
    pub fn is_at_stopped(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.stopped_until(running.next).is_some())
    }

    /// The worker has ended. Its task is ended with it, into `reports`, unless it is not certain which one it was: then
    /// the rest of the batch is run again, task by task.
    pub fn worker_crashed(&mut self, exit: WorkerExit, last_output: &str, reports: &mut Vec<Report>) {
        let Some(running) = self.running.as_mut() else { return };
        let alone = running.piece_end - running.next <= 1;
        if alone || running.careful || running.at == Some(running.next) {
            let cause = Cause::WorkerCrashed { exit, last_output: last_output.to_owned() };
            reports.push(running.ended(1, |_| cause.clone()));
            running.careful = false;
        } else {
            running.careful = true;
        }
        running.leave_worker();
    }

    /// The task that runs has done so for longer than it may. It is ended, into `reports`; its worker must be stopped.
    pub fn overran(&mut self, limit: Duration, reports: &mut Vec<Report>) {
        let Some(running) = self.running.as_mut() else { return };
        let mut report = running.ended(1, |_| Cause::time_limit(limit, None));
        // It took that long at least, by which the next batches of its job are sized.
        let busy_us = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
        report.outcomes.timings.iter_mut().for_each(|timing| timing.busy_us = busy_us);
        reports.push(report);
        running.leave_worker();
    }

    /// The first task of the running batch without an outcome: the one that runs, or the next.
    pub fn next_task(&self) -> Option<(BatchId, u32)> {
        self.running.as_ref().map(|running| (running.batch.dispatch.batch, running.next))
    }

    /// The worker was killed from outside. Says whether its tasks are tried again: not if that happens time and again.
    pub fn worker_killed(&mut self) -> bool {
        let Some(running) = self.running.as_mut().filter(|running| running.kills < KILLS_MAX) else { return false };
        running.kills += 1;
        running.leave_worker();
        true
    }

    /// The worker has ended, and no task is to blame: it was stopped, or never had them.
    pub fn worker_left(&mut self) {
        if let Some(running) = self.running.as_mut() {
            running.leave_worker();
        }
    }

    /// The rest of the running batch cannot be run, because there is no worker for it.
    pub fn fail_running(&mut self, detail: &str, reports: &mut Vec<Report>) {
        let Some(mut running) = self.running.take() else { return };
        let rest = running.batch.end() - running.next;
        let bytes_max = (DETAILS_BYTES_MAX / rest.max(1) as usize).max(DETAIL_BYTES_MIN);
        let detail = &detail[..detail.floor_char_boundary(bytes_max)];
        reports.push(running.ended(rest, |_| Cause::WorkerUnavailable { detail: detail.to_owned() }));
        self.over.push(running.batch.dispatch.batch);
    }

    /// A batch is not wanted any more. Says whether it is the one that runs: then its worker is to be stopped.
    pub fn drop_batch(&mut self, batch: BatchId) -> bool {
        self.waiting.retain(|waiting| waiting.dispatch.batch != batch);
        self.over.push(batch);
        self.running.take_if(|running| running.batch.dispatch.batch == batch).is_some()
    }

    /// The outcomes of a batch are wanted from that task on only; those before it are not to be run, and not reported. Says
    /// whether its worker, which is at one of them, is to be stopped.
    pub fn skip(&mut self, batch: BatchId, from: u32) -> bool {
        if let Some(running) = self.running.as_mut().filter(|running| running.batch.dispatch.batch == batch) {
            if running.next >= from {
                return false;
            }
            running.next = from.min(running.batch.end());
            running.leave_worker();
            return true;
        }
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.dispatch.batch == batch) {
            let (first, end) = (waiting.dispatch.first, waiting.end());
            let from = from.clamp(first, end);
            waiting.dispatch.arguments = waiting.dispatch.arguments.slice((from - first) as usize, (end - from) as usize);
            waiting.dispatch.first = from;
            if from == end {
                self.drop_batch(batch);
            }
        }
        false
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
        let end = self.batch.end();
        Some(self.batch.stopped.first_gap(index, end).unwrap_or(end)).filter(|end| *end > index)
    }

    /// The first stopped task from `next` on, or the end of the batch.
    fn next_stop(&self) -> u32 {
        let end = self.batch.end();
        self.batch.stopped.within(self.next, end).next().map_or(end, |(first, _)| first)
    }

    /// No worker has the piece any more.
    fn leave_worker(&mut self) {
        self.piece_end = self.next;
        self.at = None;
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

impl<T: PartialEq> Recent<T> {
    fn push(&mut self, item: T) {
        if self.0.len() == REMEMBERED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(item);
    }

    fn contains(&self, item: &T) -> bool {
        self.0.contains(item)
    }

    /// Takes out those that `wanted` says.
    fn take(&mut self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(wanted);
        self.0 = left;
        Vec::from(taken)
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

#[cfg(test)]
mod tests;
