//! Maps over inputs of any length, in bounded memory.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::Stream;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Client,
    actor::{AbortTasks, AddJob, Flush, Forget},
    async_result::{notify, read_task},
    job::{Job, Notify},
    wait::block_on,
};
use crate::code::encode;
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
    client: Client,
    job: Arc<Job>,
    next: u32,
    /// Read and not yet released, so that one lock serves many results.
    unreleased: u32,
    ended: bool,
    _result: PhantomData<fn() -> R>,
}

/// How many results are taken before their places are given back, at most.
const RELEASE_EVERY: u32 = 256;

impl<R> LazyMap<R> {
    pub(super) fn start<A, I>(client: Client, job: Job, inputs: I, outstanding_max: u64) -> Self
    where
        A: Serialize,
        I: Iterator<Item = A> + Send + 'static,
    {
        let job = Arc::new(job);
        if job.failure().is_none() {
            notify(&client, &job, job.begin_wait());
            client.inner.actor.do_send(AddJob(job.clone()));
            let (fed, actor) = (job.clone(), client.inner.actor.clone());
            let feeder = std::thread::Builder::new().name("engineroom-feed".into());
            let spawned = feeder.spawn(move || {
                let tell = |change: Notify| {
                    if change == Notify::Actor {
                        actor.do_send(Flush(fed.number));
                    }
                };
                for input in inputs {
                    if !fed.wait_for_room(outstanding_max) {
                        return;
                    }
                    match fed.push(|out| encode(&input, out).map_err(|error| error.to_string())) {
                        Ok((_, change)) => tell(change),
                        Err(error) => return fed.fail(error),
                    }
                }
                tell(fed.close());
            });
            if let Err(error) = spawned {
                job.fail(Error::Start(format!("no thread could be started: {error}")));
            }
        }
        Self { client, job, next: 0, unreleased: 0, ended: false, _result: PhantomData }
    }

    /// The job that the tasks belong to; the n-th input is its task n.
    pub fn job_id(&self) -> JobId {
        self.job.id
    }

    fn release(&mut self) {
        let first = self.next - self.unreleased;
        self.unreleased = 0;
        if first < self.next {
            notify(&self.client, &self.job, self.job.read(first, self.next));
            notify(&self.client, &self.job, self.job.release(first, self.next));
        }
    }
}

impl<R: DeserializeOwned> LazyMap<R> {
    fn poll_one(&mut self, waker: &Waker) -> Poll<Option<Result<R>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let (id, index) = (MessageId { job: self.job.id, index: self.next }, self.next);
        let read = |received: &super::received::Received| received.find(index).map(|(run, offset)| read_task(id, run, offset));
        let read = match self.job.poll(waker, read) {
            Poll::Ready(Ok(read)) => read,
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => {
                // The end of the inputs, too, wakes: the last results come after it, or it is found here.
                if self.job.length() == (index, true) {
                    self.ended = true;
                    self.release();
                    return Poll::Ready(None);
                }
                self.release();
                return Poll::Pending;
            }
        };
        match read {
            Ok(value) => {
                self.next += 1;
                self.unreleased += 1;
                if self.unreleased == RELEASE_EVERY {
                    self.release();
                }
                Poll::Ready(Some(value.map_err(Error::from)))
            }
            Err(error) => {
                self.ended = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl<R: DeserializeOwned> Iterator for LazyMap<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        block_on(poll_fn(|context| self.poll_one(context.waker())))
    }
}

impl<R: DeserializeOwned> Stream for LazyMap<R> {
    type Item = Result<R>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<R>>> {
        self.get_mut().poll_one(context.waker())
    }
}

impl<R> Drop for LazyMap<R> {
    fn drop(&mut self) {
        let (number, job) = (self.job.number, self.job.id);
        let (length, closed) = self.job.length();
        self.release();
        if !(self.ended && closed && self.next == length) {
            self.job.fail(Error::Closed);
            let (answer, _) = tokio::sync::oneshot::channel();
            self.client.inner.actor.do_send(AbortTasks { number, job, first: 0, count: u32::MAX, answer });
            // Ends the job at the controller, which otherwise expects more tasks.
            notify(&self.client, &self.job, self.job.close());
        }
        self.client.inner.actor.do_send(Forget(number));
    }
}

impl<R> fmt::Debug for LazyMap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LazyMap({} results taken)", self.next)
    }
}
