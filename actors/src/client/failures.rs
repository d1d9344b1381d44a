//! Tasks that fail, seen from a result: whether, which first, and waits that end there.

use std::{
    future::poll_fn,
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    async_result::{AsyncResult, AtFailure},
    job::WaitFor,
    task_value::TaskValue,
    until,
    wait::block_until,
};
use crate::error::{Error, Result};
use crate::task::{MessageId, TaskError};

impl<R, S> AsyncResult<R, S> {
    /// Whether all tasks have a value; `None` while some have not ended.
    pub fn successful(&self) -> Option<bool> {
        self.ready().then(|| self.progress().failed == 0)
    }

    /// From now on whatever waits for all tasks (`wait`, `get`, `results`, `.await`) ends as soon as one has failed, with that
    /// task's error; those that have not ended are aborted then.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let parse = |text: String| text.parse::<f64>();
    /// let numbers = client.load_balanced_view().try_map(parse, ["1.5", "x"].map(String::from)).fail_fast();
    /// if let Err(Error::Task { error, .. }) = numbers.get() {
    ///     eprintln!("{error}");
    /// }
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn fail_fast(self) -> Self {
        self.at_failure(AtFailure::End)
    }

    /// Blocks until a task has failed, and gives the error of one that has: `None` when all have ended with values. The other
    /// tasks go on. A timeout of `None` waits as long as it takes.
    ///
    /// # Errors
    /// [`Error::Timeout`] when neither has happened by then; any other error when the results will never come.
    pub fn first_error(&mut self, timeout: Option<Duration>) -> Result<Option<TaskError>> {
        self.begin_wait();
        let waited = block_until(poll_fn(|context| self.poll_first_error(context.waker())), until(timeout));
        waited.unwrap_or_else(|| Err(Error::Timeout(timeout.unwrap_or_default())))
    }

    /// As [`first_error`](Self::first_error), to be awaited.
    ///
    /// # Errors
    /// When the results will never come.
    ///
    /// # Cancel safety
    /// The future may be dropped at any time; nothing is lost.
    pub async fn first_error_async(&mut self) -> Result<Option<TaskError>> {
        self.begin_wait();
        poll_fn(|context| self.poll_first_error(context.waker())).await
    }

    /// Ready when all tasks have values, or one has failed: then the others are aborted.
    pub(super) fn poll_well(&self, waker: &Waker) -> Poll<Result<()>> {
        self.poll_first_error(waker).map(|found| match found? {
            None => Ok(()),
            Some(error) => {
                // What has ended stays as it is. Nobody waits for the answers.
                self.parts.iter().for_each(|part| drop(self.send_abort(part)));
                Err(Error::Task { error: Box::new(error), others: 0, total: self.len() })
            }
        })
    }

    fn poll_first_error(&self, waker: &Waker) -> Poll<Result<Option<TaskError>>> {
        let mut all_ended = true;
        for part in &self.parts {
            let (first, end) = (part.first, part.end);
            if let (true, Some(error)) = (first == end, part.job.failure()) {
                return Poll::Ready(Err(error));
            }
            let ended = part.job.poll(WaitFor::Any, waker, |received| match received.first_failed(first, end) {
                Some(index) => TaskValue::find(received, index).map(|value| Some((index, value))),
                None => received.first_missing(first, end).is_none().then_some(None),
            });
            match ended {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some((index, value)))) => {
                    return Poll::Ready(Ok(value.error(MessageId { job: part.job.id, index })));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => all_ended = false,
            }
        }
        if all_ended { Poll::Ready(Ok(None)) } else { Poll::Pending }
    }
}
