//! Maps over inputs of any length, in bounded memory.

mod as_completed;
mod feeder;
mod outstanding;

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures_util::Stream;
use serde::{Serialize, de::DeserializeOwned};

pub use self::as_completed::LazyAsCompleted;
use self::outstanding::Outstanding;
use super::{
    Client,
    job::{Job, WaitFor},
    task_value::TaskValue,
    wait::block_on,
};
use crate::error::{Error, Result};
use crate::task::{JobId, MessageId};

/// How many tasks of a lazy map are outstanding, from when the input is drawn until the program has the result.
pub(super) const OUTSTANDING_MAX: u64 = 262_144;

/// The results of a lazy map, in the order of the inputs: an iterator that blocks, and a stream that does not.
///
/// Inputs are drawn, by a thread of their own, only as far ahead of the results that the program takes as the map's bound
/// allows, so that neither client nor controller grows with the number of inputs, and the inputs may be endless. Dropping it
/// aborts what has not run.
///
/// A task that failed is an error of its own; the results after it still come.
#[must_use = "inputs are drawn only as results are taken"]
pub struct LazyMap<R> {
    tasks: Outstanding,
    next: u32,
    _result: PhantomData<fn() -> R>,
}

impl<R> LazyMap<R> {
    pub(super) fn start<A, I>(client: Client, job: Job, inputs: I, outstanding_max: u64) -> Self
    where
        A: Serialize,
        I: Iterator<Item = A> + Send + 'static,
    {
        let tasks = Outstanding::start(client, job, inputs, outstanding_max);
        Self { tasks, next: 0, _result: PhantomData }
    }

    /// The job that the tasks belong to; the n-th input is its task n.
    pub fn job_id(&self) -> JobId {
        self.tasks.job.id
    }
}

impl<R: DeserializeOwned + 'static> LazyMap<R> {
    /// The results as the tasks end, instead of in the order of the inputs, each with the number of its input. What has been
    /// taken before does not come again.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let view = client.load_balanced_view().max_outstanding(1000);
    /// for (number, square) in view.map_lazy(|x: u64| x * x, 1..).as_completed().take(5000) {
    ///     println!("{number}: {}", square?);
    /// }
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn as_completed(self) -> LazyAsCompleted<R> {
        LazyAsCompleted::new(self.tasks)
    }

    fn poll_one(&mut self, waker: &Waker) -> Poll<Option<Result<R>>> {
        if self.tasks.ended {
            return Poll::Ready(None);
        }
        let index = self.next;
        let found = self.tasks.job.poll(WaitFor::Task(index), waker, |received| TaskValue::find(received, index));
        let read = match found {
            Poll::Ready(found) => found.and_then(|found| found.decode(MessageId { job: self.tasks.job.id, index })),
            Poll::Pending => {
                self.tasks.release();
                // The end of the inputs wakes those who wait, so that it is found here.
                if !self.tasks.is_complete() {
                    self.tasks.set_waits(true);
                    return Poll::Pending;
                }
                self.tasks.ended = true;
                return Poll::Ready(None);
            }
        };
        self.tasks.set_waits(false);
        match read {
            Ok(value) => {
                self.next += 1;
                self.tasks.took(index);
                Poll::Ready(Some(value.map_err(Error::from)))
            }
            Err(error) => {
                self.tasks.ended = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl<R: DeserializeOwned + 'static> Iterator for LazyMap<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        block_on(poll_fn(|context| self.poll_one(context.waker())))
    }
}

impl<R: DeserializeOwned + 'static> Stream for LazyMap<R> {
    type Item = Result<R>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<R>>> {
        self.get_mut().poll_one(context.waker())
    }
}

impl<R> fmt::Debug for LazyMap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LazyMap({} results taken)", self.next)
    }
}
