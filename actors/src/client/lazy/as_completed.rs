//! The results of a lazy map, as its tasks end.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures_util::Stream;
use serde::de::DeserializeOwned;

use super::outstanding::Outstanding;
use crate::client::{job::WaitFor, task_value::TaskValue, wait::block_on};
use crate::error::{Error, Result};
use crate::task::MessageId;

/// The results of a lazy map as the tasks end, each with the number of its input: an iterator that blocks, and a stream that does
/// not. See [`LazyMap::as_completed`](super::LazyMap::as_completed).
#[must_use = "inputs are drawn only as results are taken"]
pub struct LazyAsCompleted<R> {
    tasks: Outstanding,
    /// Results that have come and are to be given.
    current: Range<u32>,
    _result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned + 'static> LazyAsCompleted<R> {
    pub(super) fn new(tasks: Outstanding) -> Self {
        Self { tasks, current: 0..0, _result: PhantomData }
    }

    fn poll_one(&mut self, waker: &Waker) -> Poll<Option<(u32, Result<R>)>> {
        if self.tasks.ended {
            return Poll::Ready(None);
        }
        if self.current.is_empty() {
            match self.poll_run(waker) {
                Poll::Ready(Some(Ok((first, end)))) => self.current = first..end,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some((self.tasks.job.length().0, Err(error)))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Some(index) = self.current.next() else { return Poll::Ready(None) };
        let found = self.tasks.job.inspect(|received| TaskValue::find(received, index)).ok_or(Error::Closed);
        let read = found.and_then(|found| found.decode(MessageId { job: self.tasks.job.id, index }));
        self.tasks.ended = read.is_err();
        self.tasks.took(index);
        Poll::Ready(Some((index, read.and_then(|value| value.map_err(Error::from)))))
    }

    /// Results that have come and have not been given.
    fn poll_run(&mut self, waker: &Waker) -> Poll<Option<Result<(u32, u32)>>> {
        self.tasks.release();
        let tasks = &self.tasks;
        match tasks.job.poll(WaitFor::Any, waker, |received| {
            let (first, end) = received.first_held()?;
            tasks.first_open(first, end)
        }) {
            Poll::Ready(run) => {
                self.tasks.set_waits(false);
                self.tasks.ended = run.is_err();
                Poll::Ready(Some(run))
            }
            // The end of the inputs wakes those who wait, so that it is found here.
            Poll::Pending if self.tasks.is_complete() => {
                self.tasks.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                self.tasks.set_waits(true);
                Poll::Pending
            }
        }
    }
}

impl<R: DeserializeOwned + 'static> Iterator for LazyAsCompleted<R> {
    type Item = (u32, Result<R>);

    fn next(&mut self) -> Option<(u32, Result<R>)> {
        block_on(poll_fn(|context| self.poll_one(context.waker())))
    }
}

impl<R: DeserializeOwned + 'static> Stream for LazyAsCompleted<R> {
    type Item = (u32, Result<R>);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<(u32, Result<R>)>> {
        self.get_mut().poll_one(context.waker())
    }
}

impl<R> fmt::Debug for LazyAsCompleted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LazyAsCompleted({} results taken)", self.tasks.count())
    }
}
