//! Which of a worker's tasks shall not run any more. Shared between the engine and a worker thread.

use std::{
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::Run;
use crate::task::BatchId;

/// How many batches a worker has at a time, the running one included. An engine has one running and one waiting; the rest
/// is slack. One more is refused.
pub(super) const RUNS_MAX: usize = 8;

/// How many separate ranges of one batch can be cancelled. Ranges that touch count as one. One more is refused, and the
/// tasks in it run.
const CANCELLED_RANGES_MAX: usize = 1024;

/// The batches that a worker has, and what of them is cancelled.
#[derive(Debug, Default)]
pub(super) struct Control {
    batches: Mutex<Vec<Batch>>,
    // Whether anything at all is cancelled or takes too long, so that tasks need not take the lock in the usual case that nothing is.
    any_unwanted: AtomicBool,
}

/// A worker has as many batches as it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Why a task has no value although it came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was told that it is cancelled, and may have given up.
    Cancelled,
    /// It took longer than that.
    Overrun(Duration),
}

#[derive(Debug)]
struct Batch {
    id: BatchId,
    tasks: Range<u64>,
    cancelled: Vec<Range<u64>>,
    /// The last task that was told that it is not wanted any more.
    told: Option<u32>,
    /// The last task that has run for longer than it may, and how long that is.
    overrun: Option<(u32, Duration)>,
}

impl Control {
    /// Notes that the worker gets a batch.
    ///
    /// # Errors
    /// When it has [`RUNS_MAX`] already.
    pub(super) fn begin(&self, run: &Run) -> Result<(), Full> {
        let mut batches = self.lock();
        if batches.len() >= RUNS_MAX {
            return Err(Full);
        }
        let first = u64::from(run.first);
        batches.push(Batch {
            id: run.batch,
            tasks: first..first + run.arguments.len() as u64,
            cancelled: Vec::new(),
            told: None,
            overrun: None,
        });
        Ok(())
    }

    /// Notes that the worker is done with a batch. Of several pieces of one, with the first of them: the engine may have given
    /// the next as soon as it had the last outcome.
    pub(super) fn end(&self, batch: BatchId) {
        let mut batches = self.lock();
        if let Some(at) = batches.iter().position(|b| b.id == batch) {
            batches.remove(at);
        }
        self.any_unwanted.store(batches.iter().any(|b| !b.cancelled.is_empty() || b.overrun.is_some()), Ordering::Release);
    }

    /// Cancels tasks. Whether those that have not begun will be skipped.
    pub(super) fn cancel(&self, batch: BatchId, first: u32, count: u32) -> bool {
        let mut batches = self.lock();
        let first = u64::from(first);
        let range = first..first + u64::from(count);
        let pieces = batches.iter_mut().filter(|b| b.id == batch);
        let done = pieces.map(|piece| piece.cancel(range.clone())).fold(false, |done, cancelled| done | cancelled);
        self.any_unwanted.fetch_or(done, Ordering::Release);
        done
    }

    /// Cancels all tasks of all batches that the worker has.
    pub(super) fn cancel_all(&self) {
        let mut batches = self.lock();
        batches.iter_mut().for_each(|batch| batch.cancelled = vec![batch.tasks.clone()]);
        self.any_unwanted.store(!batches.is_empty(), Ordering::Release);
    }

    /// Whether a task is cancelled.
    pub(super) fn is_cancelled(&self, batch: BatchId, index: u32) -> bool {
        self.any_unwanted.load(Ordering::Acquire) && self.lock().iter().any(|b| b.id == batch && b.is_cancelled(index))
    }

    /// A task has run for longer than it may.
    pub(super) fn overrun(&self, batch: BatchId, index: u32, limit: Duration) {
        let mut batches = self.lock();
        let piece = batches.iter_mut().find(|b| b.id == batch && b.tasks.contains(&u64::from(index)));
        if let Some(piece) = piece {
            piece.overrun = Some((index, limit));
            self.any_unwanted.store(true, Ordering::Release);
        }
    }

    /// Whether a running task is not wanted any more, for the task itself, which will act on it.
    pub(super) fn tell(&self, batch: BatchId, index: u32) -> bool {
        self.any_unwanted.load(Ordering::Acquire)
            && self.lock().iter_mut().filter(|b| b.id == batch).any(|b| {
                let unwanted = b.is_cancelled(index) || b.has_overrun(index).is_some();
                if unwanted {
                    b.told = Some(index);
                }
                unwanted
            })
    }

    /// Why a task that has just ended has no value, whatever it returned: it has taken too long, or was told that it is cancelled.
    pub(super) fn verdict(&self, batch: BatchId, index: u32) -> Option<Verdict> {
        if !self.any_unwanted.load(Ordering::Acquire) {
            return None;
        }
        self.lock().iter().filter(|b| b.id == batch).find_map(|b| match b.has_overrun(index) {
            Some(limit) => Some(Verdict::Overrun(limit)),
            None => (b.told == Some(index)).then_some(Verdict::Cancelled),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Batch>> {
        // Nothing under the lock panics half way through a change.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn is_cancelled(&self, index: u32) -> bool {
        self.cancelled.iter().any(|range| range.contains(&u64::from(index)))
    }

    fn has_overrun(&self, index: u32) -> Option<Duration> {
        self.overrun.filter(|(overrun, _)| *overrun == index).map(|(_, limit)| limit)
    }

    fn cancel(&mut self, range: Range<u64>) -> bool {
        let mut range = range.start.max(self.tasks.start)..range.end.min(self.tasks.end);
        if range.is_empty() {
            return false;
        }
        self.cancelled.retain(|other| {
            let touches = other.start <= range.end && range.start <= other.end;
            if touches {
                range = range.start.min(other.start)..range.end.max(other.end);
            }
            !touches
        });
        let room = self.cancelled.len() < CANCELLED_RANGES_MAX;
        if room {
            self.cancelled.push(range);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::worker::testing::idle;

    fn cancelled(control: &Control, batch: u64) -> Vec<u32> {
        (0..20).chain([u32::MAX]).filter(|index| control.is_cancelled(BatchId(batch), *index)).collect()
    }

    #[test]
    fn only_what_the_worker_has_is_cancelled() {
        let control = Control::default();
        control.begin(&idle(1, 10, 5)).unwrap();
        control.begin(&idle(2, u32::MAX - 4, 5)).unwrap();
        assert!(control.cancel(BatchId(1), 0, 12));
        assert!(control.cancel(BatchId(1), 13, 1));
        assert!(control.cancel(BatchId(2), u32::MAX, u32::MAX));
        assert!(!control.cancel(BatchId(1), 15, 9) && !control.cancel(BatchId(1), 12, 0) && !control.cancel(BatchId(3), 0, 99));
        assert_eq!(cancelled(&control, 1), [10, 11, 13]);
        assert_eq!(cancelled(&control, 2), [u32::MAX]);
        control.end(BatchId(1));
        assert_eq!((cancelled(&control, 1), cancelled(&control, 2)), (vec![], vec![u32::MAX]));
        assert!(!control.cancel(BatchId(1), 10, 1));
    }

    #[test]
    fn the_end_of_a_piece_leaves_the_next_one_of_its_batch() {
        let control = Control::default();
        control.begin(&idle(1, 0, 5)).unwrap();
        control.begin(&idle(1, 5, 5)).unwrap();
        assert!(control.cancel(BatchId(1), 7, 1));
        control.end(BatchId(1));
        assert!(control.cancel(BatchId(1), 9, 1));
        assert_eq!(cancelled(&control, 1), [7, 9]);
        control.end(BatchId(1));
        assert!(!control.cancel(BatchId(1), 9, 1));
    }

    #[test]
    fn who_was_told_is_known() {
        let control = Control::default();
        control.begin(&idle(1, 0, 5)).unwrap();
        assert!(!control.tell(BatchId(1), 2));
        control.cancel(BatchId(1), 2, 2);
        let verdict = |index| control.verdict(BatchId(1), index);
        assert_eq!(verdict(2), None, "it has not asked since");
        assert!(control.tell(BatchId(1), 2) && !control.tell(BatchId(1), 4));
        assert_eq!((verdict(2), verdict(3)), (Some(Verdict::Cancelled), None));
        assert!(control.tell(BatchId(1), 3) && verdict(3) == Some(Verdict::Cancelled));
    }

    #[test]
    fn a_task_that_has_overrun_is_told_and_judged_in_any_case() {
        let control = Control::default();
        control.begin(&idle(1, 0, 5)).unwrap();
        let limit = Duration::from_secs(1);
        control.overrun(BatchId(1), 9, limit);
        control.overrun(BatchId(2), 1, limit);
        assert!((0..9).all(|index| !control.tell(BatchId(1), index)));
        control.overrun(BatchId(1), 1, limit);
        assert!(control.tell(BatchId(1), 1) && !control.tell(BatchId(1), 2) && !control.is_cancelled(BatchId(1), 1));
        assert_eq!(control.verdict(BatchId(1), 1), Some(Verdict::Overrun(limit)));
        control.end(BatchId(1));
        assert_eq!(control.verdict(BatchId(1), 1), None);
    }

    #[test]
    fn everything_can_be_cancelled_but_not_what_comes_later() {
        let control = Control::default();
        control.cancel_all();
        control.begin(&idle(1, 2, 2)).unwrap();
        assert!(cancelled(&control, 1).is_empty());
        control.cancel_all();
        control.begin(&idle(2, 0, 9)).unwrap();
        assert_eq!((cancelled(&control, 1), cancelled(&control, 2)), (vec![2, 3], vec![]));
    }

    #[test]
    fn batches_and_ranges_are_bounded() {
        let control = Control::default();
        (0..RUNS_MAX as u64).for_each(|batch| control.begin(&idle(batch, 0, 3000)).unwrap());
        assert_eq!(control.begin(&idle(99, 0, 1)), Err(Full));
        control.end(BatchId(3));
        assert_eq!(control.begin(&idle(99, 0, 1)), Ok(()));
        let mut taken = (0..1500).filter(|n| control.cancel(BatchId(0), 2 * n, 1));
        assert_eq!(taken.by_ref().count(), CANCELLED_RANGES_MAX);
        // What touches others makes one of them, and is always taken.
        assert!(control.cancel(BatchId(0), 0, 2000));
        assert!(control.is_cancelled(BatchId(0), 1501) && control.cancel(BatchId(0), 2900, 1));
    }
}
