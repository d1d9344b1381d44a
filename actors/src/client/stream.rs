//! Results one by one, as they come.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::Stream;
use serde::de::DeserializeOwned;

use super::{
    async_result::{AsyncResult, read_task},
    job::Job,
    wait::block_on,
};
use crate::error::{Error, Result};
use crate::task::MessageId;

/// Results in the order of the inputs; see [`AsyncResult::iter`].
pub struct InOrder<R, S> {
    result: AsyncResult<R, S>,
    /// The part and the index in it of the next task.
    next: (usize, u32),
    failed: bool,
}

/// Results as tasks end; see [`AsyncResult::as_completed`].
pub struct AsCompleted<R, S> {
    result: AsyncResult<R, S>,
    /// For each part: how many tasks before it, and which of its tasks have been given.
    parts: Vec<Given>,
    /// Tasks of a run that has come, not yet given: part, first, end.
    current: Option<(usize, u32, u32)>,
    failed: bool,
}

struct Given {
    before: usize,
    /// Disjoint, sorted, merged: first and end.
    ranges: Vec<(u32, u32)>,
}

impl<R: DeserializeOwned, S> InOrder<R, S> {
    pub(super) fn new(mut result: AsyncResult<R, S>) -> Self {
        result.begin_wait();
        let first = result.ranges().next().map_or(0, |(_, first, _)| first);
        Self { result, next: (0, first), failed: false }
    }

    fn poll_one(&mut self, waker: &Waker) -> Poll<Option<Result<R>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        loop {
            let part = self.result.ranges().nth(self.next.0).map(|(job, first, end)| (job.clone(), first, end));
            let Some((job, _, end)) = part else { return Poll::Ready(None) };
            if self.next.1 == end {
                let place = self.next.0 + 1;
                let first = self.result.ranges().nth(place).map_or(0, |(_, first, _)| first);
                self.next = (place, first);
                continue;
            }
            let index = self.next.1;
            let read = poll_task(&job, index, waker);
            let Poll::Ready(read) = read else { return Poll::Pending };
            self.next.1 += 1;
            self.failed = matches!(read, Err(ref error) if error.task().is_none());
            self.result.read_one(&job, index, index + 1);
            return Poll::Ready(Some(read));
        }
    }
}

impl<R: DeserializeOwned, S> AsCompleted<R, S> {
    pub(super) fn new(mut result: AsyncResult<R, S>) -> Self {
        result.begin_wait();
        let mut before = 0;
        let mut parts = Vec::new();
        for (_, first, end) in result.ranges() {
            parts.push(Given { before, ranges: Vec::new() });
            before += (end - first) as usize;
        }
        Self { result, parts, current: None, failed: false }
    }

    fn poll_one(&mut self, waker: &Waker) -> Poll<Option<(usize, Result<R>)>> {
        if self.failed {
            return Poll::Ready(None);
        }
        if self.current.is_none() {
            match self.poll_run(waker) {
                Poll::Ready(Ok(Some(current))) => self.current = Some(current),
                Poll::Ready(Ok(None)) => return Poll::Ready(None),
                Poll::Ready(Err(error)) => {
                    self.failed = true;
                    return Poll::Ready(Some((0, Err(error))));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        let Some((place, index, end)) = self.current else { return Poll::Ready(None) };
        self.current = (index + 1 < end).then_some((place, index + 1, end));
        let part = self.result.ranges().nth(place).map(|(job, first, _)| (job.clone(), first));
        let Some((job, first)) = part else { return Poll::Ready(None) };
        let position = self.parts[place].before + (index - first) as usize;
        let Poll::Ready(read) = poll_task(&job, index, waker) else { return Poll::Pending };
        self.result.read_one(&job, index, index + 1);
        Poll::Ready(Some((position, read)))
    }

    /// A run of tasks that has come and has not been given.
    fn poll_run(&mut self, waker: &Waker) -> Poll<Result<Option<(usize, u32, u32)>>> {
        let mut open = false;
        let ranges: Vec<(Arc<Job>, u32, u32)> = self.result.ranges().map(|(job, first, end)| (job.clone(), first, end)).collect();
        for (place, (job, first, end)) in ranges.into_iter().enumerate() {
            for (from, to) in self.parts[place].gaps(first, end) {
                open = true;
                match job.poll(waker, |received| received.any_within(from, to)) {
                    Poll::Ready(Ok((from, to))) => {
                        self.parts[place].give(from, to);
                        return Poll::Ready(Ok(Some((place, from, to))));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
        }
        if open { Poll::Pending } else { Poll::Ready(Ok(None)) }
    }
}

impl Given {
    /// What of `first..end` has not been given.
    fn gaps(&self, first: u32, end: u32) -> Vec<(u32, u32)> {
        let mut gaps = Vec::new();
        let mut next = first;
        for (from, to) in &self.ranges {
            if next < *from {
                gaps.push((next, *from));
            }
            next = *to;
        }
        if next < end {
            gaps.push((next, end));
        }
        gaps
    }

    fn give(&mut self, first: u32, end: u32) {
        let at = self.ranges.partition_point(|(from, _)| *from < first);
        self.ranges.insert(at, (first, end));
        self.ranges.dedup_by(|next, last| {
            let touch = last.1 == next.0;
            last.1 = if touch { next.1 } else { last.1 };
            touch
        });
    }
}

/// The result of one task, once it is there.
fn poll_task<R: DeserializeOwned>(job: &Arc<Job>, index: u32, waker: &Waker) -> Poll<Result<R>> {
    let id = MessageId { job: job.id, index };
    let read = job.poll(waker, |received| received.find(index).map(|(run, offset)| read_task(id, run, offset)));
    read.map(|read| read?.map(|value| value.map_err(Error::from))?)
}

impl<R: DeserializeOwned, S> Iterator for InOrder<R, S> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        block_on(poll_fn(|context| self.poll_one(context.waker())))
    }
}

impl<R: DeserializeOwned, S> Stream for InOrder<R, S> {
    type Item = Result<R>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<R>>> {
        self.get_mut().poll_one(context.waker())
    }
}

impl<R: DeserializeOwned, S> Iterator for AsCompleted<R, S> {
    type Item = (usize, Result<R>);

    fn next(&mut self) -> Option<(usize, Result<R>)> {
        block_on(poll_fn(|context| self.poll_one(context.waker())))
    }
}

impl<R: DeserializeOwned, S> Stream for AsCompleted<R, S> {
    type Item = (usize, Result<R>);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<(usize, Result<R>)>> {
        self.get_mut().poll_one(context.waker())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_not_given_again() {
        let mut given = Given { before: 0, ranges: Vec::new() };
        for (first, end) in [(4, 6), (0, 2), (2, 4), (8, 9)] {
            given.give(first, end);
        }
        assert_eq!(given.ranges, [(0, 6), (8, 9)]);
        assert_eq!(given.gaps(0, 12), [(6, 8), (9, 12)]);
        assert_eq!(given.gaps(0, 9), [(6, 8)]);
    }
}
