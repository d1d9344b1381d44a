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
    async_result::AsyncResult,
    job::{Job, WaitFor},
    received::Received,
    task_value::TaskValue,
    wait::block_on,
};
use crate::error::{Error, Result};
use crate::task::{MessageId, Ranges};

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
    /// The parts of which some tasks have not been given.
    open: Vec<usize>,
    /// Tasks of a run that has come, not yet given: part, first, end.
    current: Option<(usize, u32, u32)>,
    failed: bool,
}

struct Given {
    before: usize,
    given: Ranges,
}

impl<R: DeserializeOwned + 'static, S> InOrder<R, S> {
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
            let (place, index) = self.next;
            let Some((job, _, end)) = self.result.range(place) else { return Poll::Ready(None) };
            if index == end {
                let first = self.result.range(place + 1).map_or(0, |(_, first, _)| first);
                self.next = (place + 1, first);
                continue;
            }
            let Poll::Ready(read) = poll_task(job, index, waker) else { return Poll::Pending };
            self.next.1 += 1;
            self.failed = matches!(read, Err(ref error) if error.task().is_none());
            self.result.read_one(place, index);
            return Poll::Ready(Some(read));
        }
    }
}

impl<R: DeserializeOwned + 'static, S> AsCompleted<R, S> {
    pub(super) fn new(mut result: AsyncResult<R, S>) -> Self {
        result.begin_wait();
        let mut before = 0;
        let mut parts = Vec::new();
        for (_, first, end) in result.ranges() {
            parts.push(Given { before, given: Ranges::default() });
            before += (end - first) as usize;
        }
        let open = (0..parts.len()).collect();
        Self { result, parts, open, current: None, failed: false }
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
        let Some((job, first, _)) = self.result.range(place) else { return Poll::Ready(None) };
        let position = self.parts[place].before + (index - first) as usize;
        let Poll::Ready(read) = poll_task(job, index, waker) else { return Poll::Pending };
        self.result.read_one(place, index);
        Poll::Ready(Some((position, read)))
    }

    /// A run of tasks that has come and has not been given.
    fn poll_run(&mut self, waker: &Waker) -> Poll<Result<Option<(usize, u32, u32)>>> {
        // A part all of whose tasks have been given is not looked at again.
        self.open.retain(|place| {
            let range = self.result.range(*place);
            range.is_some_and(|(_, first, end)| !self.parts[*place].given.contains(first, end))
        });
        for place in &self.open {
            let Some((job, first, end)) = self.result.range(*place) else { continue };
            let given = &self.parts[*place].given;
            let fresh =
                |received: &Received| given.gaps(first, end).into_iter().find_map(|(from, to)| received.any_within(from, to));
            match job.poll(WaitFor::Any, waker, fresh) {
                Poll::Ready(Ok((from, to))) => {
                    self.parts[*place].given.cover(from, to);
                    return Poll::Ready(Ok(Some((*place, from, to))));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if self.open.is_empty() { Poll::Ready(Ok(None)) } else { Poll::Pending }
    }
}

/// The result of one task, once it is there.
fn poll_task<R: DeserializeOwned + 'static>(job: &Arc<Job>, index: u32, waker: &Waker) -> Poll<Result<R>> {
    let found = job.poll(WaitFor::Task(index), waker, |received| TaskValue::find(received, index));
    found.map(|found| found?.decode(MessageId { job: job.id, index })?.map_err(Error::from))
}

impl<R: DeserializeOwned + 'static, S> Iterator for InOrder<R, S> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        block_on(poll_fn(|context| self.poll_one(context.waker())))
    }
}

impl<R: DeserializeOwned + 'static, S> Stream for InOrder<R, S> {
    type Item = Result<R>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<R>>> {
        self.get_mut().poll_one(context.waker())
    }
}

impl<R: DeserializeOwned + 'static, S> Iterator for AsCompleted<R, S> {
    type Item = (usize, Result<R>);

    fn next(&mut self) -> Option<(usize, Result<R>)> {
        block_on(poll_fn(|context| self.poll_one(context.waker())))
    }
}

impl<R: DeserializeOwned + 'static, S> Stream for AsCompleted<R, S> {
    type Item = (usize, Result<R>);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<(usize, Result<R>)>> {
        self.get_mut().poll_one(context.waker())
    }
}
