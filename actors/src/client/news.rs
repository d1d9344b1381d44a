//! What running tasks tell the program that waits for them.

use std::{
    any::type_name,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use actix::{Context, Handler};
use engineroom_runtime::actor::Remote;
use serde::de::DeserializeOwned;

use super::{actor::ClientActor, async_result::AsyncResult, job::Job, received::Received};
use crate::code::{DecodeError, decode};
use crate::error::{Error, Result};
use crate::task::{MessageId, News, Piece};
use crate::wire::{PassedNews, RunBody};

/// Of how many running tasks of one job the latest news are kept. More run at once in the largest of clusters only; of those that
/// tell something first they are.
const TASKS_MAX: usize = 4096;

/// How many bytes of what running tasks of one job have written wait for one who [follows](AsyncResult::follow_output) it. The
/// oldest make room.
const WRITTEN_BYTES_MAX: usize = 1 << 20;

/// What a piece counts for beside its text, in bytes.
const PIECE_BYTES: usize = 64;

/// The latest news of running tasks.
#[derive(Debug, Default)]
pub(crate) struct Board {
    latest: BTreeMap<u32, News>,
    /// What they have written, by index, the oldest first.
    written: VecDeque<(u32, Piece)>,
    written_bytes: usize,
}

impl Board {
    /// A task has told something.
    fn post(&mut self, index: u32, mut news: News) {
        for piece in std::mem::take(&mut news.written) {
            self.written_bytes += PIECE_BYTES + piece.text.len();
            self.written.push_back((index, piece));
        }
        while self.written_bytes > WRITTEN_BYTES_MAX
            && let Some((_, piece)) = self.written.pop_front()
        {
            self.written_bytes -= PIECE_BYTES + piece.text.len();
        }
        let says = news.progress.is_some() || news.published.is_some();
        if says && (self.latest.len() < TASKS_MAX || self.latest.contains_key(&index)) {
            self.latest.entry(index).or_default().update(news);
        }
    }

    /// These tasks have ended: what they have left is with their outcomes.
    pub fn ended(&mut self, first: u32, end: u32) {
        while let Some((&index, _)) = self.latest.range(first..end).next() {
            self.latest.remove(&index);
        }
    }

    /// Takes out what these tasks have written.
    fn take_written(&mut self, first: u32, end: u32) -> Vec<(u32, Piece)> {
        let written = std::mem::take(&mut self.written).into_iter();
        let (taken, left): (VecDeque<_>, _) = written.partition(|(index, _)| (first..end).contains(index));
        self.written = left;
        self.written_bytes = self.written.iter().map(|(_, piece)| PIECE_BYTES + piece.text.len()).sum();
        taken.into()
    }
}

/// What is known of one task that may still run.
fn news_of(board: &Board, received: &Received, index: u32) -> News {
    let Some((run, offset)) = received.find(index) else { return board.latest.get(&index).cloned().unwrap_or_default() };
    let published = match &run.body {
        RunBody::Ran(outcomes) => outcomes.output_of(offset).and_then(|output| output.published.clone()),
        RunBody::Ended(_) => None,
    };
    News { progress: Some(1.0), published, written: Vec::new() }
}

impl<R, S> AsyncResult<R, S> {
    /// How much of each task is done, in the order of the inputs: from 0 to 1 as the task has said last by
    /// [`TaskContext::progress`](crate::TaskContext::progress), 1 when it has ended in whatever way, `None` when nothing is known. What
    /// running tasks say comes by itself, at best five times a second, and may be missed; their end is not.
    pub fn task_progress(&self) -> Vec<Option<f64>> {
        let of_range = |(job, first, end): (&Arc<Job>, u32, u32)| {
            job.with_news(|board, received| {
                (first..end).map(|index| news_of(board, received, index).progress).collect::<Vec<_>>()
            })
        };
        self.ranges().flat_map(of_range).collect()
    }

    /// The value that the task of the input in that place has [published](crate::TaskContext::publish) last, as far as that is known
    /// here; `None` if it has not. While the task runs it comes at best five times a second, and may be missed; afterwards it is
    /// kept with the task's outcome.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let mut result = client.load_balanced_view().apply(
    ///     |steps: u64| {
    ///         let task = TaskContext::current().expect("this is a task");
    ///         for step in 0..steps {
    ///             task.progress(step as f64 / steps as f64);
    ///             task.publish(&step).expect("a number is short");
    ///         }
    ///     },
    ///     1_000_000,
    /// );
    /// while !result.wait(Some(std::time::Duration::from_secs(1)))? {
    ///     println!("at step {:?}", result.published::<u64>(0)?);
    /// }
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::WrongType`] when it is not a `T`.
    pub fn published<T: DeserializeOwned>(&self, place: usize) -> Result<Option<T>> {
        let mut before = 0;
        for (job, first, end) in self.ranges() {
            let count = (end - first) as usize;
            if place < before + count {
                // Less than `count`, which is a u32.
                let index = first + (place - before) as u32;
                let published = job.with_news(|board, received| news_of(board, received, index).published);
                let id = MessageId { job: job.id, index };
                let wrong = |error: DecodeError| {
                    let (expected, text) = (type_name::<T>(), error.to_string());
                    Error::WrongType { id, expected, text }
                };
                return published.map(|bytes| decode(&bytes).map_err(wrong)).transpose();
            }
            before += count;
        }
        Ok(None)
    }
}

impl Job {
    /// Takes what these tasks have written while they ran, as far as it has come and was not taken before.
    pub(super) fn take_written(&self, first: u32, end: u32) -> Vec<(u32, Piece)> {
        let mut taken = Vec::new();
        self.with_board(|board, _| taken = board.take_written(first, end));
        taken
    }

    /// A task has told something.
    fn told(&self, index: u32, news: News) {
        self.with_board(|board, received| {
            // What comes late says less than the outcome that is here.
            if received.find(index).is_none() {
                board.post(index, news);
            }
        });
    }
}

impl Handler<Remote<PassedNews>> for ClientActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<PassedNews>, _: &mut Context<Self>) {
        let PassedNews { subscription, index, news, .. } = remote.message;
        if let Some(entry) = self.jobs.get(&subscription).filter(|_| news.is_sound()) {
            entry.job.told(index, news);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::OutputStream;

    fn done(progress: f64) -> News {
        News { progress: Some(progress), ..News::default() }
    }

    #[test]
    fn of_many_tasks_the_first_are_kept_until_they_end() {
        let mut board = Board::default();
        (0..=TASKS_MAX as u32).for_each(|index| board.post(index, done(0.25)));
        board.post(3, done(0.5));
        assert_eq!((board.latest.len(), board.latest.get(&3)), (TASKS_MAX, Some(&done(0.5))));
        board.ended(2, 5);
        assert_eq!(board.latest.len(), TASKS_MAX - 3);
        board.post(TASKS_MAX as u32, done(0.1));
        assert_eq!(board.latest.get(&(TASKS_MAX as u32)), Some(&done(0.1)));
    }

    #[test]
    fn what_is_written_waits_within_bounds_and_the_oldest_goes() {
        let piece = |index: u64| Piece { stream: OutputStream::Stderr, until: index, text: "x".repeat(1000) };
        let mut board = Board::default();
        for index in 0..2000 {
            board.post(index, News { written: vec![piece(u64::from(index))], ..News::default() });
        }
        assert!(board.latest.is_empty() && board.written_bytes <= WRITTEN_BYTES_MAX);
        assert_eq!(board.take_written(1998, 2000), [(1998, piece(1998)), (1999, piece(1999))]);
        assert_eq!(board.take_written(0, 10), [], "they have made room");
        let rest = board.take_written(0, 3000);
        assert_eq!((rest.last().map(|(index, _)| *index), board.written_bytes), (Some(1997), 0));
    }
}
